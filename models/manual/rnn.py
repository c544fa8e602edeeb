"""The vanilla (Elman) recurrent network, forward and backward by hand.

For every timestep t, with h[-1] the initial state::

    a[t] = W_xh x[t] + W_hh h[t-1] + b_h          pre-activation
    h[t] = tanh(a[t])                             hidden state
    y[t] = W_hy h[t] + b_y                        logits
    p[t] = softmax(y[t])
    loss = sum over t of -log p[t][target[t]]     (or the mean)

Backpropagation through time walks the same steps in reverse. The state h[t] is used twice, by the output at t
and by the state at t + 1, so its gradient is a sum of two terms; ``dh_next`` is the one that arrives from the
future::

    dy[t]   = p[t] - onehot(target[t])
    dh[t]   = W_hy^T dy[t] + dh_next
    da[t]   = (1 - h[t]^2) * dh[t]                since tanh'(a) = 1 - tanh(a)^2
    dh_next = W_hh^T da[t]                        handed to step t - 1

The weights are the same at every timestep, so their gradients are sums over time, taken once after the loop.

The arrays are time-major and batched: axes T (time), B (batch), D (input), H (hidden), V (output). A row of a
batch is a row vector, which is why the code reads ``h @ W_hh.T`` where the formula reads ``W_hh h``.

Sources: Elman, "Finding Structure in Time" (1990), for the network; Werbos, "Backpropagation Through Time:
What It Does and How to Do It" (1990), and Goodfellow, Bengio and Courville, "Deep Learning" (2016), equations
10.8 to 10.11 (forward) and 10.18 to 10.28 (backward).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from .common import (
    Cache,
    Gradients,
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
    sum_of_outer_products,
)

__all__ = ["Cache", "Gradients", "Reduction", "backward", "forward"]


def forward(
    params: Mapping[str, np.ndarray],
    xs: npt.ArrayLike,
    targets: npt.ArrayLike,
    h0: npt.ArrayLike,
    mask: npt.ArrayLike | None = None,
    reduction: Reduction = "mean",
) -> tuple[np.floating[Any], Cache]:
    """Run the network over a batch of sequences and return the cross-entropy loss.

    Everything is computed in the dtype of the parameters. The inputs are kept in the cache, not copied.

    Args:
        params: W_xh (H, D), W_hh (H, H), W_hy (V, H), b_h (H,), b_y (V,), of one floating dtype.
        xs: Inputs, floats (T, B, D) of that dtype, or integer token ids (T, B) in 0..D-1, which stand for
            one-hot vectors.
        targets: Labels, (T, B) integers in 0..V-1.
        h0: Initial state, (B, H), of the parameters' dtype.
        mask: (T, B) of booleans or of 0 and 1. A step where it is False adds nothing to the loss and leaves
            the state as it was, and its input and target may hold anything.
        reduction: "mean" over the steps that are not masked, or "sum".

    Returns:
        The loss, a scalar of the parameters' dtype, and the cache for :func:`backward`.

    Raises:
        ValueError: A shape, dtype, label or token id is not as described; or the mean of no steps is asked
            for.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> shapes = {"W_xh": (4, 3), "W_hh": (4, 4), "W_hy": (3, 4), "b_h": (4,), "b_y": (3,)}
        >>> params = {name: rng.standard_normal(shape) for name, shape in shapes.items()}
        >>> loss, cache = forward(params, xs=[[0], [1]], targets=[[1], [2]], h0=np.zeros((1, 4)))
        >>> cache.ps.shape, cache.h_last.shape
        ((2, 1, 3), (1, 4))
    """
    W_xh, W_hh, W_hy, b_h, b_y = checked_params(params)
    xs, targets, mask = checked_data(W_xh, W_hy, xs, targets, mask)
    hs = checked_states("h0", h0, targets, W_hh)
    weights = loss_weights(mask, reduction, W_xh.dtype)

    x_part = input_product(W_xh, xs)
    for t in range(len(targets)):
        a = x_part[t] + hs[t - 1] @ W_hh.T + b_h
        hs[t] = np.where(mask[t, :, None], np.tanh(a), hs[t - 1])

    loss, ps = cross_entropy(hs[:-1] @ W_hy.T + b_y, targets, weights)
    return loss, Cache(xs, hs, ps, targets, mask, weights)


def backward(
    params: Mapping[str, np.ndarray], cache: Cache, dh_last: npt.ArrayLike | None = None
) -> Gradients:
    """Backpropagate through time.

    The cache is only read, so calling this twice gives the same gradients twice.

    Args:
        params: The parameters that :func:`forward` was called with.
        cache: What it returned.
        dh_last: The gradient that reaches the state after the last step from outside, (B, H); zero where
            None.

    Returns:
        The gradients of the loss (and, through ``dh_last``, of whatever used the last state).

    Raises:
        ValueError: The parameters or ``dh_last`` have the wrong shape or dtype.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> shapes = {"W_xh": (4, 3), "W_hh": (4, 4), "W_hy": (3, 4), "b_h": (4,), "b_y": (3,)}
        >>> params = {name: rng.standard_normal(shape) for name, shape in shapes.items()}
        >>> loss, cache = forward(params, xs=[[0], [1]], targets=[[1], [2]], h0=np.zeros((1, 4)))
        >>> grads = backward(params, cache)
        >>> grads.params["W_hh"].shape, grads.dh.shape, grads.dh0.shape
        ((4, 4), (2, 1, 4), (1, 4))
    """
    W_xh, W_hh, W_hy, _, _ = checked_params(params)
    xs, hs, mask = cache.xs, cache.hs, cache.mask
    dh_next = checked_gradient("dh_last", dh_last, cache.h_last)

    dy = cross_entropy_gradient(cache.ps, cache.targets, cache.weights)
    dh = np.empty_like(hs[:-1])
    da = np.empty_like(hs[:-1])
    for t in reversed(range(len(dy))):
        live = mask[t, :, None]
        dh[t] = dy[t] @ W_hy + dh_next
        da[t] = np.where(live, (1 - hs[t] ** 2) * dh[t], 0)
        dh_next = np.where(live, da[t] @ W_hh, dh[t])

    dW_xh, dx = input_product_gradients(W_xh, xs, da)
    gradients = {
        "W_xh": dW_xh,
        "W_hh": sum_of_outer_products(da, previous(hs)),
        "W_hy": sum_of_outer_products(dy, hs[:-1]),
        "b_h": da.sum(axis=(0, 1)),
        "b_y": dy.sum(axis=(0, 1)),
    }
    return Gradients(gradients, dy, dh, da, dx, dh_next)
