"""The column that all timesteps of a phase share: its rows in order, and where everything is along time."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Hashable

from tensorgrad.viz.place.layers import arrange, staged
from tensorgrad.viz.place.ports import side_by_side
from tensorgrad.viz.place.spread import Link, spread
from tensorgrad.viz.place.ways import Key, Sink, Source, Ways
from tensorgrad.viz.style.text import TITLE

__all__ = ["Column"]

# Between two ways, a way and a box, two boxes.
_GAPS = 9.0, 11.0, 16.0
_PORT = 9.0
_MARGIN = 9.0


class Column:
    """The rows of a column, in lengths along time from the left end of its boxes.

    Nodes are the slots, and after them what passes between boxes.

    Attributes:
        levels: the nodes of each level, in order.
        chains: by source, the node of each level that it passes on its way up, from its own on.
        x, half: by node, its middle and half of its width.
        tops: by source, where its ways upwards begin.
        content: how wide all of it is.
    """

    def __init__(self, ways: Ways) -> None:
        self.ways = ways
        self.slots = ways.slots
        self._make_nodes()
        self._order()
        self._find_sides()
        self._list_ports()
        self._spread()
        self._find_tops()
        self._find_ports()

    # --- nodes and their order ---------------------------------------------------------------------------
    def _make_nodes(self) -> None:
        ways = self.ways
        self.levels: list[list[int]] = [[] for _ in range(ways.levels)]
        for slot, level in enumerate(ways.level):
            self.levels[level].append(slot)
        self.real = [True] * len(self.slots)
        self.chains: dict[Source, dict[int, int]] = {}
        self.when = [frozenset(slot.templates) for slot in self.slots]
        self.weights: dict[tuple[int, int], float] = {}
        matters, often = self._weights(), self._often()
        for source, sinks in ways.links.items():
            low = ways.level[source[0]]
            chain = self.chains[source] = {low: source[0]}
            for level in range(low + 1, max(ways.level[slot] for slot, _ in sinks)):
                n = chain[level] = len(self.real)
                self.levels[level].append(n)
                self.real.append(False)
                self.when.append(self._passing(level, sinks))
                self.weights[chain[level - 1], n] = 6.0 if level > low + 1 else 1.0
            for (slot, _), templates in sinks.items():
                pair = chain[ways.level[slot] - 1], slot
                share = sum(often[template] for template in templates)
                self.weights[pair] = self.weights.get(pair, 0.0) + matters[source[0], slot] * share

    def _passing(self, level: int, sinks: dict[Sink, set[int]]) -> frozenset[int]:
        """In which kinds of timesteps something on its way up is at a level."""
        ways = self.ways
        above = {sink: templates for sink, templates in sinks.items() if ways.level[sink[0]] > level}
        band = self.band_at(level)
        if band is None or any(ways.band[slot] != band for slot, _ in above):
            # Which timestep of another band goes with which of this one is not known.
            return frozenset(kind for templates in self.when[: len(self.slots)] for kind in templates)
        return frozenset(kind for templates in above.values() for kind in templates)

    def band_at(self, level: int) -> int | None:
        """The band that a level is a row of; None for a border."""
        for band, (base, roles) in enumerate(zip(self.ways.base, self.ways.roles, strict=True)):
            if base <= level < base + roles.rows:
                return band
        return None

    def _often(self) -> dict[int, float]:
        """By kind of timestep, how many of its track are of that kind."""
        kinds = Counter(kind for kind in self.ways.kinds.values() if kind >= 0)
        found = {}
        for offset, roles in zip(self.ways.offset, self.ways.roles, strict=True):
            for kind in range(offset, offset + len(roles.templates)):
                found[kind] = kinds[kind] / len(roles.of_step)
        return found

    def _weights(self) -> dict[tuple[int, int], float]:
        """How much each link matters: most on the longest way through both of its ends."""
        links = list(
            dict.fromkeys((source[0], slot) for source, sinks in self.ways.links.items() for slot, _ in sinks)
        )
        before, _ = staged(len(self.slots), links)
        after, _ = staged(len(self.slots), [(b, a) for a, b in links])
        return {
            (a, b): 1.0 + sum(before[n] + after[n] == before[a] + 1 + after[b] for n in (a, b))
            for a, b in links
        }

    def _order(self) -> None:
        left: set[int] = set()
        right: set[int] = set()
        for entry in self.ways.entries.values():
            wish = left if entry.side < 0 else right
            wish.update(slot for slot, _ in entry.sinks)
            # What stands in for it where nothing has been carried yet stands where it would come from.
            wish.update(
                slot
                for (slot, _), sinks in self.ways.links.items()
                if self.slots[slot].leaf and not entry.sinks.keys().isdisjoint(sinks)
            )
        for out in self.ways.exits.values():
            (right if out.side > 0 else left).add(out.source[0])
        arrange(self.levels, list(self.weights), (left, right), self.real)
        self.place = {n: at for level in self.levels for at, n in enumerate(level)}

    def _find_sides(self) -> None:
        """What leaves and enters through the sides of boxes: where no other box stands in the way."""
        for out in self.ways.exits.values():
            out.aside = self._free(out.source[0], out.side, out.templates)
        for entry in self.ways.entries.values():
            entry.aside = {
                sink for sink, templates in entry.sinks.items() if self._free(sink[0], entry.side, templates)
            }

    def _free(self, slot: int, side: int, templates: set[int]) -> bool:
        level, at = self.levels[self.ways.level[slot]], self.place[slot]
        between = level[:at] if side < 0 else level[at + 1 :]
        return not any(self.real[n] and self.slots[n].templates & templates for n in between)

    # --- places ------------------------------------------------------------------------------------------
    def _list_ports(self) -> None:
        """What ends at the lower side of each slot, by port; what does not occur together may share one."""
        ways = self.ways
        self.into: dict[int, dict[Hashable, list[Source | int]]] = defaultdict(dict)
        self.port_of: dict[tuple[Sink, Hashable], Hashable] = {}
        taken: dict[tuple[int, Hashable], set[int]] = defaultdict(set)
        ends: list[tuple[Hashable, Source | int, Sink, set[int]]] = [
            (source, source, sink, kinds)
            for source, sinks in ways.links.items()
            for sink, kinds in sinks.items()
        ]
        ends += [
            (entry.key, entry.side, sink, kinds)
            for entry in ways.entries.values()
            for sink, kinds in entry.sinks.items()
            if sink not in entry.aside
        ]
        for key, end, (slot, argnum), kinds in ends:
            port: Hashable = argnum, end if isinstance(end, int) else 0
            if taken[slot, port] & kinds:
                port = key, argnum
            taken[slot, port] |= kinds
            self.into[slot].setdefault(port, []).append(end)
            self.port_of[(slot, argnum), key] = port
        self.taps: dict[int, set[int]] = defaultdict(set)
        for bus in ways.buses.values():
            for slot, argnum in bus.sinks:
                self.taps[slot].add(argnum)

    def _spread(self) -> None:
        self.half = [1.0] * len(self.real)
        for slot, one in enumerate(self.slots):
            count = len(self.into[slot]) + len(self.taps[slot])
            one.width = max(one.width, _PORT * (count - 1) + 2 * _MARGIN)
            self.half[slot] = one.width / 2
        links: list[Link] = [(a, b, weight) for (a, b), weight in self.weights.items()]
        ends = {
            (self.chains[source][self.ways.level[sink[0]] - 1], sink[0]): self.port_of[sink, source]
            for source, sinks in self.ways.links.items()
            for sink in sinks
        }
        x = spread(self.levels, self.half, self._gap, self.real, links, when=self.when, ends=ends)
        left = min((at - half for at, half in zip(x, self.half, strict=True)), default=0.0)
        self.x = [round(2 * (at - left)) / 2 for at in x]
        self.content = max((at + half for at, half in zip(self.x, self.half, strict=True)), default=0.0)

    def _gap(self, a: int, b: int) -> float:
        gap = _GAPS[self.real[a] + self.real[b]]
        if self.real[a] and self.real[b] and self.slots[a].scope != self.slots[b].scope:
            # Room for an outline around the one or the other.
            gap += TITLE.height + 4.0 if self.ways.scene.vertical else 10.0
        return gap

    def _find_tops(self) -> None:
        self.outputs: dict[int, list[str]] = defaultdict(list)
        for slot, role in (*self.ways.links, *(out.source for out in self.ways.exits.values())):
            if role not in self.outputs[slot]:
                self.outputs[slot].append(role)
        self.tops: dict[Source, float] = {}
        for slot, roles in self.outputs.items():
            step = min(14.0, (2 * self.half[slot] - 2 * _MARGIN) / max(1, len(roles) - 1))
            for i, role in enumerate(roles):
                at = self.x[slot] + (i - (len(roles) - 1) / 2) * step
                self.tops[slot, role] = round(2 * at) / 2

    def top(self, source: Source) -> float:
        """Where a way upwards from a source begins."""
        return self.tops.get(source, self.x[source[0]])

    def _find_ports(self) -> None:
        self.ports: dict[tuple[int, Hashable], float] = {}
        for level in self.levels:
            for slot in level:
                if self.real[slot]:
                    self._find_ports_of(slot)

    def _find_ports_of(self, slot: int) -> None:
        level = self.ways.level[slot]
        wanted: list[tuple[Hashable, float]] = []
        left: list[Hashable] = []
        right: list[Hashable] = []
        for port, ends in self.into[slot].items():
            sources = [end for end in ends if isinstance(end, tuple)]
            if sources:
                # Of several that never occur together the last is that of most timesteps.
                wanted.append((port, self.below(sources[-1], level)))
            else:
                (left if ends[0] == -1 else right).append(port)
        taps: list[Hashable] = [("tap", argnum) for argnum in sorted(self.taps[slot])]
        half = len(taps) // 2
        found = side_by_side(
            self.x[slot], self.half[slot], wanted, [*left, *taps[:half]], [*taps[half:], *right]
        )
        for port, at in found.items():
            self.ports[slot, port] = at
        # A way straight up begins below its end rather than in the middle.
        for port, ends in self.into[slot].items():
            for end in ends:
                if isinstance(end, tuple) and self._alone(end, level):
                    room = self.half[end[0]] - _MARGIN + 1.0
                    if abs(found[port] - self.x[end[0]]) <= room:
                        self.tops[end] = found[port]

    def _alone(self, source: Source, level: int) -> bool:
        """Whether a slot leads to one end alone, right above it."""
        below = self.ways.level[source[0]] == level - 1
        return below and len(self.outputs[source[0]]) == 1 and len(self.ways.links[source]) == 1

    def below(self, source: Source, level: int) -> float:
        """Where a way is as it comes to a level from below."""
        if self.ways.level[source[0]] == level - 1:
            return self.tops[source]
        return self.x[self.chains[source][level - 1]]

    def port(self, sink: Sink, key: Source | Key) -> float:
        """Where a way ends at the lower side of a slot."""
        return self.ports[sink[0], self.port_of[sink, key]]

    def tap(self, sink: Sink) -> float:
        """Where a tap ends at the lower side of a slot."""
        return self.ports[sink[0], ("tap", sink[1])]
