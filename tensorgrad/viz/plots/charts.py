"""The three kinds of picture that plots consist of: lines through time, heat maps, and the complex plane."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from tensorgrad.viz.plots import look

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes

__all__ = ["complex_plane", "heat", "lines", "placed", "span_of"]

_DASHES: tuple[Any, ...] = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)))
# With more points than this a line shows better with a marker only here and there.
_MARKED = 60
# With more points than this a line is thin, so that several can be told apart.
_THIN = 200
# As many decades as a heat map of norms tells apart below the greatest.
_DECADES = 12
# Where more cells than this are no numbers, only so many have a sign.
_SIGNED = 300
# Beyond this the arithmetic of axes overflows.
_HUGE = 1e250
# What has no place on a scale: as it is called in a note, its marker, and which numbers it is.
_NOWHERE: dict[str, tuple[str, Callable[[np.ndarray], np.ndarray]]] = {
    "NaN (x)": ("x", np.isnan),
    "inf (▲)": ("^", np.isposinf),
    "-inf (▼)": ("v", np.isneginf),
    f"over {_HUGE:g} (▲)": ("^", lambda values: np.isfinite(values) & (values > _HUGE)),
    f"under {-_HUGE:g} (▼)": ("v", lambda values: np.isfinite(values) & (values < -_HUGE)),
}


def placed(values: np.ndarray) -> np.ndarray:
    """Which numbers have a place on a scale: the finite ones, but for a few that axes cannot reckon with."""
    return np.abs(values) <= _HUGE


def lines(
    ax: Axes,
    series: Mapping[str, np.ndarray],
    xs: Sequence[float] | np.ndarray | None = None,
    start: int = 0,
    log: bool | None = False,
    colors: Sequence[Any] | np.ndarray | None = None,
) -> tuple[dict[str, Artist], list[str]]:
    """One line for each series, apart in colour, dash and marker; what has no place on the scale is marked.

    A NaN is marked x at the lower edge, an infinity by a triangle at its edge, and so is a 0 on a logarithmic
    scale. Gives the lines by name, for a legend, and the notes that say what was marked.

    xs: where the values stand; by default they are counted from `start`.
    log: a logarithmic scale; None for one where the values span a decade.
    """
    colors = look.palette(ax) if colors is None else colors
    every = np.concatenate(list(series.values()))
    positive = every[placed(every) & (every > 0)]
    if log is None:
        log = bool(positive.size) and positive.max() >= 10 * positive.min()
    drawn: dict[str, Artist] = {}
    for i, (name, values) in enumerate(series.items()):
        shown = placed(values) & ~((values <= 0) & log)
        marked = _marked(shown, i, len(series))
        (line,) = ax.plot(
            np.arange(start, start + len(values)) if xs is None else xs,
            np.where(shown, values, np.nan),
            color=colors[i % len(colors)],
            linewidth=1.8 if len(values) <= _THIN else 1.1,
            linestyle=_DASHES[i % len(_DASHES)],
            marker=look.MARKERS[i % len(look.MARKERS)] if marked else "",
            markersize=4,
            markevery=marked,
        )
        drawn[name] = line
    nowhere = _NOWHERE | ({"zero (▼)": ("v", np.logical_not)} if log else {})
    notes = _mark_edges(ax, list(drawn.values()), list(series.values()), nowhere)
    if log and positive.size:
        ax.set_yscale("log", nonpositive="mask")
    elif log:
        # Nothing to give a logarithmic scale its range.
        ax.set_yticks([])
    else:
        ax.set_yscale("linear")
        if positive.size and not (every < 0).any():
            ax.set_ylim(bottom=0)
    return {name: line for name, line in drawn.items() if name}, notes


def _marked(shown: np.ndarray, i: int, n: int) -> list[int]:
    """Which points of the i-th of n lines have a marker; always those without a neighbour to be joined to."""
    T = len(shown)
    if T <= _MARKED:
        return list(range(T))
    padded = np.concatenate([[False], shown, [False]])
    alone = np.flatnonzero(shown & ~padded[:-2] & ~padded[2:])
    apart = range(T // 8 * i // n, T if n > 1 else 0, T // 8)
    return sorted({*apart, *alone.tolist()})


def _mark_edges(
    ax: Axes, drawn: list[Any], series: list[np.ndarray], nowhere: Mapping[str, Any]
) -> list[str]:
    """Markers at the edges for what lines cannot show, each line's in its colour and at its own height."""
    told = []
    for name, (marker, found) in nowhere.items():
        count = 0
        for i, (line, values) in enumerate(zip(drawn, series, strict=True)):
            at = np.asarray(line.get_xdata())[found(values)]
            if not len(at):
                continue
            inwards = 0.02 + 0.03 * (i % 6)
            ax.plot(
                at,
                np.full(len(at), 1 - inwards if marker == "^" else inwards),
                transform=ax.get_xaxis_transform(),
                color=line.get_color(),
                linestyle="",
                marker=marker,
                markersize=5 if len(at) <= _MARKED else 3,
                clip_on=False,
            )
            count += len(at)
        told += [f"{count:,} {name}"] if count else []
    return [f"marked at the edge: {', '.join(told)} of {sum(map(len, series)):,}"] if told else []


def heat(
    ax: Axes,
    values: np.ndarray,
    label: str,
    span: tuple[float, float] | None = None,
    blank: np.ndarray | None = None,
) -> list[str]:
    """Numbers (rows, columns) as colours with a colour bar; gives the notes that say what has no colour.

    What is not finite is grey, with a sign in it.

    span: the least and the greatest number; where 0 lies between, it is the middle of two hues. None for
        norms, from 0 up and on a logarithmic scale: an exact 0 stays blank.
    blank: cells that stand for nothing.
    """
    from matplotlib import colormaps
    from matplotlib.colors import ListedColormap, LogNorm, Normalize

    blank = np.zeros(values.shape, bool) if blank is None else blank
    notes = []
    if span is None and (values == 0).any():
        notes.append("blank: exactly 0")
        blank = blank | (values == 0)
    bad = ~placed(values) & ~blank
    # In place of the numbers that are not shown, since the drawing reckons with what a mask hides.
    shown = np.ma.masked_invalid(np.where(bad | blank, np.nan, values))
    cells: dict[str, Any] = {
        "aspect": "auto",
        "origin": "lower",
        # Where cells are smaller than pixels, means of them, so that none is lost.
        "interpolation": "nearest" if max(values.shape) <= 1000 else "auto",
    }
    extend, colors, norm = "neither", colormaps["viridis"], Normalize(0, 1)
    if span is not None:
        colors, norm = look.signed(ax) if span[0] < 0 else colors, Normalize(*span)
    elif shown.count():
        least, most = float(shown.min()), float(shown.max())
        extend = "min" if least < most * 10.0**-_DECADES else "neither"
        norm = LogNorm(min(max(least, most * 10.0**-_DECADES), most / 10), most, clip=True)
    image = ax.imshow(shown, cmap=colors.with_extremes(bad="none"), norm=norm, **cells)
    if bad.any():
        ax.imshow(np.ma.masked_where(~bad, bad), cmap=ListedColormap([look.GREY]), **cells)
        notes.append(_sign_cells(ax, values, bad))
    look.color_bar(ax, image, label, extend=extend)
    return notes


def _sign_cells(ax: Axes, values: np.ndarray, bad: np.ndarray) -> str:
    """Signs in the cells that are no numbers, and the note of how many there are."""
    told = []
    for name, (marker, found) in _NOWHERE.items():
        rows, columns = np.nonzero(found(values) & bad)
        if rows.size:
            told.append(f"{rows.size:,} {name}")
            ax.plot(
                columns[:_SIGNED],
                rows[:_SIGNED],
                linestyle="",
                marker=marker.upper() if marker == "x" else marker,
                markersize=5,
                markerfacecolor="white",
                markeredgecolor="black",
                scalex=False,
                scaley=False,
            )
    return f"grey: {', '.join(told)} of {values.size:,}"


def span_of(values: np.ndarray, signed: bool = False) -> tuple[float, float]:
    """From 0 to the greatest number, or as far to both sides of 0 where one is below it or `signed` says so.

    >>> span_of(np.array([1.0, np.nan, -3.0])), span_of(np.array([2.0, np.inf]))
    ((-3.0, 3.0), (0.0, 2.0))
    """
    numbers = values[placed(values)]
    most = float(np.abs(numbers).max(initial=0.0)) or 1.0
    return (-most if signed or (numbers < 0).any() else 0.0, most)


def complex_plane(ax: Axes) -> None:
    """The unit circle and both axes, with one scale for both directions."""
    circle = np.exp(1j * np.linspace(0, 2 * np.pi, 361))
    ax.plot(circle.real, circle.imag, **look.RULE)
    ax.axhline(0, **look.RULE | {"linewidth": 0.5})
    ax.axvline(0, **look.RULE | {"linewidth": 0.5})
    ax.set_aspect("equal", adjustable="datalim")
    ax.margins(0.08)
