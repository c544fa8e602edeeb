"""What is drawn: kinds, names, ids, frames, and the numbers of them."""

from __future__ import annotations

import re
import sys
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import tensorgrad as tg
from tensorgrad import nn
from tensorgrad.errors import UserError
from tensorgrad.viz.build import build, computed_from
from tensorgrad.viz.model import Box, Model
from tensorgrad.viz.place import place
from tensorgrad.viz.writers.dot import to_dot

from .conftest import GRAPHS, Case, char_rnn


def model_of(case: Case) -> Model:
    return build(case.output, case.unrolled, case.params)


def by_id(model: Model) -> dict[str, Box]:
    return {box.id: box for box in model.boxes}


def leaf(*shape: int, name: str | None = None) -> Any:
    return tg.tensor(np.ones(shape), requires_grad=True, name=name)


def test_a_plain_expression() -> None:
    x, w = leaf(2, name="x"), leaf(2)
    boxes = by_id(build(tg.sum(tg.tanh(x * w * 0.5)[0:1])))
    assert list(boxes) == ["x", "parameter", "multiply", "multiply_2", "tanh", "getitem", "sum"]
    assert boxes["multiply_2"].op == "multiply(·, 0.5)"
    assert boxes["getitem"].op == "getitem[0:1]"
    assert boxes["sum"].kind == "output"
    assert (boxes["x"].kind, boxes["x"].shape, boxes["x"].dtype) == ("parameter", "(2,)", "float64")


def test_kinds_and_names_in_an_unrolled_rnn() -> None:
    boxes = by_id(model_of(char_rnn(2)))
    kinds = {name: boxes[f"t1.{name}"].kind for name in ("x", "a", "h", "y", "labels", "L")}
    assert kinds == {
        "x": "input",
        "a": "operation",
        "h": "state",
        "y": "operation",
        "labels": "constant",
        "L": "output",
    }
    assert (boxes["cell_weight_hh"].kind, boxes["cell_weight_hh"].name) == ("parameter", "cell.weight_hh")
    assert boxes["t1.h"].op == "tanh"
    assert boxes["loss"].kind == "output"
    assert "scope t=1" in boxes["t1.h"].notes


@pytest.mark.parametrize("name", GRAPHS)
def test_ids_are_plain_and_unlike_one_another(name: str) -> None:
    model = model_of(GRAPHS[name](3))
    ids = [box.id for box in model.boxes] + [frame.id for frame in model.frames]
    assert len(set(ids)) == len(ids)
    assert all(re.fullmatch(r"\w+(\.\w+)*", each, re.ASCII) for each in ids)
    assert {end for arrow in model.arrows for end in (arrow.tail, arrow.head)} <= set(ids)
    assert all(box.id == f"{box.frame}.{box.role}".lstrip(".") for box in model.boxes)


@pytest.mark.parametrize("name", GRAPHS)
def test_the_same_graph_gives_the_same_model(name: str) -> None:
    def unnumbered(model: Model) -> list[Box]:
        return [replace(box, number=None) for box in model.boxes]

    case, again = GRAPHS[name](3), GRAPHS[name](3)
    assert model_of(case) == model_of(case)
    assert unnumbered(model_of(case)) == unnumbered(model_of(again))
    assert model_of(case).arrows == model_of(again).arrows


def test_numbers_lead_back_to_the_graph() -> None:
    case = char_rnn(3)
    nodes = {node.index: node for node in computed_from([case.output])}
    boxes = model_of(case).boxes
    assert len(nodes) == sum(box.number is not None for box in boxes)
    for box in boxes:
        assert (box.number is None) == (box.kind == "constant")
        if box.number is not None:
            assert str(nodes[box.number].shape) == box.shape


def test_arrows_know_which_operand_they_are() -> None:
    case = char_rnn(3)
    nodes = {node.index: node for node in computed_from([case.output])}
    model = model_of(case)
    boxes = by_id(model)
    assert [arrow.shares for arrow in model.arrows] == [(i,) for i in range(len(model.arrows))]
    for arrow in model.arrows:
        tail, head = boxes[arrow.tail].number, boxes[arrow.head].number
        if tail is not None:
            assert nodes[head].operands[arrow.argnum] is nodes[tail]


def test_one_frame_for_each_timestep_in_order() -> None:
    frames = model_of(char_rnn(12)).frames
    assert [(frame.id, frame.title, frame.step) for frame in frames] == [
        (f"t{t}", f"t={t}", t) for t in range(12)
    ]
    # As they come, from the last timestep to the first, but drawn in the order of time.
    backwards = nn.unroll(nn.RNNCell(2, 3, seed=0), np.ones((12, 1, 2)), reverse=True)
    assert [frame.step for frame in build(tg.sum(backwards.outputs)).frames] == list(range(12))


def test_scopes_nest() -> None:
    frames = model_of(GRAPHS["attention"](2)).frames
    parents = {frame.id: frame.parent for frame in frames}
    assert parents["encoder.t1"] == "encoder"
    assert parents["decoder.t1.attention"] == "decoder.t1"
    order = [frame.id for frame in frames]
    assert order.index("encoder") < order.index("encoder.t1") < order.index("decoder")


def test_states_are_what_is_carried() -> None:
    lstm = model_of(char_rnn(3, "lstm"))
    assert {box.role for box in lstm.boxes if box.kind == "state"} == {"h", "c"}
    carried = {(arrow.tail, arrow.head) for arrow in lstm.arrows if arrow.carried}
    assert {tail for tail, _ in carried} == {"t0.h", "t0.c", "t1.h", "t1.c"}
    assert all(tail[:2] != head[:2] for tail, head in carried)


def test_a_running_loss_is_no_state() -> None:
    boxes = model_of(GRAPHS["running sum"](3)).boxes
    assert {box.name for box in boxes if box.kind == "output"} >= {"total"}
    assert {box.name for box in boxes if box.kind == "state"} == {"h"}


@pytest.mark.parametrize("name", GRAPHS)
def test_the_drawing_grows_with_the_timesteps_and_no_faster(name: str) -> None:
    sizes = [
        (len(model.boxes), len(model.arrows))
        for model in (model_of(GRAPHS[name](T)) for T in (5, 6, 7, 8, 9))
    ]
    assert len(set(np.diff([boxes for boxes, _ in sizes]))) == 1
    assert len(set(np.diff([arrows for _, arrows in sizes]))) == 1


@pytest.mark.parametrize("name", GRAPHS)
def test_every_value_stands_once(name: str) -> None:
    numbers = [box.number for box in model_of(GRAPHS[name](5)).boxes if box.number is not None]
    assert len(set(numbers)) == len(numbers)


def test_a_shared_leaf_stands_around_its_users() -> None:
    layers = nn.LSTM(2, 3, num_layers=2, seed=0)
    roll = layers.unroll(np.ones((4, 1, 2)))
    boxes = by_id(build(tg.sum(roll.outputs), roll, layers))
    assert boxes["l0.weight_hh_l0"].frame == "l0"
    assert boxes["l1.weight_hh_l1"].frame == "l1"
    shared = leaf(2, name="w")
    for names in (("a", "a"), ("a/b", "a/c"), ("a/b", "b/b"), ("a", "a/b")):
        outputs = []
        for name in names:
            with tg.scope(name):
                outputs.append(tg.tanh(shared))
        common = {("a", "a"): "a", ("a/b", "a/c"): "a", ("a/b", "b/b"): "", ("a", "a/b"): "a"}[names]
        (box,) = (box for box in build(outputs).boxes if box.name == "w")
        assert box.frame == common


def test_labels_of_the_unrolled_run_name_the_boxes() -> None:
    """Where sequences end, the state that leaves the step has its name, not the one before the mask."""
    roll = nn.unroll(nn.RNNCell(2, 3, seed=0), np.ones((3, 2, 2)), lengths=[3, 2])
    boxes = by_id(build([roll.outputs, roll.state], roll))
    assert boxes["t2.h"].op == "where"
    assert boxes["t2.h_2"].op == "tanh"


@pytest.mark.parametrize(("cell", "names"), [("rnn", {"h0"}), ("lstm", {"h0", "c0"}), ("gru", {"h0"})])
def test_the_first_state_is_named_after_those_that_follow(cell: str, names: set[str]) -> None:
    boxes = model_of(char_rnn(3, cell)).boxes
    constants = {(box.frame, box.name) for box in boxes if box.kind == "constant" and box.name != "labels"}
    assert constants == {("t0", name) for name in names}


@pytest.mark.parametrize("given", [np.ones((1, 4)), tg.tensor(np.ones((1, 4)))])
def test_a_first_state_that_was_given_no_name(given: Any) -> None:
    w = leaf(4, 4)
    roll = nn.unroll(lambda x, h: (tg.label(tg.tanh(x + h @ w), "h_1"),) * 2, np.ones((2, 1, 4)), given)
    assert "h_1_0" in {box.name for box in build(tg.sum(roll.outputs), roll).boxes}
    named = nn.unroll(nn.RNNCell(4, 4, seed=0), np.ones((2, 1, 4)), tg.tensor(np.ones((1, 4)), name="start"))
    names = {box.name for box in build(tg.sum(named.outputs), named).boxes}
    assert "start" in names
    assert "h0" not in names


def test_parameters_of_one_name_are_numbered() -> None:
    w, u = leaf(4, 4), leaf(4, 4)
    roll = nn.unroll(lambda x, h: (tg.tanh(x @ w + h @ u),) * 2, np.ones((3, 1, 4)), np.zeros((1, 4)))
    boxes = build(tg.sum(roll.outputs), roll).boxes
    assert [box.id for box in boxes if box.name == "parameter 1"] == ["parameter_1"]
    assert {box.name for box in boxes if box.kind == "parameter"} == {"parameter 1", "parameter 2"}


def test_parameters_are_numbered_across_the_parts_of_a_model() -> None:
    case = GRAPHS["stacked"](2)
    boxes = by_id(build(case.output, case.unrolled))
    assert boxes["weight_hh_1"].name == "weight_hh 1"
    assert boxes["weight_hh_2"].name == "weight_hh 2"


def test_one_parameter_for_each_timestep_needs_no_number() -> None:
    h: Any = 0.0
    for t in range(3):
        with tg.scope(f"t={t}"):
            h = tg.tanh(h + leaf(2, name="x"))
    assert {box.name for box in build(h).boxes if box.kind == "parameter"} == {"x"}


def test_constants() -> None:
    x = leaf(2, 2, name="x")
    total = tg.where(np.array([True, False]), x, 0) + np.zeros((2, 2)) + np.ones(2) + np.array([3.0, 4.0])
    boxes = by_id(build(total))
    assert {box.id for box in boxes.values() if box.kind == "constant"} == {
        "condition",
        "zeros",
        "ones",
        "array",
    }
    assert boxes["where"].op == "where(·, ·, 0)"


def test_numbers_in_operations_are_short() -> None:
    x = leaf(2, name="x")
    assert by_id(build(x * (1 / 3)))["multiply"].op == "multiply(·, 0.3333)"
    assert by_id(build(1_000_000 + x))["add"].op == "add(1e+06, ·)"


def test_an_operand_used_twice_has_two_arrows() -> None:
    x = leaf(2, name="x")
    assert [(arrow.tail, arrow.head) for arrow in build(x * x).arrows] == [("x", "multiply")] * 2


def test_several_outputs() -> None:
    x = leaf(2, name="x")
    with tg.scope("t=0"):
        outputs = {"a": tg.tanh(x), "b": [x, tg.exp(x)]}
    boxes = by_id(build(outputs))
    assert {name for name, box in boxes.items() if box.kind == "output"} == {"t0.tanh", "t0.exp"}


def test_odd_scopes() -> None:
    x = leaf(2, name="x")
    for name in ("", "a//b", "a/", "/", "t=0", "t=00", "t0", "T=1", "t=-1", "漢", "t=" + "9" * 5000):
        with tg.scope(name), tg.scope(""):
            x = tg.tanh(x)
    model = build(x)
    ids = [frame.id for frame in model.frames] + [box.id for box in model.boxes]
    assert len(set(ids)) == len(ids)
    assert [frame.step for frame in model.frames if frame.step is not None] == [0, 0]
    assert to_dot(place(model))


def test_operations_written_in_c() -> None:
    op = tg.defop("arctan", np.arctan, lambda g, ans, x: g / (1 + x * x))
    assert by_id(build(op(leaf(2, name="x"))))["arctan"].op == "arctan"


def test_a_deep_graph_needs_no_stack() -> None:
    x = leaf(1, name="x")
    for _ in range(10_000):
        x = x * 0.5
    limit = sys.getrecursionlimit()
    depth = len(sys._current_frames()) + 150
    try:
        sys.setrecursionlimit(depth + 150)
        model = build(x)
        text = to_dot(place(model))
    finally:
        sys.setrecursionlimit(limit)
    assert len(model.boxes) == 10_001
    assert text.count(" -> ") == 10_000


def test_labels_of_a_layer_are_called_as_within_it() -> None:
    layers = nn.LSTM(2, 3, num_layers=2, seed=0)
    roll = layers.unroll(np.ones((3, 1, 2)))
    boxes = by_id(build(tg.sum(roll.outputs), roll, layers))
    assert (boxes["l1.t2.h"].name, boxes["l1.t2.h"].frame) == ("h", "l1.t2")
    assert boxes["l0.t0.x"].name == "x"


def test_something_else_than_a_run() -> None:
    with pytest.raises(UserError, match=r"takes what nn\.unroll returned, not Tensor"):
        build(tg.tanh(leaf(2)), tg.tensor([1.0]))


def test_what_a_checkpoint_hands_out_has_its_timestep() -> None:
    roll = nn.unroll(nn.LSTMCell(2, 3, seed=0), np.ones((5, 1, 2)), checkpoint=2)
    boxes = {box.name: box for box in build(tg.sum(roll.outputs), roll).boxes}
    assert [f"h t={t}" in boxes for t in range(5)] == [True] * 5
    # The state that the first two checkpoints hand on beside the output.
    assert [name for name in boxes if name.startswith("c ")] == ["c t=1", "c t=3"]
    for t, steps in ((0, "t=0 to 1"), (3, "t=2 to 3"), (4, "t=4")):
        assert boxes[f"h t={t}"].notes[0] == f"one checkpoint: {steps}, of which no operation is on record"
    # No address of this process's, by which two drawings of one graph would differ.
    assert not any("0x" in note for box in boxes.values() for note in box.notes)


def test_checkpoints_of_layers_in_two_directions() -> None:
    layers = nn.LSTM(2, 3, num_layers=2, bidirectional=True)
    roll = layers.unroll(np.ones((5, 1, 2)), checkpoint=2)
    ids = {box.id for box in build(tg.sum(roll.outputs), roll).boxes}
    for name, handed_on in (("l0", (1, 3)), ("l1_reverse", (3, 1))):
        assert {f"{name}.h_t_{t}" for t in range(5)} <= ids
        assert {one for one in ids if one.startswith(f"{name}.c")} == {f"{name}.c_t_{t}" for t in handed_on}
