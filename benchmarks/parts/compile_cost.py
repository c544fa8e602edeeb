"""What compiling costs: the first call in a fresh process, and the memory that a step takes at most."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict

from benchmarks.harness import Worker
from benchmarks.parts import Options, Outcome, progress
from benchmarks.peers import PEERS
from benchmarks.problem import LABELS, Shape, make_problem
from benchmarks.report import Target, table

NUMPY, KERNELS = "tensorgrad_compiled", "tensorgrad_fast"
NUMPY_LIMIT = 0.5
COLD_LIMIT = 5.0
CACHED_LIMIT = 0.5
# Measured in MiB: what is less than this is the allocator's doing.
LEAST_MIB = 1.0
LATER_CALLS = 5


class Compilation:
    """A compiled step's first call, in a process that has compiled nothing before."""

    def __init__(self) -> None:
        import tensorgrad  # noqa: F401 - loading the package is no part of compiling

    def first_call(self, cell: str, shape: dict[str, int], fast: bool) -> dict[str, float]:
        """Seconds of the first call and, as a median, of later ones; what it imports counts."""
        from benchmarks.peers import tensorgrad_compiled

        step = tensorgrad_compiled.prepare(make_problem(Shape(**shape), cell), fast)
        seconds = []
        for _ in range(1 + LATER_CALLS):
            began = time.perf_counter()
            step.run()
            seconds.append(time.perf_counter() - began)
        return {"first": seconds[0], "later": statistics.median(seconds[1:])}

    def import_numba(self) -> float:
        """Seconds."""
        began = time.perf_counter()
        import numba  # noqa: F401

        return time.perf_counter() - began


def run(options: Options, shapes: Sequence[Shape], settings: Mapping[str, str]) -> Outcome:
    """Both measurements, for every network."""
    times, sizes = compile_times(options, shapes, settings), peaks(options, shapes, settings)
    return Outcome({**times.figures, **sizes.figures}, [*times.targets, *sizes.targets])


def compile_times(options: Options, shapes: Sequence[Shape], settings: Mapping[str, str]) -> Outcome:
    """First calls less later ones, for sequences short and long."""
    outcome = Outcome(figures={"compile_seconds": {}})
    chosen = [shape for shape in shapes if shape.B == 1] or list(shapes)
    header = ["compile time, s", *(f"NumPy, T={shape.T:,}" for shape in chosen)]
    fast = KERNELS in options.peers
    if fast:
        header += [f"{how}, T={shape.T:,}" for shape in chosen for how in ("kernels cold", "from the cache")]
        with Worker("benchmarks.parts.compile_cost:Compilation", {}, options.threads) as worker:
            outcome.figures["import_numba_seconds"] = worker.call("import_numba")
    rows = []
    for cell in options.cells:
        progress(f"compile times: {LABELS[cell]}")
        found = {
            f"NumPy, {shape}": (first_call(cell, shape, options, settings), NUMPY_LIMIT) for shape in chosen
        }
        if fast:
            for shape in chosen:
                with tempfile.TemporaryDirectory() as folder:
                    cached = {**settings, "TENSORGRAD_CACHE": folder}
                    for how, limit in (
                        ("kernels cold", COLD_LIMIT),
                        ("kernels from the cache", CACHED_LIMIT),
                    ):
                        found[f"{how}, {shape}"] = (first_call(cell, shape, options, cached, True), limit)
        rows.append([LABELS[cell], *(f"{seconds:.2f}" for seconds, _ in found.values())])
        for what, (seconds, limit) in found.items():
            outcome.figures["compile_seconds"][f"{cell}, {what}"] = seconds
            outcome.targets.append(Target(f"{LABELS[cell]}, compile time, {what}", limit, seconds, "s"))
    progress("")
    print(table("Compiling, in a fresh process: the first call less a later one", header, rows))
    if fast:
        print(f"Of the kernels' times, importing numba: {outcome.figures['import_numba_seconds']:.2f} s\n")
    return outcome


def first_call(
    cell: str, shape: Shape, options: Options, settings: Mapping[str, str], fast: bool = False
) -> float:
    with Worker("benchmarks.parts.compile_cost:Compilation", {}, options.threads, settings) as worker:
        taken = worker.call("first_call", cell=cell, shape=asdict(shape), fast=fast)
    return float(taken["first"] - taken["later"])


def peaks(options: Options, shapes: Sequence[Shape], settings: Mapping[str, str]) -> Outcome:
    """The memory of steps over that of their problem, each peer in a fresh process."""
    outcome = Outcome(figures={"peak_mib": {}})
    names = [
        name
        for name in ("tensorgrad_eager", NUMPY, KERNELS, "torch_rnn", "torch_naive")
        if name in options.peers
    ]
    rows = []
    for cell in options.cells:
        for shape in shapes:
            progress(f"memory of a step: {LABELS[cell]}, {shape}")
            found = {
                name: peak(name, cell, shape, options.threads, settings)
                for name in names
                if cell in PEERS[name].cells
            }
            outcome.figures["peak_mib"][f"{cell}, {shape}"] = found
            outcome.targets += memory_targets(cell, shape, found)
            rows.append(
                [
                    f"{LABELS[cell]}, {shape}",
                    *(f"{found[name]:.1f}" if name in found else "-" for name in names),
                ]
            )
    progress("")
    header = ["peak memory of a step, MiB", *(PEERS[name].label for name in names)]
    print(table("Memory that steps take at most, over that of the problem", header, rows))
    return outcome


def peak(name: str, cell: str, shape: Shape, threads: int, settings: Mapping[str, str]) -> float:
    with Worker("benchmarks.session:Session", {"peer": name}, threads, settings) as worker:
        return float(worker.call("peak", shape=asdict(shape), cell=cell))


def memory_targets(cell: str, shape: Shape, found: Mapping[str, float]) -> Sequence[Target]:
    """Compiled steps against PyTorch's."""
    torch = max((found[name] for name in ("torch_rnn", "torch_naive") if name in found), default=None)
    if torch is None:
        return []
    return [
        Target(
            f"{LABELS[cell]}, peak memory, {PEERS[name].label}, {shape}",
            max(torch, LEAST_MIB),
            found[name],
            "MiB",
        )
        for name in (NUMPY, KERNELS)
        if name in found
    ]
