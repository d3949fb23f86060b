"""Sandboxes for tests: a root file system of busybox, configs over it, and who runs them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from typing import Any

import asyncrt
from tests.helpers import capabilities
from tests.helpers.capabilities import User
from tests.helpers.containers import SECONDS
from tests.helpers.processes import REPOSITORY

LIBRARIES = "/etc/ld.so.cache"  # where they are (ld.so(8))
MASKED = ["/proc/kcore", "/proc/keys", "/proc/timer_list", "/proc/scsi", "/sys/firmware", "/gone"]
READ_ONLY = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger", "/gone"]
NAMESPACES = ("mount", "uts", "pid", "ipc", "network", "cgroup")

# Who may run a sandbox: root in the host's user namespace, root with a map, an ordinary user.
ROOT, MAPPED, USER = "root", "mapped", "user"
EVERYBODY = (ROOT, MAPPED, USER)


def make_rootfs(path: str) -> str:
    """A root file system that every user can read: busybox, a few directories, two users."""
    busybox = shutil.which("busybox")
    if busybox is None:
        capabilities.skip_lacking("the program busybox")
    for name in (*("bin", "data", "dev", "etc", "home/app", "proc", "root", "sys", "tmp", "work"),):
        os.makedirs(os.path.join(path, name), mode=0o755)
    shutil.copy(busybox, os.path.join(path, "bin/busybox"))
    listed = subprocess.run([busybox, "--list"], capture_output=True, text=True, check=True)
    for name in listed.stdout.split():
        if name != "busybox":
            os.symlink("busybox", os.path.join(path, "bin", name))
    with open(os.path.join(path, "etc/passwd"), "w", encoding="utf-8") as passwd:
        passwd.write("root:x:0:0:root:/root:/bin/sh\napp:x:1000:1000::/home/app:/bin/sh\n")
    os.chmod(path, 0o755)
    return path


def config(
    rootfs: str,
    args: list[str],
    *,
    who: str = ROOT,
    namespaces: tuple[str, ...] = NAMESPACES,
    user: User | None = None,
) -> dict[str, Any]:
    """An ordinary config.json, for that one to run; `user` is the ordinary one."""
    kinds = [*namespaces, *(() if who == ROOT else ("user",))]
    gid = [] if who == USER else ["gid=5"]  # a single id is mapped then
    made: dict[str, Any] = {
        "ociVersion": "1.2.0",
        "process": {
            "args": args,
            "cwd": "/work",
            "env": ["PATH=/bin"],
            "user": {"uid": 0, "gid": 0},
        },
        "root": {"path": rootfs, "readonly": True},
        "hostname": "box",
        "mounts": [
            mount("/proc", "proc", "nosuid", "noexec", "nodev"),
            mount("/dev", "tmpfs", "nosuid", "strictatime", "mode=755", "size=64k"),
            mount("/dev/pts", "devpts", "nosuid", "noexec", "newinstance", "ptmxmode=0666", *gid),
            mount("/dev/shm", "tmpfs", "nosuid", "noexec", "nodev", "mode=1777", "size=64k"),
            mount("/dev/mqueue", "mqueue", "nosuid", "noexec", "nodev"),
            mount("/sys", "sysfs", "nosuid", "noexec", "nodev", "ro"),
            mount("/tmp", "tmpfs", "nosuid", "nodev", "mode=1777"),
        ],
        "linux": {
            "namespaces": [{"type": each} for each in kinds],
            "maskedPaths": MASKED,
            "readonlyPaths": READ_ONLY,
        },
    }
    if who != ROOT:
        uid, gid_of, size = 100000, 100000, 65536
        if who == USER:
            assert user is not None
            uid, gid_of, size = user.uid, user.gid, 1
        made["linux"]["uidMappings"] = [{"containerID": 0, "hostID": uid, "size": size}]
        made["linux"]["gidMappings"] = [{"containerID": 0, "hostID": gid_of, "size": size}]
    return made


def mount(destination: str, type: str, *options: str, source: str | None = None) -> dict[str, Any]:
    """One mount of a config."""
    found = {"destination": destination, "type": type, "source": source or type}
    return {**found, "options": list(options)}


def python(program: str, *args: str) -> list[str]:
    """The command that runs a program of nothing but the standard library `with_python`."""
    return [os.path.realpath(sys.executable), "-I", "-S", "-c", program, *args]


def host_programs() -> list[str]:
    """The directories of the host's that hold programs and what they need, Python's among them."""
    tops = ["/usr", "/lib", "/lib64", sys.base_prefix]
    return [each for each in dict.fromkeys(tops) if os.path.isdir(each)]


def with_python(made: dict[str, Any]) -> dict[str, Any]:
    """The same config with the host's programs, read-only, on an image that has places for them."""
    made["mounts"] += [mount(each, "bind", "rbind", "rro", source=each) for each in host_programs()]
    if os.path.exists(LIBRARIES):
        made["mounts"].append(mount(LIBRARIES, "bind", "bind", "ro", source=LIBRARIES))
    return made


def mounts_below(*paths: str) -> list[str]:
    """What is mounted of, or at, these paths in our own namespace; others mount elsewhere."""
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as lines:
        return [line for line in lines if any(path in line for path in paths)]


def spec(made: dict[str, Any], bundle: str | None = None) -> asyncrt.Spec:
    """The spec of a config."""
    return asyncrt.Spec.decode(json.dumps(made).encode(), bundle=bundle)


async def said(engine: asyncrt.Engine, made: dict[str, Any], id: str = "box") -> str:
    """What a sandbox that ends well writes, run from here."""
    done = await engine.run(
        id, spec=spec(made), stdout=asyncrt.PIPE, stderr=asyncrt.PIPE, timeout=SECONDS
    )
    assert done.exit.exit_code == 0, done
    assert not done.stderr, done
    return (done.stdout or b"").decode()


_AS_SOMEBODY = """
import asyncio, json, sys
import asyncrt
PIPES = {"stdout": asyncrt.PIPE, "stderr": asyncrt.PIPE}
async def main():
    root, config, by_exec = sys.argv[1], json.loads(sys.argv[2]), sys.argv[3]
    args = config["process"]["args"]
    if by_exec:
        config["process"]["args"] = ["/bin/sleep", "1000"]
    spec = asyncrt.Spec.decode(json.dumps(config).encode())
    async with asyncrt.Engine(root) as engine:
        try:
            if not by_exec:
                done = await engine.run("box", spec=spec, **PIPES)
                said = [done.exit.exit_code, done.stdout.decode(), done.stderr.decode()]
            else:
                container = await engine.create("box", spec=spec)
                try:
                    if by_exec == "started":
                        await container.start()
                    process = await container.exec(args, **PIPES)
                    out, err = await asyncio.gather(process.stdout.read(), process.stderr.read())
                    said = [(await process.wait()).exit_code, out.decode(), err.decode()]
                    process.close()
                finally:
                    await container.destroy()
        except asyncrt.StartFailed as error:
            said = [127, "", str(error)]
    print(json.dumps(said))
asyncio.run(main())
"""


def said_to(
    root: str, made: dict[str, Any], user: User | None = None, *, by_exec: str = ""
) -> tuple[int, str, str]:
    """Exit code and output of a sandbox that an interpreter of its own runs, as that user.

    127 and the error for one that couldn't be started. `by_exec`: the process is exec'd into one that
    is "created" or "started".
    """
    done = subprocess.run(
        [sys.executable, "-B", "-c", _AS_SOMEBODY, root, json.dumps(made), by_exec],
        env={**os.environ, "PYTHONPATH": REPOSITORY},
        capture_output=True,
        cwd="/",
        user=None if user is None else user.uid,
        group=None if user is None else user.gid,
        extra_groups=None if user is None else [],
        check=False,
        timeout=3 * SECONDS,
    )
    assert done.returncode == 0, done.stderr.decode()
    code, out, err = json.loads(done.stdout)
    return code, out, err


def shell(rootfs: str, script: str, who: str = ROOT, *caps: str) -> dict[str, Any]:
    """The config of a shell's script, for that one to run, with these capabilities (none: none)."""
    made = config(rootfs, ["/bin/sh", "-c", script], who=who, user=capabilities.ordinary_user())
    if caps:
        sets = ("bounding", "effective", "permitted")
        made["process"]["capabilities"] = {each: list(caps) for each in sets}
    return made


def ended_by(who: str, made: dict[str, Any], *, by_exec: str = "") -> tuple[int, str, str]:
    """As `said_to`, run by one of EVERYBODY on a root of its own."""
    user = capabilities.ordinary_user() if who == USER else None
    if who == USER and not capabilities.has_userns():
        capabilities.skip_lacking("unprivileged user namespaces")
    root = tempfile.mkdtemp(prefix="asyncrt-test-")
    try:
        if user is not None:
            os.chown(root, user.uid, user.gid)
        return said_to(root, made, user, by_exec=by_exec)
    finally:
        shutil.rmtree(root)


def said_by(who: str, made: dict[str, Any]) -> str:
    """What it writes, the error of one that couldn't be started included."""
    _, out, err = ended_by(who, made)
    return out + err
