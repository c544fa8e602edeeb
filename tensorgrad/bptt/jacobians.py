"""Jacobians of the state: what one step does to it, what many do, and at which rate nearby states part."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tensorgrad.backward import backpropagate
from tensorgrad.bptt.rolls import single_run, state_parts
from tensorgrad.errors import GraphError, ShapeError, UserError
from tensorgrad.tensor import Tensor

__all__ = ["LyapunovExponents", "StateJacobians", "jacobian_rows", "lyapunov_exponents", "state_jacobians"]


@dataclass(frozen=True)
class StateJacobians:
    """ds_t/ds_{t-1} of a run, where s is all parts of the state side by side, of each sequence on its own.

    values: (n, B, S, S) in the order of the run: values[i] leads from the state after timestep times[i] to
        that after times[i + 1]. n is T where the initial state carries a gradient and T - 1 otherwise: then
        the first step has nothing to be differentiated by.
    times: (n + 1,) timesteps; -1 for the initial state, T for that of a run in reverse.
    parts: by name the slice of the S units that each part of the state takes.
    """

    values: np.ndarray
    times: np.ndarray
    parts: dict[str, slice]

    def block(self, of: str, by: str) -> np.ndarray:
        """The derivatives of one part of the state by another, (n, B, S_of, S_by): block("c", "c")."""
        return self.values[:, :, self.parts[of], self.parts[by]]

    def product(self, start: int, stop: int) -> np.ndarray:
        """ds_stop/ds_start over a span of timesteps, (B, S, S): the product of the Jacobians in between.

        start, stop: as in `times`.
        Raises UserError for timesteps that the run does not go through in that order.
        """
        times = self.times.tolist()
        if start not in times or stop not in times or times.index(start) > times.index(stop):
            raise UserError(
                f"product: there is no span from timestep {start} to {stop}; spans lie between "
                f"{times[0]} and {times[-1]}, in the order of the run"
            )
        out = np.broadcast_to(np.eye(self.values.shape[-1], dtype=self.values.dtype), self.values.shape[1:])
        for jacobian in self.values[times.index(start) : times.index(stop)]:
            out = jacobian @ out
        return np.array(out)

    def singular_values(self) -> np.ndarray:
        """By how much each step stretches, (n, B, S), greatest first."""
        return np.linalg.svd(self.values, compute_uv=False)

    def spans(self) -> np.ndarray:
        """The singular values of the last state by each state before, (n + 1, B, S), greatest first.

        Row i is for the state after timestep times[i]; the last row is 1. What is below about 1e-16 (1e-7 in
        float32) of the greatest is rounding.
        """
        n, B, S, _ = self.values.shape
        out = np.ones((n + 1, B, S), self.values.dtype)
        product = np.broadcast_to(np.eye(S, dtype=self.values.dtype), (B, S, S))
        for i in reversed(range(n)):
            product = product @ self.values[i]
            out[i] = np.linalg.svd(product, compute_uv=False)
        return out


def state_jacobians(roll: Any) -> StateJacobians:
    """The Jacobian of each step of a run, ds_t/ds_{t-1}, for every sequence of the batch.

    The parts of the state are laid side by side, so an LSTM with H units has S = 2H. A state whose parts
    are all vectors is that of one sequence, B = 1. For layers, ask each: `roll.layers["l1"]`.
    S walks over each step, from the recorded graph; a cell must treat the sequences of a batch independently,
    as all cells of `nn` do.
    Raises GraphError for several layers, a run that was not recorded or made with checkpoint=..., and one
    that has no two states with a gradient.

    >>> from tensorgrad import nn
    >>> import tensorgrad as tg
    >>> W = tg.tensor([[0.5, 1.0], [0.0, 0.5]], requires_grad=True)
    >>> roll = nn.unroll(lambda x, h: (h @ W + x, h @ W + x), np.ones((4, 1, 2)), np.zeros((1, 2)))
    >>> J = state_jacobians(roll)
    >>> J.values.shape, J.product(0, 2)[0].T
    ((3, 1, 2, 2), array([[0.25, 1.  ],
           [0.  , 0.25]]))
    """
    what = "state_jacobians"
    run = single_run(what, roll)
    parts = state_parts(what, run)
    order = list(reversed(range(len(run)))) if run.reverse else list(range(len(run)))
    steps = [(t, [p.before[t] for p in parts], [p.after[t] for p in parts]) for t in order]
    if not all(isinstance(x, Tensor) and x.requires_grad for x in steps[0][1]):
        steps = steps[1:]
    if not steps:
        raise GraphError(
            f"{what}: one timestep and an initial state that carries no gradient; give the run a state that "
            "requires one, or a second timestep"
        )
    values = np.stack([jacobian_rows(after, before) for _, before, after in steps])
    first = steps[0][0] + (1 if run.reverse else -1)
    return StateJacobians(
        values, np.array([first, *(t for t, _, _ in steps)]), _slices([p.name for p in parts], steps[0][2])
    )


def batch_of(leaves: Sequence[Any]) -> int:
    """How many sequences a state holds: the length of axis 0, unless all its parts are vectors or numbers."""
    return int(leaves[0].shape[0]) if any(x.ndim > 1 for x in leaves) else 1


def _slices(names: list[str], leaves: Sequence[Any]) -> dict[str, slice]:
    ends = np.cumsum([0, *(x.size // batch_of(leaves) for x in leaves)]).tolist()
    return {name: slice(a, b) for name, a, b in zip(names, ends, ends[1:], strict=False)}


def jacobian_rows(outputs: Sequence[Any], inputs: Sequence[Any]) -> np.ndarray:
    """The derivatives of the parts of one state by those of another, (B, S, S').

    Each of all sequences at once: they are independent, so the sum over the batch is the derivative of each.
    """
    B = batch_of(outputs)
    nodes = [x for x in inputs if isinstance(x, Tensor) and x.requires_grad]
    rows = []
    for out in outputs:
        for k in range(out.size // B):
            found = {}
            if out.requires_grad:
                seed = np.zeros((B, out.size // B), out.dtype)
                seed[:, k] = 1
                found = backpropagate([(out, seed.reshape(out.shape))], nodes, cut=True)
            rows.append([_row(found, x, B) for x in inputs])
    return np.stack([np.concatenate(row, axis=1) for row in rows], axis=1)


def _row(found: dict[int, np.ndarray], x: Any, B: int) -> np.ndarray:
    g = found.get(x.index)
    return (np.zeros(x.shape, x.dtype) if g is None else g).reshape(B, -1)


@dataclass(frozen=True)
class LyapunovExponents:
    """The mean rates at which small differences between states grow, per timestep, in nats.

    values: (B, count), greatest first. The greatest tells: below 0 differences, and gradients, vanish; above
        0 the dynamics are chaotic and gradients explode.
    running: (n, B, count) the estimates after each of the timesteps that count; their last is `values`.
    """

    values: np.ndarray
    running: np.ndarray


def lyapunov_exponents(
    jacobians: StateJacobians | np.ndarray, count: int | None = None, warmup: int = 0
) -> LyapunovExponents:
    """Lyapunov exponents of a run, from its Jacobians by successive QR decompositions.

    jacobians: of `state_jacobians`, or (n, B, S, S) or (n, S, S). count: how many of the greatest exponents,
        all S by default. warmup: the first so many steps turn the frame towards the directions of growth and
        do not count. The estimate is over a finite time, so use long runs.
    A direction that a step annihilates has the exponent -inf.
    Raises ShapeError for another shape, UserError for a warmup that leaves nothing, GraphError for Jacobians
    that are not finite.
    Sources: Benettin, Galgani, Giorgilli, Strelcyn, "Lyapunov Characteristic Exponents for Smooth Dynamical
    Systems" (1980); for recurrent networks Engelken, Wolf, Abbott, "Lyapunov spectra of chaotic recurrent
    neural networks" (2023).

    >>> found = lyapunov_exponents(np.broadcast_to(np.diag([0.5, 2.0]), (60, 2, 2)), warmup=20)
    >>> np.allclose(found.values, np.log([2.0, 0.5]))
    True
    """
    what = "lyapunov_exponents"
    values = jacobians.values if isinstance(jacobians, StateJacobians) else np.asarray(jacobians)
    values = values[:, None] if values.ndim == 3 else values
    if values.ndim != 4 or values.shape[-1] != values.shape[-2]:
        raise ShapeError(f"{what}: Jacobians are (n, B, S, S) or (n, S, S), not {values.shape}")
    n, B, S, _ = values.shape
    count = S if count is None else count
    if not 1 <= count <= S:
        raise UserError(f"{what}: count is between 1 and S={S}, not {count}")
    if not 0 <= warmup < n:
        raise UserError(f"{what}: a warmup of {warmup} of {n} steps leaves nothing to take the mean of")
    if not np.isfinite(values).all():
        raise GraphError(f"{what}: the Jacobians are not finite")
    # Any orthonormal frame will do but one that lies in an invariant subspace, as the axes easily do.
    start = np.linalg.qr(np.random.default_rng(0).normal(size=(S, count)))[0]
    frame = np.broadcast_to(start, (B, S, count))
    rates = []
    for jacobian in values.astype(np.float64):
        frame, upper = np.linalg.qr(jacobian @ frame)
        with np.errstate(divide="ignore"):
            rates.append(np.log(np.abs(np.diagonal(upper, axis1=1, axis2=2))))
    counted = np.stack(rates[warmup:])
    running = counted.cumsum(axis=0) / np.arange(1, len(counted) + 1)[:, None, None]
    running = -np.sort(-running, axis=-1)
    return LyapunovExponents(running[-1], running)
