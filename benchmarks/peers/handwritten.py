"""Plain NumPy with the backward pass written by hand, as it is usually written.

Columns are sequences: states are (H, B), and (H, 1) when one sequence is trained at a time. Every product is
taken timestep by timestep and every gradient summed in place.
"""

from __future__ import annotations

import numpy as np

from benchmarks.problem import Problem, Step

Result = tuple[np.float32, dict[str, np.ndarray]]


def prepare(problem: Problem) -> Step:
    """See ``benchmarks.problem``."""
    T, B = problem.targets.shape
    W_xh, W_hh, W_hy = (problem.weights[name] for name in ("W_xh", "W_hh", "W_hy"))
    b_h, b_y = (problem.weights[name][:, np.newaxis] for name in ("b_h", "b_y"))
    xs = np.ascontiguousarray(problem.inputs.transpose(0, 2, 1))
    targets = problem.targets
    h0 = np.zeros((W_hh.shape[0], B), dtype=np.float32)
    columns = np.arange(B)
    scale = np.float32(1.0 / (T * B))

    def run() -> Result:
        hs, ps = {-1: h0}, {}
        loss = np.float32(0.0)
        for t in range(T):
            hs[t] = np.tanh(W_xh @ xs[t] + W_hh @ hs[t - 1] + b_h)
            y = W_hy @ hs[t] + b_y
            e = np.exp(y - y.max(axis=0))
            ps[t] = e / e.sum(axis=0)
            loss -= np.log(ps[t][targets[t], columns]).sum() * scale

        dW_xh, dW_hh, dW_hy = np.zeros_like(W_xh), np.zeros_like(W_hh), np.zeros_like(W_hy)
        db_h, db_y = np.zeros_like(b_h), np.zeros_like(b_y)
        dh_next = np.zeros_like(h0)
        for t in reversed(range(T)):
            dy = ps[t].copy()
            dy[targets[t], columns] -= 1.0
            dy *= scale
            dW_hy += dy @ hs[t].T
            db_y += dy.sum(axis=1, keepdims=True)
            dh = W_hy.T @ dy + dh_next
            da = (1.0 - hs[t] * hs[t]) * dh
            db_h += da.sum(axis=1, keepdims=True)
            dW_xh += da @ xs[t].T
            dW_hh += da @ hs[t - 1].T
            dh_next = W_hh.T @ da
        return loss, {"W_xh": dW_xh, "W_hh": dW_hh, "b_h": db_h[:, 0], "W_hy": dW_hy, "b_y": db_y[:, 0]}

    def read(result: Result) -> tuple[float, dict[str, np.ndarray]]:
        loss, gradients = result
        return float(loss), gradients

    return Step(run, read)
