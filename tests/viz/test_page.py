"""The page in a browser: what its controls, keys and pointers do to the picture."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import numpy as np
import pytest

from .pages import (
    Shelf,
    media,
    middle,
    option,
    point_at,
    point_at_wire,
    press,
    printed,
    settle,
    shelf,
    stage,
    text_of,
    view_of,
    watched,
    zoom,
)

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


# --- levels, views -----------------------------------------------------------------------------------------
def test_levels_keep_the_timestep(rnn: Page) -> None:
    press(rnn, "ArrowRight", "ArrowRight")
    for level, words in (("cell", "Cells"), ("rolled", "Rolled"), ("op", "Operations")):
        rnn.get_by_role("radio", name=words).check()
        assert stage(rnn, "level") == level
        assert stage(rnn, "t") == "2"
    for key, level in (("2", "cell"), ("3", "rolled"), ("1", "op")):
        press(rnn, key)
        assert stage(rnn, "level") == level
        assert rnn.locator(f"input[value={level}]").is_checked()


def test_views_by_choice_and_by_key(rnn: Page) -> None:
    rnn.get_by_role("radio", name="Backward").check()
    assert stage(rnn, "view") == "backward"
    assert "norm of the gradient" in text_of(rnn, "#legend")
    press(rnn, "b")
    assert stage(rnn, "view") == "forward"
    assert "parameter" in text_of(rnn, "#legend")
    press(rnn, "b")
    assert stage(rnn, "view") == "backward"
    press(rnn, "f")
    assert stage(rnn, "view") == "forward"
    assert rnn.get_by_role("radio", name="Forward").is_checked()


def test_what_is_not_there_says_why(open_page: Callable[..., Page]) -> None:
    page = open_page("bare")
    for name, why in (
        ("Backward", "backward=True"),
        ("Compare", "compare="),
        ("Cells", "without this level"),
    ):
        choice = page.get_by_role("radio", name=name)
        assert choice.is_disabled()
        assert why in (choice.locator("xpath=..").get_attribute("title") or "")
    press(page, "b", "c", "2", "3", "ArrowDown", "Enter")
    assert (stage(page, "view"), stage(page, "level")) == ("forward", "op")
    assert "values=True" in text_of(page, "#chart")
    assert not page.locator("#strips").is_visible()
    assert not page.locator("#triangle").is_visible()
    assert "‖" not in text_of(page, "#table")


def test_strips_with_scales_of_their_own_say_so(rnn: Page) -> None:
    assert "colours go from 0% to 100%" not in text_of(rnn, "#legend")
    press(rnn, "b")
    assert "1 is in the middle of the colours; shares: the colours go from 0%" in text_of(rnn, "#legend")


def test_a_gradient_is_drawn_by_its_norm(open_page: Callable[..., Page]) -> None:
    page = open_page("odd")
    page.evaluate("document.getElementById('chart').open = true")
    forward = {line["stroke"] for line in printed(page)}
    press(page, "b")
    backward = printed(page)
    widths = {float(line["stroke-width"]) for line in backward}
    assert len(widths) > 4
    assert len({line["stroke"] for line in backward} - forward) > 4
    special = page.evaluate("tensorgradPage.data.special")
    for kind in ("zero", "unknown", "nan", "infinite"):
        mine = [line for line in backward if line["stroke"].lower() == special[kind]["color"].lower()]
        assert mine, kind
        assert special[kind]["words"] in text_of(page, "#legend")
    dashes = {
        special[k]["color"]: {
            x.get("stroke-dasharray") for x in backward if x["stroke"] == special[k]["color"]
        }
        for k in special
    }
    assert dashes[special["zero"]["color"]] != dashes[special["unknown"]["color"]]


# --- time --------------------------------------------------------------------------------------------------
def test_scrubbing(rnn: Page) -> None:
    scrubber = rnn.get_by_role("slider", name="Timestep")
    scrubber.fill("7")
    assert stage(rnn, "t") == "7"
    assert scrubber.get_attribute("aria-valuetext") == "timestep 7, from 0 to 11"
    assert "t = 7" in text_of(rnn, "#now")
    assert "Timestep 7" in text_of(rnn, "#table h2")
    assert rnn.locator("#boxes").get_attribute("aria-label") == "Boxes of timestep 7"
    assert option(rnn, "t7.h").count() == 1
    rnn.wait_for_selector("#said:has-text('Timestep 7 of 0 to 11')", state="attached")


def test_keys_move_through_time(rnn: Page) -> None:
    for keys, t in (
        (["ArrowRight", "ArrowRight", "ArrowLeft"], "1"),
        (["ArrowLeft", "ArrowLeft"], "0"),
        (["End"], "11"),
        (["ArrowRight"], "11"),
        (["Shift+ArrowLeft"], "1"),
        (["Home", "Shift+ArrowRight", "Shift+ArrowRight"], "11"),
        (["Home"], "0"),
    ):
        press(rnn, *keys)
        assert stage(rnn, "t") == t, keys
        # The timestep is in sight, wherever it is.
        assert 0 <= middle(option(rnn, f"t{t}.h"))[0] < 920


def test_buttons_move_through_time(rnn: Page) -> None:
    rnn.get_by_role("button", name="Next timestep").click()
    rnn.get_by_role("button", name="Next timestep").click()
    rnn.get_by_role("button", name="Previous timestep").click()
    assert stage(rnn, "t") == "1"


def test_a_click_on_a_strip_or_a_column_goes_there(rnn: Page) -> None:
    strips = rnn.locator("#strip-canvas").bounding_box()
    assert strips is not None
    times = rnn.evaluate(
        "tensorgradPage.level().columns.map(({from, to}) => tensorgradPage.camera().toX((from + to) / 2))"
    )
    rnn.mouse.click(strips["x"] + times[2], strips["y"] + 20)
    assert stage(rnn, "t") == "2"
    rnn.mouse.click(strips["x"] + times[1], 60)
    assert stage(rnn, "t") == "1"
    assert "norm of dL/dh" in text_of(rnn, "#strips")


# --- boxes -------------------------------------------------------------------------------------------------
def test_the_focus_moves_through_the_boxes(rnn: Page) -> None:
    names, heights = [], []
    for _ in range(4):
        press(rnn, "ArrowDown")
        names.append(rnn.evaluate("document.activeElement.id"))
        heights.append(middle(rnn.locator(":focus"))[1])
    assert names[0] == "box-t0.L"
    assert len(set(names)) == 4
    # Downwards on the screen, and in the next timestep at the same place.
    assert heights == sorted(heights)
    press(rnn, *["ArrowUp"] * (3 - names.index("box-t0.y")), "ArrowRight")
    assert rnn.evaluate("document.activeElement.id") == "box-t1.y"
    assert rnn.locator("#boxes [tabindex='0']").count() == 1
    words = option(rnn, "t1.y").get_attribute("aria-label") or ""
    for part in ("y", "linear", "(1, 5)", "timestep 1", "norm of value", "norm of gradient"):
        assert part in words
    assert rnn.locator("#inspector").get_attribute("data-tensor") == "t1.y"
    # Every box is one of a list to who cannot see, parameters too.
    names = [box.get_attribute("aria-label") or "" for box in rnn.get_by_role("option").all()]
    assert any(name.startswith("loss, output") for name in names)
    assert sum(", parameter, " in name for name in names) == 6


def test_no_gradient_is_not_a_gradient_of_nothing(rnn: Page) -> None:
    assert "not backpropagated" in (option(rnn, "t0.x").get_attribute("aria-label") or "")
    point_at(rnn, "t0.x")
    assert "No gradient reaches it" in text_of(rnn, "#inspector")


def test_hovering_tells_about_a_box(rnn: Page) -> None:
    point_at(rnn, "t0.h")
    hint = text_of(rnn, "#hint")
    panel = text_of(rnn, "#inspector")
    for words in (hint, panel):
        assert "tanh" in words
        assert "(1, 3) float64" in words
    norm = rnn.evaluate("tensorgradPage.data.values.norm(tensorgradPage.inspected())")
    assert f"{norm:.4g}" in hint
    assert f"{norm:.4g}" in panel
    figures = rnn.locator("#inspector figure")
    assert figures.count() == 2
    assert "Heat map of the gradient, 1 × 3 cells" in (figures.nth(1).get_attribute("aria-label") or "")
    colors = "(it) => new Set(it.getContext('2d').getImageData(0, 0, it.width, it.height).data).size"
    painted = figures.first.locator("canvas").first.evaluate(colors)
    assert painted > 3
    rnn.mouse.move(1270, 790)
    settle(rnn)
    assert not rnn.locator("#hint").is_visible()


def test_a_cell_of_several_states_tells_of_each(open_page: Callable[..., Page]) -> None:
    page = open_page("saved")
    norms = page.evaluate(
        """() => {
          const { grads, tensors } = tensorgradPage.data;
          const ids = [...Array(tensors.count).keys()].map((i) => [tensors.id(i), grads.norm(i)]);
          return Object.fromEntries(ids.filter(([id]) => ['t0.c', 't0.h', 't0.cell'].includes(id)));
        }"""
    )
    assert norms["t0.cell"] == max(norms["t0.c"], norms["t0.h"])
    assert norms["t0.c"] != norms["t0.h"]
    words = "‖gradient‖ c {:.4g}, h {:.4g}".format(norms["t0.c"], norms["t0.h"])
    for level, focus in (("2", "t0.cell"), ("3", "t3.cell")):
        press(page, level)
        point_at(page, focus)
        assert words in text_of(page, "#hint")
        assert page.locator("#inspector caption").all_inner_texts() == ["c", "h"]


def test_hovering_tells_what_flows_along_a_wire(rnn: Page) -> None:
    words = point_at_wire(rnn, "t0.a", "t0.h")
    assert re.search(r"a \(t=0\) → h \(t=0\)\s*flows back: norm 0\.\d+", words)
    assert point_at_wire(rnn, "t0.x", "t0.a").endswith("no gradient flows back")


def test_a_checkpointed_run_says_why_it_has_no_timesteps(open_page: Callable[..., Page]) -> None:
    page = open_page("checkpointed run")
    for name in ("Cells", "Rolled"):
        radio = page.get_by_role("radio", name=name)
        assert radio.is_disabled()
        why = radio.locator("xpath=..").get_attribute("title") or ""
        assert "inside a checkpoint is not on record: unroll without" in why
    play = page.get_by_role("button", name="Play")
    assert play.is_disabled()
    press(page, "Space")
    assert page.evaluate("[tensorgradPage.state.playing, tensorgradPage.state.now]") == [False, None]
    point_at(page, "h_t_4")
    assert "one checkpoint: t=3 to 5" in text_of(page, "#inspector")


def test_what_is_inside_a_checkpoint_is_said_to_be_not_on_record(open_page: Callable[..., Page]) -> None:
    page = open_page("checkpointed")
    words = "inside a checkpoint: not on record"
    assert point_at_wire(page, "t1.a", "t1.h").endswith(words)
    assert re.search(r"flows back: norm \d", point_at_wire(page, "t0.a", "t0.h"))
    assert "no gradient" in point_at_wire(page, "t1.x", "t1.a")
    # In the rolled picture that holds of some timesteps.
    press(page, "3")
    said = []
    for _ in range(4):
        said.append(words in point_at_wire(page, "t2.a", "t2.h"))
        press(page, "ArrowRight")
    assert said == [False, True, True, False]


def test_what_is_not_on_record_looks_as_in_the_forward_view(open_page: Callable[..., Page]) -> None:
    page = open_page("checkpointed")
    press(page, "0")
    plain = {line["stroke"] for line in printed(page)}
    press(page, "b")
    special = page.evaluate("tensorgradPage.data.special")
    kept = [line for line in printed(page) if line["stroke"] in plain]
    assert kept
    assert not any("stroke-dasharray" in line for line in kept)
    odd = {line["stroke"] for line in printed(page)} & {look["color"] for look in special.values()}
    assert {special["unknown"]["color"], special["zero"]["color"]} <= odd
    assert not odd & plain


def test_lines_of_the_rolled_picture_have_the_numbers_of_the_timestep(open_page: Callable[..., Page]) -> None:
    page = open_page("saved")
    press(page, "ArrowRight", "ArrowRight")
    flows = page.evaluate(
        """() => {
          const { data } = tensorgradPage;
          const { boxes, wires } = data.levels.get('cell');
          const id = (box) => (box >= 0 ? data.tensors.id(boxes.tensor[box]) : '');
          const isIt = (i) => id(wires.tail[i]) === 't1.cell' && id(wires.head[i]) === 't2.cell';
          return [...wires.flow.keys()].filter(isIt).map((i) => wires.flow[i]);
        }"""
    )
    assert len(set(flows)) == 2
    for nth, flow in enumerate(flows):
        words = point_at_wire(page, "t3.cell", "t3.cell", nth)
        assert re.search(r"\(t=1\) → .* \(t=2\)", words)
        assert float(words.rpartition(" ")[2]) == pytest.approx(flow, rel=1e-3)
    option(page, "t3.cell").focus()
    settle(page)
    links = page.locator("#inspector .links").all_inner_texts()
    assert [f"c, h (t={t})" in text for text, t in zip(links, (1, 3), strict=True)] == [True, True]
    # The first timestep has none before it.
    press(page, "Home")
    assert point_at_wire(page, "t3.cell", "t3.cell").endswith("not at t=0\nno gradient flows back")


def test_what_happens_once_is_said_at_every_timestep_of_the_rolled_picture(
    open_page: Callable[..., Page],
) -> None:
    page = open_page("last only")
    press(page, "3")
    for key in ("Home", "End"):
        press(page, key)
        words = point_at_wire(page, "t2.h", "sum")
        assert "flows back: norm 1.732" in words
        assert ("h (t=3)" in words) == (key == "End")


def test_the_label_of_a_loop_stands_clear_of_its_box(open_page: Callable[..., Page]) -> None:
    page = open_page("saved")
    media(page, media="print")
    crossed = page.evaluate(
        """() => {
          const label = [...document.querySelectorAll('#paper text')].find((it) => it.textContent[0] === '×');
          const { x, y, width, height } = label.getBBox();
          const within = (one) => one.x <= x && x + width <= one.x + one.width;
          const beside = (one) => one.x + one.width <= x || x + width <= one.x;
          const apart = (one) => beside(one) || one.y + one.height <= y || y + height <= one.y;
          const rects = [...document.querySelectorAll('#paper rect')].map((it) => it.getBBox());
          const over = rects.filter((one) => !apart(one) && !(within(one) && one.height > 5 * height)).length;
          // Nor is it struck through by a line: in the print its letters stand on one that is no taller.
          const [middle, across] = [x + width / 2, y + height / 2];
          const lines = [...document.querySelectorAll('#paper path[stroke]')];
          const struck = lines.filter((line) => {
            const length = line.getTotalLength();
            for (let at = 0; at < length; at += 1) {
              const { x: u, y: v } = line.getPointAtLength(at);
              if (Math.abs(u - middle) < width / 2 && Math.abs(v - across) < height / 4) return true;
            }
            return false;
          });
          return over + struck.length;
        }"""
    )
    media(page, media="screen")
    assert crossed == 0


def test_the_rolled_picture_says_whose_numbers_it_has(open_page: Callable[..., Page]) -> None:
    page = open_page("saved")
    assert "Boxes and lines have the numbers of t=0; the strips have all." in text_of(page, "#legend")
    press(page, "ArrowRight")
    assert "have the numbers of t=1; the strips" in text_of(page, "#legend")
    for key in ("f", "2"):
        press(page, key)
        assert "have the numbers" not in text_of(page, "#legend")


def test_pinning_follows_a_tensor_through_time(rnn: Page) -> None:
    settle(rnn)
    rnn.mouse.click(*middle(option(rnn, "t0.h")))
    settle(rnn)
    assert option(rnn, "t0.h").get_attribute("aria-selected") == "true"
    chart = rnn.locator("#chart")
    assert (chart.get_attribute("data-series"), chart.get_attribute("data-pinned")) == ("t0.h", "true")
    plot = chart.locator("svg")
    assert "through 12 timesteps" in (plot.get_attribute("aria-label") or "")
    assert plot.locator("path.line").count() == 2
    before = plot.locator(".mark").get_attribute("x1")
    press(rnn, "ArrowRight", "ArrowRight")
    assert plot.locator(".mark").get_attribute("x1") != before
    assert option(rnn, "t2.h").get_attribute("aria-selected") == "true"
    assert "t=2" in text_of(rnn, "#chart .words")
    # Another level shows the same tensor.
    press(rnn, "3")
    assert rnn.locator("#inspector").get_attribute("data-tensor") == "t2.h"
    press(rnn, "1", "Escape")
    assert chart.get_attribute("data-pinned") == "false"
    assert rnn.locator("#boxes [aria-selected=true]").count() == 0
    press(rnn, "Enter")
    assert chart.get_attribute("data-pinned") == "true"
    rnn.get_by_role("button", name="Unpin").click()
    settle(rnn)
    assert chart.get_attribute("data-pinned") == "false"


def test_the_chart_goes_where_it_is_clicked(rnn: Page) -> None:
    press(rnn, "ArrowDown", "Enter")
    plot = rnn.locator("#chart svg").bounding_box()
    assert plot is not None
    rnn.mouse.click(plot["x"] + plot["width"] * 0.97, plot["y"] + plot["height"] / 2)
    assert stage(rnn, "t") == "11"


def test_the_chart_marks_what_is_no_positive_number(open_page: Callable[..., Page]) -> None:
    page = open_page("odd")
    page.get_by_role("combobox", name="Search").fill("t0.h")
    press(page, "Enter")
    chart = page.locator("#chart")
    for kind in ("zero", "wrong"):
        assert chart.locator(f"path.odd.{kind}.gradient").count() == 1, kind
    assert "not finite" in (chart.locator("svg").get_attribute("aria-label") or "")
    assert "NaN" in text_of(page, "#inspector")


def test_links_lead_from_box_to_box(rnn: Page) -> None:
    press(rnn, "ArrowRight", "ArrowDown", "ArrowDown", "ArrowDown")
    rnn.get_by_role("button", name="h (t=1)").click()
    settle(rnn)
    assert rnn.locator("#inspector").get_attribute("data-tensor") == "t1.h"
    rnn.locator("#inspector").get_by_role("button", name="a (t=2)").click()
    assert stage(rnn, "t") == "2"


# --- moving about ------------------------------------------------------------------------------------------
def test_dragging_moves_the_picture(rnn: Page) -> None:
    x, _, scale = view_of(rnn)
    rnn.mouse.move(500, 300)
    rnn.mouse.down()
    rnn.mouse.move(440, 300, steps=3)
    rnn.mouse.up()
    moved = view_of(rnn)
    assert moved[0] - x == pytest.approx(60 / scale)
    # It was no click.
    assert stage(rnn, "t") == "0"
    assert rnn.locator("#chart").get_attribute("data-pinned") == "false"


def test_the_wheel(rnn: Page) -> None:
    x, _, scale = view_of(rnn)
    rnn.mouse.move(500, 300)
    rnn.mouse.wheel(90, 0)
    assert view_of(rnn)[0] - x == pytest.approx(90 / scale, rel=0.01)
    # What is under the pointer stays there.
    under = "tensorgradPage.camera().fromX(500)"
    before = rnn.evaluate(under)
    rnn.keyboard.down("Control")
    rnn.mouse.wheel(0, -50)
    rnn.keyboard.up("Control")
    assert zoom(rnn) > scale
    assert rnn.evaluate(under) == pytest.approx(before)


def test_buttons_move_the_view(rnn: Page) -> None:
    rnn.evaluate("() => { const c = tensorgradPage.camera(); c.zoomBy(2, 460, 250); c.centre(900, 250); }")
    for name, axis, sign in (("left", 0, -1), ("right", 0, 1), ("up", 1, -1), ("down", 1, 1)):
        before = view_of(rnn)
        rnn.get_by_role("button", name=f"Move the view {name}").click()
        after = view_of(rnn)
        assert np.sign(after[axis] - before[axis]) == sign
        assert after[1 - axis] == before[1 - axis]


def test_zoom_by_buttons_and_keys(rnn: Page) -> None:
    begin = zoom(rnn)
    rnn.get_by_role("button", name="Zoom in").click()
    closer = zoom(rnn)
    press(rnn, "+")
    assert begin < closer < zoom(rnn)
    rnn.get_by_role("button", name="Zoom out").click()
    press(rnn, "-")
    assert zoom(rnn) == pytest.approx(begin, rel=1e-3)
    rnn.get_by_role("button", name="Fit all").click()
    fit = zoom(rnn)
    assert fit < begin
    press(rnn, "+", "+", "0")
    assert zoom(rnn) == fit
    corners = "(({ level, toX, toY }) => [toX(0), toY(0), toX(level.width), toY(level.height)])"
    left, upper, right, lower = rnn.evaluate(f"{corners}(tensorgradPage.camera())")
    width, height = rnn.evaluate("(({ width, height }) => [width, height])(tensorgradPage.camera())")
    assert 0 <= left < right <= width
    assert 0 <= upper < lower <= height


def test_detail_comes_and_goes_with_the_distance(open_page: Callable[..., Page]) -> None:
    page = open_page("lstm")
    seen = [stage(page, "detail")]
    for _ in range(12):
        press(page, "-")
        if stage(page, "detail") != seen[-1]:
            seen.append(stage(page, "detail"))
    assert seen == ["labels", "boxes", "blocks"]
    # From afar, too, a box can be pointed at and be gone to.
    press(page, "b", "0")
    point_at(page, "t0.c")
    assert stage(page, "hover") == "t0.c"
    times = page.evaluate(
        "tensorgradPage.level().columns.map(({from, to}) => tensorgradPage.camera().toX((from + to) / 2))"
    )
    page.mouse.click(times[40], middle(option(page, "t0.c"))[1])
    assert stage(page, "t") == "40"
    assert page.locator("#inspector").get_attribute("data-tensor") == "t40.c"


def test_two_fingers(open_page: Callable[..., Page]) -> None:
    page = open_page("rnn", has_touch=True)
    before = zoom(page)
    touch = page.context.new_cdp_session(page)

    def put(kind: str, *places: tuple[float, float]) -> None:
        points = [{"x": x, "y": y, "id": i} for i, (x, y) in enumerate(places)]
        touch.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

    put("touchStart", (400, 300), (500, 300))
    for apart in (20, 40, 60):
        put("touchMove", (400 - apart, 300), (500 + apart, 300))
    put("touchEnd")
    assert zoom(page) > 1.5 * before
    # One finger moves, and a short touch pins.
    x = view_of(page)[0]
    put("touchStart", (400, 300))
    for place_x in (380, 350, 300):
        put("touchMove", (place_x, 300))
    put("touchEnd")
    assert view_of(page)[0] > x
    press(page, "0")
    page.touchscreen.tap(*middle(option(page, "t0.h")))
    settle(page)
    assert page.locator("#chart").get_attribute("data-series") == "t0.h"


# --- search ------------------------------------------------------------------------------------------------
def test_search(rnn: Page) -> None:
    press(rnn, "/")
    field = rnn.get_by_role("combobox", name="Search")
    assert field.evaluate("(field) => field === document.activeElement")
    rnn.keyboard.type("tanh")
    results = rnn.get_by_role("listbox", name="Search results").get_by_role("option")
    assert results.count() == 1
    assert "h (t=0)" in results.first.inner_text()
    press(rnn, "Enter")
    assert rnn.locator("#inspector").get_attribute("data-tensor") == "t0.h"
    field.fill("T9.H")
    assert field.get_attribute("aria-expanded") == "true"
    rnn.get_by_text("t9.h", exact=True).click()
    assert stage(rnn, "t") == "9"
    assert option(rnn, "t9.h").get_attribute("aria-selected") == "true"
    assert field.get_attribute("aria-expanded") == "false"


def test_search_by_keys(rnn: Page) -> None:
    field = rnn.get_by_role("combobox", name="Search")
    field.fill("weight")
    settle(rnn)
    results = rnn.locator("#results li")
    assert results.count() == 3
    press(rnn, "ArrowDown")
    assert results.nth(1).get_attribute("aria-selected") == "true"
    assert field.get_attribute("aria-activedescendant") == results.nth(1).get_attribute("id")
    press(rnn, "ArrowUp", "ArrowUp")
    assert results.nth(2).get_attribute("aria-selected") == "true"
    field.fill("nothing like this")
    assert "Nothing has this" in text_of(rnn, "#results")
    press(rnn, "Enter", "Escape")
    assert not rnn.locator("#results").is_visible()
    # The letters were for the field alone.
    assert (stage(rnn, "view"), stage(rnn, "t")) == ("forward", "0")


# --- playing -----------------------------------------------------------------------------------------------
def test_a_pass_forward_and_the_gradient_back(open_page: Callable[..., Page]) -> None:
    page = open_page("short", clock=True)
    seen: list[tuple[str, str, str, str]] = []

    def state() -> tuple[str, str, str, str]:
        timeline = page.locator("#timeline")
        now = page.evaluate("document.getElementById('stage').dataset.view")
        t = page.evaluate("document.getElementById('stage').dataset.t")
        return timeline.get_attribute("data-pass") or "", now, t, timeline.get_attribute("data-playing") or ""

    page.get_by_role("button", name="Play").click()
    for _ in range(120):
        page.clock.run_for(100)
        if not seen or state() != seen[-1]:
            seen.append(state())
        if seen[-1][3] == "false":
            break
    steps = [(way, view, t) for way, view, t, _ in seen if way]
    assert steps == [
        *(("forward", "forward", t) for t in "012"),
        *(("backward", "backward", t) for t in "210"),
    ]
    # At the end the whole picture is lit again.
    assert seen[-1] == ("", "backward", "0", "false")


def test_pause_and_scrub_and_stop(open_page: Callable[..., Page]) -> None:
    page = open_page("rnn", clock=True)
    press_now = page.keyboard.press
    press_now("Space")
    page.clock.run_for(1500)
    assert page.locator("#timeline").get_attribute("data-playing") == "true"
    assert page.get_by_role("button", name="Pause").is_visible()
    press_now("Space")
    page.clock.run_for(100)
    here = page.evaluate("tensorgradPage.state.now")
    page.clock.run_for(3000)
    assert page.evaluate("tensorgradPage.state.now") == here > 0
    page.get_by_role("slider", name="Timestep").fill("9")
    page.clock.run_for(100)
    assert page.evaluate("tensorgradPage.state.now") > here
    assert page.evaluate("document.getElementById('stage').dataset.t") == "9"
    press_now("Escape")
    page.clock.run_for(100)
    assert page.evaluate("tensorgradPage.state.now") is None


@pytest.mark.parametrize(("name", "way"), [("rnn", "forward"), ("compared", "backward")])
def test_a_frame_whose_time_lies_before_the_key(open_page: Callable[..., Page], name: str, way: str) -> None:
    page = open_page(name, clock=True)
    if name == "compared":
        press(page, "c")
    page.clock.run_for(100)
    page.evaluate(
        "() => { const now = performance.now.bind(performance); performance.now = () => now() + 500; }"
    )
    page.keyboard.press("Space")
    page.clock.run_for(60)
    timeline = page.locator("#timeline")
    assert (timeline.get_attribute("data-pass"), timeline.get_attribute("data-playing")) == (way, "true")
    first = page.evaluate("tensorgradPage.state.now")
    page.clock.run_for(1000)
    assert (page.evaluate("tensorgradPage.state.now") > first) == (way == "forward")


@pytest.mark.parametrize("speed", ["0.25", "4"])
def test_speed(open_page: Callable[..., Page], speed: str) -> None:
    page = open_page("rnn", clock=True)
    page.get_by_label("Speed").select_option(speed)
    page.keyboard.press("Escape")
    page.evaluate("document.activeElement.blur()")
    page.keyboard.press("Space")
    page.clock.run_for(2000)
    t = int(page.evaluate("document.getElementById('stage').dataset.t"))
    assert t <= 1 if speed == "0.25" else t >= 6


def test_less_motion(open_page: Callable[..., Page]) -> None:
    page = open_page("rnn", clock=True, reduced_motion="reduce")
    page.keyboard.press("Space")
    stills = set()
    for _ in range(60):
        page.clock.run_for(50)
        stills.add(page.evaluate("tensorgradPage.state.now"))
    # In three seconds a handful of still pictures and no film.
    assert 2 <= len(stills) <= 6


@pytest.mark.parametrize("name", ["short", "two ways", "gru"])
def test_the_order_of_a_pass(open_page: Callable[..., Page], name: str) -> None:
    page = open_page(name)
    ticks, boxes = page.evaluate(
        """() => {
          const { data, level } = tensorgradPage;
          const { wires, when, boxes } = level();
          const joined = [...wires.tail.keys()].filter((i) => wires.tail[i] >= 0 && wires.head[i] >= 0);
          const ids = boxes.tensor.map((tensor, box) => [data.tensors.id(tensor), when[box]]);
          return [joined.map((i) => [when[wires.tail[i]], when[wires.head[i]]]), Object.fromEntries(ids)];
        }"""
    )
    # Everything comes after what it is made from; only leaves of the first operations are there with them.
    assert all(tail < head or tail == 0 for tail, head in ticks)
    assert len({head for _, head in ticks}) > 6
    if name == "gru":
        # What a timestep makes of its input alone waits until the timestep is reached.
        first = min(tick for box, tick in boxes.items() if box.startswith("t3."))
        assert first >= boxes["t2.h"] - 1
