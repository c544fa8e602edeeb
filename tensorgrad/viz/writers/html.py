"""The drawing as a page: one HTML file that needs no other, no server and no network.

Python writes what is known as compact JSON; the JavaScript and the style that show it are package data in
``page/``, joined and put into the file. Its Content-Security-Policy says all that the page may do: run this
one script, use this one style, and load nothing.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from functools import cache
from html import escape
from importlib.resources import files
from string import Template
from typing import Literal

from tensorgrad.viz.measuring.measures import Measures
from tensorgrad.viz.measuring.thumbs import Thumbs
from tensorgrad.viz.picture import Picture
from tensorgrad.viz.style.palette import DARK, FAINT, FRAME, HUES, INK, KINDS, PAPER, WIRES
from tensorgrad.viz.style.text import shown
from tensorgrad.viz.writers.page_data import Data

__all__ = ["to_html"]

Level = Literal["op", "cell", "rolled"]
View = Literal["forward", "backward", "compare"]

# In the order in which they build on one another; each is a chapter of one script.
_CHAPTERS = (
    *("words", "data", "index", "camera", "surface", "look", "paint", "dom", "page", "stage", "boxes"),
    *("inspect", "chart", "strips", "triangle", "panels", "search", "player", "controls", "print", "main"),
)
# What would end the element in which the JSON stands, or could be taken for markup there.
_IN_SCRIPT = {ord("<"): "\\u003c", ord(">"): "\\u003e", ord("&"): "\\u0026"}


def to_html(
    pictures: Mapping[str, Picture],
    measures: Measures,
    *,
    title: str,
    thumbs: Thumbs,
    level: Level,
    view: View = "forward",
) -> str:
    """The text of a page that shows a graph.

    Args:
        pictures: the same graph as "op", "cell" and "rolled"; any may be missing. Time runs along x.
        measures: of all of them.
        title: of the page, any text.
        thumbs: small pictures of values and gradients, shown where `measures` has their numbers.
        level: which picture the page begins with.
        view: what it shows first; "compare" at the first tensor that differs.

    Example:
        >>> import tensorgrad as tg
        >>> from tensorgrad.viz.build import build
        >>> from tensorgrad.viz.place import place
        >>> x = tg.tensor(0.5, requires_grad=True, name="x")
        >>> picture = place(build(tg.tanh(x)))
        >>> to_html({"op": picture}, Measures(), title="tanh", thumbs=Thumbs({}, {}), level="op")[:15]
        '<!DOCTYPE html>'
    """
    style, script = _style(), _script()
    return Template(_part("page.html")).substitute(
        # What is left of a file name that is no UTF-8 could not be written either.
        title=escape(shown(title)),
        style=style,
        style_hash=_hash(style),
        script=script,
        script_hash=_hash(script),
        data=_json(Data(pictures, measures, thumbs).all(title, level, view)),
    )


# --- what does not depend on the graph -------------------------------------------------------------------
def _part(name: str) -> str:
    return (files("tensorgrad.viz.writers") / "page" / name).read_text(encoding="utf-8")


@cache
def _script() -> str:
    chapters = "\n".join(_part(f"{name}.js") for name in _CHAPTERS)
    return f"(() => {{\n'use strict';\n{chapters}\n}})();\n"


@cache
def _style() -> str:
    """The style sheet, with the colours that all drawings have in common as its variables."""
    colors = {"ink": INK, "faint": FAINT, "paper": PAPER, "frame": FRAME.fill, "rim": FRAME.line}
    for kind, paint in KINDS.items():
        colors |= {f"fill-{kind}": paint.fill, f"line-{kind}": paint.line}
    colors |= {f"wire-{kind}": ink.color for kind, ink in WIRES.items()}
    colors |= {f"hue-{i}": color for i, color in enumerate(HUES)}
    light = "".join(f"--{name}:{color};" for name, color in colors.items())
    dark = "".join(f"--{name}:{DARK[color]};" for name, color in colors.items())
    kinds = "".join(
        f".kind.{kind}{{background:var(--fill-{kind});border-color:var(--line-{kind})}}\n" for kind in KINDS
    )
    return f':root{{{light}}}\n:root[data-theme="dark"]{{{dark}}}\n{kinds}{_part("page.css")}'


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _json(data: object) -> str:
    # In ASCII, half of a surrogate pair, which no UTF-8 file can hold, is text like any other.
    return json.dumps(data, separators=(",", ":"), allow_nan=False).translate(_IN_SCRIPT)
