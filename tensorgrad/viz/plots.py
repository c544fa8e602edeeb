"""Plots of training, of gradients through time, and of where attention looks, with matplotlib.

Every function returns a matplotlib Figure, or draws into axes it is given and returns theirs. pyplot takes no
part: save a figure with its `savefig`, or let a notebook show it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from tensorgrad.errors import ShapeError, TensorgradError
from tensorgrad.nn.unroll import Unrolled
from tensorgrad.tensor import Tensor

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["PlotError", "alignment", "gradient_flow", "hidden_states", "loss_curve"]

_NORM = r"$\|\partial L \,/\, \partial h_t\|$"
_HOW_TO_FLOW = """gradient_flow: give it the norm of the gradient at each timestep, computed beforehand:
    grads = tg.grad(loss, [step["h"] for step in roll.steps])
    viz.plots.gradient_flow([np.linalg.norm(g) for g in grads])"""
# With more points than this a line shows better without their markers.
_MARKED = 60


class PlotError(TensorgradError, ImportError):
    """Plots need matplotlib, and it is not installed."""


def loss_curve(losses: npt.ArrayLike, smooth: int | None = None, ax: Axes | None = None) -> Figure:
    """The loss step by step, and its running mean.

    Args:
        losses: (n,) numbers. What is not finite is left out, and the plot says so.
        smooth: over how many steps the mean runs back; 1 for no mean. By default a fiftieth of the steps.
        ax: where to draw; a new figure by default.

    Raises:
        ShapeError: `losses` is empty or not 1-d, or `smooth` is under 1.
        PlotError: matplotlib is not installed.

    Example:
        >>> figure = loss_curve([3.0, 2.0, 1.5])
        >>> figure.axes[0].get_ylabel()
        'loss'
    """
    values = _numbers("loss_curve", losses, 1)
    if smooth is None:
        smooth = max(1, len(values) // 50)
    if smooth < 1:
        raise ShapeError(f"loss_curve: the mean must run over at least 1 step, not {smooth}")
    look = _look()
    if ax is None:
        (ax,) = look.new_axes(7, 4)
    steps = np.arange(1, len(values) + 1)
    finite = np.isfinite(values)
    shown = np.where(finite, values, np.nan)
    if smooth == 1:
        ax.plot(
            steps, shown, color=look.COLORS[0], linewidth=1.6, marker="." if len(values) <= _MARKED else ""
        )
    else:
        ax.plot(steps, shown, color=look.COLORS[0], linewidth=0.7, alpha=0.45, label="each step")
        label = f"mean of the last {smooth:,}"
        ax.plot(steps, _running_mean(values, finite, smooth), color=look.COLORS[0], linewidth=2, label=label)
        ax.legend(frameon=False, loc="upper right")
    look.dress(ax, "Training loss", "step", "loss", _left_out("losses", values))
    ax.margins(x=0.01)
    return _figure_of(ax)


def gradient_flow(
    norms: npt.ArrayLike | Mapping[str, npt.ArrayLike], log: bool | None = None, ax: Axes | None = None
) -> Figure:
    """How much of the gradient reaches each timestep: the norm of dL/dh_t over t.

    Args:
        norms: (T,) numbers from 0 up, or several such series by name. A zero has no place on a logarithmic
            scale: there a triangle on the time axis marks it. What is not finite is left out, with a note.
        log: a logarithmic scale; by default a linear and a logarithmic plot side by side, in `ax` a linear.
        ax: where to draw; a new figure by default.

    Raises:
        ShapeError: a series is empty, not 1-d or has a negative number; or there is none; or a Tensor or an
            unrolled run was given in place of norms.
        PlotError: matplotlib is not installed.

    Example:
        >>> figure = gradient_flow([0.001, 0.01, 0.1, 1.0])
        >>> [axes.get_yscale() for axes in figure.axes]
        ['linear', 'log']
    """
    if isinstance(norms, Tensor | Unrolled) or isinstance(log, Unrolled):
        raise ShapeError(_HOW_TO_FLOW)
    named = norms if isinstance(norms, Mapping) else {"": norms}
    series = {name: _numbers("gradient_flow", each, 1) for name, each in named.items()}
    if not series:
        raise ShapeError("gradient_flow: there are no norms to plot")
    for name, values in series.items():
        if (values < 0).any():
            raise ShapeError(f"gradient_flow: a norm{f' of {name!r}' if name else ''} is negative")
    look = _look()
    if ax is not None:
        _flow(ax, series, bool(log))
        return _figure_of(ax)
    scales = (False, True) if log is None else (log,)
    axes = look.new_axes(5.2 * len(scales) + 1, 4, len(scales))
    for each, scale in zip(axes, scales, strict=True):
        _flow(each, series, scale)
    return _figure_of(axes[0])


def hidden_states(hs: npt.ArrayLike, tokens: Sequence[Any] | None = None, ax: Axes | None = None) -> Figure:
    """What the state holds while a sequence goes by: units up, time to the right, blue below 0 and red above.

    Args:
        hs: (T, H) numbers, the state at each timestep.
        tokens: T tokens that were read, to stand below their timesteps.
        ax: where to draw; a new figure by default.

    Raises:
        ShapeError: `hs` is empty or not 2-d, or the number of tokens is not T.
        PlotError: matplotlib is not installed.

    Example:
        >>> figure = hidden_states(np.zeros((5, 3)), tokens="hello")
        >>> [label.get_text() for label in figure.axes[0].get_xticklabels()]
        ['h', 'e', 'l', 'l', 'o']
    """
    values = _numbers("hidden_states", hs, 2, "time and hidden units")
    T, H = values.shape
    if tokens is not None and len(tokens) != T:
        raise ShapeError(f"hidden_states: {len(tokens)} tokens do not go with {T} timesteps")
    look = _look()
    width = min(max(0.17 * T + 2.5, 6.0), 16.0)
    if ax is None:
        (ax,) = look.new_axes(width, min(max(0.09 * H + 2, 3.5), 7.0))
    finite = np.isfinite(values)
    most = float(np.abs(values[finite]).max(initial=0.0)) or 1.0
    from matplotlib import colormaps

    colors = colormaps["RdBu_r"].with_extremes(bad=look.GREY)
    image = ax.imshow(
        np.where(finite, values, np.nan).T,
        cmap=colors,
        vmin=-most,
        vmax=most,
        aspect="auto",
        interpolation="nearest",
        origin="lower",
    )
    time = "timestep" if tokens is None else "token"
    notes = _left_out("activations", values, "grey")
    look.dress(ax, "Hidden states over time", time, "hidden unit", notes, grid=False)
    if tokens is not None:
        _token_ticks(ax.xaxis, tokens, width)
    ax.figure.colorbar(image, ax=ax, label="activation", pad=0.02).outline.set_visible(False)
    return _figure_of(ax)


def alignment(
    weights: npt.ArrayLike,
    source: Sequence[Any] | None = None,
    target: Sequence[Any] | None = None,
    ax: Axes | None = None,
) -> Figure:
    """Where attention looks: a row for each token written, the source to the right, darker for more.

    Args:
        weights: (T_out, T_in) numbers from 0 to 1, the share of each source token in what a target token saw.
        source: T_in tokens that were read.
        target: T_out tokens that were written.
        ax: where to draw; a new figure by default.

    Raises:
        ShapeError: `weights` is empty or not 2-d, or the number of tokens is another.
        PlotError: matplotlib is not installed.

    Example:
        >>> figure = alignment(np.eye(3)[::-1], "abc", "cba")
        >>> [label.get_text() for label in figure.axes[0].get_yticklabels()]
        ['c', 'b', 'a']
    """
    values = _numbers("alignment", weights, 2, "target and source")
    T_out, T_in = values.shape
    for name, tokens, T in (("source", source, T_in), ("target", target, T_out)):
        if tokens is not None and len(tokens) != T:
            raise ShapeError(f"alignment: {len(tokens)} {name} tokens do not go with weights {values.shape}")
    look = _look()
    width, height = (min(max(0.26 * T + 2, 4.0), 12.0) for T in (T_in, T_out))
    if ax is None:
        (ax,) = look.new_axes(width, height)
    from matplotlib import colormaps

    colors = colormaps["Blues"].with_extremes(bad=look.GREY)
    shown = np.where(np.isfinite(values), values, np.nan)
    image = ax.imshow(shown, cmap=colors, vmin=0, vmax=1, aspect="auto", interpolation="nearest")
    notes = _left_out("weights", values, "grey")
    axes = ("source" if source is None else "source token", "target" if target is None else "target token")
    look.dress(ax, "Alignment", *axes, notes, grid=False)
    if source is not None:
        _token_ticks(ax.xaxis, source, width)
    if target is not None:
        _token_ticks(ax.yaxis, target, height)
    ax.figure.colorbar(image, ax=ax, label="weight", pad=0.02).outline.set_visible(False)
    return _figure_of(ax)


def _token_ticks(axis: Any, tokens: Sequence[Any], inches: float) -> None:
    """Tokens along an axis, as many as there is room for; names lie along x where they are long."""
    look = _look()
    at = range(0, len(tokens), math.ceil(len(tokens) / (6 * inches)))
    axis.set_ticks(at, labels=[look.visible(tokens[t]) for t in at], parse_math=False, fontsize=9)
    if axis.axis_name == "x":
        for label in axis.get_ticklabels():
            label.set_rotation(90 if len(label.get_text()) > 2 else 0)


def _look() -> Any:
    """The module that needs matplotlib."""
    try:
        from tensorgrad.viz import look
    except ImportError as error:
        if (error.name or "").partition(".")[0] != "matplotlib":
            raise
        raise PlotError("plots need matplotlib: pip install 'tensorgrad-rnn[app]'") from None
    return look


def _figure_of(ax: Axes) -> Figure:
    figure = ax.get_figure(root=True)
    assert figure is not None
    return figure


def _numbers(what: str, values: npt.ArrayLike, ndim: int, axes: str = "") -> np.ndarray:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != ndim or not array.size:
        wanted = f"two axes, {axes}," if axes else "one axis"
        raise ShapeError(
            f"{what}: what to plot has {wanted} and is not empty, but its shape is {array.shape}"
        )
    return array


def _left_out(what: str, values: np.ndarray, shown: str = "left out") -> list[str]:
    """A line on what cannot be drawn, if anything."""
    bad = int(values.size - np.isfinite(values).sum())
    return [f"{bad:,} of {values.size:,} {what} not finite, {shown}"] if bad else []


def _running_mean(values: np.ndarray, finite: np.ndarray, window: int) -> np.ndarray:
    """The mean of the finite ones among the last `window` values, (n,); NaN where there is none."""
    sums = np.concatenate([[0.0], np.cumsum(np.where(finite, values, 0.0))])
    counts = np.concatenate([[0], np.cumsum(finite)])
    first = np.maximum(np.arange(1, len(values) + 1) - window, 0)
    total, count = sums[1:] - sums[first], counts[1:] - counts[first]
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def _flow(ax: Axes, series: Mapping[str, np.ndarray], log: bool) -> None:
    """One plot of gradient norms."""
    look = _look()
    notes = []
    lines = []
    for i, (name, values) in enumerate(series.items()):
        color, marker = look.COLORS[i % len(look.COLORS)], look.MARKERS[i % len(look.MARKERS)]
        zero = values == 0
        shown = np.isfinite(values) & ~(zero & log)
        (line,) = ax.plot(
            np.where(shown, values, np.nan),
            color=color,
            linewidth=1.8,
            marker=marker if len(values) <= _MARKED else "",
            markersize=4,
        )
        lines.append(line)
        of = f" of {name}" if name else ""
        notes += _left_out(f"norms{of}", values)
        if log and zero.any():
            at = np.flatnonzero(zero)
            ax.plot(
                at,
                np.full(at.size, 0.015),
                transform=ax.get_xaxis_transform(),
                **{"color": color, "marker": "v", "linestyle": "", "markersize": 5, "clip_on": False},
            )
            notes.append(f"▾ exactly 0{of} at {at.size:,} of {values.size:,} timesteps")
    title = f"Gradient flow through time{', log scale' if log else ''}"
    look.dress(ax, title, "timestep $t$", _NORM, notes)
    if not log:
        ax.set_ylim(bottom=0)
    elif any((values[np.isfinite(values)] > 0).any() for values in series.values()):
        ax.set_yscale("log")
    else:
        # Nothing to give a logarithmic scale its range.
        ax.set_yticks([])
    if any(series):
        legend = ax.legend(lines, [str(i) for i in range(len(lines))], frameon=False)
        # Set afterwards: matplotlib takes dollars for mathematics and leaves out names that begin with "_".
        for text, name in zip(legend.get_texts(), series, strict=True):
            text.set_parse_math(False)
            text.set_text(name)
