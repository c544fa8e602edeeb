"""`draw`: a recorded graph as a picture, in any of three levels of detail."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, get_args

from tensorgrad import tree
from tensorgrad.bptt.report import Report
from tensorgrad.context import collector_paused
from tensorgrad.errors import GraphError, UserError
from tensorgrad.graph import Node
from tensorgrad.viz import levels
from tensorgrad.viz.build import build
from tensorgrad.viz.measuring.measure import measure, walk
from tensorgrad.viz.measuring.measures import Measures
from tensorgrad.viz.model import Model
from tensorgrad.viz.painting.notes import notes
from tensorgrad.viz.painting.paint import paint
from tensorgrad.viz.picture import Picture
from tensorgrad.viz.place import place
from tensorgrad.viz.writers.dot import to_dot
from tensorgrad.viz.writers.svg import to_svg

if TYPE_CHECKING:
    import graphviz

__all__ = ["LARGEST", "SUFFIXES", "Drawing", "Level", "draw", "suffix_of"]

Level = Literal["op", "cell", "rolled"]

LARGEST = 60_000
"""The boxes up to which a drawing is made at all; of more nobody makes out anything."""
# A page is read whole before it shows anything.
_LARGEST_ON_A_PAGE = 20_000
_TIMEOUT = 60.0
SUFFIXES = (".svg", ".png", ".pdf", ".html", ".dot")
_DIRECTIONS = ("LR", "TB")


def draw(
    output: Any,
    *,
    unrolled: Any = None,
    params: Any = None,
    level: Level = "op",
    steps: str | Iterable[int] | None = None,
    values: bool = False,
    grads: bool = False,
    backward: bool = False,
    compare: Report | None = None,
    rankdir: str = "LR",
) -> Drawing:
    """Draw the graph that computed `output`: time along one axis, what a timestep does along the other.

    Of a long sequence the first and last five timesteps are drawn,
    with a block that says how many lie between.

    Args:
        output: a Tensor such as the loss, or a tree of Tensors.
        unrolled: what `nn.unroll` or the `unroll` of a layer returned: its labels name the boxes, and its
            state is followed through time.
        params: a Module or any tree of Tensors; its paths name the leaves that were given no name.
        level: "op" for every operation, "cell" for one box a timestep, "rolled" for one timestep with a loop.
        steps: timesteps to draw besides the first and the last, such as range(100, 110), or "all". At the
            cell level those named are drawn operation by operation, and "all" draws every one as a box; at
            the rolled level naming any opens the one timestep.
        values: write into each box the range and the mean of its values.
        grads: write into each box the norm of the gradient of `output` with respect to it.
        backward: draw the gradient that flows back along every line, in width and colour, and how it
            fares through time under the columns.
        compare: what `bptt.compare` returned, to see each error in its place.
        rankdir: where time runs, "LR" to the right or "TB" downwards.

    Returns:
        A `Drawing`, which shows itself in a notebook.

    Raises:
        GraphError: there is nothing to draw, or more than anyone could read; a run or a report of another
            graph; "cell" or "rolled" where no timesteps are on record.
        UserError: a timestep that is not there, an unknown level or direction, something else than a report,
            parameters that are none.

    Example:
        >>> import tensorgrad as tg
        >>> cell = tg.nn.RNNCell(2, 3, seed=0)
        >>> roll = tg.nn.unroll(cell, [[1.0, 0.0], [0.0, 1.0]])
        >>> drawing = draw(tg.sum(roll.outputs), unrolled=roll, params=cell)
        >>> '"t0.h" -> "t1.a"' in drawing.source
        True
    """
    if level not in get_args(Level):
        raise UserError(f"draw: level is one of {', '.join(get_args(Level))}, not {level!r}")
    if rankdir not in _DIRECTIONS:
        raise UserError(f"draw: rankdir is one of {', '.join(_DIRECTIONS)}, not {rankdir!r}")
    if compare is not None and not isinstance(compare, Report):
        raise UserError(f"draw: compare= takes what bptt.compare returned, not {type(compare).__name__}")
    shown = Shown(values, grads, backward, compare, rankdir == "TB")
    with collector_paused():
        _check_params(params)
        whole = build(output, unrolled, params)
        _check_run(whole, unrolled)
        _check_level(whole, level)
        if compare is not None and not set(compare.numbers.values()) <= {box.number for box in whole.boxes}:
            raise GraphError("draw: compare= is a report of another graph than the one drawn")
        wanted = levels.chosen_steps(whole, steps)
        drawing = Drawing(output, unrolled, whole, level, wanted, shown)
        _check_size(drawing.model, level)
    return drawing


def _check_params(params: Any) -> None:
    leaves = tree.leaves(params)
    if params is not None and leaves and not any(isinstance(leaf, Node) for leaf in leaves):
        raise UserError(
            "draw: params= takes a Module or a tree of Tensors, such as a dict, and there is no Tensor in "
            f"this {type(params).__name__}"
        )


def _check_run(whole: Model, unrolled: Any) -> None:
    if unrolled is None:
        return
    own = [*unrolled.steps, getattr(unrolled, "state", None)]
    recorded = {x.index for x in tree.leaves(own) if isinstance(x, Node) and x.op is not None}
    if recorded and recorded.isdisjoint(box.number for box in whole.boxes):
        raise GraphError(
            "draw: unrolled= is a run of another graph than the one drawn: give the run that this output was "
            "computed from, or leave it out"
        )


def _check_level(whole: Model, level: Level) -> None:
    if level == "op" or levels.sequences(whole):
        return
    if any(box.op == "checkpoint" for box in whole.boxes):
        why = "what is inside a checkpoint is not on record: unroll without checkpoint=, or"
    else:
        why = "nothing in this graph was made in a scope such as t=0: use nn.unroll, or tg.scope, or"
    raise GraphError(f'draw: level="{level}" needs timesteps, and {why} take level="op"')


def _check_size(model: Model, level: Level) -> None:
    if len(model.boxes) <= LARGEST:
        return
    count = sum(map(len, levels.sequences(model).values()))
    if not count:
        way_out = (
            "nothing in it was made in a scope such as t=0, by which timesteps are told apart: use "
            "nn.unroll, or draw the graph of fewer steps"
        )
    elif level == "op":
        way_out = 'leave out steps="all", or take level="cell" or level="rolled"'
    else:
        way_out = 'leave out steps="all", or take level="rolled"'
    raise GraphError(
        f"draw: this drawing has {len(model.boxes):,} boxes"
        + (f" in {count:,} timesteps" if count else "")
        + f", and beyond {LARGEST:,} nobody can read it: {way_out}"
    )


def suffix_of(path: str | os.PathLike[str]) -> str:
    """The suffix of a file for a drawing, in small letters.

    Raises:
        UserError: it is not one of `SUFFIXES`.

    Example:
        >>> suffix_of("rnn.SVG")
        '.svg'
    """
    suffix = Path(path).suffix.lower()
    if suffix not in SUFFIXES:
        raise UserError(f"cannot draw into {path}: its name must end in one of {', '.join(SUFFIXES)}")
    return suffix


class Shown(NamedTuple):
    """What a drawing shows besides the graph; the arguments of `draw`."""

    values: bool
    grads: bool
    backward: bool
    compare: Report | None
    vertical: bool


class Drawing:
    """A drawn graph.

    Everything is made when it is first asked for. A drawing holds on to the graph that it shows.

    Attributes:
        whole: the drawing model of every operation of every timestep.
        level: "op", "cell" or "rolled".
    """

    def __init__(
        self,
        output: Any,
        unrolled: Any,
        whole: Model,
        level: Level,
        steps: frozenset[int] | None,
        shown: Shown,
    ) -> None:
        self.whole = whole
        self.level: Level = level
        self._output = output
        self._unrolled = unrolled
        self._steps = steps
        self._shown = shown

    @cached_property
    def model(self) -> Model:
        """The boxes, arrows and frames that are drawn."""
        return self._model(self.level, self._steps)

    @cached_property
    def measures(self) -> Measures:
        """The numbers that the drawing shows."""
        values, grads, backward, compare, _ = self._shown
        wanted = {"values": values, "grads": grads, "backward": backward, "every": backward}
        return self._measured([self.model], compare=compare, **wanted)

    @cached_property
    def picture(self) -> Picture:
        """The drawing with everything in its place."""
        values, grads, backward, compare, vertical = self._shown
        measures = self.measures
        with collector_paused():
            extra = {}
            if values or grads:
                extra = {box.id: notes(box, measures, values=values, grads=grads) for box in self.model.boxes}
            placed = place(self.model, vertical=vertical, extra=extra)
            return paint(placed, measures, backward=backward, compare=compare is not None)

    @cached_property
    def source(self) -> str:
        """The DOT text, with every position in it; the same text for the same graph."""
        picture = self.picture
        with collector_paused():
            return to_dot(picture)

    @property
    def graphviz(self) -> graphviz.Digraph:
        """A new `graphviz.Digraph` of the same DOT text, to add to or to render in other ways."""
        import graphviz

        return graphviz.Digraph(body=self.source.splitlines(keepends=True)[1:-1])

    def save(self, path: str | os.PathLike[str], timeout: float = _TIMEOUT) -> None:
        """Write the drawing to a file of the kind that its suffix names.

        Args:
            path: ends in .svg, .html or .dot, which need nothing else, or in .png or .pdf, which need
                Graphviz; replaced if it exists. A page has all three levels and all that can be measured.
            timeout: seconds after which to give up rendering a .png or .pdf.

        Raises:
            UserError: another suffix, or a place that cannot be written.
            RenderError: no Graphviz is installed, or it failed or took too long; the DOT text is written
                beside it.

        Example:
            >>> import tempfile, tensorgrad as tg
            >>> path = os.path.join(tempfile.mkdtemp(), "tanh.svg")
            >>> draw(tg.tanh(tg.tensor(0.5, requires_grad=True, name="x"))).save(path)
        """
        suffix = suffix_of(path)
        if suffix == ".dot":
            _write(path, self.source.encode())
        elif suffix == ".svg":
            _write(path, self._repr_svg_().encode())
        elif suffix == ".html":
            _write(path, self._page(Path(path).stem).encode())
        else:
            self._render(Path(path), suffix[1:], timeout)

    def _render(self, path: Path, form: str, timeout: float) -> None:
        # Imported here, for it has no part in starting tensorgrad.
        from tensorgrad.viz.writers.render import RenderError, render

        try:
            data = render(self.source, form, timeout)
        except RenderError as error:
            text = path.with_suffix(".dot")
            _write(text, self.source.encode())
            raise RenderError(
                f"{error}. Its DOT text is in {text}; .svg and .html need no Graphviz"
            ) from None
        _write(path, data)

    def _page(self, title: str) -> str:
        from tensorgrad.viz.measuring.thumbs import thumbnails
        from tensorgrad.viz.writers.html import to_html

        models = {level: self._for_page(level) for level in get_args(Level)}
        compare = self._shown.compare
        # One walk for all numbers: hooks on the graph see it.
        walked = walk(self._output)
        everything = {"values": True, "grads": True, "backward": True, "every": True}
        measures = self._measured(models.values(), compare=compare, walked=walked, **everything)
        pictures = {level: place(model) for level, model in models.items()}
        return to_html(
            pictures,
            measures,
            title=title,
            thumbs=thumbnails(self._output, models.values(), walked=walked),
            level=self.level,
            view="compare" if compare is not None else "backward" if self._shown.backward else "forward",
        )

    def _for_page(self, level: Level) -> Model:
        """The model of a level with every timestep, or as few as the drawing has where all are too many."""
        model = self._model(level, None)
        few = len(model.boxes) <= _LARGEST_ON_A_PAGE
        return model if few and level != "rolled" else self._model(level, self._steps or frozenset())

    def _model(self, level: Level, steps: frozenset[int] | None) -> Model:
        if level == "rolled":
            # As textbooks draw it, with one box for the cell, unless its operations were asked for.
            return levels.rolled(levels.cells(self.whole) if not steps else self.whole)
        fewer = self.whole if steps is None else levels.elided(self.whole, steps)
        return fewer if level == "op" else levels.cells(fewer, steps or ())

    def _measured(self, models: Collection[Model], **wanted: Any) -> Measures:
        if not any(wanted.values()):
            return Measures()
        groups = {arrow.shares for model in models for arrow in model.arrows if len(arrow.shares) > 1}
        cells = [box for model in models for box in model.boxes if box.kind == "cell"]
        return measure(self.whole, self._output, self._unrolled, groups=groups, boxes=cells, **wanted)

    def __repr__(self) -> str:
        boxes, arrows = len(self.model.boxes), len(self.model.arrows)
        return f"<Drawing of {boxes:,} boxes and {arrows:,} arrows; save it as {', '.join(SUFFIXES)}>"

    def _repr_svg_(self) -> str:
        picture = self.picture
        with collector_paused():
            return to_svg(picture)

    def _repr_html_(self) -> str:
        # Scrolled rather than shrunk: time is long.
        return f'<div style="overflow-x: auto">{self._repr_svg_()}</div>'


def _write(path: str | os.PathLike[str], data: bytes) -> None:
    try:
        Path(path).write_bytes(data)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror or error}") from error
