"""What every test of the command line has."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any

import pytest
from typer import main


@pytest.fixture(scope="session", autouse=True)
def _commands_are_read_once() -> Iterator[None]:
    """Typer reads the signatures of all commands whenever one is called, which takes longer than most do."""
    read = cache(lambda app, commands, get_command=main.get_command: get_command(app))

    def get_command(app: Any) -> Any:
        return read(app, tuple(app.registered_commands))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(main, "get_command", get_command)
        yield
