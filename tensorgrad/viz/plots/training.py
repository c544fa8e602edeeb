"""The loss while a model is trained."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from tensorgrad.errors import UserError
from tensorgrad.viz.plots import given

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["loss_curve"]


def loss_curve(losses: npt.ArrayLike, smooth: int | None = None, ax: Axes | None = None) -> Figure:
    """The loss step by step, and its running mean.

    Args:
        losses: (n,) numbers. What is not finite is marked at the edge and no part of the mean.
        smooth: over how many steps the mean runs back; 1 for no mean. By default a fiftieth of the steps.
        ax: where to draw; a new figure by default.

    Raises:
        ShapeError: `losses` is empty or not 1-d.
        DtypeError: `losses` are no real numbers.
        UserError: `smooth` is under 1, or `ax` is something else.
        PlotError: matplotlib is not installed.

    Example:
        >>> figure = loss_curve([3.0, 2.0, 1.5])
        >>> figure.axes[0].get_ylabel()
        'loss'
    """
    what = "loss_curve"
    values = given.numbers(what, losses, ["steps"], "loss.item() at every step")
    if smooth is None:
        smooth = max(1, len(values) // 50)
    if not isinstance(smooth, int | np.integer) or smooth < 1:
        raise UserError(f"{what}: the mean runs over a whole number of steps, at least 1, not {smooth!r}")
    from tensorgrad.viz.plots import charts, look

    (ax,) = look.panels(what, ax, 1, (7, 4))
    drawn, notes = charts.lines(ax, {"each step": values}, start=1)
    if smooth > 1:
        drawn["each step"].set(color=look.RULE["color"], linewidth=0.7)
        label = f"mean of the last {smooth:,}"
        steps = np.arange(1, len(values) + 1)
        (drawn[label],) = ax.plot(
            steps,
            _running_mean(values, charts.placed(values), smooth),
            color=look.palette(ax)[0],
            linewidth=2,
        )
    look.dress(ax, "Training loss", "step", "loss", notes, drawn if smooth > 1 else None)
    ax.margins(x=0.01)
    return look.figure_of(ax)


def _running_mean(values: np.ndarray, counted: np.ndarray, window: int) -> np.ndarray:
    """The mean of those that count among the last `window` values, (n,); NaN where there is none."""
    ones = np.ones(min(window, len(values)))
    # Each window is summed by itself: a running sum would keep the rounding of one great loss for ever.
    total = np.convolve(np.where(counted, values, 0.0), ones)[: len(values)]
    count = np.convolve(counted.astype(np.float64), ones)[: len(values)]
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)
