"""`tensorgrad info`: what this installation is made of, and whether its BLAS fits the CPU."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np

import tensorgrad
from tensorgrad.cli.blas import LABORIOUS
from tensorgrad.compile.blas import cpu_features, cpu_level, find_mismatch, loaded_kernel

_PACKAGES = (
    "numpy",
    "safetensors",
    "graphviz",
    "pygraphviz",
    "matplotlib",
    "numba",
    "typer",
    "rich",
    "threadpoolctl",
)


def info() -> None:
    """Show versions, the BLAS library and how drawings are rendered, and what to mend."""
    config: Mapping[str, Any] = np.show_config(mode="dicts")
    features = cpu_features(config)
    pools = _blas_pools()
    cpu = (platform.machine(), cpu_level(features), _threads(os.cpu_count() or 1))
    rows = [
        ("tensorgrad", tensorgrad.__version__),
        ("python", f"{platform.python_implementation()} {platform.python_version()}, {platform.platform()}"),
        *((name, _version(name) or "not installed") for name in _PACKAGES),
        ("dot program", _dot_version() or "not found"),
        ("CPU", ", ".join(word for word in cpu if word)),
        *(("BLAS", line) for line in _blas_lines(pools, config)),
    ]
    width = max(len(name) for name, _ in rows)
    for name, value in rows:
        print(f"{name:<{width}}  {value}")
    if pools is None:
        pools = [{"internal_api": "openblas", "architecture": loaded_kernel()}]
    mismatch = find_mismatch(features, pools, os.environ)
    if mismatch:
        print("", *mismatch.explain(windows=os.name == "nt"), sep="\n")
        if mismatch.fitting and os.name == "posix":
            print(f"The commands {' and '.join(LABORIOUS)} do so by themselves; Python programs cannot.")
    if not shutil.which("dot") and not _version("pygraphviz"):
        print("\nTo render drawings, install Graphviz (https://graphviz.org/download) or pygraphviz.")


def _threads(count: int) -> str:
    return f"{count} thread{'s' if count > 1 else ''}"


def _version(distribution: str) -> str | None:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None


def _dot_version() -> str | None:
    program = shutil.which("dot")
    if program is None:
        return None
    try:
        answer = subprocess.run([program, "-V"], capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError) as error:
        return f"{program} does not run: {error}"
    # Graphviz prints its version on stderr.
    return f"{(answer.stderr or answer.stdout).strip()} ({program})"


def _blas_pools() -> list[dict[str, Any]] | None:
    """The loaded BLAS libraries, or None when there is no way to ask."""
    try:
        from threadpoolctl import threadpool_info
    except ImportError:
        return None
    return [pool for pool in threadpool_info() if pool.get("user_api") == "blas"]


def _blas_lines(pools: Sequence[Mapping[str, Any]] | None, config: Mapping[str, Any]) -> Iterator[str]:
    built = config.get("Build Dependencies", {}).get("blas", {})
    name = f"{built.get('name', 'unknown')} {built.get('version', '')}".strip()
    if pools is None:
        yield f"{name} as NumPy was built; for threads and kernels: pip install threadpoolctl"
    elif not pools:
        yield f"{name} as NumPy was built; its threads and kernels are not known"
    for pool in pools or ():
        library = f"{pool['internal_api']} {pool.get('version') or ''}".strip()
        layer = f" ({pool['threading_layer']})" if pool.get("threading_layer") else ""
        kernel = f", {pool['architecture']} kernels" if pool.get("architecture") else ""
        yield f"{library}{kernel}, {_threads(pool['num_threads'])}{layer}"
