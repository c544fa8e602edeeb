"""What is written into a box about its numbers."""

from __future__ import annotations

from tensorgrad.viz.measuring.measures import Measures, norm_of
from tensorgrad.viz.style.color import short

__all__ = ["notes"]


def notes(box_id: str, measures: Measures, *, values: bool = False, grads: bool = False) -> tuple[str, ...]:
    """What is written into a box about its numbers, a line each.

    Args:
        box_id: which box.
        measures: of `measure`.
        values: whether to write about the value.
        grads: whether to write about the gradient; of a box that none reaches there is nothing to say.

    Example:
        >>> from tensorgrad.viz.measuring.measures import Numbers
        >>> numbers = Numbers(4, 0, 0, -0.5, 1.0, 0.25, 0.5, 1.2)
        >>> notes("h", Measures({"h": numbers}, {"h": numbers}), values=True, grads=True)
        ('-0.5 .. 1', 'mean 0.25', '|grad| 1.2')
    """
    lines = []
    if values and box_id in measures.values:
        numbers = measures.values[box_id]
        some = numbers.size - numbers.nan - numbers.inf
        if some > 1 and numbers.least < numbers.greatest:
            # A line each, for long ones are shortened, and be it in the middle of a number.
            lines.append(f"{short(numbers.least)} .. {short(numbers.greatest)}")
            lines.append(f"mean {short(numbers.mean)}")
        elif some:
            lines.append(short(numbers.least) if some == 1 else f"all {short(numbers.least)}")
        lines += [
            f"{count:,} of {numbers.size:,} {word}" if numbers.size > 1 else word
            for count, word in ((numbers.nan, "NaN"), (numbers.inf, "infinite"))
            if count
        ]
    if grads and box_id in measures.grads:
        lines.append(f"|grad| {short(norm_of(measures.grads[box_id]))}")
    return tuple(lines)
