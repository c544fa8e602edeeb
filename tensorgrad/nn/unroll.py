"""Unrolling a cell over time: T calls of it, every step in its own scope, every labelled tensor on record."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tensorgrad import tree
from tensorgrad.context import change_context, collector_paused, configure, context
from tensorgrad.errors import ShapeError
from tensorgrad.ops import stack, where
from tensorgrad.tensor import Tensor

__all__ = ["Unrolled", "unroll"]


class Unrolled:
    """A cell's run over a sequence.

    state: the state after the last step, a tree like the initial one.
    steps: for each timestep a dict of the tensors that the cell labelled, with "x" and "output".
    """

    def __init__(self, outputs: list[Any], state: Any, steps: list[dict[str, Any]]) -> None:
        self._each = outputs
        self._stacked: Any = None
        self.state = state
        self.steps = steps

    @property
    def outputs(self) -> Any:
        """The outputs of all timesteps stacked, (T, B, ...); a tree of them if the cell gives one.

        Stacked when first asked for: a run whose outputs are used step by step has no node for it.
        """
        if self._stacked is None:
            # Kept for later, so recorded even if first looked at under no_grad.
            with configure(recording=True):
                self._stacked = tree.map(lambda *leaves: stack(leaves), *self._each)
        return self._stacked

    def __len__(self) -> int:
        return len(self.steps)

    def __repr__(self) -> str:
        return f"Unrolled(T={len(self)}, labels={sorted(self.steps[0])})"


def unroll(
    cell: Callable[[Any, Any], tuple[Any, Any]],
    xs: Any,
    state: Any = None,
    lengths: Any = None,
    reverse: bool = False,
) -> Unrolled:
    """Run a cell over a sequence and keep what it labelled at every timestep.

    cell: any `(x, state) -> (output, state)`. xs: (T, B, ...) or (T, ...), an array or a Tensor.
    state: any tree; None leaves the start to the cell.
    lengths: integers (B,). From a sequence's length on, its state passes through unchanged and its outputs
        are zeros, so nothing depends on the padding.
    reverse: go from the last timestep to the first; outputs and steps stay in the order of time.
    Raises ShapeError for an empty sequence, lengths that do not fit, or a cell that returns no pair.

    >>> import tensorgrad as tg
    >>> roll = tg.nn.unroll(tg.nn.RNNCell(2, 3, seed=0), np.ones((5, 1, 2)))
    >>> roll.outputs.shape, sorted(roll.steps[4])
    ((5, 1, 3), ['a', 'h', 'output', 'x'])
    """
    xs = xs if isinstance(xs, Tensor) else Tensor(np.array(xs))
    if not xs.ndim or not len(xs):
        raise ShapeError(f"unroll: a sequence needs at least one timestep, but xs has shape {xs.shape}")
    T = len(xs)
    alive = _alive(lengths, xs) if lengths is not None else None
    if alive is not None and not alive.all():
        # NaN or ids out of range in the padding would otherwise reach the gradients, or stop the cell.
        xs = where(alive.reshape(alive.shape + (1,) * (xs.ndim - 2)), xs, 0)
    outputs: list[Any] = [None] * T
    steps: list[dict[str, Any]] = [{} for _ in range(T)]
    outer = context().scope
    with configure(), collector_paused():
        for t in reversed(range(T)) if reverse else range(T):
            labels = steps[t]
            change_context(scope=f"{outer}/t={t}" if outer else f"t={t}", labels=labels)
            x = xs[t] if xs.requires_grad else Tensor(xs._value[t])
            _name(labels, "x", x)
            pair = cell(x, state)
            if not isinstance(pair, tuple) or len(pair) != 2:
                raise ShapeError(f"unroll: the cell must return (output, state), not {type(pair).__name__}")
            output, after = pair
            if alive is not None and not alive[t].all():
                output, after = _masked(alive[t], output, after, state, labels)
            state = after
            _name_state(labels, state)
            outputs[t] = output
            if isinstance(output, Tensor):
                _name(labels, "output", output)
    return Unrolled(outputs, state, steps)


def _name(labels: dict[str, Any], name: str, x: Tensor) -> None:
    labels.setdefault(name, x)
    if x.name is None:
        x.name = name


def _name_state(labels: dict[str, Any], state: Any) -> None:
    """Names for the parts of a state that the cell did not label: "state", or "state.<path>"."""
    if isinstance(state, Tensor):
        if state.name is None:
            _name(labels, "state", state)
        return
    for path, leaf in zip(tree.paths(state), tree.leaves(state), strict=True):
        if isinstance(leaf, Tensor) and leaf.name is None:
            _name(labels, f"state.{path}" if path else "state", leaf)


def _alive(lengths: Any, xs: Tensor) -> np.ndarray:
    """Which sequences still run at each timestep, (T, B)."""
    lengths = np.asarray(lengths)
    T, B = len(xs), xs.shape[1] if xs.ndim > 1 else 0
    if lengths.dtype.kind not in "iu" or lengths.shape != (B,):
        raise ShapeError(f"unroll: lengths must be {B} integers, one for each sequence, not {lengths!r}")
    if ((lengths < 0) | (lengths > T)).any():
        raise ShapeError(f"unroll: lengths must lie in 0..{T}, the number of timesteps, not {lengths!r}")
    return np.arange(T)[:, None] < lengths


def _masked(
    alive: np.ndarray, output: Any, after: Any, before: Any, labels: dict[str, Any]
) -> tuple[Any, Any]:
    """Zero outputs and unchanged state for the sequences that have ended."""

    def along(x: Any) -> np.ndarray:
        return alive.reshape(alive.shape + (1,) * (x.ndim - 1))

    def keep(new: Any, old: Any) -> Any:
        kept = where(along(new), new, old)
        name = getattr(new, "name", None)
        # The state that leaves the step takes over the name under which the cell computed it.
        if name is not None and labels.get(name) is new:
            labels[name] = kept
            kept.name = name
        return kept

    if before is None:
        before = tree.map(lambda new: np.zeros(new.shape, new.dtype), after)
    output = tree.map(lambda new: where(along(new), new, 0), output)
    return output, tree.map(keep, after, before)
