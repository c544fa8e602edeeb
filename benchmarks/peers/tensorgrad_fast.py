"""tensorgrad with its step compiled, its loops and element-wise work in compiled kernels."""

from __future__ import annotations

from benchmarks.peers import tensorgrad_compiled
from benchmarks.problem import Problem, Step


def prepare(problem: Problem) -> Step:
    """See ``benchmarks.problem``."""
    return tensorgrad_compiled.prepare(problem, fast=True)
