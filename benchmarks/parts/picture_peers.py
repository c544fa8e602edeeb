"""The network drawn by others as well: from there to the SVG file, in a process each, with a time limit."""

from __future__ import annotations

import importlib
import importlib.metadata
import os
import re
import signal
import statistics
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from benchmarks.harness import BenchmarkError, Worker
from benchmarks.parts import Options, Outcome, progress
from benchmarks.peers.pictures import PICTURES
from benchmarks.peers.pictures_dot import provide
from benchmarks.report import table

LENGTHS = (5, 20, 100, 500)
# Of one drawing; after it longer networks are not tried.
LIMIT_SECONDS = 120.0
REPEATS = 3
# What takes longer than this is drawn once.
LONG_SECONDS = 5.0
PIXELS = {"pt": 96 / 72, "px": 1.0, "": 1.0, "in": 96.0}


class Painter:
    """One peer in a process, and a process group, of its own: Graphviz may have to be ended with it."""

    def __init__(self, peer: str, programs: str | None, folder: str, H: int, V: int) -> None:
        os.setpgrp()
        if programs is not None:
            os.environ["PATH"] = os.pathsep.join([programs, os.environ["PATH"]])
        module = importlib.import_module(PICTURES[peer].module)
        self.function = getattr(module, peer)
        self.path = Path(folder, f"{peer}.svg")
        self.sizes = H, V
        self.draw(T=2)

    def group(self) -> int:
        return os.getpgrp()

    def draw(self, T: int) -> dict[str, float]:
        """Draw once: the seconds, and the width and height of the picture in pixels."""
        began = time.perf_counter()
        self.function(T, *self.sizes, self.path)
        seconds = time.perf_counter() - began
        with self.path.open(encoding="utf-8") as file:
            start = file.read(4096)
        sizes = {}
        for name in ("width", "height"):
            found = re.search(rf'<svg[^>]*?\b{name}="([0-9.]+)([a-z]*)"', start)
            assert found is not None, f"{self.path} has no {name}"
            sizes[name] = float(found[1]) * PIXELS[found[2]]
        return {"seconds": seconds, "bytes": self.path.stat().st_size, **sizes}


def compare_peers(H: int, V: int, options: Options, outcome: Outcome) -> None:
    """All that are installed, one after the other."""
    skipped = [peer.label for peer in PICTURES.values() if not peer.installed]
    if skipped:
        print(f"Skipped, not installed: {', '.join(skipped)}\n")
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        programs = provide(Path(folder))
        for name, peer in PICTURES.items():
            if peer.installed:
                arguments = {"peer": name, "programs": programs, "folder": folder, "H": H, "V": V}
                found[name] = draw_all(arguments, options.threads)
    progress("")
    header = ["drawn by", "version", *(f"T={T}" for T in LENGTHS)]
    for title, cell in (
        ("From the network to an SVG file, seconds", _seconds),
        ("The picture, width x height in pixels", _size),
    ):
        rows = [[PICTURES[name].label, _version(name), *map(cell, drawn)] for name, drawn in found.items()]
        print(table(title, header, rows))
    outcome.figures["peers"] = {name: dict(zip(LENGTHS, drawn, strict=True)) for name, drawn in found.items()}


def draw_all(arguments: dict[str, Any], threads: int) -> list[dict[str, Any]]:
    """What one peer reaches at each length: its figures, or why there are none."""
    drawn: list[dict[str, Any]] = []
    with Worker("benchmarks.parts.picture_peers:Painter", arguments, threads) as worker:
        group = worker.call("group")
        for T in LENGTHS:
            progress(f"picture: {arguments['peer']}, T={T}")
            drawn.append(attempt(worker, group, T))
            if "missed" in drawn[-1]:
                break
    return drawn + [{"missed": "not tried"}] * (len(LENGTHS) - len(drawn))


def attempt(worker: Worker, group: int, T: int) -> dict[str, Any]:
    """The median of some drawings; or "missed", and why, with the peer's processes ended."""
    taken: list[dict[str, Any]] = []
    while len(taken) < REPEATS and (not taken or taken[0]["seconds"] < LONG_SECONDS):
        out_of_time = threading.Event()
        timer = threading.Timer(LIMIT_SECONDS, end, (group, out_of_time))
        timer.start()
        try:
            taken.append(worker.call("draw", T=T))
        except BenchmarkError as error:
            if out_of_time.is_set():
                return {"missed": f"over {LIMIT_SECONDS:g} s"}
            said = str(error)
            return {"missed": said.strip().splitlines()[-1].partition(":")[0], "error": said}
        finally:
            timer.cancel()
    return {**taken[0], "seconds": statistics.median(one["seconds"] for one in taken)}


def end(group: int, told: threading.Event) -> None:
    """End a process group, and tell that it was not its own doing."""
    told.set()
    os.killpg(group, signal.SIGKILL)


def _version(name: str) -> str:
    return importlib.metadata.version(PICTURES[name].distribution)


def _seconds(one: dict[str, Any]) -> str:
    return one.get("missed") or f"{one['seconds']:.2f}"


def _size(one: dict[str, Any]) -> str:
    return "-" if "missed" in one else f"{one['width']:,.0f} x {one['height']:,.0f}"
