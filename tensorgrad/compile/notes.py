"""What a page of a function with effects says about what it is given and what it returns."""

from __future__ import annotations

import textwrap
from typing import Any

from tensorgrad.compile.draws import flat
from tensorgrad.compile.ir import Const, Program
from tensorgrad.compile.places import Gradient
from tensorgrad.graph import Node

__all__ = ["name_outputs", "notes"]


def name_outputs(program: Program, writes: list[tuple[Any, Any]]) -> None:
    """Call what is written back by what it becomes."""
    written = [place for place, value in writes if isinstance(value, Node)]
    for place, out in zip(written, program.outputs[len(program.outputs) - len(written) :], strict=True):
        if not isinstance(out, Const) and not any(out is v for v in program.inputs):
            out.name = place.name if isinstance(place, Gradient) else f"new_{place.name}"


def notes(program: Program, traced: Any, inputs: list[str]) -> list[str]:
    """The lines between the quotes: every input by name, and every result by number."""
    if not (traced.reads or traced.writes or traced.draws):
        return []
    draws = flat(traced.draws)
    captured = [id(x) for x, _ in traced.captured]
    arguments = len(inputs) - len(captured) - len(draws) - len(traced.reads)
    names = dict(zip(captured, inputs[len(inputs) - len(captured) :], strict=True))
    about = ["an argument"] * arguments
    about += [_what(place, names).replace("the new value of ", "the value of ") for place in traced.reads]
    about += [f"random numbers, for {draw.purpose}" for draw in draws]
    about += ["a parameter, or another Tensor from outside"] * len(captured)
    lines = [
        "What the function changes outside of itself is given to this page, and returned by it.",
        "",
        "Given:",
    ]
    for name, var, text in zip(inputs, program.inputs, about, strict=True):
        lines += _entry(f"{name}: {text}, {_typed(var)}")
    number = iter(range(len(program.outputs)))
    results = [next(number) for r in traced.results if isinstance(r, Node)]
    lines += ["Returns a tuple:"]
    for n in results:
        lines += _entry(f"{n}: a result of the function, {_typed(program.outputs[n])}")
    for place, value in traced.writes:
        if isinstance(value, Node):
            n = next(number)
            now = _what(place, names)
            now += "" if now.startswith("the new") else " afterwards"
            lines += _entry(f"{n}: {now}, {_typed(program.outputs[n])}")
    for place, value in traced.writes:
        if not isinstance(value, Node):
            lines += _entry(f"Not returned: {_what(place, names)}, which is {value!r} afterwards")
    return lines


def _what(place: Any, names: dict[int, str]) -> str:
    """The phrase for a place, its Tensor called as it is on this page."""
    x = place.owner.parameters[place.k] if hasattr(place, "k") else place.owner
    if id(x) not in names:
        return str(place.what)
    return place.what.removesuffix(x.name or "parameter") + names[id(x)]


def _entry(text: str) -> list[str]:
    return textwrap.wrap(text, 102, initial_indent="    ", subsequent_indent="        ")


def _typed(x: Any) -> str:
    return (
        f"{x.dtype} ({', '.join(map(str, x.shape))}{',' if len(x.shape) == 1 else ''})"
        if x.ndim
        else str(x.dtype)
    )
