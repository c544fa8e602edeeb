"""What was measured, put into a picture: colours and widths of boxes and lines, and what stands beneath."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import replace
from itertools import pairwise

from tensorgrad.viz.measuring.along import NOT_ON_RECORD, flow_along, not_on_record
from tensorgrad.viz.measuring.covers import covered, rolled_frames
from tensorgrad.viz.measuring.measures import Measures, Strip, norm_of, worst
from tensorgrad.viz.model import Box
from tensorgrad.viz.painting.marks import (
    INFINITE,
    LINE,
    SIZE,
    Scales,
    bottom_of,
    legend_marks,
    strip_marks,
    strip_range,
    text_marks,
    time_axis,
    triangle_marks,
)
from tensorgrad.viz.picture import Look, Mark, Picture, Placed, Stroke, Text, Wire
from tensorgrad.viz.style.color import AGREES, SPECIAL, Kind, LogScale, kind_of, shade, short
from tensorgrad.viz.style.palette import INK
from tensorgrad.viz.style.text import shortened, text_width

__all__ = ["paint"]

_THINNEST, _THICKEST = 1.0, 6.0
_FIRST = 5.0
# The outlines of boxes whose number has no place on the scale.
_OUTLINE: dict[Kind, float] = {"zero": 2.0, "unknown": 1.0, "nan": 2.0, "infinite": 4.0}
# Distances of what stands under or beside the graph, in points.
_APART = 16.0
_STRIP = 12.0
_WORDS = 300.0
_NOTES = 380.0
_LONGEST_TITLE = 72
_NOT_COMPARED = "not compared"


def paint(picture: Picture, measures: Measures, *, backward: bool = False, compare: bool = False) -> Picture:
    """A picture with what was measured in it.

    Boxes have the colour of the norm of their gradient, where gradients were measured, or of their error in
    a comparison. What is zero, not finite or not known differs in its outline too.

    Args:
        picture: of the same graph, in whatever detail.
        measures: of `measure`.
        backward: whether lines show the gradient that flows back: they are turned round, and have its
            colour and width. Strips and the triangle stand beneath.
        compare: whether boxes show the errors of a comparison, with the first divergence marked.

    Example:
        >>> import tensorgrad as tg
        >>> from tensorgrad.viz.measuring.measure import measure
        >>> from tensorgrad.viz.build import build
        >>> from tensorgrad.viz.place import place
        >>> x = tg.tensor([0.0, 2.0], requires_grad=True, name="x")
        >>> model = build(loss := tg.sum(x * x))
        >>> picture = paint(place(model), measure(model, loss, backward=True), backward=True)
        >>> picture.looks["x"].hint, [wire.head for wire in picture.wires]
        ('norm of the gradient 4', ['x', 'x', 'multiply'])
    """
    colored = backward or compare or measures.grads
    if not (colored or (measures.values and rolled_frames(picture.model))):
        return picture
    painter = _Painter(picture, measures, compare, backward)
    if compare:
        painter.errors()
    elif colored:
        painter.gradients()
    wires = painter.flows() if backward else picture.wires
    marks = [*picture.marks, *painter.beneath()]
    right, low = bottom_of(marks)
    return replace(
        picture,
        width=max(picture.width, math.ceil(right + 10.0)),
        height=max(picture.height, math.ceil(low + 10.0)),
        wires=wires,
        looks=painter.looks,
        marks=tuple(marks),
    )


class _Painter:
    """The state of one `paint`."""

    def __init__(self, picture: Picture, measures: Measures, compare: bool, backward: bool) -> None:
        self.picture, self.measures, self.compare, self.backward = picture, measures, compare, backward
        self.looks: dict[str | int, Look] = dict(picture.looks)
        self.norms = {name: norm_of(numbers) for name, numbers in measures.grads.items()}
        self.scales = _scales(measures, self.norms)
        self.names = {box.id: box.name or box.op for box in picture.model.boxes}
        # What was met that has no place on the scale, for the legend.
        self.met: set[Kind] = set()

    # --- boxes and lines ---------------------------------------------------------------------------------
    def gradients(self) -> None:
        """Give each box the colour of its gradient's norm."""
        states = {box.id: box.states for box in self.picture.model.boxes}
        for name, (norm, most) in self.seen(self.norms).items():
            text = "reached by no gradient" if norm is None else f"norm of the gradient {most}{short(norm)}"
            if norm is not None and states[name]:
                text = f"norm of the gradient {_of_each(states[name], self.norms)}"
            self.looks[name] = replace(self.filled(norm, self.look(norm)), hint=text)

    def errors(self) -> None:
        """Give each box the colour of its error."""
        tolerance = self.scales.tolerance
        first = self.first_box()
        errors, rolled = self.measures.errors, bool(rolled_frames(self.picture.model))
        states = {box.id: box.states for box in self.picture.model.boxes}
        for name, (error, most) in self.seen(errors, across=True).items():
            if error is None:
                look = Look(line=SPECIAL["unknown"].color, pattern="dashed", hint=_NOT_COMPARED)
            elif error <= tolerance:
                look = Look(AGREES, INK, 1.0, hint=f"agrees, relative error {most}{short(error)}")
            else:
                bare = self.filled(error, self.look(error, self.scales.error))
                look = replace(bare, hint=f"relative error {most}{short(error)}")
            if error is not None and not rolled and any(state.id in errors for state in states[name]):
                look = replace(look, hint=f"{look.hint}: {_of_each(states[name], errors)}")
            if name == first:
                look = replace(look, line=INK, width=_FIRST, hint=f"{look.hint}, the first to differ")
            self.looks[name] = look

    def seen(self, numbers: Mapping[str, float], across: bool = False) -> dict[str, tuple[float | None, str]]:
        """The number of each box, and "at most " where it is the worst of several.

        That is so for a cell or block without a number of its own, and across all timesteps for every box in
        the one that stands for them. A cell of several states has the worst of theirs.
        """
        stands_for = covered(self.picture.model, numbers, across)
        found: dict[str, tuple[float | None, str]] = {}
        for box in self.picture.model.boxes:
            inner = [numbers[name] for name in stands_for.get(box.id, ())]
            if box.states and not across:
                inner = [numbers[state.id] for state in box.states if state.id in numbers] or inner
            elif box.id in numbers:
                inner = [numbers[box.id], *(inner if across else ())]
            found[box.id] = worst(inner) if inner else None, "at most " if len(inner) > 1 else ""
        return found

    def flows(self) -> tuple[Wire, ...]:
        """The lines turned round, and for each the look of what flows along it."""
        for number, wire in enumerate(self.picture.wires):
            if not_on_record(wire, self.measures):
                self.looks[number] = Look(hint=NOT_ON_RECORD)
                continue
            norm = flow_along(wire, self.measures)
            tail, head = (shortened(self.names.get(name, "")) for name in (wire.tail, wire.head))
            ways = f"{f' from {head}' if head else ''}{f' to {tail}' if tail else ''}"
            text = f"no gradient flows{ways}" if norm is None else f"gradient of norm {short(norm)}{ways}"
            self.looks[number] = replace(self.look(norm), hint=text)
        return tuple(map(_turned, self.picture.wires))

    def look(self, norm: float | None, scale: LogScale | None = None) -> Look:
        """The line for a number: colour, width and pattern."""
        kind = kind_of(norm)
        scale = scale or self.scales.gradient
        if kind == "number" and norm is not None and scale is not None:
            place = scale.place(norm)
            return Look(line=shade(place), width=round(_THINNEST + (_THICKEST - _THINNEST) * place, 1))
        self.met.add(kind)
        special = SPECIAL[kind]
        width = INFINITE if kind == "infinite" else _THICKEST / 2 if kind == "nan" else 1.5
        return Look(line=special.color, width=width, pattern=special.pattern)

    def filled(self, norm: float | None, look: Look) -> Look:
        """The look of a box, from that of a line."""
        kind = kind_of(norm)
        if kind == "number":
            return replace(look, fill=look.line, width=1.0)
        line = INK if kind == "infinite" else look.line
        return replace(look, fill=SPECIAL[kind].fill or None, line=line, width=_OUTLINE[kind])

    # --- beneath -----------------------------------------------------------------------------------------
    def beneath(self) -> list[Mark]:
        """All that stands under the graph, or beside it where time runs downwards."""
        picture = self.picture
        across = (picture.width if picture.vertical else picture.height) + _APART
        marks: list[Mark] = []
        for part in (self.words, self.strips, self.panel):
            more = part(across)
            if more:
                marks += more
                across = bottom_of(more)[0 if picture.vertical else 1] + _APART
        return marks

    def words(self, across: float) -> list[Mark]:
        """What the doctor says, with a line up to the box where the gradients first part."""
        if not self.measures.words:
            return []
        vertical = self.picture.vertical
        placed = next((p for p in self.picture.boxes if p.box.id == self.first_box()), None)
        along = 4.0 if placed is None else self.gutter(placed)
        x, y = (across, along) if vertical else (along, across)
        texts: list[Mark] = list(text_marks(self.measures.words, x + 8.0, y, _WORDS, bold=True))
        low = bottom_of(texts)[1]
        line = [(x, y), (x, low)]
        if placed is not None:
            at = self.clear(placed, along)
            edge = (at, placed.y) if vertical else (placed.x, at)
            line = [edge, (at, along) if vertical else (along, at), *line]
        return [Stroke(tuple(line), INK, 1.5), *texts]

    def clear(self, placed: Placed, along: float) -> float:
        """Where on the side of a box towards the gutter a line leaves it farthest from all others there."""
        time, other = (1, 0) if self.picture.vertical else (0, 1)
        near = (placed.x, placed.y)[time]
        low = (placed.x, placed.y)[other]
        high = low + (placed.width, placed.height)[other]
        taken = {low, high}
        for wire in self.picture.wires:
            for a, b in pairwise(wire.points):
                ends = sorted((a[time], b[time]))
                if a[other] == b[other] and low < a[other] < high and ends[0] <= near and ends[1] >= along:
                    taken.add(a[other])
        gaps = pairwise(sorted(taken))
        # Of gaps about as wide as each other the one nearest the middle.
        begin, end = max(gaps, key=lambda gap: (round(gap[1] - gap[0]), -abs(sum(gap) - low - high)))
        return round(begin + end) / 2

    def gutter(self, placed: Placed) -> float:
        """Where a line can leave a box along the time axis: before the frame of its timestep."""
        frames = {frame.id: frame for frame in self.picture.model.frames}
        frame = frames.get(placed.box.frame)
        while frame is not None and frame.step is None:
            frame = frames.get(frame.parent)
        at: Placed = placed
        for outline in self.picture.outlines:
            if frame is not None and outline.frame.id == frame.id:
                at = replace(placed, x=outline.x, y=outline.y)
        return (at.y if self.picture.vertical else at.x) - 4.0

    def first_box(self) -> str | None:
        """The box that shows the first divergence: its own, or the one that stands for it."""
        first = self.measures.first
        if first is None or any(box.id == first for box in self.picture.model.boxes):
            return first
        return next(iter(covered(self.picture.model, [first], across=True)), None)

    def strips(self, across: float) -> list[Mark]:
        marks: list[Mark] = []
        vertical = self.picture.vertical
        key: list[tuple[str, Strip]] = []
        for number, strip in enumerate(self.measures.strips, 1):
            segments = time_axis(self.picture, strip.frame, len(strip.values))
            begin, end = segments[0].begin, segments[-1].end
            if vertical:
                # Beside each other there is no room for a title, which stands in the key.
                above = begin - 4.0 if begin > LINE else end + LINE
                marks.append(Text(across + _STRIP / 2, above, str(number), SIZE, "middle"))
                key.append((f"{number}  ", strip))
            else:
                marks += _title(strip, begin, across + SIZE)
                across += LINE + 1.0
            marks += strip_marks(strip, segments, across, self.scales, vertical)
            across += _STRIP + 8.0
        for line, (number_text, strip) in enumerate(key):
            marks += _title(strip, across + 4.0, SIZE + (LINE + 3.0) * line, number_text)
        return marks

    def panel(self, across: float) -> list[Mark]:
        """The triangle, the legends and the notes, side by side."""
        vertical = self.picture.vertical
        x, y = (across, 4.0) if vertical else (10.0, across)
        marks: list[Mark] = []
        triangle = self.measures.triangle
        if triangle is not None:
            # On a scale of its own: what single timesteps send back falls off much further than their sum.
            scale = LogScale.of(triangle.norms[triangle.known].tolist())
            marks += triangle_marks(triangle, x, y, scale)
            x = bottom_of(marks)[0] + _APART
            marks += legend_marks(triangle.title, scale, (), x, y) if scale is not None else []
            x = bottom_of(marks)[0] + 2 * _APART
        self.meet()
        legends = self.legends(x, y)
        marks += legends
        notes = [*self.whose(), *self.measures.notes]
        if notes:
            x = bottom_of(legends)[0] + 2 * _APART if legends else x
            marks += text_marks(notes, x, y, _NOTES)
        return marks

    def whose(self) -> list[str]:
        """Of one timestep that is drawn for all, which one the numbers are of."""
        steps = dict.fromkeys(
            name.rpartition(".")[2].replace("t", "t=", 1) for name in rolled_frames(self.picture.model)
        )
        if not steps:
            return []
        written = any(line.style == "note" for placed in self.picture.boxes for line in placed.lines)
        colored = self.backward or self.measures.grads
        what = ["boxes"] if colored and not self.compare else ["the texts in boxes"] if written else []
        what += ["lines"] if self.backward else []
        all_of_them = "; the strips have all" if self.measures.strips else ""
        found = ["Boxes have the colour of the worst error of all timesteps."] if self.compare else []
        if what:
            told = " and ".join(what)
            whose = " and ".join(steps)
            found.append(f"{told[0].upper()}{told[1:]} have the numbers of {whose}{all_of_them}.")
        return found

    def meet(self) -> None:
        """Take note of what strips and the triangle have that is not on a scale."""
        for strip in self.measures.strips:
            if strip.kind != "share":
                # An error within the tolerance agrees, and be it 0.
                agrees = self.scales.tolerance if strip.kind == "error" else -math.inf
                self.met |= {kind_of(x) for x in strip.values[strip.known].tolist() if not x <= agrees}
        if self.measures.triangle is not None:
            self.met |= {
                kind_of(x) for x in self.measures.triangle.norms[self.measures.triangle.known].tolist()
            }

    def legends(self, x: float, y: float) -> list[Mark]:
        samples: list[tuple[str, Kind | None]]
        samples = [(SPECIAL[kind].words, kind) for kind in SPECIAL if kind in self.met]
        marks: list[Mark] = []
        # In a comparison only lines, strips and the triangle show gradients.
        gradients = self.measures.grads and (self.backward or not self.compare)
        if self.compare:
            error: list[tuple[str, Kind | None]]
            error = [(f"agrees, within {self.scales.tolerance:g}", None)]
            if any(look.hint == _NOT_COMPARED for look in self.looks.values()):
                error.append((_NOT_COMPARED, "unknown"))
            if not gradients:
                error, samples = [*error, *samples], []
            marks += legend_marks("relative error", self.scales.error, error, x, y)
            y = bottom_of(marks)[1] + _APART
        if gradients:
            marks += legend_marks("norm of the gradient", self.scales.gradient, samples, x, y)
        return marks


def _of_each(states: Iterable[Box], numbers: Mapping[str, float]) -> str:
    """The numbers of several states, each with its name."""
    each = ((shortened(box.name), numbers.get(box.id)) for box in states)
    return ", ".join(f"{name} {'none' if number is None else short(number)}" for name, number in each)


def _turned(wire: Wire) -> Wire:
    """A line of the forward as one of the backward: a rail leads into its parameter."""
    points, arrow = wire.points[::-1], bool(wire.tail)
    return replace(wire, tail=wire.head, head=wire.tail, points=points, arrow=arrow)


def _scales(measures: Measures, norms: Mapping[str, float]) -> Scales:
    strips = [x for s in measures.strips if s.kind == "gradient" for x in s.values[s.known].tolist()]
    gradient = LogScale.of([*measures.flows.values(), *norms.values(), *strips])
    tolerance = measures.tolerance
    wrong = [x for x in measures.errors.values() if x > tolerance]
    wrong += [x for s in measures.strips if s.kind == "error" for x in s.values.tolist() if x > tolerance]
    error = LogScale.of([tolerance, *wrong]) if wrong else None
    return Scales(gradient, error, tolerance)


def _title(strip: Strip, x: float, y: float, number: str = "") -> list[Mark]:
    """The title of a strip, and from where to where its numbers go."""
    title = number + shortened(strip.title, _LONGEST_TITLE)
    after = x + text_width(title, SIZE) + 12.0
    return [Text(x, y, title, SIZE, color=INK), Text(after, y, strip_range(strip), SIZE)]
