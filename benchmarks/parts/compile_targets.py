"""The figures that compiled steps must reach, as ratios within one run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from benchmarks.harness import Timing
from benchmarks.peers import PEERS
from benchmarks.problem import LABELS, Shape
from benchmarks.report import Target

NUMPY, KERNELS = "tensorgrad_compiled", "tensorgrad_fast"
# For one sequence at a time, the fraction of the hand-written step's time.
HANDWRITTEN_LIMIT = 1 / 5
JAX_LIMIT = 1.25
LOOP_LIMIT = 1 / 3
FLOOR_LIMIT = 1.6


def step_targets(cell: str, shape: Shape, timings: Mapping[str, Timing]) -> list[Target]:
    """Those that can be told from a network's timings at one shape, by the names of peers and "floor"."""
    return [
        Target(
            f"{LABELS[cell]}, {label(subject)} over {label(other)}, {shape}",
            limit,
            timings[subject].ratio_to(timings[other]),
        )
        for subject, other, limit in limits(cell, shape)
        if subject in timings and other in timings
    ]


def label(name: str) -> str:
    return "its products" if name == "floor" else PEERS[name].label.removeprefix("tensorgrad, ")


def limits(cell: str, shape: Shape) -> Iterator[tuple[str, str, float]]:
    """Who is measured, against whom, and what the ratio may be."""
    naive = cell == "layernorm_lstm"
    if naive:
        for subject in (NUMPY, KERNELS):
            yield subject, "torch_naive", LOOP_LIMIT
            yield subject, "jax_scan", 1.0
    else:
        if shape.B == 1:
            yield NUMPY, "handwritten", HANDWRITTEN_LIMIT
        if cell == "rnn":
            yield NUMPY, "torch_rnn", 1.0
        if shape.H >= 128:
            yield NUMPY, "jax_scan", JAX_LIMIT
        yield KERNELS, "torch_rnn", 1.0
        yield KERNELS, "jax_scan", 1.0
    if shape.H >= 512:
        yield NUMPY, "floor", FLOOR_LIMIT
        yield KERNELS, "floor", FLOOR_LIMIT
