"""Mistakes from timestep to timestep: the carry, and the loop over time."""

from tensorgrad.bptt.codes.code import LSTM, MASKED, RNN, Code

CARRIES = (
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
)
