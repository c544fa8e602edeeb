"""Every operation of the package, compiled: the numbers of eager mode, on a page that needs NumPy alone."""

from __future__ import annotations

import pickle
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

import tensorgrad as tg
from tensorgrad import functional as F
from tensorgrad import nn, ops, tree
from tensorgrad.compile import api
from tensorgrad.compile.rules import RULES
from tensorgrad.compile.rules.registry import call

from ..ops.test_table import TABLE, Case, arrays_of
from .common import TOLERANCE, arrays, assert_same, needs_numba

DTYPES = ["float32", "float64"]
OPS = sorted(ops.__all__)


def draw(*shapes: tuple[int, ...], seed: int = 0) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [rng.standard_normal(shape) for shape in shapes]


class Function(NamedTuple):
    """A function of the package that is not in the table of operations, with operands for it."""

    name: str
    fn: Callable[..., Any]
    args: list[np.ndarray]
    differentiable: bool = True

    def __str__(self) -> str:
        return self.name


def einsum(subscripts: str, *shapes: tuple[int, ...]) -> Function:
    return Function(f"einsum {subscripts}", lambda *xs: tg.einsum(subscripts, *xs), draw(*shapes))


LABELS = np.array([[0, 2, 1], [1, 1, 0]])
MASK = np.array([[1, 0, 1], [0, 1, 1]])
FUNCTIONS = [
    Function("softmax", F.softmax, draw((2, 3))),
    Function("softmax over axis 0", lambda x: F.softmax(x, 0), draw((4, 3))),
    Function("softmax, masked", lambda x: F.softmax(x, 1, MASK), draw((2, 3))),
    Function("log_softmax", F.log_softmax, draw((2, 3))),
    Function("cross_entropy", lambda x: F.cross_entropy(x, LABELS), draw((2, 3, 4))),
    Function("cross_entropy, masked", lambda x: F.cross_entropy(x, LABELS, MASK), draw((2, 3, 4))),
    Function("cross_entropy, each", lambda x: F.cross_entropy(x, LABELS, reduction="none"), draw((2, 3, 4))),
    Function("cross_entropy over axis 1", lambda x: F.cross_entropy(x, LABELS, axis=1), draw((2, 4, 3))),
    Function("binary with logits", lambda x: F.binary_cross_entropy_with_logits(x, MASK), draw((2, 3))),
    Function("binary", lambda x: F.binary_cross_entropy(tg.sigmoid(x), MASK), draw((2, 3))),
    Function("mse", lambda x, y: F.mse(x, y, MASK), draw((2, 3), (2, 3))),
    Function("gelu", F.gelu, draw((2, 3))),
    Function("layer_norm", F.layer_norm, draw((2, 3), (3,), (3,))),
    Function("layer_norm over two axes", lambda x: F.layer_norm(x, axis=(0, 2)), draw((2, 3, 2))),
    Function("scan", nn.linear_scan, draw((5, 2), (5, 2))),
    Function("scan of one step", nn.linear_scan, draw((1, 2), (1, 2))),
    Function("scan of numbers from a start", nn.linear_scan, draw((5,), (5,), ())),
    Function("scan by one vector", nn.linear_scan, draw((3,), (4, 2, 3), (2, 3))),
    Function(
        "scan of pairs",
        lambda a, c, x, y: tg.stack(nn.linear_scan((a, c), (x, y))),
        draw((4, 2), (4, 2), (4, 2), (4, 2)),
    ),
    einsum("ij,jk,kl,il->jl", (2, 3), (3, 4), (4, 2), (2, 2)),
    einsum("ijk->kij", (2, 3, 4)),
    einsum("iji,jj->ij", (3, 2, 3), (2, 2)),
    einsum("...ij,...jk->...ik", (1, 2, 3), (4, 3, 1)),
    einsum("ab,cd->", (2, 3), (3, 1)),
    einsum("ab,b,ab->ba", (2, 3), (3,), (2, 3)),
]  # fmt: skip

ROWS: dict[str, list[Any]] = {name: [case for case in TABLE if case.op == name] for name in OPS}
ROWS |= {each.name: [each] for each in FUNCTIONS}


class Ready(NamedTuple):
    """A compiled row of the table: its page, the arguments, and what was computed."""

    row: str
    compiled: Any
    args: tuple[Any, ...]
    found: list[np.ndarray]
    expected: list[np.ndarray]


def operands(row: Case | Function, dtype: str) -> list[np.ndarray]:
    return arrays_of(row, dtype) if isinstance(row, Case) else [x.astype(dtype) for x in row.args]


def rows_ready(name: str, dtype: str) -> list[Ready]:
    """All rows of an operation."""
    return _rows_ready(name, dtype, api.wanted)


@cache
def _rows_ready(name: str, dtype: str, wanted: Any) -> list[Ready]:
    """Kept for each answer to whether kernels are wanted."""
    return [ready(row, dtype) for row in ROWS[name]]


def ready(row: Case | Function, dtype: str) -> Ready:
    """A row compiled: its value, and its gradients in all float operands."""
    xs = operands(row, dtype)
    live = [k for k, x in enumerate(xs) if x.dtype.kind == "f"]

    def step(given: list[Any], xs: list[Any], g: Any) -> Any:
        def loss(given: list[Any]) -> Any:
            at = dict(zip(live, given, strict=True))
            out = row.fn(*(at.get(k, x) for k, x in enumerate(xs)))
            return (out * g).sum(), out

        return tg.value_and_grad(loss, has_aux=True)(given)

    fn: Any = step if row.differentiable and live else lambda xs: row.fn(*xs)
    with np.errstate(all="ignore"):
        out = row.fn(*xs)
        g = np.random.default_rng(0).standard_normal(np.shape(out)).astype(dtype)
        args: tuple[Any, ...] = ([xs[k] for k in live], xs, g) if fn is step else (xs,)
        expected = arrays(fn(*args))
    compiled = tg.compile(fn)
    compiled(*args)
    return Ready(str(row), compiled, args, arrays(compiled(*args)), expected)


def distance(a: Any, b: Any) -> float:
    """The norm of a - b beside that of b; infinity and nan are equal to themselves alone."""
    if (a.shape, a.dtype) != (b.shape, b.dtype):
        return np.inf
    a, b = (x.astype(float) for x in (a, b))
    odd = ~np.isfinite(b)
    if not np.array_equal(a[odd], b[odd], equal_nan=True):
        return np.inf
    a, b = (np.where(odd, 0, x) for x in (a, b))
    return float(np.linalg.norm(a - b)) / max(float(np.linalg.norm(b)), 1e-3)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ROWS)
def test_values_and_gradients(name: str, dtype: str) -> None:
    for r in rows_ready(name, dtype):
        for a, b in zip(r.found, r.expected, strict=True):
            assert distance(a, b) <= TOLERANCE[dtype], r.row


@pytest.mark.usefixtures("numpy_pages")
def test_every_page_needs_numpy_alone(tmp_path: Path) -> None:
    """All pages of all operations, run where tensorgrad cannot be imported, to the last bit."""
    work = []
    for dtype in DTYPES:
        for r in (r for name in ROWS for r in rows_ready(name, dtype)):
            r.compiled.save(tmp_path / f"page{len(work)}.py")
            work.append((r.row, r.compiled.__name__, tree.leaves(r.args), r.found))
    (tmp_path / "work").write_bytes(pickle.dumps(work))
    code = """
import pickle, sys
sys.modules["tensorgrad"] = None
import numpy as np
np.seterr(all="ignore")
for k, (row, name, args, expected) in enumerate(pickle.load(open("work", "rb"))):
    space = {}
    exec(open(f"page{k}.py").read(), space)
    run = space[name if name.isidentifier() else "step"]
    for again in range(2):
        for a, b in zip(run(*args), expected, strict=True):
            assert np.asarray(a, b.dtype).tobytes() == b.tobytes(), row
"""
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True)


def test_every_operation_has_a_rule() -> None:
    """Those that gradients are made of, too: nothing is called as it is but what users define."""
    modules = [ops.elementwise, ops.reduce, ops.linalg, ops.shape, ops.index, F, nn.scan]
    found = {f.op for module in modules for f in vars(module).values() if hasattr(f, "op")}
    assert len(found) > 60
    assert {op.name for op in found - set(RULES)} == set()
    assert call not in RULES.values()


@pytest.mark.parametrize("fast", [False, pytest.param(True, marks=needs_numba)])
def test_lengths_that_are_sums(fast: bool) -> None:
    """Of T * B + 3 rows, as a factor, all are counted."""

    def loss(W: Any, xs: Any) -> Any:
        T, B, D = xs.shape
        rows = tg.concatenate([xs.reshape(T * B, D), W[:3, :4]], 0)
        z = tg.tanh(rows.reshape(T * B + 3, 2, 2))
        return (z.sum((0, 1)) ** 2).sum() + (z.sum(2) ** 3).sum()

    W, step = np.random.default_rng(0).standard_normal((6, 6)), tg.value_and_grad(loss)
    compiled = tg.compile(step, fast=fast)
    for T, B in ((5, 4), (70, 40), (7, 3)):
        assert_same(compiled(W, np.ones((T, B, 4))), step(W, np.ones((T, B, 4))))


@pytest.mark.parametrize("fast", [False, pytest.param(True, marks=needs_numba)])
@pytest.mark.parametrize(
    "part",
    [
        lambda W: W[()],
        lambda W: W[..., 1:4].T,
        lambda W: W[:, 1:4].T[:2],
        lambda W: W.T[2:5],
        lambda W: W[::2].T[::-1],
        lambda W: tg.flip(W, 1)[:, :3].T,
        lambda W: W[:, None, 1:4].reshape(6, 3).T,
    ],
)
def test_products_of_parts_of_a_matrix(part: Any, fast: bool) -> None:
    """However they lie in it."""
    W = np.random.default_rng(0).standard_normal((6, 6))

    def loss(W: Any, x: Any) -> Any:
        P = part(W)
        return ((x[:, : P.shape[0]] @ P) ** 2).sum() + ((P @ x.T[: P.shape[1]]) ** 3).sum()

    step, x = tg.value_and_grad(loss), np.random.default_rng(1).standard_normal((4, 6))
    assert_same(tg.compile(step, fast=fast)(W, x), step(W, x))
