"""What the hand-written models share: their records, the loss at the output, and the checks of arguments.

The models differ in the step from one state to the next, and only that stands in their own files. All of them
take their parameters by the same names: W_xh and W_hh with the rows of their gates stacked, biases for those
rows, and W_hy and b_y for the logits.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

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
        da: With respect to the pre-activation a[t], (T, B, H), or (T, B, gates * H) in a gated model.
        dx: With respect to the inputs, (T, B, D); None where they were token ids.
        dh0: With respect to the initial state, (B, H).
    """

    params: dict[str, np.ndarray]
    dy: np.ndarray
    dh: np.ndarray
    da: np.ndarray
    dx: np.ndarray | None
    dh0: np.ndarray


def sigmoid(a: np.ndarray) -> np.ndarray:
    """1 / (1 + exp(-a)), of a's shape and dtype.

    Example:
        >>> sigmoid(np.array([-1e4, 0.0, 1e4]))
        array([0. , 0.5, 1. ])
    """
    # The same as exp(-log(1 + exp(-a))), and this logarithm can't overflow.
    return np.exp(-np.logaddexp(0, -a))


def input_product(W_xh: np.ndarray, xs: np.ndarray) -> np.ndarray:
    """W_xh x[t] for every timestep and row, (T, B, rows of W_xh), of floats (T, B, D) or of ids (T, B)."""
    # A one-hot vector times W_xh.T picks a row of it.
    return W_xh.T[xs] if xs.ndim == 2 else xs @ W_xh.T


def input_product_gradients(
    W_xh: np.ndarray, xs: np.ndarray, da: np.ndarray
) -> tuple[np.ndarray, np.ndarray | None]:
    """The gradients of W_xh and of the inputs, None for ids, from those of :func:`input_product`."""
    if xs.ndim == 3:
        return sum_of_outer_products(da, xs), da @ W_xh
    # The outer product with a one-hot vector is da[t, b] in the column of the token.
    dW_xh = np.zeros_like(W_xh)
    np.add.at(dW_xh.T, xs, da)
    return dW_xh, None


def sum_of_outer_products(da: np.ndarray, h: np.ndarray) -> np.ndarray:
    """The sum over t and b of outer(da[t, b], h[t, b]), as one matrix product."""
    return np.tensordot(da, h, axes=([0, 1], [0, 1]))


def previous(hs: np.ndarray) -> np.ndarray:
    """h[t-1] for every t, (T, B, H): the initial state moves from the end of hs to the front."""
    return np.roll(hs, 1, axis=0)[:-1]


def cross_entropy(
    ys: np.ndarray, targets: np.ndarray, weights: np.ndarray
) -> tuple[np.floating[Any], np.ndarray]:
    """The sum of weights[t] * -log softmax(y[t])[target[t]], and the softmax probabilities, (T, B, V).

    Example:
        >>> cross_entropy(np.zeros((1, 1, 4)), np.array([[2]]), np.ones((1, 1)))[1]
        array([[[0.25, 0.25, 0.25, 0.25]]])
    """
    # softmax(y) = softmax(y - max y), and the largest exponent is then 0: exp can't overflow.
    ys = ys - ys.max(axis=2, keepdims=True)
    log_ps = ys - np.log(np.exp(ys).sum(axis=2, keepdims=True))
    loss = -(weights * np.take_along_axis(log_ps, targets[:, :, None], axis=2)[:, :, 0]).sum()
    return loss, np.exp(log_ps)


def cross_entropy_gradient(ps: np.ndarray, targets: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The gradient of :func:`cross_entropy` with respect to the logits: weights * (p - onehot(target))."""
    T, B = targets.shape
    dy = ps.copy()
    step, row = np.ogrid[:T, :B]
    dy[step, row, targets] -= 1
    dy *= weights[:, :, None]
    return dy


def loss_weights(mask: np.ndarray, reduction: str, dtype: np.dtype[Any]) -> np.ndarray:
    """What each step counts for, (T, B): 0 where masked, and elsewhere 1, or 1/steps for a mean.

    Raises:
        ValueError: The reduction is neither "mean" nor "sum", or there is nothing to average.
    """
    if reduction == "sum":
        return mask.astype(dtype)
    if reduction != "mean":
        raise ValueError(f'reduction must be "mean" or "sum"; got {reduction!r}')
    steps = np.count_nonzero(mask)
    if not steps:
        raise ValueError('reduction="mean" has nothing to average: every step is masked or there is none')
    return (mask / steps).astype(dtype)


# What follows only checks the arguments.


def checked_params(
    params: Mapping[str, np.ndarray], gates: int = 1, biases: tuple[str, ...] = ("b_h",)
) -> list[np.ndarray]:
    """W_xh (gates * H, D), W_hh (gates * H, H), W_hy (V, H), biases (gates * H,), b_y (V,), in this order.

    Raises:
        ValueError: A name is missing or unknown, a shape does not fit, or the dtypes are not one float dtype.
    """
    names = ("W_xh", "W_hh", "W_hy", *biases, "b_y")
    if set(params) != set(names):
        given = ", ".join(sorted(params)) or "nothing"
        raise ValueError(f"params must hold {', '.join(names)}; it holds {given}")
    arrays = {name: np.asarray(params[name]) for name in names}
    W_xh, W_hy = arrays["W_xh"], arrays["W_hy"]
    rows = "H" if gates == 1 else f"{gates} * H"
    if W_xh.ndim != 2 or W_hy.ndim != 2:
        raise ValueError(
            f"W_xh must be a matrix ({rows}, D) and W_hy a matrix (V, H); "
            f"got shapes {W_xh.shape} and {W_hy.shape}"
        )
    if len(W_xh) % gates:
        raise ValueError(f"W_xh must have {rows} rows, {gates} gates of H each; got {len(W_xh)}")
    (R, D), V, H, dtype = W_xh.shape, len(W_hy), len(W_xh) // gates, W_xh.dtype
    if not np.issubdtype(dtype, np.floating):
        raise ValueError(f"the parameters must be floats; W_xh is {dtype}")
    shapes = {"W_xh": (R, D), "W_hh": (R, H), "W_hy": (V, H), "b_y": (V,)}
    for name, array in arrays.items():
        shape = shapes.get(name, (R,))
        if array.shape != shape:
            raise ValueError(f"{name} must have shape {shape} (H={H}, D={D}, V={V}); got {array.shape}")
        _check_dtype(name, array, dtype)
    return list(arrays.values())


def checked_data(
    W_xh: np.ndarray,
    W_hy: np.ndarray,
    xs: npt.ArrayLike,
    targets: npt.ArrayLike,
    mask: npt.ArrayLike | None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """xs, targets and mask as arrays, with zeros for whatever stands at masked steps.

    Raises:
        ValueError: A shape or dtype does not fit, a label or id is out of range, or a mask is not 0 and 1.
    """
    D, V = W_xh.shape[1], len(W_hy)
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
    return xs, targets, mask


def checked_states(name: str, h0: npt.ArrayLike, targets: np.ndarray, W_hh: np.ndarray) -> np.ndarray:
    """Room for the states, (T + 1, B, H), with the initial one, (B, H), at its end.

    Raises:
        ValueError: The initial state has another shape or dtype.
    """
    (T, B), H = targets.shape, W_hh.shape[1]
    states = np.empty((T + 1, B, H), W_hh.dtype)
    states[-1] = _checked_state(name, h0, states[-1])
    return states


def checked_gradient(name: str, dh: npt.ArrayLike | None, state: np.ndarray) -> np.ndarray:
    """The gradient of a state from outside, (B, H); zeros for None.

    Raises:
        ValueError: It has another shape or dtype than the state.
    """
    return np.zeros_like(state) if dh is None else _checked_state(name, dh, state)


def _checked_state(name: str, given: npt.ArrayLike, state: np.ndarray) -> np.ndarray:
    given = np.asarray(given)
    if given.shape != state.shape:
        raise ValueError(f"{name} must have shape (B, H) = {state.shape}; got {given.shape}")
    _check_dtype(name, given, state.dtype)
    return given


def _checked_labels(name: str, labels: np.ndarray, mask: np.ndarray, n: int, meaning: str) -> np.ndarray:
    wrong = np.argwhere(mask & ((labels < 0) | (labels >= n)))
    if len(wrong):
        t, b = wrong[0]
        place = f"{name} at timestep {t}, batch row {b}"
        raise ValueError(f"{place} is {labels[t, b]}; it must be in 0..{n - 1} ({meaning})")
    return np.where(mask, labels, 0).astype(np.intp)


def _check_dtype(name: str, array: np.ndarray, dtype: np.dtype[Any]) -> None:
    # Converting in silence would lose digits in one direction and the speed of float32 in the other.
    if array.dtype != dtype:
        raise ValueError(f"{name} is {array.dtype}, W_xh is {dtype}; convert it: {name}.astype(np.{dtype})")
