"""The engine's gradients beside backpropagation through time written by hand, tensor by tensor.

The engine records the unrolled graph of an RNN and differentiates it. Beside it stands a backward written out
in NumPy, in which a mistake can be planted: the comparison then shows which gradients differ, and from which
timestep back.

    python examples/compare_with_manual_bptt.py
    python examples/compare_with_manual_bptt.py --mistake
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

import numpy as np

import tensorgrad as tg
from tensorgrad import functional as F
from tensorgrad import nn
from tensorgrad.check.gradcheck import norm_error

B, H, V = 2, 8, 5


def forward(W: Any, xs: np.ndarray, targets: np.ndarray) -> tuple[Any, nn.Unrolled]:
    """The network as on the whiteboard; labels name what is to be compared."""

    def cell(x: Any, h: Any) -> tuple[Any, Any]:
        a = tg.label(x @ W["W_xh"] + h @ W["W_hh"] + W["b_h"], "a")
        h = tg.label(tg.tanh(a), "h")
        return tg.label(h @ W["W_hy"] + W["b_y"], "y"), h

    roll = nn.unroll(cell, F.one_hot(xs, V), np.zeros((B, H)))
    return F.cross_entropy(roll.outputs, targets, reduction="sum"), roll


def backward(W: Any, xs: np.ndarray, targets: np.ndarray, mistake: bool) -> dict[str, np.ndarray]:
    """The same network's gradients by hand: all weights, and dy, dh, da of every timestep."""
    T = len(xs)
    x, h = np.eye(V)[xs], np.zeros((T + 1, B, H))  # h[-1] is the initial state
    dy = np.empty((T, B, V))
    for t in range(T):
        h[t] = np.tanh(x[t] @ W["W_xh"] + h[t - 1] @ W["W_hh"] + W["b_h"])
        p = np.exp(h[t] @ W["W_hy"] + W["b_y"])
        dy[t] = p / p.sum(axis=1, keepdims=True) - np.eye(V)[targets[t]]

    d = {name: np.zeros_like(value) for name, value in W.items()}
    dh, da = np.empty((T, B, H)), np.empty((T, B, H))
    carry = np.zeros((B, H))
    for t in reversed(range(T)):
        dh[t] = dy[t] @ W["W_hy"].T + carry
        da[t] = (1 - h[t] ** 2) * dh[t]
        # A classic: the gradient is carried on from behind the nonlinearity instead of from before it.
        carry = (dh[t] if mistake else da[t]) @ W["W_hh"].T
        d["W_xh"] += x[t].T @ da[t]
        d["W_hh"] += h[t - 1].T @ da[t]
        d["W_hy"] += h[t].T @ dy[t]
        d["b_h"] += da[t].sum(axis=0)
        d["b_y"] += dy[t].sum(axis=0)
    return {**d, "dy": dy, "dh": dh, "da": da}


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="The engine's gradients beside hand-written ones.")
    parser.add_argument("--steps", type=int, default=10, help="timesteps (default: %(default)s)")
    parser.add_argument("--mistake", action="store_true", help="plant a mistake in the hand-written backward")
    args = parser.parse_args(argv)

    rng = np.random.default_rng(0)
    shapes = {"W_xh": (V, H), "W_hh": (H, H), "b_h": (H,), "W_hy": (H, V), "b_y": (V,)}
    W = {name: 0.5 * rng.standard_normal(shape) for name, shape in shapes.items()}
    text = rng.integers(V, size=(args.steps + 1, B))
    xs, targets = text[:-1], text[1:]

    leaves = {name: tg.tensor(value, requires_grad=True, name=name) for name, value in W.items()}
    loss, roll = forward(leaves, xs, targets)
    found = dict(zip(leaves, tg.grad(loss, list(leaves.values())), strict=True))
    for label in ("y", "h", "a"):
        found[f"d{label}"] = np.stack(tg.grad(loss, [step[label] for step in roll.steps]))

    by_hand = backward(W, xs, targets, args.mistake)
    for name, g in found.items():
        error = norm_error(g, by_hand[name])
        print(f"{name:5} error {error:.1e}  {'agree' if error < 1e-9 else 'DIFFER'}")
    # The backward runs from the end, so the last timestep that differs is the first to go wrong.
    wrong = [t for t in range(args.steps) if norm_error(found["dh"][t], by_hand["dh"][t]) > 1e-9]
    if wrong:
        print(f"dh is right back to t={max(wrong) + 1}, and wrong from t={max(wrong)} on: look at the carry")


if __name__ == "__main__":
    main()
