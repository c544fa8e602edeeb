"""All pieces together: phases, the parts beside and between them, and the regions around them.

Heights are relative to a region until all of them are stacked.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Hashable, Sequence

from tensorgrad.viz.place.between import join_columns
from tensorgrad.viz.place.columns import Column
from tensorgrad.viz.place.heights import PAD, Sheet
from tensorgrad.viz.place.joints import Joints, PartKey
from tensorgrad.viz.place.parts import Item, Name, Part
from tensorgrad.viz.place.phases import Phases, Unit
from tensorgrad.viz.place.ways import Bus, Ways
from tensorgrad.viz.style.shapes import LABEL_SIZE
from tensorgrad.viz.style.text import TITLE, text_width

__all__ = ["BETWEEN_FRAMES", "BLOCK_PAD", "HOUSE_PAD", "Assembly"]

Terminal = tuple[Hashable, float, Name]

BETWEEN_FRAMES = 14.0
BLOCK_PAD = 6.0
HOUSE_PAD = 8.0
_BETWEEN_BANDS = 22.0
_REGION_PAD = 12.0
# Between a phase and what stands beside it.
_BESIDE = 10.0
# More ways than this under the frames of a band share their lanes.
_MOST_LANES = 40


class Assembly:
    """Where every piece of a drawing is.

    Attributes:
        sheets: by phase, its column.
        begins, widths: by phase, where its columns begin along time, and how wide they are.
        extent: by phase, from where to where it reaches along time.
        parts, part_at: by key, what stands outside of the timesteps; where its left edge and height 0 are.
        low, high, beyond: of the regions that hold timesteps; `beyond` by region, phase and side, how far it
            reaches beyond the timesteps.
        up: by region, how high its height 0 is.
    """

    def __init__(self, phases: Phases) -> None:
        self.phases = phases
        self.scene = scene = phases.scene
        self.vertical = scene.vertical
        self.title = 0.0 if self.vertical else TITLE.height
        self.before = TITLE.height if self.vertical else 0.0
        self.slot_of = [-1] * len(scene.boxes)
        self.ways = [Ways(phases, phase, self.slot_of) for phase in range(phases.count)]
        self.sheets: list[Sheet] = []
        for ways in self.ways:
            join_columns(ways)
            least = self._room_for_titles(ways)
            tall = self._room_for_blocks(ways)
            size = (0.0, max(least, tall)) if self.vertical else (least, tall)
            self.sheets.append(Sheet(Column(ways), self.title, *size))
        self.widths = [
            self._column_widths(ways, sheet) for ways, sheet in zip(self.ways, self.sheets, strict=True)
        ]
        self._find_skip_lanes()
        self.joints = Joints(phases, self.ways)
        self._stack_regions()
        self._place_along()
        self._lift()

    # --- columns -----------------------------------------------------------------------------------------
    def _room_for_titles(self, ways: Ways) -> float:
        steps = (self.scene.steps[s] for t in ways.tracks for s in self.scene.tracks[t].steps)
        titles = {step.frame.title for step in steps if step.frame and not step.block}
        longest = max((text_width(title, TITLE.size, TITLE.bold) for title in titles), default=0.0)
        return min(round(longest), 200.0) + 18.0

    def _room_for_blocks(self, ways: Ways) -> float:
        steps = (self.scene.steps[s] for t in ways.tracks for s in self.scene.tracks[t].steps)
        heights = (self.scene.size[step.boxes[0]][1] for step in steps if step.block)
        return max(heights, default=0.0) + BLOCK_PAD + max(self.title, BLOCK_PAD)

    def _column_widths(self, ways: Ways, sheet: Sheet) -> list[float]:
        scene = self.scene
        widths = [0.0] * ways.columns
        blocks = []
        for t in ways.tracks:
            for s in scene.tracks[t].steps:
                step = scene.steps[s]
                if step.block:
                    blocks.append(step)
                else:
                    widths[step.columns[0]] = sheet.width
        for step in blocks:
            first, last = step.columns
            room = scene.size[step.boxes[0]][0] + 2 * PAD + self.before
            if not self.vertical and step.frame:
                room = max(room, round(text_width(step.frame.title, TITLE.size, TITLE.bold)) + 18.0)
            there = sum(widths[first : last + 1]) + BETWEEN_FRAMES * (last - first)
            if there < room:
                widths[first] += room - there
        return [width or 40.0 for width in widths]

    def _find_skip_lanes(self) -> None:
        """The lanes under the frames of a band, for what goes further than to the next timestep."""
        self.under: dict[tuple[int, int], int] = {}
        self.skip_lane: dict[int, int] = {}
        self.lane_step = 15.0
        steps, scene = self.scene.steps, self.scene
        for phase, ways in enumerate(self.ways):
            spans: dict[int, list[tuple[int, int, int]]] = defaultdict(list)
            for k, number in ways.skips:
                columns = steps[scene.home[scene.tails[k]]].columns[0], steps[number].columns[0]
                spans[self.band_under(phase, k, number)].append((min(columns), max(columns), k))
                if self.vertical:
                    self.lane_step = round(text_width("skips 000", LABEL_SIZE)) + 8.0
            for band, found in spans.items():
                ends: list[int] = []
                for low, high, k in sorted(found):
                    lane = next((i for i, end in enumerate(ends) if end <= low), len(ends))
                    if lane == len(ends) < _MOST_LANES:
                        ends.append(high)
                    lane = min(lane, _MOST_LANES - 1)
                    ends[lane] = high
                    self.skip_lane[k] = lane
                self.under[phase, band] = len(ends)

    def band_under(self, phase: int, k: int, number: int) -> int:
        """Under the frames of which band a way runs: of the one that has a block at its end."""
        before = self.scene.steps[self.scene.home[self.scene.tails[k]]]
        step = before if before.block else self.scene.steps[number]
        return self.ways[phase].tracks.index(step.track)

    # --- regions -----------------------------------------------------------------------------------------
    def _stack_regions(self) -> None:
        """Stack what each region holds, and lay out the parts beside it, from the inside outwards."""
        count = len(self.scene.regions)
        self.parts: dict[PartKey, Part] = {}
        self.rise: dict[tuple[str, int], float] = {}
        self.low, self.high = [0.0] * count, [0.0] * count
        # By region, phase and side of it: what comes to its edge.
        self.edge: dict[tuple[int, int, bool], list[Terminal]] = defaultdict(list)
        self.beyond: dict[tuple[int, int, bool], float] = defaultdict(float)
        for part in sorted(self.joints.within, key=lambda part: -len(self.phases.around(part[0]))):
            self._lay_out(part, 0)
        for region in range(count - 1, -1, -1):
            self._stack(region)
            for phase in sorted(self.phases.of_region[region]):
                for right in (False, True):
                    self._collect(region, phase, right)
                    if region:
                        self._beside(region, phase, right)
            if region and self.phases.of_region[region]:
                self.low[region] -= _REGION_PAD
                self.high[region] += _REGION_PAD + self.title
        for station in range(self.phases.count + 1):
            self._between(station)

    def _stack(self, region: int) -> None:
        placed: list[tuple[int, int, float]] = []
        placed_units: list[Unit] = []
        lows, highs = [0.0], [0.0]
        for unit in self.phases.units.get(region, ()):
            what, number = unit
            if what == "track":
                phase = first = last = self.scene.tracks[number].phase
                band = self.ways[phase].tracks.index(number)
                lanes = self.under.get((phase, band), 0)
                low = -(6.0 + self.lane_step * lanes) if lanes else 0.0
                high = self.sheets[phase].heights[band]
            else:
                first, last = min(self.phases.of_region[number]), max(self.phases.of_region[number])
                low, high = self.low[number], self.high[number]
            floor = max((top for a, b, top in placed if a <= last and first <= b), default=None)
            rise = self._level_with(unit, placed_units) if floor is None else floor + _BETWEEN_BANDS - low
            self.rise[unit] = rise
            placed_units.append(unit)
            placed.append((first, last, rise + high))
            lows.append(rise + low)
            highs.append(rise + high)
        self.low[region], self.high[region] = min(lows), max(highs)

    def _level_with(self, unit: Unit, others: Sequence[Unit]) -> float:
        """How high something must be for a value that it receives at its beginning to come straight."""
        for joint in self.joints.of.values():
            leaving = [(phase, bus) for phase, _, bus in joint.buses if bus.kind == "last"]
            entering = [(phase, bus) for phase, _, bus in joint.buses if bus.kind == "first"]
            for after, end in entering:
                own = self._height_in(unit, after, end)
                for before, begin in leaving:
                    for other in others:
                        height = self._height_in(other, before, begin)
                        if own is not None and height is not None and after == before + 1:
                            return self.rise[other] + height - own
        return 0.0

    def _height_in(self, unit: Unit, phase: int, bus: Bus) -> float | None:
        """The height of a bus within what holds it; None if that does not hold it."""
        track = self.ways[phase].tracks[self.joints.band(phase, bus)]
        inner: Unit = "track", track
        v = bus.v
        for region in self.phases.around(self.scene.tracks[track].region):
            if inner == unit:
                return v
            v += self.rise.get(inner, 0.0)
            inner = "region", region
        return None

    def _collect(self, region: int, phase: int, right: bool) -> None:
        """What comes to the edge of a phase from what a region holds, and how far that reaches."""
        terminals = self.edge[region, phase, right]
        reach = 0.0
        for unit in self.phases.units.get(region, ()):
            what, number = unit
            rise = self.rise[unit]
            if what == "region" and phase in self.phases.of_region[number]:
                terminals += [(key, v + rise, name) for key, v, name in self.edge[number, phase, right]]
                reach = max(reach, self.beyond[number, phase, right])
            elif what == "track" and self.scene.tracks[number].phase == phase:
                band = self.ways[phase].tracks.index(number)
                for key, bus in self.ways[phase].buses.items():
                    if not bus.inner and bus.right == right and self.joints.band(phase, bus) == band:
                        name = ("g" if bus.kind == "gather" else "v"), bus.box
                        terminals.append(((phase, key), bus.v + rise, name))
        self.beyond[region, phase, right] = reach

    def _beside(self, region: int, phase: int, right: bool) -> None:
        """Lay out a region's own part on one side of a phase."""
        key = (region, phase + 1, -1) if right else (region, phase, 1)
        if key in self.joints.used:
            strands = self.joints.strands[key]
            inner, outer = ("left", "right") if right else ("right", "left")
            for terminal, v, name in self.edge[region, phase, right]:
                getattr(strands[name], inner)[terminal] = v
            part = self._lay_out(key, -1 if right else 1)
            self.edge[region, phase, right] = [
                (("out", key), part.terminal(outer, name, ("out", key)), name)
                for name in strands
                if (key, name) in self.joints.outer
            ]
            self.low[region] = min(self.low[region], part.low)
            self.high[region] = max(self.high[region], part.high)
            self.beyond[region, phase, right] += part.width
        phases = self.phases.of_region[region]
        if phase == (max(phases) if right else min(phases)):
            self.beyond[region, phase, right] += _REGION_PAD + (0.0 if right else self.before)

    def _between(self, station: int) -> None:
        """Lay out what stands between two phases, outside of all regions."""
        strands = self.joints.strands[0, station, 0]
        for phase, right in ((station - 1, True), (station, False)):
            if 0 <= phase < self.phases.count:
                edge = "left" if right else "right"
                for terminal, v, name in self.edge[0, phase, right]:
                    getattr(strands[name], edge)[terminal] = v
                for lane, name in enumerate(self.joints.through[phase]):
                    getattr(strands[name], edge)["through", phase] = self.low[0] - self.lane_step * (lane + 1)
        side = (station == 0) - (station == self.phases.count)
        self._lay_out((0, station, 0), side)

    def _lay_out(self, key: PartKey, side: int) -> Part:
        """A part, with those within it laid out already."""
        joints = self.joints
        strands = joints.strands[key]
        for name, strand in strands.items():
            edge = joints.outer.get((key, name))
            if edge:
                getattr(strand, edge)["out", key] = None
        items: dict[Hashable, Item] = {i: Item(*self.scene.size[i]) for i in joints.members.get(key, ())}
        items.update((part, self._item(part)) for part, around in joints.within.items() if around == key)
        self.parts[key] = Part(items, strands, side)
        return self.parts[key]

    def _item(self, key: PartKey) -> Item:
        """A part as an item of that around it."""
        part, strands = self.parts[key], self.joints.strands[key]
        width = part.width + 2 * HOUSE_PAD + self.before
        # Even, so that its middle is on the grid.
        height = 2.0 * math.ceil((part.high - part.low + self.title) / 2 + HOUSE_PAD)
        frame = self.scene.regions[key[0]].frame
        if frame is not None and not self.vertical:
            width = max(width, min(round(text_width(frame.title, TITLE.size, TITLE.bold)), 200.0) + 18.0)
        middle = part.low - HOUSE_PAD + height / 2
        inlets, outlets = (
            {
                name: part.terminal(edge, name, ("out", key)) - middle
                for name in strands
                if self.joints.outer.get((key, name)) == edge
            }
            for edge in ("left", "right")
        )
        return Item(width, height, inlets, outlets)

    # --- along time --------------------------------------------------------------------------------------
    def _place_along(self) -> None:
        """Where pieces begin along time."""
        self.part_at: dict[PartKey, tuple[float, float]] = {}
        self.begins: list[list[float]] = []
        self.extent: list[tuple[float, float]] = []
        u = 0.0
        for station in range(self.phases.count + 1):
            if station:
                self._place_beside(station - 1, u, True)
                u += self.beyond[0, station - 1, True] + _BESIDE * bool(self.beyond[0, station - 1, True])
            self.part_at[0, station, 0] = u, 0.0
            u += self.parts[0, station, 0].width
            if station < self.phases.count:
                u += self.beyond[0, station, False]
                u += _BESIDE * (u > 0)
                self._place_beside(station, u, False)
                first, begins = u, []
                for width in self.widths[station]:
                    begins.append(u)
                    u += width + BETWEEN_FRAMES
                u -= BETWEEN_FRAMES
                self.begins.append(begins)
                self.extent.append((first, u))
                u += _BESIDE
        self.width = u

    def _place_beside(self, phase: int, u: float, right: bool) -> None:
        for key, part in self.parts.items():
            region, station, side = key
            if region and side == (-1 if right else 1) and station == phase + right:
                children = self.scene.regions[region].children
                inner = [self.beyond[c, phase, right] for c in children if phase in self.phases.of_region[c]]
                reach = max(inner, default=0.0)
                self.part_at[key] = (u + reach if right else u - reach - part.width), 0.0

    def _lift(self) -> None:
        """From heights within regions to heights in the drawing."""
        scene = self.scene
        self.up = [0.0] * len(scene.regions)
        for region in range(len(scene.regions)):
            for unit in self.phases.units.get(region, ()):
                what, number = unit
                if what == "region":
                    self.up[number] = self.up[region] + self.rise[unit]
                else:
                    phase = scene.tracks[number].phase
                    band = self.ways[phase].tracks.index(number)
                    self.sheets[phase].lift(band, self.up[region] + self.rise[unit])
        for key, (u, _) in self.part_at.items():
            self.part_at[key] = u, self.up[key[0]]
        for key in sorted(self.joints.within, key=lambda part: len(self.phases.around(part[0]))):
            around = self.joints.within[key]
            u, v = self.part_at[around]
            left, low = self.parts[around].corner[key]
            self.part_at[key] = (
                u + left + HOUSE_PAD + self.before,
                v + low + HOUSE_PAD - self.parts[key].low,
            )
        outer = [part for (region, _, _), part in self.parts.items() if not region]
        most = max((len(names) for names in self.joints.through.values()), default=0)
        through = self.low[0] - self.lane_step * most - 4.0 if most else 0.0
        self.bottom = min([self.low[0], through, *(part.low for part in outer)])
        self.top = max([self.high[0], *(part.high for part in outer)])
