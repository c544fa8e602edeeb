"""The names on a page: those of the user's variables."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tensorgrad as tg
from tensorgrad import functional as F
from tensorgrad import nn

from .common import assert_same, check

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


@pytest.mark.parametrize(
    "name", ["range", "reversed", "bool", "len", "max", "np", "t", "t2", "T", "B", "j", "ones"]
)
@pytest.mark.parametrize("piece", [None, 2])
def test_names_that_the_page_needs(name: str, piece: Any) -> None:
    def loss(params: Any, xs: Any, h0: Any) -> Any:
        def cell(x: Any, h: Any) -> Any:
            h = tg.tanh(x + h)
            return h, h

        called = tg.label(tg.exp(xs @ params["U"]), name)
        outputs = nn.unroll(cell, called * 0.5, h0, checkpoint=piece).outputs
        return (F.softmax(outputs) * called + tg.sigmoid(outputs) * params.get(name, 1.0)).mean()

    for more in ({}, {name: np.ones(4)}):
        check(tg.value_and_grad(loss), {"U": PARAMS["U"][:3, :4], **more}, XS, H0)


@pytest.mark.parametrize(
    "name", ["range", "np", "sigmoid", "make_buffers", "contiguous", "len", "lambda", "T"]
)
def test_functions_by_names_that_the_page_needs(name: str, tmp_path: Path) -> None:
    def fn(xs: Any, h0: Any) -> Any:
        def cell(x: Any, h: Any) -> Any:
            h = tg.tanh(x + tg.sigmoid(h))
            return h, h

        return F.softmax(nn.unroll(cell, xs, h0).outputs)

    fn.__name__ = name
    step = check(fn, XS[..., :1], H0[:, :1])
    step.save(tmp_path / "page.py")
    page = runpy.run_path(str(tmp_path / "page.py"))
    (found,) = page[f"{name}2"](XS[..., :1], H0[:, :1])
    assert_same(tg.tensor(found), fn(XS[..., :1], H0[:, :1]))


def test_names_that_python_takes_for_the_same() -> None:
    def fn(given: Any) -> Any:
        ligature, square = (tg.label(tg.exp(given[n]), n) for n in ("\ufb01", "x\u00b2"))
        return ligature * square * tg.label(tg.tanh(given["fi"]), "fi") + given["lambda"] + given["a b"]

    names = ["\ufb01", "fi", "x\u00b2", "lambda", "a b", "a_b", "0", ""]
    check(fn, {name: RNG.standard_normal(3) for name in names})


def test_a_function_that_begins_to_profile() -> None:
    def listen(frame: Any, event: str, arg: Any) -> None:
        pass

    def fn(xs: Any) -> Any:
        sys.setprofile(listen)
        return tg.exp(xs) * 2

    try:
        tg.compile(fn)(XS)
        assert sys.getprofile() is listen
    finally:
        sys.setprofile(None)


def test_variables_are_not_asked_for_their_class() -> None:
    class Proxy:
        @property
        def __class__(self) -> Any:
            raise RuntimeError("not yet")

    def fn(xs: Any) -> Any:
        proxy = Proxy()
        return tg.exp(xs) if id(proxy) else xs

    check(fn, XS)
