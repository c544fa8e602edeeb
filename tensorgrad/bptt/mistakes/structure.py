"""What a graph offers a mistake: weights, gates cut from a product, the last state, and who uses what."""

from __future__ import annotations

from typing import Any

import numpy as np

from tensorgrad.bptt.mistakes.edits import ACTIVATIONS
from tensorgrad.bptt.places import Edge, Places
from tensorgrad.bptt.replay import Edit, Replay, Rule
from tensorgrad.graph import Node


def seeds_of_last_states(places: Places) -> dict[int, list[Edge]]:
    """By part of the state the edges by which the loss uses the last state and no other."""
    last: dict[int, list[Edge]] = {}
    for edge in places.outside:
        part, t = places.leaves.get(edge.operand.index, (None, 0))
        gathers = edge.node.op is None or edge.node.op.name in ("stack", "concatenate")
        if part is not None and t == places.T - 1 and not gathers:
            last.setdefault(part, []).append(edge)
    return last


def local_uses(places: Places, part: int) -> list[Edge]:
    """The edges by which anything but the next timestep uses what leaves every timestep."""
    seeds = {edge.key for edge in seeds_of_last_states(places).get(part, [])}
    found = []
    for t in range(places.T):
        after = places.parts[part].after[t]
        for edge in places.users[after.index] if isinstance(after, Node) else ():
            if places.state_entering(edge) is None and edge.key not in seeds:
                found.append(edge)
    return found


def blocks(places: Places, node: Node) -> list[tuple[str, int]]:
    """The places that cut a pre-activation into gates, with what each gate is called."""
    found = []
    for edge in places.users[node.index]:
        user = edge.node
        if user.op is not None and user.op.name == "getitem" and user.index in places.place:
            found.append((places.describe(gate_of(places, user)), places.place[user.index]))
    return found


def gate_of(places: Places, node: Node) -> Node:
    """What becomes of a slice of a pre-activation: the activation after it, or what it is multiplied into."""
    seen = node
    for _ in range(4):
        users = [edge.node for edge in places.users[seen.index] if edge.node.index in places.place]
        if len(users) != 1:
            break
        seen = users[0]
        if seen.name or (seen.op is not None and seen.op.name in ACTIVATIONS):
            break
    return seen


def block_of(places: Places, node: Node, place: int) -> tuple[Node | None, Any]:
    """The slice of a place at the timestep of a node, and its index into the node."""
    t = places.t[node.index]
    piece = places.at.get((place, t if t is not None else 0))
    return piece, None if piece is None else piece.params["template"]


def without_block(places: Places, place: int) -> Edit:
    """The share without what comes by way of one gate."""

    def edit(replay: Replay, node: Node, argnum: int, g: np.ndarray, rule: Rule) -> np.ndarray:
        piece, index = block_of(places, node, place)
        if piece is None:
            return rule(g)
        g = g.copy()
        g[index] = 0
        return rule(g)

    return edit


def ungated_block(places: Places, place: int) -> Edit:
    """A block of the cotangent as it was before it passed through the gate that multiplies it."""

    def edit(replay: Replay, node: Node, argnum: int, g: np.ndarray, rule: Rule) -> np.ndarray:
        piece, index = block_of(places, node, place)
        product = None if piece is None else product_with(places, piece)
        if product is None or product.index not in replay.cotangents:
            return rule(g)
        g = g.copy()
        g[index] = replay.cotangents[product.index]
        return rule(g)

    return edit


def product_with(places: Places, node: Node) -> Node | None:
    """The element-wise product that a node goes into, and nothing else."""
    users = [edge.node for edge in places.users[node.index]]
    if len(users) == 1 and users[0].op is not None and users[0].op.name == "multiply":
        return users[0]
    return None


def weight_of(node: Node, argnum: int) -> int | None:
    """Which operand of a product is the weight that an operand is multiplied by, or the other way round."""
    assert node.op is not None
    if node.op.name == "affine":
        return {0: 1, 1: 0, 2: 3, 3: 2}.get(argnum)
    return {0: 1, 1: 0}.get(argnum)


def other_activations(places: Places, node: Node) -> list[int]:
    """Places of other activations of the same shape."""
    t = places.t[node.index]
    found = []
    for place in dict.fromkeys(places.place.values()):
        other = places.at.get((place, t if t is not None else 0))
        if other is None or other.op is None or other is node or other.op.name not in ACTIVATIONS:
            continue
        if other._value.shape == node._value.shape:
            found.append(place)
    return found


def other_parts(places: Places, node: Node, argument: int) -> list[int]:
    """Parts of the state that an operand is not, and could be by its shape."""
    mine = places.state_argument(node, argument)
    shape = node.args[argument].shape
    values = [places.state_value(part, 0) for part in range(len(places.parts))]
    return [k for k, value in enumerate(values) if k != mine and value is not None and value.shape == shape]
