"""Layers without memory: Linear, Embedding, Dropout, LayerNorm."""

from __future__ import annotations

from typing import Any

import numpy as np

from tensorgrad import functional as F
from tensorgrad.context import context
from tensorgrad.errors import DtypeError, ShapeError
from tensorgrad.nn import init
from tensorgrad.nn.module import Module, Parameter
from tensorgrad.ops import take
from tensorgrad.random import Seed, as_generator
from tensorgrad.tensor import Tensor

__all__ = ["Dropout", "Embedding", "LayerNorm", "Linear", "positive"]


def positive(owner: str, **sizes: int) -> None:
    """Raise ShapeError unless every size is a positive integer."""
    for name, size in sizes.items():
        if isinstance(size, bool) or not isinstance(size, (int, np.integer)) or size < 1:
            raise ShapeError(f"{owner}: {name} must be a positive integer, not {size!r}")


class Linear(Module):
    """x @ weight.T + bias: (..., in_features) to (..., out_features).

    weight (out_features, in_features), bias (out_features,): uniform within 1 / sqrt(in_features).
    Raises ShapeError for sizes that are not positive and inputs that do not fit.

    >>> Linear(3, 2, seed=0)(np.ones((4, 3))).shape
    (4, 2)
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        *,
        seed: Seed = None,
        dtype: Any = np.float64,
    ) -> None:
        positive("Linear", in_features=in_features, out_features=out_features)
        rng = as_generator(seed)
        bound = float(in_features) ** -0.5
        self.weight = Parameter(init.uniform((out_features, in_features), bound, rng, dtype))
        self.bias = Parameter(init.uniform((out_features,), bound, rng, dtype)) if bias else None

    def forward(self, x: Any) -> Any:
        return F.linear(x, self.weight) if self.bias is None else F.linear(x, self.weight, self.bias)

    def extra_repr(self) -> str:
        out_features, in_features = self.weight.shape
        return f"{in_features}, {out_features}" + ("" if self.bias is not None else ", bias=False")


class Embedding(Module):
    """A row of `weight` for each id: integers (...) to (..., embedding_dim).

    weight (num_embeddings, embedding_dim): standard normal.
    Raises ShapeError for an id out of range, DtypeError for ids that are no integers.

    >>> Embedding(5, 2, seed=0)(np.array([[0, 4]])).shape
    (1, 2, 2)
    """

    def __init__(
        self, num_embeddings: int, embedding_dim: int, *, seed: Seed = None, dtype: Any = np.float64
    ) -> None:
        positive("Embedding", num_embeddings=num_embeddings, embedding_dim=embedding_dim)
        self.weight = Parameter(init.normal((num_embeddings, embedding_dim), 1.0, seed, dtype))

    def forward(self, ids: Any) -> Any:
        V = self.weight.shape[0]
        tracer = context().tracer
        if tracer is not None and isinstance(ids, Tensor):
            if ids.dtype.kind not in "iu":
                raise DtypeError(f"Embedding: ids must be integers, not {ids.dtype}")
            return take(self.weight, tracer.in_range(ids, V, "Embedding: id"), axis=0)
        values = np.asarray(ids)
        if values.dtype.kind not in "iu":
            raise DtypeError(f"Embedding: ids must be integers, not {values.dtype}")
        if values.size and not (values.min() >= 0 and values.max() < V):
            wrong = values[(values < 0) | (values >= V)].flat[0]
            raise ShapeError(f"Embedding: id {wrong} is out of range for {V} rows (0..{V - 1})")
        return take(self.weight, ids, axis=0)

    def extra_repr(self) -> str:
        return ", ".join(str(n) for n in self.weight.shape)


class Dropout(Module):
    """In training, zero each element with probability p and scale up the rest; nothing in evaluation.

    seed: an int or Generator for the draws; by default tensorgrad's own generator.
    Raises ValueError unless 0 <= p <= 1.

    >>> Dropout(0.5).eval()(np.ones(3))
    array([1., 1., 1.])
    """

    def __init__(self, p: float = 0.5, *, seed: Seed = None) -> None:
        if not 0 <= p <= 1:
            raise ValueError(f"Dropout: p is a probability, 0 to 1, not {p}")
        self.p = p
        self.rng = as_generator(seed)

    def forward(self, x: Any) -> Any:
        return F.dropout(x, self.p, self.training, self.rng)

    def extra_repr(self) -> str:
        return f"p={self.p}"


class LayerNorm(Module):
    """Zero mean and unit variance over the last axis, then times weight plus bias, (features,) each.

    Source: Ba, Kiros, Hinton, "Layer Normalization" (2016), equation 3.

    >>> LayerNorm(2)(np.array([[1.0, 3.0]])).numpy().round(3)
    array([[-1.,  1.]])
    """

    def __init__(self, features: int, eps: float = 1e-5, *, dtype: Any = np.float64) -> None:
        positive("LayerNorm", features=features)
        self.eps = eps
        self.weight = Parameter(np.ones(features, dtype))
        self.bias = Parameter(np.zeros(features, dtype))

    def forward(self, x: Any) -> Any:
        return F.layer_norm(x, self.weight, self.bias, eps=self.eps)

    def extra_repr(self) -> str:
        return f"{self.weight.shape[0]}, eps={self.eps}"
