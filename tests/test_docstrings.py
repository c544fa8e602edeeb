"""Every example in a docstring runs and prints what it says, and everything public has a docstring."""

from __future__ import annotations

import doctest
import importlib
import inspect
import pkgutil
import re
import warnings
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import numpy as np
import pytest

import tensorgrad

NUMPY_1 = int(np.__version__.split(".")[0]) < 2


def module_names() -> Iterator[str]:
    """All modules of the package, except the one that runs on import."""
    yield "tensorgrad"
    for info in pkgutil.walk_packages(tensorgrad.__path__, "tensorgrad."):
        if not info.name.endswith("__main__"):
            yield info.name


# What the examples of a part call for, beyond what importing it does.
NEEDED = {
    "tensorgrad.cli": "typer",
    "tensorgrad.viz.plots": "matplotlib",
    "tensorgrad.viz.onnx": "onnx",
}
NAMES = sorted(module_names())
EVERY = pytest.mark.parametrize("name", NAMES)


def load(name: str) -> ModuleType:
    """The module; the test is skipped where a dependency of an extra is absent."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as missing:
        if (missing.name or "").partition(".")[0] == "tensorgrad":
            raise
        pytest.skip(f"{name} needs {missing.name}, which is not installed")


def public_members(module: ModuleType) -> Iterator[tuple[str, Any]]:
    """Functions and classes that the module itself defines under a public name, and their methods."""
    for name, value in vars(module).items():
        if name.startswith("_") or getattr(value, "__module__", None) != module.__name__:
            continue
        if inspect.isfunction(value):
            yield name, value
        elif inspect.isclass(value):
            yield name, value
            for key, member in vars(value).items():
                plain = member.__func__ if isinstance(member, (classmethod, staticmethod)) else member
                if not key.startswith("_") and (inspect.isfunction(plain) or isinstance(plain, property)):
                    yield f"{name}.{key}", plain


def inherits_documentation(cls_member: str, module: ModuleType) -> bool:
    """Whether a method overrides one that says what it does."""
    owner, _, key = cls_member.partition(".")
    bases = getattr(module, owner).__mro__[1:] if key else ()
    return any(getattr(vars(base).get(key), "__doc__", None) for base in bases)


@pytest.mark.skipif(NUMPY_1, reason="the examples show how NumPy 2 prints")
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@EVERY
def test_examples_in_docstrings(name: str) -> None:
    for part, needed in NEEDED.items():
        if name.startswith(part):
            pytest.importorskip(needed)
    module = load(name)
    runner = doctest.DocTestRunner(verbose=False)
    report: list[str] = []
    for test in doctest.DocTestFinder(exclude_empty=True).find(module, name):
        with warnings.catch_warnings():
            runner.run(test, out=report.append)
    assert not runner.failures, "".join(report)
    # None may hide from the finder, wrapped as it is in a decorator.
    examples = re.findall(r"^ *>>> .*", inspect.getsource(module), re.MULTILINE)
    # From Python 3.13 on skipped examples are among the tries.
    tries = runner.tries - getattr(runner, "skips", 0)
    assert tries == sum("doctest: +SKIP" not in line for line in examples)


@EVERY
def test_everything_public_has_a_docstring(name: str) -> None:
    module = load(name)
    assert (module.__doc__ or "").strip(), f"{name} does not say what it is for"
    bare = [
        member
        for member, value in public_members(module)
        if not (value.__doc__ or "").strip() and not inherits_documentation(member, module)
    ]
    assert not bare, f"without a docstring in {name}: {bare}"


@EVERY
def test_what_a_module_exports_exists(name: str) -> None:
    module = load(name)
    exported = getattr(module, "__all__", [])
    assert [key for key in exported if not hasattr(module, key)] == []
    assert len(set(exported)) == len(exported)


def test_the_public_surface_is_documented_and_complete() -> None:
    """Whatever the design promises at the top level is there."""
    promised = """tensor Tensor grad value_and_grad vjp jvp jacobian hvp checkpoint no_grad enable_grad
        scope label detect_anomaly custom_vjp defop gradcheck manual_seed from_dlpack nn optim functional tree
        linalg"""
    assert [key for key in promised.split() if not hasattr(tensorgrad, key)] == []


def test_operations_are_reachable_from_the_top_level() -> None:
    inner = {"inv", "norm", "solve", "linear", "bitwise_and", "bitwise_or", "bitwise_xor", "invert"}
    missing = [key for key in tensorgrad.ops.__all__ if key not in inner and not hasattr(tensorgrad, key)]
    assert missing == []
    for key in ("inv", "norm", "solve"):
        assert hasattr(tensorgrad.linalg, key)
