"""Mistakes in the sums over time: the gradients of weights, biases and embeddings."""

from tensorgrad.bptt.codes.code import RNN, Code

WEIGHTS = (
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
)
