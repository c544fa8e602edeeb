"""What NumPy and its BLAS do faster; kernels go their own ways.

    sum of x * y along rows               becomes   the product of each row of x with that of y
    (g / std).T @ x, x with few columns   becomes   g.T @ (x / std)

The latter overflows where x / std does, and the former where g / std does. Both take fewer passes over
memory. And matrices that loops multiply by get room between their rows.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from tensorgrad.compile.builder import Builder
from tensorgrad.compile.ir import Eqn, Loop, Pieces, Program, Var, in_numbers, walk
from tensorgrad.compile.passes.clean import dead_code

__all__ = ["row_products", "rows_apart", "scaled_later"]


class _Block:
    """Equations of one block, and how often what they make is read. made: also what is made around."""

    def __init__(self, eqns: list[Any], ends: list[Any], around: dict[int, Any]) -> None:
        self.eqns = eqns
        inner = [a for e in eqns if isinstance(e, Loop) for b in e.body for a in b.args]
        self.uses = Counter(id(a) for a in [*ends, *inner, *(a for e in eqns for a in e.args)])
        self.made = {**around, **{id(e.out): e for e in eqns if isinstance(e, Eqn)}}

    def alone(self, x: Any, *ops: str) -> Eqn | None:
        """The equation that makes x, if it is one of these and nothing else reads x."""
        made = self.made.get(id(x))
        return made if made is not None and made.op in ops and self.uses[id(x)] == 1 else None


def row_products(program: Program) -> None:
    """Sums along rows of products are products of rows: the matrix of products is not written."""
    whole = _Block(program.eqns, program.outputs, {})
    for eqn in program.eqns:
        if isinstance(eqn, Loop) and not isinstance(eqn, Pieces):
            ends = [c.after for c in eqn.carries] + [o.inner for o in eqn.outs]
            _row_products(_Block(eqn.body, ends, whole.made))
    _row_products(whole)
    dead_code(program)


def _row_products(block: _Block) -> None:
    for eqn in block.eqns:
        total = block.alone(eqn.args[0], "dot") if eqn.op == "reshape" else None
        ones = block.made.get(id(total.args[1])) if total is not None and total.out.ndim == 1 else None
        if total is None or ones is None or ones.op != "full" or ones.params["value"] != 1:
            continue
        rows = total.args[0]
        if (view := block.alone(rows, "reshape")) is not None:
            rows = view.args[0]
        product = block.alone(rows, "multiply", "square")
        if product is None or eqn.out.shape != (*rows.shape[:-1], 1):
            continue
        x, y = product.args * (2 // len(product.args))
        if x.shape == y.shape == rows.shape and x.dtype == y.dtype:
            eqn.op, eqn.args, eqn.params = "row_dot", [x, y], {}


def scaled_later(program: Program) -> None:
    """A matrix whose rows are scaled for one product alone, with a narrower one: that is scaled instead."""
    block = _Block(program.eqns, program.outputs, {})
    eqns: list[Any] = []
    b = Builder(eqns)
    for eqn in program.eqns:
        found = _scaled(block, eqn) if eqn.op == "dot" else None
        if found is not None:
            op, g, scale = found
            y, b.section = eqn.args[1], eqn.section
            rows = b.reshape(g, (y.shape[0], g.shape[-1]))
            column = b.reshape(scale, (y.shape[0], 1))
            eqn.args = [b.transpose(rows, (1, 0)), b.emit(op, [y, column], y.shape, y.dtype)]
        eqns.append(eqn)
    program.eqns = eqns
    dead_code(program)


def _scaled(block: _Block, dot: Eqn) -> tuple[str, Var, Any] | None:
    """For (g * scale).T @ x how, g and the scale, one number for each of its rows."""
    turned = block.alone(dot.args[0], "transpose")
    rows = turned and block.alone(turned.args[0], "reshape")
    scaled = rows and block.alone(rows.args[0], "multiply", "divide")
    if rows is None or scaled is None or dot.args[1].ndim != 2 or dot.out.ndim != 2:
        return None
    (g, scale), wide, y = scaled.args, scaled.out, dot.args[1]
    width, columns = wide.shape[-1], dot.out.shape[1]
    fits = g.shape == wide.shape and scale.shape == (*wide.shape[:-1], 1)
    fits = fits and len({g.dtype, scale.dtype, y.dtype, wide.dtype}) == 1
    # The same rows one after the other, whatever B and T are.
    fits = fits and type(width) is type(columns) is int and rows.out.shape[1:] == (width,)
    return (scaled.op, g, scale) if fits and columns < width else None


_LINE = 64
"""Bytes of a cache line."""

_ALIKE = 512
"""Rows so many bytes apart, or a multiple, go to few places of the cache, where they drive each other out."""


def rows_apart(program: Program) -> None:
    """Copies of matrices that loops multiply by get a cache line between rows that lie unluckily in memory.

    A BLAS reads some columns of all rows at a time. Rows of 2,048 numbers in single precision, 8 KiB apart,
    make a product with 64 rows a third slower, with 8 rows twice as slow.
    """
    copies = {id(e.out): e for e in walk(program.eqns) if e.op == "copy" and e.out.ndim == 2}
    factors = [e for e in walk(program.eqns) if e.op == "dot" and id(e.args[1]) in copies]
    reads = Counter(id(a) for e in walk(program.eqns) if isinstance(e, Eqn) for a in e.args)
    reads += Counter(id(a) for a in program.outputs)
    for dot in factors:
        x, w = dot.args
        several = x.ndim == 2 and in_numbers(x.shape[0], program.lengths) > 1
        alone = reads[id(w)] == sum(e.args[1] is w for e in factors)
        if several and alone and type(w.shape[1]) is int and w.shape[1] * w.dtype.itemsize % _ALIKE == 0:
            copies[id(w)].params = {"apart": _LINE // w.dtype.itemsize}
