"""The hand-written vanilla RNN: mistakes planted in it, and PyTorch's gradients of every state."""

from __future__ import annotations

import numpy as np
import pytest

from tensorgrad.models.manual import rnn

from .manual_problem import MODELS, error, errors_against, make_problem, planted, right_gradients

RNN = MODELS["rnn"]

PLANTED = {
    "tanh' is forgotten": ("(1 - hs[t] ** 2) * dh[t]", "dh[t]"),
    "tanh' is taken at the previous state": ("(1 - hs[t] ** 2)", "(1 - hs[t - 1] ** 2)"),
    "tanh' lacks the square": ("(1 - hs[t] ** 2)", "(1 - hs[t])"),
    "the recurrent weight is not transposed": ("da[t] @ W_hh", "da[t] @ W_hh.T"),
    "dh is carried instead of da": ("da[t] @ W_hh", "dh[t] @ W_hh"),
    "the carry passes masked steps through W_hh": ("np.where(live, da[t] @ W_hh, dh[t])", "dh[t] @ W_hh"),
    "the carry stops at masked steps": ("np.where(live, da[t] @ W_hh, dh[t])", "da[t] @ W_hh"),
    "a masked step has a pre-activation gradient": (
        "np.where(live, (1 - hs[t] ** 2) * dh[t], 0)",
        "(1 - hs[t] ** 2) * dh[t]",
    ),
    "the bias gradient is a mean over the batch": (
        '"b_h": da.sum(axis=(0, 1))',
        '"b_h": da.sum(axis=0).mean(axis=0)',
    ),
}


@pytest.mark.parametrize(("right", "wrong"), PLANTED.values(), ids=PLANTED)
def test_a_planted_error_is_seen(right: str, wrong: str) -> None:
    problem = make_problem(RNN)
    assert max(errors_against(right_gradients("rnn"), problem, planted(rnn, right, wrong)).values()) > 1e-3


def test_pytorch_unrolled_gives_the_same_state_gradients() -> None:
    """A state's gradient in a graph is the total one, which a layer's output does not tell."""
    torch = pytest.importorskip("torch")
    problem = make_problem(RNN, T=6)
    gradients = problem.gradients()

    p = {name: torch.from_numpy(array) for name, array in problem.params.items()}
    mask = torch.from_numpy(problem.live)
    h = torch.from_numpy(problem.initial["h0"]).requires_grad_()
    pre_activations, states, nll = [], [], []
    for t in range(6):
        a = torch.from_numpy(problem.xs[t]) @ p["W_xh"].T + h @ p["W_hh"].T + p["b_h"]
        h = torch.where(mask[t, :, None], torch.tanh(a), h)
        a.retain_grad()
        h.retain_grad()
        pre_activations.append(a)
        states.append(h)
        y = h @ p["W_hy"].T + p["b_y"]
        losses = torch.nn.functional.cross_entropy(y, torch.from_numpy(problem.targets[t]), reduction="none")
        nll.append(losses[mask[t]])
    (torch.cat(nll).mean() + (torch.from_numpy(problem.last["dh_last"]) * h).sum()).backward()

    assert error(gradients["dh"], np.stack([h.grad.numpy() for h in states])) < 1e-12
    assert error(gradients["da"], np.stack([a.grad.numpy() for a in pre_activations])) < 1e-12
