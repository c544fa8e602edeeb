"""The coordinates of a picture, and what is drawn on it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from tensorgrad.viz.picture import Point, Wire, WireKind
from tensorgrad.viz.place.ways import Points

__all__ = ["MARGIN", "Paper", "simple"]

Edges = tuple[float, float, float, float]

MARGIN = 12.0
_ORDER = ("rail", "gather", "tap", "edge", "skip", "carried", "loop")


class Paper:
    """Where along time and height lie on the page, and the wires drawn so far."""

    def __init__(self, low: float, high: float, vertical: bool) -> None:
        self.low, self.high, self.vertical = low - MARGIN, high + MARGIN, vertical
        self.drawn: dict[tuple[int, int], list[Wire]] = defaultdict(list)

    def at(self, u: float, v: float) -> Point:
        """A place in the picture."""
        if self.vertical:
            return v - self.low, u + MARGIN
        return u + MARGIN, self.high - v

    def way(self, points: Iterable[tuple[float, float]]) -> list[Point]:
        """A line in the picture, without corners at which it does not turn."""
        found = simple([self.at(u, v) for u, v in points])
        return found if len(found) > 1 else found * 2

    def later(self, points: Iterable[Point], time: float) -> tuple[Point, ...]:
        """A line of the picture, moved along time."""
        if self.vertical:
            return tuple([(x, y + time) for x, y in points])
        return tuple([(x + time, y) for x, y in points])

    def rectangle(self, left: float, low: float, right: float, high: float) -> Edges:
        """The upper left corner, width and height."""
        (ax, ay), (bx, by) = self.at(left, low), self.at(right, high)
        return min(ax, bx), min(ay, by), abs(bx - ax), abs(by - ay)

    def draw(
        self,
        kind: WireKind,
        tail: str,
        head: str,
        points: Points,
        shares: tuple[int, ...],
        arrow: bool = True,
        label: str = "",
        hue: int = -1,
    ) -> None:
        """Draw a wire."""
        wire = Wire(kind, tail, head, tuple(self.way(points)), arrow, shares, label, hue)
        self.layer(kind, hue).append(wire)

    def layer(self, kind: WireKind, hue: int = -1) -> list[Wire]:
        """The wires of one look."""
        return self.drawn[_ORDER.index(kind), hue]

    def wires(self) -> tuple[Wire, ...]:
        """All of them: the first lie below the others."""
        return tuple(wire for _, layer in sorted(self.drawn.items()) for wire in layer)


def simple(points: Iterable[Point]) -> list[Point]:
    """A line without the corners at which it does not turn.

    Example:
        >>> simple([(0.0, 0.0), (1.0, 0.0), (1.0, 0.0), (3.0, 0.0), (3.0, 1.0)])
        [(0.0, 0.0), (3.0, 0.0), (3.0, 1.0)]
    """
    found: list[Point] = []
    for point in points:
        if found and found[-1] == point:
            continue
        if len(found) > 1 and (
            found[-2][0] == found[-1][0] == point[0] or found[-2][1] == found[-1][1] == point[1]
        ):
            found[-1] = point
        else:
            found.append(point)
    return found
