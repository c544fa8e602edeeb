"""What kernels do in another way than NumPy: sums of rows, and products with what stays the same."""

from __future__ import annotations

from typing import Any

from tensorgrad.compile.ir import Loop, Pieces, Program
from tensorgrad.compile.kernels.fuse import Fused
from tensorgrad.compile.kernels.loop import obstacle
from tensorgrad.compile.kernels.rows import definitions, row_sum
from tensorgrad.compile.kernels.worth import worth_packing
from tensorgrad.compile.passes.clean import dead_code

__all__ = ["packed_products", "plain_sums", "shared_products"]


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

    But for small ones that the BLAS does as fast, unless several threads can share a loop without it.
    """
    made = definitions(program.eqns)
    for loop in program.eqns:
        if isinstance(loop, Loop) and not isinstance(loop, (Fused, Pieces)) and not obstacle(loop, made):
            for eqn in worth_packing([e for e in loop.body if e.op == "dot"]):
                W, turned = _upright(eqn.args[1], made)
                eqn.op, eqn.args, eqn.params = "packed_dot", [eqn.args[0], W], {"turned": turned}
    dead_code(program)


def _upright(W: Any, made: dict[int, Any]) -> tuple[Any, bool]:
    """The matrix that W is, or is a copy of, and whether with its axes exchanged."""
    view = made.get(id(W))
    if view is not None and view.op == "copy":
        view = made.get(id(view.args[0]))
    if view is None or view.op != "transpose" or view.args[0].ndim != 2:
        return W, False
    return view.args[0], True


def shared_products(program: Program) -> None:
    """Products of matrices outside of loops over time are shared by the threads that share kernels."""
    for eqn in program.eqns:
        if eqn.op == "dot" and eqn.args[0].ndim == eqn.args[1].ndim == 2:
            eqn.params = {**eqn.params, "shared": True}
