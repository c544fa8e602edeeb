"""What applies to the operations that run now: the recording context, and the garbage collector's part."""

from __future__ import annotations

import copy
import gc
import threading
from collections.abc import Callable
from contextvars import ContextVar, Token
from functools import wraps
from types import TracebackType
from typing import Any, TypeVar

__all__ = ["Context", "change_context", "collector_paused", "configure", "context"]

F = TypeVar("F", bound=Callable[..., Any])


class Context:
    """What applies to operations run now, in this thread or task. Never changed once made.

    recording: whether results remember how they were made.
    scope: where in the model we are, such as "encoder/t=3".
    anomaly: whether every result is checked for NaN and infinity.
    labels: the dict that `label` fills for the current timestep, if any.
    nested: whether a gradient is being taken of the code that runs, so that inner gradients must record.
    draws: the log of random draws of a checkpointed function, if one runs.
    trace: what is called with every operation run on Tensors, recorded or not: its result, the operation, the
        operands, their arrays and the parameters.
    tracer: what records the operations of a function that is being compiled, if one is.
    """

    __slots__ = ("anomaly", "draws", "labels", "nested", "recording", "scope", "trace", "tracer")

    def __init__(
        self,
        recording: bool = True,
        scope: str = "",
        anomaly: bool = False,
        labels: dict[str, Any] | None = None,
        nested: bool = False,
        draws: Any = None,
        trace: Callable[..., None] | None = None,
        tracer: Any = None,
    ) -> None:
        self.recording = recording
        self.scope = scope
        self.anomaly = anomaly
        self.labels = labels
        self.nested = nested
        self.draws = draws
        self.trace = trace
        self.tracer = tracer

    def changed(self, changes: dict[str, Any]) -> Context:
        """A copy in which some fields differ."""
        new = Context(
            self.recording,
            self.scope,
            self.anomaly,
            self.labels,
            self.nested,
            self.draws,
            self.trace,
            self.tracer,
        )
        for name, value in changes.items():
            setattr(new, name, value)
        return new


_context: ContextVar[Context] = ContextVar("tensorgrad", default=Context())  # noqa: B039 - never mutated
context = _context.get


class configure:  # noqa: N801 - read as a verb, like every context manager
    """Context manager and decorator: change some fields of the current `Context` inside."""

    __slots__ = ("_changes", "_tokens")

    def __init__(self, **changes: Any) -> None:
        self._changes = changes
        self._tokens: list[Token[Context]] = []

    def __enter__(self) -> None:
        self._tokens.append(_context.set(context().changed(self._changes)))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _context.reset(self._tokens.pop())

    def __call__(self, fn: F) -> F:
        @wraps(fn)
        def inside(*args: Any, **kwargs: Any) -> Any:
            # One of its own for each call: calls in several threads must not mix their tokens.
            twin = copy.copy(self)
            twin._tokens = []
            with twin:
                return fn(*args, **kwargs)

        return inside  # type: ignore[return-value]


def change_context(**changes: Any) -> None:
    """Change some fields of the current `Context` until the `configure` around ends."""
    _context.set(context().changed(changes))


class collector_paused:  # noqa: N801 - read as a verb, like every context manager
    """Context manager: Python's cyclic garbage collector does not run on its own inside.

    A graph holds no cycles, so the collector never finds anything in it, but goes through all its nodes
    again and again while it grows: more than half the time of an unrolled RNN at T = 10,000.
    """

    __slots__ = ()

    # For all threads together: the last one out switches it on again.
    _lock = threading.Lock()
    _inside = 0
    _was_on = False

    def __enter__(self) -> None:
        cls = collector_paused
        with cls._lock:
            if not cls._inside:
                cls._was_on = gc.isenabled()
                gc.disable()
            cls._inside += 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        cls = collector_paused
        with cls._lock:
            cls._inside -= 1
            if cls._was_on and not cls._inside:
                gc.enable()
