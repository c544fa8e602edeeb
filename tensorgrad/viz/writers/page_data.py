"""What a page is told of the graph: lists of numbers, ready to be written as JSON."""

from __future__ import annotations

import base64
import math
from collections.abc import Iterable, Mapping
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np

from tensorgrad.viz.measuring.along import flow_along, not_on_record
from tensorgrad.viz.measuring.covers import covered, worst_in_time
from tensorgrad.viz.measuring.measures import Measures, Numbers, norm_of, worst
from tensorgrad.viz.measuring.thumbs import BINS, Thumb, Thumbs
from tensorgrad.viz.model import Box, Frame
from tensorgrad.viz.picture import Picture
from tensorgrad.viz.writers.page_looks import looks

__all__ = ["Data"]

# Up to here a whole number is shorter without its point.
_WHOLE = 1e6
_COLUMNS = ("size", "least", "greatest", "mean", "std", "norm")


class Data:
    """The graph in lists of numbers: what is said of many boxes is said once, and texts are in one table."""

    def __init__(self, pictures: Mapping[str, Picture], measures: Measures, thumbs: Thumbs) -> None:
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
        """All that the page is told."""
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
            **looks(self.norms(), measures.tolerance),
        }
        # Last, for all that comes before adds to them.
        return {**data, "sorts": self.sorts.rows, "sets": self.notes.rows, "texts": self.texts.rows}

    def all_frames(self) -> dict[str, Any]:
        """The frames of all levels, and the timesteps that each stands for."""
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
        """Where the boxes, outlines and wires of one picture are; a wire goes on from its first point."""
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
        """What was measured of values or of gradients, a list for each measure."""
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
        """The norms of dL_i/dh_j, where they were measured."""
        triangle = self.measures.triangle
        if triangle is None:
            return None
        return {
            "title": triangle.title,
            "rows": triangle.rows.tolist(),
            "columns": triangle.columns.tolist(),
            "norms": _known(triangle.norms, triangle.known),
        }

    def norms(self) -> dict[str, list[float | None]]:
        """All numbers that are shown by a colour, of each kind; None where none is known."""
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
        return norms


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
