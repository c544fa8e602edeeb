"""The layout: time along one axis, role along the other, and nothing in the way of anything."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest

from tensorgrad.viz import levels
from tensorgrad.viz.build import build
from tensorgrad.viz.model import Arrow, Box, Frame, Model
from tensorgrad.viz.picture import Picture, Placed, Wire
from tensorgrad.viz.place import place
from tensorgrad.viz.style.shapes import LABEL_SIZE, label_place
from tensorgrad.viz.style.text import text_width

from .conftest import GRAPHS, Case, attention, bidirectional, char_rnn, running_sum
from .graphs import (
    EVERY,
    computed_once,
    joined_at_the_end,
    layered,
    perceptron,
    skipping,
    unscoped,
    unscoped_losses,
)
from .soundness import edges, faults, stretches


def model_of(case: Case) -> Model:
    return build(case.output, case.unrolled, case.params)


def boxes_of(picture: Picture) -> dict[str, Placed]:
    return {placed.box.id: placed for placed in picture.boxes}


def middle(placed: Placed) -> float:
    return placed.x + placed.width / 2


def named(picture: Picture, name: str) -> list[Placed]:
    return [placed for placed in picture.boxes if placed.box.name == name]


def wires_of(picture: Picture, *kinds: str) -> list[Wire]:
    return [wire for wire in picture.wires if wire.kind in kinds]


def ink(picture: Picture) -> float:
    return sum(
        abs(bx - ax) + abs(by - ay) for wire in picture.wires for (ax, ay), (bx, by) in stretches(wire)
    )


@pytest.mark.parametrize("vertical", [False, True])
@pytest.mark.parametrize("name", EVERY)
def test_nothing_stands_in_the_way_of_anything(name: str, vertical: bool) -> None:
    model = model_of(EVERY[name](5))
    for each in (model, levels.cells(model), levels.rolled(model)):
        assert not list(faults(place(each, vertical=vertical)))


@pytest.mark.parametrize(
    "name", ["rnn", "layered", "skipping", "unscoped_losses", "attention", "running sum"]
)
@pytest.mark.parametrize("T", [1, 2, 19])
def test_nor_in_short_runs_nor_where_timesteps_are_left_out(name: str, T: int) -> None:
    fewer = levels.elided(model_of(EVERY[name](T)), [9] if T > 9 else [])
    for each in (fewer, levels.cells(fewer)):
        assert not list(faults(place(each)))


def test_faults_are_found() -> None:
    good = place(model_of(char_rnn(3)))
    assert not list(faults(good))

    def with_box(name: str, **changes: Any) -> Picture:
        moved = (replace(box, **changes) if box.box.id == name else box for box in good.boxes)
        return replace(good, boxes=tuple(moved))

    def with_wires(wires: Sequence[Wire]) -> Picture:
        return replace(good, wires=tuple(wires))

    h = boxes_of(good)["t1.h"]
    tap = next(wire for wire in good.wires if wire.kind == "tap" and wire.hue >= 0)
    rails = wires_of(good, "rail")
    carried = wires_of(good, "carried")[0]
    elsewhere = [
        (x, rails[1].points[-1][1] if y == rails[0].points[-1][1] else y) for x, y in rails[0].points
    ]
    planted = {
        "t1.h and t1.a overlap": with_box("t1.h", y=boxes_of(good)["t1.a"].y + 1),
        "t1.h is outside of t1": with_box("t1.h", x=0.0),
        "t1.h is not on the page": with_box("t1.h", x=good.width),
        "begins elsewhere": with_box("t1.h", height=h.height - 6, y=h.y + 3),
        "is drawn 0 times, not 1": with_wires(good.wires[:-1]),
        "is drawn 2 times, not 1": with_wires([*good.wires, good.wires[-1]]),
        "is not that of its taps": with_wires([w for w in good.wires if w is not tap]),
        "is slanted": with_wires([*good.wires[:-1], replace(carried, points=((0.0, 0.0), (5.0, 6.0)))]),
        "passes through t1.h": with_wires(
            [*good.wires, replace(rails[0], points=((0.0, h.y + 9), (good.width, h.y + 9)))]
        ),
        "lie on each other": with_wires([*good.wires, replace(rails[0], points=tuple(elsewhere))]),
        "differ in height": replace(
            good, outlines=(replace(good.outlines[0], height=good.outlines[0].height + 1), *good.outlines[1:])
        ),
        "t0 and t1 overlap": replace(
            good, outlines=tuple(replace(outline, width=good.width) for outline in good.outlines)
        ),
        "the title of t0 is too long": replace(
            good, outlines=(replace(good.outlines[0], title="t" * 200), *good.outlines[1:])
        ),
        "'× 3' of t0.h and": with_wires(
            [*good.wires, replace(carried, label="× 3"), replace(carried, label="× 3")]
        ),
        "not those of the model": replace(good, boxes=good.boxes[1:]),
    }
    for words, picture in planted.items():
        assert any(words in fault for fault in faults(picture)), words


# --- time ---------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", ["rnn", "lstm", "gru", "lengths", "masked", "running sum", "skipping"])
def test_a_role_stands_at_one_height_and_in_one_place_of_its_column(name: str) -> None:
    picture = place(model_of(EVERY[name](6)))
    columns = {time: left for time, left, _ in picture.times}
    roles: dict[tuple[str, str], dict[int, set[tuple[float, float]]]] = defaultdict(lambda: defaultdict(set))
    for placed in picture.boxes:
        if placed.box.frame and placed.box.op and placed.box.name:
            time = int(placed.box.frame.removeprefix("t"))
            place_in_column = middle(placed) - columns[time], placed.y + placed.height / 2
            roles[placed.box.name, placed.box.op][time].add(place_in_column)
    assert roles
    for found in roles.values():
        assert len(set.union(*found.values())) == max(map(len, found.values()))


@pytest.mark.parametrize("name", ["rnn", "layered", "stacked", "attention"])
def test_columns_stand_at_even_distances_in_the_order_of_time(name: str) -> None:
    picture = place(model_of(EVERY[name](6)))
    assert [time for time, _, _ in picture.times] == list(range(6))
    assert len({(b[1] - a[1], b[2] - a[2]) for a, b in pairwise(picture.times)}) == 1
    assert picture.times[0][1] < picture.times[1][1]


def test_parallel_sequences_share_their_columns() -> None:
    picture = place(model_of(layered(4)))
    columns = {(time, left, right) for time, left, right in picture.times}
    for outline in picture.outlines:
        if outline.frame.step is not None:
            assert (outline.frame.step, outline.x, outline.x + outline.width) in columns


def test_layers_stand_on_what_feeds_them_and_decoders_behind_encoders() -> None:
    frames = {outline.frame.id: edges(outline) for outline in place(model_of(layered(3))).outlines}
    assert frames["l1"][3] < frames["l0"][1]
    assert frames["l1"][3] < frames["l0_reverse"][1]
    frames = {outline.frame.id: edges(outline) for outline in place(model_of(attention(3))).outlines}
    assert frames["encoder"][2] < frames["decoder"][0]


def test_what_comes_before_and_after_stands_left_and_right() -> None:
    picture = place(model_of(char_rnn(4)))
    boxes = boxes_of(picture)
    first, last = picture.times[0][1], picture.times[-1][2]
    assert all(placed.x + placed.width < first for placed in picture.boxes if placed.box.kind == "parameter")
    assert last < boxes["stack"].x < boxes["loss"].x


def test_losses_computed_afterwards_stand_in_the_columns_of_their_timesteps() -> None:
    picture = place(model_of(unscoped_losses(5)))
    losses = [placed for placed in picture.boxes if placed.box.op == "mean" and placed.box.id != "mean_6"]
    for (_, left, right), placed in zip(picture.times, losses, strict=False):
        assert left < placed.x < right
    tops = [outline.y for outline in picture.outlines]
    assert all(placed.y + placed.height < min(tops) for placed in losses)


# --- a column -----------------------------------------------------------------------------------------------
def test_the_way_from_the_input_to_the_loss_is_a_straight_line() -> None:
    picture = place(model_of(char_rnn(4)))
    for t in range(4):
        way = [boxes_of(picture)[f"t{t}.{role}"] for role in ("x", "a", "h", "y", "nll", "L")]
        assert len({middle(placed) for placed in way}) == 1
        assert [placed.y for placed in way] == sorted((placed.y for placed in way), reverse=True)


def test_the_gates_of_an_lstm_stand_side_by_side_the_forget_gate_where_the_state_enters() -> None:
    boxes = boxes_of(place(model_of(char_rnn(3, "lstm"))))
    gates = [boxes[f"t1.{gate}"] for gate in "figo"]
    assert len({gate.y for gate in gates}) == 1
    assert [gate.x for gate in gates] == sorted(gate.x for gate in gates)


def test_rows_of_scopes_within_a_timestep_do_not_mix() -> None:
    picture = place(model_of(GRAPHS["stacked"](3)))
    frames = {outline.frame.id: edges(outline) for outline in picture.outlines}
    assert frames["t1.upper"][3] < frames["t1.lower"][1]


# --- lines --------------------------------------------------------------------------------------------------
def test_the_state_is_carried_at_the_height_of_what_makes_it() -> None:
    picture = place(model_of(char_rnn(4)))
    carried = wires_of(picture, "carried")
    assert [(wire.tail, wire.head) for wire in carried] == [(f"t{t}.h", f"t{t + 1}.a") for t in range(3)]
    for wire in carried:
        h = boxes_of(picture)[wire.tail]
        (ax, ay), (bx, by) = wire.points[:2]
        assert (ax, ay) == (h.x + h.width, h.y + h.height / 2)
        assert by == ay
        assert bx > picture.times[int(wire.head[1])][1]


def test_a_run_in_reverse_is_carried_to_the_left() -> None:
    picture = place(model_of(bidirectional(4)))
    for wire in wires_of(picture, "carried"):
        to_left = wire.points[-1][0] < wire.points[0][0]
        assert to_left == wire.tail.startswith("backwards")


def test_a_sum_that_runs_along_is_one_straight_line() -> None:
    wires = [
        wire for wire in wires_of(place(model_of(running_sum(5))), "carried") if wire.tail.endswith("total")
    ]
    assert len(wires) == 4
    assert len({wire.points[0][1] for wire in wires}) == 1
    assert all(len(wire.points) == 2 for wire in wires)


def test_what_skips_timesteps_says_so_under_the_frames() -> None:
    picture = place(model_of(skipping(7)))
    skips = wires_of(picture, "skip")
    assert [wire.label for wire in skips] == ["skips 3"] * 4
    lowest = max(outline.y + outline.height for outline in picture.outlines)
    assert all(max(y for _, y in wire.points) > lowest for wire in skips)


def test_a_parameter_is_one_line_with_a_tap_at_each_use() -> None:
    picture = place(model_of(char_rnn(6)))
    rails, taps = wires_of(picture, "rail"), [wire for wire in wires_of(picture, "tap") if wire.hue >= 0]
    parameters = {placed.box.id for placed in picture.boxes if placed.box.kind == "parameter"}
    assert {rail.tail for rail in rails} == parameters
    assert len({rail.points[-1][1] for rail in rails}) == len({rail.hue for rail in rails}) == len(parameters)
    assert len(taps) == 6 * len(parameters)
    heights = {rail.tail: rail.points[-1][1] for rail in rails}
    for tap in taps:
        assert len(tap.points) == 2
        assert tap.points[0][1] == heights[tap.tail]


def test_the_losses_are_gathered_by_one_line() -> None:
    picture = place(model_of(char_rnn(6)))
    (gather,) = wires_of(picture, "gather")
    assert gather.head == "stack"
    assert gather.points[0][0] == middle(boxes_of(picture)["t0.L"])
    assert len(gather.shares) == 6


def test_a_value_of_one_timestep_for_many_is_a_line_too() -> None:
    picture = place(model_of(computed_once(6)))
    assert {rail.tail for rail in wires_of(picture, "rail")} >= {"t0.scale"}
    assert not wires_of(picture, "skip")


def test_values_of_many_timesteps_for_one_are_gathered_by_one_line() -> None:
    picture = place(model_of(joined_at_the_end(6)))
    (gather,) = wires_of(picture, "gather")
    assert gather.head == "t5.stack"
    assert len(gather.shares) == 5
    assert not wires_of(picture, "skip")


def test_where_no_timestep_is_known_long_ways_are_lines_along_the_drawing() -> None:
    picture = place(model_of(unscoped(9)))
    assert [rail.tail for rail in wires_of(picture, "rail")] == ["W_hh"]
    assert [gather.head for gather in wires_of(picture, "gather")] == ["stack"]


def test_scopes_without_timesteps_stand_one_after_the_other() -> None:
    picture = place(model_of(perceptron(3)))
    frames = [edges(outline) for outline in picture.outlines]
    assert len(frames) == 3
    assert all(a[2] < b[0] for a, b in pairwise(frames))


@pytest.mark.parametrize("name", ["rnn", "layered", "unscoped_losses", "skipping"])
def test_the_ink_grows_with_the_timesteps_and_no_faster(name: str) -> None:
    ten, twenty, forty = (ink(place(model_of(EVERY[name](T)))) for T in (10, 20, 40))
    assert forty - twenty == pytest.approx(2 * (twenty - ten), rel=0.02)


# --- levels -------------------------------------------------------------------------------------------------
def test_a_block_fills_its_frame_and_the_lines_go_on_behind_it() -> None:
    picture = place(levels.elided(model_of(char_rnn(40)), []))
    (block,) = (placed for placed in picture.boxes if placed.box.kind == "block")
    (frame,) = (outline for outline in picture.outlines if outline.frame.id == block.box.frame)
    assert block.height > 0.85 * frame.height
    into = next(wire for wire in wires_of(picture, "carried") if wire.head == block.box.id)
    out = next(wire for wire in wires_of(picture, "carried") if wire.tail == block.box.id)
    assert into.points[-1] == (block.x, out.points[0][1])
    assert out.points[0][0] == block.x + block.width
    for rail in wires_of(picture, "rail"):
        assert rail.points[-1][0] > block.x + block.width
    extents = {time: (left, right) for time, left, right in picture.times}
    assert len(extents) == 40
    assert {extents[t] for t in range(5, 35)} == {(frame.x, frame.x + frame.width)}


def test_cells_hand_on_their_states_straight() -> None:
    picture = place(levels.cells(model_of(char_rnn(4, "lstm"))))
    carried = wires_of(picture, "carried")
    assert len(carried) == 6
    assert all(len(wire.points) == 2 for wire in carried)


def test_a_rolled_cell_has_a_loop_with_its_count() -> None:
    picture = place(levels.rolled(model_of(char_rnn(6))))
    (loop,) = wires_of(picture, "loop")
    assert (loop.tail.split(".")[1], loop.head.split(".")[1], loop.label) == ("h", "a", "× 6")


@pytest.mark.parametrize("vertical", [False, True])
@pytest.mark.parametrize("name", ["rnn", "lstm", "stacked", "lengths, own cell"])
def test_the_count_of_loops_stands_clear_of_all_lines(name: str, vertical: bool) -> None:
    picture = place(levels.rolled(levels.cells(model_of(GRAPHS[name](5)))), vertical=vertical)
    # As a backward draws them, and as a forward does.
    for turned in (1, -1):
        wires = [replace(wire, points=wire.points[::turned]) for wire in picture.wires]
        (labelled,) = (wire for wire in wires if wire.label)
        assert labelled.label == "× 5"
        x, y, upright = label_place(labelled)
        wide = text_width(labelled.label, LABEL_SIZE)
        left, right = (x + 5, x + 5 + wide) if upright else (x - wide / 2, x + wide / 2)
        low, high = (y - 4, y + 4) if upright else (y - 11, y - 3)
        for wire in wires:
            for (ax, ay), (bx, by) in stretches(wire):
                apart = max(ax, bx) < left or min(ax, bx) > right or max(ay, by) < low or min(ay, by) > high
                assert apart, wire
    for loop in wires_of(picture, "loop"):
        # Much further than any border is thick.
        (ax, ay), (bx, by) = next(stretches(loop))
        assert abs(bx - ax) + abs(by - ay) > 10


# --- the rest -----------------------------------------------------------------------------------------------
def test_time_can_run_downwards() -> None:
    picture = place(model_of(char_rnn(4)), vertical=True)
    assert picture.vertical
    frames = [edges(outline) for outline in picture.outlines]
    assert all(a[3] < b[1] for a, b in pairwise(frames))
    boxes = boxes_of(picture)
    assert boxes["t1.x"].x < boxes["t1.a"].x < boxes["t1.h"].x < boxes["t1.L"].x
    assert [(left, right) for _, left, right in picture.times] == [(frame[1], frame[3]) for frame in frames]


def test_more_lines_make_room_for_themselves() -> None:
    model = model_of(char_rnn(3))
    plain = place(model)
    noted = place(model, extra={"t1.h": ["mean 0.25, from -1.5 to 2.25", "|dL/dh| = 0.1"]})
    assert not list(faults(noted))
    one, other = boxes_of(plain)["t1.h"], boxes_of(noted)["t1.h"]
    assert [line.style for line in other.lines[len(one.lines) :]] == ["note", "note"]
    assert other.width > one.width
    assert other.height > one.height
    assert {placed.width for placed in named(noted, "h")} == {other.width}


def test_the_same_graph_gives_the_same_picture_in_every_process() -> None:
    source = (
        "import numpy as np, tensorgrad as tg\n"
        "from tensorgrad.viz.build import build\n"
        "from tensorgrad.viz.place import place\n"
        "layers = tg.nn.LSTM(3, 4, num_layers=2, bidirectional=True)\n"
        "run = layers.unroll(np.ones((3, 2, 3)))\n"
        "picture = place(build(tg.sum(run.outputs), run, layers))\n"
        "print(picture.wires, [(box.x, box.y) for box in picture.boxes])\n"
    )
    texts = {
        subprocess.run(
            [sys.executable, "-c", source],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(texts) == 1


def test_ten_thousand_timesteps_are_placed() -> None:
    T = 10_000
    frames = tuple(Frame(f"t{t}", f"t={t}", "", t) for t in range(T))
    boxes = tuple(Box(f"t{t}.h", "state", "h", "tanh", "()", "float64", f"t{t}", "h") for t in range(T))
    arrows = tuple(Arrow(f"t{t}.h", f"t{t + 1}.h", True, 0, (t,)) for t in range(T - 1))
    picture = place(Model(boxes, arrows, frames))
    assert len(picture.times) == T
    assert all(a.x + a.width < b.x for a, b in pairwise(picture.boxes))


def test_there_may_be_nothing_or_little_to_place() -> None:
    assert place(Model((), (), ())).boxes == ()
    assert not list(faults(place(Model((), (), (Frame("t0", "t=0", "", 0), Frame("t1", "t=1", "", 1))))))
    alone = Box("x", "input", "x", "", "()", "float64", "", "x")
    assert not list(faults(place(Model((alone,), (), ()))))


def test_long_titles_are_cut_to_the_width_of_their_frame() -> None:
    frames = Frame("s", "a scope with a name that goes on and on" * 4, "", None), Frame("s.t0", "t=0", "s", 0)
    box = Box("s.t0.h", "state", "h", "tanh", "()", "float64", "s.t0", "h")
    picture = place(Model((box,), (), frames))
    assert picture.outlines[0].title.endswith("…")
    assert not list(faults(picture))


@pytest.mark.parametrize("vertical", [False, True])
@pytest.mark.parametrize("name", ["rnn", "layered", "skipping", "perceptron", "attention"])
def test_lengths_are_halves_of_points(name: str, vertical: bool) -> None:
    picture = place(model_of(EVERY[name](4)), vertical=vertical)
    lengths_ = [length for wire in picture.wires for point in wire.points for length in point]
    lengths_ += [edge for placed in picture.boxes for edge in edges(placed)]
    lengths_ += [edge for outline in picture.outlines for edge in edges(outline)]
    assert all((2 * length).is_integer() for length in lengths_)
