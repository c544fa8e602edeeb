"""The DOT text, and what Graphviz makes of it."""

from __future__ import annotations

import math
import xml.etree.ElementTree as ET
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import graphviz
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tensorgrad.viz.model import Frame, Model
from tensorgrad.viz.picture import Look, Patch, Picture, Stroke, Text
from tensorgrad.viz.style.palette import FRAME, KINDS, ink_of
from tensorgrad.viz.style.text import LONGEST, LONGEST_NOTE, shortened, shown, text_width
from tensorgrad.viz.writers import dot
from tensorgrad.viz.writers.dot import to_dot

from .pictures import everything, small

_SVG = "{http://www.w3.org/2000/svg}"
Look_at = Callable[..., "Seen"]

# Letters that mean something in DOT, in its labels, in HTML or in XML, and others that must come through.
_TRICKY = st.text(st.sampled_from("abNGEL \\\"'<>&;:{}|[]=-/#%\n,é漢😀"), min_size=1, max_size=30)
# But no character that is none: Graphviz's own SVG cannot hold those.
_ANY = st.text(st.characters(exclude_categories=["Cn"]), min_size=1, max_size=30)


class Seen:
    """What Graphviz draws: the elements by class and title, and how far the drawing reaches."""

    def __init__(self, svg: bytes) -> None:
        self.root = ET.fromstring(svg)
        self.groups: dict[str, dict[str, ET.Element]] = {"node": {}, "edge": {}, "cluster": {}}
        for group in self.root.iter(f"{_SVG}g"):
            if group.get("class") in self.groups:
                self.groups[group.get("class") or ""][group.findtext(f"{_SVG}title") or ""] = group

    def texts(self, kind: str, name: str) -> list[str]:
        """The texts of an element; where a font was changed within a line, that line is in parts."""
        return ["".join(text.itertext()) for text in self.groups[kind][name].iter(f"{_SVG}text")]

    def alone(self) -> list[str]:
        """The texts of no element."""
        (graph,) = self.root.iterfind(f"{_SVG}g")
        return [text.text or "" for text in graph.iterfind(f"{_SVG}text")]

    def box(self, kind: str, name: str) -> tuple[float, float, float, float]:
        """Left, top, right and bottom of a box, with y downwards from the picture's lower edge."""
        return extent(self.shapes(kind, name)[-1])

    def shapes(self, kind: str, name: str) -> list[ET.Element]:
        return [shape for shape in self.groups[kind][name] if shape.tag in (f"{_SVG}polygon", f"{_SVG}path")]


def numbers(shape: ET.Element) -> list[tuple[float, float]]:
    text = shape.get("points") or shape.get("d", "").replace("M", "").replace("C", " ")
    return [(float(x), float(y)) for x, y in (pair.split(",") for pair in text.split())]


def extent(shape: ET.Element) -> tuple[float, float, float, float]:
    xs, ys = zip(*numbers(shape), strict=True)
    return min(xs), min(ys), max(xs), max(ys)


@pytest.fixture(scope="session")
def look() -> Look_at:
    """What the Graphviz library makes of a DOT text; the test is skipped without pygraphviz."""
    pygraphviz = pytest.importorskip("pygraphviz")

    def see(source: str, prog: str = "dot") -> Seen:
        return Seen(pygraphviz.AGraph(string=source).draw(format="svg", prog=prog))

    return see


def blanks(text: str) -> str:
    # Graphviz writes every second of several blanks as one that does not break.
    return text.replace("\xa0", " ")


def check_text(look: Look_at, text: str) -> None:
    """Assert that a text comes out as itself wherever one may stand."""
    seen = look(to_dot(small(text, text, text, text)))
    short, whole = (blanks(shown(shortened(text, most))) for most in (LONGEST, LONGEST_NOTE))
    assert blanks("".join(seen.texts("node", "t0.h")[:1])) == short
    assert seen.texts("node", "t0.h")[-1] == "(1, 3) float64"
    assert [blanks(found) for found in seen.texts("cluster", "cluster_t0")] == [short]
    assert [blanks(found) for found in seen.texts("edge", "W->t0.h")] == [short]
    # In the background, a backslash is shown as a sign like it.
    assert whole.replace("\\", "\N{SET MINUS}") in map(blanks, seen.alone())
    assert set(seen.groups["node"]) == {"W", "t0.h"}


@given(_TRICKY | _ANY)
@example('say "hi"')
@example("\\")
@example('\\"')
@example("\\N \\G \\\\N \\n \\l")
@example("<b>x</b>")
@example("&lt;b&gt; &amp; &#92;N")
@example("a:b:c")
@example("]]> <!-- --> */ //")
@example(" ")
@example("  a  b  ")
@example("\ud800\x00\x1b")
@example("x" * 10_000)
@example("<" * 100_000)
def test_the_text_shown_is_the_text_given(look: Look_at, text: str) -> None:
    check_text(look, text)


@pytest.mark.parametrize("text", ["<b>x</b>", "\\N", "&lt;", "a < b"])
def test_an_unescaped_text_would_be_noticed(
    look: Look_at, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dot, "_escaped", lambda text: text)
    dot._line.cache_clear()
    with pytest.raises((AssertionError, ValueError, KeyError)):
        check_text(look, text)
    dot._line.cache_clear()


@pytest.mark.parametrize("text", ["<b>x</b>", "\\N", "ends with \\", "a:b", '"', '\\"'])
def test_a_text_survives_the_graphviz_package(look: Look_at, text: str) -> None:
    source = to_dot(small(text, text, text, text))
    digraph = graphviz.Digraph(body=source.splitlines(keepends=True)[1:-1])
    assert digraph.source == source
    assert look(digraph.source).texts("node", "t0.h")[0] == text


@pytest.mark.parametrize("prog", ["dot", "nop2"])
def test_everything_stands_where_the_picture_has_it(look: Look_at, prog: str) -> None:
    picture = everything()
    seen = look(to_dot(picture), prog)
    # Graphviz has the y axis of the page downwards from the lower edge.
    low = picture.height
    for place in picture.boxes:
        left, top, right, bottom = seen.box("node", place.box.id)
        assert (left, top + low) == pytest.approx((place.x, place.y), abs=0.2)
        assert (right, bottom + low) == pytest.approx(
            (place.x + place.width, place.y + place.height), abs=0.2
        )
    for outline in picture.outlines:
        left, top, right, bottom = seen.box("cluster", f"cluster_{outline.frame.id}")
        assert (left, top + low) == pytest.approx((outline.x, outline.y), abs=0.2)
        assert (right - left, bottom - top) == pytest.approx((outline.width, outline.height), abs=0.2)
    # All of it and nothing more.
    left, top, right, bottom = map(float, (seen.root.get("viewBox") or "").split())
    assert (left, top, right) == (0, 0, picture.width)
    assert bottom > picture.height


def test_lines_run_where_the_picture_has_them(look: Look_at) -> None:
    picture = everything()
    seen = look(to_dot(picture))
    by_ends = {
        (f"{wire.tail or f'{wire.head}@{i}'}->{wire.head or f'{wire.tail}@{i}'}"): (
            wire,
            picture.looks.get(i),
        )
        for i, wire in enumerate(picture.wires)
    }
    assert by_ends.keys() == seen.groups["edge"].keys()
    for name, (wire, own) in by_ends.items():
        group = seen.groups["edge"][name]
        (line,) = group.findall(f"{_SVG}path")
        points = [(x, y + picture.height) for x, y in numbers(line)]
        assert points[0] == pytest.approx(wire.points[0], abs=0.1)
        # Between two corners it runs straight from the one to the other, past no other height.
        xs, ys = zip(*points, strict=True)
        assert min(xs) >= min(x for x, _ in wire.points) - 0.1
        assert max(ys) <= max(y for _, y in wire.points) + 0.1
        heads = group.findall(f"{_SVG}polygon")
        assert len(heads) == wire.arrow
        if wire.arrow:
            tips = [(x, y + picture.height) for x, y in numbers(heads[0])]
            # Its outline is as thick as the line, which Graphviz makes room for.
            short = min(math.dist(tip, wire.points[-1]) for tip in tips)
            assert short < 2 * ink_of(wire, own).width
        else:
            assert points[-1] == pytest.approx(wire.points[-1], abs=0.1)


def test_the_text_is_the_graph() -> None:
    pygraphviz = pytest.importorskip("pygraphviz")
    picture = everything()
    graph = pygraphviz.AGraph(string=to_dot(picture))
    edges = {(str(tail), str(head)) for tail, head in graph.edges() if "@" not in tail + head}
    assert edges == {(arrow.tail, arrow.head) for arrow in picture.model.arrows}
    assert ("W", "l0.t1.operation") in edges
    assert {name for name in graph.nodes() if "@" not in name} == {box.id for box in picture.model.boxes}
    clusters = {cluster.name: set(cluster.nodes()) for cluster in graph.subgraphs()}
    outer = next(cluster for cluster in graph.subgraphs() if cluster.name == "cluster_l0")
    assert {cluster.name for cluster in outer.subgraphs()} == {f"cluster_l0.t{t}" for t in range(3)}
    assert clusters["cluster_l0"] == {box.id for box in picture.model.boxes if box.frame}


def test_a_frame_that_is_not_drawn_leaves_its_boxes_to_the_one_around() -> None:
    pygraphviz = pytest.importorskip("pygraphviz")
    picture = small()
    inner = Frame("t0.cell", "cell", "t0", None)
    boxes = tuple(
        replace(place, box=replace(place.box, frame="t0.cell")) if place.box.frame else place
        for place in picture.boxes
    )
    model = Model(picture.model.boxes, picture.model.arrows, (*picture.model.frames, inner))
    # A subgraph is a part of its graph's memory, which goes with the last name for it.
    graph = pygraphviz.AGraph(string=to_dot(replace(picture, model=model, boxes=boxes)))
    (cluster,) = graph.subgraphs()
    assert cluster.nodes() == ["t0.h"]


def test_the_text_is_braced_and_always_the_same() -> None:
    source = to_dot(everything())
    assert source.startswith("digraph {\n")
    assert source.endswith("\n}\n")
    assert source.count("{") == source.count("}")
    assert source == to_dot(everything())
    assert "layout=nop2" in source


def test_looks_are_applied(look: Look_at) -> None:
    seen = look(to_dot(everything()))

    (shape,) = seen.shapes("node", "l0.t0.state")
    assert shape.get("fill") == "#35318f"
    text = seen.groups["node"]["l0.t0.state"].find(f"{_SVG}text")
    assert text is not None
    assert text.get("fill") in ("#ffffff", "white")
    (shape,) = seen.shapes("node", "l0.t1.state")
    assert (shape.get("fill"), shape.get("stroke")) == ("#f5ae35", "#c63a7a")
    assert shape.get("stroke-width") == "3"
    assert shape.get("stroke-dasharray")
    stripes = {shape.get("fill") for shape in seen.shapes("node", "l0.t1.cell")}
    assert stripes > {
        KINDS["cell"].fill.lower(),
        FRAME.line.lower(),
    }
    (line,) = seen.groups["edge"]["l0.t0.operation->l0.t0.state"].findall(f"{_SVG}path")
    assert (line.get("stroke"), line.get("stroke-width")) == ("#ec6a3c", "4")
    for t, dashes in ((1, True), (2, True)):
        (line,) = seen.groups["edge"][f"l0.t{t}.operation->l0.t{t}.state"].findall(f"{_SVG}path")
        assert bool(line.get("stroke-dasharray")) is dashes
    (line,) = seen.groups["edge"]["l0.t0.state->l0.t1.state"].findall(f"{_SVG}path")
    assert line.get("stroke-dasharray") is None


def test_the_colours_of_kinds_and_lines(look: Look_at) -> None:
    seen = look(to_dot(replace(everything(), looks={})))
    for kind in ("input", "constant", "operation", "state", "cell", "output", "block"):
        (shape,) = seen.shapes("node", f"l0.t0.{kind}")
        assert shape.get("fill") == KINDS[kind].fill.lower()
        assert shape.get("stroke") == KINDS[kind].line.lower()
        assert bool(shape.get("stroke-dasharray")) is KINDS[kind].dashed
    # Parameters have corners, the others are rounded.
    assert seen.shapes("node", "W")[0].tag == f"{_SVG}polygon"


def test_marks_and_the_legend_are_the_background(look: Look_at) -> None:
    picture = everything()
    seen = look(to_dot(picture))
    assert {"norm of dL/dh", "bold", "parameter", "timesteps left out", "carried on in time"} <= set(
        seen.alone()
    )
    (graph,) = seen.root.iterfind(f"{_SVG}g")
    patches = [shape for shape in graph.iterfind(f"{_SVG}polygon") if shape.get("fill") == "#183080"]
    assert len(patches) == 1
    left, top, right, bottom = extent(patches[0])
    assert (left, top + picture.height) == pytest.approx((205.0, 670.0))
    assert (right, bottom + picture.height) == pytest.approx((230.0, 688.0))
    texts = {text.text: text for text in graph.iterfind(f"{_SVG}text")}
    assert texts["bold"].get("font-weight") == "bold"
    assert texts["norm of dL/dh"].get("text-anchor") == "end"
    dashed = [line for line in graph.iterfind(f"{_SVG}polyline") if line.get("stroke-dasharray")]
    assert [line.get("stroke") for line in dashed] == ["#c63a7a"]


@given(st.text(st.sampled_from('\\"Nab '), min_size=1, max_size=8), st.booleans())
def test_a_text_in_the_background_disturbs_none_after_it(look: Look_at, text: str, bold: bool) -> None:
    marks = (
        Text(10.0, 150.0, text, bold=bold),
        Patch(10.0, 170.0, 9.0, 9.0, "#123456"),
        Text(50.0, 180.0, "last"),
    )
    seen = look(to_dot(replace(small(), marks=marks)))
    assert "last" in seen.alone()
    assert seen.root.find(f".//{_SVG}polygon[@fill='#123456']") is not None


def test_any_number_of_marks(look: Look_at) -> None:
    # Graphviz reads no string of more than 16 kB in one piece.
    marks = [Patch(0.1 * i, 10.0, 0.1, 5.0, "#123456", "#654321", "dashed") for i in range(1000)]
    texts = [Text(10.0, 50.0, f'"{i}" {"漢" * i}') for i in range(0, 400, 9)]
    line = Stroke(tuple((float(i), i % 7.0) for i in range(3000)), "#ABCDEF")
    seen = look(to_dot(replace(small(), marks=(*marks, line, *texts))))
    assert len(seen.root.findall(f".//{_SVG}polyline[@stroke='#abcdef']")) == 1
    assert len(seen.root.findall(f".//{_SVG}polygon[@fill='#123456']")) == len(marks)
    assert {text.text for text in texts} <= set(seen.alone())


def test_a_long_label_is_no_reason_to_warn(capfd: pytest.CaptureFixture[str]) -> None:
    pygraphviz = pytest.importorskip("pygraphviz")
    picture = small("漢" * 30)
    place = replace(picture.boxes[1], width=40.0)
    pygraphviz.AGraph(string=to_dot(replace(picture, boxes=(picture.boxes[0], place)))).draw(
        format="svg", prog="dot"
    )
    assert "too small" not in capfd.readouterr().err


def test_a_look_without_anything_is_no_look() -> None:
    picture = small()
    source = to_dot(replace(picture, looks={"t0.h": Look()}))
    assert source == to_dot(picture)


def test_titles_begin_at_the_left(look: Look_at) -> None:
    seen = look(to_dot(small(title="a title")))
    (text,) = seen.groups["cluster"]["cluster_t0"].iter(f"{_SVG}text")
    begin: Any = text.get("x")
    assert float(begin) == pytest.approx(188.0, abs=4)
    assert text_width("a title", 12.0, True) < 60


def test_a_patch_without_a_line_has_straight_edges() -> None:
    bare = Picture(Model((), (), ()), 9.0, 9.0, (), (), ())
    frayed = replace(bare, marks=(Patch(1.0, 1.0, 5.0, 5.0, "#7D8795", pattern="dotted"),))
    solid = replace(bare, marks=(Patch(1.0, 1.0, 5.0, 5.0, "#7D8795"),))
    assert to_dot(frayed) == to_dot(solid)
    assert "dotted" in to_dot(replace(bare, marks=(replace(frayed.marks[0], line="#000000"),)))
