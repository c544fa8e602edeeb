"""`tensorgrad check`: agreement where there is some, and every planted error caught."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import tensorgrad as tg
from tensorgrad.bptt import reference
from tensorgrad.cli import check, main
from tensorgrad.cli.check import compare
from tensorgrad.models.manual import common, gru, lstm
from tensorgrad.models.manual import rnn as manual

from ..models.manual_problem import planted as replaced

NAMES = ["loss", "W_xh", "W_hh", "W_hy", "b_h", "b_y", "h0", "dy", "dh", "da"]
NAMES_OF = {
    "rnn": NAMES,
    "lstm": ["loss", "W_xh", "W_hh", "W_hy", "b_h", "b_y", "h0", "c0", "dy", "dh", "dc", "da"],
    "gru": ["loss", "W_xh", "W_hh", "W_hy", "b_xh", "b_hh", "b_y", "h0", "dy", "dh", "da", "dv"],
}
MODULES = {"rnn": manual, "lstm": lstm, "gru": gru}
CELLS = pytest.mark.parametrize("cell", NAMES_OF)
SMALL = {"T": 5, "B": 2, "H": 4, "V": 6}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("T", "B", "H", "V"), [(1, 1, 1, 2), (8, 3, 16, 12), (30, 1, 5, 3), (2, 7, 9, 5)])
def test_right_gradients_agree(T: int, B: int, H: int, V: int, dtype: str) -> None:
    for seed in range(2):
        rows = compare(T, B, H, V, seed, dtype)
        assert [row.name for row in rows] == NAMES
        assert [row for row in rows if not row.ok] == []
        assert [row.differences is None for row in rows] == [True] + [False] * 6 + [True] * 3
        assert all(row.norm > 0 for row in rows)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("cell", ["lstm", "gru"])
@pytest.mark.parametrize(("T", "B", "H", "V"), [(1, 1, 1, 2), (12, 1, 5, 3), (2, 7, 4, 5)])
def test_right_gradients_of_gated_cells_agree(cell: str, T: int, B: int, H: int, V: int, dtype: str) -> None:
    rows = compare(T, B, H, V, 1, dtype, cell)
    assert [row.name for row in rows] == NAMES_OF[cell]
    assert [row for row in rows if not row.ok] == []
    assert all(row.norm > 0 for row in rows)
    # Differences are taken for the parameters and the initial states only.
    without = [row.name for row in rows if row.differences is None]
    assert without == ["loss", *(name for name in NAMES_OF[cell] if name in ("dy", "dh", "dc", "da", "dv"))]


@CELLS
def test_shapes_are_those_of_the_hand_written_parameters(cell: str) -> None:
    gates = {"rnn": 1, "lstm": 4, "gru": 3}[cell]
    shapes = {row.name: row.shape for row in compare(T=2, B=3, H=4, V=6, cell=cell)}
    assert (shapes["W_xh"], shapes["W_hh"]) == ((gates * 4, 6), (gates * 4, 4))
    assert {shapes[name] for name in shapes if name in ("b_h", "b_xh", "b_hh")} == {(gates * 4,)}
    assert {shapes[name] for name in shapes if name in ("h0", "c0")} == {(3, 4)}
    assert shapes["da"] == (2, 3, gates * 4)
    assert {shapes[name] for name in shapes if name in ("dh", "dc", "dv")} == {(2, 3, 4)}


def test_a_gradient_that_has_vanished_is_not_called_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    """It lies far below what differences can resolve."""
    problem = check._problem

    def vanishing(*args: Any) -> Any:
        params, xs, ys = problem(*args)
        return {**params, "W_hh": 1e-9 * params["W_hh"]}, xs, ys

    monkeypatch.setattr(check, "_problem", vanishing)
    rows = {row.name: row for row in compare(**SMALL)}
    assert rows["h0"].norm < 1e-8
    assert all(row.ok for row in rows.values())


def test_of_a_large_tensor_some_elements_are_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check, "_SAMPLED", 3)
    calls = []
    loss = check._loss
    monkeypatch.setattr(check, "_loss", lambda *args: calls.append(1) or loss(*args))  # type: ignore[func-returns-value]
    assert all(row.ok for row in compare(**SMALL))
    assert len(calls) == 6 * (2 * 3 + 1)


def test_the_table_has_a_line_for_each_tensor(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "-T", "3", "-B", "2", "-H", "4", "-V", "5"]) == 0
    out = capsys.readouterr().out
    for name in NAMES:
        assert re.search(rf"^ *{name} .* agree *$", out, re.MULTILINE), name
    assert out.startswith("A vanilla RNN, T=3 B=2 H=4 V=5, float64: ")
    assert out.rstrip().endswith("The loss and all 9 gradients agree.")
    assert "(3, 2, 5)" in out
    # Of the loss and the records no differences are taken, and no cell is left blank.
    assert len(re.findall(r" – ", out)) == 4
    assert "each timestep" not in out
    assert "\x1b" not in out


@pytest.mark.parametrize("options", [["-T", "1000000"], ["-T", f"{10**23}"], ["-H", "100000"]])
def test_sizes_that_would_take_hours(options: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", *options]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert re.fullmatch(r"tensorgrad: these sizes make about [\d,]+ numbers, too many: choose .*\n", err)


def test_what_is_compared_is_said_before_it_is(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def compared(*args: Any) -> Any:
        assert capsys.readouterr().out.startswith("A GRU, T=8 B=3 H=16 V=12, float64: ")
        return compare(2, 1, 2, 2)

    monkeypatch.setattr(check, "compare", compared)
    assert main(["check", "--cell", "gru"]) == 0


@pytest.mark.parametrize("columns", [20, 50, 60])
def test_on_a_narrow_terminal_each_tensor_has_a_plain_line(
    columns: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    assert main(["check", "-T", "3", "-B", "2", "-H", "4", "-V", "5"]) == 0
    _, *lines, last = capsys.readouterr().out.splitlines()
    figures = r"norm \S+, error against manual \S+, error against differences (\S+), verdict agree"
    for name, line in zip(NAMES, lines, strict=True):
        assert re.fullmatch(rf"tensor {name}, shape \(.*\), {figures}", line)
    assert last == "The loss and all 9 gradients agree."


def test_each_timestep_can_be_looked_at(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "-T", "5", "-B", "2", "-H", "4", "-V", "6", "--per-step"]) == 0
    said = capsys.readouterr().out.split("The gradients at each timestep")[1]
    shown = [line.split() for line in said.splitlines() if re.match(r" *\d", line)]
    assert [cells[0] for cells in shown] == ["0", "1", "2", "3", "4"]
    for k, row in enumerate(compare(**SMALL)[-3:], 1):
        norms = [float(cells[k]) for cells in shown]
        assert norms == pytest.approx([norm for norm, _ in row.steps], rel=1e-5)
        # All timesteps together are the row of the other table.
        assert np.linalg.norm(norms) == pytest.approx(row.norm, rel=1e-5)
    assert all(float(cells[4]) < 1e-9 for cells in shown)


@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_each_timestep_of_a_gated_cell_can_be_looked_at(
    cell: str, capsys: pytest.CaptureFixture[str]
) -> None:
    sizes = ["-T", "3", "-B", "2", "-H", "4", "-V", "6"]
    assert main(["check", "--cell", cell, *sizes, "--per-step"]) == 0
    out = capsys.readouterr().out
    title = {"lstm": "An LSTM", "gru": "A GRU"}[cell]
    assert out.startswith(f"{title}, T=3 B=2 H=4 V=6, float64: its loss and its automatic gradients\n")
    said, steps = out.split("The gradients at each timestep")
    for name in NAMES_OF[cell]:
        assert re.search(rf"^ *{name} .* agree *$", said, re.MULTILINE), name
    records = NAMES_OF[cell][-4:]
    assert re.search(r"^ *t +" + " +".join(records) + " +against manual *$", steps, re.MULTILINE)
    shown = [line.split() for line in steps.splitlines() if re.match(r" *\d", line)]
    assert [cells[0] for cells in shown] == ["0", "1", "2"]
    for k, row in enumerate(compare(T=3, B=2, H=4, V=6, cell=cell)[-4:], 1):
        assert [float(cells[k]) for cells in shown] == pytest.approx(
            [norm for norm, _ in row.steps], rel=1e-5
        )
    assert all(float(cells[5]) < 1e-9 for cells in shown)
    assert out.rstrip().endswith("The loss and all 11 gradients agree.")


def test_at_each_timestep_the_largest_error_is_shown(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(manual, "backward", carry_dropped_at(2))
    assert main(["check", "-T", "5", "-B", "2", "-H", "4", "-V", "6", "--per-step"]) == 1
    said = capsys.readouterr().out.split("The gradients at each timestep")[1]
    errors = [float(line.split()[4]) for line in said.splitlines() if re.match(r" *\d", line)]
    assert [round(error, 6) for error in errors] == [0.5, 0.5, 0.5, 0, 0]


def planted(
    change: Callable[[Any, Any], common.Gradients], module: Any = manual
) -> Callable[..., common.Gradients]:
    backward = module.backward

    def wrong(params: Any, cache: Any, *args: Any) -> common.Gradients:
        return change(backward(params, cache, *args), cache)

    return wrong


def change_param(
    name: str, change: Callable[[np.ndarray], Any], module: Any = manual
) -> Callable[..., common.Gradients]:
    def changed(grads: common.Gradients, cache: Any) -> common.Gradients:
        return dataclasses.replace(grads, params={**grads.params, name: change(grads.params[name])})

    return planted(changed, module)


def carry_dropped_at(t: int) -> Callable[..., common.Gradients]:
    """dh is right from the end back to t + 1, and wrong from t back, as when dh_next is forgotten once."""

    def changed(grads: common.Gradients, cache: Any) -> common.Gradients:
        factor = np.ones((len(grads.dh), 1, 1))
        factor[: t + 1] = 0.5
        return dataclasses.replace(grads, dh=grads.dh * factor, da=grads.da * factor)

    return planted(changed)


@pytest.mark.parametrize(
    ("wrong", "differ"),
    [
        (change_param("W_hh", np.transpose), {"W_hh": "manual differs"}),
        (change_param("W_xh", lambda g: g * 1.001), {"W_xh": "manual differs"}),
        (change_param("b_y", np.negative), {"b_y": "manual differs"}),
        (change_param("b_h", lambda g: g[:-1]), {"b_h": "manual differs"}),
        (change_param("W_hy", lambda g: g * np.nan), {"W_hy": "manual differs"}),
        (planted(lambda g, c: dataclasses.replace(g, dh0=np.zeros_like(g.dh0))), {"h0": "manual differs"}),
        (carry_dropped_at(2), {"dh": "manual differs, t <= 2", "da": "manual differs, t <= 2"}),
        (planted(lambda g, c: dataclasses.replace(g, dy=g.dy * 2)), {"dy": "manual differs, t <= 4"}),
    ],
)
def test_an_error_planted_in_the_manual_backward_is_caught(
    wrong: Any, differ: dict[str, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(manual, "backward", wrong)
    rows = compare(**SMALL)
    assert {row.name: row.verdict for row in rows if not row.ok} == differ
    assert main(["check", "-T", "5", "-B", "2", "-H", "4", "-V", "6"]) == 1
    out = capsys.readouterr().out
    names = ", ".join(sorted(differ, key=NAMES.index))
    assert f"Of the loss and 9 gradients, {len(differ)} differ: {names}" in out


DIFFERS = "manual differs"
# What a wrong derivative at a pre-activation spoils: da from the last timestep back, whatever is carried to
# earlier ones from the last but one back, and all that is summed from these.
BEHIND = {name: DIFFERS for name in ("W_xh", "W_hh", "h0")}
AT, CARRIED = f"{DIFFERS}, t <= 4", f"{DIFFERS}, t <= 3"


@pytest.mark.parametrize(
    ("cell", "wrong", "differ"),
    [
        ("lstm", planted(lambda g, c: dataclasses.replace(g, dc=np.zeros_like(g.dc)), lstm), {"dc": AT}),
        ("lstm", planted(lambda g, c: dataclasses.replace(g, dc0=g.dh0), lstm), {"c0": DIFFERS}),
        # The blocks of two gates are exchanged.
        ("lstm", change_param("W_hh", lambda g: np.roll(g, len(g) // 4, axis=0), lstm), {"W_hh": DIFFERS}),
        (
            "lstm",
            replaced(lstm, "(1 - g**2) * dg", "(1 - g) * dg"),
            {**BEHIND, "b_h": DIFFERS, "c0": DIFFERS, "dh": CARRIED, "dc": CARRIED, "da": AT},
        ),
        (
            "lstm",
            replaced(lstm, "o * (1 - o) * do", "do"),
            {**BEHIND, "b_h": DIFFERS, "c0": DIFFERS, "dh": CARRIED, "dc": CARRIED, "da": AT},
        ),
        # The way from cell to cell: at the last timestep nothing has been carried, and dh sees it through da.
        (
            "lstm",
            replaced(lstm, "np.where(live, f * dc[t], dc[t])", "dc[t]"),
            {
                **BEHIND,
                "b_h": DIFFERS,
                "c0": DIFFERS,
                "dh": f"{DIFFERS}, t <= 2",
                "dc": CARRIED,
                "da": CARRIED,
            },
        ),
        (
            "gru",
            planted(lambda g, c: dataclasses.replace(g, dv=g.da[..., -g.dv.shape[-1] :]), gru),
            {"dv": AT},
        ),
        ("gru", change_param("b_hh", np.negative, gru), {"b_hh": DIFFERS}),
        (
            "gru",
            replaced(gru, "np.concatenate([da_rz, dv], axis=2)", "da"),
            {"b_hh": DIFFERS},
        ),
        (
            "gru",
            replaced(gru, "z * (1 - z) * dz", "dz"),
            {**BEHIND, "b_xh": DIFFERS, "b_hh": DIFFERS, "dh": CARRIED, "da": AT, "dv": CARRIED},
        ),
        (
            "gru",
            replaced(gru, "dv[t] = r * da_n", "dv[t] = da_n"),
            {**BEHIND, "b_xh": DIFFERS, "b_hh": DIFFERS, "dh": CARRIED, "da": CARRIED, "dv": AT},
        ),
    ],
)
def test_an_error_planted_in_the_backward_of_a_gated_cell_is_caught(
    cell: str,
    wrong: Any,
    differ: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(MODULES[cell], "backward", wrong)
    # The differences are looked at elsewhere.
    monkeypatch.setattr(check, "_SAMPLED", 2)
    rows = compare(**SMALL, cell=cell)
    assert {row.name: row.verdict for row in rows if not row.ok} == differ


@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_an_error_in_a_gated_cell_ends_with_status_1(
    cell: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    module = MODULES[cell]
    monkeypatch.setattr(module, "backward", change_param("b_y", np.negative, module))
    assert main(["check", "--cell", cell, "-T", "2", "-B", "1", "-H", "2", "-V", "3"]) == 1
    assert capsys.readouterr().out.endswith("Of the loss and 11 gradients, 1 differ: b_y\n")


@CELLS
def test_an_error_in_one_cell_is_no_other_cells(cell: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for other in MODULES.keys() - {cell}:
        monkeypatch.setattr(MODULES[other], "backward", None)
    assert all(row.ok for row in compare(T=2, B=1, H=2, V=3, cell=cell))


@CELLS
def test_an_error_planted_in_the_manual_forward_is_caught(cell: str, monkeypatch: pytest.MonkeyPatch) -> None:
    forward = MODULES[cell].forward

    def wrong(*args: Any, **kwargs: Any) -> Any:
        loss, cache = forward(*args, **kwargs)
        return loss * 1.0001, cache

    monkeypatch.setattr(MODULES[cell], "forward", wrong)
    assert [row.name for row in compare(**SMALL, cell=cell) if not row.ok] == ["loss"]


def test_an_error_planted_in_the_engine_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """A wrong rule of the engine's differs from both of the others, in everything behind it."""
    gentle = tg.custom_vjp(np.tanh, lambda g, ans, x: (g * (1 - ans),))
    monkeypatch.setattr(reference, "tanh", gentle)
    verdicts = {row.name: row.verdict for row in compare(**SMALL)}
    assert verdicts["W_hh"] == verdicts["W_xh"] == verdicts["b_h"] == verdicts["h0"] == "both differ"
    # Before the mistake all is well: dy, what is made of it, and dh at the last timestep.
    assert verdicts["loss"] == verdicts["dy"] == verdicts["W_hy"] == verdicts["b_y"] == "agree"
    assert verdicts["dh"] == "manual differs, t <= 3"
    assert verdicts["da"] == "manual differs, t <= 4"


@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_an_error_planted_in_the_engines_gates_is_caught(cell: str, monkeypatch: pytest.MonkeyPatch) -> None:
    right = tg.sigmoid
    slope = tg.custom_vjp(lambda a: 1 / (1 + np.exp(-a)), lambda g, ans, a: (g * ans,))
    np.testing.assert_allclose(slope(np.array([-1.0, 2.0])), right(np.array([-1.0, 2.0])))
    monkeypatch.setattr(reference, "sigmoid", slope)
    verdicts = {row.name: row.verdict for row in compare(**SMALL, cell=cell)}
    biases = {name for name in verdicts if name in ("b_h", "b_xh", "b_hh")}
    states = {name for name in verdicts if name in ("h0", "c0")}
    both = {name for name, verdict in verdicts.items() if verdict == "both differ"}
    assert both == {"W_xh", "W_hh", *biases, *states}
    assert verdicts["loss"] == verdicts["dy"] == verdicts["W_hy"] == verdicts["b_y"] == "agree"
    assert (verdicts["da"], verdicts["dh"]) == (AT, CARRIED)


def test_an_error_planted_in_the_differences_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    differences = check.central_differences
    monkeypatch.setattr(check, "central_differences", lambda *args: differences(*args) * (1 + 1e-5))
    verdicts = {row.name: row.verdict for row in compare(**SMALL)}
    assert [name for name, verdict in verdicts.items() if verdict == "differences differ"] == NAMES[1:7]


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["-T", "0"], "-T must be at least 1, not 0"),
        (["-B", "-2"], "-B must be at least 1, not -2"),
        (["-H", "0"], "-H must be at least 1, not 0"),
        (["-V", "1"], "-V must be at least 2, not 1"),
        (["--seed", "-1"], "the seed must be a whole number from 0 up, not -1"),
    ],
)
def test_bad_sizes(options: list[str], sentence: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", *options]) == 2
    assert capsys.readouterr() == ("", f"tensorgrad: {sentence}\n")


@pytest.mark.parametrize("cell", ["esn", "LSTM", "peephole", ""])
def test_a_cell_that_is_not_written_by_hand(cell: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Of those that nn has, most are not; and the sentence names what is."""
    assert main(["check", "--cell", cell]) == 2
    sentence = f"no gradients of a cell {cell!r} are written by hand, only those of rnn, lstm, gru"
    assert capsys.readouterr() == ("", f"tensorgrad: {sentence}\n")
