"""Constant arrays whose shape depends on free lengths, as equations: zeros, ramps, diagonals, triangles."""

from __future__ import annotations

from typing import Any

import numpy as np

from tensorgrad.compile.builder import Builder
from tensorgrad.compile.ir import Const
from tensorgrad.compile.sizes import Symbols

__all__ = ["made_of_lengths"]


def made_of_lengths(a: Const, b: Const, symbols: Symbols, eqns: list[Any]) -> Any:
    """What is the array `a` for one set of lengths and `b` for another, or None if that is not known.

    Appends to eqns. Raises SizeUnknown for a shape that cannot be written in the symbols.
    """
    if a.ndim != b.ndim or a.dtype != b.dtype:
        return None
    shape = tuple(symbols.solve(n, m) for n, m in zip(a.shape, b.shape, strict=True))
    builder = Builder(eqns)
    if not (a.value.size and b.value.size):
        return builder.emit("full", [], shape, a.dtype, shape=shape, value=0)
    # Along an axis on which all elements are the same, one of them tells all.
    axes = [k for k in range(a.ndim) if not (_same_along(a.value, k) and _same_along(b.value, k))]
    core = tuple(slice(None) if k in axes else slice(0, 1) for k in range(a.ndim))
    first, second = np.squeeze(a.value[core]), np.squeeze(b.value[core])
    if not axes:
        if first != second and not (first != first and second != second):
            return None
        return builder.emit("full", [], shape, a.dtype, shape=shape, value=first.item())
    if first.ndim != len(axes) or second.ndim != len(axes):
        return None
    lengths = [shape[k] for k in axes]
    made = None
    if len(axes) == 1:
        made = _ramp(builder, first, second, lengths[0])
    elif len(axes) == 2:
        made = _two_valued(builder, first, second, lengths)
    if made is None:
        return None
    kept = builder.reshape(made, tuple(n if k in axes else 1 for k, n in enumerate(shape)))
    return builder.broadcast(kept, shape)


def _same_along(x: Any, axis: int) -> bool:
    return bool(np.array_equal(x, np.broadcast_to(x.take([0], axis), x.shape), equal_nan=x.dtype.kind == "f"))


def _arange(b: Builder, n: Any) -> Any:
    return b.emit("arange", [], (n,), np.intp, n=n)


def _ramp(b: Builder, first: Any, second: Any, n: Any) -> Any:
    """0, 1, 2, ..."""
    if any(not np.array_equal(x, np.arange(len(x))) for x in (first, second)):
        return None
    return b.cast(_arange(b, n), first.dtype)


def _two_valued(b: Builder, first: Any, second: Any, lengths: list[Any]) -> Any:
    """One number on the diagonal, or below one of the diagonals, and another elsewhere."""
    values = np.unique(first)
    if len(values) != 2 or not np.array_equal(values, np.unique(second)):
        return None
    rows, columns = (_arange(b, n) for n in lengths)
    rows = b.reshape(rows, (lengths[0], 1))
    for inside, outside in (values, values[::-1]):
        at = Const(inside), Const(outside)
        if all(np.array_equal(x == inside, np.eye(*x.shape, dtype=bool)) for x in (first, second)):
            return _chosen(b, b.map("equal", rows, columns), *at)
        row = int((first == inside).any(axis=1).argmax())
        k = int(np.count_nonzero(first[row] == inside)) - 1 - row
        if all(np.array_equal(x == inside, np.tri(*x.shape, k, dtype=bool)) for x in (first, second)):
            last = b.map("add", rows, Const(np.asarray(k, rows.dtype)))
            return _chosen(b, b.map("less_equal", columns, last), *at)
    return None


def _chosen(b: Builder, where: Any, inside: Const, outside: Const) -> Any:
    if inside.dtype == bool:
        return where if inside.value else b.map("logical_not", where)
    return b.map("where", where, inside, outside)
