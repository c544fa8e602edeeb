"""What is measured. Every part's ``run(options)`` prints its tables and returns an ``Outcome``."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.problem import GATES
from benchmarks.report import Target


@dataclass(frozen=True)
class Options:
    """The command line's choices."""

    peers: Sequence[str]
    rounds: int
    threads: int
    text: Path | None
    tasks: Sequence[str] = ()
    cells: Sequence[str] = tuple(GATES)
    quick: bool = False


@dataclass
class Outcome:
    """What a part found: figures for the JSON file and for the table of targets."""

    figures: dict[str, Any] = field(default_factory=dict)
    targets: list[Target] = field(default_factory=list)


def progress(message: str) -> None:
    """Say where the run is, on standard error and only to a person who watches."""
    if sys.stderr.isatty():
        print(f"\r\x1b[K{message}", end="", file=sys.stderr, flush=True)
