"""Attention: looking back into a memory, weighted by how well each place fits the query.

Time-major like everything in `nn`: a memory is (T, B, features), one query for each sequence (B, features).
The weights, labelled "alpha", are what a drawing of an alignment shows.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from tensorgrad import functional as F
from tensorgrad.errors import ShapeError
from tensorgrad.nn import init
from tensorgrad.nn.layers import Dropout, Linear, positive
from tensorgrad.nn.module import Module, Parameter
from tensorgrad.nn.unroll import alive_steps
from tensorgrad.ops import expand_dims, linear, matmul, reshape, squeeze, swapaxes, tanh, transpose, where
from tensorgrad.random import Seed, as_generator
from tensorgrad.recording import label

__all__ = [
    "AdditiveAttention",
    "DotProductAttention",
    "Memory",
    "MultiHeadAttention",
    "dot_product_attention",
    "sinusoidal_positions",
]


# --- attention of a decoder ------------------------------------------------------------------------------


class Memory(NamedTuple):
    """What an attention looks into, ready to be asked many times. The batch comes first in every part.

    keys: (B, T, features), what queries are held against.
    values: (B, T, memory_size), what the context is mixed of.
    mask: (B, T), False at padding; None without any.
    """

    keys: Any
    values: Any
    mask: np.ndarray | None


class _Attention(Module):
    """What the attentions of decoders share: from scores to weights to context."""

    query_size: int | None
    memory_size: int | None

    def keys(self, values: Any) -> Any:
        """What queries are held against: (B, T, memory_size) to (B, T, features)."""
        raise NotImplementedError

    def scores(self, query: Any, keys: Any) -> Any:
        """How well each place fits: (B, Tq, query_size) and (B, T, features) to (B, Tq, T)."""
        raise NotImplementedError

    def prepare(self, memory: Any, lengths: Any = None) -> Memory:
        """What depends on the memory alone, computed once for all the queries of a sequence.

        memory: (T, B, memory_size). lengths: integers (B,) from 1 to T; what follows is padding, which may
        hold anything. Raises ShapeError for sizes or lengths that do not fit.
        """
        if memory.ndim != 3 or self.memory_size not in (None, memory.shape[-1]):
            size = self.memory_size or "features"
            raise ShapeError(
                f"{type(self).__name__}: expected a memory (T, B, {size}), not {tuple(memory.shape)}"
            )
        mask = None
        if lengths is not None:
            alive = alive_steps(lengths, memory)
            # A weight of 0 does not silence NaN.
            memory = where(alive[..., None], memory, 0)
            mask = alive.T
        values = swapaxes(memory, 0, 1)
        return Memory(self.keys(values), values, mask)

    def forward(self, query: Any, memory: Any, lengths: Any = None) -> tuple[Any, Any]:
        if isinstance(memory, Memory) and lengths is not None:
            raise ShapeError(f"{type(self).__name__}: give the lengths to `prepare`, with the memory")
        ready = memory if isinstance(memory, Memory) else self.prepare(memory, lengths)
        self._check(query, len(ready.values))
        one = query.ndim == 2
        queries = expand_dims(query, 1) if one else swapaxes(query, 0, 1)
        mask = None if ready.mask is None else ready.mask[:, None]
        alpha = F.softmax(self.scores(queries, ready.keys), mask=mask)
        context = matmul(alpha, ready.values)
        if one:
            return squeeze(context, 1), label(squeeze(alpha, 1), "alpha")
        return swapaxes(context, 0, 1), label(swapaxes(alpha, 0, 1), "alpha")

    def _check(self, query: Any, B: int) -> None:
        size = self.query_size or "features"
        if query.ndim not in (2, 3) or query.shape[-2] != B or self.query_size not in (None, query.shape[-1]):
            raise ShapeError(
                f"{type(self).__name__}: expected a query (B, {size}) or (Tq, B, {size}) of B={B}, the batch "
                f"of the memory, not {tuple(query.shape)}"
            )


class AdditiveAttention(_Attention):
    """Attention scored by a network of one hidden layer.

        e_tj = v_a . tanh(W_a s_t + U_a h_j)
        alpha_t = softmax(e_t)
        context_t = sum_j alpha_tj h_j

    W_a (hidden_size, query_size), U_a (hidden_size, memory_size), v_a (hidden_size,): uniform within one over
    the root of the number of inputs.

    `attention(query, memory, lengths=None)`: query (B, query_size), or (Tq, B, query_size) for many at once;
    memory (T, B, memory_size), or what `prepare` made of it and its lengths, which saves computing U_a h_j
    anew for every query. Gives the context (B, memory_size) and the weights (B, T), or (Tq, B, ...) of both.
    lengths: integers (B,) from 1 to T; padding gets weight 0.
    Raises ShapeError for sizes or lengths that do not fit.
    Source: Bahdanau, Cho, Bengio, "Neural Machine Translation by Jointly Learning to Align and Translate"
    (2015), equations 5 and 6 and section A.1.2.

    >>> attention = AdditiveAttention(4, 3, 5, seed=0)
    >>> context, alpha = attention(np.ones((2, 4)), np.ones((6, 2, 3)))
    >>> context.shape, alpha.shape
    ((2, 3), (2, 6))
    """

    def __init__(
        self,
        query_size: int,
        memory_size: int,
        hidden_size: int,
        *,
        seed: Seed = None,
        dtype: Any = np.float64,
    ) -> None:
        positive("AdditiveAttention", query_size=query_size, memory_size=memory_size, hidden_size=hidden_size)
        rng = as_generator(seed)
        self.query_size = query_size
        self.memory_size = memory_size
        self.hidden_size = hidden_size
        self.W_a = Parameter(init.uniform((hidden_size, query_size), query_size**-0.5, rng, dtype))
        self.U_a = Parameter(init.uniform((hidden_size, memory_size), memory_size**-0.5, rng, dtype))
        self.v_a = Parameter(init.uniform((hidden_size,), hidden_size**-0.5, rng, dtype))

    def keys(self, values: Any) -> Any:
        return linear(values, self.U_a)

    def scores(self, query: Any, keys: Any) -> Any:
        # (B, Tq, 1, hidden) + (B, 1, T, hidden)
        hidden = tanh(expand_dims(linear(query, self.W_a), 2) + expand_dims(keys, 1))
        return matmul(hidden, self.v_a)

    def extra_repr(self) -> str:
        return f"{self.query_size}, {self.memory_size}, {self.hidden_size}"


class DotProductAttention(_Attention):
    """Attention scored by a product.

        score(s_t, h_j) = s_t . h_j            "dot": query and memory of one size
        score(s_t, h_j) = s_t . (W_a h_j)      general=True

    W_a (query_size, memory_size): uniform within 1 / sqrt(memory_size). The sizes are needed where it is.
    Called as `AdditiveAttention` is. Raises ShapeError for sizes or lengths that do not fit.
    Source: Luong, Pham, Manning, "Effective Approaches to Attention-based Neural Machine Translation" (2015),
    section 3.1.

    >>> context, alpha = DotProductAttention()(np.ones((2, 3)), np.ones((4, 2, 3)))
    >>> alpha[0]
    array([0.25, 0.25, 0.25, 0.25])
    """

    def __init__(
        self,
        query_size: int | None = None,
        memory_size: int | None = None,
        *,
        general: bool = False,
        seed: Seed = None,
        dtype: Any = np.float64,
    ) -> None:
        self.query_size = query_size
        self.memory_size = memory_size
        if not general and query_size != memory_size:
            raise ShapeError(
                f"DotProductAttention: a product of a query of size {query_size} and a memory of size "
                f"{memory_size} needs a matrix between them; give both sizes and general=True"
            )
        self.W_a = _between(query_size, memory_size, seed, dtype) if general else None

    def keys(self, values: Any) -> Any:
        return values if self.W_a is None else linear(values, self.W_a)

    def scores(self, query: Any, keys: Any) -> Any:
        return matmul(query, swapaxes(keys, 1, 2))

    def extra_repr(self) -> str:
        if self.W_a is None:
            return ""
        return f"{self.query_size}, {self.memory_size}, general=True"


def _between(query_size: Any, memory_size: Any, seed: Seed, dtype: Any) -> Parameter:
    positive("DotProductAttention", query_size=query_size, memory_size=memory_size)
    return Parameter(init.uniform((query_size, memory_size), float(memory_size) ** -0.5, seed, dtype))


# --- attention of a transformer --------------------------------------------------------------------------


def dot_product_attention(
    q: Any, k: Any, v: Any, mask: Any = None, drop: Callable[[Any], Any] | None = None
) -> tuple[Any, Any]:
    """softmax(q k^T / sqrt(D)) v, over any number of leading axes.

    q (..., Tq, D), k (..., Tk, D), v (..., Tk, Dv). mask: numbers or booleans that broadcast to
    (..., Tq, Tk), 0 where a query must not look: the weight there is exactly 0, and so is its gradient. A
    query that may look nowhere gets zeros. drop: applied to the weights before they mix, as `nn.Dropout` is.
    Gives the mixtures (..., Tq, Dv) and the weights before `drop`, (..., Tq, Tk).
    Raises ShapeError for shapes that do not fit.
    Source: Vaswani et al., "Attention Is All You Need" (2017), equation 1.

    >>> q, k, v = np.zeros((1, 2)), np.ones((3, 2)), np.array([[1.0], [3.0], [9.0]])
    >>> dot_product_attention(q, k, v, mask=[1, 1, 0])
    (array([[2.]]), array([[0.5, 0.5, 0. ]]))
    """
    # The queries are scaled, being fewer numbers than the scores.
    scores = matmul(q * (1 / math.sqrt(q.shape[-1])), swapaxes(k, -1, -2))
    alpha = label(F.softmax(scores, mask=mask), "alpha")
    return matmul(alpha if drop is None else drop(alpha), v), alpha


class MultiHeadAttention(Module):
    """Attention by several heads, each with projections of its own.

        head_i = attention(x W_q,i, m W_k,i, m W_v,i)
        out = concat(head_1 .. head_h) W_o

    Parameters as PyTorch's `nn.MultiheadAttention` names, shapes and draws them: in_proj_weight
    (3 * d_model, d_model), the projections to q, k and v one above the other; in_proj_bias (3 * d_model,);
    out_proj.weight (d_model, d_model), out_proj.bias (d_model,).

    Called with a query (Tq, B, d_model) it attends over the query itself; with a key, and a value where that
    differs from it, (Tk, B, d_model), over those.
        mask: as for `dot_product_attention`, broadcast to (B, heads, Tq, Tk).
        causal: the last query stands at the last key, and none looks at later ones than its own.
        lengths: integers (B,) from 1 to Tk, the keys that are not padding; padding may hold anything.
    Gives the output (Tq, B, d_model) and the weights (B, heads, Tq, Tk).
    Raises ShapeError for sizes that do not fit, ValueError for a dropout that is no probability.
    Source: Vaswani et al., "Attention Is All You Need" (2017), section 3.2.2.

    >>> attention = MultiHeadAttention(4, 2, seed=0)
    >>> out, alpha = attention(np.ones((3, 1, 4)), causal=True)
    >>> out.shape, alpha.numpy()[0, 0].round(2).tolist()
    ((3, 1, 4), [[1.0, 0.0, 0.0], [0.5, 0.5, 0.0], [0.33, 0.33, 0.33]])
    """

    def __init__(
        self,
        d_model: int,
        heads: int,
        dropout: float = 0.0,
        bias: bool = True,
        *,
        seed: Seed = None,
        dtype: Any = np.float64,
    ) -> None:
        positive("MultiHeadAttention", d_model=d_model, heads=heads)
        if d_model % heads:
            raise ShapeError(
                f"MultiHeadAttention: {heads} heads cannot share d_model={d_model}; make it a multiple"
            )
        rng = as_generator(seed)
        self.d_model = d_model
        self.heads = heads
        self.in_proj_weight = Parameter(init.scaled_uniform((3 * d_model, d_model), rng, dtype=dtype))
        self.in_proj_bias = Parameter(np.zeros(3 * d_model, dtype)) if bias else None
        self.out_proj = Linear(d_model, d_model, bias, seed=rng, dtype=dtype)
        if self.out_proj.bias is not None:
            self.out_proj.bias.data = np.zeros(d_model, dtype)
        self.dropout = Dropout(dropout, seed=rng)

    def forward(
        self,
        query: Any,
        key: Any = None,
        value: Any = None,
        *,
        mask: Any = None,
        causal: bool = False,
        lengths: Any = None,
    ) -> tuple[Any, Any]:
        memory = query if key is None else key
        self._check(query, memory, memory if value is None else value)
        Tq, Tk, B = len(query), len(memory), memory.shape[1]
        if causal:
            mask = _both(mask, np.tri(Tq, Tk, Tk - Tq, dtype=bool))
        if lengths is not None:
            alive = alive_steps(lengths, memory)
            mask = _both(mask, alive.T[:, None, None])
            # A weight of 0 does not silence NaN.
            memory = where(alive[..., None], memory, 0)
            value = None if value is None else where(alive[..., None], value, 0)
        if memory is query:
            q, k, v = self._project(query, 0, 3)
        elif value is None:
            (q,), (k, v) = self._project(query, 0, 1), self._project(memory, 1, 3)
        else:
            (q,), (k,), (v,) = (self._project(x, i, i + 1) for i, x in enumerate((query, memory, value)))
        mixed, alpha = dot_product_attention(q, k, v, mask, self.dropout)
        joined = reshape(transpose(mixed, (2, 0, 1, 3)), (Tq, B, self.d_model))
        return self.out_proj(joined), alpha

    def _project(self, x: Any, first: int, end: int) -> Any:
        """The projections from `first` to before `end` of q, k, v: (T, B, d_model) to (n, B, heads, T, d)."""
        D, n = self.d_model, end - first
        rows = slice(first * D, end * D)
        bias = None if self.in_proj_bias is None else self.in_proj_bias[rows]
        y = F.linear(x, self.in_proj_weight[rows], bias)
        return transpose(reshape(y, (*x.shape[:2], n, self.heads, D // self.heads)), (2, 1, 3, 0, 4))

    def _check(self, query: Any, key: Any, value: Any) -> None:
        shapes = [tuple(x.shape) for x in (query, key, value)]
        fits = all(len(s) == 3 and s[1:] == (shapes[0][1], self.d_model) for s in shapes)
        if not fits or shapes[1][0] != shapes[2][0]:
            raise ShapeError(
                f"MultiHeadAttention: expected a query (Tq, B, {self.d_model}), a key and a value "
                f"(Tk, B, {self.d_model}), not {shapes[0]}, {shapes[1]} and {shapes[2]}"
            )

    def extra_repr(self) -> str:
        return f"{self.d_model}, heads={self.heads}"


def _both(mask: Any, other: np.ndarray) -> np.ndarray:
    return other if mask is None else (np.asarray(mask) != 0) & other


def sinusoidal_positions(T: int, D: int, dtype: Any = np.float64) -> np.ndarray:
    """A vector for each of T positions, (T, D): sines and cosines of wavelengths from 2 pi to 20,000 pi.

        p(t, 2i) = sin(t / 10000^(2i / D))
        p(t, 2i + 1) = cos(t / 10000^(2i / D))

    Raises ShapeError for sizes that are not positive.
    Source: Vaswani et al., "Attention Is All You Need" (2017), section 3.5.

    >>> sinusoidal_positions(2, 2).round(3)
    array([[0.   , 1.   ],
           [0.841, 0.54 ]])
    """
    positive("sinusoidal_positions", T=T, D=D)
    even = np.arange(0, D, 2)
    angles = np.arange(T)[:, None] / 10000.0 ** (even / D)
    positions = np.empty((T, D))
    positions[:, 0::2] = np.sin(angles)
    positions[:, 1::2] = np.cos(angles[:, : D // 2])
    return positions.astype(dtype)
