"""From a recorded graph to what is to be drawn.

Every value stands once. A leaf that several frames use, a parameter above all, stands in the frame around
them all; how a value with thousands of users is drawn without a tangle is for the layout to know.
"""

from __future__ import annotations

import inspect
import re
from collections import defaultdict
from collections.abc import Callable, Collection, Container, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from tensorgrad import tree
from tensorgrad.errors import GraphError, UserError
from tensorgrad.graph import Node
from tensorgrad.op import Op
from tensorgrad.viz.model import Arrow, Box, Kind, Model
from tensorgrad.viz.scopes import Scopes
from tensorgrad.viz.steps import timestep_of

__all__ = ["build", "computed_from"]

# The operations that lead from the losses of single timesteps to the one that is minimised.
_GATHERING = frozenset({"add", "concatenate", "divide", "mean", "multiply", "reshape", "stack", "sum"})
_JOINING = frozenset({"concatenate", "stack"})
# What an operation is told that tells a reader nothing: an index that its name shows, a call to be run again.
_UNTOLD = frozenset({"piece", "template"})
# The rank of leaves that nobody has named.
_NAMELESS = 3


def build(output: Any, unrolled: Any = None, params: Any = None) -> Model:
    """Everything that `output` was computed from, as boxes, arrows and frames.

    Args:
        output: a Tensor, or a tree of Tensors.
        unrolled: what `nn.unroll` returned, for its labels and its last state.
        params: a Module or any tree of Tensors; its leaves are called by their paths in it.

    Raises:
        GraphError: `output` holds no Tensor, or none that an operation made.
        UserError: `unrolled` is something else.

    Example:
        >>> import tensorgrad as tg
        >>> x = tg.tensor(2.0, requires_grad=True, name="x")
        >>> model = build(tg.label(tg.tanh(x * 0.5), "h"))
        >>> [(box.id, box.op) for box in model.boxes]
        [('x', ''), ('multiply', 'multiply(·, 0.5)'), ('h', 'tanh')]
    """
    if unrolled is not None and not hasattr(unrolled, "steps"):
        raise UserError(f"unrolled= takes what nn.unroll returned, not {type(unrolled).__name__}")
    outputs = [leaf for leaf in tree.leaves(output) if isinstance(leaf, Node)]
    if not outputs:
        raise GraphError(
            f"draw: there is no Tensor in this {type(output).__name__}; give it a loss or an output"
        )
    if all(node.op is None for node in outputs):
        raise GraphError(
            f"draw: there is nothing to draw behind the {outputs[0].describe()}: no recorded operation made "
            "it (was it computed under no_grad, detached, by an operation that has no gradient, or from "
            "tensors without requires_grad=True?)"
        )
    return _Builder(outputs, unrolled, params).run()


@dataclass(slots=True)
class _Part:
    """A box in the making."""

    scope: str
    kind: Kind
    name: str
    op: str
    array: Any
    notes: tuple[str, ...]
    number: int | None
    # Who comes first where several have one name; those of the last rank have been given none.
    rank: int
    frame: str = ""
    role: str = ""
    id: str = ""


class _Builder:
    """The state of one `build`."""

    def __init__(self, outputs: list[Node], unrolled: Any, params: Any) -> None:
        self.nodes = computed_from(outputs)
        self.scopes = Scopes(node.scope for node in self.nodes if node.op is not None)
        self.labels: dict[int, str] = {}
        for step in unrolled.steps if unrolled is not None else ():
            # Of several labels of one tensor the first is the cell's own.
            self.labels.update(_names(reversed(step.items())))
        self.pieces = _pieces(self.nodes, unrolled)
        self.paths = _names(zip(tree.paths(params), tree.leaves(params), strict=True))
        self.outputs = _gathered(outputs, self.labels)
        self.states = _names(("", leaf) for leaf in tree.leaves(getattr(unrolled, "state", None)))
        self.arguments: dict[Op, list[str]] = {}
        # By the number of the node; a constant by that of its user and the argument number.
        self.parts: dict[int | tuple[int, int], _Part] = {}

    def run(self) -> Model:
        homes = self.find_homes()
        joined: list[tuple[_Part, _Part, int]] = []
        for node in self.nodes:
            if node.op is None:
                if node.index in self.outputs:
                    self.parts[node.index] = self.leaf(node, "", "")
                continue
            tails = [self.operand(node, argnum, homes) for argnum in range(len(node.operands))]
            head = self.parts[node.index] = self.result(node)
            joined += [(tail, head, argnum) for argnum, tail in enumerate(tails) if tail is not None]
        self.number_parameters()
        self.place(lambda rank: rank < _NAMELESS)
        self.name_first_states(joined)
        self.place(lambda rank: rank == _NAMELESS)
        pattern, distance, hands_over = self.scopes.pattern, self.scopes.distance, self.scopes.hands_over
        states = {
            (pattern(tail.scope), tail.role) for tail, head, _ in joined if distance(tail.scope, head.scope)
        }
        for part in self.parts.values():
            if part.kind == "operation" and (pattern(part.scope), part.role) in states:
                part.kind = "state"
        boxes = tuple(
            Box(
                *(p.id, p.kind, p.name, p.op, _shape(p.array.shape), _dtype(p.array.dtype)),
                *(p.frame, p.role, p.notes, p.number),
            )
            for p in self.parts.values()
        )
        arrows = tuple(
            Arrow(tail.id, head.id, hands_over(tail.scope, head.scope), argnum, (number,))
            for number, (tail, head, argnum) in enumerate(joined)
        )
        return Model(boxes, arrows, self.scopes.frames)

    def find_homes(self) -> dict[int, str]:
        """By the number of a leaf the scope it stands in: the innermost that holds all its users."""
        homes: dict[int, str] = {}
        for node in self.nodes:
            for operand in node.operands:
                if isinstance(operand, Node) and operand.op is None:
                    before = homes.get(operand.index)
                    homes[operand.index] = (
                        node.scope if before is None else self.scopes.common(before, node.scope)
                    )
        return homes

    # --- parts -------------------------------------------------------------------------------------------
    def result(self, node: Node) -> _Part:
        kind: Kind = "operation"
        if node.index in self.outputs:
            kind = "output"
        elif node.index in self.states:
            kind = "state"
        label = self.labels.get(node.index)
        name = self.unprefixed(label, node, node.scope) if label else node.name or ""
        # Of several results with one name, what `unroll` has on record under it comes first.
        rank = 0 if label else 1 if name else 2
        array, notes = node._value, _notes(node)
        if node.index in self.pieces:
            t, steps = self.pieces[node.index]
            if label and node.name:
                # Of each timestep there is the output alone, which has a name of its own, such as "h".
                layer = label.rpartition(".")[0]
                name = self.unprefixed(f"{layer}.{node.name}" if layer else node.name, node, node.scope)
            name = f"{name} t={t}"
            notes = (f"one checkpoint: {steps}, of which no operation is on record", *notes)
        return _Part(node.scope, kind, name, self.operation(node), array, notes, node.index, rank)

    def unprefixed(self, label: str, node: Node, scope: str) -> str:
        """A label without the name of its layer, "l0.h", where the frame around says that."""
        layer, _, own = label.rpartition(".")
        return own if layer and own == node.name and layer in scope.split("/") else label

    def leaf(self, node: Node, scope: str, role: str) -> _Part:
        kind: Kind = "parameter" if node.requires_grad else "input"
        label = self.labels.get(node.index)
        name = self.unprefixed(label, node, scope) if label else self.paths.get(node.index) or node.name
        rank = 1 if name else _NAMELESS
        return _Part(scope, kind, name or role or kind, "", node._value, _notes(node), node.index, rank)

    def operand(self, node: Node, argnum: int, homes: Mapping[int, str]) -> _Part | None:
        """What stands for an operand; None for a number, which the operation's own text shows."""
        operand = node.operands[argnum]
        if not isinstance(operand, Node):
            array = node.args[argnum]
            if not array.ndim:
                return None
            name = self.argument(node, argnum) or _content(array)
            constant = _Part(node.scope, "constant", name, "", array, (), None, _NAMELESS)
            self.parts[node.index, argnum] = constant
            return constant
        if operand.index not in self.parts:
            self.parts[operand.index] = self.leaf(operand, homes[operand.index], self.argument(node, argnum))
        return self.parts[operand.index]

    def operation(self, node: Node) -> str:
        """The operation with the numbers among its operands: "multiply(·, 0.5)", "getitem[..., 4:8]"."""
        assert node.op is not None
        name = node.op.name
        if "template" in node.params:
            return f"{name}[{', '.join(_index(part) for part in node.params['template'])}]"
        texts = [
            "·" if isinstance(operand, Node) or array.ndim else _number(array)
            for operand, array in zip(node.operands, node.args, strict=True)
        ]
        return name if all(text == "·" for text in texts) else f"{name}({', '.join(texts)})"

    def argument(self, node: Node, argnum: int) -> str:
        """What the operation calls an operand, such as "weight"; empty where that says nothing."""
        op = node.op
        assert op is not None
        if op not in self.arguments:
            try:
                parameters = inspect.signature(op.forward).parameters.values()
            except ValueError:
                # A function written in C.
                parameters = {}.values()
            self.arguments[op] = [p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD]
        names = self.arguments[op]
        # One letter, x or y, tells nothing, and y could be taken for an output.
        return names[argnum] if argnum < len(names) and len(names[argnum]) > 1 else ""

    # --- names and ids -----------------------------------------------------------------------------------
    def number_parameters(self) -> None:
        """Tell parameters of one name apart, but for those of which every timestep has one of its own."""
        named: dict[str, list[_Part]] = defaultdict(list)
        for part in self.parts.values():
            if part.kind == "parameter":
                named[part.name].append(part)
        for parts in named.values():
            scopes = [part.scope for part in parts]
            one_each = len(set(scopes)) == len(scopes) and len(set(map(self.scopes.pattern, scopes))) == 1
            if len(parts) > 1 and not one_each:
                for number, part in enumerate(parts, 1):
                    part.name = f"{part.name} {number}"

    def name_first_states(self, joined: Iterable[tuple[_Part, _Part, int]]) -> None:
        """Call what stands in the place of a carried h, where nothing has been carried yet, h0."""
        places: dict[tuple[str, str, int], str] = {}
        for tail, head, argnum in joined:
            if tail.op and tail.name and self.scopes.distance(tail.scope, head.scope):
                places[self.scopes.pattern(head.scope), head.role, argnum] = tail.name
        for tail, head, argnum in joined:
            name = places.get((self.scopes.pattern(head.scope), head.role, argnum))
            if name and tail.rank == _NAMELESS and tail.kind != "parameter":
                tail.name = f"{name}_0" if name[-1].isdigit() else f"{name}0"

    def place(self, ranks: Callable[[int], bool]) -> None:
        """Give every part of these ranks its frame, role and id."""
        parts = [part for part in self.parts.values() if ranks(part.rank)]
        # Of several results of one name the last comes first: of h and h masked, the one that is carried.
        parts = [part for part in reversed(parts) if part.rank == 1] + [p for p in parts if p.rank != 1]
        for part in sorted(parts, key=lambda part: part.rank):
            part.frame = self.scopes.ids[part.scope]
            part.role = self.scopes.new_id(part.frame, part.name or re.split(r"[(\[]", part.op)[0])
            part.id = f"{part.frame}.{part.role}" if part.frame else part.role


# Of many boxes few shapes and dtypes differ, and NumPy takes its time to spell them.
_shape, _dtype = lru_cache(str), lru_cache(str)


def computed_from(outputs: Iterable[Node]) -> list[Node]:
    """The outputs and all they depend on, in the order of creation."""
    found = {node.index: node for node in outputs}
    waiting = list(found.values())
    while waiting:
        for operand in waiting.pop().operands:
            if isinstance(operand, Node) and operand.index not in found:
                found[operand.index] = operand
                waiting.append(operand)
    return [found[index] for index in sorted(found)]


def _gathered(outputs: Iterable[Node], labels: Container[int]) -> set[int]:
    """The numbers of the outputs, and of what leads to a loss from those of the timesteps."""
    found = set()
    waiting = list(outputs)
    while waiting:
        node = waiting.pop()
        if node.index in found:
            continue
        found.add(node.index)
        if node.op is None or node.op.name not in _GATHERING:
            continue
        for operand in node.operands:
            if not isinstance(operand, Node) or operand.op is None or operand.index in labels:
                continue
            # Single numbers, or what puts them together: a state that is summed is no loss.
            if operand._value.ndim == 0 or (operand._value.ndim == 1 and operand.op.name in _JOINING):
                waiting.append(operand)
    return found


def _pieces(nodes: Iterable[Node], unrolled: Any) -> dict[int, tuple[int, str]]:
    """By the number of what a checkpoint handed out its timestep, and all timesteps of the checkpoint."""
    steps: dict[int, dict[int, int]] = defaultdict(dict)
    found: dict[int, int] = {}
    for t, step in enumerate(unrolled.steps if unrolled is not None else ()):
        for x in step.values():
            if isinstance(x, Node) and x.op is not None and x.op.expand and timestep_of(x.scope) is None:
                found[x.index] = t
                steps[id(x.params["piece"])][x.index] = t
    if not found:
        return {}
    for node in nodes:
        if node.op is not None and node.op.expand and node.index not in found:
            made = steps.get(id(node.params["piece"]))
            # Beside the outputs of its timesteps a checkpoint hands on the state after the one it made last.
            if made:
                found[node.index] = made[max(made)]
    pieces = {node.index: id(node.params["piece"]) for node in nodes if node.index in found}
    return {number: (found[number], _span(steps[piece].values())) for number, piece in pieces.items()}


def _span(steps: Collection[int]) -> str:
    first, last = min(steps), max(steps)
    return f"t={first}" if first == last else f"t={first} to {last}"


def _names(tensors: Iterable[tuple[str, Any]]) -> dict[int, str]:
    """Names by node number; the last of several counts."""
    return {tensor.index: name for name, tensor in tensors if isinstance(tensor, Node)}


def _notes(node: Node) -> tuple[str, ...]:
    notes = [f"{name} = {value!r}" for name, value in node.params.items() if name not in _UNTOLD]
    if node.scope:
        notes.append(f"scope {node.scope}")
    if node.line:
        notes.append(node.line.removeprefix(", "))
    return tuple(notes)


def _content(array: Any) -> str:
    if not array.any():
        return "zeros"
    return "ones" if (array == 1).all() else "array"


def _number(array: Any) -> str:
    value = array.item()
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _index(part: Any) -> str:
    if isinstance(part, slice):
        ends = ["" if end is None else str(end) for end in (part.start, part.stop, part.step)]
        return ":".join(ends if part.step is not None else ends[:2])
    return "..." if part is Ellipsis else "·" if isinstance(part, str) else str(part)
