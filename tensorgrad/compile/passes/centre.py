"""Means that a loop takes from products are taken from their matrices instead, once.

    x @ W - mean(x @ W)      becomes   x @ C     with C = W - mean(W), every row of W by itself
    (g - mean(g)) @ W.T      becomes   g @ C.T
    x.T @ (g - mean(g))      becomes   dW - mean(dW) after the loop, dW the sum over time of x.T @ g

The first is how a layer norm of a projection begins, the others how its gradient ends: what the loop keeps of
it is the scale.
"""

from __future__ import annotations

from collections import defaultdict
from math import prod
from typing import Any

from tensorgrad.compile.builder import Builder
from tensorgrad.compile.ir import Const, Eqn, Loop, Out, Pieces, Program, Var, in_numbers, results

__all__ = ["centred_weights"]


def centred_weights(program: Program) -> None:
    """Where a loop goes over more rows than a matrix has, means of products come from the matrix."""
    around = _Around(program)
    for eqn in program.eqns:
        after: list[Any] = []
        if isinstance(eqn, Loop) and not isinstance(eqn, Pieces):
            around.b.section = eqn.section
            after = _Timestep(eqn, around).run()
        around.add([eqn, *after])
    program.eqns = around.b.eqns


class _Around:
    """The equations around the loops.

    zero_mean: variables whose rows are known to have the mean 0. turned: what is read transposed, by its id.
    """

    def __init__(self, program: Program) -> None:
        self.lengths = program.lengths
        self.turned = {id(e.args[0]) for e in program.eqns if e.op == "transpose" and e.out.ndim == 2}
        self.b = Builder([])
        self.made: dict[int, Eqn] = {}
        self.zero_mean: dict[int, Var] = {}
        self.copies: dict[tuple[int, int], Any] = {}

    def add(self, eqns: list[Any]) -> None:
        """Equations that follow."""
        self.b.eqns += eqns
        self.made |= {id(e.out): e for e in eqns if isinstance(e, Eqn)}

    def centred(self, w: Var, axis: int) -> Any:
        """w less its mean along an axis; made once for a matrix and its transpose."""
        if (id(w), axis) not in self.copies:
            source = self.made.get(id(w))
            if source is not None and source.op == "transpose" and w.ndim == 2:
                found = self.b.transpose(self.centred(source.args[0], 1 - axis), (1, 0))
            else:
                found = _less_mean(self.b, w, axis)
                found.name = f"{w.name}_centred" if w.name else None
            self.copies[id(w), axis] = found
        return self.copies[id(w), axis]


class _Timestep:
    """The body of one loop, and who reads what in it."""

    def __init__(self, loop: Loop, around: _Around) -> None:
        self.loop, self.around = loop, around
        inside = [inner for _, inner in loop.xs] + [c.before for c in loop.carries]
        self.inside = {id(v) for v in inside + [v for e in loop.body for v in results(e)]}
        self.made = {id(e.out): e for e in loop.body if isinstance(e, Eqn)}
        self.readers: dict[int, list[Any]] = defaultdict(list)
        for reader in loop.body:
            for a in {id(a): a for a in reader.args}.values():
                self.readers[id(a)].append(reader)
        for o in loop.outs:
            self.readers[id(o.inner)].append(o)
        for c in loop.carries:
            self.readers[id(c.after)].append(c)

    def run(self) -> list[Eqn]:
        """Take the means out of the body; the equations that have to follow the loop."""
        zero_mean = self.around.zero_mean
        zero_mean |= {id(inner): inner for x, inner in self.loop.xs if id(x) in zero_mean}
        for eqn in list(self.loop.body):
            y = self.mean_taken_from(eqn)
            places = self.products(eqn) if y is not None else None
            if places is not None:
                for user, k in places:
                    user.args[k] = self.centred(user.args[k], user.args[k].ndim - 1)
                self.put(y, eqn)
                zero_mean[id(y)] = y
            elif y is not None or self.keeps_mean_zero(eqn):
                zero_mean[id(eqn.out)] = eqn.out
        after: list[Eqn] = []
        for eqn in list(self.loop.body):
            if self.mean_taken_from(eqn) is not None:
                after += self.mean_taken_later(eqn)
        zero_mean |= {id(o.outer): o.outer for o in self.loop.outs if id(o.inner) in zero_mean}
        return after

    def mean_taken_from(self, eqn: Any) -> Any:
        """y, if the equation is y - mean(y) along rows."""
        y, mean = eqn.args if eqn.op == "subtract" else (None, None)
        share = self.made.get(id(mean))
        if y is None or share is None or share.op != "divide" or not isinstance(share.args[1], Const):
            return None
        total, n = self.made.get(id(share.args[0])), share.args[1].value
        if total is None or total.op != "sum" or total.args[0] is not y or n.ndim or y.dtype.kind != "f":
            return None
        along_rows = total.params["axes"] == (y.ndim - 1,) and total.params["keepdims"]
        return y if along_rows and y.shape[-1] == n and eqn.out.shape == y.shape else None

    def products(self, eqn: Eqn) -> list[tuple[Eqn, int]] | None:
        """For y - mean(y), where the matrices and rows stand that y is the sum of products with.

        None if it is no such sum, or if anything else reads y or its mean.
        """
        y, mean = eqn.args
        alone = all(len(self.readers[id(v)]) == 1 for v in (mean, self.made[id(mean)].args[0]))
        if not alone or any(isinstance(reader, Loop) for reader in self.readers[id(eqn.out)]):
            return None
        found: list[tuple[Eqn, int]] = []
        terms, readers = [y], 2
        while terms:
            term = terms.pop()
            made = self.made.get(id(term))
            if made is None or len(self.readers[id(term)]) != readers:
                return None
            readers = 1
            if made.op == "dot" and self.is_worth(made.args[1], term):
                found.append((made, 1))
            elif made.op == "add":
                for k, a in enumerate(made.args):
                    if self.is_outside(a) and a.shape == y.shape[-1:]:
                        found.append((made, k))
                    elif a.shape == y.shape:
                        terms.append(a)
                    else:
                        return None
            else:
                return None
        return found

    def is_outside(self, x: Any) -> bool:
        """Whether x is a variable from around the loop."""
        return isinstance(x, Var) and id(x) not in self.inside

    def is_worth(self, w: Any, rows: Any) -> bool:
        """Whether w is a matrix from around the loop, smaller than the rows of all timesteps together."""
        turned = self.made.get(id(w))
        source = turned.args[0] if turned is not None and turned.op == "transpose" else w
        fits = self.is_outside(source) and w.ndim == 2 and w.dtype == rows.dtype
        return fits and self.is_smaller(w, rows)

    def centred(self, w: Var, axis: int) -> Any:
        """A matrix or row from around the loop, maybe transposed in its body, less its mean along an axis."""
        if id(w) not in self.inside:
            return self.around.centred(w, axis)
        source = self.made[id(w)].args[0]
        return self.around.b.transpose(self.around.centred(source, 1 - axis), (1, 0))

    def is_smaller(self, w: Any, rows: Any) -> bool:
        """Whether w has fewer elements than the rows of all timesteps together."""
        lengths = self.around.lengths
        count = prod(in_numbers(n, lengths) for n in (self.loop.length, *rows.shape))
        return prod(in_numbers(n, lengths) for n in w.shape) < count

    def keeps_mean_zero(self, eqn: Any) -> bool:
        """Whether rows with the mean 0 are scaled, added or subtracted."""
        if eqn.op in ("add", "subtract"):
            return all(self.has_mean_zero(a) and a.shape == eqn.out.shape for a in eqn.args)
        return any(self.has_mean_zero(a) and _scales_rows(eqn, a) for a in eqn.args)

    def has_mean_zero(self, x: Any) -> bool:
        """Whether the rows of x are known to have the mean 0."""
        return id(x) in self.around.zero_mean

    def mean_taken_later(self, eqn: Eqn) -> list[Eqn]:
        """Leave the mean in if all that comes of it are products: it is taken from their matrices or sums.

        Nothing changes otherwise. Returns what has to follow the loop.
        """
        chain, edits, sums = [eqn.out], [], []
        for r in chain:
            for reader in self.readers[id(r)]:
                if not isinstance(reader, Eqn):
                    return []
                if reader.op == "dot" and reader.args[0] is r and self.is_worth(reader.args[1], r):
                    edits.append(reader)
                elif self.is_summed(reader, r):
                    sums += self.readers[id(reader.out)]
                elif _scales_rows(reader, r) or self.adds_mean_zero(reader, r):
                    chain += [] if any(reader.out is v for v in chain) else [reader.out]
                else:
                    return []
        for product in edits:
            product.args[1] = self.centred(product.args[1], 0)
        for r in chain:
            self.around.zero_mean.pop(id(r), None)
        self.put(eqn.args[0], eqn)
        return [e for o in sums for e in self.centred_after(o)]

    def is_summed(self, reader: Eqn, r: Var) -> bool:
        """Whether the loop adds up, over time and nowhere else, products with r or sums of its rows."""
        rows = reader.op == "sum" and reader.params["axes"] == tuple(range(r.ndim - 1))
        product = reader.op == "dot" and reader.args[1] is r and reader.args[0] is not r
        if not (product or (rows and not reader.params["keepdims"])) or reader.out.shape[-1:] != r.shape[-1:]:
            return False
        ends = self.readers[id(reader.out)]
        return all(isinstance(o, Out) and o.kind == "sum" for o in ends) and self.is_smaller(reader.out, r)

    def adds_mean_zero(self, reader: Eqn, r: Var) -> bool:
        """Whether rows with the mean 0 are added to those of r, or subtracted."""
        others = [a for a in reader.args if a is not r]
        fits = reader.op in ("add", "subtract") and len(others) == 1
        return fits and self.has_mean_zero(others[0]) and others[0].shape == reader.out.shape == r.shape

    def put(self, y: Any, eqn: Eqn) -> None:
        """y takes the place of an equation's result."""
        old = eqn.out
        self.loop.body.remove(eqn)
        self.readers[id(y)].remove(eqn)
        for reader in self.readers.pop(id(old)):
            if isinstance(reader, Eqn):
                reader.args = [y if a is old else a for a in reader.args]
            elif isinstance(reader, Out):
                reader.inner = y
            else:
                reader.after = y
            self.readers[id(y)].append(reader)

    def centred_after(self, out: Out) -> list[Eqn]:
        """The equations that take the mean of the rows of a sum over time from it, and give it its name."""
        eqns: list[Any] = []
        b = Builder(eqns)
        b.section = self.loop.section
        whole, out.outer = out.outer, Var(out.outer.shape, out.outer.dtype)
        if id(whole) in self.around.turned:
            b.transpose(_less_mean(b, b.transpose(out.outer, (1, 0)), 0), (1, 0))
        else:
            _less_mean(b, out.outer, whole.ndim - 1)
        eqns[-1].out = whole
        return eqns


def _less_mean(b: Builder, w: Var, axis: int) -> Var:
    mean = b.map("divide", b.sum(w, (axis,), keepdims=axis > 0), w.shape[axis])
    return b.map("subtract", w, mean)


def _scales_rows(eqn: Any, rows: Any) -> bool:
    """Whether an equation multiplies each of the rows by one number, or divides it."""
    if eqn.op not in ("multiply", "divide") or (eqn.op == "divide" and eqn.args[0] is not rows):
        return False
    others = [a for a in eqn.args if a is not rows]
    return len(others) == 1 and others[0].shape[-1:] in ((), (1,)) and eqn.out.shape == rows.shape
