"""Which equations become one kernel: a program rearranged so that each array is gone through once.

The passes of the NumPy page move element-wise work out of loops, to do it for all timesteps in one call. A
kernel has no calls to save, and in the loop the numbers are still in the cache: here that work goes back into
the loops. What is left outside is gathered into runs over the same rows.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from tensorgrad.compile.ir import Carry, Const, Eqn, Loop, Out, Pieces, Program, Var, results
from tensorgrad.compile.kernels.blas import threads
from tensorgrad.compile.kernels.loop import obstacle
from tensorgrad.compile.kernels.rows import ALIASES, INLINE, definitions, row_sum, same, supported
from tensorgrad.compile.passes.clean import dead_code

__all__ = ["Fused", "copied", "fuse", "into_loops", "packed_products", "plain_sums"]


class Fused(Loop):
    """A run of equations over the same rows, in a kernel. lead: the leading axes."""

    def __init__(self, lead: tuple[Any, ...], body: list[Eqn], section: str) -> None:
        super().__init__(1, False, section)
        self.lead = lead
        self.body = body


def copied(program: Program) -> Program:
    """The same program in lists and equations of its own."""
    eqns: list[Any] = []
    for eqn in program.eqns:
        if isinstance(eqn, Loop):
            eqns.append(_copied_loop(eqn))
        else:
            eqns.append(Eqn(eqn.op, eqn.args, eqn.params, eqn.out, eqn.section))
    return Program(list(program.inputs), eqns, list(program.outputs))


def _copied_loop(loop: Loop) -> Loop:
    twin = type(loop)(loop.length, loop.reverse, loop.section)
    twin.xs = list(loop.xs)
    twin.carries = [Carry(c.init, c.before, c.after, c.final) for c in loop.carries]
    twin.outs = [Out(o.kind, o.inner, o.outer) for o in loop.outs]
    twin.body = copied(Program([], loop.body, [])).eqns
    return twin


# --- into loops --------------------------------------------------------------------------------------------
def into_loops(program: Program) -> None:
    """Move element-wise work on stacks into the loop that alone reads the result, or that made the stacks."""
    made = definitions(program.eqns)
    loops = [e for e in program.eqns if isinstance(e, Loop) and not obstacle(e, made)]
    ways = (partial(_take_inputs, taken=set()), _take_results, _take_row_sums, _take_totals)
    while any(take(program, loop) for take in ways for loop in loops):
        dead_code(program)


def _readers(program: Program) -> dict[int, list[Any]]:
    found: dict[int, list[Any]] = {}
    for eqn in program.eqns:
        for a in eqn.args:
            found.setdefault(id(a), []).append(eqn)
    for x in program.outputs:
        found.setdefault(id(x), []).append(None)
    return found


def _per_step(eqn: Any, length: Any) -> bool:
    """Whether an equation over stacks can be done timestep by timestep."""
    if isinstance(eqn, Loop) or eqn.out.ndim < 2 or not same(eqn.out.shape[0], length):
        return False
    for a in eqn.args:
        if a.ndim == eqn.out.ndim and not same(a.shape[0], length):
            return False
        if a.ndim > eqn.out.ndim:
            return False
    if eqn.op == "index":
        return (
            len(eqn.args) == 1
            and eqn.params["template"][:1] == (slice(None),)
            and (len(eqn.params["template"]) == eqn.args[0].ndim == eqn.out.ndim)
        )
    if eqn.op == "concatenate":
        return bool(eqn.params["axis"] % eqn.out.ndim)
    return eqn.op in INLINE and eqn.op != "minus_one_hot"


def _step_of(eqn: Eqn, step: Any) -> Eqn:
    """An equation over stacks for one timestep; step: what an operand is there."""
    params = dict(eqn.params)
    if eqn.op == "index":
        params["template"] = params["template"][1:]
    elif eqn.op == "concatenate":
        params["axis"] = params["axis"] % eqn.out.ndim - 1
    args = [step(a) if a.ndim == eqn.out.ndim else a for a in eqn.args]
    return Eqn(eqn.op, args, params, Var(eqn.out.shape[1:], eqn.out.dtype, eqn.out.name), eqn.section)


def _take_inputs(program: Program, loop: Loop, taken: set[tuple[Loop, Any]]) -> bool:
    """What makes the stacks that this loop, and nothing else, reads; views of what others read too.

    taken: such loops and stacks. What reads a view and is taken later would bring it in again, and what that
    is a view of, and so on: once is enough.
    """
    made, readers = definitions(program.eqns), _readers(program)
    for position, (x, inner) in enumerate(loop.xs):
        eqn = made.get(id(x))
        if eqn is None or not _per_step(eqn, loop.length) or (loop, x) in taken:
            continue
        if eqn.op not in ALIASES and any(r is not loop for r in readers[id(x)]):
            continue
        inside = {id(e.out) for e in loop.body} | {id(v) for _, v in loop.xs}
        if any(id(a) in inside for a in loop_free(loop, x)):
            continue
        del loop.xs[position]
        mine = _step_of(eqn, lambda a: _step_input(loop, a))
        mine.out = inner
        if obstacle_of(loop, mine, made):
            loop.xs.insert(position, (x, inner))
            continue
        loop.body.insert(0, mine)
        taken.add((loop, x))
        if all(r is loop for r in readers[id(x)]):
            program.eqns.remove(eqn)
        return True
    return False


def loop_free(loop: Loop, x: Any) -> list[Any]:
    """The uses of a stack within the body, as a whole."""
    return [a for e in loop.body for a in e.args if a is x]


def obstacle_of(loop: Loop, eqn: Eqn, made: dict[int, Any]) -> str:
    """Why a loop with one equation more would stay in NumPy."""
    loop.body.insert(0, eqn)
    why = obstacle(loop, made)
    loop.body.pop(0)
    return why


def _step_input(loop: Loop, stack: Any) -> Var:
    for x, inner in loop.xs:
        if x is stack:
            return inner
    inner = Var(stack.shape[1:], stack.dtype, getattr(stack, "name", None))
    loop.xs.append((stack, inner))
    return inner


def _take_results(program: Program, loop: Loop) -> bool:
    """What is made of nothing but this loop's results and of what there was before it."""
    stacks = {id(o.outer): o.inner for o in loop.outs if o.kind == "stack"}
    made = definitions(program.eqns)
    before: set[int] = {id(v) for v in program.inputs}
    for eqn in program.eqns[: program.eqns.index(loop)]:
        before |= {id(v) for v in results(eqn)}
    for eqn in program.eqns[program.eqns.index(loop) + 1 :]:
        if not _per_step(eqn, loop.length) or not any(id(a) in stacks for a in eqn.args):
            continue
        if eqn.op == "index" or not all(
            id(a) in stacks or id(a) in before or isinstance(a, Const) for a in eqn.args
        ):
            continue
        if any(id(a) in stacks and a.ndim != eqn.out.ndim for a in eqn.args):
            continue
        given = len(loop.xs)
        mine = _step_of(eqn, lambda a: stacks[id(a)] if id(a) in stacks else _step_input(loop, a))
        loop.body.append(mine)
        if obstacle(loop, made):
            loop.body.pop()
            del loop.xs[given:]
            continue
        loop.outs.append(Out("stack", mine.out, eqn.out))
        program.eqns.remove(eqn)
        return True
    return False


def _rows(x: Any, made: dict[int, Any]) -> Any:
    """The stack whose rows, all of them one after the other, are a matrix."""
    eqn = made.get(id(x))
    if eqn is None or eqn.op != "reshape" or x.ndim != 2 or eqn.args[0].ndim < 2:
        return None
    return eqn.args[0] if same(eqn.args[0].shape[-1], x.shape[-1]) else None


def _ones(x: Any, made: dict[int, Any]) -> bool:
    eqn = made.get(id(x))
    return isinstance(eqn, Eqn) and eqn.op == "full" and eqn.params["value"] == 1


def _take_row_sums(program: Program, loop: Loop) -> bool:
    """Sums along the rows of this loop's results, which stand there as products with ones."""
    stacks = {id(o.outer): o.inner for o in loop.outs if o.kind == "stack"}
    made = definitions(program.eqns)
    for eqn in program.eqns[program.eqns.index(loop) + 1 :]:
        total: Any = made.get(id(eqn.args[0])) if eqn.op == "reshape" else None
        if not isinstance(total, Eqn) or row_sum(total, made) != "sum":
            continue
        stack = _rows(total.args[0], made)
        if id(stack) not in stacks or not same(eqn.out.shape, (*stack.shape[:-1], 1)):
            continue
        x, out = stacks[id(stack)], Var(eqn.out.shape[1:], eqn.out.dtype, eqn.out.name)
        loop.body.append(Eqn("sum", [x], {"axes": (x.ndim - 1,), "keepdims": True}, out, eqn.section))
        if obstacle(loop, made):
            loop.body.pop()
            continue
        loop.outs.append(Out("stack", out, eqn.out))
        program.eqns.remove(eqn)
        return True
    return False


def _take_totals(program: Program, loop: Loop) -> bool:
    """Sums over all rows of all timesteps of this loop's results: gradients of biases and gains."""
    stacks = {id(o.outer): o.inner for o in loop.outs if o.kind == "stack"}
    made = definitions(program.eqns)
    for eqn in program.eqns[program.eqns.index(loop) + 1 :]:
        if eqn.op != "dot" or eqn.args[0].ndim != 1 or not _ones(eqn.args[0], made):
            continue
        stack = _rows(eqn.args[1], made)
        if id(stack) not in stacks:
            continue
        loop.outs.append(Out("total", stacks[id(stack)], eqn.out))
        if obstacle(loop, made):
            loop.outs.pop()
            continue
        program.eqns.remove(eqn)
        return True
    return False


# --- runs outside loops ------------------------------------------------------------------------------------
def fuse(program: Program) -> None:
    """Gather what goes over the same rows into runs, each as long as possible."""
    made = definitions(program.eqns)
    left: list[Any] = list(program.eqns)
    done: list[Any] = []
    waiting = {id(v) for e in left for v in results(e)}

    def ready(eqn: Any) -> bool:
        return not any(id(a) in waiting for a in eqn.args)

    def take(eqn: Any, to: list[Any]) -> None:
        left.remove(eqn)
        to.append(eqn)
        waiting.difference_update(id(v) for v in results(eqn))

    while left:
        moved = True
        while moved:
            moved = False
            for eqn in list(left):
                if ready(eqn) and not _opens(eqn, made):
                    take(eqn, done)
                    moved = True
        first = next((e for e in left if ready(e)), None)
        if first is None:
            break
        lead = _lead(first, made)
        run: list[Any] = []
        for eqn in list(left):
            if ready(eqn) and supported(eqn, lead, made):
                take(eqn, run)
        done += _settled(
            run, lead, {id(a) for e in left for a in e.args} | {id(v) for v in program.outputs}, made
        )
    program.eqns[:] = done


def _opens(eqn: Any, made: dict[int, Any]) -> bool:
    """Whether a run can begin with an equation."""
    if isinstance(eqn, Loop) or eqn.op in ALIASES:
        return False
    lead = _lead(eqn, made)
    return bool(lead) and supported(eqn, lead, made)


def _lead(eqn: Eqn, made: dict[int, Any]) -> tuple[Any, ...]:
    """The leading axes of the rows that an equation goes over; none where it goes over none."""
    x: Any = eqn.out
    if row_sum(eqn, made):
        stack = _rows(eqn.args[0], made)
        x = eqn.args[0] if stack is None else stack
    shape: tuple[Any, ...] = x.shape
    return () if len(shape) < 2 or same(shape[-1], 1) else shape[:-1]


def _settled(run: list[Any], lead: tuple[Any, ...], later: set[int], made: dict[int, Any]) -> list[Any]:
    """A run as a kernel, with the views that others want after it; or as it was, where it is too short."""
    work = [e for e in run if e.op not in ALIASES]
    heavy = any(e.op in ("exp", "tanh", "sigmoid", "log") for e in work)
    if len(work) < 2 and not heavy:
        return run
    used = {id(a) for e in work for a in e.args}
    for eqn in reversed(run):
        if eqn.op in ALIASES and id(eqn.out) in used:
            used |= {id(a) for a in eqn.args}
    wanted: set[int] = set(later)
    views: list[Any] = []
    for eqn in reversed(run):
        if eqn.op in ALIASES and id(eqn.out) in wanted:
            wanted |= {id(a) for a in eqn.args}
            views.insert(0, eqn)
    inner = [*_reshaped(work, lead, made), *(e for e in run if e.op not in ALIASES or id(e.out) in used)]
    fused = Fused(lead, [], run[-1].section)
    twins: dict[int, Any] = {}
    for eqn in inner:
        twin = Eqn(eqn.op, [twins.get(id(a), a) for a in eqn.args], eqn.params, _twin(eqn.out), eqn.section)
        twins[id(eqn.out)] = twin.out
        fused.body.append(twin)
        if id(eqn.out) in wanted and eqn.op not in ALIASES:
            fused.outs.append(Out("stack", twin.out, eqn.out))
    known = {**made, **definitions(fused.body)}
    assert all(supported(e, lead, known) or row_sum(e, known) for e in fused.body)
    return [fused, *views]


def _reshaped(work: list[Any], lead: tuple[Any, ...], made: dict[int, Any]) -> list[Any]:
    """Reshapes before a run by which it reads an array in two shapes: within it, they are one array."""
    read = {id(a) for e in work for a in e.args}
    found = {id(a): made[id(a)] for e in work for a in e.args if id(a) in made}
    return [
        e
        for e in found.values()
        if e.op == "reshape" and id(e.args[0]) in read and e not in work and supported(e, lead, made)
    ]


def plain_sums(program: Program) -> None:
    """In kernels a sum of a row is a sum; products with ones are for NumPy, where they are faster."""
    made = definitions(program.eqns)
    for loop in program.eqns:
        if isinstance(loop, Loop) and (isinstance(loop, Fused) or not obstacle(loop, made)):
            known = {**made, **definitions(loop.body)}
            for eqn in loop.body:
                if eqn.op == "dot" and row_sum(eqn, known):
                    x = eqn.args[0]
                    eqn.op, eqn.args, eqn.params = "sum", [x], {"axes": (x.ndim - 1,), "keepdims": False}
    dead_code(program)


def packed_products(program: Program) -> None:
    """Products with what is the same at every timestep become those with a packed matrix.

    But for small ones, and for large ones where the BLAS has several threads, which share the work.
    """
    made = definitions(program.eqns)
    for loop in program.eqns:
        if isinstance(loop, Loop) and not isinstance(loop, (Fused, Pieces)) and not obstacle(loop, made):
            for eqn in loop.body:
                if eqn.op == "dot" and _is_packable(eqn):
                    W, turned = _upright(eqn.args[1], made)
                    eqn.op, eqn.args, eqn.params = "packed_dot", [eqn.args[0], W], {"turned": turned}
    dead_code(program)


_LEAST, _SHARED = 2**13, 2**18
"""With a matrix of fewer elements a BLAS is as fast; with more it is worth several threads."""


def _is_packable(eqn: Eqn) -> bool:
    x, W = eqn.args
    if x.ndim != 2 or W.ndim != 2 or same(x.shape[0], 1) or not all(type(n) is int for n in W.shape):
        return False
    elements = W.shape[0] * W.shape[1]
    return bool(elements >= _LEAST) and (threads() == 1 or elements <= _SHARED)


def _upright(W: Any, made: dict[int, Any]) -> tuple[Any, bool]:
    """The matrix that W is, or is a copy of, and whether with its axes exchanged."""
    view = made.get(id(W))
    if view is not None and view.op == "copy":
        view = made.get(id(view.args[0]))
    if view is None or view.op != "transpose" or view.args[0].ndim != 2:
        return W, False
    return view.args[0], True


def _twin(v: Var) -> Var:
    return Var(v.shape, v.dtype, v.name)
