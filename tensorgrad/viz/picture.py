"""A drawing with everything in its place: what the layout makes and every writer reads.

Lengths are points, y points downwards, and the picture begins at (0, 0). Nothing here knows how boxes found
their places, nor whether SVG, DOT or a page is to be written.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from tensorgrad.viz.model import Box, Frame, Model

__all__ = [
    "Line",
    "Look",
    "Mark",
    "Outline",
    "Patch",
    "Picture",
    "Placed",
    "Point",
    "Stroke",
    "Text",
    "Wire",
    "WireKind",
]

Point = tuple[float, float]
WireKind = Literal["edge", "carried", "skip", "rail", "tap", "gather", "loop"]


@dataclass(frozen=True, slots=True)
class Line:
    """One line of text in a box.

    Attributes:
        style: "name" (bold), "op", "type" (shape and dtype) or "note" (numbers).
        text: any text of the user's, shortened to fit; not escaped.
    """

    style: Literal["name", "op", "type", "note"]
    text: str


@dataclass(frozen=True, slots=True)
class Placed:
    """A box in its place.

    Attributes:
        box: what it shows.
        x, y: its upper left corner.
        width, height: its size.
        lines: its text from top to bottom, centred.
    """

    box: Box
    x: float
    y: float
    width: float
    height: float
    lines: tuple[Line, ...]


@dataclass(frozen=True, slots=True)
class Outline:
    """A frame in its place: boxes of its own and of frames within it lie inside.

    Attributes:
        frame: what it encloses.
        x, y: its upper left corner.
        width, height: its size.
        title: its text, at the upper left corner inside; not escaped.
    """

    frame: Frame
    x: float
    y: float
    width: float
    height: float
    title: str


@dataclass(frozen=True, slots=True)
class Wire:
    """A line of the drawing.

    A value with many users is a "rail" that runs along time, with a "tap" at each use; an operation with many
    operands has a "gather" rail, and each operand a tap into it.

    Attributes:
        kind: "edge" within a timestep or outside of all; "carried" from one timestep to the next; "skip" over
            more than one; "rail", "tap" and "gather" as above; "loop" from a cell to itself.
        tail: the id of the box it comes from; empty for a gather.
        head: the id of the box it leads to; empty for a rail.
        points: where it runs, from the tail to the head; corners may be rounded.
        arrow: whether its end has an arrowhead.
        shares: the numbers of the arrows of the whole graph that it stands for.
        label: a text at its middle, such as "skips 3"; not escaped.
        hue: which of the rail colours, from 0 up, for rails and their taps; -1 for the colour of its kind.
    """

    kind: WireKind
    tail: str
    head: str
    points: tuple[Point, ...]
    arrow: bool = True
    shares: tuple[int, ...] = ()
    label: str = ""
    hue: int = -1


@dataclass(frozen=True, slots=True)
class Look:
    """How a box or a wire differs from what its kind looks like; None where it does not.

    Attributes:
        fill, line: colours such as "#0072B2".
        width: of its line.
        pattern: "solid", or what tells zero, not finite and unknown apart without colour.
        hint: a sentence to show on hovering; not escaped.
    """

    fill: str | None = None
    line: str | None = None
    width: float | None = None
    pattern: Literal["solid", "dashed", "dotted", "hatched"] = "solid"
    hint: str = ""


@dataclass(frozen=True, slots=True)
class Patch:
    """A coloured rectangle that is no box: a cell of a strip, of a triangle, of a legend."""

    x: float
    y: float
    width: float
    height: float
    fill: str
    line: str = ""
    pattern: Literal["solid", "dashed", "dotted", "hatched"] = "solid"
    hint: str = ""


@dataclass(frozen=True, slots=True)
class Text:
    """A text that stands alone; (x, y) is its baseline's start, middle or end; not escaped."""

    x: float
    y: float
    text: str
    size: float = 11.0
    anchor: Literal["start", "middle", "end"] = "start"
    bold: bool = False
    color: str = "#5A6270"


@dataclass(frozen=True, slots=True)
class Stroke:
    """A line that is no wire: an axis, a mark."""

    points: tuple[Point, ...]
    color: str
    width: float = 1.0
    pattern: Literal["solid", "dashed", "dotted", "hatched"] = "solid"


Mark = Patch | Text | Stroke


@dataclass(frozen=True, slots=True)
class Picture:
    """A drawing with everything in its place.

    Attributes:
        model: what is drawn.
        width, height: the size of all of it.
        boxes: in the order of the model's.
        outlines: outer before inner.
        wires: in the order in which they are drawn.
        times: for every timestep of the longest sequence where its column begins and ends on the time axis,
            (timestep, from, to); those that a block stands for share its extent.
        looks: by the id of a box, or by the number of a wire in `wires`, how it differs from its kind.
        marks: what stands under and beside the graph.
        vertical: whether time runs downwards, and `times` are heights.
    """

    model: Model
    width: float
    height: float
    boxes: tuple[Placed, ...]
    outlines: tuple[Outline, ...]
    wires: tuple[Wire, ...]
    times: tuple[tuple[int, float, float], ...] = ()
    looks: dict[str | int, Look] = field(default_factory=dict)
    marks: tuple[Mark, ...] = ()
    vertical: bool = False
