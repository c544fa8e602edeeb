"""Which products are worth packing a matrix for."""

from __future__ import annotations

from typing import Any

from tensorgrad.compile.ir import Eqn, in_numbers
from tensorgrad.compile.kernels.blas import blas
from tensorgrad.compile.kernels.rows import same
from tensorgrad.compile.kernels.share import threads_at_rest

__all__ = ["worth_packing", "worth_taking"]

_LEAST = 2**13
"""With a matrix of fewer elements OpenBLAS is as fast."""

_LEAST_ROWS = 8
"""With fewer rows a timestep, products of all timesteps at once are faster."""

_WEIGHTS_A_ROW = 2**14
"""And with more weights for each of these rows: every timestep reads all of them once more."""


def worth_packing(dots: list[Eqn]) -> list[Eqn]:
    """Those of a loop's products that are faster with a matrix that is packed before it."""
    if not _may_be_faster():
        return []
    fit, count = [e for e in dots if _packable(*e.args)], threads_at_rest()
    if count is None or (count > 1 and len(fit) == len(dots)):
        return fit
    return [e for e in fit if _large(e.args[1])]


def worth_taking(stack: Any, W: Any, lengths: dict[str, int]) -> bool:
    """Whether a product of all timesteps is better done within a loop, timestep by timestep.

    lengths: the free ones at the first call: with only a few rows a timestep it is not. Nor is it with a
    small matrix, whose products cost little anywhere.
    """
    if not (_may_be_faster() and _packable(stack, W) and _large(W)):
        return False
    return in_numbers(stack.shape[1], lengths) >= max(_LEAST_ROWS, W.shape[0] * W.shape[1] / _WEIGHTS_A_ROW)


def _may_be_faster() -> bool:
    """Of other libraries than OpenBLAS nothing is known; plain loops, where there is none, are slower."""
    return threads_at_rest() is not None or blas() is None


def _packable(x: Any, W: Any) -> bool:
    plain = all(type(n) is int for n in W.shape)
    return W.ndim == 2 and x.ndim >= 2 and not same(x.shape[-2], 1) and plain


def _large(W: Any) -> bool:
    return bool(W.shape[0] * W.shape[1] >= _LEAST)
