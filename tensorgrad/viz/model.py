"""What is to be drawn: boxes, arrows, and the frames around them.

Nothing here knows how a picture is made. Boxes have stable ids such as ``t3.h``, made of scopes and labels
and of nothing that changes between runs, so drawings can be compared as text.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["Arrow", "Box", "Frame", "Kind", "Model"]

Kind = Literal["parameter", "input", "constant", "operation", "state", "output", "cell", "block"]


@dataclass(frozen=True, slots=True)
class Box:
    """One value.

    Attributes:
        id: letters, digits, "_" and "." of ASCII; no other box and no frame has it.
        kind: what it is; a "cell" stands for all operations of a timestep, a "block" for many timesteps.
        name: what the user calls it, any text; empty for a nameless result.
        op: the operation that made it, with its constants; empty for a leaf.
        shape: such as "(1, 16)".
        dtype: such as "float64".
        frame: the id of the frame it stands in, empty for none.
        role: its id within the frame; boxes of one role in sibling timesteps correspond.
        notes: what else is known, a line each.
        number: the creation number of its node; None for a constant, which has none.
        states: of a cell that makes several states those, under names that tell them apart; else empty.
    """

    id: str
    kind: Kind
    name: str
    op: str
    shape: str
    dtype: str
    frame: str
    role: str
    notes: tuple[str, ...] = ()
    number: int | None = None
    states: tuple[Box, ...] = ()


@dataclass(frozen=True, slots=True)
class Arrow:
    """One value is an operand of another.

    Attributes:
        tail: the id of the operand's box.
        head: the id of the result's box.
        carried: whether it leads from one timestep to another.
        argnum: which operand of the result it is.
        shares: the numbers of the arrows that it stands for, among all of the whole graph.
        role: of what comes from a cell or a block, the role of the value within its timestep, such as "h".
        label: a text at the line, such as "× 6" at a loop.
    """

    tail: str
    head: str
    carried: bool = False
    argnum: int = 0
    shares: tuple[int, ...] = ()
    role: str = ""
    label: str = ""


@dataclass(frozen=True, slots=True)
class Frame:
    """A scope: a timestep, or a part of the model.

    Attributes:
        id: letters, digits, "_" and "." of ASCII; no other frame and no box has it.
        title: the innermost name of the scope, any text, such as "t=3".
        parent: the id of the frame around it, empty for none.
        step: the timestep; None for another scope.
        last: the last timestep of a frame that stands for several; None for one timestep alone.
    """

    id: str
    title: str
    parent: str
    step: int | None
    last: int | None = None


@dataclass(frozen=True, slots=True)
class Model:
    """What is to be drawn.

    Attributes:
        boxes: operands before results.
        arrows: in the order of the results and of their operands.
        frames: outer before inner, timesteps in the order of time.
    """

    boxes: tuple[Box, ...]
    arrows: tuple[Arrow, ...]
    frames: tuple[Frame, ...]
