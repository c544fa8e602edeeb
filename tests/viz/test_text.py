"""Widths of texts, what of them is shown, and the lines of a box."""

from __future__ import annotations

import unicodedata
import xml.etree.ElementTree as ET
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tensorgrad.viz.model import Box
from tensorgrad.viz.style import text as texts
from tensorgrad.viz.style.text import (
    LONGEST,
    PADDING,
    STYLES,
    baselines,
    description,
    lines_of,
    measurable,
    shortened,
    shown,
    size_of,
    text_width,
)

# Surrogates too: a label may hold anything that a str can.
ANY = st.text(st.characters(exclude_categories=()), max_size=60)


def box(**changes: Any) -> Box:
    plain = Box("t0.h", "state", "h", "tanh", "(1, 16)", "float64", "t0", "h", ("scope t=0",))
    return replace(plain, **changes)


@pytest.mark.parametrize(("font", "bold"), [("Helvetica", False), ("Helvetica-Bold", True)])
def test_widths_are_those_of_helvetica(font: str, bold: bool) -> None:
    matplotlib = pytest.importorskip("matplotlib")
    agl = pytest.importorskip("fontTools.agl")
    path = Path(matplotlib.get_data_path()) / "fonts" / "pdfcorefonts" / f"{font}.afm"
    seen = 0
    for line in path.read_text(encoding="latin-1").splitlines():
        if not line.startswith("C "):
            continue
        fields = dict(field.split(maxsplit=1) for field in map(str.strip, line.split(";")) if " " in field)
        letter = agl.toUnicode(fields["N"])
        if len(letter) == 1 and (" " <= letter <= "~" or "¡" <= letter <= "ÿ") and letter != "`":
            seen += 1
            found, true = text_width(letter, 1000, bold), float(fields["WX"])
            assert found == true if letter.isascii() and letter.isalnum() else found > true - 45, letter
    assert seen > 150


def test_the_two_tables_know_the_same_letters() -> None:
    regular, bold = texts._WIDTHS
    assert regular.keys() == bold.keys()
    for table in (texts._REGULAR, texts._BOLD):
        letters = "".join(table.values())
        assert len(letters) == len(set(letters))


@given(ANY, ANY, st.booleans())
def test_a_text_is_as_wide_as_its_parts(a: str, b: str, bold: bool) -> None:
    assert text_width(a + b, 10.0, bold) == pytest.approx(
        text_width(a, 10.0, bold) + text_width(b, 10.0, bold)
    )
    assert text_width(a, 20.0, bold) == pytest.approx(2 * text_width(a, 10.0, bold))


def test_accents_take_no_room_and_other_alphabets_a_full_square() -> None:
    assert text_width("h\N{COMBINING CIRCUMFLEX ACCENT}", 10.0) == text_width("h", 10.0)
    assert text_width("漢字", 10.0) == 20.0
    assert not measurable("h\N{COMBINING CIRCUMFLEX ACCENT}")
    assert measurable("∂L/∂W_hh × 3 ≤ 1e-3 Σ")


@given(ANY)
@example("\ud800")
@example("\u202eevil")
@example("line\u2028break")
def test_what_is_shown_can_be_shown(text: str) -> None:
    found = shown(text)
    assert len(found) == len(text)
    assert shown(found) == found
    assert not any(unicodedata.category(letter) in ("Cc", "Cs", "Zl", "Zp") for letter in found)
    assert not any("\u202a" <= letter <= "\u202e" or "\u2066" <= letter <= "\u2069" for letter in found)
    assert ET.fromstring(f"<a>{found.replace('&', '&amp;').replace('<', '&lt;')}</a>").text in (
        found,
        found or None,
    )


@given(st.text(st.characters(categories=("L", "N", "P", "S", "Zs"))))
def test_what_can_be_shown_stays_as_it_is(text: str) -> None:
    assert shown(text) == text


def test_control_characters_become_their_pictures() -> None:
    assert shown("a\x00b\n\t\x1b[31m\x7f\x85") == "a␀b␊␉␛[31m␡\ufffd"


@given(ANY, st.integers(1, 50))
def test_shortened(text: str, most: int) -> None:
    found = shortened(text, most)
    assert len(found) == min(len(text), most)
    if len(text) > most:
        begin, end = found.split("…")[0] if "…" not in text else "", found[most // 2 + 1 :]
        assert text.startswith(begin)
        assert text.endswith(end)
    else:
        assert found == text


def test_lines_of_a_box() -> None:
    assert [(line.style, line.text) for line in lines_of(box(), ["norm 0.1"])] == [
        ("name", "h"),
        ("op", "tanh"),
        ("type", "(1, 16) float64"),
        ("note", "norm 0.1"),
    ]
    assert [line.style for line in lines_of(box(name=""))] == ["op", "type"]
    assert [line.style for line in lines_of(box(op=""))] == ["name", "type"]
    assert [line.style for line in lines_of(box(shape="", dtype=""))] == ["name", "op"]
    assert lines_of(box(name="a\n" + "x" * 10_000))[0].text.startswith("a␊x")
    assert all(len(line.text) <= LONGEST for line in lines_of(box(name="x" * 10_000), ["y" * 99]))


@given(st.text(max_size=40), st.text(max_size=40), st.lists(st.text(max_size=40), max_size=3))
def test_a_box_holds_its_lines(name: str, op: str, extra: list[str]) -> None:
    lines = lines_of(box(name=name, op=op), extra)
    width, height = size_of(lines)
    for line in lines:
        style = STYLES[line.style]
        assert text_width(line.text, style.size, style.bold) + 2 * PADDING[0] <= width
    heights = baselines(lines, 100.0, height)
    sizes = [STYLES[line.style].size for line in lines]
    assert heights[0] - 0.72 * sizes[0] >= 100 + PADDING[1]
    assert heights[-1] + 0.2 * sizes[-1] <= 100 + height - PADDING[1]
    for (above, _), (below, size) in pairwise(zip(heights, sizes, strict=True)):
        assert below - 0.72 * size > above + 0.1 * size


def test_a_description_says_all_that_is_known() -> None:
    assert description(box()) == "h = tanh, state (1, 16) float64\nscope t=0"
    assert description(box(name="")).startswith("tanh, state")
    assert description(box(name="490 timesteps", op="t = 5 to 494", shape="", dtype="")).startswith(
        "490 timesteps = t = 5 to 494, state\n"
    )
    assert len(description(box(name="x" * 10_000))) < 600
    assert "\n" not in description(box(name="a\nb")).splitlines()[0]
