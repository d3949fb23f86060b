"""Descriptors passed in: those, at their numbers, and no other (HAZARDS 41)."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterator
from typing import Any

import pytest

import asyncrt
from asyncrt import PIPE, Engine
from asyncrt.container.passing import MOST
from tests.helpers import sandboxes
from tests.helpers.containers import destroyed, line, rest, shell, shell_hook, started
from tests.helpers.platforms import Making, making, on_each
from tests.helpers.processes import run_python
from tests.helpers.records import names

__all__ = ["making"]  # a fixture

# Which a shell has. One that looked by listing a directory would have that open as well.
OPEN = 'for i in $(seq 0 300); do [ -e /proc/$$/fd/$i ] && list="$list $i"; done; echo $list'


class Pipe:
    """A pipe of which the writing end is passed on."""

    def __init__(self) -> None:
        self.read, self.write = os.pipe()

    def fileno(self) -> int:
        return self.write

    def rest(self) -> bytes:
        """All that is written until nobody has the writing end open, ours aside."""
        os.close(self.write)
        self.write = -1
        with open(self.read, "rb", closefd=False) as file:
            return file.read()

    def close(self) -> None:
        for fd in (self.read, self.write):
            if fd >= 0:
                os.close(fd)


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    made = Pipe()
    yield made
    made.close()


@pytest.fixture
def other() -> Iterator[Pipe]:
    made = Pipe()
    yield made
    made.close()


@on_each
@pytest.mark.parametrize("terminal", [False, True])
async def test_a_program_has_what_is_passed_where_it_is_wanted_and_nothing_else(
    engine: Engine, making: Making, pipe: Pipe, other: Pipe, *, terminal: bool
) -> None:
    script = f"{OPEN} >&9; echo nine >&9; echo three >&3"
    done = await engine.run(
        "web", spec=making.shell(script), pass_fds={9: pipe, 3: other.write}, terminal=terminal
    )
    assert done.exit.exit_code == 0
    assert pipe.rest() == b"0 1 2 3 9\nnine\n"
    assert other.rest() == b"three\n"


@on_each
@pytest.mark.parametrize("terminal", [False, True])
async def test_so_has_one_that_is_execd(
    engine: Engine, making: Making, pipe: Pipe, other: Pipe, *, terminal: bool
) -> None:
    async with destroyed(await started(engine, "web", making.shell("sleep 1000"))) as web:
        script = f"{OPEN} >&9; echo nine >&9; echo three >&3"
        process = await web.exec(
            ["/bin/sh", "-c", script], pass_fds={9: pipe, 3: other.write}, terminal=terminal
        )
        async with process:
            assert (await process.wait()).exit_code == 0
        assert pipe.rest() == b"0 1 2 3 9\nnine\n"
        assert other.rest() == b"three\n"


async def test_nothing_of_ours_keeps_what_was_passed(engine: Engine, pipe: Pipe) -> None:
    """A peer waits for the end of what is written: a supervisor that had it open would hide it."""
    script = "exec 5>&-; echo closed; exec sleep 1000"
    web = await engine.create("web", spec=shell(script), stdout=PIPE, pass_fds={5: pipe})
    async with destroyed(web):
        await web.start()
        assert await line(web.stdout) == "closed"
        process = await web.exec(
            ["/bin/sh", "-c", script], stdout=PIPE, pass_fds={5: pipe}, deadline_seconds=60
        )
        assert await line(process.stdout) == "closed"
        assert pipe.rest() == b""
        process.close()


async def test_numbers_that_we_use_ourselves_are_free_for_it(engine: Engine, pipe: Pipe) -> None:
    """The gate's connection, on whose end a start waits, is at one of them."""
    numbers = range(3, 40)
    script = f"{OPEN} >/proc/$$/fd/20"
    passed = dict.fromkeys(numbers, pipe)
    done = await engine.run("web", spec=shell(script), pass_fds=passed)
    assert done.exit.exit_code == 0
    assert pipe.rest().decode().split() == [str(each) for each in (0, 1, 2, *numbers)]


async def test_what_cannot_be_executed_is_told_all_the_same(engine: Engine, pipe: Pipe) -> None:
    passed = dict.fromkeys(range(3, 40), pipe)
    missing = asyncrt.Spec.command(["/no/such/program"])
    web = await engine.create("web", spec=missing, pass_fds=passed)
    async with destroyed(web):
        with pytest.raises(asyncrt.StartFailed) as caught:
            await web.start()
        assert (caught.value.path, caught.value.errno) == ("/no/such/program", errno.ENOENT)
        assert (await web.wait()).reason == "start failed"
    async with destroyed(await started(engine, "web", shell("sleep 1000"))) as web:
        # A supervisor opens what the failure is told by when it has these: at a higher number.
        passed = dict.fromkeys(range(40, 100), pipe)
        with pytest.raises(asyncrt.StartFailed) as caught:
            await web.exec(["/no/such/program"], pass_fds=passed)
        assert (caught.value.path, caught.value.errno) == ("/no/such/program", errno.ENOENT)


async def test_their_numbers_may_be_those_of_others_on_the_way(engine: Engine) -> None:
    """Put one after the other in their places, one would be the copy of another."""
    files = {number: os.memfd_create(str(number)) for number in range(24, 2, -1)}
    try:
        script = "for i in $(seq 3 24); do echo $i >/proc/$$/fd/$i; done"
        done = await engine.run("web", spec=shell(script), pass_fds=files)
        assert done.exit.exit_code == 0
        said = {number: os.pread(fd, 100, 0).decode().strip() for number, fd in files.items()}
        assert said == {number: str(number) for number in files}
    finally:
        for fd in files.values():
            os.close(fd)


async def test_as_many_as_a_message_takes(engine: Engine, pipe: Pipe) -> None:
    passed = {3 + each: pipe for each in range(MOST)}
    async with engine.running(
        "web", spec=shell(f"echo here >/proc/$$/fd/{2 + MOST}; exec sleep 1000"), pass_fds=passed
    ) as web:
        process = await web.exec(
            ["/bin/sh", "-c", f"echo there >/proc/$$/fd/{2 + MOST}"], pass_fds=passed, terminal=True
        )
        async with process:
            assert (await process.wait()).exit_code == 0
        await web.kill("KILL")
        await web.wait()
        assert sorted(pipe.rest().split()) == [b"here", b"there"]


async def test_a_limit_on_open_files_comes_after_them(engine: Engine, pipe: Pipe) -> None:
    done = await engine.run(
        "web",
        spec=shell("echo here >/dev/fd/30", rlimits={"NOFILE": (11, 11)}),
        pass_fds={30: pipe},
    )
    assert done.exit.exit_code == 0
    assert pipe.rest() == b"here\n"


async def test_a_hook_has_none_of_them(engine: Engine, pipe: Pipe) -> None:
    hook = shell_hook(f"{OPEN} >&2; exit 1")
    web = await engine.create(
        "web", spec=shell("exit 0", hooks={"startContainer": [hook]}), pass_fds={9: pipe}
    )
    with pytest.raises(asyncrt.HookFailed, match=r"exit status 1: 0 1 2$"):
        await web.start()
    assert names(engine.root) == []


async def test_a_listening_socket_is_usable_inside(engine: Engine) -> None:
    """LISTEN_FDS (sd_listen_fds(3)) is said by whoever passes them."""
    code = """
import os, socket
assert os.environ["LISTEN_FDS"] == "1"
listener = socket.socket(fileno=3)
peer, _ = listener.accept()
peer.sendall(b"from inside")
"""
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as client:
        listener.bind(b"\0")
        listener.listen()
        spec = asyncrt.Spec.command(
            ["/usr/bin/env", "python3", "-c", code], env={"LISTEN_FDS": "1"}
        )
        web = await engine.create("web", spec=spec, pass_fds={3: listener})
        async with destroyed(web):
            await web.start()
            client.connect(listener.getsockname())
            assert (await web.wait()).exit_code == 0
            assert client.recv(100) == b"from inside"


@pytest.mark.parametrize(
    "bad",
    [
        {2: 1},
        {-3: 1},
        {2**31: 1},
        {True: 1},
        {"3": 1},
        {3: 4000},
        {3: -1},
        {3: None},
        {3: 2**70},
        [1],
        7,
        dict.fromkeys(range(3, 3 + MOST + 1), 1),
    ],
    ids=lambda bad: repr(bad)[:20],
)
async def test_what_cannot_be_passed_is_refused_and_leaves_nothing(
    engine: Engine, bad: Any
) -> None:
    with pytest.raises(asyncrt.SpecInvalid, match="pass_fds"):
        await engine.create("web", spec=shell("exit 0"), pass_fds=bad)
    assert names(engine.root) == []


async def test_a_number_beyond_what_may_be_open_is_an_error_of_the_start(
    engine: Engine, pipe: Pipe
) -> None:
    web = await engine.create("web", spec=shell("exit 0"), pass_fds={2**31 - 1: pipe})
    async with destroyed(web):
        with pytest.raises(asyncrt.StartFailed) as caught:
            await web.start()
        assert (caught.value.what, caught.value.errno) == (f"descriptor {2**31 - 1}", errno.EMFILE)


@pytest.mark.needs_root
@pytest.mark.needs_program("busybox")
async def test_the_hosts_null_device_cannot_be_changed_through_one(
    engine: Engine, rootfs: str
) -> None:
    """Root inside is its owner, as of one that is a standard stream."""
    script = "chmod 666 /proc/self/fd/3 2>&- || echo refused; echo x >&3 && echo used"
    made = sandboxes.config(rootfs, ["/bin/sh", "-c", script])
    granted = ["CAP_FOWNER", "CAP_DAC_OVERRIDE"]
    sets = ("bounding", "effective", "permitted")
    made["process"]["capabilities"] = dict.fromkeys(sets, granted)
    with open("/dev/null", "r+b", buffering=0) as null:
        done = await engine.run("box", spec=sandboxes.spec(made), stdout=PIPE, pass_fds={3: null})
        assert done.stdout == b"refused\nused\n"
        made["process"]["args"] = ["/bin/sleep", "1000"]
        async with engine.running("box", spec=sandboxes.spec(made)) as box:
            process = await box.exec(["/bin/sh", "-c", script], stdout=PIPE, pass_fds={3: null})
            assert await rest(process.stdout) == "refused\nused\n"
            process.close()


def test_more_than_may_be_open_are_an_error_that_says_so(root: str) -> None:
    code = """
import asyncio, errno, resource, sys
import asyncrt

async def main():
    async with asyncrt.Engine(sys.argv[1]) as engine:
        spec = asyncrt.Spec.command(["/bin/true"])
        try:
            await engine.create("web", spec=spec, pass_fds=dict.fromkeys(range(3, 70), 0))
        except asyncrt.StartFailed as error:
            # Of an ordinary user no more may lie in sockets either (unix(7)).
            print(error.what, error.errno in {errno.EMFILE, errno.ETOOMANYREFS})
        print(await engine.list())

resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
asyncio.run(main())
"""
    done = run_python(code, root)
    assert (done.stdout, done.stderr) == ("launch True\n[]\n", "")
