"""The `Op` record: everything about one operation in one place, and the constructors of op families.

An operation is called with operands (arrays, Tensors, or other `Operand`s) by position and static
parameters by keyword. On plain arrays it is NumPy and nothing else; as soon as one operand is a Tensor,
that operand takes over and records.

A gradient rule is `rule(g, ans, *operands, **params) -> cotangent of one operand`, where `g` is the
cotangent of the result `ans`. Rules use operators, methods and the package's own operations, never `np.`
functions, so the same rule works on arrays (the fast first-order backward) and on Tensors (gradients that
can be differentiated again). A rule may leave the sum over broadcast axes to the backward walk when the op
is declared with `broadcasts=True`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial, update_wrapper
from typing import Any

from tensorgrad.context import context
from tensorgrad.errors import DtypeError, GraphError, operand_error
from tensorgrad.graph import Operand

__all__ = ["Op", "Rule", "Variadic", "binary", "defop", "nondifferentiable", "primitive", "registry", "unary"]

Rule = Callable[..., Any]

registry: dict[str, Callable[..., Any]] = {}
"""Every public operation by its NumPy name, so that `np.tanh(tensor)` finds `tanh`."""


class Op:
    """One operation.

    name: as shown in errors, drawings and tables.
    forward: the NumPy function `(*arrays, **params) -> array`.
    vjps: a gradient rule for each operand (None where no gradient exists), or, if `joint`, one function
        that returns the cotangents of all operands.
    broadcasts: whether operands broadcast against each other, so that cotangents may need summing.
    differentiable: whether the result can carry a gradient at all.
    expand: for a node that stands for a piece of graph to recompute, the function that does so:
        `node -> [(an output or None, its new node), ...]`.
    """

    __slots__ = ("broadcasts", "differentiable", "expand", "forward", "joint", "name", "vjps")

    def __init__(
        self,
        name: str,
        forward: Callable[..., Any],
        vjps: Any = (),
        *,
        joint: bool = False,
        broadcasts: bool = False,
        differentiable: bool = True,
        expand: Callable[[Any], Iterable[tuple[Any, Any]]] | None = None,
    ) -> None:
        self.name = name
        self.forward = forward
        self.vjps = vjps
        self.joint = joint
        self.broadcasts = broadcasts
        self.differentiable = differentiable
        self.expand = expand

    def missing_rule(self, argnum: int) -> GraphError:
        """The error for an operand that needs a gradient but was given no rule."""
        return GraphError(
            f"{self.name} has gradient rules for {len(self.vjps)} operands, but operand {argnum} needs a "
            "gradient; give one rule for each operand, None where there is no gradient"
        )

    def no_array(self, argnum: int, share: Any) -> GraphError:
        """The error for a gradient rule that gave something else than an array."""
        return GraphError(
            f"the gradient rule of {self.name} for operand {argnum} gave {share!r}, which is no array; "
            "give an array or Tensor of the operand's shape, or None"
        )

    def __repr__(self) -> str:
        return f"<op {self.name}>"


class Variadic:
    """The rules of an operation with any number of operands: `rule(argnum, g, ans, *operands)`."""

    __slots__ = ("rule",)

    def __init__(self, rule: Rule) -> None:
        self.rule = rule

    def __getitem__(self, argnum: int) -> Rule:
        return partial(self.rule, argnum)


def make_callable(op: Op) -> Callable[..., Any]:
    """The function that users and rules call for an op."""
    forward = op.forward

    def call(*operands: Any, **params: Any) -> Any:
        if params:
            for key, value in params.items():
                if isinstance(value, Operand):
                    raise DtypeError(
                        f"{op.name}: give the Tensor {key!r} by position; by keyword it has no gradient"
                    )
        for operand in operands:
            if isinstance(operand, Operand):
                return operand.apply_op(op, operands, params)
            if operand.__class__ in (list, tuple) and any(isinstance(x, Operand) for x in operand):
                raise DtypeError(
                    f"{op.name}: an operand is a {type(operand).__name__} of Tensors, which would lose their "
                    "gradients; join them with tg.stack or tg.concatenate first"
                )
        try:
            return forward(*operands, **params)
        except (ValueError, TypeError, IndexError, KeyError, OverflowError) as cause:
            raise operand_error(op.name, operands, params, context().scope, cause) from None

    update_wrapper(call, forward)
    call.__name__ = call.__qualname__ = op.name
    call.op = op  # type: ignore[attr-defined]
    return call


def primitive(
    *vjps: Rule | Variadic | None, name: str | None = None, **options: Any
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Decorator: make a NumPy function an operation with one gradient rule for each operand.

    `options` are those of `Op`. A single `Variadic` stands for any number of operands; with `joint=True`
    the one function given returns all cotangents.
    """
    rules: Any = vjps
    if len(vjps) == 1 and (options.get("joint") or isinstance(vjps[0], Variadic)):
        rules = vjps[0]

    def decorate(forward: Callable[..., Any]) -> Callable[..., Any]:
        return make_callable(Op(name or forward.__name__.strip("_"), forward, rules, **options))

    return decorate


def unary(vjp: Rule | None) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Decorator for an element-wise operation of one operand; registers it under its NumPy name."""

    def decorate(forward: Callable[..., Any]) -> Callable[..., Any]:
        fn = primitive(vjp)(forward)
        registry[fn.__name__] = fn
        return fn

    return decorate


def binary(vjp_x: Rule | None, vjp_y: Rule | None) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Decorator for an element-wise operation of two operands that broadcast; registers it."""

    def decorate(forward: Callable[..., Any]) -> Callable[..., Any]:
        fn = primitive(vjp_x, vjp_y, broadcasts=True)(forward)
        registry[fn.__name__] = fn
        return fn

    return decorate


def nondifferentiable(forward: Callable[..., Any]) -> Callable[..., Any]:
    """Decorator for an operation whose result never carries a gradient, such as a comparison."""
    fn = primitive(broadcasts=True, differentiable=False)(forward)
    registry[fn.__name__] = fn
    return fn


def public(fn: Callable[..., Any]) -> Callable[..., Any]:
    """Decorator: register a function built from operations under its NumPy name."""
    registry[fn.__name__] = fn
    return fn


def defop(
    name: str, forward: Callable[..., Any], *vjps: Rule | None, broadcasts: bool = False
) -> Callable[..., Any]:
    """Define an operation of your own.

    name: shown in errors and drawings.
    forward: `(*arrays, **params) -> array`, in NumPy.
    vjps: one rule for each operand, `rule(g, ans, *operands, **params) -> cotangent of that operand`, or
        None for an operand without a gradient. Written with tensorgrad's operations and operators, a rule
        can be differentiated again.
    broadcasts: whether operands broadcast; the backward walk then sums cotangents back to their shape.

    Returns a function of arrays and Tensors: operands by position, parameters by keyword.

    >>> import numpy as np, tensorgrad as tg
    >>> cube = tg.defop("cube", lambda x: x**3, lambda g, ans, x: g * 3 * x**2)
    >>> x = tg.tensor(2.0, requires_grad=True)
    >>> tg.grad(cube(x), [x])[0]
    array(12.)
    """
    return make_callable(Op(name, forward, vjps, broadcasts=broadcasts))
