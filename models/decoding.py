"""From a model's scores to ids: drawing them, or searching for the likeliest sequence. Knows no model.

    p_i = softmax(y / temperature)_i     over the ids that top-k and top-p leave
    beam search: of all continuations of the `width` likeliest sequences so far, keep the `width` likeliest

Sources: top-k: Fan, Lewis, Dauphin, "Hierarchical Neural Story Generation" (2018). Top-p (nucleus sampling):
Holtzman, Buys, Du, Forbes, Choi, "The Curious Case of Neural Text Degeneration" (2020). Beam search:
Sutskever, Vinyals, Le, "Sequence to Sequence Learning with Neural Networks" (2014). Its length penalty: Wu et
al., "Google's Neural Machine Translation System" (2016), eq. 14.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from tensorgrad import functional as F
from tensorgrad import tree
from tensorgrad.errors import ShapeError, UserError
from tensorgrad.recording import no_grad

__all__ = ["Hypothesis", "Sampling", "Step", "beam_search"]

# (ids (N,), state) -> (logits (N, V), state)
Step = Callable[[npt.NDArray[np.intp], Any], tuple[npt.NDArray[Any], Any]]


@dataclass(frozen=True)
class Sampling:
    """How ids are drawn from logits: temperature first, then top-k, then top-p.

    Args:
        temperature: what the logits are divided by. Under 1 plays safe, over 1 dares more; 0 always takes the
            likeliest id.
        top_k: draw among the so many likeliest ids only; more than there are is all of them. None: no limit.
        top_p: draw only among the fewest likeliest ids that have this share of the probability together, as
            temperature and top-k left it. 1 or None: no limit.

    Of equally likely ids the lower counts as the likelier, so exactly `top_k` are left and `top_k=1` is
    temperature 0. At least one id is always left. A logit of -inf masks its id.

    Raises:
        UserError: a temperature that is negative or not finite, a top_k under 1, a top_p outside (0, 1].

    Example:
        >>> Sampling(top_k=2).probabilities(np.log([0.5, 0.2, 0.3])).round(3)
        array([0.625, 0.   , 0.375])
        >>> Sampling(top_k=0)
        Traceback (most recent call last):
        tensorgrad.errors.UserError: top_k must be a whole number from 1 up, not 0
    """

    temperature: float = 1.0
    top_k: int | None = None
    top_p: float | None = None

    def __post_init__(self) -> None:
        if not (self.temperature >= 0 and math.isfinite(self.temperature)):
            raise UserError(f"the temperature must be a number from 0 up, not {self.temperature}")
        if self.top_k is not None and not _whole(self.top_k, 1):
            raise UserError(f"top_k must be a whole number from 1 up, not {self.top_k}")
        if self.top_p is not None and not 0 < self.top_p <= 1:
            raise UserError(f"top_p must be a number over 0 and at most 1, not {self.top_p}")

    def probabilities(self, logits: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """The distribution that ids are drawn from.

        Args:
            logits: (..., V).

        Returns:
            (..., V) in float64, zero for what is never drawn.

        Raises:
            UserError: a logit is NaN or +inf, or none in a row is finite.

        Example:
            >>> Sampling(temperature=0).probabilities([1.0, 3.0, 2.0])
            array([0., 1., 0.])
        """
        weights = self._weights(_checked(logits))
        return weights / weights.sum(axis=-1, keepdims=True)

    def draw(self, logits: npt.ArrayLike, rng: np.random.Generator) -> npt.NDArray[np.intp]:
        """An id for every row of logits.

        Args:
            logits: (..., V).
            rng: gives one number for each row, and none at temperature 0.

        Returns:
            (...) integers.

        Raises:
            UserError: a logit is NaN or +inf, or none in a row is finite: the weights have diverged.

        Example:
            >>> Sampling(top_p=0.6).draw(np.log([[0.7, 0.3], [0.1, 0.9]]), np.random.default_rng(0))
            array([0, 1])
        """
        logits = _checked(logits)
        if self.temperature == 0:
            return logits.argmax(axis=-1)
        cumulative = self._weights(logits).cumsum(axis=-1)
        u = rng.random(logits.shape[:-1])[..., None] * cumulative[..., -1:]
        # The first id whose cumulative weight exceeds u: never one without weight, even where u is 0.
        return (cumulative <= u).sum(axis=-1)

    def _weights(self, logits: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """The probabilities up to a factor; a row's largest is 1."""
        # Likeliest first. By the logits, since a high temperature rounds different ones to equal weights.
        order = np.argsort(-logits, axis=-1, kind="stable")
        if self.temperature == 0:
            return np.equal(np.arange(logits.shape[-1]), order[..., :1]).astype(np.float64)
        with np.errstate(over="ignore"):  # a tiny temperature, or far apart: -inf is what it should be
            weights = np.exp((logits - logits.max(axis=-1, keepdims=True)) / self.temperature)
        ranked = np.take_along_axis(weights, order, axis=-1)
        if self.top_k is not None:
            ranked[..., self.top_k :] = 0
        if self.top_p is not None and self.top_p < 1:
            cumulative = ranked.cumsum(axis=-1)
            enough = cumulative >= self.top_p * cumulative[..., -1:]
            ranked[..., 1:][enough[..., :-1]] = 0
        np.put_along_axis(weights, order, ranked, axis=-1)
        return weights


class Hypothesis(NamedTuple):
    """A sequence that beam search found.

    Attributes:
        ids: what was written after the start, with the end if it was reached.
        log_probability: of all the ids together, in nats.
        score: the log-probability divided by the length penalty; what hypotheses are ranked by.
        finished: whether it reached the end, or was cut off at the length asked for.
    """

    ids: tuple[int, ...]
    log_probability: float
    score: float
    finished: bool


def beam_search(
    step: Step,
    state: Any,
    start: npt.ArrayLike,
    *,
    width: int,
    length: int,
    end: int | None = None,
    length_penalty: float = 0.0,
) -> list[list[Hypothesis]]:
    """The likeliest sequences that a beam search finds, for B sources at once; records no graph.

    At each length the `width` likeliest sequences of a source are kept. Those that reach the end leave the
    beam and are ranked by log p / ((5 + n) / 6)^length_penalty, n being their length. Width 1 is greedy
    decoding. A sequence is dropped as soon as it cannot beat the best finished one: log p only falls, so what
    it is now, over the penalty of the full length, is the most that its score can become.

    Args:
        step: (ids (N,), state) -> (logits (N, V), state): the scores of what follows these ids. N is how many
            hypotheses of all sources are alive, and changes.
        state: a tree of arrays or Tensors with the sources on axis 0; None and numbers stay as they are.
        start: (B,) integers, the id that each source goes on from.
        width: how many sequences of a source are kept, at least 1.
        length: how many ids to write at most.
        end: the id that finishes a sequence; None for none.
        length_penalty: alpha, from 0 up. Every id makes a sequence less likely, so 0 prefers short ones.

    Returns:
        For each source its hypotheses, the best first. That one is the best the search could find; after it
        stand at most `width` - 1 others that it met on the way.

    Raises:
        UserError: a width, length or penalty out of range; or, from the model, scores that are not finite.
        ShapeError: a start that is not (B,), logits that are not (N, V), a state without N rows.

    Source: Sutskever et al. (2014); the penalty: Wu et al. (2016), eq. 14.

    Example:
        >>> P = np.array([[0.1, 0.5, 0.4], [0.4, 0.3, 0.3], [0.0, 0.1, 0.9]])  # of the next id, by the last
        >>> with np.errstate(divide="ignore"):
        ...     step = lambda ids, state: (np.log(P)[ids], state)
        ...     greedy, beam = (beam_search(step, None, [0], width=w, length=2)[0][0] for w in (1, 2))
        >>> greedy.ids, beam.ids, round(math.exp(beam.log_probability), 3)
        ((1, 0), (2, 2), 0.36)
    """
    ids = _checked_start(start, width, length, length_penalty)
    owner = np.arange(len(ids))  # the source of each hypothesis; those of one source stand together
    written = np.zeros((len(ids), 0), np.intp)
    totals = np.zeros(len(ids))
    found: list[list[Hypothesis]] = [[] for _ in ids]
    best = np.full(len(ids), -np.inf)  # the best finished score of each source

    with no_grad():
        for _ in range(length):
            if not len(ids):
                break
            logits, state = step(ids, state)
            _check_rows(logits, state, len(ids))
            candidates = totals[:, None] + F.log_softmax(_checked(logits))
            rows, ids, totals = _likeliest(candidates, owner, width)
            owner, written = owner[rows], np.column_stack([written[rows], ids])
            ended = ids == (-1 if end is None else end)
            for b, line, total in zip(owner[ended], written[ended], totals[ended], strict=True):
                found[b].append(_hypothesis(line, total, length_penalty, finished=True))
                best[b] = max(best[b], found[b][-1].score)
            alive = ~ended & (totals / _penalty(length, length_penalty) > best[owner])
            ids, totals, owner, written = ids[alive], totals[alive], owner[alive], written[alive]
            state = _take(state, rows[alive])
    for b, line, total in zip(owner, written, totals, strict=True):
        found[b].append(_hypothesis(line, total, length_penalty, finished=False))
    return [sorted(each, key=lambda h: h.score, reverse=True)[:width] for each in found]


def _likeliest(
    candidates: npt.NDArray[np.float64], owner: npt.NDArray[np.intp], width: int
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp], npt.NDArray[np.float64]]:
    """Of the (N, V) candidates the `width` likeliest of each owner: their rows, ids and log-probabilities."""
    flat, V = candidates.ravel(), candidates.shape[1]
    chosen = []
    bounds = np.flatnonzero(np.diff(owner, prepend=-1, append=-1)) * V
    for a, b in pairwise(bounds):
        # Stable: of equally likely ones the lower id, as argmax has it.
        chosen.append(a + np.argsort(-flat[a:b], kind="stable")[:width])
    places = np.concatenate(chosen)
    places = places[flat[places] > -np.inf]
    return places // V, places % V, flat[places]


def _hypothesis(
    written: npt.NDArray[np.intp], total: float, length_penalty: float, finished: bool
) -> Hypothesis:
    score = float(total) / _penalty(len(written), length_penalty)
    return Hypothesis(tuple(written.tolist()), float(total), score, finished)


def _penalty(n: int, alpha: float) -> float:
    return ((5 + n) / 6) ** alpha


def _take(state: Any, rows: npt.NDArray[np.intp]) -> Any:
    """The state with these rows of axis 0; numbers, such as a position, belong to all rows."""
    return tree.map(lambda leaf: leaf[rows] if np.ndim(leaf) else leaf, state)


def _checked(logits: npt.ArrayLike) -> npt.NDArray[np.float64]:
    logits = np.asarray(logits, np.float64)
    # The maximum is NaN, +inf, or -inf exactly where there is a NaN, a +inf, or nothing finite.
    if not np.isfinite(logits.max(axis=-1)).all():
        raise UserError("the model's scores are not finite, so its weights have diverged; train it again")
    return logits


def _whole(number: object, least: int) -> bool:
    return isinstance(number, (int, np.integer)) and not isinstance(number, bool) and int(number) >= least


def _checked_start(start: npt.ArrayLike, width: int, length: int, penalty: float) -> npt.NDArray[np.intp]:
    if not _whole(width, 1):
        raise UserError(f"the width of a beam must be a whole number from 1 up, not {width}")
    if not _whole(length, 0):
        raise UserError(f"the length of a beam search must be a whole number from 0 up, not {length}")
    if not (penalty >= 0 and math.isfinite(penalty)):
        raise UserError(f"the length penalty must be a number from 0 up, not {penalty}")
    ids = np.asarray(start)
    if ids.ndim != 1 or ids.dtype.kind not in "iu":
        raise ShapeError(f"beam_search: start must be (B,) integers, not {ids.shape} {ids.dtype}")
    return ids.astype(np.intp)


def _check_rows(logits: npt.NDArray[Any], state: Any, N: int) -> None:
    if np.ndim(logits) != 2 or len(logits) != N:
        raise ShapeError(
            f"beam_search: for {N} ids the step must return logits ({N}, V), not {np.shape(logits)}"
        )
    for path, leaf in zip(tree.paths(state), tree.leaves(state), strict=True):
        if np.ndim(leaf) and len(leaf) != N:
            raise ShapeError(
                f"beam_search: for {N} ids the step must return a state with {N} rows on axis 0, but "
                f"{path or 'the state'} has shape {np.shape(leaf)}"
            )
