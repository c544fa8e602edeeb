"""Real-time recurrent learning: the gradient carried forwards in time, beside the state."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from tensorgrad import tree
from tensorgrad.backward import backpropagate
from tensorgrad.bptt.jacobians import batch_of
from tensorgrad.errors import GraphError, ShapeError
from tensorgrad.nn.unroll import Unrolled, alive_steps, unroll_alive
from tensorgrad.tensor import Tensor, seed_of

__all__ = ["RTRL", "rtrl"]


@dataclass(frozen=True)
class RTRL:
    """What real-time recurrent learning found.

    loss: the sum of the losses of all timesteps. gradients: like `params` (by name for a Module), arrays.
    running: (T,) the norm of the gradient of the losses so far: it is known at every timestep.
    influence: (B, S, P) ds_T/dtheta after the last timestep, of S units by all P numbers of the parameters.
    influence_norms: (T,) the norm of it after each timestep.
    """

    loss: float
    gradients: Any
    running: np.ndarray
    influence: np.ndarray
    influence_norms: np.ndarray


def rtrl(
    cell: Callable[[Any, Any], tuple[Any, Any]],
    params: Any,
    xs: Any,
    loss: Callable[[int, Any], Tensor | None],
    state: Any = None,
    lengths: Any = None,
) -> RTRL:
    """The gradient of a loss over a run by forward mode, without going back in time.

    Beside the state it carries the influence of the parameters on it, P_t = ds_t/dtheta:

        P_t = ds_t/ds_{t-1} P_{t-1} + (ds_t/dtheta of this step alone)
        dL/dtheta = sum over t of dL_t/ds_{t-1} P_{t-1} + (dL_t/dtheta of this step alone)

    No timestep is kept once it is over, but each costs B * S backward walks over it and P_t has B * S * P
    numbers: for small cells, to see the method, and to check backpropagation through time, with which it
        agrees.

    cell, xs, state, lengths: as for `nn.unroll`. params: a Module or a tree of Tensors that require a
        gradient.
    loss: `(t, output) -> one number`, the loss of timestep t, or None for a timestep without.
    Raises GraphError for params without gradient and where no timestep has a loss, ShapeError for a loss that
    is not one number.
    Source: Williams, Zipser, "A Learning Algorithm for Continually Running Fully Recurrent Neural Networks"
    (1989).

    >>> import tensorgrad as tg
    >>> cell, xs = tg.nn.RNNCell(2, 3, seed=0), np.ones((6, 1, 2))
    >>> found = rtrl(cell, cell, xs, lambda t, h: (h * h).sum())
    >>> L, grads = tg.value_and_grad(lambda cell: (tg.nn.unroll(cell, xs).outputs ** 2).sum())(cell)
    >>> bool(np.allclose(found.gradients["weight_hh"], grads["weight_hh"], rtol=1e-12))
    True
    """
    what = "rtrl"
    theta, structure = tree.flatten(params)
    for number, p in enumerate(theta):
        if not isinstance(p, Tensor) or not p.requires_grad:
            raise GraphError(f"{what}: leaf {number} of params is no Tensor that requires a gradient")
    if not theta:
        raise GraphError(f"{what}: there is nothing in params")
    xs = xs if isinstance(xs, Tensor) else Tensor(np.array(xs))
    if not xs.ndim or not len(xs):
        raise ShapeError(f"{what}: a sequence needs at least one timestep, but xs has shape {xs.shape}")
    alive = None if lengths is None else alive_steps(lengths, xs)
    if state is None and hasattr(cell, "initial_state"):
        state = cell.initial_state(xs[0])
    learner = _Learner(theta)
    history = []
    for t in range(len(xs)):
        state = learner.enter(state)
        run = unroll_alive(cell, xs[t : t + 1], state, None if alive is None else alive[t : t + 1])
        learner.learn(_loss_of(loss(t, run._each[0]), t))
        state = learner.leave(run)
        history.append((np.linalg.norm(learner.gradient), np.linalg.norm(learner.influence)))
    if not learner.losses:
        raise GraphError(
            f"{what}: no timestep has a loss; let loss(t, output) return a number for one at least"
        )
    running, influence = np.array(history).T
    return RTRL(
        learner.loss, _shaped(learner.gradient, theta, structure), running, learner.influence, influence
    )


def _loss_of(loss: Any, t: int) -> Tensor | None:
    if loss is not None and (not isinstance(loss, Tensor) or loss.size != 1):
        shown = getattr(loss, "shape", type(loss).__name__)
        raise ShapeError(f"rtrl: the loss of timestep {t} must be one number as a Tensor, not {shown}")
    return loss


def _shaped(flat: np.ndarray, theta: list[Tensor], structure: Any) -> Any:
    """The gradient cut into the parameters' shapes, as `value_and_grad` returns it."""
    pieces = np.split(flat, np.cumsum([p.size for p in theta])[:-1])
    arrays = [g.reshape(p.shape).astype(p.dtype) for g, p in zip(pieces, theta, strict=True)]
    if hasattr(structure.kind, "named_parameters"):
        return dict(zip(structure.keys, arrays, strict=True))
    return tree.unflatten(structure, arrays)


class _Learner:
    """The influence of the parameters on the state, and the gradient so far."""

    def __init__(self, theta: list[Tensor]) -> None:
        self.theta = theta
        self.gradient = np.zeros(sum(p.size for p in theta))
        self.influence: Any = None
        self.inputs: list[Tensor] = []
        self.loss = 0.0
        self.losses = 0

    def enter(self, state: Any) -> Any:
        """A state cut off from its past, of which derivatives can be taken."""
        leaves, structure = tree.flatten(state)
        fresh = [_fresh(leaf) for leaf in leaves]
        self.inputs = [x for x in fresh if isinstance(x, Tensor)]
        return tree.unflatten(structure, fresh)

    def learn(self, loss: Tensor | None) -> None:
        """Add the gradient of one timestep's loss."""
        if loss is None:
            return
        self.losses += 1
        self.loss += loss.item()
        if loss.requires_grad:
            by_state, by_theta = self._derivatives(loss, seed_of(loss, None))
            self.gradient += by_theta
            if self.influence is not None:
                self.gradient += np.einsum("bs,bsp->p", by_state, self.influence)

    def leave(self, run: Unrolled) -> Any:
        """Carry the influence over one step; gives the state after it."""
        after = run.states[1]
        outs = [x for x in tree.leaves(after) if isinstance(x, Tensor) and x.dtype.kind == "f"]
        B = batch_of(outs) if outs else 1
        S = sum(out.size // B for out in outs)
        influence = np.zeros((B, S, self.gradient.size))
        row = 0
        for out in outs:
            for k in range(out.size // B if out.requires_grad else 0):
                for b in range(B):
                    seed = np.zeros((B, out.size // B), out.dtype)
                    seed[b, k] = 1
                    by_state, by_theta = self._derivatives(out, seed.reshape(out.shape))
                    influence[b, row + k] = by_theta
                    if self.influence is not None:
                        influence[b, row + k] += by_state[b] @ self.influence[b]
            row += out.size // B
        self.influence = influence
        return after

    def _derivatives(self, y: Tensor, seed: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """By the state before, (B, S), and by the parameters, (P,), with the state before held fixed."""
        found = backpropagate([(y, seed)], [*self.inputs, *self.theta], cut=True)

        def of(x: Tensor) -> np.ndarray:
            g = found.get(x.index)
            return np.zeros(x.shape) if g is None else g

        B = batch_of(self.inputs) if self.inputs else 1
        parts = [of(x).reshape(B, -1) for x in self.inputs]
        by_state = np.concatenate(parts, axis=1) if parts else np.zeros((B, 0))
        return by_state, np.concatenate([of(p).ravel() for p in self.theta])


def _fresh(leaf: Any) -> Any:
    value = leaf.numpy() if isinstance(leaf, Tensor) else leaf
    floats = isinstance(value, np.ndarray) and value.dtype.kind == "f"
    return Tensor(value, requires_grad=True) if floats else leaf
