"""Exercise 32: the backward of an LSTM, with one bug.

The forward is right. Its gradients of W_xh, W_hh, b_h are wrong.
Trained with this backward, the network learns to remember as if nothing were wrong.
Mend `backward`, then: tensorgrad exercise 32 --grade lstm_32.py

    a[t] = W_xh x[t] + W_hh h[t-1] + b_h, cut into the gates i, f, g, o in this order
    i, f, o = sigmoid(a_i), sigmoid(a_f), sigmoid(a_o),  g = tanh(a_g)
    c[t] = f * c[t-1] + i * g,  h[t] = o * tanh(c[t]),  y[t] = W_hy h[t] + b_y

Axes: T timesteps, B sequences, H hidden units, V characters. Rows are vectors: h @ W.T is W h.
"""

from __future__ import annotations

import numpy as np

Arrays = dict[str, np.ndarray]


def sigmoid(a: np.ndarray) -> np.ndarray:
    """1 / (1 + exp(-a))."""
    return 1 / (1 + np.exp(-a))


def forward(
    params: Arrays, xs: np.ndarray, targets: np.ndarray, h0: np.ndarray, c0: np.ndarray
) -> tuple[float, Arrays]:
    """The mean cross-entropy over all T * B steps; xs and targets are ids (T, B), h0 and c0 are (B, H)."""
    T, B = xs.shape
    hs, cs = np.zeros((T + 1, *h0.shape)), np.zeros((T + 1, *c0.shape))
    gates, ps = np.zeros((T, 4, *h0.shape)), np.zeros((T, B, len(params["b_y"])))
    hs[-1], cs[-1] = h0, c0  # so that hs[t - 1] is what step t starts from, for t = 0 too
    loss = 0.0
    for t in range(T):
        a = params["W_xh"][:, xs[t]].T + hs[t - 1] @ params["W_hh"].T + params["b_h"]
        a_i, a_f, a_g, a_o = np.split(a, 4, axis=1)
        i, f, g, o = gates[t] = sigmoid(a_i), sigmoid(a_f), np.tanh(a_g), sigmoid(a_o)
        cs[t] = f * cs[t - 1] + i * g
        hs[t] = o * np.tanh(cs[t])
        y = hs[t] @ params["W_hy"].T + params["b_y"]
        e = np.exp(y - y.max(axis=1, keepdims=True))
        ps[t] = e / e.sum(axis=1, keepdims=True)
        loss -= np.log(ps[t][np.arange(B), targets[t]]).sum() / (T * B)
    return loss, {"xs": xs, "targets": targets, "hs": hs, "cs": cs, "gates": gates, "ps": ps}


def backward(
    params: Arrays, cache: Arrays, dh_last: np.ndarray | None = None, dc_last: np.ndarray | None = None
) -> Arrays:
    """The gradients of all parameters, of h0 and c0, and of y, h, c and a at every timestep.

    dh_last and dc_last are what reaches the last states from outside, (B, H).
    """
    xs, hs, cs, ps = (cache[name] for name in ("xs", "hs", "cs", "ps"))
    T, B = xs.shape
    d = {name: np.zeros_like(value) for name, value in params.items()}
    dy, dh, dc = np.zeros_like(ps), np.zeros_like(hs[:-1]), np.zeros_like(cs[:-1])
    da = np.zeros((T, B, len(params["b_h"])))
    dh_next = np.zeros_like(hs[-1]) if dh_last is None else dh_last
    dc_next = np.zeros_like(cs[-1]) if dc_last is None else dc_last
    for t in reversed(range(T)):
        i, f, g, o = cache["gates"][t]
        tanh_c = np.tanh(cs[t])
        dy[t] = ps[t]
        dy[t][np.arange(B), cache["targets"][t]] -= 1
        dy[t] /= T * B
        dh[t] = dy[t] @ params["W_hy"] + dh_next
        dc[t] = dc_next
        dc[t] += o * (1 - tanh_c**2) * dh[t]
        di = dc[t] * g
        df = dc[t] * cs[t - 1]
        dg = dc[t] * i
        do = dh[t] * tanh_c
        da[t] = np.hstack([di * i * (1 - i), df, dg * (1 - g**2), do * o * (1 - o)])
        dh_next = da[t] @ params["W_hh"]
        dc_next = dc[t] * f
        d["W_hy"] += dy[t].T @ hs[t]
        d["b_y"] += dy[t].sum(axis=0)
        np.add.at(d["W_xh"].T, xs[t], da[t])
        d["W_hh"] += da[t].T @ hs[t - 1]
        d["b_h"] += da[t].sum(axis=0)
    return {**d, "dy": dy, "dh": dh, "dc": dc, "da": da, "dh0": dh_next, "dc0": dc_next}
