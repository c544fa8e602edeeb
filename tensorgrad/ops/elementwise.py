"""Element-wise operations. Operands broadcast as in NumPy; so do dtypes.

At a kink the gradient is the one PyTorch gives: 0 for `abs` and `relu` at 0, half each for `maximum` and
`minimum` of equal operands, all of it for `clip` at a bound.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tensorgrad.graph import Operand, as_constant
from tensorgrad.op import binary, nondifferentiable, primitive, public, registry, unary

# --- arithmetic ------------------------------------------------------------------------------------------


@binary(lambda g, ans, x, y: g, lambda g, ans, x, y: g)
def add(x: Any, y: Any) -> Any:
    """x + y.

    >>> add(1.0, [1.0, 2.0])
    array([2., 3.])
    """
    return np.add(x, y)


@binary(lambda g, ans, x, y: g, lambda g, ans, x, y: -g)
def subtract(x: Any, y: Any) -> Any:
    """x - y.

    >>> subtract(1.0, [1.0, 2.0])
    array([ 0., -1.])
    """
    return np.subtract(x, y)


@binary(lambda g, ans, x, y: g * y, lambda g, ans, x, y: g * x)
def multiply(x: Any, y: Any) -> Any:
    """x * y, element by element.

    >>> multiply(2.0, [1.0, 2.0])
    array([2., 4.])
    """
    return np.multiply(x, y)


@binary(lambda g, ans, x, y: g / y, lambda g, ans, x, y: -g * ans / y)
def divide(x: Any, y: Any) -> Any:
    """x / y; integers divide to floats.

    >>> divide(1, [1, 2])
    array([1. , 0.5])
    """
    return np.divide(x, y)


def _power_vjp_x(g: Any, ans: Any, x: Any, y: Any) -> Any:
    # x**0 is 1 everywhere: its slope is 0 also at x = 0, where y * x**(y - 1) would be 0 * inf.
    flat = equal(y, 0)
    return g * where(flat, 0, y * power(x, where(flat, 1, y - 1)))


def _power_vjp_y(g: Any, ans: Any, x: Any, y: Any) -> Any:
    return g * ans * log(where(greater(x, 0), x, 1))


@binary(_power_vjp_x, _power_vjp_y)
def power(x: Any, y: Any) -> Any:
    """x ** y. The gradient in y counts x <= 0 as constant.

    >>> power([1.0, 2.0], 3)
    array([1., 8.])
    """
    return np.power(x, y)


@unary(lambda g, ans, x: -g)
def negative(x: Any) -> Any:
    """-x.

    >>> negative([1.0, -2.0])
    array([-1.,  2.])
    """
    return np.negative(x)


@unary(lambda g, ans, x: g * sign(x))
def abs(x: Any) -> Any:
    """|x|.

    >>> abs([1.0, -2.0])
    array([1., 2.])
    """
    return np.abs(x)


@unary(None)
def sign(x: Any) -> Any:
    """-1, 0 or 1; its gradient is zero.

    >>> sign([3.0, -2.0, 0.0])
    array([ 1., -1.,  0.])
    """
    return np.sign(x)


@unary(lambda g, ans, x: g * (2 * x))
def square(x: Any) -> Any:
    """x * x.

    >>> square([1.0, -2.0])
    array([1., 4.])
    """
    return np.square(x)


@unary(lambda g, ans, x: g / (2 * ans))
def sqrt(x: Any) -> Any:
    """The square root; its gradient at 0 is infinite.

    >>> sqrt([4.0, 9.0])
    array([2., 3.])
    """
    return np.sqrt(x)


@unary(lambda g, ans, x: -g * ans * ans)
def reciprocal(x: Any) -> Any:
    """1 / x.

    >>> reciprocal([2.0, 4.0])
    array([0.5 , 0.25])
    """
    return np.reciprocal(x)


# --- comparison and choice -------------------------------------------------------------------------------


@nondifferentiable
def equal(x: Any, y: Any) -> Any:
    """Whether x == y, element by element."""
    return np.equal(x, y)


@nondifferentiable
def not_equal(x: Any, y: Any) -> Any:
    """Whether x != y, element by element."""
    return np.not_equal(x, y)


@nondifferentiable
def less(x: Any, y: Any) -> Any:
    """Whether x < y, element by element."""
    return np.less(x, y)


@nondifferentiable
def less_equal(x: Any, y: Any) -> Any:
    """Whether x <= y, element by element."""
    return np.less_equal(x, y)


@nondifferentiable
def greater(x: Any, y: Any) -> Any:
    """Whether x > y, element by element."""
    return np.greater(x, y)


@nondifferentiable
def greater_equal(x: Any, y: Any) -> Any:
    """Whether x >= y, element by element."""
    return np.greater_equal(x, y)


@nondifferentiable
def logical_and(x: Any, y: Any) -> Any:
    """Whether both are true, element by element."""
    return np.logical_and(x, y)


@nondifferentiable
def logical_or(x: Any, y: Any) -> Any:
    """Whether either is true, element by element."""
    return np.logical_or(x, y)


@nondifferentiable
def logical_not(x: Any) -> Any:
    """Whether x is false, element by element."""
    return np.logical_not(x)


@nondifferentiable
def bitwise_and(x: Any, y: Any) -> Any:
    """x & y: of booleans whether both are true, of integers the bits that both have."""
    return np.bitwise_and(x, y)


@nondifferentiable
def bitwise_or(x: Any, y: Any) -> Any:
    """x | y: of booleans whether either is true, of integers the bits that either has."""
    return np.bitwise_or(x, y)


@nondifferentiable
def bitwise_xor(x: Any, y: Any) -> Any:
    """x ^ y: of booleans whether they differ, of integers the bits that differ."""
    return np.bitwise_xor(x, y)


@nondifferentiable
def invert(x: Any) -> Any:
    """~x: of booleans the opposite, of integers all bits the other way."""
    return np.invert(x)


@nondifferentiable
def isfinite(x: Any) -> Any:
    """Whether x is neither NaN nor infinite, element by element."""
    return np.isfinite(x)


def _chosen(g: Any, x: Any, y: Any, won: Any) -> Any:
    """One operand's share of a cotangent: all of it where it was chosen, half at a tie."""
    return where(equal(x, y), g / 2, where(won, g, 0))


@binary(
    lambda g, ans, x, y: _chosen(g, x, y, greater(x, y)),
    lambda g, ans, x, y: _chosen(g, x, y, greater(y, x)),
)
def maximum(x: Any, y: Any) -> Any:
    """The larger of x and y, element by element.

    >>> maximum([1.0, 5.0], 2.0)
    array([2., 5.])
    """
    return np.maximum(x, y)


@binary(
    lambda g, ans, x, y: _chosen(g, x, y, less(x, y)),
    lambda g, ans, x, y: _chosen(g, x, y, less(y, x)),
)
def minimum(x: Any, y: Any) -> Any:
    """The smaller of x and y, element by element.

    >>> minimum([1.0, 5.0], 2.0)
    array([1., 2.])
    """
    return np.minimum(x, y)


@primitive(
    None,
    lambda g, ans, condition, x, y: where(condition, g, 0),
    lambda g, ans, condition, x, y: where(condition, 0, g),
    broadcasts=True,
)
def _where(condition: Any, x: Any, y: Any) -> Any:
    return np.where(condition, x, y)


def _beside(number: Any, other: Any) -> Any:
    """A Python number in the dtype that it takes beside another operand."""
    dtype = getattr(other, "dtype", None)
    return as_constant(number, dtype) if dtype is not None and type(number) in (int, float) else number


@public
def where(condition: Any, x: Any, y: Any) -> Any:
    """x where the condition holds, y elsewhere. What was not chosen gets gradient 0, never NaN.

    >>> where([True, False], 1.0, 2.0)
    array([1., 2.])
    """
    if isinstance(condition, Operand):
        # The condition would otherwise be the Tensor whose dtype Python numbers take.
        x, y = _beside(x, y), _beside(y, x)
    return _where(condition, x, y)


@public
def clip(x: Any, a_min: Any = None, a_max: Any = None) -> Any:
    """x limited to a_min from below and a_max from above; None is no limit.

    The gradient passes where x lies within the limits, the limits themselves included.

    >>> clip([-3.0, 0.5, 3.0], -1.0, 1.0)
    array([-1. ,  0.5,  1. ])
    """
    if a_min is not None:
        x = where(less(x, a_min), a_min, x)
    if a_max is not None:
        x = where(greater(x, a_max), a_max, x)
    return x


# --- functions -------------------------------------------------------------------------------------------


@unary(lambda g, ans, x: g * ans)
def exp(x: Any) -> Any:
    """e ** x.

    >>> exp([0.0, 1.0]).round(3)
    array([1.   , 2.718])
    """
    return np.exp(x)


@unary(lambda g, ans, x: g * (ans + 1))
def expm1(x: Any) -> Any:
    """exp(x) - 1, precise near 0.

    >>> expm1([0.0, 1e-12])
    array([0.e+00, 1.e-12])
    """
    return np.expm1(x)


@unary(lambda g, ans, x: g / x)
def log(x: Any) -> Any:
    """The natural logarithm.

    >>> log([1.0, 100.0]).round(3)
    array([0.   , 4.605])
    """
    return np.log(x)


@unary(lambda g, ans, x: g / (1 + x))
def log1p(x: Any) -> Any:
    """log(1 + x), precise near 0.

    >>> log1p([0.0, 1e-12])
    array([0.e+00, 1.e-12])
    """
    return np.log1p(x)


@unary(lambda g, ans, x: g * (1 - ans * ans))
def tanh(x: Any) -> Any:
    """The hyperbolic tangent, the nonlinearity of the vanilla RNN.

    >>> tanh([0.0, 1e4])
    array([0., 1.])
    """
    return np.tanh(x)


@unary(lambda g, ans, x: g * (ans * (1 - ans)))
def sigmoid(x: Any) -> Any:
    """1 / (1 + exp(-x)), without overflow and precise in both tails.

    >>> sigmoid([0.0, 1e4, -1e4])
    array([0.5, 1. , 0. ])
    """
    x = np.asarray(x)
    # exp only ever sees numbers <= 0.
    decay = np.exp(-np.abs(x))
    one = np.ones((), decay.dtype)
    return np.where(x >= 0, one, decay) / (one + decay)


@unary(lambda g, ans, x: where(greater(x, 0), g, 0))
def relu(x: Any) -> Any:
    """max(x, 0).

    >>> relu([-1.0, 2.0])
    array([0., 2.])
    """
    x = np.asarray(x)
    return np.maximum(x, np.zeros((), x.dtype))


@unary(lambda g, ans, x: g * sigmoid(x))
def softplus(x: Any) -> Any:
    """log(1 + exp(x)), without overflow.

    >>> softplus([-1e4, 1e4])
    array([    0., 10000.])
    """
    x = np.asarray(x)
    return np.maximum(x, np.zeros((), x.dtype)) + np.log1p(np.exp(-np.abs(x)))


@unary(lambda g, ans, x: g * cos(x))
def sin(x: Any) -> Any:
    """The sine of x in radians.

    >>> sin([0.0])
    array([0.])
    """
    return np.sin(x)


@unary(lambda g, ans, x: -g * sin(x))
def cos(x: Any) -> Any:
    """The cosine of x in radians.

    >>> cos([0.0])
    array([1.])
    """
    return np.cos(x)


@primitive(lambda g, ans, x, dtype: g)
def _astype(x: Any, *, dtype: Any) -> Any:
    return x.astype(dtype)


@public
def astype(x: Any, dtype: Any) -> Any:
    """x in another dtype; the gradient comes back in the dtype of x. No gradient passes to integers.

    >>> astype(np.ones(2), "float32").dtype
    dtype('float32')
    """
    dtype = np.dtype(dtype)
    if dtype.kind in "fc":
        return _astype(x, dtype=dtype)
    return _to_integer(x, dtype=dtype)


@primitive(differentiable=False)
def _to_integer(x: Any, *, dtype: Any) -> Any:
    return x.astype(dtype)


registry["absolute"] = abs
registry["true_divide"] = divide
