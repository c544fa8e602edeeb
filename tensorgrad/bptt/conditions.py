"""Conditions under which a mistake in a backward shows, and problems drawn for them."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from tensorgrad.bptt.handwritten import OPTIONS, Arrays, Handwritten
from tensorgrad.errors import UserError

__all__ = ["INPUTS", "Condition", "Problem", "Shapes", "conditions", "draw"]

Shapes = Mapping[str, Sequence["str | int"]]

# All different, so that no array fits where another belongs; which letter gets which is drawn.
SIZES = (3, 4, 5, 6, 7)
# The last is for a forward that has one vocabulary for what it reads and what it predicts.
INPUTS = ("ids", "floats", "ids, D = V")


@dataclass(frozen=True)
class Condition:
    """What a backward is tried under.

    sizes: by letter. inputs: one of `INPUTS`. ragged: whether sequences end before the last timestep.
    last: whether a gradient reaches the last state from outside. options: what forward is called with.
    """

    sizes: Mapping[str, int]
    inputs: str
    ragged: bool
    last: bool
    options: tuple[tuple[str, str], ...] = ()

    @property
    def features(self) -> list[str]:
        """In words, what makes it different from others."""
        words = ["inputs of floats" if self.inputs == "floats" else "token ids"]
        words += [f"{name}={value!r}" for name, value in self.options]
        words.append("ragged lengths" if self.ragged else "full lengths")
        words.append("loss on the final state" if self.last else "no loss on the final state")
        return words

    def __str__(self) -> str:
        return ", ".join([" ".join(f"{letter}={n}" for letter, n in self.sizes.items()), *self.features])


class Problem(NamedTuple):
    """Parameters, and what forward is called with besides; live: (T, B) booleans, where no padding is."""

    params: Arrays
    arguments: dict[str, Any]
    live: np.ndarray


def conditions(
    rng: np.random.Generator,
    inputs: Sequence[str],
    ragged: Sequence[bool],
    last: Sequence[bool],
    options: Sequence[str] = (),
) -> Iterator[Condition]:
    """Every combination of these, each with sizes of its own.

    >>> found = list(conditions(np.random.default_rng(0), ["ids", "floats"], [False, True], [True]))
    >>> len(found), len(set(found[0].sizes.values()))
    (4, 5)
    """
    ways = [[(name, value) for value in OPTIONS[name]] for name in options]
    for kind, is_ragged, has_last in itertools.product(inputs, ragged, last):
        for chosen in itertools.product(*ways):
            sizes = dict(zip("TBDHV", map(int, rng.permutation(SIZES)), strict=True))
            if kind == INPUTS[2]:
                sizes["D"] = sizes["V"]
            yield Condition(sizes, kind, is_ragged, has_last, chosen)


def draw(
    rng: np.random.Generator,
    condition: Condition,
    shapes: Shapes,
    written: Handwritten,
) -> Problem:
    """Weights and initial states of order one, tokens that repeat, inputs in padding that are not zero.

    Raises UserError for shapes that cannot be read.

    >>> written = Handwritten(lambda params, xs, targets, h0: None, lambda params, cache: None)
    >>> condition = Condition(dict(T=3, B=4, D=5, H=6, V=7), "ids", False, False)
    >>> problem = draw(np.random.default_rng(0), condition, {"W_hh": ("4H", "H")}, written)
    >>> problem.params["W_hh"].shape, problem.arguments["xs"].shape, problem.arguments["h0"].shape
    ((24, 6), (3, 4), (4, 6))
    """
    size = condition.sizes
    T, B = size["T"], size["B"]
    params = {
        name: 0.6 * rng.standard_normal([_length(letter, size, name) for letter in shape])
        for name, shape in shapes.items()
    }
    if condition.inputs == "floats":
        xs: np.ndarray = rng.standard_normal((T, B, size["D"]))
    else:
        xs = rng.integers(size["D"], size=(T, B))
        # The same token twice in a timestep, and again in the next.
        xs[:2, :2] = xs[0, 0]
    arguments: dict[str, Any] = {"xs": xs, **dict(condition.options)}
    arguments |= {name: rng.uniform(-0.9, 0.9, (B, size["H"])) for name in written.states}
    lengths = np.full(B, T)
    if condition.ragged:
        lengths = rng.integers(1, T, size=B)
        lengths[rng.integers(B)] = T
    live = np.arange(T)[:, None] < lengths
    # In padding the class 0, as where labels are cleared there: or a backward that counts padding would be
    # explained or not by whether its forward clears them.
    arguments["targets"] = np.where(live, rng.integers(size["V"], size=(T, B)), 0)
    if written.padding == "mask":
        arguments["mask"] = live
    elif written.padding == "lengths":
        arguments["lengths"] = lengths
    return Problem(params, arguments, live)


def _length(letter: str | int, sizes: Mapping[str, int], name: str) -> int:
    """A dimension: 3, "H", "4H" or "4*H"."""
    match = re.fullmatch(r"(\d*)\s*\*?\s*([BDHV]?)", str(letter))
    if match is None or not any(match.groups()):
        raise UserError(
            f"a dimension in the shapes is a number, a letter of B, D, H, V, or both as in '4H', but {name} "
            f"has {letter!r}"
        )
    return int(match[1] or 1) * (sizes[match[2]] if match[2] else 1)
