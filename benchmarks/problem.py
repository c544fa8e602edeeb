"""The work every peer does: one training step of a recurrent network, from the same weights and batch.

    h_t = tanh(W_xh x_t + W_hh h_(t-1) + b_h),    y_t = W_hy h_t + b_y,    h_(-1) = 0

    loss = mean over all timesteps and sequences of the softmax cross-entropy of y_t

One step is the forward pass, the loss and the gradients of all parameters, in float32. Parameters are not
updated. In place of the vanilla RNN above there may be, with the rows of the gates stacked in the order i, f,
g, o or r, z, n,

    an LSTM                 with a_t = W_xh x_t + W_hh h_(t-1) + b_h
    a GRU                   with the second bias b_hh, which the reset gate scales together with W_hh h_(t-1)
    a layer-norm LSTM       with a_t = LN(W_hh h_(t-1)) + LN(W_xh x_t) + b_h and h_t = o_t * tanh(LN(c_t))

The last is what users write themselves, and all write it the naive way: the whole equation inside the cell.
It is that of Ba, Kiros and Hinton, "Layer Normalization" (2016), supplementary material.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np


@dataclass(frozen=True)
class Shape:
    """The sizes of a problem: hidden units, timesteps, sequences in a batch, characters."""

    H: int
    T: int
    B: int
    V: int = 65

    def __str__(self) -> str:
        return f"H={self.H} T={self.T} B={self.B}"


# The blocks of rows in W_xh and W_hh.
GATES = {"rnn": 1, "lstm": 4, "gru": 3, "layernorm_lstm": 4}
LABELS = {"rnn": "vanilla RNN", "lstm": "LSTM", "gru": "GRU", "layernorm_lstm": "layer-norm LSTM, naive"}


@dataclass(frozen=True)
class Problem:
    """Weights and one batch, ready to be handed to a library.

    Attributes:
        weights: with G blocks of rows ``W_xh`` (G H, V), ``W_hh`` (G H, H), ``b_h`` (G H,), and ``W_hy``
            (V, H), ``b_y`` (V,), float32. A GRU has ``b_hh`` (G H,) too; layer norms have ``gain_x``,
            ``shift_x``, ``gain_h``, ``shift_h`` (G H,), and ``gain_c``, ``shift_c`` (H,).
        inputs: characters as one-hot vectors, (T, B, V), float32. Encoding them is no part of the step.
        targets: the next characters, (T, B), int64.
    """

    shape: Shape
    weights: dict[str, np.ndarray]
    inputs: np.ndarray
    targets: np.ndarray
    cell: str = "rnn"


class Step(NamedTuple):
    """A peer's training step.

    Attributes:
        run: does the work and returns a handle to what it computed, when all of it is computed.
        read: takes that handle; returns the loss and the gradients under the names of ``Problem.weights``.
    """

    run: Callable[[], Any]
    read: Callable[[Any], tuple[float, dict[str, Any]]]


def make_problem(shape: Shape, cell: str = "rnn", seed: int = 0) -> Problem:
    """Draw weights as PyTorch draws them (uniform within 1/sqrt(H)) and a random text.

    Gains are drawn around 0.5. Around 1 the state is chaotic: after 1,000 steps no two libraries' float32
    gradients agree in their second digit.
    """
    rng = np.random.default_rng(seed)
    H, T, B, V = shape.H, shape.T, shape.B, shape.V
    bound = 1.0 / np.sqrt(H)
    rows = GATES[cell] * H
    sizes = {"W_xh": (rows, V), "W_hh": (rows, H), "b_h": (rows,), "W_hy": (V, H), "b_y": (V,)}
    if cell == "gru":
        sizes["b_hh"] = (rows,)
    if cell == "layernorm_lstm":
        lengths = {"x": rows, "h": rows, "c": H}
        sizes |= {f"{kind}_{of}": (n,) for of, n in lengths.items() for kind in ("gain", "shift")}
    weights = {
        name: (rng.uniform(-bound, bound, size) + 0.5 * name.startswith("gain")).astype(np.float32)
        for name, size in sizes.items()
    }
    text = rng.integers(V, size=(T + 1, B))
    return Problem(shape, weights, np.eye(V, dtype=np.float32)[text[:-1]], text[1:], cell)
