"""`tensorgrad train`: a run from start to end, stopped, resumed, on a terminal, and every bad input."""

from __future__ import annotations

import math
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tensorgrad.cli import arguments, console, main, runs
from tensorgrad.cli.log import read_log
from tensorgrad.errors import UserError
from tensorgrad.models.char_lm import CharLM
from tensorgrad.models.trainer import Trainer
from tensorgrad.recording import is_recording

TEXT = "".join(f"{n} times {n + 1} is {n * (n + 1)}, [b]ok[/b]\n" for n in range(30))
SMALL = ["--hidden", "8", "--batch", "4", "--window", "8"]
PROGRAM = "from tensorgrad.cli import main; raise SystemExit(main())"
STEPS_PER_EPOCH = 24


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "text.txt"
    path.write_text(TEXT, encoding="utf-8", newline="")
    return path


def log_of(folder: Path) -> list[list[str]]:
    """The log without the column that times make different each time."""
    rows = [line.split(",") for line in (folder / "log.csv").read_text().splitlines()]
    return [[cell for k, cell in enumerate(row) if k != 5] for row in rows]


def refused(argv: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """The one sentence on stderr of a command that must end with status 2."""
    assert main(argv) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("tensorgrad: ")
    assert err.endswith("\n")
    assert len(err.splitlines()) == 1
    return err.removeprefix("tensorgrad: ").rstrip("\n")


def test_a_run_leaves_a_checkpoint_and_a_log(
    text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "deep" / "run"
    argv = ["train", str(text), "--out", str(out), *SMALL, "--epochs", "3", "--sample-every", "10"]
    assert main(argv) == 0
    said, err = capsys.readouterr()
    assert err == ""
    assert sorted(path.name for path in out.iterdir()) == ["checkpoint.safetensors", "log.csv"]
    assert f"{3 * STEPS_PER_EPOCH}, {STEPS_PER_EPOCH} for each pass over the text" in said
    assert len(re.findall(r"validation \d\.\d", said)) == 3
    assert said.count("a sample after") == 7
    assert f"tensorgrad sample {out}\n" in said
    # Plain lines, for files and pipes.
    assert "\x1b" not in said
    assert "\r" not in said

    header, *rows = log_of(out)
    assert header == ["step", "epoch", "loss", "grad_norm", "lr", "validation"]
    assert [int(row[0]) for row in rows] == list(range(1, 73))
    assert [int(row[1]) for row in rows] == sorted([1, 2, 3] * STEPS_PER_EPOCH)
    assert float(rows[-1][2]) < float(rows[0][2])
    assert float(rows[-1][4]) == pytest.approx(2e-3 * 0.9**2)
    assert [k for k, row in enumerate(rows, 1) if row[5]] == [24, 48, 72]
    assert CharLM.load(out / "checkpoint.safetensors").hidden == 8


def test_eager_and_compiled_runs_agree(
    text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    how: list[tuple[bool, bool]] = []
    make = Trainer.__init__

    def noted(self: Trainer, *args: Any, **options: Any) -> None:
        how.append((options["compiled"], options["fast"]))
        make(self, *args, **options)

    monkeypatch.setattr(Trainer, "__init__", noted)
    losses = []
    for option in ([], ["--eager"]):
        out = tmp_path / f"run{len(losses)}"
        assert main(["train", str(text), "--out", str(out), *SMALL, "--steps", "10", *option]) == 0
        losses.append([float(row[2]) for row in log_of(out)[1:]])
    assert how == [(True, False), (False, False)]
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-4)
    capsys.readouterr()
    assert "exclude each other" in refused(["train", str(text), "--eager", "--fast"], capsys)


@pytest.mark.parametrize("option", ["", "--eager", "--fast"])
def test_a_run_goes_on_as_fast_as_asked(
    option: str, text: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def noted(path: Path, text: str, **options: Any) -> Trainer:
        raise UserError(f"compiled={options['compiled']}, fast={options['fast']}")

    monkeypatch.setattr(Trainer, "resume", noted)
    said = refused(["train", str(text), "--resume", *option.split()], capsys)
    assert said == f"compiled={option != '--eager'}, fast={option == '--fast'}"


def test_the_options_reach_the_model(text: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    options = {
        "cell": "gru",
        "cell-option": "reset=before",
        "hidden": "5",
        "layers": "2",
        "embedding": "4",
        "dropout": "0.1",
        "batch": "3",
        "window": "7",
        "lr": "0.01",
        "decay": "0.5",
        "clip": "0",
        "valid-fraction": "0.2",
        "dtype": "float64",
        "seed": "9",
        "steps": "2",
    }
    argv = ["train", str(text), "--out", str(out), *(f"--{key}={value}" for key, value in options.items())]
    assert main(argv) == 0
    trainer = Trainer.resume(out / "checkpoint.safetensors", TEXT)
    model, settings = trainer.model, trainer.settings
    assert model.config() == {
        "vocabulary": model.vocabulary.to_json(),
        "dtype": "float64",
        "cell": "gru",
        "hidden": 5,
        "layers": 2,
        "embedding": 4,
        "tied": False,
        "dropout": 0.1,
        "cell_options": {"reset": "before"},
    }
    assert (settings.batch, settings.window, settings.lr, settings.decay) == (3, 7, 0.01, 0.5)
    assert (settings.clip, settings.valid_fraction, settings.steps) == (0, 0.2, 2)


def test_a_transformer_is_trained_resumed_and_sampled_by_the_same_commands(
    text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--model=transformer", "--hidden=8", "--heads=2", "--layers=2", "--positions=sinusoidal"]
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    argv = ["train", str(text), *options, "--dropout=0.1", "--batch=4", "--window=8"]
    argv += ["--warmup=1", "--schedule=exponential"]  # a cosine goes by the steps that were asked for first
    assert main([*argv, "--out", str(whole), "--steps=4"]) == 0
    assert "transformer, " in capsys.readouterr().out
    assert main([*argv, "--out", str(parts), "--steps=2"]) == 0
    assert main(["train", str(text), "--out", str(parts), "--resume", "--steps=4"]) == 0
    assert log_of(whole) == log_of(parts)
    a, b = (Trainer.resume(out / "checkpoint.safetensors", TEXT).model for out in (whole, parts))
    assert a.config() == b.config()
    assert a.config()["context"] == 8
    for name, weights in a.state_dict().items():
        np.testing.assert_array_equal(weights, b.state_dict()[name])
    capsys.readouterr()
    assert main(["sample", str(whole), "--length", "30", "--prime", TEXT[:20], "--seed", "1"]) == 0
    assert capsys.readouterr().out.startswith(TEXT[:20])


@pytest.mark.parametrize("cell", ["gru", "lru"])
def test_a_deep_model_with_dropout_resumes_bit_for_bit(cell: str, text: Path, tmp_path: Path) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    argv = ["train", str(text), *SMALL, f"--cell={cell}", "--layers=2", "--dropout=0.3"]
    assert main([*argv, "--out", str(whole), "--steps=4"]) == 0
    assert main([*argv, "--out", str(parts), "--steps=2"]) == 0
    assert main(["train", str(text), "--out", str(parts), "--resume", "--steps=4"]) == 0
    assert log_of(whole) == log_of(parts)


def test_the_same_seed_gives_the_same_run(text: Path, tmp_path: Path) -> None:
    logs = []
    for name, seed in (("a", "3"), ("b", "3"), ("c", "4")):
        out = tmp_path / name
        assert main(["train", str(text), "--out", str(out), *SMALL, "--steps", "5", "--seed", seed]) == 0
        logs.append(log_of(out))
    assert logs[0] == logs[1] != logs[2]
    assert (tmp_path / "a/checkpoint.safetensors").read_bytes() == (
        tmp_path / "b/checkpoint.safetensors"
    ).read_bytes()


def test_matrix_products_run_on_one_thread_unless_told_otherwise(
    text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from threadpoolctl import threadpool_info, threadpool_limits

    def threads() -> set[int]:
        return {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"}

    seen = []
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    monkeypatch.setattr(runs, "run", lambda *args, **kwargs: seen.append(threads()))
    for name in arguments._THREADS:
        monkeypatch.delenv(name, raising=False)
    with threadpool_limits(2, user_api="blas"):
        for k, options in enumerate(([], ["--threads", "2"], ["--threads", "1"])):
            assert main(["train", str(text), "--out", str(tmp_path / str(k)), *SMALL, *options]) == 0
        monkeypatch.setenv("OPENBLAS_NUM_THREADS", "2")
        assert main(["train", str(text), "--out", str(tmp_path / "asked"), *SMALL]) == 0
        assert threads() == {2}
    assert seen == [{1}, {2}, {1}, {2}]


def test_without_threadpoolctl_a_number_of_threads_is_refused(
    text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(arguments, "_can_limit_threads", lambda: False)
    out = tmp_path / "run"
    said = refused(["train", str(text), "--out", str(out), *SMALL, "--threads", "1"], capsys)
    assert said == "--threads needs threadpoolctl: pip install threadpoolctl"
    assert not out.exists()
    assert main(["train", str(text), "--out", str(out), *SMALL, "--steps", "1"]) == 0


# --- stopping and going on -------------------------------------------------------------------------------
def test_a_resumed_run_is_the_same_run(
    text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    straight, parts = tmp_path / "straight", tmp_path / "parts"
    samples = ["--sample-every", "15"]
    assert main(["train", str(text), "--out", str(straight), *SMALL, "--steps", "60", *samples]) == 0
    whole = capsys.readouterr().out
    assert main(["train", str(text), "--out", str(parts), *SMALL, "--steps", "20", *samples]) == 0
    said = capsys.readouterr().out
    for steps in ("21", "60"):
        argv = ["train", str(text), "--out", str(parts), "--resume", "--steps", steps, *samples]
        assert main(argv) == 0
        said += capsys.readouterr().out
    assert log_of(parts) == log_of(straight)
    assert (parts / "checkpoint.safetensors").read_bytes() == (
        straight / "checkpoint.safetensors"
    ).read_bytes()
    # The samples too: the generator's state is part of the run.
    sampled = re.compile(r"a sample after \d+ steps:\n(.*?)\n\n(?=epoch|\n)", re.DOTALL)
    assert sampled.findall(said) == sampled.findall(whole)
    assert len(sampled.findall(whole)) == 4


def test_what_the_log_has_of_steps_after_the_checkpoint_is_cut_off(text: Path, tmp_path: Path) -> None:
    """A run that was killed between two checkpoints, in the middle of a line."""
    straight, killed = tmp_path / "straight", tmp_path / "killed"
    for out, steps in ((straight, "30"), (killed, "10")):
        assert main(["train", str(text), "--out", str(out), *SMALL, "--steps", steps]) == 0
    with open(killed / "log.csv", "a") as log:
        log.write("11,1,9.9,9.9,9.9,9,\n12,1,9.9")
    assert main(["train", str(text), "--out", str(killed), "--resume", "--steps", "30"]) == 0
    assert log_of(killed) == log_of(straight)


def test_a_run_without_its_log_gets_a_new_one(text: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    assert main(["train", str(text), "--out", str(out), *SMALL, "--steps", "5"]) == 0
    (out / "log.csv").unlink()
    assert main(["train", str(text), "--out", str(out), "--resume", "--steps", "7"]) == 0
    assert [row[0] for row in log_of(out)] == ["step", "6", "7"]


_STOPS = [("SIGINT", 130), ("SIGTERM", 143), ("SIGHUP", 129)]


@pytest.mark.skipif(os.name == "nt", reason="signals are sent as on POSIX")
@pytest.mark.parametrize(("name", "status"), _STOPS)
def test_ctrl_c_saves_and_the_run_goes_on_from_there(
    name: str, status: int, text: Path, tmp_path: Path
) -> None:
    out, straight = tmp_path / "run", tmp_path / "straight"
    argv = ["train", str(text), "--out", str(out), *SMALL, "--steps", "1000000", "--sample-every", "0"]
    running = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, *argv], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    log = out / "log.csv"
    wait_for(lambda: log.exists() and log.read_text().count("\n") > 20)
    running.send_signal(signal.Signals[name])
    _, err = running.communicate(timeout=60)
    assert running.returncode == status
    done = len(log_of(out)) - 1
    assert err == f"tensorgrad: stopped after {done:,} steps; saved as {out / 'checkpoint.safetensors'}\n"
    more = str(done + 10)
    assert main(["train", str(text), "--out", str(out), "--resume", "--steps", more]) == 0
    assert main(["train", str(text), "--out", str(straight), *SMALL, "--steps", more]) == 0
    assert log_of(out) == log_of(straight)


def wait_for(condition: Callable[[], bool], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="this platform has no SIGHUP")
def test_a_program_that_ignores_the_end_of_its_terminal_goes_on_ignoring_it() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with runs.Interrupt() as interrupt:
            signal.raise_signal(signal.SIGHUP)
            assert interrupt.number is None
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize("number", [None, signal.SIGTERM])
def test_what_was_learned_is_saved_when_nobody_reads_the_output(
    number: int | None, text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when a terminal is closed: it cannot be written to, and the signal may come a little later."""
    update = console.Display.update

    def gone(self: Any, step: Any, sampled: Any) -> None:
        update(self, step, sampled)
        if step.number == 7:
            if number is not None:
                signal.raise_signal(number)
            raise OSError(5, "Input/output error")

    monkeypatch.setattr(console.Display, "update", gone)
    out = tmp_path / "run"
    status = main(["train", str(text), "--out", str(out), *SMALL, "--steps", "50"])
    assert status == (2 if number is None else 143)
    assert Trainer.resume(out / "checkpoint.safetensors", TEXT).steps == 7


def test_a_second_ctrl_c_ends_at_once() -> None:
    with runs.Interrupt() as interrupt:
        signal.raise_signal(signal.SIGINT)
        assert interrupt.number == signal.SIGINT
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_run_that_is_done_says_so(text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "run"
    assert main(["train", str(text), "--out", str(out), *SMALL, "--steps", "5"]) == 0
    capsys.readouterr()
    before = (out / "checkpoint.safetensors").read_bytes()
    sentence = refused(["train", str(text), "--out", str(out), "--resume"], capsys)
    assert "has done 5 steps already, and 5 are asked for; ask for more with --steps or --epochs" in sentence
    assert (out / "checkpoint.safetensors").read_bytes() == before


# --- texts that are short --------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("characters", "options", "batch", "window", "line"),
    [
        (60_000, [], 50, 50, None),
        (4_000, [], 8, 22, "batch  8 streams, windows of 22: the text is short; --batch and --window choose"),
        (20_000, [], 17, 50, "batch  17 streams, windows of 50: the text is short"),
        (4_000, ["--window", "50"], 3, 50, "batch  3 streams, windows of 50: the text is short"),
        (4_000, ["--batch", "4"], 4, 44, "batch  4 streams, windows of 44: the text is short"),
        (4_000, ["--batch", "50", "--window", "50"], 50, 50, None),
    ],
)
def test_a_pass_over_a_short_text_has_steps_enough(
    characters: int,
    options: list[str],
    batch: int,
    window: int,
    line: str | None,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "text").write_text("".join(f"{n} " for n in range(characters))[:characters])
    argv = ["train", str(tmp_path / "text"), "--out", str(tmp_path / "run"), "--hidden", "2", "--steps", "1"]
    assert main([*argv, *options]) == 0
    said = capsys.readouterr().out
    settings = Trainer.resume(tmp_path / "run" / "checkpoint.safetensors", read(tmp_path / "text")).settings
    assert (settings.batch, settings.window) == (batch, window)
    assert line in said if line else "the text is short" not in said


def read(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def test_a_short_text_is_learned_with_the_defaults(text: Path, tmp_path: Path) -> None:
    assert main(["train", str(text), "--out", str(tmp_path / "run")]) == 0
    losses = read_log(tmp_path / "run" / "log.csv")["loss"]
    assert len(losses) >= 200
    assert losses[-1] < 0.8 * losses[0]


def test_text_that_is_not_read_is_told_of(
    text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trained_on = int(0.9 * len(TEXT))
    for name, window, told in (("a", "8", False), ("b", str(trained_on // 3), True)):
        argv = ["train", str(text), "--out", str(tmp_path / name), "--hidden=2", "--steps=1", "--batch=2"]
        assert main([*argv, "--window", window]) == 0
        said = capsys.readouterr().out
        assert ("unread" in said) == told
    unread = trained_on - 1 - 2 * (trained_on // 3)
    assert f"unread {unread} of the {trained_on} characters to train on" in said


def test_a_learning_rate_that_dies_is_told_of(
    text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = ["train", str(text), "--hidden=2", "--batch=4", "--window=8", "--sample-every=0", "--epochs=101"]
    assert main([*argv, "--out", str(tmp_path / "a")]) == 0
    said = capsys.readouterr().out
    assert "rate   0.002 at first, 5e-08 in the last pass" in said
    assert "--decay 0.9773 does" in said
    assert main([*argv, "--out", str(tmp_path / "b"), "--decay", "0.9773"]) == 0
    assert "rate  " not in capsys.readouterr().out


def test_sizes_that_do_not_fit_are_answered_with_some_that_do(
    text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    argv = ["train", str(text), "--out", str(out), "--steps", "1"]
    said = refused([*argv, "--batch", "50", "--window", "50"], capsys)
    trained_on = int(0.9 * len(TEXT))
    found = re.fullmatch(
        rf"the text has {len(TEXT)} characters, {trained_on} of them to train on, and windows of 50 "
        r"timesteps in a batch of 50 need at least 2,501; (--batch \d+ --window \d+) would fit",
        said,
    )
    assert found
    assert not out.exists()
    assert main([*argv, *found[1].split()]) == 0


@pytest.mark.parametrize(("characters", "options"), [("ab", ""), ("ab", "--batch=50"), ("abc", "--batch=50")])
def test_what_would_fit_a_tiny_text_does(
    characters: str, options: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "text").write_text(characters)
    argv = ["train", str(tmp_path / "text"), "--out", str(tmp_path / "run"), "--hidden=2", "--steps=1"]
    said = refused([*argv, *options.split()], capsys)
    found = re.search(r"; (--batch 1 --window 1) would fit, with (--valid-fraction 0)$", said)
    assert found
    assert main([*argv, *found[1].split(), *found[2].split()]) == 0


# --- a terminal ------------------------------------------------------------------------------------------
@pytest.mark.skipif(os.name == "nt", reason="needs a POSIX terminal")
def test_on_a_terminal_there_is_a_bar(text: Path, tmp_path: Path) -> None:
    import pty

    argv = ["train", str(text), "--out", str(tmp_path / "run"), *SMALL, "--steps=30", "--sample-every=10"]
    environ = {**os.environ, "TERM": "xterm", "COLUMNS": "100"}
    master, slave = pty.openpty()
    running = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, *argv], stdout=slave, stderr=slave, stdin=slave, env=environ
    )
    os.close(slave)
    shown = b""
    while True:
        try:
            part = os.read(master, 65536)
        except OSError:  # what Linux says when the other side has closed
            break
        if not part:
            break
        shown += part
    os.close(master)
    assert running.wait(60) == 0
    screen = re.sub(rb"\x1b\[[0-9;?]*[A-Za-z]", b"", shown).decode()
    assert re.search(r"30/30 ━+ loss \d\.\d{3}  norm \d+\.\d\d  [\d,]+ chars/s", screen)
    assert screen.count("a sample after") == 3
    assert re.search(r"epoch 1, step 24 of 30: loss \d\.\d{3}  validation \d\.\d{3}", screen)


def test_what_a_terminal_would_obey_is_not_printed() -> None:
    assert console.printable("\x1b]0;title\x07 é 漢\n\t\x9b") == "\ufffd]0;title\ufffd é 漢\n\t\ufffd"


# --- bad input -------------------------------------------------------------------------------------------
@pytest.fixture
def bad_files(tmp_path: Path) -> Path:
    folder = tmp_path / "files"
    folder.mkdir()
    (folder / "empty").write_bytes(b"")
    (folder / "short").write_text("ab")
    (folder / "one").write_text("a")
    (folder / "latin").write_bytes("naïve café".encode("latin-1") * 100)
    (folder / "one letter").write_text("a" * 10_000)
    (folder / "good").write_text(TEXT, newline="")
    return folder


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("missing", "there is no file {}"),
        (".", "{} is a folder; name a text file"),
        ("empty", "{} is empty; there is nothing to learn from"),
        (
            "short",
            "the text has 2 characters, 1 of them to train on, and windows of 1 timesteps in a batch of 1 "
            "need at least 2; --batch 1 --window 1 would fit, with --valid-fraction 0",
        ),
        ("latin", "{} is not UTF-8: byte 0xef at offset 2; save it as UTF-8 text first"),
        ("one letter", "the text has only the character 'a', so there is nothing to predict"),
        ("one", "the text has only the character 'a', so there is nothing to predict"),
    ],
)
def test_files_that_are_no_text_to_learn(
    name: str, sentence: str, bad_files: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = bad_files / "run"
    said = refused(["train", str(bad_files / name), "--out", str(out)], capsys)
    assert said.startswith(sentence.format(bad_files / name))
    assert not out.exists()


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ("--hidden=-3", "the number of hidden units must be a whole number from 1 up, not -3"),
        ("--hidden=0", "the number of hidden units must be a whole number from 1 up, not 0"),
        ("--layers=0", "the number of layers must be a whole number from 1 up, not 0"),
        ("--embedding=0", "the size of the embedding must be a whole number from 1 up, not 0"),
        ("--dropout=1.5", "the dropout is a probability, 0 to 1, not 1.5"),
        ("--embedding=5 --tied", "a tied embedding is the output layer's weight too, so its size"),
        ("--cell=elmann", "there is no cell 'elmann'"),
        ("--cell=lstn", "there is no cell 'lstn' (did you mean 'lstm'?)"),
        ("--cell=gru --cell-option=forget_bias=1", "the cell 'gru' has no option 'forget_bias'"),
        ("--cell=gru --cell-option=reset=never", "GRUCell: reset must be 'after' or 'before', not 'never'"),
        ("--cell=lstm --cell-option=dtype=float64", "'dtype' is an argument of the model, not an option of"),
        ("--cell=lstm --cell-option=input_size=3", "'input_size' is an argument of the model, not an"),
        (
            "--cell=lstm --cell-option=forget_bias=NaN",
            "LSTMCell: forget_bias must be a finite number, not nan",
        ),
        ("--cell-option=bias=maybe", "--cell-option bias must be true or false, not 'maybe'"),
        ("--cell=lstm --cell-option=bias=False", "--cell-option bias must be true or false, not 'False'"),
        ("--cell-option=nonlinearity=null", "RNNCell: nonlinearity must be 'tanh' or 'relu', not 'null'"),
        ("--cell=irnn --cell-option=scale=wide", "the cell 'irnn' cannot be made with scale='wide': "),
        ("--model=transformer --decay=0.9", "--decay is for --schedule exponential; this one is cosine"),
        ("--schedule=cosine --decay=0.9", "--decay is for --schedule exponential; this one is cosine"),
        ("--cell-option=fast", "--cell-option takes NAME=VALUE, such as forget_bias=1, not 'fast'"),
        ("--model=transformer --cell=gru", "--cell is for --model recurrent; this one is transformer"),
        ("--heads=2", "--heads is for --model transformer; this one is recurrent"),
        ("--model=transformer --hidden=10", "4 heads cannot share a model of size 10"),
        ("--batch=-1", "the batch size must be a whole number from 1 up, not -1"),
        ("--window=0", "the window length must be a whole number from 1 up, not 0"),
        ("--epochs=0", "the number of epochs must be a whole number from 1 up, not 0"),
        ("--steps=-5", "the number of steps must be a whole number from 1 up, not -5"),
        ("--epochs=1 --steps=5", "--epochs and --steps both say when to stop; give one of them"),
        ("--lr=nan", "the learning rate must be a number above 0, not nan"),
        ("--lr=-1", "the learning rate must be a number above 0, not -1.0"),
        ("--lr=inf", "the learning rate must be a number above 0, not inf"),
        ("--warmup=-1", "the number of steps to warm up must be a whole number from 0 up, not -1"),
        ("--schedule=linear", "the schedule must be exponential or cosine, not 'linear'"),
        ("--decay=nan", "the decay of the learning rate must be a number above 0, not nan"),
        ("--clip=nan", "the norm to clip at must be a number above 0, or 0 for no clipping, not nan"),
        ("--valid-fraction=1", "the fraction held out must be from 0 to below 1, not 1.0"),
        ("--valid-fraction=nan", "the fraction held out must be from 0 to below 1, not nan"),
        ("--seed=-1", "the seed must be a whole number from 0 up, not -1"),
        (f"--threads={10**6}", f"--threads must be at most {os.cpu_count()}, which is what this machine has"),
        ("--threads=0", "--threads must be at least 1, not 0"),
        ("--save-every=0", "--save-every must be at least 1, not 0"),
        ("--sample-every=-1", "--sample-every must not be negative, but it is -1"),
        (f"--hidden={10**23}", "--hidden must be at most 1,000,000, not 100,000,000,000,000,000,000,000"),
        (f"--embedding={10**12}", "--embedding must be at most 1,000,000, not 1,000,000,000,000"),
        ("--layers=1000000", "--layers must be at most 1,000, not 1,000,000"),
        ("--model=transformer --layers=1000000", "--layers must be at most 1,000, not 1,000,000"),
    ],
)
def test_numbers_out_of_range(
    options: str, sentence: str, text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    said = refused(["train", str(text), "--out", str(out), *options.split()], capsys)
    assert said.startswith(sentence)
    assert not out.exists()


@pytest.mark.parametrize("options", ["--hidden=many", "--dtype=float16", "--no-such"])
def test_words_that_are_no_options(
    options: str, text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    assert main(["train", str(text), "--out", str(out), options]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert "Traceback" not in said.err
    assert options.split("=")[0] in said.err
    assert not out.exists()


def test_nothing_is_overwritten(text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "run"
    assert main(["train", str(text), "--out", str(out), *SMALL, "--steps", "2"]) == 0
    capsys.readouterr()
    before = {path: path.read_bytes() for path in out.iterdir()}
    said = refused(["train", str(text), "--out", str(out), *SMALL], capsys)
    assert said == (
        f"the folder {out} is not empty, and nothing is overwritten: go on with the run in it with --resume, "
        "or name another folder with --out"
    )
    assert {path: path.read_bytes() for path in out.iterdir()} == before


def test_a_file_where_the_folder_should_be(
    text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = text.read_bytes()
    said = refused(["train", str(text), "--out", str(text), *SMALL], capsys)
    assert said == f"{text} is a file; name a folder with --out"
    said = refused(["train", str(text), "--out", str(text / "run"), *SMALL], capsys)
    assert said == f"cannot make the folder {text / 'run'}: Not a directory"
    assert text.read_bytes() == before


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="needs POSIX permissions")
def test_a_folder_that_cannot_be_written(
    text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "closed"
    out.mkdir(mode=0o555)
    if os.geteuid() == 0:  # whom no permission stops
        monkeypatch.setattr("builtins.open", denied_open(out))
    assert main(["train", str(text), "--out", str(out), *SMALL]) == 2
    said = capsys.readouterr()
    path = out / "checkpoint.safetensors"
    assert said.err == (
        f"tensorgrad: cannot save the checkpoint {path}: Permission denied; nothing was overwritten\n"
    )
    assert list(out.iterdir()) == []


def test_where_there_is_nothing_to_save_the_folder_can_be_used_again(
    text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    argv = ["train", str(text), "--out", str(out), *SMALL, "--steps=1", "--cell=irnn"]
    assert main([*argv, "--cell-option=scale=NaN"]) == 1
    assert "the weights are not finite after step 0" in capsys.readouterr().err
    assert list(out.iterdir()) == []
    assert main(argv) == 0


def denied_open(folder: Path) -> Callable[..., Any]:
    real = open

    def opener(path: Any, mode: str = "r", *args: Any, **kwargs: Any) -> Any:
        if str(path).startswith(str(folder)) and set(mode) & set("wax+"):
            raise PermissionError(13, "Permission denied", str(path))
        return real(path, mode, *args, **kwargs)

    return opener


def test_there_is_nothing_to_resume(text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "run"
    said = refused(["train", str(text), "--out", str(out), "--resume"], capsys)
    assert said == f"there is no checkpoint {out / 'checkpoint.safetensors'}"
    assert not out.exists()


def test_a_resumed_run_keeps_its_options(
    text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    assert main(["train", str(text), "--out", str(out), *SMALL, "--steps", "2"]) == 0
    capsys.readouterr()
    for options in (["--hidden", "8"], ["--lr", "1"], ["--seed", "0"], ["--valid-fraction", "0.3"]):
        said = refused(["train", str(text), "--out", str(out), "--resume", *options], capsys)
        assert said == f"{options[0]} cannot be given with --resume: a run goes on as it was started"


def test_another_text_cannot_be_resumed_on(
    text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    assert main(["train", str(text), "--out", str(out), *SMALL, "--steps", "2"]) == 0
    capsys.readouterr()
    text.write_text(TEXT + "more", newline="")
    said = refused(["train", str(text), "--out", str(out), "--resume", "--steps", "9"], capsys)
    assert said.endswith("was trained on another text; give the same to go on")


@pytest.mark.parametrize("damage", ["garbage", "a bit", "another model", "no training"])
def test_a_checkpoint_that_cannot_be_resumed(
    damage: str, text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from tensorgrad.io import load_checkpoint, save_checkpoint

    out = tmp_path / "run"
    path = out / "checkpoint.safetensors"
    assert main(["train", str(text), "--out", str(out), *SMALL, "--steps", "2"]) == 0
    capsys.readouterr()
    checkpoint, data = load_checkpoint(path), bytearray(path.read_bytes())
    if damage == "garbage":
        path.write_bytes(b"not a checkpoint")
    elif damage == "a bit":
        data[-3] ^= 4
        path.write_bytes(data)
    elif damage == "another model":
        save_checkpoint(path, checkpoint.tensors, {**checkpoint.meta, "model": "Transformer"})
    else:
        CharLM.load(path).save(path)
    before = {file: file.read_bytes() for file in out.iterdir()}
    said = refused(["train", str(text), "--out", str(out), "--resume", "--steps", "9"], capsys)
    assert str(path) in said
    assert {file: file.read_bytes() for file in out.iterdir()} == before


def test_a_folder_with_another_log_is_left_alone(
    text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    assert main(["train", str(text), "--out", str(out), *SMALL, "--steps", "2"]) == 0
    (out / "log.csv").write_bytes(b"my own notes \xff\n")
    capsys.readouterr()
    assert main(["train", str(text), "--out", str(out), "--resume", "--steps", "9"]) == 2
    assert "is not a log of training; move it away" in capsys.readouterr().err
    assert (out / "log.csv").read_bytes() == b"my own notes \xff\n"


@pytest.mark.parametrize("save_every", ["1", "500"])
def test_a_learning_rate_that_explodes_keeps_the_last_good_checkpoint(
    save_every: str, text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    argv = ["train", str(text), "--out", str(out), *SMALL, "--lr=1e39", f"--save-every={save_every}"]
    assert main(argv) == 1
    err = capsys.readouterr().err
    assert len(err.splitlines()) == 1
    assert err.endswith(f"; {out / 'checkpoint.safetensors'} has the model after 0 steps\n")
    assert Trainer.resume(out / "checkpoint.safetensors", TEXT).steps == 0


@pytest.mark.parametrize(
    "options", ["--lr=1e30", "--lr=1e30 --save-every=1", "--lr=1e30 --steps=1", "--decay=2"]
)
def test_a_loss_that_only_grows_is_divergence(
    options: str, text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    argv = ["train", str(text), "--out", str(out), "--batch=4", "--window=8", "--save-every=40"]
    assert main([*argv, *options.split()]) == 1
    err = capsys.readouterr().err
    assert "training has diverged; lower the learning rate" in err
    done = re.search(r"has the model after (\d+) steps", err)
    assert done
    trainer = Trainer.resume(out / "checkpoint.safetensors", TEXT, steps=10**6)
    assert trainer.steps == int(done[1])
    assert trainer.step().loss < 10 * math.log(len(trainer.model.vocabulary))


@pytest.mark.parametrize(
    ("options", "remedy"),
    [
        ("--cell=irnn", True),
        ("--cell=irnn --cell-option=scale=0.5 --lr=1e30", True),
        ("--cell=irnn --cell-option=scale=0.01 --lr=1e30", False),
    ],
)
def test_an_irnn_that_diverges_is_told_to_forget(
    options: str, remedy: bool, text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = ["train", str(text), "--batch=4", "--window=50", "--sample-every=0"]
    assert main([*argv, "--out", str(tmp_path / "a"), *options.split()]) == 1
    err = capsys.readouterr().err
    assert ("start anew with the cell option scale=0.01" in err) == remedy
    assert ("lower the learning rate of" in err) != remedy
    if options == "--cell=irnn":
        assert main([*argv, "--out", str(tmp_path / "b"), options, "--cell-option=scale=0.01"]) == 0


def test_huge_figures_are_shown_in_short() -> None:
    assert console._short(2.34567) == "2.346"
    assert console._short(2.5e28) == "2.500e+28"
    assert console._short(-123456.0, 2) == "-1.23e+05"


def test_training_that_diverges_keeps_the_last_good_checkpoint(
    text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    out, good = tmp_path / "run", tmp_path / "good"
    loss = CharLM.loss
    calls = []

    def planted(self: CharLM, *args: Any) -> Any:
        result = loss(self, *args)
        # The steps of training, and not what is looked at before a checkpoint is written.
        if is_recording():
            calls.append(1)
        return result._replace(loss=result.loss * math.nan) if len(calls) == 13 else result

    with monkeypatch.context() as patch:
        patch.setattr(CharLM, "loss", planted)
        argv = [
            "train",
            str(text),
            "--out",
            str(out),
            *SMALL,
            "--steps",
            "50",
            "--save-every",
            "5",
            "--eager",
        ]
        assert main(argv) == 1
    err = capsys.readouterr().err
    assert err == (
        "tensorgrad: the loss is nan at step 13: training has diverged; lower the learning rate of 0.002, or "
        f"clip harder than at 5; {out / 'checkpoint.safetensors'} has the model after 10 steps\n"
    )
    assert main(["train", str(text), "--out", str(good), *SMALL, "--steps", "10", "--eager"]) == 0
    a, b = (CharLM.load(folder / "checkpoint.safetensors").state_dict() for folder in (out, good))
    assert all((a[name] == b[name]).all() for name in b)
