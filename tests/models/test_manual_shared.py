"""What is promised of all hand-written models: right gradients, masks, dtypes, and errors that help."""

from __future__ import annotations

import ast
import dataclasses
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings

from tensorgrad.models.manual import common

from .manual_problem import (
    FLOOR,
    MODELS,
    SHARED_MISTAKES,
    SIZES,
    TOLERANCE,
    TOLERANCES,
    Problem,
    complex_steps,
    engine_cell,
    engine_gradients,
    error,
    errors_against,
    make_problem,
    movable,
    objective,
    planted,
    right_gradients,
)

EVERY = pytest.mark.parametrize("name", MODELS)


@EVERY
@settings(deadline=None, max_examples=15)
@given(**SIZES)
def test_every_gradient_equals_complex_steps(name: str, **drawn: Any) -> None:
    problem = make_problem(MODELS[name], **drawn)
    loss, _ = problem.forward()
    without_outside = dataclasses.replace(problem, last={})
    assert loss == pytest.approx(objective(without_outside, movable(problem)), rel=1e-12, abs=1e-15)
    for which, difference in errors_against(complex_steps(problem), problem).items():
        assert difference < TOLERANCE, which


@EVERY
@settings(deadline=None, max_examples=25)
@given(**SIZES, dtype=st.sampled_from(["float64", "float32"]))
def test_the_engine_gives_the_same_at_every_timestep(name: str, **drawn: Any) -> None:
    problem = make_problem(MODELS[name], **drawn)
    cell = engine_cell(problem)
    biases = dict(zip(problem.model.biases, (cell.bias_ih, cell.bias_hh), strict=False))
    weights = {"W_xh": cell.weight_ih, "W_hh": cell.weight_hh, **biases}
    loss, expected = engine_gradients(problem, cell, weights, problem.model.labels)

    tolerance = TOLERANCES[drawn["dtype"]]
    assert problem.forward()[0] == pytest.approx(loss, rel=tolerance, abs=tolerance)
    got = problem.gradients()
    assert expected.keys() >= {*problem.params, "dy", "dh", *problem.model.labels}
    for which in got.keys() & expected.keys():
        assert error(got[which], expected[which], FLOOR) < tolerance, which


@EVERY
@pytest.mark.parametrize(("right", "wrong"), SHARED_MISTAKES.values(), ids=SHARED_MISTAKES)
def test_a_mistake_in_what_is_shared_is_seen(name: str, right: str, wrong: str) -> None:
    problem = make_problem(MODELS[name])
    assert not problem.live.all()
    backward = planted(problem.model.module, right, wrong)
    assert max(errors_against(right_gradients(name), problem, backward).values()) > 1e-3


@EVERY
def test_without_a_mistake_none_is_seen(name: str) -> None:
    problem = make_problem(MODELS[name])
    assert max(errors_against(right_gradients(name), problem).values()) < TOLERANCE


@EVERY
def test_token_ids_are_one_hot_vectors(name: str) -> None:
    problem = make_problem(MODELS[name], ids=True)
    dense = dataclasses.replace(problem, xs=np.eye(3)[problem.xs])
    assert problem.forward()[0] == pytest.approx(dense.forward()[0], rel=1e-14)
    gradients, expected = problem.gradients(), dense.gradients()
    assert expected.keys() - gradients.keys() == {"dx"}
    for which, g in gradients.items():
        np.testing.assert_allclose(g, expected[which], rtol=1e-11, atol=1e-15)


@EVERY
@pytest.mark.parametrize("ids", [False, True])
@pytest.mark.parametrize("place", [0, 2, 4])
def test_padding_changes_nothing(name: str, place: int, ids: bool) -> None:
    """Two steps of rubbish, masked, at the start, in the middle and at the end."""
    problem = make_problem(MODELS[name], T=4, ids=ids, masked=False)
    rubbish: dict[str, Any] = {"xs": -7 if ids else np.nan, "targets": -100}
    inserted = {
        which: np.insert(getattr(problem, which), [place, place], value, axis=0)
        for which, value in rubbish.items()
    }
    mask = np.insert(np.ones((4, 3), dtype=bool), [place, place], False, axis=0)
    padded = dataclasses.replace(problem, **inserted, mask=mask)

    (loss, cache), (padded_loss, padded_cache) = problem.forward(), padded.forward()
    assert padded_loss == pytest.approx(loss, rel=1e-14)
    for state in problem.model.states:
        last = f"{state}_last"
        np.testing.assert_allclose(getattr(padded_cache, last), getattr(cache, last), rtol=1e-14)

    expected = problem.gradients()
    for which, g in padded.gradients().items():
        if which in ("dx", "dy", *problem.model.records):
            if which not in ("dh", "dc"):
                assert not g[place : place + 2].any(), which
            g = np.delete(g, [place, place + 1], axis=0)
        np.testing.assert_allclose(g, expected[which], rtol=1e-11, atol=1e-14, err_msg=which)


@EVERY
def test_state_gradients_pass_through_masked_steps(name: str) -> None:
    problem = make_problem(MODELS[name], T=5, masked=False)
    mask = np.array([True, True, False, True, False])[:, None].repeat(3, axis=1)
    gradients = dataclasses.replace(problem, mask=mask).gradients()
    for state in problem.model.states:
        np.testing.assert_array_equal(gradients[f"d{state}"][4], problem.last[f"d{state}_last"])
        assert gradients[f"d{state}"][2].any()
    if name == "rnn":
        np.testing.assert_array_equal(gradients["dh"][2], gradients["da"][3] @ problem.params["W_hh"])


@EVERY
def test_a_row_does_not_depend_on_its_batch(name: str) -> None:
    problem = make_problem(MODELS[name], B=3, reduction="sum")
    together = problem.gradients()
    apart = []
    for b in range(3):
        row = slice(b, b + 1)
        part = dataclasses.replace(
            problem,
            xs=problem.xs[:, row],
            targets=problem.targets[:, row],
            initial={which: array[row] for which, array in problem.initial.items()},
            mask=problem.mask[:, row],
            last={which: array[row] for which, array in problem.last.items()},
        )
        apart.append(part.gradients())
        for which in problem.model.records:
            np.testing.assert_allclose(apart[b][which][:, 0], together[which][:, b], rtol=1e-10, atol=1e-14)
    for which in problem.params:
        total = sum(one[which] for one in apart)
        np.testing.assert_allclose(total, together[which], rtol=1e-10, atol=1e-14)


@EVERY
@pytest.mark.parametrize("ids", [False, True])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_dtype_is_kept(name: str, dtype: npt.DTypeLike, ids: bool) -> None:
    problem = make_problem(MODELS[name], dtype=dtype, ids=ids)
    loss, cache = problem.forward()
    assert loss.dtype == dtype
    assert cache.hs.dtype == cache.ps.dtype == dtype
    for which, g in problem.gradients().items():
        assert g.dtype == dtype, which


@EVERY
def test_float32_agrees_with_float64(name: str) -> None:
    problem = make_problem(MODELS[name], T=30, H=8, dtype=np.float32)
    expected = problem.astype(np.float64).gradients()
    for which, g in problem.gradients().items():
        assert error(g, expected[which]) < 1e-5, which


@EVERY
def test_backward_twice_gives_the_same_and_leaves_the_cache_alone(name: str) -> None:
    problem = make_problem(MODELS[name])
    _, cache = problem.forward()
    arrays = {which: value for which, value in vars(cache).items() if isinstance(value, np.ndarray)}
    before = {which: array.copy() for which, array in arrays.items()}
    first, second = (
        vars(problem.model.module.backward(problem.params, cache, **problem.last)) for _ in range(2)
    )
    np.testing.assert_equal(first, second)
    np.testing.assert_equal(arrays, before)


@EVERY
def test_large_pre_activations_are_stable(name: str) -> None:
    problem = make_problem(MODELS[name])
    problem.params["W_xh"][:] *= 1e5
    assert np.isfinite(problem.forward()[0])
    assert all(np.isfinite(g).all() for g in problem.gradients().values())


def test_large_logits_are_stable() -> None:
    problem = make_problem(MODELS["rnn"], masked=False)
    problem.params["b_y"][:] = [1e4, -1e4, 0, 1e300, -1e300]
    problem.targets[:] = 3
    assert problem.forward()[0] == 0
    assert all(np.isfinite(g).all() for g in problem.gradients().values())
    problem.targets[:] = 0
    assert problem.forward()[0] == pytest.approx(1e300)


def test_the_sigmoid_is_precise_in_both_tails() -> None:
    a = np.array([-700.0, -30.0, 0.0, 30.0, 800.0])
    with np.errstate(over="raise"):
        np.testing.assert_allclose(common.sigmoid(a), 1 / (1 + np.exp(-a)), rtol=1e-12)
        assert common.sigmoid(np.array([-1e30, 1e30], np.float32)).tolist() == [0, 1]


@EVERY
def test_no_timesteps_hand_the_state_and_its_gradient_through(name: str) -> None:
    problem = make_problem(MODELS[name], masked=False, reduction="sum")
    problem = dataclasses.replace(problem, xs=problem.xs[:0], targets=problem.targets[:0])
    loss, cache = problem.forward()
    assert loss == 0
    gradients = problem.gradients()
    for state in problem.model.states:
        np.testing.assert_array_equal(getattr(cache, f"{state}_last"), problem.initial[f"{state}0"])
        np.testing.assert_array_equal(gradients[f"d{state}0"], problem.last[f"d{state}_last"])
    assert not any(gradients[which].any() for which in problem.params)


# --- bad arguments -----------------------------------------------------------------------------------------


def without(params: dict[str, np.ndarray], name: str) -> dict[str, np.ndarray]:
    return {key: array for key, array in params.items() if key != name}


# T=4, B=3, D=3, H=4, V=5.
BAD: dict[str, tuple[Callable[[Problem], dict[str, Any]], str]] = {
    "a parameter is missing": (
        lambda p: {"params": without(p.params, "b_y")},
        r"params must hold W_xh, W_hh, W_hy, b_\w+, (b_hh, )?b_y; it holds",
    ),
    "a parameter is unknown": (lambda p: {"params": {**p.params, "W_z": p.params["W_hy"]}}, "W_z"),
    "W_xh is a vector": (
        lambda p: {"params": {**p.params, "W_xh": np.ones(4)}},
        r"W_xh must be a matrix \((\d \* )?H, D\).*\(4,\)",
    ),
    "W_hh is not square": (
        lambda p: {"params": {**p.params, "W_hh": p.params["W_xh"]}},
        r"W_hh must have shape \(\d+, 4\) \(H=4, D=3, V=5\); got \(\d+, 3\)",
    ),
    "W_hy is transposed": (
        lambda p: {"params": {**p.params, "W_hy": p.params["W_hy"].T}},
        "W_hy must have shape",
    ),
    "b_y is a column": (
        lambda p: {"params": {**p.params, "b_y": p.params["b_y"][:, None]}},
        r"b_y must have shape \(5,\)",
    ),
    "the parameters are integers": (
        lambda p: {"params": {name: array.astype(int) for name, array in p.params.items()}},
        "must be floats; W_xh is int",
    ),
    "a parameter has another dtype": (
        lambda p: {"params": {**p.params, "W_hh": p.params["W_hh"].astype(np.float32)}},
        "W_hh is float32, W_xh is float64",
    ),
    "xs has another dtype": (lambda p: {"xs": p.xs.astype(np.float32)}, r"xs\.astype\(np\.float64\)"),
    "xs is batch-first": (
        lambda p: {"xs": p.xs.swapaxes(0, 1)},
        r"xs must have shape \(T, B, D\) = \(4, 3, 3\)",
    ),
    "xs is a float matrix": (
        lambda p: {"xs": p.xs[0]},
        r"floats \(T, B, D\) or integer ids \(T, B\); got float64",
    ),
    "xs are ids of another shape": (lambda p: {"xs": p.targets[1:]}, r"token ids xs.*\(4, 3\); got \(3, 3\)"),
    "an id is out of range": (
        lambda p: {"xs": np.where(np.arange(12).reshape(4, 3) == 7, 3, 0)},
        r"xs at timestep 2, batch row 1 is 3; it must be in 0\.\.2",
    ),
    "a label is out of range": (
        lambda p: {"targets": np.where(np.arange(12).reshape(4, 3) == 11, 5, 0)},
        r"targets at timestep 3, batch row 2 is 5; it must be in 0\.\.4",
    ),
    "a label is negative": (
        lambda p: {"targets": np.where(np.arange(12).reshape(4, 3) == 1, -1, 0)},
        "targets at timestep 0, batch row 1 is -1",
    ),
    "targets are floats": (
        lambda p: {"targets": p.targets.astype(float)},
        "targets must be integers.*float64",
    ),
    "targets are booleans": (lambda p: {"targets": p.targets > 0}, "targets must be integers.*bool"),
    "targets are flat": (lambda p: {"targets": p.targets.ravel()}, r"targets must have shape \(T, B\)"),
    "the mask is of another shape": (
        lambda p: {"mask": np.ones((3, 4))},
        r"mask must have the shape of targets",
    ),
    "the mask holds weights": (lambda p: {"mask": np.full((4, 3), 0.5)}, "0 and 1 only"),
    "all is masked": (lambda p: {"mask": np.zeros((4, 3))}, "nothing to average"),
    "the reduction is unknown": (lambda p: {"reduction": "none"}, "'none'"),
}


@EVERY
@pytest.mark.parametrize(("change", "message"), BAD.values(), ids=BAD)
def test_bad_arguments_are_named(
    name: str, change: Callable[[Problem], dict[str, Any]], message: str
) -> None:
    problem = make_problem(MODELS[name], masked=False)
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(problem, **change(problem)).forward()


@pytest.mark.parametrize(
    ("name", "state"), [(name, state) for name, model in MODELS.items() for state in model.states]
)
def test_wrong_states_and_their_gradients_are_named(name: str, state: str) -> None:
    problem = make_problem(MODELS[name])
    for which, arrays in ((f"{state}0", "initial"), (f"d{state}_last", "last")):
        right = getattr(problem, arrays)
        for wrong, message in (
            (right[which][0], r"must have shape \(B, H\) = \(3, 4\); got \(4,\)"),
            (right[which][:1], r"must have shape \(B, H\) = \(3, 4\); got \(1, 4\)"),
            (
                right[which].astype(np.float32),
                rf"is float32, W_xh is float64; .*{which}\.astype\(np\.float64\)",
            ),
        ):
            with pytest.raises(ValueError, match=f"^{which} {message}"):
                dataclasses.replace(problem, **{arrays: {**right, which: wrong}}).gradients()


@pytest.mark.parametrize("name", [name for name, model in MODELS.items() if model.gates > 1])
def test_rows_that_are_no_stack_of_gates_are_named(name: str) -> None:
    problem = make_problem(MODELS[name])
    gates = problem.model.gates
    params = {**problem.params, "W_xh": problem.params["W_xh"][:-1]}
    with pytest.raises(ValueError, match=rf"{gates} \* H rows, {gates} gates of H each; got {gates * 4 - 1}"):
        dataclasses.replace(problem, params=params).forward()


# --- PyTorch -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["rnn", "lstm", "gru"])
@pytest.mark.parametrize("padded", [False, True])
def test_pytorch_gives_the_same(name: str, padded: bool) -> None:
    torch = pytest.importorskip("torch")
    T, B, D, H, V = 6, 3, 4, 5, 7
    problem = make_problem(MODELS[name], T, B, D, H, V, masked=False)
    lengths = np.array([6, 2, 4]) if padded else np.full(B, T)
    mask = np.arange(T)[:, None] < lengths
    problem = dataclasses.replace(problem, mask=mask)
    loss, cache = problem.forward()

    layer = {"rnn": torch.nn.RNN, "lstm": torch.nn.LSTM, "gru": torch.nn.GRU}[name](D, H).double()
    output = torch.nn.Linear(H, V).double()
    leaves = {
        "W_xh": layer.weight_ih_l0,
        "W_hh": layer.weight_hh_l0,
        "W_hy": output.weight,
        "b_y": output.bias,
        **dict(zip(problem.model.biases, (layer.bias_ih_l0, layer.bias_hh_l0), strict=False)),
        "dx": torch.from_numpy(problem.xs).requires_grad_(),
        **{f"d{which}": torch.from_numpy(state).requires_grad_() for which, state in problem.initial.items()},
    }
    with torch.no_grad():
        layer.bias_hh_l0.zero_()
        for which, array in problem.params.items():
            leaves[which].copy_(torch.from_numpy(array))

    packed = torch.nn.utils.rnn.pack_padded_sequence(
        leaves["dx"], torch.from_numpy(lengths), enforce_sorted=False
    )
    initial = [leaves[f"d{state}0"][None] for state in problem.model.states]
    hs, last = layer(packed, tuple(initial) if len(initial) > 1 else initial[0])
    hs, _ = torch.nn.utils.rnn.pad_packed_sequence(hs)
    ys = output(hs)
    ys.retain_grad()
    expected_loss = torch.nn.functional.cross_entropy(ys[mask], torch.from_numpy(problem.targets[mask]))
    outside = 0
    for state, value in zip(problem.model.states, last if len(initial) > 1 else (last,), strict=True):
        expected_last = value[0].detach().numpy()
        np.testing.assert_allclose(getattr(cache, f"{state}_last"), expected_last, rtol=1e-11)
        outside += (torch.from_numpy(problem.last[f"d{state}_last"]) * value[0]).sum()
    (expected_loss + outside).backward()

    assert float(loss) == pytest.approx(expected_loss.item(), rel=1e-12)
    got = problem.gradients()
    for which, tensor in {**leaves, "dy": ys}.items():
        assert error(got[which], tensor.grad.numpy()) < 1e-12, which


# --- NumPy alone -------------------------------------------------------------------------------------------


def foreign_imports(source: str) -> list[str]:
    """What a module of models/manual imports besides NumPy, the standard library and its own folder."""
    allowed = {"numpy", *sys.stdlib_module_names}
    foreign = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            foreign += [alias.name for alias in node.names if alias.name.split(".")[0] not in allowed]
        elif isinstance(node, ast.ImportFrom):
            module = node.module or ""
            if node.level > 1 or (node.level == 0 and module.split(".")[0] not in allowed):
                foreign.append("." * node.level + module)
    return foreign


def test_the_manual_models_import_numpy_alone() -> None:
    files = sorted(Path(common.__file__).parent.glob("**/*.py"))
    assert len(files) >= 5
    for file in files:
        assert foreign_imports(file.read_text(encoding="utf-8")) == [], file


@pytest.mark.parametrize(
    "source",
    [
        "import tensorgrad",
        "import numpy, tensorgrad.graph as g",
        "from tensorgrad import tanh",
        "def f():\n    from ...functional import softmax",
        "from .. import micro_rnn",
        "import torch",
    ],
)
def test_a_foreign_import_is_seen(source: str) -> None:
    assert foreign_imports(source)
