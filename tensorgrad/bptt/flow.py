"""How much of the gradient reaches which timestep, and what it comes from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tensorgrad.backward import backpropagate
from tensorgrad.bptt.partition import entries
from tensorgrad.bptt.rolls import layers_of, seeded, state_parts
from tensorgrad.errors import GraphError
from tensorgrad.tensor import Tensor

__all__ = ["GradientFlow", "Itemised", "gradient_flow", "itemised"]


@dataclass(frozen=True)
class GradientFlow:
    """The gradient of a loss with respect to tensors of every timestep.

    gradients: by name, (T, B, ...) or, of a run without a batch axis, (T, ...): dL/dh_t for each t.
    """

    gradients: dict[str, np.ndarray]

    @property
    def norms(self) -> dict[str, np.ndarray]:
        """By name the norm of dL/dh_t over the whole batch, (T,)."""
        return {name: _norms(g) for name, g in self.gradients.items()}

    def per_unit(self, name: str) -> np.ndarray:
        """The norm over the batch of dL/dh_t for each unit, (T, ...) without the batch axis."""
        g = self.gradients[name]
        norm: np.ndarray = np.sqrt((g * g).sum(axis=1)) if g.ndim > 2 else np.abs(g)
        return norm

    def factor(self, name: str) -> float:
        """By what the norm is multiplied in each step back in time: the geometric mean over the run.

        Below 1 the gradient vanishes, above 1 it explodes. Taken from the last timestep that any gradient
        reaches; 0 where it dies on the way, 1 for a single timestep.
        """
        norms = self.norms[name]
        last = int(np.flatnonzero(norms).max(initial=0))
        return float((norms[0] / norms[last]) ** (1 / last)) if last else 1.0


def gradient_flow(loss: Tensor, roll: Any, of: str | Sequence[str] | None = None) -> GradientFlow:
    """dL/dh_t for every timestep t: how much of the loss can be felt there.

    roll: what `nn.unroll`, or the `unroll` of layers, returned. of: labels, as in `roll.steps`; by default
        all parts of the state ("h" and "c" of an LSTM, "l0.h" of layers). What the loss does not depend on at
        a timestep has zeros there.
    It is the whole gradient: dL/dc_t of an LSTM has in it what goes through h_t, which is made of c_t.
    A sequence that has ended (`lengths`) hands its state through, so its dL/dh_t stays what it was at its
    end.
    Raises GraphError for an unknown label, a loss that does not depend on the run, a run that was not
    recorded, and one made with checkpoint=..., which has its outputs alone: of="output".

    >>> from tensorgrad import nn
    >>> roll = nn.unroll(nn.LSTMCell(2, 3, seed=0), np.ones((20, 1, 2)))
    >>> flow = gradient_flow((roll.steps[-1]["h"] ** 2).sum(), roll)
    >>> sorted(flow.norms), flow.gradients["c"].shape, bool(flow.factor("c") < 1)
    (['c', 'h'], (20, 1, 3), True)
    """
    what = "gradient_flow"
    layers_of(what, roll, whole=of is None)
    if of is None:
        tensors = {part.name: part.after for part in state_parts(what, roll)}
    else:
        tensors = {name: _labelled(what, roll, name) for name in ([of] if isinstance(of, str) else of)}
    found = seeded(what, loss, [x for line in tensors.values() for x in line if isinstance(x, Tensor)])
    return GradientFlow({name: _stacked(found, line) for name, line in tensors.items()})


def _labelled(what: str, roll: Any, name: str) -> list[Any]:
    for t, step in enumerate(roll.steps):
        if name not in step:
            raise GraphError(
                f"{what}: nothing is labelled {name!r} at timestep {t}; labels there are {', '.join(step)}"
            )
        if not step[name].requires_grad:
            raise GraphError(f"{what}: {name!r} of timestep {t} does not require a gradient")
    return [step[name] for step in roll.steps]


def _stacked(found: dict[int, np.ndarray], line: list[Any]) -> np.ndarray:
    """Cotangents of one tensor through time, (T, ...)."""
    return np.stack([found[x.index] if x.index in found else np.zeros(x.shape, x.dtype) for x in line])


def _norms(g: np.ndarray) -> np.ndarray:
    """(T, ...) to (T,)."""
    return np.linalg.norm(g.reshape(len(g), -1).astype(np.float64), axis=1)


@dataclass(frozen=True)
class Itemised:
    """dL/dh_j, split by the timestep i at which the loss was fed.

    norms: by name of the part of the state, (T, T): the norm of dL_i/dh_j in row i, column j. Zero above the
        diagonal, since no state acts on what came before it (below it, for a run in reverse).
    total: by name (T,), the norm of the sum over i, which is dL/dh_j.
    """

    norms: dict[str, np.ndarray]
    total: dict[str, np.ndarray]

    def kept(self, name: str) -> np.ndarray:
        """Which share of the items' norms is left in their sum, (T,), from 0 to 1; NaN where there is none.

        Near 1 the items point the same way; near 0 they cancel, and a small dL/dh_j is no sign of vanishing.
        """
        items = self.norms[name].sum(axis=0)
        return np.divide(self.total[name], items, out=np.full(items.shape, np.nan), where=items > 0)


def itemised(loss: Tensor, roll: Any) -> Itemised:
    """The triangle of norms of dL_i/dh_j: what each timestep's loss sends back to each state.

    L_i is what reaches the loss through timestep i of the run first: the loss of step i where the loss is
    a sum over timesteps, and where it is not, its share by the chain rule. It tells a gradient that vanishes
    on its way (rows fade to the left) from one that is small because items cancel in the sum (`kept`).
    T walks over the run: O(T^2) in time.
    Raises GraphError as `gradient_flow`.
    Source: Cashman, Patterson, Mosca, Watts, Robinson, Chang, "RNNbow: Visualizing Learning via
    Backpropagation Gradients in Recurrent Neural Networks" (2019), arXiv 1907.12545.

    >>> from tensorgrad import nn
    >>> roll = nn.unroll(nn.RNNCell(2, 3, seed=0), np.ones((4, 1, 2)))
    >>> items = itemised(roll.outputs.sum(), roll)
    >>> (items.norms["h"] > 0).astype(int)
    array([[1, 0, 0, 0],
           [1, 1, 0, 0],
           [1, 1, 1, 0],
           [1, 1, 1, 1]])
    """
    what = "itemised"
    parts = {part.name: part.after for part in state_parts(what, roll)}
    nodes = [x for line in parts.values() for x in line if isinstance(x, Tensor)]
    whole = seeded(what, loss, nodes)
    T = len(roll)
    norms = {name: np.zeros((T, T)) for name in parts}
    for i, seeds in entries(what, loss, roll).items():
        found = backpropagate(seeds, nodes)
        for name, line in parts.items():
            norms[name][i] = _norms(_stacked(found, line))
    return Itemised(norms, {name: _norms(_stacked(whole, line)) for name, line in parts.items()})
