"""Generated tasks on which recurrent networks are compared.

Arrays are time-major. An int as `seed` gives the same batch each time it is used. A Generator goes on
drawing, and so does None, from the package's own generator (`tensorgrad.random.manual_seed`).
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from tensorgrad.data.arguments import floating, integer, limits
from tensorgrad.data.text import Ids
from tensorgrad.errors import UserError
from tensorgrad.random import Seed, as_generator

__all__ = [
    "Batch",
    "adding",
    "copy_memory",
    "parity",
    "sine_prediction",
    "temporal_order",
]


class Batch(NamedTuple):
    """Sequences, what a network should make of them, and what guessing earns.

    Attributes:
        xs: `(T, B, features)` floats, or `(T, B)` intp ids of symbols.
        ys: floats, for a mean squared error, or intp classes, for a cross-entropy in nats. They have a time
            axis, `(T, B)` or `(T, B, features)`, where there is a target at every step, and none, `(B,)` or
            `(B, features)`, where there is one for the whole sequence.
        lengths: `(B,)` intp, how many steps of each sequence count; None when all T do.
        chance: the mean loss of the best guesser that does not look at `xs`.
    """

    xs: npt.NDArray[Any]
    ys: npt.NDArray[Any]
    lengths: Ids | None
    chance: float


def adding(T: int, B: int, seed: Seed = None, dtype: npt.DTypeLike = np.float64) -> Batch:
    """The adding problem: the sum of two marked numbers.

    Feature 0 is a number, uniform in [0, 1); feature 1 is 1 at two steps, one drawn from each half of the
    sequence, and 0 elsewhere. Always answering 1 has a mean squared error of 1/6.

    Args:
        T: timesteps, at least 2.
        B: sequences in the batch.
        seed: see the top of the module.
        dtype: of `xs` and `ys`.

    Returns:
        xs `(T, B, 2)`, ys `(B, 1)`.

    Raises:
        UserError: a size outside its range.
        DtypeError: a dtype that is not floating.

    Source:
        Hochreiter and Schmidhuber, "Long Short-Term Memory" (1997), experiment 4; with numbers, marks and
        lengths as in Arjovsky, Shah and Bengio, "Unitary Evolution Recurrent Neural Networks" (2016).

    Example:
        >>> xs, ys, _, chance = adding(T=50, B=8, seed=0)
        >>> xs.shape, ys.shape, round(chance, 4)
        ((50, 8, 2), (8, 1), 0.1667)
    """
    integer("adding", "T", T, 2)
    integer("adding", "B", B, 1)
    floating("adding", dtype)
    rng = as_generator(seed)
    xs = np.zeros((T, B, 2))
    xs[:, :, 0] = rng.random((T, B))
    first, second = rng.integers(0, T // 2, B), rng.integers(T // 2, T, B)
    columns = np.arange(B)
    xs[first, columns, 1] = xs[second, columns, 1] = 1
    ys = xs[first, columns, :1] + xs[second, columns, :1]
    return Batch(xs.astype(dtype), ys.astype(dtype), None, 1 / 6)


def copy_memory(T: int, B: int, seed: Seed = None, *, length: int = 10, symbols: int = 8) -> Batch:
    """Copy memory: give a string back after a wait.

    A sequence is `length` symbols with ids below `symbols`, then T - 1 blanks, a delimiter, and `length` more
    blanks. The target is blanks, and the string again in the last `length` steps. The blank has the id
    `symbols`, the delimiter `symbols + 1`. Knowing when to answer but not what has a mean cross-entropy of
    `length * ln(symbols) / (T + 2 * length)`, 10 ln 8 / (T + 20) as the task is usually set.

    Args:
        T: how long the string is to be remembered: the lag, not the length of the sequence.
        B: sequences in the batch.
        seed: see the top of the module.
        length: how many symbols to copy.
        symbols: how many different ones, at least 2.

    Returns:
        xs and ys, both ids `(T + 2 * length, B)`; `symbols + 2` different ones in xs, `symbols + 1` in ys.

    Raises:
        UserError: a size outside its range.

    Source:
        Hochreiter and Schmidhuber (1997), as set by Arjovsky, Shah and Bengio, "Unitary Evolution Recurrent
        Neural Networks" (2016).

    Example:
        >>> xs, ys, _, _ = copy_memory(T=4, B=8, seed=0, length=3)
        >>> print(xs[:, 0], ys[:, 0])
        [6 1 5 8 8 8 9 8 8 8] [8 8 8 8 8 8 8 6 1 5]
    """
    integer("copy_memory", "T", T, 1)
    integer("copy_memory", "B", B, 1)
    integer("copy_memory", "length", length, 1)
    integer("copy_memory", "symbols", symbols, 2)
    blank, delimiter = symbols, symbols + 1
    xs = np.full((T + 2 * length, B), blank, np.intp)
    ys = xs.copy()
    xs[:length] = ys[-length:] = as_generator(seed).integers(0, symbols, (length, B))
    xs[length + T - 1] = delimiter
    return Batch(xs, ys, None, length * math.log(symbols) / len(xs))


def temporal_order(T: int, B: int, seed: Seed = None, relevant: int = 2) -> Batch:
    """Temporal order: which of X and Y came first, second (and third), with distractors between.

    Ids 0 to 3 are the distractors, 4 is X and 5 is Y; 6 begins every sequence and 7 ends it. In hundredths of
    T, the relevant symbols stand at steps drawn uniformly from 10 to 20 and from 50 to 60, or, when there are
    three, from 10 to 20, 33 to 43 and 66 to 76. The class reads them as binary digits, X for 0 and Y for 1,
    the earliest being the highest digit.

    Args:
        T: timesteps, at least 10.
        B: sequences in the batch.
        seed: see the top of the module.
        relevant: how many relevant symbols, 2 or 3.

    Returns:
        xs `(T, B)`, ids of 8 symbols; ys `(B,)`, 4 or 8 classes; chance ln 4 or ln 8.

    Raises:
        UserError: a size outside its range.

    Source:
        Hochreiter and Schmidhuber, "Long Short-Term Memory" (1997), experiments 6a and 6b. There, lengths are
        drawn from 100 to 110; here all are T.

    Example:
        >>> xs, ys, _, _ = temporal_order(T=10, B=8, seed=0)
        >>> print(xs[:, 0], ys[0])
        [6 5 2 1 0 1 5 1 3 7] 3
    """
    integer("temporal_order", "T", T, 10)
    integer("temporal_order", "B", B, 1)
    integer("temporal_order", "relevant", relevant, 2, 3)
    rng = as_generator(seed)
    xs = rng.integers(0, 4, (T, B))
    xs[0], xs[-1] = 6, 7
    is_y = rng.integers(0, 2, (relevant, B))
    for symbol, percent in zip(is_y, (10, 50) if relevant == 2 else (10, 33, 66), strict=True):
        at = rng.integers(T * percent // 100, T * (percent + 10) // 100 + 1, B)
        xs[at, np.arange(B)] = 4 + symbol
    weights = 2 ** np.arange(relevant)[::-1]
    return Batch(xs.astype(np.intp), (weights @ is_y).astype(np.intp), None, relevant * math.log(2))


def parity(
    T: int, B: int, seed: Seed = None, *, every_step: bool = True, dtype: npt.DTypeLike = np.float64
) -> Batch:
    """Parity: is the number of ones so far odd?

    One bit of memory is enough, but every input matters for ever, and no part of the input helps without the
    rest. With a target at every step the first ones teach the rule; with the last alone it is much harder.

    Args:
        T: timesteps.
        B: sequences in the batch.
        seed: see the top of the module.
        every_step: a target at every step, or only one for the whole sequence.
        dtype: of `xs`.

    Returns:
        xs `(T, B, 1)`, fair bits; ys `(T, B)` or `(B,)`, 1 for odd; chance ln 2.

    Raises:
        UserError: a size outside its range.
        DtypeError: a dtype that is not floating.

    Source:
        Minsky and Papert, "Perceptrons" (1969), for parity as the function that needs every input at once.

    Example:
        >>> xs, ys, _, _ = parity(T=6, B=8, seed=0)
        >>> print(xs[:, 0, 0], ys[:, 0])
        [1. 0. 1. 0. 0. 0.] [1 1 0 0 0 0]
    """
    integer("parity", "T", T, 1)
    integer("parity", "B", B, 1)
    floating("parity", dtype)
    bits = as_generator(seed).integers(0, 2, (T, B))
    odd = (np.cumsum(bits, axis=0) % 2).astype(np.intp)
    return Batch(bits[:, :, None].astype(dtype), odd if every_step else odd[-1], None, math.log(2))


def sine_prediction(
    T: int,
    B: int,
    seed: Seed = None,
    *,
    period: tuple[float, float] = (8.0, 32.0),
    dtype: npt.DTypeLike = np.float64,
) -> Batch:
    """Sine prediction: the next value of a sine wave of amplitude 1.

    Each sequence has its own phase, uniform, and its own period, uniform in the range. After two values the
    next is determined, so that only the first step's error cannot be brought down to nothing. Always
    answering 0 has a mean squared error of 1/2; repeating the last value, which is no guess, has one of
    1 - cos(2 pi / period).

    Args:
        T: timesteps.
        B: sequences in the batch.
        seed: see the top of the module.
        period: the shortest and the longest period in timesteps, at least 2.
        dtype: of `xs` and `ys`.

    Returns:
        xs and ys `(T, B, 1)`; ys is xs one step later.

    Raises:
        UserError: a size outside its range.
        DtypeError: a dtype that is not floating.

    Example:
        >>> xs, ys, _, _ = sine_prediction(T=20, B=8, seed=0)
        >>> xs.shape, bool((xs[1:] == ys[:-1]).all())
        ((20, 8, 1), True)
    """
    integer("sine_prediction", "T", T, 1)
    integer("sine_prediction", "B", B, 1)
    floating("sine_prediction", dtype)
    shortest, longest = limits("sine_prediction", "period", period)
    if not 2 <= shortest <= longest < math.inf:
        raise UserError(f"sine_prediction: period must run from at least 2 timesteps upwards, not {period!r}")
    rng = as_generator(seed)
    phase, omega = rng.uniform(0, 2 * np.pi, B), 2 * np.pi / rng.uniform(shortest, longest, B)
    wave = np.sin(omega * np.arange(T + 1)[:, None] + phase)[:, :, None].astype(dtype)
    return Batch(wave[:-1], wave[1:].copy(), None, 0.5)
