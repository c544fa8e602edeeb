"""How much gradient reaches which timestep, and what it is made of: the studies of `tg.bptt` on gradients."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from tensorgrad.bptt import RTRL, Contributions, GradientFlow, Horizon, Itemised
from tensorgrad.errors import DtypeError, UserError
from tensorgrad.nn.unroll import Unrolled
from tensorgrad.tensor import Tensor
from tensorgrad.viz.plots import given

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["contributions", "gradient_flow", "horizon", "itemised", "rtrl", "spectral_radius", "units"]

_NORM = r"$\|\partial L \,/\, \partial h_t\|$"
_HOW_TO_FLOW = (
    "gradient_flow: give it what the study of that name found, "
    "viz.plots.gradient_flow(tg.bptt.gradient_flow(loss, roll))"
)
# An error of truncation below this is rounding.
_ROUNDING = 1e-15


def gradient_flow(
    flows: GradientFlow | Mapping[Any, GradientFlow] | npt.ArrayLike | Mapping[Any, npt.ArrayLike],
    part: str | None = None,
    log: bool | None = None,
    ax: Axes | Sequence[Axes] | None = None,
) -> Figure:
    """How much of the gradient reaches each timestep: the norm of dL/dh_t over t.

    A line for each run and each part of the state. A norm of 0 has no place on a logarithmic scale: there a
    triangle at the edge marks it. So are NaN and infinities, on either scale.

    Args:
        flows: what `tg.bptt.gradient_flow` returned, or (T,) norms, or several by name: {"RNN": ...,
            "LSTM": ...}.
        part: the part of the state to show, such as "h"; all by default.
        log: a logarithmic scale, on which a straight line is a gradient that vanishes at one rate. By default
            a linear and a logarithmic plot side by side, in one given axes a linear.
        ax: where to draw, one axes or, for both scales, a pair; a new figure by default.

    Raises:
        ShapeError: norms are empty or not 1-d.
        DtypeError: there is nothing to show, or what is given is something else.
        UserError: a norm is negative, there is no such part, or `ax` is something else.
        PlotError: matplotlib is not installed.

    Example:
        >>> from tensorgrad.bptt import GradientFlow
        >>> figure = gradient_flow(GradientFlow({"h": np.ones((5, 1, 3))}))
        >>> [axes.get_yscale() for axes in figure.axes]
        ['linear', 'log']
    """
    what = "gradient_flow"
    if isinstance(flows, Tensor | Unrolled) or isinstance(part, Tensor | Unrolled):
        raise DtypeError(_HOW_TO_FLOW)
    series = given.quietly(lambda: _norms(what, flows, part))
    from tensorgrad.viz.plots import charts, look

    scales = (False, True) if log is None and not look.is_one(ax) else (bool(log),)
    axes = look.panels(what, ax, len(scales), (5.2 * len(scales) + 1, 4))
    for each, scale in zip(axes, scales, strict=True):
        drawn, notes = charts.lines(each, series, log=scale)
        title = f"Gradient flow through time{', log scale' if scale else ''}"
        look.dress(each, title, "timestep $t$", _NORM, notes, drawn)
    return look.figure_of(axes[0])


def spectral_radius(
    flows: Mapping[float, GradientFlow], part: str = "h", ax: Sequence[Axes] | None = None
) -> Figure:
    """Vanishing and exploding: the same network with recurrent weights of several spectral radii.

    To the left the norm of dL/dh_t, relative to that of the last timestep; to the right by what it is
    multiplied in each step back (`GradientFlow.factor`), against the spectral radius. The dashed line is what
    a linear network would do in the long run: the factor is the radius. A tanh, whose slope is under 1, falls
    short of it.

    Args:
        flows: by spectral radius of W_hh what `tg.bptt.gradient_flow` returned.
        part: the part of the state to show.
        ax: where to draw, a pair of axes; a new figure by default.

    Raises:
        DtypeError: there is nothing to show, or what is given is something else.
        UserError: there is no such part, a radius is no number, or `ax` is something else.
        PlotError: matplotlib is not installed.

    Example:
        >>> from tensorgrad.bptt import GradientFlow
        >>> flow = GradientFlow({"h": 0.5 ** np.arange(4.0)[::-1, None, None]})
        >>> figure = spectral_radius({0.5: flow})
        >>> figure.axes[1].lines[1].get_ydata().tolist()
        [0.5]
    """
    what = "spectral_radius"
    given.several(what, flows, GradientFlow)
    if not isinstance(flows, Mapping) or not all(isinstance(r, float | int | np.number) for r in flows):
        raise UserError(f"{what}: give the flows by spectral radius, {{0.5: flow, 1.5: other_flow}}")
    radii = sorted(flows)
    for radius in radii:
        given.of_part(what, flows[radius].gradients, part)
    from tensorgrad.viz.plots import charts, look

    left, right = look.panels(what, ax, 2, (11, 4))
    shades = look.gradual(left)(np.linspace(0, 1, len(radii)))
    relative = given.quietly(lambda: {f"radius {r:g}": _to_last(flows[r].norms[part]) for r in radii})
    drawn, notes = charts.lines(left, relative, log=None, colors=shades)
    look.dress(
        left,
        "Vanishing and exploding gradients",
        "timestep $t$",
        "norm of $dL/dh_t$, last one = 1",
        notes,
        drawn,
    )
    most = 1.05 * max(radii)
    (linear,) = right.plot([0, most], [0, most], **look.RULE | {"linestyle": "--"})
    factors = given.quietly(lambda: np.array([flows[r].factor(part) for r in radii]))
    measured, notes = charts.lines(right, {"measured": factors}, radii)
    right.axhline(1, **look.RULE)
    look.dress(
        right,
        "Factor of one step back",
        "spectral radius of $W_{hh}$",
        "factor",
        notes,
        measured | {"linear network": linear},
        counted="",
    )
    return look.figure_of(left)


def units(flow: GradientFlow, part: str = "h", ax: Axes | None = None) -> Figure:
    """Which units carry the gradient: the norm of dL/dh_t for each unit, units up, time to the right.

    Args:
        flow: what `tg.bptt.gradient_flow` returned.
        part: the part of the state to show.
        ax: where to draw; a new figure by default.

    Raises:
        DtypeError: `flow` is something else.
        UserError: there is no such part, or `ax` is something else.
        PlotError: matplotlib is not installed.

    Example:
        >>> from tensorgrad.bptt import GradientFlow
        >>> figure = units(GradientFlow({"h": np.ones((5, 1, 3))}))
        >>> figure.axes[0].get_ylabel()
        'unit of h'
    """
    what = "units"
    given.one(what, flow, GradientFlow)
    given.of_part(what, flow.gradients, part)
    from tensorgrad.viz.plots import charts, look

    values = given.quietly(lambda: flow.per_unit(part))
    (ax,) = look.panels(what, ax, 1, (7, 4))
    notes = charts.heat(ax, values.reshape(len(values), -1).T, "norm")
    y = f"unit of {look.plain(part)}"
    look.dress(ax, "Gradient flow by unit", "timestep $t$", y, notes, counted="xy", grid=False)
    return look.figure_of(ax)


def itemised(items: Itemised, part: str = "h", ax: Sequence[Axes] | None = None) -> Figure:
    """The triangle of norms of dL_i/dh_j, and what is left of the items in their sum.

    To the left a row for each timestep i whose loss it is, a column for each timestep j that it reaches. To
    the right the sum of the items' norms and the norm of their sum, dL/dh_j: where the lines part, items
    cancel.

    Args:
        items: what `tg.bptt.itemised` returned.
        part: the part of the state to show.
        ax: where to draw, a pair of axes; a new figure by default.

    Raises:
        DtypeError: `items` is something else.
        UserError: there is no such part, or `ax` is something else.
        PlotError: matplotlib is not installed.

    Example:
        >>> from tensorgrad.bptt import Itemised
        >>> figure = itemised(Itemised({"h": np.tri(4)}, {"h": np.array([4.0, 3, 2, 1])}))
        >>> figure.axes[0].get_ylabel()
        'from the loss of timestep $i$'
    """
    what = "itemised"
    given.one(what, items, Itemised)
    norms = given.of_part(what, items.norms, part)
    from tensorgrad.viz.plots import charts, look

    left, right = look.panels(what, ax, 2, (11, 4.2))
    notes = charts.heat(left, norms, "norm")
    left.set_ylim(len(norms) - 0.5, -0.5)
    x, y = "reaching timestep $j$", "from the loss of timestep $i$"
    look.dress(left, "Gradient itemised by loss", x, y, notes, counted="xy", grid=False)
    sums = {"sum of the items' norms": norms.sum(axis=0), "norm of their sum": items.total[part]}
    drawn, notes = charts.lines(right, sums, log=None)
    look.dress(right, "What is left in the sum", x, "norm", notes, drawn)
    return look.figure_of(left)


def contributions(
    parts: Contributions | Mapping[Any, Contributions], ax: Sequence[Axes] | None = None
) -> Figure:
    """Each timestep's share of a weight's gradient: its norm, and how much of the whole it makes up.

    Args:
        parts: what `tg.bptt.contributions` returned, or several by name.
        ax: where to draw, a pair of axes; a new figure by default.

    Raises:
        DtypeError: there is nothing to show, or what is given is something else.
        UserError: `ax` is something else.
        PlotError: matplotlib is not installed.

    Example:
        >>> from tensorgrad.bptt import Contributions
        >>> figure = contributions(Contributions(np.ones((4, 2, 2)), np.zeros((2, 2))))
        >>> figure.axes[1].lines[0].get_ydata().tolist()
        [0.25, 0.25, 0.25, 0.25]
    """
    what = "contributions"
    found = given.several(what, parts, Contributions)
    from tensorgrad.viz.plots import charts, look

    left, right = look.panels(what, ax, 2, (11, 4))
    norms = given.quietly(lambda: {name: each.norms for name, each in found.items()})
    along = given.quietly(lambda: {name: each.along for name, each in found.items()})
    drawn, notes = charts.lines(left, norms, log=None)
    look.dress(left, "Share of each timestep", "timestep $t$", "norm of the share", notes, drawn)
    drawn, notes = charts.lines(right, along)
    right.axhline(0, **look.RULE)
    y = "part of the whole, sums to 1"
    look.dress(right, "Along the whole gradient", "timestep $t$", y, notes, drawn)
    return look.figure_of(left)


def horizon(horizons: Horizon | Mapping[Any, Horizon], ax: Axes | None = None) -> Figure:
    """The error of a gradient truncated after k timesteps against k.

    The dashed line stands at 1 %. What is no more than rounding counts as 0.

    Args:
        horizons: what `tg.bptt.truncation_horizon` returned, or several by name.
        ax: where to draw; a new figure by default.

    Raises:
        DtypeError: there is nothing to show, or what is given is something else.
        UserError: `ax` is something else.
        PlotError: matplotlib is not installed.

    Example:
        >>> from tensorgrad.bptt import Horizon
        >>> figure = horizon(Horizon(np.array([1, 2]), np.array([0.5, 0.0]), np.array([0.9, 1.0])))
        >>> figure.axes[0].get_xlabel()
        'timesteps $k$ before truncation'
    """
    what = "horizon"
    found = given.several(what, horizons, Horizon)
    from tensorgrad.viz.plots import charts, look

    (ax,) = look.panels(what, ax, 1, (7, 4))
    errors = {name: np.where(each.errors < _ROUNDING, 0, each.errors) for name, each in found.items()}
    drawn, notes = charts.lines(ax, errors, start=1, log=None)
    ax.axhline(0.01, **look.RULE | {"linestyle": "--"})
    side = ax.get_yaxis_transform()
    ax.text(1.005, 0.01, "1 %", transform=side, va="center", fontsize=9, color=look.ink(ax))
    x = "timesteps $k$ before truncation"
    look.dress(ax, "Error of truncated gradients", x, "relative error", notes, drawn)
    return look.figure_of(ax)


def rtrl(found: RTRL | Mapping[Any, RTRL], ax: Sequence[Axes] | None = None) -> Figure:
    """Forward mode as it goes: the influence of the parameters on the state, and the gradient so far.

    Args:
        found: what `tg.bptt.rtrl` returned, or several by name.
        ax: where to draw, a pair of axes; a new figure by default.

    Raises:
        DtypeError: there is nothing to show, or what is given is something else.
        UserError: `ax` is something else.
        PlotError: matplotlib is not installed.

    Example:
        >>> from tensorgrad.bptt import RTRL
        >>> figure = rtrl(RTRL(1.0, [], np.ones(4), np.ones((1, 2, 3)), np.ones(4)))
        >>> [axes.get_xlabel() for axes in figure.axes]
        ['timestep $t$', 'timestep $t$']
    """
    what = "rtrl"
    several = given.several(what, found, RTRL)
    from tensorgrad.viz.plots import charts, look

    left, right = look.panels(what, ax, 2, (11, 4))
    for each, title, y, series in (
        (
            left,
            "Influence of the parameters",
            "norm of $ds_t/d\\theta$",
            {name: one.influence_norms for name, one in several.items()},
        ),
        (
            right,
            "Gradient of the losses so far",
            "norm",
            {name: one.running for name, one in several.items()},
        ),
    ):
        drawn, notes = charts.lines(each, series)
        look.dress(each, title, "timestep $t$", y, notes, drawn)
    return look.figure_of(left)


def _norms(what: str, flows: Any, part: str | None) -> dict[str, np.ndarray]:
    """The norms to show by name, of a study or as they were given."""
    found = given.named(flows)
    if not found:
        raise DtypeError(f"{what}: there are no norms to plot")
    series = {}
    for run, flow in found.items():
        if isinstance(flow, GradientFlow):
            for name, norms in flow.norms.items():
                if part in (None, name):
                    series[" ".join(filter(None, (run, "" if run and part else name)))] = norms
        else:
            values = given.numbers(what, flow, ["time"], "np.linalg.norm of tg.grad at each timestep")
            if part is not None:
                raise UserError(f"{what}: norms have no part {part!r}; leave it out")
            if (values < 0).any():
                raise UserError(f"{what}: a norm{f' of {run!r}' if run else ''} is negative")
            series[run] = values
    if not series:
        raise UserError(f"{what}: no run has a part of the state named {part!r}")
    return series


def _to_last(norms: np.ndarray) -> np.ndarray:
    """Norms relative to the last one that is a number and not 0."""
    last = norms[np.isfinite(norms) & (norms > 0)]
    return norms / last[-1] if last.size else norms
