"""A run of equations over the same rows, as nested loops: `for b in range(B): for j in range(H): ...`.

All parts of a row of one width, such as the gates, go through one loop over j. Values live in local
variables; what a later loop reads again waits in an array, or is computed again.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tensorgrad.compile.ir import Const, Eqn
from tensorgrad.compile.kernels.cuts import Part
from tensorgrad.compile.kernels.rows import ALIASES, INLINE, UnsureError, constant, literal, same
from tensorgrad.compile.kernels.schedule import Schedule, is_wide

__all__ = ["Nest"]


class Nest:
    """kernel: the function that is written; its places say where inputs stand. schedule: what is written.

    stores: pairs of a value and the place that it must be written to, an array with leading indices.
    """

    def __init__(self, kernel: Any, schedule: Schedule, stores: list[tuple[Any, Any]]) -> None:
        self.kernel = kernel
        self.schedule = schedule
        self.kind, self.source, self.made = schedule.kind, schedule.source, schedule.made
        self.index = kernel.indices(schedule.lead)
        self.code = {stage: list(code) for stage, code in schedule.code.items()}
        # Where values that have been computed stand.
        self.memory: dict[int, Any] = {}
        self.columns: dict[int, str] = {}
        for x, place in stores:
            self._store(x, place)
            computed = id(x) in self.made and self.made[id(x)].op not in ALIASES
            if computed and place[0] not in kernel.totals:
                self.memory.setdefault(id(x), place)
        for x in schedule.waiting():
            if id(x) not in self.memory:
                self.memory[id(x)] = place = kernel.scratch(x)
                self._store(x, place)

    def _store(self, x: Any, place: Any) -> None:
        wide = self.kind(x) == "matrix"
        for part in self.schedule.parts(x) if wide else [(0, 1)]:
            at = self.schedule.when(x, part)
            self.code.setdefault(at | 1 if wide else at + at % 2, []).append(("store", x, part, place))

    # --- writing -------------------------------------------------------------------------------------------
    def write(self) -> None:
        """The loops."""
        kernel, lead = self.kernel, self.schedule.lead
        for k, (name, n) in enumerate(zip(self.index, lead, strict=True)):
            shared = k == 0 and kernel.rows is not None
            kernel.line(f"for {name} in range({'first, last' if shared else n}):")
            kernel.indent += 1
        for stage in sorted(self.code):
            if stage % 2 == 0:
                code = self.code[stage]
                for what in [w for w in code if w[0] != "store"]:
                    self._statement(what, {})
                self._write([w for w in code if w[0] == "store"], {})
            else:
                self._loops(stage, self.code[stage])
        kernel.indent -= len(lead)

    def _loops(self, stage: int, code: list[Any]) -> None:
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
        for eqn in {id(w[1]): w[1] for w in code if w[0] == "gather"}.values():
            if self.schedule.when(eqn.out, (0, 1)) == stage + 1:
                self._end(eqn)

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
            self.schedule.sums.get(id(eqn), ""), "0"
        )
        self.kernel.line(f"{name} = np.{out.dtype.name}({start})")

    def _end(self, eqn: Eqn) -> None:
        if self.schedule.sums.get(id(eqn)) == "finite_max":
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
                self.schedule.sums[id(eqn)]
            ]
            self.kernel.line(f"{total} = {how}({total}, {value})")

    def _name(self, x: Any, part: Part) -> str:
        """The field's name for a part of a row: the gate's, where it has one."""
        for eqn in self.schedule.eqns:
            if eqn.op == "index" and eqn.out.name:
                whole, *rest = self.schedule.parts(eqn.out)
                if not rest and self.source(eqn.out, whole) == (x, part):
                    return str(eqn.out.name)
        return str(getattr(x, "name", None) or "v")

    def _expression(self, eqn: Eqn, part: Part, local: dict[Any, str]) -> str:
        dtype = _working_dtype(eqn)
        args = []
        for k, a in enumerate(eqn.args):
            its = part if not isinstance(a, Const) and is_wide(a, eqn.out) else (0, 1)
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
        elif id(base) in self.made and id(base) not in self.memory:
            if not self.schedule.is_recomputed(base):
                raise UnsureError(f"{base!r} is read where it is not known")
            name = self.kernel.fresh(self._name(base, part))
            self.kernel.line(f"{name} = {self._expression(self.made[id(base)], part, local)}")
            local[id(base), part] = text = name
        else:
            place = self.memory[id(base)] if id(base) in self.made else self.kernel.place(base)
            text = self.element(place, base, part)
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
        if same(leading, self.schedule.lead):
            return self.index
        if kind == "column" and same(leading[:-1], self.schedule.lead) and same(leading[-1], 1):
            return [*self.index, "0"]
        flat = ""
        for name, n in zip(self.index, self.schedule.lead, strict=True):
            flat = f"({flat}) * {n} + {name}" if " " in flat else f"{flat} * {n} + {name}" if flat else name
        extra = len(leading) - 1
        return [flat or "0", *["0"] * extra]


def _shifted(part: Part) -> str:
    return "j" if same(part[0], 0) else f"{part[0]} + j"


def _working_dtype(eqn: Eqn) -> Any:
    if eqn.out.dtype.kind == "b":
        return np.result_type(*(a.dtype for a in eqn.args))
    return eqn.out.dtype
