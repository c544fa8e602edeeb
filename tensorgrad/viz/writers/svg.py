"""The drawing as SVG, written directly: one self-contained file without fonts, scripts or references.

Every element has its light colours as attributes, for viewers that know nothing else. One style, under the
class of the root, gives those colours their dark values where the reader prefers a dark page. The colours of
a `Look`, which are to be compared with a scale, stay as they are: they are styles. Nothing is referred to by
id, so several drawings can stand in one page.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from itertools import groupby

from tensorgrad.viz.picture import (
    Line,
    Look,
    Mark,
    Outline,
    Patch,
    Picture,
    Placed,
    Point,
    Stroke,
    Text,
    Wire,
)
from tensorgrad.viz.style.palette import (
    DARK,
    FAINT,
    FONT,
    FRAME,
    INK,
    KINDS,
    PAPER,
    Ink,
    Paint,
    ink_of,
    ink_on,
)
from tensorgrad.viz.style.shapes import LABEL_SIZE, Lengths, corners, hatching, headed, label_place, legend
from tensorgrad.viz.style.text import (
    LONGEST_NOTE,
    STYLES,
    TITLE,
    TITLE_AT,
    baselines,
    description,
    measurable,
    shortened,
    shown,
    text_width,
)

__all__ = ["to_svg"]

_DASHES = {
    "solid": "",
    "hatched": "",
    "dashed": ' stroke-dasharray="5 3"',
    "dotted": ' stroke-dasharray="1.5 3"',
}
# A text of letters whose widths are known and no longer than this stays in its box in any font.
_SURE = 100.0
_DARK = "".join(
    f'.tgv [{part}="{light}"]{{{part}:{dark}}}' for light, dark in DARK.items() for part in ("fill", "stroke")
)
_NO_LOOK = Look()
_STYLE = f"<style>@media screen and (prefers-color-scheme:dark){{.tgv{{fill:{DARK[INK]}}}{_DARK}}}</style>"
_ENTITIES = {ord("&"): "&amp;", ord("<"): "&lt;", ord(">"): "&gt;", ord('"'): "&quot;"}


def to_svg(picture: Picture) -> str:
    """The SVG text of a drawing.

    Example:
        >>> import tensorgrad as tg
        >>> from tensorgrad.viz.build import build
        >>> from tensorgrad.viz.place import place
        >>> x = tg.tensor(0.5, requires_grad=True, name="x")
        >>> to_svg(place(build(tg.tanh(x))))[:51]
        '<svg xmlns="http://www.w3.org/2000/svg" class="tgv"'
    """
    return _Writer(picture).run()


class _Writer:
    """The state of one `to_svg`."""

    def __init__(self, picture: Picture) -> None:
        self.picture = picture
        self.blocks = {box.frame for box in picture.model.boxes if box.kind == "block"}
        self.numbers = Lengths()
        self.out: list[str] = []

    def run(self) -> str:
        picture, looks = self.picture, self.picture.looks
        key = legend(picture)
        self.head(max(picture.width, key.width), key.height)
        for outline in picture.outlines:
            self.outline(outline)
        self.wires([(wire, looks.get(i)) for i, wire in enumerate(picture.wires)])
        for placed in picture.boxes:
            self.box(placed, looks.get(placed.box.id, _NO_LOOK))
        for wire in picture.wires:
            if wire.label:
                self.label(wire)
        self.marks(picture.marks)
        for placed in key.boxes:
            self.box(placed, _NO_LOOK)
        self.wires([(wire, None) for wire in key.wires])
        self.marks(key.texts)
        self.out.append("</svg>\n")
        return "".join(self.out)

    def head(self, width: float, above: float) -> None:
        n = self.numbers
        title, told = _headlines(self.picture)
        wide, high, top = n[width], n[self.picture.height + above], n[0.0 - above]
        self.out += [
            '<svg xmlns="http://www.w3.org/2000/svg" class="tgv" role="img" xml:space="preserve" ',
            f'width="{wide}pt" height="{high}pt" viewBox="0 {top} {wide} {high}" ',
            f'font-family="{FONT}" font-size="10" text-anchor="middle" fill="{INK}">',
            f"{_hint(title)}<desc>{_escaped(shown(told))}</desc>{_STYLE}",
            f'<rect y="{top}" width="{wide}" height="{high}" fill="{PAPER}"/>\n',
        ]

    # --- boxes and frames --------------------------------------------------------------------------------
    def outline(self, outline: Outline) -> None:
        n, frame = self.numbers, outline.frame
        title = shortened(outline.title)
        dashes = _DASHES["dashed"] if frame.id in self.blocks else ""
        begin, down = TITLE_AT
        self.out.append(
            f'<g id="{frame.id}">{_hint(outline.title)}{self.rectangle(outline)}'
            f' rx="{n[FRAME.radius]}" fill="{FRAME.fill}" stroke="{FRAME.line}"{dashes}/>'
            f'<text x="{n[outline.x + begin]}" y="{n[outline.y + down]}" text-anchor="start"'
            f"{_text(title, TITLE.size, TITLE.bold, FAINT)}</g>\n"
        )

    def box(self, placed: Placed, look: Look) -> None:
        n, box = self.numbers, placed.box
        told = f"{description(box)}\n{look.hint}" if look.hint else description(box)
        # A legend's boxes have no id, and nothing to tell.
        about = f' id="{box.id}">{_hint(told)}' if box.id else ">"
        style = f' style="fill:{ink_on(look.fill)}"' if look.fill else ""
        out = [f"<g{style}{about}", self.rectangle(placed), _painted(KINDS[box.kind], look)]
        if look.pattern == "hatched":
            out.append(self.hatched(placed, look.line or KINDS[box.kind].line, 0.25))
        x = n[placed.x + placed.width / 2]
        for line, y in zip(placed.lines, baselines(placed.lines, placed.y, placed.height), strict=True):
            out.append(f'<text x="{x}" y="{n[y]}"{_line(line, not look.fill)}')
        out.append("</g>\n")
        self.out += out

    def rectangle(self, at: Placed | Outline | Patch) -> str:
        n = self.numbers
        return f'<rect x="{n[at.x]}" y="{n[at.y]}" width="{n[at.width]}" height="{n[at.height]}"'

    def hatched(self, at: Placed | Patch, color: str, strength: float) -> str:
        n = self.numbers
        lines = hatching(at.x, at.y, at.width, at.height)
        way = "".join(f"M{n[ax]} {n[ay]}L{n[bx]} {n[by]}" for (ax, ay), (bx, by) in lines)
        return f'<path d="{way}" stroke="{color}" stroke-opacity="{strength}"/>'

    # --- wires -------------------------------------------------------------------------------------------
    def wires(self, wires: Iterable[tuple[Wire, Look | None]]) -> None:
        for ink, group in groupby(wires, lambda wire: ink_of(wire[0])):
            around = f'<g fill="none" stroke="{ink.color}" stroke-linejoin="round"'
            self.out.append(f'{around} stroke-width="{ink.width:g}">\n')
            heads: list[str] = []
            for wire, look in group:
                if look is None:
                    points, head = self.parted(wire, ink.head)
                    self.out.append(f'<path d="{self.way(points)}"/>\n')
                    heads.append(head)
                else:
                    self.painted_wire(wire, look, ink_of(wire, look))
            # In one path, which is shorter by half; their own lines show what belongs to what.
            tips = "".join(heads)
            self.out.append(
                f'<path d="{tips}" fill="{ink.color}" stroke="none"/></g>\n' if tips else "</g>\n"
            )

    def painted_wire(self, wire: Wire, look: Look, ink: Ink) -> None:
        points, head = self.parted(wire, ink.head)
        color = f'style="fill:{look.line};stroke:{look.line}"' if look.line else f'fill="{ink.color}"'
        tip = f'<path d="{head}" stroke="none"/>' if head else ""
        line = (
            f'<path d="{self.way(points)}" fill="none" stroke-width="{ink.width:g}"{_DASHES[look.pattern]}/>'
        )
        self.out.append(f"<g {color}>{_hint(look.hint)}{line}{tip}</g>\n")

    def parted(self, wire: Wire, length: float) -> tuple[Sequence[Point], str]:
        """The points of a wire up to its arrowhead, and the arrowhead."""
        if not wire.arrow:
            return wire.points, ""
        n = self.numbers
        line, (tip, a, b) = headed(wire.points, length)
        return line, f"M{n[tip[0]]} {n[tip[1]]}L{n[a[0]]} {n[a[1]]}L{n[b[0]]} {n[b[1]]}Z"

    def way(self, points: Sequence[Point]) -> str:
        """A line through points, with its corners rounded."""
        n = self.numbers
        x, y = points[0]
        out = [f"M{n[x]} {n[y]}"]
        for (ax, ay), (vx, vy), (bx, by) in corners(points):
            out.append(f"{self.to(x, y, ax, ay)}Q{n[vx]} {n[vy]} {n[bx]} {n[by]}")
            x, y = bx, by
        out.append(self.to(x, y, *points[-1]))
        return "".join(out)

    def to(self, x: float, y: float, ax: float, ay: float) -> str:
        n = self.numbers
        if y == ay:
            return f"H{n[ax]}" if x != ax else ""
        return f"V{n[ay]}" if x == ax else f"L{n[ax]} {n[ay]}"

    def label(self, wire: Wire) -> None:
        text = shortened(wire.label)
        x, y, upright = label_place(wire)
        if upright:
            self.marks([Text(x + 5.0, y + 3.6, text, LABEL_SIZE, "start", color=FAINT)])
        else:
            self.marks([Text(x, y - 4.0, text, LABEL_SIZE, "middle", color=FAINT)])

    # --- marks -------------------------------------------------------------------------------------------
    def marks(self, marks: Iterable[Mark]) -> None:
        for kind, group in groupby(marks, type):
            # Without softened edges, patches side by side leave no seam.
            self.out.append('<g shape-rendering="crispEdges">' if kind is Patch else "<g>")
            self.out += [self.mark(mark) for mark in group]
            self.out.append("</g>\n")

    def mark(self, mark: Mark) -> str:
        n = self.numbers
        if isinstance(mark, Text):
            anchor = "" if mark.anchor == "middle" else f' text-anchor="{mark.anchor}"'
            rest = _text(shortened(mark.text, LONGEST_NOTE), mark.size, mark.bold, mark.color)
            return f'<text x="{n[mark.x]}" y="{n[mark.y]}"{anchor}{rest}'
        if isinstance(mark, Stroke):
            line = f'stroke="{mark.color}" stroke-width="{n[mark.width]}"{_DASHES[mark.pattern]}'
            return f'<path d="{self.way(mark.points)}" fill="none" {line}/>'
        line = f' stroke="{mark.line}"{_DASHES[mark.pattern]}' if mark.line else ""
        patch = f'{self.rectangle(mark)} fill="{mark.fill}"{line}>{_hint(mark.hint)}</rect>'
        return patch + (self.hatched(mark, mark.line or FAINT, 0.7) if mark.pattern == "hatched" else "")


def _headlines(picture: Picture) -> tuple[str, str]:
    """What the drawing is called, and what is in it, for who cannot see it."""
    boxes = picture.model.boxes
    steps = [step for step, _, _ in picture.times]
    over = f" from t={min(steps)} to t={max(steps)}" if steps else ""
    parameters = ", ".join(box.name for box in boxes if box.kind == "parameter")
    told = f"{len(boxes)} boxes and {len(picture.model.arrows)} arrows."
    return f"Computation graph{over}", told + (f" Parameters: {parameters}." if parameters else "")


@lru_cache(maxsize=8192)
def _painted(paint: Paint, look: Look) -> str:
    """The end of a box's rectangle."""
    style = (f"fill:{look.fill};" if look.fill else "") + (f"stroke:{look.line}" if look.line else "")
    width = paint.width if look.width is None else look.width
    dashes = _DASHES["dashed" if paint.dashed and look.pattern == "solid" else look.pattern]
    return "".join(
        [
            f' rx="{paint.radius:g}"' if paint.radius else "",
            f' fill="{paint.fill}"' if not look.fill else "",
            f' stroke="{paint.line}"' if not look.line else "",
            f' style="{style}"' if style else "",
            f' stroke-width="{width:g}"' if width != 1 else "",
            f"{dashes}/>",
        ]
    )


@lru_cache(maxsize=8192)
def _line(line: Line, in_color: bool) -> str:
    size, _, bold = STYLES[line.style]
    return _text(line.text, size, bold, FAINT if line.style in ("type", "note") and in_color else INK)


def _text(text: str, size: float, bold: bool, color: str) -> str:
    """The end of a text element."""
    text = shown(text)
    width = text_width(text, size, bold)
    attributes = [
        f' font-size="{size:g}"' if size != 10 else "",
        ' font-weight="bold"' if bold else "",
        f' fill="{color}"' if color != INK else "",
        ""
        if width <= _SURE and measurable(text)
        else f' textLength="{width:.0f}" lengthAdjust="spacingAndGlyphs"',
    ]
    return f"{''.join(attributes)}>{_escaped(text)}</text>"


def _hint(text: str) -> str:
    """A text of any number of lines to show on hovering; nothing for an empty one."""
    lines = [_escaped(shown(shortened(line, LONGEST_NOTE))) for line in text.split("\n")]
    return "<title>" + "\n".join(lines) + "</title>" if text else ""


def _escaped(text: str) -> str:
    return text.translate(_ENTITIES)
