"""Layers of a graph: on which each node stands, in which order, and where along its layer.

Used twice: for the rows of a timestep, from below upwards, and for the columns of what stands outside of all
timesteps, from left to right. "Up" means to a later layer here, "right" further along a layer.
"""

from __future__ import annotations

from bisect import bisect_right, insort
from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import pairwise

__all__ = ["arrange", "settle", "staged"]

Wishes = tuple[Collection[int], Collection[int]]
# Larger graphs are laid out with less care.
_SMALL = 400


def staged(
    count: int, edges: Iterable[tuple[int, int]], floor: Sequence[int] = ()
) -> tuple[list[int], list[int]]:
    """By node, the edges on the longest way to it; and the nodes in an order that follows the edges.

    Where edges go round in a circle, the circle is entered at its lowest number.

    Args:
        floor: by node, the level that it must reach.

    Example:
        >>> staged(4, [(0, 1), (1, 2), (0, 2), (2, 0)])
        ([0, 1, 2, 0], [3, 0, 1, 2])
    """
    after: list[list[int]] = [[] for _ in range(count)]
    missing = [0] * count
    for a, b in dict.fromkeys(edges):
        if a != b:
            after[a].append(b)
            missing[b] += 1
    level = list(floor) or [0] * count
    order: list[int] = []
    done = [False] * count
    ready = [n for n in range(count - 1, -1, -1) if not missing[n]]
    next_forced = 0
    while len(order) < count:
        if not ready:
            while done[next_forced]:
                next_forced += 1
            ready.append(next_forced)
        n = ready.pop()
        if done[n]:
            continue
        done[n] = True
        order.append(n)
        for m in after[n]:
            if not done[m]:
                level[m] = max(level[m], level[n] + 1)
                missing[m] -= 1
                if not missing[m]:
                    ready.append(m)
    return level, order


def settle(
    level: list[int],
    edges: Iterable[tuple[int, int]],
    ends: Mapping[int, int] | None = None,
    limit: Mapping[int, int] | None = None,
) -> None:
    """Move nodes up where that makes the edges shorter altogether.

    Args:
        level: by node, changed in place; edges that do not lead up are left out of account.
        ends: by node, the level above it that it leads to besides.
        limit: by node, a level that it must stay below.

    Example:
        >>> level = [0, 0, 1, 2]
        >>> settle(level, [(0, 2), (2, 3), (1, 3)])
        >>> level
        [0, 1, 1, 2]
    """
    up: list[list[int]] = [[] for _ in level]
    down: list[list[int]] = [[] for _ in level]
    for a, b in edges:
        if level[a] < level[b]:
            up[a].append(b)
            down[b].append(a)
    ends, limit = ends or {}, limit or {}
    small = len(level) <= _SMALL
    order = sorted(range(len(level)), key=lambda n: -level[n])
    moved = True
    while moved:
        moved = False
        for seed in order:
            # What stands right above what moves has to move with it.
            group, waiting = {seed}, [seed]
            while waiting and (small or len(group) < 2):
                n = waiting.pop()
                for m in up[n]:
                    if m not in group and level[m] == level[n] + 1:
                        group.add(m)
                        waiting.append(m)
            room = [level[m] - level[n] - 1 for n in group for m in up[n] if m not in group]
            room += [ends[n] - level[n] - 1 for n in group if n in ends]
            into = sum(m not in group for n in group for m in down[n])
            if len(room) <= into:
                continue
            by = min([*room, *(limit[n] - level[n] - 1 for n in group if n in limit)])
            if by > 0:
                for n in group:
                    level[n] += by
                moved = True


def arrange(
    levels: list[list[int]],
    links: Sequence[tuple[int, int]],
    wishes: Wishes,
    real: Sequence[bool],
    kept: Collection[int] = (),
) -> None:
    """Put the nodes of each level in an order in which few links cross.

    Args:
        levels: the nodes of each, reordered in place.
        links: from a node of one level to one of the next.
        wishes: what is to stand left of the other boxes, and what right of them.
        real: by node, whether it is a box and not a way between boxes.
        kept: the levels whose order is to stay.
    """
    crossings = _Crossings(levels, links, wishes, real, kept)
    small = sum(map(len, levels)) <= _SMALL
    begin = [list(level) for level in levels]
    best, least = begin, crossings.count()
    for start in range(2 if small and any(wishes) else 1):
        for level, order in zip(levels, begin, strict=True):
            level[:] = sorted(order, key=crossings.side) if start else order
        for turn in range(8 if small else 2):
            if not least:
                break
            crossings.sweep(upwards=turn % 2 == 0)
            if small:
                crossings.switch()
            now = crossings.count()
            if now < least:
                least = now
                best = [list(level) for level in levels]
    for level, order in zip(levels, best, strict=True):
        level[:] = order


class _Crossings:
    """The links that cross, and what stands in the way of what is pulled aside."""

    def __init__(
        self,
        levels: list[list[int]],
        links: Sequence[tuple[int, int]],
        wishes: Wishes,
        real: Sequence[bool],
        kept: Collection[int],
    ) -> None:
        self.levels, self.wishes, self.real = levels, wishes, real
        self.kept = [levels[n] for n in kept]
        self.up: dict[int, list[int]] = {n: [] for level in levels for n in level}
        self.down: dict[int, list[int]] = {n: [] for level in levels for n in level}
        for a, b in dict.fromkeys(links):
            self.up[a].append(b)
            self.down[b].append(a)

    def count(self) -> float:
        total = 0.0
        for lower, upper in zip(self.levels, self.levels[1:], strict=False):
            place = {n: at for at, n in enumerate(upper)}
            seen: list[int] = []
            for n in lower:
                ends = sorted(place[m] for m in self.up[n])
                total += sum(len(seen) - bisect_right(seen, end) for end in ends)
                for end in ends:
                    insort(seen, end)
        return total + sum(map(self.blocked, self.levels))

    def side(self, n: int) -> int:
        """-1 for what is to stand left, 1 for what is to stand right, 0 for neither or both."""
        left, right = self.wishes
        return (n in right) - (n in left)

    def blocked(self, level: Sequence[int]) -> float:
        """How many wishes are not fulfilled; of those the better the fewer boxes are in the way."""
        left, right = self.wishes
        boxes = [n for n in level if self.real[n]]
        last = len(boxes) - 1
        total = 0.0
        for at, n in enumerate(boxes):
            if at and n in left:
                total += 1 + 0.1 * at
            if at < last and n in right:
                total += 1 + 0.1 * (last - at)
        return total

    def sweep(self, upwards: bool) -> None:
        """Put each node where its neighbours of the level before stand on the average."""
        levels = self.levels if upwards else self.levels[::-1]
        neighbours = self.down if upwards else self.up
        for before, level in pairwise(levels):
            if any(level is one for one in self.kept):
                continue
            place = {n: float(at) for at, n in enumerate(before)}
            ratio = len(before) / max(1, len(level))
            keys = {}
            for at, n in enumerate(level):
                found = [place[m] for m in neighbours[n]]
                side = self.side(n)
                if side and found:
                    found.append(-0.6 if side < 0 else len(before) - 0.4)
                keys[n] = sum(found) / len(found) if found else (at + 0.5) * ratio - 0.5
            level.sort(key=keys.__getitem__)

    def switch(self) -> None:
        """Exchange neighbours as long as that helps."""
        places = {n: at for level in self.levels for at, n in enumerate(level)}
        for _ in range(10):
            moved = False
            for level in self.levels:
                if any(level is one for one in self.kept):
                    continue
                for at in range(len(level) - 1):
                    a, b = level[at], level[at + 1]
                    gain: float = self.cross(a, b, places) - self.cross(b, a, places)
                    if gain < -2 or not (self.real[a] and self.real[b]):
                        better = gain > 0
                    else:
                        before = self.blocked(level)
                        level[at], level[at + 1] = b, a
                        gain += before - self.blocked(level)
                        level[at], level[at + 1] = a, b
                        better = gain > 0
                    if better:
                        level[at], level[at + 1] = b, a
                        places[a], places[b] = at + 1, at
                        moved = True
            if not moved:
                return

    def cross(self, a: int, b: int, places: Mapping[int, int]) -> int:
        """How many links of two neighbours cross where the first stands left of the second."""
        return sum(places[x] > places[y] for side in (self.up, self.down) for x in side[a] for y in side[b])
