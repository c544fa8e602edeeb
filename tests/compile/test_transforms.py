"""The transforms within compiled functions: derivatives of every kind, and what marks or cuts the graph."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import tensorgrad as tg
from tensorgrad import nn
from tensorgrad.errors import DtypeError, GraphError, ShapeError, UserError

from .common import assert_same, check


def draw(*shape: int) -> np.ndarray:
    return np.asarray(np.random.default_rng(sum(shape)).standard_normal(shape))


def outputs(w: Any, xs: Any, mark: Callable[[Any], Any] = lambda h: h) -> Any:
    """A small recurrence, with something done to every state."""

    def cell(x: Any, h: Any) -> Any:
        h = mark(tg.tanh(x * w + h * 0.5))
        return h, h

    return nn.unroll(cell, xs, np.zeros(xs.shape[1:])).outputs


def energy(w: Any, xs: Any, mark: Callable[[Any], Any] = lambda h: h) -> Any:
    return (outputs(w, xs, mark) ** 2).sum()


DERIVATIVES: dict[str, Callable[..., Any]] = {
    "jvp": lambda w, xs, v: tg.jvp(lambda w: outputs(w, xs), [w], [v]),
    "vjp": lambda w, xs, v: tg.vjp(lambda w: outputs(w, xs), w)[1](np.ones(xs.shape)),
    "hvp": lambda w, xs, v: tg.hvp(lambda w: energy(w, xs), [w], [v]),
    "jacobian": lambda w, xs, v: tg.jacobian(lambda w: outputs(w, xs)[-1, 0], w),
    "hessian": lambda w, xs, v: tg.jacobian(lambda w: tg.value_and_grad(energy)(w, xs)[1], w),
    "slope of a slope": lambda w, xs, v: tg.value_and_grad(
        lambda w: (tg.value_and_grad(energy)(w, xs)[1] * v).sum()
    )(w),
    "grad of what is recorded": lambda w, xs, v: (lambda x: tg.grad((x * x * v).sum(), [x]))(
        tg.tensor(w, requires_grad=True) * 2
    ),
}


@pytest.mark.parametrize("name", DERIVATIVES)
def test_derivatives_through_time(name: str) -> None:
    """One program for all T and B."""
    fn = DERIVATIVES[name]
    step = tg.compile(fn)
    for T, B in ((5, 2), (9, 4), (6, 5)):
        args = draw(3), draw(T, B, 3), draw(3)
        assert_same(step(*args), fn(*args))
    assert step.cache_info().programs == 1


OF_INTEGERS: dict[str, Callable[..., Any]] = {
    "value_and_grad": tg.value_and_grad(lambda w: (w * 0.5).sum()),
    "in a dict": lambda w: tg.value_and_grad(lambda p: (p["w"] * p["v"]).sum())({"w": w, "v": np.ones(3)}),
    "grad": lambda w: (lambda x: tg.grad((x * 0.5).sum(), [x]))(tg.tensor(w, requires_grad=True)),
    "vjp": lambda w: tg.vjp(lambda w: w * 0.5, w)[1](np.ones(3)),
    "jvp": lambda w: tg.jvp(lambda w: w * 0.5, [w], [np.ones(3)]),
    "hvp": lambda w: tg.hvp(lambda w: (w * w * 0.5).sum(), [w], [np.ones(3)]),
    "jacobian": lambda w: tg.jacobian(lambda w: w * 0.5, w),
}


@pytest.mark.parametrize("name", OF_INTEGERS)
@pytest.mark.parametrize("dtype", [int, bool])
def test_integers_are_refused_as_in_eager_mode(name: str, dtype: type) -> None:
    for fn in (OF_INTEGERS[name], tg.compile(OF_INTEGERS[name])):
        for given in (np.ones(3, dtype), tg.tensor(np.ones(3, dtype))):
            with pytest.raises(
                DtypeError, match=f"only floats can require a gradient, not {np.dtype(dtype)}"
            ):
                fn(given)


INDEPENDENT: dict[str, Callable[..., Any]] = {
    "value_and_grad": lambda loss, w: tg.value_and_grad(loss)(w),
    "vjp": lambda loss, w: tg.vjp(loss, w)[1](1.0),
    "jvp": lambda loss, w: tg.jvp(loss, [w], [w])[1],
    "hvp": lambda loss, w: tg.hvp(loss, [w], [w]),
    "jacobian": lambda loss, w: tg.jacobian(loss, w),
}


@pytest.mark.parametrize("name", INDEPENDENT)
def test_losses_that_do_not_depend_on_the_parameters(name: str) -> None:
    """A Tensor has gradients of zero. An array may have come of the parameters by another way."""
    check(lambda w, x: INDEPENDENT[name](lambda w: tg.tensor(x.sum()), w), draw(3), draw(2))
    of_data = lambda w, x: INDEPENDENT[name](lambda w: x.sum(), w)  # noqa: E731
    for fn in (of_data, tg.compile(of_data)):
        with pytest.raises((ShapeError, GraphError), match="not a plain number or array: it depends on noth"):
            fn(draw(3), draw(2))


def test_numbers_of_python_that_are_parameters_are_floats() -> None:
    loss = lambda p, x: (p[0] * p[1] * x).sum()  # noqa: E731
    check(tg.value_and_grad(loss), [3, 0.5], draw(3))


def test_a_jacobian_with_as_many_walks_as_elements() -> None:
    check(lambda x: tg.jacobian(lambda x: tg.sin(x) * x.sum(), x), draw(4, 2))


def test_three_derivatives_deep() -> None:
    def slope(fn: Any) -> Any:
        return lambda x: (tg.value_and_grad(fn)(x)[1] ** 2).sum()

    check(tg.value_and_grad(slope(slope(lambda x: (tg.tanh(x) ** 3).sum()))), draw(3, 2))


gentle = tg.custom_vjp(lambda h: h * 2, lambda g, ans, h: (tg.clip(g, -0.1, 0.1),))
cube = tg.defop("cube", lambda h: h**3, lambda g, ans, h: g * 3 * h**2)


def cut(h: Any) -> Any:
    with tg.no_grad():
        scale = (h * h).mean()
    return h * scale + h.detach()


def marked(h: Any) -> Any:
    with tg.scope("inner"):
        out = tg.label(h * 2, "twice")
    out.retain_grad()
    return out


MARKS: dict[str, Callable[[Any], Any]] = {
    "no_grad and detach": cut,
    "scope, label and retain_grad": marked,
    "checkpoint": lambda h: tg.checkpoint(lambda h: tg.sin(h) * h, h),
    "custom_vjp": gentle,
    "defop": cube,
}


@pytest.mark.parametrize("name", MARKS)
def test_what_is_done_within_a_step(name: str) -> None:
    check(tg.value_and_grad(lambda w, xs: energy(w, xs, MARKS[name])), draw(3), draw(5, 2, 3))


@pytest.mark.parametrize("name", ["custom_vjp", "defop"])
def test_operations_of_users_are_called_and_cannot_be_saved(name: str) -> None:
    step = check(tg.value_and_grad(lambda w, xs: energy(w, xs, MARKS[name])), draw(3), draw(5, 2, 3))
    with pytest.raises(UserError, match=r"cannot stand alone: it uses .*which it does not define"):
        step.save("nowhere.py")


def test_an_operation_of_users_that_zeros_are_no_operand_for() -> None:
    """The stand-ins of a trace hold zeros; positive numbers are tried next."""

    def root(x: Any) -> Any:
        if (x <= 0).any():
            raise ValueError("needs positive numbers")
        return np.sqrt(x)

    op = tg.defop("root", root, lambda g, ans, x: g / (2 * ans))
    step = check(tg.value_and_grad(lambda x: op(x).sum()), np.abs(draw(3, 2)))
    with pytest.raises(ValueError, match="needs positive numbers"):
        step(-np.ones((3, 2)))


@pytest.mark.parametrize("order", [1, 2])
def test_writes_at_indices_that_are_arguments(order: int) -> None:
    """Where an index repeats, only the last value that is written has a gradient."""
    index = np.array([0, 2, 2, -1])

    def loss(given: Any, index: Any) -> Any:
        x, value = given
        out = tg.index_update(x, index, value * value) + tg.index_add(x, index, value)
        return (out * out * x).sum()

    fn = tg.value_and_grad(loss)
    if order == 2:
        fn = tg.value_and_grad(
            lambda given, index: sum((g * g).sum() for g in tg.value_and_grad(loss)(given, index)[1])
        )
    check(fn, (draw(5, 3), draw(4, 3)), index)


def test_a_compiled_function_within_others() -> None:
    inner = tg.compile(lambda x: tg.tanh(x) * 2)
    check(tg.value_and_grad(lambda x: inner(inner(x)).sum()), draw(3, 2))
    check(tg.compile(tg.value_and_grad(lambda x: inner(x).sum())), draw(3, 2))


def test_backward_belongs_outside() -> None:
    x = tg.tensor(draw(3), requires_grad=True)
    with pytest.raises(GraphError, match=r"test_transforms\.py:\d+"):
        tg.compile(lambda y: (y * y).sum().backward() or np.asarray(y))(x)
