"""Timesteps drawn: each kind of timestep is worked out once, and then only moved along time."""

from __future__ import annotations

from collections.abc import Iterable

from tensorgrad.viz.picture import Outline, Placed, Wire, WireKind
from tensorgrad.viz.place.assembly import BETWEEN_FRAMES, BLOCK_PAD, Assembly
from tensorgrad.viz.place.paper import Paper
from tensorgrad.viz.place.ways import Plan, Points
from tensorgrad.viz.style.text import TITLE, text_width

__all__ = ["Stamps", "fitted"]

_KINDS: dict[str, WireKind] = {
    "edge": "edge",
    "back": "edge",
    "blocks": "edge",
    "loop": "loop",
    "carried": "carried",
    "skip": "skip",
}
_UNDER = 6.0


def fitted(title: str, room: float) -> str:
    """A title that is no wider than its outline.

    Example:
        >>> fitted("encoder", 100.0), fitted("encoder", 50.0)
        ('encoder', 'enc…')
    """
    room -= 12.0
    if text_width(title, TITLE.size, TITLE.bold) <= room:
        return title
    title = title[:200]
    while title and text_width(f"{title}…", TITLE.size, TITLE.bold) > room:
        title = title[:-1]
    return f"{title}…"


class Stamps:
    """What is within the phases.

    Attributes:
        placed: by box, its place; None for what stands outside of the timesteps.
        outlines: of timesteps, and of scopes within them.
        frame, block: by timestep, the left, lower, right and upper edge of its frame, and of its box if it is
            a block.
    """

    def __init__(self, everything: Assembly, paper: Paper) -> None:
        self.all, self.paper = everything, paper
        self.scene = everything.scene
        self.placed: list[Placed | None] = [None] * len(self.scene.boxes)
        self.outlines: list[Outline] = []
        self.frame: dict[int, tuple[float, float, float, float]] = {}
        self.block: dict[int, tuple[float, float, float, float]] = {}
        self.shift: dict[int, float] = {}
        self.labelled: set[tuple[str, str]] = set()
        self._find_frames()
        self._find_hues()
        for phase in range(len(everything.sheets)):
            self._stamp_boxes(phase)
            self._stamp_wires(phase)

    def _find_frames(self) -> None:
        before = self.all.before
        for phase, (ways, sheet) in enumerate(zip(self.all.ways, self.all.sheets, strict=True)):
            begins, widths = self.all.begins[phase], self.all.widths[phase]
            for band, t in enumerate(ways.tracks):
                low = sheet.floor[ways.base[band]]
                high = low + sheet.heights[band]
                for number in self.scene.tracks[t].steps:
                    step = self.scene.steps[number]
                    first, last = step.columns
                    left, right = begins[first], begins[last] + widths[last]
                    self.frame[number] = left, low, right, high
                    self.shift[number] = left + round(right - left - sheet.width) / 2
                    if step.block:
                        self.block[number] = (
                            left + max(before, BLOCK_PAD),
                            low + BLOCK_PAD,
                            right - BLOCK_PAD,
                            high - max(self.all.title, BLOCK_PAD),
                        )

    def _find_hues(self) -> None:
        """A colour for each value that several timesteps use."""
        users: dict[int, set[int]] = {}
        for ways in self.all.ways:
            for bus in ways.buses.values():
                if not bus.out:
                    users.setdefault(bus.box, set()).update(number for _, number in bus.taps)
        many = (box for box, steps in users.items() if len(steps) > 1)
        self.hue = {box: hue for hue, box in enumerate(many)}
        for _, box in sorted(self.all.joints.spread):
            self.hue.setdefault(box, len(self.hue))

    # --- boxes and outlines ------------------------------------------------------------------------------
    def _stamp_boxes(self, phase: int) -> None:
        scene, paper = self.scene, self.paper
        ways, sheet = self.all.ways[phase], self.all.sheets[phase]
        boxes, lines, slot_of, placed = scene.boxes, scene.lines, self.all.slot_of, self.placed
        stamps = [paper.rectangle(*sheet.box(slot)) for slot in range(len(ways.slots))]
        along, across = (0.0, 1.0) if paper.vertical else (1.0, 0.0)
        for t in ways.tracks:
            for number in scene.tracks[t].steps:
                step = scene.steps[number]
                if step.frame is not None:
                    at = paper.rectangle(*self.frame[number])
                    title = fitted(step.frame.title, at[2])
                    self.outlines.append(Outline(step.frame, *at, title))
                if step.block:
                    i = step.boxes[0]
                    placed[i] = Placed(boxes[i], *paper.rectangle(*self.block[number]), lines[i])
                    continue
                right, down = self.shift[number] * along, self.shift[number] * across
                for i in step.boxes:
                    x, y, width, height = stamps[slot_of[i]]
                    placed[i] = Placed(boxes[i], x + right, y + down, width, height, lines[i])
        self._stamp_nests(phase)

    def _stamp_nests(self, phase: int) -> None:
        """The scopes within timesteps."""
        ways, sheet = self.all.ways[phase], self.all.sheets[phase]
        frames = {frame.id: frame for frame in self.scene.model.frames}
        for band, scope in sheet.nests.spans:
            left, low, right, high = sheet.nests.edges((band, scope), sheet.floor)
            for number in self.scene.tracks[ways.tracks[band]].steps:
                step = self.scene.steps[number]
                frame = frames.get(step.frame.id + scope) if step.frame else None
                if frame is not None and not step.block:
                    shift = self.shift[number] + sheet.left
                    at = self.paper.rectangle(left + shift, low, right + shift, high)
                    if self._holds_only(frame.id, at, step.boxes):
                        self.outlines.append(Outline(frame, *at, fitted(frame.title, at[2])))

    def _holds_only(self, frame: str, at: tuple[float, float, float, float], boxes: Iterable[int]) -> bool:
        """Whether an outline would hold all boxes in its frame and no other."""
        left, top, width, height = at
        for placed in filter(None, (self.placed[i] for i in boxes)):
            right, bottom = placed.x + placed.width, placed.y + placed.height
            # How far the box reaches beyond each side of the outline, and how far it stays away from it.
            beyond = (left - placed.x, right - left - width, top - placed.y, bottom - top - height)
            away = (left - right, placed.x - left - width, top - bottom, placed.y - top - height)
            own = placed.box.frame == frame or placed.box.frame.startswith(f"{frame}.")
            if max(beyond) > 0 if own else max(away) < 0:
                return False
        return True

    # --- wires -------------------------------------------------------------------------------------------
    def _stamp_wires(self, phase: int) -> None:
        scene, paper = self.scene, self.paper
        arrows, steps, tails, home = scene.arrows, scene.steps, scene.tails, scene.home
        edges = paper.layer("edge")
        for number, plans in self.all.ways[phase].plans.items():
            shift = self.shift[number]
            for k, plan in zip(steps[number].arrows, plans, strict=True):
                arrow = arrows[k]
                kind = plan.kind
                if kind == "edge":
                    if 0.0 not in plan.drawn:
                        plan.drawn[0.0] = paper.way(self._upward(phase, plan))
                    points = paper.later(plan.drawn[0.0], shift)
                    edges.append(
                        Wire("edge", arrow.tail, arrow.head, points, True, arrow.shares, arrow.label)
                    )
                elif kind == "tap":
                    self._tap(phase, number, k, plan)
                elif kind == "join":
                    pass
                elif plan.exit is not None and plan.entry is not None and kind != "skip":
                    far = self.shift[home[tails[k]]] - shift
                    if far not in plan.drawn:
                        plan.drawn[far] = paper.way(self._through(phase, plan, far))
                    points = paper.later(plan.drawn[far], shift)
                    label = self._label(kind, k, number)
                    wire = Wire(_KINDS[kind], arrow.tail, arrow.head, points, True, arrow.shares, label)
                    paper.layer(_KINDS[kind]).append(wire)
                else:
                    way = self._unlike(phase, number, k, plan)
                    label = self._label(kind, k, number)
                    paper.draw(_KINDS[kind], arrow.tail, arrow.head, way, arrow.shares, label=label)

    def _label(self, kind: str, k: int, number: int) -> str:
        arrow = self.scene.arrows[k]
        label = arrow.label
        if kind == "skip" and not label:
            before, after = self.scene.steps[self.scene.home[self.scene.tails[k]]], self.scene.steps[number]
            if not before.block and not after.block:
                far = after.span[0] - before.span[0]
                label = f"skips {far}" if far > 0 else f"back {-far}"
        if label and kind in ("loop", "skip"):
            # Of several from one box that begin with the same stretch.
            if (arrow.tail, label) in self.labelled:
                return ""
            self.labelled.add((arrow.tail, label))
        return label

    def _tap(self, phase: int, number: int, k: int, plan: Plan) -> None:
        """From a line along time to a box."""
        arrow, bus = self.scene.arrows[k], plan.bus
        assert bus is not None
        hue = self.hue.get(bus.box, -1)
        if hue < 0 or bus.kind == "first":
            # Drawn with its way from outside.
            return
        if plan.sink is None:
            left, _, right, _ = self.block[number]
            way = [(left - BETWEEN_FRAMES / 2, bus.v), (left, bus.v)]
            if bus.right:
                way = [(right + BETWEEN_FRAMES / 2, bus.v), (right, bus.v)]
            self.paper.draw("tap", arrow.tail, arrow.head, way, arrow.shares, hue=hue)
            return
        if 0.0 not in plan.drawn:
            x, v = self.all.sheets[phase].tap(plan.sink)
            plan.drawn[0.0] = self.paper.way([(x, bus.v), (x, v)])
        points = self.paper.later(plan.drawn[0.0], self.shift[number])
        wire = Wire("tap", arrow.tail, arrow.head, points, True, arrow.shares, arrow.label, hue)
        self.paper.layer("tap", hue).append(wire)

    def _upward(self, phase: int, plan: Plan) -> Points:
        assert plan.source is not None
        assert plan.sink is not None
        return self.all.sheets[phase].upward(plan.source, plan.sink)

    def _through(self, phase: int, plan: Plan, far: float) -> Points:
        """Out of a column, and into one next to it or back into the same; relative to the latter."""
        sheet = self.all.sheets[phase]
        assert plan.exit is not None
        assert plan.entry is not None
        assert plan.sink is not None
        out = [(u + far, v) for u, v in sheet.outward(plan.exit)]
        way = sheet.inward(plan.entry, plan.sink)
        lane = sheet.gutter(plan.entry.key, plan.entry.side)
        turn = [] if lane is None else [(lane, out[-1][1]), (lane, way[0][1])]
        return [*out, *turn, *way]

    def _unlike(self, phase: int, number: int, k: int, plan: Plan) -> Points:
        """What begins or ends at a block, or goes under the frames."""
        before = self.scene.home[self.scene.tails[k]]
        if plan.kind == "blocks":
            left, low, right, high = self.block[before]
            _, to_low, _, to_high = self.block[number]
            middle = round(left + right) / 2
            return [(middle, high), (middle, to_low)] if to_low > high else [(middle, low), (middle, to_high)]
        if plan.kind == "skip":
            return self._under(phase, number, k, plan)
        forward = number > before
        sheet = self.all.sheets[phase]
        if plan.exit is not None:
            left, _, right, _ = self.block[number]
            way = [(u + self.shift[before], v) for u, v in sheet.outward(plan.exit)]
            return [*way, (left if forward else right, way[-1][1])]
        assert plan.entry is not None
        assert plan.sink is not None
        left, _, right, _ = self.block[before]
        way = [(u + self.shift[number], v) for u, v in sheet.inward(plan.entry, plan.sink)]
        trunk = plan.entry.source.v if plan.entry.source is not None else way[0][1]
        lane = sheet.gutter(plan.entry.key, plan.entry.side)
        begin = right if forward else left
        if lane is None:
            return [(begin, trunk), *way]
        lane += self.shift[number]
        return [(begin, trunk), (lane, trunk), (lane, way[0][1]), *way]

    def _under(self, phase: int, number: int, k: int, plan: Plan) -> Points:
        """Under the frames; what a block hands on or receives passes its lower side."""
        sheet, ways = self.all.sheets[phase], self.all.ways[phase]
        before = self.scene.home[self.scene.tails[k]]
        band, lane = self.all.band_under(phase, k, number), self.all.skip_lane[k]
        under = sheet.floor[ways.base[band]] - _UNDER - self.all.lane_step * (lane + 0.5)
        count = self.all.under[phase, band]
        points: Points
        if plan.exit is None:
            points = self._below(before, (lane + 0.65) / count, under)
        else:
            points = [(u + self.shift[before], v) for u, v in sheet.outward(plan.exit)]
            at = sheet.gutter((plan.exit.source, plan.exit.side), plan.exit.side)
            assert at is not None
            points += [(at + self.shift[before], points[-1][1]), (at + self.shift[before], under)]
        if plan.entry is None and ways.tracks[band] != self.scene.steps[number].track:
            # Under another band than its own, a block is reached between the frames.
            left, low, _, high = self.block[number]
            gap, v = self.frame[number][0] - BETWEEN_FRAMES / 2, round(low + high) / 2
            return [*points, (gap, under), (gap, v), (left, v)]
        if plan.entry is None:
            return points + self._below(number, (lane + 0.35) / count, under)[::-1]
        assert plan.sink is not None
        way = [(u + self.shift[number], v) for u, v in sheet.inward(plan.entry, plan.sink)]
        at = sheet.gutter(plan.entry.key, plan.entry.side)
        assert at is not None
        at += self.shift[number]
        return [*points, (at, under), (at, way[0][1]), *way]

    def _below(self, number: int, share: float, under: float) -> Points:
        left, low, right, _ = self.block[number]
        at = round(2 * (left + (right - left) * share)) / 2
        return [(at, low), (at, under)]
