"""A first timestep that is not like the others: it is traced by itself, before the loop over the rest.

So it is where the state has another shape, dtype or form at first than after a step: zeros (H,) for a batch,
whole numbers, or none at all, where the cell makes it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from tensorgrad import tree
from tensorgrad.context import change_context, configure, context
from tensorgrad.errors import GraphError, ShapeError
from tensorgrad.nn.unroll import Unrolled, _masked, _name, _name_state, as_pair
from tensorgrad.ops import concatenate, stack
from tensorgrad.tensor import Tensor

__all__ = ["OtherFormError", "first_apart"]


class OtherFormError(ShapeError):
    """A state that comes out of a timestep in another form than it went in."""


def first_apart(
    cell: Any, xs: Any, state: Any, alive: Any, reverse: bool, rest: Callable[[Any, Any, Any], Unrolled]
) -> Unrolled:
    """`nn.unroll` of a cell over xs (T, ...) as one timestep and `rest`, which is given what is left."""
    T = xs._value.shape[0]
    if state is None and alive is not None and reverse:
        raise GraphError(
            "tg.compile: backwards, a shorter sequence waits at the initial state, which this cell does not "
            "tell; give nn.unroll a state, or the cell a method initial_state(x)"
        )
    now, later = (-1, slice(None, -1)) if reverse else (0, slice(1, None))
    outer = context().scope
    labels: dict[str, Any] = {}
    with configure():
        change_context(scope=f"{outer}/first" if outer else "first", labels=labels)
        x = xs[now]
        _name(labels, "x", x)
        output, after = as_pair(cell(x, state))
        if alive is not None:
            output, after = _masked(alive[now], output, after, state, labels)
        _name_state(labels, after)
        if isinstance(output, Tensor):
            _name(labels, "output", output)
    if T == 1:
        return Unrolled([output], after, [labels], [state, after], reverse, alive)
    roll = rest(xs[later], after, None if alive is None else alive[later])

    def joined(one: Any, others: Any) -> Any:
        parts = [stack([one]), others]
        return concatenate(parts[::-1] if reverse else parts, 0)

    whole = Unrolled(
        [], roll.state, _Steps(labels, roll.steps, reverse), _States(state, roll.states), reverse, alive
    )
    whole._stacked = tree.map(joined, output, roll.outputs)
    return whole


class _Steps(Sequence[dict[str, Any]]):
    """The labelled tensors of the first timestep and of the others, in the order of time."""

    def __init__(self, first: dict[str, Any], others: Sequence[dict[str, Any]], reverse: bool) -> None:
        self.first, self.others, self.reverse = first, others, reverse

    def __len__(self) -> int:
        return len(self.others) + 1

    def __getitem__(self, t: Any) -> Any:
        if isinstance(t, slice):
            return [self[k] for k in range(*t.indices(len(self)))]
        if self.reverse:
            # Counted from the end, where the run began.
            t = t - len(self) if t >= 0 else t
            return self.first if t == -1 else self.others[t + 1]
        t = t + len(self) if t < -1 else t
        return self.first if t == 0 else self.others[t - (t > 0)]

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return (self[t] for t in range(len(self)))


class _States(Sequence[Any]):
    """The state before the first step and after each, in the order of the run."""

    def __init__(self, first: Any, others: Sequence[Any]) -> None:
        self.first, self.others = first, others

    def __len__(self) -> int:
        return len(self.others) + 1

    def __getitem__(self, k: Any) -> Any:
        if isinstance(k, slice):
            return [self[i] for i in range(*k.indices(len(self)))]
        k = k + len(self) if k < -1 else k
        return self.first if k == 0 else self.others[k - (k > 0)]

    def __iter__(self) -> Iterator[Any]:
        return (self[k] for k in range(len(self)))
