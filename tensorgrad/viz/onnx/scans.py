"""The ONNX graph around the timestep: Scans over time, stacked for layers, and where they start."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np

from tensorgrad import tree
from tensorgrad.nn.recurrent import Recurrent
from tensorgrad.nn.unroll import unroll
from tensorgrad.tensor import Tensor
from tensorgrad.viz.onnx.graph import Graph, OnnxNode
from tensorgrad.viz.onnx.step import Step, body_of, difference, dims_of, take_step

__all__ = ["Run", "graph_of", "runs_of"]


@dataclass(slots=True)
class Run:
    """A cell that goes over a sequence: the whole of a model, or a layer in one direction.

    Attributes:
        cell: what is run.
        title: what it is called.
        xs: (T, B, ...), a few timesteps of what it reads.
        before: the state before the first step, a tree of arrays.
        layer: its number from the bottom.
        prefix: what the names of its state begin with.
        reverse: whether it reads from the last timestep to the first.
    """

    cell: Callable[[Any, Any], tuple[Any, Any]]
    title: str
    xs: np.ndarray
    before: Any
    layer: int = 0
    prefix: str = ""
    reverse: bool = False


def _title(cell: Any) -> str:
    """What a cell is called: a function by its name, a Module by that of its class."""
    return str(getattr(cell, "__name__", type(cell).__name__))


def _array(leaf: Any) -> np.ndarray:
    """A copy of the values of a Tensor, array or number."""
    return np.array(leaf._value if isinstance(leaf, Tensor) else leaf)


def runs_of(cell: Any, xs: np.ndarray, state: Any) -> list[Run]:
    """What a cell, or recurrent layers, run over a sequence: the layers from the bottom up."""
    if not isinstance(cell, Recurrent):
        if state is None and hasattr(cell, "initial_state"):
            state = cell.initial_state(xs[0])
        return [Run(cell, _title(cell), xs, tree.map(_array, state))]
    runs: list[Run] = []
    starts = dict(zip(cell.cells, cell._split(state, xs[0]), strict=True))
    for layer in range(cell.num_layers):
        outputs = []
        for name in (f"l{layer}", f"l{layer}_reverse")[: 1 + cell.bidirectional]:
            single = cell._regularised(cell.cells[name], starts[name])
            start = tree.map(_array, starts[name])
            prefix = f"{name}." if len(cell.cells) > 1 else ""
            reverse = name.endswith("_reverse")
            runs.append(Run(single, _title(cell.cells[name]), xs, start, layer, prefix, reverse))
            outputs.append(_array(unroll(single, xs, tree.map(Tensor, start), reverse=reverse).outputs))
        xs = np.concatenate(outputs, axis=-1)
    return runs


def graph_of(cell: Any, runs: list[Run], params: Any) -> Graph:
    """The graph of a whole model.

    Args:
        cell: what is exported, for its name.
        runs: as `runs_of` gives them.
        params: a tree whose paths name the parameters.

    Raises:
        GraphError: an operation that has no counterpart in ONNX, or a state that changes its form.
    """
    paths = {
        id(leaf._value): path
        for path, leaf in zip(tree.paths(params), tree.leaves(params), strict=True)
        if path and isinstance(leaf, Tensor)
    }
    steps = [take_step(run.cell, run.xs[0], run.before) for run in runs]
    twins, why = _twins(runs, steps, paths)
    sizes = f"Only T is free: {why}." if why else "T, the number of timesteps, and B, the batch, are free."
    title = _title(cell)
    return _Outer(
        Graph(title, f"{title} as a Scan over time. {sizes}"), runs, steps, twins or steps, paths
    ).graph


def _twins(runs: list[Run], steps: list[Step], paths: Mapping[int, str]) -> tuple[list[Step], str]:
    """The same steps for a batch of one more; where they differ in more than lengths, none, and why."""
    twins = []
    for run, step in zip(runs, steps, strict=True):
        x = run.xs[0]
        if not x.ndim:
            return [], "xs has no other axis"

        def one_more(leaf: np.ndarray, size: int = len(x)) -> np.ndarray:
            return np.concatenate([leaf, leaf[:1]]) if leaf.shape[:1] == (size,) else leaf

        try:
            twin = take_step(run.cell, one_more(x), tree.map(one_more, run.before))
        # Whatever a cell does with a batch for which it was not made: here it says that the size is fixed.
        except Exception as error:
            return [], f"with {len(x) + 1} in place of {len(x)} on axis 1 of xs, {error}"
        where = difference(*(body_of(each, each, "", paths, set()) for each in (step, twin)))
        if where:
            return [], f"the length of axis 1 of xs, {len(x)}, is written into {where!r}"
        twins.append(twin)
    return twins, ""


class _Outer:
    """The graph around the Scans in the making."""

    def __init__(
        self, graph: Graph, runs: list[Run], steps: list[Step], twins: list[Step], paths: Mapping[int, str]
    ) -> None:
        self.graph = graph
        self.shapes: dict[tuple[int, ...], str] = {}
        self.states: list[str] = []
        self.xs = graph.name("xs")
        graph.inputs.append(self.know(self.xs, steps[0].x, twins[0].x, "T"))
        outputs = [self.xs]
        scans: list[OnnxNode] = []
        rows = list(zip(runs, steps, twins, strict=True))
        for layer, group in groupby(rows, key=lambda row: row[0].layer):
            below, top = outputs[0], layer == runs[-1].layer
            sides = list(group)
            for run, step, twin in sides:
                prefix = "" if top and len(sides) == 1 else run.prefix
                outputs = self.scan(run, step, twin, below, prefix)
                scans.append(graph.nodes[-1])
            if len(sides) > 1:
                outputs = [self.side_by_side(scans[-2:], "outputs" if top else f"l{layer}.both")]
        graph.outputs = [*outputs, *self.states]
        # Last, when all names out here are taken.
        for scan, (run, step, twin) in zip(scans, rows, strict=True):
            scan.attributes["body"] = body_of(step, twin, run.title, paths, graph.taken)

    def know(self, name: str, array: np.ndarray, other: np.ndarray, *time: str) -> str:
        """Note the axes of a value, from what it is in a step and in its twin."""
        self.graph.dims[name] = (*time, *dims_of(array, other)), array.dtype
        return name

    def side_by_side(self, scans: list[OnnxNode], wish: str) -> str:
        """The outputs of two directions, joined on their last axis."""
        graph = self.graph
        read = [scan.outputs[-1] for scan in scans]
        name = graph.node("Concat", read, wish, axis=-1)
        (dims, dtype), (others, _) = (graph.dims[each] for each in read)
        graph.dims[name] = (*dims[:-1], dims[-1] + others[-1]), dtype
        return name

    def scan(self, run: Run, step: Step, twin: Step, xs: str, prefix: str) -> list[str]:
        """Add a Scan; returns the names of its outputs over time, which begin with `prefix`."""
        graph = self.graph
        parts = list(zip(step.after, step.before, twin.before, strict=True))
        starts = [self.start(f"{run.prefix}{name}_0", one, other) for (name, _), one, other in parts]
        states = [
            self.know(graph.name(f"{run.prefix}{name}_T"), one, other) for (name, _), one, other in parts
        ]
        outputs = [
            self.know(graph.name(f"{prefix}outputs{path.removeprefix('output')}"), one, other, "T")
            for (path, one), (_, other) in zip(step.outputs, twin.outputs, strict=True)
        ]
        attributes: dict[str, Any] = {"num_scan_inputs": 1}
        way = "from the first timestep to the last"
        if run.reverse:
            attributes |= {"scan_input_directions": [1], "scan_output_directions": [1] * len(outputs)}
            way = "from the last timestep to the first"
        name, doc = f"{run.prefix}scan", f"{run.title}, {way}."
        graph.nodes.append(OnnxNode("Scan", [*starts, xs], [*states, *outputs], attributes, name, doc))
        self.states += states
        return outputs

    def start(self, wish: str, array: np.ndarray, other: np.ndarray) -> str:
        """Add the input for a part of the state, by default what the cell starts from."""
        graph = self.graph
        given = self.know(graph.name(wish), array, other)
        graph.inputs.append(given)
        dims = dims_of(array, other)
        if "B" not in dims:
            graph.constants[given] = array
            return given
        if not np.array_equal(array, np.broadcast_to(array[:1], array.shape)):
            return given
        # One row, repeated for as many sequences as there are.
        graph.constants[given] = array[:1]
        graph.dims[given] = (None, *dims[1:]), array.dtype
        repeated = graph.node("Expand", [given, self.shape_of(array.shape[1:])], f"{given}.repeated")
        return self.know(repeated, array, other)

    def shape_of(self, row: tuple[int, ...]) -> str:
        """The name of the shape of a state whose rows have this one."""
        if row not in self.shapes:
            batch = self.graph.node("Shape", [self.xs], "batch", start=1, end=2)
            rest = self.graph.constant(np.array(row, np.int64), "row_shape")
            self.shapes[row] = self.graph.node("Concat", [batch, rest], "state_shape", axis=0)
        return self.shapes[row]
