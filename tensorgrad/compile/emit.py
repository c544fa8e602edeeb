"""A program as a page of NumPy: one function for its buffers, one for the work.

Equations are written in their order. Each result goes where `plan` finds room: into the stack or the state
that it is a part of, over an operand that nobody needs any more, or into a buffer.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np

from tensorgrad.compile.expressions import INFIX, dtype_text, expression, number_text, reshaped, subscript
from tensorgrad.compile.ir import Const, Eqn, Loop, Pieces, Program, Var, walk
from tensorgrad.compile.loops import LoopWriter
from tensorgrad.compile.page import Page, Script, derive_names, inherit_names, returned
from tensorgrad.compile.plan import VIEWS, WITH_OUT, Block, Storage, side_by_side
from tensorgrad.compile.rules import ELEMENTWISE

__all__ = ["emit", "loop_heading"]

_LONGEST = 80
"""The most letters of a number's expression within another one: lines are to be read, and Python's parser
gives up where brackets lie 200 deep."""


def emit(
    program: Program,
    name: str,
    sizes: dict[str, tuple[int, int]],
    notes: Callable[[list[str]], list[str]] = lambda inputs: [],
) -> Page:
    """The page for a program. sizes: for each symbol the input and axis that tell it. notes: gives the lines
    of its docstring from the names of its inputs; none for no docstring."""
    writer = _Writer(program, name, sizes)
    writer.notes = notes
    return writer.page()


class _Writer(Script):
    def __init__(self, program: Program, name: str, sizes: dict[str, tuple[int, int]]) -> None:
        super().__init__(name, sizes)
        self.program = program
        self.fixed = {id(v) for v in program.outputs}
        self.backward = False
        # Views that got the buffer itself, of which their operand is the view.
        self.shaped: dict[int, str] = {}
        self.views = {id(e.out): e for e in walk(program.eqns) if e.op in VIEWS}

    def page(self) -> Page:
        inputs = [self[v] for v in self.program.inputs]
        for v, name in zip(self.program.inputs, inputs, strict=True):
            self.outside(v, name)
        derive_names(self.program.eqns)
        inherit_names(self.program.eqns)
        self.block(Block(self.program.eqns, self.program.outputs))
        seen: set[int] = set()
        outputs = [self.result(v, seen) for v in self.program.outputs]
        self.lines += returned(outputs)
        return self.finished(inputs)

    def result(self, v: Any, seen: set[int]) -> str:
        """A result as it is returned: an array that is nobody else's."""
        storage = self.storage.get(id(v))
        if isinstance(v, Const):
            return self[v] if v.ndim == 0 else f"{self[v]}.copy()"
        if storage is not None and storage.kind == "fresh" and id(storage) not in seen:
            seen.add(id(storage))
            return self[v]
        return f"np.array({self[v]})"

    # --- equations ---------------------------------------------------------------------------------------
    def block(self, block: Block) -> None:
        """Write a stretch of equations."""
        for position, eqn in enumerate(block.eqns):
            block.now = position
            if self.indent == "    ":
                self.comment(eqn, block)
            self.equation(eqn, block)

    def equation(self, eqn: Any, block: Block) -> None:
        """Write one equation, or a loop."""
        if isinstance(eqn, Loop):
            LoopWriter(self, eqn, block).write()
        elif eqn.op == "call":
            self.call(eqn)
        elif eqn.op in VIEWS:
            self.view(eqn, block)
        elif eqn.op in WITH_OUT and eqn.out.ndim and id(eqn.out) not in self.fixed and _fits_out(eqn):
            self.into(eqn, block)
        elif eqn.op != "full" or id(eqn.out) not in block.starts:
            self.expression(eqn, block)

    def comment(self, eqn: Any, block: Block) -> None:
        """A heading where the backward begins, and where each loop begins and ends."""
        if eqn.section == "backward" and not self.backward:
            self.backward = True
            self.lines += ["", "    # ---- backward ----"]
        before = block.eqns[block.now - 1] if block.now else None
        if isinstance(eqn, Loop):
            self.lines += ["", loop_heading(eqn)]
        elif isinstance(before, Loop):
            self.lines += ["", "    # all timesteps at once"]

    def call(self, eqn: Eqn) -> None:
        """An operation as it is."""
        params = dict(eqn.params)
        op = params.pop("op")
        fn = self.fresh(op.name)
        self.given[fn] = op.forward
        args = [
            self[a] if isinstance(a, Var) else f"np.asarray({self[a]}, {dtype_text(a.dtype)})"
            for a in eqn.args
        ]
        for key, value in params.items():
            args.append(f"{key}={self.parameter(key, value)}")
        self.line(f"{self[eqn.out]} = {fn}({', '.join(args)})")
        # It may be a view of what it was given.
        self.outside(eqn.out, self[eqn.out])

    def parameter(self, key: str, value: Any) -> str:
        """A static parameter as it is written, or a name for what has no spelling."""
        plain = (str, int, float, bool, type(None))
        parts = value if isinstance(value, tuple) else (value,)
        if all(
            isinstance(p, plain) or (isinstance(p, tuple) and all(isinstance(q, plain) for q in p))
            for p in parts
        ):
            return number_text(value)
        name = self.fresh(key)
        self.given[name] = value
        return name

    def expression(self, eqn: Eqn, block: Block) -> None:
        """An equation whose result is an array, or number, of its own."""
        out = eqn.out
        text = expression(eqn, [self[a] for a in eqn.args])
        following = block.eqns[block.now + 1] if block.now + 1 < len(block.eqns) else None
        lone = block.uses.get(id(out)) == 1 and id(out) not in {*self.fixed, *block.kept}
        short = len(text) <= _LONGEST
        if not out.ndim and lone and short and following is not None and _reads_at_once(following, out):
            # A number on its way into one expression.
            self.outside(out, f"({text})" if eqn.op in {*INFIX, "negative", "dot"} else text)
        elif id(out) in block.targets:
            target, storage = block.targets[id(out)]
            self.line(f"{_whole(target)} = {text}")
            self.put(out, target, storage)
        else:
            self.put(out, self[out], Storage("fresh", last=block.last[id(out)]))
            self.line(f"{self[out]} = {text}")

    def view(self, eqn: Eqn, block: Block) -> None:
        """An equation whose result shows the elements of its operand."""
        source, out = eqn.args[0], eqn.out
        storage = self.storage.get(id(source)) or Storage("given", last=np.inf)
        if id(out) in self.shaped:
            self.put(out, self.shaped[id(out)], storage)
            return
        unowned = storage.kind == "fresh" and id(out) in self.fixed and eqn.op != "reshape"
        if unowned or eqn.op == "broadcast":
            # What is returned must be an array of its own; and one element in many places is not to be
            # written over.
            storage = Storage("given", last=np.inf)
        text = expression(eqn, [self[a] for a in eqn.args])
        if id(out) in block.targets:
            target, place = block.targets[id(out)]
            self.line(f"{_whole(target)} = {text}")
            self.put(out, target, place)
        elif eqn.op == "check_range":
            self.line(text)
            self.put(out, self[source], storage)
        elif block.uses.get(id(out)) == 1 and id(out) not in block.kept:
            # Named only where it is used more than once, or within a loop.
            self.put(out, text, storage)
        else:
            out.name = out.name or self.view_name(eqn)
            self.put(out, self[out], storage)
            self.line(f"{self[out]} = {text}")

    def view_name(self, eqn: Eqn) -> str | None:
        """A name for another view of a named variable: W_T, xs_rows."""
        base = self.texts.get(id(eqn.args[0]), "").split("[")[0]
        suffix = {"transpose": "T", "reshape": "rows" if eqn.out.ndim == 2 else "steps"}.get(eqn.op)
        return f"{base}_{suffix}" if suffix and base.isidentifier() else None

    # --- results in arrays that are there already ----------------------------------------------------------
    def into(self, eqn: Eqn, block: Block) -> None:
        """Write an equation whose result goes into an array that is there already."""
        text, storage = self.target(eqn, block)
        args = [self[a] for a in eqn.args]
        if text in args and eqn.op != "where" and self.deserves_a_name(eqn, text):
            # The same array, which from here on holds something else that has a name.
            name = self.fresh(eqn.out.name)
            self.line(f"{name} = {_returned(eqn.op, args, text)}")
            self.put(eqn.out, name, storage)
            storage.last = max(storage.last, block.last[id(eqn.out)])
            return
        self.put(eqn.out, text, storage)
        storage.last = max(storage.last, block.last[id(eqn.out)])
        if eqn.op == "concatenate":
            for (_, template), name in zip(side_by_side(eqn), args, strict=True):
                place = f"{text}[{subscript(template, [])}]"
                if name != place:
                    self.line(f"{place} = {name}")
        elif eqn.op == "where":
            if args[2] != text:
                self.line(f"np.copyto({text}, {args[2]})")
            self.line(f"np.copyto({text}, {args[1]}, where={args[0]})")
        elif eqn.op == "copy" and eqn.out.ndim == 2 and args[0].endswith(".T"):
            self.line(f"transpose_into({text}, {args[0][:-2]})")
        elif eqn.op == "copy":
            self.line(f"np.copyto({text}, {args[0]})")
        elif eqn.op == "minus_one_hot":
            if args[0] != text:
                self.line(f"np.copyto({text}, {args[0]})")
            self.line(f"minus_one_hot({text}, {args[1]})")
        elif eqn.op == "one_hot":
            self.line(f"np.equal({args[0]}[..., None], np.arange({eqn.params['V']}), out={text})")
        elif eqn.op == "gather":
            # The ids are in range; to check them again NumPy would need room of its own.
            self.line(f'np.take({args[0]}, {args[1]}, axis=0, out={text}, mode="clip")')
        elif eqn.op == "sum":
            self.line(f"{expression(eqn, args)[:-1]}, out={text})")
        elif eqn.op == "row_dot":
            self.line(f"np.matmul({args[0]}[..., None, :], {args[1]}[..., None], out={text}[..., None])")
        elif eqn.op == "dot":
            self.line(f"{self.product(eqn)}({args[0]}, {args[1]}, out={text})")
        else:
            self.line(_mapped(eqn.op, args, text))

    def product(self, eqn: Eqn) -> str:
        """The function for a product: np.dot is faster, but slowly copies what it could read as it lies."""
        if eqn.params.get("shared"):
            return "product_shared"
        matrices = eqn.out.ndim == eqn.args[0].ndim == 2
        return "np.dot" if matrices and not any(map(self.would_be_copied, eqn.args)) else "np.matmul"

    def would_be_copied(self, x: Any) -> bool:
        """Whether np.dot copies a matrix that a BLAS can read where it lies."""
        storage = self.storage.get(id(x))
        return (storage is not None and storage.apart > 0) or self.is_turned_part(x)

    def is_turned_part(self, x: Any) -> bool:
        """Whether a matrix is a part of another one, transposed, that a BLAS can read where it lies."""
        part = turned = False
        while (eqn := self.views.get(id(x))) is not None:
            slices = [p for p in eqn.params.get("template", ()) if isinstance(p, slice)]
            if eqn.op in ("flip", "broadcast") or any(p.step not in (None, 1) for p in slices):
                return False
            part |= any(p != slice(None) for p in slices)
            turned |= eqn.op == "transpose"
            x = eqn.args[0]
        return part and turned

    def deserves_a_name(self, eqn: Eqn, text: str) -> bool:
        """Whether a result that is written over an operand is known by another name, outside of loops."""
        name = eqn.out.name
        return (
            self.indent == "    " and bool(name) and text.isidentifier() and text.rstrip("0123456789") != name
        )

    def target(self, eqn: Eqn, block: Block) -> tuple[str, Storage]:
        """Where a result goes."""
        out = eqn.out
        if id(out) in block.targets:
            return block.targets[id(out)]
        if id(out) in block.parts:
            return self.part(out, block)
        for k, a in enumerate(eqn.args):
            if self.may_take(eqn, k, a, block):
                return self[a], self.storage[id(a)]
        shaped = block.reshaped.get(id(out))
        if eqn.op == "dot" and shaped is not None and id(shaped) not in {*self.fixed, *block.targets}:
            # The product of all rows, in the shape in which it is used.
            name, storage = self.buffer(shaped, block)
            self.shaped[id(shaped)] = name
            return reshaped(name, shaped.ndim, out.shape), storage
        return self.buffer(out, block, eqn.params.get("apart", 0))

    def part(self, out: Var, block: Block) -> tuple[str, Storage]:
        """The place of a result in the concatenation that it is a part of."""
        whole, template = block.parts[id(out)]
        if id(whole.out) not in block.targets:
            block.targets[id(whole.out)] = self.buffer(whole.out, block)
        text, storage = block.targets[id(whole.out)]
        return f"{text}[{subscript(template, [])}]", storage

    def part_in_pieces(self, out: Var, block: Block) -> None:
        """Let a loop over pieces write a result into the concatenation in which it is a part."""
        place, storage = self.part(out, block)
        storage.last = max(storage.last, block.last[id(out)])
        name = self.fresh(f"{out.name or 'v'}_pieces")
        self.line(f"{name} = {reshaped(place, out.ndim, out.shape)}")
        self.put(out, name, storage)
        whole = block.parts[id(out)][0]
        rows = next(
            e.out for e in block.eqns if e.op == "reshape" and e.args[0] is out and e.out in whole.args
        )
        self.shaped[id(rows)] = place

    def may_take(self, eqn: Eqn, k: int, a: Any, block: Block) -> bool:
        """Whether a result may be written over operand number k."""
        storage = self.storage.get(id(a))
        if storage is None or storage.kind != "buffer" or storage not in block.storages:
            return False
        if storage.last > block.now or a.shape != eqn.out.shape or a.dtype != eqn.out.dtype:
            return False
        # An expression may make a copy, and writing into that would be lost.
        place = self[a]
        if not (place.isidentifier() or place.endswith("]")) or ")" in place:
            return False
        if eqn.op not in ELEMENTWISE and eqn.op != "minus_one_hot":
            return False
        if eqn.op == "where":
            return k == 2 and all(self.storage.get(id(x)) is not storage for x in eqn.args[:2])
        if eqn.op == "minus_one_hot":
            return k == 0
        # Another operand that is another view of the same array would change under the operation.
        return all(x is a or self.storage.get(id(x)) is not storage for x in eqn.args)

    def is_free(self, x: Any, out: Any, block: Block, args: list[Any]) -> bool:
        """Whether an operand's buffer, all of it, can be a result's: nothing else that is read lies in it."""
        home = self.storage.get(id(x))
        return (
            home is not None
            and home.kind == "buffer"
            and home in block.storages
            and home.last <= block.now
            and self[x] in home.names
            and x.shape == out.shape
            and x.dtype == out.dtype
            and id(out) not in self.fixed
            and not any(self.storage.get(id(a)) is home for a in args if a is not x)
        )

    def take_over(self, out: Any, x: Any, block: Block) -> None:
        """Give a result the buffer of an operand."""
        storage = self.storage[id(x)]
        storage.last = block.last[id(out)]
        name = self.fresh(out.name)
        storage.names.append(name)
        self.put(out, name, storage)

    def buffer(self, out: Var, block: Block, apart: int = 0) -> tuple[str, Storage]:
        """A buffer for a result, under a name of its own."""
        storage = self.room.take(out.shape, out.dtype, block.now, block.last[id(out)], block.storages, apart)
        name = self.fresh(out.name)
        storage.names.append(name)
        return name, storage


def loop_heading(loop: Loop) -> str:
    """The comment above a loop."""
    return f"    # the recurrence, {'piece by piece' if isinstance(loop, Pieces) else 'timestep by timestep'}"


def _whole(target: str) -> str:
    """What is assigned to, to fill a target: h[...], or h[t], which may be a number."""
    return f"{target}[...]" if target.isidentifier() else target


def _returned(op: str, args: list[str], text: str) -> str:
    """An operation over one of its operands, as an expression."""
    if op == "minus_one_hot":
        return f"minus_one_hot({text}, {args[1]})"
    if op == "negative":
        # From columns into columns NumPy's own (2.4) reads wrong elements at some distances.
        return f"np.multiply({args[0]}, -1, out={text})"
    return f"{'sigmoid' if op == 'sigmoid' else f'np.{op}'}({', '.join(args)}, out={text})"


def _fits_out(eqn: Eqn) -> bool:
    """Whether NumPy can write this equation's result into an array that is there."""
    if eqn.op == "gather":
        return bool(eqn.params.get("checked"))
    if eqn.op == "one_hot":
        return bool(eqn.args[0].ndim)
    if eqn.op == "negative":
        # Written as a product with -1, which is no unsigned number.
        return eqn.out.dtype.kind != "u"
    # A choice by numbers instead of booleans is np.where's alone.
    return eqn.op != "where" or eqn.args[0].dtype == bool


def _reads_at_once(eqn: Any, x: Any) -> bool:
    """Whether an equation is one statement that reads x before anything is written.

    Of what is written in steps, the first may change what an expression for x reads; and a view is
    written where it is used, which may be much later.
    """
    if isinstance(eqn, Loop) or eqn.op in {*VIEWS, "where", "minus_one_hot"}:
        return False
    return any(a is x for a in eqn.args)


def _bare(text: str) -> str:
    """An operand that stands alone, without the brackets that it needs beside others."""
    return text[1:-1] if re.fullmatch(r"\((?:[^()]|\([^()]*\))*\)", text) else text


def _mapped(op: str, args: list[str], text: str) -> str:
    """An element-wise operation into `text`, as short as it can be written."""
    if not text.endswith(")"):
        if args[0] == text and op in ("add", "subtract", "multiply", "divide"):
            return f"{text} {INFIX[op]}= {_bare(args[1])}"
        if len(args) > 1 and args[1] == text and op in ("add", "multiply"):
            return f"{text} {INFIX[op]}= {_bare(args[0])}"
    return _returned(op, args, text)
