"""A kernel that is being written: its parameters, its names and its lines."""

from __future__ import annotations

import re
import textwrap
from typing import Any, NamedTuple

from tensorgrad.compile.ir import Const
from tensorgrad.compile.kernels.rows import kind_of
from tensorgrad.compile.page import unused

__all__ = ["Kernel", "Parameter"]

_TAKEN = {"np", "exp", "log", "maximum", "minimum", "plus", "sigmoid", "tanh", "j", "abs", "range"}
_TAKEN |= {"product", "product_packed", "pack", "pack_turned", "ValueError", "first", "last"}

MISFIT = "an array does not have the shape that this kernel was made for"


class Parameter(NamedTuple):
    """What a kernel is given.

    value: what the array holds: a variable, a constant, a loop's state; nothing for room of the kernel's own.
    shape: None for a number. room: for the kernel's own use. alone: of which each thread needs its own.
    """

    name: str
    value: Any
    dtype: Any
    shape: tuple[Any, ...] | None
    room: bool = False
    alone: bool = False


class Kernel:
    """name: the function's. sizes: the symbols of free lengths, as parameters. about: what it does.

    written: the names of the arrays that it writes to. totals: of those that it adds to, row by row.
    rows: the length of the rows' first axis, where several threads can share them; else None.
    is_loop: whether it goes through time.
    """

    def __init__(self, name: str, sizes: list[str], about: str) -> None:
        self.name = name
        self.sizes = sizes
        self.about = about
        self.taken = {*_TAKEN, *sizes}
        self.parameters: list[Parameter] = []
        self.written: set[str] = set()
        self.totals: set[str] = set()
        self.rows: Any = None
        self.is_loop = False
        self.places: dict[Any, Any] = {}
        self.lead: tuple[Any, ...] = ()
        self.lines: list[str] = []
        self.indent = 1
        self.index_names: dict[str, list[str]] = {}

    @property
    def numbers(self) -> list[str]:
        """The parameters before the arrays: the sizes, and from where to where the rows go."""
        return self.sizes if self.rows is None else [*self.sizes, "first", "last"]

    @property
    def span(self) -> str:
        """What comes after an array to take its rows."""
        return "" if self.rows is None else "[first:last]"

    def fresh(self, wish: str | None) -> str:
        """A name that is not taken."""
        return unused(wish, self.taken)

    def line(self, text: str) -> None:
        """Add a line."""
        self.lines.append("    " * self.indent + text)

    def indices(self, lead: tuple[Any, ...]) -> list[str]:
        """A name for the index along each leading axis: t for T, b for B."""
        if str(lead) not in self.index_names:
            names = self.index_names[str(lead)] = []
            for n in lead:
                mine = str(n).lower() if re.fullmatch("[A-IK-Z]", str(n)) else "i"
                free = (name for name in [mine, "i", "k", "m", "n", "p", "q"] if name not in self.taken)
                names.append(self.fresh(next(free, "i")))
        return self.index_names[str(lead)]

    def parameter(self, wish: str | None, value: Any, dtype: Any, shape: Any) -> str:
        """A new parameter's name."""
        name = self.fresh(wish)
        self.parameters.append(Parameter(name, value, dtype, shape))
        return name

    def room(self, wish: str | None, dtype: Any, shape: Any, alone: bool = False) -> str:
        """The name of a new array for the kernel's own use; alone: of which each thread needs its own."""
        name = self.fresh(wish)
        self.parameters.append(Parameter(name, None, dtype, shape, room=True, alone=alone))
        return name

    def place(self, x: Any) -> Any:
        """Where an input stands, which becomes a parameter when it is first asked for."""
        key = repr(x.key()) if isinstance(x, Const) else id(x)
        if key not in self.places:
            number = kind_of(x.shape, self.lead) == "number"
            name = self.parameter(getattr(x, "name", None), x, x.dtype, None if number else x.shape)
            self.places[key] = (name, [], True)
        return self.places[key]

    def array(self, x: Any) -> str:
        """The parameter that holds a whole input, whatever its shape."""
        key = "array", repr(x.key()) if isinstance(x, Const) else id(x)
        if key not in self.places:
            self.places[key] = self.parameter(getattr(x, "name", None), x, x.dtype, x.shape)
        name: str = self.places[key]
        return name

    def scratch(self, x: Any) -> Any:
        """Room for one row of a value."""
        name = self.room(f"{x.name or 'v'}_row", x.dtype, (x.shape[-1],), alone=True)
        return name, [], False

    def source(self) -> str:
        """The function's text."""
        names = ", ".join([*self.numbers, *(p.name for p in self.parameters)])
        head = f"def {self.name}({names}):"
        if len(head) > 110:
            wrapped = textwrap.wrap(names, 100, break_long_words=False)
            head = "\n".join([f"def {self.name}(", *(f"    {w}" for w in wrapped), "):"])
        return "\n".join([head, f'    """{self.about}"""', *self._guard(), *self.lines]) + "\n"

    def _guard(self) -> list[str]:
        """Lines that refuse arrays of any shape but that which the indices below are made for."""
        wrong = [
            f"({p.name}.shape[{axis}] != {n})"
            for p in self.parameters
            for axis, n in enumerate(p.shape or ())
        ]
        if not wrong:
            return []
        lines = textwrap.wrap(" | ".join(wrong), 100, break_long_words=False)
        return [
            "    if (",
            *(f"        {line}" for line in lines),
            "    ):",
            f"        raise ValueError({MISFIT!r})",
        ]
