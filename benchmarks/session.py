"""What runs inside a peer's own process: prepare a problem, then time it a round at a time."""

from __future__ import annotations

import gc
import importlib
import importlib.metadata
import statistics
import time

import numpy as np

from benchmarks.peers import PEERS
from benchmarks.problem import Shape, Step, make_problem
from benchmarks.system import peak_mib, reset_peak, resident_mib

WARM_UP_STEPS = 2
MEMORY_STEPS = 3


class Session:
    """One peer, one problem at a time. Methods take and return what JSON can carry."""

    def __init__(self, peer: str) -> None:
        self.peer = PEERS[peer]
        self.module = importlib.import_module(f"benchmarks.peers.{peer}")
        self.step: Step | None = None

    def version(self) -> str:
        """The version of the peer's library."""
        try:
            return importlib.metadata.version(self.peer.distribution)
        except importlib.metadata.PackageNotFoundError:  # run from a checkout that isn't installed
            return str(importlib.import_module(self.peer.requires).__version__)

    def prepare(self, shape: dict[str, int], cell: str = "rnn", gradients_to: str | None = None) -> float:
        """Build the step and warm it up.

        Args:
            shape: the fields of a ``Shape``.
            cell: the network; see ``benchmarks.problem``.
            gradients_to: an ``.npz`` file to write the loss and the gradients to.

        Returns:
            Seconds for one step, roughly.
        """
        self.step = self.module.prepare(make_problem(Shape(**shape), cell))
        for _ in range(WARM_UP_STEPS):
            self.step.run()
        if gradients_to is not None:
            loss, gradients = self.step.read(self.step.run())
            np.savez(gradients_to, loss=np.float64(loss), **gradients)
        return min(self._time(2))

    def round(self, steps: int) -> dict[str, float]:
        """Time ``steps`` steps.

        Returns:
            ``seconds``, the median of one step, and ``cores``, processor time over elapsed time.
        """
        self._time(1)  # the other peers' rounds have emptied the caches
        elapsed, processor = time.perf_counter(), time.process_time()
        times = self._time(steps)
        processor, elapsed = time.process_time() - processor, time.perf_counter() - elapsed
        return {"seconds": statistics.median(times), "cores": processor / elapsed}

    def once(self, shape: dict[str, int]) -> dict[str, float]:
        """One step with no warm-up: its seconds, and the peak resident size of this process in MiB."""
        self.step = self.module.prepare(make_problem(Shape(**shape)))
        return {"seconds": self._time(1)[0], "peak_mib": peak_mib()}

    def peak(self, shape: dict[str, int], cell: str) -> float:
        """MiB that steps take at most, over what the process had with its problem before the first of them.

        A step of another, small size comes first: what libraries load and keep once is no part of it.
        """
        for size in ({"H": 4, "T": 3, "B": 2}, shape):
            self.step = None
            self.step = self.module.prepare(make_problem(Shape(**size), cell))
            gc.collect()
            reset_peak()
            before = resident_mib()
            self._time(MEMORY_STEPS)
        return peak_mib() - before

    def _time(self, steps: int) -> list[float]:
        assert self.step is not None, "prepare() comes first"
        run, times = self.step.run, []
        gc.collect()
        for _ in range(steps):
            began = time.perf_counter()
            result = run()
            del result  # freeing a recorded graph is part of the step's cost
            times.append(time.perf_counter() - began)
        return times
