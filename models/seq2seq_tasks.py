"""Tasks for sequence-to-sequence models, each with settings that learn it, and the training.

The plain `Seq2Seq` reaches 99% exact match on `REVERSAL`, and on `ADDITION` with problems it was not trained
on. On `LONG_REVERSAL` it gets none right in the steps in which `AttentiveSeq2Seq` of its size gets nearly
all. `python -m benchmarks tasks` measures it; docs/seq2seq.md and docs/attention.md have the figures.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import numpy as np

from tensorgrad.compile import compile
from tensorgrad.data import Pairs, Vocabulary, addition, addition_vocabulary, reversal, reversal_vocabulary
from tensorgrad.data.arguments import integer
from tensorgrad.models.seq2seq import Seq2Seq
from tensorgrad.optim import AdamW, clip_grad_norm, cosine, warmup
from tensorgrad.random import Seed, as_generator
from tensorgrad.tensor import Tensor

__all__ = ["ADDITION", "LONG_REVERSAL", "REVERSAL", "Task", "fit"]

M = TypeVar("M", bound=Seq2Seq)

# Steps over which the learning rate rises, and the share of it that is left at the end.
_WARMUP, _FLOOR = 100, 0.01


def fit(
    model: Seq2Seq,
    draw: Callable[[], Pairs],
    steps: int,
    *,
    lr: float = 5e-3,
    weight_decay: float = 0.0,
    clip: float = 1.0,
    teacher_forcing: float = 1.0,
    seed: Seed = None,
    compiled: bool = True,
) -> Iterator[float]:
    """Train with AdamW, the learning rate rising for 100 steps and then falling along half a cosine.

    Args:
        model: is trained in place.
        draw: gives the next batch.
        steps: how many to take.
        lr: the highest learning rate.
        weight_decay: see `optim.AdamW`.
        clip: the norm at which the gradient is clipped.
        teacher_forcing, seed: see `Seq2Seq.forward`.
        compiled: whether a step runs compiled (see `tg.compile`), or eagerly, operation by operation. With
            teacher forcing below 1 it always runs eagerly, as what is read depends on what was written.

    Returns:
        An iterator that takes a step each time it is asked for the next loss, in nats per id.

    Raises:
        UserError: a number of steps under 1; as all else here, once the first loss is asked for.

    Example:
        >>> model = Seq2Seq(13, 13, hidden=16, seed=0)
        >>> losses = list(fit(model, partial(reversal, 16, (1, 2), seed=0), steps=40))
        >>> losses[-1] < losses[0]
        True
    """
    integer("fit", "steps", steps, 1)
    optimiser = AdamW(model.parameters(), lr, weight_decay=weight_decay)
    rising = min(_WARMUP, steps)
    schedule = warmup(rising, cosine(max(steps - rising, 1), _FLOOR))
    rng = as_generator(seed)

    def step(pairs: Pairs) -> Tensor:
        optimiser.zero_grad()
        loss = model.loss(pairs, teacher_forcing, rng)
        loss.backward()
        clip_grad_norm(optimiser.parameters, clip)
        optimiser.step()
        return loss

    learn = compile(step) if compiled and teacher_forcing == 1 else step
    for n in range(steps):
        optimiser.lr = lr * schedule(n)
        yield learn(draw()).item()


@dataclass(frozen=True)
class Task:
    """What to learn, and settings that learn it.

    Attributes:
        vocabulary: of sources and targets.
        draw: `(B, seed, held_out)` to pairs.
        hidden, batch, steps, lr, weight_decay: the settings.

    Example:
        >>> model = REVERSAL.model(Seq2Seq, seed=0)
        >>> losses = list(REVERSAL.train(model, steps=2, seed=1))
        >>> model.exact_match(REVERSAL.test(100, seed=2))
        0.0
    """

    vocabulary: Vocabulary
    draw: Callable[[int, Seed, bool], Pairs]
    hidden: int
    batch: int
    steps: int
    lr: float
    weight_decay: float

    def model(self, kind: type[M], **options: object) -> M:
        """A new model for this task.

        Args:
            kind: `Seq2Seq` or `AttentiveSeq2Seq`.
            options: of the model, such as `seed` or `attention`.
        """
        V = len(self.vocabulary)
        return kind(V, V, self.hidden, **options)  # type: ignore[arg-type]

    def train(
        self,
        model: Seq2Seq,
        steps: int | None = None,
        seed: Seed = 0,
        teacher_forcing: float = 1.0,
        compiled: bool = True,
    ) -> Iterator[float]:
        """Train on batches that are drawn afresh; see `fit`.

        Args:
            model: is trained in place.
            steps: in place of as many as the task needs.
            seed: for the batches, and what teacher forcing draws.
            teacher_forcing: see `Seq2Seq.forward`.
            compiled: see `fit`.
        """
        rng = as_generator(seed)
        return fit(
            model,
            partial(self.draw, self.batch, rng, False),
            self.steps if steps is None else steps,
            lr=self.lr,
            weight_decay=self.weight_decay,
            teacher_forcing=teacher_forcing,
            seed=rng,
            compiled=compiled,
        )

    def test(self, B: int = 1000, seed: Seed = 1) -> Pairs:
        """Problems to test on.

        Args:
            B: how many to draw; what is drawn twice counts once where problems are held out.
            seed: for what is drawn.
        """
        return self.draw(B, seed, True)


def _reversal(lengths: tuple[int, int], B: int, seed: Seed, held_out: bool) -> Pairs:
    # Nothing is held out: nearly all strings of more than a few letters are new at any time.
    return reversal(B, lengths, seed=seed)


def _addition(B: int, seed: Seed, held_out: bool) -> Pairs:
    pairs = addition(B, digits=3, seed=seed, held_out=held_out, reverse_source=True)
    if not held_out:
        return pairs
    # Each problem once: of the few sums of single digits that are held out, each is drawn every now and then.
    once = np.sort(np.unique(pairs.source, axis=1, return_index=True)[1])
    return Pairs(*(part[..., once] for part in pairs))


REVERSAL = Task(
    reversal_vocabulary(),
    partial(_reversal, (1, 10)),
    hidden=128,
    batch=64,
    steps=3000,
    lr=5e-3,
    weight_decay=0.0,
)
"""Strings of 1 to 10 letters, of ten different ones."""

ADDITION = Task(
    addition_vocabulary(), _addition, hidden=128, batch=128, steps=5000, lr=5e-3, weight_decay=0.3
)
"""Two numbers of up to three digits, tested on problems that are kept from the training."""

LONG_REVERSAL = Task(
    reversal_vocabulary(),
    partial(_reversal, (20, 30)),
    hidden=128,
    batch=64,
    steps=600,
    lr=5e-3,
    weight_decay=0.0,
)
"""Strings of 20 to 30 letters: too long to be carried over in the encoder's last state."""
