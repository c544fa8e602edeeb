"""What every writer adds to the layout: rounded corners, arrowheads, hatching, the legend of kinds."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

from tensorgrad.viz.model import Box, Kind
from tensorgrad.viz.picture import Line, Look, Picture, Placed, Point, Text, Wire
from tensorgrad.viz.style.palette import FAINT, KINDS
from tensorgrad.viz.style.text import text_width

__all__ = ["LABEL_SIZE", "Legend", "Lengths", "corners", "hatching", "headed", "label_place", "legend"]

LABEL_SIZE = 10.0
"""Of the letters of a line's label, in points."""
_RADIUS = 5.0
_HATCH = 6.0
_WORDS: dict[Kind, str] = {"block": "timesteps left out"}
_PLAIN = Look()
_CARRIED = ("carried", "skip", "loop")
_CARRIED_ON = "carried on in time"
# Of the legend, in points: the size of its letters, the height of a row, the length of the sample of a line.
_SIZE, _ROW, _SAMPLE = 10.0, 16.0, 28.0
_GAP = 8.0
# A narrower drawing makes room for so much of its legend.
_LEAST_ROW = 320.0


class Lengths(dict[float, str]):
    """Lengths as texts, to a tenth of a point and no longer than they need be; each is made once.

    Example:
        >>> lengths = Lengths()
        >>> lengths[12.0], lengths[2.26]
        ('12', '2.3')
    """

    def __missing__(self, length: float) -> str:
        text = self[length] = f"{length:.1f}".removesuffix(".0")
        return text


def corners(points: Sequence[Point]) -> Iterator[tuple[Point, Point, Point]]:
    """For every corner of a line where its rounding begins, the corner itself, and where the rounding ends.

    Example:
        >>> list(corners([(0.0, 0.0), (20.0, 0.0), (20.0, 20.0)]))
        [((15.0, 0.0), (20.0, 0.0), (20.0, 5.0))]
    """
    for (ax, ay), corner, (bx, by) in zip(points, points[1:], points[2:], strict=False):
        x, y = corner
        before, after = math.hypot(ax - x, ay - y), math.hypot(bx - x, by - y)
        # Half of either side, for the corner at its other end may want the other half.
        radius = min(_RADIUS, before / 2, after / 2)
        if radius:
            a, b = radius / before, radius / after
            yield (x + a * (ax - x), y + a * (ay - y)), corner, (x + b * (bx - x), y + b * (by - y))


def headed(points: Sequence[Point], length: float) -> tuple[tuple[Point, ...], tuple[Point, Point, Point]]:
    """A line as far as its arrowhead goes, and the tip and the other corners of the arrowhead at its end.

    Example:
        >>> headed([(0.0, 0.0), (0.0, 20.0)], 5.0)
        (((0.0, 0.0), (0.0, 15.0)), ((0.0, 20.0), (-2.0, 15.0), (2.0, 15.0)))
    """
    x, y = tip = points[-1]
    ax, ay = next((point for point in reversed(points) if point != tip), (x - 1.0, y))
    far = math.hypot(x - ax, y - ay)
    dx, dy = length * (x - ax) / far, length * (y - ay) / far
    # A line that ran on to the tip would make it blunt.
    end = x - dx, y - dy
    sides = (end[0] - 0.4 * dy, end[1] + 0.4 * dx), (end[0] + 0.4 * dy, end[1] - 0.4 * dx)
    return (*points[:-1], end), (tip, *sides)


def hatching(x: float, y: float, width: float, height: float) -> Iterator[tuple[Point, Point]]:
    """The slanting lines that hatch a rectangle, each from its lower or left end.

    Example:
        >>> list(hatching(0.0, 0.0, 6.0, 6.0))
        [((0.0, 6.0), (6.0, 0.0))]
    """
    for number in range(1, math.ceil((width + height) / _HATCH)):
        along = number * _HATCH
        low, high = max(0.0, along - height), min(along, width)
        yield (x + low, y + along - low), (x + high, y + along - high)


def label_place(wire: Wire) -> tuple[float, float, bool]:
    """Where the label of a line goes: the middle of its longest stretch, and whether that runs up or down.

    At a loop from a box to itself it is the upper one of the two stretches at the box, or the right one, for
    beyond that there are no other loops.

    Example:
        >>> label_place(Wire("edge", "W", "a", ((0.0, 0.0), (20.0, 0.0), (20.0, 5.0))))
        (10.0, 0.0, False)
        >>> label_place(Wire("loop", "h", "h", ((0.0, 9.0), (5.0, 9.0), (5.0, 0.0), (0.0, 0.0))))
        (2.5, 0.0, False)
    """
    stretches = list(pairwise(wire.points)) or [(wire.points[0],) * 2]
    if wire.tail and wire.tail == wire.head:
        ends = stretches[0], stretches[-1]
        (ax, ay), (bx, by) = max(ends, key=lambda ends: (ends[0][0] + ends[1][0], -ends[0][1] - ends[1][1]))
    else:
        (ax, ay), (bx, by) = max(stretches, key=lambda ends: math.dist(*ends))
    return (ax + bx) / 2, (ay + by) / 2, abs(by - ay) > abs(bx - ax)


class Legend(NamedTuple):
    """What the colours mean, above the picture: at negative heights.

    Attributes:
        width, height: the room that it takes.
        boxes: one of each kind in the picture, with the name of the kind in it.
        wires: a bold one, if anything is carried.
        texts: beside it.
    """

    width: float
    height: float
    boxes: tuple[Placed, ...]
    wires: tuple[Wire, ...]
    texts: tuple[Text, ...]


def legend(picture: Picture) -> Legend:
    """The legend of the kinds of boxes and lines that a picture has, but for those that show numbers instead.

    Example:
        >>> from tensorgrad.viz.model import Model
        >>> box = Placed(Box("x", "input", "x", "", "()", "float64", "", "x"), 0.0, 0.0, 50.0, 40.0, ())
        >>> found = legend(Picture(Model((box.box,), (), ()), 50.0, 40.0, (box,), (), ()))
        >>> [box.lines[0].text for box in found.boxes], found.height
        (['input'], 32.0)
    """
    looks = picture.looks
    # What has the colour of a number does not look like its kind.
    kinds = {placed.box.kind for placed in picture.boxes if not looks.get(placed.box.id, _PLAIN).fill}
    words = {kind: _WORDS.get(kind, kind) for kind in KINDS if kind in kinds}
    widths = [12.0 + math.ceil(text_width(word, _SIZE)) for word in words.values()]
    carried = any(
        wire.kind in _CARRIED and not looks.get(i, _PLAIN).line for i, wire in enumerate(picture.wires)
    )
    if carried:
        widths.append(_SAMPLE + 6.0 + math.ceil(text_width(_CARRIED_ON, _SIZE)))
    places, right, height = _in_rows(widths, max(picture.width, _LEAST_ROW))
    boxes = tuple(
        Placed(Box("", kind, "", "", "", "", "", ""), x, y, width, _ROW, (Line("type", word),))
        for (kind, word), width, (x, y) in zip(words.items(), widths, places, strict=False)
    )
    if not carried:
        return Legend(right, height, boxes, (), ())
    x, y = places[-1][0], places[-1][1] + _ROW / 2
    sample = Wire("carried", "", "", ((x, y), (x + _SAMPLE, y)))
    beside = Text(x + _SAMPLE + 6.0, y + 0.36 * _SIZE, _CARRIED_ON, _SIZE, color=FAINT)
    return Legend(right, height, boxes, (sample,), (beside,))


def _in_rows(widths: Sequence[float], limit: float) -> tuple[list[Point], float, float]:
    """Where things of these widths stand side by side above the picture, and the room they take."""
    places: list[Point] = []
    x, y, right = _GAP, 0.0, 0.0
    for width in widths:
        if x > _GAP and x + width > limit:
            x, y = _GAP, y + _ROW + _GAP
        places.append((x, y))
        x += width + _GAP
        right = max(right, x)
    height = y + _ROW + 2 * _GAP if places else 0.0
    return [(x, y + _GAP - height) for x, y in places], right, height
