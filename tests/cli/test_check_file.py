"""`tensorgrad check FILE.py`: the diagnosis, the exit status, a sentence for what cannot be used."""

from __future__ import annotations

import inspect
import sys
from pathlib import Path

import pytest

from tensorgrad.cli import main
from tensorgrad.cli.check_file import check_file, imported
from tensorgrad.errors import UserError
from tensorgrad.models.manual import common, gru, lstm, rnn

MODULES = {"rnn": rnn, "lstm": lstm, "gru": gru}
TITLES = {"rnn": "a vanilla RNN", "lstm": "an LSTM", "gru": "a GRU"}


def written(path: Path, text: str) -> Path:
    path.write_text(inspect.cleandoc(text) + "\n", encoding="utf-8")
    return path


def manual(folder: Path, name: str, right: str = "", wrong: str = "") -> Path:
    """A manual model as a file of its own beside the module that it imports, with one piece replaced."""
    source = inspect.getsource(MODULES[name]).replace("from .common import", "from common import")
    source = source.replace("from . import common", "import common")
    assert not right or source.count(right) == 1
    (folder / "common.py").write_text(inspect.getsource(common), encoding="utf-8")
    return written(folder / f"my_{name}.py", source.replace(right, wrong) if right else source)


@pytest.mark.parametrize("name", MODULES)
def test_a_right_file_ends_with_status_0(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = manual(tmp_path, name)
    before, search = set(sys.modules), list(sys.path)
    assert main(["check", str(path)]) == 0
    out = capsys.readouterr().out
    assert out.startswith(f"{path}\nHeld against {TITLES[name]} (")
    assert "The backward agrees under all " in out
    # Neither the file, nor what it imported from its folder, is left; nothing is written beside it.
    assert {module for module in set(sys.modules) - before if "my_" in module or module == "common"} == set()
    assert sys.path == search
    assert sorted(p.name for p in tmp_path.iterdir()) == ["common.py", path.name]


@pytest.mark.parametrize(
    ("name", "right", "wrong", "code"),
    [
        ("rnn", "dy[t] @ W_hy + dh_next", "dy[t] @ W_hy", "BPTT001"),
        ("rnn", "da[t] @ W_hh, dh[t]", "da[t] @ W_hh.T, dh[t]", "BPTT005"),
        ("lstm", "(1 - g**2) * dg", "dg", "BPTT014"),
        ("lstm", "f * dc[t], dc[t])", "dc[t], dc[t])", "BPTT029"),
        ("gru", "(1 - n**2) * (1 - z)", "(1 - z)", "BPTT014"),
        ("rnn", "hs[t] ** 2) * dh[t], 0)", "hs[t] ** 2) * dh[t], 0)\n        cache.ps[t] += 1", "BPTT038"),
    ],
)
def test_a_mistake_is_named_and_ends_with_status_1(
    name: str, right: str, wrong: str, code: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["check", str(manual(tmp_path, name, right, wrong))]) == 1
    out = capsys.readouterr().out
    assert "The backward is wrong under " in out
    assert code in out


def test_the_seed_and_the_cell_can_be_chosen(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = str(manual(tmp_path, "rnn", "da[t] @ W_hh, dh[t]", "da[t] @ W_hh.T, dh[t]"))
    said = []
    for seed in ("0", "0", "1"):
        assert main(["check", path, "--cell", "rnn", "--seed", seed]) == 1
        said.append(capsys.readouterr().out)
    assert said[0] == said[1] != said[2]


OWN = """
    import numpy as np
    import tensorgrad as tg
    from tensorgrad import functional as F, nn

    shapes = {"w": ("H",), "R": ("V", "H")}

    def forward(params, xs, targets, h0):
        h, hs, loss = h0, [], 0
        for t in range(len(xs)):
            h = params["w"] * h
            e = np.exp(h @ params["R"].T)
            p = e / e.sum(axis=1, keepdims=True)
            loss -= np.log(p[np.arange(len(h)), targets[t]]).sum()
            hs.append((h, p))
        return loss, hs

    def backward(params, cache, targets, h0):
        dw, dR, dh = 0 * params["w"], 0 * params["R"], 0
        for t in reversed(range(len(targets))):
            h, p = cache[t]
            dy = p - np.eye(len(params["R"]))[targets[t]]
            dR += dy.T @ h
            dh = dh + dy @ params["R"]
            dw += (dh * (cache[t - 1][0] if t else h0)).sum(axis=0)
            dh = dh * params["w"]
        return {"w": dw, "R": dR, "h0": dh}

    def graph(params, xs, targets, h0):
        def cell(x, h):
            h = tg.label(params["w"] * h, "h")
            return h @ params["R"].T, h
        run = nn.unroll(cell, np.zeros((len(xs), 1)), h0)
        return F.cross_entropy(run.outputs, targets, reduction="sum"), {**params, "h0": h0}, run
"""


def test_a_file_may_bring_its_own_graph(tmp_path: Path) -> None:
    report = check_file(written(tmp_path / "own.py", OWN))
    assert report.ok, str(report)
    assert report.network == "the graph given"
    wrong = OWN.replace("dh = dh * params", "dh = dh + params")
    assert not check_file(written(tmp_path / "own.py", wrong)).ok
    with pytest.raises(
        UserError, match=r"own.py: .*not that of|own.py: with a graph of your own give shapes"
    ):
        check_file(written(tmp_path / "own.py", OWN.replace("shapes =", "shape =")))


BACKWARD = "def backward(params, cache): pass\n"


@pytest.mark.parametrize(
    ("source", "sentence"),
    [
        ("x = (", r"f.py cannot be run: SyntaxError: .*line 1"),
        ("x = 1\ny = 1 / 0", r"f.py cannot be run: ZeroDivisionError: division by zero \(line 2\)"),
        (
            "import no_such_module_of_mine",
            "f.py cannot be run: ModuleNotFoundError: .*no_such_module_of_mine",
        ),
        ("from .other import x", "from other import ...', the file's folder is searched first"),
        ("raise SystemExit(3)", "it ends the program by itself .SystemExit: 3.; put that under if __name__"),
        ("x = 1", "f.py has no forward and no backward; it must define forward"),
        (BACKWARD, "f.py has no forward; it must define"),
        ("forward = 3\n" + BACKWARD, "f.py: forward must be a function, .*, not int"),
        (
            "def forward(params, xs, targets, h0):\n    return params['Wxh'], 0\n" + BACKWARD,
            "f.py: .*forward raised KeyError in line 2: 'Wxh'",
        ),
        (
            "from tensorgrad.models.manual.rnn import forward\n" + BACKWARD,
            "f.py: backward returned None; end it with a return",
        ),
        (
            "from tensorgrad.models.manual import rnn\nbackward = rnn.backward\n"
            "def forward(params, xs, targets, h0):\n"
            "    loss, cache = rnn.forward(params, xs, targets, h0)\n    return loss + 1, cache",
            "f.py: forward's loss is .*but that of a vanilla RNN .*cannot be judged by another forward",
        ),
    ],
)
def test_a_file_that_cannot_be_used_ends_with_status_2(
    source: str, sentence: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "f.py"
    path.write_text(source, encoding="utf-8")
    assert main(["check", str(path)]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    with pytest.raises(UserError, match=sentence):
        check_file(path)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["-T", "3"], "of a file only --cell and --seed can be chosen"),
        (["--dtype", "float64"], "of a file only --cell and --seed can be chosen"),
        (["--per-step"], "of a file only --cell and --seed can be chosen"),
        (["--seed", "-1"], "the seed must be a whole number from 0 up, not -1"),
        (["--cell", "elman"], "there is no reference for a cell 'elman'"),
    ],
)
def test_options_that_a_file_cannot_have(
    arguments: list[str], sentence: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = written(tmp_path / "f.py", "from tensorgrad.models.manual.rnn import backward, forward")
    assert main(["check", str(path), *arguments]) == 2
    assert sentence in capsys.readouterr().err


def test_a_path_that_is_no_python_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", str(tmp_path / "none.py")]) == 2
    assert "there is no file" in capsys.readouterr().err
    assert main(["check", str(tmp_path)]) == 2
    assert capsys.readouterr().err == f"tensorgrad: {tmp_path} is a folder; name a Python file\n"
    assert main(["check", str(written(tmp_path / "text.txt", "x"))]) == 2
    assert "text.txt is no Python file: its name must end in .py" in capsys.readouterr().err


def test_a_file_may_define_dataclasses_and_hide_a_module(tmp_path: Path) -> None:
    """A dataclass looks its own module up, and a file called like another module is not taken for that."""
    source = """
        from __future__ import annotations
        from dataclasses import dataclass

        @dataclass
        class Cache:
            x: int

        name = __name__
    """
    import json

    with imported(written(tmp_path / "json.py", source)) as module:
        assert module.Cache(3).x == 3
        assert sys.modules[module.name] is module
    assert sys.modules["json"] is json
    assert module.name not in sys.modules
