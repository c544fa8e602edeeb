"""What a step does to the state: the studies of `tg.bptt` on Jacobians and on where the dynamics lead."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from tensorgrad.bptt import FixedPoints, LyapunovExponents, StateJacobians
from tensorgrad.errors import GraphError, ShapeError
from tensorgrad.viz.plots import given

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["fixed_points", "jacobian_spectrum", "lyapunov", "singular_values"]

# More eigenvalues than this cannot be told apart in a plot.
_EIGENVALUES = 8_000


def jacobian_spectrum(jacobians: StateJacobians, ax: Axes | None = None) -> Figure:
    """The eigenvalues of ds_t/ds_(t-1) in the complex plane with the unit circle, of all steps and sequences.

    Inside the circle a direction fades from step to step, outside it grows, off the real axis it turns. That
    is for directions that stay the same; what a step can do at most is in `singular_values`.

    Args:
        jacobians: what `tg.bptt.state_jacobians` returned. Of a long run only every so many steps are shown,
            8,000 eigenvalues at most; the plot says so.
        ax: where to draw; a new figure by default.

    Raises:
        DtypeError: `jacobians` is something else.
        GraphError: a Jacobian is not finite.
        UserError: `ax` is something else.
        PlotError: matplotlib is not installed.

    Example:
        >>> from tensorgrad.bptt import StateJacobians
        >>> turn = np.array([[0.0, -1.0], [1.0, 0.0]])
        >>> J = StateJacobians(np.tile(turn, (5, 1, 1, 1)), np.arange(6), {"h": slice(0, 2)})
        >>> shown = jacobian_spectrum(J).axes[0].collections[0].get_offsets()
        >>> np.unique(shown.round(9), axis=0).tolist()
        [[0.0, -1.0], [0.0, 1.0]]
    """
    what = "jacobian_spectrum"
    _check_jacobians(what, jacobians)
    n, B, S, _ = jacobians.values.shape
    every = -(-n * B * S // _EIGENVALUES)
    values = np.linalg.eigvals(jacobians.values[::every]).ravel()
    times = np.repeat(jacobians.times[1:][::every], B * S)
    # Shuffled, or the last steps would cover the first.
    order = np.random.default_rng(0).permutation(values.size)
    from tensorgrad.viz.plots import charts, look

    (ax,) = look.panels(what, ax, 1, (6.2, 5))
    charts.complex_plane(ax)
    points = ax.scatter(
        values.real[order],
        values.imag[order],
        c=times[order],
        cmap=look.gradual(ax),
        s=18 if values.size <= 500 else 6,
        linewidths=0,
        zorder=3,
    )
    notes = [f"{len(values) // (B * S):,} of {n:,} steps"] if every > 1 else []
    look.dress(ax, "Eigenvalues of $ds_t/ds_{t-1}$", "real part", "imaginary part", notes, counted="")
    look.color_bar(ax, points, "timestep $t$", counted=True)
    return look.figure_of(ax)


def singular_values(jacobians: StateJacobians, ax: Sequence[Axes] | None = None) -> Figure:
    """By how much the steps stretch: singular values of ds_t/ds_(t-1), and of ds_T/ds_t over whole spans.

    The greatest, the median and the least, of all sequences together; those lost in rounding count as 0.
    Where the greatest of a span falls towards 0 the gradient vanishes, where it grows it explodes, and
    the distance to the least is how much of the past has been flattened away.

    Args:
        jacobians: what `tg.bptt.state_jacobians` returned.
        ax: where to draw, a pair of axes; a new figure by default.

    Raises:
        DtypeError: `jacobians` is something else.
        GraphError: a Jacobian is not finite, or the product of them is not.
        UserError: `ax` is something else.
        PlotError: matplotlib is not installed.

    Example:
        >>> from tensorgrad.bptt import StateJacobians
        >>> J = StateJacobians(np.full((5, 1, 1, 1), 0.5), np.arange(6), {"h": slice(0, 1)})
        >>> [axes.get_yscale() for axes in singular_values(J).axes]
        ['linear', 'log']
    """
    what = "singular_values"
    _check_jacobians(what, jacobians)
    spans = _spans(what, jacobians)
    from tensorgrad.viz.plots import charts, look

    axes = look.panels(what, ax, 2, (11, 4))
    kinds = (
        (jacobians.singular_values(), jacobians.times[1:], "One step, $ds_t/ds_{t-1}$"),
        (spans, jacobians.times, "From $t$ to the end, $ds_T/ds_t$"),
    )
    for each, (values, times, title) in zip(axes, kinds, strict=True):
        # Below this a product holds nothing but rounding.
        values = np.where(values > np.finfo(values.dtype).eps * values[..., :1], values, 0)
        values = values.reshape(len(values), -1)
        series = {
            "greatest": values.max(axis=1),
            "median": np.median(values, axis=1),
            "least": values.min(axis=1),
        }
        drawn, notes = charts.lines(each, series, times, log=None)
        each.axhline(1, **look.RULE)
        look.dress(each, title, "timestep $t$", "singular value", notes, drawn)
    return look.figure_of(axes[0])


def lyapunov(
    exponents: LyapunovExponents | Mapping[Any, LyapunovExponents], ax: Sequence[Axes] | None = None
) -> Figure:
    """Lyapunov spectra, the mean over the sequences, and how the estimate of the greatest settles.

    Args:
        exponents: what `tg.bptt.lyapunov_exponents` returned, or several by name.
        ax: where to draw, a pair of axes; a new figure by default.

    Raises:
        DtypeError: there is nothing to show, or what is given is something else.
        UserError: `ax` is something else.
        PlotError: matplotlib is not installed.

    Example:
        >>> from tensorgrad.bptt import LyapunovExponents
        >>> figure = lyapunov(LyapunovExponents(np.zeros((1, 2)), np.zeros((9, 1, 2))))
        >>> figure.axes[1].get_xlabel()
        'timesteps counted'
    """
    what = "lyapunov"
    found = given.several(what, exponents, LyapunovExponents)
    from tensorgrad.viz.plots import charts, look

    left, right = look.panels(what, ax, 2, (11, 4))
    spectra = {name: each.values.mean(axis=0) for name, each in found.items()}
    greatest = {name: each.running[:, :, 0].mean(axis=1) for name, each in found.items()}
    for each, series, title, x in (
        (left, spectra, "Lyapunov spectrum", "number of the exponent"),
        (right, greatest, "Estimate of the greatest", "timesteps counted"),
    ):
        drawn, notes = charts.lines(each, series, start=1)
        each.axhline(0, **look.RULE)
        look.dress(each, title, x, "growth per timestep, nats", notes, drawn)
    return look.figure_of(left)


def fixed_points(
    found: FixedPoints, visited: npt.ArrayLike | None = None, ax: Sequence[Axes] | None = None
) -> Figure:
    """Fixed points in the plane of their greatest spread, and the eigenvalues of the Jacobians there.

    Args:
        found: what `tg.bptt.fixed_points` returned.
        visited: (T, S) or (T, B, S) states of a run, drawn as lines between the points.
        ax: where to draw, a pair of axes; a new figure by default.

    Raises:
        ShapeError: there are no points, or the states have another number of units.
        DtypeError: `found` is something else, or `visited` are no real numbers.
        UserError: `ax` is something else.
        PlotError: matplotlib is not installed.

    Example:
        >>> from tensorgrad.bptt import FixedPoints
        >>> at = np.zeros((1, 2))
        >>> one = FixedPoints(at, at, np.zeros(1), np.eye(2)[None] / 2, np.full((1, 2), 0.5 + 0j))
        >>> fixed_points(one).axes[1].get_title(loc="left")
        'Eigenvalues of $dF/dh$'
    """
    what = "fixed_points"
    given.one(what, found, FixedPoints)
    n, S = found.points.shape
    if not n:
        raise ShapeError(f"{what}: no point was found; allow a greater tolerance, or give more starts")
    paths = np.zeros((0, 1, S)) if visited is None else _paths(what, visited, S)
    from tensorgrad.viz.plots import charts, look

    left, right = look.panels(what, ax, 2, (11, 4.6))
    plane = _plane(np.concatenate([found.points, paths.reshape(-1, S)]))
    for b in range(paths.shape[1]):
        left.plot(*plane(paths[:, b]), **look.RULE | {"linewidth": 0.8})
    charts.complex_plane(right)
    kinds = np.minimum(found.unstable, 2)
    drawn = {}
    for kind, name in enumerate(("attracts", "repels in 1 direction", "repels in more")):
        where = kinds == kind
        if where.any():
            style: dict[str, Any] = {"color": look.palette(left)[kind], "marker": look.MARKERS[kind]}
            style |= {"linestyle": "", "zorder": 3}
            (drawn[name],) = left.plot(*plane(found.points[where]), markersize=6, **style)
            values = found.eigenvalues[where].ravel()
            right.plot(values.real, values.imag, markersize=4, **style)
    title = f"{n:,} fixed point{'s' if n > 1 else ''}"
    look.dress(left, title, "first principal axis", "second principal axis", (), drawn, counted="")
    look.dress(right, "Eigenvalues of $dF/dh$", "real part", "imaginary part", counted="")
    return look.figure_of(left)


def _check_jacobians(what: str, jacobians: Any) -> None:
    given.one(what, jacobians, StateJacobians)
    lost = ~np.isfinite(jacobians.values).all(axis=(1, 2, 3))
    if lost.any():
        first = jacobians.times[1:][lost][0]
        raise GraphError(
            f"{what}: {int(lost.sum()):,} of {len(lost):,} Jacobians are not finite, the first that of "
            f"timestep {first}; tg.detect_anomaly() finds the operation"
        )


def _spans(what: str, jacobians: StateJacobians) -> np.ndarray:
    """The singular values of whole spans. Raises GraphError where their product overflows."""
    try:
        with np.errstate(over="ignore", invalid="ignore"):
            spans = jacobians.spans()
    except np.linalg.LinAlgError:
        spans = np.array(np.inf)
    if not np.isfinite(spans).all():
        raise GraphError(
            f"{what}: over {len(jacobians.values):,} steps the product of the Jacobians overflows; study a "
            "shorter run, or lyapunov_exponents, which never forms the product"
        )
    return spans


def _paths(what: str, visited: npt.ArrayLike, S: int) -> np.ndarray:
    """States of runs, (T, B, S)."""
    single = np.ndim(visited) == 2
    axes = ["time", "units"] if single else ["time", "batch", "units"]
    paths = given.numbers(what, visited, axes)
    if paths.shape[-1] != S:
        raise ShapeError(f"{what}: visited states are (T, {S}) or (T, B, {S}), not {paths.shape}")
    return paths[:, None] if single else paths


def _plane(points: np.ndarray) -> Any:
    """The function from points (n, S) to coordinates (2, n) in the plane in which these spread the most."""
    points = points[np.isfinite(points).all(axis=1)]
    center = points.mean(axis=0)
    axes = np.linalg.svd(points - center, full_matrices=False)[2][:2]
    axes = np.concatenate([axes, np.zeros((2 - len(axes), points.shape[1]))])
    return lambda some: ((some - center) @ axes.T).T
