"""Pictures: the recorded graph, and plots of training and of gradients through time."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from tensorgrad.nn.module import Module
from tensorgrad.tensor import Tensor
from tensorgrad.viz.tables.summary import Summary, summary

if TYPE_CHECKING:
    import tensorgrad.viz.plots as plots
    from tensorgrad.viz.drawing import Drawing as Drawing
    from tensorgrad.viz.drawing import draw as draw
    from tensorgrad.viz.onnx import OnnxError as OnnxError
    from tensorgrad.viz.onnx import export_onnx as export_onnx
    from tensorgrad.viz.tables.table import TraceTable as TraceTable
    from tensorgrad.viz.tables.table import trace_table as trace_table
    from tensorgrad.viz.writers.render import RenderError as RenderError

__all__ = [
    "Drawing",
    "OnnxError",
    "RenderError",
    "Summary",
    "TraceTable",
    "draw",
    "export_onnx",
    "plots",
    "summary",
    "trace_table",
]

# What has no part in starting tensorgrad.
_LATER = {
    "Drawing": "drawing",
    "OnnxError": "onnx",
    "RenderError": "writers.render",
    "TraceTable": "tables.table",
    "draw": "drawing",
    "export_onnx": "onnx",
    "trace_table": "tables.table",
}


def _notebook() -> Any:
    return importlib.import_module("tensorgrad.viz.tables.notebook")


Tensor._repr_html_ = lambda self: str(_notebook().tensor_html(self))
Module._repr_html_ = lambda self: str(_notebook().module_html(self))


def __getattr__(name: str) -> Any:
    if name == "plots":
        return importlib.import_module("tensorgrad.viz.plots")
    if name in _LATER:
        return getattr(importlib.import_module(f"tensorgrad.viz.{_LATER[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
