"""`tensorgrad check FILE.py`: a learner's forward and backward, run and held against the graph."""

from __future__ import annotations

import importlib.util
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

from tensorgrad.bptt.check import BackwardReport, check_backward
from tensorgrad.errors import TensorgradError, UserError

__all__ = ["check_file", "imported"]


def check_file(path: Path, cell: str | None = None, seed: int = 0) -> BackwardReport:
    """Run a file, and check its `backward` with its `forward`; with its `graph` and `shapes` if it has them.

    Args:
        path: of the Python file. It is run: check no file that you would not run.
        cell: "rnn", "lstm" or "gru"; found out when None.
        seed: for the sizes and numbers of the check.

    Returns:
        The report.

    Raises:
        UserError: the file cannot be run, lacks one of the two, or they are not as `check_backward` asks.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp(), "mine.py")
        >>> _ = path.write_text("from tensorgrad.models.manual.rnn import backward, forward")
        >>> check_file(path).ok
        True
    """
    with imported(path) as module:
        missing = [name for name in ("forward", "backward") if not hasattr(module, name)]
        if missing:
            raise UserError(
                f"{path} has no {' and no '.join(missing)}; it must define forward(params, xs, targets, h0) "
                "-> (loss, cache) and backward(params, cache) -> gradients"
            )
        graph, shapes = getattr(module, "graph", None), getattr(module, "shapes", None)
        try:
            return check_backward(module.forward, module.backward, graph, shapes, cell=cell, seed=seed)
        except TensorgradError as error:
            raise UserError(f"{path}: {error}") from error


@contextmanager
def imported(path: Path) -> Iterator[ModuleType]:
    """A file as a module, which may import what lies beside it; afterwards nothing of them is left.

    Args:
        path: of the Python file.

    Raises:
        UserError: there is no such file, or running it raises.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp(), "mine.py")
        >>> _ = path.write_text("x = 1")
        >>> with imported(path) as module:
        ...     module.x
        1
    """
    if path.is_dir():
        raise UserError(f"{path} is a folder; name a Python file")
    if not path.is_file():
        raise UserError(f"there is no file {path}")
    if path.suffix != ".py":
        raise UserError(f"{path} is no Python file: its name must end in .py")
    # No module of the world is called so, and none of the file's own neighbours.
    name = f"_tensorgrad_checked_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    before, search, unwritten = set(sys.modules), list(sys.path), sys.dont_write_bytecode
    folder = path.resolve().parent
    sys.path.insert(0, str(folder))
    sys.dont_write_bytecode = True
    # Dataclasses look up the module that they are defined in.
    sys.modules[name] = module
    try:
        try:
            spec.loader.exec_module(module)
        except (Exception, SystemExit) as error:
            raise UserError(f"{path} cannot be run: {_said(error, path)}") from error
        yield module
    finally:
        sys.path[:], sys.dont_write_bytecode = search, unwritten
        for added in set(sys.modules) - before:
            origin = getattr(sys.modules[added], "__file__", None)
            if added == name or (origin and Path(origin).resolve().parent == folder):
                del sys.modules[added]


def _said(error: BaseException, path: Path) -> str:
    """An exception in one sentence, with the line of the file."""
    if isinstance(error, SystemExit):
        return (
            f"it ends the program by itself (SystemExit: {error}); put that under if __name__ == '__main__':"
        )
    said = f"{type(error).__name__}: {error}"
    if isinstance(error, SyntaxError):
        return said
    lines = [
        frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)
    ]
    said += f" (line {lines[-1]})" if lines else ""
    if isinstance(error, ImportError) and "relative import" in str(error):
        said += "; write 'from other import ...', the file's folder is searched first"
    return said
