"""Checks of what the tasks are called with."""

from __future__ import annotations

import operator
from typing import Any

import numpy as np
import numpy.typing as npt

from tensorgrad.errors import DtypeError, UserError

__all__ = ["floating", "integer", "limits"]


def integer(task: str, name: str, value: int, least: int, most: int | None = None) -> None:
    """Refuse a size that is no integer, or outside its range."""
    wanted = f"an integer of at least {least}" if most is None else f"an integer from {least} to {most}"
    try:
        fits = least <= operator.index(value) and (most is None or value <= most)
    except TypeError:
        fits = False
    if not fits:
        raise UserError(f"{task}: {name} must be {wanted}, not {value!r}")


def limits(task: str, name: str, pair: Any) -> tuple[Any, Any]:
    """The two ends of a range, given as a pair."""
    try:
        low, high = pair
    except (TypeError, ValueError):
        raise UserError(f"{task}: {name} must be two numbers, the least and the most, not {pair!r}") from None
    return low, high


def floating(task: str, dtype: npt.DTypeLike) -> npt.DTypeLike:
    """Refuse a dtype that would round the task's numbers to integers."""
    if np.dtype(dtype).kind != "f":
        raise DtypeError(f"{task}: dtype must be a floating one, not {np.dtype(dtype)}")
    return dtype
