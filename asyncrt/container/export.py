"""export: what a container wrote to its layer, as a stream of bytes that nobody has to hold."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import socket
from functools import partial
from typing import TYPE_CHECKING

import msgspec

from asyncrt import _procid
from asyncrt._threads import run_blocking
from asyncrt.container.change import check_timeout, unresponsive
from asyncrt.container.context import patience
from asyncrt.errors import ExportFailed, SandboxUnresponsive
from asyncrt.launch import tree
from asyncrt.sandbox import ChannelClosed

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable

    from asyncrt.container.context import Context
    from asyncrt.ids import ContainerId
    from asyncrt.state import Record

_log = logging.getLogger("asyncrt.container")

_PIECE = 1 << 18
_LENGTH = 4  # bytes of a length, see asyncrt.launch.layer
_SILENT_SECONDS = (
    60.0  # how long its writer may take to the next byte, a tree of many files to be read
)


class _Report(msgspec.Struct, frozen=True):
    """What a stream ends with."""

    left_out: list[tuple[str, str]] = []
    count: int = 0
    failed: int | None = None
    path: str = ""


async def export(
    context: Context, container_id: ContainerId, instance: str, timeout: float | None
) -> AsyncGenerator[bytes, None]:
    """The layer as a tar archive, piece by piece; whoever takes them sets the pace.

    Raises ContainerNotFound, ExportFailed, SandboxUnresponsive. If cancelled, nothing stays open and
    its writer ends.
    """
    check_timeout(timeout)
    record, _ = await context.look(container_id, instance)
    if record.gofer is None:
        why = "it has no layer of its own; make it with overlay=, '--overlay'"
        raise ExportFailed(container_id=container_id, why=why)
    try:
        ours, theirs = socket.socketpair()
    except OSError as error:
        raise _failed(container_id, "its stream", error.errno) from error
    try:
        ours.setblocking(False)
        try:
            await _ask(context, record, theirs, patience(timeout))
        finally:
            theirs.close()
        receive = partial(_receive, ours, record, timeout)
        pieces = _pieces(container_id, receive)
        async with contextlib.aclosing(pieces):
            async for data in pieces:
                yield data
    finally:
        ours.close()


async def _ask(context: Context, record: Record, theirs: socket.socket, seconds: float) -> None:
    try:
        with context.channel(record, "export") as channel:
            async with asyncio.timeout(seconds):
                answer = await channel.request("export", [theirs.fileno()])
    except SandboxUnresponsive:  # a TimeoutError too, but not ours
        await context.look(record.id, record.instance)  # it may have been destroyed meanwhile
        raise
    except TimeoutError:
        raise unresponsive(record.id, "export", seconds) from None
    except ChannelClosed:
        await context.look(record.id, record.instance)  # it may have been destroyed meanwhile
        why = "its supervisor hung up without an answer"
        raise SandboxUnresponsive(container_id=record.id, operation="export", why=why) from None
    except OSError as error:
        raise _failed(record.id, "asking for it", error.errno) from error
    if "failed" in answer:
        raise _failed(record.id, "its gofer can't be asked", answer["failed"]["errno"])
    if "ok" not in answer:
        why = "nobody has its layer any more: its gofer was killed"
        raise ExportFailed(container_id=record.id, why=why)


def _failed(container_id: str, why: str, number: int | None) -> ExportFailed:
    return ExportFailed(container_id=container_id, why=why, errno=number or errno.EIO)


async def _receive(sock: socket.socket, record: Record, timeout: float | None) -> bytes:
    """What its writer says next, b"" when it has ended. Raises ExportFailed when it says nothing."""
    seconds = timeout or _SILENT_SECONDS
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(seconds):
            return await loop.sock_recv(sock, _PIECE)
    except TimeoutError:
        stopped = await run_blocking(_stopped, record)
        silent = f"has sent nothing for {seconds:g} s"
        if stopped is not None:
            why = f"{stopped} is stopped, and {silent}; 'kill -CONT' it and export again"
        else:
            gofer = "its gofer" if record.gofer is None else f"its gofer (pid {record.gofer.pid})"
            why = f"{gofer} {silent}; see to the file system of its layer and export again"
        raise ExportFailed(container_id=record.id, why=why) from None


def _stopped(record: Record) -> str | None:
    """Which of those that write it a signal has stopped, if one has. Blocks for reads of /proc."""
    gofer = record.gofer
    if gofer is None or not _procid.alive(gofer):
        return None
    for pid in (gofer.pid, *tree.descendants(gofer.pid)):
        found = _procid.stat(pid)
        if found is not None and found.state in {"T", "t"}:
            above = "" if pid == gofer.pid else f" (pid {gofer.pid})'s process"
            return f"its gofer{above} (pid {pid})"
    return None


async def _pieces(
    container_id: str, receive: Callable[[], Awaitable[bytes]]
) -> AsyncGenerator[bytes, None]:
    head = b""
    left = 0
    while True:
        data = await receive()
        if not data:
            why = "its gofer was killed in the middle of it"
            raise ExportFailed(container_id=container_id, why=why)
        while data:
            if left:
                yield data[:left]
                data, left = data[left:], max(0, left - len(data))
                continue
            head, data = (head + data)[:_LENGTH], data[_LENGTH - len(head) :]
            if len(head) == _LENGTH:
                left, head = int.from_bytes(head, "big"), b""
                if not left:
                    await _read_report(container_id, receive, data)
                    return


async def _read_report(
    container_id: str, receive: Callable[[], Awaitable[bytes]], said: bytes
) -> None:
    while data := await receive():
        said += data
    try:
        report = msgspec.json.decode(said, type=_Report)
    except msgspec.MsgspecError:
        why = "its gofer was killed at the end of it"
        raise ExportFailed(container_id=container_id, why=why) from None
    if report.failed is not None:
        raise _failed(container_id, report.path, report.failed)
    if report.count:
        named = ", ".join(f"{path!r} ({why})" for path, why in report.left_out)
        more = ", …" if report.count > len(report.left_out) else ""
        _log.warning(
            "container %s: the export leaves out %d: %s%s",
            *(container_id, report.count, named, more),
        )
