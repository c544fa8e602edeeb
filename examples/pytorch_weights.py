"""Weights from PyTorch and back: the same file, the same outputs, the same gradients.

Two bidirectional layers of PyTorch's LSTM are saved with safetensors and loaded here. Both read the same
padded sequences from the same initial state. Then they are compared: outputs, final states, the gradients of
the inputs and of every weight. After some training steps here the weights travel back.

    pip install torch
    python examples/pytorch_weights.py
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

import tensorgrad as tg
from tensorgrad import nn, optim
from tensorgrad.check import norm_error
from tensorgrad.io import load_weights, save_weights

T, B, D, H, L = 7, 3, 5, 6, 2
LENGTHS = [7, 3, 5]


def ours(lstm: nn.LSTM, xs: np.ndarray, start: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
    """What tensorgrad computes: xs (T, B, D), start h_0 and c_0, (2L, B, H) each."""
    inputs = tg.tensor(xs, requires_grad=True)
    lstm.zero_grad()
    outputs, (h_n, c_n) = lstm(inputs, tuple(start), lengths=LENGTHS)
    ((outputs**2).sum() + (h_n * c_n).sum()).backward()
    found = {"outputs": outputs.numpy(), "h_n": h_n.numpy(), "c_n": c_n.numpy(), "d inputs": inputs.grad}
    return found | {f"d {name}": p.grad for name, p in lstm.named_parameters()}


def theirs(torch: Any, lstm: Any, xs: np.ndarray, start: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
    """What PyTorch computes of the same."""
    packing = torch.nn.utils.rnn
    inputs = torch.tensor(xs, requires_grad=True)
    lstm.zero_grad()
    packed = packing.pack_padded_sequence(inputs, torch.tensor(LENGTHS), enforce_sorted=False)
    outputs, (h_n, c_n) = lstm(packed, tuple(map(torch.tensor, start)))
    outputs, _ = packing.pad_packed_sequence(outputs)
    ((outputs**2).sum() + (h_n * c_n).sum()).backward()
    found = {"outputs": outputs, "h_n": h_n, "c_n": c_n}
    arrays = {name: x.detach().numpy() for name, x in found.items()} | {"d inputs": inputs.grad.numpy()}
    return arrays | {f"d {name}": p.grad.numpy() for name, p in lstm.named_parameters()}


def report(title: str, mine: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> None:
    """The relative error of each array, measured in norms."""
    errors = {name: norm_error(mine[name], other[name]) for name in other}
    worst = max(errors, key=lambda name: errors[name])
    print(f"{title}: {len(errors)} arrays compared, largest error {errors[worst]:.1e} in {worst}")
    if not errors[worst] < 1e-10:
        raise SystemExit("tensorgrad and PyTorch DISAGREE")


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Weights from PyTorch and back.")
    parser.add_argument("--steps", type=int, default=20, help="training steps before the way back")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(argv)
    try:
        import torch
        from safetensors.torch import load_file, save_file
    except ImportError:
        print("PyTorch is not installed, so there is nothing to compare with: pip install torch")
        return
    rng = np.random.default_rng(args.seed)
    xs = rng.standard_normal((T, B, D))
    start = [rng.standard_normal((2 * L, B, H)) for _ in range(2)]

    torch.manual_seed(args.seed)
    other = torch.nn.LSTM(D, H, L, bidirectional=True, dtype=torch.float64)
    lstm = nn.LSTM(D, H, L, bidirectional=True)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "lstm.safetensors")
        save_file(other.state_dict(), path)
        load_weights(path, lstm)
        report("from PyTorch", ours(lstm, xs, start), theirs(torch, other, xs, start))

        adam = optim.Adam(lstm.parameters(), lr=1e-2)
        for _ in range(args.steps):
            ours(lstm, xs, start)
            adam.step()
        save_weights(path, lstm)
        other.load_state_dict(load_file(path))
        report(f"back, {args.steps} steps later", ours(lstm, xs, start), theirs(torch, other, xs, start))


if __name__ == "__main__":
    main()
