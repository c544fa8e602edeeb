"""The report of a comparison: as text, as HTML, as a file, and as an error."""

from __future__ import annotations

import dataclasses
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tensorgrad as tg
from tensorgrad import nn
from tensorgrad.bptt.codes import CATALOGUE
from tensorgrad.bptt.compare import compare
from tensorgrad.bptt.doctor import Finding
from tensorgrad.bptt.report import Report, Row
from tensorgrad.errors import GradientError, UserError

NAMES = ["dh", "<script>alert(1)</script>", "a & b", "\x1b[2J\n\0", "x" * 200, '"><b onclick="f()">', "größe"]
SCRIPT = NAMES[1]


def report(T: int = 8, first: int = 5, name: str = "dh", **fields: Any) -> Report:
    """A record that goes wrong at `first` and is worse the further back; a weight that agrees."""
    errors = np.zeros(T)
    errors[: first + 1] = 10.0 ** -np.linspace(0, 6, first + 1)
    rows = [
        Row(name, (T, 2, 3), float(errors.max()), 0.5, False, 2.0),
        Row("W", (3, 3), 1e-16, 1.0, True, 1.0),
    ]
    values: dict[str, Any] = {"diagnosis": [Finding("BPTT004", "what a sends back to h[t-1]")], **fields}
    return Report(rows, 1e-9, {name: errors, "da": np.zeros(T)}, (name, first), **values)


def right_report() -> Report:
    rows = [Row("W", (3, 3), 0.0, 1.0, True, 1.0), Row("z", (3,), 0.0, float("nan"), True)]
    return Report(rows, 1e-9, {}, None)


# --- the pages are HTML: a browser that says what it sees -------------------------------------------------
class Page(HTMLParser):
    """The tags, their attributes and the text of a page."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text = ""
        self.titles: list[str] = []
        self.feed(source)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "br"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open[-1:] == ["title"]:
            self.titles.append(data)
        elif self.open[-1:] != ["style"]:
            self.text += data

    def all(self, tag: str, cls: str | None = None) -> list[dict[str, str | None]]:
        return [attrs for name, attrs in self.tags if name == tag and cls in (None, attrs.get("class"))]


# --- text ------------------------------------------------------------------------------------------------
def test_the_text_says_what_differs_and_where() -> None:
    lines = str(report()).splitlines()
    assert lines[0] == "The backward differs from the graph in 1 of 2 tensors."
    assert lines[2].split() == ["tensor", "shape", "error", "cosine", "ratio"]
    assert lines[3].split() == ["dh", "8x2x3", "1.0e+00", "0.500000", "2", "DIFFERS"]
    assert lines[4].split() == ["W", "3x3", "1.0e-16", "1.000000", "1", "agrees"]
    assert "First to differ, in the order of a backward: dh at t=5, by 1.0e-06; it differs at 6 of 8" in str(
        report()
    )


def test_the_text_names_the_mistake_with_its_lines() -> None:
    text = str(report())
    code = CATALOGUE["BPTT004"]
    assert f"BPTT004: {code.title}" in text
    assert "where  what a sends back to h[t-1]" in text
    assert f"wrong  {code.wrong}" in text
    assert f"right  {code.right}" in text


@pytest.mark.parametrize("code", sorted(CATALOGUE))
def test_every_mistake_of_the_catalogue_can_be_shown(code: str) -> None:
    found = report(diagnosis=[Finding(code, "somewhere")])
    text, page = str(found), Page(found.to_html())
    for line in (CATALOGUE[code].wrong + "\n" + CATALOGUE[code].right).splitlines():
        assert line in text
        assert line in page.text
    assert max(map(len, text.splitlines())) <= 100


def test_several_mistakes_stand_side_by_side() -> None:
    two = report(diagnosis=[Finding("BPTT007", "here"), Finding("BPTT008", "there")])
    for text in (str(two), Page(two.to_html()).text):
        assert "Each of these 2 mistakes explains the numbers" in text
        assert text.index("BPTT007") < text.index("BPTT008")


def test_where_nothing_is_known_the_residue_is_shown() -> None:
    odd = report(diagnosis=[], residue=["it is zero", "and more"])
    for text in (str(odd), Page(odd.to_html()).text):
        assert "No known mistake explains the numbers. What can be said of dh at t=5:" in text
        assert "it is zero" in text
        assert "and more" in text


def test_what_was_not_looked_for_is_not_said_to_be_unknown() -> None:
    text = str(report(diagnosis=[], residue=["it is zero"], diagnosed=False))
    assert "No mistake was looked for. What can be said of dh at t=5:" in text
    assert "No known mistake" not in text


def test_all_agreeing_is_one_table() -> None:
    text = str(right_report())
    assert text.startswith("The 2 tensors given agree with the graph, within 1e-09.")
    assert "differ" not in text.lower()
    assert text.splitlines()[-1].split() == ["z", "3", "0.0e+00", "-", "-", "agrees"]
    assert not Page(right_report().to_html()).all("svg")


def test_a_first_divergence_without_a_timestep() -> None:
    found = dataclasses.replace(report(), first_divergence=("W", None), diagnosis=[])
    assert "First to differ, in the order of a backward: W.\n" in str(found)
    assert "first ^" not in str(found)
    assert Page(found.to_html()).all("rect", "tg-first") == []


def test_a_number_has_the_shape_scalar() -> None:
    assert "scalar" in str(Report([Row("b", (), 0.0, 1.0, True)], 1e-9, {}, None))


def test_repr_is_one_line() -> None:
    assert repr(report()) == "Report(ok=False, first_divergence=('dh', 5), diagnosis=['BPTT004'])"


# --- the map ---------------------------------------------------------------------------------------------
def map_lines(found: Report) -> list[str]:
    lines = str(found).splitlines()
    start = next(k for k, line in enumerate(lines) if line.startswith("error at t ="))
    return lines[start : lines.index("", start)]


def test_the_map_has_a_character_a_timestep() -> None:
    ticks, dh, mark, da, legend = map_lines(report())
    assert dh.split() == ["dh", "@%#*+=.."]
    assert mark.index("^") == dh.index("=")
    assert da.split() == ["da", "........"]
    assert ticks.endswith(" 0")
    assert "each character" not in legend


@settings(max_examples=40)
@given(T=st.integers(1, 600), name=st.integers(1, 40).map("h".__mul__), data=st.data())
def test_the_map_keeps_every_error_however_long_time_is(T: int, name: str, data: Any) -> None:
    first = data.draw(st.integers(0, T - 1))
    errors = np.zeros(T)
    errors[first] = 0.5
    found = dataclasses.replace(report(T, first, name), steps={name: errors})
    ticks, dh, mark, legend = map_lines(found)
    assert max(map(len, (ticks, dh, mark, legend))) <= 100
    cells = dh.split()[1]
    (size,) = re.findall(r"each character is (\d+)", legend) or [1]
    assert len(cells) == -(-T // int(size))
    assert {k for k, c in enumerate(cells) if c != "."} == {first // int(size)}
    assert mark.index("^") == dh.index(cells) + first // int(size)


@pytest.mark.parametrize("error", [np.nan, np.inf, 1e300, 1.0])
def test_errors_beyond_all_bounds_are_as_dark_as_can_be(error: float) -> None:
    found = dataclasses.replace(report(), steps={"dh": np.array([0, error])}, first_divergence=("dh", 1))
    assert map_lines(found)[1].split() == ["dh", ".@"]
    assert "dh at t=1" in Page(found.to_html()).titles[-1]


def test_an_error_just_beyond_the_tolerance_shows() -> None:
    errors = np.array([1e-9, np.nextafter(1e-9, 1), 0.999])
    found = dataclasses.replace(report(), steps={"dh": errors}, first_divergence=("dh", 2))
    assert map_lines(found)[1].split() == ["dh", ".:%"]


# --- names that are anything -----------------------------------------------------------------------------
@pytest.mark.parametrize("name", NAMES)
def test_the_text_is_a_hundred_columns_of_plain_characters(name: str) -> None:
    text = str(report(T=300, first=200, name=name))
    assert max(map(len, text.splitlines())) <= 100
    assert all(c == "\n" or c.isprintable() for c in text)


@pytest.mark.parametrize("name", NAMES)
def test_a_name_never_becomes_markup(name: str) -> None:
    plain = Page(report().to_html())
    evil = Page(report(name=name, diagnosis=[Finding("BPTT004", name)], residue=[name]).to_html())
    assert [tag for tag, _ in evil.tags if tag not in ("ul", "li")] == [tag for tag, _ in plain.tags]
    assert not any(key.startswith("on") for _, attrs in evil.tags for key in attrs)
    assert evil.open == []


def test_the_page_shows_a_name_as_it_is() -> None:
    page = Page(report(name=SCRIPT).to_html())
    assert SCRIPT in page.text
    assert f"{SCRIPT} at t=5: 1.0e-06, the first to differ" in page.titles


# --- the page --------------------------------------------------------------------------------------------
@pytest.mark.parametrize("T", [1, 8, 300, 1000])
def test_the_page_has_a_cell_for_each_timestep_until_there_are_too_many(T: int) -> None:
    page = Page(report(T, T // 2).to_html())
    cells = [attrs for attrs in page.all("rect") if attrs.get("class") != "tg-first"]
    assert len(cells) == 2 * (T if T <= 400 else -(-T // -(-T // 400)))
    assert len(page.all("rect", "tg-first")) == 1
    (svg,) = page.all("svg")
    assert all(float(c["x"]) + float(c["width"]) <= float(svg["width"]) for c in cells)
    assert all(float(c["y"]) + float(c["height"]) <= float(svg["height"]) for c in cells)
    assert sum("the first to differ" in title for title in page.titles) == 1


def test_worse_errors_are_darker_cells() -> None:
    page = Page(report().to_html())
    shades = [float(attrs["fill-opacity"]) for attrs in page.all("rect", "tg-no")]
    assert shades == sorted(shades, reverse=True)
    assert len(page.all("rect", "tg-yes")) == 2 + 8
    # A style sheet overrules attributes, so it must leave the shade to the cell.
    assert "fill-opacity" not in "".join(re.findall(r"<style>.*?</style>", report().to_html(), re.DOTALL))


def test_the_page_needs_nothing_from_elsewhere() -> None:
    source = report().to_html()
    page = Page(source)
    assert source.startswith("<!DOCTYPE html>")
    assert not {"script", "link", "img", "iframe", "object"} & {tag for tag, _ in page.tags}
    assert not re.search(r"https?:|url\(|@import|src=|href=", source)
    assert page.open == []


def test_the_notebook_gets_a_part_of_a_page() -> None:
    part = report()._repr_html_()
    assert part in report().to_html()
    assert not {"html", "head", "body", "script"} & {tag for tag, _ in Page(part).tags}


def test_saving(tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    found = report(name="größe")
    found.save(path)
    found.save(str(path))
    assert path.read_text(encoding="utf-8") == found.to_html()
    with pytest.raises(UserError, match="cannot write"):
        found.save(tmp_path / "missing" / "report.html")


# --- in tests --------------------------------------------------------------------------------------------
def test_raising() -> None:
    right_report().raise_if_different()
    found = report()
    with pytest.raises(GradientError) as caught:
        found.raise_if_different()
    assert str(caught.value) == str(found)
    with pytest.raises(AssertionError):
        found.raise_if_different()


# --- from a comparison -----------------------------------------------------------------------------------
def test_a_comparison_says_what_it_can_of_a_mistake_nobody_knows() -> None:
    T, B, H = 6, 3, 4
    rng = np.random.default_rng(0)
    W = tg.tensor(rng.normal(size=(H, H)), requires_grad=True, name="W")

    def cell(x: Any, h: Any) -> Any:
        h = tg.label(tg.tanh(x + h @ W), "h")
        return h, h

    roll = nn.unroll(cell, rng.normal(size=(T, B, H)), rng.normal(size=(B, H)))
    loss = (roll.outputs * rng.normal(size=(T, B, H))).sum()
    dh = np.stack(tg.grad(loss, [step["h"] for step in roll.steps]))
    right = compare(loss, {"dh": dh}, {"W": W}, roll)
    assert right.ok
    assert right.residue == []
    dh[3, 1, 2:] *= 1.7
    found = compare(loss, {"dh": dh}, {"W": W}, roll)
    assert found.first_divergence == ("dh", 3)
    assert found.residue == [
        "it differs in row 1 of the batch and units 2, 3 only, where it is 1.7 times the right gradient"
    ]
    assert not compare(loss, {"dh": dh}, {"W": W}, roll, diagnosis=False).diagnosed
    (dW,) = tg.grad(loss, [W])
    found = compare(loss, {"W": dW / B**2}, {"W": W}, roll, diagnosis=False)
    assert found.residue == ["it is 0.111111 times the right gradient"]
    assert found.rows[0].ratio == pytest.approx(1 / 9)
    assert compare(loss, {"W": dW / B}, {"W": W}, roll, diagnosis=False).residue == [
        "it is 0.333333 = 1/B times the right gradient"
    ]
