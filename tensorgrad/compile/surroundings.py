"""What a function takes from outside: its globals, the variables of functions around it, its object."""

from __future__ import annotations

import dis
import os
from collections.abc import Iterator, Sequence
from functools import cache
from operator import is_
from types import BuiltinFunctionType, CodeType, FunctionType, ModuleType, TracebackType
from typing import Any

import numpy as np

from tensorgrad.compile.sizes import user_line
from tensorgrad.errors import GraphError
from tensorgrad.graph import _PACKAGE, Node
from tensorgrad.nn.module import Module

__all__ = ["PLAIN", "Surroundings", "containers", "modules_in", "same_values", "untouched"]

PLAIN = (str, bytes, int, float, bool, type(None))
_MISSING = object()
_LIBRARIES = (_PACKAGE, os.path.dirname(os.__file__), os.path.dirname(os.path.dirname(np.__file__)))


# --- modules -----------------------------------------------------------------------------------------------
def containers(value: Any) -> Iterator[Any]:
    """The dicts and lists in which a module keeps what it is made of, those of its parts too."""
    todo = [value]
    seen: set[int] = set()
    while todo:
        x = todo.pop()
        if id(x) in seen:
            continue
        seen.add(id(x))
        if isinstance(x, Module):
            yield vars(x)
            todo += vars(x).values()
        elif isinstance(x, dict):
            yield x
            todo += x.values()
        elif isinstance(x, (list, tuple)):
            yield x
            todo += x


def modules_in(value: Any) -> list[Module]:
    """The modules in a tree, not those within them."""
    found: list[Module] = []
    todo = [value]
    while todo:
        x = todo.pop()
        if isinstance(x, Module):
            found.append(x)
        elif isinstance(x, dict):
            todo += x.values()
        elif isinstance(x, (list, tuple)):
            todo += x
    return found


# --- names -------------------------------------------------------------------------------------------------
@cache
def _names_in(code: CodeType) -> tuple[list[str], list[str]]:
    """The names that a function, and those within it, look up among the globals, and those of attributes."""
    globals_: set[str] = set()
    attributes: set[str] = set()
    todo = [code]
    while todo:
        code = todo.pop()
        for i in dis.get_instructions(code):
            if i.opname in ("LOAD_GLOBAL", "STORE_GLOBAL"):
                globals_.add(i.argval)
            elif i.opname in ("LOAD_ATTR", "LOAD_METHOD", "STORE_ATTR"):
                attributes.add(i.argval)
        todo += [c for c in code.co_consts if isinstance(c, CodeType)]
    return sorted(globals_), sorted(attributes)


_KNOWN = (Module, Node, np.ndarray, np.generic, ModuleType, FunctionType, BuiltinFunctionType, type)
"""What is looked through otherwise, or has nothing that a function would read and others set."""


def _is_plain_object(x: Any) -> bool:
    return not isinstance(x, _KNOWN) and hasattr(x, "__dict__")


def _is_users(fn: Any) -> bool:
    """Whether a function, or what wraps one, was written by the user: what it sees may change."""
    file = getattr(getattr(fn, "__code__", None), "co_filename", "")
    return hasattr(fn, "__wrapped__") or (bool(file) and not file.startswith(_LIBRARIES))


class Surroundings:
    """The variables that a function sees but does not make itself, and what is in them: globals, variables of
    functions around it, and of objects among those and of its own the attributes that it names."""

    def __init__(self, fn: Any) -> None:
        self.named: list[tuple[dict[str, Any], str]] = []
        self.cells: list[Any] = []
        self.owners: list[Any] = []
        attributes: set[str] = set()
        todo, seen = [fn], {id(fn)}
        while todo:
            fn = todo.pop()
            self.owners.append(getattr(fn, "__self__", None))
            code = getattr(fn, "__code__", None)
            if code is not None:
                globals_, more = _names_in(code)
                self.named += [(fn.__globals__, name) for name in globals_ if name in fn.__globals__]
                self.cells += fn.__closure__ or ()
                attributes |= set(more)
            called = [getattr(fn, "__wrapped__", None), *self.values()] if _is_users(fn) else []
            for x in called:
                if id(x) not in seen and (fn is not x) and (_is_users(x) or x is called[0] is not None):
                    seen.add(id(x))
                    todo.append(x)
        self.objects = [vars(x) for x in [*self.owners, *self.values()] if _is_plain_object(x)]
        self.named += [(held, name) for held in self.objects for name in held if name in attributes]

    def values(self) -> list[Any]:
        """What is in them now."""
        values = [known.get(name, _MISSING) for known, name in self.named]
        for cell in self.cells:
            try:
                values.append(cell.cell_contents)
            except ValueError:
                values.append(_MISSING)
        return values

    def modules(self) -> list[Module]:
        """The modules among them."""
        held = [list(each.values()) for each in self.objects]
        return list(dict.fromkeys(modules_in([self.owners, self.values(), held])))

    def key(self) -> Any:
        """What of them distinguishes calls."""
        return tuple((type(v), v) if isinstance(v, PLAIN) else id(v) for v in self.values())

    def restore(self, values: Sequence[Any]) -> list[str]:
        """Put back what was in them; the names of those that had something else."""
        changed = []
        now = self.values()
        for (known, name), old, new in zip(self.named, values, now, strict=False):
            if old is not new:
                known[name] = old
                changed.append(name)
        first = len(self.named)
        for cell, old, new in zip(self.cells, values[first:], now[first:], strict=True):
            if old is not new and old is not _MISSING:
                cell.cell_contents = old
                changed.append("a variable of the function around")
        return changed


def same_values(now: Sequence[Any], then: Sequence[Any]) -> bool:
    """Whether variables hold the same objects, or equal numbers and words."""
    return all(map(is_, now, then)) or all(
        a is b or (type(a) is type(b) and isinstance(a, PLAIN) and a == b)
        for a, b in zip(now, then, strict=True)
    )


class untouched:  # noqa: N801 - read as a verb, like every context manager
    """Context manager: what changes inside, in modules or in variables outside, is put back, and an error."""

    def __init__(self, modules: Sequence[Module], around: Surroundings) -> None:
        self.held: list[tuple[Any, Any]] = []
        for module in modules:
            self.held += [(c, c.copy()) for c in containers(module) if not isinstance(c, tuple)]
        self.around = around
        self.values = around.values()

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        changed = self.around.restore(self.values)
        for now, then in self.held:
            if len(now) == len(then) and all(map(is_, _items(now), _items(then))):
                continue
            if isinstance(now, dict):
                names = [str(k) for k in {**now, **then} if now.get(k, _MISSING) is not then.get(k, _MISSING)]
                changed += names or ["the order of a dict"]
                now.clear()
                now.update(then)
            else:
                changed.append("a list of a module")
                now[:] = then
        if changed and error is None:
            raise GraphError(
                f"tg.compile: the function gives {', '.join(changed)} a new value outside of itself"
                f"{user_line()}, which a compiled program would not do again. Return the value, and keep it "
                "outside"
            )


def _items(container: Any) -> list[Any]:
    return [*container, *container.values()] if isinstance(container, dict) else container
