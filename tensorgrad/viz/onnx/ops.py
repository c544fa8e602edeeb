"""What each operation is in ONNX, operator set 18: one function an operation, in a table at the end.

A function is given the recorded call, adds nodes, and returns the name of the result, which may be that of an
operand. ONNX never mixes dtypes, so operands are brought to the one that NumPy computes in.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from tensorgrad.viz.onnx.graph import Call

__all__ = ["EMITTERS", "NoCounterpartError"]

_LAST = np.iinfo(np.int64).max
"""An end beyond every axis: ONNX cuts it down to the length."""


class NoCounterpartError(Exception):
    """ONNX has no operator for this use of an operation; the text says which use."""


# --- element by element ----------------------------------------------------------------------------------


def _alike(op_type: str) -> Callable[[Call], str]:
    """An operation of operands in the dtype of its result."""
    return lambda call: call.node(op_type, *call.operands(call.ans.dtype))


def _comparing(op_type: str, negated: bool = False) -> Callable[[Call], str]:
    def emit(call: Call) -> str:
        found = call.node(op_type, *call.operands(np.result_type(*call.args)))
        return call.node("Not", found) if negated else found

    return emit


def _logical(op_type: str) -> Callable[[Call], str]:
    return lambda call: call.node(op_type, *call.operands(np.bool_))


def _bitwise(of_booleans: str, of_integers: str) -> Callable[[Call], str]:
    def emit(call: Call) -> str:
        boolean = call.ans.dtype.kind == "b"
        return call.node(of_booleans if boolean else of_integers, *call.operands(call.ans.dtype))

    return emit


def _isfinite(call: Call) -> str:
    if call.args[0].dtype.kind != "f":
        return call.node("Not", call.operand(0, np.bool_))
    x = call.operand(0)
    # inf - inf is NaN too.
    return call.node("Not", call.node("IsNaN", call.node("Sub", x, x)))


def _square(call: Call) -> str:
    x = call.operand(0)
    return call.node("Mul", x, x)


def _where(call: Call) -> str:
    dtype = call.ans.dtype
    return call.node("Where", call.operand(0, np.bool_), call.operand(1, dtype), call.operand(2, dtype))


def _expm1(call: Call) -> str:
    return call.node("Sub", call.node("Exp", call.operand(0, call.ans.dtype)), call.number(1))


def _log1p(call: Call) -> str:
    return call.node("Log", call.node("Add", call.operand(0, call.ans.dtype), call.number(1)))


def _cast(call: Call) -> str:
    return call.node("Cast", call.operand(0), to=call.ans.dtype)


def _gelu(call: Call) -> str:
    x = call.operand(0)
    c = math.sqrt(2 / math.pi)
    slope = call.node(
        "Add", call.node("Mul", call.node("Mul", x, x), call.number(0.044715 * c)), call.number(c)
    )
    t = call.node("Tanh", call.node("Mul", x, slope))
    return call.node("Mul", call.node("Mul", call.node("Add", t, call.number(1)), x), call.number(0.5))


# --- indexing --------------------------------------------------------------------------------------------


def _getitem(call: Call) -> str:
    # In the template of an index the only texts are those that stand for an array.
    arrays = call.args[1:]
    numbers = any(isinstance(part, (int, np.integer)) for part in call.params["template"])
    if len(arrays) > 1 or any(a.dtype.kind == "b" or numbers for a in arrays):
        flat = call.node("Reshape", call.operand(0), call.ints("shape", [-1]))
        return call.node("Gather", flat, call.constant(_places(call, 1)), axis=0)
    parts = _spelt_out(call.params["template"], call.args[0].ndim)
    along = [part for part in parts if part is not None]
    out = _sliced(call, call.operand(0), along)
    # From the last axis on, so that the ones before keep their numbers.
    for axis, part in reversed(list(enumerate(along))):
        if isinstance(part, str):
            ids = arrays[0].dtype
            index = call.operand(1, ids if ids in (np.int32, np.int64) else np.int64)
            out = call.node("Gather", out, index, axis=axis)
        elif not isinstance(part, slice):
            out = call.node("Gather", out, call.constant(np.asarray(part, np.int64)), axis=axis)
    new, place = [], 0
    for part in parts:
        if part is None:
            new.append(place)
        if part is None or isinstance(part, slice):
            place += 1
        elif isinstance(part, str):
            place += arrays[0].ndim
    return call.node("Unsqueeze", out, call.ints("axes", new)) if new else out


def _places(call: Call, first: int) -> np.ndarray:
    """What an index picks, as places in flat order; its arrays are the operands from `first` on."""
    if any(call.is_computed(argnum) for argnum in range(first, len(call.args))):
        raise NoCounterpartError("at places that the cell computes")
    shape, arrays = call.args[0].shape, iter(call.args[first:])
    index = tuple(next(arrays) if isinstance(part, str) else part for part in call.params["template"])
    return np.asarray(np.arange(math.prod(shape), dtype=np.int64).reshape(shape)[index])


def _spelt_out(template: tuple[Any, ...], ndim: int) -> list[Any]:
    """An index with a part for every axis, and None for every new one."""
    given = sum(part is not None and part is not Ellipsis for part in template)
    at = next((k for k, part in enumerate(template) if part is Ellipsis), len(template))
    return [*template[:at], *[slice(None)] * (ndim - given), *template[at + 1 :]]


def _sliced(call: Call, x: str, along: list[Any]) -> str:
    """x cut by those parts of an index that are slices."""
    cuts = [
        (axis, part) for axis, part in enumerate(along) if isinstance(part, slice) and part != slice(None)
    ]
    if not cuts:
        return x
    axes, starts, ends, steps = [], [], [], []
    for axis, cut in cuts:
        step = 1 if cut.step is None else int(cut.step)
        # The far end lies beyond the axis, on the side to which the steps go.
        first, last = (0, _LAST) if step > 0 else (_LAST, -_LAST)
        if not range(*cut.indices(call.args[0].shape[axis])):
            # ONNX would move a start before the first element to it.
            cut, step = slice(0, 0), 1
        axes.append(axis)
        starts.append(first if cut.start is None else int(cut.start))
        ends.append(last if cut.stop is None else int(cut.stop))
        steps.append(step)
    vectors = {"starts": starts, "ends": ends, "axes": axes, "steps": steps}
    if all(step == 1 for step in steps):
        del vectors["steps"]
    return call.node("Slice", x, *(call.ints(wish, values) for wish, values in vectors.items()))


def _written(reduction: str) -> Callable[[Call], str]:
    """Writing into a copy, at places that are known beforehand."""

    def emit(call: Call) -> str:
        x, value = call.args[:2]
        if not x.ndim:
            raise NoCounterpartError("of a single number")
        flat = _places(call, 2)
        if reduction == "none" and np.unique(flat).size < flat.size:
            raise NoCounterpartError("of one place several times")
        updates = call.operand(1, x.dtype)
        if value.shape != flat.shape:
            updates = call.node("Expand", updates, call.ints("shape", flat.shape))
        places = np.stack(np.unravel_index(flat, x.shape), axis=-1)
        return call.node("ScatterND", call.operand(0), call.constant(places), updates, reduction=reduction)

    return emit


# --- products --------------------------------------------------------------------------------------------


def _by_weight(call: Call, x: int, weight: int, bias: int | None = None) -> str:
    """x @ weight.T + bias, each told by the number of its operand."""
    dtype, ndim = call.ans.dtype, call.args[x].ndim
    left, right = call.operand(x, dtype), call.operand(weight, dtype)
    added = [] if bias is None else [call.operand(bias, dtype)]
    if ndim == 2 and (bias is None or call.args[bias].ndim == 1):
        return call.node("Gemm", left, right, *added, transB=1)
    if ndim == 1:
        out = call.node("MatMul", right, left)
    else:
        out = call.node("MatMul", left, call.node("Transpose", right, perm=[1, 0]))
    return call.node("Add", out, *added) if added else out


def _linear(call: Call) -> str:
    return _by_weight(call, 0, 1, 2 if len(call.args) > 2 else None)


def _affine(call: Call) -> str:
    biases = [*range(4, len(call.args)), None, None]
    return call.node("Add", _by_weight(call, 0, 1, biases[0]), _by_weight(call, 2, 3, biases[1]))


def _einsum(call: Call) -> str:
    equation = f"{','.join(call.params['terms'])}->{call.params['out']}"
    return call.node("Einsum", *call.operands(call.ans.dtype), equation=equation)


# --- reductions ------------------------------------------------------------------------------------------


def _reduced(op_type: str) -> Callable[[Call], str]:
    def emit(call: Call) -> str:
        axes, x = call.params["axes"], call.operand(0, call.ans.dtype)
        if not axes:
            # ONNX would reduce over all of them; of a single number all but the norm are that number.
            return call.node("Abs", x) if op_type == "ReduceL2" else x
        return call.node(op_type, x, call.ints("axes", axes), keepdims=int(call.params["keepdims"]))

    return emit


def _var(call: Call) -> str:
    axes, ddof, keepdims = call.params["axes"], call.params["ddof"], int(call.params["keepdims"])
    if not axes:
        raise NoCounterpartError("over no axes")
    x, over = call.operand(0, call.ans.dtype), call.ints("axes", axes)
    centred = call.node("Sub", x, call.node("ReduceMean", x, over, keepdims=1))
    squares = call.node("Mul", centred, centred)
    if not ddof:
        return call.node("ReduceMean", squares, over, keepdims=keepdims)
    count = math.prod(call.args[0].shape[axis] for axis in axes)
    return call.node(
        "Div", call.node("ReduceSum", squares, over, keepdims=keepdims), call.number(count - ddof)
    )


def _std(call: Call) -> str:
    return call.node("Sqrt", _var(call))


def _cumsum(call: Call) -> str:
    axis = call.constant(np.asarray(call.params["axis"], np.int64))
    return call.node("CumSum", call.operand(0, call.ans.dtype), axis)


# --- shape -----------------------------------------------------------------------------------------------


def _reshape(call: Call) -> str:
    """Lengths are told by where they come from, so that the shape holds for any batch."""
    old, new = call.args[0].shape, call.ans.shape
    if not call.ans.size:
        return call.node("Reshape", call.operand(0), call.ints("shape", new), allowzero=1)
    kept = next(
        (k for k, (a, b) in enumerate(zip(old, new, strict=False)) if a != b), min(len(old), len(new))
    )
    # 0 stands for the length that is there already, -1 for what is left.
    shape = [0] * kept + list(new[kept:])
    if not kept and shape:
        shape[0] = -1
    return call.node("Reshape", call.operand(0), call.ints("shape", shape))


def _broadcast_to(call: Call) -> str:
    """1 stands for the length that is there already, so that the shape holds for any batch."""
    new, old = call.ans.shape, call.args[0].shape
    old = (0,) * (len(new) - len(old)) + old
    shape = [1 if a == b else b for a, b in zip(old, new, strict=True)]
    return call.node("Expand", call.operand(0), call.ints("shape", shape))


def _transpose(call: Call) -> str:
    if call.ans.ndim < 2:
        return call.operand(0)
    return call.node("Transpose", call.operand(0), perm=list(call.params["axes"]))


def _concatenate(call: Call) -> str:
    return call.node("Concat", *call.operands(call.ans.dtype), axis=call.params["axis"])


def _stack(call: Call) -> str:
    axis = call.params["axis"]
    rows = [call.node("Unsqueeze", x, call.ints("axes", [axis])) for x in call.operands(call.ans.dtype)]
    return call.node("Concat", *rows, axis=axis)


def _pad(call: Call) -> str:
    widths = [width[side] for side in (0, 1) for width in call.params["widths"]]
    return call.node("Pad", call.operand(0), call.ints("pads", widths), call.number(call.params["value"]))


def _flip(call: Call) -> str:
    back = slice(None, None, -1)
    along = [back if axis in call.params["axes"] else slice(None) for axis in range(call.ans.ndim)]
    return _sliced(call, call.operand(0), along)


def _roll(call: Call) -> str:
    out = call.operand(0)
    for shift, axis in np.broadcast(call.params["shift"], call.params["axes"]):
        n = call.ans.shape[axis]
        front = [slice(None)] * axis
        if n and shift % n:
            cut = -(shift % n)
            halves = [_sliced(call, out, [*front, half]) for half in (slice(cut, None), slice(None, cut))]
            out = call.node("Concat", *halves, axis=axis)
    return out


# --- networks --------------------------------------------------------------------------------------------


def _softmax(call: Call) -> str:
    axis, x = call.params["axis"], call.operand(0, call.ans.dtype)
    if len(call.args) == 1:
        return call.node("Softmax", x, axis=axis)
    mask = call.operand(1, np.bool_)
    p = call.node("Softmax", call.node("Where", mask, x, call.number(-np.inf)), axis=axis)
    # A row that is masked altogether is NaN up to here.
    return call.node("Where", mask, p, call.number(0))


def _log_softmax(call: Call) -> str:
    return call.node("LogSoftmax", call.operand(0, call.ans.dtype), axis=call.params["axis"])


def _nll(call: Call) -> str:
    last = call.args[0].ndim - 1
    axes = call.ints("axes", [last])
    labels = call.node("Unsqueeze", call.operand(1, np.int64), axes)
    scores = call.node("LogSoftmax", call.operand(0, call.ans.dtype), axis=last)
    picked = call.node("GatherElements", scores, labels, axis=last)
    return call.node("Neg", call.node("Squeeze", picked, axes))


def _binary_nll(call: Call) -> str:
    x, targets = call.operands(call.ans.dtype)
    tail = call.node("Softplus", call.node("Neg", call.node("Abs", x)))
    return call.node("Add", call.node("Sub", call.node("Relu", x), call.node("Mul", x, targets)), tail)


def _layer_norm(call: Call) -> str:
    axes, eps, dtype = call.params["axes"], call.params["eps"], call.ans.dtype
    x, shape = call.operand(0, dtype), call.args[0].shape
    if axes == tuple(range(len(shape) - len(axes), len(shape))) and dtype == np.float32:
        scale = call.constant(np.ones([shape[axis] for axis in axes], dtype))
        return call.node("LayerNormalization", x, scale, axis=axes[0], epsilon=float(eps))
    # The operator has its epsilon in single precision, whatever the rest is in.
    over = call.ints("axes", axes)
    centred = call.node("Sub", x, call.node("ReduceMean", x, over, keepdims=1))
    var = call.node("ReduceMean", call.node("Mul", centred, centred), over, keepdims=1)
    return call.node("Div", centred, call.node("Sqrt", call.node("Add", var, call.number(eps))))


EMITTERS: dict[str, Callable[[Call], str]] = {
    "add": _alike("Add"),
    "subtract": _alike("Sub"),
    "multiply": _alike("Mul"),
    "divide": _alike("Div"),
    "power": _alike("Pow"),
    "maximum": _alike("Max"),
    "minimum": _alike("Min"),
    "negative": _alike("Neg"),
    "abs": _alike("Abs"),
    "sign": _alike("Sign"),
    "sqrt": _alike("Sqrt"),
    "reciprocal": _alike("Reciprocal"),
    "exp": _alike("Exp"),
    "log": _alike("Log"),
    "tanh": _alike("Tanh"),
    "sigmoid": _alike("Sigmoid"),
    "relu": _alike("Relu"),
    "softplus": _alike("Softplus"),
    "sin": _alike("Sin"),
    "cos": _alike("Cos"),
    "square": _square,
    "expm1": _expm1,
    "log1p": _log1p,
    "equal": _comparing("Equal"),
    "not_equal": _comparing("Equal", negated=True),
    "less": _comparing("Less"),
    "less_equal": _comparing("LessOrEqual"),
    "greater": _comparing("Greater"),
    "greater_equal": _comparing("GreaterOrEqual"),
    "logical_and": _logical("And"),
    "logical_or": _logical("Or"),
    "logical_not": _logical("Not"),
    "bitwise_and": _bitwise("And", "BitwiseAnd"),
    "bitwise_or": _bitwise("Or", "BitwiseOr"),
    "bitwise_xor": _bitwise("Xor", "BitwiseXor"),
    "invert": _bitwise("Not", "BitwiseNot"),
    "isfinite": _isfinite,
    "where": _where,
    "astype": _cast,
    "to_integer": _cast,
    "getitem": _getitem,
    "index_update": _written("none"),
    "index_add": _written("add"),
    "matmul": _alike("MatMul"),
    "linear": _linear,
    "affine": _affine,
    "einsum": _einsum,
    "norm": _reduced("ReduceL2"),
    "sum": _reduced("ReduceSum"),
    "mean": _reduced("ReduceMean"),
    "max": _reduced("ReduceMax"),
    "min": _reduced("ReduceMin"),
    "prod": _reduced("ReduceProd"),
    "logsumexp": _reduced("ReduceLogSumExp"),
    "var": _var,
    "std": _std,
    "cumsum": _cumsum,
    "reshape": _reshape,
    "broadcast_to": _broadcast_to,
    "transpose": _transpose,
    "concatenate": _concatenate,
    "stack": _stack,
    "pad": _pad,
    "flip": _flip,
    "roll": _roll,
    "softmax": _softmax,
    "log_softmax": _log_softmax,
    "nll": _nll,
    "binary_nll": _binary_nll,
    "gelu": _gelu,
    "layer_norm": _layer_norm,
}
"""What adds an operation to a graph, by the operation's name."""
