"""The notebook that micro_rnn is written for: every code cell runs as it is, the import line aside."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest

from tensorgrad.models import micro_rnn

matplotlib = pytest.importorskip("matplotlib")

START = "In [None]:"
TEXT = "hello world hello rnn hello deep learning"


def code_cells(notebook: str) -> list[str]:
    """The code cells of a notebook printed as text.

    A cell begins after a line ``In [None]:`` and ends where the next heading or the next cell begins.
    """
    parts = re.split(rf"^{re.escape(START)}$", notebook, flags=re.MULTILINE)[1:]
    return [re.split(r"^## ", part, maxsplit=1, flags=re.MULTILINE)[0].strip() + "\n" for part in parts]


@dataclass
class Run:
    """What is left when all cells have run."""

    names: dict[str, Any]
    printed: str
    figures: int


@pytest.fixture(params=["autograd", "manual"])
def run(
    request: pytest.FixtureRequest,
    shared_file: Callable[[str], Path],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Run:
    """Run all cells in one namespace, with each kind of gradients as the RNN's default."""
    mode: Literal["autograd", "manual"] = request.param
    notebook = shared_file("seed-notebook.txt").read_text(encoding="utf-8")
    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    shown = []

    def show() -> None:
        # Agg has no window to show and would warn about it.
        shown.extend(plt.get_fignums())
        plt.close("all")

    monkeypatch.setattr(plt, "show", show)
    monkeypatch.setattr(micro_rnn, "RNN", functools.partial(micro_rnn.RNN, gradients=mode))
    state = np.random.get_state()
    names: dict[str, Any] = {"__name__": "__main__"}
    try:
        for number, cell in enumerate(code_cells(notebook)):
            source = cell.replace("from rnn import", "from tensorgrad.models.micro_rnn import")
            exec(compile(source, f"cell {number}", "exec"), names)
    finally:
        np.random.set_state(state)
        plt.close("all")
    assert names["rnn"].gradients == mode
    return Run(names, capsys.readouterr().out, len(shown))


def test_every_cell_runs(run: Run) -> None:
    assert run.figures == 3
    assert run.names["h"].shape == (3, 1)
    assert run.names["hidden_states"].shape == (5, 3)
    assert "Created RNN with:" in run.printed
    assert "Congratulations!" in run.printed

    ratios = re.findall(r"Seq length +(\d+): first=([\d.]+), last=([\d.]+), ratio=([\d.]+)x", run.printed)
    assert [int(length) for length, *_ in ratios] == [5, 10, 20, 30]
    # Untrained, the gradient is made anew at each step and decays at once: it is about the same everywhere.
    assert all(0.2 < float(ratio) < 5 for *_, ratio in ratios)
    assert len(run.names["grad_mags"]) == 50

    assert re.findall(r"Iteration (\d+): loss", run.printed) == ["0", "500", "1000", "1500", "2000", "2500"]
    losses, start = run.names["losses"], 15 * np.log(len(set(TEXT)))
    assert len(losses) == 3000
    assert losses[0] == pytest.approx(start, rel=1e-3)
    assert losses[-1] < start / 5
    assert run.names["loss"] < 1

    generated = re.findall(r"Seed '(.)': (.*)", run.printed)
    assert [seed for seed, _ in generated] == ["h", "w", "d"]
    for seed, sample in generated:
        assert len(sample) == 51
        assert sample[0] == seed
        assert set(sample) <= set(TEXT)
    assert generated[0][1].startswith("hello ")


def test_where_a_cell_ends() -> None:
    notebook = f"# T\n\n{START}\na = 1  ## no heading\n\n## 1. S\n\ntext\n\n{START}\nb = 2\n{START}\n\nc = 3"
    assert code_cells(notebook) == ["a = 1  ## no heading\n", "b = 2\n", "c = 3\n"]


def test_every_cell_is_found(shared_file: Callable[[str], Path]) -> None:
    notebook = shared_file("seed-notebook.txt").read_text(encoding="utf-8")
    cells = code_cells(notebook)
    assert len(cells) == notebook.count(START)
    for cell in cells:
        compile(cell, "cell", "exec")
