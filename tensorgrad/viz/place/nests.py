"""Scopes within a timestep: outlines around their boxes, where no other box stands among them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from tensorgrad.viz.place.columns import Column
from tensorgrad.viz.style.text import TITLE

__all__ = ["Nests"]

_PAD = 7.0
# Of the room at the floor of a channel for each outline that begins there.
_OPENING = 10.0
# Between an outline and a box that is not in it.
_CLEAR = 5.0


class Nests:
    """The scopes of a column that can be outlined.

    Attributes:
        spans: by (band, scope), outer before inner: the first and last level, from where to where it reaches
            along time, and how many outlines are nested in it, itself included.
        above: by channel, the room at its floor for outlines that end and begin there.
        left, right: how far outlines reach beyond the boxes.
    """

    def __init__(self, column: Column) -> None:
        self.column = column
        ways = column.ways
        self.vertical = ways.scene.vertical
        self.closing = [0.0] * (ways.levels + 1)
        self.opening = [0.0] * (ways.levels + 1)
        self.left = self.right = 0.0
        self.spans: dict[tuple[int, str], tuple[int, int, float, float, int]] = {}
        members: dict[tuple[int, str], list[int]] = defaultdict(list)
        for n, slot in enumerate(column.slots):
            parts = slot.scope.split(".")[1:]
            for end in range(1, len(parts) + 1):
                members[ways.band[n], "." + ".".join(parts[:end])].append(n)
        for scope in sorted(members, key=lambda scope: -scope[1].count(".")):
            self._add(scope, members[scope])
        self.spans = dict(sorted(self.spans.items(), key=lambda item: item[0][1].count(".")))
        self.above = [c + o for c, o in zip(self.closing, self.opening, strict=True)]

    def _add(self, scope: tuple[int, str], members: list[int]) -> None:
        """Outline a scope, if nothing else stands among its boxes."""
        column, level = self.column, self.column.ways.level
        inner = [span for (band, name), span in self.spans.items() if self._within(band, name, scope)]
        edges = [(column.x[n] - column.half[n], column.x[n] + column.half[n]) for n in members]
        edges += [(begin, end) for _, _, begin, end, _ in inner]
        left = min(begin for begin, _ in edges) - (TITLE.height if self.vertical else _PAD)
        right = max(end for _, end in edges) + _PAD
        low, high = min(level[n] for n in members), max(level[n] for n in members)
        own = set(members)
        for n in (n for nodes in column.levels[low : high + 1] for n in nodes):
            if column.real[n] and n not in own:
                x, half = column.x[n], column.half[n] + _CLEAR
                if left < x + half and x - half < right:
                    return
        for (band, name), (first, last, begin, end, _) in self.spans.items():
            apart = first > high or low > last or end + _CLEAR <= left or right + _CLEAR <= begin
            if band == scope[0] and not self._within(band, name, scope) and not apart:
                return
        depth = 1 + max((span[4] for span in inner), default=0)
        self.spans[scope] = low, high, left, right, depth
        title = 0.0 if self.vertical else TITLE.height
        self.closing[high + 1] = max(self.closing[high + 1], depth * (_PAD + title))
        self.opening[low] = max(self.opening[low], depth * _OPENING)
        self.left = max(self.left, -left)
        self.right = max(self.right, right - column.content)

    def _within(self, band: int, name: str, scope: tuple[int, str]) -> bool:
        return band == scope[0] and name.startswith(scope[1] + ".")

    def edges(self, scope: tuple[int, str], floor: Sequence[float]) -> tuple[float, float, float, float]:
        """The left, lower, right and upper edge of an outline."""
        low, high, left, right, depth = self.spans[scope]
        title = 0.0 if self.vertical else TITLE.height
        bottom = floor[low] + self.above[low] - depth * _OPENING + 6.0
        return left, bottom, right, floor[high + 1] + depth * (_PAD + title)
