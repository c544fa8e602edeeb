"""What is drawn, measured: its values, its gradients, what flows where, and what a comparison found."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from tensorgrad import tree
from tensorgrad.bptt.codes import CATALOGUE
from tensorgrad.errors import GraphError, TensorgradError
from tensorgrad.graph import Node
from tensorgrad.tensor import Tensor
from tensorgrad.viz.build import computed_from
from tensorgrad.viz.measuring.digest import numbers_of
from tensorgrad.viz.measuring.flows import Group, cotangents, flows, total_of
from tensorgrad.viz.measuring.measures import Measures, Strip, worst
from tensorgrad.viz.measuring.over_time import OverTime, Walked, over_time, run_around, weights_of
from tensorgrad.viz.model import Box, Model

if TYPE_CHECKING:
    from tensorgrad.bptt.report import Report

__all__ = ["Walk", "gradients_of", "measure", "nodes_of", "values_of", "walk"]


class Walk(NamedTuple):
    """What a graph consists of, and the gradients of one backward walk through it.

    Attributes:
        nodes: by creation number.
        total: the number whose gradients they are; None where they could not be computed.
        found: the gradients by creation number.
        notes: why there are none; empty where there are.
    """

    nodes: Mapping[int, Node]
    total: Tensor | None
    found: Mapping[int, np.ndarray]
    notes: tuple[str, ...] = ()


def walk(output: Any) -> Walk:
    """Go back through a graph once, for all that shows its gradients; hooks are called once.

    Where that is not possible, as among complex numbers or where a hook raises, there is the graph alone.

    Args:
        output: a Tensor, or a tree of Tensors.

    Example:
        >>> import tensorgrad as tg
        >>> x = tg.tensor(3.0, requires_grad=True)
        >>> walk(x * x).found[x.index].item()
        6.0
    """
    nodes = nodes_of(output)
    try:
        return _walk(output, nodes)
    except TensorgradError as error:
        return Walk(nodes, None, {}, (f"Without gradients: {error}.",))
    except Exception as error:
        # A user's hook may raise anything, and a drawing without gradients still shows the graph.
        if not any(node.hooks for node in nodes.values()):
            raise
        return Walk(nodes, None, {}, (f"Without gradients: {type(error).__name__} in a hook: {error}.",))


def _walk(output: Any, nodes: Mapping[int, Node]) -> Walk:
    total = total_of(output)
    return Walk(nodes, total, cotangents(total, nodes.values()))


def measure(
    model: Model,
    output: Any,
    unrolled: Any = None,
    *,
    values: bool = False,
    grads: bool = False,
    backward: bool = False,
    compare: Report | None = None,
    groups: Iterable[Group] = (),
    boxes: Iterable[Box] = (),
    every: bool = False,
    walked: Walk | None = None,
) -> Measures:
    """Measure a graph for its drawing.

    Gradients are computed here, in a walk of its own, whether a backward has run or not: those of the output,
    or, where it is more than one number, of the sum of all. No `grad` is touched; hooks are called as in
    every backward walk.

    Args:
        model: the drawing of every operation of every timestep.
        output: what it was built from.
        unrolled: what `nn.unroll` or the `unroll` of layers returned, to follow its state through time.
        values: measure every value.
        grads: measure the gradient with respect to every value.
        backward: that too, and what flows back along every arrow, and how it fares through time.
        compare: what `bptt.compare` returned for this graph.
        groups: numbers of arrows that a less detailed drawing shows as one.
        boxes: those of less detailed drawings, of which each is measured as its last result.
        every: whether each weight that timesteps share has a strip, however many there are.
        walked: of `walk(output)`, to use its gradients; what it lacks is left out.

    Raises:
        GraphError: a report of another graph than the one drawn.

    Example:
        >>> import tensorgrad as tg
        >>> from tensorgrad.viz.build import build
        >>> x = tg.tensor([3.0, 4.0], requires_grad=True, name="x")
        >>> loss = tg.sum(x * x)
        >>> found = measure(build(loss), loss, grads=True)
        >>> found.grads["x"].norm, x.grad
        (10.0, None)
    """
    nodes = nodes_of(output) if walked is None else walked.nodes
    shown = [*model.boxes, *boxes]
    notes: list[str] = []
    found = Measures()
    if values:
        found = replace(found, values=numbers_of(values_of(shown, nodes) | _constants(model, nodes)))
    if grads or backward:
        _, total, gradients, why = walked or _walk(output, nodes)
        notes += why
        found = replace(found, grads=numbers_of(gradients_of(shown, gradients)))
        if total is not None and total.index not in nodes:
            notes.append("The gradients are those of the sum of all numbers in the output.")
        if backward and total is not None:
            graph = Walked(model, nodes, total, gradients)
            flowing, more = _flowing_back(graph, unrolled, set(groups), every)
            found = replace(found, **flowing)
            notes += more
    if compare is not None:
        found = replace(found, **_compared(model, compare))
        found = replace(found, strips=_error_strips(model, compare) + found.strips)
    return replace(found, notes=tuple(notes))


def _flowing_back(
    graph: Walked, unrolled: Any, groups: set[Group], every: bool
) -> tuple[dict[str, Any], list[str]]:
    """What flows back along every arrow and through time, as parts of `Measures`, and notes on it."""
    model, nodes, _, gradients = graph
    notes = []
    heads = {box.id: nodes[box.number] for box in model.boxes if box.number is not None}
    weights, others = weights_of(model, nodes, unrolled, every)
    steps = {group for weight in weights for group in weight.steps.values()}
    norms = flows(model.arrows, heads, gradients, groups | steps)
    unmeasured = _checkpointed(model, heads)
    if unmeasured:
        notes.append(
            "Checkpointed timesteps are not on record: neither their weights nor what flows through "
            "them are drawn."
        )
    through = _through_time(graph, unrolled, weights, norms)
    notes += through.notes
    if others and through.strips:
        more = f" and {len(others) - 4} more" if len(others) > 4 else ""
        notes.append(f"Weights without a strip: {', '.join(others[:4])}{more}.")
    shown = {key: norm for key, norm in norms.items() if len(key) == 1 or key in groups}
    strips, triangle = through.strips, through.triangle
    return {"flows": shown, "unmeasured": unmeasured, "strips": strips, "triangle": triangle}, notes


def nodes_of(output: Any) -> dict[int, Node]:
    """All that an output was computed from, by creation number, itself included.

    Example:
        >>> import tensorgrad as tg
        >>> x = tg.tensor(3.0, requires_grad=True)
        >>> [node.describe() for node in nodes_of({"y": x * x}).values()][1]
        'result of multiply of shape ()'
    """
    return {x.index: x for x in computed_from(x for x in tree.leaves(output) if isinstance(x, Node))}


def values_of(boxes: Iterable[Box], nodes: Mapping[int, Node]) -> dict[str, np.ndarray]:
    """By box id the value that each box stands for; of one that stands for many, its last result.

    Leaves have the values that went into the graph: an optimiser may have given them others since.
    """
    values = {index: node._value for index, node in nodes.items()}
    for node in nodes.values():
        for operand, arg in zip(node.operands, node.args, strict=True):
            if isinstance(operand, Node) and operand.op is None:
                values[operand.index] = arg
    return {box.id: values[box.number] for box in boxes if box.number is not None and box.number in values}


def gradients_of(boxes: Iterable[Box], found: Mapping[int, np.ndarray]) -> dict[str, np.ndarray]:
    """By box id the gradient of the value that each box stands for; without what no gradient reaches."""
    return {box.id: found[box.number] for box in boxes if box.number is not None and box.number in found}


def _constants(model: Model, nodes: Mapping[int, Node]) -> dict[str, np.ndarray]:
    """By box id the arrays that are no nodes, as the operations that use them have them."""
    numbers = {box.id: box.number for box in model.boxes}
    found = {}
    for arrow in model.arrows:
        head = numbers[arrow.head]
        if numbers[arrow.tail] is None and head is not None and head in nodes:
            found[arrow.tail] = nodes[head].args[arrow.argnum]
    return found


def _checkpointed(model: Model, heads: Mapping[str, Node]) -> frozenset[int]:
    """The numbers of the arrows into results whose operations are to be made again in a backward."""
    again = {name for name, node in heads.items() if node.op is not None and node.op.expand is not None}
    return frozenset(number for number, arrow in enumerate(model.arrows) if arrow.head in again)


def _through_time(graph: Walked, unrolled: Any, weights: Any, norms: Mapping[Group, float]) -> OverTime:
    if unrolled is not None:
        return over_time(graph, unrolled, weights, norms)
    timed = any(frame.step is not None for frame in graph.model.frames)
    return OverTime((), None, ("Strips over time need unrolled=.",) if timed else ())


# --- a comparison ----------------------------------------------------------------------------------------
def _compared(model: Model, report: Report) -> dict[str, Any]:
    """The errors in their places, the first divergence, and what the doctor says."""
    ids = {box.number: box.id for box in model.boxes if box.number is not None}
    whole = {row.name: row.error for row in report.rows}
    errors: dict[str, float] = {}
    for (name, t), number in report.numbers.items():
        if number in ids:
            error = float(whole[name] if t is None else report.steps[name][t])
            # NaN, where the right gradient itself is not finite, is as bad as can be.
            errors[ids[number]] = worst((error, errors.get(ids[number], 0.0)))
    if not errors:
        raise GraphError(
            "draw: the report in compare= is about another graph; draw the loss that was compared, not one "
            "of another forward pass"
        )
    first = None
    if report.first_divergence is not None:
        first = ids.get(report.numbers[report.first_divergence])
    return {"errors": errors, "tolerance": report.tolerance, "first": first, "words": _words(report)}


def _words(report: Report) -> tuple[str, ...]:
    if report.first_divergence is None:
        return (f"All gradients given agree with the graph, within {report.tolerance:g}.",)
    name, t = report.first_divergence
    at = "" if t is None else f" at t={t}"
    words = [f"First to differ, in the order of a backward: {name}{at}."]
    for finding in report.diagnosis:
        title = CATALOGUE[finding.code].title
        words.append(f"{finding.code}: {title}. Where: {finding.where}.")
    return (*words, *report.residue)


def _error_strips(model: Model, report: Report) -> tuple[Strip, ...]:
    ids = {box.number: box.id for box in model.boxes if box.number is not None}
    strips = []
    for name, errors in report.steps.items():
        own = {ids.get(number, "") for (of, _), number in report.numbers.items() if of == name}
        # Of a weight whose shares were given, it is its users that stand in timesteps.
        around = run_around(model, own)
        if around is None:
            around = run_around(model, {arrow.head for arrow in model.arrows if arrow.tail in own}) or ""
        known = np.ones(len(errors), bool)
        strips.append(Strip(f"relative error of {name}", errors, known, "error", around))
    return tuple(strips)
