"""How well colours stand out from what is behind them, as WCAG 2.2 measures it: lines want 3, text 4.5.

https://www.w3.org/TR/WCAG22/#dfn-contrast-ratio
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tensorgrad.viz.style.color import luminance

__all__ = ["contrast", "is_dark", "standing_out"]


def contrast(a: Sequence[float] | np.ndarray, b: Sequence[float] | np.ndarray) -> float:
    """The contrast ratio of two colours, from 1 for equals to 21 for black and white.

    >>> contrast((0, 0, 0), (1, 1, 1))
    21.0
    """
    low, high = sorted((luminance(a), luminance(b)))
    return (high + 0.05) / (low + 0.05)


def is_dark(background: Sequence[float] | np.ndarray) -> bool:
    """Whether white stands out from a background better than black.

    >>> is_dark((0, 0, 0.2)), is_dark((0.9, 0.9, 0.9))
    (True, False)
    """
    return contrast(background, (1, 1, 1)) > contrast(background, (0, 0, 0))


def standing_out(
    colors: np.ndarray, background: Sequence[float] | np.ndarray, ratio: float = 3
) -> np.ndarray:
    """The longest run of the colours (n, 3) with that much contrast to the background; all if none has it.

    >>> greys = np.linspace(0, 1, 5)[:, None].repeat(3, axis=1)
    >>> standing_out(greys, (1, 1, 1))[:, 0].tolist()
    [0.0, 0.25, 0.5]
    """
    clear = np.array([contrast(color, background) >= ratio for color in colors])
    if not clear.any():
        return colors
    edges = np.flatnonzero(np.diff(np.concatenate([[False], clear, [False]])))
    starts, stops = edges[::2], edges[1::2]
    longest = int((stops - starts).argmax())
    return colors[starts[longest] : stops[longest]]
