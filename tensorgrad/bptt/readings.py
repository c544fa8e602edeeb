"""What a hand-written forward computes, found by its loss: one of the known networks, or the graph given."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np

from tensorgrad.bptt.conditions import Problem, Shapes
from tensorgrad.bptt.handwritten import Handwritten, called
from tensorgrad.bptt.reference import NETWORKS, Network, networks
from tensorgrad.errors import UserError
from tensorgrad.nn.unroll import Unrolled
from tensorgrad.tensor import Tensor

__all__ = ["Graph", "Reading", "Recorded", "candidates", "described", "matching"]

# Relative, of the two losses. Losses nearer than COARSE are the same one in another precision.
TOLERANCE, COARSE = 1e-9, 1e-4

Graph = Callable[..., "tuple[Any, Mapping[str, Any], Unrolled]"]

DIVISORS: dict[str, Callable[[np.ndarray], int]] = {
    "loss averaged over all steps": lambda live: int(live.sum()),
    "loss summed over all steps": lambda live: 1,
    "loss summed over time and averaged over the batch": lambda live: live.shape[1],
    "loss averaged over time and summed over the batch": lambda live: live.shape[0],
    "loss averaged over all steps, padding included": lambda live: live.size,
}


class Recorded(NamedTuple):
    """A loss with its graph: the Tensors by name that have gradients, and the run."""

    loss: Any
    leaves: Mapping[str, Any]
    run: Unrolled


class Reading(NamedTuple):
    """One way to understand a forward.

    graph: a Network, whose losses are summed and divided by `divisor`, a key of `DIVISORS`; or a graph of the
    user's, and None. shapes: of the parameters.
    """

    graph: Network | Graph
    shapes: Shapes
    divisor: str | None = None

    @property
    def words(self) -> tuple[str, ...]:
        """What a sentence says of it."""
        if not isinstance(self.graph, Network):
            return ("the graph given",)
        return (*self.graph.words, str(self.divisor))

    def record(self, problem: Problem, states: Iterable[str]) -> Recorded:
        """The graph of a problem. Raises UserError for a graph of the user's that is not as it must be."""
        params = {name: _leaf(name, value) for name, value in problem.params.items()}
        given = dict(problem.arguments)
        xs, targets = given.pop("xs"), given.pop("targets")
        xs = _leaf("xs", xs) if xs.dtype.kind == "f" else xs
        initial = {name: _leaf(name, given.pop(name)) for name in states}
        if isinstance(self.graph, Network):
            assert self.divisor is not None
            mask = None if problem.live.all() else problem.live
            losses, leaves, run = self.graph(params, xs, targets, mask, **initial)
            return Recorded(losses.sum() / float(DIVISORS[self.divisor](problem.live)), leaves, run)
        found = called("graph", self.graph, params, xs, targets, **initial, **given)
        if not isinstance(found, tuple) or len(found) != 3 or not isinstance(found[2], Unrolled):
            raise UserError("graph must return (loss, {name: Tensor}, what nn.unroll returned)")
        missing = [name for name in params if name not in found[1]]
        if missing:
            raise UserError(
                f"graph returns no Tensor for {', '.join(missing)}; every parameter has a gradient: "
                "return loss, {**params, 'h0': h0}, run"
            )
        return Recorded(*found)


def described(readings: Iterable[Reading]) -> str:
    """Readings in one phrase, with "or" where they differ.

    >>> (network,) = networks("rnn")
    >>> described([Reading(network, network.shapes, "loss summed over all steps")])
    'a vanilla RNN (loss summed over all steps)'
    """
    columns = zip(*(reading.words for reading in readings), strict=True)
    name, *points = (" or ".join(dict.fromkeys(column)) for column in columns)
    return f"{name} ({'; '.join(points)})" if points else name


def candidates(
    written: Handwritten, graph: Graph | None, shapes: Shapes | None, cell: str | None
) -> list[list[Reading]]:
    """The ways to understand a forward, those of the same parameters together.

    Raises UserError for a graph without shapes or the reverse, and for states that no known cell has.

    >>> written = Handwritten(lambda params, xs, targets, h0, c0: None, lambda params, cache: None)
    >>> [group[0].graph.words[0] for group in candidates(written, None, None, None)]
    ['an LSTM']
    """
    if graph is not None:
        if shapes is None:
            raise UserError("with a graph of your own give shapes too, {'W': ('H', 'D'), 'b': ('H',)}")
        return [[Reading(graph, shapes)]]
    if shapes is not None:
        raise UserError("shapes are for a graph of your own; give graph too")
    known = [network for name in ([cell] if cell else NETWORKS) for network in networks(name)]
    fitting = [network for network in known if set(written.states) <= set(network.states)]
    if not fitting:
        raise UserError(
            f"forward takes {', '.join(written.states)}, but the initial states of "
            f"{cell or 'an RNN, LSTM or GRU'} are called h0, and c0 where there is a second; for another "
            "cell give graph and shapes"
        )
    # A cell of which forward asks for all states comes first; others would have a state that starts at zero.
    fitting.sort(key=lambda network: set(network.states) != set(written.states))
    groups: dict[Any, list[Reading]] = {}
    for network in fitting:
        group = groups.setdefault(tuple(network.shapes.items()), [])
        group += [Reading(network, network.shapes, divisor) for divisor in DIVISORS]
    return list(groups.values())


def matching(readings: list[Reading], problem: Problem, states: Iterable[str], loss: float) -> list[Reading]:
    """Those readings of which a forward's loss is the loss. Raises UserError where there are none."""
    values: list[float] = []
    for _, alike in itertools.groupby(readings, key=lambda reading: id(reading.graph)):
        group = list(alike)
        value = float(group[0].record(problem, states).loss.item())
        divisors = [DIVISORS[r.divisor](problem.live) if r.divisor else 1 for r in group]
        values += [value * divisors[0] / divisor for divisor in divisors]
    errors = [abs(value - loss) / max(abs(value), abs(loss), 1e-300) for value in values]
    found = [reading for reading, error in zip(readings, errors, strict=True) if error <= TOLERANCE]
    if found:
        return found
    nearest = errors.index(min(errors))
    if errors[nearest] <= COARSE:
        hint = "is part of it computed in float32? The check runs in float64, the dtype of params"
    elif len(values) > 1:
        hint = "the nearest of all the ways in which this network is written"
    else:
        hint = "mend the one that is wrong"
    raise UserError(
        f"forward's loss is {loss:.10g}, but that of {described([readings[nearest]])} is "
        f"{values[nearest]:.10g} ({hint}); a backward cannot be judged by another forward, so its gradients "
        "were not looked at"
    )


def _leaf(name: str, value: np.ndarray) -> Tensor:
    leaf = Tensor(value.copy(), requires_grad=True)
    leaf.name = name
    return leaf
