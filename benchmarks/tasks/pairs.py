"""Sequence to sequence: the share of answers that are not right to the last id."""

from __future__ import annotations

from collections import deque
from typing import Any

from tensorgrad.models import seq2seq_tasks
from tensorgrad.models.attention import AttentiveSeq2Seq
from tensorgrad.models.seq2seq import Seq2Seq


def wrong(task: str, attention: str | None, seed: int) -> float:
    """Train as the task's settings say, and test on 1,000 problems."""
    chosen: seq2seq_tasks.Task = getattr(seq2seq_tasks, task)
    if attention is None:
        model = chosen.model(Seq2Seq, seed=seed)
    else:
        model = chosen.model(AttentiveSeq2Seq, seed=seed, attention=attention)
    deque(chosen.train(model, seed=seed + 1), maxlen=0)
    return 1 - model.exact_match(chosen.test(1000, seed=seed + 2))


class Plain:
    """Without attention."""

    def __init__(self, task: str, seed: int) -> None:
        self.task, self.seed = task, seed

    def run(self) -> dict[str, Any]:
        """The share that is wrong."""
        return {"reached": wrong(self.task, None, self.seed)}


class AgainstPlain:
    """With attention, beside the same without, in as many steps."""

    def __init__(self, task: str, attention: str, seed: int) -> None:
        self.task, self.attention, self.seed = task, attention, seed

    def run(self) -> dict[str, Any]:
        """The share that is wrong with attention, over the share that is wrong without.

        Infinity where nothing is wrong without: there is nothing to do better.
        """
        without = wrong(self.task, None, self.seed)
        with_it = wrong(self.task, self.attention, self.seed)
        ratio = with_it / without if without else float("inf")
        return {"reached": ratio, "plain": without, self.attention: with_it}
