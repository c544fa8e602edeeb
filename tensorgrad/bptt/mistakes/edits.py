"""A mistake, and the small edits of single shares that mistakes are made of."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tensorgrad.bptt.places import Edge, Places
from tensorgrad.bptt.replay import Edit, Replay, Rule
from tensorgrad.graph import Node

Edits = dict[tuple[int, int], Edit]

ACTIVATIONS = ("tanh", "sigmoid", "relu", "softplus", "sin", "cos", "exp")
PRODUCTS = ("matmul", "linear", "affine")

FUNCTIONS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "tanh": np.tanh,
    "sigmoid": lambda x: 0.5 * (1 + np.tanh(0.5 * x)),
}


@dataclass
class Mistake:
    """One mistake at one place.

    code: of the catalogue. where: at what, in the names of the graph. edits, redirect, order: see `Replay`.
    received: what is made of all that a node has received. scale: what the whole gradient is multiplied by.
    """

    code: str
    where: str
    edits: Edits = field(default_factory=dict)
    redirect: dict[tuple[int, int], Node] = field(default_factory=dict)
    order: list[Node] | None = None
    received: dict[int, Callable[[np.ndarray], np.ndarray]] = field(default_factory=dict)
    scale: float = 1.0

    def replay(self, places: Places) -> Replay:
        """The backward with this mistake."""
        return Replay(places, self.edits, self.redirect, self.order, self.received)


def nothing(replay: Replay, node: Node, argnum: int, g: np.ndarray, rule: Rule) -> None:
    """The share is dropped."""
    return None


def scaled(factor: float) -> Edit:
    """The share is so many times what it should be."""
    return lambda replay, node, argnum, g, rule: factor * rule(g)


def straight(replay: Replay, node: Node, argnum: int, g: np.ndarray, rule: Rule) -> np.ndarray:
    """The cotangent passes as if the operation were none."""
    return g


def with_args(argument: int, value: Callable[[np.ndarray], Any]) -> Edit:
    """The share is that of another operand, made of the right one."""

    def edit(replay: Replay, node: Node, argnum: int, g: np.ndarray, rule: Rule) -> np.ndarray:
        return rule(g, args={argument: value(node.args[argument])})

    return edit


def every(edges: list[Edge], edit: Edit) -> Edits:
    """The same edit of many edges."""
    return {edge.key: edit for edge in edges}


def ways_to_start(places: Places, edges: list[Edge]) -> Iterator[list[Edge]]:
    """The edges of all timesteps, and without those that lead to the initial state, if there are any."""
    yield edges
    later = [edge for edge in edges if places.t[edge.node.index]]
    if 0 < len(later) < len(edges):
        yield later


def state_for(places: Places, argument: int, part: int, late: int = 0) -> Edit:
    """A part of the state that enters the timestep, or leaves it, in place of an operand."""

    def edit(replay: Replay, node: Node, argnum: int, g: np.ndarray, rule: Rule) -> np.ndarray:
        t = places.t[node.index]
        assert t is not None
        value = places.state_value(part, t - 1 + late)
        return rule(g) if value is None else rule(g, args={argument: value})

    return edit


def factor_of(places: Places, other: int, shift: int, wrapped: bool) -> Edit:
    """The factor as it was at another timestep: of a state, the one that leaves instead of enters."""

    def edit(replay: Replay, node: Node, argnum: int, g: np.ndarray, rule: Rule) -> np.ndarray:
        t = places.t[node.index]
        assert t is not None
        part = places.state_argument(node, other)
        if part is not None:
            # What enters t left t - 1.
            at = t - 1 + shift
            value = places.state_value(part, at % places.T if wrapped and at < 0 else at)
        else:
            twin = places.twin(node, (t + shift) % places.T if wrapped else t + shift)
            value = None if twin is None else twin.args[other]
        return rule(g) if value is None else rule(g, args={other: value})

    return edit
