"""Write docs/api.md, the public names with the first line of each docstring: `python docs/make_api.py`.

With --check nothing is written; the exit status says whether the page is current.
"""

from __future__ import annotations

import importlib
import inspect
import sys
import types
from pathlib import Path
from typing import get_origin

KINDS = (types.FunctionType, type)
PAGE = Path(__file__).with_name("api.md")
SECTIONS = {
    "tensorgrad": "tg",
    "tensorgrad.functional": "F",
    "tensorgrad.nn": "nn",
    "tensorgrad.nn.init": "nn.init",
    "tensorgrad.optim": "optim",
    "tensorgrad.check": "tg.check",
    "tensorgrad.bptt": "tg.bptt",
    "tensorgrad.tree": "tg.tree",
    "tensorgrad.viz": "tg.viz",
    "tensorgrad.viz.plots": "tg.viz.plots",
    "tensorgrad.data": "tensorgrad.data",
    "tensorgrad.io": "tensorgrad.io",
}


class Shown:
    """A default value as it reads in source: the same on every run and every version of Python."""

    def __init__(self, value: object) -> None:
        self.text = repr(value)
        if isinstance(value, type):
            self.text = value.__name__
        elif callable(value):
            self.text = "..."

    def __repr__(self) -> str:
        return self.text


def signature(value: object) -> str:
    """The parameters of a function or class with their defaults, annotations left out."""
    # What an exception takes differs between versions of Python, and nobody calls one.
    if not callable(value) or (isinstance(value, type) and issubclass(value, BaseException)):
        return ""
    try:
        found = inspect.signature(value)
    except ValueError:
        return ""
    empty = inspect.Parameter.empty
    bare = [
        p.replace(annotation=empty, default=empty if p.default is empty else Shown(p.default))
        for p in found.parameters.values()
    ]
    return str(found.replace(parameters=bare, return_annotation=inspect.Signature.empty))


def summary(value: object) -> str:
    """The first paragraph of a docstring, on one line."""
    return (inspect.getdoc(value) or "").split("\n\n")[0].replace("\n", " ")


def page() -> str:
    """The whole page."""
    lines = ["# The public names", "", "Written by `python docs/make_api.py` from the docstrings."]
    for name, short in SECTIONS.items():
        module = importlib.import_module(name)
        lines += ["", f"## `{name}`", "", summary(module), ""]
        for public in sorted(module.__all__, key=str.lower):
            value = getattr(module, public)
            if not isinstance(value, KINDS) or get_origin(value) is not None:
                continue
            lines.append(f"- `{short}.{public}{signature(value)}`: {summary(value)}")
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
