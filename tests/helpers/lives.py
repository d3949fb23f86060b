"""A whole life of containers through the public surface, for every kind of root, user and loop.

Also run as a script by another user: `python -c "from tests.helpers.lives import main; main()" ROOT`.
"""

from __future__ import annotations

import asyncio
import os
import sys

import asyncrt
from tests.helpers.records import names


async def whole_life(root: str) -> None:
    """Create, list, start, exec, pause, resume, signal, wait, run, destroy; asserts each step."""
    script = "trap 'exit 5' USR1; echo up; while read x; do echo $x; done"
    spec = asyncrt.Spec.command(["/bin/sh", "-c", script])
    async with asyncrt.Engine(root) as engine:
        container = await engine.create("web", spec=spec, stdin=asyncrt.PIPE, stdout=asyncrt.PIPE)
        assert (await container.view()).status == "created"
        await container.start()
        assert container.stdout is not None
        assert await container.stdout.readline() == b"up\n"
        (view,) = await engine.list()
        assert (view.id, view.status) == ("web", "running")
        process = await container.exec(["/usr/bin/id", "-u"], stdout=asyncrt.PIPE)
        assert process.stdout is not None
        assert int(await process.stdout.read()) == os.geteuid()
        assert (await process.wait()).exit_code == 0
        process.close()
        assert len(await container.processes()) == 1
        await container.pause()
        assert (await (await engine.load("we")).view()).status == "paused"
        await container.resume()
        assert container.stdin is not None
        container.stdin.write(b"hello\n")
        assert await container.stdout.readline() == b"hello\n"
        await container.kill("USR1")
        container.stdin.close()
        result = await container.wait(20)
        assert result.exit_code == 5, result
        (failed,) = await asyncio.gather(container.start(), return_exceptions=True)
        assert isinstance(failed, asyncrt.InvalidTransition)
        assert failed.status == "stopped"
        await container.destroy()
        done = await engine.run(
            "job",
            spec=asyncrt.Spec.command(["/bin/cat"]),
            input=b"x" * 100_000,
            stdout=asyncrt.PIPE,
        )
        assert (done.exit.exit_code, done.stdout) == (0, b"x" * 100_000)
        spec = asyncrt.Spec.command(["/no/such/program"])
        (absent,) = await asyncio.gather(engine.run("bad", spec=spec), return_exceptions=True)
        assert isinstance(absent, asyncrt.StartFailed)
        assert absent.path == "/no/such/program"
        assert await engine.list() == []
    assert names(root) == []


def main() -> None:
    """Live it under the root in argv."""
    asyncio.run(whole_life(sys.argv[1]))
    sys.stdout.write("lived\n")
