"""The recorded graph: what backward gives, what it must survive, what it must not keep alive."""

from __future__ import annotations

import gc
import sys
import threading
import tracemalloc
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

import tensorgrad as tg
from tensorgrad import functional as F
from tensorgrad.errors import DtypeError, GraphError, ShapeError

rng_of = np.random.default_rng


def leaf(*shape: int, seed: int = 0, dtype: str = "float64", name: str | None = None) -> tg.Tensor:
    return tg.tensor(rng_of(seed).standard_normal(shape).astype(dtype), requires_grad=True, name=name)


# --- graphs that catch simple-minded walks ---------------------------------------------------------------
def test_a_tensor_used_twice_by_one_operation() -> None:
    a = tg.tensor(3.0, requires_grad=True)
    for out, expected in (
        (a + a, 2),
        (a * a, 6),
        (a - a, 0),
        (a / a, 0),
        (tg.power(a, a), 27 * (np.log(3) + 1)),
    ):
        assert tg.grad(out, [a])[0] == pytest.approx(expected)
    b = leaf(2, 2)
    np.testing.assert_allclose(
        tg.grad((b @ b).sum(), [b])[0], np.ones((2, 2)) @ b.numpy().T + b.numpy().T @ np.ones((2, 2))
    )
    c = tg.concatenate([b, b])
    np.testing.assert_array_equal(tg.grad(c, [b], np.arange(8.0).reshape(4, 2))[0], [[4, 6], [8, 10]])


def test_diamonds_of_many_levels_are_walked_once() -> None:
    calls = []
    x = tg.tensor(1.0, requires_grad=True)
    y = x
    for _ in range(60):
        y = y + y
        y.register_hook(lambda g: calls.append(1))
    assert tg.grad(y, [x])[0] == 2.0**60
    assert len(calls) == 60


def test_uneven_paths_meet_before_the_node_takes_its_turn() -> None:
    x = tg.tensor(2.0, requires_grad=True)
    early = x * 3
    late = early
    for _ in range(5):
        late = late * 1
    seen = []
    early.register_hook(lambda g: seen.append(float(g)))
    (early + late * 10 + early * early).backward()
    assert seen == [1 + 10 + 12]
    assert x.grad == 3 * 23


def test_a_weight_shared_by_all_timesteps() -> None:
    w = tg.tensor(0.9, requires_grad=True)
    h = tg.tensor(1.0)
    for _ in range(50):
        h = h * w
    assert tg.grad(h, [w])[0] == pytest.approx(50 * 0.9**49)


def test_backward_twice_doubles_and_grad_twice_repeats() -> None:
    x, w = leaf(3, 2), leaf(2, 4, seed=1)
    loss = (tg.tanh(x @ w) ** 2).sum()
    first = tg.grad(loss, [x, w])
    second = tg.grad(loss, [x, w])
    for a, b in zip(first, second, strict=True):
        np.testing.assert_array_equal(a, b)
    loss.backward()
    np.testing.assert_array_equal(x.grad, first[0])
    loss.backward()
    np.testing.assert_array_equal(x.grad, 2 * first[0])
    np.testing.assert_array_equal(w.grad, 2 * first[1])


def test_two_losses_share_a_graph() -> None:
    x = leaf(3)
    h = tg.tanh(x)
    a, b = h.sum(), (h * h).sum()
    both = tg.grad(a + b, [x])[0]
    np.testing.assert_allclose(tg.grad(a, [x])[0] + tg.grad(b, [x])[0], both)


def test_unused_inputs_get_zeros_of_their_kind() -> None:
    used, unused = leaf(2), leaf(3, dtype="float32")
    for create_graph in (False, True):
        _, g = tg.grad(used.sum(), [used, unused], create_graph=create_graph)
        assert (g.shape, g.dtype) == ((3,), np.float32)
        assert not np.asarray(g).any()
    used.sum().backward()
    assert unused.grad is None


def test_what_is_unreachable_from_the_output_is_not_walked() -> None:
    x = leaf(2)
    other = tg.defop("trap", lambda x: x * 1, lambda g, ans, x: 1 / 0)(x)
    out = (x * 2).sum()
    del other
    np.testing.assert_array_equal(tg.grad(out, [x])[0], [2, 2])


def test_the_walk_stops_at_what_is_wanted() -> None:
    x = leaf(2)
    below = tg.defop("trap", lambda x: x * 1, lambda g, ans, x: 1 / 0)(x)
    h = below * 3
    np.testing.assert_array_equal(tg.grad((h * h).sum(), [h])[0], 2 * h.numpy())


def test_gradients_of_intermediates_outputs_and_repeated_inputs() -> None:
    x = leaf(2)
    h = x * 2
    y = h * h
    loss = y.sum()
    gx, gh, gy, gl, again = tg.grad(loss, [x, h, y, loss, h])
    np.testing.assert_allclose(gx, 8 * x.numpy())
    np.testing.assert_allclose(gh, 2 * h.numpy())
    np.testing.assert_array_equal(gy, [1, 1])
    np.testing.assert_array_equal(gl, 1)
    np.testing.assert_array_equal(gh, again)
    assert not np.shares_memory(gh, again)


def test_integer_operands_are_constants() -> None:
    x = leaf(3)
    ids = tg.tensor([0, 2])
    out = x[ids] * tg.tensor([2, 3]) + tg.tensor([True, False])
    np.testing.assert_array_equal(tg.grad(out.sum(), [x])[0], [2, 0, 3])
    with pytest.raises(GraphError, match=r"input 0 .* does not require a gradient"):
        tg.grad(out.sum(), [ids])
    with pytest.raises(GraphError, match="does not depend on anything that requires a gradient"):
        (ids * 2).sum().backward()


def test_backward_of_a_leaf_is_its_cotangent() -> None:
    x = leaf(2)
    x.backward(np.array([3.0, 4.0]))
    np.testing.assert_array_equal(x.grad, [3, 4])


def test_backward_says_what_it_lacks() -> None:
    x = leaf(2, name="x")
    with tg.scope("t=1"):
        y = x * 2
    with pytest.raises(
        ShapeError, match=r"result of multiply of shape \(2,\) in scope 't=1' is not one number"
    ):
        y.backward()
    with pytest.raises(ShapeError, match=r"cotangent of shape \(3,\) does not fit the result of multiply"):
        y.backward(np.ones(3))
    with pytest.raises(ShapeError, match=r"cotangent of shape \(3,\) does not fit"):
        tg.grad(y, [x], tg.tensor(np.ones(3)), create_graph=True)
    with tg.no_grad():
        z = x.sum()
    with pytest.raises(GraphError, match="computed under no_grad"):
        z.backward()
    with pytest.raises(GraphError, match=r"write tg.grad\(loss, \[x\]\)"):
        tg.grad(y.sum(), x)
    with pytest.raises(GraphError, match="grad: the output must be a Tensor, not float"):
        tg.grad(1.0, [x])  # type: ignore[arg-type]
    with pytest.raises(GraphError, match=r"input 1 \(array"):
        tg.grad(y.sum(), [x, np.ones(2)])  # type: ignore[list-item]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_precision_does_not_change_on_the_way(dtype: str) -> None:
    x, w, b = leaf(4, 3, dtype=dtype), leaf(5, 3, seed=1, dtype=dtype), leaf(5, seed=2, dtype=dtype)
    seen = []
    h = tg.tanh(F.linear(x, w, b))
    h.register_hook(lambda g: seen.append(g.dtype))
    loss = (
        F.cross_entropy(F.layer_norm(h), [0, 1, 2, 3]) + (w[0] * 0.5).sum() + w[[1, 1]].mean() / 3 + b.std()
    )
    loss.backward()
    assert {x.grad.dtype, w.grad.dtype, b.grad.dtype, loss.dtype, *seen} == {np.dtype(dtype)}


def test_single_and_double_precision_meet() -> None:
    single, double = leaf(3, dtype="float32"), leaf(3, seed=1)
    out = (single * double + single).sum() + (tg.stack([single, double]) ** 2).sum()
    gs, gd = tg.grad(out, [single, double])
    assert (gs.dtype, gd.dtype) == (np.float32, np.float64)
    np.testing.assert_allclose(gs, double.numpy() + 1 + 2 * single.numpy(), rtol=1e-6)
    np.testing.assert_allclose(gd, single.numpy() + 2 * double.numpy(), rtol=1e-6)


# --- values that change between forward and backward -----------------------------------------------------
def mask_of(n: int) -> np.ndarray:
    return np.arange(n) % 2 == 0


CHANGED: dict[str, tuple[np.ndarray, Callable[[tg.Tensor, np.ndarray], Any]]] = {
    "factor": (np.array([2.0, 3.0]), lambda x, c: x * c),
    "left factor": (np.array([2.0, 3.0]), lambda x, c: c * x),
    "matrix": (np.eye(2) * 3, lambda x, c: c @ x),
    "divisor": (np.array([2.0, 4.0]), lambda x, c: x / c),
    "part of a larger array": (np.arange(4.0), lambda x, c: x * c[1:3]),
    "broadcast view": (np.array([2.0, 3.0]), lambda x, c: x * np.broadcast_to(c, (3, 2))),
    "read-only view": (np.array([2.0, 3.0]), lambda x, c: x * frozen(c.view())),
    "values of a Tensor that shares nothing": (np.array([2.0, 3.0]), lambda x, c: x * tg.tensor(c)),
    "index array": (np.array([1, 1, 0]), lambda x, c: x[c]),
    "index in a tuple": (np.array([1, 1]), lambda x, c: tg.stack([x, x])[0, c]),
    "boolean mask": (np.array([True, False]), lambda x, c: x[c]),
    "condition": (np.array([True, False]), lambda x, c: tg.where(c, x, 0.0)),
    "take": (np.array([[1], [0]]), lambda x, c: tg.take(x, c)),
    "take_along_axis": (np.array([1, 1]), lambda x, c: tg.take_along_axis(x, c, 0)),
    "updated value": (np.array([5.0]), lambda x, c: tg.index_update(x, slice(1), c) ** 2),
    "updated index": (np.array([0]), lambda x, c: tg.index_update(x, c, 5.0) ** 2),
    "clip limits": (np.array([0.5, 9.0]), lambda x, c: tg.clip(x, None, c)),
    "einsum": (np.array([2.0, 3.0]), lambda x, c: tg.einsum("i,i->i", x, c)),
    "concatenated": (np.array([2.0]), lambda x, c: tg.concatenate([x, c]) ** 2),
    "labels": (np.array([1]), lambda x, c: F.cross_entropy(tg.stack([x]), c)),
    "loss mask": (np.array([1.0, 0.0]), lambda x, c: F.mse(x, np.zeros(2), mask=c)),
    "targets": (np.array([2.0, 3.0]), lambda x, c: F.mse(x, c)),
    "probabilities": (np.array([0.25, 0.5]), lambda x, c: F.binary_cross_entropy_with_logits(x, c)),
    "checkpointed": (np.array([2.0, 3.0]), lambda x, c: tg.checkpoint(lambda a, b: a * a * b, x, c)),
    "checkpointed at zero": (
        np.array([2.0, 3.0]),
        lambda x, c: tg.checkpoint(lambda a, b: (a - x.numpy()) * b, x, c),
    ),
}


def frozen(array: np.ndarray) -> np.ndarray:
    array.flags.writeable = False
    return array


@pytest.mark.parametrize("create_graph", [False, True])
@pytest.mark.parametrize("name", CHANGED)
def test_changing_an_array_after_the_forward_changes_no_gradient(name: str, create_graph: bool) -> None:
    source, fn = CHANGED[name]

    def gradient(spoil: bool) -> Any:
        x = tg.tensor([1.0, 2.0], requires_grad=True)
        array = source.copy()
        out = fn(x, array)
        out = out * out
        if spoil:
            array[...] = ~array if array.dtype == bool else array * 0
        return np.asarray(tg.grad(out, [x], np.ones(out.shape), create_graph=create_graph)[0])

    expected = gradient(spoil=False)
    assert np.isfinite(expected).all()
    np.testing.assert_array_equal(gradient(spoil=True), expected)


def test_changing_the_source_of_a_parameter_or_a_cotangent() -> None:
    data, cotangent = np.ones(2), np.ones(2)
    x = tg.tensor(data, requires_grad=True)
    y = x * x
    data[:] = 7
    y.backward(cotangent)
    np.testing.assert_array_equal(x.grad, [2, 2])
    x.grad[:] = 99
    np.testing.assert_array_equal(cotangent, [1, 1])
    np.testing.assert_array_equal(tg.grad(y, [x], cotangent)[0], [2, 2])


@pytest.mark.parametrize("how", ["data", "in place", "load"])
def test_a_parameter_given_a_new_value_leaves_earlier_graphs_alone(how: str) -> None:
    w = tg.tensor([1.0, 2.0], requires_grad=True, name="w")
    loss = (w * w * w).sum()
    expected = tg.grad(loss, [w])[0]
    if how == "data":
        w.data = np.array([50.0, 60.0])
    elif how == "in place":
        with tg.no_grad():
            w -= 10.0
    else:
        w.data = w.data * 3
    np.testing.assert_array_equal(tg.grad(loss, [w])[0], expected)
    # With a second derivative the new value would take part: an error instead of a mixture.
    with pytest.raises(GraphError, match=r"tensor 'w' .* was given a new value after the result of multiply"):
        tg.grad(loss, [w], create_graph=True)
    np.testing.assert_allclose(tg.grad((w * w).sum(), [w], create_graph=True)[0].numpy(), 2 * w.numpy())


def test_gradients_handed_out_share_no_memory() -> None:
    a, b = leaf(3), leaf(3)
    ga, gb = tg.grad((a + b) * 1, [a, b], np.ones(3))
    ga[:] = 9
    np.testing.assert_array_equal(gb, np.ones(3))
    out = a + b
    out.retain_grad()
    out.sum().backward()
    a.grad[:] = 9
    np.testing.assert_array_equal(b.grad, np.ones(3))
    np.testing.assert_array_equal(out.grad, np.ones(3))
    values = a.numpy().copy()
    (g,) = tg.grad((a * b).sum(), [b])
    g[:] = 9
    np.testing.assert_array_equal(a.numpy(), values)


def test_three_contributions_that_are_one_array() -> None:
    """The first is kept, the second copied, the third added in place: the seed must not take part in that."""
    x = leaf(3)
    seed = np.array([1.0, 2.0, 3.0])
    h = x * 1
    out = ((h + h) + h) + h
    np.testing.assert_array_equal(tg.grad(out, [x, h], seed)[0], 4 * seed)
    other = x + h
    gx, gh = tg.grad(other + other + other, [x, h], seed)
    np.testing.assert_array_equal(gh, 3 * seed)
    np.testing.assert_array_equal(gx, 6 * seed)
    np.testing.assert_array_equal(seed, [1, 2, 3])


# --- hooks and retained gradients ------------------------------------------------------------------------
def test_hooks_see_the_whole_gradient_and_may_replace_it() -> None:
    x = leaf(2)
    h = x * 2
    seen = []
    h.register_hook(lambda g: seen.append(g.copy()))
    remove = h.register_hook(lambda g: g * 10)
    h.register_hook(lambda g: seen.append(g.copy()))
    loss = (h + h * 3).sum()
    np.testing.assert_array_equal(tg.grad(loss, [x, h]), [[80, 80], [40, 40]])
    np.testing.assert_array_equal(seen, [[4, 4], [40, 40]])
    remove()
    np.testing.assert_array_equal(tg.grad(loss, [x])[0], [8, 8])


def test_hooks_on_leaves_change_what_is_stored() -> None:
    x = leaf(2, dtype="float32")
    x.register_hook(lambda g: np.clip(g, -1.0, 1.0).astype(np.float64))
    (x * 5).sum().backward()
    np.testing.assert_array_equal(x.grad, [1, 1])
    assert x.grad.dtype == np.float32


def test_a_gradient_that_hooks_have_seen_is_the_owners_own() -> None:
    a, b = leaf(3), leaf(3)
    a.register_hook(lambda g: None)
    b.register_hook(lambda g: g)
    (a + b).backward(np.ones(3))
    a.grad[:] = 9
    np.testing.assert_array_equal(b.grad, np.ones(3))
    b.grad += 1
    np.testing.assert_array_equal(a.grad, np.full(3, 9.0))


def test_a_hook_may_remove_itself() -> None:
    x = tg.tensor(1.0, requires_grad=True)
    calls = []

    def once(g: Any) -> None:
        calls.append("once")
        remove()

    remove = x.register_hook(once)
    x.register_hook(lambda g: calls.append("always"))
    for _ in range(2):
        (x * 1).backward()
    assert calls == ["once", "always", "always"]


@pytest.mark.parametrize(
    "operation", [lambda a, b: a + b, lambda a, b: a * 2 + b * 2, lambda a, b: (a + b).sum()]
)
def test_a_hook_cannot_reach_other_gradients(operation: Callable[[Any, Any], Any]) -> None:
    x, y = leaf(2), leaf(2)
    a, b = x * 1, y * 1
    out = operation(a, b)

    def scale(g: np.ndarray) -> None:
        g *= 100

    a.register_hook(scale)
    with pytest.raises(ValueError, match="read-only"):
        tg.grad(out, [x, y], np.ones(out.shape))


def test_hooks_under_create_graph() -> None:
    x = tg.tensor(3.0, requires_grad=True)
    h = x * x
    h.register_hook(lambda g: g * x)
    g = tg.grad(h, [x], create_graph=True)[0]
    assert g.item() == 18.0
    assert tg.grad(g, [x])[0] == 12.0
    # A constant in the gradient's place is a constant in the next derivative.
    y = x * x
    remove = y.register_hook(lambda g: np.asarray(5.0))
    g = tg.grad(y * x, [x], create_graph=True)[0]
    remove()
    assert g.item() == 5 * 6 + 9
    assert tg.grad(g, [x])[0] == 5 * 2 + 6


def test_a_hook_may_return_a_tensor_or_a_number() -> None:
    x = tg.tensor(3.0, requires_grad=True)
    h = x * 2
    h.register_hook(lambda g: tg.tensor(7.0))
    h.register_hook(lambda g: float(g) + 1)
    h.sum().backward()
    assert x.grad == 16
    assert type(x.grad) is np.ndarray


@pytest.mark.parametrize("create_graph", [False, True])
def test_what_a_hook_returns_takes_the_dtype_of_its_tensor(create_graph: bool) -> None:
    x = leaf(2, dtype="float32")
    x.register_hook(lambda g: tg.tensor([1.0, 2.0]))
    g = tg.grad((x * 2).sum(), [x], create_graph=create_graph)[0]
    assert g.dtype == np.float32
    np.testing.assert_array_equal(g, [1, 2])


def test_a_hook_with_the_wrong_shape_is_named() -> None:
    x = leaf(2)
    h = tg.label(x * 2, "h")
    h.register_hook(lambda g: np.ones(3))
    with pytest.raises(
        ShapeError, match=r"hook on the result of multiply 'h' of shape \(2,\).* returned .*\(3,\)"
    ):
        h.sum().backward()


def test_retained_gradients_add_up_and_others_are_not_kept() -> None:
    x = leaf(2)
    h = x * 2
    assert h.retain_grad() is h
    y = h * 3
    y.sum().backward()
    y.sum().backward()
    np.testing.assert_array_equal(h.grad, [6, 6])
    assert y.grad is None
    np.testing.assert_array_equal(x.grad, [12, 12])
    tg.grad(y.sum(), [x])
    np.testing.assert_array_equal(h.grad, [6, 6])


# --- sums of many contributions --------------------------------------------------------------------------
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("seed", range(4))
def test_products_rows_slices_and_arrays_add_up_in_any_order(seed: int, dtype: str) -> None:
    """A weight used in every way that has a form of its own in the walk, more than 512 rows of it."""
    rng = rng_of(seed)
    W, b = leaf(5, 4, seed=seed, dtype=dtype), leaf(5, seed=seed + 9, dtype=dtype)
    expected = {"W": np.zeros((5, 4)), "b": np.zeros(5)}
    total: Any = tg.tensor(np.zeros((), dtype))
    for _ in range(150):
        kind = rng.integers(0, 9)
        if kind <= 3:
            x, w = rng.standard_normal((7, 4)), rng.standard_normal((7, 5))
            total = total + (F.linear(tg.tensor(x.astype(dtype)), W, b) * w.astype(dtype)).sum()
            expected["W"] += w.T @ x
            expected["b"] += w.sum(axis=0)
        elif kind == 4:
            x, w = rng.standard_normal((3, 5)), rng.standard_normal((3, 4))
            total = total + (tg.tensor(x.astype(dtype)) @ W * w.astype(dtype)).sum()
            expected["W"] += x.T @ w
        elif kind == 5:
            rows = rng.integers(0, 5, 3)
            total = total + W[rows].sum() + b[rows].sum()
            np.add.at(expected["W"], rows, 1)
            np.add.at(expected["b"], rows, 1)
        elif kind == 6:
            w = rng.standard_normal((4, 5))
            total = total + (W.T * w.astype(dtype)).sum()
            expected["W"] += w.T
        elif kind == 7:
            total = total + W[1, ::2].sum() + b[2]
            expected["W"][1, ::2] += 1
            expected["b"][2] += 1
        else:
            x, w = rng.standard_normal(4), rng.standard_normal(5)
            total = total + (F.linear(tg.tensor(x.astype(dtype)), W, b) * w.astype(dtype)).sum()
            expected["W"] += np.outer(w, x)
            expected["b"] += w
    for create_graph in (False, True):
        gW, gb = tg.grad(total, [W, b], create_graph=create_graph)
        tolerance = 1e-4 if dtype == "float32" else 1e-11
        np.testing.assert_allclose(np.asarray(gW), expected["W"], rtol=tolerance, atol=tolerance)
        np.testing.assert_allclose(np.asarray(gb), expected["b"], rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("dense_first", [False, True])
def test_rows_are_added_to_a_sum_in_any_memory_order(dense_first: bool) -> None:
    E = leaf(2, 3, 4)
    w = rng_of(1).standard_normal((4, 3, 2))

    def dense() -> Any:
        return (tg.transpose(E) * w).sum()

    def rows() -> Any:
        return tg.take(E, [0, 1, 0], 0).sum()

    # The youngest node's contribution arrives first.
    out = rows() + dense() if dense_first else dense() + rows()
    expected = w.T + np.array([2.0, 1.0])[:, None, None]
    np.testing.assert_allclose(tg.grad(out, [E])[0], expected)
    out = rows() + dense() + dense() if dense_first else dense() + dense() + rows()
    np.testing.assert_allclose(tg.grad(out, [E])[0], expected + w.T)


def test_many_products_keep_their_precision() -> None:
    """2,000 outer products of float32: gathered and multiplied, no worse than one long product."""
    rng = rng_of(0)
    xs = rng.standard_normal((2000, 1, 3)).astype(np.float32)
    W = leaf(2, 3, dtype="float32")
    total = sum(F.linear(tg.tensor(x), W).sum() for x in xs)
    expected = np.tile(xs.astype(np.float64).sum(axis=(0, 1)), (2, 1))
    np.testing.assert_allclose(tg.grad(total, [W])[0], expected, rtol=1e-3)


@pytest.mark.parametrize("create_graph", [False, True])
def test_stacks_and_broadcasts_share_a_bias(create_graph: bool) -> None:
    b = leaf(3)
    x = rng_of(1).standard_normal((4, 2, 3))
    out = (
        (x + b).sum()
        + (x[0] * b).sum()
        + (b * 2).sum()
        + tg.broadcast_to(b, (5, 3)).sum()
        + (x[:0] + b).sum()
    )
    expected = 8 + x[0].sum(axis=0) + 2 + 5
    np.testing.assert_allclose(np.asarray(tg.grad(out, [b], create_graph=create_graph)[0]), expected)


# --- rules that are wrong --------------------------------------------------------------------------------
def wrong(rule: Callable[..., Any], **options: Any) -> Any:
    return tg.defop("halve", lambda x, y: (x + y) / 2, lambda g, ans, x, y: g / 2, rule, **options)


@pytest.mark.parametrize("create_graph", [False, True])
@pytest.mark.parametrize(
    ("rule", "options", "message"),
    [
        (
            lambda g, ans, x, y: g[:1],
            {},
            r"rule of halve for operand 1 gave shape \(1,\), but .* shape \(2,\)",
        ),
        (lambda g, ans, x, y: g.sum(), {}, r"rule of halve for operand 1 gave shape \(\)"),
        (lambda g, ans, x, y: tg.stack([g, g]), {}, r"rule of halve for operand 1 gave shape \(2, 2\)"),
        (
            lambda g, ans, x, y: tg.stack([g, g, g]).T,
            {"broadcasts": True},
            r"for operand 1 gave shape \(2, 3\)",
        ),
        (lambda g, ans, x, y: g[:1], {"broadcasts": True}, r"rule of halve for operand 1 gave shape \(1,\)"),
        (lambda g, ans, x, y: 0.5, {}, "rule of halve for operand 1 gave 0.5, which is no array"),
        (
            lambda g, ans, x, y: [0.5, 0.5],
            {},
            r"rule of halve for operand 1 gave \[0.5, 0.5\], which is no array",
        ),
    ],
)
def test_a_wrong_rule_is_named_with_its_operand(
    rule: Callable[..., Any], options: dict[str, Any], message: str, create_graph: bool
) -> None:
    x, y = leaf(2), leaf(2)
    with tg.scope("t=4"):
        out = wrong(rule, **options)(x, y)
    with pytest.raises((ShapeError, GraphError), match=message):
        tg.grad(out.sum(), [x, y], create_graph=create_graph)


def test_a_wrong_rule_is_named_with_scope_and_label() -> None:
    x, y = leaf(2), leaf(2)
    with tg.scope("t=4"):
        out = tg.label(wrong(lambda g, ans, x, y: g[:1])(x, y), "a")
    with pytest.raises(ShapeError, match=r"halve 'a' of shape \(2,\) in scope 't=4'"):
        out.sum().backward()


def test_an_operand_without_a_rule_is_a_clear_error() -> None:
    op = tg.defop("mix", lambda x, y: x * y, lambda g, ans, x, y: g * y)
    x, y = leaf(2), leaf(2)
    np.testing.assert_array_equal(tg.grad(op(x, y.numpy()).sum(), [x])[0], y.numpy())
    with pytest.raises(
        GraphError, match="mix has gradient rules for 1 operands, but operand 1 needs a gradient"
    ):
        op(x, y).sum().backward()


def test_none_is_no_gradient() -> None:
    op = tg.defop("mix", lambda x, y: x * y, None, lambda g, ans, x, y: g * x)
    x, y = leaf(2), leaf(2)
    gx, gy = tg.grad(op(x, y).sum(), [x, y])
    np.testing.assert_array_equal(gx, [0, 0])
    np.testing.assert_array_equal(gy, x.numpy())
    quiet = tg.defop("quiet", lambda x: x * 1, lambda g, ans, x: None)
    np.testing.assert_array_equal(tg.grad(quiet(x).sum() + x.sum(), [x])[0], [1, 1])


def test_constant_rules_survive_create_graph() -> None:
    op = tg.defop("triple", lambda x: 3 * x, lambda g, ans, x: np.full(x.shape, 3.0))
    x = leaf(2)
    g = tg.grad(op(x).sum() + (op(x) * x).sum(), [x], create_graph=True)[0]
    np.testing.assert_allclose(g.numpy(), 3 + 3 + 3 * x.numpy())
    np.testing.assert_array_equal(tg.grad(g.sum(), [x])[0], [3, 3])


def test_a_constant_rule_of_a_broadcast_bias_survives_create_graph() -> None:
    ones = lambda g, ans, x, b: np.ones(g.shape)  # noqa: E731
    op = tg.defop("plus", lambda x, b: x + b, ones, ones, broadcasts=True)
    x, b = leaf(4, 3), leaf(3, seed=1)
    dx, db = tg.grad(op(x, b).sum(), [x, b], create_graph=True)
    np.testing.assert_array_equal(dx.numpy(), np.ones((4, 3)))
    np.testing.assert_array_equal(db.numpy(), [4, 4, 4])


# --- size ------------------------------------------------------------------------------------------------
LONG = 100_000


def test_a_chain_of_100_000_operations_forward_backward_and_deleted() -> None:
    x = tg.tensor(1.0, requires_grad=True)
    y = x
    for _ in range(LONG):
        y = y * 1.00001
    assert "op=multiply" in repr(y)
    y.backward()
    assert x.grad == pytest.approx(1.00001**LONG)
    alive = weakref.ref(y)
    del y
    assert alive() is None


def test_a_long_chain_is_differentiated_twice() -> None:
    x = tg.tensor(0.5, requires_grad=True)
    y = x
    for _ in range(10_000):
        y = y * 1.0001 + x * x * 1e-6
    first = tg.grad(y, [x], create_graph=True)[0]
    second = tg.grad(first, [x])[0]
    assert second == pytest.approx(sum(2e-6 * 1.0001**k for k in range(10_000)), rel=1e-9)


def test_a_wide_graph_of_100_000_operands() -> None:
    x = tg.tensor(2.0, requires_grad=True)
    out = tg.stack([x] * LONG)
    assert tg.grad(out, [x], np.ones(LONG))[0] == LONG


def test_slicing_a_sequence_costs_one_buffer_however_long_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Any] = []

    def count(maker: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*args: Any, **options: Any) -> Any:
            array = maker(*args, **options)
            made.append(array.shape)
            return array

        return counted

    for name in ("zeros", "array"):
        monkeypatch.setattr(np, name, count(getattr(np, name)))
    for T in (10, 300):
        xs = leaf(T, 4)
        loss = sum((xs[t] * float(t)).sum() + xs[t, 1:3].sum() for t in range(T))
        made.clear()
        (g,) = tg.grad(loss, [xs])
        expected = np.arange(T)[:, None] + np.array([0, 1, 1, 0])
        np.testing.assert_array_equal(g, expected)
        # The buffer, and the copy that is handed out.
        assert sum(shape == (T, 4) for shape in made) <= 2


def test_backward_of_slices_takes_memory_in_proportion_to_the_sequence() -> None:
    def peak(T: int) -> int:
        xs = leaf(T, 64)
        loss = sum(xs[t].sum() for t in range(T))
        tracemalloc.start()
        tg.grad(loss, [xs])
        size = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return size

    # With an array of zeros for each slice it would be 64 times as much for 8 times the length.
    assert peak(800) < 16 * peak(100)


def test_the_walk_lets_go_of_cotangents_as_it_goes() -> None:
    """The peak of backward is a few arrays, not one for each of the 200 operations."""
    y: Any = leaf(50_000)
    for _ in range(200):
        y = y + 1.0
    loss = y.sum()
    tracemalloc.start()
    loss.backward()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 * 50_000 * 8


# --- what stays alive ------------------------------------------------------------------------------------
@pytest.fixture
def no_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    try:
        yield
        assert gc.collect() == 0, "something was left that only the cycle collector could free"
    finally:
        gc.enable()


def recurrent_loss(x: tg.Tensor, w: tg.Tensor) -> tuple[tg.Tensor, list[Any]]:
    h: Any = tg.tensor(np.zeros((2, 3)))
    watched = []
    for t in range(4):
        with tg.scope(f"t={t}"):
            h = tg.label(tg.tanh(F.linear(h, w) + x[t]), "h")
        watched += [weakref.ref(h), weakref.ref(h._value)]
    return (h * h).sum(), watched


def after_backward(x: tg.Tensor, w: tg.Tensor) -> list[Any]:
    loss, watched = recurrent_loss(x, w)
    loss.backward()
    loss.backward()
    return watched


def after_create_graph(x: tg.Tensor, w: tg.Tensor) -> list[Any]:
    loss, watched = recurrent_loss(x, w)
    gx, _ = tg.grad(loss, [x, w], create_graph=True)
    (gx * gx).sum().backward()
    return [*watched, weakref.ref(gx), weakref.ref(gx._value)]


def after_hooks(x: tg.Tensor, w: tg.Tensor) -> list[Any]:
    loss, watched = recurrent_loss(x, w)
    h = tg.tanh(loss).retain_grad()
    h.register_hook(lambda g: g * 2)
    h.backward()
    return [*watched, weakref.ref(h)]


def after_checkpoint(x: tg.Tensor, w: tg.Tensor) -> list[Any]:
    out = tg.checkpoint(lambda a, b: recurrent_loss(a, b)[0], x, w)
    loss = out * 2
    loss.backward()
    loss.backward()
    tg.grad(loss, [w], create_graph=True)[0].sum().backward()
    return [weakref.ref(out), weakref.ref(loss)]


def after_transforms(x: tg.Tensor, w: tg.Tensor) -> list[Any]:
    watched: list[Any] = []

    def fn(a: Any, b: Any) -> Any:
        loss, seen = recurrent_loss(a, b)
        watched.extend(seen)
        return loss

    tg.value_and_grad(lambda p: fn(*p))((x, w))
    tg.hvp(fn, [x, w], [np.ones(x.shape), np.ones(w.shape)])
    tg.jvp(fn, [x, w], [np.ones(x.shape), np.ones(w.shape)])
    tg.jacobian(lambda a: fn(a, w), x)
    return watched


def after_anomaly_detection(x: tg.Tensor, w: tg.Tensor) -> list[Any]:
    with tg.detect_anomaly():
        loss, watched = recurrent_loss(x, w)
        loss.backward()
    return watched


def after_an_error_in_backward(x: tg.Tensor, w: tg.Tensor) -> list[Any]:
    loss, watched = recurrent_loss(x, w)
    bad = tg.defop("bad", lambda x: x * 1, lambda g, ans, x: tg.stack([g, g]))(loss)
    with pytest.raises(ShapeError, match="bad"):
        bad.backward()
    return [*watched, weakref.ref(bad)]


def without_backward(x: tg.Tensor, w: tg.Tensor) -> list[Any]:
    return recurrent_loss(x, w)[1]


@pytest.mark.usefixtures("no_collector")
@pytest.mark.parametrize(
    "use",
    [
        without_backward,
        after_backward,
        after_create_graph,
        after_hooks,
        after_checkpoint,
        after_transforms,
        after_anomaly_detection,
        after_an_error_in_backward,
    ],
)
def test_a_graph_dies_with_its_loss(use: Callable[[tg.Tensor, tg.Tensor], list[Any]]) -> None:
    x, w = leaf(4, 2, 3), leaf(3, 3, seed=1)
    watched = use(x, w)
    assert watched
    assert all(ref() is None for ref in watched)


@pytest.mark.usefixtures("no_collector")
def test_a_result_under_no_grad_holds_on_to_nothing() -> None:
    x = leaf(3)
    with tg.no_grad():
        h = x * 2
        y = h + 1
    gone = weakref.ref(h)
    del h
    assert gone() is None
    assert y.is_leaf
    z = (x * 2).detach()
    assert (z.operands, z.args) == ((), ())


# --- threads ---------------------------------------------------------------------------------------------
def test_threads_differentiate_shared_parameters_at_the_same_time() -> None:
    w = leaf(4, 4)
    start = threading.Barrier(4)

    def work(seed: int) -> np.ndarray:
        x = rng_of(seed).standard_normal((3, 4))
        start.wait(timeout=30)
        for _ in range(30):
            h: Any = x
            for _ in range(5):
                h = tg.tanh(F.linear(tg.tensor(x), w) + h)
            (g,) = tg.grad(h.sum(), [w])
        return g

    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(work, range(4)))
    start = threading.Barrier(1)
    for seed, g in enumerate(together):
        np.testing.assert_array_equal(g, work(seed))


def test_the_garbage_collector_runs_again_after_backward_whatever_the_threads_do() -> None:
    assert gc.isenabled()
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(4) as pool:
            for _ in pool.map(lambda _: (tg.tensor(1.0, requires_grad=True) * 2).backward(), range(2000)):
                pass
    finally:
        sys.setswitchinterval(interval)
    assert gc.isenabled()
    states = []
    x = tg.tensor(1.0, requires_grad=True) * 2
    remove = x.register_hook(lambda g: states.append(gc.isenabled()))
    for _ in range(2):
        x.backward()
        states.append(gc.isenabled())
    assert states == [False, True, False, True]
    remove()
    x.register_hook(lambda g: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        x.backward()
    assert gc.isenabled()
    gc.disable()
    try:
        (tg.tensor(1.0, requires_grad=True) * 2).backward()
        assert not gc.isenabled()
    finally:
        gc.enable()


def test_errors_of_dtype_are_of_both_families() -> None:
    with pytest.raises(DtypeError) as caught:
        tg.tensor([1]).requires_grad_()
    assert isinstance(caught.value, TypeError)
