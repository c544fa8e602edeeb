"""One-hot products become lookups; their gradients are summed the faster way; nothing else changes."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tensorgrad as tg
from tensorgrad import functional as F
from tensorgrad import nn
from tensorgrad.compile.ir import Eqn, walk
from tensorgrad.compile.passes.lookups import product_is_faster

from .common import assert_same, check

# The pass has the name of its module.
MODULE = sys.modules[product_is_faster.__module__]


def ids_of(V: int, T: int = 5, B: int = 2, seed: int = 0) -> Any:
    return np.random.default_rng(seed).integers(V, size=(T, B))


def weights(V: int, H: int, dtype: Any = np.float64) -> dict[str, Any]:
    rng = np.random.default_rng(1)
    shapes = {"W": (V, H), "U": (H, H), "b": (H,)}
    return {k: 0.4 * rng.standard_normal(s).astype(dtype) for k, s in shapes.items()}


def one_hot_before(p: Any, ids: Any) -> Any:
    xs = F.one_hot(ids, len(p["b"]) + 3)

    def cell(x: Any, h: Any) -> Any:
        h = tg.tanh(x @ p["W"] + h @ p["U"] + p["b"])
        return h, h

    return (nn.unroll(cell, xs, np.zeros((ids.shape[1], len(p["b"])))).outputs ** 2).sum()


def one_hot_inside(p: Any, ids: Any) -> Any:
    def cell(i: Any, h: Any) -> Any:
        h = tg.tanh(F.one_hot(i, len(p["b"]) + 3) @ p["W"] + h @ p["U"] + p["b"])
        return h, h

    return (nn.unroll(cell, ids, np.zeros((ids.shape[1], len(p["b"])))).outputs ** 2).sum()


def turned_weight(p: Any, ids: Any) -> Any:
    def cell(i: Any, h: Any) -> Any:
        h = tg.tanh(F.one_hot(i, len(p["b"]) + 3) @ p["W"].T.T + h @ p["U"].T + p["b"])
        return h, h

    return (nn.unroll(cell, ids, np.zeros((ids.shape[1], len(p["b"])))).outputs ** 2).sum()


def ops_of(compiled: Any) -> list[str]:
    return [e.op for e in walk(compiled._ran().program.eqns)]


def dots_with_one_hots(compiled: Any) -> int:
    """How many products are left that read one-hot rows as they are."""
    eqns = [e for e in walk(compiled._ran().program.eqns) if isinstance(e, Eqn)]
    hot = {id(e.out) for e in eqns if e.op == "one_hot"}
    for e in eqns:
        if e.op == "reshape" and id(e.args[0]) in hot:
            hot.add(id(e.out))
    return sum(e.op == "dot" and any(id(a) in hot for a in e.args) for e in eqns)


@pytest.mark.parametrize("fn", [one_hot_before, one_hot_inside, turned_weight])
@pytest.mark.parametrize("way", ["product", "sums"])
def test_one_hot_products_become_lookups(fn: Any, way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MODULE, "product_is_faster", lambda V, H: way == "product")
    step = check(tg.value_and_grad(fn), weights(7, 4), ids_of(7))
    assert ops_of(step).count("gather") == 1
    assert dots_with_one_hots(step) == 0
    assert ("scatter" in ops_of(step)) == (way == "sums")
    assert ("one_hot" in ops_of(step)) == (way == "product")


@settings(max_examples=15, deadline=None)
@given(
    V=st.integers(1, 9),
    H=st.integers(1, 5),
    T=st.integers(1, 4),
    B=st.integers(1, 3),
    sums=st.booleans(),
    seed=st.integers(0, 99),
)
def test_gradients_of_tables(V: int, H: int, T: int, B: int, sums: bool, seed: int) -> None:
    """An embedding and a one-hot product give one gradient, either way it is summed."""
    W, ids = weights(V, H)["W"], ids_of(V, T, B, seed)
    scale = np.arange(1.0, H + 1)

    table = nn.Embedding(V, H, seed=seed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(MODULE, "product_is_faster", lambda V, H: not sums)
        for fn, p in (
            (lambda t, i: (tg.tanh(t(i)) * scale).sum(), table),
            (lambda W, i: (tg.tanh(F.one_hot(i, V) @ W) * scale).sum(), W),
            (lambda W, i: (tg.tanh(F.one_hot(i, V) @ W.T) * scale).sum(), np.ascontiguousarray(W.T)),
        ):
            eager = tg.value_and_grad(fn)(p, ids)
            assert_same(tg.compile(tg.value_and_grad(fn))(p, ids), eager)


@pytest.mark.parametrize("cell", ["rnn", "lstm", "gru"])
def test_character_models_look_their_inputs_up(cell: str) -> None:
    """The weights of the cells lie the other way, (H, V), and the bias is added to the table."""
    core, out = nn.make_cell(cell, 6, 4, seed=1), nn.Linear(4, 6, seed=2)

    def loss(model: Any, ids: Any, ys: Any) -> Any:
        core, out = model
        return F.cross_entropy(out(nn.unroll(core, F.one_hot(ids, 6)).outputs), ys)

    step = check(tg.value_and_grad(loss), (core, out), ids_of(6), ids_of(6, seed=1))
    assert ops_of(step).count("gather") == 1
    assert "np.take(weight_ih_T_b, ids" in step.source


def test_ids_are_still_checked() -> None:
    step = tg.compile(one_hot_before)
    p, ids = weights(7, 4), ids_of(7)
    step(p, ids)
    for wrong in (7, -1):
        ids[1, 1] = wrong
        with pytest.raises(ValueError, match=rf"{wrong} at index \(1, 1\)"):
            step(p, ids)


def test_indices_that_nobody_checked_keep_their_meaning() -> None:
    """Negative ones count from the end, and repeated ones add up."""
    W = weights(7, 4)["W"]
    step = check(tg.value_and_grad(lambda W, i: (W[i] ** 2).sum()), W, np.array([-1, 2, 2, 0]))
    assert "add_rows" in step.source


def test_which_way_is_faster() -> None:
    """Few ids: a product; many: sums of segments. Between, long rows favour the product."""
    assert product_is_faster(27, 8)
    assert product_is_faster(65, 512)
    assert not product_is_faster(10_000, 2048)
    turns = [max(V for V in range(1, 1000) if product_is_faster(V, H)) for H in (1, 64, 128, 256, 4096)]
    assert turns == sorted(turns)
    assert turns[0] < turns[-1]
