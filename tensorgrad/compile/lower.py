"""From the nodes of a trace to a `Program`: loops become `Loop`s, and operations the equations they are
made of (`rules`)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from tensorgrad.compile.builder import Builder
from tensorgrad.compile.effects import VERSION
from tensorgrad.compile.ir import Carry, Const, Loop, Out, Program, Var
from tensorgrad.compile.rules import RULES, call
from tensorgrad.compile.staging import LOOP, READ, Staged
from tensorgrad.compile.stand_ins import AS_ARRAY, SCALAR, Traced
from tensorgrad.compile.trace import ARGUMENT, Tracer
from tensorgrad.errors import GraphError
from tensorgrad.graph import Node

__all__ = ["lower"]


# --- nodes to equations ------------------------------------------------------------------------------------
class _Lowering:
    def __init__(self, inputs: Sequence[tuple[Traced, Var]], tracer: Tracer) -> None:
        self.env: dict[int, Any] = {id(node): var for node, var in inputs}
        self.before = tracer.before
        self.called = tracer.called
        self.captured: list[tuple[Node, Var]] = []
        self.loops: dict[int, Loop] = {}
        # Nodes live as long as this, so that their ids are theirs alone.
        self.kept: list[Any] = []

    def operand(self, x: Any, arg: Any) -> Any:
        if not isinstance(x, Node):
            return Const(arg)
        if id(x) not in self.env:
            if isinstance(x, Traced):
                raise GraphError(
                    f"tg.compile: the {x.describe()} belongs to a timestep of nn.unroll, or to another call, "
                    "and is used outside of it. Take it from roll.outputs, roll.state or roll.steps "
                    "(tg.label gives it a name there)"
                )
            if x.index < self.before:
                # A parameter, or another Tensor from before: its value is read anew at every call.
                var = Var(x._value.shape, x._value.dtype, x.name)
                self.captured.append((x, var))
                self.env[id(x)] = var
            else:
                self.env[id(x)] = Const(x._value)
            self.kept.append(x)
        return self.env[id(x)]

    def block(self, nodes: Sequence[Any], eqns: list[Any]) -> None:
        builder = Builder(eqns)
        reads: dict[int, list[Any]] = {}
        for node in nodes:
            if node.op is READ:
                reads.setdefault(id(node.operands[0]), []).append(node)
        for node in nodes:
            builder.section = "backward" if node.scope.startswith("backward") else ""
            if node.op is LOOP:
                self.loop(node, reads.get(id(node), []), eqns)
            elif node.op is not READ:
                self.env[id(node)] = self.equations(builder, node)
            self.kept.append(node)

    def equations(self, builder: Builder, node: Any) -> Any:
        args = [self.operand(x, arg) for x, arg in zip(node.operands, node.args, strict=True)]
        if node.op is VERSION and isinstance(args[0], Var) and not args[0].name and node.name:
            args[0].name = f"new_{node.name}"
        if node.op in (ARGUMENT, AS_ARRAY, SCALAR, VERSION):
            if isinstance(args[0], Var) and node.op is AS_ARRAY and node.name:
                # What is returned is called as the caller knows it.
                args[0].name = node.name
            return args[0]
        made = len(builder.eqns)
        rule: Callable[..., Any] = RULES.get(node.op, call)
        out = rule(builder, node, *args, **node.params)
        value = node._value
        if out.shape != value.shape or out.dtype != value.dtype:
            out = builder.cast(builder.reshape(out, value.shape), value.dtype)
        if len(builder.eqns) > made and isinstance(out, Var) and not out.name:
            out.name = self.called(node)
        return out

    def loop(self, node: Any, reads: Sequence[Any], eqns: list[Any]) -> None:
        staged: Staged = node.params["loop"]
        loop = Loop(staged.length, staged.reverse, "backward" if node.scope.startswith("backward") else "")
        loop.checkpoint, loop.of = staged.checkpoint, self.loops.get(id(staged.of))
        self.loops[id(staged)] = loop
        outer = dict(self.env)
        for x, inner in staged.xs:
            stack = self.operand(x, getattr(x, "_value", x))
            var = Var(inner._value.shape, inner._value.dtype, self.called(inner))
            loop.xs.append((stack, var))
        inits = [self.operand(init, getattr(init, "_value", init)) for init, *_ in staged.carries]
        for x in staged.captured:
            outer[id(x)] = self.operand(x, x._value)
        for (_, inner), (_, var) in zip(staged.xs, loop.xs, strict=True):
            self.env[id(inner)] = var
        for init, (_, before, _) in zip(inits, staged.carries, strict=True):
            var = Var(before._value.shape, before._value.dtype, self.called(before))
            self.env[id(before)] = var
            loop.carries.append(Carry(init, var, None))
        self.block(staged.body, loop.body)
        for carry, (*_, after) in zip(loop.carries, staged.carries, strict=True):
            carry.after = self.operand(after, after._value)
        outs = []
        for read in reads:
            kind, what = staged.results[read.params["number"]]
            var = Var(read._value.shape, read._value.dtype, self.called(read))
            if kind == "final":
                loop.carries[what].final = var
            else:
                loop.outs.append(Out(kind, self.operand(what, what._value), var))
            outs.append((id(read), var))
        # What belongs to a timestep means nothing outside: the loop that runs back binds it anew.
        self.env = {**outer, **dict(outs)}
        eqns.append(loop)


def _needed(outputs: Sequence[Any]) -> list[Any]:
    """The recorded nodes that outputs depend on, oldest first; of loops only the node, not the body."""
    seen: dict[int, Any] = {}
    todo = [x for x in outputs if isinstance(x, Node)]
    while todo:
        node = todo.pop()
        if id(node) in seen:
            continue
        seen[id(node)] = node
        todo.extend(x for x in node.operands if isinstance(x, Node))
    return sorted((n for n in seen.values() if not n.is_leaf), key=lambda n: n.index)


def lower(
    inputs: Sequence[tuple[Traced, Var]], outputs: Sequence[Any], tracer: Tracer
) -> tuple[Program, list[tuple[Node, Var]]]:
    """The program that computes nodes, and the Tensors from before the trace that it reads, each with its
    variable."""
    lowering = _Lowering(inputs, tracer)
    eqns: list[Any] = []
    lowering.block(_needed(outputs), eqns)
    results = [lowering.operand(x, getattr(x, "_value", x)) for x in outputs]
    variables = [var for _, var in inputs] + [var for _, var in lowering.captured]
    return Program(variables, eqns, results), lowering.captured
