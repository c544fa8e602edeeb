"""Tracing: a function is run once on stand-ins for its arguments, and every operation is written down.

A `Traced` is a Tensor whose values are not known. It carries zeros of the right shape and dtype, so that
every operation's own forward says what shape and dtype its result has. While a function is traced the
context holds a `Tracer`, and all operations go through it: those on parameters and on gradients too, so the
very same gradient rules that eager mode runs write down the backward program.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from tensorgrad.compile.sizes import FreeLength, SizeUnknown, from_user, user_line
from tensorgrad.context import configure, context
from tensorgrad.errors import GraphError, operand_error
from tensorgrad.graph import Node, as_constant
from tensorgrad.op import Op
from tensorgrad.ops import index
from tensorgrad.tensor import Tensor

__all__ = ["ARGUMENT", "AS_ARRAY", "Traced", "TracedArray", "Tracer"]

_GETITEM = index._getitem.op  # type: ignore[attr-defined]
ARGUMENT = Op("argument", lambda x: x, (lambda g, ans, x: g,))
AS_ARRAY = Op("as_array", lambda x: x, (lambda g, ans, x: g,))
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


class Traced(Tensor):
    """A value that will be computed when the program runs."""

    __slots__ = ()

    numpy = _unknown("numpy()")
    item = _unknown("item()")
    tolist = _unknown("tolist()")
    data = property(_unknown("data"))
    __array__ = _unknown("an array")
    __bool__ = _unknown("a decision (if, while, and, or)")
    __float__ = _unknown("float()")
    __int__ = _unknown("int()")
    __index__ = _unknown("an index or range")
    __dlpack__ = _unknown("DLPack")
    backward = _unknown("backward()")

    def __array_function__(self, func: Any, types: Any, args: Any, kwargs: Any) -> Any:
        if func in (np.shape, np.ndim, np.size):
            return func(args[0]._value, *args[1:], **kwargs)
        return super().__array_function__(func, types, args, kwargs)

    @property
    def shape(self) -> tuple[int, ...]:
        """The lengths of the axes; those that are free are examples."""
        tracer = context().tracer
        free = tracer.free if tracer is not None else ()
        return tuple(FreeLength(n) if n in free else n for n in self._value.shape)

    def __len__(self) -> int:
        n = super().__len__()
        tracer = context().tracer
        if tracer is not None and n in tracer.free and from_user():
            raise SizeUnknown(f"len() of a free length{user_line()}")
        return n

    def detach(self) -> Tensor:
        out: Tensor = context().tracer.record(ARGUMENT, (self,), {}, self._value, ())
        out.name = self.name
        return out

    def __repr__(self) -> str:
        return f"Traced(shape={self.shape}, dtype={self.dtype})"

    __format__ = _unknown("text")


Traced.result_class = Traced


class TracedArray(Traced):
    """What is an ndarray in eager mode: an array among the arguments, a gradient, what is made of them."""

    __slots__ = ()


class Tracer:
    """What is written down: every node, in the order in which the operations ran. free: the lengths that
    stand for others."""

    def __init__(self, free: Iterable[int] = ()) -> None:
        self.nodes: list[Traced] = []
        self.free = frozenset(free)

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
        args = tuple(x._value if isinstance(x, Node) else x for x in operands)
        node: Any = cls.computed(value, op, operands, args, live, params, context().scope)
        node.requires_grad = bool(live)
        self.nodes.append(node)
        return node

    def apply_op(self, op: Op, operands: tuple[Any, ...], params: dict[str, Any]) -> Traced:
        """Run an operation on the stand-ins and write it down."""
        now = context()
        template = params.get("template")
        if template is not None and self.free:
            self._within(template, operands[0]._value.shape if op is _GETITEM else params.get("shape"))
        like = next(x._value.dtype for x in operands if isinstance(x, Node))
        try:
            kept = tuple(x if isinstance(x, Node) else as_constant(x, like) for x in operands)
            args = [x._value if isinstance(x, Node) else x for x in kept]
            with np.errstate(all="ignore"):
                value = np.asarray(op.forward(*args, **params))
        except (ValueError, TypeError, IndexError, KeyError, OverflowError) as cause:
            raise operand_error(op.name, operands, params, now.scope, cause) from None
        arrays = all(isinstance(x, TracedArray) for x in kept if isinstance(x, Node))
        live: tuple[int, ...] = ()
        if op.differentiable and now.recording:
            live = tuple(k for k, x in enumerate(kept) if isinstance(x, Node) and x.requires_grad)
        return self.record(op, kept, params, value, live, TracedArray if arrays else Traced)

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
