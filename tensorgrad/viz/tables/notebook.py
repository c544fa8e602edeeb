"""What a notebook shows of a Tensor and of a Module.

Colours are for light and dark paper alike: they lie over it, the stronger the larger a number is, and text
has the colour that the notebook gives it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from html import escape

import numpy as np

from tensorgrad.graph import Node
from tensorgrad.nn.module import Module
from tensorgrad.tensor import Tensor
from tensorgrad.viz.measuring.digest import numbers_of
from tensorgrad.viz.measuring.thumbs import INFINITE, LEVELS, MINUS_INFINITE, NAN, thumbnail
from tensorgrad.viz.tables.sheet import count_text, html_part, label_text, number_text, shape_text
from tensorgrad.viz.tables.summary import summary

__all__ = ["module_html", "tensor_html"]

# What is no larger is shown as numbers; all else as a picture of at most so many cells.
_ROWS, _COLUMNS = 12, 10
_CELLS = 1024
_SHADES = 10
# In pixels: of the picture, and the largest side of a cell.
_WIDTH, _HEIGHT, _SIDE = 480, 320, 16
_ABOVE, _BELOW, _NAN = "#e8710a", "#2f86d6", "#c51b8a"


def module_html(module: Module) -> str:
    """The parameters of a Module as HTML, by path, and how many each module within it has.

    Example:
        >>> from tensorgrad import nn
        >>> "6 parameters" in module_html(nn.Linear(2, 2, seed=0))
        True
    """
    return summary(module)._repr_html_()


def tensor_html(x: Tensor) -> str:
    """What a Tensor is, its values in numbers or colours, and its gradient, as HTML of bounded size.

    Example:
        >>> import tensorgrad as tg
        >>> "from -1 to 2" in tensor_html(tg.tensor([-1.0, 2.0]))
        True
    """
    title = f"<b>{escape(label_text(x.name or type(x).__name__))}</b>"
    parts = [f"<p>{title} {escape(', '.join(_facts(x)))}</p>", _statistics("values", x._value)]
    rows, columns = _grid(x._value.shape)
    if x._value.size:
        small = rows <= _ROWS and columns <= _COLUMNS
        parts.append(_numbers(x._value.reshape(rows, columns)) if small else _heat_map(x._value))
    if x.grad is not None:
        parts.append(_statistics("gradient", np.asarray(x.grad)))
    else:
        parts.append(f"<p>{_why_no_gradient(x)}</p>")
    return html_part(*parts)


def _facts(x: Tensor) -> Iterator[str]:
    if x.name:
        yield type(x).__name__
    yield f"shape {shape_text(x._value.shape)}"
    yield str(x._value.dtype)
    if x.op is not None:
        yield f"op {label_text(x.op.name)}"
    if x.scope:
        yield f"scope {label_text(x.scope)}"
    if x.requires_grad:
        yield "requires a gradient"


def _why_no_gradient(x: Node) -> str:
    if not x.requires_grad:
        return "gradient: none, for it requires no gradient"
    if x.op is None or x.retains_grad:
        return "gradient: none yet, for no backward has reached it"
    return "gradient: not kept; call retain_grad() before backward, or tg.grad(loss, [x])"


def _statistics(what: str, array: np.ndarray) -> str:
    """A line with an array in a few numbers."""
    found = numbers_of({what: array})[what]
    words = []
    if found.size > found.nan + found.inf:
        absolute = "absolute values " if array.dtype.kind == "c" else ""
        words.append(f"{absolute}from {number_text(found.least)} to {number_text(found.greatest)}")
        words += [f"mean {number_text(found.mean)}", f"norm {number_text(found.norm)}"]
    text = f"{what}: {', '.join(words) or ('none' if not found.size else 'no finite one')}"
    bad = [f"{n:,} {name}" for n, name in ((found.nan, "NaN"), (found.inf, "infinite")) if n]
    mark = f', <span class="tg-bad">{", ".join(bad)}</span>' if bad else ""
    return f"<p>{escape(text)}{mark}</p>"


def _grid(shape: tuple[int, ...]) -> tuple[int, int]:
    """Rows and columns in which an array is shown: the last axis to the right, all others downwards."""
    columns = shape[-1] if shape else 1
    return int(np.prod(shape[:-1], dtype=np.int64)), columns


def _numbers(rows: np.ndarray) -> str:
    """A small array as a table, each cell coloured by its number."""
    # As floats, for the least integer has no absolute value.
    size = np.abs(rows.astype(np.result_type(rows, np.float64)))
    greatest = float(size[np.isfinite(size)].max(initial=0)) or 1.0
    lines = ("".join(_cell(value, greatest) for value in row) for row in rows)
    return f"<table>{''.join(f'<tr>{line}</tr>' for line in lines)}</table>"


def _cell(value: np.generic, greatest: float) -> str:
    kind = value.dtype.kind
    text = str(value) if kind in "biu" else f"{value:.4g}"
    if not np.isfinite(value):
        return f'<td class="tg-right tg-bad">{text}</td>'
    style = ""
    if kind != "c":
        # At most half covered, so that the text on it stays legible.
        x = float(value)
        alpha = round(127 * (abs(x) / greatest))
        style = f' style="background: {_ABOVE if x > 0 else _BELOW}{alpha:02x}"' if alpha else ""
    return f'<td class="tg-right"{style}>{text}</td>'


def _heat_map(array: np.ndarray) -> str:
    """A picture of a large array, and what it means."""
    thumb = thumbnail(array, _CELLS)
    codes = np.frombuffer(thumb.cells, np.uint8).reshape(-1, thumb.columns)
    high, wide = codes.shape
    side = min(_SIDE, _WIDTH / wide, _HEIGHT / high)
    size = f'width="{max(wide * side, 8):.0f}" height="{max(high * side, 14):.0f}"'
    top, paths = _paths(codes, thumb.least, thumb.greatest)
    rows, columns = _grid(array.shape)
    axes = f" ({' x '.join(map(str, array.shape[:-1]))})" if array.ndim > 2 else ""
    told = f"{count_text(rows, 'row')}{axes} of {count_text(columns, 'number')}"
    picture = (
        f'<svg {size} viewBox="0 0 {wide} {high}" preserveAspectRatio="none" shape-rendering="crispEdges" '
        f'role="img" aria-label="heat map of {told}">{paths}</svg>'
    )
    if (high, wide) != (rows, columns):
        told += f" in {high} x {wide} cells, each the mean of its numbers"
    keys = [(_ABOVE, "above 0"), (_BELOW, f"below 0, strongest at ±{number_text(top)}")] if top else []
    keys += [(_NAN, "NaN, crossed")] if (codes == NAN).any() else []
    keys += [("currentColor", "infinite")] if (codes >= INFINITE).any() else []
    marks = "".join(
        f'<span class="tg-key"><i style="background: {colour}"></i>{escape(text)}</span>'
        for colour, text in keys
    )
    return f"{picture}\n<p>{escape(told)}{marks}</p>"


def _paths(codes: np.ndarray, least: float, greatest: float) -> tuple[float, str]:
    """The cells in so many shades, a path each, and the number that has the strongest."""
    # Halved, for the difference may be more than any number can hold.
    values = least / 2 + (greatest / 2 - least / 2) * (np.minimum(codes, LEVELS - 1) / (LEVELS - 1.0))
    values[codes >= LEVELS] = 0.0
    top = float(np.abs(values).max(initial=0.0))
    shades = np.rint(_SHADES * (values / (top or 1.0))).astype(int)
    runs: dict[tuple[str, float], list[str]] = defaultdict(list)
    for y, (line, line_codes) in enumerate(zip(shades.tolist(), codes.tolist(), strict=True)):
        for x, (shade, code) in enumerate(zip(line, line_codes, strict=True)):
            if code == NAN:
                look = _NAN, 1.0
            elif code in (INFINITE, MINUS_INFINITE):
                look = "currentColor", 1.0
            elif shade:
                look = _ABOVE if shade > 0 else _BELOW, abs(shade) / _SHADES
            else:
                continue
            runs[look].append(f"M{x} {y}h1v1h-1z")
    paths = (
        f'<path fill="{colour}" fill-opacity="{opacity:.1f}" d="{"".join(cells)}"/>'
        for (colour, opacity), cells in sorted(runs.items())
    )
    crosses = "".join(f"M{x} {y}l1 1m-1 0l1-1" for y, x in np.argwhere(codes == NAN).tolist())
    cross = f'<path d="{crosses}" stroke="currentColor" stroke-width=".12"/>' if crosses else ""
    return 2 * top, "".join(paths) + cross
