"""What `explain()` says of a compiled function."""

from __future__ import annotations

import textwrap
from typing import Any

from tensorgrad.compile.ir import Loop, Pieces, walk

__all__ = ["explain"]


def explain(executable: Any) -> str:
    """The lengths that are free, the passes, the loops and the buffers of a page."""
    lines = [*_lengths(executable), "", *_passes(executable.log), "", *_loops(executable.program.eqns)]
    lines += _moved(executable.program.moved)
    lines += ["", *_targets(executable)]
    return "\n".join([*lines, "", *_buffers(executable)])


def _lengths(executable: Any) -> list[str]:
    names = {v: v.name for v in executable.program.inputs}
    if executable.where:
        inputs = executable.program.inputs
        told = [f"{s} = {names[inputs[n]]}.shape[{a}]" for s, (n, a) in executable.where.items()]
        return [f"free lengths: {', '.join(told)}; one program for all of them"]
    why = f": {executable.why}" if executable.why else ""
    return [f"no free lengths, one program for these shapes{why}"]


def _passes(log: list[tuple[str, tuple[int, int]]]) -> list[str]:
    lines = [f"{'equations after':<28}{'outside loops':>15}{'in loops':>10}"]
    last = None
    for name, (outside, inside) in log:
        if (outside, inside) != last:
            lines.append(f"  {name:<26}{outside:>15}{inside:>10}")
        last = outside, inside
    return lines


def _loops(eqns: list[Any]) -> list[str]:
    lines = []
    for loop in (e for e in walk(eqns) if isinstance(e, Loop)):
        way = "backwards" if loop.reverse else "forwards"
        ops: dict[str, int] = {}
        for eqn in loop.body:
            ops[eqn.op] = ops.get(eqn.op, 0) + 1
        body = ", ".join(f"{n} {op}" if n > 1 else op for op, n in ops.items())
        what = "pieces" if isinstance(loop, Pieces) else "timesteps"
        lines.append(f"loop {way} over {loop.length} {what}: {body}")
    return lines or ["no loops"]


def _moved(moved: list[tuple[bool, str, list[str]]]) -> list[str]:
    """What left which loop: operations, how many, and the names of their results."""
    lines = []
    for reverse, place, told in moved:
        counts: dict[str, int] = {}
        for what in told:
            counts[what] = counts.get(what, 0) + 1
        what = ", ".join(f"{n} {w}" if n > 1 else w for w, n in counts.items())
        way = "backwards" if reverse else "forwards"
        text = f"{place} the loop {way}, for all timesteps at once: {what}"
        lines += textwrap.wrap(text, 110, subsequent_indent="    ")
    return lines


def _targets(executable: Any) -> list[str]:
    """What runs as a kernel, and which loops do not and why."""
    targets = ["all of it runs in NumPy"] if executable.fast is None else executable.fast.targets
    return [str(line) for line in targets]


def _buffers(executable: Any) -> list[str]:
    buffers = executable.make_buffers(*executable.sizes)
    size = sum(b.nbytes for b in buffers)
    shared = sum(len(b.names) for b in (executable.fast or executable.page).buffers)
    return [f"{len(buffers)} buffers for {shared} results, {size / 2**20:.2f} MiB at the last shapes"]
