"""Means of products come from their matrices, and only where that is the same and less work."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import tensorgrad as tg
from tensorgrad import functional as F
from tensorgrad import nn
from tensorgrad.compile.ir import Loop, walk

from .common import assert_same, batch, check, loss_of, tagger

D, H = 3, 8


def drawn(seed: int = 0, **shapes: tuple[int, ...]) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {name: rng.standard_normal(shape) for name, shape in shapes.items()}


def loss_with(pre_activation: Callable[[Any, Any, Any], Any]) -> Callable[[Any, Any], Any]:
    """The loss of a cell h = tanh(pre_activation(p, x, h)), by parameters and inputs."""

    def loss(p: Any, xs: Any) -> Any:
        def cell(x: Any, h: Any) -> Any:
            h = tg.tanh(pre_activation(p, x, h))
            return h, h

        return (nn.unroll(cell, xs, np.zeros((*xs.shape[1:-1], H))).outputs ** 2).sum()

    return loss


def sums_in_loops(step: Any) -> int:
    """How many sums the loops take, as such or as products with ones: two for a whole layer norm, and two
    for its gradient, of which one each is the mean's; or one as a product of rows."""
    program = step._last.program
    ones = {id(e.out) for e in walk(program.eqns) if e.op == "full" and e.params["value"] == 1.0}
    loops = [e for e in program.eqns if isinstance(e, Loop)]
    inner = [e for loop in loops for e in walk(loop.body)]
    return sum(e.op in ("sum", "row_dot") or (e.op == "dot" and id(e.args[1]) in ones) for e in inner)


def mean_used_twice(y: Any) -> Any:
    mean = y.mean(axis=-1, keepdims=True)
    return F.layer_norm(y - mean) + tg.tanh(mean)


WEIGHTS = drawn(W=(D, H), U=(H, H), b=(H,), c=(H,), gain=(H,), shift=(H,))
TURNED = drawn(W=(H, D), U=(H, H), gain=(H,), shift=(H,))


@pytest.mark.usefixtures("numpy_pages")
@pytest.mark.parametrize(
    ("weights", "pre_activation"),
    [
        (WEIGHTS, lambda p, x, h: F.layer_norm(h @ p["U"], p["gain"], p["shift"]) + x @ p["W"]),
        (TURNED, lambda p, x, h: F.layer_norm(h @ p["U"].T, p["gain"], p["shift"]) + x @ p["W"].T),
        (WEIGHTS, lambda p, x, h: F.layer_norm(x @ p["W"] + h @ p["U"] + p["b"], p["gain"])),
        (WEIGHTS, lambda p, x, h: F.layer_norm((p["b"] + h @ p["U"]) + (p["c"] + x @ p["W"]))),
        (WEIGHTS, lambda p, x, h: F.layer_norm(h @ p["U"]) + F.layer_norm(x @ p["W"]) * p["gain"]),
    ],
    ids=["h @ U", "h @ U.T", "sum of products", "biases on both", "two norms"],
)
def test_no_mean_is_left(weights: Any, pre_activation: Any) -> None:
    step = check(tg.value_and_grad(loss_with(pre_activation)), weights, batch(7, 5, D)[0])
    assert sums_in_loops(step) == 2
    assert step.source.count("_centred") > 2


@pytest.mark.usefixtures("numpy_pages")
def test_a_matrix_that_is_used_otherwise_too() -> None:
    """Its gradient is no sum of products with what has the mean; forwards there is no difference."""
    loss = loss_with(lambda p, x, h: F.layer_norm(h @ p["U"]) + (h * h) @ p["U"])
    assert sums_in_loops(check(tg.value_and_grad(loss), WEIGHTS, batch(7, 5, D)[0])) == 3


@pytest.mark.usefixtures("numpy_pages")
def test_without_a_batch() -> None:
    """States (H,), whose gradients for the weights are outer products: the backward's mean stays."""
    loss = loss_with(lambda p, x, h: F.layer_norm(h @ p["U"] + x @ p["W"] + p["b"], p["gain"]))
    assert sums_in_loops(check(tg.value_and_grad(loss), WEIGHTS, batch(17, 1, D)[0][:, 0])) == 3


@pytest.mark.usefixtures("numpy_pages")
@pytest.mark.parametrize(
    ("pre_activation", "sums"),
    [
        # The state's own mean is needed at every timestep: it is no product with a matrix.
        (lambda p, x, h: F.layer_norm(h + x @ p["W"]) @ p["U"], 4),
        (lambda p, x, h: F.layer_norm(tg.tanh(h @ p["U"])), 4),
        # A product that is read as it is, with its mean.
        (lambda p, x, h: (lambda y: F.layer_norm(y) + y)(h @ p["U"] + x @ p["W"]), 4),
        # The mean itself, which is 0 of what the centred matrix gives.
        (lambda p, x, h: mean_used_twice(h @ p["U"] + x @ p["W"]), None),
        # A matrix of this timestep's own.
        (lambda p, x, h: F.layer_norm(h @ (p["U"] * tg.sum(x))), 4),
        # Forwards it is the matrix's; the gradient of the rows that are added to it is not.
        (lambda p, x, h: F.layer_norm(h @ p["U"] + p["b"] * tg.sum(h, axis=1, keepdims=True)), None),
        # Means over other axes, and of something else.
        (lambda p, x, h: (lambda y: y - y.mean(axis=0, keepdims=True))(h @ p["U"]), None),
        (lambda p, x, h: (lambda y: y - (y * y).mean(axis=1, keepdims=True))(h @ p["U"]), None),
        (lambda p, x, h: (lambda y: y - y.sum(axis=1, keepdims=True) / 7)(h @ p["U"]), None),
    ],
)
def test_other_means_stay(pre_activation: Any, sums: int | None) -> None:
    step = check(tg.value_and_grad(loss_with(pre_activation)), WEIGHTS, batch(7, 5, D)[0])
    assert "_centred" not in step.source
    if sums is not None:
        assert sums_in_loops(step) == sums


@pytest.mark.usefixtures("numpy_pages")
@pytest.mark.parametrize(("T", "B", "centred"), [(2, 2, False), (2, 8, True), (20, 1, True)])
def test_for_few_rows_the_mean_is_less_work_as_it_is(T: int, B: int, centred: bool) -> None:
    model, (xs, _, _) = tagger("lnlstm", H=H), batch(T, B)
    step = check(lambda model, xs: nn.unroll(model.core, xs).outputs, model, xs)
    assert ("weight_hh_centred" in step.source) == centred


def test_layers_whose_inputs_have_gradients_too() -> None:
    cells = [nn.LayerNormLSTMCell(H, H, seed=k) for k in range(2)]
    E = drawn(E=(D, H))["E"]

    def loss(p: Any, xs: Any) -> Any:
        xs = xs @ p["E"]
        for k, cell in enumerate(p["cells"]):
            xs = nn.unroll(cell, xs, reverse=k == 1).outputs
        return (xs**2).mean()

    check(tg.value_and_grad(loss), {"E": E, "cells": cells}, batch(9, 6, D)[0])


def test_the_gradient_of_a_gradient() -> None:
    loss = loss_with(lambda p, x, h: F.layer_norm(h @ p["U"] + x @ p["W"], p["gain"], p["shift"]))

    def penalty(p: Any, xs: Any) -> Any:
        _, gradients = tg.value_and_grad(loss)(p, xs)
        return sum((g * g).sum() for g in gradients.values())

    weights = {k: WEIGHTS[k] for k in ("W", "U", "gain", "shift")}
    check(tg.value_and_grad(penalty), weights, batch(5, 4, D)[0] * 0.5)


def test_whole_models_with_masks_and_checkpoints() -> None:
    model, (xs, ys, lengths) = tagger("lnlstm", H=H), batch(9, 6)

    def loss(model: Any, xs: Any, lengths: Any) -> Any:
        outputs = nn.unroll(model.core, xs, lengths=lengths, checkpoint="sqrt").outputs
        return F.cross_entropy(model.out(outputs), ys)

    check(tg.value_and_grad(loss), model, xs, lengths)
    check(tg.value_and_grad(loss_of), model, xs, ys)


@pytest.mark.usefixtures("numpy_pages")
def test_a_loop_within_the_loop() -> None:
    """It reads what has no mean, and there are gradients along several ways."""

    def inner(p: Any, x: Any, h: Any) -> Any:
        a = F.layer_norm(h @ p["U"])
        steps = nn.unroll(lambda x, s: (s + tg.tanh(a * x), s * 0.5 + a), p["c"][:3], a).outputs
        return steps.sum(axis=0) + x @ p["W"]

    check(tg.value_and_grad(loss_with(inner)), WEIGHTS, batch(7, 5, D)[0])


@pytest.mark.parametrize("seed", range(12))
def test_drawn_at_random(seed: int) -> None:
    """What becomes of a product, its mean and its norm, in cells put together at random."""
    rng = np.random.default_rng(seed)
    parts: list[Callable[..., Any]] = [
        lambda y, z, p: y - y.mean(axis=-1, keepdims=True),
        lambda y, z, p: z - z.mean(axis=-1, keepdims=True) * 0.5,
        lambda y, z, p: F.layer_norm(y) * tg.sigmoid(z.mean(axis=-1, keepdims=True)),
        lambda y, z, p: F.layer_norm(y + z, p["gain"]),
        lambda y, z, p: F.layer_norm(z) + F.layer_norm(y, p["gain"], p["shift"]),
        lambda y, z, p: F.layer_norm(z) @ p["U"],
        lambda y, z, p: (y - y.mean(axis=-1, keepdims=True)) / (1 + (z * z).sum(axis=-1, keepdims=True)),
    ]
    chosen = [parts[k] for k in rng.integers(len(parts), size=3)]

    def pre_activation(p: Any, x: Any, h: Any) -> Any:
        y, z = h @ p["U"], x @ p["W"] + p["b"]
        return sum(part(y, z, p) for part in chosen)

    step = check(tg.value_and_grad(loss_with(pre_activation)), WEIGHTS, batch(6, 4, D)[0])
    assert_same(
        step(WEIGHTS, batch(9, 5, D)[0]),
        tg.value_and_grad(loss_with(pre_activation))(WEIGHTS, batch(9, 5, D)[0]),
    )
