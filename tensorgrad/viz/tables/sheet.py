"""What tables have in common, in a terminal and in a notebook: aligned columns, numbers in few letters."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from html import escape

import numpy as np

from tensorgrad.viz.style.text import shortened, shown

__all__ = [
    "bytes_text",
    "count_text",
    "html_part",
    "html_table",
    "label_text",
    "number_text",
    "owner",
    "shape_text",
    "text_table",
]

# No colour of its own for text or paper, so that it is at home in a light and in a dark notebook.
_STYLE = """
.tg-sheet { font: 13px/1.5 system-ui, sans-serif; overflow-x: auto }
.tg-sheet p { margin: .3em 0; max-width: 70em }
.tg-sheet table { border-collapse: collapse; font: 12px/1.5 ui-monospace, monospace; margin: .3em 0 }
.tg-sheet th, .tg-sheet td { padding: 1px 10px; text-align: left; border-bottom: 1px solid #8884;
  white-space: nowrap }
.tg-sheet .tg-right { text-align: right }
.tg-sheet .tg-gap { text-align: center; opacity: .75; font-style: italic }
.tg-sheet .tg-bad { color: #d5432f; font-weight: bold }
.tg-sheet .tg-key { white-space: nowrap; margin-left: 1em }
.tg-sheet .tg-key i { display: inline-block; width: 1.6em; height: .8em; margin-right: .3em }
.tg-sheet svg { display: block; border: 1px solid #8886; margin: .3em 0 }
"""


def label_text(text: str, most: int = 40) -> str:
    """A text of the user's as it stands in a table: on one line, and of at most so many letters.

    Example:
        >>> label_text("h\\n")
        'h␊'
    """
    return shown(shortened(text, most))


def shape_text(shape: Iterable[object]) -> str:
    """A shape as NumPy prints it.

    Example:
        >>> shape_text([3]), shape_text(["T", 2])
        ('(3,)', '(T, 2)')
    """
    lengths = [str(n) for n in shape]
    return f"({lengths[0]},)" if len(lengths) == 1 else f"({', '.join(lengths)})"


def bytes_text(n: int) -> str:
    """A number of bytes in the unit that leaves at most four digits before the point.

    Example:
        >>> bytes_text(640), bytes_text(81_920)
        ('640 B', '80.0 KiB')
    """
    if abs(n) < 1024:
        return f"{n} B"
    power = min(int(math.log2(abs(n))) // 10, 4)
    return f"{n / 1024**power:.1f} {'KMGT'[power - 1]}iB"


def number_text(x: float) -> str:
    """A number in four digits.

    Example:
        >>> number_text(0.123456), number_text(float("nan"))
        ('0.1235', 'nan')
    """
    return f"{x:.4g}"


def count_text(n: int, what: str) -> str:
    """So many of something.

    Example:
        >>> count_text(1, "row"), count_text(1200, "row")
        ('1 row', '1,200 rows')
    """
    return f"{n:,} {what}" + "s" * (n != 1)


def owner(array: np.ndarray) -> np.ndarray:
    """The array that an array is a view of, or itself.

    Example:
        >>> x = np.ones((2, 3))
        >>> owner(x.T[0]) is x
        True
    """
    while isinstance(array.base, np.ndarray):
        array = array.base
    return array


# --- tables ----------------------------------------------------------------------------------------------
def text_table(heads: Sequence[str], right: Iterable[str], rows: Iterable[Sequence[str] | str]) -> str:
    """Rows in aligned columns; a row that is one text goes across them all.

    Args:
        heads: of the columns.
        right: the heads of those that are aligned to the right.

    Example:
        >>> print(text_table(["name", "size"], ["size"], [["h", "16"], "...", ["output", "3"]]))
        name    size
        h         16
        ...
        output     3
    """
    rows = list(rows)
    cells = [heads, *(row for row in rows if not isinstance(row, str))]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    flush = set(right)

    def line(row: Sequence[str] | str) -> str:
        if isinstance(row, str):
            return row
        parts = (
            f"{text:>{width}}" if head in flush else f"{text:{width}}"
            for head, text, width in zip(heads, row, widths, strict=True)
        )
        return "  ".join(parts).rstrip()

    return "\n".join(map(line, [heads, *rows]))


def html_table(heads: Sequence[str], right: Iterable[str], rows: Iterable[Sequence[str] | str]) -> str:
    """The same as `text_table`, as an HTML table; all texts are escaped.

    Example:
        >>> "&lt;b&gt;" in html_table(["name"], [], [["<b>"]])
        True
    """
    flush = set(right)
    marks = [' class="tg-right"' if head in flush else "" for head in heads]

    def lines() -> Iterator[str]:
        names = zip(marks, heads, strict=True)
        yield "".join(f'<th scope="col"{mark}>{escape(head)}</th>' for mark, head in names)
        for row in rows:
            if isinstance(row, str):
                yield f'<td class="tg-gap" colspan="{len(heads)}">{escape(row)}</td>'
            else:
                yield "".join(f"<td{m}>{escape(text)}</td>" for m, text in zip(marks, row, strict=True))

    return "<table>" + "".join(f"<tr>{line}</tr>" for line in lines()) + "</table>"


def html_part(*parts: str) -> str:
    """Pieces of HTML in the common look, to be shown in a notebook.

    Example:
        >>> html_part("<p>h</p>").startswith('<div class="tg-sheet">')
        True
    """
    return f'<div class="tg-sheet">\n<style>{_STYLE}</style>\n' + "\n".join(parts) + "\n</div>"
