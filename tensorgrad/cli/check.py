"""`tensorgrad check`: three ways to the same gradients, tensor by tensor; or those of a file of yours.

The first is the engine's: it records the unrolled graph and differentiates that. The second is
backpropagation through time written by hand, in `tensorgrad.models.manual`, which knows nothing of the
engine. The third are central differences of the loss, which know nothing of gradients.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

import numpy as np
import typer

import tensorgrad as tg
from tensorgrad import functional as F
from tensorgrad import nn
from tensorgrad.check.gradcheck import central_differences, norm_error
from tensorgrad.cli import arguments
from tensorgrad.cli.check_file import check_file
from tensorgrad.cli.console import make_console
from tensorgrad.cli.whiteboard import CELLS, Whiteboard, whiteboard
from tensorgrad.errors import UserError

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

__all__ = ["Row", "as_table", "as_table_of_steps", "check", "compare", "show", "summary"]

Params = dict[str, np.ndarray]

# Norm-wise relative errors that rounding may cause.
_MANUAL = {"float64": 1e-9, "float32": 1e-5}
# The differences are always taken in float64; what they are compared with may be float32.
_DIFFERENCES = {"float64": 1e-6, "float32": 1e-4}
_STEP = 1e-6
# Central differences run the network twice for each number: of a large tensor only so many are looked at.
_SAMPLED = 256
# Of the network: with more, that would take hours.
_MOST_NUMBERS = 10_000_000


class Row(NamedTuple):
    """One tensor's gradient, found in three ways.

    Attributes:
        name: "loss", a parameter, an initial state such as "h0", or a record over all timesteps such as "dh".
        shape: of the tensor.
        norm: of the engine's gradient.
        manual: its error against the hand-written gradient, ||a - b|| / max(||a||, ||b||).
        differences: the same against central differences; None where they are not taken.
        verdict: "agree", or what differs.
        steps: of a record over all timesteps, the norm and the manual gradient's error at each.
    """

    name: str
    shape: tuple[int, ...]
    norm: float
    manual: float
    differences: float | None
    verdict: str
    steps: Sequence[tuple[float, float]] = ()

    @property
    def ok(self) -> bool:
        """Whether all that was compared agrees."""
        return self.verdict == "agree"


@arguments.limit_threads()
def check(
    context: typer.Context,
    file: Annotated[
        Path | None,
        typer.Argument(
            metavar="FILE.py",
            help="A file of yours with forward(params, xs, targets, h0) -> (loss, cache) and "
            "backward(params, cache) -> gradients. It is run, and its backward is held against the graph.",
            show_default=False,
        ),
    ] = None,
    cell: Annotated[
        str, typer.Option(help=f"The recurrent cell: {', '.join(CELLS)}. Of a FILE it is found out.")
    ] = "rnn",
    T: Annotated[int, typer.Option("-T", "--timesteps", help="Timesteps.")] = 8,
    B: Annotated[int, typer.Option("-B", "--batch", help="Sequences.")] = 3,
    H: Annotated[int, typer.Option("-H", "--hidden", help="Hidden units.")] = 16,
    V: Annotated[int, typer.Option("-V", "--vocab", help="Different characters.")] = 12,
    seed: Annotated[int, typer.Option(help="For the weights, the text and the initial state.")] = 0,
    dtype: Annotated[Literal["float32", "float64"], typer.Option(help="Precision.")] = "float64",
    per_step: Annotated[
        bool, typer.Option("--per-step", help="Show dy, dh, da (LSTM: dc, GRU: dv) of each timestep too.")
    ] = False,
) -> None:
    """Compare the gradients of an RNN, LSTM or GRU: automatic, by hand, by differences.

    With a FILE, check the backward in it, and say what is wrong with it.

    Ends with status 1 if anything differs.
    """
    if file is not None:
        _check_file(context, file, cell, seed)
        return
    # Of a single character there is nothing to predict.
    for option, size, least in (("-T", T, 1), ("-B", B, 1), ("-H", H, 1), ("-V", V, 2)):
        if size < least:
            raise UserError(f"{option} must be at least {least}, not {size}")
    arguments.check_numbers(T, B, H, V, _MOST_NUMBERS, "differences run the network again and again")
    arguments.check_seed(seed)
    network = f"{whiteboard(cell).title}, T={T} B={B} H={H} V={V}, {dtype}"
    print(f"{network}: its loss and its automatic gradients", flush=True)
    rows = compare(T, B, H, V, seed, dtype, cell)
    console = make_console()
    show(as_table(rows), console)
    if per_step:
        print("The gradients at each timestep")
        show(as_table_of_steps(rows), console)
    print(summary(rows))
    if not all(row.ok for row in rows):
        raise typer.Exit(1)


def _check_file(context: typer.Context, file: Path, cell: str, seed: int) -> None:
    if any(arguments.given(context, set(context.params) - {"file", "cell", "seed"})):
        raise UserError(
            "of a file only --cell and --seed can be chosen: it is checked in float64, with sizes and under "
            "conditions that show mistakes"
        )
    arguments.check_seed(seed)
    report = check_file(file, cell if any(arguments.given(context, ["cell"])) else None, seed)
    print(f"{file}\n{report}")
    if not report.ok:
        raise typer.Exit(1)


def compare(
    T: int, B: int, H: int, V: int, seed: int = 0, dtype: str = "float64", cell: str = "rnn"
) -> list[Row]:
    """The gradients of a random network, found in three ways, tensor by tensor.

    The initial states are random and not zero, and characters repeat: zeros and distinct characters would
    hide mistakes in the initial states' and the input weights' gradients.

    Args:
        T, B, H, V: timesteps, sequences, hidden units, characters.
        seed: for the weights, the text and the initial states.
        dtype: "float64" or "float32".
        cell: "rnn", "lstm" or "gru".

    Returns:
        Rows for the loss, each parameter, the initial states, and the records over all timesteps: dy, dh, da,
        with dc for an LSTM and dv for a GRU.

    Raises:
        UserError: an unknown cell.

    Example:
        >>> all(row.ok for row in compare(T=3, B=2, H=4, V=5))
        True
    """
    board = whiteboard(cell)
    params, xs, ys = _problem(board, T, B, H, V, seed, dtype)
    leaves = {name: tg.tensor(value, requires_grad=True, name=name) for name, value in params.items()}
    loss, roll = _network(board, leaves, xs, ys)
    gradients = dict(zip(leaves, tg.grad(loss, list(leaves.values())), strict=True))

    initial = {name: params[name] for name in board.states}
    weights = {name: value for name, value in params.items() if name not in initial}
    loss_by_hand, cache = board.manual.forward(weights, xs, ys, **initial)
    by_hand = board.manual.backward(weights, cache)
    by_hand_of = {**by_hand.params, **{name: getattr(by_hand, f"d{name}") for name in initial}}

    exact = {name: value.astype(np.float64) for name, value in params.items()}
    rng = np.random.default_rng(seed)
    tolerance, coarse = _MANUAL[dtype], _DIFFERENCES[dtype]
    rows = [_row("loss", loss.numpy(), np.asarray(loss_by_hand), None, tolerance)]
    for name, g in gradients.items():
        error = _error_of_differences(exact, name, g, lambda: _loss(board, exact, xs, ys), rng, coarse)
        row = _row(name, g, by_hand_of[name], error, tolerance)
        if not error <= coarse:
            row = row._replace(verdict="differences differ" if row.ok else "both differ")
        rows.append(row)
    for record, labels in board.records.items():
        parts = [np.stack(tg.grad(loss, [step[label] for step in roll.steps])) for label in labels]
        each = np.concatenate(parts, axis=-1)
        rows.append(_row(record, each, getattr(by_hand, record), None, tolerance, over_time=True))
    return rows


def _problem(
    board: Whiteboard, T: int, B: int, H: int, V: int, seed: int, dtype: str
) -> tuple[Params, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    rows = board.gates * H
    shapes = {
        "W_xh": (rows, V),
        "W_hh": (rows, H),
        "W_hy": (V, H),
        **dict.fromkeys(board.biases, (rows,)),
        "b_y": (V,),
        **dict.fromkeys(board.states, (B, H)),
    }
    scales = {"W_hh": H**-0.5, "W_hy": H**-0.5}
    params = {
        name: (scales.get(name, 1.0) * rng.standard_normal(shape)).astype(dtype)
        for name, shape in shapes.items()
    }
    text = rng.integers(V, size=(T + 1, B))
    return params, text[:-1], text[1:]


def _network(board: Whiteboard, params: Any, xs: np.ndarray, ys: np.ndarray) -> tuple[Any, nn.Unrolled]:
    """The loss of the unrolled network, and its intermediates by their labels."""

    def cell(x: Any, state: Any) -> tuple[Any, Any]:
        state = board.step(params, x, state)
        return tg.label(state[0] @ params["W_hy"].T + params["b_y"], "y"), state

    initial = tuple(params[name] for name in board.states)
    roll = nn.unroll(cell, F.one_hot(xs, params["b_y"].shape[0], params["b_y"].dtype), initial)
    return F.cross_entropy(roll.outputs, ys), roll


def _loss(board: Whiteboard, params: Params, xs: np.ndarray, ys: np.ndarray) -> float:
    with tg.no_grad():
        return float(_network(board, {name: tg.Tensor(value) for name, value in params.items()}, xs, ys)[0])


def _error_of_differences(
    params: Params,
    name: str,
    g: np.ndarray,
    loss: Callable[[], float],
    rng: np.random.Generator,
    tolerance: float,
) -> float:
    """The error of `g` against central differences in some elements of a parameter, which is put back."""
    flat = params[name].reshape(-1)
    chosen = np.sort(rng.permutation(flat.size)[:_SAMPLED])
    before = flat[chosen].copy()
    part = before.copy()

    def at_part() -> float:
        flat[chosen] = part
        return loss()

    numeric = central_differences(at_part, part, _STEP)
    flat[chosen] = before
    g = g.reshape(-1)[chosen].astype(np.float64)
    distance = float(np.linalg.norm(g - numeric))
    # Differences resolve no more than the rounding of the loss: a gradient that has vanished is below that.
    noise = float(np.finfo(np.float64).eps) * abs(loss()) / _STEP * math.sqrt(chosen.size)
    scale = max(float(np.linalg.norm(g)), float(np.linalg.norm(numeric)), noise / tolerance)
    return distance / scale if math.isfinite(distance) else math.inf


def _row(
    name: str,
    g: np.ndarray,
    by_hand: np.ndarray,
    differences: float | None,
    tolerance: float,
    over_time: bool = False,
) -> Row:
    error = norm_error(g, by_hand)
    verdict = "agree"
    steps: list[tuple[float, float]] = []
    if over_time and np.shape(by_hand) == g.shape:
        steps = [(float(np.linalg.norm(a)), norm_error(a, b)) for a, b in zip(g, by_hand, strict=True)]
    if not error <= tolerance:
        # The backward comes from the end: the last timestep that differs is where the mistake is made.
        wrong = [t for t, (_, error_at_t) in enumerate(steps) if not error_at_t <= tolerance]
        verdict = f"manual differs, t <= {max(wrong)}" if wrong else "manual differs"
    return Row(name, g.shape, float(np.linalg.norm(g)), error, differences, verdict, steps)


def summary(rows: Sequence[Row]) -> str:
    """Whether all agree, and if not, what differs, in one line."""
    bad = [row.name for row in rows if not row.ok]
    # The first row is the loss.
    if not bad:
        return f"The loss and all {len(rows) - 1} gradients agree."
    return f"Of the loss and {len(rows) - 1} gradients, {len(bad)} differ: {', '.join(bad)}"


def as_table(rows: Sequence[Row]) -> Table:
    """The rows for a terminal, the tensors that differ in red."""
    table = _table("tensor", "shape", "norm", "error against\nmanual", "error against\ndifferences")
    table.add_column("verdict", no_wrap=True)
    for row in rows:
        differences = "–" if row.differences is None else f"{row.differences:.1e}"
        cells = (row.name, str(row.shape), f"{row.norm:.6g}", f"{row.manual:.1e}", differences, row.verdict)
        table.add_row(*cells, style=None if row.ok else "bold red")
    return table


def as_table_of_steps(rows: Sequence[Row]) -> Table:
    """A row for each timestep: the norms of the records over time, and the largest of their errors."""
    records = [row for row in rows if row.steps]
    table = _table("t", *(f"norm of\n{row.name}" for row in records), "largest error\nagainst manual")
    for t, figures in enumerate(zip(*(row.steps for row in records), strict=True)):
        error = max(error for _, error in figures)
        table.add_row(str(t), *(f"{norm:.6g}" for norm, _ in figures), f"{error:.1e}")
    return table


def _table(first: str, *others: str) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column(first)
    for name in others:
        table.add_column(name, justify="left" if name == "shape" else "right")
    return table


def show(table: Table, console: Console) -> None:
    """Print a table; where the terminal is too narrow for it, a plain line for each row."""
    unlimited = console.options.update(width=1000)
    if console.measure(table, options=unlimited).maximum <= console.width:
        console.print(table)
        return
    headers = [str(column.header).replace("\n", " ") for column in table.columns]
    for cells in zip(*(column.cells for column in table.columns), strict=True):
        print(", ".join(f"{header} {cell}" for header, cell in zip(headers, cells, strict=True)))
