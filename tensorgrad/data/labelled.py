"""Sequences with a class each: names from a file, handwritten digits, and how to split and shuffle them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from tensorgrad.data.arguments import floating, integer
from tensorgrad.data.tasks import Batch
from tensorgrad.data.text import PAD, Vocabulary, pad, read_text
from tensorgrad.errors import ShapeError, UserError
from tensorgrad.random import Seed, as_generator

__all__ = ["Names", "holdout", "minibatches", "read_names", "sequential_digits"]


class Names(NamedTuple):
    """Names and the class of each, as ids.

    Attributes:
        batch: all of them: xs `(T, N)` ids padded with `PAD`, lengths `(N,)`, ys `(N,)` places in `classes`;
            chance is the entropy of the classes in nats, the loss of answering with their frequencies.
        vocabulary: of the ids; id 0 is the padding, and no character of a name.
        classes: the labels in alphabetical order.
    """

    batch: Batch
    vocabulary: Vocabulary
    classes: tuple[str, ...]


def read_names(path: str | os.PathLike[str]) -> Names:
    """Names to classify: by language, say.

    Args:
        path: a UTF-8 text file, a name and its label on every line, with a tab or else a comma before the
            label; or a folder of files `<label>.txt` with a name on every line. Blank lines are skipped, and
            so are spaces around names and labels.

    Raises:
        UserError: what `read_text` refuses, a line without name or label or with a NUL character (says
            which), a folder without such files, or fewer than two different labels.

    Example:
        >>> import tempfile
        >>> folder = tempfile.TemporaryDirectory()
        >>> path = Path(folder.name, "names.tsv")
        >>> _ = path.write_text("Bach\\tGerman\\nSatie\\tFrench\\n", encoding="utf-8")
        >>> names = read_names(path)
        >>> folder.cleanup()
        >>> names.batch.xs.shape, names.batch.lengths, names.batch.ys, names.classes
        ((5, 2), array([4, 5]), array([1, 0]), ('French', 'German'))
        >>> names.vocabulary.decode(names.batch.xs[:4, 0])
        'Bach'
    """
    if os.path.isdir(path):
        files = sorted(Path(path).glob("*.txt"))
        if not files:
            raise UserError(f"the folder {path} has no files <label>.txt with a name on every line")
        pairs = [(name, file.stem) for file in files for _, name in _lines(file)]
    else:
        pairs = [_name_and_label(path, number, line) for number, line in _lines(path)]
    labels = [label for _, label in pairs]
    classes, ys = np.unique(labels, return_inverse=True)
    if len(classes) < 2:
        raise UserError(f"{path} has names with {len(classes)} different labels; it takes two to classify")
    vocabulary = Vocabulary(chr(PAD) + "".join(name for name, _ in pairs))
    xs, lengths = pad([vocabulary.encode(name) for name, _ in pairs])
    shares = np.bincount(ys) / len(ys)
    chance = float(-shares @ np.log(shares))
    return Names(Batch(xs, ys.astype(np.intp), lengths, chance), vocabulary, tuple(map(str, classes)))


def sequential_digits(*, rows: bool = False, dtype: npt.DTypeLike = np.float64) -> Batch:
    """Handwritten digits of 8x8 pixels, read pixel by pixel or row by row.

    The 1,797 digits that come with scikit-learn, so that nothing is downloaded: a small form of sequential
    MNIST (Le, Jaitly and Hinton, "A Simple Way to Initialize Recurrent Networks of Rectified Linear Units",
    2015).

    Args:
        rows: 8 steps of a row each, instead of 64 steps of a pixel each.
        dtype: of `xs`.

    Returns:
        xs `(64, 1797, 1)` or `(8, 1797, 8)`, from 0 to 1; ys `(1797,)`, the digits; chance ln 10, as they are
        all but equally frequent.

    Raises:
        ModuleNotFoundError: scikit-learn is not installed; says how to install it.
        DtypeError: a dtype that is not floating.

    Example:
        >>> train, test = holdout(sequential_digits(rows=True), seed=0)  # doctest: +SKIP
        >>> train.xs.shape, test.xs.shape  # doctest: +SKIP
        ((8, 1437, 8), (8, 360, 8))
    """
    floating("sequential_digits", dtype)
    try:
        from sklearn.datasets import load_digits
    except ModuleNotFoundError as missing:
        raise ModuleNotFoundError(
            "sequential_digits reads its images from scikit-learn, which is not installed: "
            "pip install scikit-learn",
            name=missing.name,
        ) from missing
    images, digits = load_digits(return_X_y=True)
    sequences = images.reshape(len(images), 8, 8) if rows else images[:, :, None]
    xs = np.ascontiguousarray(sequences.transpose(1, 0, 2) / 16, dtype)
    return Batch(xs, digits.astype(np.intp), None, float(np.log(10)))


def holdout(batch: Batch, fraction: float = 0.2, seed: Seed = None) -> tuple[Batch, Batch]:
    """Keep a random part of the sequences for testing.

    Equal sequences stay together, so that no test sequence was trained on.

    Args:
        batch: N sequences with a class each.
        fraction: the part of the different sequences that is kept, above 0 and below 1.
        seed: an int for the same split each time.

    Returns:
        The training part and the test part; neither is empty.

    Raises:
        UserError: a fraction outside its range, or fewer than two different sequences.
        ShapeError: targets that are not one for each sequence.

    Example:
        >>> batch = Batch(np.array([[1, 2, 3, 1]]), np.array([0, 1, 1, 0]), None, 0.69)
        >>> train, test = holdout(batch, 1 / 3, seed=0)
        >>> train.xs, test.xs
        (array([[1, 2, 1]]), array([[3]]))
    """
    if not 0 < fraction < 1:
        raise UserError(f"holdout: fraction must be above 0 and below 1, not {fraction!r}")
    _check("holdout", batch)
    columns = batch.xs.swapaxes(0, 1).reshape(batch.xs.shape[1], -1)
    different, which = np.unique(columns, axis=0, return_inverse=True)
    n = len(different)
    if n < 2:
        raise UserError(f"holdout: batch must have at least two different sequences to split, but has {n}")
    kept = np.zeros(n, np.bool_)
    kept[as_generator(seed).permutation(n)[: min(max(round(n * fraction), 1), n - 1)]] = True
    # NumPy 2.0 alone gives the inverse a second axis.
    in_test = kept[which.ravel()]
    return _take(batch, np.flatnonzero(~in_test)), _take(batch, np.flatnonzero(in_test))


def minibatches(batch: Batch, B: int, seed: Seed = None) -> Iterator[Batch]:
    """One pass over the sequences in random order, B at a time.

    Args:
        batch: N sequences with a class each.
        B: how many at a time; the last minibatch has what is left.
        seed: an int for the same order each time.

    Yields:
        Minibatches, cut to the longest of their lengths.

    Raises:
        UserError: B is under 1.
        ShapeError: targets that are not one for each sequence.

    Example:
        >>> batch = Batch(np.array([[1, 2, 3], [4, 0, 5]]), np.array([0, 1, 0]), np.array([2, 1, 2]), 0.64)
        >>> for xs, ys, lengths, _ in minibatches(batch, 2, seed=0):
        ...     print(xs.tolist(), ys, lengths)
        [[3, 1], [5, 4]] [0 0] [2 2]
        [[2]] [1] [1]
    """
    integer("minibatches", "B", B, 1)
    _check("minibatches", batch)
    order = as_generator(seed).permutation(batch.xs.shape[1])
    return (_take(batch, order[start : start + B]) for start in range(0, len(order), B))


def _check(function: str, batch: Batch) -> None:
    if batch.ys.shape != batch.xs.shape[1:2]:
        raise ShapeError(
            f"{function}: batch must have one class for each sequence, ys {batch.xs.shape[1:2]}, but its ys "
            f"has shape {batch.ys.shape}"
        )


def _take(batch: Batch, columns: npt.NDArray[Any]) -> Batch:
    """Some of the sequences, without steps that are padding in all of them."""
    lengths = None if batch.lengths is None else batch.lengths[columns]
    T = len(batch.xs) if lengths is None else int(lengths.max())
    return Batch(batch.xs[:T, columns], batch.ys[columns], lengths, batch.chance)


def _lines(path: str | os.PathLike[str]) -> Iterator[tuple[int, str]]:
    """The lines of a file that are not blank, with their numbers."""
    for number, line in enumerate(read_text(path).split("\n"), 1):
        if chr(PAD) in line:
            raise UserError(f"{path}, line {number}: there is a NUL character, whose id is the padding's")
        if line.strip():
            yield number, line.strip(" \r")


def _name_and_label(path: str | os.PathLike[str], number: int, line: str) -> tuple[str, str]:
    name, _, label = line.rpartition("\t" if "\t" in line else ",")
    if not name.strip() or not label.strip():
        raise UserError(f'{path}, line {number}: expected "name<TAB>label" or "name,label", found {line!r}')
    return name.strip(), label.strip()
