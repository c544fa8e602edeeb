"""Recurrent layers: any cell stacked, in both directions, regularised."""

from __future__ import annotations

import numbers
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import nullcontext
from typing import Any

import numpy as np

from tensorgrad import functional as F
from tensorgrad import tree
from tensorgrad.context import context
from tensorgrad.errors import GraphError, ShapeError
from tensorgrad.nn.layers import positive
from tensorgrad.nn.module import Module, Parameter
from tensorgrad.nn.unroll import Unrolled, alive_steps, unroll_alive
from tensorgrad.ops import broadcast_to, concatenate, where
from tensorgrad.random import Seed, as_generator, draw
from tensorgrad.recording import label, scope
from tensorgrad.tensor import Tensor

__all__ = ["Recurrent", "UnrolledLayers"]

Cell = Callable[[Any, Any], tuple[Any, Any]]


class UnrolledLayers(Unrolled):
    """The run of stacked layers over a sequence.

    outputs: those of the last layer, (T, B, H), with two directions (T, B, 2H).
    state: as the layers give it.
    layers: the run of each layer and direction by name: "l0", "l0_reverse", "l1", ...
    steps: for each timestep the tensors that the cells labelled: "h" where there is one layer and direction,
        otherwise "l0.h".
    """

    def __init__(self, outputs: Any, state: Any, layers: dict[str, Unrolled]) -> None:
        runs = list(layers.values())
        steps: Sequence[dict[str, Any]]
        if len(layers) == 1:
            steps = runs[0].steps
        else:
            # While a function is compiled T is not known, and a step is made when it is asked for.
            each = _LayerSteps(layers)
            steps = each if context().tracer is not None else list(each)
        super().__init__([], state, steps)
        self._stacked = outputs
        self.layers = layers


class _LayerSteps(Sequence[dict[str, Any]]):
    """For each timestep the tensors that the cells of all layers labelled."""

    def __init__(self, layers: dict[str, Unrolled]) -> None:
        self.layers = layers

    def __len__(self) -> int:
        return len(next(iter(self.layers.values())))

    def __getitem__(self, t: Any) -> Any:
        return {f"{name}.{key}": x for name, run in self.layers.items() for key, x in run.steps[t].items()}

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return (self[t] for t in range(len(self)))


class Recurrent(Module):
    """Layers of any cell, each reading the outputs of the one below.

    make_cell: called with the input size of each layer, and direction, for its cell. The size of a cell's
        outputs is its `output_size` if it has one, else its `hidden_size`.
    input_size: D. num_layers: how many layers.
    bidirectional: in every layer a second cell reads the sequence from its end to its start; the outputs of
        both stand side by side.
    dropout: in training, the probability of zeroing each input of a layer above the first; variational: the
        same ones at all timesteps of a sequence.
    recurrent_dropout: the probability of zeroing, in training, each unit of the state (of its first part, h,
        if it has several) on its way into the next step; the same ones at all timesteps.
    zoneout: in training, the probability with which each unit of the state keeps its value of the step
        before; in evaluation the expected value is taken. One number, or a tree like the cell's state.
    learned_state: the state before the first step is trained, and starts at what the cell starts from.
    seed: for what dropout and zoneout draw.
    Raises ValueError for a size or probability out of its range, and for recurrent_dropout of a cell that
    carries h itself on, such as a GRU; GraphError where make_cell returns something else.
    Sources: Schuster, Paliwal, "Bidirectional Recurrent Neural Networks" (1997); Zaremba, Sutskever, Vinyals,
    "Recurrent Neural Network Regularization" (2014) for dropout; Gal, Ghahramani, "A Theoretically Grounded
    Application of Dropout in Recurrent Neural Networks" (2016) for the variational kinds; Krueger et al.,
    "Zoneout" (2017).

    >>> from tensorgrad import nn
    >>> net = nn.Recurrent(lambda D: nn.make_cell("mgu", D, 4, seed=0), 3, num_layers=2, bidirectional=True)
    >>> outputs, state = net(np.ones((5, 2, 3)))
    >>> outputs.shape, len(state), state[0].shape
    ((5, 2, 8), 4, (2, 4))
    """

    def __init__(
        self,
        make_cell: Callable[[int], Any],
        input_size: int,
        num_layers: int = 1,
        *,
        bidirectional: bool = False,
        dropout: float = 0.0,
        variational: bool = False,
        recurrent_dropout: float = 0.0,
        zoneout: Any = 0.0,
        learned_state: bool = False,
        seed: Seed = None,
    ) -> None:
        owner = type(self).__name__
        positive(owner, input_size=input_size, num_layers=num_layers)
        for name, p in (("dropout", dropout), ("recurrent_dropout", recurrent_dropout)):
            _check_probability(owner, name, p)
        for p in tree.leaves(zoneout):
            _check_probability(owner, "zoneout", p)
        self.input_size = input_size
        self.num_layers = num_layers
        self.bidirectional = bidirectional
        self.dropout = dropout
        self.variational = variational
        self.recurrent_dropout = recurrent_dropout
        self.zoneout = tree.map(float, zoneout)
        self.rng = as_generator(seed)
        directions = ("", "_reverse") if bidirectional else ("",)
        self.cells: dict[str, Any] = {}
        size = input_size
        for layer in range(num_layers):
            for direction in directions:
                self.cells[f"l{layer}{direction}"] = cell = make_cell(size)
                self._check_cell(cell)
            size = len(directions) * getattr(cell, "output_size", cell.hidden_size)
        self.hidden_size = cell.hidden_size
        self.output_size = size
        self.initial = {name: _start(cell) for name, cell in self.cells.items()} if learned_state else None
        for name, parameter in self.named_parameters():
            parameter.name = name

    def _check_cell(self, cell: Any) -> None:
        """Raise unless the cell can be a part of these layers."""
        owner = type(self).__name__
        missing = [name for name in ("input_size", "hidden_size", "initial_state") if not hasattr(cell, name)]
        if missing:
            raise GraphError(
                f"{owner}: make_cell must return a cell with input_size, hidden_size and initial_state(x), "
                f"but a {type(cell).__name__} has no {' and no '.join(missing)}; nn.unroll runs any function"
            )
        if self.recurrent_dropout and getattr(cell, "carries_h", False):
            raise ValueError(
                f"{owner}: a {type(cell).__name__} carries h itself from step to step, so recurrent_dropout "
                "would scale it up again at every step, without bound; use zoneout"
            )
        if getattr(cell, "scaled_state", False) and any(self._rates(cell)[1:]):
            raise ValueError(
                f"{owner}: a {type(cell).__name__} keeps the parts of its state relative to one another, so "
                "zoneout must not mix them; give the first part a rate and the others 0"
            )
        if not isinstance(self.zoneout, float):
            rates = tree.leaves(self.zoneout)
            parts = tree.leaves(cell.initial_state(np.zeros(cell.input_size)))
            if len(rates) != len(parts):
                raise ShapeError(
                    f"{owner}: zoneout has {len(rates)} rates, but the state of the cell has {len(parts)} "
                    "parts"
                )

    def _rates(self, cell: Any) -> list[float]:
        """The rate of zoneout of each part of a cell's state."""
        parts = tree.leaves(cell.initial_state(np.zeros(cell.input_size)))
        return [self.zoneout] * len(parts) if isinstance(self.zoneout, float) else tree.leaves(self.zoneout)

    def members(self) -> Iterable[tuple[str, Any]]:
        """As attributes, but the parameters of a cell follow PyTorch: weight_ih_l0, weight_ih_l0_reverse."""
        yield from ((key, value) for key, value in vars(self).items() if key not in ("cells", "initial"))
        for name, cell in self.cells.items():
            yield f"*_{name}", cell
        for name, start in (self.initial or {}).items():
            yield f"initial_{name}", start

    def initial_state(self, x: Any) -> Any:
        """The state before the first step, for an input (B, D) or (D,): a tuple with one of each cell."""
        return tuple(self._initial(name, x) for name in self.cells)

    def _initial(self, name: str, x: Any) -> Any:
        zeros = self.cells[name].initial_state(x)
        if self.initial is None:
            return zeros
        return tree.map(lambda p, z: broadcast_to(p, z.shape), self.initial[name], zeros)

    def forward(
        self,
        xs: Any,
        state: Any = None,
        lengths: Any = None,
        reverse: bool = False,
        checkpoint: int | str | None = None,
    ) -> tuple[Any, Any]:
        """The outputs of the last layer and the state of all after the last timestep.

        The arguments are those of `unroll`.
        """
        run = self.unroll(xs, state, lengths, reverse, checkpoint)
        return run.outputs, run.state

    def unroll(
        self,
        xs: Any,
        state: Any = None,
        lengths: Any = None,
        reverse: bool = False,
        checkpoint: int | str | None = None,
    ) -> UnrolledLayers:
        """Run all layers over a sequence and keep what the cells labelled.

        xs: (T, B, D) or (T, D). state: like `initial_state`; None for that.
        lengths, checkpoint: as for `nn.unroll`. reverse: all layers go from the last timestep to the first.
        Raises ShapeError for inputs, lengths or a state that do not fit, ValueError for reverse with two
        directions.
        """
        if reverse and self.bidirectional:
            raise ValueError(f"{type(self).__name__}: it reads in both directions already; leave reverse out")
        xs = xs if isinstance(xs, Tensor) else Tensor(np.array(xs))
        alive = None if lengths is None else self._alive(lengths, xs)
        return self._unroll(xs, state, alive, reverse, checkpoint)

    def _alive(self, lengths: Any, xs: Tensor) -> np.ndarray:
        if xs.ndim != 3:
            raise ShapeError(f"{type(self).__name__}: lengths go with a batch (T, B, D), not with {xs.shape}")
        return alive_steps(lengths, xs)

    def _unroll(
        self,
        xs: Tensor,
        state: Any,
        alive: np.ndarray | None,
        reverse: bool = False,
        checkpoint: int | str | None = None,
    ) -> UnrolledLayers:
        if xs.ndim not in (2, 3) or not len(xs) or xs.shape[-1] != self.input_size:
            raise ShapeError(
                f"{type(self).__name__}: the input must be (T, B, {self.input_size}) or "
                f"(T, {self.input_size}) with at least one timestep, not {xs.shape}"
            )
        before = dict(zip(self.cells, self._split(state, xs[0]), strict=True))
        runs: dict[str, Unrolled] = {}
        for layer in range(self.num_layers):
            if layer:
                xs = self._dropped_between(xs)
            names = [name for name in self.cells if name.partition("_")[0] == f"l{layer}"]
            for name in names:
                cell = self._regularised(self.cells[name], before[name])
                backwards = reverse or name.endswith("_reverse")
                with scope(name) if len(self.cells) > 1 else nullcontext():
                    runs[name] = unroll_alive(cell, xs, before[name], alive, backwards, checkpoint)
            outputs = [runs[name].outputs for name in names]
            xs = outputs[0] if len(outputs) == 1 else concatenate(outputs, axis=-1)
        return UnrolledLayers(xs, self._join([run.state for run in runs.values()]), runs)

    def _split(self, state: Any, x: Any) -> Iterable[Any]:
        """The state of each cell before the first step, from one for all of them."""
        if state is None:
            return self.initial_state(x)
        if not isinstance(state, (tuple, list)) or len(state) != len(self.cells):
            found = f"{len(state)} of them" if isinstance(state, (tuple, list)) else type(state).__name__
            raise ShapeError(
                f"{type(self).__name__}: the state is a tuple with the states of {len(self.cells)} cells "
                f"({', '.join(self.cells)}), not {found}"
            )
        return state

    def _join(self, states: list[Any]) -> Any:
        """One state for all cells."""
        return tuple(states)

    def _dropped_between(self, xs: Any) -> Any:
        if not self.training or not self.dropout:
            return xs
        shape = xs.shape[1:] if self.variational else xs.shape
        return xs * F.dropout(np.ones(shape, xs.dtype), self.dropout, True, self.rng)

    def _regularised(self, cell: Cell, state: Any) -> Cell:
        """The cell with dropout on its way in and zoneout on its way out, for one sequence."""
        if self.training and self.recurrent_dropout:
            h = tree.leaves(state)[0]
            cell = _dropping(
                cell,
                F.dropout(
                    np.ones(np.shape(h), getattr(h, "dtype", float)), self.recurrent_dropout, True, self.rng
                ),
            )
        if any(tree.leaves(self.zoneout)):
            cell = _zoning_out(cell, self.zoneout, self.training, self.rng)
        return cell

    def extra_repr(self) -> str:
        marks = [f"{self.input_size}", f"{self.hidden_size}", f"num_layers={self.num_layers}"]
        for name in ("bidirectional", "dropout", "variational", "recurrent_dropout", "zoneout"):
            value = getattr(self, name)
            if value:
                marks.append(f"{name}={value}")
        return ", ".join(marks + (["learned_state=True"] if self.initial else []))


def _check_probability(owner: str, name: str, p: Any) -> None:
    if not isinstance(p, numbers.Real) or not 0 <= float(p) <= 1:
        raise ValueError(f"{owner}: {name} is a probability, 0 to 1, not {p!r}")


def _start(cell: Any) -> Any:
    """Parameters for the state before the first step, without a batch axis."""
    x = np.zeros(cell.input_size)
    return tree.map(lambda leaf: Parameter(leaf), cell.initial_state(x))


def _dropping(cell: Cell, mask: Any) -> Cell:
    """The cell with the first part of its state masked on the way in."""

    def step(x: Any, state: Any) -> tuple[Any, Any]:
        leaves, structure = tree.flatten(state)
        return cell(x, tree.unflatten(structure, [leaves[0] * mask, *leaves[1:]]))

    return step


def _zoning_out(cell: Cell, zoneout: Any, training: bool, rng: np.random.Generator) -> Cell:
    """The cell with units of its state kept at their values of the step before."""

    def mixed(new: Any, old: Any, p: float) -> Any:
        if not training:
            return p * old + (1 - p) * new
        return where(draw(rng, lambda generator, shape: generator.random(shape) < p, new.shape), old, new)

    def step(x: Any, state: Any) -> tuple[Any, Any]:
        output, after = cell(x, state)
        leaves, structure = tree.flatten(after)
        rates = [zoneout] * len(leaves) if isinstance(zoneout, float) else tree.leaves(zoneout)
        kept = [mixed(*part) for part in zip(leaves, tree.leaves(state), rates, strict=True)]
        for new, old in zip(kept, leaves, strict=True):
            if getattr(old, "name", None):
                # What leaves the step takes over the name under which the cell computed it.
                label(new, old.name)
        # An output that is a part of the state, as h is, stays so.
        for new, old in zip(kept, leaves, strict=True):
            if output is old:
                output = new
        return output, tree.unflatten(structure, kept)

    return step
