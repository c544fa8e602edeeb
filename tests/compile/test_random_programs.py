"""Programs drawn at random: what the planner may write over, and when, shows best where nobody chose it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import tensorgrad as tg
from tensorgrad import functional as F
from tensorgrad import nn

from .common import assert_same

# Of (B, H) and (B, H), H at least 3, to (B, H).
STEPS: list[Callable[[Any, Any], Any]] = [
    lambda x, y: x + y,
    lambda x, y: x * y * 0.5,
    lambda x, y: x - y,
    lambda x, y: x / (1 + y * y),
    lambda x, y: tg.tanh(x),
    lambda x, y: tg.sigmoid(x - y),
    lambda x, y: tg.maximum(x, y),
    lambda x, y: tg.where(tg.greater(x, y), x, y * 0.3),
    lambda x, y: F.softmax(x),
    lambda x, y: F.layer_norm(x),
    lambda x, y: x - x.mean(0, keepdims=True),
    lambda x, y: x * y.sum(1, keepdims=True) * 0.2,
    lambda x, y: tg.cumsum(x, 1) * 0.3 + tg.logsumexp(y, 1)[:, None],
    lambda x, y: tg.broadcast_to(x.max(1, keepdims=True), x.shape) * y,
    lambda x, y: tg.concatenate([x[:, 2:], y[:, :2]], 1),
    lambda x, y: tg.concatenate([tg.sigmoid(x[:, :2]), tg.sigmoid(x[:, 2:3]), tg.tanh(x[:, 3:])], 1),
    lambda x, y: tg.stack([x, y], 1)[:, 0] + tg.stack([x, y], 0)[1],
    lambda x, y: tg.flip(x, 1),
    lambda x, y: tg.tanh(x.T).T,
    lambda x, y: x.reshape(-1).reshape(x.shape) * 1.0,
    lambda x, y: x[:, [0, 0, *range(1, x.shape[1] - 1)]],
    lambda x, y: tg.index_update(x, (slice(None), 0), y[:, 1]),
    lambda x, y: tg.index_add(x, (slice(None), [1, 1]), y[:, :2]),
    lambda x, y: x @ (y.T @ x) * 0.1,
    lambda x, y: tg.einsum("bi,bj->bij", x, y).sum(2) * 0.2,
]


def grown(values: list[Any], seed: int, count: int) -> list[Any]:
    """The values and `count` more, each made of two of those before it."""
    rng = np.random.default_rng(seed)
    values = list(values)
    for _ in range(count):
        step = STEPS[rng.integers(len(STEPS))]
        values.append(step(values[rng.integers(len(values))], values[rng.integers(len(values))]))
    return values


def program(seed: int, states: int, count: int, reverse: bool, masked: bool) -> Callable[..., Any]:
    """A recurrence and what follows it, with the gradients of parameters and of the first state."""

    def step(params: Any, h0: Any, xs: Any, lengths: Any) -> Any:
        def loss(given: Any) -> Any:
            p, h0 = given

            def cell(x: Any, state: Any) -> Any:
                rng = np.random.default_rng(seed)
                start = [x @ p["W"] + p["b"], *state, state[0] @ p["U"]]
                values = grown(start, seed, count)
                # Parts of the state are new values, or old parts handed on.
                after = [values[rng.integers(len(values))] for _ in state]
                after = [tg.tanh(v) if rng.integers(2) else state[rng.integers(len(state))] for v in after]
                return values[rng.integers(len(values))], tuple(after)

            roll = nn.unroll(cell, xs, tuple(h0), lengths=lengths if masked else None, reverse=reverse)
            values = grown([roll.outputs[-1], roll.outputs[0], *roll.state], seed + 1, count)
            return (values[-1] ** 2).mean() + (roll.outputs**2).mean() + values[-2].sum() * 0.1, roll.state

        return tg.value_and_grad(loss, has_aux=True)((params, h0))

    return step


@pytest.mark.parametrize("seed", range(40))
def test_a_random_program(seed: int) -> None:
    rng = np.random.default_rng(seed)
    T, B, D, H = (int(n) for n in rng.integers((2, 2, 2, 3), 6))
    states, count = int(rng.integers(1, 4)), int(rng.integers(2, 9))
    params = {
        "W": rng.standard_normal((D, H)),
        "U": rng.standard_normal((H, H)) * 0.5,
        "b": rng.standard_normal(H),
    }
    fn = program(seed, states, count, bool(rng.integers(2)), bool(rng.integers(2)))
    compiled = tg.compile(fn)
    for T_, B_ in ((T, B), (T, B), (T + 2, B + 1)):
        xs, lengths = rng.standard_normal((T_, B_, D)), rng.integers(1, T_ + 1, size=B_)
        h0 = [rng.standard_normal((B_, H)) for _ in range(states)]
        assert_same(compiled(params, h0, xs, lengths), fn(params, h0, xs, lengths))
