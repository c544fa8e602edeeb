"""One timestep of a cell, noted operation by operation, and the ONNX graph of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from tensorgrad import tree
from tensorgrad.context import configure
from tensorgrad.errors import GraphError
from tensorgrad.graph import user_line
from tensorgrad.nn.unroll import unroll
from tensorgrad.op import Op
from tensorgrad.tensor import Tensor
from tensorgrad.viz.onnx.graph import Call, Dims, Graph, OnnxNode
from tensorgrad.viz.onnx.ops import EMITTERS, NoCounterpartError

__all__ = ["Step", "body_of", "difference", "dims_of", "take_step"]


@dataclass(slots=True)
class Applied:
    """An operation that a cell ran: its result, the arrays it was run on, the line in the user's source."""

    out: Tensor
    op: Op
    args: tuple[np.ndarray, ...]
    params: dict[str, Any]
    line: str


@dataclass(slots=True)
class Step:
    """What a cell did in one timestep.

    Attributes:
        x: its input.
        before: the parts of the state that went in.
        after: those that came out, by name.
        outputs: the parts of its output, by path.
        applied: the operations in the order they ran.
        scope: the scope that all of them have in common.
        leaves: the Tensors that no operation made, by the number of their array.
    """

    x: np.ndarray
    before: list[np.ndarray]
    after: list[tuple[str, np.ndarray]]
    outputs: list[tuple[str, np.ndarray]]
    applied: list[Applied]
    scope: str
    leaves: dict[int, Tensor]


def take_step(cell: Callable[[Any, Any], tuple[Any, Any]], x: np.ndarray, state: Any) -> Step:
    """Run a cell once, on its own arrays, and note what it does.

    Args:
        cell: any `(x, state) -> (output, state)`.
        x: the input of one timestep.
        state: a tree of arrays.

    Raises:
        GraphError: the state that comes out has another form than the one that goes in.
        ShapeError: the cell does not return a pair.
    """
    applied: list[Applied] = []
    leaves: dict[int, Tensor] = {}
    returned = []

    def note(out: Tensor, op: Op, operands: Any, args: Any, params: dict[str, Any]) -> None:
        for operand in operands:
            if isinstance(operand, Tensor) and operand.op is None:
                leaves[id(operand._value)] = operand
        applied.append(Applied(out, op, tuple(args), params, user_line()))

    def noted(x: Any, state: Any) -> tuple[Any, Any]:
        pair = cell(x, state)
        returned.append((x._value, pair))
        return pair

    # Every part gets an array of its own, for it is by its array that a value is known.
    before = tree.map(lambda leaf: Tensor(np.array(leaf)), state)
    with configure(trace=note):
        roll = unroll(noted, x[None], before)
    used, (output, after) = returned[0]
    step = Step(
        used,
        [leaf._value for leaf in tree.leaves(before)],
        _parts(after, "state", labels=True),
        _parts(output, "output", labels=False),
        applied,
        f"{roll.scope}/t=0" if roll.scope else "t=0",
        leaves,
    )
    _check_state(before, after, step)
    return step


def _parts(value: Any, what: str, labels: bool) -> list[tuple[str, np.ndarray]]:
    """The arrays of a tree, each under its path, or its label if it has one."""
    parts = []
    for path, leaf in zip(tree.paths(value), tree.leaves(value), strict=True):
        name = (labels and getattr(leaf, "name", None)) or (f"{what}.{path}" if path else what)
        parts.append((name, leaf._value if isinstance(leaf, Tensor) else np.asarray(leaf)))
    return parts


def _check_state(before: Any, after: Any, step: Step) -> None:
    if not tree.same_structure(tree.flatten(before)[1], tree.flatten(after)[1]):
        raise GraphError(
            f"export_onnx: the state goes into the cell as {_form(before)} and comes out as {_form(after)}; "
            "give export_onnx a state to start from, of the form that the cell returns"
        )
    for (name, new), old in zip(step.after, step.before, strict=True):
        if new.shape != old.shape or new.dtype != old.dtype:
            raise GraphError(
                f"export_onnx: {name!r} goes into the cell as {old.shape} {old.dtype} and comes out as "
                f"{new.shape} {new.dtype}; a state must keep its shape and dtype to be handed on"
            )


def _form(state: Any) -> str:
    return "None" if state is None else f"{type(state).__name__} of {len(tree.leaves(state))} Tensors"


# --- from a step to a graph ------------------------------------------------------------------------------


def body_of(step: Step, twin: Step, title: str, paths: Mapping[int, str], taken: set[str]) -> Graph:
    """The graph of one timestep: the state and x go in, the state and the output come out.

    Args:
        step: what the cell did.
        twin: the same step for a batch of one more, so that a longer axis there is B; or `step` again.
        title: the name of the graph.
        paths: what parameters are called, by the number of their array.
        taken: names that the graph must not have, those of the graph around it.

    Raises:
        GraphError: an operation that has no counterpart in ONNX.
    """
    return _Body(step, twin, title, paths, taken).graph


def dims_of(one: np.ndarray, other: np.ndarray) -> Dims:
    """The axes of a value, told by the value for a batch and for one more."""
    if one.ndim != other.ndim:
        return (None,) * one.ndim
    pairs = zip(one.shape, other.shape, strict=True)
    return tuple(a if a == b else "B" if b == a + 1 else None for a, b in pairs)


def difference(one: Graph, other: Graph) -> str:
    """The first value that two graphs of one cell compute in different ways; empty if there is none."""
    for mine, yours in zip(one.nodes, other.nodes, strict=False):
        constants = [name for name in mine.inputs if name in one.constants]
        if mine != yours or any(
            name not in other.constants or not _equal(one.constants[name], other.constants[name])
            for name in constants
        ):
            return mine.outputs[0]
    return "" if len(one.nodes) == len(other.nodes) else one.outputs[0]


def _equal(a: np.ndarray, b: np.ndarray) -> bool:
    return a is b or (a.shape == b.shape and a.dtype == b.dtype and a.tobytes() == b.tobytes())


class _Body:
    """The graph of a step in the making."""

    def __init__(self, step: Step, twin: Step, title: str, paths: Mapping[int, str], taken: set[str]) -> None:
        self.graph = Graph(title, f"One timestep of {title}.", taken)
        self.step = step
        self.paths = paths
        self.names: dict[int, str] = {}
        arrays = [*step.before, step.x, *(each.out._value for each in step.applied)]
        others = [*twin.before, twin.x, *(each.out._value for each in twin.applied)]
        self.dims = {id(a): dims_of(a, b) for a, b in zip(arrays, others, strict=False)}
        for (name, _), array in zip(step.after, step.before, strict=True):
            self.graph.inputs.append(self.know(array, self.graph.name(f"{name}_prev")))
        self.graph.inputs.append(self.know(step.x, self.graph.name("x")))
        needed = self.needed()
        for each in step.applied:
            if id(each.out._value) in needed:
                self.add(each)
        self.finish()

    def know(self, array: np.ndarray, name: str) -> str:
        """Note what a value of the cell is called, and its shape."""
        self.names[id(array)] = name
        self.graph.dims[name] = self.dims[id(array)], array.dtype
        return name

    def needed(self) -> set[int]:
        """The numbers of the arrays on which the state and the output depend."""
        found = {id(array) for _, array in (*self.step.after, *self.step.outputs)}
        for each in reversed(self.step.applied):
            if id(each.out._value) in found:
                found.update(map(id, each.args))
        return found

    def add(self, applied: Applied) -> None:
        out, graph = applied.out, self.graph
        # An operation that a user defined may have any name.
        ours = str(getattr(applied.op.forward, "__module__", "")).startswith("tensorgrad.")
        emitter = EMITTERS.get(applied.op.name) if ours else None
        if emitter is None:
            raise _no_counterpart(applied, "" if ours else ", an operation of your own,")
        inside = out.scope.removeprefix(self.step.scope).strip("/")
        wish = "/".join(filter(None, (inside, out.name or applied.op.name)))
        name = graph.name(wish)
        try:
            made = emitter(Call(graph, name, applied.args, out._value, applied.params, self.name_of))
        except NoCounterpartError as why:
            raise _no_counterpart(applied, f" {why}") from None
        last = graph.nodes[-1] if graph.nodes else None
        if last is not None and last.outputs == [made]:
            graph.taken.discard(made)
            last.outputs = [name]
        else:
            graph.nodes.append(OnnxNode("Identity", [made], [name]))
        self.know(out._value, name)

    def name_of(self, array: np.ndarray) -> str | None:
        """What a value is called: None for an array of the cell's own that nobody has named."""
        key = id(array)
        if key not in self.names:
            leaf = self.step.leaves.get(key)
            wish = self.paths.get(key) or (leaf.name if leaf is not None else None)
            if wish is None:
                return None
            name = self.names[key] = self.graph.name(wish)
            self.graph.constants[name] = array
        return self.names[key]

    def finish(self) -> None:
        """Let the state and the output come out, each under a name of its own."""
        graph = self.graph
        computed = {name for node in graph.nodes for name in node.outputs}
        for wish, array in (*self.step.after, *self.step.outputs):
            name = self.name_of(array) or graph.constant(array, "const")
            if name not in computed or name in graph.outputs:
                again = graph.node("Identity", [name], wish)
                graph.dims[again] = self.dims.get(id(array), array.shape), array.dtype
                name = again
            graph.outputs.append(name)


def _no_counterpart(applied: Applied, why: str) -> GraphError:
    out = applied.out
    name = f" {out.name!r}" if out.name else ""
    where = f" in scope {out.scope!r}" if out.scope else ""
    return GraphError(
        f"export_onnx: {applied.op.name}{why} has no counterpart in ONNX: the result{name} of shape "
        f"{out.shape}{where}{applied.line}; write the cell with other operations"
    )
