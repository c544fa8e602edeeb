"""What is written into a box about its numbers."""

from __future__ import annotations

from collections.abc import Iterable

from tensorgrad.viz.measuring.measures import Measures, Numbers, norm_of
from tensorgrad.viz.model import Box
from tensorgrad.viz.style.color import short
from tensorgrad.viz.style.text import shortened

__all__ = ["notes"]

_LONGEST_NAME = 12


def notes(box: Box, measures: Measures, *, values: bool = False, grads: bool = False) -> tuple[str, ...]:
    """What is written into a box about its numbers, a line each; each of several states has lines of its own.

    Args:
        box: which one.
        measures: of `measure`.
        values: whether to write about the value.
        grads: whether to write about the gradient; of a box that none reaches there is nothing to say.

    Example:
        >>> from tensorgrad.viz.measuring.measures import Numbers
        >>> numbers = Numbers(4, 0, 0, -0.5, 1.0, 0.25, 0.5, 1.2)
        >>> h = Box("h", "state", "h", "tanh", "(4,)", "float64", "", "h")
        >>> notes(h, Measures({"h": numbers}, {"h": numbers}), values=True, grads=True)
        ('-0.5 .. 1', 'mean 0.25', '|grad| 1.2')
    """
    # A line each, for long ones are shortened, and be it in the middle of a number.
    named = [(f"{shortened(state.name, _LONGEST_NAME)} ", state.id) for state in box.states]
    lines = []
    for name, one in named or [("", box.id)]:
        if values and one in measures.values:
            lines += [name + line for line in _about(measures.values[one])]
    for name, one in named or [("", box.id)]:
        if grads and one in measures.grads:
            lines.append(f"|grad| {name}{short(norm_of(measures.grads[one]))}")
    return tuple(lines)


def _about(numbers: Numbers) -> Iterable[str]:
    some = numbers.size - numbers.nan - numbers.inf
    if some > 1 and numbers.least < numbers.greatest:
        yield f"{short(numbers.least)} .. {short(numbers.greatest)}"
        yield f"mean {short(numbers.mean)}"
    elif some:
        yield short(numbers.least) if some == 1 else f"all {short(numbers.least)}"
    for count, word in ((numbers.nan, "NaN"), (numbers.inf, "infinite")):
        if count:
            yield f"{count:,} of {numbers.size:,} {word}" if numbers.size > 1 else word
