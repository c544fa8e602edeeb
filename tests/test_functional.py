"""Softmax, losses, normalisation and dropout: against their definitions, against PyTorch, and at extremes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import tensorgrad as tg
from tensorgrad import functional as F
from tensorgrad.errors import DtypeError, ShapeError

Array = np.ndarray
rng_of = np.random.default_rng
FLOATS = pytest.mark.parametrize("dtype", ["float32", "float64"])


def slopes(fn: Callable[..., Any], *xs: Array, g: Any = None) -> list[Array]:
    leaves = [tg.tensor(x, requires_grad=True) for x in xs]
    out = fn(*leaves)
    return tg.grad(out, leaves, np.ones(out.shape) if g is None else g)


# --- against PyTorch -------------------------------------------------------------------------------------
def scores(seed: int, *shape: int, dtype: str = "float64") -> Array:
    return (rng_of(seed).standard_normal(shape) * 3).astype(dtype)


LABELS = rng_of(5).integers(0, 4, (2, 3))
PROBABILITIES = rng_of(6).uniform(0.01, 0.99, (2, 3))
WEIGHT, BIAS = rng_of(7).standard_normal((2, 4))

# Ours, PyTorch's by the name of the function in torch.nn.functional, and the operands with a gradient.
PAIRS: list[tuple[str, Callable[..., Any], Callable[..., Any], list[Array]]] = [
    ("softmax", lambda x: F.softmax(x), lambda t, x: t.softmax(x, -1), [scores(0, 2, 4)]),
    ("softmax axis 0", lambda x: F.softmax(x, axis=0), lambda t, x: t.softmax(x, 0), [scores(0, 2, 4)]),
    ("softmax middle", lambda x: F.softmax(x, 1), lambda t, x: t.softmax(x, 1), [scores(0, 2, 4, 3)]),
    ("log_softmax", lambda x: F.log_softmax(x), lambda t, x: t.log_softmax(x, -1), [scores(1, 2, 4)]),
    (
        "log_softmax axis 0",
        lambda x: F.log_softmax(x, 0),
        lambda t, x: t.log_softmax(x, 0),
        [scores(1, 2, 4)],
    ),
    *(
        (
            f"cross_entropy {how}",
            lambda x, how=how: F.cross_entropy(x, LABELS, reduction=how),
            lambda t, x, how=how: t.cross_entropy(x.movedim(-1, 1), to_torch(LABELS), reduction=how),
            [scores(2, 2, 3, 4)],
        )
        for how in ("mean", "sum", "none")
    ),
    (
        "cross_entropy axis 1",
        lambda x: F.cross_entropy(x, LABELS, axis=1),
        lambda t, x: t.cross_entropy(x, to_torch(LABELS)),
        [scores(2, 2, 4, 3)],
    ),
    (
        "cross_entropy one row",
        lambda x: F.cross_entropy(x, np.array(2)),
        lambda t, x: t.cross_entropy(x, to_torch(np.array(2))),
        [scores(2, 4)],
    ),
    *(
        (
            f"binary_cross_entropy_with_logits {how}",
            lambda x, y, how=how: F.binary_cross_entropy_with_logits(x, y, reduction=how),
            lambda t, x, y, how=how: t.binary_cross_entropy_with_logits(x, y, reduction=how),
            [scores(3, 2, 3), PROBABILITIES],
        )
        for how in ("mean", "sum", "none")
    ),
    (
        "binary_cross_entropy_with_logits at zero",
        lambda x: F.binary_cross_entropy_with_logits(x, PROBABILITIES),
        lambda t, x: t.binary_cross_entropy_with_logits(x, to_torch(PROBABILITIES, x)),
        [np.zeros((2, 3))],
    ),
    *(
        (
            f"binary_cross_entropy {how}",
            lambda x, how=how: F.binary_cross_entropy(x, PROBABILITIES, reduction=how),
            lambda t, x, how=how: t.binary_cross_entropy(x, to_torch(PROBABILITIES, x), reduction=how),
            [PROBABILITIES[::-1].copy()],
        )
        for how in ("mean", "sum", "none")
    ),
    *(
        (
            f"mse {how}",
            lambda x, y, how=how: F.mse(x, y, reduction=how),
            lambda t, x, y, how=how: t.mse_loss(x, y, reduction=how),
            [scores(3, 2, 3), scores(4, 2, 3)],
        )
        for how in ("mean", "sum", "none")
    ),
    ("layer_norm", lambda x: F.layer_norm(x), lambda t, x: t.layer_norm(x, (4,)), [scores(8, 2, 3, 4)]),
    (
        "layer_norm two axes",
        lambda x: F.layer_norm(x, axis=(1, 2)),
        lambda t, x: t.layer_norm(x, (3, 4)),
        [scores(8, 2, 3, 4)],
    ),
    (
        "layer_norm with weight and bias",
        lambda x, w, b: F.layer_norm(x, w, b, eps=1e-3),
        lambda t, x, w, b: t.layer_norm(x, (4,), w, b, eps=1e-3),
        [scores(8, 2, 4), WEIGHT, BIAS],
    ),
    (
        "linear",
        lambda x, w: F.linear(x, w),
        lambda t, x, w: t.linear(x, w),
        [scores(9, 2, 3, 4), scores(10, 5, 4)],
    ),
    (
        "linear with bias",
        lambda x, w, b: F.linear(x, w, b),
        lambda t, x, w, b: t.linear(x, w, b),
        [scores(9, 2, 4), scores(10, 5, 4), scores(11, 5)],
    ),
    (
        "linear of a vector",
        lambda x, w: F.linear(x, w),
        lambda t, x, w: t.linear(x, w),
        [scores(9, 4), scores(10, 5, 4)],
    ),
    ("softplus", lambda x: F.softplus(x), lambda t, x: t.softplus(x), [scores(12, 5)]),
    ("sigmoid", lambda x: F.sigmoid(x), lambda t, x: t.sigmoid(x), [scores(12, 5)]),
]


def to_torch(x: Array, like: Any = None) -> Any:
    torch = pytest.importorskip("torch")
    return torch.tensor(x) if like is None else torch.tensor(x, dtype=like.dtype)


@FLOATS
@pytest.mark.parametrize(("name", "ours", "theirs", "operands"), PAIRS, ids=[p[0] for p in PAIRS])
def test_values_and_gradients_are_pytorchs(
    name: str, ours: Callable[..., Any], theirs: Callable[..., Any], operands: list[Array], dtype: str
) -> None:
    torch = pytest.importorskip("torch")
    xs = [x.astype(dtype) for x in operands]
    leaves = [tg.tensor(x, requires_grad=True) for x in xs]
    others = [torch.tensor(x, requires_grad=True) for x in xs]
    out, other = ours(*leaves), theirs(torch.nn.functional, *others)
    close = {"rtol": 2e-5, "atol": 2e-6} if dtype == "float32" else {"rtol": 1e-10, "atol": 1e-12}
    assert out.dtype == np.dtype(dtype)
    np.testing.assert_allclose(out.numpy(), other.detach().numpy(), **close)
    g = rng_of(0).standard_normal(out.shape).astype(dtype)
    other.backward(torch.tensor(g))
    for mine, leaf in zip(tg.grad(out, leaves, g), others, strict=True):
        assert mine.dtype == np.dtype(dtype)
        np.testing.assert_allclose(mine, leaf.grad.numpy(), **close)


@pytest.mark.parametrize(("name", "ours", "theirs", "operands"), PAIRS, ids=[p[0] for p in PAIRS])
def test_gradients_are_those_of_differences_to_second_order(
    name: str, ours: Callable[..., Any], theirs: Any, operands: list[Array]
) -> None:
    tg.gradcheck(ours, operands, order=2)


@pytest.mark.parametrize(("name", "ours", "theirs", "operands"), PAIRS, ids=[p[0] for p in PAIRS])
def test_arrays_give_arrays(name: str, ours: Callable[..., Any], theirs: Any, operands: list[Array]) -> None:
    out = ours(*operands)
    assert not isinstance(out, tg.Tensor)
    np.testing.assert_array_equal(out, ours(*map(tg.tensor, operands)).numpy())


# --- extremes --------------------------------------------------------------------------------------------
EXTREMES = np.array(
    [
        [1e4, -1e4, 0.0, 1e4],
        [-np.inf, 0.0, 1.0, -np.inf],
        [-np.inf, -np.inf, -np.inf, -np.inf],
        [1e30, -1e30, 5.0, 1e30],
        [-np.inf, -1e4, -1e30, -np.inf],
    ]
)


@FLOATS
def test_softmax_at_extremes(dtype: str) -> None:
    x = EXTREMES.astype(dtype)
    p = F.softmax(x)
    e = np.exp(1)
    expected = [
        [0.5, 0, 0, 0.5],
        [0, 1 / (1 + e), e / (1 + e), 0],
        [0, 0, 0, 0],
        [0.5, 0, 0, 0.5],
        [0, 1, 0, 0],
    ]
    np.testing.assert_allclose(p, expected, rtol=1e-6)
    assert p.dtype == np.dtype(dtype)
    for fn in (F.softmax, F.log_softmax):
        first = slopes(fn, x, g=np.ones_like(x))[0]
        assert np.isfinite(first).all()
        assert np.isfinite(tg.hvp(lambda t: (F.softmax(t) ** 2).sum(), [x], [np.ones_like(x)])[0]).all()


@FLOATS
def test_log_softmax_at_extremes(dtype: str) -> None:
    out = F.log_softmax(EXTREMES.astype(dtype))
    assert not np.isnan(out).any()
    np.testing.assert_allclose(out[0], np.array([0, -2e4, -1e4, 0]) - np.log(2), rtol=1e-6)
    assert (out[2] == -np.inf).all()
    np.testing.assert_allclose(np.exp(out[[0, 1, 3, 4]]).sum(axis=1), 1, rtol=1e-6)


@FLOATS
def test_softmax_ignores_a_common_shift_and_sums_to_one(dtype: str) -> None:
    x = scores(0, 3, 5, dtype=dtype)
    np.testing.assert_allclose(F.softmax(x), F.softmax(x + 64), rtol=1e-4)
    np.testing.assert_allclose(F.softmax(x).sum(axis=-1), 1, rtol=1e-6)
    np.testing.assert_allclose(F.log_softmax(x), np.log(F.softmax(x)), rtol=1e-4, atol=1e-5)


def test_softmax_of_no_classes_and_of_integers() -> None:
    assert F.softmax(np.zeros((2, 0))).shape == (2, 0)
    assert F.log_softmax(np.zeros((0, 3))).shape == (0, 3)
    np.testing.assert_allclose(F.softmax(np.array([0, 1])), F.softmax(np.array([0.0, 1.0])))
    np.testing.assert_allclose(F.softmax(tg.tensor([0, 1])).numpy(), F.softmax(np.array([0.0, 1.0])))
    with pytest.raises(ShapeError, match="softmax: axis 2 does not exist"):
        F.softmax(np.zeros((2, 3)), axis=2)


@FLOATS
def test_cross_entropy_at_extremes(dtype: str) -> None:
    x = np.array([[1e4, -1e4, 0.0], [0.0, -np.inf, 1.0], [-1e30, 1e30, 0.0]], dtype)
    losses = F.cross_entropy(x, [0, 2, 1], reduction="none")
    np.testing.assert_allclose(losses, [0, np.log1p(np.exp(-1)), 0], rtol=1e-6)
    np.testing.assert_allclose(F.cross_entropy(x[:1], [1]), 2e4)
    g = slopes(lambda t: F.cross_entropy(t, [1, 2, 1], reduction="sum"), x)[0]
    assert np.isfinite(g).all()
    np.testing.assert_allclose(g[0], [1, -1, 0])
    assert F.cross_entropy(np.array([[0.0, -np.inf]]), [1]) == np.inf


@FLOATS
def test_binary_cross_entropy_with_logits_at_extremes(dtype: str) -> None:
    x = np.array([1e4, -1e4, 1e4, -1e4, 0.0, 0.0, 1e30], dtype)
    y = np.array([1.0, 0.0, 0.0, 1.0, 0.0, 1.0, 1.0], dtype)
    losses = F.binary_cross_entropy_with_logits(x, y, reduction="none")
    np.testing.assert_allclose(losses, [0, 0, 1e4, 1e4, np.log(2), np.log(2), 0], rtol=1e-6)
    g = slopes(lambda t: F.binary_cross_entropy_with_logits(t, y, reduction="sum"), x)[0]
    np.testing.assert_allclose(g, [0, 0, 1, -1, 0.5, -0.5, 0])
    # The tail keeps its precision: -log sigmoid(30) is exp(-30), not 0.
    np.testing.assert_allclose(
        F.binary_cross_entropy_with_logits(np.array([30.0]), np.array([1.0])),
        np.log1p(np.exp(-30.0)),
        rtol=1e-12,
    )


@FLOATS
def test_binary_cross_entropy_of_certain_probabilities_is_finite(dtype: str) -> None:
    p = np.array([0.0, 1.0, 0.0, 1.0, 1e-30], dtype)
    y = np.array([0.0, 1.0, 1.0, 0.0, 1.0], dtype)
    losses = F.binary_cross_entropy(p, y, reduction="none")
    assert losses.dtype == np.dtype(dtype)
    np.testing.assert_allclose(losses, [0, 0, 100, 100, 30 * np.log(10)], rtol=1e-5)
    g = slopes(lambda t: F.binary_cross_entropy(t, y, reduction="sum"), p)[0]
    assert np.isfinite(g).all()


def test_layer_norm_of_equal_elements() -> None:
    x = np.full((2, 4), 3.0)
    np.testing.assert_array_equal(F.layer_norm(x), np.zeros((2, 4)))
    assert np.isfinite(slopes(F.layer_norm, x, g=scores(0, 2, 4))[0]).all()


@FLOATS
def test_layer_norm_has_zero_mean_and_unit_variance(dtype: str) -> None:
    out = F.layer_norm(scores(0, 5, 8, dtype=dtype) * 100 + 1000, eps=0.0)
    np.testing.assert_allclose(out.mean(axis=-1), 0, atol=1e-4)
    np.testing.assert_allclose(out.var(axis=-1), 1, rtol=1e-3)
    assert out.dtype == np.dtype(dtype)


# --- masks and reductions --------------------------------------------------------------------------------
LOSSES: dict[str, Callable[..., Any]] = {
    "cross_entropy": lambda x, **kw: F.cross_entropy(x, LABELS, **kw),
    "mse": lambda x, **kw: F.mse(x[..., 0], PROBABILITIES, **kw),
    "binary_cross_entropy_with_logits": lambda x, **kw: F.binary_cross_entropy_with_logits(
        x[..., 0], PROBABILITIES, **kw
    ),
    "binary_cross_entropy": lambda x, **kw: F.binary_cross_entropy(F.sigmoid(x[..., 0]), PROBABILITIES, **kw),
}
EVERY_LOSS = pytest.mark.parametrize("name", LOSSES)
LOGITS = scores(2, 2, 3, 4)


@EVERY_LOSS
def test_reductions_of_losses(name: str) -> None:
    loss = LOSSES[name]
    each = loss(LOGITS, reduction="none")
    assert each.shape == (2, 3)
    np.testing.assert_allclose(loss(LOGITS), each.mean())
    np.testing.assert_allclose(loss(LOGITS, reduction="sum"), each.sum())
    with pytest.raises(ValueError, match=f"{name}: reduction must be .*not 'average'"):
        loss(LOGITS, reduction="average")


@EVERY_LOSS
@pytest.mark.parametrize(
    "mask",
    [
        np.array([[1, 1, 0], [1, 0, 0]]),
        np.array([[True, True, False], [True, False, False]]),
        np.array([[1.0, 0.5, 0.0], [2.0, 0.0, 0.0]]),
        np.array([True, False, True]),
        np.array([[True], [False]]),
        tg.tensor([[1.0], [0.0]]),
    ],
    ids=["integers", "booleans", "weights", "broadcast rows", "broadcast columns", "Tensor"],
)
def test_masked_losses_are_weighted_means_over_what_counts(name: str, mask: Any) -> None:
    loss = LOSSES[name]
    each = loss(LOGITS, reduction="none")
    weights = np.broadcast_to(np.asarray(mask), (2, 3)).astype(float)
    np.testing.assert_allclose(loss(LOGITS, mask=mask, reduction="none"), each * weights)
    np.testing.assert_allclose(loss(LOGITS, mask=mask, reduction="sum"), (each * weights).sum())
    np.testing.assert_allclose(loss(LOGITS, mask=mask), (each * weights).sum() / weights.sum())
    tg.gradcheck(lambda x: loss(x, mask=mask), [LOGITS], order=2)
    g = slopes(lambda x: loss(x, mask=mask), LOGITS)[0]
    assert (g[weights == 0] == 0).all()


@EVERY_LOSS
def test_masks_that_do_not_fit_or_leave_nothing(name: str) -> None:
    loss = LOSSES[name]
    for shape in ((2,), (2, 3, 4), (4, 2, 3)):
        with pytest.raises(ShapeError, match=f"{name}: a mask of shape .* does not fit losses \\(2, 3\\)"):
            loss(LOGITS, mask=np.ones(shape))
    with pytest.raises(ValueError, match=f"{name}: the mask leaves nothing"):
        loss(LOGITS, mask=np.zeros((2, 3)))
    assert loss(LOGITS, mask=np.zeros((2, 3)), reduction="sum") == 0


@EVERY_LOSS
def test_the_mean_of_no_losses_is_an_error(name: str) -> None:
    fn = getattr(F, name)
    labels = np.zeros(0, int) if name == "cross_entropy" else np.zeros(0)
    x = tg.tensor(np.zeros((0, 4) if name == "cross_entropy" else 0), requires_grad=True)
    with pytest.raises(ValueError, match=f"{name}: losses of shape \\(0,\\) have no mean"):
        fn(x, labels)
    assert tg.grad(fn(x, labels, reduction="sum"), [x])[0].shape == x.shape


@pytest.mark.parametrize("name", ["mse", "binary_cross_entropy_with_logits", "binary_cross_entropy"])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_is_masked_may_be_anything(name: str, bad: float) -> None:
    """A missing target is often NaN: masked, it touches neither the loss nor a gradient."""
    fn = getattr(F, name)
    x, y = np.array([0.25, bad, 0.5]), np.array([0.5, 0.5, bad])
    mask = np.array([1, 0, 0])
    np.testing.assert_allclose(fn(x, y, mask=mask), fn(x[:1], y[:1]))
    dx, dy = slopes(lambda a, b: fn(a, b, mask=mask), x, y)
    expected = slopes(fn, x[:1], y[:1])
    np.testing.assert_allclose(dx, [*expected[0], 0, 0])
    np.testing.assert_allclose(dy, [*expected[1], 0, 0])


def test_masked_labels_may_be_out_of_range_and_masked_rows_infinite() -> None:
    x = np.array([[0.0, 1.0], [2.0, 0.0], [-np.inf, -np.inf]])
    mask = [True, False, False]
    loss = F.cross_entropy(x, [0, -100, 7], mask=mask)
    np.testing.assert_allclose(loss, F.cross_entropy(x[:1], [0]))
    g = slopes(lambda t: F.cross_entropy(t, [0, -100, 7], mask=mask), x)[0]
    np.testing.assert_allclose(g[0], F.softmax(x[0]) - [1, 0])
    assert (g[1:] == 0).all()
    # An infinite loss that doesn't count must not spoil the sum.
    assert F.cross_entropy(np.array([[0.0, -np.inf], [0.0, 0.0]]), [1, 1], mask=[0, 1]) == pytest.approx(
        np.log(2)
    )


# --- labels and shapes -----------------------------------------------------------------------------------
def test_labels_out_of_range_say_which_and_where() -> None:
    x = np.zeros((2, 3, 4))
    for wrong in (4, -1):
        labels = np.zeros((2, 3), int)
        labels[1, 2] = wrong
        message = f"cross_entropy: label {wrong} at index \\(1, 2\\) is out of range for 4 classes \\(0..3\\)"
        with pytest.raises(ShapeError, match=message):
            F.cross_entropy(tg.tensor(x), labels)
        with pytest.raises(ShapeError, match=f"one_hot: label {wrong} at index"):
            F.one_hot(labels, 4)
    with (
        tg.scope("t=7"),
        pytest.raises(ShapeError, match="cross_entropy in scope 't=7': label 9 is out of range"),
    ):
        F.cross_entropy(np.zeros(4), np.array(9))


def test_labels_must_be_integers_of_the_right_shape() -> None:
    with pytest.raises(DtypeError, match="cross_entropy: labels must be integers, not float64"):
        F.cross_entropy(np.zeros((2, 3)), [0.0, 1.0])
    with pytest.raises(DtypeError, match="one_hot: labels must be integers, not bool"):
        F.one_hot([True], 2)
    with pytest.raises(
        ShapeError, match=r"targets of shape \(3,\) do not fit logits of shape \(2, 3\); expected \(2,\)"
    ):
        F.cross_entropy(np.zeros((2, 3)), [0, 1, 2])
    with pytest.raises(ShapeError, match="cross_entropy: axis 2 does not exist"):
        F.cross_entropy(np.zeros((2, 3)), [0, 1], axis=2)


def test_integer_labels_may_be_tensors_lists_or_any_integer_dtype() -> None:
    x = scores(0, 2, 3)
    expected = F.cross_entropy(x, np.array([0, 2]))
    for labels in ([0, 2], tg.tensor([0, 2]), np.array([0, 2], np.uint8), np.array([0, 2], np.int32)):
        assert F.cross_entropy(x, labels) == expected


def test_one_hot() -> None:
    np.testing.assert_array_equal(F.one_hot([[1], [0]], 3), [[[0, 1, 0]], [[1, 0, 0]]])
    assert F.one_hot([0], 2, dtype=np.float32).dtype == np.float32
    assert F.one_hot(np.zeros((0, 2), int), 3).shape == (0, 2, 3)


@pytest.mark.parametrize("name", ["mse", "binary_cross_entropy_with_logits", "binary_cross_entropy"])
def test_predictions_and_targets_must_have_one_shape(name: str) -> None:
    with pytest.raises(
        ShapeError, match=rf"{name}: predictions of shape \(3, 1\) against targets of shape \(3,\)"
    ):
        getattr(F, name)(tg.tensor(np.full((3, 1), 0.5)), np.full(3, 0.5))


@pytest.mark.parametrize("name", ["mse", "binary_cross_entropy_with_logits", "binary_cross_entropy"])
def test_integer_and_boolean_targets_do_not_widen_single_precision(name: str) -> None:
    x = tg.tensor(np.array([0.25, 0.75], np.float32), requires_grad=True)
    expected = getattr(F, name)(x, np.array([0, 1], np.float32))
    for targets in ([0, 1], np.array([False, True]), np.array([0, 1])):
        out = getattr(F, name)(x, targets)
        assert out.dtype == np.float32
        assert out.item() == expected.item()


# --- dropout ---------------------------------------------------------------------------------------------
@FLOATS
def test_dropout_keeps_the_expectation_and_scales_what_it_keeps(dtype: str) -> None:
    x = tg.tensor(np.ones((200, 200), dtype), requires_grad=True)
    out = F.dropout(x, 0.25, seed=0)
    assert out.dtype == np.dtype(dtype)
    kept = out.numpy() != 0
    np.testing.assert_allclose(out.numpy()[kept], 1 / 0.75, rtol=1e-6)
    assert abs(kept.mean() - 0.75) < 0.01
    np.testing.assert_array_equal(tg.grad(out.sum(), [x])[0], out.numpy())


def test_dropout_draws_from_the_generator_it_is_given() -> None:
    x = np.ones(50)
    np.testing.assert_array_equal(F.dropout(x, seed=3), F.dropout(x, seed=3))
    rng = rng_of(3)
    first, second = F.dropout(x, seed=rng), F.dropout(x, seed=rng)
    assert (first != second).any()
    tg.manual_seed(7)
    third = F.dropout(x)
    tg.manual_seed(7)
    np.testing.assert_array_equal(F.dropout(x), third)


def test_dropout_at_its_ends() -> None:
    x = tg.tensor([1.0, np.inf], requires_grad=True)
    assert F.dropout(x, 0.0) is x
    assert F.dropout(x, 0.9, training=False) is x
    out = F.dropout(x, 1.0, seed=0)
    np.testing.assert_array_equal(out.numpy(), [0, 0])
    np.testing.assert_array_equal(tg.grad(out.sum(), [x])[0], [0, 0])
    for p in (-0.1, 1.5, float("nan")):
        with pytest.raises(ValueError, match="dropout: p is a probability"):
            F.dropout(x, p)
