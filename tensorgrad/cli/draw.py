"""`tensorgrad draw`: the unrolled graph of a character model, as a page to walk through or as a picture."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from tensorgrad.cli import arguments, runs
from tensorgrad.errors import GraphError, UserError
from tensorgrad.nn import CELLS, make_cell

if TYPE_CHECKING:
    from tensorgrad.tensor import Tensor

__all__ = ["Problem", "draw", "drawn_steps", "fresh_model", "trained_model"]

# More would take long and much memory, and of the sizes a drawing shows but the shapes.
_MOST_NUMBERS = 100_000_000
_STEPS, _HIDDEN, _VOCAB, _BATCH = 4, 16, 10, 1
_OF_A_FRESH_MODEL = ("cell", "steps", "hidden", "vocab", "batch")


@arguments.limit_threads()
def draw(
    ctx: typer.Context,
    cell: Annotated[str, typer.Option(help=f"The recurrent cell: {', '.join(CELLS)}.")] = "rnn",
    steps: Annotated[int, typer.Option("-T", "--steps", help="Timesteps.")] = _STEPS,
    hidden: Annotated[int, typer.Option("-H", "--hidden", help="Hidden units.")] = _HIDDEN,
    vocab: Annotated[int, typer.Option("-V", "--vocab", help="Different characters.")] = _VOCAB,
    batch: Annotated[int, typer.Option("-B", "--batch", help="Sequences.")] = _BATCH,
    checkpoint: Annotated[
        Path | None,
        typer.Option(help="A trained model, or the folder of its run, in place of a new one; needs --text."),
    ] = None,
    text: Annotated[
        str | None, typer.Option(help="What the trained model reads, of two characters or more.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="A page to walk through (.html), a picture (.svg, .png, .pdf), or DOT text (.dot).",
            show_default="the cell's name, or model for a trained one, and .html",
        ),
    ] = None,
    level: Annotated[
        str, typer.Option(help="op: every operation; cell: a box a timestep; rolled: one timestep, a loop.")
    ] = "op",
    show: Annotated[
        str,
        typer.Option(help="Timesteps to draw besides the first and last five, such as 10:20,50; or all."),
    ] = "",
    values: Annotated[
        bool, typer.Option("--values", help="Write the range of its values into a box.")
    ] = False,
    grads: Annotated[
        bool, typer.Option("--grads", help="Write the norm of its gradient into a box.")
    ] = False,
    backward: Annotated[
        bool, typer.Option("--backward", help="Colour the lines by the gradient that flows back.")
    ] = False,
    down: Annotated[bool, typer.Option("--down", help="Let time run downwards.")] = False,
) -> None:
    """Draw the unrolled graph of a character model, new or trained.

    A page has all there is to see, whatever is asked for here. PNG and PDF are rendered by Graphviz; where it
    is not installed, the DOT text is written instead.
    """
    path = out or Path(f"{cell if checkpoint is None else 'model'}.html")
    _check_path(path)
    if checkpoint is None:
        if text is not None:
            raise UserError("--text is for a trained model: name it with --checkpoint")
        problem = fresh_model(cell, steps, hidden, vocab, batch)
    else:
        if any(arguments.given(ctx, _OF_A_FRESH_MODEL)):
            raise UserError(
                "a trained model has its own cell and sizes: --checkpoint goes with none of --cell, --steps, "
                "--hidden, --vocab and --batch"
            )
        problem = trained_model(checkpoint, text or "")
    shown = {"values": values, "grads": grads, "backward": backward, "rankdir": "TB" if down else "LR"}
    count = _draw(problem, path, level=level, steps=drawn_steps(show), **shown)
    print(f"{path}: {problem.T:,} timestep{'s' if problem.T > 1 else ''}, {count:,} values")


def _check_path(path: Path) -> None:
    """Before anything is computed, see whether a drawing can be written there."""
    from tensorgrad.viz.drawing import suffix_of

    suffix_of(path)
    if not path.parent.is_dir():
        raise UserError(f"cannot write {path}: there is no folder {path.parent}")


def _draw(problem: Problem, path: Path, **shown: Any) -> int:
    """Write the drawing, and say how many values the graph has; the rest are arguments of `viz.draw`."""
    from tensorgrad import viz

    try:
        drawing = viz.draw(problem.loss, unrolled=problem.unrolled, params=problem.params, **shown)
        drawing.save(path)
    except (GraphError, viz.RenderError) as error:
        raise UserError(str(error)) from error
    return len(drawing.whole.boxes)


def drawn_steps(text: str) -> str | Iterator[int] | None:
    """The timesteps that an option names, as `viz.draw` takes them.

    Raises:
        UserError: neither timesteps nor "all".

    Example:
        >>> list(drawn_steps("3,10:13"))
        [3, 10, 11, 12]
    """
    if text in ("", "all"):
        return text or None
    found: list[range] = []
    for part in text.split(","):
        match = re.fullmatch(r"\s*([0-9]{1,9})\s*(?::\s*([0-9]{1,9})\s*)?", part)
        first = int(match[1]) if match else 0
        last = int(match[2]) if match and match[2] else first + 1
        if match and last <= first:
            raise UserError(
                f"--show: {part.strip()} is an empty range, for its end is left out: {first}:{first + 1} is "
                f"timestep {first}"
            )
        if not match:
            raise UserError(f"--show takes timesteps, such as 10:20,50, or all, not {text!r}")
        found.append(range(first, last))
    # One by one: a slip of the finger may name millions.
    return chain.from_iterable(found)


class Problem(NamedTuple):
    """What is drawn: a loss, the run behind it, and the parameters by name."""

    loss: Tensor
    unrolled: Any
    params: Any
    T: int


def fresh_model(cell: str, steps: int, hidden: int, vocab: int, batch: int) -> Problem:
    """A character model with a loss at every timestep, on random characters.

    Args:
        cell: a name in `nn.CELLS`.
        steps, hidden, vocab, batch: timesteps, hidden units, different characters, sequences.

    Raises:
        UserError: an unknown cell, a size under 1, or sizes that are too large to draw.

    Example:
        >>> len(fresh_model("rnn", steps=2, hidden=3, vocab=4, batch=1).unrolled)
        2
    """
    sizes = {"--steps": steps, "--hidden": hidden, "--vocab": vocab, "--batch": batch}
    for option, size in sizes.items():
        if size < 1:
            raise UserError(f"{option} must be at least 1, not {size}")
    arguments.check_numbers(steps, batch, hidden, vocab, _MOST_NUMBERS, "a drawing shows only their shapes")

    import numpy as np

    from tensorgrad import functional as F
    from tensorgrad import label, nn, ops, scope

    recurrent, readout = make_cell(cell, vocab, hidden, seed=0), nn.Linear(hidden, vocab, seed=1)
    characters = np.random.default_rng(0).integers(vocab, size=(steps + 1, batch))

    def step(x: Any, state: Any) -> tuple[Any, Any]:
        h, state = recurrent(x, state)
        return label(readout(h), "y"), state

    unrolled = nn.unroll(step, F.one_hot(characters[:-1], vocab))
    losses = []
    for t, labelled in enumerate(unrolled.steps):
        with scope(f"t={t}"):
            losses.append(label(F.cross_entropy(labelled["y"], characters[t + 1]), "L"))
    loss = label(ops.mean(ops.stack(losses)), "loss")
    return Problem(loss, unrolled, {"cell": recurrent, "output": readout}, steps)


def trained_model(checkpoint: Path, text: str) -> Problem:
    """A trained character model as it reads a text and predicts each next character.

    Args:
        checkpoint: a file, or the folder of a run.
        text: at least two characters, all known to the model.

    Raises:
        UserError: a text that is too short, or with characters that the model does not know.
        CheckpointError: no such file, or not a model's.
    """
    model = runs.load_model(checkpoint)
    if len(text) < 2:
        raise UserError(
            "a trained model is drawn as it reads a text: give two characters or more with --text"
        )
    ids = model.vocabulary.encode(text)[:, None]
    with model.evaluating():
        loss, _, unrolled = model.loss(ids[:-1], ids[1:])
    return Problem(loss, unrolled, model, len(ids) - 1)
