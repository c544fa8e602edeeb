"""One training step of four networks: compiled, recorded, fused, scanned, and its matrix products alone.

What calls NumPy's BLAS runs with its kernels as they are at the start and, where these do not fit the CPU,
once more with those that do. Targets are on the fitting ones. Compile times and memory follow; see
``compile_cost``.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from benchmarks.harness import Timing, Worker, interleave
from benchmarks.parts import Options, Outcome, compile_cost, progress
from benchmarks.parts.compile_targets import step_targets
from benchmarks.parts.step import PAUSE_FOR_IDLE_THREADS, ROUND_SECONDS, check_agreement
from benchmarks.peers import PEERS
from benchmarks.problem import LABELS, Shape
from benchmarks.report import microseconds, table

SHAPES = (
    Shape(H=100, T=25, B=1),
    Shape(H=128, T=50, B=32),
    Shape(H=512, T=64, B=64),
    Shape(H=100, T=1_000, B=1),
)
QUICK = (Shape(H=8, T=5, B=2),)
FLOOR = "floor"
PEERS_HERE = (
    "handwritten",
    "tensorgrad_eager",
    "tensorgrad_compiled",
    "tensorgrad_fast",
    "torch_naive",
    "torch_rnn",
    "jax_scan",
)
AGAINST = {"x floor": (FLOOR,), "x PyTorch": ("torch_rnn", "torch_naive"), "x JAX": ("jax_scan",)}


@dataclass(frozen=True)
class Contestant:
    """A peer, or the floor, with the BLAS kernels it runs: "" where they are not NumPy's."""

    name: str
    kernel: str = ""

    @property
    def label(self) -> str:
        label = "its matrix products alone" if self.name == FLOOR else PEERS[self.name].label
        return f"{label} ({self.kernel})" if self.kernel else label


# The kernels of NumPy's BLAS, and the variables that choose them.
Kernels = dict[str, dict[str, str]]


def run(options: Options) -> Outcome:
    """Every network at every shape, then what compiling costs."""
    names = [name for name in PEERS_HERE if name in options.peers]
    if "tensorgrad_compiled" not in names:
        return Outcome()
    if "tensorgrad_fast" not in names:
        print("No compiled kernels: numba is not installed, or its peer was not asked for.\n")
    kernels = find_kernels(options.threads)
    fitting = list(kernels)[-1]
    told = (
        f"{fitting} kernels"
        if len(kernels) == 1
        else f"{' and, since they fit this CPU, '.join(kernels)} kernels"
    )
    print(f"BLAS of NumPy: {told}\n")
    outcome = Outcome(figures={"rounds": options.rounds, "kernels": list(kernels), "steps": {}})
    for shape in QUICK if options.quick else SHAPES:
        for cell in options.cells:
            timings = time_step(cell, shape, names, kernels, options)
            print(step_table(cell, shape, timings))
            outcome.figures["steps"][f"{cell}, {shape}"] = {
                contestant.label: {**asdict(timing), "seconds": timing.seconds}
                for contestant, timing in timings.items()
            }
            fit = {c.name: timing for c, timing in timings.items() if c.kernel in ("", fitting)}
            outcome.targets += step_targets(cell, shape, fit)
    costs = compile_cost.run(options, QUICK if options.quick else SHAPES, kernels[fitting])
    outcome.figures |= costs.figures
    outcome.targets += costs.targets
    if options.quick:
        # Ratios at a tiny size say nothing.
        outcome.targets.clear()
    return outcome


def find_kernels(threads: int) -> Kernels:
    """The kernels that NumPy's BLAS has as things are; then those that fit the CPU, if they are others."""
    found: Kernels = {}
    settings: dict[str, str] | None = {}
    while settings is not None and len(found) < 3:
        with Worker("benchmarks.system:NumpyInfo", {}, threads, settings) as worker:
            found.setdefault(worker.call("kernel"), settings)
            settings = worker.call("mend")
    names = list(found)
    return {name: found[name] for name in dict.fromkeys((names[0], names[-1]))}


def time_step(
    cell: str, shape: Shape, names: Sequence[str], kernels: Kernels, options: Options
) -> dict[Contestant, Timing]:
    """Compare what all compute, then time them in turns."""
    progress(f"compile: {LABELS[cell]}, {shape}: preparing")
    contestants = [
        Contestant(name, kernel)
        for name in (*names, FLOOR)
        if name == FLOOR or cell in PEERS[name].cells
        for kernel in (kernels if name == FLOOR or PEERS[name].openblas else [""])
    ]
    with ExitStack() as stack:
        workers = {
            c: stack.enter_context(start(c, options.threads, kernels.get(c.kernel, {}))) for c in contestants
        }
        steps = prepare(workers, cell, shape)

        def tell(done: int) -> None:
            progress(f"compile: {LABELS[cell]}, {shape}: round {done} of {options.rounds}")

        pause = PAUSE_FOR_IDLE_THREADS if options.threads > 1 else 0.0
        timings = interleave(workers, steps, options.rounds, pause, tell)
    progress("")
    return timings


def start(contestant: Contestant, threads: int, settings: Mapping[str, str]) -> Worker:
    if contestant.name == FLOOR:
        return Worker("benchmarks.floor:Floor", {}, threads, settings)
    return Worker("benchmarks.session:Session", {"peer": contestant.name}, threads, settings)


def prepare(workers: Mapping[Contestant, Worker], cell: str, shape: Shape) -> dict[Contestant, int]:
    """Prepare all, compare their gradients with those of the first, and choose the steps of their rounds."""
    steps, computed = {}, {}
    with tempfile.TemporaryDirectory() as folder:
        for k, (contestant, worker) in enumerate(workers.items()):
            file = None if contestant.name == FLOOR else str(Path(folder, f"{k}.npz"))
            seconds = worker.call("prepare", shape=asdict(shape), cell=cell, gradients_to=file)
            steps[contestant] = min(max(round(ROUND_SECONDS / seconds), 3), 500)
            if file is not None:
                computed[contestant.label] = dict(np.load(file))
        check_agreement(computed, f"{cell}, {shape}")
    return steps


def step_table(cell: str, shape: Shape, timings: Mapping[Contestant, Timing]) -> str:
    rows = []
    for contestant, timing in timings.items():
        rows.append(
            [
                contestant.label,
                microseconds(timing.seconds),
                f"{timing.spread:.0%}",
                *(ratio(contestant, timing, others, timings) for others in AGAINST.values()),
                f"{timing.cores:.2f}",
            ]
        )
    header = [LABELS[cell], "µs/step", "± rounds", *AGAINST, "cores"]
    return table(f"One training step, {LABELS[cell]}, {shape}, V={shape.V}, float32", header, rows)


def ratio(
    contestant: Contestant, timing: Timing, others: Sequence[str], timings: Mapping[Contestant, Timing]
) -> str:
    """Over the first of some others that is there; a floor must have the same kernels, if any are NumPy's."""
    for other, reference in timings.items():
        if other.name in others and (not other.kernel or other.kernel == contestant.kernel):
            return f"{timing.ratio_to(reference):.2f}"
    return "-"
