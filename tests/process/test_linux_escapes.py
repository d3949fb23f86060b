"""Attempts to get out of a sandbox, each of which has to fail (the CVEs are others')."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import asyncrt
from asyncrt import _libc
from tests.helpers import capabilities, sandboxes
from tests.helpers.containers import destroyed, init_of, rest
from tests.helpers.sandboxes import EVERYBODY, MAPPED, ROOT, USER, config, mount, spec

pytestmark = [pytest.mark.needs_root, pytest.mark.needs_program("busybox")]

everybody = pytest.mark.parametrize("who", EVERYBODY)
as_root = pytest.mark.parametrize("who", [ROOT, MAPPED])

# All that root has on a machine; what a user namespace or the bounding set leaves of them is ours.
_CAPABILITIES = ["CAP_SYS_ADMIN", "CAP_SYS_PTRACE", "CAP_DAC_OVERRIDE", "CAP_MKNOD", "CAP_CHOWN"]


def _shell(rootfs: str, script: str, who: str = ROOT, *caps: str) -> dict[str, Any]:
    user = capabilities.ordinary_user()
    made = config(rootfs, ["/bin/sh", "-c", script], who=who, user=user)
    if caps:
        sets = ("bounding", "effective", "permitted")
        made["process"]["capabilities"] = {each: list(caps) for each in sets}
    return made


def _said(made: dict[str, Any], who: str) -> str:
    """What it writes, run by that one."""
    user = capabilities.ordinary_user() if who == USER else None
    if who == USER and not capabilities.has_userns():
        capabilities.skip_lacking("unprivileged user namespaces")
    root = tempfile.mkdtemp(prefix="asyncrt-test-")
    try:
        if user is not None:
            os.chown(root, user.uid, user.gid)
        _, out, err = sandboxes.said_to(root, made, user)
    finally:
        shutil.rmtree(root)
    return out + err


def _digest(path: str) -> str:
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


@everybody
def test_the_interpreter_cant_be_written_through_a_process_that_executes_itself(
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
    made = _shell(rootfs, script, who, *_CAPABILITIES)
    assert "/proc/self/exe" in _said(made, who), "it was tried"
    made["process"]["args"] = ["/proc/self/exe", "-c", "open('/proc/self/exe', 'wb')"]
    _said(made, who)
    assert _digest(os.path.realpath(sys.executable)) == before


@as_root
async def test_what_waits_at_the_gate_or_joins_shows_nothing_of_the_host(
    engine: asyncrt.Engine, root: str, rootfs: str, who: str
) -> None:
    """CVE-2016-9962, CVE-2024-21626: neither descriptors nor memory, not even before the start."""
    container = await engine.create("box", spec=spec(_shell(rootfs, "sleep 1000", who)))
    async with destroyed(container):
        script = (
            "ls -l /proc/1/fd /proc/1/cwd/ /proc/1/root/; cat /proc/1/environ /proc/1/maps; "
            "head -c 1 /proc/1/mem; echo x > /proc/1/exe; echo done"
        )
        process = await container.exec(
            ["/bin/sh", "-c", script], stdout=asyncrt.PIPE, stderr=asyncrt.DEVNULL
        )
        said = await rest(process.stdout)
        assert said.endswith("done\n")
        assert "->" not in said, "numbers of descriptors may show, never what they are of"
        assert "usr" not in said
        process.close()


async def test_an_interpreter_at_the_gate_is_on_a_read_only_mount(
    engine: asyncrt.Engine, root: str, rootfs: str
) -> None:
    """Root with every capability, and so with the right to look, can't write to it either."""
    container = await engine.create("box", spec=spec(_shell(rootfs, "sleep 1000")))
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
        "box", spec=spec(_shell(rootfs, "sleep 1000", MAPPED, *_CAPABILITIES))
    )
    async with destroyed(container):
        await container.start()
        watcher = await container.exec(
            ["/bin/sh", "-c", watch], stdout=asyncrt.PIPE, stderr=asyncrt.DEVNULL
        )
        assert watcher.stdout is not None
        assert await watcher.stdout.readline() == b"go\n"
        made = _shell(rootfs, "echo joined", MAPPED)
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
    said = _said(_shell(rootfs, script + "echo all", who), who)
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
    made = _shell(
        rootfs, f"if ({attempt}) >/dev/null 2>&1; then echo out; fi", MAPPED, *_CAPABILITIES
    )
    assert _said(made, MAPPED) == ""
    assert Path("/proc/sys/kernel/core_pattern").read_text(encoding="utf-8") == pattern
    assert not os.path.exists(f"{rootfs}/new")


@as_root
def test_the_hosts_own_device_nodes_cant_be_changed_from_inside(rootfs: str, who: str) -> None:
    """What covers a mask is the host's /dev/null: a chmod there would be one for everybody."""
    made = _shell(
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
    assert _said(made, who) == f"{own}used\n"
    assert os.stat("/dev/null").st_mode == before


async def test_the_null_device_that_a_sandbox_is_given_cant_be_changed_through_its_descriptor(
    engine: asyncrt.Engine, rootfs: str
) -> None:
    """Standard input is the host's own node, of which root inside is the owner."""
    attempt = (
        "chmod 666 /proc/self/fd/0 && echo changed; cat; echo x > /proc/self/fd/0 && echo used"
    )
    container = await engine.create(
        "box", spec=spec(_shell(rootfs, f"{attempt}; exec sleep 1000")), stdout=asyncrt.PIPE
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


async def test_nothing_is_imported_from_the_containers_files(
    engine: asyncrt.Engine, tmp_path: Path
) -> None:
    """The interpreter that sets a container up looks for modules at paths that the image has too."""
    image = sandboxes.make_rootfs(str(tmp_path / "image"))
    for directory in {os.path.dirname(os.__file__), *(each for each in sys.path if each)}:
        os.makedirs(f"{image}/{directory}", exist_ok=True)
        for name in ("json", "traceback", "linecache", "encodings", "homes", "pwd", "socket"):
            Path(f"{image}/{directory}/{name}.py").write_text(
                "open('/tmp/imported', 'w')\n", encoding="utf-8"
            )
    made = _shell(image, "ls /tmp")
    made["process"]["user"] = {"uid": 1000, "gid": 1000}
    assert await sandboxes.said(engine, made) == ""
    made["process"]["args"] = ["nothing"]
    container = await engine.create("box", spec=spec(made))
    async with destroyed(container):
        with pytest.raises(asyncrt.StartFailed):
            await container.start()


async def test_a_planted_terminal_isnt_taken(engine: asyncrt.Engine, tmp_path: Path) -> None:
    """CVE-2025-52565: what is bound over /dev/console is one of a devpts, by descriptor."""
    image = sandboxes.make_rootfs(str(tmp_path / "image"))
    os.makedirs(f"{image}/dev/pts")
    Path(f"{image}/dev/pts/ptmx").write_text("planted", encoding="utf-8")
    made = _shell(image, "true")
    made["process"]["terminal"] = True
    made["mounts"] = [each for each in made["mounts"] if not each["destination"].startswith("/dev")]
    with pytest.raises(asyncrt.StartFailed) as caught:
        await engine.create("box", spec=spec(made))
    assert caught.value.what == "process.terminal"


@everybody
def test_a_proc_that_is_renamed_while_it_is_made_is_masked_all_the_same(
    open_directory: Path, who: str
) -> None:
    """CVE-2021-30465, CVE-2025-31133: who can write to the image swaps what the masks are found by.

    A hook does it, right before they are put on; what is mounted goes with the directory's name.
    """
    image = sandboxes.make_rootfs(str(open_directory / "image"))
    Path(image, "false").mkdir()
    Path(image, "false", "keys").touch()
    Path(image, "false", "sys").mkdir()
    made = _shell(
        image, "cat /moved/timer_list | wc -l; true > /moved/sys/kernel/shm_rmid_forced", who
    )
    swap = f"cd {image} && mv proc moved && mv false proc"
    made["hooks"] = {"createRuntime": [{"path": "/bin/sh", "args": ["sh", "-c", swap]}]}
    if who == USER:
        user = capabilities.ordinary_user()
        assert user is not None
        for path in (image, f"{image}/proc", f"{image}/false"):
            os.chown(path, user.uid, user.gid)
    out = _said(made, who)
    assert out.startswith("0\n")
    assert "Read-only file system" in out


def _planted(directory: Path, who: str, link: str) -> str:
    """An image of that one's own, with a link in it."""
    image = sandboxes.make_rootfs(str(directory / "image"))
    os.symlink(link, f"{image}/out")
    user = capabilities.ordinary_user()
    assert user is not None
    uid = {ROOT: 0, MAPPED: 100000, USER: user.uid}[who]
    for place in (image, f"{image}/etc"):
        os.chown(place, uid, uid)
    return image


@everybody
@pytest.mark.parametrize("link", ["/etc", "../../../../../../etc"])
def test_no_place_in_an_image_leads_out_of_it(open_directory: Path, who: str, link: str) -> None:
    """CVE-2021-30465, CVE-2026-55686: mounts, devices, working directory, masks, all through a link."""
    image = _planted(open_directory, who, link)
    name = f"asyncrt-test-{os.getpid()}"
    made = _shell(image, "ls /etc; pwd; cat /etc/passwd; true > /etc/passwd", who)
    made["root"]["readonly"] = False
    made["process"]["cwd"] = f"/out/{name}-cwd"
    made["mounts"] += [
        mount(f"/out/{name}-mount", "tmpfs"),
        mount(f"/out/{name}-file", "bind", "bind", source="/etc/passwd"),
    ]
    if who == ROOT:  # for others it is the host's node of the same name, which isn't there
        device = {"path": f"/out/{name}-device", "type": "c", "major": 1, "minor": 3}
        made["linux"]["devices"] = [device]
    made["linux"]["maskedPaths"] = ["/out/passwd"]
    made["linux"]["readonlyPaths"] = ["/out"]
    found = _said(made, who).split()
    kinds = ["cwd", "file", "mount", *(["device"] if who == ROOT else [])]
    assert found[: len(kinds)] == sorted(f"{name}-{each}" for each in kinds)
    assert f"/etc/{name}-cwd" in found
    assert "root:x:0:0:root:/root:/bin/sh" not in found, "it is masked"
    assert not [each for each in os.listdir("/etc") if each.startswith(name)]
    assert Path("/etc/passwd").read_bytes()


@everybody
@pytest.mark.parametrize("change", ["mount", "cwd"])
def test_no_magic_link_is_followed(open_directory: Path, who: str, change: str) -> None:
    image = _planted(open_directory, who, "/proc/self/root/etc")
    name = f"/out/asyncrt-test-{os.getpid()}"
    made = _shell(image, "true", who)
    made["root"]["readonly"] = False
    if change == "cwd":
        made["process"]["cwd"] = name
    else:
        made["mounts"].append(mount(name, "tmpfs"))
    assert _said(made, who).startswith("container 'box': ")
    assert not os.path.lexists(f"/etc{name[4:]}")


@everybody
def test_dots_in_a_path_end_at_the_images_root(open_directory: Path, who: str) -> None:
    image = _planted(open_directory, who, "/etc")
    name = f"asyncrt-test-{os.getpid()}"
    made = _shell(image, "ls /; pwd", who)
    made["root"]["readonly"] = False
    made["process"]["cwd"] = f"/../../../{name}-cwd"
    made["mounts"].append(mount(f"/../../../{name}-mount", "tmpfs"))
    found = _said(made, who).split()
    assert {f"{name}-cwd", f"{name}-mount", f"/{name}-cwd"} <= {*found}
    assert not [each for each in os.listdir("/") if each.startswith(name)]


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
        made = _shell(rootfs, script, who, *_CAPABILITIES)
        made["mounts"] += [
            mount("/data", "bind", "rbind", source=str(shared_volume)),
            mount("/work", "bind", "rbind", source=directory),
        ]
        running = threading.Thread(target=_said, args=(made, who))
        running.start()
        try:
            with open(told, encoding="ascii") as file:
                assert file.read() == "1\n", "it is mounted there"
            assert sandboxes.mounts_below(str(shared_volume)) == before
        finally:
            with open(go, "w", encoding="ascii") as file:
                file.write("go\n")
            running.join()


async def test_the_working_directory_is_inside(engine: asyncrt.Engine, rootfs: str) -> None:
    """CVE-2024-21626."""
    for number in range(3, 30):
        made = _shell(rootfs, "pwd")
        made["process"]["cwd"] = f"/proc/self/fd/{number}"
        with pytest.raises(asyncrt.AsyncrtError):
            await sandboxes.said(engine, made, id=f"box{number}")


def test_what_covers_a_mask_is_checked_to_be_the_null_device() -> None:
    """CVE-2025-31133."""
    pid = _libc.clone(0x20000)  # CLONE_NEWNS
    if pid == 0:
        code = 1
        try:
            from asyncrt.launch import devices, mounts
            from asyncrt.launch.failure import Failure

            slash = os.open("/", os.O_PATH)
            mounts.change(slash, propagation=mounts.MS_PRIVATE, recursive=True)
            place = os.open("/dev/null", os.O_PATH)
            mounts.attach(mounts.clone_path("/dev/zero", recursive=False), place)
            try:
                devices.real_null()
            except Failure:
                code = 0
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
