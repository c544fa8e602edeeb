"""Loops one after another, drawn at random, that share stacks and read each other's results and states."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import tensorgrad as tg
from tensorgrad import functional as F
from tensorgrad import nn, tree

from .common import arrays

H = 4

# Of (..., H), (..., H) and (..., 1) to (..., H).
WIDE: list[Callable[[Any, Any, Any], Any]] = [
    lambda x, y, c: tg.tanh(x + y),
    lambda x, y, c: x * tg.sigmoid(y),
    lambda x, y, c: x - y * 0.5,
    lambda x, y, c: x * c * 0.5,
    lambda x, y, c: x - x.mean(-1, keepdims=True),
    lambda x, y, c: tg.tanh(x) * y[..., 1:3].sum(-1, keepdims=True) * 0.3,
    lambda x, y, c: tg.tanh(x - x[..., :2].max(-1, keepdims=True)),
    lambda x, y, c: tg.concatenate([tg.tanh(x[..., 3:]), y[..., :1] * 0.5, x[..., 1:3] - y[..., 2:]], -1),
    lambda x, y, c: tg.concatenate([-x[..., 1:2], tg.sigmoid(y[..., :3])], -1),
    lambda x, y, c: tg.concatenate([c, x[..., :1] * y[..., 3:], -c, tg.tanh(y[..., :1])], -1),
    lambda x, y, c: F.softmax(x) + y * 0.1,
    lambda x, y, c: F.layer_norm(x + y),
    lambda x, y, c: tg.where(x * c > y + 0.01, x, y * 0.2),
    lambda x, y, c: tg.broadcast_to(c, x.shape) * 0.3 + y * 0.2,
    lambda x, y, c: x[..., ::-1] * 0.7,
    lambda x, y, c: tg.where(y > 0.2, y, tg.max(x) * 0.3),
    lambda x, y, c: x / (1 + y * y),
]
# Of the same to (..., 1).
NARROW: list[Callable[[Any, Any, Any], Any]] = [
    lambda x, y, c: x[..., :1] * 0.5,
    lambda x, y, c: x.sum(-1, keepdims=True) * 0.2,
    lambda x, y, c: x.max(-1, keepdims=True) * 0.3,
    lambda x, y, c: (x * y).mean(-1, keepdims=True),
    lambda x, y, c: -c,
    lambda x, y, c: tg.sigmoid(c) * c,
]
# Of two stacks (T, B, H) to another.
STACKS: list[Callable[[Any, Any], Any]] = [
    lambda s, r: tg.tanh(s),
    lambda s, r: s * r * 0.4,
    lambda s, r: tg.flip(s, 0) * 0.9,
    lambda s, r: s - s.mean(0, keepdims=True),
    lambda s, r: tg.concatenate([r[:1], s[:-1]], 0),
    lambda s, r: tg.concatenate([s[..., 2:] * 0.5, tg.tanh(r[..., :2])], -1),
    lambda s, r: tg.concatenate([s.reshape(-1, 2), r.reshape(-1, 2)], -1).reshape(*s.shape[:2], 8)[..., :H],
    lambda s, r: s.reshape(-1, H).reshape(s.shape),
    lambda s, r: F.softmax(s) * r,
    lambda s, r: tg.where(s > r, s, r * 0.3),
    lambda s, r: s * r[0],
    lambda s, r: tg.where(s > 0.3, tg.max(r) * 0.1, s),
]


def drawn_cell(seed: int, p: Any, whole: Any) -> Callable[[Any, Any], Any]:
    """A cell of parts of its input and its state, both wide and narrow; and of a whole stack."""

    def cell(x: Any, state: Any) -> Any:
        n = np.random.default_rng(seed).integers
        wide, narrow = [x[..., :H], x[..., H : 2 * H], *state["wide"]], [x[..., 2 * H :], *state["narrow"]]
        if n(2):
            wide.append(state["wide"][-1] @ p["U"] + p["b"])
        if n(3) == 0:
            wide.append(wide[-1] * whole[0])
        for _ in range(n(1, 7)):
            values, steps = (narrow, NARROW) if n(4) == 0 else (wide, WIDE)
            operands = wide[n(len(wide))], wide[n(len(wide))], narrow[n(len(narrow))]
            values.append(steps[n(len(steps))](*operands))

        def after(old: list[Any], values: list[Any]) -> list[Any]:
            # Handed on, perhaps by another name, or new.
            chosen = [(old, values)[int(n(4) > 0)] for _ in old]
            return [tg.tanh(v[-1]) if v is values and n(2) else v[n(len(v))] for v in chosen]

        outputs = {"any": wide[n(len(wide))], "last": wide[-1], "narrow": narrow[n(len(narrow))]}
        if n(3) == 0:
            outputs["part"] = outputs["any"][..., 1:3]
        return outputs, {"wide": after(state["wide"], wide), "narrow": after(state["narrow"], narrow)}

    return cell


def loops(seed: int, order: int) -> Callable[..., Any]:
    """One to three loops; with the gradients of parameters, or those of the gradients' squares."""

    def run(p: Any, xs: Any, h0: Any, c0: Any, lengths: Any) -> Any:
        n = np.random.default_rng(seed).integers
        stacks, narrow, ends = [xs, xs * p["g"]], [xs[..., :1] * 0.5], []
        wide_starts, narrow_starts = [h0, tg.tanh(h0) * p["g"]], [c0, c0 * 0.3]
        total = p["g"].sum() * 0.1
        for _ in range(n(1, 4)):
            read = [stacks[n(len(stacks))] for _ in range(2)]
            start = {
                "wide": [wide_starts[n(len(wide_starts))] for _ in range(n(1, 4))],
                "narrow": [narrow_starts[n(len(narrow_starts))] for _ in range(n(2))],
            }
            cell = drawn_cell(int(n(1 << 30)), p, read[0] if n(2) else read[1])
            piece = None if order == 2 else [None, None, 2, 3, "sqrt"][n(5)]
            masked, reverse = lengths if n(3) == 0 else None, bool(n(2))
            xs_ = tg.concatenate([*read, narrow[n(len(narrow))]], -1)
            roll = nn.unroll(cell, xs_, start, masked, reverse, piece)
            outputs, state = roll.outputs, roll.state
            stacks += [outputs["any"], outputs["last"]]
            narrow.append(outputs["narrow"])
            total = total + (outputs.get("part", outputs["narrow"]) ** 2).mean()
            for _ in range(n(4)):
                stacks.append(STACKS[n(len(STACKS))](stacks[n(len(stacks))], stacks[n(len(stacks))]))
            wide_starts += state["wide"]
            narrow_starts += state["narrow"]
            ends.append(state)
        chosen = [stacks[n(len(stacks))] for _ in range(3)]
        total = total + sum((s * s).mean() for s in chosen) + sum((s * s).mean() for s in tree.leaves(ends))
        # Views of what is returned too, and of what is not.
        return total, (chosen[0], ends, chosen[0].reshape(-1, H), chosen[1][1:], outputs["last"][-1])

    def slopes(p: Any, *data: Any) -> Any:
        _, grads = tg.value_and_grad(lambda p: run(p, *data)[0])(p)
        return sum((g * g).sum() for g in tree.leaves(grads))

    return [run, tg.value_and_grad(run, has_aux=True), tg.value_and_grad(slopes)][order]


@pytest.mark.parametrize("seed", range(5))
def test_loops_that_share_stacks(seed: int) -> None:
    rng = np.random.default_rng(seed)
    dtype, tolerance = [(np.float64, 1e-9), (np.float32, 3e-3)][seed % 5 == 4]
    order = int(rng.choice([0, 1, 1, 1, 2]))
    T, B = [(4, 3), (1, 3), (4, 1), (1, 1), (4, 4), (5, 2), (2, 2)][rng.integers(7)]

    def draw(*shape: int) -> np.ndarray:
        return (rng.standard_normal(shape) * 0.8).astype(dtype)

    fn = loops(seed, order)
    compiled = tg.compile(fn)
    p = {"g": draw(H), "b": draw(H), "U": draw(H, H) * dtype(0.4)}
    for T_, B_ in ((T, B), (T, B), (T + 1, B + 1)):
        args = p, draw(T_, B_, H), draw(B_, H), draw(B_, 1), rng.integers(1, T_ + 1, size=B_)
        for got, want in zip(arrays(compiled(*args)), arrays(fn(*args)), strict=True):
            assert (got.shape, got.dtype) == (want.shape, want.dtype)
            assert np.linalg.norm(got - want) <= tolerance * max(float(np.linalg.norm(want)), 1)
