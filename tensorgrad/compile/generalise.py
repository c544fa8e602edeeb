"""From two traces with different lengths to one program in symbols."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import zip_longest
from typing import Any

import numpy as np

from tensorgrad import tree
from tensorgrad.compile.constants import made_of_lengths
from tensorgrad.compile.ir import Const, Eqn, Loop, Program, Var
from tensorgrad.compile.lengths import plain
from tensorgrad.compile.sizes import Size, SizeUnknown, Symbols
from tensorgrad.errors import UserError
from tensorgrad.graph import Node

__all__ = ["check_results", "generalise", "same_results"]


def generalise(first: Program, second: Program, symbols: Symbols) -> Program:
    """The first program with symbols for every length in which the second differs.

    Raises SizeUnknown where the programs differ in more than lengths.
    """
    merge = _Merge(symbols)
    for a, b in zip(first.inputs, second.inputs, strict=True):
        merge.var(a, b)
    first.eqns = merge.block(first.eqns, second.eqns)
    first.outputs = [merge.operand(a, b) for a, b in zip(first.outputs, second.outputs, strict=True)]
    first.eqns += merge.made
    first.bounds = merge.bounds
    return first


_PLAIN = (Node, np.ndarray, np.generic, np.dtype, str, bytes, int, float, complex, type(None), type)


def check_results(results: list[Any], paths: Iterable[str]) -> None:
    """Raise UserError for a result that a compiled function cannot give."""
    for path, r in zip(paths, results, strict=True):
        if not isinstance(r, _PLAIN):
            raise UserError(
                f"tg.compile: the function returns {f'at {path!r} ' if path else ''}an object of type "
                f"{type(r).__name__}, which it would make only once. Return Tensors, arrays and numbers, or "
                "tuples, lists and dicts of them"
            )


def same_results(first: Any, second: Any) -> None:
    """Raise SizeUnknown unless two traces decided the same and gave the same, but for what is computed.

    first, second: with `decisions`, `form` (the structure of the results) and `results`.
    """
    for a, b in zip_longest(first.decisions, second.decisions):
        if a != b:
            raise SizeUnknown(f"a decision depends on a length{(a or b)[1]}")
    if not tree.same_structure(first.form, second.form):
        raise SizeUnknown("the form of the results depends on the lengths")
    for x, y in zip(first.results, second.results, strict=True):
        if not isinstance(x, Node) and not _equal(x, y):
            raise SizeUnknown("a result that is not computed depends on the lengths")


def _equal(x: Any, y: Any) -> bool:
    if isinstance(x, (np.ndarray, np.generic)):
        return type(x) is type(y) and x.dtype == y.dtype and np.array_equal(x, y)
    return x is y or (type(x) is type(y) and bool(plain(x) == plain(y)))


class _Merge:
    def __init__(self, symbols: Symbols) -> None:
        self.symbols = symbols
        self.twins: dict[int, int] = {}
        # Constants whose shape depends on the sizes, as equations.
        self.made: list[Eqn] = []
        # Sizes, and what each must be at least.
        self.bounds: list[tuple[Size, int]] = []

    def var(self, a: Var, b: Var) -> None:
        if len(a.shape) != len(b.shape) or a.dtype != b.dtype:
            raise SizeUnknown(f"a value of shape {a.shape} for one set of lengths and {b.shape} for another")
        a.shape = tuple(self.symbols.solve(n, m) for n, m in zip(a.shape, b.shape, strict=True))
        # What was decided by an axis was decided for one that is not empty.
        self.bounds += [(n, 1) for n in a.shape if isinstance(n, Size) and "-" in n.text]
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
        out = made_of_lengths(a, b, self.symbols, self.made)
        if out is None:
            raise SizeUnknown(
                f"a constant array of shape {a.shape} for one set of lengths and {b.shape} for another"
            )
        return out

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
                self.cuts(a)
            out += [*self.made, a]
            self.made = []
        return out

    def cuts(self, eqn: Eqn) -> None:
        """A slice is as long as it was in the traces only where what it slices is long enough."""
        template = eqn.params.get("template", ())
        whole = eqn.out.shape if eqn.op == "scatter" else eqn.args[0].shape if template else ()
        parts = [p for p in template if p is not None]
        if Ellipsis in parts:
            k = parts.index(Ellipsis)
            parts[k : k + 1] = [slice(None)] * (len(whole) - len(parts) + 1)
        for n, part in zip(whole, parts, strict=False):
            if isinstance(n, Size) and isinstance(part, slice):
                ends = (part.start, part.stop, part.step)
                least = max((abs(k) for k in ends if k is not None and not isinstance(k, Size)), default=0)
                if least > int(n):
                    raise SizeUnknown("a slice may be longer than what it slices")
                self.bounds.append((n, least))

    def loop(self, a: Loop, b: Loop) -> None:
        a.length = self.symbols.solve(a.length, b.length)
        if a.checkpoint != b.checkpoint:
            raise SizeUnknown("how many timesteps a checkpoint has depends on the lengths")
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
