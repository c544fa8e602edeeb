"""What passes share: going through a program in order while variables are replaced."""

from __future__ import annotations

from typing import Any

from tensorgrad.compile.builder import Builder
from tensorgrad.compile.ir import Eqn, Loop, Program

__all__ = ["Rewriter"]


class Rewriter:
    """Rebuilds a program equation by equation. A subclass says in `equation` what becomes of each.

    made: the equation that defines a variable, by the id of the variable.
    """

    def __init__(self) -> None:
        self.new: dict[int, Any] = {}
        self.made: dict[int, Eqn] = {}
        self.kept: list[Any] = []

    def run(self, program: Program) -> None:
        """Rebuild a program."""
        program.eqns = self.block(program.eqns)
        program.outputs = [self.now(x) for x in program.outputs]

    def now(self, x: Any) -> Any:
        """What stands for an operand by now."""
        while id(x) in self.new:
            x = self.new[id(x)]
        return x

    def replace(self, old: Any, new: Any) -> None:
        """From here on `new` stands for `old`."""
        self.kept += [old, new]
        self.new[id(old)] = new

    def block(self, eqns: list[Any]) -> list[Any]:
        """Rebuild a stretch of equations."""
        out: list[Any] = []
        builder = Builder(out)
        for eqn in eqns:
            builder.section = eqn.section
            if isinstance(eqn, Loop):
                self.loop(eqn, out)
            else:
                eqn.args = [self.now(a) for a in eqn.args]
                start = len(out)
                value = self.equation(builder, eqn)
                if value is None:
                    out.append(eqn)
                else:
                    self.replace(eqn.out, value)
                    if getattr(value, "name", 0) is None and eqn.out.name:
                        value.name = eqn.out.name
                for made in out[start:]:
                    self.made[id(made.out)] = made
        return out

    def loop(self, loop: Loop, out: list[Any]) -> None:
        """Rebuild a loop, and add it to `out`."""
        loop.xs = [(self.now(x), inner) for x, inner in loop.xs]
        for c in loop.carries:
            c.init = self.now(c.init)
        loop.body = self.block(loop.body)
        for c in loop.carries:
            c.after = self.now(c.after)
        for o in loop.outs:
            o.inner = self.now(o.inner)
        out.append(loop)

    def equation(self, b: Builder, eqn: Eqn) -> Any:
        """The operand that takes the place of the equation's result, or None to keep the equation."""
        raise NotImplementedError
