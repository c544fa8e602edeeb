"""The exercises: every file has the bug that the table claims, with the symptoms that it claims."""

from __future__ import annotations

import ast
import functools
import runpy
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from tensorgrad.bptt.check import BackwardReport, check_backward
from tensorgrad.errors import UserError
from tensorgrad.models.exercises import EXERCISES, Bug, Exercise, exercise

FOLDER = Path(__file__).resolve().parent.parent / "examples" / "broken_backwards"
EVERY = pytest.mark.parametrize("one", EXERCISES, ids=lambda one: f"{one.name}-{one.bug.code}")
SOURCES = pytest.mark.parametrize("source", dict.fromkeys(one.bug.source for one in EXERCISES))
BLOCKS = {"rnn": 1, "rnn_padded": 1, "lstm": 4, "gru": 3}


def module(one: Exercise) -> SimpleNamespace:
    return SimpleNamespace(**runpy.run_path(str(FOLDER / f"{one.name}.py")))


def of(source: str) -> Exercise:
    return next(one for one in EXERCISES if one.bug.source == source)


@functools.cache
def checked(one: Exercise) -> BackwardReport:
    broken = module(one)
    return check_backward(broken.forward, broken.backward, cell=one.cell)


@functools.cache
def right(source: str) -> BackwardReport:
    solution = of(source).module()
    return check_backward(solution.forward, solution.backward, cell=of(source).cell)


@SOURCES
def test_every_solution_is_right(source: str) -> None:
    report = right(source)
    assert report.ok
    assert report.diagnosis == []


@EVERY
def test_the_doctor_names_the_bug(one: Exercise) -> None:
    report = checked(one)
    assert not report.ok
    assert one.bug.code in [finding.code for finding in report.diagnosis[:2]]


@EVERY
def test_the_gradients_that_are_said_to_be_wrong_are(one: Exercise) -> None:
    rows = [row for outcome in checked(one).outcomes if outcome.report for row in outcome.report.rows]
    wrong = {row.name for row in rows if not row.ok and row.name.startswith(("W_", "b_"))}
    assert wrong == set(one.bug.wrong)
    # Where the gradients are right the first time, the second time tells.
    assert all(row.ok for row in rows) == (not one.bug.wrong)


@EVERY
def test_the_forward_is_right(one: Exercise) -> None:
    """Held against the same graph, and by what it can be tried under, as its solution."""
    report, solution = checked(one), right(one.bug.source)
    assert (report.network, report.untried) == (solution.network, solution.untried)
    broken, source = FOLDER.joinpath(f"{one.name}.py").read_text(encoding="utf-8"), one.solution()
    assert _function(broken, "forward") == _function(source, "forward")
    assert _function(broken, "backward") != _function(source, "backward")


def _function(text: str, name: str) -> str:
    found = [node for node in ast.parse(text).body if isinstance(node, ast.FunctionDef) and node.name == name]
    return ast.unparse(found[0])


def remembering(network: Any, source: str, seed: int = 1, steps: int = 160) -> float:
    """The loss after training, with Adam, to say at every timestep which token stood one before."""
    T, B, H, V = 8, 8, 12, 4
    rng, rows = np.random.default_rng(seed), BLOCKS[source] * H
    shapes = {"W_xh": (rows, V), "W_hh": (rows, H), "W_hy": (V, H)}
    params = {name: 0.3 * rng.standard_normal(shape) for name, shape in shapes.items()}
    biases = ("b_xh", "b_hh") if source == "gru" else ("b_h",)
    params |= {name: np.zeros(rows) for name in biases} | {"b_y": np.zeros(V)}
    mean, square = ({name: np.zeros_like(p) for name, p in params.items()} for _ in range(2))
    losses = []
    for step in range(1, steps + 1):
        xs = rng.integers(V, size=(T, B))
        targets = np.concatenate([np.zeros_like(xs[:1]), xs[:-1]])
        rest = [np.zeros((B, H))] * (2 if source == "lstm" else 1)
        if source == "rnn_padded":
            rest.append(np.arange(T)[:, None] < rng.integers(3, T + 1, size=B))
        loss, cache = network.forward(params, xs, targets, *rest)
        losses.append(float(loss))
        gradients = network.backward(params, cache)
        for name, p in params.items():
            mean[name] = 0.9 * mean[name] + 0.1 * gradients[name]
            square[name] = 0.99 * square[name] + 0.01 * gradients[name] ** 2
            p -= 0.02 * mean[name] / (1 - 0.9**step) / (np.sqrt(square[name] / (1 - 0.99**step)) + 1e-8)
    return float(np.mean(losses[-20:]))


def verdict(loss: float) -> str:
    # Without any memory 7/8 ln 4 = 1.21 can be reached.
    return "as well" if loss < 0.04 else "worse" if loss < 0.65 else "not"


@SOURCES
def test_the_right_network_learns_to_remember(source: str) -> None:
    assert remembering(of(source).module(), source) < 0.01


@EVERY
def test_a_broken_one_learns_as_it_is_said_to(one: Exercise) -> None:
    seeds = (1, 2, 4) if one.bug.trains == "by luck" else (1,)
    losses = [remembering(module(one), one.bug.source, seed) for seed in seeds]
    verdicts = set(map(verdict, losses))
    assert verdicts >= {"as well", "not"} if one.bug.trains == "by luck" else verdicts == {one.bug.trains}, (
        losses
    )


def test_there_are_exercises_of_all_kinds() -> None:
    assert len(EXERCISES) >= 24
    assert [one.number for one in EXERCISES] == list(range(1, len(EXERCISES) + 1))
    assert {one.bug.level for one in EXERCISES} == {"easy", "medium", "hard"}
    assert {one.bug.trains for one in EXERCISES} == {"as well", "worse", "by luck", "not"}
    bugs = [(one.bug.source, one.bug.edits) for one in EXERCISES]
    assert len(set(bugs)) == len(bugs)
    assert len({one.bug.code for one in EXERCISES}) >= 30


@EVERY
def test_a_file_gives_nothing_away(one: Exercise) -> None:
    text = FOLDER.joinpath(f"{one.name}.py").read_text(encoding="utf-8")
    assert "BPTT" not in text
    assert len(text.splitlines()) <= 85
    # Nothing but the heading and the replaced text differs from the source.
    code = text.split('"""', 2)[2]
    for right_text, wrong in one.bug.edits:
        assert "#" not in wrong
        assert right_text not in code or right_text in wrong or wrong in right_text


@SOURCES
def test_the_sources_need_numpy_alone(source: str) -> None:
    nodes = list(ast.walk(ast.parse(of(source).solution())))
    imported = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    assert imported | {node.module for node in nodes if isinstance(node, ast.ImportFrom)} == {
        "numpy",
        "__future__",
    }


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., int]:
    """The script that writes the files, at work in an empty folder."""
    main = runpy.run_path(str(FOLDER / "make.py"))["main"]
    main.__globals__["HERE"] = tmp_path
    return main


def test_the_files_are_current() -> None:
    assert runpy.run_path(str(FOLDER / "make.py"))["main"](["--check"]) == 0


def test_files_that_are_not_current_are_named(
    make: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert make(["--check"]) == 1
    assert list(tmp_path.iterdir()) == []
    assert make([]) == 0
    assert make(["--check"]) == 0
    changed, removed, added = (tmp_path / name for name in ("rnn_02.py", "rnn_03.py", "rnn_99.py"))
    changed.write_text(changed.read_text(encoding="utf-8") + "\n", encoding="utf-8")
    removed.unlink()
    added.write_text("", encoding="utf-8")
    capsys.readouterr()
    assert make(["--check"]) == 1
    assert capsys.readouterr().out.startswith("not current: rnn_02.py, rnn_03.py, rnn_99.py; run python ")
    assert make([]) == 0
    assert make(["--check"]) == 0
    assert not added.exists()


@pytest.mark.parametrize("text", ["no such line", "dh"])
def test_a_bug_that_fits_no_one_place_is_refused(text: str) -> None:
    bug = Bug("rnn", "easy", "BPTT001", "worse", (), ((text, "something"),))
    with pytest.raises(ValueError, match=f"exercise 1: rnn.py has [0-9]+ times '{text}'"):
        Exercise(1, bug).text()


@pytest.mark.parametrize("number", [0, -1, len(EXERCISES) + 1])
def test_a_number_without_an_exercise_is_refused(number: int) -> None:
    with pytest.raises(UserError, match=f"no exercise {number}, but 1 to {len(EXERCISES)}"):
        exercise(number)
