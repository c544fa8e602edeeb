"""What is read from a loop when it has run: its labelled tensors and its states, timestep by timestep."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from tensorgrad import tree
from tensorgrad.compile.sizes import SizeUnknown, user_line
from tensorgrad.graph import Node
from tensorgrad.ops import broadcast_to

__all__ = ["States", "Steps", "stacked"]


def stacked(loop: Any, output: Any) -> Any:
    """A node of the body of a `Staged` loop, or one that is the same at every step, for all timesteps."""
    if id(output) in loop.inside:
        return loop.stack(output)
    # The same at every step.
    return broadcast_to(output, (loop.length, *output._value.shape))


def _at(loop: Any, x: Any, t: Any) -> Any:
    """What a node of the body is at one timestep."""
    out = stacked(loop, x)[t]
    loop.tracer.views[id(out)] = out, loop.node
    return out


class Steps(Sequence[dict[str, Any]]):
    """The labelled tensors of every timestep, read from the loop when they are asked for."""

    def __init__(self, loop: Any, labels: dict[str, Any], output: Any) -> None:
        self.loop = loop
        self.labels = {**labels, "output": output} if isinstance(output, Node) else labels

    def __len__(self) -> int:
        if self.loop.length in self.loop.tracer.free:
            raise SizeUnknown(f"len() of a free length{user_line()}")
        return self.loop.length

    def __getitem__(self, t: Any) -> Any:
        return {name: _at(self.loop, x, t) for name, x in self.labels.items()}

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return (self[t] for t in range(len(self)))


class States(Sequence[Any]):
    """The state before the first step and after each, in the order of the run."""

    def __init__(self, loop: Any, structure: Any, first: Any) -> None:
        self.loop = loop
        self.structure = structure
        # As it was given.
        self.first = first

    def __len__(self) -> int:
        if self.loop.length in self.loop.tracer.free:
            raise SizeUnknown(f"len() of a free length{user_line()}")
        return self.loop.length + 1

    def __getitem__(self, k: Any) -> Any:
        if isinstance(k, slice):
            return [self[i] for i in range(*k.indices(len(self)))]
        if k == 0 or (k < 0 and k == -len(self)):
            return self.first
        if k == -1:
            finals = [self.loop.final(n) for n in range(len(self.loop.carries))]
            return tree.unflatten(self.structure, finals)
        after = k - 1 if k > 0 else k
        t = -1 - after if self.loop.reverse else after
        return tree.unflatten(self.structure, [_at(self.loop, end, t) for *_, end in self.loop.carries])

    def __iter__(self) -> Iterator[Any]:
        return (self[k] for k in range(len(self)))
