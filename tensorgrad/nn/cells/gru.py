"""The gated recurrent unit and the minimal gated unit."""

from __future__ import annotations

from typing import Any

import numpy as np

from tensorgrad.nn.cells.base import GatedCell, check_choice
from tensorgrad.ops import linear, sigmoid, tanh
from tensorgrad.random import Seed
from tensorgrad.recording import label

__all__ = ["GRUCell", "MGUCell"]


class _ResetCell(GatedCell):
    """Cells whose last gate, the candidate n, sees the state through another gate."""

    carries_h = True

    def candidate(self, from_x: Any, gated: Any) -> Any:
        """n_t = tanh(from_x + W_hn gated + b_hn)."""
        rows = slice(-self.hidden_size, None)
        bias = None if self.bias_hh is None else self.bias_hh[rows]
        return label(tanh(from_x + linear(gated, self.weight_hh[rows], bias)), "n")

    def gate_shares(self, x: Any, h: Any) -> tuple[Any, Any]:
        """The pre-activations of all gates but the candidate, and what x adds to the candidate's."""
        rows = slice(None, -self.hidden_size)
        from_x = linear(x, self.weight_ih, self.bias_ih)
        bias = None if self.bias_hh is None else self.bias_hh[rows]
        a = label(from_x[..., rows] + linear(h, self.weight_hh[rows], bias), "a")
        return a, from_x[..., -self.hidden_size :]


class GRUCell(_ResetCell):
    """The gated recurrent unit; gates stacked in the order r, z, n.

        r_t = sigmoid(W_xr x_t + b_xr + W_hr h_{t-1} + b_hr)
        z_t = sigmoid(W_xz x_t + b_xz + W_hz h_{t-1} + b_hz)
        n_t = tanh(W_xn x_t + b_xn + r_t * (W_hn h_{t-1} + b_hn))
        h_t = (1 - z_t) * n_t + z_t * h_{t-1}

    reset: "after" lets the reset gate act on the recurrent product, as above and in PyTorch and cuDNN;
        "before" on the state that enters it, as published:
            n_t = tanh(W_xn x_t + b_xn + W_hn (r_t * h_{t-1}) + b_hn)
    Output and state are h_t, (B, H). Raises ShapeError for wrong sizes, ValueError for another `reset`.
    Source: Cho et al., "Learning Phrase Representations using RNN Encoder-Decoder" (2014), equations 5-8.

    >>> h, state = GRUCell(3, 4, seed=0)(np.ones((2, 3)))
    >>> h.shape
    (2, 4)
    """

    gates = 3

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        reset: str = "after",
        *,
        seed: Seed = None,
        dtype: Any = np.float64,
    ) -> None:
        check_choice(self, "reset", reset, ("after", "before"))
        super().__init__(input_size, hidden_size, bias, seed=seed, dtype=dtype)
        self.reset = reset

    def forward(self, x: Any, state: Any = None) -> tuple[Any, Any]:
        (h,) = self.parts(x, state)
        z, n = self.reset_after(x, h) if self.reset == "after" else self.reset_before(x, h)
        h = label(n + z * (h - n), "h")
        return h, h

    def reset_after(self, x: Any, h: Any) -> tuple[Any, Any]:
        """Update gate and candidate, with the reset gate behind the recurrent product."""
        x_r, x_z, x_n = self.rows(linear(x, self.weight_ih, self.bias_ih))
        h_r, h_z, h_n = self.rows(linear(h, self.weight_hh, self.bias_hh))
        r = label(sigmoid(x_r + h_r), "r")
        z = label(sigmoid(x_z + h_z), "z")
        return z, label(tanh(x_n + r * h_n), "n")

    def reset_before(self, x: Any, h: Any) -> tuple[Any, Any]:
        """Update gate and candidate, with the reset gate in front of the recurrent product."""
        a, x_n = self.gate_shares(x, h)
        r = label(sigmoid(a[..., : self.hidden_size]), "r")
        z = label(sigmoid(a[..., self.hidden_size :]), "z")
        return z, self.candidate(x_n, r * h)


class MGUCell(_ResetCell):
    """The minimal gated unit: a GRU whose two gates are one; gates stacked in the order f, n.

        f_t = sigmoid(W_xf x_t + W_hf h_{t-1} + b_f)
        n_t = tanh(W_xn x_t + W_hn (f_t * h_{t-1}) + b_n)
        h_t = (1 - f_t) * h_{t-1} + f_t * n_t

    Output and state are h_t, (B, H). Raises ShapeError for wrong sizes.
    Source: Zhou, Wu, Zhang, Zhou, "Minimal Gated Unit for Recurrent Neural Networks" (2016), section 3.

    >>> h, state = MGUCell(3, 4, seed=0)(np.ones((2, 3)))
    >>> h.shape
    (2, 4)
    """

    gates = 2

    def forward(self, x: Any, state: Any = None) -> tuple[Any, Any]:
        (h,) = self.parts(x, state)
        a, x_n = self.gate_shares(x, h)
        f = label(sigmoid(a), "f")
        n = self.candidate(x_n, f * h)
        h = label(h + f * (n - h), "h")
        return h, h
