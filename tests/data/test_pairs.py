"""Strings and their answers, padded and marked as documented; no test problem is ever a training problem."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tensorgrad.data import (
    END,
    PAD,
    START,
    Pairs,
    addition,
    addition_vocabulary,
    decode_pairs,
    reversal,
    reversal_vocabulary,
)
from tensorgrad.errors import UserError

seeds = st.integers(0, 2**32)


def check_layout(pairs: Pairs, T_in: int, T_out: int, B: int, V: int) -> None:
    """Symbols, then `END` in targets only, then nothing but padding."""
    assert all(array.dtype == np.intp for array in pairs)
    assert pairs.source.shape == (T_in, B)
    assert pairs.target.shape == (T_out, B)
    assert (pairs.source_lengths >= 1).all()
    sides: list[tuple[Any, Any, list[int]]] = [
        (pairs.source, pairs.source_lengths, []),
        (pairs.target, pairs.target_lengths, [END]),
    ]
    for ids, lengths, end in sides:
        for b, n in enumerate(lengths):
            symbols = n - len(end)
            assert ((ids[:symbols, b] > START) & (ids[:symbols, b] < V)).all()
            assert ids[symbols:n, b].tolist() == end
            assert (ids[n:, b] == PAD).all()


@given(
    B=st.integers(1, 20),
    short=st.integers(1, 6),
    more=st.integers(0, 6),
    symbols=st.integers(1, 52),
    seed=seeds,
)
def test_reversal(B: int, short: int, more: int, symbols: int, seed: int) -> None:
    pairs = reversal(B, (short, short + more), symbols, seed)
    vocabulary = reversal_vocabulary(symbols)
    check_layout(pairs, short + more, short + more + 1, B, len(vocabulary))
    assert len(vocabulary) == symbols + 3
    for (source, target), n in zip(decode_pairs(pairs, vocabulary), pairs.source_lengths, strict=True):
        assert short <= n <= short + more
        assert source.isalpha()
        assert target == source[::-1]


def test_reversal_draws_all_lengths_and_symbols_alike() -> None:
    pairs = reversal(20_000, (3, 6), 5, seed=0)
    counts = np.bincount(pairs.source_lengths)[3:]
    np.testing.assert_allclose(counts / 20_000, 1 / 4, atol=0.015)
    counts = np.bincount(pairs.source[pairs.source != PAD])[START + 1 :]
    np.testing.assert_allclose(counts / counts.sum(), 1 / 5, atol=0.015)


@given(
    B=st.integers(1, 20),
    digits=st.integers(1, 18),
    seed=seeds,
    held_out=st.booleans(),
    backwards=st.booleans(),
)
def test_addition(B: int, digits: int, seed: int, held_out: bool, backwards: bool) -> None:
    pairs = addition(B, digits, seed, held_out, reverse_source=backwards)
    vocabulary = addition_vocabulary()
    check_layout(pairs, 2 * digits + 1, digits + 2, B, len(vocabulary))
    for source, target in decode_pairs(pairs, vocabulary):
        a, b = (source[::-1] if backwards else source).split("+")
        assert len(a) <= digits
        assert len(b) <= digits
        assert target == str(int(a) + int(b))
        assert a == str(int(a))
        assert b == str(int(b))


def problems(**options: Any) -> set[tuple[int, int]]:
    sources = [source for source, _ in decode_pairs(addition(**options), addition_vocabulary())]
    return {tuple(map(int, source.split("+"))) for source in sources}


@pytest.mark.parametrize(("digits", "B"), [(1, 2_000), (2, 8_000)])
def test_training_and_test_problems_share_none(digits: int, B: int) -> None:
    train = problems(B=B, digits=digits, seed=0)
    test = problems(B=B // 5, digits=digits, seed=1, held_out=True)
    assert not train & test
    assert not {(b, a) for a, b in train} & test
    if digits == 1:
        assert train | test == set(itertools.product(range(10), repeat=2))
        assert len(test) == 11


def test_a_problem_is_held_out_whatever_the_number_of_digits() -> None:
    assert not problems(B=2_000, digits=1, seed=0) & problems(B=2_000, digits=2, seed=0, held_out=True)


def test_the_problems_held_out_stay_the_same_from_version_to_version() -> None:
    """Accuracies on them are only comparable if the hash does not change."""
    singles = problems(B=400, digits=1, seed=0, held_out=True)
    assert sorted((a, b) for a, b in singles if a <= b) == [(0, 0), (0, 7), (2, 7), (3, 6), (4, 5), (5, 8)]


def test_the_first_ids_are_padding_end_and_start() -> None:
    for vocabulary in (addition_vocabulary(), reversal_vocabulary(4)):
        assert vocabulary.encode("\0\1\2").tolist() == [PAD, END, START] == [0, 1, 2]


@pytest.mark.parametrize("seed", [0, 7])
def test_a_seed_repeats_and_a_generator_goes_on(seed: int) -> None:
    for task in (reversal, addition):
        rng = np.random.default_rng(seed)
        first, second, again = task(30, seed=rng), task(30, seed=rng), task(30, seed=seed)
        np.testing.assert_array_equal(first.source, again.source)
        assert not np.array_equal(first.source, second.source)


@pytest.mark.parametrize(
    ("call", "reason"),
    [
        (lambda: reversal(0), "reversal: B must be an integer of at least 1, not 0"),
        (lambda: reversal(2, (0, 5)), r"reversal: lengths\[0\] must be an integer of at least 1, not 0"),
        (lambda: reversal(2, (5, 4)), r"reversal: lengths\[1\] must be an integer of at least 5, not 4"),
        (lambda: reversal(2, 5), "reversal: lengths must be two numbers, the least and the most, not 5"),
        (lambda: reversal(2, symbols=53), "reversal: symbols must be an integer from 1 to 52, not 53"),
        (lambda: reversal_vocabulary(0), "reversal: symbols must be an integer from 1 to 52, not 0"),
        (lambda: addition(-1), "addition: B must be an integer of at least 1, not -1"),
        (lambda: addition(2, digits=19), "addition: digits must be an integer from 1 to 18, not 19"),
        (lambda: addition(2, digits=1.5), "addition: digits must be an integer from 1 to 18, not 1.5"),
    ],
)
def test_wrong_sizes_are_named(call: Any, reason: str) -> None:
    with pytest.raises(UserError, match=reason):
        call()
