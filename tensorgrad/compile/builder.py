"""Writing equations: shapes and dtypes of results are worked out here."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tensorgrad.compile.ir import Const, Eqn, Var

__all__ = ["Builder", "broadcast_shape", "reduced"]


class Builder:
    """Appends equations to a block and works out their shapes and dtypes."""

    def __init__(self, eqns: list[Any]) -> None:
        self.eqns = eqns
        self.section = ""

    def emit(
        self, op: str, args: Sequence[Any], shape: Any, dtype: Any, name: str | None = None, /, **params: Any
    ) -> Var:
        """A new equation's result."""
        out = Var(shape, dtype, name)
        self.eqns.append(Eqn(op, args, params, out, self.section))
        return out

    def map(self, op: str, *args: Any, name: str | None = None) -> Var:
        """An element-wise equation."""
        args = tuple(a if isinstance(a, (Var, Const)) else self.number(a, args) for a in args)
        shape = broadcast_shape([a.shape for a in args])
        return self.emit(op, args, shape, _dtype_of(op, args), name)

    def number(self, value: Any, beside: Sequence[Any]) -> Const:
        """A Python number as a constant in the dtype of the operands beside it."""
        dtype = next(a.dtype for a in beside if isinstance(a, (Var, Const)))
        return Const(np.asarray(value, dtype))

    def sum(self, x: Any, axes: tuple[int, ...], keepdims: bool, op: str = "sum") -> Var:
        """A reduction over axes."""
        return self.emit(
            op, [x], reduced(x.shape, axes, keepdims), x.dtype, axes=tuple(axes), keepdims=keepdims
        )

    def reshape(self, x: Any, shape: Any) -> Any:
        """x in another shape."""
        return (
            x
            if tuple(shape) == tuple(x.shape)
            else self.emit("reshape", [x], shape, x.dtype, shape=tuple(shape))
        )

    def transpose(self, x: Any, axes: Sequence[int]) -> Any:
        """x with its axes in another order."""
        if tuple(axes) == tuple(range(x.ndim)):
            return x
        return self.emit("transpose", [x], [x.shape[a] for a in axes], x.dtype, axes=tuple(axes))

    def index(self, x: Any, template: tuple[Any, ...]) -> Var:
        """x[template], without index arrays."""
        return self.emit("index", [x], np.empty(x.shape, bool)[template].shape, x.dtype, template=template)

    def dot(self, a: Any, b: Any) -> Var:
        """The matrix product."""
        if a.ndim == 1 or b.ndim == 1:
            shape = (*a.shape[:-1], *(b.shape[:-2] + b.shape[-1:] if b.ndim > 1 else ()))
        else:
            shape = (*broadcast_shape([a.shape[:-2], b.shape[:-2]]), a.shape[-2], b.shape[-1])
        return self.emit("dot", [a, b], shape, np.result_type(a.dtype, b.dtype))

    def broadcast(self, x: Any, shape: Any) -> Any:
        """x repeated to fill a shape."""
        return (
            x
            if tuple(shape) == tuple(x.shape)
            else self.emit("broadcast", [x], shape, x.dtype, shape=tuple(shape))
        )

    def cast(self, x: Any, dtype: Any) -> Any:
        """x in another dtype."""
        return x if x.dtype == dtype else self.emit("cast", [x], x.shape, dtype, dtype=np.dtype(dtype))


def reduced(shape: tuple[Any, ...], axes: tuple[int, ...], keepdims: bool) -> tuple[Any, ...]:
    """The shape that is left of `shape`."""
    if keepdims:
        return tuple(1 if k in axes else n for k, n in enumerate(shape))
    return tuple(n for k, n in enumerate(shape) if k not in axes)


def broadcast_shape(shapes: Sequence[tuple[Any, ...]]) -> tuple[Any, ...]:
    """The shape that shapes broadcast to; Sizes stay Sizes."""
    out: list[Any] = [1] * max(map(len, shapes), default=0)
    for shape in shapes:
        for k, n in enumerate(reversed(shape), 1):
            if n != 1:
                out[-k] = n
    return tuple(out)


_dtypes: dict[Any, Any] = {}


def _dtype_of(op: str, args: Sequence[Any]) -> Any:
    if op in ("sigmoid", "softplus", "relu"):
        return args[0].dtype
    if op == "where":
        return np.result_type(args[1].dtype, args[2].dtype)
    key = op, *(a.dtype for a in args)
    if key not in _dtypes:
        with np.errstate(all="ignore"):
            _dtypes[key] = getattr(np, op)(*(np.ones(1, a.dtype) for a in args)).dtype
    return _dtypes[key]
