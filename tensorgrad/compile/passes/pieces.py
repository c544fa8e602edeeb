"""Checkpointed loops, piece by piece: what the backward needs is computed again, for one piece at a time.

A loop over T timesteps with `checkpoint` k becomes a loop over T // k pieces of a loop over k timesteps, and
a loop over the T % k last timesteps. It keeps the state before each piece, and those of its results that
others want for all timesteps. Its backward gets a copy of it in front, in the same piece, that starts at the
state kept and makes what is not kept. Where all states are kept anyway, the copy reads them and has nothing
to hand from step to step. A loop in the body of another stays whole.

The copy is in another loop than what it is a copy of, so that no pass finds one in the other.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import isqrt
from typing import Any

from tensorgrad.compile.builder import Builder
from tensorgrad.compile.ir import Carry, Eqn, Loop, Out, Pieces, Program, Var, in_numbers, results, walk
from tensorgrad.compile.sizes import Size

__all__ = ["in_pieces", "same_in_all_pieces"]


def in_pieces(program: Program) -> None:
    """Cut every checkpointed loop into pieces, and let those that read from it compute what they read."""
    cuts: dict[Any, _Cut | None] = {}
    of: dict[int, _Cut] = {}
    for loop in program.eqns:
        if isinstance(loop, Loop) and loop.checkpoint is not None:
            key = str(loop.length), loop.checkpoint
            if key not in cuts:
                cuts[key] = _cut(loop.length, loop.checkpoint, program)
            cut = cuts[key]
            if cut is not None:
                of[id(loop)] = cut
                cut.loops.append(loop)
    for cut in filter(None, cuts.values()):
        cut.wanted = _wanted(program, cut)
    eqns: list[Any] = []
    for eqn in program.eqns:
        if id(eqn) in of:
            of[id(eqn)].write(eqn, eqns)
        else:
            eqns.append(eqn)
    program.eqns = eqns


def same_in_all_pieces(program: Program) -> None:
    """What is the same in all pieces is computed once, before the loop over them."""
    eqns: list[Any] = []
    for loop in program.eqns:
        if isinstance(loop, Pieces):
            inner = {id(x) for _, x in loop.xs} | {id(c.before) for c in loop.carries}
            body: list[Any] = []
            for eqn in loop.body:
                # What has no operands, as ones have not, is known for what it is only where it is made.
                its_own = isinstance(eqn, Loop) or not eqn.args or any(id(a) in inner for a in eqn.args)
                if its_own:
                    inner |= {id(v) for v in results(eqn)}
                (body if its_own else eqns).append(eqn)
            loop.body = body
        eqns.append(loop)
    program.eqns = eqns


def _cut(length: Any, checkpoint: int | str, program: Program) -> _Cut | None:
    """How loops of a length are cut; None to leave them whole. The program is then right for like lengths."""
    if not isinstance(length, Size):
        k = isqrt(length - 1) + 1 if checkpoint == "sqrt" else int(checkpoint)
        return _Cut(length, k, length // k, length % k) if k < length else None
    T = in_numbers(length, program.lengths)
    text = f"({length})" if " " in str(length) else str(length)

    def least(bound: int, text: str) -> None:
        program.bounds.append((Size(bound, text), bound))

    k = isqrt(T - 1) + 1 if checkpoint == "sqrt" else int(checkpoint)
    if checkpoint == "sqrt":
        # Near the square root is as good: one program for lengths from a quarter to four times of k * k.
        least(k * k, f"4 * {text}")
        least(-4 * k * k, f"-{text}")
    if k >= T:
        least(-k, f"-{text}")
        return None
    least(k + 1, text)
    if T % k:
        least(1, f"{text} % {k}")
    else:
        least(0, f"-({text} % {k})")
    pieces, rest = f"{text} // {k}", f"{text} % {k}"
    return _Cut(length, k, Size(T // k, pieces), Size(T % k, rest) if T % k else 0)


def _wanted(program: Program, cut: _Cut) -> set[int]:
    """What is read by others than the backward of the loop that made it, or otherwise than by timesteps."""
    wanted = {id(x) for x in program.outputs}
    mine = {id(loop) for loop in cut.loops}
    for eqn in program.eqns:
        if id(eqn) not in mine:
            wanted |= {id(a) for a in eqn.args}
            continue
        known = _behind(eqn)
        wanted |= {id(x) for x, _ in eqn.xs if id(x) not in known}
        wanted |= {id(c.init) for c in eqn.carries} | {id(c.after) for c in eqn.carries}
        wanted |= {id(o.inner) for o in eqn.outs} | {id(a) for e in walk(eqn.body) for a in e.args}
    return wanted


def _behind(loop: Loop) -> set[int]:
    """The results of the loops of which a loop is the backward, or the backward's backward."""
    found: set[int] = set()
    while loop.of is not None:
        loop = loop.of
        found |= {id(o.outer) for o in loop.outs}
    return found


class _Cut:
    """Loops of one length that are cut alike.

    k: the timesteps of a piece. pieces, rest: how many pieces, and how many timesteps are left after them;
    `whole`: how many are in pieces. wanted: the ids of what is wanted for all timesteps.
    """

    def __init__(self, length: Any, k: int, pieces: Any, rest: Any) -> None:
        self.k, self.pieces, self.rest = k, pieces, rest
        self.has_rest = int(rest) > 0
        self.whole = pieces * k if self.has_rest else length
        self.loops: list[Loop] = []
        self.wanted: set[int] = set()
        # For the stack of a loop that was cut, by its id: that loop and which of its results it is.
        self.made: dict[int, tuple[Loop, Out]] = {}
        # For each loop that was cut the states before each piece.
        self.states: dict[int, list[Var]] = {}
        # For the stack of all timesteps, by its id, that of the pieces, and that of the rest.
        self.parts: dict[int, Any] = {}
        self.rests: dict[int, Any] = {}

    def is_again(self, x: Any) -> bool:
        """Whether a stack is computed again where it is read."""
        return id(x) in self.made and id(x) not in self.wanted

    def write(self, loop: Loop, eqns: list[Any]) -> None:
        """Write the equations that take the place of a loop."""
        b = Builder(eqns)
        b.section = loop.section
        runs = [self.run_pieces, self.run_rest] if self.has_rest else [self.run_pieces]
        state = [c.init for c in loop.carries]
        found = {}
        for run in reversed(runs) if loop.reverse else runs:
            found[run] = run(b, loop, state)
            state = found[run][0]
        last = {id(c.final): now for c, now in zip(loop.carries, state, strict=True) if c.final is not None}
        for final in [c.final for c in loop.carries if c.final is not None]:
            eqns.append(Eqn("reshape", [last[id(final)]], {"shape": final.shape}, final, loop.section))
        for n, o in enumerate(loop.outs):
            self.made[id(o.outer)] = loop, o
            each = [found[run][1][n] for run in runs]
            if o.kind == "sum":
                self.join(b, o.outer, each, "add")
                continue
            self.parts[id(o.outer)] = each[0]
            if self.has_rest:
                self.rests[id(o.outer)] = each[1]
            if not self.is_again(o.outer):
                rows = b.reshape(each[0], (self.whole, *o.outer.shape[1:]))
                self.join(b, o.outer, [rows, *each[1:]], "concatenate", axis=0)

    def join(self, b: Builder, out: Var, parts: list[Any], op: str, **params: Any) -> None:
        """Write a result of a loop, made of its parts."""
        if len(parts) == 1:
            op, params = "reshape", {"shape": out.shape}
        b.eqns.append(Eqn(op, parts, params, out, b.section))

    # --- the rest ------------------------------------------------------------------------------------------
    def run_rest(self, b: Builder, loop: Loop, state: list[Any]) -> tuple[list[Any], list[Any]]:
        """A loop over the timesteps after the pieces: the state after it, and its results."""
        twin = _copied(loop, self.rest, [self.rest_of(b, x) for x, _ in loop.xs], state, loop.outs)
        b.eqns.append(twin)
        return [c.final for c in twin.carries], [o.outer for o in twin.outs]

    def rest_of(self, b: Builder, x: Any) -> Any:
        """The timesteps of a stack after the pieces."""
        if id(x) not in self.rests:
            shape = (self.rest, *x.shape[1:])
            cut = (slice(self.whole, None), *(slice(None),) * (x.ndim - 1))
            self.rests[id(x)] = b.emit("index", [x], shape, x.dtype, getattr(x, "name", None), template=cut)
        return self.rests[id(x)]

    # --- the pieces ----------------------------------------------------------------------------------------
    def run_pieces(self, b: Builder, loop: Loop, state: list[Any]) -> tuple[list[Any], list[Any]]:
        """A loop over pieces: the state after it, and its results."""
        return _Piece(self, b, loop).write(state)

    def pieces_of(self, b: Builder, x: Any) -> Any:
        """A stack by pieces, (pieces, k, ...)."""
        if id(x) not in self.parts:
            rows = x
            if self.has_rest:
                cut = (slice(None, self.whole), *(slice(None),) * (x.ndim - 1))
                rows = b.emit("index", [x], (self.whole, *x.shape[1:]), x.dtype, template=cut)
            self.parts[id(x)] = b.reshape(rows, (self.pieces, self.k, *x.shape[1:]))
        return self.parts[id(x)]


class _Piece:
    """One piece of a loop: its body, in which it may be that other loops run again first."""

    def __init__(self, cut: _Cut, b: Builder, loop: Loop) -> None:
        self.cut, self.b, self.loop = cut, b, loop
        self.outer = Pieces(cut.pieces, loop.reverse, loop.section)
        self.body = Builder(self.outer.body)
        self.body.section = loop.section
        # What a stack is in this piece, by the id of the stack of all timesteps.
        self.stacks: dict[int, Any] = {}
        self.again: dict[int, Loop] = {}

    def write(self, state: list[Any]) -> tuple[list[Any], list[Any]]:
        """Write the loop over pieces: the state after it, and its results."""
        cut, loop, outer = self.cut, self.loop, self.outer
        befores = [Var(c.before.shape, c.before.dtype, c.before.name) for c in loop.carries]
        xs = [self.stack(x) for x, _ in loop.xs]
        inner = _copied(loop, cut.k, xs, befores, [o for o in loop.outs if not cut.is_again(o.outer)])
        outer.body.append(inner)
        for init, before, c in zip(state, befores, inner.carries, strict=True):
            outer.carries.append(Carry(init, before, c.final, Var(before.shape, before.dtype, before.name)))
        states = [Var((cut.pieces, *v.shape), v.dtype, v.name and f"{v.name}_pieces") for v in befores]
        outer.outs += [Out("stack", v, many) for v, many in zip(befores, states, strict=True)]
        cut.states[id(loop)] = states
        given = iter(inner.outs)
        found: list[Any] = []
        for o in loop.outs:
            if cut.is_again(o.outer):
                found.append(None)
                continue
            x = next(given).outer
            shape = x.shape if o.kind == "sum" else (cut.pieces, *x.shape)
            found.append(Var(shape, x.dtype, o.outer.name))
            outer.outs.append(Out(o.kind, x, found[-1]))
        self.b.eqns.append(outer)
        return [c.final for c in outer.carries], found

    def stack(self, x: Any) -> Any:
        """A stack of the timesteps of this piece."""
        if id(x) not in self.stacks:
            if self.cut.is_again(x):
                self.stacks[id(x)] = self.computed_again(*self.cut.made[id(x)])
            else:
                self.stacks[id(x)] = self.read(self.cut.pieces_of(self.b, x))
        return self.stacks[id(x)]

    def read(self, x: Any) -> Var:
        """What a stack of one for each piece is in this piece."""
        inner = Var(x.shape[1:], x.dtype, getattr(x, "name", None))
        self.outer.xs.append((x, inner))
        return inner

    # --- running again -------------------------------------------------------------------------------------
    def computed_again(self, loop: Loop, out: Out) -> Any:
        """A stack that another loop gives, of the timesteps of this piece."""
        if id(loop) not in self.again:
            self.run_again(loop)
        twin = self.again[id(loop)]
        return next(o.outer for o, p in zip(twin.outs, _again(self.cut, loop), strict=True) if p is out)

    def run_again(self, loop: Loop) -> None:
        """A copy of another loop, for the timesteps of this piece."""
        xs = [self.stack(x) for x, _ in loop.xs]
        states = [self.read(v) for v in self.cut.states[id(loop)]]
        twin = _copied(loop, self.cut.k, xs, states, _again(self.cut, loop))
        for c, mine in zip(list(twin.carries), loop.carries, strict=True):
            c.final = None
            kept = [o.outer for o in loop.outs if o.kind == "stack" and o.inner is mine.after]
            if kept and id(kept[0]) in self.cut.wanted and isinstance(mine.after, Var):
                # All states are kept anyway: this one is not handed from step to step.
                twin.xs.append((self.shifted(c, self.stack(kept[0]), loop.reverse), c.before))
                twin.carries.remove(c)
        self.outer.body.append(twin)
        self.again[id(loop)] = twin

    def shifted(self, c: Carry, after: Any, reverse: bool) -> Any:
        """The states before each timestep of this piece, from those after each."""
        first = self.body.reshape(c.init, (1, *c.init.shape))
        whole = (slice(None),) * c.init.ndim
        others = (slice(1, None), *whole) if reverse else (slice(None, -1), *whole)
        shape = (self.cut.k - 1, *c.init.shape)
        rest = self.body.emit("index", [after], shape, after.dtype, template=others)
        parts = [rest, first] if reverse else [first, rest]
        return self.body.emit("concatenate", parts, after.shape, after.dtype, c.before.name, axis=0)


def _again(cut: _Cut, loop: Loop) -> list[Out]:
    return [o for o in loop.outs if o.kind == "stack" and cut.is_again(o.outer)]


# --- copies ------------------------------------------------------------------------------------------------
def _copied(loop: Loop, length: Any, xs: Sequence[Any], inits: Sequence[Any], outs: Sequence[Out]) -> Loop:
    """A loop with variables of its own, over other stacks and from another state, that gives `outs`."""
    twin = Loop(length, loop.reverse, loop.section)
    new: dict[int, Any] = {}
    twin.xs = [(x, _twin(inner, new)) for x, (_, inner) in zip(xs, loop.xs, strict=True)]
    for init, c in zip(inits, loop.carries, strict=True):
        final = Var(c.before.shape, c.before.dtype, c.before.name)
        twin.carries.append(Carry(init, _twin(c.before, new), None, final))
    twin.body = _copied_block(loop.body, new)
    for c, mine in zip(twin.carries, loop.carries, strict=True):
        c.after = new.get(id(mine.after), mine.after)
    for o in outs:
        shape = o.outer.shape if o.kind == "sum" else (length, *o.outer.shape[1:])
        twin.outs.append(Out(o.kind, new.get(id(o.inner), o.inner), Var(shape, o.outer.dtype, o.outer.name)))
    return twin


def _copied_block(eqns: Sequence[Any], new: dict[int, Any]) -> list[Any]:
    # Recurses into loops within loops, of which there are two or three.
    block: list[Any] = []
    for eqn in eqns:
        if not isinstance(eqn, Loop):
            args = [new.get(id(a), a) for a in eqn.args]
            block.append(Eqn(eqn.op, args, eqn.params, _twin(eqn.out, new), eqn.section))
            continue
        twin = Loop(eqn.length, eqn.reverse, eqn.section)
        twin.xs = [(new.get(id(x), x), _twin(inner, new)) for x, inner in eqn.xs]
        inits = [new.get(id(c.init), c.init) for c in eqn.carries]
        befores = [_twin(c.before, new) for c in eqn.carries]
        twin.body = _copied_block(eqn.body, new)
        for init, before, c in zip(inits, befores, eqn.carries, strict=True):
            final = None if c.final is None else _twin(c.final, new)
            twin.carries.append(Carry(init, before, new.get(id(c.after), c.after), final))
        for o in eqn.outs:
            twin.outs.append(Out(o.kind, new.get(id(o.inner), o.inner), _twin(o.outer, new)))
        block.append(twin)
    return block


def _twin(v: Var, new: dict[int, Any]) -> Var:
    new[id(v)] = twin = Var(v.shape, v.dtype, v.name)
    return twin
