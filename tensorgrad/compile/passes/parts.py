"""Concatenations that need not be made: products are made with their parts instead.

    [dr, dz, dn].T @ x   becomes   [[dr, dz].T @ x, dn.T @ x]

where dr and dz lie side by side already.
"""

from __future__ import annotations

from typing import Any

from tensorgrad.compile.builder import Builder
from tensorgrad.compile.ir import Eqn, Loop, Program
from tensorgrad.compile.passes.rewrite import Rewriter
from tensorgrad.compile.plan import side_by_side

__all__ = ["products_of_parts", "stacks_of_parts"]


# --- what a loop keeps -------------------------------------------------------------------------------------
def stacks_of_parts(program: Program) -> None:
    """Where a loop keeps a concatenation and its parts too, the parts are slices of what it keeps."""
    eqns: list[Any] = []
    for eqn in program.eqns:
        eqns.append(eqn)
        if isinstance(eqn, Loop):
            eqns += _sliced(eqn)
    program.eqns = eqns


def _sliced(loop: Loop) -> list[Eqn]:
    stacks = {id(o.inner): o.outer for o in loop.outs if o.kind == "stack"}
    places: dict[int, tuple[Any, Any]] = {}
    for eqn in loop.body:
        if eqn.op == "concatenate" and id(eqn.out) in stacks:
            for part, place in side_by_side(eqn):
                places.setdefault(id(part), (stacks[id(eqn.out)], (slice(None), *place)))
    after = []
    for o in [o for o in loop.outs if o.kind == "stack" and id(o.inner) in places]:
        whole, place = places[id(o.inner)]
        template = (*place, *(slice(None),) * (whole.ndim - len(place)))
        after.append(Eqn("index", [whole], {"template": template}, o.outer, loop.section))
        loop.outs.remove(o)
    return after


# --- products ----------------------------------------------------------------------------------------------
def products_of_parts(program: Program) -> None:
    """Products with a concatenation of slices are made part by part, where nothing else needs the whole."""
    _Products(program).run(program)


class _Products(Rewriter):
    def __init__(self, program: Program) -> None:
        super().__init__()
        self.users: dict[int, list[Eqn]] = {}
        for eqn in program.eqns:
            for a in eqn.args:
                self.users.setdefault(id(a), []).append(eqn)
        for out in program.outputs:
            self.users.setdefault(id(out), []).append(Eqn("return", [], {}, out))

    def loop(self, loop: Loop, out: list[Any]) -> None:
        # Within a loop one product of all parts is the faster way.
        made, self.made = self.made, {}
        super().loop(loop, out)
        self.made = made

    def equation(self, b: Builder, eqn: Eqn) -> Any:
        if eqn.op != "dot" or eqn.out.ndim not in (1, 2):
            return None
        x, y = eqn.args
        turned = self.made.get(id(x))
        parts = self.parts(b, turned.args[0]) if turned is not None and turned.op == "transpose" else None
        if parts is not None and y.ndim == 2:
            products, axis = [b.dot(b.transpose(p, (1, 0)), y) for p in parts], 0
            return b.emit("concatenate", products, eqn.out.shape, eqn.out.dtype, axis=axis)
        parts = self.parts(b, y) if x.ndim in (1, 2) else None
        if parts is None:
            return None
        products, axis = [b.dot(x, p) for p in parts], eqn.out.ndim - 1
        return b.emit("concatenate", products, eqn.out.shape, eqn.out.dtype, axis=axis)

    def parts(self, b: Builder, rows: Any) -> list[Any] | None:
        """The rows of each part of a concatenation along the last axis, neighbours together."""
        made = self.made.get(id(rows))
        whole = self.made.get(id(made.args[0])) if made is not None and made.op == "reshape" else None
        if whole is None or whole.op != "concatenate" or whole.params["axis"] != whole.out.ndim - 1:
            return None
        if rows.ndim != 2 or rows.shape[-1] != whole.out.shape[-1] or not self.only_products(whole.out):
            return None
        parts = self.joined(b, whole.args)
        if len(parts) == len(whole.args):
            return None
        return [b.reshape(p, (rows.shape[0], p.shape[-1])) for p in parts]

    def only_products(self, x: Any) -> bool:
        """Whether x is used by products alone, turned or reshaped on the way."""
        todo = [x]
        while todo:
            for user in self.users.get(id(todo.pop()), []):
                if user.op in ("reshape", "transpose"):
                    todo.append(user.out)
                elif user.op != "dot":
                    return False
        return True

    def joined(self, b: Builder, parts: list[Any]) -> list[Any]:
        """The parts, those that are neighbours in one array as one slice."""
        runs: list[list[Any]] = []
        for part in parts:
            cut = self.made.get(id(part))
            place = _last_slice(cut)
            if place is None:
                runs.append([part, None, 0, 0])
                continue
            base, start, stop = cut.args[0], *place  # type: ignore[union-attr]
            if runs and runs[-1][1] is base and runs[-1][3] == start:
                runs[-1] = [None, base, runs[-1][2], stop]
            else:
                runs.append([part, base, start, stop])
        return [p if p is not None else _slice(b, base, start, stop) for p, base, start, stop in runs]


def _slice(b: Builder, base: Any, start: int, stop: int) -> Any:
    template = (*(slice(None),) * (base.ndim - 1), slice(start, stop))
    return b.emit("index", [base], (*base.shape[:-1], stop - start), base.dtype, template=template)


def _last_slice(cut: Eqn | None) -> tuple[int, int] | None:
    """Start and stop of an index that cuts the last axis alone."""
    if cut is None or cut.op != "index" or len(cut.params["template"]) != cut.args[0].ndim:
        return None
    *front, last = cut.params["template"]
    if any(p != slice(None) for p in front) or not isinstance(last, slice) or last.step not in (None, 1):
        return None
    start, stop, _ = last.indices(int(cut.args[0].shape[-1]))
    return start, stop
