"""What the shipped cells share: sizes, the form of the state, checks, and gates stacked in one matrix."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import numpy as np

from tensorgrad.context import context
from tensorgrad.errors import DtypeError, ShapeError, TensorgradError
from tensorgrad.nn import init
from tensorgrad.nn.layers import positive
from tensorgrad.nn.module import Module, Parameter
from tensorgrad.ops import affine
from tensorgrad.random import Seed, as_generator
from tensorgrad.recording import label

__all__ = ["Cell", "GatedCell", "check_choice"]


def check_choice(cell: Module, option: str, given: str, known: Sequence[str]) -> None:
    """Raise ValueError unless an option of a cell is one of those known."""
    if given not in known:
        *words, last = map(repr, known)
        raise ValueError(
            f"{type(cell).__name__}: {option} must be {', '.join(words)} or {last}, not {given!r}"
        )


class Cell(Module):
    """A cell with `input_size`, `hidden_size`, and a state of one or more Tensors (B, H).

    A subclass names the parts of its state in `state_names` and has a parameter `weight_ih`, or says in
    `dtype` what its numbers are.
    """

    state_names: tuple[str, ...] = ("h",)
    # Whether h reaches the next step by itself, and not through weights alone.
    carries_h = False
    # Whether the parts of the state after the first mean something only together.
    scaled_state = False
    weight_ih: Parameter

    def __init__(self, input_size: int, hidden_size: int) -> None:
        positive(type(self).__name__, input_size=input_size, hidden_size=hidden_size)
        self.input_size = input_size
        self.hidden_size = hidden_size

    @property
    def dtype(self) -> Any:
        """The dtype of the weights, which inputs and states must have too."""
        return self.weight_ih.dtype

    def initial_state(self, x: Any) -> Any:
        """The state before the first step for an input (B, D) or (D,): zeros, one Tensor or a tuple."""
        zeros = np.zeros((*x.shape[:-1], self.hidden_size), self.dtype)
        count = len(self.state_names)
        return zeros if count == 1 else (zeros,) * count

    def parts(self, x: Any, state: Any) -> tuple[Any, ...]:
        """The Tensors of a state (None: the initial one). Raises unless they fit this cell and the input."""
        if state is None:
            state = self.initial_state(x)
        count = len(self.state_names)
        if count == 1:
            state = (state,)
        elif not isinstance(state, tuple) or len(state) != count:
            raise self.wrong_form(state)
        for part in state:
            self.check(x, part)
        return state

    def check(self, x: Any, h: Any) -> None:
        """Raise unless input and state have this cell's sizes, its dtype, and the same batch."""
        try:
            outer, state, dtype = x.shape, h.shape, self.dtype
        except AttributeError:
            raise self.wrong_form(h) from None
        if outer[-1:] != (self.input_size,) or state != (*outer[:-1], self.hidden_size):
            raise self.unfit(
                ShapeError,
                f"expected an input (B, {self.input_size}) and a state (B, {self.hidden_size}) of one B, "
                f"but the input has shape {tuple(outer)} and the state {tuple(state)}",
            )
        if x.dtype != dtype or h.dtype != dtype:
            raise self.unfit(
                DtypeError,
                f"its weights are {dtype}, but the input is {x.dtype} and the state {h.dtype}; "
                f"convert with .astype('{dtype}'), or make the cell with another dtype=",
            )

    def wrong_form(self, state: Any) -> TensorgradError:
        """The error for a state that is another tree."""
        count = len(self.state_names)
        form = (
            "one Tensor (B, H)"
            if count == 1
            else f"a tuple ({', '.join(self.state_names)}) of {count} Tensors (B, H)"
        )
        return self.unfit(ShapeError, f"the state is {form}, not {type(state).__name__}")

    def unfit(self, kind: type[TensorgradError], what: str) -> TensorgradError:
        """An error that names the cell and where it runs."""
        scope = context().scope
        return kind(f"{type(self).__name__}{f' in scope {scope!r}' if scope else ''}: {what}")

    def extra_repr(self) -> str:
        chosen = [
            f", {name}={getattr(self, name)!r}"
            for name, option in inspect.signature(type(self)).parameters.items()
            if isinstance(option.default, str) and getattr(self, name, option.default) != option.default
        ]
        return f"{self.input_size}, {self.hidden_size}{''.join(chosen)}"


class GatedCell(Cell):
    """A cell whose gates are stacked in one matrix for the input and one for the state.

    weight_ih (gates * H, D), weight_hh (gates * H, H), bias_ih and bias_hh (gates * H,), all uniform within
    1 / sqrt(H).
    """

    gates = 1

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        *,
        seed: Seed = None,
        dtype: Any = np.float64,
    ) -> None:
        super().__init__(input_size, hidden_size)
        rng = as_generator(seed)
        rows = self.gates * hidden_size
        bound = float(hidden_size) ** -0.5
        self.weight_ih = Parameter(init.uniform((rows, input_size), bound, rng, dtype))
        self.weight_hh = Parameter(init.uniform((rows, hidden_size), bound, rng, dtype))
        self.bias_ih = Parameter(init.uniform((rows,), bound, rng, dtype)) if bias else None
        self.bias_hh = Parameter(init.uniform((rows,), bound, rng, dtype)) if bias else None

    def preactivation(self, x: Any, h: Any) -> Any:
        """The pre-activations of all gates, labelled "a"."""
        biases = () if self.bias_ih is None else (self.bias_ih, self.bias_hh)
        return label(affine(x, self.weight_ih, h, self.weight_hh, *biases), "a")

    def rows(self, a: Any) -> list[Any]:
        """The share of each gate in what stands stacked on the last axis."""
        H = self.hidden_size
        return [a[..., k * H : (k + 1) * H] for k in range(self.gates)]

    def extra_repr(self) -> str:
        return super().extra_repr() + ("" if self.bias_ih is not None else ", bias=False")
