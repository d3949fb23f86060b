"""Both versions of cgroups, and none that outlives its test."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

import pytest

from asyncrt import Engine
from asyncrt.platforms.cgroups import plan
from asyncrt.platforms.cgroups.machine import discover
from tests.helpers import capabilities, cgroups


def _version_1(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = discover()
    if "freezer" not in machine.v1:
        capabilities.skip_lacking("a freezer of cgroup version 1")
    monkeypatch.setattr(plan, "discover", lambda: cgroups.without_v2(machine))


def _as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    del monkeypatch


@pytest.fixture(params=[_as_it_is, _version_1], ids=["this machine", "version 1"])
def either(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Twice: with what this machine has, and as if it had no version 2."""
    choose: Callable[[pytest.MonkeyPatch], None] = request.param
    choose(monkeypatch)


@pytest.fixture(autouse=True)
async def nothing_stays(engine: Engine) -> AsyncIterator[None]:
    """A failed test's cgroups would outlive it; a container's end takes them along."""
    yield
    for each in await engine.list():
        await engine.delete(each.id, force=True)
