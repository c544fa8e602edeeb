"""The long short-term memory network, forward and backward by hand.

For every timestep t, with h[-1] and c[-1] the initial states::

    a[t] = W_xh x[t] + W_hh h[t-1] + b_h          pre-activations of the four gates, stacked: i, f, g, o
    i = sigmoid(a_i)                              input gate: how much of the candidate is written
    f = sigmoid(a_f)                              forget gate: how much of the cell is kept
    g = tanh(a_g)                                 candidate
    o = sigmoid(a_o)                              output gate: how much of the cell is shown
    c[t] = f * c[t-1] + i * g                     cell state
    h[t] = o * tanh(c[t])                         hidden state
    y[t] = W_hy h[t] + b_y                        logits
    loss = sum over t of -log softmax(y[t])[target[t]]     (or the mean)

Backwards, two gradients arrive from the future, ``dh_next`` and ``dc_next``. The cell state c[t] is used
twice, by h[t] and by c[t+1], so its gradient is a sum of two terms, as that of h[t] is::

    dy[t] = p[t] - onehot(target[t])
    dh[t] = W_hy^T dy[t] + dh_next
    dc[t] = o * (1 - tanh(c[t])^2) * dh[t] + dc_next

Each factor of a product receives the gradient of the product times the other factor::

    di = g * dc[t]        df = c[t-1] * dc[t]        dg = i * dc[t]        do = tanh(c[t]) * dh[t]

Then back through the nonlinearities, by sigmoid'(a) = s * (1 - s) with s = sigmoid(a), and by
tanh'(a) = 1 - tanh(a)^2::

    da_i = i * (1 - i) * di
    da_f = f * (1 - f) * df
    da_g = (1 - g^2) * dg
    da_o = o * (1 - o) * do
    dh_next = W_hh^T da[t]                        handed to step t - 1
    dc_next = f * dc[t]

The last line is what the LSTM was made for: from cell to cell the gradient passes through no matrix and no
nonlinearity, only through the forget gate.

The weights are the same at every timestep, so their gradients are sums over time, taken once after the loop.
The rows of W_xh, W_hh and b_h are stacked in the order i, f, g, o, as in tensorgrad.nn and PyTorch, whose two
biases add up to b_h. The arrays are time-major and batched, as in ``rnn.py``: axes T, B, D, H, V, and row
vectors.

Sources: Hochreiter and Schmidhuber, "Long Short-Term Memory" (1997), for the network; Gers, Schmidhuber and
Cummins, "Learning to Forget: Continual Prediction with LSTM" (2000), for the forget gate; Greff et al.,
"LSTM: A Search Space Odyssey" (2017), section II, for forward and backward, there with peepholes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

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

__all__ = ["Cache", "Gradients", "Reduction", "backward", "forward"]


@dataclass(frozen=True)
class Cache(common.Cache):
    """What the backward pass needs from the forward pass.

    Attributes:
        cs: The cell states, (T + 1, B, H), with the initial one at -1, as in ``hs``.
        gates: The activations i, f, g, o, (T, B, 4, H).
    """

    cs: np.ndarray
    gates: np.ndarray

    @property
    def c_last(self) -> np.ndarray:
        """The cell state after the last step, (B, H)."""
        return self.cs[len(self.targets) - 1]


@dataclass(frozen=True)
class Gradients(common.Gradients):
    """The gradients of the loss, of every parameter and of every intermediate at every timestep.

    At a masked step both states pass through, and so do both of their gradients.

    Attributes:
        dc: With respect to the cell state c[t] that leaves step t, (T, B, H): the total, the part through
            h[t] and the part through c[t+1].
        dc0: With respect to the initial cell state, (B, H).
    """

    dc: np.ndarray
    dc0: np.ndarray


def forward(
    params: Mapping[str, np.ndarray],
    xs: npt.ArrayLike,
    targets: npt.ArrayLike,
    h0: npt.ArrayLike,
    c0: npt.ArrayLike,
    mask: npt.ArrayLike | None = None,
    reduction: Reduction = "mean",
) -> tuple[np.floating[Any], Cache]:
    """Run the network over a batch of sequences and return the cross-entropy loss.

    Everything is computed in the dtype of the parameters. The inputs are kept in the cache, not copied.

    Args:
        params: W_xh (4 * H, D), W_hh (4 * H, H), W_hy (V, H), b_h (4 * H,), b_y (V,), of one floating dtype;
            the rows of the gates stacked in the order i, f, g, o.
        xs: Inputs, floats (T, B, D) of that dtype, or integer token ids (T, B) in 0..D-1, which stand for
            one-hot vectors.
        targets: Labels, (T, B) integers in 0..V-1.
        h0: Initial state, (B, H), of the parameters' dtype.
        c0: Initial cell state, (B, H), of the parameters' dtype.
        mask: (T, B) of booleans or of 0 and 1. A step where it is False adds nothing to the loss and leaves
            both states as they were, and its input and target may hold anything.
        reduction: "mean" over the steps that are not masked, or "sum".

    Returns:
        The loss, a scalar of the parameters' dtype, and the cache for :func:`backward`.

    Raises:
        ValueError: A shape, dtype, label or token id is not as described; or the mean of no steps is asked
            for.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> shapes = {"W_xh": (16, 3), "W_hh": (16, 4), "W_hy": (3, 4), "b_h": (16,), "b_y": (3,)}
        >>> params = {name: rng.standard_normal(shape) for name, shape in shapes.items()}
        >>> h0, c0 = np.zeros((2, 1, 4))
        >>> loss, cache = forward(params, xs=[[0], [1]], targets=[[1], [2]], h0=h0, c0=c0)
        >>> cache.gates.shape, cache.c_last.shape
        ((2, 1, 4, 4), (1, 4))
    """
    W_xh, W_hh, W_hy, b_h, b_y = checked_params(params, gates=4)
    xs, targets, mask = checked_data(W_xh, W_hy, xs, targets, mask)
    hs = checked_states("h0", h0, targets, W_hh)
    cs = checked_states("c0", c0, targets, W_hh)
    weights = loss_weights(mask, reduction, W_xh.dtype)

    (T, B), H = targets.shape, W_hh.shape[1]
    x_part = input_product(W_xh, xs)
    gates = np.empty((T, B, 4, H), W_xh.dtype)
    for t in range(T):
        live = mask[t, :, None]
        a_i, a_f, a_g, a_o = np.split(x_part[t] + hs[t - 1] @ W_hh.T + b_h, 4, axis=1)
        i, f, g, o = sigmoid(a_i), sigmoid(a_f), np.tanh(a_g), sigmoid(a_o)
        cs[t] = np.where(live, f * cs[t - 1] + i * g, cs[t - 1])
        hs[t] = np.where(live, o * np.tanh(cs[t]), hs[t - 1])
        gates[t] = np.stack([i, f, g, o], axis=1)

    loss, ps = cross_entropy(hs[:-1] @ W_hy.T + b_y, targets, weights)
    return loss, Cache(xs, hs, ps, targets, mask, weights, cs, gates)


def backward(
    params: Mapping[str, np.ndarray],
    cache: Cache,
    dh_last: npt.ArrayLike | None = None,
    dc_last: npt.ArrayLike | None = None,
) -> Gradients:
    """Backpropagate through time.

    The cache is only read, so calling this twice gives the same gradients twice.

    Args:
        params: The parameters that :func:`forward` was called with.
        cache: What it returned.
        dh_last: The gradient that reaches the state after the last step from outside, (B, H); zero where
            None.
        dc_last: The same for the cell state after the last step.

    Returns:
        The gradients of the loss (and, through ``dh_last`` and ``dc_last``, of whatever used the last
        states).

    Raises:
        ValueError: The parameters, ``dh_last`` or ``dc_last`` have the wrong shape or dtype.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> shapes = {"W_xh": (16, 3), "W_hh": (16, 4), "W_hy": (3, 4), "b_h": (16,), "b_y": (3,)}
        >>> params = {name: rng.standard_normal(shape) for name, shape in shapes.items()}
        >>> h0, c0 = np.zeros((2, 1, 4))
        >>> loss, cache = forward(params, xs=[[0], [1]], targets=[[1], [2]], h0=h0, c0=c0)
        >>> grads = backward(params, cache)
        >>> grads.params["W_hh"].shape, grads.da.shape, grads.dc.shape, grads.dc0.shape
        ((16, 4), (2, 1, 16), (2, 1, 4), (1, 4))
    """
    W_xh, W_hh, W_hy, _, _ = checked_params(params, gates=4)
    xs, hs, cs, mask = cache.xs, cache.hs, cache.cs, cache.mask
    dh_next = checked_gradient("dh_last", dh_last, cache.h_last)
    dc_next = checked_gradient("dc_last", dc_last, cache.c_last)

    dy = cross_entropy_gradient(cache.ps, cache.targets, cache.weights)
    dh = np.empty_like(hs[:-1])
    dc = np.empty_like(cs[:-1])
    da = np.empty((*mask.shape, len(W_xh)), W_xh.dtype)
    for t in reversed(range(len(dy))):
        live = mask[t, :, None]
        i, f, g, o = cache.gates[t].swapaxes(0, 1)
        tanh_c = np.tanh(cs[t])
        dh[t] = dy[t] @ W_hy + dh_next
        dc[t] = np.where(live, o * (1 - tanh_c**2) * dh[t], 0) + dc_next
        di, df, dg, do = g * dc[t], cs[t - 1] * dc[t], i * dc[t], tanh_c * dh[t]
        da_i, da_f, da_g, da_o = i * (1 - i) * di, f * (1 - f) * df, (1 - g**2) * dg, o * (1 - o) * do
        da[t] = np.where(live, np.concatenate([da_i, da_f, da_g, da_o], axis=1), 0)
        dh_next = np.where(live, da[t] @ W_hh, dh[t])
        dc_next = np.where(live, f * dc[t], dc[t])

    dW_xh, dx = input_product_gradients(W_xh, xs, da)
    gradients = {
        "W_xh": dW_xh,
        "W_hh": sum_of_outer_products(da, previous(hs)),
        "W_hy": sum_of_outer_products(dy, hs[:-1]),
        "b_h": da.sum(axis=(0, 1)),
        "b_y": dy.sum(axis=(0, 1)),
    }
    return Gradients(gradients, dy, dh, da, dx, dh_next, dc, dc_next)
