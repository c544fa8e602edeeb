"""Reverse long strings with and without attention, and draw where the attention looks.

python examples/attention_reversal.py                      # some minutes; writes alignment.png
python examples/attention_reversal.py --attention dot --steps 300 --out dot.png
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from tensorgrad.data import decode_pairs
from tensorgrad.models.attention import ATTENTIONS, AttentiveSeq2Seq
from tensorgrad.models.seq2seq import Seq2Seq
from tensorgrad.models.seq2seq_tasks import LONG_REVERSAL
from tensorgrad.viz import plots


def learn(name: str, model: Seq2Seq, steps: int, eager: bool) -> None:
    """Train a model and say how it gets on."""
    test = LONG_REVERSAL.test(200)
    for step, loss in enumerate(LONG_REVERSAL.train(model, steps, compiled=not eager), 1):
        if step % 100 == 0 or step == steps:
            print(f"{name}, step {step}: {loss:.3f} nats, {model.exact_match(test):.1%} reversed exactly")


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Reverse long strings with and without attention.")
    parser.add_argument("--attention", choices=ATTENTIONS, default="additive")
    parser.add_argument("--steps", type=int, default=LONG_REVERSAL.steps)
    parser.add_argument("--out", default="alignment.png")
    parser.add_argument("--eager", action="store_true", help="run without compiling the step")
    args = parser.parse_args(argv)

    plain = LONG_REVERSAL.model(Seq2Seq, seed=0)
    learn("plain", plain, args.steps, args.eager)
    model = LONG_REVERSAL.model(AttentiveSeq2Seq, attention=args.attention, seed=0)
    learn(args.attention, model, args.steps, args.eager)

    pairs = LONG_REVERSAL.test(1)
    n, m = pairs.source_lengths[0], pairs.target_lengths[0]
    ((source, target),) = decode_pairs(pairs, LONG_REVERSAL.vocabulary)
    alpha = model.alignment(pairs)[:m, 0, :n]
    plots.alignment(alpha, source, [*target, "END"]).savefig(args.out)
    print(f"\nwhere it looks while it writes {target}: {args.out}")


if __name__ == "__main__":
    main()
