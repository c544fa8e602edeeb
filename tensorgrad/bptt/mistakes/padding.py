"""Mistakes at padding: in the state, which passes through, and in the loss, where it does not count."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from tensorgrad.bptt.mistakes.edits import (
    PRODUCTS,
    Edits,
    Mistake,
    every,
    nothing,
    straight,
    ways_to_start,
    with_args,
)
from tensorgrad.bptt.mistakes.outputs import one_hot, probabilities
from tensorgrad.bptt.mistakes.structure import weight_of
from tensorgrad.bptt.places import Edge, Places
from tensorgrad.bptt.replay import Edit, Replay, Rule
from tensorgrad.graph import Node


def padding(places: Places) -> Iterator[Mistake]:
    """All mistakes at padding."""
    yield from _states(places)
    yield from _losses(places)


def _states(places: Places) -> Iterator[Mistake]:
    """Of sequences that have ended the state passes through, and the cell makes none."""
    passing: dict[int, list[Edge]] = {}
    making: list[Edge] = []
    for edges in places.kinds.values():
        node = edges[0].node
        if node.op is None or node.op.name != "where":
            continue
        part = places.state_entering(edges[0])
        if part is None:
            making += edges
        else:
            passing.setdefault(part, []).extend(edges)
    if not passing:
        return
    everywhere = [edge for edges in passing.values() for edge in edges]
    name = "the state of sequences that have ended"
    for some in ways_to_start(places, everywhere):
        yield Mistake("BPTT022", name, every(some, nothing))
        yield Mistake("BPTT022", name, every(making, straight) | every(some, nothing))
    yield Mistake("BPTT022", name, every(making, straight))
    yield Mistake("BPTT022", name, every(everywhere, straight))
    for part, edges in passing.items():
        where = f"the {places.parts[part].name} of sequences that have ended"
        for some in ways_to_start(places, edges):
            yield Mistake("BPTT022", where, every(some, nothing))
            yield Mistake("BPTT022", where, every(some, _through_the_factor(places, part)))


def _through_the_factor(places: Places, part: int) -> Edit:
    """What passes through is multiplied by the gate that carries the state where it is alive."""

    def edit(replay: Replay, node: Node, argnum: int, g: np.ndarray, rule: Rule) -> np.ndarray:
        for user, k in places.users[node.operands[argnum].index]:
            if (
                user.op is not None
                and user.op.name == "multiply"
                and places.t[user.index] == places.t[node.index]
            ):
                return rule(g) * user.args[1 - k]
        return rule(g)

    return edit


def _losses(places: Places) -> Iterator[Mistake]:
    """Padding counts in the loss as if it were text."""
    for head in places.order:
        if head.op is None or head.op.name != "nll":
            continue
        masked = _masks_of(places, head)
        if masked:
            counted = every(masked, _unmasked)
            yield Mistake("BPTT021", "the padding in the loss", counted)
            yield Mistake("BPTT021", "the padding in the loss", counted | _of_kept_states(places, head))


def _masks_of(places: Places, losses: Node) -> list[Edge]:
    """The edges from single losses to what masks them."""
    found: list[Edge] = []
    for edge in places.users[losses.index]:
        if edge.node.op is not None and edge.node.op.name in ("where", "multiply"):
            found += [edge, *_masks_of(places, edge.node)]
    return found


def _unmasked(replay: Replay, node: Node, argnum: int, g: np.ndarray, rule: Rule) -> np.ndarray:
    """As if every element counted as much as those that count most."""
    assert node.op is not None
    if node.op.name == "where":
        return g
    return g * float(np.max(node.args[1 - argnum]))


def _of_kept_states(places: Places, head: Node) -> Edits:
    """A readout of the states that are kept at padding, where that of the graph sees zeros."""
    readout = head.operands[0]
    if not isinstance(readout, Node) or readout.op is None or readout.op.name not in PRODUCTS:
        return {}
    gathered = readout.operands[0]
    weight = weight_of(readout, 0)
    if not isinstance(gathered, Node) or gathered.op is None or gathered.op.name != "stack" or weight is None:
        return {}
    kept, edits = [], {}
    for output in gathered.operands:
        after = _kept_with(places, output)
        if after is None:
            return {}
        kept.append(after._value)
        edits[output.index, 1] = _to_the_kept(after)
    states = np.stack(kept)
    W = readout.args[weight]
    logits = head.args[0] + (states - gathered._value) @ (W.T if readout.op.name != "matmul" else W)

    def of_kept(replay: Replay, node: Node, argnum: int, g: np.ndarray, rule: Rule) -> np.ndarray:
        return (probabilities(logits) - one_hot(node)) * g[..., None]

    return edits | {(head.index, 0): of_kept, (readout.index, weight): with_args(0, lambda x: states)}


def _kept_with(places: Places, output: Node) -> Node | None:
    """The state that is kept where an output is zeroed, of the same tensor of the cell."""
    if not isinstance(output, Node) or output.op is None or output.op.name != "where":
        return None
    t = places.t[output.index]
    for part in places.parts:
        after = part.after[t if t is not None else 0]
        made = isinstance(after, Node) and after.op is not None and after.op.name == "where"
        if made and after.operands[1] is output.operands[1]:
            return after
    return None


def _to_the_kept(after: Node) -> Edit:
    """The share of the padding goes to the state that was kept."""

    def edit(replay: Replay, node: Node, argnum: int, g: np.ndarray, rule: Rule) -> np.ndarray:
        replay.send(after, np.where(node.args[0], 0, g))
        return rule(g)

    return edit
