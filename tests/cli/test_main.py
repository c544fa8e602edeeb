"""The way in: exit statuses, one sentence on stderr, and no traceback for a mistake."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest

import tensorgrad
from tensorgrad.cli import app as app_module
from tensorgrad.cli import main
from tensorgrad.errors import CheckpointError, ShapeError, UserError


@pytest.fixture
def raising() -> Iterator[Callable[[BaseException], None]]:
    """Add a command that raises."""
    commands = list(app_module.app.registered_commands)

    def plant(error: BaseException) -> None:
        def broken() -> None:
            raise error

        app_module.app.command()(broken)

    yield plant
    app_module.app.registered_commands[:] = commands


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"tensorgrad {tensorgrad.__version__}\n"


def test_help_names_the_commands(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    assert "info" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("check", "Compare the gradients of an RNN, LSTM or GRU: automatic"),
        ("draw", "the cell's name, or model for a trained one, and .html"),
        ("train", "Probability of dropout: in the outputs of each layer;"),
    ],
)
def test_help_says_what_is_so(
    command: str, said: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    assert main([command, "--help"]) == 0
    assert said in capsys.readouterr().out


@pytest.mark.parametrize("argv", [["no-such-command"], ["info", "--no-such-option"], ["info", "extra"]])
def test_a_wrong_command_line_ends_with_status_2(capsys: pytest.CaptureFixture[str], argv: list[str]) -> None:
    assert main(argv) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert argv[-1] in err
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (UserError("the file is empty"), "the file is empty"),
        (CheckpointError("c.safetensors is damaged"), "c.safetensors is damaged"),
        (PermissionError(13, "Permission denied", "out"), "[Errno 13] Permission denied: 'out'"),
        (MemoryError("7 TiB"), "there is not enough memory for these sizes: 7 TiB"),
        (MemoryError(), "there is not enough memory for these sizes"),
    ],
)
def test_a_mistake_gets_one_sentence_and_status_2(
    raising: Callable[[BaseException], None],
    capsys: pytest.CaptureFixture[str],
    error: BaseException,
    sentence: str,
) -> None:
    raising(error)
    assert main(["broken"]) == 2
    assert capsys.readouterr() == ("", f"tensorgrad: {sentence}\n")


def test_ctrl_c_ends_with_status_130(
    raising: Callable[[BaseException], None], capsys: pytest.CaptureFixture[str]
) -> None:
    raising(KeyboardInterrupt())
    assert main(["broken"]) == 130
    assert capsys.readouterr() == ("", "tensorgrad: interrupted\n")


@pytest.mark.skipif(os.name == "nt", reason="pipes as on POSIX")
@pytest.mark.parametrize(
    "say",
    ["print('a' * 10)", "print('a'); raise SystemExit(1)", "print('a' * 10**6)", "make_console().print('a')"],
)
def test_output_that_nobody_reads_ends_in_silence(say: str) -> None:
    program = (
        "import tensorgrad.cli.app\nfrom tensorgrad.cli import app, main\n"
        "from tensorgrad.cli.console import make_console\n"
        f"def broken() -> None:\n    {say}\n"
        "app.app.command()(broken)\nraise SystemExit(main(['broken']))"
    )
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [sys.executable, "-c", program], stdout=writer, stderr=subprocess.PIPE, text=True, check=False
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, "")


@pytest.mark.parametrize("error", [ShapeError("a bug"), ZeroDivisionError("a bug")])
def test_a_bug_keeps_its_traceback(raising: Callable[[BaseException], None], error: BaseException) -> None:
    raising(error)
    with pytest.raises(type(error), match="a bug"):
        main(["broken"])


@pytest.mark.parametrize(
    ("missing", "words"), [(["typer"], "typer"), (["rich"], "rich"), (["typer", "rich"], "typer and rich")]
)
def test_without_its_packages_the_command_line_says_what_to_install(missing: list[str], words: str) -> None:
    program = (
        f"import contextlib, io, sys\nfor name in {missing!r}: sys.modules[name] = None\n"
        "from tensorgrad.cli import main\n"
        "def run(*argv):\n"
        "    out, err = io.StringIO(), io.StringIO()\n"
        "    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):\n"
        "        status = main(list(argv))\n"
        "    return status, out.getvalue(), err.getvalue()\n"
        "print([run('check'), run(), run('info', 'extra'), run('--version'), run('info')])\n"
        "raise SystemExit(main())"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, "check"], capture_output=True, text=True, check=False
    )
    *refused, version, info = ast.literal_eval(done.stdout)
    sentence = (
        f"tensorgrad: the command line needs {words}: pip install 'tensorgrad-rnn[app]', or in a "
        "checkout python -m pip install -e '.[app]'\n"
    )
    assert refused == [(2, "", sentence)] * 3
    assert (done.returncode, done.stderr) == (2, sentence)
    # What is asked for in a report of a bug, above all of one in the installation.
    assert version == (0, f"tensorgrad {tensorgrad.__version__}\n", "")
    status, out, err = info
    assert (status, err) == (0, "")
    assert out.startswith("tensorgrad ")


def test_a_traceback_is_python_s_own() -> None:
    """Typer's prints the local variables, arrays and all."""
    program = (
        "from tensorgrad.cli import app, main\n"
        "def broken() -> None:\n    secret = 'do not print'\n    raise ZeroDivisionError(len(secret))\n"
        "app.app.command()(broken)\nmain(['broken'])"
    )
    program = "import tensorgrad.cli.app\n" + program
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("Traceback (most recent call last)")
    assert "do not print" not in done.stderr
    assert "─" not in done.stderr


def test_a_terminal_without_the_letters_is_no_error() -> None:
    program = (
        "import tensorgrad.cli.app\nfrom tensorgrad.cli import app, main\n"
        "def say() -> None:\n    print('na\\u00efve \\u6f22')\n"
        "app.app.command()(say)\nraise SystemExit(main(['say']))"
    )
    done = subprocess.run(
        [sys.executable, "-X", "utf8=0", "-c", program],
        capture_output=True,
        check=False,
        env={"PYTHONIOENCODING": "ascii", "PYTHONPATH": ":".join(sys.path)},
    )
    assert done.returncode == 0
    assert done.stdout == b"na?ve ?\n"


def test_the_program_starts_without_what_is_heavy() -> None:
    program = (
        "import sys\nfrom tensorgrad.cli import main\nmain(['--version'])\n"
        "print(sorted({'matplotlib', 'torch', 'jax', 'scipy', 'pygraphviz'} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
