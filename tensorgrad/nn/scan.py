"""Linear recurrences over a whole sequence as one operation, instead of one small step after another."""

from __future__ import annotations

from typing import Any

import numpy as np

from tensorgrad.op import primitive
from tensorgrad.ops import concatenate, index_add, stack

__all__ = ["linear_scan"]


def linear_scan(a: Any, b: Any, start: Any = None) -> Any:
    """All h_t of h_t = a_t * h_(t-1) + b_t, element by element, with time on axis 0.

    b: (T, ...), T at least 1. a: of the same shape, or broadcast to it. start: h before the first step,
        (...), zeros unless given. Result: the shape of b.
    Complex numbers are pairs (re, im) of arrays: then a, b, start and the result are pairs, all of them.
    One node of the graph, whose gradient is the same recurrence backwards; differentiable to any order.
    Raises ShapeError for shapes that do not fit.
    Source: Martin, Cundy, "Parallelizing Linear Recurrent Neural Nets Over Sequence Length" (2018).

    >>> linear_scan(np.array([0.5, 0.5, 0.5]), np.array([1.0, 0.0, 4.0]))
    array([1.  , 0.5 , 4.25])
    """
    pairs = isinstance(b, tuple)
    if pairs:
        a, b = stack(a, -1), stack(b, -1)
        start = None if start is None else stack(start, -1)
    if start is not None:
        first = a[0] if a.ndim == b.ndim else a
        b = index_add(b, 0, _times(first, start, pairs))
    h = _scan(a, b, pairs=pairs, backwards=False)
    return (h[..., 0], h[..., 1]) if pairs else h


def _times(x: Any, y: Any, pairs: bool) -> Any:
    """x * y; of complex numbers, if the last axis is (re, im)."""
    if not pairs:
        return x * y
    re = x[..., 0] * y[..., 0] - x[..., 1] * y[..., 1]
    im = x[..., 0] * y[..., 1] + x[..., 1] * y[..., 0]
    return stack([re, im], -1)


def _conjugate(x: Any, pairs: bool) -> Any:
    return x * np.array([1, -1], x.dtype) if pairs else x


def _scan_vjp(g: Any, ans: Any, a: Any, b: Any, pairs: bool, backwards: bool) -> tuple[Any, Any]:
    through = _scan(_conjugate(a, pairs), g, pairs=pairs, backwards=not backwards)
    # a_t links the states of t - 1 and t, and the first links nothing.
    before, after = (through, ans) if backwards else (ans, through)
    links = _times(_conjugate(before[:-1], pairs), after[1:], pairs)
    if backwards:
        links = _conjugate(links, pairs)
    return concatenate([np.zeros((1, *b.shape[1:]), b.dtype), links]), through


@primitive(_scan_vjp, joint=True, broadcasts=True, name="linear_scan")
def _scan(a: Any, b: Any, *, pairs: bool, backwards: bool) -> Any:
    """h_0 = b_0, h_t = a_t * h_(t-1) + b_t; or backwards, its adjoint, h_t = a_(t+1) * h_(t+1) + b_t.

    A loop of two operations in place, about a microsecond a timestep. Recursive doubling and the tree of an
    associative scan take fewer steps but more work: here they are slower from some 64 elements a step on.
    """
    if not b.ndim or not len(b):
        raise ValueError(f"needs at least one timestep on axis 0, but b has shape {b.shape}")
    if np.broadcast_shapes(a.shape, b.shape) != b.shape:
        raise ValueError(f"a of shape {a.shape} does not broadcast to b of shape {b.shape}")
    if pairs:
        a, b = _as_complex(a), _as_complex(b)
    # Rows of one element each where b has no axis but time: an `out` must be an array.
    a, b = np.broadcast_to(a, b.shape)[..., None], b[..., None]
    h = np.empty(b.shape, np.result_type(a, b))
    steps = (a[:0:-1], b[-2::-1], h[-2::-1]) if backwards else (a[1:], b[1:], h[1:])
    end = -1 if backwards else 0
    h[end] = b[end]
    before = h[end]
    for link, share, state in zip(*steps, strict=True):
        np.multiply(link, before, out=state)
        np.add(state, share, out=state)
        before = state
    return h.view(h.real.dtype) if pairs else h[..., 0]


def _as_complex(x: Any) -> Any:
    return np.ascontiguousarray(x).view(np.result_type(x, np.complex64))[..., 0]
