"""Gradient checks against numbers that no gradient rule had a part in."""

from tensorgrad.check.gradcheck import gradcheck, norm_error

__all__ = ["gradcheck", "norm_error"]
