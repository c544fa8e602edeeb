"""The drawing as DOT text: timesteps side by side in the order of time, each flowing from the bottom upwards.

The same model gives the same text, and no text of the user's can break it or become markup. Left to itself,
Graphviz orders clusters as it likes and leads an arrow from the top of one timestep to the bottom of the next
around the whole picture. Three things prevent it: a row of invisible points below a sequence, one for each
timestep; for each carried state a visible joint where it enters the next timestep; and one height for all
that corresponds, also where a step does more than its neighbours, as it does once a sequence has ended.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from html import escape

from tensorgrad.viz.model import Arrow, Box, Frame, Kind, Model

__all__ = ["html_label", "quoted", "to_dot"]

# Tints of the Okabe-Ito colours, which people with any colour vision tell apart, and darker lines of them.
_FILL: dict[Kind, str] = {
    "parameter": "#FBE3B5",
    "input": "#CDEBD9",
    "constant": "#EFEFEF",
    "operation": "#FFFFFF",
    "state": "#BBDDF5",
    "output": "#F6CDBB",
    "reference": "#FFFFFF",
}
_LINE: dict[Kind, str] = {
    "parameter": "#B87A00",
    "input": "#00795A",
    "constant": "#8A8A8A",
    "operation": "#5A6270",
    "state": "#0064A8",
    "output": "#B8440A",
    "reference": "#5A6270",
}
_FONT = 'fontname="Helvetica,Arial,sans-serif"'
_FAINT = "#5A6270"
# newrank=true: boxes of different frames can share a height. remincross=false: when Graphviz untangles
# crossings a second time, it may put a joint behind its state.
_HEAD = (
    f"\tgraph [rankdir=BT, nodesep=0.18, ranksep=0.32, {_FONT}]",
    "\tgraph [newrank=true, remincross=false, outputorder=edgesfirst]",
    f'\tnode [shape=box, style="rounded,filled", width=0.5, height=0.3, margin="0.08,0.04", {_FONT}]',
    f'\tedge [color="{_FAINT}", arrowsize=0.6]',
)
_FRAME = 'style="rounded,filled", fillcolor="#F6F7F9", color="#C9CED6", labeljust=l, fontsize=13, margin=10'
_STYLE: dict[Kind, str] = {
    "parameter": "style=filled",
    "reference": 'style="rounded,filled,dashed"',
    "state": "penwidth=1.8",
    "output": "penwidth=1.8",
}
# What is carried from one timestep to another, by the kind of what is carried.
_LOOK: dict[Kind, str] = {
    "state": f'color="{_LINE["state"]}", penwidth=2.6, arrowsize=0.8',
    "output": f'color="{_LINE["output"]}", penwidth=1.6',
}
_BACKSLASH = "\N{REVERSE SOLIDUS OPERATOR}"
_GAP = 3
_LONGEST_LABEL = 40
_LONGEST_TOOLTIP = 500
# Control characters but the line end as the pictures that Unicode has of them: XML, and with it an HTML-like
# label, cannot hold them.
_PICTURES = {code: 0x2400 + code for code in range(32) if chr(code) != "\n"}
_PICTURES |= {0x7F: 0x2421, 0xFFFE: 0xFFFD, 0xFFFF: 0xFFFD, **dict.fromkeys(range(0x80, 0xA0), 0xFFFD)}


def to_dot(model: Model) -> str:
    r"""The DOT text of a drawing, for Graphviz's `dot`.

    Example:
        >>> import tensorgrad as tg
        >>> from tensorgrad.viz.model import build
        >>> text = to_dot(build(tg.tanh(tg.tensor(0.0, requires_grad=True, name="x"))))
        >>> text.splitlines()[-2].strip()
        '"x" -> "tanh"'
    """
    return _Writer(model).run()


def quoted(text: str) -> str:
    """Any text as a DOT string, to show as that text in a tooltip; a backslash as a sign that looks like one.

    Example:
        >>> print(quoted('say "h"'))
        "say &quot;h&quot;"
    """
    # Graphviz reads entities in every string. It looks for \N and its like in a tooltip more than once, and
    # how often depends on its version, so no number of backslashes is right.
    text = _valid(text).replace("&", "&amp;").replace('"', "&quot;").replace("\\", _BACKSLASH)
    return '"' + text.replace("\n", "\\n") + '"'


def html_label(text: str) -> str:
    r"""Any text as part of an HTML-like label that shows as exactly that text.

    Example:
        >>> html_label("<b> & \\N")
        '&lt;b&gt; &amp; \\\\N'
    """
    # Graphviz replaces \N by the node's id in these labels too, after it has read the entities.
    return escape(_valid(text), quote=False).replace("\\", "\\\\").replace("\n", "<br/>")


def _valid(text: str) -> str:
    """The text with what cannot be shown replaced by what stands for it."""
    return text.encode("utf-8", "replace").decode().translate(_PICTURES)


def _shortened(text: str, length: int) -> str:
    """The text, or its beginning and an ellipsis."""
    return text if len(text) <= length else text[: length - 1] + "…"


class _Writer:
    """The state of one `to_dot`."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self.boxes = {box.id: box for box in model.boxes}
        self.frames = {frame.id: frame for frame in model.frames}
        self.users: dict[str, list[Box]] = defaultdict(list)
        self.operands: dict[str, list[Box]] = defaultdict(list)
        for arrow in model.arrows:
            self.users[arrow.tail].append(self.boxes[arrow.head])
            self.operands[arrow.head].append(self.boxes[arrow.tail])
        self.rows, self.levels = self.find_rows()
        self.statements: dict[str, list[str]] = defaultdict(list)
        self.edges: list[str] = []
        # The joints of each state, and the states that run from later timesteps to earlier ones.
        self.joints: dict[str, dict[str, None]] = defaultdict(dict)
        self.backwards: set[str] = set()

    def run(self) -> str:
        for box in self.model.boxes:
            self.statements[box.frame].append(_box(box))
        for arrow in self.model.arrows:
            self.draw(arrow)
        for box in self.model.boxes:
            if box.kind == "state" or box.id in self.joints:
                self.line_up(box)
        self.order_frames()
        self.edges += [f"{{rank=same; {'; '.join(map(quoted, row))}}}" for row in self.rows]
        return "\n".join(
            ["digraph {", *_HEAD, self.legend(), *self.nested(), *(f"\t{edge}" for edge in self.edges), "}\n"]
        )

    def legend(self) -> str:
        """What the colours mean, of the kinds there are."""
        kinds = {box.kind for box in self.model.boxes}
        cells = "".join(
            f'<td bgcolor="{_FILL[kind]}" color="{_LINE[kind]}">{kind}</td>'
            for kind in _FILL
            if kind in kinds
        )
        table = '<table border="0" cellborder="1" cellspacing="6" cellpadding="3">'
        return f"\tgraph [label=<{table}<tr>{cells}</tr></table>>, labeljust=l, labelloc=t, fontsize=11]"

    def draw(self, arrow: Arrow) -> None:
        tail, head = self.boxes[arrow.tail], self.boxes[arrow.head]
        if not arrow.carried:
            self.edge(tail.id, head.id)
            return
        look = _LOOK.get(tail.kind, "")
        entry, backwards = self.way_in(tail, head)
        alone = sum(user.frame == head.frame for user in self.users[tail.id]) == 1
        if entry is not None and alone and not head.name and head in self.operands[entry.id]:
            # A part of the state's own sum, such as f * c: from a joint beside the state it would hook back.
            self.edge(tail.id, head.id, look, "constraint=false")
            self.put_first(head, self.operands[entry.id], backwards)
            return
        if entry is None or (self.levels[entry.id] == self.levels[head.id] and (alone or entry is not head)):
            self.edge(tail.id, head.id, look, "constraint=false")
            return
        joint = f"{entry.id}@{tail.frame}"
        if joint not in self.joints[entry.id]:
            self.joints[entry.id][joint] = None
            color = f'color="{_LINE[tail.kind]}"'
            self.statements[entry.frame].append(f"{quoted(joint)} [shape=point, width=0.08, {color}]")
            self.edge(tail.id, joint, look, "arrowhead=none, constraint=false")
            if backwards:
                self.backwards |= {tail.id, entry.id}
        if self.levels[entry.id] > self.levels[head.id]:
            # Turned round, since Graphviz puts the end of an arrow above its beginning.
            self.edge(head.id, joint, look, "dir=back")
        elif entry is head:
            self.edge(joint, head.id, look, "constraint=false")
        else:
            self.edge(joint, head.id, look)

    def put_first(self, box: Box, row: list[Box], backwards: bool) -> None:
        """Put a box before the others of its frame and height, on the side that the last timestep is on."""
        for other in row:
            level = self.levels[box.id] if other.frame == box.frame else -1
            if other is not box and self.levels[other.id] == level:
                left, right = (other, box) if backwards else (box, other)
                chain = f"{quoted(left.id)} -> {quoted(right.id)}"
                self.statements[box.frame].append(f"{{rank=same; {chain} [style=invis]}}")

    def edge(self, tail: str, head: str, *attributes: str) -> None:
        given = ", ".join(attribute for attribute in attributes if attribute)
        self.edges.append(f"{quoted(tail)} -> {quoted(head)}" + (f" [{given}]" if given else ""))

    def way_in(self, tail: Box, head: Box) -> tuple[Box | None, bool]:
        """Where a value carried to another timestep enters it, and whether that is an earlier timestep.

        It enters beside the box that corresponds to its own there: h of t=3 beside h of t=4, and h of an
        encoder's last timestep beside h of the decoder's first.
        """
        path, other = self.path(tail.frame), self.path(head.frame)
        same = next(i for i, (a, b) in enumerate(zip(path, other, strict=False)) if a is not b)
        before, after = (
            next(i for i, frame in enumerate(way) if i >= same and frame.step is not None)
            for way in (path, other)
        )
        inside = [frame.id.rpartition(".")[2] for frame in path[before + 1 :]]
        entry = self.boxes.get(".".join([other[after].id, *inside, tail.role]))
        one_sequence = before == after == same
        return entry, one_sequence and (path[before].step or 0) > (other[after].step or 0)

    def find_rows(self) -> tuple[list[list[str]], dict[str, int]]:
        """The named boxes that correspond, to stand at one height; and how high every box stands at least."""
        rows: dict[str, list[str]] = defaultdict(list)
        for box in self.model.boxes:
            if box.name and box.frame and box.kind != "constant":
                around = self.path(box.frame)
                place = ["t" if frame.step is not None else frame.id.rpartition(".")[2] for frame in around]
                rows["/".join([*place, box.role])].append(box.id)
        found = [row for row in rows.values() if len(row) > 1]
        try:
            return found, self.find_levels(found)
        except CycleError:
            # In one timestep h is made of c, and in another c of h.
            return [], self.find_levels([])

    def find_levels(self, rows: list[list[str]]) -> dict[str, int]:
        """The longest way up to each box, where those of one row stand at one height."""
        first = {box: row[0] for row in rows for box in row}
        below: dict[str, dict[str, None]] = {first.get(box, box): {} for box in self.boxes}
        for arrow in self.model.arrows:
            if not arrow.carried:
                below[first.get(arrow.head, arrow.head)][first.get(arrow.tail, arrow.tail)] = None
        levels: dict[str, int] = {}
        for box in TopologicalSorter(below).static_order():
            levels[box] = max((levels[other] + 1 for other in below[box]), default=0)
        return {box: levels[first.get(box, box)] for box in self.boxes}

    def path(self, frame: str) -> list[Frame]:
        """The frames around what is in a frame, from the outermost inwards."""
        names = frame.split(".")
        return [self.frames[".".join(names[: i + 1])] for i in range(len(names))]

    def line_up(self, state: Box) -> None:
        """Put a state at the far side of its row, so that the way to the next timestep is clear."""
        users = [user for user in self.users[state.id] if user.frame == state.frame]
        beside = [
            operand.id
            for operand in (self.operands[users[0].id] if users else ())
            if not operand.op and operand.frame == state.frame and len(self.users[operand.id]) == 1
        ]
        row = [*self.joints[state.id], *dict.fromkeys(beside), state.id]
        if len(row) > 1:
            if state.id in self.backwards:
                row.reverse()
            chain = " -> ".join(quoted(box) for box in row)
            self.statements[state.frame].append(f"{{rank=same; {chain} [style=invis]}}")

    def order_frames(self) -> None:
        """A row of invisible points below sibling frames, each tied to the lowest box in its frame.

        Timesteps come in the order of time. So do the other frames as they were recorded, but for those that
        stand on what feeds them, as one layer on another.
        """
        rows: dict[tuple[str, bool], list[Frame]] = defaultdict(list)
        fed = self.fed_frames()
        for frame in self.model.frames:
            if frame.step is not None or frame.id not in fed:
                rows[frame.parent, frame.step is not None].append(frame)

        def low(box: Box) -> tuple[int, bool]:
            # A leaf first: what is made of a carried state alone has nothing below it but stands high up.
            return self.levels[box.id], bool(box.op)

        lowest: dict[str, Box] = {}
        for box in self.model.boxes:
            around = box.frame
            while around:
                if around not in lowest or low(box) < low(lowest[around]):
                    lowest[around] = box
                around = self.frames[around].parent
        first = {frames[0].parent: f"{frames[0].id}@" for frames in rows.values() if len(frames) > 1}
        for (parent, _), frames in rows.items():
            if len(frames) > 1:
                points = [f"{frame.id}@" for frame in frames]
                chain = " -> ".join(quoted(point) for point in points)
                self.statements[parent].append(
                    "{rank=same; node [shape=point, style=invis, width=0, height=0]; edge [style=invis]; "
                    f"{chain}}}"
                )
                for point, frame in zip(points, frames, strict=True):
                    # Where a frame has such a row within it, tied to that: an arrow into one of its frames
                    # would draw that one out of line.
                    self.edge(point, first.get(frame.id, lowest[frame.id].id), "style=invis")

    def fed_frames(self) -> set[str]:
        """The frames that an arrow enters from outside, those between timesteps apart."""
        fed = set()
        for arrow in self.model.arrows:
            tail, around = self.boxes[arrow.tail].frame, self.boxes[arrow.head].frame
            if not arrow.carried:
                while around and not f"{tail}.".startswith(f"{around}."):
                    fed.add(around)
                    around = self.frames[around].parent
        return fed

    def nested(self) -> Iterator[str]:
        """The statements of all frames, each in its cluster."""
        for statement in self.statements[""]:
            yield f"\t{statement}"
        around: list[str] = []
        for frame in self.model.frames:
            while around and around[-1] != frame.parent:
                around.pop()
                yield "\t" * (len(around) + 1) + "}"
            indent = "\t" * (len(around) + 1)
            yield f"{indent}subgraph {quoted('cluster_' + frame.id)} {{"
            around.append(frame.id)
            title = f"<b>{html_label(_shortened(frame.title, _LONGEST_LABEL))}</b>"
            yield f"{indent}\tgraph [label=<{title}>, {_FRAME}]"
            for statement in self.statements[frame.id]:
                yield f"{indent}\t{statement}"
        while around:
            around.pop()
            yield "\t" * (len(around) + 1) + "}"


def _box(box: Box) -> str:
    name, op = (html_label(_shortened(text, _LONGEST_LABEL)) for text in (box.name, box.op))
    # The empty line is room for what hangs below a name.
    lines = [f"<b>{name}</b>", f'<font point-size="{_GAP}"> </font>'] if name else []
    if op:
        lines.append(f'<font point-size="{11 if name else 12}">{op}</font>')
    lines.append(f'<font point-size="10" color="{_FAINT}">{box.shape} {box.dtype}</font>')
    told = [_shortened(line, _LONGEST_TOOLTIP) for line in (_headline(box), *box.notes)]
    attributes = [
        f"label=<{'<br/>'.join(lines)}>",
        f'fillcolor="{_FILL[box.kind]}", color="{_LINE[box.kind]}"',
        f"tooltip={quoted(chr(10).join(told))}",
    ]
    if box.kind in _STYLE:
        attributes.append(_STYLE[box.kind])
    return f"{quoted(box.id)} [{', '.join(attributes)}]"


def _headline(box: Box) -> str:
    made = f"{box.name} = {box.op}" if box.name and box.op else box.name or box.op
    return f"{made}, {box.kind} {box.shape} {box.dtype}"
