"""Factors and terms regrouped: what the state has no part in comes together, so that it can leave the loop.

    (dc * i) * (1 - g * g)   becomes   dc * (i * (1 - g * g))
    (h @ U + x @ W) + b      becomes   h @ U + (x @ W + b)

whose right part is known for all timesteps before the loop begins. And rows that are added to a matrix one
after the other, such as two biases, are first added to each other:

    (x @ W + b) + c          becomes   x @ W + (b + c)
"""

from __future__ import annotations

from typing import Any

from tensorgrad.compile.builder import broadcast_shape
from tensorgrad.compile.ir import Const, Eqn, Loop, Program, Var, results

__all__ = ["regroup", "rows_added"]


def regroup(program: Program) -> None:
    """In every loop, group the factors of products, and the terms of sums, by whether they need the state."""
    for eqn in program.eqns:
        if isinstance(eqn, Loop):
            _regroup(eqn)


def rows_added(program: Program) -> None:
    """Rows that are added to a matrix one after the other are first added to each other."""
    program.eqns = _rows_added(program.eqns, program.outputs)
    for eqn in program.eqns:
        if isinstance(eqn, Loop):
            eqn.body = _rows_added(eqn.body, [c.after for c in eqn.carries] + [o.inner for o in eqn.outs])


def _regroup(loop: Loop) -> None:
    state = {id(c.before) for c in loop.carries}
    uses = _uses(loop.body, [o.inner for o in loop.outs])
    made: dict[int, Eqn] = {}
    body: list[Any] = []
    for eqn in loop.body:
        if any(id(a) in state for a in eqn.args):
            state |= {id(v) for v in results(eqn)}
        if isinstance(eqn, Eqn):
            made[id(eqn.out)] = eqn
            grouped = _grouped(eqn, state, made, uses)
            if grouped is not None:
                body.append(grouped)
                made[id(grouped.out)] = grouped
        body.append(eqn)
    loop.body = body


def _grouped(eqn: Eqn, state: set[int], made: dict[int, Eqn], uses: dict[int, int]) -> Eqn | None:
    """For (x * p) * w the new p * w, after which `eqn` is x * (p * w); None for anything else. Sums alike.

    Where x * p is needed itself, nothing would be gained.
    """
    if eqn.op not in ("multiply", "add"):
        return None
    for k in (0, 1):
        inner, w = made.get(id(eqn.args[k])), eqn.args[1 - k]
        if inner is None or inner.op != eqn.op or id(eqn.args[k]) not in state or id(w) in state:
            continue
        if uses[id(inner.out)] > 1:
            continue
        for j in (0, 1):
            x, p = inner.args[j], inner.args[1 - j]
            shape = broadcast_shape([p.shape, w.shape])
            fits = x.shape == eqn.out.shape and shape in (p.shape, w.shape)
            fits = fits and all(a.dtype == eqn.out.dtype for a in (x, p, w))
            if eqn.op == "multiply":
                # A factor of the shape of the whole is made once; one that is smaller costs less as it is.
                fits = fits and p.shape == w.shape == eqn.out.shape
            if id(x) in state and id(p) not in state and fits and not isinstance(p, Const):
                # The share of a pre-activation that the input has.
                name = f"{eqn.out.name}_x" if eqn.op == "add" and eqn.out.name else None
                together = Eqn(eqn.op, [p, w], {}, Var(shape, eqn.out.dtype, name), eqn.section)
                eqn.args = [x, together.out]
                return together
    return None


def _uses(eqns: list[Any], ends: list[Any]) -> dict[int, int]:
    found: dict[int, int] = {}
    for x in [a for e in eqns for a in e.args] + ends:
        found[id(x)] = found.get(id(x), 0) + 1
    return found


def _rows_added(eqns: list[Any], ends: list[Any]) -> list[Any]:
    """The equations with (x + p) + w as x + (p + w), where p and w have fewer axes than x."""
    uses = _uses(eqns, ends)
    made: dict[int, Eqn] = {}
    found: list[Any] = []
    for eqn in eqns:
        if isinstance(eqn, Eqn):
            together = _row_of(eqn, made, uses) if eqn.op == "add" else None
            if together is not None:
                found.append(together)
            made[id(eqn.out)] = eqn
        found.append(eqn)
    return found


def _row_of(eqn: Eqn, made: dict[int, Eqn], uses: dict[int, int]) -> Eqn | None:
    for k in (0, 1):
        inner, w = made.get(id(eqn.args[k])), eqn.args[1 - k]
        if inner is None or inner.op != "add" or uses[id(inner.out)] > 1:
            continue
        for j in (0, 1):
            x, p = inner.args[j], inner.args[1 - j]
            shape = broadcast_shape([p.shape, w.shape])
            if x.shape == eqn.out.shape and 0 < len(shape) < x.ndim and x.dtype == p.dtype == w.dtype:
                together = Eqn("add", [p, w], {}, Var(shape, eqn.out.dtype), eqn.section)
                eqn.args = [x, together.out]
                return together
    return None
