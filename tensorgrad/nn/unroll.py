"""Unrolling a cell over time: T calls of it, every step in its own scope, every labelled tensor on record."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tensorgrad import transforms, tree
from tensorgrad.context import change_context, collector_paused, configure, context
from tensorgrad.errors import DtypeError, ShapeError
from tensorgrad.ops import stack, where
from tensorgrad.tensor import Tensor

__all__ = ["Unrolled", "detach", "unroll"]


class Unrolled:
    """A cell's run over a sequence.

    state: the state after the last step, a tree like the initial one.
    steps: for each timestep a dict of the tensors that the cell labelled, with "x" and "output".
    states: in the order of the run, the state before the first step (None where the cell made it) and the one
        after each: T + 1 trees. Empty where steps were checkpointed, which leaves no such tensors, and for
        layers, whose states are those of each of `layers`.
    reverse: whether the run went from the last timestep to the first.
    alive: (T, B) booleans, which sequences still ran; None without lengths.
    scope: in which the run was made; its operations are in "<scope>/t=0", "<scope>/t=1", ...
    """

    def __init__(
        self,
        outputs: list[Any],
        state: Any,
        steps: Sequence[dict[str, Any]],
        states: Sequence[Any] = (),
        reverse: bool = False,
        alive: np.ndarray | None = None,
    ) -> None:
        self._each = outputs
        self._stacked: Any = None
        self.state = state
        self.steps = steps
        self.states = states
        self.reverse = reverse
        self.alive = alive
        self.scope = context().scope

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
    checkpoint: int | str | None = None,
) -> Unrolled:
    """Run a cell over a sequence and keep what it labelled at every timestep.

    cell: any `(x, state) -> (output, state)`. xs: (T, B, ...) or (T, ...), an array or a Tensor.
    state: any tree; None leaves the start to the cell.
    lengths: integers (B,). From a sequence's length on, its state passes through unchanged and its outputs
        are zeros, so nothing depends on the padding.
    reverse: go from the last timestep to the first; outputs and steps stay in the order of time.
    checkpoint: so many timesteps, or "sqrt" for the square root of T, are kept as one piece: only its outputs
        and the state after it stay in memory, and the backward walk runs it again for the rest. Gradients are
        the same to the last bit; `steps` then has the outputs alone.
    Raises ShapeError for an empty sequence, lengths that do not fit, or a cell that returns no pair;
    ValueError for another checkpoint.

    >>> import tensorgrad as tg
    >>> roll = tg.nn.unroll(tg.nn.RNNCell(2, 3, seed=0), np.ones((5, 1, 2)))
    >>> roll.outputs.shape, sorted(roll.steps[4])
    ((5, 1, 3), ['a', 'h', 'output', 'x'])
    """
    xs = as_tensor(xs, "xs")
    alive = alive_steps(lengths, xs) if lengths is not None else None
    return unroll_alive(cell, xs, state, alive, reverse, checkpoint)


def unroll_alive(
    cell: Callable[[Any, Any], tuple[Any, Any]],
    xs: Tensor,
    state: Any,
    alive: np.ndarray | None,
    reverse: bool = False,
    checkpoint: int | str | None = None,
) -> Unrolled:
    """`unroll` for sequences that run where `alive`, (T, B) booleans, says so."""
    if not xs.ndim or not len(xs):
        raise ShapeError(f"unroll: a sequence needs at least one timestep, but xs has shape {xs.shape}")
    T = len(xs)
    piece = _piece(checkpoint, T)
    if alive is not None:
        # NaN or ids out of range in the padding would otherwise reach the gradients, or stop the cell.
        xs = where(alive.reshape(alive.shape + (1,) * (xs.ndim - 2)), xs, 0)
        # What has not begun yet, going backwards, waits at the start.
        if state is None and hasattr(cell, "initial_state"):
            state = cell.initial_state(xs[0])
        if state is None and reverse and context().tracer is None and not alive.all():
            raise ShapeError(
                "unroll: backwards, a shorter sequence waits at the initial state, which this cell does not "
                "tell; give a state"
            )
    tracer = context().tracer
    if tracer is not None:
        traced: Unrolled = tracer.unroll(
            cell, xs, state, alive, reverse, checkpoint if checkpoint in (None, "sqrt") else piece
        )
        return traced
    run = _Run(cell, alive)
    outputs: list[Any] = [None] * T
    steps: list[dict[str, Any]] = [{} for _ in range(T)]
    states: list[Any] = []
    times = list(reversed(range(T))) if reverse else list(range(T))
    with collector_paused():
        for start in range(0, T, piece):
            now = times[start : start + piece]
            if checkpoint is None:
                states.append(state)
                made, state = run(now, xs, state, steps, states)
            else:
                made, state = transforms.checkpoint(run, now, xs, state)
            for t, output in zip(now, made, strict=True):
                outputs[t] = output
                if isinstance(output, Tensor):
                    _name(steps[t], "output", output)
    return Unrolled(outputs, state, steps, states, reverse, alive)


def detach(state: Any) -> Any:
    """A state, any tree of Tensors, cut off from how it was computed.

    >>> import tensorgrad as tg
    >>> h = tg.tensor([1.0], requires_grad=True) * 2
    >>> detach((h, h))[0].requires_grad
    False
    """
    return tree.map(lambda leaf: leaf.detach() if isinstance(leaf, Tensor) else leaf, state)


class _Run:
    """Some timesteps of a cell: from inputs and the state before to outputs and the state after."""

    def __init__(self, cell: Callable[[Any, Any], tuple[Any, Any]], alive: np.ndarray | None) -> None:
        self.cell = cell
        self.alive = alive

    def __call__(
        self,
        times: list[int],
        xs: Tensor,
        state: Any,
        steps: list[dict[str, Any]] | None = None,
        states: list[Any] | None = None,
    ) -> tuple[list[Any], Any]:
        outer = context().scope
        outputs = []
        with configure():
            for t in times:
                labels: dict[str, Any] = {} if steps is None else steps[t]
                change_context(scope=f"{outer}/t={t}" if outer else f"t={t}", labels=labels)
                x = xs[t] if xs.requires_grad else Tensor(np.asarray(xs._value[t]))
                _name(labels, "x", x)
                output, after = as_pair(self.cell(x, state))
                if self.alive is not None:
                    # At every step, or the order in which gradients add up would tell of the other sequences.
                    output, after = _masked(self.alive[t], output, after, state, labels)
                state = after
                _name_state(labels, state)
                if states is not None:
                    states.append(state)
                outputs.append(output)
        return outputs, state


def _piece(checkpoint: int | str | None, T: int) -> int:
    """How many timesteps are run as one piece."""
    if checkpoint is None:
        return T
    if checkpoint == "sqrt":
        return math.isqrt(T - 1) + 1
    if not isinstance(checkpoint, (int, np.integer)) or isinstance(checkpoint, bool) or checkpoint < 1:
        raise ValueError(
            f"unroll: checkpoint is a number of timesteps from 1 up, or 'sqrt', not {checkpoint!r}"
        )
    return int(checkpoint)


def as_tensor(x: Any, what: str) -> Any:
    """x as a Tensor. Raises DtypeError, which calls it `what`, for what is no array of numbers."""
    try:
        return x if isinstance(x, Tensor) else Tensor(np.array(x))
    except DtypeError:
        raise DtypeError(
            f"unroll: {what} must be an array, a Tensor or a number, not {type(x).__name__}"
        ) from None


def as_pair(made: Any) -> tuple[Any, Any]:
    """What a cell returned. Raises ShapeError if that is no pair."""
    if isinstance(made, tuple) and len(made) == 2:
        return made
    what = f"a tuple of {len(made)}" if isinstance(made, tuple) else type(made).__name__
    raise ShapeError(f"unroll: the cell must return (output, state), not {what}")


def check_form(before: Any, after: Any, why: str) -> None:
    """Raise ShapeError for a state that comes out of a cell in another form than it went in."""
    if not tree.same_structure(tree.flatten(before)[1], tree.flatten(after)[1]):
        into, out = (str(tree.map(lambda x: type(x).__name__, s)).replace("'", "") for s in (before, after))
        raise ShapeError(f"unroll: the state goes into the cell as {into} and comes out as {out}; {why}")


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


def alive_steps(lengths: Any, xs: Any) -> np.ndarray:
    """Which sequences still run at each timestep, (T, B), for xs (T, B, ...).

    Raises ShapeError for lengths that are not B integers from 1 to T.

    >>> alive_steps([1, 2], np.zeros((2, 2, 3)))
    array([[ True,  True],
           [False,  True]])
    """
    tracer = context().tracer
    traced = tracer is not None and isinstance(lengths, Tensor)
    lengths = lengths if traced else np.asarray(lengths)
    T, B = xs.shape[:2] if xs.ndim > 1 else (len(xs), 0)
    if lengths.dtype.kind not in "iu" or lengths.shape != (B,):
        given = f"{lengths.dtype} of shape {lengths.shape}" if traced else repr(lengths)
        raise ShapeError(f"lengths must be {B} integers, one for each sequence, not {given}")
    if traced:
        lengths = tracer.in_range(lengths, T + 1, "lengths", low=1)
        alive: np.ndarray = tracer.timesteps(xs)[:, None] < lengths
        return alive
    wrong = np.flatnonzero((lengths < 1) | (lengths > T))
    if wrong.size:
        raise ShapeError(
            f"lengths must lie in 1..{T}, the number of timesteps, but lengths[{wrong[0]}] is "
            f"{lengths[wrong[0]]}"
        )
    return np.arange(T)[:, None] < lengths


def _masked(alive: Any, output: Any, after: Any, before: Any, labels: dict[str, Any]) -> tuple[Any, Any]:
    """Zero outputs and unchanged state for the sequences that have ended."""

    def along(x: Any) -> Any:
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
    check_form(before, after, "with lengths it needs the same form at every step")
    # The state first, so that in the backward the output's gradient comes before the state's.
    kept = tree.map(keep, after, before)
    return tree.map(lambda new: where(along(new), new, 0), output), kept
