"""Fixed points of a cell: states that a constant input leaves where they are, and what is around them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from tensorgrad import tree
from tensorgrad.bptt.jacobians import batch_of, jacobian_rows
from tensorgrad.errors import GraphError, ShapeError, UserError
from tensorgrad.optim import Adam, cosine
from tensorgrad.tensor import Tensor
from tensorgrad.transforms import grad

__all__ = ["FixedPoints", "fixed_points"]


@dataclass(frozen=True)
class FixedPoints:
    """Fixed points of a cell under a constant input, slowest first.

    points: (n, S), the parts of the state side by side; `states` is the same as a tree with n as its batch.
    speeds: (n,) q = 1/2 |F(h, x) - h|^2 at each; 0 for a true fixed point, small for a slow one.
    jacobians: (n, S, S) dF/dh there. eigenvalues: (n, S), complex, greatest modulus first.
    """

    points: np.ndarray
    states: Any
    speeds: np.ndarray
    jacobians: np.ndarray
    eigenvalues: np.ndarray

    @property
    def unstable(self) -> np.ndarray:
        """In how many directions each point repels, (n,): 0 for an attractor, 1 and more for a saddle."""
        return (np.abs(self.eigenvalues) > 1).sum(axis=1)


def fixed_points(
    cell: Callable[[Any, Any], tuple[Any, Any]],
    x: Any,
    starts: Any,
    steps: int = 500,
    lr: float = 0.05,
    tolerance: float = 1e-12,
    apart: float = 1e-3,
) -> FixedPoints:
    """The fixed points of a cell F under a constant input, found from many starting states.

    Minimises q(h) = 1/2 |F(h, x) - h|^2 from every start by Adam, whose learning rate falls to 0, and ends
    with Newton steps where they lower q.
    cell: `(x, state) -> (output, state)`. x: (D,). starts: a state with a batch of n starts on axis 0, such
        as `roll.state`, or states visited in a run.
    tolerance: what q may be; 1e-6 or so also gives slow points, where the state lingers.
    apart: points closer together than this, in any unit, are one.
    Raises ShapeError for starts without a batch axis or an input that is no vector, UserError for settings
    out of range, GraphError for starts of which no part is a floating-point array.
    Source: Sussillo, Barak, "Opening the Black Box: Low-Dimensional Dynamics in High-Dimensional Recurrent
    Neural Networks" (2013).

    >>> import tensorgrad as tg
    >>> W = np.array([[2.0]])  # h = tanh(2 h) at 0, where it repels, and at both sides of it
    >>> starts = np.linspace(-1, 1, 9)[:, None]
    >>> found = fixed_points(lambda x, h: (h, tg.tanh(h @ W + x)), np.zeros(1), starts)
    >>> sorted(found.points[:, 0].round(3).tolist()), found.unstable[np.argmin(abs(found.points[:, 0]))]
    ([-0.958, 0.0, 0.958], np.int64(1))
    """
    what = "fixed_points"
    if type(steps) is not int or steps < 0 or not lr > 0 or not tolerance > 0 or not apart > 0:
        raise UserError(f"{what}: steps must be 0 or more, lr, tolerance and apart greater than 0")
    leaves, structure = tree.flatten(starts)
    values = [np.array(leaf.numpy() if isinstance(leaf, Tensor) else leaf) for leaf in leaves]
    if not values or any(v.dtype.kind != "f" for v in values):
        raise GraphError(f"{what}: every part of the starts must be floating-point numbers")
    n = batch_of(values)
    if any(v.ndim < 2 or len(v) != n for v in values) or not n:
        raise ShapeError(
            f"{what}: the parts of the starts must be (n, ...) for n starts, not {[v.shape for v in values]}"
        )
    x = np.asarray(x.numpy() if isinstance(x, Tensor) else x)
    if x.ndim != 1:
        raise ShapeError(f"{what}: the constant input is one vector (D,), not {x.shape}")
    field = _Field(cell, x, structure, [Tensor(v, requires_grad=True) for v in values])
    field.descend(steps, lr)
    field.polish()
    return _collected(field, tolerance, apart)


class _Field:
    """The map h -> F(h, x) at n states at once."""

    def __init__(self, cell: Any, x: np.ndarray, structure: Any, h: list[Tensor]) -> None:
        self.cell = cell
        self.structure = structure
        self.h = h
        self.n = len(h[0])
        self.xs = Tensor(np.broadcast_to(x, (self.n, *x.shape)))

    def step(self) -> list[Any]:
        """F(h, x), part by part."""
        _, after = self.cell(self.xs, tree.unflatten(self.structure, list(self.h)))
        leaves, structure = tree.flatten(after)
        if not tree.same_structure(structure, self.structure):
            raise ShapeError(
                "fixed_points: the cell's state has another form than the starts: "
                f"{tree.paths(after)} against {tree.paths(tree.unflatten(self.structure, list(self.h)))}"
            )
        return leaves

    def flat(self, leaves: list[Any]) -> np.ndarray:
        """Parts side by side, (n, S)."""
        return np.concatenate([np.asarray(v.numpy()).reshape(self.n, -1) for v in leaves], axis=1)

    def place(self, flat: np.ndarray) -> None:
        """Move to states (n, S)."""
        ends = np.cumsum([v.size // self.n for v in self.h])[:-1]
        for v, piece in zip(self.h, np.split(flat, ends, axis=1), strict=True):
            v.data = piece.reshape(v.shape)

    def residual(self) -> np.ndarray:
        """F(h, x) - h, (n, S)."""
        return self.flat(self.step()) - self.flat(list(self.h))

    def descend(self, steps: int, lr: float) -> None:
        adam = Adam(self.h, lr)
        schedule = cosine(steps) if steps else None
        for k in range(steps):
            assert schedule is not None
            adam.lr = lr * schedule(k)
            # Each start has its own q: the sum over starts has the gradients of all.
            q = sum(((f - h) ** 2).sum() for f, h in zip(self.step(), self.h, strict=True)) * 0.5
            for h, g in zip(self.h, grad(q, self.h), strict=True):
                h.grad = g
            adam.step()

    def polish(self, most: int = 20) -> None:
        """Newton steps on F(h) - h = 0, each kept for those states whose q it lowers."""
        for _ in range(most):
            h, residual = self.flat(list(self.h)), self.residual()
            jacobian = jacobian_rows(self.step(), self.h) - np.eye(h.shape[1], dtype=h.dtype)
            move = np.einsum("nij,nj->ni", np.linalg.pinv(jacobian), residual)
            self.place(h - move)
            better = (self.residual() ** 2).sum(axis=1) < (residual**2).sum(axis=1)
            self.place(np.where(better[:, None], h - move, h))
            if not better.any():
                return


def _collected(field: _Field, tolerance: float, apart: float) -> FixedPoints:
    """The distinct states that are slow enough."""
    flat, speeds = field.flat(list(field.h)), 0.5 * (field.residual() ** 2).sum(axis=1)
    keep: list[int] = []
    for i in np.argsort(speeds, kind="stable"):
        near = [k for k in keep if np.abs(flat[i] - flat[k]).max() < apart]
        if speeds[i] <= tolerance and not near:
            keep.append(int(i))
    jacobians = jacobian_rows(field.step(), field.h)[keep]
    eigenvalues = np.linalg.eigvals(jacobians).astype(complex)
    order = np.argsort(-np.abs(eigenvalues), axis=1)
    return FixedPoints(
        flat[keep],
        tree.unflatten(field.structure, [np.array(v.numpy()[keep]) for v in field.h]),
        speeds[keep],
        jacobians,
        np.take_along_axis(eigenvalues, order, axis=1),
    )
