"""One process per peer, threads pinned before any library loads, and rounds taken in turn."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# A round that got less than this share of a processor was disturbed by another program, and is taken again.
UNDISTURBED = 0.95
ATTEMPTS = 3

CHECKOUT = Path(__file__).resolve().parent.parent
THREAD_VARIABLES = (
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OMP_NUM_THREADS",
    "BLIS_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NUMBA_NUM_THREADS",
    "NPROC",  # the size of XLA's thread pools
)


class BenchmarkError(Exception):
    """A peer failed, or computed something else than the others."""


def pinned(threads: int, settings: Mapping[str, str] | None = None) -> dict[str, str]:
    """This process's environment with every library's threads limited; other variables pass through.

    Args:
        threads: how many each library may use.
        settings: further variables; one with an empty value is taken out.
    """
    environment = dict(os.environ)
    environment.update(dict.fromkeys(THREAD_VARIABLES, str(threads)))
    environment["JAX_PLATFORMS"] = "cpu"
    if threads == 1:
        flags = environment.get("XLA_FLAGS", "")
        environment["XLA_FLAGS"] = f"{flags} --xla_cpu_multi_thread_eigen=false".strip()
    environment.update(settings or {})
    return {name: value for name, value in environment.items() if value}


class Worker:
    """An object in a process of its own; see ``benchmarks.worker``."""

    def __init__(
        self,
        factory: str,
        arguments: Mapping[str, Any],
        threads: int,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        self.factory = factory
        self._log = tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace")  # noqa: SIM115 (see close)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.worker", factory],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            cwd=CHECKOUT,
            env=pinned(threads, settings),
            encoding="utf-8",
        )
        try:
            self._ask(dict(arguments))
        except BaseException:
            self.close()
            raise

    def call(self, method: str, **arguments: Any) -> Any:
        """Call a method over there and wait for its result.

        Raises:
            BenchmarkError: with the traceback of over there, or with the last words of a process that died.
        """
        return self._ask({"method": method, "arguments": arguments})

    def _ask(self, request: dict[str, Any]) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        answer = ""
        try:
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
            answer = self._process.stdout.readline()
        except BrokenPipeError:
            pass
        if not answer:
            status = self._process.wait()
            self._log.seek(0)
            raise BenchmarkError(
                f"{self.factory}: process ended with status {status}\n{self._log.read()[-4000:]}"
            )
        parsed = json.loads(answer)
        if "error" in parsed:
            raise BenchmarkError(f"{self.factory}: {request} failed:\n{parsed['error']}")
        return parsed["result"]

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.communicate()
        self._log.close()

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@contextmanager
def peer_workers(names: Sequence[str], threads: int) -> Iterator[dict[str, Worker]]:
    """A ``Session`` for each of some peers."""
    with ExitStack() as stack:
        yield {
            name: stack.enter_context(Worker("benchmarks.session:Session", {"peer": name}, threads))
            for name in names
        }


@dataclass(frozen=True)
class Timing:
    """Rounds of one contestant: the median step of each, in seconds, and the processors it kept busy."""

    rounds: list[float]
    cores: float

    @property
    def seconds(self) -> float:
        return statistics.median(self.rounds)

    @property
    def spread(self) -> float:
        """Half the interquartile range over the median: how far apart rounds are."""
        if len(self.rounds) < 2:
            return 0.0
        low, _, high = statistics.quantiles(self.rounds, n=4)
        return (high - low) / 2 / self.seconds

    def ratio_to(self, other: Timing) -> float:
        """The median of this round by round over the other: what slows a whole round cancels out."""
        return statistics.median(a / b for a, b in zip(self.rounds, other.rounds, strict=True))


def undisturbed_round(worker: Worker, steps: int) -> dict[str, float]:
    """One round; of several attempts the one that had most of the processor."""
    best: dict[str, float] = {"cores": -1.0}
    for _ in range(ATTEMPTS):
        taken: dict[str, float] = worker.call("round", steps=steps)
        best = max(best, taken, key=lambda attempt: attempt["cores"])
        if best["cores"] >= UNDISTURBED:
            break
    return best


def interleave(
    workers: Mapping[Any, Worker],
    steps: Mapping[Any, int],
    rounds: int,
    pause: float,
    progress: Callable[[int], None],
) -> dict[Any, Timing]:
    """Take rounds in turn, so that a machine that speeds up or slows down does so for all alike.

    Args:
        workers: contestants, prepared.
        steps: steps in a round of each.
        rounds: how many rounds each takes.
        pause: seconds before each, for the threads of the one before to go to sleep.
        progress: told the number of rounds done.
    """
    results: dict[Any, list[dict[str, float]]] = {name: [] for name in workers}
    for done in range(rounds):
        for name, worker in workers.items():
            time.sleep(pause)
            results[name].append(undisturbed_round(worker, steps[name]))
        progress(done + 1)
    return {
        name: Timing([r["seconds"] for r in taken], statistics.median(r["cores"] for r in taken))
        for name, taken in results.items()
    }
