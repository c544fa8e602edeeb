"""`check_backward`: right backwards pass, planted mistakes are named, and bad input has its sentence."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np
import pytest

import tensorgrad as tg
import tensorgrad.functional as F
from tensorgrad import nn
from tensorgrad.bptt import check
from tensorgrad.bptt.check import BackwardReport, check_backward
from tensorgrad.bptt.conditions import Condition, conditions, draw
from tensorgrad.bptt.handwritten import Handwritten, Snapshot
from tensorgrad.bptt.reference import NETWORKS, networks
from tensorgrad.errors import GradientError, UserError
from tensorgrad.models.manual import gru, lstm, rnn

from ..models.manual_problem import SHARED_MISTAKES, planted

MODULES = {"rnn": rnn, "lstm": lstm, "gru": gru}
EVERY = pytest.mark.parametrize("module", MODULES.values(), ids=MODULES)


def codes(report: BackwardReport) -> list[str]:
    return [finding.code for finding in report.diagnosis]


# --- a learner's own, as such files are: loops over time, a dict of gradients -------------------------------
SOURCE = """
import numpy as np

def forward(params, xs, targets, h0):
    hs, ps, loss = {-1: h0}, {}, 0.0
    T, B = xs.shape
    for t in range(T):
        a = params["W_xh"][:, xs[t]].T + hs[t - 1] @ params["W_hh"].T + params["b_h"]
        hs[t] = np.tanh(a)
        y = hs[t] @ params["W_hy"].T + params["b_y"]
        e = np.exp(y)
        ps[t] = e / e.sum(axis=1, keepdims=True)
        loss -= np.log(ps[t][np.arange(B), targets[t]]).sum()
    return loss / B, {"xs": xs, "targets": targets, "hs": hs, "ps": ps}

def backward(params, cache):
    xs, hs, ps = cache["xs"], cache["hs"], cache["ps"]
    T, B = xs.shape
    grads = {name: np.zeros_like(value) for name, value in params.items()}
    dh_next = np.zeros_like(hs[0])
    for t in reversed(range(T)):
        dy = ps[t].copy()
        dy[np.arange(B), cache["targets"][t]] -= 1
        dy /= B
        dh = dy @ params["W_hy"] + dh_next
        da = (1 - hs[t] ** 2) * dh
        grads["W_hy"] += dy.T @ hs[t]
        grads["b_y"] += dy.sum(axis=0)
        np.add.at(grads["W_xh"].T, xs[t], da)
        grads["W_hh"] += da.T @ hs[t - 1]
        grads["b_h"] += da.sum(axis=0)
        dh_next = da @ params["W_hh"]
    return grads
"""


def learner(*edits: tuple[str, str]) -> tuple[Callable[..., Any], Callable[..., Any]]:
    source = SOURCE
    for right, wrong in edits:
        assert source.count(right) == 1, right
        source = source.replace(right, wrong)
    namespace: dict[str, Any] = {}
    exec(source, namespace)
    return namespace["forward"], namespace["backward"]


@pytest.mark.parametrize("seed", range(20))
def test_a_right_backward_passes(seed: int) -> None:
    report = check_backward(*learner(), seed=seed)
    assert report.ok
    assert report.diagnosis == []
    assert len(report.outcomes) == 8
    report.raise_if_different()
    assert report.network == "a vanilla RNN (loss summed over time and averaged over the batch)"


def plain(module: ModuleType) -> Callable[..., Any]:
    """A manual forward that has one reduction and one reset: a quarter of the conditions."""
    if module is lstm:
        return lambda params, xs, targets, h0, c0, mask: lstm.forward(params, xs, targets, h0, c0, mask)
    return lambda params, xs, targets, h0, mask: module.forward(params, xs, targets, h0, mask)


@EVERY
@pytest.mark.parametrize("seed", range(20))
def test_the_manual_backwards_pass(module: ModuleType, seed: int) -> None:
    report = check_backward(plain(module), module.backward, seed=seed)
    assert report.ok, str(report)
    assert report.untried == []


@pytest.mark.parametrize(("module", "count"), [(rnn, 16), (lstm, 16), (gru, 32)], ids=MODULES)
def test_every_combination_is_tried(module: ModuleType, count: int) -> None:
    report = check_backward(module.forward, module.backward)
    assert report.ok
    assert len({tuple(outcome.condition.features) for outcome in report.outcomes}) == count
    assert len(report.outcomes) == count
    both = "loss averaged over all steps or loss summed over all steps"
    assert both in report.network
    assert ("reset gate after the recurrent product or reset gate before" in report.network) == (
        module is gru
    )


@pytest.mark.parametrize(
    ("right", "wrong", "code"),
    [
        ('dy @ params["W_hy"] + dh_next', 'dy @ params["W_hy"]', "BPTT001"),
        ('dh_next = da @ params["W_hh"]', 'dh_next = da @ params["W_hh"].T', "BPTT005"),
        ('dh_next = da @ params["W_hh"]', 'dh_next = dh @ params["W_hh"]', "BPTT004"),
        ("da.T @ hs[t - 1]", "da.T @ hs[t]", "BPTT006"),
        ("da.T @ hs[t - 1]", "hs[t - 1].T @ da", "BPTT009"),
        ('grads["W_hh"] += da', 'grads["W_hh"] = da', "BPTT010"),
        ("(1 - hs[t] ** 2) * dh", "(1 - hs[t]) * dh", "BPTT012"),
        ("(1 - hs[t] ** 2) * dh", "dh", "BPTT014"),
        ("-= 1", "-= 0", "BPTT016"),
        ("dy /= B", "pass", "BPTT019"),
        ("da.sum(axis=0)", "da.mean(axis=0)", "BPTT020"),
        ('np.add.at(grads["W_xh"].T, xs[t], da)', 'grads["W_xh"].T[xs[t]] += da', "BPTT024"),
        ("ps[t].copy()", "ps[t]", "BPTT038"),
    ],
)
def test_a_learners_mistake_is_named(right: str, wrong: str, code: str) -> None:
    report = check_backward(*learner((right, wrong)))
    assert not report.ok
    assert code in codes(report)[:2], str(report)
    with pytest.raises(GradientError, match=code):
        report.raise_if_different()


@EVERY
@pytest.mark.parametrize(("right", "wrong"), SHARED_MISTAKES.values(), ids=SHARED_MISTAKES)
def test_a_mistake_in_the_manual_backwards_is_seen(
    module: ModuleType, right: str, wrong: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(check, "DIAGNOSED", 0)
    assert not check_backward(plain(module), planted(module, right, wrong)).ok


@pytest.mark.parametrize(
    ("right", "wrong", "only"),
    [
        ("dy *= weights[:, :, None]", "dy *= weights.max()", "those with ragged lengths"),
        (
            "np.where(live, (1 - hs[t] ** 2) * dh[t], 0)",
            "(1 - hs[t] ** 2) * dh[t]",
            "those with ragged lengths and loss on the final state",
        ),
        ("dh_last, cache.h_last", "None, cache.h_last", "those with loss on the final state"),
        ("np.add.at(dW_xh.T, xs, da)", "dW_xh.T[xs] += da", "those with token ids"),
        ("da @ W_xh", "da @ W_xh * 2", "those with inputs of floats"),
        ("dy *= weights[:, :, None]", "dy *= weights[:, :, None] > 0", "those with reduction='mean'"),
    ],
)
def test_the_report_says_under_which_conditions(right: str, wrong: str, only: str) -> None:
    said = str(check_backward(rnn.forward, planted(rnn, right, wrong)))
    count = 4 if " and " in only else 8
    assert f"The backward is wrong under {count} of 16 conditions, {only}." in said
    assert "\nUnder T=" in said


def test_a_mistake_of_every_condition_is_said_to_be_one() -> None:
    said = str(check_backward(*learner(('dy @ params["W_hy"] + dh_next', 'dy @ params["W_hy"]'))))
    assert "The backward is wrong under 8 of 8 conditions.\n" in said
    assert "Not tried: ragged lengths (forward takes no mask or lengths); a loss on" in said


def test_a_wrong_record_does_not_hide_the_mistake() -> None:
    """What is called dh holds da, and the carry lacks its transpose."""
    forward, backward = learner(('dh_next = da @ params["W_hh"]', 'dh_next = da @ params["W_hh"].T'))

    def recording(params: Any, cache: Any) -> Any:
        grads = backward(params, cache)
        return {**grads, "dh": np.zeros((len(cache["xs"]), *cache["hs"][0].shape))}

    assert "BPTT005" in codes(check_backward(forward, recording))


# --- how forwards may be written ----------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("edits", "network"),
    [
        ([("loss / B", "loss"), ("dy /= B", "pass")], "loss summed over all steps"),
        ([("loss / B", "loss / xs.size"), ("dy /= B", "dy /= xs.size")], "loss averaged over all steps"),
        (
            [("loss / B", "loss / T"), ("dy /= B", "dy /= T")],
            "loss averaged over time and summed over the batch",
        ),
    ],
)
def test_the_reduction_is_found(edits: list[tuple[str, str]], network: str) -> None:
    report = check_backward(*learner(*edits))
    assert report.ok
    assert report.network == f"a vanilla RNN ({network})"


def permuted(module: ModuleType, order: list[int]) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """A manual model whose gates are stacked in another order."""

    def rows(params: Any, order: Any) -> Any:
        def of(name: str, x: np.ndarray) -> np.ndarray:
            if name in ("W_hy", "b_y"):
                return x
            return np.concatenate([np.split(x, len(order))[k] for k in order])

        return {name: of(name, x) for name, x in params.items()}

    def forward(params: Any, xs: Any, targets: Any, **rest: Any) -> Any:
        return module.forward(rows(params, order), xs, targets, **rest)

    def backward(params: Any, cache: Any) -> Any:
        return rows(module.backward(rows(params, order), cache).params, np.argsort(order))

    names = inspect.signature(module.forward).parameters
    initial = [names[name] for name in ("h0", "c0") if name in names]
    leading = list(names.values())[:3]
    forward.__signature__ = inspect.Signature([*leading, *initial])  # type: ignore[attr-defined]
    return forward, backward


@pytest.mark.parametrize(
    ("module", "order", "words"),
    [(lstm, [0, 1, 3, 2], "gates stacked i, f, o, g"), (gru, [1, 0, 2], "gates stacked z, r, n")],
)
def test_the_order_of_gates_is_found(module: ModuleType, order: list[int], words: str) -> None:
    report = check_backward(*permuted(module, order), draws=1)
    assert report.ok
    assert words in report.network


def test_every_way_to_write_a_gru_has_a_loss_of_its_own() -> None:
    written = Handwritten(lambda params, xs, targets, h0: None, lambda params, cache: None)
    rng = np.random.default_rng(0)
    condition = Condition(dict(zip("TBDHV", (3, 4, 5, 6, 7), strict=True)), "ids", False, False)
    for cell, count in (("rnn", 1), ("lstm", 24), ("gru", 24)):
        ways = networks(cell)[:24]
        problem = draw(rng, condition, ways[0].shapes, written)
        params = {name: tg.tensor(value) for name, value in problem.params.items()}
        arguments = problem.arguments
        losses = [
            way(params, arguments["xs"], arguments["targets"], h0=arguments["h0"])[0].sum().item()
            for way in ways
        ]
        assert len({round(loss, 9) for loss in losses}) == count


def test_a_gru_may_have_one_bias() -> None:
    """The rows of b_xh alone, with the reset before the product: b_hh is zero."""

    def forward(params: Any, xs: Any, targets: Any, h0: Any) -> Any:
        both = {**params, "b_xh": params["b_h"], "b_hh": 0 * params["b_h"]}
        both.pop("b_h")
        loss, cache = gru.forward(both, xs, targets, h0, reset="before")
        return loss, (both, cache)

    def backward(params: Any, cache: Any) -> Any:
        grads = dict(gru.backward(*cache).params)
        grads["b_h"] = grads.pop("b_xh")
        del grads["b_hh"]
        return grads

    report = check_backward(forward, backward)
    assert report.ok
    assert "reset gate before the recurrent product" in report.network


def test_lengths_and_a_mask_to_calculate_with() -> None:
    def by_lengths(params: Any, xs: Any, targets: Any, h0: Any, lengths: Any) -> Any:
        return rnn.forward(params, xs, targets, h0, mask=np.arange(len(xs))[:, None] < lengths)

    report = check_backward(by_lengths, rnn.backward)
    assert report.ok
    assert {outcome.condition.ragged for outcome in report.outcomes} == {False, True}
    kinds = set()

    def by_numbers(params: Any, xs: Any, targets: Any, h0: Any, mask: Any) -> Any:
        kinds.add(mask.dtype.kind)
        return rnn.forward(params, xs, targets, h0, mask=-1 * np.negative(mask))

    assert check_backward(by_numbers, rnn.backward).ok
    assert kinds == {"b", "f"}


def test_one_vocabulary_for_reading_and_predicting() -> None:
    edit = ('params["W_xh"][:, xs[t]].T', 'np.eye(len(params["b_y"]))[xs[t]] @ params["W_xh"].T')
    report = check_backward(*learner(edit))
    assert report.ok
    assert all(outcome.condition.sizes["D"] == outcome.condition.sizes["V"] for outcome in report.outcomes)


def test_a_forward_that_starts_at_zero() -> None:
    def forward(params: Any, xs: Any, targets: Any) -> Any:
        return rnn.forward(params, xs, targets, np.zeros((xs.shape[1], params["W_hh"].shape[0])))

    report = check_backward(forward, lambda params, cache: dict(rnn.backward(params, cache).params))
    assert report.ok
    assert "an initial state (forward takes no h0)" in report.untried


def test_a_backward_may_ask_for_what_forward_was_given() -> None:
    def backward(params: Any, cache: Any, xs: Any, h0: Any, dh_last: Any) -> Any:
        assert xs.shape[:2] == cache.targets.shape
        assert np.array_equal(cache.hs[-1], h0)
        return rnn.backward(params, cache, dh_last)

    assert check_backward(rnn.forward, backward).ok


# --- a network of the user's own ----------------------------------------------------------------------------
SHAPES = {"W": ("H", "D"), "U": ("H", "H"), "w": ("H",), "R": ("V", "H")}


def leaky_forward(params: Any, xs: Any, targets: Any, s0: Any, mask: Any) -> Any:
    """s = k s + (1 - k) tanh(W x + U s), k = sigmoid(w)."""
    W, U, w, R = params.values()
    k, (T, B, _) = 1 / (1 + np.exp(-w)), xs.shape
    ss, us, ps, loss = {-1: s0}, {}, {}, 0.0
    for t in range(T):
        us[t] = np.tanh(xs[t] @ W.T + ss[t - 1] @ U.T)
        ss[t] = np.where(mask[t, :, None], k * ss[t - 1] + (1 - k) * us[t], ss[t - 1])
        e = np.exp(ss[t] @ R.T)
        ps[t] = e / e.sum(axis=1, keepdims=True)
        loss -= (mask[t] * np.log(ps[t][np.arange(B), targets[t]])).sum()
    return loss, (xs, targets, mask, k, ss, us, ps)


def leaky_backward(params: Any, cache: Any, ds_last: Any, carry: Any = None, slope: Any = None) -> Any:
    _, U, _, R = params.values()
    xs, targets, mask, k, ss, us, ps = cache
    d = {name: np.zeros_like(value) for name, value in params.items()}
    ds, dk = np.array(ds_last), np.zeros_like(k)
    for t in reversed(range(len(xs))):
        live = mask[t, :, None]
        dy = (ps[t] - np.eye(len(R))[targets[t]]) * live
        d["R"] += dy.T @ ss[t]
        ds = ds + dy @ R
        du = np.where(live, (1 - k) * ds, 0)
        da = du * (1 - us[t] ** 2) if slope is None else slope(du, us[t])
        dk += (np.where(live, ds, 0) * (ss[t - 1] - us[t])).sum(axis=0)
        d["W"] += da.T @ xs[t]
        d["U"] += da.T @ ss[t - 1]
        back = da @ U if carry is None else carry(da, U)
        ds = np.where(live, k * ds, ds) + back
    d["w"] = dk * k * (1 - k)
    return {**d, "ds0": ds}


def leaky_graph(params: Any, xs: Any, targets: Any, s0: Any, mask: Any) -> Any:
    k = tg.sigmoid(params["w"])
    masks = iter(mask[:, :, None])

    def cell(x: Any, s: Any) -> Any:
        u = tg.tanh(x @ params["W"].T + s @ params["U"].T)
        s = tg.label(tg.where(next(masks), k * s + (1 - k) * u, s), "s")
        return s @ params["R"].T, s

    run = nn.unroll(cell, xs, s0)
    return F.cross_entropy(run.outputs, targets, mask=mask, reduction="sum"), {**params, "s0": s0}, run


def leaky(**change: Any) -> BackwardReport:
    def backward(params: Any, cache: Any, ds_last: Any) -> Any:
        return leaky_backward(params, cache, ds_last, **change)

    return check_backward(leaky_forward, backward, leaky_graph, SHAPES)


def test_a_custom_network_is_held_against_its_own_graph() -> None:
    report = leaky()
    assert report.ok, str(report)
    assert report.network == "the graph given"
    assert {outcome.condition.inputs for outcome in report.outcomes} == {"floats"}
    assert {outcome.condition.last for outcome in report.outcomes} == {False, True}


def test_mistakes_in_a_custom_network_are_seen() -> None:
    assert not leaky(carry=lambda da, U: da @ U.T).ok
    assert "BPTT012" in codes(leaky(slope=lambda du, u: du * (1 - u)))


# --- conditions ---------------------------------------------------------------------------------------------
def test_conditions_are_those_that_show_mistakes() -> None:
    written = Handwritten(rnn.forward, rnn.backward)
    rng = np.random.default_rng(0)
    for condition in conditions(rng, ["ids", "floats"], [False, True], [True]):
        sizes = condition.sizes
        assert len(set(sizes.values())) == 5
        assert min(sizes.values()) > 2
        params, arguments, live = draw(rng, condition, {"W_hh": ("4H", "H"), "b": (3,)}, written)
        assert params["W_hh"].shape == (4 * sizes["H"], sizes["H"])
        assert params["b"].shape == (3,)
        assert np.abs(arguments["h0"]).min() > 0
        assert arguments["mask"].tolist() == live.tolist()
        assert live[0].all()
        assert live.all() != condition.ragged
        assert live[-1].any()
        if condition.inputs == "ids":
            assert arguments["xs"][0, 0] == arguments["xs"][0, 1] == arguments["xs"][1, 0]


def test_a_snapshot_sees_into_everything() -> None:
    class Cache:
        def __init__(self) -> None:
            self.hs: dict[Any, Any] = {-1: np.zeros(2), "all": [np.zeros(3), (np.zeros(1),)]}
            self.itself = self

    cache, params = Cache(), {"W": np.zeros(2)}
    before = Snapshot(cache=cache, params=params)
    assert before.changed() == []
    cache.hs["all"][1][0][0] = np.nan
    params["W"] = np.ones(2)
    cache.hs["new"] = np.zeros(1)
    assert sorted(before.changed()) == ["cache.hs['all'][1][0]", "cache.hs['new']", "params['W']"]


# --- the second run -----------------------------------------------------------------------------------------
def test_a_gradient_from_outside_that_is_added_into() -> None:
    def backward(params: Any, cache: Any, dh_last: Any) -> Any:
        grads = rnn.backward(params, cache, dh_last)
        dh_last += 1
        return grads

    report = check_backward(rnn.forward, backward)
    assert codes(report) == ["BPTT038"]
    assert "the backward changes dh_last, and run a second time it gives another" in str(report)


def test_accumulators_that_live_on() -> None:
    kept: dict[str, np.ndarray] = {}

    def backward(params: Any, cache: Any) -> Any:
        for name, g in rnn.backward(params, cache).params.items():
            kept[name] = kept[name] + g if name in kept and kept[name].shape == g.shape else g
        return kept

    report = check_backward(rnn.forward, backward, draws=1)
    assert codes(report)[0] == "BPTT038"
    assert "something is kept from one call to the next" in str(report)


# --- bad input ----------------------------------------------------------------------------------------------
def returning(change: Callable[[dict[str, Any]], Any]) -> Callable[..., Any]:
    return lambda params, cache: change(dict(rnn.backward(params, cache).params))


@pytest.mark.parametrize(
    ("backward", "sentence"),
    [
        (returning(lambda g: None), "backward returned None; end it with a return"),
        (returning(lambda g: list(g.values())), "gradients as a dict by name, not list"),
        (
            returning(lambda g: {k: v for k, v in g.items() if k != "b_y"}),
            "returns no gradient of b_y; what it",
        ),
        (
            returning(lambda g: {**g, "W_hz": 1.0}),
            "'W_hz', which is no tensor of the network; did you mean W_xh",
        ),
        (returning(lambda g: {**g, "dW_hh": g["W_hh"]}), "returns both 'W_hh' and 'dW_hh'"),
        (returning(lambda g: {**g, "W_xh": g["W_xh"].T}), r"has shape .* and must have .*; it is transposed"),
        (returning(lambda g: {**g, "b_y": g["b_y"][1:]}), r"b_y has shape \(\d,\) and must have \(\d,\)"),
        (returning(lambda g: {**g, "b_y": g["b_y"] * np.nan}), r"b_y is nan at \(0,\), though the loss is"),
        (returning(lambda g: {**g, "b_y": "b"}), "b_y must be an array of numbers, not str"),
        (
            returning(lambda g: {**g, "dh": [[1.0], [1.0, 2.0]]}),
            "dh must be one array, not parts of different",
        ),
        (returning(lambda g: g["nothing"]), "backward raised KeyError in line [0-9]+: 'nothing'"),
        (
            lambda params: None,
            r"must be called as backward\(params, cache, dh_last=...\), but this one is back",
        ),
        (lambda params, cache, dz: None, "backward has a parameter 'dz' that nothing is known of"),
        (lambda params, cache, dc_last: None, "takes dc_last, but the state of the network is h"),
        ("backward", "backward must be a function, .*, not str"),
    ],
)
def test_a_backward_that_cannot_be_compared(backward: Any, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        check_backward(rnn.forward, backward)


def broken_forward(change: Callable[[Any, Any], Any]) -> Callable[..., Any]:
    def forward(params: Any, xs: Any, targets: Any, h0: Any) -> Any:
        return change(*rnn.forward(params, xs, targets, h0))

    return forward


def changing(params: Any, xs: Any, targets: Any, h0: Any) -> Any:
    params["W_hh"] *= 1.0001
    return rnn.forward(params, xs, targets, h0)


def in_float32(params: Any, xs: Any, targets: Any, h0: Any) -> Any:
    params = {name: value.astype(np.float32) for name, value in params.items()}
    return rnn.forward(params, xs if xs.ndim == 2 else xs.astype(np.float32), targets, h0.astype(np.float32))


@pytest.mark.parametrize(
    ("forward", "sentence"),
    [
        (broken_forward(lambda loss, cache: loss), "forward must return .loss, cache., a pair, not"),
        (
            broken_forward(lambda loss, cache: (np.ones(3), cache)),
            "must be one number, not an array of float64",
        ),
        (
            broken_forward(lambda loss, cache: (np.inf, cache)),
            "forward returns is inf; mend the forward first",
        ),
        (
            broken_forward(lambda loss, cache: (1.01 * loss, cache)),
            "a backward cannot be judged by another forward",
        ),
        (broken_forward(lambda loss, cache: 1 / 0), "forward raised ZeroDivisionError in line"),
        (changing, r"forward changes params\['W_hh'\], which it was given"),
        (in_float32, "is part of it computed in float32"),
        (
            lambda params, xs: None,
            r"must be called as forward\(params, xs, targets, .*this one is forward\(params, xs\)",
        ),
        (lambda params, xs, targets, prev: None, "forward has a parameter 'prev' that nothing is known of"),
        (
            lambda params, xs, targets, z0: None,
            "forward takes z0, but the initial states of an RNN, LSTM or GRU",
        ),
        (
            lambda params, xs, targets, h0: params["Wxh"],
            r"params W_xh \(H, D\), .* raised KeyError in line \d+: 'Wxh'",
        ),
        (None, "forward must be a function, .*, not None"),
    ],
)
def test_a_forward_that_cannot_be_used(forward: Any, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        check_backward(forward, rnn.backward)


@pytest.mark.parametrize(
    ("graph", "shapes", "sentence"),
    [
        (leaky_graph, None, "with a graph of your own give shapes too"),
        (None, SHAPES, "shapes are for a graph of your own"),
        (leaky_graph, {**SHAPES, "W": ("H", "Q")}, "a dimension in the shapes is .* but W has 'Q'"),
        (lambda *args, **rest: leaky_graph(*args, **rest)[:2], SHAPES, "graph must return"),
        (lambda *args, **rest: (1.0, {}, leaky_graph(*args, **rest)[2]), SHAPES, "no Tensor for W, U, w, R"),
        (lambda *args, **rest: 1 / 0, SHAPES, "graph raised ZeroDivisionError in line"),
    ],
)
def test_a_graph_that_cannot_be_used(graph: Any, shapes: Any, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        check_backward(leaky_forward, leaky_backward, graph, shapes)


def test_an_unknown_cell_is_named() -> None:
    with pytest.raises(UserError, match="there is no reference for a cell 'elman', only for rnn, gru, lstm"):
        check_backward(rnn.forward, rnn.backward, cell="elman")
    assert sorted(NETWORKS) == ["gru", "lstm", "rnn"]


def test_a_backward_that_fails_under_some_conditions_and_is_wrong_under_others() -> None:
    """Rows picked by target exist only where the batch is larger than the largest target."""
    edit = ('dy[np.arange(B), cache["targets"][t]] -= 1', 'dy[cache["targets"][t]] -= 1')
    report = check_backward(*learner(edit), seed=1)
    assert "BPTT017" in codes(report)
    assert "backward raised IndexError in line" in str(report)
