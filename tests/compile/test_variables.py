"""The names on a page: those of the user's variables."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pytest

import tensorgrad as tg
from tensorgrad import functional as F
from tensorgrad import nn

from .common import assert_same

RNG = np.random.default_rng(0)
PARAMS = {"W": RNG.standard_normal((3, 8)), "U": RNG.standard_normal((4, 8)), "b": RNG.standard_normal(8)}
XS, H0 = RNG.standard_normal((5, 2, 3)), np.zeros((2, 4))


def halves(pre: Any) -> Any:
    inner = pre * 1.5
    return inner[:, :4], inner[:, 4:]


def loss_of(params: Any, xs: Any, h0: Any) -> Any:
    def cell(x: Any, h: Any) -> Any:
        gate, candidate = halves(x @ params["W"] + h @ params["U"] + params["b"])
        update = tg.sigmoid(gate)
        h = update * h + (1 - update) * tg.tanh(candidate)
        return h, h

    roll = nn.unroll(cell, xs, h0)
    assert "state" in roll.steps[0]
    energy = roll.outputs * roll.outputs
    return energy.mean()


@pytest.mark.usefixtures("numpy_pages")
def test_a_page_speaks_as_the_cell_does() -> None:
    step = tg.compile(tg.value_and_grad(loss_of))
    assert_same(step(PARAMS, XS, H0), tg.value_and_grad(loss_of)(PARAMS, XS, H0))
    for name in ("update[t]", "h[t + 1]", "dh_next", "energy"):
        assert name in step.source
    assert "state" not in step.source


@pytest.mark.usefixtures("numpy_pages")
def test_labels_come_first() -> None:
    def labelled(xs: Any) -> Any:
        squares = tg.label(xs * xs, "power")
        return F.softmax(squares)

    step = tg.compile(labelled)
    step(XS)
    assert "power" in step.source
    assert "squares" not in step.source


@pytest.mark.usefixtures("numpy_pages")
def test_the_callers_names_count_more() -> None:
    def inner(given: Any) -> Any:
        small = given * 0.5
        return small

    def outer(xs: Any) -> Any:
        large = inner(xs)
        return tg.tanh(large), large

    step = tg.compile(outer)
    step(XS)
    assert "large = " in step.source
    assert "small" not in step.source
    assert "given" not in step.source


def test_whoever_listens_goes_on_listening() -> None:
    """A profiler keeps its place, during and after; after an error too there is none left behind."""
    seen = []

    def listen(frame: Any, event: str, arg: Any) -> None:
        seen.append(frame.f_code.co_name)

    sys.setprofile(listen)
    try:
        tg.compile(tg.value_and_grad(loss_of))(PARAMS, XS, H0)
        assert sys.getprofile() is listen
    finally:
        sys.setprofile(None)
    assert "cell" in seen

    def failing(xs: Any) -> Any:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        tg.compile(failing)(XS)
    assert sys.getprofile() is None
