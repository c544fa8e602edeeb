"""The cells that `tensorgrad check` knows: the hand-written ones beside their graphs on the whiteboard.

The graphs, in `tensorgrad.bptt.reference`, are the equations at the head of `rnn.py`, `lstm.py` and `gru.py`
in `models/manual`, and what these have a gradient of at every timestep is labelled in them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any, NamedTuple

from tensorgrad.bptt import reference
from tensorgrad.errors import UserError
from tensorgrad.models.manual import gru, lstm, rnn

__all__ = ["CELLS", "Whiteboard", "whiteboard"]

Params = Mapping[str, Any]
State = tuple[Any, ...]


class Whiteboard(NamedTuple):
    """A cell, and what its parameters and its hand-written gradients are called.

    Attributes:
        title: what a sentence calls the network.
        manual: the module with its hand-written forward and backward.
        step: from the parameters, an input (B, V) and the states to the next states, the output's first.
        records: the labels of the intermediates behind each gradient over time, stacked where there are more.
        gates: how many blocks of H rows W_xh, W_hh and the biases have.
        biases: the parameters added to a pre-activation.
        states: the initial states, each (B, H).
    """

    title: str
    manual: ModuleType
    step: Callable[[Params, Any, State], State]
    records: Mapping[str, tuple[str, ...]]
    gates: int = 1
    biases: tuple[str, ...] = ("b_h",)
    states: tuple[str, ...] = ("h0",)


_WHITEBOARDS = {
    "rnn": Whiteboard("A vanilla RNN", rnn, reference.rnn, {"dy": ("y",), "dh": ("h",), "da": ("a",)}),
    "lstm": Whiteboard(
        "An LSTM",
        lstm,
        reference.lstm,
        {"dy": ("y",), "dh": ("h",), "dc": ("c",), "da": ("a",)},
        gates=4,
        states=("h0", "c0"),
    ),
    "gru": Whiteboard(
        "A GRU",
        gru,
        reference.gru,
        {"dy": ("y",), "dh": ("h",), "da": ("a_r", "a_z", "a_n"), "dv": ("v",)},
        gates=3,
        biases=("b_xh", "b_hh"),
    ),
}
CELLS = tuple(_WHITEBOARDS)


def whiteboard(cell: str) -> Whiteboard:
    """A cell by its short name.

    Raises:
        UserError: there are no hand-written gradients for it.

    Example:
        >>> whiteboard("lstm").states
        ('h0', 'c0')
    """
    if cell not in _WHITEBOARDS:
        raise UserError(
            f"no gradients of a cell {cell!r} are written by hand, only those of {', '.join(CELLS)}"
        )
    return _WHITEBOARDS[cell]
