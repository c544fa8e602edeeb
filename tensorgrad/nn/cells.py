"""Recurrent cells: `(x, state) -> (output, state)`, with PyTorch's parameter names, shapes and gate order.

x (B, D) or (D,), state (B, H) or (H,). Every cell labels its gates, pre-activations and states, so that an
unrolled graph can be drawn, compared and studied by name.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tensorgrad.context import context
from tensorgrad.errors import DtypeError, ShapeError, TensorgradError
from tensorgrad.nn import init
from tensorgrad.nn.layers import positive
from tensorgrad.nn.module import Module, Parameter
from tensorgrad.ops import affine, linear, relu, sigmoid, tanh
from tensorgrad.random import Seed, as_generator
from tensorgrad.recording import label

__all__ = ["GRUCell", "LSTMCell", "RNNCell"]


class _Cell(Module):
    """What the shipped cells share: gate weights stacked in one matrix for the input and one for the state.

    weight_ih (gates * H, D), weight_hh (gates * H, H), bias_ih and bias_hh (gates * H,), all uniform within
    1 / sqrt(H).
    """

    gates = 1
    state_form = "one Tensor (B, H)"

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        *,
        seed: Seed = None,
        dtype: Any = np.float64,
    ) -> None:
        positive(type(self).__name__, input_size=input_size, hidden_size=hidden_size)
        self.input_size = input_size
        self.hidden_size = hidden_size
        rng = as_generator(seed)
        rows = self.gates * hidden_size
        bound = float(hidden_size) ** -0.5
        self.weight_ih = Parameter(init.uniform((rows, input_size), bound, rng, dtype))
        self.weight_hh = Parameter(init.uniform((rows, hidden_size), bound, rng, dtype))
        self.bias_ih = Parameter(init.uniform((rows,), bound, rng, dtype)) if bias else None
        self.bias_hh = Parameter(init.uniform((rows,), bound, rng, dtype)) if bias else None

    def initial_state(self, x: Any) -> Any:
        """The state before the first step, zeros, for an input (B, D) or (D,)."""
        return np.zeros((*x.shape[:-1], self.hidden_size), self.weight_hh.dtype)

    def check(self, x: Any, h: Any) -> None:
        """Raise unless input and state have this cell's sizes, its dtype, and the same batch."""
        try:
            outer, state, dtype = x.shape, h.shape, self.weight_hh._value.dtype
        except AttributeError:
            raise self.unfit(ShapeError, f"the state is {self.state_form}, not {type(h).__name__}") from None
        if outer[-1:] != (self.input_size,) or state != (*outer[:-1], self.hidden_size):
            raise self.unfit(
                ShapeError,
                f"expected an input (B, {self.input_size}) and a state (B, {self.hidden_size}) of one B, "
                f"but the input has shape {tuple(outer)} and the state {tuple(state)}",
            )
        if x.dtype != dtype or h.dtype != dtype:
            raise self.unfit(
                DtypeError,
                f"its weights are {dtype}, but the input is {x.dtype} and the state {h.dtype}; "
                f"convert with .astype('{dtype}'), or make the cell with another dtype=",
            )

    def unfit(self, kind: type[TensorgradError], what: str) -> TensorgradError:
        """An error that names the cell and where it runs."""
        scope = context().scope
        return kind(f"{type(self).__name__}{f' in scope {scope!r}' if scope else ''}: {what}")

    def preactivation(self, x: Any, h: Any) -> Any:
        """The pre-activations of all gates. Raises ShapeError for wrong sizes."""
        self.check(x, h)
        biases = () if self.bias_ih is None else (self.bias_ih, self.bias_hh)
        return label(affine(x, self.weight_ih, h, self.weight_hh, *biases), "a")

    def extra_repr(self) -> str:
        bias = "" if self.bias_ih is not None else ", bias=False"
        return f"{self.input_size}, {self.hidden_size}{bias}"


class RNNCell(_Cell):
    """The vanilla recurrent cell.

        a_t = W_xh x_t + b_ih + W_hh h_{t-1} + b_hh
        h_t = tanh(a_t)

    nonlinearity: "tanh" or "relu". Output and state are h_t, (B, H).
    Raises ShapeError for wrong sizes, ValueError for another nonlinearity.
    Source: Elman, "Finding Structure in Time" (1990).

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
        *,
        seed: Seed = None,
        dtype: Any = np.float64,
    ) -> None:
        if nonlinearity not in ("tanh", "relu"):
            raise ValueError(f"RNNCell: nonlinearity must be 'tanh' or 'relu', not {nonlinearity!r}")
        super().__init__(input_size, hidden_size, bias, seed=seed, dtype=dtype)
        self.nonlinearity = nonlinearity

    def forward(self, x: Any, state: Any = None) -> tuple[Any, Any]:
        a = self.preactivation(x, self.initial_state(x) if state is None else state)
        activate: Callable[[Any], Any] = tanh if self.nonlinearity == "tanh" else relu
        h = label(activate(a), "h")
        return h, h


class LSTMCell(_Cell):
    """The long short-term memory cell with a forget gate; gates stacked in the order i, f, g, o.

        i_t = sigmoid(W_xi x_t + W_hi h_{t-1} + b_i)
        f_t = sigmoid(W_xf x_t + W_hf h_{t-1} + b_f)
        g_t = tanh(W_xg x_t + W_hg h_{t-1} + b_g)
        o_t = sigmoid(W_xo x_t + W_ho h_{t-1} + b_o)
        c_t = f_t * c_{t-1} + i_t * g_t
        h_t = o_t * tanh(c_t)

    The state is (h, c), both (B, H); the output is h_t. Raises ShapeError for wrong sizes.
    Source: Hochreiter, Schmidhuber, "Long Short-Term Memory" (1997); forget gate of Gers, Schmidhuber,
    Cummins, "Learning to Forget" (2000).

    >>> h, (h, c) = LSTMCell(3, 4, seed=0)(np.ones((2, 3)))
    >>> c.shape
    (2, 4)
    """

    gates = 4
    state_form = "a tuple (h, c) of two Tensors (B, H)"

    def initial_state(self, x: Any) -> Any:
        """Zeros for h and for c, for an input (B, D) or (D,)."""
        return super().initial_state(x), super().initial_state(x)

    def forward(self, x: Any, state: Any = None) -> tuple[Any, Any]:
        if state is None:
            state = self.initial_state(x)
        if not isinstance(state, tuple) or len(state) != 2:
            raise self.unfit(ShapeError, f"the state is {self.state_form}, not {type(state).__name__}")
        h, c = state
        self.check(x, c)
        a = self.preactivation(x, h)
        H = self.hidden_size
        i = label(sigmoid(a[..., :H]), "i")
        f = label(sigmoid(a[..., H : 2 * H]), "f")
        g = label(tanh(a[..., 2 * H : 3 * H]), "g")
        o = label(sigmoid(a[..., 3 * H :]), "o")
        c = label(f * c + i * g, "c")
        h = label(o * tanh(c), "h")
        return h, (h, c)


class GRUCell(_Cell):
    """The gated recurrent unit; gates stacked in the order r, z, n.

        r_t = sigmoid(W_xr x_t + b_xr + W_hr h_{t-1} + b_hr)
        z_t = sigmoid(W_xz x_t + b_xz + W_hz h_{t-1} + b_hz)
        n_t = tanh(W_xn x_t + b_xn + r_t * (W_hn h_{t-1} + b_hn))
        h_t = (1 - z_t) * n_t + z_t * h_{t-1}

    The reset gate acts after the recurrent product, as in PyTorch. Output and state are h_t, (B, H).
    Raises ShapeError for wrong sizes.
    Source: Cho et al., "Learning Phrase Representations using RNN Encoder-Decoder" (2014), equations 5-8,
    with the reset of Chung et al. (2014) as cuDNN computes it.

    >>> h, state = GRUCell(3, 4, seed=0)(np.ones((2, 3)))
    >>> h.shape
    (2, 4)
    """

    gates = 3

    def forward(self, x: Any, state: Any = None) -> tuple[Any, Any]:
        h = self.initial_state(x) if state is None else state
        self.check(x, h)
        from_x = linear(x, self.weight_ih, self.bias_ih)
        from_h = linear(h, self.weight_hh, self.bias_hh)
        H = self.hidden_size
        r = label(sigmoid(from_x[..., :H] + from_h[..., :H]), "r")
        z = label(sigmoid(from_x[..., H : 2 * H] + from_h[..., H : 2 * H]), "z")
        n = label(tanh(from_x[..., 2 * H :] + r * from_h[..., 2 * H :]), "n")
        h = label(n + z * (h - n), "h")
        return h, h
