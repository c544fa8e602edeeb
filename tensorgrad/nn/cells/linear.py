"""Cells whose recurrence is linear in the state, so that a whole sequence can be done at once."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tensorgrad import tree
from tensorgrad.errors import ShapeError
from tensorgrad.nn import init
from tensorgrad.nn.cells.base import Cell
from tensorgrad.nn.module import Parameter
from tensorgrad.nn.scan import linear_scan
from tensorgrad.nn.unroll import alive_steps
from tensorgrad.ops import cos, exp, linear, sigmoid, sin, softplus, where
from tensorgrad.random import Seed, as_generator
from tensorgrad.recording import label
from tensorgrad.tensor import Tensor

__all__ = ["LRUCell", "LinearCell", "MinGRUCell", "MinLSTMCell"]


class LinearCell(Cell):
    """A cell h_t = a_t * h_{t-1} + b_t whose a_t and b_t know the input alone.

    `coefficients` gives a and b for inputs (..., D): of one timestep for `forward`, of all at once for
    `parallel`, which then needs a loop over time for nothing but the recurrence.
    """

    carries_h = True

    def coefficients(self, x: Any) -> tuple[Any, Any]:
        """a and b for inputs (..., D), each of the form of the state."""
        raise NotImplementedError

    def readout(self, x: Any, state: Any) -> Any:
        """The outputs for inputs (..., D) and the states after them."""
        return state

    def forward(self, x: Any, state: Any = None) -> tuple[Any, Any]:
        (h,) = self.parts(x, state)
        a, b = self.coefficients(x)
        h = label(a * h + b, "h")
        return h, h

    def parallel(self, xs: Any, state: Any = None, lengths: Any = None) -> tuple[Any, Any]:
        """What `nn.unroll` gives, (outputs, state), computed for all timesteps at once.

        xs (T, B, D) to outputs (T, B, H); state and lengths as for `nn.unroll`. Raises ShapeError for an
        empty sequence and for what does not fit.

        >>> outputs, state = MinGRUCell(3, 4, seed=0).parallel(np.ones((5, 2, 3)), lengths=[5, 1])
        >>> outputs.shape, state.shape
        ((5, 2, 4), (2, 4))
        """
        xs = xs if isinstance(xs, Tensor) else np.asarray(xs)
        if not xs.ndim or not len(xs):
            raise self.unfit(
                ShapeError, f"a sequence needs at least one timestep, but xs has shape {xs.shape}"
            )
        parts = self.parts(xs[0], state)
        start = parts if len(parts) > 1 else parts[0]
        if lengths is None:
            states = linear_scan(*self.coefficients(xs), start)
            return self.readout(xs, states), tree.map(lambda h: h[-1], states)
        alive = alive_steps(lengths, xs)[..., None]
        xs = where(alive, xs, 0)
        a, b = self.coefficients(xs)
        # Multiplying by 1 and adding 0 hands the state of a sequence that has ended through unchanged.
        one = (1, 0) if len(parts) > 1 else 1
        a = tree.map(lambda each, ended: where(alive, each, ended), a, one)
        b = tree.map(lambda each: where(alive, each, 0), b)
        states = linear_scan(a, b, start)
        return where(alive, self.readout(xs, states), 0), tree.map(lambda h: h[-1], states)


class _MinimalCell(LinearCell):
    """Gates stacked in one matrix for the input, weight_ih (gates * H, D), with bias_ih (gates * H,); both
    uniform within 1 / sqrt(D)."""

    gates = 2

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        *,
        seed: Seed = None,
        dtype: Any = np.float64,
    ) -> None:
        super().__init__(input_size, hidden_size)
        rng = as_generator(seed)
        rows, bound = self.gates * hidden_size, float(input_size) ** -0.5
        self.weight_ih = Parameter(init.uniform((rows, input_size), bound, rng, dtype))
        self.bias_ih = Parameter(init.uniform((rows,), bound, rng, dtype)) if bias else None

    def preactivations(self, x: Any) -> list[Any]:
        """Those of each gate, for inputs (..., D)."""
        H = self.hidden_size
        a = label(linear(x, self.weight_ih, self.bias_ih), "a")
        return [a[..., k * H : (k + 1) * H] for k in range(self.gates)]


class MinGRUCell(_MinimalCell):
    """The minimal GRU, whose gate knows the input alone; gates stacked in the order z, n.

        z_t = sigmoid(W_z x_t + b_z)
        n_t = W_n x_t + b_n
        h_t = (1 - z_t) * h_{t-1} + z_t * n_t

    Parameters weight_ih (2H, D) and bias_ih (2H,), uniform within 1 / sqrt(D). Output and state are h_t,
    (B, H). `parallel` does a whole sequence at once. Raises ShapeError for wrong sizes.
    Source: Feng, Tung, Ahmed, Bengio, Hajimirsadeghi, "Were RNNs All We Needed?" (2024), section 3.1; n_t is
    their h~_t.

    >>> h, state = MinGRUCell(3, 4, seed=0)(np.ones((2, 3)))
    >>> h.shape
    (2, 4)
    """

    gates = 2

    def coefficients(self, x: Any) -> tuple[Any, Any]:
        z, n = self.preactivations(x)
        z, n = label(sigmoid(z), "z"), label(n, "n")
        return 1 - z, z * n


class MinLSTMCell(_MinimalCell):
    """The minimal LSTM, whose gates know the input alone and add up to 1; stacked in the order f, i, n.

        f_t  = sigmoid(W_f x_t + b_f)
        i_t  = sigmoid(W_i x_t + b_i)
        n_t  = W_n x_t + b_n
        f'_t = f_t / (f_t + i_t),  i'_t = i_t / (f_t + i_t)
        h_t  = f'_t * h_{t-1} + i'_t * n_t

    f' is computed as sigmoid(log f - log i), which holds where both gates underflow. The labels "f" and "i"
    are f' and i'. Parameters weight_ih (3H, D) and bias_ih (3H,), uniform within 1 / sqrt(D). Output and
    state are h_t, (B, H). `parallel` does a whole sequence at once. Raises ShapeError for wrong sizes.

    The paper's scan divides by cumulative products of f', which underflow within some hundred timesteps, and
    so it works with logarithms and positive n. `linear_scan` divides by nothing, and h_t is an average of
    what came before: here any T is safe with numbers as they are.
    Source: Feng, Tung, Ahmed, Bengio, Hajimirsadeghi, "Were RNNs All We Needed?" (2024), section 3.2; n_t is
    their h~_t.

    >>> h, state = MinLSTMCell(3, 4, seed=0)(np.ones((2, 3)))
    >>> h.shape
    (2, 4)
    """

    gates = 3

    def coefficients(self, x: Any) -> tuple[Any, Any]:
        f, i, n = self.preactivations(x)
        odds = softplus(-i) - softplus(-f)
        f, i = label(sigmoid(odds), "f"), label(sigmoid(-odds), "i")
        return f, i * label(n, "n")


class LRUCell(LinearCell):
    """The linear recurrent unit: a complex diagonal recurrence, stable by its parameters.

        lambda = exp(-exp(nu_log) + i exp(theta_log))
        h_t    = lambda * h_{t-1} + exp(gamma_log) * (B x_t)
        y_t    = Re(C h_t) + D x_t

    The state is (h_re, h_im), the real and imaginary parts of h_t, both (B, H); the output is y_t, (B, H).
    Parameters nu_log, theta_log, gamma_log (H,), B_re, B_im (H, D), C_re, C_im (H, H) and D (H, D).
    |lambda| < 1 whatever nu_log is, up to rounding. lambda starts evenly spread over the ring
    r_min <= |lambda| <= r_max, its phase between 0 and max_phase; gamma_log starts where h_t has the size of
    B x_t, at log sqrt(1 - |lambda|**2); B, C and D start normal with variance 1 / (their inputs), B and C as
    complex numbers. `parallel` does a whole sequence at once.
    Raises ShapeError for wrong sizes, ValueError unless 0 <= r_min < r_max <= 1 and max_phase > 0.
    Source: Orvieto et al., "Resurrecting Recurrent Neural Networks for Long Sequences" (2023), section 3;
    the ring is Lemma 3.2.

    >>> y, (h_re, h_im) = LRUCell(3, 4, seed=0)(np.ones((2, 3)))
    >>> y.shape, h_im.shape
    ((2, 4), (2, 4))
    """

    state_names = ("h_re", "h_im")

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        r_min: float = 0.0,
        r_max: float = 1.0,
        max_phase: float = 2 * math.pi,
        *,
        seed: Seed = None,
        dtype: Any = np.float64,
    ) -> None:
        super().__init__(input_size, hidden_size)
        if not (0 <= r_min < r_max <= 1 and max_phase > 0):
            raise ValueError(
                f"LRUCell: needs 0 <= r_min < r_max <= 1 and max_phase > 0, not r_min={r_min}, "
                f"r_max={r_max}, max_phase={max_phase}"
            )
        rng = as_generator(seed)
        D, H = input_size, hidden_size
        # Neither 0 nor 1, whose logarithms below are no numbers.
        u, v = np.clip(rng.random((2, H)), 1e-9, 1 - 1e-9)
        nu = -0.5 * np.log(u * (r_max**2 - r_min**2) + r_min**2)
        self.nu_log = Parameter(np.log(nu).astype(dtype))
        self.theta_log = Parameter(np.log(max_phase * v).astype(dtype))
        self.gamma_log = Parameter((0.5 * np.log(-np.expm1(-2 * nu))).astype(dtype))
        self.B_re = Parameter(init.normal((H, D), (2 * D) ** -0.5, rng, dtype))
        self.B_im = Parameter(init.normal((H, D), (2 * D) ** -0.5, rng, dtype))
        self.C_re = Parameter(init.normal((H, H), (2 * H) ** -0.5, rng, dtype))
        self.C_im = Parameter(init.normal((H, H), (2 * H) ** -0.5, rng, dtype))
        self.D = Parameter(init.normal((H, D), float(D) ** -0.5, rng, dtype))

    @property
    def dtype(self) -> Any:
        return self.nu_log.dtype

    def coefficients(self, x: Any) -> tuple[Any, Any]:
        radius, theta = exp(-exp(self.nu_log)), exp(self.theta_log)
        gamma = exp(self.gamma_log)
        b = gamma * linear(x, self.B_re), gamma * linear(x, self.B_im)
        return (radius * cos(theta), radius * sin(theta)), b

    def readout(self, x: Any, state: Any) -> Any:
        h_re, h_im = state
        return label(linear(h_re, self.C_re) - linear(h_im, self.C_im) + linear(x, self.D), "y")

    def forward(self, x: Any, state: Any = None) -> tuple[Any, Any]:
        h_re, h_im = self.parts(x, state)
        (a_re, a_im), (b_re, b_im) = self.coefficients(x)
        after = (
            label(a_re * h_re - a_im * h_im + b_re, "h_re"),
            label(a_re * h_im + a_im * h_re + b_im, "h_im"),
        )
        return self.readout(x, after), after
