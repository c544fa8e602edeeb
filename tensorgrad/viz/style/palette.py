"""The colours of a drawing, light and dark, and how thick and how round its lines are.

Boxes have tints of the colours of Okabe and Ito, which people with any colour vision tell apart, and darker
lines of them; the outline, too, differs from kind to kind. The hues of rails were chosen so that any two
differ for every kind of colour vision, and stand out from what is behind them: contrast 3:1 or more.
"""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

from tensorgrad.viz.model import Kind
from tensorgrad.viz.picture import Look, Wire, WireKind
from tensorgrad.viz.style.color import luminance, rgb

__all__ = [
    "DARK",
    "FAINT",
    "FONT",
    "FRAME",
    "HUES",
    "INK",
    "KINDS",
    "PAPER",
    "WIRES",
    "Ink",
    "ink_on",
    "ink_of",
]

FONT = "Helvetica,Arial,Liberation Sans,sans-serif"
INK = "#1F2328"
FAINT = "#5A6270"
PAPER = "#FFFFFF"


class Paint(NamedTuple):
    """How boxes of a kind look.

    Attributes:
        fill, line: colours.
        width: of the outline, in points.
        radius: of its corners, in points.
        dashed: whether the outline is.
    """

    fill: str
    line: str
    width: float = 1.0
    radius: float = 5.0
    dashed: bool = False


KINDS: dict[Kind, Paint] = {
    "parameter": Paint("#FBE3B5", "#B87A00", radius=0.0),
    "input": Paint("#CDEBD9", "#007A5B"),
    "constant": Paint("#EFEFEF", "#8A8A8A"),
    "operation": Paint("#FEFEFE", "#5B6371"),
    "state": Paint("#BBDDF5", "#0064A9", 1.8),
    "cell": Paint("#E4DDF6", "#6650A4", 1.8, 9.0),
    "output": Paint("#F6CDBB", "#B8440A", 1.8),
    "block": Paint("#F0F1F4", "#7C8694", dashed=True),
}
"""By the kind of a box, in the order of a legend."""


class Ink(NamedTuple):
    """How a wire looks.

    Attributes:
        color: of the line and of its head.
        width: in points.
        head: how long an arrowhead is, in points.
    """

    color: str
    width: float
    head: float = 6.0


FRAME = Paint("#F6F7F9", "#C9CED6", radius=6.0)
"""A timestep, or another scope."""
HUES = ("#B87400", "#7A1F4B", "#00795A", "#B56BC4", "#3F5A10", "#7482E8")
WIRES: dict[WireKind, Ink] = {
    "edge": Ink("#6B7482", 1.0),
    "carried": Ink("#0064A8", 2.4, 8.0),
    "skip": Ink("#0064A8", 1.5, 7.0),
    "loop": Ink("#0064A8", 2.4, 8.0),
    "rail": Ink("#6B7482", 2.0),
    "tap": Ink("#6B7482", 1.1),
    "gather": Ink("#6B7482", 2.0),
}
"""By the kind of a wire; a hue of its own takes the place of the colour."""

DARK = {
    **{INK: "#E6E9EE", FAINT: "#A9B1BD", PAPER: "#15181D"},
    **{FRAME.fill: "#1D2127", FRAME.line: "#3B424D"},
    **{"#FBE3B5": "#4A3A14", "#B87A00": "#E6B04A", "#CDEBD9": "#173F2F", "#007A5B": "#4FC79B"},
    **{"#EFEFEF": "#2E3238", "#8A8A8A": "#8E96A3", "#FEFEFE": "#242A31", "#5B6371": "#8E98A7"},
    **{"#BBDDF5": "#143D5C", "#0064A9": "#5FB4F0", "#E4DDF6": "#352C52", "#6650A4": "#A793E6"},
    **{"#F6CDBB": "#53290F", "#B8440A": "#F08A55", "#F0F1F4": "#23282F", "#7C8694": "#7D8795"},
    **{"#6B7482": "#8E98A7", "#0064A8": "#5FB4F0"},
    **dict(zip(HUES, ("#F0B94A", "#E0607E", "#37C496", "#EBB5F2", "#7F9A3C", "#8C9BFF"), strict=True)),
}
"""What each colour becomes where the reader prefers a dark page. No two that differ there may be one here."""


def ink_of(wire: Wire, look: Look | None = None) -> Ink:
    """How a wire is drawn; a thick one has a longer head.

    Example:
        >>> ink_of(Wire("tap", "W", "a", ((0.0, 0.0), (0.0, 9.0)), hue=1), Look(width=4.0))
        Ink(color='#7A1F4B', width=4.0, head=10.0)
    """
    ink = WIRES[wire.kind]
    if wire.hue >= 0:
        ink = ink._replace(color=HUES[wire.hue % len(HUES)])
    if look is None:
        return ink
    width = ink.width if look.width is None else look.width
    return Ink(look.line or ink.color, width, max(ink.head, 2.5 * width))


@cache
def ink_on(fill: str) -> str:
    """Black or white, whichever stands out more from a colour such as "#0072B2".

    Example:
        >>> ink_on("#F6F7F9"), ink_on("#3B0F70")
        ('#111111', '#FFFFFF')
    """
    # The contrast with the two is the same at this luminance.
    return "#111111" if luminance(rgb(fill)) > 0.192 else "#FFFFFF"
