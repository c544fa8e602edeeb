"""The common look of the plots, and the only module that imports matplotlib as it is imported.

Figures are made without pyplot: nothing is kept alive behind the caller's back, no window is opened and no
display is needed.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, get_font
from matplotlib.ticker import MaxNLocator

__all__ = ["COLORS", "GREY", "MARKERS", "Plot", "dress", "new_axes", "visible"]

# Those of Okabe and Ito that stand out from white, in an order in which neighbours differ in lightness too.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00")
MARKERS = ("o", "s", "^", "D", "v", "P")
GREY = "#8A93A0"
_SIGNS = {" ": "␣", "\n": "⏎", "\t": "⇥", "\r": "␍"}


class Plot(Figure):
    """A figure that shows itself in a notebook, also where pyplot was never imported."""

    def _repr_png_(self) -> bytes:
        buffer = io.BytesIO()
        self.savefig(buffer, format="png", dpi=110)
        return buffer.getvalue()


def new_axes(width: float, height: float, columns: int = 1) -> Sequence[Axes]:
    """Axes side by side in a new figure of so many inches, light or dark as the user's style is."""
    figure = Plot(figsize=(width, height), layout="constrained")
    return list(figure.subplots(1, columns, squeeze=False)[0])


def dress(ax: Axes, title: str, x: str, y: str, notes: Sequence[str] = (), grid: bool = True) -> None:
    """Title, axis labels, grid and frame as all plots have them.

    notes: what a reader must know about the data, a line each, between the title and the plot.
    """
    ax.set_title(title, loc="left", fontsize=11, fontweight="bold", pad=6 + 12 * len(notes))
    if notes:
        ax.text(
            0, 1.015, "\n".join(notes), transform=ax.transAxes, va="bottom", fontsize=8.5, parse_math=False
        )
    ax.set_xlabel(x)
    ax.set_ylabel(y)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.spines[["top", "right"]].set_visible(not grid)
    ax.set_axisbelow(True)
    if grid:
        ax.grid(True, color=GREY, linewidth=0.7, alpha=0.3)


def visible(token: Any) -> str:
    """A token as a tick label: blanks and line ends as signs, what the font lacks as its code point."""
    font = get_font(findfont(FontProperties()))
    letters = []
    for letter in str(token):
        sign = _SIGNS.get(letter, letter)
        drawable = sign.isprintable() and font.get_char_index(ord(sign)) != 0
        letters.append(sign if drawable else f"U+{ord(letter):04X}")
    return "".join(letters)
