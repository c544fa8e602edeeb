"""What holds for all plots: where they draw, how they look on light and dark, what they refuse."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import matplotlib
import matplotlib.style
import numpy as np
import pytest
from matplotlib.figure import Figure

import tensorgrad as tg
from tensorgrad import bptt, nn
from tensorgrad.errors import TensorgradError, UserError
from tensorgrad.viz import plots

from .reading import drawn, faint, misplaced

T, B, H = 7, 2, 3
STYLES = ["default", "dark_background"]


@contextmanager
def style(name: str) -> Iterator[None]:
    """matplotlib's settings as a style has them, and back."""
    with matplotlib.rc_context():
        matplotlib.style.use(name)
        yield


@cache
def studies() -> dict[str, Any]:
    """What each plot is given, by its name."""
    xs = np.random.default_rng(0).normal(size=(T, B, 2))
    runs = {}
    for name in ("rnn", "lstm"):
        cell = nn.make_cell(name, 2, H, seed=0)
        roll = nn.unroll(cell, xs)
        runs[name.upper()] = (roll.outputs**2).sum(), roll, cell
    loss, roll, cell = runs["LSTM"]
    flows = {name: bptt.gradient_flow(loss, roll) for name, (loss, roll, _) in runs.items()}
    jacobians = bptt.state_jacobians(roll)
    W = 1.5 * np.eye(2)
    starts = np.random.default_rng(0).uniform(-1, 1, size=(20, 2))
    return {
        "alignment": (np.eye(4), "abcd", "efgh"),
        "contributions": ({name: bptt.contributions(e, c.weight_hh, r) for name, (e, r, c) in runs.items()},),
        "fixed_points": (
            bptt.fixed_points(lambda x, h: (h, tg.tanh(h @ W + x)), np.zeros(2), starts),
            starts,
        ),
        "gates": (roll,),
        "gradient_flow": (flows,),
        "hidden_states": (np.stack([step["h"].numpy()[0] for step in roll.steps]), "the cat"),
        "horizon": ({name: bptt.truncation_horizon(e, c, r) for name, (e, r, c) in runs.items()},),
        "itemised": (bptt.itemised(loss, roll), "c"),
        "jacobian_spectrum": (jacobians,),
        "loss_curve": (1 / np.arange(1.0, 201),),
        "lyapunov": (bptt.lyapunov_exponents(jacobians),),
        "rtrl": ({"LSTM": bptt.rtrl(cell, cell, xs, lambda t, state: state[0].sum())},),
        "saturation": (bptt.saturation(roll, 0.3),),
        "singular_values": (jacobians,),
        "spectral_radius": ({r: bptt.GradientFlow({"h": r ** np.ones((T, B, H))}) for r in (0.5, 1.0, 2.0)},),
        "units": (flows["LSTM"], "c"),
    }


PANELS = {
    "alignment": 1,
    "contributions": 2,
    "fixed_points": 2,
    "gates": 4,
    "gradient_flow": 2,
    "hidden_states": 1,
    "horizon": 1,
    "itemised": 2,
    "jacobian_spectrum": 1,
    "loss_curve": 1,
    "lyapunov": 2,
    "rtrl": 2,
    "saturation": 2,
    "singular_values": 2,
    "spectral_radius": 2,
    "units": 1,
}
EVERY = pytest.mark.parametrize("name", PANELS)


def draw(name: str, **given: Any) -> Any:
    plot: Callable[..., Any] = getattr(plots, name)
    return plot(*studies()[name], **given)


def test_no_plot_is_forgotten() -> None:
    assert {*PANELS, "PlotError"} == {*studies(), "PlotError"} == set(plots.__all__)


@EVERY
@pytest.mark.parametrize("look", STYLES)
def test_everything_can_be_read_on_light_and_on_dark(name: str, look: str) -> None:
    with style(look):
        figure = drawn(draw(name))
        assert faint(figure) == []
        assert misplaced(figure) == []


@EVERY
def test_into_given_axes(name: str) -> None:
    figure = Figure(figsize=(12, 8), layout="constrained")
    axes = figure.subplots(PANELS[name] + 1)
    given, spare = axes[:-1], axes[-1]
    assert draw(name, ax=given[0] if PANELS[name] == 1 else given) is figure
    assert [ax for ax in given if not ax.has_data()] == []
    assert not spare.has_data()
    assert all(ax.get_title(loc="left") for ax in given)
    # Nothing but colour bars was added.
    assert {ax.get_label() for ax in figure.axes} - {ax.get_label() for ax in axes} <= {"<colorbar>"}


@EVERY
def test_axes_that_are_none_or_too_many(name: str) -> None:
    figure = Figure()
    axes = figure.subplots(PANELS[name] + 1)
    for wrong, sentence in (
        (axes, rf"^{name}.*: ax takes .* axes.*, not {PANELS[name] + 1}$"),
        ([axes[0]] * 2, r"ax takes .* axes.*, not 1$"),
        (figure, r"ax takes .* axes.*, but it has a Figure$"),
        (3, "but it has a int"),
    ):
        with pytest.raises(UserError, match=sentence):
            draw(name, ax=wrong)


@EVERY
@pytest.mark.parametrize(
    "given", [None, "abc", [], {}, np.zeros((2, 2, 2, 2)), [[1.0], [2.0, 3.0]], 1j, object()]
)
def test_what_cannot_be_plotted_is_one_sentence(name: str, given: Any) -> None:
    with pytest.raises(TensorgradError, match=rf"^{name}: [^\n]+$"):
        getattr(plots, name)(given)


@EVERY
def test_neither_can_a_tensor(name: str) -> None:
    with pytest.raises(TensorgradError, match=rf"^{name}: .*(not a Tensor|not Tensor|\.gradient_flow\()"):
        getattr(plots, name)(tg.tensor(np.ones(3)))


def test_axes_of_another_kind() -> None:
    polar = Figure().add_subplot(projection="polar")
    with pytest.raises(UserError, match="loss_curve: ax takes plain axes, not polar ones"):
        plots.loss_curve([2.0, 1.0], ax=polar)


# --- the checkers themselves -----------------------------------------------------------------------------
def planted() -> Any:
    figure = Figure(layout="constrained")
    ax = figure.subplots()
    ax.plot([1, 2])
    drawn(figure)
    return figure, ax


def test_what_is_faint_is_found() -> None:
    figure, ax = planted()
    assert faint(figure) == []
    ax.plot([2, 1], color="black", alpha=0.3, label="pale")
    ax.bar([0], [1], color="yellow")
    ax.scatter([0], [1], c=[[1, 1, 0.8]])
    ax.set_title("grey", color="#888888")
    ax.grid(True, color="#DDDDDD")
    said = faint(drawn(figure))
    assert "line 'pale': 2.11" in said
    assert {entry.split()[0].rstrip(":") for entry in said} == {"line", "bar", "points", "text"}
    assert any(entry.startswith("text 'grey'") for entry in said)
    with style("dark_background"):
        dark, ax = planted()
        ax.plot([2, 1], color="#202060", label="deep")
        assert len(faint(dark)) == 1


def test_what_is_misplaced_is_found() -> None:
    figure, ax = planted()
    assert misplaced(figure) == []
    ax.text(0.5, 1.5, "inside")
    ax.set_title("one")
    ax.annotate("two", (0.5, 1), (0, 8), xycoords="axes fraction", textcoords="offset points")
    ax.text(0.9, 1.2, "far" * 30, transform=ax.transAxes).set_in_layout(False)
    drawn(figure)
    assert {"'inside' lies on 'the data'", "'two' lies on 'one'"} <= set(misplaced(figure))
    assert any("is cut off" in entry for entry in misplaced(figure))
