"""Products of rows with a matrix that is the same at every timestep: packed once, and then only read.

A BLAS lays the matrix out anew for its registers at every call, which for the few rows of a batch takes up
to half of its time. Here that is done once, before the loop: in panels as wide as a few vector registers, one
row of a panel after the other. A block of rows is then multiplied with a panel in registers alone.
"""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

import llvmlite.binding as llvm
import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

__all__ = ["checked_product_packed", "pack", "pack_turned", "packed_length", "product_packed"]


class Tile(NamedTuple):
    """The bytes of a vector, vectors side by side, and blocks of so many rows, the largest that fit first."""

    vector: int
    vectors: int
    rows: tuple[int, ...]


@cache
def tile() -> Tile:
    """What fits the registers of this CPU: the sums, a row of the panel, and one element of x."""
    features = llvm.get_host_cpu_features()
    if features.get("avx512f"):
        return Tile(64, 2, (8, 4, 2, 1))
    if features.get("avx"):
        return Tile(32, 2, (6, 4, 2, 1))
    return Tile(16, 2, (4, 2, 1))


def _width(itemsize: int) -> int:
    return tile().vectors * tile().vector // itemsize


def packed_length(inner: int, outer: int, dtype: Any) -> int:
    """The number of elements of a packed matrix (inner, outer): its last panel is filled up with zeros."""
    width = _width(np.dtype(dtype).itemsize)
    return inner * width * -(-outer // width)


@intrinsic  # type: ignore[untyped-decorator]
def _panel(context: Any, W: Any) -> Any:
    """The width of a panel, as a constant."""
    size = W.dtype.bitwidth // 8
    return types.int64(W), lambda *_: ir.Constant(ir.IntType(64), _width(size))


_STRIP = 16
"""So many rows of a panel are laid out at a time: they stay in the cache with what they come from."""


def _packing(turned: bool) -> Any:
    def typed(context: Any, W: Any, packed: Any) -> Any:
        if not (isinstance(W, types.Array) and (W.ndim, packed.ndim, W.dtype) == (2, 1, packed.dtype)):
            return None

        def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            W, packed = (
                context.make_array(kind)(context, builder, a)
                for kind, a in zip(signature.args, args, strict=True)
            )
            dtype = signature.args[0].dtype
            zero = ir.Constant(context.get_data_type(dtype), 0)
            _lay_out(builder, W, packed, _width(dtype.bitwidth // 8), turned, zero)
            return context.get_dummy_value()

        return types.void(W, packed), code

    return intrinsic(typed)


def _lay_out(b: Any, W: Any, packed: Any, width: int, turned: bool, zero: Any) -> None:
    """The code of packing: numba would take seconds to compile it from Python."""

    def n(k: int) -> Any:
        return ir.Constant(ir.IntType(64), k)

    shape = cgutils.unpack_tuple(b, W.shape, 2)
    inner, outer = shape[::-1] if turned else shape

    def copy(k: Any, start: Any, j: Any) -> None:
        column = b.add(start, j)
        row, place = (column, k) if turned else (k, column)
        value = b.load(b.gep(W.data, [b.add(b.mul(row, shape[1]), place)]))
        b.store(value, element(k, start, j))

    def element(k: Any, start: Any, j: Any) -> Any:
        return b.gep(packed.data, [b.add(b.add(b.mul(start, inner), b.mul(k, n(width))), j)])

    whole = b.sdiv(outer, n(width))
    with cgutils.for_range_slice(b, n(0), inner, n(_STRIP)) as (first, _):
        end = b.add(first, n(_STRIP))
        last = b.select(b.icmp_signed("<", end, inner), end, inner)
        with cgutils.for_range(b, whole) as panel:
            start = b.mul(panel.index, n(width))
            if turned:
                with cgutils.for_range(b, n(width)) as j, cgutils.for_range(b, last, first) as k:
                    copy(k.index, start, j.index)
            else:
                with cgutils.for_range(b, last, first) as k, cgutils.for_range(b, n(width)) as j:
                    copy(k.index, start, j.index)
    start = b.mul(whole, n(width))
    left = b.sub(outer, start)
    with b.if_then(b.icmp_signed(">", left, n(0))), cgutils.for_range(b, inner) as k:
        with cgutils.for_range(b, left) as j:
            copy(k.index, start, j.index)
        with cgutils.for_range(b, n(width), left) as j:
            b.store(zero, element(k.index, start, j.index))


pack = _packing(turned=False)
"""Lay W (inner, outer) out in panels."""

pack_turned = _packing(turned=True)
"""Lay W.T out in panels, for W (outer, inner)."""


@njit  # type: ignore[untyped-decorator]
def checked_product_packed(x: Any, packed: Any, out: Any) -> None:
    """`product_packed` for tests, where shapes and distances are looked at first."""
    width, size = _panel(x), x.itemsize
    panels = (out.shape[1] + width - 1) // width
    fits = x.shape[0] == out.shape[0] and packed.shape[0] == panels * width * x.shape[1]
    if not (fits and x.strides[1] == out.strides[1] == packed.strides[0] == size):
        raise ValueError("a packed product within a kernel was given arrays that do not fit")
    product_packed(x, packed, out)


@intrinsic  # type: ignore[untyped-decorator]
def product_packed(context: Any, x: Any, packed: Any, out: Any) -> Any:
    """out = x @ W for rows x (B, inner) and a packed W (inner, outer)."""
    if not all(isinstance(a, types.Array) and a.dtype == out.dtype for a in (x, packed, out)):
        return None

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        arrays = [
            context.make_array(kind)(context, builder, a)
            for kind, a in zip(signature.args, args, strict=True)
        ]
        _Product(builder, context.get_data_type(out.dtype), *arrays).write()
        return context.get_dummy_value()

    return types.void(x, packed, out), code


class _Product:
    """Writes the code of one product."""

    def __init__(self, builder: Any, real: Any, x: Any, packed: Any, out: Any) -> None:
        self.builder = builder
        size = 4 if real == ir.FloatType() else 8
        self.lanes, self.vectors, self.rows = tile().vector // size, tile().vectors, tile().rows
        self.width = self.lanes * self.vectors
        self.align = size
        self.vector = ir.VectorType(real, self.lanes)
        self.bools = ir.VectorType(ir.IntType(1), self.lanes)
        self.pointer = self.vector.as_pointer()
        kind = f"v{self.lanes}f{8 * size}"
        self.fma = self._function(f"llvm.fmuladd.{kind}", self.vector, [self.vector] * 3)
        self.masked = self._function(
            f"llvm.masked.store.{kind}.p0",
            ir.VoidType(),
            [self.vector, self.pointer, ir.IntType(32), self.bools],
        )
        self.count, self.inner = cgutils.unpack_tuple(builder, x.shape, 2)
        self.outer = cgutils.unpack_tuple(builder, out.shape, 2)[1]
        self.x, self.packed, self.out = x.data, packed.data, out.data
        self.x_step, self.out_step = (
            builder.sdiv(cgutils.unpack_tuple(builder, a.strides, 2)[0], a.itemsize) for a in (x, out)
        )

    def _function(self, name: str, result: Any, kinds: list[Any]) -> Any:
        return cgutils.get_or_insert_function(self.builder.module, ir.FunctionType(result, kinds), name)

    @staticmethod
    def number(n: int) -> Any:
        """A constant."""
        return ir.Constant(ir.IntType(64), n)

    def write(self) -> None:
        """Panel by panel, in each as many large blocks of rows as there are, then smaller ones."""
        b, n = self.builder, self.number
        panels = b.sdiv(b.add(self.outer, n(self.width - 1)), n(self.width))
        with cgutils.for_range(b, panels) as panel:
            column = b.mul(panel.index, n(self.width))
            start = self.number(0)
            for rows in self.rows:
                blocks = b.sdiv(b.sub(self.count, start), n(rows))
                with cgutils.for_range(b, blocks) as block:
                    self.block(b.add(start, b.mul(block.index, n(rows))), column, rows)
                start = b.add(start, b.mul(blocks, n(rows)))

    def block(self, row: Any, column: Any, rows: int) -> None:
        """`rows` rows from `row` on, for the panel that begins at `column`."""
        b, n = self.builder, self.number
        zero = ir.Constant(self.vector, [0.0] * self.lanes)
        sums = [[cgutils.alloca_once_value(b, zero) for _ in range(self.vectors)] for _ in range(rows)]
        for each in [s for line in sums for s in line]:
            b.store(zero, each)
        panel = b.gep(self.packed, [b.mul(column, self.inner)])
        lines = [b.gep(self.x, [b.mul(b.add(row, n(r)), self.x_step)]) for r in range(rows)]
        with cgutils.for_range(b, self.inner) as k:
            place = b.gep(panel, [b.mul(k.index, n(self.width))])
            weights = [self.load(b.gep(place, [n(v * self.lanes)])) for v in range(self.vectors)]
            for line, mine in zip(lines, sums, strict=True):
                element = self.everywhere(b.load(b.gep(line, [k.index])))
                for w, total in zip(weights, mine, strict=True):
                    b.store(b.call(self.fma, [element, w, b.load(total)]), total)
        left = b.sub(self.outer, column)
        with b.if_else(b.icmp_signed(">=", left, n(self.width))) as (whole, part):
            with whole:
                self.results(row, column, sums, None)
            with part:
                self.results(row, column, sums, left)

    def load(self, place: Any) -> Any:
        """A vector, wherever it lies."""
        found = self.builder.load(self.builder.bitcast(place, self.pointer))
        found.align = self.align
        return found

    def everywhere(self, element: Any) -> Any:
        """A vector of one number."""
        b, word = self.builder, ir.IntType(32)
        first = b.insert_element(ir.Constant(self.vector, ir.Undefined), element, ir.Constant(word, 0))
        spread = ir.Constant(ir.VectorType(word, self.lanes), [0] * self.lanes)
        return b.shuffle_vector(first, ir.Constant(self.vector, ir.Undefined), spread)

    def results(self, row: Any, column: Any, sums: list[list[Any]], left: Any) -> None:
        """Write the sums; left: how many columns there are, if less than a panel's."""
        b, n = self.builder, self.number
        for r, mine in enumerate(sums):
            line = b.gep(self.out, [b.add(b.mul(b.add(row, n(r)), self.out_step), column)])
            for v, total in enumerate(mine):
                place = b.bitcast(b.gep(line, [n(v * self.lanes)]), self.pointer)
                if left is None:
                    b.store(b.load(total), place).align = self.align
                else:
                    there = self.below(b.sub(left, n(v * self.lanes)))
                    b.call(
                        self.masked, [b.load(total), place, ir.Constant(ir.IntType(32), self.align), there]
                    )

    def below(self, bound: Any) -> Any:
        """For each lane whether its number is less than a bound."""
        b, lanes = self.builder, self.lanes
        numbers = ir.Constant(ir.VectorType(ir.IntType(64), lanes), list(range(lanes)))
        undefined = ir.Constant(numbers.type, ir.Undefined)
        first = b.insert_element(undefined, bound, ir.Constant(ir.IntType(32), 0))
        spread = ir.Constant(ir.VectorType(ir.IntType(32), lanes), [0] * lanes)
        return b.icmp_signed("<", numbers, b.shuffle_vector(first, undefined, spread))
