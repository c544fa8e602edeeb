"""Labels of wires where they can be read."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import replace

from tensorgrad.viz.picture import Outline, Placed, Wire
from tensorgrad.viz.style.shapes import LABEL_SIZE, label_place
from tensorgrad.viz.style.text import TITLE, TITLE_AT, text_width

__all__ = ["uncovered"]

_Rectangle = tuple[float, float, float, float]


def uncovered(
    placed: Iterable[Placed], outlines: Iterable[Outline], wires: tuple[Wire, ...]
) -> tuple[Wire, ...]:
    """The wires, without labels that would lie over a box, a title or another label."""
    wires = _at_the_outermost(wires)
    labelled = [n for n, wire in enumerate(wires) if wire.label]
    if not labelled:
        return wires
    taken: list[tuple[_Rectangle, int]] = []
    for box in placed:
        taken.append(((box.x, box.y, box.x + box.width, box.y + box.height), -1))
    for outline in outlines:
        x, y = outline.x + TITLE_AT[0], outline.y + TITLE_AT[1]
        right = x + text_width(outline.title, TITLE.size, TITLE.bold)
        taken.append(((x, y - TITLE.size, right, y + 3.0), -1))
    taken += [(_where(wires[n]), n) for n in labelled]
    taken.sort()
    hidden: set[int] = set()
    open_: list[tuple[_Rectangle, int]] = []
    for one, n in taken:
        open_ = [other for other in open_ if other[0][2] > one[0]]
        for other, m in open_:
            both = n not in hidden and m not in hidden and max(n, m) >= 0
            if both and one[1] < other[3] and other[1] < one[3]:
                hidden.add(max(n, m))
        open_.append((one, n))
    found = list(wires)
    for n in hidden:
        found[n] = replace(wires[n], label="")
    return tuple(found)


def _at_the_outermost(wires: tuple[Wire, ...]) -> tuple[Wire, ...]:
    """The label of several loops from a box to itself at the one beyond which there is no other."""
    loops: dict[str, list[int]] = defaultdict(list)
    for n, wire in enumerate(wires):
        if wire.tail and wire.tail == wire.head:
            loops[wire.tail].append(n)
    found = list(wires)
    for several in loops.values():
        label = next((wires[n].label for n in several if wires[n].label), "")
        for n in several:
            found[n] = replace(wires[n], label="")
        last = max(several, key=lambda n: _outwards(wires[n]))
        found[last] = replace(wires[last], label=label)
    return tuple(found)


def _outwards(wire: Wire) -> float:
    x, y, upright = label_place(wire)
    return x if upright else -y


def _where(wire: Wire) -> _Rectangle:
    x, y, upright = label_place(wire)
    width = text_width(wire.label, LABEL_SIZE)
    return (
        (x + 5.0, y - 5.0, x + 5.0 + width, y + 6.0)
        if upright
        else (x - width / 2, y - 12.0, x + width / 2, y - 2.0)
    )
