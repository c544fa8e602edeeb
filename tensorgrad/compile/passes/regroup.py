"""Factors regrouped: what the state has no part in is multiplied together, so that it can leave the loop.

    (dc * i) * (1 - g * g)   becomes   dc * (i * (1 - g * g))

whose right factor is known for all timesteps before the loop begins.
"""

from __future__ import annotations

from typing import Any

from tensorgrad.compile.ir import Const, Eqn, Loop, Program, Var, results

__all__ = ["regroup_factors"]


def regroup_factors(program: Program) -> None:
    """In every loop, group the factors of products by whether they depend on the state."""
    for eqn in program.eqns:
        if isinstance(eqn, Loop):
            _regroup(eqn)


def _regroup(loop: Loop) -> None:
    state = {id(c.before) for c in loop.carries}
    made: dict[int, Eqn] = {}
    body: list[Any] = []
    for eqn in loop.body:
        if any(id(a) in state for a in eqn.args):
            state |= {id(v) for v in results(eqn)}
        if isinstance(eqn, Eqn):
            made[id(eqn.out)] = eqn
            grouped = _grouped(eqn, state, made)
            if grouped is not None:
                body.append(grouped)
                made[id(grouped.out)] = grouped
        body.append(eqn)
    loop.body = body


def _grouped(eqn: Eqn, state: set[int], made: dict[int, Eqn]) -> Eqn | None:
    """For (x * p) * w the new p * w, after which `eqn` is x * (p * w); None for anything else."""
    if eqn.op != "multiply":
        return None
    for k in (0, 1):
        inner, w = made.get(id(eqn.args[k])), eqn.args[1 - k]
        if inner is None or inner.op != "multiply" or id(eqn.args[k]) not in state or id(w) in state:
            continue
        for j in (0, 1):
            x, p = inner.args[j], inner.args[1 - j]
            fits = all(a.shape == eqn.out.shape and a.dtype == eqn.out.dtype for a in (x, p, w))
            if id(x) in state and id(p) not in state and fits and not isinstance(p, Const):
                product = Eqn("multiply", [p, w], {}, Var(eqn.out.shape, eqn.out.dtype))
                eqn.args = [x, product.out]
                return product
    return None
