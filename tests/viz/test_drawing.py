"""Drawings as files and in notebooks, and what happens where they cannot be rendered."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import time
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path
from typing import Any

import graphviz
import pytest

from tensorgrad.errors import UserError
from tensorgrad.viz import Drawing, RenderError, draw
from tensorgrad.viz.render import render

from .conftest import char_rnn

_POSIX = pytest.mark.skipif(os.name == "nt", reason="the planted program is a shell script")
_MAGIC = {".svg": b"<?xml", ".png": b"\x89PNG", ".pdf": b"%PDF", ".dot": b"digraph {"}


@pytest.fixture
def drawing() -> Drawing:
    case = char_rnn(2)
    return draw(case.output, unrolled=case.unrolled, params=case.params)


@pytest.fixture
def renderer() -> None:
    if shutil.which("dot") is None and importlib.util.find_spec("pygraphviz") is None:
        pytest.skip("neither the dot program nor pygraphviz is installed")


@pytest.fixture
def plant(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., None]:
    """Put a program in the place of `dot`, or none; and leave pygraphviz or hide it."""

    def run(script: str | None, library: bool) -> None:
        program = None
        if script is not None:
            program = tmp_path / "dot"
            program.write_text(f"#!/bin/sh\n{script}\n")
            program.chmod(0o755)
        monkeypatch.setattr(shutil, "which", lambda name: program and str(program))
        if not library:
            find = importlib.util.find_spec

            def hidden(name: str, package: str | None = None) -> Any:
                return None if name == "pygraphviz" else find(name, package)

            monkeypatch.setattr(importlib.util, "find_spec", hidden)
        else:
            pytest.importorskip("pygraphviz")

    return run


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


@pytest.mark.usefixtures("renderer")
def test_the_svg_is_xml_and_has_the_ids(drawing: Drawing, tmp_path: Path) -> None:
    drawing.save(tmp_path / "rnn.svg")
    titles = {
        title.text for title in ET.parse(tmp_path / "rnn.svg").iter("{http://www.w3.org/2000/svg}title")
    }
    assert {box.id for box in drawing.model.boxes} <= titles
    assert {f"cluster_{frame.id}" for frame in drawing.model.frames} <= titles


def test_the_graphviz_object_has_the_same_text(drawing: Drawing) -> None:
    digraph = drawing.graphviz
    assert isinstance(digraph, graphviz.Digraph)
    assert digraph.source == drawing.source
    digraph.node("mine")
    assert "mine" not in drawing.graphviz.source


@pytest.mark.usefixtures("renderer")
def test_in_a_notebook(drawing: Drawing) -> None:
    svg = drawing._repr_svg_()
    assert svg is not None
    ET.fromstring(svg)
    html = drawing._repr_html_()
    assert html.startswith('<div style="overflow-x: auto"><svg')
    assert "<?xml" not in html


def test_in_a_notebook_without_a_renderer(drawing: Drawing, plant: Callable[..., None]) -> None:
    plant(None, library=False)
    assert drawing._repr_svg_() is None
    html = drawing._repr_html_()
    assert "drawing SVG needs Graphviz" in html
    assert "<pre>digraph {" in html
    assert "<b>" not in html


@pytest.mark.parametrize("name", ["rnn.gif", "rnn", "rnn.svg.txt", ".svg"])
def test_an_unknown_suffix(drawing: Drawing, tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError, match=r"its name must end in one of \.svg, \.png, \.pdf, \.dot"):
        drawing.save(tmp_path / name)
    assert not list(tmp_path.iterdir())


def test_a_place_that_cannot_be_written(drawing: Drawing, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"cannot write .*nowhere.*rnn\.dot: No such file or directory"):
        drawing.save(tmp_path / "nowhere" / "rnn.dot")
    (tmp_path / "folder.dot").mkdir()
    with pytest.raises(UserError, match="cannot write"):
        drawing.save(tmp_path / "folder.dot")


def test_no_renderer(drawing: Drawing, plant: Callable[..., None], tmp_path: Path) -> None:
    plant(None, library=False)
    with pytest.raises(RenderError, match=r"drawing PNG needs Graphviz: install .* or pygraphviz"):
        drawing.save(tmp_path / "rnn.png")
    drawing.save(tmp_path / "rnn.dot")
    assert [path.name for path in tmp_path.iterdir()] == ["rnn.dot"]


@_POSIX
def test_the_program_comes_first(drawing: Drawing, plant: Callable[..., None], tmp_path: Path) -> None:
    plant("cat >/dev/null; echo warning >&2; echo drawn with $1", library=True)
    drawing.save(tmp_path / "rnn.pdf")
    assert (tmp_path / "rnn.pdf").read_text() == "drawn with -Tpdf\n"


@_POSIX
def test_the_library_stands_in_for_a_program_that_fails(plant: Callable[..., None]) -> None:
    plant("echo 'Format: \"svg\" not recognized.' >&2; exit 1", library=True)
    assert render("digraph { a }", "svg").startswith(b"<?xml")


@_POSIX
@pytest.mark.parametrize(
    ("script", "reason"),
    [("echo bad luck >&2; exit 1", "bad luck"), ("exit 3", "status 3"), ("exit 0", "status 0")],
)
def test_a_program_that_fails(plant: Callable[..., None], script: str, reason: str) -> None:
    plant(script, library=False)
    with pytest.raises(RenderError, match=f"Graphviz could not make the SVG: .*{reason}"):
        render("digraph { a }", "svg")


@_POSIX
def test_a_program_that_is_none(plant: Callable[..., None], tmp_path: Path) -> None:
    plant("", library=False)
    (tmp_path / "dot").write_text("no program")
    (tmp_path / "dot").chmod(0o644)
    with pytest.raises(RenderError, match=r"dot does not run: Permission denied"):
        render("digraph { a }", "svg")


@_POSIX
def test_a_time_limit(drawing: Drawing, plant: Callable[..., None], tmp_path: Path) -> None:
    plant("exec sleep 30", library=False)
    began = time.monotonic()
    with pytest.raises(RenderError, match=r"not finished the SVG after 0\.2 seconds: draw fewer timesteps"):
        drawing.save(tmp_path / "rnn.svg", timeout=0.2)
    assert time.monotonic() - began < 10
    assert not (tmp_path / "rnn.svg").exists()


def test_the_library_has_the_time_limit_too(plant: Callable[..., None]) -> None:
    plant(None, library=True)
    with pytest.raises(RenderError, match="not finished"):
        render("digraph { a }", "svg", timeout=0.001)


def test_text_that_is_no_dot(plant: Callable[..., None]) -> None:
    plant(None, library=True)
    with pytest.raises(RenderError, match="Graphviz could not make the SVG"):
        render("digraph {", "svg")


def test_an_unknown_format() -> None:
    with pytest.raises(ValueError, match="svg, png, pdf, not 'gif'"):
        render("digraph { a }", "gif")


def test_drawing_imports_nothing_heavy() -> None:
    program = (
        "import sys, tensorgrad as tg\nfrom tensorgrad.viz import draw\n"
        "draw(tg.tanh(tg.tensor(1.0, requires_grad=True)))\n"
        "print(sorted({'graphviz', 'pygraphviz', 'matplotlib'} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
