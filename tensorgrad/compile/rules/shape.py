"""Operations that move elements, and indexing."""

from __future__ import annotations

from typing import Any

from tensorgrad.compile.builder import Builder
from tensorgrad.compile.rules.registry import rule
from tensorgrad.ops import index, shape


@rule(shape._reshape)
def _reshape(b: Builder, node: Any, x: Any, shape: Any) -> Any:
    return b.reshape(x, node._value.shape)


@rule(shape._broadcast_to)
def _broadcast_to(b: Builder, node: Any, x: Any, shape: Any) -> Any:
    return b.broadcast(x, node._value.shape)


@rule(shape._transpose)
def _transpose(b: Builder, node: Any, x: Any, axes: Any) -> Any:
    return b.transpose(x, axes)


@rule(shape._flip)
def _flip(b: Builder, node: Any, x: Any, axes: Any) -> Any:
    return b.emit("flip", [x], x.shape, x.dtype, axes=axes)


@rule(shape._concatenate)
def _concatenate(b: Builder, node: Any, *xs: Any, axis: int) -> Any:
    return b.emit("concatenate", xs, node._value.shape, node._value.dtype, axis=axis)


@rule(shape._stack)
def _stack(b: Builder, node: Any, *xs: Any, axis: int) -> Any:
    rows = [b.reshape(x, (*x.shape[:axis], 1, *x.shape[axis:])) for x in xs]
    return b.emit("concatenate", rows, node._value.shape, node._value.dtype, axis=axis)


@rule(shape._pad)
def _pad(b: Builder, node: Any, x: Any, widths: Any, value: Any) -> Any:
    return b.emit("pad", [x], node._value.shape, x.dtype, widths=widths, value=value)


@rule(shape._roll)
def _roll(b: Builder, node: Any, x: Any, shift: Any, axes: Any) -> Any:
    return b.emit("roll", [x], x.shape, x.dtype, shift=shift, axes=axes)


# --- indexing ----------------------------------------------------------------------------------------------
@rule(index._getitem)
def _getitem(b: Builder, node: Any, x: Any, *arrays: Any, template: Any) -> Any:
    if arrays:
        return b.emit("gather", [x, *arrays], node._value.shape, x.dtype, template=template)
    if Ellipsis in template:
        k = template.index(Ellipsis)
        named = sum(part is not None for part in template) - 1
        template = (*template[:k], *(slice(None),) * (x.ndim - named), *template[k + 1 :])
    return b.index(x, template)


@rule(index._scatter)
def _scatter(b: Builder, node: Any, value: Any, *arrays: Any, template: Any, shape: Any) -> Any:
    return b.emit(
        "scatter",
        [value, *arrays],
        node._value.shape,
        value.dtype,
        template=template,
        shape=node._value.shape,
    )


@rule(index._index_update)
def _index_update(b: Builder, node: Any, x: Any, value: Any, *arrays: Any, template: Any) -> Any:
    return b.emit("updated", [x, value, *arrays], x.shape, x.dtype, template=template)


@rule(index._index_add)
def _index_add(b: Builder, node: Any, x: Any, value: Any, *arrays: Any, template: Any) -> Any:
    return b.emit("added", [x, value, *arrays], x.shape, x.dtype, template=template)


@rule(index._stays)
def _stays(b: Builder, node: Any, x: Any, *arrays: Any, template: Any) -> Any:
    return b.emit("stays", [x, *arrays], node._value.shape, node._value.dtype, template=template)
