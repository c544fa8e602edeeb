"""Every generated task is what its definition says, guessing earns its chance, and wrong sizes are named."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tensorgrad import random
from tensorgrad.data import Batch, adding, copy_memory, parity, sine_prediction, temporal_order
from tensorgrad.errors import DtypeError, UserError

TASKS: list[Callable[..., Batch]] = [adding, copy_memory, temporal_order, parity, sine_prediction]
EVERY = pytest.mark.parametrize("task", TASKS, ids=lambda task: task.__name__)

lengths_and_seeds = {"T": st.integers(10, 60), "B": st.integers(1, 8), "seed": st.integers(0, 2**32)}


def same(a: Batch, b: Batch) -> bool:
    return bool(np.array_equal(a.xs, b.xs) and np.array_equal(a.ys, b.ys))


@EVERY
def test_a_seed_repeats_and_a_generator_goes_on(task: Callable[..., Batch]) -> None:
    assert same(task(12, 40, 1), task(12, 40, 1))
    assert not same(task(12, 40, 1), task(12, 40, 2))
    rng = np.random.default_rng(1)
    assert same(task(12, 40, rng), task(12, 40, 1))
    assert not same(task(12, 40, rng), task(12, 40, 1))
    random.manual_seed(1)
    assert same(task(12, 40), task(12, 40, 1))


@EVERY
def test_inputs_and_targets_do_not_share_memory(task: Callable[..., Batch]) -> None:
    batch = task(12, 4, 0)
    assert not np.shares_memory(batch.xs, batch.ys)
    assert batch.lengths is None


@EVERY
@pytest.mark.parametrize(("T", "B", "named"), [(0, 4, "T"), (20, 0, "B"), (20.0, 4, "T"), (20, "4", "B")])
def test_wrong_sizes_are_named(task: Callable[..., Batch], T: Any, B: Any, named: str) -> None:
    found = T if named == "T" else B
    with pytest.raises(UserError) as caught:
        task(T, B, 0)
    message = str(caught.value)
    assert message.startswith(f"{task.__name__}: {named} must be an integer of at least ")
    assert message.endswith(f", not {found!r}")


@pytest.mark.parametrize(
    ("call", "reason"),
    [
        (lambda: adding(1, 2), "adding: T must be an integer of at least 2, not 1"),
        (lambda: temporal_order(9, 2), "temporal_order: T must be an integer of at least 10, not 9"),
        (lambda: temporal_order(20, 2, relevant=4), "relevant must be an integer from 2 to 3, not 4"),
        (lambda: copy_memory(5, 2, length=0), "length must be an integer of at least 1, not 0"),
        (lambda: copy_memory(5, 2, symbols=1), "symbols must be an integer of at least 2, not 1"),
        (lambda: sine_prediction(5, 2, period=(1, 4)), r"period must run .* not \(1, 4\)"),
        (lambda: sine_prediction(5, 2, period=(9, 4)), r"period must run .* not \(9, 4\)"),
        (lambda: sine_prediction(5, 2, period=(2, math.nan)), "period must run"),
        (lambda: sine_prediction(5, 2, period=(2, math.inf)), "period must run"),
        (lambda: sine_prediction(5, 2, period=8), "period must be two numbers, .* not 8"),
    ],
)
def test_wrong_options_are_named(call: Callable[[], Batch], reason: str) -> None:
    with pytest.raises(UserError, match=reason):
        call()


@pytest.mark.parametrize("task", [adding, parity, sine_prediction])
def test_float_tasks_come_in_either_precision_only(task: Callable[..., Batch]) -> None:
    single, double = task(12, 4, 0, dtype=np.float32), task(12, 4, 0)
    assert single.xs.dtype == np.float32
    assert double.xs.dtype == np.float64
    assert single.ys.dtype == (np.intp if task is parity else np.float32)
    np.testing.assert_allclose(single.xs, double.xs, rtol=1e-6, atol=1e-6)
    with pytest.raises(DtypeError, match="dtype must be a floating one, not int64"):
        task(12, 4, 0, dtype="int64")


@given(**lengths_and_seeds)
def test_adding_marks_one_number_in_each_half(T: int, B: int, seed: int) -> None:
    xs, ys, _, _ = adding(T, B, seed)
    numbers, marks = xs[:, :, 0], xs[:, :, 1]
    assert ((numbers >= 0) & (numbers < 1)).all()
    assert set(np.unique(marks)) == {0, 1}
    assert (marks[: T // 2].sum(axis=0) == 1).all()
    assert (marks[T // 2 :].sum(axis=0) == 1).all()
    np.testing.assert_allclose(ys[:, 0], (numbers * marks).sum(axis=0), rtol=1e-12)


def test_marks_and_relevant_symbols_come_at_all_their_places() -> None:
    marks = adding(7, 2_000, 0).xs[:, :, 1].sum(axis=1)
    np.testing.assert_allclose(marks / 2_000, [1 / 3] * 3 + [1 / 4] * 4, atol=0.05)
    xs = temporal_order(20, 2_000, 0).xs
    places = ((xs == 4) | (xs == 5)).sum(axis=1)
    assert np.flatnonzero(places).tolist() == [2, 3, 4, 10, 11, 12]
    np.testing.assert_allclose(places[places > 0] / 2_000, 1 / 3, atol=0.05)


@given(**lengths_and_seeds, length=st.integers(1, 12), symbols=st.integers(2, 9))
def test_copy_memory_asks_for_the_string_after_the_delimiter(
    T: int, B: int, seed: int, length: int, symbols: int
) -> None:
    xs, ys, _, _ = copy_memory(T, B, seed, length=length, symbols=symbols)
    assert xs.shape == ys.shape == (T + 2 * length, B)
    assert xs.dtype == ys.dtype == np.intp
    assert (xs[:length] < symbols).all()
    # Of the T steps between the string and the answer the last one is the delimiter.
    assert (xs[length : length + T - 1] == symbols).all()
    assert (xs[length + T - 1] == symbols + 1).all()
    assert (xs[length + T :] == symbols).all()
    assert (ys[:-length] == symbols).all()
    np.testing.assert_array_equal(ys[-length:], xs[:length])


@given(**lengths_and_seeds, relevant=st.sampled_from([2, 3]))
def test_temporal_order_reads_the_relevant_symbols_in_order(T: int, B: int, seed: int, relevant: int) -> None:
    xs, ys, _, _ = temporal_order(T, B, seed, relevant)
    assert (xs[0] == 6).all()
    assert (xs[-1] == 7).all()
    percents = {2: (10, 50), 3: (10, 33, 66)}[relevant]
    for b in range(B):
        places = np.flatnonzero((xs[:, b] == 4) | (xs[:, b] == 5))
        assert len(places) == relevant
        for at, percent in zip(places, percents, strict=True):
            assert T * percent // 100 <= at <= T * (percent + 10) // 100
        assert ys[b] == int("".join("01"[symbol - 4] for symbol in xs[places, b]), 2)
    assert ((xs[1:-1] < 6) & (xs[1:-1] >= 0)).all()


@given(**lengths_and_seeds)
def test_parity_is_the_exclusive_or_of_all_bits_so_far(T: int, B: int, seed: int) -> None:
    xs, ys, _, _ = parity(T, B, seed)
    assert xs.shape == (T, B, 1)
    np.testing.assert_array_equal(ys, np.bitwise_xor.accumulate(xs[:, :, 0].astype(int), axis=0))
    last = parity(T, B, seed, every_step=False)
    np.testing.assert_array_equal(last.xs, xs)
    np.testing.assert_array_equal(last.ys, ys[-1])


@given(**lengths_and_seeds, short=st.floats(2, 20), more=st.floats(0, 20))
def test_two_values_of_a_sine_determine_the_next(
    T: int, B: int, seed: int, short: float, more: float
) -> None:
    xs, ys, _, _ = sine_prediction(T, B, seed, period=(short, short + more))
    assert xs.shape == ys.shape == (T, B, 1)
    np.testing.assert_array_equal(xs[1:], ys[:-1])
    # sin(a + w) + sin(a - w) = 2 cos(w) sin(a): the same factor at every step, and of a period in the range.
    around, middle = (ys[1:] + xs[:-1])[:, :, 0], xs[1:, :, 0]
    factor = (around * middle).sum(axis=0) / (middle**2).sum(axis=0)
    np.testing.assert_allclose(around, factor * middle, atol=1e-9)
    period = 2 * np.pi / np.arccos(np.clip(factor / 2, -1, 1))
    assert (period > short * (1 - 1e-6)).all()
    assert (period < (short + more) * (1 + 1e-6)).all()


def cross_entropy_of_frequencies(ys: np.ndarray) -> float:
    """The loss of answering with how often each class comes: at each step, where there are steps."""
    steps = ys[None] if ys.ndim == 1 else ys
    total = 0.0
    for at in steps:
        shares = np.bincount(at) / len(at)
        total += -np.sum(shares[shares > 0] * np.log(shares[shares > 0]))
    return total / len(steps)


@pytest.mark.parametrize(
    ("batch", "guess"),
    [
        (adding(20, 20_000, 0), 1.0),
        (adding(7, 20_000, 0), 1.0),
        (sine_prediction(12, 20_000, 0), 0.0),
        (copy_memory(30, 20_000, 0), None),
        (copy_memory(5, 20_000, 0, length=3, symbols=4), None),
        (temporal_order(20, 20_000, 0), None),
        (temporal_order(20, 20_000, 0, relevant=3), None),
        (parity(10, 20_000, 0), None),
        (parity(10, 20_000, 0, every_step=False), None),
    ],
)
def test_chance_is_what_the_best_guesser_gets(batch: Batch, guess: float | None) -> None:
    if guess is None:
        earned = cross_entropy_of_frequencies(batch.ys)
    else:
        earned = float(np.mean((batch.ys - guess) ** 2))
        # No other answer at any step is better by more than what was drawn by accident.
        assert abs(batch.ys.mean(axis=-2) - guess).max() < 0.03
    assert earned == pytest.approx(batch.chance, rel=0.02)


def test_chance_levels_are_the_literatures() -> None:
    assert adding(50, 1, 0).chance == pytest.approx(1 / 6)
    assert copy_memory(500, 1, 0).chance == pytest.approx(10 * math.log(8) / 520)
    assert temporal_order(100, 1, 0).chance == pytest.approx(math.log(4))
    assert temporal_order(100, 1, 0, relevant=3).chance == pytest.approx(math.log(8))
