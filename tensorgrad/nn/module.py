"""`Parameter` and `Module`: what holds the weights, finds them by name, saves and loads them."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, ClassVar, TypeVar

import numpy as np

from tensorgrad import tree
from tensorgrad.errors import GraphError, ShapeError
from tensorgrad.tensor import Tensor

__all__ = ["Module", "Parameter"]

M = TypeVar("M", bound="Module")


class Parameter(Tensor):
    """A Tensor that a Module trains: a leaf that requires a gradient.

    Raises DtypeError for data that is not floating point.

    >>> Parameter([0.0, 1.0]).requires_grad
    True
    """

    __slots__ = ()

    def __init__(self, data: Any, name: str | None = None) -> None:
        super().__init__(np.array(data), True, name)


class Module:
    """A function with parameters. Subclasses set Parameters and Modules as attributes and write `forward`.

    Lists, tuples and dicts of Parameters and Modules are found too. `training` tells layers such as
    Dropout what to do.

    >>> class Scale(Module):
    ...     def __init__(self):
    ...         self.factor = Parameter([2.0])
    ...     def forward(self, x):
    ...         return x * self.factor
    >>> [name for name, _ in Scale().named_parameters()]
    ['factor']
    """

    training = True

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """What the module computes."""
        raise TypeError(f"{type(self).__name__} does not say how to compute: give it a forward method")

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.forward(*args, **kwargs)

    def __setattr__(self, name: str, value: Any) -> None:
        if isinstance(value, Parameter):
            # Errors and drawings then call a parameter by the name of its attribute.
            if value.name is None:
                value.name = name
        elif isinstance(value, Tensor) and value.requires_grad and value.is_leaf:
            raise GraphError(
                f"{type(self).__name__}.{name}: a Tensor that a Module trains must be a Parameter, or it "
                "would be neither found nor saved; write nn.Parameter(data)"
            )
        elif isinstance(vars(self).get(name), Parameter) and value is not None:
            raise GraphError(
                f"{type(self).__name__}.{name} is a Parameter and can only be replaced by another; to give "
                f"it new values write .{name}.data = ..."
            )
        super().__setattr__(name, value)

    # --- finding parameters ------------------------------------------------------------------------------
    def members(self) -> Iterable[tuple[str, Any]]:
        """What the module holds, by name: its attributes. A subclass may name things otherwise.

        A name with a star stands for the names of what is inside: a cell held as "*_l0" has its weight_ih
        found as weight_ih_l0.
        """
        return vars(self).items()

    def named_modules(self, prefix: str = "") -> Iterator[tuple[str, Module]]:
        """This module and all within it, with dotted paths; a module found twice comes once."""
        seen: set[int] = set()
        for name, value in _members(self, prefix, Module):
            if id(value) not in seen:
                seen.add(id(value))
                yield name.replace("*_", ""), value

    def named_parameters(self, prefix: str = "") -> Iterator[tuple[str, Parameter]]:
        """All parameters with their dotted names; a shared one comes once, under its first name."""
        seen: set[int] = set()
        for name, value in _members(self, prefix, Parameter):
            if id(value) not in seen:
                seen.add(id(value))
                yield name, value

    def parameters(self) -> list[Parameter]:
        """All parameters, each once."""
        return [parameter for _, parameter in self.named_parameters()]

    def zero_grad(self) -> None:
        """Forget the gradients of all parameters."""
        for parameter in self.parameters():
            parameter.grad = None

    # --- modes -------------------------------------------------------------------------------------------
    def train(self: M, mode: bool = True) -> M:
        """Put this module and all within it into training mode; returns the module itself."""
        for _, module in self.named_modules():
            _set_mode(module, mode)
        return self

    def eval(self: M) -> M:
        """Put this module and all within it into evaluation mode; returns the module itself."""
        return self.train(False)

    @contextmanager
    def evaluating(self) -> Iterator[None]:
        """Context manager: evaluation mode inside, and afterwards each module in the mode it was in before.

        >>> module = Module()
        >>> with module.evaluating():
        ...     module.training
        False
        >>> module.training
        True
        """
        modes = [(module, module.training) for _, module in self.named_modules()]
        self.eval()
        try:
            yield
        finally:
            for module, training in modes:
                _set_mode(module, training)

    # --- saving and loading ------------------------------------------------------------------------------
    def state_dict(self) -> dict[str, np.ndarray]:
        """A copy of every parameter by its dotted name; a shared one appears under each of its names."""
        return {name: value._value.copy() for name, value in _members(self, "", Parameter)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Set all parameters from arrays by name, cast to each parameter's dtype.

        Raises ShapeError listing every missing, extra or misshapen name; then nothing has been changed.
        """
        mine = dict(_members(self, "", Parameter))
        problems = [f"missing {name!r} of shape {p.shape}" for name, p in mine.items() if name not in state]
        problems += [
            f"unexpected {name!r} of shape {np.shape(v)}" for name, v in state.items() if name not in mine
        ]
        problems += [
            f"{name!r} should have shape {p.shape} but has {np.shape(state[name])}"
            for name, p in mine.items()
            if name in state and np.shape(state[name]) != p.shape
        ]
        first: dict[int, str] = {}
        for name, p in mine.items():
            other = first.setdefault(id(p), name)
            if name in state and other in state and not np.array_equal(state[name], state[other]):
                problems.append(f"{other!r} and {name!r} are one parameter here, but different ones there")
        if problems:
            raise ShapeError(f"these weights are not of this {type(self).__name__}: " + "; ".join(problems))
        arrays = {name: np.array(state[name], dtype=p.dtype) for name, p in mine.items()}
        for name, p in mine.items():
            p.data = arrays[name]

    # --- showing -----------------------------------------------------------------------------------------
    def extra_repr(self) -> str:
        """The facts shown in parentheses; subclasses say theirs."""
        return ""

    def __repr__(self) -> str:
        lines = [f"{type(self).__name__}({self.extra_repr()}"]
        for name, value in self.members():
            if isinstance(value, Module):
                lines.append(f"  {name.replace('*_', '')}: " + repr(value).replace("\n", "\n  "))
        return "\n".join(lines) + ("\n)" if len(lines) > 1 else ")")

    # What a notebook shows. The pictures stand above and set it.
    _repr_html_: ClassVar[Callable[[Module], str]]


def _set_mode(module: Module, training: bool) -> None:
    """Training is what the class says: back in it, a module holds what it held before, no more."""
    vars(module).pop("training", None)
    if module.training != training:
        module.training = training


def _members(value: Any, path: str, kind: type) -> Iterator[tuple[str, Any]]:
    """Everything of a kind within a value, with dotted paths; not inside what is of the kind Parameter."""
    if isinstance(value, kind):
        yield path, value
    if isinstance(value, Module):
        items: Any = value.members()
    elif isinstance(value, dict):
        items = value.items()
    elif isinstance(value, (list, tuple)):
        items = enumerate(value)
    else:
        return
    for key, member in items:
        yield from _members(member, _inside(path, str(key)), kind)


def _inside(path: str, key: str) -> str:
    """The path of a member: "cell" and "bias" give "cell.bias", "*_l0" and "bias" give "bias_l0"."""
    if "*" in path:
        return path.replace("*", key)
    return f"{path}.{key}" if path else key


def _replaced(value: Any, new: Mapping[int, Any]) -> Any:
    """A copy of a module in which parameters (by identity) stand replaced."""
    if isinstance(value, Parameter):
        return new[id(value)]
    if isinstance(value, Module):
        twin = copy.copy(value)
        for key, member in vars(value).items():
            vars(twin)[key] = _replaced(member, new)
        return twin
    if isinstance(value, dict):
        return {key: _replaced(member, new) for key, member in value.items()}
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(_replaced(member, new) for member in value))
    if type(value) in (list, tuple):
        return type(value)(_replaced(member, new) for member in value)
    return value


def _split(module: Module) -> tuple[tuple[str, ...], list[Any], Callable[[list[Any]], Any]]:
    """A Module as a tree of its parameters: rebuilt with the same ones it is the module itself."""
    names, parameters = zip(*module.named_parameters(), strict=True) if module.parameters() else ((), ())

    def build(children: list[Any]) -> Module:
        if all(child is p for child, p in zip(children, parameters, strict=True)):
            return module
        twin: Module = _replaced(module, {id(p): c for p, c in zip(parameters, children, strict=True)})
        return twin

    return names, list(parameters), build


tree.register(Module, _split)
