"""The backward walk: reverse-mode differentiation of a recorded graph, youngest node first."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from heapq import heappop, heappush
from typing import Any

import numpy as np

from tensorgrad.context import collector_paused, configure, context
from tensorgrad.cotangents import Deferred, Rows, Total, broadcasts, unbroadcast
from tensorgrad.errors import AnomalyError, DtypeError, GraphError, ShapeError
from tensorgrad.graph import Node, is_finite, kind_of

__all__ = ["backpropagate"]


def backpropagate(
    seeds: Iterable[tuple[Node, Any]],
    wanted: Sequence[Node] | None = None,
    create_graph: bool = False,
    cut: bool = False,
) -> dict[int, Any]:
    """Reverse-mode differentiation from `seeds`, pairs of a node and its cotangent.

    With `wanted`, returns the cotangents of those nodes by creation number; a node that the seeds do not
    depend on is absent. Without, adds the cotangent of every leaf (and of every node that retains its
    gradient) to its `grad`. With `create_graph` the cotangents are themselves recorded. With `cut` the walk
    ends at the wanted nodes: none of them counts towards another through what it was made from, and their
    hooks, which are for whole gradients, see nothing.

    Cotangents live in this call alone, so walking a graph twice gives the same numbers twice.
    """
    walk = _Walk(wanted, create_graph, cut)
    # The walk looks for anomalies itself: it knows of which operation a bad gradient is the backward.
    with configure(recording=create_graph, anomaly=False), collector_paused():
        return walk.run(seeds)


class _Walk:
    """The state of one backward walk: what has arrived where, and what is next."""

    def __init__(self, wanted: Sequence[Node] | None, create_graph: bool, cut: bool) -> None:
        self.create_graph = create_graph
        self.cut = cut
        self.anomaly = context().anomaly
        # Without anything wanted, cotangents go to the leaves, of which none has a number below 0.
        self.deposit = wanted is None
        self.wanted = {node.index for node in wanted or ()}
        self.stop = min(self.wanted, default=-1)
        self.found: dict[int, Any] = {}
        self.stands_for: dict[int, Node] = {}
        self.arrived: dict[int, Any] = {}
        self.nodes: dict[int, Node] = {}
        self.heap: list[int] = []

    def run(self, seeds: Iterable[tuple[Node, Any]]) -> dict[int, Any]:
        for root, seed in seeds:
            self.send(root, seed)
        # This loop is what every training step waits for: the common case is spelled out in it, and
        # everything else is a call away.
        heap, nodes, arrived = self.heap, self.nodes, self.arrived
        anomaly, create_graph = self.anomaly, self.create_graph
        wanted = self.wanted
        while heap:
            index = -heappop(heap)
            if index < self.stop:
                break
            node = nodes.pop(index, None)
            if node is None:
                continue
            g = arrived.pop(index)
            op = node.op
            if op is not None and op.expand is not None:
                self.splice(node, g, op.expand(node))
                continue
            if (
                g.__class__ is not np.ndarray
                or op is None
                or node.hooks
                or node.retains_grad
                or index in wanted
            ):
                g = self.settle(node, g)
                if op is None or (self.cut and index in wanted):
                    continue
            args, operands, params, vjps = node.args, node.operands, node.params, op.vjps
            if create_graph:
                if g.name is None and node.name:
                    g.name = f"d{node.name}"
                ans: Any = node
                values = _recorded_args(node)
            else:
                ans = node._value
                values = args
            if op.joint:
                shares = vjps(g, ans, *values, **params)
            for argnum in node.live:
                if op.joint:
                    share = shares[argnum]
                else:
                    try:
                        rule = vjps[argnum]
                    except IndexError:
                        raise op.missing_rule(argnum) from None
                    share = rule and rule(g, ans, *values, **params)
                if share is None:
                    continue
                arg = args[argnum]
                try:
                    fits = share.shape == arg.shape and share.dtype == arg.dtype and not anomaly
                except AttributeError:
                    raise op.no_array(argnum, share) from None
                if not fits:
                    share = self.fit(share, node, argnum)
                if create_graph and not isinstance(share, Node):
                    # A rule that isn't written with tensorgrad's operations gives a constant.
                    share = node.result_class(np.array(share))
                operand = operands[argnum]
                number = operand.index
                before = arrived.get(number)
                if before is None:
                    arrived[number] = share
                    nodes[number] = operand
                    heappush(heap, -number)
                elif before.__class__ is Total:
                    before.add(share)
                else:
                    self.merge(number, share)
        return self.found

    def send(self, node: Node, g: Any) -> None:
        """Add a contribution to a node's cotangent and see to it that the node gets its turn."""
        if node.index in self.arrived:
            self.merge(node.index, g)
        else:
            self.arrived[node.index] = g
            self.nodes[node.index] = node
            heappush(self.heap, -node.index)

    def merge(self, index: int, g: Any) -> None:
        """Add a contribution to those that have arrived."""
        before = self.arrived[index]
        if before.__class__ is Total:
            before.add(g)
        elif self.create_graph:
            self.arrived[index] = before + g
        else:
            total = Total(before)
            total.add(g)
            self.arrived[index] = total

    def settle(self, node: Node, g: Any) -> Any:
        """The whole cotangent of a node whose users have all had their turn: summed, shown, handed over."""
        own = g.__class__ is not np.ndarray and isinstance(g, (Total, Deferred))
        if own:
            g = g.dense()
            if g.dtype != node._value.dtype:
                g = g.astype(node._value.dtype)
        node = self.stands_for.get(node.index, node)
        wanted = node.index in self.wanted
        if node.hooks and not (self.cut and wanted):
            g, own = self.hooked(node, g), False
        if wanted:
            self.found[node.index] = g
        elif self.deposit and (node.op is None or node.retains_grad):
            if self.create_graph:
                # Only in a function that is being compiled: it keeps the gradients' own history.
                context().tracer.effects.deposit(node, g)
            elif node.grad is None:
                node.grad = g if own else np.array(g)
            else:
                node.grad = np.asarray(node.grad + g)
        return g

    def hooked(self, node: Node, g: Any) -> Any:
        """A node's cotangent after its hooks have seen it and perhaps put another in its place."""
        for hook in tuple(node.hooks or ()):
            if isinstance(g, np.ndarray):
                # The array may be another node's cotangent too, or an operand's values.
                g = g.view()
                g.flags.writeable = False
            changed = hook(g)
            if changed is None:
                continue
            dtype = node._value.dtype
            new: Any = changed if isinstance(changed, Node) else node.result_class(np.array(changed, dtype))
            if new._value.dtype != dtype:
                new = new.astype(dtype)
            if new._value.shape != node._value.shape:
                raise ShapeError(
                    f"a hook on the {node.describe()} returned a gradient of shape {new._value.shape}"
                )
            g = new if self.create_graph else new._value
        return g

    def fit(self, g: Any, node: Node, argnum: int) -> Any:
        """Bring a contribution to the shape and dtype of its operand, or say which rule is wrong."""
        operand = node.args[argnum]
        shape = operand.shape
        if g.shape != shape:
            op = node.op
            assert op is not None
            rows = g.__class__ is np.ndarray and not self.create_graph and g.shape[-1:] == shape
            if op.broadcasts and rows and g.size:
                # A bias: its T sums over rows are put off and done together.
                g = Rows(g if g.ndim == 2 else g.reshape(-1, shape[0]))
            elif op.broadcasts and broadcasts(shape, g.shape):
                g = unbroadcast(g, shape)
            else:
                raise ShapeError(
                    f"the gradient rule of {op.name} for operand {argnum} gave shape {g.shape}, "
                    f"but the operand has shape {shape}; {node.describe()}"
                )
        if g.dtype != operand.dtype and not isinstance(g, Deferred):
            if g.dtype.kind == "c":
                raise DtypeError(f"gradients through complex numbers are not offered: {node.describe()}")
            g = g.astype(operand.dtype)
        if self.anomaly:
            array = g.dense() if isinstance(g, Deferred) else getattr(g, "_value", g)
            if not is_finite(array):
                raise AnomalyError(
                    f"the backward of the {node.describe()} made {kind_of(array)} in the gradient "
                    f"of operand {argnum} of shape {operand.shape}"
                )
        return g

    def splice(self, node: Node, g: Any, pairs: Iterable[tuple[Node | None, Node]]) -> None:
        """Go on in a recomputed piece of graph: what has arrived at each old output moves to its twin.

        node: the output whose turn it is, with its cotangent `g`. pairs: old outputs (None for one that
        nobody holds any more) and their new nodes.

        The new nodes are younger than all that waits, so they take their turn at once and the leaves
        receive the same contributions in the same order as if everything had been stored. A twin may have
        users inside the piece: the old output is shown its cotangent when the twin has its turn.
        """
        for old, new in pairs:
            if old is None:
                continue
            share = g
            if old is not node:
                self.nodes.pop(old.index, None)
                share = self.arrived.pop(old.index, None)
            if new.requires_grad:
                if old.hooks or old.retains_grad or old.index in self.wanted:
                    self.stands_for[new.index] = old
                    self.wanted.add(new.index)
                if share is not None:
                    self.send(new, share)
            elif share is not None:
                self.settle(old, share)


def _recorded_args(node: Node) -> tuple[Any, ...]:
    """The operands as Nodes, for gradients that are differentiated again."""
    for operand, arg in zip(node.operands, node.args, strict=True):
        if isinstance(operand, Node) and operand._value is not arg:
            raise GraphError(
                f"the {operand.describe()} was given a new value after the {node.describe()} was computed "
                "from it. First-order gradients of that result still work; for gradients of gradients "
                "(create_graph=True) differentiate before changing the tensor, or run the forward again"
            )
    return tuple(
        operand if isinstance(operand, Node) else arg
        for operand, arg in zip(node.operands, node.args, strict=True)
    )
