"""Where the nodes of a layered graph stand along their layers: long ways straight, the rest close by."""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Hashable, Mapping, Sequence

from tensorgrad.viz.place.layers import staged

__all__ = ["Link", "spread"]

# From a node to one of the next level: how much it matters that it is straight.
Link = tuple[int, int, float]

_CLOSE = 1e-6
# More lines than this are placed with less care.
_FEW = 400
# How far apart the operands of a box are taken to arrive.
_APART = 20.0


def spread(
    levels: Sequence[Sequence[int]],
    half: Sequence[float],
    gap: Callable[[int, int], float],
    real: Sequence[bool],
    links: Sequence[Link],
    fixed: Mapping[int, float] | None = None,
    when: Sequence[frozenset[int]] | None = None,
    ends: Mapping[tuple[int, int], Hashable] | None = None,
) -> list[float]:
    """The middle of each node along its level.

    Args:
        levels: the nodes of each, in order.
        half: by node, half of the room it takes.
        gap: between two neighbours.
        real: by node, whether it is a box.
        links: between neighbouring levels.
        fixed: the nodes that stand already.
        when: by node, in which kinds of timesteps it is there; what is never there together may overlap.
        ends: by link, where at its upper end it ends; links of one end do not occur together.
    """
    fixed, ends = fixed or {}, ends or {}
    chosen = _threads(levels, links, fixed)
    lines = _Lines(len(half), chosen)
    for level in levels:
        for i, b in enumerate(level):
            for a in level[max(0, i - 1) : i] if when is None else level[:i]:
                if when is None or when[a] & when[b]:
                    lines.separate(a, b, half[a] + half[b] + gap(a, b))
    at = {n: i for level in levels for i, n in enumerate(level)}
    into: dict[int, dict[Hashable, list[tuple[int, float]]]] = defaultdict(lambda: defaultdict(list))
    for a, b, weight in sorted(links, key=lambda link: at[link[0]]):
        into[b][ends.get((a, b), a)].append((a, weight))
    threads = set(chosen)
    for b, groups in into.items():
        step = min(_APART, 2 * max(0.0, half[b] - 8) / max(1, len(groups) - 1)) if real[b] else 0.0
        for i, group in enumerate(groups.values()):
            for a, weight in group:
                if (a, b) not in threads:
                    lines.tie(a, b, (i - (len(groups) - 1) / 2) * step, weight)
    for n, x in fixed.items():
        lines.fix(n, x)
    lines.settle({lines.line[n] for n in range(len(half)) if real[n]})
    return [lines.x[lines.line[n]] for n in range(len(half))]


def _threads(
    levels: Sequence[Sequence[int]], links: Sequence[Link], fixed: Mapping[int, float]
) -> list[tuple[int, int]]:
    """The links that are to be straight, from below: each the one that matters most to both of its ends."""
    at = {n: i for level in levels for i, n in enumerate(level)}
    level_of = {n: i for i, level in enumerate(levels) for n in level}
    up: dict[int, list[tuple[float, int, int]]] = defaultdict(list)
    down: dict[int, list[tuple[float, int, int]]] = defaultdict(list)
    for a, b, weight in links:
        up[a].append((weight, at[b], b))
        down[b].append((weight, at[a], a))
    above, below = ({n: _middle(ends) for n, ends in side.items()} for side in (up, down))
    taken: dict[int, list[tuple[int, int]]] = defaultdict(list)
    found = []
    for a, b, _ in sorted(links, key=lambda link: -link[2]):
        if above[a] != b or below[b] != a or a in fixed or b in fixed:
            continue
        ways = taken[level_of[a]]
        way = at[a], at[b]
        i = bisect_left(ways, way)
        before, after = ways[max(0, i - 1) : i], ways[i : i + 1]
        if any(end >= way[1] for _, end in before) or any(
            begin == way[0] or end <= way[1] for begin, end in after
        ):
            continue
        ways.insert(i, way)
        found.append((a, b))
    return sorted(found, key=lambda thread: level_of[thread[0]])


def _middle(ends: list[tuple[float, int, int]]) -> int:
    """The neighbour that stands straight above or below; -1 where that is between two."""
    most = max(weight for weight, _, _ in ends)
    best = sorted({(at, n) for weight, at, n in ends if weight == most})
    return best[len(best) // 2][1] if len(best) % 2 else -1


class _Lines:
    """Straight lines of nodes, which move as one until the links between them are as short as they can be."""

    def __init__(self, count: int, threads: Sequence[tuple[int, int]]) -> None:
        self.line = list(range(count))
        for a, b in threads:
            self.line[b] = self.line[a]
        self.x = [0.0] * count
        self.right: list[dict[int, float]] = [{} for _ in range(count)]
        self.left: list[dict[int, float]] = [{} for _ in range(count)]
        self.ties: list[list[tuple[int, float, float]]] = [[] for _ in range(count)]
        self.still: set[int] = set()

    def separate(self, a: int, b: int, distance: float) -> None:
        a, b = self.line[a], self.line[b]
        if distance > self.right[a].get(b, 0.0):
            self.right[a][b] = self.left[b][a] = distance

    def tie(self, a: int, b: int, offset: float, weight: float) -> None:
        """`a` is to be at `b` plus `offset`."""
        a, b = self.line[a], self.line[b]
        if a != b:
            self.ties[a].append((b, offset, weight))
            self.ties[b].append((a, -offset, weight))

    def fix(self, n: int, x: float) -> None:
        self.still.add(self.line[n])
        self.x[self.line[n]] = x

    def settle(self, real: set[int]) -> None:
        """Find the best places; of equally good ones, boxes take that in the middle."""
        lines = sorted(set(self.line))
        _, order = staged(len(self.x), [(a, b) for a in lines for b in self.right[a]])
        order = [n for n in order if self.line[n] == n]
        self.begin(order)
        few = len(order) <= _FEW
        for _ in range(60 if few else 6):
            moved = False
            for n in reversed(order):
                moved = self.improve(n, 1, few) or moved
            for n in order:
                moved = self.improve(n, -1, few) or moved
            if not moved:
                break
        for _ in range(2):
            for n in order:
                if n in real:
                    self.center(n)

    def begin(self, order: Sequence[int]) -> None:
        """Everything as far left as it can be; what is fixed stays."""
        for n in order:
            if n not in self.still:
                ends = [self.x[m] + distance for m, distance in self.left[n].items()]
                if not ends:
                    ends = [self.x[m] - distance for m, distance in self.right[n].items() if m in self.still]
                    ends = [min(ends)] if ends else []
                self.x[n] = max(ends, default=0.0)

    def improve(self, n: int, way: int, thoroughly: bool) -> bool:
        """Move a line, with all that stands in its way, as far as that shortens the links."""
        for with_ties in (False, True) if thoroughly else (False,):
            group = self.group(n, way, with_ties)
            if group is None:
                continue
            slope = 0.0
            room = float("inf")
            for m in group:
                for o, offset, weight in self.ties[m]:
                    if o not in group:
                        off = (self.x[m] - self.x[o] - offset) * way
                        slope += weight if off > -_CLOSE else -weight
                        if off <= -_CLOSE:
                            room = min(room, -off)
                for o, distance in (self.right[m] if way > 0 else self.left[m]).items():
                    if o not in group:
                        room = min(room, abs(self.x[o] - self.x[m]) - distance)
            if slope < -_CLOSE and _CLOSE < room < float("inf"):
                for m in group:
                    self.x[m] += way * room
                return True
        return False

    def group(self, n: int, way: int, with_ties: bool) -> set[int] | None:
        """What moves with a line; None if something in its way is fixed."""
        group, waiting = {n}, [n]
        while waiting:
            m = waiting.pop()
            if m in self.still:
                return None
            side = self.right[m] if way > 0 else self.left[m]
            more = [o for o, d in side.items() if (self.x[o] - self.x[m]) * way - d < _CLOSE]
            if with_ties:
                more += [o for o, off, _ in self.ties[m] if abs(self.x[m] - self.x[o] - off) < _CLOSE]
            for o in more:
                if o not in group:
                    group.add(o)
                    waiting.append(o)
        return group

    def center(self, n: int) -> None:
        """Move a line to the middle of the places that are equally good."""
        if n in self.still or not self.ties[n]:
            return
        places = sorted((self.x[o] + offset, weight) for o, offset, weight in self.ties[n])
        half = sum(weight for _, weight in places) / 2
        total, low, high = 0.0, places[0][0], places[-1][0]
        for place, weight in places:
            total += weight
            if abs(total - half) < _CLOSE:
                low, high = place, next(p for p, _ in places if p > place + _CLOSE or p == places[-1][0])
                break
            if total > half:
                low = high = place
                break
        middle = (low + high) / 2
        middle = max([middle, *(self.x[m] + distance for m, distance in self.left[n].items())])
        self.x[n] = min([middle, *(self.x[m] - distance for m, distance in self.right[n].items())])
