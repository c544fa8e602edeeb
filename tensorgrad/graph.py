"""The recorded graph: nodes, and what they are made of.

A `Node` is one value together with how it was made: the operation, the operands, the static parameters.
Nodes point only at their operands, never at their users, so a graph has no cycles and dies with its last
result. Every node carries a creation number; going through the numbers downwards is a topological order,
so nothing here recurses however long the graph is.

A node keeps the *arrays* its operation saw beside the operand nodes. Giving a parameter a new value after
the forward pass therefore cannot disturb the gradients of a graph recorded before.
"""

from __future__ import annotations

import itertools
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tensorgrad.context import context
from tensorgrad.errors import AnomalyError, operand_error

if TYPE_CHECKING:
    from tensorgrad.op import Op

__all__ = ["Node", "Operand", "as_constant", "is_finite", "kind_of", "user_line"]

_numbers = itertools.count()
_PACKAGE = str(Path(__file__).parent) + os.sep


def _keep_freed_memory() -> None:
    """Let glibc keep what a training step frees for the next one.

    A graph is tens of megabytes made and freed at every step. glibc hands freed memory above a threshold
    back to the system, which then has to clear it again page by page: a fifth of the time of a step at
    H=512. The threshold follows the largest block freed so far, up to 32 MiB. This block is never touched.
    """
    np.empty((32 << 20) - (64 << 10), np.uint8)


_keep_freed_memory()


class Operand:
    """Base of what operations treat specially: anything but a plain array takes the operation over."""

    __slots__ = ()

    def apply_op(self, op: Op, operands: tuple[Any, ...], params: dict[str, Any]) -> Any:
        """Run `op` on operands of which this is the first that is no plain array."""
        raise NotImplementedError


class Node(Operand):
    """One value of the graph and how it was made.

    op, operands, params: the operation, its operands (Nodes or arrays) and its static parameters; `op` is
    None for a leaf.
    args: the operands' arrays as the operation saw them.
    live: the numbers of the operands that need a gradient.
    index: the creation number. Operands always have smaller ones.
    scope, name: where and as what it was made; `line` is the user's source line under `detect_anomaly`.
    """

    __slots__ = (
        "__weakref__",
        "_grad",
        "_value",
        "args",
        "hooks",
        "index",
        "line",
        "live",
        "name",
        "op",
        "operands",
        "params",
        "requires_grad",
        "retains_grad",
        "scope",
    )

    _grad: Any
    _value: Any
    args: tuple[Any, ...]
    hooks: list[Callable[[Any], Any]] | None
    index: int
    line: str
    live: tuple[int, ...]
    name: str | None
    op: Op | None
    operands: tuple[Any, ...]
    params: dict[str, Any]
    requires_grad: bool
    retains_grad: bool
    scope: str

    result_class: Any

    def apply_op(self, op: Op, operands: tuple[Any, ...], params: dict[str, Any]) -> Node:
        """Run `op` on the operands' arrays and, where a gradient may be asked for, record it."""
        args = []
        live = []
        now = context()
        if now.tracer is not None:
            traced: Node = now.tracer.apply_op(op, operands, params)
            return traced
        try:
            for argnum, operand in enumerate(operands):
                if isinstance(operand, Node):
                    args.append(operand._value)
                    if operand.requires_grad:
                        live.append(argnum)
                else:
                    args.append(as_constant(operand, self._value.dtype))
            value = op.forward(*args, **params)
        except (ValueError, TypeError, IndexError, KeyError, OverflowError) as cause:
            raise operand_error(op.name, operands, params, now.scope, cause) from None
        if value.__class__ is not np.ndarray:
            value = np.asarray(value)
        if live and op.differentiable:
            if now.recording:
                out = self.result_class.computed(
                    value, op, operands, tuple(args), tuple(live), params, now.scope
                )
            else:
                out = self.result_class(value)
                if now.draws is not None:
                    now.draws.live = True
        else:
            out = self.result_class(value)
        if now.anomaly:
            _check_forward(out, op, args, now.scope)
        if now.trace is not None:
            now.trace(out, op, operands, args, params)
        return out

    @classmethod
    def computed(
        cls,
        value: Any,
        op: Op,
        operands: tuple[Any, ...],
        args: tuple[Any, ...],
        live: tuple[int, ...],
        params: dict[str, Any],
        scope: str,
    ) -> Node:
        """A node that an operation made."""
        node = object.__new__(cls)
        node._value = value
        node.op = op
        node.operands = operands
        node.args = args
        node.live = live
        node.params = params
        node.scope = scope
        node.index = next(_numbers)
        node.requires_grad = True
        node.retains_grad = False
        node.name = node._grad = node.hooks = None
        node.line = ""
        return node

    def become_leaf(self, value: Any, requires_grad: bool, name: str | None) -> None:
        """Fill in a node that no operation made."""
        self._value = value
        self.op = None
        self.operands = self.args = ()
        self.live = ()
        self.params = _NO_PARAMS
        self.scope = context().scope
        self.index = next(_numbers)
        self.requires_grad = requires_grad
        self.retains_grad = False
        self.name = name
        self._grad = self.hooks = None
        self.line = ""

    @property
    def grad(self) -> Any:
        """The gradient that backward walks have left here, an array; None before the first."""
        tracer = context().tracer
        return self._grad if tracer is None else tracer.effects.gradient(self)

    @grad.setter
    def grad(self, value: Any) -> None:
        tracer = context().tracer
        if tracer is None:
            self._grad = value
        else:
            tracer.effects.set_gradient(self, value)

    @property
    def is_leaf(self) -> bool:
        """Whether no recorded operation made this value."""
        return self.op is None

    def describe(self) -> str:
        """A phrase that finds this node again: operation or name, shape, scope."""
        what = f"result of {self.op.name}" if self.op else "tensor"
        name = f" {self.name!r}" if self.name else ""
        where = f" in scope {self.scope!r}" if self.scope else ""
        return f"{what}{name} of shape {self._value.shape}{where}{self.line}"


_NO_PARAMS: dict[str, Any] = {}


def as_constant(value: Any, like: np.dtype[Any]) -> Any:
    """An operand that is no Node, as an array the graph may keep.

    Python numbers take the dtype of the tensor they meet (a float met by integers is float64). An array
    that can still be changed, itself or through another of which it is a view, is copied: changing it
    between forward and backward must not change the gradients.
    """
    kind = type(value)
    if kind is bool or (kind is int and like.kind in "iufc") or (kind is float and like.kind in "fc"):
        return np.asarray(value, None if kind is bool else like)
    if kind in (list, tuple) and any(isinstance(part, Node) for part in value):
        raise TypeError(f"a {kind.__name__} of Tensors would lose their gradients; use tg.stack(...)")
    fixed = kind is np.ndarray and value.base is None and not value.flags.writeable
    array = value if fixed else np.array(value)
    if array.dtype.kind not in "biufc":
        what = f"{kind.__name__} of {array.dtype}" if isinstance(value, np.ndarray) else kind.__name__
        raise TypeError(f"an operand must be a number or an array of numbers, not {what}")
    return array


# ---------------------------------------------------------------------------------------------------------
# Anomalies
# ---------------------------------------------------------------------------------------------------------
def is_finite(value: Any) -> bool:
    """Whether an array holds neither NaN nor infinity."""
    return value.dtype.kind not in "fc" or bool(np.isfinite(value).all())


def kind_of(value: Any) -> str:
    """What is wrong with an array that is not finite, in a word."""
    return "NaN" if np.isnan(value).any() else "infinity"


def _check_forward(node: Node, op: Op, args: Sequence[Any], scope: str) -> None:
    node.line = user_line()
    if not is_finite(node._value):
        where = f" in scope {scope!r}" if scope else ""
        shapes = ", ".join(str(getattr(a, "shape", a)) for a in args)
        finite = all(is_finite(a) for a in args if isinstance(a, np.ndarray))
        origin = "finite operands" if finite else "operands that were not finite themselves"
        raise AnomalyError(
            f"the forward of {op.name}{where} made {kind_of(node._value)} from {origin} "
            f"of shapes {shapes}{node.line}"
        )


def user_line() -> str:
    """The line of the innermost frame outside this package, as ", at file:line"."""
    frame = sys._getframe(1)
    while frame is not None and frame.f_code.co_filename.startswith(_PACKAGE):
        frame = frame.f_back  # type: ignore[assignment]
    return f", at {frame.f_code.co_filename}:{frame.f_lineno}" if frame is not None else ""
