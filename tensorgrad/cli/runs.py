"""A run of training: its folder, what is said of it, and stopping without loss."""

from __future__ import annotations

import math
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Any

import typer

from tensorgrad.cli.console import Display
from tensorgrad.cli.log import Log
from tensorgrad.errors import UserError
from tensorgrad.models.language import LanguageModel
from tensorgrad.models.trainer import DivergedError, Trainer

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["CHECKPOINT", "LOG", "Interrupt", "describe", "load_model", "new_folder", "run"]

CHECKPOINT = "checkpoint.safetensors"
LOG = "log.csv"


def load_model(path: Path) -> LanguageModel:
    """The model in a checkpoint, or in the folder of a run.

    Raises:
        CheckpointError: no such file, or not a model's.
    """
    return LanguageModel.load(path / CHECKPOINT if path.is_dir() else path)


def new_folder(path: Path, otherwise: str) -> None:
    """Make a folder, or accept one that is empty.

    Args:
        path: the folder; folders above it are made too.
        otherwise: what to do about a folder that has something in it, for the message.

    Raises:
        UserError: a file is in the way, the folder is not empty, or it cannot be made.

    Example:
        >>> import tempfile
        >>> new_folder(Path(tempfile.mkdtemp(), "run"), "use another")
    """
    try:
        if path.is_dir() and any(path.iterdir()):
            raise UserError(f"the folder {path} is not empty, and nothing is overwritten: {otherwise}")
        path.mkdir(parents=True, exist_ok=True)
    except FileExistsError as error:
        raise UserError(f"{path} is a file; name a folder with --out") from error
    except OSError as error:
        raise UserError(f"cannot make the folder {path}: {error.strerror or error}") from error


class Interrupt:
    """Within it, Ctrl-C and a request to terminate only take note, so that the step in hand is finished.

    A terminal that is closed is such a request, unless the program was told to ignore it, as by nohup.

    A second one ends the program at once, as the first does elsewhere.

    Attributes:
        number: the signal that came, or None.

    Example:
        >>> with Interrupt() as interrupt:
        ...     interrupt.number is None
        True
    """

    def __init__(self) -> None:
        self.number: int | None = None
        self._before: dict[int, Any] = {}

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.number is not None:
            raise KeyboardInterrupt
        self.number = number

    def __enter__(self) -> Interrupt:
        # Python allows handlers in the main thread only; elsewhere nothing can interrupt anyway.
        if threading.current_thread() is threading.main_thread():
            numbers = [signal.SIGINT, signal.SIGTERM]
            hangup = getattr(signal, "SIGHUP", None)  # Windows has none
            if hangup is not None and signal.getsignal(hangup) != signal.SIG_IGN:
                numbers.append(hangup)
            for number in numbers:
                self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)


def describe(trainer: Trainer, text: str) -> Iterator[str]:
    """What is trained on what, line by line."""
    model = trainer.model
    weights = sum(parameter.size for parameter in model.parameters())
    yield f"model  {model.summary()}, {weights:,} weights, {model.dtype}"
    held_out = trainer.settings.valid_fraction
    kept = f", the last {held_out:.0%} held out" if held_out else ""
    yield f"text   {len(text):,} characters, {len(model.vocabulary)} different ones{kept}"
    yield f"steps  {trainer.total:,}, {trainer.steps_per_epoch:,} for each pass over the text"
    if trainer.unread > 0.1 * trainer.training_characters:
        yield (
            f"unread {trainer.unread:,} of the {trainer.training_characters:,} characters to train on: the "
            "ends of the streams, shorter than a window; a smaller batch or window reads more"
        )
    settings = trainer.settings
    passes = (trainer.total - 1) // trainer.steps_per_epoch
    if settings.schedule == "exponential" and settings.decay**passes < 0.01:
        # With this decay the last pass has a tenth of the rate. Rounded up, it has more.
        gentle = math.ceil(1e4 * 0.1 ** (1 / passes)) / 1e4
        yield (
            f"rate   {settings.lr:g} at first, {settings.lr * settings.decay**passes:.1g} in the last pass, "
            f"which hardly learns; a new run with --decay {gentle} does"
        )


def run(
    trainer: Trainer,
    folder: Path,
    console: Console,
    *,
    save_every: int,
    sample_every: int,
    temperature: float = 1.0,
) -> None:
    """Train to the end, showing and logging every step; the folder then holds a checkpoint and the log.

    Ctrl-C finishes the step, saves, and ends the program with status 130 (143 for a request to terminate).

    Args:
        trainer: new or resumed.
        folder: where the checkpoint and the log are written.
        console: where to show it.
        save_every: steps from one checkpoint to the next.
        sample_every: steps from one sample to the next; 0 for none.
        temperature: of the samples.

    Raises:
        DivergedError: training has diverged; names the last good checkpoint.
        UserError, CheckpointError: the folder cannot be written.
    """
    path = folder / CHECKPOINT
    saved = trainer.steps
    # Before there is a log: where there is nothing to save, the folder stays empty and can be used again.
    trainer.save(path)
    with Log(folder / LOG, saved) as log, Interrupt() as interrupt:
        try:
            gone = None
            try:
                with Display(trainer, console) as display:
                    for step in trainer.run():
                        sampled = None
                        if sample_every and step.number % sample_every == 0:
                            sampled = trainer.sample(temperature=temperature)
                        log.write(step)
                        display.update(step, sampled)
                        if step.number % save_every == 0:
                            trainer.save(path)
                            saved = step.number
                        if interrupt.number is not None:
                            break
            except OSError as error:
                # The terminal was closed, or the pipe, or the disk is full: nothing learned shall be lost.
                gone = error
            if saved != trainer.steps:
                trainer.save(path)
        except DivergedError as error:
            raise DivergedError(f"{error}; {path} has the model after {saved:,} steps") from error
    if interrupt.number is not None:
        with suppress(OSError):
            print(f"tensorgrad: stopped after {trainer.steps:,} steps; saved as {path}", file=sys.stderr)
        raise typer.Exit(128 + interrupt.number)
    if gone is not None:
        raise gone
