"""PyTorch with a cell of one's own, a layer-norm LSTM, called timestep by timestep from Python."""

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
    H = problem.shape.H
    w = {name: nn.Parameter(torch.from_numpy(value.copy())) for name, value in problem.weights.items()}
    xs, targets = torch.from_numpy(problem.inputs), torch.from_numpy(problem.targets)
    zeros = torch.zeros(problem.shape.B, H)

    def cell(x: torch.Tensor, h: torch.Tensor, c: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        a = F.layer_norm(h @ w["W_hh"].T, (4 * H,), w["gain_h"], w["shift_h"])
        a = a + F.layer_norm(x @ w["W_xh"].T, (4 * H,), w["gain_x"], w["shift_x"]) + w["b_h"]
        i, f, g, o = a.chunk(4, dim=-1)
        c = f.sigmoid() * c + i.sigmoid() * g.tanh()
        h = o.sigmoid() * F.layer_norm(c, (H,), w["gain_c"], w["shift_c"]).tanh()
        return h, c

    def run() -> torch.Tensor:
        for parameter in w.values():
            parameter.grad = None
        h, c, outputs = zeros, zeros, []
        for x in xs:
            h, c = cell(x, h, c)
            outputs.append(h)
        logits = torch.stack(outputs) @ w["W_hy"].T + w["b_y"]
        loss = F.cross_entropy(logits.flatten(0, 1), targets.flatten())
        loss.backward()
        return loss

    def read(loss: torch.Tensor) -> tuple[float, dict[str, np.ndarray]]:
        return loss.item(), {name: parameter.grad.numpy() for name, parameter in w.items()}

    return Step(run, read)
