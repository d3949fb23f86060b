"""run and running: a container for the time of one call or one block."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

import msgspec

from asyncrt.state import ExitResult

if TYPE_CHECKING:
    from asyncrt.container import Container


class RunResult(msgspec.Struct, frozen=True):
    """What a run left: how it ended, and all it wrote to those streams that were PIPE.

    What it wrote to a terminal is its `stdout`.
    """

    exit: ExitResult
    stdout: bytes | None
    stderr: bytes | None


async def attend(container: Container, data: bytes | None, timeout: float | None) -> RunResult:
    """Start it, feed it, read all it says, wait for its end. If cancelled, it may still run.

    `timeout` is the start's.
    """
    if container.terminal:
        return await _attend_terminal(container, data, timeout)
    await container.start(timeout=timeout)
    try:
        async with asyncio.TaskGroup() as group:
            if container.stdin is not None:
                group.create_task(_feed(container.stdin, data or b""))
            out = group.create_task(_read(container.stdout))
            err = group.create_task(_read(container.stderr))
            ended = group.create_task(container.wait())
    except BaseExceptionGroup as group_error:
        # People catch what wait raises, e.g. that somebody else destroyed it, and not a group.
        raise group_error.exceptions[0] from None
    return RunResult(ended.result(), out.result(), err.result())


async def _attend_terminal(
    container: Container, data: bytes | None, timeout: float | None
) -> RunResult:
    async with await container.attach(timeout=timeout) as attached:
        await container.start(timeout=timeout)
        parts = []

        async def read() -> None:
            while part := await attached.read():
                parts.append(part)

        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(read())
                typing = group.create_task(attached.write(data or b""))
                ended = group.create_task(container.wait())
                await asyncio.wait((ended,))
                typing.cancel()  # nobody reads it any more
        except BaseExceptionGroup as group_error:
            raise group_error.exceptions[0] from None
    return RunResult(ended.result(), b"".join(parts), None)


async def _feed(stdin: asyncio.StreamWriter, data: bytes) -> None:
    # A program may end, or close its input, without reading all of it: that is its business.
    with contextlib.suppress(ConnectionError):
        if data:
            stdin.write(data)
            await stdin.drain()
    stdin.close()


async def _read(stream: asyncio.StreamReader | None) -> bytes | None:
    return None if stream is None else await stream.read()
