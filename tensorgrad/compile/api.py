"""`tg.compile`: a function that is traced at its first call and from then on runs as printed."""

from __future__ import annotations

import builtins
from collections.abc import Callable, Sequence
from functools import partial, update_wrapper
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tensorgrad import tree
from tensorgrad.compile.emit import emit
from tensorgrad.compile.generalise import generalise
from tensorgrad.compile.ir import Program, Var, verify
from tensorgrad.compile.lower import lower
from tensorgrad.compile.page import Page
from tensorgrad.compile.passes import optimise
from tensorgrad.compile.report import explain
from tensorgrad.compile.signature import Call, FreeSizes, Guard, free_sizes, leaf_names, modules_around
from tensorgrad.compile.sizes import SizeUnknown, Symbols
from tensorgrad.compile.staging import StagingTracer
from tensorgrad.compile.trace import AS_ARRAY, Traced, TracedArray, tracing
from tensorgrad.errors import ShapeError, UserError
from tensorgrad.graph import Node
from tensorgrad.tensor import Tensor

__all__ = ["CacheInfo", "Compiled", "compile"]


_SHAPES_WITH_BUFFERS = 8


class CacheInfo(NamedTuple):
    """What a compiled function keeps.

    programs: how many were compiled. signatures: for how many sets of shapes. hits: calls that found theirs.
    """

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
        self._guard: tuple[Guard, _Entry] | None = None
        self._around = modules_around(fn)
        self._kept: list[Any] = []

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if self._guard is not None and not kwargs:
            values = self._guard[0].values(args)
            if values is not None:
                self._hits += 1
                return self._guard[1].run(values)
        call = Call(args, kwargs, self._around)
        key = call.about, call.shapes
        entry = self._entries.get(key)
        if entry is None:
            entry = self._entries[key] = self._compile(call)
            self._kept += call.held()
            # Buffers wait for the shapes met last; those of others are made again when they are needed.
            for older in list(self._entries.values())[:-_SHAPES_WITH_BUFFERS]:
                older.idle.clear()
        else:
            self._hits += 1
        self._last = entry.executable
        out = entry.run(call.values)
        self._guard = None if kwargs else (Guard(args, self._around), entry)
        return out

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
        """Write the page to a file that needs nothing but NumPy.

        Raises UserError where the page calls what cannot be printed: an operation of your own, one that has
        no NumPy form here, or a large constant array.
        """
        missing = sorted(self._ran().page.names)
        if missing:
            raise UserError(
                f"this page cannot stand alone: it uses {', '.join(missing)}, which it does not define (an "
                "operation that is called as it is, or a large array; give arrays as arguments)"
            )
        Path(path).write_text(self.source, encoding="utf-8")

    def explain(self) -> str:
        """What was done to the program that ran last: the passes, the loops, the buffers, the lengths."""
        return explain(self._ran())

    def _ran(self) -> _Executable:
        if self._last is None:
            raise UserError("this function was not compiled yet: call it once with its arguments")
        return self._last

    # --- compiling ---------------------------------------------------------------------------------------
    def _compile(self, call: Call) -> _Entry:
        free = free_sizes(call.given, call.values)
        exact = call.about, call.shapes
        executable = self._programs.get((call.about, free.pattern)) or self._programs.get(exact)
        if executable is None:
            executable = self._build(call, free)
            # A program for these lengths alone says nothing about others of the same pattern.
            self._programs[(call.about, free.pattern) if executable.where else exact] = executable
        executable.sizes = tuple(call.values[n].shape[a] for n, a in executable.where.values())
        return _Entry(executable, executable.sizes)

    def _build(self, call: Call, free: FreeSizes) -> _Executable:
        why = ""
        if free.symbols:
            lengths = [[pair[k] for pair in free.symbols.values()] for k in (0, 1)]
            try:
                first = self._trace(call, free.shapes(0), lengths[0])
                second = self._trace(call, free.shapes(1), lengths[1])
                program = generalise(first.program, second.program, Symbols(free.symbols))
                return self._finish(first, program, free.where, "")
            except (SizeUnknown, ShapeError) as reason:
                # Lengths that must equal others, or that decide what is done: a program for these alone.
                why = str(reason)
        traced = self._trace(call, list(call.shapes))
        return self._finish(traced, traced.program, {}, why)

    def _trace(self, call: Call, shapes: list[Any], free: Sequence[int] = ()) -> _Trace:
        tracer = StagingTracer(free)
        names = leaf_names(self.fn, call.structure)
        before = tracer.leaf((), float).index
        inputs: list[tuple[Any, Var]] = []
        arguments = list(call.leaves)
        for k, shape, value in zip(call.arrays, shapes, call.values, strict=True):
            leaf, name = call.leaves[k], names[k]
            if isinstance(leaf, Node) and type(leaf) is not Tensor:
                node: Any = leaf
            else:
                is_tensor = isinstance(leaf, Node)
                kind, wanted = (Traced, leaf.requires_grad) if is_tensor else (TracedArray, False)
                node = tracer.leaf(shape, value.dtype, (is_tensor and leaf.name) or name, wanted, kind)
            inputs.append((node, Var(node._value.shape, node._value.dtype, node.name or name)))
            arguments[k] = node
        structure = call.structure
        args, kwargs = tree.unflatten(structure, arguments)
        with tracing(tracer):
            out = self.fn(*args, **kwargs)
        results, form = tree.flatten(out)
        for r in results:
            if isinstance(r, Traced) and r.name is None and not r.ndim and not r.is_leaf:
                r.name = "loss"
        program, captured = lower(inputs, [r for r in results if isinstance(r, Node)], before)
        verify(program, "lower")
        return _Trace(program, captured, results, form)

    def _finish(
        self, traced: _Trace, program: Program, where: dict[str, tuple[int, int]], why: str
    ) -> _Executable:
        log = optimise(program)
        name = getattr(self.fn, "__name__", "step")
        page = emit(program, name if name.isidentifier() else "step", where)
        return _Executable(page, program, traced, where, log, why)


class _Trace(NamedTuple):
    program: Program
    captured: list[Any]
    results: list[Any]
    form: Any


def _as_it_is(x: Any) -> Any:
    return x


def _handed_over(r: Any) -> Callable[[Any], Any]:
    """What makes of a result what eager mode gives: a Tensor, an array, or a NumPy scalar."""
    # NumPy 1 widens single-precision scalars that meet Python numbers.
    array = partial(np.asarray, dtype=r.dtype)
    if not isinstance(r, TracedArray):
        return lambda x: Tensor(array(x))
    return array if r.ndim or r.op is AS_ARRAY else lambda x: array(x)[()]


class _Executable:
    """A page, ready to run."""

    def __init__(
        self,
        page: Page,
        program: Program,
        traced: _Trace,
        where: dict[str, tuple[int, int]],
        log: Any,
        why: str,
    ) -> None:
        self.page = page
        self.log = log
        self.why = why
        self.where = where
        self.program = program
        self.captured = [node for node, _ in traced.captured]
        self.form = traced.form
        number = iter(range(len(traced.results)))
        # For each result how it is handed over, and its number; what is no result of the program as it is.
        self.results: list[Any] = [
            (_handed_over(r), next(number)) if isinstance(r, Node) else (_as_it_is, r) for r in traced.results
        ]
        space: dict[str, Any] = dict(page.names)
        exec(builtins.compile(page.source, "<tensorgrad.compile>", "exec"), space)
        self.run = space[page.name]
        self.sizes: tuple[int, ...] = ()
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
        leaves = [r if how is _as_it_is else how(found[r]) for how, r in e.results]
        return tree.unflatten(e.form, leaves)
