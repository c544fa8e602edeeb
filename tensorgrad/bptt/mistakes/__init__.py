"""The mistakes that people make in a hand-written backward, as edits of the graph's own backward.

Nothing here knows a cell. A mistake is looked for wherever the graph has the structure that it needs: a
carried state, an activation, a product, a weight.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from tensorgrad.bptt.mistakes.activations import activations
from tensorgrad.bptt.mistakes.carries import carries
from tensorgrad.bptt.mistakes.edits import Mistake
from tensorgrad.bptt.mistakes.factors import factors
from tensorgrad.bptt.mistakes.gates import gates
from tensorgrad.bptt.mistakes.loops import loops
from tensorgrad.bptt.mistakes.outputs import outputs
from tensorgrad.bptt.mistakes.padding import padding
from tensorgrad.bptt.mistakes.weights import biases, weights
from tensorgrad.bptt.places import Places

__all__ = ["Mistake", "mistakes"]


def mistakes(places: Places, limits: Sequence[float] = ()) -> Iterator[Mistake]:
    """Every mistake that this graph leaves room for, the likelier first.

    limits: at which gradients may have been clipped, beside the usual ones.
    """
    for family in (carries, activations, factors, weights, biases, outputs):
        yield from family(places)
    yield from loops(places, limits)
    yield from padding(places)
    yield from gates(places)
