"""The layout of graphs that nobody would draw, and the pieces that it is made of."""

from __future__ import annotations

from itertools import combinations, pairwise
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tensorgrad.viz import levels
from tensorgrad.viz.model import Arrow, Box, Frame, Kind, Model
from tensorgrad.viz.place import place
from tensorgrad.viz.place.lanes import Net, lanes
from tensorgrad.viz.place.layers import arrange, settle, staged
from tensorgrad.viz.place.ports import isotonic, side_by_side
from tensorgrad.viz.place.spread import spread

from .soundness import faults

_LEAVES: list[Kind] = ["parameter", "input", "constant"]
_RESULTS: list[Kind] = ["operation", "state", "output"]
_OPS = ["add", "tanh", "stack", "getitem[0]", "getitem[1]", "getitem[..., 0:4]"]


def frames(random: Random) -> list[Frame]:
    """Scopes in scopes: sequences of timesteps, other scopes, and both within timesteps."""
    found: list[Frame] = []
    waiting = [("", 0)]
    while waiting:
        parent, depth = waiting.pop()
        prefix = f"{parent}." if parent else ""
        inner = []
        if depth < 3 and random.random() < 0.6:
            first, count = random.choice([0, 2]), random.choice([1, 2, 3, 14])
            inner += [Frame(f"{prefix}t{t}", f"t={t}", parent, t) for t in range(first, first + count)]
        if depth < 3 and random.random() < 0.4:
            title = random.choice(["scope", "a scope with a long name"])
            inner.append(Frame(f"{prefix}s", title, parent, None))
        found += inner
        waiting += [(frame.id, depth + 1) for frame in inner if frame.step is None or random.random() < 0.2]
    order = {frame.id: i for i, frame in enumerate(found)}
    return sorted(found, key=lambda frame: (frame.id.count("."), order[frame.id]))


def hands_over(a: str, b: str, found: dict[str, Frame]) -> bool:
    """Whether an arrow leads from one timestep to another."""

    def timesteps(frame: str, around: set[str]) -> list[int]:
        steps: list[int] = []
        while frame and frame not in around:
            step = found[frame].step
            steps += [step] if step is not None else []
            frame = found[frame].parent
        return steps[::-1]

    def above(frame: str) -> set[str]:
        ids = set()
        while frame:
            ids.add(frame)
            frame = found[frame].parent
        return ids

    shared = above(a) & above(b)
    one, other = timesteps(a, shared), timesteps(b, shared)
    return bool(one and other) and one[0] != other[0]


def random_model(random: Random) -> Model:
    scopes = frames(random)
    by_id = {frame.id: frame for frame in scopes}
    homes = ["", *by_id]
    boxes: list[Box] = []
    arrows: list[Arrow] = []
    for n in range(random.choice([1, 3, 10, 30])):
        home = random.choice(homes)
        leaf = not boxes or random.random() < 0.3
        op = "" if leaf else random.choice(_OPS)
        kind: Kind = random.choice(_LEAVES if leaf else _RESULTS)
        name, shape = random.choice(["", "h", "W_hh"]), random.choice(["()", "(1, 16)"])
        role = f"b{n}"
        box = Box(f"{home}.{role}" if home else role, kind, name, op, shape, "float64", home, role, (), n)
        for argnum in range(0 if leaf else random.choice([1, 1, 2, 3, 9])):
            tail = random.choice(boxes)
            carried = hands_over(tail.frame, home, by_id)
            arrows.append(Arrow(tail.id, box.id, carried, argnum, (len(arrows),)))
        boxes.append(box)
    return Model(tuple(boxes), tuple(arrows), tuple(scopes))


@pytest.mark.parametrize("vertical", [False, True], ids=["LR", "TB"])
@pytest.mark.parametrize("first", range(0, 80, 10))
def test_any_graph_in_any_scopes_is_placed(first: int, vertical: bool) -> None:
    for seed in range(first, first + 10):
        model = random_model(Random(seed))
        for each in (model, levels.elided(model, [])):
            assert not list(faults(place(each, vertical=vertical))), f"seed {seed}"


# --- pieces -------------------------------------------------------------------------------------------------
EDGES = st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), max_size=25)


@given(EDGES)
def test_levels_rise_along_edges_but_those_that_close_a_circle(edges: list[tuple[int, int]]) -> None:
    level, order = staged(10, edges)
    assert sorted(order) == list(range(10))
    at = {n: i for i, n in enumerate(order)}
    forward = [(a, b) for a, b in edges if at[a] < at[b]]
    assert all(level[a] < level[b] for a, b in forward)
    acyclic = [(min(a, b), max(a, b)) for a, b in edges if a != b]
    level, _ = staged(10, acyclic)
    assert all(level[a] < level[b] for a, b in acyclic)


@given(EDGES, st.integers(0, 3))
def test_settling_shortens_edges_and_keeps_them_upright(edges: list[tuple[int, int]], spare: int) -> None:
    acyclic = list(dict.fromkeys((min(a, b), max(a, b)) for a, b in edges if a != b))
    level, _ = staged(10, acyclic)
    top = max(level) + spare
    before = list(level)
    settle(level, acyclic, {0: top}, dict.fromkeys(range(10), top))
    assert all(level[a] < level[b] for a, b in acyclic)
    assert all(old <= new < top or old == new for old, new in zip(before, level, strict=True))

    def length(found: list[int]) -> int:
        return sum(found[b] - found[a] for a, b in acyclic) + top - found[0]

    assert length(level) <= length(before)


def test_links_are_uncrossed_and_wishes_fulfilled() -> None:
    levels_ = [[0, 1, 2], [3, 4, 5]]
    arrange(levels_, [(0, 5), (1, 4), (2, 3)], ((), ()), [True] * 6)
    assert levels_ in ([[0, 1, 2], [5, 4, 3]], [[2, 1, 0], [3, 4, 5]])
    levels_ = [[0, 1, 2]]
    arrange(levels_, [], ([2], [0]), [True] * 3)
    assert levels_ == [[2, 1, 0]]


@given(
    st.lists(st.integers(1, 5), min_size=1, max_size=5),
    st.lists(st.tuples(st.integers(0, 99), st.integers(0, 99)), max_size=12),
)
def test_what_is_spread_keeps_its_order_and_its_distance(
    sizes: list[int], links: list[tuple[int, int]]
) -> None:
    levels_: list[list[int]] = []
    for size in sizes:
        count = sum(map(len, levels_))
        levels_.append(list(range(count, count + size)))
    joined = {}
    for a, b in links:
        low = a % max(1, len(levels_) - 1)
        if low + 1 < len(levels_):
            joined[levels_[low][a % len(levels_[low])], levels_[low + 1][b % len(levels_[low + 1])]] = 1.0
    count = sum(sizes)
    half = [5.0 + n % 3 for n in range(count)]
    found = [(a, b, weight) for (a, b), weight in joined.items()]
    x = spread(levels_, half, lambda a, b: 4.0, [True] * count, found)
    for level in levels_:
        assert all(x[b] - x[a] >= half[a] + half[b] + 4.0 - 1e-6 for a, b in pairwise(level))


def test_a_chain_is_straight_and_a_fork_stands_below_its_middle() -> None:
    levels_ = [[0], [1], [2, 3, 4, 5]]
    links = [(0, 1, 1.0), *((1, n, 1.0) for n in levels_[2])]
    x = spread(levels_, [10.0] * 6, lambda a, b: 5.0, [True] * 6, links)
    assert x[0] == x[1]
    assert x[1] == pytest.approx((x[2] + x[5]) / 2)


ENDS = st.lists(st.integers(0, 20).map(lambda n: 10.0 * n), max_size=3, unique=True)


@given(st.lists(st.tuples(ENDS, ENDS, st.booleans()), max_size=8))
def test_nets_that_meet_have_lanes_of_their_own(ends: list[tuple[list[float], list[float], bool]]) -> None:
    nets = [Net(lows, highs, before) for lows, highs, before in ends if lows or highs]
    count = lanes(nets)
    for net in nets:
        assert (net.lane < 0) == net.straight
        assert net.lane < count
    for one, other in combinations([net for net in nets if net.lane >= 0], 2):
        (a, b), (c, d) = one.extent, other.extent
        if a <= d and c <= b:
            assert one.lane != other.lane


@given(st.lists(st.floats(-50, 150), min_size=1, max_size=8))
def test_places_in_order_are_as_near_as_they_can_be(wanted: list[float]) -> None:
    wanted.sort()
    found = isotonic(wanted, 10.0, 0.0, 100.0)
    assert all(b - a >= 10.0 - 1e-9 for a, b in pairwise(found))
    assert found[0] >= 0.0
    assert found[-1] <= 100.0 + 1e-9
    if all(b - a >= 10.0 for a, b in pairwise(wanted)) and wanted[0] >= 0 and wanted[-1] <= 100:
        assert found == pytest.approx(wanted)


def test_ports_keep_to_their_sides() -> None:
    found = side_by_side(50.0, 40.0, [("x", 50.0), ("h0", 20.0)], ["carried"], ["W", "b"])
    assert sorted(found, key=found.__getitem__) == ["carried", "h0", "x", "W", "b"]
    assert found["x"] == 50.0
    assert all(10.0 < at < 90.0 for at in found.values())
