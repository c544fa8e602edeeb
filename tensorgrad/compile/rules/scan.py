"""The linear recurrence over a whole sequence, as the loop that it is."""

from __future__ import annotations

from typing import Any

from tensorgrad.compile.builder import Builder
from tensorgrad.compile.ir import Carry, Loop, Out, Var
from tensorgrad.compile.rules.registry import rule
from tensorgrad.nn import scan


@rule(scan._scan)
def _scan(b: Builder, node: Any, a: Any, x: Any, pairs: bool, backwards: bool) -> Any:
    """h[0] = x[0], h[t] = a[t] * h[t - 1] + x[t]; or backwards, its adjoint."""
    T = x.shape[0]
    a, x = (b.cast(v, node._value.dtype) for v in (b.broadcast(a, x.shape), x))
    first, rest = (slice(0, 1), slice(1, None)) if not backwards else (slice(T - 1, T), slice(0, T - 1))
    # a[t] links the states of t - 1 and t, both ways.
    links, shares = b.index(a, (slice(1, None),)), b.index(x, (rest,))
    loop = Loop(T - 1, backwards, b.section)
    names = ("re", "im") if pairs else ("h",)
    parts: list[Any] = [0, 1] if pairs else [Ellipsis]
    step_shape = x.shape[1:-1] if pairs else x.shape[1:]
    at_step = []
    for stack in (links, shares):
        row = []
        for part in parts:
            piece = _part(b, stack, part)
            inner = Var(step_shape, x.dtype)
            loop.xs.append((piece, inner))
            row.append(inner)
        at_step.append(row)
    for name, part in zip(names, parts, strict=True):
        init = b.reshape(_part(b, b.index(x, (first,)), part), step_shape)
        loop.carries.append(Carry(init, Var(step_shape, x.dtype, f"{name}_prev"), None))
    body = Builder(loop.body)
    body.section = b.section
    after = _step(body, at_step[0], [c.before for c in loop.carries], at_step[1])
    stacks = []
    for name, carry, new in zip(names, loop.carries, after, strict=True):
        new.name = name
        carry.after = new
        loop.outs.append(Out("stack", new, Var((T - 1, *step_shape), x.dtype, name)))
        stacks.append(loop.outs[-1].outer)
    b.eqns.append(loop)
    if pairs:
        stacks = [b.reshape(s, (*s.shape, 1)) for s in stacks]
        stacks = [b.emit("concatenate", stacks, (T - 1, *x.shape[1:]), x.dtype, axis=len(step_shape) + 1)]
    ends = [b.index(x, (first,)), stacks[0]]
    return b.emit("concatenate", ends[::-1] if backwards else ends, x.shape, x.dtype, axis=0)


def _part(b: Builder, x: Any, part: Any) -> Any:
    """The real or the imaginary numbers of pairs; x itself where there are none."""
    return x if part is Ellipsis else b.index(x, (*(slice(None),) * (x.ndim - 1), part))


def _step(b: Builder, a: list[Any], h: list[Any], x: list[Any]) -> list[Any]:
    if len(h) == 1:
        return [b.map("add", b.map("multiply", a[0], h[0]), x[0])]
    re = b.map("subtract", b.map("multiply", a[0], h[0]), b.map("multiply", a[1], h[1]))
    im = b.map("add", b.map("multiply", a[0], h[1]), b.map("multiply", a[1], h[0]))
    return [b.map("add", re, x[0]), b.map("add", im, x[1])]
