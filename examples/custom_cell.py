"""A recurrent cell of one's own: write it as on the whiteboard; unroll it, check it, draw it, train it.

The cell is the update gate RNN: a vanilla cell, and a gate that says how much of the old state stays.

    g_t = sigmoid(W_g [h_(t-1), x_t] + b_g)
    n_t = tanh(W_n [h_(t-1), x_t] + b_n)
    h_t = g_t * h_(t-1) + (1 - g_t) * n_t

Source: Collins, Sohl-Dickstein, Sussillo, "Capacity and Trainability in Recurrent Neural Networks" (2017).

It is trained on the adding problem: of two rows of numbers the second marks two of the first, whose sum is to
be given after the last timestep. Always answering 1 has a mean squared error of 1/6.

    python examples/custom_cell.py
    python examples/custom_cell.py --steps 0 --draw ugrnn.svg
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

import numpy as np

import tensorgrad as tg
from tensorgrad import data, nn, optim
from tensorgrad.check import norm_error

T, B, H = 20, 32, 32


def ugrnn(params: Any, x: Any, h: Any) -> tuple[Any, Any]:
    """One timestep: (x, state) -> (output, state). x (B, D), h (B, H)."""
    both = tg.concatenate([h, x], axis=1)
    g = tg.label(tg.sigmoid(both @ params["W_g"] + params["b_g"]), "g")
    n = tg.label(tg.tanh(both @ params["W_n"] + params["b_n"]), "n")
    h = tg.label(g * h + (1 - g) * n, "h")
    return h, h


def start(H: int, D: int, rng: np.random.Generator) -> dict[str, Any]:
    """Initial parameters; the gate starts nearly open, so that the state is kept."""
    shapes = {"W_g": (H + D, H), "b_g": (H,), "W_n": (H + D, H), "b_n": (H,), "W_y": (H, 1), "b_y": (1,)}
    arrays = {name: nn.init.uniform(shape, H**-0.5, rng) for name, shape in shapes.items()}
    arrays["b_g"] += 2
    return {name: tg.tensor(array, requires_grad=True, name=name) for name, array in arrays.items()}


def forward(params: Any, xs: np.ndarray, ys: np.ndarray) -> tuple[Any, nn.Unrolled]:
    """The mean squared error of the answer after the last timestep, and the run: xs (T, B, 2), ys (B, 1)."""
    h0 = np.zeros((xs.shape[1], params["b_n"].shape[0]))
    roll = nn.unroll(lambda x, h: ugrnn(params, x, h), xs, h0)
    return tg.mse(roll.state @ params["W_y"] + params["b_y"], ys), roll


def dh_by_hand(params: Any, roll: nn.Unrolled, dh: np.ndarray) -> list[np.ndarray]:
    """dL/dh of every timestep from that of the last, by a backward pass derived on paper."""
    out = [dh]
    for t in range(len(roll) - 1, 0, -1):
        g, n = roll.steps[t]["g"].numpy(), roll.steps[t]["n"].numpy()
        before = roll.steps[t - 1]["h"].numpy()
        dg = dh * (before - n) * g * (1 - g)
        dn = dh * (1 - g) * (1 - n**2)
        through_both = dg @ params["W_g"].numpy().T + dn @ params["W_n"].numpy().T
        dh = dh * g + through_both[:, : dh.shape[1]]
        out.append(dh)
    return out[::-1]


def check(rng: np.random.Generator) -> None:
    """The engine has no rule for this cell: it derives the gradient, which two others confirm."""
    params = start(3, 2, rng)
    xs, ys, *_ = data.adding(5, 2, rng)
    names = list(params)
    rows = tg.gradcheck(
        lambda *values: forward(dict(zip(names, values, strict=True)), xs, ys)[0], list(params.values())
    )
    print(f"against central differences: largest error {max(row.error for row in rows):.1e}")

    loss, roll = forward(params, xs, ys)
    dh = tg.grad(loss, [step["h"] for step in roll.steps])
    by_hand = dh_by_hand(params, roll, np.asarray(dh[-1]))
    print(f"dh against a backward by hand: error {norm_error(np.stack(dh), np.stack(by_hand)):.1e}")


def draw(path: str, rng: np.random.Generator) -> None:
    """Draw the graph of two timesteps."""
    xs, ys, *_ = data.adding(2, 1, rng)
    loss, roll = forward(start(3, 2, rng), xs, ys)
    tg.viz.draw(loss, unrolled=roll).save(path)


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="A recurrent cell of one's own.")
    parser.add_argument("--steps", type=int, default=1500, help="training steps (default: %(default)s)")
    parser.add_argument("--draw", metavar="FILE", help="draw two timesteps into an .svg, .png, .pdf or .dot")
    parser.add_argument("--eager", action="store_true", help="run without compiling the step")
    args = parser.parse_args(argv)
    rng = np.random.default_rng(0)
    check(rng)
    if args.draw:
        draw(args.draw, rng)

    params = start(H, 2, rng)
    adam = optim.Adam(params.values(), lr=5e-3)

    def learn(xs: Any, ys: Any) -> Any:
        loss, _ = forward(params, xs, ys)
        adam.zero_grad()
        loss.backward()
        optim.clip_grad_norm(params.values(), 1.0)
        adam.step()
        return loss

    learn = learn if args.eager else tg.compile(learn)
    for step in range(1, args.steps + 1):
        xs, ys, *_ = data.adding(T, B, rng)
        loss = learn(xs, ys)
        if step % 250 == 0 or step == args.steps:
            print(f"step {step}: mean squared error {loss.item():.4f}")


if __name__ == "__main__":
    main()
