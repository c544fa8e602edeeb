"""The column-vector RNN: shapes, both ways to its gradients, learning, and bad arguments."""

from __future__ import annotations

import copy
import dataclasses
import pickle
from collections.abc import Callable
from typing import Any, Literal

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

from tensorgrad.models import micro_rnn
from tensorgrad.models.manual import rnn as manual
from tensorgrad.models.micro_rnn import RNN, SimpleRNN, create_dataset, get_batch

Gradients = Literal["autograd", "manual"]
MODES: tuple[Gradients, ...] = ("autograd", "manual")
TEXT = "hello world hello rnn hello deep learning"
NAMES = ["W_xh", "W_hh", "W_hy", "b_h", "b_y"]


def make_rnn(D: int = 4, H: int = 3, V: int = 5, seed: int = 0, gradients: Gradients = "autograd") -> RNN:
    """An RNN with weights large enough that nothing in it is nearly linear."""
    rng = np.random.default_rng(seed)
    rnn = RNN(D, H, V, gradients, rng)
    for name in NAMES:
        getattr(rnn, name)[...] = rng.normal(0, 0.7, getattr(rnn, name).shape)
    return rnn


def norm_error(got: np.ndarray, expected: np.ndarray) -> float:
    return float(np.linalg.norm(got - expected) / max(np.linalg.norm(expected), 1e-3))


def written_out(rnn: RNN, targets: list[int], cache: micro_rnn.Cache) -> dict[str, np.ndarray]:
    """Backpropagation through time over the cache's columns."""
    xs, hs, ps = cache
    grads = {name: np.zeros_like(getattr(rnn, name)) for name in NAMES}
    dh_next = np.zeros((rnn.hidden_size, 1))
    for t in reversed(range(len(targets))):
        dy = ps[t].copy()
        dy[targets[t]] -= 1
        da = (1 - hs[t] ** 2) * (rnn.W_hy.T @ dy + dh_next)
        dh_next = rnn.W_hh.T @ da
        terms = {"W_xh": da @ xs[t].T, "W_hh": da @ hs[t - 1].T, "W_hy": dy @ hs[t].T, "b_h": da, "b_y": dy}
        for name, term in terms.items():
            grads[name] += term
    return grads


def test_weights_come_from_numpys_global_state() -> None:
    np.random.seed(42)
    expected = [np.random.randn(*shape) * 0.01 for shape in ((3, 4), (3, 3), (5, 3))]
    for make in (SimpleRNN, RNN):
        np.random.seed(42)
        rnn = make(4, 3, 5)
        for name, weight in zip(NAMES, expected, strict=False):
            np.testing.assert_array_equal(getattr(rnn, name), weight)
        assert rnn.b_h.shape == (3, 1)
        assert rnn.b_y.shape == (5, 1)
        assert not rnn.b_h.any()
        assert not rnn.b_y.any()
        assert rnn.hidden_size == 3


def test_a_seed_or_generator_leaves_numpys_global_state_alone() -> None:
    np.random.seed(0)
    untouched = np.random.rand()
    np.random.seed(0)
    rnn = RNN(4, 3, 4, rng=7)
    rnn.sample(0, np.zeros((3, 1)), 5)
    assert np.random.rand() == untouched
    np.testing.assert_array_equal(rnn.W_hh, RNN(4, 3, 4, rng=np.random.default_rng(7)).W_hh)
    assert not np.array_equal(rnn.W_hh, RNN(4, 3, 4, rng=8).W_hh)


def test_forward_step() -> None:
    rnn = make_rnn()
    x, h_prev = np.eye(4)[:, [2]], np.full((3, 1), 0.5)
    h, y, p = rnn.forward_step(x, h_prev)
    np.testing.assert_allclose(h[:, 0], np.tanh(rnn.W_xh[:, 2] + 0.5 * rnn.W_hh.sum(axis=1) + rnn.b_h[:, 0]))
    np.testing.assert_allclose(y, rnn.W_hy @ h + rnn.b_y)
    np.testing.assert_allclose(p, np.exp(y) / np.exp(y).sum())
    assert (h.shape, y.shape, p.shape) == ((3, 1), (5, 1), (5, 1))


def test_forward_returns_columns_by_timestep() -> None:
    rnn = make_rnn()
    inputs, targets, h_prev = [0, 3, 1], [4, 0, 2], np.full((3, 1), 0.5)
    loss, (xs, hs, ps), h = rnn.forward(inputs, targets, h_prev)
    assert list(xs) == list(ps) == [0, 1, 2]
    assert sorted(hs) == [-1, 0, 1, 2]
    assert {x.shape for x in xs.values()} == {(4, 1)}
    assert {h.shape for h in hs.values()} == {(3, 1)}
    assert {p.shape for p in ps.values()} == {(5, 1)}
    assert [int(xs[t].argmax()) for t in range(3)] == inputs
    np.testing.assert_array_equal(hs[-1], h_prev)
    np.testing.assert_array_equal(hs[2], h)
    assert type(loss) is float
    assert loss == pytest.approx(-sum(np.log(ps[t][targets[t], 0]) for t in range(3)))

    first_loss, _, h_mid = rnn.forward(inputs[:1], targets[:1], h_prev)
    rest_loss, _, h_end = rnn.forward(inputs[1:], targets[1:], h_mid)
    assert first_loss + rest_loss == pytest.approx(loss)
    np.testing.assert_array_equal(h_end, h)


def test_the_cache_does_not_follow_the_callers_state() -> None:
    rnn = make_rnn()
    h_prev = np.full((3, 1), 0.5)
    _, cache, _ = rnn.forward([0, 1], [1, 2], h_prev)
    expected = rnn.backward([0, 1], [1, 2], cache)
    h_prev[:] = 0
    for name, g in rnn.backward([0, 1], [1, 2], cache).items():
        np.testing.assert_array_equal(g, expected[name])


def test_an_untrained_rnn_loses_log_v_a_step() -> None:
    rnn = RNN(15, 64, 15, rng=0)
    loss, _, _ = rnn.forward(list(range(15)), list(range(15)), np.zeros((64, 1)))
    assert loss == pytest.approx(15 * np.log(15), rel=1e-3)


def test_a_hopeless_prediction_has_a_finite_loss() -> None:
    rnn = make_rnn()
    rnn.b_y[0] = 1e4
    loss, _, _ = rnn.forward([0], [1], np.zeros((3, 1)))
    assert loss == pytest.approx(1e4, rel=1e-3)


@settings(deadline=None, max_examples=30)
@given(
    T=st.integers(1, 8),
    D=st.integers(1, 5),
    H=st.integers(1, 6),
    V=st.integers(1, 5),
    seed=st.integers(0, 2**32 - 1),
)
def test_autograd_equals_manual(T: int, D: int, H: int, V: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    inputs, targets = rng.integers(D, size=T).tolist(), rng.integers(V, size=T).tolist()
    h_prev = rng.uniform(-0.9, 0.9, (H, 1))
    by_mode = {}
    for mode in MODES:
        rnn = make_rnn(D, H, V, seed, mode)
        _, cache, _ = rnn.forward(inputs, targets, h_prev)
        by_mode[mode] = rnn.backward(inputs, targets, cache)
        assert list(by_mode[mode]) == NAMES
    expected = written_out(rnn, targets, cache)
    for name in NAMES:
        assert by_mode["autograd"][name].shape == getattr(rnn, name).shape
        assert norm_error(by_mode["autograd"][name], by_mode["manual"][name]) < 1e-9, name
        assert norm_error(by_mode["manual"][name], expected[name]) < 1e-9, name


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("mode", MODES)
def test_gradients_equal_differences(mode: Gradients, name: str) -> None:
    rnn = make_rnn(gradients=mode)
    inputs, targets, h_prev = [0, 3, 1, 3], [4, 0, 2, 0], np.full((3, 1), 0.5)
    _, cache, _ = rnn.forward(inputs, targets, h_prev)
    got = rnn.backward(inputs, targets, cache)[name]
    parameter = getattr(rnn, name)
    expected = np.empty_like(parameter)
    for i in np.ndindex(parameter.shape):
        at = parameter[i]
        parameter[i] = at + 1e-5
        above, _, _ = rnn.forward(inputs, targets, h_prev)
        parameter[i] = at - 1e-5
        below, _, _ = rnn.forward(inputs, targets, h_prev)
        parameter[i] = at
        expected[i] = (above - below) / 2e-5
    assert norm_error(got, expected) < 1e-7


def test_a_planted_error_in_the_manual_backward_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    right = manual.backward

    def halved(*args: Any) -> manual.Gradients:
        gradients = right(*args)
        params = {**gradients.params, "W_hh": gradients.params["W_hh"] / 2}
        return dataclasses.replace(gradients, params=params)

    monkeypatch.setattr(manual, "backward", halved)
    rnn = make_rnn(gradients="manual")
    _, cache, _ = rnn.forward([0, 3, 1], [4, 0, 2], np.full((3, 1), 0.5))
    by_hand = rnn.backward([0, 3, 1], [4, 0, 2], cache)
    rnn.gradients = "autograd"
    by_autograd = rnn.backward([0, 3, 1], [4, 0, 2], cache)
    assert [name for name in NAMES if norm_error(by_hand[name], by_autograd[name]) > 1e-9] == ["W_hh"]


@pytest.mark.parametrize("mode", MODES)
def test_numpy_integers_are_token_ids(mode: Gradients) -> None:
    rnn = make_rnn(gradients=mode)
    inputs, targets = list(np.random.default_rng(0).integers(4, size=6)), np.arange(6) % 5
    loss, cache, _ = rnn.forward(inputs, targets, np.zeros((3, 1)))  # type: ignore[arg-type]
    plain_loss, _, _ = rnn.forward([int(i) for i in inputs], targets.tolist(), np.zeros((3, 1)))
    assert loss == plain_loss
    assert rnn.backward(inputs, targets, cache)["W_hy"].shape == (5, 3)  # type: ignore[arg-type]


def test_clip_gradients() -> None:
    rnn = make_rnn()
    grads = {"W_hh": np.array([[-7.0, 2.0], [5.0, np.inf]])}
    clipped = rnn.clip_gradients(grads)
    np.testing.assert_array_equal(clipped["W_hh"], [[-5, 2], [5, 5]])
    np.testing.assert_array_equal(grads["W_hh"], [[-7, 2], [5, np.inf]])
    np.testing.assert_array_equal(rnn.clip_gradients(grads, max_value=1)["W_hh"], [[-1, 1], [1, 1]])


def test_update_parameters_is_adagrad() -> None:
    rnn = make_rnn()
    before = {name: getattr(rnn, name).copy() for name in NAMES}
    steps = [{name: np.full_like(p, size) for name, p in before.items()} for size in (3.0, -4.0)]
    steps[0]["b_y"][0] = steps[1]["b_y"][0] = 0
    for grads in steps:
        rnn.update_parameters(grads, learning_rate=0.1)
    # 3 / sqrt(9) = 1, then -4 / sqrt(9 + 16) = -0.8.
    expected = {name: p - 0.1 * (1 - 0.8) for name, p in before.items()}
    expected["b_y"][0] = before["b_y"][0]
    for name in NAMES:
        np.testing.assert_allclose(getattr(rnn, name), expected[name], rtol=1e-7)


@pytest.mark.parametrize("mode", MODES)
def test_training_learns_the_text(mode: Gradients) -> None:
    char_to_idx, idx_to_char, data = create_dataset(TEXT)
    rnn = RNN(len(char_to_idx), 32, len(char_to_idx), mode, rng=1)
    inputs, targets = get_batch(data, 0, 20)
    losses = []
    for _ in range(200):
        loss, cache, _ = rnn.forward(inputs, targets, np.zeros((32, 1)))
        losses.append(loss)
        rnn.update_parameters(rnn.clip_gradients(rnn.backward(inputs, targets, cache)), learning_rate=0.1)
    assert losses[-1] < losses[0] / 100
    sampled = rnn.sample(char_to_idx["h"], np.zeros((32, 1)), 19)
    assert "h" + "".join(idx_to_char[i] for i in sampled) == TEXT[:20]


def test_sample() -> None:
    rnn = make_rnn(V=4)
    h = np.full((3, 1), 0.5)
    indices = rnn.sample(2, h, 300)
    assert len(indices) == 300
    assert set(indices) == {0, 1, 2, 3}
    assert {type(i) for i in indices} == {int}
    np.testing.assert_array_equal(h, np.full((3, 1), 0.5))
    assert rnn.sample(2, h, 0) == []

    again = [make_rnn(V=4, seed=3).sample(2, h, 20) for _ in range(2)]
    assert again[0] == again[1]
    global_rnn = RNN(4, 3, 4)
    drawn = []
    for _ in range(2):
        np.random.seed(0)
        drawn.append(global_rnn.sample(2, h, 20))
    assert drawn[0] == drawn[1]


def test_sample_follows_the_probabilities() -> None:
    rnn = RNN(3, 2, 3, rng=0)
    rnn.W_hy[:] = 0
    rnn.b_y[:, 0] = np.log([0.7, 0.2, 0.1])
    shares = np.bincount(rnn.sample(0, np.zeros((2, 1)), 20_000), minlength=3) / 20_000
    np.testing.assert_allclose(shares, [0.7, 0.2, 0.1], atol=0.02)


@pytest.mark.parametrize("rng", [None, 3])
def test_a_copy_learns_apart(rng: int | None) -> None:
    rnn = RNN(4, 3, 4, rng=rng)
    for clone in (copy.deepcopy(rnn), pickle.loads(pickle.dumps(rnn))):
        np.testing.assert_array_equal(clone.W_hh, rnn.W_hh)
        clone.update_parameters({name: np.ones_like(getattr(rnn, name)) for name in NAMES}, 0.1)
        assert not np.array_equal(clone.W_hh, rnn.W_hh)


def test_create_dataset() -> None:
    char_to_idx, idx_to_char, data = create_dataset(TEXT)
    assert list(char_to_idx) == sorted(set(TEXT))
    assert list(char_to_idx.values()) == list(range(len(char_to_idx)))
    assert {i: ch for ch, i in char_to_idx.items()} == idx_to_char
    assert "".join(idx_to_char[i] for i in data) == TEXT


def test_get_batch() -> None:
    data = [5, 6, 7, 8, 9]
    assert get_batch(data, 0, 2) == ([5, 6], [6, 7])
    assert get_batch(data, 2, 2) == ([7, 8], [8, 9])
    for p, seq_length in ((3, 2), (-1, 2), (0, 0), (0, 5)):
        with pytest.raises(ValueError, match="5 tokens don't hold a window"):
            get_batch(data, p, seq_length)


def step(rnn: RNN, **changes: Any) -> None:
    """One forward and backward pass with some of its arguments changed after the forward pass."""
    arguments: dict[str, Any] = {"inputs": [0, 1], "targets": [1, 2]}
    _, cache, _ = rnn.forward(**arguments, h_prev=np.zeros((3, 1)))
    rnn.backward(**{**arguments, "cache": cache, **changes})


BAD: dict[str, tuple[Callable[[RNN], Any], str]] = {
    "no inputs": (lambda rnn: rnn.forward([], [], np.zeros((3, 1))), "got 0 and 0"),
    "a target too few": (lambda rnn: rnn.forward([0, 1], [1], np.zeros((3, 1))), "got 2 and 1"),
    "an input out of range": (
        lambda rnn: rnn.forward([0, 4], [1, 1], np.zeros((3, 1))),
        r"inputs\[1\] is 4.*0\.\.3",
    ),
    "a negative target": (
        lambda rnn: rnn.forward([0, 1], [-1, 1], np.zeros((3, 1))),
        r"targets\[0\] is -1.*0\.\.4",
    ),
    "a flat state": (lambda rnn: rnn.forward([0], [1], np.zeros(3)), r"\(3, 1\); got \(3,\)"),
    "backward of other targets": (lambda rnn: step(rnn, targets=[1]), "2, 1 and 2 timesteps"),
    "a bound of zero": (lambda rnn: rnn.clip_gradients({}, 0), "max_value must be positive; got 0"),
    "a bound that is NaN": (lambda rnn: rnn.clip_gradients({}, np.nan), "got nan"),
    "a learning rate of NaN": (lambda rnn: rnn.update_parameters({}, np.nan), "learning_rate.*got nan"),
    "a negative learning rate": (lambda rnn: rnn.update_parameters({}, -0.1), "learning_rate.*got -0.1"),
    "no gradients": (lambda rnn: rnn.update_parameters({}, 0.1), "names and shapes"),
    "sampling from an unknown token": (lambda rnn: rnn.sample(4, np.zeros((3, 1)), 1), r"0\.\.3; got 4"),
    "a negative length": (lambda rnn: rnn.sample(0, np.zeros((3, 1)), -1), "length must not be negative"),
    "an unknown mode": (lambda rnn: RNN(4, 3, 5, gradients="numeric"), "'numeric'"),  # type: ignore[arg-type]
    "an empty hidden state": (lambda rnn: RNN(4, 0, 5), "hidden_size must be at least 1; got 0"),
    "no text": (lambda rnn: create_dataset(""), "the text is empty"),
}


@pytest.mark.parametrize(("call", "message"), BAD.values(), ids=BAD)
def test_bad_arguments_are_named(call: Callable[[RNN], Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call(make_rnn())


def test_a_gradient_of_the_wrong_shape_changes_nothing() -> None:
    rnn = make_rnn()
    grads = {name: np.ones_like(getattr(rnn, name)) for name in NAMES}
    grads["b_y"] = np.ones(5)
    before = rnn.W_xh.copy()
    with pytest.raises(ValueError, match=r"'b_y': \(5, 1\)"):
        rnn.update_parameters(grads, 0.1)
    np.testing.assert_array_equal(rnn.W_xh, before)
