"""An unrolled graph as the doctor sees it: the places of the cell, the states between, the weights around.

Whatever the cell, its graph has three kinds of edges: to a node of the same timestep; to a state that entered
the timestep, the *carry*; and to what all timesteps share. A *place* is what the same operation on the same
operands is at every timestep.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from tensorgrad.bptt.partition import reachable
from tensorgrad.bptt.rolls import Part, state_parts, timestep_finder
from tensorgrad.graph import Node
from tensorgrad.nn.unroll import Unrolled

__all__ = ["Edge", "Places"]

# A weight is still one after these.
TURNED = ("transpose", "reshape")


class Edge(NamedTuple):
    """A way that a share of the gradient takes, from a node to one of its operands."""

    node: Node
    argnum: int

    @property
    def operand(self) -> Any:
        """Where the share arrives."""
        return self.node.operands[self.argnum]

    @property
    def key(self) -> tuple[int, int]:
        """What edits are found by."""
        return self.node.index, self.argnum


class Places:
    """The nodes behind a loss, sorted into timesteps and places.

    order: all nodes, youngest first, the order of the backward. T: timesteps. parts: the state, by
        `state_parts`. t: the timestep of each node by creation number, None outside of all.
    enters: at each timestep the states that enter it, by number. leaves: part and timestep of the states
        that leave.
    kinds: for each place and operand the edges of all timesteps, youngest first. outside: edges of nodes in
        no timestep. users: the edges that lead to each node.
    """

    def __init__(self, loss: Node, roll: Unrolled, names: Mapping[int, str] | None = None) -> None:
        self.names = names or {}
        step_of = timestep_finder(roll)
        self.order = reachable(loss)[::-1]
        self.T = len(roll)
        self.t = {node.index: step_of(node) for node in self.order}
        self.parts: list[Part] = state_parts("compare", roll)
        self.enters: dict[int, dict[int, int]] = defaultdict(dict)
        self.leaves: dict[int, tuple[int, int]] = {}
        for k, part in enumerate(self.parts):
            for t in range(self.T):
                if isinstance(part.before[t], Node):
                    self.enters[t][part.before[t].index] = k
                if isinstance(part.after[t], Node):
                    self.leaves[part.after[t].index] = k, t
        self.place: dict[int, int] = {}
        self.at: dict[tuple[int, int], Node] = {}
        self.users: dict[int, list[Edge]] = defaultdict(list)
        self.kinds: dict[tuple[int, int], list[Edge]] = defaultdict(list)
        self.outside: list[Edge] = []
        known: dict[Any, int] = {}
        inside = [
            node for node in reversed(self.order) if self.t[node.index] is not None and node.op is not None
        ]
        # The first timestep last: there a constant may stand where a state stands in the others.
        for node in sorted(inside, key=lambda node: not self.t[node.index]):
            step = self.t[node.index]
            assert step is not None
            signatures = list(self._signatures(node, step))
            signature = next((each for each in signatures if each in known), signatures[0])
            number = known.setdefault(signature, len(known))
            self.place[node.index] = number
            self.at.setdefault((number, step), node)
        for node in self.order:
            for argnum in node.live:
                edge = Edge(node, argnum)
                self.users[edge.operand.index].append(edge)
                place = self.place.get(node.index)
                if place is None:
                    self.outside.append(edge)
                else:
                    self.kinds[place, argnum].append(edge)

    def _signatures(self, node: Node, t: int) -> Iterator[Any]:
        """What a node is, whatever its timestep; the likeliest first, where more than one thing fits."""
        assert node.op is not None
        # x[t] has its timestep for an index, and is the same place all the same.
        template = repr([part for part in node.params.get("template", ()) if not isinstance(part, int)])
        readings = [self._readings(node, argnum, t) for argnum in range(len(node.operands))]
        for parts in itertools.product(*readings):
            yield node.op.name, node.name, template, parts

    def _readings(self, node: Node, argnum: int, t: int) -> list[Any]:
        """What an operand may be: a state, a place of the same timestep, shared by all, or a constant."""
        operand = node.operands[argnum]
        if isinstance(operand, Node):
            if operand.index in self.enters[t]:
                return [("state", self.enters[t][operand.index])]
            if self.t.get(operand.index) == t and operand.index in self.place:
                return [("place", self.place[operand.index])]
            if operand.requires_grad:
                return [("shared", operand.index)]
        if t:
            return [None]
        shape = np.shape(node.args[argnum])
        states = (("state", k) for k, x in enumerate(self.parts) if np.shape(_value(x.after[0])) == shape)
        return [None, *states]

    # --- asking ------------------------------------------------------------------------------------------
    def state_entering(self, edge: Edge) -> int | None:
        """The number of the part of the state that an edge carries back to the timestep before; else None."""
        t = self.t[edge.node.index]
        return None if t is None else self.enters[t].get(edge.operand.index)

    def state_argument(self, node: Node, argnum: int) -> int | None:
        """The part of the state that an operand is, the initial state being one too."""
        t = self.t[node.index]
        if t is None:
            return None
        operand = node.operands[argnum]
        if isinstance(operand, Node) and operand.index in self.enters[t]:
            return self.enters[t][operand.index]
        # A constant where the same place has a state at other timesteps: the initial state.
        twin = self.twin(node, t + 1)
        if t == 0 and twin is not None and not (isinstance(operand, Node) and operand.requires_grad):
            return self.state_argument(twin, argnum)
        return None

    def twin(self, node: Node, t: int) -> Node | None:
        """The node of the same place at another timestep."""
        place = self.place.get(node.index)
        return None if place is None else self.at.get((place, t))

    def state_value(self, part: int, t: int) -> np.ndarray | None:
        """What leaves timestep t; the initial state for t = -1."""
        line = self.parts[part]
        value = line.before[0] if t < 0 else line.after[t]
        return None if value is None else np.asarray(_value(value))

    def is_shared(self, operand: Any) -> bool:
        """Whether an operand is of no timestep: a weight, or one turned or reshaped."""
        while isinstance(operand, Node) and operand.op is not None and operand.op.name in TURNED:
            operand = operand.operands[0]
        return (
            isinstance(operand, Node)
            and self.t.get(operand.index) is None
            and operand.index not in self.leaves
        )

    def describe(self, node: Node) -> str:
        """What a node is to its user: its label, or the operation that made it of what."""
        if node.name:
            return node.name
        if node.op is None:
            return "a leaf"
        names = [self.describe_operand(x) for x in node.operands]
        return f"{node.op.name}({', '.join(names)})"

    def describe_operand(self, operand: Any) -> str:
        """An operand by its label, or the kind of thing it is."""
        while isinstance(operand, Node) and operand.op is not None and operand.op.name in TURNED:
            operand = operand.operands[0]
        if not isinstance(operand, Node):
            return "..."
        return operand.name or self.names.get(operand.index) or (operand.op.name if operand.op else "...")


def _value(x: Any) -> Any:
    """The array in a Tensor, and anything else as it is."""
    return getattr(x, "_value", x)
