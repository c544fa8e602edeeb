"""What `train` and `demo` share: a run's folder, its log, its display, and stopping without loss."""

from __future__ import annotations

import importlib.util
import math
import os
import signal
import sys
import textwrap
import threading
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Any

import typer

from tensorgrad.errors import UserError
from tensorgrad.models.language import LanguageModel
from tensorgrad.models.trainer import DivergedError, Step, Trainer

if TYPE_CHECKING:
    from rich.console import Console

__all__ = [
    "CHECKPOINT",
    "LOG",
    "Interrupt",
    "Log",
    "check_seed",
    "describe",
    "given",
    "limit_threads",
    "load_model",
    "make_console",
    "new_folder",
    "printable",
    "read_log",
    "run",
]

CHECKPOINT = "checkpoint.safetensors"
LOG = "log.csv"
# What BLAS libraries take their number of threads from when they are loaded.
_THREADS = (
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "BLIS_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "OMP_NUM_THREADS",
)


def make_console() -> Console:
    """Standard output, where brackets and colons are only brackets and colons."""
    from rich.console import Console

    class Plain(Console):
        def on_broken_pipe(self) -> None:
            # Rich would end with status 1, which means something else here.
            raise BrokenPipeError

    return Plain(markup=False, emoji=False, highlight=False)


@contextmanager
def limit_threads(threads: int | None = None) -> Iterator[None]:
    """Within it, matrix products run on so many threads.

    The products of a timestep are small. On more than one thread they gain little where the machine is idle,
    and where it is not, the threads wait for one another: ten times slower has been seen.

    Args:
        threads: at least 1; None for one, or what the environment asks for.

    Raises:
        UserError: there is no way to set it, or the machine has fewer.

    Example:
        >>> with limit_threads():
        ...     pass
    """
    cores = os.cpu_count() or 1
    if threads is not None and threads > cores:
        raise UserError(f"--threads must be at most {cores}, which is what this machine has, not {threads}")
    asked = any(os.environ.get(name) for name in _THREADS)
    if not _can_limit_threads():
        if threads is not None:
            raise UserError("--threads needs threadpoolctl: pip install threadpoolctl")
        yield
    elif threads is None and asked:
        yield
    else:
        from threadpoolctl import threadpool_limits

        with threadpool_limits(threads or 1, user_api="blas"):
            yield


def _can_limit_threads() -> bool:
    return importlib.util.find_spec("threadpoolctl") is not None


def given(ctx: typer.Context, names: Iterable[str]) -> Iterator[str]:
    """Which of some options stand on the command line, as they are written there."""
    for name in sorted(names):
        source = ctx.get_parameter_source(name)
        if source is not None and source.name == "COMMANDLINE":
            yield f"--{name.replace('_', '-')}"


def check_seed(seed: int | None) -> None:
    """Raise UserError for a seed that is negative."""
    if seed is not None and seed < 0:
        raise UserError(f"the seed must be a whole number from 0 up, not {seed}")


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


class Log:
    """A CSV file with a line for each step, complete at any moment.

    Args:
        path: the file. It is gone on with where it exists.
        steps: how many steps have been done. What the file has of later ones is cut off: they happened after
            the checkpoint from which the run goes on, and will happen again.

    Raises:
        UserError: the file is no such log, or cannot be written.
    """

    HEADER = "step,epoch,loss,grad_norm,lr,characters_per_second,validation\n"

    def __init__(self, path: Path, steps: int = 0) -> None:
        try:
            old = path.read_bytes().decode("latin-1") if path.exists() else ""
            end = self._end(path, old, steps)
            if end < len(old):
                os.truncate(path, end)
            self._file = open(path, "a", encoding="ascii", newline="", buffering=1)  # noqa: SIM115 - see __exit__
        except OSError as error:
            raise UserError(f"cannot write {path}: {error.strerror or error}") from error
        if not end:
            self._file.write(self.HEADER)

    def _end(self, path: Path, old: str, steps: int) -> int:
        """How much of the old log to keep."""
        header, *lines = old.splitlines(keepends=True) or [""]
        if header not in ("", self.HEADER):
            raise UserError(f"{path} is not a log of training; move it away")
        end = len(header)
        for line in lines:
            number = line.partition(",")[0]
            if not line.endswith("\n") or not number.isdecimal() or int(number) > steps:
                break
            end += len(line)
        return end

    def write(self, step: Step) -> None:
        """Add a step."""
        rate = round(step.characters / step.seconds)
        validation = "" if step.validation is None else repr(step.validation)
        self._file.write(
            f"{step.number},{step.epoch},{step.loss!r},{step.grad_norm!r},{step.lr!r},{rate},{validation}\n"
        )

    def __enter__(self) -> Log:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()


def read_log(path: Path) -> dict[str, list[float]]:
    """The columns of a log, "validation" with NaN where nothing was evaluated."""
    names, *rows = [line.split(",") for line in path.read_text(encoding="utf-8").splitlines()]
    return {name: [float(row[k] or "nan") for row in rows] for k, name in enumerate(names)}


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


class _Display:
    """A bar with figures on a terminal; elsewhere a plain line now and then."""

    def __init__(self, trainer: Trainer, console: Console) -> None:
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        self._trainer = trainer
        self._console = console
        self._seconds: deque[float] = deque(maxlen=50)
        self._told = trainer.steps
        self._bar = Progress(
            TextColumn("{task.completed:,.0f}/{task.total:,.0f}"),
            BarColumn(20),
            TextColumn("{task.fields[figures]}"),
            TimeRemainingColumn(compact=True),
            console=console,
            disable=not console.is_terminal,
        )
        self._task = self._bar.add_task("", total=trainer.total, completed=trainer.steps, figures="")

    def __enter__(self) -> _Display:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def update(self, step: Step, sampled: str | None) -> None:
        """Show a step, and what was sampled after it."""
        self._seconds.append(step.seconds)
        rate = step.characters * len(self._seconds) / sum(self._seconds)
        loss = sum(self._trainer.history) / len(self._trainer.history)
        figures = f"loss {_short(loss)}  norm {_short(step.grad_norm, 2)}  {rate:,.0f} chars/s"
        self._bar.update(self._task, completed=step.number, figures=figures)
        # Of many short passes over the text only some are told of.
        passed = step.validation is not None and step.number - self._told >= self._trainer.total / 10
        last = step.number == self._trainer.total
        if passed:
            self._told = step.number
        if passed or last or (sampled is not None and not self._console.is_terminal):
            valid = "" if step.validation is None else f"  validation {_short(step.validation)}"
            said = f"loss {_short(loss)}{valid}" if self._console.is_terminal else f"{figures}{valid}"
            self._say(f"epoch {step.epoch}, step {step.number:,} of {self._trainer.total:,}: {said}")
        if sampled is not None:
            self._say(f"\na sample after {step.number:,} steps:")
            self._say(sampled + "\n", indent=4)

    def _say(self, text: str, indent: int = 0) -> None:
        if self._console.is_terminal:
            from rich.padding import Padding

            self._console.print(Padding(printable(text), (0, 0, 0, indent)))
        else:
            print(textwrap.indent(text, indent * " "), flush=True)


def _short(number: float, places: int = 3) -> str:
    return f"{number:.{places}f}" if abs(number) < 1e5 else f"{number:.{places}e}"


def printable(text: str) -> str:
    """The text without control characters, of which a terminal would take some for commands.

    >>> printable("a\\x1b[2Jb\\n")
    'a\\ufffd[2Jb\\n'
    """
    return "".join(c if c.isprintable() or c in "\n\t" else "\N{REPLACEMENT CHARACTER}" for c in text)


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
                with _Display(trainer, console) as display:
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
