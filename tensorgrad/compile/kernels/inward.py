"""Work on stacks moved back into the loops, where its numbers are still in the cache.

The passes of the NumPy page move it out of loops, to do it for all timesteps in one call; a kernel has no
calls to save. That is true of element-wise work, of sums along rows, and of products with a matrix that is
packed once for all timesteps.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from tensorgrad.compile.ir import Carry, Const, Eqn, Loop, Out, Program, Var, results
from tensorgrad.compile.kernels.loop import obstacle
from tensorgrad.compile.kernels.rows import ALIASES, definitions, row_sum, rows_of_stack, same
from tensorgrad.compile.kernels.steps import of_all_rows, per_step, product_of_step, step_of, sum_of_step
from tensorgrad.compile.kernels.worth import worth_taking
from tensorgrad.compile.passes.clean import dead_code

__all__ = ["copied", "into_loops"]


def copied(program: Program) -> Program:
    """The same program in lists and equations of its own."""
    eqns: list[Any] = []
    for eqn in program.eqns:
        if isinstance(eqn, Loop):
            eqns.append(_copied_loop(eqn))
        else:
            eqns.append(Eqn(eqn.op, eqn.args, eqn.params, eqn.out, eqn.section))
    twin = Program(list(program.inputs), eqns, list(program.outputs))
    twin.lengths = program.lengths
    return twin


def _copied_loop(loop: Loop) -> Loop:
    twin = type(loop)(loop.length, loop.reverse, loop.section)
    twin.xs = list(loop.xs)
    twin.carries = [Carry(c.init, c.before, c.after, c.final) for c in loop.carries]
    twin.outs = [Out(o.kind, o.inner, o.outer) for o in loop.outs]
    twin.body = copied(Program([], loop.body, [])).eqns
    return twin


def into_loops(program: Program) -> None:
    """Move work on stacks into the loop that is the first to read the result, or that made the stacks."""
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


def _take_inputs(program: Program, loop: Loop, taken: set[tuple[Loop, Any]]) -> bool:
    """What makes the stacks that this loop reads, and others after it; views of what is read anywhere.

    taken: loops, and concatenations that were taken into them. What reads one and is taken later would bring
    it in again, with all its parts, and what those are made of: that grows without end.
    """
    made, readers = definitions(program.eqns), _readers(program)
    # The program's outputs, which no equation reads, are read at its end.
    later = [None, *program.eqns[program.eqns.index(loop) + 1 :]]
    for position, (x, inner) in enumerate(loop.xs):
        eqn = made.get(id(x))
        if eqn is None or (loop, x) in taken:
            continue
        others = [r for r in readers[id(x)] if r is not loop or _reads_whole(loop, x)]
        view = eqn.op in ALIASES and per_step(eqn, loop.length)
        if not view and any(r not in later for r in others):
            continue
        del loop.xs[position]
        given = len(loop.xs)
        mine = _input_of_step(eqn, loop, made, readers, program.lengths)
        if mine is not None:
            mine.out = inner
        if mine is None or obstacle_of(loop, mine, made):
            del loop.xs[given:]
            loop.xs.insert(position, (x, inner))
            continue
        loop.body.insert(0, mine)
        if eqn.op == "concatenate":
            taken.add((loop, x))
        if not (view and others):
            program.eqns.remove(eqn)
            loop.outs += [Out("stack", inner, x)] if others else []
        return True
    return False


def _input_of_step(
    eqn: Eqn, loop: Loop, made: dict[int, Any], readers: dict[int, list[Any]], lengths: dict[str, int]
) -> Eqn | None:
    """What makes for one timestep what an equation makes for all; None if nothing does, or should."""
    if per_step(eqn, loop.length):
        return step_of(eqn, lambda stack: _step_input(loop, stack))
    found = of_all_rows(eqn, made)
    if found is None:
        return None
    total, stack = found
    alone = readers[id(total.out)] == [eqn]
    if not alone or stack.ndim < 3 or not same(stack.shape[0], loop.length):
        return None
    if row_sum(total, made) == "sum":
        return sum_of_step(eqn, _step_input(loop, stack))
    W = total.args[1]
    if stack.ndim == 3 and worth_taking(stack, W, lengths):
        return product_of_step(eqn, _step_input(loop, stack), W)
    return None


def _reads_whole(loop: Loop, x: Any) -> bool:
    """Whether a loop reads a stack as a whole too, as the state at first or within."""
    ends = [v for c in loop.carries for v in (c.init, c.after)] + [o.inner for o in loop.outs]
    return any(a is x for a in [*ends, *(a for e in loop.body for a in e.args)])


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
        if not per_step(eqn, loop.length) or not any(id(a) in stacks for a in eqn.args):
            continue
        if eqn.op == "index" or not all(
            id(a) in stacks or id(a) in before or isinstance(a, Const) for a in eqn.args
        ):
            continue
        if any(id(a) in stacks and a.ndim != eqn.out.ndim for a in eqn.args):
            continue
        given = len(loop.xs)
        mine = step_of(eqn, lambda a: stacks[id(a)] if id(a) in stacks else _step_input(loop, a))
        loop.body.append(mine)
        if obstacle(loop, made):
            loop.body.pop()
            del loop.xs[given:]
            continue
        loop.outs.append(Out("stack", mine.out, eqn.out))
        program.eqns.remove(eqn)
        return True
    return False


def _ones(x: Any, made: dict[int, Any]) -> bool:
    eqn = made.get(id(x))
    return isinstance(eqn, Eqn) and eqn.op == "full" and eqn.params["value"] == 1


def _take_row_sums(program: Program, loop: Loop) -> bool:
    """Sums along the rows of this loop's results, which stand there as products with ones."""
    stacks = {id(o.outer): o.inner for o in loop.outs if o.kind == "stack"}
    made = definitions(program.eqns)
    for eqn in program.eqns[program.eqns.index(loop) + 1 :]:
        found = of_all_rows(eqn, made)
        if found is None or row_sum(found[0], made) != "sum" or id(found[1]) not in stacks:
            continue
        mine = sum_of_step(eqn, stacks[id(found[1])])
        loop.body.append(mine)
        if obstacle(loop, made):
            loop.body.pop()
            continue
        loop.outs.append(Out("stack", mine.out, eqn.out))
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
        stack = rows_of_stack(eqn.args[1], made)
        if id(stack) not in stacks:
            continue
        loop.outs.append(Out("total", stacks[id(stack)], eqn.out))
        if obstacle(loop, made):
            loop.outs.pop()
            continue
        program.eqns.remove(eqn)
        return True
    return False
