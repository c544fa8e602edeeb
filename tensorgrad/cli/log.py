"""The log of a run: a line of CSV for each step."""

from __future__ import annotations

import os
from pathlib import Path
from types import TracebackType

from tensorgrad.errors import UserError
from tensorgrad.models.trainer import Step

__all__ = ["Log", "read_log"]


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
