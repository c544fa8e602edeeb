"""Sizes that differ from call to call: T and B as symbols, and what a program may say about them.

A function is traced twice, each time with other small lengths in the places of T and B. What is the same in
both traces is a constant; what differs must be explained by the symbols (T, B, T * B, T - 1, ...). What can
not be explained makes the program one for this signature alone.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations_with_replacement
from pathlib import Path
from typing import Any

import numpy as np

from tensorgrad.graph import _PACKAGE

__all__ = ["Size", "SizeUnknown", "Symbols", "example_lengths", "from_numpy", "from_user", "user_line"]


_NUMPY = str(Path(np.__file__).parent) + os.sep


def user_line() -> str:
    """Where in the user's code we are, as ", at file:line"."""
    frame = sys._getframe(1)
    while frame is not None and frame.f_code.co_filename.startswith(_PACKAGE):
        frame = frame.f_back  # type: ignore[assignment]
    return f", at {frame.f_code.co_filename}:{frame.f_lineno}" if frame is not None else ""


def from_user() -> bool:
    """Whether the method that asks was called from outside this package and NumPy."""
    return not sys._getframe(2).f_code.co_filename.startswith((_PACKAGE, _NUMPY))


def from_numpy() -> bool:
    """Whether the method that asks was called by NumPy: the arrays that it makes are compared anyhow."""
    return sys._getframe(2).f_code.co_filename.startswith(_NUMPY)


class SizeUnknown(BaseException):
    """A length or number that depends on the free sizes in a way that cannot be written down.

    No Exception, so that an `except` in the user's function does not catch it.
    """


class Size(int):
    """A length that is known when the program runs; as an int, one example of it.

    >>> T, B = Size(7, "T"), Size(11, "B")
    >>> T * B, T == 7
    (T * B, False)
    """

    text: str

    def __new__(cls, example: int, text: str) -> Size:
        size = super().__new__(cls, example)
        size.text = text
        return size

    def __mul__(self, other: Any) -> Any:
        if other == 1:
            return self
        return Size(int(self) * int(other), f"{_factor(self)} * {_factor(other)}")

    def __rmul__(self, other: Any) -> Any:
        return self if other == 1 else Size(int(self) * int(other), f"{_factor(other)} * {_factor(self)}")

    def __add__(self, other: Any) -> Any:
        return self if other == 0 else Size(int(self) + int(other), f"{self.text} + {other}")

    __radd__ = __add__

    def __eq__(self, other: Any) -> bool:
        return isinstance(other, Size) and self.text == other.text

    def __ne__(self, other: Any) -> bool:
        return not self == other

    def __hash__(self) -> int:
        return hash(self.text)

    def __repr__(self) -> str:
        return self.text

    __str__ = __repr__


def _factor(n: Any) -> str:
    """A length as a factor: in brackets, unless it is nothing but a product outside of those it has."""
    text = outside = str(n)
    while outside != (outside := re.sub(r"\([^()]*\)", "", outside)):
        pass
    return f"({text})" if re.search("[-+/%]", outside) else text


# Pairs of lengths, each with a difference of its own, so that T + 6 is not taken for B.
_PAIRS = ((7, 11), (13, 19), (17, 29), (23, 37), (31, 47), (41, 61))


def example_lengths(names: Sequence[str], taken: set[int]) -> dict[str, tuple[int, int]]:
    """For each symbol a length in the first trace and one in the second, none of them among those taken.

    Empty if there are not enough.
    """
    pairs = [pair for pair in _PAIRS if not taken & set(pair)]
    return dict(zip(names, pairs, strict=False)) if len(names) <= len(pairs) else {}


class Symbols:
    """The free sizes of a function: names with their lengths in the two traces."""

    def __init__(self, lengths: Mapping[str, tuple[int, int]]) -> None:
        self.lengths = dict(lengths)

    def solve(self, a: Any, b: Any) -> Any:
        """The number that is `a` in one trace and `b` in the other, as an int, float or Size."""
        if a == b:
            return a
        whole = float(a).is_integer() and float(b).is_integer()
        for text, x, y in self._forms():
            if a == x and b == y:
                return Size(int(a), text)
        for text, x, y in self._forms():
            if whole and a * y == b * x and a % x == 0:
                return Size(int(a), f"{int(a // x)} * {text}")
        for text, x, y in self._forms():
            if whole and a - x == b - y:
                return Size(int(a), f"{text} {'+' if a > x else '-'} {abs(int(a - x))}")
        raise SizeUnknown(f"a number that was {a} for one set of lengths and {b} for another")

    def solve_number(self, a: float, b: float) -> str:
        """The same for a float, as an expression: a size, or a number over a size."""
        try:
            return str(self.solve(a, b))
        except SizeUnknown:
            for text, x, y in self._forms():
                top = a * x
                if abs(top - b * y) <= 1e-12 * abs(top):
                    top = round(top) if abs(top - round(top)) < 1e-9 * abs(top) else top
                    return f"{top} / ({text})" if " " in text else f"{top} / {text}"
            raise

    def _forms(self) -> Iterator[tuple[str, int, int]]:
        for name, (x, y) in self.lengths.items():
            yield name, x, y
        for (n, (x, y)), (m, (u, v)) in combinations_with_replacement(self.lengths.items(), 2):
            yield f"{n} * {m}", x * u, y * v
