"""Mistakes at the loss, and in what reaches the last state."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from tensorgrad.bptt.mistakes.edits import (
    Mistake,
    every,
    nothing,
    scaled,
)
from tensorgrad.bptt.mistakes.structure import (
    seeds_of_last_states,
)
from tensorgrad.bptt.places import Places
from tensorgrad.bptt.replay import Edit, Replay, Rule
from tensorgrad.graph import Node


def outputs(places: Places) -> Iterator[Mistake]:
    """The loss, and what reaches the last state."""
    heads = [node for node in places.order if node.op is not None and node.op.name == "nll"]
    if heads:
        keys = [(node.index, 0) for node in heads]
        for code, edit in (
            ("BPTT016", _whole_softmax),
            ("BPTT017", _rows_of_targets),
            ("BPTT017", _columns_of_targets),
            ("BPTT018", _softmax_over(-2)),
            ("BPTT018", _softmax_over(0)),
        ):
            if code != "BPTT016" and any(node.args[0].ndim < 2 for node in heads):
                continue
            yield Mistake(code, "the softmax", dict.fromkeys(keys, edit))
    T, B = places.T, _batch(places)
    counts = {round(1 / scale) for scale in _scales(heads)} | {T * B, T, B}
    for factor in sorted(counts - {1}):
        if heads:
            where = f"the loss is {factor} times what it should be"
            yield Mistake("BPTT019", where, dict.fromkeys(keys, scaled(float(factor))))
            where = f"the loss is divided by {factor}"
            yield Mistake("BPTT019", where, dict.fromkeys(keys, scaled(1 / factor)))
        yield Mistake("BPTT019", f"everything is {factor} times what it should be", scale=float(factor))
        yield Mistake("BPTT019", f"everything is divided by {factor}", scale=1 / factor)
    for part, edges in seeds_of_last_states(places).items():
        where = f"what the loss sends to the last {places.parts[part].name}"
        yield Mistake("BPTT030", where, every(edges, nothing))


def _scales(heads: list[Node]) -> list[float]:
    """What the mean over all losses divides by, where it is one."""
    return [1 / head._value.size for head in heads if head._value.size]


def _batch(places: Places) -> int:
    value = places.state_value(0, 0)
    return value.shape[0] if value is not None and value.ndim > 1 else 1


def probabilities(z: np.ndarray, axis: int = -1) -> np.ndarray:
    """The softmax over an axis."""
    e = np.exp(z - z.max(axis=axis, keepdims=True))
    return e / e.sum(axis=axis, keepdims=True)


def one_hot(node: Node) -> np.ndarray:
    """Ones at the targets of a cross-entropy."""
    z, labels = node.args[:2]
    return (labels[..., None] == np.arange(z.shape[-1])).astype(z.dtype)


def _whole_softmax(replay: Replay, node: Node, argnum: int, g: np.ndarray, rule: Rule) -> np.ndarray:
    return probabilities(node.args[0]) * g[..., None]


def _softmax_over(axis: int) -> Edit:
    def edit(replay: Replay, node: Node, argnum: int, g: np.ndarray, rule: Rule) -> np.ndarray:
        return (probabilities(node.args[0], axis) - one_hot(node)) * g[..., None]

    return edit


def _rows_of_targets(replay: Replay, node: Node, argnum: int, g: np.ndarray, rule: Rule) -> np.ndarray:
    """dy[targets] -= 1 where dy[arange(B), targets] -= 1 is meant."""
    dy = probabilities(node.args[0])
    labels = node.args[1]
    for step, targets in zip(dy, labels, strict=True) if dy.ndim == 3 else [(dy, labels)]:
        if targets.max(initial=0) >= len(step):
            return rule(g)
        step[targets] -= 1
    return dy * g[..., None]


def _columns_of_targets(replay: Replay, node: Node, argnum: int, g: np.ndarray, rule: Rule) -> np.ndarray:
    """dy[:, targets] -= 1 where dy[arange(B), targets] -= 1 is meant."""
    dy = probabilities(node.args[0])
    labels = node.args[1]
    for step, targets in zip(dy, labels, strict=True) if dy.ndim == 3 else [(dy, labels)]:
        step[:, targets] -= 1
    return dy * g[..., None]
