"""What a summary counts: parameters, and what a run records, held against counts made in other ways."""

from __future__ import annotations

import gc
import re
import tracemalloc
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tensorgrad as tg
from tensorgrad import nn, viz
from tensorgrad.data import Pairs, Vocabulary
from tensorgrad.errors import ShapeError, UserError
from tensorgrad.models.char_lm import CharLM
from tensorgrad.models.seq2seq import Seq2Seq
from tensorgrad.models.transformer import TransformerLM
from tensorgrad.viz.build import computed_from
from tensorgrad.viz.tables.costs import Cost, LabelRow, cost_of

from .conftest import Leaky


# --- parameters ------------------------------------------------------------------------------------------
class Net(nn.Module):
    """Two layers, one of them twice."""

    def __init__(self) -> None:
        self.first = nn.Linear(3, 4, seed=0, dtype=np.float32)
        self.blocks = [nn.Linear(4, 4, bias=False, seed=1), nn.Linear(4, 2, seed=2)]
        self.again = self.blocks[0]
        self.drop = nn.Dropout(0.5)

    def forward(self, x: Any) -> Any:
        return self.blocks[1](self.drop(self.again(self.blocks[0](tg.astype(self.first(x), float)))))


def test_parameters_by_path():
    found = viz.summary(Net())
    assert [(row.path, row.shape, row.dtype, row.size, row.nbytes) for row in found.rows] == [
        ("first.weight", (4, 3), "float32", 12, 48),
        ("first.bias", (4,), "float32", 4, 16),
        ("blocks.0.weight", (4, 4), "float64", 16, 128),
        ("blocks.1.weight", (2, 4), "float64", 8, 64),
        ("blocks.1.bias", (2,), "float64", 2, 16),
    ]
    assert (found.total, found.trainable, found.nbytes, found.run) == (42, 42, 272, None)
    assert "42 parameters, 272 B, all trainable." in str(found)


def test_totals_of_each_module():
    assert [tuple(row) for row in viz.summary(Net()).modules] == [
        ("first", "Linear", 16, 64, 16),
        ("blocks.0", "Linear", 16, 128, 16),
        ("blocks.1", "Linear", 10, 80, 10),
    ]


def test_paths_of_recurrent_layers_are_those_of_their_weights_in_a_file():
    found = viz.summary(nn.LSTM(3, 4, num_layers=2, bidirectional=True, seed=0))
    assert found.rows[-1].path == "bias_hh_l1_reverse"
    assert [row.path for row in found.modules] == ["l0", "l0_reverse", "l1", "l1_reverse"]
    assert found.total == sum(row.size for row in found.modules)


def test_what_is_not_trained_is_told_apart():
    net = Net()
    net.first.weight.requires_grad_(False)
    found = viz.summary(net)
    assert (found.total, found.trainable) == (42, 30)
    assert [row.trainable for row in found.rows] == [False, True, True, True, True]
    assert found.modules[0].trainable == 4
    assert "30 trainable, 12 not." in str(found)
    assert re.search(r"first\.weight .* no$", str(found), re.MULTILINE)


def test_a_module_without_parameters():
    assert str(viz.summary(nn.Dropout(0.5))) == "Dropout(p=0.5)\nNo parameters."


# --- memory ----------------------------------------------------------------------------------------------
@given(B=st.integers(1, 4), D=st.integers(1, 4), H=st.integers(1, 4), T=st.integers(1, 9))
@settings(max_examples=25, deadline=None)
def test_a_vanilla_rnn_by_hand(B, D, H, T):
    run = viz.summary(nn.RNNCell(D, H, seed=0, dtype=np.float32), (T, B, D)).run
    # x, a and h; the product with W_xh and the one with W_hh.
    assert run.step == Cost(2, 4 * B * (D + 2 * H), B * H * (D + H))
    # And the zeros before the first timestep, as given and as copied.
    kept = T * 4 * B * (D + 2 * H) + 2 * 4 * B * H
    assert run.total == Cost(2 * T, kept, T * B * H * (D + H))
    assert (run.T, run.dtype, run.shape) == (T, "float32", (T, B, D))


def test_an_lstm_by_hand():
    B, D, H = 2, 3, 5
    step = viz.summary(nn.LSTMCell(D, H, seed=0), (10, B, D)).run.step
    # x; the pre-activations of four gates together; the gates; i * g, f * c, c, tanh(c), h.
    assert step.nbytes == 8 * B * (D + 4 * H + 4 * H + 5 * H)
    assert step.multiply_adds == B * 4 * H * (D + H)


def outputs_of(roll: nn.Unrolled) -> Any:
    return [step["output"] for step in roll.steps], roll.state


LETTERS = Vocabulary("".join(map(chr, range(33, 65))))
LSTM = nn.LSTMCell(24, 32, seed=0)
MODELS: dict[str, tuple[Any, Any]] = {
    **{name: (nn.make_cell(name, 24, 32, seed=0), None) for name in nn.CELLS},
    "layers": (nn.GRU(24, 32, num_layers=2, bidirectional=True, dropout=0.3, seed=0), None),
    "checkpoints": (LSTM, lambda xs: nn.unroll(LSTM, xs, checkpoint="sqrt")),
    "characters": (CharLM(LETTERS, "lstm", 32, layers=2, seed=0), None),
    "transformer": (TransformerLM(LETTERS, 32, context=20, seed=0), None),
}


@pytest.mark.parametrize("name", MODELS)
def test_what_is_kept_is_what_numpy_has_allocated(name):
    """Against the memory that NumPy itself says is in use while the results, and so the graph, are held."""
    model, forward = MODELS[name]
    T, B, D = 9, 8, 24
    xs: Any = np.zeros((T, B), int) if name in ("characters", "transformer") else np.zeros((T, B, D))
    run = viz.summary(model, xs, forward=forward).run
    numpy_only = tracemalloc.DomainFilter(True, np.lib.tracemalloc_domain)

    def in_use() -> int:
        gc.collect()
        traces = tracemalloc.take_snapshot().filter_traces([numpy_only])
        return sum(trace.size for trace in traces.traces)

    tracemalloc.start()
    try:
        before = in_use()
        result = forward(xs) if forward else nn.unroll(model, xs) if name in nn.CELLS else model(xs)
        held = tg.tree.leaves(result[:2]) if isinstance(result, tuple) else outputs_of(result)
        del result
        kept = in_use() - before
    finally:
        tracemalloc.stop()
    assert held
    # Single numbers come from a store of NumPy's own, which may have had them already.
    assert kept == pytest.approx(run.total.nbytes, abs=16 * 8 * T)
    assert run.total.nbytes > 16 * 16 * 8 * T


@pytest.mark.parametrize("cell", nn.CELLS)
def test_a_long_run_is_foretold_from_short_ones(cell):
    model = nn.Recurrent(lambda D: nn.make_cell(cell, D, 3, seed=0), 2, num_layers=2, bidirectional=True)
    found = viz.summary(model, (30, 2, 2)).run
    nodes = computed_from(tg.tree.leaves(model(np.zeros((30, 2, 2)))))
    assert found.step is not None
    assert found.total == cost_of(nodes, {id(p._value) for p in model.parameters()})


def test_a_cell_that_looks_back_at_everything_is_measured_as_a_whole():
    class Looking(nn.Module):
        def __init__(self) -> None:
            self.w = nn.Parameter(np.ones((2, 2)))

        def forward(self, x: Any, past: Any = ()) -> Any:
            past = (*(past or ()), x @ self.w)
            return tg.tanh(tg.sum(tg.stack(past), 0)), past

    found = viz.summary(Looking(), (9, 1, 2))
    # In timestep t: a product (1, 2), t + 1 of them stacked, their sum and its tanh; and x.
    kept = [16 * (1 + t + 1 + 1 + 1 + 1) for t in range(9)]
    assert found.run.step is None
    assert found.run.total == Cost(9 * 4, sum(kept), 9 * 4)
    assert "do not all add the same" in str(found)
    assert "each timestep" not in str(found)


def test_parameters_and_their_views_are_not_counted():
    big = nn.Linear(1000, 1, bias=False, seed=0)
    turned = viz.summary(big, np.ones((1, 1000)), forward=lambda x: x @ big.weight.T).run.total
    assert turned.nbytes == 2 * 8 * 1000 + 8


def test_a_view_counts_as_the_array_that_it_keeps_in_memory():
    x = tg.tensor(np.ones((100, 100)), requires_grad=True)
    assert cost_of(computed_from([x[0] * 2])).nbytes == 80_000 + 800 + 8


# --- multiply-adds ---------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("make", "products"),
    [
        (lambda x: x @ np.ones((3, 4)), 2 * 3 * 4),
        (lambda x: x @ np.ones(3), 2 * 3),
        (lambda x: np.ones(2) @ x, 2 * 3),
        (lambda x: x @ np.ones((5, 3, 4)), 5 * 2 * 3 * 4),
        (lambda x: tg.einsum("ij,kj->ik", x, np.ones((4, 3))), 2 * 3 * 4),
        (lambda x: tg.einsum("ij->j", x), 0),
        (lambda x: tg.einsum("ij,jk,k->i", x, np.ones((3, 4)), np.ones(4)), 2 * (2 * 3 * 4)),
        (lambda x: tg.functional.linear(x, np.ones((4, 3)), np.ones(4)), 2 * 3 * 4),
        (lambda x: x * x + tg.tanh(x), 0),
    ],
)
def test_multiply_adds(make, products):
    x = tg.tensor(np.ones((2, 3)), requires_grad=True)
    assert cost_of(computed_from([make(x)])).multiply_adds == products


def test_of_checkpointed_operations_nothing_is_claimed():
    cell = nn.RNNCell(2, 3, seed=0)
    found = viz.summary(cell, (9, 1, 2), forward=lambda xs: nn.unroll(cell, xs, checkpoint=3))
    assert found.run.total.multiply_adds is None
    assert found.run.total.nbytes < viz.summary(cell, (9, 1, 2)).run.total.nbytes
    assert "unknown" in str(found)


# --- labels ----------------------------------------------------------------------------------------------
def test_labels_of_a_timestep():
    run = viz.summary(nn.LSTM(3, 4, num_layers=2, seed=0), (10, 2, 3)).run
    assert LabelRow("l0/a", ("2", "16"), "float64") in run.labels
    assert LabelRow("l1/x", ("2", "4"), "float64") in run.labels
    assert len(run.labels) == len(set(run.labels)) == 16


def test_the_length_of_the_sequence_is_called_so_in_shapes():
    model = CharLM(Vocabulary("abcd"), "gru", 8, seed=0)
    run = viz.summary(model, np.zeros((50, 3), int)).run
    assert run.outside == (LabelRow("y", ("T", "3", "4"), "float32"),)
    assert run.how == "model(x)"
    assert "(T, 3, 4)" in str(viz.summary(model, np.zeros((50, 3), int)))


# --- how a model is run ----------------------------------------------------------------------------------
class Update(nn.Module):
    """A cell of no class but Module, which must be given a state."""

    def __init__(self) -> None:
        self.gate = nn.Linear(5, 3, seed=0)

    def forward(self, x: Any, h: Any) -> Any:
        h = tg.label(tg.tanh(self.gate(tg.concatenate([h, x], -1))), "h")
        return h, h


class Reader(nn.Module):
    """A model of whole sequences that looks like a cell from outside."""

    def __init__(self) -> None:
        self.cell = nn.RNNCell(2, 3, seed=0)

    def forward(self, xs: Any, state: Any = None) -> Any:
        roll = nn.unroll(self.cell, xs, state)
        return roll.outputs, roll.state


@pytest.mark.parametrize(
    ("model", "state", "how", "operations"),
    [
        (nn.RNNCell(2, 3, seed=0), None, "nn.unroll(model, x)", 2),
        (nn.RNNCell(2, 3, seed=0), np.ones((2, 3)), "nn.unroll(model, x, state)", 2),
        (Leaky(), None, "nn.unroll(model, x)", 10),
        (Update(), np.ones((2, 3)), "nn.unroll(model, x, state)", 3),
        (Reader(), None, "model(x)", 2),
        (Reader(), np.ones((2, 3)), "model(x, state)", 2),
        (nn.RNN(2, 3, seed=0), None, "model(x)", 2),
    ],
    ids=lambda value: type(value).__name__,
)
def test_how_a_model_is_run(model, state, how, operations):
    run = viz.summary(model, (20, 2, 2), state=state).run
    assert (run.how, run.step.operations, run.T) == (how, operations, 20)


def test_a_model_without_timesteps():
    run = viz.summary(nn.Linear(3, 4, seed=0), np.ones((5, 3))).run
    assert (run.T, run.step, run.total) == (None, None, Cost(1, 8 * (2 * 15 + 20), 60))
    net = TransformerLM(Vocabulary("abcd"), 4, context=6)
    run = viz.summary(net, np.zeros((6, 3), int)).run
    assert (run.T, run.step) == (None, None)
    assert {row.name for row in run.outside} == {"layer=0/alpha", "y"}


def test_a_model_that_takes_one_length_only():
    class Fixed(nn.Module):
        def __init__(self) -> None:
            self.w = nn.Parameter(np.ones((10, 1)))

        def forward(self, xs: Any) -> Any:
            return xs * self.w

    run = viz.summary(Fixed(), np.ones((10, 2))).run
    assert (run.T, run.total.operations) == (None, 1)
    with pytest.raises(ShapeError, match="multiply"):
        viz.summary(Fixed(), np.ones((9, 2)))


def test_an_input_that_is_no_array_goes_to_the_model_as_it_is():
    pairs = Pairs(np.array([[3, 4], [5, 6]]), np.array([2, 2]), np.array([[3, 4]]), np.array([1, 1]))
    model = Seq2Seq(8, 8, hidden=4, seed=0)
    run = viz.summary(model, pairs, forward=model.loss).run
    assert (run.how, run.shape, run.T) == ("forward(x)", None, None)
    assert run.total.operations > 10
    assert "loss" in {row.name for row in run.outside}


def test_zeros_of_a_shape_cost_what_any_input_of_it_costs():
    cell = nn.GRUCell(3, 4, seed=0, dtype=np.float32)
    xs = np.random.default_rng(0).standard_normal((7, 2, 3)).astype(np.float32)
    run = viz.summary(cell, xs).run
    assert run == viz.summary(cell, xs.shape).run == viz.summary(cell, tg.tensor(xs)).run
    assert viz.summary(nn.GRUCell(3, 4, seed=0), xs.tolist()).run.dtype == "float64"


def test_inputs_that_require_a_gradient_make_more():
    xs = tg.tensor(np.ones((7, 2, 3)), requires_grad=True)
    run = viz.summary(nn.RNNCell(3, 4, seed=0), xs).run
    assert run.step.operations == 3


def test_what_is_drawn_is_drawn_again():
    layers = nn.LSTM(2, 3, num_layers=2, dropout=0.5, seed=0)
    tg.manual_seed(3)
    viz.summary(layers, (5, 1, 2), forward=lambda xs: tg.dropout(layers(xs)[0], 0.5))
    after = layers(np.ones((4, 1, 2)))[0].numpy(), tg.dropout(np.ones(20), 0.5)
    layers = nn.LSTM(2, 3, num_layers=2, dropout=0.5, seed=0)
    tg.manual_seed(3)
    without = layers(np.ones((4, 1, 2)))[0].numpy(), tg.dropout(np.ones(20), 0.5)
    assert all(map(np.array_equal, after, without))


def test_where_it_is_called_makes_no_difference():
    cell = nn.RNNCell(2, 3, seed=0)
    found = viz.summary(cell, (5, 1, 2)).run
    with tg.no_grad(), tg.scope("t=3"):
        assert viz.summary(cell, (5, 1, 2)).run == found
    assert all(p.grad is None for p in cell.parameters())


def test_a_model_that_trains_nothing():
    linear = nn.Linear(2, 3, seed=0)
    for p in linear.parameters():
        p.requires_grad_(False)
    found = viz.summary(linear, (4, 2))
    assert found.run.total.operations == 0
    assert "Nothing was recorded" in str(found)


# --- bad input -------------------------------------------------------------------------------------------
@pytest.mark.parametrize("model", [lambda x, h: (h, h), {"w": tg.tensor(1.0)}, None])
def test_what_is_no_module(model):
    with pytest.raises(UserError, match="must be a Module, not a"):
        viz.summary(model)


def test_a_cell_that_needs_a_state():
    with pytest.raises(UserError, match=r"Update is called with \(x, h\).*give state="):
        viz.summary(Update(), (5, 2, 2))


def test_a_state_without_an_input():
    with pytest.raises(UserError, match="example input"):
        viz.summary(Update(), state=np.ones((2, 3)))


def test_an_input_that_does_not_fit():
    with pytest.raises(ShapeError, match="RNNCell in scope 't=0': expected an input"):
        viz.summary(nn.RNNCell(2, 3, seed=0), (5, 1, 7))


# --- how it is shown -------------------------------------------------------------------------------------
def test_names_come_out_as_text():
    class Odd(nn.Module):
        def extra_repr(self) -> str:
            return "<b>"

        def forward(self, x: Any) -> Any:
            return tg.label(x * vars(self)["<script>"], "<i>\n")

    odd = Odd()
    vars(odd)["<script>"] = nn.Parameter([1.0])
    found = viz.summary(odd, np.ones(1))
    html = found._repr_html_()
    assert not re.search("<(script|b>O|i>)", html.replace("<p><b>Odd", ""))
    assert "&lt;script&gt;" in html
    assert "&lt;i&gt;␊" in html
    assert "Odd(&lt;b&gt;)" in html
    assert len(str(found).splitlines()) == 14
    assert repr(found) == "<Summary of Odd(<b>): 1 parameter; print it>"
