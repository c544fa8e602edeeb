"""Text as words: cutting it up, and numbering the words that come often enough."""

from __future__ import annotations

import difflib
import re
from collections import Counter
from typing import Any

import numpy as np
import numpy.typing as npt

from tensorgrad.data.arguments import integer
from tensorgrad.errors import CheckpointError, UserError

__all__ = ["UNKNOWN", "WordVocabulary", "words_of"]

UNKNOWN = "<unk>"
"""Stands for every word that is too rare to be known; its id is 0."""

_WORD = re.compile(r"[^\W\d_]+(?:'[^\W\d_]+)*")


def words_of(text: str) -> list[str]:
    """The words of a text: runs of letters in lower case, with the apostrophes inside them.

    Args:
        text: any string; digits and punctuation separate words.

    Example:
        >>> words_of("O'er the king's 2 crowns--so!")
        ["o'er", 'the', "king's", 'crowns', 'so']
    """
    return _WORD.findall(text.lower().replace("\u2019", "'"))


class WordVocabulary:
    """The words of a text that come often enough, the most frequent first; a word's id is its place.

    Id 0 is `UNKNOWN`, for all other words: they keep their places in the text and share one vector.

    Args:
        text: any string.
        min_count: how often a word must come.

    Attributes:
        words: V strings, the first `UNKNOWN`; equally frequent ones in alphabetical order.

    Raises:
        UserError: fewer than two words come so often; a minimum under 1.

    Example:
        >>> vocabulary = WordVocabulary("The cat and the dog and the bird", min_count=2)
        >>> vocabulary.words
        ('<unk>', 'the', 'and')
        >>> vocabulary.encode("the cat and I")
        array([1, 0, 2, 0])
    """

    def __init__(self, text: str, min_count: int = 5) -> None:
        integer("WordVocabulary", "min_count", min_count, 1)
        counts = Counter(words_of(text))
        known = sorted((word for word, n in counts.items() if n >= min_count), key=lambda w: (-counts[w], w))
        if len(known) < 2:
            raise UserError(
                f"only {len(known)} of the text's {len(counts)} different words come {min_count} times or "
                "more; give a longer text or a smaller min_count"
            )
        self._set((UNKNOWN, *known))

    def _set(self, words: tuple[str, ...]) -> None:
        self.words = words
        self._ids = {word: i for i, word in enumerate(words)}

    def __len__(self) -> int:
        return len(self.words)

    def __contains__(self, word: object) -> bool:
        return word in self._ids

    def __eq__(self, other: object) -> bool:
        return isinstance(other, WordVocabulary) and self.words == other.words

    def __hash__(self) -> int:
        return hash(self.words)

    def __repr__(self) -> str:
        return f"<WordVocabulary of {len(self):,} words>"

    def encode(self, text: str) -> npt.NDArray[np.intp]:
        """The id of every word of a text, 0 for unknown ones.

        Args:
            text: any string, n words.

        Returns:
            (n,), intp.
        """
        return np.array([self._ids.get(word, 0) for word in words_of(text)], np.intp)

    def id(self, word: str) -> int:
        """The id of one word, which must be known; upper case does not matter.

        Args:
            word: a string.

        Raises:
            UserError: an unknown word; names those that are spelled much like it.

        Example:
            >>> WordVocabulary("a king is a king", min_count=2).id("kings")
            Traceback (most recent call last):
            tensorgrad.errors.UserError: the word 'kings' is none of the 3 known ones; did you mean 'king'?
        """
        found = self._ids.get(word.lower())
        if found is None:
            close = difflib.get_close_matches(word.lower(), self.words)
            hint = f"; did you mean {' or '.join(map(repr, close))}?" if close else ""
            raise UserError(f"the word {word!r} is none of the {len(self):,} known ones{hint}")
        return found

    def to_json(self) -> list[str]:
        """The words in the order of their ids, for a checkpoint's meta."""
        return list(self.words)

    @classmethod
    def from_json(cls, words: Any) -> WordVocabulary:
        """The vocabulary that `to_json` described.

        Args:
            words: what `to_json` returned, perhaps after a trip through JSON.

        Raises:
            CheckpointError: no list of different strings, the first of them `UNKNOWN`.

        Example:
            >>> WordVocabulary.from_json(["<unk>", "the", "and"]).id("and")
            2
        """
        if not (
            isinstance(words, list)
            and len(words) > 2
            and all(isinstance(word, str) for word in words)
            and len(set(words)) == len(words)
            and words[0] == UNKNOWN
        ):
            raise CheckpointError(
                f"the vocabulary is damaged: it must list different words after {UNKNOWN!r}"
            )
        vocabulary = cls.__new__(cls)
        vocabulary._set(tuple(words))
        return vocabulary
