"""The recorded graph: nodes, the recording context, and the backward walk.

A `Node` is one value together with how it was made: the operation, the operands, the static parameters.
Nodes point only at their operands, never at their users, so a graph has no cycles and dies with its last
result. Every node carries a creation number; going through the numbers downwards is a topological order,
so nothing here recurses however long the graph is.

A node keeps the *arrays* its operation saw beside the operand nodes. Giving a parameter a new value after
the forward pass therefore cannot disturb the gradients of a graph recorded before.
"""

from __future__ import annotations

import copy
import gc
import itertools
import os
import sys
import threading
from collections.abc import Callable, Iterable, Sequence
from contextvars import ContextVar, Token
from functools import wraps
from heapq import heappop, heappush
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from tensorgrad.errors import AnomalyError, DtypeError, GraphError, ShapeError, operand_error

if TYPE_CHECKING:
    from tensorgrad.op import Op

__all__ = [
    "Context",
    "Deferred",
    "Node",
    "Operand",
    "Product",
    "Scatter",
    "backpropagate",
    "change_context",
    "collector_paused",
    "configure",
    "context",
]

F = TypeVar("F", bound=Callable[..., Any])

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


# ---------------------------------------------------------------------------------------------------------
# The recording context
# ---------------------------------------------------------------------------------------------------------
class Context:
    """What applies to operations run now, in this thread or task. Never changed once made.

    recording: whether results remember how they were made.
    scope: where in the model we are, such as "encoder/t=3".
    anomaly: whether every result is checked for NaN and infinity.
    labels: the dict that `label` fills for the current timestep, if any.
    nested: whether a gradient is being taken of the code that runs, so that inner gradients must record.
    draws: the log of random draws of a checkpointed function, if one runs.
    """

    __slots__ = ("anomaly", "draws", "labels", "nested", "recording", "scope")

    def __init__(
        self,
        recording: bool = True,
        scope: str = "",
        anomaly: bool = False,
        labels: dict[str, Any] | None = None,
        nested: bool = False,
        draws: Any = None,
    ) -> None:
        self.recording = recording
        self.scope = scope
        self.anomaly = anomaly
        self.labels = labels
        self.nested = nested
        self.draws = draws

    def changed(self, changes: dict[str, Any]) -> Context:
        """A copy in which some fields differ."""
        new = Context(self.recording, self.scope, self.anomaly, self.labels, self.nested, self.draws)
        for name, value in changes.items():
            setattr(new, name, value)
        return new


_context: ContextVar[Context] = ContextVar("tensorgrad", default=Context())  # noqa: B039 - never mutated
context = _context.get


class configure:  # noqa: N801 - read as a verb, like every context manager
    """Context manager and decorator: change some fields of the current `Context` inside."""

    __slots__ = ("_changes", "_tokens")

    def __init__(self, **changes: Any) -> None:
        self._changes = changes
        self._tokens: list[Token[Context]] = []

    def __enter__(self) -> None:
        self._tokens.append(_context.set(context().changed(self._changes)))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _context.reset(self._tokens.pop())

    def __call__(self, fn: F) -> F:
        @wraps(fn)
        def inside(*args: Any, **kwargs: Any) -> Any:
            # One of its own for each call: calls in several threads must not mix their tokens.
            twin = copy.copy(self)
            twin._tokens = []
            with twin:
                return fn(*args, **kwargs)

        return inside  # type: ignore[return-value]


def change_context(**changes: Any) -> None:
    """Change some fields of the current `Context` until the `configure` around ends."""
    _context.set(context().changed(changes))


class collector_paused:  # noqa: N801 - read as a verb, like every context manager
    """Context manager: Python's cyclic garbage collector does not run on its own inside.

    A graph holds no cycles, so the collector never finds anything in it, but goes through all its nodes
    again and again while it grows: more than half the time of an unrolled RNN at T = 10,000.
    """

    __slots__ = ()

    # For all threads together: the last one out switches it on again.
    _lock = threading.Lock()
    _inside = 0
    _was_on = False

    def __enter__(self) -> None:
        cls = collector_paused
        with cls._lock:
            if not cls._inside:
                cls._was_on = gc.isenabled()
                gc.disable()
            cls._inside += 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        cls = collector_paused
        with cls._lock:
            cls._inside -= 1
            if cls._was_on and not cls._inside:
                gc.enable()


# ---------------------------------------------------------------------------------------------------------
# Nodes
# ---------------------------------------------------------------------------------------------------------
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
        "_value",
        "args",
        "grad",
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

    _value: Any
    args: tuple[Any, ...]
    grad: Any
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
        node.name = node.grad = node.hooks = None
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
        self.grad = self.hooks = None
        self.line = ""

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
def _finite(value: Any) -> bool:
    return value.dtype.kind not in "fc" or bool(np.isfinite(value).all())


def _kind_of(value: Any) -> str:
    return "NaN" if np.isnan(value).any() else "infinity"


def _check_forward(node: Node, op: Op, args: Sequence[Any], scope: str) -> None:
    node.line = _user_line()
    if not _finite(node._value):
        where = f" in scope {scope!r}" if scope else ""
        shapes = ", ".join(str(getattr(a, "shape", a)) for a in args)
        finite = all(_finite(a) for a in args if isinstance(a, np.ndarray))
        origin = "finite operands" if finite else "operands that were not finite themselves"
        raise AnomalyError(
            f"the forward of {op.name}{where} made {_kind_of(node._value)} from {origin} "
            f"of shapes {shapes}{node.line}"
        )


def _user_line() -> str:
    """The line of the innermost frame outside this package, as ", at file:line"."""
    frame = sys._getframe(1)
    while frame is not None and frame.f_code.co_filename.startswith(_PACKAGE):
        frame = frame.f_back  # type: ignore[assignment]
    return f", at {frame.f_code.co_filename}:{frame.f_lineno}" if frame is not None else ""


# ---------------------------------------------------------------------------------------------------------
# Sums of cotangents
# ---------------------------------------------------------------------------------------------------------
class Deferred:
    """A cotangent in a form that is cheaper to add up than the array it stands for."""

    __slots__ = ("dtype", "shape")

    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    def dense(self) -> Any:
        """The cotangent as an array that nobody else holds."""
        raise NotImplementedError

    def add_to(self, buffer: Any) -> None:
        """Add the cotangent to an array of its shape."""
        np.add(buffer, self.dense(), out=buffer)


class Scatter(Deferred):
    """Zeros of `shape` with `g` added by `add(buffer, g)`: the cotangent of an indexed operand.

    T slices of one array fill one buffer instead of making T arrays of zeros.
    """

    __slots__ = ("add", "g")

    def __init__(self, shape: tuple[int, ...], g: Any, add: Callable[[Any, Any], None]) -> None:
        self.shape = shape
        self.dtype = g.dtype
        self.g = g
        self.add = add

    def dense(self) -> Any:
        buffer = np.zeros(self.shape, self.dtype)
        self.add(buffer, self.g)
        return buffer

    def add_to(self, buffer: Any) -> None:
        self.add(buffer, self.g)


class Rows(Deferred):
    """The sum over the rows of a matrix: a bias's share of one timestep's gradient.

    Shares are gathered, so that T of them cost few sums over many rows instead of T over few.
    """

    __slots__ = ("right",)

    def __init__(self, right: Any) -> None:
        self.right = right
        self.shape = right.shape[1:]
        self.dtype = right.dtype

    def dense(self) -> Any:
        # A product with ones is several times faster than a sum down the columns.
        return np.ones(len(self.right), self.dtype) @ self.right

    @classmethod
    def gathered(cls, parts: list[Any]) -> Rows:
        """One share with the rows of all."""
        return cls(np.concatenate([part.right for part in parts]))


class Product(Rows):
    """left.T @ right for matrices of equally many rows: a weight's share of one timestep's gradient.

    Shares are gathered, so that T of them become few large matrix products.
    """

    __slots__ = ("left",)

    def __init__(self, left: Any, right: Any) -> None:
        self.left = left
        self.right = right
        self.shape = (left.shape[1], right.shape[1])
        self.dtype = right.dtype

    def dense(self) -> Any:
        return self.left.T @ self.right

    @classmethod
    def gathered(cls, parts: list[Any]) -> Product:
        """One share with the rows of all."""
        return cls(
            np.concatenate([part.left for part in parts]), np.concatenate([part.right for part in parts])
        )


class _Total:
    """A sum of cotangents: copies on the second contribution, adds in place from the third."""

    __slots__ = ("count", "owned", "parts", "value")

    # Rows gathered before they are multiplied out: enough to make the product efficient, few enough to
    # bound the memory that holds on to cotangents.
    GATHER = 512

    def __init__(self, first: Any) -> None:
        self.value: Any = None
        self.owned = False
        self.parts: list[Rows] = []
        self.count = 0
        self.add(first)

    def add(self, g: Any) -> None:
        if g.__class__ is np.ndarray:
            if self.value is None:
                self.value = g
            elif self.owned:
                np.add(self.value, g, out=self.value)
            else:
                self._set(self.value + g)
        elif isinstance(g, Rows):
            self.parts.append(g)
            self.count += len(g.right)
            if self.count >= self.GATHER:
                self._sum_rows()
        elif isinstance(g, Deferred):
            self._add_deferred(g)
        else:
            # A NumPy scalar, which cannot be added to in place.
            self.value = g if self.value is None else self.value + g
            self.owned = False

    def _set(self, value: Any) -> None:
        self.value = value
        self.owned = value.__class__ is np.ndarray

    def _add_deferred(self, g: Deferred) -> None:
        if self.value is None:
            self._set(g.dense())
            return
        if not self.owned:
            self._set(np.array(self.value))
        g.add_to(self.value)

    def _sum_rows(self) -> None:
        parts, self.parts, self.count = self.parts, [], 0
        self._add_deferred(parts[0] if len(parts) == 1 else parts[0].gathered(parts))

    def dense(self) -> Any:
        """The sum as an array that nobody else holds."""
        if self.parts:
            self._sum_rows()
        return self.value if self.owned else np.array(self.value)


def _broadcasts(shape: tuple[int, ...], to: tuple[int, ...]) -> bool:
    extra = len(to) - len(shape)
    return extra >= 0 and all(n in (1, m) for n, m in zip(shape, to[extra:], strict=True))


def unbroadcast(g: Any, shape: tuple[int, ...]) -> Any:
    """Sum a cotangent over the axes along which an operand of `shape` was broadcast."""
    extra = g.ndim - len(shape)
    axes = tuple(
        axis for axis, n in enumerate(g.shape) if n != 1 and (axis < extra or shape[axis - extra] == 1)
    )
    if axes:
        g = g.sum(axis=axes, keepdims=True)
    return g.reshape(shape)


# ---------------------------------------------------------------------------------------------------------
# The backward walk
# ---------------------------------------------------------------------------------------------------------
def backpropagate(
    seeds: Iterable[tuple[Node, Any]], wanted: Sequence[Node] | None = None, create_graph: bool = False
) -> dict[int, Any]:
    """Reverse-mode differentiation from `seeds`, pairs of a node and its cotangent.

    With `wanted`, returns the cotangents of those nodes by creation number; a node that the seeds do not
    depend on is absent. Without, adds the cotangent of every leaf (and of every node that retains its
    gradient) to its `grad`. With `create_graph` the cotangents are themselves recorded.

    Cotangents live in this call alone, so walking a graph twice gives the same numbers twice.
    """
    walk = _Walk(wanted, create_graph)
    # The walk looks for anomalies itself: it knows of which operation a bad gradient is the backward.
    with configure(recording=create_graph, anomaly=False), collector_paused():
        return walk.run(seeds)


class _Walk:
    """The state of one backward walk: what has arrived where, and what is next."""

    def __init__(self, wanted: Sequence[Node] | None, create_graph: bool) -> None:
        self.create_graph = create_graph
        self.anomaly = context().anomaly
        # Without anything wanted, cotangents go to the leaves, of which none has a number below 0.
        self.deposit = wanted is None
        self.wanted = {node.index for node in wanted or ()}
        self.stop = min(self.wanted, default=-1)
        self.found: dict[int, Any] = {}
        self.stands_for: dict[int, Node] = {}
        self.arrived: dict[int, Any] = {}
        self.nodes: dict[int, Node] = {}
        self.heap: list[int] = []

    def run(self, seeds: Iterable[tuple[Node, Any]]) -> dict[int, Any]:
        for root, seed in seeds:
            self.send(root, seed)
        # This loop is what every training step waits for: the common case is spelled out in it, and
        # everything else is a call away.
        heap, nodes, arrived = self.heap, self.nodes, self.arrived
        anomaly, create_graph = self.anomaly, self.create_graph
        wanted = self.wanted
        while heap:
            index = -heappop(heap)
            if index < self.stop:
                break
            node = nodes.pop(index, None)
            if node is None:
                continue
            g = arrived.pop(index)
            op = node.op
            if op is not None and op.expand is not None:
                self.splice(node, g, op.expand(node))
                continue
            if (
                g.__class__ is not np.ndarray
                or op is None
                or node.hooks
                or node.retains_grad
                or index in wanted
            ):
                g = self.settle(node, g)
            if op is None:
                continue
            args, operands, params, vjps = node.args, node.operands, node.params, op.vjps
            if create_graph:
                ans: Any = node
                values = _recorded_args(node)
            else:
                ans = node._value
                values = args
            if op.joint:
                shares = vjps(g, ans, *values, **params)
            for argnum in node.live:
                if op.joint:
                    share = shares[argnum]
                else:
                    try:
                        rule = vjps[argnum]
                    except IndexError:
                        raise op.missing_rule(argnum) from None
                    share = rule and rule(g, ans, *values, **params)
                if share is None:
                    continue
                arg = args[argnum]
                try:
                    fits = share.shape == arg.shape and share.dtype == arg.dtype and not anomaly
                except AttributeError:
                    raise op.no_array(argnum, share) from None
                if not fits:
                    share = self.fit(share, node, argnum)
                if create_graph and not isinstance(share, Node):
                    # A rule that isn't written with tensorgrad's operations gives a constant.
                    share = node.result_class(np.array(share))
                operand = operands[argnum]
                number = operand.index
                before = arrived.get(number)
                if before is None:
                    arrived[number] = share
                    nodes[number] = operand
                    heappush(heap, -number)
                elif before.__class__ is _Total:
                    before.add(share)
                else:
                    self.merge(number, share)
        return self.found

    def send(self, node: Node, g: Any) -> None:
        """Add a contribution to a node's cotangent and see to it that the node gets its turn."""
        if node.index in self.arrived:
            self.merge(node.index, g)
        else:
            self.arrived[node.index] = g
            self.nodes[node.index] = node
            heappush(self.heap, -node.index)

    def merge(self, index: int, g: Any) -> None:
        """Add a contribution to those that have arrived."""
        before = self.arrived[index]
        if before.__class__ is _Total:
            before.add(g)
        elif self.create_graph:
            self.arrived[index] = before + g
        else:
            total = _Total(before)
            total.add(g)
            self.arrived[index] = total

    def settle(self, node: Node, g: Any) -> Any:
        """The whole cotangent of a node whose users have all had their turn: summed, shown, handed over."""
        own = g.__class__ is not np.ndarray and isinstance(g, (_Total, Deferred))
        if own:
            g = g.dense()
            if g.dtype != node._value.dtype:
                g = g.astype(node._value.dtype)
        node = self.stands_for.get(node.index, node)
        if node.hooks:
            g, own = self.hooked(node, g), False
        if node.index in self.wanted:
            self.found[node.index] = g
        elif self.deposit and (node.op is None or node.retains_grad):
            g_array = g._value if isinstance(g, Node) else g
            if node.grad is None:
                node.grad = g_array if own else np.array(g_array)
            else:
                node.grad = np.asarray(node.grad + g_array)
        return g

    def hooked(self, node: Node, g: Any) -> Any:
        """A node's cotangent after its hooks have seen it and perhaps put another in its place."""
        for hook in tuple(node.hooks or ()):
            if isinstance(g, np.ndarray):
                # The array may be another node's cotangent too, or an operand's values.
                g = g.view()
                g.flags.writeable = False
            changed = hook(g)
            if changed is None:
                continue
            dtype = node._value.dtype
            new: Any = changed if isinstance(changed, Node) else node.result_class(np.array(changed, dtype))
            if new._value.dtype != dtype:
                new = new.astype(dtype)
            if new._value.shape != node._value.shape:
                raise ShapeError(
                    f"a hook on the {node.describe()} returned a gradient of shape {new._value.shape}"
                )
            g = new if self.create_graph else new._value
        return g

    def fit(self, g: Any, node: Node, argnum: int) -> Any:
        """Bring a contribution to the shape and dtype of its operand, or say which rule is wrong."""
        operand = node.args[argnum]
        shape = operand.shape
        if g.shape != shape:
            op = node.op
            assert op is not None
            rows = g.__class__ is np.ndarray and not self.create_graph and g.shape[-1:] == shape
            if op.broadcasts and rows and g.size:
                # A bias: its T sums over rows are put off and done together.
                g = Rows(g if g.ndim == 2 else g.reshape(-1, shape[0]))
            elif op.broadcasts and _broadcasts(shape, g.shape):
                g = unbroadcast(g, shape)
            else:
                raise ShapeError(
                    f"the gradient rule of {op.name} for operand {argnum} gave shape {g.shape}, "
                    f"but the operand has shape {shape}; {node.describe()}"
                )
        if g.dtype != operand.dtype and not isinstance(g, Deferred):
            if g.dtype.kind == "c":
                raise DtypeError(f"gradients through complex numbers are not offered: {node.describe()}")
            g = g.astype(operand.dtype)
        if self.anomaly:
            array = g.dense() if isinstance(g, Deferred) else getattr(g, "_value", g)
            if not _finite(array):
                raise AnomalyError(
                    f"the backward of {node.describe()} made {_kind_of(array)} in the gradient "
                    f"of operand {argnum} of shape {operand.shape}"
                )
        return g

    def splice(self, node: Node, g: Any, pairs: Iterable[tuple[Node | None, Node]]) -> None:
        """Go on in a recomputed piece of graph: what has arrived at each old output moves to its twin.

        node: the output whose turn it is, with its cotangent `g`. pairs: old outputs (None for one that
        nobody holds any more) and their new nodes.

        The new nodes are younger than all that waits, so they take their turn at once and the leaves
        receive the same contributions in the same order as if everything had been stored. A twin may have
        users inside the piece: the old output is shown its cotangent when the twin has its turn.
        """
        for old, new in pairs:
            if old is None:
                continue
            share = g
            if old is not node:
                self.nodes.pop(old.index, None)
                share = self.arrived.pop(old.index, None)
            if new.requires_grad:
                if old.hooks or old.retains_grad or old.index in self.wanted:
                    self.stands_for[new.index] = old
                    self.wanted.add(new.index)
                if share is not None:
                    self.send(new, share)
            elif share is not None:
                self.settle(old, share)


def _recorded_args(node: Node) -> tuple[Any, ...]:
    """The operands as Nodes, for gradients that are differentiated again."""
    for operand, arg in zip(node.operands, node.args, strict=True):
        if isinstance(operand, Node) and operand._value is not arg:
            raise GraphError(
                f"the {operand.describe()} was given a new value after the {node.describe()} was computed "
                "from it. First-order gradients of that result still work; for gradients of gradients "
                "(create_graph=True) differentiate before changing the tensor, or run the forward again"
            )
    return tuple(
        operand if isinstance(operand, Node) else arg
        for operand, arg in zip(node.operands, node.args, strict=True)
    )
