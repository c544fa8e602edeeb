"""An entry of the catalogue, and the forwards whose backward it speaks of."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["GRU", "LOSS", "LSTM", "MASKED", "MEAN_LOSS", "RNN", "Code"]


class Code(NamedTuple):
    """One mistake.

    code: its stable name. title: what is wrong, to follow the code in a sentence.
    symptom: which gradients come out wrong, and where the first difference is.
    wrong, right: lines of a backward with the mistake and without.
    why_it_may_train: how it escapes notice. forward: the lines of the forward that these belong to.
    seen: the share of right answers after training with it, over four seeds, on the two small tasks that
        docs/doctor/README.md describes: 100% with the right backward, 25% by guessing. Empty where not
        trained.
    """

    code: str
    title: str
    symptom: str
    wrong: str
    right: str
    why_it_may_train: str
    forward: str
    seen: str = ""


RNN = """\
hs[t] = np.tanh(xs[t] @ W_xh.T + hs[t - 1] @ W_hh.T + b_h)
y = hs[t] @ W_hy.T + b_y"""
LSTM = """\
i, f, o = sigmoid(a_i), sigmoid(a_f), sigmoid(a_o)
g = np.tanh(a_g)
cs[t] = f * cs[t - 1] + i * g
hs[t] = o * np.tanh(cs[t])"""
GRU = """\
r, z = sigmoid(a_r), sigmoid(a_z)
v = hs[t - 1] @ W_hn.T + b_hn
n = np.tanh(x_n + r * v)
hs[t] = (1 - z) * n + z * hs[t - 1]"""
LOSS = """\
p = softmax(hs[t] @ W_hy.T + b_y)
loss += -np.log(p[np.arange(B), targets[t]]).sum()"""
MEAN_LOSS = f"{LOSS} / (T * B)"
MASKED = """\
new = np.tanh(xs[t] @ W_xh.T + hs[t - 1] @ W_hh.T + b_h)
hs[t] = np.where(live, new, hs[t - 1])
p = softmax(hs[t] @ W_hy.T + b_y)
loss += -(mask[t] * np.log(p[np.arange(B), targets[t]])).sum()"""
