r"""The drawing as DOT text with positions, for any Graphviz: it draws what is here and lays nothing out.

``layout=nop2`` says so to `dot` itself; ``neato -n2`` is the same. Lengths are points, y points upwards.
Every arrow of the graph is an edge between the nodes of its boxes, so the text can be read as a graph too.
The line along which a value runs to its many users is an edge of its own, to an invisible node whose id has
an "@". What is no part of the graph, such as strips and legends, is the graph's background.

No text of the user's can break this text or become markup in it. It stands in HTML-like labels, escaped, and
in the background, where its bytes are counted: in any other string Graphviz reads ``\N`` and entities.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from html import escape
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
from tensorgrad.viz.style.palette import FAINT, FONT, FRAME, INK, KINDS, PAPER, Ink, Paint, ink_of, ink_on
from tensorgrad.viz.style.shapes import LABEL_SIZE, Lengths, corners, hatching, headed, label_place, legend
from tensorgrad.viz.style.text import (
    LONGEST_NOTE,
    STYLES,
    TITLE,
    TITLE_AT,
    baselines,
    shortened,
    shown,
    text_width,
)

__all__ = ["to_dot"]

_NO_LOOK = Look()
# A sign like a backslash: how many bytes a backslash counts in xdot differs from version to version.
_BACKSLASH = "\N{SET MINUS}"
# No letter takes more than four bytes, and no backslash is parted from its quotation mark.
_PIECE = re.compile(r"(?:\\.|.){1,4000}")
_LINES = {"solid": "solid", "hatched": "solid", "dashed": "dashed", "dotted": "dotted"}
_NOTHING = 'shape=point, style=invis, width=0.01, height=0.01, label=""'
_PLAIN = KINDS["operation"]
# A node whose label is wider than itself is no reason to warn: the font may be another than was measured.
_HEAD = (
    f'\tnode [shape=box, style="rounded,filled", fixedsize=shape, fontname="{FONT}", fontsize=10, '
    f'fontcolor="{INK}", fillcolor="{_PLAIN.fill}", color="{_PLAIN.line}"]',
    f'\tedge [fontname="{FONT}", fontsize=10, fontcolor="{FAINT}"]',
)


def to_dot(picture: Picture) -> str:
    """The DOT text of a drawing; the same text for the same drawing.

    Example:
        >>> import tensorgrad as tg
        >>> from tensorgrad.viz.build import build
        >>> from tensorgrad.viz.place import place
        >>> x = tg.tensor(0.5, requires_grad=True, name="x")
        >>> '"x" -> "tanh"' in to_dot(place(build(tg.tanh(x))))
        True
    """
    return _Writer(picture).run()


class _Writer:
    """The state of one `to_dot`."""

    def __init__(self, picture: Picture) -> None:
        self.picture = picture
        self.blocks = {box.frame for box in picture.model.boxes if box.kind == "block"}
        self.numbers = Lengths()
        self.statements: dict[str, list[str]] = defaultdict(list)

    def run(self) -> str:
        picture, looks = self.picture, self.picture.looks
        homes = self.homes()
        for placed in picture.boxes:
            self.statements[homes[placed.box.frame]].append(
                self.box(placed, looks.get(placed.box.id, _NO_LOOK))
            )
        edges = list(self.edges((wire, looks.get(i), i) for i, wire in enumerate(picture.wires)))
        return "\n".join(["digraph {", self.head(), *_HEAD, *self.nested(), *edges, "}\n"])

    def at(self, point: Point) -> str:
        n = self.numbers
        return f"{n[point[0]]},{n[self.picture.height - point[1]]}"

    def head(self) -> str:
        key, picture = legend(self.picture), self.picture
        width = max(picture.width, key.width)
        paper = Patch(0.0, -key.height, width, picture.height + key.height, PAPER)
        drawn = [*self.marks([paper, *picture.marks])]
        for placed in key.boxes:
            drawn += self.sample(placed)
        for wire in key.wires:
            drawn += self.sample_wire(wire)
        drawn += self.marks(key.texts)
        n = self.numbers
        return (
            f'\tgraph [bb="0,0,{n[width]},{n[picture.height + key.height]}", layout=nop2, pad=0, margin=0, '
            f'outputorder=edgesfirst, fontname="{FONT}", fontcolor="{FAINT}", _background={_pieced(drawn)}]'
        )

    # --- boxes and frames --------------------------------------------------------------------------------
    def homes(self) -> dict[str, str]:
        """For each frame the innermost around it that is drawn, itself included."""
        drawn = {outline.frame.id for outline in self.picture.outlines}
        homes = {"": ""}
        for frame in self.picture.model.frames:
            homes[frame.id] = frame.id if frame.id in drawn else homes[frame.parent]
        return homes

    def nested(self) -> Iterator[str]:
        """The statements of all frames, each in its cluster."""
        inside: dict[str, list[Outline | None]] = defaultdict(list)
        homes = self.homes()
        for outline in self.picture.outlines:
            inside[homes[outline.frame.parent]].append(outline)
        yield from self.statements[""]
        waiting = inside[""][::-1]
        while waiting:
            around = waiting.pop()
            if around is None:
                yield "\t}"
                continue
            yield self.cluster(around)
            yield from self.statements[around.frame.id]
            waiting.append(None)
            waiting += reversed(inside[around.frame.id])

    def cluster(self, outline: Outline) -> str:
        x, y, title = outline.x, outline.y, shown(shortened(outline.title))
        begin, down = TITLE_AT
        middle = x + begin + text_width(title, TITLE.size, TITLE.bold) / 2, y + down - 0.36 * TITLE.size
        corner, other = (x, y + outline.height), (x + outline.width, y)
        style = "rounded,filled,dashed" if outline.frame.id in self.blocks else "rounded,filled"
        return (
            f'\tsubgraph "cluster_{outline.frame.id}" {{ graph [bb="{self.at(corner)},{self.at(other)}", '
            f'style="{style}", fillcolor="{FRAME.fill}", color="{FRAME.line}", '
            f'label=<<b>{_escaped(title)}</b>>, lp="{self.at(middle)}", fontsize={TITLE.size:g}]'
        )

    def box(self, placed: Placed, look: Look) -> str:
        middle = placed.x + placed.width / 2, placed.y + placed.height / 2
        lines = "<br/>".join([_line(line, not look.fill) for line in placed.lines])
        return (
            f'\t"{placed.box.id}" [pos="{self.at(middle)}", width={placed.width / 72:.5g}, '
            f"height={placed.height / 72:.5g}, label=<{lines}>{_painted(KINDS[placed.box.kind], look)}]"
        )

    # --- wires -------------------------------------------------------------------------------------------
    def edges(self, wires: Iterable[tuple[Wire, Look | None, int]]) -> Iterator[str]:
        for ink, group in groupby(wires, lambda wire: ink_of(wire[0])):
            yield f"\tedge [{_inked(ink)}]"
            for wire, look, number in group:
                tail, head = wire.tail, wire.head
                if not tail or not head:
                    # Of a rail one end is in no box.
                    end = f"{tail or head}@{number}"
                    where = self.at(wire.points[-1 if tail else 0])
                    yield f'\t"{end}" [pos="{where}", {_NOTHING}]'
                    tail, head = tail or end, head or end
                own = ink if look is None else ink_of(wire, look)
                also = "" if look is None else f", {_inked(own)}, style={_LINES[look.pattern]}"
                yield f'\t"{tail}" -> "{head}" [{self.way(wire, own)}{self.label(wire)}{also}]'

    def way(self, wire: Wire, ink: Ink) -> str:
        if not wire.arrow:
            return f'pos="{self.spline(wire.points)}", arrowhead=none'
        line, (tip, _, _) = headed(wire.points, ink.head)
        return f'pos="e,{self.at(tip)} {self.spline(line)}"'

    def spline(self, points: Sequence[Point]) -> str:
        """A line through points with its corners rounded, as cubic Bézier curves."""
        at = self.at
        last, end = at(points[0]), at(points[-1])
        out = [last]
        for a, (x, y), b in corners(points):
            begin, after = at(a), at(b)
            # A quadratic curve raised to a cubic one: two thirds of the way to the corner.
            toward = at((a[0] + (x - a[0]) / 1.5, a[1] + (y - a[1]) / 1.5))
            back = at((b[0] + (x - b[0]) / 1.5, b[1] + (y - b[1]) / 1.5))
            out += [last, begin, begin, toward, back, after]
            last = after
        return " ".join([*out, last, end, end])

    def label(self, wire: Wire) -> str:
        if not wire.label:
            return ""
        text = shown(shortened(wire.label))
        x, y, upright = label_place(wire)
        half = text_width(text, LABEL_SIZE) / 2
        middle = (x + 5.0 + half, y) if upright else (x, y - 8.0)
        return f', label=<{_escaped(text)}>, lp="{self.at(middle)}"'

    # --- the background ----------------------------------------------------------------------------------
    def marks(self, marks: Iterable[Mark]) -> Iterator[str]:
        """Marks in the language of Graphviz's xdot output."""
        for mark in marks:
            if isinstance(mark, Text):
                text = shown(shortened(mark.text, LONGEST_NOTE)).replace("\\", _BACKSLASH)
                side = {"start": -1, "middle": 0, "end": 1}[mark.anchor]
                width = self.numbers[text_width(text, mark.size, mark.bold)]
                yield f"F {mark.size:g} {len(FONT)} -{FONT} t {int(mark.bold)} {_pen(mark.color)}"
                yield f"T {self.spot((mark.x, mark.y))} {side} {width} {_counted(text)}"
            elif isinstance(mark, Stroke):
                yield f"{_pen(mark.color)} {_style(mark.width, mark.pattern)} {self.polyline(mark.points)}"
            else:
                right, low = mark.x + mark.width, mark.y + mark.height
                around = ((mark.x, mark.y), (right, mark.y), (right, low), (mark.x, low))
                # Without a line of its own it has one of its colour, which would fray it where it is dotted.
                pattern = mark.pattern if mark.line else "solid"
                yield f"{_pen(mark.line or mark.fill)} {_style(1.0, pattern)} C {_counted(mark.fill)}"
                yield f"P 4 {' '.join(map(self.spot, around))}"
                if mark.pattern == "hatched":
                    yield _pen(mark.line or FAINT)
                    yield from map(self.polyline, hatching(mark.x, mark.y, mark.width, mark.height))

    def sample(self, placed: Placed) -> Iterator[str]:
        """A box of the legend."""
        paint = KINDS[placed.box.kind]
        size = placed.x, placed.y, placed.width, placed.height
        yield from self.marks([Patch(*size, paint.fill, paint.line, "dashed" if paint.dashed else "solid")])
        x = placed.x + placed.width / 2
        for line, y in zip(placed.lines, baselines(placed.lines, placed.y, placed.height), strict=True):
            yield from self.marks([Text(x, y, line.text, STYLES[line.style].size, "middle", color=FAINT)])

    def sample_wire(self, wire: Wire) -> Iterator[str]:
        ink = ink_of(wire)
        line, head = headed(wire.points, ink.head)
        yield from self.marks([Stroke(line, ink.color, ink.width)])
        yield f"C {_counted(ink.color)} P 3 {' '.join(map(self.spot, head))}"

    def polyline(self, points: Sequence[Point]) -> str:
        return f"L {len(points)} {' '.join(map(self.spot, points))}"

    def spot(self, point: Point) -> str:
        return self.at(point).replace(",", " ")


@lru_cache(maxsize=8192)
def _painted(paint: Paint, look: Look) -> str:
    """The attributes of a node by which it differs from an operation's."""
    fill, line = look.fill or paint.fill, look.line or paint.line
    width = paint.width if look.width is None else look.width
    if look.pattern == "hatched":
        # Graphviz has stripes, and only for boxes with corners.
        style, fill = "striped", ":".join([fill, FRAME.line] * 4)
    else:
        pattern = "dashed" if paint.dashed and look.pattern == "solid" else look.pattern
        style = (
            ("rounded," if paint.radius else "") + "filled" + ("" if pattern == "solid" else f",{pattern}")
        )
    return "".join(
        [
            f', fillcolor="{fill}"' if fill != _PLAIN.fill else "",
            f', color="{line}"' if line != _PLAIN.line else "",
            f', fontcolor="{ink_on(look.fill)}"' if look.fill else "",
            f', style="{style}"' if style != "rounded,filled" else "",
            f", penwidth={width:g}" if width != 1 else "",
        ]
    )


@lru_cache(maxsize=8192)
def _line(line: Line, in_color: bool) -> str:
    size, _, bold = STYLES[line.style]
    text = _escaped(shown(line.text))
    size_of = f' point-size="{size:g}"' if size != 10 else ""
    color = f' color="{FAINT}"' if line.style in ("type", "note") and in_color else ""
    if bold:
        text = f"<b>{text}</b>"
    return f"<font{size_of}{color}>{text}</font>" if size_of or color else text


def _escaped(text: str) -> str:
    r"""Any text as part of an HTML-like label that shows as exactly that text.

    Example:
        >>> print(_escaped("<b> & \\N"))
        &lt;b&gt; &amp; \\N
    """
    # Graphviz replaces \N by the node's id in these labels too, after it has read the entities.
    return escape(text, quote=False).replace("\\", "\\\\")


def _pieced(words: Iterable[str]) -> str:
    """A text in quotation marks, in pieces that are added up: Graphviz reads none of more than 16 kB."""
    text = " ".join(words).replace('"', '\\"')
    return " +\n\t\t".join(f'"{piece}"' for piece in _PIECE.findall(text))


def _counted(text: str) -> str:
    """A string in xdot, which counts bytes."""
    return f"{len(text.encode())} -{text}"


def _pen(color: str) -> str:
    return f"c {_counted(color)}"


def _style(width: float, pattern: str) -> str:
    return f"S {_counted(f'setlinewidth({width:g})')} S {_counted(_LINES[pattern])}"


def _inked(ink: Ink) -> str:
    """The attributes of an edge."""
    return f'color="{ink.color}", penwidth={ink.width:g}, arrowsize={ink.head / 10:g}'
