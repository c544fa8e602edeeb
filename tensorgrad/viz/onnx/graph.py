"""An ONNX graph in the making, and what a recorded operation needs to become a part of it.

Nothing here imports onnx: a graph is nodes, constants and names until `export.py` writes it down.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

__all__ = ["Call", "Dims", "Graph", "OnnxNode"]

Dims = tuple[Any, ...]
"""The lengths of axes: a number, a name such as "B" for one that is free, None for one nobody knows."""


@dataclass(slots=True)
class OnnxNode:
    """A node of an ONNX graph.

    Attributes:
        op_type: its operation, one of ONNX.
        inputs: the names of the values that it reads.
        outputs: those of its results.
        attributes: a NumPy dtype stands for the type of numbers, a Graph for a graph within this one.
        name: its own, by default that of its first result.
        doc: what it is, in words.
    """

    op_type: str
    inputs: list[str]
    outputs: list[str]
    attributes: dict[str, Any] = field(default_factory=dict)
    name: str = ""
    doc: str = ""


class Graph:
    """A graph and the names in it.

    Attributes:
        title: its name.
        doc: what it is, in words.
        inputs, outputs: the names of the values that go in and come out.
        nodes: operands before results.
        constants: arrays by name.
        dims: by name the axes of the values that a user looks for, and their dtype.
    """

    def __init__(self, title: str, doc: str, taken: Iterable[str] = ()) -> None:
        self.title = title
        self.doc = doc
        self.inputs: list[str] = []
        self.outputs: list[str] = []
        self.nodes: list[OnnxNode] = []
        self.constants: dict[str, np.ndarray] = {}
        self.dims: dict[str, tuple[Dims, np.dtype[Any]]] = {}
        self.taken = set(taken)
        self._known: dict[Any, str] = {}

    def name(self, wish: str) -> str:
        """A name that no other value of this graph has: the wish itself, or with a number behind it.

        Example:
            >>> graph = Graph("cell", "")
            >>> graph.name("h"), graph.name("h")
            ('h', 'h_2')
        """
        numbered = itertools.chain([wish], (f"{wish}_{n}" for n in itertools.count(2)))
        name = next(each for each in numbered if each not in self.taken)
        self.taken.add(name)
        return name

    def node(self, op_type: str, inputs: Iterable[str], wish: str, **attributes: Any) -> str:
        """Add a node with one result; returns the name of the result."""
        name = self.name(wish)
        self.nodes.append(OnnxNode(op_type, list(inputs), [name], attributes))
        return name

    def constant(self, array: np.ndarray, wish: str) -> str:
        """The name of a constant; equal ones that wish for the same name are one."""
        key = (wish, array.shape, array.dtype.str, array.tobytes())
        if key not in self._known:
            name = self._known[key] = self.name(wish)
            self.constants[name] = array
        return self._known[key]


class Call:
    """One recorded operation on its way into a graph.

    Attributes:
        args: the arrays it was run on.
        ans: the array it gave.
        params: its static parameters.
    """

    def __init__(
        self,
        graph: Graph,
        name: str,
        args: tuple[np.ndarray, ...],
        ans: np.ndarray,
        params: dict[str, Any],
        name_of: Callable[[np.ndarray], str | None],
    ) -> None:
        self.args = args
        self.ans = ans
        self.params = params
        self._graph = graph
        self._name = name
        self._name_of = name_of

    def is_computed(self, argnum: int) -> bool:
        """Whether an operand is anything but an array of the cell's own."""
        return self._name_of(self.args[argnum]) is not None

    def operand(self, argnum: int, dtype: Any = None) -> str:
        """The name of an operand, in another dtype if one is given."""
        array = self.args[argnum]
        name = self._name_of(array)
        if name is None:
            return self.constant(array if dtype is None else array.astype(dtype))
        if dtype is None or array.dtype == dtype:
            return name
        return self.node("Cast", name, to=np.dtype(dtype))

    def operands(self, dtype: Any = None) -> list[str]:
        """The names of all operands."""
        return [self.operand(argnum, dtype) for argnum in range(len(self.args))]

    def node(self, op_type: str, *inputs: str, **attributes: Any) -> str:
        """Add a node; returns the name of its result."""
        return self._graph.node(op_type, inputs, f"{self._name}.{op_type}", **attributes)

    def constant(self, array: np.ndarray) -> str:
        """The name of a constant; a number is called by its value."""
        number = array.ndim == 0 and array.dtype.kind in "iuf"
        return self._graph.constant(array, f"const_{array.item():g}" if number else "const")

    def number(self, value: float) -> str:
        """The name of a number in the dtype of the result."""
        return self.constant(np.asarray(value, self.ans.dtype))

    def ints(self, wish: str, values: Iterable[int]) -> str:
        """The name of a vector of integers, such as axes or a shape."""
        return self._graph.constant(np.array(list(values), np.int64), wish)
