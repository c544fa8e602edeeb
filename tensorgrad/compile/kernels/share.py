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
from typing import Any

import numpy as np

from tensorgrad.compile.kernels.blas import set_threads, threads
from tensorgrad.compile.kernels.kernel import Kernel

__all__ = ["Shared", "product_shared", "rows_of_kernel", "team"]

LEAST_ROWS = 8
"""Fewer would have a thread read a matrix for little."""

LEAST_WORK = 2**17
"""So many elements in all arrays of a kernel are worth the 30 microseconds that waking a thread takes."""

LEAST_PRODUCT = 2**23
"""And so many multiplications in a product."""

BLOCK = 4


class _Teams:
    """Who is at work. count: the BLAS's threads when nobody is."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.at_work = 0
        self.count = 1
        self.here = threading.local()


_TEAMS = _Teams()


@contextmanager
def team(rows: int) -> Iterator[None]:
    """While it lasts, threads share what this thread calls, if there are rows enough for several."""
    with _TEAMS.lock:
        if not _TEAMS.at_work:
            _TEAMS.count = threads() or 1
        several = min(_TEAMS.count, rows // LEAST_ROWS)
        if several > 1:
            _TEAMS.at_work += 1
            set_threads(1)
    if several < 2:
        yield
        return
    _TEAMS.here.count = several
    try:
        yield
    finally:
        _TEAMS.here.count = 1
        with _TEAMS.lock:
            _TEAMS.at_work -= 1
            if not _TEAMS.at_work:
                set_threads(_TEAMS.count)


def _together(length: int, each: Callable[[int, int], Any]) -> list[Any]:
    """What each(first, last) returns for parts of a length, all at once; the first in this thread."""
    count = min(_TEAMS.here.count, length // LEAST_ROWS)
    blocks = -(-length // BLOCK)
    ends = [min(length, BLOCK * (blocks * k // count)) for k in range(count + 1)]
    pool = _pool(os.getpid(), count)
    others = [pool.submit(each, ends[k], ends[k + 1]) for k in range(1, count)]
    try:
        mine = each(0, ends[1])
    finally:
        wait(others)
    return [mine, *(other.result() for other in others)]


@cache
def _pool(process: int, count: int) -> ThreadPoolExecutor:
    """Threads that wait for work. process: a fork has none of its parent's threads."""
    return ThreadPoolExecutor(count - 1, "tensorgrad")


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
    """np.dot of matrices, of which each thread computes some rows or columns."""
    (rows, inner), columns = x.shape, y.shape[1]
    if not _several(max(rows, columns)) or rows * inner * columns < LEAST_PRODUCT:
        return np.dot(x, y, out=out)
    if out is None:
        out = np.empty((rows, columns), np.result_type(x, y))
    if rows >= columns:
        # Of a part of a matrix np.dot would make a copy.
        _together(rows, lambda a, b: np.matmul(x[a:b], y, out=out[a:b]))
    else:
        _together(columns, lambda a, b: np.matmul(x, y[:, a:b], out=out[:, a:b]))
    return out
