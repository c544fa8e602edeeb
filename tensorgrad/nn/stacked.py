"""Layers stacked as PyTorch stacks them: RNN, LSTM and GRU."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from tensorgrad import tree
from tensorgrad.errors import ShapeError
from tensorgrad.nn.cells import GRUCell, LSTMCell, RNNCell
from tensorgrad.nn.recurrent import Recurrent
from tensorgrad.ops import getitem, stack
from tensorgrad.random import Seed, as_generator

__all__ = ["GRU", "LSTM", "RNN"]


class _PyTorchLayers(Recurrent):
    """The state as PyTorch has it: each part of it stacked over layers and directions, (L, B, H)."""

    def __init__(
        self, make_cell: Callable[[int], Any], input_size: int, num_layers: int, **options: Any
    ) -> None:
        if "batch_first" in options:
            raise TypeError(
                f"{type(self).__name__}: there is no batch_first; sequences are (T, B, D): swap the first "
                "two axes of the input and of the outputs"
            )
        super().__init__(make_cell, input_size, num_layers, **options)

    def initial_state(self, x: Any) -> Any:
        """The state before the first step, for an input (B, D) or (D,): each part (L, B, H) or (L, H)."""
        return self._join(list(super().initial_state(x)))

    def _split(self, state: Any, x: Any) -> Iterable[Any]:
        if state is None:
            return super().initial_state(x)
        sample = next(iter(self.cells.values()))
        form = sample.initial_state(x)
        L = len(self.cells)
        shapes = [(L, *part.shape) for part in tree.leaves(form)]
        # A list of the parts will do for a tuple, as in PyTorch.
        state = tuple(state) if isinstance(state, list) and isinstance(form, tuple) else state
        parts, structure = tree.flatten(state)
        same = tree.same_structure(structure, tree.flatten(form)[1])
        if not same or [np.shape(part) for part in parts] != shapes:
            what = "a tuple (h, c) of two Tensors" if len(shapes) > 1 else "one Tensor"
            found = [np.shape(part) for part in parts]
            kind = "" if same else f"a {type(state).__name__} of "
            raise ShapeError(
                f"{type(self).__name__}: the state is {what} of shape {shapes[0]}, along axis 0 one for each "
                f"of {', '.join(self.cells)}, not {kind}{found[0] if len(found) == 1 else found}"
            )
        return [tree.map(lambda part, k=k: getitem(part, k), state) for k in range(L)]

    def _join(self, states: list[Any]) -> Any:
        return tree.map(lambda *parts: stack(parts), *states)


class RNN(_PyTorchLayers):
    """Layers of `RNNCell`, with PyTorch's names, shapes and state: `outputs, h_n = rnn(xs, h_0)`.

    xs (T, B, D), outputs (T, B, H) or, bidirectional, (T, B, 2H); h_0 and h_n (L, B, H), where L counts
    layers and directions. Options beyond PyTorch's are those of `Recurrent`.
    Raises as `RNNCell` and `Recurrent` do.

    >>> rnn = RNN(3, 4, num_layers=2, seed=0)
    >>> outputs, h_n = rnn(np.ones((5, 1, 3)))
    >>> outputs.shape, h_n.shape, [name for name, _ in rnn.named_parameters()][:2]
    ((5, 1, 4), (2, 1, 4), ['weight_ih_l0', 'weight_hh_l0'])
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        nonlinearity: str = "tanh",
        bias: bool = True,
        *,
        seed: Seed = None,
        dtype: Any = np.float64,
        **options: Any,
    ) -> None:
        rng = as_generator(seed)

        def make_cell(D: int) -> RNNCell:
            return RNNCell(D, hidden_size, bias, nonlinearity, seed=rng, dtype=dtype)

        super().__init__(make_cell, input_size, num_layers, seed=rng, **options)


class LSTM(_PyTorchLayers):
    """Layers of `LSTMCell`, with PyTorch's names, shapes and state: `outputs, (h_n, c_n) = lstm(xs, (h, c))`.

    forget_bias: see `LSTMCell`. The rest is as for `RNN`.

    >>> outputs, (h_n, c_n) = LSTM(3, 4, bidirectional=True, seed=0)(np.ones((5, 1, 3)))
    >>> outputs.shape, c_n.shape
    ((5, 1, 8), (2, 1, 4))
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        *,
        forget_bias: float | None = None,
        seed: Seed = None,
        dtype: Any = np.float64,
        **options: Any,
    ) -> None:
        rng = as_generator(seed)

        def make_cell(D: int) -> LSTMCell:
            return LSTMCell(D, hidden_size, bias, forget_bias=forget_bias, seed=rng, dtype=dtype)

        super().__init__(make_cell, input_size, num_layers, seed=rng, **options)


class GRU(_PyTorchLayers):
    """Layers of `GRUCell`, with PyTorch's names, shapes and state: `outputs, h_n = gru(xs, h_0)`.

    reset: "after" as in PyTorch, or "before"; see `GRUCell`. The rest is as for `RNN`.

    >>> outputs, h_n = GRU(3, 4, seed=0)(np.ones((5, 1, 3)))
    >>> h_n.shape
    (1, 1, 4)
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        *,
        reset: str = "after",
        seed: Seed = None,
        dtype: Any = np.float64,
        **options: Any,
    ) -> None:
        rng = as_generator(seed)

        def make_cell(D: int) -> GRUCell:
            return GRUCell(D, hidden_size, bias, reset=reset, seed=rng, dtype=dtype)

        super().__init__(make_cell, input_size, num_layers, seed=rng, **options)
