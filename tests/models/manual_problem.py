"""Problems for the hand-written models, their networks by definition, and three ways to the right gradients.

The complex step: for an analytic function, f'(x) = Im f(x + ih) / h up to h^2, with no difference to lose
digits in. Source: Squire and Trapp, "Using Complex Variables to Estimate Derivatives of Real Functions"
(1998).
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import Callable, Mapping
from types import CodeType, ModuleType
from typing import Any

import hypothesis.strategies as st
import numpy as np
import numpy.typing as npt

import tensorgrad as tg
import tensorgrad.functional as F
from tensorgrad import nn
from tensorgrad.models.manual import common, gru, lstm, rnn

Arrays = dict[str, np.ndarray]
Step = Callable[[Arrays, tuple[int, int], bool, tuple[Any, ...]], tuple[Any, ...]]


# Complex steps lose no digits: what is left is rounding.
TOLERANCE = 1e-12
# Against the engine, norm-wise. The gradients are of the order of 1; a sum over timesteps that happens to
# cancel to far less than that keeps the rounding of its terms.
TOLERANCES = {"float64": 1e-9, "float32": 1e-5}
FLOOR = 0.3

# What Hypothesis draws for make_problem.
SIZES = {
    "T": st.integers(1, 5),
    "B": st.integers(1, 3),
    "D": st.integers(1, 3),
    "H": st.integers(1, 3),
    "V": st.integers(1, 4),
    "seed": st.integers(0, 2**32 - 1),
    "ids": st.booleans(),
    "masked": st.booleans(),
    "reduction": st.sampled_from(["mean", "sum"]),
}


def sigmoid(a: Any) -> Any:
    return 1 / (1 + np.exp(-a))


# One step of one row by the definition. What stands in p["dh"][t, b] is added to the state that leaves the
# step, and so on: the gradient with respect to these zeros is that with respect to the intermediate.


def rnn_step(p: Arrays, at: tuple[int, int], live: bool, state: tuple[Any, ...]) -> tuple[Any, ...]:
    (h,) = state
    if live:
        h = np.tanh(p["W_xh"] @ p["dx"][at] + p["W_hh"] @ h + p["b_h"] + p["da"][at])
    return (h + p["dh"][at],)


def lstm_step(p: Arrays, at: tuple[int, int], live: bool, state: tuple[Any, ...]) -> tuple[Any, ...]:
    h, c = state
    a_i, a_f, a_g, a_o = np.split(p["W_xh"] @ p["dx"][at] + p["W_hh"] @ h + p["b_h"] + p["da"][at], 4)
    if live:
        c = sigmoid(a_f) * c + sigmoid(a_i) * np.tanh(a_g)
    c = c + p["dc"][at]
    if live:
        h = sigmoid(a_o) * np.tanh(c)
    return h + p["dh"][at], c


def gru_step(reset: gru.Reset) -> Step:
    def step(p: Arrays, at: tuple[int, int], live: bool, state: tuple[Any, ...]) -> tuple[Any, ...]:
        (h,) = state
        if live:
            x_r, x_z, x_n = np.split(p["W_xh"] @ p["dx"][at] + p["b_xh"] + p["da"][at], 3)
            W_hr, W_hz, W_hn = np.split(p["W_hh"], 3)
            b_hr, b_hz, b_hn = np.split(p["b_hh"], 3)
            r = sigmoid(x_r + W_hr @ h + b_hr)
            z = sigmoid(x_z + W_hz @ h + b_hz)
            if reset == "after":
                n = np.tanh(x_n + r * (W_hn @ h + b_hn + p["dv"][at]))
            else:
                n = np.tanh(x_n + W_hn @ (r * h) + b_hn + p["dv"][at])
            h = (1 - z) * n + z * h
        return (h + p["dh"][at],)

    return step


@dataclasses.dataclass(frozen=True)
class Model:
    """A hand-written model and what is known of it.

    records: the sizes of the intermediates besides the logits, in multiples of H, by their gradients' names.
    labels: what the engine's cell calls those of them that it has a name for.
    """

    module: Any
    step: Step
    make_cell: Callable[..., Any]
    gates: int
    biases: tuple[str, ...] = ("b_h",)
    states: tuple[str, ...] = ("h",)
    records: Mapping[str, int] = dataclasses.field(default_factory=dict)
    labels: Mapping[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)


GRU = Model(gru, gru_step("after"), nn.GRUCell, 3, ("b_xh", "b_hh"), records={"dh": 1, "da": 3, "dv": 1})
MODELS = {
    "rnn": Model(rnn, rnn_step, nn.RNNCell, 1, records={"dh": 1, "da": 1}, labels={"da": ("a",)}),
    "lstm": Model(
        lstm,
        lstm_step,
        nn.LSTMCell,
        gates=4,
        states=("h", "c"),
        records={"dh": 1, "dc": 1, "da": 4},
        labels={"da": ("a",), "dc": ("c",)},
    ),
    # The engine's GRU has no names for its pre-activations: test_manual_gru.py compares those.
    "gru": GRU,
    "gru-before": dataclasses.replace(GRU, step=gru_step("before"), options={"reset": "before"}),
}


@dataclasses.dataclass(frozen=True)
class Problem:
    """The arguments of one forward and one backward pass.

    initial: h0, and c0 where there is one. last: dh_last, and dc_last; empty where nothing uses the last
    states.
    """

    model: Model
    params: Arrays
    xs: np.ndarray
    targets: np.ndarray
    initial: Arrays
    mask: np.ndarray | None
    reduction: rnn.Reduction
    last: Arrays

    @property
    def live(self) -> np.ndarray:
        """The mask, (T, B) booleans."""
        return np.ones(self.targets.shape, bool) if self.mask is None else self.mask.astype(bool)

    def forward(self) -> tuple[np.floating[Any], Any]:
        return self.model.module.forward(
            self.params,
            self.xs,
            self.targets,
            **self.initial,
            mask=self.mask,
            reduction=self.reduction,
            **self.model.options,
        )

    def gradients(self, backward: Callable[..., Any] | None = None) -> Arrays:
        """Every array of the hand-written gradients by its name."""
        _, cache = self.forward()
        return as_dict((backward or self.model.module.backward)(self.params, cache, **self.last))

    def astype(self, dtype: npt.DTypeLike) -> Problem:
        def convert(arrays: Arrays) -> Arrays:
            return {name: array.astype(dtype) for name, array in arrays.items()}

        xs = self.xs if self.xs.ndim == 2 else self.xs.astype(dtype)
        params, initial, last = convert(self.params), convert(self.initial), convert(self.last)
        return dataclasses.replace(self, params=params, xs=xs, initial=initial, last=last)


def make_problem(
    model: Model,
    T: int = 4,
    B: int = 3,
    D: int = 3,
    H: int = 4,
    V: int = 5,
    seed: int = 0,
    ids: bool = False,
    masked: bool = True,
    reduction: rnn.Reduction = "mean",
    dtype: npt.DTypeLike = np.float64,
) -> Problem:
    rng = np.random.default_rng(seed)
    rows = model.gates * H
    shapes = {"W_xh": (rows, D), "W_hh": (rows, H), "W_hy": (V, H), "b_y": (V,)}
    shapes |= {name: (rows,) for name in model.biases}
    mask = None
    if masked:
        mask = rng.random((T, B)) < 0.6
        mask[rng.integers(T), rng.integers(B)] = True  # the mean needs one step
    return Problem(
        model=model,
        params={name: rng.normal(0, 0.7, shape) for name, shape in shapes.items()},
        xs=rng.integers(D, size=(T, B)) if ids else rng.standard_normal((T, B, D)),
        targets=rng.integers(V, size=(T, B)),
        initial={f"{state}0": rng.uniform(-0.9, 0.9, (B, H)) for state in model.states},
        mask=mask,
        reduction=reduction,
        last={f"d{state}_last": rng.standard_normal((B, H)) for state in model.states},
    ).astype(dtype)


def as_dict(gradients: common.Gradients) -> Arrays:
    others = {field.name: getattr(gradients, field.name) for field in dataclasses.fields(gradients)}
    return {**others.pop("params"), **{name: g for name, g in others.items() if g is not None}}


def error(got: np.ndarray, expected: np.ndarray, floor: float = 1e-3) -> float:
    """The norm of the difference, relative to the norm of what is expected where that exceeds the floor."""
    return float(np.linalg.norm(got - expected) / max(np.linalg.norm(expected), floor))


# --- by the definition, and by complex steps ---------------------------------------------------------------


def movable(problem: Problem) -> Arrays:
    """The parameters and inputs, and zeros to add to the intermediates, by the names of their gradients."""
    (T, B), D, (V, H) = problem.targets.shape, problem.params["W_xh"].shape[1], problem.params["W_hy"].shape
    records = {name: np.zeros((T, B, size * H)) for name, size in problem.model.records.items()}
    return {
        **{name: array.copy() for name, array in problem.params.items()},
        **{f"d{name}": array.copy() for name, array in problem.initial.items()},
        "dx": np.eye(D)[problem.xs] if problem.xs.ndim == 2 else problem.xs.copy(),
        "dy": np.zeros((T, B, V)),
        **records,
    }


def objective(problem: Problem, moved: Arrays) -> Any:
    """The loss by its definition, a row and a timestep at a time, plus dh_last times the last state."""
    T, B = problem.targets.shape
    live, states = problem.live, problem.model.states
    loss, outside = 0.0, 0.0
    for b in range(B):
        state = tuple(moved[f"d{name}0"][b] for name in states)
        for t in range(T):
            state = problem.model.step(moved, (t, b), live[t, b], state)
            if live[t, b]:
                y = moved["W_hy"] @ state[0] + moved["b_y"] + moved["dy"][t, b]
                loss -= np.log(np.exp(y[problem.targets[t, b]]) / np.exp(y).sum())
        for name, value in zip(states, state, strict=True):
            if problem.last:
                outside += problem.last[f"d{name}_last"][b] @ value
    return loss / (live.sum() if problem.reduction == "mean" else 1) + outside


def complex_steps(problem: Problem) -> Arrays:
    """The derivative of the objective with respect to everything that the backward pass differentiates."""
    moved = {name: array.astype(complex) for name, array in movable(problem).items()}
    step = 1e-30
    gradients = {}
    for name, array in moved.items():
        gradients[name] = np.empty(array.shape)
        for i in np.ndindex(array.shape):
            at = array[i]
            array[i] = at + 1j * step
            gradients[name][i] = objective(problem, moved).imag / step
            array[i] = at
    return gradients


def errors_against(
    expected: Arrays, problem: Problem, backward: Callable[..., Any] | None = None
) -> dict[str, float]:
    return {name: error(g, expected[name]) for name, g in problem.gradients(backward).items()}


@functools.cache
def right_gradients(name: str) -> Arrays:
    """Those of the default problem of a model."""
    return complex_steps(make_problem(MODELS[name]))


# --- planted errors ----------------------------------------------------------------------------------------


def planted(module: ModuleType, right: str, wrong: str) -> Callable[..., Any]:
    """The module's backward with one piece of its source, or of what it calls for gradients, replaced."""
    functions = [
        common.cross_entropy_gradient,
        common.previous,
        common.input_product_gradients,
        module.backward,
    ]
    sources = [source_of(function) for function in functions]
    assert sum(source.count(right) for source in sources) == 1, right
    namespace = dict(vars(module))
    for source in sources:
        exec(compiled(source.replace(right, wrong)), namespace)
    return namespace["backward"]


# The same few texts are planted into, and the same mistakes planted, for one problem after the other.
source_of = functools.cache(inspect.getsource)


@functools.cache
def compiled(source: str) -> CodeType:
    return compile(source, "<planted>", "exec")


# Mistakes in what the models share, which must be caught in every one of them.
SHARED_MISTAKES = {
    "the carry from the future is dropped": ("dy[t] @ W_hy + dh_next", "dy[t] @ W_hy"),
    "the loss at each step is dropped from dh": ("dy[t] @ W_hy + dh_next", "dh_next"),
    "the state's weight sees the state after the step": ("np.roll(hs, 1, axis=0)[:-1]", "hs[:-1]"),
    "the initial state is taken for zero": ("np.roll(hs, 1, axis=0)[:-1]", "np.roll(hs[:-1], 1, axis=0)"),
    "the target is not subtracted": ("-= 1", "-= 0"),
    "the mean is taken for a sum": ("dy *= weights[:, :, None]", "dy *= (weights > 0)[:, :, None]"),
    "masked steps count": ("dy *= weights[:, :, None]", "dy *= weights.max()"),
    "the gradient of the last state is ignored": (
        'checked_gradient("dh_last", dh_last, cache.h_last)',
        'checked_gradient("dh_last", None, cache.h_last)',
    ),
    "the logits' bias gradient is a mean over the batch": (
        '"b_y": dy.sum(axis=(0, 1))',
        '"b_y": dy.sum(axis=0).mean(axis=0)',
    ),
    "the input weight is left out of dx": ("da @ W_xh", "da[:, :, : W_xh.shape[1]]"),
}


# --- by the engine -----------------------------------------------------------------------------------------


def engine_cell(problem: Problem) -> Any:
    """The engine's own cell with the problem's weights."""
    p, model = problem.params, problem.model
    b_ih, b_hh = [*(p[name] for name in model.biases), np.zeros_like(p[model.biases[0]])][:2]
    cell = model.make_cell(p["W_xh"].shape[1], p["W_hh"].shape[1], dtype=p["W_xh"].dtype, **model.options)
    cell.load_state_dict({"weight_ih": p["W_xh"], "weight_hh": p["W_hh"], "bias_ih": b_ih, "bias_hh": b_hh})
    return cell


def engine_gradients(
    problem: Problem,
    cell: Callable[..., tuple[Any, Any]],
    weights: Mapping[str, Any],
    labels: Mapping[str, tuple[str, ...]],
) -> tuple[float, Arrays]:
    """The loss and the gradients by the unrolled graph of a cell.

    weights: the cell's own, by the manual names. labels: as in Model, of this cell.
    """
    model, mask = problem.model, problem.live
    D = problem.params["W_xh"].shape[1]
    dense = np.eye(D, dtype=problem.params["W_xh"].dtype)[problem.xs] if problem.xs.ndim == 2 else problem.xs
    leaves = {name: tg.tensor(problem.params[name], requires_grad=True) for name in ("W_hy", "b_y")} | {
        "dx": tg.tensor(dense, requires_grad=True),
        **{f"d{name}": tg.tensor(array, requires_grad=True) for name, array in problem.initial.items()},
    }
    masks = iter(mask[:, :, None])

    def masked(x: Any, state: tuple[Any, ...]) -> tuple[Any, Any]:
        live = next(masks)
        _, new = cell(x, state if len(state) > 1 else state[0])
        new = new if isinstance(new, tuple) else (new,)
        kept = tuple(
            tg.label(tg.where(live, after, before), f"{name} that leaves")
            for name, after, before in zip(model.states, new, state, strict=True)
        )
        return tg.label(kept[0] @ leaves["W_hy"].T + leaves["b_y"], "y"), kept

    initial = tuple(leaves[f"d{name}0"] for name in model.states)
    roll = nn.unroll(masked, leaves["dx"], initial)
    loss = F.cross_entropy(roll.outputs, problem.targets, mask=problem.mask, reduction=problem.reduction)
    value = loss.item()
    for name, state in zip(model.states, roll.state, strict=True):
        if problem.last:
            loss = loss + (problem.last[f"d{name}_last"] * state).sum()

    def at_every_step(label: str) -> np.ndarray:
        return np.stack(tg.grad(loss, [step[label] for step in roll.steps]))

    leaves |= weights
    gradients = dict(zip(leaves, tg.grad(loss, list(leaves.values())), strict=True))
    gradients |= {"dy": at_every_step("y"), "dh": at_every_step("h that leaves")}
    for record, parts in labels.items():
        gradients[record] = np.concatenate([at_every_step(part) for part in parts], axis=2)
    if "dc" in gradients:
        # h[t] is computed from the cell before it is masked; where a step is masked, from none.
        gradients["dc"] = np.where(mask[:, :, None], gradients["dc"], at_every_step("c that leaves"))
    return value, gradients
