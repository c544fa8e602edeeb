"""What is joined from column to column, and to what stands outside of the columns."""

from __future__ import annotations

from collections import Counter, defaultdict

from tensorgrad.viz.place.ways import Bus, Key, Plan, Ways

__all__ = ["join_columns"]

# A value that so many timesteps use, not counting the next, is drawn as a line with taps.
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
        # What blocks hand on enters as it does elsewhere, and so is looked at last.
        self.from_blocks: list[tuple[int, int, int, int]] = []
        self.buses_of: dict[int, list[Bus]] = defaultdict(list)

    def run(self) -> None:
        ways, scene = self.ways, self.scene
        self.far = self.far_users()
        blocks = []
        for band, t in enumerate(ways.tracks):
            for number in scene.tracks[t].steps:
                if ways.kinds[number] < 0:
                    blocks.append(number)
                else:
                    self.into_timestep(band, number)
        for number in blocks:
            self.into_block(number)
        for number, at, k, head in self.from_blocks:
            self.put(number, at, k, self.from_block(k, number, head))
        for j, arrows in scene.gathers.items():
            self.gather(j, [k for k in arrows if ways.here(scene.home[scene.tails[k]])])
        for k in scene.across:
            if ways.here(scene.home[scene.tails[k]]) and not ways.here(scene.home[scene.heads[k]]):
                self.gather(scene.heads[k], [k])

    def far_users(self) -> Counter[int]:
        """Of each box of the phase, how many timesteps use it that are not its own or next to that."""
        scene, ways = self.scene, self.ways
        pairs = set()
        for t in ways.tracks:
            for number in scene.tracks[t].steps:
                for k in scene.steps[number].arrows:
                    i = scene.tails[k]
                    before = scene.home[i]
                    if before >= 0 and abs(number - before) > 1 and ways.here(before):
                        one, other = scene.steps[before], scene.steps[number]
                        if not one.block and not other.block and one.columns != other.columns:
                            pairs.add((i, number))
        return Counter(i for i, _ in pairs)

    def put(self, number: int, at: int, k: int, plan: Plan) -> None:
        self.ways.plans[number][at] = plan
        if plan.kind == "skip":
            self.ways.skips.append((k, number, plan))

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
                if key not in self.cache:
                    self.cache[key] = self.tap(k, slot + first)
            elif self.far.get(i, 0) >= _MANY and abs(number - before) > 1:
                key = kind, at, -1 - i
                if key not in self.cache:
                    self.cache[key] = self.own_tap(k, slot + first)
            else:
                key = kind, at, number - before, ways.slot_of[i]
                if key not in self.cache:
                    self.cache[key] = self.between(k, before, number, slot + first)
            plan = plans[at] = self.cache[key]
            if plan.kind == "tap" and plan.bus is not None:
                plan.bus.taps.append((k, number))
            elif plan.kind == "skip":
                ways.skips.append((k, number, plan))

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
        return Plan("skip", sink, source, out, ways.enter("skip", source, -side, out, sink, used))

    def tap(self, k: int, head: int) -> Plan:
        """From outside of the phase."""
        ways, scene = self.ways, self.scene
        i, arrow = scene.tails[k], scene.arrows[k]
        bus = self.bus_into(i, ways.level[head])
        bus.sinks.add((head, arrow.argnum))
        bus.argnum = min(bus.argnum, arrow.argnum)
        return Plan("tap", (head, arrow.argnum), bus=bus)

    def bus_into(self, i: int, level: int) -> Bus:
        ways, scene = self.ways, self.scene
        key = "in", i, level
        if key not in ways.buses:
            station = ways.phases.station[i]
            if station < 0:
                station = scene.tracks[scene.steps[scene.home[i]].track].phase + 1
            ways.buses[key] = Bus(i, "in", level, station > ways.phase)
            self.buses_of[i].append(ways.buses[key])
        return ways.buses[key]

    def own_tap(self, k: int, head: int) -> Plan:
        """From a timestep to many others."""
        ways, scene = self.ways, self.scene
        i, arrow = scene.tails[k], scene.arrows[k]
        level = ways.level[head]
        key = "own", i, level
        if key not in ways.buses:
            number = scene.home[i]
            out = ways.leave((ways.slot_of[i], arrow.role), 1, {ways.kinds[number]})
            ways.buses[key] = Bus(i, "own", level, False, origin=(out, number))
        bus = ways.buses[key]
        bus.sinks.add((head, arrow.argnum))
        bus.argnum = min(bus.argnum, arrow.argnum)
        return Plan("tap", (head, arrow.argnum), bus=bus)

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
            key = ("gather", j, level) if many else ("out", i, level)
            if key not in ways.buses:
                ways.buses[key] = Bus(j if many else i, "gather" if many else "out", level, station > ways.phase)
            ways.buses[key].taps.append((k, number))

    # --- blocks ------------------------------------------------------------------------------------------
    def into_block(self, number: int) -> None:
        ways, scene = self.ways, self.scene
        step = scene.steps[number]
        ways.plans[number] = [Plan("")] * len(step.arrows)
        for at, k in enumerate(step.arrows):
            i, arrow = scene.tails[k], scene.arrows[k]
            before = scene.home[i]
            one = scene.steps[before]
            if before < 0 or not ways.here(before):
                plan = Plan("tap", bus=self.bus_into(i, self.level_in_block(i, number)))
                assert plan.bus is not None
                plan.bus.taps.append((k, number))
            elif one.block:
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
