"""Pages to try in a browser, the browser, and what the tests ask of a page again and again."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tensorgrad as tg
from tensorgrad import nn
from tensorgrad.viz.build import build
from tensorgrad.viz.measuring.measures import Measures
from tensorgrad.viz.measuring.thumbs import Thumbs
from tensorgrad.viz.place import place
from tensorgrad.viz.writers.html import to_html

from .conftest import Case, bidirectional, char_rnn
from .graphs import last_only
from .test_html import HOSTILE, page_of

try:
    from playwright.sync_api import Browser, Locator, Page, sync_playwright
except ImportError:
    pytest.skip(
        "the page is not tested in a browser: playwright is not installed (pip install playwright)",
        allow_module_level=True,
    )

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "google-chrome", "chromium-browser"))), None)
if CHROMIUM is None:
    pytest.skip(
        "the page is not tested in a browser: there is no chromium or google-chrome on the PATH",
        allow_module_level=True,
    )

ARGUMENTS = [
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
]


# --- pages to look at --------------------------------------------------------------------------------------
def compared(T: int) -> str:
    """A backward that forgets, from the middle down, what later timesteps say of h."""
    case = char_rnn(T)
    names = ("h", "a")
    given = {n: np.stack(tg.grad(case.output, [step[n] for step in case.unrolled.steps])) for n in names}
    given["h"][: T // 2 + 1] *= 1.5
    report = tg.bptt.compare(case.output, given, unrolled=case.unrolled)
    return page_of(case, compare=report, title="A comparison")


def odd() -> str:
    """Gradients of 0, NaN and infinite, and values that no gradient reaches."""
    W = tg.tensor(np.eye(2), requires_grad=True, name="W")
    h: Any = tg.tensor(np.full((1, 2), 0.5), name="h0")
    losses = []
    with np.errstate(all="ignore"):
        for t in range(6):
            with tg.scope(f"t={t}"):
                h = tg.label(tg.tanh(h @ W), "h")
                if t == 3:
                    h = tg.label(tg.sqrt(h - h), "h")
                losses.append(tg.label(tg.sum(h * (0.0 if t == 5 else 1.0)), "L"))
        return page_of(Case(tg.label(tg.mean(tg.stack(losses)), "loss")), title="odd")


def checkpointed() -> str:
    """Timesteps of which two are checkpointed, with gradients of 0 and values that none reaches."""
    W = tg.tensor(np.eye(2), requires_grad=True, name="W")
    h: Any = tg.tensor(np.full((1, 2), 0.5), requires_grad=True, name="h0")
    for t in range(4):
        with tg.scope(f"t={t}"):
            x = tg.tensor(np.full((1, 2), 0.1 * t), name="x")
            a = tg.label(x + h, "a")
            h = tg.label(tg.checkpoint(tg.matmul, a, W) if t in (1, 2) else a @ W, "h")
    return page_of(Case(tg.label(tg.sum(h) + 0.0 * tg.sum(W), "loss")), title="checkpointed")


def checkpointed_run() -> str:
    roll = nn.unroll(nn.LSTMCell(2, 3, seed=0), np.ones((9, 1, 2)), checkpoint=3)
    return page_of(Case(tg.label(tg.sum(roll.outputs), "loss"), roll), title="checkpointed run")


def saved() -> str:
    """As `draw` writes it, with one box for the cell in the rolled picture."""
    case = char_rnn(6, "lstm")
    return tg.viz.draw(case.output, unrolled=case.unrolled, level="rolled", backward=True)._page("saved")


def wrong_once() -> str:
    """As `draw` writes it, beginning with the rolled picture: one of its timesteps is wrong."""
    case = char_rnn(9)
    given = np.stack(tg.grad(case.output, [step["h"] for step in case.unrolled.steps]))
    given[6] *= 1.25
    report = tg.bptt.compare(case.output, {"h": given}, unrolled=case.unrolled)
    return tg.viz.draw(case.output, unrolled=case.unrolled, level="rolled", compare=report)._page("wrong")


def hostile() -> str:
    W = tg.tensor(np.eye(2), requires_grad=True, name=HOSTILE[0])
    h: Any = tg.tensor(np.ones((1, 2)), name=HOSTILE[1])
    for t in range(2):
        with tg.scope(f"t={t}"):
            h = h @ W
            for name in HOSTILE:
                h = tg.label(h * 0.5, name)
    with tg.scope("<b>scope</b>"):
        return page_of(Case(tg.sum(h)), title=HOSTILE[1])


def plain() -> str:
    x = tg.tensor([[1.0, 2.0]], requires_grad=True, name="x")
    return page_of(Case(tg.label(tg.sum(tg.tanh(x) * 0.5), "loss")), title="no timesteps")


def scattered() -> str:
    """Timesteps that begin anywhere and leave many out."""
    h: Any = tg.tensor([1.0, 2.0], requires_grad=True, name="h0")
    for t in (5, 7, 10**15):
        with tg.scope(f"t={t}"):
            h = tg.label(tg.tanh(h), "h")
    return page_of(Case(tg.label(tg.sum(h), "loss")), title="scattered")


def without_numbers() -> str:
    case = char_rnn(2)
    picture = place(build(case.output, case.unrolled))
    return to_html({"op": picture}, Measures(), title="bare", thumbs=Thumbs({}, {}), level="op")


def long() -> str:
    case = char_rnn(2000)
    picture = place(build(case.output, case.unrolled))
    return to_html({"op": picture}, Measures(), title="long", thumbs=Thumbs({}, {}), level="op")


PAGES: dict[str, Callable[[], str]] = {
    "rnn": lambda: page_of(char_rnn(12), title="rnn"),
    "short": lambda: page_of(char_rnn(3), title="short"),
    "gru": lambda: page_of(char_rnn(4, "gru"), title="gru"),
    "one": lambda: page_of(char_rnn(1), title="one"),
    "two ways": lambda: page_of(bidirectional(3), title="two ways"),
    "lstm": lambda: page_of(char_rnn(45, "lstm"), title="lstm"),
    "compared": lambda: compared(8),
    "odd": odd,
    "checkpointed": checkpointed,
    "checkpointed run": checkpointed_run,
    "saved": saved,
    "wrong once": wrong_once,
    "last only": lambda: page_of(last_only(4), title="last only"),
    "hostile": hostile,
    "plain": plain,
    "scattered": scattered,
    "bare": without_numbers,
    "long": long,
}


# --- the browser -------------------------------------------------------------------------------------------
class Shelf:
    """A browser and the pages written so far.

    Attributes:
        folder: where the pages are.
        problems: what has gone wrong on any of them.
    """

    def __init__(self, browser: Browser, folder: Path) -> None:
        self.browser, self.folder = browser, folder
        self.problems: list[str] = []
        self.windows: dict[str, Page] = {}

    def file(self, name: str) -> Path:
        """The file with a page, which is written when it is first asked for."""
        path = self.folder / f"{name}.html"
        if not path.exists():
            path.write_text(PAGES[name](), encoding="utf-8")
        return path

    def open(self, name: str, *, clock: bool = False, **options: Any) -> Page:
        """Open a page from disk in a window without a network; those with the same options are one.

        clock: whether time passes only as the test says.
        """
        key = repr((clock, options))
        if key not in self.windows:
            self.windows[key] = self.window(clock, options)
        window = self.windows[key]
        window.mouse.move(0, 0)
        media(window, media="screen", color_scheme="light")
        window.goto(self.file(name).as_uri())
        return window

    def window(self, clock: bool, options: dict[str, Any]) -> Page:
        size = {"width": 1280, "height": 800}
        context = self.browser.new_context(**{"viewport": size, "offline": True, **options})
        context.set_default_timeout(5000)
        window = context.new_page()
        window.on("console", lambda message: self.problems.append(f"{message.type}: {message.text}"))
        window.on("pageerror", lambda error: self.problems.append(f"{error}\n{error.stack}"))
        window.on("dialog", lambda dialog: self.problems.append(f"a dialog: {dialog.message}"))
        window.on("request", lambda request: self.note_request(request.url))
        if clock:
            window.clock.install()
        return window

    def note_request(self, address: str) -> None:
        if not address.startswith(self.folder.as_uri()) or not address.endswith(".html"):
            self.problems.append(f"asked for {address}")


@contextmanager
def shelf(folder: Path) -> Iterator[Shelf]:
    """Start the browser."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield Shelf(browser, folder)
        browser.close()


@contextmanager
def watched(shelf: Shelf) -> Iterator[Callable[..., Page]]:
    """A function that opens a page; at the end nothing may have gone wrong on it."""
    shelf.problems.clear()
    yield shelf.open
    assert not shelf.problems


def stage(page: Page, what: str) -> str:
    """What the picture shows once it has been drawn anew."""
    settle(page)
    return page.evaluate(f"document.getElementById('stage').dataset.{what}")


def settle(page: Page) -> None:
    """Wait for the next frame, in which the page shows whatever has changed."""
    page.evaluate("() => new Promise(requestAnimationFrame)")


def option(page: Page, name: str) -> Locator:
    return page.locator(f'[id="box-{name}"]')


def middle(place: Locator) -> tuple[float, float]:
    box = place.bounding_box()
    assert box is not None
    return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2


def point_at(page: Page, name: str) -> None:
    settle(page)
    page.mouse.move(*middle(option(page, name)))
    settle(page)


def point_at_wire(page: Page, tail: str, head: str, nth: int = 0) -> str:
    """Move the pointer onto the wire between two boxes, the nth if there are more; what is said of it."""
    settle(page)
    place = page.evaluate(
        """([from, to, nth]) => {
          const { data, level, camera } = tensorgradPage;
          const { wires, boxes } = level();
          const id = (box) => (box >= 0 ? data.tensors.id(boxes.tensor[box]) : '');
          const isIt = (i) => id(wires.tail[i]) === from && id(wires.head[i]) === to;
          const line = wires.points[[...wires.points.keys()].filter(isIt)[nth]];
          const stretches = line.flatMap((_, k) => (k % 2 || !k ? [] : [line.slice(k - 2, k + 2)]));
          const long = ([x, y, u, v]) => Math.hypot(u - x, v - y);
          const [x, y, u, v] = stretches.reduce((a, b) => (long(b) > long(a) ? b : a));
          const { left, top } = document.getElementById('stage').getBoundingClientRect();
          return [left + camera().toX((x + u) / 2), top + camera().toY((y + v) / 2)];
        }""",
        [tail, head, nth],
    )
    page.mouse.move(*place)
    return text_of(page, "#hint")


def text_of(page: Page, selector: str) -> str:
    settle(page)
    return page.locator(selector).inner_text()


def press(page: Page, *keys: str) -> None:
    for key in keys:
        page.keyboard.press(key)
    settle(page)


def zoom(page: Page) -> float:
    return float(stage(page, "zoom"))


def view_of(page: Page) -> list[float]:
    settle(page)
    return page.evaluate("(({ x, y, sx }) => [x, y, sx])(tensorgradPage.camera())")


def media(page: Page, **features: Any) -> None:
    page.emulate_media(**features)
    # The page hears of it in one frame and shows it in the next.
    settle(page)
    settle(page)


def printed(page: Page) -> list[dict[str, str]]:
    """The wires as they are printed, which are drawn by the same hand as those on the screen."""
    media(page, media="print")
    found = page.evaluate(
        "[...document.querySelectorAll('#paper path[stroke]')].map((path) => "
        "Object.fromEntries([...path.attributes].map(({ name, value }) => [name, value])))"
    )
    media(page, media="screen")
    return found
