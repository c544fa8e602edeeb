"""Write the exercises beside this file, and remove those that are no more.

    python examples/broken_backwards/make.py

With --check nothing is written; the exit status says whether the files are current.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from tensorgrad.models.exercises import EXERCISES

HERE = Path(__file__).resolve().parent


def main(argv: Sequence[str] | None = None) -> int:
    """Write the files, or compare them."""
    parser = argparse.ArgumentParser(description="Write the exercises beside this file.")
    parser.add_argument("--check", action="store_true", help="write nothing, say what is not current")
    check = parser.parse_args(argv).check
    wanted = {f"{exercise.name}.py": exercise.text() for exercise in EXERCISES}
    found = {path.name: path.read_text(encoding="utf-8") for path in HERE.glob("*_[0-9][0-9].py")}
    stale = sorted(name for name in wanted.keys() | found if wanted.get(name) != found.get(name))
    if check and stale:
        print(f"not current: {', '.join(stale)}; run python examples/broken_backwards/make.py")
        return 1
    for name in stale:
        if name in wanted:
            (HERE / name).write_text(wanted[name], encoding="utf-8")
        else:
            (HERE / name).unlink()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
