"""What kernels do in another way than NumPy: sums of rows, and products with what stays the same."""

from __future__ import annotations

from typing import Any

from tensorgrad.compile.ir import Eqn, Loop, Pieces, Program
from tensorgrad.compile.kernels.blas import blas, threads
from tensorgrad.compile.kernels.fuse import Fused
from tensorgrad.compile.kernels.loop import obstacle
from tensorgrad.compile.kernels.rows import definitions, row_sum, same
from tensorgrad.compile.passes.clean import dead_code

__all__ = ["packed_products", "plain_sums"]


def plain_sums(program: Program) -> None:
    """In kernels a sum of a row is a sum; products with ones are for NumPy, where they are faster."""
    made = definitions(program.eqns)
    for loop in program.eqns:
        if isinstance(loop, Loop) and (isinstance(loop, Fused) or not obstacle(loop, made)):
            known = {**made, **definitions(loop.body)}
            for eqn in loop.body:
                if eqn.op == "dot" and row_sum(eqn, known):
                    x = eqn.args[0]
                    eqn.op, eqn.args, eqn.params = "sum", [x], {"axes": (x.ndim - 1,), "keepdims": False}
    dead_code(program)


def packed_products(program: Program) -> None:
    """Products with what is the same at every timestep become those with a packed matrix.

    But for small ones, and for large ones where the BLAS has several threads, which share the work.
    """
    made = definitions(program.eqns)
    for loop in program.eqns:
        if isinstance(loop, Loop) and not isinstance(loop, (Fused, Pieces)) and not obstacle(loop, made):
            for eqn in loop.body:
                if eqn.op == "dot" and _is_packable(eqn):
                    W, turned = _upright(eqn.args[1], made)
                    eqn.op, eqn.args, eqn.params = "packed_dot", [eqn.args[0], W], {"turned": turned}
    dead_code(program)


_LEAST, _SHARED = 2**13, 2**18
"""With a matrix of fewer elements OpenBLAS is as fast; with so many, or more, it is worth several threads."""


def _is_packable(eqn: Eqn) -> bool:
    x, W = eqn.args
    if x.ndim != 2 or W.ndim != 2 or same(x.shape[0], 1) or not all(type(n) is int for n in W.shape):
        return False
    elements, count = W.shape[0] * W.shape[1], threads()
    if count is None:
        # Not OpenBLAS. Of other libraries nothing is known; plain loops, where there is none, are slower.
        return blas() is None
    return bool(elements >= _LEAST) and (count == 1 or elements < _SHARED)


def _upright(W: Any, made: dict[int, Any]) -> tuple[Any, bool]:
    """The matrix that W is, or is a copy of, and whether with its axes exchanged."""
    view = made.get(id(W))
    if view is not None and view.op == "copy":
        view = made.get(id(view.args[0]))
    if view is None or view.op != "transpose" or view.args[0].ndim != 2:
        return W, False
    return view.args[0], True
