"""What is joined from column to column, and to what stands outside of the columns."""

from __future__ import annotations

from collections import Counter, defaultdict

from tensorgrad.viz.place.ways import Bus, Key, Plan, Sink, Source, Ways

__all__ = ["join_columns"]

# A value that so many timesteps use, not counting the next, is drawn as a line with taps; so is what is made
# of values of so many timesteps.
_MANY = 3


def join_columns(ways: Ways) -> None:
    """Find the ways of a phase that lead from column to column, in from outside, and out."""
    _Between(ways).run()


class _Between:
    """The state of one `join_columns`."""

    def __init__(self, ways: Ways) -> None:
        self.ways = ways
        self.scene = ways.scene
        self.cache: dict[Key, Plan] = {}
        # What blocks hand on, and what comes from outside into the first timestep, enters as it does
        # elsewhere, and so is looked at last.
        self.from_blocks: list[tuple[int, int, int, int]] = []
        self.into_first: list[tuple[int, int, int, int]] = []
        self.buses_of: dict[int, list[Bus]] = defaultdict(list)
        self.joins: dict[tuple[int, int], Sink] = {}
        self.distances: dict[tuple[Source, Sink], set[int]] = defaultdict(set)

    def run(self) -> None:
        ways, scene = self.ways, self.scene
        self.far_users, self.far_operands = self.find_far()
        self.users = self.users_from_outside()
        blocks = []
        for band, t in enumerate(ways.tracks):
            for number in scene.tracks[t].steps:
                if ways.kinds[number] < 0:
                    blocks.append(number)
                else:
                    self.into_timestep(band, number)
        for number in blocks:
            self.into_block(number)
        for number, at, k, head in self.into_first:
            self.put(number, at, k, self.first(k, number, head))
        for number, at, k, head in self.from_blocks:
            self.put(number, at, k, self.from_block(k, number, head))
        for j, arrows in scene.gathers.items():
            self.gather(j, [k for k in arrows if ways.here(scene.home[scene.tails[k]])])
        for k in scene.across:
            if ways.here(scene.home[scene.tails[k]]) and not ways.here(scene.home[scene.heads[k]]):
                self.gather(scene.heads[k], [k])

    def find_far(self) -> tuple[Counter[int], Counter[int]]:
        """Of each box of the phase, how many timesteps use it, and how many before it lead to it.

        Its own timestep and those next to that do not count.
        """
        scene, ways = self.scene, self.ways
        users, operands = set(), set()
        for t in ways.tracks:
            for number in scene.tracks[t].steps:
                for k in scene.steps[number].arrows:
                    i = scene.tails[k]
                    before = scene.home[i]
                    if before >= 0 and abs(number - before) > 1 and ways.here(before):
                        one, other = scene.steps[before], scene.steps[number]
                        if not one.block and not other.block and one.columns != other.columns:
                            users.add((i, number))
                            if one.columns[0] < other.columns[0]:
                                operands.add((scene.heads[k], before))
        return Counter(i for i, _ in users), Counter(j for j, _ in operands)

    def users_from_outside(self) -> dict[int, set[int]]:
        """By box outside of the phase, the timesteps of the phase that use it."""
        scene, ways = self.scene, self.ways
        found: dict[int, set[int]] = defaultdict(set)
        for i, arrows in scene.taps.items():
            for k in arrows:
                if ways.here(scene.home[scene.heads[k]]):
                    found[i].add(scene.home[scene.heads[k]])
        for k in scene.across:
            if not ways.here(scene.home[scene.tails[k]]):
                found[scene.tails[k]].add(scene.home[scene.heads[k]])
        return found

    def put(self, number: int, at: int, k: int, plan: Plan) -> None:
        self.ways.plans[number][at] = plan
        if plan.kind == "skip":
            self.ways.skips.append((k, number))

    # --- into timesteps ----------------------------------------------------------------------------------
    def into_timestep(self, band: int, number: int) -> None:
        ways, scene = self.ways, self.scene
        step, kind, first = scene.steps[number], ways.kinds[number], ways.first[band]
        plans = ways.plans[number] = list(ways.inner[band][kind])
        for at, slot in ways.roles[band].templates[kind - ways.offset[band]].entries:
            k = step.arrows[at]
            i = scene.tails[k]
            before = scene.home[i]
            if before >= 0 and scene.steps[before].block and ways.here(before):
                self.from_blocks.append((number, at, k, slot + first))
                continue
            key: Key
            if before < 0 or not ways.here(before):
                key = kind, at, -1 - i
                if self.alone_in_first(i, number):
                    self.into_first.append((number, at, k, slot + first))
                    continue
                if key not in self.cache:
                    self.cache[key] = self.tap(k, slot + first)
            elif self.far_users[i] >= _MANY and abs(number - before) > 1:
                key = kind, at, -1 - i
                if key not in self.cache:
                    self.cache[key] = self.own_tap(k, slot + first)
            elif self.far_operands[scene.heads[k]] >= _MANY and scene.steps[before].columns < step.columns:
                plans[at] = self.join(k, number, slot + first)
                continue
            else:
                key = kind, at, number - before, ways.slot_of[i]
                if key not in self.cache:
                    self.cache[key] = self.between(k, before, number, slot + first)
            plan = plans[at] = self.cache[key]
            if plan.kind == "tap" and plan.bus is not None:
                plan.bus.taps.append((k, number))
            elif plan.kind == "skip":
                ways.skips.append((k, number))

    def between(self, k: int, before: int, number: int, head: int) -> Plan:
        """From one timestep into another."""
        ways, scene = self.ways, self.scene
        arrow = scene.arrows[k]
        one, other = scene.steps[before], scene.steps[number]
        source, sink = (ways.slot_of[scene.tails[k]], arrow.role), (head, arrow.argnum)
        sent, used = {ways.kinds[before]}, {ways.kinds[number]}
        if one.track != other.track and one.columns == other.columns:
            return ways.join(source, sink, sent, used)
        far = number - before
        if one.track == other.track and abs(far) == 1:
            out = ways.leave(source, far, sent)
            return Plan("carried", sink, source, out, ways.enter("next", source, -far, out, sink, used))
        side = 1 if other.columns[0] > one.columns[0] else -1
        out = ways.leave(source, side, sent, under=True)
        # Of one role in different timesteps; of too many they enter together.
        distances = self.distances[source, sink]
        distances.add(far)
        what = (source, far) if len(distances) <= _MANY else source
        return Plan("skip", sink, source, out, ways.enter("skip", what, -side, out, sink, used))

    def alone_in_first(self, i: int, number: int) -> bool:
        """Whether a value from outside is used by the first timestep alone."""
        at_left = not self.scene.steps[number].columns[0] and not self.comes_from_right(i)
        return at_left and self.users[i] == {number}

    def first(self, k: int, number: int, head: int) -> Plan:
        """Into the first timestep: as a value from a timestep before would come."""
        ways, scene = self.ways, self.scene
        i, sink, used = scene.tails[k], (head, scene.arrows[k].argnum), {ways.kinds[number]}
        for entry in ways.entries.values():
            if entry.kind == "next" and entry.side < 0 and entry.source and sink in entry.sinks:
                entry.sinks[sink] |= used
                break
        else:
            entry = ways.enter("first", (i, sink), -1, None, sink, used)
        key = "first", i, entry.key
        if key not in ways.buses:
            ways.buses[key] = Bus(i, "first", ways.level[head], False, entry=entry)
        ways.buses[key].taps.append((k, number))
        return Plan("tap", sink, entry=entry, bus=ways.buses[key])

    def comes_from_right(self, i: int) -> bool:
        station = self.ways.phases.station[i]
        if station < 0:
            track = self.scene.steps[self.scene.home[i]].track
            station = self.scene.tracks[track].phase + 1
        return station > self.ways.phase

    def tap(self, k: int, head: int) -> Plan:
        """From outside of the phase."""
        ways, scene = self.ways, self.scene
        i, arrow = scene.tails[k], scene.arrows[k]
        bus = self.bus_into(i, ways.level[head])
        bus.sinks.add((head, arrow.argnum))
        bus.argnum = min(bus.argnum, arrow.argnum)
        return Plan("tap", (head, arrow.argnum), bus=bus)

    def bus_into(self, i: int, level: int) -> Bus:
        buses = self.ways.buses
        key = "in", i, level
        if key not in buses:
            buses[key] = Bus(i, "in", level, self.comes_from_right(i))
            self.buses_of[i].append(buses[key])
        return buses[key]

    def own_tap(self, k: int, head: int) -> Plan:
        """From a timestep to many others."""
        ways, scene = self.ways, self.scene
        i, arrow = scene.tails[k], scene.arrows[k]
        level = ways.level[head]
        key = "own", i, level
        if key not in ways.buses:
            number = scene.home[i]
            out = ways.leave((ways.slot_of[i], arrow.role), 1, {ways.kinds[number]})
            ways.buses[key] = Bus(i, "own", level, False, home=number, exit=out)
        bus = ways.buses[key]
        bus.sinks.add((head, arrow.argnum))
        bus.argnum = min(bus.argnum, arrow.argnum)
        return Plan("tap", (head, arrow.argnum), bus=bus)

    def join(self, k: int, number: int, head: int) -> Plan:
        """From one of many timesteps into one after them."""
        ways, scene = self.ways, self.scene
        i, j = scene.tails[k], scene.heads[k]
        level = ways.level[ways.slot_of[i]]
        key = "join", j, level
        if key not in ways.buses:
            # All operands come in at the place of one.
            sink = self.joins.setdefault((head, level), (head, scene.arrows[k].argnum))
            entry = ways.enter("join", (head, level), -1, None, sink, {ways.kinds[number]})
            ways.buses[key] = Bus(j, "join", level, True, home=number, entry=entry)
        bus = ways.buses[key]
        bus.taps.append((k, scene.home[i]))
        return Plan("join", (head, scene.arrows[k].argnum), bus=bus)

    # --- out of timesteps --------------------------------------------------------------------------------
    def gather(self, j: int, arrows: list[int]) -> None:
        """To what is outside of the phase."""
        ways, scene = self.ways, self.scene
        many = len({scene.home[scene.tails[k]] for k in arrows}) > 1
        # What a block hands on joins what the other timesteps of its track do.
        usual: dict[int, int] = {}
        for k in arrows:
            number = scene.home[scene.tails[k]]
            if ways.kinds[number] >= 0:
                usual.setdefault(scene.steps[number].track, ways.level[ways.slot_of[scene.tails[k]]])
        station = ways.phases.station[j]
        if station < 0:
            station = scene.tracks[scene.steps[scene.home[j]].track].phase
        for k in arrows:
            i = scene.tails[k]
            number = scene.home[i]
            if ways.kinds[number] >= 0:
                level = ways.level[ways.slot_of[i]]
            else:
                band = ways.tracks.index(scene.steps[number].track)
                level = usual.get(ways.tracks[band], ways.base[band] + ways.roles[band].rows - 1)
            at_right = station > ways.phase and scene.steps[number].columns[1] == ways.columns - 1
            if at_right and not many and ways.kinds[number] >= 0:
                self.last(k, number, level)
                continue
            key = ("gather", j, level) if many else ("out", i, level)
            if key not in ways.buses:
                ways.buses[key] = Bus(
                    j if many else i, "gather" if many else "out", level, station > ways.phase
                )
            ways.buses[key].taps.append((k, number))

    def last(self, k: int, number: int, level: int) -> None:
        """Out of the last timestep of a phase."""
        ways, scene = self.ways, self.scene
        i = scene.tails[k]
        role = scene.arrows[k].role
        key = "last", i, role
        if key not in ways.buses:
            out = ways.leave((ways.slot_of[i], role), 1, {ways.kinds[number]})
            ways.buses[key] = Bus(i, "last", level, True, home=number, exit=out)
        ways.buses[key].taps.append((k, number))

    # --- blocks ------------------------------------------------------------------------------------------
    def into_block(self, number: int) -> None:
        ways, scene = self.ways, self.scene
        step = scene.steps[number]
        ways.plans[number] = [Plan("")] * len(step.arrows)
        for at, k in enumerate(step.arrows):
            i, arrow = scene.tails[k], scene.arrows[k]
            before = scene.home[i]
            if before < 0 or not ways.here(before):
                bus = self.bus_into(i, self.level_in_block(i, number))
                bus.taps.append((k, number))
                plan = Plan("tap", bus=bus)
            elif (one := scene.steps[before]).block:
                plan = Plan("blocks" if one.columns == step.columns else "skip")
            else:
                source = ways.slot_of[i], arrow.role
                next_to = one.track == step.track and abs(number - before) == 1
                side = 1 if step.columns[0] > one.columns[0] else -1
                out = ways.leave(source, side, {ways.kinds[before]}, under=not next_to)
                plan = Plan("carried" if next_to else "skip", source=source, exit=out)
            self.put(number, at, k, plan)

    def level_in_block(self, i: int, number: int) -> int:
        """At which level a value runs into a block: that at which the other timesteps use it."""
        ways = self.ways
        band = ways.tracks.index(self.scene.steps[number].track)
        low = ways.base[band]
        levels = [bus.level for bus in self.buses_of[i] if low <= bus.level < low + ways.roles[band].rows]
        return levels[0] if levels else low

    def from_block(self, k: int, number: int, head: int) -> Plan:
        """What a block hands on enters as it does from a timestep before."""
        ways, scene = self.ways, self.scene
        before, sink = scene.home[scene.tails[k]], (head, scene.arrows[k].argnum)
        one, other = scene.steps[before], scene.steps[number]
        used = {ways.kinds[number]}
        far = number - before
        if one.track != other.track or abs(far) != 1:
            side = -1 if other.columns[0] > one.columns[0] else 1
            return Plan("skip", sink, entry=ways.enter("skip", ("block", head), side, None, sink, used))
        ends = [
            (known == sink, entry, known)
            for entry in ways.entries.values()
            if entry.kind == "next" and entry.side == -far
            for known in entry.sinks
            if known[0] == head
        ]
        if not ends:
            return Plan("carried", sink, entry=ways.enter("next", ("block", sink), -far, None, sink, used))
        _, entry, known = max(ends, key=lambda end: end[0])
        entry.sinks[known] |= used
        return Plan("carried", known, entry=entry)
