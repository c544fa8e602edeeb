"""Word embeddings: a vector for each word, learned from the words that stand around it.

Skip-gram predicts the words around a word from its vector; CBOW predicts a word from the mean of the vectors
around it. Either way h, the vector or mean on the input side, is to score high with the output vector v' of
what stands there, and low with those of k noise words drawn from P_n:

    loss = -log sigmoid(v'_target . h) - k E_(w ~ P_n) log sigmoid(-v'_w . h)

Sources: Mikolov, Chen, Corrado, Dean, "Efficient Estimation of Word Representations in Vector Space" (2013),
sections 3.1 and 3.2, for both architectures; Mikolov, Sutskever, Chen, Corrado, Dean, "Distributed
Representations of Words and Phrases and their Compositionality" (2013) for the loss (equation 4), the
subsampling of frequent words (equation 5) and the noise, unigram counts to the power 3/4 (section 2.2).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from tensorgrad import functional as F
from tensorgrad import nn
from tensorgrad.compile import compile
from tensorgrad.data.arguments import floating, integer
from tensorgrad.errors import CheckpointError, UserError
from tensorgrad.models.files import Saved
from tensorgrad.models.words import WordVocabulary
from tensorgrad.nn import init
from tensorgrad.ops import einsum, take
from tensorgrad.optim import Adam
from tensorgrad.random import Seed, as_generator
from tensorgrad.recording import label
from tensorgrad.tensor import Tensor

__all__ = ["ARCHITECTURES", "Batch", "Step", "WordEmbedding", "batches", "train"]

ARCHITECTURES = ("skip-gram", "cbow")

_NOISE_POWER = 0.75


class Batch(NamedTuple):
    """B places of a text: what is known there, and what is to be predicted.

    For skip-gram the input is the word at the place and the targets are those around it, for CBOW the other
    way round. The masks tell which of the 2 W places around are within the window.

    Attributes:
        inputs: (B, C) ids, of whose vectors h is the mean.
        input_mask: (B, C) booleans, at least one in each row.
        targets: (B, N) ids.
        target_mask: (B, N) booleans, at least one in each row.
        noise: (S,) ids drawn from P_n, for all rows in common.
    """

    inputs: npt.NDArray[np.intp]
    input_mask: npt.NDArray[np.bool_]
    targets: npt.NDArray[np.intp]
    target_mask: npt.NDArray[np.bool_]
    noise: npt.NDArray[np.intp]


class WordEmbedding(Saved):
    """Two vectors for each word: one to know it by, and one to be predicted by.

    Args:
        vocabulary: the V words it knows.
        architecture: "skip-gram" or "cbow"; how `train` makes batches.
        dimension: D, the length of the vectors.
        seed: an int or a Generator for the initial vectors.
        dtype: of the vectors, a floating one.

    Attributes:
        vocabulary, architecture: as given.
        vectors: (V, D), the embedding; row i belongs to word i. Starts uniform within 1 / (2 D).
        output_vectors: (V, D), needed in training alone. Starts at zero.

    Raises:
        UserError: an unknown architecture, a dimension under 1.
        DtypeError: a dtype that is not floating.

    Example:
        >>> text = "the cat sat and the dog sat and the cat ran and the dog ran"
        >>> model = WordEmbedding(WordVocabulary(text, min_count=2), dimension=8, seed=0)
        >>> for step in train(model, text, steps=200, batch=8, sample=1, seed=0):
        ...     pass
        >>> [word for word, cosine in model.nearest("cat", 1)]
        ['dog']
    """

    def __init__(
        self,
        vocabulary: WordVocabulary,
        architecture: str = "skip-gram",
        dimension: int = 64,
        *,
        seed: Seed = None,
        dtype: Any = np.float32,
    ) -> None:
        if architecture not in ARCHITECTURES:
            raise UserError(
                f"the architecture must be one of {', '.join(ARCHITECTURES)}, not {architecture!r}"
            )
        integer("WordEmbedding", "dimension", dimension, 1)
        floating("WordEmbedding", dtype)
        self.vocabulary = vocabulary
        self.architecture = architecture
        shape = (len(vocabulary), dimension)
        self.vectors = nn.Parameter(init.uniform(shape, 0.5 / dimension, seed, dtype))
        self.output_vectors = nn.Parameter(np.zeros(shape, dtype))

    def extra_repr(self) -> str:
        V, D = self.vectors.shape
        return f"{self.architecture}, {V} words, {D} dimensions"

    def loss(self, batch: Batch, negatives: int = 5) -> Tensor:
        """Negative sampling, as the mean over all pairs of h and a target.

        Equation 4 draws k noise words for every pair. Here S words serve all pairs, each weighted k / S: the
        expectation is the same, and the scores are one product of matrices.

        Args:
            batch: what is known and what is to be predicted.
            negatives: k, what the noise weighs against one target.

        Returns:
            The loss in nats for each pair, 0-d.

        Raises:
            ShapeError: an id that is no word.

        Example:
            >>> model = WordEmbedding(WordVocabulary("to be or not to be", min_count=1), seed=0)
            >>> batch = next(batches(model.vocabulary.encode("to be or not to be"), sample=1, seed=0))
            >>> round(model.loss(batch).item(), 4)  # all scores are 0 at first: 6 log 2
            4.1589
        """
        share = batch.input_mask / batch.input_mask.sum(axis=1, keepdims=True)
        weights = share.astype(self.vectors.dtype)[:, :, None]
        h = (weights * take(self.vectors, batch.inputs, axis=0)).sum(axis=1)
        scores = einsum("bd,bnd->bn", h, take(self.output_vectors, batch.targets, axis=0))
        noise_scores = F.linear(h, take(self.output_vectors, batch.noise, axis=0))
        mask = batch.target_mask.astype(h.dtype)
        pairs = mask.sum(axis=1, keepdims=True)
        hit = (F.softplus(-scores) * mask).sum()
        noise = negatives * (F.softplus(noise_scores).mean(axis=1, keepdims=True) * pairs).sum()
        return label((hit + noise) / pairs.sum(), "loss")

    def vector(self, word: str) -> npt.NDArray[Any]:
        """The vector of a word, (D,).

        Args:
            word: a known word.

        Raises:
            UserError: an unknown word; names those that are spelled much like it.
        """
        return self.vectors.numpy()[self.vocabulary.id(word)]

    def similarity(self, a: str, b: str) -> float:
        """The cosine of the angle between two words' vectors, from -1 to 1.

        Args:
            a, b: known words.

        Raises:
            UserError: an unknown word; names those that are spelled much like it.
        """
        unit = self._unit()
        return float(unit[self.vocabulary.id(a)] @ unit[self.vocabulary.id(b)])

    def nearest(self, word: str, n: int = 10) -> list[tuple[str, float]]:
        """The words whose vectors point most nearly in the same direction.

        Args:
            word: a known word.
            n: how many to give, fewer if there are not so many.

        Returns:
            Words and cosines, the nearest first, without the word itself and `UNKNOWN`.

        Raises:
            UserError: an unknown word (names those that are spelled much like it), or n under 1.
        """
        i = self.vocabulary.id(word)
        return self._closest(self._unit()[i], n, [i])

    def analogy(self, a: str, b: str, c: str, n: int = 1) -> list[tuple[str, float]]:
        """What is to c as b is to a: the words nearest to b - a + c, vectors of length 1 ("3CosAdd").

        Sources: Mikolov, Yih, Zweig, "Linguistic Regularities in Continuous Space Word Representations"
        (2013); the name is from Levy, Goldberg, "Linguistic Regularities in Sparse and Explicit Word
        Representations" (2014).

        Args:
            a, b, c: known words.
            n: how many to give, fewer if there are not so many.

        Returns:
            Words and their cosines with b - a + c, the nearest first, without a, b, c and `UNKNOWN`.

        Raises:
            UserError: an unknown word (names those that are spelled much like it), or n under 1.
        """
        i, j, k = (self.vocabulary.id(word) for word in (a, b, c))
        unit = self._unit()
        return self._closest(unit[j] - unit[i] + unit[k], n, [i, j, k])

    def _unit(self) -> npt.NDArray[Any]:
        """All vectors, of length 1 each."""
        vectors = self.vectors.numpy()
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        return vectors / np.maximum(lengths, np.finfo(vectors.dtype).tiny)

    def _closest(self, direction: npt.NDArray[Any], n: int, without: list[int]) -> list[tuple[str, float]]:
        integer("WordEmbedding", "n", n, 1)
        cosines = self._unit() @ direction / max(float(np.linalg.norm(direction)), math.ulp(0.0))
        left_out = {0, *without}
        order = [int(i) for i in np.argsort(-cosines, kind="stable") if i not in left_out]
        return [(self.vocabulary.words[i], float(cosines[i])) for i in order[:n]]

    def config(self) -> dict[str, Any]:
        return {
            "vocabulary": self.vocabulary.to_json(),
            "architecture": self.architecture,
            "dimension": self.vectors.shape[1],
            "dtype": self.vectors.dtype.name,
        }

    @classmethod
    def arguments(cls, config: Mapping[str, Any]) -> dict[str, Any]:
        return {**config, "vocabulary": WordVocabulary.from_json(config.get("vocabulary"))}

    @classmethod
    def check_config(cls, arguments: Mapping[str, Any], weights: Mapping[str, Any]) -> None:
        V, D = len(arguments["vocabulary"]), arguments.get("dimension")
        shape = np.shape(weights.get("vectors", ()))
        if type(D) is not int or shape != (V, D):
            raise CheckpointError(
                f"it describes {V} words and {D!r} dimensions, but its vectors have shape {shape}"
            )


def batches(
    ids: npt.NDArray[np.intp],
    architecture: str = "skip-gram",
    *,
    batch: int = 1024,
    window: int = 5,
    noise: int = 256,
    sample: float = 1e-3,
    seed: Seed = None,
) -> Iterator[Batch]:
    """Endless batches over a text, in every pass each place once, in an order drawn anew.

    Each pass first leaves out frequent words at random, so that the words around them move together:
    a word with frequency f stays with probability sqrt(sample / f), at most 1 (equation 5). Each place then
    draws the reach of its window from 1 .. W, so that near words count more than far ones.

    Args:
        ids: (n,) integers, the text.
        architecture: "skip-gram" or "cbow".
        batch: B, places in a batch; the last of a pass may have fewer.
        window: W, the longest reach to either side, in words.
        noise: S, how many noise words a batch shares.
        sample: the frequency above which words are thinned out; 1 keeps all.
        seed: an int or a Generator for all draws; by default tensorgrad's own.

    Raises:
        UserError: fewer than two words, or thinned out to fewer; a number out of its range.

    Example:
        >>> batch = next(batches(np.array([1, 2, 1, 3]), window=2, sample=1, seed=0))
        >>> batch.inputs.shape, batch.targets.shape, batch.noise.shape
        ((4, 1), (4, 4), (256,))
    """
    for name, size in (("batch", batch), ("window", window), ("noise", noise)):
        integer("batches", name, size, 1)
    if not 0 < sample <= 1:
        raise UserError(f"batches: sample must be a number above 0 and at most 1, not {sample}")
    if len(ids) < 2:
        raise UserError(f"batches: a text of {len(ids)} words has none that stand around another")
    counts = np.bincount(ids)
    stays = np.sqrt(sample * len(ids) / np.maximum(counts, 1))
    cumulative = np.cumsum(counts**_NOISE_POWER)
    rng = as_generator(seed)
    offsets = np.concatenate([np.arange(-window, 0), np.arange(1, window + 1)])
    while True:
        kept = ids[rng.random(len(ids)) < stays[ids]]
        if len(kept) < 2:
            raise UserError(f"batches: with sample={sample} hardly a word is left; make it larger")
        order = rng.permutation(len(kept))
        for start in range(0, len(kept), batch):
            at = order[start : start + batch, None]
            reach = rng.integers(1, window, size=at.shape, endpoint=True)
            around = at + offsets
            mask = (np.abs(offsets) <= reach) & (around >= 0) & (around < len(kept))
            # What is outside the window is masked; any id does there.
            centres, contexts = kept[at], kept[np.where(mask, around, 0)]
            drawn = np.searchsorted(cumulative, rng.random(noise) * cumulative[-1], side="right")
            one = np.ones(at.shape, np.bool_)
            if architecture == "skip-gram":
                yield Batch(centres, one, contexts, mask, drawn)
            else:
                yield Batch(contexts, mask, centres, one, drawn)


class Step(NamedTuple):
    """What one step of training did.

    Attributes:
        number: steps done so far, this one included.
        loss: nats for each pair, before the update.
    """

    number: int
    loss: float


def train(
    model: WordEmbedding,
    text: str,
    *,
    steps: int = 1500,
    lr: float = 0.05,
    batch: int = 1024,
    window: int = 5,
    negatives: int = 5,
    noise: int = 256,
    sample: float = 1e-3,
    seed: Seed = None,
    compiled: bool = True,
) -> Iterator[Step]:
    """Adam on batches of a text; the learning rate falls evenly to zero.

    Nothing happens until the steps are asked for, and one can stop after any.

    Args:
        model: what learns; its architecture says from what.
        text: any string.
        steps: how many batches to learn from.
        lr: the first learning rate.
        negatives: k, what the noise weighs against one target.
        batch, window, noise, sample, seed: as for `batches`.
        compiled: whether the gradients are computed compiled (see `tg.compile`), or eagerly.

    Raises:
        UserError: a number out of its range, a text without two words, a loss that is not finite.

    Example:
        >>> text = "to be or not to be that is the question"
        >>> model = WordEmbedding(WordVocabulary(text, min_count=1), "cbow", seed=0)
        >>> losses = [step.loss for step in train(model, text, steps=50, sample=1, seed=0)]
        >>> losses[-1] < losses[0] / 2
        True
    """
    integer("train", "steps", steps, 1)
    integer("train", "negatives", negatives, 1)
    adam = Adam(model.parameters(), lr)
    ids = model.vocabulary.encode(text)
    source = batches(
        ids, model.architecture, batch=batch, window=window, noise=noise, sample=sample, seed=seed
    )

    def differentiate(batch: Batch) -> Tensor:
        adam.zero_grad()
        loss = model.loss(batch, negatives)
        loss.backward()
        return loss

    gradients = compile(differentiate) if compiled else differentiate
    for number in range(1, steps + 1):
        loss = gradients(next(source))
        if not math.isfinite(loss.item()):
            raise UserError(f"the loss is {loss.item()} at step {number}; train again with lr under {lr}")
        adam.lr = lr * (1 - (number - 1) / steps)
        adam.step()
        yield Step(number, loss.item())
