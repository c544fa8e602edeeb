"""exp, tanh, sigmoid and log as short branch-free formulas, which LLVM turns into vector instructions.

The C library's functions are called for one number at a time, at 10 ns and more each. These here reduce their
argument by powers of two and end in a Taylor series, whose coefficients are exact: no tables, no fitted
numbers. `Formula` lets them be written as one writes them on paper; they become LLVM code as they are.
Errors stay under 3 units in the last place; infinities, NaN, signed zeros and denormals come out right.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

__all__ = ["exp", "log", "maximum", "minimum", "plus", "sigmoid", "tanh"]


class Formula:
    """A number in LLVM code that is being built, with the operators of numbers."""

    def __init__(self, builder: Any, value: Any) -> None:
        self.builder = builder
        self.value = value
        self.single = value.type == ir.FloatType()
        self.bits = ir.IntType(32 if self.single else 64)
        self.fraction = 23 if self.single else 52
        self.bias = 127 if self.single else 1023

    def number(self, x: Any) -> Any:
        """A constant, or a value, of this one's type."""
        return x.value if isinstance(x, Formula) else ir.Constant(self.value.type, x)

    def _of(self, value: Any) -> Formula:
        return Formula(self.builder, value)

    def __add__(self, other: Any) -> Formula:
        return self._of(self.builder.fadd(self.value, self.number(other)))

    def __sub__(self, other: Any) -> Formula:
        return self._of(self.builder.fsub(self.value, self.number(other)))

    def __mul__(self, other: Any) -> Formula:
        return self._of(self.builder.fmul(self.value, self.number(other)))

    def __truediv__(self, other: Any) -> Formula:
        return self._of(self.builder.fdiv(self.value, self.number(other)))

    def __rtruediv__(self, other: Any) -> Formula:
        return self._of(self.builder.fdiv(self.number(other), self.value))

    def __neg__(self) -> Formula:
        return self._of(self.builder.fneg(self.value))

    def call(self, name: str, *others: Any) -> Formula:
        """One of LLVM's own functions: fabs, rint, copysign, fmuladd."""
        kind = self.value.type
        fn = self.builder.module.declare_intrinsic(
            f"llvm.{name}", [kind], ir.FunctionType(kind, [kind] * (1 + len(others)))
        )
        return self._of(self.builder.call(fn, [self.value, *map(self.number, others)]))

    def times_plus(self, factor: Any, summand: Any) -> Formula:
        """self * factor + summand, rounded once where the CPU can do that."""
        return self.call("fmuladd", factor, summand)

    def pick(self, relation: str, bound: Any, then: Any, otherwise: Any) -> Formula:
        """`then` where the relation to the bound holds, and `otherwise` where not, or for NaN."""
        holds = self.builder.fcmp_ordered(relation, self.value, self.number(bound))
        return self._of(self.builder.select(holds, self.number(then), self.number(otherwise)))

    def within(self, low: float, high: float) -> Formula:
        """Not under `low` and not over `high`; NaN stays."""
        least = self.pick("<", low, low, self)
        return least.pick(">", high, high, least)

    def series(self, coefficients: list[float]) -> Formula:
        """c[0] + c[1] x + c[2] x^2 + ..., by Horner's rule."""
        total = self._of(self.number(coefficients[-1]))
        for c in reversed(coefficients[:-1]):
            total = total.times_plus(self, c)
        return total

    def integer(self) -> Any:
        """A whole number as an integer of its width; 0 for NaN."""
        whole = self.builder.fptosi(self.pick("==", self, self, 0.0).value, ir.IntType(32))
        return whole if self.single else self.builder.sext(whole, self.bits)

    def power_of_two(self, k: Any) -> Formula:
        """2 to the integer k, which must be a normal number."""
        shifted = self.builder.shl(
            self.builder.add(k, ir.Constant(self.bits, self.bias)), ir.Constant(self.bits, self.fraction)
        )
        return self._of(self.builder.bitcast(shifted, self.value.type))


def function(formula: Callable[[Formula], Formula]) -> Any:
    """Decorator: a formula as a function of one float for compiled kernels."""

    def typed(context: Any, x: Any) -> Any:
        if not isinstance(x, types.Float):
            return None
        return x(x), lambda _, builder, __, args: formula(Formula(builder, args[0])).value

    typed.__name__ = formula.__name__
    typed.__doc__ = formula.__doc__
    return intrinsic(typed)


def _ln2(x: Formula) -> tuple[float, float]:
    """ln 2 as a sum: the first with so few digits that a whole number times it is exact."""
    high = float.fromhex("0x1.62e4p-1") if x.single else float.fromhex("0x1.62e42fee00000p-1")
    low = float.fromhex("0x1.7f7d1cf79abcap-20") if x.single else float.fromhex("0x1.a39ef35793c76p-33")
    return high, low


def _reduced(x: Formula) -> tuple[Formula, Formula]:
    """k and exp(r) - 1 with x = k ln 2 + r, |r| <= ln(2) / 2."""
    high, low = _ln2(x)
    k = (x * (1 / math.log(2))).call("rint")
    r = (-k).times_plus(low, (-k).times_plus(high, x))
    terms = 8 if x.single else 14
    tail = r.series([1 / math.factorial(n) for n in range(2, terms)])
    return k, (r * r).times_plus(tail, r)


def _exp(x: Formula) -> Formula:
    k, less_one = _reduced(x.within(*((-104.0, 89.0) if x.single else (-746.0, 710.0))))
    whole = k.integer()
    # In two steps, so that both powers are normal numbers, and only the last product can be none.
    half = x.builder.ashr(whole, ir.Constant(x.bits, 1))
    rest = x.builder.sub(whole, half)
    return (less_one + 1.0) * x.power_of_two(half) * x.power_of_two(rest)


@function
def exp(x: Formula) -> Formula:
    """e to the x."""
    return _exp(x)


@function
def sigmoid(x: Formula) -> Formula:
    """1 / (1 + exp(-x)); an exponential that overflows gives the right 0."""
    return 1.0 / (_exp(-x) + 1.0)


@function
def tanh(x: Formula) -> Formula:
    """The hyperbolic tangent, by u / (u + 2) with u = exp(2 |x|) - 1: no digits lost near 0."""
    k, less_one = _reduced((x.call("fabs") * 2.0).within(0.0, 20.0 if x.single else 40.0))
    scale = x.power_of_two(k.integer())
    u = less_one.times_plus(scale, scale - 1.0)
    return (u / (u + 2.0)).call("copysign", x)


@function
def log(x: Formula) -> Formula:
    """The natural logarithm, by the series of log((1 + s) / (1 - s)) at the fraction near 1."""
    builder, info = x.builder, np.finfo(np.float32 if x.single else np.float64)
    up = 2.0 ** (x.fraction + 2)
    normal = x.pick("<", float(info.tiny), x * up, x)
    bits = builder.bitcast(normal.value, x.bits)
    middle = np.asarray(np.sqrt(0.5), info.dtype).view(f"i{info.bits // 8}").item()
    exponent = builder.ashr(builder.sub(bits, ir.Constant(x.bits, middle)), ir.Constant(x.bits, x.fraction))
    fraction = builder.sub(bits, builder.shl(exponent, ir.Constant(x.bits, x.fraction)))
    f = Formula(builder, builder.bitcast(fraction, x.value.type)) - 1.0
    count = exponent if x.single else builder.trunc(exponent, ir.IntType(32))
    k = Formula(builder, builder.sitofp(count, x.value.type))
    k = k - x.pick("<", float(info.tiny), float(x.fraction + 2), 0.0)
    s = f / (f + 2.0)
    square = s * s
    tail = square * square.series([2 / (2 * n + 1) for n in range(1, 7 if x.single else 13)])
    half = f * f * 0.5
    high, low = _ln2(x)
    rest = s.times_plus(half + tail, k * low) - half + f
    found = k.times_plus(high, rest)
    found = x.pick("<", np.inf, found, x)
    found = x.pick(">", 0.0, found, np.nan)
    return x.pick("==", 0.0, -np.inf, found)


def _of_two(name: str) -> Any:
    def typed(context: Any, a: Any, b: Any) -> Any:
        if not (isinstance(a, types.Float) and a == b):
            return None
        return a(
            a, b
        ), lambda _, builder, __, args: Formula(builder, args[0]).call(name, Formula(builder, args[1])).value

    return intrinsic(typed)


maximum = _of_two("maximum")
"""The larger of two floats, or NaN if one of them is NaN."""

minimum = _of_two("minimum")
"""The smaller of two floats, or NaN if one of them is NaN."""


@intrinsic  # type: ignore[untyped-decorator]
def plus(context: Any, total: Any, x: Any) -> Any:
    """total + x in a sum whose order is free, so that several are added at once."""
    if not (isinstance(total, types.Float) and total == x):
        return None
    return total(total, x), lambda _, builder, __, args: builder.fadd(*args, flags=("reassoc",))
