"""Names, lines and constants of a page that is being written."""

from __future__ import annotations

import re
import textwrap
import unicodedata
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from keyword import iskeyword
from typing import Any

import numpy as np

from tensorgrad.compile.expressions import HELPERS, dtype_text, number_text, shape_text
from tensorgrad.compile.ir import Const, Loop, Var
from tensorgrad.compile.plan import Room, Storage
from tensorgrad.compile.rules import ELEMENTWISE

__all__ = ["Page", "Script", "derive_names", "inherit_names", "returned", "unused"]


class Page:
    """The source of a compiled function, the objects that it names but does not define, and its buffers."""

    def __init__(self, source: str, name: str, names: dict[str, Any], buffers: list[Storage]) -> None:
        self.source = source
        self.name = name
        self.names = names
        self.buffers = buffers

    def team(self, sizes: tuple[int, ...]) -> AbstractContextManager[None]:
        """Threads that share what the page does, for as long as it runs."""
        return nullcontext()


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
                alike = a.shape == eqn.out.shape or (eqn.op == "reshape" and a.ndim == eqn.out.ndim)
                if isinstance(a, Var) and a.name is None and uses[id(a)] == 1 and alike:
                    a.name = eqn.out.name
                    break


_NAMED_AFTER = {"tanh", "sigmoid", "exp", "log", "sqrt", "square", "sin", "cos"}


def derive_names(eqns: list[Any]) -> None:
    """Names for what has none but is made of what has: tanh_c, a_h for h @ W, in the backward g_slope, da."""
    _derive(eqns, {}, set(), False)


def _derive(eqns: list[Any], shown: dict[int, str | None], derived: set[str], inside: bool) -> None:
    for eqn in eqns:
        if isinstance(eqn, Loop):
            shown |= {id(inner): inner.name or getattr(x, "name", None) for x, inner in eqn.xs}
            if not eqn.section:
                shown |= {id(c.before): getattr(c.after, "name", None) for c in eqn.carries}
            _derive(eqn.body, shown, derived, True)
            for o in eqn.outs:
                o.outer.name = o.outer.name or getattr(o.inner, "name", None)
        elif eqn.out.name is None and (name := _derived(eqn, shown, derived, inside)):
            eqn.out.name = name
            derived.add(name)


def _derived(eqn: Any, shown: dict[int, str | None], derived: set[str], inside: bool) -> str | None:
    """The name of an equation's result by those of its operands."""
    names = [shown.get(id(a)) or a.name for a in eqn.args if isinstance(a, Var)]
    backward, base = eqn.section == "backward", names[0] if names else None
    if inside and eqn.op == "concatenate" and backward:
        return "da"
    if not base or base.startswith("d"):
        return None
    if inside and eqn.op == "dot" and not backward and id(eqn.args[0]) in shown and base not in derived:
        return f"a_{base}"
    if len({*names}) > 1 or (base in derived and not base.endswith("_slope")):
        return None
    if eqn.op in _NAMED_AFTER and base not in derived:
        return f"{eqn.op}_{base}"
    if backward and eqn.op in ("multiply", "subtract"):
        return base if base.endswith("_slope") else f"{base}_slope"
    return None


def _folded(start: str, parts: list[str], end: str, indent: str) -> list[str]:
    """`start`, parts with commas between them, and `end`: in one line, or if that is too long in several."""
    if len(start) + len(", ".join(parts)) + len(end) <= 110:
        return [f"{start}{', '.join(parts)}{end}"]
    lines = textwrap.wrap(", ".join(parts), 100, break_long_words=False)
    return [
        start,
        *(f"{indent}    {line}" for line in lines[:-1]),
        f"{indent}    {lines[-1]},",
        f"{' ' * (len(start) - len(start.lstrip()))}{end}",
    ]


def returned(outputs: list[str]) -> list[str]:
    """The lines with which a page ends."""
    line = f"    return {', '.join(outputs)}{',' if len(outputs) == 1 else ''}"
    return [line] if len(line) <= 110 else _folded("    return (", outputs, ")", "    ")


def _unpacked(names: list[str], value: str) -> list[str]:
    """Names for the elements of a list, in lines that can be read."""
    if len(names) == 1:
        return [f"    [{names[0]}] = {value}"]
    lines = textwrap.wrap(", ".join(names), 92, break_long_words=False)
    if len(lines) == 1 and len(lines[0]) + len(value) < 100:
        return [f"    {lines[0]} = {value}"]
    return ["    (", *(f"        {line}" for line in lines[:-1]), f"        {lines[-1]},", f"    ) = {value}"]


_LONGEST = 40
"""The most letters of a name, so that lines can be read and folded."""


_OWN = {"np", "t", "buffers", "make_buffers", "contiguous", "product_shared", "aligned"}
"""What pages have names for, whatever they compute."""

_BUILTINS = {"range", "reversed", "bool", "len", "max", "int", "tuple", "ValueError"}
"""What pages and their helpers call of Python's own."""


def unused(wish: str | None, taken: set[str]) -> str:
    """A name that is not taken, if possible the one wished for; from here on it is."""
    # Python takes letters that look alike, such as a ligature and its letters, for the same.
    letters = unicodedata.normalize("NFKC", wish or "v")[:_LONGEST]
    base = "".join(c if f"_{c}".isidentifier() else "_" for c in letters).rstrip("_") or "v"
    base = base if base.isidentifier() else f"_{base}"
    name, k = base, 1
    while name in taken or iskeyword(name):
        k += 1
        name = f"{base}{k}" if not base[-1].isdigit() else f"{base}_{k}"
    taken.add(name)
    return name


class Script:
    """The lines of a page and the names in it: `script[variable]` is how a variable is written.

    empty: what makes a buffer.
    """

    empty = "np.empty"

    def __init__(self, name: str, sizes: dict[str, tuple[int, int]]) -> None:
        self.sizes = sizes
        self.taken = {*_OWN, *sizes, *HELPERS, *_BUILTINS}
        self.name = unused(name, self.taken) if name in self.taken or iskeyword(name) else name
        self.taken.add(self.name)
        self.texts: dict[Any, str] = {}
        self.given: dict[str, Any] = {}
        self.storage: dict[int, Storage] = {}
        self.room = Room()
        self.lines: list[str] = []
        self.indent = "    "
        # The loops that are open, by what their variables should be called; and what these are called.
        self.open: list[str] = []
        self.indices = {"t": "t"}
        # From the names of the inputs to what the page says about them.
        self.notes: Callable[[list[str]], list[str]] = lambda inputs: []

    def fresh(self, wish: str | None) -> str:
        """A name that is not taken, if possible the one wished for."""
        return unused(wish, self.taken)

    def index(self, wish: str) -> str:
        """The variable of a loop: the same for all loops side by side, and nobody else's."""
        if wish not in self.indices:
            self.indices[wish] = self.fresh(wish)
        return self.indices[wish]

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
        if c.ndim == 0:
            return number_text(c.value.item())
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
        head = [*_folded(f"def {self.name}(", [*inputs, "buffers=None"], "):", "")]
        notes = self.notes(inputs)
        if notes:
            head += [f'    """{notes[0]}', *(f"    {line}".rstrip() for line in notes[1:]), '    """']
        head += self._size_lines(inputs)
        buffers = self.room.buffers
        if buffers:
            head += _unpacked([b.names[0] for b in buffers], f"buffers or make_buffers({symbols})")
            for b in buffers:
                for names in textwrap.wrap(" ".join(b.names[1:]), 80):
                    head.append(f"    {' = '.join([*names.split(), b.names[0]])}")
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
                numbers = number_text(value.tolist())
                lines.append(
                    f"{name} = np.array({numbers}, {dtype_text(value.dtype)}).reshape({value.shape})"
                )
                del self.given[name]
        return "\n".join(lines)

    def _empty(self, b: Storage) -> str:
        """An array for a buffer; with room after each row, of which it is a view."""
        if not b.apart:
            return f"{self.empty}({shape_text(b.shape)}, {dtype_text(b.dtype)})"
        rows, columns = b.shape
        return f"{self.empty}(({rows}, {columns} + {b.apart}), {dtype_text(b.dtype)})[:, :{columns}]"

    def _make_buffers(self, symbols: str) -> str:
        lines = [
            f"def make_buffers({symbols}):",
            '    """Room for what a step computes on its way, to be used again."""',
            "    return [",
        ]
        for b in self.room.buffers:
            names = textwrap.shorten(", ".join(b.names), 60, placeholder=" and others")
            lines.append(f"        {self._empty(b)},  # {names}")
        return "\n".join([*lines, "    ]"])
