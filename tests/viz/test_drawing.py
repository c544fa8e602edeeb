"""Drawings as files and in notebooks, what they are asked for, and what happens where that cannot be."""

from __future__ import annotations

import gc
import importlib.util
import os
import shutil
import subprocess
import sys
import weakref
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import graphviz
import numpy as np
import pytest

import tensorgrad as tg
from tensorgrad import nn
from tensorgrad.errors import GraphError, UserError
from tensorgrad.viz import Drawing, RenderError, draw
from tensorgrad.viz import drawing as drawing_module

from .conftest import GRAPHS, char_rnn

_MAGIC = {
    ".svg": b"<svg",
    ".png": b"\x89PNG",
    ".pdf": b"%PDF",
    ".dot": b"digraph",
    ".html": b"<!DOCTYPE html>",
}


@pytest.fixture
def drawing() -> Drawing:
    case = char_rnn(2)
    return draw(case.output, unrolled=case.unrolled, params=case.params)


@pytest.fixture
def renderer() -> None:
    if shutil.which("dot") is None and importlib.util.find_spec("pygraphviz") is None:
        pytest.skip("neither the dot program nor pygraphviz is installed")


@pytest.fixture
def no_renderer(monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(shutil, "which", lambda name: None)
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *_: None if name == "pygraphviz" else find(name)
    )


@pytest.mark.usefixtures("renderer")
@pytest.mark.parametrize("suffix", _MAGIC)
def test_every_kind_of_file(
    drawing: Drawing, tmp_path: Path, suffix: str, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / f"rnn{suffix.upper()}"
    drawing.save(path)
    assert path.read_bytes().startswith(_MAGIC[suffix])
    drawing.save(str(path))
    # Graphviz, its fonts and pygraphviz have things to say, and none of it is the user's business.
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("level", ["op", "cell", "rolled"])
@pytest.mark.parametrize("name", GRAPHS)
def test_every_graph_at_every_level(name: str, level: Any, tmp_path: Path) -> None:
    case = GRAPHS[name](13)
    made = [
        draw(
            case.output,
            unrolled=case.unrolled,
            params=case.params,
            level=level,
            values=True,
            grads=True,
            backward=True,
            rankdir=rankdir,
        )
        for rankdir in ("LR", "TB")
    ]
    for drawing in made:
        ids = {box.id for box in drawing.model.boxes}
        groups = {group.get("id") for group in ET.fromstring(drawing._repr_svg_()).iter()}
        assert all(any(str(each).endswith(name) for each in groups) for name in ids)
        assert all(f'"{name}"' in drawing.source for name in ids)


def test_the_same_graph_gives_the_same_text() -> None:
    for name, graph in GRAPHS.items():
        one, other = graph(3), graph(3)
        texts = {
            draw(case.output, unrolled=case.unrolled, params=case.params).source for case in (one, other)
        }
        assert len(texts) == 1, name


def test_the_graphviz_object_has_the_same_text(drawing: Drawing) -> None:
    digraph = drawing.graphviz
    assert isinstance(digraph, graphviz.Digraph)
    assert digraph.source == drawing.source
    digraph.node("mine")
    assert "mine" not in drawing.graphviz.source


@pytest.mark.usefixtures("no_renderer")
def test_in_a_notebook(drawing: Drawing) -> None:
    ET.fromstring(drawing._repr_svg_())
    html = drawing._repr_html_()
    assert html.startswith('<div style="overflow-x: auto"><svg')
    assert "<?xml" not in html


def test_a_drawing_holds_on_to_its_graph_and_lets_go_of_it() -> None:
    case = char_rnn(2)
    alive = weakref.ref(case.output)
    gc.collect()
    gc.disable()
    try:
        drawing = draw(case.output, unrolled=case.unrolled, params=case.params, values=True)
        del case
        assert drawing.measures.values
        del drawing
        assert alive() is None
    finally:
        gc.enable()


def test_drawing_leaves_the_graph_as_it_was() -> None:
    case = char_rnn(3)
    before = case.params["cell"].weight_hh.grad
    assert draw(case.output, unrolled=case.unrolled, params=case.params, backward=True, grads=True).picture
    assert case.params["cell"].weight_hh.grad is before is None
    case.output.backward()
    expected = case.params["cell"].weight_hh.grad.copy()
    case.params["cell"].weight_hh.grad = None
    assert draw(case.output, unrolled=case.unrolled, backward=True).picture
    case.output.backward()
    np.testing.assert_array_equal(case.params["cell"].weight_hh.grad, expected)


def test_numbers_are_in_the_boxes_that_were_asked_for() -> None:
    case = char_rnn(2)

    def texts(**wanted: bool) -> set[str]:
        drawing = draw(case.output, unrolled=case.unrolled, params=case.params, **wanted)
        (h,) = (placed for placed in drawing.picture.boxes if placed.box.id == "t1.h")
        return {line.text for line in h.lines}

    plain = texts()
    assert len(texts(values=True)) > len(plain)
    assert len(texts(values=True, grads=True)) > len(texts(grads=True)) > len(plain)


def test_a_page_has_every_timestep(tmp_path: Path) -> None:
    case = char_rnn(30)
    drawing = draw(case.output, unrolled=case.unrolled, params=case.params, level="cell")
    assert "t15.h" not in drawing.source
    drawing.save(tmp_path / "rnn.html")
    page = (tmp_path / "rnn.html").read_text("utf-8")
    assert "t15.cell" in page or '"cell"' in page


@pytest.mark.parametrize("name", ["rnn.gif", "rnn", "rnn.svg.txt", ".svg"])
def test_an_unknown_suffix(drawing: Drawing, tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError, match=r"its name must end in one of \.svg, \.png, \.pdf, \.html, \.dot"):
        drawing.save(tmp_path / name)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("suffix", [".dot", ".svg", ".html"])
def test_a_place_that_cannot_be_written(drawing: Drawing, tmp_path: Path, suffix: str) -> None:
    with pytest.raises(UserError, match=f"cannot write .*nowhere.*{suffix}: "):
        drawing.save(tmp_path / "nowhere" / f"rnn{suffix}")
    folder = tmp_path / f"folder{suffix}"
    folder.mkdir()
    with pytest.raises(UserError, match="cannot write"):
        drawing.save(folder)


@pytest.mark.usefixtures("no_renderer")
@pytest.mark.parametrize("suffix", [".png", ".pdf"])
def test_without_graphviz_the_text_is_kept(drawing: Drawing, tmp_path: Path, suffix: str) -> None:
    with pytest.raises(RenderError, match=rf"{suffix[1:].upper()} needs Graphviz.*rnn\.dot") as raised:
        drawing.save(tmp_path / f"rnn{suffix}")
    assert str(raised.value).count(". ") <= 2
    assert (tmp_path / "rnn.dot").read_text("utf-8") == drawing.source
    assert not (tmp_path / f"rnn{suffix}").exists()


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"level": "ops"}, r"level is one of op, cell, rolled, not 'ops'"),
        ({"rankdir": "BT"}, r"rankdir is one of LR, TB, not 'BT'"),
        ({"steps": [2]}, r"there is no timestep 2: the graph has t=0 to t=1"),
        ({"unrolled": 3}, r"takes what nn\.unroll returned, not int"),
        ({"compare": "report"}, r"compare= takes what bptt\.compare returned, not str"),
    ],
)
def test_options_that_make_no_sense(options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        draw(char_rnn(2).output, **options)


def test_a_report_of_another_graph() -> None:
    one, other = char_rnn(2), char_rnn(2)
    cell = one.params["cell"]
    (grad,) = tg.grad(one.output, [cell.weight_hh])
    report = tg.bptt.compare(one.output, {"weight_hh": grad}, wrt=cell, unrolled=one.unrolled)
    assert draw(one.output, unrolled=one.unrolled, compare=report).source
    with pytest.raises(GraphError, match="a report of another graph"):
        draw(other.output, unrolled=other.unrolled, compare=report)


def test_the_rolled_cell_can_be_opened() -> None:
    case = char_rnn(5)
    closed, opened = (
        draw(case.output, unrolled=case.unrolled, level="rolled", steps=steps) for steps in (None, [0])
    )
    assert "cell" in {box.kind for box in closed.model.boxes}
    assert "cell" not in {box.kind for box in opened.model.boxes}
    assert "× 5" in closed.source
    assert "× 5" in opened.source


@pytest.mark.parametrize(
    ("output", "sentence"),
    [
        (tg.tensor([1.0], name="c"), "nothing to draw behind the tensor 'c'"),
        (tg.tensor([1.0], requires_grad=True), "nothing to draw behind"),
        (np.ones(2), "no Tensor in this ndarray"),
        ([], "no Tensor in this list"),
    ],
)
def test_nothing_to_draw(output: Any, sentence: str) -> None:
    with pytest.raises(GraphError, match=sentence):
        draw(output)


def test_too_much_to_draw(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drawing_module, "LARGEST", 200)
    case = char_rnn(50)
    assert draw(case.output).source
    with pytest.raises(GraphError, match=r"359 boxes in 50 timesteps.*leave out steps=\"all\""):
        draw(case.output, steps="all")
    with pytest.raises(GraphError, match=r"in 50 timesteps.*or take level=\"rolled\""):
        draw(case.output, steps="all", level="cell")
    x = tg.tensor(1.0, requires_grad=True)
    for _ in range(300):
        x = tg.tanh(x)
    with pytest.raises(GraphError, match=r"301 boxes, and beyond 200.*use nn\.unroll"):
        draw(x)


def test_a_long_run_at_cell_level() -> None:
    roll = nn.unroll(nn.RNNCell(2, 2, seed=0), np.ones((3000, 1, 2)))
    drawing = draw(tg.sum(roll.outputs), unrolled=roll, level="cell", steps="all")
    assert len(drawing.picture.times) == 3000


@pytest.mark.skipif(os.name == "nt", reason="folders without permission are different there")
@pytest.mark.skipif(hasattr(os, "geteuid") and os.geteuid() == 0, reason="nothing is forbidden to root")
def test_a_folder_without_permission(drawing: Drawing, tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(UserError, match="cannot write"):
        drawing.save(tmp_path / "rnn.svg")


def test_drawing_imports_nothing_heavy() -> None:
    program = (
        "import sys, tensorgrad as tg\nfrom tensorgrad.viz import draw\n"
        "assert draw(tg.tanh(tg.tensor(1.0, requires_grad=True))).source\n"
        "print(sorted({'graphviz', 'pygraphviz', 'matplotlib'} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


# --- what goes with what ---------------------------------------------------------------------------------
def test_parameters_that_are_none() -> None:
    case = char_rnn(2)
    for params in (7, "W", {"W": 1.0}):
        with pytest.raises(UserError, match=r"params= takes a Module .* there is no Tensor in this"):
            draw(case.output, params=params)
    assert draw(case.output, params={}).whole == draw(case.output).whole


def test_a_run_of_another_graph() -> None:
    case, other = char_rnn(2), char_rnn(2)
    with pytest.raises(GraphError, match=r"unrolled= is a run of another graph.*or leave it out"):
        draw(case.output, unrolled=other.unrolled)
    # Of a run without a graph of its own nothing can be said.
    with tg.no_grad():
        nothing = nn.unroll(nn.RNNCell(2, 3, seed=0), np.ones((2, 1, 2)))
    draw(case.output, unrolled=nothing)


@pytest.mark.parametrize("level", ["cell", "rolled"])
def test_levels_need_timesteps(level: Any) -> None:
    x = tg.tensor([1.0], requires_grad=True)
    with pytest.raises(GraphError, match=rf'level="{level}" needs .*use nn\.unroll.*take level="op"'):
        draw(tg.sum(x * x), level=level)
    roll = nn.unroll(nn.RNNCell(2, 3, seed=0), np.ones((4, 1, 2)), checkpoint=2)
    with pytest.raises(GraphError, match=r"checkpoint is not on record: unroll without checkpoint="):
        draw(tg.sum(roll.outputs), unrolled=roll, level=level)
