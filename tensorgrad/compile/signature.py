"""What distinguishes one call from another: structure, shapes, modules; and which lengths are free."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from operator import is_
from typing import Any, NamedTuple

import numpy as np

from tensorgrad import tree
from tensorgrad.compile.sizes import example_lengths
from tensorgrad.graph import Node
from tensorgrad.nn.module import Module
from tensorgrad.tensor import Tensor

__all__ = ["FreeSizes", "Guard", "form_key", "free_sizes", "leaf_names", "module_key"]


# --- modules -----------------------------------------------------------------------------------------------
def _containers(value: Any) -> Iterator[Any]:
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


def module_key(module: Module) -> Any:
    """What of a module decides what it computes: itself and its settings."""
    plain = (str, int, float, bool, type(None))
    settings = []
    for held in _containers(module):
        items = held.items() if isinstance(held, dict) else enumerate(held)
        settings += [(k, v) if isinstance(v, plain) else (k, type(v), id(v)) for k, v in items]
    return id(module), tuple(settings)


class _Unchanged:
    """Whether a module still holds the very objects that it held."""

    def __init__(self, module: Module) -> None:
        self.module = module
        self.held = [
            (h.values() if isinstance(h, dict) else h, list(h.values() if isinstance(h, dict) else h))
            for h in _containers(module)
        ]
        self.parameters = module.parameters()

    def values(self, argument: Any) -> list[Any] | None:
        if argument is not self.module:
            return None
        for now, before in self.held:
            if len(now) != len(before) or not all(map(is_, now, before)):
                return None
        return [p._value for p in self.parameters]


class Guard:
    """A quick test whether a call is like the one before; gives its arrays if it is."""

    def __init__(self, args: tuple[Any, ...]) -> None:
        self.args: list[Any] = []
        for a in args:
            if isinstance(a, Module):
                self.args.append(_Unchanged(a))
            else:
                leaves, structure = tree.flatten(a)
                signs = [
                    (type(x), x.shape, x.dtype) if type(x) in (np.ndarray, Tensor) else None for x in leaves
                ]
                self.args.append((structure, signs))

    def values(self, args: tuple[Any, ...]) -> list[Any] | None:
        """The arrays of a call, or None if it may need another program."""
        if len(args) != len(self.args):
            return None
        values: list[Any] = []
        for a, known in zip(args, self.args, strict=True):
            if known.__class__ is _Unchanged:
                found = known.values(a)
                if found is None:
                    return None
                values += found
                continue
            structure, signs = known
            if a.__class__ is np.ndarray:
                leaves = [a]
                same = structure.build is None
            else:
                leaves, now = tree.flatten(a)
                same = tree.same_structure(structure, now)
            if not same:
                return None
            for x, sign in zip(leaves, signs, strict=True):
                if sign is None or x.__class__ is not sign[0] or x.shape != sign[1] or x.dtype != sign[2]:
                    return None
                values.append(x if x.__class__ is np.ndarray else x._value)
        return values


# --- structure and names -----------------------------------------------------------------------------------
def form_key(structure: Any) -> Any:
    return (structure.kind, structure.keys, tuple(form_key(c) for c in structure.children))


def leaf_names(fn: Any, structure: Any) -> list[str]:
    """A name for every leaf of (args, kwargs): that of its key, or of the function's argument."""
    try:
        given = list(inspect.signature(fn).parameters)
    except (TypeError, ValueError):
        given = []
    names = []
    for path in tree._paths(structure, ""):
        parts = path.split(".")
        if parts[0] == "0" and len(parts) == 2:
            k = int(parts[1])
            names.append(given[k] if k < len(given) else f"x{k}")
        else:
            names.append(
                parts[-1]
                if not parts[-1].isdigit()
                else "_".join(parts[1:]).lstrip("0123456789_") or f"x{parts[-1]}"
            )
    return names


class FreeSizes(NamedTuple):
    """symbols: lengths of each in both traces; pattern: which axes they are; where: (input, axis) that tells."""

    symbols: dict[str, tuple[int, int]]
    pattern: Any
    where: dict[str, tuple[int, int]]
    axes: list[tuple[Any, ...]]

    def shapes(self, k: int) -> list[tuple[int, ...]]:
        return [tuple(self.symbols[n][k] if isinstance(n, str) else n for n in axes) for axes in self.axes]


def free_sizes(leaves: list[Any], values: list[Any]) -> FreeSizes:
    """Which axes of the arguments are free: T, B and their like, but not what the weights determine."""
    fixed = {1}
    for x, v in zip(leaves, values, strict=True):
        if isinstance(x, Node) and type(x) is not Tensor:
            fixed |= set(v.shape)
        elif v.dtype.kind == "f":
            fixed |= set(v.shape[-1:])
    names: dict[int, str] = {}
    where: dict[str, tuple[int, int]] = {}
    axes: list[tuple[Any, ...]] = []
    for number, (x, v) in enumerate(zip(leaves, values, strict=True)):
        certain = v.ndim >= 3 or (v.dtype.kind in "iub" and v.ndim)
        row: list[Any] = []
        for axis, n in enumerate(v.shape):
            last = v.dtype.kind == "f" and axis == v.ndim - 1
            parameter = isinstance(x, Node) and type(x) is not Tensor
            if parameter or last or n <= 1 or (n in fixed and not certain):
                row.append(n)
                continue
            if n not in names:
                wish = ["T", "B"] if v.ndim >= 2 else []
                free = wish[axis] if axis < len(wish) and wish[axis] not in where else f"N{len(names)}"
                names[n] = free
                where[free] = (number, axis)
            row.append(names[n])
        axes.append(tuple(row))
    taken = fixed | {n for v in values for n in v.shape}
    symbols = example_lengths(list(where), taken)
    return FreeSizes(symbols, tuple(axes), where, axes)
