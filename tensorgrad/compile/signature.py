"""What distinguishes one call from another: structure, shapes, modules; and which lengths are free."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from operator import is_
from typing import Any, NamedTuple

import numpy as np

from tensorgrad import tree
from tensorgrad.compile.sizes import example_lengths
from tensorgrad.compile.surroundings import Surroundings, containers, modules_in, same_values, sign
from tensorgrad.errors import UserError
from tensorgrad.graph import Node
from tensorgrad.nn.module import Module, Parameter
from tensorgrad.tensor import Tensor

__all__ = ["Call", "FreeSizes", "Guard", "argument_names", "free_sizes", "leaf_names"]


# --- modules -----------------------------------------------------------------------------------------------
def _module_key(module: Module) -> Any:
    """What of a module decides what it computes: itself and its settings."""
    settings = []
    for held in containers(module):
        items = held.items() if isinstance(held, dict) else enumerate(held)
        settings += [(k, sign(v)) for k, v in items]
    return id(module), tuple(settings)


class _Unchanged:
    """Whether a module still holds the very objects that it held."""

    def __init__(self, module: Module) -> None:
        self.module = module
        self.held = []
        for held in containers(module):
            items = held.values() if isinstance(held, dict) else held
            self.held.append((items, list(items)))
        self.parameters = module.parameters()

    def holds(self) -> bool:
        return all(len(now) == len(then) and all(map(is_, now, then)) for now, then in self.held)


# --- calls -------------------------------------------------------------------------------------------------
def _is_array(x: Any) -> bool:
    """Whether an argument is given to the program, not built into it."""
    if isinstance(x, (str, bytes)):
        # A setting, if it is NumPy's own kind of string too.
        return False
    return isinstance(x, (np.ndarray, np.generic, Node)) or type(x) is float


class Call:
    """The arguments of a call, and what distinguishes it from others.

    values: the arrays among the leaves, whose numbers are in `arrays`. around: what the function and the
    objects among the arguments see besides. about: everything but the shapes.
    """

    def __init__(self, fn: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self.leaves, self.structure = tree.flatten((args, kwargs))
        if any(isinstance(x, np.ma.MaskedArray) for x in self.leaves):
            raise UserError("tg.compile: a program knows no masked arrays; give data and mask as two arrays")
        self.arrays = [k for k, x in enumerate(self.leaves) if _is_array(x)]
        self.values = [x._value if isinstance(x, Node) else np.asarray(x) for x in self.given]
        modules = modules_in([args, kwargs])
        self.around = Surroundings(fn, *modules, *(x for x in self.leaves if not _is_array(x)))
        self.modules = list({id(m): m for m in [*modules, *self.around.modules()]}.values())
        kinds = tuple(map(_kind, self.leaves))
        self.about = kinds, tuple(map(_module_key, self.modules)), form_key(self.structure), self.around.key()

    @property
    def given(self) -> list[Any]:
        """The leaves that are arrays."""
        return [self.leaves[k] for k in self.arrays]

    @property
    def shapes(self) -> tuple[tuple[int, ...], ...]:
        """Those of the arrays."""
        return tuple(v.shape for v in self.values)

    def held(self) -> list[Any]:
        """The objects whose ids are in the key: they must live as long as it."""
        return [
            *self.modules,
            *(
                x
                for m in self.modules
                for c in containers(m)
                for x in (c.values() if isinstance(c, dict) else c)
            ),
            *self.around.values(),
            *(x for x in self.leaves if isinstance(x, Parameter) or not _is_array(x)),
            *(hook for x in self.leaves if isinstance(x, Node) for hook in x.hooks or ()),
        ]


def _kind(x: Any) -> Any:
    if isinstance(x, Parameter):
        return id(x)
    if _is_array(x):
        value = x._value if isinstance(x, Node) else np.asarray(x)
        hooks = tuple(map(id, getattr(x, "hooks", None) or ()))
        return type(x), value.ndim, value.dtype, getattr(x, "requires_grad", False), hooks
    return sign(x)


class Guard:
    """A quick test whether a call is like the one before; gives its arrays if it is."""

    def __init__(self, args: tuple[Any, ...], around: Surroundings) -> None:
        self.around = around
        self.held = around.values()
        self.modules = [_Unchanged(m) for m in around.modules()]
        self.args: list[Any] = []
        for a in args:
            if isinstance(a, Module):
                self.args.append(_Unchanged(a))
            else:
                leaves, structure = tree.flatten(a)
                self.args.append((structure, [_sign(x) for x in leaves]))

    def values(self, args: tuple[Any, ...]) -> list[Any] | None:
        """The arrays of a call, or None if it may need another program."""
        if len(args) != len(self.args) or not all(m.holds() for m in self.modules):
            return None
        if not same_values(self.around.values(), self.held):
            return None
        values: list[Any] = []
        for a, known in zip(args, self.args, strict=True):
            if known.__class__ is _Unchanged:
                if a is not known.module or not known.holds():
                    return None
                values += [p._value for p in known.parameters]
                continue
            structure, signs = known
            leaves: list[Any]
            if a.__class__ is np.ndarray and structure.build is None:
                leaves = [a]
            else:
                leaves, now = tree.flatten(a)
                if not tree.same_structure(structure, now):
                    return None
            for x, known in zip(leaves, signs, strict=True):
                if known is None or x.__class__ is not known[0]:
                    return None
                if known[0] is float:
                    values.append(np.asarray(x))
                    continue
                if x.shape != known[1] or x.dtype != known[2]:
                    return None
                if x.__class__ is np.ndarray:
                    values.append(x)
                elif x.requires_grad == known[3] and not x.hooks:
                    values.append(x._value)
                else:
                    return None
        return values


def _sign(x: Any) -> Any:
    """What an argument must be again, or None if that takes a longer look."""
    if getattr(x, "hooks", None):
        return None
    if type(x) is float:
        return (float,)
    return (
        (type(x), x.shape, x.dtype, getattr(x, "requires_grad", False))
        if type(x) in (np.ndarray, Tensor)
        else None
    )


# --- structure and names -----------------------------------------------------------------------------------
def form_key(structure: Any) -> Any:
    """The nesting of a tree, to be looked up by."""
    return (structure.kind, structure.keys, tuple(form_key(c) for c in structure.children))


def argument_names(fn: Any, count: int) -> list[str]:
    """The names of the first arguments of a function."""
    try:
        given = list(inspect.signature(fn).parameters)
    except (TypeError, ValueError):
        given = []
    return [*given, *(f"x{k}" for k in range(len(given), count))][:count]


def leaf_names(fn: Any, structure: Any) -> list[str]:
    """A name for every leaf of (args, kwargs): that of its key, or of the function's argument."""
    given = argument_names(fn, len(structure.children[0].children))
    names = []
    for path in tree._paths(structure, ""):
        parts = path.split(".")
        if parts[0] == "0" and len(parts) == 2:
            names.append(given[int(parts[1])])
        else:
            names.append(
                parts[-1]
                if not parts[-1].isdigit()
                else "_".join(parts[1:]).lstrip("0123456789_") or f"x{parts[-1]}"
            )
    return names


class FreeSizes(NamedTuple):
    """The free lengths of a call's arrays.

    symbols: the lengths of each in both traces. pattern, axes: which axes they are. where: the input and axis
    that tell each.
    """

    symbols: dict[str, tuple[int, int]]
    pattern: Any
    where: dict[str, tuple[int, int]]
    axes: list[tuple[Any, ...]]

    def lengths(self, values: Sequence[Any]) -> dict[str, int]:
        """What the free sizes are for these arrays."""
        return {name: values[number].shape[axis] for name, (number, axis) in self.where.items()}

    def shapes(self, k: int) -> list[tuple[int, ...]]:
        """The shapes of the arrays in the first trace (0) or the second (1)."""
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
