"""Gradients through time: against closed forms, against finite differences, and against each other."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tensorgrad as tg
from tensorgrad import bptt, nn
from tensorgrad.check import norm_error
from tensorgrad.errors import GraphError, UserError

H = 3


class TwoRates(nn.Module):
    """A cell of the test's own: its state is a dict with a counter in it, and nothing is labelled."""

    def __init__(self, D: int = 2, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        self.W = nn.Parameter(rng.normal(size=(D, H)))
        self.U = nn.Parameter(0.7 * rng.normal(size=(H, H)))
        self.w = nn.Parameter(rng.normal(size=H))

    def initial_state(self, x: Any) -> Any:
        shape = (*x.shape[:-1], H)
        return {"fast": np.zeros(shape), "slow": np.zeros(shape), "count": np.zeros(shape[:-1], int)}

    def forward(self, x: Any, state: Any = None) -> Any:
        fast, slow, count = (state or self.initial_state(x)).values()
        new = tg.tanh(x @ self.W + (fast + slow) @ self.U)
        slow = 0.9 * slow + 0.1 * self.w * tg.sigmoid(new)
        return new * slow, {"fast": new, "slow": slow, "count": count + 1}


def linear_cell(W: Any) -> Any:
    def cell(x: Any, h: Any) -> Any:
        h = tg.label(h @ W + x, "h")
        return h, h

    return cell


def run_of(name: str, T: int = 5, B: int = 2, **options: Any) -> tuple[Any, nn.Unrolled]:
    cell = TwoRates() if name == "own" else nn.make_cell(name, 2, H, seed=0)
    xs = np.random.default_rng(1).normal(size=(T, B, 2))
    return cell, nn.unroll(cell, xs, **options)


def loss_of(roll: Any) -> Any:
    weights = np.random.default_rng(2).normal(size=roll.outputs.shape)
    return (roll.outputs**2 * weights).sum()


EVERY_CELL = pytest.mark.parametrize("name", [*nn.CELLS, "own"])


# --- the flow of the gradient -----------------------------------------------------------------------------
def test_flow_of_a_linear_network_is_a_power_of_its_matrix():
    W = np.array([[0.5, 0.3], [-0.2, 0.8]])
    roll = nn.unroll(linear_cell(tg.tensor(W, requires_grad=True)), np.ones((6, 1, 2)), np.ones((1, 2)))
    flow = bptt.gradient_flow(roll.state.sum(), roll)
    expected = [np.linalg.matrix_power(W, 5 - t) @ np.ones(2) for t in range(6)]
    np.testing.assert_allclose(flow.gradients["h"][:, 0], expected, rtol=1e-13)
    np.testing.assert_allclose(flow.norms["h"], np.linalg.norm(expected, axis=1), rtol=1e-13)
    np.testing.assert_allclose(flow.per_unit("h"), np.abs(expected), rtol=1e-13)
    ratio = np.linalg.norm(expected[0]) / np.linalg.norm(expected[5])
    assert flow.factor("h") == pytest.approx(ratio**0.2)


def test_flow_against_finite_differences():
    cell = nn.GRUCell(2, H, seed=0)
    xs = np.random.default_rng(0).normal(size=(5, 2, 2))

    def rest(h: Any, t: int) -> Any:
        return (nn.unroll(cell, xs[t + 1 :], h).outputs ** 3).sum()

    roll = nn.unroll(cell, xs)
    flow = bptt.gradient_flow((roll.outputs**3).sum(), roll)
    for t in (0, 2, 3):
        h = roll.steps[t]["h"].numpy()
        numeric = np.zeros_like(h)
        for i in np.ndindex(*h.shape):
            e = np.zeros_like(h)
            e[i] = 1e-6
            numeric[i] = (rest(h + e, t).item() - rest(h - e, t).item()) / 2e-6
        # The loss of step t itself, and that of the steps after it.
        np.testing.assert_allclose(flow.gradients["h"][t], 3 * h**2 + numeric, atol=1e-8)


@EVERY_CELL
def test_flow_is_what_grad_says(name: str):
    _, roll = run_of(name)
    loss = loss_of(roll)
    flow = bptt.gradient_flow(loss, roll)
    leaves = [x for x in tg.tree.leaves(roll.states[3]) if isinstance(x, tg.Tensor) and x.requires_grad]
    assert len(flow.gradients) == len(leaves) == len({*flow.gradients})
    for g, expected in zip(flow.gradients.values(), tg.grad(loss, leaves), strict=True):
        np.testing.assert_array_equal(g[2], expected)


def test_flow_of_labels_layers_and_sequences_of_one():
    _, roll = run_of("lstm")
    flow = bptt.gradient_flow(loss_of(roll), roll, of=["f", "output"])
    assert [*flow.gradients] == ["f", "output"]
    layers = nn.LSTM(2, H, num_layers=2, bidirectional=True, seed=0).unroll(np.ones((4, 2, 2)))
    flow = bptt.gradient_flow(layers.outputs.sum(), layers)
    assert sorted(flow.gradients) == sorted(
        f"{layer}.{part}" for layer in ("l0", "l0_reverse", "l1", "l1_reverse") for part in "ch"
    )
    expected = tg.grad(layers.outputs.sum(), [layers.layers["l0_reverse"].steps[1]["c"]])[0]
    np.testing.assert_array_equal(flow.gradients["l0_reverse.c"][1], expected)
    one = nn.unroll(nn.RNNCell(2, H, seed=0), np.ones((4, 2)))
    flow = bptt.gradient_flow(one.outputs.sum(), one)
    assert flow.gradients["h"].shape == flow.per_unit("h").shape == (4, H)


def test_flow_where_the_loss_ends_early_and_where_sequences_do():
    _, roll = run_of("rnn")
    flow = bptt.gradient_flow(roll.steps[2]["h"].sum(), roll)
    assert (flow.norms["h"][3:] == 0).all()
    assert (flow.norms["h"][:3] > 0).all()
    assert 0 < flow.factor("h") < 1
    _, roll = run_of("rnn", lengths=[5, 2])
    g = bptt.gradient_flow(roll.state.sum(), roll).gradients["h"]
    np.testing.assert_array_equal(g[1:, 1], np.ones((4, H)))
    assert bptt.gradient_flow(roll.steps[0]["h"].sum(), roll).factor("h") == 1.0


def test_the_dtype_stays():
    cell = nn.LSTMCell(2, H, seed=0, dtype=np.float32)
    roll = nn.unroll(cell, np.ones((4, 2, 2), np.float32))
    loss = roll.outputs.sum()
    assert bptt.gradient_flow(loss, roll).gradients["c"].dtype == np.float32
    parts = bptt.contributions(loss, cell.weight_hh, roll)
    assert parts.shares.dtype == parts.rest.dtype == np.float32
    assert bptt.state_jacobians(roll).values.dtype == np.float32
    assert bptt.truncation_horizon(loss, cell, roll).errors[-1] < 1e-6


# --- items -------------------------------------------------------------------------------------------------
def test_items_of_a_linear_network():
    W = np.array([[0.5, 0.3], [-0.2, 0.8]])
    roll = nn.unroll(linear_cell(tg.tensor(W, requires_grad=True)), np.ones((5, 1, 2)), np.ones((1, 2)))
    items = bptt.itemised(roll.outputs.sum(), roll)
    for i in range(5):
        for j in range(5):
            power = np.linalg.matrix_power(W, i - j) @ np.ones(2) if j <= i else np.zeros(2)
            assert items.norms["h"][i, j] == pytest.approx(np.linalg.norm(power), rel=1e-13)


@pytest.mark.parametrize("form", ["each", "at once", "scoped", "running"])
def test_items_are_the_gradients_of_the_losses_of_the_timesteps(form: str):
    _, roll = run_of("lstm", T=4)
    W_y = tg.tensor(np.random.default_rng(3).normal(size=(H, 5)), requires_grad=True)
    ys = np.random.default_rng(4).integers(0, 5, size=(4, 2))
    each: list[Any] = []
    running: Any = 0
    for t in range(4):
        with tg.scope(f"t={t}" if form in ("scoped", "running") else "loss"):
            each.append(tg.cross_entropy(roll.steps[t]["h"] @ W_y, ys[t]) / 4)
            running = running + each[-1]
    loss = tg.cross_entropy(roll.outputs @ W_y, ys) if form == "at once" else tg.stack(each).sum()
    loss = running if form == "running" else loss
    items = bptt.itemised(loss, roll)
    for name in "hc":
        for j in range(4):
            for i in range(4):
                g = tg.grad(each[i], [roll.steps[j][name]])[0]
                assert items.norms[name][i, j] == pytest.approx(np.linalg.norm(g), rel=1e-12, abs=1e-300)
    np.testing.assert_allclose(items.total["h"], bptt.gradient_flow(loss, roll).norms["h"])


def test_items_that_cancel_are_told_from_vanishing():
    one = tg.tensor([[1.0]], requires_grad=True)
    roll = nn.unroll(linear_cell(one), np.ones((6, 1, 1)), np.zeros((1, 1)))
    signs = np.array([1.0, -1, 1, -1, 1, -1])[:, None, None]
    items = bptt.itemised((roll.outputs * signs).sum(), roll)
    np.testing.assert_array_equal(items.norms["h"], np.tri(6))
    np.testing.assert_allclose(items.kept("h"), [0, 1 / 5, 0, 1 / 3, 0, 1], atol=1e-15)
    early = bptt.itemised(roll.steps[2]["h"].sum(), roll)
    assert np.isnan(early.kept("h")[3:]).all()


@EVERY_CELL
def test_items_are_products_of_jacobians(name: str):
    """dL_i/ds_j is what enters the state of step i, times the Jacobians in between."""
    _, roll = run_of(name, T=4, B=1)
    loss = (roll.state if isinstance(roll.state, tg.Tensor) else tg.tree.leaves(roll.state)[0]).sum()
    items = bptt.itemised(loss, roll)
    J = bptt.state_jacobians(roll)
    first = next(iter(J.parts.values()))
    for j in range(4):
        g = J.product(j, 3)[0][first].sum(axis=0)
        leaves = [x for x in tg.tree.leaves(roll.states[j + 1]) if isinstance(x, tg.Tensor)]
        # One part of a state may be made of another, as h of c: dL/dc counts what goes through h as well.
        along = sum((x[0] * g[where]).sum() for x, where in zip(leaves, J.parts.values(), strict=True))
        for (part, _), total in zip(J.parts.items(), tg.grad(along, leaves), strict=True):
            assert items.norms[part][3, j] == pytest.approx(np.linalg.norm(total), rel=1e-12, abs=1e-15)


# --- contributions -----------------------------------------------------------------------------------------
@settings(max_examples=25, deadline=None)
@given(
    name=st.sampled_from([*nn.CELLS, "own"]),
    T=st.integers(1, 5),
    B=st.integers(1, 3),
    seed=st.integers(0, 99),
    masked=st.booleans(),
    reverse=st.booleans(),
)
def test_contributions_add_up_to_the_gradient(
    name: str, T: int, B: int, seed: int, masked: bool, reverse: bool
):
    rng = np.random.default_rng(seed)
    cell = TwoRates(seed=seed) if name == "own" else nn.make_cell(name, 2, H, seed=seed)
    lengths = rng.integers(1, T + 1, size=B) if masked else None
    roll = nn.unroll(cell, rng.normal(size=(T, B, 2)), lengths=lengths, reverse=reverse)
    loss = (roll.outputs**2 * rng.normal(size=roll.outputs.shape)).sum()
    for parameter in cell.parameters():
        (g,) = tg.grad(loss, [parameter])
        if not g.any():
            continue
        parts = bptt.contributions(loss, parameter, roll)
        assert parts.shares.shape == (T, *parameter.shape)
        assert norm_error(parts.total, g) < 1e-12
        assert not parts.rest.any()
        assert parts.along.sum() == pytest.approx(1)
        if lengths is not None:
            ended = np.arange(T) >= max(lengths)
            assert not parts.norms[ended].any()


def test_contributions_of_a_weight_are_outer_products():
    """What a backward written by hand adds to dW_hh at timestep t: da_t and h_{t-1}."""
    cell, roll = run_of("rnn", T=6)
    loss = loss_of(roll)
    parts = bptt.contributions(loss, cell.weight_hh, roll)
    da = tg.grad(loss, [step["a"] for step in roll.steps])
    for t in range(6):
        before = roll.steps[t - 1]["h"].numpy() if t else np.zeros((2, H))
        np.testing.assert_allclose(parts.shares[t], da[t].T @ before, atol=1e-15)
    assert parts.norms[0] == 0


def test_contributions_through_what_was_made_outside_the_steps():
    rng = np.random.default_rng(0)
    W, E = (tg.tensor(rng.normal(size=(H, H)), requires_grad=True) for _ in range(2))
    mask = np.triu(np.ones((H, H)))
    tokens = np.array([[0, 1], [1, 1], [2, 0], [2, 2]])
    masked = W * mask
    roll = nn.unroll(lambda x, h: (tg.tanh(x + h @ masked),) * 2, E[tokens], np.zeros((2, H)))
    loss = (roll.outputs**2).sum() + (W * W).sum()
    parts = bptt.contributions(loss, W, roll)
    np.testing.assert_allclose(parts.rest, 2 * W.numpy())
    assert not parts.shares[0].any()
    assert parts.shares[1:].any(axis=(1, 2)).all()
    np.testing.assert_allclose(parts.total, tg.grad(loss, [W])[0])
    embedded = bptt.contributions(loss, E, roll)
    np.testing.assert_allclose(embedded.total, tg.grad(loss, [E])[0])
    for t in range(4):
        assert sorted(np.flatnonzero(embedded.shares[t].any(axis=1))) == sorted(set(tokens[t]))


def test_contributions_in_layers_and_of_a_readout():
    net = nn.Recurrent(lambda D: nn.make_cell("gru", D, H, seed=0), 2, num_layers=2, bidirectional=True)
    readout = nn.Linear(2 * H, 1, seed=0)
    roll = net.unroll(np.random.default_rng(0).normal(size=(4, 2, 2)), lengths=[4, 2])
    at_once, each = readout(roll.outputs).sum(), []
    for t in range(4):
        with tg.scope(f"t={t}"):
            each.append(readout(roll.outputs[t]).sum())
    for loss, split in ((at_once, False), (tg.stack(each).sum(), True)):
        for parameter in [*net.parameters(), *readout.parameters()]:
            parts = bptt.contributions(loss, parameter, roll)
            assert norm_error(parts.total, tg.grad(loss, [parameter])[0]) < 1e-12
        assert parts.shares.any() == split
        assert parts.rest.any() == (not split)


def test_an_encoder_and_a_decoder():
    there, back = nn.GRUCell(2, H, seed=0), nn.GRUCell(2, H, seed=1)
    xs = np.random.default_rng(0).normal(size=(5, 2, 2))
    for names in (("encoder", "decoder"), ("", "")):
        with tg.scope(names[0]) if names[0] else nullcontext():
            encoded = nn.unroll(there, xs)
        with tg.scope(names[1]) if names[1] else nullcontext():
            decoded = nn.unroll(back, xs[:3], encoded.state)
        loss = (decoded.outputs**2).sum()
        parts = bptt.contributions(loss, there.weight_hh, encoded)
        assert norm_error(parts.total, tg.grad(loss, [there.weight_hh])[0]) < 1e-12
        assert np.flatnonzero(parts.norms).tolist() == [1, 2, 3, 4]
        # The decoder feeds the encoder through its last state alone.
        items = bptt.itemised(loss, encoded).norms["h"]
        assert np.flatnonzero(items.any(axis=1)).tolist() == [4]
        np.testing.assert_allclose(items[4], bptt.gradient_flow(loss, encoded).norms["h"])
        if names[0]:
            # By way of the decoder's first timestep, which the encoder's state enters.
            shares = bptt.contributions(loss, there.weight_hh, decoded)
            assert np.flatnonzero(shares.norms).tolist() == [0]
            np.testing.assert_allclose(shares.total, parts.total, rtol=1e-12, atol=1e-16)


def test_an_initial_state_belongs_to_the_first_timestep():
    h0 = tg.tensor(np.ones((2, H)), requires_grad=True)
    for reverse, first in ((False, 0), (True, 4)):
        _, roll = run_of("gru", state=h0, reverse=reverse)
        parts = bptt.contributions(loss_of(roll), h0, roll)
        assert np.flatnonzero(parts.norms).tolist() == [first]


def test_hooks_act_once():
    cell, roll = run_of("rnn")
    for step in roll.steps:
        step["h"].register_hook(lambda g: g * 0.5)
    loss = loss_of(roll)
    parts = bptt.contributions(loss, cell.weight_hh, roll)
    assert norm_error(parts.total, tg.grad(loss, [cell.weight_hh])[0]) < 1e-12
    items = bptt.itemised(roll.steps[-1]["h"].sum(), roll)
    np.testing.assert_allclose(items.norms["h"][-1], items.total["h"])


# --- the horizon of truncation -----------------------------------------------------------------------------
@pytest.mark.parametrize("name", ["rnn", "lstm", "own"])
def test_horizon_against_runs_that_start_late(name: str):
    """The gradient truncated after k steps, from separate short runs: one for each timestep's loss."""
    T = 5
    cell, roll = run_of(name, T=T)
    xs = np.random.default_rng(1).normal(size=(T, 2, 2))
    loss = (roll.outputs**2).sum()
    parameters = list(cell.parameters())
    whole = np.concatenate([g.ravel() for g in tg.grad(loss, parameters)])
    found = bptt.truncation_horizon(loss, cell, roll)
    np.testing.assert_array_equal(found.steps, [1, 2, 3, 4, 5])
    for k in range(1, T + 1):
        total = np.zeros_like(whole)
        for i in range(T):
            start = max(0, i - k + 1)
            state = nn.detach(roll.states[start]) if start else None
            short = nn.unroll(cell, xs[start : i + 1], state)
            grads = tg.grad((short.outputs[-1] ** 2).sum(), parameters)
            total += np.concatenate([g.ravel() for g in grads])
        error = np.linalg.norm(total - whole) / np.linalg.norm(whole)
        assert found.errors[k - 1] == pytest.approx(error, rel=1e-10, abs=1e-13)
        cosine = total @ whole / np.linalg.norm(total) / np.linalg.norm(whole)
        assert found.cosines[k - 1] == pytest.approx(cosine, rel=1e-10)
    assert found.errors[-1] < 1e-14


def test_horizon_is_short_where_gradients_vanish_and_long_where_not():
    horizons = {}
    for scale in (0.3, 1.0):
        W = tg.tensor(scale * np.eye(2), requires_grad=True)
        roll = nn.unroll(linear_cell(W), np.ones((40, 1, 2)), np.zeros((1, 2)))
        horizons[scale] = bptt.truncation_horizon(roll.state.sum(), W, roll).within(0.01)
    assert horizons[0.3] < 8
    assert horizons[1.0] > 30


def test_within_is_where_the_error_stays_low():
    horizon = bptt.Horizon(np.arange(1, 5), np.array([0.5, 0.05, 0.2, 0.0]), np.ones(4))
    assert (horizon.within(0.1), horizon.within(0.3), horizon.within(1.0)) == (4, 2, 1)


# --- saturation --------------------------------------------------------------------------------------------
def test_saturation_counts_units_at_both_ends():
    a = np.array([[[-9.0, -0.2, 9.0]], [[-9.0, 9.0, 9.0]]])

    def cell(x: Any, h: Any) -> Any:
        h = tg.tanh(x * one) * tg.sigmoid(-x * one)
        return h, h

    one = tg.tensor(1.0, requires_grad=True)
    found = bptt.saturation(nn.unroll(cell, a, np.zeros((1, 3))))
    assert sorted(found.low) == ["sigmoid", "tanh"]
    np.testing.assert_array_equal(found.low["tanh"], [[1, 0, 0], [1, 0, 0]])
    np.testing.assert_array_equal(found.high["tanh"], [[0, 0, 1], [0, 1, 1]])
    np.testing.assert_array_equal(found.low["sigmoid"], found.high["tanh"])
    np.testing.assert_allclose(found.over_time["tanh"], [2 / 3, 1])


def test_saturation_of_layers_masks_and_cells_with_several_of_a_name():
    roll = nn.LSTM(2, H, num_layers=2, seed=0).unroll(np.ones((4, 2, 2)), lengths=[2, 3])
    found = bptt.saturation(roll)
    assert sorted(found.low) == sorted(
        f"{n}.{x}" for n in ("l0", "l1") for x in ("i", "f", "g", "o", "tanh(c)")
    )
    assert np.isnan(found.low["l1.f"][3]).all()
    assert np.isfinite(found.low["l1.f"][:3]).all()
    ended = np.array([[[9.0], [0.0]], [[0.0], [9.0]]])
    one = tg.tensor(1.0, requires_grad=True)
    roll = nn.unroll(lambda x, h: (tg.tanh(x * one),) * 2, ended, np.zeros((2, 1)), lengths=[1, 2])
    np.testing.assert_array_equal(bptt.saturation(roll).high["tanh"], [[0.5], [1.0]])
    roll = nn.unroll(lambda x, h: (tg.tanh(x + 9 * one),) * 2, ended, np.zeros((2, 1)), lengths=[1, 2])
    np.testing.assert_array_equal(bptt.saturation(roll).high["tanh"], [[1.0], [1.0]])
    roll = nn.unroll(lambda x, h: (tg.tanh(tg.tanh(tg.tanh(x * one))),) * 2, ended, np.zeros((2, 1)))
    assert [*bptt.saturation(roll).low] == ["tanh #1", "tanh #2", "state"]


@pytest.mark.parametrize("name", ["rnn", "lstm", "peephole", "lnlstm", "gru", "mgu", "mingru", "own"])
def test_saturation_of_every_cell_with_a_gate(name: str):
    found = bptt.saturation(run_of(name)[1])
    assert all(((x >= 0) & (x <= 1)).all() for x in [*found.low.values(), *found.high.values()])


# --- mistakes ----------------------------------------------------------------------------------------------
STUDIES = {
    "gradient_flow": lambda loss, roll, cell: bptt.gradient_flow(loss, roll),
    "itemised": lambda loss, roll, cell: bptt.itemised(loss, roll),
    "contributions": lambda loss, roll, cell: bptt.contributions(loss, cell.weight_hh, roll),
    "truncation_horizon": lambda loss, roll, cell: bptt.truncation_horizon(loss, cell, roll),
    "state_jacobians": lambda loss, roll, cell: bptt.state_jacobians(roll),
    "saturation": lambda loss, roll, cell: bptt.saturation(roll),
}
EVERY = pytest.mark.parametrize("name", STUDIES)


@EVERY
def test_what_is_no_run(name: str):
    cell, roll = run_of("rnn")
    with pytest.raises(GraphError, match=f"{name}: the run is what nn.unroll.*not Tensor"):
        STUDIES[name](roll.outputs.sum(), roll.outputs, cell)


@EVERY
def test_runs_in_checkpointed_pieces(name: str):
    cell, roll = run_of("rnn", checkpoint=2)
    with pytest.raises(GraphError, match="was made with checkpoint="):
        STUDIES[name](roll.outputs.sum(), roll, cell)
    assert bptt.gradient_flow(roll.outputs.sum(), roll, of="output").norms["output"].shape == (5,)


@EVERY
def test_runs_without_a_record(name: str):
    with tg.no_grad():
        cell, roll = run_of("rnn")
        loss = roll.outputs.sum()
    with pytest.raises(GraphError, match=r"no_grad|no part of the graph"):
        STUDIES[name](loss, roll, cell)


@pytest.mark.parametrize("name", ["gradient_flow", "itemised", "contributions", "truncation_horizon"])
def test_losses_of_something_else(name: str):
    cell, roll = run_of("rnn")
    other = run_of("rnn")[1]
    with pytest.raises(GraphError, match=r"does not depend on this run|no part of the graph"):
        STUDIES[name](other.outputs.sum(), roll, cell)
    with pytest.raises(GraphError, match=r"not float|no part of the graph"):
        STUDIES[name](1.5, roll, cell)
    with pytest.raises(tg.ShapeError, match="is not one number"):
        STUDIES[name](roll.outputs, roll, cell)


def test_labels_and_tensors_that_are_not_there():
    _, roll = run_of("rnn")
    loss = loss_of(roll)
    with pytest.raises(GraphError, match="nothing is labelled 'c' at timestep 0; labels there are"):
        bptt.gradient_flow(loss, roll, of="c")
    with pytest.raises(GraphError, match="'x' of timestep 0 does not require"):
        bptt.gradient_flow(loss, roll, of="x")
    with pytest.raises(GraphError, match="was made by timestep 2 itself"):
        bptt.contributions(loss, roll.steps[2]["h"], roll)
    with pytest.raises(GraphError, match="no part of the graph of the loss"):
        bptt.contributions(loss, tg.tensor(1.0, requires_grad=True), roll)
    with pytest.raises(GraphError, match="give a Tensor that requires a gradient, not ndarray"):
        bptt.contributions(loss, np.ones(3), roll)
    with pytest.raises(GraphError, match="wrt is a Tensor, several, or a Module, not float"):
        bptt.truncation_horizon(loss, 1.0, roll)
    with pytest.raises(UserError, match=r"between 0 and 0\.5, not 0\.5"):
        bptt.saturation(roll, tail=0.5)


def test_a_step_that_is_checkpointed_inside():
    cell = nn.RNNCell(2, H, seed=0)
    roll = nn.unroll(lambda x, h: tg.checkpoint(cell, x, h), np.ones((3, 1, 2)), np.zeros((1, H)))
    with pytest.raises(GraphError, match=r"the cell calls tg\.checkpoint in timestep 0"):
        bptt.contributions(roll.outputs.sum(), cell.weight_hh, roll)
    plain = nn.unroll(cell, np.ones((3, 1, 2)), np.zeros((1, H)))
    np.testing.assert_array_equal(bptt.state_jacobians(roll).values, bptt.state_jacobians(plain).values)
    flows = [bptt.gradient_flow((r.outputs**2).sum(), r) for r in (roll, plain)]
    np.testing.assert_array_equal(flows[0].norms["h"], flows[1].norms["h"])


def test_a_readout_that_is_checkpointed():
    cell, roll = run_of("rnn")
    readout = nn.Linear(H, 4, seed=0)
    found = []
    for read in (readout, lambda h: tg.checkpoint(readout, h)):
        loss = (read(roll.outputs) ** 2).sum() + (cell.weight_hh**2).sum()
        parts = bptt.contributions(loss, cell.weight_hh, roll)
        found.append((bptt.itemised(loss, roll).norms["h"], parts.shares, parts.rest))
    for plain, checkpointed in zip(*found, strict=True):
        assert plain.any()
        np.testing.assert_array_equal(plain, checkpointed)
