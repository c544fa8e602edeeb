"""Write docs/api.md, the public names with the first line of each docstring: `python docs/make_api.py`.

With --check nothing is written; the exit status says whether the page is current.
"""

from __future__ import annotations

import importlib
import inspect
import sys
from pathlib import Path

PAGE = Path(__file__).with_name("api.md")
SECTIONS = {
    "tensorgrad": "tg",
    "tensorgrad.functional": "F",
    "tensorgrad.nn": "nn",
    "tensorgrad.nn.init": "nn.init",
    "tensorgrad.optim": "optim",
    "tensorgrad.check": "tg.check",
    "tensorgrad.tree": "tg.tree",
    "tensorgrad.viz": "tg.viz",
    "tensorgrad.data": "tensorgrad.data",
    "tensorgrad.io": "tensorgrad.io",
}


def signature(value: object) -> str:
    """The parameter names of a function or class, defaults included and annotations left out."""
    if not callable(value):
        return ""
    try:
        found = inspect.signature(value)
    except ValueError:
        return ""
    bare = [p.replace(annotation=inspect.Parameter.empty) for p in found.parameters.values()]
    return str(found.replace(parameters=bare, return_annotation=inspect.Signature.empty))


def page() -> str:
    """The whole page."""
    lines = ["# The public names", "", "Written by `python docs/make_api.py` from the docstrings."]
    for name, short in SECTIONS.items():
        module = importlib.import_module(name)
        lines += [
            "",
            f"## `{name}`",
            "",
            (inspect.getdoc(module) or "").split("\n\n")[0].replace("\n", " "),
            "",
        ]
        for public in sorted(module.__all__, key=str.lower):
            value = getattr(module, public)
            if inspect.ismodule(value):
                continue
            summary = (inspect.getdoc(value) or "").split("\n\n")[0].replace("\n", " ")
            lines.append(f"- `{short}.{public}{signature(value)}`: {summary}")
    return "\n".join(lines) + "\n"


def main() -> int:
    """Write the page, or compare it."""
    text = page()
    if "--check" in sys.argv:
        if not PAGE.exists() or PAGE.read_text(encoding="utf-8") != text:
            print("docs/api.md is not current: run python docs/make_api.py")
            return 1
        return 0
    PAGE.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
