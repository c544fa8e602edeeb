"""Plots: the right data, in the right place, and nothing left behind."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure

import tensorgrad as tg
from tensorgrad import nn, viz
from tensorgrad.errors import ShapeError
from tensorgrad.viz import plots


def data(ax: Any, line: int = 0) -> np.ndarray:
    return np.asarray(ax.lines[line].get_ydata(), dtype=float)


def told(ax: Any) -> list[str]:
    """What the plot says about its data."""
    return [text.get_text() for text in ax.texts]


def saved(figure: Figure) -> bytes:
    """The figure as PNG: only then is all of it laid out and drawn."""
    png: bytes = figure._repr_png_()  # type: ignore[attr-defined]
    assert png.startswith(b"\x89PNG")
    return png


def test_loss_curve() -> None:
    losses = np.linspace(3, 1, 200)
    figure = plots.loss_curve(losses, smooth=3)
    (ax,) = figure.axes
    np.testing.assert_allclose(data(ax), losses)
    np.testing.assert_allclose(ax.lines[0].get_xdata(), np.arange(1, 201))
    means = [losses[max(0, i - 2) : i + 1].mean() for i in range(200)]
    np.testing.assert_allclose(data(ax, 1), means)
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["each step", "mean of the last 3"]
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("step", "loss")
    assert told(ax) == []
    saved(figure)


@pytest.mark.parametrize(("n", "lines"), [(1, 1), (99, 1), (100, 2), (5_000, 2)])
def test_a_short_loss_curve_is_not_smoothed(n: int, lines: int) -> None:
    assert len(plots.loss_curve(np.ones(n)).axes[0].lines) == lines


def test_losses_that_are_not_finite_are_told() -> None:
    losses = np.array([3.0, np.nan, 2.0, np.inf, -np.inf, 1.0])
    figure = plots.loss_curve(losses, smooth=2)
    (ax,) = figure.axes
    assert told(ax) == ["3 of 6 losses not finite, left out"]
    np.testing.assert_allclose(data(ax), [3, np.nan, 2, np.nan, np.nan, 1])
    np.testing.assert_allclose(data(ax, 1), [3, 3, 2, 2, np.nan, 1])
    saved(figure)
    saved(plots.loss_curve([np.nan, np.nan]))


def test_gradient_flow_side_by_side() -> None:
    norms = 0.5 ** np.arange(20.0)[::-1]
    figure = plots.gradient_flow(norms)
    assert [ax.get_yscale() for ax in figure.axes] == ["linear", "log"]
    for ax in figure.axes:
        np.testing.assert_allclose(data(ax), norms)
        np.testing.assert_allclose(ax.lines[0].get_xdata(), np.arange(20))
        assert ax.get_legend() is None
        assert told(ax) == []
    saved(figure)


def test_gradient_flow_on_one_scale() -> None:
    (linear,) = plots.gradient_flow([1.0, 2.0], log=False).axes
    (log,) = plots.gradient_flow([1.0, 2.0], log=True).axes
    assert (linear.get_yscale(), log.get_yscale()) == ("linear", "log")


def test_zeros_on_a_logarithmic_scale_are_marked() -> None:
    figure = plots.gradient_flow([0.0, 0.0, np.inf, 0.1, 1.0])
    linear, log = figure.axes
    np.testing.assert_allclose(data(linear), [0, 0, np.nan, 0.1, 1])
    assert told(linear) == ["1 of 5 norms not finite, left out"]
    np.testing.assert_allclose(data(log), [np.nan, np.nan, np.nan, 0.1, 1])
    np.testing.assert_allclose(log.lines[1].get_xdata(), [0, 1])
    assert told(log) == ["1 of 5 norms not finite, left out\n▾ exactly 0 at 2 of 5 timesteps"]
    saved(figure)


@pytest.mark.parametrize("value", [0.0, np.nan, np.inf])
def test_nothing_that_a_logarithmic_scale_could_show(value: float) -> None:
    figure = plots.gradient_flow(np.full(4, value))
    assert told(figure.axes[1])
    saved(figure)


def test_several_flows_by_name() -> None:
    series = {"RNN": [0.1, 1.0], "_$x$ <b>": [0.5, 1.0]}
    figure = plots.gradient_flow(series)
    for ax in figure.axes:
        assert [text.get_text() for text in ax.get_legend().get_texts()] == list(series)
        np.testing.assert_allclose(data(ax, 1), [0.5, 1.0])
        colors = {line.get_color() for line in ax.lines}
        markers = {line.get_marker() for line in ax.lines}
        assert len(colors) == len(markers) == 2
    saved(figure)


def test_hidden_states() -> None:
    hs = np.tanh(np.linspace(-2, 1, 12)).reshape(4, 3)
    figure = plots.hidden_states(hs, tokens=["a", " ", "\n", "$x$"])
    ax, bar = figure.axes
    (image,) = ax.images
    np.testing.assert_allclose(image.get_array(), hs.T)
    assert image.norm.vmin == -image.norm.vmax == hs.min()
    assert [label.get_text() for label in ax.get_xticklabels()] == ["a", "␣", "⏎", "$x$"]
    assert bar.get_ylabel() == "activation"
    saved(figure)


@pytest.mark.parametrize("token", ["漢", "\x00", "\u202e", "\ud800"])
def test_tokens_that_the_font_lacks(token: str) -> None:
    figure = plots.hidden_states(np.zeros((2, 2)), tokens=["a", token])
    saved(figure)
    labels = [label.get_text() for label in figure.axes[0].get_xticklabels()]
    assert labels == ["a", f"U+{ord(token):04X}"]


def test_long_sequences_have_fewer_tick_labels() -> None:
    figure = plots.hidden_states(np.ones((1000, 2)), tokens="x" * 1000)
    labels = figure.axes[0].get_xticklabels()
    assert 20 < len(labels) < 110
    saved(figure)


def test_activations_that_are_not_finite_are_told() -> None:
    figure = plots.hidden_states([[np.nan, 1.0], [np.inf, -3.0]])
    assert told(figure.axes[0]) == ["2 of 4 activations not finite, grey"]
    assert figure.axes[0].images[0].norm.vmax == 3
    saved(figure)
    saved(plots.hidden_states([[np.nan]]))


def test_alignment() -> None:
    weights = np.array([[0.0, 0.25, 0.75], [1.0, 0.0, 0.0]])
    figure = plots.alignment(weights, source=["a", "$x$", "<b>"], target="c ")
    ax, bar = figure.axes
    (image,) = ax.images
    np.testing.assert_allclose(image.get_array(), weights)
    # The first token written stands above the second, and the shades of two drawings can be compared.
    assert ax.get_ylim() == (1.5, -0.5)
    assert (image.norm.vmin, image.norm.vmax) == (0, 1)
    assert [label.get_text() for label in ax.get_xticklabels()] == ["a", "$x$", "<b>"]
    assert [label.get_rotation() for label in ax.get_xticklabels()] == [0, 90, 90]
    assert [label.get_text() for label in ax.get_yticklabels()] == ["c", "␣"]
    assert (ax.get_xlabel(), ax.get_ylabel(), bar.get_ylabel()) == ("source token", "target token", "weight")
    saved(figure)


def test_alignment_without_tokens_and_with_gaps() -> None:
    figure = plots.alignment([[np.nan, 1.0]])
    assert told(figure.axes[0]) == ["1 of 2 weights not finite, grey"]
    assert figure.axes[0].get_xlabel() == "source"
    saved(figure)
    assert len(plots.alignment(np.eye(300), "x" * 300, "y" * 300).axes[0].get_yticklabels()) < 80


def test_into_given_axes() -> None:
    figure = Figure(figsize=(12, 3))
    first, second, third, fourth = figure.subplots(1, 4)
    assert plots.loss_curve([2.0, 1.0], ax=first) is figure
    assert plots.gradient_flow([1.0, 2.0], ax=second) is figure
    assert plots.hidden_states(np.zeros((3, 2)), ax=third) is figure
    assert second.get_yscale() == "linear"
    plots.gradient_flow([1.0, 2.0], log=True, ax=second)
    assert second.get_yscale() == "log"
    assert plots.alignment(np.eye(2), ax=fourth) is figure
    assert len(figure.axes) == 6


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: plots.loss_curve([]), r"loss_curve: .* its shape is \(0,\)"),
        (lambda: plots.loss_curve([[1.0]]), r"its shape is \(1, 1\)"),
        (lambda: plots.loss_curve([1.0], smooth=0), "at least 1 step, not 0"),
        (lambda: plots.gradient_flow([]), r"gradient_flow: .* its shape is \(0,\)"),
        (lambda: plots.gradient_flow({}), "no norms"),
        (lambda: plots.gradient_flow({"RNN": [-1.0]}), "a norm of 'RNN' is negative"),
        (lambda: plots.hidden_states(np.zeros(3)), "two axes, time and hidden units"),
        (lambda: plots.hidden_states(np.zeros((0, 3))), r"its shape is \(0, 3\)"),
        (lambda: plots.hidden_states(np.zeros((2, 3)), tokens="abc"), "3 tokens do not go with 2 timesteps"),
        (lambda: plots.alignment(np.zeros((2, 3, 4))), r"two axes, target and source, .* \(2, 3, 4\)"),
        (lambda: plots.alignment(np.zeros((2, 3)), "ab"), r"2 source tokens do not go with weights \(2, 3\)"),
        (lambda: plots.alignment(np.zeros((2, 3)), "abc", "c"), "1 target tokens do not go"),
    ],
)
def test_what_cannot_be_plotted(call: Any, sentence: str) -> None:
    with pytest.raises(ShapeError, match=sentence):
        call()


def test_gradient_flow_says_what_to_pass() -> None:
    roll = nn.unroll(nn.RNNCell(2, 3, seed=0), np.ones((4, 1, 2)))
    loss: Any = tg.sum(roll.outputs)
    given: list[Any] = [(loss, roll), (loss,), (roll,)]
    for arguments in given:
        with pytest.raises(ShapeError, match="norm of the gradient at each timestep") as caught:
            plots.gradient_flow(*arguments)
    names: dict[str, Any] = {"tg": tg, "viz": viz, "np": np, "loss": loss, "roll": roll}
    exec(textwrap.dedent(str(caught.value).partition("\n")[2]), names)
    assert len(names["grads"]) == 4


def test_without_pyplot() -> None:
    program = (
        "import sys, numpy as np\nfrom tensorgrad.viz import plots\n"
        "print('matplotlib' in sys.modules)\n"
        "for plot in (plots.loss_curve, plots.gradient_flow):\n    plot([1, 2])._repr_png_()\n"
        "plots.hidden_states(np.eye(3))._repr_png_()\n"
        "print('matplotlib.pyplot' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "False\nFalse\n"


def test_without_matplotlib() -> None:
    program = (
        "import sys\nsys.modules['matplotlib'] = None\nfrom tensorgrad.viz import plots\n"
        "try:\n    plots.loss_curve([2, 1])\n"
        "except ImportError as error:\n    print(type(error).__name__, error)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "PlotError plots need matplotlib: pip install 'tensorgrad-rnn[app]'\n"
