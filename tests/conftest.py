"""What every test may use."""

from __future__ import annotations

import gc
import os

# Before NumPy loads: at the sizes of tests a second thread of its matrix products only waits for the first.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
# Nor is a program under test to speak of the kernels that somebody chose for this machine.
os.environ.pop("OPENBLAS_CORETYPE", None)

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

# What is imported and collected before the first test stays, and to look for garbage in it takes seconds.
gc.disable()

# The same examples in every run: what fails here fails everywhere, and what passes is not left to luck.
settings.register_profile("fixed", deadline=None, derandomize=True, database=None)
settings.load_profile("fixed")

CHECKOUT = Path(__file__).resolve().parent.parent


def pytest_collection_finish() -> None:
    # By itself Python looks at every 700 new objects, which takes a twentieth of all time.
    gc.set_threshold(5000, 10, 10)
    gc.enable()


@pytest.fixture(scope="session")
def _generators_are_known() -> None:
    """Hypothesis asks in its first test who holds NumPy's generators, and would not see what is frozen."""

    @given(st.none())
    def anything(none: None) -> None:
        pass

    anything()


@pytest.fixture(scope="module", autouse=True)
def _nothing_old_is_collected(_generators_are_known: None) -> None:
    """What has been imported, collected and cached by now is not gone through for garbage again.

    There is so much of it that a collection would take longer than most tests.
    """
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def _blas_kernels_are_told_of_before_the_first_test() -> None:
    """Whichever test compiles first would otherwise find it in its output."""
    from tensorgrad.compile.blas import say_once

    say_once()


@pytest.fixture(scope="session", autouse=True)
def _kernels_are_kept_for_this_session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No test writes to the user's cache; TENSORGRAD_CACHE names a folder to be used by several sessions."""
    with pytest.MonkeyPatch.context() as patch:
        if "TENSORGRAD_CACHE" not in os.environ:
            patch.setenv("TENSORGRAD_CACHE", str(tmp_path_factory.mktemp("kernels")))
        yield


@pytest.fixture(scope="session", autouse=True)
def _kernels_everywhere_if_asked() -> Iterator[None]:
    """With TENSORGRAD_TEST_KERNELS=all what compiles has kernels; with =checked such as check every index,
    and with =shared such as three threads share.

    It takes many minutes.
    """
    mode = os.environ.get("TENSORGRAD_TEST_KERNELS")
    with pytest.MonkeyPatch.context() as patch:
        if mode:
            from tensorgrad.compile import api
            from tensorgrad.compile.kernels import build

            patch.setattr(api, "wanted", _always)
            patch.setattr(build, "CHECKED", mode == "checked")
            if mode == "shared":
                _three_threads(patch)
        yield


@pytest.fixture
def three_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three threads share the smallest of kernels and products, whatever the BLAS and the machine have."""
    _three_threads(monkeypatch)


def _three_threads(patch: pytest.MonkeyPatch) -> None:
    from tensorgrad.compile.kernels import share, worth

    patch.setattr(worth, "threads_at_rest", lambda: 3)
    patch.setattr(share, "threads", lambda: 3)
    patch.setattr(share, "set_threads", lambda count: None)
    for name in ("LEAST_ROWS", "LEAST_WORK", "LEAST_PRODUCT", "BLOCK"):
        patch.setattr(share, name, 1)
    _small_products_packed(patch)


@pytest.fixture
def small_products_packed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Kernels pack the smallest matrices, and take products of the smallest batches into loops."""
    _small_products_packed(monkeypatch)


def _small_products_packed(patch: pytest.MonkeyPatch) -> None:
    from tensorgrad.compile.kernels import worth

    patch.setattr(worth, "_LEAST", 1)
    patch.setattr(worth, "_LEAST_ROWS", 1)


def _always(fast: bool) -> bool:
    from tensorgrad.compile import kernels

    return kernels.wanted(True)


@pytest.fixture
def numpy_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    """For a test of the page of NumPy itself: what compiles has no kernels, even where all others have."""
    from tensorgrad.compile import api, kernels

    monkeypatch.setattr(api, "wanted", kernels.wanted)


@pytest.fixture(scope="session")
def shared_file() -> Callable[[str], Path]:
    """Find a file that is not part of the project; the test is skipped where it is absent.

    It is looked for in the folder that TENSORGRAD_SHARED names, and without that in ``shared`` beside the
    checkout.
    """

    def find(name: str) -> Path:
        path = Path(os.environ.get("TENSORGRAD_SHARED") or CHECKOUT.parent / "shared", name)
        if not path.is_file():
            pytest.skip(f"{path} is absent and no part of the project (TENSORGRAD_SHARED names the folder)")
        return path

    return find
