"""Exercise 7: the backward of a vanilla RNN, with one bug.

The forward is right. Its gradients of W_hh are wrong.
Trained with this backward, the network hardly learns to remember.
Mend `backward`, then: tensorgrad exercise 7 --grade rnn_07.py

    a[t] = W_xh x[t] + W_hh h[t-1] + b_h,  h[t] = tanh(a[t]),  y[t] = W_hy h[t] + b_y

Axes: T timesteps, B sequences, H hidden units, V characters. Rows are vectors: h @ W.T is W h.
"""

from __future__ import annotations

import numpy as np

Arrays = dict[str, np.ndarray]


def forward(params: Arrays, xs: np.ndarray, targets: np.ndarray, h0: np.ndarray) -> tuple[float, Arrays]:
    """The mean cross-entropy over all T * B steps; xs and targets are ids (T, B), h0 is (B, H)."""
    W_xh, W_hh, W_hy, b_h, b_y = (params[name] for name in ("W_xh", "W_hh", "W_hy", "b_h", "b_y"))
    T, B = xs.shape
    hs, ps = np.zeros((T, *h0.shape)), np.zeros((T, B, len(b_y)))
    h, loss = h0, 0.0
    for t in range(T):
        # A one-hot vector times W_xh picks a column of it.
        h = np.tanh(W_xh[:, xs[t]].T + h @ W_hh.T + b_h)
        y = h @ W_hy.T + b_y
        e = np.exp(y - y.max(axis=1, keepdims=True))
        hs[t], ps[t] = h, e / e.sum(axis=1, keepdims=True)
        loss -= np.log(ps[t][np.arange(B), targets[t]]).sum() / (T * B)
    return loss, {"xs": xs, "targets": targets, "h0": h0, "hs": hs, "ps": ps}


def backward(params: Arrays, cache: Arrays) -> Arrays:
    """The gradients of all parameters, of h0, and of y, h and a at every timestep."""
    xs, hs, ps = cache["xs"], cache["hs"], cache["ps"]
    T, B = xs.shape
    d = {name: np.zeros_like(value) for name, value in params.items()}
    dy, dh, da = np.zeros_like(ps), np.zeros_like(hs), np.zeros_like(hs)
    dh_next = np.zeros_like(hs[0])
    for t in reversed(range(T)):
        dy[t] = ps[t]
        dy[t][np.arange(B), cache["targets"][t]] -= 1
        dy[t] /= T * B
        d["W_hy"] += dy[t].T @ hs[t]
        d["b_y"] += dy[t].sum(axis=0)
        dh[t] = dy[t] @ params["W_hy"] + dh_next
        da[t] = (1 - hs[t] ** 2) * dh[t]
        np.add.at(d["W_xh"].T, xs[t], da[t])
        d["W_hh"] += (hs[t - 1] if t > 0 else cache["h0"]).T @ da[t]
        d["b_h"] += da[t].sum(axis=0)
        dh_next = da[t] @ params["W_hh"]
    return {**d, "dy": dy, "dh": dh, "da": da, "dh0": dh_next}
