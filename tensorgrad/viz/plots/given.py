"""What the plots are given: checked, and named in the sentence that says what is wrong with it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np

from tensorgrad.errors import DtypeError, ShapeError, TensorgradError, UserError
from tensorgrad.nn.unroll import Unrolled
from tensorgrad.tensor import Tensor

__all__ = ["PlotError", "named", "numbers", "of_part", "one", "quietly", "several", "tokens_for"]

R = TypeVar("R")


class PlotError(TensorgradError, ModuleNotFoundError):
    """Plots need matplotlib, and it is not installed."""


def numbers(what: str, values: Any, axes: Sequence[str], instead: str = "") -> np.ndarray:
    """Real numbers as float64, with one axis for each name in `axes`.

    what: who asks, for the messages. instead: how to get the numbers where a Tensor or a run was given.
    Raises DtypeError for what are no real numbers, ShapeError for another shape and for none at all.

    >>> numbers("loss_curve", [3, 2], ["steps"])
    array([3., 2.])
    """
    among = values if isinstance(values, list | tuple) else [values]
    wrong = next((each for each in among if isinstance(each, Tensor | Unrolled)), None)
    if wrong is not None:
        kind = "a Tensor" if isinstance(wrong, Tensor) else "a run"
        values_of = "its .numpy(), or .item() of a single number"
        raise DtypeError(f"{what}: give numbers, not {kind}: {instead or values_of}")
    try:
        array = np.asarray(values)
        if array.dtype.kind not in "biuf":
            raise TypeError
    except (TypeError, ValueError):
        raise DtypeError(
            f"{what}: give real numbers with the axes ({', '.join(axes)}), not {a_kind(values)}"
        ) from None
    if array.ndim != len(axes) or not array.size:
        raise ShapeError(
            f"{what}: what to plot has the axes ({', '.join(axes)}) and is not empty, but its shape is "
            f"{array.shape}"
        )
    return array.astype(np.float64)


def named(given: Any) -> dict[str, Any]:
    """Things by name; one alone has the name "".

    >>> named(5), named({0.5: 1})
    ({'': 5}, {'0.5': 1})
    """
    return {str(name): each for name, each in given.items()} if isinstance(given, Mapping) else {"": given}


def one(what: str, given: Any, kind: type[Any]) -> None:
    """Raise DtypeError unless a result of a study was given."""
    if not isinstance(given, kind):
        raise DtypeError(f"{what}: give a tg.bptt.{kind.__name__}, not {a_kind(given)}")


def several(what: str, given: Any, kind: type[R]) -> dict[str, R]:
    """Results of a study by name, at least one. Raises DtypeError for anything else."""
    found = named(given)
    wrong = [each for each in found.values() if not isinstance(each, kind)]
    if wrong or not found:
        not_this = a_kind(wrong[0]) if wrong else "an empty mapping"
        raise DtypeError(f"{what}: give a tg.bptt.{kind.__name__}, or several by name, not {not_this}")
    return found


def of_part(what: str, parts: Mapping[str, R], part: str) -> R:
    """The part of that name. Raises UserError where there is none."""
    if part not in parts:
        raise UserError(f"{what}: there is no part {part!r}; parts are {', '.join(map(str, parts))}")
    return parts[part]


def quietly(compute: Callable[[], R]) -> R:
    """What a study computes, without NumPy's warnings of what a plot marks.

    >>> quietly(lambda: np.float64(np.inf) - np.inf)
    np.float64(nan)
    """
    with np.errstate(over="ignore", invalid="ignore"):
        return compute()


def tokens_for(what: str, tokens: Sequence[Any] | None, T: int, of: str = "timesteps") -> None:
    """Raise ShapeError unless there are no tokens, or T of them."""
    if tokens is not None and len(tokens) != T:
        raise ShapeError(f"{what}: {len(tokens)} tokens do not go with {T} {of}")


def a_kind(value: Any) -> str:
    """What something is, with its article.

    >>> a_kind([]), a_kind(1)
    ('a list', 'an int')
    """
    name = type(value).__name__
    return f"a{'n' if name[0] in 'AEIOUaeiou' else ''} {name}"
