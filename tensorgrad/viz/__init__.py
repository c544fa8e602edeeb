"""Pictures: the recorded graph, and plots of training and of gradients through time."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from tensorgrad.viz.drawing import Drawing, draw

if TYPE_CHECKING:
    import tensorgrad.viz.bptt_plots as bptt_plots
    import tensorgrad.viz.plots as plots
    from tensorgrad.viz.render import RenderError as RenderError

__all__ = ["Drawing", "RenderError", "bptt_plots", "draw", "plots"]


def __getattr__(name: str) -> Any:
    # Plots need matplotlib and rendering needs to start programs: neither has a part in starting tensorgrad.
    if name in ("plots", "bptt_plots"):
        return importlib.import_module(f"tensorgrad.viz.{name}")
    if name == "RenderError":
        return importlib.import_module("tensorgrad.viz.render").RenderError
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
