"""What the table cannot say in one row: dtypes in mixed company, kinks, extremes, and errors."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import tensorgrad as tg
from tensorgrad import ops
from tensorgrad.errors import DtypeError, ShapeError

NUMPY_2 = int(np.__version__.split(".")[0]) >= 2


def slope(fn: Callable[..., Any], *xs: Any) -> list[np.ndarray]:
    """The gradients of sum(fn(*xs)) in all float operands."""
    leaves = [tg.tensor(x) for x in xs]
    wanted = [leaf.requires_grad_() for leaf in leaves if leaf.dtype.kind == "f"]
    out = fn(*leaves)
    return tg.grad(out, wanted, np.ones(out.shape))


# --- dtypes ----------------------------------------------------------------------------------------------
@pytest.mark.parametrize("shape", [(), (3,)], ids=str)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("number", [2, 2.5, True])
@pytest.mark.parametrize("op", ["add", "subtract", "multiply", "divide", "power", "maximum", "minimum"])
def test_python_numbers_take_the_dtype_of_the_tensor(
    op: str, number: Any, dtype: str, shape: tuple[int, ...]
) -> None:
    x = tg.tensor(np.full(shape, 1.5, dtype), requires_grad=True)
    fn = getattr(ops, op)
    for out, expected in ((fn(x, number), (1.5, number)), (fn(number, x), (number, 1.5))):
        assert out.dtype == np.dtype(dtype)
        np.testing.assert_allclose(out.numpy(), getattr(np, op)(*expected), rtol=1e-6)
        assert tg.grad(out.sum(), [x])[0].dtype == np.dtype(dtype)


@pytest.mark.parametrize("shape", [(), (3,)], ids=str)
def test_python_numbers_do_not_widen_where_and_its_like(shape: tuple[int, ...]) -> None:
    x = tg.tensor(np.full(shape, -0.5, np.float32), requires_grad=True)
    results = [
        ops.where(x > 0, x, 0.0),
        ops.where(x > 0, 1, x),
        ops.where(x.numpy() > 0, 0.5, x),
        ops.where(x > 0, x.numpy(), x) * 2.0,
        ops.clip(x, -0.25, 1.0),
        ops.clip(x, 0),
        ops.stack([x, x]) + 1e-5,
        tg.relu(x) / 3,
        x**2,
        x**-1,
        2.0**x,
        1 - x,
        x.mean() * 0.5,
    ]
    for out in results:
        assert out.dtype == np.float32, out


def test_where_of_numbers_alone_has_the_dtype_numpy_gives() -> None:
    condition = tg.tensor([True, False])
    for x, y in ((1, 2), (1.0, 2), (True, False)):
        out = ops.where(condition, x, y)
        assert out.dtype == np.where([True, False], x, y).dtype
        np.testing.assert_array_equal(out.numpy(), [x, y])


@pytest.mark.parametrize(
    "other", [np.float64(2), np.ones(2), np.arange(1, 3), np.float32(2), np.ones(2, bool)], ids=repr
)
@pytest.mark.parametrize("op", ["add", "multiply", "divide", "maximum"])
def test_numpy_operands_mix_as_in_numpy(op: str, other: Any) -> None:
    x = np.array([1.5, 0.5], np.float32)
    leaf = tg.tensor(x, requires_grad=True)
    expected = getattr(np, op)(x, other)
    out = getattr(ops, op)(leaf, other)
    assert out.dtype == expected.dtype
    np.testing.assert_array_equal(out.numpy(), expected)
    # Whatever the result, the gradient comes back in the precision of the operand.
    assert tg.grad(out.sum(), [leaf])[0].dtype == np.float32


@pytest.mark.parametrize("dtype", ["int8", "int64", "uint8", "bool"])
@pytest.mark.parametrize(
    "op",
    [
        "add",
        "multiply",
        "divide",
        "maximum",
        "power",
        "exp",
        "tanh",
        "sqrt",
        "sum",
        "mean",
        "prod",
        "cumsum",
        "max",
    ],
)
def test_integers_follow_numpy_and_have_no_gradient(op: str, dtype: str) -> None:
    x = np.array([1, 0, 1]).astype(dtype)
    count = 2 if op in ("add", "multiply", "maximum", "power") else 1
    if op == "divide":
        xs = [x, np.ones(3, dtype)]
    elif op == "power" and dtype == "bool":
        pytest.skip("NumPy has no power of booleans in every version")
    else:
        xs = [x] * count
    expected = getattr(np, op)(*xs)
    out = getattr(ops, op)(*map(tg.tensor, xs))
    assert out.dtype == expected.dtype
    np.testing.assert_array_equal(out.numpy(), expected)
    assert not out.requires_grad


def test_sigmoid_softplus_logsumexp_and_relu_of_integers() -> None:
    x = np.array([-2, 0, 3])
    for fn in (ops.sigmoid, ops.softplus, ops.logsumexp, ops.relu):
        np.testing.assert_array_equal(fn(x), fn(tg.tensor(x)).numpy())
        np.testing.assert_allclose(fn(x), fn(x.astype(float)))


def test_integers_beside_floats_pass_the_gradient_to_the_floats() -> None:
    x = tg.tensor([1.0, 2.0], requires_grad=True)
    ids = tg.tensor([3, 4])
    out = x * ids + ops.where(ids > 3, x, 0) + ops.power(x, ids)
    np.testing.assert_allclose(tg.grad(out.sum(), [x])[0], [3 + 3, 4 + 1 + 4 * 8])


def test_a_number_too_large_for_the_dtype_is_an_error() -> None:
    if not NUMPY_2:
        pytest.skip("NumPy 1 wraps around with a warning of its own")
    with pytest.raises(DtypeError, match=r"add.*300 out of bounds for int8"):
        tg.tensor(np.zeros(2, np.int8)) + 300


def test_astype_there_and_back() -> None:
    x = tg.tensor([0.5, 1.5], requires_grad=True)
    single = ops.astype(x, np.float32)
    g = tg.grad((single * single).sum(), [x])[0]
    assert single.dtype == np.float32
    assert g.dtype == np.float64
    np.testing.assert_array_equal(g, [1.0, 3.0])
    assert not ops.astype(x, int).requires_grad


# --- kinks -----------------------------------------------------------------------------------------------
def test_gradients_at_kinks_are_the_documented_ones() -> None:
    zero = np.zeros(1)
    assert slope(ops.abs, zero)[0] == 0
    assert slope(ops.relu, zero)[0] == 0
    assert slope(ops.sign, zero)[0] == 0
    for fn in (ops.maximum, ops.minimum):
        np.testing.assert_array_equal(
            slope(fn, [1.0, 2.0], [1.0, 3.0]), [[0.5, fn is ops.minimum], [0.5, fn is ops.maximum]]
        )
    np.testing.assert_array_equal(
        slope(lambda x: ops.clip(x, -1, 1), [-2.0, -1.0, 0.0, 1.0, 2.0])[0], [0, 1, 1, 1, 0]
    )
    np.testing.assert_array_equal(slope(ops.max, [3.0, 1.0, 3.0])[0], [0.5, 0, 0.5])
    np.testing.assert_array_equal(
        slope(lambda x: ops.min(x, 1), [[1.0, 1.0], [0.0, 1.0]])[0], [[0.5, 0.5], [1, 0]]
    )
    np.testing.assert_array_equal(slope(ops.std, [2.0, 2.0])[0], [0, 0])


@pytest.mark.parametrize("ord", [None, 1, 2, 3, 2.5, np.inf])
def test_the_gradient_of_a_norm_at_zero_is_zero(ord: Any) -> None:
    g = slope(lambda x: ops.norm(x, ord, axis=1), [[0.0, 0.0], [3.0, 0.0]])[0]
    np.testing.assert_allclose(g, [[0, 0], [1, 0]])


def test_power_at_zero_and_below() -> None:
    x = np.array([0.0, 0.0, 0.0, -2.0, -2.0])
    y = np.array([0.0, 1.0, 2.0, 3.0, 0.0])
    dx, dy = slope(ops.power, x, y)
    np.testing.assert_array_equal(dx, [0, 1, 0, 12, 0])
    np.testing.assert_array_equal(dy, np.zeros(5))


def test_second_derivatives_of_power_at_zero() -> None:
    cases: list[tuple[float, float]] = [(0, 0), (1, 0), (2, 2), (3, 0), (2.0, 2)]
    for exponent, expected in cases:
        assert tg.hvp(lambda x, n=exponent: ops.power(x, n), [np.array(0.0)], [np.array(1.0)])[0] == expected


def test_prod_with_zeros_and_its_second_derivative() -> None:
    np.testing.assert_array_equal(slope(ops.prod, [2.0, 0.0, 5.0])[0], [0, 10, 0])
    np.testing.assert_array_equal(slope(ops.prod, [0.0, 0.0, 5.0])[0], [0, 0, 0])
    hessian = tg.jacobian(
        lambda x: tg.grad(ops.prod(x), [x], create_graph=True)[0], np.array([0.0, 0.0, 5.0])
    )
    np.testing.assert_array_equal(hessian, [[0, 5, 0], [5, 0, 0], [0, 0, 0]])


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_where_does_not_choose_gets_zero_whatever_arrives(bad: float) -> None:
    x, y = (tg.tensor([1.0, 2.0], requires_grad=True) for _ in range(2))
    dx, dy = tg.grad(ops.where([True, False], x, y), [x, y], np.array([bad, bad]))
    np.testing.assert_array_equal(dx, [bad, 0])
    np.testing.assert_array_equal(dy, [0, bad])


# --- extremes --------------------------------------------------------------------------------------------
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("op", ["tanh", "sigmoid", "softplus", "relu", "logsumexp"])
def test_saturating_functions_stay_finite(op: str, dtype: str) -> None:
    x = np.array([-1e4, -100, -1.0, 0.0, 1.0, 100, 1e4], dtype)
    fn = getattr(ops, op)
    assert np.isfinite(fn(x)).all()
    leaf = tg.tensor(x, requires_grad=True)
    first = tg.grad(fn(leaf).sum(), [leaf], create_graph=True)[0]
    second = tg.grad((first * first).sum(), [leaf])[0] if first.requires_grad else np.zeros(1)
    assert np.isfinite(first.numpy()).all()
    assert np.isfinite(second).all()


def test_sigmoid_is_precise_in_both_tails() -> None:
    x = np.array([-700.0, -40.0, 40.0])
    np.testing.assert_allclose(ops.sigmoid(x), [np.exp(-700.0), np.exp(-40.0), 1.0], rtol=1e-14)
    np.testing.assert_allclose(slope(ops.sigmoid, x[:2])[0], np.exp(x[:2]), rtol=1e-14)


def test_logsumexp_of_rows_that_are_infinite() -> None:
    x = np.array([[-np.inf, -np.inf], [-np.inf, 2.0], [np.inf, 2.0], [1e4, 1e4]])
    np.testing.assert_allclose(ops.logsumexp(x, axis=1), [-np.inf, 2.0, np.inf, 1e4 + float(np.log(2))])
    g = slope(lambda t: ops.logsumexp(t, axis=1), x)[0]
    np.testing.assert_allclose(g, [[0.0, 0.0], [0.0, 1.0], [0.0, 0.0], [0.5, 0.5]])
    assert ops.logsumexp(np.zeros((2, 0)), axis=1).tolist() == [-np.inf, -np.inf]


@pytest.mark.parametrize("op", ["max", "min"])
def test_the_gradient_of_an_extremum_that_is_nan_goes_to_the_nan(op: str) -> None:
    x = np.array([[1.0, np.nan, 3.0], [1.0, 2.0, 2.0]])
    g = slope(lambda x: getattr(ops, op)(x, axis=1), x)[0]
    np.testing.assert_array_equal(g, [[0, 1, 0], [0, 0.5, 0.5] if op == "max" else [1, 0, 0]])


def test_the_gradient_of_logsumexp_of_nan_is_nan() -> None:
    g = slope(lambda x: ops.logsumexp(x, axis=1), np.array([[1.0, np.nan], [0.0, 0.0]]))[0]
    np.testing.assert_array_equal(g, [[np.nan, np.nan], [0.5, 0.5]])


def test_reductions_over_nothing() -> None:
    x = tg.tensor(np.ones((2, 0)), requires_grad=True)
    for fn, expected in ((ops.sum, 0.0), (ops.prod, 1.0)):
        out = fn(x, axis=1)
        np.testing.assert_array_equal(out.numpy(), [expected] * 2)
        assert tg.grad(out.sum(), [x])[0].shape == (2, 0)
    with np.errstate(all="ignore"), pytest.warns(RuntimeWarning):
        out = ops.mean(x)
    assert np.isnan(out.item())
    assert tg.grad(out, [x])[0].shape == (2, 0)
    for fn in (ops.max, ops.min):
        with pytest.raises(ShapeError, match=rf"{fn.__name__}.*\(2, 0\)"):
            fn(x, axis=1)


def test_the_variance_of_too_few_elements_has_no_gradient_that_is_a_number() -> None:
    x = tg.tensor([[1.0]], requires_grad=True)
    with np.errstate(all="ignore"), pytest.warns(RuntimeWarning):
        out = ops.var(x, axis=0, ddof=1)
    assert np.isnan(tg.grad(out.sum(), [x])[0]).all()


# --- writing ---------------------------------------------------------------------------------------------
def test_index_update_keeps_the_last_of_repeated_writes_and_its_gradient() -> None:
    x, value = tg.tensor(np.zeros(3), requires_grad=True), tg.tensor([1.0, 2.0, 3.0], requires_grad=True)
    out = ops.index_update(x, [1, 1, 0], value)
    np.testing.assert_array_equal(out.numpy(), [3, 2, 0])
    dx, dv = tg.grad(out, [x, value], np.array([10.0, 20.0, 30.0]))
    np.testing.assert_array_equal(dx, [0, 0, 30])
    np.testing.assert_array_equal(dv, [0, 20, 10])


def test_index_update_does_not_cut_floats_to_integers() -> None:
    with pytest.raises(DtypeError, match=r"index_update.*float64 values cannot be written into int64"):
        ops.index_update(np.zeros(3, np.int64), 0, tg.tensor(0.5, requires_grad=True))
    out = ops.index_update(tg.tensor(np.zeros(3, np.float32)), 0, 0.1)
    assert out.dtype == np.float32


def test_writing_makes_a_copy() -> None:
    x = np.zeros(3)
    ops.index_update(x, 0, 1.0)
    ops.index_add(x, 0, 1.0)
    np.testing.assert_array_equal(x, np.zeros(3))


def test_tensors_and_numpy_integers_are_indices_too() -> None:
    x = tg.tensor(np.arange(12.0).reshape(3, 4), requires_grad=True)
    rows, columns = tg.tensor([0, 2, 0]), tg.tensor([1, 1, 1])
    out = x[rows, columns]
    np.testing.assert_array_equal(out.numpy(), [1, 9, 1])
    expected = np.zeros((3, 4))
    expected[0, 1], expected[2, 1] = 2, 1
    np.testing.assert_array_equal(tg.grad(out.sum(), [x])[0], expected)
    np.testing.assert_array_equal(x[np.int64(1), rows].numpy(), [4, 6, 4])
    np.testing.assert_array_equal(x[x > 9].numpy(), [10, 11])
    np.testing.assert_array_equal(x[rows > 1].numpy(), [[4, 5, 6, 7]])


def test_split_gives_as_many_parts_as_numpy() -> None:
    cases: list[tuple[int, Any]] = [(6, 3), (6, 1), (0, 3), (5, [2, 3]), (5, []), (5, [0, 9])]
    for n, cuts in cases:
        parts = ops.split(tg.tensor(np.arange(n)), cuts)
        assert [p.tolist() for p in parts] == [p.tolist() for p in np.split(np.arange(n), cuts)]


# --- errors ----------------------------------------------------------------------------------------------
T = tg.tensor
BAD: list[tuple[Callable[[], Any], type[Exception], str]] = [
    (
        lambda: T([1.0, 2.0]) + np.ones(3),
        ShapeError,
        r"add: .*broadcast.*Operands: \(2,\) float64, \(3,\) float64",
    ),
    (
        lambda: T(np.ones((2, 3))) @ np.ones((2, 3)),
        ShapeError,
        r"matmul: .*\(2, 3\) float64, \(2, 3\) float64",
    ),
    (
        lambda: ops.matmul(np.ones((2, 3)), np.ones(2)),
        ShapeError,
        r"matmul: .*\(2, 3\) float64, \(2,\) float64",
    ),
    (lambda: ops.matmul(T(1.0), T(1.0)), ShapeError, "matmul: "),
    (lambda: ops.linear(T(np.ones((2, 3))), T(np.ones((4, 2)))), ShapeError, r"linear: .*\(2, 3\).*\(4, 2\)"),
    (lambda: ops.linear(T(np.ones(3)), T(np.ones(3))), ShapeError, "linear: the weight must be a matrix"),
    (lambda: ops.linear(T(np.ones((1, 3))), T(np.ones((2, 3))), np.ones((5, 2))), ShapeError, "linear: "),
    (lambda: T([1.0]) + "a", DtypeError, "add: an operand must be a number or an array of numbers, not str"),
    (lambda: T([1.0]) * None, DtypeError, "multiply: .*not NoneType"),
    (lambda: T([1.0]) * np.array([1], dtype=object), DtypeError, "multiply: .*ndarray of object"),
    (lambda: ops.where(T([True]), T([1.0]), None), DtypeError, "where: .*not NoneType"),
    (lambda: ops.sum(T([1.0]), axis=1), ShapeError, "sum: axis 1 does not exist; the operand has 1 axes"),
    (lambda: ops.sum(T([1.0]), axis=0.5), DtypeError, r"sum: an axis is an integer, not 0\.5"),
    (lambda: ops.sum(T([1.0]), axis="a"), DtypeError, "sum: an axis is an integer, not 'a'"),
    (lambda: ops.linear(T(1.0), T(np.ones((2, 3)))), ShapeError, "linear: .* x have an axis of length D"),
    (lambda: T([1.0, 2.0]) * [T(1.0), T(2.0)], DtypeError, r"multiply: a list of Tensors would lose .*stack"),
    (lambda: ops.mean(T(1.0), axis=0), ShapeError, "mean: axis 0 does not exist; the operand has 0 axes"),
    (lambda: ops.max(T([[1.0]]), axis=(0, -2)), ShapeError, r"max: an axis is named twice in \(0, -2\)"),
    (lambda: ops.softplus(T("1.0")), DtypeError, "Tensor holds numbers"),
    (lambda: ops.reshape(T(np.ones(6)), (4, -1)), ShapeError, r"reshape: cannot reshape.*shape=\(4, -1\)"),
    (
        lambda: ops.squeeze(T(np.ones((2, 1))), 0),
        ShapeError,
        r"squeeze: axis 0 of shape \(2, 1\) has length 2",
    ),
    (lambda: ops.expand_dims(T(np.ones(2)), 3), ShapeError, "expand_dims: axis 3 does not exist"),
    (lambda: ops.broadcast_to(T(np.ones(3)), (2, 2)), ShapeError, r"broadcast_to: .*\(2, 2\)"),
    (lambda: ops.transpose(T(np.ones((2, 3))), (0,)), ShapeError, r"transpose: axes \(0,\) do not name each"),
    (lambda: ops.swapaxes(T(np.ones((2, 3))), 0, 2), ShapeError, "swapaxes: axis 2"),
    (lambda: ops.concatenate([]), ShapeError, "concatenate: needs at least one operand"),
    (lambda: ops.concatenate([T(np.ones(2)), np.ones((2, 2))]), ShapeError, "concatenate: "),
    (lambda: ops.concatenate([T(1.0), T(2.0)]), ShapeError, "concatenate: axis 0 does not exist"),
    (lambda: ops.stack([]), ShapeError, "stack: needs at least one operand"),
    (
        lambda: ops.stack([T(np.ones(2)), T(np.ones(3))]),
        ShapeError,
        r"stack: .*\(2,\) float64, \(3,\) float64",
    ),
    (
        lambda: ops.split(T(np.ones(5)), 2),
        ShapeError,
        "split: an axis of length 5 cannot be cut into 2 equal parts",
    ),
    (lambda: ops.split(T(np.ones(5)), 0), ShapeError, "split: .*into 0 equal parts"),
    (lambda: ops.pad(T(np.ones(2)), -1), ShapeError, "pad: widths cannot be negative, but -1"),
    (lambda: T(np.ones(3))[3], ShapeError, "getitem: index 3 is out of bounds"),
    (lambda: T(np.ones(3))[[0, -4]], ShapeError, "getitem: index -4 is out of bounds"),
    (lambda: T(np.ones(3))[0, 0], ShapeError, "getitem: too many indices"),
    (lambda: T(np.ones(3))[np.array([True, False])], ShapeError, "getitem: boolean index"),
    (lambda: T(np.ones(3))[0.5], ShapeError, "getitem: "),
    (lambda: T(np.ones(3))[T(0.5)], ShapeError, "getitem: "),
    (lambda: ops.take(T(np.ones((2, 3))), [3], 1), ShapeError, "getitem: index 3 is out of bounds"),
    (lambda: ops.take(T(np.ones(2)), 0, 1), ShapeError, "take: axis 1 does not exist"),
    (
        lambda: ops.take_along_axis(T(np.ones((2, 3))), np.zeros(2, int), 1),
        ShapeError,
        "take_along_axis: indices have 1",
    ),
    (lambda: ops.index_update(T(np.ones(3)), slice(2), np.ones(3)), ShapeError, "index_update: "),
    (lambda: ops.index_add(T(np.ones(3)), 5, 1.0), ShapeError, "index_add: index 5"),
    (
        lambda: ops.einsum("ij,jk", T(np.ones((2, 3)))),
        ShapeError,
        "einsum: 'ij,jk' names 2 operands, but 1 were given",
    ),
    (
        lambda: ops.einsum("ij", T(np.ones(3))),
        ShapeError,
        "einsum: 'ij' in 'ij' does not fit an operand of 1 axes",
    ),
    (lambda: ops.einsum("ij,jk", T(np.ones((2, 3))), np.ones((2, 3))), ShapeError, "einsum: "),
    (lambda: ops.einsum("i->j", T(np.ones(3))), ShapeError, "einsum: "),
    (lambda: ops.trace(T(np.ones((2, 2))), axis1=0, axis2=-2), ShapeError, "trace: needs two different axes"),
    (lambda: ops.trace(T(np.ones(2))), ShapeError, "trace: axis 1 does not exist"),
    (lambda: ops.norm(T(np.ones((2, 2))), 2), ShapeError, "norm: ord=2 over 2 axes is not offered"),
    (lambda: ops.norm(T(np.ones(2)), 0), ShapeError, "norm: ord=0"),
    (lambda: ops.norm(T(np.ones((2, 2))), "nuc"), ShapeError, "norm: ord='nuc'"),
    (lambda: ops.inv(T(np.zeros((2, 2)))), ShapeError, "inv: Singular matrix"),
    (lambda: ops.inv(T(np.ones((2, 3)))), ShapeError, "inv: .*square"),
    (lambda: ops.solve(T(np.eye(2)), T(np.ones(3))), ShapeError, "solve: "),
    (lambda: ops.power(T([2]), -1), ShapeError, "power: Integers to negative integer powers"),
    (lambda: ops.add(T([1.0]), y=T([2.0])), DtypeError, "add: give the Tensor 'y' by position"),
    (lambda: ops.sigmoid(x=T([1.0])), DtypeError, "sigmoid: give the Tensor 'x' by position"),
]


@pytest.mark.parametrize(("make", "kind", "message"), BAD, ids=[message for _, _, message in BAD])
def test_errors_name_the_operation_and_the_reason(make: Callable[[], Any], kind: Any, message: str) -> None:
    with pytest.raises(kind, match=re.compile(message, re.DOTALL)):
        make()


def test_errors_name_the_scope() -> None:
    with (
        tg.scope("encoder"),
        tg.scope("t=3"),
        pytest.raises(ShapeError, match="add in scope 'encoder/t=3': "),
    ):
        tg.tensor([1.0, 2.0]) + np.ones(3)
    with tg.scope("decoder"), pytest.raises(ShapeError, match="multiply in scope 'decoder': "):
        ops.multiply(np.ones(2), np.ones(3))


def test_linear_takes_a_missing_bias_and_a_named_one() -> None:
    x, weight = np.ones((2, 3)), tg.tensor(np.ones((4, 3)), requires_grad=True)
    bias = tg.tensor(np.zeros(4), requires_grad=True)
    np.testing.assert_array_equal(tg.functional.linear(x, weight, None).numpy(), np.full((2, 4), 3.0))
    out = tg.functional.linear(x, weight, bias=bias)
    np.testing.assert_array_equal(tg.grad(out.sum(), [bias])[0], np.full(4, 2.0))


def test_gradients_of_linear_with_a_bias_of_more_rows_than_x() -> None:
    rng = np.random.default_rng(0)
    x, weight, bias = rng.standard_normal(3), rng.standard_normal((2, 3)), rng.standard_normal((4, 2))
    tg.gradcheck(ops.linear, [x, weight, bias], order=2)


def test_einsum_repeats_axes_of_length_one() -> None:
    rng = np.random.default_rng(0)
    for subscripts in ("ij,ij->i", "ij,ij->", "...j,...j->"):
        for shape in ((2, 1), (1, 3), (1, 1)):
            operands = rng.standard_normal((2, 3)), rng.standard_normal(shape)
            tg.gradcheck(lambda a, b, s=subscripts: ops.einsum(s, a, b), operands, order=2)


@pytest.mark.parametrize("dtype", ["int8", "uint8", "uint64"])
def test_narrow_and_unsigned_indices_give_the_gradients_of_wide_ones(dtype: str) -> None:
    x = np.random.default_rng(0).standard_normal((256, 2))
    ids = np.array([1, 100, 1])
    narrow, wide = (slope(lambda x, i=i: x[i] * 2.0, x)[0] for i in (ids.astype(dtype), ids))
    np.testing.assert_array_equal(narrow, wide)


def test_padding_no_axes_changes_nothing() -> None:
    assert slope(lambda x: ops.pad(x, 1), 2.0) == [1.0]
    assert ops.pad(np.array(2.0), 1).shape == np.pad(np.array(2.0), 1).shape == ()


def test_linear_adds_terms_of_more_axes_and_of_another_dtype() -> None:
    weight = tg.tensor(np.ones((4, 3), np.float32), requires_grad=True)
    out = ops.linear(np.ones(3, np.float32), weight, np.zeros((2, 4), np.float32))
    np.testing.assert_array_equal(out.numpy(), np.full((2, 4), 3.0))
    assert out.dtype == np.float32
    bias = tg.tensor(np.full(4, 1e-12), requires_grad=True)
    out = ops.linear(np.ones((2, 3), np.float32), weight, bias)
    assert out.dtype == np.float64
    np.testing.assert_array_equal(out.numpy(), np.full((2, 4), 3.0 + 1e-12))
    dw, db = tg.grad(out.sum(), [weight, bias])
    assert (dw.dtype, db.dtype) == (np.float32, np.float64)
