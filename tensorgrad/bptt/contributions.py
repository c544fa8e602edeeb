"""Each timestep's share of a weight's gradient, and how far back in time shares still matter."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from tensorgrad.backward import backpropagate
from tensorgrad.bptt.partition import Uses, entries
from tensorgrad.bptt.rolls import layers_of, seeded
from tensorgrad.errors import GraphError
from tensorgrad.graph import Node
from tensorgrad.nn.module import Module
from tensorgrad.tensor import Tensor

__all__ = ["Contributions", "Horizon", "contributions", "truncation_horizon"]


@dataclass(frozen=True)
class Contributions:
    """The gradient of a tensor that all timesteps use, split by timestep.

    shares: (T, *shape of the tensor). rest: the share that passes through no timestep.
    """

    shares: np.ndarray
    rest: np.ndarray

    @property
    def total(self) -> np.ndarray:
        """The whole gradient: the sum of the shares and the rest."""
        total: np.ndarray = self.shares.sum(axis=0) + self.rest
        return total

    @property
    def norms(self) -> np.ndarray:
        """The norm of each timestep's share, (T,)."""
        return np.linalg.norm(self.shares.reshape(len(self.shares), -1).astype(np.float64), axis=1)

    @property
    def along(self) -> np.ndarray:
        """How much of the whole gradient each share makes up along its direction, (T,); without a rest they
        add up to 1. A negative one points against the sum of the others."""
        g = self.total.astype(np.float64).ravel()
        square = g @ g
        dots = self.shares.reshape(len(self.shares), -1) @ g
        return dots / square if square else np.zeros(len(dots))


def contributions(loss: Tensor, x: Tensor, roll: Any) -> Contributions:
    """Each timestep's share of dL/dx for a weight, or whatever else all timesteps use.

    roll: what `nn.unroll`, or the `unroll` of layers, returned. A share belongs to timestep t when it comes
        to x by way of an operation in the scope "t=<t>" of the run, also where the step uses what was made of
        x outside, such as embedded inputs. Operations elsewhere, such as a readout of all outputs at once,
        give the `rest`: call the readout in the cell to have it split.
    One walk for all timesteps.
    Raises GraphError for a tensor that is no part of the graph or belongs to one timestep, and a run made
    with checkpoint=....

    >>> import tensorgrad as tg
    >>> cell = tg.nn.RNNCell(2, 3, seed=0)
    >>> roll = tg.nn.unroll(cell, np.ones((5, 1, 2)))
    >>> loss = (roll.outputs ** 2).sum()
    >>> parts = contributions(loss, cell.weight_hh, roll)
    >>> parts.shares.shape, bool(np.allclose(parts.total, tg.grad(loss, [cell.weight_hh])[0]))
    ((5, 3, 3), True)
    """
    what = "contributions"
    layers_of(what, roll)
    uses = Uses(what, loss, x, roll)
    shares = np.zeros((len(roll), *x.shape), x.dtype)
    if uses.nodes:
        found = seeded(what, loss, [node for node, _ in uses.nodes.values()])
        for t, share in uses.shares(found).items():
            shares[t] = share
    return Contributions(shares, uses.outside())


@dataclass(frozen=True)
class Horizon:
    """How a gradient truncated after k timesteps differs from the whole one.

    steps: (T,) k from 1 to T. errors: (T,) the norm of the difference, over that of the whole gradient.
    cosines: (T,) of the angle between the two.
    """

    steps: np.ndarray
    errors: np.ndarray
    cosines: np.ndarray

    def within(self, tolerance: float) -> int:
        """The fewest steps from which on the error stays at or below a tolerance."""
        beyond = np.flatnonzero(self.errors > tolerance)
        return int(beyond[-1]) + 2 if beyond.size else 1


def truncation_horizon(loss: Tensor, wrt: Any, roll: Any) -> Horizon:
    """The error of gradients truncated after k timesteps, for every k.

    Truncated after k steps, what the loss sends into timestep i (see `itemised`) reaches the uses of the
    weights in the k timesteps i, i-1, ..., i-k+1 and none further back. With k = T nothing is left out. It is
    the gradient that `nn.truncated` approaches, whose windows of k steps reach back between 1 and k of them.
    wrt: the tensors whose gradients are compared, taken together: a Tensor, several, or a Module.
    T walks over the run: O(T^2) in time.
    Raises GraphError as `contributions`.
    Source: the truncated gradient is that of Williams, Peng, "An Efficient Gradient-Based Algorithm for
    On-Line Training of Recurrent Network Trajectories" (1990).

    >>> from tensorgrad import nn
    >>> cell = nn.RNNCell(2, 3, seed=0)
    >>> roll = nn.unroll(cell, np.ones((30, 1, 2)))
    >>> horizon = truncation_horizon((roll.steps[-1]["h"] ** 2).sum(), cell, roll)
    >>> bool(horizon.errors[-1] < 1e-12), horizon.within(0.01) < 10
    (True, True)
    """
    what = "truncation_horizon"
    layers_of(what, roll)
    uses = [Uses(what, loss, x, roll) for x in _tensors(what, wrt)]
    T = len(roll)
    lags = [np.zeros((T, *use.x.shape)) for use in uses]
    nodes = list({i: node for use in uses for i, (node, _) in use.nodes.items()}.values())
    if not nodes:
        raise GraphError(f"{what}: no timestep of this run uses what the gradients are taken of")
    for i, seeds in entries(what, loss, roll).items():
        found = backpropagate(seeds, nodes)
        for lag, use in zip(lags, uses, strict=True):
            for t, share in use.shares(found).items():
                lag[abs(i - t)] += share
    outside = [use.outside() for use in uses]
    sums = np.concatenate(
        [(lag.cumsum(axis=0) + rest).reshape(T, -1) for lag, rest in zip(lags, outside, strict=True)], axis=1
    )
    whole = sums[-1]
    size = np.linalg.norm(whole)
    if not size:
        raise GraphError(f"{what}: the whole gradient is zero, so no truncation of it has an error")
    lengths = np.linalg.norm(sums, axis=1)
    cosines = np.divide(sums @ whole, lengths * size, out=np.zeros(T), where=lengths > 0)
    return Horizon(np.arange(1, T + 1), np.linalg.norm(sums - whole, axis=1) / size, cosines)


def _tensors(what: str, wrt: Any) -> list[Any]:
    if isinstance(wrt, Module):
        return [p for _, p in wrt.named_parameters()]
    if isinstance(wrt, Node):
        return [wrt]
    if not isinstance(wrt, Iterable):
        raise GraphError(f"{what}: wrt is a Tensor, several, or a Module, not {type(wrt).__name__}")
    return list(wrt)
