"""`tensorgrad sample`: text from a trained model."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from tensorgrad.cli import arguments, runs
from tensorgrad.cli.console import printable
from tensorgrad.errors import UserError

__all__ = ["sample"]


# Of the options, those that say how to draw.
_DRAWING = ("temperature", "top_k", "top_p")


@arguments.limit_threads()
def sample(
    ctx: typer.Context,
    checkpoint: Annotated[Path, typer.Argument(help="A checkpoint, or the folder of a run.")],
    prime: Annotated[str, typer.Option(help="Text to go on from.")] = "",
    length: Annotated[int, typer.Option(help="Characters to write.")] = 500,
    temperature: Annotated[
        float, typer.Option(help="Under 1 plays safe, over 1 dares more; 0 takes the likeliest.")
    ] = 1.0,
    top_k: Annotated[
        int | None, typer.Option(help="Draw among the so many likeliest only.", show_default="all")
    ] = None,
    top_p: Annotated[
        float | None,
        typer.Option(help="Draw among the likeliest with this share of the probability.", show_default="all"),
    ] = None,
    beam: Annotated[
        int | None,
        typer.Option(help="Draw nothing: search for the likeliest text, keeping so many at every step."),
    ] = None,
    seed: Annotated[
        int | None, typer.Option(help="The same seed gives the same text.", show_default="a new one")
    ] = None,
) -> None:
    """Write text with a trained model, character by character."""
    arguments.check_seed(seed)
    model = runs.load_model(checkpoint)
    # Made before anything is printed: it refuses arguments that make no sense.
    if beam is None:
        characters = model.sample(prime, length, temperature, seed, top_k=top_k, top_p=top_p)
    elif any(arguments.given(ctx, _DRAWING)):
        raise UserError("--beam draws nothing, so it goes with none of --temperature, --top-k and --top-p")
    else:
        characters = iter(model.beam(prime, length, beam, seed))
    terminal = sys.stdout.isatty()
    sys.stdout.write(printable(prime) if terminal else prime)
    for character in characters:
        sys.stdout.write(printable(character) if terminal else character)
        if terminal:
            sys.stdout.flush()
    sys.stdout.write("\n")
