"""`export_onnx`: a cell as an ONNX model, one timestep of it as the body of a Scan over the sequence."""

from __future__ import annotations

import inspect
import os
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tensorgrad import tree
from tensorgrad.errors import GraphError, ShapeError, TensorgradError, UserError
from tensorgrad.nn.module import Module
from tensorgrad.nn.unroll import unroll
from tensorgrad.tensor import Tensor
from tensorgrad.viz.onnx.graph import Graph, OnnxNode
from tensorgrad.viz.onnx.scans import Run, graph_of, runs_of

if TYPE_CHECKING:
    import onnx

__all__ = ["OnnxError", "export_onnx"]

_OPSET = 18
_IR_VERSION = 8
"""What goes with the operator set: a reader refuses a file of a later one than it knows."""
_STEPS = 3
"""So many timesteps are computed with the model and held against the cell's own."""


class OnnxError(TensorgradError, ImportError):
    """Exporting to ONNX needs the package onnx, and it is not installed."""


def export_onnx(
    cell: Any,
    xs: Any,
    state: Any = None,
    path: str | os.PathLike[str] | None = None,
    *,
    params: Any = None,
) -> onnx.ModelProto:
    """A cell, or recurrent layers, as an ONNX model: a Scan over time whose body is one timestep.

    The model computes what `nn.unroll` does with the same arguments, for any number of timesteps. The cell
    is run on the first timestep, what it did becomes the body, and on a few timesteps the body is held
    against the cell. Modules are exported in evaluation mode. Values are called by their labels, parameters
    by their paths.

    The model takes "xs" (T, B, ...) and, for each part of the state, such as "h", where it starts: "h_0"
    (B, H), by default what `nn.unroll` would start from. It gives "outputs" (T, B, ...) and "h_T" (B, H). B
    is as free as T unless the cell has it written in; then the description of the model says where. Layers
    become a Scan for each layer and direction, with names such as "l0_reverse.h_T".

    Args:
        cell: any `(x, state) -> (output, state)`, or an `nn.Recurrent` such as `nn.LSTM`.
        xs: an example, (T, B, ...) or (T, ...); of integers, timesteps that differ.
        state: any tree; None for the cell's own `initial_state`.
        path: where to write the model, by custom a name that ends in .onnx; None to write nothing.
        params: a Module or any tree of Tensors, whose paths name the weights of a plain function.

    Returns:
        The model, an `onnx.ModelProto`, of operator set 18.

    Raises:
        OnnxError: onnx is not installed.
        GraphError: what is no cell; an operation that ONNX does not have; a state that changes its form; a
            cell that computes or decides outside of tensorgrad's operations, or draws random numbers.
        ShapeError: a sequence without timesteps, and what the cell raises.
        UserError: a place that cannot be written.

    Example:
        >>> import tensorgrad as tg
        >>> model = export_onnx(tg.nn.RNNCell(2, 3, seed=0), np.ones((5, 1, 2)))
        >>> [node.op_type for node in model.graph.node], [value.name for value in model.graph.output]
        (['Shape', 'Concat', 'Expand', 'Scan'], ['outputs', 'h_T'])
    """
    _require()
    xs = np.array(xs._value if isinstance(xs, Tensor) else xs)
    if not xs.ndim or not len(xs):
        raise ShapeError(f"export_onnx: a sequence needs at least one timestep, but xs has shape {xs.shape}")
    _check_signature(cell)
    with cell.evaluating() if isinstance(cell, Module) else nullcontext():
        runs = runs_of(cell, _sample(xs), state)
        graph = graph_of(cell, runs, cell if params is None else params)
        model = _model(graph)
        for run, scan in zip(runs, (node for node in graph.nodes if node.op_type == "Scan"), strict=True):
            _hold_against_cell(run, scan.attributes["body"])
    if path is not None:
        try:
            Path(path).write_bytes(model.SerializeToString())
        except OSError as error:
            raise UserError(f"cannot write {path}: {error.strerror or error}") from error
    return model


def _require() -> None:
    try:
        import onnx.reference  # noqa: F401
    except ImportError as error:
        if (error.name or "").partition(".")[0] != "onnx":
            raise
        raise OnnxError("exporting to ONNX needs onnx: pip install 'tensorgrad-rnn[onnx]'") from None


def _check_signature(cell: Any) -> None:
    """Raise unless a cell can be called with an input and a state."""
    try:
        inspect.signature(cell.forward if isinstance(cell, Module) else cell).bind(None, None)
    except TypeError as error:
        raise GraphError(
            "export_onnx: takes a cell (x, state) -> (output, state) or recurrent layers, and "
            f"this {type(cell).__name__} is neither ({error}); write one timestep of it as such a function"
        ) from None


def _sample(xs: np.ndarray) -> np.ndarray:
    """A few timesteps to try the model on, floats that are not the same in all of them."""
    sample = xs[np.arange(_STEPS) % len(xs)]
    if sample.dtype.kind == "f" and np.array_equal(sample, np.broadcast_to(sample[:1], sample.shape)):
        sample[1:] += np.random.default_rng(0).standard_normal(sample[1:].shape)
    return sample


# --- from a graph to protocol buffers --------------------------------------------------------------------


def _model(graph: Graph) -> onnx.ModelProto:
    """The model of a graph, checked, with the shapes of all values."""
    import onnx

    made = onnx.helper.make_model(
        _graph(graph),
        opset_imports=[onnx.helper.make_opsetid("", _OPSET)],
        ir_version=_IR_VERSION,
        producer_name="tensorgrad",
        doc_string=graph.doc,
    )
    try:
        model = onnx.shape_inference.infer_shapes(made, check_type=True, strict_mode=True, data_prop=True)
        onnx.checker.check_model(model, full_check=True)
    except (onnx.shape_inference.InferenceError, onnx.checker.ValidationError) as error:
        raise GraphError(f"export_onnx: {graph.title} does what ONNX has no form for: {error}") from error
    return model


def _graph(graph: Graph) -> onnx.GraphProto:
    import onnx

    def info(name: str) -> onnx.ValueInfoProto:
        dims, dtype = graph.dims[name]
        return onnx.helper.make_tensor_value_info(name, onnx.helper.np_dtype_to_tensor_dtype(dtype), dims)

    ends = {*graph.inputs, *graph.outputs}
    return onnx.helper.make_graph(
        [_node(node) for node in graph.nodes],
        graph.title,
        [info(name) for name in graph.inputs],
        [info(name) for name in graph.outputs],
        [onnx.numpy_helper.from_array(array, name) for name, array in graph.constants.items()],
        graph.doc,
        [info(name) for name in graph.dims if name not in ends],
    )


def _node(node: OnnxNode) -> onnx.NodeProto:
    import onnx

    attributes = dict(node.attributes)
    for key, value in attributes.items():
        if isinstance(value, Graph):
            attributes[key] = _graph(value)
        elif isinstance(value, np.dtype):
            attributes[key] = onnx.helper.np_dtype_to_tensor_dtype(value)
    name = node.name or node.outputs[0]
    return onnx.helper.make_node(
        node.op_type, node.inputs, node.outputs, name, node.doc or None, **attributes
    )


# --- the model against the cell --------------------------------------------------------------------------


def _hold_against_cell(run: Run, body: Graph) -> None:
    """Compute a few timesteps with the body and compare them with the cell.

    What a cell reads out of a Tensor with NumPy, or draws at random, stands in the body as a constant.
    """
    import onnx.reference

    # Where a part is computed in single precision the rest is no better.
    eps = max((float(np.finfo(dtype).eps) for _, dtype in body.dims.values() if dtype.kind == "f"), default=0)
    evaluator = onnx.reference.ReferenceEvaluator(_model(body))
    roll = unroll(run.cell, run.xs, tree.map(Tensor, run.before), reverse=run.reverse)
    outputs = [np.asarray(leaf) for leaf in tree.leaves(roll.outputs)]
    state = tree.leaves(run.before)
    times = range(len(run.xs))
    for t, after in zip(reversed(times) if run.reverse else times, roll.states[1:], strict=True):
        with np.errstate(all="ignore"):
            found: Any = evaluator.run(None, dict(zip(body.inputs, [*state, run.xs[t]], strict=True)))
        expected = [*(np.asarray(leaf) for leaf in tree.leaves(after)), *(each[t] for each in outputs)]
        for name, array, right in zip(body.outputs, found, expected, strict=True):
            if not _close(np.asarray(array), right, eps):
                raise GraphError(
                    f"export_onnx: at timestep {t} the model's {name!r} is not that of {run.title}: the cell "
                    "reads values out of a Tensor (numpy(), item(), an if), computes with NumPy, or draws "
                    "random numbers, and none of that can be exported; write it with tensorgrad's operations"
                )
        state = found[: len(state)]


def _close(found: np.ndarray, expected: np.ndarray, eps: float) -> bool:
    if found.shape != expected.shape or found.dtype != expected.dtype:
        return False
    if expected.dtype.kind != "f":
        return np.array_equal(found, expected)
    finite = np.abs(expected[np.isfinite(expected)])
    margin = 1e3 * eps * max(1.0, float(finite.max(initial=0.0)))
    return np.allclose(found, expected, rtol=0, atol=margin, equal_nan=True)
