"""How each equation is written in NumPy, as an expression of the names of its operands."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import numpy as np

from tensorgrad.compile.ir import Const

__all__ = [
    "HELPERS",
    "INFIX",
    "dtype_text",
    "expression",
    "number_text",
    "reshaped",
    "shape_text",
    "subscript",
]

INFIX = {
    "add": "+",
    "subtract": "-",
    "multiply": "*",
    "divide": "/",
    "equal": "==",
    "not_equal": "!=",
    "less": "<",
    "less_equal": "<=",
    "greater": ">",
    "greater_equal": ">=",
}

HELPERS = {
    "sigmoid": '''
def sigmoid(x, out):
    """1 / (1 + exp(-x)); an exponential that overflows gives the right 0."""
    np.multiply(x, -1, out=out)
    np.exp(out, out=out)
    out += 1
    return np.reciprocal(out, out=out)
''',
    "finite_max": '''
def finite_max(x, axis):
    """The maximum along an axis or several, kept with length 1; 0 where it is not finite."""
    if x.size and axis == x.ndim - 1:
        # Along rows argmax is several times faster than max.
        rows = x.reshape(-1, x.shape[-1])
        top = rows[np.arange(len(rows)), rows.argmax(axis=1)].reshape(*x.shape[:-1], 1)
    else:
        top = np.asarray(np.max(x, axis=axis, keepdims=True, initial=-np.inf))
    top[~np.isfinite(top)] = 0
    return top
''',
    "transpose_into": '''
def transpose_into(out, W):
    """out = W.T; a large W in strips, whose columns stay in the cache."""
    strip = 32 if W.size > 2**15 else max(len(W), 1)
    for k in range(0, len(W), strip):
        np.copyto(out[:, k : k + strip], W[k : k + strip].T)
''',
    "pick": '''
def pick(x, labels):
    """x[..., label] for every label."""
    rows = x.reshape(-1, x.shape[-1])
    return rows[np.arange(len(rows)), labels.reshape(-1)].reshape(labels.shape)
''',
    "minus_one_hot": '''
def minus_one_hot(p, labels):
    """p, with 1 taken from the place of every label; p itself changes."""
    rows = p.reshape(-1, p.shape[-1])
    rows[np.arange(len(rows)), labels.reshape(-1)] -= 1
    return p
''',
    "one_hot": '''
def one_hot(labels, V, dtype):
    """Rows of zeros with a one at each label."""
    return (labels[..., None] == np.arange(V)).astype(dtype)
''',
    "check_range": '''
def check_range(ids, n, what, counts=None, low=0):
    """ids, if all that count lie in low..n-1."""
    wrong = (ids < low) | (ids >= n)
    if counts is not None:
        wrong &= counts != 0
    if wrong.any():
        place = tuple(int(i) for i in np.argwhere(wrong)[0])
        if low:
            raise ValueError(f"{what} must lie in {low}..{n - 1}, but {ids[place]} stands at index {place}")
        raise ValueError(f"{what} {ids[place]} at index {place} is out of range for {n} classes (0..{n - 1})")
    return ids
''',
    "add_rows": '''
def add_rows(shape, rows, g):
    """Zeros with g[i] added to row rows[i]; the rows sorted first, and equal ones summed."""
    buffer = np.zeros(shape, g.dtype)
    rows = np.reshape(rows, -1).astype(np.intp)
    if rows.size:
        g = np.reshape(g, (rows.size, -1))
        rows = np.where(rows < 0, rows + len(buffer), rows)
        order = np.argsort(rows, kind="stable")
        ordered = rows[order]
        starts = np.flatnonzero(np.concatenate(([True], ordered[1:] != ordered[:-1])))
        sums = np.add.reduceat(g[order], starts, axis=0)
        buffer[ordered[starts]] = sums.reshape(len(sums), *buffer.shape[1:])
    return buffer
''',
    "scattered": '''
def scattered(shape, index, value):
    """Zeros with value added at an index, repeated elements included."""
    buffer = np.zeros(shape, value.dtype)
    np.add.at(buffer, index, value)
    return buffer
''',
    "updated": '''
def updated(x, index, value):
    """A copy of x with value at an index."""
    out = np.array(x)
    out[index] = value
    return out
''',
    "stays": '''
def stays(x, index):
    """1 for each element that a write at an index of x leaves there, 0 for one that a later one covers."""
    writer = np.zeros(x.shape, np.intp)
    order = np.arange(writer[index].size).reshape(writer[index].shape)
    writer[index] = order
    return (writer[index] == order).astype(x.dtype)
''',
    "added": '''
def added(x, index, value):
    """A copy of x with value added at an index, repeated elements included."""
    out = np.array(x)
    np.add.at(out, index, value)
    return out
''',
    "placed": '''
def placed(shape, index, value):
    """Zeros with value at an index."""
    buffer = np.zeros(shape, value.dtype)
    buffer[index] = value
    return buffer
''',
}


def number_text(value: Any) -> str:
    """A number, or a tuple of numbers, as it is written; those that are not finite have names in NumPy."""
    return re.sub(r"\b(inf|nan)\b", r"np.\1", repr(value))


def shape_text(shape: tuple[Any, ...]) -> str:
    """A shape as it is written."""
    return f"({', '.join(map(str, shape))}{',' if len(shape) == 1 else ''})"


def reshaped(x: str, ndim: int, shape: tuple[Any, ...]) -> str:
    """x in another shape, as it is written; a number has no methods to rely on."""
    if not (ndim and shape):
        return f"np.reshape({x}, {shape_text(shape)})"
    return f"{x}.reshape({', '.join(map(str, shape))})"


def subscript(template: tuple[Any, ...], arrays: list[str]) -> str:
    """An index as it is written between brackets."""
    source = iter(arrays)
    return ", ".join(_part(p, source) for p in template) if template else "()"


def _part(part: Any, source: Any) -> str:
    if isinstance(part, slice):
        text = ":".join("" if k is None else str(k) for k in (part.start, part.stop))
        text = text if part.start is not None or part.stop is not None else ":"
        return text + (f":{part.step}" if part.step not in (None, 1) else "")
    if part is Ellipsis:
        return "..."
    return next(source) if part == "array" else str(part)


Names = list[str]


def _axis(p: dict[str, Any], ndim: int) -> str:
    axes = p["axes"]
    parts = []
    if len(axes) != ndim:
        parts.append(f"axis={_one_or_all(axes)}")
    if p["keepdims"]:
        parts.append("keepdims=True")
    return ", ".join(parts)


def _one_or_all(axes: tuple[int, ...]) -> Any:
    return axes[0] if len(axes) == 1 else axes


def _place(n: Names, p: dict[str, Any]) -> str:
    return f"np.s_[{subscript(p['template'], n)}]"


def _scatter(n: Names, p: dict[str, Any], e: Any) -> str:
    shape = shape_text(p["shape"])
    if p["template"] == ("array",) and e.args[1].dtype.kind in "iu":
        return f"add_rows({shape}, {n[1]}, {n[0]})"
    repeats = any(a.dtype.kind != "b" for a in e.args[1:])
    return f"{'scattered' if repeats else 'placed'}({shape}, {_place(n[1:], p)}, {n[0]})"


def _write(n: Names, p: dict[str, Any], e: Any) -> str:
    return f"{e.op}({n[0]}, {_place(n[2:], p)}, {n[1]})"


def _dot(n: Names, p: dict[str, Any], e: Any) -> str:
    return f"product_shared({n[0]}, {n[1]})" if p.get("shared") else f"{n[0]} @ {n[1]}"


def _cast(x: str, dtype: Any, ndim: int) -> str:
    # What has no axes may be given to a saved page as a number of Python's, which has no astype.
    text = dtype_text(dtype)
    return f"{x}.astype({text})" if ndim or text == "bool" else f"{text}({x})"


def dtype_text(dtype: Any) -> str:
    """A dtype as it is written."""
    return f"np.{np.dtype(dtype).name}" if np.dtype(dtype) != bool else "bool"


def _check_range(n: Names, p: dict[str, Any]) -> str:
    more = "".join(f", {counts}" for counts in n[1:]) + (f", low={p['low']}" if p["low"] else "")
    return f"check_range({n[0]}, {p['n']}, {json.dumps(p['what'])}{more})"


EXPRESSIONS: dict[str, Callable[[Names, dict[str, Any], Any], str]] = {
    "copy": lambda n, p, e: f"{n[0]}.copy()",
    "where": lambda n, p, e: f"np.where({n[0]}, {n[1]}, {n[2]})",
    "sigmoid": lambda n, p, e: f"sigmoid({n[0]}, np.empty_like({n[0]}))",
    "cast": lambda n, p, e: _cast(n[0], p["dtype"], e.args[0].ndim),
    "reshape": lambda n, p, e: reshaped(n[0], e.args[0].ndim, p["shape"]),
    "transpose": lambda n, p, e: f"{n[0]}.T" if p["axes"] == (1, 0) else f"{n[0]}.transpose{p['axes']}",
    "broadcast": lambda n, p, e: f"np.broadcast_to({n[0]}, {shape_text(p['shape'])})",
    "index": lambda n, p, e: f"{n[0]}[{subscript(p['template'], [])}]",
    "gather": lambda n, p, e: f"{n[0]}[{subscript(p['template'], n[1:])}]",
    "scatter": _scatter,
    "flip": lambda n, p, e: f"np.flip({n[0]}, {p['axes']})",
    "roll": lambda n, p, e: f"np.roll({n[0]}, {p['shift']}, {p['axes']})",
    "pad": lambda n, p, e: f"np.pad({n[0]}, {p['widths']}, constant_values={number_text(p['value'])})",
    "concatenate": lambda n, p, e: f"np.concatenate([{', '.join(n)}], axis={p['axis']})",
    "sum": lambda n, p, e: f"{n[0]}.sum({_axis(p, e.args[0].ndim)})",
    "max": lambda n, p, e: f"{n[0]}.max({_axis(p, e.args[0].ndim)})",
    "min": lambda n, p, e: f"{n[0]}.min({_axis(p, e.args[0].ndim)})",
    "finite_max": lambda n, p, e: f"finite_max({n[0]}, axis={_one_or_all(p['axes'])})",
    "prod": lambda n, p, e: f"{n[0]}.prod({_axis(p, e.args[0].ndim)})",
    "cumsum": lambda n, p, e: f"{n[0]}.cumsum(axis={p['axes'][0]})",
    "dot": _dot,
    "row_dot": lambda n, p, e: f"np.matmul({n[0]}[..., None, :], {n[1]}[..., None])[..., 0]",
    "inv": lambda n, p, e: f"np.linalg.inv({n[0]})",
    "solve": lambda n, p, e: f"np.linalg.solve({n[0]}, {n[1]})",
    "stays": lambda n, p, e: f"stays({n[0]}, {_place(n[1:], p)})",
    "updated": _write,
    "added": _write,
    "pick": lambda n, p, e: f"pick({n[0]}, {n[1]})",
    "minus_one_hot": lambda n, p, e: f"minus_one_hot({n[0]}.copy(), {n[1]})",
    "one_hot": lambda n, p, e: f"one_hot({n[0]}, {p['V']}, {dtype_text(p['dtype'])})",
    "check_range": lambda n, p, e: _check_range(n, p),
    "arange": lambda n, p, e: f"np.arange({p['n']})",
    "full": lambda n, p, e: (
        f"np.zeros({shape_text(p['shape'])}, {dtype_text(e.out.dtype)})"
        if p["value"] == 0
        else f"np.ones({shape_text(p['shape'])}, {dtype_text(e.out.dtype)})"
        if p["value"] == 1
        else f"np.full({shape_text(p['shape'])}, {number_text(p['value'])}, {dtype_text(e.out.dtype)})"
    ),
}

_METHODS = {"copy", "cast", "sum", "max", "min", "prod", "cumsum", "index", "gather", "scatter", "one_hot"}
"""What is asked of an array by a method or in brackets, which Python's numbers do not have."""

_ALONE = {"reshape", "broadcast"}
"""What makes an array of a number alone, with no other operand to tell its dtype."""

_PYTHONS = (np.dtype(bool), np.dtype(np.int64), np.dtype(np.float64))
"""The dtypes that NumPy gives Python's numbers."""


def expression(eqn: Any, names: Names) -> str:
    """The equation's right-hand side."""
    if eqn.op in _METHODS or (eqn.op in _ALONE and eqn.out.dtype not in _PYTHONS):
        names = [
            f"np.asarray({n}, {dtype_text(a.dtype)})" if isinstance(a, Const) and not a.ndim else n
            for n, a in zip(names, eqn.args, strict=True)
        ]
    if eqn.op in EXPRESSIONS:
        return EXPRESSIONS[eqn.op](names, eqn.params, eqn)
    if eqn.op in INFIX:
        return f"{names[0]} {INFIX[eqn.op]} {names[1]}"
    if eqn.op == "negative":
        return f"-{names[0]}"
    return f"np.{eqn.op}({', '.join(names)})"
