"""Overlays that fuse-overlayfs serves, where the kernel makes none."""

from __future__ import annotations

import contextlib
import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from asyncrt import _procid
from asyncrt.launch import servers
from asyncrt.state import read_record
from tests.helpers import layers, sandboxes
from tests.helpers.capabilities import User
from tests.helpers.containers import gone, in_state
from tests.helpers.layers import ADDED, REMOVED, members, owned_rootfs
from tests.helpers.processes import Interpreter, until
from tests.helpers.refusals import HIDDEN
from tests.helpers.sandboxes import EVERYBODY, ROOT, USER, config

pytestmark = [
    pytest.mark.needs_root,
    pytest.mark.needs_userns,
    pytest.mark.needs_program("busybox"),
    pytest.mark.needs_fuse,
]


@pytest.mark.parametrize("kind", ["memory", "disk", "upper"])
@pytest.mark.parametrize("who", EVERYBODY)
async def test_where_the_kernel_refuses_what_is_written_is_the_layers_all_the_same(
    who: str, kind: str, root: str, place: str, open_directory: Path, ordinary_user: User
) -> None:
    rootfs = owned_rootfs(str(open_directory / "rootfs"), who, ordinary_user)
    before = layers.picture(rootfs)
    running, stopped = await layers.life_of(
        who, ordinary_user, root, rootfs, kind, place, refused=True
    )
    assert layers.picture(rootfs) == before
    assert sandboxes.mounts_below(str(open_directory), root, layers.MOUNTED) == []
    assert os.listdir(place) == (["kept"] if kind == "upper" else [])
    os.chown(root, os.geteuid(), os.getegid())  # of an ordinary user's, for who cleans up
    assert running == stopped
    found = members(running)
    assert set(found) >= ADDED | REMOVED
    # It takes every directory that it makes for one that hides what is below, which changes nothing.
    assert {each for each in found if ".wh." in each} - REMOVED <= {"work/.wh..wh..opq"}
    assert {each for each in found if found[each].isdir()} <= {
        "bin",
        "work",
        "home",
        "etc",
        ".",
        "dev",
    }
    assert layers.content(running, "work/new") == b"new\n"
    assert layers.content(running, "etc/passwd").endswith(b"more\n")
    assert found["work/out"].linkname == "../../../../etc/shadow"
    assert {found["work/new"].type, found["work/twin"].type} == {b"0", b"1"}
    assert {(each.uid, each.gid) for name, each in found.items() if name in ADDED} == {(0, 0)}
    assert not any("xattr" in key for each in found.values() for key in each.pax_headers)


class Elsewhere(Interpreter):
    """A child where the kernel refuses, with a container "box" in it that runs, and does as it is told."""

    CODE = """
import asyncio, json, os, signal, sys
from asyncrt import _libc
from tests.helpers import layers, refusals
root, made, kind, directory, lease, *there = sys.argv[1:]
leased = os.open(lease, os.O_RDWR) if lease else -1  # now: where we go it is below overlays
refusals.main(there)
import asyncrt
from tests.helpers.containers import line

async def main():
    loop = asyncio.get_running_loop()
    if lease:
        # Who opens it waits for us, until somebody kills it (fcntl(2), "Leases").
        signal.signal(signal.SIGIO, signal.SIG_IGN)
        _libc.call("fcntl", leased, 1024, 1)  # F_SETLEASE, F_WRLCK
    async with asyncrt.Engine(root, platform="linux") as engine:
        spec = asyncrt.Spec.decode(made.encode())
        overlay = layers.overlay_of(kind, directory)
        box = await engine.create("box", spec=spec, overlay=overlay, stdout=asyncrt.PIPE)
        await box.start()
        print(await line(box.stdout), flush=True)
        while True:
            word = await loop.run_in_executor(None, sys.stdin.readline)
            said = "done"
            if word == "wait\\n":
                result = await box.wait(20)
                said = f"{result.reason} {result.signal}"
            elif word == "export\\n":
                try:
                    said = " ".join(sorted(layers.members(await layers.exported(box))))
                except asyncrt.AsyncrtError as error:
                    said = type(error).__name__
            elif word == "ps\\n":
                said = " ".join(str(each.pid) for each in await box.processes())
            elif word == "pause\\n":
                await box.pause()
            elif word == "resume\\n":
                await box.resume()
            elif word == "stop\\n":
                await box.stop(0)
            elif word in {"destroy\\n", "destroy soon\\n"}:
                await box.destroy(timeout=0.5 if "soon" in word else 20)
                said = json.dumps([each.id for each in await engine.list()])
            print(said, flush=True)
asyncio.run(main())
"""

    def __init__(
        self,
        root: str,
        who: str,
        user: User,
        directory: Path,
        script: str,
        *,
        kind: str = "memory",
        lease: str = "",
    ) -> None:
        """`lease` is a file made in its root that can't be opened before it ends."""
        self.root = root
        self.rootfs = str(directory / "rootfs")
        self.place = str(directory / "layers")
        if not os.path.exists(self.rootfs):
            owned_rootfs(self.rootfs, who, user)
            os.mkdir(self.place)
        if lease:
            Path(lease).touch()
        if who == USER:
            for each in (root, self.place):
                os.chown(each, user.uid, user.gid)
        made = config(self.rootfs, ["/bin/sh", "-c", script], who=who, user=user)
        there = (who, self.rootfs, user.uid, user.gid)
        arguments = (root, json.dumps(made), kind, self.place, lease, *there)
        super().__init__(self.CODE, *arguments, flags=("-B",))

    async def told(self, word: str) -> str:
        """What it answers."""
        self.say(word)
        return await self.next_line(timeout=40)

    def pids(self) -> dict[str, int]:
        """Of the processes of its container's sandbox."""
        record = read_record(self.root, "box")
        assert record.init is not None
        assert record.supervisor is not None
        assert record.gofer is not None
        found = {
            "init": record.init.pid,
            "supervisor": record.supervisor.pid,
            "gofer": record.gofer.pid,
        }
        (found["server"],) = servers.find(record.gofer.pid)
        return found


@contextlib.contextmanager
def given_back(root: str) -> Iterator[None]:
    """An ordinary user's root for records is ours again at the end, for who cleans up."""
    try:
        yield
    finally:
        os.chown(root, os.geteuid(), os.getegid())


_RUNS = "echo mine > /work/f; rm -r /home; echo ready; exec sleep 1000"
_WROTE = ". .wh.home work work/f"


@pytest.mark.crash
@pytest.mark.parametrize("victim", ["server", "gofer", "supervisor", "everything"])
@pytest.mark.parametrize("who", [ROOT, USER])
async def test_whoever_is_killed_no_server_stays_and_the_container_says_why_it_ended(
    root: str, open_directory: Path, ordinary_user: User, who: str, victim: str
) -> None:
    with given_back(root), Elsewhere(root, who, ordinary_user, open_directory, _RUNS) as box:
        assert await box.next_line() == "ready"
        pids = box.pids()
        victims = list(pids) if victim == "everything" else [victim]
        for each in victims:
            os.kill(pids[each], signal.SIGKILL)
        await gone(pids["server"])
        await gone(pids["gofer"])
        if victim in {"server", "gofer"}:
            # Or 7, SIGBUS, if its program was to be read first.
            assert await box.told("wait") in {"gofer died 9", "gofer died 7"}
            await gone(pids["init"])
            await gone(pids["supervisor"])
            assert await box.told("export") in {"ExportFailed", "SandboxUnresponsive"}
        assert await box.told("destroy") == "[]"
        for pid in pids.values():
            await gone(pid)
    assert sandboxes.mounts_below(str(open_directory), " - fuse") == []


@pytest.mark.crash
async def test_a_program_that_hears_of_the_servers_death_first_ends_for_that_reason(
    root: str, open_directory: Path, ordinary_user: User
) -> None:
    """It gets an error for each of its files, or a SIGBUS, and what it makes of that is no reason."""
    script = "echo ready; while :; do cat /etc/passwd > /dev/null || exit 3; done"
    with Elsewhere(root, ROOT, ordinary_user, open_directory, script) as box:
        assert await box.next_line() == "ready"
        pids = box.pids()
        os.kill(pids["gofer"], signal.SIGSTOP)  # it says nothing meanwhile
        await in_state(pids["gofer"], "T")
        os.kill(pids["server"], signal.SIGKILL)
        assert (await box.told("wait")).startswith("gofer died ")
        await gone(pids["init"])
        assert await box.told("destroy") == "[]"


def _waiting(root: str, user: User, directory: Path) -> Elsewhere:
    """With a container that waits for its file server, which waits for somebody else."""
    script = "echo ready; read line < /data/leased"
    lease = str(directory / "rootfs/data/leased")
    return Elsewhere(root, ROOT, user, directory, script, lease=lease)


def _waits_for_lease(server: int) -> bool:
    threads = Path(f"/proc/{server}/task").iterdir()
    return any("lease" in (each / "wchan").read_text(encoding="ascii") for each in threads)


@pytest.mark.crash
async def test_a_server_that_answers_nobody_holds_up_neither_a_stop_nor_a_destroy(
    root: str, open_directory: Path, ordinary_user: User
) -> None:
    """Whoever waits for it can't even be killed: the kernel has its request taken, and waits for the answer."""
    with _waiting(root, ordinary_user, open_directory) as box:
        assert await box.next_line() == "ready"
        pids = box.pids()
        await until(lambda: _waits_for_lease(pids["server"]), "the server waits")
        assert await box.told("stop") == "done"
        assert await box.told("wait") == "signal 9"
        await gone(pids["server"])
        assert await box.told("destroy") == "[]"
        for pid in pids.values():
            await gone(pid)


@pytest.mark.crash
async def test_a_stopped_supervisor_and_a_stopped_server_are_killed_by_destroy(
    root: str, open_directory: Path, ordinary_user: User
) -> None:
    with _waiting(root, ordinary_user, open_directory) as box:
        assert await box.next_line() == "ready"
        pids = box.pids()
        await until(lambda: _waits_for_lease(pids["server"]), "the server waits")
        for each in ("supervisor", "gofer", "server"):
            os.kill(pids[each], signal.SIGSTOP)
        assert await box.told("destroy soon") == "[]"
        for pid in pids.values():
            await gone(pid)


@pytest.mark.parametrize("who", [ROOT, USER])
async def test_a_server_is_no_process_of_the_container_and_goes_with_the_layer(
    root: str, open_directory: Path, ordinary_user: User, who: str
) -> None:
    with given_back(root), Elsewhere(root, who, ordinary_user, open_directory, _RUNS) as box:
        assert await box.next_line() == "ready"
        pids = box.pids()
        shown = (await box.told("ps")).split()
        assert str(pids["init"]) in shown
        assert str(pids["server"]) not in shown
        cgroups = [
            Path(f"/proc/{pids[each]}/cgroup").read_text() for each in ("server", "supervisor")
        ]
        assert cgroups[0] == cgroups[1]
        await box.told("pause")
        assert await box.told("export") == _WROTE
        stat = _procid.stat(pids["server"])
        assert stat is not None
        assert stat.state == "S"
        await box.told("resume")
        await box.told("stop")
        assert await box.told("wait") == "signal 9"
        assert await box.told("export") == _WROTE
        assert _procid.stat(pids["server"]) is not None
        assert await box.told("destroy") == "[]"
        assert _procid.stat(pids["server"]) is None  # it was waited for


@pytest.mark.parametrize("who", EVERYBODY)
async def test_a_server_has_nothing_of_the_hosts_and_no_descriptor_that_isnt_its_own(
    root: str, open_directory: Path, ordinary_user: User, who: str
) -> None:
    with given_back(root), Elsewhere(root, who, ordinary_user, open_directory, _RUNS) as box:
        assert await box.next_line() == "ready"
        pids = box.pids()
        seen = f"/proc/{pids['server']}"
        assert set(os.listdir(f"{seen}/root/")) <= {
            "lower",
            "layer",
            "proc",
            "empty",
            "upper",
            "sys",
        }
        assert sorted(os.listdir(f"{seen}/root/layer")) == ["upper", "work"]
        with open(f"{seen}/mountinfo", encoding="utf-8") as lines:
            mounted = {line.split()[4]: line.split()[5] for line in lines}
        assert set(mounted) - {each for each in mounted if each.startswith("/proc/")} == {
            *("/", "/lower", "/layer", "/proc"),
            *(("/lower/data", "/empty") if who == USER else ()),
        }
        assert mounted["/lower"].startswith("ro,")
        for number in os.listdir(f"{seen}/fd"):
            with contextlib.suppress(FileNotFoundError):  # of a file that it has closed meanwhile
                about = Path(f"{seen}/fdinfo/{number}").read_text(encoding="ascii")
                link = os.readlink(f"{seen}/fd/{number}")
                assert "fuse_connection" in about or link.startswith(
                    ("pipe:", "/dev/null", "/lower", "/layer/upper", "/layer/work")
                )
        with open(f"/proc/{pids['gofer']}/mountinfo", encoding="utf-8") as lines:
            (line,) = lines
        assert " ro,nosuid,nodev,noexec," in line
        assert await box.told("destroy") == "[]"


async def test_what_is_mounted_below_an_ordinary_users_root_isnt_in_it(
    root: str, open_directory: Path, ordinary_user: User
) -> None:
    script = f"ls -A /data | wc -l; ls /data/{HIDDEN} || echo new > /data/f; exec sleep 1000"
    with given_back(root), Elsewhere(root, USER, ordinary_user, open_directory, script) as box:
        assert await box.next_line() == "0"
        assert await box.told("export") == "."  # one can't write there either
        assert await box.told("destroy") == "[]"


_OVER_THE_HOSTS_ROOT = """
import asyncio, sys
from tests.helpers import refusals
place, uid, gid, root = sys.argv[1], *map(int, sys.argv[2:4]), sys.argv[4]
refusals.alone()
refusals.fuse_device(place, 0o666)
refusals.become(uid, gid)
import asyncrt
from tests.helpers import layers

SCRIPT = '''
echo changed > /etc/motd; rm /etc/passwd; echo > /usr/new; cat /etc/motd
cat /etc/passwd /etc/shadow 2> /dev/null; id -u; stat -c %u /usr
'''

async def main():
    async with asyncrt.Engine(root) as engine:
        made = asyncrt.Spec.sandbox(["/bin/sh", "-c", SCRIPT], host_root_readonly=True)
        box = await engine.create(
            "box", spec=made, overlay=asyncrt.Overlay.memory("16M"), stdout=asyncrt.PIPE
        )
        await box.start()
        print((await box.stdout.read()).split())
        found = layers.members(await layers.exported(box))
        print(sorted(each for each in found if not found[each].isdir()))
        await box.destroy()
        print([each.id for each in await engine.list()])

asyncio.run(main())
"""


async def test_an_ordinary_user_changes_all_of_the_hosts_root_in_the_layer_only(
    root: str, open_directory: Path, ordinary_user: User
) -> None:
    before = Path("/etc/passwd").read_text(encoding="utf-8")
    os.chown(root, ordinary_user.uid, ordinary_user.gid)
    arguments = (open_directory, ordinary_user.uid, ordinary_user.gid, root)
    with given_back(root), Interpreter(_OVER_THE_HOSTS_ROOT, *arguments, flags=("-B",)) as child:
        who = f"b'{ordinary_user.uid}'"  # what nobody of theirs has belongs to them
        assert await child.next_line() == f"[b'changed', {who}, {who}]"
        assert await child.next_line() == "['etc/.wh.passwd', 'etc/motd', 'usr/new']"
        assert await child.next_line() == "[]"
        assert child.wait() == 0
    assert Path("/etc/passwd").read_text(encoding="utf-8") == before
    assert not os.path.exists("/usr/new")


async def test_a_layer_in_memory_takes_no_more_than_its_size_and_says_so_at_the_write(
    root: str, open_directory: Path, ordinary_user: User
) -> None:
    script = (
        "dd if=/dev/zero of=/work/big bs=1M count=20 2>&1 | grep -c 'No space'; rm /work/big; "
        "echo; exec sleep 1000"
    )
    with Elsewhere(root, ROOT, ordinary_user, open_directory, script) as box:
        assert await box.next_line() == "1"
        assert await box.told("destroy") == "[]"
