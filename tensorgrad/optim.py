"""Optimisers, gradient clipping, learning-rate schedules. Names and defaults are PyTorch's.

A step gives every parameter a new array and never writes into the old one, so graphs recorded before keep
their gradients right. Parameters without a gradient are left alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from tensorgrad.context import context
from tensorgrad.errors import GraphError, ShapeError
from tensorgrad.tensor import Tensor

__all__ = [
    "SGD",
    "Adagrad",
    "Adam",
    "AdamW",
    "Optimiser",
    "RMSprop",
    "Schedule",
    "clip_grad_norm",
    "clip_grad_value",
    "cosine",
    "exponential",
    "step_decay",
    "warmup",
]


def _number(owner: str, name: str, value: float, low: float = 0.0, high: float = math.inf) -> float:
    """A finite number within [low, high). Raises ValueError otherwise; NaN is never accepted."""
    if not (low <= value < high):
        raise ValueError(f"{owner}: {name} must lie in [{low:g}, {high:g}), not {value!r}")
    return float(value)


class _Progress:
    """What changes from step to step. tracer: what traces the function within which it was made, if any."""

    __slots__ = ("counts", "lr", "state", "tracer")

    def __init__(self, lr: float, counts: list[int], state: dict[str, list[np.ndarray]]) -> None:
        self.lr, self.counts, self.state = lr, counts, state
        self.tracer = context().tracer


class Optimiser:
    """What all optimisers share: the parameters, the learning rate, and state arrays for each parameter.

    parameters: Tensors that require a gradient. lr: the learning rate, which may be set between steps.
    counts: how many steps each parameter took. state: for each name in `slots` an array for each parameter.

    A kind of your own names its `slots` and says in `update` what a step does, in NumPy; what it remembers
    from step to step belongs in `state`. Then it can be compiled as part of a training step.

    Raises ValueError for a learning rate that is negative or not finite, GraphError for no parameters, for a
    parameter given twice, and for what is no leaf Tensor.
    """

    slots: tuple[str, ...] = ()

    def __init__(self, parameters: Iterable[Tensor], lr: float) -> None:
        self.parameters = list(parameters)
        if not self.parameters:
            raise GraphError(f"{type(self).__name__}: there are no parameters to train")
        for p in self.parameters:
            if not isinstance(p, Tensor) or not p.is_leaf:
                what = p.describe() if isinstance(p, Tensor) else repr(p)
                raise GraphError(
                    f"{type(self).__name__}: the {what} cannot be trained; give a list of leaf Tensors, such "
                    "as model.parameters()"
                )
        if len({id(p) for p in self.parameters}) < len(self.parameters):
            raise GraphError(f"{type(self).__name__}: a parameter is given twice, and would be updated twice")
        self._progress = _Progress(
            _number(type(self).__name__, "lr", lr),
            [0] * len(self.parameters),
            {slot: [np.zeros_like(p._value) for p in self.parameters] for slot in self.slots},
        )

    def _now(self) -> Any:
        tracer = context().tracer
        return self._progress if tracer is None else tracer.effects.progress(self)

    lr: float = property(  # type: ignore[assignment]
        lambda self: self._now().lr, lambda self, lr: setattr(self._now(), "lr", lr), doc="The learning rate."
    )
    counts: list[int] = property(  # type: ignore[assignment]
        lambda self: self._now().counts,
        lambda self, counts: setattr(self._now(), "counts", counts),
        doc="How many steps each parameter took.",
    )
    state: dict[str, list[np.ndarray]] = property(  # type: ignore[assignment]
        lambda self: self._now().state,
        lambda self, state: setattr(self._now(), "state", state),
        doc="For each slot an array for each parameter.",
    )

    def update(self, value: np.ndarray, g: np.ndarray, k: int) -> np.ndarray:
        """The new value of parameter number `k` from its value and gradient; advances the state."""
        raise TypeError(f"{type(self).__name__} does not say how to update: give it an update method")

    def step(self) -> None:
        """Update every parameter from its `grad`."""
        tracer = context().tracer
        for k, p in enumerate(self.parameters):
            g = p.grad
            if g is not None:
                self.counts[k] += 1
                value = self.update(p._value if tracer is None else p.numpy(), g, k)
                value = value if value.dtype == p._value.dtype else value.astype(p._value.dtype)
                if tracer is None:
                    p._value = value
                else:
                    p.data = value

    def zero_grad(self) -> None:
        """Forget the gradients of all parameters."""
        for p in self.parameters:
            p.grad = None

    def state_dict(self) -> dict[str, np.ndarray]:
        """Everything needed to go on bit for bit, as arrays by name: "counts", "lr" and "<slot>.<number>"."""
        arrays = {f"{slot}.{k}": a.copy() for slot, each in self.state.items() for k, a in enumerate(each)}
        return {"counts": np.array(self.counts), "lr": np.array(self.lr), **arrays}

    def load_state_dict(self, state: Mapping[str, np.ndarray]) -> None:
        """Go on from a saved state. Raises ShapeError, and changes nothing, if it is of other parameters."""
        mine = self.state_dict()
        if set(mine) != set(state) or any(np.shape(state[name]) != a.shape for name, a in mine.items()):
            raise ShapeError(f"this state is not of a {type(self).__name__} of these parameters")
        self.counts = [int(n) for n in state["counts"]]
        self.lr = float(state["lr"])
        for slot, each in self.state.items():
            for k, a in enumerate(each):
                each[k] = np.array(state[f"{slot}.{k}"], dtype=a.dtype)


class SGD(Optimiser):
    """Stochastic gradient descent, with momentum and weight decay as options.

        v = momentum v + g + weight_decay w
        w = w - lr v            (nesterov: w - lr (g + momentum v))

    Source: Sutskever et al., "On the importance of initialization and momentum in deep learning" (2013).

    >>> import tensorgrad as tg
    >>> w = tg.tensor([1.0], requires_grad=True)
    >>> w.grad = np.array([2.0])
    >>> SGD([w], lr=0.25).step()
    >>> w
    Tensor([0.5], requires_grad=True)
    """

    slots: tuple[str, ...] = ("velocity",)

    def __init__(
        self,
        parameters: Iterable[Tensor],
        lr: float,
        momentum: float = 0.0,
        weight_decay: float = 0.0,
        nesterov: bool = False,
    ) -> None:
        self.momentum = _number("SGD", "momentum", momentum)
        if not self.momentum:
            self.slots = ()
        if nesterov and not self.momentum:
            raise ValueError("SGD: nesterov needs a momentum above 0")
        self.weight_decay = _number("SGD", "weight_decay", weight_decay)
        self.nesterov = nesterov
        super().__init__(parameters, lr)

    def update(self, value: np.ndarray, g: np.ndarray, k: int) -> np.ndarray:
        if self.weight_decay:
            g = g + self.weight_decay * value
        if self.momentum:
            v = self.momentum * self.state["velocity"][k] + g
            self.state["velocity"][k] = v
            g = g + self.momentum * v if self.nesterov else v
        return value - self.lr * g


class Adagrad(Optimiser):
    """Adagrad: steps divided by the root of all squared gradients so far.

        s = s + g**2
        w = w - lr g / (sqrt(s) + eps)

    Source: Duchi, Hazan, Singer, "Adaptive Subgradient Methods" (2011), figure 1.
    """

    slots = ("square_sum",)

    def __init__(self, parameters: Iterable[Tensor], lr: float = 1e-2, eps: float = 1e-10) -> None:
        self.eps = _number("Adagrad", "eps", eps)
        super().__init__(parameters, lr)

    def update(self, value: np.ndarray, g: np.ndarray, k: int) -> np.ndarray:
        s = self.state["square_sum"][k] + np.square(g)
        self.state["square_sum"][k] = s
        return value - self.lr * g / (np.sqrt(s) + self.eps)


class RMSprop(Optimiser):
    """RMSprop: steps divided by the root of a running mean of squared gradients.

        s = alpha s + (1 - alpha) g**2
        w = w - lr g / (sqrt(s) + eps)

    Source: Tieleman, Hinton, "Neural Networks for Machine Learning", lecture 6.5 (2012).
    """

    slots = ("square_mean",)

    def __init__(
        self, parameters: Iterable[Tensor], lr: float = 1e-2, alpha: float = 0.99, eps: float = 1e-8
    ) -> None:
        self.alpha = _number("RMSprop", "alpha", alpha, high=1.0)
        self.eps = _number("RMSprop", "eps", eps)
        super().__init__(parameters, lr)

    def update(self, value: np.ndarray, g: np.ndarray, k: int) -> np.ndarray:
        s = self.alpha * self.state["square_mean"][k] + (1 - self.alpha) * np.square(g)
        self.state["square_mean"][k] = s
        return value - self.lr * g / (np.sqrt(s) + self.eps)


class Adam(Optimiser):
    """Adam: steps along a running mean of gradients, divided by the root of that of their squares.

        m = beta1 m + (1 - beta1) g        v = beta2 v + (1 - beta2) g**2
        w = w - lr (m / (1 - beta1**t)) / (sqrt(v / (1 - beta2**t)) + eps)

    weight_decay is added to the gradient; see `AdamW` for the decoupled kind.
    Source: Kingma, Ba, "Adam" (2015), algorithm 1.
    """

    slots = ("mean", "square_mean")

    def __init__(
        self,
        parameters: Iterable[Tensor],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        owner = type(self).__name__
        self.betas = (
            _number(owner, "beta1", betas[0], high=1.0),
            _number(owner, "beta2", betas[1], high=1.0),
        )
        self.eps = _number(owner, "eps", eps)
        self.weight_decay = _number(owner, "weight_decay", weight_decay)
        super().__init__(parameters, lr)

    def _direction(self, g: np.ndarray, k: int) -> np.ndarray:
        beta1, beta2 = self.betas
        m = beta1 * self.state["mean"][k] + (1 - beta1) * g
        v = beta2 * self.state["square_mean"][k] + (1 - beta2) * np.square(g)
        self.state["mean"][k], self.state["square_mean"][k] = m, v
        n = self.counts[k]
        root = np.sqrt(v) / (1 - beta2**n) ** 0.5 + self.eps
        direction: np.ndarray = m / ((1 - beta1**n) * root)
        return direction

    def update(self, value: np.ndarray, g: np.ndarray, k: int) -> np.ndarray:
        if self.weight_decay:
            g = g + self.weight_decay * value
        return value - self.lr * self._direction(g, k)


class AdamW(Adam):
    """Adam with the decay of the weights apart from the gradient: w = w - lr weight_decay w, then Adam.

    Source: Loshchilov, Hutter, "Decoupled Weight Decay Regularization" (2019), algorithm 2.
    """

    def __init__(
        self,
        parameters: Iterable[Tensor],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
    ) -> None:
        super().__init__(parameters, lr, betas, eps, weight_decay)

    def update(self, value: np.ndarray, g: np.ndarray, k: int) -> np.ndarray:
        return value * (1 - self.lr * self.weight_decay) - self.lr * self._direction(g, k)


# --- clipping --------------------------------------------------------------------------------------------


def clip_grad_norm(parameters: Iterable[Tensor], max_norm: float) -> float:
    """Scale all gradients together so that their common norm is at most `max_norm`; returns the norm before.

    The factor is max_norm / (norm + 1e-6), as in PyTorch, so that training here follows training there. A
    norm that is NaN or infinite leaves the gradients as they are, for the caller to see.
    Source: Pascanu, Mikolov, Bengio, "On the difficulty of training recurrent neural networks" (2013),
    algorithm 1.

    >>> import tensorgrad as tg
    >>> w = tg.tensor([0.0, 0.0], requires_grad=True)
    >>> w.grad = np.array([3.0, 4.0])
    >>> clip_grad_norm([w], 1.0), w.grad.round(3)
    (5.0, array([0.6, 0.8]))
    """
    max_norm = _number("clip_grad_norm", "max_norm", max_norm)
    owners = [p for p in parameters if p.grad is not None]
    # Squares are summed in float64: in float32 an exploding gradient would overflow before it is clipped.
    squares = [np.square(p.grad.astype(np.float64)).sum() for p in owners]
    norm = np.sqrt(sum(squares, np.float64(0)))
    factor = max_norm / (norm + 1e-6)
    tracer = context().tracer
    clipping = np.logical_and(factor < 1, norm < math.inf)
    if tracer is None:
        if not clipping:
            return float(norm)
    else:
        factor = np.where(clipping, factor, 1.0)
    for p in owners:
        p.grad = p.grad * factor.astype(p.grad.dtype)
    return float(norm) if tracer is None else tracer.number(norm, "norm")


def clip_grad_value(parameters: Iterable[Tensor], max_value: float) -> None:
    """Limit every element of every gradient to -max_value .. max_value.

    >>> import tensorgrad as tg
    >>> w = tg.tensor([0.0, 0.0], requires_grad=True)
    >>> w.grad = np.array([3.0, -0.5])
    >>> clip_grad_value([w], 1.0)
    >>> w.grad
    array([ 1. , -0.5])
    """
    max_value = _number("clip_grad_value", "max_value", max_value)
    for p in parameters:
        if p.grad is not None:
            p.grad = np.clip(p.grad, -max_value, max_value)


# --- schedules -------------------------------------------------------------------------------------------

Schedule = Callable[[int], float]
"""A function from the number of the step or epoch, from 0, to the factor of the first learning rate."""


def exponential(gamma: float) -> Schedule:
    """gamma ** n.

    >>> exponential(0.5)(3)
    0.125
    """
    _number("exponential", "gamma", gamma)
    return lambda n: gamma**n


def step_decay(every: int, gamma: float = 0.1) -> Schedule:
    """gamma ** (n // every).

    >>> step_decay(10, 0.5)(25)
    0.25
    """
    _number("step_decay", "every", every, low=1)
    return lambda n: gamma ** (n // every)


def cosine(total: int, floor: float = 0.0) -> Schedule:
    """From 1 down to `floor` over `total` steps along half a cosine.

    Source: Loshchilov, Hutter, "SGDR" (2017), equation 5.

    >>> cosine(10)(5)
    0.5
    """
    _number("cosine", "total", total, low=1)
    return lambda n: floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * min(n / total, 1.0)))


def warmup(steps: int, then: Schedule = lambda n: 1.0) -> Schedule:
    """Rising evenly to 1 over `steps` steps, then the schedule `then` counted from there.

    >>> [warmup(4)(n) for n in (0, 3, 9)]
    [0.25, 1.0, 1.0]
    """
    _number("warmup", "steps", steps, low=1)
    return lambda n: (n + 1) / steps if n < steps else then(n - steps)
