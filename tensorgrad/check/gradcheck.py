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
    `tolerance` or `fn` gives another result the second time, DtypeError when there is nothing to check, and
    ValueError for another order.

    >>> import tensorgrad as tg
    >>> [row.name for row in tg.gradcheck(tg.tanh, [np.array([0.3, -0.2])], order=2)]
    ['input 0', 'input 0']
    """
    if order not in (1, 2):
        raise ValueError(f"gradcheck: order is 1 or 2, not {order!r}")
    subject = _Subject(fn, inputs, seed)
    rows = subject.first_order(step)
    if order == 2:
        rows += subject.second_order(step)
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


class _Subject:
    """A function and the inputs at which it is checked, weighted to give one number."""

    def __init__(self, fn: Callable[..., Any], inputs: Sequence[Any], seed: int) -> None:
        self.fn = fn
        # A stream of its own: weights equal to inputs drawn from the same seed can hide a gradient.
        self.rng = np.random.default_rng([seed, _STREAM])
        self.weights: np.ndarray | None = None
        self.arrays: list[np.ndarray] = []
        self.checked: list[int] = []
        self.names: list[str] = []
        for number, x in enumerate(inputs):
            # In C order, because differences are taken by changing elements in place.
            array = np.array(x, order="C")
            if array.dtype.kind == "f":
                array = array.astype(np.float64)
                self.checked.append(number)
                self.names.append(getattr(x, "name", None) or f"input {number}")
            self.arrays.append(array)
        if not self.checked:
            raise DtypeError("gradcheck: no input is a float array, so there is no gradient to check")
        self.targets = [self.arrays[number] for number in self.checked]

    def leaves(self) -> list[Tensor]:
        """The checked inputs as they are now, as fresh Tensors."""
        return [Tensor(array.copy(), requires_grad=True) for array in self.targets]

    def weighted(self, leaves: Sequence[Any], order: int) -> Any:
        """The result, each element weighted; their sum is the number that is differentiated."""
        call: list[Any] = list(self.arrays)
        for number, leaf in zip(self.checked, leaves, strict=True):
            call[number] = leaf
        out = self.fn(*call)
        if not isinstance(out, Tensor):
            raise DtypeError(f"gradcheck: the function must return a Tensor, not {type(out).__name__}")
        if self.weights is None:
            self.weights = self.rng.standard_normal(out.shape)
        # The second order needs a cotangent that depends on the inputs, as it does in a longer graph.
        return out * self.weights if order == 1 else out * (self.weights + 0.5 * out)

    def slopes(self, leaves: list[Any], order: int, create_graph: bool = False) -> list[Any]:
        """The gradients in the leaves."""
        out = self.weighted(leaves, order).sum()
        if not out.requires_grad:
            return [Tensor(np.zeros(x.shape)) if create_graph else np.zeros(x.shape) for x in leaves]
        return grad(out, leaves, create_graph=create_graph)

    def first_order(self, step: float) -> list[GradcheckRow]:
        """Gradients against differences of values. Raises GradientError for values that do not repeat."""

        def values() -> Any:
            return self.weighted(self.leaves(), 1).numpy()

        found = self.slopes(self.leaves(), 1, create_graph=False)
        terms = values()
        if not np.array_equal(terms, values(), equal_nan=True):
            raise GradientError(
                "gradcheck: the function gave two different results for the same inputs, so differences mean "
                "nothing; switch dropout off (eval()) or give every draw a fixed seed"
            )
        return _compare(found, lambda: values().sum(), [terms], self.targets, self.names, 1, step)

    def second_order(self, step: float) -> list[GradcheckRow]:
        """Gradients of the slope along a random direction, against differences of that slope."""
        directions = [self.rng.standard_normal(x.shape) for x in self.targets]

        def along(params: list[Any]) -> Any:
            gs = self.slopes(params, 2, create_graph=True)
            parts = ((g * v).sum() for g, v in zip(gs, directions, strict=True))
            return sum(parts, start=Tensor(np.zeros(())))

        def terms() -> list[Any]:
            gs = self.slopes(self.leaves(), 2, create_graph=False)
            return [g * v for g, v in zip(gs, directions, strict=True)]

        found = value_and_grad(along)(self.leaves())[1]
        rounded = [self.weighted(self.leaves(), 2).numpy(), *terms()]
        return _compare(
            found, lambda: float(sum(t.sum() for t in terms())), rounded, self.targets, self.names, 2, step
        )


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
