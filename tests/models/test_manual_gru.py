"""The hand-written GRU: mistakes planted in it, and its pre-activations beside those of an unrolled graph."""

from __future__ import annotations

from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

import tensorgrad as tg
from tensorgrad.models.manual import gru

from .manual_problem import (
    FLOOR,
    MODELS,
    SIZES,
    TOLERANCES,
    engine_gradients,
    error,
    errors_against,
    make_problem,
    planted,
    right_gradients,
)

EITHER = pytest.mark.parametrize("name", ["gru", "gru-before"])

# Mistakes that show with the reset gate in either place, and those of one.
IN_BOTH = {
    "dz lacks the candidate": ("(hs[t - 1] - n) * dh_new", "hs[t - 1] * dh_new"),
    "dz has the wrong sign": ("(hs[t - 1] - n) * dh_new", "(n - hs[t - 1]) * dh_new"),
    "dz takes the state after the step": ("(hs[t - 1] - n) * dh_new", "(hs[t] - n) * dh_new"),
    "the candidate's share is z": ("(1 - z) * dh_new", "z * dh_new"),
    "tanh' is forgotten": ("(1 - n**2) * (1 - z)", "(1 - z)"),
    "tanh' is taken of the state": ("(1 - n**2)", "(1 - hs[t] ** 2)"),
    "sigmoid' of r is forgotten": ("r * (1 - r) * dr", "dr"),
    "sigmoid' of z is taken for tanh'": ("z * (1 - z) * dz", "(1 - z**2) * dz"),
    "the gates are stacked in another order": ("[da_r, da_z, da_n]", "[da_z, da_r, da_n]"),
    "the state is not kept": ("z * dh_new + da_r @ W_hr", "da_r @ W_hr"),
    "the state is kept by 1 - z": ("z * dh_new + da_r @ W_hr", "(1 - z) * dh_new + da_r @ W_hr"),
    "the reset gate's way back is forgotten": ("da_r @ W_hr + da_z @ W_hz", "da_z @ W_hz"),
    "the update gate's way back is forgotten": ("da_r @ W_hr + da_z @ W_hz", "da_r @ W_hr"),
    "the candidate's way back is forgotten": ("da_z @ W_hz + dh_n, dh[t])", "da_z @ W_hz, dh[t])"),
    "masked steps make a state": ("np.where(live, dh[t], 0)", "dh[t]"),
    "the carry stops at masked steps": ("da_z @ W_hz + dh_n, dh[t])", "da_z @ W_hz + dh_n, 0)"),
    "the recurrent bias is left out": (
        "np.concatenate([da_rz, dv], axis=2).sum(axis=(0, 1))",
        "np.zeros_like(params['b_hh'])",
    ),
}
AFTER = {
    "dv lacks the reset gate": ("dv[t] = r * da_n", "dv[t] = da_n"),
    "dr takes the state for the product": ("dr = vs[t] * da_n", "dr = hs[t - 1] * da_n"),
    "the way back lacks the reset gate": ("dh_n = dv[t] @ W_hn", "dh_n = da_n @ W_hn"),
    "the recurrent bias takes da for dv": ("np.concatenate([da_rz, dv], axis=2)", "da"),
    "the candidate's weight takes da for dv": (
        "sum_of_outer_products(dv, multiplied)",
        "sum_of_outer_products(da[:, :, 2 * len(W_hn) :], multiplied)",
    ),
}
BEFORE = {
    "dr misses W_hn": ("dr = hs[t - 1] * drh", "dr = hs[t - 1] * da_n"),
    "dr takes the product for the state": ("dr = hs[t - 1] * drh", "dr = vs[t] * drh"),
    "the way back lacks the reset gate": ("dh_n = r * drh", "dh_n = drh"),
    "the candidate's weight sees the state without its reset": (
        'h_prev if cache.reset == "after" else cache.gates[:, :, 0] * h_prev',
        "h_prev",
    ),
    "the reset convention is the other one": ('if cache.reset == "after":', 'if cache.reset != "after":'),
}
PLANTED = [
    pytest.param(name, *mistake, id=f"{name}: {what}")
    for name, mistakes in (("gru", {**IN_BOTH, **AFTER}), ("gru-before", {**IN_BOTH, **BEFORE}))
    for what, mistake in mistakes.items()
]


@pytest.mark.parametrize(("name", "right", "wrong"), PLANTED)
def test_a_planted_error_is_seen(name: str, right: str, wrong: str) -> None:
    problem = make_problem(MODELS[name])
    assert max(errors_against(right_gradients(name), problem, planted(gru, right, wrong)).values()) > 1e-3


@EITHER
@settings(deadline=None, max_examples=25)
@given(**SIZES, dtype=st.sampled_from(["float64", "float32"]))
def test_an_unrolled_graph_gives_the_same_at_every_timestep(name: str, **drawn: Any) -> None:
    """Of a cell as on the whiteboard, every pre-activation under a name of its own."""
    problem = make_problem(MODELS[name], **drawn)
    names = ("W_xh", "W_hh", "b_xh", "b_hh")
    p = {which: tg.tensor(problem.params[which], requires_grad=True) for which in names}
    H = problem.params["W_hh"].shape[1]
    W_xr, W_xz, W_xn, W_hr, W_hz, W_hn, b_xr, b_xz, b_xn, b_hr, b_hz, b_hn = (
        p[which][k * H : (k + 1) * H] for which in names for k in range(3)
    )

    def cell(x: Any, h: Any) -> tuple[Any, Any]:
        r = tg.sigmoid(tg.label(x @ W_xr.T + b_xr + h @ W_hr.T + b_hr, "a_r"))
        z = tg.sigmoid(tg.label(x @ W_xz.T + b_xz + h @ W_hz.T + b_hz, "a_z"))
        if name == "gru":
            v = tg.label(h @ W_hn.T + b_hn, "v")
            n = tg.tanh(tg.label(x @ W_xn.T + b_xn + r * v, "a_n"))
        else:
            v = tg.label((r * h) @ W_hn.T + b_hn, "v")
            n = tg.tanh(tg.label(x @ W_xn.T + b_xn + v, "a_n"))
        h = (1 - z) * n + z * h
        return h, h

    _, expected = engine_gradients(problem, cell, p, {"da": ("a_r", "a_z", "a_n"), "dv": ("v",)})
    for which, g in problem.gradients().items():
        assert error(g, expected[which], FLOOR) < TOLERANCES[drawn["dtype"]], which


def test_both_conventions_agree_where_the_reset_gate_is_open() -> None:
    """With r = 1 there is nothing to tell them apart."""
    after, before = (make_problem(MODELS[name]) for name in ("gru", "gru-before"))
    for problem in (after, before):
        problem.params["b_xh"][:4] = 800
    assert after.forward()[0] == before.forward()[0]
    expected = before.gradients()
    for which, g in after.gradients().items():
        np.testing.assert_allclose(g, expected[which], rtol=1e-12, atol=1e-15)


def test_an_unknown_reset_is_named() -> None:
    problem = make_problem(MODELS["gru"])
    with pytest.raises(ValueError, match='reset must be "after" or "before"; got \'behind\''):
        gru.forward(problem.params, problem.xs, problem.targets, problem.initial["h0"], reset="behind")
