"""`tensorgrad sample`: what it writes, and what it refuses."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tensorgrad.cli import main
from tensorgrad.data import Vocabulary
from tensorgrad.io import save_checkpoint
from tensorgrad.models.char_lm import CharLM

PROGRAM = "from tensorgrad.cli import main; raise SystemExit(main())"


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    path = tmp_path / "checkpoint.safetensors"
    CharLM(Vocabulary("hello [b]wörld[/b]\n"), hidden=8, seed=0).save(path)
    return path


def test_it_goes_on_from_the_prime(checkpoint: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sample", str(checkpoint), "--prime", "hello", "--length", "40", "--seed", "1"]) == 0
    out, err = capsys.readouterr()
    expected = "".join(CharLM.load(checkpoint).sample("hello", 40, seed=1))
    assert (out, err) == (f"hello{expected}\n", "")


def test_a_seed_repeats_and_none_does_not(checkpoint: Path, capsys: pytest.CaptureFixture[str]) -> None:
    texts = []
    for options in (["--seed", "5"], ["--seed", "5"], ["--seed", "6"], [], []):
        assert main(["sample", str(checkpoint), "--length", "100", *options]) == 0
        texts.append(capsys.readouterr().out)
    assert texts[0] == texts[1]
    assert len(set(texts)) == 4


def test_temperature_zero_is_the_likeliest_text(checkpoint: Path, capsys: pytest.CaptureFixture[str]) -> None:
    texts = set()
    for _ in range(3):
        assert main(["sample", str(checkpoint), "--temperature", "0", "--length", "30"]) == 0
        texts.add(capsys.readouterr().out)
    assert len(texts) == 1


@pytest.mark.parametrize(
    ("options", "arguments"),
    [
        (["--top-k", "3"], {"top_k": 3}),
        (["--top-p", "0.4"], {"top_p": 0.4}),
        (["--top-p", "0.9", "--temperature", "2"], {"top_p": 0.9, "temperature": 2}),
    ],
)
def test_it_draws_among_the_likeliest(
    options: list[str], arguments: dict[str, float], checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = CharLM.load(checkpoint)
    argv = ["sample", str(checkpoint), "--prime", "he", "--length", "60", "--seed", "1"]
    assert main([*argv, *options]) == 0
    said = capsys.readouterr().out
    assert said == "he" + "".join(model.sample("he", 60, seed=1, **arguments)) + "\n"
    assert main(argv) == 0
    assert capsys.readouterr().out != said


def test_a_beam_finds_the_likeliest_text(checkpoint: Path, capsys: pytest.CaptureFixture[str]) -> None:
    texts = {}
    for width in ("1", "4"):
        argv = ["sample", str(checkpoint), "--prime", "he", "--length", "30", "--beam", width]
        assert main(argv) == 0
        texts[width] = capsys.readouterr().out
    model = CharLM.load(checkpoint)
    assert texts["1"] == "he" + "".join(model.sample("he", 30, temperature=0)) + "\n"
    assert texts["4"] == "he" + model.beam("he", 30, 4) + "\n"
    assert texts["4"] != texts["1"]


def test_the_folder_of_a_run_will_do(checkpoint: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = []
    for path in (checkpoint, checkpoint.parent):
        assert main(["sample", str(path), "--seed", "0", "--length", "10"]) == 0
        said.append(capsys.readouterr().out)
    assert said[0] == said[1]


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--prime", "hexlo"], "the character 'x' at position 2 is unknown; the vocabulary has '\\n /["),
        (["--length", "-1"], "the length of a sample must be a whole number from 0 up, not -1"),
        (["--temperature", "-1"], "the temperature must be a number from 0 up, not -1.0"),
        (["--temperature", "nan"], "the temperature must be a number from 0 up, not nan"),
        (["--temperature", "inf"], "the temperature must be a number from 0 up, not inf"),
        (["--top-k", "0"], "top_k must be a whole number from 1 up, not 0"),
        (["--top-p", "1.5"], "top_p must be a number over 0 and at most 1, not 1.5"),
        (["--beam", "0"], "the width of a beam must be a whole number from 1 up, not 0"),
        (
            ["--beam", "2", "--length", "-1"],
            "the length of a sample must be a whole number from 0 up, not -1",
        ),
        (["--beam", "2", "--top-k", "3"], "--beam draws nothing, so it goes with none of --temperature,"),
        (["--beam", "2", "--temperature", "0.5"], "--beam draws nothing, so it goes with none of"),
        (["--beam", "2", "--temperature", "1.0"], "--beam draws nothing, so it goes with none of"),
        (["--seed", "-1"], "the seed must be a whole number from 0 up, not -1"),
    ],
)
def test_bad_options(
    options: list[str], sentence: str, checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["sample", str(checkpoint), *options]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"tensorgrad: {sentence}")
    assert len(err.splitlines()) == 1


@pytest.mark.parametrize(
    ("kind", "sentence"),
    [
        ("missing", "there is no checkpoint {}"),
        ("empty folder", "there is no checkpoint {}/checkpoint.safetensors"),
        ("empty", "{} is empty, not a checkpoint"),
        ("text", "{} is damaged, or not a safetensors file"),
        ("another program's", "{} does not name its model; a language model is needed here"),
        ("another model", "{} is of the model 'Transformer'; a language model is needed here"),
    ],
)
def test_bad_checkpoints(
    kind: str, sentence: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from safetensors.numpy import save_file

    path = tmp_path / "it"
    if kind == "empty folder":
        path.mkdir()
    elif kind == "empty":
        path.touch()
    elif kind == "text":
        path.write_text("once upon a time, there was no checkpoint")
    elif kind == "another program's":
        save_file({"weight": np.zeros(3)}, path)
    elif kind == "another model":
        save_checkpoint(path, {"weight": np.zeros(3)}, {"model": "Transformer"})
    assert main(["sample", str(path)]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"tensorgrad: {sentence.format(path)}")
    assert len(err.splitlines()) == 1


def test_a_closed_pipe_is_no_traceback(checkpoint: Path) -> None:
    program = [sys.executable, "-c", PROGRAM, "sample", str(checkpoint), "--length", "200000"]
    writing = subprocess.Popen(program, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert writing.stdout is not None
    writing.stdout.read(10)
    writing.stdout.close()
    assert writing.stderr is not None
    assert b"Traceback" not in writing.stderr.read()
    writing.stderr.close()
    writing.wait(60)
