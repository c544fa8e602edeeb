"""What a page is told of how things look: colours and their scales, letters, and pens."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tensorgrad.viz.measuring.along import NOT_ON_RECORD
from tensorgrad.viz.picture import Line
from tensorgrad.viz.style.color import AGREES, SPECIAL, LogScale, kind_of, shade
from tensorgrad.viz.style.palette import HUES, KINDS, WIRES
from tensorgrad.viz.style.shapes import LABEL_SIZE
from tensorgrad.viz.style.text import STYLES, TITLE, TITLE_AT, baselines

__all__ = ["looks"]

_RAMP = 33


def looks(norms: Mapping[str, list[float | None]], tolerance: float) -> dict[str, Any]:
    """Colours, letters and pens, with a scale for the numbers of each kind; None where none is known."""
    return {
        "ramp": [shade(i / (_RAMP - 1)) for i in range(_RAMP)],
        "notOnRecord": NOT_ON_RECORD,
        "special": {
            **{kind: special._asdict() for kind, special in SPECIAL.items()},
            "agrees": {
                "color": AGREES,
                "fill": AGREES,
                "words": f"agrees, within {tolerance:g}",
            },
        },
        "scales": {kind: _scale(kind, found, tolerance) for kind, found in norms.items()},
        "styles": {
            **{name: {**style._asdict(), "rise": _rise(name)} for name, style in STYLES.items()},
            "title": {"size": TITLE.size, "height": TITLE.height, "at": TITLE_AT},
            "label": {"size": LABEL_SIZE},
        },
        "pens": {
            "kinds": {
                kind: {"width": paint.width, "radius": paint.radius, "dashed": paint.dashed}
                for kind, paint in KINDS.items()
            },
            "wires": {kind: {"width": ink.width, "head": ink.head} for kind, ink in WIRES.items()},
            "hues": len(HUES),
        },
    }


def _rise(style: str) -> float:
    """From the upper edge of a line of a box down to its baseline."""
    line = Line(style, "")  # type: ignore[arg-type]
    return baselines([line], 0.0, STYLES[style].height)[0]


def _scale(kind: str, norms: list[float | None], tolerance: float) -> dict[str, Any]:
    """The ends of a scale, the ticks of its legend, and what there is that stands outside of it."""
    if kind == "share":
        return {"low": 0, "high": 1, "linear": True, "cut": False, "ticks": [(0, "0"), (1, "1")], "seen": []}
    numbers = [x for x in norms if x is not None]
    seen: list[str] = sorted({kind_of(x) for x in norms} - {"number"})
    limit = {}
    if kind == "error":
        seen = [*(name for name in seen if name != "zero"), "agrees"]
        numbers = [tolerance, *(x for x in numbers if x > tolerance)]
        limit = {"tolerance": tolerance}
    scale = LogScale.about_one(numbers) if kind == "factor" else LogScale.of(numbers)
    if scale is None:
        return {"low": -1, "high": 0, "linear": False, "cut": False, "ticks": [], "seen": seen, **limit}
    ends = {"low": scale.low, "high": scale.high, "cut": scale.cut}
    return {**ends, "linear": False, "ticks": scale.ticks(), "seen": seen, **limit}
