"""The long short-term memory and its relatives: with peepholes, with layer normalisation, and the sLSTM."""

from __future__ import annotations

from numbers import Real
from typing import Any

import numpy as np

from tensorgrad.nn import init
from tensorgrad.nn.cells.base import GatedCell, check_choice
from tensorgrad.nn.layers import LayerNorm
from tensorgrad.nn.module import Parameter
from tensorgrad.ops import equal, exp, linear, maximum, minimum, sigmoid, softplus, tanh, where
from tensorgrad.random import Seed, as_generator
from tensorgrad.recording import label

__all__ = ["LSTMCell", "LayerNormLSTMCell", "PeepholeLSTMCell", "SLSTMCell"]


class LSTMCell(GatedCell):
    """The long short-term memory cell with a forget gate; gates stacked in the order i, f, g, o.

        i_t = sigmoid(W_xi x_t + W_hi h_{t-1} + b_i)
        f_t = sigmoid(W_xf x_t + W_hf h_{t-1} + b_f)
        g_t = tanh(W_xg x_t + W_hg h_{t-1} + b_g)
        o_t = sigmoid(W_xo x_t + W_ho h_{t-1} + b_o)
        c_t = f_t * c_{t-1} + i_t * g_t
        h_t = o_t * tanh(c_t)

    forget_bias: where b_f starts, instead of at random; with 1 or more the cell remembers from the first
        training step on. The value stands in bias_ih, zeros in bias_hh.
    The state is (h, c), both (B, H); the output is h_t. Raises ShapeError for wrong sizes, ValueError for a
    forget bias that is no finite number, or without biases.
    Source: Hochreiter, Schmidhuber, "Long Short-Term Memory" (1997); forget gate of Gers, Schmidhuber,
    Cummins, "Learning to Forget" (2000); its bias: Jozefowicz, Zaremba, Sutskever, "An Empirical Exploration
    of Recurrent Network Architectures" (2015).

    >>> h, (h, c) = LSTMCell(3, 4, seed=0)(np.ones((2, 3)))
    >>> c.shape
    (2, 4)
    """

    gates = 4
    state_names = ("h", "c")

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        forget_bias: float | None = None,
        *,
        seed: Seed = None,
        dtype: Any = np.float64,
    ) -> None:
        super().__init__(input_size, hidden_size, bias, seed=seed, dtype=dtype)
        if forget_bias is None:
            return
        given: Any = forget_bias
        most: Any = float(np.finfo(dtype).max)
        if not (isinstance(given, Real) and abs(given) <= most):
            raise ValueError(f"{type(self).__name__}: forget_bias must be a finite number, not {given!r}")
        if self.bias_ih is None or self.bias_hh is None:
            raise ValueError(f"{type(self).__name__}: forget_bias={forget_bias} needs biases, but bias=False")
        for parameter, start in ((self.bias_ih, forget_bias), (self.bias_hh, 0.0)):
            array = np.array(parameter.data)
            array[hidden_size : 2 * hidden_size] = start
            parameter.data = array

    def forward(self, x: Any, state: Any = None) -> tuple[Any, Any]:
        h, c = self.parts(x, state)
        i, f, g, o = self.rows(self.preactivation(x, h))
        i, f = label(sigmoid(i), "i"), label(sigmoid(f), "f")
        g, o = label(tanh(g), "g"), label(sigmoid(o), "o")
        c = label(f * c + i * g, "c")
        h = label(o * tanh(c), "h")
        return h, (h, c)


class PeepholeLSTMCell(LSTMCell):
    """The LSTM whose gates see the cell state; gates stacked in the order i, f, g, o.

        i_t = sigmoid(W_xi x_t + W_hi h_{t-1} + w_ci * c_{t-1} + b_i)
        f_t = sigmoid(W_xf x_t + W_hf h_{t-1} + w_cf * c_{t-1} + b_f)
        g_t = tanh(W_xg x_t + W_hg h_{t-1} + b_g)
        c_t = f_t * c_{t-1} + i_t * g_t
        o_t = sigmoid(W_xo x_t + W_ho h_{t-1} + w_co * c_t + b_o)
        h_t = o_t * tanh(c_t)

    The peepholes weight_ci, weight_cf, weight_co (H,) are uniform within 1 / sqrt(H). Parameters, options and
    state (h, c) otherwise as for `LSTMCell`; the label "a" is what the gates share with it.
    Source: Gers, Schmidhuber, "Recurrent Nets that Time and Count" (2000); in this form Graves, "Generating
    Sequences With Recurrent Neural Networks" (2013), equations 7-11.

    >>> h, (h, c) = PeepholeLSTMCell(3, 4, seed=0)(np.ones((2, 3)))
    >>> c.shape
    (2, 4)
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        forget_bias: float | None = None,
        *,
        seed: Seed = None,
        dtype: Any = np.float64,
    ) -> None:
        rng = as_generator(seed)
        super().__init__(input_size, hidden_size, bias, forget_bias, seed=rng, dtype=dtype)
        bound = float(hidden_size) ** -0.5
        self.weight_ci = Parameter(init.uniform((hidden_size,), bound, rng, dtype))
        self.weight_cf = Parameter(init.uniform((hidden_size,), bound, rng, dtype))
        self.weight_co = Parameter(init.uniform((hidden_size,), bound, rng, dtype))

    def forward(self, x: Any, state: Any = None) -> tuple[Any, Any]:
        h, c = self.parts(x, state)
        i, f, g, o = self.rows(self.preactivation(x, h))
        i = label(sigmoid(i + self.weight_ci * c), "i")
        f = label(sigmoid(f + self.weight_cf * c), "f")
        g = label(tanh(g), "g")
        c = label(f * c + i * g, "c")
        o = label(sigmoid(o + self.weight_co * c), "o")
        h = label(o * tanh(c), "h")
        return h, (h, c)


class LayerNormLSTMCell(LSTMCell):
    """The LSTM with layer normalisation; gates stacked in the order i, f, g, o.

        a_t = LN(W_hh h_{t-1}; alpha_1, beta_1) + LN(W_xh x_t; alpha_2, beta_2) + b
        i_t, f_t, g_t, o_t = sigmoid, sigmoid, tanh, sigmoid of the rows of a_t
        c_t = f_t * c_{t-1} + i_t * g_t
        h_t = o_t * tanh(LN(c_t; alpha_3, beta_3))

    Each LN normalises over all elements of its vector, so that of a_t over the rows of all four gates.
    norm_hh, norm_ih and norm_c hold alpha (`weight`, at first 1) and beta (`bias`, at first 0). b is
    bias_ih + bias_hh. Parameters, options and state (h, c) otherwise as for `LSTMCell`.
    Source: Ba, Kiros, Hinton, "Layer Normalization" (2016), supplementary material, equations 20-22.

    >>> h, (h, c) = LayerNormLSTMCell(3, 4, seed=0)(np.ones((2, 3)))
    >>> c.shape
    (2, 4)
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        forget_bias: float | None = None,
        *,
        seed: Seed = None,
        dtype: Any = np.float64,
    ) -> None:
        super().__init__(input_size, hidden_size, bias, forget_bias, seed=seed, dtype=dtype)
        self.norm_ih = LayerNorm(4 * hidden_size, dtype=dtype)
        self.norm_hh = LayerNorm(4 * hidden_size, dtype=dtype)
        self.norm_c = LayerNorm(hidden_size, dtype=dtype)

    def forward(self, x: Any, state: Any = None) -> tuple[Any, Any]:
        h, c = self.parts(x, state)
        a = self.norm_hh(linear(h, self.weight_hh)) + self.norm_ih(linear(x, self.weight_ih))
        if self.bias_ih is not None:
            a = a + (self.bias_ih + self.bias_hh)
        i, f, g, o = self.rows(label(a, "a"))
        i, f = label(sigmoid(i), "i"), label(sigmoid(f), "f")
        g, o = label(tanh(g), "g"), label(sigmoid(o), "o")
        c = label(f * c + i * g, "c")
        h = label(o * tanh(self.norm_c(c)), "h")
        return h, (h, c)


class SLSTMCell(GatedCell):
    """The scalar LSTM of the xLSTM, with an exponential input gate; gates stacked in the order i, f, z, o.

        z_t = tanh(W_z x_t + R_z h_{t-1} + b_z)
        i_t = exp(W_i x_t + R_i h_{t-1} + b_i)
        f_t = sigmoid(W_f x_t + R_f h_{t-1} + b_f), or exp
        o_t = sigmoid(W_o x_t + R_o h_{t-1} + b_o)
        c_t = f_t * c_{t-1} + i_t * z_t
        n_t = f_t * n_{t-1} + i_t
        h_t = o_t * c_t / n_t

    An exponential overflows, so all is computed relative to exp(m_t), with the stabiliser

        m_t  = max(log f_t + m_{t-1}, log i_t)
        i'_t = exp(log i_t - m_t)
        f'_t = exp(log f_t + m_{t-1} - m_t)

    and i', f' in the places of i, f. It cancels in h_t. Where n_{t-1} = 0, as before the first step, nothing
    is carried over and m_t = log i_t.

    forget: "sigmoid" or "exp". The state is (h, c, n, m), each (B, H), c and n relative to exp(m); the output
    is h_t. Raises ShapeError for wrong sizes, ValueError for another forget gate.
    Source: Beck et al., "xLSTM: Extended Long Short-Term Memory" (2024), equations 8-17, with one head.

    >>> h, state = SLSTMCell(3, 4, seed=0)(np.ones((2, 3)))
    >>> [part.shape for part in state]
    [(2, 4), (2, 4), (2, 4), (2, 4)]
    """

    gates = 4
    state_names = ("h", "c", "n", "m")
    scaled_state = True

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        forget: str = "sigmoid",
        *,
        seed: Seed = None,
        dtype: Any = np.float64,
    ) -> None:
        check_choice(self, "forget", forget, ("sigmoid", "exp"))
        super().__init__(input_size, hidden_size, bias, seed=seed, dtype=dtype)
        self.forget = forget

    def forward(self, x: Any, state: Any = None) -> tuple[Any, Any]:
        h, c, n, m = self.parts(x, state)
        log_i, f, z, o = self.rows(self.preactivation(x, h))
        kept = (f if self.forget == "exp" else -softplus(-f)) + m
        # An empty memory has no scale to set: i' could underflow, and with it n.
        m = label(where(equal(n, 0), log_i, maximum(kept, log_i)), "m")
        # Above 0 only where n is 0: what f' multiplies is 0, but its gradient is not, and must stay finite.
        i, f = label(exp(log_i - m), "i"), label(exp(minimum(kept - m, 60.0)), "f")
        z, o = label(tanh(z), "z"), label(sigmoid(o), "o")
        c = label(f * c + i * z, "c")
        n = label(f * n + i, "n")
        h = label(o * (c / n), "h")
        return h, (h, c, n, m)
