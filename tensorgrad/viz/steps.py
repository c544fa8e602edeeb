"""Timesteps: which one a scope is in, and which of a long sequence are shown."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import Any

from tensorgrad.errors import UserError

__all__ = ["ENDS", "named_steps", "step_of", "timestep_of"]

ENDS = 5
"""So many timesteps are shown at either end of a sequence that is not shown whole."""
_TIMESTEP = re.compile(r"t=([0-9]{1,18})", re.ASCII)


@lru_cache(maxsize=1 << 16)
def step_of(name: str) -> int | None:
    """The timestep that a single scope is; None for another scope.

    Example:
        >>> step_of("t=3"), step_of("encoder")
        (3, None)
    """
    match = _TIMESTEP.fullmatch(name)
    return int(match[1]) if match else None


def timestep_of(scope: str) -> tuple[str, int] | None:
    """The outermost timestep of a scope and the sequence it is in; None for a scope in no timestep.

    Example:
        >>> timestep_of("decoder/t=3/attention"), timestep_of("encoder")
        (('decoder/', 3), None)
    """
    begin = 0
    for name in scope.split("/"):
        t = step_of(name)
        if t is not None:
            return scope[:begin], t
        begin += len(name) + 1
    return None


def named_steps(steps: Any, caller: str, example: str) -> Iterator[int] | None:
    """The timesteps in an argument `steps`, one by one, for there may be any number; None for "all".

    Args:
        steps: timesteps, None for none, or "all".
        caller: the function that was given them.
        example: of what it takes.

    Raises:
        UserError: something else; of what is no timestep, when its turn comes.

    Example:
        >>> list(named_steps(range(2, 4), "draw", "[3]"))
        [2, 3]
    """
    if isinstance(steps, str):
        if steps == "all":
            return None
        raise UserError(f'{caller}: steps= takes timesteps, such as range(10, 20), or "all", not {steps!r}')
    several = f"several timesteps, such as {example} or range(10, 20)"
    if not isinstance(steps, Iterable | None) or isinstance(steps, bytes):
        raise UserError(f"{caller}: steps= takes {several}, not {steps!r}")

    def whole(step: Any) -> int:
        if isinstance(step, bool) or not hasattr(step, "__index__"):
            raise UserError(
                f"{caller}: a timestep in steps= is a whole number from 0 up, not {step!r}; "
                f"it takes {several}"
            )
        return int(step)

    return map(whole, () if steps is None else steps)
