"""Exported cells: the model gives the cell's own numbers, under names that a reader finds again."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import tensorgrad as tg
from tensorgrad import functional as F
from tensorgrad import nn, tree
from tensorgrad.errors import GraphError, ShapeError, UserError
from tensorgrad.viz.onnx import export_onnx
from tensorgrad.viz.onnx.ops import EMITTERS

onnx = pytest.importorskip("onnx")

from onnx.reference import ReferenceEvaluator  # noqa: E402
from onnx.reference.op_run import OpRun  # noqa: E402

MARGIN = {"float32": 1e-5, "float64": 1e-10}
D, H = 3, 4


class Scan(OpRun):
    """Scan for onnx's evaluator: its own goes forwards only, and before onnx 1.22 with but one state."""

    op_domain = ""

    def _run(self, *args: Any, **attributes: Any) -> tuple[np.ndarray, ...]:
        body, xs = self.body, args[-1]
        state, backwards = list(args[:-1]), bool(getattr(self, "scan_input_directions", None))
        rows = []
        for x in xs[::-1] if backwards else xs:
            found = body.run(None, dict(zip(body.input_names, [*state, x], strict=True)))
            state, row = found[: len(state)], found[len(state) :]
            rows.append(row)
        columns = [np.stack(column) for column in zip(*rows, strict=True)]
        return (*state, *(column[::-1] if backwards else column for column in columns))


def by_reference(model: Any, feed: dict[str, np.ndarray]) -> list[np.ndarray]:
    with np.errstate(all="ignore"):
        return ReferenceEvaluator(model, new_ops=[Scan]).run(None, feed)


def by_onnxruntime(model: Any, feed: dict[str, np.ndarray]) -> list[np.ndarray]:
    runtime = pytest.importorskip("onnxruntime")
    options = runtime.SessionOptions()
    # It remarks on every state that has a default.
    options.log_severity_level = 4
    try:
        return runtime.InferenceSession(model.SerializeToString(), options).run(None, feed)
    except runtime.capi.onnxruntime_pybind11_state.NotImplemented as missing:
        pytest.skip(f"this onnxruntime is not complete: {missing}")


RUNNERS = pytest.mark.parametrize("run", [by_reference, by_onnxruntime])
Runner = Callable[[Any, dict[str, np.ndarray]], list[np.ndarray]]


def drawn(*shape: int, seed: int = 0, dtype: Any = np.float64) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def unrolled(cell: Any, xs: np.ndarray, state: Any = None) -> list[np.ndarray]:
    """What nn.unroll gives, in the order of a model's outputs."""
    run = cell.unroll(xs, state) if isinstance(cell, nn.Recurrent) else nn.unroll(cell, xs, state)
    states = [each.state for each in run.layers.values()] if isinstance(cell, nn.Recurrent) else run.state
    return [np.asarray(leaf) for leaf in tree.leaves((run.outputs, states))]


def check(found: list[np.ndarray], expected: list[np.ndarray]) -> None:
    """Raise unless values agree to rounding, in shape and in dtype."""
    for mine, theirs in zip(found, expected, strict=True):
        assert (mine.shape, mine.dtype) == (theirs.shape, theirs.dtype)
        if theirs.dtype.kind == "f":
            np.testing.assert_allclose(mine, theirs, rtol=0, atol=MARGIN[str(theirs.dtype)])
        else:
            np.testing.assert_array_equal(mine, theirs)


def body_of(model: Any) -> Any:
    (scan,) = (node for node in model.graph.node if node.op_type == "Scan")
    return next(attribute.g for attribute in scan.attribute if attribute.name == "body")


def dims_of(value: Any) -> list[Any]:
    return [dim.dim_param or dim.dim_value or None for dim in value.type.tensor_type.shape.dim]


# --- the same numbers ------------------------------------------------------------------------------------
@RUNNERS
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("kind", nn.CELLS)
def test_every_cell_gives_its_own_numbers_for_any_T_and_B(kind: str, dtype: str, run: Runner) -> None:
    cell = nn.make_cell(kind, D, H, seed=0, dtype=dtype)
    model = export_onnx(cell, drawn(2, 2, D, dtype=dtype))
    given = [value.name for value in model.graph.input][1:]
    assert given == [f"{name}_0" for name in cell.state_names]
    for T in (1, 7):
        for B in (1, 3):
            xs = drawn(T, B, D, seed=1, dtype=dtype)
            check(run(model, {"xs": xs}), unrolled(cell, xs))
            # The normaliser of the sLSTM is a sum of exponentials.
            parts = tuple(np.abs(drawn(B, H, seed=k, dtype=dtype)) + 0.5 for k in range(len(given)))
            state = parts if len(parts) > 1 else parts[0]
            check(run(model, {"xs": xs, **dict(zip(given, parts, strict=True))}), unrolled(cell, xs, state))


def test_the_evaluator_of_onnx_alone_gives_the_same() -> None:
    cell = nn.GRUCell(D, H, seed=0)
    xs = drawn(5, 2, D)
    check(ReferenceEvaluator(export_onnx(cell, xs)).run(None, {"xs": xs}), unrolled(cell, xs))


OPTIONS: dict[str, Callable[[], Any]] = {
    "rnn relu without bias": lambda: nn.RNNCell(D, H, bias=False, nonlinearity="relu", seed=0),
    "gru reset before": lambda: nn.GRUCell(D, H, reset="before", seed=0),
    "gru reset before without bias": lambda: nn.GRUCell(D, H, bias=False, reset="before", seed=0),
    "slstm exponential": lambda: nn.SLSTMCell(D, H, forget="exp", seed=0),
    "lstm forget bias": lambda: nn.LSTMCell(D, H, forget_bias=1.0, seed=0),
}


@pytest.mark.parametrize("name", OPTIONS)
def test_options_of_cells(name: str) -> None:
    cell, xs = OPTIONS[name](), drawn(4, 2, D)
    check(by_reference(export_onnx(cell, xs), {"xs": xs}), unrolled(cell, xs))


class Whiteboard(nn.Module):
    """A cell of many kinds of operations."""

    def __init__(self) -> None:
        self.norm = nn.LayerNorm(2 * H)
        self.W = nn.Parameter(drawn(2 * H, D, seed=1))
        self.U = nn.Parameter(drawn(2 * H, H, seed=2))
        self.start = nn.Parameter(drawn(H, seed=3))

    def initial_state(self, x: Any) -> Any:
        return {"h": tg.broadcast_to(self.start, (*x.shape[:-1], H)), "t": np.zeros(x.shape[:-1], np.int64)}

    def forward(self, x: Any, state: Any) -> Any:
        with tg.scope("gates"):
            a = tg.einsum("bd,kd->bk", x, self.W) + state["h"] @ self.U.T
            a = tg.label(self.norm(a), "a")
        f = tg.label(tg.sigmoid(a[:, :H]), "f")
        n = tg.where(a[..., H:] > 0.5, tg.tanh(a[..., H:]), -0.1)
        return {"y": n, "f": f}, {"h": tg.label(f * state["h"] + (1 - f) * n, "h"), "t": state["t"] + 1}


@RUNNERS
@pytest.mark.parametrize("B", [1, 5])
def test_a_cell_of_your_own(run: Runner, B: int) -> None:
    cell, xs = Whiteboard(), drawn(6, B, D)
    model = export_onnx(cell, drawn(3, 2, D, seed=9))
    assert [value.name for value in model.graph.output] == ["outputs.y", "outputs.f", "h_T", "state.t_T"]
    check(run(model, {"xs": xs}), unrolled(cell, xs, cell.initial_state(xs[0])))


class Reader(nn.Module):
    """Reads ids, and writes which of them it takes to be the next."""

    def __init__(self) -> None:
        self.embedding = nn.Embedding(7, D, seed=0, dtype=np.float32)
        self.cell = nn.LSTMCell(D, H, seed=1, dtype=np.float32)
        self.output = nn.Linear(H, 7, seed=2, dtype=np.float32)
        self.initial_state = self.cell.initial_state

    def forward(self, ids: Any, state: Any) -> Any:
        h, state = self.cell(self.embedding(ids), state)
        return F.log_softmax(self.output(h)), state


@RUNNERS
def test_a_model_of_modules_that_reads_ids(run: Runner) -> None:
    model, ids = Reader(), np.random.default_rng(0).integers(0, 7, (8, 3))
    start = tuple(np.zeros((3, H), np.float32) for _ in range(2))
    exported = export_onnx(model, ids, start)
    check(run(exported, {"xs": ids}), unrolled(model, ids, start))
    names = {constant.name for constant in body_of(exported).initializer}
    assert {"embedding.weight", "cell.weight_ih", "output.bias"} <= names


def test_what_the_cell_does_beside_operations() -> None:
    """Gradients, checkpoints, detached values, pieces without recording: all of it is computation."""
    W = tg.tensor(drawn(H, H), requires_grad=True)

    def cell(x: Any, h: Any) -> Any:
        (slope,) = tg.grad(tg.tanh(energy := W.sum() * h).sum(), [energy], create_graph=True)
        inner = tg.checkpoint(lambda h: tg.tanh(W @ h[..., None])[..., 0], h)
        with tg.no_grad():
            gate = tg.sigmoid(inner) * 2
        straight = inner + (tg.sign(inner) - inner).detach()
        h = 0.5 * h + gate * straight + x - 0.1 * slope
        return h, h

    xs, h = drawn(5, 2, H), np.zeros((2, H))
    check(by_reference(export_onnx(cell, xs, h), {"xs": xs}), unrolled(cell, xs, h))


def test_no_state_at_all_and_a_state_handed_through() -> None:
    xs, constant = drawn(5, 2, D), drawn(2, D, seed=1)
    check(
        by_reference(export_onnx(lambda x, s: (x * 2, s), xs), {"xs": xs}),
        unrolled(lambda x, s: (x * 2, s), xs),
    )

    def cell(x: Any, state: Any) -> Any:
        return state[0] + x, (state[0], constant)

    state = (constant, np.zeros((2, D)))
    check(by_reference(export_onnx(cell, xs, state), {"xs": xs}), unrolled(cell, xs, state))


# --- operations ------------------------------------------------------------------------------------------
# Parts of gradients and of transforms; whole sequences; and what ONNX does not have.
WITHOUT_COUNTERPART = {
    "argument",
    "nll_slope",
    "one_hot",
    "one_hot_like",
    "scatter",
    "stays",
    "checkpoint",
    "linear_scan",
    "inv",
    "solve",
}


def test_every_operation_has_a_counterpart_or_is_known_to_have_none() -> None:
    ours = {
        value.op.name
        for name, module in list(sys.modules.items())
        if name.startswith("tensorgrad.")
        for value in list(vars(module).values())
        if hasattr(value, "op")
        and isinstance(value.op, tg.op.Op)
        and value.__module__.startswith("tensorgrad.")
    }
    ours.add("checkpoint")
    assert ours - EMITTERS.keys() == WITHOUT_COUNTERPART
    assert EMITTERS.keys() <= ours


MASK = np.array([[True, False, True, True], [False, False, False, False]])
OPERATIONS: dict[str, Callable[[Any], Any]] = {
    "logarithms": lambda x: tg.log1p(tg.square(x)) + tg.expm1(x) + tg.log(tg.abs(x) + 1) + tg.softplus(x),
    "roots": lambda x: tg.sqrt(x * x) + tg.reciprocal(x) + x**3 + tg.power(2.0, x) - (-x) / 3,
    "circles": lambda x: tg.sin(x) + tg.cos(x) + tg.sign(x) + tg.relu(x),
    "comparisons": lambda x: tg.where((x > 0) & ~(x >= 1) | (x < -1) ^ (x <= -2), x, tg.equal(x, 2.0)),
    "logic": lambda x: tg.logical_or(tg.logical_and(x, x > 1), tg.logical_not(x != 0.5)),
    "finite": lambda x: tg.isfinite(tg.where(x > 0, tg.where(x > 1, np.nan, -np.inf), x)),
    "limits": lambda x: tg.clip(x, -0.5, 0.5) + tg.maximum(x, 0.2) + tg.minimum(x, x * x),
    "integers": lambda x: ((x * 3).astype("int64") & 3 | 4) ^ ~(x * 5).astype("int64"),
    "dtypes": lambda x: x.astype("float32") * np.arange(4) + (x > 0),
    "sums": lambda x: x.sum() + x.mean(-1, keepdims=True) + tg.cumsum(x, 1) + x.prod(0) + x.sum(()),
    "extremes": lambda x: x.max(-1, keepdims=True) - x.min() + tg.logsumexp(x, 0),
    "moments": lambda x: x.var(-1, keepdims=True) + x.std(0, ddof=1) + tg.linalg.norm(x, axis=0),
    "reshaped": lambda x: x.reshape(2, 2, 2).transpose(2, 0, 1)[None].squeeze(0),
    "broadcast": lambda x: tg.broadcast_to(x[:, :1], (3, 2, 5)),
    "joined": lambda x: tg.stack([tg.concatenate([x, x * 2], axis=1), tg.pad(x, ((0, 0), (1, 3)), 7.0)]),
    "turned": lambda x: tg.flip(x, 1) + tg.roll(x, (1, -1), (0, 1)) + tg.flip(x),
    "written": lambda x: tg.index_update(x, (slice(None), 1), 5.0) + tg.index_add(x, [0, 0], x),
    "picked": lambda x: x[[1, 0, 1], 1:].sum() + x[MASK] * x[0, [1]],
    "along": lambda x: tg.take_along_axis(x, np.array([[1], [2]]), 1),
    "looked up": lambda x: x[:, (tg.abs(x[0]) > 1).astype("int8"), None],
    "products": lambda x: tg.trace(x @ x.T) + tg.outer(x[0], x[1]) + tg.dot(x, x[0])[:, None, None],
    "einsum": lambda x: tg.einsum("...i,ji,j->...j", x, x, x[:, 0]),
    "linear": lambda x: F.linear(x[0], x, x[:, 0]) + F.linear(x[None], x, x[:, :2]).sum() + F.linear(x, x)[0],
    "affine": lambda x: tg.affine(x[0], x, x[1], x, x[:, 0]) + tg.affine(x, x, x, x, x[:, 0], x[:, 1]),
    "softmax": lambda x: F.softmax(x) + F.softmax(x, axis=0, mask=MASK) + F.log_softmax(x, axis=0),
    "losses": lambda x: F.cross_entropy(x, [1, 3]) + F.binary_cross_entropy_with_logits(x * 50, MASK),
    "norms": lambda x: F.layer_norm(x, axis=0) + F.layer_norm(x, x[0], x[1]) + F.gelu(x),
    "single precision": lambda x: F.layer_norm(x.astype("float32"), x[0].astype("float32")),
}


@RUNNERS
@pytest.mark.parametrize("name", OPERATIONS)
def test_operations(name: str, run: Runner) -> None:
    def cell(x: Any, state: Any) -> Any:
        return OPERATIONS[name](x), state

    xs = drawn(3, 2, 4)
    check(run(export_onnx(cell, xs), {"xs": xs}), unrolled(cell, xs))


PARTS = st.one_of(
    st.integers(-2, 1),
    st.none(),
    st.builds(slice, *[st.none() | st.integers(-4, 4)] * 2, st.none() | st.sampled_from([-2, -1, 1, 2])),
)


@settings(max_examples=40, deadline=None)
@example([0, slice(-4, None, -2)], 0, False)
@given(st.lists(PARTS, max_size=4), st.integers(0, 4), st.booleans())
def test_every_basic_index_reads_what_numpy_reads(parts: list[Any], place: int, dots: bool) -> None:
    while sum(part is not None for part in parts) > 3:
        parts.pop()
    if dots:
        parts.insert(place, Ellipsis)
    index, x = tuple(parts), drawn(2, 3, 2)
    model = export_onnx(lambda x, state: (x[index], state), x[None])
    check(by_reference(model, {"xs": x[None]})[:1], [np.asarray(x[index])[None]])


# --- layers ----------------------------------------------------------------------------------------------
LAYERS: dict[str, Callable[[], nn.Recurrent]] = {
    "lstm": lambda: nn.LSTM(D, H, 2, bidirectional=True, dropout=0.5, seed=0),
    "gru": lambda: nn.GRU(D, H, seed=0),
    "rnn float32": lambda: nn.RNN(D, H, 3, learned_state=True, seed=0, dtype=np.float32),
    "zoneout": lambda: nn.Recurrent(lambda D: nn.MGUCell(D, H, seed=0), D, bidirectional=True, zoneout=0.2),
}


@RUNNERS
@pytest.mark.parametrize("name", LAYERS)
def test_layers_are_scans_one_above_the_other(name: str, run: Runner) -> None:
    net = LAYERS[name]()
    for index, parameter in enumerate(net.parameters()):
        parameter.data = drawn(*parameter.shape, seed=index)
    dtype = net.parameters()[0].dtype
    model = export_onnx(net, drawn(4, 2, D, dtype=dtype))
    assert net.training
    assert sum(node.op_type == "Scan" for node in model.graph.node) == len(net.cells)
    assert dims_of(model.graph.output[0]) == ["T", "B", net.output_size]
    xs = drawn(6, 3, D, seed=1, dtype=dtype)
    with net.evaluating():
        check(run(model, {"xs": xs}), unrolled(net, xs))


def test_layers_take_a_state_of_their_own_form() -> None:
    net, xs = nn.LSTM(D, H, 2, seed=0), drawn(4, 2, D)
    state = (drawn(2, 2, H, seed=1), drawn(2, 2, H, seed=2))
    model = export_onnx(net, xs, state)
    feed = {f"l{k}.{name}_0": part[k] for k in (0, 1) for name, part in zip("hc", state, strict=True)}
    check(by_reference(model, {"xs": xs, **feed}), unrolled(net, xs, state))


def test_names_in_layers() -> None:
    model = export_onnx(nn.LSTM(D, H, 2, bidirectional=True, seed=0), drawn(3, 2, D))
    names = [value.name for value in model.graph.output]
    assert names[:3] == ["outputs", "l0.h_T", "l0.c_T"]
    assert names[-1] == "l1_reverse.c_T"
    assert "l1_reverse.scan" in [node.name for node in model.graph.node]
    bodies = [
        attribute.g for node in model.graph.node for attribute in node.attribute if attribute.name == "body"
    ]
    assert [bodies[3].initializer[0].name, bodies[0].initializer[2].name] == [
        "weight_ih_l1_reverse",
        "weight_hh_l0",
    ]


# --- what a reader sees ----------------------------------------------------------------------------------
def test_values_are_called_by_their_labels_and_weights_by_their_paths() -> None:
    model = export_onnx(nn.LSTMCell(D, H, seed=0), drawn(3, 2, D))
    body = body_of(model)
    made = [name for node in body.node for name in node.output]
    assert [name for name in made if name in ("a", *"ifgoch")] == ["a", *"ifgoch"]
    assert [node.name for node in body.node] == made
    weights = {
        each.name: tuple(each.dims) for each in body.initializer if "_ih" in each.name or "_hh" in each.name
    }
    assert weights == {
        "weight_ih": (4 * H, D),
        "weight_hh": (4 * H, H),
        "bias_ih": (4 * H,),
        "bias_hh": (4 * H,),
    }
    assert [value.name for value in body.input] == ["h_prev", "c_prev", "x"]
    assert [value.name for value in body.output] == ["h", "c", "output"]
    assert (body.name, body.doc_string) == ("LSTMCell", "One timestep of LSTMCell.")
    text = onnx.printer.to_text(model)
    assert "i = Sigmoid" in text
    assert "float[" not in text


def test_free_sizes_are_symbols_and_every_value_has_a_shape() -> None:
    model = export_onnx(nn.GRUCell(D, H, seed=0), drawn(3, 2, D))
    values = {value.name: dims_of(value) for value in (*model.graph.input, *model.graph.output)}
    # The default is a single row.
    assert values == {"xs": ["T", "B", D], "h_0": [None, H], "outputs": ["T", "B", H], "h_T": ["B", H]}
    body = body_of(model)
    shapes = {value.name: dims_of(value) for value in (*body.input, *body.value_info, *body.output)}
    assert shapes["r"] == shapes["h"] == ["B", H]
    assert {name for node in body.node for name in node.output} <= shapes.keys()
    assert (
        model.doc_string
        == "GRUCell as a Scan over time. T, the number of timesteps, and B, the batch, are free."
    )


def test_single_precision_stays_single_precision() -> None:
    model = export_onnx(nn.SLSTMCell(D, H, seed=0, dtype=np.float32), drawn(3, 2, D, dtype=np.float32))
    graphs = [model.graph, body_of(model)]
    types = {each.data_type for graph in graphs for each in graph.initializer}
    types |= {
        value.type.tensor_type.elem_type
        for graph in graphs
        for value in (*graph.input, *graph.value_info, *graph.output)
    }
    assert types == {onnx.TensorProto.FLOAT, onnx.TensorProto.INT64, onnx.TensorProto.BOOL}


def test_a_part_in_single_precision_is_allowed_its_rounding() -> None:
    def cell(x: Any, h: Any) -> Any:
        return F.layer_norm(x.astype("float32")).astype("float64"), h

    model = export_onnx(cell, drawn(3, 2, D))
    assert [node.op_type for node in body_of(model).node] == ["Cast", "LayerNormalization", "Cast"]


def test_scopes_and_paths_and_names_that_meet() -> None:
    W = tg.tensor(drawn(H, H), requires_grad=True)
    named = tg.tensor(drawn(H), name="bias")

    def cell(x: Any, h: Any) -> Any:
        with tg.scope("inner"):
            a = tg.label(h @ W + named, "xs")
        h = tg.label(tg.label(tg.tanh(a + x), "x") + 1, "h_T")
        return h, tg.label(h * 0.5, "h")

    xs, h = drawn(3, 2, H), np.zeros((2, H))
    model = export_onnx(cell, xs, h, params={"weights": [W]})
    body = body_of(model)
    assert {"weights.0", "bias", "const_0.5"} <= {each.name for each in body.initializer}
    assert [node.name for node in body.node] == ["inner/matmul", "inner/xs", "add", "x_2", "h_T_2", "h"]
    check(by_reference(model, {"xs": xs}), unrolled(cell, xs, h))


def test_a_state_of_rows_that_differ_has_no_default() -> None:
    cell, xs, h = nn.RNNCell(D, H, seed=0), drawn(4, 2, D), drawn(2, H, seed=1)
    model = export_onnx(cell, xs, h)
    assert not model.graph.initializer
    assert dims_of(model.graph.input[1]) == ["B", H]
    check(by_reference(model, {"xs": xs, "h_0": h}), unrolled(cell, xs, h))


def test_a_batch_size_that_is_written_in_stays_fixed_and_is_told() -> None:
    memory = drawn(2, 5, H, seed=1)

    def cell(x: Any, h: Any) -> Any:
        alpha = tg.label(F.softmax((memory @ h[..., None])[..., 0]), "alpha")
        h = tg.label(tg.tanh((alpha[..., None] * memory).sum(1) + x), "h")
        return h, h

    xs, h = drawn(4, 2, H), np.zeros((2, H))
    model = export_onnx(cell, xs, h)
    assert dims_of(model.graph.input[0]) == ["T", 2, H]
    assert [node.op_type for node in model.graph.node] == ["Scan"]
    assert "Only T is free: with 3 in place of 2 on axis 1 of xs, matmul in scope" in model.doc_string
    check(by_reference(model, {"xs": xs}), unrolled(cell, xs, h))

    def counts(x: Any, h: Any) -> Any:
        h = tg.label(h + x * len(x), "h")
        return h, h

    def spreads(x: Any, h: Any) -> Any:
        return h, tg.label(x + tg.broadcast_to(h.sum(0), (len(x), H)), "h")

    for each, where in ((counts, "multiply"), (spreads, "broadcast_to")):
        told = f"Only T is free: the length of axis 1 of xs, 2, is written into '{where}'."
        assert told in export_onnx(each, xs, h).doc_string


def test_heads_leave_the_batch_free() -> None:
    def cell(x: Any, h: Any) -> Any:
        heads = (x + h).reshape(len(x), 2, H // 2)
        h = (heads * F.softmax(heads)).reshape(len(x) * 2, H // 2).reshape(len(x), H)
        return h, h

    model = export_onnx(cell, drawn(3, 2, H), np.zeros((2, H)))
    xs = drawn(5, 4, H)
    check(by_reference(model, {"xs": xs}), unrolled(cell, xs, np.zeros((4, H))))


def test_a_sequence_without_a_batch() -> None:
    cell, xs = nn.LSTMCell(D, H, seed=0), drawn(5, D)
    model = export_onnx(cell, xs)
    assert dims_of(model.graph.input[0]) == ["T", D]
    check(by_reference(model, {"xs": xs}), unrolled(cell, xs))


def test_the_file_is_the_model(tmp_path: Any) -> None:
    path = tmp_path / "rnn.onnx"
    model = export_onnx(nn.RNNCell(D, H, seed=0), drawn(3, 2, D), path=path)
    assert onnx.load(path) == model
    assert [(each.domain, each.version) for each in model.opset_import] == [("", 18)]
    with pytest.raises(UserError, match="cannot write"):
        export_onnx(nn.RNNCell(D, H, seed=0), drawn(3, 2, D), path=tmp_path / "none" / "rnn.onnx")


# --- what cannot be exported -----------------------------------------------------------------------------
def export(cell: Any) -> None:
    export_onnx(cell, drawn(3, 2, 2), np.zeros((2, 2)))


def test_an_operation_without_a_counterpart_is_named_with_label_and_line() -> None:
    def cell(x: Any, h: Any) -> Any:
        return h, tg.label(tg.linalg.inv(h + x), "P")

    with pytest.raises(GraphError) as caught:
        export(cell)
    message = str(caught.value)
    assert "inv has no counterpart in ONNX: the result 'P' of shape (2, 2) in scope 't=0', at " in message
    assert f"test_onnx.py:{cell.__code__.co_firstlineno + 1}" in message


USES: dict[str, Callable[[Any], Any]] = {
    "index_update of one place several times": lambda x: tg.index_update(x, [0, 0], 1.0),
    "index_update of a single number": lambda x: tg.index_update(x[0, 0], (), 1.0),
    "index_add at places that the cell computes": lambda x: tg.index_add(x, x[0].astype("int64") * 0, x),
    "getitem at places that the cell computes": lambda x: x[x > 0],
    "var over no axes": lambda x: x.var(()),
}


@pytest.mark.parametrize("use", USES)
def test_a_use_without_a_counterpart_is_named(use: str) -> None:
    with pytest.raises(GraphError, match=f"export_onnx: {use} has no counterpart in ONNX"):
        export(lambda x, h: (USES[use](x), h))


def test_an_operation_of_your_own_is_no_namesake() -> None:
    tanh = tg.defop("tanh", np.sin, lambda g, ans, x: g)
    with pytest.raises(GraphError, match="tanh, an operation of your own, has no counterpart"):
        export(lambda x, h: (h, tanh(h + x)))


def test_an_operation_that_nothing_needs_does_no_harm() -> None:
    def cell(x: Any, h: Any) -> Any:
        tg.label(tg.linalg.inv(np.eye(2) + 0 * x), "P")
        return h, h + x

    assert [node.op_type for node in body_of(export_onnx(cell, drawn(3, 2, 2), np.zeros((2, 2)))).node][
        -1
    ] == "Identity"


READING: dict[str, Callable[[Any, Any], Any]] = {
    "numpy": lambda x, h: (h, h + np.tanh(x.numpy())),
    "a little": lambda x, h: (h, h + x + 1e-9 * np.tanh(x.numpy())),
    "item": lambda x, h: (h, h + x * float(x.sum())),
    "if": lambda x, h: (h, h + x if x.numpy()[0, 0] > 0 else h - x),
    "one_hot": lambda x, h: (h, h + F.one_hot((np.asarray(x) > 0)[0].astype(int), 2)),
    "random": lambda x, h: (h, h + tg.random.draw(None, lambda rng, shape: rng.random(shape), (2,))),
    "dropout": lambda x, h: (h, F.dropout(h + x, 0.5)),
}


@pytest.mark.parametrize("name", READING)
def test_a_cell_that_leaves_the_graph_is_caught(name: str) -> None:
    with pytest.raises(GraphError, match=r"export_onnx: at timestep . the model's .* is not that of"):
        export(READING[name])


@pytest.mark.parametrize("T", [1, 4])
def test_a_dull_example_hides_nothing(T: int) -> None:
    for cell in (lambda x, h: (h, h + x * float(h.sum())), lambda x, h: (h, h + np.tanh(x.numpy()))):
        with pytest.raises(GraphError, match=r"at timestep [12] the model's 'state' is not that of <lambda>"):
            export_onnx(cell, np.zeros((T, 2, 2)), np.ones((2, 2)))


def test_a_wrong_counterpart_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(EMITTERS, "tanh", EMITTERS["sigmoid"])
    with pytest.raises(GraphError, match="at timestep 0 the model's 'h'"):
        export_onnx(nn.RNNCell(D, H, seed=0), drawn(3, 2, D))


def test_states_that_cannot_be_handed_on() -> None:
    with pytest.raises(
        GraphError, match=r"goes into the cell as None and comes out as Tensor .*give export_onnx a state"
    ):
        export_onnx(lambda x, h: (x, x if h is None else h + x), drawn(3, 2, 2))
    with pytest.raises(
        GraphError, match=r"'state' goes into the cell as \(2, 2\) float64 and comes out as \(2, 1\)"
    ):
        export(lambda x, h: (x, (h + x)[:, :1]))
    with pytest.raises(ShapeError, match=r"must return \(output, state\)"):
        export(lambda x, h: h)
    with pytest.raises(ShapeError, match="at least one timestep"):
        export_onnx(nn.RNNCell(D, H), np.zeros((0, 2, D)))


@pytest.mark.parametrize("thing", [nn.Linear(2, 2), "cell", lambda x: x])
def test_what_is_no_cell(thing: Any) -> None:
    with pytest.raises(
        GraphError, match=r"takes a cell \(x, state\) -> \(output, state\) or recurrent layers"
    ):
        export(thing)


def test_what_onnx_itself_refuses() -> None:
    with pytest.raises(GraphError, match=r"<lambda> does what ONNX has no form for: .*Add"):
        export(lambda x, h: (tg.add(x > 0, h > 0), h))


def test_without_onnx() -> None:
    code = (
        "import sys\nsys.modules['onnx'] = None\nimport tensorgrad as tg\n"
        "from tensorgrad.viz.onnx import export_onnx\n"
        "try:\n    export_onnx(tg.nn.RNNCell(1, 1), [[[1.0]]])\n"
        "except ImportError as error:\n    print(type(error).__name__, error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "OnnxError exporting to ONNX needs onnx: pip install 'tensorgrad-rnn[onnx]'\n"


def test_exporting_leaves_no_trace() -> None:
    cell = nn.RNNCell(D, H, seed=0)
    before = cell.state_dict()
    export_onnx(cell, drawn(3, 2, D))
    assert all(np.array_equal(before[name], value) for name, value in cell.state_dict().items())
    assert tg.context.context().trace is None
