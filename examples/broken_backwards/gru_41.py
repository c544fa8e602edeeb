"""Exercise 41: the backward of a GRU, with one bug.

The forward is right. Its gradients of W_xh, W_hh, b_xh, b_hh are wrong.
Trained with this backward, the network learns to remember as if nothing were wrong.
Mend `backward`, then: tensorgrad exercise 41 --grade gru_41.py

    r = sigmoid(W_xr x[t] + b_xr + W_hr h[t-1] + b_hr)
    z = sigmoid(W_xz x[t] + b_xz + W_hz h[t-1] + b_hz)
    v = W_hn h[t-1] + b_hn,  n = tanh(W_xn x[t] + b_xn + r * v)
    h[t] = (1 - z) * n + z * h[t-1],  y[t] = W_hy h[t] + b_y

The rows of W_xh, W_hh, b_xh and b_hh are those of r, z, n in this order.
Axes: T timesteps, B sequences, H hidden units, V characters. Rows are vectors: h @ W.T is W h.
"""

from __future__ import annotations

import numpy as np

Arrays = dict[str, np.ndarray]


def sigmoid(a: np.ndarray) -> np.ndarray:
    """1 / (1 + exp(-a))."""
    return 1 / (1 + np.exp(-a))


def forward(params: Arrays, xs: np.ndarray, targets: np.ndarray, h0: np.ndarray) -> tuple[float, Arrays]:
    """The mean cross-entropy over all T * B steps; xs and targets are ids (T, B), h0 is (B, H)."""
    T, B = xs.shape
    hs, ps = np.zeros((T + 1, *h0.shape)), np.zeros((T, B, len(params["b_y"])))
    gates, vs = np.zeros((T, 3, *h0.shape)), np.zeros((T, *h0.shape))
    hs[-1] = h0  # so that hs[t - 1] is what step t starts from, for t = 0 too
    loss = 0.0
    for t in range(T):
        x_r, x_z, x_n = np.split(params["W_xh"][:, xs[t]].T + params["b_xh"], 3, axis=1)
        h_r, h_z, vs[t] = np.split(hs[t - 1] @ params["W_hh"].T + params["b_hh"], 3, axis=1)
        r, z = sigmoid(x_r + h_r), sigmoid(x_z + h_z)
        n = np.tanh(x_n + r * vs[t])
        gates[t] = r, z, n
        hs[t] = (1 - z) * n + z * hs[t - 1]
        y = hs[t] @ params["W_hy"].T + params["b_y"]
        e = np.exp(y - y.max(axis=1, keepdims=True))
        ps[t] = e / e.sum(axis=1, keepdims=True)
        loss -= np.log(ps[t][np.arange(B), targets[t]]).sum() / (T * B)
    return loss, {"xs": xs, "targets": targets, "hs": hs, "gates": gates, "vs": vs, "ps": ps}


def backward(params: Arrays, cache: Arrays) -> Arrays:
    """The gradients of all parameters, of h0, and of y, h and a (a_r, a_z, a_n) at every timestep."""
    xs, hs, ps = cache["xs"], cache["hs"], cache["ps"]
    T, B = xs.shape
    W_hr, W_hz, W_hn = np.split(params["W_hh"], 3)
    d = {name: np.zeros_like(value) for name, value in params.items()}
    dy, dh = np.zeros_like(ps), np.zeros_like(hs[:-1])
    da = np.zeros((T, B, len(params["b_xh"])))
    dh_next = np.zeros_like(hs[-1])
    for t in reversed(range(T)):
        r, z, n = cache["gates"][t]
        dy[t] = ps[t]
        dy[t][np.arange(B), cache["targets"][t]] -= 1
        dy[t] /= T * B
        dh[t] = dy[t] @ params["W_hy"] + dh_next
        da_n = dh[t] * (1 - z) * (1 - n**2)
        dv = da_n * r
        da_r = da_n * cache["vs"][t] * r * (1 - r)
        da_z = dh[t] * (hs[t - 1] - n) * r * (1 - r)
        dh_next = dh[t] * z + da_r @ W_hr + da_z @ W_hz + dv @ W_hn
        da[t] = np.hstack([da_r, da_z, da_n])
        da_h = np.hstack([da_r, da_z, dv])  # of what W_hh and b_hh add up to
        d["W_hy"] += dy[t].T @ hs[t]
        d["b_y"] += dy[t].sum(axis=0)
        np.add.at(d["W_xh"].T, xs[t], da[t])
        d["W_hh"] += da_h.T @ hs[t - 1]
        d["b_xh"] += da[t].sum(axis=0)
        d["b_hh"] += da_h.sum(axis=0)
    return {**d, "dy": dy, "dh": dh, "da": da, "dh0": dh_next}
