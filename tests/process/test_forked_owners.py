"""A process that forks and goes on, as multiprocessing's workers do: the fork keeps nothing of ours open."""

from __future__ import annotations

import pytest

from tests.helpers.processes import Interpreter, kill_hard, wait_gone

# Forks a worker at a point that its argument says, closes what it has, and lives on until told.
FORKING = """
import asyncio, os, sys, time
import asyncrt
from asyncrt.sandbox import fork_server

fork_server._END_SECONDS = 60  # before one that doesn't end is killed
NULL = {"stdout": asyncrt.DEVNULL, "stderr": asyncrt.DEVNULL}

def fork():
    worker = os.fork()
    if worker == 0:
        time.sleep(1000)  # it orders nothing: it is there until it is killed
    return worker

async def server(engine):
    await engine.run("first", spec=asyncrt.Spec.command(["/bin/true"]))
    pid = engine._context.launcher.server.pid
    worker = fork()
    return worker, pid

async def stdin(engine):
    spec = asyncrt.Spec.command(["/bin/cat"])
    container = await engine.create("web", spec=spec, stdin=asyncrt.PIPE, **NULL)
    await container.start()
    pid = (await container.view()).pid
    worker = fork()
    container.stdin.close()
    await container.wait()
    return worker, pid

async def terminal(engine):
    spec = asyncrt.Spec.command(["/bin/sh", "-c", "read go; head -c 3000000 /dev/zero"])
    container = await engine.create("web", spec=spec, terminal=True)
    await container.start()
    pid = (await container.view()).pid
    attached = await container.attach()
    worker = fork()
    await attached.write(b"go\\n")
    attached.close()
    await container.wait()
    return worker, pid

async def hang_up(engine):
    spec = asyncrt.Spec.command(["/bin/sleep", "1000"])
    container = await engine.create("web", spec=spec, **NULL)
    await container.start()
    process = await container.exec(["/bin/sleep", "1000"], terminal=True)
    worker = fork()
    process.close()
    await process.wait()
    return worker, process.pid

async def main():
    async with asyncrt.Engine(sys.argv[1]) as engine:
        worker, pid = await globals()[sys.argv[2]](engine)
        await engine.destroy_many(["web"])
    print(worker, pid, flush=True)
    sys.stdin.readline()
    os.kill(worker, 9)
    os.waitpid(worker, 0)

asyncio.run(main())
"""


@pytest.mark.parametrize("what", ["server", "stdin", "terminal", "hang_up"])
def test_what_the_owner_lets_go_of_no_fork_of_it_keeps(root: str, what: str) -> None:
    """A fork server that sees no end of its socket, a program no end of its input, and so on."""
    with Interpreter(FORKING, root, what) as owner:
        _, pid = map(int, owner.line().split())
        wait_gone(pid)
        owner.say("end")
        assert owner.wait() == 0


def test_a_fork_server_ends_with_its_killed_owner_although_a_fork_lives_on(root: str) -> None:
    code = FORKING.replace(
        "        await engine.destroy_many",
        "        print(worker, pid, flush=True)\n        time.sleep(1000)\n        await engine.destroy_many",
    )
    with Interpreter(code, root, "server") as owner:
        worker, server = map(int, owner.line().split())
        owner.kill()
        try:
            wait_gone(server)
        finally:
            kill_hard(worker)
