"""Tracing: a function is run once on stand-ins for its arguments, and every operation is written down.

While a function is traced the context holds a `Tracer`, and all operations go through it: those on parameters
and on gradients too, so the very same gradient rules that eager mode runs write down the backward program.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from tensorgrad.compile.draws import Draw
from tensorgrad.compile.effects import Effects
from tensorgrad.compile.lengths import plain
from tensorgrad.compile.sizes import SizeUnknown, user_line
from tensorgrad.compile.stand_ins import AS_ARRAY, Traced, TracedArray, TracedNumber, is_number, unknown
from tensorgrad.context import configure, context
from tensorgrad.errors import GraphError, operand_error
from tensorgrad.graph import Node, as_constant
from tensorgrad.op import Op
from tensorgrad.ops import index
from tensorgrad.tensor import Tensor

__all__ = ["ARGUMENT", "CHECK", "TIMESTEPS", "Tracer", "tracing"]

_GETITEM = index._getitem.op  # type: ignore[attr-defined]
_SCATTER = index._scatter.op  # type: ignore[attr-defined]
ARGUMENT = Op("argument", lambda x: x, (lambda g, ans, x: g,))
CHECK = Op("check_range", lambda x, **params: x, differentiable=False)
TIMESTEPS = Op("timesteps", lambda x: np.arange(len(x)), differentiable=False)


def _example(op: Op, args: list[Any], params: dict[str, Any]) -> Any:
    """What an operation gives for the stand-ins."""
    with np.errstate(all="ignore"):
        try:
            return np.asarray(op.forward(*args, **params))
        except ValueError:
            # Zeros may be no operand for it: singular matrices, numbers that must be positive.
            return np.asarray(op.forward(*map(_regular, args), **params))


def _regular(x: Any) -> Any:
    """Positive numbers, and in matrices most on the diagonal, in place of zeros."""
    if x.dtype.kind != "f" or x.any():
        return x
    return x + 1 + np.eye(*x.shape[-2:], dtype=x.dtype) if x.ndim > 1 else x + 1


class Tracer:
    """What is written down: every node, in the order in which the operations ran. free: the lengths that
    stand for others. decisions: what was decided by other lengths, and where."""

    def __init__(self, free: Iterable[int] = ()) -> None:
        self.nodes: list[Traced] = []
        self.free = frozenset(free)
        self.effects = Effects(self)
        # The arguments, by their ids. What has a creation number below `before` comes from outside.
        self.arguments: set[int] = set()
        self.before = self.leaf((), float).index
        # The draws, and the loops that are open, each with what is drawn in it.
        self.draws: list[Any] = []
        self.loops: list[tuple[Any, list[Any]]] = []
        # The nodes that belong to the body of a loop.
        self.staged: dict[int, Any] = {}
        self.decisions: list[Any] = []
        # The last error that says that values are needed.
        self.refused: GraphError | None = None
        # What is read from a timestep of a loop, each with that loop.
        self.views: dict[int, tuple[Any, Any]] = {}
        # Nodes and the variables that hold them, by the nodes' ids.
        self.variables: dict[int, tuple[Any, str]] = {}

    def called(self, node: Any) -> str | None:
        """The name of a node: its label, or the variable that held it."""
        name: str | None = getattr(node, "name", None)
        unnamed = name is None or name.split(".")[0] == "state"
        return self.variables.get(id(node), (node, name))[1] if unnamed else name

    def leaf(
        self,
        shape: tuple[int, ...],
        dtype: Any,
        name: str | None = None,
        grad: bool = False,
        cls: type[Traced] = Traced,
    ) -> Traced:
        """A value from outside."""
        x = object.__new__(cls)
        x.become_leaf(np.zeros(shape, dtype), grad, name)
        return x

    def record(
        self,
        op: Op,
        operands: tuple[Any, ...],
        params: dict[str, Any],
        value: Any,
        live: tuple[int, ...],
        cls: type[Traced] = Traced,
    ) -> Traced:
        """Write an operation down."""
        operands = tuple(map(self.effects.current, operands))
        args = tuple(x._value if isinstance(x, Node) else x for x in operands)
        node: Any = cls.computed(value, op, operands, args, live, params, context().scope)
        node.requires_grad = bool(live)
        self.nodes.append(node)
        return node

    def apply_op(self, op: Op, operands: tuple[Any, ...], params: dict[str, Any]) -> Traced:
        """Run an operation on the stand-ins and write it down."""
        now = context()
        operands = self._meeting(tuple(map(self.effects.current, operands)))
        template = params.get("template")
        if op in (_GETITEM, _SCATTER) and any(
            isinstance(x, Traced) and x._value.dtype == bool for x in operands[1:]
        ):
            raise GraphError(
                f"tg.compile: how many elements an index of booleans chooses depends on its values"
                f"{user_line()}. Use tg.where, or weights of 0 and 1"
            )
        if template is not None and self.free:
            self._within(template, operands[0]._value.shape if op is _GETITEM else params.get("shape"))
        like = next(x._value.dtype for x in operands if isinstance(x, Node))
        try:
            kept = tuple(x if isinstance(x, Node) else as_constant(plain(x), like) for x in operands)
            args = [x._value if isinstance(x, Node) else x for x in kept]
            value = _example(op, args, params)
        except (ValueError, TypeError, IndexError, KeyError, OverflowError) as cause:
            raise operand_error(op.name, operands, params, now.scope, cause) from None
        arrays = all(isinstance(x, TracedArray) for x in kept if isinstance(x, Node))
        kind = TracedNumber if all(map(is_number, operands)) else TracedArray if arrays else Traced
        live: tuple[int, ...] = ()
        if op.differentiable and now.recording:
            live = tuple(k for k, x in enumerate(kept) if isinstance(x, Node) and x.requires_grad)
        return self.record(op, kept, params, value, live, kind)

    def _meeting(self, operands: tuple[Any, ...]) -> tuple[Any, ...]:
        """Operands in which Python's numbers have the dtype of the arrays that they meet."""
        if not any(type(x) is TracedNumber for x in operands):
            return operands
        dtypes = [
            x.dtype  # type: ignore[union-attr]
            for x in operands
            if isinstance(x, (Node, np.ndarray, np.generic)) and not is_number(x)
        ]
        if not dtypes:
            return operands
        like = np.result_type(*dtypes)

        def met(x: Any) -> Any:
            if type(x) is not TracedNumber or x.dtype == like:
                return x
            return x.astype(like) if like.kind in ("fc" if x.dtype.kind == "f" else "iufc") else x

        return tuple(map(met, operands))

    def _within(self, template: tuple[Any, ...], shape: tuple[int, ...] | None) -> None:
        """Raise SizeUnknown for a slice that is longer than the example of a free length."""
        if shape is None:
            return
        axes = iter(range(len(shape)))
        named = sum(part is not None and part is not Ellipsis for part in template)
        for part in template:
            if part is None:
                continue
            if part is Ellipsis:
                for _ in range(len(shape) - named):
                    next(axes)
                continue
            # An index array stands for one axis; a boolean one may stand for more, and is then the last.
            n = int(shape[next(axes)])
            if isinstance(part, slice) and n in self.free:
                bounds = [k for k in (part.start, part.stop, part.step) if k is not None]
                if any(abs(int(k)) > n for k in bounds):
                    raise SizeUnknown(f"a slice that may be longer than what it slices{user_line()}")

    # --- what comes from outside -----------------------------------------------------------------------
    def is_outside(self, x: Any) -> bool:
        """Whether a Tensor was there before the trace."""
        return not isinstance(x, Traced) and x.index < self.before

    def met(self) -> list[Any]:
        """The Tensors from outside that operations were run on, also where only a gradient came of it."""
        met = {id(x): x for node in self.nodes for x in node.operands if isinstance(x, Node)}
        return [x for x in [*met.values(), *self.effects.owners.values()] if self.is_outside(x)]

    def is_argument(self, x: Any) -> bool:
        """Whether it is a stand-in for an argument."""
        return id(x) in self.arguments

    def is_array(self, x: Any) -> bool:
        """Whether it stands for what is no Tensor in eager mode."""
        return isinstance(x, TracedArray)

    def is_unknown(self, x: Any) -> bool:
        """Whether the values of a Tensor are known only when the program runs."""
        return isinstance(x, Traced) or self.is_outside(x) or id(x) in self.effects.versions

    def must_know(self, x: Any, what: str) -> None:
        """Raise GraphError for a Tensor whose values are unknown."""
        if self.is_unknown(x):
            unknown(what)(x)

    def array_of(self, x: Any) -> Traced:
        """The values of a Tensor as an array."""
        x = self.effects.current(x)
        if isinstance(x, TracedArray):
            return x
        return self.record(AS_ARRAY, (x,), {}, x._value, (), TracedArray)

    def copy(self, x: Any, requires_grad: bool, name: str | None, dtype: Any = None) -> Tensor:
        """A Tensor of the same values without history."""
        out: Any = self.record(ARGUMENT, (x,), {}, x._value, ())
        if dtype is not None and np.dtype(dtype) != x._value.dtype:
            out = out.astype(dtype)
        if requires_grad:
            out.requires_grad_()
        out.retains_grad = requires_grad
        out.name = name
        return out

    def stand_in(self, value: Any, name: str, is_number: bool) -> Traced:
        """A value from outside that is no Tensor."""
        return self.leaf(value.shape, value.dtype, name, cls=TracedNumber if is_number else TracedArray)

    def number(self, x: Any, name: str) -> Traced:
        """x as a Python number with a name."""
        x.name = name
        return self.record(ARGUMENT, (x,), {}, x._value, (), TracedNumber)

    # --- draws and loops -------------------------------------------------------------------------------
    def draw(self, seed: Any, make: Any, shape: tuple[int, ...]) -> Traced:
        """What `make(generator, shape)` draws when the program runs, at each timestep of the loops around."""
        value = make(np.random.default_rng(0), tuple(map(plain, shape)))
        name = "mask" if value.dtype == bool else "drawn"
        drawn = leaf = self.leaf(value.shape, value.dtype, name, cls=TracedArray)
        for loop, _ in reversed(self.loops):
            outer = self.leaf((loop.length, *leaf._value.shape), value.dtype, name, cls=TracedArray)
            loop.xs.append((outer, leaf))
            leaf = outer
        self.note_draws(Draw(seed, make, leaf))
        return drawn

    def note_draws(self, item: Any) -> None:
        """A draw, or a loop with draws, after those noted before."""
        (self.loops[-1][1] if self.loops else self.draws).append(item)

    @contextmanager
    def inside(self, loop: Any, drawn: list[Any]) -> Iterator[None]:
        """Context manager: the body of a loop is traced, and what it draws is noted in `drawn`."""
        self.loops.append((loop, drawn))
        try:
            yield
        finally:
            self.loops.pop()

    # --- what the package asks for ---------------------------------------------------------------------
    def as_input(self, x: Tensor) -> Traced:
        """x under another name, with a gradient of its own."""
        node = self.alias(x)
        node.requires_grad_()
        return node

    def alias(self, x: Any) -> Traced:
        """x as a node of its own."""
        node = self.record(ARGUMENT, (x,), {}, x._value, (0,) if x.requires_grad else ())
        node.name = x.name
        return node

    def as_array(self, g: Tensor, of: str | None) -> Traced:
        """The gradient of what is called `of`, as a result that is no Tensor."""
        node = self.record(AS_ARRAY, (g,), {}, g._value, (0,) if g.requires_grad else (), TracedArray)
        node.name = f"d{of}" if of else None
        return node

    def in_range(self, ids: Any, n: int, what: str, counts: Any = None, low: int = 0) -> Any:
        """Integers that the program checks to lie in low..n-1 when it runs, where `counts` is not 0."""
        operands = (ids,) if counts is None else (ids, counts)
        params = {"n": plain(n), "what": what, "low": low}
        return self.record(CHECK, operands, params, np.zeros(ids.shape, ids.dtype), ())

    def timesteps(self, xs: Any) -> Traced:
        """0, 1, ... T - 1 for xs (T, ...)."""
        return self.record(TIMESTEPS, (xs,), {}, np.arange(len(xs._value)), ())


def tracing(tracer: Tracer) -> configure:
    """Context manager: operations go to the tracer."""
    return configure(tracer=tracer, recording=True, nested=False, anomaly=False, draws=None, labels=None)
