"""Graphs to draw."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

import tensorgrad as tg
from tensorgrad import nn

CELLS = {"rnn": nn.RNNCell, "lstm": nn.LSTMCell, "gru": nn.GRUCell}


@dataclass
class Case:
    """An output to draw, and what goes with it."""

    output: Any
    unrolled: Any = None
    params: Any = None


def char_rnn(T: int, cell: str = "rnn") -> Case:
    """A character model with a loss at every timestep."""
    recurrent, readout = CELLS[cell](5, 3, seed=0), nn.Linear(3, 5, seed=1)
    text = np.arange(T + 1)[:, None] % 5

    def step(x: Any, state: Any) -> Any:
        h, state = recurrent(x, state)
        return tg.label(readout(h), "y"), state

    roll = nn.unroll(step, tg.one_hot(text[:-1], 5))
    losses = []
    for t in range(T):
        with tg.scope(f"t={t}"):
            losses.append(tg.label(tg.cross_entropy(roll.steps[t]["y"], text[t + 1]), "L"))
    loss = tg.label(tg.mean(tg.stack(losses)), "loss")
    return Case(loss, roll, {"cell": recurrent, "output": readout})


def stacked(T: int) -> Case:
    """Two layers in each timestep, each in a scope of its own."""
    lower, upper = nn.LSTMCell(2, 3, seed=0), nn.LSTMCell(3, 3, seed=1)

    def step(x: Any, state: Any) -> Any:
        below, above = state or (None, None)
        with tg.scope("lower"):
            h, below = lower(x, below)
        with tg.scope("upper"):
            h, above = upper(h, above)
        return h, (below, above)

    roll = nn.unroll(step, np.ones((T, 1, 2)))
    return Case(tg.mean(roll.outputs), roll)


def bidirectional(T: int) -> Case:
    """A run forwards and a run backwards, in scopes of their own, put together timestep by timestep."""
    xs = np.ones((T, 1, 2))
    with tg.scope("forwards"):
        there = nn.unroll(nn.RNNCell(2, 3, seed=0), xs)
    with tg.scope("backwards"):
        back = nn.unroll(nn.RNNCell(2, 3, seed=1), xs, reverse=True)
    both = []
    for t in range(T):
        with tg.scope(f"t={t}"):
            both.append(tg.concatenate([there.steps[t]["h"], back.steps[t]["h"]], axis=-1))
    return Case(tg.mean(tg.stack(both)))


def attention(T: int) -> Case:
    """An encoder, and a decoder that goes on from its state and attends to its outputs."""
    with tg.scope("encoder"):
        encoded = nn.unroll(nn.GRUCell(2, 3, seed=0), np.ones((T, 1, 2)))
    memory = tg.label(encoded.outputs, "memory")
    cell = nn.GRUCell(3, 3, seed=1)

    def step(x: Any, h: Any) -> Any:
        with tg.scope("attention"):
            weights = tg.label(tg.softmax(tg.sum(memory * h, -1), axis=0), "weights")
            context = tg.label(tg.sum(memory * tg.expand_dims(weights, -1), 0), "context")
        return cell(context + x, h)

    with tg.scope("decoder"):
        decoded = nn.unroll(step, np.ones((T, 1, 3)), encoded.state)
    return Case(tg.mean(decoded.outputs), decoded)


def running_sum(T: int) -> Case:
    """A loss that is summed up as the timesteps go by, and an input that needs a gradient."""
    xs = tg.tensor(np.ones((T, 1, 2)), requires_grad=True, name="xs")
    cell = nn.RNNCell(2, 3, seed=0)
    h: Any = tg.tensor(np.zeros((1, 3)), name="h0")
    total: Any = 0
    for t in range(T):
        with tg.scope(f"t={t}"):
            h, _ = cell(xs[t], h)
            total = tg.label(total + tg.mean(h * h), "total")
    return Case(total)


class Leaky(nn.Module):
    """A cell whose state is two tensors, and which labels nothing but them."""

    def __init__(self) -> None:
        rng = np.random.default_rng(0)
        self.w_xh = nn.Parameter(rng.normal(size=(2, 3)))
        self.w_hh = nn.Parameter(rng.normal(size=(3, 3)))
        self.w_xc = nn.Parameter(rng.normal(size=(2, 3)))

    def forward(self, x: Any, state: Any = None) -> Any:
        h, c = state if state is not None else (np.zeros((2, 3)), np.zeros((2, 3)))
        c = tg.label(0.9 * c + tg.tanh(x @ self.w_xc + h @ self.w_hh), "c")
        h = tg.label(tg.tanh(c) * tg.sigmoid(x @ self.w_xh), "h")
        return h, (h, c)


def lengths(T: int, cell: Callable[..., Any]) -> Case:
    """Two sequences, one of which ends two timesteps before the other."""
    roll = nn.unroll(cell, np.ones((T, 2, 2)), lengths=[T, max(T - 2, 1)])
    return Case(tg.sum(roll.outputs), roll)


GRAPHS: dict[str, Callable[[int], Case]] = {
    "rnn": char_rnn,
    "lstm": lambda T: char_rnn(T, "lstm"),
    "gru": lambda T: char_rnn(T, "gru"),
    "stacked": stacked,
    "bidirectional": bidirectional,
    "attention": attention,
    "running sum": running_sum,
    "lengths": lambda T: lengths(T, nn.LSTMCell(2, 3, seed=0)),
    "lengths, own cell": lambda T: lengths(T, Leaky()),
}
