"""Variables of the user's functions: the page calls by their names what they held at the end."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np

from tensorgrad.compile.stand_ins import Traced
from tensorgrad.graph import _PACKAGE

__all__ = ["variables_noted"]

_LIBRARIES = (_PACKAGE, str(Path(np.__file__).parent) + os.sep, str(Path(os.__file__).parent) + os.sep)


@contextmanager
def variables_noted(tracer: Any) -> Iterator[None]:
    """Context manager: the tracer learns which variables hold nodes, and nodes without a name get theirs.

    A function names what was computed in it. The caller's name for that counts more. Where a profiler listens
    already, there are no names.
    """
    if sys.getprofile() is not None:
        yield
        return
    names = tracer.variables
    # For each function that runs, the creation number after which its own nodes come.
    begun: dict[FrameType, int] = {}

    def note(frame: FrameType, event: str, arg: Any) -> None:
        if event not in ("call", "return") or frame.f_code.co_filename.startswith(_LIBRARIES):
            return
        if event == "call":
            begun[frame] = tracer.nodes[-1].index if tracer.nodes else tracer.before
            return
        start = begun.pop(frame, tracer.before)
        for name in frame.f_code.co_varnames:
            value: Any = frame.f_locals.get(name)
            # Not by isinstance, which asks objects what they claim to be.
            if issubclass(type(value), Traced) and value.index > start:
                known = names.get(id(value))
                names[id(value)] = value, name
                # In a cell a state without a label has yet to get the name of its place.
                if not tracer.loops and (value.name is None or (known and value.name == known[1])):
                    value.name = name

    sys.setprofile(note)
    try:
        yield
    finally:
        # The function may have begun to profile itself.
        if sys.getprofile() is note:
            sys.setprofile(None)
