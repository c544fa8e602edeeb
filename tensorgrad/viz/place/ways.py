"""The ways of a phase: what is joined to what in the column that all its timesteps share.

Arrows that join the same slots over the same distance in time are one way, however many timesteps there are.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable
from dataclasses import dataclass, field

from tensorgrad.viz.place.phases import Phases
from tensorgrad.viz.place.rows import Roles, roles_of

__all__ = ["Bus", "Entry", "Exit", "Key", "Plan", "Points", "Sink", "Source", "Ways"]

Points = list[tuple[float, float]]
Key = tuple[Hashable, ...]
Source = tuple[int, str]
"""A slot, and which of its values where it has several."""
Sink = tuple[int, int]
"""A slot, and which of its operands."""


@dataclass(slots=True)
class Exit:
    """How a value leaves its column.

    Attributes:
        source: what leaves.
        side: -1 to the left, 1 to the right.
        templates: the kinds of timesteps in which it does.
        under: whether it goes on under the frames, and not only straight to the next one.
        aside: whether it leaves through the side of its box, and not through the channel above.
        v: at which height.
    """

    source: Source
    side: int
    templates: set[int] = field(default_factory=set)
    under: bool = False
    aside: bool = True
    v: float = 0.0


@dataclass(slots=True)
class Entry:
    """How a value enters a column, on one side, for all that use it there.

    Attributes:
        key: of what enters, by which way.
        side: -1 from the left, 1 from the right.
        source: how it left; None if a block hands it on.
        kind: "next" from a neighbour, "skip" from under the frames, "loop" from the same column; "first" from
            outside into the first timestep, "join" from a line of the values of many timesteps.
        sinks: the kinds of timesteps in which it is used there, by who uses it.
        aside: those of them that are entered through the side.
        heights: at which each is entered.
    """

    key: Key
    side: int
    source: Exit | None
    kind: str
    sinks: dict[Sink, set[int]] = field(default_factory=dict)
    aside: set[Sink] = field(default_factory=set)
    heights: dict[Sink, float] = field(default_factory=dict)


@dataclass(slots=True)
class Bus:
    """A line along time in a channel: a value for many timesteps, or of many for one operation.

    Attributes:
        box: the value; for a gather the operation.
        kind: "in" for a value from outside of the phase, "own" for one of a timestep of its own; "out" for a
            value that leads outside, "gather" for many that do, "join" for many that lead to one timestep. At
            the ends of a phase, "first" is a value that enters the first timestep, and "last" one that leaves
            the last.
        level: of the users, below which it runs; or of the operands, above which it does.
        right: whether it comes from, or goes to, the right end.
        taps: the arrows, and the timestep of each.
        sinks: who uses it.
        argnum: the least of those of the users.
        home: the timestep that a value of the phase's own comes from, or that many lead to.
        exit: how a value of its own or of the last timestep leaves its column.
        entry: how a value enters the first timestep, or how many enter theirs.
        lane: in its channel.
        v: its height.
    """

    box: int
    kind: str
    level: int
    right: bool
    taps: list[tuple[int, int]] = field(default_factory=list)
    sinks: set[Sink] = field(default_factory=set)
    argnum: int = 1 << 30
    home: int = -1
    exit: Exit | None = None
    entry: Entry | None = None
    lane: int = 0
    v: float = 0.0

    @property
    def out(self) -> bool:
        """Whether operands lead to it, and not it to users."""
        return self.kind in ("out", "gather", "join", "last")

    @property
    def inner(self) -> bool:
        """Whether it begins and ends within the phase."""
        return self.kind in ("own", "join")

    @property
    def beside(self) -> bool:
        """Whether it needs no lane of its own."""
        return self.kind in ("first", "last")


@dataclass(slots=True)
class Plan:
    """How an arrow into a timestep is drawn: the same object for all arrows that are drawn alike.

    Attributes:
        kind: "edge", "back" for one that leads down in its column, "loop", "carried", "skip", "tap", "join"
            for one of many that lead to one timestep, or "blocks" from one block to another in its column;
            empty until it is found.
        sink: who uses it; None for a block.
        source, exit, entry, bus: the way that it takes; a block has neither source nor exit.
        drawn: by distance along time, the way in the picture, once it is known.
    """

    kind: str
    sink: Sink | None = None
    source: Source | None = None
    exit: Exit | None = None
    entry: Entry | None = None
    bus: Bus | None = None
    drawn: dict[float, Points] = field(default_factory=dict)


class Ways:
    """Slots, levels and ways of one phase.

    Levels count rows from below over all bands, with a level for the border below each band and above the
    last. Kinds of timesteps, too, are numbered over all bands.

    Attributes:
        tracks: from below.
        roles: of each band.
        base: of each band, the level of its first row.
        slots: the slots of all bands.
        level, band: by slot.
        slot_of: by box, its slot.
        kinds: by timestep, its kind; -1 for a block.
        columns: how many there are.
        first, offset: of each band, the numbers of its first slot and of its first kind of timestep.
        inner: of each band, by kind of timestep, a plan for each arrow, but for those from outside.
        links: by source, its sinks within the column, each with the kinds of timesteps in which it is one.
        exits, entries, buses: how values leave and enter columns, and run along time, by key.
        plans: by timestep, one for each arrow into it.
        skips: (arrow, timestep) of all that go under the frames.
    """

    def __init__(self, phases: Phases, phase: int, slot_of: list[int]) -> None:
        self.phases, self.phase = phases, phase
        self.scene = phases.scene
        self.tracks = phases.tracks[phase]
        self.slot_of = slot_of
        self._find_slots()
        self._find_columns()
        self.links: dict[Source, dict[Sink, set[int]]] = defaultdict(dict)
        self.exits: dict[Key, Exit] = {}
        self.entries: dict[Key, Entry] = {}
        self.buses: dict[Key, Bus] = {}
        self.plans: dict[int, list[Plan]] = {}
        self.skips: list[tuple[int, int]] = []
        self.inner = [self._inside(band) for band in range(len(self.tracks))]

    def _find_slots(self) -> None:
        scene = self.scene
        self.roles: list[Roles] = [roles_of(scene, scene.tracks[t]) for t in self.tracks]
        self.base: list[int] = []
        self.first: list[int] = []
        self.offset: list[int] = []
        self.slots = [slot for roles in self.roles for slot in roles.slots]
        self.level: list[int] = []
        self.band: list[int] = []
        self.kinds: dict[int, int] = {}
        level, kinds = 1, 0
        for band, (track, roles) in enumerate(zip(self.tracks, self.roles, strict=True)):
            first = len(self.level)
            self.base.append(level)
            self.first.append(first)
            self.offset.append(kinds)
            for one in roles.slots:
                self.level.append(level + one.row)
                self.band.append(band)
                one.templates = {kind + kinds for kind in one.templates}
            for number, kind in zip(scene.tracks[track].steps, roles.of_step, strict=True):
                self.kinds[number] = kind if kind < 0 else kind + kinds
                if kind >= 0:
                    for i, slot in zip(scene.steps[number].boxes, roles.templates[kind].slots, strict=True):
                        self.slot_of[i] = slot + first
            kinds += len(roles.templates)
            level += roles.rows + 1
        self.levels = level

    def _find_columns(self) -> None:
        """Which columns each timestep takes; a block where another track is not cut takes several."""
        steps = [self.scene.steps[s] for t in self.tracks for s in self.scene.tracks[t].steps]
        ends = {step.span[0] for step in steps}
        if any(step.block for step in steps):
            after = {step.span[1] + 1 for step in steps}
            ends |= {end for end in after if any(s.span[0] < end <= s.span[1] for s in steps if s.block)}
        times = sorted(ends)
        place = {time: at for at, time in enumerate(times)}
        for step in steps:
            first, last = step.span
            inside = (place[t] for t in times if first <= t <= last) if step.block else ()
            step.columns = place[first], max(inside, default=place[first])
        self.columns = len(times)

    def here(self, step: int) -> bool:
        """Whether a timestep is one of this phase."""
        return self.scene.tracks[self.scene.steps[step].track].phase == self.phase

    # --- within a column ---------------------------------------------------------------------------------
    def _inside(self, band: int) -> dict[int, list[Plan]]:
        """By kind of timestep a plan for each arrow; of those from outside it is still to be found."""
        scene, roles = self.scene, self.roles[band]
        first, offset = self.first[band], self.offset[band]
        example = {
            self.kinds[number]: scene.steps[number].arrows for number in scene.tracks[self.tracks[band]].steps
        }
        found = {}
        for kind, template in enumerate(roles.templates, offset):
            plans = [Plan("")] * len(example[kind])
            for joins, loop in ((template.links, False), (template.loops, True)):
                for at, tail, head in joins:
                    arrow = scene.arrows[example[kind][at]]
                    source, sink = (tail + first, arrow.role), (head + first, arrow.argnum)
                    plans[at] = (
                        self.turn("loop", source, sink, {kind}, {kind})
                        if loop
                        else self.join(source, sink, {kind}, {kind})
                    )
            found[kind] = plans
        return found

    def join(self, source: Source, sink: Sink, sent: set[int], used: set[int]) -> Plan:
        """A way up within a column; where it does not lead up, round through the gutter."""
        if self.level[source[0]] >= self.level[sink[0]]:
            return self.turn("back", source, sink, sent, used)
        self.links[source].setdefault(sink, set()).update(used)
        return Plan("edge", sink, source)

    def turn(self, kind: str, source: Source, sink: Sink, sent: set[int], used: set[int]) -> Plan:
        """A way out of a column, and back into it on the same side."""
        out = self.leave(source, 1, sent)
        return Plan(kind, sink, source, out, self.enter("loop", source, 1, out, sink, used))

    def leave(self, source: Source, side: int, templates: set[int], under: bool = False) -> Exit:
        """How a source leaves its column in some kinds of timesteps."""
        key = source, side
        if key not in self.exits:
            self.exits[key] = Exit(source, side)
        out = self.exits[key]
        out.templates |= templates
        out.under |= under
        return out

    def enter(
        self, kind: str, what: Hashable, side: int, out: Exit | None, sink: Sink, templates: set[int]
    ) -> Entry:
        """How a value enters the column of a sink."""
        # Its way along the column is apart from that to another band.
        key = kind, what, side, self.band[sink[0]]
        if key not in self.entries:
            self.entries[key] = Entry(key, side, out, kind)
        self.entries[key].sinks.setdefault(sink, set()).update(templates)
        return self.entries[key]
