"""JAX: ``jit`` of ``value_and_grad`` over ``lax.scan``, waited for until it is computed."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.problem import Problem, Step


def prepare(problem: Problem) -> Step:
    """See ``benchmarks.problem``."""
    weights = {name: jnp.asarray(value) for name, value in problem.weights.items()}
    xs, targets = jnp.asarray(problem.inputs), jnp.asarray(problem.targets.astype(np.int32))
    h0 = jnp.zeros((problem.shape.B, problem.shape.H), dtype=jnp.float32)

    def loss_of(weights: dict[str, Any], xs: Any, targets: Any) -> Any:
        def cell(h: Any, x: Any) -> tuple[Any, Any]:
            h = jnp.tanh(x @ weights["W_xh"].T + h @ weights["W_hh"].T + weights["b_h"])
            return h, h

        _, outputs = jax.lax.scan(cell, h0, xs)
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
