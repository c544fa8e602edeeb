"""The DOT text, and what Graphviz makes of it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import tensorgrad as tg
from tensorgrad import nn
from tensorgrad.viz.dot import to_dot
from tensorgrad.viz.drawing import draw
from tensorgrad.viz.model import build

from .conftest import GRAPHS, Seen, char_rnn, visible_arrows

Look = Callable[[str], Seen]

# Letters that mean something in DOT, in its labels, in HTML or in XML, and others that must come through.
_TRICKY = st.text(st.sampled_from("abNGEL \\\"'<>&;:{}|[]=-/#%\n,é漢😀"), min_size=1, max_size=30)
# Without control characters, surrogates and what is no character: those are shown as something else.
_ANY = st.text(st.characters(exclude_categories=("Cc", "Cs", "Cn")), min_size=1, max_size=30)


def labelled(name: str) -> str:
    x = tg.tensor([0.5], requires_grad=True, name="x")
    return to_dot(build(tg.label(tg.tanh(x), name)))


def shown(seen: Seen) -> str:
    """The name that the one labelled box shows."""
    (lines,) = (lines for box, lines in seen.texts.items() if box != "x")
    assert lines[-2:] == ["tanh", "(1,) float64"]
    return "".join(lines[:-2])


def blanks(text: str) -> str:
    # Graphviz writes every second of several blanks as one that does not break.
    return text.replace("\xa0", " ")


@given(_TRICKY | _ANY)
@example('say "hi"')
@example("\\")
@example("\\N \\G \\\\N \\n \\l")
@example("<b>x</b>")
@example("&lt;b&gt; &amp; &#92;N")
@example("a:b:c")
@example("]]> <!-- --> */ //")
@settings(deadline=None)
def test_the_label_shown_is_the_label_given(look: Look, name: str) -> None:
    assert blanks(shown(look(labelled(name)))) == blanks(name.replace("\n", ""))


@given(_TRICKY)
@settings(deadline=None)
def test_tooltips_and_frames_show_what_was_given(look: Look, name: str) -> None:
    x = tg.tensor([0.5], requires_grad=True, name="x")
    with tg.scope(name.replace("/", "-")):
        y = tg.label(tg.tanh(x), name)
    source = to_dot(build(y))
    (told,) = (told for box, told in look(source).tooltips.items() if not box.endswith("x"))
    expected = f"{name} = tanh, output (1,) float64\nscope {name.replace('/', '-')}"
    assert blanks(told) == expected.replace("\\", "\N{REVERSE SOLIDUS OPERATOR}")


@pytest.mark.parametrize(
    ("name", "picture"),
    [
        ("a\x00b", "a␀b"),
        ("\x1b[31m", "␛[31m"),
        ("tab\there", "tab␉here"),
        ("\x7f\x85", "␡\ufffd"),
        ("\ud800", "?"),
        ("\ufffe", "\ufffd"),
        ("x" * 10_000, "x" * 39 + "…"),
    ],
)
def test_what_cannot_be_shown(look: Look, name: str, picture: str) -> None:
    assert shown(look(labelled(name))) == picture


def test_lines_of_a_label_are_lines(look: Look) -> None:
    assert look(labelled("one\ntwo")).texts["one_two"] == ["one", "two", "tanh", "(1,) float64"]


def test_everything_stands_between_the_braces_of_one_graph() -> None:
    source = draw(char_rnn(2).output).source
    assert source.startswith("digraph {\n")
    assert source.endswith("\n}\n")
    assert source.count("{") == source.count("}")
    assert source.isascii() or source.encode().decode() == source


@pytest.mark.parametrize("name", GRAPHS)
@pytest.mark.parametrize("T", [2, 4, 7])
def test_no_arrow_is_lost(look: Look, name: str, T: int) -> None:
    case = GRAPHS[name](T)
    source = draw(case.output, unrolled=case.unrolled).source
    assert look(source).arrows == visible_arrows(source)


@pytest.mark.parametrize("name", GRAPHS)
@pytest.mark.parametrize("T", [2, 4, 7, 12])
def test_time_runs_from_left_to_right(look: Look, name: str, T: int) -> None:
    case = GRAPHS[name](T)
    model = build(case.output, case.unrolled)
    where = look(to_dot(model)).frames
    for parent in {frame.parent for frame in model.frames if frame.step is not None}:
        steps = [frame.id for frame in model.frames if frame.step is not None and frame.parent == parent]
        assert len(steps) == T
        assert sorted(steps, key=lambda frame: where[frame][0]) == steps


@pytest.mark.parametrize("name", GRAPHS)
def test_nothing_overlaps(look: Look, name: str) -> None:
    model = build(GRAPHS[name](4).output)
    seen = look(to_dot(model))
    corners = np.array(list(seen.boxes.values()))
    left, bottom, right, top = corners.T
    apart = (
        (left[:, None] >= right)
        | (right[:, None] <= left)
        | (bottom[:, None] >= top)
        | (top[:, None] <= bottom)
    )
    np.fill_diagonal(apart, True)
    assert apart.all()
    for frame in model.frames:
        for other in model.frames:
            if frame is not other and frame.parent == other.parent:
                a, b = seen.frames[frame.id], seen.frames[other.id]
                assert a[0] >= b[2] or a[2] <= b[0] or a[1] >= b[3] or a[3] <= b[1]


def test_a_state_is_carried_in_bold_and_along_its_row(look: Look) -> None:
    source = draw(char_rnn(4).output).source
    (line,) = (line for line in source.splitlines() if line.strip().startswith('"t1.h" -> "t2.h@t1"'))
    assert "penwidth=2.6" in line
    boxes = look(source).boxes
    middle = [(bottom + top) / 2 for _, bottom, _, top in (boxes["t1.h"], boxes["t2.h@t1"], boxes["t2.h"])]
    assert max(middle) - min(middle) < 1
    assert boxes["t1.h"][2] < boxes["t2.h@t1"][0] < boxes["t2.h"][0]


def test_a_state_that_runs_backwards_enters_on_the_right(look: Look) -> None:
    boxes = look(draw(GRAPHS["bidirectional"](3).output).source).boxes
    assert boxes["backwards.t1.h"][0] < boxes["backwards.t1.h@backwards.t2"][0] < boxes["backwards.t2.h"][0]


@pytest.mark.parametrize("name", ["lstm", "lengths", "lengths, own cell"])
def test_what_corresponds_stands_at_one_height(look: Look, name: str) -> None:
    seen = look(draw(GRAPHS[name](6).output).source)
    for role in ("h", "c", "x"):
        assert len({seen.boxes[f"t{t}.{role}"][1] for t in range(6)}) == 1
    assert len({bottom for _, bottom, _, _ in seen.frames.values()}) == 1


def test_no_common_height_where_the_order_differs(look: Look) -> None:
    h: Any = tg.tensor([1.0], requires_grad=True, name="h0")
    for t, names in enumerate([("h", "c"), ("c", "h")]):
        with tg.scope(f"t={t}"):
            for name in names:
                h = tg.label(tg.tanh(h), name)
    boxes = look(draw(h).source).boxes
    assert boxes["t0.h"][1] < boxes["t0.c"][1]
    assert boxes["t1.c"][1] < boxes["t1.h"][1]


def test_a_masked_state_branches_off_the_way_in() -> None:
    source = draw(GRAPHS["lengths"](6).output).source
    assert '"t4.h@t3" -> "t4.h" [' in source
    assert '"t3.h" -> "t4.h" [' not in source


@pytest.mark.parametrize("reverse", [False, True])
def test_a_part_of_a_sum_is_carried_to_directly(look: Look, reverse: bool) -> None:
    roll = nn.unroll(nn.LSTMCell(2, 3, seed=0), np.ones((3, 1, 2)), reverse=reverse)
    source = draw(tg.sum(roll.outputs), unrolled=roll).source
    tail, head = ("t2", "t1") if reverse else ("t0", "t1")
    assert f'"{tail}.c" -> "{head}.multiply" [' in source
    boxes = look(source).boxes
    # f * c faces the timestep that c comes from.
    assert (boxes["t1.multiply"][0] < boxes["t1.multiply_2"][0]) is not reverse


def test_the_text_does_not_depend_on_hashing() -> None:
    program = (
        "import numpy as np, tensorgrad as tg\nfrom tensorgrad.viz import draw\n"
        "roll = tg.nn.unroll(tg.nn.LSTMCell(2, 3, seed=0), np.ones((4, 1, 2)), lengths=[3])\n"
        "print(draw(tg.sum(roll.outputs), unrolled=roll).source)"
    )
    texts = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONIOENCODING": "utf-8"},
            capture_output=True,
            check=True,
        ).stdout
        for seed in ("1", "2", "3")
    }
    assert len(texts) == 1
