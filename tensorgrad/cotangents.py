"""Cotangents and their sums.

A weight shared by T timesteps receives T contributions; how they are added up decides the speed of
backpropagation through time.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

__all__ = ["Deferred", "Product", "Rows", "Scatter", "Total", "broadcasts", "unbroadcast"]


class Deferred:
    """A cotangent in a form that is cheaper to add up than the array it stands for."""

    __slots__ = ("dtype", "shape")

    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    def dense(self) -> Any:
        """The cotangent as an array that nobody else holds."""
        raise NotImplementedError

    def add_to(self, buffer: Any) -> None:
        """Add the cotangent to an array of its shape."""
        np.add(buffer, self.dense(), out=buffer)


class Scatter(Deferred):
    """Zeros of `shape` with `g` added by `add(buffer, g)`: the cotangent of an indexed operand.

    T slices of one array fill one buffer instead of making T arrays of zeros.
    """

    __slots__ = ("add", "g")

    def __init__(self, shape: tuple[int, ...], g: Any, add: Callable[[Any, Any], None]) -> None:
        self.shape = shape
        self.dtype = g.dtype
        self.g = g
        self.add = add

    def dense(self) -> Any:
        buffer = np.zeros(self.shape, self.dtype)
        self.add(buffer, self.g)
        return buffer

    def add_to(self, buffer: Any) -> None:
        self.add(buffer, self.g)


class Rows(Deferred):
    """The sum over the rows of a matrix: a bias's share of one timestep's gradient.

    Shares are gathered, so that T of them cost few sums over many rows instead of T over few.
    """

    __slots__ = ("right",)

    def __init__(self, right: Any) -> None:
        self.right = right
        self.shape = right.shape[1:]
        self.dtype = right.dtype

    def dense(self) -> Any:
        # A product with ones is several times faster than a sum down the columns.
        return np.ones(len(self.right), self.dtype) @ self.right

    @classmethod
    def gathered(cls, parts: list[Any]) -> Rows:
        """One share with the rows of all."""
        return cls(np.concatenate([part.right for part in parts]))


class Product(Rows):
    """left.T @ right for matrices of equally many rows: a weight's share of one timestep's gradient.

    Shares are gathered, so that T of them become few large matrix products.
    """

    __slots__ = ("left",)

    def __init__(self, left: Any, right: Any) -> None:
        self.left = left
        self.right = right
        self.shape = (left.shape[1], right.shape[1])
        self.dtype = right.dtype

    def dense(self) -> Any:
        return self.left.T @ self.right

    @classmethod
    def gathered(cls, parts: list[Any]) -> Product:
        """One share with the rows of all."""
        return cls(
            np.concatenate([part.left for part in parts]), np.concatenate([part.right for part in parts])
        )


class Total:
    """A sum of cotangents: copies on the second contribution, adds in place from the third."""

    __slots__ = ("count", "owned", "parts", "value")

    # Rows gathered before they are multiplied out: enough to make the product efficient, few enough to
    # bound the memory that holds on to cotangents.
    GATHER = 512

    def __init__(self, first: Any) -> None:
        self.value: Any = None
        self.owned = False
        self.parts: list[Rows] = []
        self.count = 0
        self.add(first)

    def add(self, g: Any) -> None:
        """Add a contribution: an array, a NumPy scalar or a `Deferred`."""
        if g.__class__ is np.ndarray:
            if self.value is None:
                self.value = g
            elif self.owned:
                np.add(self.value, g, out=self.value)
            else:
                self._set(self.value + g)
        elif isinstance(g, Rows):
            self.parts.append(g)
            self.count += len(g.right)
            if self.count >= self.GATHER:
                self._sum_rows()
        elif isinstance(g, Deferred):
            self._add_deferred(g)
        else:
            # A NumPy scalar, which cannot be added to in place.
            self.value = g if self.value is None else self.value + g
            self.owned = False

    def copy(self) -> Total:
        """The same sum; from here on each of the two goes its own way."""
        self.owned = False
        twin = Total.__new__(Total)
        twin.value, twin.owned, twin.parts, twin.count = self.value, False, self.parts.copy(), self.count
        return twin

    def _set(self, value: Any) -> None:
        self.value = value
        self.owned = value.__class__ is np.ndarray

    def _add_deferred(self, g: Deferred) -> None:
        if self.value is None:
            self._set(g.dense())
            return
        if not self.owned:
            self._set(np.array(self.value))
        g.add_to(self.value)

    def _sum_rows(self) -> None:
        parts, self.parts, self.count = self.parts, [], 0
        self._add_deferred(parts[0] if len(parts) == 1 else parts[0].gathered(parts))

    def dense(self) -> Any:
        """The sum as an array that nobody else holds."""
        if self.parts:
            self._sum_rows()
        return self.value if self.owned else np.array(self.value)


def broadcasts(shape: tuple[int, ...], to: tuple[int, ...]) -> bool:
    """Whether an array of one shape broadcasts to the other."""
    extra = len(to) - len(shape)
    return extra >= 0 and all(n in (1, m) for n, m in zip(shape, to[extra:], strict=True))


def unbroadcast(g: Any, shape: tuple[int, ...]) -> Any:
    """Sum a cotangent over the axes along which an operand of `shape` was broadcast."""
    extra = g.ndim - len(shape)
    axes = tuple(
        axis for axis, n in enumerate(g.shape) if n != 1 and (axis < extra or shape[axis - extra] == 1)
    )
    if axes:
        g = g.sum(axis=axes, keepdims=True)
    return g.reshape(shape)
