"""Reductions and running sums over axes. `axis=None` means all axes; `keepdims` keeps them with length 1.

The gradient of a maximum is shared equally among equal elements. Sums over an empty axis are 0 (products
1), and their gradient has the empty shape.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tensorgrad.context import context
from tensorgrad.op import primitive, public
from tensorgrad.ops.elementwise import abs, astype, equal, exp, greater, logical_or, not_equal, where
from tensorgrad.ops.shape import (
    Axes,
    broadcast_to,
    flip,
    inverse,
    ndim,
    normalise_axes,
    normalise_axis,
    reshape,
    transpose,
)


def _kept(shape: tuple[int, ...], axes: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(1 if axis in axes else n for axis, n in enumerate(shape))


def _count(x: Any, axes: tuple[int, ...]) -> int:
    count = 1
    for axis in axes:
        count *= x.shape[axis]
    return count


def _spread(g: Any, x: Any, axes: tuple[int, ...]) -> Any:
    """A reduced cotangent laid out so that it broadcasts against the operand."""
    return reshape(g, _kept(x.shape, axes))


def _sum_vjp(g: Any, ans: Any, x: Any, axes: tuple[int, ...], keepdims: bool) -> Any:
    return broadcast_to(_spread(g, x, axes), x.shape)


@primitive(_sum_vjp)
def _sum(x: Any, *, axes: tuple[int, ...], keepdims: bool) -> Any:
    return np.sum(x, axis=axes, keepdims=keepdims)


@public
def sum(x: Any, axis: Axes | None = None, keepdims: bool = False) -> Any:
    """The sum over the axes.

    >>> sum(np.ones((2, 3)), axis=-1)
    array([3., 3.])
    """
    return _sum(x, axes=normalise_axes("sum", axis, ndim(x)), keepdims=keepdims)


@primitive(
    lambda g, ans, x, axes, keepdims: broadcast_to(_spread(g, x, axes) / (_count(x, axes) or 1), x.shape),
)
def _mean(x: Any, *, axes: tuple[int, ...], keepdims: bool) -> Any:
    return np.mean(x, axis=axes, keepdims=keepdims)


@public
def mean(x: Any, axis: Axes | None = None, keepdims: bool = False) -> Any:
    """The arithmetic mean over the axes.

    >>> mean(np.array([1.0, 3.0])).item()
    2.0
    """
    return _mean(x, axes=normalise_axes("mean", axis, ndim(x)), keepdims=keepdims)


def _var_vjp(g: Any, ans: Any, x: Any, axes: tuple[int, ...], ddof: int, keepdims: bool) -> Any:
    if not x.size:
        return x * 0
    centred = x - _mean(x, axes=axes, keepdims=True)
    freedom = _count(x, axes) - ddof
    return _spread(g, x, axes) * centred * (2.0 / freedom if freedom > 0 else np.nan)


@primitive(_var_vjp)
def _var(x: Any, *, axes: tuple[int, ...], ddof: int, keepdims: bool) -> Any:
    return np.var(x, axis=axes, ddof=ddof, keepdims=keepdims)


@public
def var(x: Any, axis: Axes | None = None, ddof: int = 0, keepdims: bool = False) -> Any:
    """The variance over the axes: squared distance to the mean, divided by the count less `ddof`.

    >>> var(np.array([1.0, 3.0])).item()
    1.0
    """
    return _var(x, axes=normalise_axes("var", axis, ndim(x)), ddof=ddof, keepdims=keepdims)


def _std_vjp(g: Any, ans: Any, x: Any, axes: tuple[int, ...], ddof: int, keepdims: bool) -> Any:
    # Equal elements have no spread and a kink there; 0 is the subgradient that keeps training alive.
    flat = equal(ans, 0)
    slope = where(flat, 0, g / (2 * where(flat, 1, ans)))
    return _var_vjp(slope, ans, x, axes, ddof, keepdims)


@primitive(_std_vjp)
def _std(x: Any, *, axes: tuple[int, ...], ddof: int, keepdims: bool) -> Any:
    return np.std(x, axis=axes, ddof=ddof, keepdims=keepdims)


@public
def std(x: Any, axis: Axes | None = None, ddof: int = 0, keepdims: bool = False) -> Any:
    """The standard deviation over the axes; its gradient at equal elements is 0.

    >>> std(np.array([1.0, 3.0])).item()
    1.0
    """
    return _std(x, axes=normalise_axes("std", axis, ndim(x)), ddof=ddof, keepdims=keepdims)


def _extremum_vjp(g: Any, ans: Any, x: Any, axes: tuple[int, ...], keepdims: bool) -> Any:
    # A NaN is the extremum wherever it stands, though it equals nothing.
    hit = logical_or(equal(x, _spread(ans, x, axes)), not_equal(x, x))
    ties = _sum(astype(hit, g.dtype), axes=axes, keepdims=True)
    return where(hit, _spread(g, x, axes) / ties, 0)


@primitive(_extremum_vjp)
def _max(x: Any, *, axes: tuple[int, ...], keepdims: bool) -> Any:
    return np.max(x, axis=axes, keepdims=keepdims)


@public
def max(x: Any, axis: Axes | None = None, keepdims: bool = False) -> Any:
    """The largest element over the axes.

    Raises ShapeError over an empty axis.

    >>> max(np.array([1.0, 3.0])).item()
    3.0
    """
    return _max(x, axes=normalise_axes("max", axis, ndim(x)), keepdims=keepdims)


@primitive(_extremum_vjp)
def _min(x: Any, *, axes: tuple[int, ...], keepdims: bool) -> Any:
    return np.min(x, axis=axes, keepdims=keepdims)


@public
def min(x: Any, axis: Axes | None = None, keepdims: bool = False) -> Any:
    """The smallest element over the axes.

    Raises ShapeError over an empty axis.

    >>> min(np.array([1.0, 3.0])).item()
    1.0
    """
    return _min(x, axes=normalise_axes("min", axis, ndim(x)), keepdims=keepdims)


def _prod_vjp(g: Any, ans: Any, x: Any, axes: tuple[int, ...], keepdims: bool) -> Any:
    """The product of all other elements, which ans / x gives only where no element is 0."""
    # A compiled program cannot choose by the values: it takes the way that is right at zeros too.
    if not x.size or (context().tracer is None and bool(greater(min(abs(x)), 0))):
        return _spread(g * ans, x, axes) / x
    rest = tuple(axis for axis in range(x.ndim) if axis not in axes)
    n = _count(x, axes)
    rows = reshape(transpose(x, rest + axes), (*(x.shape[axis] for axis in rest), 1, n))
    others = _prod(where(np.eye(n, dtype=bool), 1, rows), axes=(len(rest) + 1,), keepdims=False)
    shape = tuple(x.shape[axis] for axis in rest + axes)
    return _spread(g, x, axes) * transpose(reshape(others, shape), inverse(rest + axes))


@primitive(_prod_vjp)
def _prod(x: Any, *, axes: tuple[int, ...], keepdims: bool) -> Any:
    return np.prod(x, axis=axes, keepdims=keepdims)


@public
def prod(x: Any, axis: Axes | None = None, keepdims: bool = False) -> Any:
    """The product over the axes; the gradient is right at zeros too.

    >>> prod(np.array([2.0, 3.0])).item()
    6.0
    """
    return _prod(x, axes=normalise_axes("prod", axis, ndim(x)), keepdims=keepdims)


@primitive(lambda g, ans, x, axis: flip(_cumsum(flip(g, axis), axis=axis), axis))
def _cumsum(x: Any, *, axis: int) -> Any:
    return np.cumsum(x, axis=axis)


@public
def cumsum(x: Any, axis: int | None = None) -> Any:
    """The running sum along an axis, or of the elements in flat order.

    >>> cumsum(np.ones(3))
    array([1., 2., 3.])
    """
    if axis is None:
        return _cumsum(reshape(x, (-1,)), axis=0)
    return _cumsum(x, axis=normalise_axis("cumsum", axis, ndim(x)))


def _logsumexp_vjp(g: Any, ans: Any, x: Any, axes: tuple[int, ...], keepdims: bool) -> Any:
    # Where the result is infinite, x - ans would be nan: such a row has no direction to go in. One that holds
    # nan has gradient nan.
    total = _spread(ans, x, axes)
    bounded = not_equal(abs(total), np.inf)
    return _spread(g, x, axes) * exp(where(bounded, x - where(bounded, total, 0), -np.inf))


@primitive(_logsumexp_vjp)
def _logsumexp(x: Any, *, axes: tuple[int, ...], keepdims: bool) -> Any:
    if x.dtype.kind != "f":
        x = x.astype(np.float64)
    top = np.max(x, axis=axes, keepdims=True, initial=-np.inf)
    top = np.where(np.isfinite(top), top, 0).astype(x.dtype)
    with np.errstate(divide="ignore", over="ignore"):
        out = np.log(np.sum(np.exp(x - top), axis=axes, keepdims=True)) + top
    return out if keepdims else np.squeeze(out, axis=axes)


@public
def logsumexp(x: Any, axis: Axes | None = None, keepdims: bool = False) -> Any:
    """log(sum(exp(x))) without overflow; -inf where all elements are -inf.

    >>> round(float(logsumexp(np.array([1000.0, 1000.0]))), 3)
    1000.693
    """
    return _logsumexp(x, axes=normalise_axes("logsumexp", axis, ndim(x)), keepdims=keepdims)
