"""What the tests of compiled functions share: models of every cell, and the comparison with eager mode."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import numpy as np
import pytest

import tensorgrad as tg
from tensorgrad import functional as F
from tensorgrad import nn, tree

TOLERANCE = {"float64": 1e-12, "float32": 1e-5}

needs_numba = pytest.mark.skipif(find_spec("numba") is None, reason="numba is missing")


class Tagger(nn.Module):
    """A cell or recurrent layers, and an output layer."""

    def __init__(self, core: Any, features: int, V: int, dtype: Any = np.float64) -> None:
        self.core = core
        self.out = nn.Linear(features, V, seed=7, dtype=dtype)


def tagger(cell: str, D: int = 3, H: int = 4, V: int = 5, dtype: Any = np.float64) -> Tagger:
    return Tagger(nn.make_cell(cell, D, H, seed=1, dtype=dtype), H, V, dtype)


def batch(T: int, B: int, D: int = 3, V: int = 5, dtype: Any = np.float64, seed: int = 0) -> Any:
    """Inputs (T, B, D), labels (T, B) and lengths (B,)."""
    rng = np.random.default_rng(seed)
    xs = rng.standard_normal((T, B, D)).astype(dtype)
    return xs, rng.integers(V, size=(T, B)), rng.integers(1, T + 1, size=B)


def loss_of(model: Tagger, xs: Any, ys: Any) -> Any:
    return F.cross_entropy(model.out(nn.unroll(model.core, xs).outputs), ys)


def arrays(result: Any) -> list[np.ndarray]:
    return [x.numpy() if isinstance(x, tg.Tensor) else np.asarray(x) for x in tree.leaves(result)]


def assert_same(compiled: Any, eager: Any) -> None:
    """One structure, one kind of leaf, and norm-wise equal arrays."""
    assert tree.paths(compiled) == tree.paths(eager)
    for path, a, b, x, y in zip(
        tree.paths(eager),
        tree.leaves(compiled),
        tree.leaves(eager),
        arrays(compiled),
        arrays(eager),
        strict=True,
    ):
        assert type(a) is type(b), path
        assert (x.shape, x.dtype) == (y.shape, y.dtype), path
        x, y = (v.astype(float) if v.dtype.kind == "b" else v for v in (x, y))
        error = np.linalg.norm(x - y) / max(float(np.linalg.norm(y)), 1e-3)
        assert error <= TOLERANCE.get(str(y.dtype), 0.0), (path, error)


def check(fn: Any, *args: Any) -> Any:
    """Compare with eager; gives the compiled function."""
    eager = fn(*args)
    return compare(tg.compile(fn), eager, *args)


def compare(compiled: Any, eager: Any, *args: Any) -> Any:
    """Call twice, the second time with used buffers, and compare with eager; gives the compiled one."""
    first = compiled(*args)
    assert_same(first, eager)
    assert_same(compiled(*args), eager)
    # What the second call did must not have changed what the first returned.
    assert_same(first, eager)
    return compiled
