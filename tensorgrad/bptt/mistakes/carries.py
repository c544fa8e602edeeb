"""Mistakes in what goes back from one timestep to the one before."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from tensorgrad.bptt.mistakes.edits import (
    ACTIVATIONS,
    PRODUCTS,
    Edits,
    Mistake,
    every,
    nothing,
    scaled,
    ways_to_start,
    with_args,
)
from tensorgrad.bptt.mistakes.structure import (
    blocks,
    local_uses,
    seeds_of_last_states,
    weight_of,
    without_block,
)
from tensorgrad.bptt.places import Edge, Places
from tensorgrad.bptt.replay import Edit, Replay, Rule
from tensorgrad.graph import Node


def carries(places: Places) -> Iterator[Mistake]:
    """What goes back from one timestep to the one before."""
    kinds: dict[int, list[list[Edge]]] = {}
    for edges in places.kinds.values():
        part = places.state_entering(edges[0])
        if part is not None:
            kinds.setdefault(part, []).append(edges)
    seeds = seeds_of_last_states(places)
    for part, ways in kinds.items():
        name = places.parts[part].name
        all_of_them = [edge for edges in ways for edge in edges]
        for edges in ways_to_start(places, all_of_them):
            where = f"what comes back to {name}[t-1]"
            # A state that is carried element by element is the cell's memory.
            memory = all(kind[0].node.op.name == "multiply" for kind in ways if kind[0].node.op)
            code = "BPTT028" if memory else "BPTT001"
            yield Mistake(code, where, every(edges, nothing))
            if part in seeds:
                # dh_next begins as the gradient of the last state, and is dropped with it.
                yield Mistake(code, where, every([*edges, *seeds[part]], nothing))
            yield Mistake("BPTT002", where, every(edges, scaled(2.0)))
            yield Mistake("BPTT002", where, _kept_and_added(places, ways, part, edges))
            if part in seeds:
                yield Mistake("BPTT002", where, every([*edges, *seeds[part]], scaled(2.0)))
            if not memory:
                yield Mistake("BPTT039", where, _state_to_state(places, ways, part, edges))
        local = local_uses(places, part)
        if local:
            where = f"what the loss of each timestep sends to {name}[t]"
            yield Mistake("BPTT034", where, every(local, nothing))
        for kind in ways:
            where = f"what {places.describe(kind[0].node)} sends back to {name}[t-1]"
            for edges in ways_to_start(places, kind):
                if len(ways) > 1:
                    yield Mistake("BPTT034", where, every(edges, nothing))
                    yield Mistake("BPTT002", where, every(edges, scaled(2.0)))
                yield Mistake("BPTT035", where, every(edges, scaled(-1.0)))
                yield from _carry_by_weights(places, edges, where)
    if len(kinds) > 1:
        everything = [edge for ways in kinds.values() for edges in ways for edge in edges]
        for edges in ways_to_start(places, everything):
            yield Mistake("BPTT001", "what comes back to the whole state", every(edges, nothing))


def _kept_and_added(places: Places, ways: list[list[Edge]], part: int, edges: list[Edge]) -> Edits:
    """dh_next += for dh_next =: what the state received is handed on beside what is made of it."""
    first = {edge.key for edge in ways[0]}

    def edit(replay: Replay, node: Node, argnum: int, g: np.ndarray, rule: Rule) -> np.ndarray:
        t = places.t[node.index]
        assert t is not None
        after = places.parts[part].after[t]
        if (node.index, argnum) not in first or after.index not in replay.cotangents:
            return rule(g)
        return rule(g) + replay.cotangents[after.index]

    return {edge.key: edit for edge in edges}


def _state_to_state(places: Places, ways: list[list[Edge]], part: int, edges: list[Edge]) -> Edits:
    """The carry is the gradient of the state itself, as it left the timestep."""
    chosen = {edge.key for edge in edges}
    first = {edge.key for edge in ways[0]}

    def edit(replay: Replay, node: Node, argnum: int, g: np.ndarray, rule: Rule) -> np.ndarray | None:
        t = places.t[node.index]
        assert t is not None
        after = places.parts[part].after[t]
        if (node.index, argnum) not in first or after.index not in replay.cotangents:
            return None
        return replay.cotangents[after.index]

    return dict.fromkeys(chosen, edit)


def _carry_by_weights(places: Places, edges: list[Edge], where: str) -> Iterator[Mistake]:
    node, argnum = edges[0]
    assert node.op is not None
    if node.op.name not in PRODUCTS:
        return
    weight = weight_of(node, argnum)
    if weight is None:
        return
    for name, block in blocks(places, node):
        way = f"{where}, by way of {name}"
        yield Mistake("BPTT034", way, every(edges, without_block(places, block)))
    W = node.args[weight]
    if W.ndim == 2 and W.shape[0] == W.shape[1]:
        yield Mistake("BPTT005", where, every(edges, with_args(weight, np.transpose)))
    activation = _activation_above(places, node)
    if activation is not None:
        yield Mistake("BPTT004", where, every(edges, _from_above(places)))
        above = [
            edge
            for edge in places.kinds[places.place[activation.index], 0]
            if edge.node.index in places.leaves or _same_place(places, edge.node, activation)
        ]
        if above:
            yield Mistake("BPTT003", where, every(above, _carry_after(places, False)))
            yield Mistake("BPTT003", where, every(above, _carry_after(places, True)))


def _same_place(places: Places, a: Node, b: Node) -> bool:
    return places.place.get(a.index) == places.place.get(b.index)


def _activation_above(places: Places, node: Node) -> Node | None:
    """The activation whose pre-activation a node is, perhaps with a bias or another product added to it."""
    seen = node
    for _ in range(4):
        users = [
            edge.node
            for edge in places.users[seen.index]
            if places.t[edge.node.index] == places.t[node.index] and edge.node.op is not None
        ]
        if len(users) != 1 or users[0]._value.shape != node._value.shape:
            return None
        seen = users[0]
        assert seen.op is not None
        if seen.op.name in ACTIVATIONS:
            return seen
        if seen.op.name != "add":
            return None
    return None


def _from_above(places: Places) -> Edit:
    def edit(replay: Replay, node: Node, argnum: int, g: np.ndarray, rule: Rule) -> np.ndarray:
        above = _activation_above(places, node)
        assert above is not None
        return rule(replay.cotangents[above.index])

    return edit


def _carry_after(places: Places, seeded: bool) -> Edit:
    """What came back is added behind the derivative; seeded: what the loss sends to the last state too."""
    seeds = {edge.key for edges in seeds_of_last_states(places).values() for edge in edges}

    def edit(replay: Replay, node: Node, argnum: int, g: np.ndarray, rule: Rule) -> np.ndarray:
        carried: Any = 0.0
        if node.index in replay.carried:
            carried = replay.dense(replay.carried[node.index])
        if seeded:
            for user, k in (edge for edge in places.users[node.index] if edge.key in seeds):
                if user.index in replay.cotangents:
                    carried = carried + replay.share(user, k)
        return rule(g - carried) + carried

    return edit
