"""`tg.compile`: a function that is traced at its first call and from then on runs as printed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial, update_wrapper
from pathlib import Path
from types import MethodType
from typing import Any, NamedTuple, overload

from tensorgrad import tree
from tensorgrad.compile.blas import say_once
from tensorgrad.compile.call import Entry, Executable, Trace
from tensorgrad.compile.draws import flat, verify_seeds
from tensorgrad.compile.emit import emit
from tensorgrad.compile.generalise import check_results, generalise, same_results
from tensorgrad.compile.ir import Program, Var, verify
from tensorgrad.compile.kernels import fast_page, wanted
from tensorgrad.compile.lower import lower
from tensorgrad.compile.notes import name_outputs, notes
from tensorgrad.compile.passes import optimise, optimise_for_numpy
from tensorgrad.compile.report import explain
from tensorgrad.compile.signature import Call, FreeSizes, Guard, argument_names, free_sizes, leaf_names
from tensorgrad.compile.sizes import SizeUnknown, Symbols
from tensorgrad.compile.staging import StagingTracer
from tensorgrad.compile.stand_ins import Traced, TracedArray, TracedNumber
from tensorgrad.compile.trace import tracing
from tensorgrad.compile.untouched import untouched
from tensorgrad.compile.variables import variables_noted
from tensorgrad.context import context
from tensorgrad.errors import TensorgradError, UserError
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


@overload
def compile(fn: Callable[..., Any], *, fast: bool = False) -> Compiled: ...
@overload
def compile(*, fast: bool = False) -> Callable[[Callable[..., Any]], Compiled]: ...
def compile(fn: Callable[..., Any] | None = None, *, fast: bool = False) -> Any:
    """`fn` as a NumPy program of its own, made at the first call for arguments of each kind.

    fn: a function of trees of arrays, Tensors and Modules. What it changes of parameters, of their `grad`
        and of optimisers is changed after every run, as eager mode would; and dropout draws from the same
        generators in the same order.
    fast: whether loops and element-wise work run as kernels that numba compiles, which takes some seconds the
        first time; they are kept on disk.
    Returns a `Compiled`, to be called like `fn`; without `fn` a decorator, as in `@tg.compile(fast=True)`.
    Raises UserError where `fast` is True and numba is missing; the first call raises GraphError, with the
    line, for what a program of arrays cannot do: a decision by values, a change in place, anything else
    outside that `fn` changes or draws.

    >>> import numpy as np, tensorgrad as tg
    >>> step = tg.compile(tg.value_and_grad(lambda w, x: (w * x).sum()))
    >>> loss, grad = step(np.ones(2), np.array([1.0, 2.0]))
    >>> loss.item(), grad
    (3.0, array([1., 2.]))

    Read anew at every call are the arguments, and the Tensors and parameters that `fn` takes from outside.
    Settings that Python code sees, of `fn` and of what it calls, make another program when they change:
    numbers, words, modes and objects among the arguments, in variables outside, in lists and dicts, in
    attributes. Read once, when a program is made, are the values of arrays from outside, what iterators and
    files give, and the code and classes of libraries: a method of theirs that is replaced goes unnoticed.
    While `fn` is traced its arrays are stand-ins of Tensor's kind: `isinstance` does not tell them apart.

    Shapes are (T, B, ...): one program serves all T and B where nothing but lengths depends on them; with
    `checkpoint=k` in `nn.unroll` one for each of T < k, T that k divides, and others. What `tg.checkpoint` is
    given runs once: elsewhere a program keeps what it needs. Under `tg.detect_anomaly`, and within a
    transform, `fn` itself is called.
    """
    if fn is None:
        return partial(compile, fast=fast)
    if not callable(fn):
        raise UserError(f"tg.compile takes a function, not {type(fn).__name__}")
    return Compiled(fn, fast)


class Compiled:
    """A compiled function: call it, look at its `source`, `save` that, ask it to `explain` itself."""

    def __init__(self, fn: Callable[..., Any], fast: bool = False) -> None:
        update_wrapper(self, fn, updated=())
        self.fn = fn
        self._fast = wanted(fast)
        # For each key those that the state of things outside tells apart.
        self._entries: dict[Any, list[Entry]] = {}
        self._programs: dict[Any, list[Executable]] = {}
        self._hits = 0
        self._last: Executable | None = None
        self._guard: tuple[Guard, Entry] | None = None
        self._kept: list[Any] = []

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        now = context()
        if now.tracer or now.anomaly or now.nested or now.trace or now.draws:
            # Whoever looks at the operations themselves needs the function itself.
            return self.fn(*args, **kwargs)
        if self._guard is not None and not kwargs:
            guard, entry = self._guard
            values = guard.values(args)
            if values is not None and entry.executable.assumptions.hold():
                self._hits += 1
                return entry.run(values)
        call = Call(self.fn, args, kwargs)
        key = call.about, call.shapes
        known = _fitting(self._entries.get(key, ()))
        if known is None:
            entry = self._compile(call)
            self._entries.setdefault(key, []).append(entry)
            self._kept += call.held()
            # Buffers wait for the shapes met last; those of others are made again when they are needed.
            for older in self._all_entries()[:-_SHAPES_WITH_BUFFERS]:
                older.idle.clear()
        else:
            entry = known
            self._hits += 1
        self._last = entry.executable
        out = entry.run(call.values)
        self._guard = None if kwargs else (Guard(args, call.around), entry)
        return out

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        """The method of an object, where a class has a compiled function among its own."""
        return self if instance is None else MethodType(self, instance)

    def __reduce__(self) -> Any:
        # A copy compiles for itself.
        return Compiled, (self.fn, self._fast)

    def cache_info(self) -> CacheInfo:
        """What was compiled so far."""
        programs = sum(map(len, self._programs.values()))
        return CacheInfo(programs, len(self._all_entries()), self._hits)

    def _all_entries(self) -> list[Entry]:
        return [entry for each in self._entries.values() for entry in each]

    # --- looking at it -----------------------------------------------------------------------------------
    @property
    def source(self) -> str:
        """The page of NumPy that ran last."""
        ran = self._ran()
        return ran.page.source if ran.fast is None else str(ran.fast.shown)

    @property
    def ir(self) -> str:
        """The program from which the page was printed."""
        return str(self._ran().program)

    def save(self, path: str | Path) -> None:
        """Write the page to a file that needs nothing but NumPy.

        Raises UserError where the page calls what cannot be printed: an operation of your own, one that has
        no NumPy form here, or a large constant array; and for a file that cannot be written.
        """
        missing = sorted(self._ran().page.names)
        if missing:
            raise UserError(
                f"this page cannot stand alone: it uses {', '.join(missing)}, which it does not define (an "
                "operation that is called as it is, or a large array; give arrays as arguments)"
            )
        try:
            Path(path).write_text(self._ran().page.source, encoding="utf-8")
        except OSError as error:
            raise UserError(f"{path} cannot be written: {error.strerror}") from error

    def explain(self) -> str:
        """What was done to the program that ran last: the passes, the loops, the buffers, the lengths."""
        return explain(self._ran())

    def __repr__(self) -> str:
        programs = self.cache_info().programs
        name = getattr(self.fn, "__qualname__", repr(self.fn))
        return f"<compiled {name}, {programs} program{'s' if programs != 1 else ''}>"

    def _ran(self) -> Executable:
        if self._last is None:
            raise UserError("this function was not compiled yet: call it once with its arguments")
        return self._last

    # --- compiling ---------------------------------------------------------------------------------------
    def _compile(self, call: Call) -> Entry:
        say_once()
        free = free_sizes(call.given, call.values)
        exact = call.about, call.shapes
        lengths = free.lengths(call.values)
        known = [e for e in self._programs.get((call.about, free.pattern), ()) if e.program.fits(lengths)]
        executable = next((e for e in (*known, *self._programs.get(exact, ())) if e.assumptions.hold()), None)
        if executable is None:
            executable = self._build(call, free)
            # A program for these lengths alone says nothing about others of the same pattern.
            key = (call.about, free.pattern) if executable.where else exact
            self._programs.setdefault(key, []).append(executable)
        executable.sizes = tuple(call.values[n].shape[a] for n, a in executable.where.values())
        return Entry(executable, executable.sizes)

    def _build(self, call: Call, free: FreeSizes) -> Executable:
        why = ""
        if free.symbols:
            lengths = [[pair[k] for pair in free.symbols.values()] for k in (0, 1)]
            try:
                first = self._trace(call, free.shapes(0), lengths[0])
                second = self._trace(call, free.shapes(1), lengths[1])
                same_results(first, second)
                if first.effects != second.effects:
                    raise SizeUnknown("what is read, drawn or changed outside depends on the lengths")
                program = generalise(first.program, second.program, Symbols(free.symbols))
                program.lengths = free.lengths(call.values)
                if program.fits(program.lengths):
                    return self._finish(first, program, free.where, "")
                why = "a slice is longer than what it slices"
            except (SizeUnknown, TensorgradError) as reason:
                # Lengths that must equal others, or that decide what is done: a program for these alone. And
                # mistakes: their errors are to show the lengths that were given.
                why = str(reason)
        traced = self._trace(call, list(call.shapes))
        return self._finish(traced, traced.program, {}, why)

    def _trace(self, call: Call, shapes: list[Any], free: Sequence[int] = ()) -> Trace:
        tracer = StagingTracer(free)
        try:
            return self._traced(tracer, call, shapes)
        finally:
            tracer.forget()

    def _traced(self, tracer: StagingTracer, call: Call, shapes: list[Any]) -> Trace:
        names = leaf_names(self.fn, call.structure)
        inputs: list[tuple[Any, Var]] = []
        arguments = list(call.leaves)
        for k, shape, value in zip(call.arrays, shapes, call.values, strict=True):
            leaf, name = call.leaves[k], names[k]
            if isinstance(leaf, Node) and type(leaf) is not Tensor:
                node: Any = leaf
            else:
                is_tensor = isinstance(leaf, Node)
                array = TracedNumber if type(leaf) is float else TracedArray
                kind, wanted = (Traced, leaf.requires_grad) if is_tensor else (array, False)
                node = tracer.leaf(shape, value.dtype, (is_tensor and leaf.name) or name, wanted, kind)
                node.hooks = leaf.hooks if is_tensor else None
                tracer.arguments.add(id(node))
            inputs.append((node, Var(node._value.shape, node._value.dtype, node.name or name)))
            arguments[k] = node
        structure = call.structure
        args, kwargs = tree.unflatten(structure, arguments)
        given = [*zip(argument_names(self.fn, len(args)), args, strict=True), *kwargs.items()]
        with untouched(self.fn, call.around, given), tracing(tracer):
            with variables_noted(tracer):
                out = self.fn(*args, **kwargs)
            if tracer.refused is not None:
                raise tracer.refused
            tracer.effects.verify_optimisers()
        results, form = tree.flatten(out)
        check_results(results, tree._paths(form, ""))
        for r in results:
            if isinstance(r, Traced) and r.name is None and not r.ndim and not r.is_leaf:
                r.name = "loss"
        reads, writes, draws = tracer.effects.reads(), tracer.effects.writes(), tracer.draws
        inputs += [(leaf, _variable(leaf)) for leaf in [x for _, x in reads] + [d.leaf for d in flat(draws)]]
        outputs = [tracer.effects.current(r) for r in results if isinstance(r, Node)]
        outputs += [value for _, value in writes if isinstance(value, Node)]
        program, captured = lower(inputs, outputs, tracer)
        verify(program, "lower")
        verify_seeds(draws)
        name_outputs(program, writes)
        places = [place for place, _ in reads]
        assumptions = tracer.effects.assumptions(tracer.met())
        return Trace(program, captured, results, form, tracer.decisions, places, writes, draws, assumptions)

    def _finish(
        self, traced: Trace, program: Program, where: dict[str, tuple[int, int]], why: str
    ) -> Executable:
        log = optimise(program)
        name = getattr(self.fn, "__name__", "step")
        about = partial(notes, program, traced)
        name = name if name.isidentifier() else "step"
        fast = fast_page(program, name, where) if self._fast else None
        for_numpy = optimise_for_numpy(program)
        log += for_numpy if fast is None else []
        page = emit(program, name, where, about)
        return Executable(page, program, traced, where, log, why, fast)


def _variable(leaf: Any) -> Var:
    return Var(leaf._value.shape, leaf._value.dtype, leaf.name)


def _fitting(entries: Sequence[Entry]) -> Entry | None:
    """That of several entries which fits the state of things outside."""
    return next((entry for entry in entries if entry.executable.assumptions.hold()), None)
