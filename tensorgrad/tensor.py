"""`Tensor`: the handle users hold. Operators and methods delegate to the operations."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, ClassVar

import numpy as np

from tensorgrad import ops
from tensorgrad.backward import backpropagate
from tensorgrad.context import context
from tensorgrad.errors import DtypeError, GraphError, ShapeError
from tensorgrad.graph import Node, Operand
from tensorgrad.op import registry

__all__ = ["Tensor", "from_dlpack", "tensor"]


def tensor(data: Any, requires_grad: bool = False, name: str | None = None, dtype: Any = None) -> Tensor:
    """A Tensor of a copy of `data`: numbers, nested lists, an array or another Tensor.

    dtype: any NumPy dtype; by default that of `data`, float64 for Python floats.
    Raises DtypeError for what is no array of numbers, and for integers that are to require a gradient.

    >>> tensor([1.0, 2.0], requires_grad=True, name="x")
    Tensor([1., 2.], name='x', requires_grad=True)
    """
    if isinstance(data, (list, tuple)) and any(isinstance(x, Node) and x.requires_grad for x in data):
        raise DtypeError("tensor: a copy of Tensors would lose their gradients; join them with tg.stack")
    tracer = context().tracer
    if tracer is not None and isinstance(data, Tensor) and tracer.is_unknown(data):
        copied: Tensor = tracer.copy(data, requires_grad, name, dtype)
        return copied
    source = data._value if isinstance(data, Node) else data
    try:
        array = np.array(source, dtype=dtype)
    except (TypeError, ValueError) as cause:
        raise DtypeError(f"tensor: {cause}") from None
    return Tensor(array, requires_grad, name)


def from_dlpack(source: Any) -> Tensor:
    """A Tensor of a copy of any object that speaks DLPack, such as a PyTorch tensor on the CPU.

    >>> from_dlpack(np.ones(2))
    Tensor([1., 1.])
    """
    return Tensor(np.array(np.from_dlpack(source)))


def _reflected(fn: Callable[..., Any]) -> Callable[..., Any]:
    def method(self: Any, other: Any) -> Any:
        return fn(other, self)

    return method


def _comparison(fn: Callable[..., Any]) -> Callable[..., Any]:
    """`==` or `!=`: element by element, except that what is no number or array is simply not equal."""

    def method(self: Any, other: Any) -> Any:
        return fn(self, other) if isinstance(other, _NUMERIC) else NotImplemented

    return method


_NUMERIC = (Operand, np.ndarray, np.generic, int, float, complex, list, tuple)


def _in_place(symbol: str, fn: Callable[..., Any]) -> Callable[..., Any]:
    """`x += y` and its like: a new Tensor, except that a leaf with gradient keeps its identity."""

    def method(self: Any, other: Any) -> Any:
        if self.op is not None or not self.requires_grad:
            return fn(self, other)
        if context().recording:
            raise GraphError(
                f"{symbol} on the {self.describe()}, which requires a gradient, would replace it by a "
                f"computed one; update it inside tg.no_grad(), or write x = x {symbol[:-1]} y"
            )
        self.data = fn(self, other)
        return self

    return method


class Tensor(Node):
    """An array that remembers how it was computed. `tg.tensor` makes one from a copy of any data; the class
    itself takes an array as its own.

    Values never change in place: operations make new Tensors, and `data = ...` gives a leaf a new array.
    `x.grad` is an ndarray, summed over the calls of `backward`; None before the first.
    """

    __slots__ = ()

    def __init__(self, value: np.ndarray, requires_grad: bool = False, name: str | None = None) -> None:
        if not isinstance(value, np.ndarray):
            raise DtypeError(f"Tensor(...) takes an array, not {type(value).__name__}; use tg.tensor(...)")
        if value.dtype.kind not in "biufc":
            raise DtypeError(f"a Tensor holds numbers, not {value.dtype} data")
        self.become_leaf(value, False, name)
        if requires_grad:
            self.requires_grad_()

    # --- what it is --------------------------------------------------------------------------------------
    @property
    def data(self) -> np.ndarray:
        """The values as a read-only view; assigning gives a leaf new values of the same shape and dtype.

        Graphs recorded before keep the old values.
        """
        return self.numpy()

    @data.setter
    def data(self, value: Any) -> None:
        if self.op is not None:
            raise GraphError(
                f"data of the {self.describe()} is computed; only leaves can be given new values"
            )
        tracer = context().tracer
        if tracer is not None:
            tracer.effects.set_value(self, value)
            return
        array = np.array(value._value if isinstance(value, Node) else value, dtype=self.dtype)
        if array.shape != self.shape:
            raise ShapeError(f"data of the {self.describe()} cannot become an array of shape {array.shape}")
        self._value = array

    def numpy(self) -> np.ndarray:
        """The values as a read-only view: changing them would falsify gradients. Copy to get your own."""
        tracer = context().tracer
        if tracer is not None and tracer.is_unknown(self):
            values: np.ndarray = tracer.array_of(self)
            return values
        view: np.ndarray = self._value.view()
        view.flags.writeable = False
        return view

    def item(self) -> Any:
        """The only element as a Python number. Raises ShapeError when there is not exactly one."""
        if self.size != 1:
            raise ShapeError(f"item: needs exactly one element, not {self.size} of shape {self.shape}")
        return self._known("item()").item()

    def tolist(self) -> Any:
        """The values as nested lists of Python numbers."""
        return self._known("tolist()").tolist()

    def _known(self, what: str) -> np.ndarray:
        """The values for a purpose that no compiled function can serve."""
        tracer = context().tracer
        if tracer is not None:
            tracer.must_know(self, what)
        array: np.ndarray = self._value
        return array

    shape = property(lambda self: self._value.shape, doc="The lengths of the axes.")
    dtype = property(lambda self: self._value.dtype, doc="The NumPy dtype.")
    ndim = property(lambda self: self._value.ndim, doc="The number of axes.")
    size = property(lambda self: self._value.size, doc="The number of elements.")
    T = property(lambda self: ops.transpose(self), doc="The axes reversed.")
    mT = property(lambda self: ops.swapaxes(self, -1, -2), doc="Each matrix transposed.")

    def requires_grad_(self, requires_grad: bool = True) -> Tensor:
        """Say whether gradients of this leaf are wanted; returns the Tensor itself.

        Raises DtypeError for integers, GraphError for a computed Tensor.
        """
        if requires_grad and self.dtype.kind != "f":
            raise DtypeError(f"only floats can require a gradient, not {self.dtype}; use astype('float64')")
        if self.op is not None and not requires_grad:
            raise GraphError(f"the {self.describe()} is computed; use detach() to leave the graph")
        self.requires_grad = requires_grad
        return self

    def detach(self) -> Tensor:
        """The same values as a leaf without history: gradients stop here."""
        tracer = context().tracer
        if tracer is not None and tracer.is_unknown(self):
            detached: Tensor = tracer.copy(self, False, self.name)
            return detached
        return Tensor(self._value, name=self.name)

    # --- gradients ---------------------------------------------------------------------------------------
    def backward(self, grad: Any = None) -> None:
        """Add the gradient of this Tensor to `grad` of every leaf that requires one.

        grad: the cotangent to start from; by default 1, which only a Tensor of one element has.
        Raises GraphError when nothing requires a gradient, ShapeError for a wrong cotangent.
        """
        seed = seed_of(self, grad)
        tracer = context().tracer
        if tracer is None:
            backpropagate([(self, seed)])
        else:
            tracer.effects.backward(self, seed)

    def retain_grad(self) -> Tensor:
        """Keep the gradient of a computed Tensor in `grad` too; returns the Tensor itself."""
        self.retains_grad = True
        return self

    def register_hook(self, hook: Callable[[Any], Any]) -> Callable[[], None]:
        """Call `hook(g)` with the whole gradient of this Tensor in every backward walk.

        What the hook returns, if not None, takes the gradient's place. Returns a function that removes it.
        """
        if self.hooks is None:
            self.hooks = []
        hooks = self.hooks
        hooks.append(hook)
        return lambda: hooks.remove(hook)

    # --- NumPy and other libraries -----------------------------------------------------------------------
    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        self._known("an array")
        array = self.numpy()
        if dtype is not None and np.dtype(dtype) != array.dtype:
            if copy is False:
                raise ValueError(f"a Tensor of {array.dtype} cannot become {np.dtype(dtype)} without a copy")
            return array.astype(dtype)
        return array.copy() if copy else array

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **kwargs: Any) -> Any:
        name = ufunc.__name__ if method == "__call__" else f"{ufunc.__name__}.{method}"
        fn = registry.get(name)
        if fn is None or kwargs:
            raise self._no_operation(f"np.{name}{' with these arguments' if fn else ''}")
        return fn(*inputs)

    def __array_function__(self, func: Any, types: Any, args: Any, kwargs: Any) -> Any:
        if func in _QUESTIONS:
            plain = [a.numpy() if isinstance(a, Tensor) else a for a in args]
            return func(*plain, **kwargs)
        # np.linalg has functions of the same name that mean something else.
        fn = registry.get(func.__name__) if func.__module__ == "numpy" else None
        if fn is None:
            raise self._no_operation(f"{func.__module__.replace('numpy', 'np')}.{func.__name__}")
        return fn(*args, **kwargs)

    def _no_operation(self, what: str) -> Exception:
        """The error for what NumPy can do and tensorgrad cannot."""
        return TypeError(f"{what} has no gradient here; call it on tensor.numpy() for plain values")

    def __dlpack__(self, **kwargs: Any) -> Any:
        # A copy, because the receiver may write into it.
        return self._known("DLPack").copy().__dlpack__(**kwargs)

    def __dlpack_device__(self) -> Any:
        return self._value.__dlpack_device__()

    def __reduce_ex__(self, protocol: Any) -> Any:
        # Copies and pickles are leaves with a creation number of their own.
        if self.op is not None:
            raise GraphError(f"the {self.describe()} is computed; detach() it before it is copied or pickled")
        return (
            _leaf,
            (type(self), self._known("a copy"), self.requires_grad, self.name),
            (None, {"grad": self.grad}),
        )

    def __len__(self) -> int:
        if not self.ndim:
            raise TypeError("a 0-d Tensor has no length")
        return int(self.shape[0])

    def __iter__(self) -> Iterator[Tensor]:
        if not self.ndim:
            raise TypeError("a 0-d Tensor cannot be iterated over")
        return (self[i] for i in range(len(self)))

    def __bool__(self) -> bool:
        if self.size != 1:
            raise ValueError(
                f"the truth of a Tensor of shape {self.shape} is not one value; use .any() or .all() of its "
                "numpy()"
            )
        return bool(self._known("a decision (if, while, and, or)"))

    def __float__(self) -> float:
        return float(self.item())

    def __int__(self) -> int:
        return int(self.item())

    def __index__(self) -> int:
        if self.dtype.kind not in "iu":
            raise TypeError(f"only integer Tensors can be an index, not {self.dtype}")
        return int(self.item())

    def __format__(self, spec: str) -> str:
        return format(self.item(), spec) if spec else str(self)

    def __repr__(self) -> str:
        body = np.array2string(self._value, separator=", ", prefix="Tensor(", threshold=100)
        extra = "" if self.dtype in (np.float64, np.int64, np.bool_) else f", dtype={self.dtype}"
        if not self.size:
            extra = f", shape={self.shape}, dtype={self.dtype}"
        if self.name:
            extra += f", name={self.name!r}"
        if self.op is not None:
            extra += f", op={self.op.name}"
        elif self.requires_grad:
            extra += ", requires_grad=True"
        return f"Tensor({body}{extra})"

    # What a notebook shows. The pictures stand above and set it, as they do for Modules.
    _repr_html_: ClassVar[Callable[[Tensor], str]]

    # --- operators ---------------------------------------------------------------------------------------
    def __getitem__(self, index: Any) -> Any:
        return ops.getitem(self, index)

    def __setitem__(self, index: Any, value: Any) -> None:
        raise GraphError(
            "a Tensor does not change in place: write y = tg.index_update(x, index, value) for a changed copy"
        )

    # Operations are plain functions, so they bind as methods as they are.
    __add__ = ops.add
    __sub__ = ops.subtract
    __mul__ = ops.multiply
    __truediv__ = ops.divide
    __matmul__ = ops.matmul
    __radd__ = _reflected(ops.add)
    __rsub__ = _reflected(ops.subtract)
    __rmul__ = _reflected(ops.multiply)
    __rtruediv__ = _reflected(ops.divide)
    __rmatmul__ = _reflected(ops.matmul)
    __rpow__ = _reflected(ops.power)
    __iadd__ = _in_place("+=", ops.add)
    __isub__ = _in_place("-=", ops.subtract)
    __imul__ = _in_place("*=", ops.multiply)
    __itruediv__ = _in_place("/=", ops.divide)
    __imatmul__ = _in_place("@=", ops.matmul)
    __ipow__ = _in_place("**=", ops.power)
    __neg__ = ops.negative
    __abs__ = ops.abs
    __invert__ = ops.invert
    __and__ = __rand__ = ops.bitwise_and
    __or__ = __ror__ = ops.bitwise_or
    __xor__ = __rxor__ = ops.bitwise_xor
    __eq__ = _comparison(ops.equal)
    __ne__ = _comparison(ops.not_equal)
    __lt__ = ops.less
    __le__ = ops.less_equal
    __gt__ = ops.greater
    __ge__ = ops.greater_equal
    __hash__ = Node.__hash__

    def __pos__(self) -> Tensor:
        return self

    def __pow__(self, other: Any) -> Any:
        return ops.square(self) if type(other) is int and other == 2 else ops.power(self, other)

    # --- methods -----------------------------------------------------------------------------------------
    astype = ops.astype
    sum = ops.sum
    mean = ops.mean
    var = ops.var
    std = ops.std
    max = ops.max
    min = ops.min
    prod = ops.prod
    cumsum = ops.cumsum
    dot = ops.dot
    trace = ops.trace
    squeeze = ops.squeeze
    swapaxes = ops.swapaxes
    clip = ops.clip
    take = ops.take

    def reshape(self, *shape: Any) -> Any:
        """The elements in another shape, given as numbers or one tuple."""
        return ops.reshape(self, shape[0] if len(shape) == 1 else shape)

    def transpose(self, *axes: Any) -> Any:
        """The axes in another order, given as numbers or one tuple; reversed by default."""
        return ops.transpose(self, (axes[0] if isinstance(axes[0], Sequence) else axes) if axes else None)


Tensor.result_class = Tensor


def _leaf(cls: type[Tensor], value: np.ndarray, requires_grad: bool, name: str | None) -> Tensor:
    """A leaf again, from what was pickled."""
    x = object.__new__(cls)
    x.become_leaf(value, requires_grad, name)
    return x


# NumPy functions that look at values and answer with no array that could have a gradient.
_QUESTIONS = {np.shape, np.ndim, np.size, np.result_type, np.array_equal, np.allclose}


def seed_of(output: Node, grad: Any) -> Any:
    """The cotangent from which a backward walk of `output` starts: an array, or while a function is compiled
    a Tensor.

    Raises GraphError when nothing requires a gradient, ShapeError for a wrong or missing cotangent.
    """
    value = output._value
    tracing = context().tracer is not None
    if not output.requires_grad:
        raise GraphError(
            f"the {output.describe()} does not depend on anything that requires a gradient "
            "(was it computed under no_grad, or from tensors without requires_grad=True?)"
        )
    if grad is None:
        if value.size != 1:
            raise ShapeError(
                f"the {output.describe()} is not one number: reduce it (.sum() or .mean()), "
                "or say which cotangent to start from"
            )
        seed: Any = np.ones(value.shape, value.dtype)
    elif tracing and isinstance(grad, Tensor):
        seed = grad if grad.dtype == value.dtype else grad.astype(value.dtype)
    else:
        seed = np.array(grad._value if isinstance(grad, Node) else grad, dtype=value.dtype)
    if seed.shape != value.shape:
        raise ShapeError(f"a cotangent of shape {seed.shape} does not fit the {output.describe()}")
    return Tensor(seed) if tracing and not isinstance(seed, Tensor) else seed
