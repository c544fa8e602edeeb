"""`tensorgrad train`: a character model on any text."""

from __future__ import annotations

import dataclasses
import json
import shlex
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from tensorgrad.cli import runs
from tensorgrad.data import Vocabulary, read_text
from tensorgrad.errors import UserError
from tensorgrad.models.char_lm import CharLM
from tensorgrad.models.language import LanguageModel
from tensorgrad.models.trainer import DivergedError, Settings, Trainer, fitting_sizes
from tensorgrad.models.transformer import TransformerLM
from tensorgrad.nn import CELLS

__all__ = ["train"]

# Of the options, those that only one kind of model has.
_OF = {
    "recurrent": {"cell", "cell_option", "embedding", "tied"},
    "transformer": {"heads", "positions"},
}
# Of the options, those that a resumed run may be given anew; the others are in its checkpoint.
_FREE = {"out", "resume", "epochs", "steps", "save_every", "sample_every", "threads", "eager", "fast"}
# What each kind of model learns well with.
_RECIPES = {
    "recurrent": Settings(),
    "transformer": Settings(batch=78, window=32, lr=2e-2, clip=1.0, schedule="cosine", warmup=100),
}
_HIDDEN = {"recurrent": 128, "transformer": 48}


def _defaults(name: str) -> str:
    """The default of an option, by kind of model, for the help."""
    recurrent, transformer = (getattr(recipe, name) for recipe in _RECIPES.values())
    same = recurrent == transformer
    return str(recurrent) if same else f"{recurrent}, transformer {transformer}"


_OUT = Path("tensorgrad-run")


def train(
    ctx: typer.Context,
    file: Annotated[Path, typer.Argument(help="The text to learn: any file in UTF-8.")],
    out: Annotated[Path, typer.Option(help="Folder for the checkpoint and the log.")] = _OUT,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the run in the folder, bit for bit.")
    ] = False,
    model: Annotated[
        Literal["recurrent", "transformer"], typer.Option(help="The kind of model.")
    ] = "recurrent",
    cell: Annotated[str, typer.Option(help=f"The recurrent cell: {', '.join(CELLS)}.")] = "rnn",
    hidden: Annotated[
        int | None,
        typer.Option(
            help="Hidden units of each layer; of a transformer, features of each place.",
            show_default="128, transformer 48",
        ),
    ] = None,
    layers: Annotated[int, typer.Option(help="Layers on one another.")] = 1,
    cell_option: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=VALUE", help="An option of the cell, such as forget_bias=1; may be repeated."
        ),
    ] = None,
    embedding: Annotated[
        int | None,
        typer.Option(help="Size of a learned vector for each character.", show_default="one-hot inputs"),
    ] = None,
    tied: Annotated[
        bool, typer.Option("--tied", help="The embedding is the output layer's weight too.")
    ] = False,
    heads: Annotated[int, typer.Option(help="Heads of a transformer's attention.")] = 4,
    positions: Annotated[
        Literal["learned", "sinusoidal"], typer.Option(help="How a transformer tells places apart.")
    ] = "learned",
    dropout: Annotated[float, typer.Option(help="Probability of dropout between layers.")] = 0.0,
    batch: Annotated[
        int | None,
        typer.Option(
            help="Streams of text read side by side.",
            show_default=f"{_defaults('batch')}; fewer for a short text",
        ),
    ] = None,
    window: Annotated[
        int | None,
        typer.Option(
            help="Timesteps the gradient reaches back over; of a transformer, all that it sees.",
            show_default=f"{_defaults('window')}; fewer for a very short text",
        ),
    ] = None,
    epochs: Annotated[
        int | None,
        typer.Option(help="Passes over the text, altogether.", show_default=_defaults("epochs")),
    ] = None,
    steps: Annotated[int | None, typer.Option(help="Steps, altogether, in place of --epochs.")] = None,
    lr: Annotated[
        float | None, typer.Option(help="Adam's learning rate.", show_default=_defaults("lr"))
    ] = None,
    schedule: Annotated[
        str | None,
        typer.Option(
            help="How the learning rate falls: exponential, after each pass, or cosine, step by step.",
            show_default=_defaults("schedule"),
        ),
    ] = None,
    decay: Annotated[
        float | None,
        typer.Option(
            help="Multiplies an exponential learning rate after each pass.", show_default=_defaults("decay")
        ),
    ] = None,
    warmup: Annotated[
        int | None,
        typer.Option(help="Steps over which the learning rate rises.", show_default=_defaults("warmup")),
    ] = None,
    clip: Annotated[
        float | None,
        typer.Option(
            help="Norm that the gradient is clipped to; 0 for no clipping.", show_default=_defaults("clip")
        ),
    ] = None,
    valid_fraction: Annotated[
        float | None,
        typer.Option(
            help="Part of the text, at its end, held out to evaluate on.",
            show_default=_defaults("valid_fraction"),
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="For the first weights and the samples.")] = 0,
    dtype: Annotated[Literal["float32", "float64"], typer.Option(help="Precision.")] = "float32",
    save_every: Annotated[int, typer.Option(help="Steps from one checkpoint to the next.")] = 500,
    sample_every: Annotated[int, typer.Option(help="Steps from one sample to the next; 0 for none.")] = 500,
    threads: Annotated[
        int | None,
        typer.Option(help="For matrix products; more pay for large networks only.", show_default="1"),
    ] = None,
    eager: Annotated[
        bool, typer.Option("--eager", help="Run operation by operation, without compiling the step.")
    ] = False,
    fast: Annotated[
        bool,
        typer.Option("--fast", help="Run the compiled step in kernels by numba; the first takes seconds."),
    ] = False,
) -> None:
    """Train a character model on a text.

    Ctrl-C finishes the step, saves and ends with status 130; --resume goes on.

    Training that diverges ends with status 1 and leaves the last checkpoint.
    """
    if epochs is not None and steps is not None:
        raise UserError("--epochs and --steps both say when to stop; give one of them")
    if save_every < 1:
        raise UserError(f"--save-every must be at least 1, not {save_every}")
    if sample_every < 0:
        raise UserError(f"--sample-every must not be negative, but it is {sample_every}")
    if threads is not None and threads < 1:
        raise UserError(f"--threads must be at least 1, not {threads}")
    if eager and fast:
        raise UserError("--eager and --fast exclude each other")
    if seed < 0:
        raise UserError(f"the seed must be a whole number from 0 up, not {seed}")
    text = read_text(file)
    chosen = None
    try:
        with runs.limit_threads(threads):
            if resume:
                _refuse_fixed_options(ctx)
                trainer = Trainer.resume(
                    out / runs.CHECKPOINT, text, epochs=epochs, steps=steps, compiled=not eager
                )
                if trainer.steps >= trainer.total:
                    raise UserError(
                        f"the run in {out} has done {trainer.steps:,} steps already, and {trainer.total:,} "
                        "are asked for; ask for more with --steps or --epochs"
                    )
            else:
                given: dict[str, Any] = {
                    "batch": batch,
                    "window": window,
                    "lr": lr,
                    "schedule": schedule,
                    "decay": decay,
                    "warmup": warmup,
                    "clip": clip,
                    "valid_fraction": valid_fraction,
                    "epochs": epochs,
                    "steps": steps,
                }
                settings = dataclasses.replace(
                    _RECIPES[model], **{name: value for name, value in given.items() if value is not None}
                )
                if settings.schedule != "exponential" and decay is not None:
                    raise UserError(f"--decay is for --schedule exponential; this one is {settings.schedule}")
                hidden = _HIDDEN[model] if hidden is None else hidden
                fitted = _fitted(settings, text, batch, window)
                if fitted != settings:
                    settings = fitted
                    chosen = (
                        f"batch  {settings.batch} streams, windows of {settings.window}: the text is short"
                    )
                _refuse_options_of_others(ctx, model)
                options: dict[str, Any] = {"layers": layers, "dropout": dropout, "seed": seed, "dtype": dtype}
                if model == "transformer":
                    kind: type[LanguageModel] = TransformerLM
                    options |= {"d_model": hidden, "heads": heads, "context": settings.window}
                    options |= {"positions": positions}
                else:
                    kind = CharLM
                    options |= {"cell": cell, "hidden": hidden, "embedding": embedding, "tied": tied}
                    options |= {"cell_options": dict(map(_option, cell_option or []))}
                try:
                    made = kind(Vocabulary(text), **options)
                except ValueError as error:
                    raise UserError(str(error)) from error
                trainer = Trainer(made, text, settings, seed, compiled=not eager, fast=fast)
                runs.new_folder(
                    out, "go on with the run in it with --resume, or name another folder with --out"
                )
            for line in runs.describe(trainer, text):
                print(line)
            if chosen:
                print(f"{chosen}; --batch and --window choose others")
            print(f"folder {out}", flush=True)
            runs.run(trainer, out, runs.make_console(), save_every=save_every, sample_every=sample_every)
    except DivergedError as error:
        typer.echo(f"tensorgrad: {error}", err=True)
        raise typer.Exit(1) from error
    print("\nwrite with it:", shlex.join(["tensorgrad", "sample", str(out)]))
    again = [
        "tensorgrad",
        "train",
        str(file),
        "--out",
        str(out),
        "--resume",
        "--steps",
        str(2 * trainer.total),
    ]
    print("go on with it:", shlex.join(again))


def _option(text: str) -> tuple[str, Any]:
    """The name and the value of "NAME=VALUE"; what is no number or true or false is a string."""
    name, equals, value = text.partition("=")
    if not equals:
        raise UserError(f"--cell-option takes NAME=VALUE, such as forget_bias=1, not {text!r}")
    try:
        return name.replace("-", "_"), json.loads(value)
    except ValueError:
        return name.replace("-", "_"), value


def _fitted(settings: Settings, text: str, batch: int | None, window: int | None) -> Settings:
    """The settings with a batch and a window that fit the text, where they were not given."""
    trained_on = int(len(text) * (1 - settings.valid_fraction))
    B, T = fitting_sizes(trained_on, batch, window, most=settings)
    if trained_on <= B * T:
        fits = "--batch {} --window {}".format(*fitting_sizes(max(trained_on, 2)))
        raise UserError(
            f"the text has {len(text):,} characters, {trained_on:,} of them to train on, and windows of {T} "
            f"timesteps in a batch of {B} need at least {B * T + 1:,}; {fits} would fit"
            + ("" if trained_on > 1 else ", with --valid-fraction 0")
        )
    return dataclasses.replace(settings, batch=B, window=T)


def _refuse_fixed_options(ctx: typer.Context) -> None:
    for option in runs.given(ctx, set(ctx.params) - _FREE - {"file"}):
        raise UserError(f"{option} cannot be given with --resume: a run goes on as it was started")


def _refuse_options_of_others(ctx: typer.Context, model: str) -> None:
    for other, names in _OF.items():
        for option in runs.given(ctx, names if other != model else set()):
            raise UserError(f"{option} is for --model {other}; this one is {model}")
