"""What the tests look at besides results: that a kernel writes over nothing else that it is given."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tensorgrad.compile.kernels.kernel import Kernel
from tensorgrad.errors import GraphError

__all__ = ["apart"]


def apart(kernel: Kernel, run: Callable[..., Any]) -> Callable[..., Any]:
    """A kernel that raises GraphError where what it writes lies over anything else that it is given.

    Compiled kernels are told that this is never so.
    """

    def looked_at(*args: Any) -> None:
        arrays = {
            p.name: x for p, x in zip(kernel.parameters, args[len(kernel.numbers) :], strict=True) if p.shape
        }
        for mine in kernel.written:
            for other, x in arrays.items():
                if other != mine and np.may_share_memory(arrays[mine], x):
                    raise GraphError(f"compile: {kernel.name} writes {mine}, which lies over {other}")
        run(*args)

    return looked_at
