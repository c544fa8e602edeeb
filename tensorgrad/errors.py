"""The exceptions tensorgrad raises.

Every class also derives from the built-in exception a NumPy user would expect, so `except ValueError`
keeps working. Messages say what went wrong, where (operation, shapes, scope) and how to mend it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

__all__ = [
    "AnomalyError",
    "CheckpointError",
    "DtypeError",
    "GradientError",
    "GraphError",
    "ShapeError",
    "TensorgradError",
    "UserError",
    "describe",
    "operand_error",
]


class TensorgradError(Exception):
    """Base of every error raised on purpose by tensorgrad."""


class ShapeError(TensorgradError, ValueError, IndexError):
    """Shapes, axes or indices do not fit the operation."""


class DtypeError(TensorgradError, TypeError):
    """A dtype or type that the operation or a gradient cannot have."""


class GraphError(TensorgradError, RuntimeError):
    """The recorded graph cannot answer what was asked of it."""


class AnomalyError(TensorgradError, FloatingPointError):
    """The first NaN or infinity, found by `detect_anomaly`."""


class GradientError(TensorgradError, AssertionError):
    """A gradient differs from the one it was checked against."""


class CheckpointError(TensorgradError, ValueError):
    """A checkpoint file is missing, damaged, or of another model."""


class UserError(TensorgradError, ValueError):
    """A mistake made at the terminal: one sentence, exit status 2."""


def describe(operands: Iterable[Any]) -> str:
    """One phrase for each operand: shape and dtype of arrays, the value of anything else."""
    words = []
    for operand in operands:
        shape, name = getattr(operand, "shape", None), getattr(operand, "name", None)
        given = f"{name} " if isinstance(name, str) else ""
        words.append(repr(operand) if shape is None else f"{given}{tuple(shape)} {operand.dtype}")
    return ", ".join(words)


def operand_error(
    op: str, operands: Iterable[Any], params: dict[str, Any], scope: str, cause: BaseException
) -> TensorgradError:
    """The error for an operation whose NumPy forward raised: reason inside, place and shapes around it."""
    where = f" in scope {scope!r}" if scope else ""
    given = "".join(f", {key}={value!r}" for key, value in params.items() if value is not None)
    kind: type[TensorgradError] = DtypeError if isinstance(cause, (TypeError, OverflowError)) else ShapeError
    return kind(f"{op}{where}: {cause}. Operands: {describe(operands)}{given}")
