"""The command line: ``python -m benchmarks [PART ...] [options]``."""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path

from benchmarks.harness import BenchmarkError, Worker
from benchmarks.parts import Options, compile, doctor, memory, picture, scaling, step, tasks
from benchmarks.peers import PEERS
from benchmarks.problem import GATES
from benchmarks.report import Target, table, targets_table, write_json
from benchmarks.system import machine

PARTS = {
    "step": step.run,
    "compile": compile.run,
    "scaling": scaling.run,
    "memory": memory.run,
    "doctor": doctor.run,
    "picture": picture.run,
    "tasks": tasks.run,
}
DEFAULT_JSON = Path(__file__).resolve().parent / "results" / "latest.json"


def parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"any of {', '.join(PARTS)} (default: all)")
    parser.add_argument("--peers", help=f"comma-separated, of {', '.join(PEERS)} (default: all installed)")
    parser.add_argument("--rounds", type=int, default=15, help="rounds each peer takes (default: 15)")
    parser.add_argument("--threads", type=int, default=1, help="threads each peer may use (default: 1)")
    parser.add_argument("--text", type=Path, help="the file that language models are trained on")
    names = [task.name for task in tasks.TASKS]
    parser.add_argument("--tasks", help=f"comma-separated, of {', '.join(names)} (default: all)")
    parser.add_argument("--cells", help=f"comma-separated, of {', '.join(GATES)}, to compile (default: all)")
    parser.add_argument(
        "--quick", action="store_true", help="compile: one tiny size, to see that everything runs"
    )
    parser.add_argument(
        "--json", type=Path, default=DEFAULT_JSON, help=f"results file (default: {DEFAULT_JSON})"
    )
    options = parser.parse_args(arguments)
    unknown = [part for part in options.parts if part not in PARTS]
    if unknown:
        parser.error(f"no such part: {', '.join(unknown)}; there are {', '.join(PARTS)}")
    options.peers = options.peers.split(",") if options.peers else list(PEERS)
    unknown = [peer for peer in options.peers if peer not in PEERS]
    if unknown:
        parser.error(f"no such peer: {', '.join(unknown)}; there are {', '.join(PEERS)}")
    options.tasks = options.tasks.split(",") if options.tasks else []
    unknown = [task for task in options.tasks if task not in names]
    if unknown:
        parser.error(f"no such task: {', '.join(unknown)}; there are {', '.join(names)}")
    options.cells = options.cells.split(",") if options.cells else list(GATES)
    unknown = [cell for cell in options.cells if cell not in GATES]
    if unknown:
        parser.error(f"no such cell: {', '.join(unknown)}; there are {', '.join(GATES)}")
    if options.rounds < 1 or options.threads < 1:
        parser.error("--rounds and --threads must be at least 1")
    if options.text is not None and not options.text.is_file():
        parser.error(f"no such file: {options.text}")
    return options


def describe(peers: list[str], threads: int) -> dict[str, object]:
    """Print and return what is measured on what."""
    found = machine()
    with Worker("benchmarks.system:NumpyInfo", {}, threads) as worker:
        blas = worker.call("blas")
    versions = {}
    for name in peers:
        with Worker("benchmarks.session:Session", {"peer": name}, threads) as worker:
            versions[name] = worker.call("version")
    coretype = os.environ.get("OPENBLAS_CORETYPE")
    print(f"{found['cpu']}, {found['cores']} cores, load {found['load']}; {found['system']}")
    print(
        f"Python {found['python']}; BLAS of NumPy: {' '.join(f'{k}={v}' for k, v in blas.items())}"
        + (f" (OPENBLAS_CORETYPE={coretype})" if coretype else "")
    )
    print(f"Threads per peer: {threads}, each in a process of its own\n")
    print(table("Peers", ["peer", "version"], [[PEERS[name].label, versions[name]] for name in peers]))
    return {**found, "blas": blas, "threads": threads, "versions": versions}


def main(arguments: list[str]) -> int:
    """Run the parts asked for; 1 if a peer failed or disagreed. A target that is missed is no failure."""
    chosen = parse(arguments)
    peers = [name for name in chosen.peers if PEERS[name].installed]
    skipped = [
        f"{PEERS[name].label} (needs {PEERS[name].requires})" for name in chosen.peers if name not in peers
    ]
    results: dict[str, object] = {"time": time.strftime("%Y-%m-%dT%H:%M:%S%z"), "skipped": skipped}
    targets: list[Target] = []
    try:
        results["environment"] = describe(peers, chosen.threads)
        if skipped:
            print(f"Skipped, not installed: {', '.join(skipped)}\n")
        options = Options(
            peers, chosen.rounds, chosen.threads, chosen.text, chosen.tasks, chosen.cells, chosen.quick
        )
        for name in chosen.parts or PARTS:
            outcome = PARTS[name](options)
            results[name] = outcome.figures
            targets += outcome.targets
    except BenchmarkError as error:
        print(f"\nerror: {error}", file=sys.stderr)
        return 1
    if targets:
        print(targets_table(targets))
    write_json(chosen.json, results, targets)
    print(f"Written to {chosen.json}")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit(130)
