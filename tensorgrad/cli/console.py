"""What is shown: on a terminal with a bar and in place, elsewhere in plain lines."""

from __future__ import annotations

import textwrap
from collections import deque
from types import TracebackType
from typing import TYPE_CHECKING

from tensorgrad.models.trainer import Step, Trainer

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["Display", "make_console", "printable"]


def make_console() -> Console:
    """Standard output, where brackets and colons are only brackets and colons."""
    from rich.console import Console

    class Plain(Console):
        def on_broken_pipe(self) -> None:
            # Rich would end with status 1, which means something else here.
            raise BrokenPipeError

    return Plain(markup=False, emoji=False, highlight=False)


def printable(text: str) -> str:
    """The text without control characters, of which a terminal would take some for commands.

    >>> printable("a\\x1b[2Jb\\n")
    'a\\ufffd[2Jb\\n'
    """
    return "".join(c if c.isprintable() or c in "\n\t" else "\N{REPLACEMENT CHARACTER}" for c in text)


class Display:
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

    def __enter__(self) -> Display:
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
