"""Compiled kernels of the tests are kept in a folder of their own, for the time of one session."""

from __future__ import annotations

from collections.abc import Iterator

import pytest


@pytest.fixture(scope="session", autouse=True)
def kept_kernels(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TENSORGRAD_CACHE", str(tmp_path_factory.mktemp("kernels")))
        yield
