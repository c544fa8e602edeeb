"""What a comparison found: a table in the terminal, a panel in a notebook, one HTML file."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from textwrap import fill
from typing import NamedTuple

import numpy as np

from tensorgrad.bptt.codes import CATALOGUE
from tensorgrad.bptt.doctor import Finding
from tensorgrad.errors import GradientError, UserError

__all__ = ["Report", "Row"]

WIDTH = 100
LONGEST_NAME = 28
# From agreement to an error of 1, in equal steps of its logarithm. ASCII, which every terminal can show.
SHADES = ".:-=+*#%@"
# Of an SVG: so many cells side by side can still be told apart and hovered over.
MOST_CELLS = 400


class Row(NamedTuple):
    """One tensor of the comparison, over all timesteps together.

    name: as it was given. shape: of what was given.
    error: the norm of the difference over the norm of the right gradient, at the worst timestep.
    cosine: between the two, NaN where one is zero. ok: whether the error is within tolerance.
    ratio: the norm of what was given over that of the right gradient, NaN where that is zero.
    """

    name: str
    shape: tuple[int, ...]
    error: float
    cosine: float
    ok: bool
    ratio: float = float("nan")


class _Cell(NamedTuple):
    """A piece of the map: timesteps start to stop, the worst error among them, and its shade, 0 for none."""

    start: int
    stop: int
    error: float
    shade: int
    first: bool


@dataclass(frozen=True, eq=False, repr=False)
class Report:
    """What a comparison found.

    rows: one for each tensor, in the order given. tolerance: that of the errors.
    steps: for each record with a time axis its error at every timestep, (T,).
    first_divergence: name and timestep (None for what has none) of the first that differs, in the order in
        which a backward computes them; None where all agree.
    diagnosis: which mistakes explain the numbers, the likeliest first.
    residue: where none does, how the first tensor to differ follows from the right one.
    diagnosed: whether a mistake was looked for.
    numbers: by name and timestep (None for what has none) the creation number of the node in the graph.

    >>> report = Report([Row("W_hh", (3, 3), 0.0, 1.0, True, 1.0)], 1e-9, {}, None)
    >>> print(report)
    The 1 tensor given agrees with the graph, within 1e-09.
    <BLANKLINE>
    tensor             shape      error     cosine      ratio
    W_hh                 3x3    0.0e+00   1.000000          1  agrees
    """

    rows: list[Row]
    tolerance: float
    steps: dict[str, np.ndarray]
    first_divergence: tuple[str, int | None] | None
    diagnosis: list[Finding] = field(default_factory=list)
    residue: list[str] = field(default_factory=list)
    diagnosed: bool = True
    numbers: dict[tuple[str, int | None], int] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        """Whether everything agrees."""
        return all(row.ok for row in self.rows)

    def raise_if_different(self) -> None:
        """Raise GradientError with the whole report unless everything agrees."""
        if not self.ok:
            raise GradientError(str(self))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the report to one HTML file, which needs no other and no network; replaced if it exists.

        Raises UserError for a place that cannot be written.
        """
        try:
            Path(path).write_text(self.to_html(), encoding="utf-8")
        except OSError as error:
            raise UserError(f"cannot write {path}: {error.strerror or error}") from error

    def to_html(self) -> str:
        """The report as a whole page, light or dark as its reader's system is."""
        return (
            '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
            '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
            '<meta name="color-scheme" content="light dark">\n<title>A backward, compared</title>\n'
            "<style>:root { color-scheme: light dark } body { margin: 2em }</style>\n</head>\n"
            f"<body>\n{self._repr_html_()}\n</body>\n</html>\n"
        )

    def __repr__(self) -> str:
        codes = [finding.code for finding in self.diagnosis]
        return f"Report(ok={self.ok}, first_divergence={self.first_divergence}, diagnosis={codes})"

    # --- in words ----------------------------------------------------------------------------------------
    def _summary(self) -> str:
        n, wrong = len(self.rows), sum(not row.ok for row in self.rows)
        if not wrong:
            agree = "agrees" if n == 1 else "agree"
            return f"The {_count(n, 'tensor')} given {agree} with the graph, within {self.tolerance:g}."
        return f"The backward differs from the graph in {wrong} of {_count(n, 'tensor')}."

    def _first(self) -> str:
        """The first divergence, and how far it goes on from there."""
        assert self.first_divergence is not None
        name, t = self.first_divergence
        if t is None:
            return f"First to differ, in the order of a backward: {_name(name)}."
        errors = self.steps[name]
        wrong = int((~(errors <= self.tolerance)).sum())
        return (
            f"First to differ, in the order of a backward: {_name(name)} at t={t}, by {errors[t]:.1e}; "
            f"it differs at {wrong} of {_count(len(errors), 'timestep')}."
        )

    def _verdict(self) -> str:
        """What stands above the findings, or above what can be said without."""
        if len(self.diagnosis) > 1:
            return f"Each of these {len(self.diagnosis)} mistakes explains the numbers, each with an example:"
        if self.diagnosis:
            return "This mistake explains the numbers, with an example:"
        none = "No known mistake explains the numbers." if self.diagnosed else "No mistake was looked for."
        assert self.first_divergence is not None
        name, t = self.first_divergence
        at = "" if t is None else f" at t={t}"
        return f"{none} What can be said of {_name(name)}{at}:" if self.residue else none

    def _map(self, most: int) -> dict[str, list[_Cell]]:
        """For each record its errors over time, in at most so many pieces."""
        name, t = self.first_divergence or (None, None)
        cells = {}
        for of, errors in self.steps.items():
            size = math.ceil(len(errors) / most)
            starts = range(0, len(errors), size)
            cells[of] = [self._cell(errors, k, size, t if of == name else None) for k in starts]
        return cells

    def _cell(self, errors: np.ndarray, start: int, size: int, first: int | None) -> _Cell:
        piece = errors[start : start + size]
        # NaN, where the right gradient itself is not finite, is as bad as can be.
        error = float(np.nan_to_num(piece, nan=np.inf).max())
        shade = 0
        if error > self.tolerance:
            decades = math.log(min(error, 1.0) / self.tolerance) / math.log(1 / self.tolerance)
            shade = 1 + int(decades * (len(SHADES) - 2))
        return _Cell(start, start + len(piece), error, shade, first is not None and 0 <= first - start < size)

    # --- in a terminal -----------------------------------------------------------------------------------
    def __str__(self) -> str:
        parts = [self._summary(), "\n".join(self._table())]
        if self.first_divergence is not None:
            if self.steps:
                parts.append("\n".join(self._map_lines()))
            parts += [fill(self._first(), WIDTH), fill(self._verdict(), WIDTH)]
            parts += ["\n".join(_finding_lines(finding)) for finding in self.diagnosis]
            if self.residue:
                parts.append("\n".join(_hanging("- ", text) for text in self.residue))
        return "\n\n".join(parts)

    def _table(self) -> Iterator[str]:
        width = max(len("tensor"), *(len(_name(row.name)) for row in self.rows))
        yield f"{'tensor':{width}}  {'shape':>16}  {'error':>9}  {'cosine':>9}  {'ratio':>9}"
        for row in self.rows:
            numbers = f"{row.error:9.1e}  {_number(row.cosine, '.6f'):>9}  {_number(row.ratio, '.4g'):>9}"
            verdict = "agrees" if row.ok else "DIFFERS"
            yield f"{_name(row.name):{width}}  {_shape(row.shape):>16}  {numbers}  {verdict}"

    def _map_lines(self) -> Iterator[str]:
        """A line a tensor, a character a timestep; a few timesteps where there are many."""
        head = "error at t ="
        width = max(len(head), *(len(_name(name)) for name in self.steps))
        most = WIDTH - width - 2
        lines = self._map(most)
        cells = next(iter(lines.values()))
        # A number cut off at the edge would be another number.
        ticks = [str(cells[k].start) for k in range(0, len(cells), 10)]
        if 10 * (len(ticks) - 1) + len(ticks[-1]) > most:
            ticks.pop()
        yield f"{head:{width}}  {''.join(f'{tick:<10}' for tick in ticks).rstrip()}"
        for name, cells in lines.items():
            yield f"{_name(name):{width}}  {''.join(SHADES[cell.shade] for cell in cells)}"
            yield from (f"{'first ^':>{width + 3 + k}}" for k, cell in enumerate(cells) if cell.first)
        size = cells[0].stop
        each = f"; each character is {size} timesteps, the worst of them" if size > 1 else ""
        yield f"({SHADES[0]} agrees, {SHADES[1:]} from {self.tolerance:g} to 1 and more{each})"

    # --- in a browser ------------------------------------------------------------------------------------
    def _repr_html_(self) -> str:
        parts = [f"<p><b>{escape(self._summary())}</b></p>", self._html_table()]
        if self.first_divergence is not None:
            parts.append(f"<p>{escape(self._first())}</p>")
            if self.steps:
                parts.append(f'<div class="tg-map">{self._svg()}</div>')
            parts.append(f"<p><b>{escape(self._verdict())}</b></p>")
            parts += [_html_finding(finding) for finding in self.diagnosis]
            if self.residue:
                parts.append(f"<ul>{''.join(f'<li>{escape(text)}</li>' for text in self.residue)}</ul>")
        return f'<div class="tg-bptt">\n<style>{_STYLE}</style>\n' + "\n".join(parts) + "\n</div>"

    def _html_table(self) -> str:
        heads = ("tensor", "shape", "error", "cosine", "ratio", "")
        lines = ["<tr>" + "".join(f"<th>{head}</th>" for head in heads) + "</tr>"]
        for row in self.rows:
            numbers = (f"{row.error:.1e}", _number(row.cosine, ".6f"), _number(row.ratio, ".4g"))
            verdict = "<td>agrees</td>" if row.ok else '<td class="tg-wrong">differs</td>'
            cells = "".join(f"<td>{text}</td>" for text in (_shape(row.shape), *numbers))
            title = escape(_printable(row.name))
            lines.append(f'<tr><th title="{title}">{escape(_name(row.name))}</th>{cells}{verdict}</tr>')
        return f"<table>{''.join(lines)}</table>"

    def _svg(self) -> str:
        lines = self._map(MOST_CELLS)
        columns = next(iter(lines.values()))
        side, high = max(3, min(22, 840 // len(columns))), 20
        left = 14 + 8 * max(len(_name(name)) for name in lines)
        shapes, marks = [], []
        for k in range(0, len(columns), next(n for n in (1, 2, 5, 10, 20) if n * side >= 40)):
            shapes.append(f'<text x="{left + side * k}" y="12">{"" if k else "t="}{columns[k].start}</text>')
        for line, (name, cells) in enumerate(lines.items()):
            y = 20 + high * line
            shapes.append(f'<text x="{left - 8}" y="{y + 14}" text-anchor="end">{escape(_name(name))}</text>')
            for k, cell in enumerate(cells):
                box = f'x="{left + side * k}" y="{y}" width="{side}" height="{high - 2}"'
                kind = "tg-no" if cell.shade else "tg-yes"
                shade = f'class="{kind}" fill-opacity="{0.1 + 0.11 * cell.shade:.2f}"'
                shapes.append(f"<rect {box} {shade}><title>{escape(_hover(name, cell))}</title></rect>")
                if cell.first:
                    marks.append(f'<rect class="tg-first" {box}/>')
        size = f'width="{left + side * len(columns) + 40}" height="{22 + high * len(lines)}"'
        head = f'<svg {size} role="img" aria-label="errors by tensor and timestep">'
        return f"{head}{''.join(shapes + marks)}</svg>"


# No colour of its own for text or paper, so that it is at home in a light and in a dark notebook.
_STYLE = """
.tg-bptt { font: 14px/1.5 system-ui, sans-serif }
.tg-bptt table { border-collapse: collapse; font-family: ui-monospace, monospace; font-size: 13px }
.tg-bptt th, .tg-bptt td { padding: 2px 12px; text-align: right; border-bottom: 1px solid #8884 }
.tg-bptt th:first-child { text-align: left }
.tg-bptt .tg-wrong { color: #d5432f; font-weight: bold }
.tg-bptt .tg-map { overflow-x: auto }
.tg-bptt svg { display: block; font: 12px ui-monospace, monospace; fill: currentColor }
.tg-bptt rect:hover { stroke: currentColor }
.tg-bptt .tg-no { fill: #d5432f }
.tg-bptt .tg-first { fill: none; stroke: currentColor; stroke-width: 2; pointer-events: none }
.tg-bptt section { border-left: 4px solid #d5432f; padding: 0 1em; margin: 1em 0; max-width: 60em }
.tg-bptt pre { background: #8882; padding: .5em 1em; overflow-x: auto; margin: .2em 0 }
"""


def _html_finding(finding: Finding) -> str:
    code = CATALOGUE[finding.code]
    lines = "".join(
        f"<div>{head}<pre>{escape(text)}</pre></div>"
        for head, text in (("Forward", code.forward), ("Wrong", code.wrong), ("Right", code.right))
    )
    return (
        f"<section><p><b>{code.code}: {escape(code.title)}</b><br>"
        f"Where: {escape(_printable(finding.where))}</p>{lines}"
        f"<p>Why it may still train: {escape(code.why_it_may_train)}</p></section>"
    )


def _hover(name: str, cell: _Cell) -> str:
    span = f"t={cell.start}" + (f" to {cell.stop - 1}" if cell.stop > cell.start + 1 else "")
    return f"{_printable(name)} at {span}: {cell.error:.1e}" + (", the first to differ" if cell.first else "")


def _finding_lines(finding: Finding) -> Iterator[str]:
    code = CATALOGUE[finding.code]
    yield _hanging(f"{code.code}: ", code.title)
    yield _hanging("    where  ", _printable(finding.where))
    for head, text in (("wrong", code.wrong), ("right", code.right)):
        for k, line in enumerate(text.splitlines()):
            yield f"    {'' if k else head:5}  {line}"


def _hanging(head: str, text: str) -> str:
    return fill(text, WIDTH, initial_indent=head, subsequent_indent=" " * len(head))


def _printable(text: str) -> str:
    """A name of the user's, which may hold anything: on one line, and no control codes for the terminal."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def _name(name: str) -> str:
    """A name, short enough for a column."""
    name = _printable(name)
    return name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 10]}...{name[-7:]}"


def _shape(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape)) or "scalar"


def _number(value: float, form: str) -> str:
    return "-" if math.isnan(value) else f"{value:{form}}"


def _count(n: int, what: str) -> str:
    return f"{n} {what}" + "s" * (n != 1)
