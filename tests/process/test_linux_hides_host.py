"""What a sandbox over the host's files can't use of the host: an engine's root, its sockets, others'."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

import asyncrt
from tests.helpers.capabilities import User
from tests.helpers.containers import SECONDS, Client, destroyed, directory_of, sleeper, started
from tests.helpers.leaks import LeakCheck
from tests.helpers.processes import REPOSITORY
from tests.helpers.sandboxes import config, mount, said

pytestmark = [pytest.mark.needs_root, pytest.mark.needs_program("busybox")]

# A program for inside: which of these sockets it can connect to, and which directories it can list.
LOOK = """
import os, socket, sys
for path in sys.argv[1:]:
    try:
        if os.path.isdir(path):
            print("names", *os.listdir(path))
            continue
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(20)
            client.connect(path.replace("@", "\\0"))
            try:
                client.sendall(b"\\0\\0\\0\\x02{}")
                heard = client.recv(1)
            except ConnectionError:
                heard = b""
            print("connected and", "heard" if heard else "hung up on")
    except OSError as error:
        print("no", type(error).__name__)
print("looked")
"""


def _look(*paths: str, **options: Any) -> asyncrt.Spec:
    """A sandbox over the host's root that looks; Python is where it is, also below /tmp."""
    python = os.path.realpath(sys.executable)
    prefixes = {sys.base_prefix, os.path.dirname(os.path.dirname(python))}
    return asyncrt.Spec.sandbox(
        [python, "-I", "-S", "-c", LOOK, *paths],
        host_root_readonly=True,
        readable=[
            *(each for each in prefixes if each.startswith(("/tmp/", "/var/tmp/", "/run/"))),
            *options.pop("readable", ()),
        ],
        **options,
    )


async def _said(engine: asyncrt.Engine, spec: asyncrt.Spec) -> list[str]:
    done = await engine.run("box", spec=spec, stdout=asyncrt.PIPE, stderr=asyncrt.PIPE)
    assert done.exit.exit_code == 0, done
    lines = (done.stdout or b"").decode().splitlines()
    assert lines.pop() == "looked"
    return lines


@pytest.fixture
def visible_root(leak_check: LeakCheck) -> str:
    """An engine's root where nothing is hidden of itself."""
    path = tempfile.mkdtemp(prefix="asyncrt-test-", dir="/var/lib")
    leak_check.watch_root(path)
    return path


@pytest.fixture
async def visible(visible_root: str) -> AsyncIterator[asyncrt.Engine]:
    async with asyncrt.Engine(visible_root) as engine:
        yield engine


async def test_the_engines_root_is_empty_inside(visible: asyncrt.Engine) -> None:
    """Who connects to a supervisor of the host platform has it run a program on the host."""
    async with destroyed(await started(visible, "svc", sleeper())) as container:
        control = f"{directory_of(container, visible.root)}/control.sock"
        found = await _said(visible, _look(control, visible.root))
        assert found == ["no FileNotFoundError", "names"]


_AS_USER = """
import asyncio, os, sys
import asyncrt
from tests.process.test_linux_hides_host import _look
async def main(root):
    async with asyncrt.Engine(root) as engine:
        async with engine.running("svc", spec=asyncrt.Spec.command(["sleep", "1000"])):
            control = f"{root}/svc.d/control.sock"
            assert os.path.exists(control)
            spec = _look(control, root, sys.argv[2])
            done = await engine.run("box", spec=spec, stdout=asyncrt.PIPE)
            print(done.stdout.decode(), end="")
asyncio.run(main(sys.argv[1]))
"""


@pytest.mark.needs_userns
def test_an_ordinary_users_root_and_the_hosts_sockets_are_nothing_to_its_sandbox(
    ordinary_user: User, visible_root: str
) -> None:
    os.chown(visible_root, ordinary_user.uid, ordinary_user.gid)
    with (
        tempfile.TemporaryDirectory(prefix="asyncrt-test-", dir="/var/lib") as directory,
        socket.socket(socket.AF_UNIX) as service,
    ):
        os.chmod(directory, 0o755)
        service.bind(f"{directory}/socket")
        os.chmod(f"{directory}/socket", 0o666)
        service.listen()
        done = subprocess.run(
            [sys.executable, "-B", "-c", _AS_USER, visible_root, f"{directory}/socket"],
            env={**os.environ, "PYTHONPATH": REPOSITORY},
            cwd="/",
            user=ordinary_user.uid,
            group=ordinary_user.gid,
            extra_groups=[],
            stdout=subprocess.PIPE,
            text=True,
            check=True,
            timeout=3 * SECONDS,
        )
    assert done.stdout.splitlines() == [
        "no FileNotFoundError",
        "names",
        "no ConnectionRefusedError",
        "looked",
    ]


async def test_the_engines_root_is_empty_below_what_is_bound_too(
    visible: asyncrt.Engine, open_directory: Path
) -> None:
    link = open_directory / "link"
    link.symlink_to("/var")
    made = config("/", ["/bin/sh", "-c", 'for d in "$@"; do ls -A $d; done; echo done', "sh"])
    places = [visible.root, *(f"{each}{visible.root[4:]}" for each in ("/mnt", "/srv"))]
    made["process"] |= {"cwd": "/", "args": [*made["process"]["args"], *places]}
    made["mounts"] = [
        mount("/mnt", "bind", "rbind", source="/var"),
        mount("/srv", "bind", "bind", source=str(link)),
        mount("/opt", "bind", "bind", source=visible.root),  # asked for
    ]
    assert os.path.isdir(visible.root)
    assert await said(visible, made) == "done\n"
    made["process"]["args"] = ["/bin/ls", "/opt"]
    assert "box.state" in (await said(visible, made)).split()


async def test_a_supervisor_hears_nobody_from_inside_a_sandbox(visible: asyncrt.Engine) -> None:
    """The root may be seen at another name, or be bound there on purpose."""
    async with destroyed(await started(visible, "svc", sleeper())) as container:
        control = f"{directory_of(container, visible.root)}/control.sock"
        with Client(directory_of(container, visible.root)) as client:
            assert "error" in client.ask("nothing")
        found = await _said(visible, _look(control, readable=[visible.root]))
        assert found == ["connected and hung up on"]


@pytest.mark.parametrize("place", ["/var/lib", "/var/tmp", "XDG_RUNTIME_DIR", "TMPDIR"])
async def test_nobodys_socket_on_the_host_can_be_connected_to(
    engine: asyncrt.Engine, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    """A read-only mount keeps nobody from connecting to whoever listens there."""
    with tempfile.TemporaryDirectory(
        prefix="asyncrt-test-", dir=place if place.startswith("/") else "/var/lib"
    ) as directory:
        if not place.startswith("/"):
            monkeypatch.setenv(place, directory)
        path = f"{directory}/socket"
        async with await asyncio.start_unix_server(_greet, path):
            assert (await _said(engine, _look(path)))[0].startswith("no ")
            if place != "/var/lib":  # a place for such things: what comes there later is hidden too
                assert await _said(engine, _look(directory)) in (
                    ["names"],
                    ["no FileNotFoundError"],
                )
            asked_for = _look(path, readable=[directory])
            assert await _said(engine, asked_for) == ["connected and heard"]


async def _greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read(1)
    writer.write(b"hello")
    writer.close()


async def test_an_abstract_socket_is_another_networks(engine: asyncrt.Engine) -> None:
    name = f"asyncrt-test-{os.getpid()}"
    async with await asyncio.start_unix_server(_greet, f"\0{name}"):
        assert await _said(engine, _look(f"@{name}")) == ["no ConnectionRefusedError"]
        shared = await _said(engine, _look(f"@{name}", network=True))
        assert shared == ["connected and heard"], "by design: see the README"
