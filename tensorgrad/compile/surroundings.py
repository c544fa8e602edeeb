"""What a function takes from outside: its globals, the variables of functions around it, its object."""

from __future__ import annotations

import dis
import os
import random
import sys
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from functools import cache, partial
from operator import is_
from types import (
    BuiltinFunctionType,
    CodeType,
    FunctionType,
    MemberDescriptorType,
    MethodType,
    ModuleType,
)
from typing import Any

import numpy as np

from tensorgrad.graph import _PACKAGE, Node
from tensorgrad.nn.module import Module

__all__ = [
    "MISSING",
    "Surroundings",
    "called",
    "containers",
    "is_users",
    "modules_in",
    "same_values",
    "sign",
    "wrapped",
]

PLAIN = (str, bytes, int, float, bool, type(None))
MISSING = object()
_CLOSED = (*PLAIN, np.ndarray, np.generic, CodeType)
"""What has nothing within that a function would read and others set."""
_Look = tuple[Any, Any, bool]
"""Something to be looked at, how it is called, and whether it belongs to a module, or an instance to it.

A name, or how its owner is called and its name there: to be put together when somebody asks.
"""
_GENERATORS = (np.random.Generator, np.random.RandomState, random.Random)
_CONTAINERS = (list, tuple, dict, set, frozenset, deque)
_MANY = 10_000
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
def called(label: Any) -> str:
    """The name of something that was looked at, as `owner.attribute` where that is known."""
    parts: list[str] = []
    while isinstance(label, tuple):
        label, part = label
        parts.append(part)
    return ".".join(part for part in (label, *reversed(parts)) if part)


@cache
def _names_in(code: CodeType) -> tuple[list[str], list[str], list[str]]:
    """The names that a function, and those within it, look up among the globals, and those of attributes; and
    which of them it sets."""
    globals_: set[str] = set()
    attributes: set[str] = set()
    stored: set[str] = set()
    todo = [code]
    while todo:
        code = todo.pop()
        for i in dis.get_instructions(code):
            if i.opname in ("LOAD_GLOBAL", "STORE_GLOBAL"):
                globals_.add(i.argval)
            elif i.opname in ("LOAD_ATTR", "LOAD_METHOD", "STORE_ATTR"):
                attributes.add(i.argval)
            if i.opname in ("STORE_GLOBAL", "STORE_ATTR"):
                stored.add(i.argval)
        todo += [c for c in code.co_consts if isinstance(c, CodeType)]
    return sorted(globals_), sorted(attributes), sorted(stored)


@cache
def _attributes_of(cls: Any) -> tuple[list[str], dict[str, None]]:
    """The slots of a class, and what it holds for all its objects, methods aside."""
    held = [item for c in cls.__mro__ for item in vars(c).items()]
    slots = [k for k, v in held if isinstance(v, MemberDescriptorType)]
    return slots, {k: None for k, v in held if not hasattr(v, "__get__")}


def is_users(fn: Any) -> bool:
    """Whether a function, or what wraps one, was written by the user: what it sees may change."""
    file = getattr(getattr(fn, "__code__", None), "co_filename", "")
    return wrapped(fn) is not None or (bool(file) and not file.startswith(_LIBRARIES))


def wrapped(x: Any) -> Any:
    """The function that something wraps, or None."""
    # Not by getattr: there are objects that have every attribute.
    return getattr(x, "__dict__", {}).get("__wrapped__")


def _is_users_module(module: Any) -> bool:
    name, file = getattr(module, "__name__", ""), getattr(module, "__file__", None) or ""
    return name not in sys.builtin_module_names and not file.startswith(_LIBRARIES)


class _Attributes:
    """The attributes of an object or class, to be read and set like a dict."""

    def __init__(self, owner: Any) -> None:
        self.owner = owner

    def get(self, name: str, default: Any) -> Any:
        # Of a class the very thing that it holds, not what that makes of itself.
        owner = self.owner
        return vars(owner).get(name, default) if isinstance(owner, type) else getattr(owner, name, default)

    def __setitem__(self, name: str, value: Any) -> None:
        setattr(self.owner, name, value)

    def __delitem__(self, name: str) -> None:
        delattr(self.owner, name)


class Surroundings:
    """The variables that a function, and what it is given, see but do not make, and what is in them.

    They are followed as far as the user's own code goes: globals, variables of functions around, defaults;
    functions, methods, classes and objects among them, of which the attributes that are named somewhere; and
    what lists, dicts and sets hold. Not followed are arrays, Tensors, and containers of more than 10,000.
    """

    def __init__(self, *roots: Any) -> None:
        self.roots = {id(x) for x in roots}
        # Attributes count once some code names them, so new names are a reason to look again.
        self.attributes: set[str] = {"forward", "initial_state", "update"}
        self.stored: dict[str, None] = {}
        known = None
        while known != (known := (len(self.attributes), len(self.stored))):
            self._look(roots)

    def _look(self, roots: Sequence[Any]) -> None:
        self.named: list[tuple[Any, str, Any]] = []
        # What may get new names, how that is called, and names that are set somewhere.
        self.open: list[tuple[Any, Any, Iterable[str]]] = []
        self.cells: list[tuple[Any, str]] = []
        self.containers: list[tuple[Any, Any]] = []
        self.arrays: list[tuple[Any, Any]] = []
        self.found: list[Module] = []
        self.labels: dict[int, Any] = {}
        self.generators: list[Any] = []
        seen: dict[Any, Any] = {}
        todo: list[_Look] = [(x, "", False) for x in roots]
        while todo:
            x, label, owned = todo.pop()
            if isinstance(x, Node):
                if x.hooks:
                    todo += [(hook, label, False) for hook in x.hooks]
            elif isinstance(x, np.ndarray):
                self.arrays.append((x, label))
            elif isinstance(x, _GENERATORS) and not isinstance(x, random.SystemRandom):
                self.generators.append(x)
            elif not isinstance(x, _CLOSED) and (id(x), owned) not in seen:
                seen[id(x), owned] = x
                todo += self._within(x, label, owned)

    def _within(self, x: Any, label: Any, owned: bool) -> list[_Look]:
        """What is to be looked at within something."""
        if isinstance(x, _CONTAINERS):
            if len(x) > _MANY:
                return []
            if not owned and not isinstance(x, (tuple, frozenset)):
                self.containers.append((x, label))
            return [(v, label, owned) for v in (x.values() if isinstance(x, dict) else x)]
        if isinstance(x, (property, staticmethod, classmethod)):
            parts = (x.fget, x.fset) if isinstance(x, property) else (x.__func__,)
            return [(part, label, False) for part in parts]
        if isinstance(x, (MethodType, BuiltinFunctionType)):
            return [(part, label, False) for part in (x.__self__, getattr(x, "__func__", None))]
        if isinstance(x, partial):
            return [(part, label, False) for part in (x.func, x.args, x.keywords)]
        if isinstance(x, FunctionType) or wrapped(x) is not None:
            return self._of_function(x) if is_users(x) or id(x) in self.roots else []
        if isinstance(x, Module):
            self.found += [] if owned else [x]
            self.labels[id(x)] = label
            return [*((v, (label, k), True) for k, v in vars(x).items()), (type(x), label, True)]
        if isinstance(x, type):
            return [part for c in x.__mro__ for part in self._of_class(c, owned)]
        if isinstance(x, ModuleType):
            if not _is_users_module(x):
                return []
            self.open.append((vars(x), label, self.stored))
            return self._names(vars(x), vars(x), label)
        cls: Any = type(x)
        slots, of_class = _attributes_of(cls)
        found = self._names(_Attributes(x), slots, label) if slots else []
        held = getattr(x, "__dict__", None)
        if held is not None:
            # What the class says holds until the object has something of its own.
            found += self._names(held, {**held, **of_class}, label)
            self.open.append((held, label, self.stored))
        return [*found, (type(x), label, True)]

    def _of_function(self, fn: Any) -> list[_Look]:
        code = getattr(fn, "__code__", None)
        found = [(wrapped(fn), "", False)]
        if code is None:
            return found
        globals_, attributes, stored = _names_in(code)
        self.attributes |= set(attributes)
        self.stored |= dict.fromkeys(stored)
        named = [(fn.__globals__, name, name) for name in globals_ if name in fn.__globals__]
        self.named += [*named, (_Attributes(fn), "__defaults__", "__defaults__")]
        self.open.append((fn.__globals__, "", [name for name in globals_ if name in stored]))
        cells = list(zip(fn.__closure__ or (), code.co_freevars, strict=True))
        self.cells += cells
        found += [(known[name], name, False) for known, name, _ in named]
        found += self._names(vars(fn), vars(fn), fn.__name__)
        self.open.append((vars(fn), fn.__name__, self.stored))
        found += [(_content(cell), name, False) for cell, name in cells]
        return [*found, (fn.__defaults__, "a default", False), (fn.__kwdefaults__, "a default", False)]

    def _of_class(self, cls: type, has_instance: bool) -> list[_Look]:
        """What of a class is named, and the methods behind operators and calls."""
        if not _is_users_module(sys.modules.get(cls.__module__)):
            return []
        held = dict(vars(cls))
        methods = [k for k, v in held.items() if k.startswith("__") and isinstance(v, FunctionType)]
        if has_instance:
            methods = [k for k in methods if k != "__init__"]
        self.open.append((_Attributes(cls), cls.__name__, self.stored))
        return self._names(_Attributes(cls), held, cls.__name__, methods)

    def _names(self, held: Any, names: Iterable[str], owner: Any, more: Sequence[str] = ()) -> list[_Look]:
        """Those of some names that are attributes somewhere, or that are wanted anyhow."""
        wanted = [name for name in names if name in self.attributes or name in more]
        self.named += [(held, name, (owner, name)) for name in wanted]
        return [(held.get(name, None), (owner, name), False) for name in wanted]

    def values(self) -> list[Any]:
        """What is in them now."""
        values = [known.get(name, MISSING) for known, name, _ in self.named]
        values += [_content(cell) for cell, _ in self.cells]
        for held, _ in self.containers:
            # The length tells where one ends and the next begins.
            values += [len(held), *held, *(held.values() if isinstance(held, dict) else ())]
        return values

    def modules(self) -> list[Module]:
        """The modules among them."""
        return self.found

    def key(self) -> Any:
        """What of them distinguishes calls."""
        return tuple(map(sign, self.values()))

    def variables(self) -> list[tuple[Any, str, Any, Any]]:
        """Each variable with what is in it now, those too that have yet to be set: to be restored."""
        places = [*self.named, *((_Cell(cell), name, name) for cell, name in self.cells)]
        places += [(known, name, (owner, name)) for known, owner, names in self.open for name in names]
        return [(known, name, label, known.get(name, MISSING)) for known, name, label in places]

    @staticmethod
    def restore(variables: Sequence[tuple[Any, str, Any, Any]]) -> list[str]:
        """Put back what was in variables, not in containers; the names of those that had something else."""
        changed = []
        for known, name, label, old in variables:
            if known.get(name, MISSING) is not old:
                if old is MISSING:
                    del known[name]
                else:
                    known[name] = old
                changed.append(called(label))
        return changed


class _Cell:
    """A variable of a function around, to be read and set like a dict of its one name."""

    def __init__(self, cell: Any) -> None:
        self.cell = cell

    def get(self, name: str, default: Any) -> Any:
        return _content(self.cell)

    def __setitem__(self, name: str, value: Any) -> None:
        self.cell.cell_contents = value

    def __delitem__(self, name: str) -> None:
        del self.cell.cell_contents


def _content(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:
        return MISSING


def same_values(now: Sequence[Any], then: Sequence[Any]) -> bool:
    """Whether variables hold the same objects, or equal numbers and words."""
    return len(now) == len(then) and (
        all(map(is_, now, then)) or all(a is b or _same(a, b) for a, b in zip(now, then, strict=True))
    )


def _same(a: Any, b: Any) -> bool:
    return type(a) is type(b) and isinstance(a, PLAIN) and sign(a) == sign(b)


def sign(x: Any) -> Any:
    """What an object is known by: numbers and words by what they are, all else by itself."""
    # 0.0 and -0.0 are equal, but not to a division; NaN does not even equal itself.
    if type(x) is float:
        return float, repr(x)
    return (type(x), x) if isinstance(x, PLAIN) else (type(x), id(x))
