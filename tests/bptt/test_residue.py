"""What is said of a wrong gradient that no known mistake explains: every relation is planted and found."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tensorgrad.bptt.residue import residue

T, B, H = 5, 3, 8
SIZES = {"T": T, "B": B}


def record(seed: int = 0) -> list[np.ndarray]:
    return list(np.random.default_rng(seed).normal(size=(T, B, H)))


def weight(rows: int = 8, columns: int = 8, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(rows, columns))


def said(
    wrong: np.ndarray | list[np.ndarray], right: np.ndarray | list[np.ndarray], t: int | None
) -> list[str]:
    if t is None:
        return residue([np.asarray(wrong)], [np.asarray(right)], None, SIZES)
    return residue(wrong, right, t, SIZES)


def at(t: int, change: Callable[[np.ndarray], np.ndarray]) -> list[np.ndarray]:
    """A record that is wrong at one timestep."""
    return [change(x.copy()) if s == t else x for s, x in enumerate(record())]


# --- factors ---------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("factor", "words"),
    [
        (1 / B, "is 0.333333 = 1/B times the right gradient"),
        (B, "is 3 = B times the right gradient"),
        (T, "is 5 = T times the right gradient"),
        (1 / T, "is 0.2 = 1/T times the right gradient"),
        (T * B, "is 15 = T*B times the right gradient"),
        (1 / (T * B), "is 0.0666667 = 1/(T*B) times the right gradient"),
        (2, "is 2 times the right gradient"),
        (0.7, "is 0.7 times the right gradient"),
        (-1, "has the wrong sign: it is -1 times the right gradient"),
        (0, "is zero"),
    ],
)
def test_a_constant_factor_is_named(factor: float, words: str) -> None:
    assert said([factor * x for x in record()], record(), T - 1) == [f"it {words}, at every timestep"]
    assert said(at(2, lambda x: factor * x), record(), 2) == [f"it {words}"]
    assert said(factor * weight(), weight(), None) == [f"it {words}"]


@pytest.mark.parametrize("factor", [1 + 1e-6, 1 - 1e-7, -1 - 1e-6, 1 + 3e-9])
def test_a_factor_near_1_is_told_from_it(factor: float) -> None:
    said_of_it = residue([factor * weight()], [weight()])[0]
    number = float(said_of_it.split()[2])
    assert abs(number - factor) < 0.1 * abs(abs(factor) - 1)
    assert said_of_it == f"it is {number!r} times the right gradient"


def test_a_factor_that_is_two_sizes_at_once_has_both_names() -> None:
    right = weight()
    assert residue([4 * right], [right], None, {"T": 4, "B": 4}) == [
        "it is 4 = T = B times the right gradient"
    ]


def test_a_size_of_one_names_nothing() -> None:
    right = weight()
    sizes = {"T": 2, "B": 1}
    assert residue([2 * right], [right], None, sizes) == ["it is 2 = T times the right gradient"]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_rounding_does_not_hide_a_factor(dtype: type) -> None:
    right = weight()
    wrong = (right / 3).astype(dtype)
    assert residue([wrong], [right], None, SIZES, 1e-4 if dtype is np.float32 else 1e-9) == [
        "it is 0.333333 = 1/B times the right gradient"
    ]


def test_one_number_and_a_gradient_that_should_be_zero() -> None:
    assert said(np.array(3.0), np.array(2.0), None) == ["it is 1.5 times the right gradient"]
    assert said(np.ones(3), np.zeros(3), None) == ["it should be zero"]


# --- the right numbers elsewhere -------------------------------------------------------------------------
def test_a_transpose() -> None:
    assert said(weight().T, weight(), None) == ["it is the transpose of the right gradient"]


def test_a_symmetric_gradient_is_no_transpose() -> None:
    right = weight() + weight().T
    assert said(2 * right, right, None) == ["it is 2 times the right gradient"]


def test_another_timestep() -> None:
    right = record()
    assert said(at(3, lambda x: right[1]), right, 3) == ["it is the right gradient of t=1"]


def test_timesteps_that_are_shifted_or_reversed() -> None:
    right = record()
    assert said([*right[1:], np.zeros((B, H))], right, 3) == [
        "it is the right gradient of t=4: every timestep has that of the one 1 later"
    ]
    assert said([right[-1], *right[:-1]], right, 4) == [
        "it is the right gradient of t=3: every timestep has that of the one 1 before"
    ]
    assert said(right[::-1], right, 4) == [
        "it is the right gradient of t=0: the timesteps stand in reverse order"
    ]


def test_a_permutation_of_units_or_sequences() -> None:
    assert said(at(2, lambda x: x[:, [0, 5, 2, 3, 4, 1, 6, 7]]), record(), 2) == ["units 1, 5 are exchanged"]
    assert said(at(2, lambda x: x[::-1]), record(), 2) == ["rows 0, 2 of the batch are exchanged"]
    assert said(at(2, lambda x: x[:, ::-1]), record(), 2) == ["units 0:8 stand in reverse order"]


def test_gates_in_another_order_are_blocks() -> None:
    i, f, g, o = np.split(weight(8, 3), 4)
    assert said(np.concatenate([i, g, f, o]), np.concatenate([i, f, g, o]), None) == [
        "it has the right numbers in another order: rows 2, 3 hold 4, 5, rows 4, 5 hold 2, 3"
    ]


@settings(max_examples=50)
@given(seed=st.integers(0, 2**32 - 1), n=st.integers(3, 40), axis=st.integers(0, 1), dead=st.booleans())
def test_every_permutation_is_found(seed: int, n: int, axis: int, dead: bool) -> None:
    rng = np.random.default_rng(seed)
    right = rng.normal(size=(n, 3))
    if dead:
        right[rng.integers(0, n, 2)] = 0  # Rows that cannot be told apart.
    wrong = right[rng.permutation(n)]
    assume(np.abs(wrong - right).max() > 1e-3)
    (text,) = said(np.moveaxis(wrong, 0, axis), np.moveaxis(right, 0, axis), None)
    name = ("row", "column")[axis]
    assert name in text
    assert any(words in text for words in ("another order", "exchanged", "reverse order"))


# --- a part of it ----------------------------------------------------------------------------------------
def test_only_some_rows_and_units_differ() -> None:
    def change(x: np.ndarray) -> np.ndarray:
        x[1, 2:5] *= 7
        return x

    assert said(at(2, change), record(), 2) == [
        "it differs in row 1 of the batch and units 2:5 only, where it is 7 times the right gradient"
    ]


def test_a_part_that_follows_from_nothing() -> None:
    def change(x: np.ndarray) -> np.ndarray:
        x[:, [0, 2, 3, 6]] += weight(B, 4)
        return x

    assert said(at(2, change), record(), 2) == ["it differs in units 0, 2, 3, 6 only"]


def test_padding_that_should_be_zero() -> None:
    right = record()
    right[2][1] = 0
    wrong = [x.copy() for x in right]
    wrong[2][1] = 1
    assert said(wrong, right, 2) == ["it differs in row 1 of the batch only, where it should be zero"]


def test_timesteps_of_a_tensor_that_holds_them_all() -> None:
    right = np.stack(record())
    wrong = right.copy()
    wrong[4] = 0
    assert said(wrong, right, None) == ["it differs in timestep 4 only, where it is zero"]


def test_long_lists_of_indices_are_cut_short() -> None:
    right = weight(3, 40)
    wrong = right.copy()
    wrong[:, ::2] += weight(3, 20, seed=2)
    assert said(wrong, right, None) == ["it differs in columns 0, 2, 4, 6, 8, 10, ... only"]


@settings(max_examples=50)
@given(st.sets(st.integers(0, 19), min_size=1, max_size=6), st.integers(0, 2**32 - 1))
def test_the_part_is_exactly_what_was_changed(changed: set[int], seed: int) -> None:
    right = np.random.default_rng(seed).normal(size=20)
    wrong = right.copy()
    wrong[list(changed)] = 0
    (text,) = said(wrong, right, None)
    listed: set[int] = set()
    for run in text.split(" only")[0].partition("element")[2].lstrip("s ").split(", "):
        start, _, stop = run.partition(":")
        listed |= set(range(int(start), int(stop or int(start) + 1)))
    assert listed == changed


# --- the subspace ----------------------------------------------------------------------------------------
def test_the_rank_of_an_error() -> None:
    share = weight(8, B, 2) @ weight(B, 8, 3)
    assert said(weight() + share, weight(), None) == [
        "its error has rank 3 = B, no more than the share of one timestep; the right gradient has rank 8"
    ]
    one = np.outer(weight()[0], weight()[1])
    assert said(weight() + one, weight(), None) == ["its error has rank 1; the right gradient has rank 8"]


def test_an_error_without_structure_is_measured() -> None:
    right = weight()
    other = weight(seed=4)
    other -= (other * right).sum() / (right * right).sum() * right
    other *= np.linalg.norm(right) / np.linalg.norm(other)
    assert said(0.6 * right + 0.8 * other, right, None) == [
        "at best it is 0.6 times the right gradient, and 80% of its norm is something else"
    ]


@settings(max_examples=50)
@given(
    shape=st.lists(st.integers(1, 4), min_size=0, max_size=3),
    timed=st.booleans(),
    seed=st.integers(0, 2**32 - 1),
)
def test_there_is_always_something_to_say(shape: list[int], timed: bool, seed: int) -> None:
    rng = np.random.default_rng(seed)
    right, wrong = rng.normal(size=(2, 3, *shape))
    found = residue(list(wrong), list(right), 1) if timed else residue([wrong], [right])
    assert found
    assert all(text.isprintable() for text in found)
