"""The catalogue: its lines, planted in whole backwards, do what the catalogue says of them."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest

import tensorgrad.bptt
from tensorgrad.bptt.codes import CATALOGUE, explain
from tensorgrad.errors import UserError
from tensorgrad.models.manual import gru, lstm, rnn
from tensorgrad.models.manual.common import sigmoid

ROOT = Path(__file__).parent.parent.parent
T, B, D, H, V = 5, 4, 3, 3, 4

# Whole backwards, made of the right lines of the catalogue.
RNN = """
for t in reversed(range(T)):
    y = hs[t] @ W_hy.T + b_y
    a = np.arctanh(hs[t])
    e = np.exp(y)
    p = e / e.sum(axis=-1, keepdims=True)
    dy = p.copy()
    dy[np.arange(B), targets[t]] -= 1
    dh = dy @ W_hy + dh_next
    da = (1 - hs[t] ** 2) * dh
    dW_hh += da.T @ hs[t - 1]
    db_h += da.sum(axis=0)
    dh_next = da @ W_hh
    keep(dy=dy, dh=dh, da=da)
"""
LSTM = """
for t in reversed(range(T)):
    i, f, g, o = gates[t].swapaxes(0, 1)
    dy = ps[t].copy()
    dy[np.arange(B), targets[t]] -= 1
    dh = dy @ W_hy + dh_next
    dc = o * (1 - np.tanh(cs[t]) ** 2) * dh + dc_next
    di = g * dc
    dg = i * dc
    df = cs[t - 1] * dc
    do = np.tanh(cs[t]) * dh
    da_i = i * (1 - i) * di
    da_f = f * (1 - f) * df
    da_g = (1 - g ** 2) * dg
    da_o = o * (1 - o) * do
    da = np.concatenate([da_i, da_f, da_g, da_o], axis=1)
    dW_hh += da.T @ hs[t - 1]
    db_h += da.sum(axis=0)
    dh_next = da @ W_hh
    dc_next = f * dc
    keep(dy=dy, dh=dh, dc=dc, da=da)
"""
GRU = """
W_hr, W_hz, W_hn = np.split(W_hh, 3)
for t in reversed(range(T)):
    r, z, n = gates[t].swapaxes(0, 1)
    v = vs[t]
    dy = ps[t].copy()
    dy[np.arange(B), targets[t]] -= 1
    dh = dy @ W_hy + dh_next
    dz = (hs[t - 1] - n) * dh
    da_n = (1 - n ** 2) * (1 - z) * dh
    dv = r * da_n
    dr = v * da_n
    dh_n = dv @ W_hn
    da_r = r * (1 - r) * dr
    da_z = z * (1 - z) * dz
    da = np.concatenate([da_r, da_z, da_n], axis=1)
    dW_hh += np.concatenate([da_r, da_z, dv], axis=1).T @ hs[t - 1]
    db_h += da.sum(axis=0)
    dh_next = da_r @ W_hr + da_z @ W_hz + dh_n + z * dh
    keep(dy=dy, dh=dh, da=da)
"""
BACKWARDS = {"rnn": (rnn, RNN), "lstm": (lstm, LSTM), "gru": (gru, GRU)}

# For each code whose lines stand in one of them: where it is planted, the first record to differ in the order
# of a backward, how many timesteps before the last, and which of the sums over time differ.
BOTH = {"dW_hh", "db_h"}
PLANTED = {
    "BPTT001": ("rnn", ("dh", 1), BOTH),
    "BPTT002": ("rnn", ("dh", 1), BOTH),
    "BPTT003": ("rnn", ("dh", 1), BOTH),
    "BPTT004": ("rnn", ("dh", 1), BOTH),
    "BPTT005": ("rnn", ("dh", 1), BOTH),
    "BPTT006": ("rnn", None, {"dW_hh"}),
    "BPTT009": ("rnn", None, {"dW_hh"}),
    "BPTT010": ("rnn", None, {"dW_hh"}),
    "BPTT011": ("rnn", ("da", 0), BOTH),
    "BPTT012": ("rnn", ("da", 0), BOTH),
    "BPTT013": ("rnn", ("da", 0), BOTH),
    "BPTT014": ("rnn", ("da", 0), BOTH),
    "BPTT015": ("rnn", ("da", 0), BOTH),
    "BPTT016": ("rnn", ("dy", 0), BOTH),
    "BPTT017": ("rnn", ("dy", 0), BOTH),
    "BPTT018": ("rnn", ("dy", 0), BOTH),
    "BPTT020": ("rnn", None, {"db_h"}),
    "BPTT023": ("rnn", ("dh", 1), BOTH),
    "BPTT025": ("rnn", ("dy", T - 1), BOTH),
    "BPTT026": ("rnn", ("dy", 3), BOTH),
    "BPTT027": ("rnn", ("dh", 0), BOTH),
    "BPTT028": ("lstm", ("dc", 1), BOTH),
    "BPTT029": ("lstm", ("dc", 1), BOTH),
    "BPTT031": ("lstm", ("da", 0), BOTH),
    "BPTT032": ("lstm", ("da", 0), BOTH),
    "BPTT033": ("lstm", ("da", 0), BOTH),
    "BPTT034": ("gru", ("dh", 1), BOTH),
    "BPTT035": ("gru", ("da", 0), BOTH),
    "BPTT036": ("gru", ("da", 0), BOTH),
    "BPTT037": ("gru", ("dh", 1), BOTH),
    "BPTT039": ("rnn", ("dh", 1), BOTH),
    "BPTT040": ("lstm", ("da", 0), BOTH),
    "BPTT041": ("lstm", ("da", 0), BOTH),
    "BPTT042": ("lstm", ("da", 0), BOTH),
}


def forward(cell):
    """The cache of a hand-written forward, and its right gradients."""
    module, _ = BACKWARDS[cell]
    rng = np.random.default_rng(3)
    rows = {"rnn": 1, "lstm": 4, "gru": 3}[cell] * H
    shapes = {"W_xh": (rows, D), "W_hh": (rows, H), "W_hy": (V, H), "b_y": (V,)}
    shapes |= dict.fromkeys(("b_xh", "b_hh") if cell == "gru" else ("b_h",), (rows,))
    params = {name: rng.standard_normal(shape) for name, shape in shapes.items()}
    xs, targets = rng.standard_normal((T, B, D)), rng.integers(V, size=(T, B))
    states = rng.standard_normal((2 if cell == "lstm" else 1, B, H))
    _, cache = module.forward(params, xs, targets, *states, reduction="sum")
    return params, cache, module.backward(params, cache)


def run(source, params, cache):
    """What a backward of one of the texts keeps, (T, ...) each, and its sums over time."""
    kept = {}

    def keep(**arrays):
        for name, array in arrays.items():
            kept.setdefault(name, np.zeros((T, *array.shape)))[space["t"]] = array

    space = {"np": np, "T": T, "B": B, "k": 3, "limit": 1e-3, "keep": keep, **params, **vars(cache)}
    space |= {"dh_next": np.zeros((B, H)), "dc_next": np.zeros((B, H))}
    space |= {"dW_hh": np.zeros_like(params["W_hh"]), "db_h": np.zeros(len(params["W_xh"]))}
    exec(source, space)
    return kept, {name: space[name] for name in ("dW_hh", "db_h")}


def same(a, b):
    return np.allclose(a, b, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("cell", BACKWARDS)
def test_the_right_lines_make_a_right_backward(cell):
    params, cache, right = forward(cell)
    kept, sums = run(BACKWARDS[cell][1], params, cache)
    for name, record in kept.items():
        assert same(record, getattr(right, name)), name
    assert same(sums["dW_hh"], right.params["W_hh"])
    assert same(sums["db_h"], right.params["b_xh" if cell == "gru" else "b_h"])


@pytest.mark.parametrize("code", PLANTED)
def test_a_wrong_line_does_what_its_symptom_says(code):
    cell, first, summed = PLANTED[code]
    params, cache, _ = forward(cell)
    source = BACKWARDS[cell][1]
    right, right_sums = run(source, params, cache)
    lines = CATALOGUE[code].right
    # A line of the loop over time has no indentation, a line within it has one.
    prefix = "" if lines.startswith("for ") else "    "
    old, new = (textwrap.indent(text, prefix) + "\n" for text in (lines, CATALOGUE[code].wrong))
    assert source.count(old) == 1
    wrong, wrong_sums = run(source.replace(old, new), params, cache)
    differ = [
        (name, back)
        for back in range(T)
        for name in wrong
        if not same(wrong[name][T - 1 - back], right[name][T - 1 - back])
    ]
    assert (differ[0] if differ else None) == first
    assert {name for name in right_sums if not same(wrong_sums[name], right_sums[name])} == summed


def test_a_changed_cache_shows_in_the_second_run():
    params, cache, _ = forward("rnn")
    source = "for t in reversed(range(T)):\n" + textwrap.indent("p = cache.ps[t]\n{}\nkeep(dy=dy)", "    ")
    for lines, unchanged in ((CATALOGUE["BPTT038"].right, True), (CATALOGUE["BPTT038"].wrong, False)):
        text = source.format(lines.replace("\n", "\n    "))
        space = {**params, "cache": cache}
        first, second = (run(text, space, cache)[0]["dy"] for _ in range(2))
        assert same(first, second) == unchanged


@pytest.mark.parametrize("lost", [True, False])
def test_repeated_indices(lost):
    dE, ids, g = np.zeros((3, 2)), np.array([1, 2, 1]), np.ones((3, 2))
    exec(
        CATALOGUE["BPTT024"].wrong if lost else CATALOGUE["BPTT024"].right,
        {"np": np, "dE": dE, "ids": ids, "g": g},
    )
    assert dE[:, 0].tolist() == [0, 1 if lost else 2, 1]


@pytest.mark.parametrize("cell", ["LSTM", "GRU"])
def test_the_forwards_are_those_of_the_hand_written_models(cell):
    from tensorgrad.bptt.codes import code

    module = cell.lower()
    params, cache, _ = forward(module)
    hs, t = cache.hs.copy(), 2
    space = {"np": np, "sigmoid": sigmoid, "hs": hs, "t": t}
    if cell == "LSTM":
        a = cache.xs[t] @ params["W_xh"].T + hs[t - 1] @ params["W_hh"].T + params["b_h"]
        space |= dict(zip(("a_i", "a_f", "a_g", "a_o"), np.split(a, 4, axis=1), strict=True))
        space["cs"] = cache.cs.copy()
    else:
        x = cache.xs[t] @ params["W_xh"].T + params["b_xh"]
        h = hs[t - 1] @ params["W_hh"].T + params["b_hh"]
        space["a_r"], space["a_z"], _ = np.split(x + h, 3, axis=1)
        space |= {"x_n": x[:, -H:], "W_hn": params["W_hh"][-H:], "b_hn": params["b_hh"][-H:]}
    hs[t] = np.nan
    exec(getattr(code, cell), space)
    assert same(hs[t], cache.hs[t])


def test_every_entry_is_whole():
    assert list(CATALOGUE) == [f"BPTT{number:03}" for number in range(1, len(CATALOGUE) + 1)]
    assert len({code.title for code in CATALOGUE.values()}) == len(CATALOGUE)
    for key, code in CATALOGUE.items():
        assert key == code.code
        assert code.title[-1] not in ".!?"
        for text in (code.symptom, code.why_it_may_train):
            assert text.endswith(".")
        assert code.wrong != code.right
        for lines in (code.wrong, code.right, code.forward):
            ast.parse(lines + " pass" if lines.endswith(":") else lines)


def test_every_code_that_the_doctor_names_is_in_the_catalogue():
    folder = Path(tensorgrad.bptt.__file__).parent
    others = [path.read_text("utf-8") for path in folder.rglob("*.py") if path.parent.name != "codes"]
    assert {code for text in others for code in re.findall(r"BPTT\d+", text)} <= set(CATALOGUE)


def test_explain_tells_all_of_a_code():
    for name, code in CATALOGUE.items():
        text = explain(name)
        assert text.startswith(f"{name}: {code.title}\n")
        for part in (code.symptom, code.why_it_may_train, *code.wrong.splitlines(), *code.right.splitlines()):
            assert part in text


@pytest.mark.parametrize(
    ("name", "hint"), [("bptt007", "did you mean BPTT007?"), ("x", "from BPTT001 to BPTT042")]
)
def test_explain_knows_no_other_code(name, hint):
    with pytest.raises(UserError, match=re.escape(hint)):
        explain(name)


def make(*args, cwd=ROOT):
    script = Path(cwd, "docs", "make_doctor.py")
    return subprocess.run([sys.executable, script, *args], capture_output=True, text=True)


def test_the_pages_are_current():
    done = make("--check")
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_page_that_is_not_current_is_found(tmp_path):
    doctor = tmp_path / "docs" / "doctor"
    doctor.mkdir(parents=True)
    for path in ("make_doctor.py", "doctor/README.md"):
        text = (ROOT / "docs" / path).read_text("utf-8")
        (tmp_path / "docs" / path).write_text(text, encoding="utf-8")
    assert make(cwd=tmp_path).returncode == 0
    assert make("--check", cwd=tmp_path).returncode == 0
    (doctor / "BPTT004.md").write_text("# another\n", encoding="utf-8")
    (doctor / "BPTT999.md").write_text("# of no code\n", encoding="utf-8")
    done = make("--check", cwd=tmp_path)
    assert done.returncode == 1
    assert re.findall(r"BPTT\d+", done.stdout) == ["BPTT004", "BPTT999"]
