"""Plots of gradients through time: one for each study of `tg.bptt`, with matplotlib.

Every function takes what the study of its name returned, or several by name to compare them, and returns a
matplotlib Figure.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from tensorgrad.bptt import (
    RTRL,
    Contributions,
    FixedPoints,
    GradientFlow,
    Horizon,
    Itemised,
    LyapunovExponents,
    Saturation,
    StateJacobians,
)
from tensorgrad.errors import ShapeError
from tensorgrad.viz import plots

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "contributions",
    "fixed_points",
    "gradient_flow",
    "horizon",
    "itemised",
    "lyapunov",
    "rtrl",
    "saturation",
    "singular_values",
    "spectral_radius",
    "units",
]

R = TypeVar("R")
# As many decades as a heatmap of norms tells apart below the greatest.
_DECADES = 12


def gradient_flow(
    flows: GradientFlow | Mapping[str, GradientFlow], part: str | None = None, log: bool | None = True
) -> Figure:
    """The norm of dL/dh_t over t, one line for each part of the state and each run.

    Args:
        flows: what `tg.bptt.gradient_flow` returned, or several by name: {"RNN": ..., "LSTM": ...}.
        part: the part of the state to show, such as "h"; all by default.
        log: a logarithmic scale, which shows at which rate the gradient vanishes; None for both.

    Raises:
        ShapeError: there is nothing to show, or no such part.
        PlotError: matplotlib is not installed.

    Example:
        >>> from tensorgrad.bptt import GradientFlow
        >>> figure = gradient_flow(GradientFlow({"h": np.ones((5, 1, 3))}))
        >>> figure.axes[0].get_yscale()
        'log'
    """
    series = {}
    for run, flow in _named("gradient_flow", flows, GradientFlow).items():
        for name, norms in flow.norms.items():
            if part in (None, name):
                series[" ".join(filter(None, (run, "" if run and part else name)))] = norms
    if not series:
        raise ShapeError(f"gradient_flow: no run has a part of the state named {part!r}")
    return plots.gradient_flow(series, log=log)


def spectral_radius(flows: Mapping[float, GradientFlow], part: str = "h") -> Figure:
    """Vanishing and exploding: the same network with recurrent weights of several spectral radii.

    To the left the norm of dL/dh_t, relative to that of the last timestep; to the right by what it is
    multiplied in each step back (`GradientFlow.factor`), against the spectral radius. The dashed line is what
    a linear
    network would do in the long run: the factor is the radius. A tanh, whose slope is under 1, falls short of
        it.

    Args:
        flows: by spectral radius of W_hh what `tg.bptt.gradient_flow` returned.
        part: the part of the state to show.

    Raises:
        ShapeError: there is nothing to show, or no such part.
        PlotError: matplotlib is not installed.

    Example:
        >>> from tensorgrad.bptt import GradientFlow
        >>> flow = GradientFlow({"h": 0.5 ** np.arange(4.0)[::-1, None, None]})
        >>> figure = spectral_radius({0.5: flow})
        >>> figure.axes[1].lines[1].get_ydata().tolist()
        [0.5]
    """
    if not flows or any(part not in flow.gradients for flow in flows.values()):
        raise ShapeError(f"spectral_radius: give a GradientFlow with a part {part!r} for each radius")
    look = plots._look()
    left, right = look.new_axes(11, 4, 2)
    radii = sorted(flows)
    colors = _shades(len(radii))
    for radius, color in zip(radii, colors, strict=True):
        norms = flows[radius].norms[part]
        last = norms[norms > 0][-1] if norms.any() else 1.0
        left.plot(np.where(norms > 0, norms, np.nan) / last, color=color, linewidth=1.8, label=f"{radius:g}")
    _log_y(left)
    look.dress(left, "Vanishing and exploding gradients", "timestep $t$", "norm of $dL/dh_t$, last one = 1")
    left.legend(frameon=False, title="spectral radius", fontsize=9)
    factors = [flows[radius].factor(part) for radius in radii]
    most = 1.05 * max(radii)
    right.plot([0, most], [0, most], color=look.GREY, linestyle="--", linewidth=1.2, label="linear network")
    right.plot(radii, factors, color=look.COLORS[0], marker="o", linewidth=1.8, label="measured")
    right.axhline(1, color=look.GREY, linewidth=0.8)
    look.dress(right, "Factor of one step back", "spectral radius of $W_{hh}$", "factor")
    _plain_ticks(right)
    right.legend(frameon=False, loc="upper left")
    return plots._figure_of(left)


def units(flow: GradientFlow, part: str = "h") -> Figure:
    """Which units carry the gradient: the norm of dL/dh_t for each unit, units up, time to the right.

    Args:
        flow: what `tg.bptt.gradient_flow` returned.
        part: the part of the state to show.

    Raises:
        ShapeError: no such part.
        PlotError: matplotlib is not installed.

    Example:
        >>> from tensorgrad.bptt import GradientFlow
        >>> figure = units(GradientFlow({"h": np.ones((5, 1, 3))}))
        >>> figure.axes[0].get_ylabel()
        'unit of h'
    """
    if part not in flow.gradients:
        raise ShapeError(f"units: there is no part {part!r}; parts are {', '.join(flow.gradients)}")
    values = flow.per_unit(part)
    (ax,) = plots._look().new_axes(7, 4)
    _heat(ax, values.reshape(len(values), -1).T, "norm")
    plots._look().dress(ax, "Gradient flow by unit", "timestep $t$", f"unit of {part}", grid=False)
    return plots._figure_of(ax)


def itemised(items: Itemised, part: str = "h") -> Figure:
    """The triangle of norms of dL_i/dh_j, and what is left of the items in their sum.

    To the left a row for each timestep i whose loss it is, a column for each timestep j that it reaches. To
    the right the sum of the items' norms and the norm of their sum, dL/dh_j: where the lines part, items
    cancel.

    Args:
        items: what `tg.bptt.itemised` returned.
        part: the part of the state to show.

    Raises:
        ShapeError: no such part.
        PlotError: matplotlib is not installed.

    Example:
        >>> from tensorgrad.bptt import Itemised
        >>> figure = itemised(Itemised({"h": np.tri(4)}, {"h": np.array([4.0, 3, 2, 1])}))
        >>> figure.axes[0].get_ylabel()
        'from the loss of timestep $i$'
    """
    if part not in items.norms:
        raise ShapeError(f"itemised: there is no part {part!r}; parts are {', '.join(items.norms)}")
    look = plots._look()
    left, right = look.new_axes(11, 4.2, 2)
    _heat(left, items.norms[part], "norm")
    left.invert_yaxis()
    look.dress(
        left,
        "Gradient itemised by loss",
        "reaching timestep $j$",
        "from the loss of timestep $i$",
        grid=False,
    )
    sums = {"sum of the items' norms": items.norms[part].sum(axis=0), "norm of their sum": items.total[part]}
    _lines(right, sums)
    _log_y(right)
    look.dress(right, "What is left in the sum", "reaching timestep $j$", "norm")
    return plots._figure_of(left)


def contributions(parts: Contributions | Mapping[str, Contributions]) -> Figure:
    """Each timestep's share of a weight's gradient: its norm, and how much of the whole it makes up.

    Args:
        parts: what `tg.bptt.contributions` returned, or several by name.

    Raises:
        ShapeError: there is nothing to show.
        PlotError: matplotlib is not installed.

    Example:
        >>> from tensorgrad.bptt import Contributions
        >>> figure = contributions(Contributions(np.ones((4, 2, 2)), np.zeros((2, 2))))
        >>> figure.axes[1].lines[0].get_ydata().tolist()
        [0.25, 0.25, 0.25, 0.25]
    """
    named = _named("contributions", parts, Contributions)
    look = plots._look()
    left, right = look.new_axes(11, 4, 2)
    _lines(left, {name: each.norms for name, each in named.items()})
    _log_y(left)
    look.dress(left, "Share of each timestep", "timestep $t$", "norm of the share")
    _lines(right, {name: each.along for name, each in named.items()})
    right.axhline(0, color=look.GREY, linewidth=0.8)
    look.dress(right, "Along the whole gradient", "timestep $t$", "part of the whole, sums to 1")
    return plots._figure_of(left)


def singular_values(jacobians: StateJacobians) -> Figure:
    """By how much the steps stretch: singular values of ds_t/ds_(t-1), and of ds_T/ds_t over whole spans.

    The greatest, the median and the least, of all sequences together; those lost in rounding are left
    out. Where the greatest of a span falls towards 0 the gradient vanishes, where it grows it explodes, and
    the distance to the least is how much of the past has been flattened away.

    Args:
        jacobians: what `tg.bptt.state_jacobians` returned.

    Raises:
        PlotError: matplotlib is not installed.

    Example:
        >>> from tensorgrad.bptt import StateJacobians
        >>> J = StateJacobians(np.full((5, 1, 1, 1), 0.5), np.arange(6), {"h": slice(0, 1)})
        >>> [axes.get_yscale() for axes in singular_values(J).axes]
        ['linear', 'log']
    """
    look = plots._look()
    axes = look.new_axes(11, 4, 2)
    kinds = (
        (jacobians.singular_values(), jacobians.times[1:], "One step, $ds_t/ds_{t-1}$"),
        (jacobians.spans(), jacobians.times, "From $t$ to the end, $ds_T/ds_t$"),
    )
    for ax, (values, times, title) in zip(axes, kinds, strict=True):
        # Below this a product holds nothing but rounding.
        values = np.where(values > np.finfo(values.dtype).eps * values[..., :1], values, 0)
        values = values.reshape(len(values), -1)
        named = {
            "greatest": values.max(axis=1),
            "median": np.median(values, axis=1),
            "least": values.min(axis=1),
        }
        _lines(ax, named, times)
        ax.axhline(1, color=look.GREY, linewidth=0.8)
        _log_y(ax)
        look.dress(ax, title, "timestep $t$", "singular value")
    return plots._figure_of(axes[0])


def lyapunov(exponents: LyapunovExponents | Mapping[str, LyapunovExponents]) -> Figure:
    """Lyapunov spectra, the mean over the sequences, and how the estimate of the greatest settles.

    Args:
        exponents: what `tg.bptt.lyapunov_exponents` returned, or several by name.

    Raises:
        ShapeError: there is nothing to show.
        PlotError: matplotlib is not installed.

    Example:
        >>> from tensorgrad.bptt import LyapunovExponents
        >>> figure = lyapunov(LyapunovExponents(np.zeros((1, 2)), np.zeros((9, 1, 2))))
        >>> figure.axes[1].get_xlabel()
        'timesteps counted'
    """
    named = _named("lyapunov", exponents, LyapunovExponents)
    look = plots._look()
    left, right = look.new_axes(11, 4, 2)
    spectra = {name: each.values.mean(axis=0) for name, each in named.items()}
    _lines(left, spectra, start=1)
    lost = sum(int((~np.isfinite(each.values)).any(axis=0).sum()) for each in named.values())
    notes = [f"{lost:,} exponents are -inf and left out"] if lost else []
    look.dress(left, "Lyapunov spectrum", "number of the exponent", "growth per timestep, nats", notes)
    _lines(right, {name: each.running[:, :, 0].mean(axis=1) for name, each in named.items()}, start=1)
    look.dress(right, "Estimate of the greatest", "timesteps counted", "growth per timestep, nats")
    for ax in (left, right):
        ax.axhline(0, color=look.GREY, linewidth=0.8)
    return plots._figure_of(left)


def saturation(found: Saturation) -> Figure:
    """Saturation of every sigmoid and tanh: over all timesteps, and timestep by timestep.

    To the left the shares of units near the lower end (to the left of 0) and the upper end of their range.

    Args:
        found: what `tg.bptt.saturation` returned.

    Raises:
        PlotError: matplotlib is not installed.

    Example:
        >>> from tensorgrad.bptt import Saturation
        >>> figure = saturation(Saturation({"f": np.zeros((4, 3))}, {"f": np.ones((4, 3))}, 0.1))
        >>> figure.axes[1].get_ylabel()
        'share saturated'
    """
    look = plots._look()
    left, right = look.new_axes(11, max(4.0, 1.5 + 0.3 * len(found.low)), 2)
    names = list(found.low)
    at = np.arange(len(names))
    left.barh(at, [-np.nanmean(found.low[n]) for n in names], color=look.COLORS[0], label="lower end")
    left.barh(at, [np.nanmean(found.high[n]) for n in names], color=look.COLORS[1], label="upper end")
    left.axvline(0, color=look.GREY, linewidth=0.8)
    left.set_xlim(-1, 1)
    share = f"share within {found.tail:g} of the range from its end"
    look.dress(left, "Saturation", share, "")
    ticks = np.linspace(-1, 1, 5)
    left.set_xticks(ticks, labels=[f"{abs(tick):g}" for tick in ticks])
    left.set_yticks(at, labels=names, parse_math=False)
    left.invert_yaxis()
    left.legend(frameon=False, loc="lower right", fontsize=9)
    _lines(right, found.over_time)
    right.set_ylim(-0.02, 1.02)
    look.dress(right, "Over time, both ends", "timestep $t$", "share saturated")
    return plots._figure_of(left)


def horizon(horizons: Horizon | Mapping[str, Horizon]) -> Figure:
    """The error of a gradient truncated after k timesteps against k.

    Args:
        horizons: what `tg.bptt.truncation_horizon` returned, or several by name.

    Raises:
        ShapeError: there is nothing to show.
        PlotError: matplotlib is not installed.

    Example:
        >>> from tensorgrad.bptt import Horizon
        >>> figure = horizon(Horizon(np.array([1, 2]), np.array([0.5, 0.0]), np.array([0.9, 1.0])))
        >>> figure.axes[0].get_xlabel()
        'timesteps $k$ before truncation'
    """
    named = _named("horizon", horizons, Horizon)
    look = plots._look()
    (ax,) = look.new_axes(7, 4)
    # What is left of the error when nothing is left out is rounding.
    errors = {name: np.where(each.errors > 1e-15, each.errors, np.nan) for name, each in named.items()}
    _lines(ax, errors, start=1)
    ax.axhline(0.01, color=look.GREY, linestyle="--", linewidth=1)
    ax.text(1.005, 0.01, "1 %", transform=ax.get_yaxis_transform(), va="center", fontsize=9, color=look.GREY)
    _log_y(ax)
    look.dress(ax, "Error of truncated gradients", "timesteps $k$ before truncation", "relative error")
    return plots._figure_of(ax)


def fixed_points(found: FixedPoints, visited: np.ndarray | None = None) -> Figure:
    """Fixed points in the plane of their greatest spread, and the eigenvalues of the Jacobians there.

    Args:
        found: what `tg.bptt.fixed_points` returned.
        visited: (T, S) or (T, B, S) states of a run, drawn as lines between the points.

    Raises:
        ShapeError: there are no points, or the states have another number of units.
        PlotError: matplotlib is not installed.

    Example:
        >>> from tensorgrad.bptt import FixedPoints
        >>> at = np.zeros((1, 2))
        >>> one = FixedPoints(at, at, np.zeros(1), np.eye(2)[None] / 2, np.full((1, 2), 0.5 + 0j))
        >>> fixed_points(one).axes[1].get_title(loc="left")
        'Eigenvalues of $dF/dh$'
    """
    n, S = found.points.shape
    if not n:
        raise ShapeError("fixed_points: no point was found; allow a greater tolerance, or give more starts")
    paths = np.zeros((0, 1, S)) if visited is None else np.asarray(visited, np.float64)
    paths = paths[:, None] if paths.ndim == 2 else paths
    if paths.ndim != 3 or paths.shape[-1] != S:
        raise ShapeError(f"fixed_points: visited states are (T, {S}) or (T, B, {S}), not {paths.shape}")
    look = plots._look()
    left, right = look.new_axes(11, 4.6, 2)
    everything = np.concatenate([found.points, paths.reshape(-1, S)])
    center = everything.mean(axis=0)
    axes = np.linalg.svd(everything - center, full_matrices=False)[2][:2]
    axes = np.concatenate([axes, np.zeros((2 - len(axes), S))])
    for b in range(paths.shape[1]):
        left.plot(*((paths[:, b] - center) @ axes.T).T, color=look.GREY, linewidth=0.8, alpha=0.6)
    circle = np.exp(1j * np.linspace(0, 2 * np.pi, 200))
    right.plot(circle.real, circle.imag, color=look.GREY, linewidth=1)
    kinds = np.minimum(found.unstable, 2)
    for kind, name in enumerate(("attracts", "repels in 1 direction", "repels in more")):
        where = kinds == kind
        if where.any():
            style: dict[str, Any] = {"color": look.COLORS[kind], "linestyle": "", "zorder": 3}
            style |= {"marker": look.MARKERS[kind], "markersize": 6, "alpha": 0.8}
            left.plot(*((found.points[where] - center) @ axes.T).T, label=name, **style)
            values = found.eigenvalues[where].ravel()
            right.plot(values.real, values.imag, **(style | {"markersize": 4}))
    title = f"{n} fixed point{'s' if n > 1 else ''}"
    look.dress(left, title, "first principal axis", "second principal axis")
    left.legend(frameon=False, fontsize=9)
    look.dress(right, "Eigenvalues of $dF/dh$", "real part", "imaginary part")
    right.set_aspect("equal", adjustable="datalim")
    right.margins(0.1)
    for ax in (left, right):
        _plain_ticks(ax)
    return plots._figure_of(left)


def rtrl(found: RTRL | Mapping[str, RTRL]) -> Figure:
    """Forward mode as it goes: the influence of the parameters on the state, and the gradient so far.

    Args:
        found: what `tg.bptt.rtrl` returned, or several by name.

    Raises:
        ShapeError: there is nothing to show.
        PlotError: matplotlib is not installed.

    Example:
        >>> from tensorgrad.bptt import RTRL
        >>> figure = rtrl(RTRL(1.0, [], np.ones(4), np.ones((1, 2, 3)), np.ones(4)))
        >>> [axes.get_xlabel() for axes in figure.axes]
        ['timestep $t$', 'timestep $t$']
    """
    named = _named("rtrl", found, RTRL)
    look = plots._look()
    left, right = look.new_axes(11, 4, 2)
    _lines(left, {name: each.influence_norms for name, each in named.items()})
    look.dress(left, "Influence of the parameters", "timestep $t$", "norm of $ds_t/d\\theta$")
    _lines(right, {name: each.running for name, each in named.items()})
    look.dress(right, "Gradient of the losses so far", "timestep $t$", "norm")
    for ax in (left, right):
        ax.set_ylim(bottom=0)
    return plots._figure_of(left)


def _named(what: str, given: R | Mapping[str, R], kind: type[R]) -> dict[str, R]:
    """Results by name; one alone has the name "". Raises ShapeError for what is none."""
    named: dict[str, Any] = dict(given) if isinstance(given, Mapping) else {"": given}
    wrong = [type(each).__name__ for each in named.values() if not isinstance(each, kind)]
    if wrong or not named:
        raise ShapeError(
            f"{what}: give a {kind.__name__}, or several by name, not {wrong[0] if wrong else 'an empty one'}"
        )
    return named


def _lines(
    ax: Axes, series: Mapping[str, np.ndarray], xs: Sequence[int] | np.ndarray | None = None, start: int = 0
) -> None:
    """One line a series, named in a legend where there are several; what is not finite is left out."""
    look = plots._look()
    styles = ("-", "--", ":", "-.")
    few = len(series) <= 3 and max(map(len, series.values())) <= 30
    for i, (name, values) in enumerate(series.items()):
        at = np.arange(start, start + len(values)) if xs is None else xs
        style = {"color": look.COLORS[i % len(look.COLORS)], "linewidth": 1.8}
        style["linestyle"] = styles[i // len(look.COLORS) % len(styles)]
        if few:
            style |= {"marker": look.MARKERS[i % len(look.MARKERS)], "markersize": 4}
        ax.plot(at, np.where(np.isfinite(values), values, np.nan), label=name or None, **style)
    if any(series):
        legend = ax.legend(frameon=False, fontsize=9)
        for text in legend.get_texts():
            text.set_parse_math(False)


def _log_y(ax: Axes) -> None:
    """A logarithmic scale, where the lines span a decade; otherwise a linear one from 0."""
    values = np.concatenate([np.asarray(line.get_ydata(), float) for line in ax.lines])
    positive = values[np.isfinite(values) & (values > 0)]
    if positive.size and positive.max() >= 10 * positive.min():
        ax.set_yscale("log", nonpositive="mask")
    elif positive.size:
        # With room above for the legend.
        ax.set_ylim(0, 1.3 * positive.max())


def _heat(ax: Axes, values: np.ndarray, label: str) -> None:
    """Numbers from 0 up as colors on a logarithmic scale; exact zeros stay blank."""
    from matplotlib import colormaps
    from matplotlib.colors import LogNorm

    positive = np.where(np.isfinite(values) & (values > 0), values, np.nan)
    most = float(np.nanmax(positive)) if np.isfinite(positive).any() else 1.0
    least = float(np.nanmin(positive)) if np.isfinite(positive).any() else 0.1
    norm = LogNorm(min(max(least, most * 10.0**-_DECADES), most / 10), most, clip=True)
    image = ax.imshow(
        np.ma.masked_invalid(positive),
        cmap=colormaps["viridis"].with_extremes(bad="none"),
        norm=norm,
        aspect="auto",
        interpolation="nearest",
        origin="lower",
    )
    plots._figure_of(ax).colorbar(image, ax=ax, label=label, pad=0.02).outline.set_visible(False)


def _plain_ticks(ax: Axes) -> None:
    """Ticks at any number; an axis that is no time needs no integers."""
    from matplotlib.ticker import AutoLocator

    ax.xaxis.set_major_locator(AutoLocator())


def _shades(n: int) -> list[Any]:
    """Colors in order, from low to high."""
    from matplotlib import colormaps

    shade: Callable[[float], Any] = colormaps["viridis"]
    return [shade(0.9 * i / max(n - 1, 1)) for i in range(n)]
