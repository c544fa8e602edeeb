"""Whole training steps, written as in eager mode: gradients in `grad`, clipping, optimisers, schedules."""

from __future__ import annotations

import copy
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

import tensorgrad as tg
from tensorgrad import functional as F
from tensorgrad import nn, optim
from tensorgrad.compile.call import Executable
from tensorgrad.compile.places import Slot
from tensorgrad.errors import AnomalyError, GraphError, ShapeError

from .common import TOLERANCE, Tagger, assert_same, batch, loss_of, tagger


class Lion(optim.Optimiser):
    """An optimiser of a user's own.

    Source: Chen et al., "Symbolic Discovery of Optimization Algorithms" (2023).
    """

    slots = ("mean",)

    def update(self, value: Any, g: Any, k: int) -> Any:
        m = self.state["mean"][k]
        self.state["mean"][k] = 0.99 * m + 0.01 * g
        return value - self.lr * (np.sign(0.9 * m + 0.1 * g) + 0.01 * value) / self.counts[k] ** 0.5


OPTIMISERS: dict[str, Any] = {
    "sgd": lambda p: optim.SGD(p, 0.1),
    "nesterov": lambda p: optim.SGD(p, 0.1, momentum=0.9, weight_decay=0.01, nesterov=True),
    "adagrad": lambda p: optim.Adagrad(p, 0.05),
    "rmsprop": lambda p: optim.RMSprop(p, 0.01),
    "adam": lambda p: optim.Adam(p, 0.01, weight_decay=0.01),
    "adamw": lambda p: optim.AdamW(p, 0.01),
    "lion": lambda p: Lion(p, 0.01),
}


class Training:
    """A model, its optimiser and a step."""

    def __init__(self, name: str = "adam", clip: str = "norm", micro: int = 1, dtype: Any = float) -> None:
        draws: Any = {"dropout": 0.2, "recurrent_dropout": 0.2, "zoneout": 0.1}
        cell = nn.LSTM(3, 4, num_layers=2, seed=0, dtype=dtype, **draws)
        self.model = Tagger(cell, 4, 5, dtype)
        self.optimiser = OPTIMISERS[name](self.model.parameters())
        self.clip = clip
        self.micro = micro

    def step(self, xs: Any, ys: Any) -> Any:
        self.optimiser.zero_grad()
        total = 0.0
        for k in range(self.micro):
            loss = F.cross_entropy(self.model.out(self.model.core(xs + k)[0]), ys)
            loss.backward()
            total = total + loss.detach()
        norm = None
        if self.clip == "norm":
            norm = optim.clip_grad_norm(self.model.parameters(), 0.3)
        elif self.clip == "value":
            optim.clip_grad_value(self.model.parameters(), 0.01)
        self.optimiser.step()
        return total, norm

    def state(self) -> Any:
        found: dict[str, Any] = dict(self.model.state_dict())
        found |= {f"grad.{name}": p.grad for name, p in self.model.named_parameters()}
        return found | self.optimiser.state_dict()


def twins(*args: Any, **options: Any) -> tuple[Training, Training, Any]:
    eager, twin = Training(*args, **options), Training(*args, **options)
    return eager, twin, tg.compile(twin.step)


@settings(max_examples=12, derandomize=True, phases=[Phase.explicit, Phase.generate])
@given(
    st.sampled_from(sorted(OPTIMISERS)),
    st.sampled_from(["norm", "value", "none"]),
    st.integers(1, 2),
    st.sampled_from([np.float64, np.float32]),
    st.lists(st.tuples(st.integers(2, 5), st.integers(2, 3)), min_size=2, max_size=4),
)
def test_steps_equal_eager_ones(name: str, clip: str, micro: int, dtype: Any, shapes: Any) -> None:
    # The sign of a difference that rounding decides is no matter of precision.
    eager, twin, step = twins(name, clip, micro, np.float64 if name == "lion" else dtype)
    for n, (T, B) in enumerate(shapes):
        xs, ys, _ = batch(T, B, dtype=eager.model.out.weight.dtype, seed=n)
        eager.optimiser.lr = twin.optimiser.lr = 0.01 * 0.9**n
        (loss, norm), (expected, norm_expected) = step(xs, ys), eager.step(xs, ys)
        assert_same(loss, expected)
        if clip == "norm":
            # A double, also of single-precision gradients.
            assert type(norm) is float
            assert norm == pytest.approx(norm_expected, rel=TOLERANCE[str(loss.dtype)])
        assert_same(twin.state(), eager.state())
        assert twin.optimiser.counts == [n + 1] * len(twin.optimiser.parameters)
        assert all(type(k) is int for k in twin.optimiser.counts)


def test_a_schedule_does_not_compile_again_but_a_setting_does() -> None:
    eager, twin, step = twins()
    xs, ys, _ = batch(4, 2)
    for n in range(6):
        for t in (eager, twin):
            t.optimiser.lr = 0.1 / (n + 1)
            t.optimiser.weight_decay = 0.5 * (n >= 3)
        assert_same(step(xs, ys), eager.step(xs, ys))
        assert_same(twin.state(), eager.state())
        assert step.cache_info().programs == 1 + (n >= 3)


def test_a_mode_or_attribute_that_changes_is_noticed() -> None:
    eager, twin, step = twins()
    xs, ys, _ = batch(4, 2)
    for change in (
        lambda t: None,
        lambda t: t.model.eval(),
        lambda t: setattr(t, "clip", "value"),
        lambda t: t.model.out.bias.requires_grad_(False),
        lambda t: setattr(t, "optimiser", optim.SGD(t.model.parameters(), 0.5)),
    ):
        for t in (eager, twin):
            change(t)
        for _ in range(2):
            assert_same(step(xs, ys), eager.step(xs, ys))
            assert_same(twin.state(), eager.state())


def test_gradients_add_up_from_call_to_call() -> None:
    models = tagger("gru"), tagger("gru")
    xs, ys, _ = batch(4, 2)

    def backward(model: Any) -> Any:
        loss_of(model, xs, ys).backward()

    compiled = tg.compile(backward)
    for n in range(6):
        backward(models[0])
        compiled(models[1])
        if n == 2:
            for model in models:
                model.zero_grad()
        for p, q in zip(models[0].parameters(), models[1].parameters(), strict=True):
            assert_same(q.grad, p.grad)
    # None at the start, and arrays.
    assert compiled.cache_info().programs == 2


def test_parameters_after_their_update() -> None:
    """Two steps in one call: the second sees new values, and gradients belong to the same parameters."""
    models = tagger("rnn"), tagger("rnn")
    pair = [optim.Adam(m.parameters(), 0.05) for m in models]

    def fit(model: Any, optimiser: Any, xs: Any, ys: Any) -> Any:
        first = loss_of(model, xs, ys)
        first.backward()
        optimiser.step()
        again = loss_of(model, xs, ys)
        grads = tg.grad(again, model.parameters())
        optimiser.zero_grad()
        (again + first * 0.5).backward()
        optimiser.step()
        return first, again, grads, model.out.weight * 1, model.out.bias.detach(), loss_of(model, xs, ys)

    step = tg.compile(lambda xs, ys: fit(models[1], pair[1], xs, ys))
    for n in range(4):
        xs, ys, _ = batch(4, 2, seed=n)
        assert_same(step(xs, ys), fit(models[0], pair[0], xs, ys))
        assert_same(models[1].state_dict(), models[0].state_dict())
        assert pair[0].counts == pair[1].counts


def test_values_assigned_by_hand() -> None:
    models = tagger("rnn"), tagger("rnn")

    def fit(model: Any, xs: Any, ys: Any) -> Any:
        model.zero_grad()
        loss = loss_of(model, xs, ys)
        loss.backward()
        with tg.no_grad():
            for k, p in enumerate(model.parameters()):
                if k % 2:
                    p -= 0.1 * p.grad
                else:
                    p.data = p.data - 0.1 * p.grad
        return loss

    step = tg.compile(fit)
    for _ in range(3):
        assert_same(step(models[1], *batch(4, 2)[:2]), fit(models[0], *batch(4, 2)[:2]))
        assert_same(models[1].state_dict(), models[0].state_dict())


class Shared(Tagger):
    """Two optimisers, a tied weight, and a parameter that gets no gradient."""

    def __init__(self) -> None:
        super().__init__(nn.RNNCell(3, 3, seed=0), 3, 5)
        self.core.weight_hh = self.core.weight_ih
        self.spare = nn.Parameter(np.ones(2))
        self.optimisers = [
            optim.Adam([self.core.weight_ih, self.spare], 0.01),
            optim.SGD([self.out.weight, self.core.bias_hh], 0.1, momentum=0.5),
        ]


def test_two_optimisers_shared_parameters_and_some_without_gradient() -> None:
    models = Shared(), Shared()

    def fit(model: Any, xs: Any, ys: Any) -> Any:
        loss_of(model, xs, ys).backward()
        for each in model.optimisers:
            each.step()
            each.zero_grad()

    step = tg.compile(fit)
    for _ in range(3):
        for model, run in zip(models, (fit, step), strict=True):
            run(model, *batch(4, 2)[:2])
        assert_same(models[1].state_dict(), models[0].state_dict())
        assert models[1].optimisers[0].counts == models[0].optimisers[0].counts
        assert models[1].spare.grad is None


def test_truncated_windows_carry_the_state_within_a_call_and_between_calls() -> None:
    models = nn.GRU(3, 4, seed=0), nn.GRU(3, 4, seed=0)
    pair = [optim.Adam(m.parameters(), 0.05) for m in models]

    def windows(model: Any, optimiser: Any, xs: Any, state: Any) -> Any:
        for part in (xs[:3], xs[3:]):
            optimiser.zero_grad()
            out, state = model(part, state)
            (out * out).mean().backward()
            optim.clip_grad_norm(model.parameters(), 0.01)
            optimiser.step()
            state = nn.detach(state)
        return state

    step = tg.compile(lambda xs, state: windows(models[1], pair[1], xs, state))
    states: Any = [models[0].initial_state(np.zeros((2, 3)))] * 2
    for n in range(3):
        xs = batch(6 + n, 2, seed=n)[0]
        states = [windows(models[0], pair[0], xs, states[0]), step(xs, states[1])]
        assert_same(states[1], states[0])
        assert_same(models[1].state_dict(), models[0].state_dict())


@pytest.mark.parametrize("scale", [1e-3, 1e30, np.inf, np.nan])
def test_clipping_as_eager_also_of_what_is_not_finite(scale: float) -> None:
    def clipped(x: Any) -> Any:
        p = nn.Parameter(np.ones(3, np.float32))
        (p * x).sum().backward()
        return optim.clip_grad_norm([p], 1.0), p.grad

    with np.errstate(invalid="ignore"):
        x = np.array([3.0, 0.0, 4.0], np.float32) * np.float32(scale)
        eager, found = clipped(x), tg.compile(clipped)(x)
    assert type(found[0]) is float
    np.testing.assert_allclose(found[0], eager[0], rtol=1e-12)
    np.testing.assert_allclose(found[1], eager[1], rtol=1e-6)
    assert found[1].dtype == np.float32


def test_python_numbers_do_not_widen_what_they_meet() -> None:
    x = np.ones(3, np.float32)
    fn = lambda x, rate: (x * rate, rate * 2, np.sqrt(rate), rate**0.5 * x)  # noqa: E731
    assert_same(tg.compile(fn)(x, 0.25), fn(x, 0.25))


def test_the_functional_way() -> None:
    model = tagger("lstm")
    params = {name: p.numpy().copy() for name, p in model.named_parameters()}

    def step(params: Any, mean: Any, xs: Any, ys: Any, lr: float) -> Any:
        loss, grads = tg.value_and_grad(loss_of)(model, xs, ys)
        mean = {k: 0.9 * mean[k] + g for k, g in grads.items()}
        return loss, {k: params[k] - lr * mean[k] for k in params}, mean

    mean = {k: np.zeros_like(v) for k, v in params.items()}
    xs, ys, _ = batch(4, 2)
    assert_same(tg.compile(step)(params, mean, xs, ys, 0.1), step(params, mean, xs, ys, 0.1))


# --- what goes wrong ---------------------------------------------------------------------------------------
def test_a_failure_changes_nothing() -> None:
    _, twin, step = twins()
    xs, ys, _ = batch(4, 2)
    step(xs, ys)
    before = copy.deepcopy(twin.state())
    wrong = ys.copy()
    wrong[2, 1] = 9
    with pytest.raises(ValueError, match="label 9"):
        step(xs, wrong)

    def fails(xs: Any, ys: Any) -> Any:
        twin.step(xs, ys)
        twin.optimiser.lr = 7.0
        return twin.model.out.weight.item()

    with pytest.raises((GraphError, ShapeError)):
        tg.compile(fails)(xs, ys)
    assert_same(twin.state(), before)


X = np.ones((3, 2))
REFUSED: dict[str, tuple[Any, str]] = {
    "numbers of a parameter": (lambda t: float(t.model.out.bias.sum()), "float"),
    "a parameter as an array": (lambda t: np.asarray(t.model.out.bias), "an array"),
    "a choice by the norm": (lambda t: 1 if optim.clip_grad_norm([with_grad(t)], 1.0) > 2 else 2, "decision"),
    "arrays in place": (lambda t: in_place(with_grad(t).grad), "in place"),
    "an attribute": (lambda t: setattr(t.model.core, "dropout", 0.5), "dropout a new value"),
    "a change in a loop": (
        lambda t: nn.unroll(lambda x, h: (t.optimiser.step(), h), X, X[0]),
        r"within nn\.unroll",
    ),
}


def with_grad(t: Training) -> Any:
    t.model.out.bias.sum().backward()
    return t.model.out.bias


def in_place(g: Any) -> None:
    g *= 0.5


@pytest.mark.parametrize(("fn", "what"), REFUSED.values(), ids=REFUSED)
def test_what_is_refused_and_changes_nothing(fn: Any, what: str) -> None:
    t = Training()
    with_grad(t)
    before = copy.deepcopy(t.state())

    def run(x: Any) -> Any:
        return fn(t)

    with pytest.raises(GraphError, match=what):
        tg.compile(run)(X)
    assert_same(t.state(), before)
    assert t.model.core.dropout == 0.2


def test_an_optimiser_must_keep_its_state_in_slots() -> None:
    class Counting(optim.Optimiser):
        def update(self, value: Any, g: Any, k: int) -> Any:
            self.seen = getattr(self, "seen", 0) + 1
            return value - self.lr * g

    model = tagger("rnn")
    optimiser = Counting(model.parameters(), 0.1)

    def step(xs: Any, ys: Any) -> None:
        loss_of(model, xs, ys).backward()
        optimiser.step()

    with pytest.raises(GraphError, match=r"changed its seen.*slots"):
        tg.compile(step)(*batch(4, 2)[:2])
    assert not hasattr(optimiser, "seen")


def test_gradients_of_arguments_are_returned_not_left() -> None:
    w = tg.tensor(X, requires_grad=True)

    def backward(w: Any) -> None:
        (w * w).sum().backward()

    with pytest.raises(GraphError, match="argument 'w'"):
        tg.compile(backward)(w)
    assert w.grad is None


def test_anomalies_are_looked_for_in_the_function_itself() -> None:
    model = tagger("rnn")
    step = tg.compile(tg.value_and_grad(loss_of))
    xs, ys, _ = batch(4, 2)
    step(model, xs, ys)
    xs[2] = np.nan
    step(model, xs, ys)
    with tg.detect_anomaly(), pytest.raises(AnomalyError, match="t=2"):
        step(model, xs, ys)


def test_a_compiled_function_within_a_gradient_or_another_one() -> None:
    square = tg.compile(lambda x: (x * x).sum())
    square(X)
    fn = tg.value_and_grad(lambda x: square(x) * 2)
    expected = tg.value_and_grad(lambda x: (x * x).sum() * 2)(X)
    assert_same(fn(X), expected)
    assert_same(tg.compile(fn)(X), expected)


def test_writing_back_to_the_wrong_place_is_found() -> None:
    """The comparison with eager mode sees the two states of Adam exchanged."""
    eager, twin, step = twins("adam", "none")
    xs, ys, _ = batch(4, 2)
    step(xs, ys)
    eager.step(xs, ys)
    executable: Executable = step._last
    numbers = [k for k, (place, *_) in enumerate(executable.writes) if isinstance(place, Slot)]
    a, b = numbers[:2]
    (p, how, n), (q, _, m) = executable.writes[a], executable.writes[b]
    executable.writes[a], executable.writes[b] = (p, how, m), (q, how, n)
    step(xs, ys)
    eager.step(xs, ys)
    with pytest.raises(AssertionError):
        assert_same(twin.state(), eager.state())


# --- the page ----------------------------------------------------------------------------------------------
@pytest.mark.usefixtures("numpy_pages")
def test_the_saved_step_takes_and_gives_the_state(tmp_path: Path) -> None:
    """Three steps by a Python that has no tensorgrad."""
    models = tagger("lstm", dtype=np.float32), tagger("lstm", dtype=np.float32)
    pair = [optim.Adam(m.parameters(), 0.05) for m in models]

    def train(model: Any, optimiser: Any, xs: Any, ys: Any) -> Any:
        optimiser.zero_grad()
        loss = loss_of(model, xs, ys)
        loss.backward()
        optim.clip_grad_norm(model.parameters(), 0.1)
        optimiser.step()
        return loss

    def step(xs: Any, ys: Any) -> Any:
        return train(models[1], pair[1], xs, ys)

    xs, ys, _ = batch(4, 2, dtype=np.float32)
    compiled = tg.compile(step)
    compiled(xs, ys)
    train(models[0], pair[0], xs, ys)
    compiled.save(tmp_path / "page.py")
    assert max(map(len, compiled.source.splitlines())) <= 110
    reads, writes = compiled._last.reads, compiled._last.writes
    captured = compiled._last.captured
    # For every input after the arguments the number of the result that takes its place.
    number = {place.key: n for place, how, n in writes if how is not None}
    values = {id(place.owner): n for place, how, n in writes if type(place).__name__ == "Value"}
    feed = [number.get(place.key, -1) for place in reads] + [values[id(p)] for p in captured]
    given = [place.read() for place in reads] + [p.numpy() for p in captured]
    np.savez(tmp_path / "given.npz", xs, ys, np.array(feed), *given)
    code = (
        "import sys; sys.modules['tensorgrad'] = None\n"
        "import numpy as np, page\n"
        "z = np.load('given.npz'); xs, ys, feed, *state = [z[f'arr_{k}'] for k in range(len(z))]\n"
        "state = [s if s.ndim else s.item() for s in state]\n"
        "for _ in range(3):\n"
        "    out = page.step(xs, ys, *state)\n"
        "    state = [s if n < 0 else out[n] for s, n in zip(state, feed)]\n"
        "np.savez('made.npz', *state)\n"
    )
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], cwd=tmp_path, check=True)
    for _ in range(3):
        train(models[0], pair[0], xs, ys)
    with np.load(tmp_path / "made.npz") as made:
        found = [made[f"arr_{k}"] for k in range(len(made))][len(reads) :]
    eager = {id(p): q for p, q in zip(models[1].parameters(), models[0].parameters(), strict=True)}
    for p, value in zip(captured, found, strict=True):
        assert_same(value, eager[id(p)].numpy().copy())
    for line in ("lr: the learning rate of Adam, float64", "the new value of weight_hh, float32 (16, 4)"):
        assert line in compiled.source


@pytest.mark.parametrize("name", [None, "w"])
def test_a_page_speaks_of_tensors_by_the_names_it_gives_them(name: str | None) -> None:
    u, v = (tg.tensor(np.ones(3), requires_grad=True, name=name) for _ in range(2))
    adam = optim.Adam([u, v], lr=0.1)

    def step(x: Any) -> Any:
        (u * v * x).sum().backward()
        adam.step()

    compiled = tg.compile(step)
    compiled(np.arange(3.0))
    for called in [name, f"{name}2"] if name else ["v", "v2"]:
        for what in ("the new value", "the gradient", "the square mean", "the number of steps"):
            assert re.search(rf"{what} of {called}( afterwards)?, ", compiled.source), (what, called)
    assert "of parameter" not in compiled.source
