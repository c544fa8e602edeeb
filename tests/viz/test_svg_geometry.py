"""Nothing in a written SVG stands in the way of anything else: read from the SVG itself."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

import numpy as np
import pytest

import tensorgrad as tg
from tensorgrad import nn
from tensorgrad.viz import levels
from tensorgrad.viz.build import build
from tensorgrad.viz.model import Model
from tensorgrad.viz.picture import Picture, Text
from tensorgrad.viz.place import place
from tensorgrad.viz.style.text import text_width
from tensorgrad.viz.writers.svg import to_svg

from .conftest import attention, char_rnn
from .pictures import everything

_SVG = "{http://www.w3.org/2000/svg}"
# What rounding to a tenth of a point, and the thickness of a line, may add.
_SLACK = 0.3


@dataclass(frozen=True)
class Shape:
    """A rectangle on the page; owner is the id of the box or frame that it belongs to."""

    left: float
    top: float
    right: float
    bottom: float
    owner: str = ""
    says: str = ""

    def overlaps(self, other: Shape) -> bool:
        across = min(self.right, other.right) - max(self.left, other.left)
        down = min(self.bottom, other.bottom) - max(self.top, other.top)
        return across > _SLACK and down > _SLACK

    def holds(self, other: Shape) -> bool:
        return (
            self.left <= other.left + _SLACK
            and self.top <= other.top + _SLACK
            and self.right >= other.right - _SLACK
            and self.bottom >= other.bottom - _SLACK
        )


@dataclass(frozen=True)
class Page:
    """What an SVG has on it."""

    whole: Shape
    boxes: dict[str, Shape]
    frames: dict[str, Shape]
    texts: list[Shape]


def read(svg: str, model: Model) -> Page:
    """Boxes, frames and texts as they stand in an SVG."""
    root = ET.fromstring(svg)
    x, y, width, height = map(float, (root.get("viewBox") or "").split())
    found: dict[str, Shape] = {}
    owners: dict[ET.Element, str] = {}
    for group in root.iter(f"{_SVG}g"):
        name = group.get("id")
        if name:
            rect = group.find(f"{_SVG}rect")
            assert rect is not None
            left, top, wide, high = (float(rect.get(part) or 0) for part in ("x", "y", "width", "height"))
            found[name] = Shape(left, top, left + wide, top + high, name)
            owners.update((text, name) for text in group.iter(f"{_SVG}text"))
    texts = [written(text, owners.get(text, "")) for text in root.iter(f"{_SVG}text")]
    return Page(
        Shape(x, y, x + width, y + height),
        {box.id: found[box.id] for box in model.boxes},
        {frame.id: found[frame.id] for frame in model.frames if frame.id in found},
        texts,
    )


def written(text: ET.Element, owner: str) -> Shape:
    """Where a text stands: as wide as it is in Helvetica, from the capitals' height to below the line."""
    size = float(text.get("font-size") or 10)
    says = text.text or ""
    width = float(text.get("textLength") or text_width(says, size, text.get("font-weight") == "bold"))
    x, y = float(text.get("x") or 0), float(text.get("y") or 0)
    left = x - width * {"start": 0.0, None: 0.5, "end": 1.0}[text.get("text-anchor")]
    return Shape(left, y - 0.72 * size, left + width, y + 0.2 * size, owner, says)


def faults(svg: str, model: Model) -> Iterator[str]:
    """What stands in the way of what."""
    page = read(svg, model)
    everywhere = [*page.boxes.values(), *page.frames.values(), *page.texts]
    yield from (f"{shape} sticks out of the page" for shape in everywhere if not page.whole.holds(shape))
    yield from (f"box {a} lies over {b}" for a, b in pairs(page.boxes.values()))
    for a, b in combinations(page.frames.values(), 2):
        if a.overlaps(b) and not a.holds(b) and not b.holds(a):
            yield f"frame {a} crosses {b}"
    parents = {frame.id: frame.parent for frame in model.frames}
    for name, frame in page.frames.items():
        if parents[name] in page.frames and not page.frames[parents[name]].holds(frame):
            yield f"frame {name} is not within {parents[name]}"
    for box in model.boxes:
        around = enclosing(box.frame, parents)
        for name, frame in page.frames.items():
            if name in around and not frame.holds(page.boxes[box.id]):
                yield f"box {box.id} is not within {name}"
            elif name not in around and frame.overlaps(page.boxes[box.id]):
                yield f"box {box.id} lies over frame {name}"
    yield from (f"text {a} lies over {b}" for a, b in pairs(page.texts))
    for text in page.texts:
        own = page.boxes.get(text.owner) or page.frames.get(text.owner)
        if own is not None and not own.holds(text):
            yield f"text {text} is not within {text.owner}"
        yield from (
            f"text {text} lies over box {box.owner}"
            for box in page.boxes.values()
            if box.owner != text.owner and box.overlaps(text)
        )


def pairs(shapes: Any) -> Iterator[tuple[Shape, Shape]]:
    """Those that overlap."""
    shapes = list(shapes)
    left, top, right, bottom = np.array([(s.left, s.top, s.right, s.bottom) for s in shapes]).T
    across = np.minimum.outer(right, right) - np.maximum.outer(left, left)
    down = np.minimum.outer(bottom, bottom) - np.maximum.outer(top, top)
    for i, j in zip(*np.nonzero(np.triu((across > _SLACK) & (down > _SLACK), 1)), strict=True):
        yield shapes[i], shapes[j]


def enclosing(frame: str, parents: dict[str, str]) -> set[str]:
    found = set()
    while frame:
        found.add(frame)
        frame = parents[frame]
    return found


def two_layer_bidirectional_lstm(T: int) -> Model:
    lstm = nn.LSTM(2, 3, num_layers=2, bidirectional=True, seed=0)
    run = lstm.unroll(np.ones((T, 1, 2)))
    return build(tg.sum(run.outputs), run, lstm)


def of(case: Any) -> Model:
    return build(case.output, case.unrolled, case.params)


GRAPHS: dict[str, Callable[[int], Model]] = {
    "rnn": lambda T: of(char_rnn(T)),
    "lstm": lambda T: of(char_rnn(T, "lstm")),
    "gru": lambda T: of(char_rnn(T, "gru")),
    "two-layer bidirectional lstm": two_layer_bidirectional_lstm,
    "attention": lambda T: of(attention(T)),
}


@pytest.mark.parametrize("vertical", [False, True], ids=["LR", "TB"])
@pytest.mark.parametrize("name", GRAPHS)
def test_nothing_stands_in_the_way(name: str, vertical: bool) -> None:
    model = GRAPHS[name](4)
    assert list(faults(to_svg(place(model, vertical=vertical)), model)) == []


@pytest.mark.parametrize("name", GRAPHS)
@pytest.mark.parametrize("level", ["cells", "elided", "rolled"])
def test_nor_where_less_is_shown(name: str, level: str) -> None:
    model = GRAPHS[name](14 if level == "elided" else 4)
    model = levels.elided(model, [7]) if level == "elided" else getattr(levels, level)(model)
    assert list(faults(to_svg(place(model)), model)) == []


def moved(picture: Picture, name: str, **changes: Any) -> Picture:
    boxes = tuple(replace(p, **changes) if p.box.id == name else p for p in picture.boxes)
    outlines = tuple(replace(o, **changes) if o.frame.id == name else o for o in picture.outlines)
    return replace(picture, boxes=boxes, outlines=outlines)


def plain() -> Picture:
    """A picture without a fault."""
    return replace(everything(), looks={}, marks=())


@pytest.mark.parametrize(
    ("planted", "fault"),
    [
        (lambda p: moved(p, "l0.t1.state", y=440.0), "box .*l0.t1.operation.* lies over .*l0.t1.state"),
        (lambda p: moved(p, "l0.t1.state", x=500.0), "box l0.t1.state is not within l0.t1"),
        (lambda p: moved(p, "l0.t0", width=300.0), "frame .*l0.t0.* crosses .*l0.t1"),
        (lambda p: moved(p, "l0.t2", width=400.0), "frame l0.t2 is not within l0"),
        (lambda p: moved(p, "W", x=150.0), "box W lies over frame l0"),
        (lambda p: moved(p, "l0.t0.state", width=20.0), "text .* is not within l0.t0.state"),
        (
            lambda p: replace(p, marks=(Text(400.0, 366.0, "stray"),)),
            "text .*stray.* lies over box l0.t1.state",
        ),
        (lambda p: replace(p, marks=(Text(150.0, 54.0, "stray"),)), "text .*t=0.* lies over .*stray"),
        (lambda p: replace(p, marks=(Text(-50.0, 54.0, "stray"),)), "stray.* sticks out of the page"),
    ],
)
def test_a_planted_fault_is_found(planted: Callable[[Picture], Picture], fault: str) -> None:
    assert list(faults(to_svg(plain()), plain().model)) == []
    found = "\n".join(faults(to_svg(planted(plain())), plain().model))
    assert re.search(fault, found), found
