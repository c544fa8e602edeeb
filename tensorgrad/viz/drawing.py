"""`draw`: a recorded graph as a picture."""

from __future__ import annotations

import os
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tensorgrad.errors import GraphError, UserError
from tensorgrad.viz.dot import to_dot
from tensorgrad.viz.model import Model, build

if TYPE_CHECKING:
    import graphviz

__all__ = ["LARGEST", "SUFFIXES", "Drawing", "draw", "suffix_of"]

LARGEST = 5_000
"""The boxes up to which a drawing of every operation is of use, and its layout a matter of seconds."""
_TIMEOUT = 60.0
SUFFIXES = (".svg", ".png", ".pdf", ".dot")


def draw(output: Any, *, unrolled: Any = None, params: Any = None) -> Drawing:
    """Draw the graph that computed `output`: every operation, each timestep and scope in a frame of its own.

    Args:
        output: a Tensor such as the loss, or a tree of Tensors.
        unrolled: what `nn.unroll` returned; its labels name the boxes where two have the same name.
        params: a Module or any tree of Tensors; its paths name the leaves that were given no name.

    Returns:
        A `Drawing`, which shows itself in a notebook.

    Raises:
        GraphError: there is nothing to draw, or more than anyone could read.

    Example:
        >>> import tensorgrad as tg
        >>> cell = tg.nn.RNNCell(2, 3, seed=0)
        >>> roll = tg.nn.unroll(cell, [[1.0, 0.0], [0.0, 1.0]])
        >>> drawing = draw(tg.sum(roll.outputs), unrolled=roll, params=cell)
        >>> '"t0.h" -> "t1.h@t0"' in drawing.source
        True
    """
    model = build(output, unrolled, params)
    if len(model.boxes) > LARGEST:
        steps = sum(frame.step is not None for frame in model.frames)
        size = f"{len(model.boxes):,} boxes" + (f" in {steps:,} timesteps" if steps else "")
        raise GraphError(
            f"draw: this graph has {size}, and beyond {LARGEST:,} nobody can read a drawing of every "
            "operation: draw the graph of fewer timesteps, such as nn.unroll(cell, xs[:20])"
        )
    return Drawing(model)


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


class Drawing:
    """A drawn graph.

    Attributes:
        model: the boxes, arrows and frames in it.
        source: its DOT text, for the layout of Graphviz's `dot`; the same text for the same graph.
    """

    def __init__(self, model: Model) -> None:
        self.model = model
        self.source = to_dot(model)
        self._tried: tuple[str, str] | None = None

    @property
    def graphviz(self) -> graphviz.Digraph:
        """A new `graphviz.Digraph` of the same DOT text, to add to or to render in other ways."""
        import graphviz

        return graphviz.Digraph(body=self.source.splitlines(keepends=True)[1:-1])

    def save(self, path: str | os.PathLike[str], timeout: float = _TIMEOUT) -> None:
        """Write the drawing to a file of the kind that its suffix names.

        Args:
            path: ends in .svg, .png, .pdf or .dot; replaced if it exists.
            timeout: seconds after which to give up rendering; a .dot needs none.

        Raises:
            UserError: another suffix, or a place that cannot be written.
            RenderError: no Graphviz is installed, or it failed or took too long; nothing is written.

        Example:
            >>> import tempfile, tensorgrad as tg
            >>> path = os.path.join(tempfile.mkdtemp(), "tanh.dot")
            >>> draw(tg.tanh(tg.tensor(0.5, requires_grad=True, name="x"))).save(path)
        """
        suffix = suffix_of(path)
        data = self.source.encode() if suffix == ".dot" else self._rendered(suffix[1:], timeout)
        try:
            Path(path).write_bytes(data)
        except OSError as error:
            raise UserError(f"cannot write {path}: {error.strerror or error}") from error

    def _rendered(self, form: str, timeout: float = _TIMEOUT) -> bytes:
        # Imported here, for it has no part in starting tensorgrad.
        from tensorgrad.viz.render import render

        return render(self.source, form, timeout)

    def _svg(self) -> tuple[str, str]:
        """The SVG, or an empty text and why there is none; tried once."""
        if self._tried is None:
            from tensorgrad.viz.render import RenderError

            try:
                self._tried = self._rendered("svg").decode(), ""
            except RenderError as error:
                self._tried = "", str(error)
        return self._tried

    def __repr__(self) -> str:
        boxes, arrows = len(self.model.boxes), len(self.model.arrows)
        return f"<Drawing of {boxes} boxes and {arrows} arrows; save it as {', '.join(SUFFIXES)}>"

    def _repr_svg_(self) -> str | None:
        return self._svg()[0] or None

    def _repr_html_(self) -> str:
        svg, problem = self._svg()
        if problem:
            return f"<p>{escape(problem)}</p><pre>{escape(self.source)}</pre>"
        # Without the XML prologue, and scrolled rather than shrunk: time is long.
        return f'<div style="overflow-x: auto">{svg[svg.index("<svg") :]}</div>'
