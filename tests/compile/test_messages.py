"""What compiled functions say of what they cannot do: in whose words, of which lengths, and what to write."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tensorgrad as tg
from tensorgrad import nn
from tensorgrad.errors import DtypeError, GraphError, ShapeError, TensorgradError

from .common import check


def draw(*shape: int) -> np.ndarray:
    return np.asarray(np.random.default_rng(0).standard_normal(shape))


HERE = Path(__file__).name
X = draw(3, 2)


# --- what is no operation ----------------------------------------------------------------------------------
INSTEAD: dict[str, tuple[Callable[..., Any], str, Callable[..., Any]]] = {
    "method": (lambda x: (x > 1).any(), "(x != 0).max()", lambda x: (x > 1).max()),
    "all": (lambda x: np.all(x > 1), "(x != 0).min()", lambda x: ((x > 1) != 0).min()),
    "//": (lambda x: abs(x) // 0.3, "(x / y).astype(int)", lambda x: (abs(x) / 0.3).astype(int) * 1.0),
    "%": (
        lambda x: abs(x) % 0.3,
        "x - y * (x / y).astype(int)",
        lambda x: (v := abs(x)) - 0.3 * (v / 0.3).astype(int),
    ),
    "round": (
        lambda x: np.round(x),
        "x + 0.5 * tg.sign(x)",
        lambda x: (x + 0.5 * tg.sign(x)).astype(int) * 1.0,
    ),
    "a function elsewhere": (
        lambda x: np.linalg.norm(x, axis=1),
        "Write tg.norm",
        lambda x: tg.norm(x, axis=1),
    ),
    "out": (lambda x: np.add(x, 1, out=np.zeros((3, 2))), "Write tg.add", lambda x: tg.add(x, 1)),
    "shape": (lambda x: np.zeros_like(x), "np.zeros(x.shape", lambda x: np.zeros(x.shape, x.dtype)),
    "NaN": (lambda x: np.isnan(x), "x != x", lambda x: x != x),
    "repeat": (lambda x: x.repeat(2, 0), "np.repeat(np", lambda x: tg.take(x, np.repeat(np.arange(3), 2), 0)),
    "tile": (lambda x: np.tile(x, 2), "tg.concatenate([x] * k", lambda x: tg.concatenate([x] * 2, 1)),
    "reduce": (lambda x: np.add.reduce(x), "Compute it outside", lambda x: x.sum(0)),
}


@pytest.mark.parametrize("name", INSTEAD)
def test_what_is_no_operation_is_told_with_what_to_write(name: str) -> None:
    fn, words, instead = INSTEAD[name]
    with pytest.raises(GraphError, match=rf"no operation.*{HERE}:\d+\. .*{re.escape(words)}"):
        tg.compile(fn)(X)
    np.testing.assert_allclose(tg.compile(instead)(X), fn(X))


@pytest.mark.parametrize("fn", [lambda x: x.sum(0).item(), lambda x: np.add(x, "a"), lambda x: x @ x])
def test_errors_show_the_lengths_that_were_given(fn: Any) -> None:
    with pytest.raises(TensorgradError, match=r"\((2, )?5,?\)") as caught:
        tg.compile(fn)(np.ones((2, 5)))
    assert not re.search(r"\((7|11|13|19), ", str(caught.value))


def test_a_function_of_numpy_that_is_refused_within_a_try() -> None:
    def fn(x: Any) -> Any:
        try:
            return np.sort(x)
        except Exception:
            return x

    with pytest.raises(GraphError, match=r"np\.sort is no operation"):
        tg.compile(fn)(X)


def test_what_tensors_have_not_they_have_not_when_compiled() -> None:
    for fn in (lambda h: h.ravel(), lambda h: h // 2, lambda h: hasattr(h, "copy")):
        found = []
        for run in (fn, tg.compile(fn)):
            try:
                found.append(str(run(tg.tensor(X))))
            except (AttributeError, TypeError) as error:
                found.append(str(error))
        assert found[0] == found[1]


# --- cells ------------------------------------------------------------------------------------------------
def run_of(cell: Any, xs: Any, h0: Any = X, lengths: Any = None) -> Any:
    return nn.unroll(cell, xs, h0, lengths).outputs


BOTH: dict[str, tuple[Any, ...]] = {
    "three": (r"return \(output, state\), not a tuple of 3", lambda x, h: (h, h, h), draw(4, 3, 2)),
    "no state": (r"return \(output, state\), not Tensor", lambda x, h: x + h, draw(4, 3, 2)),
    "xs of None": ("xs must be an array, a Tensor or a number, not NoneType", lambda x, h: (h, h), None),
    "xs of letters": ("xs must be an array, a Tensor or a number, not str", lambda x, h: (h, h), "abc"),
    "lengths": ("comes out as None", lambda x, h: (h, None), draw(4, 3, 2), X, [1, 2, 4]),
}
COMPILED: dict[str, tuple[Any, ...]] = {
    "None": ("goes into the cell as Tensor and comes out as None", lambda x, h: (x + h, None)),
    "pair": (r"as Tensor and comes out as \(Tensor, Tensor\)", lambda x, h: (x, (h, h))),
    "dict": ("as {h: Tensor, c: Tensor} and", lambda x, s: (x, s["h"]), {"h": X, "c": X}),
    "output": ("the cell's output must be .* not str", lambda x, h: ("a", h)),
    "after": ("the state that the cell returns must be .* not str", lambda x, h: (x, "a")),
    "state": ("the state must be .* not str", lambda x, h: (x, h), "a"),
}


@pytest.mark.parametrize("name", [*BOTH, *COMPILED])
def test_cells_that_return_what_they_should_not(name: str) -> None:
    words, cell, *args = BOTH[name] if name in BOTH else COMPILED[name]
    if name in COMPILED:
        args = [draw(4, 3, 2), *args]
    for run in (run_of, tg.compile(run_of))[name in COMPILED :]:
        with pytest.raises((ShapeError, DtypeError), match=f"^unroll: .*{words}"):
            run(cell, *args)


def test_a_cell_without_outputs() -> None:
    run = lambda xs: (roll := nn.unroll(lambda x, h: (None, x + h), xs, X)).outputs or roll.state  # noqa: E731
    check(run, draw(4, 3, 2))
