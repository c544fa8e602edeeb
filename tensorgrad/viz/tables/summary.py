"""`summary`: the parameters of a model, and what one unrolled timestep of it costs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from html import escape
from typing import TYPE_CHECKING, Any, NamedTuple

from tensorgrad.errors import UserError
from tensorgrad.nn.module import Module
from tensorgrad.viz.tables.sheet import (
    bytes_text,
    count_text,
    html_part,
    html_table,
    label_text,
    shape_text,
    text_table,
)

if TYPE_CHECKING:
    from tensorgrad.viz.tables.costs import Cost, LabelRow, Run

__all__ = ["ModuleRow", "ParameterRow", "Summary", "summary"]

_LONGEST_PATH = 60
# Heads, those of columns aligned to the right, rows.
_Table = tuple[list[str], list[str], list[list[str]]]


class ParameterRow(NamedTuple):
    """One parameter.

    Attributes:
        path: its dotted name.
        shape, dtype: of its array.
        size: how many numbers it has. nbytes: what they take.
        trainable: whether it requires a gradient.
    """

    path: str
    shape: tuple[int, ...]
    dtype: str
    size: int
    nbytes: int
    trainable: bool


class ModuleRow(NamedTuple):
    """All parameters within one module, each counted once.

    Attributes:
        path: its dotted name. kind: its class.
        size, nbytes: of all its parameters together.
        trainable: how many of their numbers require a gradient.
    """

    path: str
    kind: str
    size: int
    nbytes: int
    trainable: int


def summary(
    model: Module, x: Any = None, *, state: Any = None, forward: Callable[[Any], Any] | None = None
) -> Summary:
    """The parameters of a model by path; with an example input also what one unrolled timestep costs.

    A cell is unrolled, any other model is called once, in the mode it is in, training or evaluation. What
    it draws from random generators it will draw again: they are put back.

    Args:
        model: a cell, a layer or any other Module.
        x: an example input with time on its first axis: (T, B, D), or (T, B) integers for a model that reads
            ids; or the shape of one, a tuple of ints, for zeros of the model's dtype. What is no array or
            list is handed over as it is.
        state: the state before the first timestep; None leaves it to the model.
        forward: a function of x that runs the model in another way and returns a Tensor, a tree of them, or
            what `nn.unroll` returned.

    Returns:
        A `Summary`: print it, or let a notebook show it.

    Raises:
        UserError: `model` is no Module; it takes more than x; a state or `forward` without x.
        TensorgradError: what the model raises for this input.

    Example:
        >>> from tensorgrad import nn
        >>> print(summary(nn.RNNCell(3, 4, seed=0), (100, 2, 3)))
        RNNCell(3, 4)
        parameter  shape   dtype    count  memory
        weight_ih  (4, 3)  float64     12    96 B
        weight_hh  (4, 4)  float64     16   128 B
        bias_ih    (4,)    float64      4    32 B
        bias_hh    (4,)    float64      4    32 B
        36 parameters, 288 B, all trainable.
        <BLANKLINE>
        nn.unroll(model, x) with x of shape (100, 2, 3), float64
        in a timestep  shape   dtype
        x              (2, 3)  float64
        a              (2, 4)  float64
        h              (2, 4)  float64
                           each timestep     T=100
        operations                     2       200
        kept for backward          176 B  17.3 KiB
        multiply-adds                 56     5,600
        Kept: what recorded operations hold, values and operands, each array once and parameters not.
        Multiply-adds: of the matrix products of the forward pass.
    """
    if not isinstance(model, Module):
        raise UserError(
            f"summary: the model must be a Module, not a {type(model).__name__}; of a function, trace_table "
            "shows what it records"
        )
    if x is None and (state is not None or forward is not None):
        raise UserError("summary: state= and forward= go with an example input x")
    if x is None:
        return Summary(model)
    # Imported here, for it has no part in starting tensorgrad.
    from tensorgrad.viz.tables.costs import measure

    return Summary(model, measure(model, x, state, forward))


class Summary:
    """What a model consists of: `str` of it is a table, and a notebook shows it as one.

    Attributes:
        title: the model in a few words.
        rows: a `ParameterRow` each. modules: a `ModuleRow` for each module within that has parameters.
        total: how many numbers all parameters have. trainable: how many of them require a gradient.
        nbytes: what they take.
        run: what a run with the example input makes: operations, memory and multiply-adds of each timestep
            (`run.step`) and in all (`run.total`), and labels; None without an example.
    """

    def __init__(self, model: Module, run: Run | None = None) -> None:
        self.title = f"{type(model).__name__}({model.extra_repr()})"
        self.rows = tuple(
            ParameterRow(path, p.shape, str(p.dtype), p.size, p._value.nbytes, p.requires_grad)
            for path, p in model.named_parameters()
        )
        self.modules = tuple(_module_rows(model))
        self.total = sum(row.size for row in self.rows)
        self.trainable = sum(row.size for row in self.rows if row.trainable)
        self.nbytes = sum(row.nbytes for row in self.rows)
        self.run = run

    def __repr__(self) -> str:
        return f"<Summary of {self.title}: {count_text(self.total, 'parameter')}; print it>"

    def __str__(self) -> str:
        return "\n\n".join(
            "\n".join([title, *(text_table(*table) for table in tables), *notes])
            for title, tables, notes in self._parts()
        )

    def _repr_html_(self) -> str:
        parts = []
        for title, tables, notes in self._parts():
            parts.append(f"<p><b>{escape(title)}</b></p>")
            parts += [html_table(*table) for table in tables]
            parts += [f"<p>{escape(note)}</p>" for note in notes]
        return html_part(*parts)

    def _parts(self) -> Iterator[tuple[str, list[_Table], list[str]]]:
        """Title, tables and notes of each part."""
        yield label_text(self.title, 100), list(self._parameter_tables()), [self._count()]
        if self.run is not None:
            yield _run_title(self.run), list(_run_tables(self.run)), list(_run_notes(self.run))

    def _parameter_tables(self) -> Iterator[_Table]:
        some_frozen = self.trainable < self.total
        heads = ["parameter", "shape", "dtype", "count", "memory"]
        rows = [
            [
                *(label_text(row.path, _LONGEST_PATH), shape_text(row.shape), row.dtype, f"{row.size:,}"),
                *(bytes_text(row.nbytes), *(["yes" if row.trainable else "no"] if some_frozen else [])),
            ]
            for row in self.rows
        ]
        if rows:
            yield [*heads, *(["trainable"] if some_frozen else [])], ["count", "memory"], rows
        rows = [
            [label_text(row.path, _LONGEST_PATH), row.kind, f"{row.size:,}", bytes_text(row.nbytes)]
            for row in self.modules
        ]
        if rows:
            yield ["module", "class", "count", "memory"], ["count", "memory"], rows

    def _count(self) -> str:
        if not self.rows:
            return "No parameters."
        text = f"{count_text(self.total, 'parameter')}, {bytes_text(self.nbytes)}"
        if self.trainable == self.total:
            return f"{text}, all trainable."
        return f"{text}; {self.trainable:,} trainable, {self.total - self.trainable:,} not."


def _module_rows(model: Module) -> Iterator[ModuleRow]:
    for path, module in model.named_modules():
        parameters = module.parameters()
        if path and parameters:
            yield ModuleRow(
                path,
                type(module).__name__,
                sum(p.size for p in parameters),
                sum(p._value.nbytes for p in parameters),
                sum(p.size for p in parameters if p.requires_grad),
            )


# --- of a run --------------------------------------------------------------------------------------------
def _run_title(run: Run) -> str:
    return run.how if run.shape is None else f"{run.how} with x of shape {shape_text(run.shape)}, {run.dtype}"


def _run_tables(run: Run) -> Iterator[_Table]:
    outside = "label" if run.T is None else "outside timesteps"
    for head, labels in (("in a timestep", run.labels), (outside, run.outside)):
        if labels:
            yield [head, "shape", "dtype"], [], [_label_cells(row) for row in labels]
    columns = {"in all" if run.T is None else f"T={run.T}": run.total}
    if run.step is not None:
        columns = {"each timestep": run.step, **columns}
    rows = [
        ["operations", *(f"{cost.operations:,}" for cost in columns.values())],
        ["kept for backward", *(bytes_text(cost.nbytes) for cost in columns.values())],
        ["multiply-adds", *(_products(cost) for cost in columns.values())],
    ]
    yield ["", *columns], list(columns), rows


def _label_cells(row: LabelRow) -> list[str]:
    return [label_text(row.name, _LONGEST_PATH), shape_text(row.shape), row.dtype]


def _products(cost: Cost) -> str:
    return "unknown" if cost.multiply_adds is None else f"{cost.multiply_adds:,}"


def _run_notes(run: Run) -> Iterator[str]:
    if not run.total.operations:
        yield "Nothing was recorded: neither a parameter nor the input requires a gradient."
        return
    if run.T is not None and run.step is None:
        yield "The timesteps do not all add the same, so only the whole run is given."
    yield "Kept: what recorded operations hold, values and operands, each array once and parameters not."
    if run.total.multiply_adds is None:
        yield "Multiply-adds are unknown: checkpointed operations are not on record."
    else:
        yield "Multiply-adds: of the matrix products of the forward pass."
