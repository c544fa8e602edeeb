"""DOT text to pictures, with whichever Graphviz there is, and what happens where there is none."""

from __future__ import annotations

import importlib.util
import io
import os
import re
import shutil
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tensorgrad.viz.style.palette import KINDS
from tensorgrad.viz.writers import render as rendering
from tensorgrad.viz.writers.dot import to_dot
from tensorgrad.viz.writers.render import RenderError, render

from .pictures import everything, small

_POSIX = pytest.mark.skipif(os.name == "nt", reason="the planted program is a shell script")
_MAGIC = {"svg": b"<?xml", "png": b"\x89PNG", "pdf": b"%PDF"}


@pytest.fixture
def renderer() -> None:
    if shutil.which("dot") is None and importlib.util.find_spec("pygraphviz") is None:
        pytest.skip("neither the dot program nor pygraphviz is installed")


@pytest.fixture
def plant(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., None]:
    """Put a program in the place of `dot`, or of another, or none; and leave pygraphviz or hide it."""

    def run(script: str | None, library: bool, name: str = "dot") -> None:
        program = tmp_path / name
        if script is not None:
            program.write_text(f"#!/bin/sh\n{script}\n")
            program.chmod(0o755)
        monkeypatch.setattr(shutil, "which", lambda asked: str(program) if script and asked == name else None)
        if not library:
            find = importlib.util.find_spec

            def hidden(name: str, package: str | None = None) -> Any:
                return None if name == "pygraphviz" else find(name, package)

            monkeypatch.setattr(importlib.util, "find_spec", hidden)
        else:
            pytest.importorskip("pygraphviz")

    return run


def size(png: bytes) -> tuple[int, int]:
    return int.from_bytes(png[16:20], "big"), int.from_bytes(png[20:24], "big")


@pytest.mark.usefixtures("renderer")
@pytest.mark.parametrize("form", _MAGIC)
def test_every_form_and_not_a_word_about_it(form: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert render(to_dot(everything()), form).startswith(_MAGIC[form])
    # Graphviz, its fonts and pygraphviz have things to say, and none of it is the user's business.
    assert capfd.readouterr() == ("", "")


@pytest.mark.usefixtures("renderer")
def test_a_png_has_two_dots_for_a_point() -> None:
    picture = everything()
    width, height = size(render(to_dot(picture), "png"))
    assert width == pytest.approx(2 * picture.width, abs=4)
    assert height == pytest.approx(2 * (picture.height + 32), abs=4)


@pytest.mark.usefixtures("renderer")
def test_a_png_shows_what_the_svg_shows() -> None:
    image = pytest.importorskip("PIL.Image")
    picture = replace(everything(), looks={})
    with image.open(io.BytesIO(render(to_dot(picture), "png"))) as png:
        pixels = png.convert("RGB")
    for place in picture.boxes:
        # Within the outline, left of the text.
        x, y = place.x + 4, place.y + place.height / 2
        found = pixels.getpixel((round(2 * x), round(2 * (y + 32))))
        color = KINDS[place.box.kind].fill
        fill = [int(color[i : i + 2], 16) for i in (1, 3, 5)]
        assert max(abs(a - b) for a, b in zip(found, fill, strict=True)) <= 2, place.box.id


@pytest.mark.usefixtures("renderer")
def test_a_long_png_has_fewer_dots_to_the_inch() -> None:
    source = to_dot(replace(small(), width=20_000.0))
    width, height = size(render(source, "png"))
    assert 32_000 < width <= 32_767
    assert height == pytest.approx(232 * width / 20_000, abs=3)


@pytest.mark.parametrize(("wide", "high"), [(50_000.0, 200.0), (200.0, 50_000.0), (16_000.0, 16_000.0)])
def test_a_png_that_nobody_could_read(wide: float, high: float) -> None:
    source = to_dot(replace(small(), width=wide, height=high))
    with pytest.raises(RenderError, match="draw fewer timesteps, or save it as SVG or PDF") as caught:
        render(source, "png")
    assert f"{wide:,.0f} x {high + 32:,.0f} dots" in str(caught.value)


@pytest.mark.usefixtures("renderer")
def test_a_page_that_acrobat_can_open() -> None:
    def page(width: float) -> float:
        data = render(to_dot(replace(small(), width=width)), "pdf")
        return max(float(found) for found in re.findall(rb"MediaBox \[ ?0 0 ([0-9.]+)", data))

    assert page(600.0) == pytest.approx(600, abs=2)
    assert page(50_000.0) == pytest.approx(14_400, abs=2)


def test_no_renderer(plant: Callable[..., None]) -> None:
    plant(None, library=False)
    for form in _MAGIC:
        with pytest.raises(
            RenderError, match=rf"drawing {form.upper()} needs Graphviz: install .* or pygraphviz"
        ):
            render("digraph { a }", form)


@_POSIX
@pytest.mark.parametrize("name", ["dot", "neato"])
def test_the_program_comes_first(plant: Callable[..., None], name: str) -> None:
    plant("cat >/dev/null; echo warning >&2; echo drawn with $*", library=True, name=name)
    assert render("digraph { a }", "pdf") == b"drawn with -Tpdf\n"
    assert render("digraph { a }", "png") == b"drawn with -Tpng -Gdpi=144\n"
    assert render(to_dot(replace(small(), width=50_000.0)), "pdf") == b"drawn with -Tpdf -Gsize=200,200\n"


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
    plant("exit 0", library=False)
    (tmp_path / "dot").chmod(0o644)
    with pytest.raises(RenderError, match=r"dot does not run: Permission denied"):
        render("digraph { a }", "svg")


@_POSIX
def test_a_time_limit(plant: Callable[..., None]) -> None:
    plant("exec sleep 30", library=False)
    began = time.monotonic()
    with pytest.raises(RenderError, match=r"not finished the SVG after 0\.2 seconds: draw fewer timesteps"):
        render("digraph { a }", "svg", timeout=0.2)
    assert time.monotonic() - began < 10


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


def test_a_text_that_says_nothing_of_its_extent() -> None:
    assert rendering._option("digraph { a }", "png") == "dpi=144"
    assert rendering._option("digraph { a }", "pdf") == ""
    assert rendering._option('digraph {\n\tgraph [bb="0,0,0,0"]\n}', "png") == "dpi=144"
