"""What is known in numbers about what is drawn: of values, of gradients, of what flows where."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

__all__ = ["Measures", "Numbers", "Strip", "Triangle", "norm_of", "rank", "worst"]


@dataclass(frozen=True, slots=True)
class Numbers:
    """One array in a few numbers, those that are not finite counted and left out of the rest.

    Attributes:
        size, nan, inf: how many numbers there are, how many are NaN, how many infinite.
        least, greatest, mean, std, norm: of the finite ones; 0 where there are none.
    """

    size: int
    nan: int
    inf: int
    least: float
    greatest: float
    mean: float
    std: float
    norm: float


@dataclass(frozen=True, slots=True)
class Strip:
    """One number for each timestep, to be shown under its column.

    Attributes:
        title: what it is, such as "norm of dL/dh".
        values: (T,); NaN and infinite are shown as such.
        known: (T,), whether there is a number at all.
        kind: "gradient" for norms of gradients, "factor" for what each step multiplies them by, "error" for
            relative errors, "share" for what lies between 0 and 1.
        frame: the id of the frame around the timesteps that it is about; empty for none.
    """

    title: str
    values: np.ndarray
    known: np.ndarray
    kind: Literal["gradient", "factor", "error", "share"] = "gradient"
    frame: str = ""

    @property
    def scale(self) -> Literal["log", "share"]:
        """Whether its numbers belong on a logarithmic scale, or on one from 0 to 1."""
        return "share" if self.kind == "share" else "log"


@dataclass(frozen=True, slots=True)
class Triangle:
    """The norms of dL_i/dh_j.

    Attributes:
        title: what it is.
        rows, columns: the timesteps i and j that are shown, all or a sample.
        norms: (rows, columns); NaN and infinite are shown as such.
        known: (rows, columns), whether anything flows from i to j; not from a timestep to a later one.
    """

    title: str
    rows: np.ndarray
    columns: np.ndarray
    norms: np.ndarray
    known: np.ndarray


@dataclass(frozen=True, slots=True)
class Measures:
    """All that was measured. What is absent was not measured, or no gradient reaches it: it is never 0.

    Attributes:
        values: by box id.
        grads: of the gradient of the output, by box id.
        flows: the norm of what flows back along an arrow, by its `shares`; of their sum where it has many.
        unmeasured: the numbers of arrows into what was checkpointed, of which nothing is on record.
        strips: from top to bottom.
        triangle: None where there is nothing to itemise.
        errors: of a comparison, the relative error by box id.
        tolerance: of a comparison, the error up to which gradients agree.
        first: of a comparison, the id of the box where the gradients first part, in backward order.
        words: of a comparison, what the doctor says, a finding each.
        notes: what a reader must know about the numbers, such as what was left out; a sentence each.
    """

    values: Mapping[str, Numbers] = field(default_factory=dict)
    grads: Mapping[str, Numbers] = field(default_factory=dict)
    flows: Mapping[tuple[int, ...], float] = field(default_factory=dict)
    unmeasured: frozenset[int] = frozenset()
    strips: tuple[Strip, ...] = ()
    triangle: Triangle | None = None
    errors: Mapping[str, float] = field(default_factory=dict)
    tolerance: float = 0.0
    first: str | None = None
    words: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def norm_of(numbers: Numbers) -> float:
    """The norm of an array; NaN or infinite where one of its numbers is.

    Example:
        >>> norm_of(Numbers(3, 0, 1, 3.0, 4.0, 3.5, 0.5, 5.0))
        inf
    """
    return math.nan if numbers.nan else math.inf if numbers.inf else numbers.norm


def rank(x: float) -> tuple[bool, float]:
    """By what norms and errors are sorted: NaN counts as more than infinity.

    Example:
        >>> sorted([math.nan, 1.0, math.inf], key=rank)
        [1.0, inf, nan]
    """
    return (True, 0.0) if math.isnan(x) else (False, x)


def worst(numbers: Iterable[float]) -> float:
    """The greatest; NaN counts as more than infinity.

    Example:
        >>> worst([1.0, math.nan, math.inf])
        nan
    """
    return max(numbers, key=rank)
