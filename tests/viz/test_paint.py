"""Measures in a picture: colours, widths and patterns, what stands beneath, and that nothing overlaps."""

from __future__ import annotations

import dataclasses
import itertools
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tensorgrad as tg
from tensorgrad import bptt, nn
from tensorgrad.viz import levels
from tensorgrad.viz.build import build
from tensorgrad.viz.measuring.along import NOT_ON_RECORD
from tensorgrad.viz.measuring.covers import covered, worst_in_time
from tensorgrad.viz.measuring.digest import numbers_of
from tensorgrad.viz.measuring.measure import measure
from tensorgrad.viz.measuring.measures import Measures, Numbers, Strip
from tensorgrad.viz.model import Box, Frame, Model
from tensorgrad.viz.painting.marks import INFINITE, strip_range, time_axis
from tensorgrad.viz.painting.notes import notes
from tensorgrad.viz.painting.paint import paint
from tensorgrad.viz.picture import Outline, Patch, Picture, Stroke, Text
from tensorgrad.viz.place import place
from tensorgrad.viz.style.color import AGREES, SPECIAL, oklab, short
from tensorgrad.viz.style.palette import INK
from tensorgrad.viz.style.shapes import legend
from tensorgrad.viz.style.text import shortened, text_width
from tensorgrad.viz.writers.dot import to_dot
from tensorgrad.viz.writers.svg import to_svg

from .conftest import GRAPHS, Case, char_rnn
from .pictures import small


def painted(
    case: Case, level: str = "op", steps: Any = (), vertical: bool = False, report: Any = None, **wanted: Any
) -> tuple[Picture, Measures]:
    """A case in colours; with steps=None all timesteps are drawn."""
    wanted = wanted or {"backward": report is None}
    whole = build(case.output, case.unrolled, case.params)
    model = whole if steps is None else levels.elided(whole, steps)
    model = levels.rolled(whole) if level == "rolled" else levels.cells(model) if level == "cell" else model
    groups = {arrow.shares for arrow in model.arrows}
    boxes = [box for box in model.boxes if box.kind == "cell"]
    found = measure(whole, case.output, case.unrolled, compare=report, groups=groups, boxes=boxes, **wanted)
    bare = place(model, vertical=vertical)
    backward = wanted.get("backward", False)
    return paint(bare, found, backward=backward, compare=report is not None), found


def rectangles(picture: Picture) -> np.ndarray:
    """Of marks but lines: left, top, right, bottom."""
    found = []
    for mark in picture.marks:
        if isinstance(mark, Patch):
            found.append((mark.x, mark.y, mark.x + mark.width, mark.y + mark.height))
        elif isinstance(mark, Text):
            wide = text_width(mark.text, mark.size, mark.bold)
            left = mark.x - {"start": 0.0, "middle": wide / 2, "end": wide}[mark.anchor]
            found.append((left, mark.y - 0.75 * mark.size, left + wide, mark.y + 0.22 * mark.size))
    return np.array(found)


def assert_in_order(bare: Picture, picture: Picture) -> None:
    """No two marks overlap, all are in the picture, and none is in the graph."""
    at = rectangles(picture)
    left, top, right, bottom = at.T
    assert left.min() >= 0
    assert top.min() >= 0
    assert right.max() <= picture.width
    assert bottom.max() <= picture.height
    begin, edge = (left, bare.width) if bare.vertical else (top, bare.height)
    assert begin.min() >= edge
    inside = 0.01
    for k in range(len(at)):
        beside = (left < right[k] - inside) & (right > left[k] + inside)
        over = beside & (top < bottom[k] - inside) & (bottom > top[k] + inside)
        over[k] = False
        assert not over.any(), (at[k], at[over])


def cells_of(picture: Picture, title: str) -> list[Patch]:
    return [m for m in picture.marks if isinstance(m, Patch) and m.hint.startswith(title)]


def lightness(color: str | None) -> float:
    assert color is not None
    return float(oklab(color)[0])


# --- what stands beneath ---------------------------------------------------------------------------------
@pytest.mark.parametrize("vertical", [False, True])
@pytest.mark.parametrize("level", ["op", "cell", "rolled"])
@pytest.mark.parametrize("name", ["rnn", "lstm", "lengths", "attention", "bidirectional"])
def test_nothing_overlaps(name: str, level: str, vertical: bool) -> None:
    case = GRAPHS[name](14)
    picture, _ = painted(case, level, vertical=vertical, backward=True)
    assert_in_order(place(picture.model, vertical=vertical), picture)
    assert picture.vertical == vertical
    to_svg(picture)
    to_dot(picture)


@pytest.mark.parametrize("vertical", [False, True])
@pytest.mark.parametrize("T", [1, 2, 40])
def test_nothing_overlaps_at_any_length(T: int, vertical: bool) -> None:
    picture, _ = painted(char_rnn(T), vertical=vertical)
    assert_in_order(place(picture.model, vertical=vertical), picture)


def test_a_comparison_does_not_overlap_with_what_flows() -> None:
    case, report = planted()
    for vertical in (False, True):
        picture, _ = painted(case, vertical=vertical, report=report, backward=True)
        assert_in_order(place(picture.model, vertical=vertical), picture)


def test_layers_fill_more_strips_than_any() -> None:
    lstm = nn.LSTM(2, 3, num_layers=2, bidirectional=True)
    roll = lstm.unroll(np.ones((12, 2, 2)))
    picture, _ = painted(Case(tg.sum(roll.outputs * roll.outputs), roll, lstm))
    assert_in_order(place(picture.model), picture)


def test_every_timestep_has_its_cell_in_its_column() -> None:
    case = char_rnn(30)
    picture, found = painted(case)
    columns = {o.frame.step: (o.x, o.x + o.width) for o in picture.outlines if o.frame.last is None}
    block = next(o for o in picture.outlines if o.frame.last is not None)
    line = cells_of(picture, "norm of dL/dh ")
    assert len(line) == 30
    for t, cell in enumerate(line):
        begin, end = columns.get(t, (block.x, block.x + block.width))
        assert begin - 1e-6 <= cell.x < cell.x + cell.width <= end + 1e-6
        if t in columns:
            assert (cell.x, cell.width) == pytest.approx((begin, end - begin))
        norm = found.grads[f"t{t}.h"].norm
        assert cell.hint.startswith(f"norm of dL/dh at t={t}: ")
        assert float(cell.hint.rpartition(" ")[2]) == pytest.approx(norm, rel=0.06)


def test_a_block_without_room_for_all_pools_its_timesteps() -> None:
    frames = (Frame("t0", "t=0", "", 0), Frame("t1_t999", "t=1 … 999", "", 1, 999))
    outlines = tuple(
        Outline(frame, 100.0 * k, 0.0, 90.0, 50.0, frame.title) for k, frame in enumerate(frames)
    )
    picture = Picture(Model((), (), frames), 200.0, 50.0, (), outlines, ())
    values = np.linspace(1e-3, 1.0, 1000)
    values[[500, 700]] = np.nan, np.inf
    known = np.ones(1000, bool)
    known[800:] = False
    x = Numbers(1, 0, 0, 0, 0, 0, 0, 1.0)
    measures = Measures(grads={"x": x}, strips=(Strip("line", values, known),))
    marks = paint(picture, measures, backward=True)
    line = cells_of(marks, "line ")
    assert len(line) == 1 + sum(cell.x >= 100.0 for cell in line)
    assert 60 <= len(line) <= 91
    assert min(cell.width for cell in line) > 0.85
    for one, next_one in itertools.pairwise(line[1:]):
        # No seam, in tenths of a point, as they are written.
        assert round(one.x, 1) + round(one.width, 1) == pytest.approx(round(next_one.x, 1))
    # The worst of each: NaN before infinity before the greatest number; and nothing where nothing is known.
    assert sum(cell.pattern == "hatched" for cell in line) == 1
    assert sum(cell.line == INK for cell in line) == 1
    assert line[1].hint == "line from t=1 to 11: 0.012 at most"
    assert max(cell.x for cell in line) < 100.0 + 90.0 * 0.81


def test_a_picture_of_one_timestep_for_all_has_strips_with_all() -> None:
    picture, _ = painted(char_rnn(9), "rolled")
    line = cells_of(picture, "norm of dL/dh ")
    assert len(line) == 9
    assert line[0].x + line[0].width == pytest.approx(line[1].x)
    # As long as it takes to see them, not as the column of the one timestep.
    picture, _ = painted(char_rnn(60), "rolled")
    line = cells_of(picture, "norm of dL/dh ")
    assert len(line) == 60
    assert min(cell.width for cell in line) > 4.0


def test_the_time_axis_of_a_decoder_is_its_own() -> None:
    def frames(parent: str, T: int) -> list[Frame]:
        return [Frame(f"{parent}.t{t}", f"t={t}", parent, t) for t in range(T)]

    every = [Frame("e", "e", "", None), *frames("e", 3), Frame("d", "d", "", None), *frames("d", 2)]
    outlines = tuple(Outline(f, 10.0 * k, 0.0, 8.0, 9.0, f.title) for k, f in enumerate(every))
    picture = Picture(Model((), (), tuple(every)), 100.0, 50.0, (), outlines, ())
    assert [(s.start, s.begin) for s in time_axis(picture, "d", 2)] == [(0, 50.0), (1, 60.0)]
    assert [(s.start, s.stop) for s in time_axis(picture, "e", 5)] == [(0, 5)]


@pytest.mark.parametrize("vertical", [False, True])
def test_a_shorter_run_in_the_columns_of_a_longer_one(vertical: bool) -> None:
    def share(T: int, frames: list[Frame]) -> list[tuple[int, int, float, float]]:
        places = [(10.0 * k, 0.0) for k in range(len(frames))]
        outlines = tuple(
            Outline(f, *(place[::-1] if vertical else place), 8.0, 8.0, f.title)
            for f, place in zip(frames, places, strict=True)
        )
        picture = Picture(Model((), (), tuple(frames)), 99.0, 99.0, (), outlines, (), vertical=vertical)
        return [tuple(s) for s in time_axis(picture, "", T)]  # type: ignore[misc]

    columns = [Frame(f"t{t}", f"t={t}", "", t) for t in range(12)]
    assert share(7, columns) == share(12, columns)[:7]
    block = [*columns[:5], Frame("t5_t8", "t=5 … 8", "", 5, 8), *columns[9:]]
    *before, last = share(7, block)
    assert before == share(12, block)[:5]
    # Half of the block, for it has two of its four timesteps.
    assert last == (5, 7, 50.0, 54.0)


def test_the_range_of_a_strip_in_words() -> None:
    known = np.ones(3, bool)

    def said(values: list[float], kind: Any = "gradient", known: np.ndarray = known) -> str:
        return strip_range(Strip("", np.array(values), known, kind))

    assert said([0.5, 1e-7, 2.0]) == "1.0e-7 .. 2"
    assert said([2.0, 2.0, 2.0]) == "2"
    assert said([2.0, np.nan, np.inf]) == "2, infinite, NaN"
    assert said([0.0, 0.25, 0.125], "share") == "0% .. 25%; the colours go from 0% to 100%"
    assert said([1.0, 2.0, 3.0], "factor") == "1 .. 3; 1 is in the middle of the colours"
    assert said([1.0, 2.0, 3.0], known=~known) == "not known"


def test_a_legend_for_all_that_is_there() -> None:
    def words(picture: Picture) -> set[str]:
        return {mark.text for mark in picture.marks if isinstance(mark, Text)}

    picture, _ = painted(char_rnn(3))
    assert {"norm of the gradient", "exactly 0", "reached by no gradient"} <= words(picture)
    assert not {"NaN", "infinite", "relative error"} & words(picture)
    x = tg.tensor([0.0, 1.0], requires_grad=True, name="x")
    picture, _ = painted(Case(tg.sum(tg.sqrt(x))))
    assert "infinite" in words(picture)
    assert "exactly 0" not in words(picture)
    scale = next(text for text in words(picture) if text.startswith("1e"))
    assert float(scale) > 0


def test_the_legends_of_a_comparison_name_what_is_there() -> None:
    case, report = planted()
    assert 0.0 in report.steps["dh"]

    def words(**wanted: bool) -> set[str]:
        picture, _ = painted(case, report=report, **wanted)
        return {mark.text for mark in picture.marks if isinstance(mark, Text)}

    assert {"relative error", "agrees, within 1e-09", "not compared"} <= words()
    for found in (words(), words(grads=True)):
        assert not {"exactly 0", "norm of the gradient", "reached by no gradient"} & found
    assert {"relative error", "norm of the gradient"} <= words(backward=True)
    box = Box("h", "state", "h", "", "", "", "", "h")
    picture = Picture(Model((box,), (), ()), 9.0, 9.0, (), (), ())
    marks = paint(picture, Measures(errors={"h": 0.0}, tolerance=1e-9), compare=True).marks
    assert [mark.text for mark in marks if isinstance(mark, Text)] == [
        "relative error",
        "agrees, within 1e-09",
    ]


def test_zero_is_a_small_cell_and_what_only_strips_have_is_in_the_legend() -> None:
    one = Numbers(1, 0, 0, 0, 0, 0, 0, 1.0)
    values, known = np.array([0.0, 0.5, np.nan]), np.ones(3, bool)
    strips = (Strip("norm", values, known), Strip("share", np.array([0.0, 0.5, 1.0]), known, "share"))
    picture = paint(small(), Measures(grads={"W": one, "t0.h": one}, strips=strips), backward=False)
    words = {mark.text for mark in picture.marks if isinstance(mark, Text)}
    assert {"NaN", "exactly 0"} <= words
    for title in ("norm", "share"):
        zero, number, _ = cells_of(picture, f"{title} at")
        assert zero.height < number.height / 2
        assert zero.fill == SPECIAL["zero"].color


# --- colours ---------------------------------------------------------------------------------------------
@pytest.mark.parametrize("radius", [0.5, 2.0])
def test_vanishing_and_exploding_are_seen(radius: float) -> None:
    W = tg.tensor(radius * np.eye(2), requires_grad=True, name="W_hh")

    def cell(x: Any, h: Any) -> Any:
        h = tg.label(x + h @ W, "h")
        return h, h

    roll = nn.unroll(cell, np.ones((40, 1, 2)), np.zeros((1, 2)))
    picture, _ = painted(Case(tg.sum(roll.state), roll), steps=None)
    boxes = [lightness(picture.looks[f"t{t}.h"].fill) for t in range(40)]
    carried = [
        look
        for wire, look in zip(picture.wires, map(picture.looks.get, range(len(picture.wires))), strict=True)
        if wire.head in {f"t{t}.h" for t in range(39)} and wire.tail.endswith("matmul")
    ]
    widths = [float(look.width) for look in carried]
    lights = [lightness(look.line) for look in carried]
    cells = [lightness(cell.fill) for cell in cells_of(picture, "norm of dL/dh ")]
    assert (len(widths), len(cells)) == (39, 40)
    for line in (boxes, widths, lights, cells):
        steps = np.diff(np.array(line)) * (1 if radius < 1 else -1)
        assert (steps >= 0).all()
        assert (steps > 0).sum() > 20
    assert 1.0 <= min(widths) < 1.5
    assert 5.0 < max(widths) <= 6.0


def test_lines_run_the_way_of_the_gradient() -> None:
    case = char_rnn(3)
    model = build(case.output, case.unrolled, case.params)
    bare = place(model)
    picture, _ = painted(case, steps=None)
    for before, after in zip(bare.wires, picture.wires, strict=True):
        assert (after.tail, after.head) == (before.head, before.tail)
        assert after.points == before.points[::-1]
        assert after.arrow == bool(after.head)
        assert after.shares == before.shares
    still, _ = painted(case, steps=None, grads=True)
    assert still.wires == bare.wires


def test_what_has_no_place_on_the_scale_looks_different() -> None:
    x = tg.tensor([1.0, 2.0], requires_grad=True, name="x")
    names = {"zero": x * 0.0, "number": x * 3.0, "nan": x * np.nan, "infinite": x * np.inf}
    parts = [tg.label(part, name) for name, part in names.items()]
    leaves = {
        name: tg.tensor([1.0, 1.0], requires_grad=True, name=f"at {name}")
        for name in ("zero", "nan", "infinite")
    }
    factors = {"zero": 0.0, "nan": np.nan, "infinite": np.inf}
    with np.errstate(invalid="ignore"):
        total = parts[1] + sum(leaf * np.full(2, factors[name]) for name, leaf in leaves.items())
        total = total * tg.tensor([3, 4], name="whole")
        picture, found = painted(Case(tg.sum(total)))
    looks = {name: picture.looks[f"at_{name}"] for name in ("zero", "nan", "infinite")} | {
        "number": picture.looks["number"],
        "unknown": picture.looks["whole"],
    }
    wires = {}
    for i, wire in enumerate(picture.wires):
        wires[wire.head] = picture.looks[i]
    lines = {name: wires[f"at_{name}"] for name in ("zero", "nan", "infinite")}
    lines |= {"number": wires["number"], "unknown": wires["whole"]}
    for some in (looks, lines):
        patterns = {name: look.pattern for name, look in some.items()}
        assert patterns == {
            "zero": "dotted",
            "unknown": "dashed",
            "nan": "hatched",
            "infinite": "solid",
            "number": "solid",
        }
        assert len({look.line for look in some.values()}) == 5
    assert (looks["zero"].fill, looks["unknown"].fill) == (None, None)
    # As solid as a number, but thicker than any.
    assert lines["infinite"].width == INFINITE > 6.0
    assert (looks["infinite"].width, looks["number"].width) == (4.0, 1.0)
    assert (found.grads["at_zero"].norm, "whole" in found.grads) == (0.0, False)
    assert looks["zero"].hint == "norm of the gradient 0"
    assert looks["unknown"].hint == "reached by no gradient"
    assert lines["nan"].hint == "gradient of norm NaN from multiply to at nan"


def test_gradients_alone_colour_boxes_and_nothing_else() -> None:
    picture, found = painted(char_rnn(3), grads=True)
    assert found.flows == {}
    assert not [key for key in picture.looks if isinstance(key, int)]
    assert picture.looks["t1.h"].fill
    assert not cells_of(picture, "norm")
    bare = place(picture.model)
    assert paint(bare, Measures()) is bare


def test_what_stands_for_many_shows_the_worst_of_them() -> None:
    case = char_rnn(30)
    picture, found = painted(case, "cell")
    inside = [found.grads[f"t{t}.{name}"].norm for t in range(5, 25) for name in ("a", "h", "y", "L")]
    hint = picture.looks["t5_t24.block"].hint
    assert hint.startswith("norm of the gradient at most ")
    assert float(hint.rpartition(" ")[2]) == pytest.approx(max(inside), rel=0.06)
    # A cell has a number of its own: that of its state.
    hint = picture.looks["t2.cell"].hint
    assert float(hint.rpartition(" ")[2]) == pytest.approx(found.grads["t2.h"].norm, rel=0.06)
    names = covered(picture.model, found.grads)
    assert set(names["t2.cell"]) >= {"t2.a", "t2.h"}
    assert "t2.y" not in names["t2.cell"]


def test_all_that_flows_into_a_parameter_colours_its_rail() -> None:
    case = char_rnn(4)
    picture, found = painted(case, steps=None)
    rails = {wire.head: i for i, wire in enumerate(picture.wires) if wire.kind == "rail"}
    for name, number in rails.items():
        fill = picture.looks[name].fill
        assert picture.looks[number].line == fill
        assert found.grads[name].norm > 0


def test_lines_into_a_checkpoint_are_said_to_be_unknown() -> None:
    roll = nn.unroll(nn.RNNCell(2, 3, seed=0), np.ones((6, 1, 2)), checkpoint=2)
    picture, _ = painted(Case(tg.sum(roll.outputs), roll), steps=None)
    hints = [picture.looks[number] for number, wire in enumerate(picture.wires) if wire.tail != "sum"]
    inside = [look for look in hints if look.hint == NOT_ON_RECORD == "inside a checkpoint: not on record"]
    assert len(inside) > 6
    assert {(look.line, look.width, look.pattern) for look in inside} == {(None, None, "solid")}
    assert not [look for look in picture.looks.values() if look.hint.startswith("no gradient flows")]


def test_a_cell_that_contains_nan_and_infinity_is_nan() -> None:
    box = Box("t0.cell", "cell", "h", "", "", "", "t0", "cell")
    picture = Picture(Model((box,), (), (Frame("t0", "t=0", "", 0),)), 9.0, 9.0, (), (), ())
    numbers = {
        "t0.b": Numbers(2, 0, 1, 0, 0, 0, 0, 2.0),
        "t0.a": Numbers(2, 1, 0, 0, 0, 0, 0, 1.0),
        "t0.c": Numbers(2, 0, 0, 0, 0, 0, 0, 3.0),
    }
    assert paint(picture, Measures(grads=numbers)).looks["t0.cell"].pattern == "hatched"
    del numbers["t0.a"]
    assert paint(picture, Measures(grads=numbers)).looks["t0.cell"].line == INK


# --- comparisons -----------------------------------------------------------------------------------------
def planted() -> tuple[Case, Any]:
    """A run of 20 timesteps, and the report on a backward that carries nothing."""
    cell = nn.RNNCell(3, 4, seed=0)
    roll = nn.unroll(cell, np.random.default_rng(0).normal(size=(20, 2, 3)))
    loss = tg.label(tg.sum(roll.outputs * roll.outputs), "loss")
    dh = 2 * roll.outputs.numpy()
    report = bptt.compare(loss, {"dh": dh}, wrt=cell, unrolled=roll)
    assert report.first_divergence == ("dh", 18)
    return Case(loss, roll, cell), report


@pytest.mark.parametrize(("level", "first"), [("op", "t18.h"), ("cell", "t18.cell")])
@pytest.mark.parametrize("vertical", [False, True])
def test_the_first_divergence_is_marked_with_the_doctors_words(
    level: str, first: str, vertical: bool
) -> None:
    case, report = planted()
    picture, _ = painted(case, level, vertical=vertical, report=report)
    bare = place(picture.model, vertical=vertical)
    assert_in_order(bare, picture)
    look = picture.looks[first]
    assert (look.width, look.line) == (5.0, INK)
    assert look.hint.endswith("the first to differ")
    assert [name for name, each in picture.looks.items() if each.width == 5.0] == [first]
    texts = [mark for mark in picture.marks if isinstance(mark, Text)]
    told = " ".join(mark.text for mark in texts)
    assert "First to differ, in the order of a backward: dh at t=18." in told
    assert "BPTT001: the carry is dropped." in told
    # The line from the words reaches the box, and meets no other box on its way to the edge of its column.
    placed = next(each for each in picture.boxes if each.box.id == first)
    (line,) = [mark for mark in picture.marks if isinstance(mark, Stroke) and mark.color == INK]
    x, y = line.points[0]
    if vertical:
        assert y == placed.y
        assert placed.x < x < placed.x + placed.width
    else:
        assert x == placed.x
        assert placed.y < y < placed.y + placed.height
    # Nor does it run along another line into the box.
    along = 0 if vertical else 1
    ends = {
        wire.points[k][along] for wire in picture.wires for k in (0, -1) if first in (wire.tail, wire.head)
    }
    assert min(abs(end - (x, y)[along]) for end in ends) > 3
    for (ax, ay), (bx, by) in itertools.pairwise(line.points):
        for each in picture.boxes:
            beside = max(ax, bx) <= each.x or min(ax, bx) >= each.x + each.width
            assert beside or max(ay, by) <= each.y or min(ay, by) >= each.y + each.height, each.box.id
    # Outside of its box's timestep it runs between the columns.
    column = next(outline for outline in picture.outlines if outline.frame.id == "t18")
    before = next(outline for outline in picture.outlines if outline.frame.id == "t17")
    x, y = line.points[2]
    assert (before.y + before.height < y < column.y) if vertical else (before.x + before.width < x < column.x)
    last = line.points[-1]
    heading = next(mark for mark in texts if mark.text.startswith("First to differ"))
    assert abs(heading.x - last[0]) < 10.0 or vertical
    assert picture.looks["t19.h" if level == "op" else "t19.cell"].fill == AGREES
    assert picture.looks["weight_hh"].hint == "not compared"
    assert picture.looks["t3.x"].pattern == "dashed"
    wrong = picture.looks["t3.h" if level == "op" else "t3.cell"]
    assert wrong.fill not in (None, AGREES)
    assert wrong.hint.startswith("relative error 0.")


def test_a_divergence_in_a_block_is_marked_at_the_block() -> None:
    case, _ = planted()
    right = np.stack(tg.grad(case.output, [step["h"] for step in case.unrolled.steps]))
    right[9] *= 2
    report = bptt.compare(case.output, {"dh": right}, wrt=case.params, unrolled=case.unrolled)
    picture, _ = painted(case, report=report)
    assert picture.looks["t5_t14.block"].width == 5.0
    assert picture.looks["t5_t14.block"].hint.startswith("relative error at most 1")
    # One timestep that stands for all has the worst of each of its boxes, and the mark of the first.
    right[9] /= 2
    for wrong in (0, 9, 10, 19):
        right[wrong] *= 2
        report = bptt.compare(case.output, {"dh": right}, wrt=case.params, unrolled=case.unrolled)
        picture, _ = painted(case, "rolled", report=report)
        look = picture.looks["t10.h"]
        assert (look.width, look.line) == (5.0, INK)
        assert look.hint == "relative error at most 1, the first to differ"
        assert look.fill not in (None, AGREES)
        assert [name for name, each in picture.looks.items() if each.width == 5.0] == ["t10.h"]
        assert any(isinstance(mark, Text) and f"dh at t={wrong}" in mark.text for mark in picture.marks)
        right[wrong] /= 2
    # And where neither it nor what stands for it is drawn, the words stand alone.
    (bias,) = (box for box in place(build(case.output)).boxes if box.box.name == "bias_hh")
    without = Model(tuple(b for b in picture.model.boxes if b.id != bias.box.id), (), picture.model.frames)
    found = Measures(errors={bias.box.id: 1.0}, first=bias.box.id, words=("Odd.",))
    looks = paint(place(without), found, compare=True).looks
    assert "the first to differ" not in " ".join(look.hint for look in looks.values())


@pytest.mark.parametrize("wrong", [0, 9, 19])
def test_the_cell_of_a_loop_has_the_worst_error_of_all_timesteps(wrong: int) -> None:
    case, _ = planted()
    right = np.stack(tg.grad(case.output, [step["h"] for step in case.unrolled.steps]))
    right[wrong] *= 2
    report = bptt.compare(case.output, {"dh": right}, wrt=case.params, unrolled=case.unrolled)
    whole = build(case.output, case.unrolled, case.params)
    model = levels.rolled(levels.cells(whole))
    found = measure(whole, case.output, case.unrolled, compare=report)
    look = paint(place(model), found, compare=True).looks["t10.cell"]
    assert look.hint == "relative error at most 1, the first to differ"
    assert covered(model, found.errors) == {"t10.cell": ["t10.h"]}
    assert len(covered(model, found.errors, across=True)["t10.cell"]) == 20


def test_the_worst_of_timesteps_that_leave_numbers_out() -> None:
    h: Any = tg.tensor([1.0, 2.0], requires_grad=True, name="h0")
    with tg.scope("t4"):
        h = tg.label(h * 2.0, "h")
    for t in (5, 7, 10**15):
        with tg.scope(f"t={t}"):
            h = tg.label(tg.tanh(h), "h")
    model = levels.rolled(build(tg.sum(h)))
    errors = {"t5.h": 0.1, "t7.h": math.inf, f"t{10**15}.h": math.nan, "t4.h": 9.0}
    found = worst_in_time(model, errors)
    assert {name: t for name, (_, t) in found.items()} == {"t7.h": 10**15, "t4.h": None}
    assert math.isnan(found["t7.h"][0])
    assert found["t4.h"] == (9.0, None)
    # The first of several, and nothing where no timestep stands for others.
    assert worst_in_time(model, {"t7.h": 1.0, "t5.h": 1.0}) == {"t7.h": (1.0, 5)}
    assert worst_in_time(build(tg.sum(h)), errors) == {}


def test_one_timestep_for_all_says_whose_numbers_it_has() -> None:
    def told(picture: Picture) -> str:
        return " ".join(mark.text for mark in picture.marks if isinstance(mark, Text))

    case = char_rnn(9)
    whose = "have the numbers of t=4"
    picture, found = painted(case, "rolled")
    assert f"Boxes and lines {whose}; the strips have all." in told(picture)
    assert float(picture.looks["t4.h"].hint.rpartition(" ")[2]) == pytest.approx(
        found.grads["t4.h"].norm, rel=0.06
    )
    assert f"Boxes {whose}." in told(painted(case, "rolled", grads=True)[0])
    for level in ("op", "cell"):
        assert whose not in told(painted(case, level)[0])
    case, report = planted()
    assert "have the numbers" not in told(painted(case, "rolled", report=report)[0])
    both = told(painted(case, "rolled", report=report, backward=True)[0])
    assert "Lines have the numbers of t=10; the strips have all." in both


def test_errors_that_are_not_numbers() -> None:
    box = Box("h", "state", "h", "", "", "", "", "h")
    picture = Picture(Model((box,), (), ()), 9.0, 9.0, (), (), ())
    measures = Measures(errors={"h": math.nan}, tolerance=1e-9, first="h", words=("Odd.",))
    look = paint(picture, measures, compare=True).looks["h"]
    assert (look.pattern, look.fill) == ("hatched", SPECIAL["nan"].fill)


@given(st.text(max_size=300), st.text(max_size=60))
def test_any_words_find_room(words: str, title: str) -> None:
    strip = Strip(title, np.ones(1), np.ones(1, bool))
    x = Numbers(1, 0, 0, 0, 0, 0, 0, 1.0)
    bare = small()
    measures = Measures(
        grads={"W": x}, errors={"W": 0.0}, words=(words, "x" * 5000), strips=(strip,), notes=(words * 9,)
    )
    picture = paint(bare, measures, backward=True, compare=True)
    picture = dataclasses.replace(picture, marks=picture.marks[len(bare.marks) :])
    assert_in_order(bare, picture)


# --- legends ---------------------------------------------------------------------------------------------
def test_the_legend_has_no_kinds_that_show_numbers() -> None:
    case = char_rnn(3)
    forward = tg.viz.draw(case.output, unrolled=case.unrolled)
    backward = tg.viz.draw(case.output, unrolled=case.unrolled, backward=True)

    def kinds(drawing: tg.viz.Drawing) -> tuple[set[str], bool]:
        found = legend(drawing.picture)
        return {placed.box.kind for placed in found.boxes}, bool(found.wires)

    assert kinds(forward) == ({"parameter", "input", "constant", "operation", "state", "output"}, True)
    # What no gradient reaches looks as in the forward view but for its dashes.
    assert kinds(backward) == ({"input", "constant"}, False)


def test_every_colour_bar_has_a_heading() -> None:
    case = char_rnn(4)
    marks = tg.viz.draw(case.output, unrolled=case.unrolled, backward=True).picture.marks
    texts = [mark for mark in marks if isinstance(mark, Text)]
    # Beside the triangle, on the height of its own title.
    headings = [text for text in texts if text.text == "norm of dL_i/dh_j"]
    assert len(headings) == 2
    assert headings[0].y == headings[1].y
    assert headings[0].x < headings[1].x
    ranges = {text.text for text in texts if "%" in text.text}
    assert ranges
    assert all(text.endswith("%; the colours go from 0% to 100%") for text in ranges)


# --- cells of several states -----------------------------------------------------------------------------
def test_a_cell_of_several_states_has_the_numbers_of_each() -> None:
    case = char_rnn(3, "lstm")
    drawing = tg.viz.draw(
        case.output, unrolled=case.unrolled, level="cell", values=True, grads=True, backward=True
    )
    norms = {
        name: float(np.linalg.norm(tg.grad(case.output, [case.unrolled.steps[1][name]])[0])) for name in "ch"
    }
    said = [f"{name} {short(norm)}" for name, norm in norms.items()]
    cell = next(placed for placed in drawing.picture.boxes if placed.box.id == "t1.cell")
    written = [line.text for line in cell.lines if line.style == "note"]
    assert [text for text in written if "grad" in text] == [f"|grad| {one}" for one in said]
    assert [text[:2] for text in written[:-2]] == ["c ", "c ", "h ", "h "]
    looks = drawing.picture.looks
    assert looks["t1.cell"].hint == f"norm of the gradient {', '.join(said)}"
    # In the colour of the larger.
    whole = tg.viz.draw(case.output, unrolled=case.unrolled, backward=True).picture.looks
    assert norms["c"] != norms["h"]
    assert looks["t1.cell"].fill == whole[f"t1.{max(norms, key=norms.__getitem__)}"].fill


def test_a_cell_of_several_states_has_the_error_of_each() -> None:
    case = char_rnn(3, "lstm")
    given = {n: np.stack(tg.grad(case.output, [s[n] for s in case.unrolled.steps])) for n in "ch"}
    given["c"][1] *= 1.5
    report = tg.bptt.compare(case.output, given, unrolled=case.unrolled)
    looks = tg.viz.draw(case.output, unrolled=case.unrolled, level="cell", compare=report).picture.looks
    error = short(report.steps["c"][1])
    assert looks["t1.cell"].hint.startswith(f"relative error at most {error}: c {error}, h 0")


def test_states_of_one_name_are_told_apart() -> None:
    case = GRAPHS["stacked"](2)
    drawing = tg.viz.draw(case.output, unrolled=case.unrolled, level="cell", grads=True)
    hint = drawing.picture.looks["t0.cell"].hint
    assert [name in hint for name in ("lower.c ", "lower.h ", "upper.c ", "upper.h ")] == [True] * 4


def test_numbers_written_in_a_rolled_picture_say_whose_they_are() -> None:
    case = char_rnn(9)
    given = {"h": 2 * np.stack(tg.grad(case.output, [s["h"] for s in case.unrolled.steps]))}
    report = tg.bptt.compare(case.output, given, unrolled=case.unrolled)

    def told(**wanted: Any) -> str:
        drawing = tg.viz.draw(case.output, unrolled=case.unrolled, level="rolled", steps=[4], **wanted)
        return " ".join(mark.text for mark in drawing.picture.marks if isinstance(mark, Text))

    worst = "Boxes have the colour of the worst error of all timesteps."
    assert told(compare=report).endswith(worst)
    both = told(compare=report, values=True, backward=True)
    assert f"{worst} The texts in boxes and lines have the numbers of t=4; the strips have all." in both
    assert "The texts in boxes have the numbers of t=4; the strips have all." in told(
        compare=report, values=True
    )
    assert "Boxes have the numbers of t=4." in told(grads=True)
    assert told(values=True) == "The texts in boxes have the numbers of t=4."
    assert told() == ""


# --- the text in boxes -----------------------------------------------------------------------------------
def test_notes() -> None:
    x = Box("x", "input", "x", "", "(4,)", "float64", "", "x")

    def of(array: Any, **wanted: Any) -> tuple[str, ...]:
        numbers = numbers_of({"x": np.asarray(array)})
        wanted = wanted or {"values": True, "grads": True}
        return notes(x, Measures(numbers, numbers), **wanted)

    assert of([-0.31, 0.99, 0.12]) == ("-0.31 .. 0.99", "mean 0.267", "|grad| 1.04")
    assert of(2.5) == ("2.5", "|grad| 2.5")
    assert of([0.0, 0.0]) == ("all 0", "|grad| 0")
    assert of([1.0, np.nan, np.inf, 3.0]) == (
        "1 .. 3",
        "mean 2",
        "1 of 4 NaN",
        "1 of 4 infinite",
        "|grad| NaN",
    )
    assert of(np.nan) == ("NaN", "|grad| NaN")
    assert of([1.0, np.inf], grads=True) == ("|grad| inf",)
    assert of([3.0, 4.0], values=True) == ("3 .. 4", "mean 3.5")
    # Short enough to be shown whole, however long the numbers.
    for line in of([-1.234567e-100, 2.345678e-100], values=True) + of([-98765.4, 12345.6], values=True):
        assert shortened(line) == line
    assert of([3e-200, 4e-200], grads=True) == ("|grad| 5.0e-200",)
    assert notes(x, Measures(), values=True, grads=True) == ()
