"""Small equivalences: constants, values that are the same everywhere, shapes undone, sums, products."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np

from tensorgrad.compile.builder import Builder, broadcast_shape, reduced
from tensorgrad.compile.expressions import number_text
from tensorgrad.compile.ir import Const, Eqn, Program, walk
from tensorgrad.compile.passes.rewrite import Rewriter
from tensorgrad.compile.rules import ELEMENTWISE
from tensorgrad.compile.sizes import Size

__all__ = ["simplify"]


def simplify(program: Program) -> None:
    """Apply small equivalences, each where it makes less work."""
    _Simplify(program).run(program)


_TEXT = {"add": "+", "subtract": "-", "multiply": "*", "divide": "/"}


class _Simplify(Rewriter):
    def __init__(self, program: Program) -> None:
        super().__init__()
        # Variables with one value everywhere, and that value, 0-d.
        self.uniform: dict[int, Any] = {}
        # How often each variable is read.
        self.uses = Counter(id(x) for eqn in walk(program.eqns) for x in eqn.args)
        self.uses.update(map(id, program.outputs))

    def value(self, x: Any) -> Any:
        """The one value of an operand, 0-d, or None."""
        if id(x) in self.uniform:
            return self.uniform[id(x)]
        if x.ndim == 0:
            return x
        if isinstance(x, Const) and x.value.size and (x.value == x.value.flat[0]).all():
            return Const(x.value.flat[0])
        return None

    def equation(self, b: Builder, eqn: Eqn) -> Any:
        if eqn.op in ELEMENTWISE:
            return self.elementwise(b, eqn)
        if eqn.op == "full":
            self.uniform[id(eqn.out)] = Const(np.asarray(eqn.params["value"], eqn.out.dtype))
        elif eqn.op in ("reshape", "broadcast", "transpose"):
            value = self.value(eqn.args[0])
            if value is not None:
                self.uniform[id(eqn.out)] = value
        rule = getattr(self, eqn.op, None)
        return rule(b, eqn, *eqn.args) if rule is not None and eqn.op in _RULES else None

    def elementwise(self, b: Builder, eqn: Eqn) -> Any:
        values = [self.value(a) for a in eqn.args]
        if eqn.op != "cast" and all(v is not None for v in values) and eqn.out.ndim:
            scalar = self.folded(eqn, values) or b.emit(eqn.op, values, (), eqn.out.dtype)
            out = b.broadcast(scalar, eqn.out.shape)
            self.uniform[id(out)] = scalar
            return out
        if all(isinstance(v, Const) for v in values) and not eqn.out.ndim:
            return self.folded(eqn, values)
        for k, v in enumerate(values):
            rest = [a for i, a in enumerate(eqn.args) if i != k]
            if (
                v is not None
                and eqn.args[k].ndim
                and rest
                and broadcast_shape([a.shape for a in rest]) == eqn.out.shape
            ):
                eqn.args[k] = v
        if eqn.op == "add" and (joined := self.add(b, eqn)) is not None:
            return joined
        if eqn.op == "add":
            for x, y in (eqn.args, eqn.args[::-1]):
                made = self.made.get(id(y))
                if made is not None and made.op == "negative":
                    return b.map("subtract", x, made.args[0], name=eqn.out.name)
        return self.neutral(eqn)

    def folded(self, eqn: Eqn, values: list[Any]) -> Any:
        if not all(isinstance(v, Const) for v in values) or eqn.op in ("sigmoid", "cast", "where"):
            return None
        with np.errstate(all="ignore"):
            value = np.asarray(getattr(np, eqn.op)(*(v.value for v in values)), eqn.out.dtype)
        if not any(v.text for v in values):
            return Const(value)
        if eqn.op not in _TEXT:
            return None
        left, right = (v.text or number_text(v.value.item()) for v in values)
        left, right = (f"({s})" if " " in s else s for s in (left, right))
        return Const(value, f"{left} {_TEXT[eqn.op]} {right}")

    def neutral(self, eqn: Eqn) -> Any:
        """x for x * 1, x + 0 and their like."""
        if eqn.op not in ("multiply", "divide", "add", "subtract"):
            return None
        none = 1 if eqn.op in ("multiply", "divide") else 0
        for k, x in ((1, 0), (0, 1)) if eqn.op in ("multiply", "add") else ((1, 0),):
            c, other = eqn.args[k], eqn.args[x]
            does_nothing = isinstance(c, Const) and c.ndim == 0 and not c.text and c.value == none
            if does_nothing and other.shape == eqn.out.shape and other.dtype == eqn.out.dtype:
                return other
        return None

    # --- shapes ----------------------------------------------------------------------------------------
    def reshape(self, b: Builder, eqn: Eqn, x: Any) -> Any:
        if tuple(x.shape) == tuple(eqn.out.shape):
            return x
        made = self.made.get(id(x))
        if made is None:
            return None
        if made.op == "reshape":
            return b.reshape(made.args[0], eqn.out.shape)
        if made.op in ("sum", "max", "min") and made.params["keepdims"]:
            source, axes = made.args[0], made.params["axes"]
            if reduced(source.shape, axes, False) == eqn.out.shape:
                return b.sum(source, axes, False, made.op)
        return None

    def broadcast(self, b: Builder, eqn: Eqn, x: Any) -> Any:
        return x if tuple(x.shape) == tuple(eqn.out.shape) else None

    def transpose(self, b: Builder, eqn: Eqn, x: Any) -> Any:
        made = self.made.get(id(x))
        if made is not None and made.op == "transpose":
            inner = made.params["axes"]
            return b.transpose(made.args[0], tuple(inner[a] for a in eqn.params["axes"]))
        if made is not None and made.op == "dot" and self.uses[id(x)] == 1:
            left, right = made.args
            if left.ndim == right.ndim == 2:
                # The product the other way round is written where it is wanted, and not turned.
                return b.dot(self.turned(b, right), self.turned(b, left))
        return None

    def turned(self, b: Builder, x: Any) -> Any:
        """The transpose of a matrix; of a transpose, the matrix itself."""
        made = self.made.get(id(x))
        if made is not None and made.op == "transpose" and made.params["axes"] == (1, 0):
            return made.args[0]
        return b.transpose(x, (1, 0))

    # --- sums ------------------------------------------------------------------------------------------
    def sum(self, b: Builder, eqn: Eqn, x: Any) -> Any:
        axes, keepdims = eqn.params["axes"], eqn.params["keepdims"]
        made = self.made.get(id(x))
        if not axes:
            return x
        if made is None or keepdims:
            return None
        if made.op == "sum" and not made.params["keepdims"]:
            source, first = made.args[0], made.params["axes"]
            rest = [a for a in range(source.ndim) if a not in first]
            return b.sum(source, tuple(sorted((*first, *(rest[a] for a in axes)))), False)
        if made.op == "dot" and axes == (0,):
            return self.sum_of_products(b, *made.args)
        return None

    def sum_of_products(self, b: Builder, left: Any, right: Any) -> Any:
        """A sum over time of left[t] @ right[t] as one product of matrices with T times as many rows."""
        turned = self.made.get(id(left))
        if left.ndim != 3 or right.ndim != 3 or turned is None or turned.op != "transpose":
            return None
        if turned.params["axes"] != (0, 2, 1):
            return None
        a = turned.args[0]
        rows = a.shape[0] * a.shape[1]
        a2, g2 = b.reshape(a, (rows, a.shape[2])), b.reshape(right, (rows, right.shape[2]))
        for v in (a2, g2):
            if b.eqns and b.eqns[-1].out is v:
                self.made[id(v)] = b.eqns[-1]
        return b.dot(b.transpose(a2, (1, 0)), g2)

    # --- products --------------------------------------------------------------------------------------
    def dot(self, b: Builder, eqn: Eqn, x: Any, y: Any) -> Any:
        """A stack of matrices times one matrix is one matrix with more rows."""
        if x.ndim <= 2 or y.ndim != 2:
            return None
        rows: Any = 1
        for n in x.shape[:-1]:
            rows = rows * n
        return b.reshape(b.dot(b.reshape(x, (rows, x.shape[-1])), y), eqn.out.shape)

    def add(self, b: Builder, eqn: Eqn) -> Any:
        """A sum of parts placed side by side is their concatenation: the gradient of gates."""
        parts = self.placed(eqn)
        if parts is None:
            return None
        axis = parts[0][0]
        parts.sort(key=lambda p: int(p[1]))
        ends = [0, *(int(stop) for _, _, stop, _ in parts)]
        if any(p[0] != axis or int(p[1]) != end for p, end in zip(parts, ends, strict=False)):
            return None
        if ends[-1] != int(eqn.out.shape[axis]):
            return None
        return b.emit("concatenate", [p[3] for p in parts], eqn.out.shape, eqn.out.dtype, axis=axis)

    def placed(self, eqn: Eqn) -> list[Any] | None:
        """Axis, start, stop and value of every part of a sum of placed parts."""
        found: list[Any] = []
        todo: list[Any] = list(eqn.args)
        while todo:
            made = self.made.get(id(todo.pop()))
            if made is not None and made.op == "add" and made.out.shape == eqn.out.shape:
                todo += made.args
            elif made is not None and made.op == "scatter" and len(made.args) == 1:
                place = _one_slice(made.params["template"], made.out.shape)
                if place is None:
                    return None
                found.append([*place, made.args[0]])
            else:
                return None
        return found

    def index(self, b: Builder, eqn: Eqn, x: Any) -> Any:
        template = eqn.params["template"]
        whole = len(template) == x.ndim and all(
            p == slice(None) or p == slice(0, n) for p, n in zip(template, x.shape, strict=True)
        )
        return x if whole else None


def _one_slice(template: tuple[Any, ...], shape: tuple[Any, ...]) -> tuple[int, int, int] | None:
    """Axis, start and stop of an index that cuts one axis only."""
    if any(not isinstance(p, slice) and p is not Ellipsis for p in template):
        return None
    front = list(template)
    if Ellipsis in front:
        k = front.index(Ellipsis)
        front[k : k + 1] = [slice(None)] * (len(shape) - len(front) + 1)
    cuts = [k for k, p in enumerate(front) if p != slice(None)]
    if len(cuts) != 1 or isinstance(shape[cuts[0]], Size):
        return None
    start, stop, step = front[cuts[0]].indices(int(shape[cuts[0]]))
    return (cuts[0], start, stop) if step == 1 else None


_RULES = {"reshape", "broadcast", "transpose", "sum", "dot", "index"}
