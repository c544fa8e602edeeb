"""What can be read off a figure: its lines, its texts, and how well they stand out."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations
from typing import Any

import numpy as np
from matplotlib.colors import to_rgba
from matplotlib.text import Text

# From linear sRGB to what people without one kind of cone see. Source: Machado, Oliveira, Fernandes, "A
# Physiologically-based Model for Simulation of Color Vision Deficiency" (2009), severity 1.0.
VISION = {
    "all cones": np.eye(3),
    "protanopia": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    "deuteranopia": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
    "tritanopia": [
        [1.255528, -0.076749, -0.178779],
        [-0.078411, 0.930809, 0.147602],
        [0.004733, 0.691367, 0.303900],
    ],
}
_XYZ = np.array(
    [
        [0.4124564, 0.3575761, 0.1804375],
        [0.2126729, 0.7151522, 0.0721750],
        [0.0193339, 0.1191920, 0.9503041],
    ]
)


def data(ax: Any, line: int = 0) -> np.ndarray:
    """The numbers that a line shows."""
    return np.asarray(ax.lines[line].get_ydata(), dtype=float)


def legend(ax: Any) -> list[str]:
    """The names in the legend."""
    return [text.get_text() for text in ax.get_legend().get_texts()]


def notes(ax: Any) -> str:
    """What the plot says about its data."""
    return " ".join(text.get_text().replace("\n", " ") for text in ax.texts)


def drawn(figure: Any) -> Any:
    """The figure, all of it laid out: only when it is drawn does it have its ticks, and fail if it must."""
    figure.draw_without_rendering()
    return figure


def linear(rgb: Any) -> np.ndarray:
    """sRGB without its gamma."""
    c = np.asarray(rgb, float)[..., :3]
    return np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4)


def contrast(a: Any, b: Any) -> float:
    """Of two opaque colours, by the definition of WCAG 2.2."""
    low, high = sorted(float(linear(c) @ _XYZ[1]) for c in (a, b))
    return (high + 0.05) / (low + 0.05)


def lab(rgb: Any, vision: str = "all cones") -> np.ndarray:
    """Colours (..., 3) in CIELAB, as seen with that kind of vision."""
    seen = np.clip(linear(rgb) @ np.transpose(VISION[vision]), 0, 1)
    xyz = seen @ _XYZ.T / [0.95047, 1.0, 1.08883]
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.stack(
        [116 * f[..., 1] - 16, 500 * (f[..., 0] - f[..., 1]), 200 * (f[..., 1] - f[..., 2])], axis=-1
    )


def faint(figure: Any) -> list[str]:
    """What does not stand out from what is behind it in a drawn figure: text under 4.5, all else under 3."""
    found = []
    for ax in figure.axes:
        around = over(figure.get_facecolor(), np.ones(3))
        inside = over(ax.get_facecolor(), around)
        for what, color in _colors(ax):
            behind, wanted = (around, 4.5) if what.startswith("text") else (inside, 3.0)
            ratio = contrast(over(color, behind), behind)
            if ratio < wanted:
                found.append(f"{what}: {ratio:.2f}")
    return found


def over(color: Any, behind: np.ndarray) -> np.ndarray:
    """A colour, perhaps transparent, on top of another."""
    *rgb, alpha = to_rgba(color)
    return alpha * np.array(rgb) + (1 - alpha) * behind


def _colors(ax: Any) -> Iterator[tuple[str, Any]]:
    """What each thing in axes is called, and its colour."""
    for text in texts(ax):
        yield f"text {text.get_text()!r}", to_rgba(text.get_color(), text.get_alpha())
    if ax.get_label() == "<colorbar>":
        return
    grid = [line for axis in (ax.xaxis, ax.yaxis) for line in axis.get_gridlines()]
    for line in [*ax.lines, *grid]:
        # The signs in the cells of a heat map are white on black, whatever is around them.
        if line.get_visible() and to_rgba(line.get_markerfacecolor()) != to_rgba("white"):
            yield f"line {line.get_label()!r}", to_rgba(line.get_color(), line.get_alpha())
    for collection in ax.collections:
        for color in np.unique(collection.get_facecolors(), axis=0):
            yield "points", tuple(color)
    for patch in ax.patches:
        yield "bar", patch.get_facecolor()
    for name, spine in ax.spines.items():
        if spine.get_visible():
            yield f"spine {name}", spine.get_edgecolor()


def texts(ax: Any) -> list[Any]:
    """All texts that can be seen in and around axes."""
    ticks = {}
    for axis in (ax.xaxis, ax.yaxis):
        low, high = sorted(axis.get_view_interval())
        for tick in [*axis.get_major_ticks(), *axis.get_minor_ticks()]:
            ticks |= {tick.label1: low <= tick.get_loc() <= high, tick.label2: False}
    found = ax.findobj(Text)
    return [x for x in found if x.get_visible() and x.get_text().strip() and ticks.get(x, True)]


def misplaced(figure: Any) -> list[str]:
    """Texts that are cut off by the edge of a drawn figure, or lie on another text or on the data."""
    frame = figure.bbox.padded(1)
    shown = [(text.get_text(), text.get_window_extent()) for ax in figure.axes for text in texts(ax)]
    areas = [("the data", ax.bbox) for ax in figure.axes]
    cut = [f"{name!r} is cut off" for name, box in shown if not _holds(frame, box)]
    on_data = [(one, area) for one in shown for area in areas]
    return cut + [
        f"{name!r} lies on {other!r}"
        for (name, box), (other, other_box) in [*combinations(shown, 2), *on_data]
        if box.padded(-1).overlaps(other_box)
    ]


def _holds(outer: Any, inner: Any) -> bool:
    return bool(
        outer.x0 <= inner.x0 and outer.y0 <= inner.y0 and inner.x1 <= outer.x1 and inner.y1 <= outer.y1
    )
