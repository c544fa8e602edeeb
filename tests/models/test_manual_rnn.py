"""The hand-written vanilla RNN against differences and against PyTorch, and with planted errors."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings

import tensorgrad as tg
import tensorgrad.functional as F
from tensorgrad.models.manual import rnn

Backward = Callable[..., rnn.Gradients]

# Differences of a float64 loss carry about ten digits.
TOLERANCE = 1e-7


@dataclasses.dataclass(frozen=True)
class Problem:
    """The arguments of one forward and one backward pass."""

    params: dict[str, np.ndarray]
    xs: np.ndarray
    targets: np.ndarray
    h0: np.ndarray
    mask: np.ndarray | None
    reduction: rnn.Reduction
    dh_last: np.ndarray | None

    def forward(self) -> tuple[np.floating[Any], rnn.Cache]:
        return rnn.forward(self.params, self.xs, self.targets, self.h0, self.mask, self.reduction)


def make_problem(
    T: int = 4,
    B: int = 3,
    D: int = 3,
    H: int = 4,
    V: int = 5,
    seed: int = 0,
    ids: bool = False,
    masked: bool = True,
    reduction: rnn.Reduction = "mean",
    dtype: npt.DTypeLike = np.float64,
) -> Problem:
    rng = np.random.default_rng(seed)
    shapes = {"W_xh": (H, D), "W_hh": (H, H), "W_hy": (V, H), "b_h": (H,), "b_y": (V,)}
    mask = None
    if masked:
        mask = rng.random((T, B)) < 0.6
        mask[rng.integers(T), rng.integers(B)] = True  # the mean needs one step
    return Problem(
        params={name: rng.normal(0, 0.7, shape).astype(dtype) for name, shape in shapes.items()},
        xs=rng.integers(D, size=(T, B)) if ids else rng.standard_normal((T, B, D)).astype(dtype),
        targets=rng.integers(V, size=(T, B)),
        h0=rng.uniform(-0.9, 0.9, (B, H)).astype(dtype),
        mask=mask,
        reduction=reduction,
        dh_last=rng.standard_normal((B, H)).astype(dtype),
    )


def as_dict(gradients: rnn.Gradients) -> dict[str, np.ndarray]:
    """Every array of the gradients by its name."""
    others = {name: getattr(gradients, name) for name in ("dy", "dh", "da", "dx", "dh0")}
    return {**gradients.params, **{name: g for name, g in others.items() if g is not None}}


def error(got: np.ndarray, expected: np.ndarray) -> float:
    """The norm of the difference, relative to the norm of what is expected where that exceeds 1e-3."""
    return float(np.linalg.norm(got - expected) / max(np.linalg.norm(expected), 1e-3))


def movable(problem: Problem) -> dict[str, np.ndarray]:
    """The parameters and inputs, and zeros to add to the intermediates, by the names of their gradients."""
    (T, B), (H, D), V = problem.targets.shape, problem.params["W_xh"].shape, len(problem.params["W_hy"])
    return {
        **{name: array.copy() for name, array in problem.params.items()},
        "dx": np.eye(D)[problem.xs] if problem.xs.ndim == 2 else problem.xs.copy(),
        "dh0": problem.h0.copy(),
        **{"dy": np.zeros((T, B, V)), "dh": np.zeros((T, B, H)), "da": np.zeros((T, B, H))},
    }


def plain_objective(problem: Problem, moved: dict[str, np.ndarray]) -> float:
    """The loss by its definition, a row and a timestep at a time, plus dh_last times the last state.

    What stands in ``moved["dh"][t]`` is added to the state that leaves step t.
    """
    T, B = problem.targets.shape
    mask = np.ones((T, B)) if problem.mask is None else problem.mask
    loss, outside, steps = 0.0, 0.0, 0
    for b in range(B):
        h = moved["dh0"][b]
        for t in range(T):
            if mask[t, b]:
                a = moved["W_xh"] @ moved["dx"][t, b] + moved["W_hh"] @ h + moved["b_h"] + moved["da"][t, b]
                h = np.tanh(a)
            h = h + moved["dh"][t, b]
            if mask[t, b]:
                y = moved["W_hy"] @ h + moved["b_y"] + moved["dy"][t, b]
                loss -= np.log(np.exp(y[problem.targets[t, b]]) / np.exp(y).sum())
                steps += 1
        if problem.dh_last is not None:
            outside += problem.dh_last[b] @ h
    return loss / (steps if problem.reduction == "mean" else 1) + outside


def differences(problem: Problem) -> dict[str, np.ndarray]:
    """Central differences with respect to everything that the backward pass differentiates."""
    moved = movable(problem)
    step = 1e-5
    gradients = {}
    for name, array in moved.items():
        gradients[name] = np.empty_like(array)
        for i in np.ndindex(array.shape):
            at = array[i]
            array[i] = at + step
            above = plain_objective(problem, moved)
            array[i] = at - step
            gradients[name][i] = (above - plain_objective(problem, moved)) / (2 * step)
            array[i] = at
    return gradients


def errors_against_differences(problem: Problem, backward: Backward = rnn.backward) -> dict[str, float]:
    expected = differences(problem)
    _, cache = problem.forward()
    got = as_dict(backward(problem.params, cache, problem.dh_last))
    return {name: error(g, expected[name]) for name, g in got.items()}


@settings(deadline=None, max_examples=40)
@given(
    T=st.integers(1, 5),
    B=st.integers(1, 3),
    D=st.integers(1, 3),
    H=st.integers(1, 4),
    V=st.integers(1, 4),
    seed=st.integers(0, 2**32 - 1),
    ids=st.booleans(),
    masked=st.booleans(),
    reduction=st.sampled_from(["mean", "sum"]),
)
def test_every_gradient_equals_differences(**drawn: Any) -> None:
    problem = make_problem(**drawn)
    loss, _ = problem.forward()
    without_outside = dataclasses.replace(problem, dh_last=None)
    assert loss == pytest.approx(plain_objective(without_outside, movable(problem)), rel=1e-12, abs=1e-15)
    for name, difference in errors_against_differences(problem).items():
        assert difference < TOLERANCE, name


PLANTED = {
    "the carry from the future is dropped": ("dy[t] @ W_hy + dh_next", "dy[t] @ W_hy"),
    "the loss at each step is dropped from dh": ("dy[t] @ W_hy + dh_next", "dh_next"),
    "tanh' is forgotten": ("(1 - hs[t] ** 2) * dh[t]", "dh[t]"),
    "tanh' is taken at the previous state": ("(1 - hs[t] ** 2)", "(1 - hs[t - 1] ** 2)"),
    "tanh' lacks the square": ("(1 - hs[t] ** 2)", "(1 - hs[t])"),
    "the recurrent weight is not transposed": ("da[t] @ W_hh", "da[t] @ W_hh.T"),
    "dh is carried instead of da": ("da[t] @ W_hh", "dh[t] @ W_hh"),
    "W_hh sees the state after the step": ("np.roll(hs, 1, axis=0)[:-1]", "hs[:-1]"),
    "the initial state is taken for zero": ("np.roll(hs, 1, axis=0)[:-1]", "np.roll(hs[:-1], 1, axis=0)"),
    "the target is not subtracted": ("-= 1  #", "-= 0  #"),
    "the mean is taken for a sum": ("dy *= cache.weights[:, :, None]", "dy *= mask[:, :, None]"),
    "masked steps count": ("dy *= cache.weights[:, :, None]", "dy *= cache.weights.max()"),
    "the carry passes masked steps through W_hh": ("np.where(live, da[t] @ W_hh, dh[t])", "dh[t] @ W_hh"),
    "the carry stops at masked steps": ("np.where(live, da[t] @ W_hh, dh[t])", "da[t] @ W_hh"),
    "a masked step has a pre-activation gradient": (
        "np.where(live, (1 - hs[t] ** 2) * dh[t], 0)",
        "(1 - hs[t] ** 2) * dh[t]",
    ),
    "the gradient of the last state is ignored": ("if dh_last is not None", "if False"),
    "the bias gradient is a mean over the batch": (
        '"b_h": da.sum(axis=(0, 1))',
        '"b_h": da.sum(axis=0).mean(axis=0)',
    ),
}


@pytest.mark.parametrize(("right", "wrong"), PLANTED.values(), ids=PLANTED)
def test_a_planted_error_is_seen(right: str, wrong: str) -> None:
    source = inspect.getsource(rnn.backward)
    assert source.count(right) == 1
    namespace = dict(vars(rnn))
    exec(source.replace(right, wrong), namespace)

    problem = make_problem()
    assert problem.mask is not None
    assert not problem.mask.all()
    assert max(errors_against_differences(problem).values()) < TOLERANCE
    assert max(errors_against_differences(problem, namespace["backward"]).values()) > 1e-3


def test_token_ids_are_one_hot_vectors() -> None:
    problem = make_problem(ids=True)
    dense = dataclasses.replace(problem, xs=np.eye(3)[problem.xs])
    loss, cache = problem.forward()
    dense_loss, dense_cache = dense.forward()
    assert loss == pytest.approx(dense_loss, rel=1e-14)
    gradients = rnn.backward(problem.params, cache)
    dense_gradients = as_dict(rnn.backward(problem.params, dense_cache))
    assert gradients.dx is None
    for name, g in as_dict(gradients).items():
        np.testing.assert_allclose(g, dense_gradients[name], rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("ids", [False, True])
@pytest.mark.parametrize("place", [0, 2, 4])
def test_padding_changes_nothing(place: int, ids: bool) -> None:
    """Two steps of rubbish, masked, at the start, in the middle and at the end."""
    problem = make_problem(T=4, ids=ids, masked=False)
    rubbish: dict[str, Any] = {"xs": -7 if ids else np.nan, "targets": -100}
    inserted = {
        name: np.insert(getattr(problem, name), [place, place], value, axis=0)
        for name, value in rubbish.items()
    }
    mask = np.insert(np.ones((4, 3), dtype=bool), [place, place], False, axis=0)
    padded = dataclasses.replace(problem, **inserted, mask=mask)

    loss, cache = problem.forward()
    padded_loss, padded_cache = padded.forward()
    assert padded_loss == pytest.approx(loss, rel=1e-14)
    np.testing.assert_allclose(padded_cache.h_last, cache.h_last, rtol=1e-14)

    expected = as_dict(rnn.backward(problem.params, cache, problem.dh_last))
    got = as_dict(rnn.backward(problem.params, padded_cache, problem.dh_last))
    for name, g in got.items():
        if name in ("dy", "dh", "da", "dx"):
            if name != "dh":
                assert not g[place : place + 2].any(), name
            g = np.delete(g, [place, place + 1], axis=0)
        np.testing.assert_allclose(g, expected[name], rtol=1e-11, atol=1e-14, err_msg=name)


def test_dh_passes_through_masked_steps() -> None:
    problem = make_problem(T=5, masked=False)
    mask = np.array([True, True, False, True, False])[:, None].repeat(3, axis=1)
    problem = dataclasses.replace(problem, mask=mask)
    _, cache = problem.forward()
    gradients = rnn.backward(problem.params, cache, problem.dh_last)
    np.testing.assert_array_equal(gradients.dh[4], problem.dh_last)
    np.testing.assert_array_equal(gradients.dh[2], gradients.da[3] @ problem.params["W_hh"])


def test_a_row_does_not_depend_on_its_batch() -> None:
    problem = make_problem(B=3, masked=False, reduction="sum")
    _, cache = problem.forward()
    together = rnn.backward(problem.params, cache)
    apart = []
    for b in range(3):
        row = slice(b, b + 1)
        _, one = rnn.forward(
            problem.params, problem.xs[:, row], problem.targets[:, row], problem.h0[row], reduction="sum"
        )
        apart.append(rnn.backward(problem.params, one))
        np.testing.assert_allclose(apart[b].dh[:, 0], together.dh[:, b], rtol=1e-12)
    for name, g in together.params.items():
        np.testing.assert_allclose(sum(one.params[name] for one in apart), g, rtol=1e-11, atol=1e-14)


@pytest.mark.parametrize("ids", [False, True])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_dtype_is_kept(dtype: npt.DTypeLike, ids: bool) -> None:
    problem = make_problem(dtype=dtype, ids=ids)
    loss, cache = problem.forward()
    assert loss.dtype == dtype
    assert cache.hs.dtype == cache.ps.dtype == dtype
    for name, g in as_dict(rnn.backward(problem.params, cache, problem.dh_last)).items():
        assert g.dtype == dtype, name


def test_float32_agrees_with_float64() -> None:
    problem = make_problem(T=30, H=8, dtype=np.float32)
    double = dataclasses.replace(
        problem,
        params={name: p.astype(np.float64) for name, p in problem.params.items()},
        **{name: getattr(problem, name).astype(np.float64) for name in ("xs", "h0", "dh_last")},
    )
    expected = as_dict(rnn.backward(double.params, double.forward()[1], double.dh_last))
    for name, g in as_dict(rnn.backward(problem.params, problem.forward()[1], problem.dh_last)).items():
        assert error(g, expected[name]) < 1e-5, name


def test_backward_twice_gives_the_same_and_leaves_the_cache_alone() -> None:
    problem = make_problem()
    _, cache = problem.forward()
    before = {field.name: getattr(cache, field.name).copy() for field in dataclasses.fields(cache)}
    first = as_dict(rnn.backward(problem.params, cache, problem.dh_last))
    second = as_dict(rnn.backward(problem.params, cache, problem.dh_last))
    for name, g in first.items():
        np.testing.assert_array_equal(g, second[name])
    for name, array in before.items():
        np.testing.assert_array_equal(getattr(cache, name), array)


def test_large_logits_are_stable() -> None:
    problem = make_problem(masked=False)
    problem.params["b_y"][:] = [1e4, -1e4, 0, 1e300, -1e300]
    targets = np.full_like(problem.targets, 3)
    loss, cache = rnn.forward(problem.params, problem.xs, targets, problem.h0)
    assert loss == 0
    assert all(np.isfinite(g).all() for g in as_dict(rnn.backward(problem.params, cache)).values())
    loss, _ = rnn.forward(problem.params, problem.xs, targets * 0, problem.h0)
    assert loss == pytest.approx(1e300)


def test_no_timesteps_hand_the_state_and_its_gradient_through() -> None:
    problem = make_problem(masked=False, reduction="sum")
    problem = dataclasses.replace(problem, xs=problem.xs[:0], targets=problem.targets[:0])
    loss, cache = problem.forward()
    assert loss == 0
    np.testing.assert_array_equal(cache.h_last, problem.h0)
    gradients = rnn.backward(problem.params, cache, problem.dh_last)
    np.testing.assert_array_equal(gradients.dh0, problem.dh_last)
    assert not any(g.any() for g in gradients.params.values())


def without(params: dict[str, np.ndarray], name: str) -> dict[str, np.ndarray]:
    return {key: array for key, array in params.items() if key != name}


# T=4, B=3, D=3, H=4, V=5.
BAD: dict[str, tuple[Callable[[Problem], dict[str, Any]], str]] = {
    "a parameter is missing": (lambda p: {"params": without(p.params, "b_h")}, "W_xh, W_hh, W_hy, b_h, b_y"),
    "a parameter is unknown": (lambda p: {"params": {**p.params, "W_z": p.h0}}, "W_z"),
    "W_xh is a vector": (lambda p: {"params": {**p.params, "W_xh": p.h0[0]}}, r"matrix.*\(4,\)"),
    "W_hh is not square": (
        lambda p: {"params": {**p.params, "W_hh": p.h0}},
        r"W_hh must have shape \(4, 4\).*\(3, 4\)",
    ),
    "W_hy is transposed": (
        lambda p: {"params": {**p.params, "W_hy": p.params["W_hy"].T}},
        "W_hy must have shape",
    ),
    "b_y is a column": (
        lambda p: {"params": {**p.params, "b_y": p.params["b_y"][:, None]}},
        r"b_y must have shape \(5,\)",
    ),
    "the parameters are integers": (
        lambda p: {"params": {name: array.astype(int) for name, array in p.params.items()}},
        "must be floats; W_xh is int",
    ),
    "a parameter has another dtype": (
        lambda p: {"params": {**p.params, "W_hh": p.params["W_hh"].astype(np.float32)}},
        "W_hh is float32, W_xh is float64",
    ),
    "xs has another dtype": (lambda p: {"xs": p.xs.astype(np.float32)}, r"xs\.astype\(np\.float64\)"),
    "h0 has another dtype": (lambda p: {"h0": p.h0.astype(np.float32)}, r"h0\.astype\(np\.float64\)"),
    "xs is batch-first": (
        lambda p: {"xs": p.xs.swapaxes(0, 1)},
        r"xs must have shape \(T, B, D\) = \(4, 3, 3\)",
    ),
    "xs is a float matrix": (
        lambda p: {"xs": p.xs[0]},
        r"floats \(T, B, D\) or integer ids \(T, B\); got float64",
    ),
    "xs are ids of another shape": (lambda p: {"xs": p.targets[1:]}, r"token ids xs.*\(4, 3\); got \(3, 3\)"),
    "an id is out of range": (
        lambda p: {"xs": np.where(np.arange(12).reshape(4, 3) == 7, 3, 0)},
        r"xs at timestep 2, batch row 1 is 3; it must be in 0\.\.2",
    ),
    "a label is out of range": (
        lambda p: {"targets": np.where(np.arange(12).reshape(4, 3) == 11, 5, 0)},
        r"targets at timestep 3, batch row 2 is 5; it must be in 0\.\.4",
    ),
    "a label is negative": (
        lambda p: {"targets": np.where(np.arange(12).reshape(4, 3) == 1, -1, 0)},
        "targets at timestep 0, batch row 1 is -1",
    ),
    "targets are floats": (
        lambda p: {"targets": p.targets.astype(float)},
        "targets must be integers.*float64",
    ),
    "targets are booleans": (lambda p: {"targets": p.targets > 0}, "targets must be integers.*bool"),
    "targets are flat": (lambda p: {"targets": p.targets.ravel()}, r"targets must have shape \(T, B\)"),
    "h0 is a vector": (lambda p: {"h0": p.h0[0]}, r"h0 must have shape \(B, H\) = \(3, 4\); got \(4,\)"),
    "h0 is of another batch": (lambda p: {"h0": p.h0[:1]}, r"h0 must have shape \(B, H\) = \(3, 4\)"),
    "the mask is of another shape": (
        lambda p: {"mask": np.ones((3, 4))},
        r"mask must have the shape of targets",
    ),
    "the mask holds weights": (lambda p: {"mask": np.full((4, 3), 0.5)}, "0 and 1 only"),
    "all is masked": (lambda p: {"mask": np.zeros((4, 3))}, "nothing to average"),
    "the reduction is unknown": (lambda p: {"reduction": "none"}, "'none'"),
}


@pytest.mark.parametrize(("change", "message"), BAD.values(), ids=BAD)
def test_bad_arguments_are_named(change: Callable[[Problem], dict[str, Any]], message: str) -> None:
    problem = make_problem(masked=False)
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(problem, **change(problem)).forward()


def test_a_wrong_gradient_of_the_last_state_is_named() -> None:
    problem = make_problem()
    _, cache = problem.forward()
    with pytest.raises(ValueError, match=r"dh_last must have shape \(B, H\) = \(3, 4\); got \(4, 3\)"):
        rnn.backward(problem.params, cache, np.ones((4, 3)))
    with pytest.raises(ValueError, match="dh_last is float32"):
        rnn.backward(problem.params, cache, np.ones((3, 4), dtype=np.float32))


@pytest.mark.parametrize("padded", [False, True])
def test_pytorch_rnn_gives_the_same(padded: bool) -> None:
    torch = pytest.importorskip("torch")
    T, B, D, H, V = 6, 3, 4, 5, 7
    problem = make_problem(T, B, D, H, V, masked=False)
    lengths = np.array([6, 2, 4]) if padded else np.full(B, T)
    mask = np.arange(T)[:, None] < lengths
    problem = dataclasses.replace(problem, mask=mask)
    loss, cache = problem.forward()
    gradients = rnn.backward(problem.params, cache, problem.dh_last)

    layer, output = torch.nn.RNN(D, H).double(), torch.nn.Linear(H, V).double()
    p = {name: torch.from_numpy(array) for name, array in problem.params.items()}
    with torch.no_grad():
        layer.weight_ih_l0.copy_(p["W_xh"])
        layer.weight_hh_l0.copy_(p["W_hh"])
        layer.bias_ih_l0.copy_(p["b_h"])
        layer.bias_hh_l0.zero_()
        output.weight.copy_(p["W_hy"])
        output.bias.copy_(p["b_y"])
    xs = torch.from_numpy(problem.xs).requires_grad_()
    h0 = torch.from_numpy(problem.h0).requires_grad_()
    packed = torch.nn.utils.rnn.pack_padded_sequence(xs, torch.from_numpy(lengths), enforce_sorted=False)
    hs, h_last = layer(packed, h0[None])
    hs, _ = torch.nn.utils.rnn.pad_packed_sequence(hs)
    ys = output(hs)
    ys.retain_grad()
    expected_loss = torch.nn.functional.cross_entropy(ys[mask], torch.from_numpy(problem.targets[mask]))
    (expected_loss + (torch.from_numpy(problem.dh_last) * h_last[0]).sum()).backward()

    assert float(loss) == pytest.approx(expected_loss.item(), rel=1e-12)
    np.testing.assert_allclose(cache.h_last, h_last[0].detach().numpy(), rtol=1e-12)
    expected = {
        "W_xh": layer.weight_ih_l0,
        "W_hh": layer.weight_hh_l0,
        "W_hy": output.weight,
        "b_h": layer.bias_ih_l0,
        "b_y": output.bias,
        "dy": ys,
        "dx": xs,
        "dh0": h0,
    }
    got = as_dict(gradients)
    for name, tensor in expected.items():
        assert error(got[name], tensor.grad.numpy()) < 1e-12, name


def test_pytorch_unrolled_gives_the_same_state_gradients() -> None:
    """A state's gradient in a graph is the total one, which a layer's output does not tell."""
    torch = pytest.importorskip("torch")
    problem = make_problem(T=6)
    assert problem.mask is not None
    _, cache = problem.forward()
    gradients = rnn.backward(problem.params, cache, problem.dh_last)

    p = {name: torch.from_numpy(array) for name, array in problem.params.items()}
    mask = torch.from_numpy(problem.mask)
    h = torch.from_numpy(problem.h0).requires_grad_()
    pre_activations, states, nll = [], [], []
    for t in range(6):
        a = torch.from_numpy(problem.xs[t]) @ p["W_xh"].T + h @ p["W_hh"].T + p["b_h"]
        h = torch.where(mask[t, :, None], torch.tanh(a), h)
        a.retain_grad()
        h.retain_grad()
        pre_activations.append(a)
        states.append(h)
        y = h @ p["W_hy"].T + p["b_y"]
        losses = torch.nn.functional.cross_entropy(y, torch.from_numpy(problem.targets[t]), reduction="none")
        nll.append(losses[mask[t]])
    (torch.cat(nll).mean() + (torch.from_numpy(problem.dh_last) * h).sum()).backward()

    assert error(gradients.dh, np.stack([h.grad.numpy() for h in states])) < 1e-12
    assert error(gradients.da, np.stack([a.grad.numpy() for a in pre_activations])) < 1e-12


@settings(deadline=None, max_examples=25)
@given(
    T=st.integers(1, 6),
    B=st.integers(1, 3),
    H=st.integers(1, 4),
    seed=st.integers(0, 2**32 - 1),
    masked=st.booleans(),
    reduction=st.sampled_from(["mean", "sum"]),
)
def test_reverse_mode_gives_the_same_at_every_timestep(**drawn: Any) -> None:
    problem = make_problem(**drawn)
    _, cache = problem.forward()
    expected = as_dict(rnn.backward(problem.params, cache, problem.dh_last))

    p = {name: tg.tensor(array, requires_grad=True) for name, array in problem.params.items()}
    xs, h0 = tg.tensor(problem.xs, requires_grad=True), tg.tensor(problem.h0, requires_grad=True)
    pre_activations, states, logits = [], [], []
    h = h0
    for t in range(len(problem.targets)):
        pre_activations.append(xs[t] @ p["W_xh"].T + h @ p["W_hh"].T + p["b_h"])
        h = tg.where(cache.mask[t, :, None], tg.tanh(pre_activations[t]), h)
        states.append(h)
        logits.append(h @ p["W_hy"].T + p["b_y"])
    loss = F.cross_entropy(tg.stack(logits), problem.targets, mask=problem.mask, reduction=problem.reduction)
    loss = loss + (problem.dh_last * h).sum()

    wrt = {"dy": logits, "dh": states, "da": pre_activations}
    got = {name: np.stack(tg.grad(loss, tensors)) for name, tensors in wrt.items()}
    got |= dict(zip([*p, "dx", "dh0"], tg.grad(loss, [*p.values(), xs, h0]), strict=True))
    for name, g in got.items():
        assert error(g, expected[name]) < 1e-12, name


def foreign_imports(source: str) -> list[str]:
    """What a module of models/manual imports besides NumPy, the standard library and its own folder."""
    allowed = {"numpy", *sys.stdlib_module_names}
    foreign = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            foreign += [alias.name for alias in node.names if alias.name.split(".")[0] not in allowed]
        elif isinstance(node, ast.ImportFrom):
            module = node.module or ""
            if node.level > 1 or (node.level == 0 and module.split(".")[0] not in allowed):
                foreign.append("." * node.level + module)
    return foreign


def test_the_manual_models_import_numpy_alone() -> None:
    files = sorted(Path(rnn.__file__).parent.glob("**/*.py"))
    assert len(files) >= 2
    for file in files:
        assert foreign_imports(file.read_text(encoding="utf-8")) == [], file


@pytest.mark.parametrize(
    "source",
    [
        "import tensorgrad",
        "import numpy, tensorgrad.graph as g",
        "from tensorgrad import tanh",
        "def f():\n    from ...functional import softmax",
        "from .. import micro_rnn",
        "import torch",
    ],
)
def test_a_foreign_import_is_seen(source: str) -> None:
    assert foreign_imports(source)
