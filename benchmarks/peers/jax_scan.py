"""JAX: ``jit`` of ``value_and_grad`` over ``lax.scan``, waited for until it is computed."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.problem import Problem, Step

Weights = dict[str, Any]


def rnn(w: Weights, h: Any, x: Any) -> tuple[Any, Any]:
    h = jnp.tanh(x @ w["W_xh"].T + h @ w["W_hh"].T + w["b_h"])
    return h, h


def lstm(w: Weights, state: Any, x: Any) -> tuple[Any, Any]:
    h, c = state
    i, f, g, o = jnp.split(x @ w["W_xh"].T + h @ w["W_hh"].T + w["b_h"], 4, axis=-1)
    c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
    h = jax.nn.sigmoid(o) * jnp.tanh(c)
    return (h, c), h


def gru(w: Weights, h: Any, x: Any) -> tuple[Any, Any]:
    x_r, x_z, x_n = jnp.split(x @ w["W_xh"].T + w["b_h"], 3, axis=-1)
    h_r, h_z, h_n = jnp.split(h @ w["W_hh"].T + w["b_hh"], 3, axis=-1)
    z = jax.nn.sigmoid(x_z + h_z)
    n = jnp.tanh(x_n + jax.nn.sigmoid(x_r + h_r) * h_n)
    h = (1 - z) * n + z * h
    return h, h


def layer_norm(x: Any, gain: Any, shift: Any) -> Any:
    centred = x - x.mean(axis=-1, keepdims=True)
    return centred * jax.lax.rsqrt((centred**2).mean(axis=-1, keepdims=True) + 1e-5) * gain + shift


def layernorm_lstm(w: Weights, state: Any, x: Any) -> tuple[Any, Any]:
    h, c = state
    a = layer_norm(h @ w["W_hh"].T, w["gain_h"], w["shift_h"])
    a = a + layer_norm(x @ w["W_xh"].T, w["gain_x"], w["shift_x"]) + w["b_h"]
    i, f, g, o = jnp.split(a, 4, axis=-1)
    c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
    h = jax.nn.sigmoid(o) * jnp.tanh(layer_norm(c, w["gain_c"], w["shift_c"]))
    return (h, c), h


CELLS = {"rnn": rnn, "lstm": lstm, "gru": gru, "layernorm_lstm": layernorm_lstm}


def prepare(problem: Problem) -> Step:
    """See ``benchmarks.problem``."""
    weights = {name: jnp.asarray(value) for name, value in problem.weights.items()}
    xs, targets = jnp.asarray(problem.inputs), jnp.asarray(problem.targets.astype(np.int32))
    cell = CELLS[problem.cell]
    zeros = jnp.zeros((problem.shape.B, problem.shape.H), dtype=jnp.float32)
    start = (zeros, zeros) if "lstm" in problem.cell else zeros

    def loss_of(weights: dict[str, Any], xs: Any, targets: Any) -> Any:
        _, outputs = jax.lax.scan(partial(cell, weights), start, xs)
        logits = outputs @ weights["W_hy"].T + weights["b_y"]
        chosen = jnp.take_along_axis(jax.nn.log_softmax(logits), targets[..., None], axis=-1)
        return -chosen.mean()

    compiled = jax.jit(jax.value_and_grad(loss_of))

    def run() -> Any:
        return jax.block_until_ready(compiled(weights, xs, targets))

    def read(result: Any) -> tuple[float, dict[str, np.ndarray]]:
        loss, gradients = result
        return float(loss), {name: np.asarray(value) for name, value in gradients.items()}

    return Step(run, read)
