"""Functions of networks: softmax, losses, normalisation, dropout. Composed of operations, fused where
stability or speed asks for it. Class scores ("logits") stand on the last axis unless `axis` says otherwise.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tensorgrad.context import context
from tensorgrad.errors import DtypeError, ShapeError
from tensorgrad.graph import Operand
from tensorgrad.op import primitive
from tensorgrad.ops import (
    broadcast_to,
    clip,
    exp,
    expand_dims,
    less,
    linear,
    log,
    relu,
    sigmoid,
    softplus,
    sqrt,
    square,
    sum,
    swapaxes,
    tanh,
    var,
    where,
)
from tensorgrad.ops import mean as mean_of
from tensorgrad.ops.shape import ndim, normalise_axes, normalise_axis
from tensorgrad.random import Seed, draw

__all__ = [
    "binary_cross_entropy",
    "binary_cross_entropy_with_logits",
    "cross_entropy",
    "dropout",
    "gelu",
    "layer_norm",
    "linear",
    "log_softmax",
    "mse",
    "one_hot",
    "relu",
    "sigmoid",
    "softmax",
    "softplus",
    "tanh",
]


def _largest(x: Any, axis: int) -> Any:
    """The maximum along an axis, kept with length 1; -inf over an empty one."""
    if not x.size or axis not in (-1, x.ndim - 1):
        return np.max(x, axis=axis, keepdims=True, initial=-np.inf)
    # Along rows argmax is several times faster than max.
    rows = x.reshape(-1, x.shape[-1])
    return rows[np.arange(len(rows)), rows.argmax(axis=1)].reshape(*x.shape[:-1], 1)


def _shifted(x: Any, axis: int) -> Any:
    """A copy of x less its maximum, at most 0 everywhere; rows of nothing but -inf stay at -inf."""
    x = np.asarray(x)
    if x.dtype.kind != "f":
        x = x.astype(np.float64)
    top = _largest(x, axis)
    if not np.isfinite(top).all():
        top = np.where(np.isfinite(top), top, 0).astype(x.dtype)
    return np.subtract(x, top)


def _sums(x: Any) -> Any:
    """The sum over the last axis, kept with length 1, as a product with ones: twice as fast as np.sum."""
    return np.matmul(x, np.ones((x.shape[-1], 1), x.dtype))


def _softmax_of(x: Any, axis: int) -> Any:
    p = _shifted(x, axis)
    np.exp(p, out=p)
    total = _sums(p) if axis == x.ndim - 1 else np.sum(p, axis=axis, keepdims=True)
    if not total.all():
        total[total == 0] = 1
    return np.divide(p, total, out=p)


@primitive(lambda g, ans, x, *mask, axis: ans * (g - sum(g * ans, axis, keepdims=True)), None)
def _softmax(x: Any, *mask: Any, axis: int) -> Any:
    return _softmax_of(np.where(mask[0], x, -np.inf) if mask else x, axis)


def softmax(x: Any, axis: int = -1, mask: Any = None) -> Any:
    """Probabilities exp(x) / sum(exp(x)) along an axis, without overflow.

    mask: numbers or booleans that broadcast to x; where it is 0 the probability is exactly 0, whatever x is
    there, and so is the gradient. A row of nothing but -inf, or all masked, gives zeros.
    Result: shape and dtype of x. Raises ShapeError for a mask that does not fit.

    >>> softmax(np.array([1e4, 1e4]))
    array([0.5, 0.5])
    >>> softmax(np.array([1.0, 1.0, 7.0]), mask=[1, 1, 0])
    array([0.5, 0.5, 0. ])
    """
    axis = normalise_axis("softmax", axis, ndim(x))
    if mask is None:
        return _softmax(x, axis=axis)
    shape = x.shape if hasattr(x, "shape") else np.shape(x)
    return _softmax(x, _full("softmax", mask, shape, "scores") != 0, axis=axis)


@primitive(lambda g, ans, x, axis: g - exp(ans) * sum(g, axis, keepdims=True))
def _log_softmax(x: Any, *, axis: int) -> Any:
    z = _shifted(x, axis)
    with np.errstate(divide="ignore"):
        total = np.log(np.sum(np.exp(z), axis=axis, keepdims=True))
    return z - np.where(np.isfinite(total), total, 0).astype(z.dtype)


def log_softmax(x: Any, axis: int = -1) -> Any:
    """The logarithm of `softmax`, precise where probabilities underflow. Shape and dtype of x.

    >>> log_softmax(np.array([0.0, -1e4]))
    array([     0., -10000.])
    """
    return _log_softmax(x, axis=normalise_axis("log_softmax", axis, ndim(x)))


def one_hot(ids: Any, V: int, dtype: Any = np.float64) -> np.ndarray:
    """Rows of zeros with a one at each id: integers (...) to (..., V).

    Raises DtypeError for ids that are no integers, ShapeError for an id outside 0..V-1.

    >>> one_hot([1, 0], 3)
    array([[0., 1., 0.],
           [1., 0., 0.]])
    """
    out: np.ndarray = _one_hot(_labels("one_hot", ids, V), V=V, dtype=np.dtype(dtype))
    return out


@primitive(differentiable=False)
def _one_hot(ids: Any, *, V: int, dtype: Any) -> Any:
    return (ids[..., None] == np.arange(V)).astype(dtype)


def _is_traced(*values: Any) -> bool:
    """Whether any of these is a value that is known only when a compiled program runs."""
    return context().tracer is not None and any(isinstance(x, Operand) for x in values)


def _labels(op: str, labels: Any, V: int, mask: Any = None) -> np.ndarray:
    """Integer labels, all within 0..V-1 where the mask counts them."""
    if not _is_traced(labels):
        labels = np.asarray(labels)
    if labels.dtype.kind not in "iu":
        raise DtypeError(f"{op}: labels must be integers, not {labels.dtype}; use .astype(int)")
    if _is_traced(labels, mask):
        checked: np.ndarray = context().tracer.in_range(labels, V, f"{op}: label", mask)
        return checked
    wrong = (labels < 0) | (labels >= V)
    if mask is not None:
        wrong &= mask != 0
    if wrong.any():
        place = tuple(int(i) for i in np.argwhere(wrong)[0])
        at = f" at index {place}" if place else ""
        raise ShapeError(f"{op}: label {labels[place]}{at} is out of range for {V} classes (0..{V - 1})")
    return labels


@primitive(differentiable=False)
def _one_hot_like(logits: Any, labels: Any) -> Any:
    return (labels[..., None] == np.arange(logits.shape[-1])).astype(logits.dtype)


def _nll_slope_vjp_logits(c: Any, ans: Any, g: Any, logits: Any, labels: Any) -> Any:
    p = softmax(logits)
    return expand_dims(g, -1) * p * (c - sum(c * p, -1, keepdims=True))


def _nll_slope_vjp_g(c: Any, ans: Any, g: Any, logits: Any, labels: Any) -> Any:
    return sum(c * (softmax(logits) - _one_hot_like(logits, labels)), -1)


@primitive(_nll_slope_vjp_g, _nll_slope_vjp_logits, None)
def _nll_slope(g: Any, logits: Any, labels: Any) -> Any:
    """(softmax(logits) - one_hot(labels)) * g: an operation of its own because every training step waits
    for it, and in place it takes a third of the time."""
    # In C order whatever the order of the logits, so that `rows` is a view.
    p = np.ascontiguousarray(_softmax_of(logits, logits.ndim - 1))
    rows = p.reshape(-1, p.shape[-1])
    rows[np.arange(len(rows)), labels.reshape(-1)] -= 1
    p *= g[..., None]
    return p


@primitive(lambda g, ans, logits, labels: _nll_slope(g, logits, labels), None)
def _nll(logits: Any, labels: Any) -> Any:
    """-log softmax(logits)[label] for each row: logits (..., V), labels (...) within range."""
    z = _shifted(logits, -1)
    rows = z.reshape(-1, z.shape[-1])
    picked = rows[np.arange(len(rows)), labels.reshape(-1)].reshape(labels.shape)
    total = _sums(np.exp(z, out=z))
    if not total.all():
        total[total == 0] = 1
    return np.log(total)[..., 0] - picked


def _full(op: str, mask: Any, shape: tuple[int, ...], what: str = "losses") -> np.ndarray:
    """A mask broadcast to the shape of what it masks. Raises ShapeError when it does not fit."""
    traced = _is_traced(mask)
    mask = mask if traced else np.asarray(mask)
    try:
        return broadcast_to(mask, shape) if traced else np.broadcast_to(mask, shape)
    except ValueError:
        raise ShapeError(f"{op}: a mask of shape {mask.shape} does not fit {what} {tuple(shape)}") from None


def _reduced(op: str, losses: Any, mask: Any, reduction: str) -> Any:
    """Mean, sum, or all of element-wise losses; masked elements count neither above nor below the line."""
    if reduction not in ("mean", "sum", "none"):
        raise ValueError(f"{op}: reduction must be 'mean', 'sum' or 'none', not {reduction!r}")
    if mask is None:
        if reduction == "none":
            return losses
        if reduction == "mean" and not losses.size:
            raise ValueError(f"{op}: losses of shape {losses.shape} have no mean")
        return mean_of(losses) if reduction == "mean" else sum(losses)
    weights = _full(op, mask, losses.shape).astype(losses.dtype)
    # `where`, because 0 * inf would let a masked element spoil the sum.
    losses = where(weights != 0, losses, 0) * weights
    if reduction == "none":
        return losses
    total = sum(losses)
    if reduction == "sum":
        return total
    count = weights.sum()
    if _is_traced(count):
        return total / count
    if count == 0:
        raise ValueError(f"{op}: the mask leaves nothing to take the mean of")
    return total / float(count)


def cross_entropy(
    logits: Any, targets: Any, mask: Any = None, reduction: str = "mean", axis: int = -1
) -> Any:
    """Softmax cross-entropy of scores against integer classes, in nats: -log softmax(logits)[target].

    logits: (..., V), or with the classes on `axis`. targets: integers (...). mask: numbers or booleans that
    broadcast to (...), 0 where a target does not count (such a target may be any integer).
    reduction: "mean" (over what counts), "sum" or "none".
    Raises ShapeError for shapes that do not fit and for a label out of range, DtypeError for labels that
    are no integers.

    >>> round(float(cross_entropy(np.zeros((2, 4)), [0, 3])), 4)
    1.3863
    """
    if not _is_traced(targets):
        targets = np.asarray(targets)
    axis = normalise_axis("cross_entropy", axis, ndim(logits))
    if axis != ndim(logits) - 1:
        logits = _classes_last(logits, axis)
    if targets.shape != tuple(logits.shape[:-1]):
        raise ShapeError(
            f"cross_entropy: targets of shape {targets.shape} do not fit logits of shape "
            f"{tuple(logits.shape)}; expected {tuple(logits.shape[:-1])}{_where()}"
        )
    if mask is not None:
        mask = _full("cross_entropy", mask, targets.shape)
    labels = _labels(f"cross_entropy{_where()}", targets, logits.shape[-1], mask)
    if mask is not None:
        labels = where(mask != 0, labels, 0)
    return _reduced("cross_entropy", _nll(logits, labels), mask, reduction)


def _where() -> str:
    scope = context().scope
    return f" in scope {scope!r}" if scope else ""


def _classes_last(x: Any, axis: int) -> Any:
    for a in range(axis, ndim(x) - 1):
        x = swapaxes(x, a, a + 1)
    return x


def binary_cross_entropy_with_logits(
    logits: Any, targets: Any, mask: Any = None, reduction: str = "mean"
) -> Any:
    """Binary cross-entropy of scores before the sigmoid: softplus(x) - x * target, in nats.

    logits, targets: one shape, targets in 0..1; mask and reduction as for `cross_entropy`.
    Raises ShapeError when the shapes differ.

    >>> round(float(binary_cross_entropy_with_logits(np.array([0.0, 1e4]), np.array([1.0, 1.0]))), 4)
    0.3466
    """
    logits, targets = _paired("binary_cross_entropy_with_logits", logits, targets, mask)
    return _reduced("binary_cross_entropy_with_logits", _binary_nll(logits, targets), mask, reduction)


@primitive(lambda g, ans, x, targets: g * (sigmoid(x) - targets), lambda g, ans, x, targets: -g * x)
def _binary_nll(x: Any, targets: Any) -> Any:
    # softplus(x) - x * target without the difference of two large numbers.
    return np.maximum(x, 0) - x * targets + np.log1p(np.exp(-np.abs(x)))


def _log_floor(x: Any) -> Any:
    """log(x), at least -100 so that a probability of exactly 0 costs much but not everything."""
    low = less(x, math.exp(-100.0))
    return where(low, -100.0, log(where(low, 1.0, x)))


def binary_cross_entropy(p: Any, targets: Any, mask: Any = None, reduction: str = "mean") -> Any:
    """Binary cross-entropy of probabilities; logarithms stop at -100, as PyTorch's do.

    p, targets: one shape, in 0..1; mask and reduction as for `cross_entropy`.
    Where scores are at hand, `binary_cross_entropy_with_logits` is more precise.
    Raises ShapeError when the shapes differ.

    >>> round(float(binary_cross_entropy(np.array([0.5]), np.array([1.0]))), 4)
    0.6931
    """
    p, targets = _paired("binary_cross_entropy", p, targets, mask)
    losses = -(targets * _log_floor(p) + (1 - targets) * _log_floor(1 - p))
    return _reduced("binary_cross_entropy", losses, mask, reduction)


def mse(x: Any, targets: Any, mask: Any = None, reduction: str = "mean") -> Any:
    """The squared error (x - target)**2; mask and reduction as for `cross_entropy`.

    Raises ShapeError when the shapes differ: silent broadcasting here is nearly always a mistake.

    >>> float(mse(np.array([1.0, 3.0]), np.array([1.0, 1.0])))
    2.0
    """
    x, targets = _paired("mse", x, targets, mask)
    return _reduced("mse", square(x - targets), mask, reduction)


def _paired(op: str, x: Any, targets: Any, mask: Any) -> tuple[Any, Any]:
    """Predictions and targets of one shape; what is masked becomes 0, so that even NaN there does no harm."""
    if not isinstance(targets, Operand):
        # Data does not widen single precision.
        targets = np.asarray(targets, x.dtype if x.dtype.kind == "f" else None)
    if tuple(x.shape) != tuple(targets.shape):
        raise ShapeError(
            f"{op}: predictions of shape {tuple(x.shape)} against targets of shape "
            f"{tuple(targets.shape)}; reshape one to the other"
        )
    if mask is None:
        return x, targets
    counts = _full(op, mask, x.shape) != 0
    return where(counts, x, 0), where(counts, targets, 0)


# tanh(c x + d x**3) is within 4e-4 of erf(x / sqrt(2)).
_GELU_C = math.sqrt(2 / math.pi)
_GELU_D = 0.044715 * _GELU_C


def _gelu_tanh(x: Any) -> Any:
    # Beyond +-20 it is +-1 to the last digit, and the cube of x could overflow.
    x = clip(x, -20.0, 20.0)
    return tanh(x * (_GELU_C + _GELU_D * (x * x)))


def _gelu_vjp(g: Any, ans: Any, x: Any) -> Any:
    t, x = _gelu_tanh(x), clip(x, -20.0, 20.0)
    slope = _GELU_C + 3 * _GELU_D * (x * x)
    return g * (0.5 * (1 + t + x * ((1 - t * t) * slope)))


@primitive(_gelu_vjp)
def _gelu(x: Any) -> Any:
    out = 1 + _gelu_tanh(x)
    out *= x
    out *= 0.5
    return out


def gelu(x: Any) -> Any:
    """x times the probability that a standard normal number is below x, in its tanh approximation.

    PyTorch's `gelu(x, approximate="tanh")`. Shape and dtype of x.
    Source: Hendrycks, Gimpel, "Gaussian Error Linear Units (GELUs)" (2016), section 2.

    >>> gelu(np.array([-100.0, 0.0, 1.0])).round(4)
    array([-0.    ,  0.    ,  0.8412])
    """
    return _gelu(x)


def layer_norm(x: Any, weight: Any = None, bias: Any = None, axis: Any = -1, eps: float = 1e-5) -> Any:
    """(x - mean) / sqrt(var + eps) over the axes, times weight plus bias.

    x: any shape; weight, bias: the lengths of `axis` (broadcast against x). Biased variance.
    Source: Ba, Kiros, Hinton, "Layer Normalization" (2016), equation 3.

    >>> layer_norm(np.array([[1.0, 3.0]])).round(3)
    array([[-1.,  1.]])
    """
    out = _normalise(x, axes=normalise_axes("layer_norm", axis, ndim(x)), eps=eps)
    if weight is not None:
        out = out * weight
    return out if bias is None else out + bias


def _normalise_vjp(g: Any, ans: Any, x: Any, axes: tuple[int, ...], eps: float) -> Any:
    scale = sqrt(var(x, axes, keepdims=True) + eps)
    return (g - mean_of(g, axes, keepdims=True) - ans * mean_of(g * ans, axes, keepdims=True)) / scale


@primitive(_normalise_vjp, name="layer_norm")
def _normalise(x: Any, *, axes: tuple[int, ...], eps: float) -> Any:
    centred = x - np.mean(x, axis=axes, keepdims=True)
    return centred / np.sqrt(np.mean(np.square(centred), axis=axes, keepdims=True) + eps)


def dropout(x: Any, p: float = 0.5, training: bool = True, seed: Seed = None) -> Any:
    """Zero each element with probability p and divide the others by 1 - p; nothing when not training.

    seed: an int or a Generator; by default tensorgrad's own generator (see `tg.manual_seed`).
    Raises ValueError unless 0 <= p <= 1.
    Source: Srivastava et al., "Dropout" (2014), in its inverted form.

    >>> dropout(np.ones(4), p=0.0)
    array([1., 1., 1., 1.])
    """
    if not 0 <= p <= 1:
        raise ValueError(f"dropout: p is a probability, 0 to 1, not {p}")
    if not training or p == 0:
        return x
    keep = draw(seed, lambda rng, shape: rng.random(shape) >= p, x.shape)
    scale = 0.0 if p == 1 else 1 / (1 - float(p))
    return where(keep, x, 0) * scale
