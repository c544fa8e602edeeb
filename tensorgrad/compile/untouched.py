"""What a function changes outside of itself while it is traced: put back, and refused."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from operator import is_
from types import TracebackType
from typing import Any

import numpy as np

from tensorgrad.compile.surroundings import MISSING, Surroundings, called, containers, is_users, wrapped
from tensorgrad.errors import GraphError
from tensorgrad.nn.module import Module
from tensorgrad.random import as_generator

__all__ = ["untouched"]

_ONCE = "which a compiled program would not do again. Return the value, and keep it outside"
_MANY = 1 << 26


class untouched:  # noqa: N801 - read as a verb, like every context manager
    """Context manager: what changes outside of a function is put back, and an error.

    around: what it sees. arguments: the trees that it is given, with their names. who, why: for the error.
    Arrays are looked at up to 64 MiB in all.
    """

    def __init__(
        self,
        fn: Any,
        around: Surroundings,
        arguments: Sequence[tuple[str, Any]] = (),
        who: str = "function",
        why: str = _ONCE,
    ) -> None:
        self.who = f"the {who}{_defined(fn)}"
        self.why = why
        self.variables = around.variables()
        # Those of modules hold attributes, and are known by the path of the module.
        self.paths: dict[int, str] = {}
        found = [(c, name) for name, tree in arguments for c in containers(tree)]
        given = {id(tree): name for name, tree in arguments}
        for module in around.modules():
            label = called(around.labels[id(module)]) or given.get(id(module)) or type(module).__name__
            self.paths.update((id(vars(part)), path) for path, part in module.named_modules(label))
            found += [(c, f"a {type(c).__name__} of {label}") for c in containers(module)]
        found += [(c, called(label)) for c, label in around.containers]
        held = {id(c): (c, c.copy(), label) for c, label in found if not isinstance(c, tuple)}
        self.held = list(held.values())
        self.arrays: list[tuple[Any, bytes, Any]] = []
        room = _MANY
        for array, label in {id(a): (a, label) for a, label in around.arrays}.values():
            if array.flags.writeable and not array.dtype.hasobject and array.nbytes <= room:
                room -= array.nbytes
                self.arrays.append((array, array.tobytes(), label))
        self.drawn = [(get, put, get()) for get, put in _states(around)]

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        changed = Surroundings.restore(self.variables)
        for now, then, label in self.held:
            if len(now) == len(then) and all(map(is_, _items(now), _items(then))):
                continue
            path = self.paths.get(id(now))
            if path is None:
                changed.append(label or f"a {type(now).__name__} among the arguments")
            else:
                names = [k for k in {**now, **then} if now.get(k, MISSING) is not then.get(k, MISSING)]
                changed += [f"{path}.{k}" for k in names] or [f"the order of {path}'s attributes"]
            now.clear()
            now.extend(then) if hasattr(now, "extend") else now.update(then)
        for array, before, label in self.arrays:
            if array.tobytes() != before:
                array[...] = np.frombuffer(before, array.dtype).reshape(array.shape)
                changed.append(called(label) or "an array")
        drawn = [put(then) for get, put, then in self.drawn if repr(get()) != repr(then)]
        if error is not None:
            return
        if changed:
            what = ", ".join(dict.fromkeys(changed))
            raise GraphError(f"tg.compile: {self.who} gives {what} a new value outside of itself, {self.why}")
        if drawn:
            raise GraphError(
                f"tg.compile: {self.who} draws random numbers from a generator itself, which a compiled "
                "program would not do again. Draw them by tg.random.draw, or outside; give layers "
                "that are made within a seed"
            )


def _items(container: Any) -> list[Any]:
    return [*container, *container.values()] if isinstance(container, dict) else container


def _defined(fn: Any) -> str:
    """Where a function begins, as " at file:line", if the user wrote it."""
    while (inner := fn.func if isinstance(fn, partial) else wrapped(fn)) is not None:
        fn = inner
    if isinstance(fn, Module):
        fn = fn.forward
    elif not hasattr(fn, "__code__"):
        fn = type(fn).__call__
    code = getattr(fn, "__code__", None)
    return f" at {code.co_filename}:{code.co_firstlineno}" if code is not None and is_users(fn) else ""


def _states(around: Surroundings) -> Iterator[tuple[Callable[[], Any], Callable[[Any], None]]]:
    """What gives the state of each random generator that is seen, and what sets it."""
    for each in around.generators:
        if isinstance(each, random.Random):
            yield each.getstate, each.setstate
        elif isinstance(each, np.random.RandomState):
            yield each.get_state, each.set_state
        else:
            bits = each.bit_generator
            yield partial(getattr, bits, "state"), partial(setattr, bits, "state")
    package = as_generator(None).bit_generator
    yield partial(getattr, package, "state"), partial(setattr, package, "state")
    # Those of NumPy and Python themselves, only if they may be meant: other threads draw from them too.
    if "random" in around.attributes or any(v is random for v in around.values()):
        yield np.random.get_state, np.random.set_state
        yield random.getstate, random.setstate
