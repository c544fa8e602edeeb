"""The page in a browser: comparisons, any graph, any text, and whatever the reader sees it with."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import pytest

from .pages import Shelf, media, option, point_at, press, settle, shelf, stage, text_of, watched
from .test_html import HOSTILE

if TYPE_CHECKING:
    from playwright.sync_api import Page


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shelf]:
    with shelf(tmp_path_factory.mktemp("pages")) as started:
        yield started


@pytest.fixture
def open_page(browser: Shelf) -> Iterator[Callable[..., Page]]:
    with watched(browser) as open_one:
        yield open_one


@pytest.fixture
def rnn(open_page: Callable[..., Page]) -> Page:
    return open_page("rnn")


# --- comparing ---------------------------------------------------------------------------------------------
def test_findings_lead_to_their_places(open_page: Callable[..., Page]) -> None:
    page = open_page("compared")
    press(page, "c")
    assert stage(page, "view") == "compare"
    assert "relative error" in text_of(page, "#legend")
    assert "agrees, within" in text_of(page, "#legend")
    findings = page.locator("#findings li")
    assert "First to differ" in findings.first.inner_text()
    findings.first.get_by_role("button").click()
    assert stage(page, "t") == "4"
    assert page.locator("#inspector").get_attribute("data-tensor") == "t4.h"
    assert "The first to differ" in text_of(page, "#inspector")
    assert "first to differ" in (option(page, "t4.h").get_attribute("aria-label") or "")
    assert "error 0.5" in (option(page, "t4.h").get_attribute("aria-label") or "")
    assert "error not compared" in (option(page, "t4.y").get_attribute("aria-label") or "")
    assert "relative error of h" in text_of(page, "#strips")
    media(page, media="print")
    paper = page.locator("#paper")
    assert "First to differ" in (paper.locator("ol").text_content() or "")
    assert paper.locator("text").all_text_contents().count("first to differ") == 1
    # At the cell level the error is at the cell, and so is the mark.
    media(page, media="screen")
    press(page, "2")
    label = option(page, "t4.cell").get_attribute("aria-label") or ""
    assert "error 0.5" in label
    assert label.endswith("first to differ")
    media(page, media="print")
    assert paper.locator("text").all_text_contents().count("first to differ") == 1
    # The rolled picture shows the worst of all timesteps, whichever is looked at.
    for keys in ((), ("ArrowLeft",)):
        media(page, media="screen")
        press(page, "3", *keys)
        media(page, media="print")
        assert paper.locator("text").all_text_contents().count("first to differ") == 1


def test_the_rolled_picture_shows_the_worst_error_of_all_timesteps(open_page: Callable[..., Page]) -> None:
    page = open_page("wrong once")
    assert (stage(page, "level"), stage(page, "view"), stage(page, "t")) == ("rolled", "compare", "6")
    assert "Boxes have the worst error of all timesteps." in text_of(page, "#legend")
    fills = []
    for t, own in ((6, "0.25"), (5, "0"), (0, "0")):
        press(page, *["ArrowLeft"] * (int(stage(page, "t")) - t))
        assert stage(page, "t") == str(t)
        label = option(page, "t4.cell").get_attribute("aria-label") or ""
        assert f"error {own}; at most 0.25, at t=6, first to differ" in label
        point_at(page, "t4.cell")
        assert f"error {own}; at most 0.25, at t=6" in text_of(page, "#hint")
        assert f"{own}; at most 0.25, at t=6" in text_of(page, "#inspector")
        media(page, media="print")
        boxes = page.locator("#paper rect").all()
        fills.append([box.get_attribute("fill") for box in boxes])
        media(page, media="screen")
    # Its colour too is that of the worst.
    assert fills[0] == fills[1] == fills[2]
    scale = page.evaluate("(({ error }) => error.fill(error.code(0.25)))(tensorgradPage.scales)")
    assert scale in fills[0]


# --- the triangle, the table -------------------------------------------------------------------------------
def test_the_triangle_is_read_by_pointer_and_keys(rnn: Page) -> None:
    panel = rnn.locator("#triangle")
    canvas = panel.locator("canvas")
    canvas.scroll_into_view_if_needed()
    canvas.focus()
    press(rnn, *["ArrowUp"] * 20, *["ArrowLeft"] * 20)
    assert re.match(r"dL_0/dh_0: \d", text_of(rnn, "#triangle-reading"))
    press(rnn, "ArrowRight")
    assert text_of(rnn, "#triangle-reading") == "dL_0/dh_1: nothing flows"
    press(rnn, "ArrowRight", "Enter")
    # The arrows moved through the triangle, and not through time.
    assert stage(rnn, "t") == "2"
    box = canvas.bounding_box()
    assert box is not None
    rnn.mouse.click(box["x"] + box["width"] * 0.46, box["y"] + box["height"] * 0.99)
    assert stage(rnn, "t") == "5"
    assert "dL_11/dh_5" in text_of(rnn, "#triangle-reading")


def test_the_timestep_as_a_table(rnn: Page) -> None:
    press(rnn, "ArrowRight")
    table = rnn.locator("#table table").first
    heads = table.locator("thead th").all_inner_texts()
    assert heads == ["name", "op", "shape", "‖value‖", "‖gradient‖"]
    rows = {
        row.locator("th").inner_text(): row.locator("td").all_inner_texts()
        for row in table.locator("tbody tr").all()
    }
    assert rows["h"][:2] == ["tanh", "(1, 3)"]
    assert rows["x"][3] == "none"
    assert "outside of the timesteps" in rows
    assert rows["loss"][0] == "mean"
    table.get_by_role("button", name="h", exact=True).click()
    settle(rnn)
    assert rnn.locator("#inspector").get_attribute("data-tensor") == "t1.h"


# --- light, dark, narrow, paper ----------------------------------------------------------------------------
def test_light_and_dark(rnn: Page) -> None:
    theme = "document.documentElement.dataset.theme"
    ink = "getComputedStyle(document.body).color"
    light = rnn.evaluate(ink)
    media(rnn, color_scheme="dark")
    assert rnn.evaluate(theme) == "dark"
    assert rnn.evaluate(ink) != light
    button = rnn.locator("#theme")
    button.click()
    assert rnn.evaluate(theme) == "light"
    assert button.get_attribute("aria-label") == "Theme: light"
    button.click()
    assert rnn.evaluate(theme) == "dark"
    button.click()
    assert button.get_attribute("aria-label") == "Theme: as the system has it"
    media(rnn, color_scheme="light")
    assert rnn.evaluate(theme) == "light"


def test_a_narrow_page(open_page: Callable[..., Page]) -> None:
    page = open_page("rnn", viewport={"width": 375, "height": 740})
    assert page.evaluate("document.documentElement.scrollWidth") <= 375
    for control in page.locator("button:visible, select:visible, input:visible").all():
        box = control.bounding_box()
        assert box is not None
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= 376
    press(page, "ArrowDown", "Enter", "b", "2", "3")
    assert stage(page, "level") == "rolled"


def test_on_paper(rnn: Page) -> None:
    press(rnn, "b")
    media(rnn, media="print", color_scheme="dark")
    assert not rnn.locator("main").is_visible()
    for control in ("#levels", "#views", "#search", "#print"):
        assert not rnn.locator(control).is_visible()
    assert rnn.locator("h1").is_visible()
    # On white paper, every timestep, and more than one row.
    assert rnn.evaluate("document.documentElement.dataset.theme") == "light"
    texts = rnn.locator("#paper text").all_text_contents()
    assert [f"t={t}" in texts for t in range(12)] == [True] * 12
    assert texts.count("h") == 12
    assert 1 < rnn.locator("#paper svg").count() < 6
    assert "norm of the gradient" in rnn.locator("#paper").inner_text()
    media(rnn, media="screen")
    assert rnn.locator("#paper").locator("*").count() == 0
    assert rnn.evaluate("document.documentElement.dataset.theme") == "dark"


def test_a_very_long_picture_is_printed_as_far_as_it_is_in_sight(open_page: Callable[..., Page]) -> None:
    page = open_page("long")
    media(page, media="print")
    assert page.locator("#paper svg").count() == 1
    assert "that was in sight" in page.locator("#paper").inner_text()


# --- any graph, any text -----------------------------------------------------------------------------------
@pytest.mark.parametrize("name", ["one", "plain", "two ways"])
def test_everything_can_be_done_with_any_graph(open_page: Callable[..., Page], name: str) -> None:
    page = open_page(name)
    for level in "123":
        press(
            page, level, "f", "0", "ArrowRight", "ArrowDown", "Enter", "b", "End", "ArrowUp", "Home", "c", "+"
        )
        page.mouse.move(300, 250)
        page.mouse.move(420, 330)
        settle(page)
    assert stage(page, "level") in ("op", "rolled")


def test_one_timestep(open_page: Callable[..., Page]) -> None:
    page = open_page("one")
    assert page.locator("#time").is_disabled()
    assert page.locator("#next").get_attribute("title") == "There is only one timestep"


def test_timesteps_that_begin_anywhere_and_leave_some_out(open_page: Callable[..., Page]) -> None:
    page = open_page("scattered")
    seen = [stage(page, "t")]
    for key in ("ArrowRight", "ArrowRight", "ArrowRight", "Home", "End", "ArrowLeft"):
        press(page, key)
        seen.append(stage(page, "t"))
    assert seen == ["5", "7", str(10**15), str(10**15), "5", str(10**15), "7"]
    press(page, "ArrowDown", "Enter")
    assert "through 3 timesteps" in (page.locator("#chart svg").get_attribute("aria-label") or "")
    page.get_by_role("slider", name="Timestep").fill("2")
    assert stage(page, "t") == str(10**15)
    press(page, "3", "ArrowLeft")
    assert page.locator("#inspector").get_attribute("data-tensor") == "t7.h"


def test_no_timesteps(open_page: Callable[..., Page]) -> None:
    page = open_page("plain")
    assert text_of(page, "#chart .body") == "There are no timesteps."
    for name in ("Cells", "Rolled"):
        assert page.get_by_role("radio", name=name).is_disabled()
    assert "All boxes" in text_of(page, "#table h2")
    press(page, "ArrowDown")
    assert page.evaluate("document.activeElement.id") == "box-loss"
    assert "timestep" not in (option(page, "loss").get_attribute("aria-label") or "")
    press(page, "2")
    assert stage(page, "level") == "op"


def test_labels_stay_text(open_page: Callable[..., Page]) -> None:
    page = open_page("hostile")
    count = page.locator("*").count()
    for _ in range(12):
        press(page, "ArrowDown")
    for level in "123":
        press(page, level, "ArrowDown", "Enter")
        page.mouse.move(300, 250)
    page.get_by_role("combobox", name="Search").fill("script")
    assert "<script>alert(1)</script>" in text_of(page, "#results")
    press(page, "Escape", "Escape")
    assert page.locator("script").count() == 2
    for tag in ("img", "b"):
        assert page.locator(tag).count() == 0
    table = page.locator("#table").inner_text()
    assert HOSTILE[1] in table
    assert page.title() == HOSTILE[1]
    assert page.locator("h1").inner_text() == HOSTILE[1]
    longest = max(len(x.get_attribute("aria-label") or "") for x in page.get_by_role("option").all())
    assert longest < 500
    assert page.evaluate("document.documentElement.scrollWidth") <= 1280
    assert count > 50
    media(page, media="print")
    assert any("<!--<script>" in text for text in page.locator("#paper text").all_text_contents())


def test_two_thousand_timesteps_open(open_page: Callable[..., Page], browser: Shelf) -> None:
    page = open_page("long")
    assert browser.file("long").stat().st_size < 8_000_000
    press(page, "End")
    assert stage(page, "t") == "1999"
    assert page.locator("*").count() < 1500
    press(page, "0")
    assert stage(page, "detail") == "blocks"
    page.get_by_role("slider", name="Timestep").fill("1234")
    assert stage(page, "t") == "1234"


# --- help, names -------------------------------------------------------------------------------------------
def test_help(rnn: Page) -> None:
    press(rnn, "?")
    dialog = rnn.get_by_role("dialog", name="Keys")
    assert dialog.is_visible()
    # Behind the open dialog keys do nothing.
    press(rnn, "ArrowRight")
    press(rnn, "Escape")
    assert not dialog.is_visible()
    assert stage(rnn, "t") == "0"
    rnn.get_by_role("button", name="Keys and help").click()
    dialog.get_by_role("button", name="Close").click()
    assert not dialog.is_visible()


def test_everything_has_a_name(rnn: Page) -> None:
    nameless = rnn.evaluate(
        """() => {
          const kinds = 'button, input, select, canvas, svg, [role=option], [role=group]';
          const named = (it) => it.getAttribute('aria-label') || it.textContent.trim() || it.labels?.length;
          const hidden = (it) => it.getAttribute('aria-hidden') === 'true' || it.id === 'said';
          const all = [...document.querySelectorAll(kinds)];
          return all.filter((it) => !named(it) && !hidden(it)).map((it) => it.outerHTML.slice(0, 80));
        }"""
    )
    assert nameless == []
    for landmark in ("banner", "main", "complementary", "search"):
        assert rnn.get_by_role(landmark).count() == 1, landmark
    ids = rnn.evaluate("[...document.querySelectorAll('[id]')].map(({ id }) => id)")
    assert len(ids) == len(set(ids))


def test_tab_goes_through_the_controls(rnn: Page) -> None:
    seen = []
    for _ in range(30):
        press(rnn, "Tab")
        seen.append(
            rnn.evaluate(
                "document.activeElement.id || document.activeElement.name || document.activeElement.tagName"
            )
        )
    for name in ("search", "theme", "help", "zoom-in", "play", "speed", "time"):
        assert name in seen, (name, seen)
    assert any(name.startswith("box-") for name in seen)
    # One stop for all boxes: the arrow keys go on from there.
    assert sum(name.startswith("box-") for name in seen) == 1


def test_the_data_is_the_page_s_own(rnn: Page) -> None:
    data = json.loads(rnn.locator("#data").text_content() or "")
    assert data["title"] == "rnn"
