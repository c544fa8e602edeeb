"""Teach an encoder-decoder to add: it reads "12+345" and writes "357", digit by digit.

python examples/seq2seq_addition.py                            # about a minute, to 99%
python examples/seq2seq_addition.py --teacher-forcing 0.5      # half of what it reads, it wrote itself
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence

from tensorgrad.data import Pairs, decode_pairs
from tensorgrad.models.decoding import Hypothesis
from tensorgrad.models.seq2seq import Seq2Seq
from tensorgrad.models.seq2seq_tasks import ADDITION


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Teach an encoder-decoder to add.")
    parser.add_argument("--cell", default="gru")
    parser.add_argument("--steps", type=int, default=ADDITION.steps)
    parser.add_argument(
        "--teacher-forcing", type=float, default=1.0, help="below 1 a step is not compiled: it needs values"
    )
    parser.add_argument("--eager", action="store_true", help="run without compiling the step")
    args = parser.parse_args(argv)

    model = ADDITION.model(Seq2Seq, cell=args.cell, seed=0)
    test = ADDITION.test(1000)
    training = ADDITION.train(
        model, args.steps, teacher_forcing=args.teacher_forcing, compiled=not args.eager
    )
    for step, loss in enumerate(training, 1):
        if step % 500 == 0 or step == args.steps:
            print(f"step {step}: {loss:.4f} nats per character, {model.exact_match(test):.1%} of sums right")

    print("\nproblems it was never trained on, and its three best answers:")
    few = Pairs(*(part[..., :5] for part in test))
    beams = model.beam(few.source, few.source_lengths, width=3, max_length=len(few.target))
    for (problem, _), beam in zip(decode_pairs(few, ADDITION.vocabulary), beams, strict=True):
        print(f"{problem[::-1]} = {', '.join(map(shown, beam))}")  # problems are written backwards


def shown(answer: Hypothesis) -> str:
    """An answer without its end, and how sure the model is of it."""
    ids = answer.ids[:-1] if answer.finished else answer.ids
    return f"{ADDITION.vocabulary.decode(ids)} ({math.exp(answer.log_probability):.1%})"


if __name__ == "__main__":
    main()
