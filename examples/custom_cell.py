"""A recurrent cell of one's own: write it as on the whiteboard; unroll it, check it, train it.

The cell is the minimal gated unit: a GRU whose two gates are one.

    f_t = sigmoid(W_f [h_(t-1), x_t] + b_f)
    n_t = tanh(W_n [f_t * h_(t-1), x_t] + b_n)
    h_t = (1 - f_t) * h_(t-1) + f_t * n_t

Source: Zhou, Wu, Zhang, Zhou, "Minimal Gated Unit for Recurrent Neural Networks" (2016), section 3.

It is trained on the adding problem: of two rows of numbers the second marks two of the first, whose sum is to
be given after the last timestep. Always answering 1 has a mean squared error of 1/6.

    python examples/custom_cell.py
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

import numpy as np

import tensorgrad as tg
from tensorgrad import nn, optim

T, B, H = 20, 32, 32


def mgu(params: Any, x: Any, h: Any) -> tuple[Any, Any]:
    """One timestep: (x, state) -> (output, state). x (B, D), h (B, H)."""
    f = tg.label(tg.sigmoid(tg.concatenate([h, x], axis=1) @ params["W_f"] + params["b_f"]), "f")
    n = tg.label(tg.tanh(tg.concatenate([f * h, x], axis=1) @ params["W_n"] + params["b_n"]), "n")
    h = tg.label((1 - f) * h + f * n, "h")
    return h, h


def start(H: int, D: int, rng: np.random.Generator) -> dict[str, Any]:
    """Initial parameters; the gate starts nearly closed, so that the state is kept."""
    shapes = {"W_f": (H + D, H), "b_f": (H,), "W_n": (H + D, H), "b_n": (H,), "W_y": (H, 1), "b_y": (1,)}
    arrays = {name: nn.init.uniform(shape, H**-0.5, rng) for name, shape in shapes.items()}
    arrays["b_f"] -= 2
    return {name: tg.tensor(array, requires_grad=True, name=name) for name, array in arrays.items()}


def loss_of(params: Any, xs: np.ndarray, target: np.ndarray) -> Any:
    """The mean squared error of the answer after the last timestep: xs (T, B, 2), target (B, 1)."""
    h0 = np.zeros((xs.shape[1], params["b_n"].shape[0]))
    roll = nn.unroll(lambda x, h: mgu(params, x, h), xs, h0)
    return tg.mse(roll.state @ params["W_y"] + params["b_y"], target)


def adding_problem(T: int, B: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    numbers, marks = rng.random((T, B)), np.zeros((T, B))
    for b in range(B):
        marks[rng.choice(T, 2, replace=False), b] = 1
    return np.stack([numbers, marks], axis=2), (numbers * marks).sum(axis=0)[:, None]


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="A recurrent cell of one's own.")
    parser.add_argument("--steps", type=int, default=1500)
    args = parser.parse_args(argv)
    rng = np.random.default_rng(0)

    # Is the gradient of the unrolled cell right? The engine has no rule for this cell: it derives one.
    small = start(3, 2, rng)
    names = list(small)
    xs, target = adding_problem(5, 2, rng)
    rows = tg.gradcheck(
        lambda *values: loss_of(dict(zip(names, values, strict=True)), xs, target), list(small.values())
    )
    print(f"against central differences: largest error {max(row.error for row in rows):.1e}")

    params = start(H, 2, rng)
    adam = optim.Adam(params.values(), lr=5e-3)
    for step in range(1, args.steps + 1):
        loss = loss_of(params, *adding_problem(T, B, rng))
        adam.zero_grad()
        loss.backward()
        optim.clip_grad_norm(params.values(), 1.0)
        adam.step()
        if step % 250 == 0 or step == args.steps:
            print(f"step {step}: mean squared error {loss.item():.4f}")


if __name__ == "__main__":
    main()
