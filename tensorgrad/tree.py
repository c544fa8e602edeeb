"""Nested parameters and states ("trees"): flatten, rebuild, map, and the path of every leaf.

A tree is any nesting of dicts, lists, tuples and named tuples; `None` is an empty tree; everything else is
a leaf, unless its class was registered (as `nn.Module` is). Dict entries keep their insertion order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

__all__ = ["TreeDef", "flatten", "leaves", "map", "paths", "register", "same_structure", "unflatten"]


class TreeDef(NamedTuple):
    """The shape of a tree without its leaves: how to rebuild it, the keys, and the children's shapes."""

    build: Callable[[list[Any]], Any] | None
    keys: tuple[Any, ...]
    children: tuple[TreeDef, ...]
    kind: Any


_LEAF = TreeDef(None, (), (), "leaf")
_registered: dict[type, Callable[[Any], tuple[tuple[Any, ...], list[Any], Callable[[list[Any]], Any]]]] = {}


def register(
    cls: type, split: Callable[[Any], tuple[tuple[Any, ...], list[Any], Callable[[list[Any]], Any]]]
) -> None:
    """Make a class (and its subclasses) a tree node: `split(x)` gives its keys, children and rebuilder."""
    _registered[cls] = split


def _split(tree: Any) -> tuple[tuple[Any, ...], list[Any], Callable[[list[Any]], Any]] | None:
    kind = type(tree)
    if tree is None:
        return (), [], lambda children: None
    if kind is dict:
        keys = tuple(tree)
        return keys, list(tree.values()), lambda children: dict(zip(keys, children, strict=True))
    if kind is list:
        return tuple(range(len(tree))), tree, list
    if kind is tuple:
        return tuple(range(len(tree))), list(tree), tuple
    if isinstance(tree, tuple) and hasattr(tree, "_fields"):
        return tree._fields, list(tree), lambda children: kind(*children)
    for cls, split in _registered.items():
        if isinstance(tree, cls):
            return split(tree)
    return None


def flatten(tree: Any) -> tuple[list[Any], TreeDef]:
    """The leaves of a tree in order, and what is needed to rebuild it.

    >>> flatten({"h": 1, "c": (2, None)})[0]
    [1, 2]
    """
    parts = _split(tree)
    if parts is None:
        return [tree], _LEAF
    keys, children, build = parts
    out: list[Any] = []
    defs = []
    for child in children:
        child_leaves, child_def = flatten(child)
        out += child_leaves
        defs.append(child_def)
    return out, TreeDef(build, keys, tuple(defs), type(tree))


def unflatten(treedef: TreeDef, values: list[Any]) -> Any:
    """The tree of shape `treedef` with these leaves.

    Raises ValueError when the number of leaves differs.
    """
    source = iter(values)
    tree = _build(treedef, source)
    if next(source, _LEAF) is not _LEAF:
        raise ValueError(f"too many leaves for this tree: {len(values)} given")
    return tree


def _build(treedef: TreeDef, source: Iterator[Any]) -> Any:
    if treedef.build is None:
        try:
            return next(source)
        except StopIteration:
            raise ValueError("too few leaves for this tree") from None
    return treedef.build([_build(child, source) for child in treedef.children])


def leaves(tree: Any) -> list[Any]:
    """The leaves of a tree, in order.

    >>> leaves([1, {"a": 2}])
    [1, 2]
    """
    return flatten(tree)[0]


def paths(tree: Any) -> list[str]:
    """The dotted path of every leaf, in the order of `leaves`; a bare leaf has the path ''.

    >>> paths({"h": 1, "c": (2, 3)})
    ['h', 'c.0', 'c.1']
    """
    return list(_paths(flatten(tree)[1], ""))


# Not inside `paths`: a function that calls itself by a local name is a reference cycle.
def _paths(node: TreeDef, path: str) -> Iterator[str]:
    if node.build is None:
        yield path
    for key, child in zip(node.keys, node.children, strict=True):
        yield from _paths(child, f"{path}.{key}" if path else str(key))


def map(fn: Callable[..., Any], tree: Any, *rest: Any) -> Any:
    """Apply `fn` to every leaf of `tree` (with the matching leaves of `rest`) and keep the shape.

    Raises ValueError when the trees differ in structure.

    >>> map(lambda a, b: a + b, {"h": 1}, {"h": 10})
    {'h': 11}
    """
    first, treedef = flatten(tree)
    columns = [first]
    for other in rest:
        values, other_def = flatten(other)
        if not same_structure(treedef, other_def):
            raise ValueError(f"trees of different structure: {paths(tree)} against {paths(other)}")
        columns.append(values)
    return unflatten(treedef, [fn(*row) for row in zip(*columns, strict=True)])


def same_structure(a: TreeDef, b: TreeDef) -> bool:
    """Whether two trees have the same nesting, container types and keys."""
    return (
        a.kind is b.kind
        and a.keys == b.keys
        and len(a.children) == len(b.children)
        and all(same_structure(x, y) for x, y in zip(a.children, b.children, strict=True))
    )
