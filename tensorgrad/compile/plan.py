"""Which array a result is written into: how long each value lives, and buffers that are used again."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from tensorgrad.compile.ir import Const, Loop, Var, results

__all__ = ["Room", "Storage", "VIEWS", "last_uses"]

VIEWS = {"reshape", "transpose", "broadcast", "index", "flip"}
"""Equations whose result shows the elements of their operand."""


class Storage:
    """An array that variables live in one after the other.

    kind: "buffer" (kept from call to call), "fresh" (made by an expression), "given" (inputs, constants, and
    what belongs to the block around). last: the position in the block at which it is used for the last time.
    """

    __slots__ = ("dtype", "kind", "last", "names", "shape")

    def __init__(self, kind: str, shape: Any = (), dtype: Any = None, last: float = 0) -> None:
        self.kind = kind
        self.shape = tuple(shape)
        self.dtype = dtype
        self.last = last
        self.names: list[str] = []


class Room:
    """All buffers of a page, and those free at the moment."""

    def __init__(self) -> None:
        self.buffers: list[Storage] = []

    def take(self, shape: Any, dtype: Any, now: float, last: float, block: list[Storage]) -> Storage:
        """A buffer that is free from `now` on, or a new one."""
        for storage in block:
            if (
                storage.kind == "buffer"
                and storage.last < now
                and storage.shape == tuple(shape)
                and storage.dtype == dtype
            ):
                storage.last = last
                return storage
        storage = Storage("buffer", shape, dtype, last)
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
        if eqn.op in VIEWS or eqn.op == "check_range":
            base = id(eqn.args[0])
            last[base] = max(last.get(base, -1), last.get(id(eqn.out), -1))
        elif eqn.op == "concatenate":
            # Its parts may be written in place.
            for arg in eqn.args:
                last[id(arg)] = max(last.get(id(arg), -1), last.get(id(eqn.out), -1))
    for position, eqn in enumerate(eqns):
        for out in results(eqn):
            last.setdefault(id(out), position)
    return last


def is_variable(x: Any) -> bool:
    """Whether an operand is computed or given, not constant."""
    return isinstance(x, Var) and not isinstance(x, Const)
