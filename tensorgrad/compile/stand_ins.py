"""Stand-ins: what a function is given in place of its arguments while it is traced.

A `Traced` is a Tensor whose values are not known. It carries zeros of the right shape and dtype, so that
every operation's own forward says what shape and dtype its result has.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any

import numpy as np

from tensorgrad import ops
from tensorgrad.compile.lengths import FreeAxis, FreeLength
from tensorgrad.compile.sizes import SizeUnknown, from_user, user_line
from tensorgrad.context import context
from tensorgrad.errors import GraphError, TensorgradError
from tensorgrad.graph import Node
from tensorgrad.op import Op
from tensorgrad.tensor import Tensor

__all__ = ["AS_ARRAY", "SCALAR", "Traced", "TracedArray", "TracedNumber", "is_number", "unknown"]

AS_ARRAY = Op("as_array", lambda x: x, (lambda g, ans, x: g,))
SCALAR = Op("scalar", lambda x: x, (lambda g, ans, x: g,))


_RETURN = "Return what you want to look at; what is to be a setting, give as an int, a bool or a string"
_INSTEAD = {
    "a decision (if, while, and, or)": "Choose with tg.where; a setting to decide by, give as an int, "
    "a bool or a string",
    "an index or range": "Index with an array; a number of times, give as an int",
    "an array": "Use operations of tensorgrad, such as tg.stack; give arrays as arrays, not as lists",
}
"""What to do in the place of what needs values."""

_NEAREST = {
    "any": "(x != 0).max()",
    "all": "(x != 0).min()",
    "isnan": "x != x",
    "argmax": "x == tg.max(x, axis, keepdims=True), which marks it",
    "argmin": "x == tg.min(x, axis, keepdims=True), which marks it",
    "floor_divide": "(x / y).astype(int), which cuts towards 0",
    "remainder": "x - y * (x / y).astype(int), which has the sign of x",
    **dict.fromkeys(("floor", "trunc"), "x.astype(int), which cuts towards 0"),
    **dict.fromkeys(("round", "around", "rint"), "(x + 0.5 * tg.sign(x)).astype(int)"),
    **dict.fromkeys(("zeros_like", "empty_like"), "np.zeros(x.shape, x.dtype)"),
    "ones_like": "np.ones(x.shape, x.dtype)",
    **dict.fromkeys(("full_like", "fill"), "np.full(x.shape, value, x.dtype)"),
    "ravel": "tg.reshape(x, -1)",
    "copy": "x itself, which never changes in place",
    "repeat": "tg.take(x, np.repeat(np.arange(n), k), axis)",
    "tile": "tg.concatenate([x] * k, axis)",
    **dict.fromkeys(("vstack", "hstack", "dstack", "column_stack"), "tg.concatenate(arrays, axis)"),
    "nonzero": "tg.where, or weights of 0 and 1",
}
"""What to write in the place of what is no operation."""


def unknown(what: str) -> Any:
    """A method that raises GraphError, since `what` needs values."""

    def method(self: Traced, *args: Any, **kwargs: Any) -> Any:
        error = GraphError(
            f"tg.compile: {what} needs the values of the {self.describe()}, which are known only when the "
            f"compiled function runs{user_line()}. {_INSTEAD.get(what, _RETURN)}"
        )
        # An `except` in the function may catch it; the trace has gone astray all the same.
        if (tracer := context().tracer) is not None:
            tracer.refused = error
        raise error

    return method


def _size(shape: tuple[int, ...], axis: int | None = None) -> int:
    return math.prod(shape) if axis is None else shape[axis]


class Traced(Tensor):
    """A value that will be computed when the program runs."""

    __slots__ = ()

    numpy = unknown("numpy()")
    item = unknown("item()")
    tolist = unknown("tolist()")
    __array__ = unknown("an array")
    __bool__ = unknown("a decision (if, while, and, or)")
    __float__ = unknown("float()")
    __int__ = unknown("int()")
    __index__ = unknown("an index or range")
    __dlpack__ = unknown("DLPack")

    @property
    def data(self) -> Any:
        """The values, which are not known."""
        return unknown("data")(self)

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
        if func is np.result_type:
            return func(*(x._value if isinstance(x, Traced) else x for x in args))
        if func in (np.array_equal, np.allclose):
            unknown(f"np.{func.__name__}")(self)
        try:
            return super().__array_function__(func, types, args, kwargs)
        except TypeError as error:
            if isinstance(error, TensorgradError):
                raise
            raise GraphError(f"tg.compile: {error}{user_line()}") from None

    def _no_operation(self, what: str) -> Exception:
        name = re.sub(r"^(np\.(linalg\.)?|ndarray\.)", "", what.split()[0])
        known = f"tg.{name}" if name in ops.__all__ else _NEAREST.get(name)
        error = GraphError(
            f"tg.compile: {what} is no operation of tensorgrad{user_line()}. "
            + (f"Write {known}" if known else "Compute it outside of the compiled function")
        )
        if isinstance(self, TracedArray):
            # In eager mode NumPy does it: an `except` in the function leads astray.
            context().tracer.refused = error
        return error

    @property
    def shape(self) -> tuple[int, ...]:
        """The lengths of the axes; those that are free are examples."""
        tracer = context().tracer
        shape: tuple[int, ...] = self._value.shape
        if tracer is None or not tracer.free:
            return shape
        return tuple(FreeLength(n) if n in tracer.free else FreeAxis(n) if n else n for n in shape)

    def retain_grad(self) -> Tensor:
        context().tracer.effects.verify_whole([self])
        return super().retain_grad()

    def register_hook(self, hook: Callable[[Any], Any]) -> Callable[[], None]:
        context().tracer.effects.verify_whole([self])
        return super().register_hook(hook)

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

    __format__ = __str__ = unknown("text")

    def apply_op(self, op: Op, operands: tuple[Any, ...], params: dict[str, Any]) -> Node:
        if context().tracer is None:
            raise GraphError(
                f"{op.name}: the {self.describe()} stands for a value within a compiled function and was "
                "kept from when that was traced; return from the function what is needed outside of it"
            )
        return super().apply_op(op, operands, params)


def _refusal(what: str) -> Any:
    """A method that raises GraphError, since `what` is no operation."""

    def method(self: Traced, *others: Any) -> Any:
        raise self._no_operation(what)

    return method


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

    # Python finds numbers by their values; arrays are no keys.
    __hash__ = unknown("a key of a set or dict")
    __iadd__ = _no_longer_in_place("+=", Tensor.__add__)
    __isub__ = _no_longer_in_place("-=", Tensor.__sub__)
    __imul__ = _no_longer_in_place("*=", Tensor.__mul__)
    __itruediv__ = _no_longer_in_place("/=", Tensor.__truediv__)
    __imatmul__ = _no_longer_in_place("@=", Tensor.__matmul__)
    __ipow__ = _no_longer_in_place("**=", Tensor.__pow__)
    __floordiv__ = __rfloordiv__ = _refusal("np.floor_divide (x // y)")
    __mod__ = __rmod__ = _refusal("np.remainder (x % y)")
    __divmod__ = __rdivmod__ = _refusal("np.divmod")
    __lshift__ = __rlshift__ = _refusal("np.left_shift (x << y)")
    __rshift__ = __rrshift__ = _refusal("np.right_shift (x >> y)")

    itemsize = property(lambda self: self.dtype.itemsize, doc="The bytes of an element.")
    nbytes = property(lambda self: self.size * self.itemsize, doc="The bytes of all elements.")

    def ravel(self) -> Any:
        """The elements in one row."""
        return self.reshape(-1)

    flatten = ravel

    def copy(self) -> Any:
        """The array itself, since it never changes in place."""
        return self

    def __getattr__(self, name: str) -> Any:
        if hasattr(np.ndarray, name) and not name.startswith("_"):
            raise self._no_operation(f"ndarray.{name}")
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")


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
    __round__ = _refusal("round")

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **kwargs: Any) -> Any:
        return _scalar(super().__array_ufunc__(ufunc, method, *inputs, **kwargs))

    def __array_function__(self, func: Any, types: Any, args: Any, kwargs: Any) -> Any:
        return _scalar(super().__array_function__(func, types, args, kwargs))


Traced.result_class = Traced
for _class, _name in ((Traced, "Tensor"), (TracedArray, "ndarray"), (TracedNumber, "float")):
    # As Python calls them where an operator or an attribute is missing.
    _class.__name__ = _class.__qualname__ = _name


def _scalar(x: Any) -> Any:
    """What NumPy makes of numbers is a scalar of NumPy's, which has a dtype of its own."""
    if type(x) is not TracedNumber:
        return x
    return context().tracer.record(SCALAR, (x,), {}, x._value, (), TracedArray)


def is_number(x: Any) -> bool:
    """Whether x is a number of Python's, or stands for one."""
    return type(x) is TracedNumber or (isinstance(x, (int, float)) and not isinstance(x, np.generic))
