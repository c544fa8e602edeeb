"""All tests of compiled functions can be run with kernels: minutes, and what is said of pages then fails."""

from __future__ import annotations

import os

import pytest

WITH_KERNELS = os.environ.get("TENSORGRAD_TEST_KERNELS")
"""`all`, or `checked` for kernels that look at every index; empty: only tests that ask for kernels have them."""


@pytest.fixture(autouse=True)
def with_kernels_if_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    if WITH_KERNELS:
        from tensorgrad.compile import api
        from tensorgrad.compile.kernels import build

        monkeypatch.setattr(api, "wanted", lambda fast: True)
        monkeypatch.setattr(build, "CHECKED", WITH_KERNELS == "checked")
