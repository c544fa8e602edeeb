"""Mistakes at gates: where they mix, what they multiply, and how they are put together."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from tensorgrad.bptt.mistakes.edits import (
    ACTIVATIONS,
    PRODUCTS,
    Edits,
    Mistake,
    every,
    nothing,
    scaled,
)
from tensorgrad.bptt.mistakes.structure import (
    block_of,
    blocks,
    gate_of,
    product_with,
    ungated_block,
    weight_of,
)
from tensorgrad.bptt.places import Edge, Places
from tensorgrad.bptt.replay import Edit, Replay, Rule
from tensorgrad.graph import Node


def gates(places: Places) -> Iterator[Mistake]:
    """Gates: where they mix, what they multiply, and how they are put together."""
    yield from _mixtures(places)
    yield from _gated_products(places)
    yield from _reset_conventions(places)
    yield from _whole_gates(places)
    yield from _orders(places)


class _Mixture(NamedTuple):
    """n + z * (h - n), which is (1 - z) * n + z * h, at one timestep."""

    total: Node
    z: Node
    n: Edge
    gate: Edge
    h: Edge
    minus_n: Edge

    @property
    def new(self) -> np.ndarray:
        """The candidate, n."""
        value: np.ndarray = self.minus_n.node.args[1]
        return value

    @property
    def old(self) -> np.ndarray:
        """The state before, h."""
        value: np.ndarray = self.h.node.args[0]
        return value


def _mixture(total: Node) -> _Mixture | None:
    """The parts of a mixture, if a node is one."""
    if total.op is None or total.op.name != "add":
        return None
    for k, j in itertools.product((0, 1), (0, 1)):
        n, product = total.operands[k], total.operands[1 - k]
        if not isinstance(product, Node) or product.op is None or product.op.name != "multiply":
            continue
        z, difference = product.operands[j], product.operands[1 - j]
        if not isinstance(difference, Node) or difference.op is None or not isinstance(z, Node):
            continue
        if difference.op.name == "subtract" and difference.operands[1] is n:
            return _Mixture(
                total, z, Edge(total, k), Edge(product, j), Edge(difference, 0), Edge(difference, 1)
            )
    return None


def _mixtures(places: Places) -> Iterator[Mistake]:
    """The three gradients of a mixture, each with the usual mistakes."""
    by_place: dict[int, list[_Mixture]] = {}
    for (place, _), node in places.at.items():
        mixture = _mixture(node)
        if mixture is not None:
            by_place.setdefault(place, []).append(mixture)
    for mixed in by_place.values():
        where = f"what {places.describe(mixed[0].total)} sends back"
        given_by_z = _changed(mixed, "n", _times(lambda z: z)) | _changed(mixed, "minus_n", _dropped)
        kept_by_rest = _changed(mixed, "h", _times(lambda z: 1 - z))
        yield Mistake("BPTT035", f"{where} to the candidate", given_by_z)
        yield Mistake("BPTT035", f"{where} to the state before", kept_by_rest)
        yield Mistake("BPTT035", f"{where} to both", given_by_z | kept_by_rest)
        yield Mistake("BPTT029", f"{where} to the candidate", _changed(mixed, "minus_n", _dropped))
        yield Mistake("BPTT029", f"{where} to the state before", _changed(mixed, "h", _times(np.ones_like)))
        neither = _changed(mixed, "n", _dropped) | _changed(mixed, "minus_n", _dropped)
        yield Mistake("BPTT034", f"{where} to the candidate", neither)
        to_gate = f"{where} to the gate"
        for code, factor in (
            ("BPTT034", lambda mixture: mixture.old),
            ("BPTT034", lambda mixture: -mixture.new),
            ("BPTT034", lambda mixture: mixture.new),
            ("BPTT032", lambda mixture: mixture.total._value - mixture.new),
        ):
            yield Mistake(code, to_gate, _changed(mixed, "gate", _by(factor)))


def _changed(mixed: list[_Mixture], name: str, make: Callable[[_Mixture], Edit]) -> Edits:
    """An edit of one edge of every mixture."""
    found = ((getattr(mixture, name), make(mixture)) for mixture in mixed)
    return {edge.key: edit for edge, edit in found if edge.argnum in edge.node.live}


def _dropped(mixture: _Mixture) -> Edit:
    return nothing


def _times(share: Callable[[np.ndarray], np.ndarray]) -> Callable[[_Mixture], Edit]:
    """What the mixture received, times something of its gate."""

    def make(mixture: _Mixture) -> Edit:
        return lambda replay, node, argnum, g, rule: (
            replay.cotangents[mixture.total.index] * share(mixture.z._value)
        )

    return make


def _by(factor: Callable[[_Mixture], np.ndarray]) -> Callable[[_Mixture], Edit]:
    """The cotangent times something of the mixture."""

    def make(mixture: _Mixture) -> Edit:
        return lambda replay, node, argnum, g, rule: g * factor(mixture)

    return make


def _gated_products(places: Places) -> Iterator[Mistake]:
    """A gate that multiplies one block of a product with a weight: the reset gate of a GRU."""
    for (_, argnum), edges in places.kinds.items():
        node = edges[0].node
        if node.op is None or node.op.name not in PRODUCTS:
            continue
        for name, block in blocks(places, node):
            piece, _ = block_of(places, node, block)
            if piece is None or product_with(places, piece) is None:
                continue
            where = f"{places.describe_operand(edges[0].operand)}, by way of {name}"
            yield Mistake("BPTT037", where, every(edges, ungated_block(places, block)))
            all_of_them = [
                edge
                for other in node.live
                for edge in places.kinds[places.place[node.index], other]
                if argnum == node.live[0]
            ]
            if all_of_them:
                where = f"everything by way of {name}"
                yield Mistake("BPTT037", where, every(all_of_them, ungated_block(places, block)))


def _reset_conventions(places: Places) -> Iterator[Mistake]:
    """The reset gate before the product with the weight, or after it."""
    for place in dict.fromkeys(places.place.values()):
        nodes = {t: node for (at, t), node in places.at.items() if at == place}
        ways: list[Edits] = [{}, {}, {}]
        for node in nodes.values():
            ways[0] |= _reset_before_meant_after(places, node, True)
            ways[1] |= _reset_before_meant_after(places, node, False)
            ways[2] |= _reset_after_meant_before(places, node)
        for edits in ways:
            if edits:
                yield Mistake("BPTT036", "the reset gate", edits)


def _state_operand(places: Places, node: Node) -> int | None:
    for argnum in range(len(node.operands)):
        if places.state_argument(node, argnum) is not None:
            return argnum
    return None


def _reset_before_meant_after(places: Places, node: Node, gated: bool) -> Edits:
    """The graph has r * (W h + b), the backward is that of W (r * h) + b.

    gated: whether the gradient of W sees r * h, or h alone.
    """
    state = _state_operand(places, node)
    if node.op is None or node.op.name not in ("linear", "affine") or state is None:
        return {}
    for edge in places.users[node.index]:
        product = product_with(places, edge.node)
        if edge.node.op is not None and edge.node.op.name == "getitem" and product is not None:
            return _reset_edits(node, state, edge.node, product, gated)
    return {}


def _reset_edits(node: Node, state: int, piece: Node, product: Node, gated: bool) -> Edits:
    """Of the product `node` with the state, its block `piece`, and what the gate makes of that."""
    weight = weight_of(node, state)
    assert weight is not None
    gate = 1 if product.operands[0] is piece else 0
    r, h = product.args[gate], node.args[state]
    index = piece.params["template"]
    rows = np.arange(len(node.args[weight]))[index[-1]]
    W = node.args[weight][rows]

    def with_block(g: np.ndarray, block: np.ndarray | float) -> np.ndarray:
        g = g.copy()
        g[index] = block
        return g

    def to_gate(replay: Replay, n: Node, a: int, g: np.ndarray, rule: Rule) -> np.ndarray:
        return h * (g @ W)

    def to_state(replay: Replay, n: Node, a: int, g: np.ndarray, rule: Rule) -> np.ndarray:
        return rule(with_block(g, 0.0)) + r * (replay.cotangents[product.index] @ W)

    def to_weight(replay: Replay, n: Node, a: int, g: np.ndarray, rule: Rule) -> np.ndarray:
        share = rule(with_block(g, 0.0)).copy()
        share[rows] += replay.cotangents[product.index].T @ (r * h if gated else h)
        return share

    def to_bias(replay: Replay, n: Node, a: int, g: np.ndarray, rule: Rule) -> np.ndarray:
        return rule(with_block(g, replay.cotangents[product.index]))

    edits: Edits = {(product.index, gate): to_gate, (node.index, state): to_state}
    edits[node.index, weight] = to_weight
    for bias in range(2, len(node.operands)) if len(node.operands) == 3 else ():
        edits[node.index, bias] = to_bias
    return edits


def _reset_after_meant_before(places: Places, node: Node) -> Edits:
    """The graph has W (r * h) + b; the backward is that of r * (W h + b)."""
    if node.op is None or node.op.name != "linear":
        return {}
    product = node.operands[0]
    if not isinstance(product, Node) or product.op is None or product.op.name != "multiply":
        return {}
    k = _state_operand(places, product)
    if k is None or product.args[0].shape != product.args[1].shape:
        return {}
    r, h, W = product.args[1 - k], product.args[k], node.args[1]
    bias = node.args[2] if len(node.args) > 2 else np.zeros(len(W), W.dtype)

    def to_state(replay: Replay, n: Node, a: int, g: np.ndarray, rule: Rule) -> np.ndarray:
        return (r * replay.cotangents[node.index]) @ W

    def to_gate(replay: Replay, n: Node, a: int, g: np.ndarray, rule: Rule) -> np.ndarray:
        return replay.cotangents[node.index] * (h @ W.T + bias)

    def to_weight(replay: Replay, n: Node, a: int, g: np.ndarray, rule: Rule) -> np.ndarray:
        return (r * g).T @ h

    def to_bias(replay: Replay, n: Node, a: int, g: np.ndarray, rule: Rule) -> np.ndarray:
        return rule(r * g)

    edits: Edits = {(product.index, k): to_state, (product.index, 1 - k): to_gate}
    edits[node.index, 1] = to_weight
    if len(node.args) > 2:
        edits[node.index, 2] = to_bias
    return edits


def _whole_gates(places: Places) -> Iterator[Mistake]:
    """All that reaches an activation: of the wrong sign, or nothing."""
    for place in dict.fromkeys(places.place.values()):
        nodes = [node for (at, _), node in places.at.items() if at == place]
        if nodes[0].op is None or nodes[0].op.name not in ACTIVATIONS:
            continue
        edges = [edge for node in nodes for edge in places.users[node.index]]
        where = f"what reaches {places.describe(nodes[0])}"
        yield Mistake("BPTT035", where, every(edges, scaled(-1.0)))
        yield Mistake("BPTT034", where, every(edges, nothing))


def _orders(places: Places) -> Iterator[Mistake]:
    """Gates cut from pre-activations, and put back in another order."""
    cut: dict[str, list[Node]] = {}
    for node in places.order:
        if node.op is not None and node.op.name == "getitem" and len(node.args) == 1 and node.live:
            operand = node.operands[0]
            if operand.index in places.place:
                cut.setdefault(repr(node.params["template"]), []).append(node)
    for one, two in itertools.combinations(cut.values(), 2):
        if one[0]._value.shape != two[0]._value.shape:
            continue
        a, b = one[0].params["template"], two[0].params["template"]
        products = {node.operands[0].index: node.operands[0] for node in [*one, *two]}
        edges = [Edge(node, argnum) for node in products.values() for argnum in node.live]
        names = [places.describe(gate_of(places, nodes[0])) for nodes in (one, two)]
        where = f"the gates {names[0]} and {names[1]}"
        put = {(node.index, 0): _into(b) for node in one} | {(node.index, 0): _into(a) for node in two}
        yield Mistake("BPTT031", where, put)
        yield Mistake("BPTT031", where, every(edges, _swapped(a, b)))
        kept = [edge for edge in edges if places.state_entering(edge) is None]
        if len(kept) < len(edges):
            yield Mistake("BPTT031", where, every(kept, _swapped(a, b)))


def _into(index: Any) -> Edit:
    def edit(replay: Replay, node: Node, argnum: int, g: np.ndarray, rule: Rule) -> np.ndarray:
        out = np.zeros_like(node.args[0])
        out[index] = g
        return out

    return edit


def _swapped(a: Any, b: Any) -> Edit:
    def edit(replay: Replay, node: Node, argnum: int, g: np.ndarray, rule: Rule) -> np.ndarray:
        turned = g.copy()
        turned[a], turned[b] = g[b], g[a]
        return rule(turned)

    return edit
