"""The second target of `tg.compile`: loops and element-wise work as kernels, compiled by numba.

In reading order: functions and blas are what kernels are made of; rows and nest write the loops over rows,
loop the loop over time, each into a kernel; fuse decides what becomes a kernel; writer puts their calls on
the page; build compiles them and keeps them on disk. numba is imported when the first of them is asked for.
"""

from __future__ import annotations

import importlib.util
from typing import Any

from tensorgrad.errors import UserError

__all__ = ["fast_page", "wanted"]


def wanted(fast: bool) -> bool:
    """`fast`. Raises UserError where kernels are wanted and numba is missing."""
    if fast and importlib.util.find_spec("numba") is None:
        raise UserError('fast=True needs numba: pip install "tensorgrad-rnn[fast]"')
    return fast


def fast_page(program: Any, name: str, sizes: dict[str, tuple[int, int]]) -> Any:
    """The page of a program with kernels, or None where nothing in it can be one."""
    from tensorgrad.compile.kernels.writer import emit_fast

    return emit_fast(program, name, sizes)
