"""Common subexpressions and dead code."""

from __future__ import annotations

from typing import Any

from tensorgrad.compile.ir import Const, Loop, Program, results

__all__ = ["common_subexpressions", "dead_code"]


def common_subexpressions(program: Program) -> None:
    """The same equation of the same operands is computed once, also when one of the two is in a loop."""
    new: dict[int, Any] = {}
    _common(program.eqns, new, {})
    program.outputs = [new.get(id(x), x) for x in program.outputs]


def _key(x: Any) -> Any:
    return x.key() if isinstance(x, Const) else id(x)


def _common(eqns: list[Any], new: dict[int, Any], outer: dict[Any, Any]) -> None:
    known = dict(outer)
    kept = []
    for eqn in eqns:
        if isinstance(eqn, Loop):
            _common_loop(eqn, new, known)
        else:
            eqn.args = [new.get(id(a), a) for a in eqn.args]
            key = eqn.op, tuple(map(_key, eqn.args)), repr(eqn.params), eqn.out.dtype
            if eqn.op != "call" and key in known:
                first = known[key]
                new[id(eqn.out)] = first
                first.name = first.name or eqn.out.name
                continue
            known[key] = eqn.out
        kept.append(eqn)
    eqns[:] = kept


def _common_loop(loop: Loop, new: dict[int, Any], known: dict[Any, Any]) -> None:
    stacks: dict[int, Any] = {}
    xs = []
    for x, inner in loop.xs:
        x = new.get(id(x), x)
        if id(x) in stacks:
            new[id(inner)] = stacks[id(x)]
        else:
            stacks[id(x)] = inner
            xs.append((x, inner))
    loop.xs = xs
    for c in loop.carries:
        c.init = new.get(id(c.init), c.init)
    _common(loop.body, new, known)
    for c in loop.carries:
        c.after = new.get(id(c.after), c.after)
    outs: dict[Any, Any] = {}
    for o in loop.outs:
        o.inner = new.get(id(o.inner), o.inner)
        first = outs.setdefault((o.kind, _key(o.inner)), o)
        if first is not o:
            new[id(o.outer)] = first.outer
    loop.outs = list(outs.values())


def dead_code(program: Program) -> None:
    """What no output needs goes: equations, results of loops, parts of their state."""
    program.eqns = _live(program.eqns, {id(x) for x in program.outputs})


def _live(eqns: list[Any], live: set[int]) -> list[Any]:
    kept = []
    for eqn in reversed(eqns):
        if not any(id(v) in live for v in results(eqn)):
            continue
        if isinstance(eqn, Loop):
            _prune(eqn, live)
        live |= {id(a) for a in eqn.args}
        kept.append(eqn)
    return kept[::-1]


def _reached(eqns: list[Any], live: set[int]) -> set[int]:
    """Everything that a set of variables depends on."""
    for eqn in reversed(eqns):
        if any(id(v) in live for v in results(eqn)):
            live |= {id(a) for a in eqn.args}
    return live


def _prune(loop: Loop, live: set[int]) -> None:
    loop.outs = [o for o in loop.outs if id(o.outer) in live]
    needed = {id(o.inner) for o in loop.outs}
    for c in loop.carries:
        if c.final is not None and id(c.final) not in live:
            c.final = None
    carries = [c for c in loop.carries if c.final is not None]
    # A part of the state is needed as soon as anything needed reads it.
    while True:
        inside = _reached(loop.body, needed | {id(c.after) for c in carries})
        more = [c for c in loop.carries if c not in carries and id(c.before) in inside]
        if not more:
            break
        carries += more
    loop.carries = [c for c in loop.carries if c in carries]
    inside = needed | {id(c.after) for c in carries}
    loop.body = _live(loop.body, inside)
    loop.xs = [(x, inner) for x, inner in loop.xs if id(inner) in inside]
