"""From a recorded graph to what is to be drawn: boxes, arrows, and the frames around them.

Nothing here knows how a picture is made. Boxes have stable ids such as ``t3.h``, made of scopes and labels
and of nothing that changes between runs, so drawings can be compared as text.

A leaf, a parameter above all, stands once in every frame that uses it, and so does a computed value that many
frames use. Drawn once and joined to every timestep it would be a hub: the picture a tangle, and no layout
program gets through it.
"""

from __future__ import annotations

import inspect
import re
from collections import defaultdict
from collections.abc import Callable, Container, Iterable
from dataclasses import dataclass, replace
from typing import Any, Literal

from tensorgrad import tree
from tensorgrad.errors import GraphError
from tensorgrad.graph import Node
from tensorgrad.op import Op

__all__ = ["Arrow", "Box", "Frame", "Kind", "Model", "build"]

Kind = Literal["parameter", "input", "constant", "operation", "state", "output", "reference"]

# Used in more timesteps or other outermost frames than this, besides its own and its neighbours, a computed
# value stands in each of them again.
_FEW = 2
# The operations that lead from the losses of single timesteps to the one that is minimised.
_GATHERING = frozenset({"add", "concatenate", "divide", "mean", "multiply", "reshape", "stack", "sum"})
_JOINING = frozenset({"concatenate", "stack"})
_TIMESTEP = re.compile(r"t=([0-9]{1,18})", re.ASCII)
_LONGEST_ROLE = 40
# The rank of leaves that nobody has named.
_NAMELESS = 3


@dataclass(frozen=True, slots=True)
class Box:
    """One value.

    Attributes:
        id: letters, digits, "_" and "." of ASCII; no other box and no frame has it.
        kind: what it is; a "reference" stands for a computed value whose own box is in another frame.
        name: what the user calls it, any text; empty for a nameless result.
        op: the operation that made it, with its constants; empty for a leaf.
        shape: such as "(1, 16)".
        dtype: such as "float64".
        frame: the id of the frame it stands in, empty for none.
        role: its id within the frame; boxes of one role in sibling timesteps correspond.
        notes: what else is known, a line each.
    """

    id: str
    kind: Kind
    name: str
    op: str
    shape: str
    dtype: str
    frame: str
    role: str
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Arrow:
    """One value is an operand of another.

    Attributes:
        tail: the id of the operand's box.
        head: the id of the result's box.
        carried: whether it leads from one timestep to another.
    """

    tail: str
    head: str
    carried: bool = False


@dataclass(frozen=True, slots=True)
class Frame:
    """A scope: a timestep, or a part of the model.

    Attributes:
        id: letters, digits, "_" and "." of ASCII; no other frame and no box has it.
        title: the innermost name of the scope, any text, such as "t=3".
        parent: the id of the frame around it, empty for none.
        step: the timestep; None for another scope.
    """

    id: str
    title: str
    parent: str
    step: int | None


@dataclass(frozen=True, slots=True)
class Model:
    """What is to be drawn.

    Attributes:
        boxes: operands before results.
        arrows: in the order of the results and of their operands.
        frames: outer before inner, timesteps in the order of time.
    """

    boxes: tuple[Box, ...]
    arrows: tuple[Arrow, ...]
    frames: tuple[Frame, ...]


def build(output: Any, unrolled: Any = None, params: Any = None) -> Model:
    """Everything that `output` was computed from, as boxes, arrows and frames.

    Args:
        output: a Tensor, or a tree of Tensors.
        unrolled: what `nn.unroll` returned, for its labels and its last state.
        params: a Module or any tree of Tensors; its leaves are called by their paths in it.

    Raises:
        GraphError: `output` holds no Tensor, or none that an operation made; `unrolled` is something else.

    Example:
        >>> import tensorgrad as tg
        >>> x = tg.tensor(2.0, requires_grad=True, name="x")
        >>> model = build(tg.label(tg.tanh(x * 0.5), "h"))
        >>> [(box.id, box.op) for box in model.boxes]
        [('x', ''), ('multiply', 'multiply(·, 0.5)'), ('h', 'tanh')]
    """
    if unrolled is not None and not hasattr(unrolled, "steps"):
        raise GraphError(f"draw: unrolled= takes what nn.unroll returned, not a {type(unrolled).__name__}")
    outputs = [leaf for leaf in tree.leaves(output) if isinstance(leaf, Node)]
    if not outputs:
        raise GraphError(
            f"draw: there is no Tensor in this {type(output).__name__}; give it a loss or an output"
        )
    if all(node.op is None for node in outputs):
        raise GraphError(
            f"draw: there is nothing to draw behind the {outputs[0].describe()}: no recorded operation made "
            "it (was it computed under no_grad, detached, or from tensors without requires_grad=True?)"
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
    # Who comes first where several have one name; those of the last rank have been given none.
    rank: int
    frame: str = ""
    role: str = ""
    id: str = ""


class _Builder:
    """The state of one `build`."""

    def __init__(self, outputs: list[Node], unrolled: Any, params: Any) -> None:
        self.nodes = _computed_from(outputs)
        self.scopes = _Scopes(node.scope for node in self.nodes if node.op is not None)
        self.labels: dict[int, str] = {}
        for step in unrolled.steps if unrolled is not None else ():
            # Of several labels of one tensor the first is the cell's own.
            self.labels.update(_names(reversed(step.items())))
        self.paths = _names(zip(tree.paths(params), tree.leaves(params), strict=True))
        self.outputs = _gathered(outputs, self.labels)
        self.states = _names(("", leaf) for leaf in tree.leaves(getattr(unrolled, "state", None)))
        self.repeated = self.find_repeated()
        self.arguments: dict[Op, list[str]] = {}
        # By the number of a node and the scope; a constant by its user and the argument number.
        self.parts: dict[tuple[int, str | int], _Part] = {}

    def run(self) -> Model:
        joined: list[tuple[_Part, _Part, int]] = []
        for node in self.nodes:
            if node.op is None:
                if node.index in self.outputs:
                    self.parts[node.index, ""] = self.leaf(node, "", "")
                continue
            tails = [self.operand(node, argnum) for argnum in range(len(node.operands))]
            head = self.parts[node.index, node.scope] = self.result(node)
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
            Box(p.id, p.kind, p.name, p.op, str(p.array.shape), str(p.array.dtype), p.frame, p.role, p.notes)
            for p in self.parts.values()
        )
        arrows = tuple(
            Arrow(tail.id, head.id, hands_over(tail.scope, head.scope)) for tail, head, _ in joined
        )
        return Model(boxes, arrows, self.scopes.frames)

    def find_repeated(self) -> dict[int, set[str]]:
        """Where results that are used in many places stand once more, by node number."""
        users: dict[int, set[str]] = defaultdict(set)
        for node in self.nodes:
            for operand in node.operands:
                if (
                    isinstance(operand, Node)
                    and operand.op is not None
                    and node.scope
                    and not self.scopes.are_close(operand.scope, node.scope)
                ):
                    users[operand.index].add(node.scope)
        site = self.scopes.site
        return {index: scopes for index, scopes in users.items() if len(set(map(site, scopes))) > _FEW}

    # --- parts -------------------------------------------------------------------------------------------
    def result(self, node: Node) -> _Part:
        kind: Kind = "operation"
        if node.index in self.outputs:
            kind = "output"
        elif node.index in self.states:
            kind = "state"
        label = self.labels.get(node.index)
        name = label or node.name or ""
        # Of several results with one name, what `unroll` has on record under it comes first.
        rank = 0 if label else 1 if name else 2
        return _Part(node.scope, kind, name, self.operation(node), node._value, _notes(node), rank)

    def leaf(self, node: Node, scope: str, role: str) -> _Part:
        kind: Kind = "parameter" if node.requires_grad else "input"
        name = self.labels.get(node.index) or self.paths.get(node.index) or node.name
        rank = 1 if name else _NAMELESS
        return _Part(scope, kind, name or role or kind, "", node._value, _notes(node), rank)

    def operand(self, node: Node, argnum: int) -> _Part | None:
        """What stands for an operand; None for a number, which the operation's own text shows."""
        operand, scope = node.operands[argnum], node.scope
        if not isinstance(operand, Node):
            array = node.args[argnum]
            if not array.ndim:
                return None
            name = self.argument(node, argnum) or _content(array)
            part = self.parts[node.index, argnum] = _Part(scope, "constant", name, "", array, (), _NAMELESS)
            return part
        if operand.op is not None and scope not in self.repeated.get(operand.index, ()):
            return self.parts[operand.index, operand.scope]
        here = self.parts.get((operand.index, scope))
        if here is None:
            if operand.op is None:
                here = self.leaf(operand, scope, self.argument(node, argnum))
            else:
                original = self.parts[operand.index, operand.scope]
                here = replace(original, scope=scope, kind="reference", rank=2)
            self.parts[operand.index, scope] = here
        return here

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
        named: dict[str, dict[int, list[_Part]]] = defaultdict(lambda: defaultdict(list))
        for (index, _), part in self.parts.items():
            if part.kind == "parameter":
                named[part.name][index].append(part)
        for parameters in named.values():
            scopes = [part.scope for parts in parameters.values() for part in parts]
            one_each = len(set(scopes)) == len(scopes) and len(set(map(self.scopes.pattern, scopes))) == 1
            if len(parameters) > 1 and not one_each:
                for number, parts in enumerate(parameters.values(), 1):
                    for part in parts:
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


class _Scopes:
    """The scopes of a graph as nested frames.

    ids: the id of each scope's frame; that of no scope is empty.
    """

    def __init__(self, scopes: Iterable[str]) -> None:
        self.ids = {"": ""}
        self._counts: dict[tuple[str, str], int] = {}
        self._patterns: dict[str, str] = {}
        children: dict[str, dict[str, None]] = {"": {}}
        given: dict[str, str] = {}
        for scope in dict.fromkeys(scopes):
            parent = ""
            for name in filter(None, scope.split("/")):
                path = f"{parent}/{name}" if parent else name
                children[parent][path] = None
                children.setdefault(path, {})
                parent = path
            given[scope] = parent
        frames = []
        waiting = [""]
        while waiting:
            path = waiting.pop()
            if path:
                frames.append(self._frame(path))
            waiting += reversed(_in_order(children[path]))
        self.frames = tuple(frames)
        # A scope may be named "", and then its path has an end that is no frame.
        self.ids.update({scope: self.ids[path] for scope, path in given.items()})

    def _frame(self, path: str) -> Frame:
        parent, _, title = path.rpartition("/")
        step = _step(title)
        around = self.ids[parent]
        own = self.new_id(around, title if step is None else f"t{step}")
        self.ids[path] = f"{around}.{own}" if around else own
        return Frame(self.ids[path], title, around, step)

    def new_id(self, frame: str, text: str) -> str:
        """An id within a frame that no other box or frame in it has, near to a text."""
        near = re.sub("[^A-Za-z0-9_]+", "_", text)[:_LONGEST_ROLE] or "_"
        own = near
        while (frame, own) in self._counts:
            self._counts[frame, near] += 1
            own = f"{near}_{self._counts[frame, near]}"
        self._counts[frame, own] = 1
        return own

    def distance(self, a: str, b: str) -> int:
        """How many timesteps apart two scopes lie in one sequence; 0 if not in one sequence."""
        if a != b:
            for x, y in zip(a.split("/"), b.split("/"), strict=False):
                if x != y:
                    i, j = _step(x), _step(y)
                    return 0 if i is None or j is None else abs(i - j)
        return 0

    def are_close(self, a: str, b: str) -> bool:
        """Whether an arrow from scope a to scope b stays short: within one scope, or to the next timestep."""
        return a == b or (bool(a) and b.startswith(f"{a}/")) or self.distance(a, b) == 1

    def hands_over(self, a: str, b: str) -> bool:
        """Whether two scopes lie in different timesteps, of one sequence or of two."""
        if a == b:
            return False
        ways = a.split("/"), b.split("/")
        same = next((i for i, (x, y) in enumerate(zip(*ways, strict=False)) if x != y), min(map(len, ways)))
        i, j = (next((step for step in map(_step, way[same:]) if step is not None), None) for way in ways)
        return i is not None and j is not None and i != j

    def site(self, scope: str) -> str:
        """The scope as far as its first timestep, or its outermost part."""
        names = scope.split("/")
        first = next((i for i, name in enumerate(names) if _step(name) is not None), 0)
        return "/".join(names[: first + 1])

    def pattern(self, scope: str) -> str:
        """The scope without the numbers of its timesteps: equal for scopes that correspond."""
        if scope not in self._patterns:
            names = ("t=" if _step(name) is not None else name for name in scope.split("/"))
            self._patterns[scope] = "/".join(names)
        return self._patterns[scope]


def _in_order(paths: Iterable[str]) -> list[str]:
    """Sibling scopes as they were first met, but timesteps together and by number."""
    others: list[str] = []
    steps: list[tuple[int, str]] = []
    at = 0
    for path in paths:
        step = _step(path.rpartition("/")[2])
        if step is None:
            others.append(path)
        else:
            if not steps:
                at = len(others)
            steps.append((step, path))
    return [*others[:at], *(path for _, path in sorted(steps)), *others[at:]]


def _step(name: str) -> int | None:
    match = _TIMESTEP.fullmatch(name)
    return int(match[1]) if match else None


def _computed_from(outputs: Iterable[Node]) -> list[Node]:
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


def _names(tensors: Iterable[tuple[str, Any]]) -> dict[int, str]:
    """Names by node number; the last of several counts."""
    return {tensor.index: name for name, tensor in tensors if isinstance(tensor, Node)}


def _notes(node: Node) -> tuple[str, ...]:
    notes = [f"{name} = {value!r}" for name, value in node.params.items() if name != "template"]
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
