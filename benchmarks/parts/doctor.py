"""How long the doctor takes: a wrong backward of T=100, B=8, H=64 compared and diagnosed.

The mistake is a bias gradient that is a mean over the batch where it is a sum. It is looked for with a record
of every timestep, and by the gradients of the parameters alone, which leaves more mistakes to be tried to the
end.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from benchmarks.harness import Worker
from benchmarks.parts import Options, Outcome, progress
from benchmarks.parts.step import SUBJECT
from benchmarks.report import Target, table

T, B, D, H = 100, 8, 32, 64
LIMIT = 2.0
CELLS = ("rnn", "lstm", "gru")


class Diagnosis:
    """One wrong backward, in a process of its own."""

    def __init__(self, cell: str) -> None:
        import tensorgrad as tg
        from tensorgrad import nn

        rng = np.random.default_rng(0)
        self.compare = tg.bptt.compare
        self.cell = nn.make_cell(cell, D, H, seed=rng)
        start = self.cell.initial_state(np.zeros((B, D)))
        self.roll = nn.unroll(self.cell, rng.standard_normal((T, B, D)), start)
        self.loss = (self.roll.outputs * rng.standard_normal((T, B, H))).sum()
        names, parameters = zip(*self.cell.named_parameters(), strict=True)
        self.manual = dict(zip(names, tg.grad(self.loss, parameters), strict=True))
        self.manual["bias_hh"] = self.manual["bias_hh"] / B
        self.dh = np.stack(tg.grad(self.loss, [step["h"] for step in self.roll.steps]))

    def run(self, records: bool) -> dict[str, Any]:
        """Seconds of a comparison with its diagnosis, the fastest of three, and the codes found."""
        manual = {**self.manual, **({"dh": self.dh} if records else {})}
        seconds = []
        for _ in range(3):
            began = time.perf_counter()
            report = self.compare(self.loss, manual, self.cell, self.roll)
            seconds.append(time.perf_counter() - began)
        return {"seconds": min(seconds), "found": [finding.code for finding in report.diagnosis]}


def run(options: Options) -> Outcome:
    """Every cell, with records and without."""
    if SUBJECT not in options.peers:
        return Outcome()
    outcome = Outcome()
    rows = []
    for cell in CELLS:
        progress(f"doctor: {cell}")
        with Worker("benchmarks.parts.doctor:Diagnosis", {"cell": cell}, options.threads) as worker:
            for records in (True, False):
                found = worker.call("run", records=records)
                given = "with dh" if records else "parameters alone"
                outcome.figures[f"{cell}, {given}"] = found
                what = f"diagnosis, {cell}, {given}, T={T} B={B} H={H}"
                outcome.targets.append(Target(what, LIMIT, found["seconds"], "s"))
                rows.append([f"{cell}, {given}", " ".join(found["found"]), f"{found['seconds']:.2f}"])
    progress("")
    print(table("Comparing and diagnosing a wrong backward", ["given", "found", "seconds"], rows))
    return outcome
