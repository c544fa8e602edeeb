"""Optimisers against PyTorch step by step; clipping; schedules; exact resumption."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tensorgrad as tg
from tensorgrad import optim

CASES = {
    "sgd": (optim.SGD, "SGD", {"lr": 0.1}),
    "momentum": (optim.SGD, "SGD", {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.01}),
    "nesterov": (optim.SGD, "SGD", {"lr": 0.1, "momentum": 0.9, "nesterov": True}),
    "adagrad": (optim.Adagrad, "Adagrad", {"lr": 0.1}),
    "rmsprop": (optim.RMSprop, "RMSprop", {"lr": 0.01, "alpha": 0.9}),
    "adam": (optim.Adam, "Adam", {"lr": 0.01}),
    "adam decay": (optim.Adam, "Adam", {"lr": 0.01, "weight_decay": 0.1, "betas": (0.8, 0.95)}),
    "adamw": (optim.AdamW, "AdamW", {"lr": 0.01, "weight_decay": 0.1}),
}


def pair(seed=0, dtype=np.float64):
    rng = np.random.default_rng(seed)
    return [tg.tensor(rng.standard_normal(s).astype(dtype), requires_grad=True) for s in ((3, 2), (4,))]


def gradients(parameters, seed):
    rng = np.random.default_rng(seed)
    return [rng.standard_normal(p.shape).astype(p.dtype) for p in parameters]


@pytest.mark.parametrize("name", CASES)
def test_twenty_steps_equal_pytorch(name):
    torch = pytest.importorskip("torch")
    cls, theirs, options = CASES[name]
    mine = pair()
    twins = [torch.tensor(p.numpy().copy(), requires_grad=True) for p in mine]
    ours, other = cls(mine, **options), getattr(torch.optim, theirs)(twins, **options)
    for step in range(20):
        for p, twin, g in zip(mine, twins, gradients(mine, step), strict=True):
            p.grad, twin.grad = g, torch.tensor(g)
        ours.step()
        other.step()
    for p, twin in zip(mine, twins, strict=True):
        np.testing.assert_allclose(p.numpy(), twin.detach().numpy(), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("name", CASES)
def test_saved_and_restored_it_goes_on_bit_for_bit(name):
    cls, _, options = CASES[name]

    def run(break_at):
        parameters = pair(dtype=np.float32)
        optimiser = cls(parameters, **options)
        for step in range(8):
            if step == break_at:
                saved = optimiser.state_dict()
                optimiser = cls(parameters, **{**options, "lr": 1.0})
                optimiser.load_state_dict(saved)
            for p, g in zip(parameters, gradients(parameters, step), strict=True):
                p.grad = g
            optimiser.step()
        return parameters

    for a, b in zip(run(None), run(4), strict=True):
        assert a.dtype == np.float32
        np.testing.assert_array_equal(a.numpy(), b.numpy())


def test_a_state_of_other_parameters_is_refused_and_changes_nothing():
    optimiser = optim.Adam(pair())
    for wrong in (optim.Adam(pair()[:1]).state_dict(), optim.SGD(pair(), 0.1).state_dict()):
        with pytest.raises(tg.ShapeError, match="Adam"):
            optimiser.load_state_dict(wrong)
    assert optimiser.counts == [0, 0]


def test_parameters_without_gradient_stay():
    a, b = pair()
    before = b.numpy().copy()
    a.grad = np.ones((3, 2))
    optim.Adam([a, b]).step()
    np.testing.assert_array_equal(b.numpy(), before)


def test_a_step_leaves_recorded_graphs_right():
    w = tg.tensor([2.0], requires_grad=True)
    loss = (w * w).sum()
    loss.backward()
    optim.SGD([w], lr=0.5).step()
    w.grad = None
    loss.backward()
    np.testing.assert_array_equal(w.grad, [4.0])
    np.testing.assert_array_equal(w.numpy(), [0.0])


@pytest.mark.parametrize("lr", [float("nan"), -1.0, math.inf])
def test_bad_learning_rates_are_refused(lr):
    with pytest.raises(ValueError, match="lr must lie in"):
        optim.SGD(pair(), lr=lr)


def test_other_bad_settings_are_refused():
    with pytest.raises(tg.GraphError, match="no parameters"):
        optim.Adam([])
    with pytest.raises(ValueError, match="nesterov"):
        optim.SGD(pair(), lr=0.1, nesterov=True)
    with pytest.raises(ValueError, match="beta2"):
        optim.Adam(pair(), betas=(0.9, 1.0))


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        (tg.tensor([1.0, 2.0], requires_grad=True), "result of getitem .* cannot be trained"),
        ({"w": tg.tensor([1.0], requires_grad=True)}, "'w' cannot be trained"),
        ([tg.tensor([1.0], requires_grad=True)] * 2, "given twice"),
    ],
    ids=["a tensor", "a dict", "a parameter twice"],
)
def test_what_would_not_be_trained_or_twice_is_refused(parameters, message):
    with pytest.raises(tg.GraphError, match=f"SGD: .*{message}"):
        optim.SGD(parameters, lr=0.1)


@given(scale=st.floats(1e-3, 1e6), max_norm=st.one_of(st.just(0.0), st.floats(1e-3, 1e3)))
def test_clipping_by_norm_reports_the_norm_before(scale, max_norm):
    parameters = pair()
    for p, g in zip(parameters, gradients(parameters, 0), strict=True):
        p.grad = g * scale
    before = [p.grad.copy() for p in parameters]
    norm = optim.clip_grad_norm(parameters, max_norm)
    flat = np.concatenate([g.reshape(-1) for g in before])
    assert math.isclose(norm, float(np.linalg.norm(flat)), rel_tol=1e-12)
    after = np.concatenate([p.grad.reshape(-1) for p in parameters])
    np.testing.assert_allclose(after, flat * min(1.0, max_norm / (norm + 1e-6)), rtol=1e-12)


def test_clipping_survives_float32_overflow_and_shows_nan():
    p = tg.tensor(np.zeros(4, np.float32), requires_grad=True)
    p.grad = np.full(4, 1e30, np.float32)
    assert math.isclose(optim.clip_grad_norm([p], 1.0), 2e30, rel_tol=1e-6)
    np.testing.assert_allclose(p.grad, 0.5, rtol=1e-6)
    assert p.grad.dtype == np.float32
    p.grad = np.array([np.nan, 1, 1, 1], np.float32)
    assert math.isnan(optim.clip_grad_norm([p], 1.0))
    assert p.grad[1] == 1
    with pytest.raises(ValueError, match="max_norm"):
        optim.clip_grad_norm([p], float("nan"))


def test_clipping_by_value():
    p = tg.tensor(np.zeros(3), requires_grad=True)
    p.grad = np.array([-5.0, 0.25, 5.0])
    optim.clip_grad_value([p], 0.5)
    np.testing.assert_array_equal(p.grad, [-0.5, 0.25, 0.5])


def test_schedules():
    assert [optim.exponential(0.9)(n) for n in (0, 1, 2)] == pytest.approx([1, 0.9, 0.81])
    assert [optim.step_decay(2, 0.5)(n) for n in range(5)] == [1, 1, 0.5, 0.5, 0.25]
    assert [optim.cosine(4, floor=0.2)(n) for n in (0, 4, 9)] == pytest.approx([1, 0.2, 0.2])
    rising = optim.warmup(2, optim.exponential(0.5))
    assert [rising(n) for n in range(5)] == [0.5, 1.0, 1.0, 0.5, 0.25]
    with pytest.raises(ValueError, match="every"):
        optim.step_decay(0)


def test_a_parameter_used_late_is_corrected_by_its_own_count():
    torch = pytest.importorskip("torch")
    mine = pair()
    twins = [torch.tensor(p.numpy().copy(), requires_grad=True) for p in mine]
    ours, other = optim.Adam(mine, lr=0.1), torch.optim.Adam(twins, lr=0.1)
    for step in range(6):
        for k, (p, twin, g) in enumerate(zip(mine, twins, gradients(mine, step), strict=True)):
            late = k == 1 and step < 4
            p.grad, twin.grad = (None, None) if late else (g, torch.tensor(g))
        ours.step()
        other.step()
    for p, twin in zip(mine, twins, strict=True):
        np.testing.assert_allclose(p.numpy(), twin.detach().numpy(), rtol=1e-12)
