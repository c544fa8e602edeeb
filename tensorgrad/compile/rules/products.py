"""Products of vectors and matrices, sums of products, and systems of equations."""

from __future__ import annotations

from typing import Any

import numpy as np

from tensorgrad.compile.builder import Builder, broadcast_shape
from tensorgrad.compile.rules.registry import rule
from tensorgrad.ops import linalg


@rule(linalg.matmul)
def _matmul(b: Builder, node: Any, x: Any, y: Any) -> Any:
    return b.dot(x, y)


def _by_weight(b: Builder, x: Any, weight: Any) -> Any:
    return b.dot(x, b.transpose(weight, (1, 0)))


@rule(linalg._linear)
def _linear(b: Builder, node: Any, x: Any, weight: Any, *bias: Any) -> Any:
    out = _by_weight(b, x, weight)
    return b.map("add", out, bias[0]) if bias else out


@rule(linalg.affine)
def _affine(b: Builder, node: Any, x: Any, W: Any, h: Any, U: Any, *biases: Any) -> Any:
    # What is added to the share of x can be added for all timesteps at once.
    if len(biases) == 2 and biases[0].shape == biases[1].shape:
        biases = (b.map("add", *biases, name="bias_sum"),)
    out = _by_weight(b, x, W)
    for bias in biases:
        out = b.map("add", out, bias)
    out.name = f"{node.name or 'a'}_x"
    from_h = _by_weight(b, h, U)
    from_h.name = f"{node.name or 'a'}_h"
    return b.map("add", out, from_h)


# --- matrices ----------------------------------------------------------------------------------------------
@rule(linalg.inv)
def _inv(b: Builder, node: Any, x: Any) -> Any:
    return b.emit("inv", [x], x.shape, node._value.dtype)


@rule(linalg.solve)
def _solve(b: Builder, node: Any, a: Any, y: Any) -> Any:
    columns = b.reshape(y, (*y.shape, 1)) if y.ndim == 1 else y
    # NumPy 1 would take a y with one axis less than a for a stack of vectors.
    columns = b.reshape(columns, (*(1,) * (a.ndim - columns.ndim), *columns.shape))
    stacks = broadcast_shape([a.shape[:-2], columns.shape[:-2]])
    out = b.emit("solve", [a, columns], (*stacks, *columns.shape[-2:]), node._value.dtype)
    return b.reshape(out, node._value.shape)


# --- sums of products --------------------------------------------------------------------------------------
@rule(linalg._einsum)
def _einsum(b: Builder, node: Any, *xs: Any, terms: tuple[str, ...], out: str) -> Any:
    """Two operands at a time, in the order that NumPy would take them; each pair is a product of stacks."""
    lengths: dict[str, Any] = {}
    for term, x in zip(terms, xs, strict=True):
        for letter, n in zip(term, x.shape, strict=True):
            lengths[letter] = n if lengths.get(letter, 1) == 1 else lengths[letter]
    parts = [_plain(b, term, x, lengths) for term, x in zip(terms, xs, strict=True)]
    for chosen in _order(parts, out, lengths):
        taken = [parts[k] for k in chosen]
        parts = [p for k, p in enumerate(parts) if k not in chosen]
        while len(taken) > 1:
            wanted = set(out).union(*(term for term, _ in (*parts, *taken[2:])))
            taken[:2] = [_pair(b, *taken[0], *taken[1], wanted)]
        parts += taken
    term, x = _summed(b, *parts[0], set(out))
    x = b.transpose(x, [term.index(c) for c in out if c in term])
    return b.reshape(x, [lengths[c] for c in out])


def _order(parts: list[tuple[str, Any]], out: str, lengths: dict[str, Any]) -> list[tuple[int, ...]]:
    """Which of the operands left meet, one time after the other; results go to the end."""
    if len(parts) <= 2:
        return [(0, 1)] * (len(parts) - 1)
    subscripts = ",".join(t for t, _ in parts) + "->" + "".join(c for c in out if lengths[c] != 1)
    shapes = [np.broadcast_to(np.False_, x.shape) for _, x in parts]
    path: list[tuple[int, ...]] = np.einsum_path(subscripts, *shapes, optimize="greedy")[0][1:]
    return path


def _plain(b: Builder, term: str, x: Any, lengths: dict[str, Any]) -> tuple[str, Any]:
    """An operand in which every letter stands once, for an axis longer than 1."""
    while repeated := next((c for c in term if term.count(c) > 1), None):
        i, j = (k for k, c in enumerate(term) if c == repeated and term[:k].count(c) < 2)
        x, term = _diagonal(b, x, i, j), term[:j] + term[j + 1 :]
    kept = [k for k, c in enumerate(term) if x.shape[k] != 1]
    x = b.reshape(x, [x.shape[k] for k in kept])
    return "".join(term[k] for k in kept), x


def _diagonal(b: Builder, x: Any, i: int, j: int) -> Any:
    """Axis i of the elements whose places along the axes i and j are the same."""
    n = x.shape[i]
    rest = [k for k in range(x.ndim) if k not in (i, j)]
    rows = b.emit("arange", [], (n,), np.intp, n=n)
    turned = b.transpose(x, (i, j, *rest))
    picked = b.emit("gather", [turned, rows, rows], turned.shape[1:], x.dtype, template=("array", "array"))
    return b.transpose(picked, [*range(1, i + 1), 0, *range(i + 1, picked.ndim)])


def _summed(b: Builder, term: str, x: Any, wanted: set[str]) -> tuple[str, Any]:
    """An operand without the axes that nobody wants."""
    axes = tuple(k for k, c in enumerate(term) if c not in wanted)
    return "".join(c for c in term if c in wanted), b.sum(x, axes, False) if axes else x


def _pair(b: Builder, s: str, x: Any, t: str, y: Any, wanted: set[str]) -> tuple[str, Any]:
    """The product of two operands, summed over the letters that are in both and wanted by none."""
    s, x = _summed(b, s, x, wanted | set(t))
    t, y = _summed(b, t, y, wanted | set(s))
    both = [c for c in s if c in t and c in wanted]
    inner = [c for c in s if c in t and c not in wanted]
    left, right = [c for c in s if c not in t], [c for c in t if c not in s]
    lengths = dict(zip(s, x.shape, strict=True)) | dict(zip(t, y.shape, strict=True))

    def laid_out(term: str, value: Any, *groups: list[str]) -> Any:
        value = b.transpose(value, [term.index(c) for group in groups for c in group])
        stack, *matrix = groups
        return b.reshape(value, [*(lengths[c] for c in stack), *(_size(lengths, group) for group in matrix)])

    if inner:
        out = b.dot(laid_out(s, x, both, left, inner), laid_out(t, y, both, inner, right))
    else:
        out = b.map("multiply", laid_out(s, x, both, left, []), laid_out(t, y, both, [], right))
    letters = both + left + right
    return "".join(letters), b.reshape(out, [lengths[c] for c in letters])


def _size(lengths: dict[str, Any], letters: list[str]) -> int:
    return int(np.prod([lengths[c] for c in letters], dtype=np.int64))
