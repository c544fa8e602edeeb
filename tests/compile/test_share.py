"""Kernels and products whose rows several threads share."""

from __future__ import annotations

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

import tensorgrad as tg
from tensorgrad import nn

from . import test_random_loops
from .common import assert_same, batch, loss_of, tagger

pytest.importorskip("numba", reason="the kernels of tg.compile are not tested: numba is missing")

from tensorgrad.compile.kernels import blas, share


@pytest.fixture
def parts(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int, int]]:
    """The threads at work: their names, and from where to where the rows went that they took."""
    found: list[tuple[str, int, int]] = []
    together = share._together

    def seen(length: int, each: Any) -> list[Any]:
        def noted(first: int, last: int) -> Any:
            found.append((threading.current_thread().name, first, last))
            return each(first, last)

        return together(length, noted)

    monkeypatch.setattr(share, "_together", seen)
    return found


@pytest.mark.parametrize("cell", ["rnn", "lnlstm"])
def test_a_step_is_what_eager_mode_gives(
    cell: str, three_threads: None, parts: list[tuple[str, int, int]]
) -> None:
    model, step = tagger(cell), tg.value_and_grad(loss_of)
    compiled = tg.compile(step, fast=True)
    for T, B in ((5, 3), (6, 7), (4, 2), (7, 1)):
        xs, ys, _ = batch(T, B)
        parts.clear()
        assert_same(compiled(model, xs, ys), step(model, xs, ys))
        # One row is nothing to share.
        count = min(3, B) if B > 1 else 0
        rows = {(B * k // count, B * (k + 1) // count) for k in range(count)}
        assert rows <= {part[1:] for part in parts}
        assert bool(rows) == bool(parts)
        # The whole recurrence is shared, in both directions: no product of it waits for the BLAS.
        *before, _ = compiled.source.split("@njit\ndef ")
        assert len(before) > 2
        assert all(text.endswith("@share_rows\n") for text in before) == (B > 1)
        assert ("    product(" in compiled.source) == (B == 1)


# The second has a loop within a loop that has no state.
@pytest.mark.parametrize("seed", [0, 9004])
def test_loops_at_random(seed: int, three_threads: None, monkeypatch: pytest.MonkeyPatch) -> None:
    compiled = tg.compile
    monkeypatch.setattr(tg, "compile", lambda fn: compiled(fn, fast=True))
    test_random_loops.test_loops_that_share_stacks(seed)


def test_a_constant_matrix_is_packed_too(three_threads: None) -> None:
    def fn(xs: Any) -> Any:
        W = np.arange(9.0).reshape(3, 3) / 20

        def cell(x: Any, h: Any) -> Any:
            h = tg.tanh(x + h @ W)
            return h, h

        return (nn.unroll(cell, xs, np.zeros((4, 3))).outputs ** 2).sum()

    step, xs = tg.value_and_grad(fn), np.random.default_rng(0).standard_normal((5, 4, 3))
    compiled = tg.compile(step, fast=True)
    assert_same(compiled(xs), step(xs))
    assert "W_packed" in compiled.source


def test_totals_do_not_depend_on_who_is_first(three_threads: None) -> None:
    model, step = tagger("lstm"), tg.compile(tg.value_and_grad(loss_of), fast=True)
    xs, ys, _ = batch(5, 9)
    first = tg.tree.leaves(step(model, xs, ys))
    for _ in range(20):
        for a, b in zip(first, tg.tree.leaves(step(model, xs, ys)), strict=True):
            np.testing.assert_array_equal(np.asarray(a), np.asarray(b))


def test_an_error_of_one_part_is_raised_when_all_are_done(three_threads: None) -> None:
    done = []

    def each(first: int, last: int) -> None:
        if first:
            raise ValueError(f"rows from {first}")
        done.append(last)

    with share.team(6), pytest.raises(ValueError, match="rows from 2"):
        share._together(6, each)
    assert done == [2]


def test_without_new_threads_this_one_does_it_all(
    three_threads: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As at the end of the interpreter, which may come between two parts."""

    class Ending(ThreadPoolExecutor):
        def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Any:
            if args[0] > 2:
                raise RuntimeError("cannot schedule new futures after interpreter shutdown")
            return super().submit(fn, *args, **kwargs)

    with Ending(1) as pool, share.team(6):
        monkeypatch.setattr(share, "_pool", lambda: pool)
        assert share._together(6, lambda first, last: (first, last)) == [(0, 2), (2, 4), (4, 6)]


def test_no_thread_warns_of_what_overflows(three_threads: None) -> None:
    x = np.full((6, 4), 1e300)
    with share.team(6), np.errstate(all="ignore"):
        assert np.isinf(share.product_shared(x, x.T)).all()


@pytest.mark.parametrize("shape", [(7, 5, 3), (3, 5, 7), (2, 4, 2)])
@pytest.mark.parametrize("turned", [False, True])
def test_products(shape: tuple[int, int, int], turned: bool, three_threads: None) -> None:
    rng, (rows, inner, columns) = np.random.default_rng(0), shape
    x = rng.standard_normal((inner, rows)).T if turned else rng.standard_normal((rows, inner))
    y = rng.standard_normal((columns, inner)).T if turned else rng.standard_normal((inner, columns))
    out = np.empty((rows, columns))
    with share.team(6):
        assert share.product_shared(x, y, out) is out
        np.testing.assert_allclose(out, x @ y, rtol=1e-14, atol=1e-14)
        np.testing.assert_allclose(share.product_shared(x, y), x @ y, rtol=1e-14, atol=1e-14)


@pytest.fixture
def blas_threads(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The number of the BLAS's threads, which is 4 at first, after every time that it is set."""
    count = [4]
    monkeypatch.setattr(share, "threads", lambda: count[-1])
    monkeypatch.setattr(share, "set_threads", count.append)
    monkeypatch.setattr(share, "_TEAMS", share._Teams())
    return count


def test_the_blas_has_its_threads_again_afterwards(blas_threads: list[int]) -> None:
    with share.team(64):
        assert blas_threads == [4, 1]
    with pytest.raises(KeyError), share.team(64):
        raise KeyError
    # There are not rows enough for two.
    with share.team(2 * share.LEAST_ROWS - 1):
        pass
    assert blas_threads == [4, 1, 4, 1, 4]


def test_teams_at_the_same_time(blas_threads: list[int]) -> None:
    """The first to begin takes the BLAS's threads, and the last to end gives them back."""
    inside, leave = threading.Event(), threading.Event()

    def other() -> None:
        with share.team(64):
            inside.set()
            leave.wait()

    thread = threading.Thread(target=other)
    with share.team(64):
        thread.start()
        inside.wait()
    assert blas_threads == [4, 1, 1]
    leave.set()
    thread.join()
    assert blas_threads == [4, 1, 1, 4]


def test_who_asks_meanwhile_is_told_of_all_threads(blas_threads: list[int]) -> None:
    """What is compiled does not depend on what others do at the time."""
    assert share.threads_at_rest() == 4
    with share.team(64):
        assert share.threads() == 1
        assert share.threads_at_rest() == 4


def test_what_an_interrupt_left_is_mended_by_the_next_step(blas_threads: list[int]) -> None:
    share._TEAMS.at_work.add(threading.get_ident())
    share._TEAMS.count = 4
    blas_threads.append(1)
    with share.team(64):
        pass
    assert blas_threads[-1] == 4
    assert not share._TEAMS.at_work


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes do not fork here")
def test_a_fork_in_the_middle_of_a_step_begins_at_rest(blas_threads: list[int]) -> None:
    with share.team(64):
        pool = share._pool()
        share._forked()
        assert blas_threads == [4, 1, 4]
        assert not share._TEAMS.at_work
        assert share._pool() is not pool
    assert blas_threads == [4, 1, 4]


def test_the_number_of_threads_is_openblas_s() -> None:
    before = blas.threads()
    if before is None:
        pytest.skip("NumPy's BLAS cannot be asked for its threads")
    try:
        blas.set_threads(1)
        assert blas.threads() == 1
    finally:
        blas.set_threads(before)
    assert blas.threads() == before
