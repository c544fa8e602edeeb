"""Checkpointed loops: what eager mode gives, in the memory of one piece."""

from __future__ import annotations

import itertools
import random
import runpy
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tensorgrad as tg
from tensorgrad import functional as F
from tensorgrad import nn, optim, tree
from tests.compile.common import assert_same, batch, check, tagger

LAYERS: dict[str, Any] = {"lstm": nn.LSTM, "gru": nn.GRU, "rnn": nn.RNN}
PIECES = [1, 2, 3, 5, "sqrt", 100]


def mean_square(core: Any, xs: Any, checkpoint: Any = None) -> Any:
    return (nn.unroll(core, xs, checkpoint=checkpoint).outputs ** 2).mean()


def room(step: tg.Compiled) -> int:
    """The bytes of the buffers at the last call."""
    ran = step._ran()
    return sum(b.nbytes for b in ran.make_buffers(*ran.sizes))


# --- the same results --------------------------------------------------------------------------------------
@pytest.mark.parametrize("cell", nn.CELLS)
def test_every_cell(cell: str) -> None:
    core = tagger(cell).core
    step = tg.value_and_grad(mean_square)
    compiled = tg.compile(step)
    for T, k in itertools.product((6, 7), (3, "sqrt")):
        xs = batch(T, 2)[0]
        assert_same(compiled(core, xs, checkpoint=k), step(core, xs, checkpoint=k))


WAYS = list(
    itertools.product(
        LAYERS, [1, 2], ["forward", "reverse", "bidirectional"], [False, True], [0.0, 0.3], PIECES
    )
)


# 19 of 432, in which 117 of the 129 pairs of choices meet.
@pytest.mark.parametrize(
    ("cell", "layers", "way", "ragged", "drop", "piece"), random.Random(23).sample(WAYS, 19)
)
def test_layers(cell: str, layers: int, way: str, ragged: bool, drop: float, piece: Any) -> None:
    def loss(net: Any, xs: Any, lengths: Any) -> Any:
        out, state = net(xs, None, lengths, way == "reverse", checkpoint=piece)
        return (out * out).mean() + sum((s * s).sum() for s in tree.leaves(state))

    def make() -> Any:
        bidirectional = way == "bidirectional"
        dropout = drop if layers > 1 else 0.0
        return LAYERS[cell](3, 4, layers, bidirectional=bidirectional, dropout=dropout, zoneout=drop, seed=1)

    plain, compiled = make(), make()
    eager, step = tg.value_and_grad(loss), tg.compile(tg.value_and_grad(loss))
    for T, B in ((7, 2), (10, 3), (9, 2), (2, 2), (1, 2), (7, 2)):
        xs, _, lengths = batch(T, B)
        given = (xs, lengths if ragged else None)
        assert_same(step(compiled, *given), eager(plain, *given))
    # T = 1, T that is no more than a piece, T that pieces divide, other T.
    assert step.cache_info().programs <= 4


def tree_cell(p: Any) -> Any:
    def cell(x: Any, s: Any) -> Any:
        a = tg.label(x @ p["W"] + s["h"] * p["alpha"], "a")
        h = tg.tanh(a) * tg.sigmoid(s["more"][0])
        return h * 2, {"h": h, "more": (s["more"][0] + 0.1 * h,)}

    return cell


def given(T: int) -> Any:
    rng = np.random.default_rng(T)
    shapes = {"W": (3, 3), "alpha": (3,), "xs": (T, 2, 3), "h0": (2, 3), "c0": (2, 3)}
    return {name: rng.standard_normal(shape) for name, shape in shapes.items()}


def tree_loss(p: Any, k: Any) -> Any:
    roll = nn.unroll(tree_cell(p), p["xs"], {"h": p["h0"], "more": (p["c0"],)}, checkpoint=k)
    ends = (roll.state["h"] * roll.state["more"][0]).sum()
    return (roll.outputs**2).mean() + ends + roll.outputs[0].sum()


@pytest.mark.parametrize("T", [1, 3, 12, 13])
def test_states_of_any_form(T: int) -> None:
    """Gradients of inputs and first states, final states that are read, labels, values without gradients."""
    check(lambda p: tg.value_and_grad(tree_loss)(p, 4), given(T))
    check(lambda p: tree_loss(p, 4), given(T))
    check(lambda p: tg.value_and_grad(lambda p: tree_loss(p, 4) + tree_loss(p, None))(p), given(T))


@pytest.mark.parametrize("T", [12, 13])
def test_a_state_that_is_a_number(T: int) -> None:
    def loss(p: Any) -> Any:
        def cell(x: Any, s: Any) -> Any:
            h = tg.tanh(x @ p["W"] + s[0] * s[1])
            return h, (h, s[1] * 0.9)

        roll = nn.unroll(cell, p["xs"], (p["h0"], 1.0), checkpoint=4)
        return (roll.outputs**2).mean() + (roll.state[0] * roll.state[1]).sum()

    check(tg.value_and_grad(loss), given(T))


@pytest.mark.parametrize("T", [12, 13])
def test_gradients_of_gradients(T: int) -> None:
    def slopes(p: Any) -> Any:
        return sum((g * g).sum() for g in tree.leaves(tg.value_and_grad(tree_loss)(p, 4)[1]))

    check(tg.value_and_grad(slopes), given(T))
    check(lambda p: tg.hvp(lambda W: tree_loss({**p, "W": W}, 4), [p["W"]], [p["W"] / 2]), given(T))


@pytest.mark.parametrize("T", [6, 7])
def test_a_run_within_a_cell_and_one_after_another(T: int) -> None:
    def loss(p: Any) -> Any:
        def once(x: Any, s: Any) -> Any:
            h = tg.tanh(x @ p["W"] + s)
            return h, h

        def cell(x: Any, s: Any) -> Any:
            roll = nn.unroll(once, tg.stack([x, x * 2, x * 3]), s, checkpoint=2)
            return roll.outputs.sum(0), roll.state

        first = nn.unroll(cell, p["xs"], p["h0"], checkpoint=3)
        second = nn.unroll(once, first.outputs, first.state, reverse=True, checkpoint=3)
        return (second.outputs * first.outputs).mean() + second.state.sum()

    check(tg.value_and_grad(loss), given(T))


@pytest.mark.parametrize("T", [6, 7])
def test_lookups(T: int) -> None:
    def loss(p: Any, ids: Any) -> Any:
        def cell(x: Any, s: Any) -> Any:
            h = tg.tanh(p["W"][x] + s @ p["W"])
            return h, h

        return (nn.unroll(cell, ids, p["h0"], checkpoint=3).outputs ** 2).mean()

    check(tg.value_and_grad(loss), given(T), batch(T, 2, V=3)[1])


def test_a_length_made_of_another() -> None:
    def loss(p: Any) -> Any:
        def cell(x: Any, s: Any) -> Any:
            h = tg.tanh(x @ p["W"] + s)
            return h, h

        twice = nn.unroll(cell, tg.concatenate([p["xs"], p["xs"]]), p["h0"], checkpoint=3)
        return (twice.outputs**2).mean() + nn.unroll(cell, p["xs"][1:], p["h0"], checkpoint=3).state.sum()

    step = tg.compile(tg.value_and_grad(loss))
    for T in (10, 13, 11, 12):
        assert_same(step(given(T)), tg.value_and_grad(loss)(given(T)))
    assert step.cache_info().programs == 3
    assert "(2 * T)" in step.source


@pytest.mark.parametrize("axis", [0, 1])
def test_outputs_beside_others_in_another_shape(axis: int) -> None:
    """Pieces are written into a concatenation only where they lie there row by row."""

    def loss(p: Any, rows: Any) -> Any:
        def cell(x: Any, s: Any) -> Any:
            h = tg.tanh(x @ p["W"] + s)
            return h * 0.5, h

        outputs = nn.unroll(cell, p["xs"], p["h0"], checkpoint=4).outputs
        beside = tg.concatenate([outputs.reshape(-1, rows.shape[1]), rows], axis)
        return (beside * beside).sum()

    p = given(8)
    size = p["xs"][..., 0].size * p["h0"].shape[-1]
    check(tg.value_and_grad(loss), p, np.ones((size // 2, 2)))


def test_single_timesteps_that_are_read_are_kept() -> None:
    def loss(p: Any) -> Any:
        roll = nn.unroll(tree_cell(p), p["xs"], {"h": p["h0"], "more": (p["c0"],)}, checkpoint=4)
        return (roll.outputs**2).mean() + roll.steps[7]["a"].sum() + roll.states[5]["more"][0].sum()

    p = given(13)
    with pytest.raises(KeyError):
        # Eager mode has only the outputs of checkpointed timesteps.
        tg.value_and_grad(loss)(p)
    found = tg.compile(tg.value_and_grad(loss))(p)

    def unchecked(p: Any) -> Any:
        roll = nn.unroll(tree_cell(p), p["xs"], {"h": p["h0"], "more": (p["c0"],)})
        return (roll.outputs**2).mean() + roll.steps[7]["a"].sum() + roll.states[5]["more"][0].sum()

    assert_same(found, tg.value_and_grad(unchecked)(p))


@pytest.mark.parametrize("piece", [3, "sqrt"])
def test_a_training_step(piece: Any) -> None:
    def training() -> Any:
        net, out = nn.LSTM(3, 4, 2, dropout=0.2, recurrent_dropout=0.2, seed=0), nn.Linear(4, 5, seed=1)
        parameters = [*net.parameters(), *out.parameters()]
        adam = optim.Adam(parameters, lr=1e-2)

        def train(xs: Any, ys: Any) -> Any:
            adam.zero_grad()
            loss = F.cross_entropy(out(net(xs, checkpoint=piece)[0]), ys)
            loss.backward()
            norm = optim.clip_grad_norm(parameters, 1.0)
            adam.step()
            return loss, norm

        return train, parameters

    (eager, expected), (step, found) = training(), training()
    step = tg.compile(step)
    for T in (8, 9, 10, 11, 8):
        xs, ys, _ = batch(T, 2)
        assert_same(step(xs, ys), eager(xs, ys))
    assert_same([p.numpy() for p in found], [p.numpy() for p in expected])
    assert step.cache_info().programs == 2


# --- in less memory ----------------------------------------------------------------------------------------
@pytest.mark.usefixtures("numpy_pages")
@pytest.mark.parametrize("cell", nn.CELLS)
def test_only_outputs_grow_with_the_length(cell: str) -> None:
    """For each timestep room for the outputs and their cotangents, and the state of a twentieth."""
    H, B = 16, 4
    core = tagger(cell, 8, H, dtype=np.float32).core
    step = tg.compile(tg.value_and_grad(mean_square))
    needed = []
    for T in (400, 800):
        step(core, np.zeros((T, B, 8), np.float32), 20)
        needed.append(room(step))
    assert (needed[1] - needed[0]) / (400 * B * 4) <= 2 * H + 4 * H / 20


def test_a_third_of_the_room() -> None:
    core = nn.LSTMCell(64, 64, seed=0, dtype=np.float32)
    xs = np.zeros((1600, 8, 64), np.float32)
    whole, pieces = (tg.compile(tg.value_and_grad(mean_square)) for _ in range(2))
    whole(core, xs)
    pieces(core, xs, 40)
    needed = room(pieces)
    assert needed < room(whole) / 3
    # Also with timesteps left after the pieces: the outputs of both go into one array.
    pieces(core, xs[:1590], 40)
    assert room(pieces) < 1.2 * needed


def test_it_grows_like_the_square_root() -> None:
    core = nn.LSTMCell(8, 16, seed=0)

    def last(core: Any, xs: Any) -> Any:
        return (nn.unroll(core, xs, checkpoint="sqrt").state[0] ** 2).sum()

    needed = []
    for T in (400, 1600):
        step = tg.compile(tg.value_and_grad(last))
        step(core, np.zeros((T, 4, 8)))
        needed.append(room(step))
    assert needed[1] < 2.05 * needed[0]


@pytest.mark.usefixtures("numpy_pages")
def test_what_is_kept_is_not_computed_again() -> None:
    """The slope of tanh needs nothing but its results, which are the outputs."""
    step = tg.compile(tg.value_and_grad(mean_square))
    step(nn.RNNCell(3, 4, seed=0), batch(12, 2)[0], 4)
    assert step.source.count("np.tanh") == 1
    # An LSTM's gates are computed again for all timesteps of a piece: no product with W_hh in that loop.
    step(nn.LSTMCell(3, 4, seed=0), batch(12, 2)[0], 4)
    again = step.source.split("# ---- backward ----")[1].split("for t in range(4):")[1]
    assert "np.dot" not in again.split("np.tanh")[0]


@pytest.mark.usefixtures("numpy_pages")
def test_each_layer_is_computed_again_by_itself() -> None:
    def loss(net: Any, xs: Any) -> Any:
        return (net(xs, checkpoint=3)[0] ** 2).mean()

    step = tg.compile(tg.value_and_grad(loss))
    step(nn.GRU(3, 4, num_layers=3, seed=0), batch(12, 2)[0])
    # A GRU's candidate: once forwards, and once more for the backward.
    assert step.source.count("np.tanh") == 2 * 3


# --- programs ----------------------------------------------------------------------------------------------
def test_one_program_for_many_lengths() -> None:
    core = nn.GRUCell(3, 4, seed=0)
    step = tg.compile(tg.value_and_grad(mean_square))
    for T, programs in ((8, 1), (12, 1), (13, 2), (7, 2), (4, 3), (3, 3), (40, 3), (41, 3)):
        step(core, batch(T, 2)[0], 4)
        assert step.cache_info().programs == programs
    assert "T // 4" in step.source
    assert "loop backwards over T // 4 pieces" in step.explain()


def test_the_square_root_stays_near() -> None:
    core = nn.GRUCell(3, 4, seed=0)
    step = tg.compile(tg.value_and_grad(mean_square))
    for T, pieces in ((100, 10), (110, 10), (390, 10), (30, 10), (101, 11), (399, 11), (420, 11), (20, 5)):
        step(core, batch(T, 2)[0], "sqrt")
        assert f"range({pieces}):" in step.source, T
    assert step.cache_info().programs == 3


def test_the_saved_page(tmp_path: Path) -> None:
    core, xs = nn.LSTMCell(3, 4, seed=0), batch(13, 2)[0]
    step = tg.compile(tg.value_and_grad(mean_square))
    loss, grads = step(core, xs, 4)
    step.save(tmp_path / "page.py")
    assert "tensorgrad" not in (tmp_path / "page.py").read_text()
    run = runpy.run_path(str(tmp_path / "page.py"))["mean_square"]
    found = run(*[p.numpy() for p in core.parameters()], xs)
    assert_same([np.asarray(x) for x in found], [np.asarray(x) for x in (loss.numpy(), *grads.values())])


@pytest.mark.parametrize("T", [12, 13])
def test_kernels_within_pieces(T: int) -> None:
    pytest.importorskip("numba", reason="the kernels of tg.compile are not tested: numba is missing")
    core, xs = nn.LSTMCell(3, 4, seed=0, dtype=np.float32), batch(T, 2, dtype=np.float32)[0]
    step = tg.compile(tg.value_and_grad(mean_square), fast=True)
    for _ in range(2):
        assert_same(step(core, xs, 4), tg.value_and_grad(mean_square)(core, xs, 4))
    assert step.explain().count("a loop over 4 timesteps in a compiled kernel") == 3
    assert "np.tanh" not in step.source
