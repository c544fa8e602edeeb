"""The problem's network as tensorgrad's users write it: a cell, unrolled, and an output layer."""

from __future__ import annotations

from typing import Any

import numpy as np

import tensorgrad as tg
import tensorgrad.functional as F
from benchmarks.problem import Problem
from tensorgrad import nn

# The names of a shipped cell's parameters and of the output layer's, and those of the problem.
SHIPPED = {
    "cell.weight_ih": "W_xh",
    "cell.weight_hh": "W_hh",
    "cell.bias_ih": "b_h",
    "cell.bias_hh": "b_hh",
    "output.weight": "W_hy",
    "output.bias": "b_y",
}
CELLS = {"rnn": nn.RNNCell, "lstm": nn.LSTMCell, "gru": nn.GRUCell}


class NaiveCell(nn.Module):
    """The layer-norm LSTM with everything inside the cell, and nothing prepared for a compiler."""

    def __init__(self, V: int, H: int, dtype: Any) -> None:
        self.H = H
        self.W_xh = nn.Parameter(np.zeros((4 * H, V), dtype))
        self.W_hh = nn.Parameter(np.zeros((4 * H, H), dtype))
        self.b_h = nn.Parameter(np.zeros(4 * H, dtype))
        self.gain_x, self.shift_x = (nn.Parameter(np.zeros(4 * H, dtype)) for _ in range(2))
        self.gain_h, self.shift_h = (nn.Parameter(np.zeros(4 * H, dtype)) for _ in range(2))
        self.gain_c, self.shift_c = (nn.Parameter(np.zeros(H, dtype)) for _ in range(2))

    def initial_state(self, x: Any) -> Any:
        zeros = np.zeros((*x.shape[:-1], self.H), np.float32)
        return zeros, zeros

    def forward(self, x: Any, state: Any = None) -> tuple[Any, Any]:
        h, c = self.initial_state(x) if state is None else state
        H = self.H
        a = F.layer_norm(h @ self.W_hh.T, self.gain_h, self.shift_h)
        a = a + F.layer_norm(x @ self.W_xh.T, self.gain_x, self.shift_x) + self.b_h
        i, f, g, o = a[..., :H], a[..., H : 2 * H], a[..., 2 * H : 3 * H], a[..., 3 * H :]
        c = tg.sigmoid(f) * c + tg.sigmoid(i) * tg.tanh(g)
        h = tg.sigmoid(o) * tg.tanh(F.layer_norm(c, self.gain_c, self.shift_c))
        return h, (h, c)


class Model(nn.Module):
    """A problem's network with its weights in it."""

    def __init__(self, problem: Problem) -> None:
        V, H = problem.shape.V, problem.shape.H
        self.cell = CELLS.get(problem.cell, NaiveCell)(V, H, dtype=np.float32)
        self.output = nn.Linear(H, V, dtype=np.float32)
        weights = problem.weights
        self.load_state_dict(
            {
                name: weights.get(named(name), np.zeros(parameter.shape, np.float32))
                for name, parameter in self.named_parameters()
            }
        )


def named(parameter: str) -> str:
    """What the problem calls a parameter of the model."""
    return SHIPPED.get(parameter, parameter.removeprefix("cell."))


def loss_of(model: Model, xs: Any, targets: Any) -> Any:
    """The loss, from the zero state on."""
    return F.cross_entropy(model.output(nn.unroll(model.cell, xs).outputs), targets)


def gradients(problem: Problem, found: dict[str, Any]) -> dict[str, Any]:
    """Gradients by the model's names, under the problem's names."""
    return {named(name): value for name, value in found.items() if named(name) in problem.weights}
