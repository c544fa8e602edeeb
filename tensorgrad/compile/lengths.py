"""Lengths as users see them while a function is traced, and what is decided by them.

A function is traced with examples of its free lengths. What it decides by a free length makes that unfree.
Other numbers may come of one (`x[1:].shape[0]`): decisions by them are noted, with how far apart the two
sides were. Where the second trace, with other examples, notes something else, the decision was by a free
length.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tensorgrad.compile.sizes import SizeUnknown, from_numpy, from_user, user_line
from tensorgrad.context import context

__all__ = ["FreeAxis", "FreeLength", "FreeNumber", "FreeRatio", "plain"]


class FreeNumber(int):
    """A number of a shape, or made of some."""


class FreeAxis(FreeNumber):
    """The length of an axis that is not empty, and never is where one program runs for all lengths."""

    def __bool__(self) -> bool:
        return True

    def __sub__(self, other: Any) -> Any:
        return self if type(other) is int and other == 0 else FreeNumber.__sub__(self, other)


class FreeRatio(float):
    """A number over a length, and the like."""


class FreeLength(FreeAxis):
    """The example of a free length, or a sum or product of such: at least 2."""

    def __sub__(self, other: Any) -> Any:
        one_less = type(other) is int and other == 1
        return FreeAxis(int.__sub__(self, 1)) if one_less else FreeAxis.__sub__(self, other)

    def __add__(self, other: Any) -> Any:
        large = type(other) is FreeLength or (type(other) is int and other >= 0)
        return FreeLength(int.__add__(self, other)) if large else FreeNumber.__add__(self, other)

    def __mul__(self, other: Any) -> Any:
        large = type(other) is FreeLength or (type(other) is int and other >= 1)
        return FreeLength(int.__mul__(self, other)) if large else FreeNumber.__mul__(self, other)

    __radd__, __rmul__ = __add__, __mul__


def plain(x: Any) -> Any:
    """Python's own number of what stands for one; anything else as it is."""
    if isinstance(x, FreeNumber):
        return int.__int__(x)
    return float.__float__(x) if isinstance(x, FreeRatio) else x


def _counterpart(value: Any) -> Any:
    if type(value) is int:
        return FreeNumber(value)
    return FreeRatio(value) if type(value) is float else value


def _note(*what: Any) -> None:
    tracer = context().tracer
    if tracer is not None:
        tracer.decisions.append((what, user_line()))


def _arithmetic(of: Any, name: str) -> Callable[..., Any]:
    compute = getattr(of, name)
    return lambda self, *others: _counterpart(compute(self, *others))


def _comparison(of: Any, name: str) -> Callable[..., Any]:
    compute = getattr(of, name)

    def method(self: Any, other: Any) -> Any:
        known = plain(other) == 0 and isinstance(self, (FreeAxis, FreeRatio))
        if not known and isinstance(other, (int, float)) and from_user():
            _note(name, plain(self) - plain(other))
        return compute(self, other)

    return method


def _choice(of: Any, name: str) -> Callable[..., Any]:
    """What may give the same for all examples, and yet not for all lengths."""
    compute = getattr(of, name)

    def method(self: Any, *others: Any) -> Any:
        if len(others) or from_user():
            _note(name, plain(self), *map(plain, others))
        return compute(self, *others)

    return method


def _by_a_length(name: str) -> Callable[..., Any]:
    """A comparison with a free length, which decides nothing with 0, 1 or itself."""
    compute = getattr(int, name)

    def method(self: Any, other: Any) -> Any:
        known = plain(other) in (0, 1) or (isinstance(other, FreeLength) and int.__eq__(self, other))
        # Which shapes fit each other is the package's to ask.
        asks = from_user() if name in ("__eq__", "__ne__") else not from_numpy()
        if asks and not known and isinstance(other, (int, float)):
            raise SizeUnknown(f"a decision depends on a length{user_line()}")
        return compute(self, other)

    return method


_BOTH = ["add", "radd", "sub", "rsub", "mul", "rmul", "truediv", "rtruediv", "pow", "rpow", "neg", "abs"]
_COMPARISONS = ["lt", "le", "gt", "ge", "eq", "ne"]
_CHOICES = ["bool", "int", "float", "round", "trunc", "floor", "ceil"]
_CHOICES += [f"{r}{name}" for name in ("floordiv", "mod", "divmod") for r in ("", "r")]
_CHOICES += ["hash", "repr", "str", "format"]

for _class, _of in ((FreeNumber, int), (FreeRatio, float)):
    for _make, _names in ((_arithmetic, _BOTH), (_comparison, _COMPARISONS), (_choice, _CHOICES)):
        for _name in (f"__{n}__" for n in _names):
            setattr(_class, _name, _make(_of, _name))
for _name in (f"__{n}__" for n in _COMPARISONS):
    setattr(FreeLength, _name, _by_a_length(_name))
