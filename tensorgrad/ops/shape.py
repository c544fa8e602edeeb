"""Operations that move elements without computing: reshaping, joining, splitting, padding, reordering."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate, pairwise
from operator import index
from typing import Any

import numpy as np

from tensorgrad.errors import DtypeError, ShapeError
from tensorgrad.op import primitive, public

Axes = int | Sequence[int]


def ndim(x: Any) -> int:
    """The number of axes of an array, Tensor or nested list."""
    return int(x.ndim) if hasattr(x, "ndim") else np.ndim(x)


def normalise_axis(op: str, axis: int, n: int) -> int:
    """An axis counted from the front.

    Raises ShapeError when there is no such axis, DtypeError for what is no integer.
    """
    try:
        axis = index(axis)
    except TypeError:
        raise DtypeError(f"{op}: an axis is an integer, not {axis!r}") from None
    if not -n <= axis < n:
        raise ShapeError(f"{op}: axis {axis} does not exist; the operand has {n} axes")
    return axis % n


def normalise_axes(op: str, axis: Axes | None, n: int) -> tuple[int, ...]:
    """Axes counted from the front; None means all. Raises ShapeError for missing or repeated axes."""
    if axis is None:
        return tuple(range(n))
    given = axis if isinstance(axis, Sequence) else (axis,)
    axes = tuple(normalise_axis(op, a, n) for a in given)
    if len(set(axes)) < len(axes):
        raise ShapeError(f"{op}: an axis is named twice in {tuple(given)}")
    return axes


def inverse(order: Sequence[int]) -> tuple[int, ...]:
    """The permutation that undoes a permutation."""
    return tuple(sorted(range(len(order)), key=order.__getitem__))


# --- shape -----------------------------------------------------------------------------------------------


@primitive(lambda g, ans, x, shape: g.reshape(x.shape))
def _reshape(x: Any, *, shape: tuple[int, ...]) -> Any:
    return np.reshape(x, shape)


@public
def reshape(x: Any, shape: Axes) -> Any:
    """x with another shape of as many elements; one length may be -1.

    >>> reshape(np.arange(4), (2, -1)).shape
    (2, 2)
    """
    return _reshape(x, shape=tuple(shape) if isinstance(shape, Sequence) else (shape,))


@public
def expand_dims(x: Any, axis: Axes) -> Any:
    """x with an axis of length 1 at each of the given places.

    >>> expand_dims(np.ones(3), (0, -1)).shape
    (1, 3, 1)
    """
    count = len(axis) if isinstance(axis, Sequence) else 1
    axes = normalise_axes("expand_dims", axis, ndim(x) + count)
    lengths = iter(x.shape if hasattr(x, "shape") else np.shape(x))
    return reshape(x, tuple(1 if a in axes else next(lengths) for a in range(ndim(x) + count)))


@public
def squeeze(x: Any, axis: Axes | None = None) -> Any:
    """x without its axes of length 1, or without those given.

    Raises ShapeError when a given axis has another length.

    >>> squeeze(np.ones((1, 3, 1))).shape
    (3,)
    """
    shape = x.shape if hasattr(x, "shape") else np.shape(x)
    if axis is None:
        return reshape(x, tuple(n for n in shape if n != 1))
    axes = normalise_axes("squeeze", axis, len(shape))
    for a in axes:
        if shape[a] != 1:
            raise ShapeError(f"squeeze: axis {a} of shape {tuple(shape)} has length {shape[a]}, not 1")
    return reshape(x, tuple(n for a, n in enumerate(shape) if a not in axes))


@primitive(lambda g, ans, x, shape: g, broadcasts=True)
def _broadcast_to(x: Any, *, shape: tuple[int, ...]) -> Any:
    return np.broadcast_to(x, shape)


@public
def broadcast_to(x: Any, shape: Axes) -> Any:
    """x repeated along axes of length 1, and along new axes in front, to fill `shape`.

    >>> broadcast_to(np.ones(3), (2, 3)).shape
    (2, 3)
    """
    return _broadcast_to(x, shape=tuple(shape) if isinstance(shape, Sequence) else (shape,))


@primitive(lambda g, ans, x, axes: _transpose(g, axes=inverse(axes)))
def _transpose(x: Any, *, axes: tuple[int, ...]) -> Any:
    return np.transpose(x, axes)


@public
def transpose(x: Any, axes: Sequence[int] | None = None) -> Any:
    """x with its axes in the given order, or reversed.

    >>> transpose(np.ones((2, 3))).shape
    (3, 2)
    """
    n = ndim(x)
    order = tuple(range(n))[::-1] if axes is None else normalise_axes("transpose", axes, n)
    if len(order) != n:
        raise ShapeError(f"transpose: axes {tuple(order)} do not name each of the {n} axes once")
    return _transpose(x, axes=order)


@public
def swapaxes(x: Any, axis1: int, axis2: int) -> Any:
    """x with two axes exchanged.

    >>> swapaxes(np.ones((2, 3, 4)), 0, -1).shape
    (4, 3, 2)
    """
    order = list(range(ndim(x)))
    a = normalise_axis("swapaxes", axis1, len(order))
    b = normalise_axis("swapaxes", axis2, len(order))
    order[a], order[b] = order[b], order[a]
    return _transpose(x, axes=tuple(order))


# --- joining and splitting -------------------------------------------------------------------------------


# Both rules give all cotangents at once: T operands, each with a rule that is handed all T, would make an
# unrolled graph quadratic in T.


def _concatenate_vjp(g: Any, ans: Any, *xs: Any, axis: int) -> tuple[Any, ...]:
    front = (slice(None),) * axis
    cuts = list(accumulate((x.shape[axis] for x in xs), initial=0))
    parts = [(*front, slice(start, stop)) for start, stop in pairwise(cuts)]
    return tuple(g[part] for part in parts)


@primitive(_concatenate_vjp, joint=True)
def _concatenate(*xs: Any, axis: int) -> Any:
    return np.concatenate(xs, axis)


@public
def concatenate(xs: Sequence[Any], axis: int = 0) -> Any:
    """The operands joined along an axis they already have.

    >>> concatenate([np.ones(2), np.zeros(1)])
    array([1., 1., 0.])
    """
    if not len(xs):
        raise ShapeError("concatenate: needs at least one operand")
    return _concatenate(*xs, axis=normalise_axis("concatenate", axis, ndim(xs[0])))


def _stack_vjp(g: Any, ans: Any, *xs: Any, axis: int) -> tuple[Any, ...]:
    parts = [(slice(None),) * axis + (i,) for i in range(len(xs))]
    return tuple(g[part] for part in parts)


@primitive(_stack_vjp, joint=True)
def _stack(*xs: Any, axis: int) -> Any:
    return np.stack(xs, axis)


@public
def stack(xs: Sequence[Any], axis: int = 0) -> Any:
    """Operands of one shape joined along a new axis.

    >>> stack([np.ones(2), np.zeros(2)]).shape
    (2, 2)
    """
    if not len(xs):
        raise ShapeError("stack: needs at least one operand")
    return _stack(*xs, axis=normalise_axis("stack", axis, ndim(xs[0]) + 1))


@public
def split(x: Any, indices_or_sections: int | Sequence[int], axis: int = 0) -> list[Any]:
    """x cut along an axis, into equal parts or before the given indices.

    Raises ShapeError when equal parts are not possible.

    >>> [part.shape for part in split(np.ones(5), [2, 3])]
    [(2,), (1,), (2,)]
    """
    axis = normalise_axis("split", axis, ndim(x))
    n = x.shape[axis]
    if isinstance(indices_or_sections, int):
        sections = indices_or_sections
        if sections < 1 or n % sections:
            raise ShapeError(f"split: an axis of length {n} cannot be cut into {sections} equal parts")
        cuts = list(range(0, n + 1, n // sections)) if n else [0] * (sections + 1)
    else:
        cuts = [0, *indices_or_sections, n]
    front = (slice(None),) * axis
    # As a variable, because x[*front, ...] is not Python 3.10.
    parts = [(*front, slice(a, b)) for a, b in pairwise(cuts)]
    return [x[part] for part in parts]


# --- order and edges -------------------------------------------------------------------------------------


def _pad_vjp(g: Any, ans: Any, x: Any, widths: tuple[tuple[int, int], ...], value: float) -> Any:
    return g[tuple(slice(before, before + n) for (before, _), n in zip(widths, x.shape, strict=True))]


@primitive(_pad_vjp)
def _pad(x: Any, *, widths: tuple[tuple[int, int], ...], value: float) -> Any:
    return np.pad(x, widths or 0, constant_values=value)


@public
def pad(x: Any, pad_width: Any, constant_values: float = 0) -> Any:
    """x with a constant border; `pad_width` as NumPy takes it: one number, a pair, or a pair an axis.

    >>> pad(np.ones(2), (1, 2))
    array([0., 1., 1., 0., 0.])
    """
    pairs = np.broadcast_to(np.asarray(pad_width, dtype=np.int64), (ndim(x), 2))
    if (pairs < 0).any():
        raise ShapeError(f"pad: widths cannot be negative, but {pad_width!r} was given")
    return _pad(x, widths=tuple((int(a), int(b)) for a, b in pairs), value=constant_values)


@primitive(lambda g, ans, x, axes: _flip(g, axes=axes))
def _flip(x: Any, *, axes: tuple[int, ...]) -> Any:
    return np.flip(x, axes)


@public
def flip(x: Any, axis: Axes | None = None) -> Any:
    """x in reverse order along the given axes, or along all.

    >>> flip(np.arange(3))
    array([2, 1, 0])
    """
    return _flip(x, axes=normalise_axes("flip", axis, ndim(x)))


@primitive(
    lambda g, ans, x, shift, axes: _roll(g, shift=tuple(-s for s in shift), axes=axes),
)
def _roll(x: Any, *, shift: tuple[int, ...], axes: tuple[int, ...]) -> Any:
    return np.roll(x, shift, axes)


@public
def roll(x: Any, shift: Axes, axis: Axes | None = None) -> Any:
    """x with elements moved `shift` places along an axis, those at the end coming in at the front.

    Without an axis the elements move in flat order.

    >>> roll(np.arange(4), 1)
    array([3, 0, 1, 2])
    """
    if axis is None:
        shape = x.shape if hasattr(x, "shape") else np.shape(x)
        return reshape(roll(reshape(x, (-1,)), shift, 0), tuple(shape))
    axes = tuple(
        normalise_axis("roll", a, ndim(x)) for a in (axis if isinstance(axis, Sequence) else (axis,))
    )
    shifts = tuple(shift) if isinstance(shift, Sequence) else (shift,) * len(axes)
    return _roll(x, shift=shifts, axes=axes)
