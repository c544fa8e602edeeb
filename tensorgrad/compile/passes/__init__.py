"""The passes in their order, each a function that changes a program in place."""

from __future__ import annotations

from collections.abc import Callable

from tensorgrad.compile.ir import Program, verify
from tensorgrad.compile.passes.arrange import (
    neighbouring_gates,
    sums_as_products,
    transposes_once,
    views_outside,
)
from tensorgrad.compile.passes.clean import common_subexpressions, dead_code
from tensorgrad.compile.passes.kept import small_results_kept
from tensorgrad.compile.passes.lookups import lookups
from tensorgrad.compile.passes.order import least_memory
from tensorgrad.compile.passes.parts import products_of_parts, stacks_of_parts
from tensorgrad.compile.passes.regroup import regroup, rows_added
from tensorgrad.compile.passes.simplify import simplify
from tensorgrad.compile.passes.split import split_loops

__all__ = ["PASSES", "optimise"]

PASSES: list[tuple[str, Callable[[Program], None]]] = [
    ("dead code", dead_code),
    ("simplify", simplify),
    ("common subexpressions", common_subexpressions),
    ("dead code", dead_code),
    ("lookups", lookups),
    ("small results kept", small_results_kept),
    ("dead code", dead_code),
    ("neighbouring gates", neighbouring_gates),
    ("factors and terms regrouped", regroup),
    ("dead code", dead_code),
    ("rows added first", rows_added),
    ("dead code", dead_code),
    ("out of the loop", split_loops),
    ("simplify", simplify),
    ("common subexpressions", common_subexpressions),
    ("simplify", simplify),
    ("lookups", lookups),
    ("simplify", simplify),
    ("dead code", dead_code),
    ("views outside", views_outside),
    ("stacks of parts", stacks_of_parts),
    ("transposes once", transposes_once),
    ("sums as products", sums_as_products),
    ("products of parts", products_of_parts),
    ("common subexpressions", common_subexpressions),
    ("dead code", dead_code),
    ("little at once", least_memory),
]


def optimise(program: Program) -> list[tuple[str, tuple[int, int]]]:
    """Run all passes, verifying after each; the numbers of equations outside and inside loops after each."""
    log = [("traced", program.count())]
    for name, run in PASSES:
        run(program)
        verify(program, name)
        log.append((name, program.count()))
    return log
