"""The common look of the plots: axes, colours, titles, legends and ticks.

Figures are made without pyplot: nothing is kept alive behind the caller's back, no window is opened and no
display is needed. Colours follow the background that the user's style gives to axes.
"""

from __future__ import annotations

import io
import math
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tensorgrad.errors import UserError
from tensorgrad.viz.plots.contrast import contrast, is_dark, standing_out
from tensorgrad.viz.plots.given import PlotError

try:
    from matplotlib import colormaps
except ImportError as error:
    if (error.name or "").partition(".")[0] != "matplotlib":
        raise
    raise PlotError("plots need matplotlib: pip install 'tensorgrad-rnn[app]'", name="matplotlib") from None
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.colors import Colormap, ListedColormap, to_rgba
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, get_font
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import MaxNLocator
from matplotlib.transforms import ScaledTranslation

__all__ = [
    "GREY",
    "MARKERS",
    "ON_DARK",
    "ON_LIGHT",
    "RULE",
    "TOKEN",
    "Plot",
    "background",
    "color_bar",
    "dress",
    "figure_of",
    "gradual",
    "ink",
    "is_one",
    "palette",
    "panels",
    "plain",
    "signed",
    "token_ticks",
    "visible",
]

# For series, in the order in which they are used. They differ in lightness as well as in hue, so that the
# colour-blind can tell them apart, and each has a contrast over 3 with white and light grey, or with black.
ON_LIGHT = ("#1C5FD4", "#D63D0C", "#00806B", "#C42DA0", "#2B1B5E", "#5C2A00")
ON_DARK = ("#6E8CFF", "#E08A2E", "#6FEBA0", "#FF4D9E", "#C3E0FB", "#F0E442")
# For grids, reference lines and what is not a number: a contrast over 3 with light and dark alike.
GREY = "#757C88"
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
# A line that the data is read against.
RULE: dict[str, Any] = {"color": GREY, "linewidth": 1.0, "zorder": 1.5}
# Letters of a token that are shown.
TOKEN = 12
# Of the letters of tokens, in points: as they are best, the least, and their part of the room that each has.
_TOKEN_SIZE, _LEAST_TOKEN_SIZE, _ROOM = 9.0, 6.0, 0.75
_SIGNS = {"\n": "⏎", "\t": "⇥", "\r": "␍"}


class Plot(Figure):
    """A figure that shows itself in a notebook, also where pyplot was never imported."""

    def _repr_png_(self) -> bytes:
        buffer = io.BytesIO()
        self.savefig(buffer, format="png", dpi=110)
        return buffer.getvalue()


# --- where to draw ---------------------------------------------------------------------------------------
def panels(what: str, ax: Any, n: int, size: tuple[float, float], stacked: bool = False) -> list[Axes]:
    """The n axes to draw in: those given, or new ones in a figure of that many inches.

    stacked: one above the other, with one time axis, in place of side by side.
    Raises UserError for another number of axes, or another kind.
    """
    if ax is None:
        figure = Plot(figsize=size, layout=ConstrainedLayoutEngine(h_pad=0.08, w_pad=0.08))
        grid = figure.subplots(*((n, 1) if stacked else (1, n)), squeeze=False, sharex=stacked)
        return list(grid.flat)
    given = [ax] if isinstance(ax, Axes) else list(np.ravel(np.array(ax, dtype=object)))
    wanted = (
        "one axes" if n == 1 else f"{n} axes, such as figure.subplots({'' if stacked else '1, '}{n}) gives"
    )
    wrong = next((each for each in given if not isinstance(each, Axes)), None)
    if wrong is not None:
        raise UserError(f"{what}: ax takes {wanted}, but it has a {type(wrong).__name__}")
    if len(given) != n or len(set(map(id, given))) != n:
        raise UserError(f"{what}: ax takes {wanted}, not {len(set(map(id, given)))}")
    if any(each.name != "rectilinear" for each in given):
        raise UserError(f"{what}: ax takes plain axes, not {given[0].name} ones")
    return given


def is_one(ax: Any) -> bool:
    """Whether a single axes was given."""
    return isinstance(ax, Axes)


def figure_of(ax: Axes) -> Figure:
    """The whole figure that axes belong to."""
    figure = ax.get_figure(root=True)
    assert figure is not None
    return figure


# --- colours ---------------------------------------------------------------------------------------------
def background(ax: Axes) -> np.ndarray:
    """The colour behind the data: that of the axes, over that of the figure, over white."""
    return _over(ax.get_facecolor(), _around(ax))


def palette(ax: Axes) -> Sequence[str]:
    """Colours of series that stand out from what is behind them."""
    return ON_DARK if is_dark(background(ax)) else ON_LIGHT


def gradual(ax: Axes) -> Colormap:
    """Colours from early to late that all stand out: the part of plasma that does."""
    return ListedColormap(standing_out(colormaps["plasma"](np.linspace(0, 1, 512))[:, :3], background(ax)))


def signed(ax: Axes) -> Colormap:
    """Colours of numbers on both sides of 0, which fades into the background; both perceptually uniform.

    Sources: Moreland, "Diverging Color Maps for Scientific Visualization" (2009); Crameri, Shephard, Heron,
    "The misuse of colour in science communication" (2020).
    """
    return colormaps["berlin" if is_dark(background(ax)) else "coolwarm"]


def ink(ax: Axes) -> Any:
    """The colour of text around the axes: that of their style where it can be read, else black or white."""
    around = _around(ax)
    color = ax.title.get_color()
    if contrast(to_rgba(color), around) >= 4.5:
        return color
    return "white" if is_dark(around) else "black"


def _around(ax: Axes) -> np.ndarray:
    return _over(figure_of(ax).get_facecolor(), np.ones(3))


def _over(color: Any, behind: np.ndarray) -> np.ndarray:
    *rgb, alpha = to_rgba(color)
    return alpha * np.array(rgb) + (1 - alpha) * behind


# --- what stands around the data -------------------------------------------------------------------------
def dress(
    ax: Axes,
    title: str,
    x: str,
    y: str,
    notes: Sequence[str] = (),
    legend: Mapping[str, Artist] | None = None,
    counted: str = "x",
    grid: bool = True,
) -> None:
    """Title, legend, notes, axis labels, grid and frame as all plots have them.

    notes: what a reader must know about the data, a line each, above the data.
    legend: artists by what they show; it stands above the data too, so that it hides none.
    counted: which axes ("x", "y", "xy") are numbers of things, with no ticks in between.
    """
    color, width = ink(ax), _points(ax)
    top = 5.0
    notes = [
        row for note in notes for row in textwrap.wrap(plain(note, limit=200), max(15, int(width / 4.6)))
    ]
    if notes:
        text = ax.annotate(
            "\n".join(notes),
            (0, 1),
            (0, top),
            xycoords="axes fraction",
            textcoords="offset points",
            va="bottom",
            fontsize=8.5,
            color=color,
        )
        text.set_parse_math(False)
        top += 11.5 * len(notes) + 2
    if legend:
        top += _legend(ax, legend, top, width, color)
    # Narrow axes have a smaller title, so that it stays clear of their neighbour's.
    size = min(max(width / (0.6 * len(title.replace("$", ""))), 8), 11)
    ax.set_title(title, loc="left", fontsize=size, fontweight="bold", pad=top + 1, color=color)
    ax.set_xlabel(x, color=color)
    ax.set_ylabel(y, color=color)
    for name, axis in (("x", ax.xaxis), ("y", ax.yaxis)):
        if name in counted and axis.get_scale() == "linear":
            axis.set_major_locator(_whole_numbers())
    ax.spines[["top", "right"]].set_visible(not grid)
    ax.set_axisbelow(True)
    if grid:
        ax.grid(True, color=GREY, linewidth=0.5, linestyle=(0, (1, 3)), alpha=1)
    else:
        ax.grid(False)


def _legend(ax: Axes, entries: Mapping[str, Artist], bottom: float, width: float, color: Any) -> float:
    """A legend on as many rows as it needs, from so many points above the data up; gives its height."""
    names = [plain(name) for name in entries]
    columns = min(len(names), max(1, int(width / (34 + 5.2 * max(map(len, names))))))
    drawn = ax.legend(
        list(entries.values()),
        [str(i) for i in range(len(names))],
        loc="lower left",
        bbox_to_anchor=(0, 1),
        bbox_transform=ax.transAxes + ScaledTranslation(0, bottom / 72, ax.figure.dpi_scale_trans),
        ncols=columns,
        frameon=False,
        fontsize=9,
        labelcolor=color,
        handlelength=2.6,
        columnspacing=1.2,
        labelspacing=0.3,
        borderpad=0,
        borderaxespad=0,
    )
    # Set afterwards: matplotlib takes dollars for mathematics and leaves out names that begin with "_".
    for text, name in zip(drawn.get_texts(), names, strict=True):
        text.set_parse_math(False)
        text.set_text(name)
    return 2 + 12.0 * math.ceil(len(names) / columns)


def _points(ax: Axes) -> float:
    """The width of axes, in points."""
    return float(ax.get_window_extent().width * 72 / ax.figure.dpi)


def color_bar(ax: Axes, shown: Any, label: str, counted: bool = False, extend: str = "neither") -> None:
    """The colours of `shown` and what they stand for, beside axes; counted: for numbers of things."""
    bar = figure_of(ax).colorbar(shown, ax=ax, pad=0.02, extend=extend)
    bar.outline.set_visible(False)
    if counted:
        bar.locator = _whole_numbers()
    bar.ax.tick_params(which="both", colors=ink(ax))
    bar.set_label(label, color=ink(ax))


def _whole_numbers() -> MaxNLocator:
    return MaxNLocator("auto", integer=True, steps=[1, 2, 5, 10], min_n_ticks=1)


def token_ticks(ax: Axes, axis: str, tokens: Sequence[Any]) -> None:
    """Tokens along the "x" or "y" axis, as many as there is room for; along x long ones stand upright.

    Rather than that some are left out all are a little smaller.
    """
    extent = ax.get_window_extent()
    inches = (extent.width if axis == "x" else extent.height) / ax.figure.dpi
    every = math.ceil(len(tokens) / max(6 * inches, 1))
    size = _TOKEN_SIZE
    if every > 1 and _ROOM * 72 * inches / len(tokens) >= _LEAST_TOKEN_SIZE:
        every, size = 1, min(size, _ROOM * 72 * inches / len(tokens))
    at = range(0, len(tokens), every)
    along = ax.xaxis if axis == "x" else ax.yaxis
    along.set_ticks(at, labels=[visible(tokens[t]) for t in at], parse_math=False, fontsize=size)
    if axis == "x":
        flat = 2 if size == _TOKEN_SIZE else 1
        for label in along.get_ticklabels():
            label.set_rotation(90 if len(label.get_text()) > flat else 0)


# --- text ------------------------------------------------------------------------------------------------
def plain(text: Any, limit: int = 40) -> str:
    """A text of one line, cut to so many letters, with what the font lacks as its code point."""
    font = get_font(findfont(FontProperties()))

    def drawn(letter: str) -> str:
        sign = _SIGNS.get(letter, letter)
        drawable = sign.isprintable() and font.get_char_index(ord(sign)) != 0
        return sign if drawable else f"U+{ord(letter):04X}"

    letters = str(text)
    letters = letters if len(letters) <= limit else f"{letters[: limit - 3]}..."
    return "".join(map(drawn, letters))


def visible(token: Any) -> str:
    """A token as a tick label, its blanks as signs."""
    return plain(str(token).replace(" ", "␣"), limit=TOKEN)
