"""Pairs of strings for sequence-to-sequence models: reversing, and adding numbers digit by digit.

Arrays are time-major. Ids 0, 1 and 2 are padding, the end of a target, and a decoder's first input. An int as
`seed` gives the same batch each time it is used. A Generator goes on drawing, and so does None, from the
package's own generator (`tensorgrad.random.manual_seed`).
"""

from __future__ import annotations

import string
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from tensorgrad.data.arguments import integer, limits
from tensorgrad.data.text import PAD, Ids, Vocabulary
from tensorgrad.random import Seed, as_generator

__all__ = [
    "END",
    "START",
    "Pairs",
    "addition",
    "addition_vocabulary",
    "decode_pairs",
    "reversal",
    "reversal_vocabulary",
]

END, START = 1, 2
"""The ids of the end of a target, and of a decoder's first input."""

HELD_OUT = 0.1
"""The part of all addition problems that is kept for testing."""


class Pairs(NamedTuple):
    """Source and target strings as ids, padded with `PAD`.

    Attributes:
        source: `(T_in, B)` intp ids.
        source_lengths: `(B,)` intp, at least 1.
        target: `(T_out, B)` intp ids; each ends with `END`. None begins with `START`, which is there to be a
            decoder's first input.
        target_lengths: `(B,)` intp, `END` included.
    """

    source: Ids
    source_lengths: Ids
    target: Ids
    target_lengths: Ids


def reversal_vocabulary(symbols: int = 10) -> Vocabulary:
    """The ids of `reversal`: `PAD`, `END` and `START`, then the first letters of "A...Za...z".

    Args:
        symbols: how many letters, from 1 to 52.

    Raises:
        UserError: `symbols` is outside its range.

    Example:
        >>> vocabulary = reversal_vocabulary(3)
        >>> len(vocabulary), vocabulary.encode("CAB").tolist()
        (6, [5, 3, 4])
    """
    integer("reversal", "symbols", symbols, 1, 52)
    return _with_control_characters((string.ascii_uppercase + string.ascii_lowercase)[:symbols])


def reversal(B: int, lengths: tuple[int, int] = (1, 10), symbols: int = 10, seed: Seed = None) -> Pairs:
    """Random strings and the same strings backwards.

    The length of each is drawn uniformly from the range, and each symbol uniformly from the vocabulary.

    Args:
        B: pairs in the batch.
        lengths: the shortest and the longest string, both included.
        symbols: how many different letters, from 1 to 52.
        seed: see the top of the module.

    Returns:
        Pairs of ids of `reversal_vocabulary(symbols)`, with T_in = lengths[1] and T_out = lengths[1] + 1.

    Raises:
        UserError: a size outside its range.

    Example:
        >>> pairs = reversal(3, lengths=(2, 4), symbols=5, seed=0)
        >>> decode_pairs(pairs, reversal_vocabulary(5))
        [('BAEC', 'CEAB'), ('BAD', 'DAB'), ('AAE', 'EAA')]
    """
    integer("reversal", "B", B, 1)
    integer("reversal", "symbols", symbols, 1, 52)
    shortest, longest = limits("reversal", "lengths", lengths)
    integer("reversal", "lengths[0]", shortest, 1)
    integer("reversal", "lengths[1]", longest, shortest)
    rng = as_generator(seed)
    n = rng.integers(shortest, longest + 1, B)
    drawn = rng.integers(START + 1, START + 1 + symbols, (longest, B))
    t = np.arange(longest + 1)[:, None]
    source = np.where(t[:-1] < n, drawn, PAD)
    # Where n - 1 - t is negative the place is after the end, and what is taken there does not matter.
    backwards = np.take_along_axis(source, np.maximum(n - 1 - t, 0), axis=0)
    target = np.where(t < n, backwards, np.where(t == n, END, PAD))
    return Pairs(source.astype(np.intp), n.astype(np.intp), target.astype(np.intp), (n + 1).astype(np.intp))


def addition_vocabulary() -> Vocabulary:
    """The ids of `addition`: `PAD`, `END` and `START`, then "+" and the digits.

    Example:
        >>> vocabulary = addition_vocabulary()
        >>> len(vocabulary), vocabulary.encode("+09").tolist()
        (14, [3, 4, 13])
    """
    return _with_control_characters("+" + string.digits)


def addition(
    B: int, digits: int = 3, seed: Seed = None, held_out: bool = False, *, reverse_source: bool = False
) -> Pairs:
    """Two numbers to add, as strings: "12+345" and "357".

    The number of digits of each summand is drawn uniformly from 1 to `digits`, then the number from all of at
    most so many digits. A tenth of all problems, found by a hash of the two numbers in ascending order, is
    drawn with `held_out=True` only, the rest without only: a test never meets a problem of the training, nor
    one with the summands the other way round.

    Args:
        B: pairs in the batch.
        digits: the most digits of a summand, from 1 to 18.
        seed: see the top of the module.
        held_out: draw from the problems kept for testing.
        reverse_source: write the problem backwards, "543+21" for 12+345 (Sutskever, Vinyals and Le 2014,
            section 3.3, found that to help).

    Returns:
        Pairs of ids of `addition_vocabulary()`, with T_in = 2 * digits + 1 and T_out = digits + 2.

    Raises:
        UserError: a size outside its range.

    Example:
        >>> decode_pairs(addition(3, digits=2, seed=0), addition_vocabulary())
        [('50+60', '110'), ('97+7', '104'), ('6+5', '11')]
    """
    integer("addition", "B", B, 1)
    integer("addition", "digits", digits, 1, 18)
    rng = as_generator(seed)
    summands = np.zeros((0, 2), np.int64)
    while len(summands) < B:
        drawn = rng.integers(0, 10 ** rng.integers(1, digits + 1, (2 * B if not held_out else 16 * B, 2)))
        summands = np.concatenate([summands, drawn[_is_held_out(drawn) == held_out]])
    problems = summands[:B].tolist()
    sources = [f"{a}+{b}"[:: -1 if reverse_source else 1] for a, b in problems]
    source, source_lengths = _encode(sources, 2 * digits + 1)
    target, target_lengths = _encode([f"{a + b}{chr(END)}" for a, b in problems], digits + 2)
    return Pairs(source, source_lengths, target, target_lengths)


def decode_pairs(pairs: Pairs, vocabulary: Vocabulary) -> list[tuple[str, str]]:
    """The strings of a batch, without padding and `END`.

    Args:
        pairs: what `reversal` or `addition` returned.
        vocabulary: the one of its ids.

    Returns:
        B pairs (source, target).

    Example:
        >>> decode_pairs(addition(1, seed=3), addition_vocabulary())
        [('181+8', '189')]
    """
    return [
        (vocabulary.decode(source[:n]), vocabulary.decode(target[: m - 1]))
        for source, n, target, m in zip(
            pairs.source.T, pairs.source_lengths, pairs.target.T, pairs.target_lengths, strict=True
        )
    ]


def _with_control_characters(characters: str) -> Vocabulary:
    # In code point order they come first, which gives them the ids they stand for.
    return Vocabulary("".join(map(chr, (PAD, END, START))) + characters)


def _encode(texts: Sequence[str], T: int) -> tuple[Ids, Ids]:
    """Addition's ids `(T, B)`, padded, and lengths `(B,)`; all texts are looked up at once."""
    lengths = np.array([len(text) for text in texts], np.intp)
    ids = np.full((len(texts), T), PAD, np.intp)
    ids[np.arange(T) < lengths[:, None]] = addition_vocabulary().encode("".join(texts))
    return np.ascontiguousarray(ids.T), lengths


def _is_held_out(summands: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    """Which problems `(n, 2)` are for testing, the same in either order and on every machine."""
    low, high = np.sort(summands, axis=1).astype(np.uint64).T
    # The finalizer of SplitMix64 (Steele, Lea and Flood 2014); products wrap around, as they should.
    z = low * np.uint64(0x9E3779B97F4A7C15) + high
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        z = (z ^ (z >> np.uint64(shift))) * np.uint64(factor)
    z = z ^ (z >> np.uint64(31))
    return z < np.uint64(HELD_OUT * 2**64)
