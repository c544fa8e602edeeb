"""Numbers as colours: one scale, from little and dark to much and light, and what stands outside of it.

The scale goes in even steps through OKLab, a colour space in which equal distances look equal, and its
lightness only ever rises, so it reads the same without colour and for every kind of colour blindness. It
begins lighter than black and ends darker than white, to be seen on white paper and on a dark page.

Source of the space: Ottosson, "A perceptual color space for image processing" (2020).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np

__all__ = [
    "AGREES",
    "SPECIAL",
    "Kind",
    "LogScale",
    "Special",
    "kind_of",
    "luminance",
    "oklab",
    "rgb",
    "shade",
    "short",
]

Kind = Literal["number", "zero", "unknown", "nan", "infinite"]
Pattern = Literal["solid", "dashed", "dotted", "hatched"]

_ANCHORS = ("#303793", "#82468A", "#C4537C", "#E77C65", "#EAB733")
_SHADES = 256
_DECADES = 16
# From linear sRGB to the responses of the eye's cones, and from their cube roots to lightness and two hues.
_CONES = np.array(
    [
        [0.4122214708, 0.5363325363, 0.0514459929],
        [0.2119034982, 0.6806995451, 0.1073969566],
        [0.0883024619, 0.2817188376, 0.6299787005],
    ]
)
_OPPONENTS = np.array(
    [
        [0.2104542553, 0.7936177850, -0.0040720468],
        [1.9779984951, -2.4285922050, 0.4505937099],
        [0.0259040371, 0.7827717662, -0.8086757660],
    ]
)


def rgb(color: str) -> np.ndarray:
    """Red, green and blue of a colour such as "#EAB733", from 0 to 1.

    Example:
        >>> rgb("#FF0000").tolist()
        [1.0, 0.0, 0.0]
    """
    return np.array([int(color[i : i + 2], 16) for i in (1, 3, 5)]) / 255


def _linear(coded: np.ndarray) -> np.ndarray:
    """Amounts of light from the coded values of sRGB."""
    return np.where(coded <= 0.04045, coded / 12.92, ((coded + 0.055) / 1.055) ** 2.4)


def luminance(color: Sequence[float] | np.ndarray) -> float:
    """The relative luminance of an sRGB colour, as WCAG 2.2 defines it.

    https://www.w3.org/TR/WCAG22/#dfn-relative-luminance

    Args:
        color: red, green and blue from 0 to 1; what follows them, such as opacity, has no part in it.

    Example:
        >>> luminance((1, 1, 1)), luminance((0, 0, 0))
        (1.0, 0.0)
    """
    return float(_linear(np.asarray(color, np.float64)[:3]) @ [0.2126, 0.7152, 0.0722])


def oklab(color: str) -> np.ndarray:
    """A colour such as "#EAB733" in OKLab: lightness from 0 to 1, green to red, blue to yellow.

    Example:
        >>> oklab("#FFFFFF").round(3).tolist()[0]
        1.0
    """
    lab: np.ndarray = _OPPONENTS @ np.cbrt(_CONES @ _linear(rgb(color)))
    return lab


def _hex(lab: np.ndarray) -> str:
    linear = np.linalg.solve(_CONES, np.linalg.solve(_OPPONENTS, lab) ** 3).clip(0, 1)
    coded = np.where(linear <= 0.0031308, linear * 12.92, 1.055 * linear ** (1 / 2.4) - 0.055)
    return "#" + "".join(f"{round(255 * part):02X}" for part in coded.tolist())


def _ramp() -> tuple[str, ...]:
    """Colours in equal distances along the line through the anchors."""
    anchors = np.array([oklab(color) for color in _ANCHORS])
    lengths = np.linalg.norm(np.diff(anchors, axis=0), axis=1)
    at = np.concatenate([[0.0], lengths.cumsum()])
    places = np.linspace(0.0, at[-1], _SHADES)
    return tuple(map(_hex, np.stack([np.interp(places, at, part) for part in anchors.T], axis=1)))


_RAMP = _ramp()


def shade(place: float) -> str:
    """The colour at a place of the scale, from 0 for the least to 1 for the most.

    Example:
        >>> shade(0.0), shade(1.0)
        ('#303793', '#EAB733')
    """
    return _RAMP[round(min(max(place, 0.0), 1.0) * (_SHADES - 1))]


class Special(NamedTuple):
    """How something looks that has no place on the scale.

    Attributes:
        color: of a line, unlike every colour of the scale.
        fill: of an area; empty for none.
        pattern: what tells it apart without colour; what is infinite is drawn thicker than anything else.
        words: for the legend.
    """

    color: str
    fill: str
    pattern: Pattern
    words: str


SPECIAL: dict[Kind, Special] = {
    "zero": Special("#7D8794", "", "dotted", "exactly 0"),
    "unknown": Special("#A9B1BC", "", "dashed", "reached by no gradient"),
    "nan": Special("#00806E", "#CBE8E2", "hatched", "NaN"),
    "infinite": Special("#2FA8F0", "#2FA8F0", "solid", "infinite"),
}
"""By kind, all that is no positive number."""
AGREES = "#C3CAD3"
"""The colour of an error within the tolerance."""


def kind_of(x: float | None) -> Kind:
    """Which kind of number a norm is; None for one that is not known.

    Example:
        >>> kind_of(0.1), kind_of(0.0), kind_of(None), kind_of(math.inf)
        ('number', 'zero', 'unknown', 'infinite')
    """
    if x is None:
        return "unknown"
    if math.isnan(x):
        return "nan"
    if math.isinf(x):
        return "infinite"
    return "number" if x else "zero"


@dataclass(frozen=True, slots=True)
class LogScale:
    """Positive numbers on a logarithmic scale between two powers of ten.

    Attributes:
        low, high: the exponents of its ends, whole numbers but for a scale of factors.
        cut: whether there are numbers below it, which it shows as its lower end.
    """

    low: float
    high: float
    cut: bool = False

    @classmethod
    def of(cls, values: Iterable[float]) -> LogScale | None:
        """The scale for some numbers: at least one decade, at most the 16 below the greatest.

        What is not positive or not finite has no part in it; None where nothing is left.

        Example:
            >>> LogScale.of([3e-5, 0.2, 0.0, math.nan])
            LogScale(low=-5, high=0, cut=False)
            >>> LogScale.of([1e-300, 1.0])
            LogScale(low=-16, high=0, cut=True)
        """
        array = _usual(values)
        if not array.size:
            return None
        # A little inside, for the logarithm of 1000 is not quite 3.
        low = math.floor(math.log10(array.min()) + 1e-9)
        high = max(math.ceil(math.log10(array.max()) - 1e-9), low + 1)
        return cls(max(low, high - _DECADES), high, low < high - _DECADES)

    @classmethod
    def about_one(cls, values: Iterable[float]) -> LogScale:
        """The scale for factors: 1 is in its middle, and it reaches as far to both sides, at least to 2.

        Example:
            >>> LogScale.about_one([0.5, 10.0, math.inf]).place(1.0)
            0.5
        """
        reach = max(float(np.abs(np.log10(_usual(values))).max(initial=0.0)), math.log10(2))
        return cls(-reach, reach)

    def place(self, x: float) -> float:
        """Where a positive number lies, from 0 to 1."""
        return min(max((math.log10(x) - self.low) / (self.high - self.low), 0.0), 1.0)

    def color(self, x: float) -> str:
        """The colour of a positive number."""
        return shade(self.place(x))

    def ticks(self) -> list[tuple[float, str]]:
        """Places and texts for a legend, from the upper end down; four or five where there are as many.

        Example:
            >>> [text for _, text in LogScale(-6, 0).ticks()]
            ['1e0', '1e-2', '1e-4', '1e-6']
        """
        span = self.high - self.low
        exponents = range(round(self.high), round(self.low) - 1, -math.ceil(span / 4))
        return [((e - self.low) / span, f"1e{e}") for e in exponents]


def _usual(values: Iterable[float]) -> np.ndarray:
    array = np.fromiter(values, np.float64)
    return array[np.isfinite(array) & (array > 0)]


def short(x: float) -> str:
    """A number in two or three digits.

    Example:
        >>> [short(x) for x in (0.0, 0.1234, -12.0, 32768.0, 3.21e-7, math.nan, -math.inf)]
        ['0', '0.123', '-12', '32768', '3.2e-7', 'NaN', '-inf']
    """
    if math.isnan(x):
        return "NaN"
    if x == 0 or math.isinf(x):
        return f"{x:g}".lstrip("-" if x == 0 else "")
    if 100 <= abs(x) < 99999.5:
        return f"{x:.0f}"
    if 0.001 <= abs(x) < 100:
        return f"{x:.3g}"
    digits, _, exponent = f"{x:.1e}".partition("e")
    return f"{digits}e{int(exponent)}"
