"""Indexing: reading parts of an array, and writing into a copy of one.

Every index is split into a static template (slices, integers, None, Ellipsis) and the index arrays, which
are operands. The cotangent of an indexed operand is a `Scatter`: T slices of one array cost one buffer.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tensorgrad.cotangents import Scatter
from tensorgrad.errors import ShapeError
from tensorgrad.graph import Operand
from tensorgrad.op import primitive, public
from tensorgrad.ops.shape import ndim, normalise_axis, reshape

_ARRAY = "array"
"""Stands in a template where an index array goes."""

Template = tuple[Any, ...]


def _split(index: Any) -> tuple[Template, list[Any]]:
    """An index as template and arrays."""
    template: list[Any] = []
    arrays: list[Any] = []
    for part in index if isinstance(index, tuple) else (index,):
        # bool is an int to Python, but a mask of no axes to NumPy.
        number = isinstance(part, (int, np.integer)) and not isinstance(part, bool)
        if number or part is None or part is Ellipsis or isinstance(part, slice):
            template.append(part)
        else:
            template.append(_ARRAY)
            arrays.append(part if isinstance(part, (Operand, np.ndarray)) else _index_array(part))
    return tuple(template), arrays


def _index_array(part: Any) -> Any:
    array = np.asarray(part)
    return array.astype(np.intp) if array.size == 0 and array.dtype.kind == "f" else array


def _join(template: Template, arrays: tuple[Any, ...]) -> Any:
    if not arrays:
        return template
    source = iter(arrays)
    return tuple(next(source) if part is _ARRAY else part for part in template)


def add_rows(buffer: Any, rows: Any, g: Any) -> None:
    """buffer[rows[i]] += g[i] for an integer array `rows`, equal rows added up.

    Sorts and sums runs: several times faster than `np.add.at` on matrices.
    """
    # As wide as any length: 8-bit ids would overflow where the length is added to a negative one.
    rows = np.asarray(rows).reshape(-1).astype(np.intp, copy=False)
    if not rows.size:
        return
    g = g.reshape(rows.size, -1)
    rows = np.where(rows < 0, rows + len(buffer), rows)
    order = np.argsort(rows, kind="stable")
    ordered = rows[order]
    starts = np.flatnonzero(np.concatenate(([True], ordered[1:] != ordered[:-1])))
    sums = np.add.reduceat(g[order], starts, axis=0)
    buffer[ordered[starts]] += sums.reshape(len(sums), *buffer.shape[1:])


def _adder(template: Template, arrays: tuple[Any, ...]) -> Any:
    """The function (buffer, g) that adds g at an index, repeated elements included."""
    index = _join(template, arrays)
    if all(np.asarray(a).dtype.kind == "b" for a in arrays):

        def add(buffer: Any, g: Any) -> None:
            buffer[index] += g

    elif template == (_ARRAY,):

        def add(buffer: Any, g: Any) -> None:
            add_rows(buffer, arrays[0], g)

    else:

        def add(buffer: Any, g: Any) -> None:
            np.add.at(buffer, index, g)

    return add


# --- reading ---------------------------------------------------------------------------------------------


def _getitem_vjp(g: Any, ans: Any, x: Any, *arrays: Any, template: Template) -> Any:
    if isinstance(g, Operand):
        return _scatter(g, *arrays, template=template, shape=x.shape)
    return Scatter(x.shape, g, _adder(template, arrays))


@primitive(_getitem_vjp)
def _getitem(x: Any, *arrays: Any, template: Template) -> Any:
    return x[_join(template, arrays)]


def getitem(x: Any, index: Any) -> Any:
    """x[index], for every index NumPy knows: integers, slices, None, Ellipsis, integer and boolean arrays.

    Raises ShapeError for an index out of range.

    >>> getitem(np.arange(6).reshape(2, 3), (1, slice(None, 2)))
    array([3, 4])
    """
    template, arrays = _split(index)
    return _getitem(x, *arrays, template=template)


@primitive(lambda g, ans, value, *arrays, template, shape: _getitem(g, *arrays, template=template))
def _scatter(value: Any, *arrays: Any, template: Template, shape: tuple[int, ...]) -> Any:
    buffer = np.zeros(shape, value.dtype)
    _adder(template, arrays)(buffer, value)
    return buffer


@public
def take(x: Any, indices: Any, axis: int | None = None) -> Any:
    """The elements of x at integer `indices` along an axis, or in flat order.

    The result has the shape of `indices` in place of the axis. Raises ShapeError for an index out of range.

    >>> take(np.array([[1, 2], [3, 4]]), [1, 0, 1], axis=0)
    array([[3, 4],
           [1, 2],
           [3, 4]])
    """
    if axis is None:
        return take(reshape(x, (-1,)), indices, 0)
    if not isinstance(indices, Operand):
        indices = _index_array(indices)
    front = (slice(None),) * normalise_axis("take", axis, ndim(x))
    return getitem(x, (*front, indices))


@public
def take_along_axis(x: Any, indices: Any, axis: int) -> Any:
    """Along an axis, the elements whose places `indices` gives for each row: out[i, j] = x[i, indices[i, j]].

    indices: integers, with as many axes as x; other axes broadcast. Raises ShapeError otherwise.

    >>> take_along_axis(np.array([[1, 2], [3, 4]]), np.array([[1], [0]]), axis=1)
    array([[2],
           [3]])
    """
    n = ndim(x)
    axis = normalise_axis("take_along_axis", axis, n)
    if ndim(indices) != n:
        raise ShapeError(f"take_along_axis: indices have {ndim(indices)} axes, but the operand has {n}")
    shape = x.shape
    index = [
        indices if a == axis else np.arange(shape[a]).reshape((-1,) + (1,) * (n - 1 - a)) for a in range(n)
    ]
    return getitem(x, tuple(index))


# --- writing into a copy ---------------------------------------------------------------------------------


def _update_vjp_value(g: Any, ans: Any, x: Any, value: Any, *arrays: Any, template: Template) -> Any:
    read = _getitem(g, *arrays, template=template)
    return read * _stays(g, *arrays, template=template) if arrays else read


@primitive(differentiable=False)
def _stays(x: Any, *arrays: Any, template: Template) -> Any:
    """1 for each element that a write at an index of x leaves there, 0 for one that a later element covers.

    Where an index names an element twice the last value stays, and it alone has a gradient.
    """
    index = _join(template, arrays)
    writer = np.zeros(x.shape, np.intp)
    order = np.arange(writer[index].size).reshape(writer[index].shape)
    writer[index] = order
    return (writer[index] == order).astype(x.dtype)


def _update_vjp_x(g: Any, ans: Any, x: Any, value: Any, *arrays: Any, template: Template) -> Any:
    return _index_update(g, 0, *arrays, template=template)


@primitive(_update_vjp_x, _update_vjp_value, broadcasts=True)
def _index_update(x: Any, value: Any, *arrays: Any, template: Template) -> Any:
    out = np.array(x)
    if not np.can_cast(np.asarray(value).dtype, out.dtype, "same_kind"):
        raise TypeError(
            f"{np.asarray(value).dtype} values cannot be written into {out.dtype}; use astype first"
        )
    out[_join(template, arrays)] = value
    return out


def index_update(x: Any, index: Any, value: Any) -> Any:
    """A copy of x in which x[index] is `value`; where an index repeats, the last value stays.

    >>> index_update(np.zeros(3), slice(1, None), 5.0)
    array([0., 5., 5.])
    """
    template, arrays = _split(index)
    return _index_update(x, value, *arrays, template=template)


def _add_vjp_value(g: Any, ans: Any, x: Any, value: Any, *arrays: Any, template: Template) -> Any:
    return _getitem(g, *arrays, template=template)


@primitive(lambda g, ans, x, value, *arrays, template: g, _add_vjp_value, broadcasts=True)
def _index_add(x: Any, value: Any, *arrays: Any, template: Template) -> Any:
    out = np.array(x)
    place = out[_join(template, arrays)]
    _adder(template, arrays)(out, np.broadcast_to(value, place.shape))
    return out


def index_add(x: Any, index: Any, value: Any) -> Any:
    """A copy of x in which `value` is added at x[index]; where an index repeats, all values are added.

    >>> index_add(np.zeros(3), [1, 1], np.array([5.0, 1.0]))
    array([0., 6., 0.])
    """
    template, arrays = _split(index)
    return _index_add(x, value, *arrays, template=template)
