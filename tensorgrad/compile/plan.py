"""Which array a result is written into: how long each value lives, and buffers that are used again."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from tensorgrad.compile.ir import Eqn, Loop, Pieces, results
from tensorgrad.compile.rules import ELEMENTWISE

__all__ = ["VIEWS", "WITH_OUT", "Block", "Room", "Storage", "last_uses", "side_by_side"]

VIEWS = {"reshape", "transpose", "broadcast", "index", "flip", "check_range"}
"""Equations whose result shows the elements of their operand."""

WITH_OUT = ELEMENTWISE - {"cast"} | {
    "copy",
    "dot",
    "row_dot",
    "minus_one_hot",
    "one_hot",
    "sum",
    "concatenate",
    "gather",
}
"""Equations whose result NumPy can write into an array that is there."""


class Storage:
    """An array that variables live in one after the other.

    kind: "buffer" (kept from call to call), "fresh" (made by an expression), "given" (inputs, constants, and
    what belongs to the block around). last: the position in the block at which it is used for the last time.
    apart: the number of elements that are left free after each row.
    """

    __slots__ = ("apart", "dtype", "kind", "last", "names", "shape")

    def __init__(
        self, kind: str, shape: Any = (), dtype: Any = None, last: float = 0, apart: int = 0
    ) -> None:
        self.kind = kind
        self.apart = apart
        self.shape = tuple(shape)
        self.dtype = dtype
        self.last = last
        self.names: list[str] = []


class Room:
    """All buffers of a page, and those free at the moment."""

    def __init__(self) -> None:
        self.buffers: list[Storage] = []

    def take(
        self, shape: Any, dtype: Any, now: float, last: float, block: list[Storage], apart: int = 0
    ) -> Storage:
        """A buffer that is free from `now` on, or a new one."""
        for storage in block:
            if (
                storage.kind == "buffer"
                and storage.last < now
                and storage.shape == tuple(shape)
                and storage.dtype == dtype
                and storage.apart == apart
            ):
                storage.last = last
                return storage
        storage = Storage("buffer", shape, dtype, last, apart)
        self.buffers.append(storage)
        block.append(storage)
        return storage


def last_uses(eqns: list[Any], at_end: Iterable[Any]) -> dict[int, float]:
    """For each variable the position of the last equation that reads it or a view of it."""
    last: dict[int, float] = {}
    for position, eqn in enumerate(eqns):
        for arg in eqn.args:
            last[id(arg)] = position
    for x in at_end:
        last[id(x)] = len(eqns)
    for eqn in reversed(eqns):
        if isinstance(eqn, Loop):
            continue
        if eqn.op in VIEWS:
            base = id(eqn.args[0])
            last[base] = max(last.get(base, -1), last.get(id(eqn.out), -1))
        elif eqn.op in ("concatenate", "call"):
            # Its parts may be written in place; and a function may return a view of what it is given.
            for arg in eqn.args:
                last[id(arg)] = max(last.get(id(arg), -1), last.get(id(eqn.out), -1))
    for position, eqn in enumerate(eqns):
        for out in results(eqn):
            last.setdefault(id(out), position)
    return last


class Block:
    """What is known of a stretch of equations while it is written.

    targets: where results must go, as a text and the storage behind it.
    parts: results that are parts of a concatenation, with it and their place in it; of a loop over pieces,
    what is such a part with all pieces in a row.
    starts: what is nothing but the start of a loop's state.
    reshaped: for what is computed for nothing but to be reshaped, the result of that.
    kept: what loops and the end of the block read.
    """

    def __init__(self, eqns: list[Any], at_end: list[Any]) -> None:
        self.eqns = eqns
        self.last = last_uses(eqns, at_end)
        self.storages: list[Storage] = []
        self.now = 0
        self.targets: dict[int, tuple[str, Storage]] = {}
        self.uses: dict[int, int] = {}
        for eqn in eqns:
            for a in eqn.args:
                self.uses[id(a)] = self.uses.get(id(a), 0) + 1
        self.kept = {id(x) for x in at_end} | {id(a) for e in eqns if isinstance(e, Loop) for a in e.args}
        self.starts = _starts(eqns) - {id(x) for x in at_end}
        self.reshaped = {
            id(e.args[0]): e.out
            for e in eqns
            if e.op == "reshape" and self.uses[id(e.args[0])] == 1 and id(e.args[0]) not in self.kept
        }
        self.parts = _parts(eqns)


def _starts(eqns: list[Any]) -> set[int]:
    starts = {id(c.init) for e in eqns if isinstance(e, Loop) for c in e.carries}
    for e in eqns:
        starts -= _loop_reads(e) if isinstance(e, Loop) else {id(a) for a in e.args}
    return starts


def _loop_reads(loop: Loop) -> set[int]:
    """What a loop reads apart from the start of its state."""
    inside = {id(a) for e in loop.body for a in e.args}
    inside |= {id(c.after) for c in loop.carries} | {id(o.inner) for o in loop.outs}
    return inside | {id(x) for x, _ in loop.xs}


def _parts(eqns: list[Any]) -> dict[int, tuple[Eqn, tuple[Any, ...]]]:
    made = {id(e.out): e for e in eqns if isinstance(e, Eqn)}
    pieces = {id(v) for e in eqns if isinstance(e, Pieces) for v in results(e)}
    parts: dict[int, tuple[Eqn, tuple[Any, ...]]] = {}
    for eqn in eqns:
        if eqn.op == "concatenate":
            for a, template in side_by_side(eqn):
                source = made.get(id(a))
                if source is not None and source.op in ELEMENTWISE - {"cast", "where"}:
                    parts.setdefault(id(a), (eqn, template))
                elif (
                    # Such rows lie one after the other, so that by pieces they are a view.
                    source is not None
                    and source.op == "reshape"
                    and id(source.args[0]) in pieces
                    and eqn.params["axis"] == 0
                ):
                    parts.setdefault(id(source.args[0]), (eqn, template))
    return parts


def side_by_side(eqn: Eqn) -> list[tuple[Any, tuple[Any, ...]]]:
    """The operands of a concatenation with their places in it."""
    axis, start, places = eqn.params["axis"], 0, []
    for a in eqn.args:
        stop = start + a.shape[axis]
        places.append((a, (*(slice(None),) * axis, slice(start, stop))))
        start = stop
    return places
