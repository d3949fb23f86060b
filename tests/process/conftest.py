"""What tests of real processes share: sandboxes on each platform, a place for layers."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from asyncrt import Engine
from tests.helpers.pods import Pods


@pytest.fixture(params=["host", "linux"])
async def pods(request: pytest.FixtureRequest, engine: Engine, rootfs: str) -> AsyncIterator[Pods]:
    """On each platform; nothing stays after a failed test either."""
    yield Pods(engine, request.param, rootfs)
    for each in await engine.list():
        await engine.delete(each.id, force=True)


@pytest.fixture
def place(open_directory: Path) -> str:
    """A directory on disk for layers, which the test leaves empty."""
    path = open_directory / "layers"
    path.mkdir()
    return str(path)
