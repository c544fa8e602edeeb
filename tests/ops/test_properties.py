"""Properties over drawn shapes and indices.

A linear operation L and its gradient rule must be adjoint: <w, L d> = <L^T w, d> for every direction d and
cotangent w, and the right-hand side is what `grad` gives. That needs no differences and holds to rounding.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import tensorgrad as tg
from tensorgrad import ops

settings.register_profile("tensorgrad", deadline=None, derandomize=True, max_examples=60, database=None)
quick = settings(settings.get_profile("tensorgrad"))

seeds = st.integers(0, 2**32 - 1)
shapes = hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=3)


def assert_adjoint(fn: Callable[[Any], Any], x: np.ndarray, rng: np.random.Generator) -> None:
    """`fn` is linear (or affine) in x: its gradient is the adjoint of what it does to directions."""
    leaf = tg.tensor(x, requires_grad=True)
    out = fn(leaf)
    w, d = rng.standard_normal(out.shape), rng.standard_normal(x.shape)
    moved = fn(tg.tensor(x + d)).numpy() - out.numpy()
    for create_graph in (False, True):
        g = tg.grad(out, [leaf], w, create_graph=create_graph)[0]
        assert g.shape == x.shape
        np.testing.assert_allclose(np.sum(np.asarray(g) * d), np.sum(w * moved), rtol=1e-9, atol=1e-9)


def in_place_of(xs: list[Any], k: int, fn: Callable[..., Any]) -> Callable[[Any], Any]:
    """`fn` as a function of its operand number k."""
    return lambda x: fn(*xs[:k], x, *xs[k + 1 :])


@quick
@given(hnp.mutually_broadcastable_shapes(num_shapes=2, max_dims=4, min_side=0, max_side=3), seeds)
@pytest.mark.parametrize("op", ["add", "subtract", "multiply", "where"])
def test_broadcast_operands_get_gradients_of_their_own_shape(op: str, drawn: Any, seed: int) -> None:
    rng = np.random.default_rng(seed)
    x, y = (rng.standard_normal(shape) for shape in drawn.input_shapes)
    chosen = rng.random(drawn.result_shape) < 0.5
    fn = getattr(ops, op)

    def call(a: Any, b: Any) -> Any:
        return fn(chosen, a, b) if op == "where" else fn(a, b)

    np.testing.assert_array_equal(
        call(tg.tensor(x), y).numpy(), np.where(chosen, x, y) if op == "where" else getattr(np, op)(x, y)
    )
    assert_adjoint(lambda a: call(a, y), x, rng)
    assert_adjoint(lambda b: call(x, b), y, rng)


@quick
@given(st.data(), seeds)
def test_matmul_broadcasts_stacks(data: st.DataObject, seed: int) -> None:
    drawn = data.draw(
        hnp.mutually_broadcastable_shapes(signature=np.matmul.signature, max_dims=2, min_side=1, max_side=3)
    )
    rng = np.random.default_rng(seed)
    a, b = (rng.standard_normal(shape) for shape in drawn.input_shapes)
    np.testing.assert_allclose(ops.matmul(tg.tensor(a), b).numpy(), np.matmul(a, b), rtol=1e-12, atol=1e-12)
    assert_adjoint(lambda x: ops.matmul(x, b), a, rng)
    assert_adjoint(lambda x: ops.matmul(a, x), b, rng)


def indices(shape: tuple[int, ...]) -> st.SearchStrategy[Any]:
    """Any index of an array of this shape: basic, integer arrays, masks, and integers mixed with slices."""
    kinds: list[st.SearchStrategy[Any]] = [hnp.basic_indices(shape, allow_newaxis=True, allow_ellipsis=True)]
    if shape and 0 not in shape:
        broad = hnp.array_shapes(min_dims=0, max_dims=2, min_side=0, max_side=3)
        kinds.append(hnp.integer_array_indices(shape, result_shape=broad))
        kinds.append(hnp.arrays(bool, shape))
        kinds.append(hnp.arrays(bool, shape[:1]))
        one_axis = st.lists(st.integers(-shape[-1], shape[-1] - 1), max_size=4)
        kinds.append(one_axis.map(lambda rows: (Ellipsis, np.array(rows, dtype=int))))
        if len(shape) > 1:
            pairs = st.tuples(one_axis, st.integers(-shape[0], shape[0] - 1))
            middle = (slice(None),) * (len(shape) - 2)
            kinds.append(pairs.map(lambda p: (p[1], *middle, np.array(p[0], dtype=int))))
            kinds.append(pairs.map(lambda p: (slice(p[1], None), *middle, None, np.array(p[0], dtype=int))))
    return st.one_of(kinds)


@quick
@given(st.data(), shapes, seeds)
def test_every_index_reads_and_writes_as_in_numpy(
    data: st.DataObject, shape: tuple[int, ...], seed: int
) -> None:
    index = data.draw(indices(shape))
    rng = np.random.default_rng(seed)
    x = rng.standard_normal(shape)
    part = np.asarray(x[index])
    np.testing.assert_array_equal(tg.tensor(x)[index].numpy(), part)
    assert_adjoint(lambda a: a[index], x, rng)

    value = rng.standard_normal(part.shape)
    added = x.copy()
    np.add.at(added, index, value)
    np.testing.assert_allclose(ops.index_add(tg.tensor(x), index, value).numpy(), added, atol=1e-12)
    assert_adjoint(lambda a: ops.index_add(a, index, value), x, rng)
    assert_adjoint(lambda v: ops.index_add(x, index, v), value, rng)

    updated = x.copy()
    updated[index] = value
    np.testing.assert_array_equal(ops.index_update(tg.tensor(x), index, value).numpy(), updated)
    assert_adjoint(lambda a: ops.index_update(a, index, value), x, rng)
    assert_adjoint(lambda v: ops.index_update(x, index, v), value, rng)


@st.composite
def contractions(draw: st.DrawFn) -> tuple[str, list[tuple[int, ...]]]:
    """Subscripts of one to three operands, repeated letters and any output among them, with shapes."""
    lengths = {letter: draw(st.integers(1, 3)) for letter in "abcd"}
    terms = draw(st.lists(st.text("abcd", max_size=3), min_size=1, max_size=3))
    used = sorted(set("".join(terms)))
    out = draw(st.permutations(used))[: draw(st.integers(0, len(used)))]
    subscripts = ",".join(terms) + draw(st.sampled_from(["", "->" + "".join(out)]))
    # An operand of length 1 along a letter is repeated, as in NumPy.
    repeated = [draw(st.sampled_from(["", "", "a", "b"])) for _ in terms]
    return subscripts, [
        tuple(1 if letter in ones else lengths[letter] for letter in term)
        for term, ones in zip(terms, repeated, strict=True)
    ]


@quick
@given(contractions(), seeds)
def test_einsum_is_numpys_and_linear_in_each_operand(
    drawn: tuple[str, list[tuple[int, ...]]], seed: int
) -> None:
    subscripts, operand_shapes = drawn
    rng = np.random.default_rng(seed)
    xs = [rng.standard_normal(shape) for shape in operand_shapes]
    expected = np.einsum(subscripts, *xs)
    out = ops.einsum(subscripts, *map(tg.tensor, xs))
    assert out.shape == expected.shape
    np.testing.assert_allclose(out.numpy(), expected, rtol=1e-10, atol=1e-10)
    for k, x in enumerate(xs):
        assert_adjoint(in_place_of(xs, k, lambda *all_of_them: ops.einsum(subscripts, *all_of_them)), x, rng)


@quick
@given(st.data(), shapes, seeds)
@pytest.mark.parametrize("op", ["sum", "mean", "cumsum", "flip", "transpose", "roll"])
def test_linear_operations_over_drawn_axes(
    op: str, data: st.DataObject, shape: tuple[int, ...], seed: int
) -> None:
    rng = np.random.default_rng(seed)
    x = rng.standard_normal(shape)
    n = len(shape)
    given_axes: dict[str, Any]
    if op in ("sum", "mean", "flip"):
        axes = data.draw(st.none() | hnp.valid_tuple_axes(n))
        if op == "mean" and 0 in (shape if axes is None else [shape[a] for a in axes]):
            return
        given_axes = {"axis": axes}
    elif op == "transpose":
        given_axes = {"axes": data.draw(st.none() | st.permutations(range(n)).map(tuple))}
    else:
        axis = data.draw(st.none() if n == 0 else st.none() | st.integers(-n, n - 1))
        given_axes = {"axis": axis}
        if op == "roll":
            given_axes["shift"] = data.draw(st.integers(-4, 4))
    out = getattr(ops, op)(tg.tensor(x), **given_axes)
    np.testing.assert_allclose(out.numpy(), getattr(np, op)(x, **given_axes), atol=1e-12)
    assert_adjoint(lambda a: getattr(ops, op)(a, **given_axes), x, rng)


@quick
@given(st.data(), st.integers(1, 4), seeds)
def test_split_undoes_concatenate(data: st.DataObject, count: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    axis = data.draw(st.sampled_from([0, 1, -1]))
    lengths = [data.draw(st.integers(0, 3)) for _ in range(count)]
    parts = [rng.standard_normal((n, 2) if axis == 0 else (2, n)) for n in lengths]
    whole = ops.concatenate([tg.tensor(p) for p in parts], axis)
    for part, again in zip(parts, ops.split(whole, np.cumsum(lengths)[:-1].tolist(), axis), strict=True):
        np.testing.assert_array_equal(again.numpy(), part)
    for k, part in enumerate(parts):
        assert_adjoint(
            in_place_of(parts, k, lambda *all_of_them: ops.concatenate(all_of_them, axis)), part, rng
        )
