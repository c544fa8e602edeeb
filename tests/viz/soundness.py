"""What must be true of every laid out drawing, whatever it shows."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from itertools import combinations, pairwise

from tensorgrad.viz.picture import Outline, Picture, Placed, Point, Wire
from tensorgrad.viz.style.shapes import label_place
from tensorgrad.viz.style.text import STYLES, TITLE, TITLE_AT, baselines, text_width

Rectangle = tuple[float, float, float, float]
_NEAR = 0.01
# Between any two boxes.
_CLEAR = 4.0


def faults(picture: Picture) -> Iterator[str]:
    """A sentence for everything that is wrong."""
    if [placed.box for placed in picture.boxes] != list(picture.model.boxes):
        yield "the boxes are not those of the model, in its order"
    yield from _boxes(picture)
    yield from _outlines(picture)
    yield from _arrows(picture)
    yield from _ends(picture)
    yield from _ways(picture)
    yield from _labels(picture)


def edges(one: Placed | Outline) -> Rectangle:
    return one.x, one.y, one.x + one.width, one.y + one.height


def stretches(wire: Wire) -> Iterator[tuple[Point, Point]]:
    return pairwise(wire.points)


def _overlap(one: Rectangle, other: Rectangle, clear: float = 0.0) -> bool:
    return (
        one[0] < other[2] + clear - _NEAR
        and other[0] < one[2] + clear - _NEAR
        and one[1] < other[3] + clear - _NEAR
        and other[1] < one[3] + clear - _NEAR
    )


def _inside(one: Rectangle, other: Rectangle) -> bool:
    return (
        one[0] >= other[0] - _NEAR
        and one[1] >= other[1] - _NEAR
        and one[2] <= other[2] + _NEAR
        and one[3] <= other[3] + _NEAR
    )


def _near(rectangles: Iterable[tuple[Rectangle, str]]) -> Iterator[tuple[Rectangle, str, Rectangle, str]]:
    """The pairs that may overlap, by a sweep from left to right."""
    open_: list[tuple[Rectangle, str]] = []
    for one, name in sorted(rectangles):
        open_ = [other for other in open_ if other[0][2] + _CLEAR > one[0]]
        for other, other_name in open_:
            yield one, name, other, other_name
        open_.append((one, name))


def _boxes(picture: Picture) -> Iterator[str]:
    page = 0.0, 0.0, picture.width, picture.height
    shapes: list[Placed | Outline] = [*picture.boxes, *picture.outlines]
    for shape in shapes:
        if not _inside(edges(shape), page):
            yield f"{_name(shape)} is not on the page"
    for one, name, other, other_name in _near((edges(box), box.box.id) for box in picture.boxes):
        if _overlap(one, other, _CLEAR):
            yield f"{name} and {other_name} overlap"


def _name(one: Placed | Outline) -> str:
    return one.box.id if isinstance(one, Placed) else one.frame.id


def _outlines(picture: Picture) -> Iterator[str]:
    around: dict[str, list[str]] = {"": []}
    for frame in picture.model.frames:
        around[frame.id] = [frame.id, *around[frame.parent]]
    for outline in picture.outlines:
        name, one = outline.frame.id, edges(outline)
        for box in picture.boxes:
            if name in around[box.box.frame]:
                if not _inside(edges(box), one):
                    yield f"{box.box.id} is outside of {name}"
            elif _overlap(edges(box), one):
                yield f"{box.box.id} is within {name}"
    for a, b in combinations(picture.outlines, 2):
        inner, outer = (a, b) if b.frame.id in around[a.frame.id] else (b, a)
        if outer.frame.id in around[inner.frame.id]:
            if not _inside(edges(inner), edges(outer)):
                yield f"{inner.frame.id} is outside of {outer.frame.id}"
        elif _overlap(edges(a), edges(b)):
            yield f"{a.frame.id} and {b.frame.id} overlap"
    timesteps = {frame.id for frame in picture.model.frames if frame.step is not None}
    heights: dict[str, set[float]] = defaultdict(set)
    for outline in picture.outlines:
        # A sequence within a timestep is part of that.
        if timesteps.isdisjoint(around[outline.frame.parent]) and outline.frame.step is not None:
            heights[outline.frame.parent].add(outline.width if picture.vertical else outline.height)
    for parent, found in heights.items():
        if len(found) > 1:
            yield f"timesteps of {parent!r} differ in height"


def _arrows(picture: Picture) -> Iterator[str]:
    wanted = Counter((arrow.tail, arrow.head, arrow.shares) for arrow in picture.model.arrows)
    found = Counter(
        (wire.tail, wire.head, wire.shares) for wire in picture.wires if wire.kind not in ("rail", "gather")
    )
    yield from (f"{key} is drawn {found[key]} times, not {n}" for key, n in wanted.items() if found[key] != n)
    yield from (f"{key} is no arrow" for key in found.keys() - wanted.keys())
    tapped: dict[str, Counter[int]] = defaultdict(Counter)
    along: dict[str, set[int]] = defaultdict(set)
    for wire in picture.wires:
        end = wire.tail if wire.hue >= 0 else wire.head
        if wire.kind == "tap":
            tapped[end].update(wire.shares)
        elif wire.kind in ("rail", "gather"):
            along[end].update(wire.shares)
    yield from (
        f"the line of {end} is not that of its taps" for end in tapped if set(tapped[end]) != along[end]
    )


def _ends(picture: Picture) -> Iterator[str]:
    """Wires begin and end at the edges of their boxes, or on the line that they are a tap of."""
    boxes = {box.box.id: edges(box) for box in picture.boxes}
    rails: dict[str, list[Wire]] = defaultdict(list)
    gathers: dict[str, list[Wire]] = defaultdict(list)
    for wire in picture.wires:
        if wire.kind == "rail":
            rails[wire.tail].append(wire)
        elif wire.kind == "gather":
            gathers[wire.head].append(wire)
    for wire in picture.wires:
        told = f"{wire.kind} {wire.tail} -> {wire.head}"
        first, last = wire.points[0], wire.points[-1]
        tapped, tap = (wire.kind == "tap" and wire.hue >= 0), wire.kind == "tap" and wire.hue < 0
        if wire.tail and not (_along(first, rails[wire.tail]) if tapped else _at(first, boxes[wire.tail])):
            yield f"{told} begins elsewhere"
        if wire.head and not (_along(last, gathers[wire.head]) if tap else _at(last, boxes[wire.head])):
            yield f"{told} ends elsewhere"
        for (ax, ay), (bx, by) in stretches(wire):
            if ax != bx and ay != by:
                yield f"{told} is slanted"


def _at(point: Point, box: Rectangle) -> bool:
    (x, y), (left, top, right, bottom) = point, box
    if not (left - _NEAR <= x <= right + _NEAR and top - _NEAR <= y <= bottom + _NEAR):
        return False
    return min(abs(x - left), abs(x - right), abs(y - top), abs(y - bottom)) < _NEAR


def _along(point: Point, wires: Iterable[Wire]) -> bool:
    x, y = point
    spans = (_span(a, b) for wire in wires for a, b in stretches(wire))
    return any(left <= x <= right and top <= y <= bottom for left, top, right, bottom in spans)


def _span(a: Point, b: Point) -> Rectangle:
    return min(a[0], b[0]), min(a[1], b[1]), max(a[0], b[0]), max(a[1], b[1])


def _ways(picture: Picture) -> Iterator[str]:
    """No wire passes through a box; blocks alone, which stand for many, hide what passes them."""
    things: list[tuple[Rectangle, Placed | Wire]] = [
        (edges(box), box) for box in picture.boxes if box.box.kind != "block"
    ]
    things += [(_span(a, b), wire) for wire in picture.wires for a, b in stretches(wire)]
    open_: list[tuple[Rectangle, Placed | Wire]] = []
    for one, thing in sorted(things, key=lambda item: item[0]):
        open_ = [other for other in open_ if other[0][2] > one[0]]
        for other, second in open_:
            box, wire = (thing, second) if isinstance(thing, Placed) else (second, thing)
            if isinstance(box, Placed) and isinstance(wire, Wire) and _overlap(one, other, -2 * _NEAR):
                yield f"{wire.kind} {wire.tail} -> {wire.head} passes through {box.box.id}"
        open_.append((one, thing))
    operands: dict[str, set[str]] = defaultdict(set)
    for arrow in picture.model.arrows:
        operands[arrow.head].add(arrow.tail)

    def sources(line: Wire) -> set[str]:
        """What it carries; two lines may share the stretch that leaves a box that is in both."""
        return {line.tail} if line.tail else operands[line.head]

    lines: dict[tuple[int, float], list[tuple[float, float, Wire]]] = defaultdict(list)
    for wire in picture.wires:
        if wire.kind in ("rail", "gather"):
            for (ax, ay), (bx, by) in stretches(wire):
                if ay == by:
                    lines[0, ay].append((min(ax, bx), max(ax, bx), wire))
                else:
                    lines[1, ax].append((min(ay, by), max(ay, by), wire))
    for found in lines.values():
        for (a, b, wire), (c, d, two) in combinations(found, 2):
            if a < d - 1 and c < b - 1 and not sources(wire) & sources(two):
                yield f"the lines of {wire.tail or wire.head} and {two.tail or two.head} lie on each other"


def _labels(picture: Picture) -> Iterator[str]:
    found: list[tuple[Rectangle, str]] = []
    for box in picture.boxes:
        middle = box.x + box.width / 2
        for line, y in zip(box.lines, baselines(box.lines, box.y, box.height), strict=True):
            size, _, bold = STYLES[line.style]
            half = text_width(line.text, size, bold) / 2
            found.append(
                (
                    (middle - half, y - 0.7 * size, middle + half, y + 0.2 * size),
                    f"{line.text!r} in {box.box.id}",
                )
            )
    for outline in picture.outlines:
        x, y = outline.x + TITLE_AT[0], outline.y + TITLE_AT[1]
        right = x + text_width(outline.title, TITLE.size, TITLE.bold)
        found.append(
            ((x, y - 0.7 * TITLE.size, right, y + 0.2 * TITLE.size), f"the title of {outline.frame.id}")
        )
        if right > outline.x + outline.width:
            yield f"the title of {outline.frame.id} is too long"
    for wire in picture.wires:
        if wire.label:
            x, y, upright = label_place(wire)
            width = text_width(wire.label, 10.0)
            place = (
                (x + 5, y - 4, x + 5 + width, y + 6)
                if upright
                else (x - width / 2, y - 11, x + width / 2, y - 2)
            )
            found.append((place, f"{wire.label!r} of {wire.tail}"))
    for one, name, other, other_name in _near(found):
        if _overlap(one, other):
            yield f"{name} and {other_name} overlap"
