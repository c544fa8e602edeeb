"""From two traces with different lengths to one program in symbols."""

from __future__ import annotations

from typing import Any

import numpy as np

from tensorgrad.compile.ir import Const, Eqn, Loop, Program, Var
from tensorgrad.compile.sizes import SizeUnknown, Symbols

__all__ = ["generalise"]


def generalise(first: Program, second: Program, symbols: Symbols) -> Program:
    """The first program with symbols for every length in which the second differs.

    Raises SizeUnknown where the programs differ in more than lengths.
    """
    merge = _Merge(symbols)
    for a, b in zip(first.inputs, second.inputs, strict=True):
        merge.var(a, b)
    first.eqns = merge.block(first.eqns, second.eqns)
    first.outputs = [merge.operand(a, b) for a, b in zip(first.outputs, second.outputs, strict=True)]
    return first


class _Merge:
    def __init__(self, symbols: Symbols) -> None:
        self.symbols = symbols
        self.twins: dict[int, int] = {}
        # Constants whose shape depends on the sizes, as equations.
        self.made: list[Eqn] = []

    def var(self, a: Var, b: Var) -> None:
        if len(a.shape) != len(b.shape) or a.dtype != b.dtype:
            raise SizeUnknown(f"a value of shape {a.shape} for one set of lengths and {b.shape} for another")
        a.shape = tuple(self.symbols.solve(n, m) for n, m in zip(a.shape, b.shape, strict=True))
        self.twins[id(a)] = id(b)

    def operand(self, a: Any, b: Any) -> Any:
        if isinstance(a, Var):
            if self.twins.get(id(a)) != id(b):
                raise SizeUnknown("which values meet depends on the lengths")
            return a
        if not isinstance(b, Const):
            raise SizeUnknown("what is constant depends on the lengths")
        return self.const(a, b)

    def const(self, a: Const, b: Const) -> Any:
        if a.shape == b.shape and np.array_equal(a.value, b.value, equal_nan=a.dtype.kind in "fc"):
            return a
        if a.shape == b.shape == ():
            return Const(a.value, self.symbols.solve_number(a.value.item(), b.value.item()))
        fills = {*a.value.flat[:1].tolist(), *b.value.flat[:1].tolist()}
        if (
            a.ndim == b.ndim
            and len(fills) == 1
            and (a.value == a.value.flat[0]).all()
            and (b.value == a.value.flat[0]).all()
        ):
            shape = tuple(self.symbols.solve(n, m) for n, m in zip(a.shape, b.shape, strict=True))
            out = Var(shape, a.dtype)
            self.made.append(Eqn("full", [], {"shape": shape, "value": a.value.flat[0].item()}, out))
            return out
        raise SizeUnknown(
            f"a constant array of shape {a.shape} for one set of lengths and {b.shape} for another"
        )

    def block(self, first: list[Any], second: list[Any]) -> list[Any]:
        if len(first) != len(second):
            raise SizeUnknown("how many operations run depends on the lengths")
        out: list[Any] = []
        for a, b in zip(first, second, strict=True):
            if type(a) is not type(b) or a.op != b.op:
                raise SizeUnknown("which operations run depends on the lengths")
            if isinstance(a, Loop):
                self.loop(a, b)
            else:
                a.args = [self.operand(x, y) for x, y in zip(a.args, b.args, strict=True)]
                a.params = {k: self.param(a.params[k], b.params[k]) for k in a.params}
                self.var(a.out, b.out)
            out += [*self.made, a]
            self.made = []
        return out

    def loop(self, a: Loop, b: Loop) -> None:
        a.length = self.symbols.solve(a.length, b.length)
        a.xs = [(self.operand(x, y), v) for (x, v), (y, _) in zip(a.xs, b.xs, strict=True)]
        for (_, v), (_, w) in zip(a.xs, b.xs, strict=True):
            self.var(v, w)
        for c, d in zip(a.carries, b.carries, strict=True):
            c.init = self.operand(c.init, d.init)
            self.var(c.before, d.before)
        made, self.made = self.made, []
        a.body = self.block(a.body, b.body)
        for c, d in zip(a.carries, b.carries, strict=True):
            c.after = self.operand(c.after, d.after)
            if c.final is not None and d.final is not None:
                self.var(c.final, d.final)
        if len(a.outs) != len(b.outs):
            raise SizeUnknown("what a loop gives depends on the lengths")
        for o, p in zip(a.outs, b.outs, strict=True):
            o.inner = self.operand(o.inner, p.inner)
            self.var(o.outer, p.outer)
        # What the results of the body need is made before the loop.
        self.made = made + self.made

    def param(self, a: Any, b: Any) -> Any:
        if isinstance(a, tuple) and isinstance(b, tuple):
            if len(a) != len(b):
                raise SizeUnknown("a parameter of an operation depends on the lengths")
            return tuple(self.param(x, y) for x, y in zip(a, b, strict=True))
        if isinstance(a, slice) and isinstance(b, slice):
            return slice(*(self.param(getattr(a, k), getattr(b, k)) for k in ("start", "stop", "step")))
        if isinstance(a, (int, float)) and isinstance(b, (int, float)) and a != b:
            return self.symbols.solve(a, b)
        if isinstance(a, np.ndarray) or isinstance(b, np.ndarray):
            if not np.array_equal(a, b):
                raise SizeUnknown("a parameter of an operation depends on the lengths")
            return a
        if a is not b and a != b:
            raise SizeUnknown("a parameter of an operation depends on the lengths")
        return a
