"""What a compiled function makes itself: anew at every call, as in eager mode, or refused."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest

import tensorgrad as tg
from tensorgrad import nn, optim
from tensorgrad.errors import GraphError

from .common import assert_same

X = np.random.default_rng(0).standard_normal((4, 3))


class Growing(optim.Optimiser):
    """Remembers a number of its own too, which is anew with it."""

    slots = ("mean",)

    def __init__(self, parameters: Any, lr: float) -> None:
        super().__init__(parameters, lr)
        self.lr *= 2
        self.steps = 0

    def update(self, value: Any, g: Any, k: int) -> Any:
        self.steps += 1
        self.state["mean"][k] = 0.5 * self.state["mean"][k] + self.steps * g
        return value - self.lr * self.state["mean"][k]


def momentum(parameters: Any, lr: float) -> Any:
    return optim.SGD(parameters, lr, momentum=0.9)


KINDS: list[Any] = [optim.SGD, momentum, optim.Adagrad, optim.RMSprop, optim.Adam, optim.AdamW, Growing]


@pytest.mark.parametrize("kind", KINDS)
def test_optimisers_begin_anew_at_every_call(kind: Any) -> None:
    def step_of(model: Any, outer: Any) -> Any:
        def step(x: Any) -> Any:
            inner = kind(model.parameters(), lr=0.05)
            # The one from outside goes on from call to call.
            for each in (inner, outer, inner):
                each.zero_grad()
                loss = ((model(x) - 1) ** 2).mean()
                loss.backward()
                each.step()
                inner.lr *= 0.5
            return loss * inner.counts[0]

        return step

    models = [nn.Linear(3, 2, seed=0) for _ in range(2)]
    outers = [optim.Adam(m.parameters(), 0.01) for m in models]
    eager, compiled = map(step_of, models, outers)
    compiled = tg.compile(compiled)
    for _ in range(4):
        assert_same(compiled(X), eager(X))
        assert_same([m.state_dict() for m in models[:1]], [m.state_dict() for m in models[1:]])
    assert_same(outers[0].state_dict(), outers[1].state_dict())
    assert compiled.cache_info().programs == 1


def test_parameters_and_their_optimiser() -> None:
    def fitted(x: Any) -> Any:
        w = tg.tensor(np.zeros(3), requires_grad=True)
        adam = optim.Adam([w], 0.1)
        for _ in range(5):
            adam.zero_grad()
            ((x @ w - 1) ** 2).sum().backward()
            adam.step()
        return w.detach()

    step = tg.compile(fitted)
    for k in range(3):
        assert_same(step(X + k), fitted(X + k))


def test_copies_of_what_is_outside_are_refused() -> None:
    """Their values would be those of the first call."""
    model = nn.Linear(3, 2, seed=0)
    with pytest.raises(GraphError, match=r"a copy needs the values of the tensor 'weight'"):
        tg.compile(lambda x: copy.deepcopy(model)(x))(X)


def test_generators_are_refused_also_where_several_draws_share_one() -> None:
    for make in (
        lambda x: nn.Dropout(0.5, seed=0)(x),
        lambda x: nn.LSTM(3, 4, num_layers=2, dropout=0.5, zoneout=0.5, seed=0)(x[None])[0],
    ):
        with pytest.raises(GraphError, match="made within the function"):
            tg.compile(make)(X)
