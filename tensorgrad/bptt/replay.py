"""The backward walk once more, with a mistake in it."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from tensorgrad.bptt.places import Places
from tensorgrad.cotangents import Deferred, Total, unbroadcast
from tensorgrad.graph import Node

__all__ = ["Edit", "Replay", "Rule", "shares"]

Rule = Callable[..., np.ndarray]
"""Of one edge: the share for a cotangent `g`, or with other values for the result and the operands."""

Edit = Callable[["Replay", Node, int, np.ndarray, Rule], "np.ndarray | None"]
"""What a mistake makes of one share: `(replay, node, argnum, g, rule) -> share`, None for nothing."""


class Replay:
    """A walk in which some shares come out otherwise.

    places: the graph. edits: by node and operand. redirect: where shares arrive, by node and operand.
    received: what is made of all that a node has received. order: of the nodes; by default that of the graph.
    cotangents: what every node had received when its turn came, by creation number.
    carried: of that, what came from later timesteps; an array or a `Total`.
    position: how many nodes of the order are behind it.
    """

    def __init__(
        self,
        places: Places,
        edits: Mapping[tuple[int, int], Edit] | None = None,
        redirect: Mapping[tuple[int, int], Node] | None = None,
        order: Sequence[Node] | None = None,
        received: Mapping[int, Callable[[np.ndarray], np.ndarray]] | None = None,
    ) -> None:
        self.places = places
        self.edits = edits or {}
        self.redirect = redirect or {}
        self.received = received or {}
        self.order = places.order if order is None else order
        self.cotangents: dict[int, np.ndarray] = {}
        self.carried: dict[int, Any] = {}
        self.arrived: dict[int, Any] = {}
        self.position = 0

    def follow(self, other: Replay) -> None:
        """Go on from where another walk, of the same order, is now."""
        self.position = other.position
        self.cotangents = other.cotangents.copy()
        self.carried, self.arrived = _copied(other.carried), _copied(other.arrived)

    def run(
        self,
        seeds: Sequence[tuple[Node, np.ndarray]],
        agrees: Callable[[int, Mapping[int, np.ndarray]], bool] | None = None,
        given: Container[int] = (),
        without: Container[int] = (),
        end: int | None = None,
    ) -> bool:
        """Walk; stops with False as soon as `agrees(creation number, cotangents so far)` says no.

        It is asked of the nodes in `given` that are reached; whether it holds of others is for the caller to
        see. without: nodes, such as weights, that no share is computed for. end: the position before which
        to stop; by default the end of the order.
        """
        arrived = self.arrived
        for node, g in seeds:
            self._add(arrived, node.index, g)
        t, places = self.places.t, self.places
        edits, redirect, received = self.edits, self.redirect, self.received
        touched = {index for index, _ in (*edits, *redirect)}
        nodes = self.order[self.position : end]
        self.position += len(nodes)
        cotangents, add = self.cotangents, self._add
        for node in nodes:
            index = node.index
            total = arrived.pop(index, None)
            if total is None:
                continue
            value = node._value
            g = total.dense() if total.__class__ is Total else total
            if g.dtype != value.dtype:
                g = g.astype(value.dtype)
            if index in received:
                g = received[index](g)
            cotangents[index] = g
            if index in given and agrees is not None and not agrees(index, cotangents):
                return False
            if node.op is None:
                continue
            mine = t[index]
            if index not in touched and not node.op.joint:
                args, params, operands, vjps = node.args, node.params, node.operands, node.op.vjps
                enters = places.enters[mine] if mine is not None else ()
                for argnum in node.live:
                    number = operands[argnum].index
                    if number in without:
                        continue
                    share = vjps[argnum](g, value, *args, **params)
                    if share is None:
                        continue
                    if share.shape != args[argnum].shape:
                        share = _fitted(share, args[argnum])
                    if number in enters:
                        add(self.carried, number, share)
                    if number in arrived or share.__class__ is not np.ndarray:
                        add(arrived, number, share)
                    else:
                        arrived[number] = share
                continue
            joint = node.op.vjps(g, node._value, *node.args, **node.params) if node.op.joint else None
            for argnum in node.live:
                key = (index, argnum)
                if node.operands[argnum].index in without and key not in redirect:
                    continue
                edit = edits.get(key)
                if edit is not None:
                    share = edit(self, node, argnum, g, _rule(node, argnum))
                elif joint is not None:
                    share = joint[argnum]
                else:
                    rule = node.op.vjps[argnum]
                    share = rule and rule(g, node._value, *node.args, **node.params)
                if share is None:
                    continue
                target = redirect.get(key, node.operands[argnum])
                share = _fitted(share, node.args[argnum])
                if mine is not None and target.index in places.enters[mine]:
                    self._add(self.carried, target.index, share)
                self._add(arrived, target.index, share)
        return True

    @staticmethod
    def dense(total: Any) -> np.ndarray:
        """What has arrived as an array."""
        array: np.ndarray = total.dense() if total.__class__ is Total else total
        return array

    def send(self, node: Node, g: np.ndarray) -> None:
        """Add a share to a node whose turn is still to come."""
        self._add(self.arrived, node.index, g)

    def share(self, node: Node, argnum: int) -> np.ndarray:
        """What a node whose turn has been sent to one of its operands, without any edit."""
        return _rule(node, argnum)(self.cotangents[node.index])

    @staticmethod
    def _add(totals: dict[int, Any], index: int, share: Any) -> None:
        """Add to what has arrived: an array while there is but one, then a `Total`."""
        before = totals.get(index)
        if before is None:
            totals[index] = share if share.__class__ is np.ndarray else Total(share)
        elif before.__class__ is Total:
            before.add(share)
        else:
            totals[index] = total = Total(before)
            total.add(share)


def shares(node: Node, g: np.ndarray) -> Iterator[tuple[int, Any]]:
    """What a node whose cotangent is `g` sends to each of its operands: the operand's number and the share.

    A share has the shape and dtype of its operand, and may be `Deferred`. An operand that gets none is left
    out; a checkpointed piece of graph, which is gone, has none at all.
    """
    op, args = node.op, node.args
    if op is None or op.expand is not None:
        return
    joint: Any = op.vjps(g, node._value, *args, **node.params) if op.joint else None
    for argnum in node.live:
        if op.joint:
            share = joint[argnum]
        else:
            rule = op.vjps[argnum]
            share = rule and rule(g, node._value, *args, **node.params)
        if share is None:
            continue
        share = _fitted(share, args[argnum])
        if share.dtype != args[argnum].dtype and not isinstance(share, Deferred):
            share = share.astype(args[argnum].dtype)
        yield argnum, share


def _copied(totals: Mapping[int, Any]) -> dict[int, Any]:
    """What has arrived, for a walk of its own to add to."""
    return {index: x.copy() if x.__class__ is Total else x for index, x in totals.items()}


def _rule(node: Node, argnum: int) -> Rule:
    op = node.op
    assert op is not None

    def share(g: np.ndarray, ans: np.ndarray | None = None, args: Mapping[int, Any] | None = None) -> Any:
        values = list(node.args)
        for k, value in (args or {}).items():
            values[k] = value
        out = node._value if ans is None else ans
        if op.joint:
            made = op.vjps(g, out, *values, **node.params)[argnum]
        else:
            made = op.vjps[argnum](g, out, *values, **node.params)
        made = _fitted(made, node.args[argnum])
        return made.dense() if isinstance(made, Deferred) else made

    return share


def _fitted(share: Any, arg: np.ndarray) -> Any:
    """A share summed over the axes along which its operand was broadcast."""
    if isinstance(share, Deferred) or share.shape == arg.shape:
        return share
    return unbroadcast(share, arg.shape)
