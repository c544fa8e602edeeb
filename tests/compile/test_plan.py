"""Buffers: how many bytes a step needs, and how a page is laid out. Counted, never timed."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

import tensorgrad as tg
from tensorgrad.nn.cells import CELLS

from .common import assert_same, batch, check, loss_of, needs_numba, tagger

T, B, H = 40, 16, 32


def step_of(cell: str, B: int = B) -> Any:
    step = tg.compile(tg.value_and_grad(loss_of))
    step(tagger(cell, H=H), *batch(T, B)[:2])
    return step


@pytest.mark.parametrize(
    ("cell", "B", "stacks"),
    [("rnn", B, 4), ("lstm", B, 14), ("gru", B, 11), ("lnlstm", B, 40), ("lstm", 2 * B, 13)],
)
def test_the_bytes_of_a_step(cell: str, B: int, stacks: int) -> None:
    """In stacks of (T, B, H), the size of a hidden state at every timestep.

    rnn: a_x, over which dh is written, h, its slope, da. lstm: 4 of a_x, over which da is written, h, c,
    tanh c, four gates, dh, two for slopes; of large batches one, for another is written over i, which does
    not lie beside f then. gru: 3 of the inputs' share, over which da is written, h, n, r, z, what r
    multiplies, h - n, dh, one for slopes.
    """
    ran = step_of(cell, B)._ran()
    size = sum(b.nbytes for b in ran.make_buffers(*ran.sizes))
    assert size / (T * B * H * 8) < stacks + 0.95


@pytest.mark.usefixtures("numpy_pages")
@pytest.mark.parametrize(("cell", "forward", "backward"), [("rnn", 3, 3), ("lstm", 10, 9), ("gru", 11, 9)])
def test_the_calls_of_a_timestep(cell: str, forward: int, backward: int) -> None:
    """At B=1 a timestep costs what its calls of NumPy cost: their number is what counts."""
    bodies = re.findall(r"\n    for t in .*:\n((?:        .*\n)+)", step_of(cell).source)
    assert [body.count("\n") for body in bodies] == [forward, backward]


@pytest.mark.parametrize("fast", [False, pytest.param(True, marks=needs_numba)])
@pytest.mark.parametrize("cell", sorted(CELLS))
def test_no_product_copies_what_is_transposed(cell: str, fast: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """NumPy's dot copies parts of rows that are transposed, which took the GRU a tenth of its time."""
    seen, dot = [], np.dot

    def looked_at(x: Any, y: Any, out: Any = None) -> Any:
        seen.extend(a for a in (x, y) if a.ndim == 2)
        return dot(x, y, out=out)

    step, model, data = tg.value_and_grad(loss_of), tagger(cell), batch(5, 3)[:2]
    compiled = tg.compile(step, fast=fast)
    compiled(model, *data)
    monkeypatch.setattr(np, "dot", looked_at)
    assert_same(compiled(model, *data), step(model, *data))
    assert seen
    assert all(a.flags.forc or a.strides[1] == a.itemsize for a in seen)


@pytest.mark.usefixtures("numpy_pages")
def test_the_page_of_the_vanilla_rnn() -> None:
    """Sections and loops in their order, short enough to be read, names that the field has."""
    source = step_of("rnn").source
    page = source[source.index("def loss_of") :]
    parts = [
        "a_x",
        "# the recurrence, timestep by timestep",
        "for t in range(T):",
        "np.tanh(a_h, out=h[t + 1])",
        "# all timesteps at once",
        "loss =",
        "# ---- backward ----",
        "h_slope",
        "for t in reversed(range(T)):",
        "out=dh_next",
        "dweight_hh = ",
        "return loss, ",
    ]
    rest = page[page.index("\n") :]
    for part in parts:
        assert part in rest, part
        rest = rest[rest.index(part) + len(part) :]
    assert page.count("\n") < 80
    assert max(map(len, page.splitlines())) <= 110
    assert not re.search(r"\bv\d*\b", page)


def test_no_two_live_results_share_a_buffer() -> None:
    """Results of two calls stay apart, and inputs are left alone."""
    step = step_of("gru")
    model, (xs, ys, _) = tagger("gru", H=H), batch(T, B)
    before = xs.copy()
    first = [
        np.array(g.numpy()) if isinstance(g, tg.Tensor) else g for g in tg.tree.leaves(step(model, xs, ys))
    ]
    again = step(model, xs, ys)
    for x, y in zip(first, tg.tree.leaves(again), strict=True):
        assert np.array_equal(x, y.numpy() if isinstance(y, tg.Tensor) else y)
    assert np.array_equal(xs, before)


@pytest.mark.parametrize(
    "use",
    [
        lambda number, choice, w: tg.where(choice, number, w),
        lambda number, choice, w: tg.where(choice, w, number),
        lambda number, choice, w: tg.broadcast_to(number, w.shape) * tg.exp(w),
        lambda number, choice, w: number.reshape(1, 1) * tg.exp(w),
    ],
)
def test_a_number_is_read_before_its_operand_is_written_over(use: Any) -> None:
    """A number that is written where it is used: what it is made of must be there still."""

    def fn(x: Any, choice: Any, w: Any) -> Any:
        late = use(tg.exp(x).max(), choice, w)
        return (late * late).sum(), (late * w).sum()

    rng = np.random.default_rng(0)
    x, choice, w = (rng.standard_normal((3, 4)) for _ in range(3))
    check(fn, x, choice > 0, w)


@pytest.mark.parametrize(("width", "dtype"), [(8, np.float64), (4, np.float32), (8, np.int64), (8, np.uint8)])
def test_columns_negated(width: int, dtype: Any) -> None:
    """NumPy's negative, from columns into columns, is not right for every width."""

    def fn(x: Any) -> Any:
        parts = [-x[:, 1:2], x[:, 2:], -x[:, :1]]
        if np.dtype(dtype).kind == "f":
            parts += [tg.sigmoid(x[:, 3:4]), tg.sigmoid(x[:, :2])]
        return tg.concatenate(parts, 1) * 2

    check(fn, np.arange(5 * width).reshape(5, width).astype(dtype))


@pytest.mark.parametrize("fast", [False, pytest.param(True, marks=needs_numba)])
def test_sums_of_many_numbers_are_cut_into_lines(fast: bool) -> None:
    """As of the losses of 300 timesteps in a Python list: Python parses brackets no 200 deep."""

    def loss(x: Any) -> Any:
        return sum((x[k % 5] * x[k % 3] for k in range(300)), x.sum()) * 2.0

    step = tg.compile(tg.value_and_grad(loss), fast=fast)
    x = np.linspace(-1, 1, 5)
    assert_same(step(x), tg.value_and_grad(loss)(x))
    assert max(map(len, step.source.splitlines())) <= 120
