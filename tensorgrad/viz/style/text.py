"""Texts of a drawing: how wide they are, what of them can be shown, and the lines of a box.

Every writer names fonts of Helvetica's widths first (Helvetica, Arial, Liberation Sans), so that a text is as
wide as the layout took it to be wherever one of these is installed.
"""

# The tables of widths hold every letter that looks like another.
# ruff: noqa: RUF001

from __future__ import annotations

import math
import unicodedata
from collections.abc import Iterable
from functools import lru_cache
from typing import NamedTuple

from tensorgrad.viz.model import Box
from tensorgrad.viz.picture import Line

__all__ = [
    "LONGEST",
    "LONGEST_NOTE",
    "PADDING",
    "STYLES",
    "TITLE",
    "TITLE_AT",
    "Style",
    "baselines",
    "description",
    "lines_of",
    "measurable",
    "shortened",
    "shown",
    "size_of",
    "text_width",
]

LONGEST = 32
"""The letters up to which a line of a box, the title of a frame or the label of a line is shown whole."""
LONGEST_NOTE = 500
"""The letters up to which a line that is shown on hovering, or a text that stands alone, is shown whole."""
PADDING = (8.0, 5.0)
"""Between the text of a box and its outline, beside it and above it, in points."""
_LEAST_WIDTH = 34.0
# From the baseline to the top of a capital letter, as a part of the size.
_CAPITAL = 0.716

# Advance widths in thousandths of the size, as the "hmtx" tables of Liberation Sans Regular and Bold 2.1 have
# them; those of Helvetica and Arial are the same. Rare letters stand with others of nearly the same width.
_REGULAR = {
    191: "'′",
    222: "ijlΐίιϊ‘’",
    260: "|¦",
    278: " \xa0!,./:;I[\\]ft·ÌÍÎÏìíîïΙΪ∫",
    333: "()-`r¡¨²³´¸¹“”ℓ",
    334: "{}",
    355: '"•″',
    389: "*ªºΊ",
    400: "°τ",
    469: "^έεζξ",
    500: "Jcksvxyzçýÿγκλνς↑↓∂",
    556: "#$0123456789?L_abdeghnopqu¢£¤¥§«¯±¶»àáâãäåèéêëðñòóôõö÷ùúûüþΓήΰηθουχϋόύ–√≈≠≤≥",
    584: "+<=>~¬µ×άαβδμρ−",
    611: "FTZ¿ßøΖΤ",
    618: "Σσ∆",
    667: "&ABEKPSVXYÀÁÂÃÄÅÈÉÊËÝÞΆΑΒΕΚΞΡΥΧΫφ",
    722: "CDHNRUwÇÐÑÙÚÛÜΔΗΛΝΠπψ∑∞",
    778: "GOQ©®ÒÓÔÕÖØΌΏΘΟΩ",
    833: "MmΈΜΦωώ∏",
    855: "¼½¾ΉΎΨ",
    889: "%æ",
    944: "W",
    1015: "@Æ—…←→↔",
}
_BOLD = {
    238: "'",
    278: " \xa0,./I\\ijl|¦·ÌÍÎÏìíîïΐΙΪίιϊ‘’′∫",
    333: "!()-:;[]`ft¡¨²³´¸¹",
    389: "*r{}ªº•",
    400: "°",
    474: '"Ίέζξτ',
    500: "zε“”″ℓ↑↓∂",
    556: "#$0123456789J_aceksvxy¢£¤¥§«¯±¶»àáâãäåçèéêë÷ýÿγθλνς–√≈≠≤≥",
    584: "+<=>^~¬µ×ΰκυχϋύ−",
    611: "?FLTZbdghnopqu¿ßðñòóôõöøùúûüþΓΖΣΤήβδηοό",
    667: "EPSVXYÈÉÊËÝÞΕΛΞΡΥΧΫάαμρ∆",
    722: "&ABCDHKNRUÀÁÂÃÄÅÇÐÑÙÚÛÜΆΑΒΔΗΚΝΠφσ∑∞",
    778: "GOQw©®ÒÓÔÕÖØΘΟπψ",
    833: "MΌΜΦΨΩ∏",
    853: "¼½¾ΈΏωώ",
    889: "%mæ",
    944: "WΉΎ",
    1000: "@Æ—…←→↔",
}
_WIDTHS: tuple[dict[str, int], ...] = tuple(
    {letter: width for width, letters in table.items() for letter in letters} for table in (_REGULAR, _BOLD)
)
# A letter that another font must lend, in thousandths: as wide as those of Chinese and Japanese.
_BORROWED = 1000

# What XML cannot hold, what would start a new line, and what would turn the letters after it round.
_SIGNS = {code: 0x2400 + code for code in range(0x20)}
_SIGNS |= dict.fromkeys(
    [
        *range(0x80, 0xA0),
        0x061C,
        0x200E,
        0x200F,
        0x2028,
        0x2029,
        *range(0x202A, 0x202F),
        *range(0x2066, 0x206A),
    ],
    0xFFFD,
)
_SIGNS |= {0x7F: 0x2421, 0xFEFF: 0xFFFD, 0xFFFE: 0xFFFD, 0xFFFF: 0xFFFD}
_SIGNS |= dict.fromkeys(range(0xD800, 0xE000), 0xFFFD)


class Style(NamedTuple):
    """How a line of a box is written.

    Attributes:
        size: of the letters, in points.
        height: of the line, in points.
        bold: whether the letters are.
    """

    size: float
    height: float
    bold: bool = False


STYLES = {
    "name": Style(12.0, 15.0, bold=True),
    "op": Style(11.0, 14.0),
    "type": Style(10.0, 12.0),
    "note": Style(10.0, 12.0),
}
"""By the style of a `Line`."""
TITLE = Style(12.0, 20.0, bold=True)
"""The title of a frame, which stands in a band of this height along the frame's upper edge."""
TITLE_AT = (8.0, 14.0)
"""Where its baseline begins, from the frame's upper left corner, in points."""


def text_width(text: str, size: float, bold: bool = False) -> float:
    """How wide a text is, in points, in a font with the widths of Helvetica.

    Example:
        >>> text_width("W_hh", 10.0)
        26.12
        >>> text_width("漢字", 10.0)
        20.0
    """
    return _thousandths(text, bold) * size / 1000


@lru_cache(maxsize=8192)
def _thousandths(text: str, bold: bool) -> int:
    widths = _WIDTHS[bold]
    return sum(widths[letter] if letter in widths else _lent(letter) for letter in text)


def _lent(letter: str) -> int:
    # Accents that stand above the letter before them, and joiners, take no room.
    return 0 if unicodedata.category(letter) in ("Mn", "Me", "Cf") else _BORROWED


@lru_cache(maxsize=8192)
def measurable(text: str) -> bool:
    """Whether `text_width` knows every letter of a text, and does not guess.

    Example:
        >>> measurable("W_hh"), measurable("漢字")
        (True, False)
    """
    return all(letter in _WIDTHS[0] for letter in text)


def shown(text: str) -> str:
    r"""A text with what cannot be shown, or would turn round the rest, replaced by what stands for it.

    Control characters become the pictures that Unicode has of them, others the replacement character.

    Example:
        >>> shown("a\nb\x00\ud800")
        'a␊b␀�'
    """
    return text if text.isprintable() else text.translate(_SIGNS)


def shortened(text: str, most: int = LONGEST) -> str:
    """A text of at most so many letters: its beginning and its end, with an ellipsis between them.

    Example:
        >>> shortened("decoder.layers.0.weight_hh", 17)
        'decoder.…eight_hh'
    """
    if len(text) <= most:
        return text
    end = (most - 1) // 2
    return f"{text[: most - 1 - end]}…{text[len(text) - end :]}"


def lines_of(box: Box, extra: Iterable[str] = ()) -> tuple[Line, ...]:
    """The text of a box: its name, what made it, its shape and dtype, and notes.

    Args:
        box: of any kind; what it does not have takes no line.
        extra: a note each, such as the norm of its gradient.

    Example:
        >>> box = Box("t0.h", "state", "h", "tanh", "(1, 16)", "float64", "t0", "h")
        >>> [line.text for line in lines_of(box, ["|dL/dh| = 0.1"])]
        ['h', 'tanh', '(1, 16) float64', '|dL/dh| = 0.1']
    """
    lines = (("name", box.name), ("op", box.op), ("type", f"{box.shape} {box.dtype}".strip()))
    return (*(_line(style, text) for style, text in lines if text), *(_line("note", text) for text in extra))


def description(box: Box) -> str:
    """All that is known about a box, a line each, to show on hovering.

    Example:
        >>> print(description(Box("h", "state", "h", "tanh", "(1, 16)", "float64", "", "h", ("scope t=0",))))
        h = tanh, state (1, 16) float64
        scope t=0
    """
    made = f"{box.name} = {box.op}" if box.name and box.op else box.name or box.op
    head = f"{made}, {box.kind} {box.shape} {box.dtype}".rstrip()
    return "\n".join(shown(shortened(line, LONGEST_NOTE)) for line in (head, *box.notes))


@lru_cache(maxsize=8192)
def _line(style: str, text: str) -> Line:
    # Shortened first: of a text of a million letters few are looked at.
    return Line(style, shown(shortened(text)))  # type: ignore[arg-type]


def size_of(lines: Iterable[Line]) -> tuple[float, float]:
    """The width and height of a box with these lines, in points, its padding included.

    Example:
        >>> size_of([Line("name", "h"), Line("type", "(1, 16) float64")])
        (78.0, 37.0)
    """
    width = height = 0.0
    for line in lines:
        size, line_height, bold = STYLES[line.style]
        width = max(width, text_width(line.text, size, bold))
        height += line_height
    beside, above = PADDING
    # Even, so that the middle is a whole number too.
    return max(2.0 * math.ceil(width / 2 + beside), _LEAST_WIDTH), height + 2 * above


def baselines(lines: Iterable[Line], y: float, height: float) -> list[float]:
    """The height of each line's baseline in a box whose upper edge is at `y`.

    Example:
        >>> [round(y, 1) for y in baselines([Line("name", "h"), Line("type", "(1, 16)")], 0.0, 37.0)]
        [16.8, 29.6]
    """
    styles = [STYLES[line.style] for line in lines]
    top = y + (height - sum(style.height for style in styles)) / 2
    found = []
    for style in styles:
        found.append(top + (style.height + _CAPITAL * style.size) / 2)
        top += style.height
    return found
