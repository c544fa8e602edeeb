"""`tensorgrad exercise`: backward passes with one bug each, handed out and graded."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tensorgrad.bptt.check import BackwardReport, check_backward
from tensorgrad.bptt.codes import CATALOGUE
from tensorgrad.cli.check_file import check_file
from tensorgrad.errors import UserError
from tensorgrad.models.exercises import EXERCISES, Exercise
from tensorgrad.models.exercises import exercise as numbered

__all__ = ["exercise"]

_LEARNS = {"as well": "as it should", "worse": "less", "by luck": "by luck", "not": "hardly"}


def exercise(
    number: Annotated[int | None, typer.Argument(help="Which one.", show_default="list them")] = None,
    out: Annotated[
        Path | None, typer.Option(help="The file to write.", show_default="its name, in this folder")
    ] = None,
    grade: Annotated[Path | None, typer.Option(help="Your mended file, to be graded.")] = None,
    doctor: Annotated[
        bool, typer.Option("--doctor", help="With --grade: say what the doctor makes of it.")
    ] = False,
) -> None:
    """Find the bug in a hand-written backward.

    Without a number it lists the exercises, with one it writes the file. With --grade it checks the file that
    you have mended, and ends with status 1 while the gradients are wrong.
    """
    if number is None:
        if out or grade or doctor:
            raise UserError("say which exercise: tensorgrad exercise NUMBER (without one they are listed)")
        _list()
    elif grade is None:
        if doctor:
            raise UserError("--doctor goes with --grade FILE: the doctor looks at a file")
        _hand_out(numbered(number), out)
    elif out is not None:
        raise UserError("--out hands an exercise out and --grade takes it back: give one of them")
    else:
        _grade(numbered(number), grade, doctor)


def _list() -> None:
    form = "{:>3}  {:26}  {:6}  {:12}  {}"
    print(form.format("", "backward of", "level", "it learns", "wrong gradients"))
    for one in EXERCISES:
        bug = one.bug
        wrong = " ".join(bug.wrong) or "none at first"
        print(form.format(one.number, one.title, bug.level, _LEARNS[bug.trains], wrong))


def _hand_out(one: Exercise, out: Path | None) -> None:
    path = out or Path(f"{one.name}.py")
    try:
        with open(path, "x", encoding="utf-8") as file:
            file.write(one.text())
    except FileExistsError as error:
        raise UserError(f"{path} exists, and nothing is overwritten: name another with --out") from error
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror or error}") from error
    print(f"{path}: {one.title}, {one.bug.level}")
    print(f"Mend its backward, then: tensorgrad exercise {one.number} --grade {path}")


def _grade(one: Exercise, path: Path, doctor: bool) -> None:
    source = one.module()
    right = check_backward(source.forward, source.backward, cell=one.cell)
    report = check_file(path, one.cell)
    # Else a forward could be changed to suit the backward, or an argument left out that shows the bug.
    if (report.network, report.untried) != (right.network, right.untried):
        raise UserError(
            f"{path} computes another loss than exercise {one.number}, or takes other arguments; the forward "
            "is right, so mend the backward alone"
        )
    if report.ok:
        bug = CATALOGUE[one.bug.code]
        print(f"{path}: right. The bug was {bug.code}, {bug.title}:")
        print(one.difference())
        print(f"Why it may go unnoticed: {bug.why_it_may_train}")
        return
    print(f"{path}: not right yet. {_first(report)}")
    print(str(report) if doctor else "Add --doctor to hear what the doctor makes of it.")
    raise typer.Exit(1)


def _first(report: BackwardReport) -> str:
    """Where to look: the first tensor that differs, or what the backward leaves changed."""
    failed = [outcome for outcome in report.outcomes if not outcome.ok]
    for outcome in failed:
        if outcome.report is not None and outcome.report.first_divergence is not None:
            name, t = outcome.report.first_divergence
            at = "" if t is None else f" at t={t}, of {outcome.condition.sizes['T']} timesteps"
            return f"The first to differ, in the order of a backward, is {name}{at}."
    said = next(outcome.changed for outcome in failed if outcome.changed)
    return f"{said[0].upper()}{said[1:]}."
