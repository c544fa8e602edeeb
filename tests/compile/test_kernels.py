"""Compiled kernels: their functions, what they compute, and how they are kept on disk."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from importlib import metadata
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
from tensorgrad.errors import GraphError, UserError
from tests.compile import common, test_random_programs
from tests.compile.common import assert_same, batch, loss_of, tagger

numba = pytest.importorskip("numba", reason="the kernels of tg.compile are not tested: numba is missing")

from tensorgrad.compile.kernels import blas, functions, kernel, writer  # noqa: E402
from tensorgrad.compile.kernels import build as kernel_files  # noqa: E402

NAMES = ["exp", "tanh", "sigmoid", "log"]
REFERENCE: dict[str, Any] = {
    "exp": np.exp,
    "tanh": np.tanh,
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "log": np.log,
}


def over_arrays(fn: Any) -> Any:
    @numba.njit(error_model="numpy", fastmath={"contract"})  # type: ignore[untyped-decorator]
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
def test_functions_of_any_number(name: str, bits: Any) -> None:
    numbers = st.floats(width=bits, allow_subnormal=True)

    @settings(max_examples=60, deadline=None)
    @given(drawn_arrays(f"f{bits // 8}", st.integers(1, 40), elements=numbers))
    def holds(x: np.ndarray) -> None:
        assert ulps(name, x) < 3

    holds()
    zeros = np.array([0.0, -0.0], f"f{bits // 8}")
    if name == "tanh":
        np.testing.assert_array_equal(np.signbit(COMPILED[name](zeros, np.empty_like(zeros))), [False, True])


@pytest.mark.parametrize("seed", [26])
def test_a_random_program_with_kernels(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    compiled = tg.compile
    monkeypatch.setattr(tg, "compile", lambda fn: compiled(fn, fast=True))
    monkeypatch.setattr(kernel_files, "CHECKED", True)
    test_random_programs.test_a_random_program(seed)


@pytest.mark.parametrize("seed", [2040, 2210])
def test_parts_of_rows_with_kernels(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    compiled = tg.compile
    monkeypatch.setattr(tg, "compile", lambda fn: compiled(fn, fast=True))
    monkeypatch.setattr(kernel_files, "CHECKED", True)
    test_random_programs.test_parts_of_rows_in_place(seed)


def test_lengths_and_single_precision() -> None:
    model = tagger("peephole", dtype=np.float32)

    def loss(model: Any, xs: Any, ys: Any, lengths: Any) -> Any:
        roll = nn.unroll(model.core, xs, lengths=lengths, reverse=True)
        return F.cross_entropy(model.out(roll.outputs), ys)

    xs, ys, lengths = batch(6, 3, dtype=np.float32)
    step = tg.compile(tg.value_and_grad(loss), fast=True)
    assert_same(step(model, xs, ys, lengths), tg.value_and_grad(loss)(model, xs, ys, lengths))


def test_numbers_have_the_dtype_of_what_they_stand_for() -> None:
    """The slope of a sum is a number, and NumPy takes Python's numbers for double precision."""
    xs = np.ones((3, 4, 5), np.float32)
    step = tg.value_and_grad(lambda xs: tg.tanh(xs)[0].sum() * 0.1)
    assert_same(tg.compile(step, fast=True)(xs), step(xs))


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
    # The gradients of biases are added up where their terms are computed.
    assert ("dbias_ih[" in step.source) == (cell in ("rnn", "lstm"))


def test_arrays_of_any_layout_are_taken() -> None:
    model = tagger("lstm")
    step = tg.compile(tg.value_and_grad(loss_of), fast=True)
    xs, ys, _ = batch(5, 3)
    frozen = xs.copy()
    frozen.flags.writeable = False
    unaligned = np.frombuffer(b" " + xs.tobytes(), np.uint8)[1:].view(np.float64).reshape(xs.shape)
    views = [np.asfortranarray(xs), xs[::-1], np.broadcast_to(xs[:1], xs.shape), frozen, unaligned]
    for x, y in [(x, ys) for x in views] + [(xs, ys.T.copy().T)]:
        assert_same(step(model, x, y), tg.value_and_grad(loss_of)(model, x, y))
    other = np.asarray(ys, ">i8")
    assert_same(step(model, xs, other), tg.value_and_grad(loss_of)(model, xs, other))


def test_one_array_given_twice_and_lengths_that_agree() -> None:
    def cell(a: Any, state: Any) -> Any:
        h, k = state
        return h * k, (tg.tanh(a * h + k), k * 0.5 + a)

    def fn(x: Any, y: Any, h: Any) -> Any:
        return nn.unroll(cell, x + y, (h, h)).outputs, tg.exp(x * y) + x

    step = tg.compile(fn, fast=True)
    x = np.random.default_rng(0).standard_normal((3, 3, 3))
    for args in ((x, x, x[0]), (x, x.transpose(2, 1, 0), x[1].T), (x[:1], x[1:2], x[2])):
        for found, want in zip(common.arrays(step(*args)), common.arrays(fn(*args)), strict=True):
            np.testing.assert_allclose(found, want, rtol=1e-12)


def test_sums_of_rows_that_become_rows() -> None:
    """Where B is H, one number a row has the shape of a row."""

    def over_rows(x: Any) -> Any:
        sums = tg.broadcast_to(tg.exp(x).sum(-1), x.shape)
        return tg.tanh(sums + x), tg.exp(x) * 2

    def over_time(xs: Any, h0: Any) -> Any:
        def cell(x: Any, h: Any) -> Any:
            h = tg.tanh(x + tg.broadcast_to(h.sum(1), h0.shape) * 0.3)
            return h, h

        return nn.unroll(cell, xs, h0).outputs

    rng = np.random.default_rng(0)
    xs, h0 = rng.standard_normal((3, 3, 3)), rng.standard_normal((3, 3))
    for fn, args in ((over_rows, (h0,)), (over_rows, (xs,)), (over_time, (xs, h0))):
        assert_same(tg.compile(fn, fast=True)(*args), fn(*args))


@pytest.mark.parametrize("start", [-np.inf, np.nan])
def test_states_that_start_beyond_numbers(start: float) -> None:
    def fn(x: Any) -> Any:
        def cell(a: Any, h: Any) -> Any:
            after = tg.where(tg.where(a > 0, h, a) > 0, tg.maximum(a, h), tg.exp(a))
            return after, after

        return nn.unroll(cell, x, np.full((3, 2), start)).outputs

    x = np.random.default_rng(0).standard_normal((4, 3, 2))
    np.testing.assert_allclose(tg.compile(fn, fast=True)(x).numpy(), fn(x).numpy(), rtol=1e-14)


def test_calls_from_several_threads() -> None:
    model = tagger("rnn")
    step = tg.compile(tg.value_and_grad(loss_of), fast=True)
    data = [batch(5 + k % 3, 3, seed=k)[:2] for k in range(6)]
    eager = [tg.value_and_grad(loss_of)(model, *d) for d in data]
    with ThreadPoolExecutor(6) as pool:
        for k, found in enumerate(pool.map(lambda k: step(model, *data[k % 6]), range(120))):
            assert_same(found, eager[k % 6])


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


# --- what keeps kernels from writing where they must not ----------------------------------------------------
def first_kernel(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The kernel of exp(x) + 1, which takes the number of rows, the result (rows, 3) and x."""
    made: list[Any] = []
    right = kernel_files.build

    def remembered(kernel: Any) -> Any:
        made.append(right(kernel))
        return made[-1]

    monkeypatch.setattr(writer, "build", remembered)
    tg.compile(lambda x: tg.exp(x) + 1, fast=True)(np.ones((4, 3)))
    [run] = made
    return run


def test_a_kernel_refuses_other_arrays(monkeypatch: pytest.MonkeyPatch) -> None:
    run, room, x = first_kernel(monkeypatch), np.empty((4, 3)), np.zeros((4, 3))
    run(4, room, x)
    np.testing.assert_array_equal(room, 2)
    for wrong in ((3, room, x), (4, room, x[:2]), (4, np.empty((4, 2)), x)):
        with pytest.raises(ValueError, match="does not have the shape"):
            run(*wrong)
    frozen = np.empty((4, 3))
    frozen.flags.writeable = False
    for wrong in ((4, room, x.astype("f")), (4, room, np.asfortranarray(x)), (4, room, x[0]), (4, frozen, x)):
        with pytest.raises(TypeError, match="No matching definition"):
            run(*wrong)


def test_checked_kernels_find_what_lies_over_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel_files, "CHECKED", True)
    run, room = first_kernel(monkeypatch), np.zeros((5, 3))
    run(4, room[:4], np.zeros((4, 3)))
    with pytest.raises(GraphError, match="which lies over x"):
        run(4, room[:4], room[1:])


def test_checked_products_look_at_what_they_are_given() -> None:
    x, W = np.ones((4, 3)), np.ones((3, 2))
    blas.checked_product(x, W, np.empty((4, 2)))
    for wrong in ((x, W, np.empty((3, 2))), (x[:, :2], W, np.empty((4, 2))), (x, W.T, np.empty((4, 3)))):
        with pytest.raises(ValueError, match="do not fit"):
            blas.checked_product(*wrong)


def test_names_longer_than_a_line() -> None:
    def fn(x: Any) -> Any:
        y = [tg.label(tg.tanh(x + k), "n" * 150 + str(k)) for k in range(2)]
        return [*y, *(v * 2 for v in y)]

    assert_same(tg.compile(fn, fast=True)(np.ones((3, 4))), fn(np.ones((3, 4))))


def test_views_of_views_are_taken_into_a_loop_once() -> None:
    """Each stack is read twice by the next: by way of all of them there are 4096 ways to the first."""

    def fn(xs: Any, h0: Any) -> Any:
        def cell(x: Any, h: Any) -> Any:
            h = tg.tanh(x + h)
            return h, h

        stacks = [xs]
        for _ in range(12):
            stacks.append(tg.concatenate([stacks[-1][..., 1:], stacks[-1][..., :1]], -1))
        return nn.unroll(cell, stacks[-1], h0).outputs, [stack * 2 for stack in stacks]

    rng = np.random.default_rng(0)
    args = rng.standard_normal((5, 2, 4)), rng.standard_normal((2, 4))
    step = tg.compile(fn, fast=True)
    assert_same(step(*args), fn(*args))
    assert step.source.count("\n") < 400


def test_a_stack_that_is_the_first_state_too() -> None:
    """What makes it stays before the loop."""

    def fn(a: Any, g: Any) -> Any:
        stack = tg.tanh(a)

        def cell(x: Any, state: Any) -> Any:
            g = tg.tanh(state[0] * x)
            return g, (g, tg.tanh(state[1] * 0.3))

        roll = nn.unroll(cell, stack, (g, stack))
        return (roll.outputs**2).sum() + (roll.state[1] ** 2).sum()

    rng, step = np.random.default_rng(0), tg.value_and_grad(fn)
    a, g = rng.standard_normal((1, 3, 4)), rng.standard_normal((3, 4))
    assert_same(tg.compile(step, fast=True)(a, g), step(a, g))


def test_names_that_kernels_need() -> None:
    """Those of its indices, of its functions and of its error are taken by variables."""
    names = ["b", "i", "k", "m", "n", "p", "q", "t", "j", "plus", "product", "exp", "ValueError", "x\u00b2"]

    def run(W: Any, xs: Any, start: Any) -> Any:
        def cell(x: Any, state: Any) -> Any:
            after = {name: tg.label(tg.tanh(x + h @ W), name) for name, h in state.items()}
            return x, after

        roll = nn.unroll(cell, xs, start)
        return [roll.state[name] for name in names]

    rng = np.random.default_rng(0)
    start = {name: rng.standard_normal((2, 4)) for name in names}
    args = rng.standard_normal((4, 4)) * 0.3, rng.standard_normal((5, 2, 4)), start
    assert_same(tg.compile(run, fast=True)(*args), run(*args))


def test_what_cannot_be_a_kernel_runs_in_numpy(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(self: Any) -> str:
        return f"def {self.name}(:"

    monkeypatch.setattr(kernel.Kernel, "source", broken)
    x = np.ones((4, 3))
    with pytest.warns(RuntimeWarning, match="runs in NumPy, since its kernels could not be made"):
        found = tg.compile(tg.exp, fast=True)(x)
    assert_same(found, tg.exp(x))


def test_the_saved_page_is_that_of_numpy(tmp_path: Path) -> None:
    model, (xs, ys, _) = tagger("rnn"), batch(5, 3)
    step = tg.compile(tg.value_and_grad(loss_of), fast=True)
    step(model, xs, ys)
    step.save(tmp_path / "step.py")
    text = (tmp_path / "step.py").read_text()
    assert "for t in reversed(range(T)):" in text
    assert "tensorgrad" not in text


# --- on disk -----------------------------------------------------------------------------------------------
def compiled_anew(model: Any, xs: Any, ys: Any) -> int:
    """How many kernels a new process would compile, not load, for the loss; the results are compared."""
    kernel_files._built.cache_clear()
    before = len(kernel_files.COMPILED)
    step = tg.compile(tg.value_and_grad(loss_of), fast=True)
    assert_same(step(model, xs, ys), tg.value_and_grad(loss_of)(model, xs, ys))
    return len(kernel_files.COMPILED) - before


def test_kernels_are_kept_and_damage_is_survived(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TENSORGRAD_CACHE", str(tmp_path))
    model, (xs, ys, _) = tagger("rnn"), batch(5, 3)
    assert compiled_anew(model, xs, ys) == 3
    assert compiled_anew(model, xs, ys) == 0
    for kept in (tmp_path / "__pycache__").glob("*.nbi"):
        kept.write_bytes(b"damaged")
    with pytest.warns(RuntimeWarning, match="damaged"):
        assert compiled_anew(model, xs, ys) == 3


@pytest.mark.parametrize("text", [b"", b"\xff\xfe", b"no_such_symbol"])
def test_what_symbols_are_needed_may_be_lost(
    text: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Then numba loads the kernels."""
    monkeypatch.setenv("TENSORGRAD_CACHE", str(tmp_path))
    model, (xs, ys, _) = tagger("rnn"), batch(5, 3)
    assert compiled_anew(model, xs, ys) == 3
    for symbols in tmp_path.glob("*.symbols"):
        symbols.write_bytes(text)
    assert compiled_anew(model, xs, ys) == 0


@pytest.mark.skipif(
    os.environ.get("TENSORGRAD_TEST_KERNELS") == "shared", reason="another process has its own threads"
)
def test_another_process_compiles_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor does it import what numba compiles with, unless a symbol is not to be had without; it can compile
    what is new all the same."""
    script = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "import tensorgrad as tg\n"
        "from tests.compile.common import batch, loss_of, tagger\n"
        "from tensorgrad.compile.kernels.build import COMPILED\n"
        "tg.compile(tg.value_and_grad(loss_of), fast=True)(tagger('rnn'), *batch(5, 3)[:2])\n"
        "print(len(COMPILED), 'numba.np.arraymath' in sys.modules)\n"
        "if not COMPILED:\n"
        "    fn = tg.compile(lambda x: tg.exp(-x) * x, fast=True)\n"
        "    print(f'{fn(tg.tensor([[1.0, 1.0], [1.0, 1.0]])).numpy()[0, 0]:.6f}')\n"
    )
    monkeypatch.setenv("TENSORGRAD_CACHE", str(tmp_path))
    command = [sys.executable, "-c", script, str(Path(__file__).parents[2])]

    def run() -> list[str]:
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()

    compiled_anew(tagger("rnn"), *batch(5, 3)[:2])
    assert run() == ["0", "False", "0.367879"]
    for symbols in tmp_path.glob("*.symbols"):
        symbols.write_text(symbols.read_text() + "\nno_such_symbol")
    assert run()[:2] == ["0", "True"]


def test_kernels_that_differ_in_names_alone_are_compiled_once() -> None:
    before = len(kernel_files.COMPILED)
    kernel_files._built.cache_clear()

    def thrice(x: Any) -> Any:
        return [tg.softmax(tg.tanh(y) * 3 + 1) for y in (x, x + 1, x + 2)]

    def as_named(x: Any) -> Any:
        return thrice(x)[0]

    xs = np.random.default_rng(0).standard_normal((6, 5))
    for fn in (thrice, as_named):
        assert_same(tg.compile(fn, fast=True)(tg.tensor(xs)), fn(tg.tensor(xs)))
    assert len(kernel_files.COMPILED) - before <= 2


def test_without_a_folder_kernels_are_compiled_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("TENSORGRAD_CACHE", str(tmp_path / "file"))
    monkeypatch.setattr(kernel_files, "_SAID", set())
    model, (xs, ys, _) = tagger("rnn"), batch(5, 3)
    with pytest.warns(RuntimeWarning, match="cannot be kept"):
        assert compiled_anew(model, xs, ys) == 3


@pytest.mark.parametrize("found", [None, "0.61.2"])
def test_fast_without_a_fit_numba_says_what_to_install(
    found: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def version(name: str) -> str:
        if found is None:
            raise metadata.PackageNotFoundError(name)
        return found

    monkeypatch.setattr(metadata, "version", version)
    with pytest.raises(UserError, match=r'(?s)0\.62 or newer .*pip install "tensorgrad-rnn\[fast\]"'):
        tg.compile(loss_of, fast=True)
