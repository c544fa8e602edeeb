"""Mistakes in the gradients of weights and biases."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator

import numpy as np

from tensorgrad.bptt.mistakes.edits import (
    PRODUCTS,
    Mistake,
    every,
    factor_of,
    nothing,
    scaled,
    state_for,
    with_args,
)
from tensorgrad.bptt.mistakes.structure import (
    other_parts,
    weight_of,
)
from tensorgrad.bptt.places import Places
from tensorgrad.bptt.replay import Edit, Replay, Rule
from tensorgrad.graph import Node


def weights(places: Places) -> Iterator[Mistake]:
    """The gradients of weights: outer products of a cotangent and what the weight was multiplied by."""
    for (_, argnum), edges in places.kinds.items():
        node = edges[0].node
        assert node.op is not None
        other = weight_of(node, argnum) if node.op.name in PRODUCTS else None
        if other is None or not places.is_shared(edges[0].operand):
            continue
        name = places.describe_operand(edges[0].operand)
        where = f"the gradient of {name}"
        part = places.state_argument(node, other)
        leaving = places.leaves.get(getattr(node.operands[other], "index", -1))
        if leaving is not None:
            yield Mistake("BPTT006", where, every(edges, state_for(places, other, leaving[0])))
        if part is not None:
            yield Mistake("BPTT006", where, every(edges, factor_of(places, other, 1, False)))
            yield Mistake("BPTT007", where, every(edges, factor_of(places, other, 0, True)))
            first = [edge for edge in edges if places.t[edge.node.index] == 0]
            yield Mistake("BPTT008", where, every(first, nothing))
            for another in other_parts(places, node, other):
                yield Mistake("BPTT041", where, every(edges, state_for(places, other, another)))
        W = node.args[argnum]
        if W.ndim == 2 and W.shape[0] == W.shape[1]:
            yield Mistake("BPTT009", where, every(edges, lambda r, n, k, g, rule: rule(g).T))
        for kept in (0, places.T - 1):
            lost = [edge for edge in edges if places.t[edge.node.index] != kept]
            yield Mistake("BPTT010", where, every(lost, nothing))
        if part is None and _is_one_hot(node.args[other]):
            yield Mistake("BPTT024", where, every(edges, _last_wins(other)))
    shared = [edge for edges in places.kinds.values() for edge in edges if places.is_shared(edge.operand)]
    for kept in (0, places.T - 1):
        lost = [edge for edge in shared if places.t[edge.node.index] != kept]
        yield Mistake("BPTT010", "the gradients of all weights", every(lost, nothing))
    yield from _outside_weights(places)
    yield from _lookups(places)


def _outside_weights(places: Places) -> Iterator[Mistake]:
    """Of a readout of all timesteps at once."""
    for edge in places.outside:
        node, argnum = edge
        if node.op is None or node.op.name not in PRODUCTS or not places.is_shared(edge.operand):
            continue
        other = weight_of(node, argnum)
        if other is None or node.args[other].ndim != 3 or len(node.args[other]) != places.T:
            continue
        where = f"the gradient of {places.describe_operand(edge.operand)}"
        outputs = node.args[other]
        shifted = _states_before(places, outputs)
        if shifted is not None:
            yield Mistake("BPTT006", where, {edge.key: with_args(other, _always(shifted))})
        for kept in (0, places.T - 1):
            yield Mistake("BPTT010", where, {edge.key: _only_at(kept)})


def _always(value: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    return lambda x: value


def _states_before(places: Places, outputs: np.ndarray) -> np.ndarray | None:
    """If these are the states that leave all timesteps, those that enter them."""
    for part in range(len(places.parts)):
        line = [places.state_value(part, t) for t in range(-1, places.T)]
        states = [x for x in line if x is not None and x.shape == outputs[0].shape]
        if len(states) == len(line) and np.array_equal(np.stack(states[1:]), outputs):
            return np.stack(states[:-1])
    return None


def _only_at(t: int) -> Edit:
    def edit(replay: Replay, node: Node, argnum: int, g: np.ndarray, rule: Rule) -> np.ndarray:
        kept = np.zeros_like(g)
        kept[t] = g[t]
        return rule(kept)

    return edit


def _is_one_hot(x: np.ndarray) -> bool:
    return bool(x.ndim and ((x == 0) | (x == 1)).all() and (x.sum(axis=-1) <= 1).all() and x.any())


def _last_wins(other: int) -> Edit:
    """Rows of a weight picked by one-hot inputs, assigned in turn in place of added up."""

    def edit(replay: Replay, node: Node, argnum: int, g: np.ndarray, rule: Rule) -> np.ndarray:
        rows = node.args[other].reshape(-1, node.args[other].shape[-1])
        out = np.zeros_like(node.args[argnum])
        # A weight has its inputs along its columns, but where it is multiplied from the right.
        by_input = out if node.op is not None and node.op.name == "matmul" else out.T
        for row, slope in zip(rows, g.reshape(len(rows), -1), strict=True):
            if row.any():
                by_input[int(row.argmax())] = slope
        return out

    return edit


def _lookups(places: Places) -> Iterator[Mistake]:
    """Rows looked up by ids."""
    found = itertools.chain(places.kinds.values(), ([edge] for edge in places.outside))
    for edges in found:
        node, argnum = edges[0]
        ids = [a for k, a in enumerate(node.args) if k != argnum and getattr(a, "dtype", None) is not None]
        picks = node.op is not None and node.op.name in ("getitem", "take") and len(node.args) == 2
        if argnum == 0 and picks and ids[0].dtype.kind in "iu" and places.is_shared(edges[0].operand):
            where = f"the gradient of {places.describe_operand(edges[0].operand)}"
            yield Mistake("BPTT024", where, every(edges, _assigned))


def _assigned(replay: Replay, node: Node, argnum: int, g: np.ndarray, rule: Rule) -> np.ndarray:
    out = np.zeros_like(node.args[0])
    out[node.args[1]] = g
    return out


def biases(places: Places) -> Iterator[Mistake]:
    """What was broadcast over the batch, and is summed over it on the way back."""
    groups = [*places.kinds.values(), *([edge] for edge in places.outside)]
    for edges in groups:
        node, argnum = edges[0]
        arg = node.args[argnum]
        if node.op is None or not places.is_shared(edges[0].operand):
            continue
        if arg.ndim >= node._value.ndim or node.op.name not in ("affine", "linear", "add"):
            continue
        if node.op.name != "add" and argnum < (4 if node.op.name == "affine" else 2):
            continue
        where = f"the gradient of {places.describe_operand(edges[0].operand)}"
        lead = node._value.shape[: node._value.ndim - arg.ndim]
        for n in sorted({int(np.prod(lead)), lead[-1], lead[0]} - {1}):
            yield Mistake("BPTT020", where, every(edges, scaled(1 / n)))
        for kept in (0, places.T - 1):
            lost = [edge for edge in edges if places.t[edge.node.index] not in (None, kept)]
            if lost:
                yield Mistake("BPTT010", where, every(lost, nothing))
