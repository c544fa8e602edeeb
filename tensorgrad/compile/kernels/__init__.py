"""The second target of `tg.compile`: loops and element-wise work as kernels, compiled by numba.

In reading order: functions, blas and packed are what kernels are made of; rows, cuts and schedule say what
can be done row by row, in which parts and in which order; nest writes the loops over rows and loop the loop
over time, each into a kernel; worth says which products are for kernels; inward, fuse and finish rearrange
the program, so that each array is gone through once; writer puts the calls on the page; build compiles the
kernels and keeps them on disk, and load finds them there; share has several threads at work. numba is
imported when the first of them is asked for.
"""

from __future__ import annotations

import warnings
from typing import Any

from tensorgrad.errors import UserError

__all__ = ["OLDEST", "fast_page", "wanted"]


OLDEST = (0, 62)
"""The first numba whose LLVM has all that kernels use on every CPU; an older one ends the process."""


def wanted(fast: bool) -> bool:
    """`fast`. Raises UserError where kernels are wanted and numba is missing or too old."""
    if fast:
        from importlib.metadata import PackageNotFoundError, version

        try:
            found = version("numba")
        except PackageNotFoundError:
            found = ""
        if tuple(int(n) for n in found.split(".")[:2] if n.isdigit()) < OLDEST:
            least, there = ".".join(map(str, OLDEST)), f"{found} is" if found else "none is"
            raise UserError(
                f"fast=True needs numba {least} or newer ({there} installed): "
                'pip install "tensorgrad-rnn[fast]"'
            )
    return fast


def fast_page(program: Any, name: str, sizes: dict[str, tuple[int, int]]) -> Any:
    """The page of a program with kernels; None where it has none, since nothing in it can be one, or since
    one cannot be made: then with a RuntimeWarning."""
    from tensorgrad.compile.kernels.writer import emit_fast

    try:
        return emit_fast(program, name, sizes)
    except Exception as why:
        warnings.warn(
            f"tensorgrad.compile: {name} runs in NumPy, since its kernels could not be made "
            f"({type(why).__name__}: {why})",
            RuntimeWarning,
            stacklevel=2,
        )
        return None
