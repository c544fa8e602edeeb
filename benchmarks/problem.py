"""The work every peer does: one training step of a vanilla RNN, from the same weights, on the same batch.

    h_t = tanh(W_xh x_t + W_hh h_(t-1) + b_h),    y_t = W_hy h_t + b_y,    h_(-1) = 0

    loss = mean over all timesteps and sequences of the softmax cross-entropy of y_t

One step is the forward pass, the loss and the gradients of all parameters, in float32. Parameters are not
updated.
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


@dataclass(frozen=True)
class Problem:
    """Weights and one batch, ready to be handed to a library.

    Attributes:
        weights: ``W_xh`` (H, V), ``W_hh`` (H, H), ``b_h`` (H,), ``W_hy`` (V, H), ``b_y`` (V,), float32.
        inputs: characters as one-hot vectors, (T, B, V), float32. Encoding them is no part of the step.
        targets: the next characters, (T, B), int64.
    """

    shape: Shape
    weights: dict[str, np.ndarray]
    inputs: np.ndarray
    targets: np.ndarray


class Step(NamedTuple):
    """A peer's training step.

    Attributes:
        run: does the work and returns a handle to what it computed, when all of it is computed.
        read: takes that handle; returns the loss and the gradients under the names of ``Problem.weights``.
    """

    run: Callable[[], Any]
    read: Callable[[Any], tuple[float, dict[str, Any]]]


def make_problem(shape: Shape, seed: int = 0) -> Problem:
    """Draw weights as PyTorch draws them (uniform within 1/sqrt(H)) and a random text."""
    rng = np.random.default_rng(seed)
    H, T, B, V = shape.H, shape.T, shape.B, shape.V
    bound = 1.0 / np.sqrt(H)
    sizes = {"W_xh": (H, V), "W_hh": (H, H), "b_h": (H,), "W_hy": (V, H), "b_y": (V,)}
    weights = {name: rng.uniform(-bound, bound, size).astype(np.float32) for name, size in sizes.items()}
    text = rng.integers(V, size=(T + 1, B))
    return Problem(shape, weights, np.eye(V, dtype=np.float32)[text[:-1]], text[1:])
