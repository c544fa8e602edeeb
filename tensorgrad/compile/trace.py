"""Tracing: a function is run once on stand-ins for its arguments, and every operation is written down.

A `Traced` is a Tensor whose values are not known. It carries zeros of the right shape and dtype, so that
every operation's own forward says what shape and dtype its result has. While a function is traced the
context holds a `Tracer`, and all operations go through it: those on parameters and on gradients too, so the
very same gradient rules that eager mode runs write down the backward program.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from tensorgrad.compile.draws import Draw
from tensorgrad.compile.effects import Effects
from tensorgrad.compile.lengths import FreeAxis, FreeLength, plain
from tensorgrad.compile.sizes import SizeUnknown, from_user, user_line
from tensorgrad.context import configure, context
from tensorgrad.errors import GraphError, TensorgradError, operand_error
from tensorgrad.graph import Node, as_constant
from tensorgrad.op import Op
from tensorgrad.ops import index
from tensorgrad.tensor import Tensor

__all__ = ["ARGUMENT", "AS_ARRAY", "SCALAR", "Traced", "TracedArray", "TracedNumber", "Tracer"]

_GETITEM = index._getitem.op  # type: ignore[attr-defined]
_SCATTER = index._scatter.op  # type: ignore[attr-defined]
ARGUMENT = Op("argument", lambda x: x, (lambda g, ans, x: g,))
AS_ARRAY = Op("as_array", lambda x: x, (lambda g, ans, x: g,))
SCALAR = Op("scalar", lambda x: x, (lambda g, ans, x: g,))
CHECK = Op("check_range", lambda x, **params: x, differentiable=False)
TIMESTEPS = Op("timesteps", lambda x: np.arange(len(x)), differentiable=False)


def _unknown(what: str) -> Any:
    def method(self: Traced, *args: Any, **kwargs: Any) -> Any:
        raise GraphError(
            f"tg.compile: {what} needs the values of the {self.describe()}, which are known only when the "
            f"compiled function runs{user_line()}. Choose with tg.where, index with arrays, and return what "
            "you want to look at"
        )

    return method


def _size(shape: tuple[int, ...], axis: int | None = None) -> int:
    return math.prod(shape) if axis is None else shape[axis]


class Traced(Tensor):
    """A value that will be computed when the program runs."""

    __slots__ = ()

    numpy = _unknown("numpy()")
    item = _unknown("item()")
    tolist = _unknown("tolist()")
    __array__ = _unknown("an array")
    __bool__ = _unknown("a decision (if, while, and, or)")
    __float__ = _unknown("float()")
    __int__ = _unknown("int()")
    __index__ = _unknown("an index or range")
    __dlpack__ = _unknown("DLPack")

    @property
    def data(self) -> Any:
        """The values, which are not known."""
        return _unknown("data")(self)

    @data.setter
    def data(self, value: Any) -> None:
        raise GraphError(
            f"tg.compile: the argument {self.name!r} cannot be given new values{user_line()}. Return them, "
            "or take the Tensor from outside, or as a parameter of a Module"
            if self.is_leaf
            else f"data of the {self.describe()} is computed; only leaves can be given new values"
        )

    def __array_function__(self, func: Any, types: Any, args: Any, kwargs: Any) -> Any:
        if func is np.shape:
            return args[0].shape
        if func in (np.ndim, np.size):
            return self.ndim if func is np.ndim else _size(self.shape, *args[1:], **kwargs)
        try:
            return super().__array_function__(func, types, args, kwargs)
        except TypeError as error:
            if isinstance(error, TensorgradError):
                raise
            raise GraphError(f"tg.compile: {error}{user_line()}") from None

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **kwargs: Any) -> Any:
        try:
            return super().__array_ufunc__(ufunc, method, *inputs, **kwargs)
        except TypeError as error:
            if isinstance(error, TensorgradError):
                raise
            raise GraphError(f"tg.compile: {error}{user_line()}") from None

    def __getattr__(self, name: str) -> Any:
        if hasattr(np.ndarray, name) and not name.startswith("_"):
            _unknown(name)(self)
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    @property
    def shape(self) -> tuple[int, ...]:
        """The lengths of the axes; those that are free are examples."""
        tracer = context().tracer
        shape: tuple[int, ...] = self._value.shape
        if tracer is None or not tracer.free:
            return shape
        return tuple(FreeLength(n) if n in tracer.free else FreeAxis(n) if n else n for n in shape)

    @property
    def size(self) -> int:
        """How many elements there are."""
        return _size(self.shape)

    def __len__(self) -> int:
        n = super().__len__()
        tracer = context().tracer
        if tracer is not None and n in tracer.free and from_user():
            raise SizeUnknown(f"len() of a free length{user_line()}")
        return n

    def __repr__(self) -> str:
        return f"Traced(shape={self.shape}, dtype={self.dtype})"

    __format__ = __str__ = _unknown("text")

    def apply_op(self, op: Op, operands: tuple[Any, ...], params: dict[str, Any]) -> Node:
        if context().tracer is None:
            raise GraphError(
                f"{op.name}: the {self.describe()} stands for a value within a compiled function and was "
                "kept from when that was traced; return from the function what is needed outside of it"
            )
        return super().apply_op(op, operands, params)


Traced.result_class = Traced


def _no_longer_in_place(symbol: str, method: Any) -> Any:
    def refuse(self: TracedArray, other: Any) -> Any:
        if not self.ndim and self.op not in (None, AS_ARRAY):
            # NumPy's scalars never change in place.
            return method(self, other)
        raise GraphError(
            f"tg.compile: {symbol} would change an array in place, and all that shows the same array"
            f"{user_line()}. Write x = x {symbol[:-1]} y"
        )

    return refuse


class TracedArray(Traced):
    """What is an ndarray in eager mode: an array among the arguments, a gradient, what is made of them."""

    __slots__ = ()

    __iadd__ = _no_longer_in_place("+=", Tensor.__add__)
    __isub__ = _no_longer_in_place("-=", Tensor.__sub__)
    __imul__ = _no_longer_in_place("*=", Tensor.__mul__)
    __itruediv__ = _no_longer_in_place("/=", Tensor.__truediv__)
    __imatmul__ = _no_longer_in_place("@=", Tensor.__matmul__)
    __ipow__ = _no_longer_in_place("**=", Tensor.__pow__)


class TracedNumber(TracedArray):
    """What is a Python number in eager mode: a float among the arguments, a learning rate, a count.

    It takes the dtype of the array that it meets, as Python's numbers do.
    """

    __slots__ = ()

    __iadd__ = Tensor.__add__
    __isub__ = Tensor.__sub__
    __imul__ = Tensor.__mul__
    __itruediv__ = Tensor.__truediv__
    __ipow__ = Tensor.__pow__

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **kwargs: Any) -> Any:
        return _scalar(super().__array_ufunc__(ufunc, method, *inputs, **kwargs))

    def __array_function__(self, func: Any, types: Any, args: Any, kwargs: Any) -> Any:
        return _scalar(super().__array_function__(func, types, args, kwargs))


def _scalar(x: Any) -> Any:
    """What NumPy makes of numbers is a scalar of NumPy's, which has a dtype of its own."""
    if type(x) is not TracedNumber:
        return x
    return context().tracer.record(SCALAR, (x,), {}, x._value, (), TracedArray)


def _is_number(x: Any) -> bool:
    """Whether x is a number of Python's, or stands for one."""
    return type(x) is TracedNumber or (isinstance(x, (int, float)) and not isinstance(x, np.generic))


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
        self.decisions: list[Any] = []

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
        kind = TracedNumber if all(map(_is_number, operands)) else TracedArray if arrays else Traced
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
            if isinstance(x, (Node, np.ndarray, np.generic)) and not _is_number(x)
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

    def is_argument(self, x: Any) -> bool:
        """Whether it is a stand-in for an argument."""
        return id(x) in self.arguments

    def is_unknown(self, x: Any) -> bool:
        """Whether the values of a Tensor are known only when the program runs."""
        return isinstance(x, Traced) or self.is_outside(x) or id(x) in self.effects.versions

    def must_know(self, x: Any, what: str) -> None:
        """Raise GraphError for a Tensor whose values are unknown."""
        if self.is_unknown(x):
            _unknown(what)(x)

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
        out.requires_grad = out.retains_grad = requires_grad
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
        node = self.record(ARGUMENT, (x,), {}, x._value, (0,) if x.requires_grad else ())
        node.requires_grad = True
        node.name = x.name
        return node

    def as_array(self, g: Tensor, of: str | None) -> Traced:
        """The gradient of what is called `of`, as a result that is no Tensor."""
        node = self.record(AS_ARRAY, (g,), {}, g._value, (0,) if g.requires_grad else (), TracedArray)
        node.name = f"d{of}" if of else None
        return node

    def in_range(self, ids: Any, n: int, what: str, counts: Any = None) -> Any:
        """Integers that the program checks to lie in 0..n-1 when it runs, where `counts` is not 0."""
        operands = (ids,) if counts is None else (ids, counts)
        return self.record(CHECK, operands, {"n": n, "what": what}, np.zeros(ids.shape, ids.dtype), ())

    def timesteps(self, xs: Any) -> Traced:
        """0, 1, ... T - 1 for xs (T, ...)."""
        return self.record(TIMESTEPS, (xs,), {}, np.arange(len(xs._value)), ())


def tracing(tracer: Tracer) -> configure:
    """Context manager: operations go to the tracer."""
    return configure(tracer=tracer, recording=True, nested=False, anomaly=False, draws=None, labels=None)
