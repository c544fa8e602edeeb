"""The machine: what is measured on it, and how large a process is."""

from __future__ import annotations

import contextlib
import os
import platform
import sys
from pathlib import Path
from typing import Any

import numpy as np


def machine() -> dict[str, Any]:
    """What a reader must know to make sense of absolute times."""
    return {
        "cpu": cpu_name(),
        "cores": os.cpu_count(),
        "load": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        "system": platform.platform(),
        "python": platform.python_version(),
    }


def cpu_name() -> str:
    """The processor's name, with the widest vector instructions it has where the system tells."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    fields = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    flags = fields.get("flags", "").split()
    vectors = next((f", {name}" for name in ("avx512f", "avx2", "avx") if name in flags), "")
    return fields.get("model name", platform.machine()) + vectors


def resident_mib() -> float:
    """Resident size of this process now, where the system tells it (Linux); elsewhere the peak so far."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:
        return peak_mib()
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def reset_peak() -> None:
    """Let ``peak_mib`` begin anew, where the system can do that (Linux)."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def peak_mib() -> float:
    """The largest resident size this process has had; not a number where the system can't say (Windows)."""
    with contextlib.suppress(OSError):
        # Unlike getrusage, this goes back at a reset.
        status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
        return int(status["VmHWM"].split()[0]) / 1024
    try:
        import resource
    except ImportError:
        return float("nan")
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20


class NumpyInfo:
    """Asked in a process whose threads are pinned, for what NumPy computes with there."""

    def kernel(self) -> str:
        """The kernels of its BLAS, as far as they can be told."""
        from tensorgrad.compile.blas import loaded_kernel

        return loaded_kernel() or "unknown"

    def mend(self) -> dict[str, str] | None:
        """The variables that would give kernels that fit the CPU; None if these do, or nothing would."""
        from tensorgrad.compile.blas import mismatch_here

        mismatch = mismatch_here()
        if mismatch is None or mismatch.fitting is None:
            return None
        return {"OPENBLAS_CORETYPE": mismatch.fitting}

    def blas(self) -> dict[str, Any]:
        """Name, version, kernel and threads of the BLAS; less where threadpoolctl is not installed."""
        try:
            from threadpoolctl import threadpool_info
        except ImportError:
            built = np.show_config(mode="dicts")
            library = built["Build Dependencies"]["blas"] if built else {}
            return {"name": library.get("name", "unknown"), "version": library.get("version", "unknown")}
        for library in threadpool_info():
            if library["user_api"] == "blas":
                return {
                    "name": library["internal_api"],
                    "version": library["version"],
                    "kernel": library.get("architecture", "unknown"),
                    "threads": library["num_threads"],
                }
        return {"name": "unknown", "version": "unknown"}
