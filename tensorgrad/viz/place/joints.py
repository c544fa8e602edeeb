"""What is joined across pieces of a drawing, and which parts each way passes.

A part is called by its region, its station and its side: 1 stands just before a phase, within its region's
outline; -1 just after one; 0 between phases, outside of all outlines; 2 is a region without timesteps, which
stands as one item within another part.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable
from dataclasses import dataclass, field

from tensorgrad.viz.place.layers import staged
from tensorgrad.viz.place.parts import Name, Strand
from tensorgrad.viz.place.phases import Phases
from tensorgrad.viz.place.ways import Bus, Key, Ways

__all__ = ["GATHERED", "Joint", "Joints", "PartKey"]

PartKey = tuple[int, int, int]
GATHERED = "g"
"""The port of all operands of an operation that has many."""
# More users or operands than this, in one part, are drawn as a line with taps.
_MANY = 6


@dataclass(slots=True)
class Joint:
    """The ends of what is joined.

    Attributes:
        outs: the boxes outside of the timesteps that it comes from.
        ins: (box, port) of those it leads to; the port is the number of the arrow, or `GATHERED`.
        buses: (phase, key, bus) of those it comes from or leads to.
    """

    outs: list[int] = field(default_factory=list)
    ins: list[tuple[int, Hashable]] = field(default_factory=list)
    buses: list[tuple[int, Key, Bus]] = field(default_factory=list)


class Joints:
    """Joints, parts and their strands.

    Attributes:
        of: by name.
        part_of: by box outside of the timesteps, the part it stands in.
        members: by part, its boxes.
        used: the parts that anything stands in.
        within: by part that stands in another, that other.
        strands: by part, what is joined in it.
        outer: by part and name, the edge at which it leaves the part for the one around it.
        through: by phase, what passes it from one station to the next.
        spread: what has its many users all in its own part.
        collected: the arrows of what has its many operands all in its own part.
    """

    def __init__(self, phases: Phases, ways: list[Ways]) -> None:
        self.phases, self.ways = phases, ways
        self.scene = phases.scene
        self._find_parts()
        self._house()
        self._find_joints()
        self._find_strands()

    # --- parts -------------------------------------------------------------------------------------------
    def _find_parts(self) -> None:
        """The part of each box, as if regions without timesteps were no parts."""
        scene, phases = self.scene, self.phases
        self.part_of: dict[int, PartKey] = {}
        for i, region in enumerate(scene.region):
            if region < 0:
                continue
            station = phases.station[i]
            while region:
                before, after = station in phases.of_region[region], station - 1 in phases.of_region[region]
                if before != after:
                    break
                region = scene.regions[region].parent
            self.part_of[i] = (region, station, 0 if not region else 1 if before else -1)

    def _house(self) -> None:
        """Make a part of each region without timesteps whose boxes stand together."""
        scene = self.scene
        inside: dict[int, list[int]] = defaultdict(list)
        for i, region in enumerate(scene.region):
            while region > 0 and not self.phases.of_region[region]:
                inside[region].append(i)
                region = scene.regions[region].parent
        self.within: dict[PartKey, PartKey] = {}
        for region in sorted(inside):
            homes = {self.part_of[i] for i in inside[region]}
            if len(homes) == 1 and self._stands_apart(inside[region]):
                (home,) = homes
                key = region, home[1], 2
                self.within[key] = home
                for i in inside[region]:
                    self.part_of[i] = key
        self.members: dict[PartKey, list[int]] = defaultdict(list)
        for i, part in self.part_of.items():
            self.members[part].append(i)
        self.used = {*self.members, *self.within.values()}

    def _stands_apart(self, boxes: list[int]) -> bool:
        """Whether no way leads out of some boxes of a part and back into them."""
        home = self.part_of[boxes[0]]
        own = set(boxes)
        number: dict[Hashable, int] = {}

        def item(i: int) -> int:
            # A part within this one that has been found to stand apart counts as one.
            part = self.part_of[i]
            while part != home and self.within.get(part, home) != home:
                part = self.within[part]
            return number.setdefault("own" if i in own else i if part == home else part, len(number))

        around = [i for i, part in self.part_of.items() if part == home or self._inside(part, home)]
        known = set(around)
        edges = [
            (item(self.scene.tails[k]), item(self.scene.heads[k]))
            for k in self.scene.outside
            if self.scene.tails[k] in known and self.scene.heads[k] in known
        ]
        level, _ = staged(len(number), edges)
        return all(a == b or level[a] < level[b] for a, b in edges)

    def _inside(self, part: PartKey, home: PartKey) -> bool:
        while part in self.within:
            part = self.within[part]
            if part == home:
                return True
        return False

    def chain_of(self, box: int) -> list[PartKey]:
        """The parts around a box, from the inside outwards."""
        part = self.part_of[box]
        found = []
        while part in self.within:
            found.append(part)
            part = self.within[part]
        region, station, side = part
        return [*found, *self._outwards(region, station, side)]

    def chain_at(self, phase: int, bus: Bus) -> list[PartKey]:
        """The parts between the edge of a phase and the outside, from the inside outwards."""
        track = self.ways[phase].tracks[self.band(phase, bus)]
        station, side = (phase + 1, -1) if bus.right else (phase, 1)
        return self._outwards(self.scene.tracks[track].region, station, side)

    def band(self, phase: int, bus: Bus) -> int:
        """The band that a bus runs in."""
        bases = self.ways[phase].base
        return max(band for band, base in enumerate(bases) if base <= bus.level)

    def _outwards(self, region: int, station: int, side: int) -> list[PartKey]:
        around = [(number, station, side) for number in self.phases.around(region) if number]
        return [*(part for part in around if part in self.used), (0, station, 0)]

    # --- joints ------------------------------------------------------------------------------------------
    def _find_joints(self) -> None:
        scene = self.scene
        self.of: dict[Name, Joint] = defaultdict(Joint)
        pairs: dict[tuple[int, int], int] = defaultdict(int)
        for k in scene.outside:
            pairs[scene.tails[k], scene.heads[k]] += 1
        self._find_collected()
        for k in scene.outside:
            i, j = scene.tails[k], scene.heads[k]
            if ("g", j) not in self.collected:
                # Many arrows from one box to another have one port.
                self.of["v", i].ins.append((j, k if pairs[i, j] <= 2 else -1 - i))
        for name, arrows in self.collected.items():
            self.of[name] = Joint(list(dict.fromkeys(scene.tails[k] for k in arrows)), [(name[1], GATHERED)])
        for phase, ways in enumerate(self.ways):
            for key, bus in ways.buses.items():
                if bus.inner:
                    continue
                gather = bus.kind == "gather"
                joint = self.of["g" if gather else "v", bus.box]
                joint.buses.append((phase, key, bus))
                if gather:
                    joint.ins = [(bus.box, GATHERED)] if scene.home[bus.box] < 0 else []
                elif bus.out:
                    heads = [(scene.heads[k], k) for k, _ in bus.taps if scene.home[scene.heads[k]] < 0]
                    one = len({j for j, _ in heads}) == 1 and len(heads) > 2
                    joint.ins += [(j, -1 - bus.box if one else k) for j, k in heads]
        self.spread: set[Name] = set()
        for name, joint in self.of.items():
            what, box = name
            joint.ins = list(dict.fromkeys(joint.ins))
            if what == "v" and scene.home[box] < 0:
                joint.outs.append(box)
                parts = {self.part_of[j] for j, _ in joint.ins}
                if len({j for j, _ in joint.ins}) > _MANY and parts == {self.part_of[box]}:
                    self.spread.add(name)

    def _find_collected(self) -> None:
        scene = self.scene
        operands: dict[int, list[int]] = defaultdict(list)
        for k in scene.outside:
            operands[scene.heads[k]].append(k)
        self.collected: dict[Name, list[int]] = {}
        for j, arrows in operands.items():
            tails = {scene.tails[k] for k in arrows}
            alone = len(tails) > _MANY and j not in scene.gathers
            if alone and {self.part_of[i] for i in tails} == {self.part_of[j]}:
                self.collected["g", j] = arrows

    def port(self, box: int, k: int) -> tuple[int, Hashable]:
        """Where an arrow from a value ends at a box outside of the timesteps."""
        shared = box, -1 - self.scene.tails[k]
        return shared if shared in self.of["v", self.scene.tails[k]].ins else (box, k)

    def _find_strands(self) -> None:
        self.strands: dict[PartKey, dict[Name, Strand]] = defaultdict(lambda: defaultdict(Strand))
        self.outer: dict[tuple[PartKey, Name], str] = {}
        self.through: dict[int, list[Name]] = defaultdict(list)
        for name, joint in self.of.items():
            ends = [(self.chain_of(box), True) for box in joint.outs]
            ends += [(self.chain_of(box), False) for box, _ in joint.ins]
            ends += [(self.chain_at(phase, bus), bus.out) for phase, _, bus in joint.buses]
            if ends:
                self._pass(name, ends)
            for box in joint.outs:
                self.strands[self.part_of[box]][name].sources.append(box)
            for box, port in joint.ins:
                self.strands[self.part_of[box]][name].sinks.append((box, port))
        for part, around in self.within.items():
            for name in self.strands[part]:
                edge = self.outer.get((part, name))
                strand = self.strands[around][name] if edge else None
                if strand is not None and edge == "right":
                    strand.sources.append(part)
                elif strand is not None:
                    strand.sinks.append((part, "in"))

    def _pass(self, name: Name, ends: list[tuple[list[PartKey], bool]]) -> None:
        """Note the parts that are passed on the way from one end to the others."""
        chains = [chain for chain, _ in ends]
        shared = next((part for part in chains[0] if all(part in chain for chain in chains)), None)
        for chain, begins in ends:
            for part in chain:
                self.strands[part].setdefault(name, Strand())
                if part == shared:
                    break
                if part[2] == 2:
                    if begins or (part, name) not in self.outer:
                        self.outer[part, name] = "right" if begins else "left"
                elif part[0]:
                    self.outer[part, name] = "left" if part[2] > 0 else "right"
        stations = [chain[-1][1] for chain in chains]
        if len(set(stations)) > 1:
            for station in range(min(stations), max(stations) + 1):
                self.strands[0, station, 0].setdefault(name, Strand())
            for phase in range(min(stations), max(stations)):
                self.through[phase].append(name)
