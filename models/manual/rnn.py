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
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

Reduction = Literal["mean", "sum"]


@dataclass(frozen=True)
class Cache:
    """What the backward pass needs from the forward pass.

    Attributes:
        xs: The inputs, floats (T, B, D) or token ids (T, B); zero at masked steps.
        hs: The states, (T + 1, B, H): ``hs[t]`` leaves step t, and ``hs[-1]`` is the initial state, so that
            ``hs[t - 1]`` is what step t starts from for every t.
        ps: The softmax probabilities, (T, B, V).
        targets: The labels, (T, B) integers; zero at masked steps.
        mask: (T, B) booleans, False where a step is padding.
        weights: What each step's cross-entropy counts for in the loss, (T, B): 1, or 1/steps for a mean, or 0
            where masked.
    """

    xs: np.ndarray
    hs: np.ndarray
    ps: np.ndarray
    targets: np.ndarray
    mask: np.ndarray
    weights: np.ndarray

    @property
    def h_last(self) -> np.ndarray:
        """The state after the last step, (B, H)."""
        return self.hs[len(self.targets) - 1]


@dataclass(frozen=True)
class Gradients:
    """The gradients of the loss, of every parameter and of every intermediate at every timestep.

    At a masked step the state passes through, h[t] = h[t-1], and there is no output: ``dy[t]``, ``da[t]`` and
    ``dx[t]`` are zero there. ``dh[t]`` is not: it is always the gradient with respect to the state that
    *leaves* step t, and at a masked step that is whatever arrives from step t + 1, handed on unchanged to
    step t - 1. Where the padding stands at the end, dh is therefore ``dh_last`` (or zero) all through it.

    Attributes:
        params: Gradients by parameter name, each of its parameter's shape.
        dy: With respect to the logits, (T, B, V).
        dh: With respect to the state h[t] that leaves step t, (T, B, H): the total, the part through the
            output at t and the part through all later steps together.
        da: With respect to the pre-activation a[t], (T, B, H).
        dx: With respect to the inputs, (T, B, D); None where they were token ids.
        dh0: With respect to the initial state, (B, H).
    """

    params: dict[str, np.ndarray]
    dy: np.ndarray
    dh: np.ndarray
    da: np.ndarray
    dx: np.ndarray | None
    dh0: np.ndarray


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
    W_xh, W_hh, W_hy, b_h, b_y = _checked_params(params)
    xs, targets, h0, mask = _checked_data(W_xh, W_hy, xs, targets, h0, mask)
    weights = _loss_weights(mask, reduction, W_xh.dtype)

    T, (B, H) = len(targets), h0.shape
    # A one-hot vector times W_xh.T picks a row of it.
    x_part = W_xh.T[xs] if xs.ndim == 2 else xs @ W_xh.T

    hs = np.empty((T + 1, B, H), dtype=W_xh.dtype)
    hs[-1] = h0
    for t in range(T):
        a = x_part[t] + hs[t - 1] @ W_hh.T + b_h
        hs[t] = np.where(mask[t, :, None], np.tanh(a), hs[t - 1])

    ys = hs[:-1] @ W_hy.T + b_y
    # softmax(y) = softmax(y - max y), and the largest exponent is then 0: exp can't overflow.
    ys = ys - ys.max(axis=2, keepdims=True)
    log_ps = ys - np.log(np.exp(ys).sum(axis=2, keepdims=True))
    loss = -(weights * np.take_along_axis(log_ps, targets[:, :, None], axis=2)[:, :, 0]).sum()

    return loss, Cache(xs, hs, np.exp(log_ps), targets, mask, weights)


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
    W_xh, W_hh, W_hy, _, _ = _checked_params(params)
    xs, hs, targets, mask = cache.xs, cache.hs, cache.targets, cache.mask
    T, (B, H) = len(targets), cache.h_last.shape

    dy = cache.ps.copy()
    step, row = np.ogrid[:T, :B]
    dy[step, row, targets] -= 1  # p - onehot(target)
    dy *= cache.weights[:, :, None]

    dh = np.empty_like(hs[:-1])
    da = np.empty_like(hs[:-1])
    dh_next = np.zeros_like(hs[-1])
    if dh_last is not None:
        dh_next = _checked_state("dh_last", dh_last, W_xh.dtype, B, H)
    for t in reversed(range(T)):
        live = mask[t, :, None]
        dh[t] = dy[t] @ W_hy + dh_next
        da[t] = np.where(live, (1 - hs[t] ** 2) * dh[t], 0)
        dh_next = np.where(live, da[t] @ W_hh, dh[t])

    h_prev = np.roll(hs, 1, axis=0)[:-1]  # h[t-1] for every t: the initial state moves to the front
    gradients = {
        "W_xh": _input_weight_gradient(W_xh, xs, da),
        "W_hh": _sum_of_outer_products(da, h_prev),
        "W_hy": _sum_of_outer_products(dy, hs[:-1]),
        "b_h": da.sum(axis=(0, 1)),
        "b_y": dy.sum(axis=(0, 1)),
    }
    dx = None if xs.ndim == 2 else da @ W_xh
    return Gradients(gradients, dy, dh, da, dx, dh_next)


def _sum_of_outer_products(da: np.ndarray, h: np.ndarray) -> np.ndarray:
    """The sum over t and b of outer(da[t, b], h[t, b]), as one matrix product."""
    return np.tensordot(da, h, axes=([0, 1], [0, 1]))


def _input_weight_gradient(W_xh: np.ndarray, xs: np.ndarray, da: np.ndarray) -> np.ndarray:
    if xs.ndim == 3:
        return _sum_of_outer_products(da, xs)
    # The outer product with a one-hot vector is da[t, b] in the column of the token.
    dW_xh = np.zeros_like(W_xh)
    np.add.at(dW_xh.T, xs, da)
    return dW_xh


# What follows only checks the arguments.


class _Params(NamedTuple):
    W_xh: np.ndarray
    W_hh: np.ndarray
    W_hy: np.ndarray
    b_h: np.ndarray
    b_y: np.ndarray


def _checked_params(params: Mapping[str, np.ndarray]) -> _Params:
    if set(params) != set(_Params._fields):
        given = ", ".join(sorted(params)) or "nothing"
        raise ValueError(f"params must hold {', '.join(_Params._fields)}; it holds {given}")
    checked = _Params(**{name: np.asarray(array) for name, array in params.items()})
    if checked.W_xh.ndim != 2 or checked.W_hy.ndim != 2:
        raise ValueError(
            f"W_xh must be a matrix (H, D) and W_hy a matrix (V, H); "
            f"got shapes {checked.W_xh.shape} and {checked.W_hy.shape}"
        )
    (H, D), V, dtype = checked.W_xh.shape, len(checked.W_hy), checked.W_xh.dtype
    if not np.issubdtype(dtype, np.floating):
        raise ValueError(f"the parameters must be floats; W_xh is {dtype}")
    expected = _Params((H, D), (H, H), (V, H), (H,), (V,))  # type: ignore[arg-type]
    for name, array, shape in zip(_Params._fields, checked, expected, strict=True):
        if array.shape != shape:
            raise ValueError(f"{name} must have shape {shape} (H={H}, D={D}, V={V}); got {array.shape}")
        _check_dtype(name, array, dtype)
    return checked


def _checked_data(
    W_xh: np.ndarray,
    W_hy: np.ndarray,
    xs: npt.ArrayLike,
    targets: npt.ArrayLike,
    h0: npt.ArrayLike,
    mask: npt.ArrayLike | None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """The data as arrays, with zeros for whatever stands at masked steps."""
    (H, D), V = W_xh.shape, len(W_hy)
    targets = np.asarray(targets)
    if not np.issubdtype(targets.dtype, np.integer):
        raise ValueError(f"targets must be integers, one class label for each step; got {targets.dtype}")
    if targets.ndim != 2:
        raise ValueError(f"targets must have shape (T, B); got {targets.shape}")
    T, B = targets.shape

    if mask is None:
        mask = np.ones((T, B), dtype=bool)
    else:
        mask = np.asarray(mask)
        if mask.shape != (T, B):
            raise ValueError(f"mask must have the shape of targets, (T, B) = {(T, B)}; got {mask.shape}")
        if not np.isin(mask, (0, 1)).all():
            raise ValueError("mask must hold booleans, or 0 and 1 only")
        mask = mask.astype(bool)
    targets = _checked_labels("targets", targets, mask, V, "V, rows of W_hy")

    xs = np.asarray(xs)
    if np.issubdtype(xs.dtype, np.integer) and xs.ndim == 2:
        if xs.shape != (T, B):
            raise ValueError(f"token ids xs must have shape (T, B) = {(T, B)}; got {xs.shape}")
        xs = _checked_labels("xs", xs, mask, D, "D, columns of W_xh")
    elif np.issubdtype(xs.dtype, np.floating) and xs.ndim == 3:
        if xs.shape != (T, B, D):
            raise ValueError(f"xs must have shape (T, B, D) = {(T, B, D)}; got {xs.shape}")
        _check_dtype("xs", xs, W_xh.dtype)
        if not mask.all():
            xs = np.where(mask[:, :, None], xs, 0)
    else:
        raise ValueError(f"xs must be floats (T, B, D) or integer ids (T, B); got {xs.dtype} {xs.shape}")

    return xs, targets, _checked_state("h0", h0, W_xh.dtype, B, H), mask


def _checked_labels(name: str, labels: np.ndarray, mask: np.ndarray, n: int, meaning: str) -> np.ndarray:
    wrong = np.argwhere(mask & ((labels < 0) | (labels >= n)))
    if len(wrong):
        t, b = wrong[0]
        place = f"{name} at timestep {t}, batch row {b}"
        raise ValueError(f"{place} is {labels[t, b]}; it must be in 0..{n - 1} ({meaning})")
    return np.where(mask, labels, 0).astype(np.intp)


def _checked_state(name: str, state: npt.ArrayLike, dtype: np.dtype[Any], B: int, H: int) -> np.ndarray:
    state = np.asarray(state)
    if state.shape != (B, H):
        raise ValueError(f"{name} must have shape (B, H) = {(B, H)}; got {state.shape}")
    _check_dtype(name, state, dtype)
    return state


def _check_dtype(name: str, array: np.ndarray, dtype: np.dtype[Any]) -> None:
    # Converting in silence would lose digits in one direction and the speed of float32 in the other.
    if array.dtype != dtype:
        raise ValueError(f"{name} is {array.dtype}, W_xh is {dtype}; convert it: {name}.astype(np.{dtype})")


def _loss_weights(mask: np.ndarray, reduction: str, dtype: np.dtype[Any]) -> np.ndarray:
    if reduction == "sum":
        return mask.astype(dtype)
    if reduction != "mean":
        raise ValueError(f'reduction must be "mean" or "sum"; got {reduction!r}')
    steps = np.count_nonzero(mask)
    if not steps:
        raise ValueError('reduction="mean" has nothing to average: every step is masked or there is none')
    return (mask / steps).astype(dtype)
