"""Equations ordered so that little is needed at once.

Between two loops the order is free. Gradients of weights, which need whole stacks for one product, come as
soon as they can: then the stacks' memory serves what follows.
"""

from __future__ import annotations

import re
from collections import Counter
from math import prod
from typing import Any, NamedTuple

from tensorgrad.compile.ir import Const, Eqn, Loop, Program, results
from tensorgrad.compile.plan import VIEWS
from tensorgrad.compile.sizes import Size

__all__ = ["least_memory"]

_IN_TURN = {"check_range", "call"}
"""Equations that stay in their order among each other, for the one that fails is to fail first."""

_MANY = 16
"""So many times its example a free length is taken to be: stacks outweigh weights."""


_LONGEST = 1000
"""The most equations of a stretch that is ordered: the time for it grows with their square."""


def least_memory(program: Program) -> None:
    """Order each stretch between loops, where that lowers the most that it needs at once."""
    stretches: list[list[Any]] = [[]]
    for eqn in program.eqns:
        last = stretches[-1]
        if last and (isinstance(eqn, Loop) or isinstance(last[-1], Loop) or eqn.section != last[-1].section):
            stretches.append([])
        stretches[-1].append(eqn)
    roots = _roots(program.eqns)
    owned = {id(roots.get(id(v), v)) for e in program.eqns for v in results(e)}
    later = {id(roots.get(id(x), x)) for x in program.outputs}
    for stretch in reversed(stretches):
        mine = {id(roots.get(id(a), a)) for e in stretch for a in e.args}
        if 1 < len(stretch) <= _LONGEST:
            stretch[:] = _Stretch(stretch, roots, owned - later).ordered()
        later |= mine
    program.eqns = [eqn for stretch in stretches for eqn in stretch]


def _roots(eqns: list[Any]) -> dict[int, Any]:
    """For each view the variable in whose memory it lies."""
    roots: dict[int, Any] = {}
    for eqn in eqns:
        if isinstance(eqn, Loop):
            for c in eqn.carries:
                # The states before and after all timesteps are one array.
                stacks = [o.outer for o in eqn.outs if o.kind == "stack" and o.inner in (c.before, c.after)]
                roots |= {id(other): stacks[0] for other in stacks[1:]}
        elif eqn.op in VIEWS:
            roots[id(eqn.out)] = roots.get(id(eqn.args[0]), eqn.args[0])
    return roots


def _bytes(x: Any) -> int:
    symbols = " ".join(n.text for n in x.shape if isinstance(n, Size))
    return x.dtype.itemsize * prod(map(int, x.shape)) * _MANY ** len(re.findall(r"\b[A-Za-z]", symbols))


_SIDE_BY_SIDE = 24
"""So many orders are grown at once, of long stretches fewer."""

_GROWN = 2400
"""The most equations in all of them."""


class _Order(NamedTuple):
    """The beginning of an order. done: its equations as bits. left: how often what it read is read yet.

    now, most: how many arrays of each size there are, and were at most.
    """

    chosen: list[int]
    ready: list[int]
    done: int
    left: dict[int, int]
    now: dict[int, int]
    most: dict[int, int]

    @property
    def cost(self) -> tuple[int, int]:
        """The bytes needed at most so far, and now."""
        return sum(s * n for s, n in self.most.items()), sum(s * n for s, n in self.now.items())


class _Stretch:
    """Equations between two loops. passing: the ids of what nobody needs after them."""

    def __init__(self, eqns: list[Eqn], roots: dict[int, Any], passing: set[int]) -> None:
        self.eqns = eqns
        self.size: dict[int, int] = {}
        self.reads: list[list[int]] = []
        self.needs: list[set[int]] = []
        readers: dict[int, int] = {}
        maker = {id(e.out): k for k, e in enumerate(eqns)}
        turn: int | None = None
        for k, eqn in enumerate(eqns):
            read = {id(r): r for a in eqn.args if not isinstance(a, Const) for r in [roots.get(id(a), a)]}
            self.reads.append([i for i in read if i in passing])
            for i in self.reads[k]:
                self.size[i] = _bytes(read[i])
                readers[i] = readers.get(i, 0) + 1
            self.needs.append({maker[id(a)] for a in eqn.args if id(a) in maker})
            if eqn.op in _IN_TURN:
                self.needs[k] |= set() if turn is None else {turn}
                turn = k
        self.made = [0 if e.op in VIEWS else _bytes(e.out) for e in eqns]
        self.readers = readers
        self.then: list[list[int]] = [[] for _ in eqns]
        for k, needs in enumerate(self.needs):
            for n in needs:
                self.then[n].append(k)

    def ordered(self) -> list[Eqn]:
        """The best of the order they have, of several grown side by side, and of one grown from the end."""
        tried = [list(range(len(self.eqns))), self._grown_side_by_side(), self._from_the_end()]
        return [self.eqns[k] for k in min(tried, key=self._room)]

    def _grown_side_by_side(self) -> list[int]:
        """Orders grown equation by equation: the cheapest go on, of those that did the same only one."""
        width = max(1, min(_SIDE_BY_SIDE, _GROWN // len(self.eqns)))
        ready = [k for k, needs in enumerate(self.needs) if not needs]
        growing = [_Order([], ready, 0, dict(self.readers), {}, {})]
        for _ in self.eqns:
            best: dict[int, tuple[tuple[int, int], _Order, int]] = {}
            for order in growing:
                so_far = order.cost
                for k in order.ready:
                    cost, done = self._cost(order, k, *so_far), order.done | 1 << k
                    if done not in best or cost < best[done][0]:
                        best[done] = cost, order, k
            chosen = sorted(best.values(), key=lambda found: found[0])[:width]
            growing = [self._longer(order, k) for _, order, k in chosen]
        return growing[0].chosen

    def _change(self, order: _Order, k: int) -> dict[int, int]:
        """How many more arrays of each size there are after an equation."""
        change = {self.made[k]: 1}
        for i in self.reads[k]:
            if order.left[i] == 1:
                change[self.size[i]] = change.get(self.size[i], 0) - 1
        return change

    def _cost(self, order: _Order, k: int, most: int, now: int) -> tuple[int, int]:
        """The bytes that are needed at most up to an equation, and those after it, from those before it."""
        for size, more in self._change(order, k).items():
            count = order.now.get(size, 0) + max(more, 0)
            most += size * max(0, count - order.most.get(size, 0))
            now += size * more
        return most, now

    def _longer(self, order: _Order, k: int) -> _Order:
        """An order with one equation more."""
        now, most, left = dict(order.now), dict(order.most), dict(order.left)
        for size, more in self._change(order, k).items():
            most[size] = max(most.get(size, 0), now.get(size, 0) + max(more, 0))
            now[size] = now.get(size, 0) + more
        for i in self.reads[k]:
            left[i] -= 1
        done = order.done | 1 << k
        freed = [n for n in self.then[k] if all(done >> m & 1 for m in self.needs[n])]
        ready = [n for n in order.ready if n != k] + freed
        return _Order([*order.chosen, k], ready, done, left, now, most)

    def _from_the_end(self) -> list[int]:
        """Last comes what leaves the most room before it."""
        chosen: list[int] = []
        waiting = [len(then) for then in self.then]
        alive: set[int] = set()
        ready = [k for k, n in enumerate(waiting) if not n]

        def cost(k: int) -> int:
            return sum(self.size[i] for i in self.reads[k] if i not in alive) - self.made[k]

        while ready:
            best = min(ready, key=lambda k: (cost(k), -k))
            ready.remove(best)
            chosen.append(best)
            alive.update(self.reads[best])
            for k in self.needs[best]:
                waiting[k] -= 1
                if not waiting[k]:
                    ready.append(k)
        return chosen[::-1]

    def _room(self, order: list[int]) -> int:
        """The bytes needed on top of those there before: an array serves another of its size."""
        left, now = dict(self.readers), Counter[int]()
        most = Counter[int]()
        for k in order:
            now[self.made[k]] += 1
            now.subtract(self.size[i] for i in self.reads[k] if left[i] == 1)
            most |= now
            for i in self.reads[k]:
                left[i] -= 1
        return sum(size * count for size, count in most.items())
