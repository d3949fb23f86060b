"""What all scenarios of a cancellation use: one engine, a container called web, and what must hold."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, NamedTuple

from portalocker import LockFlags
from portalocker.portalocker import FlockLocker

import asyncrt
from asyncrt.state import read_record
from tests.helpers import reality
from tests.helpers.cancel import Outcome
from tests.helpers.processes import until

NULL: Any = {"stdout": asyncrt.DEVNULL, "stderr": asyncrt.DEVNULL}
SLEEP = ["/bin/sleep", "1000"]


class Bench:
    """One engine, one container called web, and what was there before each run."""

    def __init__(self, engine: asyncrt.Engine) -> None:
        self.engine = engine
        self.root = engine.root
        self.mark = ""
        self.undo = contextlib.AsyncExitStack()

    def spec(self, args: list[str] = SLEEP) -> asyncrt.Spec:
        self.mark = uuid.uuid4().hex
        return asyncrt.Spec.command(args, env=reality.marking(self.mark))

    async def created(self, args: list[str] = SLEEP, **options: Any) -> asyncrt.Container:
        return await self.engine.create("web", **{"spec": self.spec(args), **NULL, **options})

    async def running(self, args: list[str] = SLEEP, **options: Any) -> asyncrt.Container:
        container = await self.created(args, **options)
        await container.start()
        return container

    async def paused(self) -> asyncrt.Container:
        container = await self.running()
        await container.pause()
        return container

    async def stopped(self) -> asyncrt.Container:
        container = await self.running()
        await container.stop()
        return container

    async def process(self) -> asyncrt.Process:
        container = await self.running()
        return await container.exec(["/bin/sh", "-c", "exit 7"], **NULL)

    def nothing_of_it(self) -> None:
        """No record, no file, no lock, no process: asked right after the cancellation."""
        assert reality.files(self.root) == set()
        assert reality.containers_processes() == []

    async def status(self) -> str:
        """The status on disk, which must be the one of reality too."""
        record = read_record(self.root, "web")
        view = (await self.engine.list())[0]
        assert view.status is record.status
        assert record.init is not None
        pid = record.init.pid
        if record.status == "stopped":
            assert reality.look(pid) is None
            return str(record.status)
        at_gate = "created" in (record.status, record.paused_from)

        def agrees() -> bool:
            seen = reality.look(pid)
            assert seen is not None
            assert (seen.comm == "asyncrt:gate") == at_gate
            return (seen.state == "T") == (record.status == "paused")

        # A stop is taken when the process runs next; pause waits for that for a bounded time.
        await until(agrees, f"init is as the record says: {record.status}")
        return str(record.status)


class Scenario(NamedTuple):
    """How to get there, what is cancelled, and what must hold then."""

    prepare: Callable[[Bench], Awaitable[Any]]
    make: Callable[[Bench, Any], Coroutine[Any, Any, Any]]
    check: Callable[[Bench, Any, Outcome], Awaitable[None]]


SCENARIOS: dict[str, Scenario] = {}


async def nothing(bench: Bench) -> None:
    """No container."""


async def no_matter(bench: Bench, state: Any, outcome: Outcome) -> None:
    """Only what holds for all: nothing leaks, and what is there can be destroyed."""


def scenario(
    name: str,
    make: Callable[[Bench, Any], Coroutine[Any, Any, Any]],
    *,
    prepare: Callable[[Bench], Awaitable[Any]] = nothing,
    check: Callable[[Bench, Any, Outcome], Awaitable[None]] = no_matter,
) -> None:
    SCENARIOS[name] = Scenario(prepare, make, check)


async def always_nothing(bench: Bench, state: Any, outcome: Outcome) -> None:
    bench.nothing_of_it()


async def gone_or_repeated(bench: Bench, state: Any, outcome: Outcome) -> None:
    if outcome.cancelled:
        await bench.engine.delete("web", force=True)
    bench.nothing_of_it()


async def exec_or_nothing(bench: Bench, container: asyncrt.Container, outcome: Outcome) -> None:
    if outcome.cancelled:
        await until(
            lambda: not [each for each in reality.marked([bench.mark]) if each.role == "exec"],
            "the exec'd process is gone",
        )
        assert (await container.view()).status == "running"
    else:
        process = outcome.value
        seen = reality.look(process.pid)
        assert seen is not None
        assert (seen.mark, seen.role) == (bench.mark, "exec")
        await process.kill()
        assert (await process.wait()).signal == 9
        process.close()


def flock(fd: int) -> None:
    lock: Callable[[int, int], None] = FlockLocker().locker
    lock(fd, LockFlags.EXCLUSIVE.value)
