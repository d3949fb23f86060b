"""One connection to a supervisor: requests with answers, and news of exits, for any number of users.

The supervisor tells every connection of the container's exit, so an open channel is a subscription.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from typing import TYPE_CHECKING

from asyncrt import _forks
from asyncrt.launch import frames

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any


class ChannelClosed(Exception):  # noqa: N818 - internal: verbs turn it into what it means for them
    """The supervisor's end closed before it answered."""


class _Unsent:
    """A frame, or the rest of one, that waits for room; its descriptors go with its first byte."""

    __slots__ = ("begun", "fds", "frame", "on_sent")

    def __init__(
        self, frame: bytes, fds: Sequence[int], on_sent: Callable[[], None], *, begun: bool
    ) -> None:
        self.frame = frame
        self.fds = fds
        self.on_sent = on_sent
        self.begun = begun


class Channel:
    """A connected socket to a supervisor. Belongs to the loop that made it."""

    def __init__(self, sock: socket.socket) -> None:
        """Take over a non-blocking connected socket."""
        self._sock = _forks.close_in_children(sock, socket.socket.close)
        self._loop = asyncio.get_running_loop()
        self._decoder = frames.Decoder()
        self._backlog: list[_Unsent] = []
        self._requests = 0
        self._pending: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._exec_exits: dict[int, asyncio.Future[dict[str, Any] | None]] = {}
        self._greeting: asyncio.Future[dict[str, Any]] | None = None
        self._early: dict[str, Any] | None = None
        self.exit: dict[str, Any] | None = None
        self.done = asyncio.Event()  # the exit is known, or the other end closed
        self.over = asyncio.Event()  # this end is closed
        self.on_close: Callable[[], None] | None = None
        self._loop.add_reader(sock.fileno(), self._readable)

    @property
    def closed(self) -> bool:
        """Whether the connection is gone."""
        return self._sock.fileno() < 0

    async def request(
        self,
        operation: str,
        fds: Sequence[int] = (),
        on_number: Callable[[int], None] | None = None,
        **fields: object,
    ) -> dict[str, Any]:
        """Ask and wait for the answer; the descriptors stay the caller's.

        `on_number` hears the request's number before it is sent. Raises ChannelClosed; OSError when
        it couldn't be sent, and then nothing was asked.
        If cancelled, the answer, when it comes, is dropped; undoing it is up to the caller.
        """
        self._requests += 1
        number = self._requests
        if on_number is not None:
            on_number(number)
        answer: asyncio.Future[dict[str, Any]] = self._loop.create_future()
        self._pending[number] = answer
        try:
            await self.send({"op": operation, "req": number, **fields}, fds)
            return await answer
        finally:
            self._pending.pop(number, None)

    async def send(self, message: dict[str, Any], fds: Sequence[int] = ()) -> None:
        """Send one message, waiting only while the socket is full; the descriptors stay ours.

        Raises ChannelClosed, and OSError when nothing of it could be sent. If cancelled while the
        socket is full, what has begun to go is sent to its end, as half a frame must not be followed by
        another, and what hasn't is dropped.
        """
        if self.closed:
            raise ChannelClosed
        if fds:
            message = {**message, "fds": len(fds)}
        await self._send_frame(frames.encode(message), fds)

    async def send_rest(self, rest: bytes) -> None:
        """Send what is left of a frame that was begun before this channel was made.

        Raises and, if cancelled, behaves as send does.
        """
        if rest:
            await self._send_frame(rest, (), begun=True)

    async def _send_frame(self, frame: bytes, fds: Sequence[int], *, begun: bool = False) -> None:
        sent = self._loop.create_future()

        def on_sent() -> None:
            if not sent.done():
                sent.set_result(None)

        unsent = self._send_soon(frame, fds, on_sent, begun=begun)
        if unsent is None:
            return
        try:
            await sent
        except asyncio.CancelledError:
            if not unsent.begun and unsent in self._backlog:
                self._backlog.remove(unsent)
            raise
        if self.closed:
            raise ChannelClosed

    def tell(self, message: dict[str, Any]) -> None:
        """Send a small message now or as soon as there is room, and nothing to a channel that is closed."""
        with contextlib.suppress(ChannelClosed, OSError):
            if not self.closed:
                self._send_soon(frames.encode(message))

    def send_nowait(self, message: dict[str, Any]) -> bool:
        """Send a small message now or, if the socket is full or closed, not at all; whether it goes."""
        if self.closed or self._backlog:
            return False
        try:
            self._send_soon(frames.encode(message))
        except (ChannelClosed, OSError):
            return False
        return True

    def ask(
        self, operation: str, fds: Sequence[int], **fields: object
    ) -> asyncio.Future[dict[str, Any]]:
        """Ask now, or as soon as there is room; the answer to come, which is to be awaited or cancelled.

        The descriptors stay the caller's and have to be open until then. Raises ChannelClosed, and
        OSError when nothing could be sent.
        """
        if self.closed:
            raise ChannelClosed
        self._requests += 1
        number = self._requests
        message = {"op": operation, "req": number, **fields, "fds": len(fds)}
        self._send_soon(frames.encode(message), fds)
        answer: asyncio.Future[dict[str, Any]] = self._loop.create_future()
        self._pending[number] = answer
        answer.add_done_callback(lambda _: self._pending.pop(number, None))
        return answer

    def _send_soon(
        self,
        frame: bytes,
        fds: Sequence[int] = (),
        on_sent: Callable[[], None] = lambda: None,
        *,
        begun: bool = False,
    ) -> _Unsent | None:
        """Send it, or keep what doesn't go at once, which is returned."""
        if not self._backlog:
            size = len(frame)
            frame, fds = self._push(frame, fds)
            if not frame:
                return None
            begun = begun or len(frame) < size
        unsent = _Unsent(frame, fds, on_sent, begun=begun)
        self._backlog.append(unsent)
        self._loop.add_writer(self._sock.fileno(), self._writable)
        return unsent

    def _push(self, frame: bytes, fds: Sequence[int]) -> tuple[bytes, Sequence[int]]:
        """What is left of the frame and the descriptors after one try."""
        try:
            count = frames.send(self._sock, frame, fds)
        except BlockingIOError:
            return frame, fds
        except (BrokenPipeError, ConnectionResetError) as error:
            # What it said last is still to be read: the reader closes the channel.
            raise ChannelClosed from error
        return frame[count:], ()

    def _writable(self) -> None:
        while self._backlog:
            first = self._backlog[0]
            try:
                frame, first.fds = self._push(first.frame, first.fds)
            except (ChannelClosed, OSError):
                self.close()
                return
            first.begun = first.begun or len(frame) < len(first.frame)
            first.frame = frame
            if frame:
                return
            del self._backlog[0]
            first.on_sent()
        self._loop.remove_writer(self._sock.fileno())

    async def greeting(self) -> dict[str, Any]:
        """The next that a launched process reports by itself. Raises ChannelClosed.

        If cancelled, the report is dropped with the channel, which the caller then closes.
        """
        if self._early is not None:
            early, self._early = self._early, None
            return early
        if self.closed:
            raise ChannelClosed
        self._greeting = self._loop.create_future()
        return await self._greeting

    def expect_exec(self, number: int) -> asyncio.Future[dict[str, Any] | None]:
        """How the exec asked for by request `number` ends; None if the channel closes first."""
        future = self._exec_exits[number] = self._loop.create_future()
        return future

    def forget_exec(self, number: int) -> None:
        """Nobody will ask for it."""
        self._exec_exits.pop(number, None)

    @property
    def expects(self) -> bool:
        """Whether an exec that was asked for here still runs: only this connection hears its end."""
        return bool(self._exec_exits)

    def _readable(self) -> None:
        """Read all there is: uvloop tells once of a socket that the other end left with an error."""
        while not self.closed and self._read():
            pass

    def _read(self) -> bool:
        """Whether there may be more."""
        try:
            data, fds = frames.receive(self._sock, 1 << 18)
            self._decoder.feed(data, fds)
            while (found := self._decoder.pop()) is not None:
                self._hear(found[0])
        except BlockingIOError:
            return False
        except (OSError, frames.BadFrame):
            data = b""
        if not data:
            self.close()
        return bool(data)

    def _hear(self, message: dict[str, Any]) -> None:
        if "re" in message:
            answer = self._pending.get(message["re"])
            if answer is not None and not answer.done():
                answer.set_result(message)
        elif message.get("event") == "exit":
            self.exit = message["exit"]
            self.done.set()
        elif message.get("event") == "exec-exit":
            future = self._exec_exits.pop(message["req"], None)
            if future is not None and not future.done():
                future.set_result(message["exit"])
        elif self._greeting is not None and not self._greeting.done():
            self._greeting.set_result(message)
        else:
            self._early = message

    async def hang_up(self) -> None:
        """Say that nothing more will come, and wait until the other process has ended.

        If cancelled, the other process still hears it.
        """
        if not self.closed:
            self._backlog.clear()
            self._loop.remove_writer(self._sock.fileno())
            with contextlib.suppress(OSError):
                self._sock.shutdown(socket.SHUT_WR)
            await self.over.wait()

    def close(self) -> None:
        """Close; whoever waits hears ChannelClosed. Idempotent."""
        if self.closed:
            return
        self._loop.remove_reader(self._sock.fileno())
        self._loop.remove_writer(self._sock.fileno())
        self._sock.close()
        self._decoder.close()
        self.done.set()
        self.over.set()
        if self.on_close is not None:
            self.on_close()
        backlog, self._backlog = self._backlog, []
        for each in backlog:
            each.on_sent()
        waiting = [*self._pending.values()]
        if self._greeting is not None:
            waiting.append(self._greeting)
        for future in waiting:
            if not future.done():
                future.set_exception(ChannelClosed())
                future.exception()  # one that nobody awaits any more is no error
        exits, self._exec_exits = self._exec_exits, {}
        for exec_exit in exits.values():
            if not exec_exit.done():
                exec_exit.set_result(None)
