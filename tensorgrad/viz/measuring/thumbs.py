"""Small pictures of arrays, for a page that shows thousands of them: a few bytes each."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

import numpy as np

from tensorgrad.viz.measuring.digest import batches
from tensorgrad.viz.measuring.measure import Walk, gradients_of, values_of, walk
from tensorgrad.viz.model import Model

__all__ = [
    "BINS",
    "INFINITE",
    "LEVELS",
    "MINUS_INFINITE",
    "NAN",
    "Thumb",
    "Thumbs",
    "thumbnail",
    "thumbnails",
    "thumbs_of",
]

K = TypeVar("K")
LEVELS = 253
"""Cells from 0 to LEVELS - 1 stand for numbers, evenly from the least to the greatest."""
NAN, INFINITE, MINUS_INFINITE = 253, 254, 255
"""Cells in which a number is NaN, or infinite."""
BINS = 16


@dataclass(frozen=True, slots=True)
class Thumb:
    """A small picture of an array, and how its numbers are distributed.

    Attributes:
        shape: of the array. Its last axis runs along the rows of the picture, all others down its columns.
        least, greatest: of its finite numbers; 0 where there are none.
        cells: one byte each, row after row: from 0 for `least` to 252 for `greatest`, the mean of the numbers
            that the cell stands for; 253 where one of them is NaN, else 254 and 255 where one is infinite,
            plus and minus.
        columns: how many cells a row has.
        counts: 16 bytes, of a histogram of the finite numbers from `least` to `greatest`: heights relative
            to the highest, which is 255; 0 only where there is nothing.
    """

    shape: tuple[int, ...]
    least: float
    greatest: float
    cells: bytes
    columns: int
    counts: bytes


class Thumbs(NamedTuple):
    """Small pictures by box id.

    Attributes:
        values: of each value.
        grads: of the gradient of the output with respect to it; without what no gradient reaches.
    """

    values: dict[str, Thumb]
    grads: dict[str, Thumb]


def thumbnails(output: Any, models: Iterable[Model], cells: int = 64, walked: Walk | None = None) -> Thumbs:
    """Small pictures of all values behind an output and of their gradients.

    Args:
        output: a Tensor, or a tree of Tensors.
        models: drawings of it, in whatever detail; a box that stands for many is shown as its last result.
        cells: of each picture at most.
        walked: of `walk(output)`, where there has been one.

    Example:
        >>> import tensorgrad as tg
        >>> from tensorgrad.viz.build import build
        >>> x = tg.tensor([1.0, 2.0], requires_grad=True, name="x")
        >>> y = x * x
        >>> found = thumbnails(y, [build(y)])
        >>> found.values["x"].greatest, found.grads["x"].greatest
        (2.0, 4.0)
    """
    nodes, _, found, _ = walked or walk(output)
    boxes = [box for model in models for box in model.boxes]
    return Thumbs(thumbs_of(values_of(boxes, nodes), cells), thumbs_of(gradients_of(boxes, found), cells))


def thumbnail(array: np.ndarray, cells: int = 64) -> Thumb:
    """A small picture of one array, of at most so many cells.

    Example:
        >>> thumb = thumbnail(np.array([[0.0, 1.0], [0.5, np.nan]]))
        >>> list(thumb.cells), thumb.columns, thumb.greatest
        ([0, 252, 126, 253], 2, 1.0)
    """
    return thumbs_of({"": np.asarray(array)}, cells)[""]


def thumbs_of(arrays: Mapping[K, np.ndarray], cells: int = 64) -> dict[K, Thumb]:
    """A small picture of each array.

    Example:
        >>> found = thumbs_of({"W": np.ones((100, 50)), "b": np.zeros(3)})
        >>> len(found["W"].cells), found["W"].columns, len(found["b"].cells)
        (60, 6, 3)
    """
    found: dict[K, Thumb] = {}
    for keys, stacked in batches(arrays):
        n, *shape = stacked.shape
        if not stacked.size:
            found |= {key: Thumb(tuple(shape), 0.0, 0.0, b"", 0, bytes(BINS)) for key in keys}
            continue
        grid = stacked.reshape(n, -1, shape[-1] if shape else 1)
        finite = np.isfinite(grid)
        some = finite.any(axis=(1, 2))
        least = np.where(some, np.where(finite, grid, np.inf).min(axis=(1, 2)), 0.0)
        greatest = np.where(some, np.where(finite, grid, -np.inf).max(axis=(1, 2)), 0.0)
        places = _places(np.where(finite, grid, least[:, None, None]), least, greatest)
        codes, columns = _codes(grid, places, finite, cells)
        counts = _counts(places, finite)
        for i, key in enumerate(keys):
            limits = float(least[i]), float(greatest[i])
            found[key] = Thumb(tuple(shape), *limits, codes[i].tobytes(), columns, counts[i].tobytes())
    return found


def _places(grid: np.ndarray, least: np.ndarray, greatest: np.ndarray) -> np.ndarray:
    """Where each number lies between the least and the greatest of its array, from 0 to 1."""
    # Halved, for between the least and the greatest may lie more than any number can hold.
    span = greatest / 2 - least / 2
    span[span == 0] = 1.0
    return (grid / 2 - least[:, None, None] / 2) / span[:, None, None]


def _codes(grid: np.ndarray, places: np.ndarray, finite: np.ndarray, cells: int) -> tuple[np.ndarray, int]:
    """The cells of each array, (n, cells), and how many there are in a row."""
    n, rows, columns = grid.shape
    high, wide = _size(rows, columns, cells)
    starts = np.arange(high) * rows // high, np.arange(wide) * columns // wide

    def pooled(values: np.ndarray) -> np.ndarray:
        if (high, wide) == (rows, columns):
            return values
        return np.add.reduceat(np.add.reduceat(values, starts[0], axis=1), starts[1], axis=2)

    count = pooled(finite.astype(np.float64))
    mean = pooled(places * finite) / np.maximum(count, 1.0)
    codes = np.rint(mean * (LEVELS - 1)).astype(np.uint8)
    if not finite.all():
        for code, which in (
            (MINUS_INFINITE, grid == -np.inf),
            (INFINITE, grid == np.inf),
            (NAN, np.isnan(grid)),
        ):
            codes[pooled(which.astype(np.float64)) > 0] = code
    return codes.reshape(n, -1), wide


def _size(rows: int, columns: int, cells: int) -> tuple[int, int]:
    """Rows and columns of a picture of about the array's proportions."""
    if rows * columns <= cells:
        return rows, columns
    wide = min(columns, cells, max(1, round(math.sqrt(cells * columns / rows))))
    high = min(rows, cells // wide)
    return high, min(columns, cells // high)


def _counts(places: np.ndarray, finite: np.ndarray) -> np.ndarray:
    """The heights of the histogram of each array, (n, BINS)."""
    n = len(places)
    bins = np.minimum((places * BINS).astype(np.int64), BINS - 1) + BINS * np.arange(n)[:, None, None]
    counts = np.bincount(bins[finite], minlength=BINS * n).reshape(n, BINS)
    heights = counts * (255.0 / np.maximum(counts.max(axis=1, keepdims=True), 1))
    return np.where(counts > 0, np.maximum(np.rint(heights), 1.0), 0.0).astype(np.uint8)
