"""tensorgrad with its step compiled to a page of NumPy."""

from __future__ import annotations

from typing import Any

import tensorgrad as tg
from benchmarks.peers.tensorgrad_model import Model, gradients, loss_of
from benchmarks.problem import Problem, Step


def prepare(problem: Problem, fast: bool = False) -> Step:
    """See ``benchmarks.problem``.

    Args:
        problem: the work.
        fast: run its loops in compiled kernels.
    """
    model = Model(problem)
    step = tg.compile(tg.value_and_grad(loss_of), fast=fast)

    def run() -> Any:
        return step(model, problem.inputs, problem.targets)

    def read(result: Any) -> tuple[float, dict[str, Any]]:
        loss, found = result
        return loss.item(), gradients(problem, found)

    return Step(run, read)
