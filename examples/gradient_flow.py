"""What happens to gradients on their way back through time: vanishing, exploding, and what gates do about it.

First one vanilla RNN whose recurrent matrix is scaled to several spectral radii. Then RNN, LSTM and GRU
against each other, after some training on a task whose answer depends on inputs long ago: to add two marked
numbers of a sequence. Of each it prints and draws how the gradient flows, and how far back one must go.

    python examples/gradient_flow.py --out figures
    python examples/gradient_flow.py --steps 0 --T 40
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

import tensorgrad as tg
from tensorgrad import bptt, data, nn, optim

H, B = 32, 16
RADII = (0.5, 0.8, 0.95, 1.05, 1.25, 1.6)


def scaled_rnn(radius: float) -> nn.RNNCell:
    """A vanilla RNN with normal recurrent weights of that spectral radius, and no biases."""
    cell = nn.RNNCell(2, H, bias=False, seed=0)
    W = np.random.default_rng(0).normal(size=(H, H))
    cell.weight_hh.data = radius * W / np.abs(np.linalg.eigvals(W)).max()
    return cell


def loss_at_the_end(cell: Any, readout: Any, xs: np.ndarray, ys: np.ndarray) -> tuple[Any, nn.Unrolled]:
    """The mean squared error of the answer after the last timestep, and the run."""
    roll = nn.unroll(cell, xs)
    return tg.mse(readout(roll.steps[-1]["h"]), ys), roll


def against_spectral_radius(T: int) -> dict[float, bptt.GradientFlow]:
    """The gradient flow of the vanilla RNN at every radius, for small inputs, where tanh is nearly linear."""
    xs = 0.01 * np.random.default_rng(1).normal(size=(T, B, 2))
    flows = {}
    for radius in RADII:
        roll = nn.unroll(scaled_rnn(radius), xs)
        flows[radius] = bptt.gradient_flow(roll.steps[-1]["h"].sum(), roll)
        exponents = bptt.lyapunov_exponents(bptt.state_jacobians(roll), count=1, warmup=T // 2)
        print(
            f"spectral radius {radius:4.2f}: factor of one step back {flows[radius].factor('h'):.3f}, "
            f"greatest Lyapunov exponent {exponents.values.mean():+.3f}"
        )
    return flows


def train(name: str, T: int, steps: int, eager: bool) -> tuple[Any, Any]:
    """A cell and its readout after so many steps on the adding problem."""
    rng = np.random.default_rng(2)
    options = {"forget_bias": 1.0} if name == "lstm" else {}
    cell, readout = nn.make_cell(name, 2, H, seed=0, **options), nn.Linear(H, 1, seed=1)
    parameters = [*cell.parameters(), *readout.parameters()]
    adam = optim.Adam(parameters, lr=3e-3)

    def step(xs: Any, ys: Any) -> None:
        loss, _ = loss_at_the_end(cell, readout, xs, ys)
        adam.zero_grad()
        loss.backward()
        optim.clip_grad_norm(parameters, 1.0)
        adam.step()

    step = step if eager else tg.compile(step)
    for _ in range(steps):
        xs, ys, *_ = data.adding(T, 32, rng)
        step(xs, ys)
    return cell, readout


def compare_cells(
    T: int, steps: int, eager: bool
) -> tuple[dict[str, bptt.GradientFlow], dict[str, bptt.Horizon]]:
    """Gradient flow and truncation horizon of three cells on the same sequences."""
    xs, ys, *_ = data.adding(T, B, np.random.default_rng(3))
    flows, horizons = {}, {}
    for name in ("rnn", "lstm", "gru"):
        cell, readout = train(name, T, steps, eager)
        loss, roll = loss_at_the_end(cell, readout, xs, ys)
        label = name.upper()
        flows[label] = bptt.gradient_flow(loss, roll)
        horizons[label] = bptt.truncation_horizon(loss, cell, roll)
        carried = "c" if name == "lstm" else "h"
        print(
            f"{label:4}: loss {loss.item():.4f}, factor of one step back {flows[label].factor(carried):.3f}, "
            f"gradient within 1% from k={horizons[label].within(0.01)} of {T}"
        )
    return flows, horizons


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="What happens to gradients on their way back through time.")
    parser.add_argument("--steps", type=int, default=600, help="training steps (default: %(default)s)")
    parser.add_argument("--T", type=int, default=50, help="timesteps (default: %(default)s)")
    parser.add_argument(
        "--out", type=Path, metavar="FOLDER", help="save the figures there (needs matplotlib)"
    )
    parser.add_argument("--eager", action="store_true", help="run without compiling the step")
    args = parser.parse_args(argv)
    radii = against_spectral_radius(args.T)
    flows, horizons = compare_cells(args.T, args.steps, args.eager)
    if args.out:
        from tensorgrad.viz import plots

        args.out.mkdir(parents=True, exist_ok=True)
        for name, figure in (
            ("spectral-radius", plots.spectral_radius(radii)),
            ("cells", plots.gradient_flow(flows)),
            ("horizon", plots.horizon(horizons)),
        ):
            figure.savefig(args.out / f"{name}.png", dpi=110)


if __name__ == "__main__":
    main()
