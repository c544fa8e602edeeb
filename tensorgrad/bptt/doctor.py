"""Which mistake explains the numbers: each that the graph has room for is made, and the result compared."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any, NamedTuple

import numpy as np

from tensorgrad.bptt.mistakes import Mistake, mistakes
from tensorgrad.bptt.places import Places
from tensorgrad.bptt.replay import Replay
from tensorgrad.context import collector_paused, configure
from tensorgrad.nn.unroll import Unrolled
from tensorgrad.tensor import Tensor, seed_of

__all__ = ["Finding", "diagnose"]

# By the gradients of parameters alone they are tried only where no other mistake explains the numbers: a cell
# with gates has room for many of them, and each takes a whole walk.
RARE = ("BPTT031", "BPTT032", "BPTT033", "BPTT040", "BPTT041", "BPTT042")


class Finding(NamedTuple):
    """A mistake that gives exactly the numbers seen.

    code: of the catalogue. where: at what, in the names of the graph.
    """

    code: str
    where: str

    def __str__(self) -> str:
        return f"{self.code}: {self.where}"


def diagnose(
    loss: Tensor,
    unrolled: Unrolled,
    agrees: Callable[[int, Mapping[int, np.ndarray]], bool],
    given: Mapping[int, np.ndarray],
    first: int,
    names: Mapping[int, str] | None = None,
) -> list[Finding]:
    """The mistakes whose backward agrees with what was given, one finding for each code.

    agrees: whether what was given of the node with this number, if anything was, is what cotangents say.
    given: what was given, by number of the node. first: the number of the first that differs.
    names: what Tensors are called that have no label, by number.
    """
    with configure(recording=False), collector_paused(), np.errstate(all="ignore"):
        places = Places(loss, unrolled, names)
        seed: Any = seed_of(loss, None)
        trial = _Trial(places, [(loss, seed)], agrees, given)
        rare: list[Mistake] = []
        for mistake in mistakes(places, _limits(places, seed, loss, given, first)):
            if mistake.code in RARE:
                rare.append(mistake)
            else:
                trial.of(mistake)
        # With a record of every timestep a wrong guess ends early, and all can be tried.
        recorded = any(places.t.get(index) is not None for index in given)
        for mistake in rare if recorded or not trial.findings else ():
            trial.of(mistake)
    return list(trial.findings.values())


class _Trial:
    """Mistakes are made one after the other, and those that explain what was given are kept."""

    def __init__(
        self,
        places: Places,
        seeds: list[tuple[Tensor, Any]],
        agrees: Callable[[int, Mapping[int, np.ndarray]], bool],
        given: Mapping[int, np.ndarray],
    ) -> None:
        self.places, self.seeds, self.agrees, self.given = places, seeds, agrees, given
        self.beside = _beside(places, given)
        matrices = (x for x in places.order if x.op is None and x._value.ndim > 1)
        self.weights = self.beside | {x.index for x in matrices if places.is_shared(x)}
        self.findings: dict[str, Finding] = {}

    def of(self, mistake: Mistake) -> None:
        """Make a mistake, unless one of its code explains everything already."""
        if mistake.code in self.findings:
            return
        seeds = [(node, mistake.scale * g) for node, g in self.seeds]
        # Most mistakes show without the gradient of any weight, which is the larger part of the work.
        if not mistake.replay(self.places).run(seeds, self.agrees, self.given, self.weights):
            return
        replay = mistake.replay(self.places)
        # What the mistake cuts off from the loss is not reached, and has a gradient of zero.
        if replay.run(seeds, self.agrees, self.given, self.beside) and all(
            self.agrees(index, replay.cotangents) for index in self.given
        ):
            self.findings[mistake.code] = Finding(mistake.code, mistake.where)


def _beside(places: Places, given: Collection[int]) -> set[int]:
    """The nodes that need no share: nothing was given of them, nor of what they were made from."""
    needed: set[int] = set()
    for node in reversed(places.order):
        if node.index in given or any(node.operands[argnum].index in needed for argnum in node.live):
            needed.add(node.index)
    return {node.index for node in places.order} - needed


def _limits(
    places: Places, seed: Any, loss: Tensor, given: Mapping[int, np.ndarray], first: int
) -> list[float]:
    """If the carry was clipped, at what: the largest number in it where it first differs."""
    if first not in places.leaves:
        return []
    right = Replay(places)
    right.run([(loss, seed)])
    if first not in right.carried:
        return []
    carried = right.dense(right.carried[first])
    local = right.cotangents[first] - carried
    limits = [float(np.abs(given[first] - local).max()), float(np.abs(given[first]).max())]
    # A carry that is dropped is not one that is clipped at what rounding leaves of it.
    return [limit for limit in limits if limit > 1e-3 * float(np.abs(carried).max())]
