"""A cell on a standard task: does it learn, and how soon?

    python examples/standard_tasks.py --task adding --cell gru --T 50
    python examples/standard_tasks.py --task names --file names.tsv --cell lstm

What is printed is the mean loss of the last 50 steps beside chance, the loss of the best guesser that does
not look at its input: a mean squared error for adding and sine_prediction, nats per target for the rest. For
names and digits, the accuracy on sequences that were kept out of the training follows.
"""

from __future__ import annotations

import argparse
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

import tensorgrad as tg
from tensorgrad import data, nn, optim
from tensorgrad.data import Batch

# How many features or symbols go in and how many values or classes come out; and a batch.
TASKS: dict[str, tuple[int, int, Callable[..., Batch]]] = {
    "adding": (2, 1, data.adding),
    "copy_memory": (10, 9, data.copy_memory),
    "temporal_order": (8, 4, data.temporal_order),
    "parity": (1, 2, data.parity),
    "sine_prediction": (1, 1, data.sine_prediction),
}


def drawn(draw: Callable[..., Batch], T: int, B: int, rng: np.random.Generator) -> Iterator[Batch]:
    """New sequences at every step."""
    while True:
        yield draw(T, B, rng)


def passes(train: Batch, B: int, rng: np.random.Generator) -> Iterator[Batch]:
    """Minibatches without end, in a new order on every pass."""
    while True:
        yield from data.minibatches(train, B, rng)


def labelled(task: str, file: str | None) -> tuple[int, int, Batch]:
    """How many features or symbols and how many classes there are; and all sequences."""
    if task == "digits":
        return 8, 10, data.sequential_digits(rows=True)
    if file is None:
        raise SystemExit("the task names needs a --file")
    names = data.read_names(file)
    return len(names.vocabulary), len(names.classes), names.batch


def answers(cell: Any, readout: Any, batch: Batch, features: int) -> Any:
    """What the network says at every step, or after the last: as many numbers as there are outputs."""
    xs = tg.one_hot(batch.xs, features) if batch.xs.ndim == 2 else batch.xs
    outputs = nn.unroll(cell, xs, lengths=batch.lengths).outputs
    at_every_step = 3 if batch.ys.dtype.kind == "f" else 2  # axes: time, batch, and features of values
    if batch.ys.ndim == at_every_step:
        return readout(outputs)
    last = -1 if batch.lengths is None else batch.lengths - 1
    return readout(outputs[last, np.arange(xs.shape[1])])


def loss_of(answer: Any, ys: Any) -> Any:
    """The loss that the kind of target asks for."""
    return tg.mse(answer, ys) if ys.dtype.kind == "f" else tg.cross_entropy(answer, ys)


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="A recurrent cell on a standard task.")
    parser.add_argument("--task", choices=[*TASKS, "names", "digits"], default="adding")
    parser.add_argument("--cell", choices=sorted(nn.CELLS), default="gru")
    parser.add_argument("--T", type=int, default=50, help="timesteps; for copy_memory, the lag")
    parser.add_argument("--batch", type=int, default=50)
    parser.add_argument("--hidden", type=int, default=64)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--until", type=float, default=0.0, help="stop once the moving loss is below this")
    parser.add_argument("--file", help="names and labels, for the task names")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--eager", action="store_true", help="run without compiling the step")
    args = parser.parse_args(argv)
    rng = np.random.default_rng(args.seed)

    test = None
    if args.task in TASKS:
        features, outputs, draw = TASKS[args.task]
        batches = drawn(draw, args.T, args.batch, rng)
    else:
        features, outputs, everything = labelled(args.task, args.file)
        train, test = data.holdout(everything, seed=rng)
        batches = passes(train, args.batch, rng)

    cell = nn.make_cell(args.cell, features, args.hidden, seed=rng)
    readout = nn.Linear(getattr(cell, "output_size", args.hidden), outputs, seed=rng)
    parameters = [*cell.parameters(), *readout.parameters()]
    adam = optim.Adam(parameters, lr=args.lr)

    def learn(batch: Batch) -> Any:
        loss = loss_of(answers(cell, readout, batch, features), batch.ys)
        adam.zero_grad()
        loss.backward()
        optim.clip_grad_norm(parameters, 1.0)
        adam.step()
        return loss

    learn = learn if args.eager else tg.compile(learn)
    recent: deque[float] = deque(maxlen=50)
    for step in range(1, args.steps + 1):
        batch = next(batches)
        recent.append(learn(batch).item())
        moving = float(np.mean(recent))
        done = step == args.steps or (step >= 50 and moving < args.until)
        if step % 250 == 0 or done:
            print(f"step {step}: loss {moving:.4f}, chance {batch.chance:.4f}")
        if done:
            break
    if test is not None:
        with tg.no_grad():
            best = np.argmax(answers(cell, readout, test, features).numpy(), axis=-1)
        print(f"{np.mean(best == test.ys):.1%} of {len(best)} test sequences right")


if __name__ == "__main__":
    main()
