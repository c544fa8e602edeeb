"""The adding problem and copy memory: how many steps until a cell has learned them."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Any

import numpy as np

import tensorgrad as tg
from tensorgrad import data, nn, optim


class Network(nn.Module):
    """One recurrent layer and a linear one."""

    def __init__(self, cell: str, D: int, H: int, outputs: int, seed: int, **options: Any) -> None:
        rng = np.random.default_rng(seed)
        self.cell = nn.make_cell(cell, D, H, seed=rng, dtype=np.float32, **options)
        self.readout = nn.Linear(getattr(self.cell, "output_size", H), outputs, seed=rng, dtype=np.float32)


class Adding:
    """Steps until the mean squared error, averaged over the last 50 batches, is under 0.01; chance is 1/6."""

    HIDDEN, BATCH, RATE, LIMIT, AVERAGED = 64, 50, 1e-3, 0.01, 50

    def __init__(self, cell: str, T: int, most: int, seed: int) -> None:
        self.net = Network(cell, 2, self.HIDDEN, 1, seed)
        self.T, self.most, self.seed = T, most, seed

    def losses(self) -> Iterator[float]:
        """The loss of every step."""
        rng = np.random.default_rng(self.seed)
        adam = optim.Adam(self.net.parameters(), lr=self.RATE)

        def step(xs: Any, ys: Any) -> Any:
            roll = nn.unroll(self.net.cell, xs)
            loss = tg.mse(self.net.readout(roll.outputs[-1]), ys)
            adam.zero_grad()
            loss.backward()
            adam.step()
            return loss

        step = tg.compile(step)
        while True:
            xs, ys, *_ = data.adding(self.T, self.BATCH, rng, np.float32)
            yield step(xs, ys).item()

    def run(self) -> dict[str, Any]:
        """The number of steps, or infinity where ``most`` were not enough."""
        recent: deque[float] = deque(maxlen=self.AVERAGED)
        for step, loss in zip(range(1, self.most + 1), self.losses(), strict=False):
            recent.append(loss)
            if step >= self.AVERAGED and np.mean(recent) < self.LIMIT:
                return {"reached": float(step)}
        return {"reached": float("inf"), "loss": float(np.mean(recent))}


class CopyMemory:
    """The share of symbols given back wrongly after training, on new sequences."""

    HIDDEN, BATCH = 128, 64

    def __init__(self, cell: str, lag: int, steps: int, lr: float, seed: int, **options: Any) -> None:
        self.net = Network(cell, 10, self.HIDDEN, 9, seed, **options)
        self.lag, self.steps, self.lr, self.seed = lag, steps, lr, seed

    def logits(self, xs: Any) -> Any:
        """Scores of every symbol at every timestep."""
        roll = nn.unroll(self.net.cell, tg.one_hot(xs, 10, np.float32))
        return self.net.readout(roll.outputs)

    def run(self) -> dict[str, Any]:
        """Train, then look at 1,000 new sequences."""
        rng = np.random.default_rng(self.seed)
        adam = optim.Adam(self.net.parameters(), lr=self.lr)

        def step(xs: Any, ys: Any) -> Any:
            loss = tg.cross_entropy(self.logits(xs), ys)
            adam.zero_grad()
            loss.backward()
            optim.clip_grad_norm(self.net.parameters(), 1.0)
            adam.step()
            return loss

        step = tg.compile(step)
        for _ in range(self.steps):
            xs, ys, _, chance = data.copy_memory(self.lag, self.BATCH, rng)
            loss = step(xs, ys)
        xs, ys, _, _ = data.copy_memory(self.lag, 1000, rng)
        with tg.no_grad():
            best = self.logits(xs).numpy().argmax(axis=-1)
        return {"reached": float(np.mean(best[-10:] != ys[-10:])), "loss": loss.item(), "chance": chance}
