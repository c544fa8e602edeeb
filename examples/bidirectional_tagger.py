"""Which brackets have a partner? Tags that need both sides, learned in one direction and in two.

    (()))(      a string of brackets
    ^^^^..      ^ has a partner, . has none

Whether a ")" has a partner is decided by what stands before it, and for a "(" by what comes after. Layers
that read from left to right can learn the first alone. A second direction brings the other half. The strings
have different lengths: they are padded, and `lengths` keeps the padding out of outputs, states and gradients.

    python examples/bidirectional_tagger.py
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

import numpy as np

import tensorgrad as tg
from tensorgrad import data, nn, optim

SHORTEST, LONGEST = 4, 20


def partnered(text: str) -> list[int]:
    """1 for every bracket that has a partner, 0 for the others."""
    tags = [0] * len(text)
    waiting: list[int] = []
    for t, bracket in enumerate(text):
        if bracket == "(":
            waiting.append(t)
        elif waiting:
            tags[waiting.pop()] = tags[t] = 1
    return tags


def draw(B: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """B random strings: ids (T, B), 0 for "(" and 1 for ")"; tags (T, B); lengths (B,)."""
    texts = [rng.choice(["(", ")"], rng.integers(SHORTEST, LONGEST + 1)) for _ in range(B)]
    ids, lengths = data.pad([(text == ")").astype(int) for text in texts])
    tags, _ = data.pad([partnered("".join(text)) for text in texts])
    return ids, tags, lengths


class Tagger(nn.Module):
    """Two layers of a GRU, with dropout between them, and two scores for every timestep."""

    def __init__(self, hidden: int, bidirectional: bool, rng: np.random.Generator) -> None:
        self.rnn = nn.GRU(2, hidden, 2, bidirectional=bidirectional, dropout=0.1, seed=rng)
        self.output = nn.Linear(self.rnn.output_size, 2, seed=rng)

    def forward(self, ids: Any, lengths: Any = None) -> Any:
        """ids (T, B) to scores (T, B, 2)."""
        outputs, _ = self.rnn(tg.one_hot(ids, 2), lengths=lengths)
        return self.output(outputs)


def train(model: Tagger, steps: int, B: int, lr: float, rng: np.random.Generator, eager: bool) -> float:
    """Train on new strings at every step; gives the last loss, a mean over all brackets."""
    adam = optim.Adam(model.parameters(), lr=lr)

    def step(ids: Any, tags: Any, lengths: Any) -> Any:
        counts = np.arange(ids.shape[0])[:, None] < lengths
        loss = tg.cross_entropy(model(ids, lengths), tags, mask=counts)
        adam.zero_grad()
        loss.backward()
        optim.clip_grad_norm(model.parameters(), 1.0)
        adam.step()
        return loss

    step = step if eager else tg.compile(step)
    value = np.nan
    for _ in range(steps):
        value = step(*draw(B, rng)).item()
    return value


def accuracy(model: Tagger, rng: np.random.Generator, B: int = 500) -> tuple[float, float]:
    """The share of "(" and of ")" that are tagged right, in new strings."""
    ids, tags, lengths = draw(B, rng)
    with tg.no_grad(), model.evaluating():
        right = model(ids, lengths).numpy().argmax(axis=-1) == tags
    counts = np.arange(len(ids))[:, None] < lengths
    opening, closing = (right[counts & (ids == bracket)].mean() for bracket in (0, 1))
    return float(opening), float(closing)


def show(model: Tagger, text: str) -> str:
    """The tags that the model gives to one string, as marks to stand below it."""
    ids = np.array([[bracket == ")"] for bracket in text]).astype(int)
    with tg.no_grad(), model.evaluating():
        return "".join(".^"[tag] for tag in model(ids).numpy().argmax(axis=-1)[:, 0])


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Which brackets have a partner?")
    parser.add_argument("--steps", type=int, default=200, help="training steps (default: %(default)s)")
    parser.add_argument("--hidden", type=int, default=24)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--lr", type=float, default=1e-2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--eager", action="store_true", help="run without compiling the step")
    args = parser.parse_args(argv)

    text = "(()))(()((())"
    marks = {"the truth": "".join(".^"[tag] for tag in partnered(text))}
    for name, bidirectional in (("one direction", False), ("two directions", True)):
        rng = np.random.default_rng(args.seed)
        model = Tagger(args.hidden, bidirectional, rng)
        loss = train(model, args.steps, args.batch, args.lr, rng, args.eager)
        opening, closing = accuracy(model, np.random.default_rng(args.seed + 1))
        print(f"{name}: loss {loss:.3f}, {opening:.1%} of the ( and {closing:.1%} of the ) right")
        marks[name] = show(model, text)
    print(f"\n{text}")
    for name, line in marks.items():
        print(f"{line}  {name}")


if __name__ == "__main__":
    main()
