"""PyTorch with ``nn.RNN``, ``nn.LSTM`` or ``nn.GRU``: the loop over time runs in its C++ library."""

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
    rnn = {"rnn": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU}[problem.cell](shape.V, shape.H)
    output = nn.Linear(shape.H, shape.V)
    torch_weights.load(problem, rnn, output, suffix="_l0")
    parameters = [*rnn.parameters(), *output.parameters()]
    xs, targets = torch.from_numpy(problem.inputs), torch.from_numpy(problem.targets)
    zeros = torch.zeros(1, shape.B, shape.H)
    start = (zeros, zeros) if problem.cell == "lstm" else zeros

    def run() -> torch.Tensor:
        for parameter in parameters:
            parameter.grad = None
        outputs, _ = rnn(xs, start)
        logits = output(outputs)
        loss = F.cross_entropy(logits.flatten(0, 1), targets.flatten())
        loss.backward()
        return loss

    def read(loss: torch.Tensor) -> tuple[float, dict[str, np.ndarray]]:
        return loss.item(), torch_weights.gradients(problem, rnn, output, suffix="_l0")

    return Step(run, read)
