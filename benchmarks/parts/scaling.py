"""How the cost of a step grows with the number of timesteps: it should grow in proportion."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict

from benchmarks.harness import Timing, Worker, interleave
from benchmarks.parts import Options, Outcome, progress
from benchmarks.parts.step import PAUSE_FOR_IDLE_THREADS, REFERENCE, SUBJECT, UNROLLED
from benchmarks.peers import PEERS
from benchmarks.problem import Shape
from benchmarks.report import Target, table

H, B = 100, 1
LENGTHS = (100, 1_000, 10_000)
LONGEST = 100_000
RATIO_LIMIT = 1.3
ROUND_SECONDS = 0.3
MOST_ROUNDS = 9


def run(options: Options) -> Outcome:
    """Time per timestep at three lengths, taken in turns; then the longest once."""
    outcome = Outcome(figures={"H": H, "B": B, "lengths": {}})
    rows = []
    for name in (REFERENCE, UNROLLED, SUBJECT):
        if name != REFERENCE and name not in options.peers:
            continue
        progress(f"scaling: {PEERS[name].label}")
        timings = time_lengths(name, options)
        per_timestep = {T: timing.seconds / T for T, timing in timings.items()}
        ratio = timings[LENGTHS[-1]].ratio_to(timings[LENGTHS[0]]) * LENGTHS[0] / LENGTHS[-1]
        rows.append([PEERS[name].label, *(f"{per_timestep[T] * 1e6:.1f}" for T in LENGTHS), f"{ratio:.2f}"])
        outcome.figures["lengths"][name] = {"seconds_per_timestep": per_timestep, "ratio": ratio}
        if name == SUBJECT:
            outcome.targets.append(
                Target(f"time per timestep, T={LENGTHS[-1]:,} over T={LENGTHS[0]:,}", RATIO_LIMIT, ratio)
            )
    progress("")
    header = ["µs per timestep", *(f"T={T:,}" for T in LENGTHS), "last over first"]
    print(table(f"Cost by length, H={H} B={B}, forward and backward", header, rows))
    if SUBJECT in options.peers:
        progress(f"scaling: T={LONGEST:,}")
        with Worker("benchmarks.session:Session", {"peer": SUBJECT}, options.threads) as worker:
            longest = worker.call("once", shape=asdict(Shape(H=H, T=LONGEST, B=B)))
        progress("")
        print(
            f"T={LONGEST:,}: forward and backward in {longest['seconds']:.1f} s, "
            f"{longest['seconds'] / LONGEST * 1e6:.1f} µs per timestep, peak {longest['peak_mib']:,.0f} MiB\n"
        )
        outcome.figures["longest"] = {"T": LONGEST, **longest}
    return outcome


def time_lengths(name: str, options: Options) -> Mapping[int, Timing]:
    workers = {T: Worker("benchmarks.session:Session", {"peer": name}, options.threads) for T in LENGTHS}
    try:
        steps = {}
        for T, worker in workers.items():
            seconds = worker.call("prepare", shape=asdict(Shape(H=H, T=T, B=B)))
            steps[T] = max(round(ROUND_SECONDS / seconds), 1)
        pause = PAUSE_FOR_IDLE_THREADS if options.threads > 1 else 0.0
        return interleave(workers, steps, min(options.rounds, MOST_ROUNDS), pause, lambda done: None)
    finally:
        for worker in workers.values():
            worker.close()
