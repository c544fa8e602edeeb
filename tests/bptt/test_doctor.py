"""The doctor: every known mistake is planted, found, placed and named; what is right gives no finding."""

from __future__ import annotations

import numpy as np
import pytest

import tensorgrad as tg
from tensorgrad import nn
from tensorgrad.bptt import doctor
from tensorgrad.bptt.compare import compare
from tensorgrad.bptt.mistakes import mistakes
from tensorgrad.bptt.places import Places

from .hand_written import (
    OF_IDS,
    PADDED,
    PLANTED,
    TABLES,
    compared,
    draw,
    draw_ids,
    gradients,
    graph,
    parameters_alone,
)

DRAWS = 10
WITH_IDS = [(kind, title) for kind in TABLES for title in OF_IDS]
AT_PADDING = [(kind, title) for kind, table in PADDED.items() for title in table]


def drawn(number):
    """The seeds of one of the mistakes: each is planted in problems, and so sizes, of its own."""
    return range(DRAWS * number, DRAWS * (number + 1))


def first_by_hand(wrong, right):
    """The first that differs in the order of the loops of the hand-written backwards; several if they tie."""

    def differs(a, b):
        return np.linalg.norm(a - b) > 1e-9 * max(np.linalg.norm(b), 1e-3)

    if differs(wrong["dy"], right["dy"]):
        return [("dy", None)]
    for t in reversed(range(len(right["dh"]))):
        for name in ("dh", "dc", "da", "dx"):
            if name in wrong and differs(wrong[name][t], right[name][t]):
                return [(name, t)]
    return [(name, None) for name in wrong if differs(wrong[name], right[name])]


@pytest.mark.parametrize(("kind", "title"), PLANTED)
def test_a_planted_mistake_is_named(kind, title):
    right, wrong, code = TABLES[kind][title]
    unnamed = []
    for seed in drawn(PLANTED.index((kind, title))):
        problem = draw(kind, seed)
        loss, roll, wrt = graph(problem)
        grads = compared(kind, gradients(problem, right, wrong))
        report = compare(loss, grads, wrt, roll)
        assert not report.ok, seed
        assert report.first_divergence in first_by_hand(grads, problem.gradients()), seed
        if code not in [finding.code for finding in report.diagnosis[:2]]:
            unnamed.append((seed, report.diagnosis))
    assert unnamed == []


@pytest.mark.parametrize(("kind", "title"), PLANTED)
def test_a_planted_mistake_is_named_by_the_gradients_of_parameters_alone(kind, title):
    right, wrong, code = TABLES[kind][title]
    for seed in (100, 101):
        problem = draw(kind, seed)
        loss, roll, wrt = graph(problem)
        report = compare(loss, parameters_alone(gradients(problem, right, wrong)), wrt, roll)
        assert code in [finding.code for finding in report.diagnosis[:2]], (seed, report.diagnosis)


@pytest.mark.parametrize(("kind", "title"), WITH_IDS)
def test_a_mistake_with_ids_is_named(kind, title):
    right, wrong, code = OF_IDS[title]
    for seed in drawn(WITH_IDS.index((kind, title))):
        problem = draw_ids(kind, seed)
        loss, roll, wrt = graph(problem)
        assert compare(loss, compared(kind, problem.gradients()), wrt, roll).ok
        report = compare(loss, compared(kind, gradients(problem, right, wrong)), wrt, roll)
        assert not report.ok, seed
        assert code in [finding.code for finding in report.diagnosis[:2]], (seed, report.diagnosis)


@pytest.mark.parametrize(("kind", "title"), AT_PADDING)
def test_a_mistake_at_padding_is_named(kind, title):
    right, wrong, code = PADDED[kind][title]
    for seed in drawn(AT_PADDING.index((kind, title))):
        problem = draw(kind, seed, padded=True)
        loss, roll, wrt = graph(problem)
        report = compare(loss, compared(kind, gradients(problem, right, wrong)), wrt, roll)
        if problem.live.all():
            continue
        assert not report.ok
        assert code in [finding.code for finding in report.diagnosis[:2]], (seed, report.diagnosis)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("kind", list(TABLES))
def test_a_right_backward_has_no_finding(kind, dtype):
    for seed in range(84):
        problem = draw(kind, seed, padded=bool(seed % 2), dtype=dtype)
        loss, roll, wrt = graph(problem)
        report = compare(loss, compared(kind, problem.gradients()), wrt, roll)
        assert report.ok, str(report)
        assert report.diagnosis == []
        assert report.first_divergence is None


def test_the_first_divergence_is_the_first_in_backward_order():
    """Planted in one record at one timestep, with all that follows from it."""
    problem = draw("rnn", 3)
    loss, roll, wrt = graph(problem)
    right = problem.gradients()
    T = len(roll)
    for name in ("dh", "da"):
        for t in range(T):
            wrong = {key: g.copy() for key, g in right.items()}
            wrong[name][t] *= 1.5
            for later in range(t):
                wrong["dh"][later] += 1
                wrong["da"][later] += 1
            if name == "dh":
                wrong["da"][t] += 1
            wrong["W_hh"] += 1
            report = compare(loss, wrong, wrt, roll, diagnosis=False)
            assert report.first_divergence == (name, t)
    wrong = {**right, "W_hh": right["W_hh"] + 1, "b_h": right["b_h"] + 1}
    assert compare(loss, wrong, wrt, roll, diagnosis=False).first_divergence[1] is None


# --- a cell that nothing in the package has heard of -----------------------------------------------------
def own_cell(params, x, state):
    """A leaky cell with a gate and two parts of state, written for this test alone."""
    h, s = state
    u = tg.label(tg.sigmoid(x @ params["W_u"] + h @ params["U_u"] + params["b_u"]), "u")
    n = tg.label(tg.tanh(x @ params["W_n"] + s @ params["U_n"] + params["b_n"]), "n")
    s = tg.label(u * s + n, "s")
    h = tg.label(tg.tanh(s) * 0.9, "h")
    return h, (h, s)


def own_backward(params, steps, xs, h0, s0, dh_out, mistake=""):
    """Its backward by hand, with a mistake if one is asked for."""
    T = len(xs)
    value = {name: [step[name].numpy() for step in steps] for name in ("u", "n", "s", "h")}
    grads = {name: np.zeros(p.shape) for name, p in params.items()}
    records = {f"d{name}": np.zeros((T, *value[name][0].shape)) for name in ("u", "n", "s", "h")}
    dh_next, ds_next = np.zeros_like(h0), np.zeros_like(s0)
    for t in reversed(range(T)):
        s_before = value["s"][t - 1] if t else s0
        h_before = value["h"][t - 1] if t else h0
        dh = dh_out[t] + (0 if mistake == "carry of h" else dh_next)
        slope = 1 - np.tanh(value["s"][t]) ** 2
        if mistake == "derivative":
            slope = np.ones_like(slope)
        ds = dh * 0.9 * slope + (0 if mistake == "carry of s" else ds_next)
        factor = value["s"][t] if mistake == "factor" else s_before
        du, dn = ds * factor, ds
        da_u = du * value["u"][t] * (1 - value["u"][t])
        da_n = dn * (1 - value["n"][t] ** 2)
        seen = value["s"][t] if mistake == "weight index" else s_before
        grads["W_u"] += xs[t].T @ da_u
        grads["U_u"] += h_before.T @ da_u
        grads["b_u"] += da_u.sum(axis=0)
        grads["W_n"] += xs[t].T @ da_n
        grads["U_n"] += seen.T @ da_n
        grads["b_n"] += da_n.sum(axis=0)
        dh_next = da_u @ params["U_u"].numpy().T
        gate = 1 if mistake == "gate" else value["u"][t]
        ds_next = gate * ds + da_n @ params["U_n"].numpy().T
        for name, g in (("u", du), ("n", dn), ("s", ds), ("h", dh)):
            records[f"d{name}"][t] = g
    return {**grads, **records, "h0": dh_next, "s0": ds_next}


@pytest.mark.parametrize(
    ("mistake", "codes"),
    [
        ("", set()),
        ("carry of h", {"BPTT001"}),
        ("carry of s", {"BPTT001", "BPTT028"}),
        ("derivative", {"BPTT014"}),
        ("factor", {"BPTT032"}),
        ("weight index", {"BPTT006"}),
        ("gate", {"BPTT029"}),
    ],
)
@pytest.mark.parametrize("seed", range(4))
def test_the_doctor_knows_a_cell_of_one_s_own(mistake, codes, seed):
    rng = np.random.default_rng(seed)
    T, B, D, H = 5, 3, 2, 4
    shapes = {"W_u": (D, H), "U_u": (H, H), "b_u": (H,), "W_n": (D, H), "U_n": (H, H), "b_n": (H,)}
    params = {
        name: tg.tensor(rng.normal(0, 0.6, shape), requires_grad=True, name=name)
        for name, shape in shapes.items()
    }
    xs = rng.standard_normal((T, B, D))
    start = {name: tg.tensor(rng.standard_normal((B, H)), requires_grad=True) for name in ("h0", "s0")}
    roll = nn.unroll(lambda x, state: own_cell(params, x, state), xs, tuple(start.values()))
    weights = rng.standard_normal((T, B, H))
    loss = (roll.outputs * weights).sum()
    h0, s0 = (x.numpy() for x in start.values())
    manual = own_backward(params, roll.steps, xs, h0, s0, weights, mistake)
    report = compare(loss, manual, {**params, **start}, roll)
    assert report.ok == (not mistake), str(report)
    if mistake:
        assert codes & {finding.code for finding in report.diagnosis[:2]}, report.diagnosis
    again = compare(loss, manual, {**params, **start}, roll)
    assert again.diagnosis == report.diagnosis


def test_what_no_mistake_explains_is_not_named():
    problem = draw("lstm", 0)
    loss, roll, wrt = graph(problem)
    grads = problem.gradients()
    grads["dc"] = grads["dc"] + np.random.default_rng(0).standard_normal(grads["dc"].shape)
    report = compare(loss, grads, wrt, roll)
    assert not report.ok
    assert report.diagnosis == []
    assert report.residue


# --- bad input -------------------------------------------------------------------------------------------
def right_comparison():
    problem = draw("rnn", 0)
    loss, roll, wrt = graph(problem)
    return loss, problem.gradients(), wrt, roll


@pytest.mark.parametrize(
    ("change", "kind", "sentence"),
    [
        (
            lambda g: g | {"dq": g["dh"]},
            tg.GraphError,
            "no tensor for the manual gradient 'dq'; the graph has",
        ),
        (lambda g: g | {"W_hh": g["W_hh"][:1]}, tg.ShapeError, r"the manual W_hh has shape \(1, "),
        (lambda g: g | {"dh": g["dh"][:-1]}, tg.ShapeError, "the manual dh has shape"),
        (lambda g: g | {"da": g["da"] * np.nan}, tg.ShapeError, r"the manual da is nan at \(0, 0, 0\)"),
        (lambda g: {}, tg.GraphError, "there are no gradients to compare"),
        (lambda g: {"W_hh": "text"}, tg.ShapeError, "W_hh is an array of numbers, not"),
    ],
)
def test_bad_input_is_answered_with_what_to_do(change, kind, sentence):
    loss, grads, wrt, roll = right_comparison()
    with pytest.raises(kind, match=sentence):
        compare(loss, change(grads), wrt, roll)


def test_a_tensor_that_the_loss_does_not_depend_on():
    loss, grads, wrt, roll = right_comparison()
    other = tg.tensor(np.ones(2), requires_grad=True)
    with pytest.raises(tg.GraphError, match="the loss does not depend on other"):
        compare(loss, {"other": np.ones(2)}, {"other": other}, roll)
    with pytest.raises(tg.GraphError, match="the loss is one number"):
        compare(roll.outputs, grads, wrt, roll)
    cell = nn.RNNCell(2, 3, seed=0)
    constant = nn.unroll(cell, np.ones((4, 1, 2)))
    with pytest.raises(tg.GraphError, match="x requires no gradient in the graph; make it a Tensor"):
        compare(constant.outputs.sum(), {"dx": np.ones((4, 1, 2))}, cell, constant)


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize(
    ("mistake", "code"),
    [("h[t]", "BPTT006"), ("zero", "BPTT008"), ("last wins", "BPTT024"), ("one", "BPTT010")],
)
def test_weights_that_are_multiplied_from_the_right_or_turned(turned, mistake, code):
    """h @ W and h @ W.T, where the doctor has seen h W^T of `linear` above."""
    rng = np.random.default_rng(0)
    T, B, V, H = 5, 4, 3, 4
    W = tg.tensor(
        rng.normal(0, 0.6, (V, H)).T.copy() if turned else rng.normal(0, 0.6, (V, H)), True, name="W"
    )
    U = tg.tensor(rng.normal(0, 0.6, (H, H)), requires_grad=True, name="U")

    def cell(x, h):
        a = (x @ W.T + h @ U.T) if turned else (x @ W + h @ U)
        h = tg.label(tg.tanh(tg.label(a, "a")), "h")
        return h, h

    ids = rng.integers(V, size=(T, B))
    ids[:, 1] = ids[:, 0]
    h0 = rng.standard_normal((B, H))
    roll = nn.unroll(cell, np.eye(V)[ids], h0)
    weights = rng.standard_normal((T, B, H))
    loss = (roll.outputs * weights).sum()
    da = np.stack(tg.grad(loss, [step["a"] for step in roll.steps]))
    hs = np.stack([h0, *(step["h"].numpy() for step in roll.steps)])
    before = hs[1:] if mistake == "h[t]" else hs[:-1].copy()
    if mistake == "zero":
        before[0] = 0
    dU = sum(before[t].T @ da[t] for t in ([0] if mistake == "one" else range(T)))
    dW = np.zeros((V, H))
    for t in range(T):
        if mistake == "last wins":
            step = np.zeros((V, H))
            step[ids[t]] = da[t]
            dW += step
        else:
            np.add.at(dW, ids[t], da[t])
    manual = {"U": dU.T if turned else dU, "W": dW.T if turned else dW, "da": da}
    report = compare(loss, manual, {"U": U, "W": W}, roll)
    assert not report.ok
    assert code in [finding.code for finding in report.diagnosis[:2]], str(report)


def test_the_share_of_every_timestep_in_a_weight_is_compared():
    problem = draw("rnn", 2)
    loss, roll, wrt = graph(problem)
    shares = tg.bptt.contributions(loss, wrt["W_hh"], roll).shares
    report = compare(loss, {"W_hh": shares, "dh": problem.gradients()["dh"]}, wrt, roll)
    assert report.ok
    assert [row.name for row in report.rows] == ["W_hh", "W_hh, summed", "dh"]
    wrong = shares.copy()
    wrong[1] *= 2
    report = compare(loss, {"W_hh": wrong}, wrt, roll)
    assert report.first_divergence == ("W_hh", 1)
    states = np.stack([problem.initial["h0"], *(step["h"].numpy() for step in roll.steps)])
    da = problem.gradients()["da"]
    late = np.stack([da[t].T @ states[t + 1] for t in range(len(roll))])
    report = compare(loss, {"W_hh": late}, wrt, roll)
    assert report.first_divergence == ("W_hh", len(roll) - 1)
    assert report.diagnosis[0].code == "BPTT006"


def test_the_forward_is_checked_first():
    loss, grads, wrt, roll = right_comparison()
    assert compare(loss, {**grads, "loss": loss.item()}, wrt, roll).ok
    with pytest.raises(tg.GraphError, match="mend the forward first, for a backward cannot"):
        compare(loss, {**grads, "loss": loss.item() * 1.001}, wrt, roll)


def test_an_exploding_float32_gradient_that_is_wrong_does_not_pass():
    """Its squares overflow float32, where everything would be within tolerance of infinity."""
    rng = np.random.default_rng(0)
    h = tg.tensor(rng.standard_normal((2, 3)).astype(np.float32), requires_grad=True, name="h")
    loss = (h * np.float32(1e22)).sum()
    assert compare(loss, {"h": np.full((2, 3), 1e22, np.float32)}, {"h": h}).ok
    assert not compare(loss, {"h": np.full((2, 3), 5e21, np.float32)}, {"h": h}).ok


@pytest.mark.parametrize("with_weights", [True, False])
@pytest.mark.parametrize(("kind", "starts"), [("lstm", 3), ("rnn", 1), ("rnn", 64)])
def test_walks_that_share_their_beginning_are_whole_walks(monkeypatch, kind, starts, with_weights):
    """Every mistake of a graph, made from where its first edit is, and made from the loss."""
    monkeypatch.setattr(doctor, "MOST_STARTS", starts)
    loss, roll, wrt = graph(draw(kind, 9, padded=True))
    if kind == "rnn":
        # Nothing is sent to the last state alone.
        loss = (roll.outputs**2).sum()
    without = set() if with_weights else {x.index for x in wrt.values()}
    with tg.no_grad(), np.errstate(all="ignore"):
        places = Places(loss, roll)
        walks = doctor._Walks(places, [(loss, np.ones(()))], lambda *_: True, {}, without)
        made = list(mistakes(places, [0.01]))
        # In the second round from what the first has left: what one walk adds up, no other must see.
        for mistake in (*made, *made[::-3]):
            whole = mistake.replay(places)
            whole.run([(loss, mistake.scale * np.ones(()))], without=without)
            found = walks.with_mistake(mistake)
            assert len(whole.cotangents) > 2
            assert found.cotangents.keys() == whole.cotangents.keys()
            assert all(np.array_equal(found.cotangents[k], g, True) for k, g in whole.cotangents.items())
    assert len(made) > 90
    assert len(walks.starts) <= starts


def test_a_beginning_that_disagrees_ends_every_walk_that_shares_it():
    loss, roll, _ = graph(draw("rnn", 3))
    with tg.no_grad(), np.errstate(all="ignore"):
        places = Places(loss, roll)
        for number in {node.index for node in places.order if node.op is not None}:
            walks = doctor._Walks(places, [(loss, np.ones(()))], lambda *_: False, {number: None}, set())
            for mistake in mistakes(places):
                whole = mistake.replay(places)
                agrees = whole.run([(loss, mistake.scale * np.ones(()))], lambda *_: False, {number})
                assert (walks.with_mistake(mistake) is not None) == agrees


def test_a_dropped_carry_is_not_taken_for_a_clipped_one():
    problem = draw("lstm", 5)
    loss, roll, wrt = graph(problem)
    report = compare(loss, gradients(problem, *TABLES["lstm"]["dc is assigned"][:2]), wrt, roll)
    assert [finding.code for finding in report.diagnosis] == ["BPTT028"]


def test_a_weight_that_is_named_by_wrt_alone_is_named_in_the_finding():
    W = tg.tensor(np.random.default_rng(0).normal(0, 0.6, (3, 3)), requires_grad=True)
    h0 = np.ones((2, 3))
    roll = nn.unroll(lambda x, h: (tg.tanh(x + h @ W),) * 2, np.ones((4, 2, 3)), h0)
    loss = (roll.outputs**2).sum()
    (right,) = tg.grad(loss, [W])
    report = compare(loss, {"W_hh": right.T}, {"W_hh": W}, roll)
    assert [str(finding) for finding in report.diagnosis] == ["BPTT009: the gradient of W_hh"]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"manual": None}, "the manual gradients are arrays by name"),
        ({"manual": {1: np.ones(2)}}, "the manual gradients are arrays by name"),
        ({"wrt": "W_hh"}, "wrt is a Module, or Tensors by name"),
        ({"unrolled": 3}, "the run is what nn.unroll"),
    ],
)
def test_arguments_of_the_wrong_kind(arguments, sentence):
    loss, grads, wrt, roll = right_comparison()
    with pytest.raises(tg.GraphError, match=sentence):
        compare(loss, **{"manual": grads, "wrt": wrt, "unrolled": roll, **arguments})
