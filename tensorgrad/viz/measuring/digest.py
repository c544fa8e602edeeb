"""Many arrays in a few numbers each, arrays of one shape together: a graph has thousands of small ones."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import TypeVar

import numpy as np

from tensorgrad.viz.measuring.measures import Numbers

__all__ = ["batches", "norms_of", "numbers_of"]

K = TypeVar("K")
# So many numbers are looked at together: enough to hide what a call costs, few enough to stay in the cache.
_TOGETHER = 1 << 16
_GREATEST = np.finfo(np.float64).max


def batches(arrays: Mapping[K, np.ndarray]) -> Iterator[tuple[list[K], np.ndarray]]:
    """Arrays of one shape stacked, in float64: (n, *shape), with the keys of the n.

    Of complex numbers the magnitudes.

    Example:
        >>> [(keys, stacked.shape) for keys, stacked in batches({"a": np.ones(3), "b": np.ones(3, "f")})]
        [(['a', 'b'], (2, 3))]
    """
    shapes: dict[tuple[int, ...], list[K]] = defaultdict(list)
    for key, array in arrays.items():
        shapes[array.shape].append(key)
    for keys in shapes.values():
        size = max(1, arrays[keys[0]].size)
        count = max(1, _TOGETHER // size)
        for start in range(0, len(keys), count):
            some = keys[start : start + count]
            yield some, np.array([_real(arrays[key]) for key in some], np.float64)


def _real(array: np.ndarray) -> np.ndarray:
    return np.abs(array) if array.dtype.kind == "c" else array


def numbers_of(arrays: Mapping[K, np.ndarray]) -> dict[K, Numbers]:
    """Each array in a few numbers.

    Norms neither overflow nor vanish where the squares of the numbers would.

    Example:
        >>> found = numbers_of({"h": np.array([3e-200, -4e-200, np.nan])})["h"]
        >>> found.size, found.nan, found.least, found.norm
        (3, 1, -4e-200, 5e-200)
    """
    found: dict[K, Numbers] = {}
    for keys, stacked in batches(arrays):
        rows = stacked.reshape(len(keys), -1)
        finite = np.isfinite(rows)
        x = np.where(finite, rows, 0.0)
        count = finite.sum(axis=1)
        some = count > 0
        per = np.maximum(count, 1)
        scale, y = _scaled(x)
        mean = y.sum(axis=1) / per
        std = np.sqrt((np.square(y - mean[:, None]) * finite).sum(axis=1) / per)
        least = np.where(some, np.where(finite, rows, np.inf).min(axis=1, initial=np.inf), 0.0)
        greatest = np.where(some, np.where(finite, rows, -np.inf).max(axis=1, initial=-np.inf), 0.0)
        nan = np.isnan(rows).sum(axis=1)
        table = zip(
            keys,
            nan.tolist(),
            (rows.shape[1] - count - nan).tolist(),
            least.tolist(),
            greatest.tolist(),
            (scale * mean).tolist(),
            (scale * std).tolist(),
            _norms(scale, y).tolist(),
            strict=True,
        )
        found |= {key: Numbers(rows.shape[1], *rest) for key, *rest in table}
    return found


def norms_of(arrays: Mapping[K, np.ndarray]) -> dict[K, float]:
    """The norm of each array; NaN or infinite where one of its numbers is.

    Example:
        >>> norms_of({"a": np.array([3.0, 4.0]), "b": np.array([1.0, np.inf])})
        {'a': 5.0, 'b': inf}
    """
    found: dict[K, float] = {}
    for keys, stacked in batches(arrays):
        rows = stacked.reshape(len(keys), -1)
        with np.errstate(invalid="ignore", over="ignore"):
            norms = _norms(*_scaled(rows))
            bad = ~np.isfinite(rows).all(axis=1)
            norms[bad] = np.abs(rows[bad]).sum(axis=1)
        found |= dict(zip(keys, norms.tolist(), strict=True))
    return found


def _scaled(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The greatest magnitude of each row, 1 where that is 0, and the rows divided by it."""
    scale = np.abs(rows).max(axis=1, initial=0.0)
    scale[scale == 0] = 1.0
    return scale, rows / scale[:, None]


def _norms(scale: np.ndarray, y: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):
        return np.minimum(scale * np.sqrt(np.square(y).sum(axis=1)), _GREATEST)
