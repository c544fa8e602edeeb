"""`nn.unroll` while a function is traced: one loop, whose body is traced once; and the gradient of a loop.

A body is a stretch of the tracer's notes. What in it depends on nothing of a timestep is computed outside.
A loop is one node, so that its gradient is one rule; each of its results is a node that reads from it, and
the cotangents of all results add up to one `_Cotangent` of the loop.

The gradient of a loop is a loop that runs the other way. Its body is the backward walk of the body, with the
rules of the operations. Where it needs what the forward computed at a timestep, the forward keeps it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tensorgrad import tree
from tensorgrad.backward import backpropagate
from tensorgrad.compile.draws import DrawnLoop
from tensorgrad.compile.first_step import OtherFormError, first_apart
from tensorgrad.compile.readings import States, Steps, stacked
from tensorgrad.compile.stand_ins import Traced, TracedNumber, is_number
from tensorgrad.compile.surroundings import Surroundings
from tensorgrad.compile.trace import Tracer
from tensorgrad.compile.untouched import untouched
from tensorgrad.context import change_context, configure, context
from tensorgrad.errors import ShapeError
from tensorgrad.graph import Node
from tensorgrad.nn.unroll import Unrolled, _masked, _name, _name_state, as_pair, as_tensor, check_form
from tensorgrad.op import Op
from tensorgrad.tensor import Tensor

__all__ = ["LOOP", "READ", "Staged", "StagingTracer", "stage"]


class Staged:
    """A loop as traced.

    xs: pairs of a stacked node and the node that stands for one timestep of it in the body.
    carries: triples of the state before the first step, before a step, and after it.
    results: what is read from it: ("stack", node), ("sum", node) or ("final", number of the carry).
    inside: the ids of the nodes that belong to a timestep.
    checkpoint: as `nn.unroll` was told. of: the loop of which it is the backward.
    """

    def __init__(
        self, tracer: Tracer, length: int, reverse: bool, checkpoint: int | str | None, of: Any = None
    ) -> None:
        self.tracer = tracer
        self.length = length
        self.reverse = reverse
        self.checkpoint = checkpoint
        self.of = of
        self.xs: list[tuple[Any, Node]] = []
        self.carries: list[tuple[Any, Traced, Any]] = []
        self.results: list[tuple[str, Any]] = []
        self.read: dict[Any, Traced] = {}
        self.inside: set[int] = set()
        self.body: list[Traced] = []
        self.captured: list[Node] = []
        self.node: Any = None

    def close(self, made: list[Traced], extra: Sequence[Any]) -> None:
        """Sort what was noted since the body began into what belongs to a timestep and what does not."""
        self.inside = {id(x) for _, x in self.xs} | {id(before) for _, before, _ in self.carries}
        for node in made:
            # What a loop within this one does at its timesteps is its own.
            if id(node) not in self.tracer.staged and any(id(x) in self.inside for x in node.operands):
                self.take(node)
        captured: dict[int, Node] = {}
        uses = [x for node in self.body for x in node.operands] + [after for *_, after in self.carries]
        for x in [*uses, *extra]:
            if isinstance(x, Node) and id(x) not in self.inside:
                captured[id(x)] = x
        self.captured = list(captured.values())
        operands = (*(x for x, _ in self.xs), *(init for init, *_ in self.carries), *self.captured)
        live = tuple(k for k, x in enumerate(operands) if isinstance(x, Node) and x.requires_grad)
        self.node = self.tracer.record(LOOP, operands, {"loop": self}, np.zeros(0), live)

    def take(self, node: Traced) -> None:
        """Make a node a part of the body."""
        self.inside.add(id(node))
        self.body.append(node)
        self.tracer.staged[id(node)] = node

    def stack(self, node: Any) -> Any:
        """A node of the body for all timesteps, (T, ...)."""
        for outer, x in self.xs:
            if x is node:
                return outer
        return self._read("stack", node, (self.length, *node._value.shape), node)

    def sum(self, node: Any) -> Any:
        """The sum of a node of the body over all timesteps."""
        return self._read("sum", node, node._value.shape, node)

    def final(self, number: int) -> Any:
        """A part of the state after the last step."""
        before = self.carries[number][1]
        out = self._read("final", number, before._value.shape, before)
        self.tracer.views[id(out)] = out, self.node
        return out

    def _read(self, kind: str, what: Any, shape: tuple[int, ...], like: Any) -> Any:
        key = kind, what if kind == "final" else id(what)
        if key not in self.read:
            live = like.requires_grad or (kind == "final" and self.carries[what][2].requires_grad)
            out = self.tracer.record(
                READ,
                (self.node,),
                {"number": len(self.results)},
                np.zeros(shape, like._value.dtype),
                (0,) if live and self.node.requires_grad and like._value.dtype.kind == "f" else (),
                TracedNumber if kind == "final" and type(like) is TracedNumber else Traced,
            )
            out.name = like.name
            self.results.append((kind, what))
            self.read[key] = out
        return self.read[key]


class _Cotangent(Traced):
    """The cotangent of a loop: that of each of its results by number."""

    __slots__ = ("parts",)
    parts: dict[int, Any]

    def __add__(self, other: Any) -> Any:
        parts = dict(self.parts)
        for number, g in other.parts.items():
            parts[number] = parts[number] + g if number in parts else g
        return _cotangent(parts)


def _cotangent(parts: dict[int, Any]) -> _Cotangent:
    g = object.__new__(_Cotangent)
    g.become_leaf(np.zeros(0), False, None)
    g.parts = parts
    return g


def _read_vjp(g: Any, ans: Any, loop: Any, number: int) -> Any:
    return _cotangent({number: g})


def _loop_vjp(g: Any, ans: Any, *operands: Any, loop: Staged) -> tuple[Any, ...]:
    """The cotangents of stacks, initial states and captured values, by a loop that runs the other way."""
    return _Backward(loop).run(g.parts)


class _Backward:
    """The making of the loop that runs back through another."""

    def __init__(self, loop: Staged) -> None:
        self.loop = loop
        self.tracer = loop.tracer
        self.back = Staged(loop.tracer, loop.length, not loop.reverse, loop.checkpoint, loop)
        self.seeds: list[tuple[Any, Any]] = []
        # The cotangents of the states after the last step, by the number of the carry.
        self.last: dict[int, Any] = {}
        # Those handed from step to step.
        self.arriving: dict[int, Traced] = {}

    def run(self, parts: dict[int, Any]) -> tuple[Any, ...]:
        loop, start = self.loop, len(self.tracer.nodes)
        self.seed_results(parts)
        self.seed_states()
        wanted: list[Any] = [before for _, before, _ in loop.carries if before.requires_grad]
        wanted += [x for outer, x in loop.xs if x.requires_grad]
        wanted += [x for x in loop.captured if x.requires_grad]
        found = backpropagate(self.seeds, wanted, create_graph=True, cut=True) if self.seeds else {}
        for k, leaf in self.arriving.items():
            zeros = np.zeros(leaf._value.shape, leaf._value.dtype)
            before = found.get(loop.carries[k][1].index)
            first = self.last.get(k)
            self.back.carries.append(
                (zeros if first is None else first, leaf, Tensor(zeros) if before is None else before)
            )
        shares = [found[x.index] for x in wanted if x.index in found]
        self.adopt(self.tracer.nodes[start:])
        self.bring_in(self.tracer.nodes[start:], [*shares, *(end for *_, end in self.back.carries)])
        self.back.close(self.tracer.nodes[start:], shares)
        return self.shares(found)

    def seed_results(self, parts: dict[int, Any]) -> None:
        """The cotangents of what was read from the loop: one timestep of each, or all at once."""
        for number, part in parts.items():
            kind, what = self.loop.results[number]
            if kind == "final":
                self.last[what] = part
            elif kind == "sum":
                self.seeds.append((what, part))
            else:
                value = part._value
                leaf = self.tracer.leaf(value.shape[1:], value.dtype, _d(what), part.requires_grad)
                self.back.xs.append((part, leaf))
                self.seeds.append((what, leaf))

    def seed_states(self) -> None:
        """The cotangents that arrive from the step after."""
        for k, (_, before, after) in enumerate(self.loop.carries):
            if before.requires_grad:
                value = before._value
                leaf = self.tracer.leaf(value.shape, value.dtype, f"{_d(after)}_next", True)
                self.arriving[k] = leaf
                if isinstance(after, Node) and after.requires_grad:
                    self.seeds.append((after, leaf))

    def adopt(self, made: list[Traced]) -> None:
        """What is now read from loops within this one belongs to its own timesteps."""
        for node in made:
            if node.op is READ and id(node.operands[0]) in self.loop.inside:
                self.loop.take(node)

    def bring_in(self, made: list[Traced], ends: list[Any]) -> None:
        """What the backward needs of the forward's timestep comes in as a stack."""
        mine = [node for node in made if id(node) not in self.tracer.staged]
        needed = {id(x): x for node in mine for x in node.operands if id(x) in self.loop.inside}
        needed |= {id(x): x for x in ends if id(x) in self.loop.inside}
        self.back.xs += [(self.loop.stack(x), x) for x in needed.values()]

    def shares(self, found: dict[int, Any]) -> tuple[Any, ...]:
        """The cotangent of every operand of the loop, None where there is none."""
        loop, back = self.loop, self.back
        numbers = {k: number for number, k in enumerate(self.arriving)}
        stacks = [back.stack(found[x.index]) if _is_found(x, found) else None for _, x in loop.xs]
        starts = [back.final(numbers[k]) if k in numbers else None for k in range(len(loop.carries))]
        sums = [back.sum(found[x.index]) if _is_found(x, found) else None for x in loop.captured]
        return (*stacks, *starts, *sums)


def _is_found(x: Any, found: dict[int, Any]) -> bool:
    return bool(x.requires_grad) and x.index in found


def _d(node: Any) -> str:
    return f"d{node.name}" if getattr(node, "name", None) else "dstate"


LOOP = Op("loop", lambda *args, **params: np.zeros(0), _loop_vjp, joint=True)
READ = Op("read", lambda loop, **params: None, (_read_vjp,))


class StagingTracer(Tracer):
    """A tracer that makes one loop of every `nn.unroll`."""

    def forget(self) -> None:
        """Let go of everything: loops, their nodes and the tracer hold each other.

        With them they hold the arrays of all stand-ins, until Python happens to look for such rings.
        """
        for node in self.nodes:
            if node.op is LOOP:
                vars(node.params["loop"]).clear()
        vars(self).clear()

    def unroll(
        self, cell: Any, xs: Any, state: Any, alive: Any, reverse: bool, checkpoint: int | str | None
    ) -> Unrolled:
        """`nn.unroll` of a cell over xs (T, ...)."""

        def run(xs: Any, state: Any, alive: Any) -> Unrolled:
            return stage(self, cell, xs, state, alive, reverse, checkpoint)

        if alive is not None and not isinstance(alive, Node):
            alive = Tensor(np.asarray(alive))
        # An array in eager mode: its timesteps are Tensors.
        xs = self.alias(xs)
        start, changed = len(self.nodes), None
        if state is not None or hasattr(cell, "initial_state"):
            try:
                return run(xs, state, alive)
            except OtherFormError as error:
                del self.nodes[start:]
                changed = error
        try:
            return first_apart(cell, xs, state, alive, reverse, run)
        except Exception as error:
            if isinstance(error, OtherFormError) or changed is not None:
                # What a cell says of a state in the wrong form is seldom that.
                raise ShapeError(*(changed or error).args) from error
            raise


# --- the forward -------------------------------------------------------------------------------------------
def stage(
    tracer: Tracer,
    cell: Any,
    xs: Any,
    state: Any,
    alive: Any,
    reverse: bool,
    checkpoint: int | str | None,
    tensors: frozenset[int] = frozenset(),
) -> Unrolled:
    """`nn.unroll` of a cell over xs (T, ...) as one loop.

    tensors: the parts of the state that are Python numbers at first, but Tensors after a step.
    """
    T, first = xs._value.shape[0], state
    if state is None and hasattr(cell, "initial_state"):
        state = cell.initial_state(xs[0])
    inits, structure = tree.flatten(state)
    numbers = {k for k, x in enumerate(inits) if type(x) in (int, float)} - tensors
    inits = [as_tensor(x, "the state") for x in inits]
    loop = Staged(tracer, T, reverse, checkpoint)
    outer = context().scope
    start = len(tracer.nodes)
    labels: dict[str, Any] = {}
    drawn: list[Any] = []
    with configure(), tracer.inside(loop, drawn):
        change_context(scope=f"{outer}/t" if outer else "t", labels=labels)
        x = tracer.leaf(xs._value.shape[1:], xs._value.dtype, None, xs.requires_grad)
        loop.xs.append((xs, x))
        _name(labels, "x", x)
        befores = [
            tracer.leaf((), i._value.dtype, cls=TracedNumber)
            if k in numbers
            else tracer.leaf(i._value.shape, i._value.dtype, i.name, i._value.dtype.kind == "f")
            for k, i in enumerate(inits)
        ]
        before = tree.unflatten(structure, list(befores))
        with untouched(cell, Surroundings(cell), who="cell", why=_EVERY_STEP):
            output, after = as_pair(cell(x, before))
        try:
            check_form(before, after, f"{_ALIKE} the same form")
        except ShapeError as error:
            raise OtherFormError(*error.args) from None
        if alive is not None:
            live = tracer.leaf(alive._value.shape[1:], bool, "alive")
            loop.xs.append((alive, live))
            output, after = _masked(live, output, after, before, labels)
        _name_state(labels, after)
        for node in tracer.nodes[start:]:
            node.name = tracer.called(node)
    afters = tree.leaves(after)
    turned = {k for k in numbers if not is_number(afters[k])}
    if turned:
        del tracer.nodes[start:]
        return stage(tracer, cell, xs, first, alive, reverse, checkpoint, tensors | turned)
    for init, b, a in zip(inits, befores, afters, strict=True):
        loop.carries.append((init, b, _fitting(a, b)))
    outputs, out_form = tree.flatten(output)
    outputs = [as_tensor(o, "the cell's output") for o in outputs]
    for b, a in zip(befores, afters, strict=True):
        b.name = b.name or (f"{a.name}_prev" if getattr(a, "name", None) else None)
    if drawn:
        tracer.note_draws(DrawnLoop(reverse, drawn))
    loop.close(tracer.nodes[start:], [*outputs, *labels.values()])
    steps = Steps(loop, labels, tree.unflatten(out_form, list(outputs)))
    roll = Unrolled([output], None, steps, States(loop, structure, first), reverse, alive)
    # A node of its own: its gradient has nothing of what is read from single steps.
    stacks = [stacked(loop, o) for o in outputs]
    roll._stacked = tree.unflatten(out_form, [tracer.alias(s) for s in stacks])
    roll.state = tree.unflatten(structure, [loop.final(k) for k in range(len(inits))])
    return roll


def _fitting(after: Any, before: Traced) -> Any:
    after = as_tensor(after, "the state that the cell returns")
    if after._value.shape != before._value.shape or after._value.dtype != before._value.dtype:
        raise OtherFormError(
            f"unroll: a part of the state goes into the cell as {before._value.shape} "
            f"{before._value.dtype} and comes out as {after._value.shape} {after._value.dtype}; {_ALIKE} one "
            "shape and dtype"
        )
    return after


_ALIKE = "from its second step on a compiled loop needs"


_EVERY_STEP = (
    "but every timestep of a compiled loop is the same. Carry in the state what changes from step to step, "
    "and read what every step labels (tg.label) from roll.steps"
)
