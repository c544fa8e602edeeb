"""Memory: a graph is gone with its loss though nothing collects garbage, and training does not grow."""

from __future__ import annotations

import gc
import weakref

from benchmarks.harness import Worker
from benchmarks.parts import Options, Outcome, progress
from benchmarks.parts.step import SUBJECT
from benchmarks.problem import Shape, make_problem
from benchmarks.report import Target, table
from benchmarks.system import resident_mib

SHAPE = Shape(H=100, T=25, B=1)
DEEP = Shape(H=100, T=1_000, B=8)
WARM_UP_STEPS = 500
STEPS = 10_000
GROWTH_LIMIT_MIB = 1.0


class Probe:
    """tensorgrad training in a process of its own with the garbage collector switched off."""

    def __init__(self) -> None:
        import tensorgrad as tg
        from tensorgrad import nn

        gc.disable()
        self.tg, self.nn = tg, nn
        self.cell = nn.RNNCell(SHAPE.V, SHAPE.H, seed=0, dtype="float32")
        self.output = nn.Linear(SHAPE.H, SHAPE.V, seed=1, dtype="float32")
        self.parameters = [*self.cell.parameters(), *self.output.parameters()]
        self.optimiser = tg.optim.Adam(self.parameters, lr=1e-3)

    def graph(self) -> dict[str, float]:
        """Make a graph, run its backward and drop it; say what is left."""
        problem = make_problem(DEEP)
        gc.collect()
        before = resident_mib()
        roll = self.nn.unroll(self.cell, problem.inputs)
        loss = self.tg.functional.cross_entropy(self.output(roll.outputs), problem.targets)
        loss.backward()
        during = resident_mib()
        watched = [weakref.ref(loss), *(weakref.ref(step["h"]) for step in roll.steps)]
        del roll, loss
        alive = sum(reference() is not None for reference in watched)
        after = resident_mib()
        return {
            "watched": len(watched),
            "alive": alive,
            "in_cycles": gc.collect(),
            "before_mib": before,
            "during_mib": during,
            "after_mib": after,
        }

    def train(self, steps: int) -> float:
        """Train; returns the resident size afterwards in MiB."""
        problem = make_problem(SHAPE)
        for _ in range(steps):
            roll = self.nn.unroll(self.cell, problem.inputs)
            loss = self.tg.functional.cross_entropy(self.output(roll.outputs), problem.targets)
            self.optimiser.zero_grad()
            loss.backward()
            self.tg.optim.clip_grad_norm(self.parameters, 5.0)
            self.optimiser.step()
        return resident_mib()


def run(options: Options) -> Outcome:
    """Both measurements, each in a fresh process."""
    if SUBJECT not in options.peers:
        return Outcome()
    progress(f"memory: a graph of {DEEP}")
    with Worker("benchmarks.parts.memory:Probe", {}, options.threads) as worker:
        graph = worker.call("graph")
    sizes = []
    with Worker("benchmarks.parts.memory:Probe", {}, options.threads) as worker:
        sizes.append(worker.call("train", steps=WARM_UP_STEPS))
        chunk = STEPS // 10
        for done in range(0, STEPS, chunk):
            progress(f"memory: training, step {done:,} of {STEPS:,}")
            sizes.append(worker.call("train", steps=chunk))
    progress("")
    rows = [
        [f"graph of {DEEP}: before", f"{graph['before_mib']:.1f}"],
        ["  with the graph", f"{graph['during_mib']:.1f}"],
        ["  its loss dropped", f"{graph['after_mib']:.1f}"],
        [f"training, {SHAPE}: after {WARM_UP_STEPS} steps", f"{sizes[0]:.1f}"],
        [f"  after {STEPS:,} more", f"{sizes[-1]:.1f}"],
    ]
    print(table("Memory, garbage collector switched off", ["resident size", "MiB"], rows))
    return Outcome(
        figures={"graph": graph, "training_mib": sizes},
        targets=[
            Target(f"of {graph['watched']:,} tensors, outlive their loss", 0, graph["alive"]),
            Target("objects that only the collector frees", 0, graph["in_cycles"]),
            Target(f"growth over {STEPS:,} training steps", GROWTH_LIMIT_MIB, sizes[-1] - sizes[0], "MiB"),
        ],
    )
