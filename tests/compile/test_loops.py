"""Compiled recurrences equal eager ones: all cells, masks, directions, layers, states, lengths and dtypes."""

from __future__ import annotations

import importlib
from itertools import count
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tensorgrad as tg
from tensorgrad import functional as F
from tensorgrad import nn, tree

from .common import Tagger, assert_same, batch, check, loss_of, tagger


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("cell", nn.CELLS)
def test_every_cell(cell: str, dtype: Any) -> None:
    xs, ys, _ = batch(6, 2, dtype=dtype)
    compiled = check(tg.value_and_grad(loss_of), tagger(cell, dtype=dtype), xs, ys)
    assert "\nloop backwards over T timesteps: " in compiled.explain()


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("cell", nn.CELLS)
def test_lengths_and_directions(cell: str, reverse: bool) -> None:
    xs, ys, lengths = batch(6, 3)

    def loss(model: Tagger, xs: Any, ys: Any, lengths: Any) -> Any:
        roll = nn.unroll(model.core, xs, lengths=lengths, reverse=reverse)
        final = sum((x * x).sum() for x in tree.leaves(roll.state))
        return F.cross_entropy(model.out(roll.outputs), ys) + final

    check(tg.value_and_grad(loss), tagger(cell), xs, ys, lengths)


@settings(max_examples=40, deadline=None)
@given(
    cell=st.sampled_from(list(nn.CELLS)),
    T=st.integers(1, 7),
    B=st.integers(1, 7),
    D=st.integers(1, 7),
    H=st.integers(1, 7),
    reverse=st.booleans(),
    masked=st.booleans(),
    dtype=st.sampled_from([np.float32, np.float64]),
)
def test_drawn_sizes(
    cell: str, T: int, B: int, D: int, H: int, reverse: bool, masked: bool, dtype: Any
) -> None:
    xs, ys, lengths = batch(T, B, D, 4, dtype, seed=T + 10 * B)
    model = tagger(cell, D, H, 4, dtype)

    def loss(model: Tagger, xs: Any, ys: Any, lengths: Any) -> Any:
        roll = nn.unroll(model.core, xs, lengths=lengths if masked else None, reverse=reverse)
        return F.cross_entropy(model.out(roll.outputs), ys), roll.state

    check(tg.value_and_grad(loss, has_aux=True), model, xs, ys, lengths)


LAYERS: dict[str, dict[str, Any]] = {
    "one": {},
    "stacked": {"num_layers": 2},
    "bidirectional": {"bidirectional": True},
    "all": {"num_layers": 2, "bidirectional": True, "learned_state": True},
}


@pytest.mark.parametrize("options", LAYERS.values(), ids=LAYERS)
@pytest.mark.parametrize("kind", [nn.RNN, nn.LSTM, nn.GRU])
def test_layers(kind: Any, options: dict[str, Any]) -> None:
    xs, ys, lengths = batch(5, 3)
    model = Tagger(kind(3, 4, seed=2, **options), 4 * (1 + options.get("bidirectional", 0)), 5)

    def loss(model: Tagger, xs: Any, ys: Any, lengths: Any) -> Any:
        return F.cross_entropy(model.out(model.core(xs, lengths=lengths)[0]), ys)

    check(tg.value_and_grad(loss), model, xs, ys, lengths)


def test_labels_of_layers_are_read_by_timestep() -> None:
    model = Tagger(nn.LSTM(3, 4, num_layers=2, seed=2), 4, 5)

    def loss(model: Tagger, xs: Any) -> Any:
        roll = model.core.unroll(xs)
        return (roll.outputs**2).sum() + (roll.steps[1]["l0.c"] * roll.steps[-1]["l1.o"]).sum()

    check(tg.value_and_grad(loss), model, batch(5, 2)[0])


def test_a_cell_of_your_own_with_a_tree_for_a_state() -> None:
    rng = np.random.default_rng(0)
    params = {"W": rng.standard_normal((4, 3)), "U": rng.standard_normal((4, 4)), "b": rng.standard_normal(4)}

    def loss(p: Any, xs: Any, h0: Any) -> Any:
        def cell(x: Any, state: Any) -> Any:
            a = tg.label(x @ p["W"].T + state["h"] @ p["U"].T + p["b"], "a")
            h = tg.tanh(a) * tg.sigmoid(state["sum"][0])
            return {"out": h, "twice": 2 * x}, {"h": h, "sum": (state["sum"][0] * 0.9 + h, None)}

        roll = nn.unroll(cell, xs, {"h": h0, "sum": (h0, None)})
        outputs = roll.outputs
        return (outputs["out"] ** 2).sum() + outputs["twice"].mean() + roll.steps[2]["a"].sum()

    check(tg.value_and_grad(loss), params, batch(5, 2)[0], rng.standard_normal((2, 4)))


def test_gradients_of_inputs_and_of_the_first_state() -> None:
    model = tagger("gru")
    xs, ys, _ = batch(5, 2)

    def loss(given: Any, ys: Any) -> Any:
        roll = nn.unroll(model.core, given["xs"], given["h0"])
        return F.cross_entropy(model.out(roll.outputs), ys)

    check(tg.value_and_grad(loss), {"xs": xs, "h0": np.full((2, 4), 0.1)}, ys)


def test_a_gradient_of_a_gradient_through_time() -> None:
    def slope(w: Any, xs: Any) -> Any:
        def loss(w: Any) -> Any:
            roll = nn.unroll(lambda x, h: (tg.tanh(x * w + h * w),) * 2, xs, np.zeros((2, 3)))
            return (roll.outputs**2).sum()

        return (tg.value_and_grad(loss)(w)[1] ** 2).sum()

    check(tg.value_and_grad(slope), np.array([0.3, -0.5, 0.7]), batch(4, 2)[0])


def test_a_loop_within_a_loop() -> None:
    """An inner recurrence over the features at every timestep."""

    def loss(w: Any, xs: Any) -> Any:
        def inner(x: Any, h: Any) -> Any:
            h = tg.tanh(x * w + h)
            return h, h

        def outer(x: Any, state: Any) -> Any:
            out = nn.unroll(inner, x.T, state).state
            return out, out

        return (nn.unroll(outer, xs, np.zeros(2)).outputs ** 2).sum()

    check(tg.value_and_grad(loss), np.array(0.4), batch(4, 2)[0])


def inner_outputs(x: Any, h: Any, w: Any) -> Any:
    """The gradient of the inner loop needs each of its timesteps."""

    def inner(y: Any, s: Any) -> Any:
        s = tg.tanh(y @ w + s)
        return s, s

    h = tg.tanh(nn.unroll(inner, tg.stack([x, h]), np.zeros((2, 3))).outputs.sum(0) + h)
    return h, h


def inner_sees_outer(x: Any, h: Any, w: Any) -> Any:
    def inner(y: Any, s: Any) -> Any:
        s = tg.tanh(y @ w + s + h * x)
        return s, s

    h = tg.tanh(nn.unroll(inner, tg.stack([x, h]), np.zeros((2, 3))).outputs.sum(0) + h)
    return h, h


def three_deep(x: Any, h: Any, w: Any) -> Any:
    def inner(y: Any, s: Any) -> Any:
        return inner_outputs(y, s, w)

    h = tg.tanh(nn.unroll(inner, tg.stack([x, h]), np.ones((2, 3))).outputs.sum(0) @ w + h)
    return h, h


@pytest.mark.parametrize("cell", [inner_outputs, inner_sees_outer, three_deep])
@pytest.mark.parametrize("lengths", [None, np.array([4, 2])])
def test_loops_within_loops(cell: Any, lengths: Any) -> None:
    def loss(w: Any, xs: Any) -> Any:
        roll = nn.unroll(lambda x, h: cell(x, h, w), xs, np.zeros((2, 3)), lengths=lengths, reverse=True)
        return (roll.outputs**2).sum()

    xs, w = batch(4, 2)[0], np.random.default_rng(0).normal(0, 0.5, (3, 3))
    check(tg.value_and_grad(loss), w, xs)


def test_a_gradient_of_a_gradient_through_loops_within_loops() -> None:
    def loss(w: Any, xs: Any) -> Any:
        return (nn.unroll(lambda x, h: inner_outputs(x, h, w), xs, np.zeros((2, 3))).outputs ** 2).sum()

    def penalty(w: Any, xs: Any) -> Any:
        return (tg.value_and_grad(loss)(w, xs)[1] ** 2).sum()

    check(tg.value_and_grad(penalty), np.random.default_rng(0).normal(0, 0.5, (3, 3)), batch(3, 2)[0])


def test_products_and_running_sums_of_a_timestep_leave_the_loop() -> None:
    def loss(w: Any, xs: Any) -> Any:
        def cell(x: Any, h: Any) -> Any:
            h = tg.tanh(h + x * w)
            return tg.cumsum(x, axis=-1) * tg.prod(x + 2, axis=0) + h, h

        return (nn.unroll(cell, xs, np.zeros((2, 3))).outputs ** 2).sum()

    step = check(tg.value_and_grad(loss), np.ones(3), batch(4, 2)[0])
    inside = [line for line in step.ir.splitlines() if line.startswith("    ")]
    assert any("= tanh(" in line for line in inside)
    assert not any("cumsum" in line or "prod" in line for line in inside)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_numbers_in_the_state_stay_numbers(dtype: Any) -> None:
    """They take the dtype of what they meet, and so widen nothing."""

    def fn(xs: Any) -> Any:
        def cell(x: Any, state: Any) -> Any:
            h, t, decay = state
            h = tg.tanh(h + x * decay / (t + 1))
            return h * t, (h, t + 1, decay * 0.9)

        roll = nn.unroll(cell, xs, (np.zeros((2, 3), dtype), 0, 1.0))
        return roll.outputs, roll.state

    check(fn, batch(4, 2, dtype=dtype)[0])


def test_numbers_in_the_state_that_become_tensors() -> None:
    def loss(w: Any, xs: Any) -> Any:
        def cell(x: Any, state: Any) -> Any:
            h, penalty, t = state
            h = tg.tanh(h + x * w)
            return h, (h, penalty + (h**2).sum(), t + 1)

        h, penalty, t = nn.unroll(cell, xs, (np.zeros((2, 3)), 0.0, 0)).state
        return h.sum() + penalty * t

    check(tg.value_and_grad(loss), np.ones(3), batch(4, 2)[0])


def test_inputs_by_timestep_are_tensors() -> None:
    def fn(xs: Any) -> Any:
        return nn.unroll(nn.RNNCell(3, 4, seed=0), xs).steps[1]

    check(fn, batch(3, 2)[0])


def test_a_sequence_without_a_batch() -> None:
    xs = batch(5, 1)[0][:, 0]
    check(tg.value_and_grad(lambda m, xs: (nn.unroll(m.core, xs).outputs ** 2).sum()), tagger("lstm"), xs)


def test_one_program_for_all_lengths_and_batches() -> None:
    step, model = tg.compile(tg.value_and_grad(loss_of)), tagger("lstm")
    for T, B in ((6, 3), (9, 3), (6, 2), (31, 4), (9, 3)):
        xs, ys, _ = batch(T, B)
        assert_same(step(model, xs, ys), tg.value_and_grad(loss_of)(model, xs, ys))
    info = step.cache_info()
    assert (info.programs, info.signatures, info.hits) == (1, 4, 1)


def test_the_trace_does_not_grow_with_the_sequence() -> None:
    calls = count()

    def loss(model: Tagger, xs: Any, ys: Any) -> Any:
        def cell(x: Any, h: Any) -> Any:
            next(calls)
            return model.core(x, h)

        h0 = np.zeros((xs.shape[1], 4))
        return F.cross_entropy(model.out(nn.unroll(cell, xs, h0).outputs), ys)

    xs, ys, _ = batch(500, 2)
    tg.compile(tg.value_and_grad(loss))(tagger("rnn"), xs, ys)
    # Once for each of the two traces that tell free lengths from others.
    assert next(calls) == 2


def test_the_recurrence_alone_stays_in_the_loop() -> None:
    xs, ys, _ = batch(6, 2)
    step = tg.compile(tg.value_and_grad(loss_of))
    step(tagger("rnn"), xs, ys)
    loops = [line for line in step.explain().splitlines() if line.startswith("loop")]
    assert loops == [
        "loop forwards over T timesteps: dot, add, tanh",
        "loop backwards over T timesteps: add, multiply, dot",
    ]


def test_a_lookup_outside_and_inside_of_the_loop() -> None:
    ids = np.random.default_rng(0).integers(6, size=(5, 2))
    _, ys, _ = batch(5, 2)

    class Model(Tagger):
        def __init__(self) -> None:
            super().__init__(nn.LSTMCell(3, 4, seed=0), 4, 5)
            self.embedding = nn.Embedding(6, 3, seed=1)

    def outside(model: Model, ids: Any, ys: Any) -> Any:
        return F.cross_entropy(model.out(nn.unroll(model.core, model.embedding(ids)).outputs), ys)

    def inside(model: Model, ids: Any, ys: Any, state: Any) -> Any:
        roll = nn.unroll(lambda i, s: model.core(model.embedding(i), s), ids, state)
        return F.cross_entropy(model.out(roll.outputs), ys)

    check(tg.value_and_grad(outside), Model(), ids, ys)
    check(tg.value_and_grad(inside), Model(), ids, ys, (np.zeros((2, 4)), np.zeros((2, 4))))


def test_windows_carry_their_state() -> None:
    model = tagger("gru")

    def window(model: Tagger, xs: Any, ys: Any, h: Any) -> Any:
        roll = nn.unroll(model.core, xs, h)
        return F.cross_entropy(model.out(roll.outputs), ys), roll.state

    eager = tg.value_and_grad(window, has_aux=True)
    step = tg.compile(eager)
    h: Any = tg.tensor(np.zeros((2, 4)))
    for seed in range(3):
        xs, ys, _ = batch(4, 2, seed=seed)
        compiled = step(model, xs, ys, h)
        assert_same(compiled, eager(model, xs, ys, h))
        h = compiled[0][1].detach()
    assert step.cache_info() == (1, 1, 2)


def test_a_state_whose_halves_change_places() -> None:
    """Its parts are written as they are computed: not over a half that the other is still computed from."""

    def run(xs: Any, h: Any) -> Any:
        def cell(x: Any, h: Any) -> Any:
            h = tg.concatenate([tg.tanh(h[:, 2:] + x), tg.sigmoid(h[:, :2] * x)], 1)
            return x, h

        return nn.unroll(cell, xs, h).state

    rng = np.random.default_rng(0)
    check(run, rng.standard_normal((5, 3, 2)), rng.standard_normal((3, 4)))


def test_arguments_called_like_the_variables_of_loops() -> None:
    def run(t: Any, t2: Any, piece: Any, h: Any) -> Any:
        def inner(x: Any, h: Any) -> Any:
            return h, tg.tanh(x + h * t2)

        def outer(x: Any, h: Any) -> Any:
            roll = nn.unroll(inner, tg.stack([x, x * piece, x]), h)
            return roll.state, roll.state

        pieces = nn.unroll(inner, t, h, checkpoint=2)
        return nn.unroll(outer, t, h).outputs.sum() + pieces.outputs.sum()

    rng = np.random.default_rng(0)
    args = (rng.standard_normal((6, 2, 3)), rng.standard_normal(3), rng.standard_normal(3), np.zeros((2, 3)))
    check(tg.value_and_grad(run), *args)


@pytest.mark.parametrize("cell", ["LSTM", "GRU"])
@pytest.mark.parametrize("options", [{"num_layers": 2}, {"bidirectional": True}])
@pytest.mark.parametrize("checkpoint", [None, 3, "sqrt"])
def test_gates_kept_apart(
    cell: str, options: dict[str, Any], checkpoint: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As those of large batches are, instead of side by side."""
    monkeypatch.setattr(importlib.import_module("tensorgrad.compile.passes.arrange"), "_LARGE", 1)
    model = getattr(nn, cell)(3, 4, seed=0, **options)

    def loss(model: Any, xs: Any) -> Any:
        return (model(xs, checkpoint=checkpoint)[0] ** 2).sum()

    compiled = tg.compile(tg.value_and_grad(loss))
    for T in (9, 10, 12):
        xs = batch(T, 2)[0]
        assert_same(compiled(model, xs), tg.value_and_grad(loss)(model, xs))
    apart = "i[t] = " if cell == "LSTM" else "r[t] = "
    assert (apart in compiled.source) or checkpoint
