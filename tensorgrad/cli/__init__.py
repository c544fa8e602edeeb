"""The command line. Each command is a plain function in a module of its own, assembled in `app`."""

from __future__ import annotations

import importlib.util
import io
import sys
from collections.abc import Sequence

import tensorgrad
from tensorgrad.cli.blas import restart_if_unfit
from tensorgrad.errors import CheckpointError, UserError

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; mistakes get one sentence on stderr and no traceback.

    Args:
        argv: the arguments after the program's name. When None, those of this process, which is then taken
            to be the program and may start itself anew with other BLAS kernels.

    Returns:
        The exit status: 0, 2 for a mistake of the person at the terminal, 130 after Ctrl-C, 141 when nobody
        reads the output any more, as after `| head`.

    Example:
        >>> main(["--version"])  # doctest: +ELLIPSIS
        tensorgrad ...
        0
    """
    missing = [name for name in ("typer", "rich") if importlib.util.find_spec(name) is None]
    if missing:
        return _without(missing, sys.argv[1:] if argv is None else argv)
    if argv is None:
        restart_if_unfit(next(iter(sys.argv[1:]), ""))
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A sample may hold characters that this terminal's encoding lacks.
        sys.stdout.reconfigure(errors="replace")
    try:
        from tensorgrad.cli.app import app

        app(args=argv, prog_name="tensorgrad")
    except SystemExit as done:
        return done.code if isinstance(done.code, int) else 0
    except MemoryError as error:
        return _fail(f"there is not enough memory for these sizes{f': {error}' if str(error) else ''}")
    except (UserError, CheckpointError, OSError) as error:
        # OSError: a full disk or a folder that cannot be written is no bug either.
        return _fail(str(error))
    return 0


def _without(missing: Sequence[str], argv: Sequence[str]) -> int:
    """What can be done where the packages of the command line are not installed."""
    if list(argv) == ["--version"]:
        print(f"tensorgrad {tensorgrad.__version__}")
        return 0
    if list(argv) == ["info"]:
        from tensorgrad.cli.info import info

        info()
        return 0
    return _fail(
        f"the command line needs {' and '.join(missing)}: pip install 'tensorgrad-rnn[app]', or in a "
        "checkout python -m pip install -e '.[app]'"
    )


def _fail(sentence: str, status: int = 2) -> int:
    print(f"tensorgrad: {sentence}", file=sys.stderr)
    return status
