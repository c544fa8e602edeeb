"""Kernels that fit the CPU: the program starts itself anew with them, the library says so once."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tensorgrad.cli import blas as restarting
from tensorgrad.cli import main
from tensorgrad.compile import blas
from tensorgrad.compile.blas import Mismatch, loaded_kernel, say_once

UNFIT = Mismatch("Haswell", "AVX2", "AVX-512", "")


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[Any]]:
    """Ask for a restart as if on another machine; the list of programs that were started."""

    def run(command: str, mismatch: Mismatch | None, coretype: str | None = None) -> list[Any]:
        calls: list[Any] = []
        monkeypatch.setattr(restarting, "mismatch_here", lambda: mismatch)
        monkeypatch.setattr(os, "execve", lambda *call: calls.append(call))
        monkeypatch.setattr(sys, "orig_argv", ["python", "-X", "dev", "bin/tensorgrad", command, "--x"])
        monkeypatch.delenv("OPENBLAS_CORETYPE", raising=False)
        if coretype is not None:
            monkeypatch.setenv("OPENBLAS_CORETYPE", coretype)
        restarting.restart_if_unfit(command)
        return calls

    return run


@pytest.mark.skipif(os.name != "posix", reason="only POSIX replaces a process")
def test_a_long_command_starts_anew_with_fitting_kernels(started: Callable[..., list[Any]]) -> None:
    ((program, arguments, environ),) = started("train", UNFIT)
    assert (program, arguments) == (
        sys.executable,
        [sys.executable, "-X", "dev", "bin/tensorgrad", "train", "--x"],
    )
    assert environ == {**os.environ, "OPENBLAS_CORETYPE": "SKYLAKEX"}


@pytest.mark.parametrize(
    ("command", "mismatch", "coretype"),
    [
        ("info", UNFIT, None),
        ("", UNFIT, None),
        ("train", None, None),
        # What somebody chose is theirs; and this is what ends the second start.
        ("train", UNFIT, "HASWELL"),
        ("train", UNFIT, "SKYLAKEX"),
        ("train", UNFIT, ""),
    ],
)
def test_everything_else_runs_as_it_is(
    started: Callable[..., list[Any]], command: str, mismatch: Any, coretype: Any
) -> None:
    assert started(command, mismatch, coretype) == []


def test_a_start_that_fails_is_no_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*call: Any) -> None:
        raise PermissionError("not here")

    monkeypatch.setattr(restarting, "mismatch_here", lambda: UNFIT)
    monkeypatch.setattr(os, "execve", refuse)
    monkeypatch.delenv("OPENBLAS_CORETYPE", raising=False)
    restarting.restart_if_unfit("train")


def test_only_the_program_itself_starts_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    monkeypatch.setattr("tensorgrad.cli.restart_if_unfit", asked.append)
    monkeypatch.setattr(sys, "argv", ["tensorgrad", "--version"])
    assert main(["--version"]) == 0
    assert asked == []
    assert main() == 0
    assert asked == ["--version"]


def test_the_new_start_has_the_kernels() -> None:
    """A planted misfit, a real restart: the second process sees the variable and does the work."""
    program = (
        "import os, sys, tensorgrad.cli.blas as b\n"
        "from tensorgrad.compile.blas import Mismatch\n"
        "b.mismatch_here = lambda: Mismatch('Prescott', 'SSE', 'AVX2', '')\n"
        "b.restart_if_unfit('train')\n"
        "print(os.environ.get('OPENBLAS_CORETYPE'), sys.argv[1:])\n"
    )
    environ = {key: value for key, value in os.environ.items() if key != "OPENBLAS_CORETYPE"}
    done = subprocess.run(
        [sys.executable, "-c", program, "a b", "--c"], env=environ, capture_output=True, text=True, check=True
    )
    wanted = "HASWELL" if os.name == "posix" else "None"
    assert done.stdout == f"{wanted} ['a b', '--c']\n"


@pytest.fixture
def fresh() -> Iterator[None]:
    """As in a process that has said nothing yet."""
    say_once.cache_clear()
    yield
    say_once.cache_clear()


def test_the_library_says_it_once(
    fresh: None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(blas, "mismatch_here", lambda: UNFIT)
    say_once()
    say_once()
    (record,) = caplog.records
    assert (record.name, record.levelno) == ("tensorgrad", logging.WARNING)
    assert record.getMessage().startswith(
        "OpenBLAS runs its AVX2 kernels (Haswell), but this CPU has AVX-512."
    )
    assert "OPENBLAS_CORETYPE=SKYLAKEX" in record.getMessage()


def test_nothing_is_said_where_all_is_well(
    fresh: None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(blas, "mismatch_here", lambda: None)
    say_once()
    assert not caplog.records


def test_it_can_be_silenced(
    fresh: None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(blas, "mismatch_here", lambda: UNFIT)
    caplog.set_level(logging.ERROR, "tensorgrad")
    say_once()
    assert not caplog.records


def test_the_loaded_kernel_is_what_threadpoolctl_finds() -> None:
    threadpoolctl = pytest.importorskip("threadpoolctl")
    found = {
        pool.get("architecture")
        for pool in threadpoolctl.threadpool_info()
        if pool["internal_api"] == "openblas" and "numpy" in pool["filepath"]
    }
    if os.name != "posix" or not found:
        pytest.skip("no OpenBLAS inside NumPy, or no way to ask it by name")
    assert {loaded_kernel()} == found
