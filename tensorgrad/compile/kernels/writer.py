"""The page of a program whose loops and runs of element-wise work are kernels."""

from __future__ import annotations

import math
from contextlib import AbstractContextManager
from typing import Any, NamedTuple

import numpy as np

from tensorgrad.compile.emit import _Writer, loop_heading
from tensorgrad.compile.expressions import dtype_text, shape_text
from tensorgrad.compile.ir import Loop, Pieces, Program, verify
from tensorgrad.compile.kernels.build import HEAD, build
from tensorgrad.compile.kernels.finish import packed_products, plain_sums, shared_products
from tensorgrad.compile.kernels.fuse import Fused, fuse
from tensorgrad.compile.kernels.inward import copied, into_loops
from tensorgrad.compile.kernels.kernel import Kernel, Parameter
from tensorgrad.compile.kernels.loop import LoopKernel, obstacle
from tensorgrad.compile.kernels.nest import Nest
from tensorgrad.compile.kernels.rows import definitions
from tensorgrad.compile.kernels.schedule import Schedule
from tensorgrad.compile.kernels.share import product_shared, rows_of_kernel, team
from tensorgrad.compile.loops import LoopWriter
from tensorgrad.compile.page import Page
from tensorgrad.compile.passes import within
from tensorgrad.compile.plan import VIEWS, Block, Storage

__all__ = ["emit_fast"]


def emit_fast(program: Program, name: str, sizes: dict[str, tuple[int, int]]) -> Page | None:
    """The page for a program with kernels; None where nothing in it can be one."""
    program = copied(program)
    within(into_loops)(program)
    verify(program, "kernels: into loops")
    within(fuse)(program)
    within(plain_sums)(program)
    within(packed_products)(program)
    within(shared_products)(program)
    verify(program, "kernels: fuse")
    writer = _FastWriter(program, name, sizes)
    page = writer.page()
    if not writer.kernels:
        return None
    # A loop over time in NumPy needs the BLAS's own threads.
    return FastPage(page, writer.kernels, writer.targets, all(writer.is_fast.values()))


class FastPage(Page):
    """A page and its kernels. shown: the text of all of it. targets: what became of each loop.

    sharable: whether several threads may share what it does.
    """

    def __init__(self, page: Page, kernels: list[Kernel], targets: list[str], sharable: bool) -> None:
        names = {**page.names, **{k.name: build(k) for k in kernels}}
        names |= {"contiguous": contiguous, "product_shared": product_shared, "aligned": aligned}
        super().__init__(page.source, page.name, names, page.buffers)
        loops = [k for k in kernels if k.is_loop] or kernels
        self.rows = [rows_of_kernel(k) for k in loops] if sharable else []
        self.targets = targets
        rest = page.source.split("\n", 1)[1]
        shared = ["" if k.rows is None else "@share_rows\n" for k in kernels]
        shown = [f"{how}@njit\n{k.source().strip()}" for how, k in zip(shared, kernels, strict=True)]
        parts = [HEAD.strip(), *shown, rest.strip()]
        self.shown = "\n\n\n".join(parts) + "\n"

    def team(self, sizes: tuple[int, ...]) -> AbstractContextManager[None]:
        """As many as there are rows for in every loop over time."""
        return team(min((rows(*sizes) for rows in self.rows), default=0))


def contiguous(x: Any) -> Any:
    """x as kernels take it: in C order, aligned and writable; itself if it is all that."""
    return x if x.flags.carray else np.array(x, order="C")


def aligned(shape: tuple[int, ...], dtype: Any) -> Any:
    """An empty array that begins where a line of the cache does: no vector of it lies in two lines."""
    size = math.prod(shape) * np.dtype(dtype).itemsize
    room = np.empty(size + _LINE, np.uint8)
    start = -room.ctypes.data % _LINE
    return room[start : start + size].view(dtype).reshape(shape)


_LINE = 64


class _History(NamedTuple):
    wish: str
    text: str


class _FastWriter(_Writer):
    empty = "aligned"

    def __init__(self, program: Program, name: str, sizes: dict[str, tuple[int, int]]) -> None:
        super().__init__(program, name, sizes)
        self.kernels: list[Kernel] = []
        self.targets: list[str] = []
        self.made = definitions(program.eqns)
        self.is_fast: dict[int, bool] = {}
        pieces = [e for e in program.eqns if isinstance(e, Pieces)]
        for loop in pieces:
            self.made |= definitions(loop.body)
        for e in [e for eqns in (program.eqns, *(p.body for p in pieces)) for e in eqns]:
            if isinstance(e, Loop) and not isinstance(e, Pieces):
                why = "" if isinstance(e, Fused) else obstacle(e, self.made)
                self.is_fast[id(e)] = not why
                if why:
                    self.targets.append(f"a loop over {e.length} timesteps stays in NumPy: {why}")

    def equation(self, eqn: Any, block: Block) -> None:
        """Write one equation, or a kernel's call."""
        if not self.is_fast.get(id(eqn)):
            super().equation(eqn, block)
        elif isinstance(eqn, Fused):
            self._fused(eqn, block)
        else:
            _KernelLoop(self, eqn, block).write()

    def comment(self, eqn: Any, block: Block) -> None:
        """Headings, of which kernels have those in their names."""
        if eqn.section == "backward" and not self.backward and eqn.op not in {"full", *VIEWS}:
            self.backward = True
            self.lines += ["", "    # ---- backward ----"]
        if isinstance(eqn, Loop) and not self.is_fast.get(id(eqn)):
            self.lines += ["", loop_heading(eqn)]

    # --- kernels -------------------------------------------------------------------------------------------
    def kernel(self, wish: str, about: str) -> Kernel:
        """A new kernel, whose name is free on the page too."""
        kernel = Kernel(self.fresh(wish), list(self.sizes), about)
        self.kernels.append(kernel)
        return kernel

    def invoke(self, kernel: Kernel, block: Block, known: dict[Any, str]) -> None:
        """The call of a kernel."""
        arrays = [self.argument(p, block, known) for p in kernel.parameters]
        self.given[kernel.name] = kernel
        text = f"{kernel.name}({', '.join([*self.sizes, *arrays])})"
        if len(text) <= 100:
            self.line(text)
            return
        import textwrap

        self.line(f"{kernel.name}(")
        for row in textwrap.wrap(", ".join([*self.sizes, *arrays]), 96, break_long_words=False):
            self.line(f"    {row}")
        self.line(")")

    def argument(self, p: Parameter, block: Block, known: dict[Any, str]) -> str:
        """How the page passes what a parameter stands for."""
        if p.room:
            storage = self.room.take(p.shape, p.dtype, block.now, block.now, block.storages)
            name = self.fresh(p.name)
            storage.names.append(name)
            return name
        key = id(p.value[1]) if type(p.value) is tuple else id(p.value)
        if key in known:
            return known[key]
        text = self[p.value]
        if p.shape is None:
            shaped = (
                f"{text}.reshape(-1)[0]" if p.value.ndim else f"np.asarray({text}, {dtype_text(p.dtype)})[()]"
            )
            return shaped
        home = self.storage.get(id(p.value))
        whole = home is not None and home.kind == "buffer" and text in home.names
        return text if whole else f"contiguous({text})"

    def _fused(self, eqn: Fused, block: Block) -> None:
        names = [o.outer.name for o in eqn.outs if o.outer.name]
        kernel = self.kernel(
            f"rows_{names[-1] if names else 'v'}", "Element by element, all timesteps at once."
        )
        kernel.lead = eqn.lead
        kernel.rows = eqn.lead[0]
        known: dict[Any, str] = {}
        stores: list[Any] = []
        replaced: set[int] = set()
        made = {**self.made, **definitions(eqn.body)}
        schedule = Schedule(eqn.body, eqn.lead, made)
        inside = {id(e.out) for e in eqn.body}
        for o in eqn.outs:
            over = next(
                (
                    x
                    for x in eqn.args
                    if id(x) not in inside | replaced
                    and self.is_free(x, o.outer, block, eqn.args)
                    and schedule.may_replace(o.inner, x)
                ),
                None,
            )
            if over is None:
                self.room_for(o.outer, block)
                array = kernel.parameter(o.outer.name, o.outer, o.outer.dtype, o.outer.shape)
            else:
                replaced.add(id(over))
                self.take_over(o.outer, over, block)
                array = kernel.place(over)[0]
            known[id(o.outer)] = self[o.outer]
            stores.append((o.inner, (array, [], True)))
        Nest(kernel, schedule, stores).write()
        self.targets.append(f"{kernel.name}: {len(eqn.body)} equations over rows in a compiled kernel")
        self.invoke(kernel, block, known)

    def room_for(self, out: Any, block: Block, zero: bool = False) -> None:
        """An array for a result, of its own if it is returned."""
        if id(out) in self.fixed:
            self.put(out, self[out], Storage("fresh", last=block.last[id(out)]))
            make = "np.zeros" if zero else "np.empty"
            self.line(f"{self[out]} = {make}({shape_text(out.shape)}, {dtype_text(out.dtype)})")
        else:
            self.put(out, *self.buffer(out, block))
            if zero:
                self.line(f"{self[out]}[...] = 0.0")


class _KernelLoop(LoopWriter):
    """A loop as the call of a kernel: its arrays are laid out as in NumPy."""

    def write(self) -> None:
        w, loop = self.w, self.loop
        known: dict[Any, str] = {}
        histories: dict[int, Any] = {}
        for c in loop.carries:
            stacks = [o for o in loop.outs if o.kind == "stack" and o.inner in (c.before, c.after)]
            if stacks:
                self.begin_history(c, stacks)
                name = self.history[id(c)]
                histories[id(c)] = entry = _History(name, name)
                known[id(entry)] = name
            else:
                self.begin_state(c)
                known[id(c)] = w[c.before]
        way = "backward" if loop.section == "backward" else "forward"
        order = "backwards" if loop.reverse else "forwards"
        kernel = w.kernel(way, f"The recurrence, timestep by timestep {order}.")
        body = LoopKernel(kernel, loop, histories, w.made)
        for o in loop.outs:
            if o.kind == "total" or not self.in_history(o):
                over = self.replaceable(o, body.may_replace)
                if over is None:
                    w.room_for(o.outer, self.outer, zero=o.kind == "total")
                else:
                    body.replaced[id(o.outer)] = over
                    w.take_over(o.outer, over, self.outer)
                known[id(o.outer)] = w[o.outer]
        body.write()
        w.targets.append(f"{kernel.name}: a loop over {loop.length} timesteps in a compiled kernel")
        w.invoke(kernel, self.outer, known)
        for c in loop.carries:
            if c.final is not None:
                end = 0 if loop.reverse else loop.length
                array = self.history.get(id(c))
                w.line(f"{w[c.final]} = {f'{array}[{end}]' if array else w[c.before]}")
                w.outside(c.final, w[c.final])
