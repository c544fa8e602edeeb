"""One training step of a vanilla RNN: every peer, three shapes."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks.harness import BenchmarkError, Timing, Worker, interleave, peer_workers
from benchmarks.parts import Options, Outcome, progress
from benchmarks.peers import PEERS
from benchmarks.problem import Shape
from benchmarks.report import Target, microseconds, table

SHAPES = (Shape(H=100, T=25, B=1), Shape(H=128, T=50, B=32), Shape(H=512, T=64, B=64))
REFERENCE = "handwritten"
UNROLLED = "torch_unrolled"
SUBJECT = "tensorgrad_eager"
HANDWRITTEN_LIMITS = dict(zip(SHAPES, (1.3, 1.1, 1.1), strict=True))
UNROLLED_LIMIT = 1.0

# Of the norm of each gradient, and of the loss: float32 sums over some thousand terms.
TOLERANCE = 1e-4
ROUND_SECONDS = 0.1
PAUSE_FOR_IDLE_THREADS = 0.3


def run(options: Options) -> Outcome:
    """Check that all compute the same, then time them in turns."""
    outcome = Outcome(figures={"rounds": options.rounds, "shapes": {}})
    names = [name for name in dict.fromkeys([REFERENCE, *options.peers]) if "rnn" in PEERS[name].cells]
    pause = PAUSE_FOR_IDLE_THREADS if options.threads > 1 else 0.0
    for shape in SHAPES:
        progress(f"step {shape}: preparing")
        with peer_workers(names, options.threads) as workers:
            steps = prepare(workers, shape)
            timings = interleave(workers, steps, options.rounds, pause, partial(tell_round, shape, options))
        progress("")
        print(shape_table(shape, timings))
        outcome.figures["shapes"][str(shape)] = {
            name: {**asdict(timing), "seconds": timing.seconds} for name, timing in timings.items()
        }
        outcome.targets += shape_targets(shape, timings)
    return outcome


def tell_round(shape: Shape, options: Options, done: int) -> None:
    progress(f"step {shape}: round {done} of {options.rounds}")


def prepare(workers: Mapping[str, Worker], shape: Shape) -> dict[str, int]:
    """Prepare every peer, compare what it computes, and choose the number of steps in its rounds."""
    steps = {}
    with tempfile.TemporaryDirectory() as folder:
        files = {name: Path(folder, f"{name}.npz") for name in workers}
        for name, worker in workers.items():
            seconds = worker.call("prepare", shape=asdict(shape), gradients_to=str(files[name]))
            steps[name] = min(max(round(ROUND_SECONDS / seconds), 3), 500)
        check_agreement({name: dict(np.load(file)) for name, file in files.items()}, shape)
    return steps


def check_agreement(computed: Mapping[str, Mapping[str, np.ndarray]], where: object) -> None:
    """Compare losses and gradients with those of the first, by norm.

    Raises:
        BenchmarkError: naming the peer that computes something else: its time would mean nothing.
    """
    first, reference = next(iter(computed.items()))
    for name, found in computed.items():
        if found.keys() != reference.keys():
            raise BenchmarkError(f"{name} computes {sorted(found)}, {first} {sorted(reference)}")
        for key, expected in reference.items():
            what = f"{key} of {name} at {where}"
            if found[key].shape != expected.shape:
                raise BenchmarkError(f"{what} has shape {found[key].shape}, should have {expected.shape}")
            if key != "loss" and found[key].dtype != np.float32:
                raise BenchmarkError(f"{what} is {found[key].dtype}: all peers must work in float32")
            error = np.linalg.norm(found[key] - expected) / np.linalg.norm(expected)
            if not error <= TOLERANCE:
                raise BenchmarkError(f"{what} is off by {error:.1e} of its norm (allowed: {TOLERANCE:.0e})")


def shape_table(shape: Shape, timings: Mapping[str, Timing]) -> str:
    rows = []
    for name, timing in timings.items():
        ratios = [
            f"{timing.ratio_to(timings[other]):.2f}" if other in timings else "-"
            for other in (REFERENCE, UNROLLED)
        ]
        rows.append(
            [
                PEERS[name].label,
                microseconds(timing.seconds),
                f"{timing.spread:.0%}",
                *ratios,
                f"{timing.cores:.2f}",
            ]
        )
    header = ["vanilla RNN", "µs/step", "± rounds", "x hand-written", "x PyTorch cell", "cores"]
    return table(f"One training step, {shape}, V={shape.V}, float32", header, rows)


def shape_targets(shape: Shape, timings: Mapping[str, Timing]) -> list[Target]:
    if SUBJECT not in timings:
        return []
    limits = {UNROLLED: UNROLLED_LIMIT, REFERENCE: HANDWRITTEN_LIMITS[shape]}
    return [
        Target(
            f"eager step over {PEERS[name].label}, {shape}", limit, timings[SUBJECT].ratio_to(timings[name])
        )
        for name, limit in limits.items()
        if name in timings
    ]
