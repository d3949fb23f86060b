"""Exports of layers that were written to do harm, and of ones whose reader takes its time or goes."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import psutil
import pytest

import asyncrt
from asyncrt import _procid
from asyncrt.container import export
from tests.helpers.containers import SECONDS, destroyed, gone, line, record_of
from tests.helpers.layers import content, exported, members
from tests.helpers.processes import until
from tests.helpers.sandboxes import config, spec

pytestmark = [
    pytest.mark.needs_root,
    pytest.mark.needs_userns,
    pytest.mark.needs_program("busybox"),
]

_SLEEP = ["/bin/sleep", "1000"]
_MEMORY = asyncrt.Overlay.memory("64M")


@contextlib.asynccontextmanager
async def _written(
    engine: asyncrt.Engine, rootfs: str, directory: Path
) -> AsyncIterator[tuple[asyncrt.Container, Path]]:
    """A container with a kept layer, and the directory of that, which the test fills as it likes."""
    kept = directory / "kept"
    container = await engine.create(
        "box", spec=spec(config(rootfs, _SLEEP)), overlay=asyncrt.Overlay.upper(kept)
    )
    async with destroyed(container):
        yield container, kept


def _gofer(container: asyncrt.Container, root: str) -> psutil.Process:
    gofer = record_of(container, root).gofer
    assert gofer is not None
    return psutil.Process(gofer.pid)


async def test_links_devices_and_pipes_of_a_layer_lead_nowhere_and_hold_nothing_up(
    engine: asyncrt.Engine, rootfs: str, open_directory: Path
) -> None:
    async with _written(engine, rootfs, open_directory) as (container, kept):
        os.symlink("/etc/shadow", kept / "file")
        os.symlink("/etc", kept / "directory")
        os.symlink("..", kept / "up")
        os.symlink("loop", kept / "loop")
        os.mkfifo(kept / "fifo")
        os.mknod(kept / "tty", 0o20666, os.makedev(5, 0))
        os.mknod(kept / "disk", 0o60600, os.makedev(7, 77))
        os.mknod(kept / "socket", 0o140600)
        found = members(await exported(container))
        del found["."]
        assert {name: each.type for name, each in found.items()} == {
            **dict.fromkeys(("file", "directory", "up", "loop"), b"2"),
            "fifo": b"6",
            "tty": b"3",
            "disk": b"4",
        }
        assert found["file"].linkname == "/etc/shadow"
        assert (found["disk"].devmajor, found["disk"].devminor) == (7, 77)


async def test_what_a_layer_cant_hold_is_left_out_and_told_once(
    engine: asyncrt.Engine, rootfs: str, open_directory: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A file called `.wh.passwd` would have whoever applies the layer remove another one."""
    async with _written(engine, rootfs, open_directory) as (container, kept):
        (kept / ".wh.passwd").touch()
        (kept / ".wh..wh..opq").touch()
        (kept / ".wh.d").mkdir()
        (kept / ".wh.d" / "inside").touch()
        os.mknod(kept / "socket", 0o140600)
        for number in range(20):
            os.mknod(kept / f"socket{number}", 0o140600)
        with caplog.at_level(logging.WARNING):
            found = members(await exported(container))
        assert set(found) == {"."}
        (told,) = [each.getMessage() for each in caplog.records]
        assert "leaves out 24" in told
        assert "…" in told
        assert len(told) < 1000


async def test_names_of_any_bytes_and_length_come_out_as_they_are(
    engine: asyncrt.Engine, rootfs: str, open_directory: Path
) -> None:
    names = [
        *(b"\xff\xfe", b"new\nline", b"tab\t", b"\xc3\xbc" * 100, b"x" * 255, b"-rf", b" ", b"\\"),
        *(b"a=b", b"17 path=evil\n", b"%s%n", "é".encode(), b"\x1b[2J"),
    ]
    async with _written(engine, rootfs, open_directory) as (container, kept):
        below = os.path.join(os.fsencode(kept), b"d" * 200)
        os.mkdir(below)
        for name in names:
            Path(os.fsdecode(os.path.join(below, name))).write_bytes(name)
        archive = await exported(container)
        found = members(archive)
        inside = {os.fsencode(name)[201:]: name for name in found if name.startswith("ddd")}
        for name in names:
            assert content(archive, inside[name]) == name


async def test_a_file_with_holes_takes_the_space_of_what_is_in_it(
    engine: asyncrt.Engine, rootfs: str, open_directory: Path
) -> None:
    """A file of an exabyte costs nothing to make; written out it would never end."""
    async with _written(engine, rootfs, open_directory) as (container, kept):
        with open(kept / "holes", "wb") as file:
            for number in range(50):
                file.seek(number << 30)
                file.write(b"%04d" % number)
            file.truncate(1 << 43)
        with open(kept / "empty", "wb") as file:
            file.truncate(1 << 43)
        archive = await exported(container)
        assert len(archive) < 1 << 20
        found = members(archive)
        assert found["empty"].size == found["holes"].size == 1 << 43
        pieces: Any = found["holes"].sparse  # which its stubs take for a number
        sparse = [(offset, size) for offset, size in pieces if size]
        assert [offset >> 30 for offset, _ in sparse] == list(range(50))


async def test_depth_without_end_and_beyond_any_descriptors_is_no_trap(
    engine: asyncrt.Engine, rootfs: str, open_directory: Path
) -> None:
    async with _written(engine, rootfs, open_directory) as (container, kept):
        here = os.open(kept, os.O_RDONLY | os.O_DIRECTORY)
        for _ in range(2100):
            os.mkdir("d", dir_fd=here)
            below = os.open("d", os.O_RDONLY | os.O_DIRECTORY, dir_fd=here)
            os.close(here)
            here = below
        os.close(here)
        found = members(await exported(container))
        assert 2000 < len(found) < 2060  # as deep as a path can say
    await asyncio.to_thread(_remove_deep, kept)  # noqa: TID251 - a test's own


def _remove_deep(path: Path) -> None:
    from asyncrt.launch import clearing

    clearing.clear(str(path))


async def test_attributes_come_along_but_for_the_overlays_own(
    engine: asyncrt.Engine, rootfs: str, open_directory: Path
) -> None:
    async with _written(engine, rootfs, open_directory) as (container, kept):
        (kept / "f").touch()
        os.setxattr(kept / "f", "user.a=b", b"\0value\n")
        capability = bytes.fromhex("0100000200040000000000000000000000000000")
        os.setxattr(kept / "f", "security.capability", capability)
        os.setxattr(kept / "f", "trusted.overlay.origin", b"x")
        headers = members(await exported(container))["f"].pax_headers
        assert {each for each in headers if "xattr" in each} == {
            "SCHILY.xattr.user.a%3Db",
            "SCHILY.xattr.security.capability",
        }
        value = headers["SCHILY.xattr.security.capability"]
        assert value.encode(errors="surrogateescape") == capability


async def test_a_file_that_changes_meanwhile_gives_the_archive_that_was_promised(
    engine: asyncrt.Engine, rootfs: str
) -> None:
    script = (
        "cd /work; echo ready; while :; do dd if=/dev/zero of=f bs=64k count=64 2> /dev/null; "
        "mkdir -p d/e; : > d/e/g; rm -r d; ln -sf /etc/passwd d; rm d; : > f; done"
    )
    container = await engine.create(
        "box",
        spec=spec(config(rootfs, ["/bin/sh", "-c", script])),
        overlay=_MEMORY,
        stdout=asyncrt.PIPE,
    )
    async with destroyed(container):
        await container.start()
        assert await line(container.stdout) == "ready"
        for _ in range(20):
            found = members(await exported(container))
            assert set(found) <= {".", "work", "work/f", "work/d", "work/d/e", "work/d/e/g"}


@contextlib.asynccontextmanager
async def _large(
    engine: asyncrt.Engine, rootfs: str, *, megabytes: int
) -> AsyncIterator[asyncrt.Container]:
    """A running container that has written so much."""
    write = f"dd if=/dev/zero of=/work/big bs=1M count={megabytes} 2> /dev/null"
    made = spec(config(rootfs, ["/bin/sh", "-c", f"{write}; echo ready; exec sleep 1000"]))
    container = await engine.create("box", spec=made, overlay=_MEMORY, stdout=asyncrt.PIPE)
    async with destroyed(container):
        await container.start()
        assert await line(container.stdout) == "ready"
        yield container


async def test_a_reader_that_takes_its_time_holds_nobody_up_and_costs_no_memory(
    engine: asyncrt.Engine, root: str, rootfs: str
) -> None:
    async with _large(engine, rootfs, megabytes=40) as container:
        before = psutil.Process().memory_info().rss
        async with contextlib.aclosing(container.export()) as pieces:
            first = await anext(pieces)
            (writer,) = _gofer(container, root).children()
            # It waits for us; others are served.
            await until(lambda: writer.status() == psutil.STATUS_SLEEPING, "the writer waits")
            assert len(await exported(container)) > 40 << 20
            await container.pause()
            await container.resume()
            assert writer.memory_info().rss < 40 << 20
            taken = len(first)
            async for each in pieces:
                taken += len(each)
                assert len(each) <= 1 << 18
        assert taken > 40 << 20
        del first, each
        assert psutil.Process().memory_info().rss - before < 60 << 20  # another one held all of it
        await until(lambda: not _gofer(container, root).children(), "no writer is left")


async def test_an_export_that_is_given_up_or_cancelled_leaves_no_writer(
    engine: asyncrt.Engine, root: str, rootfs: str
) -> None:
    async with _large(engine, rootfs, megabytes=20) as container:
        async with contextlib.aclosing(container.export()) as pieces:
            await anext(pieces)
        await until(lambda: not _gofer(container, root).children(), "no writer is left")
        for ticks in range(30):
            reading = asyncio.create_task(exported(container))
            for _ in range(ticks):
                await asyncio.sleep(0)
            reading.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await reading
        await until(lambda: not _gofer(container, root).children(), "no writer is left")
        assert members(await exported(container))


async def test_a_writer_that_is_killed_gives_an_error_and_no_short_archive(
    engine: asyncrt.Engine, root: str, rootfs: str
) -> None:
    async with _large(engine, rootfs, megabytes=20) as container:
        for victim in ("writer", "gofer"):
            async with contextlib.aclosing(container.export()) as pieces:
                await anext(pieces)
                gofer = _gofer(container, root)
                (writer,) = gofer.children()
                (writer if victim == "writer" else gofer).kill()
                with pytest.raises(asyncrt.ExportFailed) as caught:
                    async with asyncio.timeout(SECONDS):
                        async for _ in pieces:
                            pass
                assert "killed" in str(caught.value)
        result = await container.wait(SECONDS)
        assert result.reason == "gofer died"


async def test_a_file_of_several_names_is_written_once_and_has_them_all(
    engine: asyncrt.Engine, rootfs: str, open_directory: Path
) -> None:
    async with _written(engine, rootfs, open_directory) as (container, kept):
        for number in range(20):
            (kept / f"{number}a").write_bytes(b"%d" % number)
            os.link(kept / f"{number}a", kept / f"{number}b")
        archive = await exported(container)
        found = members(archive)
        for number in range(20):
            both = [found[f"{number}{each}"] for each in "ab"]
            assert sorted(each.type for each in both) == [b"0", b"1"]
            assert content(archive, f"{number}b") == b"%d" % number


async def test_an_export_without_a_supervisor_says_so_and_not_that_it_took_too_long(
    engine: asyncrt.Engine, rootfs: str
) -> None:
    container = await engine.create("box", spec=spec(config(rootfs, _SLEEP)), overlay=_MEMORY)
    async with destroyed(container):
        supervisor = record_of(container, engine.root).supervisor
        assert supervisor is not None
        assert _procid.send(supervisor, signal.SIGKILL)
        await gone(supervisor.pid)
        async with asyncrt.Engine(engine.root) as other:
            loaded = await other.load("box")
            with pytest.raises(asyncrt.SandboxUnresponsive, match="its supervisor is gone"):
                await exported(loaded)


@pytest.mark.parametrize("victim", ["gofer", "writer"])
async def test_a_gofer_that_stands_still_is_named_and_holds_nobody_up_for_ever(
    engine: asyncrt.Engine,
    root: str,
    rootfs: str,
    victim: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with _large(engine, rootfs, megabytes=20) as container:
        async with contextlib.aclosing(container.export()) as pieces:
            stopped = gofer = _gofer(container, root)
            if victim == "writer":
                await anext(pieces)
                (stopped,) = gofer.children()
            stopped.suspend()
            await until(lambda: stopped.status() == psutil.STATUS_STOPPED, "it stands still")
            with monkeypatch.context() as patch, pytest.raises(asyncrt.ExportFailed) as caught:
                patch.setattr(export, "_SILENT_SECONDS", 0.3)
                async with asyncio.timeout(SECONDS):
                    async for _ in pieces:
                        pass
            assert f"(pid {gofer.pid})" in str(caught.value)
            assert f"(pid {stopped.pid}) is stopped" in str(caught.value)
            assert "'kill -CONT' it and export again" in str(caught.value)
        reading = asyncio.create_task(exported(container))
        if victim == "gofer":
            # Nobody else can be asked: it still waits, and can still be cancelled.
            await asyncio.wait((reading,), timeout=0.1)
            assert not reading.done()
            reading.cancel()
            with pytest.raises(asyncio.CancelledError):
                await reading
        else:
            assert len(await reading) > 20 << 20  # which has a writer of its own
        stopped.resume()
        assert len(await exported(container)) > 20 << 20
        await until(lambda: not _gofer(container, root).children(), "no writer is left")
