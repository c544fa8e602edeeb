"""Initial weights. Each takes a shape and an explicit seed or Generator and gives an array."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tensorgrad.errors import ShapeError
from tensorgrad.random import Seed, as_generator

__all__ = ["normal", "orthogonal", "scaled_normal", "scaled_uniform", "uniform"]


def uniform(shape: Sequence[int], bound: float, seed: Seed = None, dtype: Any = np.float64) -> np.ndarray:
    """Uniform between -bound and bound.

    >>> uniform((2, 3), 0.1, seed=0).shape
    (2, 3)
    """
    return as_generator(seed).uniform(-bound, bound, shape).astype(dtype)


def normal(shape: Sequence[int], std: float, seed: Seed = None, dtype: Any = np.float64) -> np.ndarray:
    """Normal with mean 0 and standard deviation `std`.

    >>> normal((2, 3), 0.01, seed=0).shape
    (2, 3)
    """
    return (std * as_generator(seed).standard_normal(shape)).astype(dtype)


def _fans(shape: Sequence[int]) -> tuple[int, int]:
    if len(shape) < 2:
        raise ShapeError(f"a scaled initialiser needs a matrix (out, in), not shape {tuple(shape)}")
    return int(shape[1]), int(shape[0])


def scaled_uniform(
    shape: Sequence[int], seed: Seed = None, gain: float = 1.0, dtype: Any = np.float64
) -> np.ndarray:
    """Uniform with variance 2 gain**2 / (fan_in + fan_out), for a matrix (fan_out, fan_in).

    Raises ShapeError for fewer than two axes.
    Source: Glorot, Bengio, "Understanding the difficulty of training deep feedforward neural networks"
    (2010), equation 16.

    >>> scaled_uniform((2, 4), seed=0).shape
    (2, 4)
    """
    fan_in, fan_out = _fans(shape)
    return uniform(shape, gain * float(np.sqrt(6.0 / (fan_in + fan_out))), seed, dtype)


def scaled_normal(
    shape: Sequence[int], seed: Seed = None, gain: float = 1.0, dtype: Any = np.float64
) -> np.ndarray:
    """Normal with variance gain**2 / fan_in, for a matrix (fan_out, fan_in); gain sqrt(2) suits relu.

    Raises ShapeError for fewer than two axes.
    Source: He et al., "Delving Deep into Rectifiers" (2015), equation 10.

    >>> scaled_normal((2, 4), seed=0).shape
    (2, 4)
    """
    fan_in, _ = _fans(shape)
    return normal(shape, gain / float(np.sqrt(fan_in)), seed, dtype)


def orthogonal(
    shape: Sequence[int], seed: Seed = None, gain: float = 1.0, dtype: Any = np.float64
) -> np.ndarray:
    """A random matrix with orthonormal rows or columns (the fewer), times `gain`; uniformly distributed.

    As W_hh it keeps the length of what passes through it. Raises ShapeError unless the shape is a matrix's.
    Source: Saxe, McClelland, Ganguli, "Exact solutions to the nonlinear dynamics of learning in deep linear
    neural networks" (2014), section 3.

    >>> W = orthogonal((3, 3), seed=0)
    >>> bool(np.allclose(W @ W.T, np.eye(3)))
    True
    """
    if len(shape) != 2:
        raise ShapeError(f"orthogonal: needs a matrix, not shape {tuple(shape)}")
    rows, columns = shape
    draws = as_generator(seed).standard_normal((max(rows, columns), min(rows, columns)))
    q, r = np.linalg.qr(draws)
    # The signs of R's diagonal are arbitrary; fixing them makes the distribution uniform.
    q = q * np.where(np.diagonal(r) < 0, -1.0, 1.0)
    return (gain * (q if rows >= columns else q.T)).astype(dtype)
