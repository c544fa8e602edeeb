"""Compiled functions as objects of Python: methods, copies, and words and numbers among the arguments."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import tensorgrad as tg
from tensorgrad import nn
from tensorgrad.errors import GraphError, UserError

X = np.arange(3.0)


class Scaled(nn.Module):
    """A compiled method that sees a parameter."""

    def __init__(self, scale: float) -> None:
        self.scale = nn.Parameter(np.full(3, scale))

    @tg.compile
    def step(self, x: Any) -> Any:
        return (self.scale * x).sum()


def test_methods() -> None:
    two, three = Scaled(2.0), Scaled(3.0)
    assert [two.step(X).item(), three.step(X).item(), two.step(X).item()] == [6, 9, 6]
    assert Scaled.step(three, X).item() == 9
    assert Scaled.step.cache_info().hits == 2


def test_copies_compile_for_themselves() -> None:
    step = tg.compile(lambda x: x * 2.0)
    step(X)
    other = copy.deepcopy(step)
    np.testing.assert_array_equal(other(X), step(X))
    assert other.cache_info().programs == 1
    assert copy.deepcopy(Scaled(2.0)).step(X).item() == 6


def test_words_of_numpys_are_settings() -> None:
    step = tg.compile(lambda x, mode: x * 2 if mode == "double" else x)
    for mode in ("double", "plain"):
        for kind in (str, np.str_):
            np.testing.assert_array_equal(step(X, kind(mode)), X * 2 if mode == "double" else X)


@pytest.mark.parametrize(
    "fn",
    [
        lambda x, p: x if p in {0.0, 1.0} else x * p,
        lambda x, p: x * {1.0: 5}.get(p, 3),
        lambda x, p: x * len({p, 1.0}),
        lambda x, p: {x[0]: 1},
    ],
)
def test_a_value_is_no_key(fn: Callable[..., Any]) -> None:
    """Found by its value it would be another one at another call."""
    with pytest.raises(GraphError, match="a key of a set or dict needs the values"):
        tg.compile(fn)(X, 1.0)


def test_masked_arrays_are_refused() -> None:
    with pytest.raises(UserError, match="data and mask as two arrays"):
        tg.compile(lambda x: x * 2.0)(np.ma.masked_array(X, [True, False, False]))
