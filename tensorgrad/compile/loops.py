"""Writing a loop: its stacks, its states and their histories, and the body.

A state that is wanted for every timestep lives in one array with T + 1 rows, `h[0]` before the first step and
`h[t + 1]` after step t; then nothing is handed from step to step. Another state has one buffer, into which
the next one is computed as soon as nobody reads the old one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tensorgrad.compile.expressions import dtype_text, number_text, shape_text
from tensorgrad.compile.ir import Carry, Const, Eqn, Loop, Out, Pieces
from tensorgrad.compile.plan import WITH_OUT, Block, Storage
from tensorgrad.compile.rules import ELEMENTWISE

__all__ = ["LoopWriter"]


class LoopWriter:
    """Writes one loop. writer: the page's; outer: the block in which the loop stands."""

    def __init__(self, writer: Any, loop: Loop, outer: Block) -> None:
        self.w = writer
        self.loop = loop
        self.outer = outer
        ends = [c.after for c in loop.carries] + [o.inner for o in loop.outs]
        self.block = Block(loop.body, ends)
        self.made = {id(e.out): k for k, e in enumerate(loop.body) if isinstance(e, Eqn)}
        within = sum(name != "piece" for name in writer.open)
        self.wish = "piece" if isinstance(loop, Pieces) else f"t{within + 1}" if within else "t"
        self.t = writer.index(self.wish)
        # What is read at every timestep: its variable there, the name of the array, and the place in it.
        self.stacks: list[tuple[Any, tuple[str, str]]] = []
        # The array of all values of a state, by the id of the carry.
        self.history: dict[int, str] = {}
        # Stacks over which a result is written.
        self.replaced: set[int] = set()

    def write(self) -> None:
        """Everything, from the room for what the loop keeps to the state after it."""
        w, loop = self.w, self.loop
        for c in loop.carries:
            stacks = [o for o in loop.outs if o.kind == "stack" and o.inner in (c.before, c.after)]
            if stacks:
                self.begin_history(c, stacks)
            else:
                self.begin_state(c)
        kept = [o for o in loop.outs if o.kind == "sum" or not self.in_history(o)]
        for o in kept:
            self.room_for(o)
        self.stacks = [(inner, self.stack(x)) for x, inner in loop.xs]
        steps = f"range({loop.length})"
        w.line(f"for {self.t} in {f'reversed({steps})' if loop.reverse else steps}:")
        w.indent += "    "
        w.open.append(self.wish)
        self.places(kept)
        lines = len(w.lines)
        w.block(self.block)
        self.keep(kept)
        if len(w.lines) == lines:
            w.line("pass")
        w.open.pop()
        w.indent = w.indent[4:]
        for c in loop.carries:
            if c.final is not None:
                end = 0 if loop.reverse else loop.length
                name = self.history.get(id(c))
                w.line(f"{w[c.final]} = {f'{name}[{end}]' if name else w[c.before]}")
                w.outside(c.final, w[c.final])

    # --- before the loop -----------------------------------------------------------------------------------
    def begin_state(self, c: Carry) -> None:
        """A buffer for a state, with what it is at first."""
        w = self.w
        storage = w.room.take(c.before.shape, c.before.dtype, -1, np.inf, [])
        name = w.fresh(c.before.name)
        storage.names.append(name)
        w.put(c.before, name, storage)
        w.line(f"{name}[...] = {self.start(c.init)}")

    def begin_history(self, c: Carry, stacks: list[Out]) -> None:
        """One array for a state of all timesteps and before the first."""
        w, outer, loop = self.w, self.outer, self.loop
        last = max(outer.last[id(o.outer)] for o in stacks)
        if c.final is not None:
            last = max(last, outer.last[id(c.final)])
        shape = (loop.length + 1, *c.before.shape)
        storage = w.room.take(shape, c.before.dtype, outer.now, last, outer.storages)
        named = next((o.inner.name for o in stacks if o.inner is c.after), None)
        self.history[id(c)] = name = w.fresh(named or getattr(c.after, "name", None) or c.before.name)
        storage.names.append(name)
        w.line(f"{name}[{loop.length if loop.reverse else 0}] = {self.start(c.init)}")
        for o in stacks:
            part = "1:" if (o.inner is c.before) == loop.reverse else ":-1"
            w.put(o.outer, f"{name}[{part}]", storage)

    def start(self, init: Any) -> str:
        """A state before the first step: a number where it is the same everywhere."""
        if isinstance(init, Const) and init.value.size and (init.value == init.value.flat[0]).all():
            return number_text(init.value.flat[0].item())
        made = next((e for e in self.outer.eqns if isinstance(e, Eqn) and e.out is init), None)
        text: str = (
            number_text(made.params["value"]) if made is not None and made.op == "full" else self.w[init]
        )
        return text

    def in_history(self, o: Out) -> bool:
        """Whether a result of the loop is a part of a history."""
        return any(o.inner in (c.before, c.after) for c in self.loop.carries if id(c) in self.history)

    def room_for(self, o: Out) -> None:
        """Room for what the loop gives for every timestep, or adds up."""
        w = self.w
        if id(o.outer) in w.fixed or o.kind == "sum":
            make = "np.empty" if o.kind == "stack" else "np.zeros"
            w.put(o.outer, w[o.outer], Storage("fresh", last=self.outer.last[id(o.outer)]))
            w.line(f"{w[o.outer]} = {make}({shape_text(o.outer.shape)}, {dtype_text(o.outer.dtype)})")
        elif id(o.outer) in self.outer.parts and id(self.outer.parts[id(o.outer)][0].out) not in w.fixed:
            w.part_in_pieces(o.outer, self.outer)
        elif (over := self.replaceable(o, self.may_replace)) is not None:
            w.take_over(o.outer, over, self.outer)
        else:
            w.put(o.outer, *w.buffer(o.outer, self.outer))

    def replaceable(self, o: Out, may_replace: Callable[[Any, Any], bool]) -> Any:
        """A stack that nobody reads after this loop, over which a result can be written; or None.

        may_replace: whether a value of a timestep may be written over one that the timestep reads.
        """
        if o.kind != "stack":
            return None
        whole = [a for e in self.loop.body for a in e.args]
        whole += [x for c in self.loop.carries for x in (c.init, c.after)] + [p.inner for p in self.loop.outs]
        stacks = [x for x, _ in self.loop.xs]
        for x, inner in self.loop.xs:
            alone = stacks.count(x) == 1 and not any(a is x for a in whole) and id(x) not in self.replaced
            if (
                alone
                and self.w.is_free(x, o.outer, self.outer, self.loop.args)
                and may_replace(o.inner, inner)
            ):
                self.replaced.add(id(x))
                return x
        return None

    def stack(self, x: Any) -> tuple[str, str]:
        """What is read at every timestep, as a name, and the place of a timestep in it."""
        w, text = self.w, self.w[x]
        for ending, place in (("[:-1]", self.t), ("[1:]", f"{self.t} + 1")):
            if text.removesuffix(ending).isidentifier() and text.endswith(ending):
                return text.removesuffix(ending), place
        if not text.isidentifier():
            name = w.fresh(x.name)
            w.line(f"{name} = {text}")
            return name, self.t
        return text, self.t

    # --- in the loop ---------------------------------------------------------------------------------------
    def places(self, kept: list[Out]) -> None:
        """Where the variables of a timestep are read and written."""
        w, t, targets = self.w, self.t, self.block.targets
        before, after = (f"{t} + 1", t) if self.loop.reverse else (t, f"{t} + 1")
        for c in self.loop.carries:
            name = self.history.get(id(c))
            if name:
                w.outside(c.before, f"{name}[{before}]")
                if id(c.after) in self.made:
                    targets.setdefault(id(c.after), (f"{name}[{after}]", Storage("given", last=np.inf)))
        for o in kept:
            if o.kind == "stack" and id(o.inner) in self.made:
                targets.setdefault(id(o.inner), (f"{w[o.outer]}[{t}]", Storage("given", last=np.inf)))
        for inner, (name, place) in self.stacks:
            w.outside(inner, f"{name}[{place}]")
        for c in self.loop.carries:
            if (
                id(c) not in self.history
                and id(c.after) not in {*targets, *self.block.parts}
                and self.in_place(c)
            ):
                targets[id(c.after)] = w[c.before], w.storage[id(c.before)]

    def in_place(self, c: Carry) -> bool:
        """Whether the next state can be computed over the old one."""
        w, home = self.w, self.w.storage[id(c.before)]
        return self.may_replace(c.after, c.before, lambda a: w.storage.get(id(a)) is home)

    def may_replace(
        self, after: Any, before: Any, beside: Callable[[Any], bool] = lambda operand: False
    ) -> bool:
        """Whether a result can be computed over what the timestep reads: nobody reads that any more.

        beside: whether an operand lies in the same memory.
        """
        position = self.made.get(id(after))
        if position is None or self.loop.body[position].op not in WITH_OUT:
            return False
        eqn, last = self.loop.body[position], self.block.last.get(id(before), -1)
        if eqn.op == "concatenate":
            # Its parts are written there as they are computed.
            position = min([position, *(self.made[id(a)] for a in eqn.args if id(a) in self.made)])
        if last != position:
            return last < position
        reads_itself = any(a is before for a in eqn.args)
        alone = not any(beside(a) for a in eqn.args if a is not before)
        return reads_itself and alone and eqn.op in ELEMENTWISE - {"where"}

    def keep(self, kept: list[Out]) -> None:
        """At the end of a timestep: what was not computed in its place goes there."""
        w, t = self.w, self.t
        for o in kept:
            if o.kind == "sum":
                w.line(f"{w[o.outer]} += {w[o.inner]}")
            elif w[o.inner] != f"{w[o.outer]}[{t}]":
                w.line(f"{w[o.outer]}[{t}] = {w[o.inner]}")
        after = t if self.loop.reverse else f"{t} + 1"
        for c in self.loop.carries:
            if id(c) in self.history and w[c.after] != f"{self.history[id(c)]}[{after}]":
                w.line(f"{self.history[id(c)]}[{after}] = {w[c.after]}")
        moves = [c for c in self.loop.carries if id(c) not in self.history and w[c.after] != w[c.before]]
        old = {id(w.storage[id(c.before)]) for c in moves}
        if len(moves) > 1 and any(id(w.storage.get(id(c.after))) in old for c in moves):
            # One of them is another's old state.
            left = ", ".join(f"{w[c.before]}[...]" for c in moves)
            w.line(f"{left} = {', '.join(f'np.array({w[c.after]})' for c in moves)}")
        else:
            for c in moves:
                w.line(f"{w[c.before]}[...] = {w[c.after]}")
