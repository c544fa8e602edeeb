"""What every study of a run asks of it: its layers, the parts of its state, which operation is in which step.

A node belongs to timestep t when it was recorded in the scope "t=<t>" of the run, be it by the cell or by the
user who computes a loss inside `tg.scope("t=3")`. Two runs that were recorded in one and the same scope
cannot be told apart by it: give each a `tg.scope` of its own.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from tensorgrad import tree
from tensorgrad.backward import backpropagate
from tensorgrad.errors import GraphError
from tensorgrad.graph import Node
from tensorgrad.nn.unroll import Unrolled
from tensorgrad.tensor import Tensor, seed_of

__all__ = ["Part", "layers_of", "seeded", "single_run", "state_parts", "timestep_finder"]


class Part(NamedTuple):
    """One Tensor of a state, followed through time.

    name: what it is labelled, "h", or "l0.h" among several layers.
    before, after: for each timestep what enters and what leaves it: Tensors, or, where the run's start
        or the cell gave something else, that.
    """

    name: str
    before: list[Any]
    after: list[Any]


def layers_of(what: str, roll: Any, whole: bool = True) -> dict[str, Unrolled]:
    """The runs of which a run consists, by name: of each layer and direction, or itself under "".

    what: who asks, for the messages. whole: whether all of each timestep must be on record.
    Raises GraphError for what is no run, and for one that checkpointed its timesteps and must be whole.
    """
    if not isinstance(roll, Unrolled):
        raise GraphError(
            f"{what}: the run is what nn.unroll(cell, xs), or the unroll method of layers, returns, not "
            f"{type(roll).__name__}"
        )
    layers: dict[str, Unrolled] = getattr(roll, "layers", {"": roll})
    if whole and not all(run.states for run in layers.values()):
        raise GraphError(
            f"{what}: this run was made with checkpoint=..., so what happens in its timesteps is not part of "
            "the graph; unroll it again without"
        )
    return layers if len(layers) > 1 else {"": next(iter(layers.values()))}


def single_run(what: str, roll: Any) -> Unrolled:
    """The run of one cell. Raises GraphError for several layers, and as `layers_of`."""
    runs = layers_of(what, roll)
    if len(runs) > 1:
        raise GraphError(
            f"{what}: each of the layers {', '.join(runs)} has a state of its own; give one of them, "
            f"such as roll.layers[{next(iter(runs))!r}]"
        )
    return runs[""]


def state_parts(what: str, roll: Any) -> list[Part]:
    """The parts of the state that gradients flow through, of all layers.

    Left out: what carries no gradient at any timestep, such as a counter, and a Tensor that the state holds
    a second time. Raises GraphError for a run that kept no states, or of which nothing was recorded.
    """
    parts = []
    for layer, run in layers_of(what, roll).items():
        parts += [
            part._replace(name=f"{layer}.{part.name}" if layer else part.name) for part in _parts(what, run)
        ]
    if not parts:
        raise GraphError(
            f"{what}: no part of the state carries a gradient; was the run made under no_grad, or with "
            "weights that do not require one?"
        )
    return parts


def _parts(what: str, run: Unrolled) -> list[Part]:
    leaves = [tree.leaves(state) for state in run.states]
    first = leaves[1]
    for i, each in enumerate(leaves[1:]):
        if len(each) != len(first):
            raise GraphError(
                f"{what}: the state has {len(first)} parts after the first step and {len(each)} after step "
                f"{i}; a cell must give its state the same form at every timestep"
            )
    start = leaves[0] if len(leaves[0]) == len(first) else [None] * len(first)
    names = _names(run.states[1])
    parts: list[Part] = []
    for k, name in enumerate(names):
        line = [start[k], *(each[k] for each in leaves[1:])]
        seen = any(all(map(_same, line[1:], part.after)) for part in parts)
        if not seen and any(map(_flows, line[1:])):
            parts.append(Part(name, line[:-1], line[1:]))
    if run.reverse:
        parts = [Part(name, before[::-1], after[::-1]) for name, before, after in parts]
    return parts


def _same(a: Any, b: Any) -> bool:
    return a is b


def _flows(x: Any) -> bool:
    return isinstance(x, Tensor) and x.requires_grad


def _names(state: Any) -> list[str]:
    """A name for each leaf: what it is labelled, where no other is labelled so."""
    labels = [getattr(leaf, "name", None) for leaf in tree.leaves(state)]
    plain = [f"state.{path}" if path else "state" for path in tree.paths(state)]
    return [
        label if label and labels.count(label) == 1 else path
        for label, path in zip(labels, plain, strict=True)
    ]


def seeded(what: str, loss: Any, wanted: Sequence[Node], cut: bool = False) -> dict[int, np.ndarray]:
    """The cotangents of Tensors in a loss, by creation number; see `backpropagate`.

    Raises GraphError where the loss is no number of the graph, or depends on none of the Tensors.
    """
    if not isinstance(loss, Tensor):
        raise GraphError(f"{what}: the loss is a Tensor, not {type(loss).__name__}; give the loss first")
    found = backpropagate([(loss, seed_of(loss, None))], wanted, cut=cut)
    if not found:
        raise GraphError(
            f"{what}: the loss does not depend on this run; was it computed from another one, or from "
            "arrays (.numpy(), .data) in place of the run's Tensors?"
        )
    return found


def timestep_finder(roll: Unrolled) -> Callable[[Node], int | None]:
    """The function that says to which timestep of a run a node belongs; None for what is in none."""
    runs = [roll, *getattr(roll, "layers", {}).values()]
    prefixes = "|".join(re.escape(f"{run.scope}/" if run.scope else "") for run in runs)
    pattern = re.compile(rf"(?:{prefixes})t=(\d+)(?:/|$)")
    known: dict[str, int | None] = {}

    def timestep(node: Node) -> int | None:
        if node.op is None:
            return None
        scope = node.scope
        if scope not in known:
            match = pattern.match(scope)
            t = int(match[1]) if match else len(roll)
            known[scope] = t if t < len(roll) else None
        return known[scope]

    return timestep
