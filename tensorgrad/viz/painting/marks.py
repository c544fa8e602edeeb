"""What stands under and beside a graph: strips with a cell for each timestep, a triangle, legends, words."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from tensorgrad.viz.measuring.measures import Strip, Triangle
from tensorgrad.viz.picture import Mark, Patch, Picture, Stroke, Text
from tensorgrad.viz.style.color import AGREES, SPECIAL, Kind, LogScale, kind_of, shade, short
from tensorgrad.viz.style.palette import FAINT, FRAME, INK
from tensorgrad.viz.style.text import shortened, text_width

__all__ = [
    "INFINITE",
    "LINE",
    "SIZE",
    "Scales",
    "Segment",
    "bottom_of",
    "legend_marks",
    "strip_marks",
    "strip_range",
    "text_marks",
    "time_axis",
    "triangle_marks",
]

SIZE, LINE = 10.0, 13.0
"""Of texts: the size of the letters and the distance of two lines, in points."""
_THICK = 12.0
INFINITE = 9.0
"""How thick a line is along which something infinite flows."""
_EXAMPLES = {"zero": 0.0, "nan": math.nan, "infinite": math.inf}
# A cell is no narrower, and stands for several timesteps where there is no room for each.
_LEAST_CELL = 1.0
_LEAST_AXIS = 300.0
_BAR = (160.0, 10.0)
_TRIANGLE = 192.0
_LARGEST_CELL = 14.0
# Of strips that have another scale than the legend's.
_SCALES = {"factor": "; 1 is in the middle of the colours", "share": "; the colours go from 0% to 100%"}
# The letters of a word, and of a paragraph, that are shown.
_LONGEST_WORD, _LONGEST = 40, 600


class Scales(NamedTuple):
    """The scales of a drawing.

    Attributes:
        gradient: of norms of gradients; None where none is positive.
        error: of relative errors.
        tolerance: the error up to which gradients agree.
    """

    gradient: LogScale | None = None
    error: LogScale | None = None
    tolerance: float = 0.0


class Segment(NamedTuple):
    """Timesteps `start` to `stop` (not included), which share the stretch from `begin` to `end`."""

    start: int
    stop: int
    begin: float
    end: float


# --- where the timesteps are -----------------------------------------------------------------------------
def time_axis(picture: Picture, frame: str, T: int) -> list[Segment]:
    """Where T timesteps lie along the time axis: at the columns of their frames.

    Where the picture has not all of them, as when it shows one that stands for all, they share its length.

    Args:
        picture: a drawing.
        frame: the id of the frame around the timesteps.
        T: how many there are.

    Example:
        >>> from tensorgrad.viz.model import Frame, Model
        >>> from tensorgrad.viz.picture import Outline
        >>> block = Outline(Frame("t0_t3", "t=0 … 3", "", 0, 3), 10.0, 0.0, 80.0, 50.0, "t=0 … 3")
        >>> time_axis(Picture(Model((), (), ()), 90.0, 50.0, (), (block,), ()), "", 4)
        [Segment(start=0, stop=4, begin=10.0, end=90.0)]
    """
    segments = []
    for outline in picture.outlines:
        if outline.frame.parent == frame and outline.frame.step is not None:
            first = outline.frame.step
            last = first if outline.frame.last is None else outline.frame.last
            begin, size = (outline.y, outline.height) if picture.vertical else (outline.x, outline.width)
            segments.append(Segment(first, last + 1, begin, begin + size))
    segments.sort()
    if [t for s in segments for t in range(s.start, s.stop)][:T] == list(range(T)):
        # There may be more columns than timesteps: two runs of different lengths share them.
        *before, (start, stop, begin, end) = (s for s in segments if s.start < T)
        end = begin + (min(stop, T) - start) / (stop - start) * (end - begin)
        if before or end - begin >= min(_LEAST_AXIS, 6.0 * T):
            return [*before, Segment(start, min(stop, T), begin, end)]
    begin = min((s.begin for s in segments), default=0.0)
    whole = max((s.end for s in segments), default=0.0) - begin
    return [Segment(0, T, begin, begin + max(whole, min(_LEAST_AXIS, 6.0 * T)))]


def _cells(segments: Iterable[Segment]) -> Iterator[Segment]:
    """A stretch for each timestep, or for a few where it would be too narrow to be seen."""
    for start, stop, begin, end in segments:
        count = stop - start
        cells = max(1, min(count, int((end - begin) / _LEAST_CELL)))
        step = (end - begin) / cells
        # As the writers round lengths, lest there be seams between the cells.
        edges = [begin, *(round(begin + k * step, 1) for k in range(1, cells)), end]
        for k, (low, high) in enumerate(pairwise(edges)):
            yield Segment(start + k * count // cells, start + (k + 1) * count // cells, low, high)


# --- strips ----------------------------------------------------------------------------------------------
def strip_marks(
    strip: Strip, segments: Sequence[Segment], across: float, scales: Scales, vertical: bool
) -> list[Mark]:
    """The cells of a strip.

    Args:
        strip: its numbers.
        segments: where the timesteps lie, of `time_axis`.
        across: where the strip begins across the time axis; it is 12 points thick.
        scales: of the drawing.
        vertical: whether time runs downwards.
    """
    scale = _scale_of(strip, scales)
    # Where nothing is known there is nothing but this line.
    ends = [(segments[0].begin, across + _THICK + 1.0), (segments[-1].end, across + _THICK + 1.0)]
    marks: list[Mark] = [Stroke(tuple((v, u) if vertical else (u, v) for u, v in ends), FRAME.line)]
    for cell in _cells(segments):
        some = strip.values[cell.start : cell.stop][strip.known[cell.start : cell.stop]]
        if some.size:
            # NaN counts as more than infinity.
            worst = float(np.max(some))
            box = (cell.begin, across, cell.end - cell.begin, _THICK)
            if vertical:
                box = (box[1], box[0], box[3], box[2])
            marks.append(
                _cell(box, worst, strip.kind, scale, scales.tolerance, _when(cell, some.size, worst, strip))
            )
    return marks


def strip_range(strip: Strip) -> str:
    """From where to where the numbers of a strip go.

    Example:
        >>> strip_range(Strip("", np.array([0.0, 1e-7, 2.0]), np.array([True, True, False])))
        '0 .. 1.0e-7'
    """
    some = strip.values[strip.known]
    if not some.size:
        return "not known"
    finite = some[np.isfinite(some)]
    text = short if strip.scale == "log" else _percent
    ends = (text(float(finite.min())), text(float(finite.max()))) if finite.size else ()
    parts = [" .. ".join(dict.fromkeys(ends))] if ends else []
    parts += ["infinite"] if np.isinf(some).any() else []
    parts += ["NaN"] if np.isnan(some).any() else []
    return ", ".join(parts) + _SCALES.get(strip.kind, "")


def _percent(x: float) -> str:
    return f"{100 * x:.3g}%"


def _scale_of(strip: Strip, scales: Scales) -> LogScale | None:
    if strip.kind == "factor":
        return LogScale.about_one(strip.values[strip.known].tolist())
    return scales.error if strip.kind == "error" else scales.gradient


def _when(cell: Segment, count: int, worst: float, strip: Strip) -> str:
    number = short(worst) if strip.scale == "log" else _percent(worst)
    if cell.stop - cell.start == 1:
        return f"{strip.title} at t={cell.start}: {number}"
    return f"{strip.title} from t={cell.start} to {cell.stop - 1}: {number}{' at most' if count > 1 else ''}"


def _cell(
    box: tuple[float, float, float, float],
    x: float,
    kind: str,
    scale: LogScale | None,
    tolerance: float,
    hint: str,
) -> Patch:
    """A number as a coloured cell; zero, and an error within tolerance, as a small one in its middle."""
    if kind == "share" and x:
        return Patch(*box, shade(x), hint=hint)
    if kind == "error" and x <= tolerance:
        return Patch(*_inner(box), AGREES, hint=hint)
    sort = kind_of(x)
    if sort == "number" and scale is not None:
        return Patch(*box, scale.color(x), hint=hint)
    special = SPECIAL[sort]
    if sort == "zero":
        return Patch(*_inner(box), special.color, pattern=special.pattern, hint=hint)
    line = INK if sort == "infinite" else special.color
    return Patch(*box, special.fill, line, special.pattern, hint)


def _inner(box: tuple[float, float, float, float]) -> tuple[float, float, float, float]:
    x, y, width, height = box
    return x + 0.3 * width, y + 0.3 * height, 0.4 * width, 0.4 * height


# --- the triangle ----------------------------------------------------------------------------------------
def triangle_marks(triangle: Triangle, x: float, y: float, scale: LogScale | None) -> list[Mark]:
    """The norms of dL_i/dh_j as cells, i downwards and j to the right, from (x, y)."""
    rows, columns = triangle.rows.tolist(), triangle.columns.tolist()
    side = min(math.floor(10 * _TRIANGLE / max(len(rows), len(columns))) / 10, _LARGEST_CELL)
    marks: list[Mark] = [Text(x, y + SIZE, triangle.title, SIZE, color=INK)]
    names = [f"i={rows[0]}", f"i={rows[-1]}"]
    left = x + max(text_width(name, SIZE) for name in names) + 6.0
    top = y + LINE + 4.0
    wide, high = side * len(columns), side * len(rows)
    marks.append(Text(left - 4.0, top + min(SIZE, high), names[0], SIZE, "end"))
    if len(rows) > 1 and high > 2 * LINE:
        marks.append(Text(left - 4.0, top + high, names[1], SIZE, "end"))
    for i, row in enumerate(rows):
        for j, column in enumerate(columns):
            if triangle.known[i, j]:
                norm = float(triangle.norms[i, j])
                hint = f"i={row}, j={column}: {short(norm)}"
                box = (left + j * side, top + i * side, side, side)
                marks.append(_cell(box, norm, "gradient", scale, 0.0, hint))
    marks.append(Text(left, top + high + LINE, f"j={columns[0]}", SIZE))
    if wide > 2 * text_width(f"j={columns[-1]}", SIZE) + 8.0:
        marks.append(Text(left + wide, top + high + LINE, f"j={columns[-1]}", SIZE, "end"))
    return marks


# --- legends and words -----------------------------------------------------------------------------------
def legend_marks(
    title: str, scale: LogScale | None, samples: Iterable[tuple[str, Kind | None]], x: float, y: float
) -> list[Mark]:
    """A colour bar with its ticks, and beneath it what stands outside of the scale.

    Args:
        title: what is on the scale; may be empty.
        scale: None where nothing is.
        samples: words, and the kind of number that they name; None for an error within tolerance.
        x, y: the upper left corner.
    """
    marks: list[Mark] = [Text(x, y + SIZE, title, SIZE, color=INK)] if title else []
    y += LINE + 4.0
    if scale is not None:
        wide, high = _BAR
        count = 40
        marks += [
            Patch(x + k * wide / count, y, wide / count, high, shade(k / (count - 1))) for k in range(count)
        ]
        for place, text in scale.ticks():
            at = x + place * wide
            marks.append(Stroke(((at, y + high), (at, y + high + 3.0)), FAINT))
            # The texts of the ends stay within the bar.
            inside = place * text_width(text, SIZE)
            marks.append(Text(at - inside, y + high + LINE, text, SIZE))
        y += high + LINE + 8.0
        if scale.cut:
            marks.append(Text(x, y + SIZE - 2.0, f"the darkest for 1e{scale.low} and less", SIZE))
            y += LINE
    for words, sample in samples:
        marks += _sample(sample, x, y)
        marks.append(Text(x + 46.0, y + 9.0, words, SIZE))
        y += LINE + 3.0
    return marks


def _sample(sample: Kind | None, x: float, y: float) -> list[Mark]:
    """How a line and a cell look that stand outside of a scale; None for an error within tolerance."""
    box = x + 26.0, y, 14.0, 10.0
    if sample is None:
        return [Patch(*_inner(box), AGREES)]
    special = SPECIAL[sample]
    width = {"infinite": INFINITE, "nan": 3.0}.get(sample, 1.5)
    line = Stroke(((x, y + 5.0), (x + 20.0, y + 5.0)), special.color, width, special.pattern)
    if sample == "unknown":
        return [line]
    return [line, _cell(box, _EXAMPLES[sample], "gradient", None, 0.0, "")]


def text_marks(paragraphs: Iterable[str], x: float, y: float, width: float, bold: bool = False) -> list[Text]:
    """Paragraphs in lines of at most so many points, the first in bold where asked for."""
    marks = []
    for number, paragraph in enumerate(paragraphs):
        heavy = bold and not number
        for line in _wrapped(paragraph, width, heavy):
            y += LINE
            marks.append(Text(x, y - 3.0, line, SIZE, bold=heavy, color=INK if heavy else FAINT))
        y += 3.0
    return marks


def _wrapped(text: str, width: float, bold: bool) -> list[str]:
    lines = [""]
    for word in (shortened(word, _LONGEST_WORD) for word in shortened(text, _LONGEST).split()):
        longer = f"{lines[-1]} {word}".lstrip()
        if lines[-1] and text_width(longer, SIZE, bold) > width:
            lines.append(word)
        else:
            lines[-1] = longer
    return lines


def bottom_of(marks: Iterable[Mark]) -> tuple[float, float]:
    """How far marks reach to the right and downwards.

    Example:
        >>> bottom_of([Patch(10.0, 10.0, 5.0, 5.0, "#000000"), Text(0.0, 20.0, "h", 10.0)])
        (15.0, 23.0)
    """
    right = low = 0.0
    for mark in marks:
        if isinstance(mark, Patch):
            ends = [(mark.x + mark.width, mark.y + mark.height)]
        elif isinstance(mark, Stroke):
            ends = list(mark.points)
        else:
            ends = [(mark.x + _reach(mark), mark.y + 3.0)]
        right = max([right, *(x for x, _ in ends)])
        low = max([low, *(y for _, y in ends)])
    return right, low


def _reach(text: Text) -> float:
    """How far a text reaches to the right of its place."""
    part = {"start": 1.0, "middle": 0.5, "end": 0.0}[text.anchor]
    return part * text_width(text.text, text.size, text.bold)
