"""Exercise 26: the backward of a vanilla RNN with padding, with one bug.

The forward is right. Its gradients of W_xh, W_hh, b_h are wrong.
Trained with this backward, the network learns to remember as if nothing were wrong.
Mend `backward`, then: tensorgrad exercise 26 --grade rnn_padded_26.py

    a[t] = W_xh x[t] + W_hh h[t-1] + b_h,  h[t] = tanh(a[t]),  y[t] = W_hy h[t] + b_y

Where the mask is False a step is padding: h[t] = h[t-1], and it adds nothing to the loss.
Axes: T timesteps, B sequences, H hidden units, V characters. Rows are vectors: h @ W.T is W h.
"""

from __future__ import annotations

import numpy as np

Arrays = dict[str, np.ndarray]


def softmax(y: np.ndarray, axis: int) -> np.ndarray:
    """The softmax along an axis."""
    e = np.exp(y - y.max(axis=axis, keepdims=True))
    return e / e.sum(axis=axis, keepdims=True)


def forward(
    params: Arrays, xs: np.ndarray, targets: np.ndarray, h0: np.ndarray, mask: np.ndarray
) -> tuple[float, Arrays]:
    """The mean cross-entropy over all steps that are no padding; xs, targets and mask are (T, B)."""
    T, B = xs.shape
    pre, hs = np.zeros((T, *h0.shape)), np.zeros((T + 1, *h0.shape))
    hs[-1] = h0  # so that hs[t - 1] is what step t starts from, for t = 0 too
    for t in range(T):
        pre[t] = params["W_xh"][:, xs[t]].T + hs[t - 1] @ params["W_hh"].T + params["b_h"]
        hs[t] = np.where(mask[t][:, None], np.tanh(pre[t]), hs[t - 1])
    ys = hs[:-1] @ params["W_hy"].T + params["b_y"]
    step, row = np.ogrid[:T, :B]
    loss = -np.log(softmax(ys, axis=2)[step, row, targets])[mask].mean()
    return loss, {"xs": xs, "targets": targets, "mask": mask, "pre": pre, "hs": hs, "ys": ys}


def backward(params: Arrays, cache: Arrays, dh_last: np.ndarray | None = None) -> Arrays:
    """The gradients of all parameters, of h0, and of y, h and a at every timestep.

    dh_last is what reaches the last state from outside, (B, H).
    """
    xs, mask, pre, hs, ys = (cache[name] for name in ("xs", "mask", "pre", "hs", "ys"))
    T, B = xs.shape
    step, row = np.ogrid[:T, :B]
    dy = softmax(ys, axis=2)
    dy[step, row, cache["targets"]] -= 1
    dy *= mask[:, :, None] / mask.sum()
    dh, da = dy @ params["W_hy"], np.zeros_like(pre)
    dh_next = np.zeros_like(hs[-1]) if dh_last is None else dh_last
    for t in reversed(range(T)):
        live = mask[t][:, None]
        dh[t] += 2 * dh_next
        da[t] = np.where(live, (1 - np.tanh(pre[t]) ** 2) * dh[t], 0)
        dh_next = np.where(live, da[t] @ params["W_hh"], dh[t])
    d = {
        "W_xh": np.zeros_like(params["W_xh"]),
        "W_hh": np.einsum("tbi,tbj->ij", da, np.concatenate([hs[-1:], hs[:-2]])),
        "W_hy": np.einsum("tbi,tbj->ij", dy, hs[:-1]),
        "b_h": da.sum(axis=(0, 1)),
        "b_y": dy.sum(axis=(0, 1)),
    }
    np.add.at(d["W_xh"].T, xs, da)
    return {**d, "dy": dy, "dh": dh, "da": da, "dh0": dh_next}
