"""A program as a page of NumPy."""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from tensorgrad.compile.expressions import HELPERS, expression, shape_text
from tensorgrad.compile.ir import Const, Loop, Program, Var

__all__ = ["Page", "emit"]


class Page:
    """The source of a compiled function, and the objects that it names but does not define."""

    def __init__(self, source: str, names: dict[str, Any], outputs: list[str]) -> None:
        self.source = source
        self.names = names
        self.outputs = outputs


def emit(program: Program, name: str, sizes: dict[str, tuple[int, int]]) -> Page:
    """The page for a program. sizes: for each symbol the input and axis that tell it."""
    return _Writer(program, name, sizes).page()


class _Writer:
    def __init__(self, program: Program, name: str, sizes: dict[str, tuple[int, int]]) -> None:
        self.program = program
        self.name = name
        self.sizes = sizes
        self.taken = {"np", "t", name, *sizes, *HELPERS}
        self.names: dict[int, str] = {}
        self.given: dict[str, Any] = {}
        self.lines: list[str] = []
        self.helpers: set[str] = set()
        self.indent = "    "

    def fresh(self, wish: str | None) -> str:
        base = re.sub(r"\W", "_", wish or "v")
        base = f"_{base}" if base[0].isdigit() else base
        name, k = base, 1
        while name in self.taken or not name.isidentifier():
            k += 1
            name = f"{base}{k}" if not base[-1].isdigit() else f"{base}_{k}"
        self.taken.add(name)
        return name

    def __getitem__(self, x: Any) -> str:
        if isinstance(x, Const):
            return self.constant(x)
        if id(x) not in self.names:
            self.names[id(x)] = self.fresh(x.name)
        return self.names[id(x)]

    def constant(self, c: Const) -> str:
        if c.text is not None:
            return f"({c.text})" if " " in c.text else c.text
        if c.ndim == 0 and np.isfinite(c.value):
            return repr(c.value.item())
        key = repr(c.key())
        if key not in self.names:
            self.names[key] = name = self.fresh("constant")  # type: ignore[index]
            self.given[name] = c.value
        return self.names[key]  # type: ignore[index]

    def line(self, text: str) -> None:
        self.lines.append(self.indent + text)

    def page(self) -> Page:
        inputs = [self[v] for v in self.program.inputs]
        for symbol, (number, axis) in self.sizes.items():
            self.line(f"{symbol} = {inputs[number]}.shape[{axis}]")
        self.block(self.program.eqns)
        outputs = [self[v] for v in self.program.outputs]
        self.line(f"return {', '.join(outputs)}{',' if len(outputs) == 1 else ''}")
        head = f"def {self.name}({', '.join(inputs)}):"
        body = "\n".join(self.lines)
        helpers = "\n".join(HELPERS[h] for h in HELPERS if re.search(rf"\b{h}\(", body))
        return Page(f"import numpy as np\n{helpers}\n\n{head}\n{body}\n", self.given, outputs)

    def block(self, eqns: list[Any]) -> None:
        for eqn in eqns:
            if isinstance(eqn, Loop):
                self.loop(eqn)
            elif eqn.op == "call":
                self.call(eqn)
            else:
                self.line(f"{self[eqn.out]} = {expression(eqn, [self[a] for a in eqn.args])}")

    def call(self, eqn: Any) -> None:
        params = dict(eqn.params)
        op = params.pop("op")
        fn = self.fresh(op.name)
        self.given[fn] = op.forward
        args = [self[a] if isinstance(a, Var) else f"np.asarray({self[a]})" for a in eqn.args]
        args += [f"{k}={v!r}" for k, v in params.items()]
        self.line(f"{self[eqn.out]} = {fn}({', '.join(args)})")

    def loop(self, loop: Loop) -> None:
        for c in loop.carries:
            self.line(f"{self[c.before]} = {self[c.init]}")
        for o in loop.outs:
            make = "np.empty" if o.kind == "stack" else "np.zeros"
            self.line(f"{self[o.outer]} = {make}({shape_text(o.outer.shape)}, np.{o.outer.dtype.name})")
        steps = f"range({loop.length})"
        self.line(f"for t in {f'reversed({steps})' if loop.reverse else steps}:")
        self.indent += "    "
        for x, inner in loop.xs:
            self.line(f"{self[inner]} = {self[x]}[t]")
        self.block(loop.body)
        for o in loop.outs:
            if o.kind == "stack":
                self.line(f"{self[o.outer]}[t] = {self[o.inner]}")
            else:
                self.line(f"{self[o.outer]} += {self[o.inner]}")
        befores = ", ".join(self[c.before] for c in loop.carries)
        self.line(f"{befores} = {', '.join(self[c.after] for c in loop.carries)}")
        self.indent = self.indent[4:]
        for c in loop.carries:
            if c.final is not None:
                self.line(f"{self[c.final]} = {self[c.before]}")
