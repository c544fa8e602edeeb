"""Cells as ONNX models, for Netron to show and other programs to run."""

from tensorgrad.viz.onnx.export import OnnxError, export_onnx

__all__ = ["OnnxError", "export_onnx"]
