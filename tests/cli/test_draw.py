"""`tensorgrad draw`."""

from __future__ import annotations

import importlib.util
import re
import shutil
from pathlib import Path

import pytest

from tensorgrad import nn
from tensorgrad.cli import main
from tensorgrad.cli.draw import _LEAST, unrolled_model


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


@pytest.mark.parametrize("cell", ["rnn", "lstm", "gru"])
def test_the_picture_and_its_text(cell: str, capfd: pytest.CaptureFixture[str]) -> None:
    if shutil.which("dot") is None:
        pytest.importorskip("pygraphviz")
    assert main(["draw", "--cell", cell]) == 0
    out, err = capfd.readouterr()
    assert out.startswith(f"{cell}.svg, {cell}.dot: 4 timesteps, ")
    assert err == ""
    assert Path(f"{cell}.svg").read_text("utf-8").startswith("<?xml")
    text = Path(f"{cell}.dot").read_text("utf-8")
    assert text.count("subgraph") == 4
    assert '"t3.h"' in text


def test_sizes_show_as_shapes() -> None:
    argv = ["draw", "-T", "2", "-H", "7", "-V", "11", "-B", "3", "--out", "small.dot"]
    assert main(argv) == 0
    text = Path("small.dot").read_text("utf-8")
    assert text.count("subgraph") == 2
    for shape in (
        "(3, 11) float64",
        "(7, 11) float64",
        "(7, 7) float64",
        "(3, 7) float64",
        "(11, 7) float64",
    ):
        assert shape in text


@pytest.mark.usefixtures("no_renderer")
def test_without_a_renderer_the_text_is_written_and_it_says_what_to_install(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["draw", "--steps", "1", "--out", "one.png"]) == 0
    out, err = capsys.readouterr()
    size, problem = out.splitlines()
    assert re.fullmatch(r"one\.dot: 1 timestep, [0-9]+ boxes", size)
    assert problem == (
        "one.png is not written: drawing PNG needs Graphviz: install Graphviz "
        "(https://graphviz.org/download), or pygraphviz, which brings it along."
    )
    assert err == ""
    assert [path.name for path in Path().iterdir()] == ["one.dot"]


@pytest.mark.parametrize(
    ("argv", "sentence"),
    [
        (["--steps", "0"], "--steps must be at least 1, not 0"),
        (["--hidden", "-3"], "--hidden must be at least 1, not -3"),
        (["--vocab", "0"], "--vocab must be at least 1, not 0"),
        (["--batch", "-1"], "--batch must be at least 1, not -1"),
        (["--steps", "490"], "490 timesteps are too many to draw: beyond 5,000 boxes"),
        (["--steps", "1000"], "1,000 timesteps are too many to draw: beyond 5,000 boxes"),
        (["--steps", "1000000000"], "too many: choose smaller ones"),
        (["--hidden", "1000000"], "too many: choose smaller ones"),
        (
            ["--out", "rnn.gif"],
            "cannot draw into rnn.gif: its name must end in one of .svg, .png, .pdf, .dot",
        ),
        (["--out", "nowhere/rnn.svg"], "cannot write nowhere/rnn.svg: there is no folder nowhere"),
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


@pytest.mark.parametrize("cell", nn.CELLS)
def test_so_many_timesteps_that_no_graph_is_needed_to_refuse_them(
    cell: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    two, one = (len(unrolled_model(cell, T, 2, 2, 1).model.boxes) for T in (2, 1))
    assert two - one > _LEAST, "a timestep may have fewer boxes than is assumed"
    monkeypatch.setattr(nn, "unroll", None)
    assert main(["draw", "--cell", cell, "--steps", "20000"]) == 2
    assert "20,000 timesteps are too many to draw: beyond 5,000 boxes" in capsys.readouterr().err


def test_a_wide_picture_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["draw", "-T", "12", "--out", "rnn.dot"]) == 0
    assert capsys.readouterr().out.count("\n") == 1
    assert main(["draw", "-T", "13", "--out", "rnn.dot"]) == 0
    assert capsys.readouterr().out.splitlines()[1] == "wide picture: 13 timesteps side by side; try -T 8"


@pytest.mark.parametrize("cell", ["rnn", "lstm", "gru"])
def test_the_first_state_is_called_h0(cell: str) -> None:
    assert main(["draw", "--cell", cell, "--out", "cell.dot"]) == 0
    text = Path("cell.dot").read_text("utf-8")
    assert "<b>h0</b>" in text
    assert ("<b>c0</b>" in text) == (cell == "lstm")
    assert "zeros" not in text


def test_an_unknown_cell(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["draw", "--cell", "esn"]) == 2
    err = capsys.readouterr().err
    assert "esn" in err
    assert "Traceback" not in err
