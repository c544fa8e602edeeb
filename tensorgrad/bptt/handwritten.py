"""A forward and a backward that somebody wrote: what they ask for, return, and leave changed."""

from __future__ import annotations

import dataclasses
import difflib
import inspect
import re
import traceback
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from tensorgrad.errors import UserError

__all__ = ["Handwritten", "Snapshot", "called", "matched"]

Arrays = dict[str, np.ndarray]

STATE = re.compile(r"([A-Za-z]\w*?)0")
LAST = re.compile(r"d([A-Za-z]\w*?)_last")
OPTIONS = {"reduction": ("mean", "sum"), "reset": ("after", "before")}
_PADDING = ("mask", "lengths")
_FORWARD = "forward(params, xs, targets, h0=..., mask=...)"
_BACKWARD = "backward(params, cache, dh_last=...)"


class Handwritten:
    """A forward and a backward, called with what their signatures ask for.

    states: the initial states that forward takes, "h0". padding: "mask", "lengths" or None.
    options: of `OPTIONS` those it takes. last: the states by whose last gradients backward begins, "h".
    Raises UserError for what is no function and for parameters that nothing is known of.
    """

    def __init__(self, forward: Callable[..., Any], backward: Callable[..., Any]) -> None:
        self._forward, self._backward = forward, backward
        names = _parameters("forward", forward, 3, _FORWARD)
        self.states = [name for name in names if STATE.fullmatch(name)]
        self.padding = next((name for name in _PADDING if name in names), None)
        self.options = [name for name in OPTIONS if name in names]
        known = {*self.states, *_PADDING, *OPTIONS}
        _check_known("forward", names, known, "initial states such as h0, mask or lengths, reduction, reset")
        self._backward_names = _parameters("backward", backward, 2, _BACKWARD)
        self.last = [match[1] for name in self._backward_names if (match := LAST.fullmatch(name))]
        known |= {"xs", "targets", *(name for name in self._backward_names if LAST.fullmatch(name))}
        words = "dh_last, dc_last, and whatever forward takes"
        _check_known("backward", self._backward_names, known, words)

    def forward(self, params: Arrays, arguments: Mapping[str, Any]) -> tuple[float, Any]:
        """The loss and the cache. Raises UserError where forward raises or returns something else."""
        rest = dict(arguments)
        returned = called("forward", self._forward, params, rest.pop("xs"), rest.pop("targets"), **rest)
        if not isinstance(returned, tuple) or len(returned) != 2:
            raise UserError(
                f"forward must return (loss, cache), a pair, not {_shown(returned)}; cache is whatever "
                "backward needs"
            )
        loss, cache = returned
        try:
            value = float(np.asarray(loss).reshape(()))
        except (TypeError, ValueError):
            raise UserError(f"the loss that forward returns must be one number, not {_shown(loss)}") from None
        if not np.isfinite(value):
            raise UserError(f"the loss that forward returns is {value}; mend the forward first")
        return value, cache

    def backward(self, params: Arrays, cache: Any, arguments: Mapping[str, Any], last: Arrays) -> Arrays:
        """Copies of the gradients by name. Raises UserError where backward raises or returns no such."""
        pool = {**arguments, **last}
        asked = {name: pool[name] for name in self._backward_names if name in pool}
        return _gradients(called("backward", self._backward, params, cache, **asked))

    def needs(self, state: str) -> bool:
        """Whether backward cannot be called without the gradient of a last state."""
        return self._backward_names[f"d{state}_last"]


def _parameters(what: str, function: Any, leading: int, form: str) -> dict[str, bool]:
    """The names after the leading parameters, and whether they must be given."""
    if not callable(function):
        raise UserError(f"{what} must be a function, {form}, not {_shown(function)}")
    parameters = list(inspect.signature(function).parameters.values())
    positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    if len(positional) < leading:
        given = ", ".join(p.name for p in parameters)
        raise UserError(f"{what} must be called as {form}, but this one is {what}({given})")
    rest = parameters[leading:]
    variadic = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return {p.name: p.default is p.empty for p in rest if p.kind not in variadic}


def _check_known(what: str, names: dict[str, bool], known: set[str], words: str) -> None:
    for name, needed in names.items():
        if needed and name not in known:
            raise UserError(
                f"{what} has a parameter {name!r} that nothing is known of; beyond the first it may take "
                f"{words}, or anything that has a default"
            )


def called(what: str, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """The function's result. Raises UserError, with the line, where it raises.

    >>> called("forward", lambda x: x + 1, 2)
    3
    """
    try:
        # What overflows is reported by name afterwards.
        with np.errstate(all="ignore"):
            return function(*args, **kwargs)
    except Exception as error:
        code = getattr(inspect.unwrap(function), "__code__", None)
        frames = traceback.extract_tb(error.__traceback__)
        lines = [frame.lineno for frame in frames if code and frame.filename == code.co_filename]
        place = f" in line {lines[-1]}" if lines else ""
        raise UserError(f"{what} raised {type(error).__name__}{place}: {error}") from error


def _gradients(returned: Any) -> Arrays:
    if returned is None:
        raise UserError(
            "backward returned None; end it with a return of the gradients as a dict, {'W_hh': dW_hh, ...}"
        )
    if isinstance(returned, Mapping):
        found = dict(returned)
    elif hasattr(returned, "_asdict"):
        found = returned._asdict()
    elif dataclasses.is_dataclass(returned):
        found = {field.name: getattr(returned, field.name) for field in dataclasses.fields(returned)}
    else:
        raise UserError(f"backward must return the gradients as a dict by name, not {_shown(returned)}")
    if isinstance(found.get("params"), Mapping):
        found |= found.pop("params")
    return {str(name): _array(name, value) for name, value in found.items() if value is not None}


def _array(name: Any, value: Any) -> np.ndarray:
    try:
        array = np.array(value)
    except ValueError:
        raise UserError(f"backward's {name} must be one array, not parts of different shapes") from None
    if array.dtype.kind not in "fiu":
        raise UserError(f"backward's {name} must be an array of numbers, not {_shown(value)}")
    if not np.isfinite(array).all():
        place = tuple(int(i) for i in np.argwhere(~np.isfinite(array))[0])
        raise UserError(
            f"backward's {name} is {array[place]} at {place}, though the loss is finite; find where it "
            "divides by zero or overflows first"
        )
    return array


def matched(gradients: Arrays, params: Mapping[str, Any], others: Mapping[str, tuple[int, ...]]) -> None:
    """Check that gradients have names and shapes of tensors, and that those of all parameters are there.

    params: the parameters. others: the shapes of initial states and of records by their names, "h0", "h".
    Raises UserError.

    >>> matched({"dW": np.ones(2), "dh": np.ones((3, 1))}, {"W": np.zeros(2)}, {"h": (3, 1)})
    """
    shapes = {**{name: np.shape(value) for name, value in params.items()}, **others}
    given: dict[str, str] = {}
    for name, g in gradients.items():
        key = name if name in shapes else name.removeprefix("d")
        if key not in shapes:
            names = [*params, *(f"d{other}" for other in others)]
            close = difflib.get_close_matches(name, names, 1)
            hint = f"did you mean {close[0]}?" if close else f"it may return {', '.join(names)}"
            raise UserError(f"backward returns {name!r}, which is no tensor of the network; {hint}")
        if g.shape != shapes[key]:
            swapped = len(g.shape) > 1 and g.shape == shapes[key][::-1]
            hint = "; it is transposed" if swapped else ""
            raise UserError(f"backward's {name} has shape {g.shape} and must have {shapes[key]}{hint}")
        if key in given:
            raise UserError(f"backward returns both {given[key]!r} and {name!r}; return one of them")
        given[key] = name
    missing = [name for name in params if name not in given]
    if missing:
        raise UserError(
            f"backward returns no gradient of {', '.join(missing)}; what it returns is "
            f"{', '.join(gradients) or 'nothing'}"
        )


class Snapshot:
    """The arrays in some values, as they were.

    >>> cache = {"hs": np.zeros(2)}
    >>> before = Snapshot(cache=cache)
    >>> cache["hs"] += 1
    >>> before.changed()
    ["cache['hs']"]
    """

    def __init__(self, **values: Any) -> None:
        self._values = values
        self._before = {path: _bits(array) for path, array in _arrays(values)}

    def changed(self) -> list[str]:
        """The names of those that are not now what they were then."""
        now = {path: _bits(array) for path, array in _arrays(self._values)}
        return [path for path in {**self._before, **now} if now.get(path) != self._before.get(path)]


def _bits(array: np.ndarray) -> tuple[Any, ...]:
    return array.shape, array.dtype.str, array.tobytes()


def _arrays(values: Mapping[str, Any]) -> Iterator[tuple[str, np.ndarray]]:
    """Every array in dicts, lists, tuples and objects, with the expression that reaches it."""
    waiting: list[tuple[str, Any]] = list(values.items())
    seen: set[int] = set()
    while waiting:
        path, value = waiting.pop(0)
        if id(value) in seen:
            continue
        seen.add(id(value))
        if isinstance(value, np.ndarray):
            if value.dtype != object:
                yield path, value
        elif isinstance(value, Mapping):
            waiting += [(f"{path}[{key!r}]", item) for key, item in value.items()]
        elif isinstance(value, (list, tuple)):
            waiting += [(f"{path}[{k}]", item) for k, item in enumerate(value)]
        elif hasattr(value, "__dict__") and not isinstance(value, type) and not callable(value):
            waiting += [(f"{path}.{key}", item) for key, item in vars(value).items()]


def _shown(value: Any) -> str:
    """A value in a sentence."""
    if isinstance(value, np.ndarray):
        return f"an array of {value.dtype} of shape {value.shape}"
    if isinstance(value, tuple):
        return f"a tuple of {len(value)}"
    return f"{type(value).__name__}" if value is not None else "None"
