"""What stands outside of all timesteps: small graphs that flow along time, in layers of their own.

Layers are numbered from 1; layer 0 is the left edge of a part, and the last one its right edge. Between
layers there are gutters, where what is joined runs across time: gutter g lies right of layer g.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from tensorgrad.viz.place.lanes import Net, collisions, lanes
from tensorgrad.viz.place.layers import arrange, settle, staged
from tensorgrad.viz.place.ports import side_by_side
from tensorgrad.viz.place.spread import spread
from tensorgrad.viz.place.ways import Points

__all__ = ["End", "Item", "Name", "Part", "Strand"]

# Between two ways, a way and an item, two items.
_GAPS = 8.0, 10.0, 14.0
_LANE = 7.0
# In a gutter: after the boxes before it, and before those after it, where arrowheads are.
_BEFORE, _BEYOND = 8.0, 13.0
_LEAST_GUTTER = 22.0
# How far an end is moved that would lie on another line, and how often that is tried.
_ASIDE = 4.0
_ROUNDS = 4

Name = tuple[str, int]
"""Of what is joined: ("v", a box that is used), or ("g", an operation with many operands)."""


class End(NamedTuple):
    """Where a way ends in a part.

    Attributes:
        what: "out" of an item, "in" to one, "left" or "right" edge.
        key: the item, or the terminal at the edge.
        port: of an item that the way leads to.
    """

    what: str
    key: Hashable
    port: Hashable = None


@dataclass(slots=True)
class Item:
    """A box, or a part within a part.

    Attributes:
        width, height: along time and across it.
        inlets, outlets: of a part, where strands enter and leave it, from its middle; a box has none.
    """

    width: float
    height: float
    inlets: Mapping[Name, float] = field(default_factory=dict)
    outlets: Mapping[Name, float] = field(default_factory=dict)


@dataclass(slots=True)
class Strand:
    """What is joined in a part: a value and its users, or an operation and its many operands.

    Attributes:
        sources: the items that it comes from.
        sinks: (item, port) of those it leads to.
        left, right: the terminals at the edges, by any name, and their heights; None for free ones.
    """

    sources: list[Hashable] = field(default_factory=list)
    sinks: list[tuple[Hashable, Hashable]] = field(default_factory=list)
    left: dict[Hashable, float | None] = field(default_factory=dict)
    right: dict[Hashable, float | None] = field(default_factory=dict)


class Part:
    """The layout of a part.

    Attributes:
        width: along time.
        low, high: the heights between which its items and ways lie.
        corner: by item, its left and lower edge; the left edge of the part is 0.
    """

    def __init__(self, items: Mapping[Hashable, Item], strands: Mapping[Name, Strand], side: int) -> None:
        """
        Args:
            items: boxes and parts.
            strands: what is joined, by any name.
            side: 1 for a part before a phase, whose items stand far right; -1 for one after a phase, 0 for
                one in between or within another.
        """
        self.items, self.strands = items, strands
        self.listed = list(items.values())
        self._find_levels(side)
        self._make_nodes()
        self._place_nodes()
        self._find_ports()
        self._place_along(side)

    def _find_levels(self, side: int) -> None:
        place = {item: n for n, item in enumerate(self.items)}
        edges: list[tuple[int, int]] = []
        ends: dict[int, int] = {}
        for strand in self.strands.values():
            sinks = dict.fromkeys(place[item] for item, _ in strand.sinks)
            edges += [(place[item], sink) for item in strand.sources for sink in sinks]
        self._find_what_matters(edges)
        level, _ = staged(len(place), [(b, a) for a, b in edges] if side > 0 else edges)
        most = max(level, default=-1)
        if side > 0:
            level = [most - n for n in level]
        else:
            for strand in self.strands.values():
                if strand.right and not side:
                    ends.update((place[item], most + 1) for item in strand.sources)
            settle(level, edges, ends, dict.fromkeys(range(len(level)), most + 1))
        if any(strand.left and strand.right for strand in self.strands.values()):
            # What only passes, too, needs room to change its height.
            most = max(most, 0)
        self.level = {item: level[n] + 1 for item, n in place.items()}
        self.last = most + 2

    def _find_what_matters(self, edges: Sequence[tuple[int, int]]) -> None:
        """How much each link between items does: most on the longest way through both of its ends."""
        before, _ = staged(len(self.items), edges)
        after, _ = staged(len(self.items), [(b, a) for a, b in edges])
        self.matters = {
            (a, b): float(sum(before[n] + after[n] == before[a] + 1 + after[b] for n in (a, b)))
            for a, b in edges
        }

    def _make_nodes(self) -> None:
        """Items, terminals, and what passes between items, level by level."""
        self.levels: list[list[int]] = [[] for _ in range(self.last + 1)]
        self.node: dict[Hashable, int] = {}
        self.real: list[bool] = []
        self.half: list[float] = []
        self.fixed: dict[int, float] = {}
        self.weights: dict[tuple[int, int], float] = {}
        self.reach: dict[Name, tuple[int, int]] = {}
        self.lows: dict[tuple[Name, int], list[int]] = defaultdict(list)
        self.highs: dict[tuple[Name, int], list[int]] = defaultdict(list)
        self.entering: dict[Hashable, list[tuple[Name, Hashable]]] = defaultdict(list)
        self.arriving: dict[tuple[Name, int], list[tuple[Hashable, Hashable]]] = defaultdict(list)
        # Nodes of items are numbered as the items are.
        for item, one in self.items.items():
            self._node(("item", item), self.level[item], True, one.height / 2)
        for name in self.strands:
            self._make_strand(name)

    def _make_strand(self, name: Name) -> None:
        strand, last = self.strands[name], self.last
        gutters = [self.level[item] for item in strand.sources]
        gutters += [self.level[item] - 1 for item, _ in strand.sinks]
        gutters += [0] * bool(strand.left) + [last - 1] * bool(strand.right)
        if not gutters:
            return
        low, high = self.reach[name] = min(gutters), max(gutters)
        for edge, terminals, level in (("left", strand.left, 0), ("right", strand.right, last)):
            for key, v in terminals.items():
                n = self._node((edge, name, key), level, False, 1.0)
                if v is not None:
                    self.fixed[n] = v
                (self.highs if level else self.lows)[name, max(0, level - 1)].append(n)
        for item in dict.fromkeys(strand.sources):
            self.lows[name, self.level[item]].append(self.node["item", item])
        for item, port in strand.sinks:
            self.entering[item].append((name, port))
            self.arriving[name, self.level[item] - 1].append((item, port))
        for item in dict.fromkeys(item for item, _ in strand.sinks):
            self.highs[name, self.level[item] - 1].append(self.node["item", item])
        for level in range(low + 1, high + 1):
            n = self._node(("way", name, level), level, False, 1.0)
            self.highs[name, level - 1].append(n)
            self.lows[name, level].append(n)
        for gutter in range(low, high + 1):
            lows, highs = self.lows[name, gutter], self.highs[name, gutter]
            share = max(1.0, len(lows) * len(highs) / 2)
            for a in lows:
                for b in highs:
                    boxes = self.real[a] + self.real[b]
                    matters = self.matters.get((a, b), 0.0)
                    weight = ((4.0, 1.5, 1.0)[boxes] + matters) / share
                    self.weights[a, b] = self.weights.get((a, b), 0.0) + weight

    def _node(self, key: Hashable, level: int, real: bool, half: float) -> int:
        n = self.node[key] = len(self.real)
        self.levels[level].append(n)
        self.real.append(real)
        self.half.append(half)
        return n

    def _place_nodes(self) -> None:
        edges = 0, self.last
        for level in edges:
            self.levels[level].sort(key=lambda n: self.fixed.get(n, 0.0))
        kept = [level for level in edges if any(n in self.fixed for n in self.levels[level])]
        arrange(self.levels, list(self.weights), ((), ()), self.real, kept)
        links = [(a, b, weight) for (a, b), weight in self.weights.items()]
        at = spread(self.levels, self.half, self._gap, self.real, links, self.fixed)
        self.v = [v if n in self.fixed else round(2 * v) / 2 for n, v in enumerate(at)]
        self.low = min((v - half for v, half in zip(self.v, self.half, strict=True)), default=0.0)
        self.high = max((v + half for v, half in zip(self.v, self.half, strict=True)), default=0.0)

    def _gap(self, a: int, b: int) -> float:
        return _GAPS[self.real[a] + self.real[b]]

    def _find_ports(self) -> None:
        """Where ways end at the left side of items."""
        self.ports: dict[tuple[Hashable, Name, Hashable], float] = {}
        for item, ends in self.entering.items():
            one, v = self.items[item], self.v[self.node["item", item]]
            wanted: list[tuple[tuple[Name, Hashable], float]] = []
            for name, port in ends:
                if name in one.inlets:
                    self.ports[item, name, port] = v + one.inlets[name]
                    continue
                heights = [self.v[n] for n in self.lows[name, self.level[item] - 1]] or [v]
                wanted.append(((name, port), sum(heights) / len(heights)))
            for (name, port), at in side_by_side(v, one.height / 2, wanted, (), ()).items():
                self.ports[item, name, port] = at

    # --- along time --------------------------------------------------------------------------------------
    def _place_along(self, side: int) -> None:
        wide = [0.0] * (self.last + 1)
        for item, one in self.items.items():
            wide[self.level[item]] = max(wide[self.level[item]], one.width)
        names: dict[int, list[Name]] = defaultdict(list)
        for name, (low, high) in self.reach.items():
            for gutter in range(low, high + 1):
                names[gutter].append(name)
        self.nets: dict[tuple[Name, int], Net] = {}
        begin = [0.0] * (self.last + 1)
        self.lane_begin = [0.0] * (self.last + 1)
        u = 0.0
        for gutter in range(self.last):
            begin[gutter] = u
            u += wide[gutter]
            count = self._find_lanes(gutter, names[gutter])
            inner = 0 < gutter < self.last - 1
            self.lane_begin[gutter] = u + (_BEFORE if gutter else 0.0)
            u = self.lane_begin[gutter] + _LANE * max(0, count - 1)
            u += _BEYOND if wide[gutter + 1] else _BEFORE if names[gutter] else 0.0
            if inner:
                u = max(u, begin[gutter] + wide[gutter] + _LEAST_GUTTER)
        begin[self.last] = u
        self.width = u
        self.corner: dict[Hashable, tuple[float, float]] = {}
        for item, one in self.items.items():
            spare = wide[self.level[item]] - one.width
            left = begin[self.level[item]] + (spare if side > 0 else round(spare) / 2)
            self.corner[item] = left, self.v[self.node["item", item]] - one.height / 2

    def _find_lanes(self, gutter: int, names: Sequence[Name]) -> int:
        """The lanes of a gutter; ends that would lie on other lines are moved a little."""
        count = 0
        for _ in range(_ROUNDS):
            nets = [self._net(name, gutter) for name in names]
            self.nets.update(((name, gutter), net) for name, net in zip(names, nets, strict=True))
            count = lanes(nets)
            taken = [at for net in nets for at in (*net.lows, *net.highs)]
            moved = [self._nudge(names[n], gutter, k, taken) for n, k in collisions(nets)]
            if not any(moved):
                break
        return count

    def _nudge(self, name: Name, gutter: int, end: int, taken: Sequence[float]) -> bool:
        """Move one of the ends on the high side of a net to where nothing else is."""
        ways = [n for n in self.highs[name, gutter] if not self.real[n]]
        for by in (_ASIDE, -_ASIDE, 2 * _ASIDE, -2 * _ASIDE):
            if end < len(ways):
                n = ways[end]
                level = self.levels[gutter + 1]
                others = [m for m in level if m != n]
                clear = all(abs(self.v[m] - self.v[n] - by) >= self.half[m] + _ASIDE for m in others)
                if clear and n not in self.fixed and self._free(self.v[n] + by, taken):
                    self.v[n] += by
                    return True
            else:
                item, port = self.arriving[name, gutter][end - len(ways)]
                at, middle = self.ports[item, name, port] + by, self.v[self.node["item", item]]
                inside = abs(at - middle) <= self.items[item].height / 2 - _ASIDE
                if inside and name not in self.items[item].inlets and self._free(at, taken):
                    self.ports[item, name, port] = at
                    return True
        return False

    def _free(self, at: float, taken: Sequence[float]) -> bool:
        return all(abs(at - other) >= _ASIDE for other in taken)

    def _net(self, name: Name, gutter: int) -> Net:
        lows = [self._outlet(name, n) for n in self.lows[name, gutter]]
        highs = [self.v[n] for n in self.highs[name, gutter] if not self.real[n]]
        highs += [self.ports[item, name, port] for item, port in self.arriving[name, gutter]]
        return Net(lows, highs)

    def _outlet(self, name: Name, n: int) -> float:
        """The height at which a strand leaves a node to the right."""
        if not self.real[n]:
            return self.v[n]
        return self.v[n] + self.listed[n].outlets.get(name, 0.0)

    # --- ways --------------------------------------------------------------------------------------------
    def terminal(self, edge: str, name: Name, key: Hashable) -> float:
        """The height of a terminal at an edge."""
        return self.v[self.node[edge, name, key]]

    def way(self, name: Name, begin: End, end: End) -> Points:
        """The way of a strand from one of its ends to another."""
        (u, v), gutter = self._end(name, end)
        points, from_v = self._towards(name, begin, gutter)
        if self.nets[name, gutter].lane >= 0:
            lane = self._lane(name, gutter)
            points += [(lane, from_v), (lane, v)]
        return [*points, (u, v)]

    def trunk(self, name: Name, begin: End, ends: Sequence[End]) -> Points:
        """The line that leads from one end to branches for all others, as far as the furthest of them."""
        first = self._end(name, begin)[1]
        gutter = max((self._end(name, end)[1] for end in ends), key=lambda gutter: abs(gutter - first))
        points, v = self._towards(name, begin, gutter)
        return [*points, (self._lane(name, gutter), v)]

    def branch(self, name: Name, begin: End, end: End) -> Points:
        """The way from the line that a strand runs along to one of its ends."""
        (u, v), gutter = self._end(name, end)
        (_, spine), first = self._end(name, begin)
        if gutter != first:
            spine = self.v[self.node["way", name, gutter + (gutter < first)]]
        lane = self._lane(name, gutter)
        return [(lane, spine), (lane, v), (u, v)] if spine != v else [(lane, v), (u, v)]

    def _towards(self, name: Name, begin: End, last: int) -> tuple[Points, float]:
        """The way from an end into a gutter, and the height at which it arrives there."""
        (u, v), gutter = self._end(name, begin)
        points = [(u, v)]
        while gutter != last:
            next_v = self.v[self.node["way", name, gutter + (gutter < last)]]
            if self.nets[name, gutter].lane >= 0:
                lane = self._lane(name, gutter)
                points += [(lane, v), (lane, next_v)]
            v = next_v
            gutter += 1 if last > gutter else -1
        return points, v

    def _lane(self, name: Name, gutter: int) -> float:
        return self.lane_begin[gutter] + _LANE * max(0, self.nets[name, gutter].lane)

    def _end(self, name: Name, end: End) -> tuple[tuple[float, float], int]:
        """Where an end is, and in which gutter."""
        what, key, port = end
        if what == "out":
            one, left = self.items[key], self.corner[key][0]
            v = self.v[self.node["item", key]] + one.outlets.get(name, 0.0)
            return (left + one.width, v), self.level[key]
        if what == "in":
            return (self.corner[key][0], self.ports[key, name, port]), self.level[key] - 1
        u = 0.0 if what == "left" else self.width
        return (u, self.terminal(what, name, key)), 0 if what == "left" else self.last - 1
