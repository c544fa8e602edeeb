"""Write into docs/compiling.md the page that is generated there, beside the one written by hand.

`python docs/make_compiling.py`. With --check nothing is written; the exit status says whether it is current.
"""

from __future__ import annotations

import inspect
import re
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tensorgrad.models.manual import rnn as manual

PAGE = Path(__file__).with_name("compiling.md")
START, END = "<!-- generated -->\n", "<!-- end of generated -->\n"
BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)


def source_of_the_walk(text: str) -> str:
    """The page of `step`, compiled by the blocks that stand before the generated part."""
    namespace: dict[str, Any] = {"__name__": "page"}
    for block in BLOCK.findall(text.split(START)[0]):
        exec(compile(block, str(PAGE), "exec"), namespace)
    source: str = namespace["step"].source
    return source


def body(fn: Callable[..., Any]) -> str:
    """The signature's name and the statements of a function, without its docstring."""
    source = inspect.getsource(fn)
    after = source.split('"""')[2].strip("\n")
    return f"def {fn.__name__}(...):\n{after}\n"


def main_function(page: str) -> str:
    """The last function of a page: what the helpers above it are for."""
    return page[page.rindex("\ndef ") :].strip("\n") + "\n"


def generated(text: str) -> str:
    """The part of the page between its marks."""
    by_hand = "\n\n".join(body(fn).strip("\n") for fn in (manual.forward, manual.backward))
    code = "```py\n{}\n```\n"
    return "\n".join(
        [
            "By hand, in [models/manual/rnn.py](../models/manual/rnn.py):\n",
            code.format(by_hand),
            "Compiled, from the function above (the helpers that it calls stand before it on the page):\n",
            code.format(textwrap.dedent(main_function(source_of_the_walk(text))).strip("\n")),
        ]
    )


def made() -> str:
    """The whole page as it should be."""
    text = PAGE.read_text(encoding="utf-8")
    before, rest = text.split(START)
    return f"{before}{START}\n{generated(text)}\n{END}{rest.split(END)[1]}"


def main() -> int:
    """Write the page, or compare it."""
    text = made()
    if "--check" in sys.argv:
        if PAGE.read_text(encoding="utf-8") != text:
            print("docs/compiling.md is not current: run python docs/make_compiling.py")
            return 1
        return 0
    PAGE.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
