"""Cells with a single pre-activation: the vanilla RNN, IRNN and IndRNN."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tensorgrad.nn import init
from tensorgrad.nn.cells.base import Cell, GatedCell, check_choice
from tensorgrad.nn.module import Parameter
from tensorgrad.ops import linear, relu, tanh
from tensorgrad.random import Seed, as_generator
from tensorgrad.recording import label

__all__ = ["IRNNCell", "IndRNNCell", "RNNCell"]

NONLINEARITIES: dict[str, Callable[[Any], Any]] = {"tanh": tanh, "relu": relu}


class RNNCell(GatedCell):
    """The vanilla recurrent cell.

        a_t = W_xh x_t + b_ih + W_hh h_{t-1} + b_hh
        h_t = tanh(a_t)

    nonlinearity: "tanh" or "relu". recurrent: where W_hh starts, "uniform" like all else, "identity" or
        "orthogonal"; the last two neither shrink nor stretch what passes through them.
    Output and state are h_t, (B, H).
    Raises ShapeError for wrong sizes, ValueError for another nonlinearity or start.
    Source: Elman, "Finding Structure in Time" (1990); orthogonal start: Saxe, McClelland, Ganguli, "Exact
    solutions to the nonlinear dynamics of learning in deep linear neural networks" (2014).

    >>> h, state = RNNCell(3, 4, seed=0)(np.ones((2, 3)))
    >>> h.shape
    (2, 4)
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        nonlinearity: str = "tanh",
        recurrent: str = "uniform",
        *,
        seed: Seed = None,
        dtype: Any = np.float64,
    ) -> None:
        check_choice(self, "nonlinearity", nonlinearity, tuple(NONLINEARITIES))
        check_choice(self, "recurrent", recurrent, ("uniform", "identity", "orthogonal"))
        rng = as_generator(seed)
        super().__init__(input_size, hidden_size, bias, seed=rng, dtype=dtype)
        self.nonlinearity = nonlinearity
        self.carries_h = (nonlinearity, recurrent) == ("relu", "identity")
        if recurrent == "identity":
            self.weight_hh.data = np.eye(hidden_size, dtype=dtype)
        elif recurrent == "orthogonal":
            self.weight_hh.data = init.orthogonal((hidden_size, hidden_size), rng, dtype=dtype)

    def forward(self, x: Any, state: Any = None) -> tuple[Any, Any]:
        (h,) = self.parts(x, state)
        h = label(NONLINEARITIES[self.nonlinearity](self.preactivation(x, h)), "h")
        return h, h


class IRNNCell(RNNCell):
    """The recurrent cell of rectified units that starts as a memory: W_hh is the identity, the biases are 0.

        h_t = relu(W_xh x_t + b_ih + W_hh h_{t-1} + b_hh)

    scale: W_hh starts as so many times the identity; less than 1 forgets. W_xh starts normal with standard
        deviation 0.001.
    Output and state are h_t, (B, H). Raises ShapeError for wrong sizes.
    Source: Le, Jaitly, Hinton, "A Simple Way to Initialize Recurrent Networks of Rectified Linear Units"
    (2015).

    >>> IRNNCell(3, 2, scale=0.5).weight_hh.numpy()
    array([[0.5, 0. ],
           [0. , 0.5]])
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        scale: float = 1.0,
        *,
        seed: Seed = None,
        dtype: Any = np.float64,
    ) -> None:
        rng = as_generator(seed)
        super().__init__(input_size, hidden_size, bias, "relu", "identity", seed=rng, dtype=dtype)
        self.weight_hh.data = scale * np.eye(hidden_size, dtype=dtype)
        self.weight_ih.data = init.normal((hidden_size, input_size), 0.001, rng, dtype)
        if self.bias_ih is not None and self.bias_hh is not None:
            self.bias_ih.data = self.bias_hh.data = np.zeros(hidden_size, dtype)


class IndRNNCell(Cell):
    """The independently recurrent cell: each unit sees its own past alone.

        a_t = W x_t + u * h_{t-1} + b
        h_t = relu(a_t)

    weight_ih is W, (H, D), uniform within 1 / sqrt(D); weight_hh is u, (H,), uniform between 0 and 1; bias_ih
    is b, (H,), 0 at first. nonlinearity: "relu" or "tanh". Output and state are h_t, (B, H).
    Raises ShapeError for wrong sizes, ValueError for another nonlinearity.
    Source: Li, Li, Cook, Zhu, Gao, "Independently Recurrent Neural Network (IndRNN): Building A Longer and
    Deeper RNN" (2018), section 3.

    >>> h, state = IndRNNCell(3, 4, seed=0)(np.ones((2, 3)))
    >>> h.shape
    (2, 4)
    """

    carries_h = True

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        nonlinearity: str = "relu",
        *,
        seed: Seed = None,
        dtype: Any = np.float64,
    ) -> None:
        super().__init__(input_size, hidden_size)
        check_choice(self, "nonlinearity", nonlinearity, tuple(NONLINEARITIES))
        rng = as_generator(seed)
        self.weight_ih = Parameter(init.uniform((hidden_size, input_size), input_size**-0.5, rng, dtype))
        self.weight_hh = Parameter(rng.random(hidden_size).astype(dtype))
        self.bias_ih = Parameter(np.zeros(hidden_size, dtype)) if bias else None
        self.nonlinearity = nonlinearity

    def forward(self, x: Any, state: Any = None) -> tuple[Any, Any]:
        (h,) = self.parts(x, state)
        a = label(linear(x, self.weight_ih, self.bias_ih) + self.weight_hh * h, "a")
        h = label(NONLINEARITIES[self.nonlinearity](a), "h")
        return h, h
