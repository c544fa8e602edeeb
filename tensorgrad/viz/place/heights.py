"""The column of a phase, finished: its channels and gutters, their lanes, and the ways through them.

Heights are upwards; those of a band count from the lower edge of its frames until the bands are stacked.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Sequence

from tensorgrad.viz.place.columns import Column
from tensorgrad.viz.place.lanes import Net, lanes
from tensorgrad.viz.place.nests import Nests
from tensorgrad.viz.place.ways import Bus, Entry, Exit, Key, Points, Sink, Source, Ways
from tensorgrad.viz.style.shapes import LABEL_SIZE
from tensorgrad.viz.style.text import TITLE, text_width

__all__ = ["PAD", "Sheet"]

PAD = 12.0
"""Between the frame of a timestep and what is in it."""
_LANE = 7.0
_RAIL = 8.0
# In a channel between rows: above the lower one, and below the upper one, where arrowheads are.
_LOW, _HIGH = 8.0, 13.0
_LEAST_CHANNEL, _LEAST_EMPTY = 26.0, 18.0
# Between ways that enter or leave through one side of a box.
_SIDE = 9.0
# Far enough for heights of different bands never to meet.
_BAND = 1e6


class Sheet:
    """Where everything in the column of a phase is, relative to a timestep's frame.

    Attributes:
        width: of the frame; what is in the column begins at `left`.
        floor, ceiling: by level, the heights between which the channel below it lies.
        row: by level, the height of its middle.
        heights: by band, the height of its frames.
    """

    def __init__(self, column: Column, title: float, least: float, least_height: float) -> None:
        self.column = column
        self.ways: Ways = column.ways
        self.slots = column.slots
        self.vertical = self.ways.scene.vertical
        self.nests = Nests(column)
        self._find_lanes()
        self._find_heights(title, least_height)
        self._find_side_heights()
        self._find_gutters(least)

    # --- channels ----------------------------------------------------------------------------------------
    def _find_lanes(self) -> None:
        """The lanes of the channels between rows."""
        ways, column = self.ways, self.column
        self.nets: dict[tuple[Hashable, int], Net] = {}
        channels: list[list[Net]] = [[] for _ in range(ways.levels + 1)]

        def net(key: Hashable, level: int) -> Net:
            if (key, level) not in self.nets:
                self.nets[key, level] = Net()
                channels[level].append(self.nets[key, level])
            return self.nets[key, level]

        for source, sinks in ways.links.items():
            low, chain = ways.level[source[0]], column.chains[source]
            for level in range(low + 1, max(ways.level[slot] for slot, _ in sinks) + 1):
                one = net(source, level)
                one.lows.append(column.below(source, level))
                if level in chain:
                    one.highs.append(column.x[chain[level]])
            for sink in sinks:
                net(source, ways.level[sink[0]]).highs.append(column.port(sink, source))
        for out in ways.exits.values():
            if not out.aside:
                one = net(self._leaving(out), ways.level[out.source[0]] + 1)
                one.lows = [column.tops[out.source]]
                one.before |= out.side < 0
                one.beyond |= out.side > 0
        for entry in ways.entries.values():
            for sink in entry.sinks.keys() - entry.aside:
                one = net(entry.key, ways.level[sink[0]])
                one.before, one.beyond = entry.side < 0, entry.side > 0
                one.highs.append(column.port(sink, entry.key))
        self._part_directions()
        self.counts = [lanes(nets) for nets in channels]
        self.used = [bool(nets) for nets in channels]
        rails: list[list[Bus]] = [[] for _ in channels]
        gathers: list[list[Bus]] = [[] for _ in channels]
        for bus in ways.buses.values():
            if not bus.beside:
                (gathers[bus.level + 1] if bus.out else rails[bus.level]).append(bus)
        self.rails = [self._pack(buses) for buses in rails]
        self.gathers = [self._pack(buses) for buses in gathers]

    def _part_directions(self) -> None:
        """Where values go to the left as well as to the right, they must not meet between two timesteps."""
        sides = {out.side for out in self.ways.exits.values()}
        if len(sides) > 1:
            for out in self.ways.exits.values():
                if not out.aside:
                    self.nets[self._leaving(out), self.ways.level[out.source[0]] + 1].whole = True

    def _leaving(self, out: Exit) -> Hashable:
        """What a way out of a channel shares its lane with: the ways up, unless others go to the right."""
        both = (out.source, 1) in self.ways.exits and (out.source, -1) in self.ways.exits
        return (out.source, -1) if both and out.side < 0 else out.source

    def _pack(self, buses: list[Bus]) -> int:
        """Lanes for what runs along time, none shared where two would meet."""
        steps = self.ways.scene.steps
        ends: list[list[tuple[float, float]]] = []
        buses.sort(key=lambda bus: (bus.argnum, bus.box))
        for bus in buses:
            columns = [steps[number].columns for _, number in bus.taps]
            if bus.inner:
                columns.append(steps[bus.home].columns)
            low: float = min(first for first, _ in columns)
            high: float = max(last for _, last in columns)
            if not bus.inner:
                low, high = (low, self.ways.columns) if bus.right else (-1, high)
            free = (n for n, taken in enumerate(ends) if all(high < a or low > b for a, b in taken))
            bus.lane = next(free, len(ends))
            if bus.lane == len(ends):
                ends.append([])
            ends[bus.lane].append((low, high))
        return len(ends)

    # --- heights -----------------------------------------------------------------------------------------
    def _find_heights(self, title: float, least: float) -> None:
        ways = self.ways
        self.row = [0.0] * ways.levels
        self.floor = [0.0] * (ways.levels + 1)
        self.ceiling = [0.0] * (ways.levels + 1)
        self.heights: list[float] = []
        for band, roles in enumerate(ways.roles):
            base, top = ways.base[band], ways.base[band] + roles.rows
            v = 0.0
            for level in range(base, top + 1):
                self.floor[level] = v
                v += self._channel_height(level, level == base, level == top)
                self.ceiling[level] = v
                if level < top:
                    boxes = (n for n in self.column.levels[level] if self.column.real[n])
                    tall = max((self.slots[n].height for n in boxes), default=0.0)
                    self.row[level] = v + tall / 2
                    v += tall
            self.heights.append(max(v + title, least))
        for bus in ways.buses.values():
            if bus.beside:
                continue
            if bus.out:
                channel = bus.level + 1
                bus.v = self.floor[channel] + self.nests.above[channel] + _LOW + _RAIL * (bus.lane + 0.5)
            else:
                bus.v = self.ceiling[bus.level] - _HIGH - _RAIL * (bus.lane + 0.5) + 2.0

    def _channel_height(self, level: int, lowest: bool, highest: bool) -> float:
        rails, gathers, count = self.rails[level], self.gathers[level], self.counts[level]
        inner = _RAIL * (rails + gathers) + _LANE * count
        outer = self.nests.above[level]
        if lowest or highest:
            if not inner:
                return PAD - 2.0 + outer
            return inner + outer + PAD - 4.0 + (_HIGH if lowest else _LOW)
        least = _LEAST_CHANNEL if self.used[level] or inner else _LEAST_EMPTY
        return max(_LOW + _HIGH + inner, least) + outer

    def lane_height(self, channel: int, lane: int) -> float:
        """The height of a lane of a channel; the lanes are in the middle of what rails leave of it."""
        low = self.floor[channel] + self.nests.above[channel] + _RAIL * self.gathers[channel] + 4.0
        high = self.ceiling[channel] - _RAIL * self.rails[channel] - 8.0
        at = (low + high) / 2 + (lane - (self.counts[channel] - 1) / 2) * _LANE
        return round(2 * at) / 2

    def _find_side_heights(self) -> None:
        """At which heights ways leave and enter through the sides of boxes."""
        ways = self.ways
        leaving: dict[tuple[int, int], list[Exit]] = defaultdict(list)
        for out in ways.exits.values():
            level = ways.level[out.source[0]]
            if out.aside:
                leaving[out.source[0], out.side].append(out)
            else:
                out.v = self.lane_height(level + 1, self.nets[self._leaving(out), level + 1].lane)
        entering: dict[tuple[int, int], list[tuple[Entry, Sink]]] = defaultdict(list)
        for entry in ways.entries.values():
            for sink in entry.sinks:
                if sink in entry.aside:
                    entering[sink[0], entry.side].append((entry, sink))
                else:
                    level = ways.level[sink[0]]
                    entry.heights[sink] = self.lane_height(level, self.nets[entry.key, level].lane)
        right, left = ({ways.level[slot] for slot, to in leaving if to == side} for side in (1, -1))
        for (slot, side), outs in leaving.items():
            level = ways.level[slot]
            # To the left lower than to the right, or they would meet between two timesteps; and what comes
            # back on the same side lower still.
            by = side * _SIDE / 2 if level in left & right else 0.0
            by += _SIDE / 2 * len(entering.get((slot, side), ()))
            middle = self.row[level] + min(by, self.slots[slot].height / 2 - 8.0)
            for out, v in zip(outs, self._side_by_side(slot, middle, len(outs)), strict=True):
                out.v = v
        for (slot, side), ends in entering.items():
            self._enter(slot, ends, [out.v for out in leaving.get((slot, side), ())])
        for bus in ways.buses.values():
            if bus.kind == "last" and bus.exit is not None:
                bus.v = bus.exit.v
            elif bus.kind == "first" and bus.entry is not None:
                source = bus.entry.source
                bus.v = source.v if source else next(iter(bus.entry.heights.values()))

    def _enter(self, slot: int, ends: list[tuple[Entry, Sink]], taken: list[float]) -> None:
        """Heights for what enters through one side of a box: straight if it can be."""
        middle = self.row[self.ways.level[slot]]
        rest = []
        for entry, sink in ends:
            out = entry.source
            straight = (
                entry.kind == "next"
                and out is not None
                and abs(out.v - middle) <= self.slots[slot].height / 2 - 6.0
                and out.v not in taken
            )
            if straight and out is not None:
                entry.heights[sink] = out.v
                taken.append(out.v)
            else:
                rest.append((entry, sink))
        # What comes from above is above.
        rest.sort(key=lambda end: -(end[0].source.v if end[0].source else 0.0))
        free = self._side_by_side(slot, self._beside_trunks(slot, taken), len(rest) + len(taken))
        for v in taken:
            free.remove(min(free, key=lambda height: abs(height - v)))
        for (entry, sink), v in zip(rest, free, strict=True):
            entry.heights[sink] = v

    def _beside_trunks(self, slot: int, taken: Sequence[float]) -> float:
        """Where on a side there is room, should something of the same row run at the height of the middle."""
        level = self.ways.level[slot]
        middle = self.row[level]
        leaving = (out for out in self.ways.exits.values() if self.ways.level[out.source[0]] == level)
        if not taken and any(abs(out.v - middle) < _SIDE / 2 for out in leaving):
            return middle + _SIDE / 2
        return middle

    def _side_by_side(self, slot: int, middle: float, count: int) -> list[float]:
        """Heights at one side of a box, from above."""
        room = self.slots[slot].height - 12.0 - 2 * abs(middle - self.row[self.ways.level[slot]])
        step = min(_SIDE, max(room, 2.0) / max(1, count - 1))
        return [round(2 * (middle + ((count - 1) / 2 - i) * step)) / 2 for i in range(count)]

    # --- gutters -----------------------------------------------------------------------------------------
    def _find_gutters(self, least: float) -> None:
        """The lanes up and down beside the boxes, and the width of it all."""
        ways = self.ways
        self.turns: dict[Key, Net] = {}
        inner = [bus for bus in ways.buses.values() if bus.inner]
        beside: dict[int, list[Net]] = {-1: [], 1: []}
        for entry in ways.entries.values():
            net = self.turns[entry.key] = Net(before=entry.kind == "skip")
            ends = {self._far(sink[0], v) for sink, v in entry.heights.items()}
            (net.highs if entry.side < 0 else net.lows).extend(sorted(ends))
            if entry.kind == "join":
                net.lows += [self._far_bus(bus) for bus in inner if bus.entry is entry]
            elif entry.kind != "skip" and entry.source is not None:
                trunk = self._far(entry.source.source[0], entry.source.v)
                # What comes from a neighbour comes from beyond the gutter, what turns comes from the boxes.
                outer = (entry.kind == "next") == (entry.side > 0)
                (net.highs if outer else net.lows).append(trunk)
            beside[entry.side].append(net)
        for key, out in ways.exits.items():
            buses = [bus for bus in inner if bus.exit is out]
            if out.under or buses:
                trunk = self._far(out.source[0], out.v)
                net = self.turns[key] = Net(before=out.under)
                (net.lows if out.side > 0 else net.highs).append(trunk)
                net.lows += [self._far_bus(bus) for bus in buses]
                beside[out.side].append(net)
        self.lanes = {side: lanes(nets) for side, nets in beside.items()}
        room = self._room_for_labels()
        self.steps = {-1: _LANE, 1: max(_LANE, room)}
        # The label of a loop from a box to itself stands between the two.
        self.first = max(_LANE, room) if self._loops_aside() else _LANE
        # Where time runs downwards, titles stand before what comes first.
        self.pad = TITLE.height + 4.0 if self.vertical else PAD
        self.left = self.pad + self.nests.left + self.steps[-1] * self.lanes[-1]
        width = self.left + self.column.content + self.nests.right + PAD
        if self.lanes[1]:
            width += self.first + self.steps[1] * self.lanes[1]
        self.width = max(width, least)
        # What is too narrow for its title stands in the middle.
        self.left += round(self.width - width) / 2

    def _room_for_labels(self) -> float:
        """How far apart loops are, for their labels to fit between them."""
        arrows = self.ways.scene.arrows
        labels = [
            arrows[k].label
            for number, plans in self.ways.plans.items()
            for k, plan in zip(self.ways.scene.steps[number].arrows, plans, strict=True)
            if plan.kind == "loop"
        ]
        if not any(labels):
            return 0.0
        return 16.0 if self.vertical else 10.0 + max(text_width(label, LABEL_SIZE) for label in labels)

    def _loops_aside(self) -> bool:
        plans = (plan for plans in self.ways.plans.values() for plan in plans if plan.kind == "loop")
        return any(plan.source and plan.sink and plan.source[0] == plan.sink[0] for plan in plans)

    def _far_bus(self, bus: Bus) -> float:
        return _BAND * (self.column.band_at(bus.level) or 0) + bus.v

    def _far(self, slot: int, v: float) -> float:
        return self.ways.band[slot] * _BAND + v

    def gutter(self, key: Key, side: int) -> float | None:
        """Where a way turns in a gutter; None if it goes straight through."""
        net = self.turns.get(key)
        if net is None or net.lane < 0:
            return None
        if side < 0:
            return self.left - self.nests.left - self.steps[-1] * (self.lanes[-1] - net.lane) - 4.0
        return self.left + self.column.content + self.nests.right + self.first + self.steps[1] * net.lane

    # --- in the drawing ----------------------------------------------------------------------------------
    def lift(self, band: int, v: float) -> None:
        """Put a band where it belongs."""
        ways = self.ways
        levels = range(ways.base[band], ways.base[band] + ways.roles[band].rows)
        for level in (*levels, levels.stop):
            self.floor[level] += v
            self.ceiling[level] += v
            if level < levels.stop:
                self.row[level] += v
        for bus in ways.buses.values():
            if bus.level in levels:
                bus.v += v
        for out in ways.exits.values():
            if ways.band[out.source[0]] == band:
                out.v += v
        for entry in ways.entries.values():
            for sink in entry.heights:
                if ways.band[sink[0]] == band:
                    entry.heights[sink] += v

    def box(self, slot: int) -> tuple[float, float, float, float]:
        """The left, lower, right and upper edge of a slot."""
        v, x = self.row[self.ways.level[slot]], self.left + self.column.x[slot]
        tall, half = self.slots[slot].height / 2, self.column.half[slot]
        return x - half, v - tall, x + half, v + tall

    def upward(self, source: Source, sink: Sink) -> Points:
        """The way from a slot to another above it in the same column."""
        ways, column = self.ways, self.column
        low, high = ways.level[source[0]], ways.level[sink[0]]
        points = [(self.left + column.tops[source], self.box(source[0])[3])]
        for level in range(low + 1, high + 1):
            net = self.nets[source, level]
            x = column.x[column.chains[source][level]] if level < high else column.port(sink, source)
            if net.lane >= 0:
                v = self.lane_height(level, net.lane)
                points += [(points[-1][0], v), (self.left + x, v)]
        return [*points, (points[-1][0], self.box(sink[0])[1])]

    def outward(self, out: Exit) -> Points:
        """The way from a box to the gutter, without its end there."""
        left, _, right, top = self.box(out.source[0])
        if out.aside:
            return [(right if out.side > 0 else left, out.v)]
        x = self.left + self.column.tops[out.source]
        return [(x, top), (x, out.v)]

    def inward(self, entry: Entry, sink: Sink) -> Points:
        """The way from the gutter to a box, without its beginning in the gutter."""
        left, bottom, right, _ = self.box(sink[0])
        v = entry.heights[sink]
        if sink in entry.aside:
            return [(left if entry.side < 0 else right, v)]
        x = self.left + self.column.port(sink, entry.key)
        return [(x, v), (x, bottom)]

    def tap(self, sink: Sink) -> tuple[float, float]:
        """Where a tap ends."""
        return self.left + self.column.tap(sink), self.box(sink[0])[1]

    def top(self, source: Source) -> tuple[float, float]:
        """Where the ways up from a slot begin."""
        return self.left + self.column.top(source), self.box(source[0])[3]
