"""A run of equations over the same rows, as nested loops: `for b in range(B): for j in range(H): ...`.

Each value is cut where slices and concatenations cut it; what has one width then goes through one loop over
j, all gates at once. A number that is computed from a whole row (a sum, a maximum) ends a loop: what needs
it comes in the next. Values live in local variables; what a later loop reads again waits in an array.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import numpy as np

from tensorgrad.compile.ir import Const, Eqn
from tensorgrad.compile.kernels.rows import (
    ALIASES,
    INLINE,
    UnsureError,
    constant,
    definitions,
    kind_of,
    literal,
    part_of,
    row_sum,
    same,
)

__all__ = ["Nest"]

Part = tuple[Any, Any]


class Nest:
    """kernel: the function that is written. places: where inputs stand, (array, leading indices) by id.

    stores: pairs of a value and the place that it must be written to.
    """

    def __init__(
        self,
        kernel: Any,
        eqns: list[Eqn],
        lead: tuple[Any, ...],
        stores: list[tuple[Any, Any]],
        ones: dict[int, Any],
    ) -> None:
        self.kernel = kernel
        self.eqns = eqns
        self.lead = lead
        self.stores = [s for s in stores]
        self.made = definitions(eqns)
        self.sums = {id(e): how for e in eqns if (how := row_sum(e, ones))}
        self.cuts: dict[int, set[int]] = {}
        self.index = kernel.indices(lead)
        self._cut()
        self.stage: dict[Any, int] = {}
        for eqn in eqns:
            self._stage(eqn)
        self.local: dict[Any, str] = {}
        self.code: dict[int, list[Any]] = {}
        self._place()

    # --- where rows are cut ----------------------------------------------------------------------------
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

    # --- in which loop -----------------------------------------------------------------------------------
    def when(self, x: Any, part: Part) -> int:
        """The stage at which elements are there: odd in loops over j, even between them."""
        base, part = self.source(x, part)
        return self.stage.get((id(base), part), 0)

    def _ready(self, eqn: Eqn, part: Part) -> int:
        stages = [0]
        for a in eqn.args:
            if not isinstance(a, Const):
                inner = part if self.kind(a) in ("matrix", "row") and same_width(a, eqn.out) else (0, 1)
                stages.append(self.when(a, inner))
        return max(stages)

    def _stage(self, eqn: Eqn) -> None:
        if eqn.op in ALIASES:
            return
        x = eqn.args[0]
        if id(eqn) in self.sums or eqn.op == "pick":
            last = max(self.when(x, p) for p in self.parts(x))
            last = max(last, self.when(eqn.args[1], (0, 1))) if eqn.op == "pick" else last
            self.stage[id(eqn.out), (0, 1)] = (last | 1) + 1
        elif self.kind(eqn.out) == "column":
            ready = self._ready(eqn, (0, 1))
            self.stage[id(eqn.out), (0, 1)] = ready + ready % 2
        else:
            for part in self.parts(eqn.out):
                self.stage[id(eqn.out), part] = self._ready(eqn, part) | 1

    # --- what each loop does -------------------------------------------------------------------------------
    def _place(self) -> None:
        """Put computations and stores in their stages; what is read again later gets an array to wait in."""
        for eqn in self.eqns:
            if eqn.op in ALIASES:
                continue
            if id(eqn) in self.sums or eqn.op == "pick":
                for part in self.parts(eqn.args[0]):
                    self._add(self.stage[id(eqn.out), (0, 1)] - 1, part, ("gather", eqn, part))
            elif self.kind(eqn.out) == "column":
                self._add(self.stage[id(eqn.out), (0, 1)], (0, 1), ("compute", eqn, (0, 1)))
            else:
                for part in self.parts(eqn.out):
                    self._add(self.stage[id(eqn.out), part], part, ("compute", eqn, part))
        self.memory: dict[int, Any] = {}
        for x, place in self.stores:
            self._store(x, place)
            computed = id(x) in self.made and self.made[id(x)].op not in ALIASES
            if computed and place[0] not in self.kernel.totals:
                self.memory.setdefault(id(x), place)
        for x in self._waiting():
            if id(x) not in self.memory:
                self.memory[id(x)] = place = self.kernel.scratch(x)
                self._store(x, place)

    def _store(self, x: Any, place: Any) -> None:
        if self.kind(x) != "matrix":
            at = self.when(x, (0, 1))
            self._add(at + at % 2, (0, 1), ("store", x, (0, 1), place))
            return
        for part in self.parts(x):
            self._add(self.when(x, part) | 1, part, ("store", x, part, place))

    def _waiting(self) -> list[Any]:
        """Values of rows that are read in a later stage than they are computed in."""
        found: dict[int, Any] = {}
        for at, base, part in self._reads():
            made = self.stage.get((id(base), part))
            if made is not None and made < at and self.kind(base) == "matrix":
                found[id(base)] = base
        return list(found.values())

    def _reads(self) -> Iterator[tuple[int, Any, Part]]:
        """Every reading of elements: the stage, whose, and which."""
        for at, code in self.code.items():
            for action, what, part, *_ in code:
                for a in [what] if action == "store" else what.args:
                    if not isinstance(a, Const) and self.kind(a) in ("matrix", "row", "column"):
                        its = part if action == "gather" or _wide(a, what) else (0, 1)
                        yield at, *self.source(a, its)

    def may_replace(self, after: Any, before: Any) -> bool:
        """Whether rows of `after` can be written over those of `before`: what reads an element does so first."""
        return all(
            at < then or (at == then and same(part, its)) or its[1] <= part[0] or part[1] <= its[0]
            for then, its in ((self.when(after, p), p) for p in self.parts(after))
            for at, base, part in self._reads()
            if base is before
        )

    def _add(self, stage: int, part: Part, what: Any) -> None:
        self.code.setdefault(stage, []).append(what)

    # --- writing -------------------------------------------------------------------------------------------
    def write(self) -> None:
        """The loops."""
        kernel = self.kernel
        self.loads: dict[Any, str] = {}
        self.columns: dict[int, str] = {}
        depth = len(self.lead)
        for name, n in zip(self.index, self.lead, strict=True):
            kernel.line(f"for {name} in range({n}):")
            kernel.indent += 1
        for stage in sorted(self.code):
            if stage % 2 == 0:
                code = self.code[stage]
                for what in [w for w in code if w[0] != "store"]:
                    self._statement(what, {})
                self._write([w for w in code if w[0] == "store"], {})
            else:
                self._loops(self.code[stage])
        kernel.indent -= depth

    def _loops(self, code: list[Any]) -> None:
        kernel = self.kernel
        by_width: dict[str, list[Any]] = {}
        for what in code:
            part = what[2]
            width = part[1] - part[0] if type(part[1]) is int else part[1]
            by_width.setdefault(str(width), []).append(what)
        for what in code:
            if what[0] == "gather":
                self._begin(what[1])
        for width, mine in by_width.items():
            kernel.line(f"for j in range({width}):")
            kernel.indent += 1
            local: dict[Any, str] = {}
            for what in mine:
                if what[0] != "store":
                    self._statement(what, local)
            self._write([what for what in mine if what[0] == "store"], local)
            kernel.indent -= 1
        for what in {id(w[1]): w for w in code if w[0] == "gather"}.values():
            self._end(what[1])

    def _write(self, stores: list[Any], local: dict[Any, str]) -> None:
        """Stores, after everything is read: one may be over what another reads."""
        values = []
        for _, x, part, _ in stores:
            value = self.read(x, part, local, x.dtype)
            if len(stores) > 1 and value.endswith("]"):
                name = self.kernel.fresh(x.name)
                self.kernel.line(f"{name} = {value}")
                value = name
            values.append(value)
        for (_, x, part, place), value in zip(stores, values, strict=True):
            self.kernel.written.add(place[0])
            sign = "+=" if place[0] in self.kernel.totals else "="
            self.kernel.line(f"{self.element(place, x, part)} {sign} {value}")

    def _begin(self, eqn: Eqn) -> None:
        out = eqn.out
        if id(out) in self.columns:
            return
        name = self.columns[id(out)] = self.kernel.fresh(out.name or f"{eqn.op}_{eqn.args[0].name or 'v'}")
        start = {"max": "-np.inf", "finite_max": "-np.inf", "min": "np.inf"}.get(
            self.sums.get(id(eqn), ""), "0"
        )
        self.kernel.line(f"{name} = np.{out.dtype.name}({start})")

    def _end(self, eqn: Eqn) -> None:
        if self.sums.get(id(eqn)) == "finite_max":
            name, zero = self.columns[id(eqn.out)], f"np.{eqn.out.dtype.name}(0)"
            self.kernel.line(f"{name} = {name} if np.isfinite({name}) else {zero}")

    def _statement(self, what: Any, local: dict[Any, str]) -> None:
        kernel, (action, x, part, *_) = self.kernel, what
        if action == "gather":
            self._gather(x, part, local)
        else:
            text = self._expression(x, part, local)
            column = self.kind(x.out) == "column"
            name = kernel.fresh(self._name(x.out, part))
            kernel.line(f"{name} = {text}")
            if column:
                self.columns[id(x.out)] = name
            else:
                local[id(x.out), part] = name

    def _gather(self, eqn: Eqn, part: Part, local: dict[Any, str]) -> None:
        x, total = eqn.args[0], self.columns[id(eqn.out)]
        value = self.read(x, part, local, eqn.out.dtype)
        if eqn.op == "pick":
            zero, at = f"np.{eqn.out.dtype.name}(0)", _shifted(part)
            label = self.read(eqn.args[1], (0, 1), local, None)
            self.kernel.line(f"{total} = plus({total}, {value} if {at} == {label} else {zero})")
        else:
            how = {"sum": "plus", "max": "maximum", "finite_max": "maximum", "min": "minimum"}[
                self.sums[id(eqn)]
            ]
            self.kernel.line(f"{total} = {how}({total}, {value})")

    def _name(self, x: Any, part: Part) -> str:
        """The field's name for a part of a row: the gate's, where it has one."""
        for eqn in self.eqns:
            if (
                eqn.op == "index"
                and eqn.out.name
                and self.source(eqn.out, (0, part[1] - part[0])) == (x, part)
            ):
                return str(eqn.out.name)
        return str(getattr(x, "name", None) or "v")

    def _expression(self, eqn: Eqn, part: Part, local: dict[Any, str]) -> str:
        dtype = _working_dtype(eqn)
        args = []
        for k, a in enumerate(eqn.args):
            its = part if not isinstance(a, Const) and _wide(a, eqn) else (0, 1)
            wanted = (
                None if (eqn.op == "where" and k == 0) or (eqn.op == "minus_one_hot" and k == 1) else dtype
            )
            if eqn.op == "cast":
                wanted = eqn.out.dtype
            args.append(self.read(a, its, local, wanted))
        name = np.dtype(dtype).name
        text = INLINE[eqn.op].replace("j ==", f"{_shifted(part)} ==")
        if eqn.op == "divide" and self.kind(eqn.out) == "matrix" and self.kind(eqn.args[1]) == "column":
            # One division a row instead of one an element.
            text = "{} * ({one} / {})"
        return text.format(*args, one=f"np.{name}(1)", zero=f"np.{name}(0)")

    def read(self, x: Any, part: Part, local: dict[Any, str], dtype: Any) -> str:
        """One element, as it is written; dtype: the one that is needed, None for any."""
        if constant(x):
            return literal(x, dtype or x.dtype)
        base, part = self.source(x, part)
        if constant(base):
            return literal(base, dtype or base.dtype)
        kind = self.kind(base)
        if kind == "column" and id(base) in self.columns:
            text = self.columns[id(base)]
        elif (id(base), part) in local:
            text = local[id(base), part]
        else:
            place = self.memory[id(base)] if id(base) in self.memory and id(base) in self.made else None
            text = self.element(place or self.kernel.place(base), base, part)
            if kind == "matrix":
                name = self.kernel.fresh(self._name(base, part))
                self.kernel.line(f"{name} = {text}")
                local[id(base), part] = text = name
        return f"np.{np.dtype(dtype).name}({text})" if dtype is not None and base.dtype != dtype else text

    def element(self, place: Any, x: Any, part: Part) -> str:
        """An element of an array. place: its name, indices before the rows', and whether it has rows."""
        array, before, rows = place
        kind = self.kind(x)
        index = list(before)
        if kind in ("matrix", "column") and rows:
            leading = x.shape[:-1] if kind == "matrix" else x.shape
            index += self._rows(leading, kind)
        elif kind == "row":
            index += ["0"] * (x.ndim - 1)
        elif kind == "number" and before:
            index += ["0"] * x.ndim
        if kind in ("matrix", "row"):
            index.append(_shifted(part))
        return f"{array}[{', '.join(index)}]" if index else array

    def _rows(self, leading: tuple[Any, ...], kind: str) -> list[str]:
        if same(leading, self.lead):
            return self.index
        if kind == "column" and same(leading[:-1], self.lead) and same(leading[-1], 1):
            return [*self.index, "0"]
        flat = ""
        for name, n in zip(self.index, self.lead, strict=True):
            flat = f"({flat}) * {n} + {name}" if " " in flat else f"{flat} * {n} + {name}" if flat else name
        extra = len(leading) - 1
        return [flat or "0", *["0"] * extra]


def same_width(a: Any, b: Any) -> bool:
    """Whether rows are as long."""
    return bool(a.shape) and bool(b.shape) and same(a.shape[-1], b.shape[-1])


def _wide(a: Any, what: Any) -> bool:
    """Whether an operand has an element for every element of the result's row."""
    out = getattr(what, "out", what)
    return same_width(a, out)


def _shifted(part: Part) -> str:
    return "j" if same(part[0], 0) else f"{part[0]} + j"


def _working_dtype(eqn: Eqn) -> Any:
    if eqn.out.dtype.kind == "b":
        return np.result_type(*(a.dtype for a in eqn.args))
    return eqn.out.dtype
