"""Compiled kernels: their functions, what they compute, and how they are kept on disk."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays as drawn_arrays

import tensorgrad as tg
from tensorgrad import functional as F
from tensorgrad import nn
from tensorgrad.errors import UserError
from tests.compile import test_random_programs
from tests.compile.common import assert_same, batch, loss_of, tagger

numba = pytest.importorskip("numba", reason="the kernels of tg.compile are not tested: numba is missing")

from tensorgrad.compile.kernels import build as kernel_files  # noqa: E402
from tensorgrad.compile.kernels import functions  # noqa: E402

NAMES = ["exp", "tanh", "sigmoid", "log"]
REFERENCE = {"exp": np.exp, "tanh": np.tanh, "sigmoid": lambda x: 1 / (1 + np.exp(-x)), "log": np.log}


def over_arrays(fn: Any) -> Any:
    @numba.njit(error_model="numpy", fastmath={"contract"})
    def run(x: Any, y: Any) -> Any:
        for i in range(x.size):
            y[i] = fn(x[i])
        return y

    return run


COMPILED = {name: over_arrays(getattr(functions, name)) for name in NAMES}


def ulps(name: str, x: np.ndarray) -> Any:
    """The error in units in the last place, against the next wider type."""
    wide = {np.float32: np.float64, np.float64: np.longdouble}[x.dtype.type]
    with np.errstate(all="ignore"):
        exact = REFERENCE[name](x.astype(wide))
        want = exact.astype(x.dtype)
        got = COMPILED[name](x, np.empty_like(x))
        special = ~np.isfinite(want)
        np.testing.assert_array_equal(got[special], want[special])
        small = np.abs(want) < np.finfo(x.dtype).tiny * 8 if name == "sigmoid" else np.zeros(x.shape, bool)
        error = np.abs(got.astype(wide) - exact) / np.spacing(np.abs(want)).astype(wide)
    return error[~special & ~small].max(initial=0)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", NAMES)
def test_functions_are_accurate(name: str, dtype: Any) -> None:
    rng = np.random.default_rng(0)
    scales = (1e-30, 1e-3, 0.1, 1, 10, 40, 300)
    x = np.concatenate([rng.standard_normal(4000) * s for s in scales]).astype(dtype)
    assert ulps(name, np.abs(x) if name == "log" else x) < 3


@pytest.mark.parametrize("bits", [32, 64])
@pytest.mark.parametrize("name", NAMES)
def test_functions_of_any_number(name: str, bits: int) -> None:
    numbers = st.floats(width=bits, allow_subnormal=True)

    @settings(max_examples=60, deadline=None)
    @given(drawn_arrays(f"f{bits // 8}", st.integers(1, 40), elements=numbers))
    def holds(x: np.ndarray) -> None:
        assert ulps(name, x) < 3

    holds()
    zeros = np.array([0.0, -0.0], f"f{bits // 8}")
    if name == "tanh":
        np.testing.assert_array_equal(np.signbit(COMPILED[name](zeros, np.empty_like(zeros))), [False, True])


@pytest.mark.parametrize("seed", [0, 4, 16, 26])
def test_a_random_program_with_kernels(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    compiled = tg.compile
    monkeypatch.setattr(tg, "compile", lambda fn: compiled(fn, fast=True))
    test_random_programs.test_a_random_program(seed)


@pytest.mark.parametrize("cell", ["lstm", "peephole"])
def test_lengths_and_single_precision(cell: str) -> None:
    model = tagger(cell, dtype=np.float32)

    def loss(model: Any, xs: Any, ys: Any, lengths: Any) -> Any:
        roll = nn.unroll(model.core, xs, lengths=lengths, reverse=True)
        return F.cross_entropy(model.out(roll.outputs), ys)

    xs, ys, lengths = batch(6, 3, dtype=np.float32)
    step = tg.compile(tg.value_and_grad(loss), fast=True)
    assert_same(step(model, xs, ys, lengths), tg.value_and_grad(loss)(model, xs, ys, lengths))


@pytest.mark.parametrize("cell", ["rnn", "lstm", "gru", "lnlstm"])
def test_a_step_with_kernels(cell: str) -> None:
    model = tagger(cell)
    step = tg.compile(tg.value_and_grad(loss_of), fast=True)
    for T, B in ((5, 3), (7, 2), (6, 1))[: 2 if cell == "lnlstm" else 3]:
        xs, ys, _ = batch(T, B)
        assert_same(step(model, xs, ys), tg.value_and_grad(loss_of)(model, xs, ys))
    assert "\ndef forward(" in step.source
    assert "\ndef backward(" in step.source
    assert "a loop over T timesteps in a compiled kernel" in step.explain()


def test_views_and_frozen_arrays_are_taken() -> None:
    model = tagger("lstm")
    step = tg.compile(tg.value_and_grad(loss_of), fast=True)
    xs, ys, _ = batch(5, 3)
    for x in (np.asfortranarray(xs), xs[::-1], np.broadcast_to(xs[:1], xs.shape)):
        assert_same(step(model, x, ys), tg.value_and_grad(loss_of)(model, x, ys))


def test_nan_stays_nan() -> None:
    model = tagger("gru")
    xs, ys, _ = batch(5, 3)
    xs[2, 1, 0] = np.nan
    loss, _ = tg.compile(tg.value_and_grad(loss_of), fast=True)(model, xs, ys)
    assert np.isnan(loss.item())


def test_an_error_in_a_kernel_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    from tensorgrad.compile.kernels.kernel import Kernel

    right = Kernel.source
    monkeypatch.setattr(
        Kernel, "source", lambda self: right(self).replace("- h2", "+ h2").replace("1.0) -", "1.0) +")
    )
    model, (xs, ys, _) = tagger("rnn"), batch(5, 3)
    with pytest.raises(AssertionError):
        assert_same(
            tg.compile(tg.value_and_grad(loss_of), fast=True)(model, xs, ys),
            tg.value_and_grad(loss_of)(model, xs, ys),
        )


def test_the_saved_page_is_that_of_numpy(tmp_path: Path) -> None:
    model, (xs, ys, _) = tagger("rnn"), batch(5, 3)
    step = tg.compile(tg.value_and_grad(loss_of), fast=True)
    step(model, xs, ys)
    step.save(tmp_path / "step.py")
    text = (tmp_path / "step.py").read_text()
    assert "for t in reversed(range(T)):" in text
    assert "tensorgrad" not in text


# --- on disk -----------------------------------------------------------------------------------------------
def compiled_names(model: Any, xs: Any, ys: Any) -> list[str]:
    """What is compiled, not loaded, for a new function; the results are compared."""
    before = len(kernel_files.COMPILED)
    step = tg.compile(tg.value_and_grad(loss_of), fast=True)
    assert_same(step(model, xs, ys), tg.value_and_grad(loss_of)(model, xs, ys))
    return kernel_files.COMPILED[before:]


def test_kernels_are_kept_and_damage_is_survived(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TENSORGRAD_CACHE", str(tmp_path))
    model, (xs, ys, _) = tagger("rnn"), batch(5, 3)
    assert compiled_names(model, xs, ys) == ["forward", "rows_nll", "backward"]
    assert compiled_names(model, xs, ys) == []
    for kept in (tmp_path / "__pycache__").glob("*.nbi"):
        kept.write_bytes(b"damaged")
    with pytest.warns(RuntimeWarning, match="damaged"):
        assert len(compiled_names(model, xs, ys)) == 3


def test_another_process_compiles_nothing(tmp_path: Path) -> None:
    script = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "import tensorgrad as tg\n"
        "from tests.compile.common import batch, loss_of, tagger\n"
        "tg.compile(tg.value_and_grad(loss_of), fast=True)(tagger('rnn'), *batch(5, 3)[:2])\n"
        "from tensorgrad.compile.kernels.build import COMPILED\n"
        "print(COMPILED)\n"
    )
    root = str(Path(__file__).parents[2])
    env = {**os.environ, "TENSORGRAD_CACHE": str(tmp_path)}
    said = [
        subprocess.run(
            [sys.executable, "-c", script, root], env=env, check=True, capture_output=True, text=True
        )
        for _ in range(2)
    ]
    assert [s.stdout.strip() for s in said] == ["['forward', 'rows_nll', 'backward']", "[]"]


def test_without_a_folder_kernels_are_compiled_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("TENSORGRAD_CACHE", str(tmp_path / "file"))
    monkeypatch.setattr(kernel_files, "_SAID", set())
    model, (xs, ys, _) = tagger("rnn"), batch(5, 3)
    with pytest.warns(RuntimeWarning, match="cannot be kept"):
        assert len(compiled_names(model, xs, ys)) == 3


def test_fast_without_numba_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install \"tensorgrad-rnn\[fast\]\""):
        tg.compile(loss_of, fast=True)
