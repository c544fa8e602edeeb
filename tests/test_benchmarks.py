"""The benchmarks run, compare what they time, and hold figures against the right limits. No timings here."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.__main__ import main, parse
from benchmarks.floor import prepare as prepare_floor
from benchmarks.harness import BenchmarkError, Timing, pinned
from benchmarks.parts.compile import Contestant, ratio
from benchmarks.parts.compile_cost import memory_targets
from benchmarks.parts.compile_targets import step_targets
from benchmarks.parts.step import check_agreement
from benchmarks.peers import PEERS
from benchmarks.problem import GATES, Shape, make_problem

SMALL, LARGE, LONG = Shape(H=6, T=4, B=3, V=5), Shape(H=512, T=64, B=64), Shape(H=100, T=1_000, B=1)


def computed(peer: str, cell: str) -> dict[str, Any]:
    step = importlib.import_module(f"benchmarks.peers.{peer}").prepare(make_problem(SMALL, cell))
    loss, gradients = step.read(step.run())
    return {"loss": np.float64(loss), **gradients}


@pytest.mark.parametrize("cell", GATES)
def test_peers_on_numpy_compute_the_same(cell: str) -> None:
    names = ("handwritten", "tensorgrad_eager", "tensorgrad_compiled")
    found = {name: computed(name, cell) for name in names if cell in PEERS[name].cells}
    assert len(found) >= 2
    for gradients in found.values():
        assert gradients.keys() - {"loss"} == make_problem(SMALL, cell).weights.keys()
    check_agreement(found, cell)


@pytest.mark.parametrize("wrong", ["loss", "W_hh", "gain_c"])
def test_a_peer_that_computes_something_else_is_named(wrong: str) -> None:
    right = computed("tensorgrad_eager", "layernorm_lstm")
    planted = {**right, wrong: right[wrong] * np.float32(1.001)}
    with pytest.raises(BenchmarkError, match=rf"{wrong} of planted at here is off by"):
        check_agreement({"right": right, "planted": planted}, "here")
    with pytest.raises(BenchmarkError, match="planted computes"):
        check_agreement({"right": right, "planted": {"loss": right["loss"]}}, "here")


@pytest.mark.parametrize("cell", GATES)
def test_the_floor_takes_every_product_of_a_step(cell: str, monkeypatch: pytest.MonkeyPatch) -> None:
    step = prepare_floor(make_problem(SMALL, cell))
    operations = []
    matmul = np.matmul

    def counted(a: np.ndarray, b: np.ndarray, out: np.ndarray) -> np.ndarray:
        operations.append(2 * a.shape[0] * a.shape[1] * b.shape[1])
        return matmul(a, b, out=out)

    monkeypatch.setattr(np, "matmul", counted)
    step.run()
    T, B, V, H = SMALL.T, SMALL.B, SMALL.V, SMALL.H
    rows = GATES[cell] * H
    # Inputs twice (no gradient flows to them), states and outputs three times each.
    assert sum(operations) == 2 * T * B * (2 * V * rows + 3 * H * rows + 3 * H * V)
    assert len(operations) == 6 + 2 * T


def timing(seconds: float) -> Timing:
    return Timing([seconds, seconds], 1.0)


def test_targets_are_those_of_the_network_and_the_shape() -> None:
    timings = {name: timing(1.0) for name in [*PEERS, "floor"]}
    limits = {
        (cell, shape.H, shape.T): sorted(target.limit for target in step_targets(cell, shape, timings))
        for cell in GATES
        for shape in (LARGE, LONG)
    }
    assert limits == {
        ("rnn", 512, 64): [1.0, 1.0, 1.0, 1.25, 1.6, 1.6],
        ("rnn", 100, 1_000): [0.2, 1.0, 1.0, 1.0],
        ("lstm", 512, 64): [1.0, 1.0, 1.25, 1.6, 1.6],
        ("lstm", 100, 1_000): [0.2, 1.0, 1.0],
        ("gru", 512, 64): [1.0, 1.0, 1.25, 1.6, 1.6],
        ("gru", 100, 1_000): [0.2, 1.0, 1.0],
        ("layernorm_lstm", 512, 64): [1 / 3, 1 / 3, 1.0, 1.0, 1.6, 1.6],
        ("layernorm_lstm", 100, 1_000): [1 / 3, 1 / 3, 1.0, 1.0],
    }


def test_a_target_is_met_up_to_its_limit() -> None:
    timings = {"tensorgrad_compiled": timing(1.0), "handwritten": timing(5.0), "torch_rnn": timing(0.9)}
    by_hand, torch = step_targets("rnn", LONG, timings)
    assert (by_hand.reached, by_hand.met) == (0.2, True)
    assert not torch.met
    # What was not measured is no target.
    assert step_targets("rnn", LONG, {"torch_rnn": timing(1.0)}) == []


def test_memory_is_held_against_pytorch() -> None:
    found = {"tensorgrad_compiled": 11.0, "tensorgrad_fast": 9.0, "torch_rnn": 10.0, "tensorgrad_eager": 30.0}
    assert [(t.limit, t.met) for t in memory_targets("lstm", LARGE, found)] == [(10.0, False), (10.0, True)]
    assert memory_targets("lstm", LARGE, {"tensorgrad_compiled": 11.0}) == []


def test_floors_are_compared_under_the_same_kernels() -> None:
    old, new = Contestant("tensorgrad_compiled", "Haswell"), Contestant("tensorgrad_compiled", "SkylakeX")
    timings = {
        old: timing(6.0),
        new: timing(3.0),
        Contestant("jax_scan"): timing(12.0),
        Contestant("floor", "Haswell"): timing(4.0),
        Contestant("floor", "SkylakeX"): timing(2.0),
    }
    assert ratio(old, timings[old], ("floor",), timings) == "1.50"
    assert ratio(new, timings[new], ("jax_scan",), timings) == "0.25"
    assert ratio(new, timings[new], ("torch_rnn",), timings) == "-"
    assert ratio(Contestant("jax_scan"), timing(12.0), ("floor",), timings) == "-"


def test_settings_reach_a_worker_and_empty_ones_are_taken_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENBLAS_CORETYPE", "Haswell")
    assert pinned(1)["OPENBLAS_CORETYPE"] == "Haswell"
    assert pinned(1, {"OPENBLAS_CORETYPE": "SKYLAKEX"})["OPENBLAS_CORETYPE"] == "SKYLAKEX"
    assert "OPENBLAS_CORETYPE" not in pinned(1, {"OPENBLAS_CORETYPE": ""})
    assert pinned(2)["OPENBLAS_NUM_THREADS"] == "2"


def test_the_part_runs_and_is_written_down(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Another choice of kernels would double the work.
    monkeypatch.delenv("OPENBLAS_CORETYPE", raising=False)
    file = tmp_path / "results.json"
    peers = "tensorgrad_eager,tensorgrad_compiled"
    options = ["--quick", "--rounds=1", "--cells=layernorm_lstm", f"--peers={peers}", f"--json={file}"]
    assert main(["compile", *options]) == 0
    out = capsys.readouterr().out
    for expected in (
        "its matrix products alone",
        "Compiling, in a fresh process",
        "Memory that steps take at most",
    ):
        assert expected in out
    found = json.loads(file.read_text())["compile"]
    (step,) = found["steps"].values()
    assert all(timing["seconds"] > 0 for timing in step.values())
    assert len(step) >= 3
    assert found["compile_seconds"]
    assert found["peak_mib"]


def test_unknown_words_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["--cells", "rnn,elman"], ["--peers", "me"], ["compiles"]):
        with pytest.raises(SystemExit):
            parse(words)
    assert "no such cell: elman; there are rnn" in capsys.readouterr().err


def test_every_peer_says_what_it_can_do() -> None:
    for peer in PEERS.values():
        assert set(peer.cells) <= GATES.keys()
    assert [name for name, peer in PEERS.items() if "rnn" not in peer.cells] == ["torch_naive"]
