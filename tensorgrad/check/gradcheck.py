"""Gradients against central differences.

The yardstick is the norm-wise relative error of a whole tensor, ||a - b|| / max(||a||, ||b||): element by
element, correct gradients that happen to be near zero look arbitrarily wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from tensorgrad.errors import DtypeError, GradientError
from tensorgrad.tensor import Tensor
from tensorgrad.transforms import grad, value_and_grad

__all__ = ["GradcheckRow", "central_differences", "gradcheck", "norm_error"]


_STREAM = 0x67C4


class GradcheckRow(NamedTuple):
    """One checked tensor: its name, order of derivative, norms of both gradients, and their error.

    rounding: the error that rounding in the values of the function can make by itself.
    """

    name: str
    order: int
    norm: float
    norm_numeric: float
    error: float
    rounding: float


def norm_error(a: Any, b: Any) -> float:
    """||a - b|| / max(||a||, ||b||); 0 for two zero arrays, infinite for other shapes or values not finite.

    >>> norm_error([3.0, 4.0], [3.0, 4.0])
    0.0
    """
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    if a.shape != b.shape or not (np.isfinite(a).all() and np.isfinite(b).all()):
        return float("inf")
    scale = max(float(np.linalg.norm(a)), float(np.linalg.norm(b)))
    return float(np.linalg.norm(a - b)) / scale if scale else 0.0


def central_differences(fn: Callable[[], float], array: np.ndarray, step: float = 1e-6) -> np.ndarray:
    """The gradient of `fn()` in a float64 array that it reads, by (f(x + d) - f(x - d)) / 2d.

    Each element is changed in place for two calls and then put back. d is `step` times max(1, |element|).

    >>> x = np.array([1.0, 2.0])
    >>> central_differences(lambda: float((x**2).sum()), x).round(6)
    array([2., 4.])
    """
    out = np.zeros_like(array)
    flat, slopes = array.reshape(-1), out.reshape(-1)
    if flat.size and not np.shares_memory(flat, array):
        raise DtypeError("central_differences: the array must be contiguous, to be changed in place")
    for i in range(flat.size):
        kept = flat[i]
        d = step * max(1.0, abs(kept))
        flat[i] = kept + d
        above = fn()
        flat[i] = kept - d
        below = fn()
        flat[i] = kept
        slopes[i] = (above - below) / (2 * d)
    return out


def gradcheck(
    fn: Callable[..., Any],
    inputs: Sequence[Any],
    order: int = 1,
    tolerance: float = 1e-6,
    step: float = 1e-6,
    seed: int = 0,
) -> list[GradcheckRow]:
    """Check the gradients of `fn` in every float input against central differences, in float64.

    fn: `(*inputs) -> Tensor` of any shape; it is weighted with random numbers to make one number of it.
    inputs: arrays or Tensors; floats are checked (as float64), integers and booleans are passed on.
    order: 2 also checks the gradient of the gradient, along a random direction.
    A difference that rounding in the values of `fn` can make by itself is not held against a gradient.
    Returns a row for each input and order. Raises GradientError, with the table, when an error exceeds
    `tolerance`, and DtypeError when there is nothing to check.

    >>> import tensorgrad as tg
    >>> [row.name for row in tg.gradcheck(tg.tanh, [np.array([0.3, -0.2])], order=2)]
    ['input 0', 'input 0']
    """
    # A stream of its own: weights equal to inputs drawn from the same seed can hide a gradient.
    rng = np.random.default_rng([seed, _STREAM])
    arrays, names, checked = [], [], []
    for number, x in enumerate(inputs):
        # In C order, because differences are taken by changing elements in place.
        array = np.array(x, order="C")
        is_float = array.dtype.kind == "f"
        arrays.append(array.astype(np.float64) if is_float else array)
        names.append(getattr(x, "name", None) or f"input {number}")
        if is_float:
            checked.append(number)
    if not checked:
        raise DtypeError("gradcheck: no input is a float array, so there is no gradient to check")

    weights: list[np.ndarray] = []

    def weighted(leaves: Sequence[Any], order: int) -> Any:
        call = list(arrays)
        for number, leaf in zip(checked, leaves, strict=True):
            call[number] = leaf
        out = fn(*call)
        if not isinstance(out, Tensor):
            raise DtypeError(f"gradcheck: the function must return a Tensor, not {type(out).__name__}")
        if not weights:
            weights.append(rng.standard_normal(out.shape))
        # The second order needs a cotangent that depends on the inputs, as it does in a longer graph.
        return out * weights[0] if order == 1 else out * (weights[0] + 0.5 * out)

    def slopes(leaves: list[Any], order: int, create_graph: bool = False) -> Any:
        out = weighted(leaves, order).sum()
        if not out.requires_grad:
            return [Tensor(np.zeros(x.shape)) if create_graph else np.zeros(x.shape) for x in leaves]
        return grad(out, leaves, create_graph=create_graph)

    def fresh() -> list[Tensor]:
        return [Tensor(arrays[number].copy(), requires_grad=True) for number in checked]

    targets = [arrays[number] for number in checked]
    labels = [names[k] for k in checked]
    first = slopes(fresh(), 1)
    terms = [weighted(fresh(), 1).numpy()]
    if not np.array_equal(terms[0], weighted(fresh(), 1).numpy(), equal_nan=True):
        raise GradientError(
            "gradcheck: the function gave two different results for the same inputs, so differences mean "
            "nothing; switch dropout off (eval()) or give every draw a fixed seed"
        )
    rows = _compare(first, lambda: weighted(fresh(), 1).numpy().sum(), terms, targets, labels, 1, step)
    if order >= 2:
        directions = [rng.standard_normal(x.shape) for x in targets]

        def along(params: list[Any]) -> Any:
            gs = slopes(params, 2, create_graph=True)
            return sum(
                ((g * v).sum() for g, v in zip(gs, directions, strict=True)), start=Tensor(np.zeros(()))
            )

        def along_value() -> float:
            gs = slopes(fresh(), 2)
            return float(sum((g * v).sum() for g, v in zip(gs, directions, strict=True)))

        second = value_and_grad(along)(fresh())[1]
        gs = slopes(fresh(), 2)
        terms = [weighted(fresh(), 2).numpy(), *(g * v for g, v in zip(gs, directions, strict=True))]
        rows += _compare(second, along_value, terms, targets, labels, 2, step)
    bad = [row for row in rows if not row.error <= max(tolerance, row.rounding) or np.isinf(row.error)]
    if bad:
        lines = "\n".join(
            f"  {row.name}, order {row.order}: norm {row.norm:.6g}, by differences {row.norm_numeric:.6g}, "
            f"error {row.error:.3g}"
            for row in bad
        )
        raise GradientError(
            f"gradcheck: gradients differ from central differences by more than {tolerance}\n{lines}"
        )
    return rows


def _compare(
    slopes: Sequence[Any],
    value: Callable[[], float],
    terms: Sequence[np.ndarray],
    arrays: Sequence[np.ndarray],
    names: Sequence[str],
    order: int,
    step: float,
) -> list[GradcheckRow]:
    """A row for each gradient of `value`, which is the sum of all `terms`."""
    rows = []
    # A sum is rounded by some eps of its terms' magnitude, and a difference divides that by the step.
    rounding = 8 * float(np.finfo(np.float64).eps) * sum(float(np.abs(t).sum()) for t in terms) / step
    for g, array, name in zip(slopes, arrays, names, strict=True):
        numeric = central_differences(value, array, step)
        g = np.asarray(g)
        norms = float(np.linalg.norm(g)), float(np.linalg.norm(numeric))
        share = rounding * array.size**0.5 / (max(norms) or 1.0)
        rows.append(GradcheckRow(name, order, *norms, norm_error(g, numeric), share))
    return rows
