"""How operands lie in memory: weights turned once before a loop, neighbouring gates done together, views of what
a loop keeps taken outside of it."""

from __future__ import annotations

from typing import Any

from tensorgrad.compile.ir import Eqn, Loop, Out, Program, Var
from tensorgrad.compile.sizes import Size

__all__ = ["neighbouring_gates", "transposes_once", "views_outside"]

_GATES = ("sigmoid", "tanh", "exp", "maximum", "negative", "square", "sqrt")


# --- weights -----------------------------------------------------------------------------------------------
def transposes_once(program: Program) -> None:
    """A transposed matrix that a loop multiplies by at every timestep is laid out anew before it.

    A product with a matrix that lies the other way is up to twice as slow, by its size and the processor.
    """
    made = {id(e.out): e for e in program.eqns if isinstance(e, Eqn)}
    copies: dict[int, Var] = {}
    eqns: list[Any] = []
    for eqn in program.eqns:
        if isinstance(eqn, Loop):
            for inner in eqn.body:
                for k, a in enumerate(inner.args if inner.op == "dot" else ()):
                    source = made.get(id(a))
                    if source is None or source.op != "transpose" or a.ndim != 2:
                        continue
                    if id(a) not in copies:
                        copies[id(a)] = Var(a.shape, a.dtype, f"{source.args[0].name or 'W'}_T")
                        eqns.append(Eqn("copy", [a], {}, copies[id(a)], eqn.section))
                    inner.args[k] = copies[id(a)]
        eqns.append(eqn)
    program.eqns = eqns


# --- gates -------------------------------------------------------------------------------------------------
def neighbouring_gates(program: Program) -> None:
    """The same function of slices that lie side by side is taken of all of them at once."""
    for eqn in program.eqns:
        if isinstance(eqn, Loop):
            eqn.body = _joined(eqn.body)


def _joined(body: list[Any]) -> list[Any]:
    made = {id(e.out): e for e in body if isinstance(e, Eqn)}
    groups: dict[Any, list[tuple[int, int, Eqn]]] = {}
    for eqn in body:
        cut = made.get(id(eqn.args[0])) if eqn.op in _GATES and len(eqn.args) == 1 else None
        if cut is not None and cut.op == "index" and (place := _last_slice(cut)) is not None:
            groups.setdefault((eqn.op, id(cut.args[0])), []).append((*place, eqn))
    for (op, _), members in groups.items():
        members.sort(key=lambda m: m[0])
        run: list[tuple[int, int, Eqn]] = []
        for member in [*members, None]:
            if member is not None and (not run or run[-1][1] == member[0]):
                run.append(member)
                continue
            if len(run) > 1:
                body = _one(body, op, run, made)
            run = [member] if member is not None else []
    return body


def _last_slice(cut: Eqn) -> tuple[int, int] | None:
    """Start and stop of an index that cuts the last axis alone."""
    template, x = cut.params["template"], cut.args[0]
    if len(template) != x.ndim or not all(isinstance(p, slice) for p in template):
        return None
    if any(p != slice(None) for p in template[:-1]) or isinstance(x.shape[-1], Size):
        return None
    start, stop, step = template[-1].indices(int(x.shape[-1]))
    return (start, stop) if step == 1 else None


def _one(body: list[Any], op: str, run: list[tuple[int, int, Eqn]], made: dict[int, Eqn]) -> list[Any]:
    """The body with one equation in the place of several; each result is then a slice of its."""
    source = made[id(run[0][2].args[0])].args[0]
    low, high = run[0][0], run[-1][1]
    front = (slice(None),) * (source.ndim - 1)
    shape = (*source.shape[:-1], high - low)
    whole, together = Var(shape, source.dtype), Var(shape, run[0][2].out.dtype)
    together.name = "_".join(e.out.name for *_, e in run if e.out.name) or None
    new = [
        Eqn("index", [source], {"template": (*front, slice(low, high))}, whole, run[0][2].section),
        Eqn(op, [whole], {}, together, run[0][2].section),
    ]
    for start, stop, eqn in run:
        template = (*front, slice(start - low, stop - low))
        new.append(Eqn("index", [together], {"template": template}, eqn.out, eqn.section))
    gone = {id(e) for *_, e in run}
    first = next(k for k, e in enumerate(body) if id(e) in gone)
    return [*body[:first], *new, *(e for e in body[first:] if id(e) not in gone)]


# --- views -------------------------------------------------------------------------------------------------
def views_outside(program: Program) -> None:
    """Where a loop would keep a slice of what it computes it keeps the whole; slices are taken outside."""
    eqns: list[Any] = []
    for eqn in program.eqns:
        eqns.append(eqn)
        if isinstance(eqn, Loop):
            eqns += _taken_outside(eqn)
    program.eqns = eqns


def _taken_outside(loop: Loop) -> list[Eqn]:
    made = {id(e.out): e for e in loop.body if isinstance(e, Eqn)}
    stacks = {id(o.inner): o.outer for o in loop.outs if o.kind == "stack"}
    after: list[Eqn] = []
    outs: list[Out] = []
    for o in loop.outs:
        view = made.get(id(o.inner))
        source = made.get(id(view.args[0])) if view is not None and view.op == "index" else None
        if o.kind != "stack" or view is None or source is None or source.op == "index":
            outs.append(o)
            continue
        x = view.args[0]
        if id(x) not in stacks:
            stacks[id(x)] = Var((loop.length, *x.shape), x.dtype, x.name)
            outs.append(Out("stack", x, stacks[id(x)]))
        template = (slice(None), *view.params["template"])
        after.append(Eqn("index", [stacks[id(x)]], {"template": template}, o.outer, loop.section))
    loop.outs = outs
    return after
