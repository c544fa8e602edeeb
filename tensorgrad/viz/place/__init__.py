"""The layout of a drawing: time along one axis, role in the timestep along the other, by our own hand.

A general layout program does not know what time is, and grows faster than the graph. This one looks at each
kind of timestep once and repeats it. In reading order:

- `scene`, `guests`, `phases`: which timesteps follow each other, which sequences go side by side, what stands
  before, between and after;
- `rows`: which boxes of different timesteps play one role, and in which row it stands;
- `ways`, `between`: what is joined to what in the column that all timesteps share, and between columns;
- `layers`, `spread`, `lanes`, `ports`: order in a row, places along it, lanes between rows, ends at boxes;
- `columns`, `nests`, `heights`: the column in lengths;
- `parts`, `joints`: the same for what stands outside of all timesteps;
- `assembly`: the pieces put together;
- `paper`, `stamps`, `routes`, `labels`: boxes, outlines and wires.

Until the very end, time runs along u and role along v, upwards. A drawing in which time runs downwards has
the extents of its boxes exchanged before, and u and v after.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from tensorgrad.viz.model import Model
from tensorgrad.viz.picture import Picture
from tensorgrad.viz.place.assembly import Assembly
from tensorgrad.viz.place.guests import seat
from tensorgrad.viz.place.phases import Phases
from tensorgrad.viz.place.routes import drawn
from tensorgrad.viz.place.scene import Scene

__all__ = ["place"]


def place(
    model: Model, *, vertical: bool = False, extra: Mapping[str, Iterable[str]] | None = None
) -> Picture:
    """Lay out a drawing.

    Args:
        model: of any level of detail.
        vertical: whether time runs downwards and not to the right.
        extra: more lines of text by the id of a box.

    Example:
        >>> import tensorgrad as tg
        >>> from tensorgrad.viz.build import build
        >>> x = tg.tensor(0.5, requires_grad=True, name="x")
        >>> picture = place(build(tg.tanh(x)))
        >>> [placed.x for placed in picture.boxes], picture.wires[0].points
        ([25.0, 103.0], ((81.0, 30.5), (103.0, 30.5)))
    """
    scene = Scene(model, extra or {}, vertical)
    seat(scene)
    scene.sort_arrows()
    return drawn(Assembly(Phases(scene)))
