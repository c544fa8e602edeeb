"""Does training follow PyTorch? The same weights, batches and optimiser in both, in float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from tensorgrad import optim
from tensorgrad.data import Vocabulary, Windows
from tensorgrad.models.char_lm import CharLM
from tensorgrad.models.corpus import python_reference
from tensorgrad.nn import detach
from tensorgrad.optim import Adam


class Following:
    """The largest difference of the two losses over so many steps on the prose of Python's reference."""

    HIDDEN, WINDOW, BATCH, RATE, CLIP = 64, 25, 16, 2e-3, 5.0

    def __init__(self, cell: str, steps: int, seed: int) -> None:
        torch.set_num_threads(1)
        text = python_reference()
        self.steps = steps
        self.model = CharLM(Vocabulary(text), cell, self.HIDDEN, seed=seed, dtype=np.float64)
        V = len(self.model.vocabulary)
        kind = {"rnn": torch.nn.RNN, "lstm": torch.nn.LSTM, "gru": torch.nn.GRU}[cell]
        self.recurrent, self.output = kind(V, self.HIDDEN).double(), torch.nn.Linear(self.HIDDEN, V).double()
        for mine, theirs in ((self.model.rnn, self.recurrent), (self.model.output, self.output)):
            theirs.load_state_dict({name: torch.tensor(a) for name, a in mine.state_dict().items()})
        self.windows = Windows(self.model.vocabulary.encode(text), self.WINDOW, self.BATCH)

    def run(self) -> dict[str, Any]:
        """Train both side by side."""
        mine = Adam(self.model.parameters(), self.RATE)
        parameters = [*self.recurrent.parameters(), *self.output.parameters()]
        theirs = torch.optim.Adam(parameters, self.RATE)
        state, their_state = None, None
        losses = []
        for _ in range(self.steps):
            xs, ys, _ = next(self.windows)
            loss, state, _ = self.model.loss(xs, ys, state)
            mine.zero_grad()
            loss.backward()
            optim.clip_grad_norm(mine.parameters, self.CLIP)
            mine.step()
            state = detach(state)

            one_hot = torch.nn.functional.one_hot(torch.tensor(xs), len(self.model.vocabulary)).double()
            outputs, their_state = self.recurrent(one_hot, their_state)
            logits = self.output(outputs).flatten(0, 1)
            their_loss = torch.nn.functional.cross_entropy(logits, torch.tensor(ys).flatten())
            theirs.zero_grad()
            their_loss.backward()
            torch.nn.utils.clip_grad_norm_(parameters, self.CLIP)
            theirs.step()
            parts = their_state if isinstance(their_state, tuple) else (their_state,)
            parts = tuple(part.detach() for part in parts)
            their_state = parts if isinstance(their_state, tuple) else parts[0]
            losses.append((loss.item(), their_loss.item()))
        gap = np.abs(np.diff(losses, axis=1)).max()
        return {"reached": float(gap), "first": losses[0], "last": losses[-1]}
