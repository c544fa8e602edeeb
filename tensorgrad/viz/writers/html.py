"""The drawing as a page: one HTML file that needs no other, no server and no network.

Python writes what is known as compact JSON; the JavaScript and the style that show it are package data in
``page/``, joined and put into the file. Its Content-Security-Policy says all that the page may do: run this
one script, use this one style, and load nothing.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import cache
from html import escape
from importlib.resources import files
from itertools import pairwise
from string import Template
from typing import Any, Literal

import numpy as np

from tensorgrad.viz.measuring.along import NOT_ON_RECORD, flow_along, not_on_record
from tensorgrad.viz.measuring.covers import covered, worst_in_time
from tensorgrad.viz.measuring.measures import Measures, Numbers, norm_of, worst
from tensorgrad.viz.measuring.thumbs import BINS, Thumb, Thumbs
from tensorgrad.viz.model import Box, Frame
from tensorgrad.viz.picture import Line, Picture
from tensorgrad.viz.style.color import AGREES, SPECIAL, LogScale, kind_of, shade
from tensorgrad.viz.style.palette import DARK, FAINT, FRAME, HUES, INK, KINDS, PAPER, WIRES
from tensorgrad.viz.style.shapes import LABEL_SIZE
from tensorgrad.viz.style.text import STYLES, TITLE, TITLE_AT, baselines, shown

__all__ = ["to_html"]

Level = Literal["op", "cell", "rolled"]
View = Literal["forward", "backward", "compare"]

# In the order in which they build on one another; each is a chapter of one script.
_CHAPTERS = (
    *("words", "data", "index", "camera", "surface", "look", "paint", "dom", "page", "stage", "boxes"),
    *("inspect", "chart", "strips", "triangle", "panels", "search", "player", "controls", "print", "main"),
)
_RAMP = 33
# What would end the element in which the JSON stands, or could be taken for markup there.
_IN_SCRIPT = {ord("<"): "\\u003c", ord(">"): "\\u003e", ord("&"): "\\u0026"}
# Up to here a whole number is shorter without its point.
_WHOLE = 1e6
_COLUMNS = ("size", "least", "greatest", "mean", "std", "norm")


def to_html(
    pictures: Mapping[str, Picture],
    measures: Measures,
    *,
    title: str,
    thumbs: Thumbs,
    level: Level,
    view: View = "forward",
) -> str:
    """The text of a page that shows a graph.

    Args:
        pictures: the same graph as "op", "cell" and "rolled"; any may be missing. Time runs along x.
        measures: of all of them.
        title: of the page, any text.
        thumbs: small pictures of values and gradients, shown where `measures` has their numbers.
        level: which picture the page begins with.
        view: what it shows first; "compare" at the first tensor that differs.

    Example:
        >>> import tensorgrad as tg
        >>> from tensorgrad.viz.build import build
        >>> from tensorgrad.viz.place import place
        >>> x = tg.tensor(0.5, requires_grad=True, name="x")
        >>> picture = place(build(tg.tanh(x)))
        >>> to_html({"op": picture}, Measures(), title="tanh", thumbs=Thumbs({}, {}), level="op")[:15]
        '<!DOCTYPE html>'
    """
    style, script = _style(), _script()
    return Template(_part("page.html")).substitute(
        # What is left of a file name that is no UTF-8 could not be written either.
        title=escape(shown(title)),
        style=style,
        style_hash=_hash(style),
        script=script,
        script_hash=_hash(script),
        data=_json(_Data(pictures, measures, thumbs).all(title, level, view)),
    )


# --- what does not depend on the graph -------------------------------------------------------------------
def _part(name: str) -> str:
    return (files("tensorgrad.viz.writers") / "page" / name).read_text(encoding="utf-8")


@cache
def _script() -> str:
    chapters = "\n".join(_part(f"{name}.js") for name in _CHAPTERS)
    return f"(() => {{\n'use strict';\n{chapters}\n}})();\n"


@cache
def _style() -> str:
    """The style sheet, with the colours that all drawings have in common as its variables."""
    colors = {"ink": INK, "faint": FAINT, "paper": PAPER, "frame": FRAME.fill, "rim": FRAME.line}
    for kind, paint in KINDS.items():
        colors |= {f"fill-{kind}": paint.fill, f"line-{kind}": paint.line}
    colors |= {f"wire-{kind}": ink.color for kind, ink in WIRES.items()}
    colors |= {f"hue-{i}": color for i, color in enumerate(HUES)}
    light = "".join(f"--{name}:{color};" for name, color in colors.items())
    dark = "".join(f"--{name}:{DARK[color]};" for name, color in colors.items())
    kinds = "".join(
        f".kind.{kind}{{background:var(--fill-{kind});border-color:var(--line-{kind})}}\n" for kind in KINDS
    )
    return f':root{{{light}}}\n:root[data-theme="dark"]{{{dark}}}\n{kinds}{_part("page.css")}'


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _json(data: object) -> str:
    # In ASCII, half of a surrogate pair, which no UTF-8 file can hold, is text like any other.
    return json.dumps(data, separators=(",", ":"), allow_nan=False).translate(_IN_SCRIPT)


# --- the graph -------------------------------------------------------------------------------------------
class _Data:
    """The graph in lists of numbers: what is said of many boxes is said once, and texts are in one table."""

    def __init__(
        self,
        pictures: Mapping[str, Picture],
        measures: Measures,
        thumbs: Thumbs,
    ) -> None:
        self.pictures = pictures
        self.measures = measures
        self.thumbs = thumbs
        self.texts = _Table()
        self.sorts = _Table()
        self.notes = _Table()
        self.frames: dict[str, Frame] = {}
        # What has been met first counts: at the op level a box stands in its own frame.
        self.boxes: dict[str, Box] = {}
        for picture in pictures.values():
            for frame in picture.model.frames:
                self.frames.setdefault(frame.id, frame)
            for box in picture.model.boxes:
                self.boxes.setdefault(box.id, box)
        # Whose numbers a cell has: where its timestep is left out at the op level no box shows them.
        self.states = {box.id: box.states for box in self.boxes.values() if box.states}
        for name, states in self.states.items():
            for state in states:
                home = state.frame if state.frame in self.frames else self.boxes[name].frame
                self.boxes.setdefault(state.id, replace(state, frame=home))
        self.frame_numbers = {"": -1, **{name: i for i, name in enumerate(self.frames)}}
        self.box_numbers = {"": -1, **{name: i for i, name in enumerate(self.boxes)}}

    def all(self, title: str, level: str, view: str) -> dict[str, Any]:
        measures = self.measures
        errors = self.errors()
        strips = [
            {
                "title": strip.title,
                "kind": strip.kind,
                "frame": self.frame_numbers.get(strip.frame, -1),
                "values": _known(strip.values, strip.known),
            }
            for strip in measures.strips
        ]
        data = {
            "title": title,
            "level": level,
            "view": view,
            "frames": self.all_frames(),
            "tensors": self.tensors(),
            "states": {
                self.box_numbers[name]: [
                    (self.box_numbers[state.id], self.texts[state.name]) for state in states
                ]
                for name, states in self.states.items()
            },
            "values": self.numbers(measures.values),
            "grads": self.numbers(measures.grads),
            "thumbs": {
                "values": self.pictured(self.thumbs.values),
                "grads": self.pictured(self.thumbs.grads),
            },
            "errors": {
                "at": [self.box_numbers[name] for name in errors],
                "value": [_number(error) for error in errors.values()],
            },
            "first": None if measures.first is None else self.box_numbers.get(measures.first),
            "words": measures.words,
            "notes": measures.notes,
            "strips": strips,
            "triangle": self.triangle(),
            "levels": {name: self.level(picture) for name, picture in self.pictures.items()},
            **self.looks(),
        }
        # Last, for all that comes before adds to them.
        return {**data, "sorts": self.sorts.rows, "sets": self.notes.rows, "texts": self.texts.rows}

    def all_frames(self) -> dict[str, Any]:
        frames = self.frames.values()
        return {
            "id": [self.texts[frame.id] for frame in frames],
            "parent": [self.frame_numbers[frame.parent] for frame in frames],
            "step": [frame.step for frame in frames],
            "last": [frame.last for frame in frames],
        }

    def tensors(self) -> dict[str, Any]:
        """Every box of any level: its sort and its frame, and its id where those do not say it."""
        sort, notes, frame, ids = [], [], [], {}
        for number, box in enumerate(self.boxes.values()):
            texts = (box.kind, box.name, box.op, box.shape, box.dtype, box.role)
            sort.append(self.sorts[tuple(self.texts[text] for text in texts)])
            notes.append(self.notes[tuple(self.texts[note] for note in box.notes)])
            frame.append(self.frame_numbers[box.frame])
            if box.id != (f"{box.frame}.{box.role}" if box.frame else box.role):
                ids[number] = self.texts[box.id]
        return {"sort": sort, "notes": notes, "frame": frame, "ids": ids}

    def level(self, picture: Picture) -> dict[str, Any]:
        sizes, lines, courses = _Table(), _Table(), _Table()
        boxes = picture.boxes
        numbers = {placed.box.id: i for i, placed in enumerate(boxes)}
        wires: dict[str, list[Any]] = {name: [] for name in ("course", "x", "y", "tail", "head", "flow")}
        for wire in picture.wires:
            (x, y), steps = wire.points[0], []
            # Rounded before they are subtracted: rounding errors would add up from corner to corner.
            points = [(_length(u), _length(v)) for u, v in wire.points]
            for (a, b), (c, d) in pairwise(points):
                steps += [_length(c - a), _length(d - b)]
            course = self.texts[wire.kind], int(wire.arrow), wire.hue, self.texts[wire.label], *steps
            wires["course"].append(courses[course])
            wires["x"].append(_length(x))
            wires["y"].append(_length(y))
            wires["tail"].append(numbers.get(wire.tail, -1))
            wires["head"].append(numbers.get(wire.head, -1))
            wires["flow"].append(_number(flow_along(wire, self.measures)))
        hidden = [i for i, wire in enumerate(picture.wires) if not_on_record(wire, self.measures)]
        return {
            "width": _length(picture.width),
            "height": _length(picture.height),
            "boxes": {
                "tensor": [self.box_numbers[placed.box.id] for placed in boxes],
                "x": [_length(placed.x) for placed in boxes],
                "y": [_length(placed.y) for placed in boxes],
                "size": [sizes[_length(placed.width), _length(placed.height)] for placed in boxes],
                "lines": [
                    lines[tuple((line.style, self.texts[line.text]) for line in placed.lines)]
                    for placed in boxes
                ],
            },
            "outlines": {
                "frame": [self.frame_numbers[outline.frame.id] for outline in picture.outlines],
                "title": [self.texts[outline.title] for outline in picture.outlines],
                **{
                    side: [_length(getattr(outline, side)) for outline in picture.outlines]
                    for side in ("x", "y", "width", "height")
                },
            },
            "columns": _columns(picture),
            "wires": {**wires, "notOnRecord": hidden},
            "sizes": sizes.rows,
            "lines": lines.rows,
            "courses": courses.rows,
            "first": self.first(picture, numbers),
            "worst": self.worst(picture),
        }

    def first(self, picture: Picture, numbers: Mapping[str, int]) -> int | None:
        """The box of a picture that shows where a comparison first differs: its own, or a cell or block."""
        first = self.measures.first
        if first is None:
            return None
        return (
            numbers.get(first)
            if first in numbers
            else numbers.get(next(iter(covered(picture.model, [first], across=True)), ""))
        )

    def worst(self, picture: Picture) -> list[Any] | None:
        """Of one timestep that stands for all the greatest error of each box, and at which timestep it is."""
        found = worst_in_time(picture.model, self.measures.errors)
        if not found:
            return None
        rows = (found.get(placed.box.id) for placed in picture.boxes)
        return [row and (_number(row[0]), row[1]) for row in rows]

    # --- numbers -----------------------------------------------------------------------------------------
    def numbers(self, found: Mapping[str, Numbers]) -> dict[str, Any]:
        there = {self.box_numbers[name]: numbers for name, numbers in found.items() if name in self.boxes}
        return {
            "at": list(there),
            **{name: [_number(getattr(n, name)) for n in there.values()] for name in _COLUMNS},
            "nan": {i: n.nan for i, n in enumerate(there.values()) if n.nan},
            "inf": {i: n.inf for i, n in enumerate(there.values()) if n.inf},
        }

    def pictured(self, thumbs: Mapping[str, Thumb]) -> dict[str, Any]:
        """Thumbnails, all their bytes in one text."""
        there = {self.box_numbers[name]: thumb for name, thumb in thumbs.items() if name in self.boxes}
        return {
            "at": list(there),
            "cells": [len(thumb.cells) for thumb in there.values()],
            "columns": [thumb.columns for thumb in there.values()],
            "bins": BINS,
            "bytes": base64.b64encode(b"".join(t.cells + t.counts for t in there.values())).decode(),
        }

    def errors(self) -> dict[str, float]:
        """The error of every box; of a cell or block the worst of those that it stands for."""
        errors = {name: error for name, error in self.measures.errors.items() if name in self.boxes}
        for picture in self.pictures.values():
            for name, inner in covered(picture.model, self.measures.errors).items():
                errors[name] = worst(self.measures.errors[i] for i in inner)
        return errors

    def triangle(self) -> dict[str, Any] | None:
        triangle = self.measures.triangle
        if triangle is None:
            return None
        return {
            "title": triangle.title,
            "rows": triangle.rows.tolist(),
            "columns": triangle.columns.tolist(),
            "norms": _known(triangle.norms, triangle.known),
        }

    # --- colours -----------------------------------------------------------------------------------------
    def looks(self) -> dict[str, Any]:
        measures = self.measures
        norms: dict[str, list[float | None]] = {kind: [] for kind in ("gradient", "factor", "error", "share")}
        for strip in measures.strips:
            norms[strip.kind] += _floats(strip.values, strip.known)
        norms["gradient"] += map(norm_of, measures.grads.values())
        norms["gradient"] += measures.flows.values()
        norms["gradient"] += [None] * any(name not in measures.grads for name in self.boxes)
        # Those too of timesteps that are not drawn, for which a block or a loop stands.
        norms["error"] += measures.errors.values()
        norms["error"] += [None] * any(name not in measures.errors for name in self.boxes)
        triangle = measures.triangle
        norms["triangle"] = [] if triangle is None else list(_floats(triangle.norms, triangle.known))
        return {
            "ramp": [shade(i / (_RAMP - 1)) for i in range(_RAMP)],
            "notOnRecord": NOT_ON_RECORD,
            "special": {
                **{kind: special._asdict() for kind, special in SPECIAL.items()},
                "agrees": {
                    "color": AGREES,
                    "fill": AGREES,
                    "words": f"agrees, within {measures.tolerance:g}",
                },
            },
            "scales": {kind: _scale(kind, found, measures.tolerance) for kind, found in norms.items()},
            "styles": {
                **{name: {**style._asdict(), "rise": _rise(name)} for name, style in STYLES.items()},
                "title": {"size": TITLE.size, "height": TITLE.height, "at": TITLE_AT},
                "label": {"size": LABEL_SIZE},
            },
            "pens": {
                "kinds": {
                    kind: {"width": paint.width, "radius": paint.radius, "dashed": paint.dashed}
                    for kind, paint in KINDS.items()
                },
                "wires": {kind: {"width": ink.width, "head": ink.head} for kind, ink in WIRES.items()},
                "hues": len(HUES),
            },
        }


class _Table(dict[Any, int]):
    """Each thing that is asked for gets a number, the same for equal things; `rows` has them in order."""

    def __init__(self) -> None:
        self.rows: list[Any] = []

    def __missing__(self, thing: Any) -> int:
        number = self[thing] = len(self.rows)
        self.rows.append(thing)
        return number


def _columns(picture: Picture) -> list[list[float]]:
    """The columns of the time axis: first timestep, last one, from where, to where."""
    found: list[list[float]] = []
    for t, *ends in picture.times:
        place = [_length(end) for end in ends]
        if found and found[-1][2:] == place:
            found[-1][1] = t
        else:
            found.append([t, t, *place])
    return found


def _length(x: float) -> float:
    """In tenths of a point, and without a point where it is whole."""
    rounded = round(x, 1)
    whole = int(rounded)
    return whole if whole == rounded else rounded


def _number(x: float | None) -> float | str | None:
    """In four digits; what JSON cannot hold as text."""
    if x is None:
        return None
    if not math.isfinite(x):
        return "NaN" if math.isnan(x) else "Infinity" if x > 0 else "-Infinity"
    rounded = float(f"{x:.4g}")
    # Of the largest numbers, rounded up, none is left.
    x = rounded if math.isfinite(rounded) else x
    return int(x) if abs(x) < _WHOLE and x == int(x) else x


def _floats(values: np.ndarray, known: np.ndarray) -> Iterable[float | None]:
    """Numbers in the order of the rows, None where none is known."""
    numbers, there = values.astype(float).ravel().tolist(), known.ravel().tolist()
    return (x if k else None for x, k in zip(numbers, there, strict=True))


def _known(values: np.ndarray, known: np.ndarray) -> list[float | str | None]:
    return [_number(x) for x in _floats(values, known)]


def _rise(style: str) -> float:
    """From the upper edge of a line of a box down to its baseline."""
    line = Line(style, "")  # type: ignore[arg-type]
    return baselines([line], 0.0, STYLES[style].height)[0]


def _scale(kind: str, norms: list[float | None], tolerance: float) -> dict[str, Any]:
    """The ends of a scale, the ticks of its legend, and what there is that stands outside of it."""
    if kind == "share":
        return {"low": 0, "high": 1, "linear": True, "cut": False, "ticks": [(0, "0"), (1, "1")], "seen": []}
    numbers = [x for x in norms if x is not None]
    seen: list[str] = sorted({kind_of(x) for x in norms} - {"number"})
    limit = {}
    if kind == "error":
        seen = [*(name for name in seen if name != "zero"), "agrees"]
        numbers = [tolerance, *(x for x in numbers if x > tolerance)]
        limit = {"tolerance": tolerance}
    scale = LogScale.about_one(numbers) if kind == "factor" else LogScale.of(numbers)
    if scale is None:
        return {"low": -1, "high": 0, "linear": False, "cut": False, "ticks": [], "seen": seen, **limit}
    ends = {"low": scale.low, "high": scale.high, "cut": scale.cut}
    return {**ends, "linear": False, "ticks": scale.ticks(), "seen": seen, **limit}
