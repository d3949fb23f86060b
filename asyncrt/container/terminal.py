"""Terminals as a client has them: attached to a container's, or an exec's own."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
import termios
from typing import TYPE_CHECKING, Self

from asyncrt import _forks, _procid
from asyncrt import status as statuses
from asyncrt.container.change import check_timeout, unresponsive
from asyncrt.container.context import patience
from asyncrt.errors import (
    InvalidTransition,
    NoOutput,
    SandboxUnresponsive,
    SpecInvalid,
    StartFailed,
)
from asyncrt.launch import frames
from asyncrt.sandbox import ChannelClosed, unix
from asyncrt.status import Status

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from asyncrt.container.context import Context
    from asyncrt.ids import ContainerId
    from asyncrt.state import Record

PathLike = str | os.PathLike[str]
TerminalChoice = bool | tuple[int, int]  # whether there is one, or its rows and columns

_LARGEST = 65535  # of a window, in rows or columns (struct winsize)


class Attachment:
    """A terminal, from the side of whoever sits at it. Belongs to its event loop.

    Bytes go both ways as they are: what is read has the terminal's escape sequences, and a Ctrl-C
    that is written (byte 3) is one. Closing it lets go; the program notices nothing, unless the
    terminal was its exec's own: that hangs up.
    """

    def __init__(self, fd: int, resize: Callable[[int, int], Awaitable[None]] | None) -> None:
        """Made by Container.attach and Container.exec; takes over the descriptor."""
        os.set_blocking(fd, False)
        self._fd = fd
        self._resize = resize
        self._writing = asyncio.Lock()
        self._loop = asyncio.get_running_loop()
        self._waiting: set[asyncio.Future[None]] = set()
        _forks.close_in_children(self, Attachment._forsake)

    def _forsake(self) -> None:
        """Let go, in a forked child: what isn't read there would hold the program up."""
        if self._fd >= 0:
            fd, self._fd = self._fd, -1
            os.close(fd)

    def fileno(self) -> int:
        """The descriptor: a stream socket, or a terminal's master."""
        return self._fd

    async def read(self, limit: int = 65536) -> bytes:
        """What was written there next, at most `limit` bytes; b"" once the terminal has ended.

        One reader at a time. If cancelled, nothing is lost.
        """
        while self._fd >= 0:
            try:
                return os.read(self._fd, limit)
            except BlockingIOError:
                await self._ready(self._loop.add_reader, self._loop.remove_reader)
            except OSError as error:
                if error.errno not in {errno.EIO, errno.ECONNRESET}:  # EIO: nobody has it open
                    raise
                break
        return b""

    async def write(self, data: bytes) -> None:
        """Type; waits while the terminal takes no more. What comes after its end is dropped.

        If cancelled, a part may have been written.
        """
        async with self._writing:
            view = memoryview(data)
            while view and self._fd >= 0:
                try:
                    view = view[os.write(self._fd, view) :]
                except BlockingIOError:
                    await self._ready(self._loop.add_writer, self._loop.remove_writer)
                except OSError as error:
                    if error.errno not in {errno.EIO, errno.EPIPE, errno.ECONNRESET}:
                        raise
                    return

    async def _ready(self, add: Callable[..., None], remove: Callable[[int], object]) -> None:
        ready: asyncio.Future[None] = self._loop.create_future()
        fd = self._fd

        def wake() -> None:
            if not ready.done():
                ready.set_result(None)

        add(fd, wake)
        self._waiting.add(ready)
        try:
            await ready
        finally:
            self._waiting.discard(ready)
            if self._fd == fd:
                remove(fd)

    async def resize(self, rows: int, columns: int) -> None:
        """Tell the terminal its window's size; the program in its foreground gets SIGWINCH.

        Raises SpecInvalid for a size no terminal can have. If cancelled, it may have been told.
        """
        check_size(rows, columns)
        if self._resize is not None:
            await self._resize(rows, columns)
        elif self._fd >= 0:
            with contextlib.suppress(termios.error):  # it has ended
                termios.tcsetwinsize(self._fd, (rows, columns))

    def close(self) -> None:
        """Let go; whoever reads gets the end. Idempotent."""
        if self._fd >= 0:
            fd, self._fd = self._fd, -1
            self._loop.remove_reader(fd)
            self._loop.remove_writer(fd)
            os.close(fd)
            for each in self._waiting:
                if not each.done():
                    each.set_result(None)

    async def __aenter__(self) -> Self:
        """Use it as a context. If cancelled, nothing changes."""
        return self

    async def __aexit__(self, *error: object) -> None:
        """Close it. If cancelled, it is closed all the same."""
        self.close()


def planned(terminal: TerminalChoice, before: list[int] | None = None) -> list[int] | None:
    """The size of a terminal as a plan has it; None for none. Raises SpecInvalid."""
    if isinstance(terminal, bool):
        return (before or [0, 0]) if terminal else None
    try:
        rows, columns = terminal
        check_size(rows, columns)
    except SpecInvalid:
        raise
    except (TypeError, ValueError):
        raise SpecInvalid(
            json_path="",
            why=f"terminal is {terminal!r:.40}, must be True, False or (rows, columns)",
        ) from None
    return [rows, columns]


def check_size(rows: int, columns: int) -> None:
    """Raise SpecInvalid for a size that no terminal can have."""
    for name, value in (("rows", rows), ("columns", columns)):
        if not 0 <= value <= _LARGEST:
            raise SpecInvalid(
                json_path="", why=f"{name} of a terminal is {value!r}, not 0 to {_LARGEST}"
            )


async def attach(
    context: Context, container_id: ContainerId, instance: str, timeout: float | None
) -> Attachment:
    """A new client of the container's terminal; see Container.attach."""
    check_timeout(timeout)
    record, observed = await context.look(container_id, instance)
    if not record.terminal:
        why = "it has no terminal"
        if record.logs:
            why += "; logs(follow=True, tail=0), 'asyncrt logs -f', shows what it writes"
        else:
            why += "; create it with one (--tty), or with a log (--log) to see its output"
        raise NoOutput(container_id=container_id, operation="attach to", why=why)
    statuses.require(container_id, "attach", observed.status)
    try:
        ours, theirs = socket.socketpair()
    except OSError as error:
        raise context.unreachable(record, error) from error
    attachment = Attachment(
        ours.detach(), lambda rows, columns: _resize(context, record, rows, columns)
    )
    try:
        with theirs:
            await _ask(context, record, "attach", patience(timeout), theirs)
    except BaseException:
        attachment.close()
        raise
    return attachment


async def _resize(context: Context, record: Record, rows: int, columns: int) -> None:
    try:
        await _ask(context, record, "resize", patience(None), None, (rows, columns))
    except InvalidTransition:
        pass  # it has ended
    except SandboxUnresponsive:
        if record.supervisor is not None and _procid.alive(record.supervisor):
            raise


async def _ask(
    context: Context,
    record: Record,
    operation: str,
    seconds: float,
    stream: socket.socket | None = None,
    size: tuple[int, int] = (0, 0),
) -> None:
    answer: dict[str, object] = {"ended": True}
    with context.channel(record, operation) as channel:
        try:
            async with asyncio.timeout(seconds):
                fds = () if stream is None else (stream.fileno(),)
                answer = await channel.request(operation, fds, rows=size[0], columns=size[1])
        except TimeoutError:
            raise unresponsive(record.id, operation, seconds) from None
        except ChannelClosed:
            pass  # it went meanwhile, and the terminal with it
        except OSError as error:
            raise context.unreachable(record, error) from error
    if "ended" in answer:
        statuses.require(record.id, "attach", Status.STOPPED)
    if "ok" not in answer:
        raise NoOutput(
            container_id=record.id, operation="attach to", why=f"its supervisor answered {answer}"
        )


def take_terminal(sock: socket.socket) -> int | None:
    """The terminal that lies in the socket, or None."""
    try:
        _, fds = frames.receive(sock, 4096)
    except (OSError, frames.BadFrame):
        return None
    for fd in fds[1:]:
        os.close(fd)
    if fds and os.isatty(fds[0]):
        return fds[0]
    if fds:
        os.close(fds[0])
    return None


def connect_console(container_id: str, path: PathLike) -> socket.socket:
    """A connection to a console socket that listens. Raises StartFailed: it is dead or missing."""
    sock: socket.socket | None = None
    try:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        unix.connect_to(sock, os.fspath(path))
    except BaseException as error:
        if sock is not None:
            sock.close()
        if not isinstance(error, OSError):
            raise
        raise StartFailed(
            container_id=container_id,
            what="console socket",
            path=os.fspath(path),
            errno=errno.ENAMETOOLONG if error.errno is None else error.errno,
        ) from error
    return sock
