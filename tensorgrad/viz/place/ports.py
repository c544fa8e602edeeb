"""Where ways end along one side of a box."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import TypeVar

__all__ = ["isotonic", "side_by_side"]

Port = TypeVar("Port", bound=Hashable)

_MARGIN = 9.0
_APART = 14.0
_LEAST = 9.0


def side_by_side(
    middle: float,
    half: float,
    wanted: Sequence[tuple[Port, float]],
    left: Sequence[Port],
    right: Sequence[Port],
) -> dict[Port, float]:
    """Where ways end on a side of a box.

    Args:
        middle, half: of the side.
        wanted: what would be straight if it ended at a place.
        left, right: what is to be left and right of that.

    Example:
        >>> side_by_side(50.0, 30.0, [("x", 48.0)], ["W"], ["b"])
        {'W': 34.0, 'x': 48.0, 'b': 62.0}
    """
    count = len(wanted) + len(left) + len(right)
    low, high = middle - half + _MARGIN, middle + half - _MARGIN
    least = min(_LEAST, (high - low) / max(1, count - 1))
    ordered = sorted(wanted, key=lambda end: end[1])
    low_end, high_end = low + least * len(left), high - least * len(right)
    places = isotonic([at for _, at in ordered], least, low_end, high_end)
    if len(places) == 1 and not low_end <= ordered[0][1] <= high_end:
        # What cannot be straight ends where it looks best.
        places = [middle]
    if not places:
        step = min(_APART, (high - low) / max(1, count - 1))
        first = middle - step * (count - 1) / 2
        places_of = {key: first + i * step for i, key in enumerate((*left, *right))}
    else:
        step = min(_APART, (places[0] - low) / max(1, len(left)))
        places_of = {key: places[0] - step * (len(left) - i) for i, key in enumerate(left)}
        places_of.update((key, at) for (key, _), at in zip(ordered, places, strict=True))
        step = min(_APART, (high - places[-1]) / max(1, len(right)))
        places_of.update((key, places[-1] + step * (i + 1)) for i, key in enumerate(right))
    return {key: round(2 * at) / 2 for key, at in places_of.items()}


def isotonic(wanted: Sequence[float], apart: float, low: float, high: float) -> list[float]:
    """Places in order, so far apart and within bounds, as near as can be to those that are wanted.

    Example:
        >>> isotonic([5.0, 5.0, 30.0], 10.0, 0.0, 40.0)
        [0.0, 10.0, 30.0]
    """
    groups: list[tuple[float, int]] = []
    for i, at in enumerate(wanted):
        mean, size = at - i * apart, 1
        while groups and groups[-1][0] > mean:
            before, count = groups.pop()
            mean = (mean * size + before * count) / (size + count)
            size += count
        groups.append((mean, size))
    most = high - (len(wanted) - 1) * apart
    flat = [max(low, min(most, mean)) for mean, size in groups for _ in range(size)]
    return [at + i * apart for i, at in enumerate(flat)]
