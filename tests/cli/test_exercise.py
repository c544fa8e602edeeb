"""`tensorgrad exercise`: what is handed out has a bug, and only what mends it is graded as right."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tensorgrad.bptt.codes import CATALOGUE
from tensorgrad.cli import main
from tensorgrad.models.exercises import EXERCISES, Exercise

Capture = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def first(source: str, code: str) -> Exercise:
    return next(one for one in EXERCISES if (one.bug.source, one.bug.code) == (source, code))


def test_the_list_has_a_line_for_each_and_names_no_bug(capsys: Capture) -> None:
    assert main(["exercise"]) == 0
    head, *lines = capsys.readouterr().out.splitlines()
    assert head.split() == ["backward", "of", "level", "it", "learns", "wrong", "gradients"]
    assert [int(line.split()[0]) for line in lines] == [one.number for one in EXERCISES]
    assert re.fullmatch(r" +7  a vanilla RNN +easy +hardly +W_hh", lines[6])
    assert [line for line in lines if "none at first" in line] == [lines[first("rnn", "BPTT038").number - 1]]
    assert "BPTT" not in "".join(lines)
    assert max(map(len, lines)) < 80


def test_one_is_handed_out_under_its_name(capsys: Capture) -> None:
    assert main(["exercise", "7"]) == 0
    assert Path("rnn_07.py").read_text(encoding="utf-8") == EXERCISES[6].text()
    assert capsys.readouterr().out == (
        "rnn_07.py: a vanilla RNN, easy\nMend its backward, then: tensorgrad exercise 7 --grade rnn_07.py\n"
    )


def test_nothing_is_overwritten(capsys: Capture) -> None:
    assert main(["exercise", "7", "--out", "mine.py"]) == 0
    Path("mine.py").write_text("my work", encoding="utf-8")
    assert main(["exercise", "7", "--out", "mine.py"]) == 2
    assert capsys.readouterr().err == (
        "tensorgrad: mine.py exists, and nothing is overwritten: name another with --out\n"
    )
    assert Path("mine.py").read_text(encoding="utf-8") == "my work"


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["0"], f"no exercise 0, but 1 to {len(EXERCISES)}"),
        (["99"], "no exercise 99"),
        (["7", "--out", "no/such/folder.py"], "cannot write no/such/folder.py: No such file or directory"),
        (["--out", "x.py"], "say which exercise"),
        (["--grade", "x.py"], "say which exercise"),
        (["--doctor"], "say which exercise"),
        (["7", "--doctor"], "--doctor goes with --grade FILE"),
        (["7", "--grade", "x.py", "--out", "y.py"], "give one of them"),
        (["7", "--grade", "x.py"], "there is no file x.py"),
    ],
)
def test_what_cannot_be_done_gets_one_sentence(argv: list[str], words: str, capsys: Capture) -> None:
    assert main(["exercise", *argv]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert words in err
    assert err.count("\n") == 1
    assert list(Path().iterdir()) == []


def test_what_is_handed_out_is_not_right_yet(capsys: Capture) -> None:
    main(["exercise", "1"])
    capsys.readouterr()
    assert main(["exercise", "1", "--grade", "rnn_01.py"]) == 1
    out = capsys.readouterr().out
    assert out.startswith("rnn_01.py: not right yet. The first to differ, in the order of a backward, is dh")
    found = re.search(r" is dh at t=(\d), of (\d) timesteps\.$", out, re.MULTILINE)
    assert found is not None
    # Without the carry the last timestep is right, and the one before is not.
    assert int(found[1]) == int(found[2]) - 2
    assert out.splitlines()[1:] == ["Add --doctor to hear what the doctor makes of it."]


def test_the_doctor_is_heard_when_asked(capsys: Capture) -> None:
    main(["exercise", "1"])
    capsys.readouterr()
    assert main(["exercise", "1", "--grade", "rnn_01.py", "--doctor"]) == 1
    out = capsys.readouterr().out
    assert f"BPTT001: {CATALOGUE['BPTT001'].title}" in out
    assert "Add --doctor" not in out


def test_what_shows_the_second_time_only_is_told(capsys: Capture) -> None:
    one = first("rnn", "BPTT038")
    main(["exercise", str(one.number)])
    capsys.readouterr()
    assert main(["exercise", str(one.number), "--grade", f"{one.name}.py"]) == 1
    assert (
        "not right yet. The backward changes cache['ps'], and run a second time it" in capsys.readouterr().out
    )


@pytest.mark.parametrize(
    "one", {one.bug.source: one for one in EXERCISES}.values(), ids=lambda one: one.bug.source
)
def test_a_mended_file_is_right_and_learns_what_the_bug_was(one: Exercise, capsys: Capture) -> None:
    Path("mine.py").write_text(one.solution(), encoding="utf-8")
    assert main(["exercise", str(one.number), "--grade", "mine.py"]) == 0
    out = capsys.readouterr().out
    bug = CATALOGUE[one.bug.code]
    assert out.startswith(f"mine.py: right. The bug was {bug.code}, {bug.title}:\n-")
    assert "\n+" in out
    assert out.endswith(f"Why it may go unnoticed: {bug.why_it_may_train}\n")


def test_it_may_be_mended_in_another_way() -> None:
    one = first("rnn", "BPTT012")
    text = one.text().replace("(1 - hs[t]) * dh[t]", "dh[t] - hs[t] * hs[t] * dh[t]")
    Path("mine.py").write_text(text, encoding="utf-8")
    assert main(["exercise", str(one.number), "--grade", "mine.py"]) == 0


def test_a_forward_made_to_suit_the_backward_is_not_right(capsys: Capture) -> None:
    """The GRU whose backward is that of the other convention, with the other forward."""
    one = first("gru", "BPTT036")
    text = one.text()
    for old, new in (
        ("h_r, h_z, vs[t] = np.split(hs[t - 1] @ params", "h_r, h_z, _ = np.split(hs[t - 1] @ params"),
        ("x_n + r * vs[t])", 'x_n + (r * hs[t - 1]) @ np.split(params["W_hh"], 3)[2].T)'),
    ):
        assert text.count(old) == 1
        text = text.replace(old, new)
    # The biases of the candidate add up, as they must where no gate is between them.
    text = text.replace("x_n + (r", 'x_n + params["b_hh"][-len(hs[0][0]) :] + (r')
    Path("mine.py").write_text(text, encoding="utf-8")
    assert main(["exercise", str(one.number), "--grade", "mine.py"]) == 2
    assert "mine.py computes another loss than exercise" in capsys.readouterr().err


def test_leaving_out_the_argument_that_shows_the_bug_is_not_right(capsys: Capture) -> None:
    one = first("lstm", "BPTT030")
    argument = ", dh_last: np.ndarray | None = None, dc_last: np.ndarray | None = None"
    text = (
        one.text().replace(argument, "").replace("np.zeros_like(hs[-1]) if dh_last is None else dh_last", "0")
    )
    Path("mine.py").write_text(text, encoding="utf-8")
    assert main(["exercise", str(one.number), "--grade", "mine.py"]) == 2
    assert (
        "takes other arguments; the forward is right, so mend the backward alone" in capsys.readouterr().err
    )


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("def forward(:", "SyntaxError"),
        ("x = 1", "has no forward and no backward"),
        ("def forward(params, xs, targets, h0):\n    return 0.0, {}\nbackward = forward", "mine.py"),
    ],
)
def test_a_file_that_cannot_be_graded_gets_one_sentence(text: str, words: str, capsys: Capture) -> None:
    Path("mine.py").write_text(text, encoding="utf-8")
    assert main(["exercise", "1", "--grade", "mine.py"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("tensorgrad: ")
    assert words in err
    assert err.count("\n") == 1
