"""Random numbers of a compiled function: drawn at each call, in the order in which eager mode draws them."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tensorgrad.errors import GraphError
from tensorgrad.random import Seed, as_generator

__all__ = ["Draw", "DrawnLoop", "draw_all", "verify_seeds"]


class Draw:
    """One draw. leaf: the stand-in for what is drawn, for all timesteps of the loops around it."""

    def __init__(self, seed: Seed, make: Callable[..., Any], leaf: Any) -> None:
        self.seed = seed
        self.make = make
        self.leaf = leaf

    @property
    def purpose(self) -> str:
        """What draws, as the name of its function."""
        return getattr(self.make, "__qualname__", "").partition(".")[0].strip("_").replace("_", " ")


class DrawnLoop:
    """The draws of every timestep of a loop."""

    def __init__(self, reverse: bool, items: list[Any]) -> None:
        self.reverse = reverse
        self.items = items

    def draws(self) -> list[Draw]:
        """All draws within, in their order."""
        return flat(self.items)


def flat(items: Sequence[Any]) -> list[Draw]:
    """All draws among items, those in loops too."""
    found: list[Draw] = []
    todo = list(reversed(items))
    while todo:
        item = todo.pop()
        if isinstance(item, Draw):
            found.append(item)
        else:
            todo += reversed(item.items)
    return found


def draw_all(items: Sequence[Any], shapes: Sequence[tuple[int, ...]]) -> list[np.ndarray]:
    """The arrays of all draws of a program, for these shapes."""
    draws = flat(items)
    out: dict[int, Any] = {
        id(d): np.empty(shape, d.leaf._value.dtype) for d, shape in zip(draws, shapes, strict=True)
    }
    _draw(items, out, ())
    return [out[id(d)] for d in draws]


def _draw(items: Sequence[Any], out: dict[int, Any], at: tuple[int, ...]) -> None:
    # Recurses into loops within loops, of which there are two or three.
    for item in items:
        if isinstance(item, Draw):
            place = out[id(item)]
            place[at] = item.make(as_generator(item.seed), place.shape[len(at) :])
            continue
        times = range(out[id(item.draws()[0])].shape[len(at)])
        for t in reversed(times) if item.reverse else times:
            _draw(item.items, out, (*at, t))


def verify_seeds(items: Sequence[Any]) -> None:
    """Raise GraphError for a Generator that nobody but the trace holds: eager mode would make it anew at
    every call."""
    seeds = [d.seed for d in flat(items)]
    counts = Counter(map(id, seeds))
    for d in flat(items):
        # Each draw holds it, and so does the list of them; one more is the question itself.
        if isinstance(d.seed, np.random.Generator) and sys.getrefcount(d.seed) <= 2 * counts[id(d.seed)] + 1:
            raise GraphError(
                "tg.compile: random numbers are drawn from a Generator that is made within the function, and "
                "would start anew at every call; make it outside, or give an int as the seed"
            )
