"""Mistakes in what the loss hands to the readout."""

from tensorgrad.bptt.codes.code import LOSS, MASKED, MEAN_LOSS, Code

OUTPUTS = (
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
        "BPTT038",
        "the backward changes what the forward has cached",
        "The first run agrees, the second does not.",
        "dy = cache.ps[t]\ndy[np.arange(B), targets[t]] -= 1",
        "dy = cache.ps[t].copy()\ndy[np.arange(B), targets[t]] -= 1",
        "A training loop that runs the backward once for every forward never sees it. A check that runs "
        "it twice does.",
        LOSS,
    ),
)
