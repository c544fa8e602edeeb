"""Softmax, the losses made of it, and one-hot rows."""

from __future__ import annotations

from typing import Any

import numpy as np

from tensorgrad import functional as F
from tensorgrad.compile.builder import Builder
from tensorgrad.compile.ir import Const, Var
from tensorgrad.compile.rules.registry import rule


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
