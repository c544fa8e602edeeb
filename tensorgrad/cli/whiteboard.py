"""The cells that `tensorgrad check` knows, written for the engine as one would on a whiteboard.

The lines are the equations at the head of `rnn.py`, `lstm.py` and `gru.py` in `models/manual`, and every
operation of them is recorded. What these have a gradient of at every timestep is labelled here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any, NamedTuple

import tensorgrad as tg
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


def _rnn(p: Params, x: Any, state: State) -> State:
    (h,) = state
    a = tg.label(x @ p["W_xh"].T + h @ p["W_hh"].T + p["b_h"], "a")
    return (tg.label(tg.tanh(a), "h"),)


def _lstm(p: Params, x: Any, state: State) -> State:
    h, c = state
    a = tg.label(x @ p["W_xh"].T + h @ p["W_hh"].T + p["b_h"], "a")
    a_i, a_f, a_g, a_o = tg.split(a, 4, axis=1)
    i, f, g, o = tg.sigmoid(a_i), tg.sigmoid(a_f), tg.tanh(a_g), tg.sigmoid(a_o)
    c = tg.label(f * c + i * g, "c")
    return tg.label(o * tg.tanh(c), "h"), c


def _gru(p: Params, x: Any, state: State) -> State:
    (h,) = state
    x_r, x_z, x_n = tg.split(x @ p["W_xh"].T + p["b_xh"], 3, axis=1)
    h_r, h_z, h_n = tg.split(h @ p["W_hh"].T + p["b_hh"], 3, axis=1)
    r = tg.sigmoid(tg.label(x_r + h_r, "a_r"))
    z = tg.sigmoid(tg.label(x_z + h_z, "a_z"))
    n = tg.tanh(tg.label(x_n + r * tg.label(h_n, "v"), "a_n"))
    return (tg.label((1 - z) * n + z * h, "h"),)


_WHITEBOARDS = {
    "rnn": Whiteboard("A vanilla RNN", rnn, _rnn, {"dy": ("y",), "dh": ("h",), "da": ("a",)}),
    "lstm": Whiteboard(
        "An LSTM",
        lstm,
        _lstm,
        {"dy": ("y",), "dh": ("h",), "dc": ("c",), "da": ("a",)},
        gates=4,
        states=("h0", "c0"),
    ),
    "gru": Whiteboard(
        "A GRU",
        gru,
        _gru,
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
