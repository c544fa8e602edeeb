"""Equations ordered so that little is needed at once.

Between two loops the order is free. Gradients of weights, which need whole stacks for one product, come as
soon as they can: then the stacks' memory serves what follows.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from math import prod
from typing import Any

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
        """The best of the order they have and those that take, each time, what costs least."""
        tried = [list(range(len(self.eqns))), self._greedy(self._growth), self._greedy(self._outlook)]
        tried.append(self._from_the_end())
        return [self.eqns[k] for k in min(tried, key=self._room)]

    def _greedy(self, cost: Callable[[int, dict[int, int], list[int]], int]) -> list[int]:
        chosen: list[int] = []
        missing = [len(needs) for needs in self.needs]
        left = dict(self.readers)
        ready = [k for k, n in enumerate(missing) if not n]
        while ready:
            best = min(ready, key=lambda k: (cost(k, left, missing), k))
            ready.remove(best)
            chosen.append(best)
            for i in self.reads[best]:
                left[i] -= 1
            for k in self.then[best]:
                missing[k] -= 1
                if not missing[k]:
                    ready.append(k)
        return chosen

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

    def _frees(self, k: int, left: dict[int, int]) -> list[int]:
        """The sizes of what an equation is the last to read."""
        return [self.size[i] for i in self.reads[k] if left[i] == 1]

    def _growth(self, k: int, left: dict[int, int], missing: list[int]) -> int:
        """By how much an equation raises what is needed."""
        return self.made[k] - sum(self._frees(k, left))

    def _outlook(self, k: int, left: dict[int, int], missing: list[int]) -> int:
        """An equation's growth, with that of the one after it which it makes possible, if that helps."""
        for i in self.reads[k]:
            left[i] -= 1
        enabled = [self._growth(n, left, missing) for n in self.then[k] if missing[n] == 1]
        for i in self.reads[k]:
            left[i] += 1
        return self._growth(k, left, missing) + min(0, min(enabled, default=0))

    def _room(self, order: list[int]) -> int:
        """The bytes needed on top of those there before: an array serves another of its size."""
        left, now = dict(self.readers), Counter[int]()
        most = Counter[int]()
        for k in order:
            now[self.made[k]] += 1
            now.subtract(self._frees(k, left))
            most |= now
            for i in self.reads[k]:
                left[i] -= 1
        return sum(size * count for size, count in most.items())
