"""`tensorgrad demo` with few steps: what it says and leaves, where something is missing, and bad input."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tensorgrad import viz
from tensorgrad.cli import check, main
from tensorgrad.cli import demo as demo_module
from tensorgrad.cli.log import read_log
from tensorgrad.data import Vocabulary
from tensorgrad.models.char_lm import CharLM
from tensorgrad.models.corpus import python_reference
from tensorgrad.models.manual import rnn as manual
from tensorgrad.models.trainer import Trainer
from tensorgrad.viz.writers.render import render

PICTURES = ["gradient.png", "graph.html", "graph.png", "graph.svg", "loss.png", "states.png"]


def renders() -> bool:
    try:
        return bool(render("digraph { a -> b }", "svg"))
    except viz.RenderError:
        return False


needs_graphviz = pytest.mark.skipif(not renders(), reason="no Graphviz is installed")


@pytest.fixture
def run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, Path]]:
    """Run the demo; gives its status, what it prints, and its folder."""

    def demo(*options: str) -> tuple[int, str, Path]:
        out = tmp_path / "demo"
        status = main(["demo", "--out", str(out), "--steps", "8", *options])
        said, err = capsys.readouterr()
        assert err == ""
        return status, said, out

    return demo


@pytest.fixture
def few_differences(monkeypatch: pytest.MonkeyPatch) -> None:
    """The check takes most of the rest."""
    monkeypatch.setattr(check, "_SAMPLED", 4)


@pytest.fixture
def no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """They take most of a short demo's time."""
    monkeypatch.setattr(demo_module, "_pictures", lambda *args: iter(()))


@needs_graphviz
def test_it_checks_trains_draws_and_says_where_everything_is(
    run: Callable[..., tuple[int, str, Path]],
) -> None:
    status, said, out = run()
    assert status == 0
    names = sorted([*PICTURES, "checkpoint.safetensors", "log.csv"])
    assert sorted(path.name for path in out.iterdir()) == names
    assert "The loss and all 9 gradients agree." in said
    assert said.count("a sample after") == 4
    for name in (*PICTURES, "checkpoint.safetensors", "log.csv"):
        assert name in said or (name == "graph.png" and "graph.svg (.png)" in said)
    assert f"tensorgrad sample {out}" in said
    assert "\x1b" not in said
    for path in out.glob("*.png"):
        assert path.read_bytes().startswith(b"\x89PNG")
        assert path.stat().st_size > 10_000
    svg = (out / "graph.svg").read_text(encoding="utf-8")
    assert all(f">t={t}<" in svg for t in range(3))
    assert ">h0<" in svg
    assert (out / "graph.html").read_text(encoding="utf-8").startswith("<!DOCTYPE html>")
    assert len(read_log(out / "log.csv")["loss"]) == 8


@pytest.mark.usefixtures("no_pictures", "few_differences")
def test_what_it_leaves_can_be_sampled_and_gone_on_with(
    run: Callable[..., tuple[int, str, Path]], capsys: pytest.CaptureFixture[str]
) -> None:
    _, _, out = run()
    assert main(["sample", str(out), "--prime", "The class ", "--length", "20", "--seed", "0"]) == 0
    assert len(capsys.readouterr().out) == len("The class ") + 20 + 1
    trainer = Trainer.resume(out / "checkpoint.safetensors", python_reference(), steps=9)
    assert [step.number for step in trainer.run()] == [9]


@pytest.mark.usefixtures("no_pictures", "few_differences")
def test_the_same_seed_gives_the_same_demo(run: Callable[..., tuple[int, str, Path]], tmp_path: Path) -> None:
    models = []
    for k, seed in enumerate(("3", "3", "4")):
        _, _, out = run("--seed", seed)
        models.append((out / "checkpoint.safetensors").read_bytes())
        out.rename(tmp_path / str(k))
    assert models[0] == models[1] != models[2]


def test_the_gradient_it_plots_is_that_of_the_last_loss() -> None:
    model = CharLM(vocabulary(), "rnn", 8, seed=0, dtype=np.float64)
    text = python_reference()
    reach = demo_module._reach(model, model.vocabulary.encode(text))
    window = model.vocabulary.encode(text)[-51 * 32 :].reshape(32, 51).T
    cell, output = model.rnn.cells["l0"], model.output
    assert cell.bias_ih is not None
    assert cell.bias_hh is not None
    assert output.bias is not None
    params = {
        "W_xh": cell.weight_ih.numpy(),
        "W_hh": cell.weight_hh.numpy(),
        "W_hy": output.weight.numpy(),
        "b_h": cell.bias_ih.numpy() + cell.bias_hh.numpy(),
        "b_y": output.bias.numpy(),
    }
    # All of the loss by hand, less all of it but the last timestep's.
    whole, shorter = (
        manual.backward(
            params, manual.forward(params, window[:T], window[1 : T + 1], np.zeros((32, 8)), None, "sum")[1]
        )
        for T in (50, 49)
    )
    dh = whole.dh.copy()
    dh[:49] -= shorter.dh
    np.testing.assert_allclose(reach, np.linalg.norm(dh.reshape(50, -1) / 32, axis=1), rtol=1e-6, atol=1e-12)


def vocabulary() -> Vocabulary:
    return Vocabulary(python_reference())


@pytest.mark.usefixtures("few_differences")
def test_without_graphviz_the_png_is_left_as_text(
    run: Callable[..., tuple[int, str, Path]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tensorgrad.viz.writers.render._commands", lambda *_: [])
    status, said, out = run()
    assert status == 0
    assert (out / "graph.dot").exists()
    assert not (out / "graph.png").exists()
    assert (out / "graph.svg").exists()
    assert (out / "states.png").exists()
    assert re.search(r"graph\.svg \(\.dot\)\n    .*needs Graphviz", said)


@pytest.mark.usefixtures("few_differences")
def test_without_matplotlib_everything_else_is_there(
    run: Callable[..., tuple[int, str, Path]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tensorgrad.viz.plots.look", None)
    for name in [name for name in sys.modules if name.partition(".")[0] == "matplotlib"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.delitem(sys.modules, "tensorgrad.viz.plots.look")
    monkeypatch.delattr(viz.plots, "look", raising=False)
    status, said, out = run()
    assert status == 0
    assert "plots need matplotlib: pip install 'tensorgrad-rnn[app]'" in said
    assert (out / "checkpoint.safetensors").exists()
    assert not (out / "loss.png").exists()


@pytest.mark.usefixtures("no_pictures")
def test_gradients_that_differ_are_said_and_end_with_status_1(
    run: Callable[..., tuple[int, str, Path]], monkeypatch: pytest.MonkeyPatch
) -> None:
    backward = manual.backward

    def wrong(*args: object) -> manual.Gradients:
        grads = backward(*args)  # type: ignore[arg-type]
        grads.params["W_hh"] *= 2
        return grads

    monkeypatch.setattr(manual, "backward", wrong)
    status, said, _ = run()
    assert status == 1
    assert "Of the loss and 9 gradients, 1 differ: W_hh" in said
    assert "manual differs" in said


@pytest.mark.usefixtures("no_pictures", "few_differences")
def test_interrupted_it_says_what_can_be_done_with_what_is_there(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    step = Trainer.step

    def interrupted(self: Trainer) -> object:
        signal.raise_signal(signal.SIGINT)
        return step(self)

    monkeypatch.setattr(Trainer, "step", interrupted)
    out = tmp_path / "my demo"
    assert main(["demo", "--out", str(out), "--steps", "8"]) == 130
    assert capsys.readouterr().err == (
        f"tensorgrad: stopped after 1 steps; saved as {out / 'checkpoint.safetensors'}\n"
        f"see what it writes: tensorgrad sample '{out}'\n"
        f"start again: tensorgrad demo --out '{out}-2'\n"
    )
    assert main(["sample", str(out), "--length", "5"]) == 0


def test_nothing_is_overwritten(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mine.txt").write_text("keep this")
    assert main(["demo", "--out", str(tmp_path), "--steps", "2"]) == 2
    assert capsys.readouterr() == (
        "",
        f"tensorgrad: the folder {tmp_path} is not empty, and nothing is overwritten: move it away, or name "
        "another folder with --out\n",
    )
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--steps", "0"], "the number of steps must be a whole number from 1 up, not 0"),
        (["--steps", "-8"], "the number of steps must be a whole number from 1 up, not -8"),
        (["--seed", "-1"], "the seed must be a whole number from 0 up, not -1"),
        (["--out", "/dev/null/demo"], "cannot make the folder /dev/null/demo: Not a directory"),
        (["--out", "/dev/null"], "/dev/null is a file; name a folder with --out"),
    ],
)
@pytest.mark.skipif(os.name == "nt", reason="names files as POSIX does")
def test_bad_options(
    options: list[str],
    sentence: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["demo", *options]) == 2
    assert capsys.readouterr() == ("", f"tensorgrad: {sentence}\n")
    assert list(tmp_path.iterdir()) == []


def test_without_the_reference_it_says_what_to_do(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pydoc_data.topics", None)
    assert main(["demo", "--out", str(tmp_path / "demo")]) == 2
    err = capsys.readouterr().err
    assert err.startswith("tensorgrad: this Python comes without pydoc_data")
    assert not (tmp_path / "demo").exists()


def test_it_needs_no_network(tmp_path: Path) -> None:
    """Sockets are taken away before the program starts."""
    program = (
        "import socket\n"
        "def refused(*args, **kwargs): raise SystemExit('the network was asked for')\n"
        "socket.socket.connect = socket.create_connection = socket.getaddrinfo = refused\n"
        "from tensorgrad.cli import main; raise SystemExit(main())"
    )
    argv = [sys.executable, "-c", program, "demo", "--out", str(tmp_path / "demo"), "--steps", "2"]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr


def test_the_text_is_english_and_the_same_each_time() -> None:
    text = python_reference()
    assert text == python_reference()
    assert text.isascii()
    assert 100_000 < len(text) < 400_000
    lines = text.splitlines()
    assert len(lines) == len(set(lines))
    assert sum(letter.isalpha() or letter == " " for letter in text) > 0.92 * len(text)
    assert all(word in text for word in ("statement", "expression", "the ", " object"))
    # What the demo reads must be in it, whatever the version of Python.
    assert set(demo_module._DRAWN + demo_module._READ) <= set(text)
