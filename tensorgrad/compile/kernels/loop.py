"""A loop over time as one kernel: products by the BLAS, and all else of a timestep row by row."""

from __future__ import annotations

from typing import Any

from tensorgrad.compile.ir import Carry, Const, Eqn, Loop
from tensorgrad.compile.kernels.kernel import Kernel
from tensorgrad.compile.kernels.nest import Nest
from tensorgrad.compile.kernels.packed import packed_length
from tensorgrad.compile.kernels.rows import ALIASES, definitions, kind_of, same, supported
from tensorgrad.compile.kernels.schedule import Schedule

__all__ = ["LoopKernel", "obstacle", "rows_of", "sharable"]


def rows_of(loop: Loop) -> tuple[Any, ...]:
    """The leading axes of what goes through a loop."""
    shapes = [c.before.shape for c in loop.carries] or [e.out.shape for e in loop.body]
    widest: tuple[Any, ...] = max(shapes, key=len, default=())
    return widest[:-1]


def _is_product(eqn: Any, lead: tuple[Any, ...], inside: set[int]) -> bool:
    if eqn.op not in ("dot", "packed_dot") or len(lead) > 1:
        return False
    x, y = eqn.args
    if any(same(n, 0) for n in (*x.shape, *y.shape)):
        # A BLAS leaves the result as it was.
        return False
    fits = x.ndim == len(lead) + 1 and y.ndim == 2 and same(x.shape[:-1], lead)
    return fits and x.dtype == y.dtype and x.dtype.kind == "f" and id(y) not in inside


def obstacle(loop: Loop, made: dict[int, Any]) -> str:
    """Why a loop stays in NumPy; empty if it can be a kernel."""
    if any(isinstance(e, Loop) for e in loop.body):
        return "a loop within"
    lead = rows_of(loop)
    inside = {id(e.out) for e in loop.body if isinstance(e, Eqn)} | {id(x) for _, x in loop.xs}
    inside |= {id(c.before) for c in loop.carries}
    known = {**made, **definitions(loop.body)}
    for eqn in loop.body:
        if not (supported(eqn, lead, known) or _is_product(eqn, lead, inside)):
            return f"{eqn.op} of {', '.join(str(a.shape) for a in eqn.args)}"
    for v in [c.after for c in loop.carries] + [o.inner for o in loop.outs]:
        if isinstance(v, Const) or kind_of(v.shape, lead) not in ("matrix", "column"):
            return f"a state or result of shape {v.shape}"
    for o in loop.outs:
        if o.kind == "total" and kind_of(o.inner.shape, lead) != "matrix":
            return f"a sum over rows of shape {o.inner.shape}"
    if any(o.kind == "sum" for o in loop.outs):
        return "a sum over time"
    return ""


def sharable(loop: Loop) -> bool:
    """Whether several threads can share the rows of a loop: no row needs anything of another's.

    Products by the BLAS are for one thread, which has the BLAS's own to help.
    """
    lead = rows_of(loop)
    return bool(lead) and not same(lead[0], 1) and all(e.op != "dot" for e in loop.body)


class LoopKernel:
    """Writes one loop into a kernel.

    history: for each carry that has one, the array of all its values. made: the equations around.
    """

    def __init__(self, kernel: Kernel, loop: Loop, histories: dict[int, Any], made: dict[int, Any]) -> None:
        self.kernel, self.loop, self.made = kernel, loop, made
        self.lead = kernel.lead = rows_of(loop)
        kernel.rows = self.lead[0] if sharable(loop) else None
        kernel.is_loop = True
        self.known = {**made, **definitions(loop.body)}
        self.inside = {id(e.out) for e in loop.body}
        self.histories = histories
        self.t = "t"
        kernel.taken.add("t")
        # The room of packed matrices, by their ids and whether their axes are exchanged.
        self.packed: dict[Any, str] = {}
        # Results that are written over a stack that the loop reads, and which.
        self.replaced: dict[int, Any] = {}
        self.segments = self._segments()
        self.home = {id(v.out): k for k, (_, run) in enumerate(self.segments) for v in run}
        # For each value where it must be written to.
        self.targets: dict[int, list[Any]] = {}
        # What is added up over all rows, and where.
        self.totals: list[Any] = []

    def write(self) -> None:
        """Everything."""
        kernel, loop, t = self.kernel, self.loop, self.t
        late = self._places()
        stores = self._stores()
        length = loop.length
        steps = f"range({length} - 1, -1, -1)" if loop.reverse else f"range({length})"
        self._pack()
        kernel.line(f"for {t} in {steps}:")
        kernel.indent += 1
        for k, (what, run) in enumerate(self.segments):
            if what == "rows":
                Nest(kernel, self._schedule(run), stores.get(k, [])).write()
            else:
                self._product(run[0])
        left = [*stores.get(-1, []), *late]
        if left:
            Nest(kernel, self._schedule([]), left).write()
        kernel.indent -= 1

    # --- products, and what lies between them --------------------------------------------------------------
    def _segments(self) -> list[tuple[str, list[Any]]]:
        """The body as products and runs of the rest, each as long as possible."""
        left, segments = list(self.loop.body), []
        waiting = {id(e.out) for e in left}
        while left:
            for eqn in list(left):
                if not supported(eqn, self.lead, self.known) and not any(id(a) in waiting for a in eqn.args):
                    segments.append(("product", [eqn]))
                    left.remove(eqn)
                    waiting.discard(id(eqn.out))
            run = []
            for eqn in list(left):
                if supported(eqn, self.lead, self.known) and not any(id(a) in waiting for a in eqn.args):
                    run.append(eqn)
                    left.remove(eqn)
                    waiting.discard(id(eqn.out))
            if run:
                segments.append(("rows", run))
        return segments

    def _schedule(self, run: list[Any]) -> Schedule:
        return Schedule(run, self.lead, self.known)

    def _product(self, eqn: Eqn) -> None:
        x, W = eqn.args
        out = self.kernel.places[id(eqn.out)]
        self.kernel.written.add(out[0])
        packed = self.packed.get((id(W), eqn.params.get("turned")))
        if packed is not None:
            mine = self.kernel.span
            self.kernel.line(f"product_packed({self._array(x)}{mine}, {packed}, {_at(out)}{mine})")
        else:
            self.kernel.line(f"product({self._array(x)}, {self.kernel.array(W)}, {_at(out)})")

    def _pack(self) -> None:
        """Matrices laid out before the first timestep."""
        for eqn in self.loop.body:
            if eqn.op != "packed_dot":
                continue
            W, turned = eqn.args[1], eqn.params["turned"]
            if (id(W), turned) not in self.packed:
                inner, outer = W.shape[::-1] if turned else W.shape
                size = (packed_length(inner, outer, W.dtype),)
                name = self.kernel.room(
                    f"{getattr(W, 'name', None) or 'W'}_packed", W.dtype, size, alone=True
                )
                self.packed[id(W), turned] = name
                self.kernel.written.add(name)
                self.kernel.line(f"pack{'_turned' * turned}({self.kernel.array(W)}, {name})")

    def _array(self, x: Any) -> str:
        """A whole value of this timestep, as an array."""
        inside = id(x) in self.kernel.places
        return _at(self.kernel.places[id(x)]) if inside else self.kernel.array(x)

    # --- where values live ---------------------------------------------------------------------------------
    def _places(self) -> list[Any]:
        """Places for states, inputs and results; returns what is to be copied at the end of a timestep."""
        kernel, loop, t = self.kernel, self.loop, self.t
        before, after = (f"{t} + 1", t) if loop.reverse else (t, f"{t} + 1")
        late: list[Any] = []
        for c in loop.carries:
            if id(c) in self.histories:
                array = kernel.parameter(
                    self.histories[id(c)].wish,
                    self.histories[id(c)],
                    c.before.dtype,
                    (loop.length + 1, *c.before.shape),
                )
                kernel.places[id(c.before)] = (array, [before], True)
                self.targets.setdefault(id(c.after), []).append((c.after, (array, [after], True)))
            else:
                array = kernel.parameter(c.before.name, ("state", c), c.before.dtype, c.before.shape)
                kernel.places[id(c.before)] = (array, [], True)
        for o in loop.outs:
            if o.kind == "total":
                array = kernel.parameter(o.outer.name, o.outer, o.outer.dtype, o.outer.shape)
                kernel.totals.add(array)
                self.totals.append((o.inner, (array, [], False)))
            elif not self._in_history(o):
                over = self.replaced.get(id(o.outer))
                array = (
                    kernel.parameter(o.outer.name, o.outer, o.outer.dtype, o.outer.shape)
                    if over is None
                    else kernel.array(over)
                )
                self.targets.setdefault(id(o.inner), []).append((o.inner, (array, [t], True)))
        for x, inner in loop.xs:
            kernel.places[id(inner)] = (kernel.array(x), [t], True)
        for c in loop.carries:
            if id(c) not in self.histories:
                place = kernel.places[id(c.before)]
                if self._in_place(c):
                    self.targets.setdefault(id(c.after), []).append((c.after, place))
                else:
                    late.append((c.after, place))
        for x in self._remembered(late):
            targets = self.targets.get(id(x))
            if targets:
                kernel.places[id(x)] = targets[0][1]
            else:
                array = kernel.room(x.name, x.dtype, x.shape)
                kernel.places[id(x)] = (array, [], True)
                self.targets[id(x)] = [(x, kernel.places[id(x)])]
        return late

    def _in_history(self, o: Any) -> bool:
        return any(o.inner in (c.before, c.after) for c in self.loop.carries if id(c) in self.histories)

    def _remembered(self, late: list[Any]) -> list[Any]:
        """Values that products make or read, or that are read by a later run than they are computed in."""
        found: dict[int, Any] = {}
        for k, (what, run) in enumerate(self.segments):
            for eqn in run:
                if what == "product":
                    found[id(eqn.out)] = eqn.out
                for a in eqn.args:
                    if id(a) in self.inside and (what == "product" or self.home[id(a)] != k):
                        found[id(a)] = a
        stored = [store for stores in self.targets.values() for store in stores]
        for x in [x for x, _ in [*late, *stored, *self.totals]]:
            if id(x) in self.inside and self.segments[self.home[id(x)]][0] == "product":
                found[id(x)] = x
        for x, _ in late:
            if id(x) in self.inside:
                found[id(x)] = x
        return list(found.values())

    def _in_place(self, c: Carry) -> bool:
        """Whether the next state can be written over the old one."""
        handed = any(d.after is c.before for d in self.loop.carries)
        return not handed and self.may_replace(c.after, c.before)

    def may_replace(self, after: Any, before: Any) -> bool:
        """Whether a result can be written over what the timestep reads: all that read it have done so."""
        if id(after) not in self.inside or not same(after.shape, before.shape):
            return False
        seen = {id(before)}
        for eqn in self.loop.body:
            if eqn.op in ALIASES and any(id(a) in seen for a in eqn.args):
                seen.add(id(eqn.out))
        ends = [o.inner for o in self.loop.outs] + [
            c.after for c in self.loop.carries if c.before is not before
        ]
        if id(after) in seen or any(id(x) in seen for x in ends):
            return False
        home = self.home[id(after)]
        readers = [
            (k, e) for k, (_, run) in enumerate(self.segments) for e in run if {id(a) for a in e.args} & seen
        ]
        if any(k > home for k, _ in readers):
            return False
        what, run = self.segments[home]
        if all(k < home for k, _ in readers):
            return True
        if what == "product":
            return False
        return self._schedule(run).may_replace(after, before)

    def _stores(self) -> dict[int, list[Any]]:
        """For each run of equations what it must write; at -1 what none of them does."""
        found: dict[int, list[Any]] = {}
        for x, place in self.totals:
            home = self.home.get(id(x), -1)
            found.setdefault(home if home >= 0 and self.segments[home][0] == "rows" else -1, []).append(
                (x, place)
            )
        for targets in self.targets.values():
            for x, place in targets:
                home = self.home.get(id(x), -1)
                if home >= 0 and self.segments[home][0] == "product":
                    if self.kernel.places[id(x)] == place:
                        continue
                    home = -1
                found.setdefault(home, []).append((x, place))
        return found


def _at(place: Any) -> str:
    array, before, _ = place
    return f"{array}[{before[0]}]" if before else array
