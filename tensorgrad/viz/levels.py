"""Less than every operation of every timestep: timesteps left out, as one box each, or rolled into one.

All three take a drawing model and return another, so that what is laid out and written is one kind of thing.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from itertools import groupby
from operator import itemgetter
from typing import Any

from tensorgrad.errors import UserError
from tensorgrad.viz.model import Arrow, Box, Frame, Model
from tensorgrad.viz.steps import ENDS, named_steps

__all__ = ["cells", "chosen_steps", "elided", "rolled", "sequences"]

# Fewer timesteps are not worth a block.
_LEAST_LEFT_OUT = 3
_DOTS = "…"


def sequences(model: Model) -> dict[str, list[Frame]]:
    """The timesteps of each sequence in the order of time, by the id of the frame around them.

    A sequence within a timestep of another is part of that timestep and has none of its own.

    Example:
        >>> sequences(Model((), (), (Frame("t0", "t=0", "", 0), Frame("t1", "t=1", "", 1)))).keys()
        dict_keys([''])
    """
    within: set[str] = set()
    found: dict[str, list[Frame]] = defaultdict(list)
    for frame in model.frames:
        if frame.parent in within:
            within.add(frame.id)
        elif frame.step is not None:
            within.add(frame.id)
            found[frame.parent].append(frame)
    return dict(found)


def chosen_steps(model: Model, steps: str | Iterable[int] | None) -> frozenset[int] | None:
    """The timesteps that were asked for by name; None for all of them.

    Raises:
        UserError: a timestep that the graph does not have, or something that is no timestep.

    Example:
        >>> chosen_steps(Model((), (), (Frame("t0", "t=0", "", 0),)), [0])
        frozenset({0})
    """
    named = named_steps(steps, "draw", "[3]")
    if named is None:
        return None
    there = {frame.step for frames in sequences(model).values() for frame in frames}
    wanted = set()
    # The first that is wrong ends it: there may be any number of them.
    for step in named:
        if not there:
            raise UserError(
                f"draw: there is no timestep {step}: nothing in this graph was made in a scope such as t=0"
            )
        if step not in there:
            first, last = (f"t={end(step or 0 for step in there)}" for end in (min, max))
            raise UserError(f"draw: there is no timestep {step}: the graph has {first} to {last}")
        wanted.add(step)
    return frozenset(wanted)


def elided(model: Model, wanted: Collection[int]) -> Model:
    """The first and last timesteps of every long sequence, those wanted, and a block for what lies between.

    Args:
        model: of every timestep.
        wanted: timesteps to keep besides.

    Example:
        >>> frames = tuple(Frame(f"t{t}", f"t={t}", "", t) for t in range(100))
        >>> [frame.title for frame in elided(Model((), (), frames), [50]).frames[4:8]]
        ['t=4', 't=5 … 49', 't=50', 't=51 … 94']
    """
    blocks: dict[str, Frame] = {}
    for frames in sequences(model).values():
        ends = {frame.id for frame in (*frames[:ENDS], *frames[-ENDS:])}
        left_out = (frame.id not in ends and frame.step not in wanted for frame in frames)
        for between, group in groupby(zip(left_out, frames, strict=True), key=itemgetter(0)):
            gap = [each for _, each in group]
            if between and len(gap) >= _LEAST_LEFT_OUT:
                block = _block(gap)
                blocks.update((each.id, block) for each in gap)
    if not blocks:
        return model
    counts = Counter(block.id for block in blocks.values())
    home, _ = _outermost(model, blocks)
    boxes: list[Box] = []
    moved: dict[str, str] = {}
    begun: set[str] = set()
    for box in model.boxes:
        if box.frame not in home:
            boxes.append(box)
            continue
        block = blocks[home[box.frame]]
        moved[box.id] = f"{block.id}.block"
        if block.id not in begun:
            begun.add(block.id)
            count = counts[block.id]
            span = block.title.replace("=", " = ").replace(_DOTS, "to")
            boxes.append(Box(moved[box.id], "block", f"{count:,} timesteps", span, "", "", block.id, "block"))
    kept = dict.fromkeys(blocks.get(home.get(frame.id, ""), frame) for frame in model.frames)
    roles = {box.id: box.role for box in model.boxes}
    return Model(tuple(boxes), _joined(model.arrows, moved, roles), tuple(kept))


def _block(gap: list[Frame]) -> Frame:
    first, last = gap[0], gap[-1]
    own = first.id.rpartition(".")[2] + "_" + last.id.rpartition(".")[2]
    name = f"{first.parent}.{own}" if first.parent else own
    return _standing_for(replace(first, id=name), gap)


def _standing_for(one: Frame, frames: list[Frame]) -> Frame:
    """A frame that stands for several timesteps."""
    first, last = frames[0].step or 0, frames[-1].step or 0
    # As many as there are: numbers may be left out, and then those in between are none of its own.
    title = f"t={first} {_DOTS} {last}" if len(frames) > 1 else one.title
    return replace(one, title=title, step=first, last=first + len(frames) - 1)


def cells(model: Model, opened: Collection[int] = ()) -> Model:
    """Each timestep as one box for what makes its state, with its inputs, its named outputs and its loss.

    Args:
        model: of any timesteps.
        opened: timesteps that keep all their operations.

    Example:
        >>> import numpy as np, tensorgrad as tg
        >>> from tensorgrad.viz.build import build
        >>> roll = tg.nn.unroll(tg.nn.LSTMCell(2, 3, seed=0), np.ones((2, 1, 2)))
        >>> [box.name for box in cells(build(roll.outputs.sum(), roll)).boxes if box.kind == "cell"]
        ['c, h', 'c, h']
    """
    closed = {
        frame.id: frame
        for frames in sequences(model).values()
        for frame in frames
        if frame.last is None and frame.step not in opened
    }
    home, kept = _outermost(model, closed)
    inside = _made_for_the_state(model, home)
    ids = {box.id for box in model.boxes}
    moved: dict[str, str] = {}
    parts: dict[str, list[Box]] = defaultdict(list)
    for box in model.boxes:
        if box.id in inside:
            frame = home[box.frame]
            name = f"{frame}.cell"
            while name in ids:
                name += "_"
            moved[box.id] = name
            parts[name].append(box)
    boxes: dict[str, Box] = {}
    for box in model.boxes:
        name = moved.get(box.id, box.id)
        if name in parts and name not in boxes:
            boxes[name] = _cell(name, home[box.frame], parts[name])
        elif name not in parts:
            within = home.get(box.frame, box.frame)
            boxes[name] = box if within == box.frame else replace(box, frame=within)
    roles = {box.id: box.role for box in model.boxes if box.id in inside}
    arrows = _joined(model.arrows, moved | _alike(model, home, inside), roles)
    ends = {end for arrow in arrows for end in (arrow.tail, arrow.head)}
    boxes = {name: box for name, box in boxes.items() if name in ends or box.kind == "output"}
    nameless = [
        box.id
        for box in boxes.values()
        if box.frame in closed and box.op and not box.name and box.kind != "cell"
    ]
    arrows = _contracted(arrows, nameless)
    for name in nameless:
        del boxes[name]
    return Model(tuple(boxes.values()), arrows, tuple(kept))


def _made_for_the_state(model: Model, home: Mapping[str, str]) -> set[str]:
    """The ids of the operations within closed timesteps of which the state of the timestep is made."""
    boxes = {box.id: box for box in model.boxes}
    operands: dict[str, list[str]] = defaultdict(list)
    for arrow in model.arrows:
        tail, head = boxes[arrow.tail].frame, boxes[arrow.head].frame
        if not arrow.carried and tail in home and home[tail] == home.get(head):
            operands[arrow.head].append(arrow.tail)
    with_state = {home[box.frame] for box in model.boxes if box.kind == "state" and box.frame in home}
    # Of a timestep without a state all is the cell but what it hands out.
    waiting = [
        box.id
        for box in model.boxes
        if box.frame in home
        and box.op
        and (box.kind == "state" if home[box.frame] in with_state else box.kind != "output")
    ]
    found = set(waiting)
    while waiting:
        for operand in operands[waiting.pop()]:
            if operand not in found and boxes[operand].op:
                found.add(operand)
                waiting.append(operand)
    return found


def _alike(model: Model, home: Mapping[str, str], inside: Collection[str]) -> dict[str, str]:
    """By the id of a constant that only a cell uses that of the first one there that looks the same."""
    first: dict[tuple[str, ...], str] = {}
    elsewhere = {arrow.tail for arrow in model.arrows if arrow.head not in inside}
    return {
        box.id: first.setdefault((home[box.frame], box.name, box.shape, box.dtype), box.id)
        for box in model.boxes
        if box.kind == "constant" and box.frame in home and box.id not in elsewhere
    }


def _cell(name: str, frame: str, parts: list[Box]) -> Box:
    states = [box for box in parts if box.kind == "state"] or parts[-1:]
    named = ", ".join(dict.fromkeys(box.name or box.op for box in states))
    last = states[-1]
    count = f"{len(parts)} operation{'s' if len(parts) > 1 else ''}"
    notes = tuple(f"{box.name or box.role} = {box.op} {box.shape}" for box in parts)
    one = Box(name, "cell", named, count, last.shape, last.dtype, frame, "cell", notes, last.number)
    return replace(one, states=_told_apart(states, frame)) if len(states) > 1 else one


def _told_apart(states: list[Box], frame: str) -> tuple[Box, ...]:
    """The states of a timestep; those of one name, as of two layers, by their places in the timestep."""
    names = Counter(box.name for box in states)
    return tuple(
        box if box.name and names[box.name] == 1 else replace(box, name=box.id[len(frame) + 1 :])
        for box in states
    )


def rolled(model: Model) -> Model:
    """One timestep of every sequence, with a loop for what it hands to the next.

    Args:
        model: of every timestep.

    Example:
        >>> import numpy as np, tensorgrad as tg
        >>> from tensorgrad.viz.build import build
        >>> roll = tg.nn.unroll(tg.nn.RNNCell(2, 3, seed=0), np.ones((5, 1, 2)))
        >>> [(a.tail, a.head, a.label) for a in rolled(build(roll.outputs.sum(), roll)).arrows if a.label]
        [('t2.h', 't2.a', '× 5')]
    """
    # Near the ends a timestep may differ: the first begins with zeros, of a padded batch the last does less.
    shown: dict[str, Frame] = {}
    counts: dict[str, int] = {}
    stands_for: dict[str, str] = {}
    for frames in sequences(model).values():
        one = frames[len(frames) // 2]
        shown[one.id] = _standing_for(one, frames)
        counts[one.id] = len(frames)
        stands_for.update((frame.id, one.id) for frame in frames)
    home, _ = _outermost(model, stands_for)
    timestep = {box.id: home.get(box.frame, "") for box in model.boxes}
    kept = {box.id for box in model.boxes if timestep[box.id] in shown or not timestep[box.id]}
    moved = {
        box.id: stands_for[timestep[box.id]] + box.id[len(timestep[box.id]) :]
        for box in model.boxes
        if box.id not in kept
    }
    steps = {frame.id: frame.step or 0 for frame in model.frames}
    arrows: dict[tuple[str, str, int, str], Arrow] = {}
    # Of what begins or ends outside of the timesteps: those that have it.
    at: dict[tuple[str, str, int, str], list[str]] = defaultdict(list)
    # What touches the timestep shown comes first: the numbers at a line are its own.
    for arrow in sorted(model.arrows, key=lambda arrow: (arrow.tail in moved) + (arrow.head in moved)):
        tail, head = moved.get(arrow.tail, arrow.tail), moved.get(arrow.head, arrow.head)
        before, after = timestep[arrow.tail], timestep[arrow.head]
        if before and before == after and (arrow.tail in moved or arrow.head in moved):
            # What another timestep does within may differ from what this one does.
            continue
        # Outside, thousands of operands may have become one: the losses of all timesteps, stacked.
        key = tail, head, arrow.argnum if timestep[arrow.head] else -1, arrow.role
        if bool(before) != bool(after):
            at[key].append(before or after)
        if tail in kept and head in kept and key not in arrows:
            label = ""
            if before != after and timestep[tail] == timestep[head]:
                skipped = abs(steps[after] - steps[before])
                label = f"× {counts[timestep[head]]}" if skipped == 1 else f"skips {skipped}"
            arrows[key] = replace(arrow, tail=tail, head=head, label=label)
    for key, found in at.items():
        # Not of the timestep shown, such as from the last state to a loss: its numbers are those of another.
        if key in arrows and shown.keys().isdisjoint(found):
            label = f"t={steps[found[0]]}" if len(found) == 1 else f"{len(found)} timesteps"
            arrows[key] = replace(arrows[key], label=label)
    used = {end for arrow in arrows.values() for end in (arrow.tail, arrow.head)}
    return Model(
        tuple(box for box in model.boxes if box.id in kept and (box.id in used or box.kind == "output")),
        tuple(arrows.values()),
        tuple(
            shown.get(frame.id, frame)
            for frame in model.frames
            if home.get(frame.id, frame.id) in shown or frame.id not in home
        ),
    )


def _outermost(model: Model, frames: Collection[str]) -> tuple[dict[str, str], list[Frame]]:
    """For frames that are one of some or lie within one the id of that; and the frames that lie in none."""
    home: dict[str, str] = {}
    kept = []
    for frame in model.frames:
        if frame.parent in home:
            home[frame.id] = home[frame.parent]
            continue
        if frame.id in frames:
            home[frame.id] = frame.id
        kept.append(frame)
    return home, kept


def _joined(arrows: Iterable[Arrow], moved: Mapping[str, str], roles: Mapping[str, str]) -> tuple[Arrow, ...]:
    """The arrows between boxes of which some have become others, those alike as one."""
    found: dict[tuple[str, str, int | str], Arrow] = {}
    shares: dict[tuple[str, str, int | str], list[int]] = defaultdict(list)
    for arrow in arrows:
        tail, head = moved.get(arrow.tail, arrow.tail), moved.get(arrow.head, arrow.head)
        if tail == head:
            continue
        if tail is arrow.tail and head is arrow.head:
            found[tail, head, arrow.argnum] = arrow
            continue
        role = arrow.role or (roles.get(arrow.tail, "") if tail is not arrow.tail else "")
        # The numbers of the operands mean nothing any more.
        key: tuple[str, str, int | str] = tail, head, role
        if key not in found:
            found[key] = Arrow(tail, head, arrow.carried, arrow.argnum, arrow.shares, role, arrow.label)
        shares[key] += arrow.shares
    for key, numbers in shares.items():
        if len(numbers) > 1:
            found[key] = replace(found[key], shares=tuple(numbers))
    return tuple(found.values())


def _contracted(arrows: Iterable[Arrow], nameless: Iterable[str]) -> tuple[Arrow, ...]:
    """The arrows without some of the boxes between them: what led to such a box leads to where it led."""
    found = {(arrow.tail, arrow.head, arrow.argnum, arrow.role): arrow for arrow in arrows}
    into: dict[str, dict[Any, Arrow]] = defaultdict(dict)
    out: dict[str, dict[Any, Arrow]] = defaultdict(dict)
    gone = set(nameless)
    for key, arrow in found.items():
        if arrow.head in gone:
            into[arrow.head][key] = arrow
        if arrow.tail in gone:
            out[arrow.tail][key] = arrow
    for name in nameless:
        # What began at a box that is gone has been replaced already.
        ahead = [found.pop(key) for key in into[name] if key in found]
        for second in [found.pop(key) for key in out[name]]:
            for first in ahead:
                carried = first.carried or second.carried
                through = replace(first, head=second.head, argnum=second.argnum, carried=carried)
                key = through.tail, through.head, through.argnum, through.role
                if found.setdefault(key, through) is through and through.head in gone:
                    into[through.head][key] = through
    return tuple(found.values())
