"""Operations that work element by element."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tensorgrad import functional as F
from tensorgrad import ops
from tensorgrad.compile.builder import Builder
from tensorgrad.compile.rules.registry import rule
from tensorgrad.ops import elementwise

__all__ = ["ELEMENTWISE"]

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


def _same(name: str) -> Callable[..., Any]:
    return lambda b, node, *args: b.map(name, *args)


for _name in _SAME_NAME:
    rule(getattr(ops, _name))(_same(_name))
rule(ops.abs)(_same("absolute"))
rule(elementwise._where)(_same("where"))


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
