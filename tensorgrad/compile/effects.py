"""What a function changes outside of itself: gradients, parameters, the progress of optimisers.

While a function is traced, every place outside that it reads or changes has its value here: at first a
stand-in for what will be there when the program runs, then what was put there. Nothing outside changes. What
was read becomes an input of the program, what was changed an output, which is written back after the run.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from tensorgrad.backward import backpropagate
from tensorgrad.compile.places import Count, Gradient, Place, Rate, Slot, Value, settings_of
from tensorgrad.compile.sizes import user_line
from tensorgrad.context import configure
from tensorgrad.errors import GraphError, ShapeError
from tensorgrad.graph import Node
from tensorgrad.op import Op
from tensorgrad.tensor import Tensor

__all__ = ["VERSION", "Assumptions", "Effects"]

VERSION = Op("version", lambda x: x)
"""A parameter after it got a new value. Gradients end here, and belong to the parameter."""


class Effects:
    """The places outside that a traced function reads and changes, with what is in them."""

    def __init__(self, tracer: Any) -> None:
        self.tracer = tracer
        self.places: dict[Any, Place] = {}
        self.entry: dict[Any, Any] = {}
        self.now: dict[Any, Any] = {}
        # Every parameter that got a new value: itself and what stood for it since; and whose each is.
        self.versions: dict[int, list[Any]] = {}
        self.owners: dict[int, Tensor] = {}
        self.optimisers: dict[int, _Progress] = {}
        # Whether gradient rules run: they work with what operands were when the operation ran.
        self.walking = False

    def load(self, place: Place) -> Any:
        """What is in a place now."""
        key = place.key
        if key not in self.now:
            self.places[key] = place
            same = place.shared or place
            if same.key not in self.entry:
                leaf = self._first(same, same.read())
                self.places[same.key] = same
                self.entry[same.key] = leaf
                self.now.setdefault(same.key, leaf)
            self.entry[key] = self.now[key] = self.entry[same.key]
        return self.now[key]

    def _first(self, place: Place, value: Any) -> Any:
        """A stand-in for what is in a place at first; what was made within the function is no secret."""
        if value is None:
            return None
        if place.outside:
            return self.tracer.stand_in(value, place.name, place.is_number)
        return value.item() if place.is_number else self.tracer.array_of(Tensor(value))

    def store(self, place: Place, value: Any) -> None:
        """Put a value there."""
        if self.tracer.loops:
            raise GraphError(
                f"tg.compile: {place.what} changes within nn.unroll, where every timestep is the same"
                f"{user_line()}. Change it after the loop, or carry it in the state"
            )
        self.places[place.key] = place
        self.now[place.key] = value

    # --- parameters ------------------------------------------------------------------------------------
    def current(self, x: Any) -> Any:
        """What stands for a Tensor now."""
        if self.walking or id(x) not in self.versions:
            return x
        return self.versions[id(x)][-1]

    def set_value(self, x: Tensor, value: Any) -> None:
        """`x.data = value`."""
        if isinstance(value, Node):
            new = value if value._value.dtype == x.dtype else value.astype(x.dtype)  # type: ignore[attr-defined]
        else:
            new = Tensor(np.array(value, dtype=x.dtype))
        if new._value.shape != x._value.shape:
            raise ShapeError(f"data of the {x.describe()} cannot become an array of shape {new._value.shape}")
        node = self.tracer.record(VERSION, (new,), {}, new._value, ())
        node.requires_grad = node.retains_grad = x.requires_grad
        node.name, node.hooks = x.name, x.hooks
        self.store(Value(x, self.tracer.is_outside(x)), node)
        self.versions.setdefault(id(x), [x]).append(node)
        self.owners[id(node)] = x

    # --- gradients -------------------------------------------------------------------------------------
    def gradient(self, x: Any) -> Any:
        """`x.grad`."""
        return self.load(self._gradient_of(x))

    def set_gradient(self, x: Any, g: Any) -> None:
        """`x.grad = g`."""
        if g is not None:
            g = self.tracer.array_of(g if isinstance(g, Node) else Tensor(np.array(g)))
        self.store(self._gradient_of(x), g)

    def _gradient_of(self, x: Any) -> Place:
        owner = self.owners.get(id(x), x)
        self.verify_whole([x])
        if self.tracer.is_argument(owner):
            raise GraphError(
                f"tg.compile: the gradient of the argument {owner.name!r} cannot be left in its grad"
                f"{user_line()}. Return it: tg.grad(loss, [{owner.name}]); or take the Tensor from outside, "
                "or as a parameter of a Module"
            )
        return Gradient(owner, self.tracer.is_outside(owner))

    def deposit(self, node: Any, g: Any) -> None:
        """Add a cotangent to a gradient, as a backward walk does."""
        place = self._gradient_of(node)
        before = self.load(place)
        g = self.tracer.as_array(g, node.name)
        self.store(place, g if before is None else before + g)

    def backward(self, output: Any, seed: Any) -> None:
        """`output.backward(seed)`."""
        self._walk(output, seed, None)

    def _walk(self, output: Any, seed: Any, wanted: Sequence[Any] | None) -> dict[int, Any]:
        self.walking, outer = True, self.walking
        try:
            with configure(scope="backward"):
                return backpropagate([(output, seed)], wanted, create_graph=True)
        finally:
            self.walking = outer

    def gradients(self, output: Any, seed: Any, inputs: Sequence[Any]) -> list[Any]:
        """The cotangents of inputs, for each that of all its versions together; None where there is none."""
        self.verify_whole(inputs, output)
        versions = [self.versions.get(id(x), [x]) for x in inputs]
        found = self._walk(output, seed, [v for each in versions for v in each])
        totals: list[Any] = []
        for each in versions:
            shares = [found[v.index] for v in each if v.index in found]
            totals.append(sum(shares[1:], shares[0]) if shares else None)
        return totals

    def verify_whole(self, inputs: Sequence[Any], output: Any = None) -> None:
        """Raise GraphError for a part of a timestep whose gradient would lack what comes by its loop.

        Eager mode's loop goes on from that very value; here it is read from the loop when that has run.
        output: what the gradient is of, if that is known.
        """
        for x in inputs:
            view, loop = self.tracer.views.get(id(x), (None, None))
            if view is not None and (output is None or _leads_to(output, loop, view)):
                raise GraphError(
                    f"tg.compile: the gradient of the {x.describe()} is wanted at one timestep of a compiled "
                    f"loop, which does not tell it{user_line()}. Take the gradient of what goes into the "
                    "loop or of roll.outputs, or call the function itself"
                )

    # --- optimisers ------------------------------------------------------------------------------------
    def progress(self, optimiser: Any) -> _Progress:
        """What of an optimiser changes from step to step."""
        if id(optimiser) not in self.optimisers:
            self.optimisers[id(optimiser)] = _Progress(self, optimiser)
        return self.optimisers[id(optimiser)]

    def verify_optimisers(self) -> None:
        """Raise GraphError for one from outside that keeps what changes elsewhere than in its slots."""
        for each in self._met():
            each.verify()

    def _met(self) -> list[_Progress]:
        return [each for each in self.optimisers.values() if each.outside]

    # --- the sum of it ---------------------------------------------------------------------------------
    def reads(self) -> list[tuple[Place, Any]]:
        """The places that the program reads, each with its stand-in."""
        found: dict[int, tuple[Place, Any]] = {}
        for key, leaf in self.entry.items():
            place = self.places[key]
            if leaf is not None and place.shared is None:
                found[id(leaf)] = place, leaf
        return [(place, leaf) for place, leaf in found.values() if place.outside]

    def writes(self) -> list[tuple[Place, Any]]:
        """The places that it changes, each with what is there at the end."""
        return [
            (self.places[key], value)
            for key, value in self.now.items()
            if self.places[key].outside and not (key in self.entry and self.entry[key] is value)
        ]

    def assumptions(self, tensors: Sequence[Node]) -> Assumptions:
        """What the trace has taken for granted. tensors: those from outside that it used."""
        gradients = [
            (self.places[key], None if leaf is None else (leaf._value.shape, leaf._value.dtype))
            for key, leaf in self.entry.items()
            if isinstance(self.places[key], Gradient) and self.places[key].outside
        ]
        flags = [(x, x.requires_grad, list(x.hooks or ())) for x in tensors]
        optimisers = [(each.optimiser, each.settings, each.groups) for each in self._met()]
        return Assumptions(gradients, flags, optimisers)


def _leads_to(output: Any, loop: Any, view: Any) -> bool:
    """Whether an output depends on a loop in another way than by `view`."""
    todo, seen = [output], {id(view)}
    while todo:
        node = todo.pop()
        if node is loop:
            return True
        if isinstance(node, Node) and id(node) not in seen and node.index > loop.index:
            seen.add(id(node))
            todo += node.operands
    return False


class Assumptions(NamedTuple):
    """What must be as it was when a function was traced, or it must be traced again.

    gradients: which `grad`s were None, and of what shape and dtype the others. flags: whether Tensors require
    gradients, and their hooks. optimisers: their settings, and which parameters have made as many steps.
    """

    gradients: list[tuple[Any, Any]]
    flags: list[tuple[Any, bool, list[Any]]]
    optimisers: list[tuple[Any, Any, list[int]]]

    def hold(self) -> bool:
        """Whether all is as it was."""
        for place, then in self.gradients:
            g = place.owner._grad
            if (g is None) is not (then is None) or (g is not None and (g.shape, g.dtype) != then):
                return False
        for x, requires_grad, hooks in self.flags:
            if x.requires_grad is not requires_grad or ((x.hooks or hooks) and list(x.hooks or ()) != hooks):
                return False
        for optimiser, settings, groups in self.optimisers:
            counts = optimiser.counts
            if settings_of(optimiser) != settings or any(
                counts[k] != counts[r] for k, r in enumerate(groups)
            ):
                return False
        return True


class _Progress:
    """The learning rate, the counts and the state of an optimiser, while a function is traced."""

    def __init__(self, effects: Effects, optimiser: Any) -> None:
        self.effects = effects
        self.optimiser = optimiser
        self.settings = settings_of(optimiser)
        self.attributes = dict(vars(optimiser))
        own = optimiser._progress
        outside = self.outside = own.tracer is not effects.tracer
        # Parameters that made as many steps, which are all of them as a rule, share one count.
        self.groups = [own.counts.index(n) for n in own.counts]
        first = {r: Count(optimiser, outside, r) for r in self.groups}
        counts = [
            first[r] if k == r else Count(optimiser, outside, k, first[r]) for k, r in enumerate(self.groups)
        ]
        self._counts = _Row(effects, counts)
        self.state = {
            slot: _Row(effects, [Slot(optimiser, outside, slot, k) for k in range(len(each))])
            for slot, each in own.state.items()
        }

    @property
    def lr(self) -> Any:
        return self.effects.load(Rate(self.optimiser, self.outside))

    @lr.setter
    def lr(self, value: Any) -> None:
        self.effects.store(Rate(self.optimiser, self.outside), value)

    @property
    def counts(self) -> Any:
        return self._counts

    @counts.setter
    def counts(self, values: Any) -> None:
        for k, n in enumerate(values):
            self._counts[k] = n

    def verify(self) -> None:
        """Raise GraphError if `update` has changed anything but the state."""
        changed = dict(settings_of(self.optimiser)).items() ^ dict(self.settings).items()
        if changed:
            names = ", ".join(sorted({name for name, _ in changed}))
            vars(self.optimiser).clear()
            vars(self.optimiser).update(self.attributes)
            raise GraphError(
                f"tg.compile: {type(self.optimiser).__name__} has changed its {names}; what an optimiser "
                "remembers from step to step belongs in self.state, with its name among the slots"
            )


class _Row(Sequence[Any]):
    """One of the lists of an optimiser's progress."""

    def __init__(self, effects: Effects, places: Sequence[Place]) -> None:
        self.effects = effects
        self.places = places

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, k: Any) -> Any:
        place = self.places[k]
        if isinstance(place, list):
            return [self.effects.load(each) for each in place]
        return self.effects.load(place)

    def __setitem__(self, k: int, value: Any) -> None:
        if isinstance(value, np.ndarray):
            value = self.effects.tracer.array_of(Tensor(np.array(value)))
        self.effects.store(self.places[k], value)

    def __iter__(self) -> Iterator[Any]:
        return (self[k] for k in range(len(self)))
