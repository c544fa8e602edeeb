"""Every example runs, shortly, and does what it says."""

from __future__ import annotations

import re
import runpy
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

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


def test_train_char_rnn(run: Run, tmp_path: Path) -> None:
    text = tmp_path / "text.txt"
    text.write_text("to be or not to be, that is the question\n" * 60, encoding="utf-8")
    out = run("train_char_rnn.py", str(text), "--steps", "100", "--hidden", "32")
    assert re.search(r"^step 100: [\d.]+ nats per character, gradient norm [\d.]+$", out, re.MULTILINE)
    assert len(out) > 400
    out = run("train_char_rnn.py", "--steps", "2", "--cell", "gru", "--hidden", "8")
    assert out.startswith("step 2: 4.")


def test_custom_cell(run: Run) -> None:
    out = run("custom_cell.py", "--steps", "20")
    assert float(re.findall(r"largest error (\S+)", out)[0]) < 1e-6
    assert re.search(r"^step 20: mean squared error \d\.\d{4}$", out, re.MULTILINE)


def test_compare_with_manual_bptt(run: Run) -> None:
    out = run("compare_with_manual_bptt.py", "--steps", "6")
    assert out.count("agree") == 8
    assert "DIFFER" not in out
    out = run("compare_with_manual_bptt.py", "--steps", "6", "--mistake")
    assert re.findall(r"^(\w+) .* DIFFER$", out, re.MULTILINE) == ["W_xh", "W_hh", "b_h", "dh", "da"]
    assert "dh is right back to t=5, and wrong from t=4 on" in out
