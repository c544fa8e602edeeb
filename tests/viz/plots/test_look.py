"""The common look: colours that stand out and stay apart, axes, legends, labels that are only text."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import matplotlib
import matplotlib.style
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib import colormaps
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from tensorgrad.viz import plots
from tensorgrad.viz.plots import charts, look
from tensorgrad.viz.plots.contrast import standing_out

from .reading import VISION, contrast, drawn, faint, lab, legend, misplaced, notes


@pytest.mark.parametrize(
    ("colors", "behind"), [(look.ON_LIGHT, ("#FFFFFF", "#E5E5E5")), (look.ON_DARK, ("#000000", "#1E1E1E"))]
)
def test_colors_of_series_stand_out_and_stay_apart(colors: Any, behind: Any) -> None:
    for background in map(to_rgb, behind):
        assert min(contrast(to_rgb(color), background) for color in (*colors, look.GREY)) >= 3
    for vision in VISION:
        seen = [lab(to_rgb(color), vision) for color in colors]
        assert min(np.linalg.norm(a - b) for a, b in combinations(seen, 2)) > 15, vision


def test_heat_maps_are_perceptually_uniform() -> None:
    figure = Figure()
    light, dark = figure.subplots(1, 2)
    dark.set_facecolor("black")
    for colors, halves in ((look.signed(light), 2), (look.signed(dark), 2), (colormaps["viridis"], 1)):
        seen = lab(colors(np.linspace(0, 1, 65)))
        steps = np.linalg.norm(np.diff(seen, axis=0), axis=1)
        assert steps.max() < 2.5 * steps.min()
        lightness = np.diff(seen[:, 0])
        for half in np.split(lightness, halves):
            assert (half > 0).all() or (half < 0).all()
    # What is not a colour map for data fails.
    steps = np.linalg.norm(np.diff(lab(colormaps["jet"](np.linspace(0, 1, 65))), axis=0), axis=1)
    assert steps.max() > 5 * steps.min()


@pytest.mark.parametrize("background", ["#FFFFFF", "#FDF6E3", "#EAEAF2", "#000000", "#282C34"])
def test_gradual_colors_stand_out_on_any_background(background: str) -> None:
    ax = Figure().subplots()
    ax.set_facecolor(background)
    shades = look.gradual(ax)(np.linspace(0, 1, 20))
    assert min(contrast(shade, to_rgb(background)) for shade in shades) >= 3
    # Far enough apart to tell early from late.
    assert np.linalg.norm(lab(shades[0]) - lab(shades[-1])) > 50


@given(st.lists(st.floats(0, 1), min_size=1, max_size=30), st.floats(0, 1), st.floats(1, 10))
def test_standing_out_is_the_longest_run(greys: list[float], background: float, ratio: float) -> None:
    colors = np.array(greys)[:, None].repeat(3, axis=1)
    found = standing_out(colors, [background] * 3, ratio)
    clear = "".join("x" if contrast(c, [background] * 3) >= ratio else " " for c in colors)
    longest = max(map(len, clear.split()), default=len(colors))
    assert len(found) == longest


def test_series_differ_in_color_and_dash_and_marker() -> None:
    ax = Figure().subplots()
    charts.lines(ax, {str(i): np.arange(5.0) + i for i in range(5)})
    for what in ("_color", "_unscaled_dash_pattern", "_marker"):
        assert len({str(getattr(line, what)) for line in ax.lines}) == 5
    charts.lines(ax, {str(i): np.arange(5.0) + i for i in range(30)})
    assert len({(line.get_color(), str(line._unscaled_dash_pattern)) for line in ax.lines[5:]}) == 30


@pytest.mark.parametrize("n", [2, 6])
def test_long_series_have_markers_here_and_there(n: int) -> None:
    ax = Figure().subplots()
    charts.lines(ax, {str(i): np.ones(500) for i in range(n)})
    places = [set(line.get_markevery()) for line in ax.lines]
    assert all(7 < len(place) < 11 for place in places)
    assert not any(a & b for a, b in combinations(places, 2))


def test_a_point_between_gaps_is_seen() -> None:
    values = np.full(200, np.nan)
    values[[50, 120, 121]] = 1
    ax = Figure().subplots()
    charts.lines(ax, {"": values})
    assert ax.lines[0].get_markevery() == [50]


def test_what_has_no_place_on_a_scale_is_marked_at_the_edge() -> None:
    ax = Figure().subplots()
    values = np.array([np.nan, 1.0, np.inf, -np.inf, 2.0, 1e300, np.nan])
    _, said = charts.lines(ax, {"a": values})
    assert said == ["marked at the edge: 2 NaN (x), 1 inf (▲), 1 -inf (▼), 1 over 1e+250 (▲) of 7"]
    marks = {(line.get_marker(), tuple(line.get_xdata())): line.get_ydata()[0] for line in ax.lines[1:]}
    assert set(marks) == {("x", (0, 6)), ("^", (2,)), ("v", (3,)), ("^", (5,))}
    assert all((y > 0.5) == (marker == "^") for (marker, _), y in marks.items())
    assert {line.get_color() for line in ax.lines} == {look.ON_LIGHT[0]}


def test_cells_that_are_no_numbers_are_grey_with_a_sign() -> None:
    ax = Figure().subplots()
    values = np.array([[np.nan, 1.0, np.inf], [0.0, -np.inf, 1e300]])
    blank = np.array([[False, False, False], [True, False, False]])
    (said,) = charts.heat(ax, values, "", (0, 1), blank)
    assert said == "grey: 1 NaN (x), 1 inf (▲), 1 -inf (▼), 1 over 1e+250 (▲) of 6"
    numbers, grey = ax.images
    np.testing.assert_array_equal(numbers.get_array().mask, [[True, False, True], [True, True, True]])
    np.testing.assert_array_equal(grey.get_array().mask, [[False, True, False], [True, False, False]])
    signs = {line.get_marker(): (line.get_xdata()[0], line.get_ydata()[0]) for line in ax.lines[:3]}
    assert signs == {"X": (0, 0), "^": (2, 0), "v": (1, 1)}


def test_small_numbers_that_a_scale_cuts_off_are_said_by_its_bar() -> None:
    figure = Figure()
    left, right = figure.subplots(1, 2)
    for ax, least, extends in ((left, 1e-11, "neither"), (right, 1e-20, "min")):
        assert charts.heat(ax, np.array([[1.0, least, 0.0]]), "norm") == ["blank: exactly 0"]
        assert ax.images[0].colorbar.extend == extends
    charts.heat(left, np.zeros((2, 2)), "norm")
    drawn(figure)


def test_text_keeps_the_colors_of_the_style_its_axes_were_made_in() -> None:
    with matplotlib.rc_context():
        matplotlib.style.use("dark_background")
        figure = Figure(layout="constrained")
        one, two = figure.subplots(1, 2)
    plots.gradient_flow({"a": [1.0, np.nan], "b": [1.0, 2.0]}, ax=one)
    plots.hidden_states(np.ones((3, 2)), ax=two)
    assert faint(drawn(figure)) == []


def test_a_dark_plot_in_a_light_figure() -> None:
    figure = Figure(layout="constrained")
    ax = figure.subplots()
    ax.set_facecolor("#101018")
    plots.gradient_flow({"a": [1.0, np.nan], "b": [1.0, 2.0]}, ax=ax)
    assert ax.lines[0].get_color() == look.ON_DARK[0]
    assert not [entry for entry in faint(drawn(figure)) if not entry.startswith("spine")]


@pytest.mark.parametrize("length", [3, 30, 10_000])
def test_names_of_any_length_in_a_legend(length: int) -> None:
    names = [f"{i}{'x' * length}" for i in range(5)]
    figure = plots.gradient_flow({name: [1.0, 2.0] for name in names})
    assert misplaced(drawn(figure)) == []
    shown = legend(figure.axes[0])
    assert shown == names or all(len(name) == 40 and name.endswith("...") for name in shown)


HOSTILE = ["_$x$", "<script>alert(1)</script>", "a\nb\tc", "漢", "\x00", "\ud800", "$", "%s{}", "‮"]


def test_names_are_only_text() -> None:
    figure = plots.gradient_flow({name: [1.0, 2.0] for name in HOSTILE})
    expected = [
        "_$x$",
        "<script>alert(1)</script>",
        "a⏎b⇥c",
        "U+6F22",
        "U+0000",
        "U+D800",
        "$",
        "%s{}",
        "U+202E",
    ]
    assert legend(figure.axes[0]) == expected
    drawn(figure)


def test_notes_are_broken_in_narrow_axes() -> None:
    figure = Figure(figsize=(12, 3))
    axes = figure.subplots(1, 6)
    plots.gradient_flow([np.nan, np.inf, 0.0, 1.0], log=True, ax=axes[0])
    figure.tight_layout()
    (note,) = axes[0].texts
    assert "\n" in note.get_text()
    assert notes(axes[0]) == "marked at the edge: 1 NaN (x), 1 inf (▲), 1 zero (▼) of 4"
    assert note.get_window_extent().x1 < axes[1].get_tightbbox().x0
