"""export: what a container wrote to its layer, as a stream of bytes that nobody has to hold."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import socket
from typing import TYPE_CHECKING

import msgspec

from asyncrt.container.change import unresponsive
from asyncrt.container.context import patience
from asyncrt.errors import ExportFailed, SandboxUnresponsive
from asyncrt.sandbox import ChannelClosed

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from asyncrt.container.context import Context
    from asyncrt.ids import ContainerId
    from asyncrt.state import Record

_log = logging.getLogger("asyncrt.container")

_PIECE = 1 << 18
_LENGTH = 4  # bytes of a length, see asyncrt.launch.layer


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
        pieces = _pieces(container_id, ours)
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


async def _pieces(container_id: str, sock: socket.socket) -> AsyncGenerator[bytes, None]:
    loop = asyncio.get_running_loop()
    head = b""
    left = 0
    while True:
        data = await loop.sock_recv(sock, _PIECE)
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
                    await _read_report(container_id, sock, data)
                    return


async def _read_report(container_id: str, sock: socket.socket, said: bytes) -> None:
    loop = asyncio.get_running_loop()
    while data := await loop.sock_recv(sock, _PIECE):
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
