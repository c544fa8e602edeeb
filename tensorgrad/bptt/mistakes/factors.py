"""Mistakes at element-wise products: gates, and what they let through."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from tensorgrad.bptt.mistakes.edits import (
    ACTIVATIONS,
    FUNCTIONS,
    Mistake,
    every,
    factor_of,
    nothing,
    scaled,
    state_for,
    ways_to_start,
    with_args,
)
from tensorgrad.bptt.mistakes.structure import (
    other_activations,
    other_parts,
)
from tensorgrad.bptt.places import Places
from tensorgrad.bptt.replay import Edit, Replay, Rule
from tensorgrad.graph import Node


def factors(places: Places) -> Iterator[Mistake]:
    """Gates and what they let through: element-wise products."""
    for (_, argnum), edges in places.kinds.items():
        node = edges[0].node
        assert node.op is not None
        if node.op.name != "multiply" or node.args[0].shape != node.args[1].shape:
            continue
        other = 1 - argnum
        factor = node.operands[other]
        where = (
            f"what {places.describe(node)} sends back to "
            f"{places.describe_operand(edges[0].operand)}: the factor {places.describe_operand(factor)}"
        )
        entering = places.state_entering(edges[0]) is not None
        for some in ways_to_start(places, edges) if entering else [edges]:
            yield Mistake("BPTT029", where, every(some, with_args(other, np.ones_like)))
            yield Mistake("BPTT035", where, every(some, with_args(other, lambda f: 1 - f)))
        if not entering:
            yield Mistake("BPTT034", where, every(edges, nothing))
            yield Mistake("BPTT035", where, every(edges, scaled(-1.0)))
        for shift, wrapped in ((1, False), (-1, False), (-1, True)):
            yield Mistake("BPTT032", where, every(edges, factor_of(places, other, shift, wrapped)))
        for part in other_parts(places, node, other):
            for late in (0, 1):
                yield Mistake("BPTT041", where, every(edges, state_for(places, other, part, late)))
        for another in other_activations(places, node):
            if places.at.get((another, places.t[node.index] or 0)) is not factor:
                yield Mistake("BPTT041", where, every(edges, _gate_for(places, other, another)))
        if argnum == 0 and (places.place[node.index], 1) in places.kinds:
            both = [*edges, *places.kinds[places.place[node.index], 1]]
            yield Mistake("BPTT042", f"the factors of {places.describe(node)}", every(both, _own_factor))
        if isinstance(factor, Node) and factor.op is not None and factor.op.name in ACTIVATIONS:
            name = factor.op.name
            yield Mistake("BPTT033", where, every(edges, _unactivated(other)))
            yield Mistake("BPTT033", where, every(edges, with_args(other, FUNCTIONS.get(name, lambda f: f))))


def _gate_for(places: Places, argument: int, place: int) -> Edit:
    """Another activation of the timestep in place of a factor."""

    def edit(replay: Replay, node: Node, argnum: int, g: np.ndarray, rule: Rule) -> np.ndarray:
        other = places.at.get((place, places.t[node.index] or 0))
        return rule(g) if other is None else rule(g, args={argument: other._value})

    return edit


def _own_factor(replay: Replay, node: Node, argnum: int, g: np.ndarray, rule: Rule) -> np.ndarray:
    return rule(g, args={1 - argnum: node.args[argnum]})


def _unactivated(other: int) -> Edit:
    def edit(replay: Replay, node: Node, argnum: int, g: np.ndarray, rule: Rule) -> np.ndarray:
        return rule(g, args={other: node.operands[other].args[0]})

    return edit
