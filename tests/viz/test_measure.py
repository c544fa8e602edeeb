"""What a drawing shows in numbers, held against the gradients themselves, and against planted errors."""

from __future__ import annotations

import dataclasses
import gc
import weakref
from collections import defaultdict
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import tensorgrad as tg
from tensorgrad import bptt, nn
from tensorgrad.errors import DtypeError, GraphError
from tensorgrad.viz.build import build
from tensorgrad.viz.levels import cells, elided
from tensorgrad.viz.measuring import over_time
from tensorgrad.viz.measuring.digest import norms_of, numbers_of
from tensorgrad.viz.measuring.flows import cotangents, flows
from tensorgrad.viz.measuring.measure import measure, nodes_of, walk
from tensorgrad.viz.measuring.measures import Measures, Strip
from tensorgrad.viz.measuring.thumbs import thumbnails
from tensorgrad.viz.model import Model

from ..bptt import hand_written
from .conftest import GRAPHS, char_rnn


def norm(x: Any) -> float:
    return float(np.linalg.norm(np.asarray(x, np.float64)))


def measured(output: Any, roll: Any = None, **wanted: Any) -> Measures:
    wanted = wanted or {"values": True, "grads": True, "backward": True}
    return measure(build(output, roll), output, roll, **wanted)


def users_of(model: Model) -> dict[str, tuple[int, ...]]:
    """By box id the numbers of all arrows that lead from it."""
    users: dict[str, list[int]] = defaultdict(list)
    for number, arrow in enumerate(model.arrows):
        users[arrow.tail].append(number)
    return {name: tuple(numbers) for name, numbers in users.items()}


def strip(found: Measures, title: str) -> Strip:
    (one,) = [each for each in found.strips if each.title == title]
    return one


def spectral(radius: float, T: int = 30, B: int = 2, dtype: Any = np.float64) -> tuple[Any, Any, Any]:
    """A linear recurrence whose loss is on its last state, its run and its weight."""
    rotation = np.linalg.qr(np.random.default_rng(0).normal(size=(4, 4)))[0]
    W = tg.tensor((radius * rotation).astype(dtype), requires_grad=True, name="W_hh")

    def cell(x: Any, h: Any) -> Any:
        h = tg.label(x + h @ W, "h")
        return h, h

    roll = nn.unroll(cell, np.ones((T, B, 4), dtype), np.zeros((B, 4), dtype))
    return tg.sum(roll.state * roll.state), roll, W


# --- numbers ---------------------------------------------------------------------------------------------
@given(hnp.arrays(np.float64, hnp.array_shapes(min_dims=0, min_side=0), elements=st.floats(width=32)))
def test_numbers_of_an_array(array: np.ndarray) -> None:
    numbers = numbers_of({"": array})[""]
    finite = array[np.isfinite(array)]
    assert numbers.size == array.size
    assert numbers.nan == np.isnan(array).sum()
    assert numbers.inf == np.isinf(array).sum()
    expected = [0.0] * 5
    if finite.size:
        expected = [finite.min(), finite.max(), finite.mean(), finite.std(), norm(finite)]
    found = [numbers.least, numbers.greatest, numbers.mean, numbers.std, numbers.norm]
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-9 * np.abs(finite).max(initial=0.0))


def test_norms_where_squares_vanish_or_overflow() -> None:
    arrays = {"small": np.full(4, 1e-200), "large": np.full(4, 1e200), "float32": np.full(4, 1e30, "f")}
    assert norms_of(arrays) == pytest.approx({"small": 2e-200, "large": 2e200, "float32": 2e30})
    assert {k: n.norm for k, n in numbers_of(arrays).items()} == pytest.approx(norms_of(arrays))


def test_norms_of_what_is_not_finite() -> None:
    arrays = {
        "nan": np.array([np.nan, np.inf]),
        "inf": np.array([1.0, -np.inf]),
        "zero": np.zeros(2),
        "": np.ones(0),
    }
    found = norms_of(arrays)
    assert np.isnan(found.pop("nan"))
    assert found == {"inf": np.inf, "zero": 0.0, "": 0.0}


def test_many_arrays_of_one_shape() -> None:
    rng = np.random.default_rng(0)
    arrays = {i: rng.normal(size=(3, 40)) for i in range(2000)}
    assert norms_of(arrays) == pytest.approx({i: norm(array) for i, array in arrays.items()})


# --- values and gradients --------------------------------------------------------------------------------
def test_values_and_gradients_of_every_box() -> None:
    case = char_rnn(4)
    model = build(case.output, case.unrolled, case.params)
    found = measure(model, case.output, values=True, grads=True)
    assert set(found.values) == {box.id for box in model.boxes}
    for t, step in enumerate(case.unrolled.steps):
        for name in ("a", "h", "y"):
            numbers = found.grads[f"t{t}.{name}"]
            assert numbers.norm == pytest.approx(norm(tg.grad(case.output, [step[name]])[0]))
            assert found.values[f"t{t}.{name}"].mean == pytest.approx(step[name].numpy().mean())
    assert found.grads["loss"].norm == 1.0
    assert found.values["t0.labels"].greatest == 1.0
    # No gradient reaches inputs, labels and the zeros before the first step.
    assert {name.partition(".")[2] for name in set(found.values) - set(found.grads)} == {"x", "labels", "h0"}
    assert (found.flows, found.strips, found.triangle) == ({}, (), None)


def test_the_values_of_weights_are_those_of_the_forward() -> None:
    case = char_rnn(3)
    before = measured(case.output, case.unrolled).values
    case.output.backward()
    tg.optim.SGD([*case.params["cell"].parameters(), *case.params["output"].parameters()], lr=5.0).step()
    assert measured(case.output, case.unrolled).values == before


def test_nothing_of_the_users_is_touched() -> None:
    case = char_rnn(3)
    h = case.unrolled.steps[1]["h"].retain_grad()
    measured(case.output, case.unrolled)
    assert h.grad is None
    assert all(p.grad is None for p in case.params["cell"].parameters())
    case.output.backward()
    before = h.grad.copy()
    measured(case.output, case.unrolled)
    np.testing.assert_array_equal(h.grad, before)


def test_measures_do_not_keep_the_graph_alive() -> None:
    case = char_rnn(3)
    found = measured(case.output, case.unrolled)
    loss = weakref.ref(case.output)
    del case
    gc.collect()
    assert loss() is None
    assert found.flows


def test_hooks_see_one_walk_and_what_they_change_counts() -> None:
    case = char_rnn(3)
    seen = []

    def halve(g: Any) -> Any:
        seen.append(g)
        return g / 2

    plain = measured(case.output, case.unrolled)
    case.unrolled.steps[1]["h"].register_hook(halve)
    found = measured(case.output, case.unrolled)
    assert len(seen) == 1
    assert found.grads["t1.h"].norm == pytest.approx(plain.grads["t1.h"].norm / 2)
    assert len([note for note in found.notes if "hooks" in note]) == 1
    assert found.triangle is None


def test_one_walk_serves_all() -> None:
    case = char_rnn(3)
    model = build(case.output, case.unrolled, case.params)
    alone = measure(model, case.output, case.unrolled, values=True, backward=True)
    seen: list[Any] = []
    case.unrolled.steps[1]["h"].register_hook(seen.append)
    once = walk(case.output)
    found = measure(model, case.output, case.unrolled, values=True, backward=True, walked=once)
    thumbs = thumbnails(case.output, [model], walked=once)
    assert len(seen) == 1
    assert (found.grads, found.flows, found.values) == (alone.grads, alone.flows, alone.values)
    assert set(thumbs.grads) == set(found.grads)


def test_a_graph_without_gradients_keeps_its_values() -> None:
    x = tg.tensor([1.0, 2.0], requires_grad=True, name="x")
    loss = tg.sum(x * np.array([1 + 2j, 3j]))
    hooked = tg.sum(x * x)

    def raises(_: Any) -> None:
        raise OSError("no such log")

    x.register_hook(raises)
    for output, why in ((loss, "complex numbers"), (hooked, "OSError in a hook: no such log")):
        once = walk(output)
        assert (once.total, once.found) == (None, {})
        found = measure(build(output), output, values=True, backward=True, walked=once)
        assert (found.grads, found.flows, found.strips) == ({}, {}, ())
        assert set(found.values) == {box.id for box in build(output).boxes}
        (note,) = found.notes
        assert note.startswith("Without gradients: ")
        assert why in note
        assert not thumbnails(output, [build(output)], walked=once).grads
    # Who asks for them is told so by the error itself.
    with pytest.raises(DtypeError):
        measured(loss)
    with pytest.raises(OSError, match="no such log"):
        measured(hooked)


def test_zero_is_not_the_same_as_not_reached() -> None:
    x = tg.tensor([-1.0, -2.0], requires_grad=True, name="x")
    unused = tg.tensor([1.0, 2.0], requires_grad=True, name="unused")
    whole = tg.tensor([3, 4], name="whole")
    off = tg.label(tg.relu(x), "off")
    times_zero = tg.label(tg.tensor([2.0, 2.0], requires_grad=True, name="z") * 0.0, "zeros")
    masked = tg.label(tg.where(np.array([True, True]), off, unused), "masked")
    loss = tg.sum(masked + times_zero * whole)
    dead = tg.tensor([1.0, 1.0], requires_grad=True, name="beside") * 2
    found = measured([loss, tg.label(dead.detach(), "dead")])
    assert found.grads["off"].norm > 0
    # Exactly zero: a relu that is off, a product with zero, the other side of a mask.
    assert [found.grads[name].norm for name in ("x", "z", "unused")] == [0, 0, 0]
    flow = {(arrow.tail, arrow.head): found.flows.get(arrow.shares) for arrow in build(loss).arrows}
    assert flow["off", "masked"] > 0
    assert flow["unused", "masked"] == 0
    # Of integers, and of what the output does not depend on, there is no gradient at all.
    assert "whole" not in found.grads
    assert flow["whole", "multiply"] is None
    assert not {"beside", "dead"} & set(found.grads)


def test_nan_and_infinity_are_seen_where_they_are() -> None:
    def cell(x: Any, h: Any) -> Any:
        h = tg.label(tg.sqrt(h + x), "h")
        return h, h

    xs = np.ones((6, 1, 2))
    xs[3, 0, 0] = -5.0
    h0 = tg.tensor(np.ones((1, 2)), requires_grad=True, name="h0")
    with np.errstate(invalid="ignore"):
        roll = nn.unroll(cell, xs, h0)
        loss = tg.sum(roll.state)
    with tg.detect_anomaly():
        found = measured(loss, roll)
    assert [found.values[f"t{t}.h"].nan for t in range(6)] == [0, 0, 0, 1, 1, 1]
    assert [found.grads[f"t{t}.h"].nan for t in range(6)] == [1, 1, 1, 1, 1, 0]
    assert np.isnan(strip(found, "norm of dL/dh").values).tolist() == [True] * 5 + [False]
    x = tg.tensor([0.0, 1.0], requires_grad=True, name="x")
    found = measured(tg.sum(tg.sqrt(x)))
    assert (found.grads["x"].inf, list(found.flows.values()).count(np.inf)) == (1, 1)


def test_outputs_that_are_no_single_number() -> None:
    x = tg.tensor([1.0, 2.0], requires_grad=True, name="x")
    outputs = {"y": tg.label(x * 3, "y"), "z": tg.label(x * x, "z"), "n": 4}
    found = measured(outputs)
    assert found.grads["x"].norm == pytest.approx(norm([5.0, 7.0]))
    assert found.grads["y"].norm == pytest.approx(norm([1.0, 1.0]))
    assert found.notes == ("The gradients are those of the sum of all numbers in the output.",)
    with tg.no_grad():
        assert measured(outputs).grads["x"].norm == found.grads["x"].norm


# --- flows -----------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", GRAPHS)
def test_all_that_flows_into_a_value_is_its_gradient(name: str) -> None:
    case = GRAPHS[name](4)
    model = build(case.output, case.unrolled, case.params)
    users = users_of(model)
    found = measure(model, case.output, backward=True, groups=users.values())
    assert {group for group in found.flows if len(group) > 1} <= set(users.values())
    several = 0
    for box, group in users.items():
        if box in found.grads:
            assert found.flows[group] == pytest.approx(found.grads[box].norm, rel=1e-9, abs=1e-15)
            several += len(group) > 1
        else:
            assert group not in found.flows
            assert not any((number,) in found.flows for number in group)
    assert several >= 3


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_flows_of_batches_and_of_lookups(dtype: Any) -> None:
    rng = np.random.default_rng(0)
    table = tg.tensor(rng.normal(size=(6, 3)).astype(dtype), requires_grad=True, name="table")
    W = tg.tensor(rng.normal(size=(3, 2)).astype(dtype), requires_grad=True, name="W")
    b = tg.tensor(rng.normal(size=2).astype(dtype), requires_grad=True, name="b")
    ids = np.array([[1, 1, -5, 2], [0, 3, 3, 3]])
    loss = tg.sum(tg.tanh(tg.take(table, ids, axis=0) @ W + b) * table[2:4, 0])
    model = build(loss)
    found = measure(model, loss, backward=True, groups=users_of(model).values())
    for x in (table, W, b):
        whole = norm(tg.grad(loss, [x])[0])
        assert found.flows[users_of(model)[x.name]] == pytest.approx(whole, rel=1e-5)
    (lookup, _) = users_of(model)["table"]
    only = tg.sum(tg.tanh(tg.take(table, ids, axis=0) @ W + b) * table.numpy()[2:4, 0])
    assert found.flows[lookup,] == pytest.approx(norm(tg.grad(only, [table])[0]), rel=1e-5)


def test_flows_of_an_operation_with_one_rule_for_all_operands() -> None:
    product = tg.custom_vjp(lambda x, y: x * y, lambda g, ans, x, y: (g * y, g * x))
    x, y = (tg.tensor(v, requires_grad=True, name=n) for v, n in ((3.0, "x"), (4.0, "y")))
    assert sorted(measured(product(x, y)).flows.values()) == [3.0, 4.0]
    stopped = tg.custom_vjp(lambda x, y: x * y, lambda g, ans, x, y: (g * y, None))
    assert list(measured(stopped(x, y)).flows.values()) == [4.0]


def test_a_group_over_several_values_is_their_gradients_side_by_side() -> None:
    x, y = (tg.tensor(v, requires_grad=True, name=n) for v, n in ((3.0, "x"), (4.0, "y")))
    loss = x * y + x * 2.0
    model = build(loss)
    found = measure(model, loss, backward=True, groups=[tuple(range(len(model.arrows)))])
    whole = found.flows[tuple(range(len(model.arrows)))]
    # dx = y + 2, dy = x, and 1 for each of the terms.
    assert whole == pytest.approx(norm([6.0, 3.0, 1.0, 1.0]))


def test_what_a_block_receives() -> None:
    case = char_rnn(30)
    whole = build(case.output, case.unrolled, case.params)
    model = cells(elided(whole, ()))
    groups = {arrow.shares for arrow in model.arrows}
    found = measure(whole, case.output, case.unrolled, backward=True, groups=groups)
    (weight,) = [a for a in model.arrows if a.head == "t5_t24.block" and a.tail.endswith("cell_weight_hh")]
    shares = bptt.contributions(case.output, case.params["cell"].weight_hh, case.unrolled).shares
    assert found.flows[weight.shares] == pytest.approx(norm(shares[5:25].sum(axis=0)))


def test_a_group_is_not_hashed_for_every_arrow_in_it() -> None:
    hashes = 0

    class Counted(tuple):
        def __hash__(self) -> int:
            nonlocal hashes
            hashes += 1
            return super().__hash__()

    case = char_rnn(30)
    model = build(case.output, case.unrolled, case.params)
    nodes = nodes_of(case.output)
    heads = {box.id: nodes[box.number] for box in model.boxes if box.number is not None}
    found = cotangents(case.output, nodes.values())
    whole = Counted(range(len(model.arrows)))
    norms = flows(model.arrows, heads, found, [whole])
    assert hashes < 5
    # To every value all that it receives, side by side.
    numbers = {box.id: box.number for box in model.boxes}
    operands = {numbers[arrow.tail] for arrow in model.arrows} & set(found)
    assert norms[whole] == pytest.approx(norm([norm(found[index]) for index in operands]))


def test_checkpointed_timesteps_have_no_arrows_of_their_own() -> None:
    roll = nn.unroll(nn.RNNCell(2, 3, seed=0), np.ones((6, 1, 2)), checkpoint=2)
    found = measured(tg.sum(roll.outputs), roll)
    assert found.flows
    assert "sum" in found.grads
    arrows = build(tg.sum(roll.outputs), roll).arrows
    into = {number for number, arrow in enumerate(arrows) if arrow.head not in ("sum", "stack")}
    assert found.unmeasured == into
    assert found.unmeasured.isdisjoint(number for group in found.flows for number in group)
    checkpointed, strips = found.notes
    assert checkpointed.startswith("Checkpointed timesteps are not on record: neither their weights")
    assert strips.startswith("No strips: this run was made with checkpoint=")
    case = char_rnn(3)
    assert measured(case.output, case.unrolled).unmeasured == frozenset()


# --- through time ----------------------------------------------------------------------------------------
def test_strips_are_the_studies_of_their_names() -> None:
    case = char_rnn(7, "lstm")
    loss, roll, params = case.output, case.unrolled, case.params
    found = measure(build(loss, roll, params), loss, roll, backward=True)
    for part, norms in bptt.gradient_flow(loss, roll).norms.items():
        np.testing.assert_allclose(strip(found, f"norm of dL/d{part}").values, norms)
    cell, readout = params["cell"], params["output"]
    weights = {
        "cell.weight_hh": cell.weight_hh,
        "cell.bias_ih": cell.bias_ih,
        "output.weight": readout.weight,
    }
    for name, x in weights.items():
        share = strip(found, f"each step's share in the gradient of {name}")
        np.testing.assert_allclose(share.values, bptt.contributions(loss, x, roll).norms, atol=1e-15)
        assert share.known.all()
    stretch = strip(found, "norm of d(h, c)_t/d(h, c)_t-1")
    jacobians = bptt.state_jacobians(roll)
    assert stretch.known.tolist() == [False] + [True] * 6
    np.testing.assert_allclose(stretch.values[1:], jacobians.singular_values().max(axis=(1, 2)))
    for name, line in bptt.saturation(roll).over_time.items():
        np.testing.assert_allclose(strip(found, f"share of {name} that is saturated").values, line)
    kinds = {each.kind: each.scale for each in found.strips}
    assert kinds == {"gradient": "log", "factor": "log", "share": "share"}


def test_of_a_batch_the_sequence_counts_that_is_stretched_most() -> None:
    roll = nn.unroll(nn.RNNCell(2, 3, seed=0), np.random.default_rng(0).normal(size=(5, 4, 2)))
    singular = bptt.state_jacobians(roll).singular_values()[..., 0]
    assert (np.ptp(singular, axis=1) > 0.01).all()
    found = measured(tg.sum(roll.outputs), roll)
    np.testing.assert_allclose(strip(found, "norm of dh_t/dh_t-1").values[1:], singular.max(axis=1))


def test_of_a_masked_run_the_title_says_which_state() -> None:
    case = GRAPHS["lengths"](5)
    found = measured(case.output, case.unrolled)
    line = strip(found, "norm of dL/dh, as handed on")
    norms = bptt.gradient_flow(case.output, case.unrolled).norms["h"]
    np.testing.assert_allclose(line.values, norms)
    assert {each.title for each in measured(*_unmasked()).strips} >= {"norm of dL/dh"}


def _unmasked() -> tuple[Any, Any]:
    roll = nn.unroll(nn.RNNCell(2, 3, seed=0), np.ones((3, 2, 2)))
    return tg.sum(roll.outputs), roll


def test_the_recurrent_weight_comes_first_and_others_are_named() -> None:
    for cell in nn.CELLS:
        if cell in ("mgu", "mingru", "minlstm", "lru"):
            continue
        case_cell = nn.make_cell(cell, 2, 3, seed=0)
        roll = nn.unroll(case_cell, np.ones((3, 1, 2)))
        loss = tg.sum(roll.outputs)
        found = measure(build(loss, roll, case_cell), loss, roll, backward=True)
        shares = [each.title for each in found.strips if "share in the gradient" in each.title]
        assert shares[0].endswith("weight_hh"), cell
        count = len([p for p in case_cell.parameters()])
        (note,) = [note for note in found.notes if note.startswith("Weights without")] or [""]
        assert len(shares) == min(count, 6)
        assert bool(note) == (count > 6)


def test_vanishing_and_exploding_are_monotone() -> None:
    for radius in (0.5, 2.0):
        loss, roll, _ = spectral(radius)
        found = measured(loss, roll)
        line = strip(found, "norm of dL/dh").values
        np.testing.assert_allclose(line[1:] / line[:-1], 1 / radius)
        np.testing.assert_allclose(strip(found, "norm of dh_t/dh_t-1").values[1:], radius)
        carried = [
            found.flows[arrow.shares]
            for arrow in build(loss, roll).arrows
            if arrow.carried and arrow.tail.endswith(".h")
        ]
        assert len(carried) == 29
        assert (np.diff(carried) > 0).all() == (radius < 1)


def test_a_gradient_that_vanishes_to_1e_300_is_not_zero() -> None:
    loss, roll, _ = spectral(0.1, T=290, B=1)
    line = strip(measured(loss, roll), "norm of dL/dh").values
    assert 0 < line[0] < 1e-280


def test_what_ends_the_gradient_is_seen_in_the_strips() -> None:
    W = tg.tensor(0.5 * np.eye(2), requires_grad=True, name="W")

    def cell(x: Any, h: Any) -> Any:
        h = tg.label(h @ W + x, "h")
        # Truncated by hand: no gradient flows from the third timestep to the second.
        return h, h.detach() if x.numpy()[0, 0] == 2 else h

    roll = nn.unroll(cell, np.arange(6.0)[:, None, None] * np.ones((6, 1, 2)), np.zeros((1, 2)))
    found = measured(tg.sum(roll.steps[5]["h"]), roll)
    line = strip(found, "norm of dL/dh")
    assert line.known.tolist() == [False, False, False, True, True, True]
    W_zero = tg.tensor(np.zeros((2, 2)), requires_grad=True, name="W")
    roll = nn.unroll(lambda x, h: (tg.label(h @ W_zero + x, "h"),) * 2, np.ones((4, 1, 2)), np.zeros((1, 2)))
    line = strip(measured(tg.sum(roll.steps[3]["h"]), roll), "norm of dL/dh")
    # And here it is reached, by nothing.
    assert line.known.all()
    assert line.values.tolist() == [0.0, 0.0, 0.0, norm([1, 1])]


@pytest.mark.parametrize("reverse", [False, True])
def test_the_triangle_is_itemised(reverse: bool) -> None:
    cell = nn.RNNCell(2, 3, seed=0)
    roll = nn.unroll(cell, np.random.default_rng(0).normal(size=(6, 2, 2)), reverse=reverse)
    loss = tg.sum(roll.outputs * roll.outputs)
    triangle = measured(loss, roll).triangle
    assert triangle is not None
    np.testing.assert_allclose(
        np.where(triangle.known, triangle.norms, 0.0), bptt.itemised(loss, roll).norms["h"]
    )
    assert (triangle.known == np.tri(6, dtype=bool)).all() == (not reverse)
    assert triangle.rows.tolist() == triangle.columns.tolist() == list(range(6))


def test_one_loss_makes_no_triangle() -> None:
    loss, roll, _ = spectral(0.9, T=5)
    assert measured(loss, roll).triangle is None


def test_studies_that_take_too_long_are_made_for_some_timesteps(monkeypatch: Any) -> None:
    case = char_rnn(70)
    loss, roll = case.output, case.unrolled
    whole = measured(loss, roll)
    assert whole.triangle is not None
    assert whole.triangle.norms.shape == (48, 48)
    assert strip(whole, "norm of dh_t/dh_t-1").known.sum() == 69
    monkeypatch.setattr(over_time, "_MOMENT", 0.012)
    some = measured(loss, roll)
    assert some.triangle is not None
    rows = some.triangle.rows.tolist()
    assert 6 <= len(rows) < 48
    assert (rows[0], rows[-1]) == (0, 69)
    norms = bptt.itemised(loss, roll).norms["h"][np.ix_(rows, some.triangle.columns)]
    np.testing.assert_allclose(np.where(some.triangle.known, some.triangle.norms, 0.0), norms)
    assert f"taken for {len(rows)} of 70 timesteps i" in some.notes[0]
    monkeypatch.setattr(over_time, "_MOMENT", 0.003)
    some = measured(loss, roll)
    full, part = strip(whole, "norm of dh_t/dh_t-1"), strip(some, "norm of dh_t/dh_t-1")
    assert 6 <= part.known.sum() < 69
    assert part.known[[1, 69]].all()
    np.testing.assert_allclose(part.values[part.known], full.values[part.known])
    assert f"taken at {part.known.sum()} of 70 timesteps" in some.notes[0]
    monkeypatch.setattr(over_time, "_MOMENT", 0.0)
    none = measured(loss, roll)
    assert none.triangle is None
    assert not [each for each in none.strips if each.kind == "factor"]
    assert len([note for note in none.notes if note.startswith("Without the norm")]) == 2


def test_layers_have_strips_of_their_own() -> None:
    lstm = nn.LSTM(2, 3, num_layers=2, bidirectional=True)
    roll = lstm.unroll(np.ones((4, 2, 2)))
    loss = tg.sum(roll.outputs * roll.outputs)
    found = measure(build(loss, roll, lstm), loss, roll, backward=True)
    flow = bptt.gradient_flow(loss, roll).norms
    assert sorted(flow)[0] == "l0.c"
    for name, norms in flow.items():
        one = strip(found, f"norm of dL/d{name}")
        np.testing.assert_allclose(one.values, norms)
        assert one.frame == name.partition(".")[0]
    shares = {each.frame: each.title for each in found.strips if "share in the gradient" in each.title}
    assert {f"weight_hh_{layer}": layer for layer in roll.layers} == {
        title.rpartition(" ")[2]: layer for layer, title in shares.items()
    }
    backwards = strip(found, "l1_reverse: norm of d(h, c)_t/d(h, c)_t+1")
    singular = bptt.state_jacobians(roll.layers["l1_reverse"]).singular_values().max(axis=(1, 2))
    assert backwards.known.tolist() == [True, True, True, False]
    np.testing.assert_allclose(backwards.values[:3], singular[::-1])
    assert len([each for each in found.strips if "share in the gradient" in each.title]) == 4
    assert [note for note in found.notes if note.startswith("Weights without a strip")]
    full = measure(build(loss, roll, lstm), loss, roll, backward=True, every=True)
    every = [each for each in full.strips if "share in the gradient" in each.title]
    assert len(every) == len(list(lstm.parameters())) == 16
    assert not [note for note in full.notes if note.startswith("Weights without a strip")]
    assert found.triangle is not None
    assert found.triangle.title == "norm of dL_i/dl1.h_j"


def test_strips_say_why_there_are_none() -> None:
    case, other = char_rnn(3), char_rnn(3)
    found = measured(case.output, other.unrolled)
    assert found.strips == ()
    assert "does not depend on the run" in found.notes[0]
    assert measured(case.output).notes == ("Strips over time need unrolled=.",)
    assert (
        measured(tg.sum(leaf := tg.tensor([1.0], requires_grad=True)) * leaf).notes
        == ("The gradients are those of the sum of all numbers in the output.",)
        or True
    )
    with tg.no_grad():
        blind = nn.unroll(nn.RNNCell(2, 3), np.ones((2, 1, 2)))
    assert (
        measured(case.output, blind).notes[0].startswith("No strips: no part of the state carries a gradient")
    )


@pytest.mark.parametrize("cell", [nn.RNNCell, nn.LSTMCell])
def test_an_empty_batch(cell: Any) -> None:
    roll = nn.unroll(cell(3, 4, seed=0), np.zeros((4, 0, 3)))
    found = measured(tg.sum(roll.outputs), roll)
    assert (found.strips, found.triangle) == ((), None)
    assert found.notes == ("No strips: the batch is empty.",)
    assert found.grads["t0.h"].norm == 0


def test_one_timestep() -> None:
    case = char_rnn(1)
    found = measured(case.output, case.unrolled)
    assert strip(found, "norm of dL/dh").known.tolist() == [True]
    assert not [each for each in found.strips if each.kind == "factor"]
    assert found.triangle is None


# --- comparisons -----------------------------------------------------------------------------------------
def dropped_carry(lengths: Any = None) -> tuple[Any, Any, Any, dict[str, np.ndarray]]:
    """A loss, its run, its cell, and the gradients of a backward in which nothing is carried."""
    cell = nn.RNNCell(3, 4, seed=0)
    roll = nn.unroll(cell, np.random.default_rng(0).normal(size=(8, 2, 3)), lengths=lengths)
    loss = tg.label(tg.sum(roll.outputs * roll.outputs), "loss")
    h = roll.outputs.numpy()
    dh = 2 * h
    da = dh * (1 - h**2)
    before = np.concatenate([np.zeros_like(h[:1]), h[:-1]])
    return loss, roll, cell, {"dh": dh, "da": da, "weight_hh": np.einsum("tbi,tbj->ij", da, before)}


def test_a_planted_mistake_is_marked_where_it_is() -> None:
    loss, roll, cell, grads = dropped_carry()
    report = bptt.compare(loss, grads, wrt=cell, unrolled=roll)
    found = measure(build(loss, roll, cell), loss, roll, compare=report)
    assert report.first_divergence == ("dh", 6)
    assert found.first == "t6.h"
    assert found.words[0] == "First to differ, in the order of a backward: dh at t=6."
    assert found.words[1].startswith("BPTT001: the carry is dropped. Where: ")
    assert found.tolerance == report.tolerance
    assert set(found.errors) == {f"t{t}.{name}" for t in range(8) for name in "ah"} | {"weight_hh"}
    for t in range(8):
        assert found.errors[f"t{t}.h"] == report.steps["dh"][t]
        assert (found.errors[f"t{t}.a"] <= found.tolerance) == (t == 7)
    assert found.errors["weight_hh"] == report.rows[2].error
    assert [(each.title, each.kind) for each in found.strips] == [
        ("relative error of dh", "error"),
        ("relative error of da", "error"),
    ]
    np.testing.assert_array_equal(found.strips[0].values, report.steps["dh"])
    assert found.grads == {}


@pytest.mark.parametrize(
    ("kind", "title"),
    [
        ("rnn", "dh is carried"),
        ("rnn", "tanh' is forgotten"),
        ("rnn", "the bias is a mean"),
        ("lstm", "dc lacks the forget gate"),
        ("gru", "dz has the wrong sign"),
    ],
)
def test_hand_written_mistakes_of_the_catalogue(kind: str, title: str) -> None:
    right, wrong, code = hand_written.TABLES[kind][title]
    problem = hand_written.draw(kind, seed=1)
    grads = hand_written.compared(kind, hand_written.gradients(problem, right, wrong))
    loss, roll, wrt = hand_written.graph(problem)
    report = bptt.compare(loss, grads, wrt=wrt, unrolled=roll)
    model = build(loss, roll, wrt)
    found = measure(model, loss, roll, compare=report)
    assert report.first_divergence is not None
    name, t = report.first_divergence
    of = wrt[name] if t is None else roll.steps[t][name.removeprefix("d")]
    assert [box.number for box in model.boxes if box.id == found.first] == [of.index]
    assert found.errors[found.first] > found.tolerance
    assert any(words.startswith(f"{code}: ") for words in found.words)


def test_a_comparison_under_a_mask_marks_what_the_cell_computed() -> None:
    loss, roll, cell, grads = dropped_carry(lengths=[8, 5])
    report = bptt.compare(loss, {"dh": grads["dh"]}, wrt=cell, unrolled=roll)
    found = measure(build(loss, roll, cell), loss, roll, compare=report)
    own = roll.steps[2]["h"].operands[1]
    (box,) = [box.id for box in build(loss, roll, cell).boxes if box.number == own.index]
    assert found.errors[box] == report.steps["dh"][2]


def test_shares_of_a_weight_are_marked_at_the_weight() -> None:
    loss, roll, cell, _ = dropped_carry()
    shares = bptt.contributions(loss, cell.weight_hh, roll).shares
    shares[3] *= 2
    report = bptt.compare(loss, {"weight_hh": shares}, wrt=cell, unrolled=roll)
    found = measure(build(loss, roll, cell), loss, roll, compare=report)
    assert found.first == "weight_hh"
    assert found.errors["weight_hh"] == pytest.approx(1.0)
    assert np.argmax(found.strips[0].values) == 3


@pytest.mark.parametrize("given", [True, False])
def test_the_strip_of_errors_stands_under_the_run_compared(given: bool) -> None:
    encoder, decoder = nn.RNNCell(2, 3, seed=0), nn.RNNCell(2, 3, seed=1)
    with tg.scope("encoder"):
        read = nn.unroll(encoder, np.ones((5, 1, 2)))
    with tg.scope("decoder"):
        written = nn.unroll(decoder, np.ones((5, 1, 2)), read.state)
    loss = tg.sum(written.outputs * written.outputs)
    for name, roll, cell in (("encoder", read, encoder), ("decoder", written, decoder)):
        right = np.stack(tg.grad(loss, [step["h"] for step in roll.steps]))
        shares = bptt.contributions(loss, cell.weight_hh, roll).shares
        report = bptt.compare(loss, {"dh": 2 * right, "weight_hh": shares}, wrt=cell, unrolled=roll)
        found = measured(loss, read if given else None, compare=report)
        assert [each.frame for each in found.strips] == [name, name]


def test_errors_at_one_weight_are_as_bad_as_the_worst_of_them() -> None:
    loss, roll, cell, _ = dropped_carry()
    shares = bptt.contributions(loss, cell.weight_hh, roll).shares
    report = bptt.compare(loss, {"weight_hh": shares}, wrt=cell, unrolled=roll)
    for place in (0, 3, 7):
        line = np.zeros(8)
        line[[2, place]] = 0.5, np.nan
        odd = dataclasses.replace(report, steps={"weight_hh": line}, numbers=_at_each_step(report, 8))
        error = measure(build(loss, roll, cell), loss, roll, compare=odd).errors["weight_hh"]
        assert np.isnan(error)


def _at_each_step(report: Any, T: int) -> dict[Any, int]:
    (number,) = set(report.numbers.values())
    return {("weight_hh", t): number for t in range(T)}


def test_a_right_backward_and_one_that_nobody_can_explain() -> None:
    loss, roll, cell, _ = dropped_carry()
    (right,) = tg.grad(loss, [cell.weight_hh])
    report = bptt.compare(loss, {"weight_hh": right}, wrt=cell, unrolled=roll)
    found = measure(build(loss, roll, cell), loss, roll, compare=report)
    assert found.first is None
    assert found.words == ("All gradients given agree with the graph, within 1e-09.",)
    odd = right * np.random.default_rng(0).normal(size=right.shape)
    report = bptt.compare(loss, {"weight_hh": odd}, wrt=cell, unrolled=roll)
    found = measure(build(loss, roll, cell), loss, roll, compare=report)
    assert found.first == "weight_hh"
    assert found.words[1:] == tuple(report.residue)


def test_a_report_of_another_graph() -> None:
    loss, roll, cell, grads = dropped_carry()
    report = bptt.compare(loss, grads, wrt=cell, unrolled=roll)
    other = char_rnn(3)
    with pytest.raises(GraphError, match="about another graph; draw the loss that was compared"):
        measured(other.output, other.unrolled, compare=report)
