"""HIPS autograd: NumPy code with a loop over time, differentiated by ``value_and_grad``."""

from __future__ import annotations

from typing import Any

import autograd.numpy as anp
import numpy as np
from autograd import value_and_grad

from benchmarks.problem import Problem, Step


def prepare(problem: Problem) -> Step:
    """See ``benchmarks.problem``."""
    T, B = problem.targets.shape
    xs, weights = problem.inputs, problem.weights
    h0 = np.zeros((B, problem.shape.H), dtype=np.float32)
    chosen = np.arange(T)[:, np.newaxis], np.arange(B), problem.targets
    scale = np.float32(1.0 / (T * B))

    def loss_of(weights: dict[str, Any]) -> Any:
        W_xh, W_hh, W_hy = weights["W_xh"], weights["W_hh"], weights["W_hy"]
        b_h, b_y = weights["b_h"], weights["b_y"]
        W_xh_T, W_hh_T = W_xh.T, W_hh.T  # once: every timestep's own transpose would be a node of its own
        h, outputs = h0, []
        for x in xs:
            h = anp.tanh(anp.dot(x, W_xh_T) + anp.dot(h, W_hh_T) + b_h)
            outputs.append(h)
        logits = anp.dot(anp.stack(outputs), W_hy.T) + b_y
        shifted = logits - anp.max(logits, axis=-1, keepdims=True)
        log_p = shifted - anp.log(anp.sum(anp.exp(shifted), axis=-1, keepdims=True))
        return -anp.sum(log_p[chosen]) * scale

    loss_and_gradients = value_and_grad(loss_of)

    def run() -> Any:
        return loss_and_gradients(weights)

    def read(result: Any) -> tuple[float, dict[str, np.ndarray]]:
        loss, gradients = result
        return float(loss), gradients

    return Step(run, read)
