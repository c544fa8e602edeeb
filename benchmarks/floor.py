"""The matrix products of a step and nothing else: what no program that calls the same BLAS can go below.

They are batched as far as the recurrence allows. The input projection, the output layer and the gradients of
all weights are one product each over the stack of all timesteps; only the recurrent product, and the one that
carries its gradient back, are taken timestep by timestep. Everything is written over at every step. W_hh.T
lies in memory as its product likes it best at these sizes: as a view of W_hh, row by row, or with room after
each row.
"""

from __future__ import annotations

import statistics
import sys
import time

import numpy as np

from benchmarks.problem import GATES, Problem, Step
from benchmarks.session import Session

TRIALS = 15


class Floor(Session):
    """A session of products, in a process of its own; it computes no gradients that could be compared."""

    def __init__(self) -> None:
        self.module = sys.modules[__name__]
        self.step: Step | None = None


def seconds(a: np.ndarray, b: np.ndarray, out: np.ndarray) -> float:
    """What one product takes."""
    times = []
    for _ in range(TRIALS):
        began = time.perf_counter()
        np.matmul(a, b, out=out)
        times.append(time.perf_counter() - began)
    return statistics.median(times)


def prepare(problem: Problem) -> Step:
    """See ``benchmarks.problem``; there is nothing to read."""
    T, B, V = problem.inputs.shape
    H = problem.shape.H
    rows = GATES[problem.cell] * H
    rng = np.random.default_rng(0)

    def drawn(*sizes: int) -> np.ndarray:
        return rng.uniform(-0.1, 0.1, sizes).astype(np.float32)

    xs = problem.inputs.reshape(T * B, V)
    W_xh, W_hh, W_hy = (problem.weights[name] for name in ("W_xh", "W_hh", "W_hy"))
    hs, a = drawn(T, B, H), drawn(T, B, rows)
    da, dh, dy = drawn(T, B, rows), drawn(B, H), drawn(T * B, V)
    ax, y, dhs = drawn(T * B, rows), drawn(T * B, V), drawn(T * B, H)
    dW_xh, dW_hh, dW_hy = np.empty_like(W_xh), np.empty_like(W_hh), np.empty_like(W_hy)
    apart = np.empty((H, rows + 16), np.float32)[:, :rows]
    np.copyto(apart, W_hh.T)
    layouts = W_hh.T, np.ascontiguousarray(W_hh.T), apart
    recurrent = min(layouts, key=lambda W: seconds(hs[0], W, a[0]))
    all_hs, all_da = hs.reshape(T * B, H), da.reshape(T * B, rows)

    def run() -> None:
        np.matmul(xs, W_xh.T, out=ax)
        for t in range(T):
            np.matmul(hs[t], recurrent, out=a[t])
        np.matmul(all_hs, W_hy.T, out=y)
        np.matmul(dy, W_hy, out=dhs)
        np.matmul(dy.T, all_hs, out=dW_hy)
        for t in reversed(range(T)):
            np.matmul(da[t], W_hh, out=dh)
        np.matmul(all_da.T, all_hs, out=dW_hh)
        np.matmul(all_da.T, xs, out=dW_xh)

    def read(_: None) -> tuple[float, dict[str, np.ndarray]]:
        raise NotImplementedError("products alone compute no loss")

    return Step(run, read)
