"""Every example runs, shortly, and does what it says."""

from __future__ import annotations

import re
import runpy
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tensorgrad.compile import Compiled

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"

Run = Callable[..., str]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run an example as a program; gives what it prints."""

    def run_example(name: str, *argv: str) -> str:
        monkeypatch.setattr(sys, "argv", [name, *argv])
        runpy.run_path(str(EXAMPLES / name), run_name="__main__")
        out, err = capsys.readouterr()
        assert err == ""
        return out

    return run_example


def test_every_example_is_run_here() -> None:
    here = Path(__file__).read_text(encoding="utf-8")
    assert [path.name for path in EXAMPLES.glob("*.py") if f'run("{path.name}"' not in here] == []


@pytest.mark.parametrize(
    ("program", "trained"),
    [
        ("custom_cell.py --steps 6", 1),
        ("bidirectional_tagger.py --steps 4 --hidden 8", 2),
        ("gradient_flow.py --steps 3 --T 8", 3),
        ("standard_tasks.py --task adding --steps 4 --T 8 --hidden 8", 1),
        ("standard_tasks.py --task copy_memory --steps 3 --T 8 --hidden 8", 1),
        ("standard_tasks.py --task temporal_order --steps 3 --T 12 --hidden 8", 1),
        ("standard_tasks.py --task names --steps 5 --batch 3 --hidden 8 --file FILE", 1),
        ("train_char_rnn.py --steps 4 --hidden 16", 2),
        ("train_transformer.py --steps 4 --size 8", 2),
        ("word_embeddings.py FILE --steps 4 --min-count 1 --dimension 4", 1),
        ("seq2seq_addition.py --steps 3", 1),
        ("attention_reversal.py --steps 2 --attention dot --out FILE.png", 2),
    ],
)
def test_compiled_and_eager_runs_agree(
    program: str, trained: int, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if "attention" in program:
        pytest.importorskip("matplotlib")
    names = tmp_path / "names.tsv"
    names.write_text("".join(f"{'ao'[i % 2] * i}\t{'AO'[i % 2]}\n" for i in range(4, 24)), encoding="utf-8")
    argv = [word.replace("FILE", str(names)) for word in program.split()]
    made: list[Compiled] = []
    init = Compiled.__init__
    monkeypatch.setattr(Compiled, "__init__", lambda self, *given: (made.append(self), init(self, *given))[1])
    eager = run(*argv, "--eager")
    assert made == []
    compiled = run(*argv)
    # One program serves all lengths and batches. A trainer's evaluation waits for the end of a pass.
    assert [n for each in made if (n := each.cache_info().programs)] == [1] * trained
    said = [re.findall(r"\d+\.\d+", out.split("\n\n")[0]) for out in (compiled, eager)]
    assert said[0]
    np.testing.assert_allclose(*(np.array(numbers, float) for numbers in said), rtol=0, atol=2e-4)


def test_train_char_rnn(run: Run, tmp_path: Path) -> None:
    text = tmp_path / "text.txt"
    text.write_text("to be or not to be, that is the question\n" * 60, encoding="utf-8")
    out = run("train_char_rnn.py", str(text), "--steps", "100", "--hidden", "32")
    assert re.search(r"^step 100: [\d.]+ nats per character, gradient norm [\d.]+$", out, re.MULTILINE)
    assert len(out) > 400
    out = run("train_char_rnn.py", "--steps", "2", "--cell", "gru", "--hidden", "8")
    assert out.startswith("step 2: 4.")


def test_custom_cell(run: Run, tmp_path: Path) -> None:
    picture = tmp_path / "ugrnn.dot"
    out = run("custom_cell.py", "--steps", "20", "--draw", str(picture))
    assert float(re.findall(r"largest error (\S+)", out)[0]) < 1e-6
    assert float(re.findall(r"by hand: error (\S+)", out)[0]) < 1e-12
    assert re.search(r"^step 20: mean squared error \d\.\d{4}$", out, re.MULTILINE)
    assert '"t1.g"' in picture.read_text(encoding="utf-8")


def test_standard_tasks(run: Run, tmp_path: Path) -> None:
    out = run("standard_tasks.py", "--steps", "3", "--T", "8", "--hidden", "4")
    assert re.search(r"^step 3: loss \d\.\d{4}, chance 0\.1667$", out, re.MULTILINE)
    for task, T, chance in [
        ("copy_memory", "8", "0.7427"),
        ("temporal_order", "12", "1.3863"),
        ("parity", "8", "0.6931"),
    ]:
        argv = ["--task", task, "--cell", "lstm", "--steps", "1", "--T", T, "--hidden", "4"]
        assert run("standard_tasks.py", *argv).endswith(f"chance {chance}\n")
    argv = ["--task", "parity", "--T", "4", "--lr", "0.02", "--until", "0.3", "--steps", "400"]
    assert float(re.findall(r"loss (\S+), ", run("standard_tasks.py", *argv))[-1]) < 0.3
    names = tmp_path / "names.tsv"
    lines = (f"{'ao'[i % 2] * (i // 2 + 2)}\t{'AO'[i % 2]}\n" for i in range(20))
    names.write_text("".join(lines), encoding="utf-8")
    argv = ["--task", "names", "--file", str(names), "--steps", "60", "--lr", "0.01"]
    assert run("standard_tasks.py", *argv).endswith("100.0% of 4 test sequences right\n")


def test_compare_with_manual_bptt(run: Run) -> None:
    out = run("compare_with_manual_bptt.py", "--steps", "6")
    assert out.count("agree") == 8
    assert "DIFFER" not in out
    out = run("compare_with_manual_bptt.py", "--steps", "6", "--mistake")
    assert re.findall(r"^(\w+) .* DIFFER$", out, re.MULTILINE) == ["W_xh", "W_hh", "b_h", "dh", "da"]
    assert "dh is right back to t=5, and wrong from t=4 on" in out


def test_bidirectional_tagger(run: Run) -> None:
    out = run("bidirectional_tagger.py", "--steps", "30")
    line = r"^(\w+) directions?: loss \S+, ([\d.]+)% of the \( and ([\d.]+)% of the \) right$"
    (one, opening, closing), (two, *both) = re.findall(line, out, re.MULTILINE)
    assert (one, two) == ("one", "two")
    assert float(opening) < 75 < 85 < min(map(float, (closing, *both)))
    assert "^^^^..^^.^^^^  the truth" in out


def test_pytorch_weights(run: Run) -> None:
    out = run("pytorch_weights.py", "--steps", "2")
    try:
        import torch  # noqa: F401
    except ImportError:
        assert out.startswith("PyTorch is not installed")
    else:
        assert out.count("20 arrays compared") == 2
        assert "back, 2 steps later" in out


def test_word_embeddings(run: Run, tmp_path: Path) -> None:
    text = tmp_path / "text.txt"
    text.write_text("to be or not to be, that is the question\n" * 60, encoding="utf-8")
    argv = [str(text), "--steps", "20", "--dimension", "8", "--analogy", "to", "be", "or"]
    out = run("word_embeddings.py", *argv)
    assert out.startswith("600 words, 9 different ones known\nstep 20: ")
    assert re.search(r"^ +question  (\S+ \d\.\d\d ?){1,}", out, re.MULTILINE)
    assert re.search(r"^to : be = or : \?  \w+ -?\d\.\d\d", out, re.MULTILINE)
    out = run("word_embeddings.py", "--steps", "1", "--architecture", "cbow", "--words", "true")
    assert "step 1: 4.159 nats per pair" in out


def test_word_embeddings_draws_a_map(run: Run, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    run("word_embeddings.py", "--steps", "1", "--map", str(tmp_path / "map.png"))
    assert (tmp_path / "map.png").read_bytes().startswith(b"\x89PNG")


def test_seq2seq_addition(run: Run) -> None:
    out = run("seq2seq_addition.py", "--steps", "10", "--teacher-forcing", "0.5")
    assert re.search(r"^step 10: [\d.]+ nats per character, [\d.]+% of sums right$", out, re.MULTILINE)
    assert len(re.findall(r"^\d+\+\d+ = .* \([\d.]+%\)$", out, re.MULTILINE)) == 5


def test_attention_reversal(run: Run, tmp_path: Path) -> None:
    picture = tmp_path / "alignment.png"
    out = run("attention_reversal.py", "--steps", "1", "--attention", "dot", "--out", str(picture))
    said = re.findall(r"^(\w+), step 1: [\d.]+ nats, [\d.]+% reversed exactly$", out, re.MULTILINE)
    assert said == ["plain", "dot"]
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_train_transformer(run: Run, tmp_path: Path) -> None:
    text = tmp_path / "text.txt"
    text.write_text("to be or not to be, that is the question\n" * 60, encoding="utf-8")
    out = run("train_transformer.py", str(text), "--steps", "60", "--size", "16", "--context", "16")
    assert re.search(r"^step 60: [\d.]+ nats per character, gradient norm [\d.]+$", out, re.MULTILINE)
    assert len(out) > 400
    options = ("--layers", "2", "--positions", "sinusoidal", "--size", "8")
    assert run("train_transformer.py", str(text), "--steps", "2", *options).startswith("step 2: ")


def test_gradient_flow(run: Run, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    out = run("gradient_flow.py", "--steps", "1", "--T", "12")
    factors = [float(x) for x in re.findall(r"factor of one step back (\S+), greatest", out)]
    assert len(factors) == 6
    assert factors == sorted(factors)
    assert factors[0] < 0.6 < 1 < factors[-1]
    assert re.findall(r"^(\w+) *: loss", out, re.MULTILINE) == ["RNN", "LSTM", "GRU"]
    run("gradient_flow.py", "--steps", "0", "--T", "6", "--out", str(tmp_path))
    assert sorted(x.name for x in tmp_path.iterdir()) == ["cells.png", "horizon.png", "spectral-radius.png"]
