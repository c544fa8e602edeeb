"""The drawing as a page in a headless Chromium, driven by mouse and keyboard as a person would.

Inputs come one at a time, the next when the page has come to rest; see ``picture_trace`` for what is counted.
"""

from __future__ import annotations

import importlib.util
import shutil
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.harness import Worker
from benchmarks.parts import Options, Outcome, progress
from benchmarks.parts.picture_trace import CATEGORIES, COSTS, costs
from benchmarks.report import Target, table

PROGRAM = "chromium"
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
WIDTH, HEIGHT = 1280, 800
REST_MS = 250
FIRST_PAINT = """() => new Promise(resolve => new PerformanceObserver(list => {
    for (const entry of list.getEntriesByName('first-contentful-paint')) resolve(entry.startTime);
}).observe({ type: 'paint', buffered: true }))"""
# Resolved when a frame has been made after the one that is being made now.
NEXT_FRAME = """() => new Promise(resolve => requestAnimationFrame(() => requestAnimationFrame(
    () => resolve(performance.now()))))"""

# The middle of the largest thing that is drawn.
MIDDLE = """() => {
    const areas = [...document.querySelectorAll('canvas, svg')].map(one => one.getBoundingClientRect());
    const largest = areas.reduce((a, b) => a.width * a.height >= b.width * b.height ? a : b);
    return [largest.left + largest.width / 2, largest.top + largest.height / 2];
}"""

# Megabytes of the file, by timesteps. All other limits are those of the shorter page; the longer has to open.
SHORT, LONG = 500, 2_000
SIZE_LIMITS = {SHORT: 2.5, LONG: 8.0}
OPENINGS = 5
OPENED = ("first_paint", "all_painted", "elements")
FIRST_PAINT_LIMIT = 1_000.0
FRAME_LIMIT = 20.0
SCRUB_LIMIT = 50.0
# In this order: what it is called, the method of `Page` and its arguments, and the most milliseconds a frame
# may take. A page opens at the first timesteps; 0 is the key that shows all of them, B the one for gradients.
GESTURES: tuple[tuple[str, str, dict[str, Any], float | None], ...] = (
    ("pan, as it opens", "pan", {"moves": 30}, FRAME_LIMIT),
    ("scrub, as it opens", "press", {"key": "ArrowRight", "times": 30}, SCRUB_LIMIT),
    ("zoom out", "zoom", {"turns": 30, "amount": 25}, FRAME_LIMIT),
    ("fit", "press", {"key": "0", "times": 1}, None),
    ("pan, all in sight", "pan", {"moves": 30}, FRAME_LIMIT),
    ("scrub, all in sight", "press", {"key": "ArrowRight", "times": 30}, SCRUB_LIMIT),
    ("zoom in", "zoom", {"turns": 30, "amount": -25}, FRAME_LIMIT),
    ("gradients", "press", {"key": "b", "times": 1}, None),
    ("pan, gradients", "pan", {"moves": 30}, FRAME_LIMIT),
)


class Writer:
    """Records a network and writes its page."""

    def write(self, T: int, H: int, V: int, path: str) -> dict[str, float]:
        from benchmarks.peers.pictures_tensorgrad import record

        network = record(T, H, V)
        began = time.perf_counter()
        network.draw().save(path)
        return {"seconds": time.perf_counter() - began, "megabytes": Path(path).stat().st_size / 1e6}


class Page:
    """A page in a browser of its own. Times are milliseconds."""

    def __init__(self, path: str) -> None:
        from playwright.sync_api import sync_playwright

        self.url = Path(path).as_uri()
        self.errors: list[str] = []
        self.playwright = sync_playwright().start()
        program = shutil.which(PROGRAM)
        self.browser = self.playwright.chromium.launch(executable_path=program, args=list(FLAGS))
        self.page: Any = None

    def version(self) -> str:
        return f"Chromium {self.browser.version}"

    def open(self) -> dict[str, float]:
        """Open the page in a new window: when something was painted, when all of it, and how much it is."""
        if self.page is not None:
            self.page.context.close()
        self.page = self.browser.new_page(viewport={"width": WIDTH, "height": HEIGHT})
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("console", self.listen)
        self.page.goto(self.url)
        return {
            "first_paint": self.page.evaluate(FIRST_PAINT),
            "all_painted": self.page.evaluate(NEXT_FRAME),
            "elements": self.page.evaluate("document.getElementsByTagName('*').length"),
        }

    def listen(self, said: Any) -> None:
        if said.type in ("error", "warning"):
            self.errors.append(said.text)

    def heard(self) -> list[str]:
        """Errors and warnings since the browser was started."""
        return self.errors

    def pan(self, moves: int) -> list[dict[str, float]]:
        """Drag from the middle of the picture to the left, and back."""
        mouse = self.page.mouse
        x, y = self.page.evaluate(MIDDLE)

        def inputs() -> Iterator[None]:
            for way in (*range(1, moves // 2 + 1), *reversed(range(moves // 2))):
                yield mouse.move(x - 8 * way, y)

        mouse.move(x, y)
        mouse.down()
        found = self._traced(inputs())
        mouse.up()
        return found

    def zoom(self, turns: int, amount: int) -> list[dict[str, float]]:
        """Turn the wheel at the middle of the picture, with Ctrl held, by so many pixels each time."""
        self.page.mouse.move(*self.page.evaluate(MIDDLE))
        self.page.keyboard.down("Control")
        found = self._traced(self.page.mouse.wheel(0, amount) for _ in range(turns))
        self.page.keyboard.up("Control")
        return found

    def press(self, key: str, times: int) -> list[dict[str, float]]:
        return self._traced(self.page.keyboard.press(key) for _ in range(times))

    def close(self) -> None:
        self.browser.close()
        self.playwright.stop()

    def _traced(self, inputs: Iterator[None]) -> list[dict[str, float]]:
        """What each input cost; drawing one from the iterator makes it happen."""
        session = self.page.context.new_cdp_session(self.page)
        events: list[dict[str, Any]] = []
        complete: list[Any] = []
        session.on("Tracing.dataCollected", lambda part: events.extend(part["value"]))
        session.on("Tracing.tracingComplete", lambda end: complete.append(end))
        self.page.wait_for_timeout(REST_MS)
        wanted = {"includedCategories": list(CATEGORIES), "excludedCategories": ["*"]}
        session.send("Tracing.start", {"transferMode": "ReportEvents", "traceConfig": wanted})
        for _ in inputs:
            self.page.wait_for_timeout(REST_MS)
        session.send("Tracing.end")
        while not complete:
            self.page.wait_for_timeout(10)
        session.detach()
        return costs(events)


def missing() -> str:
    """What must be installed before a page can be measured; empty if nothing."""
    if importlib.util.find_spec("playwright") is None:
        return "the Python package playwright"
    return "" if shutil.which(PROGRAM) else PROGRAM


def measure_pages(H: int, V: int, options: Options, outcome: Outcome) -> None:
    """Write, open and use the pages."""
    rows = []
    for T in SIZE_LIMITS:
        progress(f"picture: page of T={T:,}")
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "rnn.html")
            with Worker("benchmarks.parts.picture_page:Writer", {}, options.threads) as worker:
                found = worker.call("write", T=T, H=H, V=V, path=str(path))
            if not missing():
                found.update(use_page(path, T, options))
        outcome.figures[f"page of T={T:,}"] = found
        outcome.targets += page_targets(T, found)
        rows.append(
            [
                f"T={T:,}",
                f"{found['seconds']:.1f}",
                f"{found['megabytes']:.2f}",
                *(f"{found[name]:,.0f}" if name in found else "-" for name in OPENED),
            ]
        )
    progress("")
    header = ["page", "s to write", "MB", "ms to first paint", "ms to all of it", "elements"]
    print(table("The drawing as a page", header, rows))
    if missing():
        print(f"Opening and using pages: skipped, {missing()} was not found\n")


def use_page(path: Path, T: int, options: Options) -> dict[str, Any]:
    """Open a page and go through all gestures; prints what their frames cost."""
    with Worker("benchmarks.parts.picture_page:Page", {"path": str(path)}, options.threads) as worker:
        version = worker.call("version")
        openings = [worker.call("open") for _ in range(OPENINGS)]
        opened = {name: statistics.median(one[name] for one in openings) for name in OPENED}
        gestures = {}
        for name, method, arguments, _ in GESTURES:
            progress(f"picture: page of T={T:,}, {name}")
            gestures[name] = worker.call(method, **arguments)
        errors = worker.call("heard")
        worker.call("close")
    progress("")
    header = ["ms, median and 95%", "inputs", *(cell for key in COSTS for cell in (key, "95%"))]
    rows = [
        [name, str(len(inputs)), *(cell for key in COSTS for cell in spread(inputs, key))]
        for name, inputs in gestures.items()
    ]
    print(table(f"Using the page of T={T:,}, {version}, {WIDTH} x {HEIGHT}", header, rows))
    return {**opened, "gestures": gestures, "errors": errors, "browser": version}


def page_targets(T: int, found: dict[str, Any]) -> list[Target]:
    what = f"page of T={T:,}"
    targets = [Target(f"{what}, file", SIZE_LIMITS[T], found["megabytes"], "MB")]
    if "gestures" not in found:
        return targets
    targets.append(Target(f"{what}, errors in the console", 0, len(found["errors"])))
    if T == SHORT:
        targets.append(Target(f"{what}, first paint", FIRST_PAINT_LIMIT, found["first_paint"], "ms"))
        for name, _, _, limit in GESTURES:
            if limit is not None:
                frame = statistics.median(one["frame"] for one in found["gestures"][name])
                targets.append(Target(f"{what}, {name}, frame", limit, frame, "ms"))
    return targets


def spread(inputs: list[dict[str, float]], key: str) -> tuple[str, str]:
    """Median and 95th percentile of what inputs cost, as far as there are so many."""
    values = [one[key] for one in inputs if key in one]
    median = f"{statistics.median(values):.1f}" if values else "-"
    return median, f"{statistics.quantiles(values, n=20)[-1]:.1f}" if len(values) > 1 else "-"
