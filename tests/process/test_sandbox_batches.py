"""All containers of a sandbox at once: which are acted on, in which order, what they do."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from typing import Any

import pytest

import asyncrt
from asyncrt import ContainerNotFound, Engine, InvalidTransition, SpecInvalid
from tests.helpers.containers import line
from tests.helpers.pods import Pods
from tests.helpers.processes import until

pytestmark = [
    pytest.mark.needs_root,
    pytest.mark.needs_cgroups,
    pytest.mark.needs_program("busybox"),
]


async def _ends(engine: Engine) -> dict[str, Any]:
    """The signal that ended each, by its id; None of one that hasn't ended."""
    return {each.id: each.exit and each.exit.signal for each in await engine.list()}


async def test_a_batch_acts_on_the_others_first_and_on_the_root_last(pods: Pods) -> None:
    engine = pods.engine
    sandbox = await pods.sandbox()
    for name in ("one", "two"):
        await pods.running(sandbox, name)
    await (await engine.create("pod2", spec=pods.sleeper())).start()
    # One that is given as well counts once, wherever it stands.
    done = await engine.kill_many(["pod", "one", "nobody"], "KILL", sandbox="pod")
    assert {id: type(error) for id, error in done.items()} == {
        **dict.fromkeys(("one", "two", "pod"), type(None)),
        "nobody": ContainerNotFound,
    }
    assert list(done)[-1] == "pod"
    for name in ("one", "two", "pod"):
        await (await engine.load(name)).wait()
    ends = await _ends(engine)
    assert ends == {**dict.fromkeys(("one", "pod", "two"), signal.SIGKILL), "pod2": None}
    assert await engine.destroy_many(sandbox="pod") == dict.fromkeys(("one", "two", "pod"))
    assert [each.id for each in await engine.list()] == ["pod2"]


async def test_stopping_a_sandbox_gives_each_its_grace(pods: Pods) -> None:
    """The root's end is theirs: before it they would never get it."""
    spec = pods.shell("trap 'exit 7' TERM; echo up; while :; do sleep 0.01; done")
    sandbox = await pods.engine.create_sandbox("pod", spec=spec, stdout=asyncrt.PIPE)
    one = await sandbox.create("one", spec=spec, stdout=asyncrt.PIPE)
    for each in (sandbox.root, one):
        await each.start()
        assert await line(each.stdout) == "up"
    done = await pods.engine.stop_many(sandbox="po", grace_seconds=20)
    assert done == dict.fromkeys(("one", "pod"))
    for each in (one, sandbox.root):
        result = await each.wait()
        assert (result.exit_code, result.reason) == (7, "exit")
    # Who has ended is fine with what ends all; it is an error of who is named.
    assert await pods.engine.stop_many(sandbox="pod") == dict.fromkeys(("one", "pod"))
    done = await pods.engine.kill_many("one", sandbox="pod")
    assert (type(done["one"]), done["pod"]) == (InvalidTransition, None)
    for each in (one, sandbox.root):
        await each.destroy()


async def test_a_sandbox_that_there_isnt_is_told_before_anything_is_done(pods: Pods) -> None:
    engine = pods.engine
    await pods.sandbox()
    await (await engine.create("web", spec=pods.sleeper())).start()
    for name, error in (("nobody", ContainerNotFound), ("web", SpecInvalid)):
        for batch in (engine.kill_many, engine.stop_many):
            with pytest.raises(error, match=f"'{name}'"):
                await batch(["web"], sandbox=name)
        with pytest.raises(error, match=f"'{name}'"):
            async for _ in engine.events(sandbox=name):
                pytest.fail("something happened")
    assert await _ends(engine) == {"pod": None, "web": None}
    # To have it destroyed it need not be there, and its id must be whole.
    assert await engine.destroy_many("web", sandbox="po") == {"web": None}
    with pytest.raises(asyncrt.InvalidId):
        await engine.destroy_many(sandbox="p o")
    assert [each.id for each in await engine.list()] == ["pod"]


class _Told:
    """A task that notes what an iterator tells."""

    def __init__(self, found: AsyncIterator[Any]) -> None:
        self.told: list[Any] = []
        self.task = asyncio.create_task(self._follow(found))

    async def _follow(self, found: AsyncIterator[Any]) -> None:
        async for each in found:
            self.told.append(each)

    def short(self) -> list[tuple[str, str]]:
        return [
            (each.id, each.status if isinstance(each, asyncrt.Event) else type(each).__name__)
            for each in self.told
        ]

    async def end(self) -> list[tuple[str, str]]:
        async with asyncio.timeout(20):
            await self.task
        return self.short()


async def test_events_are_of_those_in_it_and_of_those_that_come_until_all_have_ended(
    pods: Pods,
) -> None:
    sandbox = await pods.sandbox()
    await pods.running(sandbox, "one")
    gone = await pods.running(sandbox, "gone")
    await gone.kill("KILL")
    await gone.wait()
    other = await pods.sandbox("pod2")
    told = _Told(pods.engine.events(sandbox="pod", interval=3600))
    await until(lambda: len(told.told) == 2, "the first figures are told")
    assert sorted(told.short()) == [("one", "Stats"), ("pod", "Stats")]
    await other.root.pause()
    await pods.running(sandbox, "two")
    await gone.destroy()
    await until(lambda: ("gone", "destroyed") in told.short(), "all is told so far")
    assert told.short()[2:] == [
        ("two", "creating"),
        ("two", "created"),
        ("two", "running"),
        ("gone", "destroyed"),
    ]
    await sandbox.root.kill("KILL")
    found = (await told.end())[6:]
    assert sorted(found) == [(each, "stopped") for each in ("one", "pod", "two")]


async def test_events_of_a_sandbox_need_it_live_and_nothing_beside_it(pods: Pods) -> None:
    sandbox = await pods.sandbox()
    with pytest.raises(SpecInvalid, match="either ids or a sandbox"):
        async for _ in pods.engine.events("pod", sandbox="pod"):
            pytest.fail("something happened")
    await sandbox.root.kill("KILL")
    await sandbox.root.wait()
    with pytest.raises(InvalidTransition):
        async for _ in pods.engine.events(sandbox="pod"):
            pytest.fail("something happened")
