"""The checker is itself checked: plant an error, see it caught."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import tensorgrad as tg
from tensorgrad.check.gradcheck import GradcheckRow, central_differences, gradcheck, norm_error
from tensorgrad.errors import DtypeError, GradientError

X = np.random.default_rng(0).standard_normal((3, 3))
Y = np.random.default_rng(1).standard_normal((3, 3))


def planted(
    backward: Callable[..., Any], forward: Callable[..., Any] = lambda x, y: x @ y * 1
) -> Callable[..., Any]:
    """A matrix product with a backward of the given kind."""
    return tg.custom_vjp(forward, backward)


def turned(x: Any) -> Any:
    return tg.swapaxes(x, -1, -2)


RIGHT = planted(lambda g, ans, x, y: (g @ turned(y), turned(x) @ g))
WRONG: dict[str, tuple[Callable[..., Any], str]] = {
    "twice too large": (lambda g, ans, x, y: (g @ turned(y) * 2, turned(x) @ g), "input 0"),
    "a per mille too large": (lambda g, ans, x, y: (g @ turned(y), turned(x) @ g * 1.001), "input 1"),
    "a hundred-thousandth too large": (
        lambda g, ans, x, y: (g @ turned(y), turned(x) @ g * 1.00001),
        "input 1",
    ),
    "wrong sign": (lambda g, ans, x, y: (-(g @ turned(y)), turned(x) @ g), "input 0"),
    "transposed": (lambda g, ans, x, y: (turned(g @ turned(y)), turned(x) @ g), "input 0"),
    "operand not transposed": (lambda g, ans, x, y: (g @ y, turned(x) @ g), "input 0"),
    "forgotten": (lambda g, ans, x, y: (g @ turned(y), None), "input 1"),
    "one element": (
        lambda g, ans, x, y: (tg.index_update(g @ turned(y), (0, 0), 0.0), turned(x) @ g),
        "input 0",
    ),
    "operands exchanged": (lambda g, ans, x, y: (turned(x) @ g, g @ turned(y)), "input 0"),
    "cotangent ignored": (
        lambda g, ans, x, y: (tg.broadcast_to(turned(y).sum(axis=0), (3, 3)), turned(x) @ g),
        "input 0",
    ),
    "not a number": (lambda g, ans, x, y: (g * np.nan, turned(x) @ g), "input 0"),
}


def test_the_right_gradient_passes() -> None:
    rows = gradcheck(RIGHT, [X, Y], order=2)
    assert [(row.name, row.order) for row in rows] == [(f"input {k}", n) for n in (1, 2) for k in (0, 1)]
    for row in rows:
        assert isinstance(row, GradcheckRow)
        assert row.error < 1e-8
        assert row.norm == pytest.approx(row.norm_numeric)
        assert row.norm > 0.1


@pytest.mark.parametrize("name", WRONG)
def test_planted_errors_are_caught(name: str) -> None:
    backward, culprit = WRONG[name]
    with pytest.raises(GradientError, match=f"{culprit}, order 1: norm .*, by differences .*, error"):
        gradcheck(planted(backward), [X, Y])


@pytest.mark.parametrize("name", sorted(WRONG.keys() - {"operands exchanged", "cotangent ignored"}))
def test_only_the_wrong_input_is_listed(name: str) -> None:
    backward, culprit = WRONG[name]
    other = {"input 0": "input 1", "input 1": "input 0"}[culprit]
    with pytest.raises(GradientError) as caught:
        gradcheck(planted(backward), [X, Y])
    assert culprit in str(caught.value)
    assert other not in str(caught.value)


@pytest.mark.parametrize("shape", [(1, 3), (3,), (3, 1), ()], ids=str)
def test_a_missing_sum_over_broadcast_axes_is_caught(shape: tuple[int, ...]) -> None:
    """The rule gives the mean where the sum belongs."""
    y = np.ones(shape)
    right = tg.defop(
        "times", lambda x, y: x * y, lambda g, ans, x, y: g * y, lambda g, ans, x, y: g * x, broadcasts=True
    )
    gradcheck(right, [X, y], order=2)

    def mean_instead(g: Any, ans: Any, x: Any, y: Any) -> Any:
        share = g * x
        axes = tuple(a for a in range(2) if a < 2 - len(shape) or shape[a - 2 + len(shape)] == 1)
        return tg.reshape(share.mean(axis=axes), shape)

    lossy = tg.defop("times", lambda x, y: x * y, lambda g, ans, x, y: g * y, mean_instead)
    with pytest.raises(GradientError, match="input 1, order 1"):
        gradcheck(lossy, [X, y])


SECOND: dict[str, Callable[..., Any]] = {
    "constant": lambda g, ans, x: g * 3 * np.asarray(x) ** 2,
    "wrong factor": lambda g, ans, x: (
        g * tg.custom_vjp(lambda x: 3 * x**2, lambda g, ans, x: (g * 3 * x,))(x)
    ),
    "cotangent detached": lambda g, ans, x: np.asarray(g) * 3 * x**2,
}


@pytest.mark.parametrize("name", SECOND)
def test_a_wrong_second_derivative_is_caught_at_order_2_only(name: str) -> None:
    cube = tg.defop("cube", lambda x: x**3, SECOND[name])
    gradcheck(cube, [X])
    with pytest.raises(GradientError, match="input 0, order 2"):
        gradcheck(cube, [X], order=2)


def test_names_come_from_the_tensors() -> None:
    rows = gradcheck(lambda x, y: x * y, [tg.tensor(X, name="W_hh"), Y])
    assert [row.name for row in rows] == ["W_hh", "input 1"]


def test_integers_and_booleans_are_passed_on() -> None:
    seen = []

    def fn(x: Any, ids: Any, mask: Any) -> Any:
        seen.append((ids.dtype.kind, mask.dtype.kind))
        return tg.where(mask, x[ids], 0.0)

    rows = gradcheck(fn, [X, np.array([0, 2, 0]), np.eye(3, dtype=bool)], order=2)
    assert {row.name for row in rows} == {"input 0"}
    assert set(seen) == {("i", "b")}


def test_nothing_to_check_is_an_error() -> None:
    with pytest.raises(DtypeError, match="no input is a float array"):
        gradcheck(lambda x: tg.tensor(x), [np.arange(3)])
    with pytest.raises(DtypeError, match="must return a Tensor, not ndarray"):
        gradcheck(lambda x: X, [X])


def test_inputs_are_left_as_they_were_and_single_precision_is_checked_in_double() -> None:
    x = X.astype(np.float32)
    kept, dtypes = x.copy(), set()

    def fn(a: Any) -> Any:
        dtypes.add(a.dtype)
        return tg.tanh(a)

    gradcheck(fn, [x], order=2)
    np.testing.assert_array_equal(x, kept)
    assert dtypes == {np.dtype(np.float64)}


LAYOUTS = {
    "transposed": X.T,
    "reversed": X[::-1],
    "strided": X[:, ::2],
    "Fortran": np.asfortranarray(X),
    "broadcast": np.broadcast_to(X[0], (2, 3)),
    "0-d": np.array(0.5),
    "empty": np.zeros((2, 0)),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_inputs_of_every_layout(layout: str) -> None:
    rows = gradcheck(tg.tanh, [LAYOUTS[layout]], order=2)
    assert all(row.error < 1e-7 for row in rows)


def test_constant_and_linear_functions_pass_though_their_derivatives_are_rounding() -> None:
    gradcheck(lambda x: tg.sin(x) ** 2 + tg.cos(x) ** 2, [X], order=2)
    gradcheck(lambda x: x * 3 + X @ x, [X], order=2)
    gradcheck(lambda x: tg.tensor(np.ones(2)), [X], order=2)
    gradcheck(lambda x: tg.sign(x) + x * 0, [X], order=2)


def test_rounding_is_no_excuse_for_small_gradients() -> None:
    """The allowance is in proportion to the values: a function that is tiny is checked as strictly."""
    tiny = tg.defop("tiny", lambda x: 1e-12 * x, lambda g, ans, x: g * 1.001e-12)
    with pytest.raises(GradientError, match="order 1"):
        gradcheck(tiny, [X])
    gradcheck(tg.defop("tiny", lambda x: 1e-12 * x, lambda g, ans, x: g * 1e-12), [X], order=2)


def test_a_function_that_is_not_finite_does_not_pass() -> None:
    infinite = tg.defop("infinite", lambda x: x + np.inf, lambda g, ans, x: g)
    with np.errstate(all="ignore"), pytest.raises(GradientError):
        gradcheck(infinite, [X])


def test_tolerance_and_step_are_used() -> None:
    with pytest.raises(GradientError, match="more than 1e-13"):
        gradcheck(lambda x: tg.exp(x * 3), [X], tolerance=1e-13, step=1e-3)
    rough = planted(lambda g, ans, x, y: (g @ turned(y) * 1.0001, turned(x) @ g))
    gradcheck(rough, [X, Y], tolerance=1e-3)


def test_the_seed_decides_the_weights() -> None:
    rows = [gradcheck(tg.tanh, [X], seed=seed)[0].norm for seed in (0, 0, 1)]
    assert rows[0] == rows[1] != rows[2]


# --- the parts -------------------------------------------------------------------------------------------
def test_central_differences_put_every_element_back() -> None:
    x = X.copy()
    slopes = central_differences(lambda: float((x**3).sum()), x)
    np.testing.assert_array_equal(x, X)
    np.testing.assert_allclose(slopes, 3 * X**2, rtol=1e-7, atol=1e-8)
    big = np.array([1e6])
    np.testing.assert_allclose(central_differences(lambda: float(big[0] ** 2), big), [2e6], rtol=1e-6)


def test_central_differences_refuse_what_cannot_be_changed_in_place() -> None:
    with pytest.raises(DtypeError, match="must be contiguous"):
        central_differences(lambda: 0.0, X.copy().T[:, ::2])


@pytest.mark.parametrize(
    ("a", "b", "error"),
    [
        ([3.0, 4.0], [3.0, 4.0], 0.0),
        ([0.0], [0.0], 0.0),
        ([], [], 0.0),
        ([0.0, 0.0], [3.0, 4.0], 1.0),
        ([3.0, 4.0], [-3.0, -4.0], 2.0),
        ([10.0], [11.0], 1 / 11),
        ([1.0, 1e-9], [1.0, -1e-9], 2e-9),
        ([1.0], [1.0, 1.0], np.inf),
        ([np.nan], [np.nan], np.inf),
        ([np.inf], [np.inf], np.inf),
    ],
)
def test_norm_error(a: list[float], b: list[float], error: float) -> None:
    assert norm_error(a, b) == pytest.approx(error)
    assert norm_error(b, a) == pytest.approx(error)


def test_orders_other_than_one_and_two_are_refused() -> None:
    with pytest.raises(ValueError, match="order is 1 or 2"):
        tg.gradcheck(tg.tanh, [np.ones(2)], order=0)


def test_a_function_that_draws_anew_each_time_is_named() -> None:
    with pytest.raises(tg.GradientError, match=r"two different results.*dropout"):
        tg.gradcheck(lambda x: tg.dropout(x, 0.5), [np.ones(20)])
