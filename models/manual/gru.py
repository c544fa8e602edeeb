"""The gated recurrent unit, forward and backward by hand, with the reset gate in either of its two places.

For every timestep t, with h[-1] the initial state::

    a_r = W_xr x[t] + b_xr + W_hr h[t-1] + b_hr   pre-activations, stacked: r, z, n
    a_z = W_xz x[t] + b_xz + W_hz h[t-1] + b_hz
    a_n = W_xn x[t] + b_xn + recurrent part
    r = sigmoid(a_r)                              reset gate: how much of the past the candidate sees
    z = sigmoid(a_z)                              update gate: how much of the state is kept
    n = tanh(a_n)                                 candidate
    h[t] = (1 - z) * n + z * h[t-1]               hidden state
    y[t] = W_hy h[t] + b_y                        logits
    loss = sum over t of -log softmax(y[t])[target[t]]     (or the mean)

The recurrent part of the candidate goes through W_hn, and the reset gate acts behind that product or in front
of it::

    reset="after":    v[t] = W_hn h[t-1] + b_hn            a_n = W_xn x[t] + b_xn + r * v[t]
    reset="before":   v[t] = W_hn (r * h[t-1]) + b_hn      a_n = W_xn x[t] + b_xn + v[t]

"after" is what PyTorch and cuDNN compute: all products with h[t-1] are then one. "before" is the paper's. The
two biases b_xh and b_hh add up everywhere but in one place: with "after", b_hn is multiplied by r and b_xn is
not. They are kept apart for all rows, so that the parameters are those of tensorgrad.nn and PyTorch one by
one.

Backwards, the state h[t-1] is reached in four ways: kept by z, and through each of r, z and n. First comes
the total of h[t], and from it the gradients of z and of the candidate's pre-activation::

    dy[t] = p[t] - onehot(target[t])
    dh[t] = W_hy^T dy[t] + dh_next
    dz    = (h[t-1] - n) * dh[t]
    da_n  = (1 - n^2) * (1 - z) * dh[t]

Then through the recurrent part of the candidate, to the reset gate and, as ``dh_n``, to h[t-1]. Each factor
of a product receives the gradient of the product times the other factor::

    reset="after":    dv[t] = r * da_n     dr = v[t] * da_n                 dh_n = W_hn^T dv[t]
    reset="before":   dv[t] = da_n         dr = h[t-1] * drh                dh_n = r * drh

where drh = W_hn^T dv[t] is the gradient of r * h[t-1].

And last through the gates, by sigmoid'(a) = s * (1 - s) with s = sigmoid(a)::

    da_r = r * (1 - r) * dr
    da_z = z * (1 - z) * dz
    dh_next = z * dh[t] + W_hr^T da_r + W_hz^T da_z + dh_n           handed to step t - 1

The term z * dh[t] passes through no matrix: it is to the GRU what f * dc[t] is to the LSTM.

The weights are the same at every timestep, so their gradients are sums over time, taken once after the loop.
For W_hn they are sums of dv with what it multiplied, h[t-1] or r * h[t-1]. The arrays are time-major and
batched, as in ``rnn.py``: axes T, B, D, H, V, and row vectors.

Source: Cho et al., "Learning Phrase Representations using RNN Encoder-Decoder for Statistical Machine
Translation" (2014), equations 5 to 8, there without biases and with the reset "before".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from . import common
from .common import (
    Reduction,
    checked_data,
    checked_gradient,
    checked_params,
    checked_states,
    cross_entropy,
    cross_entropy_gradient,
    input_product,
    input_product_gradients,
    loss_weights,
    previous,
    sigmoid,
    sum_of_outer_products,
)

__all__ = ["Cache", "Gradients", "Reduction", "Reset", "backward", "forward"]

Reset = Literal["after", "before"]

_BIASES = ("b_xh", "b_hh")


@dataclass(frozen=True)
class Cache(common.Cache):
    """What the backward pass needs from the forward pass.

    Attributes:
        gates: The activations r, z, n, (T, B, 3, H).
        vs: The candidate's recurrent part v, (T, B, H).
        reset: Where the reset gate acts, "after" or "before" the product with W_hn.
    """

    gates: np.ndarray
    vs: np.ndarray
    reset: Reset


@dataclass(frozen=True)
class Gradients(common.Gradients):
    """The gradients of the loss, of every parameter and of every intermediate at every timestep.

    Attributes:
        dv: With respect to v[t], the recurrent part of the candidate's pre-activation, (T, B, H); zero at
            masked steps. With reset="before" it is the part of ``da`` that belongs to n.
    """

    dv: np.ndarray


def forward(
    params: Mapping[str, np.ndarray],
    xs: npt.ArrayLike,
    targets: npt.ArrayLike,
    h0: npt.ArrayLike,
    mask: npt.ArrayLike | None = None,
    reduction: Reduction = "mean",
    reset: Reset = "after",
) -> tuple[np.floating[Any], Cache]:
    """Run the network over a batch of sequences and return the cross-entropy loss.

    Everything is computed in the dtype of the parameters. The inputs are kept in the cache, not copied.

    Args:
        params: W_xh (3 * H, D), W_hh (3 * H, H), W_hy (V, H), b_xh (3 * H,), b_hh (3 * H,), b_y (V,), of one
            floating dtype; the rows of the gates stacked in the order r, z, n.
        xs: Inputs, floats (T, B, D) of that dtype, or integer token ids (T, B) in 0..D-1, which stand for
            one-hot vectors.
        targets: Labels, (T, B) integers in 0..V-1.
        h0: Initial state, (B, H), of the parameters' dtype.
        mask: (T, B) of booleans or of 0 and 1. A step where it is False adds nothing to the loss and leaves
            the state as it was, and its input and target may hold anything.
        reduction: "mean" over the steps that are not masked, or "sum".
        reset: Whether the reset gate multiplies the recurrent part of the candidate "after" the product with
            W_hn, as in PyTorch, or the state "before" it, as in Cho et al.

    Returns:
        The loss, a scalar of the parameters' dtype, and the cache for :func:`backward`.

    Raises:
        ValueError: A shape, dtype, label or token id is not as described; the reduction or reset is unknown;
            or the mean of no steps is asked for.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> shapes = {"W_xh": (12, 3), "W_hh": (12, 4), "W_hy": (3, 4), "b_xh": 12, "b_hh": 12, "b_y": 3}
        >>> params = {name: rng.standard_normal(shape) for name, shape in shapes.items()}
        >>> loss, cache = forward(params, xs=[[0], [1]], targets=[[1], [2]], h0=np.zeros((1, 4)))
        >>> cache.gates.shape, cache.h_last.shape
        ((2, 1, 3, 4), (1, 4))
    """
    if reset not in ("after", "before"):
        raise ValueError(f'reset must be "after" or "before"; got {reset!r}')
    W_xh, W_hh, W_hy, b_xh, b_hh, b_y = checked_params(params, gates=3, biases=_BIASES)
    xs, targets, mask = checked_data(W_xh, W_hy, xs, targets, mask)
    hs = checked_states("h0", h0, targets, W_hh)
    weights = loss_weights(mask, reduction, W_xh.dtype)

    (T, B), H = targets.shape, W_hh.shape[1]
    W_hr, W_hz, W_hn = np.split(W_hh, 3)
    b_hr, b_hz, b_hn = np.split(b_hh, 3)
    x_part = input_product(W_xh, xs) + b_xh
    gates = np.empty((T, B, 3, H), W_xh.dtype)
    vs = np.empty((T, B, H), W_xh.dtype)
    for t in range(T):
        h = hs[t - 1]
        x_r, x_z, x_n = np.split(x_part[t], 3, axis=1)
        r = sigmoid(x_r + h @ W_hr.T + b_hr)
        z = sigmoid(x_z + h @ W_hz.T + b_hz)
        vs[t] = (h if reset == "after" else r * h) @ W_hn.T + b_hn
        n = np.tanh(x_n + (r * vs[t] if reset == "after" else vs[t]))
        hs[t] = np.where(mask[t, :, None], (1 - z) * n + z * h, h)
        gates[t] = np.stack([r, z, n], axis=1)

    loss, ps = cross_entropy(hs[:-1] @ W_hy.T + b_y, targets, weights)
    return loss, Cache(xs, hs, ps, targets, mask, weights, gates, vs, reset)


def backward(
    params: Mapping[str, np.ndarray], cache: Cache, dh_last: npt.ArrayLike | None = None
) -> Gradients:
    """Backpropagate through time.

    The cache is only read, so calling this twice gives the same gradients twice.

    Args:
        params: The parameters that :func:`forward` was called with.
        cache: What it returned; it knows where the reset gate acted.
        dh_last: The gradient that reaches the state after the last step from outside, (B, H); zero where
            None.

    Returns:
        The gradients of the loss (and, through ``dh_last``, of whatever used the last state).

    Raises:
        ValueError: The parameters or ``dh_last`` have the wrong shape or dtype.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> shapes = {"W_xh": (12, 3), "W_hh": (12, 4), "W_hy": (3, 4), "b_xh": 12, "b_hh": 12, "b_y": 3}
        >>> params = {name: rng.standard_normal(shape) for name, shape in shapes.items()}
        >>> loss, cache = forward(params, xs=[[0], [1]], targets=[[1], [2]], h0=np.zeros((1, 4)))
        >>> grads = backward(params, cache)
        >>> grads.params["W_hh"].shape, grads.da.shape, grads.dv.shape, grads.dh0.shape
        ((12, 4), (2, 1, 12), (2, 1, 4), (1, 4))
    """
    W_xh, W_hh, W_hy, _, _, _ = checked_params(params, gates=3, biases=_BIASES)
    W_hr, W_hz, W_hn = np.split(W_hh, 3)
    xs, hs, vs, mask = cache.xs, cache.hs, cache.vs, cache.mask
    dh_next = checked_gradient("dh_last", dh_last, cache.h_last)

    dy = cross_entropy_gradient(cache.ps, cache.targets, cache.weights)
    dh = np.empty_like(hs[:-1])
    dv = np.empty_like(vs)
    da = np.empty((*mask.shape, len(W_xh)), W_xh.dtype)
    for t in reversed(range(len(dy))):
        live = mask[t, :, None]
        r, z, n = cache.gates[t].swapaxes(0, 1)
        dh[t] = dy[t] @ W_hy + dh_next
        dh_new = np.where(live, dh[t], 0)  # a masked step has made no new state
        dz = (hs[t - 1] - n) * dh_new
        da_n = (1 - n**2) * (1 - z) * dh_new
        if cache.reset == "after":
            dv[t] = r * da_n
            dr = vs[t] * da_n
            dh_n = dv[t] @ W_hn
        else:
            dv[t] = da_n
            drh = dv[t] @ W_hn
            dr = hs[t - 1] * drh
            dh_n = r * drh
        da_r, da_z = r * (1 - r) * dr, z * (1 - z) * dz
        da[t] = np.concatenate([da_r, da_z, da_n], axis=1)
        dh_next = np.where(live, z * dh_new + da_r @ W_hr + da_z @ W_hz + dh_n, dh[t])

    dW_xh, dx = input_product_gradients(W_xh, xs, da)
    da_rz, h_prev = da[:, :, : -len(W_hn)], previous(hs)
    multiplied = h_prev if cache.reset == "after" else cache.gates[:, :, 0] * h_prev  # by W_hn
    gradients = {
        "W_xh": dW_xh,
        "W_hh": np.concatenate([sum_of_outer_products(da_rz, h_prev), sum_of_outer_products(dv, multiplied)]),
        "W_hy": sum_of_outer_products(dy, hs[:-1]),
        "b_xh": da.sum(axis=(0, 1)),
        "b_hh": np.concatenate([da_rz, dv], axis=2).sum(axis=(0, 1)),
        "b_y": dy.sum(axis=(0, 1)),
    }
    return Gradients(gradients, dy, dh, da, dx, dh_next, dv)
