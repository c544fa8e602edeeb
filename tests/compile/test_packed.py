"""Products with a packed matrix, in tiles as different CPUs need them."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

import tensorgrad as tg

from .common import assert_same, batch, loss_of, tagger

numba = pytest.importorskip("numba", reason="the kernels of tg.compile are not tested: numba is missing")

from tensorgrad.compile.kernels import finish, packed  # noqa: E402

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
    monkeypatch.setattr(finish, "threads_at_rest", lambda: count)
    monkeypatch.setattr(finish, "_LEAST", least)
    model, (xs, ys, _) = tagger("rnn"), batch(5, 3)
    step = tg.compile(tg.value_and_grad(loss_of), fast=True)
    assert_same(step(model, xs, ys), tg.value_and_grad(loss_of)(model, xs, ys))
    assert ("    product_packed(" in step.source) == expected
    assert ("    product(" in step.source) != expected
    # The transposed copy is not made where the matrix is packed.
    assert ("transpose_into" in step.source) != expected
