"""Kernels made into machine code, and kept on disk: a second process loads them instead of compiling.

The text of a kernel is the key: each lies in a module of its own, named after a hash of everything that its
machine code depends on, and numba keeps its code beside it.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any
from uuid import uuid4

import llvmlite
import numba
import numpy as np
from numba import njit, types
from numba.core.compiler import Compiler

from tensorgrad.compile.kernels import blas, functions, packed
from tensorgrad.compile.kernels.apart import apart
from tensorgrad.compile.kernels.kernel import Kernel, Parameter
from tensorgrad.compile.kernels.load import load, needs
from tensorgrad.compile.kernels.share import Shared

__all__ = ["CHECKED", "COMPILED", "FOLDER", "build", "cache_folder"]

FOLDER = "TENSORGRAD_CACHE"
"""The environment variable that says where kernels are kept; empty: nowhere."""

CHECKED = False
"""Whether kernels made from here on check every index, and that they write over nothing that they read."""

COMPILED: list[str] = []
"""The modules of the kernels that this process compiled, as opposed to loaded."""

HEAD = """import numpy as np

from tensorgrad.compile.kernels.blas import product
from tensorgrad.compile.kernels.functions import exp, log, maximum, minimum, plus, sigmoid, tanh
from tensorgrad.compile.kernels.packed import pack, pack_turned, product_packed


"""


class _ArraysApart(Compiler):  # type: ignore[misc]
    """numba's compiler, told that the arrays a kernel is given do not overlap where it writes."""

    def define_pipelines(self) -> Any:
        self.state.flags.noalias = True
        return super().define_pipelines()


def cache_folder() -> Path | None:
    """Where kernels are kept: $TENSORGRAD_CACHE, or the platform's place for what programs keep."""
    chosen = os.environ.get(FOLDER)
    if chosen is not None:
        return Path(chosen).expanduser() if chosen else None
    try:
        home = Path.home()
    except RuntimeError:
        return None
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA") or home / "AppData" / "Local")
    elif sys.platform == "darwin":
        base = home / "Library" / "Caches"
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME") or home / ".cache")
    return base / "tensorgrad"


@cache
def _surroundings() -> str:
    """Everything but the text that a kernel's machine code depends on."""
    import llvmlite.binding as llvm

    found = blas.blas()
    files = [__file__, str(blas.__file__), str(functions.__file__), str(packed.__file__)]
    here = [Path(file).read_text(encoding="utf-8") for file in files]
    versions = [sys.version, numba.__version__, llvmlite.__version__, np.__version__]
    cpu = [llvm.get_host_cpu_name(), llvm.get_host_cpu_features().flatten()]
    return "\n".join([*versions, *cpu, str(found and found.bits), *here])


def _kind(p: Parameter) -> Any:
    scalar = numba.from_dtype(np.dtype(p.dtype))
    return scalar if p.shape is None else types.Array(scalar, len(p.shape), "C")


def build(kernel: Kernel) -> Callable[..., Any]:
    """The kernel as a function of its sizes and arrays."""
    blas.blas()
    signature = types.void(*[types.int64] * len(kernel.numbers), *map(_kind, kernel.parameters))
    # One name for all: kernels that differ in nothing else are compiled once.
    text = HEAD + kernel.source().replace(f"def {kernel.name}(", "def kernel(", 1)
    if CHECKED:
        text = text.replace("import product\n", "import checked_product as product\n")
        text = text.replace(", product_packed\n", ", checked_product_packed as product_packed\n")
    made = _built(text, signature, CHECKED, str(cache_folder()))
    run = apart(kernel, made) if CHECKED else made
    return run if kernel.rows is None else Shared(kernel, run)


@cache
def _built(text: str, signature: Any, checked: bool, folder: str) -> Callable[..., Any]:
    """Loaded if it was kept, and compiled otherwise. checked, folder: as they are, for another is another."""
    key = hashlib.sha256("\n".join([text, str(signature), _surroundings()]).encode()).hexdigest()[:24]
    path = _written(key, text)
    if path is not None:
        kept = any(_machine_code(path))
        try:
            return _compiled(text, signature, path)
        except Exception as damage:
            if not kept:
                raise
            _forget(path)
            _say_once(f"a kept kernel was damaged and is made anew ({type(damage).__name__}: {damage})")
            with contextlib.suppress(OSError):
                return _compiled(text, signature, path)
    return _compiled(text, signature, None)


def _compiled(text: str, signature: Any, path: Path | None) -> Callable[..., Any]:
    module = ModuleType(f"tensorgrad_kernel_{path.stem if path else uuid4().hex}")
    # Where numba looks for the names that a kept kernel refers to.
    sys.modules[module.__name__] = module
    exec(compile(text, str(path or "<kernel>"), "exec"), module.__dict__)
    decorate = njit(
        cache=path is not None,
        boundscheck=CHECKED,
        nogil=True,
        fastmath={"contract"},
        error_model="numpy",
        pipeline_class=_ArraysApart,
    )
    dispatcher = decorate(module.__dict__["kernel"])
    symbols = path and _symbols(path)
    if symbols is None or not load(dispatcher, signature, _words(symbols)):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            dispatcher.compile(signature.args)
        if symbols is None or not dispatcher.stats.cache_hits:
            COMPILED.append(module.__name__)
            if symbols is not None:
                with contextlib.suppress(OSError):
                    _write(symbols, "\n".join(needs(dispatcher)))
    dispatcher.disable_compile()
    found: Callable[..., Any] = dispatcher
    return found


def _symbols(path: Path) -> Path:
    """The file in which the symbols stand that a module's machine code needs."""
    return path.with_suffix(".symbols")


def _words(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8", errors="replace").split() if path.is_file() else []


def _write(path: Path, text: str) -> None:
    """Write a file that others may be about to read: they find all of it, or what was there before."""
    number, name = tempfile.mkstemp(dir=path.parent, suffix=".new")
    with os.fdopen(number, "w", encoding="utf-8") as file:
        file.write(text)
    os.replace(name, path)


def _written(key: str, text: str) -> Path | None:
    """The module with this text, in the folder of kept kernels; None where none can be kept."""
    folder = cache_folder()
    if folder is None:
        return None
    path = folder / f"k{key}.py"
    try:
        if path.exists() and path.read_text(encoding="utf-8") == text:
            (folder / "__pycache__").mkdir(exist_ok=True)
            with tempfile.TemporaryFile(dir=folder / "__pycache__"):
                return path
        (folder / "__pycache__").mkdir(parents=True, exist_ok=True)
        _write(path, text)
    except OSError as reason:
        _say_once(f"compiled kernels cannot be kept in {folder} ({reason.strerror or reason})")
        return None
    return path


def _machine_code(path: Path) -> Iterator[Path]:
    """The files in which numba keeps a module's machine code."""
    return (path.parent / "__pycache__").glob(f"{path.stem}.*.nb?")


def _forget(path: Path) -> None:
    """Delete what was kept of a kernel."""
    for kept in [*_machine_code(path), _symbols(path)]:
        with contextlib.suppress(OSError):
            kept.unlink()


_SAID: set[str] = set()


def _say_once(text: str) -> None:
    if text not in _SAID:
        _SAID.add(text)
        warnings.warn(f"tensorgrad.compile: {text}", RuntimeWarning, stacklevel=2)
