"""The hand-written LSTM: the mistakes that are made in writing one, planted in it."""

from __future__ import annotations

import numpy as np
import pytest

from tensorgrad.models.manual import lstm

from .manual_problem import MODELS, errors_against, make_problem, planted, right_gradients

LSTM = MODELS["lstm"]

PLANTED = {
    "dc_next is forgotten": ("* dh[t], 0) + dc_next", "* dh[t], 0)"),
    "the cell is reached through later steps only": (
        "np.where(live, o * (1 - tanh_c**2) * dh[t], 0) + dc_next",
        "dc_next",
    ),
    "tanh' of the cell is forgotten": ("o * (1 - tanh_c**2) * dh[t]", "o * dh[t]"),
    "tanh' is taken of c instead of tanh(c)": ("(1 - tanh_c**2)", "(1 - cs[t] ** 2)"),
    "the output gate is forgotten in dc": ("o * (1 - tanh_c**2)", "(1 - tanh_c**2)"),
    "tanh is forgotten in do": ("tanh_c * dh[t]", "cs[t] * dh[t]"),
    "do takes dc for dh": ("tanh_c * dh[t]", "tanh_c * dc[t]"),
    "di and dg are swapped": (
        "di, df, dg, do = g * dc[t], cs[t - 1] * dc[t], i * dc[t]",
        "di, df, dg, do = i * dc[t], cs[t - 1] * dc[t], g * dc[t]",
    ),
    "df takes the cell after the step": ("cs[t - 1] * dc[t]", "cs[t] * dc[t]"),
    "df takes the state for the cell": ("cs[t - 1] * dc[t]", "hs[t - 1] * dc[t]"),
    "sigmoid' is forgotten": ("i * (1 - i) * di", "di"),
    "sigmoid' is taken for tanh'": ("f * (1 - f) * df", "(1 - f**2) * df"),
    "tanh' is taken for sigmoid'": ("(1 - g**2) * dg", "g * (1 - g) * dg"),
    "sigmoid' is of another gate": ("o * (1 - o) * do", "f * (1 - f) * do"),
    "the gates are stacked in another order": ("[da_i, da_f, da_g, da_o]", "[da_i, da_f, da_o, da_g]"),
    "the recurrent weight is left out of the carry": ("np.where(live, da[t] @ W_hh, dh[t])", "dh[t]"),
    "the cell is carried without its forget gate": ("np.where(live, f * dc[t], dc[t])", "dc[t]"),
    "the cell is carried by the input gate": ("np.where(live, f * dc[t]", "np.where(live, i * dc[t]"),
    "masked steps forget": ("np.where(live, f * dc[t], dc[t])", "f * dc[t]"),
    "masked steps have an output": (
        "np.where(live, o * (1 - tanh_c**2) * dh[t], 0)",
        "o * (1 - tanh_c**2) * dh[t]",
    ),
    "masked steps have pre-activation gradients": (
        "np.where(live, np.concatenate([da_i, da_f, da_g, da_o], axis=1), 0)",
        "np.concatenate([da_i, da_f, da_g, da_o], axis=1)",
    ),
    "the state's carry stops at masked steps": ("np.where(live, da[t] @ W_hh, dh[t])", "da[t] @ W_hh"),
    "the gradient of the last cell is ignored": (
        'checked_gradient("dc_last", dc_last, cache.c_last)',
        'checked_gradient("dc_last", None, cache.c_last)',
    ),
    "the state's weight sees the cell": (
        "sum_of_outer_products(da, previous(hs))",
        "sum_of_outer_products(da, previous(cs))",
    ),
    "the initial state and cell are swapped": ("dx, dh_next, dc, dc_next)", "dx, dc_next, dc, dh_next)"),
}


@pytest.mark.parametrize(("right", "wrong"), PLANTED.values(), ids=PLANTED)
def test_a_planted_error_is_seen(right: str, wrong: str) -> None:
    problem = make_problem(LSTM)
    assert max(errors_against(right_gradients("lstm"), problem, planted(lstm, right, wrong)).values()) > 1e-3


def test_an_open_forget_gate_carries_the_gradient_unchanged() -> None:
    """The constant error carousel: with f = 1 and i = o = 0, dc passes a hundred steps as it is."""
    problem = make_problem(LSTM, T=100, masked=False)
    H = 4
    for array in (problem.params["W_xh"], problem.params["W_hh"]):
        array[:] = 0
    problem.params["b_h"][:] = np.repeat([-800.0, 800.0, 0.0, -800.0], H)
    gradients = problem.gradients()
    np.testing.assert_array_equal(gradients["dc"], np.broadcast_to(problem.last["dc_last"], (100, 3, H)))
    np.testing.assert_array_equal(gradients["dc0"], problem.last["dc_last"])
