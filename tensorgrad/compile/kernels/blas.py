"""Matrix products within kernels, by the very BLAS that NumPy has loaded.

NumPy's wheels bring a BLAS whose C functions are found in the library that is already in the process: the
same kernels, the same threads, no interpreter in between. Where none is found, plain loops do the work.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import llvmlite.binding as llvm
import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

__all__ = ["Blas", "blas", "checked_product", "product", "set_threads", "threads"]

_SPELLINGS = [
    ("scipy_cblas_{}64_", 64),
    ("cblas_{}64_", 64),
    ("cblas_{}64__", 64),
    ("scipy_cblas_{}", 32),
    ("cblas_{}", 32),
]
"""How libraries spell the names, and the bits of their integers."""


class Blas(NamedTuple):
    """The library's file, how it spells the names, and the bits of its integers."""

    path: str
    spelling: str
    bits: int


def _loaded() -> Iterator[str]:
    """Files that may hold NumPy's BLAS, which NumPy has loaded."""
    home = Path(np.__file__).parent
    for folder in (home.parent / "numpy.libs", home / ".dylibs", home / ".libs"):
        yield from sorted(str(p) for p in folder.glob("*blas*"))
    maps = Path("/proc/self/maps")
    if maps.exists():
        files = {line.split(maxsplit=5)[-1].strip() for line in maps.read_text().splitlines() if "/" in line}
        yield from sorted(f for f in files if any(n in Path(f).name for n in ("blas", "mkl_rt")))
    if sys.platform == "darwin":
        yield "/System/Library/Frameworks/Accelerate.framework/Accelerate"


@cache
def blas() -> Blas | None:
    """NumPy's BLAS, its functions made known to LLVM; None where none was found."""
    for path in _loaded():
        try:
            library = ctypes.CDLL(path)
        except OSError:
            continue
        for spelling, bits in _SPELLINGS:
            names = [spelling.format(n) for n in ("sgemm", "dgemm", "sgemv", "dgemv")]
            if all(hasattr(library, n) for n in names):
                for name, short in zip(names, ("sgemm", "dgemm", "sgemv", "dgemv"), strict=True):
                    address = ctypes.cast(getattr(library, name), ctypes.c_void_p).value
                    llvm.add_symbol(f"tensorgrad_{short}_{bits}", address)
                return Blas(path, spelling, bits)
    return None


def threads() -> int | None:
    """The number of threads that NumPy's BLAS uses now; None where it cannot be asked."""
    ask = _asked("get")
    return None if ask is None else int(ask())


def set_threads(count: int) -> None:
    """Have NumPy's BLAS use so many threads, where `threads` knows how many they are."""
    _asked("set")(count)


@cache
def _asked(what: str) -> Any:
    """OpenBLAS's function that gets, or sets, the number of its threads; None where there is none."""
    found = blas()
    library = None if found is None else ctypes.CDLL(found.path)
    names = [f"{of}openblas_{what}_num_threads{suffix}" for of in ("scipy_", "") for suffix in ("64_", "")]
    return next((getattr(library, name) for name in names if hasattr(library, name)), None)


_ROW_MAJOR, _PLAIN, _TURNED = 101, 111, 112


@intrinsic  # type: ignore[untyped-decorator]
def product(context: Any, x: Any, W: Any, out: Any) -> Any:
    """out = x @ W, for rows (or one row) x of any distance and a contiguous W."""
    if not all(isinstance(a, types.Array) and a.dtype == W.dtype for a in (x, W, out)):
        return None

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        arrays = [
            context.make_array(kind)(context, builder, a)
            for kind, a in zip(signature.args, args, strict=True)
        ]
        found = blas()
        if found is None:
            _by_loops(context, builder, signature.args, arrays)
        else:
            _by_blas(context, builder, signature.args, arrays, found)
        return context.get_dummy_value()

    return types.void(x, W, out), code


@njit  # type: ignore[untyped-decorator]
def checked_product(x: Any, W: Any, out: Any) -> None:
    """The same for tests, where shapes and distances are looked at first."""
    size = W.itemsize
    fits = x.ndim == out.ndim and W.strides == (W.shape[1] * size, size)
    fits &= x.shape[-1] == W.shape[0] > 0 and out.shape[-1] == W.shape[1] > 0
    fits &= x.shape[:-1] == out.shape[:-1] and x.strides[-1] == out.strides[-1] == size
    if not (fits and x.strides[0] > 0 and out.strides[0] > 0):
        raise ValueError("a matrix product within a kernel was given arrays that do not fit")
    product(x, W, out)


def _sizes(builder: Any, kinds: Any, arrays: Any) -> tuple[Any, ...]:
    """Rows, inner and outer width, and the distances of rows in elements."""
    x, W, out = arrays
    inner, outer = cgutils.unpack_tuple(builder, W.shape, 2)
    if kinds[0].ndim == 1:
        return ir.Constant(ir.IntType(64), 1), inner, outer, inner, outer
    rows = cgutils.unpack_tuple(builder, x.shape, 2)[0]
    steps = (builder.sdiv(cgutils.unpack_tuple(builder, a.strides, 2)[0], a.itemsize) for a in (x, out))
    return rows, inner, outer, *steps


def _by_blas(context: Any, builder: Any, kinds: Any, arrays: Any, found: Blas) -> None:
    rows, inner, outer, x_step, out_step = _sizes(builder, kinds, arrays)
    real = context.get_data_type(kinds[1].dtype)
    letter = "s" if kinds[1].dtype == types.float32 else "d"
    word, flag, pointer = ir.IntType(found.bits), ir.IntType(32), arrays[0].data.type
    one, zero = ir.Constant(real, 1), ir.Constant(real, 0)

    def length(n: Any) -> Any:
        return n if found.bits == 64 else builder.trunc(n, word)

    def call(name: str, kinds_of: list[Any], values: list[Any]) -> None:
        kind = ir.FunctionType(ir.VoidType(), kinds_of)
        fn = cgutils.get_or_insert_function(builder.module, kind, f"tensorgrad_{letter}{name}_{found.bits}")
        builder.call(fn, values)

    x, W, out = (a.data for a in arrays)
    with builder.if_else(builder.icmp_signed("==", rows, ir.Constant(rows.type, 1))) as (single, several):
        with single:
            # One row: the rows of W times its elements.
            values = [
                ir.Constant(flag, _ROW_MAJOR), ir.Constant(flag, _TURNED), length(inner), length(outer),
                one, W, length(outer), x, ir.Constant(word, 1), zero, out, ir.Constant(word, 1),
            ]  # fmt: skip
            kinds_of = [flag, flag, word, word, real, pointer, word, pointer, word, real, pointer, word]
            call("gemv", kinds_of, values)
        with several:
            values = [
                ir.Constant(flag, _ROW_MAJOR), ir.Constant(flag, _PLAIN), ir.Constant(flag, _PLAIN),
                length(rows), length(outer), length(inner), one, x, length(x_step), W, length(outer),
                zero, out, length(out_step),
            ]  # fmt: skip
            kinds_of = [flag, flag, flag, word, word, word, real, pointer, word, pointer, word]
            call("gemm", [*kinds_of, real, pointer, word], values)


def _by_loops(context: Any, builder: Any, kinds: Any, arrays: Any) -> None:
    """Row by row of the result: the sum of W's rows, each times an element of x."""
    rows, inner, outer, x_step, out_step = _sizes(builder, kinds, arrays)
    real = context.get_data_type(kinds[1].dtype)
    x, W, out = (a.data for a in arrays)
    with cgutils.for_range(builder, rows) as row:
        mine = builder.gep(out, [builder.mul(row.index, out_step)])
        its = builder.gep(x, [builder.mul(row.index, x_step)])
        with cgutils.for_range(builder, outer) as column:
            builder.store(ir.Constant(real, 0), builder.gep(mine, [column.index]))
        with cgutils.for_range(builder, inner) as k:
            factor = builder.load(builder.gep(its, [k.index]))
            weights = builder.gep(W, [builder.mul(k.index, outer)])
            with cgutils.for_range(builder, outer) as column:
                place = builder.gep(mine, [column.index])
                term = builder.fmul(factor, builder.load(builder.gep(weights, [column.index])))
                builder.store(builder.fadd(builder.load(place), term), place)
