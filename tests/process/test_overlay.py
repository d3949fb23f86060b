"""Overlays: what a container writes goes to a layer, the root stays as it is, and nothing is left."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import signal
from pathlib import Path

import pytest

import asyncrt
from asyncrt import _paths, _procid
from asyncrt.platforms.overlay import plan_overlay, refused_overlay
from tests.helpers import layers, sandboxes
from tests.helpers.capabilities import User, skip_lacking
from tests.helpers.containers import destroyed, init_of, line, record_of, rest
from tests.helpers.layers import ADDED, REMOVED, exported, members, owned_rootfs
from tests.helpers.processes import Interpreter, until
from tests.helpers.sandboxes import EVERYBODY, MAPPED, ROOT, USER, config, spec

pytestmark = [
    pytest.mark.needs_root,
    pytest.mark.needs_userns,
    pytest.mark.needs_program("busybox"),
]

_SLEEP = ["/bin/sleep", "1000"]
_MEMORY = asyncrt.Overlay.memory("16M")


@pytest.mark.parametrize("kind", ["memory", "disk", "upper"])
@pytest.mark.parametrize("who", EVERYBODY)
async def test_what_is_written_is_the_layers_and_the_root_stays_as_it_is(
    who: str,
    kind: str,
    root: str,
    place: str,
    open_directory: Path,
    ordinary_user: User,
) -> None:
    rootfs = owned_rootfs(str(open_directory / "rootfs"), who, ordinary_user)
    before = layers.picture(rootfs)
    running, stopped = await layers.life_of(who, ordinary_user, root, rootfs, kind, place)
    assert layers.picture(rootfs) == before
    assert sandboxes.mounts_below(str(open_directory), root, layers.MOUNTED) == []
    assert os.listdir(place) == (["kept"] if kind == "upper" else [])
    os.chown(root, os.geteuid(), os.getegid())  # of an ordinary user's, for who cleans up
    # Nothing has changed between the two.
    assert running == stopped
    found = members(running)
    assert set(found) >= ADDED | REMOVED
    assert {each for each in found if ".wh." in each} == REMOVED
    made = {"bin", "work", "home", "etc", ".", "dev"}
    assert {each for each in found if found[each].isdir()} <= made
    assert layers.content(running, "work/new") == b"new\n"
    assert layers.content(running, "etc/passwd").endswith(b"more\n")
    assert found["work/out"].linkname == "../../../../etc/shadow"
    # The same file, whichever name was met first.
    assert {found["work/new"].type, found["work/twin"].type} == {b"0", b"1"}
    assert {(each.uid, each.gid) for name, each in found.items() if name in ADDED} == {(0, 0)}


async def test_a_kept_layer_goes_on_with_the_next_container_and_is_one_containers_at_a_time(
    engine: asyncrt.Engine, rootfs: str, place: str
) -> None:
    kept = asyncrt.Overlay.upper(f"{place}/kept")
    script = "echo one > /work/f; echo written; exec sleep 1000"
    first = spec(config(rootfs, ["/bin/sh", "-c", script]))
    container = await engine.create("one", spec=first, overlay=kept, stdout=asyncrt.PIPE)
    async with destroyed(container):
        with pytest.raises(asyncrt.StartFailed) as caught:
            await engine.create("two", spec=first, overlay=kept)
        assert caught.value.what == "overlay (another container writes to it)"
        assert caught.value.path == f"{place}/kept"
        assert caught.value.errno == errno.EBUSY  # EAGAIN would be told as a want of processes
        assert "\n" not in str(caught.value)
        assert [each.id for each in await engine.list()] == ["one"]
        await container.start()
        assert await line(container.stdout) == "written"
        await container.stop(0)
    assert Path(place, "kept/work/f").read_text(encoding="ascii") == "one\n"
    assert os.listdir(place) == ["kept"]
    second = spec(config(rootfs, ["/bin/cat", "/work/f"]))
    done = await engine.run("two", spec=second, overlay=kept, stdout=asyncrt.PIPE)
    assert done.stdout == b"one\n"


async def test_a_create_cancelled_at_any_tick_lets_go_of_the_kept_layer(
    engine: asyncrt.Engine, rootfs: str, place: str
) -> None:
    kept = asyncrt.Overlay.upper(f"{place}/kept")
    made = spec(config(rootfs, ["/bin/true"]))
    for ticks in range(0, 60, 4):
        creating = asyncio.create_task(engine.create("box", spec=made, overlay=kept))
        for _ in range(ticks):
            await asyncio.sleep(0)
        creating.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await (await creating).destroy()
        assert await engine.list() == []
        assert (await engine.run("next", spec=made, overlay=kept)).exit.exit_code == 0


async def test_a_layer_in_memory_takes_no_more_than_its_size_nor_files_without_end(
    engine: asyncrt.Engine, rootfs: str
) -> None:
    script = (
        "dd if=/dev/zero of=/work/big bs=1M count=3 2>&1 | grep -c 'No space'; rm /work/big; "
        "i=0; while echo > /work/$i 2> /dev/null; do i=$((i+1)); [ $i = 3000 ] && break; done; "
        "[ $i -lt 3000 ] && echo full"
    )
    made = spec(config(rootfs, ["/bin/sh", "-c", script]))
    overlay = asyncrt.Overlay.memory("2M")
    done = await engine.run("box", spec=made, overlay=overlay, stdout=asyncrt.PIPE)
    assert done.stdout == b"1\nfull\n"


async def test_a_pause_leaves_the_gofer_alone_and_ps_doesnt_show_it(
    engine: asyncrt.Engine, root: str, rootfs: str
) -> None:
    container = await engine.create("box", spec=spec(config(rootfs, _SLEEP)), overlay=_MEMORY)
    async with destroyed(container):
        await container.start()
        gofer = record_of(container, root).gofer
        assert gofer is not None
        shown = {each.pid for each in await container.processes()}
        assert init_of(container, root) in shown
        assert gofer.pid not in shown
        with pytest.raises(asyncrt.ProcessNotFound):
            await container.kill("KILL", pid=gofer.pid)
        await container.pause()
        assert members(await exported(container))
        stat = _procid.stat(gofer.pid)
        assert stat is not None
        assert (stat.comm, stat.state) == (_paths.GOFER_COMM, "S")
        await container.resume()
        await container.kill("KILL", all=True)
        assert members(await exported(container))


@pytest.mark.parametrize("who", [ROOT, MAPPED])
async def test_a_container_that_shares_the_hosts_processes_cant_look_into_its_gofer(
    engine: asyncrt.Engine, root: str, rootfs: str, who: str
) -> None:
    """Root inside owns the layer as the gofer does, and with it would have the host's files."""
    names = tuple(each for each in sandboxes.NAMESPACES if each != "pid")
    made = config(rootfs, _SLEEP, who=who, namespaces=names)
    made["mounts"] = [each for each in made["mounts"] if each["destination"] != "/proc"]
    if who == ROOT:
        made["mounts"].insert(0, sandboxes.mount("/proc", "bind", "bind", source="/proc"))
    else:
        made["mounts"].insert(0, sandboxes.mount("/proc", "bind", "rbind", source="/proc"))
    container = await engine.create("box", spec=spec(made), overlay=_MEMORY)
    async with destroyed(container):
        await container.start()
        gofer = record_of(container, root).gofer
        assert gofer is not None
        script = f"ls -d /proc/{gofer.pid}/root/; cat /proc/{gofer.pid}/maps; readlink /proc/{gofer.pid}/cwd"
        process = await container.exec(
            ["/bin/sh", "-c", script], stdout=asyncrt.PIPE, stderr=asyncrt.DEVNULL
        )
        assert await rest(process.stdout) == ""
        assert (await process.wait()).exit_code != 0
        process.close()


async def test_the_gofer_has_nothing_of_the_hosts_and_no_descriptor_that_isnt_its_own(
    engine: asyncrt.Engine, root: str, rootfs: str
) -> None:
    container = await engine.create("box", spec=spec(config(rootfs, _SLEEP)), overlay=_MEMORY)
    async with destroyed(container):
        gofer = record_of(container, root).gofer
        assert gofer is not None
        assert os.listdir(f"/proc/{gofer.pid}/root/") == []
        with open(f"/proc/{gofer.pid}/mountinfo", encoding="utf-8") as lines:
            (line,) = lines
        assert " ro,nosuid,nodev,noexec," in line
        links = {
            os.readlink(f"/proc/{gofer.pid}/fd/{fd}") for fd in os.listdir(f"/proc/{gofer.pid}/fd")
        }
        assert {each for each in links if not each.startswith("socket:")} == {"/dev/null"}
        assert len([each for each in links if each.startswith("socket:")]) == 1


@pytest.mark.parametrize(
    ("platform", "made", "options", "said"),
    [
        ("host", asyncrt.Spec.command(["true"]), {}, "overlay"),
        ("auto", asyncrt.Spec.command(["true"]), {}, "overlay"),
        ("linux", asyncrt.Spec.command(["true"]), {}, "overlay (it needs a mount namespace"),
        ("linux", None, {"supervision": "caller"}, 'overlay needs supervision="own"'),
    ],
)
async def test_where_there_can_be_no_overlay_it_is_refused_in_one_line(
    root: str,
    rootfs: str,
    platform: str,
    made: asyncrt.Spec | None,
    options: dict[str, str],
    said: str,
) -> None:
    async with asyncrt.Engine(root, platform=platform) as engine:
        with pytest.raises(asyncrt.AsyncrtError) as caught:
            await engine.create(
                "box",
                spec=made or spec(config(rootfs, _SLEEP)),
                overlay=_MEMORY,
                **options,  # type: ignore[arg-type]  # as given
            )
        assert said in str(caught.value)
        assert "\n" not in str(caught.value)
        assert await engine.list() == []


@pytest.mark.parametrize("size", ["", "0", "1Q", -1, "99999999T", True])
def test_a_size_that_is_none_is_refused(size: str | int) -> None:
    with pytest.raises(asyncrt.SpecInvalid):
        asyncrt.Overlay.memory(size)


@pytest.mark.parametrize("path", ["", "/", "a\0b"])
def test_a_place_that_cant_hold_a_layer_is_refused(path: str) -> None:
    with pytest.raises(asyncrt.SpecInvalid):
        asyncrt.Overlay.upper(path)


async def test_a_place_that_isnt_there_is_named_and_nothing_is_left(
    engine: asyncrt.Engine, rootfs: str
) -> None:
    with pytest.raises(asyncrt.StartFailed) as caught:
        await engine.create(
            "box", spec=spec(config(rootfs, _SLEEP)), overlay=asyncrt.Overlay.disk("/nowhere")
        )
    assert caught.value.what == "overlay"
    assert caught.value.path.startswith("/nowhere/")
    assert await engine.list() == []


async def test_a_missing_root_is_told_as_without_an_overlay(engine: asyncrt.Engine) -> None:
    with pytest.raises(asyncrt.StartFailed) as caught:
        await engine.create("box", spec=spec(config("/nowhere", _SLEEP)), overlay=_MEMORY)
    assert (caught.value.what, caught.value.path) == ("root.path", "/nowhere")


async def test_a_container_without_one_has_nothing_to_export(
    engine: asyncrt.Engine, rootfs: str
) -> None:
    container = await engine.create("box", spec=spec(config(rootfs, _SLEEP)))
    async with destroyed(container):
        with pytest.raises(asyncrt.ExportFailed) as caught:
            await exported(container)
        assert "overlay" in str(caught.value)


async def test_the_layer_outlives_the_engine_that_made_it_and_the_containers_end(
    root: str, rootfs: str
) -> None:
    made = spec(config(rootfs, ["/bin/sh", "-c", "echo kept > /work/f"]))
    async with asyncrt.Engine(root) as engine:
        container = await engine.create("box", spec=made, overlay=_MEMORY)
        await container.start()
        await container.wait()
    async with asyncrt.Engine(root) as engine:
        container = await engine.load("box")
        assert (await container.wait()).exit_code == 0
        assert layers.content(await exported(container), "work/f") == b"kept\n"
        both = await asyncio.gather(exported(container), exported(container))
        assert both[0] == both[1]
        gofer, supervisor = record_of(container, root).gofer, record_of(container, root).supervisor
        await container.destroy()
        assert gofer is not None
        assert supervisor is not None
        assert not _procid.alive(gofer)
        assert not _procid.alive(supervisor)
        with pytest.raises(asyncrt.ContainerNotFound):
            await exported(container)


async def test_init_gets_no_signal_of_its_gofers_and_reports_its_own_end(
    engine: asyncrt.Engine, rootfs: str
) -> None:
    container = await engine.create("box", spec=spec(config(rootfs, _SLEEP)), overlay=_MEMORY)
    async with destroyed(container):
        await container.start()
        await container.kill("TERM")  # which an init of a pid namespace doesn't hear
        await container.kill("KILL")
        result = await container.wait()
        assert (result.signal, result.reason) == (signal.SIGKILL, "signal")
        again = await container.wait()
        assert again == result


_WITH_RANGES = """
import asyncio, os, sys
import asyncrt
from asyncrt.launch import mounts, namespaces
from tests.helpers import layers
from tests.helpers.containers import rest

root, rootfs, place, uid = *sys.argv[1:4], int(sys.argv[4])
namespaces.unshare(namespaces.CLONE_NEWNS)
mounts.change(os.open("/", os.O_PATH), propagation=mounts.MS_PRIVATE, recursive=True)
for name in ("subuid", "subgid"):
    ranges = mounts.clone_path(f"{place}/{name}", recursive=False)
    mounts.attach(ranges, os.open(f"/etc/{name}", os.O_PATH))
os.setgroups([])
os.setresgid(uid, uid, uid)
os.setresuid(uid, uid, uid)

async def main():
    async with asyncrt.Engine(root) as engine:
        script = "mkdir -p /work/a/b; chown -R 7:8 /work/a; chmod 700 /work/a; stat -c %u /work/a"
        spec = asyncrt.Spec.sandbox(["/bin/sh", "-c", script], rootfs=rootfs)
        overlay = asyncrt.Overlay.disk(f"{place}/layers")
        box = await engine.create("box", spec=spec, overlay=overlay, stdout=asyncrt.PIPE)
        try:
            await box.start()
            said = await rest(box.stdout)
            found = layers.members(await layers.exported(box))["work/a/b"]
        finally:
            await box.destroy()
        print(said.strip(), found.uid, found.gid, os.listdir(f"{place}/layers"))
asyncio.run(main())
"""


@pytest.mark.needs_program("newuidmap", "newgidmap")
async def test_files_of_ids_that_an_ordinary_user_was_given_are_exported_and_removed(
    root: str, open_directory: Path, ordinary_user: User
) -> None:
    """They belong to none of the host's users, least of all to who has to take them away."""
    for name in ("subuid", "subgid"):
        if not os.path.exists(f"/etc/{name}"):
            skip_lacking(f"/etc/{name}")
        (open_directory / name).write_text(f"{ordinary_user.name}:200000:65536\n", "ascii")
    (open_directory / "layers").mkdir()
    rootfs = owned_rootfs(str(open_directory / "rootfs"), USER, ordinary_user)
    for each in (root, str(open_directory / "layers")):
        os.chown(each, ordinary_user.uid, ordinary_user.gid)
    arguments = (root, rootfs, str(open_directory), ordinary_user.uid)
    with Interpreter(_WITH_RANGES, *arguments, flags=("-B",)) as child:
        assert await child.next_line() == "7 7 8 []"
        assert child.wait() == 0
    os.chown(root, os.geteuid(), os.getegid())


def _loop_files(directory: Path) -> list[str]:
    """What of a directory is behind loop devices, by the names that it had."""
    found = []
    for each in Path("/sys/block").glob("loop*/loop/backing_file"):
        with contextlib.suppress(OSError):  # it is being let go
            found.append(each.read_text(encoding="utf-8", errors="surrogateescape"))
    return [each for each in found if str(directory) in each]


@pytest.mark.needs_program("mkfs.ext4")
async def test_a_layer_on_disk_takes_no_more_than_its_size_and_leaves_no_device(
    engine: asyncrt.Engine, rootfs: str, open_directory: Path
) -> None:
    if not os.path.exists("/dev/loop-control"):
        skip_lacking("loop devices")
    script = (
        "dd if=/dev/zero of=/work/big bs=1M count=20 2>&1 | grep -c 'No space'; rm /work/big; "
        "echo small > /work/small; rm -r /home; mkdir /home; echo written; exec sleep 1000"
    )
    made = spec(config(rootfs, ["/bin/sh", "-c", script]))
    overlay = asyncrt.Overlay.disk(open_directory, size="8M")
    container = await engine.create("box", spec=made, overlay=overlay, stdout=asyncrt.PIPE)
    async with destroyed(container):
        await container.start()
        assert await line(container.stdout) == "1"
        assert await line(container.stdout) == "written"
        await until(lambda: _loop_files(open_directory) != [], "a device of its own")
        await container.kill("KILL")
        await container.wait()
        found = members(await exported(container))
        assert {"work/small", "home/.wh..wh..opq"} <= set(found)
        assert not any("lost+found" in each for each in found)
    assert os.listdir(open_directory) == []
    await until(lambda: _loop_files(open_directory) == [], "the device is let go")


@pytest.mark.needs_program("mkfs.ext4")
async def test_a_size_that_no_file_system_has_room_for_is_told_and_leaves_nothing(
    engine: asyncrt.Engine, rootfs: str, open_directory: Path
) -> None:
    for size in ("1k", "900T"):
        with pytest.raises(asyncrt.StartFailed) as caught:
            await engine.create(
                "box",
                spec=spec(config(rootfs, _SLEEP)),
                overlay=asyncrt.Overlay.disk(open_directory, size=size),
            )
        assert "overlay" in caught.value.what
        assert "\n" not in str(caught.value)
    assert os.listdir(open_directory) == []
    assert _loop_files(open_directory) == []


def test_only_root_can_give_a_layer_on_disk_a_size(monkeypatch: pytest.MonkeyPatch) -> None:
    sized = plan_overlay(asyncrt.Overlay.disk("/srv", "1G"), "box")
    assert refused_overlay(sized) == ""
    assert refused_overlay({**sized, "mkfs": ""}).endswith("needs mkfs.ext4 (e2fsprogs)")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert refused_overlay(sized) == "only root can give a layer on disk a size"
    for each in (asyncrt.Overlay.disk("/srv"), asyncrt.Overlay.memory("1M")):
        assert refused_overlay(plan_overlay(each, "box")) == ""
