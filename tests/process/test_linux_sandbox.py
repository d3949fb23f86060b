"""Spec.sandbox from end to end: on an image and on the host's root, as root and as a user."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

import asyncrt
from tests.helpers.capabilities import User
from tests.helpers.containers import SECONDS
from tests.helpers.leaks import LeakCheck
from tests.helpers.processes import REPOSITORY
from tests.helpers.sandboxes import make_rootfs

pytestmark = [pytest.mark.needs_root, pytest.mark.needs_program("busybox")]

SEALED = "grep -E '^(NoNewPrivs|Seccomp|CapBnd|CapEff)' /proc/self/status"

DRIVER = """
import asyncio, json, sys
import asyncrt
async def main():
    root, options, args = sys.argv[1], json.loads(sys.argv[2]), sys.argv[3:]
    async with asyncrt.Engine(root) as engine:
        spec = asyncrt.Spec.sandbox(args, **options)
        done = await engine.run("box", spec=spec, stdout=asyncrt.PIPE, stderr=asyncrt.PIPE)
        print(json.dumps([done.exit.exit_code, done.stdout.decode(), done.stderr.decode()]))
asyncio.run(main())
"""


def run_as(user: User, root: str, options: dict[str, Any], *args: str) -> tuple[int, str, str]:
    done = subprocess.run(
        [sys.executable, "-B", "-c", DRIVER, root, json.dumps(options), *args],
        env={**os.environ, "PYTHONPATH": REPOSITORY},
        cwd="/",
        capture_output=True,
        check=False,
        user=user.uid,
        group=user.gid,
        extra_groups=[],
        timeout=3 * SECONDS,
    )
    assert done.returncode == 0, done.stderr.decode()
    code, out, err = json.loads(done.stdout)
    return code, out, err


@pytest.fixture
def image() -> Iterator[str]:
    with tempfile.TemporaryDirectory(prefix="asyncrt-test-") as directory:
        os.chmod(directory, 0o755)
        yield make_rootfs(directory)


@pytest.fixture
async def engine(root: str) -> AsyncIterator[asyncrt.Engine]:
    async with asyncrt.Engine(root) as engine:
        yield engine


@pytest.fixture
def users_root(ordinary_user: User, leak_check: LeakCheck) -> str:
    root = tempfile.mkdtemp(prefix="asyncrt-test-")
    leak_check.watch_root(root)
    os.chown(root, ordinary_user.uid, ordinary_user.gid)
    return root


async def test_an_image_is_its_own_root_with_a_user_of_its_own(
    engine: asyncrt.Engine, image: str
) -> None:
    script = "id -u; pwd; echo made > /made; cat /etc/passwd | wc -l; ls /sys/class/net"
    spec = asyncrt.Spec.sandbox(["sh", "-c", script], rootfs=image, cwd="/work", hostname="box")
    done = await engine.run("box", spec=spec, stdout=asyncrt.PIPE, timeout=SECONDS)
    assert (done.stdout or b"").split() == [b"0", b"/work", b"2", b"lo"]
    with open(f"{image}/made", encoding="ascii") as file:
        assert file.read() == "made\n"
    spec = asyncrt.Spec.sandbox(["sh", "-c", SEALED], rootfs=image, user="1000:1000")
    done = await engine.run("box", spec=spec, stdout=asyncrt.PIPE, timeout=SECONDS)
    assert (done.stdout or b"").split()[:2] == [b"CapEff:", b"0" * 16]


async def test_what_is_execd_is_confined_as_the_first_process_is(
    engine: asyncrt.Engine, image: str
) -> None:
    # A process that joins by setns starts with all privileges and no filter.
    spec = asyncrt.Spec.sandbox(["sleep", "1000"], rootfs=image)
    async with engine.running("box", spec=spec) as container:
        process = await container.exec(
            ["sh", "-c", f"{SEALED}; unshare -U true"], stdout=asyncrt.PIPE, stderr=asyncrt.PIPE
        )
        async with process:
            assert process.stdout is not None
            assert process.stderr is not None
            said = (await process.stdout.read()).decode().split()
            errors = (await process.stderr.read()).decode()
            result = await process.wait()
    bounding = "00000000800405fb"  # podman's eleven
    assert said == [
        *("CapEff:", bounding, "CapBnd:", bounding),
        *("NoNewPrivs:", "1", "Seccomp:", "2", "Seccomp_filters:", "1"),
    ]
    assert "Operation not permitted" in errors
    assert result.exit_code != 0


@pytest.mark.needs_userns
def test_an_ordinary_user_is_root_in_an_image(
    ordinary_user: User, users_root: str, image: str
) -> None:
    os.chown(image, ordinary_user.uid, ordinary_user.gid)
    code, out, err = run_as(
        ordinary_user, users_root, {"rootfs": image}, "sh", "-c", f"id -u; echo x > /made; {SEALED}"
    )
    assert (code, err) == (0, "")
    assert out.split()[0] == "0"
    assert "Seccomp:\t2" in out
    assert os.stat(f"{image}/made").st_uid == ordinary_user.uid


@pytest.mark.needs_userns
def test_an_ordinary_user_writes_where_it_may_on_the_hosts_root(
    ordinary_user: User, users_root: str
) -> None:
    with tempfile.TemporaryDirectory(prefix="asyncrt-test-", dir="/var") as place:
        os.chown(place, ordinary_user.uid, ordinary_user.gid)
        script = f"echo x > {place}/made; touch /tmp/gone; id -u; echo y > /var/new"
        code, out, err = run_as(
            ordinary_user,
            users_root,
            {"host_root_readonly": True, "writable": [place]},
            *("sh", "-c", script),
        )
        assert code != 0
        assert "/var/new" in err
        assert out.split() == [str(ordinary_user.uid)]
        assert os.listdir(place) == ["made"]
        assert os.stat(f"{place}/made").st_uid == ordinary_user.uid
    assert not os.path.exists("/tmp/gone")
    assert not os.path.exists("/var/new")


async def test_the_networks_of_host_and_sandbox_are_two_unless_asked_otherwise(
    engine: asyncrt.Engine,
) -> None:
    for network in (False, True):
        spec = asyncrt.Spec.sandbox(
            ["ls", "/sys/class/net"], host_root_readonly=True, network=network
        )
        done = await engine.run("box", spec=spec, stdout=asyncrt.PIPE, timeout=SECONDS)
        found = (done.stdout or b"").decode().split()
        assert found == (sorted(os.listdir("/sys/class/net")) if network else ["lo"])
