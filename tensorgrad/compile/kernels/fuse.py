"""What is left outside of loops, gathered into runs over the same rows: each array is gone through once."""

from __future__ import annotations

from typing import Any

from tensorgrad.compile.ir import Eqn, Loop, Out, Program, Var, results
from tensorgrad.compile.kernels.rows import ALIASES, definitions, row_sum, rows_of_stack, same, supported

__all__ = ["Fused", "fuse"]


class Fused(Loop):
    """A run of equations over the same rows, in a kernel. lead: the leading axes."""

    def __init__(self, lead: tuple[Any, ...], body: list[Eqn], section: str) -> None:
        super().__init__(1, False, section)
        self.lead = lead
        self.body = body


def fuse(program: Program) -> None:
    """Gather what goes over the same rows into runs, each as long as possible."""
    made = definitions(program.eqns)
    left: list[Any] = list(program.eqns)
    done: list[Any] = []
    waiting = {id(v) for e in left for v in results(e)}

    def ready(eqn: Any) -> bool:
        return not any(id(a) in waiting for a in eqn.args)

    def take(eqn: Any, to: list[Any]) -> None:
        left.remove(eqn)
        to.append(eqn)
        waiting.difference_update(id(v) for v in results(eqn))

    while left:
        moved = True
        while moved:
            moved = False
            for eqn in list(left):
                if ready(eqn) and not _opens(eqn, made):
                    take(eqn, done)
                    moved = True
        first = next((e for e in left if ready(e)), None)
        if first is None:
            break
        lead = _lead(first, made)
        run: list[Any] = []
        for eqn in list(left):
            if ready(eqn) and supported(eqn, lead, made):
                take(eqn, run)
        done += _settled(
            run, lead, {id(a) for e in left for a in e.args} | {id(v) for v in program.outputs}, made
        )
    program.eqns[:] = done


def _opens(eqn: Any, made: dict[int, Any]) -> bool:
    """Whether a run can begin with an equation."""
    if isinstance(eqn, Loop) or eqn.op in ALIASES:
        return False
    lead = _lead(eqn, made)
    return bool(lead) and supported(eqn, lead, made)


def _lead(eqn: Eqn, made: dict[int, Any]) -> tuple[Any, ...]:
    """The leading axes of the rows that an equation goes over; none where it goes over none."""
    x: Any = eqn.out
    if row_sum(eqn, made):
        stack = rows_of_stack(eqn.args[0], made)
        x = eqn.args[0] if stack is None else stack
    shape: tuple[Any, ...] = x.shape
    return () if len(shape) < 2 or same(shape[-1], 1) else shape[:-1]


def _settled(run: list[Any], lead: tuple[Any, ...], later: set[int], made: dict[int, Any]) -> list[Any]:
    """A run as a kernel, with the views that others want after it; or as it was, where it is too short."""
    work = [e for e in run if e.op not in ALIASES]
    heavy = any(e.op in ("exp", "tanh", "sigmoid", "log") for e in work)
    if len(work) < 2 and not heavy:
        return run
    used = {id(a) for e in work for a in e.args}
    for eqn in reversed(run):
        if eqn.op in ALIASES and id(eqn.out) in used:
            used |= {id(a) for a in eqn.args}
    wanted: set[int] = set(later)
    views: list[Any] = []
    for eqn in reversed(run):
        if eqn.op in ALIASES and id(eqn.out) in wanted:
            wanted |= {id(a) for a in eqn.args}
            views.insert(0, eqn)
    inner = [*_reshaped(work, lead, made), *(e for e in run if e.op not in ALIASES or id(e.out) in used)]
    fused = Fused(lead, [], run[-1].section)
    twins: dict[int, Any] = {}
    for eqn in inner:
        twin = Eqn(eqn.op, [twins.get(id(a), a) for a in eqn.args], eqn.params, _twin(eqn.out), eqn.section)
        twins[id(eqn.out)] = twin.out
        fused.body.append(twin)
        if id(eqn.out) in wanted and eqn.op not in ALIASES:
            fused.outs.append(Out("stack", twin.out, eqn.out))
    known = {**made, **definitions(fused.body)}
    assert all(supported(e, lead, known) or row_sum(e, known) for e in fused.body)
    return [fused, *views]


def _reshaped(work: list[Any], lead: tuple[Any, ...], made: dict[int, Any]) -> list[Any]:
    """Reshapes before a run by which it reads an array in two shapes: within it, they are one array."""
    read = {id(a) for e in work for a in e.args}
    found = {id(a): made[id(a)] for e in work for a in e.args if id(a) in made}
    return [
        e
        for e in found.values()
        if e.op == "reshape" and id(e.args[0]) in read and e not in work and supported(e, lead, made)
    ]


def _twin(v: Var) -> Var:
    return Var(v.shape, v.dtype, v.name)
