"""Jacobians of the state, Lyapunov exponents, fixed points, forward mode: against closed forms and BPTT."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tensorgrad as tg
from tensorgrad import bptt, nn
from tensorgrad.check import norm_error
from tensorgrad.errors import GraphError, ShapeError, UserError

H = 3
EVERY_CELL = pytest.mark.parametrize("name", nn.CELLS)


def linear_cell(W: Any) -> Any:
    return lambda x, h: (h @ W + x,) * 2


def flat(state: Any) -> np.ndarray:
    """The parts of a state side by side, (B, S)."""
    arrays = [np.asarray(x.numpy() if isinstance(x, tg.Tensor) else x) for x in tg.tree.leaves(state)]
    return np.concatenate([x.reshape(len(x), -1) for x in arrays], axis=1)


# --- Jacobians ---------------------------------------------------------------------------------------------
def test_jacobians_of_a_linear_network_are_its_matrix():
    W = np.array([[0.5, 0.3], [-0.2, 0.8]])
    h0 = tg.tensor(np.ones((3, 2)), requires_grad=True)
    roll = nn.unroll(linear_cell(tg.tensor(W, requires_grad=True)), np.ones((5, 3, 2)), h0)
    J = bptt.state_jacobians(roll)
    assert J.values.shape == (5, 3, 2, 2)
    np.testing.assert_array_equal(J.times, [-1, 0, 1, 2, 3, 4])
    np.testing.assert_allclose(J.values, np.broadcast_to(W.T, (5, 3, 2, 2)))
    power = np.linalg.matrix_power(W.T, 5)
    np.testing.assert_allclose(J.product(-1, 4), np.broadcast_to(power, (3, 2, 2)))
    np.testing.assert_array_equal(J.product(2, 2)[0], np.eye(2))
    spans = J.spans()
    assert spans.shape == (6, 3, 2)
    np.testing.assert_allclose(spans[0, 0], np.linalg.svd(power)[1])
    np.testing.assert_allclose(spans[-1], 1)
    np.testing.assert_allclose(J.singular_values()[2, 1], np.linalg.svd(W)[1])


@EVERY_CELL
def test_jacobians_against_finite_differences(name: str):
    cell = nn.make_cell(name, 2, H, seed=0)
    xs = np.random.default_rng(0).normal(size=(3, 2, 2))
    roll = nn.unroll(cell, xs)
    J = bptt.state_jacobians(roll)
    leaves, structure = tg.tree.flatten(nn.detach(roll.states[1]))
    start = flat(roll.states[1])
    numeric = np.zeros((2, start.shape[1], start.shape[1]))
    widths = np.cumsum([x.size // 2 for x in leaves])[:-1]

    def after(s: np.ndarray) -> np.ndarray:
        parts = [p.reshape(x.shape) for p, x in zip(np.split(s, widths, axis=1), leaves, strict=True)]
        with tg.no_grad():
            return flat(cell(xs[1], tg.tree.unflatten(structure, [tg.tensor(p) for p in parts]))[1])

    for k in range(start.shape[1]):
        e = np.zeros_like(start)
        e[:, k] = 1e-6
        numeric[:, :, k] = (after(start + e) - after(start - e)) / 2e-6
    np.testing.assert_allclose(J.values[0], numeric, atol=2e-9)
    assert [*J.parts] == [x.name for x in tg.tree.leaves(roll.state)]


def test_parts_masks_and_the_direction_of_the_run():
    cell = nn.LSTMCell(2, H, seed=0)
    xs = np.random.default_rng(0).normal(size=(4, 2, 2))
    roll = nn.unroll(cell, xs, lengths=[4, 2])
    J = bptt.state_jacobians(roll)
    np.testing.assert_array_equal(J.times, [0, 1, 2, 3])
    # Of c_t by c_{t-1} with h_{t-1} held fixed: the forget gate.
    f = np.stack([step["f"].numpy() for step in roll.steps[1:]])
    np.testing.assert_allclose(np.einsum("nbii->nbi", J.block("c", "c"))[:, 0], f[:, 0])
    np.testing.assert_array_equal(J.values[1:, 1], np.broadcast_to(np.eye(2 * H), (2, 2 * H, 2 * H)))
    back = bptt.state_jacobians(nn.unroll(cell, xs[::-1], reverse=True))
    there = bptt.state_jacobians(nn.unroll(cell, xs))
    np.testing.assert_array_equal(back.times, [3, 2, 1, 0])
    np.testing.assert_array_equal(back.values, there.values)
    np.testing.assert_allclose(back.product(3, 1), there.product(0, 2))
    for i in range(4):
        np.testing.assert_allclose(there.spans()[i], np.linalg.svd(there.product(i, 3))[1], atol=1e-16)


def test_layers_one_by_one_and_a_single_sequence():
    net = nn.GRU(2, H, num_layers=2, seed=0)
    roll = net.unroll(np.random.default_rng(0).normal(size=(4, 2, 2)))
    with pytest.raises(GraphError, match=r"each of the layers l0, l1 .* such as roll.layers\['l0'\]"):
        bptt.state_jacobians(roll)
    J = bptt.state_jacobians(roll.layers["l1"])
    # From a run of that layer alone.
    below, start = roll.layers["l0"].outputs.numpy(), nn.detach(roll.layers["l1"].states[0])
    alone = nn.unroll(net.cells["l1"], below, start)
    np.testing.assert_allclose(J.values[-3:], bptt.state_jacobians(alone).values)
    one = nn.unroll(nn.LSTMCell(2, H, seed=0), np.ones((3, 2)))
    assert bptt.state_jacobians(one).values.shape == (2, 1, 2 * H, 2 * H)
    single = nn.RNN(2, H, seed=0).unroll(np.ones((3, 1, 2)))
    assert [*bptt.state_jacobians(single).parts] == ["h"]


def test_what_has_no_jacobian():
    W = tg.tensor(np.eye(2), requires_grad=True)
    roll = nn.unroll(linear_cell(W), np.ones((1, 1, 2)), np.zeros((1, 2)))
    with pytest.raises(GraphError, match="one timestep and an initial state that carries no gradient"):
        bptt.state_jacobians(roll)
    J = bptt.state_jacobians(nn.unroll(linear_cell(W), np.ones((3, 1, 2)), np.zeros((1, 2))))
    with pytest.raises(UserError, match="no span from timestep 2 to 1; spans lie between 0 and 2"):
        J.product(2, 1)
    with pytest.raises(UserError, match="no span from timestep -1 to 1"):
        J.product(-1, 1)

    def grows(x: Any, state: Any) -> Any:
        return x, [*(state or []), x * W.sum()]

    with pytest.raises(GraphError, match="the state has 1 parts after the first step and 2 after step 1"):
        bptt.state_jacobians(nn.unroll(grows, np.ones((3, 1, 2))))


def test_a_state_that_holds_a_tensor_twice_or_a_plain_array():
    W = tg.tensor(np.diag([0.5, 2.0]), requires_grad=True)

    def cell(x: Any, state: Any) -> Any:
        h = state[0] @ W + x
        return h, (h, h, np.ones(3))

    roll = nn.unroll(cell, np.ones((3, 1, 2)), (np.zeros((1, 2)),) * 3)
    J = bptt.state_jacobians(roll)
    assert [*J.parts] == ["state.0"]
    np.testing.assert_array_equal(J.values[0, 0], np.diag([0.5, 2.0]))


# --- Lyapunov exponents ------------------------------------------------------------------------------------
@settings(max_examples=20, deadline=None)
@given(st.integers(1, 5), st.integers(0, 999))
def test_exponents_of_a_linear_map_are_those_of_its_eigenvalues(S: int, seed: int):
    rng = np.random.default_rng(seed)
    moduli = 1.6 ** -np.arange(S) * rng.uniform(0.9, 1.1, size=S)
    basis = np.linalg.qr(rng.normal(size=(S, S)))[0] @ np.diag(rng.uniform(0.5, 2, S))
    W = basis @ np.diag(moduli) @ np.linalg.inv(basis)
    found = bptt.lyapunov_exponents(np.broadcast_to(W, (120, S, S)), warmup=100)
    np.testing.assert_allclose(found.values[0], np.log(moduli), atol=1e-9)
    np.testing.assert_allclose(found.running[-1], found.values)
    # The sum of all exponents is the mean logarithm of the determinant, over any span.
    assert found.values.sum() == pytest.approx(np.log(np.abs(np.linalg.det(W))))
    fewer = bptt.lyapunov_exponents(np.broadcast_to(W, (120, S, S)), count=1, warmup=100)
    np.testing.assert_allclose(fewer.values, found.values[:, :1], atol=1e-9)


def test_exponents_of_a_run_tell_order_from_chaos():
    """Of tanh networks without input: stable for weights of gain under 1, chaotic well above 1.

    Sompolinsky, Crisanti, Sommers, "Chaos in Random Neural Networks" (1988).
    """
    rng = np.random.default_rng(0)
    G = rng.normal(size=(40, 40)) / np.sqrt(40)
    greatest = []
    for gain in (0.5, 3.0):
        W = tg.tensor(gain * G, requires_grad=True)
        cell = lambda x, h: (tg.tanh(h @ W + x),) * 2  # noqa: B023, E731
        roll = nn.unroll(cell, np.zeros((120, 1, 40)), rng.normal(size=(1, 40)))
        greatest.append(bptt.lyapunov_exponents(bptt.state_jacobians(roll), count=1, warmup=20).values[0, 0])
    assert greatest[0] < -0.4
    assert greatest[1] > 0.2


def test_a_direction_that_is_lost():
    found = bptt.lyapunov_exponents(np.broadcast_to(np.diag([2.0, 0.0]), (5, 2, 2)), warmup=1)
    np.testing.assert_allclose(found.values, [[np.log(2), -np.inf]])


def test_mistakes_in_lyapunov_exponents():
    with pytest.raises(ShapeError, match=r"\(n, B, S, S\) or \(n, S, S\), not \(2, 3\)"):
        bptt.lyapunov_exponents(np.ones((2, 3)))
    with pytest.raises(UserError, match="a warmup of 3 of 3 steps leaves nothing"):
        bptt.lyapunov_exponents(np.ones((3, 2, 2)), warmup=3)
    with pytest.raises(UserError, match="count is between 1 and S=2, not 3"):
        bptt.lyapunov_exponents(np.ones((3, 2, 2)), count=3)
    with pytest.raises(GraphError, match="not finite"):
        bptt.lyapunov_exponents(np.full((3, 2, 2), np.nan))


# --- fixed points ------------------------------------------------------------------------------------------
def test_fixed_points_of_two_units_that_each_have_three():
    W = 1.5 * np.eye(2)
    at = 0.8585568
    starts = np.random.default_rng(0).uniform(-1, 1, size=(60, 2))
    found = bptt.fixed_points(lambda x, h: (h, tg.tanh(h @ W + x)), np.zeros(2), starts)
    expected = {(a, b) for a in (-1, 0, 1) for b in (-1, 0, 1)}
    assert {tuple(p) for p in (found.points / at).round(5).tolist()} == expected
    assert (found.speeds < 1e-25).all()
    # Each unit at 0 repels, with the derivative 1.5; at its ends it attracts.
    np.testing.assert_array_equal(found.unstable, (np.abs(found.points) < 1e-6).sum(axis=1))
    slopes = 1.5 * (1 - found.points**2)
    np.testing.assert_allclose(np.sort(found.eigenvalues.real), np.sort(slopes), atol=1e-9)
    np.testing.assert_allclose(np.einsum("nii->ni", found.jacobians), slopes, atol=1e-9)
    np.testing.assert_array_equal(found.states, found.points)


@pytest.mark.parametrize("name", ["gru", "lstm"])
def test_fixed_points_of_a_cell_stay_where_they_are(name: str):
    cell = nn.make_cell(name, 2, H, seed=0)
    x = np.array([0.3, -0.2])
    run = nn.unroll(cell, np.random.default_rng(0).normal(size=(1, 10, 2)))
    found = bptt.fixed_points(cell, x, run.state, steps=200)
    assert len(found.points) == 1
    assert not found.unstable.any()
    # The same point, from iterating the cell.
    with tg.no_grad():
        roll = nn.unroll(cell, np.broadcast_to(x, (300, 1, 2)))
    np.testing.assert_allclose(found.points, flat(roll.state), atol=1e-9)
    np.testing.assert_allclose(flat(found.states), found.points)
    assert cell.weight_ih.grad is None


def test_no_fixed_point_and_slow_ones():
    drift = lambda x, h: (h, h + 1e-4 * (1 + h * h) + x)  # noqa: E731
    starts = np.array([[0.1], [-0.2]])
    assert len(bptt.fixed_points(drift, np.zeros(1), starts).points) == 0
    slow = bptt.fixed_points(drift, np.zeros(1), starts, tolerance=1e-7)
    assert len(slow.points)
    assert slow.speeds[0] == pytest.approx(0.5e-8, rel=0.1)


def test_mistakes_in_fixed_points():
    cell = nn.RNNCell(2, H, seed=0)
    with pytest.raises(ShapeError, match=r"must be \(n, ...\) for n starts, not \[\(3,\)\]"):
        bptt.fixed_points(cell, np.zeros(2), np.zeros(H))
    with pytest.raises(ShapeError, match=r"one vector \(D,\), not \(1, 2\)"):
        bptt.fixed_points(cell, np.zeros((1, 2)), np.zeros((4, H)))
    with pytest.raises(GraphError, match="floating-point"):
        bptt.fixed_points(cell, np.zeros(2), np.zeros((4, H), int))
    with pytest.raises(ShapeError, match="another form than the starts"):
        bptt.fixed_points(lambda x, h: (h, (h, h)), np.zeros(2), np.zeros((4, H)))
    with pytest.raises(UserError, match="tolerance and apart greater than 0"):
        bptt.fixed_points(cell, np.zeros(2), np.zeros((4, H)), tolerance=0)


# --- forward mode ------------------------------------------------------------------------------------------
def through_time(cell: Any, xs: np.ndarray, each: Any, **options: Any) -> dict[str, np.ndarray]:
    roll = nn.unroll(cell, xs, **options)
    losses = [each(t, roll.outputs[t]) for t in range(len(roll))]
    loss = tg.stack([x for x in losses if x is not None]).sum()
    names, parameters = zip(*cell.named_parameters(), strict=True)
    return dict(zip(names, tg.grad(loss, parameters), strict=True))


@EVERY_CELL
@pytest.mark.parametrize("masked", [False, True])
def test_rtrl_agrees_with_bptt(name: str, masked: bool):
    rng = np.random.default_rng(0)
    cell = nn.make_cell(name, 2, 2, seed=0)
    xs, ys = rng.normal(size=(2, 5, 2, 2))
    options = {"lengths": [3, 5]} if masked else {}
    state = tg.tree.map(lambda z: z + 0.1, cell.initial_state(xs[0]))

    def each(t: int, output: Any) -> Any:
        return ((output - ys[t]) ** 2).sum() if t != 1 else None

    found = bptt.rtrl(cell, cell, xs, each, state, **options)
    expected = through_time(cell, xs, each, state=state, **options)
    assert found.gradients.keys() == expected.keys()
    for key, g in expected.items():
        assert norm_error(found.gradients[key], g) < 1e-10 or not g.any()
    assert found.running[0] == found.running[1] > 0
    assert found.influence.shape[0] == 2
    assert len(found.influence_norms) == 5
    size = np.sqrt(sum((g**2).sum() for g in found.gradients.values()))
    assert found.running[-1] == pytest.approx(size)


def test_the_influence_is_the_derivative_of_the_state():
    cell = nn.GRUCell(2, 2, seed=0)
    xs = np.random.default_rng(0).normal(size=(4, 3, 2))
    found = bptt.rtrl(cell, cell, xs, lambda t, h: h.sum() if t == 3 else None)
    h = nn.unroll(cell, xs).state
    for b in range(3):
        for k in range(2):
            row = np.concatenate([g.ravel() for g in tg.grad(h[b, k], list(cell.parameters()))])
            np.testing.assert_allclose(found.influence[b, k], row, atol=1e-14)


def test_rtrl_of_a_function_and_a_tree_in_float32():
    params = {"W": tg.tensor(0.5 * np.eye(2, dtype=np.float32), requires_grad=True)}
    xs = np.ones((4, 1, 2), np.float32)
    found = bptt.rtrl(
        lambda x, h: (tg.tanh(h @ params["W"] + x),) * 2, params, xs, lambda t, h: h.sum(), xs[0]
    )
    roll = nn.unroll(lambda x, h: (tg.tanh(h @ params["W"] + x),) * 2, xs, xs[0])
    assert found.gradients["W"].dtype == np.float32
    np.testing.assert_allclose(found.gradients["W"], tg.grad(roll.outputs.sum(), [params["W"]])[0], rtol=1e-5)
    assert found.loss == pytest.approx(roll.outputs.sum().item())


def test_mistakes_in_rtrl():
    cell, xs = nn.RNNCell(2, H, seed=0), np.ones((3, 1, 2))
    with pytest.raises(GraphError, match="no timestep has a loss"):
        bptt.rtrl(cell, cell, xs, lambda t, h: None)
    with pytest.raises(ShapeError, match=r"loss of timestep 0 must be one number as a Tensor, not \(1, 3\)"):
        bptt.rtrl(cell, cell, xs, lambda t, h: h)
    with pytest.raises(GraphError, match="leaf 0 of params is no Tensor that requires"):
        bptt.rtrl(cell, {"W": np.ones(2)}, xs, lambda t, h: h.sum())
    with pytest.raises(GraphError, match="nothing in params"):
        bptt.rtrl(cell, {}, xs, lambda t, h: h.sum())
    with pytest.raises(ShapeError, match="at least one timestep"):
        bptt.rtrl(cell, cell, xs[:0], lambda t, h: h.sum())


def test_a_wrong_rule_shows_up_as_a_difference_from_rtrl():
    """Forward and reverse share the rules, not the recursion: a state cut off from its past shows."""
    W = tg.tensor(0.5 * np.eye(2), requires_grad=True)
    xs = np.ones((4, 1, 2))
    cut = lambda x, h: (tg.tanh(nn.detach(h) @ W + x),) * 2  # noqa: E731
    whole = lambda x, h: (tg.tanh(h @ W + x),) * 2  # noqa: E731
    right = bptt.rtrl(whole, [W], xs, lambda t, h: h.sum(), np.zeros((1, 2))).gradients[0]
    dropped = tg.grad(nn.unroll(cut, xs, tg.tensor(np.zeros((1, 2)))).outputs.sum(), [W])[0]
    assert norm_error(dropped, right) > 0.01
