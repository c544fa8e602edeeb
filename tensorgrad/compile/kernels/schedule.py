"""In which loop over j each part of a row is computed.

A number that is computed from a whole row (a sum, a maximum) ends a loop: what needs it comes in the next.
Stages count both: odd ones are loops over j, even ones lie between them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tensorgrad.compile.ir import Const, Eqn
from tensorgrad.compile.kernels.cuts import Cuts, Part
from tensorgrad.compile.kernels.rows import ALIASES, row_sum, same

__all__ = ["Schedule", "is_wide"]

_CHEAP = {"add", "subtract", "multiply", "divide", "negative", "square"}


class Schedule(Cuts):
    """A run of equations over the same rows, in stages. known: definitions, the run's own among them.

    code: for each stage what is done: ("compute", equation, part) or, towards a number of the whole row,
    ("gather", equation, part).
    """

    def __init__(self, eqns: list[Eqn], lead: tuple[Any, ...], known: dict[int, Any]) -> None:
        super().__init__(eqns, lead)
        self.sums = {id(e): how for e in eqns if (how := row_sum(e, known))}
        self.stage: dict[Any, int] = {}
        for eqn in eqns:
            self._stage(eqn)
        self._delay()
        self.code: dict[int, list[Any]] = {}
        for eqn in eqns:
            self._place(eqn)

    def when(self, x: Any, part: Part) -> int:
        """The stage at which elements are there."""
        base, part = self.source(x, part)
        return self.stage.get((id(base), part), 0)

    def gathers(self, eqn: Eqn) -> bool:
        """Whether an equation makes one number of a row."""
        return id(eqn) in self.sums or eqn.op == "pick"

    def gathered(self, eqn: Eqn, part: Part) -> int:
        """The stage in which a part of a row is added to its sum."""
        at = self.when(eqn.args[0], part) | 1
        return max(at, self.when(eqn.args[1], (0, 1)) | 1) if eqn.op == "pick" else at

    def _stage(self, eqn: Eqn) -> None:
        if eqn.op in ALIASES:
            return
        if self.gathers(eqn):
            last = max(self.gathered(eqn, p) for p in self.parts(eqn.args[0]))
            self.stage[id(eqn.out), (0, 1)] = last + 1
            return
        column = self.kind(eqn.out) == "column"
        for part in [(0, 1)] if column else self.parts(eqn.out):
            ready = max((self.when(*read) for read in self._operands(eqn, part)), default=0)
            self.stage[id(eqn.out), part] = ready + ready % 2 if column else ready | 1

    def _delay(self) -> None:
        """What needs nothing but what is there from the start is computed where it is first read."""
        first: dict[Any, int] = {}
        for eqn in reversed(self.eqns):
            if eqn.op in ALIASES or self.kind(eqn.out) == "column":
                if self.gathers(eqn):
                    for part in self.parts(eqn.args[0]):
                        self._read_at(first, eqn.args[0], part, self.gathered(eqn, part))
                continue
            for part in self.parts(eqn.out):
                key = id(eqn.out), part
                if self.stage[key] == 1:
                    self.stage[key] = first.get(key, 1)
                for x, its in self._operands(eqn, part):
                    self._read_at(first, x, its, self.stage[key])

    def _read_at(self, first: dict[Any, int], x: Any, part: Part, stage: int) -> None:
        base, part = self.source(x, part)
        first[id(base), part] = min(stage, first.get((id(base), part), stage))

    def _place(self, eqn: Eqn) -> None:
        if eqn.op in ALIASES:
            return
        if self.gathers(eqn):
            for part in self.parts(eqn.args[0]):
                self.code.setdefault(self.gathered(eqn, part), []).append(("gather", eqn, part))
        else:
            for part in [(0, 1)] if self.kind(eqn.out) == "column" else self.parts(eqn.out):
                self.code.setdefault(self.stage[id(eqn.out), part], []).append(("compute", eqn, part))

    # --- what is read when ---------------------------------------------------------------------------------
    def _operands(self, eqn: Eqn, part: Part) -> Iterator[tuple[Any, Part]]:
        """The operands that hold elements, with the parts that a part of the result needs."""
        for a in eqn.args:
            if not isinstance(a, Const):
                yield a, part if is_wide(a, eqn.out) and self.kind(a) in ("matrix", "row") else (0, 1)

    def reads(self) -> Iterator[tuple[int, Any, Part]]:
        """Every reading of elements: the stage, whose, and which."""
        for at, code in self.code.items():
            for action, eqn, part in code:
                if action == "gather":
                    yield from self._readings(at, eqn.args[0], part)
                    if eqn.op == "pick":
                        yield from self._readings(at, eqn.args[1], (0, 1))
                else:
                    for a, its in self._operands(eqn, part):
                        yield from self._readings(at, a, its)

    def _readings(self, at: int, x: Any, part: Part) -> Iterator[tuple[int, Any, Part]]:
        """One reading, and those by which a value is computed again."""
        base, part = self.source(x, part)
        yield at, base, part
        if self.stage.get((id(base), part), at) < at and self.is_recomputed(base):
            for a, its in self._operands(self.made[id(base)], part):
                yield (at, *self.source(a, its))

    def is_recomputed(self, x: Any) -> bool:
        """Whether a value is computed again wherever it is read: one operation on what is there anyway."""
        eqn = self.made.get(id(x))
        if eqn is None or eqn.op not in _CHEAP or self.kind(x) != "matrix":
            return False
        return not any(self.kind(a) == "matrix" and self._is_made(a) for a in eqn.args)

    def _is_made(self, x: Any) -> bool:
        while (eqn := self.made.get(id(x))) is not None and eqn.op in ALIASES - {"concatenate"}:
            x = eqn.args[0]
        return eqn is not None

    def waiting(self) -> list[Any]:
        """Values of rows that are read in a later stage than they are computed in."""
        found: dict[int, Any] = {}
        for at, base, part in self.reads():
            made = self.stage.get((id(base), part), at)
            if made < at and self.kind(base) == "matrix" and not self.is_recomputed(base):
                found[id(base)] = base
        return list(found.values())

    def may_replace(self, after: Any, before: Any) -> bool:
        """Whether rows of `after` can be written over those of `before`: each element is read first."""
        return all(
            at < then or (at == then and same(part, its)) or its[1] <= part[0] or part[1] <= its[0]
            for then, its in ((self.when(after, p), p) for p in self.parts(after))
            for at, base, part in self.reads()
            if base is before
        )


def is_wide(a: Any, out: Any) -> bool:
    """Whether an operand has an element for every element of the result's row."""
    return bool(a.shape) and bool(out.shape) and same(a.shape[-1], out.shape[-1])
