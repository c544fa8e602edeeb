"""What a compiled function changes outside of itself, but for parameters and such: refused, and undone."""

from __future__ import annotations

import collections
import random
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import tensorgrad as tg
from tensorgrad import nn
from tensorgrad.compile import untouched as untouched_module
from tensorgrad.errors import GraphError
from tensorgrad.random import as_generator

X = np.arange(12.0).reshape(2, 2, 3)
HERE = Path(__file__).name
LINE = rf"\S*{HERE}:\d+"


class Thing:
    """An object with an attribute that only its class has, and one that it has to be given."""

    n = 0
    h: Any


class Slotted:
    __slots__ = ("h",)
    h: Any


class Layer(nn.Module):
    def __init__(self) -> None:
        self.mean = np.zeros(3)
        self.seen: list[Any] = []

    def forward(self, x: Any) -> Any:
        return x * 2


def seen_of(thing: Any) -> Any:
    """What an object or container holds, to be compared."""
    if isinstance(thing, Slotted):
        return hasattr(thing, "h")
    held = vars(thing) if hasattr(thing, "__dict__") else thing
    return {k: repr(v) for k, v in held.items()} if isinstance(held, dict) else repr(held)


thing, slotted, layer, function = Thing(), Slotted(), Layer(), lambda: None
NESTED = {"layers": [SimpleNamespace(inner=Thing())]}
LIST: list[Any] = []
DICT: dict[str, Any] = {"n": 0}
QUEUE: Any = collections.deque([1])
ARRAY = np.array([np.nan, 1.0, -0.0])
MATRIX = np.arange(12.0).reshape(3, 4)
COLUMN = MATRIX[:, 1]
NEW_GLOBAL: Any


def sets_a_new_global(x: Any) -> Any:
    global NEW_GLOBAL
    NEW_GLOBAL = x
    return x


def counts_by_the_class(x: Any) -> Any:
    thing.n += 1
    return x * thing.n


def sets_a_new_attribute(x: Any) -> Any:
    thing.h = x * 2
    return x


def sets_an_attribute_within(x: Any) -> Any:
    NESTED["layers"][0].inner.h = x
    return x


def sets_a_slot(x: Any) -> Any:
    slotted.h = x
    return x


def sets_an_attribute_of_a_class(x: Any) -> Any:
    Thing.h = x
    return x


def sets_an_attribute_of_a_function(x: Any) -> Any:
    function.h = x  # type: ignore[attr-defined]
    return x


def sets_an_attribute_of_a_module(x: Any) -> Any:
    layer.h = x
    return layer(x)


def appends_to_a_list_of_a_module(x: Any) -> Any:
    layer.seen.append(x)
    return x


def writes_into_an_array_of_a_module(x: Any) -> Any:
    layer.mean[0] += 1
    return x - layer.mean


def appends(x: Any) -> Any:
    LIST.append(x.shape)
    return x


def fills_a_dict(x: Any) -> Any:
    DICT["n"] += 1
    return x * DICT["n"]


def turns_a_queue(x: Any) -> Any:
    QUEUE.append(x)
    return x


def counts_in_an_array(x: Any) -> Any:
    ARRAY[1] += 1
    return x * ARRAY[1]


def changes_a_sign(x: Any) -> Any:
    ARRAY[2] = 0.0
    return x * np.copysign(1.0, ARRAY)


def writes_all_of_a_column(x: Any) -> Any:
    COLUMN[:] = COLUMN - 0.1
    return x * COLUMN


CHANGES: dict[Callable[..., Any], tuple[str, Any]] = {
    sets_a_new_global: ("NEW_GLOBAL", SimpleNamespace()),
    counts_by_the_class: (r"thing\.n", thing),
    sets_a_new_attribute: (r"thing\.h", thing),
    sets_an_attribute_within: (r"NESTED\.inner\.h", NESTED["layers"][0].inner),
    sets_a_slot: (r"slotted\.h", slotted),
    sets_an_attribute_of_a_class: (r"Thing\.h", Thing),
    sets_an_attribute_of_a_function: (r"<lambda>\.h", function),
    sets_an_attribute_of_a_module: (r"layer\.h", layer),
    appends_to_a_list_of_a_module: ("a list of layer", layer.seen),
    writes_into_an_array_of_a_module: (r"layer\.mean", layer),
    appends: ("LIST", LIST),
    fills_a_dict: ("DICT", DICT),
    turns_a_queue: ("QUEUE", QUEUE),
    counts_in_an_array: ("ARRAY", ARRAY),
    changes_a_sign: ("ARRAY", ARRAY),
    writes_all_of_a_column: ("COLUMN", MATRIX),
}


@pytest.mark.parametrize("fn", CHANGES, ids=lambda fn: fn.__name__)
def test_changes_are_refused_by_name_and_undone(fn: Any) -> None:
    name, changed = CHANGES[fn]
    before = seen_of(changed)
    line = rf"\S*{HERE}:{fn.__code__.co_firstlineno}"
    with pytest.raises(GraphError, match=f"the function at {line} gives {name} a new value outside"):
        tg.compile(fn)(X)
    assert seen_of(changed) == before
    assert "NEW_GLOBAL" not in globals()


@pytest.mark.parametrize("fn", CHANGES, ids=lambda fn: fn.__name__)
def test_the_same_within_a_loop(fn: Any) -> None:
    name, changed = CHANGES[fn]
    before = seen_of(changed)

    def cell(x: Any, h: Any) -> Any:
        fn(x)
        return h, h + x

    line = rf"\S*{HERE}:{cell.__code__.co_firstlineno}"
    with pytest.raises(GraphError, match=f"the cell at {line} gives {name} a new value.*every timestep"):
        tg.compile(lambda xs: nn.unroll(cell, xs, np.zeros((2, 3))).outputs)(X)
    assert seen_of(changed) == before


def test_a_variable_that_has_no_value_yet() -> None:
    kept: Any

    def fn(x: Any) -> Any:
        nonlocal kept
        kept = x
        return x * 2

    with pytest.raises(GraphError, match="gives kept a new value"):
        tg.compile(fn)(X)
    with pytest.raises(NameError):
        print(kept)


class Point(SimpleNamespace):
    pass


ARGUMENTS: dict[str, tuple[Callable[..., Any], Any]] = {
    "p": (lambda x, p: p.update(n=x * 2) or x, {"m": 1.0}),
    "p, within": (lambda x, p: p["inner"].append(1.0) or x, {"inner": [1.0]}),
    "p, a list": (lambda x, p: p.append(1.0) or x, [1.0]),
    "a set among the arguments": (lambda x, p: p.add(3) or x, {1}),
    "held": (lambda x, p: p.held.append(3) or x, Point(held=[1])),
    "a list of p": (lambda x, p: p.seen.append(3) or x, Layer()),
}


@pytest.mark.parametrize("name", ARGUMENTS)
@pytest.mark.parametrize("by_name", [False, True])
def test_arguments_that_are_changed(name: str, by_name: bool) -> None:
    fn, argument = ARGUMENTS[name]
    before = repr(argument)
    what = name.split(",")[0]
    with pytest.raises(GraphError, match=f"gives {what} a new value outside"):
        tg.compile(fn)(X, **{"p": argument}) if by_name else tg.compile(fn)(X, argument)
    assert repr(argument) == before


def test_what_wraps_a_function_is_seen_through() -> None:
    line = rf"\S*{HERE}:{appends.__code__.co_firstlineno}"
    loss = tg.compile(tg.value_and_grad(lambda x: appends(x).sum()))
    with pytest.raises(GraphError, match=rf"function at {LINE} gives LIST"):
        loss(X)
    with pytest.raises(GraphError, match=rf"function at {line} gives LIST"):
        tg.compile(tg.compile(appends))(X)


def test_arrays_that_only_serve_are_left_alone(monkeypatch: Any) -> None:
    fixed, words, many = np.ones(3), np.array(["a", None], dtype=object), np.zeros(100)
    fixed.flags.writeable = False
    monkeypatch.setattr(untouched_module, "_MANY", 100)

    def fn(x: Any) -> Any:
        words[0], many[0] = "b", 1.0
        return x * fixed * many[0]

    np.testing.assert_array_equal(tg.compile(fn)(X), X)
    assert (words[0], many[0]) == ("b", 1.0)


def test_what_the_function_makes_itself_may_change() -> None:
    def fn(x: Any) -> Any:
        mine, buffer = Thing(), np.zeros(3)
        mine.h = [x]
        mine.n += 1
        mine.h.append(x * mine.n)
        buffer[1] += 2
        return mine.h[1] * buffer

    np.testing.assert_array_equal(tg.compile(fn)(X), fn(X))


# --- random numbers ----------------------------------------------------------------------------------------
GENERATOR = np.random.default_rng(0)
LEGACY = np.random.RandomState(0)
PYTHONS = random.Random(0)
DRAWS: dict[str, Callable[..., Any]] = {
    "Generator": lambda x: x + GENERATOR.normal(size=3),
    "RandomState": lambda x: x + LEGACY.normal(size=3),
    "NumPy's own": lambda x: x + np.random.random(3),
    "Python's": lambda x: x * PYTHONS.random(),
    "Python's own": lambda x: x * random.random(),
    "the package's own": lambda x: nn.Linear(3, 2)(x),
    "several": lambda x: x * PYTHONS.random() + GENERATOR.normal(size=3),
}


def all_states() -> Any:
    states = [g.bit_generator.state for g in (GENERATOR, as_generator(None))]
    legacy = [repr(LEGACY.get_state()), repr(np.random.get_state())]
    return [*states, *legacy, PYTHONS.getstate(), random.getstate()]


@pytest.mark.parametrize("name", DRAWS)
def test_draws_that_would_be_constants_are_refused(name: str) -> None:
    np.random.seed(0)
    random.seed(0)
    before = all_states()
    with pytest.raises(GraphError, match=rf"the function at {LINE} draws random numbers.*tg\.random\.draw"):
        tg.compile(DRAWS[name])(X)
    assert all_states() == before


# --- within nn.unroll --------------------------------------------------------------------------------------
def cell_with_a_counter() -> Any:
    t = 0

    def cell(x: Any, h: Any) -> Any:
        nonlocal t
        t += 1
        return h, h * 0.5 + x * t

    return cell


def cell_with_a_list() -> Any:
    past: list[Any] = []

    def cell(x: Any, h: Any) -> Any:
        past.append(h)
        return h, tg.tanh(sum(past, x) / len(past))

    return cell


class CountingCell(nn.Module):
    def __init__(self) -> None:
        self.t = 0

    def forward(self, x: Any, h: Any) -> Any:
        self.t += 1
        return h, h + x * self.t


@pytest.mark.parametrize("make", [cell_with_a_counter, cell_with_a_list, CountingCell])
def test_timesteps_that_python_tells_apart_are_refused(make: Any) -> None:
    """The body of a loop is traced once, whatever T is."""

    def fn(xs: Any) -> Any:
        return nn.unroll(make(), xs, np.zeros((2, 3))).outputs

    with pytest.raises(
        GraphError, match=rf"the cell at {LINE} gives .*every timestep of a compiled loop is the same"
    ):
        tg.compile(fn)(X)
