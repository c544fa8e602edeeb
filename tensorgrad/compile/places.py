"""The places outside of a compiled function that it may read and change."""

from __future__ import annotations

from typing import Any

import numpy as np

__all__ = ["Count", "Gradient", "Place", "Rate", "Slot", "Value", "settings_of"]


class Place:
    """Where something is kept. owner: the Tensor or optimiser. outside: whether it was there before.

    key: what makes two places one. name: of its variable on the page. what: a phrase for people.
    shared: another place that holds the same at first.
    """

    __slots__ = ("key", "name", "outside", "owner", "shared", "what")

    is_number = False
    shared: Place | None

    def __init__(self, owner: Any, outside: bool, name: str, what: str, *more: Any) -> None:
        self.owner = owner
        self.outside = outside
        self.name = name
        self.what = what
        self.shared = None
        self.key = type(self), id(owner), *more

    def read(self) -> Any:
        """What is there."""
        raise NotImplementedError

    def write(self, value: Any) -> None:
        """Put an array, or None, there."""
        raise NotImplementedError


def _called(x: Any) -> str:
    return x.name or "parameter"


class Value(Place):
    """The values of a parameter."""

    __slots__ = ()

    def __init__(self, x: Any, outside: bool) -> None:
        super().__init__(x, outside, _called(x), f"the new value of {_called(x)}")

    def read(self) -> Any:
        return self.owner._value

    def write(self, value: Any) -> None:
        self.owner._value = value


class Gradient(Place):
    """The `grad` of a Tensor."""

    __slots__ = ()

    def __init__(self, x: Any, outside: bool) -> None:
        super().__init__(x, outside, f"{_called(x)}_grad", f"the gradient of {_called(x)}")

    def read(self) -> Any:
        return self.owner._grad

    def write(self, value: Any) -> None:
        self.owner._grad = value


class Rate(Place):
    """The learning rate of an optimiser."""

    __slots__ = ()
    is_number = True

    def __init__(self, optimiser: Any, outside: bool) -> None:
        super().__init__(optimiser, outside, "lr", f"the learning rate of {type(optimiser).__name__}")

    def read(self) -> Any:
        return np.float64(self.owner._progress.lr)

    def write(self, value: Any) -> None:
        self.owner._progress.lr = float(value)


class Count(Place):
    """How many steps a parameter took."""

    __slots__ = ("k",)
    is_number = True

    def __init__(self, optimiser: Any, outside: bool, k: int, shared: Count | None = None) -> None:
        self.k = k
        name = _called(optimiser.parameters[k])
        super().__init__(optimiser, outside, "count", f"the number of steps of {name}", k)
        self.shared = shared

    def read(self) -> Any:
        return np.int64(self.owner._progress.counts[self.k])

    def write(self, value: Any) -> None:
        self.owner._progress.counts[self.k] = int(value)


class Slot(Place):
    """The state of an optimiser for a parameter."""

    __slots__ = ("k", "slot")

    def __init__(self, optimiser: Any, outside: bool, slot: str, k: int) -> None:
        self.slot, self.k = slot, k
        name = _called(optimiser.parameters[k])
        what = f"the {slot.replace('_', ' ')} of {name}"
        super().__init__(optimiser, outside, f"{name}_{slot}", what, slot, k)

    def read(self) -> Any:
        return self.owner._progress.state[self.slot][self.k]

    def write(self, value: Any) -> None:
        self.owner._progress.state[self.slot][self.k] = value


_PLAIN = (str, bytes, int, float, bool, type(None))


class _Itself:
    """An object that is kept, and equal to nothing but itself."""

    __slots__ = ("kept",)

    def __init__(self, kept: Any) -> None:
        self.kept = kept

    def __eq__(self, other: Any) -> bool:
        return isinstance(other, _Itself) and self.kept is other.kept

    def __hash__(self) -> int:
        return id(self.kept)


def _sign(value: Any) -> Any:
    if isinstance(value, _PLAIN):
        return type(value), value
    if type(value) is tuple:
        return tuple(map(_sign, value))
    if isinstance(value, (list, dict)):
        parts = value.items() if isinstance(value, dict) else enumerate(value)
        return _Itself(value), tuple((k, _Itself(v)) for k, v in parts)
    return _Itself(value)


def settings_of(optimiser: Any) -> tuple[tuple[str, Any], ...]:
    """What decides how an optimiser steps, apart from its progress."""
    return tuple((name, _sign(value)) for name, value in vars(optimiser).items() if name != "_progress")
