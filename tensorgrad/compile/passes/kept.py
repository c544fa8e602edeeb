"""Small results that the backward would make again are kept: a layer norm's deviations, (B, 1) a timestep."""

from __future__ import annotations

from typing import Any

import numpy as np

from tensorgrad.compile.ir import Const, Eqn, Loop, Out, Program, Var, results

__all__ = ["small_results_kept"]

_SMALL = 8
"""How many times smaller a result must be than what the loop reads at a timestep."""


def small_results_kept(program: Program) -> None:
    """Where a loop computes again what an earlier one had, and it is small, the earlier one keeps it."""
    loops: list[Loop] = []
    for loop in (e for e in program.eqns if isinstance(e, Loop)):
        for earlier in loops:
            if earlier.length == loop.length:
                _keep(earlier, loop)
        loops.append(loop)


def _keep(earlier: Loop, loop: Loop) -> None:
    same = _same(earlier, loop)
    known = {_key(e, {}): e.out for e in earlier.body if isinstance(e, Eqn)}
    stacks = {id(o.inner): o.outer for o in earlier.outs if o.kind == "stack"}
    inside = {id(inner) for _, inner in loop.xs} | {id(c.before) for c in loop.carries}
    limit = max((_size(x) for _, x in loop.xs), default=0) / _SMALL
    body = []
    for eqn in loop.body:
        inside |= {id(v) for v in results(eqn)}
        first = known.get(_key(eqn, same)) if isinstance(eqn, Eqn) and eqn.op != "call" else None
        if first is not None and not all(id(a) in same for a in eqn.args if id(a) in inside):
            first = None
        if first is not None:
            same[id(eqn.out)] = first
        if first is None or _size(first) > limit:
            body.append(eqn)
            continue
        if id(first) not in stacks:
            stacks[id(first)] = Var((earlier.length, *first.shape), first.dtype, first.name)
            earlier.outs.append(Out("stack", first, stacks[id(first)]))
        loop.xs.append((stacks[id(first)], eqn.out))
    loop.body = body


def _same(earlier: Loop, loop: Loop) -> dict[int, Any]:
    """For variables of a timestep of the loop what they are in the earlier one."""
    there = {id(o.outer): o.inner for o in earlier.outs if o.kind == "stack"}
    there |= {id(x): inner for x, inner in earlier.xs}
    return {id(inner): there[id(x)] for x, inner in loop.xs if id(x) in there}


def _key(eqn: Eqn, same: dict[int, Any]) -> Any:
    args = [same.get(id(a), a) for a in eqn.args]
    parts = tuple(a.key() if isinstance(a, Const) else id(a) for a in args)
    return eqn.op, parts, repr(eqn.params), str(eqn.out.dtype)


def _size(x: Any) -> int:
    return int(np.prod(x.shape, dtype=np.int64))
