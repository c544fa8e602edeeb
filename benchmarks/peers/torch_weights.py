"""PyTorch's modules with the problem's weights in them, and their gradients read back."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import torch
from torch import nn

from benchmarks.problem import Problem


def set_threads() -> None:
    """Hold PyTorch to the threads that the harness allows."""
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))


def load(problem: Problem, recurrent: nn.Module, output: nn.Module, suffix: str = "") -> None:
    """Fill an ``nn.RNNCell`` (or a one-layer ``nn.RNN``, whose names end in ``suffix``) and an ``nn.Linear``.

    PyTorch's cells have two biases. Where they are only added up, the second is left at zero.
    """
    weights = {name: torch.from_numpy(value.copy()) for name, value in problem.weights.items()}
    recurrent.load_state_dict(
        {
            f"weight_ih{suffix}": weights["W_xh"],
            f"weight_hh{suffix}": weights["W_hh"],
            f"bias_ih{suffix}": weights["b_h"],
            f"bias_hh{suffix}": weights.get("b_hh", torch.zeros_like(weights["b_h"])),
        }
    )
    output.load_state_dict({"weight": weights["W_hy"], "bias": weights["b_y"]})


def gradients(
    problem: Problem, recurrent: nn.Module, output: nn.Module, suffix: str = ""
) -> dict[str, np.ndarray]:
    """The gradients of the last backward, under the problem's names."""
    cell: dict[str, Any] = dict(recurrent.named_parameters())
    head: dict[str, Any] = dict(output.named_parameters())
    found = {
        "W_xh": cell[f"weight_ih{suffix}"],
        "W_hh": cell[f"weight_hh{suffix}"],
        "b_h": cell[f"bias_ih{suffix}"],
        "b_hh": cell[f"bias_hh{suffix}"],
        "W_hy": head["weight"],
        "b_y": head["bias"],
    }
    return {name: found[name].grad.numpy() for name in problem.weights}
