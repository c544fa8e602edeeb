"""What networks learn: figures of merit on tasks, each with the seed that it is reached with."""

from __future__ import annotations

import importlib.util
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.harness import CHECKOUT, Worker
from benchmarks.parts import Options, Outcome, progress
from benchmarks.parts.step import SUBJECT
from benchmarks.report import Target, table

FILE = Path("data", "tinyshakespeare.txt")


@dataclass(frozen=True)
class Task:
    """One figure.

    Attributes:
        name: what it is called on the command line.
        figure: what is measured.
        limit: at most this.
        factory: the class, ``module:Class`` in ``benchmarks.tasks``.
        arguments: of the class.
        text: whether it is trained on tiny Shakespeare.
        needs: a library it is compared with.
    """

    name: str
    figure: str
    limit: float
    factory: str
    arguments: Mapping[str, Any]
    text: bool = False
    needs: str | None = None

    def run(self, path: Path | None, threads: int) -> dict[str, Any]:
        """What the class returned, and the seconds it took."""
        arguments = dict(self.arguments)
        if self.text:
            assert path is not None
            arguments["path"] = str(path.resolve())
        began = time.perf_counter()
        with Worker(f"benchmarks.tasks.{self.factory}", arguments, threads) as worker:
            found: dict[str, Any] = worker.call("run")
        return {**found, "seconds": time.perf_counter() - began}


# Validation nats per character that PyTorch 2.13 reaches in the same setting; at most 0.01 more is allowed.
PYTORCH = {
    ("rnn", 64): 1.936,
    ("rnn", 128): 1.822,
    ("gru", 64): 1.829,
    ("gru", 128): 1.689,
    ("lstm", 64): 1.968,
    ("lstm", 128): 1.859,
}

TASKS = [
    *(
        Task(
            f"text-{cell}-{hidden}",
            f"{cell} H={hidden}, validation nats per character",
            round(nats + 0.01, 3),
            "text:Text",
            {"cell": cell, "hidden": hidden, "seed": 1},
            text=True,
        )
        for (cell, hidden), nats in PYTORCH.items()
    ),
    *(
        Task(
            f"transformer-{hidden}",
            f"transformer, validation nats less those of an rnn H={hidden} of more weights",
            -0.001,
            "text:TransformerAgainstRNN",
            {"hidden": hidden, **sizes, "seed": 0},
            text=True,
        )
        for hidden, sizes in (
            (128, {"d_model": 48, "layers": 1, "lr": 3e-2}),
            (256, {"d_model": 60, "layers": 2, "lr": 2e-2}),
        )
    ),
    *(
        Task(
            f"follow-{cell}",
            f"{cell}, 200 steps beside PyTorch, largest difference of losses",
            1e-8,
            "following:Following",
            {"cell": cell, "steps": 200, "seed": 0},
            needs="torch",
        )
        for cell in ("rnn", "lstm", "gru")
    ),
    *(
        Task(
            f"adding-{cell}",
            f"{cell}, adding problem T=50, steps to a mean squared error under 0.01",
            most,
            "recurrent:Adding",
            {"cell": cell, "T": 50, "most": 5000, "seed": 0},
        )
        for cell, most in (("gru", 1400), ("lstm", 3500))
    ),
    Task(
        "copy-lru",
        "lru, copy memory at lag 50, share of symbols wrong",
        0.01,
        "recurrent:CopyMemory",
        {"cell": "lru", "lag": 50, "steps": 1000, "lr": 3e-3, "seed": 0},
    ),
    *(
        Task(
            task.lower(),
            f"plain seq2seq, {what}, share of answers wrong",
            0.01,
            "pairs:Plain",
            {"task": task, "seed": 0},
        )
        for task, what in (
            ("REVERSAL", "reversal of up to 10 symbols"),
            ("ADDITION", "sums of up to 3 digits, held out"),
        )
    ),
    *(
        Task(
            f"long-reversal-{attention}",
            f"{attention} attention, reversal of 20 to 30, wrong answers over those without attention",
            0.5,
            "pairs:AgainstPlain",
            {"task": "LONG_REVERSAL", "attention": attention, "seed": 0},
        )
        for attention in ("additive", "dot")
    ),
]


def find_text(given: Path | None) -> Path | None:
    """The file given, or tiny Shakespeare where TENSORGRAD_SHARED or a folder beside the checkout has it."""
    if given is not None:
        return given
    path = Path(os.environ.get("TENSORGRAD_SHARED") or CHECKOUT.parent / "shared") / FILE
    return path if path.is_file() else None


def run(options: Options) -> Outcome:
    """Run the tasks asked for, or all; those whose text or library is absent are skipped by name."""
    if SUBJECT not in options.peers:
        return Outcome()
    path = find_text(options.text)
    outcome = Outcome()
    rows = []
    for task in TASKS:
        if options.tasks and task.name not in options.tasks:
            continue
        if (task.text and path is None) or (task.needs and not importlib.util.find_spec(task.needs)):
            print(f"{task.name}: skipped, {task.needs or FILE.name} was not found")
            continue
        progress(f"tasks: {task.name}")
        found = task.run(path, options.threads)
        target = Target(task.figure, task.limit, found["reached"])
        outcome.figures[task.name] = found
        outcome.targets.append(target)
        rows.append([task.name, str(task.arguments["seed"]), f"{found['seconds']:.0f}", *target.row()[1:]])
    progress("")
    if rows:
        header = ["task", "seed", "seconds", "at most", "reached", "met"]
        print(table("Tasks", header, rows))
    return outcome
