"""Which boxes of different timesteps play the same role, and in which row each role stands.

A role is known by its structure: the operation, its label, and the roles of its operands within the timestep.
What comes from outside of the timestep, and leaves, count as one and the same, so that the first timestep
with its zeros fits those after it. A timestep is looked at only if none before it was built in the same way.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Hashable
from dataclasses import dataclass, field

from tensorgrad.viz.place.layers import settle, staged
from tensorgrad.viz.place.scene import INTEGER, Scene, Step, Track

__all__ = ["Roles", "Slot", "Template", "roles_of"]

_FEW_SCOPES = 12


@dataclass(slots=True)
class Slot:
    """The place of one role in the column of a track.

    Attributes:
        width, height: room for the largest of its boxes, along the time axis and across it.
        leaf: whether nothing within a timestep leads to it, nor could.
        scope: the frame within the timestep that it stands in, from the timestep's own on; empty for that.
        templates: in which kinds of timesteps it is there.
        row: from 0 up.
    """

    width: float
    height: float
    leaf: bool
    scope: str
    templates: set[int] = field(default_factory=set)
    row: int = 0


@dataclass(slots=True)
class Template:
    """What timesteps that are built alike have in common.

    Attributes:
        slots: by box of the timestep, the number of its slot.
        links: of the arrows within the timestep (which of its arrows, tail slot, head slot).
        loops: of those that lead to the next timestep although only one is drawn, the same.
        entries: of the arrows from outside (which of its arrows, head slot).
    """

    slots: tuple[int, ...]
    links: list[tuple[int, int, int]] = field(default_factory=list)
    loops: list[tuple[int, int, int]] = field(default_factory=list)
    entries: list[tuple[int, int]] = field(default_factory=list)


@dataclass(slots=True)
class Roles:
    """The roles of a track.

    Attributes:
        slots: all of them.
        templates: the kinds of timesteps.
        of_step: by timestep of the track, the number of its kind; -1 for a block.
        rows: how many there are.
    """

    slots: list[Slot]
    templates: list[Template]
    of_step: list[int]
    rows: int = 0


def roles_of(scene: Scene, track: Track) -> Roles:
    """Match the timesteps of a track, and find the rows."""
    local = [0] * len(scene.boxes)
    kinds: dict[Hashable, int] = {}
    examples: list[Step] = []
    of_step: list[int] = []
    tails, heads, home, arrows, token = scene.tails, scene.heads, scene.home, scene.arrows, scene.token
    for number in track.steps:
        step = scene.steps[number]
        if step.block:
            of_step.append(-1)
            continue
        for at, i in enumerate(step.boxes):
            local[i] = at
        shape: list[Hashable] = [token[i] for i in step.boxes]
        for k in step.arrows:
            i = tails[k]
            arrow = arrows[k]
            before = home[i]
            came = local[i] if before == number else -1 if before < 0 else (before - number, token[i])
            shape.append((local[heads[k]], came, arrow.argnum, arrow.carried, arrow.role))
        key = tuple(shape)
        if key not in kinds:
            kinds[key] = len(examples)
            examples.append(step)
        of_step.append(kinds[key])
    roles = Roles([], [], of_step)
    names = Counter(scene.boxes[i].name for step in examples for i in set(step.boxes) if scene.boxes[i].op)
    known: dict[Hashable, int] = {}
    for step in examples:
        _match(scene, step, names, known, roles)
    # Boxes of one role differ in size where a note says more.
    for number, kind in zip(track.steps, of_step, strict=True):
        if kind >= 0:
            for i, slot in zip(scene.steps[number].boxes, roles.templates[kind].slots, strict=True):
                width, height = scene.size[i]
                one = roles.slots[slot]
                if width > one.width:
                    one.width = width
                if height > one.height:
                    one.height = height
    _find_rows(roles)
    return roles


def _match(scene: Scene, step: Step, names: Counter[str], known: dict[Hashable, int], roles: Roles) -> None:
    """Add a kind of timestep: find the slots of its boxes, or make them."""
    boxes = scene.boxes
    within = {i: at for at, i in enumerate(step.boxes)}
    operands: dict[int, list[tuple[int, int]]] = {i: [] for i in step.boxes}
    first_use: dict[int, int] = {}
    for k in step.arrows:
        i, j = scene.tails[k], scene.heads[k]
        operands[j].append((scene.arrows[k].argnum, i))
        if i in within:
            first_use.setdefault(i, k)
    is_leaf = {i: not boxes[i].op for i in step.boxes}
    edges = [(within[i], within[j]) for j in step.boxes for _, i in operands[j] if i in within]
    signs: dict[int, Hashable] = {}
    for at in staged(len(step.boxes), edges)[1]:
        i = step.boxes[at]
        if not is_leaf[i]:
            signs[i] = _sign(scene, i, names, [signs.get(o, "") for _, o in sorted(operands[i])])
    for i in step.boxes:
        if is_leaf[i]:
            if i in first_use:
                k = first_use[i]
                signs[i] = "leaf", signs.get(scene.heads[k]), scene.arrows[k].argnum
            else:
                signs[i] = "leaf", boxes[i].name
    number = len(roles.templates)
    times: Counter[Hashable] = Counter()
    slots = []
    for i in step.boxes:
        scope = boxes[i].frame[len(step.frame.id) :] if step.frame else ""
        sign = signs[i], scope
        key = sign, times[sign]
        times[sign] += 1
        if key not in known:
            known[key] = len(roles.slots)
            roles.slots.append(Slot(*scene.size[i], is_leaf[i], scope))
        slot = known[key]
        roles.slots[slot].templates.add(number)
        slots.append(slot)
    template = Template(tuple(slots))
    for at, k in enumerate(step.arrows):
        i, head = scene.tails[k], slots[within[scene.heads[k]]]
        if i not in within:
            template.entries.append((at, head))
        elif scene.arrows[k].carried or i == scene.heads[k]:
            template.loops.append((at, slots[within[i]], head))
        else:
            template.links.append((at, slots[within[i]], head))
    roles.templates.append(template)


def _sign(scene: Scene, i: int, names: Counter[str], operands: list[Hashable]) -> Hashable:
    """What operations of one role have in common."""
    box = scene.boxes[i]
    if box.kind == "cell":
        return ("cell",)
    op = INTEGER.sub("·", box.op.partition("(")[0])
    if not box.name:
        return op, tuple(operands)
    if names[box.name] > 1:
        return box.name, op
    # A label of one timestep alone may have the timestep in it.
    time = scene.steps[scene.home[i]].span[0]
    return re.sub(rf"(?<![0-9]){time}(?![0-9])", "#", box.name), op


def _find_rows(roles: Roles) -> None:
    """The longest way up to each slot; what could stand higher does where that shortens the ways."""
    slots = roles.slots
    edges = list(dict.fromkeys((a, b) for template in roles.templates for _, a, b in template.links))
    scopes: dict[str, list[int]] = defaultdict(list)
    for n, slot in enumerate(slots):
        if slot.scope:
            scopes[slot.scope.split(".")[1]].append(n)
    rows, _ = staged(len(slots), edges)
    limit: dict[int, int] = {}
    if 1 < len(scopes) <= _FEW_SCOPES:
        rows, limit = _by_scope(rows, edges, list(scopes.values()))
    settle(rows, edges, limit=limit)
    for slot, row in zip(slots, rows, strict=True):
        slot.row = row
    roles.rows = 1 + max(rows, default=0)


def _by_scope(
    rows: list[int], edges: list[tuple[int, int]], scopes: list[list[int]]
) -> tuple[list[int], dict[int, int]]:
    """Rows in which a scope that another one feeds stands above all of it; and below what each is to stay."""
    scope_of = {n: s for s, members in enumerate(scopes) for n in members}
    feeds = {(scope_of[a], scope_of[b]) for a, b in edges if a in scope_of and b in scope_of}
    feeds = {(s, t) for s, t in feeds if s != t}
    level, order = staged(len(scopes), feeds)
    if any(level[s] >= level[t] for s, t in feeds):
        return rows, {}
    floor = [0] * len(rows)
    for t in order:
        low = max((1 + max(rows[n] for n in scopes[s]) for s, to in feeds if to == t), default=0)
        for n in scopes[t]:
            floor[n] = low
        rows, _ = staged(len(rows), edges, floor)
    limit: dict[int, int] = {}
    for s, t in feeds:
        above = min(rows[n] for n in scopes[t])
        limit.update((n, min(above, limit.get(n, above))) for n in scopes[s])
    return rows, limit
