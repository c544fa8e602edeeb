"""The passes in their order."""

from __future__ import annotations

from tensorgrad.compile.ir import Program, verify

__all__ = ["optimise"]

PASSES: list = []


def optimise(program: Program) -> None:
    """Run all passes, verifying after each."""
    for name, run in PASSES:
        run(program)
        verify(program, name)
