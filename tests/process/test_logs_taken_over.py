"""Logs whose supervisor was killed: pumped on by others, with nothing lost."""

from __future__ import annotations

import asyncio
import os
import select

import asyncrt
from asyncrt import LOG, PIPE, Engine
from tests.helpers.containers import (
    destroyed,
    directory_of,
    gone,
    kill_now,
    line,
    record_of,
    shell,
    started,
    supervisor_of,
)
from tests.helpers.logs import lines
from tests.helpers.processes import until


async def test_output_goes_on_after_a_killed_supervisor(engine: Engine) -> None:
    script = "echo before; read x; seq 1 100000; read x; echo last"
    container = await started(engine, "web", shell(script), stdin=PIPE, stdout=LOG)
    assert container.stdin is not None
    async with destroyed(container), asyncio.timeout(30):
        found = []
        async for each in container.logs(follow=True):
            found.append(each.text)
            if each.text == "before":
                supervisor = supervisor_of(container, engine.root)
                kill_now(supervisor)
                await gone(supervisor)
                container.stdin.write(b"go\n")
            if each.text == "100000":
                container.stdin.write(b"go\n")
        assert found == ["before", *map(str, range(1, 100001)), "last"]


async def test_a_supervisor_that_hung_up_is_followed_as_soon_as_it_is_dead(
    engine: Engine, root: str
) -> None:
    """A dying process closes its sockets first; nobody would look again."""
    script = "read x; seq 1 100000; echo done >&2"
    container = await started(engine, "web", shell(script), stdin=PIPE, stdout=LOG, stderr=PIPE)
    assert container.stdin is not None
    async with destroyed(container):
        record = record_of(container, root)
        engine._context.pumps.take_over_from(record, directory_of(container, root))
        kill_now(supervisor_of(container, root))
        container.stdin.write(b"go\n")
        assert await line(container.stderr) == "done"


async def test_a_workload_whose_supervisor_was_killed_waits_and_is_not_killed(
    engine: Engine, root: str
) -> None:
    script = "trap '' USR1; read x; seq 1 100000; echo done >&2; read x"
    container = await started(engine, "web", shell(script), stdin=PIPE, stdout=LOG, stderr=PIPE)
    assert container.stdin is not None
    async with destroyed(container):
        # No engine is to hear of it: ours is stopped from looking by not being asked.
        supervisor = supervisor_of(container, root)
        kill_now(supervisor)
        await gone(supervisor)
        container.stdin.write(b"go\n")
        await until(lambda: _is_full(f"{root}/web.d/stdout.fifo"), "the FIFO is full")
        await container.kill("USR1")
        assert (await container.view()).status == "running"
        async with asyncrt.Engine(root) as other:  # the next engine that touches it
            again = await other.load("web")
            assert await line(container.stderr) == "done"
            container.stdin.write(b"go\n")
            await again.wait()
            assert len(await lines(again)) == 100000


def _is_full(path: str) -> bool:
    fd = os.open(path, os.O_WRONLY | os.O_NONBLOCK)
    try:
        poller = select.poll()
        poller.register(fd, select.POLLOUT)
        return not poller.poll(0)
    finally:
        os.close(fd)


async def test_two_engines_that_take_over_are_one_pump(engine: Engine, root: str) -> None:
    script = "read x; seq 1 50000; read x"
    container = await started(engine, "web", shell(script), stdin=PIPE, stdout=LOG)
    assert container.stdin is not None
    async with destroyed(container):
        supervisor = supervisor_of(container, root)
        kill_now(supervisor)
        await gone(supervisor)
        async with asyncrt.Engine(root) as one, asyncrt.Engine(root) as other:
            await asyncio.gather(*(each.load("web") for each in (one, other) * 5))
            container.stdin.write(b"go\ngo\n")
            await container.wait()
            # Two pumps would each have their own file, and lines torn between them.
            assert [each.text for each in await lines(container)] == [*map(str, range(1, 50001))]
            made = [n for n in os.listdir(f"{root}/web.d/logs") if n.endswith(".log")]
            assert made == ["stdout.1.log"]


# Sizes
