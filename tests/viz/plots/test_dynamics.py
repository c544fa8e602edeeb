"""Plots of what a step does to the state: spectra, singular values, Lyapunov exponents, fixed points."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import tensorgrad as tg
from tensorgrad import bptt, nn
from tensorgrad.bptt import StateJacobians
from tensorgrad.errors import DtypeError, GraphError, ShapeError
from tensorgrad.viz import plots

from .reading import data, drawn, legend, notes


@pytest.fixture(scope="module")
def jacobians() -> dict[str, StateJacobians]:
    """Of an RNN and an LSTM."""
    xs = np.random.default_rng(0).normal(size=(6, 2, 2))
    return {
        name: bptt.state_jacobians(nn.unroll(nn.make_cell(name, 2, 3, seed=0), xs))
        for name in ("rnn", "lstm")
    }


def made(values: np.ndarray) -> StateJacobians:
    return StateJacobians(values, np.arange(len(values) + 1), {"h": slice(0, values.shape[-1])})


def test_jacobian_spectrum(jacobians: Any) -> None:
    J = jacobians["lstm"]
    figure = plots.jacobian_spectrum(J)
    ax, bar = figure.axes
    (points,) = ax.collections
    expected = np.linalg.eigvals(J.values)
    times = np.repeat(J.times[1:], 2 * 6)
    shown = points.get_offsets() @ [1, 1j]
    for t in J.times[1:]:
        np.testing.assert_allclose(
            np.sort_complex(shown[points.get_array() == t]), np.sort_complex(expected.ravel()[times == t])
        )
    np.testing.assert_allclose(np.hypot(*ax.lines[0].get_data()), 1)
    assert ax.get_aspect() == 1
    assert bar.get_ylabel() == "timestep $t$"
    assert notes(ax) == ""
    drawn(figure)
    low, high = ax.get_ylim()
    assert low < -1 < 1 < high


def test_the_spectrum_of_a_long_run_is_sampled() -> None:
    n = 401
    rng = np.random.default_rng(0)
    figure = plots.jacobian_spectrum(made(rng.normal(size=(n, 2, 30, 30)) / 6))
    ax = figure.axes[0]
    assert len(ax.collections[0].get_offsets()) == 101 * 60
    assert notes(ax) == "101 of 401 steps"
    # The order in which they are drawn lets the first ones be seen.
    times = ax.collections[0].get_array()
    assert abs(np.corrcoef(times, np.arange(times.size))[0, 1]) < 0.05


def test_the_spectrum_of_one_step() -> None:
    figure = plots.jacobian_spectrum(made(np.full((1, 1, 1, 1), 0.5)))
    drawn(figure)
    assert figure.axes[0].collections[0].get_offsets().tolist() == [[0.5, 0.0]]


def test_singular_values(jacobians: Any) -> None:
    J = jacobians["lstm"]
    figure = plots.singular_values(J)
    values = J.spans()
    np.testing.assert_allclose(data(figure.axes[1]), values.max(axis=(1, 2)))
    np.testing.assert_array_equal(figure.axes[1].lines[0].get_xdata(), J.times)
    assert legend(figure.axes[0]) == ["greatest", "median", "least"]
    drawn(figure)


def test_what_is_lost_in_rounding_counts_as_zero() -> None:
    figure = plots.singular_values(made(np.tile(np.diag([1.0, 1e-9]), (3, 1, 1, 1))))
    np.testing.assert_allclose(data(figure.axes[1], 2), [np.nan, np.nan, 1e-9, 1.0])
    assert notes(figure.axes[1]) == "marked at the edge: 2 zero (▼) of 12"


@pytest.mark.parametrize("plot", [plots.singular_values, plots.jacobian_spectrum])
def test_jacobians_that_are_not_finite(plot: Any) -> None:
    values = np.ones((5, 2, 1, 1))
    values[2:4, 1] = np.nan
    with pytest.raises(GraphError, match="2 of 5 Jacobians are not finite, the first that of timestep 3"):
        plot(made(values))


@pytest.mark.parametrize("S", [1, 2])
def test_spans_that_overflow(S: int) -> None:
    with pytest.raises(GraphError, match="over 400 steps the product of the Jacobians overflows"):
        plots.singular_values(made(np.tile(10.0 * np.eye(S), (400, 1, 1, 1))))


def test_lyapunov_spectra(jacobians: Any) -> None:
    exponents = {name: bptt.lyapunov_exponents(each) for name, each in jacobians.items()}
    figure = plots.lyapunov(exponents)
    np.testing.assert_allclose(data(figure.axes[0], 1), exponents["lstm"].values.mean(axis=0))
    assert len(figure.axes[0].lines[1].get_xdata()) == 6
    drawn(figure)
    lost = bptt.lyapunov_exponents(np.broadcast_to(np.diag([1.0, 0.0]), (4, 2, 2)), warmup=1)
    assert notes(plots.lyapunov(lost).axes[0]) == "marked at the edge: 1 -inf (▼) of 2"


def test_fixed_points() -> None:
    W = 1.5 * np.eye(2)
    starts = np.random.default_rng(0).uniform(-1, 1, size=(40, 2))
    found = bptt.fixed_points(lambda x, h: (h, tg.tanh(h @ W + x)), np.zeros(2), starts)
    visited = np.stack([starts, np.tanh(starts @ W)])
    figure = plots.fixed_points(found, visited)
    left, right = figure.axes
    assert left.get_title(loc="left") == "9 fixed points"
    assert legend(left) == ["attracts", "repels in 1 direction", "repels in more"]
    assert [len(line.get_xdata()) for line in left.lines[-3:]] == [4, 4, 1]
    assert sum(len(line.get_xdata()) for line in right.lines[3:]) == 18
    drawn(figure)
    visited[1, 0] = np.nan
    drawn(plots.fixed_points(found, visited))
    for wrong, error, sentence in (
        (np.ones((4, 3)), ShapeError, r"visited states are \(T, 2\) or \(T, B, 2\), not \(4, 3\)"),
        (np.ones(3), ShapeError, r"fixed_points: .* its shape is \(3,\)"),
        (tg.tensor(np.ones((4, 2))), DtypeError, "give numbers, not a Tensor"),
        ("abc", DtypeError, "real numbers"),
    ):
        with pytest.raises(error, match=sentence):
            plots.fixed_points(found, wrong)


def test_one_fixed_point_and_none() -> None:
    one = bptt.fixed_points(lambda x, h: (h, 0.5 * h + x), np.zeros(1), np.ones((1, 1)))
    drawn(plots.fixed_points(one))
    none = bptt.fixed_points(lambda x, h: (h, h + 1.0), np.zeros(1), np.ones((1, 1)), steps=1)
    with pytest.raises(ShapeError, match="no point was found"):
        plots.fixed_points(none)
