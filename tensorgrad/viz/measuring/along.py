"""What flows back along a line of a picture, which may stand for many arrows of the graph."""

from __future__ import annotations

from tensorgrad.viz.measuring.measures import Measures, norm_of
from tensorgrad.viz.picture import Wire

__all__ = ["NOT_ON_RECORD", "flow_along", "not_on_record"]

NOT_ON_RECORD = "inside a checkpoint: not on record"
"""What is said of a line of which nothing can be measured."""


def flow_along(wire: Wire, measures: Measures) -> float | None:
    """The norm of what flows back along a line; None where nothing does, or none of it is on record."""
    norm = measures.flows.get(wire.shares)
    if norm is not None:
        return norm
    # Along a rail flows all that its value receives, and into a gather all of which its result has.
    end = {"rail": wire.tail, "gather": wire.head}.get(wire.kind)
    if end:
        return norm_of(measures.grads[end]) if end in measures.grads else None
    parts = [measures.flows[(n,)] for n in wire.shares if (n,) in measures.flows]
    return parts[0] if len(parts) == 1 else None


def not_on_record(wire: Wire, measures: Measures) -> bool:
    """Whether a line leads into what was checkpointed, so that what flows along it was not measured."""
    return not measures.unmeasured.isdisjoint(wire.shares) and flow_along(wire, measures) is None
