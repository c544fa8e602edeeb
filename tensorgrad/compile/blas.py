"""Does the BLAS inside NumPy use the instructions this CPU has?

OpenBLAS picks its kernels when it is loaded: those that OPENBLAS_CORETYPE names, else by the CPU's model. A
variable that someone set for another machine, or a CPU newer than the library, gets kernels of an older CPU:
correct, and half as fast. Nothing here claims what it cannot know: other libraries, other architectures, and
kernels not listed below are passed over in silence.
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

__all__ = [
    "VARIABLE",
    "Mismatch",
    "cpu_features",
    "cpu_level",
    "find_mismatch",
    "loaded_kernel",
    "mismatch_here",
    "say_once",
]

VARIABLE = "OPENBLAS_CORETYPE"

# SIMD levels from weak to strong. AVX-512 means what SkylakeX kernels use of it: F, CD, BW, DQ and VL.
_LEVELS = ("SSE", "AVX", "AVX2", "AVX-512")
# NumPy's names for these levels, before 2.4 and since.
_FEATURES = {"AVX2": "AVX2", "X86_V3": "AVX2", "AVX512_SKX": "AVX-512", "X86_V4": "AVX-512"}
# The level of OpenBLAS kernels, by the names OpenBLAS gives them, and its variable takes.
_KERNELS = {
    "prescott": "SSE",
    "core2": "SSE",
    "nehalem": "SSE",
    "sandybridge": "AVX",
    "haswell": "AVX2",
    "zen": "AVX2",
    "skylakex": "AVX-512",
    "cooperlake": "AVX-512",
    "sapphirerapids": "AVX-512",
}
# What OpenBLAS is asked for its kernels by: in NumPy's wheels, with 64-bit integers, and as others build it.
_QUESTIONS = (
    "scipy_openblas_get_corename64_",
    "scipy_openblas_get_corename",
    "openblas_get_corename64_",
    "openblas_get_corename",
)
_CORETYPE = {"AVX2": "HASWELL", "AVX-512": "SKYLAKEX"}


@dataclass(frozen=True)
class Mismatch:
    """OpenBLAS kernels weaker than the CPU.

    Attributes:
        kernel: the kernels in use, e.g. `"Haswell"`.
        kernel_level: the instructions they use, e.g. `"AVX2"`.
        cpu_level: the instructions the CPU has, e.g. `"AVX-512"`.
        coretype: the value of OPENBLAS_CORETYPE, empty when it is not set.
    """

    kernel: str
    kernel_level: str
    cpu_level: str
    coretype: str

    @property
    def fitting(self) -> str | None:
        """What OPENBLAS_CORETYPE should be: "" for not set, None where no value of it would help.

        Example:
            >>> Mismatch("Haswell", "AVX2", "AVX-512", "").fitting
            'SKYLAKEX'
        """
        if _level(self.coretype) == self.cpu_level:
            return None
        # OpenBLAS's own choice is the best one where it knows the CPU; where not, the next look tells.
        return "" if self.coretype else _CORETYPE[self.cpu_level]

    def explain(self, windows: bool = False) -> list[str]:
        """What is wrong and how to mend it, line by line.

        Args:
            windows: give the command of a Windows prompt, not of a POSIX shell.

        Example:
            >>> for line in Mismatch("Haswell", "AVX2", "AVX-512", "").explain():
            ...     print(line)
            OpenBLAS runs its AVX2 kernels (Haswell), but this CPU has AVX-512.
            Matrix products can take twice as long. Mend it before Python starts, and look again:
                export OPENBLAS_CORETYPE=SKYLAKEX
        """
        kernels = f"{self.kernel_level} kernels ({self.kernel})"
        lines = [f"OpenBLAS runs its {kernels}, but this CPU has {self.cpu_level}."]
        if self.coretype:
            lines.append(f"The variable OPENBLAS_CORETYPE is set to {self.coretype}.")
        if self.fitting is None:
            return [*lines, "That is right, so this OpenBLAS lacks such kernels: install NumPy from PyPI."]
        lines.append("Matrix products can take twice as long. Mend it before Python starts, and look again:")
        if self.fitting == "" and not windows:
            return [*lines, f"    unset {VARIABLE}"]
        return [*lines, f"    {'set' if windows else 'export'} {VARIABLE}={self.fitting}"]


def cpu_features(config: Mapping[str, Any]) -> frozenset[str]:
    """The SIMD features of this CPU as NumPy found them, on any operating system.

    Args:
        config: `numpy.show_config(mode="dicts")`.

    Returns:
        NumPy's names; empty where NumPy was built without looking.

    Example:
        >>> sorted(cpu_features({"SIMD Extensions": {"baseline": ["X86_V2"], "found": ["X86_V3"]}}))
        ['X86_V2', 'X86_V3']
    """
    simd = config.get("SIMD Extensions", {})
    return frozenset(simd.get("baseline", ())) | frozenset(simd.get("found", ()))


def cpu_level(features: Iterable[str]) -> str | None:
    """The strongest SIMD level among NumPy's feature names; None where none is known, as on ARM.

    Example:
        >>> cpu_level(["SSE2", "AVX2"])
        'AVX2'
    """
    return max((_FEATURES[name] for name in features if name in _FEATURES), key=_LEVELS.index, default=None)


def find_mismatch(
    features: Iterable[str], pools: Iterable[Mapping[str, Any]], environ: Mapping[str, str]
) -> Mismatch | None:
    """The first OpenBLAS among the loaded libraries whose kernels are weaker than the CPU, or None.

    Args:
        features: what `cpu_features` returned.
        pools: `threadpoolctl.threadpool_info()`.
        environ: the environment this process was started with.

    Example:
        >>> pool = {"internal_api": "openblas", "architecture": "Haswell"}
        >>> find_mismatch(["AVX512_SKX"], [pool], {}).kernel
        'Haswell'
        >>> find_mismatch(["AVX2"], [pool], {}) is None
        True
    """
    cpu = cpu_level(features)
    for pool in pools:
        kernel = str(pool.get("architecture"))
        level = _level(kernel)
        if pool.get("internal_api") != "openblas" or cpu is None or level is None:
            continue
        if _LEVELS.index(level) < _LEVELS.index(cpu):
            return Mismatch(kernel, level, cpu, environ.get(VARIABLE, ""))
    return None


def loaded_kernel() -> str | None:
    """The kernels of the OpenBLAS that NumPy has loaded, e.g. "SkylakeX"; None where there is no way to ask.

    threadpoolctl tells more, of every library in the process, where it is installed; this needs NumPy alone.
    """
    core = sys.modules.get("numpy._core._multiarray_umath") or sys.modules.get("numpy.core._multiarray_umath")
    try:
        # Names are looked up in the libraries that a library is linked with, too, though not on Windows.
        library = ctypes.CDLL(str(getattr(core, "__file__", "")))
    except OSError:
        return None
    for name in _QUESTIONS:
        ask = getattr(library, name, None)
        if ask is not None:
            ask.restype = ctypes.c_char_p
            return str(ask().decode())
    return None


def mismatch_here() -> Mismatch | None:
    """What is wrong with the BLAS of this very process, or None."""
    pool = {"internal_api": "openblas", "architecture": loaded_kernel()}
    return find_mismatch(cpu_features(np.show_config(mode="dicts")), [pool], os.environ)


@cache
def say_once() -> None:
    """Log one warning per process if NumPy's kernels do not fit the CPU.

    A log, since it is no mistake of the program that runs: nothing fails where warnings are errors. Silence
    it with `logging.getLogger("tensorgrad").setLevel(logging.ERROR)`.
    """
    mismatch = mismatch_here()
    if mismatch is not None:
        import logging

        lines = [*mismatch.explain(windows=os.name == "nt"), "`tensorgrad info` shows whether that helped."]
        logging.getLogger("tensorgrad").warning("%s", "\n".join(lines))


def _level(kernel: str) -> str | None:
    return _KERNELS.get(kernel.lower())
