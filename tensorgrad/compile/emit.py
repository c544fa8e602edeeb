"""A program as a page of NumPy: one function for its buffers, one for the work.

Equations are written in their order. Each result goes where `plan` finds room: into the stack or the state
that it is a part of, over an operand that nobody needs any more, or into a buffer.
"""

from __future__ import annotations

import re
import textwrap
from keyword import iskeyword
from typing import Any

import numpy as np

from tensorgrad.compile.expressions import HELPERS, INFIX, expression, shape_text, subscript
from tensorgrad.compile.ir import Const, Eqn, Loop, Program, Var
from tensorgrad.compile.plan import VIEWS, Room, Storage, last_uses
from tensorgrad.compile.rules import ELEMENTWISE

__all__ = ["Page", "emit"]

_WITH_OUT = ELEMENTWISE - {"cast"} | {"copy", "dot", "minus_one_hot", "sum", "concatenate"}


class Page:
    """The source of a compiled function, the objects that it names but does not define, and its buffers."""

    def __init__(self, source: str, name: str, names: dict[str, Any], buffers: list[Storage]) -> None:
        self.source = source
        self.name = name
        self.names = names
        self.buffers = buffers


def emit(program: Program, name: str, sizes: dict[str, tuple[int, int]]) -> Page:
    """The page for a program. sizes: for each symbol the input and axis that tell it."""
    return _Writer(program, name, sizes).page()


class _Block:
    """What is known of a stretch of equations while it is written."""

    def __init__(self, eqns: list[Any], at_end: list[Any], storages: list[Storage]) -> None:
        self.eqns = eqns
        self.last = last_uses(eqns, at_end)
        self.storages = storages
        self.now = 0
        # Where results must go: a text, and the storage behind it.
        self.targets: dict[int, tuple[str, Storage]] = {}
        self.parts: dict[int, tuple[Eqn, tuple[Any, ...]]] = {}
        self.uses = uses = {}
        # What loops and the end of the block read stays under a name.
        self.kept = {id(x) for x in at_end} | {id(a) for e in eqns if isinstance(e, Loop) for a in e.args}
        made = {id(e.out): e for e in eqns if isinstance(e, Eqn)}
        for eqn in eqns:
            for a in eqn.args:
                uses[id(a)] = uses.get(id(a), 0) + 1
        # What is nothing but the start of a loop's state.
        starts = {id(c.init) for e in eqns if isinstance(e, Loop) for c in e.carries}
        others = {id(x) for x in at_end}
        for e in eqns:
            others |= {id(a) for a in e.args} if isinstance(e, Eqn) else loop_uses(e)
        self.starts = starts - others
        # What is computed for nothing but to be reshaped.
        self.reshaped = {
            id(e.args[0]): e.out
            for e in eqns
            if isinstance(e, Eqn)
            and e.op == "reshape"
            and uses[id(e.args[0])] == 1
            and id(e.args[0]) not in self.kept
        }
        for eqn in eqns:
            if isinstance(eqn, Eqn) and eqn.op == "concatenate":
                start = 0
                for a in eqn.args:
                    axis = eqn.params["axis"]
                    stop = start + a.shape[axis]
                    source = made.get(id(a))
                    if (
                        source is not None
                        and source.op in ELEMENTWISE - {"cast", "where"}
                        and id(a) not in self.parts
                    ):
                        template = (*(slice(None),) * axis, slice(start, stop))
                        self.parts[id(a)] = eqn, template
                    start = stop


def loop_uses(loop: Loop) -> set[int]:
    """What a loop reads apart from the start of its state."""
    inside = {id(a) for e in loop.body for a in e.args}
    inside |= {id(c.after) for c in loop.carries} | {id(o.inner) for o in loop.outs}
    return inside | {id(x) for x, _ in loop.xs}


def inherit_names(eqns: list[Any]) -> None:
    """What is on its way into one named result, to be written over there, is called so from the start."""
    uses: dict[int, int] = {}
    for eqn in eqns:
        for a in eqn.args:
            uses[id(a)] = uses.get(id(a), 0) + 1
    for eqn in reversed(eqns):
        if isinstance(eqn, Loop):
            inherit_names(eqn.body)
        elif eqn.out.name and eqn.args and (eqn.op in ELEMENTWISE or eqn.op in ("reshape", "minus_one_hot")):
            for a in eqn.args:
                if isinstance(a, Var) and a.name is None and uses[id(a)] == 1 and a.ndim == eqn.out.ndim:
                    a.name = eqn.out.name
                    break


def wrapped(text: str, tail: str) -> list[str]:
    """A long tuple in lines that can be read."""
    lines = textwrap.wrap(text[1:-1], 96)
    if len(lines) == 1:
        return [f"    {text[1:-1]}{tail}"]
    return ["    (", *(f"        {line}" for line in lines[:-1]), f"        {lines[-1]},", f"    ){tail}"]


class _Writer:
    def __init__(self, program: Program, name: str, sizes: dict[str, tuple[int, int]]) -> None:
        self.program = program
        self.name = name
        self.sizes = sizes
        self.taken = {"np", "t", "buffers", "make_buffers", name, *sizes, *HELPERS}
        self.texts: dict[Any, str] = {}
        self.given: dict[str, Any] = {}
        self.storage: dict[int, Storage] = {}
        self.room = Room()
        self.fixed = {id(v) for v in program.outputs}
        self.lines: list[str] = []
        self.indent = "    "
        self.backward = False
        # Views that got the buffer itself, of which their operand is the view.
        self.shaped: dict[int, str] = {}

    # --- names -------------------------------------------------------------------------------------------
    def fresh(self, wish: str | None) -> str:
        base = re.sub(r"\W", "_", wish or "v")
        base = f"_{base}" if base[0].isdigit() else base
        name, k = base, 1
        while name in self.taken or iskeyword(name) or not name.isidentifier():
            k += 1
            name = f"{base}{k}" if not base[-1].isdigit() else f"{base}_{k}"
        self.taken.add(name)
        return name

    def __getitem__(self, x: Any) -> str:
        if isinstance(x, Const):
            return self.constant(x)
        if id(x) not in self.texts:
            self.texts[id(x)] = self.fresh(x.name)
        return self.texts[id(x)]

    def constant(self, c: Const) -> str:
        if c.text is not None:
            return f"({c.text})" if " " in c.text else c.text
        if c.ndim == 0 and np.isfinite(c.value):
            return repr(c.value.item())
        if c.ndim == 0 and c.dtype.kind == "f":
            return {"inf": "np.inf", "-inf": "-np.inf"}.get(str(c.value), "np.nan")
        key = repr(c.key())
        if key not in self.texts:
            self.texts[key] = name = self.fresh("constant")
            self.given[name] = c.value
        return self.texts[key]

    def line(self, text: str) -> None:
        self.lines.append(self.indent + text)

    # --- the page ----------------------------------------------------------------------------------------
    def page(self) -> Page:
        inputs = [self[v] for v in self.program.inputs]
        for v in self.program.inputs:
            self.storage[id(v)] = Storage("given", last=np.inf)
        inherit_names(self.program.eqns)
        self.block(_Block(self.program.eqns, self.program.outputs, []))
        seen: set[int] = set()
        outputs = [self.result(v, seen) for v in self.program.outputs]
        self.line(f"return {', '.join(outputs)}{',' if len(outputs) == 1 else ''}")
        symbols = ", ".join(self.sizes)
        head = [f"def {self.name}({', '.join([*inputs, 'buffers=None'])}):"]
        head += self.size_lines(inputs)
        names = [b.names[0] for b in self.room.buffers]
        if names:
            head.append(
                f"    {', '.join(names)}{',' if len(names) == 1 else ''} = buffers or make_buffers({symbols})"
            )
            head += [f"    {n} = {b.names[0]}" for b in self.room.buffers for n in b.names[1:]]
        body = "\n".join([*head, *self.lines])
        make = self.make_buffers(symbols) if names else ""
        helpers = "\n".join(HELPERS[h] for h in HELPERS if re.search(rf"\b{h}\(", body))
        known = self.constants()
        source = f"import numpy as np\n{known}{helpers}\n{make}\n{body}\n"
        return Page(source, self.name, self.given, self.room.buffers)

    def size_lines(self, inputs: list[str]) -> list[str]:
        """T and B from the shapes of the inputs."""
        found = [(number, axis) for number, axis in self.sizes.values()]
        if found and found == [(found[0][0], k) for k in range(len(found))] and len(found) > 1:
            return [f"    {', '.join(self.sizes)} = {inputs[found[0][0]]}.shape[:{len(found)}]"]
        return [f"    {s} = {inputs[number]}.shape[{axis}]" for s, (number, axis) in self.sizes.items()]

    def constants(self) -> str:
        """Definitions of the constant arrays that are short enough to be printed."""
        lines = []
        for name, value in list(self.given.items()):
            if isinstance(value, np.ndarray) and value.size <= 1000:
                with np.printoptions(threshold=2000, floatmode="unique", linewidth=100):
                    lines.append(f"{name} = np.array({value.tolist()!r}, np.{value.dtype.name})")
                del self.given[name]
        return "\n".join(["", *lines, ""]).replace("inf", "np.inf").replace("nan", "np.nan") if lines else ""

    def make_buffers(self, symbols: str) -> str:
        lines = [
            "",
            f"def make_buffers({symbols}):",
            '    """Room for what a step computes on its way, to be used again."""',
        ]
        lines.append("    return (")
        for b in self.room.buffers:
            lines.append(
                f"        np.empty({shape_text(b.shape)}, np.{b.dtype.name}),  # {', '.join(b.names)}"
            )
        return "\n".join([*lines, "    )", ""])

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
    def block(self, block: _Block) -> None:
        for position, eqn in enumerate(block.eqns):
            block.now = position
            if self.indent == "    ":
                self.comment(eqn, block)
            if isinstance(eqn, Loop):
                self.loop(eqn, block)
            elif eqn.op == "call":
                self.call(eqn)
            else:
                self.equation(eqn, block)

    def comment(self, eqn: Any, block: _Block) -> None:
        """A heading where the backward begins, and one where each loop does."""
        if eqn.section == "backward" and not self.backward:
            self.backward = True
            self.lines += ["", "    # ---- backward ----"]
        before = block.eqns[block.now - 1] if block.now else None
        if isinstance(eqn, Loop):
            self.lines += ["", "    # the recurrence, timestep by timestep"]
        elif isinstance(before, Loop):
            self.lines += ["", "    # all timesteps at once"]

    def call(self, eqn: Any) -> None:
        params = dict(eqn.params)
        op = params.pop("op")
        fn = self.fresh(op.name)
        self.given[fn] = op.forward
        args = [
            self[a] if isinstance(a, Var) else f"np.asarray({self[a]}, np.{a.dtype.name})" for a in eqn.args
        ]
        args += [f"{k}={v!r}" for k, v in params.items()]
        self.line(f"{self[eqn.out]} = {fn}({', '.join(args)})")
        # It may be a view of what it was given.
        self.storage[id(eqn.out)] = Storage("given", last=np.inf)

    def equation(self, eqn: Eqn, block: _Block) -> None:
        out = eqn.out
        if eqn.op in VIEWS or eqn.op == "check_range":
            self.view(eqn, block)
            return
        if eqn.op in _WITH_OUT and out.ndim and id(out) not in self.fixed:
            self.into(eqn, block)
            return
        target = block.targets.get(id(out))
        if eqn.op == "full" and id(out) in block.starts:
            return
        text = expression(eqn, [self[a] for a in eqn.args])
        following = block.eqns[block.now + 1].args if block.now + 1 < len(block.eqns) else ()
        lone = block.uses.get(id(out)) == 1 and id(out) not in self.fixed
        if not out.ndim and lone and any(a is out for a in following):
            # A number on its way into one expression.
            self.texts[id(out)] = f"({text})" if eqn.op in {*INFIX, "negative", "dot"} else text
            self.storage[id(out)] = Storage("given", last=np.inf)
            return
        if target is not None:
            self.line(f"{target[0]}[...] = {text}")
            self.texts[id(out)], self.storage[id(out)] = target
            return
        self.storage[id(out)] = Storage("fresh", last=block.last[id(out)])
        self.line(f"{self[out]} = {text}")

    def view(self, eqn: Eqn, block: _Block) -> None:
        source = eqn.args[0]
        if id(eqn.out) in self.shaped:
            self.texts[id(eqn.out)] = self.shaped[id(eqn.out)]
            self.storage[id(eqn.out)] = self.storage[id(source)]
            return
        text = expression(eqn, [self[a] for a in eqn.args])
        storage = self.storage.get(id(source)) or Storage("given", last=np.inf)
        if storage.kind == "fresh" and eqn.op != "reshape":
            # What is returned must be an array of its own.
            storage = Storage("given", last=np.inf) if id(eqn.out) in self.fixed else storage
        target = block.targets.get(id(eqn.out))
        if target is not None:
            self.line(f"{target[0]}[...] = {text}")
            self.texts[id(eqn.out)], self.storage[id(eqn.out)] = target
            return
        self.storage[id(eqn.out)] = storage
        if eqn.op != "check_range" and block.uses.get(id(eqn.out)) == 1 and id(eqn.out) not in block.kept:
            # Named only where it is used more than once, or within a loop.
            self.texts[id(eqn.out)] = text
            return
        if eqn.out.name is None:
            eqn.out.name = self.view_name(eqn)
        self.line(f"{self[eqn.out]} = {text}")

    def view_name(self, eqn: Eqn) -> str | None:
        """A name for another view of a named variable: W_T, xs_rows."""
        base = self.texts.get(id(eqn.args[0]), "").split("[")[0]
        suffix = {"transpose": "T", "reshape": "rows" if eqn.out.ndim == 2 else "steps"}.get(eqn.op)
        return f"{base}_{suffix}" if suffix and base.isidentifier() else None

    def into(self, eqn: Eqn, block: _Block) -> None:
        """Write an equation whose result goes into an array that is there already."""
        text, storage = self.target(eqn, block)
        self.texts[id(eqn.out)] = text
        self.storage[id(eqn.out)] = storage
        storage.last = max(storage.last, block.last[id(eqn.out)])
        args = [self[a] for a in eqn.args]
        fn = "sigmoid" if eqn.op == "sigmoid" else f"np.{eqn.op}"
        if eqn.op == "concatenate":
            start = 0
            for a, name in zip(eqn.args, args, strict=True):
                axis = eqn.params["axis"]
                template = (*(slice(None),) * axis, slice(start, start + a.shape[axis]))
                start += a.shape[axis]
                place = f"{text}[{subscript(template, [])}]"
                if name != place:
                    self.line(f"{place} = {name}")
        elif eqn.op == "where":
            if args[2] != text:
                self.line(f"np.copyto({text}, {args[2]})")
            self.line(f"np.copyto({text}, {args[1]}, where={args[0]})")
        elif eqn.op == "copy":
            self.line(f"np.copyto({text}, {args[0]})")
        elif eqn.op == "minus_one_hot":
            if args[0] != text:
                self.line(f"np.copyto({text}, {args[0]})")
            self.line(f"minus_one_hot({text}, {args[1]})")
        elif eqn.op == "sum":
            self.line(f"{expression(eqn, args)[:-1]}, out={text})")
        elif eqn.op == "dot":
            fn = "np.dot" if eqn.out.ndim == 2 and eqn.args[0].ndim == 2 else "np.matmul"
            self.line(f"{fn}({args[0]}, {args[1]}, out={text})")
        elif text.endswith(")"):
            self.line(f"{fn}({', '.join(args)}, out={text})")
        elif args[0] == text and eqn.op in ("add", "subtract", "multiply", "divide"):
            self.line(f"{text} {INFIX[eqn.op]}= {args[1]}")
        elif len(args) > 1 and args[1] == text and eqn.op in ("add", "multiply"):
            self.line(f"{text} {INFIX[eqn.op]}= {args[0]}")
        else:
            self.line(f"{fn}({', '.join(args)}, out={text})")

    def target(self, eqn: Eqn, block: _Block) -> tuple[str, Storage]:
        """Where a result goes."""
        out = eqn.out
        if id(out) in block.targets:
            return block.targets[id(out)]
        if id(out) in block.parts:
            whole, template = block.parts[id(out)]
            text, storage = self.whole(whole, block)
            return f"{text}[{subscript(template, [])}]", storage
        for k, a in enumerate(eqn.args):
            storage_of = self.storage.get(id(a))
            if (
                storage_of is not None
                and storage_of.kind == "buffer"
                and storage_of in block.storages
                and storage_of.last <= block.now
                and self.may_take(eqn, k, a)
            ):
                return self[a], storage_of
        shaped = block.reshaped.get(id(out))
        if (
            eqn.op == "dot"
            and shaped is not None
            and id(shaped) not in self.fixed
            and id(shaped) not in block.targets
        ):
            # The product of all rows, in the shape in which it is used.
            name, storage = self.buffer(shaped, block)
            self.shaped[id(shaped)] = name
            return f"{name}.reshape{shape_text(out.shape)}", storage
        return self.buffer(out, block)

    def may_take(self, eqn: Eqn, k: int, a: Any) -> bool:
        """Whether a result may be written over operand number k."""
        if a.shape != eqn.out.shape or a.dtype != eqn.out.dtype or eqn.op in ("copy", "dot", "sum", "concatenate"):
            return False
        if eqn.op == "where":
            return k == 2 and all(self.storage.get(id(x)) is not self.storage[id(a)] for x in eqn.args[:2])
        if eqn.op == "minus_one_hot":
            return k == 0
        # Another operand that is another view of the same array would change under the operation.
        return all(x is a or self.storage.get(id(x)) is not self.storage[id(a)] for x in eqn.args)

    def whole(self, eqn: Eqn, block: _Block) -> tuple[str, Storage]:
        """Where a concatenation goes, of which a part is about to be written."""
        if id(eqn.out) not in block.targets:
            block.targets[id(eqn.out)] = self.buffer(eqn.out, block)
        return block.targets[id(eqn.out)]

    def buffer(self, out: Var, block: _Block) -> tuple[str, Storage]:
        storage = self.room.take(out.shape, out.dtype, block.now, block.last[id(out)], block.storages)
        name = self.fresh(out.name)
        storage.names.append(name)
        return name, storage

    # --- loops -------------------------------------------------------------------------------------------
    def loop(self, loop: Loop, outer: _Block) -> None:
        ends = [c.after for c in loop.carries] + [o.inner for o in loop.outs]
        block = _Block(loop.body, ends, [])
        t = "t" if self.indent == "    " else f"t{len(self.indent) // 4}"
        self.taken.add(t)
        before, after = (f"{t} + 1", t) if loop.reverse else (t, f"{t} + 1")
        history: dict[int, Any] = {}
        for c in loop.carries:
            stacks = [o for o in loop.outs if o.kind == "stack" and o.inner in (c.before, c.after)]
            if stacks:
                history[id(c)] = self.history(c, stacks, loop, outer)
            else:
                storage = self.room.take(c.before.shape, c.before.dtype, -1, np.inf, [])
                self.texts[id(c.before)] = name = self.fresh(c.before.name)
                storage.names.append(name)
                self.storage[id(c.before)] = storage
                self.line(f"{name}[...] = {self.start(c.init, outer)}")
        kept = [
            o
            for o in loop.outs
            if not any(o.inner in (c.before, c.after) for c in loop.carries if id(c) in history)
            or o.kind == "sum"
        ]
        for o in kept:
            self.stack(o, outer)
        steps = f"range({loop.length})"
        self.line(f"for {t} in {f'reversed({steps})' if loop.reverse else steps}:")
        self.indent += "    "
        for c in loop.carries:
            if id(c) in history:
                name = history[id(c)]
                self.texts[id(c.before)] = f"{name}[{before}]"
                self.storage[id(c.before)] = Storage("given", last=np.inf)
                if id(c.after) not in block.targets and any(
                    isinstance(e, Eqn) and e.out is c.after for e in loop.body
                ):
                    block.targets[id(c.after)] = f"{name}[{after}]", Storage("given", last=np.inf)
        for o in kept:
            mine = any(isinstance(e, Eqn) and e.out is o.inner for e in loop.body)
            if o.kind == "stack" and mine and id(o.inner) not in block.targets:
                block.targets[id(o.inner)] = f"{self[o.outer]}[{t}]", Storage("given", last=np.inf)
        for x, inner in loop.xs:
            self.texts[id(inner)] = f"{self[x]}[{t}]"
            self.storage[id(inner)] = Storage("given", last=np.inf)
        self.carried(loop, history, block)
        self.block(block)
        for o in kept:
            if o.kind == "sum":
                self.line(f"{self[o.outer]} += {self[o.inner]}")
            elif self[o.inner] != f"{self[o.outer]}[{t}]":
                self.line(f"{self[o.outer]}[{t}] = {self[o.inner]}")
        for c in loop.carries:
            if id(c) in history and self[c.after] != f"{history[id(c)]}[{after}]":
                self.line(f"{history[id(c)]}[{after}] = {self[c.after]}")
        moves = [c for c in loop.carries if id(c) not in history and self[c.after] != self[c.before]]
        self.hand_over(moves, block)
        self.indent = self.indent[4:]
        for c in loop.carries:
            if c.final is not None:
                end = "0" if loop.reverse else loop.length
                text = f"{history[id(c)]}[{end}]" if id(c) in history else self[c.before]
                self.line(f"{self[c.final]} = {text}")
                self.storage[id(c.final)] = Storage("given", last=np.inf)

    def start(self, init: Any, block: _Block) -> str:
        """A state before the first step: a number where it is the same everywhere."""
        if isinstance(init, Const) and init.value.size and (init.value == init.value.flat[0]).all():
            return repr(init.value.flat[0].item())
        made = next((e for e in block.eqns if isinstance(e, Eqn) and e.out is init), None)
        return repr(made.params["value"]) if made is not None and made.op == "full" else self[init]

    def carried(self, loop: Loop, history: dict[int, Any], block: _Block) -> None:
        """States without a history are computed in place where nothing reads the old one any more."""
        for c in loop.carries:
            if id(c) in history or id(c.after) in block.targets or id(c.after) in block.parts:
                continue
            made = [k for k, e in enumerate(loop.body) if isinstance(e, Eqn) and e.out is c.after]
            if not made or loop.body[made[0]].op not in _WITH_OUT:
                continue
            eqn = loop.body[made[0]]
            free = block.last.get(id(c.before), -1) < made[0] or (
                block.last[id(c.before)] == made[0]
                and eqn.op in ELEMENTWISE - {"where", "sigmoid"}
                and all(
                    a is c.before or self.storage.get(id(a)) is not self.storage[id(c.before)]
                    for a in eqn.args
                )
            )
            if free:
                block.targets[id(c.after)] = self[c.before], self.storage[id(c.before)]

    def hand_over(self, moves: list[Any], block: _Block) -> None:
        """The new states into the places of the old ones."""
        if len(moves) == 1 or all(m.after not in [o.before for o in moves] for m in moves):
            for c in moves:
                self.line(f"{self[c.before]}[...] = {self[c.after]}")
        elif moves:
            # One of them is another's old state.
            left = ", ".join(f"{self[c.before]}[...]" for c in moves)
            self.line(f"{left} = {', '.join(f'{self[c.after]}.copy()' for c in moves)}")

    def history(self, c: Any, stacks: list[Any], loop: Loop, outer: _Block) -> str:
        """One array for a state of all timesteps and before the first."""
        shape = (loop.length + 1, *c.before.shape)
        last = max(outer.last[id(o.outer)] for o in stacks)
        if c.final is not None:
            last = max(last, outer.last[id(c.final)])
        storage = self.room.take(shape, c.before.dtype, outer.now, last, outer.storages)
        wish = (
            next((o.inner.name for o in stacks if o.inner is c.after), None) or c.after.name or c.before.name
        )
        name = self.fresh(wish)
        storage.names.append(name)
        start = loop.length if loop.reverse else 0
        self.line(f"{name}[{start}] = {self.start(c.init, outer)}")
        for o in stacks:
            part = "1:" if (o.inner is c.before) == loop.reverse else ":-1"
            self.texts[id(o.outer)] = f"{name}[{part}]"
            self.storage[id(o.outer)] = storage
        return name

    def stack(self, o: Any, outer: _Block) -> None:
        """Room for what a loop gives for every timestep, or adds up."""
        if id(o.outer) in self.fixed or o.kind == "sum":
            make = "np.empty" if o.kind == "stack" else "np.zeros"
            self.storage[id(o.outer)] = Storage("fresh", last=outer.last[id(o.outer)])
            self.line(f"{self[o.outer]} = {make}({shape_text(o.outer.shape)}, np.{o.outer.dtype.name})")
            return
        if id(o.outer) in self.storage:
            return
        text, storage = outer.targets.get(id(o.outer)) or self.buffer(o.outer, outer)
        self.texts[id(o.outer)], self.storage[id(o.outer)] = text, storage
