"""Names, lines and constants of a page that is being written."""

from __future__ import annotations

import re
import textwrap
from keyword import iskeyword
from typing import Any

import numpy as np

from tensorgrad.compile.expressions import HELPERS, dtype_text, shape_text
from tensorgrad.compile.ir import Const, Loop, Var
from tensorgrad.compile.plan import Room, Storage
from tensorgrad.compile.rules import ELEMENTWISE

__all__ = ["Page", "Script", "inherit_names"]


class Page:
    """The source of a compiled function, the objects that it names but does not define, and its buffers."""

    def __init__(self, source: str, name: str, names: dict[str, Any], buffers: list[Storage]) -> None:
        self.source = source
        self.name = name
        self.names = names
        self.buffers = buffers


def inherit_names(eqns: list[Any]) -> None:
    """What is on its way into one named result, to be written over there, is called so from the start."""
    uses: dict[int, int] = {}
    for eqn in eqns:
        for a in eqn.args:
            uses[id(a)] = uses.get(id(a), 0) + 1
    for eqn in reversed(eqns):
        if isinstance(eqn, Loop):
            inherit_names(eqn.body)
        elif eqn.out.name and eqn.args and (eqn.op in ELEMENTWISE or eqn.op in ("reshape", "minus_one_hot")):
            for a in eqn.args:
                if isinstance(a, Var) and a.name is None and uses[id(a)] == 1 and a.ndim == eqn.out.ndim:
                    a.name = eqn.out.name
                    break


def _unpacked(names: list[str], value: str) -> list[str]:
    """Names for the elements of a list, in lines that can be read."""
    if len(names) == 1:
        return [f"    [{names[0]}] = {value}"]
    lines = textwrap.wrap(", ".join(names), 92)
    if len(lines) == 1:
        return [f"    {lines[0]} = {value}"]
    return ["    (", *(f"        {line}" for line in lines[:-1]), f"        {lines[-1]},", f"    ) = {value}"]


class Script:
    """The lines of a page and the names in it: `script[variable]` is how a variable is written."""

    def __init__(self, name: str, sizes: dict[str, tuple[int, int]]) -> None:
        self.name = name
        self.sizes = sizes
        self.taken = {"np", "t", "buffers", "make_buffers", name, *sizes, *HELPERS}
        self.texts: dict[Any, str] = {}
        self.given: dict[str, Any] = {}
        self.storage: dict[int, Storage] = {}
        self.room = Room()
        self.lines: list[str] = []
        self.indent = "    "

    def fresh(self, wish: str | None) -> str:
        """A name that is not taken, if possible the one wished for."""
        base = re.sub(r"\W", "_", wish or "v")
        base = f"_{base}" if base[0].isdigit() else base
        name, k = base, 1
        while name in self.taken or iskeyword(name) or not name.isidentifier():
            k += 1
            name = f"{base}{k}" if not base[-1].isdigit() else f"{base}_{k}"
        self.taken.add(name)
        return name

    def __getitem__(self, x: Any) -> str:
        if isinstance(x, Const):
            return self.constant(x)
        if id(x) not in self.texts:
            self.texts[id(x)] = self.fresh(x.name)
        return self.texts[id(x)]

    def constant(self, c: Const) -> str:
        """A constant as it is written: a number, or the name of an array."""
        if c.text is not None:
            return f"({c.text})" if " " in c.text else c.text
        if c.ndim == 0 and np.isfinite(c.value):
            return repr(c.value.item())
        if c.ndim == 0 and c.dtype.kind == "f":
            return {"inf": "np.inf", "-inf": "-np.inf"}.get(str(c.value), "np.nan")
        key = repr(c.key())
        if key not in self.texts:
            self.texts[key] = name = self.fresh("constant")
            self.given[name] = c.value
        return self.texts[key]

    def line(self, text: str) -> None:
        """Add a line."""
        self.lines.append(self.indent + text)

    def put(self, x: Any, text: str, storage: Storage) -> None:
        """From here on a variable is written so, and lives there."""
        self.texts[id(x)] = text
        self.storage[id(x)] = storage

    def outside(self, x: Any, text: str) -> None:
        """The same for what is not this page's to write over."""
        self.put(x, text, Storage("given", last=np.inf))

    # --- the parts of the page -------------------------------------------------------------------------
    def finished(self, inputs: list[str]) -> Page:
        """The page around the lines."""
        symbols = ", ".join(self.sizes)
        head = [f"def {self.name}({', '.join([*inputs, 'buffers=None'])}):", *self._size_lines(inputs)]
        buffers = self.room.buffers
        if buffers:
            head += _unpacked([b.names[0] for b in buffers], f"buffers or make_buffers({symbols})")
            shared = [" = ".join([*b.names[1:], b.names[0]]) for b in buffers if len(b.names) > 1]
            head += [f"    {line}" for line in shared]
        body = "\n".join([*head, *self.lines])
        helpers = "".join(HELPERS[h] for h in HELPERS if re.search(rf"\b{h}\(", body))
        parts = ["import numpy as np\n", self._constants(), helpers]
        parts += [self._make_buffers(symbols)] if buffers else []
        source = "\n\n".join(part.strip("\n") + "\n" for part in [*parts, body] if part)
        return Page(source, self.name, self.given, buffers)

    def _size_lines(self, inputs: list[str]) -> list[str]:
        """T and B from the shapes of the inputs."""
        found = list(self.sizes.values())
        if len(found) > 1 and found == [(found[0][0], k) for k in range(len(found))]:
            return [f"    {', '.join(self.sizes)} = {inputs[found[0][0]]}.shape[:{len(found)}]"]
        return [f"    {s} = {inputs[number]}.shape[{axis}]" for s, (number, axis) in self.sizes.items()]

    def _constants(self) -> str:
        """Definitions of the constant arrays that are short enough to be printed."""
        lines = []
        for name, value in list(self.given.items()):
            if isinstance(value, np.ndarray) and value.size <= 1000:
                numbers = re.sub(r"\b(inf|nan)\b", r"np.\1", repr(value.tolist()))
                lines.append(
                    f"{name} = np.array({numbers}, {dtype_text(value.dtype)}).reshape({value.shape})"
                )
                del self.given[name]
        return "\n".join(lines)

    def _make_buffers(self, symbols: str) -> str:
        lines = [
            f"def make_buffers({symbols}):",
            '    """Room for what a step computes on its way, to be used again."""',
            "    return [",
        ]
        for b in self.room.buffers:
            shape = shape_text(b.shape)
            lines.append(f"        np.empty({shape}, {dtype_text(b.dtype)}),  # {', '.join(b.names)}")
        return "\n".join([*lines, "    ]"])
