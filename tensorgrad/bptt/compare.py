"""A hand-written backward held against the unrolled graph, tensor by tensor and timestep by timestep."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from tensorgrad.backward import backpropagate
from tensorgrad.bptt.contributions import contributions
from tensorgrad.bptt.doctor import diagnose
from tensorgrad.bptt.partition import reachable
from tensorgrad.bptt.report import Report, Row
from tensorgrad.bptt.residue import residue
from tensorgrad.bptt.rolls import layers_of
from tensorgrad.errors import GraphError, ShapeError
from tensorgrad.graph import Node
from tensorgrad.nn.module import Module
from tensorgrad.nn.unroll import Unrolled
from tensorgrad.tensor import Tensor, seed_of

__all__ = ["compare"]

# Norm-wise, by the coarser of the dtypes compared. What cancels to less than FLOOR of the largest gradient of
# its kind keeps the rounding of its terms, and is measured against that floor.
TOLERANCES = {"float64": 1e-9, "float32": 1e-4}
FLOOR = 1e-3


class _Target(NamedTuple):
    """One array that was given, and the node whose gradient it claims to be.

    t: its timestep, None where it has none. kept: where a mask keeps the state of ended sequences, the node
    that leaves the step, `node` being what the cell computed. share: for what is a timestep's share of the
    gradient of `node`, the right one.
    """

    name: str
    t: int | None
    node: Node
    given: np.ndarray
    kept: Node | None = None
    share: np.ndarray | None = None

    def gradient(self, cotangents: Mapping[int, np.ndarray]) -> np.ndarray:
        """The gradient by creation numbers; zero where the loss does not depend on the tensor."""
        if self.share is not None:
            return self.share
        own = cotangents.get(self.node.index)
        if own is None:
            own = np.zeros(self.node._value.shape)
        if self.kept is None:
            return own
        # Of a sequence that has ended the state passes through; the cell's own is not used.
        return np.where(self.kept.args[0], own, cotangents.get(self.kept.index, 0.0))


def compare(
    loss: Tensor,
    manual: Mapping[str, Any],
    wrt: Module | Mapping[str, Tensor] | None = None,
    unrolled: Unrolled | None = None,
    *,
    diagnosis: bool = True,
) -> Report:
    """Hold the gradients of a hand-written backward against those of the recorded graph.

    loss: one number, computed from the run `unrolled`.
    manual: arrays by name. A name in `wrt` is the gradient of that Tensor, such as a weight or the initial
        state; with an axis T in front, the share of every timestep in it. "loss" is that of the forward that
        belongs to the backward, and checked first. Any other is a record (T, ...) of the gradients of a
        labelled tensor of every timestep, by its label, with a d before it or without: "dh", "da", "dx".
    wrt: a Module, for its parameters, or Tensors by name. A name of `manual` may have a d before it.
    unrolled: what `nn.unroll` returned.
    diagnosis: whether to look for the mistake where something differs.
    Raises GraphError for a name that is neither, a tensor that the loss does not depend on, and a forward
    with another loss; ShapeError for an array of another shape, and for one that is not finite.

    >>> import tensorgrad as tg
    >>> cell = tg.nn.RNNCell(2, 3, seed=0)
    >>> roll = tg.nn.unroll(cell, np.ones((4, 1, 2)), np.zeros((1, 3)))
    >>> loss = tg.sum(roll.outputs)
    >>> grads = dict(zip(["weight_hh"], tg.grad(loss, [cell.weight_hh])))
    >>> compare(loss, grads, wrt=cell, unrolled=roll).ok
    True
    """
    if not isinstance(loss, Tensor) or loss.size != 1:
        raise GraphError("compare: the loss is one number, a Tensor of the graph")
    if unrolled is not None:
        layers_of("compare", unrolled)
    if not isinstance(manual, Mapping) or not all(isinstance(name, str) for name in manual):
        raise GraphError("compare: the manual gradients are arrays by name, {'W_hh': ..., 'dh': ...}")
    if wrt is not None and not isinstance(wrt, (Module, Mapping)):
        raise GraphError("compare: wrt is a Module, or Tensors by name: {'W_hh': W_hh}")
    manual = _without_loss(loss, manual)
    if not manual:
        raise GraphError("compare: there are no gradients to compare; give them as {name: array}")
    targets = _targets(loss, manual, wrt, unrolled)
    wanted = [node for target in targets for node in (target.node, target.kept) if node is not None]
    found = backpropagate([(loss, seed_of(loss, None))], wanted)
    right = [target.gradient(found) for target in targets]
    return _Comparison(loss, targets, right, unrolled).report(diagnosis)


class _Comparison:
    """The arrays given and the right ones, side by side."""

    def __init__(
        self, loss: Tensor, targets: list[_Target], right: list[np.ndarray], unrolled: Unrolled | None
    ) -> None:
        self.loss, self.targets, self.right, self.unrolled = loss, targets, right, unrolled
        coarse = any(t.given.dtype.itemsize < 8 or t.node._value.dtype.itemsize < 8 for t in targets)
        self.tolerance = TOLERANCES["float32" if coarse else "float64"]
        self.given = [np.asarray(target.given, np.float64) for target in targets]
        largest: dict[bool, float] = {}
        for target, g in zip(targets, right, strict=True):
            kind = target.t is None
            largest[kind] = max(largest.get(kind, 0.0), _norm(g))
        self.floors = [max(FLOOR * largest[target.t is None], 1e-300) for target in targets]

    def error(self, k: int, g: np.ndarray) -> float:
        """Of the k-th array given, if `g` were right."""
        return _norm(self.given[k] - g) / max(_norm(g), self.floors[k])

    def report(self, diagnosis: bool) -> Report:
        names = list(dict.fromkeys(target.name for target in self.targets))
        errors = [self.error(k, g) for k, g in enumerate(self.right)]
        rows, steps = [], {}
        for name in names:
            of = [k for k, target in enumerate(self.targets) if target.name == name]
            given = [self.targets[k].given for k in of]
            timed = self.targets[of[0]].t is not None
            right = [self.right[k] for k in of]
            rows.append(self._row(name, given, right, max(errors[k] for k in of), timed))
            if timed:
                steps[name] = np.array([errors[k] for k in of])
        numbers = {(target.name, target.t): target.node.index for target in self.targets}
        wrong = [k for k, error in enumerate(errors) if not error <= self.tolerance]
        if not wrong:
            return Report(rows, self.tolerance, steps, None, numbers=numbers)
        first = self.targets[max(wrong, key=self._rank)]
        looked = diagnosis and self.unrolled is not None
        findings = []
        if diagnosis and self.unrolled is not None:
            whole = {target.node.index: target.given for target in self.targets if target.share is None}
            names_of = {x.node.index: x.name for x in self.targets if x.t is None}
            findings = diagnose(self.loss, self.unrolled, self._agrees(), whole, first.node.index, names_of)
        left = self._residue(first) if not findings else []
        divergence = first.name, first.t
        return Report(rows, self.tolerance, steps, divergence, findings, left, looked, numbers)

    def _rank(self, k: int) -> tuple[float, int]:
        """Greater for what a backward comes to earlier."""
        target = self.targets[k]
        if target.share is None or self.unrolled is None or target.t is None:
            return target.node.index, 0
        # A step's share of a weight comes after all else of the step.
        step = self.unrolled.steps[target.t].values()
        return min(x.index for x in step if isinstance(x, Node) and x.op is not None) - 0.5, -k

    def _residue(self, first: _Target) -> list[str]:
        """What can be said of the first tensor that differs where no mistake explains it."""
        of = [k for k, target in enumerate(self.targets) if target.name == first.name]
        sizes = {}
        if self.unrolled is not None:
            sizes["T"] = len(self.unrolled)
            # A run without a batch has it for features.
            if np.ndim(x := self.unrolled.steps[0].get("x", 0)):
                sizes["B"] = x.shape[0]
        given, right = [self.targets[k].given for k in of], [self.right[k] for k in of]
        return residue(given, right, first.t, sizes, self.tolerance)

    def _row(
        self, name: str, given: list[np.ndarray], right: list[np.ndarray], error: float, timed: bool
    ) -> Row:
        a = np.concatenate([x.reshape(-1) for x in given]).astype(np.float64)
        b = np.concatenate([x.reshape(-1) for x in right]).astype(np.float64)
        norms = float(np.linalg.norm(a) * np.linalg.norm(b))
        cosine = float(a @ b / norms) if norms else float("nan")
        shape = (len(given), *given[0].shape) if timed else given[0].shape
        ratio = float(np.linalg.norm(a) / np.linalg.norm(b)) if b.any() else float("nan")
        return Row(name, shape, error, cosine, error <= self.tolerance, ratio)

    def _agrees(self) -> Any:
        """Whether a replay's cotangent is what was given, where something was given."""
        # Replays add up in another order, and mistakes make some numbers large.
        tolerance = 100 * self.tolerance
        places: dict[int, list[int]] = {}
        for k, target in enumerate(self.targets):
            if target.share is None:
                places.setdefault(target.node.index, []).append(k)

        def agrees(index: int, cotangents: Mapping[int, np.ndarray]) -> bool:
            at_hand = places.get(index, ())
            return all(self.error(k, self.targets[k].gradient(cotangents)) <= tolerance for k in at_hand)

        return agrees


def _targets(loss: Tensor, manual: Mapping[str, Any], wrt: Any, unrolled: Unrolled | None) -> list[_Target]:
    named = dict(wrt.named_parameters()) if isinstance(wrt, Module) else dict(wrt or {})
    behind = {node.index: node for node in reachable(loss)}
    targets = []
    for name, value in manual.items():
        array = np.asarray(value)
        if array.dtype.kind not in "fiu":
            raise ShapeError(f"compare: {name} is an array of numbers, not {array.dtype}")
        if not np.isfinite(array).all():
            place = tuple(int(i) for i in np.argwhere(~np.isfinite(array))[0])
            raise ShapeError(
                f"compare: the manual {name} is {array[place]} at {place}; find where the backward divides "
                "by zero or overflows first"
            )
        targets += _resolved(loss, name, array, named, unrolled, behind)
    return targets


def _without_loss(loss: Tensor, manual: Mapping[str, Any]) -> dict[str, Any]:
    """The gradients alone, once the forward is known to be that of the graph."""
    rest = {name: value for name, value in manual.items() if name != "loss"}
    if "loss" in manual:
        given, right = float(manual["loss"]), float(loss.item())
        tolerance = 1e-9 if loss.dtype.itemsize == 8 else 1e-4
        if not abs(given - right) <= tolerance * max(1.0, abs(right)):
            raise GraphError(
                f"compare: the loss of the hand-written forward is {given:.9g} and that of the graph "
                f"{right:.9g}; mend the forward first, for a backward cannot be judged on another forward"
            )
    return rest


def _resolved(
    loss: Tensor,
    name: str,
    array: np.ndarray,
    named: dict[str, Any],
    unrolled: Unrolled | None,
    behind: dict[int, Node],
) -> list[_Target]:
    for key in (name, name.removeprefix("d")):
        if key in named:
            node = named[key]
            if not isinstance(node, Node) or node.index not in behind:
                raise GraphError(f"compare: the loss does not depend on {key}, or it requires no gradient")
            if unrolled is not None and array.shape == (len(unrolled), *node._value.shape):
                return _shares(loss, name, array, named[key], unrolled)
            _check_shape(name, array, node._value.shape)
            return [_Target(name, None, node, array)]
    for key in (name, name.removeprefix("d")):
        if unrolled is not None and all(key in step for step in unrolled.steps):
            line = [step[key] for step in unrolled.steps]
            _check_shape(name, array, (len(line), *line[0].shape))
            if not any(isinstance(x, Node) and x.requires_grad for x in line):
                raise GraphError(
                    f"compare: {key} requires no gradient in the graph; make it a Tensor with "
                    "requires_grad=True before the run, or leave it out"
                )
            return [_record(name, t, x, key, array[t]) for t, x in enumerate(line)]
        labelled = [node for node in behind.values() if node.name == key and node._value.shape == array.shape]
        if len(labelled) == 1:
            return [_Target(name, None, labelled[0], array)]
    known = [*named, *(sorted(unrolled.steps[0]) if unrolled is not None else ())]
    raise GraphError(
        f"compare: there is no tensor for the manual gradient {name!r}; the graph has "
        f"{', '.join(known) or 'none'}. Label it in the cell with tg.label(x, ...), or pass it in wrt=..."
    )


def _shares(loss: Tensor, name: str, array: np.ndarray, x: Tensor, unrolled: Unrolled) -> list[_Target]:
    """What every timestep adds to the gradient of a weight, and their sum where nothing else adds to it."""
    right = contributions(loss, x, unrolled)
    targets = [_Target(name, t, x, array[t], share=right.shares[t]) for t in range(len(array))]
    if right.rest is None or not np.any(right.rest):
        targets.append(_Target(f"{name}, summed", None, x, array.sum(axis=0)))
    return targets


def _record(name: str, t: int, x: Node, label: str, given: np.ndarray) -> _Target:
    """The target for one timestep of a labelled tensor, behind the mask if there is one."""
    if x.op is not None and x.op.name == "where":
        own = x.operands[1]
        if isinstance(own, Node) and own.name == label:
            return _Target(name, t, own, given, x)
    return _Target(name, t, x, given)


def _norm(g: np.ndarray) -> float:
    # In float32 the squares of an exploding gradient overflow.
    flat = np.asarray(g, np.float64).ravel("K")
    # np.linalg.norm takes several times as long to find out that this is what it was asked for.
    return math.sqrt(flat.dot(flat))


def _check_shape(name: str, array: np.ndarray, shape: tuple[int, ...]) -> None:
    if array.shape != shape:
        raise ShapeError(
            f"compare: the manual {name} has shape {array.shape}, but in the graph it is {tuple(shape)}"
        )
