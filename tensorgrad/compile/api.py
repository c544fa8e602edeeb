"""`tg.compile`: a function that is traced at its first call and from then on runs as printed."""

from __future__ import annotations

import builtins
import inspect
from collections.abc import Callable
from functools import update_wrapper
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tensorgrad import tree
from tensorgrad.compile.emit import Page, emit
from tensorgrad.compile.generalise import generalise
from tensorgrad.compile.ir import Program, Var, verify
from tensorgrad.compile.lower import lower
from tensorgrad.compile.passes import optimise
from tensorgrad.compile.sizes import SizeUnknown, Symbols, example_lengths
from tensorgrad.compile.trace import Traced, TracedArray, Tracer, tracing
from tensorgrad.errors import ShapeError, UserError
from tensorgrad.graph import Node
from tensorgrad.tensor import Tensor

__all__ = ["CacheInfo", "Compiled", "compile"]

class CacheInfo(NamedTuple):
    """programs: how many were compiled; signatures: for how many sets of shapes; hits: calls that found theirs."""

    programs: int
    signatures: int
    hits: int


def compile(fn: Callable[..., Any]) -> Compiled:
    """`fn` as a NumPy program of its own, made at the first call for arguments of each kind.

    fn: a function of trees of arrays, Tensors and Modules. Tensors and parameters that it takes from outside
        are read anew at every call, arrays from outside are constants.
    Returns a `Compiled`, to be called like `fn`.

    >>> import tensorgrad as tg
    >>> step = tg.compile(tg.value_and_grad(lambda w, x: (w * x).sum()))
    >>> loss, grad = step(np.ones(2), np.array([1.0, 2.0]))
    >>> loss.item(), grad
    (3.0, array([1., 2.]))
    """
    return Compiled(fn)


class Compiled:
    """A compiled function: call it, look at its `source`, `save` that, ask it to `explain` itself."""

    def __init__(self, fn: Callable[..., Any]) -> None:
        update_wrapper(self, fn)
        self.fn = fn
        self._entries: dict[Any, _Entry] = {}
        self._programs: dict[Any, _Executable] = {}
        self._hits = 0
        self._last: _Executable | None = None
        self._why = ""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        leaves, structure = tree.flatten((args, kwargs))
        values = [x._value if isinstance(x, Node) else np.asarray(x) for x in leaves]
        modules = tuple(_modes(args)) if any(hasattr(a, "named_modules") for a in args) else ()
        key = (
            tuple((v.shape, v.dtype, id(x) if type(x).__name__ == "Parameter" else 0) for v, x in zip(values, leaves, strict=True)),
            modules,
            _form(structure),
        )
        entry = self._entries.get(key)
        if entry is None:
            entry = self._entries[key] = self._compile(leaves, values, structure, key)
        else:
            self._hits += 1
        return entry.run(values)

    def cache_info(self) -> CacheInfo:
        """What was compiled so far."""
        return CacheInfo(len(self._programs), len(self._entries), self._hits)

    # --- looking at it -----------------------------------------------------------------------------------
    @property
    def source(self) -> str:
        """The page of NumPy that ran last."""
        return self._ran().page.source

    @property
    def ir(self) -> str:
        """The program from which the page was printed."""
        return str(self._ran().program)

    def save(self, path: str | Path) -> None:
        """Write the page to a file that needs nothing but NumPy."""
        Path(path).write_text(self.source, encoding="utf-8")

    def _ran(self) -> _Executable:
        if self._last is None:
            raise UserError("this function was not compiled yet: call it once with its arguments")
        return self._last

    # --- compiling ---------------------------------------------------------------------------------------
    def _compile(self, leaves: list[Any], values: list[Any], structure: Any, key: Any) -> _Entry:
        plan = _free_sizes(leaves, values)
        program_key = (plan.pattern, tuple((v.ndim, v.dtype) for v in values), key[0] if not plan.symbols else tuple(k[2] for k in key[0]), key[1], key[2])
        executable = self._programs.get(program_key)
        if executable is None:
            executable = self._build(leaves, values, structure, plan)
            self._programs[program_key] = executable
        self._last = executable
        return _Entry(executable, tuple(values[n].shape[a] for n, a in executable.where.values()))

    def _build(self, leaves: list[Any], values: list[Any], structure: Any, plan: _Sizes) -> _Executable:
        if plan.symbols:
            try:
                first = self._trace(leaves, plan.shapes(0), values, structure, [n for n, _ in plan.symbols.values()])
                second = self._trace(leaves, plan.shapes(1), values, structure, [n for _, n in plan.symbols.values()])
                program = generalise(first.program, second.program, Symbols(plan.symbols))
                return self._finish(first, program, plan.where)
            except (SizeUnknown, ShapeError) as why:
                self._why = str(why)
                # Lengths that must equal others, or that decide what is done: a program for these alone.
        traced = self._trace(leaves, [v.shape for v in values], values, structure)
        return self._finish(traced, traced.program, {})

    def _trace(self, leaves: list[Any], shapes: list[Any], values: list[Any], structure: Any, free: Any = ()) -> _Trace:
        tracer = Tracer(free)
        names = _names(self.fn, structure)
        before = tracer.leaf((), float).index
        inputs: list[tuple[Any, Var]] = []
        arguments = []
        for leaf, shape, value, name in zip(leaves, shapes, values, names, strict=True):
            if isinstance(leaf, Node) and type(leaf) is not Tensor:
                node: Any = leaf
            else:
                kind = Traced if isinstance(leaf, Node) else TracedArray
                node = tracer.leaf(shape, value.dtype, getattr(leaf, "name", None) or name, cls=kind)
            inputs.append((node, Var(node._value.shape, node._value.dtype, node.name or name)))
            arguments.append(node)
        args, kwargs = tree.unflatten(structure, arguments)
        with tracing(tracer):
            out = self.fn(*args, **kwargs)
        results, form = tree.flatten(out)
        program, captured = lower(inputs, [r for r in results if isinstance(r, Node)], before)
        verify(program, "lower")
        return _Trace(program, captured, results, form)

    def _finish(self, traced: _Trace, program: Program, where: dict[str, tuple[int, int]]) -> _Executable:
        optimise(program)
        name = getattr(self.fn, "__name__", "step")
        page = emit(program, name if name.isidentifier() else "step", where)
        return _Executable(page, program, traced, where)


class _Trace(NamedTuple):
    program: Program
    captured: list[Any]
    results: list[Any]
    form: Any


class _Executable:
    """A page, ready to run."""

    def __init__(self, page: Page, program: Program, traced: _Trace, where: dict[str, tuple[int, int]]) -> None:
        self.page = page
        self.where = where
        self.program = program
        self.captured = [node for node, _ in traced.captured]
        self.form = traced.form
        # For each result its number, and whether eager mode gives an array; None for what is no result of the program.
        number = iter(range(len(traced.results)))
        self.results = [
            (next(number), isinstance(r, TracedArray)) if isinstance(r, Node) else r for r in traced.results
        ]
        space: dict[str, Any] = dict(page.names)
        exec(builtins.compile(page.source, "<tensorgrad.compile>", "exec"), space)
        self.run = space[page.name]
        self.make_buffers = space.get("make_buffers", lambda *sizes: ())


class _Entry:
    """A page together with buffers for one set of shapes, lent out for the time of a call."""

    def __init__(self, executable: _Executable, sizes: tuple[int, ...]) -> None:
        self.executable = executable
        self.sizes = sizes
        self.idle: list[Any] = []

    def run(self, values: list[Any]) -> Any:
        e = self.executable
        try:
            buffers = self.idle.pop()
        except IndexError:
            buffers = e.make_buffers(*self.sizes)
        with np.errstate(all="ignore"):
            found = e.run(*values, *(x._value for x in e.captured), buffers)
        self.idle.append(buffers)
        leaves = []
        for r in e.results:
            if isinstance(r, tuple):
                value = np.asarray(found[r[0]])
                leaves.append(value if r[1] else Tensor(value))
            else:
                leaves.append(r)
        return tree.unflatten(e.form, leaves)


def _modes(args: Any) -> Any:
    for a in args:
        if hasattr(a, "named_modules"):
            yield id(a), tuple(m.training for _, m in a.named_modules())


def _form(structure: Any) -> Any:
    return (structure.kind, structure.keys, tuple(_form(c) for c in structure.children))


def _names(fn: Any, structure: Any) -> list[str]:
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
            names.append(parts[-1] if not parts[-1].isdigit() else "_".join(parts[1:]).lstrip("0123456789_") or f"x{parts[-1]}")
    return names


class _Sizes(NamedTuple):
    """symbols: lengths of each in both traces; pattern: which axes they are; where: (input, axis) that tells."""

    symbols: dict[str, tuple[int, int]]
    pattern: Any
    where: dict[str, tuple[int, int]]
    axes: list[tuple[Any, ...]]

    def shapes(self, k: int) -> list[tuple[int, ...]]:
        return [tuple(self.symbols[n][k] if isinstance(n, str) else n for n in axes) for axes in self.axes]


def _free_sizes(leaves: list[Any], values: list[Any]) -> _Sizes:
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
    return _Sizes(symbols, tuple(axes), where, axes)


