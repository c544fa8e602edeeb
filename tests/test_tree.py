"""Trees: what is a node, what is a leaf, and what is refused."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tensorgrad as tg
from tensorgrad import nn, tree


class LSTMState(NamedTuple):
    h: Any
    c: Any


class Pair:
    def __init__(self, left: Any, right: Any) -> None:
        self.left, self.right = left, right


@pytest.fixture
def registered_pair() -> Iterator[None]:
    tree.register(Pair, lambda p: (("left", "right"), [p.left, p.right], lambda children: Pair(*children)))
    yield
    del tree._registered[Pair]


NESTED = {"h": 1, "c": (2, [3, None, LSTMState(4, {"deep": 5})]), "none": None, "empty": {}}


def test_leaves_and_paths_in_order() -> None:
    assert tree.leaves(NESTED) == [1, 2, 3, 4, 5]
    assert tree.paths(NESTED) == ["h", "c.0", "c.1.0", "c.1.2.h", "c.1.2.c.deep"]


@pytest.mark.parametrize(
    "value", [7, "text", np.arange(2), tg.tensor(1.0), object(), {1, 2}], ids=lambda x: type(x).__name__
)
def test_everything_else_is_a_leaf(value: Any) -> None:
    leaves, treedef = tree.flatten(value)
    assert leaves == [value] or leaves[0] is value
    assert tree.paths(value) == [""]
    assert tree.unflatten(treedef, ["x"]) == "x"


def test_none_and_empty_containers_have_no_leaves() -> None:
    empties: list[Any] = [None, {}, [], (), [None, {}]]
    for empty in empties:
        assert tree.leaves(empty) == []
        assert tree.unflatten(tree.flatten(empty)[1], []) == empty


def test_unflatten_rebuilds_the_very_types() -> None:
    leaves, treedef = tree.flatten(NESTED)
    again = tree.unflatten(treedef, [10 * leaf for leaf in leaves])
    assert again == {"h": 10, "c": (20, [30, None, LSTMState(40, {"deep": 50})]), "none": None, "empty": {}}
    assert type(again["c"][1][2]) is LSTMState


def test_flatten_leaves_the_tree_alone() -> None:
    original = [1, [2]]
    leaves, treedef = tree.flatten(original)
    leaves.append(3)
    assert original == [1, [2]]
    rebuilt = tree.unflatten(treedef, [1, 2])
    rebuilt[1].append(9)
    assert original == [1, [2]]


def test_the_number_of_leaves_must_fit() -> None:
    treedef = tree.flatten([1, 2])[1]
    with pytest.raises(ValueError, match="too few leaves"):
        tree.unflatten(treedef, [1])
    with pytest.raises(ValueError, match="too many leaves for this tree: 3 given"):
        tree.unflatten(treedef, [1, 2, 3])


def test_map_walks_trees_together() -> None:
    a, b = {"x": 1, "y": (2, None)}, {"x": 10, "y": (20, None)}
    assert tree.map(lambda p, q: p + q, a, b) == {"x": 11, "y": (22, None)}
    assert tree.map(str, [1, [2]]) == ["1", ["2"]]
    assert tree.map(lambda a, b, c: a + b + c, 1, 2, 3) == 6


@pytest.mark.parametrize(
    "other",
    [
        {"x": 1},
        {"x": 1, "z": (2,)},
        {"y": (2,), "x": 1},
        {"x": 1, "y": [2]},
        {"x": 1, "y": (2, 3)},
        {"x": 1, "y": 2},
        [1, (2,)],
        5,
    ],
    ids=repr,
)
def test_map_refuses_trees_of_another_structure(other: Any) -> None:
    with pytest.raises(ValueError, match=r"trees of different structure: \['x', 'y.0'\] against"):
        tree.map(lambda a, b: a, {"x": 1, "y": (2,)}, other)


def test_named_tuples_of_other_classes_differ() -> None:
    class Other(NamedTuple):
        h: Any
        c: Any

    with pytest.raises(ValueError, match="different structure"):
        tree.map(lambda a, b: a, LSTMState(1, 2), Other(1, 2))


def test_subclasses_of_dict_and_list_are_leaves() -> None:
    """Rebuilding what has a constructor of its own would be guessing."""
    for value in (OrderedDict(a=1), type("L", (list,), {})([1])):
        assert tree.leaves(value) == [value]


@pytest.mark.usefixtures("registered_pair")
def test_a_class_can_be_registered() -> None:
    pair = Pair(1, {"a": 2})
    assert tree.leaves([pair, 3]) == [1, 2, 3]
    assert tree.paths(pair) == ["left", "right.a"]
    again = tree.map(lambda x: x * 2, pair)
    assert type(again) is Pair
    assert (again.left, again.right) == (2, {"a": 4})
    sub = type("Sub", (Pair,), {})(5, 6)
    assert tree.leaves(sub) == [5, 6]


def test_a_module_is_a_tree_of_its_parameters() -> None:
    layer = nn.Linear(2, 3, seed=0)
    assert tree.leaves({"layer": layer}) == layer.parameters()
    assert tree.paths({"layer": layer}) == ["layer.weight", "layer.bias"]
    assert tree.map(lambda p: p, layer) is layer
    twin = tree.map(lambda p: tg.tensor(p.numpy() * 0), layer)
    assert twin is not layer
    assert not twin.weight.numpy().any()
    assert layer.weight.numpy().any()


trees = st.recursive(
    st.integers() | st.none(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(max_size=3), inner, max_size=3)
        | st.tuples(inner, inner)
        | st.builds(LSTMState, inner, inner)
    ),
    max_leaves=12,
)


@settings(deadline=None, derandomize=True, database=None)
@given(trees)
def test_a_tree_is_its_leaves_and_its_structure(value: Any) -> None:
    leaves, treedef = tree.flatten(value)
    again = tree.unflatten(treedef, leaves)
    assert again == value
    assert tree.same_structure(tree.flatten(again)[1], treedef)
    assert len(tree.paths(value)) == len(leaves)
    assert tree.map(lambda leaf: leaf, value) == value
