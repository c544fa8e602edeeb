"""Drawing the unrolled graph: what it takes in time and bytes, beside others, and as a page in a browser."""

from __future__ import annotations

import gc
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.harness import Timing, Worker, interleave
from benchmarks.parts import Options, Outcome, progress
from benchmarks.parts.picture_page import measure_pages
from benchmarks.parts.picture_peers import compare_peers
from benchmarks.parts.step import SUBJECT
from benchmarks.report import Target, table

H, V = 16, 10
FIT_LENGTHS = (50, 100, 200, 400, 800)
RATIO_LIMIT = 1.5
MOST_ROUNDS = 7


@dataclass(frozen=True)
class Case:
    """A graph of T timesteps, drawn with every one of them.

    Attributes:
        work: a method of `Drawer`.
    """

    T: int
    level: str
    work: str

    def worker(self, folder: str, options: Options) -> Worker:
        path = Path(folder, f"{self.work}{self.T}.svg")
        arguments = {"T": self.T, "level": self.level, "work": self.work, "path": str(path)}
        return Worker("benchmarks.parts.picture:Drawer", arguments, options.threads)


# What is timed, how tables call it, and the most seconds it may take.
LIMITS: dict[Case, tuple[str, float]] = {
    Case(500, "op", "dot"): ("op level T=500, DOT", 0.2),
    Case(500, "op", "graphviz"): ("op level T=500, SVG by Graphviz from DOT", 0.6),
    Case(500, "op", "svg"): ("op level T=500, SVG written directly", 0.2),
    Case(2_000, "op", "together"): ("op level T=2,000, the three together", 3.0),
    Case(10_000, "cell", "dot"): ("cell level T=10,000, DOT", 5.0),
    Case(10_000, "cell", "svg"): ("cell level T=10,000, SVG written directly", 5.0),
}


class Drawer:
    """One graph in a process of its own, and one way to draw it again and again."""

    def __init__(self, T: int, level: str, work: str, path: str) -> None:
        from benchmarks.peers.pictures_tensorgrad import record
        from tensorgrad.viz.writers.render import render

        self.render = render
        self.level = level
        self.path = Path(path)
        self.work: Callable[[], Any] = getattr(self, work)
        self.network = record(3, H, V)
        self.source = self.dot()
        # Modules are imported, and tables filled, when something is drawn for the first time.
        self.together()
        self.network = record(T, H, V)
        self.source = self.dot() if work == "graphviz" else ""

    def drawing(self) -> Any:
        return self.network.draw(level=self.level, steps="all")

    def dot(self) -> str:
        source: str = self.drawing().source
        return source

    def graphviz(self) -> bytes:
        return self.render(self.source, "svg")

    def svg(self) -> None:
        self.drawing().save(self.path)

    def together(self) -> None:
        drawing = self.drawing()
        self.render(drawing.source, "svg")
        drawing.save(self.path)

    def round(self, steps: int) -> dict[str, float]:
        """See `benchmarks.session.Session.round`; Graphviz, a process of its own, is counted in."""
        times = []
        elapsed, processor = time.perf_counter(), _processor_seconds()
        for _ in range(steps):
            gc.collect()
            began = time.perf_counter()
            self.work()
            times.append(time.perf_counter() - began)
        elapsed, processor = time.perf_counter() - elapsed, _processor_seconds() - processor
        return {"seconds": statistics.median(times), "cores": processor / elapsed}

    def sizes(self) -> dict[str, int]:
        """Boxes, and bytes of the DOT text and of the SVG."""
        drawing = self.drawing()
        drawing.save(self.path)
        return {
            "nodes": len(drawing.model.boxes),
            "dot": len(drawing.source.encode()),
            "svg": self.path.stat().st_size,
        }


def _processor_seconds() -> float:
    return sum(os.times()[:4])


def run(options: Options) -> Outcome:
    """The figures of tensorgrad alone, those beside others, and those of the page."""
    if SUBJECT not in options.peers:
        return Outcome()
    outcome = Outcome(figures={"H": H, "V": V})
    time_cases(options, outcome)
    fit(options, outcome)
    compare_peers(H, V, options, outcome)
    measure_pages(H, V, options, outcome)
    return outcome


def time_cases(options: Options, outcome: Outcome) -> None:
    """The cases that have limits."""
    timings, sizes = measured(list(LIMITS), options, min(options.rounds, MOST_ROUNDS))
    rows = []
    for case, (what, limit) in LIMITS.items():
        timing, size = timings[case], sizes[case]
        outcome.targets.append(Target(what, limit, timing.seconds, "s"))
        outcome.figures[what] = {"seconds": timing.rounds, "cores": timing.cores, **size}
        rows.append(
            [
                what,
                f"{timing.seconds:.3f}",
                f"{timing.spread:.0%}",
                f"{timing.cores:.2f}",
                f"{size['nodes']:,}",
                *(f"{size[form] / 1e6:.2f}" for form in ("dot", "svg")),
            ]
        )
    header = ["drawing", "seconds", "± rounds", "cores", "boxes", "MB of DOT", "MB of SVG"]
    print(table(f"A vanilla RNN drawn with every timestep, H={H} V={V}, loss at every step", header, rows))


def fit(options: Options, outcome: Outcome) -> None:
    """Seconds and bytes over the number of boxes: a straight line, and what one box costs at each length."""
    cases = {form: [Case(T, "op", form) for T in FIT_LENGTHS] for form in ("dot", "svg")}
    timings, sizes = measured([case for some in cases.values() for case in some], options, options.rounds)
    rows = []
    for form, some in cases.items():
        nodes = np.array([sizes[case]["nodes"] for case in some])
        bytes_ = np.array([float(sizes[case][form]) for case in some])
        seconds = np.array([timings[case].seconds for case in some])
        # Round by round over the longest: what slows a whole round cancels out.
        relative = np.array([timings[case].ratio_to(timings[some[-1]]) for case in some])
        for unit, costs, compared in (("µs", 1e6 * seconds, relative), ("bytes", bytes_, bytes_)):
            slope, start = np.polyfit(nodes, costs, 1)
            ratio = float((compared / nodes).max() / (compared / nodes).min())
            what = f"{form.upper()}, {unit} per box"
            outcome.targets.append(Target(f"{what}, largest over smallest", RATIO_LIMIT, ratio))
            outcome.figures[what] = {
                "nodes": nodes.tolist(),
                "costs": costs.tolist(),
                "slope": float(slope),
                "start": float(start),
                "ratio": ratio,
            }
            rows.append([what, *(f"{one:,.1f}" for one in costs / nodes), f"{slope:,.1f}", f"{ratio:.2f}"])
    header = ["op level", *(f"T={T}" for T in FIT_LENGTHS), "slope of the line", "largest / smallest"]
    print(table("Cost by length, every timestep drawn", header, rows))


def measured(
    cases: list[Case], options: Options, rounds: int
) -> tuple[Mapping[Case, Timing], Mapping[Case, dict[str, int]]]:
    """Time some cases in turns, and ask for the sizes of what they draw."""
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        workers = {}
        for case in cases:
            progress(f"picture: recording T={case.T:,}")
            workers[case] = stack.enter_context(case.worker(folder, options))
        timings = interleave(
            workers,
            dict.fromkeys(cases, 1),
            rounds,
            0.0,
            lambda done: progress(f"picture: round {done} of {rounds}"),
        )
        sizes = {case: worker.call("sizes") for case, worker in workers.items()}
    progress("")
    return timings, sizes
