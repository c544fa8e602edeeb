"""Where rows are cut: slices and concatenations cut a value, and what has one width goes through one loop."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from tensorgrad.compile.ir import Eqn
from tensorgrad.compile.kernels.rows import ALIASES, UnsureError, definitions, kind_of, part_of, same

__all__ = ["Cuts", "Part"]

Part = tuple[Any, Any]
"""Start and stop of a part of a row."""


class Cuts:
    """The parts of the rows of every value of a run of equations. lead: the leading axes."""

    def __init__(self, eqns: list[Eqn], lead: tuple[Any, ...]) -> None:
        self.eqns = eqns
        self.lead = lead
        self.made = definitions(eqns)
        self.cuts: dict[int, set[int]] = {}
        self._cut()

    def kind(self, x: Any) -> str | None:
        """What a value is against the rows."""
        return kind_of(x.shape, self.lead)

    def _cut(self) -> None:
        changed = True
        while changed:
            changed = False
            for eqn in self.eqns:
                for a, shift, width in self._relations(eqn):
                    changed |= self._share(eqn.out, a, shift, width)

    def _relations(self, eqn: Eqn) -> list[tuple[Any, int, Any]]:
        """Operands with the same elements at j that the result has at j - shift, for so many j."""
        if self.kind(eqn.out) != "matrix":
            return []
        if eqn.op == "index":
            start, stop = part_of(eqn) or (0, 0)
            return [(eqn.args[0], start, stop - start)]
        if eqn.op == "concatenate":
            found, start = [], 0
            for a in eqn.args:
                found.append((a, -start, a.shape[-1]))
                start += a.shape[-1]
            return found
        return [
            (a, 0, a.shape[-1])
            for a in eqn.args
            if self.kind(a) in ("matrix", "row") and same(a.shape[-1], eqn.out.shape[-1])
        ]

    def _share(self, out: Any, a: Any, shift: int, width: Any) -> bool:
        mine, its = self.cuts.setdefault(id(out), set()), self.cuts.setdefault(id(a), set())
        if type(width) is not int:
            return False
        before = len(mine) + len(its)
        # The part of the operand that is the result's, seen from either side.
        low = max(shift, 0)
        its |= {c + shift for c in mine if low <= c + shift <= low + width} | {low, low + width}
        mine |= {c - shift for c in its if low <= c <= low + width}
        return len(mine) + len(its) != before

    def parts(self, x: Any) -> list[Part]:
        """The parts of each row of a value."""
        inner = {c for c in self.cuts.get(id(x), ()) if 0 < c < x.shape[-1]}
        edges = [0, *sorted(inner), x.shape[-1]]
        return list(pairwise(edges))

    def source(self, x: Any, part: Part) -> tuple[Any, Part]:
        """The value that has these elements, and where, behind slices and concatenations."""
        while (eqn := self.made.get(id(x))) is not None and eqn.op in ALIASES:
            if eqn.op == "index":
                start = (part_of(eqn) or (0, 0))[0]
                x, part = eqn.args[0], (start + part[0], start + part[1]) if start else part
            elif eqn.op == "concatenate":
                start = 0
                for a in eqn.args:
                    if start <= part[0] < part[1] <= start + a.shape[-1]:
                        x, part = a, (part[0] - start, part[1] - start)
                        break
                    start += a.shape[-1]
                else:
                    raise UnsureError(f"{part} lies in no operand of a concatenation")
            else:
                x = eqn.args[0]
        return x, part if self.kind(x) in ("matrix", "row") else (0, 1)
