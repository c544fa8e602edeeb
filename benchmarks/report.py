"""Tables, targets and the JSON file."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Target:
    """A figure that must not be exceeded."""

    what: str
    limit: float
    reached: float
    unit: str = ""

    @property
    def met(self) -> bool:
        return self.reached <= self.limit

    def row(self) -> list[str]:
        unit = f" {self.unit}" if self.unit else ""
        return [self.what, f"{self.limit:g}{unit}", f"{self.reached:.4g}{unit}", "yes" if self.met else "NO"]


def table(title: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Plain text: the first column to the left, the others to the right."""
    lines = [list(header), *(list(row) for row in rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(header))]
    text = [
        "  ".join(
            [line[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(line[1:], widths[1:], strict=True))]
        )
        for line in lines
    ]
    return "\n".join([title, "", text[0], "  ".join("-" * w for w in widths), *text[1:], ""])


def targets_table(targets: Sequence[Target]) -> str:
    return table("Targets", ["figure", "at most", "reached", "met"], [target.row() for target in targets])


def microseconds(seconds: float) -> str:
    return f"{seconds * 1e6:,.0f}"


def write_json(path: Path, results: dict[str, Any], targets: Sequence[Target]) -> None:
    """Write all results; folders are made as needed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    document = {**results, "targets": [{**asdict(target), "met": target.met} for target in targets]}
    path.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
