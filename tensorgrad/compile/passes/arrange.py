"""How operands lie in memory: weights turned once before a loop, neighbouring gates done together, views of
what a loop keeps taken outside of it."""

from __future__ import annotations

from math import prod
from typing import Any

from tensorgrad.compile.builder import Builder
from tensorgrad.compile.ir import Eqn, Loop, Out, Program, Var, in_numbers, walk
from tensorgrad.compile.sizes import Size

__all__ = ["neighbouring_gates", "sums_as_products", "transposes_once", "views_outside"]

_GATES = ("sigmoid", "tanh", "exp", "negative", "square", "sqrt", "add", "subtract", "multiply")


_FEW = 8


# --- weights -----------------------------------------------------------------------------------------------
def transposes_once(program: Program) -> None:
    """A transposed matrix that a loop multiplies by at every timestep is laid out anew before it.

    A product with a matrix that lies the other way is up to twice as slow, by its size and the processor. To
    lay it out anew takes as long as several products, so for few timesteps it stays as it is.
    """
    made = {id(e.out): e for e in program.eqns if isinstance(e, Eqn)}
    copies: dict[int, Var] = {}
    eqns: list[Any] = []
    for eqn in program.eqns:
        if isinstance(eqn, Loop) and not (type(eqn.length) is int and eqn.length < _FEW):
            for inner in walk(eqn.body):
                for k, a in enumerate(inner.args if inner.op == "dot" else ()):
                    source = made.get(id(a))
                    if source is None or source.op != "transpose" or a.ndim != 2:
                        continue
                    if id(a) not in copies:
                        name = getattr(source.args[0], "name", None) or "W"
                        copies[id(a)] = Var(a.shape, a.dtype, f"{name}_T")
                        eqns.append(Eqn("copy", [a], {}, copies[id(a)], eqn.section))
                    inner.args[k] = copies[id(a)]
        eqns.append(eqn)
    program.eqns = eqns


# --- sums --------------------------------------------------------------------------------------------------
def sums_as_products(program: Program) -> None:
    """A sum down or along the rows of a matrix is a product with ones: several times faster than a sum."""
    eqns: list[Any] = []
    outside = Builder(eqns)
    for eqn in program.eqns:
        outside.section = eqn.section
        if isinstance(eqn, Loop):
            body: list[Any] = []
            for inner in eqn.body:
                _product_for(inner, Builder(body), outside)
            eqn.body = body
            eqns.append(eqn)
        else:
            _product_for(eqn, outside, outside)
    program.eqns = eqns


def _product_for(eqn: Any, b: Builder, outside: Builder) -> None:
    """Add an equation, or the product in its place. outside: where the ones are made, before a loop."""
    x = eqn.args[0] if eqn.op == "sum" else None
    b.section = eqn.section
    product = None
    if x is not None and x.ndim >= 2 and x.dtype.kind == "f" and eqn.out.ndim:
        product = _product(x, eqn.params, b, outside)
    if product is None:
        b.eqns.append(eqn)
    elif product.shape == eqn.out.shape:
        b.eqns[-1].out = eqn.out
    else:
        product.name = eqn.out.name
        b.eqns.append(Eqn("reshape", [product], {"shape": eqn.out.shape}, eqn.out, eqn.section))


def _product(x: Any, params: dict[str, Any], b: Builder, outside: Builder) -> Var | None:
    """The sum as a product; None if it is along other axes."""
    rows: Any = 1
    for n in x.shape[:-1]:
        rows = rows * n
    if params["axes"] == tuple(range(x.ndim - 1)) and not params["keepdims"]:
        return b.dot(_ones(outside, (rows,), x.dtype), b.reshape(x, (rows, x.shape[-1])))
    if params["axes"] == (x.ndim - 1,):
        return b.dot(b.reshape(x, (rows, x.shape[-1])), _ones(outside, (x.shape[-1],), x.dtype))
    return None


def _ones(b: Builder, shape: tuple[Any, ...], dtype: Any) -> Var:
    return b.emit("full", [], shape, dtype, "ones", shape=shape, value=1.0)


# --- gates -------------------------------------------------------------------------------------------------
def neighbouring_gates(program: Program) -> None:
    """The same function of slices that lie side by side is taken of all of them at once."""
    for eqn in program.eqns:
        if isinstance(eqn, Loop):
            # Joined sums of slices are slices of one sum, of which functions can be joined in turn.
            while (body := _joined(eqn.body)) is not None:
                eqn.body = body


class _Gate:
    """An equation all of whose operands are slices on the last axis: from which places to which."""

    def __init__(self, eqn: Eqn, cuts: list[Eqn], places: list[tuple[int, int]]) -> None:
        self.eqn = eqn
        self.sources = [cut.args[0] for cut in cuts]
        self.starts = tuple(start for start, _ in places)
        self.stops = tuple(stop for _, stop in places)


def _gate(eqn: Any, made: dict[int, Eqn]) -> _Gate | None:
    if eqn.op not in _GATES:
        return None
    cuts = [made.get(id(a)) for a in eqn.args]
    places = [_last_slice(cut) if cut is not None and cut.op == "index" else None for cut in cuts]
    if any(place is None for place in places) or any(a.shape != eqn.out.shape for a in eqn.args):
        return None
    return _Gate(eqn, cuts, places)  # type: ignore[arg-type]


def _joined(body: list[Any]) -> list[Any] | None:
    """The body with one row of neighbours joined; None if there is none."""
    made = {id(e.out): e for e in body if isinstance(e, Eqn)}
    groups: dict[Any, list[_Gate]] = {}
    for eqn in body:
        gate = _gate(eqn, made)
        if gate is not None:
            groups.setdefault((eqn.op, *map(id, gate.sources)), []).append(gate)
    for members in groups.values():
        members.sort(key=lambda g: g.starts)
        run = members[:1]
        for gate in members[1:]:
            if run[-1].stops == gate.starts:
                run.append(gate)
            elif len(run) > 1:
                break
            else:
                run = [gate]
        if len(run) > 1:
            return _one(body, run)
    return None


def _last_slice(cut: Eqn) -> tuple[int, int] | None:
    """Start and stop of an index that cuts the last axis alone."""
    template, x = cut.params["template"], cut.args[0]
    if len(template) != x.ndim or not all(isinstance(p, slice) for p in template):
        return None
    if any(p != slice(None) for p in template[:-1]) or isinstance(x.shape[-1], Size):
        return None
    start, stop, step = template[-1].indices(int(x.shape[-1]))
    return (start, stop) if step == 1 else None


def _one(body: list[Any], run: list[_Gate]) -> list[Any]:
    """The body with one equation in the place of several; each result is then a slice of its."""
    first, section = run[0].eqn, run[0].eqn.section
    front = (slice(None),) * (first.out.ndim - 1)
    new = []
    wholes = []
    for source, low, high in zip(run[0].sources, run[0].starts, run[-1].stops, strict=True):
        whole = Var((*source.shape[:-1], high - low), source.dtype)
        new.append(Eqn("index", [source], {"template": (*front, slice(low, high))}, whole, section))
        wholes.append(whole)
    together = Var(wholes[0].shape, first.out.dtype)
    together.name = "_".join(g.eqn.out.name for g in run if g.eqn.out.name) or None
    new.append(Eqn(first.op, wholes, {}, together, section))
    low = run[0].starts[0]
    for gate in run:
        template = (*front, slice(gate.starts[0] - low, gate.stops[0] - low))
        new.append(Eqn("index", [together], {"template": template}, gate.eqn.out, section))
    gone = {id(g.eqn) for g in run}
    # All sources are there before the first of them: each of the equations is made of the same ones.
    start = next(k for k, e in enumerate(body) if id(e) in gone)
    return [*body[:start], *new, *(e for e in body[start:] if id(e) not in gone)]


# --- views -------------------------------------------------------------------------------------------------
def views_outside(program: Program) -> None:
    """Where a loop would keep all slices of what it computes it keeps that; slices are taken outside.

    Not so large slices, by the lengths of the first call: to copy each of them once is little, and to go over
    whole arrays later is faster.
    """
    eqns: list[Any] = []
    for eqn in program.eqns:
        eqns.append(eqn)
        if isinstance(eqn, Loop):
            eqns += _taken_outside(eqn, program.lengths)
    program.eqns = eqns


_LARGE = 2**10
"""So many elements at a timestep take longer to go over than one call of NumPy."""


def _taken_outside(loop: Loop, lengths: dict[str, int]) -> list[Eqn]:
    made = {id(e.out): e for e in loop.body if isinstance(e, Eqn)}
    stacks = {id(o.inner): o.outer for o in loop.outs if o.kind == "stack"}
    after: list[Eqn] = []
    outs: list[Out] = []
    kept: dict[int, int] = {}
    for o in loop.outs:
        view = made.get(id(o.inner))
        if o.kind == "stack" and view is not None and view.op == "index":
            base = id(view.args[0])
            kept[base] = kept.get(base, 0) + prod(map(int, o.inner.shape))
    for o in loop.outs:
        view = made.get(id(o.inner))
        source = made.get(id(view.args[0])) if view is not None and view.op == "index" else None
        if o.kind != "stack" or view is None or source is None or source.op == "index":
            outs.append(o)
            continue
        x = view.args[0]
        if id(x) not in stacks:
            elements = prod(in_numbers(n, lengths) for n in o.inner.shape)
            # To copy a part is better than to keep what nobody needs, or to go over it in two pieces later.
            if kept[id(x)] < prod(map(int, x.shape)) or elements >= _LARGE:
                outs.append(o)
                continue
            stacks[id(x)] = Var((loop.length, *x.shape), x.dtype, x.name)
            outs.append(Out("stack", x, stacks[id(x)]))
        template = (slice(None), *view.params["template"])
        after.append(Eqn("index", [stacks[id(x)]], {"template": template}, o.outer, loop.section))
    loop.outs = outs
    return after
