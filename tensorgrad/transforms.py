"""Gradients of functions and of recorded results: grad, value_and_grad, vjp, jvp, jacobian, hvp, checkpoint.

All of them walk the one graph with the one set of rules. `jvp` is the transpose of the transpose: the
gradient of a vjp with respect to its cotangent.

A transform called while another differentiates the code around it records its own gradients, so transforms
nest without further ado: `value_and_grad` of a function that calls `value_and_grad` is a second derivative.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from functools import update_wrapper
from typing import Any

import numpy as np

from tensorgrad import tree
from tensorgrad.backward import backpropagate
from tensorgrad.context import Context, configure, context
from tensorgrad.errors import GraphError, ShapeError
from tensorgrad.graph import Node
from tensorgrad.op import Op, Rule, make_callable
from tensorgrad.ops import reshape, stack
from tensorgrad.random import DrawLog
from tensorgrad.tensor import Tensor, seed_of, tensor

__all__ = ["checkpoint", "custom_vjp", "grad", "hvp", "jacobian", "jvp", "value_and_grad", "vjp"]


def grad(
    output: Tensor,
    inputs: Sequence[Tensor] | Tensor,
    grad_output: Any = None,
    create_graph: bool | None = None,
) -> list[Any]:
    """The gradients of a result with respect to any Tensors of its graph, intermediate ones included.

    output: one number, or any shape with a cotangent `grad_output` of that shape.
    inputs: a sequence of Tensors that require a gradient. One that `output` does not depend on gets zeros.
    create_graph: whether the gradients can themselves be differentiated. None means: if the code around is
        being differentiated by a transform.
    Returns an ndarray for each input, in its shape and dtype; with `create_graph` a Tensor. Leaves `x.grad`
    alone.
    Raises GraphError for an output or input without gradient, ShapeError for a wrong cotangent.

    >>> import tensorgrad as tg
    >>> x = tg.tensor(3.0, requires_grad=True)
    >>> h = x * x
    >>> tg.grad(h * 2, [h, x])
    [array(2.), array(12.)]
    """
    if not isinstance(output, Node):
        raise GraphError(f"grad: the output must be a Tensor, not {type(output).__name__}")
    if isinstance(inputs, Node):
        raise GraphError("grad: inputs is a list of Tensors; write tg.grad(loss, [x])")
    inputs = list(inputs)
    for number, x in enumerate(inputs):
        if not isinstance(x, Node) or not x.requires_grad:
            what = x.describe() if isinstance(x, Node) else repr(x)
            raise GraphError(f"grad: input {number} ({what}) does not require a gradient")
    if create_graph is None:
        create_graph = context().nested
    tracer = context().tracer
    if create_graph and isinstance(grad_output, Node):
        if grad_output._value.shape != output._value.shape:
            raise ShapeError(
                f"a cotangent of shape {grad_output._value.shape} does not fit {output.describe()}"
            )
        seed: Any = grad_output
    else:
        seed = seed_of(output, grad_output)
        if create_graph and not isinstance(seed, Node):
            seed = Tensor(seed)
    if tracer is not None:
        # The rules themselves write down the backward program.
        results = tracer.effects.gradients(output, seed, inputs)
        results = [_result(g, x, create_graph=True) for g, x in zip(results, inputs, strict=True)]
        if create_graph:
            return results
        return [tracer.as_array(g, x.name) for g, x in zip(results, inputs, strict=True)]
    found = backpropagate([(output, seed)], inputs, create_graph)
    return [_result(found.get(x.index), x, create_graph) for x in inputs]


def _result(g: Any, x: Tensor, create_graph: bool) -> Any:
    if create_graph:
        return g if isinstance(g, Node) else Tensor(np.zeros(x._value.shape, x._value.dtype))
    # A copy, because contributions may be views of one another.
    return np.array(g) if g is not None else np.zeros(x._value.shape, x._value.dtype)


def _no_gradient(x: Tensor, create_graph: bool) -> Any:
    """The zeros for an input that the result does not depend on."""
    tracer = context().tracer
    if tracer is not None and not create_graph:
        return tracer.as_array(_result(None, x, create_graph=True), x.name)
    return _result(None, x, create_graph)


def _as_input(leaf: Any) -> Tensor:
    """A leaf of a differentiated argument as a Tensor that requires a gradient.

    A Tensor that requires one already is passed under another name, so that only what depends on it through
    the argument counts, not what the function takes from outside. The parameters of a Module are themselves.
    """
    tracer = context().tracer
    if tracer is not None and isinstance(leaf, Tensor):
        parameter = type(leaf) is not Tensor and leaf.is_leaf and leaf.requires_grad
        return leaf if parameter else tracer.as_input(leaf)
    if isinstance(leaf, Tensor):
        if not leaf.requires_grad:
            return Tensor(leaf._value, True, leaf.name)
        if type(leaf) is Tensor:
            with configure(recording=True):
                x = _argument(leaf)
            x.name = leaf.name
            return x
        return leaf
    return tensor(leaf, requires_grad=True, dtype=float if type(leaf) is int else None)


_argument = make_callable(Op("argument", lambda x: x, (lambda g, ans, x: g,)))


def _scalar(output: Any, what: str) -> Any:
    plain = _plain(output)
    if plain or output.size != 1:
        raise ShapeError(
            f"{what}: the function must return one number as a Tensor, not {plain or output.shape}"
        )
    return output


def _plain(output: Any) -> str:
    """What is no Tensor, in words; empty for a Tensor.

    Gradients of numbers and arrays are not taken for zeros: they may come of the parameters by `numpy()`.
    """
    tracer = context().tracer
    if isinstance(output, Tensor) and not (tracer is not None and tracer.is_array(output)):
        return ""
    if isinstance(output, (Tensor, np.ndarray, np.generic, int, float)):
        return (
            "a plain number or array: it depends on nothing that is differentiated, or numpy(), item() or "
            "float() cut it off. Give a constant as tg.tensor(...)"
        )
    return type(output).__name__


def value_and_grad(fn: Callable[..., Any], has_aux: bool = False) -> Callable[..., Any]:
    """A function that gives the value of `fn` and its gradient in the first argument.

    fn: `(params, *data) -> loss`, or `-> (loss, aux)` with `has_aux`. `params` is any tree of arrays and
    Tensors, or a Module.
    Returns `(params, *data) -> (loss, grads)`, or `((loss, aux), grads)`: grads has the structure of
    `params`, with ndarrays as leaves (a dict by parameter name for a Module). When the code around is
    itself being differentiated, grads holds Tensors.
    Raises ShapeError when `fn` does not return one number.

    >>> import tensorgrad as tg
    >>> loss, grads = tg.value_and_grad(lambda p: (p["w"] * p["w"]).sum())({"w": np.array([1.0, 2.0])})
    >>> grads
    {'w': array([2., 4.])}
    """

    def differentiated(params: Any, *data: Any, **options: Any) -> Any:
        nested = context().nested
        leaves, structure = tree.flatten(params)
        inputs = [_as_input(leaf) for leaf in leaves]
        with configure(nested=True, recording=True):
            out = fn(tree.unflatten(structure, list(inputs)), *data, **options)
        loss = _scalar(out[0] if has_aux else out, "value_and_grad")
        grads = (
            grad(loss, inputs, create_graph=nested)
            if loss.requires_grad
            else [_no_gradient(x, nested) for x in inputs]
        )
        names = structure.keys if hasattr(params, "named_parameters") else None
        if names is None:
            return out, tree.unflatten(structure, grads)
        return out, dict(zip(names, grads, strict=True))

    update_wrapper(differentiated, fn)
    return differentiated


def vjp(fn: Callable[..., Any], *primals: Any) -> tuple[Any, Callable[[Any], tuple[Any, ...]]]:
    """The value of `fn` and the function that pulls a cotangent of it back to the arguments.

    fn: `(*arrays) -> Tensor`. Returns `(out, pull)`; `pull(g)` gives a tuple with a gradient for each
    argument, as ndarrays, or as Tensors that can be differentiated when `g` is a Tensor with gradient.

    >>> import tensorgrad as tg
    >>> out, pull = tg.vjp(tg.sin, np.array(0.0))
    >>> pull(2.0)
    (array(2.),)
    """
    nested = context().nested
    inputs = [_as_input(x) for x in primals]
    with configure(nested=True, recording=True):
        out = fn(*inputs)
    plain = _plain(out)
    if plain:
        raise GraphError(f"vjp: the function must return one Tensor, not {plain}")

    def pull(g: Any) -> tuple[Any, ...]:
        again = nested or (isinstance(g, Node) and g.requires_grad)
        if not out.requires_grad:
            return tuple(_result(None, x, again) for x in inputs)
        return tuple(grad(out, inputs, g, create_graph=again))

    return out, pull


def jvp(fn: Callable[..., Any], primals: Sequence[Any], tangents: Sequence[Any]) -> tuple[Any, Any]:
    """The value of `fn` and its directional derivative along `tangents`.

    fn: `(*arrays) -> Tensor`. primals, tangents: sequences of equal length and shapes.
    Returns `(out, tangent)`; the tangent is an ndarray, or a Tensor inside another transform.
    Raises ShapeError when a tangent does not have the shape of its primal.

    >>> import tensorgrad as tg
    >>> tg.jvp(tg.square, [np.array(3.0)], [np.array(1.0)])[1]
    array(6.)
    """
    _check_tangents("jvp", primals, tangents)
    nested = context().nested
    out, pull = vjp(fn, *primals)
    # The pull-back is linear in its cotangent: where it is taken does not matter.
    cotangent = Tensor(np.zeros(out.shape, out.dtype), requires_grad=True)
    pulled = pull(cotangent)
    pairs = [
        (p, v if isinstance(v, Node) else np.asarray(v, p.dtype))
        for p, v in zip(pulled, tangents, strict=True)
        if p.requires_grad
    ]
    if not pairs:
        return out, _result(None, out, nested)
    with configure(recording=True):
        total = sum((p * v).sum() for p, v in pairs)
    return out, grad(total, [cotangent], create_graph=nested)[0]


def _check_tangents(what: str, primals: Sequence[Any], tangents: Sequence[Any]) -> None:
    if len(primals) != len(tangents):
        raise ShapeError(f"{what}: {len(primals)} primals but {len(tangents)} tangents")
    for number, (x, v) in enumerate(zip(primals, tangents, strict=True)):
        if np.shape(x) != np.shape(v):
            raise ShapeError(
                f"{what}: tangent {number} has shape {np.shape(v)}, its primal has shape {np.shape(x)}"
            )


def jacobian(fn: Callable[[Any], Any], x: Any) -> Any:
    """All derivatives of all elements of `fn(x)`: shape of the result, then shape of x.

    One backward walk for each element of the result; the graph is recorded once. An ndarray, or a Tensor
    inside another transform.

    >>> import tensorgrad as tg
    >>> tg.jacobian(tg.square, np.array([1.0, 2.0]))
    array([[2., 0.],
           [0., 4.]])
    """
    out, pull = vjp(fn, x)
    basis = np.eye(out.size, dtype=out.dtype).reshape(out.size, *out.shape)
    shape = (*out.shape, *np.shape(x))
    if not out.size:
        return _result(None, Tensor(np.zeros(shape, out.dtype)), context().nested)
    return reshape(stack([pull(row)[0] for row in basis]), shape)


def hvp(fn: Callable[..., Any], primals: Sequence[Any], tangents: Sequence[Any]) -> tuple[Any, ...]:
    """The Hessian of a scalar function times a vector, without forming the Hessian.

    fn: `(*arrays) -> one number`. primals, tangents: sequences of equal length and shapes.
    Returns an ndarray for each primal, or a Tensor inside another transform.
    Raises ShapeError when a tangent does not have the shape of its primal, or `fn` returns no single number.

    >>> import tensorgrad as tg
    >>> tg.hvp(lambda x: (x**3).sum(), [np.array([2.0])], [np.array([1.0])])
    (array([12.]),)
    """
    _check_tangents("hvp", primals, tangents)
    nested = context().nested
    inputs = [_as_input(x) for x in primals]
    with configure(nested=True, recording=True):
        loss = _scalar(fn(*inputs), "hvp")
        if not loss.requires_grad:
            return tuple(_result(None, x, nested) for x in inputs)
        first = grad(loss, inputs, create_graph=True)
        pairs = [(g, v) for g, v in zip(first, tangents, strict=True) if g.requires_grad]
        if not pairs:
            return tuple(_result(None, x, nested) for x in inputs)
        slope = sum((g * v).sum() for g, v in pairs)
    return tuple(grad(slope, inputs, create_graph=nested))


# ---------------------------------------------------------------------------------------------------------
# Recomputing instead of storing
# ---------------------------------------------------------------------------------------------------------
def checkpoint(fn: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """`fn(*args, **kwargs)` that keeps only its results; the backward walk runs `fn` again for the rest.

    fn: from trees to a tree of Tensors, the same each time it is called with the same arguments; dropout
    inside draws the same numbers again. Tensors that `fn` takes from elsewhere (a Module's parameters)
    get their gradients too. Gradients equal those without checkpointing to the last bit.
    Raises GraphError in the backward walk when running `fn` again gives something else.
    Source: Chen et al., "Training Deep Nets with Sublinear Memory Cost" (2016), section 3.

    >>> import tensorgrad as tg
    >>> x = tg.tensor(2.0, requires_grad=True)
    >>> round(float(tg.grad(tg.checkpoint(lambda x: tg.exp(x * x), x), [x])[0]), 3)
    218.393
    """
    now = context()
    # A compiled program decides by itself what it stores.
    if not now.recording or now.tracer is not None:
        return fn(*args, **kwargs)
    log = DrawLog(outer=now.draws)
    with configure(recording=False, draws=log):
        out = fn(*args, **kwargs)
    leaves, structure = tree.flatten(out)
    inputs = tuple(x for x in tree.leaves((args, kwargs)) if isinstance(x, Tensor))
    if not log.live:
        return out
    args, kwargs = tree.map(lambda x: np.array(x) if isinstance(x, np.ndarray) else x, (args, kwargs))
    piece = _Piece(fn, args, kwargs, now, log, [x._value for x in inputs], inputs)
    made: dict[int, Node] = {}
    for position, leaf in enumerate(leaves):
        # A Tensor that comes twice, as the output and the state of a cell do, stays one Tensor.
        if isinstance(leaf, Tensor) and id(leaf) not in made:
            made[id(leaf)] = leaf
            if not leaf.requires_grad and leaf.dtype.kind in "fc":
                made[id(leaf)] = out = Tensor.computed(
                    leaf._value, _CHECKPOINT, inputs, tuple(piece.values), (), {"piece": piece}, now.scope
                )
                out.name = leaf.name
                piece.outputs.append((position, weakref.ref(out), out._value))
    return tree.unflatten(structure, [made.get(id(leaf), leaf) for leaf in leaves])


class _Piece:
    """A checkpointed call: what is needed to run it again. It refers to its results weakly."""

    def __init__(
        self,
        fn: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        now: Context,
        log: DrawLog,
        values: list[Any],
        inputs: tuple[Tensor, ...],
    ) -> None:
        self.fn = fn
        self.args = args
        self.kwargs = kwargs
        self.context = {"scope": now.scope, "nested": now.nested, "anomaly": now.anomaly}
        self.log = log
        self.values = values
        self.inputs = inputs
        self.outputs: list[tuple[int, weakref.ref[Node], Any]] = []

    def run_again(self) -> list[tuple[Node | None, Node]]:
        """The outputs (None for one that is gone) with the nodes of a fresh recording."""
        for x, value in zip(self.inputs, self.values, strict=True):
            if x._value is not value:
                raise GraphError(
                    f"checkpoint: the {x.describe()} was given a new value between forward and backward, "
                    "so the forward cannot be run again"
                )
        with configure(recording=True, draws=self.log.replay(), **self.context):
            leaves = tree.leaves(self.fn(*self.args, **self.kwargs))
        pairs: list[tuple[Node | None, Node]] = []
        for position, output, value in self.outputs:
            again = leaves[position] if position < len(leaves) else None
            if not isinstance(again, Tensor) or not np.array_equal(again._value, value, equal_nan=True):
                name = getattr(self.fn, "__name__", repr(self.fn))
                raise GraphError(
                    f"checkpoint: output {position} was different when {name} was run again; it must give "
                    "the same for the same arguments (random numbers through tg.manual_seed or nn.Dropout "
                    "are repeated; parameters must not change before backward)"
                )
            pairs.append((output(), again))
        return pairs


_CHECKPOINT = Op(
    "checkpoint", lambda *args, **params: None, expand=lambda node: node.params["piece"].run_again()
)


# ---------------------------------------------------------------------------------------------------------
# Gradients of your own
# ---------------------------------------------------------------------------------------------------------
def custom_vjp(forward: Callable[..., Any], backward: Rule) -> Callable[..., Any]:
    """A function with a gradient rule of your own, for all its operands at once.

    forward: `(*arrays, **params) -> array`, in NumPy.
    backward: `(g, ans, *operands, **params) -> tuple` with a cotangent, or None, for each operand. Written
        with tensorgrad's operations it can be differentiated again.
    Returns a function of arrays and Tensors. A cotangent of the wrong shape raises ShapeError in the
    backward walk.

    >>> import tensorgrad as tg
    >>> gentle = tg.custom_vjp(lambda x: x, lambda g, ans, x: (tg.clip(g, -1.0, 1.0),))
    >>> x = tg.tensor(1.0, requires_grad=True)
    >>> tg.grad(gentle(x) * 100, [x])
    [array(1.)]
    """
    name = getattr(forward, "__name__", "custom").replace("<lambda>", "custom")

    def checked(g: Any, ans: Any, *operands: Any, **params: Any) -> tuple[Any, ...]:
        cotangents = backward(g, ans, *operands, **params)
        if not isinstance(cotangents, tuple) or len(cotangents) != len(operands):
            raise GraphError(
                f"custom_vjp: the backward of {name} must return a tuple with one cotangent for each of its "
                f"{len(operands)} operands (None where there is none)"
            )
        return cotangents

    return make_callable(Op(name, forward, checked, joint=True))
