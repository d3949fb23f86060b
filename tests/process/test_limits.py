"""A machine without memory, descriptors or threads: one line that says what, where and what to do."""

from __future__ import annotations

import errno
import os
import socket
import threading
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import anyio.to_thread
import pytest

import asyncrt
from asyncrt import Container, Engine, Lease, StorageFailed, _threads
from asyncrt.launch import frames
from asyncrt.sandbox import unix
from tests.helpers.containers import destroyed, shell, sleeper, started

Ask = Callable[[Container], Coroutine[Any, Any, object]]

ASKING: dict[str, Ask] = {
    "pause": lambda container: container.pause(),
    "renew": lambda container: container.renew(Lease(0)),
    "attach": lambda container: container.attach(),
}


@pytest.mark.parametrize("verb", ASKING)
@pytest.mark.parametrize("limit", ["send", "connect"])
async def test_a_supervisor_that_cannot_be_asked_is_an_error_with_errno_and_path(
    verb: str, limit: str, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And is no unresponsive one: nobody is to be told to delete it."""
    number = errno.ENOMEM if limit == "send" else errno.EMFILE

    def refuse(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    def send(sock: socket.socket, frame: bytes, fds: Sequence[int] = ()) -> int:
        if b'"req":' in frame:
            refuse()
        return real(sock, frame, fds)

    real = frames.send
    container = await started(engine, "web", sleeper(), terminal=True)
    async with destroyed(container), Engine(engine.root) as other:
        loaded = await other.load("web")  # it isn't connected yet
        with monkeypatch.context() as patched:
            if limit == "send":
                patched.setattr(frames, "send", send)
            else:
                patched.setattr(unix, "connect", refuse)
            with pytest.raises(StorageFailed) as caught:
                await ASKING[verb](loaded)
        assert caught.value.path == f"{engine.root}/web.d/control.sock"
        assert caught.value.errno == number
        assert "\n" not in str(caught.value)
        assert "delete" not in str(caught.value)
        assert (await loaded.view()).status is asyncrt.Status.RUNNING


async def test_a_log_that_no_thread_can_read_is_an_error_with_errno_and_path(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    container = await engine.create("web", spec=shell("echo out"), stdout=asyncrt.LOG)
    async with destroyed(container):
        await container.start()
        await container.wait()
        async with Engine(engine.root) as other:
            loaded = await other.load("web")
            with monkeypatch.context() as patched:
                patched.setattr(_threads, "submit", _threads.DaemonThreads().submit)  # none idle
                patched.setattr(threading.Thread, "start", refuse)
                with pytest.raises(StorageFailed) as caught:
                    [each async for each in loaded.logs()]
            assert caught.value.path.startswith(f"{engine.root}/web.d/logs")
            assert caught.value.errno == errno.EAGAIN
            assert [each.text async for each in loaded.logs()] == ["out"]


WITHOUT_THREADS: dict[str, Callable[[Engine, Container], Coroutine[Any, Any, object]]] = {
    "create": lambda engine, _: engine.create("other", spec=sleeper()),
    "run": lambda engine, _: engine.run("other", spec=sleeper()),
    "create_sandbox": lambda engine, _: engine.create_sandbox("other", spec=sleeper()),
    "load": lambda engine, _: engine.load("web"),
    "list": lambda engine, _: engine.list(),
    "recover": lambda engine, _: engine.recover(),
    "delete": lambda engine, _: engine.delete("web", force=True),
    "view": lambda _, container: container.view(),
    "start": lambda _, container: container.start(),
    "pause": lambda _, container: container.pause(),
    "kill": lambda _, container: container.kill("CONT"),
    "stop": lambda _, container: container.stop(grace_seconds=0),
    "exec": lambda _, container: container.exec(["/bin/true"]),
    "processes": lambda _, container: container.processes(),
    "stats": lambda _, container: container.stats(),
    "update": lambda _, container: container.update(pids=5),
    "destroy": lambda _, container: container.destroy(),
}


@pytest.mark.parametrize("verb", WITHOUT_THREADS)
async def test_without_threads_whatever_needs_one_says_so_and_does_nothing(
    verb: str, disk_root: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuse(*_: object, **__: object) -> None:
        raise RuntimeError("can't start new thread")

    async with Engine(disk_root) as engine:
        container = await engine.create("web", spec=sleeper())
        async with destroyed(container):
            with monkeypatch.context() as patched:
                patched.setattr(anyio.to_thread, "run_sync", refuse)
                with pytest.raises(asyncrt.NoThread) as caught:
                    await WITHOUT_THREADS[verb](engine, container)
            assert isinstance(caught.value, BlockingIOError)
            assert caught.value.errno == errno.EAGAIN
            assert "ulimit -u" in str(caught.value)
            assert "\n" not in str(caught.value)
            assert [each.id for each in await engine.list()] == ["web"]
            assert (await container.view()).status is asyncrt.Status.CREATED
            await engine.recover()  # a lock that was made for the other
