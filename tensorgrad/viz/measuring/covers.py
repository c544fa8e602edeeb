"""What stands for what: a cell, a block or a loop for boxes of the whole graph that are not drawn."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping

from tensorgrad.viz.measuring.measures import rank
from tensorgrad.viz.model import Frame, Model

__all__ = ["covered", "rolled_frames", "worst_in_time"]

_TIMESTEP = re.compile("t([0-9]+)")


def covered(model: Model, ids: Iterable[str], across: bool = False) -> dict[str, list[str]]:
    """By the id of a cell or block of a drawing, which boxes of the whole graph it stands for.

    Args:
        model: of a drawing.
        ids: of boxes of the whole graph.
        across: whether every box in the one timestep of a rolled drawing stands for those of its role in the
            other timesteps too; a role that is not drawn there counts for the cell.

    Example:
        >>> from tensorgrad.viz.model import Box, Frame
        >>> block = Box("t1_t3.block", "block", "3 timesteps", "", "", "", "t1_t3", "block")
        >>> model = Model((block,), (), (Frame("t1_t3", "t=1 … 3", "", 1, 3),))
        >>> covered(model, ["W", "t0.h", "t2.h"])
        {'t1_t3.block': ['t2.h']}
    """
    frames = {frame.id: frame for frame in model.frames}
    holders: dict[str, str] = {}
    homes = _homes(model) if across else {}
    for box in model.boxes:
        frame = frames.get(box.frame)
        if box.kind == "cell":
            holders[box.frame] = box.id
        elif box.kind == "block" and frame is not None and frame.step is not None:
            holders.update((alias, box.id) for alias in _aliases(frame))
    shown = {box.id for box in model.boxes}
    found: dict[str, list[str]] = defaultdict(list)
    for name in ids if holders or homes else ():
        around, home = "" if name in shown else name.rpartition(".")[0], ""
        while around and around not in holders and not (home := _home(around, homes, frames)):
            around = around.rpartition(".")[0]
        home = home or around
        one = home + name[len(around) :]
        holder = one if one in shown else holders.get(home)
        if around and holder is not None:
            found[holder].append(name)
    return dict(found)


def worst_in_time(model: Model, numbers: Mapping[str, float]) -> dict[str, tuple[float, int | None]]:
    """Of one timestep that is drawn for all, by box id the greatest number, and the timestep that has it.

    Args:
        model: of a rolled drawing; of another one there is nothing to say.
        numbers: by the ids of the boxes of the whole graph; NaN counts as more than infinity.

    Example:
        >>> from tensorgrad.viz.model import Box, Frame
        >>> h = Box("t1.h", "state", "h", "tanh", "(3,)", "float64", "t1", "h")
        >>> model = Model((h,), (), (Frame("t1", "t=0 … 2", "", 0, 2),))
        >>> worst_in_time(model, {"t0.h": 0.1, "t1.h": 0.2, "t2.h": 0.5})
        {'t1.h': (0.5, 2)}
    """
    homes, frames = _homes(model), {frame.id: frame for frame in model.frames}
    if not homes:
        return {}
    stands_for = covered(model, numbers, across=True)
    found: dict[str, tuple[float, int | None]] = {}
    for box in model.boxes:
        names = [*([box.id] if box.id in numbers else []), *stands_for.get(box.id, ())]
        if names:
            timed = [(numbers[name], _step_of(name, homes, frames)) for name in names]
            # Of several timesteps with the same number the first.
            found[box.id] = max(timed, key=lambda pair: (*rank(pair[0]), -(pair[1] or 0)))
    return found


def rolled_frames(model: Model) -> list[str]:
    """The ids of the frames of one timestep that is drawn for all."""
    blocks = {box.frame for box in model.boxes if box.kind == "block"}
    return [f.id for f in model.frames if f.last is not None and f.last != f.step and f.id not in blocks]


def _aliases(frame: Frame) -> list[str]:
    """The ids of the frames of all timesteps that one stands for."""
    around = f"{frame.parent}." if frame.parent else ""
    first = frame.step or 0
    return [f"{around}t{t}" for t in range(first, (first if frame.last is None else frame.last) + 1)]


def _homes(model: Model) -> dict[str, str]:
    """The frames of one timestep that is drawn for all, by the id of the frame around it."""
    around = {frame.id: frame.parent for frame in model.frames}
    return {around[one]: one for one in rolled_frames(model)}


def _home(name: str, homes: Mapping[str, str], frames: Collection[str]) -> str:
    """The frame that is drawn for that of a timestep; empty for what is none, or stands for itself."""
    parent, _, own = name.rpartition(".")
    home = homes.get(parent, "")
    return home if _TIMESTEP.fullmatch(own) and (name == home or name not in frames) else ""


def _step_of(name: str, homes: Mapping[str, str], frames: Collection[str]) -> int | None:
    """The timestep of a box of the whole graph; None for one outside of those that are drawn as one."""
    around = name.rpartition(".")[0]
    while around and not _home(around, homes, frames):
        around = around.rpartition(".")[0]
    return int(around.rpartition(".")[2][1:]) if around else None
