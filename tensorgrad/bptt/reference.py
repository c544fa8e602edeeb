"""The graphs that hand-written networks are held against: vanilla RNN, LSTM and GRU, as on the whiteboard.

Every operation is recorded, and what a backward has a gradient of at every timestep is labelled: "y", "h",
"c", the pre-activations and the gates. People write these cells in several ways: the gates stacked in another
order, the reset gate before the recurrent product, z for what is kept or for what is new. Each way is a
`Network`.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from tensorgrad import functional as F
from tensorgrad.errors import UserError
from tensorgrad.nn.unroll import Unrolled, unroll
from tensorgrad.ops import linear, sigmoid, split, tanh, where
from tensorgrad.recording import label
from tensorgrad.tensor import Tensor

__all__ = ["NETWORKS", "Network", "gru", "lstm", "networks", "rnn"]

Params = Mapping[str, Any]
State = tuple[Any, ...]


def rnn(p: Params, x: Any, state: State, live: Any = None) -> State:
    """One step of a vanilla RNN: from the parameters, an input (B, D) and the state (h,) to the next state.

    live: (B, 1) booleans; where False the state stays as it was.

    >>> p = {"W_xh": np.eye(2), "W_hh": np.eye(2), "b_h": np.zeros(2)}
    >>> rnn(p, np.zeros((1, 2)), (np.zeros((1, 2)),))[0]
    array([[0., 0.]])
    """
    (h,) = state
    a = label(linear(x, p["W_xh"]) + linear(h, p["W_hh"]) + p["b_h"], "a")
    return (_kept(live, tanh(a), h, "h"),)


def lstm(p: Params, x: Any, state: State, live: Any = None, gates: str = "ifgo") -> State:
    """One step of an LSTM, from states (h, c) to the next; `gates` is the order in which they are stacked.

    >>> p = {"W_xh": np.zeros((8, 2)), "W_hh": np.zeros((8, 2)), "b_h": np.zeros(8)}
    >>> lstm(p, np.zeros((1, 2)), (np.zeros((1, 2)), np.ones((1, 2))))[1]
    array([[0.5, 0.5]])
    """
    h, c = state
    a = label(linear(x, p["W_xh"]) + linear(h, p["W_hh"]) + p["b_h"], "a")
    parts = {gate: label(part, f"a_{gate}") for gate, part in zip(gates, split(a, 4, axis=-1), strict=True)}
    i, f, o = (label(sigmoid(parts[gate]), gate) for gate in "ifo")
    g = label(tanh(parts["g"]), "g")
    c = _kept(live, f * c + i * g, c, "c")
    return _kept(live, o * tanh(c), h, "h"), c


def gru(
    p: Params,
    x: Any,
    state: State,
    live: Any = None,
    gates: str = "rzn",
    reset: str = "after",
    kept: str = "z",
) -> State:
    """One step of a GRU, from the state (h,) to the next; `gates` is the order in which they are stacked.

    reset: whether the reset gate acts "after" the recurrent product or "before" it. kept: how much of the
        state stays, "z" or "1 - z". Biases are b_xh and b_hh, or b_h alone, which no gate multiplies.

    >>> p = {"W_xh": np.zeros((6, 2)), "W_hh": np.zeros((6, 2)), "b_h": np.zeros(6)}
    >>> gru(p, np.zeros((1, 2)), (np.ones((1, 2)),))[0]
    array([[0.5, 0.5]])
    """
    (h,) = state
    W_hh, b_hh = p["W_hh"], p.get("b_hh")
    by_input = _rows(gates, linear(x, p["W_xh"], p["b_h"] if b_hh is None else p["b_xh"]))
    by_state = _rows(gates, linear(h, W_hh, b_hh)) if reset == "after" else {}

    def from_state(gate: str, h: Any) -> Any:
        if by_state:
            return by_state[gate]
        block = slice(gates.index(gate) * h.shape[-1], (gates.index(gate) + 1) * h.shape[-1])
        return linear(h, W_hh[block], None if b_hh is None else b_hh[block])

    r = label(sigmoid(label(by_input["r"] + from_state("r", h), "a_r")), "r")
    z = label(sigmoid(label(by_input["z"] + from_state("z", h), "a_z")), "z")
    v = label(from_state("n", h if by_state else r * h), "v")
    n = label(tanh(label(by_input["n"] + (r * v if by_state else v), "a_n")), "n")
    return (_kept(live, (1 - z) * n + z * h if kept == "z" else z * n + (1 - z) * h, h, "h"),)


def _rows(gates: str, a: Any) -> dict[str, Any]:
    return dict(zip(gates, split(a, len(gates), axis=-1), strict=True))


def _kept(live: Any, new: Any, old: Any, name: str) -> Any:
    """The new state, and the old one where a sequence has ended."""
    return label(new if live is None else where(live, new, old), name)


@dataclass(frozen=True)
class Network:
    """A recurrent cell with logits and cross-entropy, in one of the ways in which it is written.

    words: what a sentence calls it, and how it is written. step: see `rnn`. states: the initial states.
    biases: what is added to pre-activations. blocks: how many blocks of H rows W_xh, W_hh and biases have.
    stacked: records that put several labels side by side: {"da": ("a_r", "a_z", "a_n")}.
    """

    words: tuple[str, ...]
    step: Callable[..., State]
    states: tuple[str, ...] = ("h0",)
    blocks: int = 1
    biases: tuple[str, ...] = ("b_h",)
    stacked: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def shapes(self) -> dict[str, tuple[str, ...]]:
        """Of the parameters, in the letters D, H, V: ("4H", "D")."""
        rows = "H" if self.blocks == 1 else f"{self.blocks}H"
        biases = dict.fromkeys(self.biases, (rows,))
        return {"W_xh": (rows, "D"), "W_hh": (rows, "H"), "W_hy": ("V", "H"), **biases, "b_y": ("V",)}

    def __call__(
        self, params: Params, xs: Any, targets: np.ndarray, mask: Any = None, **initial: Any
    ) -> tuple[Any, dict[str, Any], Unrolled]:
        """The losses of all steps, (T, B), 0 where masked; what they depend on by name; and the run.

        xs: (T, B, D), or ids (T, B) for one-hot vectors. initial: the states, zero where not given.
        """
        if not isinstance(xs, Tensor):
            xs = Tensor(F.one_hot(xs, params["W_xh"].shape[1], params["W_xh"].dtype), requires_grad=True)
        T, B, H = *targets.shape, params["W_hh"].shape[1]
        alive = None if mask is None else np.asarray(mask, bool)[:, :, None]
        masks = iter([None] * T if alive is None else alive)

        def cell(x: Any, state: State) -> tuple[Any, State]:
            state = self.step(params, x, state, next(masks))
            return label(linear(state[0], params["W_hy"], params["b_y"]), "y"), state

        start = tuple(initial.get(name, np.zeros((B, H))) for name in self.states)
        run = unroll(cell, xs, start)
        losses = F.cross_entropy(run.outputs, targets, mask=mask, reduction="none")
        return losses, {**params, **initial}, run


def _lstms() -> Iterator[Network]:
    for order in itertools.permutations("ifgo"):
        gates = "".join(order)
        words = ("an LSTM", f"gates stacked {', '.join(gates)}")
        yield Network(words, partial(lstm, gates=gates), ("h0", "c0"), 4)


def _grus() -> Iterator[Network]:
    ways = itertools.product(
        (("b_xh", "b_hh"), ("b_h",)), ("after", "before"), ("z", "1 - z"), itertools.permutations("rzn")
    )
    for biases, reset, kept, order in ways:
        words = (
            "a GRU",
            f"gates stacked {', '.join(order)}",
            f"reset gate {reset} the recurrent product",
            f"{kept} of the old state kept",
        )
        step = partial(gru, gates="".join(order), reset=reset, kept=kept)
        labels = tuple(f"a_{gate}" for gate in order)
        yield Network(words, step, blocks=3, biases=biases, stacked={"da": labels})


NETWORKS: dict[str, Callable[[], Iterator[Network]]] = {
    "rnn": lambda: iter([Network(("a vanilla RNN",), rnn)]),
    "gru": _grus,
    "lstm": _lstms,
}


def networks(cell: str) -> list[Network]:
    """The ways in which a cell is written, the usual one first.

    Raises UserError for a cell that is not known.

    >>> networks("rnn")[0].shapes["W_xh"]
    ('H', 'D')
    """
    if cell not in NETWORKS:
        raise UserError(f"there is no reference for a cell {cell!r}, only for {', '.join(NETWORKS)}")
    return list(NETWORKS[cell]())
