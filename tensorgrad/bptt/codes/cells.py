"""Mistakes within a timestep: activations, gates and their products."""

from tensorgrad.bptt.codes.code import GRU, LSTM, RNN, Code

CELLS = (
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
