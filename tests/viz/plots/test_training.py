"""The loss curve, and what all plots do without: pyplot, a display, and in the end matplotlib."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tensorgrad as tg
from tensorgrad.errors import DtypeError, TensorgradError
from tensorgrad.viz import plots

from .reading import data, drawn, legend, notes


def test_loss_curve() -> None:
    losses = np.linspace(3, 1, 200)
    figure = plots.loss_curve(losses, smooth=3)
    (ax,) = figure.axes
    np.testing.assert_allclose(data(ax), losses)
    np.testing.assert_allclose(ax.lines[0].get_xdata(), np.arange(1, 201))
    means = [losses[max(0, i - 2) : i + 1].mean() for i in range(200)]
    np.testing.assert_allclose(data(ax, 1), means)
    assert legend(ax) == ["each step", "mean of the last 3"]
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("step", "loss")
    assert notes(ax) == ""
    png = figure._repr_png_()  # type: ignore[attr-defined]
    assert png.startswith(b"\x89PNG")


@pytest.mark.parametrize(("n", "lines"), [(1, 1), (99, 1), (100, 2), (5_000, 2)])
def test_a_short_loss_curve_is_not_smoothed(n: int, lines: int) -> None:
    assert len(plots.loss_curve(np.ones(n)).axes[0].lines) == lines


def test_losses_that_are_not_finite_are_marked() -> None:
    losses = np.array([3.0, np.nan, 2.0, np.inf, -np.inf, 1.0])
    figure = plots.loss_curve(losses, smooth=2)
    (ax,) = figure.axes
    assert notes(ax) == "marked at the edge: 1 NaN (x), 1 inf (▲), 1 -inf (▼) of 6"
    np.testing.assert_allclose(data(ax), [3, np.nan, 2, np.nan, np.nan, 1])
    assert [line.get_xdata().tolist() for line in ax.lines[1:4]] == [[2], [4], [5]]
    np.testing.assert_allclose(data(ax, 4), [3, 3, 2, 2, np.nan, 1])
    drawn(figure)
    drawn(plots.loss_curve([np.nan, np.nan]))


FINITE = st.floats(-1e3, 1e3)


@settings(max_examples=40)
@given(
    st.lists(FINITE | st.sampled_from([np.nan, np.inf, 1e300]), min_size=1, max_size=40), st.integers(2, 50)
)
def test_the_mean_is_of_the_last_finite_ones(losses: list[float], smooth: int) -> None:
    ax = plots.loss_curve(losses, smooth=smooth).axes[0]
    for i, mean in enumerate(data(ax, len(ax.lines) - 1)):
        window = [x for x in losses[max(0, i + 1 - smooth) : i + 1] if abs(x) < 1e4]
        np.testing.assert_allclose(mean, np.mean(window) if window else np.nan, rtol=1e-9, atol=1e-9)


def test_one_great_loss_does_not_spoil_the_mean_for_ever() -> None:
    ax = plots.loss_curve([1.0, 1e20, *[1.0] * 8], smooth=3).axes[0]
    np.testing.assert_array_equal(data(ax, 1)[4:], 1)


@pytest.mark.parametrize("smooth", [0, -1, 2.5, "3"])
def test_windows_that_are_none(smooth: Any) -> None:
    with pytest.raises(TensorgradError, match="loss_curve: the mean runs over a whole number of steps"):
        plots.loss_curve([1.0], smooth=smooth)


def test_tensors_in_place_of_losses() -> None:
    for wrong in ([tg.tensor(1.0), tg.tensor(2.0)], (tg.tensor([1.0, 2.0])), [1.0, tg.tensor(2.0)]):
        with pytest.raises(DtypeError, match=r"give numbers, not a Tensor: loss.item\(\) at every step"):
            plots.loss_curve(wrong)


def run(program: str) -> str:
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout


def test_without_pyplot() -> None:
    said = run(
        "import sys, numpy as np\nfrom tensorgrad.viz import plots\n"
        "print('matplotlib' in sys.modules)\n"
        "for plot in (plots.loss_curve, plots.gradient_flow):\n    plot([1, 2])._repr_png_()\n"
        "plots.hidden_states(np.eye(3))._repr_png_()\n"
        "print('matplotlib.pyplot' in sys.modules)"
    )
    assert said == "False\nFalse\n"


def test_without_matplotlib() -> None:
    said = run(
        "import sys\nsys.modules['matplotlib'] = None\nfrom tensorgrad.viz import plots\n"
        "for plot in (plots.loss_curve, plots.gradient_flow):\n"
        "    try:\n        plot([2, 1])\n"
        "    except ImportError as error:\n        print(type(error).__name__, error)"
    )
    assert said == 2 * "PlotError plots need matplotlib: pip install 'tensorgrad-rnn[app]'\n"
