"""The awaitables of sandboxes with several containers, cancelled."""

from __future__ import annotations

import os
from collections.abc import Coroutine
from typing import Any

import asyncrt
from tests.helpers.cancel import Outcome
from tests.race.scenarios.bench import NULL, Bench, scenario


async def made(bench: Bench) -> asyncrt.Sandbox:
    """A sandbox whose root container is called web."""
    sandbox = await bench.engine.create_sandbox("web", spec=bench.spec(), **NULL)
    await sandbox.root.start()
    return sandbox


async def with_another(bench: Bench) -> asyncrt.Sandbox:
    sandbox = await made(bench)
    await sandbox.create("app", spec=bench.spec(), **NULL)
    return sandbox


def create_another(bench: Bench, sandbox: asyncrt.Sandbox) -> Coroutine[Any, Any, Any]:
    return sandbox.create("app", spec=bench.spec(), **NULL)


async def another_or_none(bench: Bench, sandbox: asyncrt.Sandbox, outcome: Outcome) -> None:
    there = [each.id for each in await sandbox.containers()]
    names = os.listdir(f"{bench.root}/web.d/members")
    assert there == names == ([] if outcome.cancelled else ["app"])
    assert [view.id for view in await bench.engine.list()] == [*there, "web"]
    assert (await sandbox.root.view()).status == "running"
    await sandbox.destroy()
    bench.nothing_of_it()


async def sandbox_or_nothing(bench: Bench, state: Any, outcome: Outcome) -> None:
    if outcome.cancelled:
        bench.nothing_of_it()
    else:
        assert await bench.status() == "created"


async def destroyed_or_repeated(bench: Bench, sandbox: asyncrt.Sandbox, outcome: Outcome) -> None:
    if outcome.cancelled:
        await sandbox.destroy()
    bench.nothing_of_it()


scenario(
    "Engine.create_sandbox",
    lambda b, _: b.engine.create_sandbox("web", spec=b.spec(), **NULL),
    check=sandbox_or_nothing,
)
scenario(
    "Engine.load_sandbox",
    lambda b, _: b.engine.load_sandbox("we"),
    prepare=made,
)
scenario("Sandbox.create", create_another, prepare=made, check=another_or_none)
scenario("Sandbox.containers", lambda _, s: s.containers(), prepare=made)
scenario(
    "Sandbox.destroy", lambda _, s: s.destroy(), prepare=with_another, check=destroyed_or_repeated
)
