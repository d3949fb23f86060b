"""The supervisor's connections, its exit records, and what it imports."""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import sys
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from asyncrt.launch import frames
from asyncrt.state import ExitResult
from asyncrt.supervisor.clients import Connection
from asyncrt.supervisor.exits import ending, exit_json
from tests.helpers.containers import frame
from tests.helpers.processes import REPOSITORY, run_python


class Clients:
    """What a connection needs of the supervisor: somebody who polls, and somebody who listens."""

    def __init__(self) -> None:
        self.loop = self
        self.connections: set[Connection] = set()
        self.heard: list[dict[str, Any]] = []
        self._handlers: dict[int, tuple[Callable[[int], None], int]] = {}

    def listen(self, fd: int, handler: Callable[[int], None], events: int = select.POLLIN) -> None:
        self._handlers[fd] = handler, events

    def ignore(self, fd: int) -> None:
        self._handlers.pop(fd, None)

    def lost(self, client: Connection) -> None:
        self.connections.discard(client)

    def serve(self, client: Connection, message: dict[str, Any], fds: list[int]) -> None:
        self.heard.append(message)

    def turn(self) -> None:
        poller = select.poll()
        for fd, (_, events) in self._handlers.items():
            poller.register(fd, events)
        for fd, ready in poller.poll(20_000):
            self._handlers[fd][0](ready)


def connected() -> tuple[Clients, Connection, socket.socket]:
    ours, theirs = socket.socketpair()
    clients = Clients()
    connection = Connection(clients, ours)  # type: ignore[arg-type]  # a stand-in
    clients.connections.add(connection)
    return clients, connection, theirs


def test_a_client_that_leaves_too_much_unread_is_dropped() -> None:
    clients, connection, theirs = connected()
    with theirs:
        for _ in range(100):
            connection.send({"x": "y" * 100_000})
        assert not connection.open
        assert not clients.connections
        assert not connection.backlog
        connection.send({})
        connection.close()


def test_what_a_client_reads_late_arrives_whole() -> None:
    clients, connection, theirs = connected()
    with theirs:
        message = {"x": "y" * 700_000}
        connection.send(message)
        connection.send({"last": 1})
        assert connection.backlog
        decoder = frames.Decoder()
        received: list[dict[str, Any]] = []
        while len(received) < 2:
            decoder.feed(theirs.recv(1 << 20), [])
            while (found := decoder.pop()) is not None:
                received.append(found[0])
            if connection.backlog:
                clients.turn()
        assert received == [{"v": 1, **message}, {"v": 1, "last": 1}]
        assert not connection.backlog
        connection.close()


def test_bad_frames_are_answered_and_hung_up_on_and_what_came_before_counts() -> None:
    clients, connection, theirs = connected()
    with theirs:
        theirs.sendall(frame({"a": 1}) + frame([]) + frame({"b": 2}))
        clients.turn()
        assert clients.heard == [{"a": 1}]
        assert not connection.open
        answer, _ = frames.receive_message(theirs)
        assert "bad message" in answer["error"]
        assert theirs.recv(10) == b""


def test_a_client_that_goes_is_forgotten() -> None:
    clients, connection, theirs = connected()
    theirs.close()
    clients.turn()
    assert not connection.open
    assert not clients.connections
    assert not clients._handlers


@pytest.mark.parametrize(
    ("code", "number", "started_at"), [(0, None, None), (None, 9, "2026-01-31T12:00:00.000001Z")]
)
def test_an_exit_record_made_by_hand_is_what_readers_expect(
    code: int | None, number: int | None, started_at: str | None
) -> None:
    data = exit_json("0" * 32, code=code, signal=number, reason="exit", started_at=started_at)
    found = json.loads(data)
    assert found["schema"] == 1
    assert found["instance"] == "0" * 32
    fields = {name: found[name] for name in ExitResult.__struct_fields__}
    result = msgspec.convert(fields, ExitResult)
    assert (result.exit_code, result.signal, result.reason) == (code, number, "exit")
    assert (result.started_at is None) == (started_at is None)
    assert result.finished_at is not None


def test_a_wait_status_is_told_by_code_or_by_signal() -> None:
    assert ending(0) == (0, None, "exit")
    assert ending(3 << 8) == (3, None, "exit")
    assert ending(signal.SIGKILL) == (None, signal.SIGKILL, "signal")
    assert ending(signal.SIGSEGV | 0x80) == (None, signal.SIGSEGV, "signal")  # with a core dump
    pid = os.posix_spawn("/bin/sh", ["sh", "-c", "exit 255"], {})
    assert ending(os.waitpid(pid, 0)[1]) == (255, None, "exit")


FORBIDDEN = (
    "asyncio typing dataclasses anyio aiofiles portalocker msgspec psutil rich click logging "
    "subprocess threading multiprocessing inspect importlib.metadata ssl "
    "json re enum signal socket selectors"
)


def test_a_supervisor_imports_little_and_only_from_the_standard_library() -> None:
    """What a live one holds is what its fork server imported, and that is asked for here."""
    code = f"""
import sys
sys.path.append({REPOSITORY!r})
import asyncrt.supervisor.fork_server
print(*sorted(sys.modules))
"""
    done = run_python(code, flags=("-I", "-S", "-X", "utf8"))
    assert done.returncode == 0, done.stderr
    modules = done.stdout.split()
    assert not set(modules) & set(FORBIDDEN.split())
    ours = [each for each in modules if each.startswith("asyncrt")]
    others = [each.partition(".")[0].lstrip("_") for each in modules if each not in ours]
    known = {each.lstrip("_") for each in sys.stdlib_module_names} | {"main__"}
    assert not [each for each in others if each not in known]
    assert len(modules) < 120, modules
    assert {each.split(".")[1] for each in ours if "." in each} <= {
        "_cgroups",
        "_cjson",
        "_csignal",
        "_durable",
        "_events",
        "_libc",
        "_paths",
        "_procid",
        "clock",
        "launch",
        "supervisor",
    }
