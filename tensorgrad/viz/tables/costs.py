"""What a run of a model makes, in all and in each timestep: operations, memory kept, multiply-adds."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from tensorgrad import tree
from tensorgrad.context import configure
from tensorgrad.errors import UserError
from tensorgrad.graph import Node
from tensorgrad.nn.cells.base import Cell
from tensorgrad.nn.module import Module
from tensorgrad.nn.recurrent import UnrolledLayers
from tensorgrad.nn.unroll import Unrolled, unroll
from tensorgrad.random import as_generator
from tensorgrad.tensor import Tensor
from tensorgrad.viz.build import computed_from
from tensorgrad.viz.steps import step_of, timestep_of
from tensorgrad.viz.tables.sheet import owner

__all__ = ["Cost", "LabelRow", "Run", "cost_of", "measure"]

# Lengths to run for: where the third timestep adds what the fourth does, all after them do too.
_SHORT = (2, 3, 4)
# The timestep whose labels are shown: neither the first nor the last of a short run.
_INNER = 1


class LabelRow(NamedTuple):
    """A labelled tensor.

    Attributes:
        name: its label after the scope it was made in, without the timestep: "l0/h".
        shape: its lengths as texts, "T" for that of the sequence.
        dtype: of its value.
    """

    name: str
    shape: tuple[str, ...]
    dtype: str


class Cost(NamedTuple):
    """What a forward pass makes.

    Attributes:
        operations: how many are recorded.
        nbytes: of the arrays that the recorded nodes hold, their values and operands: each array once, a
            view as the array it is a view of, and the parameters not.
        multiply_adds: of matmul, linear, affine and einsum; None where checkpoints keep operations off the
            record.
    """

    operations: int
    nbytes: int
    multiply_adds: int | None


@dataclass(frozen=True)
class Run:
    """What was measured by running a model.

    Attributes:
        how: how it was run, such as "nn.unroll(model, x)".
        shape, dtype: of x; None and empty where x is no array.
        T: how many timesteps the whole run has; None for a run without timesteps.
        step: what each further timestep adds; None without timesteps, or where they add more and more.
        total: what the whole run makes.
        labels: of each timestep. outside: of what was made in no timestep.
    """

    how: str
    shape: tuple[int, ...] | None
    dtype: str
    T: int | None
    step: Cost | None
    total: Cost
    labels: tuple[LabelRow, ...]
    outside: tuple[LabelRow, ...]


def measure(model: Module, x: Any, state: Any = None, forward: Callable[[Any], Any] | None = None) -> Run:
    """Run a model and see what it makes; the arguments are those of `summary`.

    Example:
        >>> from tensorgrad import nn
        >>> measure(nn.RNNCell(3, 4, seed=0), (100, 2, 3)).step
        Cost(operations=2, nbytes=176, multiply_adds=56)
    """
    x = _example(model, x)
    known = {id(owner(p._value)) for p in model.parameters()}
    with _generators_kept(model), configure(recording=True, scope="", labels=None, draws=None):
        how, run = _runner(model, x, state, forward)
        about: tuple[str, Any, str] = (how, x.shape, str(x.dtype)) if _is_array(x) else (how, None, "")
        short = _short_runs(run, x)
        if not any(timestep_of(node.scope) for nodes in short for node in nodes):
            nodes = run(x)
            return Run(*about, None, None, cost_of(nodes, known), (), _distinct(_labels(nodes, None)))
        costs = [cost_of(nodes, known) for nodes in short]
        added = _difference(costs[2], costs[1])
        steady = added == _difference(costs[1], costs[0])
        T = len(x)
        further = T - _SHORT[-1]
        total = _extended(costs[2], added, further) if steady and further >= 0 else cost_of(run(x), known)
        labels, outside = (tuple(_by_length(short[1], short[2], t)) for t in (_INNER, None))
        return Run(*about, T, added if steady else None, total, labels, outside)


def cost_of(nodes: Iterable[Node], parameters: Container[int] = ()) -> Cost:
    """What some recorded nodes are and hold.

    Args:
        parameters: the ids of arrays that are not to be counted.

    Example:
        >>> import tensorgrad as tg
        >>> x = tg.tensor(np.ones((2, 3)), requires_grad=True)
        >>> cost_of(computed_from([x @ x.T]))
        Cost(operations=2, nbytes=80, multiply_adds=12)
    """
    held: dict[int, int] = {}
    operations, products = 0, 0
    complete = True
    for node in nodes:
        # A constant is held as it was given and as the operation saw it, which may be a copy.
        for array in (node._value, *node.args, *node.operands):
            if isinstance(array, np.ndarray) and id(whole := owner(array)) not in parameters:
                held[id(whole)] = whole.nbytes
        if node.op is not None:
            operations += 1
            products += _multiply_adds(node)
            complete = complete and node.op.expand is None
    return Cost(operations, sum(held.values()), products if complete else None)


def _multiply_adds(node: Node) -> int:
    args: Sequence[Any] = node.args
    name = node.op.name if node.op is not None else ""
    if name == "matmul":
        return int(node._value.size * args[0].shape[-1])
    if name == "linear":
        return int(args[0].size * len(args[1]))
    if name == "affine":
        return int(args[0].size * len(args[1]) + args[2].size * len(args[3]))
    if name == "einsum":
        terms = node.params["terms"]
        lengths: dict[str, int] = {}
        for term, array in zip(terms, args, strict=True):
            for letter, n in zip(term, array.shape, strict=True):
                lengths[letter] = max(n, lengths.get(letter, 1))
        # Of three and more factors as if all were multiplied out at once.
        return (len(terms) - 1) * int(np.prod(list(lengths.values()), dtype=np.int64))
    return 0


# --- running ---------------------------------------------------------------------------------------------
def _runner(
    model: Module, x: Any, state: Any, forward: Callable[[Any], Any] | None
) -> tuple[str, Callable[[Any], list[Node]]]:
    """How the model is run, in words and as a function from an input to all nodes behind what it gives."""
    given = "" if state is None else ", state"
    if forward is not None:
        how, call = "forward(x)", forward
    elif _is_cell(model, x, state):
        how, call = f"nn.unroll(model, x{given})", lambda x: unroll(model, x, state)
    elif state is not None:
        how, call = "model(x, state)", lambda x: model(x, state)
    elif len(_parameters(model, required=True)) > 1:
        names = ", ".join(_parameters(model, required=True))
        raise UserError(
            f"summary: {type(model).__name__} is called with ({names}), not with x alone; give state= for a "
            "cell, or forward=, a function of x that calls it"
        )
    else:
        how, call = "model(x)", model
    return how, lambda x: computed_from(_outputs(call(x)))


def _short_runs(run: Callable[[Any], list[Node]], x: Any) -> list[list[Node]]:
    """The nodes of short runs; none where x has no time, or the model takes no other length than its own."""
    try:
        return [run(_of_length(x, n)) for n in _SHORT] if _has_time(x) else []
    except Exception:
        # What is wrong with x itself, the whole run will say.
        return []


def _parameters(model: Module, required: bool) -> list[str]:
    """The names of what `forward` takes by position."""
    return [
        p.name
        for p in inspect.signature(model.forward).parameters.values()
        if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD) and (p.default is p.empty or not required)
    ]


def _is_cell(model: Module, x: Any, state: Any) -> bool:
    """Whether a model takes one timestep and a state, and gives an output and a state."""
    if isinstance(model, Cell):
        return True
    if len(_parameters(model, required=False)) != 2 or not _has_time(x):
        return False
    try:
        roll = unroll(model, _of_length(x, 1), state)
    except Exception:
        # Whatever it is that a model cannot do with a single timestep, it is no cell.
        return False
    # What unrolls something itself reads whole sequences.
    scopes = {node.scope for node in computed_from(_outputs(roll))}
    return not any(sum(step_of(part) is not None for part in scope.split("/")) > 1 for scope in scopes)


def _outputs(result: Any) -> list[Node]:
    """The Tensors that a model gave."""
    if isinstance(result, Unrolled):
        each = [step["output"] for step in result.steps if "output" in step]
        # Stacked, the outputs of a cell would be in memory twice.
        stacked = isinstance(result, UnrolledLayers) or len(each) < len(result)
        result = [result.outputs if stacked else each, result.state]
    return [leaf for leaf in tree.leaves(result) if isinstance(leaf, Node)]


def _example(model: Module, x: Any) -> Any:
    """The example input: from a shape zeros, from a list an array."""
    if isinstance(x, tuple) and all(isinstance(n, (int, np.integer)) for n in x):
        dtype = next((p.dtype for p in model.parameters()), np.dtype(np.float64))
        return np.zeros(x, dtype)
    return np.array(x) if isinstance(x, list) else x


def _is_array(x: Any) -> bool:
    return isinstance(x, (np.ndarray, Tensor))


def _has_time(x: Any) -> bool:
    return _is_array(x) and x.ndim > 0 and len(x) > 0


def _of_length(x: Any, n: int) -> Any:
    """The first n timesteps of an input, over again where it has fewer."""
    times = np.arange(n) % len(x)
    return Tensor(x._value[times], x.requires_grad, x.name) if isinstance(x, Tensor) else x[times]


@contextmanager
def _generators_kept(model: Module) -> Iterator[None]:
    """Context manager: afterwards the generators that the model draws from are as they were before."""
    inside = (value for _, module in model.named_modules() for value in vars(module).values())
    generators = [as_generator(None), *(value for value in inside if isinstance(value, np.random.Generator))]
    states = [generator.bit_generator.state for generator in generators]
    try:
        yield
    finally:
        for generator, state in zip(generators, states, strict=True):
            generator.bit_generator.state = state


# --- what was run ----------------------------------------------------------------------------------------
def _difference(more: Cost, less: Cost) -> Cost:
    known = more.multiply_adds is not None and less.multiply_adds is not None
    products = more.multiply_adds - less.multiply_adds if known else None  # type: ignore[operator]
    return Cost(more.operations - less.operations, more.nbytes - less.nbytes, products)


def _extended(cost: Cost, step: Cost, n: int) -> Cost:
    """The cost with n more timesteps."""
    products = None
    if cost.multiply_adds is not None and step.multiply_adds is not None:
        products = cost.multiply_adds + n * step.multiply_adds
    return Cost(cost.operations + n * step.operations, cost.nbytes + n * step.nbytes, products)


def _labels(nodes: Iterable[Node], t: int | None) -> Iterator[LabelRow]:
    """What is labelled in a timestep, or, for None, in none."""
    for node in nodes:
        place = timestep_of(node.scope)
        leaf_outside = node.op is None and (node.requires_grad or t is None)
        if node.name and not leaf_outside and (place[1] if place else None) == t:
            inner = _without_timestep(node.scope).strip("/").replace("//", "/")
            shape = tuple(str(n) for n in node._value.shape)
            yield LabelRow(f"{inner}/{node.name}".lstrip("/"), shape, str(node._value.dtype))


def _without_timestep(scope: str) -> str:
    """The scope without its outermost timestep, "l0/" for "l0/t=3"."""
    place = timestep_of(scope)
    return scope if place is None else place[0] + scope[len(place[0]) :].partition("/")[2]


def _distinct(rows: Iterable[LabelRow]) -> tuple[LabelRow, ...]:
    return tuple(dict.fromkeys(rows))


def _by_length(less: list[Node], more: list[Node], t: int | None) -> Iterator[LabelRow]:
    """The labels of two runs, with "T" for a length that is that of the sequence in both."""
    before, after = _distinct(_labels(less, t)), _distinct(_labels(more, t))
    if len(before) != len(after):
        yield from after
        return
    ends = str(_SHORT[1]), str(_SHORT[2])
    for a, b in zip(before, after, strict=True):
        lengths = zip(a.shape, b.shape, strict=False)
        yield b._replace(shape=tuple("T" if pair == ends else pair[1] for pair in lengths))
