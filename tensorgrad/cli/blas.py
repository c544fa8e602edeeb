"""The command line gets the BLAS kernels that fit this CPU without being asked.

OpenBLAS reads OPENBLAS_CORETYPE when NumPy loads it, which is before any line of this package runs. Where its
own choice turns out too weak, the program is started anew with the variable set: once, and only for commands
that compute for longer than a start takes.
"""

from __future__ import annotations

import contextlib
import os
import sys

from tensorgrad.compile.blas import VARIABLE, mismatch_here

__all__ = ["LABORIOUS", "restart_if_unfit"]

LABORIOUS = ("demo", "train")


def restart_if_unfit(command: str) -> None:
    """Replace this process by one with fitting kernels, if `command` is worth it and nobody chose others.

    Whoever has set OPENBLAS_CORETYPE, to whatever value, keeps it. Results may differ from those of the other
    kernels in their last bits: sums are taken in another order.
    """
    if command not in LABORIOUS or VARIABLE in os.environ or os.name != "posix" or not sys.executable:
        return
    mismatch = mismatch_here()
    if mismatch is not None and mismatch.fitting:
        # Where this fails, the command runs as it is, only more slowly.
        with contextlib.suppress(OSError):
            os.execve(
                sys.executable,
                [sys.executable, *sys.orig_argv[1:]],
                {**os.environ, VARIABLE: mismatch.fitting},
            )
