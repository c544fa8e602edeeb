"""Out of the loop: what needs nothing of the state runs before it or after it, for all timesteps at once.

An equation of the body that depends on nothing the state changes runs before the loop; one that the next
state does not depend on runs after it. Either way it runs once, on stacks with time as their first axis
(`batched` says how). What remains in the loop is the recurrence.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tensorgrad.compile.builder import Builder
from tensorgrad.compile.ir import Const, Eqn, Loop, Out, Pieces, Program, Var, results
from tensorgrad.compile.rules import ELEMENTWISE

__all__ = ["split_loops"]


def split_loops(program: Program) -> None:
    """Move out of every loop what does not need to be in it."""
    eqns: list[Any] = []
    for eqn in program.eqns:
        if isinstance(eqn, Loop) and not isinstance(eqn, Pieces):
            split = _Split(eqn)
            split.run(eqns)
            program.moved += [(eqn.reverse, place, told) for place, told in split.moved.items() if told]
        else:
            eqns.append(eqn)
    program.eqns = eqns


class _Split:
    def __init__(self, loop: Loop) -> None:
        self.loop = loop
        # The stack of a variable of the body.
        self.stacks: dict[int, Any] = {id(inner): x for x, inner in loop.xs}
        self.wanted = {id(o.inner): o.outer for o in loop.outs if o.kind == "stack"}
        self.inner = {id(inner) for _, inner in loop.xs} | {id(c.before) for c in loop.carries}
        # What left the loop: operations and the names of their results.
        self.moved: dict[str, list[str]] = {"before": [], "after": []}

    def run(self, eqns: list[Any]) -> None:
        loop = self.loop
        before = Builder(eqns)
        before.section = loop.section
        rest = [e for e in loop.body if not self.moves_before(before, e)]
        core = self.core(rest)
        self.inner |= {id(v) for e in rest for v in results(e)}
        late = [e for e in rest if id(e) not in core]
        stayed = {id(e) for e in rest}
        self.moved["before"] = [_told(e) for e in loop.body if id(e) not in stayed]
        self.moved["after"] = [_told(e) for e in late]
        loop.body = [e for e in rest if id(e) in core]
        after: list[Any] = []
        later = Builder(after)
        later.section = loop.section
        for e in late:
            self.batch(later, e)
        self.results(later)
        self.inputs()
        if loop.body or loop.carries or loop.outs:
            eqns.append(loop)
        eqns += after

    def moves_before(self, b: Builder, eqn: Any) -> bool:
        """Whether an equation can be done for all timesteps beforehand; then it is."""
        if isinstance(eqn, Loop) or any(self.is_inner(a) and id(a) not in self.stacks for a in eqn.args):
            self.inner |= {id(v) for v in results(eqn)}
            return False
        if not any(id(a) in self.stacks for a in eqn.args):
            # The same at every step.
            b.eqns.append(eqn)
            return True
        if eqn.op not in BATCHED or not self.batch(b, eqn):
            self.inner.add(id(eqn.out))
            return False
        return True

    def is_inner(self, x: Any) -> bool:
        return id(x) in self.inner

    def core(self, rest: list[Any]) -> set[int]:
        """The equations that the recurrence needs, and those that cannot leave the loop."""
        needed = {id(c.after) for c in self.loop.carries}
        core: set[int] = set()
        for eqn in reversed(rest):
            stays = any(id(v) in needed for v in results(eqn)) or isinstance(eqn, Loop)
            if stays or eqn.op not in BATCHED or not self.could_batch(eqn):
                core.add(id(eqn))
                needed |= {id(a) for a in eqn.args}
        return core

    def could_batch(self, eqn: Eqn) -> bool:
        trial: list[Any] = []
        stand_in = {id(a): Var((self.loop.length, *a.shape), a.dtype) for a in eqn.args if isinstance(a, Var)}
        inner = {id(a) for a in eqn.args if self.is_inner(a) or id(a) in self.stacks}
        args = [stand_in[id(a)] if id(a) in inner else a for a in eqn.args]
        return (
            BATCHED[eqn.op](Builder(trial), eqn, args, [id(a) in inner for a in eqn.args], self.loop.length)
            is not None
        )

    def batch(self, b: Builder, eqn: Eqn) -> bool:
        """Do an equation for all timesteps at once."""
        many = [id(a) in self.stacks or self.is_inner(a) for a in eqn.args]
        args = [self.stack(a) if m else a for a, m in zip(eqn.args, many, strict=True)]
        start = len(b.eqns)
        out = BATCHED[eqn.op](b, eqn, args, many, self.loop.length)
        if out is None:
            del b.eqns[start:]
            return False
        wanted = self.wanted.pop(id(eqn.out), None)
        if wanted is not None and b.eqns and b.eqns[-1].out is out:
            b.eqns[-1].out = out = wanted
        elif wanted is not None:
            b.eqns.append(Eqn("reshape", [out], {"shape": wanted.shape}, wanted))
        out.name = out.name or eqn.out.name
        self.stacks[id(eqn.out)] = out
        return True

    def stack(self, x: Any) -> Any:
        """The stack of a variable, kept by the loop if it is computed there."""
        if id(x) not in self.stacks:
            outer = self.wanted.get(id(x)) or Var((self.loop.length, *x.shape), x.dtype, x.name)
            if id(x) not in self.wanted:
                self.loop.outs.append(Out("stack", x, outer))
                self.wanted[id(x)] = outer
            self.stacks[id(x)] = outer
        return self.stacks[id(x)]

    def results(self, b: Builder) -> None:
        """Results of the loop that are now computed outside of it."""
        in_loop = {id(e.out) for e in self.loop.body if isinstance(e, Eqn)}
        in_loop |= {id(v) for e in self.loop.body if isinstance(e, Loop) for v in results(e)}
        in_loop |= {id(c.before) for c in self.loop.carries}
        outs = []
        for o in self.loop.outs:
            stack = self.stacks.get(id(o.inner))
            if id(o.inner) in in_loop and (o.kind == "stack" or stack is None):
                outs.append(o)
            elif o.kind == "sum" and stack is not None:
                if id(o.inner) in in_loop:
                    outs.append(o)
                    continue
                total = b.sum(stack, (0,), False)
                b.eqns[-1].out = o.outer
                del total
            elif o.kind == "sum":
                b.eqns.append(
                    Eqn(
                        "multiply",
                        [o.inner, Const(int(self.loop.length), str(self.loop.length))],
                        {},
                        o.outer,
                    )
                )
            elif stack is None:
                b.eqns.append(Eqn("broadcast", [o.inner], {"shape": o.outer.shape}, o.outer))
            elif stack is not o.outer:
                b.eqns.append(Eqn("reshape", [stack], {"shape": o.outer.shape}, o.outer))
        self.loop.outs = outs

    def inputs(self) -> None:
        """Stacks that the recurrence reads now."""
        uses = [a for e in self.loop.body for a in e.args]
        uses += [c.after for c in self.loop.carries] + [o.inner for o in self.loop.outs]
        mine = {id(v) for e in self.loop.body for v in results(e)}
        seen: dict[int, Any] = {}
        for x in uses:
            if (
                isinstance(x, Var)
                and id(x) in self.stacks
                and id(x) not in mine
                and id(x) not in {id(c.before) for c in self.loop.carries}
            ):
                seen[id(x)] = (self.stacks[id(x)], x)
        self.loop.xs = list(seen.values())


def _told(eqn: Eqn) -> str:
    return f"{eqn.op} ({eqn.out.name})" if eqn.out.name else eqn.op


# --- how equations are done for all timesteps at once -------------------------------------------------------
Batch = Callable[[Builder, Eqn, list[Any], list[bool], Any], Any]
BATCHED: dict[str, Batch] = {}


def batched(*names: str) -> Callable[[Batch], Batch]:
    """Decorator: how these equations are done on stacks. args: stacks where `many`; None if it can't be."""

    def decorate(fn: Batch) -> Batch:
        for name in names:
            BATCHED[name] = fn
        return fn

    return decorate


def _lined_up(b: Builder, x: Any, many: bool, ndim: int, T: Any) -> Any:
    """A stack whose timesteps have `ndim` axes, those missing put in behind the first."""
    if not many or x.ndim - 1 == ndim:
        return x
    return b.reshape(x, (T, *(1,) * (ndim - x.ndim + 1), *x.shape[1:]))


@batched(*ELEMENTWISE, "check_range")
def _elementwise(b: Builder, eqn: Eqn, args: list[Any], many: list[bool], T: Any) -> Any:
    args = [_lined_up(b, a, m, eqn.out.ndim, T) for a, m in zip(args, many, strict=True)]
    return b.emit(eqn.op, args, (T, *eqn.out.shape), eqn.out.dtype, **eqn.params)


@batched("reshape")
def _reshape(b: Builder, eqn: Eqn, args: list[Any], many: list[bool], T: Any) -> Any:
    shape = (T, *eqn.out.shape)
    return b.emit("reshape", args, shape, eqn.out.dtype, shape=shape)


@batched("broadcast")
def _broadcast(b: Builder, eqn: Eqn, args: list[Any], many: list[bool], T: Any) -> Any:
    shape = (T, *eqn.out.shape)
    return b.emit(
        "broadcast", [_lined_up(b, args[0], True, eqn.out.ndim, T)], shape, eqn.out.dtype, shape=shape
    )


@batched("transpose")
def _transpose(b: Builder, eqn: Eqn, args: list[Any], many: list[bool], T: Any) -> Any:
    axes = (0, *(a + 1 for a in eqn.params["axes"]))
    return b.emit("transpose", args, (T, *eqn.out.shape), eqn.out.dtype, axes=axes)


@batched("sum", "prod", "cumsum", "max", "min", "finite_max", "flip")
def _reduce(b: Builder, eqn: Eqn, args: list[Any], many: list[bool], T: Any) -> Any:
    params = {**eqn.params, "axes": tuple(a + 1 for a in eqn.params["axes"])}
    return b.emit(eqn.op, args, (T, *eqn.out.shape), eqn.out.dtype, **params)


@batched("index")
def _index(b: Builder, eqn: Eqn, args: list[Any], many: list[bool], T: Any) -> Any:
    template = (slice(None), *eqn.params["template"])
    return b.emit("index", args, (T, *eqn.out.shape), eqn.out.dtype, template=template)


@batched("scatter")
def _scatter(b: Builder, eqn: Eqn, args: list[Any], many: list[bool], T: Any) -> Any:
    if len(args) > 1:
        return None
    shape = (T, *eqn.out.shape)
    template = (slice(None), *eqn.params["template"])
    return b.emit("scatter", args, shape, eqn.out.dtype, template=template, shape=shape)


@batched("gather")
def _gather(b: Builder, eqn: Eqn, args: list[Any], many: list[bool], T: Any) -> Any:
    if eqn.params["template"] != ("array",) or many[0]:
        return None
    return b.emit("gather", args, (T, *eqn.out.shape), eqn.out.dtype, **eqn.params)


@batched("one_hot")
def _one_hot(b: Builder, eqn: Eqn, args: list[Any], many: list[bool], T: Any) -> Any:
    return b.emit(eqn.op, args, (T, *eqn.out.shape), eqn.out.dtype, **eqn.params)


@batched("pick", "minus_one_hot")
def _rows(b: Builder, eqn: Eqn, args: list[Any], many: list[bool], T: Any) -> Any:
    args = [a if m else b.broadcast(a, (T, *a.shape)) for a, m in zip(args, many, strict=True)]
    return b.emit(eqn.op, args, (T, *eqn.out.shape), eqn.out.dtype)


@batched("concatenate")
def _concatenate(b: Builder, eqn: Eqn, args: list[Any], many: list[bool], T: Any) -> Any:
    args = [a if m else b.broadcast(a, (T, *a.shape)) for a, m in zip(args, many, strict=True)]
    return b.emit("concatenate", args, (T, *eqn.out.shape), eqn.out.dtype, axis=eqn.params["axis"] + 1)


@batched("dot")
def _dot(b: Builder, eqn: Eqn, args: list[Any], many: list[bool], T: Any) -> Any:
    x, y = args
    n, m = x.ndim - many[0], y.ndim - many[1]
    shape = (T, *eqn.out.shape)
    if (not many[1] and m <= 2) or (n >= 2 and m >= 2 and not (many[0] and many[1] and n != m)):
        out = b.dot(x, y)
    elif not many[0] and m == 1 and n == 2:
        out = b.dot(y, b.transpose(x, (1, 0)))
    elif all(many) and n == 1 and m == 1:
        return b.sum(b.map("multiply", x, y), (1,), False)
    elif all(many) and n == 1 and m == 2:
        out = b.reshape(b.dot(b.reshape(x, (T, 1, x.shape[1])), y), shape)
    else:
        return None
    return out if tuple(out.shape) == tuple(shape) else None
