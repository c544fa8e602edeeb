"""What each operation of the package is made of, in equations.

An operation without a rule here, and every one that users define, is called as it is.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tensorgrad import functional as F
from tensorgrad import ops
from tensorgrad.compile.builder import Builder, reduced
from tensorgrad.compile.ir import Const, Var
from tensorgrad.compile.trace import CHECK, TIMESTEPS
from tensorgrad.ops import elementwise, index, linalg, reduce, shape

__all__ = ["ELEMENTWISE", "RULES", "call"]

RULES: dict[Any, Callable[..., Any]] = {}

_SAME_NAME = [
    "add",
    "subtract",
    "multiply",
    "divide",
    "power",
    "negative",
    "sign",
    "square",
    "sqrt",
    "reciprocal",
    "equal",
    "not_equal",
    "less",
    "less_equal",
    "greater",
    "greater_equal",
    "logical_and",
    "logical_or",
    "logical_not",
    "bitwise_and",
    "bitwise_or",
    "bitwise_xor",
    "invert",
    "isfinite",
    "maximum",
    "minimum",
    "exp",
    "expm1",
    "log",
    "log1p",
    "tanh",
    "sin",
    "cos",
    "sigmoid",
]
ELEMENTWISE = {*_SAME_NAME, "absolute", "where", "cast"}
"""Equations that work element by element."""


def rule(*fns: Any) -> Callable[[Any], Any]:
    """Decorator: the rule of these operations."""

    def decorate(fn: Any) -> Any:
        for each in fns:
            RULES[getattr(each, "op", each)] = fn
        return fn

    return decorate


def _same(name: str) -> Callable[..., Any]:
    return lambda b, node, *args: b.map(name, *args)


for _name in _SAME_NAME:
    rule(getattr(ops, _name))(_same(_name))
rule(ops.abs)(_same("absolute"))
rule(elementwise._where)(_same("where"))


def call(b: Builder, node: Any, *args: Any, **params: Any) -> Any:
    """An operation as it is: its forward, called."""
    value = node._value
    return b.emit("call", args, value.shape, value.dtype, op=node.op, **params)


# --- element by element ------------------------------------------------------------------------------------
@rule(ops.relu)
def _relu(b: Builder, node: Any, x: Any) -> Any:
    return b.map("maximum", x, 0)


@rule(ops.softplus)
def _softplus(b: Builder, node: Any, x: Any) -> Any:
    small = b.map("log1p", b.map("exp", b.map("negative", b.map("absolute", x))))
    return b.map("add", b.map("maximum", x, 0), small)


@rule(elementwise._astype, elementwise._to_integer)
def _cast(b: Builder, node: Any, x: Any, dtype: Any) -> Any:
    return b.cast(x, dtype)


@rule(F._binary_nll)
def _binary_nll(b: Builder, node: Any, x: Any, targets: Any) -> Any:
    small = b.map("log1p", b.map("exp", b.map("negative", b.map("absolute", x))))
    return b.map("add", b.map("subtract", b.map("maximum", x, 0), b.map("multiply", x, targets)), small)


@rule(F._gelu)
def _gelu(b: Builder, node: Any, x: Any) -> Any:
    near = b.map("minimum", b.map("maximum", x, -20.0), 20.0)
    slope = b.map("add", b.map("multiply", b.map("multiply", near, near), F._GELU_D), F._GELU_C)
    t = b.map("add", b.map("tanh", b.map("multiply", near, slope)), 1)
    return b.map("multiply", b.map("multiply", t, x), 0.5)


# --- shape -------------------------------------------------------------------------------------------------
@rule(shape._reshape)
def _reshape(b: Builder, node: Any, x: Any, shape: Any) -> Any:
    return b.reshape(x, node._value.shape)


@rule(shape._broadcast_to)
def _broadcast_to(b: Builder, node: Any, x: Any, shape: Any) -> Any:
    return b.broadcast(x, node._value.shape)


@rule(shape._transpose)
def _transpose(b: Builder, node: Any, x: Any, axes: Any) -> Any:
    return b.transpose(x, axes)


@rule(shape._flip)
def _flip(b: Builder, node: Any, x: Any, axes: Any) -> Any:
    return b.emit("flip", [x], x.shape, x.dtype, axes=axes)


@rule(shape._concatenate)
def _concatenate(b: Builder, node: Any, *xs: Any, axis: int) -> Any:
    return b.emit("concatenate", xs, node._value.shape, node._value.dtype, axis=axis)


@rule(shape._stack)
def _stack(b: Builder, node: Any, *xs: Any, axis: int) -> Any:
    rows = [b.reshape(x, (*x.shape[:axis], 1, *x.shape[axis:])) for x in xs]
    return b.emit("concatenate", rows, node._value.shape, node._value.dtype, axis=axis)


@rule(shape._pad)
def _pad(b: Builder, node: Any, x: Any, widths: Any, value: Any) -> Any:
    return b.emit("pad", [x], node._value.shape, x.dtype, widths=widths, value=value)


@rule(shape._roll)
def _roll(b: Builder, node: Any, x: Any, shift: Any, axes: Any) -> Any:
    return b.emit("roll", [x], x.shape, x.dtype, shift=shift, axes=axes)


# --- indexing ----------------------------------------------------------------------------------------------
@rule(index._getitem)
def _getitem(b: Builder, node: Any, x: Any, *arrays: Any, template: Any) -> Any:
    if arrays:
        return b.emit("gather", [x, *arrays], node._value.shape, x.dtype, template=template)
    if Ellipsis in template:
        k = template.index(Ellipsis)
        named = sum(part is not None for part in template) - 1
        template = (*template[:k], *(slice(None),) * (x.ndim - named), *template[k + 1 :])
    return b.index(x, template)


@rule(index._scatter)
def _scatter(b: Builder, node: Any, value: Any, *arrays: Any, template: Any, shape: Any) -> Any:
    return b.emit(
        "scatter",
        [value, *arrays],
        node._value.shape,
        value.dtype,
        template=template,
        shape=node._value.shape,
    )


# --- reductions --------------------------------------------------------------------------------------------
@rule(reduce._sum)
def _sum(b: Builder, node: Any, x: Any, axes: Any, keepdims: bool) -> Any:
    if x.dtype != node._value.dtype:
        x = b.cast(x, node._value.dtype)
    return b.sum(x, axes, keepdims)


def _count(x: Any, axes: Any) -> int:
    return int(np.prod([x.shape[a] for a in axes], dtype=np.int64))


@rule(reduce._mean)
def _mean(b: Builder, node: Any, x: Any, axes: Any, keepdims: bool) -> Any:
    x = b.cast(x, node._value.dtype)
    return b.map("divide", b.sum(x, axes, keepdims), _count(x, axes))


def _centred(b: Builder, x: Any, axes: Any) -> Any:
    return b.map("subtract", x, b.map("divide", b.sum(x, axes, True), _count(x, axes)))


@rule(reduce._var)
def _var(b: Builder, node: Any, x: Any, axes: Any, ddof: int, keepdims: bool) -> Any:
    squares = b.map("square", _centred(b, b.cast(x, node._value.dtype), axes))
    total = b.map("divide", b.sum(squares, axes, True), _count(x, axes) - ddof)
    return b.reshape(total, reduced(x.shape, axes, keepdims))


@rule(F._normalise)
def _normalise(b: Builder, node: Any, x: Any, axes: Any, eps: float) -> Any:
    centred = _centred(b, x, axes)
    variance = b.map("divide", b.sum(b.map("square", centred), axes, True), _count(x, axes))
    return b.map("divide", centred, b.map("sqrt", b.map("add", variance, eps)))


@rule(reduce._max)
def _max(b: Builder, node: Any, x: Any, axes: Any, keepdims: bool) -> Any:
    return b.sum(x, axes, keepdims, "max")


@rule(reduce._min)
def _min(b: Builder, node: Any, x: Any, axes: Any, keepdims: bool) -> Any:
    return b.sum(x, axes, keepdims, "min")


def _exponentials(b: Builder, x: Any, axis: int) -> tuple[Any, Any, Any]:
    """x less its maximum, the exponentials of that, and their sums, along an axis kept with length 1."""
    top = b.sum(x, (axis,), True, "finite_max")
    z = b.map("subtract", x, top, name="z")
    e = b.map("exp", z, name="e")
    # A row of nothing but -inf has the sum 0.
    total = b.map("maximum", b.sum(e, (axis,), True), np.finfo(x.dtype).tiny, name="e_sum")
    top.name = "top"
    return z, e, total


@rule(F._softmax)
def _softmax(b: Builder, node: Any, x: Any, *mask: Any, axis: int) -> Any:
    x = b.cast(x, node._value.dtype)
    if mask:
        x = b.map("where", mask[0], x, Const(np.asarray(-np.inf, x.dtype)))
    _, e, total = _exponentials(b, x, axis)
    return b.map("divide", e, total)


@rule(F._log_softmax)
def _log_softmax(b: Builder, node: Any, x: Any, axis: int) -> Any:
    z, _, total = _exponentials(b, b.cast(x, node._value.dtype), axis)
    return b.map("subtract", z, b.map("log", total))


def _pick(b: Builder, x: Any, labels: Any) -> Any:
    return b.emit("pick", [x, labels], labels.shape, x.dtype, "z_label")


@rule(F._nll)
def _nll(b: Builder, node: Any, logits: Any, labels: Any) -> Any:
    if isinstance(logits, Var) and logits.name is None:
        logits.name = "y"
    z, _, total = _exponentials(b, logits, logits.ndim - 1)
    log_sum = b.map("log", b.reshape(total, labels.shape), name="nll")
    return b.map("subtract", log_sum, _pick(b, z, labels), name="nll")


@rule(F._nll_slope)
def _nll_slope(b: Builder, node: Any, g: Any, logits: Any, labels: Any) -> Any:
    _, e, total = _exponentials(b, logits, logits.ndim - 1)
    p = b.map("divide", e, total)
    p.name = p.name or "p"
    less = b.emit("minus_one_hot", [p, labels], p.shape, p.dtype, f"d{getattr(logits, 'name', None) or 'y'}")
    return b.map("multiply", less, b.reshape(g, (*g.shape, 1)))


@rule(F._one_hot)
def _one_hot(b: Builder, node: Any, ids: Any, V: int, dtype: Any) -> Any:
    return b.emit("one_hot", [ids], node._value.shape, dtype, V=V, dtype=dtype)


@rule(F._one_hot_like)
def _one_hot_like(b: Builder, node: Any, logits: Any, labels: Any) -> Any:
    return b.emit(
        "one_hot", [labels], node._value.shape, node._value.dtype, V=logits.shape[-1], dtype=logits.dtype
    )


# --- products ----------------------------------------------------------------------------------------------
@rule(linalg.matmul)
def _matmul(b: Builder, node: Any, x: Any, y: Any) -> Any:
    return b.dot(x, y)


def _by_weight(b: Builder, x: Any, weight: Any) -> Any:
    return b.dot(x, b.transpose(weight, (1, 0)))


@rule(linalg._linear)
def _linear(b: Builder, node: Any, x: Any, weight: Any, *bias: Any) -> Any:
    out = _by_weight(b, x, weight)
    return b.map("add", out, bias[0]) if bias else out


@rule(linalg.affine)
def _affine(b: Builder, node: Any, x: Any, W: Any, h: Any, U: Any, *biases: Any) -> Any:
    # What is added to the share of x can be added for all timesteps at once.
    if len(biases) == 2 and biases[0].shape == biases[1].shape:
        biases = (b.map("add", *biases, name="bias_sum"),)
    out = _by_weight(b, x, W)
    for bias in biases:
        out = b.map("add", out, bias)
    out.name = f"{node.name or 'a'}_x"
    from_h = _by_weight(b, h, U)
    from_h.name = f"{node.name or 'a'}_h"
    return b.map("add", out, from_h)


# --- what tracing adds -------------------------------------------------------------------------------------
@rule(CHECK)
def _check(b: Builder, node: Any, ids: Any, *counts: Any, n: int, what: str) -> Any:
    return b.emit("check_range", [ids, *counts], ids.shape, ids.dtype, n=n, what=what)


@rule(TIMESTEPS)
def _timesteps(b: Builder, node: Any, x: Any) -> Any:
    return b.emit("arange", [], node._value.shape, node._value.dtype, n=node._value.shape[0])
