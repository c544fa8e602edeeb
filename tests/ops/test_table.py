"""Every operation against NumPy and against central differences: one table, one row for each op and case.

A row says how an operation is called, what NumPy gives, and where its operands come from. The tests at the
end hold for every row: values, dtypes, first and second gradients, shapes and dtypes of gradients, and the
same rule giving the same numbers on arrays and on Tensors.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import pytest

import tensorgrad as tg
from tensorgrad import ops

Draw = Callable[[np.random.Generator, tuple[int, ...]], np.ndarray]


# --- where operands come from ----------------------------------------------------------------------------
def normal(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    return np.asarray(rng.standard_normal(shape))


def positive(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    return np.asarray(rng.uniform(0.5, 2.0, shape))


def inside(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Between -0.8 and 0.8."""
    return np.asarray(rng.uniform(-0.8, 0.8, shape))


def off_zero(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """At least 0.3 away from 0, on both sides."""
    return np.asarray(rng.uniform(0.3, 2.0, shape) * rng.choice([-1.0, 1.0], shape))


def distinct(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """No two elements closer than 0.2, so that a maximum doesn't change hands."""
    size = int(np.prod(shape))
    return rng.permutation(np.arange(size) * 0.2 - 1.05).reshape(shape)


def with_zeros(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Positive numbers, and zeros in two of five places."""
    x = positive(rng, shape)
    return np.where(rng.random(shape) < 0.4, 0.0, x)


def coarse(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Whole numbers, so that some are equal or zero, and some that are not finite."""
    return rng.choice([-2.0, -1.0, 0.0, 0.0, 1.0, 2.0, np.inf, np.nan], shape)


def regular(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Matrices far from singular."""
    return np.asarray(rng.standard_normal(shape) * 0.3 + 2 * np.eye(shape[-1]))


class Arg(NamedTuple):
    """An operand: drawn floats, or a fixed array of integers or booleans."""

    shape: tuple[int, ...] = ()
    draw: Draw = normal
    fixed: np.ndarray | None = None

    def make(self, rng: np.random.Generator, dtype: str) -> np.ndarray:
        return self.draw(rng, self.shape).astype(dtype) if self.fixed is None else self.fixed


def mask(rng_seed: int, *shape: int) -> Arg:
    return Arg(fixed=np.random.default_rng(rng_seed).random(shape) < 0.5)


def bits(rng_seed: int, dtype: str, *shape: int) -> Arg:
    rng = np.random.default_rng(rng_seed)
    return Arg(fixed=np.asarray(rng.integers(0, 2 if dtype == "bool" else 8, shape)).astype(dtype))


class Case(NamedTuple):
    """A row of the table."""

    op: str
    note: str
    args: tuple[Arg, ...]
    fn: Callable[..., Any]
    reference: Callable[..., Any]
    dtype: str | None = None
    """The dtype of the result where it is not that of the float operands."""
    differentiable: bool = True

    def __str__(self) -> str:
        return f"{self.op}-{self.note}"


def call(fn: Callable[..., Any], **params: Any) -> Callable[..., Any]:
    return lambda *xs: fn(*xs, **params)


# --- families --------------------------------------------------------------------------------------------
SHAPES: list[tuple[int, ...]] = [(), (0,), (3,), (2, 0, 3), (2, 3), (2, 1, 2, 2)]
PAIRS: list[tuple[tuple[int, ...], tuple[int, ...]]] = [
    ((), ()),
    ((3,), ()),
    ((), (2, 3)),
    ((2, 3), (3,)),
    ((2, 1), (1, 3)),
    ((2, 1, 3), (4, 1)),
    ((0, 3), (3,)),
    ((1,), (0,)),
    ((2, 3), (2, 3)),
]


def unary(op: str, draw: Draw = normal, reference: Callable[..., Any] | None = None) -> Iterator[Case]:
    for shape in SHAPES:
        yield Case(op, str(shape), (Arg(shape, draw),), getattr(ops, op), reference or getattr(np, op))


def binary(op: str, draw_x: Draw = normal, draw_y: Draw = normal) -> Iterator[Case]:
    for x, y in PAIRS:
        yield Case(op, f"{x}{y}", (Arg(x, draw_x), Arg(y, draw_y)), getattr(ops, op), getattr(np, op))


def never_differentiable(op: str, arity: int) -> Iterator[Case]:
    for shapes in PAIRS if arity == 2 else [(s,) for s in SHAPES]:
        args = tuple(Arg(s, coarse) for s in shapes)
        yield Case(op, str(shapes), args, getattr(ops, op), getattr(np, op), "bool", differentiable=False)


REDUCTIONS: list[tuple[tuple[int, ...], Any]] = [
    ((), None),
    ((), ()),
    ((4,), None),
    ((4,), 0),
    ((2, 3), -1),
    ((2, 3, 2), None),
    ((2, 3, 2), 1),
    ((2, 3, 2), -3),
    ((2, 3, 2), (0, -1)),
    ((2, 3, 2), (2, 0, 1)),
    ((2, 3), ()),
    ((0, 3), 1),
]


def reduction(
    op: str,
    draw: Draw = normal,
    reference: Callable[..., Any] | None = None,
    empty: Any = None,
    **params: Any,
) -> Iterator[Case]:
    """Cases over axes; `empty` is what NumPy gives over an axis of length 0, None where that is no number."""
    cases = [*REDUCTIONS, ((2, 0, 3), 1), ((0,), None)] if empty is not None else REDUCTIONS
    for shape, axis in cases:
        for keepdims in (False, True):
            given = {"axis": axis, "keepdims": keepdims, **params}
            words = ", ".join(f"{k}={v}" for k, v in given.items()) + f", {draw.__name__}"
            yield Case(
                op,
                f"{shape}, {words}",
                (Arg(shape, draw),),
                call(getattr(ops, op), **given),
                call(reference or getattr(np, op), **given),
            )


def one(
    op: str,
    note: str,
    args: Sequence[Arg | tuple[int, ...]],
    fn: Callable[..., Any],
    reference: Callable[..., Any],
    **options: Any,
) -> Case:
    full = tuple(a if isinstance(a, Arg) else Arg(a) for a in args)
    return Case(op, note, full, fn, reference, **options)


def np_logsumexp(x: np.ndarray, axis: Any, keepdims: bool) -> Any:
    return np.log(np.sum(np.exp(x), axis=axis, keepdims=keepdims))


def np_sigmoid(x: np.ndarray) -> Any:
    return 1 / (1 + np.exp(-x))


def np_updated(x: np.ndarray, index: Any, value: Any) -> np.ndarray:
    out = x.copy()
    out[index] = value
    return out


def np_added(x: np.ndarray, index: Any, value: Any) -> np.ndarray:
    out = x.copy()
    np.add.at(out, index, value)
    return out


def np_taken(x: np.ndarray, indices: np.ndarray, axis: int) -> np.ndarray:
    axis %= x.ndim
    full = tuple(indices.shape[k] if k == axis else n for k, n in enumerate(x.shape))
    return np.take_along_axis(x, np.broadcast_to(indices, full), axis)


def np_linear(x: np.ndarray, weight: np.ndarray, *bias: np.ndarray) -> Any:
    return x @ weight.T + bias[0] if bias else x @ weight.T


def np_affine(x: np.ndarray, W: np.ndarray, h: np.ndarray, U: np.ndarray, *biases: np.ndarray) -> Any:
    return sum(biases, x @ W.T + h @ U.T)


# --- the table -------------------------------------------------------------------------------------------
def elementwise() -> Iterator[Case]:
    for op in ("add", "subtract", "multiply"):
        yield from binary(op)
    yield from binary("divide", normal, off_zero)
    yield from binary("power", positive, normal)
    yield from binary("maximum", distinct, inside)
    yield from binary("minimum", distinct, inside)
    for op in ("negative", "square", "exp", "expm1", "tanh", "sin", "cos"):
        yield from unary(op)
    for op in ("sqrt", "reciprocal", "log", "log1p"):
        yield from unary(op, positive)
    yield from unary("abs", off_zero)
    yield from unary("sign", off_zero)
    yield from unary("sigmoid", reference=np_sigmoid)
    yield from unary("relu", off_zero, lambda x: np.maximum(x, x.dtype.type(0)))
    yield from unary("softplus", reference=lambda x: np.log1p(np.exp(x)))
    for op in ("equal", "not_equal", "less", "less_equal", "greater", "greater_equal"):
        yield from never_differentiable(op, 2)
    yield from never_differentiable("logical_and", 2)
    yield from never_differentiable("logical_or", 2)
    yield from never_differentiable("logical_not", 1)
    for kind in ("bool", "int64"):
        options: dict[str, Any] = {"dtype": kind, "differentiable": False}
        for op in ("bitwise_and", "bitwise_or", "bitwise_xor"):
            for x, y in PAIRS:
                args = [bits(0, kind, *x), bits(1, kind, *y)]
                yield one(op, f"{x}{y}, {kind}", args, getattr(ops, op), getattr(np, op), **options)
        for x in SHAPES:
            yield one("invert", f"{x}, {kind}", [bits(2, kind, *x)], ops.invert, np.invert, **options)
    yield from never_differentiable("isfinite", 1)
    for x, y in PAIRS:
        shape = np.broadcast_shapes(x, y)
        yield one("where", f"{x}{y}", (mask(1, *shape), x, y), ops.where, np.where)
    yield one("where", "small condition", (mask(1, 3), (2, 3), ()), ops.where, np.where)
    yield one("where", "float condition", ((2, 3), (3,), ()), ops.where, np.where)
    for a, b in ((-0.5, 0.5), (None, 0.5), (-0.5, None), (0.5, -0.5)):
        for shape in SHAPES:
            limits = {"a_min": a, "a_max": b}
            yield one(
                "clip",
                f"{shape}, {a}, {b}",
                (Arg(shape, distinct),),
                call(ops.clip, **limits),
                lambda x, a=a, b=b: np.clip(
                    x, a if a is None else x.dtype.type(a), b if b is None else x.dtype.type(b)
                ),
            )
    yield one("clip", "no limits", ((3,),), call(ops.clip), lambda x: x)
    yield one(
        "clip", "limits are operands", (Arg((2, 3), distinct), Arg((3,), inside), (2, 1)), ops.clip, np.clip
    )
    for dtype in ("float32", "float64"):
        for shape in SHAPES:
            to = call(ops.astype, dtype=dtype)
            # In float32 differences are noise, so only the way to float64 is differentiated.
            options = {"dtype": dtype, "differentiable": dtype == "float64"}
            yield one(
                "astype", f"{shape}, {dtype}", (shape,), to, call(np.ndarray.astype, dtype=dtype), **options
            )
    for dtype in ("int64", "int8", "bool"):
        yield one(
            "astype", dtype, ((2, 3),), call(ops.astype, dtype=dtype), call(np.ndarray.astype, dtype=dtype),
            dtype=dtype, differentiable=False,
        )  # fmt: skip


def reductions() -> Iterator[Case]:
    yield from reduction("sum", empty=0.0)
    yield from reduction("prod", positive, empty=1.0)
    yield from reduction("prod", with_zeros, empty=1.0)
    yield from reduction("mean")
    yield from reduction("var")
    yield from reduction("var", ddof=-1)
    yield from reduction("std", distinct)
    yield from reduction("max", distinct)
    yield from reduction("min", distinct)
    yield from reduction("logsumexp", reference=np_logsumexp)
    for shape, axis in [
        ((), None),
        ((4,), None),
        ((4,), 0),
        ((2, 3, 2), None),
        ((2, 3, 2), 1),
        ((2, 3), -1),
        ((2, 0), 1),
    ]:
        yield one(
            "cumsum", f"{shape}, {axis}", (shape,), call(ops.cumsum, axis=axis), call(np.cumsum, axis=axis)
        )
    for op, reference in (("var", np.var), ("std", np.std)):
        for axes in (None, 0, (0, 1)):
            given = {"axis": axes, "ddof": 1}
            yield one(
                op,
                f"{given}",
                (Arg((3, 2), distinct),),
                call(getattr(ops, op), **given),
                call(reference, **given),
            )


def products() -> Iterator[Case]:
    shapes: list[tuple[tuple[int, ...], tuple[int, ...]]] = [
        ((3,), (3,)),
        ((2, 3), (3,)),
        ((3,), (3, 2)),
        ((2, 3), (3, 4)),
        ((2, 2, 3), (3,)),
        ((3,), (2, 3, 2)),
        ((2, 2, 3), (3, 2)),
        ((2, 3), (4, 3, 2)),
        ((2, 2, 3), (2, 3, 2)),
        ((2, 1, 2, 3), (3, 3, 1)),
        ((1, 2, 3), (2, 3, 2)),
        ((0, 3), (3, 2)),
        ((2, 0), (0, 2)),
        ((0,), (0,)),
        ((2, 0, 3), (3, 2)),
        ((1, 1), (1, 1)),
    ]
    for a, b in shapes:
        yield one("matmul", f"{a}{b}", (a, b), ops.matmul, np.matmul)
    for a, b in [
        *shapes[:8],
        ((), ()),
        ((), (2, 3)),
        ((2, 3), ()),
        ((2, 3), (2, 3, 2)),
        ((3,), (2, 2, 3, 2)),
    ]:
        if not (a and b) or a[-1] == b[-2 if len(b) > 1 else 0]:
            yield one("dot", f"{a}{b}", (a, b), ops.dot, np.dot)
    for a, b in [((3,), (2,)), ((2, 2), (3,)), ((), (3,)), ((0,), (3,))]:
        yield one("outer", f"{a}{b}", (a, b), ops.outer, np.outer)
    for x in [(3,), (2, 3), (2, 2, 3), (0, 3), (0, 2, 3)]:
        more_rows = (2, *x[:-1], 4)
        for added in [
            (),
            ((4,),),
            ((),),
            ((1,),),
            (more_rows,),
        ]:
            yield one("linear", f"{x}{added}", (x, (4, 3), *added), ops.linear, np_linear)
        for added in [(), ((4,),), ((4,), (4,)), ((4,), more_rows)]:
            h = (*x[:-1], 2)
            yield one("affine", f"{x}{added}", (x, (4, 3), h, (4, 2), *added), ops.affine, np_affine)
    yield one("affine", "rows repeated", ((2, 3), (4, 3), (2,), (4, 2)), ops.affine, np_affine)
    contractions: list[tuple[str, list[tuple[int, ...]]]] = [
        ("i->", [(3,)]),
        ("i->i", [(3,)]),
        ("ij->ji", [(2, 3)]),
        ("ij", [(2, 3)]),
        ("ba", [(2, 3)]),
        ("ii->", [(3, 3)]),
        ("ii->i", [(3, 3)]),
        ("iij->j", [(2, 2, 3)]),
        ("iii->i", [(2, 2, 2)]),
        ("ij->i", [(2, 3)]),
        ("ij->", [(2, 0)]),
        ("i,i->", [(3,), (3,)]),
        ("i,j->ij", [(2,), (3,)]),
        ("i,j->ji", [(2,), (3,)]),
        ("i,j->", [(2,), (3,)]),
        ("ij,jk", [(2, 3), (3, 2)]),
        ("ij,jk->ki", [(2, 3), (3, 2)]),
        ("bij,bjk->bik", [(2, 2, 3), (2, 3, 2)]),
        ("bij,jk->bik", [(2, 2, 3), (3, 2)]),
        ("ij,ij->ij", [(2, 3), (2, 3)]),
        ("ii,i->i", [(3, 3), (3,)]),
        ("ii,jj->ij", [(2, 2), (3, 3)]),
        ("i,ij,j->", [(2,), (2, 3), (3,)]),
        ("ij,jk,kl->il", [(2, 3), (3, 2), (2, 2)]),
        ("...i->...", [(2, 2, 3)]),
        ("...ij,...jk->...ik", [(2, 1, 2, 3), (2, 3, 2)]),
        ("i...,i...->...", [(2, 3), (2, 2, 3)]),
        ("...,...", [(2, 3), (3,)]),
        ("...ii->...i", [(2, 3, 3)]),
        (",i->i", [(), (3,)]),
        ("->", [()]),
    ]
    for subscripts, operand_shapes in contractions:
        yield one(
            "einsum",
            f"{subscripts} {operand_shapes}",
            operand_shapes,
            lambda *xs, s=subscripts: ops.einsum(s, *xs),
            lambda *xs, s=subscripts: np.einsum(s, *xs),
        )
    diagonals: list[tuple[tuple[int, ...], dict[str, Any]]] = [
        ((3, 3), {}),
        ((2, 3), {"offset": 1}),
        ((3, 2), {"offset": -1}),
        ((2, 2), {"offset": 5}),
        ((2, 3, 2), {}),
        ((2, 3, 2), {"axis1": 0, "axis2": -1}),
        ((2, 3, 2), {"axis1": 2, "axis2": 1, "offset": 1}),
        ((0, 0), {}),
    ]
    for shape, given in diagonals:
        yield one("trace", f"{shape}, {given}", (shape,), call(ops.trace, **given), call(np.trace, **given))
    norms: list[tuple[tuple[int, ...], dict[str, Any]]] = [
        ((3,), {}),
        ((), {}),
        ((0,), {}),
        ((2, 3), {}),
        ((2, 3), {"ord": "fro"}),
        ((2, 3), {"axis": -1}),
        ((2, 3), {"axis": 0, "keepdims": True}),
        ((2, 3), {"axis": (0, 1)}),
        ((2, 3, 2), {"axis": (0, 2), "ord": "fro"}),
        ((2, 3), {"axis": 1, "ord": 1}),
        ((2, 3), {"axis": 1, "ord": 2}),
        ((2, 3), {"axis": 1, "ord": 3}),
        ((2, 3), {"axis": 0, "ord": 2.5, "keepdims": True}),
        ((2, 3), {"axis": 1, "ord": np.inf}),
        ((2, 3), {"axis": 1, "ord": -np.inf}),
        ((2, 3), {"axis": 1, "ord": -1}),
    ]
    for shape, given in norms:
        arg = Arg(shape, distinct if "ord" in given else normal)
        yield one("norm", f"{shape}, {given}", [arg], call(ops.norm, **given), call(np.linalg.norm, **given))
    for square in [(1, 1), (3, 3), (2, 3, 3), (0, 2, 2)]:
        yield one("inv", str(square), (Arg(square, regular),), ops.inv, np.linalg.inv)
    for left, right in [
        ((3, 3), (3,)),
        ((3, 3), (3, 2)),
        ((3, 3), (3, 3)),
        ((2, 3, 3), (3,)),
        ((3, 3, 3), (3,)),
        ((2, 3, 3), (3, 2)),
        ((3, 3), (2, 3, 1)),
        ((2, 1, 3, 3), (2, 3, 2)),
    ]:

        def solved(a: np.ndarray, b: np.ndarray) -> np.ndarray:
            x = np.linalg.inv(a) @ (b[:, None] if b.ndim == 1 else b)
            return x[..., 0] if b.ndim == 1 else x

        yield one("solve", f"{left}{right}", (Arg(left, regular), right), ops.solve, solved)


def shaping() -> Iterator[Case]:
    for old, new in [
        ((), (1,)),
        ((6,), (2, 3)),
        ((2, 3), (-1,)),
        ((2, 3), 6),
        ((2, 3), (3, 1, -1)),
        ((0, 3), (3, 0)),
    ]:
        yield one(
            "reshape",
            f"{old}, {new}",
            (old,),
            call(ops.reshape, shape=new),
            lambda x, s=new: np.reshape(x, s),
        )
    for shape, axis in [
        ((), 0),
        ((3,), 0),
        ((3,), -1),
        ((2, 3), 1),
        ((2, 3), (0, -1)),
        ((2, 3), (1, 2)),
        ((0,), 0),
    ]:
        given: dict[str, Any] = {"axis": axis}
        yield one(
            "expand_dims",
            f"{shape}, {axis}",
            (shape,),
            call(ops.expand_dims, **given),
            call(np.expand_dims, **given),
        )
    for shape, axis in [
        ((), None),
        ((1,), None),
        ((1, 3, 1), None),
        ((1, 3, 1), 0),
        ((1, 3, 1), -1),
        ((1, 3, 1), (0, 2)),
        ((1, 0), 0),
    ]:
        given = {"axis": axis}
        yield one(
            "squeeze", f"{shape}, {axis}", (shape,), call(ops.squeeze, **given), call(np.squeeze, **given)
        )
    for old, new in [
        ((), (2, 3)),
        ((3,), (2, 3)),
        ((2, 1), (4, 2, 3)),
        ((3,), (3,)),
        ((1,), (0,)),
        ((), ()),
        ((1,), 4),
    ]:
        yield one(
            "broadcast_to", f"{old}, {new}", (old,),
            call(ops.broadcast_to, shape=new), lambda x, s=new: np.broadcast_to(x, s),
        )  # fmt: skip
    for shape, axes in [
        ((), None),
        ((3,), None),
        ((2, 3), None),
        ((2, 3, 4), None),
        ((2, 3, 4), (1, 2, 0)),
        ((2, 3, 4), (-1, 0, -2)),
        ((0, 2), (1, 0)),
    ]:
        given = {"axes": axes}
        yield one(
            "transpose",
            f"{shape}, {axes}",
            (shape,),
            call(ops.transpose, **given),
            call(np.transpose, **given),
        )
    for shape, a, b in [((2, 3), 0, 1), ((2, 3, 4), 0, -1), ((2, 3, 4), -2, 0), ((3,), 0, 0), ((0, 2), 1, 0)]:
        given = {"axis1": a, "axis2": b}
        yield one(
            "swapaxes",
            f"{shape}, {a}, {b}",
            (shape,),
            call(ops.swapaxes, **given),
            call(np.swapaxes, **given),
        )
    joined: list[tuple[list[tuple[int, ...]], int]] = [
        ([(2,)], 0),
        ([(2,), (3,), (0,)], 0),
        ([(2, 3), (2, 1)], 1),
        ([(2, 3), (1, 3), (2, 3)], 0),
        ([(2, 3, 1), (2, 3, 2)], -1),
    ]
    for shapes, axis in joined:
        yield one(
            "concatenate", f"{shapes}, {axis}", shapes,
            lambda *xs, a=axis: ops.concatenate(xs, a), lambda *xs, a=axis: np.concatenate(xs, a),
        )  # fmt: skip
    for shape, axis in [((), 0), ((3,), 0), ((3,), 1), ((2, 3), -1), ((2, 3), -2), ((0, 2), 0)]:
        for count in (1, 3):
            yield one(
                "stack", f"{count} of {shape}, {axis}", [shape] * count,
                lambda *xs, a=axis: ops.stack(xs, a), lambda *xs, a=axis: np.stack(xs, a),
            )  # fmt: skip
    for shape, cuts, axis in [
        ((4,), 2, 0),
        ((2, 6), 3, 1),
        ((2, 6), 2, -1),
        ((5, 2), [2, 3], 0),
        ((5,), [3, 2], 0),
        ((5,), [-2], 0),
        ((5,), [2, 9], 0),
        ((0, 3), 2, 0),
    ]:
        for part in range(len(np.split(np.empty(shape), cuts, axis))):
            yield one(
                "split", f"{shape}, {cuts}, {axis}, part {part}", (shape,),
                lambda x, c=cuts, a=axis, k=part: ops.split(x, c, a)[k],
                lambda x, c=cuts, a=axis, k=part: np.split(x, c, a)[k],
            )  # fmt: skip
    for shape, width in [
        ((3,), 1),
        ((3,), (1, 2)),
        ((2, 3), (0, 1)),
        ((2, 3), ((1, 0), (2, 3))),
        ((0,), 2),
        ((2, 2), 0),
    ]:
        for value in (0, 1.5):
            given = {"pad_width": width, "constant_values": value}
            yield one(
                "pad", f"{shape}, {width}, {value}", (shape,), call(ops.pad, **given), call(np.pad, **given)
            )
    for shape, axis in [
        ((), None),
        ((3,), None),
        ((3,), 0),
        ((2, 3, 2), None),
        ((2, 3, 2), -1),
        ((2, 3, 2), (0, 2)),
        ((0, 2), 0),
    ]:
        given = {"axis": axis}
        yield one("flip", f"{shape}, {axis}", (shape,), call(ops.flip, **given), call(np.flip, **given))
    for shape, shift, axis in [
        ((4,), 1, None),
        ((4,), -9, 0),
        ((2, 3), 2, None),
        ((2, 3), 1, -1),
        ((2, 3), (1, 2), (0, 1)),
        ((2, 3), 1, (0, 1)),
        ((2, 3), (1, 2), (1, 1)),
        ((2, 3), (1, 2), 1),
        ((0, 3), 1, 0),
        ((), 1, None),
    ]:
        given = {"shift": shift, "axis": axis}
        yield one("roll", f"{shape}, {given}", (shape,), call(ops.roll, **given), call(np.roll, **given))


INDICES: list[tuple[tuple[int, ...], Any]] = [
    ((4,), 1),
    ((4,), -1),
    ((4,), slice(None)),
    ((4,), slice(None, None, -2)),
    ((4,), slice(3, 1)),
    ((4,), None),
    ((4,), Ellipsis),
    ((), ()),
    ((), None),
    ((2, 3), (1, 2)),
    ((2, 3), (slice(None), 1)),
    ((2, 3), (Ellipsis, 0)),
    ((2, 3), (None, Ellipsis, None, 1)),
    ((2, 3, 2), (slice(None), slice(1, None), 0)),
    ((4,), [0, 2, 2]),
    ((4,), np.array([[0, -1], [0, 3]])),
    ((4,), np.array(2)),
    ((4,), []),
    ((4,), np.array([True, False, True, True])),
    ((4,), np.zeros(4, bool)),
    ((4,), True),
    ((4,), (None, False)),
    ((2, 3), np.array([[True, False, True], [False, False, True]])),
    ((2, 3), (np.array([True, False]), slice(1, None))),
    ((2, 3), ([0, 1, 1], [2, 0, 0])),
    ((2, 3), (slice(None), [0, 0, 2])),
    ((3, 2), np.array([0, 2, 0, 0], np.uint8)),
    ((2, 3, 4), ([1, 1], slice(None), [0, 3])),
    ((2, 3, 4), (1, slice(None), [0, 0])),
    ((2, 3, 4), ([[0], [1]], [0, 2, 2])),
    ((2, 3, 4), (Ellipsis, [3, 3], None)),
    ((2, 3, 4), (np.array([False, True]), 1)),
    ((0, 3), slice(None)),
    ((3, 0), [0, 1]),
]


def indexing() -> Iterator[Case]:
    for shape, index in INDICES:
        note = f"{shape}, {index}"
        yield one(
            "getitem", note, (shape,), call(ops.getitem, index=index), lambda x, i=index: np.array(x[i])
        )
        # A list alone means index rows to us and to NumPy alike.
        part = np.shape(np.empty(shape)[index])
        for value in {part, (), (1,) * len(part)}:
            unique = (
                np.bincount(np.arange(np.prod(shape, dtype=int)).reshape(shape)[index].ravel()).max(initial=0)
                <= 1
            )
            if unique or value == ():
                yield one(
                    "index_update", f"{note}, {value}", (shape, value),
                    lambda x, v, i=index: ops.index_update(x, i, v),
                    lambda x, v, i=index: np_updated(x, i, v),
                )  # fmt: skip
            yield one(
                "index_add", f"{note}, {value}", (shape, value),
                lambda x, v, i=index: ops.index_add(x, i, v),
                lambda x, v, i=index: np_added(x, i, v),
            )  # fmt: skip
    for shape, indices, axis in [
        ((4,), 2, None),
        ((2, 3), [5, 0], None),
        ((4,), [0, 0, 3], 0),
        ((2, 3), 1, 1),
        ((2, 3), -1, 0),
        ((2, 3), [[0, 2], [2, 2]], 1),
        ((2, 3, 2), [1, 1], -2),
        ((2, 3), [], 1),
        ((5, 0), [1, 2], 0),
    ]:
        given: dict[str, Any] = {"indices": np.asarray(indices, dtype=int), "axis": axis}
        yield one(
            "take", f"{shape}, {indices}, {axis}", (shape,), call(ops.take, **given), call(np.take, **given)
        )
    for shape, where, axis in [
        ((4,), [3, 3, 0], 0),
        ((2, 3), [[0], [2]], 1),
        ((2, 3), [[0, 1, 1], [1, 1, 0], [0, 0, 0]], 0),
        ((2, 3), [[2, 2, -1, 0]], -1),
        ((2, 3, 2), [[[0], [2]]], 1),
    ]:
        given = {"indices": np.asarray(where), "axis": axis}
        yield one(
            "take_along_axis", f"{shape}, {where}, {axis}", (shape,),
            call(ops.take_along_axis, **given), call(np_taken, **given),
        )  # fmt: skip


TABLE = [*elementwise(), *reductions(), *products(), *shaping(), *indexing()]
EVERY = pytest.mark.parametrize("case", TABLE, ids=str)
SMOOTH = pytest.mark.parametrize("case", [case for case in TABLE if case.differentiable], ids=str)
FLOATS = pytest.mark.parametrize("dtype", ["float32", "float64"])


def arrays_of(case: Case, dtype: str = "float64") -> list[np.ndarray]:
    rng = np.random.default_rng(sum(map(ord, str(case))))
    return [arg.make(rng, dtype) for arg in case.args]


def close(dtype: Any, factor: float = 16) -> dict[str, float]:
    eps = float(np.finfo(dtype).eps) if np.dtype(dtype).kind == "f" else 0.0
    return {"rtol": factor * eps, "atol": factor * eps}


def floats(xs: Sequence[Any]) -> list[int]:
    return [k for k, x in enumerate(xs) if x.dtype.kind == "f"]


def test_every_public_operation_stands_in_the_table() -> None:
    assert {case.op for case in TABLE} == set(ops.__all__)


def test_no_two_rows_are_the_same() -> None:
    names = [str(case) for case in TABLE]
    assert len(set(names)) == len(names)


@FLOATS
@EVERY
def test_values_and_dtypes_are_numpys(case: Case, dtype: str) -> None:
    xs = arrays_of(case, dtype)
    expected = np.asarray(case.reference(*xs))
    kind = np.dtype(case.dtype or dtype)
    on_arrays = case.fn(*xs)
    assert not isinstance(on_arrays, tg.Tensor)
    assert np.shape(on_arrays) == expected.shape
    np.testing.assert_allclose(on_arrays, expected, **close(kind))
    # All operands Tensors, and then each of them alone among arrays.
    variants = [range(len(xs)), *([k] for k in range(len(xs)))] if len(xs) > 1 else [range(len(xs))]
    for chosen in variants:
        out = case.fn(*(tg.tensor(x) if k in chosen else x for k, x in enumerate(xs)))
        assert type(out) is tg.Tensor
        assert out.shape == expected.shape
        assert out.dtype == kind
        np.testing.assert_array_equal(out.numpy(), on_arrays)
        assert not out.requires_grad


@EVERY
def test_plain_arrays_keep_their_precision(case: Case) -> None:
    xs = arrays_of(case, "float32")
    on_arrays = case.fn(*xs)
    if int(np.__version__.split(".")[0]) < 2 and (0 in {x.ndim for x in xs} or np.ndim(on_arrays) == 0):
        pytest.skip("NumPy 1 itself turns 0-d float32 into float64 when it meets a Python number")
    assert on_arrays.dtype == np.dtype(case.dtype or "float32")


@EVERY
def test_operands_are_left_as_they_were(case: Case) -> None:
    xs = arrays_of(case)
    kept = [x.copy() for x in xs]
    leaves = [tg.tensor(x, requires_grad=x.dtype.kind == "f") for x in xs]
    out = case.fn(*leaves)
    case.fn(*xs)
    if out.requires_grad:
        tg.grad(out, [leaves[k] for k in floats(xs)], np.ones(out.shape))
    for x, leaf, before in zip(xs, leaves, kept, strict=True):
        np.testing.assert_array_equal(x, before)
        np.testing.assert_array_equal(leaf.numpy(), before)


@FLOATS
@SMOOTH
def test_gradients_have_the_shape_and_dtype_of_their_operand(case: Case, dtype: str) -> None:
    xs = arrays_of(case, dtype)
    leaves = [tg.tensor(x, requires_grad=x.dtype.kind == "f") for x in xs]
    out = case.fn(*leaves)
    wanted = [leaves[k] for k in floats(xs)]
    g = np.random.default_rng(0).standard_normal(out.shape).astype(out.dtype)
    on_arrays = tg.grad(out, wanted, g)
    on_tensors = tg.grad(out, wanted, g, create_graph=True)
    for x, a, b in zip(wanted, on_arrays, on_tensors, strict=True):
        assert type(a) is np.ndarray
        assert type(b) is tg.Tensor
        assert a.shape == b.shape == x.shape
        assert a.dtype == b.dtype == x.dtype
        # One rule, two kinds of operand: the same numbers.
        np.testing.assert_allclose(a, b.numpy(), **close(dtype, 64))


@SMOOTH
def test_first_and_second_gradients_are_those_of_differences(case: Case) -> None:
    rows = tg.gradcheck(case.fn, arrays_of(case), order=2)
    assert {row.order for row in rows} == {1, 2}


@SMOOTH
def test_single_precision_gradients_agree_with_double(case: Case) -> None:
    def gradients(dtype: str) -> list[np.ndarray]:
        leaves = [
            tg.tensor(x.astype(dtype) if x.dtype.kind == "f" else x, requires_grad=x.dtype.kind == "f")
            for x in arrays_of(case, "float32")
        ]
        out = case.fn(*leaves)
        return tg.grad(out, [leaves[k] for k in floats(leaves)], np.ones(out.shape))

    for a, b in zip(gradients("float64"), gradients("float32"), strict=True):
        assert np.linalg.norm(a - b) <= 1e-5 * (np.linalg.norm(a) + 1)


@pytest.mark.parametrize("case", [case for case in TABLE if not case.differentiable], ids=str)
def test_what_has_no_gradient_does_not_ask_for_one(case: Case) -> None:
    out = case.fn(*(tg.tensor(x, requires_grad=x.dtype.kind == "f") for x in arrays_of(case)))
    assert out.requires_grad == (out.dtype.kind == "f")
