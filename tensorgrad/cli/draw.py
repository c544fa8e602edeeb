"""`tensorgrad draw`: the unrolled graph of a character model, operation by operation."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tensorgrad.errors import GraphError, UserError
from tensorgrad.nn import CELLS, make_cell

if TYPE_CHECKING:
    from tensorgrad.viz import Drawing

__all__ = ["draw", "unrolled_model"]

# More would take long and much memory, and of the sizes a drawing shows but the shapes.
_MOST_NUMBERS = 100_000_000
# A timestep of any cell has more boxes than this.
_LEAST = 10
# With more timesteps than this a picture is too wide for a screen.
_WIDE = 12


def draw(
    cell: Annotated[str, typer.Option(help=f"The recurrent cell: {', '.join(CELLS)}.")] = "rnn",
    steps: Annotated[int, typer.Option("-T", "--steps", help="Timesteps.")] = 4,
    hidden: Annotated[int, typer.Option("-H", "--hidden", help="Hidden units.")] = 16,
    vocab: Annotated[int, typer.Option("-V", "--vocab", help="Different characters.")] = 10,
    batch: Annotated[int, typer.Option("-B", "--batch", help="Sequences.")] = 1,
    out: Annotated[
        Path | None,
        typer.Option(
            help="The picture: .svg, .png or .pdf, or .dot alone. Its DOT text is written beside it.",
            show_default="the cell's name, .svg",
        ),
    ] = None,
) -> None:
    """Draw the unrolled graph of a character model.

    Pictures are rendered by Graphviz; where it is not installed, the DOT text is written all the same.
    """
    from tensorgrad.viz import RenderError
    from tensorgrad.viz.drawing import suffix_of

    path = out or Path(f"{cell}.svg")
    suffix_of(path)
    if not path.parent.is_dir():
        raise UserError(f"cannot write {path}: there is no folder {path.parent}")
    drawing = unrolled_model(cell, steps, hidden, vocab, batch)
    text = path.with_suffix(".dot")
    drawing.save(text)
    size = f"{steps:,} timestep{'s' if steps > 1 else ''}, {len(drawing.model.boxes):,} boxes"
    try:
        drawing.save(path)
    except RenderError as error:
        print(f"{text}: {size}\n{path} is not written: {error}.")
    else:
        print(f"{text if path == text else f'{path}, {text}'}: {size}")
    if steps > _WIDE:
        print(f"wide picture: {steps:,} timesteps side by side; try -T 8")


def unrolled_model(cell: str, steps: int, hidden: int, vocab: int, batch: int) -> Drawing:
    """The drawing of a character model with a loss at every timestep.

    Args:
        cell: a name in `nn.CELLS`.
        steps, hidden, vocab, batch: timesteps, hidden units, different characters, sequences.

    Raises:
        UserError: an unknown cell, a size under 1, or sizes that are too large to draw.

    Example:
        >>> len(unrolled_model("rnn", steps=2, hidden=3, vocab=4, batch=1).model.frames)
        2
    """
    sizes = {"--steps": steps, "--hidden": hidden, "--vocab": vocab, "--batch": batch}
    for option, size in sizes.items():
        if size < 1:
            raise UserError(f"{option} must be at least 1, not {size}")
    numbers = 4 * hidden * (hidden + vocab) + steps * batch * (10 * vocab + 40 * hidden)
    if numbers > _MOST_NUMBERS:
        raise UserError(
            f"these sizes make about {numbers:,} numbers, too many: choose smaller ones, for a drawing shows "
            "only their shapes"
        )

    import numpy as np

    from tensorgrad import functional as F
    from tensorgrad import label, nn, ops, scope
    from tensorgrad.viz.drawing import LARGEST, draw

    too_many = UserError(
        f"{steps:,} timesteps are too many to draw: beyond {LARGEST:,} boxes nobody can read a drawing "
        "of every operation; ask for fewer --steps"
    )
    # So many that no graph is needed to know it.
    if _LEAST * steps > LARGEST:
        raise too_many

    recurrent, readout = make_cell(cell, vocab, hidden, seed=0), nn.Linear(hidden, vocab, seed=1)
    text = np.random.default_rng(0).integers(vocab, size=(steps + 1, batch))

    def step(x: Any, state: Any) -> tuple[Any, Any]:
        h, state = recurrent(x, state)
        return label(readout(h), "y"), state

    unrolled = nn.unroll(step, F.one_hot(text[:-1], vocab))
    losses = []
    for t, labelled in enumerate(unrolled.steps):
        with scope(f"t={t}"):
            losses.append(label(F.cross_entropy(labelled["y"], text[t + 1]), "L"))
    loss = label(ops.mean(ops.stack(losses)), "loss")
    try:
        return draw(loss, unrolled=unrolled, params={"cell": recurrent, "output": readout})
    except GraphError as error:
        raise too_many from error
