"""Small pictures of arrays: right where every number has a cell, fair where it has not."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import tensorgrad as tg
from tensorgrad.viz.build import build
from tensorgrad.viz.levels import cells
from tensorgrad.viz.measuring.thumbs import (
    BINS,
    INFINITE,
    LEVELS,
    MINUS_INFINITE,
    NAN,
    Thumb,
    thumbnail,
    thumbnails,
    thumbs_of,
)

from .conftest import char_rnn

ARRAYS = hnp.arrays(
    st.sampled_from([np.float32, np.float64]),
    hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=12),
    elements=st.floats(width=32),
)


def test_pictures_of_weights_are_those_of_the_forward() -> None:
    case = char_rnn(3)
    model = build(case.output, case.unrolled, case.params)
    before = thumbnails(case.output, [model]).values
    case.output.backward()
    tg.optim.SGD(case.params["cell"].parameters(), lr=5.0).step()
    assert thumbnails(case.output, [model]).values == before


def grid(thumb: Thumb) -> np.ndarray:
    return np.frombuffer(thumb.cells, np.uint8).reshape(-1, thumb.columns)


@given(ARRAYS, st.integers(1, 64))
def test_a_thumb_is_small_and_says_what_is_there(array: np.ndarray, cells: int) -> None:
    thumb = thumbnail(array, cells)
    assert thumb.shape == array.shape
    assert len(thumb.cells) <= cells
    assert len(thumb.counts) == BINS
    finite = array[np.isfinite(array)].astype(np.float64)
    if not array.size:
        assert (thumb.cells, thumb.columns, any(thumb.counts)) == (b"", 0, False)
        return
    assert len(thumb.cells) % thumb.columns == 0
    codes = set(thumb.cells)
    assert (NAN in codes) == bool(np.isnan(array).any())
    assert (max(codes) < LEVELS) == bool(np.isfinite(array).all())
    assert (thumb.least, thumb.greatest) == ((finite.min(), finite.max()) if finite.size else (0, 0))
    assert max(thumb.counts) == (255 if finite.size else 0)


@given(hnp.arrays(np.float64, (4, 5), elements=st.floats(-1e6, 1e6)))
def test_every_number_with_a_cell_of_its_own(array: np.ndarray) -> None:
    thumb = thumbnail(array)
    span = thumb.greatest - thumb.least
    shown = thumb.least + grid(thumb) / (LEVELS - 1) * span
    np.testing.assert_allclose(shown, array, atol=0.501 * span / (LEVELS - 1) + 1e-9)
    edges = np.linspace(thumb.least, thumb.greatest, BINS + 1)
    # Unless there are fewer floats between the ends than bins.
    if (np.diff(edges) > 0).all():
        heights, _ = np.histogram(array, edges)
        # Numbers at the edge of two bins may fall into either.
        filled = np.frombuffer(thumb.counts, np.uint8) > 0
        assert abs(int(filled.sum()) - int((heights > 0).sum())) <= 2


def test_cells_of_many_numbers_are_their_means() -> None:
    array = np.zeros((8, 8))
    array[:4, 4:] = 1.0
    array[4:, :4] = np.arange(4) % 2
    assert grid(thumbnail(array, 4)).tolist() == [[0, 252], [126, 0]]


def test_what_is_not_finite_shows_however_many_numbers_share_a_cell() -> None:
    array = np.ones((100, 100))
    array[3, 5], array[50, 50], array[99, 99] = np.nan, np.inf, -np.inf
    codes = grid(thumbnail(array, 16))
    assert (codes[0, 0], codes[2, 2], codes[3, 3]) == (NAN, INFINITE, MINUS_INFINITE)
    assert (codes < LEVELS).sum() == 13


def test_the_picture_keeps_about_the_proportions() -> None:
    sizes = {(100, 100): (8, 8), (1, 500): (1, 64), (500, 1): (64, 1), (32, 16): (10, 6), (3, 4, 5): (12, 5)}
    for shape, size in sizes.items():
        assert grid(thumbnail(np.ones(shape))).shape == size


def test_numbers_whose_difference_overflows() -> None:
    assert list(thumbnail(np.array([-1.5e308, 0.0, 1.5e308])).cells) == [0, 126, 252]


@pytest.mark.parametrize("dtype", [np.bool_, np.int64, np.uint8, np.float16, np.complex128])
def test_any_dtype(dtype: Any) -> None:
    thumb = thumbnail(np.array([0, 1], dtype))
    assert (list(thumb.cells), thumb.greatest) == ([0, 252], 1.0)


def test_many_at_once_are_as_one_by_one() -> None:
    rng = np.random.default_rng(0)
    arrays = {i: rng.normal(size=(1 + i % 3, 700)) for i in range(300)}
    assert thumbs_of(arrays) == {i: thumbnail(array) for i, array in arrays.items()}


def test_thumbs_of_a_drawing_and_of_its_cells() -> None:
    case = char_rnn(6)
    model = build(case.output, case.unrolled, case.params)
    found = thumbnails(case.output, [model, cells(model)])
    assert found.values["t3.cell"] == found.values["t3.h"]
    assert found.grads["t3.cell"] == found.grads["t3.h"]
    h = case.unrolled.steps[3]["h"]
    assert found.values["t3.h"] == thumbnail(h.numpy())
    assert found.grads["t3.h"] == thumbnail(tg.grad(case.output, [h])[0])
    assert "t3.x" in found.values
    assert "t3.x" not in found.grads


def test_a_page_of_five_hundred_timesteps_has_room_for_them() -> None:
    case = char_rnn(500)
    found = thumbnails(case.output, [build(case.output)])
    sizes = [len(thumb.cells) + BINS for thumbs in found for thumb in thumbs.values()]
    assert sum(sizes) / len(sizes) < 100
