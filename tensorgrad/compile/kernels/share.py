"""The work of a page, shared by as many threads as the BLAS has.

No row of a kernel needs anything of another's, so that each thread takes some rows through all timesteps,
and nobody waits for anybody before the end. Meanwhile the BLAS has one thread: those of OpenBLAS go on
turning for milliseconds after a product, and would take half of a processor from ours.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np

from tensorgrad.compile.kernels.blas import set_threads, threads
from tensorgrad.compile.kernels.kernel import Kernel

__all__ = ["Shared", "product_shared", "rows_of_kernel", "team", "threads_at_rest"]

LEAST_ROWS = 8
"""Fewer would have a thread read a matrix for little."""

LEAST_WORK = 2**17
"""So many elements in all arrays of a kernel are worth the 30 microseconds that waking a thread takes."""

LEAST_PRODUCT = 2**23
"""And so many multiplications in a product."""

BLOCK = 4
"""Each thread's rows begin at a multiple of this, for packed products take several rows at a time."""


class _Teams:
    """at_work: the threads that have others share what they call. count: the BLAS's threads when none is.

    here.count: how many share what this thread calls.
    """

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.at_work: set[int] = set()
        self.count = 1
        self.here = threading.local()


_TEAMS = _Teams()


def threads_at_rest() -> int | None:
    """The number of threads that NumPy's BLAS has while nobody shares; None where it cannot be asked."""
    with _TEAMS.lock:
        return _TEAMS.count if _TEAMS.at_work else threads()


@contextmanager
def team(rows: int) -> Iterator[None]:
    """While it lasts, threads share what this thread calls, if there are rows enough for several."""
    several = min(threads_at_rest() or 1, rows // LEAST_ROWS)
    if several < 2:
        yield
        return
    me = threading.get_ident()
    try:
        with _TEAMS.lock:
            if not _TEAMS.at_work:
                _TEAMS.count = threads() or 1
            _TEAMS.at_work.add(me)
            set_threads(1)
        _TEAMS.here.count = several
        yield
    finally:
        _TEAMS.here.count = 1
        with _TEAMS.lock:
            if me in _TEAMS.at_work:
                _TEAMS.at_work.remove(me)
                if not _TEAMS.at_work:
                    set_threads(_TEAMS.count)


def _together(length: int, each: Callable[[int, int], Any]) -> list[Any]:
    """What each(first, last) returns for parts of a length, all at once; the first in this thread."""
    count = min(_TEAMS.here.count, length // LEAST_ROWS)
    blocks = -(-length // BLOCK)
    first, *left = pairwise(min(length, BLOCK * (blocks * k // count)) for k in range(count + 1))

    def quietly(start: int, stop: int) -> Any:
        # NumPy's state of errors is a thread's own.
        with np.errstate(all="ignore"):
            return each(start, stop)

    others = []
    try:
        while left:
            others.append(_pool().submit(quietly, *left[0]))
            del left[0]
    except RuntimeError:
        # The interpreter is about to end and starts no thread any more: what is left is done here.
        pass
    try:
        mine = [each(*part) for part in (first, *left)]
    finally:
        wait(others)
    return [mine[0], *(other.result() for other in others), *mine[1:]]


@cache
def _pool() -> ThreadPoolExecutor:
    """Threads that wait for work; one is started when there is work and none waits."""
    return ThreadPoolExecutor(max(2, os.cpu_count() or 1), "tensorgrad")


def _forked() -> None:
    """A fork has none of its parent's threads, whatever they were at."""
    global _TEAMS
    before, _TEAMS = _TEAMS, _Teams()
    _pool.cache_clear()
    if before.at_work:
        set_threads(before.count)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)


def _several(length: int) -> bool:
    return getattr(_TEAMS.here, "count", 1) > 1 and length >= 2 * LEAST_ROWS


def rows_of_kernel(kernel: Kernel) -> Callable[..., int]:
    """How many rows several threads can share, as a function of the sizes; none: 1."""
    rows: Callable[..., int] = eval(f"lambda {', '.join(kernel.sizes)}: {kernel.rows or 1}")
    return rows


class Shared:
    """A kernel as the page calls it, without saying which rows. run: the kernel itself.

    Every thread has room of its own, and totals of its own, which are added up at the end.
    """

    def __init__(self, kernel: Kernel, run: Any) -> None:
        self.run = run
        self.sizes = len(kernel.sizes)
        self.rows = rows_of_kernel(kernel)
        self.totals = [k for k, p in enumerate(kernel.parameters) if p.name in kernel.totals]
        self.alone = [k for k, p in enumerate(kernel.parameters) if p.alone]

    def __call__(self, *args: Any) -> None:
        """All rows, by one thread or several."""
        sizes, arrays = args[: self.sizes], args[self.sizes :]
        rows = self.rows(*sizes)
        if not _several(rows) or sum(np.size(x) for x in arrays) < LEAST_WORK:
            self.run(*sizes, 0, rows, *arrays)
            return

        def part(first: int, last: int) -> Sequence[Any]:
            mine = self._own(arrays) if first else arrays
            self.run(*sizes, first, last, *mine)
            return mine

        for theirs in _together(rows, part)[1:]:
            for k in self.totals:
                arrays[k][...] += theirs[k]

    def _own(self, arrays: Sequence[Any]) -> list[Any]:
        """The arrays for another thread."""
        found = list(arrays)
        for k in self.totals:
            found[k] = np.zeros_like(arrays[k])
        for k in self.alone:
            found[k] = np.empty_like(arrays[k])
        return found


def product_shared(x: Any, y: Any, out: Any = None) -> Any:
    """The product of matrices, of which each thread computes some rows or columns."""
    (rows, inner), columns = x.shape, y.shape[1]
    # Of parts of rows, and of parts of columns, np.dot would make a copy.
    multiply = np.dot if x.flags.forc and y.flags.forc else np.matmul
    if not _several(max(rows, columns)) or rows * inner * columns < LEAST_PRODUCT:
        return multiply(x, y, out=out)
    if out is None:
        out = np.empty((rows, columns), np.result_type(x, y))
    if rows >= columns:
        _together(rows, lambda a, b: np.matmul(x[a:b], y, out=out[a:b]))
    else:
        _together(columns, lambda a, b: np.matmul(x, y[:, a:b], out=out[:, a:b]))
    return out
