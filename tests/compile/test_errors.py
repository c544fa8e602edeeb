"""Odd input: what cannot be compiled says so and names the line; what can gives what eager mode gives."""

from __future__ import annotations

import threading
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tensorgrad as tg
from tensorgrad import functional as F
from tensorgrad import nn
from tensorgrad.errors import GraphError, ShapeError, UserError

from .common import assert_same, check


def draw(*shape: int, seed: int = 0) -> np.ndarray:
    return np.asarray(np.random.default_rng(seed).standard_normal(shape))


HERE = Path(__file__).name
X = draw(3, 2)


# --- what needs values -------------------------------------------------------------------------------------
def written_over(x: Any) -> Any:
    y = x * 1
    y += 1
    return y


def assigned(x: Any) -> Any:
    x[0] = 1.0
    return x


VALUES: dict[str, tuple[Callable[..., Any], str]] = {
    "while": (lambda x: [x for _ in iter(lambda: x.sum() > 1, False)], "a decision"),
    "and": (lambda x: x.sum() > 0 and x, "a decision"),
    "any": (lambda x: (x > 1).any(), "any"),
    "argmax": (lambda x: x.argmax(), "argmax"),
    "range": (lambda x: list(range(x.sum())), "range"),
    "float": (lambda x: float(x.sum()), r"float\(\)"),
    "int": (lambda x: int(x.sum()), r"int\(\)"),
    "text": (lambda x: f"{x}", "text"),
    "str": (lambda x: str(x), "text"),
    "asarray": (lambda x: np.asarray(x), "an array"),
    "item": (lambda x: tg.tanh(x).sum().item(), "item"),
    "sort": (lambda x: np.sort(x), r"np\.sort"),
    "out": (lambda x: np.add(x, 1, out=np.zeros(x.shape)), r"np\.add"),
    "mask": (lambda x: x[x > 0], "index of booleans"),
    "in place": (written_over, r"\+="),
}


@pytest.mark.parametrize("name", VALUES)
def test_what_needs_values_names_the_line(name: str) -> None:
    fn, what = VALUES[name]
    first = fn.__code__.co_firstlineno
    lines = "|".join(str(first + k) for k in range(4))
    with pytest.raises(GraphError, match=rf"{what}.*{HERE}:({lines})\b"):
        tg.compile(fn)(X)


def test_assignment_says_what_to_write_instead() -> None:
    with pytest.raises(GraphError, match=r"tg\.index_update"):
        tg.compile(assigned)(X)


@pytest.mark.parametrize(
    "fn",
    [
        lambda x: (v for v in x),
        lambda x: {1, 2},
        lambda x: (x, lambda: x),
        lambda x: nn.unroll(lambda x, h: (x, x), x, x[0]),
    ],
)
def test_results_that_would_be_made_only_once_are_refused(fn: Any) -> None:
    with pytest.raises(UserError, match="Return Tensors, arrays and numbers"):
        tg.compile(fn)(X)


def test_values_of_a_timestep_belong_to_the_loop() -> None:
    """A list that a cell appends to holds one value, not T."""

    def fn(xs: Any) -> Any:
        states: list[Any] = []

        def cell(x: Any, h: Any) -> Any:
            states.append(tg.tanh(x + h))
            return states[-1], states[-1]

        nn.unroll(cell, xs, np.zeros(2))
        return states[0].sum()

    with pytest.raises(GraphError, match=r"gives states a new value.*roll\.steps"):
        tg.compile(fn)(X)


def test_values_of_a_timestep_do_not_leave_by_other_ways() -> None:
    class Keeper:
        pass

    def fn(xs: Any) -> Any:
        seen = Keeper()

        def cell(x: Any, h: Any) -> Any:
            vars(seen)["gate"] = tg.tanh(x + h)
            return vars(seen)["gate"], vars(seen)["gate"]

        nn.unroll(cell, xs, np.zeros(2))
        return vars(seen)["gate"].sum()

    with pytest.raises(GraphError, match=r"belongs to a timestep.*roll\.steps"):
        tg.compile(fn)(X)


def test_values_do_not_leave_the_trace() -> None:
    kept: list[Any] = []
    refused = tg.compile(lambda x: kept.append(x) or x * 2)
    with pytest.raises(GraphError, match="gives kept a new value"):
        refused(X)
    assert not kept

    def hide(x: Any) -> Any:
        vars(hide)["kept"] = x
        return x * 2

    tg.compile(hide)(X)
    kept = [vars(hide)["kept"]]
    with pytest.raises(GraphError, match="was kept from when that was traced"):
        kept[0] + 1
    with pytest.raises(GraphError, match="text needs the values"):
        str(kept[0])
    with pytest.raises(GraphError, match="another call"):
        tg.compile(lambda x: x.sum() + kept[0].sum())(X)


def test_an_exception_while_tracing_leaves_all_as_it_was() -> None:
    calls = count(1)

    def fails_at_first(x: Any) -> Any:
        if next(calls) == 1:
            raise RuntimeError("no")
        return x * 2

    step = tg.compile(fails_at_first)
    with pytest.raises(RuntimeError, match="no"):
        step(X)
    assert type(tg.tensor(X) * 2) is tg.Tensor
    assert_same(step(X), X * 2)


def test_a_refusal_that_the_function_catches() -> None:
    def fn(x: Any) -> Any:
        try:
            return x * 2 if float(x.sum()) > 0 else x
        except Exception:
            return x * 3

    with pytest.raises(GraphError, match=r"float\(\) needs the values|item\(\) needs the values"):
        tg.compile(fn)(tg.tensor(X))


def test_a_decision_by_a_length_within_a_try() -> None:
    def fn(x: Any) -> Any:
        try:
            return x * 2 if x.shape[0] > 3 else x
        except Exception:
            return x * 3

    for T in (2, 5):
        check(fn, np.ones((T, 2, 3)))


@pytest.mark.usefixtures("numpy_pages")
def test_long_names_are_cut_but_lines_are_not() -> None:
    def fn(x: Any) -> Any:
        y = [tg.label(tg.tanh(x + k), f"{'n' * 150}{k}") for k in range(20)]
        return [*y, *(v * 2 for v in y)]

    step = check(fn, X)
    assert max(map(len, step.source.splitlines())) <= 120


# --- decisions by lengths ----------------------------------------------------------------------------------
DECISIONS: dict[str, Callable[..., Any]] = {
    "equal": lambda x: x.sum() if x.shape[0] == 20 else x.mean(),
    "not equal": lambda x: x.sum() if x.shape != (20, 2, 3) else x.mean(),
    "odd": lambda x: x.sum() if x.shape[0] % 2 else x.mean(),
    "one more": lambda x: x.sum() if x.shape[0] + 1 > 13 else x.mean(),
    "half": lambda x: x.sum() if x.shape[0] / 2 > 7 else x.mean(),
    "a sixth": lambda x: x[: x.shape[0] // 6].sum(),
    "a tenth": lambda x: x[: int(x.shape[0] * 0.1)].sum(),
    "what is left": lambda x: x.sum() if x[1:].shape[0] > 12 else x.mean(),
    "rows": lambda x: x.sum() if x.reshape(-1, 3).shape[0] == 40 else x.mean(),
    "size": lambda x: x.sum() if x.size > 60 else x.mean(),
    "np.shape": lambda x: x.sum() if np.shape(x)[0] > 15 else x.mean(),
    "in": lambda x: x.sum() if x.shape[0] in (20, 30) else x.mean(),
    "min": lambda x: x[: min(x.shape[0], 9)].sum(),
    "the first four": lambda x: tg.tanh(x[:4]).sum(0),
    "all but three": lambda x: tg.tanh(x[:-3]).sum(0),
    "after three": lambda x: tg.tanh(x[3:]).sum(0),
    "the first four of the rest": lambda x: tg.tanh(x[1:][:4]).sum(0),
    "a length": lambda x: (x.sum(), x.shape[0]),
    "a shape": lambda x: (x.sum(), x[1:].shape, f"{x.shape}"),
    "zeros": lambda x: (x.sum(), np.zeros(x.shape), np.ones(x.shape[0])),
    "a list": lambda x: [v.sum() for v in x] + [1] * x.shape[0],
    "a diagonal": lambda x: tg.trace(x[:, 0]) + tg.trace(x[:, 0].T, 1),
    "std": lambda x: tg.std(x, 0, ddof=1).sum() + tg.var(x, ddof=1) + tg.std(x),
}


@pytest.mark.parametrize("name", DECISIONS)
def test_lengths_decide_as_in_eager_mode(name: str) -> None:
    fn = DECISIONS[name]
    step = tg.compile(fn)
    for T in (5, 20, 40, 2, 3, 9, 12, 30):
        xs = draw(T, 2, 3, seed=T)
        compiled, eager = step(xs), fn(xs)
        if isinstance(eager, tuple) and isinstance(eager[1], (int, tuple)):
            assert compiled[1:] == eager[1:]
            compiled, eager = compiled[0], eager[0]
        assert_same(compiled, eager)


HARMLESS: dict[str, Callable[..., Any]] = {
    "is it empty": lambda x: x.sum() / x.shape[0] if x.shape[0] > 0 and len(x.shape) == 3 else x,
    "the same": lambda x: x * 2 if x.shape == tg.tanh(x).shape else x,
    "features": lambda x: x[..., : x.shape[-1] // 2] if x.shape[-1] % 3 == 0 else x,
    "what is left": lambda x: x[1:].sum() if x[1:].shape[0] else x,
}


@pytest.mark.parametrize("name", HARMLESS)
def test_questions_that_all_lengths_answer_alike_keep_them_free(name: str) -> None:
    fn = HARMLESS[name]
    step = tg.compile(fn)
    for T in (5, 20, 2):
        assert_same(step(draw(T, 4, 3)), fn(draw(T, 4, 3)))
    assert step.cache_info().programs == 1, step.explain()


# --- arguments and their arrays ----------------------------------------------------------------------------
def loss(a: Any, b: Any) -> Any:
    return (tg.tanh(a @ b) * a).sum()


def read_only(x: np.ndarray) -> np.ndarray:
    x = x.copy()
    x.flags.writeable = False
    return x


ARRAYS: dict[str, tuple[np.ndarray, np.ndarray]] = {
    "Fortran order": (np.asfortranarray(draw(4, 4)), draw(4, 4)),
    "strided": (draw(8, 8)[::2, ::-2], draw(4, 8)[:, 1::2]),
    "read-only": (read_only(draw(4, 4)), read_only(draw(4, 4))),
    "broadcast": (np.broadcast_to(draw(4), (4, 4)), draw(4, 4).T),
    "single precision": (draw(4, 4).astype(np.float32), draw(4, 4).astype(np.float32)),
    "mixed": (draw(4, 4).astype(np.float32), draw(4, 4)),
    "half precision": (draw(4, 4).astype(np.float16), draw(4, 4).astype(np.float16)),
    "integers": (draw(4, 4), np.arange(16).reshape(4, 4)),
    "booleans": (draw(4, 4), draw(4, 4) > 0),
    "empty": (draw(0, 4), draw(4, 4)),
    "nothing to sum": (draw(3, 0), draw(0, 0)),
}


@pytest.mark.parametrize("name", sorted(ARRAYS.keys() - {"half precision"}))
def test_arrays_of_every_kind(name: str) -> None:
    a, b = ARRAYS[name]
    before = a.copy(), b.copy()
    check(tg.value_and_grad(loss), a, b)
    assert np.array_equal(a, before[0])
    assert np.array_equal(b, before[1])


def test_half_precision_stays_so() -> None:
    x = draw(4, 3).astype(np.float16)
    assert tg.compile(lambda x: tg.tanh(x) * 2)(x).dtype == np.float16


def test_arrays_in_the_other_byte_order() -> None:
    a, b = (x.astype(x.dtype.newbyteorder()) for x in (draw(4, 4), draw(4, 4, seed=1)))
    value, grad = tg.compile(tg.value_and_grad(loss))(a, b)
    expected = tg.value_and_grad(loss)(a, b)
    np.testing.assert_allclose(value.numpy(), expected[0].numpy(), rtol=1e-12)
    np.testing.assert_allclose(grad, expected[1], rtol=1e-12)


def test_one_array_in_two_places() -> None:
    a = draw(4, 4)
    check(tg.value_and_grad(loss), a, a)
    # The next call has two different arrays.
    step = tg.compile(tg.value_and_grad(loss))
    step(a, a)
    assert_same(step(a, draw(4, 4, seed=2)), tg.value_and_grad(loss)(a, draw(4, 4, seed=2)))


def test_results_are_arrays_of_their_own() -> None:
    """Not those of the arguments, nor each other's, nor those of another call."""
    constant = np.arange(3.0)

    def fn(x: Any) -> Any:
        y = tg.exp(x)
        views = x, x.T, x[1:], x.reshape(-1), y, y, y.T, y[0], tg.broadcast_to(y[0], (2, 3))
        return (*views, constant, constant * 1)

    step, x = tg.compile(fn), draw(3, 3)
    first = [np.asarray(r) for r in step(x)]
    kept = [r.copy() for r in first]
    second = [np.asarray(r) for r in step(x)]
    together = [*first, *second, x, constant]
    for k, a in enumerate(together):
        assert not any(np.shares_memory(a, b) for b in together[:k])
    for r in second:
        r[...] = 7
    for a, b in zip(first, kept, strict=True):
        np.testing.assert_array_equal(a, b)
    for a, b in zip(step(x), kept, strict=True):
        np.testing.assert_array_equal(a, b)


def test_arguments_of_every_kind() -> None:
    def fn(x: Any, *more: Any, how: str = "sum", scale: float = 2.0, **named: Any) -> Any:
        total = x * scale + sum(more) + sum(named.values())
        return total if how is None else getattr(total, how)()

    step = tg.compile(fn)
    calls: list[tuple[tuple[Any, ...], dict[str, Any]]] = [
        ((X,), {}),
        ((X, X, 1.5), {}),
        ((X,), {"how": "mean", "scale": 3.0}),
        ((X,), {"how": None}),
        ((X,), {"z": X, "y": 1.0}),
        ((2.0,), {"how": None}),
        ((X, True), {}),
    ]
    for args, kwargs in calls * 2:
        assert_same(step(*args, **kwargs), fn(*args, **kwargs))


class Scaled:
    """A method, and an array that it takes from its object."""

    scale = np.array([1.0, 2.0])

    def apply(self, x: Any, power: int = 2) -> Any:
        return (x * self.scale) ** power


def test_methods_recursion_and_arrays_from_outside() -> None:
    check(Scaled().apply, X)

    def nested(x: Any, depth: int) -> Any:
        return x if depth == 0 else tg.tanh(nested(x, depth - 1))

    check(nested, X, 30)
    # Arrays from outside are constants, as tg.compile says.
    outside = np.ones(2)
    step = tg.compile(lambda x: x * outside)
    step(X)
    outside[:] = 5
    assert_same(step(X), X)


def test_results_that_are_numbers_and_choices() -> None:
    x = np.arange(6).reshape(2, 3)
    check(lambda x: (x + 1, x * 2, x > 3, ~(x > 3), x.sum(), x.mean(), x / 2, (x > 1) & (x < 4)), x)
    # NumPy 1 widens a float32 scalar that meets a Python number; arrays it does not.
    number = np.float32 if int(np.__version__.split(".")[0]) > 1 else np.float64
    check(lambda a, b: (a * b, a + 1, -a, a > b), number(2), number(3))
    for flag in (True, False):
        check(lambda x, flag: x if flag else -x, X, flag)


@pytest.mark.parametrize("shape", [(5, 0, 3), (1, 1, 3), (1, 0, 3), (2, 1, 3)])
def test_few_timesteps_and_no_sequences(shape: Any) -> None:
    def fn(w: Any, xs: Any) -> Any:
        roll = nn.unroll(lambda x, h: (tg.tanh(x * w + h),) * 2, xs, np.zeros(xs.shape[1:]))
        return (roll.outputs**2).sum() + (F.softmax(xs * w) * xs).sum()

    step = check(tg.value_and_grad(fn), np.ones(3), np.ones(shape))
    xs = draw(6, 4, 3)
    assert_same(step(np.ones(3), xs), tg.value_and_grad(fn)(np.ones(3), xs))
    with pytest.raises(ShapeError, match="at least one timestep"):
        step(np.ones(3), np.ones((0, 2, 3)))


def test_numbers_that_are_wanted_after_their_first_use() -> None:
    """A norm at every step goes into the state and, once more, into the gradient."""

    def fn(w: Any, xs: Any) -> Any:
        cell = lambda x, h: (tg.tanh(tg.linalg.norm(h) + x * w),) * 2  # noqa: E731
        return (nn.unroll(cell, xs, np.zeros(xs.shape[1:])).outputs ** 2).sum()

    check(tg.value_and_grad(fn), draw(3), draw(5, 2, 3))


# --- size and threads --------------------------------------------------------------------------------------
def test_five_thousand_operations_in_a_row() -> None:
    def fn(x: Any) -> Any:
        for _ in range(5_000):
            x = tg.sin(x)
        return x.sum()

    assert_same(tg.compile(fn)(X), fn(X))


def test_threads_that_compile_at_once() -> None:
    step, eager = tg.compile(tg.value_and_grad(loss)), tg.value_and_grad(loss)
    wrong: list[BaseException] = []

    def work(n: int) -> None:
        try:
            for k in range(6):
                a, b = draw(n + k % 3, 4, seed=n), draw(4, 4, seed=k)
                assert_same(step(a, b), eager(a, b))
        except BaseException as error:
            wrong.append(error)

    threads = [threading.Thread(target=work, args=(n,)) for n in (5, 6, 7, 8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_lengths_that_do_not_fit_are_told_of_as_in_eager_mode() -> None:
    layers = nn.LSTM(3, 4, seed=0)
    summed = tg.compile(lambda xs, lengths: layers(xs, lengths=lengths)[0].sum())
    xs = np.ones((12, 4, 3))
    assert summed(xs, np.array([1, 2, 12, 4])).item() == pytest.approx(
        summed.fn(xs, np.array([1, 2, 12, 4])).item(), rel=1e-12
    )
    for wrong in ([13, 1, 1, 1], [1, 0, 1, 1]):
        with pytest.raises(ShapeError, match=r"lengths must lie in 1\.\.12, but (13|0) stands at index"):
            summed(xs, np.array(wrong))
    with pytest.raises(ShapeError, match=r"4 integers, one for each sequence, not float64 of shape \(4,\)"):
        summed(xs, np.array([1.0, 2.0, 3.0, 4.0]))


def test_what_is_no_function_and_a_file_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="takes a function, not int"):
        tg.compile(3)  # type: ignore[arg-type]
    double = tg.compile(lambda x: 2 * x)
    assert repr(double).endswith("<lambda>, 0 programs>")
    double(np.ones(3))
    assert repr(double).endswith("<lambda>, 1 program>")
    with pytest.raises(UserError, match="cannot be written: No such file"):
        double.save(tmp_path / "none" / "page.py")
