"""`tensorgrad train`: a character model on any text."""

from __future__ import annotations

import dataclasses
import inspect
import json
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from tensorgrad.cli import arguments, runs
from tensorgrad.cli.console import make_console
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
# More is a slip of the finger, for which a machine would work in silence until its memory is full.
_MOST = {"hidden": 1_000_000, "embedding": 1_000_000, "layers": 1_000}


_OUT = Path("tensorgrad-run")


def _setting(name: str, help: str, more: str = "") -> Any:
    """An option for one of the `Settings`; the help shows its default, by kind of model."""
    recurrent, transformer = (str(getattr(recipe, name)) for recipe in _RECIPES.values())
    default = recurrent if recurrent == transformer else f"{recurrent}, transformer {transformer}"
    return typer.Option(help=help, show_default=default + more)


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
    dropout: Annotated[
        float,
        typer.Option(
            help="Probability of dropout: in the outputs of each layer; in a transformer, of its inputs and "
            "of attention too."
        ),
    ] = 0.0,
    batch: Annotated[
        int | None, _setting("batch", "Streams of text read side by side.", "; fewer for a short text")
    ] = None,
    window: Annotated[
        int | None,
        _setting(
            "window",
            "Timesteps the gradient reaches back over; of a transformer, all that it sees.",
            "; fewer for a very short text",
        ),
    ] = None,
    epochs: Annotated[int | None, _setting("epochs", "Passes over the text, altogether.")] = None,
    steps: Annotated[int | None, typer.Option(help="Steps, altogether, in place of --epochs.")] = None,
    lr: Annotated[float | None, _setting("lr", "Adam's learning rate.")] = None,
    schedule: Annotated[
        str | None,
        _setting(
            "schedule", "How the learning rate falls: exponential, after each pass, or cosine, step by step."
        ),
    ] = None,
    decay: Annotated[
        float | None, _setting("decay", "Multiplies an exponential learning rate after each pass.")
    ] = None,
    warmup: Annotated[int | None, _setting("warmup", "Steps over which the learning rate rises.")] = None,
    clip: Annotated[
        float | None, _setting("clip", "Norm that the gradient is clipped to; 0 for no clipping.")
    ] = None,
    valid_fraction: Annotated[
        float | None,
        _setting("valid_fraction", "Part of the text, at its end, held out to evaluate on."),
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
    _check(ctx.params)
    text = read_text(file)
    how = {"compiled": not eager, "fast": fast}
    try:
        with arguments.limit_threads(threads):
            trainer = (_resumed if resume else _new)(ctx, out, text, how)
            for line in runs.describe(trainer, text):
                print(line)
            if not resume:
                _say_sizes(trainer.settings, _RECIPES[model], batch, window)
            print(f"folder {out}", flush=True)
            runs.run(trainer, out, make_console(), save_every=save_every, sample_every=sample_every)
    except DivergedError as error:
        typer.echo(f"tensorgrad: {error}", err=True)
        raise typer.Exit(1) from error
    print("\nwrite with it:", shlex.join(["tensorgrad", "sample", str(out)]))
    again = shlex.join(["tensorgrad", "train", str(file), "--out", str(out)])
    print(f"go on with it: {again} --resume --steps {2 * trainer.total}")


def _check(asked: Mapping[str, Any]) -> None:
    """Refuse what no run could mean, before anything is read."""
    if asked["epochs"] is not None and asked["steps"] is not None:
        raise UserError("--epochs and --steps both say when to stop; give one of them")
    for name, most in _MOST.items():
        if (asked[name] or 0) > most:
            raise UserError(f"--{name} must be at most {most:,}, not {asked[name]:,}")
    if asked["save_every"] < 1:
        raise UserError(f"--save-every must be at least 1, not {asked['save_every']}")
    if asked["sample_every"] < 0:
        raise UserError(f"--sample-every must not be negative, but it is {asked['sample_every']}")
    if asked["threads"] is not None and asked["threads"] < 1:
        raise UserError(f"--threads must be at least 1, not {asked['threads']}")
    if asked["eager"] and asked["fast"]:
        raise UserError("--eager and --fast exclude each other")
    arguments.check_seed(asked["seed"])


def _resumed(ctx: typer.Context, out: Path, text: str, how: Mapping[str, Any]) -> Trainer:
    """The run in the folder, with steps left to do."""
    for option in arguments.given(ctx, set(ctx.params) - _FREE - {"file"}):
        raise UserError(f"{option} cannot be given with --resume: a run goes on as it was started")
    goal = {name: ctx.params[name] for name in ("epochs", "steps")}
    trainer = Trainer.resume(out / runs.CHECKPOINT, text, **goal, **how)
    if trainer.steps >= trainer.total:
        raise UserError(
            f"the run in {out} has done {trainer.steps:,} steps already, and {trainer.total:,} "
            "are asked for; ask for more with --steps or --epochs"
        )
    return trainer


def _new(ctx: typer.Context, out: Path, text: str, how: Mapping[str, Any]) -> Trainer:
    """A run made from all options, each by its name, and an empty folder for it."""
    asked = ctx.params
    # Refuses a text of a single character, whatever the sizes.
    vocabulary = Vocabulary(text)
    settings = _settings(asked, text)
    for other, names in _OF.items():
        for option in arguments.given(ctx, names if other != asked["model"] else set()):
            raise UserError(f"{option} is for --model {other}; this one is {asked['model']}")
    trainer = Trainer(_model(asked, settings, vocabulary), text, settings, asked["seed"], **how)
    runs.new_folder(out, "go on with the run in it with --resume, or name another folder with --out")
    return trainer


def _settings(asked: Mapping[str, Any], text: str) -> Settings:
    """The recipe of the kind of model, with what was asked for, and sizes that fit the text."""
    names = [field.name for field in dataclasses.fields(Settings)]
    given = {name: asked[name] for name in names if asked[name] is not None}
    settings = dataclasses.replace(_RECIPES[asked["model"]], **given)
    if settings.schedule != "exponential" and "decay" in given:
        raise UserError(f"--decay is for --schedule exponential; this one is {settings.schedule}")
    return _fitted(settings, text, asked["batch"], asked["window"])


def _model(asked: Mapping[str, Any], settings: Settings, vocabulary: Vocabulary) -> LanguageModel:
    """A new model of the kind, for the characters of the text."""
    names = ["layers", "dropout", "seed", "dtype"]
    hidden = _HIDDEN[asked["model"]] if asked["hidden"] is None else asked["hidden"]
    if asked["model"] == "transformer":
        kind: type[LanguageModel] = TransformerLM
        names += ["heads", "positions"]
        more = {"d_model": hidden, "context": settings.window}
    else:
        kind = CharLM
        names += ["cell", "embedding", "tied"]
        more = {"hidden": hidden, "cell_options": _options(asked["cell"], asked["cell_option"] or [])}
    try:
        return kind(vocabulary, **{name: asked[name] for name in names}, **more)
    except ValueError as error:
        raise UserError(str(error)) from error


def _say_sizes(settings: Settings, recipe: Settings, batch: int | None, window: int | None) -> None:
    """Tell of a batch or a window that is neither as asked for nor as usual."""
    if (settings.batch, settings.window) != (batch or recipe.batch, window or recipe.window):
        print(
            f"batch  {settings.batch} streams, windows of {settings.window}: the text is short; --batch and "
            "--window choose others"
        )


def _options(cell: str, texts: Sequence[str]) -> dict[str, Any]:
    """The options of a cell; a word would be true wherever a cell asks for true or false."""
    options = dict(map(_option, texts))
    known = inspect.signature(CELLS[cell]).parameters if cell in CELLS else {}
    for name, value in options.items():
        if name in known and type(known[name].default) is bool and value not in (True, False):
            raise UserError(f"--cell-option {name} must be true or false, not {value!r}")
    return options


def _option(text: str) -> tuple[str, Any]:
    """The name and the value of "NAME=VALUE"; what is no number or true or false is a string."""
    name, equals, value = text.partition("=")
    if not equals:
        raise UserError(f"--cell-option takes NAME=VALUE, such as forget_bias=1, not {text!r}")
    try:
        parsed = json.loads(value)
    except ValueError:
        parsed = value
    return name.replace("-", "_"), parsed if isinstance(parsed, (int, float)) else value


def _fitted(settings: Settings, text: str, batch: int | None, window: int | None) -> Settings:
    """The settings with a batch and a window that fit the text, where they were not given."""
    trained_on = int(len(text) * (1 - settings.valid_fraction))
    B, T = fitting_sizes(trained_on, batch, window, most=settings)
    if trained_on <= B * T:
        needs_all = settings.valid_fraction and min(trained_on, len(text) - trained_on) < 2
        fits = "--batch {} --window {}".format(*fitting_sizes(max(trained_on, 2)))
        raise UserError(
            f"the text has {len(text):,} characters, {trained_on:,} of them to train on, and windows of {T} "
            f"timesteps in a batch of {B} need at least {B * T + 1:,}; {fits} would fit"
            + (", with --valid-fraction 0" if needs_all else "")
        )
    return dataclasses.replace(settings, batch=B, window=T)
