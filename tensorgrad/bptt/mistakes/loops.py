"""Mistakes in the loop over time, and at padding."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from tensorgrad.bptt.mistakes.edits import (
    Edits,
    Mistake,
    every,
    nothing,
    ways_to_start,
)
from tensorgrad.bptt.mistakes.structure import (
    local_uses,
    seeds_of_last_states,
)
from tensorgrad.bptt.places import Edge, Places
from tensorgrad.bptt.replay import Edit
from tensorgrad.bptt.rolls import Part
from tensorgrad.graph import Node

LONGEST_WINDOW = 8
LIMITS = (0.1, 0.5, 1.0, 5.0, 10.0)


def loops(places: Places, limits: Sequence[float]) -> Iterator[Mistake]:
    """The order of timesteps, how many there are, and what is done to the carry between them."""
    T = places.T
    if T > 1:
        yield _only(places, "BPTT025", "the first timestep is left out", 1, T)
        yield _only(places, "BPTT025", "the last timestep is left out", 0, T - 1)
    for k in range(1, min(T, LONGEST_WINDOW)):
        yield _only(places, "BPTT026", f"nothing before the last {k} timesteps", T - k, T)
    entering = [edge for edges in places.kinds.values() for edge in edges]
    entering = [edge for edge in entering if places.state_entering(edge) is not None]
    for k in range(2, min(T, LONGEST_WINDOW)):
        for start in (0, T):
            cut = [edge for edge in entering if (start - _t(places, edge)) % k == 0 and _t(places, edge)]
            yield Mistake("BPTT026", f"the carry is cut every {k} timesteps", every(cut, nothing))
    yield from _forwards(places, entering)
    by_part: dict[int | None, list[Edge]] = {None: entering}
    for edge in entering:
        by_part.setdefault(places.state_entering(edge), []).append(edge)
    for limit in (*limits, *LIMITS):
        for edges in by_part.values():
            for some in ways_to_start(places, edges):
                yield Mistake("BPTT023", f"the carry is clipped at {limit:g}", every(some, _clipped(limit)))
        for part in places.parts:
            where = f"d{part.name} is clipped at {limit:g}"
            yield Mistake("BPTT023", where, received=_clipped_states(part, limit))


def _t(places: Places, edge: Edge) -> int:
    t = places.t[edge.node.index]
    assert t is not None
    return t


def _only(places: Places, code: str, where: str, first: int, end: int) -> Mistake:
    """The loop goes from timestep end - 1 to the timestep first, and what is carried on goes with it."""
    edits: Edits = {}
    redirect: dict[tuple[int, int], Node] = {}
    for edges in places.kinds.values():
        for edge in edges:
            part = places.state_entering(edge)
            if not first <= _t(places, edge) < end:
                edits[edge.key] = nothing
            elif part is not None and _t(places, edge) == first > 0:
                start = places.parts[part].before[0]
                if isinstance(start, Node) and start.requires_grad:
                    redirect[edge.key] = start
                else:
                    edits[edge.key] = nothing
    for part, line in enumerate(places.parts):
        for edge in local_uses(places, part):
            if edge.node.index in places.place:
                continue
            _, t = places.leaves[edge.operand.index]
            if not first <= t < end:
                edits[edge.key] = nothing
        last = line.after[end - 1]
        for edge in seeds_of_last_states(places).get(part, []):
            if end < places.T and isinstance(last, Node):
                redirect[edge.key] = last
    return Mistake(code, where, edits, redirect)


def _clipped(limit: float) -> Edit:
    return lambda replay, node, argnum, g, rule: np.clip(rule(g), -limit, limit)


def _clipped_states(part: Part, limit: float) -> dict[int, Callable[[np.ndarray], np.ndarray]]:
    """All that a state has received is clipped, before anything is made of it."""
    nodes = (x for x in part.after if isinstance(x, Node))
    return {node.index: lambda g: np.clip(g, -limit, limit) for node in nodes}


def _forwards(places: Places, entering: list[Edge]) -> Iterator[Mistake]:
    """The loop of the backward runs from the first timestep to the last."""
    T = places.T
    if T < 2:
        return
    youngest = max((index for index, t in places.t.items() if t == T - 1), default=-1)
    around = [node for node in places.order if places.t[node.index] is None]
    steps: dict[int, list[Node]] = {t: [] for t in range(T)}
    for node in places.order:
        t = places.t[node.index]
        if t is not None:
            steps[t].append(node)
    order = [node for node in around if node.index > youngest]
    order += [node for t in range(T) for node in steps[t]]
    order += [node for node in around if node.index < youngest]
    redirect: dict[tuple[int, int], Node] = {}
    edits: Edits = {}
    for edge in entering:
        part, t = places.state_entering(edge), _t(places, edge)
        assert part is not None
        after = places.parts[part].after[t + 1] if t + 1 < T else places.parts[part].before[0]
        if isinstance(after, Node) and after.requires_grad:
            redirect[edge.key] = after
        else:
            edits[edge.key] = nothing
    for part, edges in seeds_of_last_states(places).items():
        for edge in edges:
            redirect[edge.key] = places.parts[part].after[0]
    yield Mistake("BPTT027", "the loop over time", edits, redirect, order)
