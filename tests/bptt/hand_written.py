"""Hand-written networks with a mistake planted in their backward, and graphs to hold them against."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

import tensorgrad as tg
import tensorgrad.functional as F
from tensorgrad import nn, tree
from tensorgrad.models.manual import common

from ..models.manual_problem import MODELS, Problem, compiled, engine_cell, make_problem, planted, source_of

CARRY = "dy[t] @ W_hy + dh_next"
OVER_TIME = "reversed(range(len(dy)))"
H_SEED = 'checked_gradient("dh_last", dh_last, cache.h_last)'
C_SEED = 'checked_gradient("dc_last", dc_last, cache.c_last)'
WRONG_AXIS = (
    "dy = ps.copy(); ys = np.log(np.where(ps > 0, ps, 1)); "
    "dy = np.exp(LOGITS - LOGITS.max(axis=1, keepdims=True)); dy = dy / dy.sum(axis=1, keepdims=True)"
)

# In what all three share: what is replaced by what, and the code that names it.
SHARED = {
    "the carry is dropped": (CARRY, "dy[t] @ W_hy", "BPTT001"),
    "the target is not subtracted": ("-= 1", "-= 0", "BPTT016"),
    "all columns of targets": (
        "dy[step, row, targets] -= 1",
        "for s_ in range(T): dy[s_][:, targets[s_]] -= 1",
        "BPTT017",
    ),
    "the softmax over the batch": ("dy = ps.copy()", WRONG_AXIS, "BPTT018"),
    "the mean is missing": ("dy *= weights[:, :, None]", "dy *= (weights > 0)[:, :, None]", "BPTT019"),
    "the mean over the batch alone": (
        "dy *= weights[:, :, None]",
        "dy *= weights[:, :, None] * T",
        "BPTT019",
    ),
    "the bias of the logits is a mean": (
        '"b_y": dy.sum(axis=(0, 1))',
        '"b_y": dy.sum(axis=0).mean(axis=0)',
        "BPTT020",
    ),
    "the first timestep is left out": (OVER_TIME, "reversed(range(1, len(dy)))", "BPTT025"),
    "the last timestep is left out": (OVER_TIME, "reversed(range(len(dy) - 1))", "BPTT025"),
    "truncated after two": (OVER_TIME, "reversed(range(len(dy) - 2, len(dy)))", "BPTT026"),
    "the loop runs forwards": (OVER_TIME, "range(len(dy))", "BPTT027"),
    "the last state's gradient": (H_SEED, H_SEED.replace("dh_last,", "None,"), "BPTT030"),
    "the readout sees the state before": (
        "sum_of_outer_products(dy, hs[:-1])",
        "sum_of_outer_products(dy, previous(hs))",
        "BPTT006",
    ),
}
BY_ONE_WEIGHT = {
    "the carry is doubled": (CARRY, "dy[t] @ W_hy + 2 * dh_next", "BPTT002"),
    "W_hh sees the state after": ("previous(hs)", "hs[:-1]", "BPTT006"),
    "index -1 is the last state": ("previous(hs)", "np.roll(hs[:-1], 1, axis=0)", "BPTT007"),
    "the initial state is zero": (
        "previous(hs)",
        "np.concatenate([np.zeros_like(hs[:1]), hs[:-2]])",
        "BPTT008",
    ),
    "one timestep's outer product": (
        "sum_of_outer_products(da, previous(hs))",
        "da[0].T @ previous(hs)[0]",
        "BPTT010",
    ),
    "one timestep's bias": ('"b_h": da.sum(axis=(0, 1))', '"b_h": da[0].sum(axis=0)', "BPTT010"),
    "the bias is a mean": ('"b_h": da.sum(axis=(0, 1))', '"b_h": da.mean(axis=1).sum(axis=0)', "BPTT020"),
    "the carry is clipped": ("da[t] @ W_hh, dh[t]", "np.clip(da[t] @ W_hh, -0.1, 0.1), dh[t]", "BPTT023"),
    "the carry is not multiplied": ("da[t] @ W_hh, dh[t]", "dh[t], dh[t]", "BPTT039"),
}
RNN = {
    **SHARED,
    **BY_ONE_WEIGHT,
    "the carry is added after tanh": (
        "(1 - hs[t] ** 2) * dh[t], 0",
        "(1 - hs[t] ** 2) * (dh[t] - dh_next) + dh_next, 0",
        "BPTT003",
    ),
    "dh is carried": ("da[t] @ W_hh, dh[t]", "dh[t] @ W_hh, dh[t]", "BPTT004"),
    "dh is clipped": (CARRY, f"np.clip({CARRY}, -0.1, 0.1)", "BPTT023"),
    "the carry is never reset": (
        "dh_next = np.where(live, da[t] @ W_hh, dh[t])",
        "dh_next = da[t] @ W_hh + dh[t]",
        "BPTT002",
    ),
    "W_hh is not transposed": ("da[t] @ W_hh, dh[t]", "da[t] @ W_hh.T, dh[t]", "BPTT005"),
    "the outer product is transposed": (
        "sum_of_outer_products(da, previous(hs))",
        "sum_of_outer_products(previous(hs), da)",
        "BPTT009",
    ),
    "tanh' of the pre-activation": ("1 - hs[t] ** 2", "1 - np.arctanh(hs[t]) ** 2", "BPTT011"),
    "tanh' lacks the square": ("1 - hs[t] ** 2", "1 - hs[t]", "BPTT012"),
    "tanh' of the state before": ("1 - hs[t] ** 2", "1 - hs[t - 1] ** 2", "BPTT013"),
    "tanh' is forgotten": ("(1 - hs[t] ** 2) * dh[t]", "dh[t]", "BPTT014"),
    "sigmoid' for tanh'": ("(1 - hs[t] ** 2)", "hs[t] * (1 - hs[t])", "BPTT015"),
}
LSTM = {
    **SHARED,
    **BY_ONE_WEIGHT,
    "dc is assigned": ("* dh[t], 0) + dc_next", "* dh[t], 0)", "BPTT028"),
    "dc lacks the forget gate": ("np.where(live, f * dc[t], dc[t])", "dc[t]", "BPTT029"),
    "the last cell's gradient": (C_SEED, C_SEED.replace("dc_last,", "None,"), "BPTT030"),
    "sigmoid' of i is forgotten": ("i * (1 - i) * di", "di", "BPTT014"),
    "sigmoid' of o is forgotten": ("o * (1 - o) * do", "do", "BPTT014"),
    "tanh' is forgotten": ("o * (1 - tanh_c**2) * dh[t]", "o * dh[t]", "BPTT014"),
    "half of sigmoid'": ("f * (1 - f) * df", "(1 - f) * df", "BPTT014"),
    "sigmoid' for tanh'": ("(1 - g**2) * dg", "g * (1 - g) * dg", "BPTT015"),
    "tanh' for sigmoid'": ("f * (1 - f) * df", "(1 - f**2) * df", "BPTT015"),
    "the gates o and g change places": ("[da_i, da_f, da_g, da_o]", "[da_i, da_f, da_o, da_g]", "BPTT031"),
    "the gates i and f change places": ("[da_i, da_f, da_g, da_o]", "[da_f, da_i, da_g, da_o]", "BPTT031"),
    "c[t] for c[t-1]": ("cs[t - 1] * dc[t]", "cs[t] * dc[t]", "BPTT032"),
    "no tanh": ("tanh_c * dh[t]", "cs[t] * dh[t]", "BPTT033"),
    "tanh twice": ("tanh_c * dh[t]", "np.tanh(tanh_c) * dh[t]", "BPTT033"),
    "tanh' of the cell": ("(1 - tanh_c**2)", "(1 - cs[t] ** 2)", "BPTT011"),
    "tanh' of tanh twice": ("(1 - tanh_c**2)", "(1 - np.tanh(tanh_c) ** 2)", "BPTT033"),
    "the output's path is missing": (
        "np.where(live, o * (1 - tanh_c**2) * dh[t], 0) + dc_next",
        "dc_next",
        "BPTT034",
    ),
    "i and g are exchanged": (
        "di, df, dg, do = g * dc[t], cs[t - 1] * dc[t], i * dc[t]",
        "di, df, dg, do = i * dc[t], cs[t - 1] * dc[t], g * dc[t]",
        "BPTT042",
    ),
    "sigmoid' of another gate": ("o * (1 - o) * do", "f * (1 - f) * do", "BPTT040"),
    "h for c": ("cs[t - 1] * dc[t]", "hs[t - 1] * dc[t]", "BPTT041"),
    "i for f": ("np.where(live, f * dc[t]", "np.where(live, i * dc[t]", "BPTT041"),
}
GRU = {
    **SHARED,
    "W_hh sees the state after": ("previous(hs)", "hs[:-1]", "BPTT006"),
    "index -1 is the last state": ("previous(hs)", "np.roll(hs[:-1], 1, axis=0)", "BPTT007"),
    "the initial state is zero": (
        "previous(hs)",
        "np.concatenate([np.zeros_like(hs[:1]), hs[:-2]])",
        "BPTT008",
    ),
    "the carry is doubled": (CARRY, "dy[t] @ W_hy + 2 * dh_next", "BPTT002"),
    "the z path is missing": ("z * dh_new + da_r @ W_hr", "da_r @ W_hr", "BPTT034"),
    "dz has the wrong sign": ("(hs[t - 1] - n) * dh_new", "(n - hs[t - 1]) * dh_new", "BPTT035"),
    "z for 1 - z": ("(1 - z) * dh_new", "z * dh_new", "BPTT035"),
    "1 - z for z": ("z * dh_new + da_r @ W_hr", "(1 - z) * dh_new + da_r @ W_hr", "BPTT035"),
    "the other reset": ('if cache.reset == "after":', 'if cache.reset != "after":', "BPTT036"),
    "r is missing on the way back": ("dh_n = dv[t] @ W_hn\n", "dh_n = da_n @ W_hn\n", "BPTT037"),
    "r is missing in dv": ("dv[t] = r * da_n", "dv[t] = da_n", "BPTT037"),
    "tanh' is forgotten": ("(1 - n**2) * (1 - z)", "(1 - z)", "BPTT014"),
    "sigmoid' of r is forgotten": ("r * (1 - r) * dr", "dr", "BPTT014"),
    "the gates r and z change places": ("[da_r, da_z, da_n]", "[da_z, da_r, da_n]", "BPTT031"),
    "h[t] for h[t-1]": ("(hs[t - 1] - n) * dh_new", "(hs[t] - n) * dh_new", "BPTT032"),
    "the way back of r is missing": ("da_r @ W_hr + da_z @ W_hz", "da_z @ W_hz", "BPTT034"),
    "tanh' of the state": ("(1 - n**2)", "(1 - hs[t] ** 2)", "BPTT040"),
}
TABLES = {"rnn": RNN, "lstm": LSTM, "gru": GRU}
PLANTED = [(kind, title) for kind, table in TABLES.items() for title in table]

COUNTED = (
    "dy *= weights[:, :, None]",
    "dy = ps.copy(); dy[step, row, targets] -= 1; dy *= weights.max()",
    "BPTT021",
)

# With padding at the ends of sequences.
PADDED = {
    "rnn": {
        "padding counts in the loss": COUNTED,
        "the state is not passed through": (
            "np.where(live, da[t] @ W_hh, dh[t])",
            "np.where(live, da[t] @ W_hh, 0)",
            "BPTT022",
        ),
        "masked steps are computed": ("np.where(live, da[t] @ W_hh, dh[t])", "da[t] @ W_hh", "BPTT022"),
    },
    "gru": {
        "padding counts in the loss": COUNTED,
        "the state is not passed through": ("dh_n, dh[t])", "dh_n, 0)", "BPTT022"),
    },
    "lstm": {
        "padding counts in the loss": COUNTED,
        "the cell is not passed through": ("np.where(live, f * dc[t], dc[t])", "f * dc[t]", "BPTT022"),
        "the state is not passed through": (
            "np.where(live, da[t] @ W_hh, dh[t])",
            "da[t] @ W_hh",
            "BPTT022",
        ),
    },
}


def draw(kind: str, seed: int, padded: bool = False, dtype: str = "float64") -> Problem:
    """A problem whose shape is drawn too; padding only at the ends."""
    rng = np.random.default_rng(seed)
    T, B, D, H, V = (int(rng.integers(*ends)) for ends in ((3, 7), (2, 5), (2, 6), (2, 6), (2, 6)))
    problem = make_problem(MODELS[kind], T, B, D, H, V, seed=seed, masked=False, dtype=dtype)
    if not padded:
        return problem
    lengths = rng.integers(1, T, B)
    lengths[rng.integers(B)] = T
    mask = np.arange(T)[:, None] < lengths
    return dataclasses.replace(problem, mask=mask, targets=np.where(mask, problem.targets, 0))


def draw_ids(kind: str, seed: int) -> Problem:
    """A problem of token ids, of which every timestep has one twice; no fewer sequences than targets."""
    rng = np.random.default_rng(seed)
    T, B, D, H = (int(rng.integers(*ends)) for ends in ((3, 7), (3, 6), (2, 6), (2, 6)))
    problem = make_problem(MODELS[kind], T, B, D, H, V=B, seed=seed, masked=False, ids=True)
    problem.xs[:, 1] = problem.xs[:, 0]
    return problem


# Of token ids.
OF_IDS = {
    "duplicated ids are lost": (
        "np.add.at(dW_xh.T, xs, da)",
        "for s_ in range(len(xs)): dW_xh.T[xs[s_]] += da[s_]",
        "BPTT024",
    ),
    "rows of targets": (
        "dy[step, row, targets] -= 1",
        "for s_ in range(T): dy[s_][targets[s_]] -= 1",
        "BPTT017",
    ),
}


def gradients(problem: Problem, right: str, wrong: str) -> dict[str, np.ndarray]:
    """By the backward with one piece of its source replaced."""
    module = problem.model.module
    module.LOGITS = problem.forward()[1].hs[:-1] @ problem.params["W_hy"].T + problem.params["b_y"]
    common.LOGITS = module.LOGITS
    try:
        if right == OVER_TIME:
            # What the loop doesn't come to shall be zero, and not what memory holds.
            source = source_of(module.backward).replace("np.empty", "np.zeros").replace(right, wrong)
            namespace = dict(vars(module))
            exec(compiled(source), namespace)
            return problem.gradients(namespace["backward"])
        return problem.gradients(planted(module, right, wrong))
    finally:
        del module.LOGITS, common.LOGITS


def graph(problem: Problem) -> tuple[Any, Any, dict[str, Any]]:
    """The loss, the run, and the Tensors by the names of their hand-written gradients."""
    p = problem.params
    cell = engine_cell(problem)
    initial = {name: tg.tensor(x, requires_grad=True) for name, x in problem.initial.items()}
    state = tuple(initial.values())
    lengths = None if problem.mask is None else problem.mask.sum(axis=0)
    W_hy, b_y = (tg.tensor(p[name], requires_grad=True, name=name) for name in ("W_hy", "b_y"))
    one_hot = np.eye(p["W_xh"].shape[1])
    xs = tg.tensor(one_hot[problem.xs] if problem.xs.ndim == 2 else problem.xs, requires_grad=True)
    roll = nn.unroll(cell, xs, state if len(state) > 1 else state[0], lengths)
    y = tg.label(tg.ops.linear(roll.outputs, W_hy, b_y), "y")
    loss = F.cross_entropy(y, problem.targets, mask=problem.mask, reduction=problem.reduction)
    for name, last in zip(problem.model.states, tree.leaves(roll.state), strict=True):
        loss = loss + (problem.last[f"d{name}_last"] * last).sum()
    wrt = {"W_xh": cell.weight_ih, "W_hh": cell.weight_hh, "W_hy": W_hy, "b_y": b_y, **initial}
    biases = ("bias_ih", "bias_hh")
    wrt |= {name: getattr(cell, bias) for name, bias in zip(problem.model.biases, biases, strict=False)}
    return loss, roll, wrt


def compared(kind: str, grads: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Those that the engine's cell has names for."""
    unnamed = ("da", "dv") if kind == "gru" else ()
    return {name: g for name, g in grads.items() if name not in unnamed}


def parameters_alone(grads: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Without the records of single timesteps."""
    return {name: g for name, g in grads.items() if name not in ("dy", "dh", "dc", "da", "dv", "dx")}
