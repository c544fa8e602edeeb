"""Train a character transformer on a text and let it write.

python examples/train_transformer.py                   # the prose of Python's own reference
python examples/train_transformer.py my-text.txt --layers 2 --positions sinusoidal --steps 2000
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from tensorgrad.data import Vocabulary, read_text
from tensorgrad.models.corpus import python_reference
from tensorgrad.models.trainer import Settings, Trainer
from tensorgrad.models.transformer import POSITIONS, TransformerLM


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Train a character transformer and let it write.")
    parser.add_argument("text", nargs="?", help="a file in UTF-8; by default the prose of Python's reference")
    parser.add_argument("--size", type=int, default=48)
    parser.add_argument("--layers", type=int, default=1)
    parser.add_argument("--heads", type=int, default=4)
    parser.add_argument("--context", type=int, default=32)
    parser.add_argument("--positions", choices=POSITIONS, default="learned")
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--eager", action="store_true", help="run without compiling the step")
    args = parser.parse_args(argv)

    text = read_text(args.text) if args.text else python_reference()
    model = TransformerLM(
        Vocabulary(text),
        args.size,
        layers=args.layers,
        heads=args.heads,
        context=args.context,
        positions=args.positions,
        seed=0,
    )
    # Windows as long as the context: every position is then trained to predict.
    settings = Settings(
        batch=50, window=args.context, lr=2e-2, clip=1.0, warmup=100, schedule="cosine", steps=args.steps
    )
    trainer = Trainer(model, text, settings, compiled=not args.eager)
    for step in trainer.run():
        if step.number % 100 == 0 or step.number == trainer.total:
            loss = sum(trainer.history) / len(trainer.history)
            print(f"step {step.number}: {loss:.3f} nats per character, gradient norm {step.grad_norm:.2f}")
    print("\n" + "".join(model.sample(length=400, seed=0)))


if __name__ == "__main__":
    main()
