"""Train a character RNN on a text and let it write.

python examples/train_char_rnn.py                      # the prose of Python's own reference
python examples/train_char_rnn.py my-text.txt --cell gru --steps 2000
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from tensorgrad import nn
from tensorgrad.data import Vocabulary, read_text
from tensorgrad.models.char_lm import CharLM
from tensorgrad.models.corpus import python_reference
from tensorgrad.models.trainer import Settings, Trainer


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Train a character RNN and let it write.")
    parser.add_argument("text", nargs="?", help="a file in UTF-8; by default the prose of Python's reference")
    parser.add_argument("--cell", choices=nn.CELLS, default="rnn")
    parser.add_argument("--layers", type=int, default=1)
    parser.add_argument("--hidden", type=int, default=128)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--eager", action="store_true", help="run without compiling the step")
    args = parser.parse_args(argv)

    text = read_text(args.text) if args.text else python_reference()
    model = CharLM(Vocabulary(text), args.cell, args.hidden, layers=args.layers, seed=0)
    trainer = Trainer(model, text, Settings(batch=32, steps=args.steps), compiled=not args.eager)
    for step in trainer.run():
        if step.number % 100 == 0 or step.number == trainer.total:
            loss = sum(trainer.history) / len(trainer.history)
            print(f"step {step.number}: {loss:.3f} nats per character, gradient norm {step.grad_norm:.2f}")
    print("\n" + "".join(model.sample(length=400, temperature=0.8, seed=0)))


if __name__ == "__main__":
    main()
