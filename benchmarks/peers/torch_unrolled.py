"""PyTorch with ``nn.RNNCell`` called timestep by timestep from Python.

The structure is that of ``tensorgrad_eager``, so that the two can be compared: the cell once a timestep in a
Python loop, then the output layer and the loss on the stacked outputs, as one writes it in PyTorch.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from benchmarks.peers import torch_weights
from benchmarks.problem import Problem, Step


def prepare(problem: Problem) -> Step:
    """See ``benchmarks.problem``."""
    torch_weights.set_threads()
    shape = problem.shape
    cell, output = nn.RNNCell(shape.V, shape.H), nn.Linear(shape.H, shape.V)
    torch_weights.load(problem, cell, output)
    parameters = [*cell.parameters(), *output.parameters()]
    xs, targets = torch.from_numpy(problem.inputs), torch.from_numpy(problem.targets)
    h0 = torch.zeros(shape.B, shape.H)

    def run() -> torch.Tensor:
        for parameter in parameters:
            parameter.grad = None
        h, outputs = h0, []
        for x in xs:
            h = cell(x, h)
            outputs.append(h)
        logits = output(torch.stack(outputs))
        loss = F.cross_entropy(logits.flatten(0, 1), targets.flatten())
        loss.backward()
        return loss

    def read(loss: torch.Tensor) -> tuple[float, dict[str, np.ndarray]]:
        return loss.item(), torch_weights.gradients(problem, cell, output)

    return Step(run, read)
