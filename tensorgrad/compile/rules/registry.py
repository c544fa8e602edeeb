"""Where rules are kept, and what is done without one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tensorgrad.compile.builder import Builder

__all__ = ["RULES", "call", "rule"]

RULES: dict[Any, Callable[..., Any]] = {}


def rule(*fns: Any) -> Callable[[Any], Any]:
    """Decorator: the rule of these operations."""

    def decorate(fn: Any) -> Any:
        for each in fns:
            RULES[getattr(each, "op", each)] = fn
        return fn

    return decorate


def call(b: Builder, node: Any, *args: Any, **params: Any) -> Any:
    """An operation as it is: its forward, called."""
    value = node._value
    return b.emit("call", args, value.shape, value.dtype, op=node.op, **params)
