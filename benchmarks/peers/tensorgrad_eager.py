"""tensorgrad as its users write it: the cell unrolled by ``nn.unroll``, every operation recorded as it runs.

The structure is that of ``torch_unrolled``, so that the two can be compared: the cell once a timestep in a
Python loop, then the output layer and the loss on the stacked outputs, as one writes it in PyTorch.
"""

from __future__ import annotations

from typing import Any

import numpy as np

import tensorgrad as tg
import tensorgrad.functional as F
from benchmarks.problem import Problem, Step
from tensorgrad import nn


def prepare(problem: Problem) -> Step:
    """See ``benchmarks.problem``."""
    shape, weights = problem.shape, problem.weights
    cell = nn.RNNCell(shape.V, shape.H, dtype=np.float32)
    output = nn.Linear(shape.H, shape.V, dtype=np.float32)
    cell.load_state_dict(
        {
            "weight_ih": weights["W_xh"],
            "weight_hh": weights["W_hh"],
            "bias_ih": weights["b_h"],
            "bias_hh": np.zeros_like(weights["b_h"]),
        }
    )
    output.load_state_dict({"weight": weights["W_hy"], "bias": weights["b_y"]})
    parameters = [*cell.parameters(), *output.parameters()]
    xs, targets = tg.tensor(problem.inputs), problem.targets
    h0 = tg.tensor(np.zeros((shape.B, shape.H), dtype=np.float32))

    def run() -> tg.Tensor:
        for parameter in parameters:
            parameter.grad = None
        roll = nn.unroll(cell, xs, h0)
        logits = output(roll.outputs)
        loss = F.cross_entropy(logits, targets)
        loss.backward()
        return loss

    def read(loss: tg.Tensor) -> tuple[float, dict[str, Any]]:
        recurrent, head = dict(cell.named_parameters()), dict(output.named_parameters())
        return loss.item(), {
            "W_xh": recurrent["weight_ih"].grad,
            "W_hh": recurrent["weight_hh"].grad,
            "b_h": recurrent["bias_ih"].grad,
            "W_hy": head["weight"].grad,
            "b_y": head["bias"].grad,
        }

    return Step(run, read)
