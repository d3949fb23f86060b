"""What joins a sandbox, and what it leaves of the launcher's: nobody inside gets hold of either."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import asyncrt
from asyncrt import _cgroups
from tests.helpers import capabilities
from tests.helpers.containers import SECONDS, destroyed, init_of, record_of
from tests.helpers.processes import REPOSITORY, run_python, until
from tests.helpers.sandboxes import EVERYBODY, MAPPED, USER, config, python, spec, with_python

pytestmark = [pytest.mark.needs_root, pytest.mark.needs_program("busybox")]

# What root inside, with all capabilities of its user namespace, finds out about each process there.
_LOOK = """
for p in /proc/[0-9]*; do
    cat $p/comm | tr '\\n' ' '
    for f in exe root cwd fd/3 ns/user; do readlink $p/$f && echo seen; done
    for f in environ maps mem auxv; do head -c 1 $p/$f | grep -q . && echo read $f; done
    for f in exe mem; do true > $p/$f && echo opened $f; done
    ls $p/root/usr $p/cwd/usr && echo seen
    echo ==
done 2>/dev/null
"""


@pytest.mark.needs_program("nsenter")
@pytest.mark.needs_cgroups("pids")
async def test_hazard_34_what_joins_cant_be_looked_into_before_its_program_runs(
    engine: asyncrt.Engine, root: str, rootfs: str
) -> None:
    """CVE-2016-9962, CVE-2019-5736: it stands still half-way, in a cgroup that is frozen."""
    made = config(rootfs, ["/bin/sleep", "1000"], who=MAPPED)
    made["linux"]["resources"] = {"pids": {"limit": 20}}
    container = await engine.create("box", spec=spec(made))
    async with destroyed(container):
        await container.start()
        await container.pause()
        joining = asyncio.create_task(container.exec(["/bin/true"], ignore_paused=True))
        cgroup = record_of(container, root).cgroup[0].path
        await until(lambda: len(_cgroups.pids(cgroup)) == 2, "it has joined")
        (pid,) = set(_cgroups.pids(cgroup)) - {init_of(container, root)}
        inside = Path(f"/proc/{pid}/status").read_text().partition("NSpid:")[2].split()[1]
        command = ["nsenter", "-t", str(init_of(container, root)), *["-U", "-m", "-p", "-i", "-u"]]
        looked = subprocess.run(
            [*command, "/bin/sh", "-c", _LOOK + f"kill -0 {inside} && echo there"],
            stdout=subprocess.PIPE,
            text=True,
            check=True,
            timeout=SECONDS,
        ).stdout
        await container.resume()
        process = await joining
        assert (await process.wait()).exit_code == 0
        process.close()
    by_name = {each.split()[0]: each.split()[1:] for each in looked.split("==")[:-1]}
    assert "seen" in by_name["sleep"], "who looks may look"
    assert looked.endswith("there\n")
    ours = [name for name in by_name if name.startswith("asyncrt")]
    assert len(ours) == 1
    assert by_name[ours[0]] == []


# Runs a container and execs in it, with a key of its own in a session keyring of its own.
_DRIVER = """
import asyncio, ctypes, json, os, sys
import asyncrt
libc = ctypes.CDLL(None, use_errno=True)
add_key, keyctl = (248, 250) if os.uname().machine == "x86_64" else (217, 219)
async def main():
    root, config, command = sys.argv[1], json.loads(sys.argv[2]), json.loads(sys.argv[3])
    if libc.syscall(keyctl, 1, None) < 0:  # KEYCTL_JOIN_SESSION_KEYRING
        return print("null")
    key = libc.syscall(add_key, b"user", b"asyncrt-test", b"secret", 6, -3)
    assert key > 0
    ring = libc.syscall(keyctl, 0, -3, 0)
    command += [str(key), str(ring)]
    config["process"]["args"] = command
    async with asyncrt.Engine(root) as engine:
        spec = asyncrt.Spec.decode(json.dumps(config).encode())
        done = await engine.run("one", spec=spec, stdout=asyncrt.PIPE)
        said = [done.stdout.decode()]
        config["process"]["args"] = ["/bin/sleep", "1000"]
        spec = asyncrt.Spec.decode(json.dumps(config).encode())
        async with engine.running("two", spec=spec) as container:
            process = await container.exec(command, stdout=asyncrt.PIPE)
            said.append((await process.stdout.read()).decode())
            await process.wait()
            process.close()
        print(json.dumps(said))
asyncio.run(main())
"""

_INSIDE = """
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
keyctl = 250 if os.uname().machine == "x86_64" else 219
key, ring = map(int, sys.argv[1:])
print("fds", *(fd for fd in map(int, os.listdir("/proc/self/fd")) if fd < 3 or os.path.exists(f"/proc/self/fd/{fd}")))
print("leader", os.getsid(0) == os.getpid(), os.getpgid(0) == os.getpid())
print("env", *sorted({*os.environ} - {"LC_CTYPE"}))  # that one is Python's
print("ring", libc.syscall(keyctl, 0, -3, 0) not in (ring, -1))
buffer = ctypes.create_string_buffer(100)
print("read", libc.syscall(keyctl, 11, key, buffer, 100), buffer.value)
print("found", libc.syscall(keyctl, 10, -3, b"user", b"asyncrt-test", 0))
print("linked", libc.syscall(keyctl, 8, ring, -3))
"""


@pytest.mark.parametrize("who", EVERYBODY)
def test_init_and_execs_have_no_descriptor_variable_terminal_or_key_of_the_launchers(
    root: str, python_image: str, who: str
) -> None:
    """CVE-2024-21626; CVE-2014-9529 and its like are reached by a keyring that is shared."""
    user = capabilities.ordinary_user() if who == USER else None
    if who == USER and not capabilities.has_userns():
        capabilities.skip_lacking("unprivileged user namespaces")
    made = with_python(config(python_image, ["true"], who=who, user=user))
    if user is not None:
        os.chown(root, user.uid, user.gid)
    done = subprocess.run(
        [sys.executable, "-B", "-c", _DRIVER, root, json.dumps(made), json.dumps(python(_INSIDE))],
        env={**os.environ, "PYTHONPATH": REPOSITORY, "SECRET": "x"},
        cwd="/",
        user=None if user is None else user.uid,
        group=None if user is None else user.gid,
        extra_groups=None if user is None else [],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        timeout=3 * SECONDS,
    )
    os.chown(root, 0, 0)
    said = json.loads(done.stdout)
    if said is None:
        capabilities.skip_lacking("kernel keys")
    for each in said:
        assert each.splitlines() == [
            "fds 0 1 2",
            "leader True True",
            "env HOME PATH",
            "ring True",
            "read -1 b''",
            "found -1",
            "linked -1",
        ]


_ON_TERMINAL = """
import asyncio, fcntl, json, os, sys, termios
import asyncrt
async def main():
    root, config = sys.argv[1], json.loads(sys.argv[2])
    async with asyncrt.Engine(root) as engine:
        spec = asyncrt.Spec.decode(json.dumps(config).encode())
        await engine.run("box", spec=spec, stdin=0, stdout=1, stderr=1)
os.setsid()
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
asyncio.run(main())
"""

_TYPE = """
import fcntl, os
for request, argument in ((0x5412, b"x"), (0x541C, b"\\\\2"), (0x540E, 0)):
    try:
        fcntl.ioctl(0, request, argument)
    except OSError as error:
        print("refused", os.isatty(0))
    else:
        print("done", hex(request))
try:
    os.open("/dev/tty", os.O_RDWR)
except OSError:
    print("no terminal of its own")
"""


@pytest.mark.parametrize("who", EVERYBODY)
def test_hazard_42_nothing_is_typed_into_the_terminal_of_who_runs_it(
    root: str, python_image: str, who: str
) -> None:
    """CVE-2017-5226: TIOCSTI, and TIOCLINUX; no filter here, the new session alone has to do."""
    user = capabilities.ordinary_user() if who == USER else None
    if who == USER and not capabilities.has_userns():
        capabilities.skip_lacking("unprivileged user namespaces")
    made = with_python(config(python_image, python(_TYPE), who=who, user=user))
    if user is not None:
        os.chown(root, user.uid, user.gid)
    ours, theirs = os.openpty()
    try:
        done = subprocess.run(
            [sys.executable, "-B", "-c", _ON_TERMINAL, root, json.dumps(made)],
            env={**os.environ, "PYTHONPATH": REPOSITORY},
            cwd="/",
            user=None if user is None else user.uid,
            group=None if user is None else user.gid,
            extra_groups=None if user is None else [],
            stdin=theirs,
            stdout=subprocess.PIPE,
            text=True,
            check=True,
            timeout=3 * SECONDS,
        )
    finally:
        os.close(ours)
        os.close(theirs)
    os.chown(root, 0, 0)
    assert done.stdout.splitlines() == [*["refused True"] * 3, "no terminal of its own"]


# What bears the process that joins is killed before it says who that is. Prints what is told, and
# whether the program ran.
_KILLED = """
import contextlib, json, os, signal, sys
from asyncrt.launch import beside, namespaces
path, ours, write = sys.argv[1], os.getpid(), os.write
def killed(fd, data):
    if os.getpid() != ours and data.isdigit():
        os.kill(os.getpid(), signal.SIGKILL)
    return write(fd, data)
os.write = killed
plan = {
    "args": ["/bin/sh", "-c", f"echo ran >{path}"], "env": ["PATH=/bin"], "cwd": "/", "uid": None,
    "gid": None, "groups": None, "umask": None, "rlimits": [], "no_new_privs": False,
    "oom_score_adj": None, "joins": {"kinds": namespaces.CLONE_NEWUTS, "ids": None},
}
uts = os.open("/proc/self/ns/uts", os.O_RDONLY)
null = os.open("/dev/null", os.O_RDWR)
_, report = beside.spawn(plan, [null] * 3, 0o022, ours, [uts])
said = b""
while part := os.read(report, 4096):
    said += part
with contextlib.suppress(ChildProcessError):
    while True:
        os.wait()
print(json.dumps([json.loads(said or b"{}").get("errno"), os.path.exists(path)]))
"""


def test_a_program_that_nobody_would_know_of_never_runs(tmp_path: Path) -> None:
    """HAZARDS 26. Who is asked for it hears why, and has nothing to end."""
    done = run_python(_KILLED, tmp_path / "ran")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [errno.ECHILD, False]
