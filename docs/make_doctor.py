"""Write the pages of docs/doctor, one for each code of the catalogue, and the table that leads to them.

`python docs/make_doctor.py`. With --check nothing is written; the exit status says whether they are current.
"""

from __future__ import annotations

import sys
import textwrap
from pathlib import Path

from tensorgrad.bptt.codes import CATALOGUE, Code

FOLDER = Path(__file__).with_name("doctor")
START, END = "<!-- codes -->\n", "<!-- end of codes -->\n"


def prose(text: str) -> str:
    """Wrapped as all pages are."""
    return textwrap.fill(text, 115, break_long_words=False, break_on_hyphens=False) + "\n"


def block(lines: str) -> str:
    """Lines of code that stand for themselves, and can't be run."""
    return f"```text\n{lines}\n```\n"


def page(code: Code) -> str:
    """The page of one mistake."""
    parts = [f"# {code.code}: {code.title}\n", f"## What you see\n\n{prose(code.symptom)}"]
    parts.append(f"## The wrong line\n\nOf a forward with\n\n{block(code.forward)}\nthe backward says\n")
    parts += [block(code.wrong), f"## The right line\n\n{block(code.right)}"]
    seen = "\n" + prose(f"Seen in [training](README.md#what-still-trains): {code.seen}.") if code.seen else ""
    parts.append(f"## Why it may still train\n\n{prose(code.why_it_may_train)}{seen}")
    parts.append("[All codes](README.md#the-codes)\n")
    return "\n".join(parts)


def table() -> str:
    """All codes, with what was seen of them in training."""
    rows = [f"| [{c.code}]({c.code}.md) | {c.title} | {c.seen} |" for c in CATALOGUE.values()]
    return "\n".join(["| code | mistake | seen in training |", "|---|---|---|", *rows]) + "\n"


def pages() -> dict[Path, str]:
    """Every page of the folder; of its README the table alone is made here."""
    made = {FOLDER / f"{code.code}.md": page(code) for code in CATALOGUE.values()}
    readme = FOLDER / "README.md"
    before, rest = readme.read_text(encoding="utf-8").split(START)
    after = rest.split(END)[1]
    made[readme] = f"{before}{START}\n{table()}\n{END}{after}"
    return made


def main() -> int:
    """Write the pages, or compare them."""
    made = pages()
    stray = set(FOLDER.glob("*.md")) - set(made)
    if "--check" in sys.argv:
        old = [path for path, text in made.items() if not path.exists() or path.read_text("utf-8") != text]
        for path in sorted({*old, *stray}):
            print(f"docs/doctor/{path.name} is not current: run python docs/make_doctor.py")
        return int(bool(old or stray))
    for path in stray:
        path.unlink()
    for path, text in made.items():
        path.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
