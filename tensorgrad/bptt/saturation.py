"""Saturation: how many units of a gate, or of a tanh, sit where its slope is all but zero."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import Any

import numpy as np

from tensorgrad import tree
from tensorgrad.bptt.rolls import layers_of, timestep_finder
from tensorgrad.errors import GraphError, UserError
from tensorgrad.graph import Node
from tensorgrad.nn.unroll import Unrolled
from tensorgrad.tensor import Tensor

__all__ = ["Saturation", "saturation"]

RANGES = {"sigmoid": (0.0, 1.0), "tanh": (-1.0, 1.0)}


@dataclass(frozen=True)
class Saturation:
    """How much of the time each unit of each nonlinearity sits near an end of its range.

    low, high: by name, (T, ...) with the axes of one sequence's units: the share of the batch near the lower
        and the upper end; NaN at a timestep at which every sequence has ended.
    tail: which share of the range counts as near its end.
    """

    low: dict[str, np.ndarray]
    high: dict[str, np.ndarray]
    tail: float

    @property
    def over_time(self) -> dict[str, np.ndarray]:
        """By name (T,): the share of units and sequences that are saturated, at either end."""
        return {
            name: (low + self.high[name]).reshape(len(low), -1).mean(axis=1) for name, low in self.low.items()
        }


def saturation(roll: Any, tail: float = 0.1) -> Saturation:
    """Which share of the units of every sigmoid and tanh in a run is saturated, timestep by timestep.

    A sigmoid is saturated below `tail` and above 1 - tail, a tanh as much of its own range from -1 and 1;
    with 0.1 the slope is there at most 0.36 of the greatest. Nonlinearities are found in the graph: they need
    no label, and one without is called after what it is taken of, "tanh(c)". Steps after a sequence's end do
    not count.
    Raises GraphError for a run without a sigmoid or tanh in its graph, UserError for a tail outside 0..0.5.
    Source: the measure is that of Karpathy, Johnson, Fei-Fei, "Visualizing and Understanding Recurrent
    Networks" (2015), which takes 0.1 and 0.9.

    >>> from tensorgrad import nn
    >>> roll = nn.unroll(nn.LSTMCell(2, 3, forget_bias=9.0, seed=0), np.ones((5, 4, 2)))
    >>> found = saturation(roll)
    >>> sorted(found.high), found.high["f"].shape, float(found.high["f"].min())
    (['f', 'g', 'i', 'o', 'tanh(c)'], (5, 3), 1.0)
    """
    what = "saturation"
    if not 0 < tail < 0.5:
        raise UserError(f"{what}: tail is a share of the range between 0 and 0.5, not {tail!r}")
    low: dict[str, np.ndarray] = {}
    high: dict[str, np.ndarray] = {}
    for layer, run in layers_of(what, roll).items():
        for name, line in _nonlinearities(run).items():
            key = f"{layer}.{name}" if layer else name
            bottom, top = RANGES[line[0].op.name]
            margin = tail * (top - bottom)
            values = np.stack([x.numpy() for x in line])
            low[key] = _share(values < bottom + margin, run.alive)
            high[key] = _share(values > top - margin, run.alive)
    if not low:
        raise GraphError(
            f"{what}: this run's graph has no sigmoid and no tanh at all timesteps; was it made under "
            "no_grad, or with checkpoint=...?"
        )
    return Saturation(low, high, tail)


def _nonlinearities(run: Unrolled) -> dict[str, list[Any]]:
    """The nodes of each sigmoid and tanh through time, by name, in the order of their computation."""
    timestep = timestep_finder(run)
    seen: dict[int, Node] = {}
    for root in tree.leaves([run.steps, list(run.states)]):
        if isinstance(root, Tensor) and root.requires_grad and root.index not in seen:
            seen |= {node.index: node for node in _within_step(root, timestep)}
    lines: dict[tuple[str, int], dict[int, Node]] = defaultdict(dict)
    counts: dict[tuple[int, str], int] = defaultdict(int)
    for index in sorted(seen):
        node = seen[index]
        t = timestep(node)
        if t is not None and node.op is not None and node.op.name in RANGES:
            name = node.name or _called(node)
            number = counts[t, name]
            counts[t, name] += 1
            lines[name, number][t] = node
    # Something that only some steps compute has no line through time.
    return {
        f"{name} #{number + 1}" if (name, 1) in lines else name: [line[t] for t in range(len(run))]
        for (name, number), line in lines.items()
        if len(line) == len(run)
    }


def _within_step(root: Tensor, timestep: Any) -> list[Node]:
    """The nodes behind one, as far as its own timestep goes."""
    t = timestep(root)
    found = {root.index: root}
    waiting: list[Any] = [root]
    while waiting:
        node = waiting.pop()
        for argnum in node.live:
            operand = node.operands[argnum]
            if operand.index not in found and timestep(operand) == t is not None:
                found[operand.index] = operand
                waiting.append(operand)
    return list(found.values())


def _called(node: Any) -> str:
    """ "tanh(c)" for the tanh of what is labelled c, else "tanh"."""
    operand = getattr(node.operands[0], "name", None)
    return f"{node.op.name}({operand})" if operand else str(node.op.name)


def _share(near: np.ndarray, alive: np.ndarray | None) -> np.ndarray:
    """The mean over the batch of those that still run: (T, B, ...) to (T, ...)."""
    if near.ndim < 3:
        return near.astype(np.float64)
    if alive is None:
        return near.mean(axis=1)
    runs = alive.reshape(alive.shape + (1,) * (near.ndim - 2))
    count = runs.sum(axis=1)
    return np.divide((near & runs).sum(axis=1), count, out=np.full(near[:, 0].shape, np.nan), where=count > 0)
