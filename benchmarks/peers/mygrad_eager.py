"""MyGrad: tensors and a loop over time; memory guarding is off, as its manual advises for speed."""

from __future__ import annotations

from typing import Any

import mygrad as mg
import numpy as np
from mygrad.nnet.losses import softmax_crossentropy

from benchmarks.problem import Problem, Step


def prepare(problem: Problem) -> Step:
    """See ``benchmarks.problem``."""
    mg.turn_memory_guarding_off()
    T, B = problem.targets.shape
    H = problem.shape.H
    weights = {name: mg.tensor(value.copy()) for name, value in problem.weights.items()}
    W_xh, W_hh, W_hy, b_h, b_y = (weights[name] for name in ("W_xh", "W_hh", "W_hy", "b_h", "b_y"))
    xs, targets = problem.inputs, problem.targets.reshape(T * B)
    h0 = np.zeros((B, H), dtype=np.float32)

    def run() -> Any:
        for weight in weights.values():
            weight.null_grad()
        W_xh_T, W_hh_T = W_xh.T, W_hh.T  # once: every timestep's own transpose would be a node of its own
        h, outputs = h0, []
        for x in xs:
            h = mg.tanh(mg.matmul(x, W_xh_T) + mg.matmul(h, W_hh_T) + b_h)
            outputs.append(h)
        logits = mg.matmul(mg.stack(outputs).reshape(T * B, H), W_hy.T) + b_y
        loss = softmax_crossentropy(logits, targets)
        loss.backward()
        return loss

    def read(loss: Any) -> tuple[float, dict[str, np.ndarray]]:
        return loss.item(), {name: weight.grad for name, weight in weights.items()}

    return Step(run, read)
