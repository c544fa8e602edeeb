"""What a function takes from outside: its globals, the variables of functions around it, its object."""

from __future__ import annotations

import dis
import os
import random
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache, partial
from operator import is_
from types import (
    BuiltinFunctionType,
    CodeType,
    FunctionType,
    MemberDescriptorType,
    MethodType,
    ModuleType,
    TracebackType,
)
from typing import Any

import numpy as np

from tensorgrad.compile.sizes import user_line
from tensorgrad.errors import GraphError
from tensorgrad.graph import _PACKAGE, Node
from tensorgrad.nn.module import Module

__all__ = ["Surroundings", "containers", "modules_in", "same_values", "sign", "untouched"]

PLAIN = (str, bytes, int, float, bool, type(None))
_MISSING = object()
_CLOSED = (*PLAIN, np.ndarray, np.generic, CodeType)
"""What has nothing within that a function would read and others set."""
_Look = tuple[Any, str, bool]
"""Something to be looked at, how it is called, and whether it belongs to a module, or an instance to it."""
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


def _is_users(fn: Any) -> bool:
    """Whether a function, or what wraps one, was written by the user: what it sees may change."""
    file = getattr(getattr(fn, "__code__", None), "co_filename", "")
    return _wrapped(fn) is not None or (bool(file) and not file.startswith(_LIBRARIES))


def _wrapped(x: Any) -> Any:
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
        known = 0
        while known != len(self.attributes):
            known = len(self.attributes)
            self._look(roots)

    def _look(self, roots: Sequence[Any]) -> None:
        self.named: list[tuple[Any, str]] = []
        self.cells: list[tuple[Any, str]] = []
        self.containers: list[tuple[Any, str]] = []
        self.found: list[Module] = []
        self.generators: list[Any] = []
        seen: dict[Any, Any] = {}
        todo: list[_Look] = [(x, "", False) for x in roots]
        while todo:
            x, label, owned = todo.pop()
            if isinstance(x, _GENERATORS) and not isinstance(x, random.SystemRandom):
                self.generators.append(x)
            elif isinstance(x, Node):
                todo += [(hook, label, False) for hook in x.hooks or ()]
            elif not isinstance(x, _CLOSED) and (id(x), owned) not in seen:
                seen[id(x), owned] = x
                todo += self._within(x, label, owned)

    def _within(self, x: Any, label: str, owned: bool) -> list[_Look]:
        """What is to be looked at within something."""
        if isinstance(x, _CONTAINERS):
            if len(x) > _MANY:
                return []
            if not owned and not isinstance(x, (tuple, frozenset)):
                self.containers.append((x, label))
            return [(v, label, owned) for v in (x.values() if isinstance(x, dict) else x)]
        if isinstance(x, (property, staticmethod, classmethod)):
            return [(x.fget if isinstance(x, property) else x.__func__, label, False)]
        if isinstance(x, (MethodType, BuiltinFunctionType)):
            return [(part, label, False) for part in (x.__self__, getattr(x, "__func__", None))]
        if isinstance(x, partial):
            return [(part, label, False) for part in (x.func, x.args, x.keywords)]
        if isinstance(x, FunctionType) or _wrapped(x) is not None:
            return self._of_function(x) if _is_users(x) or id(x) in self.roots else []
        if isinstance(x, Module):
            self.found += [] if owned else [x]
            return [*((v, k, True) for k, v in vars(x).items()), (type(x), label, True)]
        if isinstance(x, type):
            return [part for c in x.__mro__ for part in self._of_class(c, owned)]
        if isinstance(x, ModuleType):
            return self._names(vars(x), vars(x)) if _is_users_module(x) else []
        slots = [
            k for c in type(x).__mro__ for k, v in vars(c).items() if isinstance(v, MemberDescriptorType)
        ]
        held = self._names(_Attributes(x), slots) if slots else []
        return [
            *held,
            *self._names(getattr(x, "__dict__", {}), [*getattr(x, "__dict__", ())]),
            (type(x), label, True),
        ]

    def _of_function(self, fn: Any) -> list[_Look]:
        code = getattr(fn, "__code__", None)
        found = [(_wrapped(fn), "", False)]
        if code is None:
            return found
        globals_, attributes = _names_in(code)
        self.attributes |= set(attributes)
        named = [(fn.__globals__, name) for name in globals_ if name in fn.__globals__]
        self.named += [*named, (_Attributes(fn), "__defaults__")]
        cells = list(zip(fn.__closure__ or (), code.co_freevars, strict=True))
        self.cells += cells
        found += [(known[name], name, False) for known, name in named]
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
        return self._names(_Attributes(cls), held, methods)

    def _names(self, held: Any, names: Iterable[str], more: Sequence[str] = ()) -> list[_Look]:
        """Those of some names that are attributes somewhere, or that are wanted anyhow."""
        wanted = [name for name in names if name in self.attributes or name in more]
        self.named += [(held, name) for name in wanted]
        return [(held.get(name, None), name, False) for name in wanted]

    def values(self) -> list[Any]:
        """What is in them now."""
        values = [known.get(name, _MISSING) for known, name in self.named]
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

    def restore(self, values: Sequence[Any]) -> list[str]:
        """Put back what was in variables, not in containers; the names of those that had something else."""
        changed = []
        now = self.values()
        for (known, name), old, new in zip(self.named, values, now, strict=False):
            if old is not new:
                known[name] = old
                changed.append(name)
        first = len(self.named)
        for (cell, name), old, new in zip(self.cells, values[first:], now[first:], strict=False):
            if old is not new and old is not _MISSING:
                cell.cell_contents = old
                changed.append(name)
        return changed


def _content(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:
        return _MISSING


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


_ONCE = "which a compiled program would not do again. Return the value, and keep it outside"


class untouched:  # noqa: N801 - read as a verb, like every context manager
    """Context manager: what changes inside, in modules or in variables outside, is put back, and an error."""

    def __init__(self, modules: Sequence[Module], around: Surroundings, why: str = _ONCE) -> None:
        self.why = why
        self.held: list[tuple[Any, Any]] = []
        for module in modules:
            self.held += [(c, c.copy()) for c in containers(module) if not isinstance(c, tuple)]
        self.held += [(c, c.copy()) for c, _ in around.containers]
        self.labels = {id(c): label for c, label in around.containers}
        self.around = around
        self.values = around.values()
        self.drawn = [(get, put, get()) for get, put in _states(around)]

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        changed = self.around.restore(self.values)
        for now, then in self.held:
            if len(now) == len(then) and all(map(is_, _items(now), _items(then))):
                continue
            label = self.labels.get(id(now), "")
            if label:
                changed.append(label)
            if isinstance(now, dict):
                names = [str(k) for k in {**now, **then} if now.get(k, _MISSING) is not then.get(k, _MISSING)]
                changed += [] if label else names or ["the order of a dict"]
                now.clear()
                now.update(then)
            else:
                changed += [] if label else ["a list of a module"]
                now.clear()
                now.extend(then) if hasattr(now, "extend") else now.update(then)
        for get, put, then in self.drawn:
            if repr(get()) != repr(then):
                put(then)
                if error is None and not changed:
                    raise GraphError(
                        f"tg.compile: the function draws random numbers from a generator itself"
                        f"{user_line()}, which a compiled program would not do again. Draw them by "
                        "tg.random.draw, or outside"
                    )
        if changed and error is None:
            raise GraphError(
                f"tg.compile: the function gives {', '.join(changed)} a new value outside of itself"
                f"{user_line()}, {self.why}"
            )


def _items(container: Any) -> list[Any]:
    return [*container, *container.values()] if isinstance(container, dict) else container


def _states(around: Surroundings) -> Iterator[tuple[Callable[[], Any], Callable[[Any], None]]]:
    """What gives the state of each random generator that is seen, and what sets it."""
    for each in around.generators:
        if isinstance(each, random.Random):
            yield each.getstate, each.setstate
        elif isinstance(each, np.random.RandomState):
            yield each.get_state, each.set_state
        else:
            bits = each.bit_generator
            yield partial(getattr, bits, "state"), partial(setattr, bits, "state")
    # Those of NumPy and Python themselves, only if they may be meant: other threads draw from them too.
    if "random" in around.attributes or any(v is random for v in around.values()):
        yield np.random.get_state, np.random.set_state
        yield random.getstate, random.setstate
