"""What users do with a compiled function: call it, look at it, save it; and what they are told otherwise."""

from __future__ import annotations

import gc
import re
import subprocess
import sys
import threading
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tensorgrad as tg
from tensorgrad import functional as F
from tensorgrad import nn
from tensorgrad.compile.stand_ins import Traced
from tensorgrad.errors import GraphError, ShapeError, UserError

from .common import Tagger, assert_same, batch, check, loss_of, needs_numba, tagger


def here() -> str:
    return Path(__file__).name


# --- what compiles -----------------------------------------------------------------------------------------
X = np.random.default_rng(0).standard_normal((5, 3))

FUNCTIONS: dict[str, Any] = {
    "arrays stay arrays": lambda x: (x * 2 + 1, np.exp(x), tg.tanh(x)),
    "results that are no arrays": lambda x: {"sum": x.sum(), "yes": True, "none": None, "two": 2},
    "the argument itself": lambda x: (x, x),
    "a constant": lambda x: np.ones(3),
    "views": lambda x: (x.T, x[1:], x.reshape(-1), tg.broadcast_to(x[0], (4, 3))),
    "reductions": lambda x: (
        x.mean(0),
        x.var(1),
        x.std(),
        x.max(0),
        x.min(),
        tg.logsumexp(x, 1),
        x.cumsum(0),
        x.prod(1),
    ),
    "joining": lambda x: (
        tg.concatenate([x, x * 2]),
        tg.stack([x, x], 1),
        tg.pad(x, 1),
        tg.roll(x, 1),
        tg.flip(x, 0),
    ),
    "choice": lambda x: (
        tg.where(x > 0, x, -x),
        tg.maximum(x, 0.5),
        tg.clip(x, -0.5, 0.5),
        tg.relu(x),
        abs(x),
    ),
    "softmax": lambda x: (F.softmax(x), F.log_softmax(x, 0), F.layer_norm(x), F.gelu(x), tg.softplus(x)),
    "indexing": lambda x: (
        x[[0, 0, 2]],
        tg.take(x, np.array([1, 2]), 1),
        tg.index_add(x, [1, 1], 2.0),
        x[:, None, ::2],
    ),
    "methods of arrays": lambda x: (x.ravel(), x.T.flatten(), x.copy() * 2, x * x.nbytes, x * x.itemsize),
    "products": lambda x: (x @ x.T, tg.einsum("ij,kj->ik", x, x), tg.outer(x[0], x[1]), tg.dot(x[0], x[1])),
    "linear algebra": lambda x: (tg.linalg.norm(x), tg.linalg.norm(x, axis=1)),
}


@pytest.mark.parametrize("fn", FUNCTIONS.values(), ids=FUNCTIONS)
def test_values(fn: Any) -> None:
    check(fn, X)


SMOOTH = ["views", "reductions", "joining", "choice", "softmax", "indexing", "products", "linear algebra"]


@pytest.mark.parametrize("name", SMOOTH)
def test_gradients(name: str) -> None:
    def loss(x: Any) -> Any:
        return sum((part * part * 0.5 + part).sum() for part in FUNCTIONS[name](x))

    check(tg.value_and_grad(loss), X)


def test_a_masked_loss_and_a_masked_softmax() -> None:
    xs, ys, _ = batch(6, 3, D=5)
    mask = np.random.default_rng(1).random((6, 3)) < 0.6

    def loss(xs: Any, ys: Any, mask: Any) -> Any:
        weights = F.softmax(xs[..., 0], 0, mask)
        return F.cross_entropy(xs, ys, mask) + (weights * weights).sum() + F.mse(xs[..., 1], xs[..., 2], mask)

    check(tg.value_and_grad(loss), xs, ys, mask)


def test_a_whole_training_step() -> None:
    """Gradients, clipping by their norm, and a step of gradient descent with momentum."""

    def step(params: Any, velocity: Any, xs: Any, ys: Any) -> Any:
        def loss(p: Any) -> Any:
            cell = lambda x, h: (tg.tanh(x @ p["W"] + h @ p["U"]),) * 2  # noqa: E731
            return F.cross_entropy(nn.unroll(cell, xs, np.zeros((xs.shape[1], 5))).outputs, ys)

        value, grads = tg.value_and_grad(loss)(params)
        norm = sum((g * g).sum() for g in grads.values()) ** 0.5
        scale = np.minimum(1.0, 0.25 / norm)
        velocity = {k: 0.9 * velocity[k] + scale * grads[k] for k in grads}
        return value, {k: params[k] - 0.1 * velocity[k] for k in params}, velocity

    rng = np.random.default_rng(0)
    params = {"W": rng.standard_normal((3, 5)), "U": rng.standard_normal((5, 5))}
    xs, ys, _ = batch(6, 3)
    check(step, params, {k: np.ones_like(v) for k, v in params.items()}, xs, ys)


def test_parameters_from_outside_are_read_at_every_call() -> None:
    model = tagger("rnn")
    xs, ys, _ = batch(4, 2)
    step = tg.compile(lambda xs, ys: loss_of(model, xs, ys))
    before = step(xs, ys).item()
    model.core.weight_hh.data = model.core.weight_hh.data * 0.5
    after = step(xs, ys).item()
    assert after != before
    assert abs(after - loss_of(model, xs, ys).item()) < 1e-12


def test_a_module_that_changes_is_compiled_again() -> None:
    model = tagger("rnn")
    xs, ys, _ = batch(4, 2)
    step, eager = tg.compile(tg.value_and_grad(loss_of)), tg.value_and_grad(loss_of)
    step(model, xs, ys)
    model.core.nonlinearity = "relu"
    assert_same(step(model, xs, ys), eager(model, xs, ys))
    model.core.weight_hh = nn.Parameter(np.eye(4))
    assert_same(step(model, xs, ys), eager(model, xs, ys))


def test_operations_of_your_own_are_called_as_they_are() -> None:
    cube = tg.defop("cube", lambda x: x**3, lambda g, ans, x: g * 3 * x**2)
    gentle = tg.custom_vjp(lambda x: x, lambda g, ans, x: (tg.clip(g, -1.0, 1.0),))
    compiled = check(tg.value_and_grad(lambda x: (gentle(cube(x)) * 100).sum()), X)
    with pytest.raises(UserError, match="cannot stand alone: it uses cube"):
        compiled.save("nowhere.py")


def test_a_mode_that_changes_outside_is_noticed() -> None:
    model = nn.LSTM(3, 4, zoneout=0.3, seed=0).eval()
    step = tg.compile(lambda xs: model(xs)[0])
    xs = batch(4, 2)[0]
    step(xs)
    model.zoneout = 0.0
    assert_same(step(xs), model(xs)[0])
    model.train()
    assert_same(step(xs), model(xs)[0])


def test_numbers_words_and_objects_among_the_arguments() -> None:
    def fn(x: Any, rate: float, axis: int, reduction: str, cell: Any) -> Any:
        return F.mse(cell(x) * rate, np.zeros(x.shape), reduction=reduction).mean() + x.sum(axis)

    step = tg.compile(fn)
    for call in ((0.5, 0, "mean", tg.tanh), (0.25, 0, "mean", tg.tanh), (0.25, 1, "sum", tg.sin)):
        assert_same(step(X, *call), fn(X, *call))
    # Another rate is no reason to compile again.
    assert step.cache_info().programs == 2


def test_an_operation_that_returns_its_operand() -> None:
    same = tg.defop("same", lambda x: x, lambda g, ans, x: g)

    def fn(x: Any) -> Any:
        a = tg.exp(x) + 1
        b = same(a)
        c = tg.tanh(a + 2) * 3
        return (b * c).sum() + (b - c).sum()

    check(tg.value_and_grad(fn), X)


def test_tensors_that_require_gradients_among_the_arguments() -> None:
    w = tg.tensor(X, requires_grad=True)
    check(lambda w: tg.grad((w * w).sum(), [w])[0], w)


def test_many_shapes_do_not_keep_buffers_for_all() -> None:
    model = tagger("rnn")
    step = tg.compile(tg.value_and_grad(loss_of))
    for T in range(2, 22):
        step(model, *batch(T, 2)[:2])
    assert sum(bool(entry.idle) for entry in step._all_entries()) <= 9
    assert_same(step(model, *batch(3, 2)[:2]), tg.value_and_grad(loss_of)(model, *batch(3, 2)[:2]))


def test_threads_do_not_share_buffers() -> None:
    model = tagger("lstm", H=32)
    step, eager = tg.compile(tg.value_and_grad(loss_of)), tg.value_and_grad(loss_of)
    data = [batch(20, 4, seed=k)[:2] for k in range(4)]
    step(model, *data[0])
    wrong: list[BaseException] = []

    def work(xs: Any, ys: Any) -> None:
        try:
            expected = eager(model, xs, ys)
            for _ in range(20):
                assert_same(step(model, xs, ys), expected)
        except BaseException as error:
            wrong.append(error)

    threads = [threading.Thread(target=work, args=pair) for pair in data]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


@pytest.mark.parametrize("fast", [False, pytest.param(True, marks=needs_numba)])
def test_a_decorator_with_settings(fast: bool) -> None:
    @tg.compile(fast=fast)
    def double(x: Any) -> Any:
        """Twice x."""
        return x * 2

    assert isinstance(double, tg.Compiled)
    assert double.__doc__ == "Twice x."
    assert_same(double(X), X * 2)
    assert double._fast is fast


# --- the page ----------------------------------------------------------------------------------------------
@pytest.mark.usefixtures("numpy_pages")
@pytest.mark.parametrize("cell", ["rnn", "lstm", "gru", "lnlstm"])
def test_the_saved_page_needs_numpy_alone(cell: str, tmp_path: Path) -> None:
    model, (xs, ys, _) = tagger(cell), batch(5, 2)
    step = tg.compile(tg.value_and_grad(loss_of))
    loss, grads = step(model, xs, ys)
    step.save(tmp_path / "step.py")
    parameters = [p.numpy() for p in model.parameters()]
    np.savez(tmp_path / "given.npz", *parameters, xs, ys)
    code = (
        "import sys; sys.modules['tensorgrad'] = None\n"
        "import numpy as np, step\n"
        "given = np.load('given.npz')\n"
        "np.savez('made.npz', *step.loss_of(*[given[f'arr_{k}'] for k in range(len(given))]))\n"
    )
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], cwd=tmp_path, check=True)
    with np.load(tmp_path / "made.npz") as made:
        found = [made[f"arr_{k}"] for k in range(len(made))]
    for a, b in zip(found, [loss.numpy(), *grads.values()], strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.usefixtures("numpy_pages")
def test_the_page_of_the_vanilla_rnn_reads_like_a_textbook() -> None:
    step = tg.compile(tg.value_and_grad(loss_of))
    step(tagger("rnn"), *batch(5, 2)[:2])
    page = step.source
    assert "    for t in range(T):\n        np.dot(h[t], weight_hh_T, out=a_h)\n" in page
    backward = page[page.index("# ---- backward ----") :]
    assert re.search(r"for t in reversed\(range\(T\)\):\n.*dh_next.*\n.*out=da\[t\]", backward)
    assert "tensorgrad" not in page
    assert max(map(len, page.splitlines())) <= 110


def test_nothing_to_look_at_before_the_first_call() -> None:
    with pytest.raises(UserError, match="call it once"):
        tg.compile(lambda x: x).source  # noqa: B018


# --- what does not compile ---------------------------------------------------------------------------------
REFUSED: dict[str, tuple[Any, str]] = {
    "if": (lambda x: x if x.sum() > 0 else -x, "a decision"),
    "float": (lambda x: x * float(x.sum()), "float"),
    "item": (lambda x: tg.tanh(x).item(), r"item\(\)"),
    "numpy": (lambda x: tg.tanh(x).numpy(), "numpy"),
    "asarray": (lambda x: np.asarray(tg.tanh(x)), "an array"),
    "range": (lambda x: [x for _ in range(x.sum().astype(int))], "an index or range"),
}


@pytest.mark.parametrize(("fn", "what"), REFUSED.values(), ids=REFUSED)
def test_what_needs_values_is_refused_with_the_line(fn: Any, what: str) -> None:
    line = fn.__code__.co_firstlineno
    with pytest.raises(GraphError, match=f"{what}.*{here()}:{line}"):
        tg.compile(fn)(X)


def test_ids_out_of_range_are_found_at_every_call() -> None:
    model = tagger("rnn")
    xs, ys, lengths = batch(4, 2)
    step = tg.compile(loss_of)
    step(model, xs, ys)
    ys[2, 1] = 5
    with pytest.raises(ValueError, match=r"label 5 at index \(2, 1\) is out of range for 5 classes"):
        step(model, xs, ys)
    ys[2, 1] = -1
    with pytest.raises(ValueError, match="label -1"):
        step(model, xs, ys)
    run = tg.compile(lambda m, xs, n: nn.unroll(m.core, xs, lengths=n).outputs)
    run(model, xs, lengths)
    with pytest.raises(ValueError, match="length"):
        run(model, xs, np.array([1, 5]))


def test_ids_out_of_range_are_the_error_of_eager_mode() -> None:
    model, (xs, ys, _) = tagger("rnn"), batch(4, 2)
    step = tg.compile(loss_of)
    step(model, xs, ys)
    with pytest.raises(ShapeError, match="label"):
        loss_of(model, xs, ys + 7)
    with pytest.raises(ShapeError, match="label"):
        step(model, xs, ys + 7)


def test_compiling_says_whether_the_products_could_be_faster(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[int] = []
    monkeypatch.setattr(import_module("tensorgrad.compile.api"), "say_once", lambda: said.append(1))
    step = tg.compile(lambda x: x * 2)
    assert not said
    step(np.ones(3))
    step(np.ones(3))
    assert len(said) == 1


def test_a_failed_call_leaves_the_function_usable() -> None:
    step = tg.compile(tg.value_and_grad(loss_of))
    model, (xs, ys, _) = tagger("rnn"), batch(4, 2)
    bad = np.full_like(ys, 99)
    for labels in (ys, bad, ys):
        if labels is bad:
            with pytest.raises(ValueError, match="label 99"):
                step(model, xs, labels)
        else:
            assert_same(step(model, xs, labels), tg.value_and_grad(loss_of)(model, xs, labels))


def test_states_that_a_loop_cannot_carry() -> None:
    xs = batch(4, 2)[0]
    with pytest.raises(ShapeError, match="one shape and dtype"):
        tg.compile(lambda xs: nn.unroll(lambda x, h: (x, h[None]), xs, np.zeros((2, 9))).outputs)(xs)
    with pytest.raises(ShapeError, match="the same form"):
        tg.compile(lambda xs: nn.unroll(lambda x, h: (x, (h, h)), xs, np.zeros((2, 3))).outputs)(xs)
    lengths = np.array([4, 2])
    with pytest.raises(GraphError, match=r"give nn\.unroll a state"):
        tg.compile(lambda xs: nn.unroll(lambda x, h: (x, x), xs, None, lengths, True).outputs)(xs)


# --- lengths that matter -----------------------------------------------------------------------------------
LENGTHS: dict[str, Any] = {
    "a slice longer than an example": lambda xs: xs[-20:].sum(),
    "a decision by a shape": lambda xs: xs.sum() if xs.shape[0] > 12 else xs.mean(),
    "a decision by len": lambda xs: xs.sum() / len(xs) if len(xs) > 12 else xs.mean(),
    "min of a length": lambda xs: xs[: min(xs.shape[0], 20)].sum(),
    "a loop of one's own": lambda xs: sum(xs[t].sum() * t for t in range(xs.shape[0])),
    "a ramp": lambda xs: (xs[:, 0, 0] * np.arange(xs.shape[0])).sum(),
    "the mean": lambda xs: xs.mean() + xs[1:].mean() + xs[:-1].var(),
}


@pytest.mark.parametrize("fn", LENGTHS.values(), ids=LENGTHS)
def test_lengths_decide_rightly(fn: Any) -> None:
    compiled = tg.compile(fn)
    for T in (5, 13, 40, 7, 11):
        xs = batch(T, 2)[0]
        assert_same(compiled(xs), fn(xs))


def test_equal_lengths_are_not_mixed_up() -> None:
    """T, B and H alike at the first call, and different at the next."""
    model = tagger("gru")
    step, eager = tg.compile(tg.value_and_grad(loss_of)), tg.value_and_grad(loss_of)
    for T, B in ((4, 4), (5, 4), (4, 5), (3, 3), (6, 7), (7, 6), (5, 5)):
        xs, ys, _ = batch(T, B)
        assert_same(step(model, xs, ys), eager(model, xs, ys))


class Unused(Tagger):
    """Has a parameter that the loss does not depend on."""

    def __init__(self) -> None:
        super().__init__(nn.RNNCell(3, 4, seed=0), 4, 5)
        self.spare = nn.Parameter(np.ones(2))


def test_what_the_loss_does_not_depend_on_gets_zeros() -> None:
    check(tg.value_and_grad(loss_of), Unused(), *batch(4, 2)[:2])


@pytest.mark.parametrize("cell", ["lstm", "lnlstm"])
def test_a_trace_is_gone_when_it_is_done(cell: str) -> None:
    """Stand-ins have arrays: rings of them would take the room of the step itself until Python finds them."""
    model, (xs, ys, _) = tagger(cell), batch(5, 2)
    gc.collect()
    before = {id(x) for x in gc.get_objects() if issubclass(type(x), Traced)}
    gc.disable()
    try:
        step = tg.compile(tg.value_and_grad(loss_of))
        step(model, xs, ys)
        left = [x for x in gc.get_objects() if issubclass(type(x), Traced) and id(x) not in before]
    finally:
        gc.enable()
    assert not left
