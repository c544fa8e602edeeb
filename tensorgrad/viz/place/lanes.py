"""Lanes of a channel: which of the lines that run along it keeps to which of its parallel lanes.

A channel lies between two rows of ends, one on its low and one on its high side. Every net has ends on either
side, runs along its lane, and from there straight to its ends. Rows of boxes have channels between them for
what runs across; columns have them for what runs up and down.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, field

__all__ = ["Net", "collisions", "lanes"]

# Nearer than this, two lines could be taken for one.
_NEAR = 3.5
_MANY = 60
# How often each net may be put elsewhere, for those that came after it.
_ROUNDS = 3
_COLLISION = 1000


@dataclass(slots=True, eq=False)
class Net:
    """What is joined within a channel.

    Attributes:
        lows, highs: where its ends are along the channel, on the low and the high side.
        before, beyond: whether it comes from the beginning of the channel, or goes on to its end.
        whole: whether it is to have its lane for itself.
        lane: which it has, 0 for the lowest; -1 if it is one straight line across.
    """

    lows: list[float] = field(default_factory=list)
    highs: list[float] = field(default_factory=list)
    before: bool = False
    beyond: bool = False
    whole: bool = False
    lane: int = -1

    @property
    def straight(self) -> bool:
        """Whether it needs no lane."""
        ends = self.lows + self.highs
        return not self.before and not self.beyond and (not ends or max(ends) - min(ends) < 0.01)

    @property
    def extent(self) -> tuple[float, float]:
        """From where to where along the channel it runs."""
        ends = self.lows + self.highs
        low = float("-inf") if self.before or self.whole else min(ends)
        return low, float("inf") if self.beyond or self.whole else max(ends)


def lanes(nets: Sequence[Net]) -> int:
    """Give each net its lane, and say how many lanes there are.

    Example:
        >>> one, other = Net([0.0], [20.0]), Net([10.0], [30.0])
        >>> lanes([one, other]), one.lane, other.lane
        (2, 1, 0)
    """
    bent = [net for net in nets if not net.straight]
    extents = {id(net): net.extent for net in bent}
    bent.sort(key=lambda net: extents[id(net)])
    order: list[Net] = []
    if len(bent) > _MANY:
        order = bent
    else:
        for net in bent:
            _insert(order, net, extents)
        for _ in range(_ROUNDS):
            before = list(order)
            for net in bent:
                order.remove(net)
                _insert(order, net, extents)
            if before == order:
                break
    count = 0
    for i, net in enumerate(order):
        low, high = extents[id(net)]
        net.lane = 0
        for other in order[:i] if len(order) <= _MANY else order[max(0, i - _MANY) : i]:
            a, b = extents[id(other)]
            if a < high + 2 * _NEAR and low < b + 2 * _NEAR:
                net.lane = max(net.lane, other.lane + 1)
        count = max(count, net.lane + 1)
    return count


def collisions(nets: Sequence[Net]) -> list[tuple[int, int]]:
    """The ends on the high side that lie on a line to another net, as (which net, which of its highs).

    Where nets want to pass each other in a circle, no order of their lanes helps.

    Example:
        >>> nets = [Net([0.0], [20.0]), Net([20.0], [0.0])]
        >>> lanes(nets), collisions(nets)
        (2, [(1, 0)])
    """
    lows = sorted((at, net.lane) for net in nets if net.lane >= 0 for at in net.lows)
    found = []
    for n, net in enumerate(nets):
        for k, at in enumerate(net.highs if net.lane >= 0 else ()):
            near = lows[bisect_left(lows, (at - _NEAR, -1)) : bisect_left(lows, (at + _NEAR, -1))]
            if any(lane > net.lane for _, lane in near):
                found.append((n, k))
    return found


def _insert(order: list[Net], net: Net, extents: dict[int, tuple[float, float]]) -> None:
    """Put a net among the others, from the lowest lane to the highest, where it crosses the fewest."""
    cost = sum(_cost(net, other, extents) for other in order)
    best, at = cost, 0
    for i, other in enumerate(order):
        cost += _cost(other, net, extents) - _cost(net, other, extents)
        if cost < best:
            best, at = cost, i + 1
    order.insert(at, net)


def _cost(lower: Net, upper: Net, extents: dict[int, tuple[float, float]]) -> int:
    """How often two nets cross where the one has a lower lane than the other."""
    a, b = extents[id(lower)]
    c, d = extents[id(upper)]
    if a > d + 2 * _NEAR or c > b + 2 * _NEAR:
        return 0
    crossed = sum(c <= x <= d for x in lower.highs) + sum(a <= x <= b for x in upper.lows)
    collisions = sum(abs(x - y) < _NEAR for x in lower.highs for y in upper.lows)
    return crossed + _COLLISION * collisions
