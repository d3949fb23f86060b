"""Attempts to get out of a sandbox, each of which has to fail (the CVEs are others')."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

import asyncrt
from tests.helpers import sandboxes
from tests.helpers.containers import destroyed, init_of, rest
from tests.helpers.sandboxes import EVERYBODY, MAPPED, ROOT, ended_by, mount, said_by, shell, spec

pytestmark = [pytest.mark.needs_root, pytest.mark.needs_program("busybox")]

everybody = pytest.mark.parametrize("who", EVERYBODY)
as_root = pytest.mark.parametrize("who", [ROOT, MAPPED])

# All that root has on a machine; what a user namespace or the bounding set leaves of them is ours.
_CAPABILITIES = ["CAP_SYS_ADMIN", "CAP_SYS_PTRACE", "CAP_DAC_OVERRIDE", "CAP_MKNOD", "CAP_CHOWN"]


def _digest(path: str) -> str:
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


@everybody
def test_hazard_37_the_interpreter_cant_be_written_through_a_process_that_executes_itself(
    rootfs: str, who: str
) -> None:
    """CVE-2019-5736: /proc/self/exe is ours at the moment of the exec, and whoever holds it open.

    The script's shell is executed from /proc/self/exe of an init that is still the interpreter.
    """
    before = _digest(os.path.realpath(sys.executable))
    script = (
        "exec 3</proc/self/exe; echo x > /proc/self/exe; "
        "for p in /proc/[0-9]*; do echo x > $p/exe; done"
    )
    made = shell(rootfs, script, who, *_CAPABILITIES)
    assert "/proc/self/exe" in said_by(who, made), "it was tried"
    made["process"]["args"] = ["/proc/self/exe", "-c", "open('/proc/self/exe', 'wb')"]
    said_by(who, made)
    assert _digest(os.path.realpath(sys.executable)) == before


@everybody
def test_hazard_37_what_waits_at_the_gate_shows_nothing_of_the_host(rootfs: str, who: str) -> None:
    """CVE-2016-9962, CVE-2024-21626: neither descriptors nor memory, not even before the start."""
    script = (
        "cat /proc/1/comm; ls -l /proc/1/fd /proc/1/cwd/ /proc/1/root/; cat /proc/1/environ"
        " /proc/1/maps; head -c 1 /proc/1/mem; echo x > /proc/1/exe; readlink /proc/1/ns/*; echo done"
    )
    made = shell(rootfs, f"({script}) 2>/dev/null", who)
    code, out, _ = ended_by(who, made, by_exec="created")
    assert code == 0
    assert out.startswith("asyncrt:gate\n")
    assert out.endswith("done\n")
    assert "->" not in out, "numbers of descriptors may show, never what they are of"
    assert "usr" not in out


async def test_hazard_37_an_interpreter_at_the_gate_is_on_a_read_only_mount(
    engine: asyncrt.Engine, root: str, rootfs: str
) -> None:
    """Root with every capability, and so with the right to look, can't write to it either."""
    container = await engine.create("box", spec=spec(shell(rootfs, "sleep 1000")))
    async with destroyed(container):
        path = f"/proc/{init_of(container, root)}/exe"
        assert os.path.samefile(path, sys.executable)
        with pytest.raises(OSError, match="Read-only file system"):
            os.utime(path)  # an open for writing would say first that it is busy


async def test_who_is_in_a_joined_namespace_cant_look_through_what_joins(
    engine: asyncrt.Engine, root: str, rootfs: str
) -> None:
    """CVE-2016-9962: /proc/PID/root of an init that isn't in its own root yet is the host's."""
    watch = "echo go; while true; do for p in /proc/[0-9]*; do ls -d $p/root/usr; done; done"
    container = await engine.create(
        "box", spec=spec(shell(rootfs, "sleep 1000", MAPPED, *_CAPABILITIES))
    )
    async with destroyed(container):
        await container.start()
        watcher = await container.exec(
            ["/bin/sh", "-c", watch], stdout=asyncrt.PIPE, stderr=asyncrt.DEVNULL
        )
        assert watcher.stdout is not None
        assert await watcher.stdout.readline() == b"go\n"
        made = shell(rootfs, "echo joined", MAPPED)
        del made["linux"]["uidMappings"], made["linux"]["gidMappings"]
        for each in made["linux"]["namespaces"]:
            if each["type"] in {"user", "pid"}:
                each["path"] = f"/proc/{init_of(container, root)}/ns/{each['type']}"
        for number in range(5):
            assert await sandboxes.said(engine, made, id=f"joins{number}") == "joined\n"
        await container.kill("KILL")
        assert await rest(watcher.stdout) == ""
        watcher.close()


_ATTEMPTS = (
    "ls /proc/1/root/../../../../usr",
    "cd /proc/1/cwd/../../../.. && ls -d usr",
    "nsenter -t 1 -m ls /usr",
    "chroot /proc/1/root ls /usr",
    "mount -t tmpfs tmpfs /data",
    "umount /proc/keys",
    "mount -o remount,rw /",
    "mount -o remount,rw,bind /proc/sys",
    "mknod /tmp/disk b 254 0 && head -c 1 /tmp/disk",
    "echo 1 > /proc/sys/kernel/panic",
    "echo core > /proc/sys/kernel/core_pattern",
    "echo b > /proc/sysrq-trigger",
    "[ $(dd if=/proc/kcore bs=1 count=1 | wc -c) = 1 ]",
    "echo -1000 > /proc/self/oom_score_adj",
    "hostname other",
    "chown 12345 /tmp",
    "unshare -m true",
    "echo x > /proc/1/mem",
)


@everybody
def test_no_attempt_leads_out(rootfs: str, who: str) -> None:
    """All of them in one sandbox, whose root has no capability."""
    script = "".join(
        f"if ({attempt}) >/dev/null 2>&1; then echo {number}; fi\n"
        for number, attempt in enumerate(_ATTEMPTS)
    )
    said = said_by(who, shell(rootfs, script + "echo all", who))
    succeeded = [_ATTEMPTS[int(each)] for each in said.split()[:-1]]
    assert said.split()[-1] == "all"
    assert succeeded == []


@pytest.mark.parametrize(
    "attempt",
    [
        "mount -t proc proc /data && echo x > /data/sys/kernel/core_pattern",
        "echo x > /proc/sys/kernel/core_pattern",
        "mknod /tmp/disk b 254 0 && head -c 1 /tmp/disk",
        "mount -o remount,rw / && touch /new",
    ],
)
def test_a_user_namespaces_root_with_all_capabilities_stays_inside(
    rootfs: str, attempt: str
) -> None:
    """Without one, who gives CAP_SYS_ADMIN to the host's root trusts it."""
    pattern = Path("/proc/sys/kernel/core_pattern").read_text(encoding="utf-8")
    made = shell(
        rootfs, f"if ({attempt}) >/dev/null 2>&1; then echo out; fi", MAPPED, *_CAPABILITIES
    )
    assert said_by(MAPPED, made) == ""
    assert Path("/proc/sys/kernel/core_pattern").read_text(encoding="utf-8") == pattern
    assert not os.path.exists(f"{rootfs}/new")


@as_root
def test_the_hosts_own_device_nodes_cant_be_changed_from_inside(rootfs: str, who: str) -> None:
    """What covers a mask is the host's /dev/null: a chmod there would be one for everybody."""
    made = shell(
        rootfs,
        "for f in /proc/keys /dev/null; do chmod 666 $f && echo $f; done 2>/dev/null;"
        " echo x > /proc/keys && echo used",
        who,
        *("CAP_FOWNER", "CAP_CHOWN", "CAP_DAC_OVERRIDE"),
    )
    if who == MAPPED:  # with the owner of the host's nodes among those that are mapped
        for each in ("uidMappings", "gidMappings"):
            made["linux"][each] = [{"containerID": 0, "hostID": 0, "size": 1000}]
        for each in made["mounts"]:
            each["options"] = [option for option in each["options"] if "gid=" not in option]
    own = "/dev/null\n" if who == ROOT else ""  # a node of the sandbox's own file system
    before = os.stat("/dev/null").st_mode
    assert said_by(who, made) == f"{own}used\n"
    assert os.stat("/dev/null").st_mode == before


async def test_the_null_device_that_a_sandbox_is_given_cant_be_changed_through_its_descriptor(
    engine: asyncrt.Engine, rootfs: str
) -> None:
    """Standard input is the host's own node, of which root inside is the owner."""
    attempt = (
        "chmod 666 /proc/self/fd/0 && echo changed; cat; echo x > /proc/self/fd/0 && echo used"
    )
    container = await engine.create(
        "box", spec=spec(shell(rootfs, f"{attempt}; exec sleep 1000")), stdout=asyncrt.PIPE
    )
    async with destroyed(container):
        await container.start()
        assert container.stdout is not None
        assert await container.stdout.readline() == b"used\n"
        process = await container.exec(
            ["/bin/sh", "-c", attempt], stdout=asyncrt.PIPE, stderr=asyncrt.DEVNULL
        )
        assert await rest(process.stdout) == "used\n"
        process.close()


@pytest.fixture
def shared_volume(open_directory: Path) -> Iterator[Path]:
    """A directory of the host's whose mounts propagate."""
    path = open_directory / "volume"
    (path / "inner").mkdir(parents=True)
    (path / "inner").chmod(0o777)
    subprocess.run(["mount", "--bind", str(path), str(path)], check=True)
    try:
        subprocess.run(["mount", "--make-shared", str(path)], check=True)
        yield path
    finally:
        subprocess.run(["umount", "-R", str(path)], check=True)


@everybody
def test_what_is_mounted_inside_never_shows_on_the_host(
    rootfs: str, shared_volume: Path, who: str
) -> None:
    """By who may mount there; what was bound is a slave, whatever its propagation is made inside."""
    host = "/proc/self/mountinfo"
    before = sandboxes.mounts_below(str(shared_volume))
    with tempfile.TemporaryDirectory(prefix="asyncrt-open-") as directory:
        os.chmod(directory, 0o777)
        told, go = f"{directory}/told", f"{directory}/go"
        os.mkfifo(told)
        os.mkfifo(go)
        os.chmod(told, 0o666)
        os.chmod(go, 0o666)
        script = (
            "mount --make-rshared /data; mount -t tmpfs tmpfs /data/inner && "
            f"grep -c /data/inner {host} > /work/told; read line < /work/go"
        )
        made = shell(rootfs, script, who, *_CAPABILITIES)
        made["mounts"] += [
            mount("/data", "bind", "rbind", source=str(shared_volume)),
            mount("/work", "bind", "rbind", source=directory),
        ]
        running = threading.Thread(target=said_by, args=(who, made))
        running.start()
        try:
            with open(told, encoding="ascii") as file:
                assert file.read() == "1\n", "it is mounted there"
            assert sandboxes.mounts_below(str(shared_volume)) == before
        finally:
            with open(go, "w", encoding="ascii") as file:
                file.write("go\n")
            running.join()


async def test_hazard_41_the_working_directory_is_inside(
    engine: asyncrt.Engine, rootfs: str
) -> None:
    """CVE-2024-21626."""
    for number in range(3, 30):
        made = shell(rootfs, "pwd")
        made["process"]["cwd"] = f"/proc/self/fd/{number}"
        with pytest.raises(asyncrt.AsyncrtError):
            await sandboxes.said(engine, made, id=f"box{number}")
