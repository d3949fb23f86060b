"""run and running: a container for the time of one call or one block."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

import msgspec

from asyncrt._threads import finish
from asyncrt.container import DEVNULL, INHERIT, PIPE
from asyncrt.errors import SpecInvalid
from asyncrt.state import ExitResult

if TYPE_CHECKING:
    import os
    from collections.abc import AsyncIterator, Coroutine

    from asyncrt.container import (
        Container,
        Lease,
        PassedFds,
        StreamTarget,
        Supervision,
        TerminalChoice,
    )
    from asyncrt.oci import Spec
    from asyncrt.platforms import Overlay

    PathLike = str | os.PathLike[str]


class RunResult(msgspec.Struct, frozen=True):
    """What a run left: how it ended, and all it wrote to those streams that were PIPE.

    What it wrote to a terminal is its `stdout`.
    """

    exit: ExitResult
    stdout: bytes | None
    stderr: bytes | None


class Runs:
    """What Engine has for containers that nobody needs afterwards."""

    if TYPE_CHECKING:  # Engine's own

        async def create(
            self,
            id: str,
            *,
            spec: Spec | None = None,
            bundle: PathLike | None = None,
            stdin: StreamTarget = DEVNULL,
            stdout: StreamTarget = INHERIT,
            stderr: StreamTarget = INHERIT,
            deadline_seconds: float | None = None,
            lease: Lease | None = None,
            terminal: TerminalChoice | None = None,
            console_socket: PathLike | None = None,
            pass_fds: PassedFds | None = None,
            supervision: Supervision = "own",
            overlay: Overlay | None = None,
            timeout: float | None = None,
        ) -> Container:
            """See Engine.create."""

    async def run(
        self,
        id: str,
        *,
        spec: Spec | None = None,
        bundle: PathLike | None = None,
        input: bytes | None = None,
        stdin: StreamTarget = DEVNULL,
        stdout: StreamTarget = INHERIT,
        stderr: StreamTarget = INHERIT,
        deadline_seconds: float | None = None,
        lease: Lease | None = None,
        terminal: TerminalChoice | None = None,
        pass_fds: PassedFds | None = None,
        overlay: Overlay | None = None,
        timeout: float | None = None,
    ) -> RunResult:
        """Create, start, wait, destroy: how it ended and what it wrote to PIPE streams, or a terminal.

        `input` is written to its standard input. Other arguments and errors are create's and start's.
        If cancelled, or on an error, the container is stopped and destroyed first.
        """
        data: object = input
        if data is not None and not isinstance(data, bytes | bytearray | memoryview):
            why = f"input is {data!r:.40}, must be bytes: a text's are text.encode()"
            raise SpecInvalid(json_path="", why=why)
        if input is not None and not (terminal or (terminal is None and _on_terminal(spec))):
            stdin = PIPE
        async with _temporary(
            self.create(
                id,
                spec=spec,
                bundle=bundle,
                stdin=stdin,
                stdout=stdout,
                stderr=stderr,
                deadline_seconds=deadline_seconds,
                lease=lease,
                terminal=terminal,
                pass_fds=pass_fds,
                overlay=overlay,
                timeout=timeout,
            ),
            timeout,
        ) as container:
            return await attend(container, input, timeout)

    @contextlib.asynccontextmanager
    async def running(
        self,
        id: str,
        *,
        spec: Spec | None = None,
        bundle: PathLike | None = None,
        stdin: StreamTarget = DEVNULL,
        stdout: StreamTarget = INHERIT,
        stderr: StreamTarget = INHERIT,
        deadline_seconds: float | None = None,
        lease: Lease | None = None,
        terminal: TerminalChoice | None = None,
        pass_fds: PassedFds | None = None,
        overlay: Overlay | None = None,
        timeout: float | None = None,
    ) -> AsyncIterator[Container]:
        """A container that runs for the time of an `async with` block and is destroyed at its end.

        Arguments and errors are create's and start's. If cancelled, or on an error, it is stopped
        and destroyed first.
        """
        async with _temporary(
            self.create(
                id,
                spec=spec,
                bundle=bundle,
                stdin=stdin,
                stdout=stdout,
                stderr=stderr,
                deadline_seconds=deadline_seconds,
                lease=lease,
                terminal=terminal,
                pass_fds=pass_fds,
                overlay=overlay,
                timeout=timeout,
            ),
            timeout,
        ) as container:
            await container.start(timeout=timeout)
            yield container


@contextlib.asynccontextmanager
async def _temporary(
    creating: Coroutine[None, None, Container], timeout: float | None
) -> AsyncIterator[Container]:
    container = await creating
    try:
        yield container
    finally:
        await finish(container.destroy(timeout=timeout))


def _on_terminal(spec: Spec | None) -> bool:
    process = None if spec is None else spec.config.process
    return process is not None and bool(process.terminal)


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
