"""The catalogue of mistakes in a hand-written backward: what each looks like, and the line that mends it.

The lines are those of a batched backward in NumPy, written like the ones in `tensorgrad.models.manual`: rows
of a batch are row vectors; dh_next and dc_next are the carry, what comes back from timestep t + 1.
"""

from __future__ import annotations

import difflib
from typing import NamedTuple

from tensorgrad.errors import UserError

__all__ = ["CATALOGUE", "Code", "explain"]


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
MEAN_LOSS = """\
p = softmax(hs[t] @ W_hy.T + b_y)
loss += -np.log(p[np.arange(B), targets[t]]).sum() / (T * B)"""
MASKED = """\
new = np.tanh(xs[t] @ W_xh.T + hs[t - 1] @ W_hh.T + b_h)
hs[t] = np.where(live, new, hs[t - 1])
p = softmax(hs[t] @ W_hy.T + b_y)
loss += -(mask[t] * np.log(p[np.arange(B), targets[t]])).sum()"""

_CODES = (
    Code(
        "BPTT001",
        "the carry is dropped",
        "dh is right at the last timestep and wrong at every one before. W_hy and b_y agree; W_xh, W_hh, "
        "b_h and the initial state do not.",
        "dh = dy @ W_hy",
        "dh = dy @ W_hy + dh_next",
        "Each timestep still learns from its own loss: this is backpropagation truncated after one step.",
        RNN,
        "next 100%, echo 46 to 50%",
    ),
    Code(
        "BPTT002",
        "the carry is counted twice",
        "dh is right at the last timestep and wrong before, the more so the earlier. W_hy and b_y agree.",
        "dh = dy @ W_hy + dh_next\ndh += dh_next",
        "dh = dy @ W_hy + dh_next",
        "The part of each timestep's own loss is right and the rest points the right way. Where gradients "
        "vanish, twice a small carry is still small.",
        RNN,
        "next 100%, echo 100%",
    ),
    Code(
        "BPTT003",
        "the carry is added after the nonlinearity",
        "dh and da are right at the last timestep. At t = T-2 da is the first to differ, or dh where that "
        "is kept before the carry is added.",
        "dh = dy @ W_hy\nda = (1 - hs[t] ** 2) * dh + dh_next",
        "dh = dy @ W_hy + dh_next\nda = (1 - hs[t] ** 2) * dh",
        "The factor left out is close to 1 while states are small: at the first step of training the "
        "whole gradient had a cosine above 0.99 with the right one.",
        RNN,
        "next 100%, echo 28 to 97%",
    ),
    Code(
        "BPTT004",
        "the carry is taken from dh in place of da",
        "dh and da are right at the last timestep; dh at t = T-2 is the first to differ.",
        "dh_next = dh @ W_hh",
        "dh_next = da @ W_hh",
        "The factor 1 - h^2 left out is close to 1 while states are small, and never negative: no sign "
        "changes in a single step.",
        RNN,
        "next 100%, echo 100%",
    ),
    Code(
        "BPTT005",
        "the carry is taken without the transpose",
        "dh and da are right at the last timestep; dh at t = T-2 is the first to differ. W_hh is square, "
        "so that no shape complains.",
        "dh_next = da @ W_hh.T",
        "dh_next = da @ W_hh",
        "The part of each timestep's own loss is right. A recurrent weight that begins as the identity, "
        "or is symmetric, hides the mistake.",
        RNN,
        "next 100%, echo 64 to 92%",
    ),
    Code(
        "BPTT006",
        "a weight's gradient is taken from the state of the wrong timestep",
        "One weight differs, W_hh or W_hy. Everything that is kept by timestep agrees.",
        "dW_hh += da.T @ hs[t]",
        "dW_hh += da.T @ hs[t - 1]",
        "The loss falls at first, because all other gradients are right. Where states change slowly h[t] "
        "and h[t-1] are nearly the same.",
        RNN,
        "next 45 to 64%, echo 37 to 41%",
    ),
    Code(
        "BPTT007",
        "the index -1 wraps to the last state",
        "One weight differs, W_hh, by what the first timestep adds. Everything that is kept by timestep "
        "agrees.",
        "hs = np.empty((T, B, H))  # hs[-1] is hs[T - 1]\ndW_hh += da.T @ hs[t - 1]",
        "hs = np.empty((T + 1, B, H))\nhs[-1] = h0\ndW_hh += da.T @ hs[t - 1]",
        "One timestep's share out of T is wrong, and the first one's is often small.",
        RNN,
        "next 100%, echo 100%",
    ),
    Code(
        "BPTT008",
        "the initial state counts as zero in the weight's gradient",
        "One weight differs, W_hh, by what the first timestep adds. Everything that is kept by timestep "
        "agrees.",
        "h_prev = hs[t - 1] if t > 0 else np.zeros_like(h0)\ndW_hh += da.T @ h_prev",
        "h_prev = hs[t - 1] if t > 0 else h0\ndW_hh += da.T @ h_prev",
        "With an initial state of zeros it is no mistake. It shows once a state is carried from one batch "
        "to the next, comes from an encoder, or is learned.",
        RNN,
        "next 100%, echo 99 to 100%, from a random initial state",
    ),
    Code(
        "BPTT009",
        "the outer product is transposed",
        "One square weight differs, W_hh, by a transpose: its norm is right. Everything that is kept by "
        "timestep agrees.",
        "dW_hh += hs[t - 1].T @ da",
        "dW_hh += da.T @ hs[t - 1]",
        "The loss falls at first, because all other gradients are right. No shape complains, and the norm "
        "is right too.",
        RNN,
        "next 67 to 75%, echo 38 to 47%",
    ),
    Code(
        "BPTT010",
        "a weight's gradient is overwritten at every timestep",
        "One weight or more differ by nearly everything. Everything that is kept by timestep agrees.",
        "dW_hh = da.T @ hs[t - 1]",
        "dW_hh += da.T @ hs[t - 1]",
        "What is kept is the share of the first timestep, the last that the loop comes to. For W_hh that "
        "is zero where the initial state is: the weight stays as it was drawn, and the others learn "
        "around it.",
        RNN,
        "of W_hh: next 100%, echo 100%; of all weights: next 100%, echo 24 to 27%",
    ),
    Code(
        "BPTT011",
        "the derivative is computed from the pre-activation",
        "dh is right at the last timestep; da there is the first to differ.",
        "da = (1 - a ** 2) * dh",
        "da = (1 - hs[t] ** 2) * dh",
        "Where |a| is small, a and tanh(a) are nearly the same: at the first step of training the whole "
        "gradient had a cosine above 0.99 with the right one. Beyond |a| = 1 the sign is wrong, and with "
        "plain gradient descent most runs ended in NaN.",
        RNN,
        "next 100%, echo 49 to 70%",
    ),
    Code(
        "BPTT012",
        "the derivative of tanh lacks the square",
        "dh is right at the last timestep; da there is the first to differ, in size only and not in sign.",
        "da = (1 - hs[t]) * dh",
        "da = (1 - hs[t] ** 2) * dh",
        "1 - h is positive as 1 - h^2 is, and equal to it at h = 0 and h = 1. But a unit near -1, which "
        "the right factor leaves alone, is pushed twice as hard as one at 0: with plain gradient descent "
        "every run ended in NaN.",
        RNN,
        "next 24 to 100%, echo 26 to 56%",
    ),
    Code(
        "BPTT013",
        "the derivative is that of another timestep",
        "dh is right at the last timestep; da there is the first to differ, in size only and not in sign.",
        "da = (1 - hs[t - 1] ** 2) * dh",
        "da = (1 - hs[t] ** 2) * dh",
        "The factor is between 0 and 1 like the right one, and close to it while states are small or "
        "change slowly.",
        RNN,
        "next 100%, echo 58 to 71%",
    ),
    Code(
        "BPTT014",
        "the derivative of an activation is missing",
        "dh is right at the last timestep; da there, or the part of it that belongs to one gate, is the "
        "first to differ, in size only and not in sign.",
        "da = dh",
        "da = (1 - hs[t] ** 2) * dh",
        "The factor left out is positive, so no sign changes in a single step. That of tanh is close to 1 "
        "while states are small, that of a sigmoid is at most 1/4: at a gate (da_i = di) more is lost.",
        RNN,
        "next 100%, echo 28 to 94%; at an input gate: next 100%, echo 28 to 41%",
    ),
    Code(
        "BPTT015",
        "the derivative is that of another function",
        "dh is right at the last timestep; da there, or the part of it that belongs to one gate, is the "
        "first to differ.",
        "da = hs[t] * (1 - hs[t]) * dh",
        "da = (1 - hs[t] ** 2) * dh",
        "At a tanh h(1-h) is negative for h < 0, so that half the units are pushed the wrong way, and the "
        "rest of the network learns around them. At a gate 1 - s^2 (da_i = (1 - i ** 2) * di) is positive "
        "as s(1-s) is, only too large, and does little harm.",
        RNN,
        "next 100%, echo 24 to 36%; at an input gate: next 100%, echo 100%",
    ),
    Code(
        "BPTT016",
        "the softmax gradient lacks the minus one",
        "dy differs at every timestep, in the column of the target. So does everything that follows from it.",
        "dy = p",
        "dy = p.copy()\ndy[np.arange(B), targets[t]] -= 1",
        "It does not: no target enters the gradient.",
        LOSS,
        "next 24 to 26%, echo 22 to 26%",
    ),
    Code(
        "BPTT017",
        "the targets index rows or columns in place of one entry a row",
        "dy differs at every timestep, and so does everything that follows from it.",
        "dy[:, targets[t]] -= 1  # or dy[targets[t]] -= 1",
        "dy[np.arange(B), targets[t]] -= 1",
        "With a batch of one dy[:, targets] is right, and it trains. With more, every row is told all "
        "targets of the batch, and it learned nothing.",
        LOSS,
        "next 1 to 26%, echo 22 to 26%",
    ),
    Code(
        "BPTT018",
        "the softmax is taken over the wrong axis",
        "dy differs at every timestep: its rows do not sum to zero. So does everything that follows from it.",
        "e = np.exp(y)\np = e / e.sum(axis=0)",
        "e = np.exp(y)\np = e / e.sum(axis=-1, keepdims=True)",
        "The minus one at the target is right, and is what teaches where anything is learned. Nothing "
        "holds it back once the targets are predicted.",
        LOSS,
        "next 26 to 100%, echo 22 to 26%",
    ),
    Code(
        "BPTT019",
        "everything is a constant factor too large or too small",
        "Every gradient differs, and every cosine is 1: the loss is a mean and the gradient that of a "
        "sum, or the other way round.",
        "dy = p - onehot",
        "dy = (p - onehot) / (T * B)",
        "It is another learning rate, and Adam does not even see that. Plain gradient descent at the "
        "learning rate of the mean learned nothing with the gradient of the sum. It shows too where "
        "gradients are clipped, and where the length or the batch changes.",
        MEAN_LOSS,
        "next 100%, echo 100%",
    ),
    Code(
        "BPTT020",
        "a bias gradient is a mean where it is a sum",
        "One bias differs, by a factor, and its cosine is 1. Everything else agrees.",
        "db_h += da.mean(axis=0)",
        "db_h += da.sum(axis=0)",
        "The bias moves in the right direction, only more slowly than the rest. Adam does not see it.",
        RNN,
        "next 100%, echo 100%",
    ),
    Code(
        "BPTT021",
        "the padding counts in the loss",
        "dy is not zero at padded timesteps, and is right at all others.",
        "dy = p - onehot",
        "dy = mask[t][:, None] * (p - onehot)",
        "The real timesteps teach what they should. The padding teaches to predict padding, and learning "
        "that takes its share of the weights.",
        MASKED,
        "echo over lengths of 4 to 10: 74 to 92%",
    ),
    Code(
        "BPTT022",
        "the masked state is not passed through",
        "dh is right up to where the first padded timestep hands it back. Padding in front of the "
        "sequence or within it, or after it with a loss on the last state, is needed to see it.",
        "dh_next = np.where(live, da @ W_hh, 0)",
        "dh_next = np.where(live, da @ W_hh, dh)",
        "With padding at the end and a loss at real timesteps only, nothing comes back from the padding, "
        "and no gradient is wrong. Padding in between cuts the carry there, and only there.",
        MASKED,
        "echo over lengths of 4 to 10, or with padding in between: 100%",
    ),
    Code(
        "BPTT023",
        "gradients are clipped inside the loop over time",
        "dh is right as far back as no number is beyond the limit, and wrong from there on.",
        "dh_next = np.clip(da @ W_hh, -limit, limit)",
        "dh_next = da @ W_hh",
        "Where no number is beyond the limit it changes nothing, and no sign changes where one is. The place "
        "to clip is after the loop, where the sums over time stand.",
        RNN,
        "next 100%, echo 100%, with a limit of 0.005",
    ),
    Code(
        "BPTT024",
        "repeated indices are lost in the gradient of an embedding",
        "The embedding alone differs, in the rows of tokens that occur more than once.",
        "dE[ids] += g",
        "np.add.at(dE, ids, g)",
        "A row gets one of its gradients in place of their sum: the direction is often right. Where no "
        "token is repeated it is no mistake.",
        "x = E[ids]",
        "next 100%, echo 100%",
    ),
    Code(
        "BPTT025",
        "the loop over time is one step short",
        "What is kept by timestep is missing at the first or the last timestep. Weights differ by its "
        "share, and the initial state differs.",
        "for t in reversed(range(1, T)):",
        "for t in reversed(range(T)):",
        "All other timesteps teach what they should.",
        RNN,
        "next 100%, echo 100%",
    ),
    Code(
        "BPTT026",
        "the backward is truncated",
        "dh is right for the last k timesteps and wrong before, or wrong wherever a window ends. What was "
        "meant as truncated backpropagation is right when it is compared window by window.",
        "for t in reversed(range(T - k, T)):",
        "for t in reversed(range(T)):",
        "What the last k timesteps teach holds at all others, since the weights are the same. What is "
        "further apart than a window is not learned from.",
        RNN,
        "next 100%, echo 94 to 99%, with k = 3",
    ),
    Code(
        "BPTT027",
        "the loop over time runs forwards",
        "dh differs at every timestep, the last one included. At the first it is dy @ W_hy alone.",
        "for t in range(T):",
        "for t in reversed(range(T)):",
        "Each timestep still learns from its own loss. What it is handed comes from the timestep before "
        "in place of the one after.",
        RNN,
        "next 100%, echo 43 to 45%",
    ),
    Code(
        "BPTT028",
        "the gradient of the cell state is assigned where it is added to",
        "dh and dc are right at the last timestep; dc at t = T-2 is the first to differ.",
        "dc = o * (1 - np.tanh(cs[t]) ** 2) * dh",
        "dc = o * (1 - np.tanh(cs[t]) ** 2) * dh + dc_next",
        "Gradients still go back through the gates, by dh_next. What is lost is the path that carries "
        "them far.",
        LSTM,
        "next 100%, echo 100%",
    ),
    Code(
        "BPTT029",
        "the factor of a gate is missing",
        "dh and dc are right at the last timestep; dc at t = T-2 is the first to differ.",
        "dc_next = dc",
        "dc_next = f * dc",
        "A forget gate is between 0 and 1, and close to 1 where something is kept.",
        LSTM,
        "next 100%, echo 100%",
    ),
    Code(
        "BPTT030",
        "the gradient of the last state does not enter",
        "dh, or dc, differs at the last timestep already, and everything before it. W_hy and b_y agree.",
        "dh_next = np.zeros((B, H))",
        "dh_next = dh_last",
        "Where the loss has a part at every timestep, that part is right. Where it uses the last state "
        "only, no gradient reaches the recurrent weights, and a readout learns on states that stay as "
        "they were drawn.",
        "y = hs[t] @ W_hy.T + b_y  # at every timestep\nloss += f(hs[T - 1])  # and of the last state",
    ),
    Code(
        "BPTT031",
        "the gates are in another order",
        "dh and dc are right at the last timestep; da there is the first to differ, and has the right "
        "parts in the wrong places.",
        "da = np.concatenate([da_f, da_i, da_g, da_o], axis=1)",
        "da = np.concatenate([da_i, da_f, da_g, da_o], axis=1)",
        "The loss falls at first: at the first step of training the whole gradient had a cosine above "
        "0.99 with the right one, since the gates' shares are small. Another order in both passes is no "
        "mistake.",
        LSTM,
        "next 34 to 37%, echo 39 to 53%",
    ),
    Code(
        "BPTT032",
        "a factor is taken from another timestep",
        "dh and dc are right at the last timestep; da there is the first to differ, in the part of one gate.",
        "df = cs[t] * dc",
        "df = cs[t - 1] * dc",
        "Where the cell state changes slowly the two are nearly the same, and the other gates are right.",
        LSTM,
        "next 100%, echo 100%",
    ),
    Code(
        "BPTT033",
        "tanh is applied twice, or not at all",
        "dh is right at the last timestep; da there is the first to differ, in the part of one gate, or dc.",
        "do = cs[t] * dh",
        "do = np.tanh(cs[t]) * dh",
        "tanh(c) has the sign of c, and is nearly c while |c| is small; so is tanh(tanh(c)).",
        LSTM,
        "next 100%, echo 100%",
    ),
    Code(
        "BPTT034",
        "a path is missing",
        "Everything is right down to the tensor that the path leads to; that one is the first to differ.",
        "dh_next = da_r @ W_hr + da_z @ W_hz + dh_n",
        "dh_next = da_r @ W_hr + da_z @ W_hz + dh_n + z * dh",
        "The other paths are right, and often the larger part.",
        GRU,
        "next 100%, echo 100%",
    ),
    Code(
        "BPTT035",
        "a sign is wrong, or a gate stands for its complement",
        "dh is right at the last timestep; da there, in the part of one gate, or dh at t = T-2 is the "
        "first to differ.",
        "dz = (n - hs[t - 1]) * dh",
        "dz = (hs[t - 1] - n) * dh",
        "The loss falls at first: at the first step of training the whole gradient had a cosine above "
        "0.99 with the right one, since the gate's share is small. Where z is close to 1/2, z and 1 - z "
        "(da_n with z for 1 - z) are nearly the same, and that trains better.",
        GRU,
        "next 45 to 46%, echo 23 to 36%",
    ),
    Code(
        "BPTT036",
        "the reset gate acts on the other side of the product",
        "dh is right at the last timestep; da there is the first to differ, in the part of the reset gate.",
        "dv = da_n\ndrh = dv @ W_hn\ndr = hs[t - 1] * drh\ndh_n = r * drh",
        "dv = r * da_n\ndr = v * da_n\ndh_n = dv @ W_hn",
        "The parts of z and of the candidate are right at the last timestep. It learns more slowly, which "
        "looks like a matter of the learning rate.",
        GRU,
        "next 100%, echo 92 to 100%",
    ),
    Code(
        "BPTT037",
        "the factor of a gate is missing on the way back through a weight",
        "dh and da are right at the last timestep; W_hn, and dh at t = T-2, are the first to differ. "
        "Where the reset gate acts before the product it is dh_n = drh for dh_n = r * drh.",
        "dv = da_n",
        "dv = r * da_n",
        "r is between 0 and 1, so no sign changes in a single step.",
        GRU,
        "next 100%, echo 100%",
    ),
    Code(
        "BPTT038",
        "the backward changes what the forward has cached",
        "The first run agrees, the second does not.",
        "dy = cache.ps[t]\ndy[np.arange(B), targets[t]] -= 1",
        "dy = cache.ps[t].copy()\ndy[np.arange(B), targets[t]] -= 1",
        "A training loop that runs the backward once for every forward never sees it. A check that runs "
        "it twice does.",
        LOSS,
    ),
    Code(
        "BPTT039",
        "the carry is not multiplied by the recurrent weight",
        "dh and da are right at the last timestep; dh at t = T-2 is the first to differ.",
        "dh_next = dh",
        "dh_next = da @ W_hh",
        "The part of each timestep's own loss is right. Where the recurrent weight is close to the "
        "identity the carry is too.",
        RNN,
        "next 100%, echo 54 to 63%",
    ),
    Code(
        "BPTT040",
        "the derivative is that of another activation",
        "dh and dc are right at the last timestep; da there is the first to differ, in the part of one "
        "gate, in size only and not in sign.",
        "da_f = i * (1 - i) * df",
        "da_f = f * (1 - f) * df",
        "Both factors are between 0 and 1/4, and equal while both gates are at 1/2.",
        LSTM,
        "next 100%, echo 100%",
    ),
    Code(
        "BPTT041",
        "another tensor stands as a factor",
        "dh and dc are right at the last timestep; da there is the first to differ, in the part of one "
        "gate, or one weight differs.",
        "df = hs[t - 1] * dc",
        "df = cs[t - 1] * dc",
        "h = o * tanh(c) has the sign of c: the gate is pushed in the right direction, only less hard.",
        LSTM,
        "next 100%, echo 100%",
    ),
    Code(
        "BPTT042",
        "the two factors of a product are exchanged",
        "dh and dc are right at the last timestep; da there is the first to differ, in the parts of two "
        "gates.",
        "di = i * dc\ndg = g * dc",
        "di = g * dc\ndg = i * dc",
        "The other two gates and the readout are right, and the network learns around the two that are not.",
        LSTM,
        "next 100%, echo 50 to 99%",
    ),
)

CATALOGUE: dict[str, Code] = {code.code: code for code in _CODES}
"""Every mistake by its code."""


def explain(code: str) -> str:
    """A mistake in words: the symptom, the wrong line, the right line, and why it may still train.

    Raises UserError for a code that is not in the catalogue.

    >>> print(explain("BPTT004").splitlines()[0])
    BPTT004: the carry is taken from dh in place of da
    """
    if code not in CATALOGUE:
        near = difflib.get_close_matches(str(code).upper(), CATALOGUE, n=1)
        meant = f"; did you mean {near[0]}?" if near else ""
        raise UserError(
            f"there is no code {code!r}; they go from {min(CATALOGUE)} to {max(CATALOGUE)}{meant}"
        )
    found = CATALOGUE[code]
    parts = [f"{found.code}: {found.title}", found.symptom]
    for head, lines in (("Forward", found.forward), ("Wrong", found.wrong), ("Right", found.right)):
        parts.append("\n".join([f"{head}:", *(f"    {line}" for line in lines.splitlines())]))
    parts.append(f"Why it may still train: {found.why_it_may_train}")
    return "\n\n".join(parts)
