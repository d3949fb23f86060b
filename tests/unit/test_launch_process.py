"""The last steps inside a new process, judged from outside."""

from __future__ import annotations

import _socket
import contextlib
import errno
import json
import os
import socket
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Self

import pytest

from asyncrt import _libc
from asyncrt.launch import frames, gate, hook, process, terminal
from asyncrt.launch.failure import Failure
from tests.helpers.processes import run_python, wait_gone, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable

    from asyncrt.launch.plan import HookPlan, ProcessPlan


def plan(*args: str, path: str = "/bin") -> ProcessPlan:
    return {
        "args": list(args),
        "env": [f"PATH={path}"],
        "cwd": "/",
        "uid": None,
        "gid": None,
        "groups": None,
        "umask": None,
        "rlimits": [],
        "no_new_privs": False,
        "oom_score_adj": None,
    }


def test_a_program_is_judged_without_being_executed(tmp_path: Path) -> None:
    process.resolve(plan("/bin/sh"))
    process.resolve(plan("sh"))
    (tmp_path / "file").touch(0o644)
    for args, number in (
        (("/no/such",), errno.ENOENT),
        (("no-such",), errno.ENOENT),
        ((str(tmp_path),), errno.EISDIR),
        ((str(tmp_path / "file"),), errno.EACCES),
        ((str(tmp_path / "file" / "x"),), errno.ENOENT),
    ):
        with pytest.raises(Failure) as caught:
            process.resolve(plan(*args))
        assert (caught.value.what, caught.value.path, caught.value.errno) == (
            "program",
            args[0],
            number,
        )


def test_an_empty_element_of_path_is_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").touch(0o755)
    monkeypatch.chdir(tmp_path)
    process.resolve(plan("here", path="/bin::/usr/bin"))
    with pytest.raises(Failure):
        process.resolve(plan("here", path="/bin:/usr/bin"))


def test_a_failure_crosses_processes_as_plain_data() -> None:
    assert Failure("program", "/x", 2).report() == {
        "what": "program",
        "path": "/x",
        "errno": 2,
        "hook": "",
    }


def test_only_the_descriptors_to_keep_stay_open() -> None:
    """HAZARDS 41."""
    code = """
import os
from asyncrt.launch import process

fds = [os.open("/dev/null", os.O_RDONLY) for _ in range(20)]
process.close_all_but((fds[3], fds[10], 0))
print([fd in (0, 1, 2, fds[3], fds[10]) for fd in (int(n) for n in os.listdir("/proc/self/fd"))
       if os.path.exists(f"/proc/self/fd/{fd}")])
"""
    done = run_python(code)
    assert done.returncode == 0, done.stderr
    assert set(done.stdout.strip()[1:-1].split(", ")) == {"True"}


class Door:
    """A gate with somebody waiting at it, and the sockets that lead there."""

    def __init__(self, directory: Path, *, watched: bool = True) -> None:
        self.path = f"{directory}/gate.sock"
        self.dir_fd = os.open(directory, os.O_RDONLY)
        self.gate = gate.listen(self.dir_fd)
        self.parent, watch = socket.socketpair()
        self.creator, creators = socket.socketpair()
        self.acknowledged = threading.Event()

        def on_acknowledged() -> bool:
            self.acknowledged.set()
            return watched

        self.waiting = gate.Waiting(self.gate, watch, creators, on_acknowledged)
        self.watch = watch
        self.outcome: object = None
        self.thread = threading.Thread(target=self._wait)
        self.thread.start()

    def _wait(self) -> None:
        try:
            self.outcome = self.waiting.for_go()
        except gate.NobodyWants as error:
            self.outcome = error

    def result(self) -> object:
        self.thread.join(20)
        assert not self.thread.is_alive()
        return self.outcome

    def connect(self) -> socket.socket:
        client = socket.socket(socket.AF_UNIX)
        client.settimeout(20)
        client.connect(self.path)
        return client

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.parent.close()
        self.creator.close()
        self.thread.join(20)
        for client in self.waiting._clients.values():
            client.close()
        for each in (self.gate, self.watch, self.waiting._creator):
            each.close()
        os.close(self.dir_fd)


def test_the_gate_opens_for_go_only(tmp_path: Path) -> None:
    with Door(tmp_path) as door, door.connect() as silent, door.connect() as wrong:
        wrong.send(b"stop\n")
        assert wrong.recv(10) == b""
        with door.connect() as client:
            client.send(gate.GO)
            found = door.result()
            assert isinstance(found, _socket.socket)
            with contextlib.closing(found):
                gate.announce(found)
                assert client.recv(10) == gate.ABOUT
                gate.refuse(found, Failure("program", "/x", 2))
                assert json.loads(client.recv(1000))["path"] == "/x"
        assert silent.fileno() > 0


def test_a_starter_among_any_number_of_silent_clients_is_heard(tmp_path: Path) -> None:
    with Door(tmp_path) as door, contextlib.ExitStack() as crowd:
        for _ in range(100):
            crowd.enter_context(door.connect())
        starter = crowd.enter_context(door.connect())
        # So that it has been seen, silent, when it says go at last.
        wait_until(lambda: len(door.waiting._clients) == gate._CLIENTS, "the crowd is let in")
        starter.send(gate.GO)
        found = door.result()
        assert isinstance(found, _socket.socket)
        found.close()


def test_a_starter_that_went_away_kills_nobody_by_sigpipe(tmp_path: Path) -> None:
    with Door(tmp_path) as door:
        with door.connect() as client:
            client.send(gate.GO)
            found = door.result()
        assert isinstance(found, _socket.socket)
        with contextlib.closing(found):
            gate.announce(found)
            gate.refuse(found, Failure("program", "/x", 2))


def test_init_gives_up_when_its_creator_goes_before_the_record_is_saved(tmp_path: Path) -> None:
    """HAZARDS 13."""
    with Door(tmp_path) as door:
        door.creator.close()
        assert isinstance(door.result(), gate.NobodyWants)
        assert not door.acknowledged.is_set()


def test_init_gives_up_when_its_parent_goes(tmp_path: Path) -> None:
    with Door(tmp_path) as door:
        door.creator.send(frames.ACKNOWLEDGEMENT)
        assert door.acknowledged.wait(20)
        door.parent.close()
        assert isinstance(door.result(), gate.NobodyWants)


def test_once_acknowledged_a_one_shots_init_needs_nobody(tmp_path: Path) -> None:
    with Door(tmp_path, watched=False) as door:
        door.creator.send(frames.ACKNOWLEDGEMENT)
        assert door.acknowledged.wait(20)
        door.creator.close()
        door.parent.close()
        with door.connect() as client:
            client.send(gate.GO)
            found = door.result()
        assert isinstance(found, _socket.socket)
        found.close()


def hook_plan(script: str, timeout: float | None = None) -> HookPlan:
    return {
        "path": "/bin/sh",
        "args": ["sh", "-c", script],
        "env": ["A=1"],
        "timeout": timeout,
    }


@pytest.mark.parametrize(
    ("script", "why"),
    [
        ("read x; test $x = state", ""),
        ("exit 3", "exit status 3"),
        ("echo why >&2; exit 1", "exit status 1: why"),
        ("kill -9 $$", "killed by signal 9"),
        ("setsid sleep 0.2 & exit 0", ""),
        ("head -c 100000 /dev/zero; exit 1", "exit status 1: "),
    ],
)
def test_a_hook_succeeds_or_says_why(script: str, why: str) -> None:
    found = hook.run(hook_plan(script), b"state\n")
    assert found.startswith(why)
    assert len(found) < 500
    assert bool(found) == bool(why)


def test_a_hook_is_abandoned_with_its_group_when_nobody_wants_it() -> None:
    read, write = os.pipe()
    told, telling = os.pipe()
    os.set_inheritable(telling, True)
    results: list[str] = []
    script = f"sleep 1000 & echo $! >/proc/{os.getpid()}/fd/{telling}; wait"
    running = threading.Thread(
        target=lambda: results.append(hook.run(hook_plan(script), b"", abandon=read))
    )
    running.start()
    pid = int(os.read(told, 100))
    os.close(write)
    running.join(20)
    assert results == ["abandoned"]
    wait_gone(pid)
    for fd in (read, told, telling):
        os.close(fd)


def test_why_a_terminal_cant_be_taken_is_told_of_one_without_a_name_here_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """ttyname(3) fails with ENODEV for one of a container's own, which is no reason of anything."""

    def fail(number: int) -> Callable[..., None]:
        def failing(*_: object) -> None:
            raise OSError(number, os.strerror(number))

        return failing

    monkeypatch.setattr(_libc, "set_controlling_terminal", fail(errno.ENOMEM))
    monkeypatch.setattr(os, "ttyname", fail(errno.ENODEV))
    with pytest.raises(Failure) as caught:
        terminal.take(0, None)
    assert (caught.value.errno, caught.value.path) == (errno.ENOMEM, "/dev/pts/ptmx")
