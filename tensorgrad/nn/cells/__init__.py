"""Recurrent cells: `(x, state) -> (output, state)`, and the registry that makes them by name.

x (B, D) or (D,), every part of a state (B, H) or (H,). Cells that PyTorch has too keep its parameter names,
shapes and gate order. Every cell labels its gates, pre-activations and states, so that an unrolled graph can
be drawn, compared and studied by name.
"""

from __future__ import annotations

import inspect
from difflib import get_close_matches
from typing import Any

from tensorgrad.errors import UserError
from tensorgrad.nn.cells.base import Cell
from tensorgrad.nn.cells.gru import GRUCell, MGUCell
from tensorgrad.nn.cells.linear import LRUCell, MinGRUCell, MinLSTMCell
from tensorgrad.nn.cells.lstm import LayerNormLSTMCell, LSTMCell, PeepholeLSTMCell, SLSTMCell
from tensorgrad.nn.cells.rnn import IndRNNCell, IRNNCell, RNNCell

__all__ = [
    "CELLS",
    "GRUCell",
    "IRNNCell",
    "IndRNNCell",
    "LRUCell",
    "LSTMCell",
    "LayerNormLSTMCell",
    "MGUCell",
    "MinGRUCell",
    "MinLSTMCell",
    "PeepholeLSTMCell",
    "RNNCell",
    "SLSTMCell",
    "make_cell",
]

CELLS: dict[str, type[Cell]] = {
    "rnn": RNNCell,
    "irnn": IRNNCell,
    "indrnn": IndRNNCell,
    "lstm": LSTMCell,
    "peephole": PeepholeLSTMCell,
    "lnlstm": LayerNormLSTMCell,
    "slstm": SLSTMCell,
    "gru": GRUCell,
    "mgu": MGUCell,
    "mingru": MinGRUCell,
    "minlstm": MinLSTMCell,
    "lru": LRUCell,
}
"""Every shipped cell by its short name."""


def make_cell(name: str, input_size: int, hidden_size: int, **options: Any) -> Cell:
    """A cell by its short name, one of `CELLS`; options are those of its class.

    Raises UserError for an unknown name or option, and what the class raises.

    >>> make_cell("lstm", 3, 4, forget_bias=1.0, seed=0)
    LSTMCell(3, 4)
    """
    if name not in CELLS:
        raise UserError(f"there is no cell {name!r}{_meant(name, CELLS)}; cells are {', '.join(CELLS)}")
    known = list(inspect.signature(CELLS[name]).parameters)[2:]
    for option in options:
        if option not in known:
            raise UserError(
                f"the cell {name!r} has no option {option!r}{_meant(option, known)}; "
                f"its options are {', '.join(o for o in known if o not in ('seed', 'dtype'))}"
            )
    return CELLS[name](input_size, hidden_size, **options)


def _meant(name: Any, known: Any) -> str:
    close = get_close_matches(str(name), known, n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""
