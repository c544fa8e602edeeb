"""`tensorgrad info`: planted CPUs and libraries, and this machine."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tensorgrad.cli import info as info_module
from tensorgrad.cli import main
from tensorgrad.compile.blas import cpu_features, cpu_level, find_mismatch

OLD_AVX2 = ["SSE", "SSE2", "SSE3", "SSSE3", "SSE41", "POPCNT", "SSE42", "AVX", "F16C", "FMA3", "AVX2"]
OLD_AVX512 = [*OLD_AVX2, "AVX512F", "AVX512CD", "AVX512_SKX", "AVX512_CLX"]
NEW_AVX2 = ["X86_V2", "X86_V3"]
NEW_AVX512 = ["X86_V2", "X86_V3", "X86_V4", "AVX512_ICL"]
# A Xeon Phi has AVX-512 without the extensions that the SkylakeX kernels use.
PHI = [*OLD_AVX2, "AVX512F", "AVX512CD", "AVX512_KNL"]
ARM = ["NEON", "NEON_FP16", "NEON_VFPV4", "ASIMD", "ASIMDHP"]


def openblas(kernel: str | None) -> dict[str, Any]:
    return {"user_api": "blas", "internal_api": "openblas", "architecture": kernel, "num_threads": 2}


@pytest.mark.parametrize(
    ("features", "kernel", "coretype"),
    [
        (OLD_AVX512, "Haswell", "SKYLAKEX"),
        (NEW_AVX512, "Haswell", "SKYLAKEX"),
        (NEW_AVX512, "Zen", "SKYLAKEX"),
        (NEW_AVX512, "Prescott", "SKYLAKEX"),
        (NEW_AVX512, "Sandybridge", "SKYLAKEX"),
        (OLD_AVX2, "Prescott", "HASWELL"),
        (NEW_AVX2, "Nehalem", "HASWELL"),
        (PHI, "Sandybridge", "HASWELL"),
    ],
)
def test_kernels_weaker_than_the_cpu_are_found(features: list[str], kernel: Any, coretype: str) -> None:
    found = find_mismatch(features, [openblas(kernel)], {})
    assert found is not None
    assert found.explain()[-1] == f"    export OPENBLAS_CORETYPE={coretype}"
    assert found.explain(windows=True)[-1] == f"    set OPENBLAS_CORETYPE={coretype}"
    assert f"({kernel})" in found.explain()[0]


@pytest.mark.parametrize(
    ("features", "pools"),
    [
        (OLD_AVX512, [openblas("SkylakeX")]),
        (NEW_AVX512, [openblas("Cooperlake")]),
        (NEW_AVX512, [openblas("SapphireRapids")]),
        (OLD_AVX2, [openblas("Haswell")]),
        (NEW_AVX2, [openblas("Zen")]),
        (PHI, [openblas("Haswell")]),
        (OLD_AVX2, [openblas("SkylakeX")]),
        # What cannot be known is not claimed.
        ([], [openblas("Haswell")]),
        (["SSE2", "SSE42"], [openblas("Prescott")]),
        (ARM, [openblas("armv8")]),
        (ARM, [openblas("neoversen1")]),
        (NEW_AVX512, []),
        (NEW_AVX512, [openblas("a kernel of next year")]),
        (NEW_AVX512, [openblas(None)]),
        (NEW_AVX512, [{"user_api": "blas", "internal_api": "openblas"}]),
        (NEW_AVX512, [{"user_api": "blas", "internal_api": "mkl", "num_threads": 2}]),
        (NEW_AVX512, [{"user_api": "blas", "internal_api": "blis", "architecture": "haswell"}]),
    ],
)
def test_nothing_is_claimed_of_the_rest(features: list[str], pools: Any) -> None:
    assert find_mismatch(features, pools, {}) is None


def test_a_second_library_is_looked_at_too() -> None:
    pools = [{"internal_api": "mkl"}, openblas("SkylakeX"), openblas("Haswell")]
    found = find_mismatch(NEW_AVX512, pools, {})
    assert found is not None
    assert found.kernel == "Haswell"


@pytest.mark.parametrize("value", ["HASWELL", "Haswell", "Zen", "no such kernels"])
def test_a_variable_that_holds_the_kernels_back_is_to_be_unset(value: str) -> None:
    found = find_mismatch(NEW_AVX512, [openblas("Haswell")], {"OPENBLAS_CORETYPE": value})
    assert found is not None
    assert f"The variable OPENBLAS_CORETYPE is set to {value}." in found.explain()
    assert found.explain()[-1] == "    unset OPENBLAS_CORETYPE"
    assert found.explain(windows=True)[-1] == "    set OPENBLAS_CORETYPE="


@pytest.mark.parametrize("value", ["SKYLAKEX", "SkylakeX", "COOPERLAKE"])
def test_a_mend_that_was_tried_is_not_given_again(value: str) -> None:
    found = find_mismatch(NEW_AVX512, [openblas("Haswell")], {"OPENBLAS_CORETYPE": value})
    assert found is not None
    assert found.explain()[-1].endswith("this OpenBLAS lacks such kernels: install NumPy from PyPI.")
    assert not any(line.startswith(" ") for line in found.explain())


def test_features_are_read_from_numpy_of_every_kind() -> None:
    assert cpu_features({}) == frozenset()
    assert cpu_features({"SIMD Extensions": {"not found": ["AVX512_SKX"]}}) == frozenset()
    assert cpu_features({"SIMD Extensions": {"baseline": ["A"], "found": ["B"], "not found": ["C"]}}) == {
        "A",
        "B",
    }
    assert cpu_level(ARM) is None
    assert cpu_level(OLD_AVX512) == cpu_level(NEW_AVX512) == "AVX-512"
    assert cpu_level(OLD_AVX2) == cpu_level(NEW_AVX2) == cpu_level(PHI) == "AVX2"


def test_info_shows_every_part(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info"]) == 0
    out = capsys.readouterr().out
    for name in ("tensorgrad", "python", "numpy", "safetensors", "graphviz", "matplotlib", "typer", "rich"):
        assert re.search(rf"^{name} +\S", out, re.MULTILINE), name
    assert re.search(rf"^numpy +{re.escape(np.__version__)}$", out, re.MULTILINE)
    assert re.search(r"^BLAS +\S", out, re.MULTILINE)


@pytest.fixture
def planted(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Run `info` as if on another machine."""

    def run(
        features: list[str],
        pools: Any,
        packages: Sequence[str] = (),
        dot: str | None = None,
        build: str = "scipy-openblas",
    ) -> str:
        config = {
            "SIMD Extensions": {"found": features},
            "Build Dependencies": {"blas": {"name": build, "version": "1.2.3"}},
        }
        monkeypatch.setattr(np, "show_config", lambda mode: config)
        monkeypatch.setattr(info_module, "_blas_pools", lambda: pools)
        monkeypatch.setattr(info_module, "_version", lambda name: "1.0" if name in packages else None)
        monkeypatch.setattr(shutil, "which", lambda name: dot)
        monkeypatch.delenv("OPENBLAS_CORETYPE", raising=False)
        assert main(["info"]) == 0
        return capsys.readouterr().out

    return run


def test_info_says_how_to_mend_the_kernel(planted: Callable[..., str]) -> None:
    out = planted(NEW_AVX512, [openblas("Haswell")])
    assert "BLAS           openblas, Haswell kernels, 2 threads\n" in out
    assert "OpenBLAS runs its AVX2 kernels (Haswell), but this CPU has AVX-512." in out
    assert "OPENBLAS_CORETYPE=SKYLAKEX" in out
    assert ("The commands demo and train do so by themselves" in out) == (os.name == "posix")


def test_info_asks_numpy_itself_where_threadpoolctl_is_missing(
    planted: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(info_module, "loaded_kernel", lambda: "Haswell")
    assert "(Haswell), but this CPU has AVX-512." in planted(NEW_AVX512, None)
    monkeypatch.setattr(info_module, "loaded_kernel", lambda: None)
    assert "OPENBLAS_CORETYPE" not in planted(NEW_AVX512, None)


@pytest.mark.parametrize(
    ("pools", "line"),
    [
        ([], "accelerate 1.2.3 as NumPy was built; its threads and kernels are not known"),
        (None, "accelerate 1.2.3 as NumPy was built; for threads and kernels: pip install threadpoolctl"),
        (
            [{"internal_api": "mkl", "version": "2024.1", "num_threads": 4, "threading_layer": "intel"}],
            "mkl 2024.1, 4 threads (intel)",
        ),
        ([{"internal_api": "mkl", "num_threads": 1}], "mkl, 1 thread"),
    ],
)
def test_info_on_machines_without_openblas(planted: Callable[..., str], pools: Any, line: str) -> None:
    out = planted(ARM, pools, build="accelerate")
    assert f"BLAS           {line}\n" in out
    assert "OPENBLAS_CORETYPE" not in out


def test_info_says_what_renders_drawings(planted: Callable[..., str], tmp_path: Path) -> None:
    advice = "To render drawings, install"
    out = planted([], [])
    assert advice in out
    assert re.search(r"^dot program +not found$", out, re.MULTILINE)
    assert re.search(r"^pygraphviz +not installed$", out, re.MULTILINE)
    assert advice not in planted([], [], packages=["pygraphviz"])
    out = planted([], [], dot=str(tmp_path / "dot"))
    assert advice not in out
    assert re.search(r"^dot program +.*does not run", out, re.MULTILINE)


@pytest.mark.skipif(os.name == "nt", reason="the planted program is a shell script")
def test_info_shows_the_version_of_dot(planted: Callable[..., str], tmp_path: Path) -> None:
    program = tmp_path / "dot"
    program.write_text("#!/bin/sh\necho 'dot - graphviz version 9.8.7' >&2\n")
    program.chmod(0o755)
    assert f"dot program    dot - graphviz version 9.8.7 ({program})\n" in planted([], [], dot=str(program))


@pytest.mark.parametrize("coretype", ["", "HASWELL", "PRESCOTT"])
def test_the_mend_mends_this_machine(coretype: str) -> None:
    """Hold the kernels back, follow the advice line by line, and see it gone."""
    program = "from tensorgrad.cli import main; raise SystemExit(main(['info']))"
    environ = {key: value for key, value in os.environ.items() if key != "OPENBLAS_CORETYPE"}
    if coretype:
        environ["OPENBLAS_CORETYPE"] = coretype
    for _ in range(3):
        done = subprocess.run(
            [sys.executable, "-c", program], env=environ, capture_output=True, text=True, check=True
        )
        advice = re.search(r"^ +(unset|export|set) OPENBLAS_CORETYPE=?(\w*)$", done.stdout, re.MULTILINE)
        if advice is None:
            break
        if advice[2]:
            environ["OPENBLAS_CORETYPE"] = advice[2]
        else:
            del environ["OPENBLAS_CORETYPE"]
    assert "Mend it" not in done.stdout
