"""Kept kernels loaded as they are: without all that numba can compile, which it would import first."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import llvmlite.binding as llvm
from numba.core.compiler_lock import global_compiler_lock
from numba.core.runtime import rtsys

__all__ = ["load", "needs"]


def needs(dispatcher: Any) -> list[str]:
    """The symbols that a compiled kernel takes from the process; none where this numba does not tell."""
    (made,) = dispatcher.overloads.values()
    module = getattr(made.library, "_final_module", None)
    if module is None:
        return []
    names = [x.name for x in (*module.functions, *module.global_variables) if x.is_declaration]
    return sorted(name for name in names if not name.startswith("llvm."))


def load(dispatcher: Any, signature: Any, symbols: Sequence[str]) -> bool:
    """Whether the kernel was kept, and is there now. symbols: all that it needs, of which there are some.

    LLVM ends the process where a symbol is missing, so those that were needed are asked for first. What numba
    does for kept functions itself comes to the same, and takes 0.2 s more in a process that compiles nothing.
    """
    target, kept = dispatcher.targetctx, getattr(dispatcher._cache, "_load_overload", None)
    if kept is None or not symbols:
        return False
    with global_compiler_lock:
        rtsys.initialize(target)
        if not all(map(llvm.address_of_symbol, symbols)):
            return False
        made = kept(signature.args, target)
        if made is None:
            return False
        target.insert_user_function(made.entry_point, made.fndesc, [made.library])
        dispatcher.add_overload(made)
    return True
