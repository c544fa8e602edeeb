"""Cells and unrolling: against PyTorch, central differences, and what must not matter (padding, labels)."""

from __future__ import annotations

import gc
import weakref

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tensorgrad as tg
from tensorgrad import nn, tree

CELLS = nn.CELLS
PYTORCHS = ("rnn", "lstm", "gru")
LABELS = {
    "rnn": "a h",
    "irnn": "a h",
    "indrnn": "a h",
    "lstm": "a i f g o c h",
    "peephole": "a i f g o c h",
    "lnlstm": "a i f g o c h",
    "slstm": "a i f z o c n m h",
    "gru": "r z n h",
    "mgu": "a f n h",
    "mingru": "a z n h",
    "minlstm": "a f i n h",
    "lru": "h_re h_im y",
}


def state_of(kind, B, H, seed=0, dtype=np.float64):
    """A state of a cell, every number drawn."""
    rng = np.random.default_rng(seed)
    parts = []
    for name in CELLS[kind].state_names:
        drawn = rng.standard_normal((B, H))
        # The normaliser of the sLSTM is a sum of exponentials.
        array = 0.5 + np.abs(drawn) if name == "n" else drawn
        parts.append(tg.tensor(array.astype(dtype), requires_grad=True, name=f"{name}0"))
    return tuple(parts) if len(parts) > 1 else parts[0]


def weighted(roll, seed=5):
    """A loss in which every output and every part of the last state counts differently."""
    rng = np.random.default_rng(seed)
    loss = (roll.outputs * rng.standard_normal(roll.outputs.shape)).sum()
    for leaf in tree.leaves(roll.state):
        loss = loss + (leaf * rng.standard_normal(leaf.shape)).sum()
    return loss


@pytest.mark.parametrize("kind", PYTORCHS)
@pytest.mark.parametrize("bias", [True, False])
def test_outputs_and_all_gradients_equal_pytorch(kind, bias):
    torch = pytest.importorskip("torch")
    T, B, D, H = 6, 3, 4, 5
    cell = nn.make_cell(kind, D, H, bias=bias, seed=0)
    twin = {"rnn": torch.nn.RNNCell, "lstm": torch.nn.LSTMCell, "gru": torch.nn.GRUCell}[kind](
        D, H, bias=bias, dtype=torch.float64
    )
    twin.load_state_dict({name: torch.tensor(a) for name, a in cell.state_dict().items()})
    xs = np.random.default_rng(1).standard_normal((T, B, D))
    state = state_of(kind, B, H)
    roll = nn.unroll(cell, xs, state)
    weighted(roll).backward()

    theirs = tree.map(lambda x: torch.tensor(x.numpy().copy(), requires_grad=True), state)
    s, outs = theirs, []
    for t in range(T):
        s = twin(torch.tensor(xs[t]), s)
        outs.append(s[0] if kind == "lstm" else s)
    rng = np.random.default_rng(5)
    loss = (torch.stack(outs) * torch.tensor(rng.standard_normal((T, B, H)))).sum()
    for leaf in tree.leaves(s):
        loss = loss + (leaf * torch.tensor(rng.standard_normal((B, H)))).sum()
    loss.backward()

    np.testing.assert_allclose(roll.outputs.numpy(), torch.stack(outs).detach().numpy(), atol=1e-12)
    for name, p in cell.named_parameters():
        assert tg.check.norm_error(p.grad, getattr(twin, name).grad.numpy()) < 1e-12, name
    for mine, other in zip(tree.leaves(state), tree.leaves(theirs), strict=True):
        assert tg.check.norm_error(mine.grad, other.grad.numpy()) < 1e-12


@pytest.mark.parametrize("kind", CELLS)
def test_first_and_second_derivatives_through_time(kind):
    """Every parameter, the inputs and every part of the state, each along a direction of its own."""
    T, B, D, H = 3, 2, 2, 2
    cell = nn.make_cell(kind, D, H, seed=0)
    rng = np.random.default_rng(0)
    everything = (cell, rng.standard_normal((T, B, D)), state_of(kind, B, H))
    leaves, form = tree.flatten(everything)
    leaves = [np.asarray(leaf) for leaf in leaves]
    directions = [rng.standard_normal(leaf.shape) for leaf in leaves]

    def run(distances):
        moved = [leaf + distances[k] * directions[k] for k, leaf in enumerate(leaves)]
        twin, xs, state = tree.unflatten(form, moved)
        roll = nn.unroll(twin, xs, state)
        ends = [leaf.reshape(1, B, H) for leaf in tree.leaves(roll.state)]
        return tg.concatenate([roll.outputs, *ends])

    tg.gradcheck(run, [np.zeros(len(leaves))], order=2)


@pytest.mark.parametrize("kind", CELLS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_dtypes_stay(kind, dtype):
    cell = nn.make_cell(kind, 3, 4, seed=0, dtype=dtype)
    roll = nn.unroll(cell, np.ones((3, 2, 3), dtype))
    roll.outputs.sum().backward()
    assert roll.outputs.dtype == dtype
    assert all(p.grad.dtype == dtype for p in cell.parameters())
    for step in roll.steps:
        assert all(t.dtype == dtype for t in step.values())


@pytest.mark.parametrize("kind", CELLS)
def test_every_step_has_its_scope_and_labels(kind):
    roll = nn.unroll(nn.make_cell(kind, 3, 4, seed=0), np.ones((3, 2, 3)))
    for t, step in enumerate(roll.steps):
        assert set(step) == {"x", "output", *LABELS[kind].split()}
        for name in LABELS[kind].split():
            assert (step[name].name, step[name].scope) == (name, f"t={t}")
    with tg.scope("encoder"):
        roll = nn.unroll(nn.make_cell(kind, 3, 4, seed=0), np.ones((2, 2, 3)))
    assert roll.steps[1]["output"].scope == "encoder/t=1"


@pytest.mark.parametrize("kind", CELLS)
def test_a_cell_is_saved_and_loaded_by_name(kind):
    cell, other = nn.make_cell(kind, 3, 4, seed=0), nn.make_cell(kind, 3, 4, seed=1)
    x = np.random.default_rng(0).standard_normal((2, 3))
    assert not np.array_equal(other(x)[0].numpy(), cell(x)[0].numpy())
    other.load_state_dict(cell.state_dict())
    np.testing.assert_array_equal(other(x)[0].numpy(), cell(x)[0].numpy())


@pytest.mark.parametrize("kind", CELLS)
def test_a_seed_makes_the_same_cell_again(kind):
    a, b = (nn.make_cell(kind, 3, 4, seed=5).state_dict() for _ in range(2))
    for name in a:
        np.testing.assert_array_equal(a[name], b[name])


@pytest.mark.parametrize("kind", CELLS)
def test_cells_run_on_plain_arrays_too(kind):
    cell = nn.make_cell(kind, 3, 4, seed=0)
    x = np.ones((2, 3))
    with tg.no_grad():
        quiet, _ = cell(x)
    assert not quiet.requires_grad
    np.testing.assert_array_equal(quiet.numpy(), cell(x)[0].numpy())


def test_a_plain_function_is_a_cell():
    W = tg.tensor(0.5 * np.eye(3), requires_grad=True)

    def cell(x, state):
        h = tg.tanh(x + state["h"] @ W)
        return h * 2, {"h": h, "seen": state["seen"] + 1}

    roll = nn.unroll(cell, np.ones((4, 2, 3)), {"h": np.zeros((2, 3)), "seen": tg.tensor(0.0)})
    assert roll.state["seen"].item() == 4
    assert {"x", "output", "state.h", "state.seen"} <= set(roll.steps[0])
    roll.outputs.sum().backward()
    assert W.grad.shape == (3, 3)


@settings(max_examples=40, deadline=None)
@given(
    kind=st.sampled_from(sorted(CELLS)),
    lengths=st.lists(st.integers(1, 5), min_size=1, max_size=4),
    reverse=st.booleans(),
    seed=st.integers(0, 2**32),
)
def test_results_do_not_depend_on_the_padding(kind, lengths, reverse, seed):
    rng = np.random.default_rng(seed)
    T, B, D, H = 5, len(lengths), 2, 3
    cell = nn.make_cell(kind, D, H, seed=0)
    xs = rng.standard_normal((T, B, D))
    other = xs.copy()
    for b, n in enumerate(lengths):
        other[n:, b] = rng.standard_normal((T - n, D)) * 1e3
    state = state_of(kind, B, H)
    results = []
    for each in (xs, other):
        cell.zero_grad()
        roll = nn.unroll(cell, each, state, lengths=lengths, reverse=reverse)
        weighted(roll).backward()
        results.append(
            [roll.outputs.numpy(), *(s.numpy() for s in tree.leaves(roll.state))]
            + [p.grad for p in cell.parameters()]
        )
    for a, b in zip(*results, strict=True):
        np.testing.assert_array_equal(a, b)
    # And each sequence gives what it gives alone.
    for b, n in enumerate(lengths):
        first = tree.map(lambda s, b=b: s[b : b + 1], state)
        if n:
            alone = nn.unroll(cell, xs[:n, b : b + 1], first, reverse=reverse)
            np.testing.assert_allclose(results[0][0][:n, b], alone.outputs.numpy()[:, 0], atol=1e-12)
            last = tree.leaves(alone.state)
        else:
            last = tree.leaves(first)
        for mine, other_leaf in zip(results[0][1:], last, strict=False):
            np.testing.assert_allclose(mine[b], other_leaf.numpy()[0], atol=1e-12)
        assert not results[0][0][n:, b].any()


@pytest.mark.parametrize("requires_grad", [False, True])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_padding_may_hold_what_is_no_number(bad, requires_grad):
    cell = nn.GRUCell(2, 3, seed=0)
    clean = np.random.default_rng(0).standard_normal((4, 2, 2))
    spoilt = clean.copy()
    spoilt[2:, 0] = bad
    results = []
    for xs in (tg.tensor(each, requires_grad=requires_grad) for each in (clean, spoilt)):
        loss = weighted(nn.unroll(cell, xs, lengths=[2, 4]))
        results.append(tg.grad(loss, cell.parameters() + [xs] * requires_grad))
    for a, b in zip(*results, strict=True):
        np.testing.assert_array_equal(a, b)


def test_padding_may_hold_ids_out_of_range():
    embedding, cell = nn.Embedding(5, 2, seed=0), nn.RNNCell(2, 3, seed=0)
    ids = np.array([[1, 4], [-1, 2]])
    roll = nn.unroll(lambda x, h: cell(embedding(x), h), ids, lengths=[1, 2])
    assert not roll.outputs.numpy()[1, 0].any()


def test_outputs_first_looked_at_under_no_grad_still_have_a_gradient():
    roll = nn.unroll(nn.RNNCell(2, 3, seed=0), np.ones((4, 1, 2)))
    with tg.no_grad():
        assert roll.outputs.shape == (4, 1, 3)
    assert roll.outputs.requires_grad
    with tg.no_grad():
        assert not nn.unroll(nn.RNNCell(2, 3, seed=0), np.ones((4, 1, 2))).outputs.requires_grad


def test_reverse_is_the_flipped_sequence():
    cell = nn.GRUCell(2, 3, seed=0)
    xs = np.random.default_rng(0).standard_normal((4, 2, 2))
    back = nn.unroll(cell, xs, reverse=True)
    forward = nn.unroll(cell, xs[::-1])
    np.testing.assert_array_equal(back.outputs.numpy(), forward.outputs.numpy()[::-1])
    assert back.steps[0]["h"].scope == "t=0"


def test_gradients_reach_the_inputs_and_cost_one_buffer():
    xs = tg.tensor(np.random.default_rng(0).standard_normal((4, 2, 3)), requires_grad=True)
    tg.gradcheck(lambda x: nn.unroll(nn.RNNCell(3, 2, seed=0), x).outputs, [xs], order=2)


def test_wrong_sizes_name_the_cell_the_timestep_and_the_shapes():
    cell = nn.LSTMCell(3, 4)
    with pytest.raises(tg.ShapeError, match=r"LSTMCell in scope 't=0'.*\(B, 3\).*\(2, 5\)"):
        nn.unroll(cell, np.ones((6, 2, 5)))
    with pytest.raises(tg.ShapeError, match=r"state \(7, 4\)"):
        cell(np.ones((2, 3)), (np.ones((7, 4)), np.ones((7, 4))))


def test_unroll_refuses_what_it_cannot_run():
    cell = nn.RNNCell(3, 4)
    with pytest.raises(tg.ShapeError, match="at least one timestep"):
        nn.unroll(cell, np.ones((0, 2, 3)))
    with pytest.raises(tg.ShapeError, match=r"\(output, state\)"):
        nn.unroll(lambda x, h: x, np.ones((2, 2, 3)))
    with pytest.raises(tg.ShapeError, match=r"lengths must lie in 1\.\.5"):
        nn.unroll(cell, np.ones((5, 2, 3)), lengths=[6, 1])
    with pytest.raises(tg.ShapeError, match="2 integers"):
        nn.unroll(cell, np.ones((5, 2, 3)), lengths=[1, 2, 3])
    with pytest.raises(tg.ShapeError, match="2 integers"):
        nn.unroll(cell, np.ones((5, 2, 3)), lengths=[1.0, 2.0])


def test_changing_the_inputs_after_the_forward_changes_nothing():
    cell = nn.RNNCell(3, 4, seed=0)
    xs = np.random.default_rng(0).standard_normal((5, 2, 3))
    results = []
    for spoil in (False, True):
        given_xs = xs.copy()
        loss = (nn.unroll(cell, given_xs).outputs ** 2).sum()
        if spoil:
            given_xs[:] = 1e6
        cell.zero_grad()
        loss.backward()
        results.append(cell.weight_ih.grad)
    np.testing.assert_array_equal(*results)


def test_an_unrolled_graph_dies_with_its_loss():
    cell = nn.LSTMCell(2, 3, seed=0)
    gc.disable()
    try:
        roll = nn.unroll(cell, np.ones((50, 1, 2)))
        loss = roll.outputs.sum()
        loss.backward()
        watched = [weakref.ref(step[name]) for step in roll.steps for name in ("h", "c", "a")]
        del roll, loss
        assert not any(ref() for ref in watched)
    finally:
        gc.enable()


def test_unrolling_leaves_nothing_to_the_collector():
    cells = [nn.make_cell(kind, 2, 3, seed=0) for kind in CELLS]
    gc.collect()
    gc.disable()
    try:
        for cell in cells:
            nn.unroll(cell, np.ones((5, 1, 2))).outputs.sum().backward()
        assert gc.collect() == 0
    finally:
        gc.enable()


def test_a_long_unrolled_graph_does_not_recurse():
    cell = nn.RNNCell(1, 2, seed=0)
    loss = nn.unroll(cell, np.ones((20_000, 1, 1))).state.sum()
    loss.backward()
    assert np.isfinite(cell.weight_hh.grad).all()


@pytest.mark.parametrize("kind", CELLS)
def test_checkpointing_each_segment_gives_the_same_bits(kind):
    cell = nn.make_cell(kind, 3, 4, seed=0)
    xs = np.random.default_rng(0).standard_normal((12, 2, 3))
    targets = np.random.default_rng(1).standard_normal((12, 2, 4))

    def run(segment):
        state, loss = state_of(kind, 2, 4), 0.0
        for t in range(0, 12, 4):
            outputs, state = segment(xs[t : t + 4], state)
            loss = loss + ((outputs - targets[t : t + 4]) ** 2).sum()
        cell.zero_grad()
        loss.backward()
        return [p.grad for p in cell.parameters()]

    def plain(x, state):
        roll = nn.unroll(cell, x, state)
        return roll.outputs, roll.state

    for a, b in zip(run(plain), run(lambda x, s: tg.checkpoint(plain, x, s)), strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_state_of_the_wrong_form_is_explained():
    x = np.ones((2, 3))
    with pytest.raises(
        tg.ShapeError, match=r"GRUCell in scope 't=0': the state is one Tensor \(B, H\), not tuple"
    ):
        nn.unroll(nn.GRUCell(3, 4), x[None], (np.ones((2, 4)), np.ones((2, 4))))
    for wrong in (np.ones((2, 4)), (np.ones((2, 4)),), (np.ones((2, 4)), None)):
        with pytest.raises(tg.ShapeError, match=r"LSTMCell: the state is a tuple \(h, c\)"):
            nn.LSTMCell(3, 4)(x, wrong)
    with pytest.raises(tg.ShapeError, match=r"the state \(2, 5\)"):
        nn.LSTMCell(3, 4)(x, (np.ones((2, 4)), np.ones((2, 5))))


@pytest.mark.parametrize("kind", CELLS)
def test_every_cell_explains_what_does_not_fit(kind):
    cell = nn.make_cell(kind, 3, 4)
    name = type(cell).__name__
    with pytest.raises(tg.ShapeError, match=rf"{name} in scope 't=0': expected an input \(B, 3\).*\(2, 5\)"):
        nn.unroll(cell, np.ones((6, 2, 5)))
    with pytest.raises(
        tg.ShapeError, match=rf"{name}: .* but the input has shape \(2, 3\) and the state \(7, 4\)"
    ):
        cell(np.ones((2, 3)), cell.initial_state(np.ones((7, 3))))
    with pytest.raises(
        tg.ShapeError, match=rf"{name}: the state is (one Tensor|a tuple \(.*\) of \d Tensors)"
    ):
        cell(np.ones((2, 3)), {"h": np.ones((2, 4))})
    with pytest.raises(tg.ShapeError, match=f"{name}: hidden_size must be a positive integer, not 0"):
        CELLS[kind](3, 0)


@pytest.mark.parametrize("kind", CELLS)
def test_mixed_precision_is_refused_not_widened(kind):
    cell = nn.make_cell(kind, 3, 4, dtype=np.float32)
    with pytest.raises(
        tg.DtypeError, match=r"weights are float32, but the input is float64.*astype\('float32'\)"
    ):
        cell(np.ones((2, 3)))
    with pytest.raises(tg.DtypeError, match="input is int64"):
        nn.make_cell(kind, 3, 4)(np.ones((2, 3), np.int64))
