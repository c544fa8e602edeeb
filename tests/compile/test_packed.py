"""Products with a packed matrix, in tiles as different CPUs need them."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

import tensorgrad as tg
from tensorgrad import nn

from .common import assert_same, batch, loss_of, tagger

numba = pytest.importorskip("numba", reason="the kernels of tg.compile are not tested: numba is missing")

from tensorgrad.compile.kernels import packed, worth  # noqa: E402

TILES = [
    (packed.Tile(64, 2, (8, 4, 2, 1)), np.float32),
    (packed.Tile(32, 2, (6, 4, 2, 1)), np.float32),
    (packed.Tile(16, 2, (4, 2, 1)), np.float64),
]
SIZES = list(itertools.product((1, 2, 7, 8, 13), (1, 5, 33), (1, 8, 31, 32, 50)))


@pytest.mark.parametrize(("tile", "dtype"), TILES)
def test_packed_products(tile: packed.Tile, dtype: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Equal to a matrix product, whatever is left over of rows and columns, and nothing written beside it."""
    monkeypatch.setattr(packed, "tile", lambda: tile)

    # Compiled anew, for the tile is a part of their code.
    @numba.njit  # type: ignore[untyped-decorator]
    def pack(W: Any, P: Any) -> None:
        packed.pack(W, P)

    @numba.njit  # type: ignore[untyped-decorator]
    def turned(W: Any, P: Any) -> None:
        packed.pack_turned(W, P)

    @numba.njit  # type: ignore[untyped-decorator]
    def product(x: Any, P: Any, out: Any) -> None:
        packed.product_packed(x, P, out)

    rng = np.random.default_rng(0)
    tolerance = 1e-5 if dtype == np.float32 else 1e-13
    for B, inner, outer in SIZES:
        W = rng.standard_normal((inner, outer)).astype(dtype)
        P, Q = (np.full(packed.packed_length(inner, outer, dtype), np.nan, dtype) for _ in range(2))
        pack(W, P)
        turned(np.ascontiguousarray(W.T), Q)
        np.testing.assert_array_equal(P, Q)
        # Rows that lie apart, as those of a stack of states may.
        x = rng.standard_normal((B, inner + 2)).astype(dtype)[:, 1:-1]
        room = np.full((B + 2, outer + 40), 7, dtype)
        out = room[1:-1, 3 : 3 + outer]
        product(x, P, out)
        assert np.linalg.norm(out - x @ W) <= tolerance * np.linalg.norm(x @ W)
        out[...] = 7
        assert (room == 7).all()


def test_checked_packed_products_look_at_what_they_are_given() -> None:
    x, W = np.ones((4, 3)), np.ones((3, 2))
    P = np.zeros(packed.packed_length(3, 2, W.dtype))
    packed.checked_product_packed(x, P, np.empty((4, 2)))
    for wrong in (
        (x, P, np.empty((3, 2))),
        (x[:, :2], P, np.empty((4, 2))),
        (x, P[:-1], np.empty((4, 2))),
        (np.ones((4, 6))[:, ::2], P, np.empty((4, 2))),
    ):
        with pytest.raises(ValueError, match="do not fit"):
            packed.checked_product_packed(*wrong)


@pytest.mark.parametrize(
    ("count", "least", "expected"),
    [
        (1, 0, True),
        (1, 10**6, False),
        (4, 10**6, True),
        # Another library than OpenBLAS.
        (None, 0, False),
    ],
)
def test_small_products_are_left_to_the_blas_by_one_thread(
    count: int | None, least: int, expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worth, "threads_at_rest", lambda: count)
    monkeypatch.setattr(worth, "_LEAST", least)
    model, (xs, ys, _) = tagger("rnn"), batch(5, 3)
    step = tg.compile(tg.value_and_grad(loss_of), fast=True)
    assert_same(step(model, xs, ys), tg.value_and_grad(loss_of)(model, xs, ys))
    assert ("    product_packed(" in step.source) == expected
    assert ("    product(" in step.source) != expected
    # The transposed copy is not made where the matrix is packed.
    assert ("transpose_into" in step.source) != expected


def fast_compile(fn: Any) -> Any:
    return tg.compile(fn, fast=True)


def forward_of(source: str) -> str:
    """The text of the kernel of the first loop."""
    return source.split("def forward(")[1].split("@share_rows")[0].split("\n\n\n")[0]


@pytest.mark.parametrize("cell", ["rnn", "lstm", "gru", "lnlstm"])
def test_products_of_inputs_are_taken_into_the_loop(cell: str, small_products_packed: None) -> None:
    """Their results need no room but for one timestep, nor do those of what normalises them."""
    model, step = tagger(cell), tg.value_and_grad(loss_of)
    compiled = tg.compile(step, fast=True)
    for T, B in ((5, 3), (6, 7), (1, 2)):
        xs, ys, _ = batch(T, B)
        assert_same(compiled(model, xs, ys), step(model, xs, ys))
        assert "product_packed(xs[t]" in forward_of(compiled.source)
        # The gradient of the outputs, too, is multiplied within the loop backwards.
        assert "product_shared(xs" not in compiled.source
        assert "weight, out=" not in compiled.source


@pytest.mark.parametrize(("name", "value"), [("_LEAST_ROWS", 3), ("_WEIGHTS_A_ROW", 3 * 4 * 4 / 3)])
def test_products_of_few_rows_stay_outside(
    name: str, value: float, small_products_packed: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether there are many is decided by the first batch; one sequence is never packed."""
    monkeypatch.setattr(worth, name, value)
    step = tg.value_and_grad(loss_of)
    for B, expected in ((1, False), (2, False), (3, True)):
        model, compiled = tagger("lnlstm"), tg.compile(step, fast=True)
        for more in (0, 4):
            xs, ys, _ = batch(5, B + (more if B > 1 else 0))
            assert_same(compiled(model, xs, ys), step(model, xs, ys))
            assert ("product_packed(xs[t]" in compiled.source) == expected


@pytest.mark.parametrize("before", [False, True])
def test_a_product_that_others_read_is_computed_once(before: bool, small_products_packed: None) -> None:
    """Others may read the stack that a loop makes of it if they come after the loop."""
    xs = np.random.default_rng(0).standard_normal((5, 3, 2))

    def fn(W: dict[str, Any]) -> Any:
        a = xs @ W["xh"]
        extra = tg.exp(a).sum() if before else 0.0

        def cell(a_t: Any, h: Any) -> Any:
            h = tg.tanh(a_t * extra + h @ W["hh"])
            return h, h

        hs = nn.unroll(cell, a, np.zeros((3, 4))).outputs
        return (hs * a).sum()

    W = {"xh": np.full((2, 4), 0.3), "hh": np.full((4, 4), 0.2)}
    compiled = tg.compile(tg.value_and_grad(fn), fast=True)
    assert_same(compiled(W), tg.value_and_grad(fn)(W))
    # Besides those for the gradients of the two matrices.
    counts = [compiled.source.count(text) for text in (" product_shared(", "    product_packed(")]
    assert counts == ([3, 2] if before else [2, 3])


def test_sums_of_inputs_that_others_read_too(small_products_packed: None) -> None:
    """The loop gives what its first reader needs of every timestep to those after it."""

    def fn(W: dict[str, Any], xs: Any) -> Any:
        a = xs @ W["xh"]
        mean = a.mean(2, keepdims=True)

        def cell(x: Any, h: Any) -> Any:
            h = tg.tanh(x + h @ W["hh"])
            return h, h

        hs = nn.unroll(cell, (a - mean) * mean, np.zeros((3, 4))).outputs
        return (hs * mean).sum() + (mean**2).sum(), mean

    W = {"xh": np.full((2, 4), 0.3), "hh": np.full((4, 4), 0.2)}
    xs = np.random.default_rng(0).standard_normal((5, 3, 2))
    step = tg.value_and_grad(fn, has_aux=True)
    compiled = fast_compile(step)
    assert_same(compiled(W, xs), step(W, xs))
    assert "sum_" in forward_of(compiled.source)


@pytest.mark.parametrize("checkpoint", [None, 2])
def test_a_product_that_two_loops_read(checkpoint: int | None, small_products_packed: None) -> None:
    """The first of them makes it, and the other one reads it from the stack, in its own order."""

    def fn(W: dict[str, Any], xs: Any) -> Any:
        a = xs @ W["xh"]

        def cell(a_t: Any, h: Any) -> Any:
            h = tg.tanh(a_t + h @ W["hh"])
            return h, h

        h = np.zeros((3, 4))
        there = nn.unroll(cell, a, h, checkpoint=checkpoint).outputs
        back = nn.unroll(cell, a, h, reverse=True, checkpoint=checkpoint).outputs
        return (there * back).sum()

    W = {"xh": np.full((2, 4), 0.3), "hh": np.full((4, 4), 0.2)}
    compiled = fast_compile(tg.value_and_grad(fn))
    for T in (6, 7):
        xs = np.random.default_rng(T).standard_normal((T, 3, 2))
        assert_same(compiled(W, xs), tg.value_and_grad(fn)(W, xs))


@pytest.mark.parametrize(
    "options", [{"num_layers": 2}, {"bidirectional": True}, {"num_layers": 2, "bidirectional": True}]
)
def test_products_between_layers(options: dict[str, Any], small_products_packed: None) -> None:
    model = nn.LSTM(3, 4, seed=0, dtype=np.float64, **options)
    xs, _, lengths = batch(5, 3)

    def loss(model: Any, xs: Any) -> Any:
        return (model(xs, lengths=lengths)[0] ** 2).sum()

    # The lengths are an array that is known when the function is compiled.
    step = tg.value_and_grad(loss)
    compiled = tg.compile(step, fast=True)
    assert_same(compiled(model, xs), step(model, xs))
    assert compiled.source.count("    product_packed(") >= 2
