"""First states of another shape, dtype or form than those that a cell returns: the first timestep is no part
of the loop."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import tensorgrad as tg
from tensorgrad import nn
from tensorgrad.compile.ir import Loop

from .common import assert_same, batch, check, needs_numba

H = 4
W = {"W": np.linspace(-1, 1, 3 * H).reshape(3, H), "U": np.linspace(-0.5, 0.6, H * H).reshape(H, H)}


def cell_of(p: Any) -> Callable[[Any, Any], Any]:
    def cell(x: Any, h: Any) -> Any:
        a = x @ p["W"]
        h = tg.label(tg.tanh(a if h is None else a + h @ p["U"] if np.ndim(h) else a + h), "h")
        return h * 2.0, h

    return cell


def tree_cell(p: Any) -> Callable[[Any, Any], Any]:
    def cell(x: Any, state: Any) -> Any:
        h = tg.tanh(x @ p["W"] + state["h"] @ p["U"])
        return {"y": h}, {"h": h, "n": state["n"] + 1.0}

    return cell


FIRST: dict[str, tuple[Any, Any]] = {
    "a row for all sequences": (cell_of, np.linspace(0, 1, H)),
    "one sequence for all": (cell_of, np.ones((1, H))),
    "a number": (cell_of, 0.5),
    "a whole number": (cell_of, 0),
    "no state": (cell_of, None),
    "whole numbers": (cell_of, np.ones((1, H), int)),
    "single precision": (cell_of, np.ones((1, H), np.float32)),
    "a part of a tree": (tree_cell, {"h": np.ones(H), "n": 0.0}),
}


def loss_with(make: Any, first: Any, **how: Any) -> Callable[..., Any]:
    def loss(p: Any, xs: Any, lengths: Any = None) -> Any:
        roll = nn.unroll(make(p), xs, first, lengths, **how)
        parts = tg.tree.leaves((roll.outputs, roll.state))
        return sum(tg.sum(part * part) for part in parts), (roll.outputs, roll.state)

    return tg.value_and_grad(loss, has_aux=True)


@pytest.mark.parametrize("fast", [False, pytest.param(True, marks=needs_numba)])
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("name", FIRST)
def test_first_states_of_another_kind(name: str, reverse: bool, fast: bool) -> None:
    make, first = FIRST[name]
    step = loss_with(make, first, reverse=reverse)
    compiled = tg.compile(step, fast=fast)
    for T, B in ((5, 2), (7, 3), (2, 2), (1, 2)):
        xs = batch(T, B)[0]
        assert_same(compiled(W, xs), step(W, xs))
    # One for all lengths but 1, with which there is no loop.
    assert compiled.cache_info().programs <= 3
    assert sum(isinstance(e, Loop) for e in compiled._ran().program.eqns) == 0
    compiled(W, batch(6, 4)[0])
    assert sum(isinstance(e, Loop) for e in compiled._ran().program.eqns) == 2


@pytest.mark.parametrize("name", ["a row for all sequences", "no state", "a part of a tree"])
@pytest.mark.parametrize("how", [{}, {"checkpoint": "sqrt"}, {"checkpoint": 2}])
def test_with_lengths_and_checkpoints(name: str, how: Any) -> None:
    make, first = FIRST[name]
    if name == "a part of a tree":
        first = {"h": np.ones(H), "n": tg.tensor(np.zeros(6))}
    xs, _, lengths = batch(7, 6)
    check(loss_with(make, first, **how), W, xs, lengths)


@pytest.mark.parametrize("reverse", [False, True])
def test_what_is_read_from_single_steps(reverse: bool) -> None:
    def read(p: Any, xs: Any) -> Any:
        roll = nn.unroll(cell_of(p), xs, np.ones(H), reverse=reverse)
        T = len(roll.steps)
        steps = [roll.steps[t][name] for t in (0, 1, -1, -2, T - 1, -T) for name in ("x", "h", "output")]
        states = [roll.states[k] for k in (1, 2, -1, -2, T, -T)]
        each = [s["h"] for s in roll.steps] + [s["h"] for s in roll.steps[1:3]]
        return steps, states, each, list(roll.states)[1:], roll.states[1:4], tg.tensor(roll.states[0])

    check(read, W, batch(5, 2)[0])


def test_cells_without_a_state() -> None:
    for first in (None, np.ones(H)):
        check(
            lambda p, xs, first=first: nn.unroll(lambda x, s: (tg.tanh(x @ p["W"]), None), xs, first).outputs,
            W,
            batch(5, 2)[0],
        )


def test_gradients_of_the_first_state() -> None:
    def loss(h0: Any, xs: Any) -> Any:
        return (nn.unroll(cell_of(W), xs, h0).outputs ** 2).sum()

    check(tg.value_and_grad(loss), np.linspace(-1, 1, H), batch(5, 3)[0])
    check(tg.value_and_grad(loss), np.array(0.3), batch(5, 3)[0])


def test_draws_within_the_cell() -> None:
    """The first step draws first, as it does in eager mode."""

    def outputs(p: Any, xs: Any, rng: Any) -> Any:
        def cell(x: Any, h: Any) -> Any:
            h = tg.tanh(x @ p["W"] + h @ p["U"])
            return h, tg.functional.dropout(h, 0.5, seed=rng)

        return nn.unroll(cell, xs, np.ones(H)).outputs

    xs = batch(6, 3)[0]
    found = tg.compile(outputs)(W, xs, np.random.default_rng(3))
    assert_same(found, outputs(W, xs, np.random.default_rng(3)))
