"""What arguments of several commands mean: --seed, --threads, and which of them were given."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import typer

from tensorgrad.errors import UserError

__all__ = ["check_numbers", "check_seed", "given", "limit_threads"]

# What BLAS libraries take their number of threads from when they are loaded.
_THREADS = (
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "BLIS_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "OMP_NUM_THREADS",
)


@contextmanager
def limit_threads(threads: int | None = None) -> Iterator[None]:
    """Within it, matrix products run on so many threads.

    The products of a timestep are small. On more than one thread they gain little where the machine is idle,
    and where it is not, the threads wait for one another: ten times slower has been seen.

    Args:
        threads: at least 1; None for one, or what the environment asks for.

    Raises:
        UserError: there is no way to set it, or the machine has fewer.

    Example:
        >>> with limit_threads():
        ...     pass
    """
    cores = os.cpu_count() or 1
    if threads is not None and threads > cores:
        raise UserError(f"--threads must be at most {cores}, which is what this machine has, not {threads}")
    asked = any(os.environ.get(name) for name in _THREADS)
    if not _can_limit_threads():
        if threads is not None:
            raise UserError("--threads needs threadpoolctl: pip install threadpoolctl")
        yield
    elif threads is None and asked:
        yield
    else:
        from threadpoolctl import threadpool_limits

        with threadpool_limits(threads or 1, user_api="blas"):
            yield


def _can_limit_threads() -> bool:
    return importlib.util.find_spec("threadpoolctl") is not None


def given(ctx: typer.Context, names: Iterable[str]) -> Iterator[str]:
    """Which of some options stand on the command line, as they are written there."""
    for name in sorted(names):
        source = ctx.get_parameter_source(name)
        if source is not None and source.name == "COMMANDLINE":
            yield f"--{name.replace('_', '-')}"


def check_seed(seed: int | None) -> None:
    """Raise UserError for a seed that is negative."""
    if seed is not None and seed < 0:
        raise UserError(f"the seed must be a whole number from 0 up, not {seed}")


def check_numbers(T: int, B: int, H: int, V: int, most: int, why: str) -> None:
    """Raise UserError for sizes of a network that make more than `most` numbers."""
    numbers = 4 * H * (H + V) + T * B * (10 * V + 40 * H)
    if numbers > most:
        raise UserError(
            f"these sizes make about {numbers:,} numbers, too many: choose smaller ones, for {why}"
        )
