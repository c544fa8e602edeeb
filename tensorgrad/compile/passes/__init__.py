"""The passes in their order, each a function that changes a program in place."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tensorgrad.compile.ir import Pieces, Program, verify
from tensorgrad.compile.passes.arrange import (
    neighbouring_gates,
    sums_as_products,
    transposes_once,
    views_outside,
)
from tensorgrad.compile.passes.centre import centred_weights
from tensorgrad.compile.passes.clean import common_subexpressions, dead_code
from tensorgrad.compile.passes.for_numpy import row_products, rows_apart, scaled_later
from tensorgrad.compile.passes.kept import small_results_kept
from tensorgrad.compile.passes.lookups import lookups
from tensorgrad.compile.passes.order import least_memory
from tensorgrad.compile.passes.parts import products_of_parts, stacks_of_parts
from tensorgrad.compile.passes.pieces import in_pieces, same_in_all_pieces
from tensorgrad.compile.passes.regroup import regroup, rows_added
from tensorgrad.compile.passes.simplify import simplify
from tensorgrad.compile.passes.split import split_loops

__all__ = ["FOR_NUMPY", "PASSES", "optimise", "optimise_for_numpy", "within"]


def within(run: Callable[[Program], None]) -> Callable[[Program], None]:
    """A pass that is run on the body of every loop over pieces too, as a program of its own."""

    def everywhere(program: Program) -> None:
        for loop in program.eqns:
            if isinstance(loop, Pieces):
                ends = [c.after for c in loop.carries] + [o.inner for o in loop.outs]
                body = Program([], loop.body, ends)
                body.lengths = program.lengths
                run(body)
                loop.body, now = body.eqns, iter(body.outputs)
                for c in loop.carries:
                    c.after = next(now)
                for o in loop.outs:
                    o.inner = next(now)
                program.moved += body.moved
        run(program)

    return everywhere


PASSES: list[tuple[str, Callable[[Program], None]]] = [
    ("dead code", dead_code),
    ("simplify", simplify),
    ("common subexpressions", common_subexpressions),
    ("dead code", dead_code),
    ("checkpoints", in_pieces),
    ("dead code", dead_code),
    ("lookups", lookups),
    ("small results kept", within(small_results_kept)),
    ("dead code", dead_code),
    ("neighbouring gates", within(neighbouring_gates)),
    ("centred weights", centred_weights),
    ("dead code", dead_code),
    ("factors and terms regrouped", within(regroup)),
    ("dead code", dead_code),
    ("rows added first", within(rows_added)),
    ("dead code", dead_code),
    ("out of the loop", within(split_loops)),
    ("same in all pieces", same_in_all_pieces),
    ("simplify", simplify),
    ("common subexpressions", common_subexpressions),
    ("simplify", simplify),
    ("lookups", lookups),
    ("simplify", simplify),
    ("dead code", dead_code),
    ("views outside", within(views_outside)),
    ("stacks of parts", within(stacks_of_parts)),
    ("transposes once", within(transposes_once)),
    ("sums as products", within(sums_as_products)),
    ("products of parts", within(products_of_parts)),
    ("same in all pieces", same_in_all_pieces),
    ("common subexpressions", common_subexpressions),
    ("dead code", dead_code),
    ("little at once", within(least_memory)),
]


FOR_NUMPY: list[tuple[str, Callable[[Program], None]]] = [
    ("products of rows", within(row_products)),
    ("scaled later", within(scaled_later)),
    ("rows apart", rows_apart),
]
"""What comes after them where NumPy does all the work."""


def optimise(program: Program) -> list[tuple[str, tuple[int, int]]]:
    """Run all passes, verifying after each; the numbers of equations outside and inside loops after each."""
    return [("traced", program.count()), *_run(PASSES, program)]


def optimise_for_numpy(program: Program) -> list[tuple[str, tuple[int, int]]]:
    """The same with the passes that only NumPy gains by."""
    return _run(FOR_NUMPY, program)


def _run(passes: list[Any], program: Program) -> list[tuple[str, tuple[int, int]]]:
    log = []
    for name, run in passes:
        run(program)
        verify(program, name)
        log.append((name, program.count()))
    return log
