"""What Python code sees outside of a compiled function, and what it reads of loops: changes are noticed."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import pytest

import tensorgrad as tg
from tensorgrad import nn
from tensorgrad.errors import GraphError

from .common import assert_same

X = np.arange(12.0).reshape(2, 2, 3)
SCALE = 1.0


class Settings:
    scale = 1.0

    def __init__(self) -> None:
        self.factor = 1.0
        self.inner: Any = None
        self.factors = [1.0]

    @property
    def doubled(self) -> float:
        return 2 * self.factor

    def apply(self, x: Any) -> Any:
        return x * self.factor

    def __add__(self, x: Any) -> Any:
        return x + self.factor


@dataclasses.dataclass(slots=True)
class Slots:
    factor: float = 1.0


class Scaled(nn.Module):
    def __init__(self) -> None:
        self.settings = Settings()
        self.mean = np.zeros(3)

    def forward(self, x: Any) -> Any:
        return (x - self.mean) * SCALE * self.settings.factor


def in_list() -> Iterator[Any]:
    held = [1.0, {"b": (1, [2.0])}]
    yield lambda x: x * held[0] + held[1]["b"][1][0]  # type: ignore[index]
    held[0] = 2.0
    yield
    held[1]["b"][1][0] = 3.0  # type: ignore[index]
    yield


def in_dict_of_functions() -> Iterator[Any]:
    held: dict[str, Any] = {"act": tg.tanh, "name": "act"}
    yield lambda x: held[held["name"]](tg.tensor(x))
    held["act"] = tg.exp
    yield
    held["other"] = tg.sigmoid
    held["name"] = "other"
    yield


def in_set() -> Iterator[Any]:
    held = {1, 2}
    yield lambda x: x * len(held)
    held.add(7)
    yield


def in_attributes() -> Iterator[Any]:
    settings, settings.inner = (s := Settings()), Settings()
    yield lambda x: x * s.factor * s.inner.factor * s.factors[0]
    settings.factor = 2.0
    yield
    settings.inner.factor = 3.0
    yield
    settings.factors[0] = 4.0
    yield


def in_what_methods_see() -> Iterator[Any]:
    settings = Settings()
    yield lambda x: settings.apply(x) * settings.doubled + (settings + x)
    settings.factor = 3.0
    yield


def in_slots() -> Iterator[Any]:
    slots = Slots()
    yield lambda x: x * slots.factor
    slots.factor = 2.0
    yield


class Anything:
    """Has every attribute, as settings read from a file may."""

    def __init__(self) -> None:
        self.factor = 1.0

    def __getattr__(self, name: str) -> Any:
        return None


def in_an_object_with_every_attribute() -> Iterator[Any]:
    anything, system = Anything(), random.SystemRandom()
    yield lambda x: x * anything.factor if system else x
    anything.factor = 2.0
    yield


def in_a_class() -> Iterator[Any]:
    settings = Settings()
    yield lambda x: x * settings.scale
    Settings.scale = 2.0
    yield
    Settings.scale = 1.0
    yield


def in_a_method_that_is_replaced() -> Iterator[Any]:
    settings, before = Settings(), Settings.apply
    yield lambda x: settings.apply(x)
    Settings.apply = lambda self, x: x - self.factor  # type: ignore[method-assign]
    yield
    Settings.apply = before  # type: ignore[method-assign]
    yield


def in_defaults() -> Iterator[Any]:
    def fn(x: Any, factors: Any = [1.0], *, more: Any = [1.0]) -> Any:  # noqa: B006 - on purpose
        return x * factors[0] * more[0]

    yield fn
    fn.__defaults__[0][0] = 2.0  # type: ignore[index]
    yield
    fn.__kwdefaults__["more"][0] = 3.0
    yield
    fn.__defaults__ = ([5.0],)
    yield


def in_attributes_of_functions() -> Iterator[Any]:
    def fn(x: Any) -> Any:
        return x * fn.factor  # type: ignore[attr-defined]

    fn.factor = 1.0  # type: ignore[attr-defined]
    yield fn
    fn.factor = 2.0  # type: ignore[attr-defined]
    yield


def in_an_attribute_that_hides_the_class_s() -> Iterator[Any]:
    settings = Settings()
    yield lambda x: x * settings.scale
    settings.scale = 2.0
    yield


def in_partial() -> Iterator[Any]:
    settings = Settings()
    yield partial(lambda s, x: x * s.factor, settings)
    settings.factor = 2.0
    yield


def in_globals_of_modules() -> Iterator[Any]:
    global SCALE
    module = Scaled()
    yield lambda x: module(x)
    SCALE = 2.0
    yield
    SCALE = 1.0
    module.settings.factor = 3.0
    yield


def in_the_module_itself() -> Iterator[Any]:
    module = Scaled()
    yield module
    for mean in range(4):
        # Old arrays must live on, or a new one may have their place in memory.
        module.mean = np.full(3, float(mean))
        yield


def in_a_mode() -> Iterator[Any]:
    dropout = nn.Dropout(0.5, seed=0)
    yield dropout
    dropout.eval()
    yield


def in_the_sign_of_zero() -> Iterator[Any]:
    zero = 0.0
    yield lambda x: np.where(x > 1, np.copysign(1.0, zero), x)
    zero = -0.0
    yield


def in_true_and_one() -> Iterator[Any]:
    settings = Settings()
    settings.inner = 1
    yield lambda x: x + (2 if settings.inner is True else 1)
    settings.inner = True
    yield


CHANGES: list[Callable[[], Iterator[Any]]] = [
    in_list,
    in_dict_of_functions,
    in_set,
    in_attributes,
    in_what_methods_see,
    in_slots,
    in_an_object_with_every_attribute,
    in_a_class,
    in_a_method_that_is_replaced,
    in_defaults,
    in_attributes_of_functions,
    in_an_attribute_that_hides_the_class_s,
    in_partial,
    in_globals_of_modules,
    in_the_module_itself,
    in_a_mode,
    in_the_sign_of_zero,
    in_true_and_one,
]


@pytest.mark.parametrize("changes", CHANGES, ids=lambda c: c.__name__)
def test_changes_outside_are_noticed(changes: Any) -> None:
    steps = changes()
    fn = next(steps)
    compiled = tg.compile(fn)
    programs = 0
    for _ in [0, *steps]:
        state = getattr(getattr(fn, "rng", None), "bit_generator", None)
        before = state and state.state
        eager = fn(X)
        if state:
            state.state = before
        # Twice: the second call is not looked at as closely.
        assert_same(compiled(X), eager)
        if state is None:
            assert_same(compiled(X), eager)
        programs += 1
    assert compiled.cache_info().programs <= programs


@pytest.mark.parametrize("kind", ["object", "function", "module"])
def test_what_arguments_see_is_noticed(kind: str) -> None:
    settings, module = Settings(), Scaled()
    argument: Any = {"object": settings, "function": lambda x: x * settings.factor, "module": module}[kind]

    def fn(x: Any, given: Any) -> Any:
        return x * given.factor if given is settings else given(x)

    compiled = tg.compile(fn)
    for factor in (1.0, 2.0, 1.0):
        settings.factor = module.settings.factor = factor
        assert_same(compiled(X, argument), fn(X, argument))
    assert compiled.cache_info().programs == 2


def test_what_is_not_looked_at_compiles_nothing_again() -> None:
    settings = Settings()
    compiled = tg.compile(lambda x: x * settings.factor)
    for k in range(3):
        settings.inner = [k]
        settings.factors.append(k)
        compiled(X)
    assert compiled.cache_info().programs == 1


def test_hooks_that_come_and_go() -> None:
    w = tg.tensor(np.ones(3), requires_grad=True)
    factor = 2.0

    def fn(x: Any) -> Any:
        w.grad = None
        (w * x).sum().backward()
        return w.grad, tg.grad((w * x).sum(), [w])

    compiled = tg.compile(fn)
    assert_same(compiled(X), fn(X))
    remove = w.register_hook(lambda g: g * factor)
    assert_same(compiled(X), fn(X))
    factor = 5.0
    assert_same(compiled(X), fn(X))
    remove()
    assert_same(compiled(X), fn(X))


def test_hooks_of_arguments() -> None:
    compiled = tg.compile(lambda x: tg.grad((x**2).sum(), [x]))
    x = tg.tensor(X, requires_grad=True)
    assert_same(compiled(x), [2 * X])
    remove = x.register_hook(lambda g: g * 3.0)
    assert_same(compiled(x), [6 * X])
    assert_same(compiled(x), [6 * X])
    remove()
    assert_same(compiled(x), [2 * X])


# --- within nn.unroll --------------------------------------------------------------------------------------
@pytest.mark.parametrize("reverse", [False, True])
def test_states_of_every_step(reverse: bool) -> None:
    cell = nn.LSTMCell(3, 4, seed=0)

    def fn(model: Any, xs: Any) -> Any:
        roll = nn.unroll(model, xs, model.initial_state(xs[0]), reverse=reverse)
        states = roll.states
        total = (
            (states[2][0] ** 2).sum() + (states[-2][1] * states[-1][0]).sum() + (states[-3][1] ** 2).mean()
        )
        return total, (list(states), states[1:3], len(states))

    step = tg.value_and_grad(fn, has_aux=True)
    compiled = tg.compile(step)
    for T in (4, 5, 3):
        xs = np.random.default_rng(T).normal(size=(T, 2, 3))
        assert_same(compiled(cell, xs), step(cell, xs))


def test_a_first_state_that_the_cell_makes() -> None:
    cell = nn.RNNCell(3, 4, seed=0)

    def fn(xs: Any) -> Any:
        return list(nn.unroll(cell, xs).states)

    assert_same(tg.compile(fn)(X), fn(X))


@pytest.mark.parametrize("ask", [len, lambda roll: len(roll.steps), lambda roll: len(roll.states)])
def test_decisions_by_the_length_of_a_run(ask: Any) -> None:
    cell = nn.RNNCell(3, 4, seed=0)

    def fn(xs: Any) -> Any:
        roll = nn.unroll(cell, xs)
        return roll.outputs * (1 if ask(roll) > 5 else 2)

    compiled = tg.compile(fn)
    for T in (2, 4, 9):
        xs = np.ones((T, 2, 3))
        assert_same(compiled(xs), fn(xs))


LOOKUPS: dict[str, Callable[..., Any]] = {
    "dict": lambda x: x * {2: 1.0, 3: 2.0}.get(x.shape[0], 0.0),
    "set": lambda x: x * (x.shape[0] in {2, 5}),
    "sum": lambda x: x * {4: 1.0}.get(x.shape[0] + 1, 0.0),
    "text": lambda x: x * (2 if str(x.shape[0]) == "3" else 1),
    "format": lambda x: x * (2 if f"{x.shape[0]}" == "3" else 1),
}


@pytest.mark.parametrize("name", LOOKUPS)
def test_lengths_that_are_looked_up(name: str) -> None:
    compiled = tg.compile(LOOKUPS[name])
    for T in (2, 3, 7, 11):
        xs = np.ones((T, 2, 3))
        assert_same(compiled(xs), LOOKUPS[name](xs))


def run(xs: Any) -> Any:
    return nn.unroll(nn.RNNCell(3, 4, seed=0), xs)


def gradient_of_the_last_state(xs: Any) -> Any:
    roll = run(xs)
    return tg.grad((roll.state**2).sum(), [roll.state])


def gradient_of_outputs_alone(xs: Any) -> Any:
    """Not of the same values where they are read by timestep, or as the state."""
    roll = run(xs)
    loss = (roll.outputs**2).sum() + roll.steps[1]["h"].sum() + roll.state.sum()
    return tg.grad(loss, [roll.outputs])


def gradient_of_a_step_alone(xs: Any) -> Any:
    h = run(xs).steps[1]["h"]
    return tg.grad((h**2).sum(), [h])


@pytest.mark.parametrize(
    "fn", [gradient_of_the_last_state, gradient_of_outputs_alone, gradient_of_a_step_alone]
)
def test_gradients_of_what_is_read_from_a_loop(fn: Any) -> None:
    assert_same(tg.compile(fn)(X), fn(X))


PARTIAL: dict[str, Callable[[Any], Any]] = {
    "step": lambda r: tg.grad((r.outputs**2).sum(), [r.steps[1]["h"]]),
    "state": lambda r: tg.grad((r.outputs**2).sum() + r.state.sum(), [r.state]),
    "states": lambda r: tg.grad((r.outputs**2).sum(), [r.states[1]]),
    "retained": lambda r: r.steps[1]["h"].retain_grad(),
    "hook": lambda r: r.state.register_hook(lambda g: None),
    "grad": lambda r: r.steps[0]["h"].grad,
}


@pytest.mark.parametrize("name", PARTIAL)
def test_gradients_that_a_loop_does_not_tell_are_refused(name: str) -> None:
    """Eager mode's loop goes on from that very value, so its gradient has all that comes after."""
    with pytest.raises(GraphError, match=r"wanted at one timestep of a compiled loop.*roll\.outputs"):
        tg.compile(lambda xs: PARTIAL[name](run(xs)))(X)
