"""Text for character models: reading, encoding, and cutting into windows that carry state.

Arrays are time-major: a window is `(T, B)`, and column b goes on where it left off in the window before.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tensorgrad.errors import CheckpointError, DtypeError, ShapeError, UserError

__all__ = ["PAD", "Vocabulary", "Windows", "pad", "read_text", "split", "streams"]

Ids = npt.NDArray[np.intp]

PAD = 0
"""What stands after the end of a shorter sequence."""


class Vocabulary:
    """The characters of a text in code point order; a character's id is its place.

    Args:
        text: any string with at least two different characters.

    Raises:
        UserError: fewer than two different characters, so that there is nothing to predict.

    Example:
        >>> vocabulary = Vocabulary("hello")
        >>> vocabulary.characters
        'ehlo'
        >>> vocabulary.encode("hole")
        array([1, 3, 2, 0])
        >>> vocabulary.decode([1, 3, 2, 0])
        'hole'
    """

    def __init__(self, text: str) -> None:
        self._codes = np.unique(_code_points(text))
        self.characters = "".join(map(chr, self._codes))
        if len(self) < 2:
            known = f"only the character {self.characters!r}" if self.characters else "no characters"
            raise UserError(f"the text has {known}, so there is nothing to predict; give it at least two")

    def __len__(self) -> int:
        return len(self.characters)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Vocabulary) and self.characters == other.characters

    def __hash__(self) -> int:
        return hash(self.characters)

    def __repr__(self) -> str:
        return f"Vocabulary({self.characters!r})"

    def encode(self, text: str) -> Ids:
        """The id of every character.

        Args:
            text: n characters, all of them known.

        Returns:
            `(n,)`, intp.

        Raises:
            UserError: an unknown character; names it, its position and what is known.

        Example:
            >>> Vocabulary("ab").encode("abc")
            Traceback (most recent call last):
            tensorgrad.errors.UserError: the character 'c' at position 2 is unknown; the vocabulary has 'ab'
        """
        codes = _code_points(text)
        ids = np.minimum(np.searchsorted(self._codes, codes), len(self) - 1)
        unknown = np.flatnonzero(self._codes[ids] != codes)
        if unknown.size:
            at = int(unknown[0])
            more = f" and {len(self) - 80} more" if len(self) > 80 else ""
            raise UserError(
                f"the character {text[at]!r} at position {at} is unknown; the vocabulary has "
                f"{self.characters[:80]!r}{more}"
            )
        return ids

    def decode(self, ids: npt.ArrayLike) -> str:
        """The text of some ids.

        Args:
            ids: integers of any shape, read in C order.

        Returns:
            A string with a character for each id.

        Raises:
            ShapeError: an id outside the vocabulary.
            DtypeError: ids that are not integers.

        Example:
            >>> Vocabulary("ab").decode([0, 1, 1])
            'abb'
        """
        numbers = np.asarray(ids).ravel()
        if numbers.size == 0:
            return ""
        if numbers.dtype.kind not in "iu":
            raise DtypeError(f"decode: ids are integers, not {numbers.dtype}")
        # Negative ids would count from the end, and give the wrong character without a word.
        if numbers.min() < 0 or numbers.max() >= len(self):
            given = f"{numbers.min()} to {numbers.max()}"
            raise ShapeError(f"decode: ids must be from 0 to {len(self) - 1}, but run from {given}")
        return "".join(map(chr, self._codes[numbers]))

    def to_json(self) -> list[str]:
        """The characters in the order of their ids, for a checkpoint's meta.

        Example:
            >>> Vocabulary("hello").to_json()
            ['e', 'h', 'l', 'o']
        """
        return list(self.characters)

    @classmethod
    def from_json(cls, characters: Any) -> Vocabulary:
        """The vocabulary that `to_json` described.

        Args:
            characters: what `to_json` returned, perhaps after a trip through JSON.

        Raises:
            CheckpointError: not at least two different characters in code point order.

        Example:
            >>> Vocabulary.from_json(["a", "b"])
            Vocabulary('ab')
        """
        if isinstance(characters, list) and all(isinstance(item, str) for item in characters):
            distinct = sorted(set("".join(characters)))
            if len(distinct) > 1 and distinct == characters:
                return cls("".join(characters))
        raise CheckpointError("the vocabulary is damaged: it must list characters in code point order")


def read_text(path: str | os.PathLike[str]) -> str:
    """The UTF-8 text in a file, line ends as they are, without a byte order mark.

    Args:
        path: the file to read.

    Raises:
        UserError: one sentence for a file that is missing, a folder, empty, unreadable or not UTF-8.

    Example:
        >>> read_text("nowhere.txt")
        Traceback (most recent call last):
        tensorgrad.errors.UserError: there is no file nowhere.txt
    """
    if os.path.isdir(path):
        raise UserError(f"{path} is a folder; name a text file")
    try:
        text = Path(path).read_bytes().decode("utf-8").removeprefix("\ufeff")
    except FileNotFoundError as error:
        raise UserError(f"there is no file {path}") from error
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise UserError(
            f"{path} is not UTF-8: byte 0x{error.object[error.start]:02x} at offset {error.start}; "
            "save it as UTF-8 text first"
        ) from error
    if not text:
        raise UserError(f"{path} is empty; there is nothing to learn from")
    return text


def split(ids: Ids, fraction: float = 0.9) -> tuple[Ids, Ids]:
    """Cut a text in two, the first part for training and the rest for validation.

    Args:
        ids: `(n,)` integers.
        fraction: how much goes to the first part, above 0 and at most 1.

    Returns:
        Views `(int(n * fraction),)` and the rest.

    Raises:
        UserError: a fraction outside its range.

    Example:
        >>> split(np.arange(4), 0.5)
        (array([0, 1]), array([2, 3]))
    """
    if not 0 < fraction <= 1:
        raise UserError(f"the fraction for training must be above 0 and at most 1, not {fraction}")
    cut = int(len(ids) * fraction)
    return ids[:cut], ids[cut:]


def streams(ids: Ids, batch: int) -> Ids:
    """Cut a text into equal contiguous parts, one for each row of a batch.

    Args:
        ids: `(N,)` integers.
        batch: B, how many parts.

    Returns:
        A view `(B, n)` with n = N // B; the few ids left over at the end are dropped.

    Raises:
        UserError: `batch` is under 1, or there are fewer ids than parts.
        ShapeError: `ids` is not 1-d.

    Example:
        >>> streams(np.arange(7), 2)
        array([[0, 1, 2],
               [3, 4, 5]])
    """
    _check_text(ids)
    _at_least_one("the batch size", batch)
    if len(ids) < batch:
        raise UserError(f"the text has {len(ids)} characters, and a batch of {batch} needs at least {batch}")
    n = len(ids) // batch
    return ids[: batch * n].reshape(batch, n)


class Windows:
    """Endless training windows over a text, in reading order, and resumable.

    Each column of a batch reads its own stream of the text, window after window, so that the recurrent state
    can be carried on; `reset` tells when it must not be: on the first window, and each time the text starts
    again. What is left at the end of a stream when no whole window fits is not read.

    Args:
        ids: `(n,)` integers, at least T * B + 1 of them.
        T: timesteps in a window.
        B: streams in a batch.

    Attributes:
        per_pass: windows in one pass over the text.
        position: windows given so far.

    Raises:
        UserError: T or B is under 1, or the text is shorter than one window.
        ShapeError: `ids` is not 1-d.

    Example:
        >>> windows = Windows(np.arange(9), T=2, B=2)
        >>> for _ in range(3):
        ...     xs, ys, reset = next(windows)
        ...     print(xs.tolist(), ys.tolist(), reset)
        [[0, 4], [1, 5]] [[1, 5], [2, 6]] True
        [[2, 6], [3, 7]] [[3, 7], [4, 8]] False
        [[0, 4], [1, 5]] [[1, 5], [2, 6]] True
    """

    def __init__(self, ids: Ids, T: int, B: int) -> None:
        _check_text(ids)
        _at_least_one("the window length", T)
        _at_least_one("the batch size", B)
        needed = T * B + 1
        if len(ids) < needed:
            raise UserError(
                f"the text has {len(ids)} characters, and windows of {T} timesteps in a batch of {B} need at "
                f"least {needed}; shorten the window, use a smaller batch or give a longer text"
            )
        # The targets are the same streams one character on: the end of each has its target in the next.
        self._xs, self._ys = streams(ids[:-1], B), streams(ids[1:], B)
        self._T = T
        crc32 = zlib.crc32(np.asarray(ids, "<i8").tobytes())
        self._text = {"T": T, "B": B, "length": len(ids), "crc32": crc32}
        self.per_pass = self._xs.shape[1] // T
        self.position = 0

    def __iter__(self) -> Iterator[tuple[Ids, Ids, bool]]:
        return self

    def __next__(self) -> tuple[Ids, Ids, bool]:
        k = self.position % self.per_pass
        self.position += 1
        window = slice(k * self._T, (k + 1) * self._T)
        xs, ys = self._xs[:, window].T, self._ys[:, window].T
        return np.ascontiguousarray(xs), np.ascontiguousarray(ys), k == 0

    def state(self) -> dict[str, int]:
        """Where the next window starts, and of which text, as JSON.

        Example:
            >>> windows = Windows(np.arange(9), T=2, B=2)
            >>> _ = next(windows)
            >>> windows.state()["position"]
            1
        """
        return {**self._text, "position": self.position}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on exactly where `state` was taken.

        Args:
            state: what `state` returned, perhaps after a trip through JSON.

        Raises:
            CheckpointError: it was taken from another text or with other window sizes, or is damaged; nothing
                changes.

        Example:
            >>> windows, again = Windows(np.arange(9), T=2, B=2), Windows(np.arange(9), T=2, B=2)
            >>> _ = next(windows)
            >>> again.restore(windows.state())
            >>> next(again)[0].tolist()
            [[2, 6], [3, 7]]
        """
        position = state.get("position")
        if type(position) is not int or position < 0 or state.keys() != self.state().keys():
            raise CheckpointError(f"the position in the text is damaged: {dict(state)!r}")
        saved = {key: state[key] for key in self._text}
        for key, name in (("T", "windows of T"), ("B", "a batch of B"), ("length", "a text of length")):
            was, now = saved[key], self._text[key]
            if was != now:
                raise CheckpointError(f"the position was saved for {name} = {was}, but here it is {now}")
        if saved != self._text:
            raise CheckpointError("the position was saved for another text of the same length")
        self.position = position


def pad(sequences: Sequence[npt.ArrayLike]) -> tuple[npt.NDArray[Any], Ids]:
    """Put sequences of different lengths side by side, with zeros after their ends.

    Args:
        sequences: B arrays `(t,)`.

    Returns:
        The array `(T, B)` of the sequences' common dtype, T being the longest length; and the lengths `(B,)`,
        intp.

    Raises:
        ShapeError: no sequences, or one that is not 1-d.

    Example:
        >>> array, lengths = pad([[1, 2, 3], [4]])
        >>> array.T
        array([[1, 2, 3],
               [4, 0, 0]])
        >>> lengths
        array([3, 1])
    """
    arrays = [np.asarray(sequence) for sequence in sequences]
    if not arrays:
        raise ShapeError("pad: there are no sequences to put together")
    for b, array in enumerate(arrays):
        if array.ndim != 1:
            raise ShapeError(f"pad: sequence {b} has shape {array.shape}; each must be 1-d")
    lengths = np.array([len(array) for array in arrays], np.intp)
    padded = np.full((int(lengths.max()), len(arrays)), PAD, np.result_type(*arrays))
    for b, array in enumerate(arrays):
        padded[: len(array), b] = array
    return padded, lengths


def _code_points(text: str) -> npt.NDArray[np.uint32]:
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), "<u4")


def _at_least_one(what: str, value: int) -> None:
    if value < 1:
        raise UserError(f"{what} must be at least 1, not {value}")


def _check_text(ids: Ids) -> None:
    if ids.ndim != 1:
        raise ShapeError(f"a text's ids are 1-d, but these have shape {ids.shape}")
