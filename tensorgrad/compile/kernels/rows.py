"""Which values of a program are matrices of rows, and what of each row is needed where.

A kernel goes over rows: all leading axes (`lead`: T and B, or B alone within a loop) are one after the other
in memory. Against these a value is a "matrix" (rows of numbers), a "column" (one number a row), a "row" (the
same row for all) or a "number".
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from tensorgrad.compile.ir import Const, Eqn, Loop

__all__ = [
    "ALIASES",
    "INLINE",
    "UnsureError",
    "constant",
    "definitions",
    "kind_of",
    "literal",
    "part_of",
    "row_sum",
    "rows_of_stack",
    "same",
    "supported",
    "volume",
]

INLINE = {
    "add": "{} + {}",
    "subtract": "{} - {}",
    "multiply": "{} * {}",
    "divide": "{} / {}",
    "negative": "-{}",
    "square": "{0} * {0}",
    "sqrt": "np.sqrt({})",
    "reciprocal": "{one} / {}",
    "equal": "{} == {}",
    "not_equal": "{} != {}",
    "less": "{} < {}",
    "less_equal": "{} <= {}",
    "greater": "{} > {}",
    "greater_equal": "{} >= {}",
    "logical_and": "{} & {}",
    "logical_or": "{} | {}",
    "logical_not": "not {}",
    "maximum": "maximum({}, {})",
    "minimum": "minimum({}, {})",
    "absolute": "abs({})",
    "exp": "exp({})",
    "log": "log({})",
    "tanh": "tanh({})",
    "sigmoid": "sigmoid({})",
    "expm1": "np.expm1({})",
    "log1p": "np.log1p({})",
    "sin": "np.sin({})",
    "cos": "np.cos({})",
    "isfinite": "np.isfinite({})",
    "where": "{1} if {0} else {2}",
    "cast": "{}",
    "minus_one_hot": "{0} - ({one} if j == {1} else {zero})",
}
"""How an equation is written for one element."""

_COMPARE = {"equal", "not_equal", "less", "less_equal", "greater", "greater_equal"}
_FLOATS_ONLY = {"maximum", "minimum", "exp", "log", "tanh", "sigmoid", "divide", "sqrt", "reciprocal"}
_FLOATS_ONLY |= {"expm1", "log1p", "sin", "cos", "square", "minus_one_hot"}
ALIASES = {"index", "concatenate", "reshape", "broadcast", "copy"}
"""Equations that only say where elements stand."""


class UnsureError(Exception):
    """Raised where a kernel cannot be written with certainty; the program then runs in NumPy."""


def same(a: Any, b: Any) -> bool:
    """Whether two lengths, or two shapes, are the same for all T and B."""
    return str(a) == str(b)


def volume(lead: Iterable[Any]) -> Any:
    """The number of rows."""
    total: Any = 1
    for n in lead:
        total = n if same(total, 1) else total * n
    return total


def kind_of(shape: tuple[Any, ...], lead: tuple[Any, ...]) -> str | None:
    """What a value of this shape is against the rows: matrix, column, row, number, or nothing of these."""
    if shape and same(shape[:-1], lead):
        return "column" if same(shape[-1], 1) else "matrix"
    if lead and same(shape, lead):
        return "column"
    if all(same(n, 1) for n in shape):
        return "number"
    if len(lead) > 1 and shape and same(shape[0], volume(lead)):
        # All rows along one axis.
        found = {1: "column", 2: "column" if same(shape[-1], 1) else "matrix"}.get(len(shape))
        if found:
            return found
    return "row" if all(same(n, 1) for n in shape[:-1]) else None


def part_of(eqn: Eqn) -> tuple[int, int] | None:
    """For an index that takes a part of each row: its start and stop."""
    template, source = eqn.params["template"], eqn.args[0]
    if len(template) != source.ndim or not template or len(eqn.args) != 1:
        return None
    whole = all(isinstance(p, slice) and p == slice(None) for p in template[:-1])
    part = template[-1]
    if not (whole and isinstance(part, slice) and part.step in (None, 1)):
        return None
    width = source.shape[-1]
    start, stop = part.start or 0, width if part.stop is None else part.stop
    if type(width) is not int or not (0 <= start < stop <= width):
        return (0, width) if part == slice(None) else None
    return int(start), int(stop)


def row_sum(eqn: Any, made: dict[int, Any]) -> str | None:
    """For an equation that makes one number of each row: how."""
    if not eqn.args:
        return None
    x = eqn.args[0]
    if eqn.op == "dot" and x.ndim == 2 and eqn.args[1].ndim == 1:
        ones = made.get(id(eqn.args[1]))
        full = isinstance(ones, Eqn) and ones.op == "full" and ones.params["value"] == 1
        return "sum" if full else None
    if eqn.op in ("sum", "max", "min", "finite_max") and x.ndim and x.dtype.kind == "f":
        return eqn.op if eqn.params["axes"] == (x.ndim - 1,) else None
    return None


def rows_of_stack(x: Any, made: dict[int, Any]) -> Any:
    """The stack whose rows, all of them one after the other, are the matrix x; or None."""
    eqn = made.get(id(x))
    if eqn is None or eqn.op != "reshape" or x.ndim != 2 or eqn.args[0].ndim < 2:
        return None
    return eqn.args[0] if same(eqn.args[0].shape[-1], x.shape[-1]) else None


def _plain(x: Any) -> bool:
    number = x.dtype.kind in "fi" and x.dtype.itemsize in (4, 8) and x.dtype.isnative
    return number or x.dtype.kind == "b"


def supported(eqn: Any, lead: tuple[Any, ...], made: dict[int, Any]) -> bool:
    """Whether an equation can be a part of a kernel over these rows."""
    if isinstance(eqn, Loop) or not all(_plain(x) for x in [*eqn.args, eqn.out]):
        return False
    if any(same(n, 0) for x in [*eqn.args, eqn.out] for n in x.shape):
        return False
    kinds = [kind_of(a.shape, lead) for a in eqn.args]
    out = kind_of(eqn.out.shape, lead)
    if row_sum(eqn, made):
        return kinds[0] == "matrix" and out == "column"
    if out not in ("matrix", "column") or None in kinds:
        return False
    if eqn.op in ALIASES:
        return _supported_alias(eqn, kinds, out)
    if eqn.op not in ("pick", "minus_one_hot") and not _aligned(eqn, kinds, out):
        return False
    if eqn.op == "pick":
        checked = made.get(id(eqn.args[1]))
        sure = isinstance(checked, Eqn) and checked.op == "check_range" and len(checked.args) == 1
        return kinds == ["matrix", "column"] and sure
    if eqn.op == "minus_one_hot":
        checked = made.get(id(eqn.args[1]))
        sure = isinstance(checked, Eqn) and checked.op == "check_range" and len(checked.args) == 1
        return kinds == ["matrix", "column"] and out == "matrix" and sure
    if eqn.op not in INLINE or (eqn.op in _FLOATS_ONLY and eqn.args[0].dtype.kind != "f"):
        return False
    if eqn.op in _COMPARE or eqn.op in _FLOATS_ONLY:
        return len({str(a.dtype) for a in eqn.args}) == 1 or eqn.op == "minus_one_hot"
    if eqn.op == "where" and eqn.args[0].dtype != bool:
        return False
    return not (eqn.op in ("add", "subtract", "multiply", "negative") and eqn.out.dtype.kind == "b")


def _aligned(eqn: Eqn, kinds: list[Any], out: str) -> bool:
    """Whether NumPy's rules pair the elements of rows as kinds say (they do not where B happens to be H)."""
    for a, kind in zip(eqn.args, kinds, strict=True):
        if (
            kind == "column"
            and not same(a.shape, eqn.out.shape)
            and (out != "matrix" or not same(a.shape, (*eqn.out.shape[:-1], 1)))
        ):
            return False
        if kind in ("matrix", "row") and (out != "matrix" or not same(a.shape[-1], eqn.out.shape[-1])):
            return False
        if kind == "matrix" and not same(a.shape, eqn.out.shape):
            return False
    return True


def _supported_alias(eqn: Eqn, kinds: list[Any], out: str) -> bool:
    x = eqn.args[0]
    if eqn.op == "index":
        return kinds[0] == out == "matrix" and part_of(eqn) is not None
    if eqn.op == "concatenate":
        wide = eqn.params["axis"] % eqn.out.ndim == eqn.out.ndim - 1
        return wide and out == "matrix" and set(kinds) == {"matrix"} and type(eqn.out.shape[-1]) is int
    if eqn.op == "broadcast":
        return _aligned(eqn, kinds, out)
    return kinds[0] == out and (out == "column" or same(x.shape[-1], eqn.out.shape[-1]))


def constant(x: Any) -> bool:
    """Whether an operand is a number that is written where it is used."""
    return isinstance(x, Const) and x.ndim == 0


def definitions(eqns: list[Any]) -> dict[int, Any]:
    """For each variable the equation that makes it."""
    return {id(e.out): e for e in eqns if isinstance(e, Eqn)}


def literal(x: Const, dtype: Any) -> str:
    """A number as it is written in a kernel, of this dtype."""
    kind = np.dtype(dtype)
    if x.text is not None:
        return f"np.{kind.name}({x.text})"
    value = x.value.item()
    if kind.kind == "b":
        return repr(bool(value))
    text = repr(value) if np.isfinite(value) else f"np.{value}" if value > 0 or value != value else "-np.inf"
    return f"np.{kind.name}({text})"
