"""Containers for tests: what to run in them, FIFOs that order things, a bare client of supervisors."""

from __future__ import annotations

import array
import asyncio
import contextlib
import json
import os
import signal
import socket
from typing import TYPE_CHECKING, Any, Self

import psutil

import asyncrt
from asyncrt import _paths, _procid
from asyncrt.sandbox import unix
from asyncrt.state import Record, read_record
from tests.helpers.processes import until, wait_gone

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

# A safety net only: nothing is ordered by it.
SECONDS = 20.0

_SPARE = "asyncrt:spare"


def sleeper(**options: Any) -> asyncrt.Spec:
    """Runs until it is killed."""
    return asyncrt.Spec.command(["/bin/sleep", "1000"], **options)


def shell(script: str, *args: str, **options: Any) -> asyncrt.Spec:
    """Runs a script of the system's shell; `args` are its $1, $2, …"""
    return asyncrt.Spec.command(["/bin/sh", "-c", script, "sh", *args], **options)


def shell_hook(script: str, *args: str, **options: Any) -> asyncrt.Hook:
    """A hook that is a script, so that nothing has to be written to disk to be executed."""
    return asyncrt.Hook(path="/bin/sh", args=("sh", "-c", script, "sh", *args), **options)


async def started(
    engine: asyncrt.Engine, id: str, spec: asyncrt.Spec, **options: Any
) -> asyncrt.Container:
    """A running container."""
    container = await engine.create(id, spec=spec, **options)
    await container.start()
    return container


@contextlib.asynccontextmanager
async def destroyed(container: asyncrt.Container) -> AsyncIterator[asyncrt.Container]:
    """The container, destroyed at the end of the block."""
    try:
        yield container
    finally:
        await container.destroy()


async def line(stream: asyncio.StreamReader | None) -> str:
    """The next line a container wrote to its pipe, without its end; "" at the end of the stream."""
    assert stream is not None
    async with asyncio.timeout(SECONDS):
        return (await stream.readline()).decode().rstrip("\n")


async def rest(stream: asyncio.StreamReader | None) -> str:
    """All that is still to come from a pipe."""
    assert stream is not None
    async with asyncio.timeout(SECONDS):
        return (await stream.read()).decode()


def record_of(container: asyncrt.Container, root: str) -> Record:
    """Its record, as it is on disk."""
    return read_record(root, container.id)


def supervisor_of(container: asyncrt.Container, root: str) -> int:
    """The pid of its supervisor."""
    supervisor = record_of(container, root).supervisor
    assert supervisor is not None
    return supervisor.pid


def init_of(container: asyncrt.Container, root: str) -> int:
    """The pid of its init, alive or not."""
    init = record_of(container, root).init
    assert init is not None
    return init.pid


def directory_of(container: asyncrt.Container, root: str) -> str:
    """ROOT/ID.d."""
    return f"{root}/{container.id}{_paths.DIRECTORY}"


async def gone(pid: int) -> None:
    """Wait until a process has ended, without blocking the loop for long."""
    await asyncio.to_thread(wait_gone, pid)  # noqa: TID251 - a test's own wait


async def in_state(pid: int, states: str) -> None:
    """Wait until proc(5) shows a process in one of the states: T stopped, S sleeping, Z zombie.

    A parent whose vfork'd child is stopped before its exec shows D: it can't go on either.
    """

    def is_so() -> bool:
        found = _procid.stat(pid)
        return found is not None and found.state in states

    await until(is_so, f"pid {pid} is in state {states}")


async def spare_pair(engine: asyncrt.Engine) -> tuple[int, int]:
    """The pids of the supervisor and the init that the fork server has ready for the next create."""
    server = engine._context.launcher.server
    if not server.pid:
        await engine.run("first", spec=asyncrt.Spec.command(["/bin/true"]))
    found: list[tuple[int, int]] = []

    def is_ready() -> bool:
        for above in psutil.Process(server.pid).children():
            with contextlib.suppress(psutil.NoSuchProcess):  # of one that is ending
                found.extend((above.pid, b.pid) for b in above.children() if b.name() == _SPARE)
        return bool(found)

    await until(is_ready, "a spare pair")
    return found[0]


def is_alive(pid: int) -> bool:
    """Whether there is such a process that hasn't ended."""
    found = _procid.stat(pid)
    return found is not None and found.state not in {"Z", "X"}


def kill_now(pid: int) -> None:
    """SIGKILL, and don't wait."""
    os.kill(pid, signal.SIGKILL)


class Fifo:
    """A FIFO by path: containers and hooks write lines into it, or wait for one from it."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = os.fspath(path)
        os.mkfifo(self.path, 0o600)
        os.chmod(self.path, 0o666)
        # Open for both, so that no open of a peer's blocks and no end-of-file comes between lines.
        self._fd = os.open(self.path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        self._unread = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        os.close(self._fd)

    def say(self, text: str = "go") -> None:
        """Give one line to whoever reads next."""
        os.write(self._fd, text.encode() + b"\n")

    async def line(self) -> str:
        """The next line somebody wrote. If cancelled, none is lost."""
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(SECONDS):
            while b"\n" not in self._unread:
                readable = asyncio.Event()
                loop.add_reader(self._fd, readable.set)
                try:
                    await readable.wait()
                finally:
                    loop.remove_reader(self._fd)
                with contextlib.suppress(BlockingIOError):
                    self._unread += os.read(self._fd, 65536)
        found, _, self._unread = self._unread.partition(b"\n")
        return found.decode()

    def lines(self) -> list[str]:
        """All lines that were written by now."""
        with contextlib.suppress(BlockingIOError):
            while data := os.read(self._fd, 65536):
                self._unread += data
        found = self._unread.decode().splitlines()
        self._unread = b""
        return found


def frame(message: object) -> bytes:
    """One message as it goes over a control socket: its length, then its JSON."""
    payload = json.dumps(message).encode()
    return len(payload).to_bytes(4, "big") + payload


class Client:
    """Talks to a supervisor byte by byte, as no client of ours would."""

    def __init__(self, directory: str, name: str = _paths.CONTROL) -> None:
        self.sock: socket.socket = unix.connect(directory, name)
        self.sock.settimeout(SECONDS)
        self._unread = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.sock.close()

    def send(self, message: dict[str, object], fds: Sequence[int] = ()) -> None:
        """One well-formed frame."""
        whole = frame({"v": 1, "fds": len(fds), **message})
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
        assert self.sock.sendmsg([whole], rights) == len(whole)

    def raw(self, data: bytes) -> None:
        """Any bytes; a supervisor that has hung up already is fine."""
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self.sock.sendall(data)

    def ask(self, operation: str, fds: Sequence[int] = (), **fields: object) -> dict[str, Any]:
        """Send a request and return the next message."""
        self.send({"op": operation, "req": 1, **fields}, fds)
        found = self.receive()
        assert found is not None
        return found

    def receive(self) -> dict[str, Any] | None:
        """The next message, or None when the supervisor hung up."""
        size = self._take(4)
        payload = self._take(int.from_bytes(size, "big")) if size is not None else None
        if payload is None:
            return None
        message: dict[str, Any] = json.loads(payload)
        return message

    def _take(self, size: int) -> bytes | None:
        while len(self._unread) < size:
            try:
                data = self.sock.recv(65536)
            except ConnectionResetError:
                return None
            if not data:
                return None
            self._unread += data
        taken, self._unread = self._unread[:size], self._unread[size:]
        return taken

    def hung_up(self) -> bool:
        """Whether the supervisor hangs up, whatever it says before."""
        while self.receive() is not None:
            pass
        return True
