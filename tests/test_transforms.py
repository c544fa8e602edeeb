"""Transforms: against each other, nested in each other, and on what they refuse."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tensorgrad as tg
from tensorgrad import functional as F
from tensorgrad import nn
from tensorgrad.errors import DtypeError, GraphError, ShapeError

rng_of = np.random.default_rng
Array = np.ndarray


def normal(*shape: int, seed: int = 0) -> Array:
    return np.asarray(rng_of(seed).standard_normal(shape))


def cubic(x: Any) -> Any:
    """x1^3 + x1 x2^2 + sin(x2 x3): a Hessian with no zero blocks to hide in."""
    return x[0] ** 3 + x[0] * x[1] ** 2 + tg.sin(x[1] * x[2])


def cubic_gradient(x: Array) -> Array:
    a, b, c = x
    return np.array([3 * a**2 + b**2, 2 * a * b + c * np.cos(b * c), b * np.cos(b * c)])


def cubic_hessian(x: Array) -> Array:
    a, b, c = x
    s, k = np.sin(b * c), np.cos(b * c)
    return np.array(
        [[6 * a, 2 * b, 0], [2 * b, 2 * a - c * c * s, k - b * c * s], [0, k - b * c * s, -b * b * s]]
    )


X = np.array([0.5, -1.5, 2.0])


# --- grad ------------------------------------------------------------------------------------------------
def test_grad_with_create_graph_can_be_differentiated_to_any_order() -> None:
    x = tg.tensor(2.0, requires_grad=True)
    y: Any = x**5
    for expected in (5 * 2**4, 20 * 2**3, 60 * 2**2, 120 * 2, 120, 0):
        (y,) = tg.grad(y, [x], create_graph=True)
        assert type(y) is tg.Tensor
        assert y.item() == pytest.approx(expected)
        if not y.requires_grad:
            break


def test_grad_takes_a_tensor_as_cotangent_and_differentiates_in_it() -> None:
    x, v = tg.tensor(X, requires_grad=True), tg.tensor(normal(3), requires_grad=True)
    (g,) = tg.grad(tg.sin(x), [x], v, create_graph=True)
    np.testing.assert_allclose(tg.grad(g.sum(), [v])[0], np.cos(X))
    np.testing.assert_allclose(tg.grad(g.sum(), [x])[0], -np.sin(X) * v.numpy())


def test_grad_leaves_grad_attributes_alone() -> None:
    x = tg.tensor(X, requires_grad=True)
    tg.grad(cubic(x), [x], create_graph=True)
    assert x.grad is None


# --- value_and_grad --------------------------------------------------------------------------------------
class State(NamedTuple):
    h: Any
    c: Any


def test_value_and_grad_keeps_the_structure_of_its_parameters() -> None:
    params: dict[str, Any] = {
        "cell": State(normal(2), [normal(3, seed=1), (1.5, None)]),
        "scale": tg.tensor(2.0),
    }

    def loss(p: Any, factor: float, shift: float = 0.0) -> Any:
        return (
            factor * p["scale"] * ((p["cell"].h ** 2).sum() + p["cell"].c[0].sum() * p["cell"].c[1][0])
            + shift
        )

    value, grads = tg.value_and_grad(loss)(params, 3.0, shift=1.0)
    assert type(grads["cell"]) is State
    assert type(grads["cell"].c) is list
    assert grads["cell"].c[1][1] is None
    np.testing.assert_allclose(grads["cell"].h, 3 * 2 * 2 * params["cell"].h)
    np.testing.assert_allclose(grads["cell"].c[0], np.full(3, 3 * 2 * 1.5))
    np.testing.assert_allclose(grads["cell"].c[1][0], 6 * params["cell"].c[0].sum())
    np.testing.assert_allclose(grads["scale"], (value.item() - 1.0) / 2)
    assert all(type(g) is np.ndarray for g in tg.tree.leaves(grads))


def test_grad_takes_any_iterable_of_inputs() -> None:
    x = tg.tensor(2.0, requires_grad=True)
    assert tg.grad(x * x, (leaf for leaf in [x])) == [4.0]


def test_value_and_grad_of_a_module_without_parameters_is_an_empty_dict() -> None:
    x = tg.tensor(np.ones(2), requires_grad=True)
    assert tg.value_and_grad(lambda module: module(x).sum())(nn.Dropout(0.0))[1] == {}


def test_a_gradient_taken_under_no_grad_is_a_constant_to_the_transform_around() -> None:
    def inner(x: Any) -> Any:
        return (x**3).sum()

    def outer(x: Any) -> Any:
        with tg.no_grad():
            pulled = tg.value_and_grad(inner)(x)[1]
        return (pulled * x).sum()

    # 3 x^2 held fixed, and not the derivative 9 x^2 of 3 x^3.
    np.testing.assert_array_equal(tg.value_and_grad(outer)(np.array([2.0]))[1], [12.0])


def test_value_and_grad_with_aux() -> None:
    (value, aux), grads = tg.value_and_grad(lambda w: ((w * w).sum(), {"h": w * 2}), has_aux=True)(np.ones(2))
    assert value.item() == 2
    np.testing.assert_array_equal(aux["h"].numpy(), [2, 2])
    np.testing.assert_array_equal(grads, [2, 2])


def test_value_and_grad_of_a_module_names_its_parameters() -> None:
    layer = nn.Linear(3, 2, seed=0)
    x = normal(4, 3)
    value, grads = tg.value_and_grad(lambda m, x: (m(x) ** 2).sum())(layer, x)
    assert list(grads) == ["weight", "bias"]
    out = layer(x).numpy()
    np.testing.assert_allclose(grads["weight"], 2 * out.T @ x)
    np.testing.assert_allclose(grads["bias"], 2 * out.sum(axis=0))
    assert value.item() == pytest.approx((out**2).sum())


def test_the_parameters_of_a_module_are_themselves_however_they_are_reached() -> None:
    layer = nn.Linear(3, 1, seed=0)
    x = normal(2, 3)

    def loss(m: Any) -> Any:
        assert m is layer
        return (m(x) * layer(x)).sum()

    _, grads = tg.value_and_grad(loss)(layer)
    np.testing.assert_allclose(grads["weight"], tg.grad((layer(x) ** 2).sum(), [layer.weight])[0])


def test_value_and_grad_leaves_its_arguments_alone() -> None:
    w, leaf = normal(3), tg.tensor(normal(3), requires_grad=True)
    kept = w.copy()
    tg.value_and_grad(lambda p: (p[0] * p[1]).sum())([w, leaf])
    np.testing.assert_array_equal(w, kept)
    assert leaf.grad is None


def test_value_and_grad_of_what_does_not_depend_on_the_parameters() -> None:
    value, grads = tg.value_and_grad(lambda p: tg.tensor(3.0))({"w": normal(2)})
    assert value.item() == 3
    np.testing.assert_array_equal(grads["w"], [0, 0])


def test_value_and_grad_works_inside_no_grad() -> None:
    with tg.no_grad():
        _, g = tg.value_and_grad(cubic)(X)
        assert not tg.is_recording()
    np.testing.assert_allclose(g, cubic_gradient(X))


@pytest.mark.parametrize("bad", [lambda w: w * 2, lambda w: 3.0, lambda w: None, lambda w: (w.sum(), w)])
def test_value_and_grad_wants_one_number(bad: Callable[..., Any]) -> None:
    with pytest.raises(
        ShapeError, match="value_and_grad: the function must return one number as a Tensor, not"
    ):
        tg.value_and_grad(bad)(np.ones(2))


def test_integer_parameters_are_refused() -> None:
    with pytest.raises(DtypeError, match="only floats can require a gradient, not int64"):
        tg.value_and_grad(lambda w: w.sum())(np.arange(3))


def test_only_the_way_through_the_argument_counts() -> None:
    """The function takes x from outside as well; the derivative is that in its argument."""
    x = tg.tensor(X, requires_grad=True)
    _, g = tg.value_and_grad(lambda w: (w * x).sum())(x)
    np.testing.assert_allclose(g, X)
    np.testing.assert_allclose(tg.vjp(lambda w: w * x, x)[1](np.ones(3))[0], X)
    np.testing.assert_allclose(tg.jvp(lambda w: w * x, [x], [np.ones(3)])[1], X)
    np.testing.assert_allclose(tg.jacobian(lambda w: w * x, x), np.diag(X))
    np.testing.assert_allclose(tg.hvp(lambda w: (w * w * x).sum(), [x], [np.ones(3)])[0], 2 * X)

    def outer(y: Any) -> Any:
        _, inner = tg.value_and_grad(lambda w: (w * y).sum())(y)
        return (inner * y).sum()  # = y . y

    np.testing.assert_allclose(tg.value_and_grad(outer)(X)[1], 2 * X)


def test_the_loss_still_reaches_the_tensors_that_were_given() -> None:
    x = tg.tensor(X, requires_grad=True, name="x")
    loss, g = tg.value_and_grad(cubic)(x)
    loss.backward()
    np.testing.assert_allclose(x.grad, g)


# --- vjp, jvp, jacobian, hvp -----------------------------------------------------------------------------
def test_vjp_pulls_back_as_often_as_asked() -> None:
    a, b = normal(2, 3), normal(3, seed=1)
    out, pull = tg.vjp(lambda a, b: a @ b, a, b)
    np.testing.assert_allclose(out.numpy(), a @ b)
    for seed in range(3):
        g = normal(2, seed=seed)
        da, db = pull(g)
        np.testing.assert_allclose(da, np.outer(g, b))
        np.testing.assert_allclose(db, a.T @ g)


def test_vjp_of_a_constant_and_of_a_non_tensor() -> None:
    _, pull = tg.vjp(lambda x: tg.tensor([1.0, 2.0]), X)
    np.testing.assert_array_equal(pull(np.ones(2))[0], np.zeros(3))
    with pytest.raises(GraphError, match="vjp: the function must return one Tensor, not tuple"):
        tg.vjp(lambda x: (x, x), X)


def test_jvp_is_the_directional_derivative() -> None:
    v = normal(3, seed=1)
    out, tangent = tg.jvp(cubic, [X], [v])
    assert out.item() == pytest.approx(float(cubic(X)))
    np.testing.assert_allclose(tangent, cubic_gradient(X) @ v)
    _, tangent = tg.jvp(lambda a, b: a * b, [X, v], [v, X])
    np.testing.assert_allclose(tangent, v * v + X * X)
    np.testing.assert_array_equal(tg.jvp(lambda x: tg.tensor([1.0, 2.0]), [X], [v])[1], [0, 0])
    np.testing.assert_array_equal(tg.jvp(lambda x: tg.sign(x), [X], [v])[1], [0, 0, 0])
    np.testing.assert_array_equal(tg.jvp(lambda x: x, [X], [v])[1], v)


@pytest.mark.parametrize("transform", ["jvp", "hvp"])
def test_tangents_must_fit(transform: str) -> None:
    fn = getattr(tg, transform)
    for primal in (X, tg.tensor(X)):
        with pytest.raises(
            ShapeError, match=rf"{transform}: tangent 0 has shape \(\), its primal has shape \(3,\)"
        ):
            fn(cubic, [primal], [np.array(1.0)])
        with pytest.raises(ShapeError, match=f"{transform}: 1 primals but 2 tangents"):
            fn(cubic, [primal], [X, X])


def test_jacobian_has_the_shape_of_result_then_argument() -> None:
    W = normal(4, 3)
    np.testing.assert_allclose(tg.jacobian(lambda x: W @ x, X), W)
    J = tg.jacobian(lambda x: tg.outer(x, x), X)
    assert J.shape == (3, 3, 3)
    eye = np.eye(3)
    np.testing.assert_allclose(J, np.einsum("ik,j->ijk", eye, X) + np.einsum("i,jk->ijk", X, eye))
    np.testing.assert_allclose(tg.jacobian(cubic, X), cubic_gradient(X))
    np.testing.assert_array_equal(tg.jacobian(lambda x: x.sum(), normal(2, 2)), np.ones((2, 2)))
    assert tg.jacobian(lambda x: x[:0], X).shape == (0, 3)
    assert tg.jacobian(tg.sin, np.zeros((0,))).shape == (0, 0)
    single = tg.jacobian(tg.sin, X.astype(np.float32))
    assert single.dtype == np.float32


def test_hvp_against_the_hessian() -> None:
    v = normal(3, seed=2)
    np.testing.assert_allclose(tg.hvp(cubic, [X], [v])[0], cubic_hessian(X) @ v)
    np.testing.assert_array_equal(tg.hvp(lambda x: x.sum(), [X], [v])[0], np.zeros(3))
    np.testing.assert_array_equal(tg.hvp(lambda x: tg.tensor(1.0), [X], [v])[0], np.zeros(3))
    ha, hb = tg.hvp(lambda a, b: (a * a * b).sum(), [X, v], [np.ones(3), np.zeros(3)])
    np.testing.assert_allclose(ha, 2 * v)
    np.testing.assert_allclose(hb, 2 * X)
    with pytest.raises(ShapeError, match=r"hvp: the function must return one number as a Tensor, not \(3,\)"):
        tg.hvp(tg.sin, [X], [v])


def test_three_ways_to_a_hessian_agree() -> None:
    expected = cubic_hessian(X)

    def gradient(x: Any) -> Any:
        return tg.value_and_grad(cubic)(x)[1]

    np.testing.assert_allclose(tg.jacobian(gradient, X), expected)
    np.testing.assert_allclose(tg.jacobian(lambda x: tg.jacobian(cubic, x), X), expected)
    np.testing.assert_allclose(tg.jacobian(lambda x: tg.vjp(cubic, x)[1](1.0)[0], X), expected)
    rows = [tg.hvp(cubic, [X], [row])[0] for row in np.eye(3)]
    np.testing.assert_allclose(rows, expected)
    columns = [tg.jvp(gradient, [X], [row])[1] for row in np.eye(3)]
    np.testing.assert_allclose(columns, expected)


def test_third_derivatives_by_nesting() -> None:
    def quartic(x: Any) -> Any:
        return (x**4).sum()

    third = tg.jacobian(lambda x: tg.jacobian(lambda y: tg.jacobian(quartic, y), x), X)
    expected = np.zeros((3, 3, 3))
    expected[range(3), range(3), range(3)] = 24 * X
    np.testing.assert_allclose(third, expected)
    v = normal(3)
    np.testing.assert_allclose(tg.jacobian(lambda x: tg.hvp(quartic, [x], [v])[0], X), np.diag(24 * X * v))
    np.testing.assert_allclose(
        tg.jacobian(lambda x: tg.jvp(quartic, [x], [v])[1], X), 12 * X**2 @ np.diag(v) + 0 * X
    )


def test_a_gradient_penalty() -> None:
    """A training loss that contains a gradient: value_and_grad of value_and_grad, over a Module."""
    layer = nn.Linear(3, 1, seed=0)
    bias = layer.parameters()[1].numpy()

    def penalised(m: Any, x: Array) -> Any:
        loss, g = tg.value_and_grad(lambda x: tg.tanh(m(x)).sum())(x)
        return loss + (g * g).sum()

    x = normal(2, 3)
    _, grads = tg.value_and_grad(penalised)(layer, x)

    def by_weight(w: Any) -> Any:
        h = tg.tanh(F.linear(x, w, bias))
        slope = (1 - h * h) * w
        return h.sum() + (slope * slope).sum()

    np.testing.assert_allclose(grads["weight"], tg.value_and_grad(by_weight)(layer.weight.numpy())[1])


def test_an_inner_transform_of_constants_inside_an_outer_one() -> None:
    def outer(x: Any) -> Any:
        inner = tg.value_and_grad(lambda c: (c * c * x).sum())(np.array([1.0, 2.0, 3.0]))[1]
        return (inner * x).sum()

    np.testing.assert_allclose(tg.value_and_grad(outer)(X)[1], 4 * np.array([1, 2, 3]) * X)


def test_jvp_and_jacobian_inside_a_loss() -> None:
    def loss(x: Any) -> Any:
        _, along = tg.jvp(tg.sin, [x], [np.ones(3)])
        return (along * along).sum() + (tg.jacobian(tg.square, x) ** 2).sum()

    np.testing.assert_allclose(tg.value_and_grad(loss)(X)[1], -2 * np.cos(X) * np.sin(X) + 8 * X)


# --- adjointness -----------------------------------------------------------------------------------------
STEPS: dict[str, Callable[[Any, Any], Any]] = {
    "tanh": lambda h, W: tg.tanh(h),
    "linear": lambda h, W: F.linear(h, W),
    "matmul": lambda h, W: h @ W,
    "gate": lambda h, W: h * tg.sigmoid(h[..., ::-1]),
    "softmax": lambda h, W: tg.softmax(h, axis=0),
    "log_softmax": lambda h, W: F.log_softmax(h),
    "layer_norm": lambda h, W: F.layer_norm(h),
    "flip and scale": lambda h, W: tg.flip(h, 1) * W[0],
    "rows": lambda h, W: h[[1, 0, 1]][:2] + W[1],
    "cumsum": lambda h, W: tg.cumsum(h, 1) / 3,
    "logsumexp": lambda h, W: h - tg.logsumexp(h, axis=1, keepdims=True),
    "stack": lambda h, W: tg.stack([h, h * 2]).mean(axis=0),
    "einsum": lambda h, W: tg.einsum("bi,ij,bj->bi", h, W, h) * 0.1,
    "checkpoint": lambda h, W: tg.checkpoint(lambda a, b: tg.tanh(a @ b), h, W),
    "norm": lambda h, W: h / (1 + tg.linalg.norm(h, axis=1, keepdims=True)),
    "where": lambda h, W: tg.where(h > 0, h * h, tg.sin(h)),
    "update": lambda h, W: tg.index_update(h, (0, slice(2)), W[0, :2]),
}


@settings(deadline=None, derandomize=True, max_examples=80, database=None)
@given(st.lists(st.sampled_from(sorted(STEPS)), min_size=1, max_size=6), st.integers(0, 2**32 - 1))
def test_jvp_and_vjp_of_a_drawn_function_are_adjoint(names: list[str], seed: int) -> None:
    """<v, J w> = <J^T v, w>, and both are what differences say."""
    rng = rng_of(seed)
    x, W = rng.standard_normal((2, 3)), rng.standard_normal((3, 3))
    dx, dW, v = rng.standard_normal((2, 3)), rng.standard_normal((3, 3)), rng.standard_normal((2, 3))

    def fn(h: Any, W: Any) -> Any:
        for name in names:
            h = STEPS[name](h, W)
        return h

    out, tangent = tg.jvp(fn, [x, W], [dx, dW])
    _, pull = tg.vjp(fn, x, W)
    gx, gW = pull(v)
    left, right = np.sum(v * tangent), np.sum(gx * dx) + np.sum(gW * dW)
    scale = 1 + np.linalg.norm(v) * np.linalg.norm(tangent)
    assert abs(left - right) <= 1e-10 * scale
    np.testing.assert_allclose(out.numpy(), fn(x, W), rtol=1e-12, atol=1e-12)
    d = 1e-6
    numeric = (fn(x + d * dx, W + d * dW) - fn(x - d * dx, W - d * dW)) / (2 * d)
    assert np.linalg.norm(tangent - numeric) <= 1e-5 * (1 + np.linalg.norm(tangent))


# --- checkpoint ------------------------------------------------------------------------------------------
def same_bits(a: Any, b: Any) -> None:
    a, b = np.asarray(a), np.asarray(b)
    assert (a.dtype, a.shape) == (b.dtype, b.shape)
    assert a.tobytes() == b.tobytes()


def plain_call(fn: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    return fn(*args, **kwargs)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_checkpointed_segments_of_a_recurrent_net_give_the_same_bits(dtype: str) -> None:
    """With shared weights, dropout and checkpoints in checkpoints."""
    cell = nn.RNNCell(3, 4, seed=0, dtype=dtype)
    drop = nn.Dropout(0.3, seed=5)
    xs = normal(12, 2, 3).astype(dtype)

    def run(how: Callable[..., Any]) -> list[Array]:
        drop.rng = rng_of(7)
        x = tg.tensor(xs, requires_grad=True)

        def segment(h: Any, part: Any) -> Any:
            for t in range(len(part)):
                h = drop(cell(part[t], h)[0])
            return h

        def outer(h: Any, part: Any) -> Any:
            return how(segment, how(segment, h, part[:2]), part[2:])

        h: Any = tg.tensor(np.zeros((2, 4), dtype))
        total: Any = 0.0
        for k in range(0, 12, 4):
            h = how(outer, h, x[k : k + 4])
            total = total + (h * h).sum()
        return [total.numpy(), *tg.grad(total, [x, *cell.parameters()])]

    for a, b in zip(run(plain_call), run(tg.checkpoint), strict=True):
        same_bits(a, b)


def test_checkpoint_of_trees_and_several_outputs() -> None:
    W = tg.tensor(normal(3, 3), requires_grad=True)

    def fn(state: dict[str, Any], *, scale: float) -> Any:
        h = tg.tanh(state["h"] @ W) * scale
        return State(h, {"sum": h.sum(), "count": 3, "ids": tg.tensor([1, 2]), "same": h})

    x = tg.tensor(normal(2, 3), requires_grad=True)

    def run(how: Callable[..., Any]) -> Any:
        out = how(fn, {"h": x, "other": None}, scale=2.0)
        assert type(out) is State
        assert out.c["count"] == 3
        assert out.c["ids"].tolist() == [1, 2]
        loss = (out.h * out.c["same"]).sum() * out.c["sum"]
        return [loss.numpy(), *tg.grad(loss, [x, W])]

    for a, b in zip(run(plain_call), run(tg.checkpoint), strict=True):
        same_bits(a, b)
    # An output that no loss depends on, and one that is used much later than the others.
    _, rest = tg.checkpoint(fn, {"h": x}, scale=1.0)
    late: Any = rest["sum"]
    for _ in range(5):
        late = late * 1.5
    g = tg.grad(late, [x])[0]
    np.testing.assert_allclose(g, tg.grad(fn({"h": x}, scale=1.0).c["sum"] * 1.5**5, [x])[0])


def test_checkpoint_keeps_names_and_results_that_are_one_tensor() -> None:
    cell, x = nn.RNNCell(2, 3, seed=0), tg.tensor(normal(1, 2), requires_grad=True)
    output, state = tg.checkpoint(cell, x)
    assert output is state
    assert output.name == "h"
    np.testing.assert_array_equal(tg.grad((output * 2 + state).sum(), [output])[0], np.full((1, 3), 3.0))


def test_checkpoint_recomputes_instead_of_storing() -> None:
    calls = []
    x = tg.tensor(normal(3), requires_grad=True)

    def fn(x: Any) -> Any:
        calls.append(tg.is_recording())
        return tg.tanh(tg.exp(x))

    y = tg.checkpoint(fn, x)
    assert calls == [False]
    assert y.op.name == "checkpoint"
    tg.grad(y.sum(), [x])
    tg.grad(y.sum(), [x])
    assert calls == [False, True, True]
    with tg.no_grad():
        assert tg.checkpoint(fn, x).is_leaf
    assert len(calls) == 4


def test_checkpoint_of_constants_stores_nothing() -> None:
    y = tg.checkpoint(lambda x: tg.exp(x), tg.tensor(1.0))
    assert y.is_leaf
    assert not y.requires_grad
    assert tg.checkpoint(lambda x: x * 2, 3) == 6


def test_checkpoint_finds_parameters_that_the_function_closes_over() -> None:
    layer = nn.Linear(3, 2, seed=0)
    x = normal(4, 3)
    y = tg.checkpoint(lambda: tg.tanh(layer(x)))
    assert y.requires_grad
    y.sum().backward()
    expected = tg.grad(tg.tanh(layer(x)).sum(), layer.parameters())
    for p, g in zip(layer.parameters(), expected, strict=True):
        same_bits(p.grad, g)


def test_checkpoint_takes_modules_as_arguments() -> None:
    layer, x = nn.Linear(3, 2, seed=0), normal(4, 3)
    y = tg.checkpoint(lambda m, x: tg.tanh(m(x)), layer, x)
    x[:] = 0
    y.sum().backward()
    expected = tg.grad(tg.tanh(layer(normal(4, 3))).sum(), layer.parameters())
    for p, g in zip(layer.parameters(), expected, strict=True):
        same_bits(p.grad, g)


def test_checkpoint_is_differentiable_again() -> None:
    tg.gradcheck(
        lambda x, w: tg.checkpoint(lambda a, b: tg.tanh(a @ b) ** 2, x, w),
        [normal(2, 3), normal(3, 2)],
        order=2,
    )
    np.testing.assert_allclose(tg.hvp(lambda x: tg.checkpoint(cubic, x), [X], [X])[0], cubic_hessian(X) @ X)


def test_a_transform_inside_a_checkpoint_inside_a_transform() -> None:
    def penalty(x: Any) -> Any:
        return (tg.value_and_grad(cubic)(x)[1] ** 2).sum()

    expected = 2 * cubic_hessian(X) @ cubic_gradient(X)
    np.testing.assert_allclose(tg.value_and_grad(penalty)(X)[1], expected)
    np.testing.assert_allclose(tg.value_and_grad(lambda x: tg.checkpoint(penalty, x))(X)[1], expected)
    loss, _ = tg.value_and_grad(lambda x: tg.checkpoint(penalty, x))(x := tg.tensor(X, requires_grad=True))
    np.testing.assert_allclose(tg.grad(loss, [x])[0], expected)


def test_checkpoint_keeps_the_scope_of_the_forward() -> None:
    scopes = []
    x = tg.tensor(1.0, requires_grad=True)

    def fn(x: Any) -> Any:
        y = x * 2
        scopes.append(y.scope)
        return y

    with tg.scope("encoder"):
        y = tg.checkpoint(fn, x)
    y.backward()
    assert scopes == ["encoder", "encoder"]


def test_a_function_that_differs_the_second_time_is_an_error() -> None:
    x = tg.tensor(normal(3), requires_grad=True)
    count = iter(range(10))

    def counted(x: Any) -> Any:
        return x * float(next(count))

    with pytest.raises(GraphError, match="checkpoint: output 0 was different when counted was run again"):
        tg.checkpoint(counted, x).sum().backward()

    def hidden(x: Any) -> Any:
        return x * rng.standard_normal(3)

    rng = rng_of(0)
    with pytest.raises(GraphError, match="when hidden was run again"):
        tg.checkpoint(hidden, x).sum().backward()
    fewer = iter([2, 1])
    with pytest.raises(GraphError, match="output 1 was different"):
        sum(y.sum() for y in tg.checkpoint(lambda x: [x * 2 for _ in range(next(fewer))], x)).backward()


def test_a_function_that_draws_more_the_second_time_is_an_error() -> None:
    count = iter([1, 2])

    def noisy(x: Any) -> Any:
        for _ in range(next(count)):
            x = F.dropout(x, 0.5)
        return x

    x = tg.tensor(np.ones(3), requires_grad=True)
    with pytest.raises(GraphError, match="checkpoint: the function drew more random numbers"):
        tg.checkpoint(noisy, x).sum().backward()


def test_a_parameter_that_changed_before_backward_is_an_error() -> None:
    w, x = tg.tensor([1.0, 2.0], requires_grad=True, name="w"), tg.tensor([3.0, 4.0])
    given = tg.checkpoint(lambda w, x: w * x, w, x)
    closed = tg.checkpoint(lambda x: w * x, x)
    w.data = np.array([5.0, 6.0])
    with pytest.raises(GraphError, match=r"checkpoint: the tensor 'w' .* was given a new value between"):
        given.sum().backward()
    with pytest.raises(GraphError, match="parameters must not change before backward"):
        closed.sum().backward()


def test_dropout_through_the_package_generator_repeats_and_the_stream_goes_on() -> None:
    x = tg.tensor(np.ones(50), requires_grad=True)

    def run(how: Callable[..., Any]) -> tuple[Array, Array, Array]:
        tg.manual_seed(3)
        y = how(lambda x: F.dropout(F.dropout(x, 0.5), 0.5), x)
        after = F.dropout(np.ones(50), 0.5)
        return y.numpy(), tg.grad(y.sum(), [x])[0], after

    for a, b in zip(run(plain_call), run(tg.checkpoint), strict=True):
        same_bits(a, b)


# --- gradients of your own -------------------------------------------------------------------------------
def test_custom_vjp_gives_all_cotangents_at_once() -> None:
    fn = tg.custom_vjp(lambda x, y: x * y, lambda g, ans, x, y: (g * y * 2, None))
    x, y = tg.tensor(X, requires_grad=True), tg.tensor(X + 1, requires_grad=True)
    gx, gy = tg.grad(fn(x, y).sum(), [x, y])
    np.testing.assert_allclose(gx, 2 * (X + 1))
    np.testing.assert_array_equal(gy, np.zeros(3))
    np.testing.assert_allclose(fn(X, X), X * X)
    assert not isinstance(fn(X, X), tg.Tensor)


def test_custom_vjp_can_be_differentiated_again_and_take_parameters() -> None:
    def power(x: Array, *, n: int) -> Array:
        return x**n

    fn = tg.custom_vjp(power, lambda g, ans, x, n: (g * n * x ** (n - 1),))
    tg.gradcheck(lambda x: fn(x, n=4), [X], order=2)
    assert fn(tg.tensor(X, requires_grad=True), n=2).op.name == "power"


@pytest.mark.parametrize(
    ("backward", "kind", "message"),
    [
        (
            lambda g, ans, x: g,
            GraphError,
            "custom_vjp: the backward of square must return a tuple with one cotangent",
        ),
        (lambda g, ans, x: (g, g), GraphError, "for each of its 1 operands"),
        (lambda g, ans, x: (g[:1],), ShapeError, r"gradient rule of square for operand 0 gave shape \(1,\)"),
        (lambda g, ans, x: (1.0,), GraphError, "rule of square for operand 0 gave 1.0, which is no array"),
    ],
)
def test_a_wrong_custom_vjp_is_named(
    backward: Callable[..., Any], kind: type[Exception], message: str
) -> None:
    def square(x: Array) -> Array:
        return x * x

    x = tg.tensor(X, requires_grad=True)
    with pytest.raises(kind, match=message):
        tg.custom_vjp(square, backward)(x).sum().backward()


def test_defop_with_broadcasting_and_parameters() -> None:
    lerp = tg.defop(
        "lerp",
        lambda x, y, *, t: x + t * (y - x),
        lambda g, ans, x, y, t: g * (1 - t),
        lambda g, ans, x, y, t: g * t,
        broadcasts=True,
    )
    tg.gradcheck(lambda x, y: lerp(x, y, t=0.25), [normal(2, 3), normal(3)], order=2)
    np.testing.assert_allclose(lerp(X, X + 4, t=0.25), X + 1)
    assert lerp.__name__ == "lerp"
    with pytest.raises(ShapeError, match=r"lerp: .*Operands: \(2,\) float64, \(3,\) float64, t=0.5"):
        lerp(tg.tensor([1.0, 2.0]), X, t=0.5)
    with pytest.raises(DtypeError, match="lerp: give the Tensor 't' by position"):
        lerp(X, X, t=tg.tensor(0.5))


def test_operands_of_your_own_operation_are_copied_if_they_can_change() -> None:
    scale = tg.defop("scale", lambda x, c: x * c, lambda g, ans, x, c: g * c, None)
    x, c = tg.tensor(X, requires_grad=True), np.ones(3)
    y = scale(x, c)
    c[:] = 9
    np.testing.assert_array_equal(tg.grad(y.sum(), [x])[0], np.ones(3))


def test_the_gradient_of_a_checkpoints_result_counts_its_uses_inside():
    def run(fn):
        x = tg.tensor([0.3, -0.7], requires_grad=True)
        h, y = fn(x)
        seen = []
        h.register_hook(lambda g: seen.append(np.array(g)))
        h.retain_grad()
        loss = (y * y).sum() + h.sum()
        wanted = tg.grad(loss, [h, x])
        loss.backward()
        return [*wanted, h.grad, x.grad, *seen]

    def piece(x):
        h = tg.tanh(x)
        return h, h * h

    plain, again = run(piece), run(lambda x: tg.checkpoint(piece, x))
    assert len(plain) == len(again) == 6
    for a, b in zip(plain, again, strict=True):
        np.testing.assert_array_equal(a, b)
    # Also where nothing outside uses the result.
    x = tg.tensor([0.3, -0.7], requires_grad=True)
    h, y = tg.checkpoint(piece, x)
    np.testing.assert_array_equal(tg.grad(y.sum(), [h])[0], 2 * h.numpy())


def test_grad_inside_a_differentiated_function_can_be_differentiated():
    def slope(x):
        (g,) = tg.grad((x**3).sum(), [x])
        return (g * g).sum()

    x = np.array([2.0])
    np.testing.assert_allclose(tg.value_and_grad(slope)(x)[1], 2 * 3 * x**2 * 6 * x)
