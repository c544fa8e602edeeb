"""Tensor: what it is made of, and how it behaves beside NumPy, PyTorch, Python and a notebook."""

from __future__ import annotations

import copy
import operator
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import tensorgrad as tg
from tensorgrad.errors import DtypeError, GraphError, ShapeError

ARITHMETIC = [operator.add, operator.sub, operator.mul, operator.truediv, operator.pow, operator.matmul]
COMPARISONS = [operator.lt, operator.le, operator.gt, operator.ge, operator.eq, operator.ne]
LOGIC = [operator.and_, operator.or_, operator.xor]


# --- making one ------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("data", "dtype"),
    [
        (1.5, "float64"),
        (2, "int64"),
        (True, "bool"),
        ([1.0, 2.0], "float64"),
        ([[1, 2], [3, 4]], "int64"),
        (np.float32(1), "float32"),
        (np.ones(2, np.float32), "float32"),
        (np.ones(2, np.float16), "float16"),
        (np.arange(3, dtype=np.uint8), "uint8"),
        (range(3), "int64"),
    ],
    ids=repr,
)
def test_dtypes_follow_numpy(data: Any, dtype: str) -> None:
    x = tg.tensor(data)
    assert x.dtype == np.dtype(dtype)
    assert x.shape == np.shape(data)
    np.testing.assert_array_equal(x.numpy(), np.asarray(data))


def test_a_tensor_is_a_copy() -> None:
    source = np.ones(3)
    x = tg.tensor(source)
    source[:] = 5
    np.testing.assert_array_equal(x.numpy(), np.ones(3))
    y = tg.tensor(x, dtype=np.float32)
    assert y.dtype == np.float32
    assert tg.tensor(x) is not x


@pytest.mark.parametrize(
    "data", ["a", [1.0, "b"], None, {"a": 1}, [[1.0], [1.0, 2.0]], np.array([None])], ids=repr
)
def test_what_is_no_array_of_numbers_is_an_error(data: Any) -> None:
    with pytest.raises(DtypeError, match=r"tensor: |Tensor holds numbers, not"):
        tg.tensor(data)


def test_the_class_takes_arrays_only() -> None:
    with pytest.raises(DtypeError, match=r"takes an array, not list; use tg.tensor"):
        tg.Tensor([1.0])  # type: ignore[arg-type]


@pytest.mark.parametrize("dtype", ["int64", "bool", "complex128"])
def test_only_floats_require_a_gradient(dtype: str) -> None:
    with pytest.raises(DtypeError, match=f"only floats can require a gradient, not {dtype}"):
        tg.tensor(np.ones(2, dtype), requires_grad=True)
    with pytest.raises(DtypeError, match=f"not {dtype}"):
        tg.tensor(np.ones(2, dtype)).requires_grad_()


def test_complex_numbers_on_the_way_are_an_error_and_not_a_wrong_gradient() -> None:
    x = tg.tensor(2.0, requires_grad=True)
    with pytest.raises(DtypeError, match="gradients through complex numbers"):
        tg.abs(x * (1 + 2j)).backward()


def test_requires_grad_can_be_switched_on_leaves_only() -> None:
    x = tg.tensor(1.0)
    assert x.requires_grad_() is x
    y = x * 2
    assert y.requires_grad
    with pytest.raises(GraphError, match=r"result of multiply .* is computed; use detach"):
        y.requires_grad_(False)
    assert not x.requires_grad_(False).requires_grad


def test_facts() -> None:
    x = tg.tensor(np.zeros((2, 3), np.float32), name="x")
    assert (x.shape, x.ndim, x.size, len(x), x.name, x.dtype) == ((2, 3), 2, 6, 2, "x", np.float32)
    assert x.is_leaf
    assert (x.T.shape, x.mT.shape, tg.tensor(np.zeros((4, 2, 3))).mT.shape) == ((3, 2), (3, 2), (4, 3, 2))


# --- values out ------------------------------------------------------------------------------------------
def test_numpy_and_data_are_read_only_views() -> None:
    x = tg.tensor([1.0, 2.0], requires_grad=True)
    for view in (x.numpy(), x.data, np.asarray(x)):
        with pytest.raises(ValueError, match="read-only"):
            view[0] = 5.0
    mine = np.array(x)
    mine[0] = 5.0
    np.testing.assert_array_equal(x.numpy(), [1, 2])


def test_array_protocol() -> None:
    x = tg.tensor([1.0, 2.0])
    assert type(np.asarray(x)) is np.ndarray
    assert np.asarray(x, dtype=np.float32).dtype == np.float32
    assert np.shares_memory(np.asarray(x), x.numpy())
    assert not np.shares_memory(np.array(x), x.numpy())
    if int(np.__version__.split(".")[0]) >= 2:
        with pytest.raises(ValueError, match="without a copy"):
            np.array(x, dtype=np.float32, copy=False)
        assert np.shares_memory(np.array(x, copy=False), x.numpy())
    np.testing.assert_allclose(x, [1, 2])


def test_item_and_tolist() -> None:
    assert tg.tensor([[2.5]]).item() == 2.5
    assert isinstance(tg.tensor(2).item(), int)
    assert tg.tensor([[1, 2]]).tolist() == [[1, 2]]
    with pytest.raises(ShapeError, match=r"exactly one element, not 2 of shape \(2,\)"):
        tg.tensor([1.0, 2.0]).item()


def test_python_numbers() -> None:
    x = tg.tensor([[2.75]])
    assert (float(x), int(x), bool(x), bool(tg.tensor(0.0))) == (2.75, 2, True, False)
    assert [10, 20, 30][tg.tensor(1)] == 20
    assert list(range(tg.tensor(2))) == [0, 1]
    with pytest.raises(TypeError, match="only integer Tensors can be an index, not float64"):
        [1, 2][tg.tensor(1.0)]
    with pytest.raises(ShapeError, match="exactly one element"):
        float(tg.tensor([1.0, 2.0]))
    for empty_or_many in ([1.0, 2.0], []):
        with pytest.raises(ValueError, match=r"truth of a Tensor .* is not one value"):
            bool(tg.tensor(empty_or_many))


def test_format() -> None:
    assert f"{tg.tensor(1.23456):.2f}" == "1.23"
    assert f"{tg.tensor([[3]]):d}" == "3"
    x = tg.tensor([1.0, 2.0])
    assert f"{x}" == str(x) == repr(x)
    with pytest.raises(ShapeError, match="exactly one element"):
        format(x, ".2f")


def test_length_and_iteration() -> None:
    x = tg.tensor([[1.0, 2.0], [3.0, 4.0]], requires_grad=True)
    first, second = x
    assert (len(x), first.tolist(), second.tolist()) == (2, [1, 2], [3, 4])
    np.testing.assert_array_equal(tg.grad((first * second).sum(), [x])[0], [[3, 4], [1, 2]])
    assert list(tg.tensor(np.zeros((0, 2)))) == []
    assert [row.tolist() for row in reversed(x)] == [[3, 4], [1, 2]]
    for bad, message in ((len, "has no length"), (iter, "cannot be iterated over")):
        with pytest.raises(TypeError, match=f"0-d Tensor {message}"):
            bad(tg.tensor(1.0))


def test_hash_and_identity() -> None:
    x, y = tg.tensor([1.0, 2.0]), tg.tensor([1.0, 2.0])
    assert {x: "x", y: "y"}[x] == "x"
    assert len({x, y, x}) == 2
    assert hash(x) != hash(y)


# --- showing ---------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("x", "text"),
    [
        (tg.tensor([1.0, 2.0]), "Tensor([1., 2.])"),
        (tg.tensor(1), "Tensor(1)"),
        (tg.tensor([True]), "Tensor([ True])"),
        (tg.tensor(np.float32(0.5)), "Tensor(0.5, dtype=float32)"),
        (tg.tensor([1.0], requires_grad=True, name="W"), "Tensor([1.], name='W', requires_grad=True)"),
        (tg.tensor(np.zeros((2, 0))), "Tensor([], shape=(2, 0), dtype=float64)"),
        (tg.tensor([1.0], requires_grad=True) * 2, "Tensor([2.], op=multiply)"),
        (tg.tensor([[1, 2], [3, 4]]), "Tensor([[1, 2],\n        [3, 4]])"),
    ],
)
def test_repr(x: tg.Tensor, text: str) -> None:
    assert repr(x) == text


def test_repr_of_a_large_tensor_is_short() -> None:
    assert len(repr(tg.tensor(np.zeros((500, 500))))) < 1000


def test_notebook_display_tells_the_facts_and_escapes_names() -> None:
    with tg.scope("<i>scope</i>"):
        x = tg.tensor([1.0, -2.0], requires_grad=True) * 1
    html = tg.label(x, "<script>alert('&')</script>")._repr_html_()
    assert "<script>" not in html
    assert "<i>" not in html
    assert "&lt;script&gt;" in html
    for fact in ("shape (2,)", "float64", "from -2 to 1", "op multiply", "&lt;i&gt;scope"):
        assert fact in html
    assert "Tensor" in tg.tensor(np.zeros((0, 2)))._repr_html_()
    assert "nan" in tg.tensor([np.nan, 1.0])._repr_html_()


# --- beside NumPy ----------------------------------------------------------------------------------------
ARRAY = np.array([[1.0, 2.0], [3.0, 0.5]])
OTHERS = [
    ARRAY,
    np.float64(2.0),
    np.float32(0.5),
    3,
    0.5,
    np.array(2.0),
    [[1.0, 2.0], [2.0, 1.0]],
    np.arange(1, 3),
]


@pytest.mark.parametrize(
    ("op", "other"),
    # Numbers have no matrix product.
    [
        (op, other)
        for op in [*ARITHMETIC, *COMPARISONS]
        for other in OTHERS
        if op is not operator.matmul or np.ndim(other)
    ],
)
def test_operators_with_anything_on_either_side_give_tensors(op: Callable[..., Any], other: Any) -> None:
    x = tg.tensor(ARRAY + 0.25, requires_grad=True)
    plain = other if not isinstance(other, list) else np.array(other)
    for out, expected in ((op(x, other), op(x.numpy(), plain)), (op(other, x), op(plain, x.numpy()))):
        assert type(out) is tg.Tensor
        assert out.dtype == expected.dtype
        np.testing.assert_allclose(out.numpy(), expected, rtol=1e-14)
        assert out.requires_grad == (op in ARITHMETIC)


@pytest.mark.parametrize("op", ARITHMETIC, ids=lambda op: op.__name__)
def test_gradients_pass_operators_with_the_array_on_the_left(op: Callable[..., Any]) -> None:
    tg.gradcheck(lambda x: op(ARRAY, x), [ARRAY + 0.25], order=2)
    tg.gradcheck(lambda x: op(x, ARRAY), [ARRAY + 0.25], order=2)


@pytest.mark.parametrize("op", LOGIC, ids=lambda op: op.__name__)
@pytest.mark.parametrize("kind", [bool, int])
def test_logic_is_numpys_on_either_side(op: Callable[..., Any], kind: type) -> None:
    a: np.ndarray = np.array([0, 1, 0, 1]).astype(kind)
    b: np.ndarray = np.array([0, 0, 1, 3]).astype(kind)
    for out in (op(tg.tensor(a), tg.tensor(b)), op(a, tg.tensor(b)), op(tg.tensor(a), b)):
        assert type(out) is tg.Tensor
        assert out.dtype == op(a, b).dtype
        np.testing.assert_array_equal(out.numpy(), op(a, b))
    np.testing.assert_array_equal(op(True, tg.tensor(a)).numpy(), op(True, a))
    np.testing.assert_array_equal((~tg.tensor(a)).numpy(), ~a)
    with pytest.raises(DtypeError, match=r"(bitwise_\w+): .*not supported for the input types"):
        op(tg.tensor([1.0]), tg.tensor([1.0]))


def test_unary_operators() -> None:
    x = tg.tensor([-1.0, 2.0], requires_grad=True)
    np.testing.assert_array_equal((-x).numpy(), [1, -2])
    np.testing.assert_array_equal(abs(x).numpy(), [1, 2])
    np.testing.assert_array_equal((+x).numpy(), [-1, 2])
    np.testing.assert_array_equal(tg.grad((+x * +x).sum(), [x])[0], [-2, 4])


def test_equality_with_what_is_no_number_is_false() -> None:
    x = tg.tensor([1.0, 2.0])
    for other in (None, "x", {}, object()):
        assert (x == other) is False
        assert (x != other) is True
    assert x in ["a", None, x]


def test_equality_with_tensors_and_lists_is_element_by_element() -> None:
    x = tg.tensor([1.0, 2.0])
    assert (x == [1, 3]).tolist() == [True, False]
    assert (x != tg.tensor(2.0)).tolist() == [True, False]
    assert 2.0 in x  # type: ignore[operator]
    assert 3.0 not in x  # type: ignore[operator]


def test_numpy_functions_on_tensors_are_the_operations() -> None:
    x = tg.tensor(ARRAY, requires_grad=True)
    results = {
        "tanh": np.tanh(x),
        "absolute": np.abs(x),
        "true_divide": np.true_divide(x, 2.0),
        "sum": np.sum(x, axis=0),
        "mean": np.mean(x, axis=-1, keepdims=True),
        "concatenate": np.concatenate([x, ARRAY], axis=1),
        "stack": np.stack([ARRAY, x]),
        "where": np.where(x > 1, x, 0.0),
        "matmul": np.matmul(ARRAY, x),
        "einsum": np.einsum("ij,jk->ik", x, ARRAY),
        "reshape": np.reshape(x, (4,)),
        "transpose": np.transpose(x),
        "clip": np.clip(x, 0.75, 2.0),
        "take": np.take(x, [1, 0], axis=0),
        "pad": np.pad(x, 1),
        "maximum": np.maximum(x, 1.0),
        "squeeze": np.squeeze(x),
        "outer": np.outer(x, x),
        "std": np.std(x, ddof=1),
    }
    for name, out in results.items():
        assert type(out) is tg.Tensor, name
        assert out.requires_grad, name
    np.testing.assert_array_equal(tg.grad(results["take"][0].sum(), [x])[0], [[0, 0], [1, 1]])
    np.testing.assert_allclose(results["std"].item(), np.std(ARRAY, ddof=1))
    assert type(np.less(x, 1)) is tg.Tensor


def test_questions_numpy_asks_of_tensors_get_plain_answers() -> None:
    x = tg.tensor(ARRAY)
    assert (np.shape(x), np.ndim(x), np.size(x), np.size(x, 1)) == ((2, 2), 2, 4, 2)
    assert np.array_equal(x, ARRAY)
    assert np.allclose(x, ARRAY + 1e-12)
    assert np.result_type(x, np.float32) == np.float64


@pytest.mark.parametrize(
    "call",
    [
        lambda x: np.argmax(x),
        lambda x: np.sort(x),
        lambda x: np.floor(x),
        lambda x: np.linalg.norm(x),
        lambda x: np.linalg.matrix_rank(x),
        lambda x: np.add(x, 1.0, out=np.zeros((2, 2))),
        lambda x: np.add.reduce(x),
        lambda x: np.multiply.outer(x, x),
        lambda x: np.add(x, 1.0, where=np.ones((2, 2), bool)),
        lambda x: np.zeros((2, 2)).__iadd__(x),
        lambda x: np.ones((2, 2)) // x,
        lambda x: np.ones((2, 2)) % x,
    ],
    ids=[
        "argmax",
        "sort",
        "floor",
        "norm",
        "rank",
        "out",
        "reduce",
        "outer",
        "where",
        "iadd",
        "floordiv",
        "mod",
    ],
)
def test_numpy_functions_without_a_gradient_say_so(call: Callable[[Any], Any]) -> None:
    with pytest.raises(
        TypeError, match=r"np\.\w+(\.\w+)? .*has no gradient here; call it on tensor.numpy\(\)"
    ):
        call(tg.tensor(ARRAY, requires_grad=True))


def test_numpy_functions_of_the_same_name_elsewhere_are_not_mistaken() -> None:
    """np.linalg.trace takes the last two axes, np.trace the first two."""
    trace = getattr(np.linalg, "trace", None)
    if trace is None:
        pytest.skip("NumPy 1 has no np.linalg.trace")
    with pytest.raises(TypeError, match=r"np\.linalg\.trace has no gradient"):
        trace(tg.tensor(np.ones((2, 3, 3))))


def test_methods_are_the_operations() -> None:
    x = tg.tensor(ARRAY, requires_grad=True)
    calls: dict[str, tuple[Any, ...]] = {
        "sum": (0,), "mean": (1,), "var": (), "std": (), "max": (0,), "min": (0,), "prod": (), "cumsum": (0,),
        "dot": (ARRAY,), "trace": (), "squeeze": (), "swapaxes": (0, 1), "clip": (0.75, 2.0),
        "take": ([0, 1], 1), "astype": ("float64",), "reshape": (4,), "transpose": (),
    }  # fmt: skip
    for name, args in calls.items():
        out = getattr(x, name)(*args)
        np.testing.assert_allclose(out.numpy(), getattr(ARRAY, name)(*args), err_msg=name)
        assert out.requires_grad, name
    assert x.reshape(1, 4).shape == x.reshape((1, -1)).shape == x.reshape([1, 4]).shape == (1, 4)
    y = tg.tensor(np.zeros((2, 3, 4)))
    assert y.transpose().shape == (4, 3, 2)
    assert y.transpose(1, 2, 0).shape == y.transpose((1, 2, 0)).shape == (3, 4, 2)


# --- beside other libraries ------------------------------------------------------------------------------
def test_dlpack_to_and_from_numpy() -> None:
    x = tg.tensor(np.arange(6.0).reshape(2, 3))
    array = np.from_dlpack(x)
    np.testing.assert_array_equal(array, x.numpy())
    source = np.arange(3.0)
    y = tg.from_dlpack(source)
    source[0] = 9
    np.testing.assert_array_equal(y.numpy(), [0, 1, 2])
    np.testing.assert_array_equal(tg.from_dlpack(x).numpy(), x.numpy())


def test_dlpack_to_and_from_torch() -> None:
    torch = pytest.importorskip("torch")
    for dtype in (np.float32, np.float64, np.int64):
        x = tg.tensor(np.arange(6).reshape(2, 3).astype(dtype)).T
        there = torch.from_dlpack(x)
        assert there.tolist() == x.tolist()
        back = tg.from_dlpack(there)
        assert type(back) is tg.Tensor
        assert back.dtype == dtype
        np.testing.assert_array_equal(back.numpy(), x.numpy())
        # Writing on the other side must not reach a Tensor, whose values never change.
        there[0, 0] = 7
        assert x.numpy()[0, 0] == back.numpy()[0, 0] == 0


def test_torch_takes_a_tensor_as_data() -> None:
    torch = pytest.importorskip("torch")
    x = tg.tensor([[1.0, 2.0]])
    assert torch.tensor(np.array(x)).tolist() == [[1.0, 2.0]]


COPIES: dict[str, Callable[[Any], Any]] = {
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    "pickle": lambda x: pickle.loads(pickle.dumps(x)),
}


@pytest.mark.parametrize("how", COPIES)
def test_a_copied_leaf_is_a_leaf_of_its_own(how: str) -> None:
    x = tg.tensor([1.0, 2.0], requires_grad=True, name="x")
    (x * 5).sum().backward()
    y = COPIES[how](x)
    assert (y.tolist(), y.name, y.requires_grad, y.is_leaf) == ([1.0, 2.0], "x", True, True)
    np.testing.assert_array_equal(y.grad, [5, 5])
    # Both in one graph: neither takes the other's gradient.
    dx, dy = tg.grad((x * 2 + y * 3).sum(), [x, y])
    np.testing.assert_array_equal(dx, [2, 2])
    np.testing.assert_array_equal(dy, [3, 3])


@pytest.mark.parametrize("how", COPIES)
def test_a_computed_tensor_leaves_its_graph_before_it_is_copied(how: str) -> None:
    y = tg.tensor([1.0], requires_grad=True) * 2
    with pytest.raises(GraphError, match=r"result of multiply .* is computed; detach\(\) it"):
        COPIES[how](y)
    assert COPIES[how](y.detach()).tolist() == [2.0]


# --- giving new values -----------------------------------------------------------------------------------
def test_data_gives_a_leaf_new_values() -> None:
    x = tg.tensor(np.ones(2, np.float32), requires_grad=True)
    source = np.array([3.0, 4.0])
    x.data = source
    source[:] = 0
    assert x.dtype == np.float32
    np.testing.assert_array_equal(x.numpy(), [3, 4])
    x.data = tg.tensor([5, 6])
    assert x.tolist() == [5, 6]
    with pytest.raises(
        ShapeError, match=r"data of the tensor of shape \(2,\) cannot become an array of shape \(3,\)"
    ):
        x.data = np.ones(3)
    with pytest.raises(GraphError, match=r"data of the result of multiply .* is computed"):
        (x * 2).data = np.ones(2)


@pytest.mark.parametrize(
    "op", [operator.iadd, operator.isub, operator.imul, operator.itruediv, operator.ipow]
)
def test_in_place_operators_on_a_parameter(op: Callable[..., Any]) -> None:
    plain = {
        "iadd": operator.add,
        "isub": operator.sub,
        "imul": operator.mul,
        "itruediv": operator.truediv,
        "ipow": operator.pow,
    }
    w = tg.tensor(np.array([2.0, 4.0], np.float32), requires_grad=True, name="w")
    symbol = {"iadd": r"\+", "isub": "-", "imul": r"\*", "itruediv": "/", "ipow": r"\*\*"}[op.__name__]
    with pytest.raises(
        GraphError, match=rf"{symbol}= on the tensor 'w'.*inside tg.no_grad\(\), or write x = x {symbol} y"
    ):
        op(w, 2.0)
    same = w
    with tg.no_grad():
        w = op(w, np.array([2.0, 0.5]))
    assert w is same
    assert w.requires_grad
    assert w.is_leaf
    assert w.dtype == np.float32
    np.testing.assert_allclose(w.numpy(), plain[op.__name__](np.array([2.0, 4.0]), [2.0, 0.5]))


def test_in_place_operators_elsewhere_make_new_tensors() -> None:
    x = tg.tensor([1.0, 2.0], requires_grad=True)
    y = x * 1
    alias = y
    y += 1
    assert y is not alias
    assert (alias.tolist(), y.tolist()) == ([1, 2], [2, 3])
    np.testing.assert_array_equal(tg.grad((alias * y).sum(), [x])[0], [3, 5])
    constant = tg.tensor([1])
    before = constant
    constant += 0.5
    assert (constant.tolist(), before.tolist()) == ([1.5], [1])
    m = tg.tensor(np.eye(2), requires_grad=True)
    with pytest.raises(GraphError, match="@= on the tensor"):
        m @= np.ones((2, 2))


def test_setting_items_is_refused_with_the_way_to_do_it() -> None:
    x: Any = tg.tensor([1.0, 2.0])
    with pytest.raises(GraphError, match=r"y = tg.index_update\(x, index, value\)"):
        x[0] = 5.0


def test_detach_shares_values_and_nothing_else() -> None:
    x = tg.tensor([1.0], requires_grad=True, name="x")
    y = (x * 2).detach()
    assert y.is_leaf
    assert not y.requires_grad
    assert x.detach().name == "x"
    z = y * x
    np.testing.assert_array_equal(tg.grad(z.sum(), [x])[0], [2.0])


def test_grad_is_none_then_an_array_that_adds_up() -> None:
    x = tg.tensor(np.array([1.0, 2.0], np.float32), requires_grad=True)
    before = x.grad
    assert before is None
    for times in (1, 2, 3):
        (x * x).sum().backward()
        assert type(x.grad) is np.ndarray
        assert x.grad.dtype == np.float32
        np.testing.assert_array_equal(x.grad, times * 2 * x.numpy())
    scalar = tg.tensor(3.0, requires_grad=True)
    for _ in range(2):
        (scalar * 2).backward()
    assert type(scalar.grad) is np.ndarray
    assert scalar.grad == 4
    for count in (2, 3, 4):
        scalar = tg.tensor(np.float32(3.0), requires_grad=True)
        sum(scalar * k for k in range(count)).backward()
        assert type(scalar.grad) is np.ndarray
        assert scalar.grad.dtype == np.float32
        assert scalar.grad == sum(range(count))
