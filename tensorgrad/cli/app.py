"""The typer application: one line for each command.

A command is a plain function with typer annotations in `tensorgrad/cli/<name>.py`. Every start of the program
imports these modules, so each imports what is heavy (matplotlib above all) inside its functions.
"""

from __future__ import annotations

import os
import sys
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

import tensorgrad
from tensorgrad.cli.check import check
from tensorgrad.cli.demo import demo
from tensorgrad.cli.draw import draw
from tensorgrad.cli.exercise import exercise
from tensorgrad.cli.info import info
from tensorgrad.cli.sample import sample
from tensorgrad.cli.train import train


class _Group(TyperGroup):
    """Ends on Ctrl-C with one sentence and status 130; typer's versions differ in what they make of it.

    When nobody reads the output any more it ends in silence, with the status of a program that SIGPIPE ended;
    typer's status would be 1.
    """

    def invoke(self, ctx: Any) -> Any:
        try:
            try:
                return super().invoke(ctx)
            finally:
                sys.stdout.flush()
        except BrokenPipeError as error:
            # Python flushes once more at its end, and would complain.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(141) from error
        except KeyboardInterrupt as error:
            print("tensorgrad: interrupted", file=sys.stderr)
            raise typer.Exit(130) from error


app = typer.Typer(
    cls=_Group,
    help="Train, check, draw and sample recurrent networks with gradients you can look into.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def _show_version(wanted: bool) -> None:
    if wanted:
        print(f"tensorgrad {tensorgrad.__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option("--version", help="Show the version and exit.", is_eager=True, callback=_show_version),
    ] = False,
) -> None:
    """Options before a command's name; each does its work in its callback."""


app.command()(demo)
app.command()(train)
app.command()(sample)
app.command()(check)
app.command()(draw)
app.command()(exercise)
app.command()(info)
