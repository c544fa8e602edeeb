"""More graphs to lay out, of every kind that the fixtures here do not have."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

import tensorgrad as tg
from tensorgrad import nn

from .conftest import GRAPHS, Case, lengths


def layered(T: int) -> Case:
    """Two layers in two directions, each in a scope of its own."""
    layers = nn.LSTM(3, 4, num_layers=2, bidirectional=True)
    run = layers.unroll(np.ones((T, 2, 3)))
    return Case(tg.label(tg.sum(run.outputs), "loss"), run, layers)


def masked(T: int) -> Case:
    return lengths(T, nn.GRUCell(2, 3, seed=0))


def last_only(T: int) -> Case:
    roll = nn.unroll(nn.RNNCell(2, 3, seed=0), np.ones((T, 1, 2)))
    return Case(tg.sum(roll.state), roll)


def skipping(T: int) -> Case:
    """A state that is used again three timesteps later."""
    W = tg.tensor(np.eye(3), requires_grad=True, name="W_hh")
    states = [tg.tensor(np.zeros((1, 3)), name="h0")]
    for t in range(T):
        with tg.scope(f"t={t}"):
            a = states[-1] @ W
            if t >= 3:
                a = a + states[t - 2]
            states.append(tg.label(tg.tanh(a), "h"))
    return Case(tg.sum(states[-1]))


def computed_once(T: int) -> Case:
    """What is made in the first timestep, and used in all that follow."""
    cell = nn.RNNCell(3, 3, seed=0)
    state = None
    for t in range(T):
        with tg.scope(f"t={t}"):
            if t == 0:
                scale = tg.label(tg.exp(tg.tensor(np.ones(3), requires_grad=True, name="s")), "scale")
            _, state = cell(np.ones((1, 3)) * scale, state)
    return Case(tg.sum(state))


def joined_at_the_end(T: int) -> Case:
    """What is made in the last timestep of the states of all."""
    cell, states = nn.RNNCell(3, 3, seed=0), []
    state = None
    for t in range(T):
        with tg.scope(f"t={t}"):
            _, state = cell(np.ones((1, 3)), state)
            states.append(state)
            if t == T - 1:
                loss = tg.label(tg.sum(tg.stack(states)), "loss")
    return Case(loss)


def unscoped_losses(T: int) -> Case:
    """A loss for every timestep, computed outside of all."""
    cell, readout = nn.RNNCell(2, 3, seed=0), nn.Linear(3, 5, seed=1)
    roll = nn.unroll(cell, np.ones((T, 1, 2)))
    losses = [tg.cross_entropy(readout(step["h"]), np.array([1])) for step in roll.steps]
    return Case(tg.mean(tg.stack(losses)), roll, {"out": readout})


def unscoped(T: int) -> Case:
    """A run that nobody told the timesteps of."""
    W = tg.tensor(np.eye(3), requires_grad=True, name="W_hh")
    h, losses = tg.tensor(np.zeros((1, 3)), name="h0"), []
    for _ in range(T):
        h = tg.tanh(h @ W)
        losses.append(tg.sum(h * h))
    return Case(tg.mean(tg.stack(losses)))


def perceptron(T: int) -> Case:
    """No timesteps, but layers in scopes, each with a way around it."""
    x = tg.tensor(np.ones((3, 4)), name="x")
    for k in range(T):
        with tg.scope(f"layer{k}"):
            W = tg.tensor(np.ones((4, 4)), requires_grad=True, name=f"W{k}")
            x = x + tg.tanh(x @ W)
    return Case(tg.sum(x))


def of_cell(name: str) -> Callable[[int], Case]:
    def case(T: int) -> Case:
        roll = nn.unroll(nn.make_cell(name, 3, 4, seed=0), np.ones((T, 1, 3)))
        return Case(tg.sum(roll.outputs), roll)

    return case


EVERY: dict[str, Callable[[int], Case]] = {
    **GRAPHS,
    **{
        graph.__name__: graph
        for graph in (
            *(layered, masked, last_only, skipping, computed_once, joined_at_the_end),
            *(unscoped_losses, unscoped, perceptron),
        )
    },
    **{f"{name} cell": of_cell(name) for name in nn.CELLS},
}
