"""Which mistake explains the numbers: each that the graph has room for is made, and the result compared."""

from __future__ import annotations

import itertools
from bisect import bisect_left, bisect_right, insort
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

# The mistakes of a cell begin at its few operations in the last timestep; others, such as a truncation at any
# timestep, do with a start that is further off.
MOST_STARTS = 64

Seeds = list[tuple[Tensor, Any]]
Agrees = Callable[[int, Mapping[int, np.ndarray]], bool]
Given = Mapping[int, np.ndarray]


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
    agrees: Agrees,
    given: Given,
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

    def __init__(self, places: Places, seeds: Seeds, agrees: Agrees, given: Given) -> None:
        self.places, self.agrees, self.given = places, agrees, given
        beside = _beside(places, given)
        matrices = (x for x in places.order if x.op is None and x._value.ndim > 1)
        weights = beside | {x.index for x in matrices if places.is_shared(x)}
        # Most mistakes show without the gradient of any weight, which is the larger part of the work.
        without = [weights, beside] if any(index not in weights for index in given) else [beside]
        self.walks = [_Walks(places, seeds, agrees, given, each) for each in without]
        self.findings: dict[str, Finding] = {}

    def of(self, mistake: Mistake) -> None:
        """Make a mistake, unless one of its code explains everything already."""
        if mistake.code in self.findings:
            return
        replay = None
        for walks in self.walks:
            replay = walks.with_mistake(mistake)
            if replay is None:
                return
        # What the mistake cuts off from the loss is not reached, and has a gradient of zero.
        if replay is not None and all(self.agrees(index, replay.cotangents) for index in self.given):
            self.findings[mistake.code] = Finding(mistake.code, mistake.where)


class _Walks:
    """Walks with one mistake each, which share what comes before the first edit.

    passed_by: the edges that no share is computed for, whose edits make no difference.
    starts: the right walk as it stands at some positions, in order. stop: a position by which it disagrees
    with what was given, None as long as none is known.
    """

    def __init__(self, places: Places, seeds: Seeds, agrees: Agrees, given: Given, without: set[int]) -> None:
        self.places, self.seeds = places, seeds
        self.asked = agrees, given, without
        self.passed_by = {
            (node.index, argnum)
            for node in places.order
            for argnum in node.live
            if node.operands[argnum].index in without
        }
        self.starts = [Replay(places)]
        self.starts[0].run(seeds, end=0)
        self.stop: int | None = None

    def with_mistake(self, mistake: Mistake) -> Replay | None:
        """The whole walk with a mistake; None if it disagrees with what was given."""
        replay = mistake.replay(self.places)
        if mistake.scale != 1 or mistake.order is not None:
            seeds = [(node, mistake.scale * g) for node, g in self.seeds]
            return replay if replay.run(seeds, *self.asked) else None
        edges = (mistake.edits.keys() - self.passed_by) | mistake.redirect.keys()
        youngest = max(itertools.chain((index for index, _ in edges), mistake.received), default=-1)
        start = self._before(bisect_left(self.places.order, -youngest, key=lambda node: -node.index))
        if start is None:
            return None
        replay.follow(start)
        return replay if replay.run([], *self.asked) else None

    def _before(self, position: int) -> Replay | None:
        """The right walk, at most so far; None if it disagrees on the way."""
        if self.stop is not None and position >= self.stop:
            return None
        earlier = self.starts[bisect_right(self.starts, position, key=lambda walk: walk.position) - 1]
        if earlier.position == position or len(self.starts) == MOST_STARTS:
            return earlier
        walk = Replay(self.places)
        walk.follow(earlier)
        if not walk.run([], *self.asked, end=position):
            self.stop = position
            return None
        insort(self.starts, walk, key=lambda walk: walk.position)
        return walk


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
