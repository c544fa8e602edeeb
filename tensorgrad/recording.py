"""What users say about recording: switch it off, name places and values, look for anomalies."""

from __future__ import annotations

from typing import TypeVar

from tensorgrad.context import configure, context
from tensorgrad.errors import GraphError
from tensorgrad.graph import Node

__all__ = ["detect_anomaly", "enable_grad", "is_recording", "label", "no_grad", "scope"]

N = TypeVar("N")


def no_grad() -> configure:
    """Context manager or decorator: what is computed inside, in this thread or task, keeps no history.

    >>> import tensorgrad as tg
    >>> x = tg.tensor(1.0, requires_grad=True)
    >>> with tg.no_grad():
    ...     (x * 2).requires_grad
    False
    """
    # What is computed inside is a constant to a transform around, gradients by an inner transform included.
    return configure(recording=False, nested=False)


def enable_grad() -> configure:
    """Context manager or decorator: record again inside `no_grad`."""
    return configure(recording=True)


def is_recording() -> bool:
    """Whether results now remember how they were made.

    >>> is_recording()
    True
    """
    return context().recording


class scope(configure):  # noqa: N801 - read as a verb, like every context manager
    """Context manager or decorator: name the place where operations run; scopes nest as "encoder/t=3".

    Errors, anomalies and drawings show it. A timestep is always named "t=<number>".

    >>> import tensorgrad as tg
    >>> with tg.scope("encoder"), tg.scope("t=3"):
    ...     (tg.tensor(1.0, requires_grad=True) * 2).scope
    'encoder/t=3'
    """

    __slots__ = ("_name",)

    def __init__(self, name: str) -> None:
        super().__init__()
        self._name = name

    def __enter__(self) -> None:
        outer = context().scope
        self._changes = {"scope": f"{outer}/{self._name}" if outer else self._name}
        super().__enter__()


def label(x: N, name: str) -> N:
    """Name a Tensor, and return it. Inside `nn.unroll` it becomes part of the step's record.

    Plain arrays pass unnamed, so a labelled cell runs on arrays too. Raises GraphError for a name that is
    empty or no string.

    >>> import tensorgrad as tg
    >>> a = tg.label(tg.tensor(1.0), "a")
    >>> a.name
    'a'
    """
    if not isinstance(name, str) or not name:
        raise GraphError(f"label: a label is a string of at least one character, not {name!r}")
    labels = context().labels
    if labels is not None:
        labels[name] = x
    if isinstance(x, Node):
        x.name = name
    return x


def detect_anomaly() -> configure:
    """Context manager or decorator: raise AnomalyError at the first result or gradient that is not finite.

    The message names the operation, the scope and your source line. For the backward to be watched, both
    the forward and the call of `backward` belong inside.

    >>> import tensorgrad as tg
    >>> with tg.detect_anomaly():
    ...     tg.log(tg.tensor(-1.0))  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    tensorgrad.errors.AnomalyError: the forward of log made NaN ...
    """
    return configure(anomaly=True)
