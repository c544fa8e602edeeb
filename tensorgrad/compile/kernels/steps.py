"""What computes for one timestep what an equation computes for all of them."""

from __future__ import annotations

from typing import Any

from tensorgrad.compile.ir import Eqn, Loop, Var
from tensorgrad.compile.kernels.rows import INLINE, rows_of_stack, same

__all__ = ["of_all_rows", "per_step", "product_of_step", "step_of", "sum_of_step"]


def per_step(eqn: Any, length: Any) -> bool:
    """Whether an equation over stacks can be done timestep by timestep."""
    if isinstance(eqn, Loop) or eqn.out.ndim < 2 or not same(eqn.out.shape[0], length):
        return False
    for a in eqn.args:
        if a.ndim == eqn.out.ndim and not same(a.shape[0], length):
            return False
        if a.ndim > eqn.out.ndim:
            return False
    if eqn.op == "index":
        return (
            len(eqn.args) == 1
            and eqn.params["template"][:1] == (slice(None),)
            and (len(eqn.params["template"]) == eqn.args[0].ndim == eqn.out.ndim)
        )
    if eqn.op == "concatenate":
        return bool(eqn.params["axis"] % eqn.out.ndim)
    return eqn.op in INLINE and eqn.op != "minus_one_hot"


def step_of(eqn: Eqn, step: Any) -> Eqn:
    """An equation over stacks for one timestep; step: what an operand is there."""
    params = dict(eqn.params)
    if eqn.op == "index":
        params["template"] = params["template"][1:]
    elif eqn.op == "concatenate":
        params["axis"] = params["axis"] % eqn.out.ndim - 1
    args = [step(a) if a.ndim == eqn.out.ndim else a for a in eqn.args]
    return Eqn(eqn.op, args, params, Var(eqn.out.shape[1:], eqn.out.dtype, eqn.out.name), eqn.section)


def of_all_rows(eqn: Any, made: dict[int, Any]) -> tuple[Eqn, Any] | None:
    """For a reshape of a product of all rows of a stack: that product, and the stack."""
    total: Any = made.get(id(eqn.args[0])) if eqn.op == "reshape" else None
    if not isinstance(total, Eqn) or total.op != "dot":
        return None
    stack, y = rows_of_stack(total.args[0], made), total.args[1]
    width = 1 if y.ndim == 1 else y.shape[1]
    fits = stack is not None and same(eqn.out.shape, (*stack.shape[:-1], width))
    return (total, stack) if fits else None


def sum_of_step(eqn: Eqn, x: Any) -> Eqn:
    """The sums along the rows of one timestep's x, where `eqn` gives those of all."""
    out = Var(eqn.out.shape[1:], eqn.out.dtype, eqn.out.name)
    return Eqn("sum", [x], {"axes": (x.ndim - 1,), "keepdims": True}, out, eqn.section)


def product_of_step(eqn: Eqn, x: Any, W: Any) -> Eqn:
    """The product of one timestep's x with W, where `eqn` gives that of all."""
    out = Var(eqn.out.shape[1:], eqn.out.dtype, eqn.out.name)
    return Eqn("dot", [x, W], {}, out, eqn.section)
