"""Plots of gradients through time: they show the numbers of their study, and say what is not in them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import tensorgrad as tg
from tensorgrad import bptt, nn
from tensorgrad.errors import ShapeError

pytest.importorskip("matplotlib")
from tensorgrad.viz import bptt_plots as plots


def data(ax: Any, line: int = 0) -> np.ndarray:
    return np.asarray(ax.lines[line].get_ydata(), dtype=float)


def legend(ax: Any) -> list[str]:
    return [text.get_text() for text in ax.get_legend().get_texts()]


def saved(figure: Any) -> None:
    """Only when it is drawn is all of a figure laid out."""
    assert figure._repr_png_().startswith(b"\x89PNG")


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


def test_gradient_flow_of_parts_and_of_cells(runs: Any) -> None:
    flows = {name: bptt.gradient_flow(loss, roll) for name, (loss, roll, _) in runs.items()}
    (ax,) = plots.gradient_flow(flows).axes
    assert legend(ax) == ["RNN h", "LSTM h", "LSTM c"]
    np.testing.assert_allclose(data(ax, 2), flows["LSTM"].norms["c"])
    (ax,) = plots.gradient_flow(flows, part="h").axes
    assert legend(ax) == ["RNN", "LSTM"]
    assert len(plots.gradient_flow(flows["RNN"], log=None).axes) == 2
    with pytest.raises(ShapeError, match="no run has a part of the state named 'z'"):
        plots.gradient_flow(flows, part="z")
    saved(plots.gradient_flow(flows))


def test_spectral_radius() -> None:
    flows = {}
    for radius in (2.0, 0.5):
        W = tg.tensor(radius * np.eye(2), requires_grad=True)
        roll = nn.unroll(lambda x, h, W=W: (tg.label(h @ W, "h"),) * 2, np.ones((5, 1, 2)), np.ones((1, 2)))
        flows[radius] = bptt.gradient_flow(roll.state.sum(), roll)
    figure = plots.spectral_radius(flows)
    left, right = figure.axes
    assert legend(left) == ["0.5", "2"]
    np.testing.assert_allclose(data(left, 0), 0.5 ** np.arange(5.0)[::-1])
    np.testing.assert_allclose(data(right, 1), [0.5, 2.0])
    assert left.get_yscale() == "log"
    saved(figure)
    with pytest.raises(ShapeError, match="a part 'c' for each radius"):
        plots.spectral_radius(flows, part="c")


def test_heatmaps_leave_zeros_blank(runs: Any) -> None:
    loss, roll, _ = runs["LSTM"]
    items = bptt.itemised(loss, roll)
    figure = plots.itemised(items, "c")
    shown = figure.axes[0].images[0].get_array()
    np.testing.assert_allclose(shown.filled(0), items.norms["c"])
    np.testing.assert_array_equal(shown.mask, np.tri(6) == 0)
    np.testing.assert_allclose(data(figure.axes[1], 1), items.total["c"])
    saved(figure)
    flow = bptt.gradient_flow(loss, roll)
    figure = plots.units(flow, "c")
    np.testing.assert_allclose(figure.axes[0].images[0].get_array(), flow.per_unit("c").T)
    saved(figure)
    saved(plots.units(bptt.GradientFlow({"h": np.zeros((4, 1, 2))})))
    for plot, found in ((plots.units, flow), (plots.itemised, items)):
        with pytest.raises(ShapeError, match="no part 'x'; parts are h, c"):
            plot(found, "x")


def test_contributions(runs: Any) -> None:
    parts = {
        name: bptt.contributions(loss, cell.weight_hh, roll) for name, (loss, roll, cell) in runs.items()
    }
    figure = plots.contributions(parts)
    left, right = figure.axes
    np.testing.assert_allclose(data(left), parts["RNN"].norms)
    assert data(right, 1).sum() == pytest.approx(1)
    assert legend(right) == ["RNN", "LSTM"]
    saved(figure)


def test_singular_values_and_lyapunov_spectra(runs: Any) -> None:
    J = {name: bptt.state_jacobians(roll) for name, (_, roll, _) in runs.items()}
    figure = plots.singular_values(J["LSTM"])
    values = J["LSTM"].spans()
    np.testing.assert_allclose(data(figure.axes[1]), values.max(axis=(1, 2)))
    np.testing.assert_array_equal(figure.axes[1].lines[0].get_xdata(), J["LSTM"].times)
    saved(figure)
    exponents = {name: bptt.lyapunov_exponents(each) for name, each in J.items()}
    figure = plots.lyapunov(exponents)
    np.testing.assert_allclose(data(figure.axes[0], 1), exponents["LSTM"].values.mean(axis=0))
    assert len(figure.axes[0].lines[1].get_xdata()) == 6
    saved(figure)
    lost = bptt.lyapunov_exponents(np.broadcast_to(np.diag([1.0, 0.0]), (4, 2, 2)), warmup=1)
    figure = plots.lyapunov(lost)
    assert [text.get_text() for text in figure.axes[0].texts] == ["1 exponents are -inf and left out"]


def test_saturation(runs: Any) -> None:
    found = bptt.saturation(runs["LSTM"][1], 0.3)
    figure = plots.saturation(found)
    left, right = figure.axes
    assert [label.get_text() for label in left.get_yticklabels()] == ["i", "f", "g", "o", "tanh(c)"]
    widths = [bar.get_width() for bar in left.patches]
    np.testing.assert_allclose(widths[5:], [x.mean() for x in found.high.values()])
    np.testing.assert_allclose(widths[:5], [-x.mean() for x in found.low.values()])
    np.testing.assert_allclose(data(right, 2), found.over_time["g"])
    saved(figure)
    roll = nn.unroll(nn.LSTMCell(2, 3, seed=0), np.ones((4, 2, 2)), lengths=[2, 1])
    saved(plots.saturation(bptt.saturation(roll)))


def test_horizon_leaves_rounding_out(runs: Any) -> None:
    horizons = {name: bptt.truncation_horizon(loss, cell, roll) for name, (loss, roll, cell) in runs.items()}
    figure = plots.horizon(horizons)
    shown = data(figure.axes[0])
    np.testing.assert_allclose(shown[:-1], horizons["RNN"].errors[:-1])
    assert np.isnan(shown[-1])
    assert figure.axes[0].lines[0].get_xdata()[0] == 1
    saved(figure)


def test_fixed_points() -> None:
    W = 1.5 * np.eye(2)
    starts = np.random.default_rng(0).uniform(-1, 1, size=(40, 2))
    found = bptt.fixed_points(lambda x, h: (h, tg.tanh(h @ W + x)), np.zeros(2), starts)
    figure = plots.fixed_points(found, np.stack([starts, np.tanh(starts @ W)]))
    left, right = figure.axes
    assert left.get_title(loc="left") == "9 fixed points"
    assert legend(left) == ["attracts", "repels in 1 direction", "repels in more"]
    assert [len(line.get_xdata()) for line in left.lines[-3:]] == [4, 4, 1]
    assert sum(len(line.get_xdata()) for line in right.lines[1:]) == 18
    saved(figure)
    with pytest.raises(ShapeError, match=r"visited states are \(T, 2\) or \(T, B, 2\), not \(4, 1, 3\)"):
        plots.fixed_points(found, np.ones((4, 3)))
    one = bptt.fixed_points(lambda x, h: (h, 0.5 * h + x), np.zeros(1), np.ones((1, 1)))
    saved(plots.fixed_points(one))
    none = bptt.fixed_points(lambda x, h: (h, h + 1.0), np.zeros(1), np.ones((1, 1)), steps=1)
    with pytest.raises(ShapeError, match="no point was found"):
        plots.fixed_points(none)


def test_rtrl() -> None:
    cell = nn.RNNCell(2, 2, seed=0)
    found = bptt.rtrl(cell, cell, np.ones((4, 1, 2)), lambda t, h: h.sum())
    figure = plots.rtrl({"RNN": found})
    np.testing.assert_allclose(data(figure.axes[0]), found.influence_norms)
    np.testing.assert_allclose(data(figure.axes[1]), found.running)
    saved(figure)


@pytest.mark.parametrize(
    "plot", [plots.contributions, plots.gradient_flow, plots.horizon, plots.lyapunov, plots.rtrl]
)
def test_what_is_no_result_of_a_study(plot: Any, runs: Any) -> None:
    with pytest.raises(ShapeError, match=r"give a \w+, or several by name, not Unrolled"):
        plot(runs["RNN"][1])
    with pytest.raises(ShapeError, match="not an empty one"):
        plot({})
