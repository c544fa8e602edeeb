"""The graph behind a loss, split by the timesteps of a run: where the loss enters, where a tensor is used."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import numpy as np

from tensorgrad import tree
from tensorgrad.backward import backpropagate
from tensorgrad.bptt.rolls import layers_of, seeded, timestep_finder
from tensorgrad.context import collector_paused
from tensorgrad.errors import GraphError
from tensorgrad.graph import Node
from tensorgrad.nn.unroll import Unrolled
from tensorgrad.tensor import Tensor, seed_of

__all__ = ["Uses", "entries"]

Seeds = list[tuple[Node, np.ndarray]]


def sources(node: Node) -> list[Node]:
    """The operands to which the cotangent of a node goes on."""
    if node.op is not None and node.op.expand is not None:
        # A checkpointed piece, whose results need no gradient rules of their own.
        return [x for x in node.operands if x.requires_grad]
    return [node.operands[argnum] for argnum in node.live]


def reachable(root: Node) -> list[Node]:
    """All nodes behind a node that carry a gradient, itself included, oldest first."""
    seen = {root.index: root}
    waiting = [root]
    with collector_paused():
        while waiting:
            node = waiting.pop()
            for operand in sources(node):
                if operand.index not in seen:
                    seen[operand.index] = operand
                    waiting.append(operand)
    return [seen[index] for index in sorted(seen)]


def entries(what: str, loss: Any, roll: Unrolled) -> dict[int, Seeds]:
    """Through which nodes a loss enters each timestep, with the cotangents that arrive there from outside.

    Every path from the loss into the run passes exactly one of them first, so what they send back adds up
    to the whole gradient. What was computed after the run stays outside, also in a scope "t=3": a loss
    that is summed up in there as time goes by runs through all timesteps.
    Raises GraphError for a loss that does not depend on the run.
    """
    finder = timestep_finder(roll)
    last = _last_number(roll)

    def timestep(node: Node) -> int | None:
        return finder(node) if node.index <= last else None

    if isinstance(loss, Tensor) and (t := timestep(loss)) is not None:
        return {t: [(loss, seed_of(loss, None))]}
    doors: dict[int, Node] = {}
    for node in reachable(loss) if isinstance(loss, Tensor) else ():
        if timestep(node) is None:
            doors |= {x.index: x for x in sources(node) if timestep(x) is not None}
    found = seeded(what, loss, list(doors.values()), cut=True) if doors else {}
    steps: dict[int, Seeds] = defaultdict(list)
    for index, g in found.items():
        t = timestep(doors[index])
        assert t is not None
        steps[t].append((doors[index], g))
    return {t: steps[t] for t in sorted(steps)}


def _last_number(roll: Unrolled) -> int:
    """The greatest creation number of what a run made."""
    made = [roll.steps, *([*run.states] for run in layers_of("", roll).values())]
    return max(x.index for x in tree.leaves(made) if isinstance(x, Node))


class Uses:
    """Where the timesteps of a run use a tensor that stands outside of them, such as a weight.

    A step may use it directly, or what was made of it outside the steps (a weight that is normalised once,
    the embedded inputs). `nodes` are the operations in steps with such operands.
    Raises GraphError for a tensor that the loss does not depend on, that was made in a timestep, or of which
    a step is checkpointed.
    """

    def __init__(self, what: str, loss: Any, x: Any, roll: Unrolled) -> None:
        self.x = x
        self.loss = loss
        self.timestep = timestep_finder(roll)
        if not isinstance(x, Node) or not x.requires_grad:
            shown = x.describe() if isinstance(x, Node) else type(x).__name__
            raise GraphError(f"{what}: give a Tensor that requires a gradient, not {shown}")
        t = self.timestep(x)
        if t is not None:
            raise GraphError(
                f"{what}: the {x.describe()} was made by timestep {t} itself; timesteps have shares in the "
                "gradient of what they all use, such as a weight"
            )
        graph = reachable(loss) if isinstance(loss, Tensor) else []
        self._find(what, graph)
        if x.index not in {node.index for node in graph}:
            raise GraphError(
                f"{what}: the {x.describe()} is no part of the graph of the loss; did the run use another "
                "Tensor, or was the loss computed from another run?"
            )

    def _find(self, what: str, graph: list[Node]) -> None:
        leads = {self.x.index}
        self.nodes: dict[int, tuple[Node, tuple[int, ...]]] = {}
        barrier: dict[int, Node] = {self.x.index: self.x}
        for node in graph:
            t = self.timestep(node)
            if t is None:
                if any(y.index in leads for y in sources(node)):
                    leads.add(node.index)
                barrier |= {y.index: y for y in sources(node) if self.timestep(y) is not None}
            elif node.op is not None and node.op.expand is not None:
                raise GraphError(
                    f"{what}: the cell calls tg.checkpoint in timestep {t}, so what happens there is no "
                    "part of the graph; run it again without"
                )
            elif args := tuple(argnum for argnum in node.live if node.operands[argnum].index in leads):
                self.nodes[node.index] = node, args
        self.barrier = list(barrier.values())

    def shares(self, found: dict[int, np.ndarray]) -> dict[int, np.ndarray]:
        """What each timestep adds to the tensor's gradient, from the cotangents of `nodes`; by timestep."""
        seeds: dict[int, Seeds] = defaultdict(list)
        for index, (node, args) in self.nodes.items():
            if index in found:
                t = self.timestep(node)
                assert t is not None
                seeds[t].append((_twin(node, args), found[index]))
        return {t: self.pull(each) for t, each in seeds.items()}

    def outside(self) -> np.ndarray:
        """What reaches the tensor from the loss without passing through any timestep."""
        if self.timestep(self.loss) is not None:
            return np.zeros(self.x.shape, self.x.dtype)
        return self.pull([(self.loss, seed_of(self.loss, None))])

    def pull(self, seeds: Seeds) -> np.ndarray:
        """Cotangents carried on to the tensor, through nothing that is in a timestep."""
        g = backpropagate(seeds, self.barrier, cut=True).get(self.x.index)
        return np.zeros(self.x.shape, self.x.dtype) if g is None else np.array(g)


def _twin(node: Node, args: tuple[int, ...]) -> Node:
    """The same operation on the same operands, of which only some are given a cotangent.

    It has no hooks: those of the node have seen its cotangent already.
    """
    assert node.op is not None
    return type(node).computed(node._value, node.op, node.operands, node.args, args, node.params, node.scope)
