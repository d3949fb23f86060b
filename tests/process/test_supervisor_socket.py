"""The control socket: whatever comes over it, the supervisor lives on and others are served."""

from __future__ import annotations

import array
import asyncio
import contextlib
import json
import os
import resource
import signal
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

import asyncrt
from asyncrt import Engine, _paths
from asyncrt.sandbox import unix
from tests.helpers.capabilities import User
from tests.helpers.containers import (
    Client,
    directory_of,
    frame,
    rest,
    sleeper,
    started,
    supervisor_of,
)
from tests.helpers.processes import Interpreter


@pytest.fixture
async def web(engine: Engine) -> AsyncIterator[asyncrt.Container]:
    container = await started(engine, "web", sleeper())
    yield container
    await container.destroy()


async def serves(container: asyncrt.Container) -> None:
    """The supervisor still does what it is for, for a client that never spoke to it before."""
    root = container._context.root
    async with asyncrt.Engine(root) as other:
        again = await other.load(container.id)
        process = await again.exec(["/bin/echo", "well"], stdout=asyncrt.PIPE)
        assert await rest(process.stdout) == "well\n"
        assert (await process.wait()).exit_code == 0
        process.close()


NO_FRAMES = {
    "other protocol": b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    "length over the limit": b"\xff\xff\xff\xff",
    "length of 17 MiB": (17 << 20).to_bytes(4, "big"),
    "no JSON": b"\x00\x00\x00\x03abc",
    "an object without an end": b"\x00\x00\x00\x01{",
    "a list without an end": b"\x00\x00\x00\x02[1",
    "a string without an end": b'\x00\x00\x00\x02"a',
    "no UTF-8": b'\x00\x00\x00\x03"\xff"',
    "empty": b"\x00\x00\x00\x00",
    "array": frame([1, 2]),
    "number": frame(7),
    "null": frame(None),
    "deep nesting": (200_000).to_bytes(4, "big") + b"[" * 200_000,
    "a number of a million digits": (1_000_000).to_bytes(4, "big") + b"1" * 1_000_000,
    "announced descriptors that don't come": frame({"op": "exec", "req": 1, "fds": 3}),
    "a negative number of descriptors": frame({"op": "exec", "req": 1, "fds": -1}),
    "no number of descriptors": frame({"op": "exec", "req": 1, "fds": "3"}),
    "more descriptors than any": frame({"op": "exec", "req": 1, "fds": 10**30}),
}


@pytest.mark.parametrize("case", NO_FRAMES)
async def test_what_is_no_frame_is_refused_and_hung_up_on(
    case: str, web: asyncrt.Container, engine: Engine
) -> None:
    with Client(directory_of(web, engine.root)) as client:
        client.raw(NO_FRAMES[case])
        assert client.hung_up()
    await serves(web)


BAD_MESSAGES: dict[str, dict[str, object]] = {
    "no operation": {"req": 1},
    "unknown operation": {"op": "fly", "req": 1},
    "operation of a wrong type": {"op": ["exec"], "req": 1},
    "no request number": {"op": "pause"},
    "exec without streams": {"op": "exec", "req": 1, "plan": {"args": ["/bin/true"]}},
    "signal that isn't a number": {"op": "signal", "req": 1, "signal": "TERM"},
    "signal that is none": {"op": "signal", "req": 1, "signal": 4711},
    "signal beyond any integer": {"op": "signal", "req": 1, "signal": 10**30},
    "infinite signal": {"op": "signal", "req": 1, "signal": float("inf")},
    "withdrawal of nothing in particular": {"op": "withdraw", "req": 1, "exec": None},
    "withdrawal of infinity": {"op": "withdraw", "req": 1, "exec": float("inf")},
}


@pytest.mark.parametrize("case", BAD_MESSAGES)
async def test_a_bad_message_gets_an_error_and_the_connection_stays(
    case: str, web: asyncrt.Container, engine: Engine
) -> None:
    with Client(directory_of(web, engine.root)) as client:
        client.send(BAD_MESSAGES[case])
        answer = client.receive()
        assert answer is not None
        assert "error" in answer or "failed" in answer
        assert answer["v"] == 1
        assert client.ask("resume")["ok"] == {}
    await serves(web)


PLAN = {
    "args": ["/bin/true"],
    "env": [],
    "cwd": "/",
    "uid": None,
    "gid": None,
    "groups": None,
    "umask": None,
    "rlimits": [],
    "no_new_privs": False,
    "oom_score_adj": None,
}
BAD_EXECS: dict[str, dict[str, object]] = {
    "no plan": {},
    "plan of a wrong type": {"plan": "true"},
    "empty plan": {"plan": {}},
    "args of a wrong type": {"plan": {**PLAN, "args": 7}},
    "no args": {"plan": {**PLAN, "args": []}},
    "env without values": {"plan": {**PLAN, "env": ["A"]}},
    "a cgroup that is not there": {"plan": {**PLAN, "cgroups": ["/sys/fs/cgroup/no/such"]}},
    "cgroups of a wrong type": {"plan": {**PLAN, "cgroups": [7]}},
    "deadline of a wrong type": {"plan": PLAN, "deadline": "soon"},
    "deadline that is an object": {"plan": PLAN, "deadline": {}},
}


@pytest.mark.parametrize("case", BAD_EXECS)
async def test_a_bad_exec_gets_an_error(case: str, web: asyncrt.Container, engine: Engine) -> None:
    null = os.open("/dev/null", os.O_RDWR)
    try:
        with Client(directory_of(web, engine.root)) as client:
            answer = client.ask("exec", [null, null, null], **BAD_EXECS[case])
            assert "error" in answer or "failed" in answer
    finally:
        os.close(null)
    await serves(web)


@pytest.mark.parametrize("deadline", [float("inf"), float("nan"), 1e300, 1e10, -1])
async def test_any_number_as_a_deadline_leaves_the_supervisor_serving(
    deadline: float, web: asyncrt.Container, engine: Engine
) -> None:
    null = os.open("/dev/null", os.O_RDWR)
    try:
        with Client(directory_of(web, engine.root)) as client:
            client.ask("exec", [null, null, null], plan=PLAN, deadline=deadline)
    finally:
        os.close(null)
    await serves(web)


async def test_descriptors_nobody_asked_for_are_closed(
    web: asyncrt.Container, engine: Engine
) -> None:
    read, write = os.pipe()
    with Client(directory_of(web, engine.root)) as client:
        for operation in ("resume", "exec", "fly", "withdraw"):
            client.ask(operation, [write])
        os.close(write)
        # Its end comes only if the supervisor kept no copy.
        os.set_blocking(read, True)
        assert await asyncio.get_running_loop().run_in_executor(None, os.read, read, 1) == b""
    os.close(read)


async def test_too_many_descriptors_are_refused_and_closed(
    web: asyncrt.Container, engine: Engine
) -> None:
    read, write = os.pipe()
    with Client(directory_of(web, engine.root)) as client:
        rights = array.array("i", [write] * 200)
        client.sock.sendmsg([frame({"op": "x"})], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)])
        assert client.hung_up()
    os.close(write)
    assert await asyncio.get_running_loop().run_in_executor(None, os.read, read, 1) == b""
    os.close(read)
    await serves(web)


async def test_half_a_frame_and_silence_hold_nobody_up(
    web: asyncrt.Container, engine: Engine
) -> None:
    with Client(directory_of(web, engine.root)) as client:
        client.raw(frame({"op": "resume", "req": 1})[:-3])
        await serves(web)
    await serves(web)


async def test_a_frame_in_single_bytes_is_a_frame(web: asyncrt.Container, engine: Engine) -> None:
    with Client(directory_of(web, engine.root)) as client:
        for byte in frame({"op": "resume", "req": 9}):
            client.raw(bytes([byte]))
        answer = client.receive()
        assert answer == {"v": 1, "re": 9, "ok": {}}


async def test_a_client_that_never_reads_is_dropped_and_holds_nobody_up(
    web: asyncrt.Container, engine: Engine
) -> None:
    ask = frame({"op": "resume", "req": "x" * 60_000})
    with Client(directory_of(web, engine.root)) as client:
        try:
            for _ in range(1000):
                client.sock.sendall(ask)
        except (BrokenPipeError, ConnectionResetError):
            pass
        else:
            pytest.fail("60 MB of answers were kept for a client that doesn't read")
    await serves(web)


async def test_two_hundred_idle_clients_hold_nobody_up_and_all_hear_of_the_exit(
    web: asyncrt.Container, engine: Engine
) -> None:
    with contextlib.ExitStack() as stack:
        clients: list[Client] = []
        while len(clients) < 200:
            try:
                clients.append(stack.enter_context(Client(directory_of(web, engine.root))))
            except BlockingIOError:
                await asyncio.sleep(0)
        await serves(web)
        await web.kill("KILL")
        result = await web.wait()
        for client in clients:
            news = client.receive()
            assert news is not None
            assert news["v"] == 1
            assert news["event"] == "exit"
            assert news["exit"]["signal"] == result.signal == 9
            assert client.receive() is None


async def test_running_out_of_descriptors_turns_clients_away_and_passes(
    web: asyncrt.Container, engine: Engine
) -> None:
    supervisor = supervisor_of(web, engine.root)
    await serves(web)  # it has woken up, and has all the descriptors that it needs
    open_now = len(os.listdir(f"/proc/{supervisor}/fd"))
    before = resource.prlimit(supervisor, resource.RLIMIT_NOFILE)
    resource.prlimit(supervisor, resource.RLIMIT_NOFILE, (open_now + 3, before[1]))
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(Client(directory_of(web, engine.root))) for _ in range(20)]
        turned_away = [client for client in clients[10:] if client.hung_up()]
        assert len(turned_away) == 10
        assert clients[0].ask("resume")["ok"] == {}
        null = os.open("/dev/null", os.O_RDWR)
        # Its descriptors don't arrive, or their processes can't be started: an error or a hang-up.
        clients[0].send({"op": "exec", "req": 1, "plan": PLAN}, [null, null, null])
        os.close(null)
        answer = clients[0].receive()
        assert answer is None or "failed" in answer or "error" in answer
    resource.prlimit(supervisor, resource.RLIMIT_NOFILE, before)
    await serves(web)


async def test_a_full_queue_of_a_hung_supervisor_is_told_as_such_and_destroy_works(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    from asyncrt.container import destroy

    monkeypatch.setattr(destroy, "_ASKED_SECONDS", 0.1)
    web = await started(engine, "web", sleeper())
    os.kill(supervisor_of(web, engine.root), signal.SIGSTOP)
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(BlockingIOError):
            for _ in range(5000):
                stack.enter_context(Client(directory_of(web, engine.root)))
            pytest.fail("the queue never filled")
        async with asyncrt.Engine(engine.root) as other:
            again = await other.load("web")
            with pytest.raises(asyncrt.SandboxUnresponsive):
                await again.exec(["/bin/true"], timeout=0.1)
            with pytest.raises(TimeoutError):
                await again.wait(0.1)
            await again.destroy()
            assert await other.list() == []


async def test_every_message_carries_the_version(web: asyncrt.Container, engine: Engine) -> None:
    with Client(directory_of(web, engine.root)) as client:
        for operation in ("resume", "fly", "exec"):
            assert client.ask(operation)["v"] == 1
        client.send({"v": 99, "op": "resume", "req": 1, "unknown field": True})
        answer = client.receive()
        assert answer is not None
        assert answer["v"] == 1
        await web.kill("KILL")
        news = client.receive()
        assert news is not None
        assert news["v"] == 1


async def test_only_the_owner_may_connect_to_the_socket(
    web: asyncrt.Container, engine: Engine
) -> None:
    found = os.stat(f"{directory_of(web, engine.root)}/{_paths.CONTROL}")
    assert found.st_mode & 0o777 == 0o700 & found.st_mode
    assert found.st_mode & 0o077 == 0


@pytest.mark.needs_root
async def test_another_user_who_reaches_the_socket_is_hung_up_on(
    web: asyncrt.Container, engine: Engine, ordinary_user: User
) -> None:
    directory = directory_of(web, engine.root)
    for path in (engine.root, directory, f"{directory}/{_paths.CONTROL}"):
        os.chmod(path, 0o777)
    code = """
import json, socket, sys
sock = socket.socket(socket.AF_UNIX)
sock.settimeout(20)
sock.connect(sys.argv[1])
payload = json.dumps({"v": 1, "op": "end", "req": 1}).encode()
try:
    sock.sendall(len(payload).to_bytes(4, "big") + payload)
    print(sock.recv(100))
except (BrokenPipeError, ConnectionResetError):
    print(b"")
"""
    with Interpreter(
        code,
        f"{directory}/{_paths.CONTROL}",
        flags=("-I", "-S"),
        user=ordinary_user.uid,
        group=ordinary_user.gid,
    ) as stranger:
        assert await stranger.next_line() == "b''"
    os.chmod(engine.root, 0o700)
    os.chmod(directory, 0o700)
    assert (await web.view()).status is asyncrt.Status.RUNNING
    await serves(web)


async def test_the_gate_and_the_control_socket_are_the_only_doors(
    web: asyncrt.Container, engine: Engine
) -> None:
    directory = directory_of(web, engine.root)
    sockets = {each for each in os.listdir(directory) if each.endswith(".sock")}
    assert sockets == {_paths.CONTROL, _paths.GATE}
    with pytest.raises(ConnectionRefusedError):  # a program that runs has no gate any more
        unix.connect(directory, _paths.GATE)
    config = json.loads(Path(directory, _paths.CONFIG).read_bytes())
    assert config["process"]["args"][0] == "/bin/sleep"
