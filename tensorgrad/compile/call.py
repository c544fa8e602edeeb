"""A page that is ready to run: what it is given besides the arguments, and what becomes of its results."""

from __future__ import annotations

import builtins
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from tensorgrad import tree
from tensorgrad.compile.draws import draw_all, flat
from tensorgrad.compile.effects import Assumptions
from tensorgrad.compile.ir import Program
from tensorgrad.compile.page import Page
from tensorgrad.compile.places import Place
from tensorgrad.compile.stand_ins import AS_ARRAY, TracedArray, TracedNumber
from tensorgrad.errors import ShapeError
from tensorgrad.graph import Node
from tensorgrad.tensor import Tensor

__all__ = ["Entry", "Executable", "Trace"]


class Trace(NamedTuple):
    """A function as traced.

    results: the leaves of what it returned; `form`: their structure. decisions: by which lengths it decided.
    reads: the places outside that it reads. writes: those that it changes, each with what it puts there.
    draws: its random draws. The inputs of the program are the arguments, the reads, the draws and what was
    captured; its outputs are those results and writes that are computed.
    """

    program: Program
    captured: list[Any]
    results: list[Any]
    form: Any
    decisions: list[Any]
    reads: list[Place]
    writes: list[tuple[Place, Any]]
    draws: list[Any]
    assumptions: Assumptions

    @property
    def effects(self) -> Any:
        """What must be alike in two traces of the same function."""
        written = [(place.key, isinstance(value, Node)) for place, value in self.writes]
        return [place.key for place in self.reads], written, len(flat(self.draws)), len(self.captured)


def _as_it_is(x: Any) -> Any:
    return x


def _handed_over(r: Any) -> Callable[[Any], Any]:
    """What makes of a result what eager mode gives: a Tensor, an array, a NumPy scalar or a number."""
    # NumPy 1 widens single-precision scalars that meet Python numbers.
    array = partial(np.asarray, dtype=r.dtype)
    if isinstance(r, TracedNumber):
        return lambda x: array(x).item()
    if not isinstance(r, TracedArray):
        return lambda x: Tensor(array(x))
    return array if r.ndim or r.op is AS_ARRAY else lambda x: array(x)[()]


def _as_shape_error(check: Callable[..., Any]) -> Callable[..., Any]:
    """A check that raises what eager mode raises; the page, which stands alone, has NumPy's errors."""

    def checked(*args: Any, **kwargs: Any) -> Any:
        try:
            return check(*args, **kwargs)
        except ValueError as error:
            raise ShapeError(str(error)) from None

    return checked


class Executable:
    """A page, ready to run."""

    def __init__(
        self,
        page: Page,
        program: Program,
        traced: Trace,
        where: dict[str, tuple[int, int]],
        log: Any,
        why: str,
        fast: Any = None,
    ) -> None:
        self.page = page
        # The page with kernels, which then is the one that runs.
        self.fast = fast
        self.log = log
        self.why = why
        self.where = where
        self.program = program
        self.captured = [node for node, _ in traced.captured]
        self.form = traced.form
        self.assumptions = traced.assumptions
        self.reads = traced.reads
        self.draws = traced.draws
        count = len(flat(traced.draws))
        first = len(program.inputs) - len(self.captured) - count
        self.drawn = [v.shape for v in program.inputs[first : first + count]]
        number = iter(range(len(program.outputs)))
        # For each result how it is handed over, and its number; what is no result of the program as it is.
        self.results: list[Any] = [
            (_handed_over(r), next(number)) if isinstance(r, Node) else (_as_it_is, r) for r in traced.results
        ]
        # For each place that changes what makes an array of a result of the program, and the number of that.
        self.writes: list[tuple[Place, Any, Any]] = []
        for place, value in traced.writes:
            if isinstance(value, Node):
                how = _as_it_is if value._value.ndim else partial(np.asarray, dtype=value._value.dtype)
                self.writes.append((place, how, next(number)))
            else:
                self.writes.append((place, None, value))
        runs = page if fast is None else fast
        space: dict[str, Any] = dict(runs.names)
        exec(builtins.compile(runs.source, "<tensorgrad.compile>", "exec"), space)
        if "check_range" in space:
            space["check_range"] = _as_shape_error(space["check_range"])
        self.run = space[runs.name]
        self.team = runs.team
        self.sizes: tuple[int, ...] = ()
        self.make_buffers = space.get("make_buffers", lambda *sizes: ())


class Entry:
    """A page together with buffers for one set of shapes, lent out for the time of a call."""

    def __init__(self, executable: Executable, sizes: tuple[int, ...]) -> None:
        self.executable = executable
        self.sizes = sizes
        self.idle: list[Any] = []
        self.drawn = _shapes(executable.drawn, dict(zip(executable.where, sizes, strict=True)))

    def run(self, values: list[Any]) -> Any:
        """Run the page on the arrays of a call, and then change what the function changes outside."""
        e = self.executable
        given = [place.read() for place in e.reads]
        if e.draws:
            given += draw_all(e.draws, self.drawn)
        try:
            buffers = self.idle.pop()
        except IndexError:
            buffers = e.make_buffers(*self.sizes)
        with e.team(self.sizes), np.errstate(all="ignore"):
            found = e.run(*values, *given, *[x._value for x in e.captured], buffers)
        self.idle.append(buffers)
        for place, how, value in e.writes:
            place.write(how(found[value]) if how is not None else value)
        # A constant array is new at every call too.
        leaves = [
            how(found[r]) if how is not _as_it_is else r.copy() if isinstance(r, np.ndarray) else r
            for how, r in e.results
        ]
        return tree.unflatten(e.form, leaves)


def _shapes(shapes: Sequence[tuple[Any, ...]], sizes: dict[str, int]) -> list[tuple[int, ...]]:
    """Shapes in which the symbols have got their lengths."""
    return [tuple(eval(str(n), {}, sizes) for n in shape) for shape in shapes]
