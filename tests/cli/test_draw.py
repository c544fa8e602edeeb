"""`tensorgrad draw`."""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path
from typing import Any

import pytest

from tensorgrad import nn
from tensorgrad.cli import main
from tensorgrad.cli.draw import drawn_steps
from tensorgrad.data import Vocabulary
from tensorgrad.errors import UserError
from tensorgrad.models.char_lm import CharLM
from tensorgrad.models.transformer import TransformerLM


@pytest.fixture(autouse=True)
def _in_an_empty_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def no_renderer(monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(shutil, "which", lambda name: None)
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "pygraphviz" else find(name)
    )


@pytest.mark.parametrize("cell", nn.CELLS)
def test_a_page_of_every_cell(cell: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["draw", "--cell", cell, "-T", "3"]) == 0
    out, err = capfd.readouterr()
    assert out.startswith(f"{cell}.html: 3 timesteps, ")
    assert err == ""
    page = Path(f"{cell}.html").read_text("utf-8")
    assert page.startswith("<!DOCTYPE html>")
    assert [path.name for path in Path().iterdir()] == [f"{cell}.html"]


@pytest.mark.parametrize("suffix", [".svg", ".dot"])
@pytest.mark.parametrize("options", [(), ("--backward", "--values", "--grads"), ("--down",)])
def test_pictures_that_need_no_graphviz(suffix: str, options: tuple[str, ...], no_renderer: None) -> None:
    path = Path(f"rnn{suffix}")
    assert main(["draw", "--out", str(path), *options]) == 0
    assert "t3.h" in path.read_text("utf-8")


def test_sizes_show_as_shapes() -> None:
    assert main(["draw", "-T", "2", "-H", "7", "-V", "11", "-B", "3", "--out", "small.svg"]) == 0
    text = Path("small.svg").read_text("utf-8")
    for shape in ("(3, 11)", "(7, 11)", "(7, 7)", "(3, 7)", "(11, 7)"):
        assert f"{shape} float64" in text


def test_levels_and_timesteps() -> None:
    def ids(*options: str) -> str:
        assert main(["draw", "-T", "40", "--out", "rnn.dot", *options]) == 0
        return Path("rnn.dot").read_text("utf-8")

    elided = ids()
    assert "35 timesteps" not in elided
    assert "30 timesteps" in elided
    assert '"t20.h"' in ids("--show", "20")
    assert '"t20.h"' in ids("--show", "all")
    assert '"t3.cell"' in ids("--level", "cell")
    rolled = ids("--level", "rolled")
    assert "× 40" in rolled
    assert "t39.h" not in rolled


def test_a_long_run_is_drawn_in_part(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["draw", "-T", "2000", "-H", "2", "-V", "2", "--out", "rnn.svg"]) == 0
    assert capsys.readouterr().out.startswith("rnn.svg: 2,000 timesteps, ")
    assert "1,990 timesteps" in Path("rnn.svg").read_text("utf-8")


@pytest.mark.usefixtures("no_renderer")
def test_without_a_renderer_the_text_is_written_and_it_says_what_to_install(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["draw", "--steps", "1", "--out", "one.png"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("tensorgrad: ")
    assert err.count("\n") == 1
    for part in ("PNG needs Graphviz", "pygraphviz", "one.dot"):
        assert part in err
    assert [path.name for path in Path().iterdir()] == ["one.dot"]


@pytest.mark.parametrize("model", ["rnn", "transformer"])
def test_a_trained_model_reads_a_text(model: str, capsys: pytest.CaptureFixture[str]) -> None:
    vocabulary = Vocabulary("hello")
    kind: Any = CharLM if model == "rnn" else TransformerLM
    sizes = {"hidden": 4} if model == "rnn" else {"d_model": 4, "heads": 1, "context": 8}
    kind(vocabulary, **sizes, seed=0).save("model.safetensors")
    assert main(["draw", "--checkpoint", "model.safetensors", "--text", "hello"]) == 0
    assert capsys.readouterr().out.startswith("model.html: 4 timesteps, ")
    assert Path("model.html").exists()


@pytest.mark.parametrize(
    ("argv", "sentence"),
    [
        (["--steps", "0"], "--steps must be at least 1, not 0"),
        (["--hidden", "-3"], "--hidden must be at least 1, not -3"),
        (["--vocab", "0"], "--vocab must be at least 1, not 0"),
        (["--batch", "-1"], "--batch must be at least 1, not -1"),
        (["--cell", "esn"], "esn"),
        (["--steps", "1000000000"], "too many: choose smaller ones"),
        (["--hidden", "1000000"], "too many: choose smaller ones"),
        (["--level", "ops"], "level is one of op, cell, rolled, not 'ops'"),
        (["--show", "4"], "there is no timestep 4: the graph has t=0 to t=3"),
        (["--show", "3:1"], "--show: 3:1 is an empty range, for its end is left out: 3:4 is timestep 3"),
        (["--show", "1..3"], "--show takes timesteps, such as 10:20,50, or all, not '1..3'"),
        (
            ["--out", "rnn.gif"],
            "cannot draw into rnn.gif: its name must end in one of .svg, .png, .pdf, .html, .dot",
        ),
        (["--out", "nowhere/rnn.svg"], "cannot write nowhere/rnn.svg: there is no folder nowhere"),
        (["--text", "hello"], "--text is for a trained model: name it with --checkpoint"),
        (["--checkpoint", "x", "--cell", "gru"], "a trained model has its own cell and sizes"),
        (["--checkpoint", "none.safetensors", "--text", "hello"], "none.safetensors"),
    ],
)
def test_a_mistake_gets_one_sentence_and_status_2(
    argv: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["draw", *argv]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("tensorgrad: ")
    assert err.count("\n") == 1
    assert sentence in err
    assert not list(Path().iterdir())


def test_a_text_to_read(capsys: pytest.CaptureFixture[str]) -> None:
    CharLM(Vocabulary("hello"), hidden=2, seed=0).save("model.safetensors")
    for text, sentence in (("", "two characters or more"), ("h", "two characters or more"), ("hex", "'x'")):
        assert main(["draw", "--checkpoint", "model.safetensors", "--text", text]) == 2
        assert sentence in capsys.readouterr().err


def test_timesteps_of_an_option() -> None:
    assert drawn_steps("") is None
    assert drawn_steps("all") == "all"
    assert list(drawn_steps(" 3, 10 : 12")) == [3, 10, 11]
    assert next(drawn_steps("0:999999999")) == 0
    for text in ("-1", "3:", ","):
        with pytest.raises(UserError, match="--show takes timesteps"):
            drawn_steps(text)
    for text in ("3:2", "3:3", "1, 3:1"):
        with pytest.raises(UserError, match=r"is an empty range.*3:4 is timestep 3"):
            drawn_steps(text)


@pytest.mark.parametrize("cell", ["rnn", "lstm", "gru"])
def test_the_first_state_is_called_h0(cell: str) -> None:
    assert main(["draw", "--cell", cell, "--out", "cell.svg"]) == 0
    text = Path("cell.svg").read_text("utf-8")
    assert ">h0<" in text
    assert (">c0<" in text) == (cell == "lstm")
    assert "zeros" not in text
