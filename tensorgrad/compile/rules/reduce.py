"""Reductions and running sums."""

from __future__ import annotations

from typing import Any

import numpy as np

from tensorgrad import functional as F
from tensorgrad.compile.builder import Builder, reduced
from tensorgrad.compile.rules.registry import rule
from tensorgrad.ops import linalg, reduce


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


@rule(reduce._std)
def _std(b: Builder, node: Any, x: Any, axes: Any, ddof: int, keepdims: bool) -> Any:
    return b.map("sqrt", _var(b, node, x, axes, ddof, keepdims))


@rule(F._normalise)
def _normalise(b: Builder, node: Any, x: Any, axes: Any, eps: float) -> Any:
    centred = _centred(b, x, axes)
    variance = b.map("divide", b.sum(b.map("square", centred), axes, True), _count(x, axes))
    std = b.map("sqrt", b.map("add", variance, eps))
    normal = b.map("divide", centred, std)
    std.name, normal.name = "std", node.name or "x_hat"
    return normal


@rule(reduce._max)
def _max(b: Builder, node: Any, x: Any, axes: Any, keepdims: bool) -> Any:
    return b.sum(x, axes, keepdims, "max")


@rule(reduce._min)
def _min(b: Builder, node: Any, x: Any, axes: Any, keepdims: bool) -> Any:
    return b.sum(x, axes, keepdims, "min")


@rule(reduce._prod)
def _prod(b: Builder, node: Any, x: Any, axes: Any, keepdims: bool) -> Any:
    return b.sum(b.cast(x, node._value.dtype), axes, keepdims, "prod")


@rule(reduce._cumsum)
def _cumsum(b: Builder, node: Any, x: Any, axis: int) -> Any:
    x = b.cast(x, node._value.dtype)
    return b.emit("cumsum", [x], x.shape, x.dtype, axes=(axis,))


@rule(reduce._logsumexp)
def _logsumexp(b: Builder, node: Any, x: Any, axes: Any, keepdims: bool) -> Any:
    x = b.cast(x, node._value.dtype)
    top = b.sum(x, axes, True, "finite_max")
    total = b.sum(b.map("exp", b.map("subtract", x, top)), axes, True)
    return b.reshape(b.map("add", b.map("log", total), top), reduced(x.shape, axes, keepdims))


@rule(linalg._norm)
def _norm(b: Builder, node: Any, x: Any, axes: Any, keepdims: bool) -> Any:
    return b.map("sqrt", b.sum(b.map("square", x), axes, keepdims))
