"""What each operation of the package is made of, in equations.

An operation without a rule here, as every one that users define, is called as it is.
"""

from __future__ import annotations

from typing import Any

from tensorgrad.compile.builder import Builder
from tensorgrad.compile.rules import losses, products, reduce, scan, shape  # noqa: F401 - they fill RULES
from tensorgrad.compile.rules.elementwise import ELEMENTWISE
from tensorgrad.compile.rules.registry import RULES, call, rule
from tensorgrad.compile.trace import CHECK, TIMESTEPS

__all__ = ["ELEMENTWISE", "RULES", "call"]


@rule(CHECK)
def _check(b: Builder, node: Any, ids: Any, *counts: Any, n: int, what: str, low: int) -> Any:
    return b.emit("check_range", [ids, *counts], ids.shape, ids.dtype, n=n, what=what, low=low)


@rule(TIMESTEPS)
def _timesteps(b: Builder, node: Any, x: Any) -> Any:
    return b.emit("arange", [], node._value.shape, node._value.dtype, n=node._value.shape[0])
