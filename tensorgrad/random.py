"""Random numbers: one generator for the package, explicit ones wherever a result must be repeatable."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tensorgrad.context import context
from tensorgrad.errors import GraphError

__all__ = ["DrawLog", "Seed", "as_generator", "draw", "manual_seed"]

Seed = int | np.random.Generator | None

_generator = np.random.default_rng()


def manual_seed(seed: int) -> np.random.Generator:
    """Restart the package's own generator from a seed and return it.

    >>> int(manual_seed(0).integers(100))
    85
    """
    _generator.bit_generator.state = np.random.default_rng(seed).bit_generator.state
    return _generator


def as_generator(seed: Seed) -> np.random.Generator:
    """A Generator as it is, one made from an int, or the package's own for None."""
    if isinstance(seed, np.random.Generator):
        return seed
    return _generator if seed is None else np.random.default_rng(seed)


class DrawLog:
    """What a checkpointed function did that running it again must repeat.

    First run: notes the generator state before each draw, and whether any operand required a gradient
    (`live`). `replay()` gives a log for one further run. `outer` is the log of the checkpoint around, whose
    draws come first.
    """

    def __init__(self, outer: DrawLog | None = None, states: list[tuple[type, Any]] | None = None) -> None:
        self.outer = outer
        self.replaying = states is not None
        self.states = states if states is not None else []
        self.next = 0
        self.live = False

    def replay(self) -> DrawLog:
        """A log that hands out the noted states from the first on."""
        return DrawLog(states=self.states)

    def generator(self, rng: np.random.Generator) -> np.random.Generator:
        """The generator to draw from in place of `rng`."""
        if self.replaying:
            if self.next == len(self.states):
                raise GraphError(
                    "checkpoint: the function drew more random numbers when it was run again; it must do the "
                    "same for the same arguments"
                )
            kind, state = self.states[self.next]
            self.next += 1
            bits = kind()
            bits.state = state
            return np.random.Generator(bits)
        if self.outer is not None:
            rng = self.outer.generator(rng)
        self.states.append((type(rng.bit_generator), rng.bit_generator.state))
        return rng


def draw(
    seed: Seed, make: Callable[[np.random.Generator, tuple[int, ...]], np.ndarray], shape: tuple[int, ...]
) -> Any:
    """`make(generator, shape)`, repeatable when it happens inside a checkpointed function that is recomputed.

    seed: an int or a Generator to draw from; None for the package's own generator.
    make: gives an array of this shape, of one dtype. While a function is compiled it is noted, and called
        anew at every call of the compiled function; so it must not look at anything that changes.

    >>> draw(0, lambda rng, shape: rng.random(shape) < 0.5, (3,))
    array([False,  True,  True])
    """
    now = context()
    if now.tracer is not None:
        return now.tracer.draw(seed, make, shape)
    rng = as_generator(seed)
    return make(rng if now.draws is None else now.draws.generator(rng), shape)
