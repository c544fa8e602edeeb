"""From an assembly to a picture: what stands outside of the timesteps, and the ways to and from it."""

from __future__ import annotations

import math
from collections.abc import Sequence

from tensorgrad.viz.picture import Outline, Picture, Placed, WireKind
from tensorgrad.viz.place.assembly import BETWEEN_FRAMES, HOUSE_PAD, Assembly
from tensorgrad.viz.place.joints import GATHERED, PartKey
from tensorgrad.viz.place.labels import uncovered
from tensorgrad.viz.place.paper import MARGIN, Paper
from tensorgrad.viz.place.parts import End, Name, Part
from tensorgrad.viz.place.stamps import Stamps, fitted
from tensorgrad.viz.place.ways import Bus, Key, Points

__all__ = ["drawn"]

# At a box, or at the edge of a phase: its number and the key of a bus.
_Place = End | tuple[int, Key]


def drawn(assembly: Assembly) -> Picture:
    """The picture of an assembly."""
    return _Drawn(assembly).picture()


class _Drawn:
    """The state of one `drawn`."""

    def __init__(self, everything: Assembly) -> None:
        self.all = everything
        self.scene, self.joints = everything.scene, everything.joints
        self.paper = Paper(everything.bottom, everything.top, everything.vertical)
        self.stamps = Stamps(everything, self.paper)
        self.placed = self.stamps.placed
        for key, part in everything.parts.items():
            u, v = everything.part_at[key]
            for item, (left, low) in part.corner.items():
                if isinstance(item, int):
                    one = part.items[item]
                    edges = u + left, v + low, u + left + one.width, v + low + one.height
                    self._place(item, edges)
        self.users: dict[int, list[int]] = {}
        for k in self.scene.outside:
            if ("g", self.scene.heads[k]) not in self.joints.collected:
                self.users.setdefault(self.scene.tails[k], []).append(k)
        for name in self.joints.of:
            if name in self.joints.collected:
                self._collect(name)
            elif name[0] == "g":
                self._gather(name)
            else:
                self._value(name)
        for ways in everything.ways:
            for bus in ways.buses.values():
                if bus.kind == "own":
                    self._own(bus)
                elif bus.kind == "join":
                    self._join(bus)

    def _place(self, i: int, edges: tuple[float, float, float, float]) -> None:
        at = self.paper.rectangle(*edges)
        self.placed[i] = Placed(self.scene.boxes[i], *at, self.scene.lines[i])

    def picture(self) -> Picture:
        width, height = self.all.width + 2 * MARGIN, self.paper.high - self.paper.low
        if self.all.vertical:
            width, height = height, width
        placed = tuple(one for one in self.placed if one is not None)
        outlines = (*self._regions(), *self.stamps.outlines)
        wires = uncovered(placed, outlines, self.paper.wires())
        return Picture(
            self.scene.model,
            *(float(math.ceil(width)), float(math.ceil(height))),
            placed,
            outlines,
            wires,
            self._times(),
            vertical=self.all.vertical,
        )

    def _times(self) -> tuple[tuple[int, float, float], ...]:
        """The columns of the phase with the most timesteps."""
        longest: dict[int, tuple[float, float]] = {}
        for ways in self.all.ways:
            found: dict[int, tuple[float, float]] = {}
            for t in ways.tracks:
                for number in self.scene.tracks[t].steps:
                    step = self.scene.steps[number]
                    left, _, right, _ = self.stamps.frame[number]
                    if step.frame is not None:
                        for time in range(step.span[0], step.span[1] + 1):
                            # One that stands alone says more than one in a block of another track.
                            if time not in found or not step.block:
                                found[time] = left + MARGIN, right + MARGIN
            if len(found) > len(longest):
                longest = found
        return tuple((time, *longest[time]) for time in sorted(longest))

    def _regions(self) -> list[Outline]:
        """The scopes outside of the timesteps, but those among whose boxes others stand."""
        everything = self.all
        found = []
        for number, region in enumerate(self.scene.regions):
            frame, phases = region.frame, everything.phases.of_region[number]
            if frame is None:
                continue
            if phases:
                first, last = min(phases), max(phases)
                left = everything.extent[first][0] - everything.beyond[number, first, False]
                right = everything.extent[last][1] + everything.beyond[number, last, True]
                low, high = everything.up[number] + everything.low[number], everything.high[number]
                edges = left, low, right, everything.up[number] + high
            else:
                key = next((part for part in self.joints.within if part[0] == number), None)
                if key is None:
                    continue
                (u, v), around = everything.part_at[key], everything.parts[self.joints.within[key]]
                part, one = everything.parts[key], around.items[key]
                left, low = u - HOUSE_PAD - everything.before, v + part.low - HOUSE_PAD
                edges = left, low, left + one.width, low + one.height
            at = self.paper.rectangle(*edges)
            outline = Outline(frame, *at, fitted(frame.title, at[2]))
            if self._holds(number, outline):
                found.append(outline)
        return found

    def _holds(self, region: int, outline: Outline) -> bool:
        """Whether just what belongs to a region lies within its outline, of what is outside of timesteps."""
        right, lower = outline.x + outline.width, outline.y + outline.height
        for i, own in enumerate(self.scene.region):
            one = self.placed[i]
            if own < 0 or one is None:
                continue
            end, bottom = one.x + one.width, one.y + one.height
            inside = one.x >= outline.x and end <= right and one.y >= outline.y and bottom <= lower
            apart = one.x >= right or end <= outline.x or one.y >= lower or bottom <= outline.y
            if not (inside if region in self.all.phases.around(own) else apart):
                return False
        return True

    # --- ways through the parts --------------------------------------------------------------------------
    def _route(self, name: Name, begin: _Place, end: _Place) -> Points:
        """The way through the parts from one end to another."""
        ups, downs = self._ascent(name, begin), self._ascent(name, end)
        # Up to the part that both pass, across, and down.
        where = {part: n for n, (part, _) in enumerate(downs)}
        for n, (part, _) in enumerate(ups):
            if part in where:
                return self._across(name, ups[: n + 1], downs[: where[part] + 1])
        station, last = ups[-1][0][1], downs[-1][0][1]
        step = 1 if last > station else -1
        points: Points = []
        while station != last:
            through = "through", station if step > 0 else station - 1
            ahead, behind = ("right", "left") if step > 0 else ("left", "right")
            points += self._across(name, ups, [((0, station, 0), End(ahead, through))])
            station += step
            ups = [((0, station, 0), End(behind, through))]
        return points + self._across(name, ups, downs)

    def _ascent(self, name: Name, place: _Place) -> list[tuple[PartKey, End]]:
        """The parts from an end outwards, each with where the way begins in it."""
        if isinstance(place, End):
            assert isinstance(place.key, int)
            chain, begin = self.joints.chain_of(place.key), place
        else:
            phase, key = place
            bus = self.all.ways[phase].buses[key]
            chain, begin = self.joints.chain_at(phase, bus), End("left" if bus.right else "right", place)
        found = []
        for part in chain:
            found.append((part, begin))
            edge = self.joints.outer.get((part, name))
            if part[2] == 2:
                begin = End("out", part) if edge == "right" else End("in", part, "in")
            else:
                begin = End("right" if part[2] > 0 else "left", ("out", part))
        return found

    def _across(self, name: Name, ups: list[tuple[PartKey, End]], downs: list[tuple[PartKey, End]]) -> Points:
        points: Points = []
        for part, end in ups[:-1]:
            points += self._through(name, part, end, End(self.joints.outer[part, name], ("out", part)))
        points += self._through(name, ups[-1][0], ups[-1][1], downs[-1][1])
        for part, end in reversed(downs[:-1]):
            points += self._through(name, part, End(self.joints.outer[part, name], ("out", part)), end)
        return points

    def _through(self, name: Name, key: PartKey, begin: End, end: End) -> Points:
        u, v = self.all.part_at[key]
        return [(x + u, y + v) for x, y in self.all.parts[key].way(name, begin, end)]

    # --- values ------------------------------------------------------------------------------------------
    def _value(self, name: Name) -> None:
        """A value that leads from, to or between boxes outside of the timesteps."""
        scene, joint = self.scene, self.joints.of[name]
        begin: _Place = End("out", name[1])
        before: Points = []
        for phase, key, bus in joint.buses:
            if bus.out:
                begin = phase, key
                before = self._top(phase, bus, *bus.taps[0])
                for k, _ in bus.taps:
                    if scene.home[scene.heads[k]] < 0:
                        self._edge(name, begin, before, k)
        if isinstance(begin, End):
            users = self.users.get(name[1], ())
            if name in self.joints.spread:
                self._spread(name, users)
            else:
                for k in users:
                    self._edge(name, begin, before, k)
        for phase, key, bus in joint.buses:
            if not bus.out:
                self._rail(phase, bus, before + self._route(name, begin, (phase, key)))

    def _edge(self, name: Name, begin: _Place, before: Points, k: int) -> None:
        arrow = self.scene.arrows[k]
        way = self._route(name, begin, End("in", *self.joints.port(self.scene.heads[k], k)))
        self.paper.draw("edge", arrow.tail, arrow.head, before + way, arrow.shares, label=arrow.label)

    def _top(self, phase: int, bus: Bus, k: int, number: int) -> Points:
        """From a box of a timestep to the line above it that leads out."""
        if self.scene.steps[number].block:
            left, _, right, _ = self.stamps.block[number]
            return [(right if bus.right else left, bus.v)]
        if bus.kind == "last" and bus.exit is not None:
            shift = self.stamps.shift[number]
            return [(u + shift, v) for u, v in self.all.sheets[phase].outward(bus.exit)]
        source = self.all.slot_of[self.scene.tails[k]], self.scene.arrows[k].role
        x, v = self.all.sheets[phase].top(source)
        x += self.stamps.shift[number]
        return [(x, v), (x, bus.v)]

    def _end(self, phase: int, bus: Bus, k: int, number: int) -> Points:
        """From the line of a value to the box that uses it."""
        if self.scene.steps[number].block:
            left, _, right, _ = self.stamps.block[number]
            return [(right if bus.right else left, bus.v)]
        sink = self.all.slot_of[self.scene.heads[k]], self.scene.arrows[k].argnum
        if bus.entry is not None:
            shift, sheet = self.stamps.shift[number], self.all.sheets[phase]
            way = sheet.inward(bus.entry, sink)
            lane = sheet.gutter(bus.entry.key, -1)
            turn = [] if lane is None else [(lane, bus.v), (lane, way[0][1])]
            return [(u + shift, v) for u, v in (*turn, *way)]
        x, v = self.all.sheets[phase].tap(sink)
        x += self.stamps.shift[number]
        return [(x, bus.v), (x, v)]

    def _rail(self, phase: int, bus: Bus, way: Points) -> None:
        """A value from outside to the timesteps that use it."""
        scene = self.scene
        tail = scene.boxes[bus.box].id
        if bus.box not in self.stamps.hue or bus.kind == "first":
            for k, number in bus.taps:
                arrow = scene.arrows[k]
                points = way + self._end(phase, bus, k, number)
                kind: WireKind = "carried" if arrow.carried else "edge"
                self.paper.draw(kind, tail, arrow.head, points, arrow.shares, label=arrow.label)
            return
        shares = tuple(share for k, _ in bus.taps for share in scene.arrows[k].shares)
        ends = [self._end(phase, bus, k, number)[0] for k, number in self._extreme(bus, not bus.right)]
        last = min(ends) if bus.right else max(ends)
        self.paper.draw("rail", tail, "", [*way, last], shares, arrow=False, hue=self.stamps.hue[bus.box])

    def _extreme(self, bus: Bus, latest: bool) -> list[tuple[int, int]]:
        """Those of the taps of a line that are furthest along time."""
        columns = [self.scene.steps[number].columns for _, number in bus.taps]
        most = max(last for _, last in columns) if latest else min(first for first, _ in columns)
        return [tap for tap, span in zip(bus.taps, columns, strict=True) if span[latest] == most]

    def _own(self, bus: Bus) -> None:
        """A value of one timestep to many others."""
        scene = self.scene
        out = bus.exit
        assert out is not None
        phase = scene.tracks[scene.steps[bus.home].track].phase
        sheet, shift = self.all.sheets[phase], self.stamps.shift[bus.home]
        way = [(u + shift, v) for u, v in sheet.outward(out)]
        lane = sheet.gutter((out.source, out.side), out.side)
        if lane is not None:
            way += [(lane + shift, way[-1][1]), (lane + shift, bus.v)]
        shares = tuple(share for k, _ in bus.taps for share in scene.arrows[k].shares)
        for latest in (True, False):
            ends = [self._end(phase, bus, *tap)[0] for tap in self._extreme(bus, latest)]
            last = max(ends) if latest else min(ends)
            if (last[0] > way[-1][0]) == latest:
                tail, hue = scene.boxes[bus.box].id, self.stamps.hue[bus.box]
                self.paper.draw("rail", tail, "", [*way, last], shares, arrow=False, hue=hue)

    # --- many within one part ------------------------------------------------------------------------------
    def _spread(self, name: Name, users: Sequence[int]) -> None:
        """A value and its many users in the same part: a line, and a tap to each."""
        part, (u, v) = self._part_of(name[1])
        box = self.scene.boxes[name[1]]
        hue = self.stamps.hue[name[1]]
        ends = [End("in", *self.joints.port(self.scene.heads[k], k)) for k in users]
        for k, end in zip(users, ends, strict=True):
            arrow = self.scene.arrows[k]
            way = [(x + u, y + v) for x, y in part.branch(name, End("out", name[1]), end)]
            self.paper.draw("tap", box.id, arrow.head, way, arrow.shares, label=arrow.label, hue=hue)
        shares = tuple(share for k in users for share in self.scene.arrows[k].shares)
        way = [(x + u, y + v) for x, y in part.trunk(name, End("out", name[1]), ends)]
        self.paper.draw("rail", box.id, "", way, shares, arrow=False, hue=hue)

    def _collect(self, name: Name) -> None:
        """An operation and its many operands in the same part: a line, and a tap from each."""
        part, (u, v) = self._part_of(name[1])
        arrows = self.joints.collected[name]
        head = self.scene.boxes[name[1]].id
        ends = [End("out", self.scene.tails[k]) for k in arrows]
        into = End("in", name[1], GATHERED)
        for k, end in zip(arrows, ends, strict=True):
            arrow = self.scene.arrows[k]
            way = [(x + u, y + v) for x, y in part.branch(name, into, end)][::-1]
            self.paper.draw("tap", arrow.tail, head, way, arrow.shares, arrow=False, label=arrow.label)
        shares = tuple(share for k in arrows for share in self.scene.arrows[k].shares)
        way = [(x + u, y + v) for x, y in part.trunk(name, into, ends)]
        self.paper.draw("gather", "", head, way[::-1], shares)

    def _part_of(self, i: int) -> tuple[Part, tuple[float, float]]:
        key = self.joints.part_of[i]
        return self.all.parts[key], self.all.part_at[key]

    def _join(self, bus: Bus) -> None:
        """Values of many timesteps to an operation of one after them."""
        entry = bus.entry
        assert entry is not None
        phase = self.scene.tracks[self.scene.steps[bus.home].track].phase
        sheet, shift = self.all.sheets[phase], self.stamps.shift[bus.home]
        (sink,) = entry.sinks
        way = [(u + shift, v) for u, v in sheet.inward(entry, sink)]
        lane = sheet.gutter(entry.key, entry.side)
        if lane is not None:
            way = [(lane + shift, bus.v), (lane + shift, way[0][1]), *way]
        self._tapped(phase, bus, way)

    # --- gathers -----------------------------------------------------------------------------------------
    def _gather(self, name: Name) -> None:
        """Values of many timesteps to one operation."""
        for phase, key, bus in self.joints.of[name].buses:
            way = self._route(name, (phase, key), End("in", name[1], GATHERED))
            self._tapped(phase, bus, way)

    def _tapped(self, phase: int, bus: Bus, way: Points) -> None:
        """A line to an operation, and a tap from each operand to the line."""
        scene = self.scene
        head = scene.boxes[bus.box].id
        for k, number in bus.taps:
            arrow = scene.arrows[k]
            points = self._top(phase, bus, k, number)
            if len(points) == 1:
                x = points[0][0]
                points.append((x + BETWEEN_FRAMES / 2 * (1 if bus.right else -1), bus.v))
            self.paper.draw("tap", arrow.tail, head, points, arrow.shares, arrow=False, label=arrow.label)
        ends = [self._top(phase, bus, *tap)[-1] for tap in self._extreme(bus, not bus.right)]
        first = min(ends) if bus.right else max(ends)
        shares = tuple(share for k, _ in bus.taps for share in scene.arrows[k].shares)
        self.paper.draw("gather", "", head, [first, *way], shares)
