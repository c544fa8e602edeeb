"""Mistakes in the derivatives of tanh, sigmoid and the like."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from tensorgrad.bptt.mistakes.edits import (
    ACTIVATIONS,
    FUNCTIONS,
    Mistake,
    every,
    straight,
)
from tensorgrad.bptt.mistakes.structure import (
    other_activations,
    other_parts,
)
from tensorgrad.bptt.places import Places
from tensorgrad.bptt.replay import Edit, Replay, Rule
from tensorgrad.graph import Node


def activations(places: Places) -> Iterator[Mistake]:
    """The derivatives of tanh, sigmoid and the like."""
    for edges in places.kinds.values():
        node = edges[0].node
        assert node.op is not None
        if node.op.name not in ACTIVATIONS:
            continue
        name, where = node.op.name, f"the derivative of {places.describe(node)}"
        other = "sigmoid" if name == "tanh" else "tanh"
        yield Mistake("BPTT014", where, every(edges, straight))
        yield Mistake("BPTT011", where, every(edges, _derivative(name, _before)))
        if name == "tanh":
            yield Mistake("BPTT012", where, every(edges, _unsquared))
        if name == "sigmoid":
            half = f"half of {where}"
            yield Mistake("BPTT014", half, every(edges, lambda r, node, k, g, rule: g * node._value))
            yield Mistake("BPTT014", half, every(edges, lambda r, node, k, g, rule: g * (1 - node._value)))
        if name in ("tanh", "sigmoid"):
            yield Mistake("BPTT015", where, every(edges, _derivative(other, _after)))
        yield Mistake("BPTT033", where, every(edges, lambda r, n, k, g, rule: rule(rule(g))))
        yield Mistake("BPTT033", where, every(edges, _of_twice(name)))
        for shift, wrapped in ((-1, False), (-1, True), (1, False), (1, True)):
            yield Mistake("BPTT013", where, every(edges, _shifted(places, shift, wrapped)))
        for another in other_activations(places, node):
            yield Mistake("BPTT040", where, every(edges, _of_another(places, another)))
        for part in other_parts(places, node, 0):
            for late in (0, 1):
                yield Mistake("BPTT040", where, every(edges, _of_state(places, part, late)))


def _of_state(places: Places, part: int, late: int) -> Edit:
    def edit(replay: Replay, node: Node, argnum: int, g: np.ndarray, rule: Rule) -> np.ndarray:
        t = places.t[node.index]
        assert t is not None
        value = places.state_value(part, t - 1 + late)
        return rule(g) if value is None else rule(g, ans=value)

    return edit


def _of_another(places: Places, place: int) -> Edit:
    def edit(replay: Replay, node: Node, argnum: int, g: np.ndarray, rule: Rule) -> np.ndarray:
        other = places.at.get((place, places.t[node.index] or 0))
        return rule(g) if other is None else rule(g, ans=other._value)

    return edit


def _after(node: Node) -> np.ndarray:
    return node._value


def _before(node: Node) -> np.ndarray:
    value: np.ndarray = node.args[0]
    return value


_DERIVATIVES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "tanh": lambda y: 1 - y * y,
    "sigmoid": lambda y: y * (1 - y),
    "relu": lambda y: (y > 0).astype(y.dtype),
}


def _derivative(name: str, of: Callable[[Node], np.ndarray]) -> Edit:
    slope = _DERIVATIVES.get(name, np.asarray)
    return lambda replay, node, argnum, g, rule: g * slope(of(node))


def _unsquared(replay: Replay, node: Node, argnum: int, g: np.ndarray, rule: Rule) -> np.ndarray:
    return g * (1 - node._value)


def _of_twice(name: str) -> Edit:
    function = FUNCTIONS.get(name, np.array)
    return lambda replay, node, argnum, g, rule: rule(g, ans=function(node._value))


def _shifted(places: Places, shift: int, wrapped: bool) -> Edit:
    """The activation of a timestep before or after; beyond the ends the initial state, or around."""

    def edit(replay: Replay, node: Node, argnum: int, g: np.ndarray, rule: Rule) -> np.ndarray:
        t = places.t[node.index]
        assert t is not None
        twin = places.twin(node, (t + shift) % places.T if wrapped else t + shift)
        if twin is not None:
            return rule(g, ans=twin._value)
        # What leaves the timestep may be what a mask makes of the activation.
        users = (edge.node.index for edge in places.users[node.index])
        part, _ = next((places.leaves[k] for k in (node.index, *users) if k in places.leaves), (None, 0))
        if shift < 0 and part is not None:
            start = places.state_value(part, -1)
            return rule(g, ans=np.zeros_like(node._value) if start is None else start)
        return rule(g)

    return edit
