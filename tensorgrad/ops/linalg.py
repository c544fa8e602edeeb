"""Products of vectors, matrices and stacks of matrices, and the little linear algebra the analyses need.

The gradient of a matrix (a weight, above all) is a `Product`: kept in factors until the walk has gathered
enough of them, so that a weight shared by T timesteps costs few large products instead of T small ones.
"""

from __future__ import annotations

import builtins
import string
from collections.abc import Sequence
from typing import Any

import numpy as np

from tensorgrad.cotangents import Product, Rows
from tensorgrad.errors import ShapeError
from tensorgrad.op import Variadic, primitive, public
from tensorgrad.ops.elementwise import abs, equal, power, where
from tensorgrad.ops.index import getitem
from tensorgrad.ops.reduce import max, min, sum
from tensorgrad.ops.shape import (
    Axes,
    broadcast_to,
    expand_dims,
    ndim,
    normalise_axes,
    normalise_axis,
    reshape,
    squeeze,
    swapaxes,
    transpose,
)


def _turned(x: Any) -> Any:
    """A stack of matrices, each transposed."""
    return swapaxes(x, -1, -2)


def _rows(x: Any) -> Any:
    """All leading axes as one: (..., n) as (rows, n)."""
    if x.ndim == 2:
        return x
    count = 1
    for n in x.shape[:-1]:
        count *= n
    return reshape(x, (count, x.shape[-1]))


def _product(left: Any, right: Any) -> Any:
    """left.T @ right over all leading axes, put off until it must be computed."""
    if left.ndim != 2 or right.ndim != 2:
        left, right = _rows(left), _rows(right)
    if left.__class__ is np.ndarray and right.__class__ is np.ndarray:
        return Product(left, right)
    return matmul(_turned(left), right)


# --- products --------------------------------------------------------------------------------------------


def _matmul_vjp_a(g: Any, ans: Any, a: Any, b: Any) -> Any:
    if b.ndim == 1:
        return g * b if a.ndim == 1 else expand_dims(g, -1) * b
    if a.ndim == 1:
        return squeeze(matmul(b, expand_dims(g, -1)), -1)
    return matmul(g, _turned(b))


def _matmul_vjp_b(g: Any, ans: Any, a: Any, b: Any) -> Any:
    if a.ndim == 1:
        return g * a if b.ndim == 1 else expand_dims(a, -1) * expand_dims(g, -2)
    if b.ndim == 1:
        return squeeze(matmul(_turned(a), expand_dims(g, -1)), -1)
    if b.ndim == 2:
        return _product(a, g)
    return matmul(_turned(a), g)


@public
@primitive(_matmul_vjp_a, _matmul_vjp_b, broadcasts=True)
def matmul(a: Any, b: Any) -> Any:
    """The matrix product a @ b; vectors are rows on the left and columns on the right, stacks broadcast.

    Raises ShapeError when the inner lengths differ.

    >>> matmul(np.ones((2, 3)), np.ones(3))
    array([3., 3.])
    """
    a, b = np.asarray(a), np.asarray(b)
    if a.ndim and b.ndim and a.shape[-1] != b.shape[-2 if b.ndim > 1 else 0]:
        inner = b.shape[-2 if b.ndim > 1 else 0]
        raise ValueError(
            f"the rows on the left have {a.shape[-1]} elements, the columns on the right {inner}"
        )
    if a.ndim > 2 and b.ndim == 2:
        # One product over all rows instead of one for each matrix of the stack.
        return np.dot(_rows(a), b).reshape(*a.shape[:-1], b.shape[-1])
    return np.matmul(a, b)


def _by_weight(x: Any, weight: Any) -> Any:
    """x @ weight.T on arrays. Raises ValueError when they do not fit."""
    if weight.ndim != 2 or not x.ndim:
        raise ValueError("the weight must be a matrix (H, D), and x have an axis of length D")
    if x.shape[-1] != weight.shape[1]:
        raise ValueError(f"x has {x.shape[-1]} features, but the weight takes {weight.shape[1]}")
    # dot is the faster call for matrices; stacks of them are one matrix with more rows.
    return x.dot(weight.T) if x.ndim <= 2 else _rows(x).dot(weight.T).reshape(*x.shape[:-1], len(weight))


def _plus(out: Any, term: Any) -> Any:
    """out + term, in place where the result has the shape and dtype of `out`."""
    if out.dtype == term.dtype and out.ndim >= term.ndim and out.ndim:
        return np.add(out, term, out=out)
    return out + term


def _x_share(g: Any, weight: Any) -> Any:
    return g.dot(weight) if g.ndim <= 2 else matmul(g, weight)


def _weight_share(g: Any, x: Any) -> Any:
    if g.shape[:-1] != x.shape[:-1]:
        # A bias of more rows than x.
        x = broadcast_to(x, (*g.shape[:-1], x.shape[-1]))
    return _product(expand_dims(g, 0), expand_dims(x, 0)) if x.ndim == 1 else _product(g, x)


def _bias_share(g: Any, bias: Any) -> Any:
    if bias.ndim == 1 and g.ndim == 2 and g.__class__ is np.ndarray and g.shape[1] == len(bias):
        return Rows(g)
    return g


@primitive(
    lambda g, ans, x, weight, *bias: _x_share(g, weight),
    lambda g, ans, x, weight, *bias: _weight_share(g, x),
    lambda g, ans, x, weight, bias: _bias_share(g, bias),
    broadcasts=True,
)
def _linear(x: Any, weight: Any, *bias: Any) -> Any:
    out = _by_weight(x, weight)
    return _plus(out, bias[0]) if bias else out


def linear(x: Any, weight: Any, bias: Any = None) -> Any:
    """x @ weight.T + bias, in one operation because every cell is made of it.

    x (..., D), weight (H, D), bias (H,) or none; gives (..., H). Raises ShapeError when they do not fit.

    >>> linear(np.ones(3), np.ones((2, 3)), np.array([0.0, 1.0]))
    array([3., 4.])
    """
    return _linear(x, weight) if bias is None else _linear(x, weight, bias)


@primitive(
    lambda g, ans, x, W, h, U, *biases: _x_share(g, W),
    lambda g, ans, x, W, h, U, *biases: _weight_share(g, x),
    lambda g, ans, x, W, h, U, *biases: _x_share(g, U),
    lambda g, ans, x, W, h, U, *biases: _weight_share(g, h),
    lambda g, ans, x, W, h, U, bias, *rest: _bias_share(g, bias),
    lambda g, ans, x, W, h, U, bias, other: _bias_share(g, other),
    broadcasts=True,
)
def affine(x: Any, W: Any, h: Any, U: Any, *biases: Any) -> Any:
    """x @ W.T + h @ U.T + biases: the pre-activation of a recurrent cell, in one operation.

    x (..., D), W (H, D), h (..., K), U (H, K), up to two biases (H,); gives (..., H).
    Raises ShapeError when they do not fit.

    >>> affine(np.ones(3), np.ones((2, 3)), np.ones(2), np.eye(2))
    array([4., 4.])
    """
    out = _plus(_by_weight(x, W), _by_weight(h, U))
    for bias in biases:
        out = _plus(out, bias)
    return out


@public
def dot(a: Any, b: Any) -> Any:
    """NumPy's dot: the inner product of vectors, else the last axis of a against the last but one of b.

    >>> dot(np.array([1.0, 2.0]), np.array([3.0, 4.0])).item()
    11.0
    """
    if not (ndim(a) and ndim(b)):
        return a * b
    if ndim(b) <= 2:
        return matmul(a, b)
    n = ndim(b)
    order = (n - 2, *(axis for axis in range(n) if axis != n - 2))
    columns = reshape(transpose(b, order), (b.shape[-2], -1))
    return reshape(matmul(a, columns), (*a.shape[:-1], *b.shape[:-2], b.shape[-1]))


@public
def outer(a: Any, b: Any) -> Any:
    """The products of every element of a with every element of b, as a matrix.

    >>> outer(np.array([1.0, 2.0]), np.array([3.0, 4.0]))
    array([[3., 4.],
           [6., 8.]])
    """
    return reshape(a, (-1, 1)) * reshape(b, (1, -1))


def _parse(subscripts: str, ndims: Sequence[int]) -> tuple[list[str], str]:
    """Subscripts with every axis named: '...' becomes letters not used otherwise."""
    subscripts = subscripts.replace(" ", "")
    left, arrow, right = subscripts.partition("->")
    terms = left.split(",")
    if len(terms) != len(ndims):
        raise ShapeError(f"einsum: {subscripts!r} names {len(terms)} operands, but {len(ndims)} were given")
    spare = [c for c in string.ascii_letters if c not in subscripts]
    dots = 0
    for term, n in zip(terms, ndims, strict=True):
        named = len(term.replace("...", ""))
        if named > n or ("..." not in term and named != n):
            raise ShapeError(f"einsum: {term!r} in {subscripts!r} does not fit an operand of {n} axes")
        if "..." in term:
            dots = builtins.max(dots, n - named)
    batch = spare[:dots]
    full = []
    for term, n in zip(terms, ndims, strict=True):
        width = n - len(term.replace("...", ""))
        full.append(term.replace("...", "".join(batch[dots - width :]) if width else ""))
    if arrow:
        out = right.replace("...", "".join(batch))
    else:
        letters = "".join(terms).replace("...", "")
        out = "".join(batch) + "".join(sorted(c for c in set(letters) if letters.count(c) == 1))
    return full, out


def _einsum_vjp(argnum: int, g: Any, ans: Any, *operands: Any, terms: tuple[str, ...], out: str) -> Any:
    mine, shape = terms[argnum], operands[argnum].shape
    others = [(t, x) for k, (t, x) in enumerate(zip(terms, operands, strict=True)) if k != argnum]
    factors = [(out, g), *others]
    known: dict[str, int] = {}
    for t, x in factors:
        for letter, n in zip(t, x.shape, strict=True):
            known[letter] = builtins.max(n, known.get(letter, 0))
    spare = iter(c for c in string.ascii_letters if c not in known and c not in "".join(terms))
    target = ""
    for letter, n in zip(mine, shape, strict=True):
        if letter in target:
            # A repeated letter reads a diagonal; its cotangent lies on that diagonal.
            fresh = next(spare)
            factors.append((letter + fresh, np.eye(n, dtype=g.dtype)))
            target += fresh
        else:
            if known.get(letter) != n:
                # Summed over in the forward, or of length 1 in all others, which were repeated along it.
                factors.append((letter, np.ones(n, dtype=g.dtype)))
            target += letter
    return _einsum(*(x for _, x in factors), terms=tuple(t for t, _ in factors), out=target)


@primitive(Variadic(_einsum_vjp), broadcasts=True)
def _einsum(*operands: Any, terms: tuple[str, ...], out: str) -> Any:
    return np.einsum(",".join(terms) + "->" + out, *operands, optimize=len(operands) > 2)


@public
def einsum(subscripts: str, *operands: Any) -> Any:
    """Sums of products by Einstein's convention, as `np.einsum` with letters ('bij,jk->bik', '...i->...').

    Raises ShapeError when the subscripts do not fit the operands.

    >>> einsum("ij,j->i", np.ones((2, 3)), np.ones(3))
    array([3., 3.])
    """
    terms, out = _parse(subscripts, [ndim(x) for x in operands])
    return _einsum(*operands, terms=tuple(terms), out=out)


# --- matrices --------------------------------------------------------------------------------------------


@public
def trace(x: Any, offset: int = 0, axis1: int = 0, axis2: int = 1) -> Any:
    """The sum along a diagonal of the matrices in two axes of x.

    >>> trace(np.ones((3, 3)), offset=1).item()
    2.0
    """
    n = ndim(x)
    first, second = normalise_axis("trace", axis1, n), normalise_axis("trace", axis2, n)
    rest = tuple(a for a in range(n) if a not in (first, second))
    if len(rest) != n - 2:
        raise ShapeError("trace: needs two different axes")
    turned = transpose(x, (first, second, *rest))
    last = builtins.min(x.shape[first], x.shape[second] - offset)
    rows = np.arange(builtins.max(0, -offset), last)
    return sum(getitem(turned, (rows, rows + offset)), axis=0)


def _norm_vjp(g: Any, ans: Any, x: Any, axes: tuple[int, ...], keepdims: bool) -> Any:
    # At 0 the norm has a kink; 0 is its subgradient of least norm.
    shape = tuple(1 if a in axes else n for a, n in enumerate(x.shape))
    length = reshape(ans, shape)
    flat = equal(length, 0)
    return reshape(g, shape) * x * where(flat, 0, 1 / where(flat, 1, length))


@primitive(_norm_vjp)
def _norm(x: Any, *, axes: tuple[int, ...], keepdims: bool) -> Any:
    return np.sqrt(np.sum(np.square(x), axis=axes, keepdims=keepdims))


def norm(x: Any, ord: float | str | None = None, axis: Axes | None = None, keepdims: bool = False) -> Any:
    """The length of vectors along an axis, or the Frobenius norm of matrices or of the whole array.

    ord: None, 2 or "fro" for the root of the sum of squares; 1, inf or another p for vectors.
    The gradient at 0 is 0. Raises ShapeError for a matrix norm other than Frobenius.

    >>> norm(np.array([3.0, 4.0])).item()
    5.0
    """
    axes = normalise_axes("norm", axis, ndim(x))
    if ord is None or (ord == "fro" and len(axes) == 2) or (ord == 2 and len(axes) == 1):
        return _norm(x, axes=axes, keepdims=keepdims)
    if isinstance(ord, str) or len(axes) != 1:
        raise ShapeError(
            f"norm: ord={ord!r} over {len(axes)} axes is not offered; matrices have the Frobenius norm "
            "(ord=None or 'fro'), single axes any p"
        )
    if ord == 0:
        raise ShapeError(
            "norm: ord=0 counts elements and has no gradient; write tg.not_equal(x, 0).numpy().sum()"
        )
    if ord in (np.inf, -np.inf):
        return (max if ord > 0 else min)(abs(x), axes, keepdims)
    if ord == 1:
        return sum(abs(x), axes, keepdims)
    total = sum(power(abs(x), ord), axes, keepdims)
    if ord < 0:
        return power(total, 1.0 / ord)
    # The root has no finite slope at 0: there the length is 0 and so is its gradient.
    flat = equal(total, 0)
    return where(flat, 0, power(where(flat, 1, total), 1.0 / ord))


def _inv_vjp(g: Any, ans: Any, x: Any) -> Any:
    turned = _turned(ans)
    return -matmul(matmul(turned, g), turned)


@primitive(_inv_vjp)
def inv(x: Any) -> Any:
    """The inverse of a matrix, or of each matrix of a stack.

    Raises ShapeError for a singular matrix, or one that is not square.

    >>> inv(np.array([[2.0, 0.0], [0.0, 4.0]]))
    array([[0.5 , 0.  ],
           [0.  , 0.25]])
    """
    return np.linalg.inv(x)


def _solve_vjp_a(g: Any, ans: Any, a: Any, b: Any) -> Any:
    back = _solve_vjp_b(g, ans, a, b)
    if b.ndim == 1:
        return -expand_dims(back, -1) * expand_dims(ans, -2)
    return -matmul(back, _turned(ans))


def _solve_vjp_b(g: Any, ans: Any, a: Any, b: Any) -> Any:
    if b.ndim == 1:
        return squeeze(solve(_turned(a), expand_dims(g, -1)), -1)
    return solve(_turned(a), g)


@primitive(_solve_vjp_a, _solve_vjp_b, broadcasts=True)
def solve(a: Any, b: Any) -> Any:
    """The x with a @ x = b; b is one vector (n,) or a matrix of columns, a one matrix or a stack.

    Raises ShapeError for a singular matrix, or shapes that do not fit.

    >>> solve(np.array([[2.0, 0.0], [0.0, 4.0]]), np.array([2.0, 2.0]))
    array([1. , 0.5])
    """
    b = np.asarray(b)
    columns = b[:, None] if b.ndim == 1 else b
    # NumPy 1 would take a b with one axis less than a for a stack of vectors.
    columns = columns.reshape((1,) * (np.ndim(a) - columns.ndim) + columns.shape)
    out = np.linalg.solve(a, columns)
    return out[..., 0] if b.ndim == 1 else out
