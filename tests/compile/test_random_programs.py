"""Programs drawn at random: what the planner may write over, and when, shows best where nobody chose it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tensorgrad as tg
from tensorgrad import functional as F
from tensorgrad import nn, tree

from .common import arrays, assert_same

# Of (B, H) and (B, H), H at least 3, to (B, H).
STEPS: list[Callable[[Any, Any], Any]] = [
    lambda x, y: x + y,
    lambda x, y: x * y * 0.5,
    lambda x, y: x - y,
    lambda x, y: x / (1 + y * y),
    lambda x, y: tg.tanh(x),
    lambda x, y: tg.sigmoid(x - y),
    lambda x, y: tg.maximum(x, y),
    lambda x, y: tg.where(tg.greater(x, y), x, y * 0.3),
    lambda x, y: F.softmax(x),
    lambda x, y: F.layer_norm(x),
    lambda x, y: x - x.mean(0, keepdims=True),
    lambda x, y: x * y.sum(1, keepdims=True) * 0.2,
    lambda x, y: tg.cumsum(x, 1) * 0.3 + tg.logsumexp(y, 1)[:, None],
    lambda x, y: tg.broadcast_to(x.max(1, keepdims=True), x.shape) * y,
    lambda x, y: tg.concatenate([x[:, 2:], y[:, :2]], 1),
    lambda x, y: tg.concatenate([tg.sigmoid(x[:, :2]), tg.sigmoid(x[:, 2:3]), tg.tanh(x[:, 3:])], 1),
    lambda x, y: tg.stack([x, y], 1)[:, 0] + tg.stack([x, y], 0)[1],
    lambda x, y: tg.flip(x, 1),
    lambda x, y: tg.tanh(x.T).T,
    lambda x, y: x.reshape(-1).reshape(x.shape) * 1.0,
    lambda x, y: x[:, [0, 0, *range(1, x.shape[1] - 1)]],
    lambda x, y: tg.index_update(x, (slice(None), 0), y[:, 1]),
    lambda x, y: tg.index_add(x, (slice(None), [1, 1]), y[:, :2]),
    lambda x, y: x @ (y.T @ x) * 0.1,
    lambda x, y: tg.einsum("bi,bj->bij", x, y).sum(2) * 0.2,
    lambda x, y: x * tg.linalg.norm(y) * 0.1,
    lambda x, y: x / (tg.std(y, 1, keepdims=True) + 1),
    lambda x, y: x * tg.prod(tg.sigmoid(y), 0) + tg.mean(y),
]


def grown(values: list[Any], seed: int, count: int) -> list[Any]:
    """The values and `count` more, each made of two of those before it."""
    rng = np.random.default_rng(seed)
    values = list(values)
    for _ in range(count):
        step = STEPS[rng.integers(len(STEPS))]
        values.append(step(values[rng.integers(len(values))], values[rng.integers(len(values))]))
    return values


PIECES = [None, 1, 2, 3, "sqrt"]


def program(
    seed: int, states: int, count: int, reverse: bool, masked: bool, piece: Any
) -> Callable[..., Any]:
    """A recurrence and what follows it, with the gradients of parameters and of the first state."""

    def step(params: Any, h0: Any, xs: Any, lengths: Any) -> Any:
        def loss(given: Any) -> Any:
            p, h0 = given

            def cell(x: Any, state: Any) -> Any:
                rng = np.random.default_rng(seed)
                start = [x @ p["W"] + p["b"], *state, state[0] @ p["U"]]
                values = grown(start, seed, count)
                # Parts of the state are new values, or old parts handed on.
                after = [values[rng.integers(len(values))] for _ in state]
                after = [tg.tanh(v) if rng.integers(2) else state[rng.integers(len(state))] for v in after]
                return values[rng.integers(len(values))], tuple(after)

            roll = nn.unroll(cell, xs, tuple(h0), lengths if masked else None, reverse, piece)
            values = grown([roll.outputs[-1], roll.outputs[0], *roll.state], seed + 1, count)
            return (values[-1] ** 2).mean() + (roll.outputs**2).mean() + values[-2].sum() * 0.1, roll.state

        return tg.value_and_grad(loss, has_aux=True)((params, h0))

    return step


def drawn(seed: int) -> tuple[Callable[..., Any], Iterator[Any]]:
    """A program, and arguments for it: three times, the last of other lengths."""
    rng = np.random.default_rng(seed)
    T, B, D, H = (int(n) for n in rng.integers((2, 2, 2, 3), 6))
    states, count = int(rng.integers(1, 4)), int(rng.integers(2, 9))
    params = {
        "W": rng.standard_normal((D, H)),
        "U": rng.standard_normal((H, H)) * 0.5,
        "b": rng.standard_normal(H),
    }
    piece = PIECES[seed % len(PIECES)]
    fn = program(seed, states, count, bool(rng.integers(2)), bool(rng.integers(2)), piece)

    def arguments() -> Iterator[Any]:
        for T_, B_ in ((T, B), (T, B), (T + 2, B + 1)):
            xs, lengths = rng.standard_normal((T_, B_, D)), rng.integers(1, T_ + 1, size=B_)
            yield params, [rng.standard_normal((B_, H)) for _ in range(states)], xs, lengths

    return fn, arguments()


@pytest.mark.parametrize("seed", range(24))
def test_a_random_program(seed: int) -> None:
    fn, arguments = drawn(seed)
    compiled = tg.compile(fn)
    for args in arguments:
        assert_same(compiled(*args), fn(*args))


def double_in_page(run: Callable[[], Any]) -> set[str]:
    """The variables of a page that ever hold numbers of double precision."""
    found: set[str] = set()

    def in_page(frame: FrameType, event: str, arg: Any) -> Any:
        found.update(k for k, x in frame.f_locals.items() if getattr(x, "dtype", None) == np.float64)
        return in_page

    def called(frame: FrameType, event: str, arg: Any) -> Any:
        return in_page if "make_buffers" in frame.f_globals else None

    before = sys.gettrace()
    sys.settrace(called)
    try:
        run()
    finally:
        sys.settrace(before)
    return found


@pytest.mark.parametrize("seed", range(16, 22))
def test_single_precision_stays_single(seed: int) -> None:
    """Python's numbers, made into arrays without a word, are of double precision, and so is what follows."""
    fn, arguments = drawn(seed)
    args = next(arguments)
    compiled = tg.compile(fn)
    compiled(*args)
    assert double_in_page(lambda: compiled(*args))
    args = tree.map(lambda x: x.astype(np.float32) if x.dtype == np.float64 else x, args)
    compiled(*args)
    assert not double_in_page(lambda: compiled(*args))


# --- cells as hypothesis draws them ------------------------------------------------------------------------
# What a gate, a candidate and a new state can be made of, each of values (B, H).
SQUASH = [tg.tanh, tg.sigmoid, tg.relu, tg.sin, tg.softplus, F.gelu, lambda a: tg.clip(a, -0.5, 0.5)]
NORM = [
    lambda a: a,
    F.layer_norm,
    F.softmax,
    lambda a: a / (tg.linalg.norm(a, axis=-1, keepdims=True) + 1),
    lambda a: a - tg.logsumexp(a, -1, keepdims=True),
    lambda a: a / (tg.std(a) + 1),
]
MIX: list[Callable[[Any, Any, Any], Any]] = [
    lambda gate, old, new: gate * old + (1 - gate) * new,
    lambda gate, old, new: old + gate * new * 0.5,
    lambda gate, old, new: tg.where(gate > 0.5, new, old),
    lambda gate, old, new: tg.maximum(gate * new, old * 0.3),
    lambda gate, old, new: new * tg.sum(gate * old, -1, keepdims=True) * 0.3,
    lambda gate, old, new: tg.einsum("bi,bj,bj->bi", gate, old, new) * 0.2,
    lambda gate, old, new: tg.index_update(new, (slice(None), 0), old[:, -1]),
]


@st.composite
def cells(draw: Any) -> dict[str, Any]:
    """How a small cell is built: gates side by side or one by one, and what becomes of every state."""
    return {
        "fused": draw(st.booleans()),
        "states": draw(st.integers(1, 3)),
        "squash": draw(st.lists(st.sampled_from(SQUASH), min_size=6, max_size=6)),
        "norm": draw(st.lists(st.sampled_from(NORM), min_size=6, max_size=6)),
        "mix": draw(st.lists(st.sampled_from(MIX), min_size=3, max_size=3)),
        "reset": draw(st.booleans()),
        "output": draw(st.sampled_from(["state", "product", "constant", "dict"])),
    }


def stepped(made: dict[str, Any], p: Any, x: Any, state: Any) -> Any:
    """One step of a drawn cell: a gate and a candidate for every state."""
    H, count = state[0].shape[-1], 2 * made["states"]
    h = state[0] * tg.sigmoid(state[-1]) if made["reset"] else state[0]
    if made["fused"]:
        a = F.linear(x, p["W"], p["b"]) + F.linear(h, p["U"])
        parts = tg.split(a, count, -1)
    else:
        rows = [slice(k * H, (k + 1) * H) for k in range(count)]
        parts = [x @ p["W"][r].T + h @ p["U"][r].T + p["b"][r] for r in rows]
    parts = [squash(norm(a)) for a, norm, squash in zip(parts, made["norm"], made["squash"], strict=False)]
    after = tuple(
        mix(tg.sigmoid(parts[2 * k]), old, parts[2 * k + 1])
        for k, (mix, old) in enumerate(zip(made["mix"], state, strict=False))
    )
    outputs = {
        "state": after[0],
        "product": after[0] * parts[0],
        "constant": tg.broadcast_to(p["b"][:H], after[0].shape),
    }
    if made["output"] == "dict":
        return {"h": after[-1], "a": (parts[0], x)}, after
    return outputs[made["output"]], after


@settings(max_examples=16, deadline=None)
@given(
    made=cells(),
    # Layer normalisation of one or two elements is a step function: its float32 gradients are rounding alone.
    sizes=st.tuples(*(st.integers(1, 5),) * 3, st.integers(3, 5)),
    reverse=st.booleans(),
    masked=st.booleans(),
    piece=st.sampled_from(PIECES),
    dtype=st.sampled_from([np.float32, np.float64]),
    seed=st.integers(0, 10_000),
)
def test_a_drawn_cell(
    made: Any, sizes: Any, reverse: bool, masked: bool, piece: Any, dtype: Any, seed: int
) -> None:
    (T, B, D, H), rng = sizes, np.random.default_rng(seed)
    rows = 2 * made["states"] * H

    def draw(*shape: int) -> np.ndarray:
        return (rng.standard_normal(shape) * 0.7).astype(dtype)

    def loss(given: Any, xs: Any, lengths: Any) -> Any:
        def cell(x: Any, state: Any) -> Any:
            return stepped(made, given["p"], x, state)

        roll = nn.unroll(cell, xs, given["h0"], lengths if masked else None, reverse, piece)
        total = sum((part * part).mean() for part in tree.leaves((roll.outputs, roll.state)))
        return total, roll.state

    step = tg.value_and_grad(loss, has_aux=True)
    compiled = tg.compile(step)
    p = {"W": draw(rows, D), "U": draw(rows, H), "b": draw(rows)}
    for T_, B_ in ((T, B), (T, B), (T + 1, B + 2)):
        given = {"p": p, "h0": tuple(draw(B_, H) for _ in range(made["states"]))}
        args = given, draw(T_, B_, D), rng.integers(1, T_ + 1, size=B_)
        assert_same(compiled(*args), step(*args))


# --- parts of rows, written in place ---------------------------------------------------------------------
# Of (B, 4) and (B, 4) to (B, 4): what a planner may write over its operands, wholly or part by part.
PARTS: list[Callable[[Any, Any], Any]] = [
    lambda x, y: tg.concatenate([tg.tanh(x[:, 2:]), y[:, :2] * 0.5], 1),
    lambda x, y: tg.concatenate([x[:, :1] * y[:, 3:], tg.sigmoid(x[:, 1:3]), y[:, 2:3] - x[:, :1]], 1),
    lambda x, y: tg.concatenate([y[:, 2:] + 0.1, y[:, :2] - 0.1], 1),
    lambda x, y: tg.tanh(x + y),
    lambda x, y: x * tg.sigmoid(y),
    lambda x, y: x - y * 0.5,
    lambda x, y: x - x.mean(1, keepdims=True),
    lambda x, y: F.layer_norm(x + y),
    lambda x, y: x * tg.tanh(y.sum(1, keepdims=True)),
    lambda x, y: tg.concatenate([x[:, :2], x[:, 2:] * 0.3], 1) + y[:, ::1] * 0.1,
    lambda x, y: tg.where(x > y, x, y * 0.2),
]


def part_program(seed: int, with_gradient: bool) -> Callable[..., Any]:
    """A recurrence of slices and concatenations, and sums over its stacks before and after it."""

    def grown_of(values: list[Any], rng: Any, count: int) -> list[Any]:
        for _ in range(count):
            step = PARTS[rng.integers(len(PARTS))]
            values = [*values, step(values[rng.integers(len(values))], values[rng.integers(len(values))])]
        return values

    def run(p: Any, xs: Any, hs: Any) -> Any:
        rng = np.random.default_rng(seed)
        count, choose = int(rng.integers(1, 6)), np.random.default_rng(seed + 1).integers

        def cell(x: Any, state: Any) -> Any:
            values = [*state.values(), x, x * p["g"] + p["b"]]
            values = grown_of(values, np.random.default_rng(seed + 2), count)
            pick = np.random.default_rng(seed + 3).integers
            after = {name: values[pick(1, len(values))] for name in state}
            return values[pick(len(values))], after

        stack = tg.stack([xs * p["g"], xs + p["b"]], 0)[int(choose(2))]
        roll = nn.unroll(cell, stack, {name: h * p["g"] for name, h in hs.items()})
        more = roll.outputs * p["g"] if choose(2) else roll.outputs
        return (more * more).sum() + sum((h * 0.3).sum() for h in roll.state.values()), roll.state

    return tg.value_and_grad(run, has_aux=True) if with_gradient else run


@pytest.mark.parametrize("seed", range(12))
def test_parts_of_rows_in_place(seed: int) -> None:
    rng = np.random.default_rng(seed)
    p = {"g": rng.standard_normal(4), "b": rng.standard_normal(4)}
    fn = part_program(seed, bool(rng.integers(2)))
    compiled = tg.compile(fn)
    states = int(rng.integers(1, 4))
    for T, B in ((4, 3), (4, 3), (5, 2)):
        hs = {f"h{k}": rng.standard_normal((B, 4)) for k in range(states)}
        xs = rng.standard_normal((T, B, 4))
        for got, want in zip(arrays(compiled(p, xs, hs)), arrays(fn(p, xs, hs)), strict=True):
            assert np.linalg.norm(got - want) <= 1e-9 * max(float(np.linalg.norm(want)), 1)
