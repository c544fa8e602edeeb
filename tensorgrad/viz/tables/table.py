"""`trace_table`: the recorded graph as a table, a row for each node in the order in which they were made."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from html import escape
from typing import Any, NamedTuple

import numpy as np

from tensorgrad import tree
from tensorgrad.errors import GraphError, UserError
from tensorgrad.graph import Node
from tensorgrad.viz.build import build, computed_from
from tensorgrad.viz.measuring.digest import norms_of, numbers_of
from tensorgrad.viz.measuring.measures import Numbers
from tensorgrad.viz.model import Model
from tensorgrad.viz.steps import ENDS, named_steps, timestep_of
from tensorgrad.viz.tables.sheet import (
    bytes_text,
    count_text,
    html_part,
    html_table,
    label_text,
    number_text,
    owner,
    shape_text,
    text_table,
)

__all__ = ["Gap", "TraceRow", "TraceTable", "trace_table"]

# So many rows are shown from either end of what is in no timestep.
_END_ROWS = 20
_HEADS = ("#", "scope", "name", "operation", "operands", "shape", "dtype", "memory")
_VALUE_HEADS = ("min", "mean", "max", "norm", "NaN", "inf")
_GRAD_HEAD = "grad norm"
_RIGHT = ("#", "memory", *_VALUE_HEADS, _GRAD_HEAD)
# So many operands are shown from either end of a list of many.
_END_OPERANDS = 4


class TraceRow(NamedTuple):
    """One node.

    Attributes:
        number: its place in the order of creation, from 0.
        scope: where it was made, such as "encoder/t=3".
        name: its label, or its path in `params`; empty for none.
        operation: with the numbers among its operands and its parameters; "parameter" or "input" for a leaf.
        operands: a text each: a name that nothing else has, else with the number of its row.
        shape, dtype: of its value.
        nbytes: what its value takes; 0 for a view of the value of a row above.
        values: its value in a few numbers; None if not asked for.
        grad: the norm of its `grad`; None if not asked for, or if it has none.
    """

    number: int
    scope: str
    name: str
    operation: str
    operands: tuple[str, ...]
    shape: tuple[int, ...]
    dtype: str
    nbytes: int
    values: Numbers | None
    grad: float | None


class Gap(NamedTuple):
    """Rows that are left out.

    Attributes:
        rows: how many.
        steps: the timesteps that they are of, in the order of the rows.
    """

    rows: int
    steps: tuple[int, ...]

    def __str__(self) -> str:
        rows = f"{self.rows:,} rows"
        if not self.steps:
            return f"... {rows} ..."
        first, last, count = self.steps[0], self.steps[-1], len(self.steps)
        return f"... {rows} of {count:,} timesteps, t={first} to t={last}; steps=[...] shows some of them ..."


def trace_table(
    output: Any,
    *,
    unrolled: Any = None,
    params: Any = None,
    values: bool = False,
    grads: bool = False,
    steps: str | Iterable[int] | None = None,
) -> TraceTable:
    """The graph that computed `output` as a table: a row for each node, in the order of creation.

    A sequence of more than eleven timesteps is shown with its first and last five and those in `steps`; a
    line says how many rows lie between.

    Args:
        output: a Tensor such as the loss, or a tree of Tensors.
        unrolled: what `nn.unroll` returned; its labels name the rows.
        params: a Module or any tree of Tensors; its leaves are called by their paths in it.
        values: also the minimum, mean, maximum and norm of each value, without what is not finite, and how
            many NaN and infinities there are.
        grads: also the norm of each `grad`, blank where there is none. Leaves that require a gradient have
            one after a backward, and so has what `retain_grad()` was called on before.
        steps: timesteps to show besides the first and last, or "all".

    Returns:
        A `TraceTable`: print it, or let a notebook show it.

    Raises:
        GraphError: no recorded operation made the output; `unrolled` is something else.
        UserError: a timestep that the graph does not have.

    Example:
        >>> import tensorgrad as tg
        >>> x = tg.tensor([1.0, 2.0], requires_grad=True, name="x")
        >>> print(trace_table(tg.label(tg.tanh(x * 0.5), "h")))
        #  scope  name  operation         operands  shape  dtype    memory
        0         x     parameter                   (2,)   float64    16 B
        1               multiply(·, 0.5)  x         (2,)   float64    16 B
        2         h     tanh              #1        (2,)   float64    16 B
        3 rows: 2 operations on 1 leaf; their values take 48 B.
    """
    outputs = [leaf for leaf in tree.leaves(output) if isinstance(leaf, Node)]
    if all(node.op is None for node in outputs):
        what = f"the {outputs[0].describe()}" if outputs else f"this {type(output).__name__}"
        raise GraphError(
            f"trace_table: no recorded operation made {what}; give it a loss or an output that was computed, "
            "outside of no_grad, from something that requires a gradient"
        )
    nodes = computed_from(outputs)
    asked = named_steps(steps, "trace_table", "[7, 8]")
    return _Tracer(nodes, build(output, unrolled, params)).table(values, grads, asked)


class TraceTable:
    """The tape as text: `str` of it is the table, and a notebook shows it as one.

    Attributes:
        parts: the rows that are shown, and a `Gap` wherever some are left out.
        count: the number of all rows. operations: how many of them are no leaves.
        nbytes: what all their values take.
    """

    def __init__(
        self, parts: Sequence[TraceRow | Gap], nodes: Sequence[Node], nbytes: int, values: bool, grads: bool
    ) -> None:
        self.parts = tuple(parts)
        self.count = len(nodes)
        self.operations = sum(node.op is not None for node in nodes)
        self.nbytes = nbytes
        self._values = values
        self._grads = grads

    @property
    def rows(self) -> tuple[TraceRow, ...]:
        """The rows that are shown."""
        return tuple(part for part in self.parts if isinstance(part, TraceRow))

    def _heads(self) -> list[str]:
        return [*_HEADS, *(_VALUE_HEADS if self._values else ()), *((_GRAD_HEAD,) if self._grads else ())]

    def _cells(self) -> Iterator[list[str] | str]:
        for part in self.parts:
            if isinstance(part, Gap):
                yield str(part)
                continue
            memory = bytes_text(part.nbytes) if part.nbytes or 0 in part.shape else "view"
            cells = [f"{part.number}", *map(label_text, (part.scope, part.name, part.operation))]
            cells += [_operands_text(part.operands), shape_text(part.shape), part.dtype, memory]
            if part.values is not None:
                cells += _value_cells(part.values)
            if self._grads:
                cells.append("" if part.grad is None else number_text(part.grad))
            yield cells

    def _notes(self) -> Iterator[str]:
        leaves = self.count - self.operations
        yield (
            f"{count_text(self.count, 'row')}: {count_text(self.operations, 'operation')} on "
            f"{leaves:,} lea{'f' if leaves == 1 else 'ves'}; their values take {bytes_text(self.nbytes)}."
        )
        if self._grads:
            rows = self.rows
            if all(row.grad is None for row in rows):
                yield "No gradients: no backward has reached these rows."
            elif any(row.grad is None and row.operands for row in rows):
                yield "Only leaves keep their gradient, and what retain_grad() was called on before backward."

    def __str__(self) -> str:
        return "\n".join([text_table(self._heads(), _RIGHT, self._cells()), *self._notes()])

    def __repr__(self) -> str:
        return f"<TraceTable of {count_text(self.count, 'row')}; print it>"

    def _repr_html_(self) -> str:
        notes = (f"<p>{escape(note)}</p>" for note in self._notes())
        return html_part(html_table(self._heads(), _RIGHT, self._cells()), *notes)


class _Tracer:
    """The nodes of one graph, and what is known of them."""

    def __init__(self, nodes: list[Node], model: Model) -> None:
        self.nodes = nodes
        self.numbers = {node.index: number for number, node in enumerate(nodes)}
        self.boxes = {box.id: box for box in model.boxes}
        self.ids = {box.number: box.id for box in model.boxes if box.number is not None}
        self.tails: dict[str, list[str]] = defaultdict(list)
        for arrow in model.arrows:
            self.tails[arrow.head].append(arrow.tail)
        self.named = Counter(box.name for box in model.boxes)
        self.places = [timestep_of(node.scope) for node in nodes]

    def table(self, values: bool, grads: bool, asked: Iterable[int] | None) -> TraceTable:
        sizes = list(_sizes(self.nodes))
        shown = self.shown(asked)
        seen = [(number, node) for number, node in enumerate(self.nodes) if shown[number]]
        numbers = numbers_of({number: node._value for number, node in seen}) if values else {}
        with_grad = {number: node.grad for number, node in seen if grads and node.grad is not None}
        norms = norms_of(with_grad)
        parts: list[TraceRow | Gap] = []
        number = 0
        while number < len(self.nodes):
            if shown[number]:
                parts.append(self.row(number, sizes[number], numbers.get(number), norms.get(number)))
                number += 1
            else:
                start = number
                while number < len(self.nodes) and not shown[number]:
                    number += 1
                times = dict.fromkeys(place[1] for place in self.places[start:number] if place)
                parts.append(Gap(number - start, tuple(times)))
        return TraceTable(parts, self.nodes, sum(sizes), values, grads)

    def shown(self, asked: Iterable[int] | None) -> list[bool]:
        """Which rows are shown; of the timesteps all for None."""
        if asked is None:
            shown = [True] * len(self.places)
        else:
            wanted = self.wanted(asked)
            shown = [place is None or place[1] in wanted[place[0]] for place in self.places]
        self.hide_long_runs(shown)
        return shown

    def wanted(self, asked: Iterable[int]) -> dict[str, set[int]]:
        """By sequence the timesteps at its ends, and those asked for."""
        sequences: dict[str, set[int]] = defaultdict(set)
        for place in self.places:
            if place:
                sequences[place[0]].add(place[1])
        have = set().union(*sequences.values())
        named = set()
        for t in asked:
            if t not in have:
                there = f"which has t={min(have)} to t={max(have)}" if have else "which has no timesteps"
                raise UserError(f"trace_table: there is no timestep {t} in this graph, {there}")
            named.add(t)
        wanted = {}
        for name, times in sequences.items():
            order = sorted(times)
            # To leave out a single timestep would save nothing.
            ends = order if len(order) <= 2 * ENDS + 1 else [*order[:ENDS], *order[-ENDS:]]
            wanted[name] = {*ends, *named}
        return wanted

    def hide_long_runs(self, shown: list[bool]) -> None:
        """Leave out the middle of a long run of rows that belong to no timestep."""
        start = 0
        for number, place in enumerate([*self.places, ("", 0)]):
            if place is not None:
                if number - start > 2 * _END_ROWS + 1:
                    middle = slice(start + _END_ROWS, number - _END_ROWS)
                    shown[middle] = [False] * (number - start - 2 * _END_ROWS)
                start = number + 1

    def row(self, number: int, nbytes: int, values: Numbers | None, grad: float | None) -> TraceRow:
        node = self.nodes[number]
        box = self.boxes[self.ids[node.index]]
        leaf = "parameter" if node.requires_grad else "input"
        return TraceRow(
            number,
            node.scope,
            box.name if box.name != box.kind or node.name else "",
            f"{box.op}{_settings(node)}" if node.op is not None else leaf,
            tuple(self.reference(tail) for tail in self.tails[box.id]),
            node._value.shape,
            str(node._value.dtype),
            nbytes,
            values,
            grad,
        )

    def reference(self, tail: str) -> str:
        """What an operand is called: by its name, where that leaves no doubt, else with its number."""
        box = self.boxes[tail]
        name = label_text(box.name)
        if box.number is None:
            return f"{name} {box.shape}"
        if name and self.named[box.name] == 1:
            return name
        return f"{name} #{self.numbers[box.number]}".lstrip()


def _sizes(nodes: Iterable[Node]) -> Iterator[int]:
    """What each value takes in bytes, 0 for a view of one before."""
    whole = set()
    for node in nodes:
        value = node._value
        base = owner(value)
        if id(base) in whole:
            yield 0
        else:
            yield min(value.nbytes, base.nbytes)
            if value.nbytes >= base.nbytes:
                whole.add(id(base))


def _settings(node: Node) -> str:
    """The static parameters of an operation that mean something to a reader: " axes=(0,)"."""
    told = (
        f" {name}" if value is True else f" {name}={value}"
        for name, value in node.params.items()
        if name != "template" and value is not None and value is not False and _is_plain(value)
    )
    return "".join(told)


def _is_plain(value: Any) -> bool:
    return isinstance(value, (int, float, str, np.dtype)) or (
        isinstance(value, tuple) and all(map(_is_plain, value))
    )


def _operands_text(operands: Sequence[str]) -> str:
    if len(operands) <= 2 * _END_OPERANDS + 1:
        return ", ".join(operands)
    more = f"({len(operands) - 2 * _END_OPERANDS:,} more)"
    return ", ".join([*operands[:_END_OPERANDS], more, *operands[-_END_OPERANDS:]])


def _value_cells(values: Numbers) -> list[str]:
    numbers: list[str] = [""] * 4
    if values.size > values.nan + values.inf:
        numbers = [number_text(x) for x in (values.least, values.mean, values.greatest, values.norm)]
    return [*numbers, *(f"{n:,}" if n else "" for n in (values.nan, values.inf))]
