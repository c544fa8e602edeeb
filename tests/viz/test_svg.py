"""The SVG: what is written comes out as it was given, in one file that needs nothing else."""

from __future__ import annotations

import math
import re
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from dataclasses import replace
from itertools import combinations
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tensorgrad.viz.model import Model
from tensorgrad.viz.picture import Look, Patch, Picture, Text
from tensorgrad.viz.style import palette
from tensorgrad.viz.style.color import oklab
from tensorgrad.viz.style.palette import DARK, HUES, INK, KINDS, ink_on
from tensorgrad.viz.style.shapes import hatching, headed, legend
from tensorgrad.viz.style.text import LONGEST_NOTE, shortened, shown
from tensorgrad.viz.writers import svg
from tensorgrad.viz.writers.svg import to_svg

from .pictures import everything, small

_SVG = "{http://www.w3.org/2000/svg}"
ANY = st.text(st.characters(exclude_categories=()), min_size=1, max_size=40)


def parsed(picture: Picture) -> ET.Element:
    return ET.fromstring(to_svg(picture))


def by_id(root: ET.Element, name: str) -> ET.Element:
    (found,) = (element for element in root.iter() if element.get("id") == name)
    return found


def texts(element: ET.Element) -> list[str]:
    return [text.text or "" for text in element.iter(f"{_SVG}text")]


def colors(root: ET.Element) -> Iterator[str]:
    for element in root.iter():
        yield from (
            value for part in ("fill", "stroke") if (value := element.get(part)) not in (None, "none")
        )


def check_text(text: str) -> None:
    """Assert that a text comes out as itself wherever one may stand."""
    root = parsed(small(text, text, text, text, text))
    seen = shown(shortened(text))
    assert texts(by_id(root, "t0.h"))[0] == seen
    assert texts(by_id(root, "t0")) == [seen]
    # The arrow's label comes before the mark.
    assert texts(root).count(seen) >= 3
    assert shown(shortened(text, LONGEST_NOTE)) in texts(root)
    about = by_id(root, "t0.h").findtext(f"{_SVG}title") or ""
    assert about.endswith("\n" + "\n".join(shown(shortened(line, LONGEST_NOTE)) for line in text.split("\n")))
    assert shown(shortened(f"note {text}", LONGEST_NOTE)) in about
    assert not list(root.iter(f"{_SVG}script"))


@given(ANY)
@example("x" * 10_000)
@example("<b>x</b> &lt;")
@example(" a  b \"'")
@example("]]> <!--")
@example("</svg><script>alert(1)</script>")
@example("\ud800\ufffe\x00")
def test_a_text_comes_out_as_that_text(text: str) -> None:
    check_text(text)


@pytest.mark.parametrize("text", ["<b>x</b>", "&lt;", "</svg><script>alert(1)</script>"])
def test_an_unescaped_text_would_be_noticed(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(svg, "_escaped", lambda text: text)
    svg._line.cache_clear()
    with pytest.raises((ET.ParseError, AssertionError)):
        check_text(text)
    svg._line.cache_clear()


def test_every_box_and_frame_has_its_id_and_its_place() -> None:
    picture = everything()
    root = parsed(picture)
    ids = [element.get("id") for element in root.iter() if element.get("id")]
    assert len(ids) == len(set(ids)) == len(picture.boxes) + len(picture.outlines)
    for name, place in [(p.box.id, p) for p in picture.boxes] + [(o.frame.id, o) for o in picture.outlines]:
        rect = by_id(root, name).find(f"{_SVG}rect")
        assert rect is not None
        found = [float(rect.get(part) or 0) for part in ("x", "y", "width", "height")]
        assert found == pytest.approx([place.x, place.y, place.width, place.height], abs=0.06)
        assert by_id(root, name).findtext(f"{_SVG}title")
    for place in picture.boxes:
        assert texts(by_id(root, place.box.id)) == [line.text for line in place.lines]


def test_a_file_of_its_own_that_several_can_share_a_page() -> None:
    text = to_svg(everything())
    root = ET.fromstring(text)
    assert root.get("role") == "img"
    assert root.findtext(f"{_SVG}title") == "Computation graph from t=0 to t=2"
    assert "Parameters: W_hh." in (root.findtext(f"{_SVG}desc") or "")
    # Nothing is fetched, nothing runs, and nothing is referred to by an id that another drawing has too.
    for word in ("href", "url(", "script", "@import", "onload", "<image", "<use", "<marker"):
        assert word not in text
    (style,) = root.iter(f"{_SVG}style")
    rules = re.findall(r"([^{}]+)\{[^{}]*\}", (style.text or "").split("{", 1)[1])
    assert rules
    assert all(rule.startswith(".tgv") for rule in rules)
    assert to_svg(everything()) == text


def test_every_colour_has_its_dark_one() -> None:
    picture = everything()
    plain = replace(picture, looks={}, marks=tuple(mark for mark in picture.marks if isinstance(mark, Text)))
    assert set(colors(parsed(plain))) <= DARK.keys()
    assert f'[fill="{INK}"]' in to_svg(plain)
    assert f".tgv{{fill:{DARK[INK]}}}" in to_svg(plain)
    with pytest.raises(AssertionError):
        assert set(colors(parsed(picture))) <= DARK.keys()


def contrast(a: str, b: str) -> float:
    def luminance(color: str) -> float:
        parts = (int(color[i : i + 2], 16) / 255 for i in (1, 3, 5))
        r, g, b = (p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts)
        return 0.2126 * r + 0.7152 * g + 0.0722 * b

    low, high = sorted((luminance(a), luminance(b)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("page", ["light", "dark"])
def test_what_is_written_can_be_read(page: str) -> None:
    def seen(color: str) -> str:
        return DARK[color] if page == "dark" else color

    for paint in KINDS.values():
        assert contrast(seen(palette.INK), seen(paint.fill)) > 7
        assert contrast(seen(palette.FAINT), seen(paint.fill)) > 4
        assert contrast(seen(paint.line), seen(palette.FRAME.fill)) > 3
    behind = seen(palette.FRAME.fill)
    for ink in palette.WIRES.values():
        assert contrast(seen(ink.color), behind) > 3
    assert all(contrast(seen(hue), behind) > 3 for hue in HUES)
    assert contrast(seen(palette.FAINT), seen(palette.PAPER)) > 4.5


@given(st.integers(0, 0xFFFFFF))
def test_black_or_white_can_be_read_on_any_colour(color: int) -> None:
    fill = f"#{color:06X}"
    assert contrast(ink_on(fill), fill) >= max(contrast("#111111", fill), contrast("#FFFFFF", fill)) - 0.01
    assert contrast(ink_on(fill), fill) > 4.2


# Machado, Oliveira and Fernandes, "A physiologically-based model for simulation of color vision deficiency"
# (2009), table 1, severity 1.0.
_VISIONS = {
    "usual": [[1, 0, 0], [0, 1, 0], [0, 0, 1]],
    "no red": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    "no green": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.01182, 0.04294, 0.968881],
    ],
    "no blue": [
        [1.255528, -0.076749, -0.178779],
        [-0.078411, 0.930809, 0.147602],
        [0.004733, 0.691367, 0.3039],
    ],
}


@pytest.mark.parametrize("vision", _VISIONS)
@pytest.mark.parametrize("page", ["light", "dark"])
def test_rails_differ_for_every_vision(vision: str, page: str) -> None:
    def seen(color: str) -> Any:
        coded = np.array([int(color[i : i + 2], 16) for i in (1, 3, 5)]) / 255
        linear = np.where(coded <= 0.04045, coded / 12.92, ((coded + 0.055) / 1.055) ** 2.4)
        linear = np.clip(np.array(_VISIONS[vision]) @ linear, 0, 1)
        coded = np.where(linear <= 0.0031308, linear * 12.92, 1.055 * linear ** (1 / 2.4) - 0.055)
        return oklab("#" + "".join(f"{round(255 * part):02X}" for part in coded.tolist()))

    hues = [DARK[hue] if page == "dark" else hue for hue in HUES]
    assert min(np.linalg.norm(seen(a) - seen(b)) for a, b in combinations(hues, 2)) > 0.05


def test_looks_are_applied_and_stay_on_a_dark_page() -> None:
    root = parsed(everything())

    def box(name: str) -> tuple[ET.Element, ET.Element]:
        group = by_id(root, name)
        rect = group.find(f"{_SVG}rect")
        assert rect is not None
        return group, rect

    group, rect = box("l0.t0.state")
    assert group.get("style") == "fill:#FFFFFF"
    assert rect.get("style") == "fill:#35318F;"
    assert rect.get("fill") is None
    assert {text.get("fill") for text in group.iter(f"{_SVG}text")} == {None}
    assert (group.findtext(f"{_SVG}title") or "").endswith("\nnorm 0.3")
    group, rect = box("l0.t1.state")
    assert group.get("style") == "fill:#111111"
    assert rect.get("style") == "fill:#F5AE35;stroke:#C63A7A"
    assert rect.get("stroke-width") == "3"
    assert rect.get("stroke-dasharray")
    group, rect = box("l0.t1.cell")
    assert group.find(f"{_SVG}path") is not None
    assert rect.get("fill") == KINDS["cell"].fill
    assert box("l0.t1.input")[1].get("stroke-dasharray") != box("l0.t1.state")[1].get("stroke-dasharray")
    # The wires: one of its own colour, one dashed, one both.
    groups = [group for group in root.iter(f"{_SVG}g") if group.find(f"{_SVG}path[@fill='none']") is not None]
    own = [group for group in groups if (group.get("style") or "").startswith("fill:#EC6A3C")]
    assert len(own) == 1
    assert own[0].findtext(f"{_SVG}title") == "norm 3"
    line, tip = own[0].findall(f"{_SVG}path")
    assert line.get("stroke-width") == "4"
    assert tip.get("stroke") == "none"
    dashed = [path for path in root.iter(f"{_SVG}path") if path.get("stroke-dasharray")]
    assert len(dashed) == 3


def test_every_arrow_has_a_head_at_its_end() -> None:
    picture = everything()
    root = parsed(picture)
    heads = "".join(path.get("d") or "" for path in root.iter(f"{_SVG}path") if path.get("stroke") == "none")
    tips = {tuple(map(float, tip)) for tip in re.findall(r"M([0-9.]+) ([0-9.]+)L", heads)}
    assert tips >= {wire.points[-1] for wire in picture.wires if wire.arrow}
    assert heads.count("Z") == sum(wire.arrow for wire in picture.wires) + 1


@given(st.floats(0, 6.28), st.floats(1, 20))
def test_an_arrowhead_lies_along_its_line(angle: float, length: float) -> None:
    end = 40 * math.cos(angle), 40 * math.sin(angle)
    line, (tip, a, b) = headed([(0.0, 0.0), end], length)
    assert tip == end
    assert math.dist(line[-1], tip) == pytest.approx(length)
    assert math.dist(a, tip) == pytest.approx(math.dist(b, tip))
    assert math.dist(a, b) == pytest.approx(0.8 * length)
    assert math.hypot(*a) == pytest.approx(math.hypot(*b))


def test_a_wire_without_length_has_a_head_too() -> None:
    assert headed([(3.0, 3.0), (3.0, 3.0)], 6.0)[1][0] == (3.0, 3.0)
    assert headed([(3.0, 3.0)], 6.0)[1][0] == (3.0, 3.0)


@given(st.floats(1, 60), st.floats(1, 60))
def test_hatching_stays_inside(width: float, height: float) -> None:
    for (ax, ay), (bx, by) in hatching(10.0, 20.0, width, height):
        for x, y in ((ax, ay), (bx, by)):
            assert 10 - 1e-9 <= x <= 10 + width + 1e-9
            assert 20 - 1e-9 <= y <= 20 + height + 1e-9
        assert bx - ax == pytest.approx(ay - by)


@pytest.mark.parametrize("width", [40.0, 200.0, 770.0])
def test_the_legend_stands_above_everything(width: float) -> None:
    picture = replace(everything(), width=width)
    found = legend(picture)
    shapes = [(b.x, b.y, b.x + b.width, b.y + b.height) for b in found.boxes]
    (wire,) = found.wires
    assert len(found.texts) == 1
    shapes.append((wire.points[0][0], wire.points[0][1] - 4, found.width, wire.points[0][1] + 4))
    for left, top, right, bottom in shapes:
        assert 0 < left < right <= found.width <= max(width, 320.0)
        assert -found.height < top < bottom < 0
    for a, b in combinations(shapes, 2):
        assert a[2] <= b[0] or b[2] <= a[0] or a[3] <= b[1] or b[3] <= a[1]
    assert [b.lines[0].text for b in found.boxes] == [
        *("parameter", "input", "constant", "operation", "state", "cell", "output", "timesteps left out")
    ]
    root = parsed(picture)
    left, top, wide, high = map(float, (root.get("viewBox") or "").split())
    assert (left, top) == (0, -found.height)
    assert wide >= found.width
    assert high == picture.height + found.height
    assert "carried on in time" in texts(root)


def test_the_legend_has_only_what_there_is() -> None:
    found = legend(small())
    assert [b.box.kind for b in found.boxes] == ["parameter", "state"]
    assert not found.wires
    assert not found.texts
    empty = replace(small(), model=Model((), (), ()), boxes=(), outlines=(), wires=())
    assert legend(empty).height == 0
    assert parsed(empty).get("viewBox") == "0 0 600 200"


def test_only_texts_whose_width_is_in_doubt_are_given_one() -> None:
    def lengths(name: str) -> list[str | None]:
        return [text.get("textLength") for text in by_id(parsed(small(name)), "t0.h").iter(f"{_SVG}text")]

    assert lengths("W_hh") == [None, None, None]
    assert lengths("漢字") == ["24", None, None]
    assert lengths("a long name, of 30 letters ...")[0] is not None


def test_marks_are_drawn() -> None:
    root = parsed(everything())
    patches = [rect for rect in root.iter(f"{_SVG}rect") if rect.get("y") == "670"]
    assert len(patches) == 11
    assert patches[3].findtext(f"{_SVG}title") == "t=3"
    assert patches[3].get("fill") == "#183080"
    assert {"norm of dL/dh", "bold"} <= set(texts(root))
    assert [
        path.get("stroke-width") for path in root.iter(f"{_SVG}path") if path.get("stroke") == "#C63A7A"
    ] == ["2"]


def test_as_many_letters_for_each_box_however_many_there_are() -> None:
    def size(T: int) -> int:
        one = small()
        boxes, wires = list(one.boxes), []
        for t in range(T):
            box = replace(one.boxes[1].box, id=f"t{t}.h")
            boxes.append(replace(one.boxes[1], box=box, x=100.0 * t))
            wires.append(replace(one.wires[0], points=((100.0 * t, 40.0), (100.0 * t + 60.0, 40.0))))
        return len(to_svg(replace(one, boxes=tuple(boxes), wires=tuple(wires))))

    first, second, third = size(0), size(100), size(200)
    assert (third - second) / (second - first) < 1.05
    assert (second - first) / 100 < 500


def test_a_patch_may_have_any_hint() -> None:
    picture = replace(small(), marks=(Patch(0.0, 0.0, 5.0, 5.0, "#123456", hint="<b>&\n\x00"),))
    assert "<b>&\n␀" in [title.text for title in parsed(picture).iter(f"{_SVG}title")]


def test_a_look_may_have_a_hint_alone() -> None:
    picture = replace(small(), looks={"t0.h": Look(hint="only told")})
    group = by_id(parsed(picture), "t0.h")
    assert group.get("style") is None
    assert (group.findtext(f"{_SVG}title") or "").endswith("only told")
