"""Fewer timesteps, timesteps as one box each, one timestep with a loop."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest

import tensorgrad as tg
from tensorgrad import nn
from tensorgrad.errors import UserError
from tensorgrad.viz.build import build
from tensorgrad.viz.levels import cells, chosen_steps, elided, rolled, sequences
from tensorgrad.viz.model import Model

from .conftest import GRAPHS, Case, char_rnn

LEVELS = {"elided": lambda model: elided(model, ()), "cells": cells, "rolled": rolled}


def model_of(case: Case) -> Model:
    return build(case.output, case.unrolled, case.params)


def steps_of(model: Model) -> list[tuple[int | None, int | None]]:
    return [(frame.step, frame.last) for frame in model.frames]


@pytest.mark.parametrize("name", GRAPHS)
@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("T", [1, 2, 20])
def test_a_level_is_a_sound_model(name: str, level: str, T: int) -> None:
    whole = model_of(GRAPHS[name](T))
    model = LEVELS[level](whole)
    boxes = {box.id: box for box in model.boxes}
    frames = {frame.id for frame in model.frames}
    assert len(boxes) == len(model.boxes)
    assert not frames & set(boxes)
    assert {frame.parent for frame in model.frames} | {box.frame for box in model.boxes} <= frames | {""}
    ends = [(arrow.tail, arrow.head) for arrow in model.arrows]
    assert {end for both in ends for end in both} <= set(boxes)
    # What the loss is made of is there whatever is left out, and nothing hangs in the air.
    touched = {end for both in ends for end in both}
    assert {box.id for box in whole.boxes if box.kind == "output" and not box.frame} <= set(boxes)
    assert all(box.id in touched for box in model.boxes)
    numbers = [number for arrow in model.arrows for number in arrow.shares]
    assert len(set(numbers)) == len(numbers)


def test_sequences_leave_out_those_within_a_timestep() -> None:
    with tg.scope("a"):
        for t in range(3):
            with tg.scope(f"t={t}"):
                inner = nn.unroll(nn.RNNCell(2, 2, seed=0), np.ones((2, 1, 2)))
    assert {name: len(frames) for name, frames in sequences(build(inner.outputs)).items()} == {"a": 1}


def test_blocks_stand_for_the_timesteps_between() -> None:
    model = elided(model_of(char_rnn(30)), {12})
    ends = [(t, None) for t in (0, 1, 2, 3, 4)], [(t, None) for t in (25, 26, 27, 28, 29)]
    assert steps_of(model) == [*ends[0], (5, 11), (12, None), (13, 24), *ends[1]]
    blocks = {box.id: (box.name, box.op) for box in model.boxes if box.kind == "block"}
    assert blocks == {
        "t5_t11.block": ("7 timesteps", "t = 5 to 11"),
        "t13_t24.block": ("12 timesteps", "t = 13 to 24"),
    }


def test_what_leads_through_a_block_ends_and_begins_at_it() -> None:
    whole = model_of(char_rnn(30, "lstm"))
    model = elided(whole, ())
    into = {arrow.tail for arrow in model.arrows if arrow.head == "t5_t24.block" and arrow.carried}
    out = {
        (arrow.head, arrow.role) for arrow in model.arrows if arrow.tail == "t5_t24.block" and arrow.carried
    }
    assert into == {"t4.h", "t4.c"}
    assert out == {("t25.a", "h"), ("t25.multiply", "c")}
    (losses,) = (arrow for arrow in model.arrows if (arrow.tail, arrow.head) == ("t5_t24.block", "stack"))
    assert len(losses.shares) == 20
    kept = sum(len(arrow.shares) for arrow in model.arrows)
    within = [a for a in whole.arrows if all(5 <= step_of(end) <= 24 for end in (a.tail, a.head))]
    assert kept == len(whole.arrows) - len(within)


def step_of(box: str) -> int:
    first = box.partition(".")[0]
    return int(first[1:]) if first[:1] == "t" and first[1:].isdigit() else -1


@pytest.mark.parametrize("T", [1, 10, 11, 12])
def test_short_sequences_are_drawn_whole(T: int) -> None:
    model = model_of(char_rnn(T))
    assert elided(model, ()) is model
    assert (13, None) in steps_of(elided(model_of(char_rnn(20)), {12, 14}))


def test_a_block_in_each_layer() -> None:
    layers = nn.GRU(2, 3, num_layers=2, bidirectional=True, seed=0)
    roll = layers.unroll(np.ones((20, 1, 2)))
    model = elided(build(tg.sum(roll.outputs), roll, layers), ())
    blocks = Counter(box.frame for box in model.boxes if box.kind == "block")
    assert blocks == {f"{name}.t5_t14": 1 for name in ("l0", "l0_reverse", "l1", "l1_reverse")}
    # Backwards in time, what comes out of the block enters the timestep before it.
    carried = {(a.tail, a.head) for a in model.arrows if a.carried and "block" in a.tail + a.head}
    assert {("l1_reverse.t15.h", "l1_reverse.t5_t14.block")} <= carried
    assert ("l1_reverse.t5_t14.block", "l1_reverse.t4.linear_2") in carried


def test_a_cell_is_what_makes_the_state() -> None:
    model = cells(model_of(char_rnn(3, "lstm")))
    boxes = {box.id: box for box in model.boxes if box.frame == "t1"}
    assert {name: box.kind for name, box in boxes.items()} == {
        "t1.x": "input",
        "t1.cell": "cell",
        "t1.y": "operation",
        "t1.labels": "constant",
        "t1.L": "output",
    }
    cell = boxes["t1.cell"]
    assert (set(cell.name.split(", ")), cell.shape) == ({"h", "c"}, "(1, 3)")
    assert cell.op == "14 operations"
    assert {"t1.x", "t0.cell", "cell_weight_hh"} <= {a.tail for a in model.arrows if a.head == "t1.cell"}
    # The nameless operation between y and L is passed over.
    assert ("t1.y", "t1.L") in {(arrow.tail, arrow.head) for arrow in model.arrows}


def test_each_part_of_the_state_has_its_own_line() -> None:
    model = cells(model_of(char_rnn(3, "lstm")))
    lines = {(a.tail, a.head, a.role) for a in model.arrows if a.carried}
    assert lines == {(f"t{t}.cell", f"t{t + 1}.cell", part) for t in (0, 1) for part in ("h", "c")}


def test_uses_of_one_value_by_one_cell_are_one_arrow() -> None:
    whole = model_of(char_rnn(3, "gru"))
    (arrow,) = (a for a in cells(whole).arrows if (a.tail, a.head) == ("t0.cell", "t1.cell"))
    uses = [a for a in whole.arrows if a.tail == "t0.h" and a.head.startswith("t1.")]
    assert len(uses) > 1
    assert sorted(arrow.shares) == sorted(number for use in uses for number in use.shares)


def test_opened_timesteps_keep_their_operations() -> None:
    whole = model_of(char_rnn(4))
    model = cells(whole, {2})
    assert {b.id for b in whole.boxes if b.frame == "t2"} == {b.id for b in model.boxes if b.frame == "t2"}
    assert {box.frame for box in model.boxes if box.kind == "cell"} == {"t0", "t1", "t3"}
    carried = {(a.tail, a.head) for a in model.arrows if a.carried}
    assert carried == {("t0.cell", "t1.cell"), ("t1.cell", "t2.a"), ("t2.h", "t3.cell")}


def test_zeros_that_a_cell_uses_several_times_stand_once() -> None:
    whole = model_of(char_rnn(3, "gru"))
    zeros = [box.id for box in whole.boxes if box.name == "h0"]
    assert len(zeros) > 1
    model = cells(whole)
    (h0,) = (box for box in model.boxes if box.name == "h0")
    (arrow,) = (arrow for arrow in model.arrows if arrow.tail == h0.id)
    assert (arrow.head, len(arrow.shares), arrow.role) == ("t0.cell", len(zeros), "")


def test_rolled_losses_are_one_line() -> None:
    lines = [(arrow.tail, arrow.head) for arrow in rolled(model_of(char_rnn(6))).arrows]
    assert lines.count(("t3.L", "stack")) == 1


def test_a_box_called_cell_is_not_taken_for_one() -> None:
    def step(x: Any, h: Any) -> Any:
        h = tg.tanh(x + h)
        return tg.label(h * 2.0, "cell"), h

    roll = nn.unroll(step, np.ones((3, 1, 2)), tg.tensor(np.ones((1, 2)), requires_grad=True))
    boxes = {box.id: box.kind for box in cells(build(roll.outputs, roll)).boxes}
    assert boxes["t1.cell"] == "operation"
    assert boxes["t1.cell_"] == "cell"


def test_a_loop_for_what_is_carried() -> None:
    model = rolled(model_of(char_rnn(6, "lstm")))
    loops = {(a.tail, a.head, a.label) for a in model.arrows if a.carried}
    assert loops == {("t3.h", "t3.a", "× 6"), ("t3.c", "t3.multiply", "× 6")}
    assert [(frame.title, frame.step, frame.last) for frame in model.frames] == [("t=0 … 5", 0, 5)]
    assert {box.id for box in model.boxes if not box.frame} >= {"cell_weight_hh", "stack", "loss"}


def test_the_numbers_of_a_rolled_line_are_those_of_the_timestep_shown() -> None:
    whole = model_of(char_rnn(6))
    of_whole = {arrow.shares: arrow for arrow in whole.arrows}
    for arrow in rolled(whole).arrows:
        assert of_whole[arrow.shares].head == arrow.head


def test_rolled_skips_say_how_far() -> None:
    hs = [tg.tensor(np.ones(2), requires_grad=True, name="h0")]
    for t in range(9):
        with tg.scope(f"t={t}"):
            hs.append(tg.label(tg.tanh(hs[-1] + (hs[-4] if t >= 3 else 0.0)), "h"))
    labels = {arrow.label for arrow in rolled(build(hs[-1])).arrows if arrow.label}
    # The state before the first timestep goes into that, and into the one that skips it and two more.
    assert labels == {"× 9", "skips 4", "t=0", "t=3"}


def test_rolled_is_as_large_for_any_number_of_timesteps() -> None:
    sizes = {len(rolled(model_of(char_rnn(T))).boxes) for T in (3, 30, 300)}
    assert len(sizes) == 1


def test_chosen_steps() -> None:
    model = model_of(char_rnn(6))
    assert chosen_steps(model, None) == frozenset()
    assert chosen_steps(model, "all") is None
    assert chosen_steps(model, range(2, 4)) == frozenset({2, 3})
    assert chosen_steps(model, np.array([2, 3])) == frozenset({2, 3})


@pytest.mark.parametrize(
    ("steps", "sentence"),
    [
        ("every", r'takes timesteps, such as range\(10, 20\), or "all", not \'every\''),
        (3, r"takes several timesteps, such as \[3\] or range\(10, 20\), not 3"),
        (b"\x02", r"takes several timesteps"),
        ([True], r"a whole number from 0 up, not True"),
        ([3.0], r"a whole number from 0 up, not 3\.0"),
        (range(3, 10**15), r"there is no timestep 6: the graph has"),
        ([2, 6], r"there is no timestep 6: the graph has t=0 to t=5"),
        ([-1], r"there is no timestep -1"),
        ([1.5], r"a whole number from 0 up, not 1\.5"),
        (["t=1"], r"a whole number from 0 up, not 't=1'"),
    ],
)
def test_steps_that_are_none(steps: Any, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        chosen_steps(model_of(char_rnn(6)), steps)


def test_no_timesteps_to_choose_from() -> None:
    x = tg.tensor(1.0, requires_grad=True)
    with pytest.raises(UserError, match="nothing in this graph was made in a scope such as t=0"):
        chosen_steps(build(tg.tanh(x)), [0])


def test_a_line_of_one_timestep_alone_says_which() -> None:
    roll = nn.unroll(nn.RNNCell(2, 3, seed=0), np.ones((6, 1, 2)))
    whole = build(tg.sum(roll.state), roll)
    labels = {(arrow.tail, arrow.head): arrow.label for arrow in rolled(whole).arrows}
    assert labels["t3.h", "sum"] == "t=5"
    assert labels["t3.h", "t3.a"] == "× 6"
    assert labels["weight_hh", "t3.a"] == ""
    # Of some timesteps: how many.
    x = tg.tensor(np.ones(2), requires_grad=True, name="x")
    h = x * 0.5
    for t in range(9):
        with tg.scope(f"t={t}"):
            h = tg.label(tg.tanh(h + (x if t < 3 else 0.0)), "h")
    arrows = rolled(build(h)).arrows
    assert {arrow.label for arrow in arrows if arrow.tail == "x" and arrow.head[:2] == "t4"} <= {
        "3 timesteps"
    }
    # What every timestep has needs no saying.
    whole = build(tg.sum(roll.outputs), roll)
    assert {arrow.label for arrow in rolled(whole).arrows if arrow.head == "stack"} == {""}
