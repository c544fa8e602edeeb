"""Plots of training, of what a run holds, and of gradients through time, with matplotlib.

Every function returns a matplotlib Figure, or draws into axes it is given (`ax`: one, or as many as there are
panels) and returns theirs. pyplot takes no part: save a figure with its `savefig`, or let a notebook show it.
Colours follow the background, light or dark, that the user's matplotlib style gives.
"""

from __future__ import annotations

from tensorgrad.viz.plots.dynamics import fixed_points, jacobian_spectrum, lyapunov, singular_values
from tensorgrad.viz.plots.flow import (
    contributions,
    gradient_flow,
    horizon,
    itemised,
    rtrl,
    spectral_radius,
    units,
)
from tensorgrad.viz.plots.given import PlotError
from tensorgrad.viz.plots.states import alignment, gates, hidden_states, saturation
from tensorgrad.viz.plots.training import loss_curve

__all__ = [
    "PlotError",
    "alignment",
    "contributions",
    "fixed_points",
    "gates",
    "gradient_flow",
    "hidden_states",
    "horizon",
    "itemised",
    "jacobian_spectrum",
    "loss_curve",
    "lyapunov",
    "rtrl",
    "saturation",
    "singular_values",
    "spectral_radius",
    "units",
]
