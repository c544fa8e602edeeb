"""tensorgrad as its users write it: the cell unrolled by ``nn.unroll``, every operation recorded as it runs.

The structure is that of ``torch_unrolled``, so that the two can be compared: the cell once a timestep in a
Python loop, then the output layer and the loss on the stacked outputs, as one writes it in PyTorch.
"""

from __future__ import annotations

from typing import Any

import tensorgrad as tg
from benchmarks.peers.tensorgrad_model import Model, gradients, loss_of
from benchmarks.problem import Problem, Step


def prepare(problem: Problem) -> Step:
    """See ``benchmarks.problem``."""
    model = Model(problem)
    parameters = list(model.parameters())
    xs, targets = tg.tensor(problem.inputs), problem.targets

    def run() -> tg.Tensor:
        for parameter in parameters:
            parameter.grad = None
        loss = loss_of(model, xs, targets)
        loss.backward()
        return loss

    def read(loss: tg.Tensor) -> tuple[float, dict[str, Any]]:
        found = {name: parameter.grad for name, parameter in model.named_parameters()}
        return loss.item(), gradients(problem, found)

    return Step(run, read)
