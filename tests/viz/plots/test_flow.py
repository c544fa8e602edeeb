"""Plots of gradients through time: they show the numbers of their study, and say what is not in them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import tensorgrad as tg
from tensorgrad import bptt, nn, viz
from tensorgrad.errors import DtypeError, ShapeError, UserError
from tensorgrad.viz import plots

from .reading import data, drawn, legend, notes


@pytest.fixture(scope="module")
def runs() -> dict[str, Any]:
    """A run, its loss and its cell, of an RNN and an LSTM."""
    xs = np.random.default_rng(0).normal(size=(6, 2, 2))
    found = {}
    for name in ("rnn", "lstm"):
        cell = nn.make_cell(name, 2, 3, seed=0)
        roll = nn.unroll(cell, xs)
        found[name.upper()] = ((roll.outputs**2).sum(), roll, cell)
    return found


def test_gradient_flow_side_by_side() -> None:
    norms = 0.5 ** np.arange(20.0)[::-1]
    figure = plots.gradient_flow(norms)
    assert [ax.get_yscale() for ax in figure.axes] == ["linear", "log"]
    for ax in figure.axes:
        np.testing.assert_allclose(data(ax), norms)
        np.testing.assert_allclose(ax.lines[0].get_xdata(), np.arange(20))
        assert ax.get_legend() is None
        assert notes(ax) == ""
    assert figure.axes[0].get_ylim()[0] == 0
    drawn(figure)


def test_gradient_flow_on_one_scale() -> None:
    (linear,) = plots.gradient_flow([1.0, 2.0], log=False).axes
    (log,) = plots.gradient_flow([1.0, 2.0], log=True).axes
    assert (linear.get_yscale(), log.get_yscale()) == ("linear", "log")
    plots.gradient_flow([1.0, 2.0], ax=log)
    assert log.get_title(loc="left") == "Gradient flow through time"


def test_zeros_on_a_logarithmic_scale_are_marked() -> None:
    figure = plots.gradient_flow([0.0, 0.0, np.inf, 0.1, 1.0])
    linear, log = figure.axes
    np.testing.assert_allclose(data(linear), [0, 0, np.nan, 0.1, 1])
    assert notes(linear) == "marked at the edge: 1 inf (▲) of 5"
    np.testing.assert_allclose(data(log), [np.nan, np.nan, np.nan, 0.1, 1])
    np.testing.assert_allclose(log.lines[2].get_xdata(), [0, 1])
    assert notes(log) == "marked at the edge: 1 inf (▲), 2 zero (▼) of 5"
    drawn(figure)


@pytest.mark.parametrize("value", [0.0, np.nan, np.inf])
def test_nothing_that_a_logarithmic_scale_could_show(value: float) -> None:
    figure = plots.gradient_flow(np.full(4, value))
    assert notes(figure.axes[1])
    assert not len(figure.axes[1].get_yticks())
    drawn(figure)


@pytest.mark.parametrize("value", [5e-324, 1e-300, 1e249, 1e251, 1.7e308])
def test_extreme_norms(value: float) -> None:
    figure = plots.gradient_flow([1.0, value])
    assert bool(notes(figure.axes[0])) == (value > 1e250)
    drawn(figure)


def test_gradient_flow_of_parts_and_of_cells(runs: Any) -> None:
    flows = {name: bptt.gradient_flow(loss, roll) for name, (loss, roll, _) in runs.items()}
    (ax,) = plots.gradient_flow(flows, log=True).axes
    assert legend(ax) == ["RNN h", "LSTM h", "LSTM c"]
    np.testing.assert_allclose(data(ax, 2), flows["LSTM"].norms["c"])
    (ax,) = plots.gradient_flow(flows, part="h", log=True).axes
    assert legend(ax) == ["RNN", "LSTM"]
    (ax,) = plots.gradient_flow(flows, part="c", log=True).axes
    assert legend(ax) == ["LSTM"]
    mixed = plots.gradient_flow({"study": flows["RNN"], "norms": [1.0, 2.0], 0.5: [3.0]})
    assert legend(mixed.axes[0]) == ["study h", "norms", "0.5"]
    drawn(mixed)


def test_spectral_radius() -> None:
    flows = {}
    for radius in (2.0, 0.5):
        W = tg.tensor(radius * np.eye(2), requires_grad=True)
        roll = nn.unroll(lambda x, h, W=W: (tg.label(h @ W, "h"),) * 2, np.ones((5, 1, 2)), np.ones((1, 2)))
        flows[radius] = bptt.gradient_flow(roll.state.sum(), roll)
    figure = plots.spectral_radius(flows)
    left, right = figure.axes
    assert legend(left) == ["radius 0.5", "radius 2"]
    np.testing.assert_allclose(data(left, 0), 0.5 ** np.arange(5.0)[::-1])
    np.testing.assert_allclose(data(right, 1), [0.5, 2.0])
    assert left.get_yscale() == "log"
    drawn(figure)


def test_heat_maps_leave_zeros_blank(runs: Any) -> None:
    loss, roll, _ = runs["LSTM"]
    items = bptt.itemised(loss, roll)
    figure = plots.itemised(items, "c")
    shown = figure.axes[0].images[0].get_array()
    np.testing.assert_allclose(shown.filled(0), items.norms["c"])
    np.testing.assert_array_equal(shown.mask, np.tri(6) == 0)
    assert notes(figure.axes[0]) == "blank: exactly 0"
    # The loss of the first timestep stands above that of the second.
    assert figure.axes[0].get_ylim() == (5.5, -0.5)
    np.testing.assert_allclose(data(figure.axes[1], 1), items.total["c"])
    drawn(figure)
    flow = bptt.gradient_flow(loss, roll)
    figure = plots.units(flow, "c")
    np.testing.assert_allclose(figure.axes[0].images[0].get_array(), flow.per_unit("c").T)
    drawn(figure)
    drawn(plots.units(bptt.GradientFlow({"h": np.zeros((4, 1, 2))})))
    broken = np.ones((4, 1, 2))
    broken[1] = np.nan
    assert notes(plots.units(bptt.GradientFlow({"h": broken})).axes[0]) == "grey: 2 NaN (x) of 8"


def test_contributions(runs: Any) -> None:
    parts = {
        name: bptt.contributions(loss, cell.weight_hh, roll) for name, (loss, roll, cell) in runs.items()
    }
    figure = plots.contributions(parts)
    left, right = figure.axes
    shown, zeros = data(left)[1:], parts["RNN"].norms[0]
    np.testing.assert_allclose(shown, parts["RNN"].norms[1:])
    assert zeros == 0
    assert notes(left) == "marked at the edge: 2 zero (▼) of 12"
    assert data(right, 1).sum() == pytest.approx(1)
    assert legend(right) == ["RNN", "LSTM"]
    drawn(figure)


def test_horizon_counts_rounding_as_zero(runs: Any) -> None:
    horizons = {name: bptt.truncation_horizon(loss, cell, roll) for name, (loss, roll, cell) in runs.items()}
    figure = plots.horizon(horizons)
    (ax,) = figure.axes
    shown = data(ax)
    np.testing.assert_allclose(shown[:-1], horizons["RNN"].errors[:-1])
    assert np.isnan(shown[-1])
    assert ax.lines[0].get_xdata()[0] == 1
    assert "marked at the edge: 2 zero (▼) of 12" in notes(ax)
    drawn(figure)


def test_rtrl() -> None:
    cell = nn.RNNCell(2, 2, seed=0)
    found = bptt.rtrl(cell, cell, np.ones((4, 1, 2)), lambda t, h: h.sum())
    figure = plots.rtrl({"RNN": found})
    np.testing.assert_allclose(data(figure.axes[0]), found.influence_norms)
    np.testing.assert_allclose(data(figure.axes[1]), found.running)
    drawn(figure)


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e200])
def test_gradients_that_are_not_finite_are_marked_without_a_warning(bad: float) -> None:
    g = np.ones((6, 2, 3))
    g[1] = bad
    flow = bptt.GradientFlow({"h": g})
    for figure in (
        plots.gradient_flow(flow),
        plots.units(flow),
        plots.spectral_radius({1.0: flow}),
        plots.contributions(bptt.Contributions(g, np.zeros((2, 3)))),
    ):
        assert "NaN (x)" in notes(figure.axes[0]) or "inf (▲)" in notes(figure.axes[0])
        drawn(figure)


FLOW = bptt.GradientFlow({"h": np.ones((3, 1, 2))})
ITEMS = bptt.Itemised({"h": np.tri(3)}, {"h": np.ones(3)})


@pytest.mark.parametrize(
    ("call", "error", "sentence"),
    [
        (lambda: plots.gradient_flow([]), ShapeError, r"gradient_flow: .* its shape is \(0,\)"),
        (lambda: plots.gradient_flow({}), DtypeError, "no norms"),
        (lambda: plots.gradient_flow({"RNN": [-1.0]}), UserError, "a norm of 'RNN' is negative"),
        (lambda: plots.gradient_flow([1.0], part="h"), UserError, "norms have no part 'h'; leave it out"),
        (lambda: plots.gradient_flow(FLOW, part="z"), UserError, "no run has a part of the state named 'z'"),
        (lambda: plots.gradient_flow(ITEMS), DtypeError, "real numbers .*, not an Itemised"),
        (lambda: plots.spectral_radius({0.5: FLOW}, part="c"), UserError, "no part 'c'; parts are h"),
        (lambda: plots.spectral_radius(FLOW), UserError, "by spectral radius, {0.5: flow"),
        (lambda: plots.spectral_radius({"RNN": FLOW}), UserError, "by spectral radius"),
        (
            lambda: plots.spectral_radius({0.5: ITEMS}),
            DtypeError,
            "give a tg.bptt.GradientFlow, .* not an Itemised",
        ),
        (lambda: plots.units(FLOW, "x"), UserError, "no part 'x'; parts are h"),
        (lambda: plots.units({"RNN": FLOW}), DtypeError, "give a tg.bptt.GradientFlow, not a dict"),
        (lambda: plots.itemised(ITEMS, "x"), UserError, "no part 'x'; parts are h"),
        (lambda: plots.horizon({}), DtypeError, "not an empty mapping"),
        (
            lambda: plots.rtrl({"RNN": FLOW}),
            DtypeError,
            "give a tg.bptt.RTRL, or several by name, not a Gradi",
        ),
    ],
)
def test_what_cannot_be_plotted(call: Any, error: type[Exception], sentence: str) -> None:
    with pytest.raises(error, match=sentence):
        call()


def test_gradient_flow_says_what_to_pass(runs: Any) -> None:
    loss, roll, _ = runs["RNN"]
    given: list[Any] = [(loss, roll), (loss,), (roll,)]
    for arguments in given:
        with pytest.raises(DtypeError, match="what the study of that name found") as caught:
            plots.gradient_flow(*arguments)
    figure = eval(
        str(caught.value).partition("found, ")[2], {"tg": tg, "viz": viz, "loss": loss, "roll": roll}
    )
    np.testing.assert_allclose(data(figure.axes[0]), bptt.gradient_flow(loss, roll).norms["h"])
