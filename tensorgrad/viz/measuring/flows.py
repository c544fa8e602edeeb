"""The gradient of what is drawn: at every value, and what of it flows back along every arrow."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from typing import Any

import numpy as np

from tensorgrad import tree
from tensorgrad.backward import backpropagate
from tensorgrad.bptt.replay import shares
from tensorgrad.context import collector_paused, configure
from tensorgrad.cotangents import Deferred, Product, Scatter, Total
from tensorgrad.graph import Node
from tensorgrad.ops import sum as sum_all
from tensorgrad.ops.index import add_rows
from tensorgrad.tensor import Tensor, seed_of
from tensorgrad.viz.measuring.digest import norms_of
from tensorgrad.viz.model import Arrow

__all__ = ["Group", "cotangents", "flows", "total_of"]

Group = tuple[int, ...]
"""Numbers of arrows."""
# So many numbers wait for their norm to be taken.
_WAITING = 1 << 20


def total_of(output: Any) -> Tensor:
    """The number whose gradients are drawn: the output, or the sum of all numbers in all outputs.

    Args:
        output: a Tensor, or a tree of Tensors, one of which at least was computed.

    Example:
        >>> import tensorgrad as tg
        >>> x = tg.tensor([1.0, 2.0], requires_grad=True)
        >>> total_of({"a": x, "b": 2 * x}).item()
        9.0
    """
    leaves = {x.index: x for x in tree.leaves(output) if isinstance(x, Tensor) and x.requires_grad}
    found = list(leaves.values())
    if len(found) == 1 and found[0].size == 1:
        return found[0]
    with configure(recording=True, anomaly=False, scope="", labels=None):
        total, *others = (sum_all(x) for x in found)
        for each in others:
            total = total + each
    return total


def cotangents(total: Tensor, nodes: Iterable[Node]) -> dict[int, np.ndarray]:
    """The gradient of a number with respect to nodes behind it, by creation number.

    What no gradient reaches is absent. No `grad` is touched; hooks see their gradient, as in every backward
    walk, and what they make of it counts. NaN and infinity are let through in silence.

    Example:
        >>> x = Tensor(np.array(3.0), requires_grad=True)
        >>> cotangents(x * x, [x])[x.index].item()
        6.0
    """
    wanted = [node for node in nodes if node.requires_grad]
    with configure(anomaly=False), np.errstate(all="ignore"):
        return backpropagate([(total, seed_of(total, None))], wanted)


def flows(
    arrows: Collection[Arrow],
    heads: Mapping[str, Node],
    found: Mapping[int, np.ndarray],
    groups: Iterable[Group] = (),
) -> dict[Group, float]:
    """The norm of the gradient that flows back along every arrow, and along groups of them.

    Args:
        arrows: of the whole graph; their numbers are their positions.
        heads: by the id of its box the node that an arrow leads to.
        found: the gradient of every node, of `cotangents`.
        groups: arrows whose gradients are added up before the norm is taken where they lead to one and the
            same value; what flows to different values is laid side by side.

    Returns:
        By the numbers of the arrows; without those along which nothing flows.

    Example:
        >>> x = Tensor(np.array(3.0), requires_grad=True, name="x")
        >>> y = x * x
        >>> arrows = Arrow("x", "y", argnum=0), Arrow("x", "y", argnum=1)
        >>> flows(arrows, {"y": y}, cotangents(y, [x, y]), [(0, 1)])
        {(0,): 3.0, (1,): 3.0, (0, 1): 6.0}
    """
    # By position: a group of thousands of arrows takes its time to be hashed, and would be for each of them.
    several = [group for group in groups if len(group) > 1]
    groups_of: dict[int, list[int]] = defaultdict(list)
    for k, group in enumerate(several, len(arrows)):
        for number in group:
            groups_of[number].append(k)
    operands: dict[int, dict[int, int]] = defaultdict(dict)
    for number, arrow in enumerate(arrows):
        operands[heads[arrow.head].index][arrow.argnum] = number
    norms = _Norms()
    totals: dict[tuple[int, int], Total] = {}
    nodes = {node.index: node for node in heads.values()}
    with configure(recording=False, anomaly=False), collector_paused(), np.errstate(all="ignore"):
        for index, numbers in operands.items():
            if index not in found:
                continue
            node = nodes[index]
            for argnum, share in shares(node, found[index]):
                if argnum not in numbers:
                    continue
                norms.add(numbers[argnum], _compact(node, share))
                for k in groups_of.get(numbers[argnum], ()):
                    key = k, node.operands[argnum].index
                    if key in totals:
                        totals[key].add(share)
                    else:
                        totals[key] = Total(share)
        for (k, operand), total in totals.items():
            norms.add(k, total.dense(), operand)
    first = len(arrows)
    return {(k,) if k < first else several[k - first]: norm for k, norm in norms.taken().items()}


def _compact(node: Node, share: Any) -> Any:
    """A share as an array of the same norm, of what was indexed only the part that is not zero."""
    if isinstance(share, Scatter):
        arrays = node.args[1:]
        if not arrays:
            return share.g
        if len(arrays) == 1 and len(node.params["template"]) == 1 and arrays[0].dtype.kind in "iu":
            rows = np.where(arrays[0] < 0, arrays[0] + share.shape[0], arrays[0])
            some, rows = np.unique(rows, return_inverse=True)
            buffer = np.zeros((len(some), *share.shape[1:]), share.dtype)
            add_rows(buffer, rows, share.g)
            return buffer
    return share


class _Norms:
    """Norms of many shares, taken many at a time."""

    def __init__(self) -> None:
        self._waiting: dict[Any, np.ndarray] = {}
        self._size = 0
        # By key and part; a part is the number of an operand, and the factor of a product.
        self._norms: dict[Any, float] = {}

    def add(self, key: int, share: Any, part: int = 0) -> None:
        """Take note of what flows along one or several arrows to one operand."""
        if isinstance(share, Product) and len(share.right) == 1:
            # The outer product of two vectors, of which there is one for every timestep and weight.
            self._wait((key, part, "left"), share.left)
            self._wait((key, part, "right"), share.right)
        else:
            self._wait((key, part), share.dense() if isinstance(share, Deferred) else np.asarray(share))

    def _wait(self, key: Any, array: np.ndarray) -> None:
        self._waiting[key] = array
        self._size += array.size
        if self._size > _WAITING:
            self._take()

    def _take(self) -> None:
        self._norms |= norms_of(self._waiting)
        self._waiting = {}
        self._size = 0

    def taken(self) -> dict[int, float]:
        """The norm of all that was added under each key."""
        self._take()
        parts: dict[int, dict[int, float]] = defaultdict(dict)
        for (key, part, *_), norm in self._norms.items():
            parts[key][part] = parts[key].get(part, 1.0) * norm
        several = {key: np.array(list(norms.values())) for key, norms in parts.items() if len(norms) > 1}
        return {key: next(iter(norms.values())) for key, norms in parts.items()} | norms_of(several)
