"""Backpropagation through time: a hand-written backward held against the graph, and gradients studied."""

from tensorgrad.bptt.check import BackwardReport, check_backward
from tensorgrad.bptt.codes import explain
from tensorgrad.bptt.compare import compare
from tensorgrad.bptt.contributions import Contributions, Horizon, contributions, truncation_horizon
from tensorgrad.bptt.doctor import Finding
from tensorgrad.bptt.fixed_points import FixedPoints, fixed_points
from tensorgrad.bptt.flow import GradientFlow, Itemised, gradient_flow, itemised
from tensorgrad.bptt.jacobians import (
    LyapunovExponents,
    StateJacobians,
    lyapunov_exponents,
    state_jacobians,
)
from tensorgrad.bptt.report import Report, Row
from tensorgrad.bptt.rtrl import RTRL, rtrl
from tensorgrad.bptt.saturation import Saturation, saturation

__all__ = [
    "BackwardReport",
    "Contributions",
    "Finding",
    "FixedPoints",
    "GradientFlow",
    "Horizon",
    "Itemised",
    "LyapunovExponents",
    "RTRL",
    "Report",
    "Row",
    "Saturation",
    "StateJacobians",
    "check_backward",
    "compare",
    "contributions",
    "explain",
    "fixed_points",
    "gradient_flow",
    "itemised",
    "lyapunov_exponents",
    "rtrl",
    "saturation",
    "state_jacobians",
    "truncation_horizon",
]
