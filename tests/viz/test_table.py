"""The recorded graph as a table: what each row says, what is left out, and that labels stay text."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tensorgrad as tg
from tensorgrad import nn
from tensorgrad.errors import GraphError, UserError
from tensorgrad.graph import Node
from tensorgrad.viz.steps import timestep_of
from tensorgrad.viz.tables.table import Gap, TraceTable, trace_table

from .conftest import GRAPHS, bidirectional, char_rnn
from .test_notebook import Page


def nodes_behind(output: Any) -> list[Node]:
    found, waiting = {}, [output]
    while waiting:
        node = waiting.pop()
        if isinstance(node, Node) and node.index not in found:
            found[node.index] = node
            waiting += node.operands
    return [found[index] for index in sorted(found)]


def row_of(table: TraceTable, name: str, scope: str = "") -> Any:
    (row,) = (row for row in table.rows if (row.name, row.scope) == (name, scope))
    return row


def gaps(table: TraceTable) -> list[Gap]:
    return [part for part in table.parts if isinstance(part, Gap)]


def long_rnn(T: int) -> Any:
    roll = nn.unroll(nn.RNNCell(2, 3, seed=0), np.ones((T, 1, 2)))
    return tg.label(tg.sum(roll.steps[-1]["h"]), "loss")


# --- what a row says -------------------------------------------------------------------------------------
def test_a_plain_expression_row_by_row():
    x = tg.tensor(np.ones((2, 3)), requires_grad=True, name="x")
    h = tg.label(tg.tanh(x * 0.5), "h")
    y = tg.sum(h[..., 0:2] - h[..., 1:3], axis=0, keepdims=True)
    assert str(trace_table(y)).splitlines() == [
        "#  scope  name  operation               operands  shape   dtype    memory",
        "0         x     parameter                         (2, 3)  float64    48 B",
        "1               multiply(·, 0.5)        x         (2, 3)  float64    48 B",
        "2         h     tanh                    #1        (2, 3)  float64    48 B",
        "3               getitem[..., 0:2]       h         (2, 2)  float64    view",
        "4               getitem[..., 1:3]       h         (2, 2)  float64    view",
        "5               subtract                #3, #4    (2, 2)  float64    32 B",
        "6               sum axes=(0,) keepdims  #5        (1, 2)  float64    16 B",
        "7 rows: 6 operations on 1 leaf; their values take 192 B.",
    ]


def test_names_come_from_labels_paths_and_the_unrolled_run():
    case = char_rnn(2)
    table = trace_table(case.output, unrolled=case.unrolled, params=case.params)
    a = row_of(table, "a", "t=1")
    h0 = row_of(table, "h", "t=0")
    x = row_of(table, "x", "t=1")
    assert a.operation == "affine"
    assert a.operands == (
        f"x #{x.number}",
        "cell.weight_ih",
        f"h #{h0.number}",
        "cell.weight_hh",
        "cell.bias_ih",
        "cell.bias_hh",
    )
    # The state before the first timestep is an array, which has no row.
    assert row_of(table, "a", "t=0").operands[2] == "h0 (1, 3)"
    assert x.operation == "input"
    assert row_of(table, "cell.weight_hh").operation == "parameter"


@pytest.mark.parametrize("name", GRAPHS)
def test_rows_are_all_nodes_in_the_order_of_creation(name):
    case = GRAPHS[name](4)
    nodes = nodes_behind(case.output)
    table = trace_table(case.output, unrolled=case.unrolled, params=case.params)
    assert [row.number for row in table.rows] == list(range(len(nodes)))
    assert not gaps(table)
    for row, node in zip(table.rows, nodes, strict=True):
        assert (row.shape, row.dtype, row.scope) == (node.shape, str(node.dtype), node.scope)
        arrays = [
            operand
            for operand, array in zip(node.operands, node.args, strict=True)
            if isinstance(operand, Node) or array.ndim
        ]
        assert len(row.operands) == len(arrays)
        for text, operand in zip(row.operands, arrays, strict=True):
            if "#" in text:
                assert nodes[int(text.rpartition("#")[2])] is operand


def test_an_array_is_counted_once_however_many_views_of_it_there_are():
    x = tg.tensor(np.ones((4, 3)), requires_grad=True)
    y = tg.sum(tg.broadcast_to(tg.reshape(x.T, (1, 12)), (5, 12)) * 2)
    table = trace_table(y)
    assert [row.nbytes for row in table.rows] == [96, 0, 96, 0, 480, 8]
    assert table.nbytes == 680
    assert [line.split()[-1] for line in str(table).splitlines()[2:5]] == ["view", "B", "view"]


def test_parts_of_an_array_that_has_no_row_are_counted_each():
    roll = nn.unroll(nn.RNNCell(2, 3, seed=0), np.ones((3, 1, 2)))
    table = trace_table(roll.steps[-1]["h"])
    assert [row.nbytes for row in table.rows if row.name == "x"] == [16, 16, 16]


def test_an_empty_value_is_no_view():
    x = tg.tensor(np.ones((0, 3)), requires_grad=True)
    assert "view" not in str(trace_table(x * 2))


def test_the_text_is_the_same_for_the_same_graph():
    def text() -> str:
        x = tg.tensor([1.0, 2.0], requires_grad=True)
        return str(trace_table(tg.checkpoint(lambda x: tg.exp(x) * x, x).sum()))

    assert text() == text()
    assert "object at" not in text()


@given(st.integers(1, 4), st.lists(st.sampled_from(["tanh", "double", "twice", "turn"]), max_size=8))
@settings(max_examples=30, deadline=None)
def test_the_values_take_what_the_distinct_arrays_take(rows, steps):
    x = tg.tensor(np.ones((rows, 2)), requires_grad=True)
    y = x
    for step in steps:
        y = {"tanh": tg.tanh, "double": lambda y: y + y, "twice": lambda y: 2.0 * y, "turn": lambda y: y.T}[
            step
        ](y)
    made = sum(step != "turn" for step in steps)
    table = trace_table(tg.sum(y))
    assert table.nbytes == 16 * rows * (1 + made) + 8
    assert table.count == len(steps) + 2


# --- values and gradients --------------------------------------------------------------------------------
def test_values_in_numbers_with_what_is_not_finite_counted_apart():
    x = tg.tensor([3.0, -4.0, np.nan, np.inf, -np.inf], requires_grad=True, name="x")
    table = trace_table(tg.label(x * 1, "y"), values=True)
    y = row_of(table, "y").values
    assert (y.least, y.greatest, y.mean, y.norm, y.nan, y.inf) == (-4, 3, -0.5, 5, 1, 2)
    assert str(table).splitlines()[2].split()[-6:] == ["-4", "-0.5", "3", "5", "1", "2"]


def test_a_value_without_finite_numbers_has_no_minimum():
    x = tg.tensor([np.nan], requires_grad=True)
    assert str(trace_table(x * 1, values=True)).splitlines()[1].split()[-2:] == ["B", "1"]


def test_gradients_are_blank_until_a_backward_and_never_zero():
    x = tg.tensor([1.0, 2.0], requires_grad=True, name="x")
    unused = tg.tensor([5.0, 5.0], requires_grad=True, name="unused")
    h = tg.label(x * 3, "h").retain_grad()
    loss = tg.label((h + 0 * unused).sum(), "loss")
    before = trace_table(loss, grads=True)
    assert [row.grad for row in before.rows] == [None] * before.count
    assert "no backward has reached" in str(before)
    loss.backward()
    after = trace_table(loss, grads=True)
    assert row_of(after, "x").grad == pytest.approx(np.sqrt(18))
    assert row_of(after, "h").grad == pytest.approx(np.sqrt(2))
    # A gradient of zero is one, and what keeps none stays blank.
    assert row_of(after, "unused").grad == 0
    assert row_of(after, "loss").grad is None
    lines = {line.split()[1]: line for line in str(after).splitlines()[1:]}
    assert lines["x"].endswith("4.243")
    assert lines["unused"].endswith("  0")
    assert lines["loss"].endswith("8 B")
    assert "retain_grad()" in str(after)


@pytest.mark.parametrize(("bad", "text"), [(np.nan, "nan"), (np.inf, "inf")])
def test_a_gradient_that_is_not_finite_shows_as_such(bad, text):
    x = tg.tensor([1.0, 2.0], requires_grad=True, name="x")
    y = x * 1
    y.backward(np.array([bad, 1.0]))
    assert str(trace_table(y, grads=True)).splitlines()[1].endswith(text)


# --- what is left out ------------------------------------------------------------------------------------
def test_of_a_long_sequence_both_ends_are_shown():
    assert not gaps(trace_table(long_rnn(11)))
    table = trace_table(long_rnn(12))
    (gap,) = gaps(table)
    assert (gap.rows, gap.steps) == (6, (5, 6))
    assert "6 rows of 2 timesteps, t=5 to t=6" in str(table)
    assert {timestep_of(row.scope)[1] for row in table.rows if row.scope} == {*range(5), *range(7, 12)}


@given(st.integers(1, 40), st.sets(st.integers(0, 39), max_size=6))
@settings(max_examples=25, deadline=None)
def test_every_row_is_shown_or_counted(T, asked):
    asked = {t for t in asked if t < T}
    table = trace_table(long_rnn(T), steps=asked)
    number = 0
    for part in table.parts:
        if isinstance(part, Gap):
            number += part.rows
        else:
            assert part.number == number
            number += 1
    assert number == table.count
    shown = {timestep_of(row.scope)[1] for row in table.rows if row.scope}
    assert shown >= asked | set(range(min(5, T))) | set(range(max(T - 5, 0), T))
    left_out = {t for gap in gaps(table) for t in gap.steps}
    assert shown | left_out == set(range(T))
    assert not shown & left_out


def test_all_timesteps():
    table = trace_table(long_rnn(30), steps="all")
    assert not gaps(table)
    assert len(table.rows) == table.count


def test_ten_thousand_timesteps_without_recursion():
    loss = long_rnn(10_000)
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(200)
    try:
        table = trace_table(loss, values=True, grads=True, steps=range(7_000, 7_002))
        text, html = str(table), table._repr_html_()
    finally:
        sys.setrecursionlimit(limit)
    assert table.count > 30_000
    assert [gap.steps[0] for gap in gaps(table)] == [5, 7_002]
    assert len(text.splitlines()) < 60
    assert len(html) < 40_000


def test_every_sequence_has_ends_of_its_own():
    table = trace_table(bidirectional(20).output)
    for name in ("forwards", "backwards"):
        times = [timestep_of(row.scope)[1] for row in table.rows if row.scope.startswith(f"{name}/")]
        assert set(times) == {*range(5), *range(15, 20)}
    # Backwards, timesteps are made from the last to the first; then both are put together in order.
    assert times == sorted(times, reverse=True)
    assert [gap.steps[:2] for gap in gaps(table)] == [(5, 6), (14, 13), (5, 6)]


def test_a_long_run_outside_of_timesteps_is_cut_in_the_middle():
    y = tg.tensor(1.0, requires_grad=True)
    for _ in range(100):
        y = y * 1.5
    table = trace_table(y)
    (gap,) = gaps(table)
    assert (gap.rows, gap.steps, len(table.rows)) == (61, (), 40)
    assert "... 61 rows ..." in str(table)


def test_operands_of_which_there_are_many_are_shortened():
    y = tg.stack([tg.tensor(1.0, requires_grad=True) for _ in range(30)])
    (line,) = (line for line in str(trace_table(y)).splitlines() if "stack" in line)
    assert "(22 more)" in line
    assert len(line) < 200


# --- bad input -------------------------------------------------------------------------------------------
@pytest.mark.parametrize("output", [tg.tensor([1.0]), [], 3.0, tg.tensor([1.0], requires_grad=True)])
def test_nothing_recorded(output):
    with pytest.raises(GraphError, match="trace_table: no recorded operation"):
        trace_table(output)


def test_what_is_no_unrolled_run_is_refused():
    with pytest.raises(UserError, match="unrolled"):
        trace_table(long_rnn(2), unrolled=3)


@pytest.mark.parametrize("steps", [[3], [-1], [0, 99]])
def test_a_timestep_that_is_not_there(steps):
    with pytest.raises(UserError, match=r"no timestep (3|-1|99) in this graph, which has t=0 to t=2"):
        trace_table(long_rnn(3), steps=steps)


def test_timesteps_of_a_graph_without_any():
    with pytest.raises(UserError, match="no timesteps"):
        trace_table(tg.tensor(1.0, requires_grad=True) * 2, steps=[0])


@pytest.mark.parametrize("steps", [7, ["t=7"], [0.5]])
def test_steps_that_are_none(steps):
    with pytest.raises(UserError, match=r"such as \[7, 8\]"):
        trace_table(long_rnn(12), steps=steps)


# --- text stays text -------------------------------------------------------------------------------------
@pytest.mark.parametrize("label", ["<script>alert(1)</script>", '"><img src=x>', "&amp;", "</style>", "h'"])
def test_labels_and_scopes_come_out_as_text(label):
    x = tg.tensor([1.0], requires_grad=True, name=label)
    with tg.scope(label):
        y = tg.label(x * 2, f"{label}2")
    page = Page(trace_table(y * y, values=True)._repr_html_())
    assert page.tags == {"div", "style", "table", "tr", "th", "td", "p"}
    assert label in page.words
    assert f"{label}2" in page.words


def test_a_label_cannot_break_the_lines_of_the_table():
    x = tg.tensor([1.0], requires_grad=True, name="a\nb\x1b[31m")
    text = str(trace_table(tg.label(x * 2, "y" * 10_000)))
    assert len(text.splitlines()) == 4
    assert "\x1b" not in text
    assert max(map(len, text.splitlines())) < 250
