"""The program that a function is compiled to: equations over arrays, and loops over time.

A `Program` is a list of equations, each with one result; a `Loop` is an equation whose body is a list of
equations for one timestep, with results of its own. Bodies see the variables around them. `verify` is run
after every pass.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from tensorgrad.errors import GraphError

__all__ = ["Carry", "Const", "Eqn", "Loop", "Out", "Pieces", "Program", "Var", "in_numbers", "verify", "walk"]


class Var:
    """A variable: shape (ints and Sizes), dtype, and the name that the user or the field has for it."""

    __slots__ = ("dtype", "name", "shape")

    def __init__(self, shape: tuple[Any, ...], dtype: Any, name: str | None = None) -> None:
        self.shape = tuple(shape)
        self.dtype = np.dtype(dtype)
        self.name = name

    @property
    def ndim(self) -> int:
        """The number of axes."""
        return len(self.shape)

    def __repr__(self) -> str:
        return f"{self.name or 'v'}{hex(id(self))[-4:]}"


class Const:
    """A constant operand: an array, or a number given by an expression of sizes."""

    __slots__ = ("text", "value")

    def __init__(self, value: Any, text: str | None = None) -> None:
        self.value = np.asarray(value)
        self.text = text

    shape = property(lambda self: self.value.shape, doc="The lengths of the axes.")
    dtype = property(lambda self: self.value.dtype, doc="The NumPy dtype.")
    ndim = property(lambda self: self.value.ndim, doc="The number of axes.")

    def key(self) -> Any:
        """What makes two constants one."""
        return "const", self.value.shape, str(self.value.dtype), self.text or self.value.tobytes()


class Eqn:
    """out = op(*args, **params). section: "" or "backward", of what it is a part."""

    __slots__ = ("args", "op", "out", "params", "section")

    def __init__(
        self, op: str, args: Iterable[Any], params: dict[str, Any], out: Var, section: str = ""
    ) -> None:
        self.section = section
        self.op = op
        self.args = list(args)
        self.params = params
        self.out = out


class Carry:
    """A part of the state: its value before the first step, before a step, and after it; after the last."""

    __slots__ = ("after", "before", "final", "init")

    def __init__(self, init: Any, before: Var, after: Any, final: Var | None = None) -> None:
        self.init, self.before, self.after, self.final = init, before, after, final


class Out:
    """A result of a loop: per timestep, stacked along a new first axis, or summed over all of them."""

    __slots__ = ("inner", "kind", "outer")

    def __init__(self, kind: str, inner: Any, outer: Var) -> None:
        self.kind, self.inner, self.outer = kind, inner, outer


class Loop:
    """A loop over time. xs: pairs of a stacked variable and the variable of one timestep.

    checkpoint: of how many timesteps what the backward needs is kept at once: a number, "sqrt", None for all.
    of: the loop of which it is the backward.
    """

    __slots__ = ("body", "carries", "checkpoint", "length", "of", "outs", "reverse", "section", "xs")

    op = "loop"

    def __init__(self, length: Any, reverse: bool, section: str = "") -> None:
        self.section = section
        self.length = length
        self.reverse = reverse
        self.checkpoint: int | str | None = None
        self.of: Loop | None = None
        self.xs: list[tuple[Any, Var]] = []
        self.carries: list[Carry] = []
        self.outs: list[Out] = []
        self.body: list[Any] = []

    @property
    def args(self) -> list[Any]:
        """Everything that comes from outside: stacks, initial states, and what the body sees."""
        mine: set[int] = {id(inner) for _, inner in self.xs} | {id(c.before) for c in self.carries}
        found: dict[int, Any] = {}
        for x, _ in self.xs:
            found[id(x)] = x
        for c in self.carries:
            found[id(c.init)] = c.init
        for eqn in self.body:
            for arg in eqn.args:
                if id(arg) not in mine:
                    found[id(arg)] = arg
            mine |= {id(v) for v in results(eqn)}
        for inner in [c.after for c in self.carries] + [o.inner for o in self.outs]:
            if id(inner) not in mine:
                found[id(inner)] = inner
        return list(found.values())


class Pieces(Loop):
    """A loop over pieces of a sequence, with the loops over the timesteps of a piece in its body.

    What is not the same for every piece stays in it, so that there is room for one piece, not for all.
    """

    __slots__ = ()


def in_numbers(n: Any, sizes: dict[str, int]) -> int:
    """A length in symbols as a number, for the lengths that these are."""
    return int(eval(str(n), {"__builtins__": {}}, sizes))


def results(eqn: Any) -> list[Var]:
    """The variables that an equation or a loop defines for what follows."""
    if isinstance(eqn, Loop):
        return [o.outer for o in eqn.outs] + [c.final for c in eqn.carries if c.final is not None]
    return [eqn.out]


class Program:
    """inputs: variables that the caller gives; outputs: what it gets, variables or constants.

    bounds: sizes, each with what it must be at least for the program to be right.
    lengths: the free lengths at the call for which it was made.
    moved: what left a loop to run for all timesteps at once: whether the loop runs backwards, whether what
        left it runs "before" or "after" it, and the operations.
    """

    def __init__(self, inputs: list[Var], eqns: list[Any], outputs: list[Any]) -> None:
        self.inputs, self.eqns, self.outputs = inputs, eqns, outputs
        self.bounds: list[tuple[Any, int]] = []
        self.lengths: dict[str, int] = {}
        self.moved: list[tuple[bool, str, list[str]]] = []

    def fits(self, sizes: dict[str, int]) -> bool:
        """Whether the program is right for these lengths."""
        return all(in_numbers(n, sizes) >= least for n, least in set(self.bounds))

    def count(self) -> tuple[int, int]:
        """How many equations stand outside the loops, and how many within."""
        outside = sum(not isinstance(e, Loop) for e in self.eqns)
        return outside, sum(1 for _ in walk(self.eqns)) - len(self.eqns)

    def __str__(self) -> str:
        return show(self)


def walk(eqns: list[Any]) -> Iterator[Any]:
    """All equations, those in the bodies of loops too."""
    stack = [iter(eqns)]
    while stack:
        for eqn in stack[-1]:
            yield eqn
            if isinstance(eqn, Loop):
                stack.append(iter(eqn.body))
                break
        else:
            stack.pop()


# --- checking ----------------------------------------------------------------------------------------------
def verify(program: Program, after: str) -> None:
    """Raise GraphError unless every variable is defined once, before it is used, and loops fit together."""
    known = {id(v) for v in program.inputs}
    _verify(program.eqns, known, after)
    for out in program.outputs:
        _seen(out, known, after, "the outputs")


def _verify(eqns: list[Any], known: set[int], after: str) -> None:
    for eqn in eqns:
        for arg in eqn.args:
            _seen(arg, known, after, eqn.op)
        if isinstance(eqn, Loop):
            _verify_loop(eqn, known, after)
        for out in results(eqn):
            if id(out) in known:
                raise GraphError(f"compile: after the pass {after!r} a variable is defined twice: {out!r}")
            known.add(id(out))


def _verify_loop(loop: Loop, known: set[int], after: str) -> None:
    inside = set(known) | {id(x) for _, x in loop.xs} | {id(c.before) for c in loop.carries}
    _verify(loop.body, inside, after)
    for outer, inner in loop.xs:
        if outer.shape != (loop.length, *inner.shape) or outer.dtype != inner.dtype:
            raise GraphError(f"compile: after {after!r} {outer.shape} is no stack of {inner.shape}")
    for c in loop.carries:
        _seen(c.after, inside, after, "the state of a loop")
        if c.after.shape != c.before.shape or c.after.dtype != c.before.dtype:
            raise GraphError(
                f"compile: after {after!r} a state changes from {c.before.shape} {c.before.dtype} to "
                f"{c.after.shape} {c.after.dtype}"
            )
    for o in loop.outs:
        _seen(o.inner, inside, after, "the results of a loop")


def _seen(arg: Any, known: set[int], after: str, user: str) -> None:
    if isinstance(arg, Var) and id(arg) not in known:
        raise GraphError(
            f"compile: after the pass {after!r} {user} uses a variable that is not defined: {arg!r}"
        )


# --- showing -----------------------------------------------------------------------------------------------
def show(program: Program) -> str:
    """The program as text: one line an equation, with shapes and dtypes."""
    names = _Names()
    lines = ["inputs " + ", ".join(names.typed(v) for v in program.inputs)]
    lines += _show(program.eqns, names, "")
    lines.append("return " + ", ".join(names[v] for v in program.outputs))
    return "\n".join(lines)


def _show(eqns: list[Any], names: _Names, indent: str) -> list[str]:
    lines = []
    for eqn in eqns:
        if isinstance(eqn, Loop):
            lines += _show_loop(eqn, names, indent)
            continue
        params = "".join(f", {k}={v!r}" for k, v in eqn.params.items() if not callable(v))
        args = ", ".join(names[a] for a in eqn.args)
        lines.append(f"{indent}{names.typed(eqn.out)} = {eqn.op}({args}{params})")
    return lines


def _show_loop(loop: Loop, names: _Names, indent: str) -> list[str]:
    order = "reversed(range" if loop.reverse else "range("
    lines = [
        f"{indent}for t in {order}{'(' if loop.reverse else ''}{loop.length}){')' if loop.reverse else ''}:"
    ]
    inner = indent + "    "
    lines += [f"{inner}{names.typed(x)} = {names[outer]}[t]" for outer, x in loop.xs]
    lines += [f"{inner}{names.typed(c.before)} = state, at first {names[c.init]}" for c in loop.carries]
    lines += _show(loop.body, names, inner)
    lines += [f"{inner}state {names[c.before]} becomes {names[c.after]}" for c in loop.carries]
    lines += [f"{inner}{o.kind} {names.typed(o.outer)} of {names[o.inner]}" for o in loop.outs]
    lines += [
        f"{indent}{names.typed(c.final)} = {names[c.before]} at the end" for c in loop.carries if c.final
    ]
    return lines


class _Names:
    """A short unique name for every variable of a listing."""

    def __init__(self) -> None:
        self.names: dict[int, str] = {}
        self.taken: set[str] = set()

    def __getitem__(self, v: Any) -> str:
        if isinstance(v, Const):
            return v.text or (str(v.value) if v.value.ndim == 0 else f"constant{list(v.shape)}")
        if not isinstance(v, Var):
            return repr(v)
        if id(v) not in self.names:
            base = v.name or "v"
            k = 1
            while (name := base if v.name and k == 1 else f"{base}{k}") in self.taken:
                k += 1
            self.taken.add(name)
            self.names[id(v)] = name
        return self.names[id(v)]

    def typed(self, v: Any) -> str:
        sizes = ", ".join(map(str, v.shape))
        return f"{self[v]}: {v.dtype}[{sizes}]"
