"""Training on real text: a vanilla RNN on tiny Shakespeare, to the loss that PyTorch reaches likewise.

The setting: one layer, one-hot input, the last tenth of the text for validation. The rest is cut into 50
streams side by side; windows of 50 timesteps go through them, the state carried from window to window and
zero at the start of each epoch. Adam at 2e-3, times 0.9 after every epoch; gradients clipped to norm 5; ten
epochs. Weights and biases start uniform within 1/sqrt(H). The validation text runs through in 50 streams as
well, the state carried throughout; the figure is the mean over its characters.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.harness import CHECKOUT, Worker
from benchmarks.parts import Options, Outcome, progress
from benchmarks.parts.step import SUBJECT
from benchmarks.report import Target, table

FILE = Path("data", "tinyshakespeare.txt")
HIDDEN = 128
STREAMS = WINDOW = 50
EPOCHS = 10
RATE, DECAY, CLIP = 2e-3, 0.9, 5.0
LIMIT = 1.83


def find_text(given: Path | None) -> Path | None:
    """The file given, or tiny Shakespeare where TENSORGRAD_SHARED or a folder beside the checkout has it."""
    if given is not None:
        return given
    path = Path(os.environ.get("TENSORGRAD_SHARED") or CHECKOUT.parent / "shared") / FILE
    return path if path.is_file() else None


def streams(ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Characters and their successors, (timesteps, STREAMS); what does not fill a row is left out."""
    length = (len(ids) - 1) // STREAMS
    xs, ys = (
        part.reshape(STREAMS, length).T for part in (ids[: length * STREAMS], ids[1 : length * STREAMS + 1])
    )
    return np.ascontiguousarray(xs), np.ascontiguousarray(ys)


class Training:
    """tensorgrad training in a process of its own."""

    def __init__(self, path: str, seed: int = 0) -> None:
        import tensorgrad as tg
        from tensorgrad import nn

        self.tg, self.nn = tg, nn
        text = Path(path).read_text(encoding="utf-8")
        letters = sorted(set(text))
        index = {letter: i for i, letter in enumerate(letters)}
        ids = np.array([index[letter] for letter in text])
        cut = int(0.9 * len(ids))
        self.training, self.validation = streams(ids[:cut]), streams(ids[cut:])
        self.one_hot = np.eye(len(letters), dtype=np.float32)
        rng = np.random.default_rng(seed)
        self.cell = nn.RNNCell(len(letters), HIDDEN, seed=rng, dtype=np.float32)
        self.output = nn.Linear(HIDDEN, len(letters), seed=rng, dtype=np.float32)
        self.parameters = [*self.cell.parameters(), *self.output.parameters()]
        self.optimiser = tg.optim.Adam(self.parameters, lr=RATE)

    def loss(self, xs: np.ndarray, ys: np.ndarray, state: Any) -> tuple[Any, Any]:
        """Mean cross-entropy of a window, and the state it ends in, cut off from its history."""
        roll = self.nn.unroll(self.cell, self.one_hot[xs], state)
        loss = self.tg.functional.cross_entropy(self.output(roll.outputs), ys)
        return loss, roll.state.detach()

    def epoch(self) -> dict[str, float]:
        """Once through the training text, then through the validation text; losses in nats per character."""
        began = time.perf_counter()
        xs, ys = self.training
        state, losses = None, []
        for start in range(0, len(xs) - WINDOW + 1, WINDOW):
            window = slice(start, start + WINDOW)
            loss, state = self.loss(xs[window], ys[window], state)
            self.optimiser.zero_grad()
            loss.backward()
            self.tg.optim.clip_grad_norm(self.parameters, CLIP)
            self.optimiser.step()
            losses.append(loss.item())
        self.optimiser.lr *= DECAY
        seconds = time.perf_counter() - began
        return {"training": float(np.mean(losses)), "validation": self.validate(), "seconds": seconds}

    def validate(self) -> float:
        xs, ys = self.validation
        state, total = None, 0.0
        with self.tg.no_grad():
            for start in range(0, len(xs), WINDOW):
                window = slice(start, start + WINDOW)
                loss, state = self.loss(xs[window], ys[window], state)
                total += loss.item() * ys[window].size
        return total / ys.size


def run(options: Options) -> Outcome:
    """Train, an epoch a row."""
    path = find_text(options.text)
    if path is None:
        print(f"Training on text: skipped, {FILE.name} was not found (--text FILE, or TENSORGRAD_SHARED)\n")
        return Outcome()
    if SUBJECT not in options.peers:
        return Outcome()
    epochs = []
    with Worker("benchmarks.parts.text:Training", {"path": str(path.resolve())}, options.threads) as worker:
        for done in range(EPOCHS):
            progress(f"text: epoch {done + 1} of {EPOCHS}")
            epochs.append(worker.call("epoch"))
    progress("")
    rows = [
        [str(i + 1), f"{e['training']:.4f}", f"{e['validation']:.4f}", f"{e['seconds']:.1f}"]
        for i, e in enumerate(epochs)
    ]
    header = ["epoch", "training", "validation", "seconds"]
    print(table(f"Vanilla RNN, H={HIDDEN}, on {path.name}: nats per character", header, rows))
    reached = epochs[-1]["validation"]
    return Outcome(
        figures={"file": path.name, "epochs": epochs},
        targets=[Target("validation nats per character", LIMIT, reached)],
    )
