"""Containers with an overlay, for tests: roots that they may write to, and what their layers hold."""

from __future__ import annotations

import asyncio
import io
import json
import os
import sys
import tarfile
from typing import Any

import asyncrt
from tests.helpers.capabilities import User
from tests.helpers.containers import SECONDS, line
from tests.helpers.processes import Interpreter
from tests.helpers.sandboxes import MAPPED, ROOT, USER, config, make_rootfs

FIRST_MAPPED = 100000  # in the maps of sandboxes.config

MOUNTED = " - overlay overlay "  # a gofer's, in /proc/PID/mountinfo

# Written by nobody but a container: adds, changes, removes, hides, and tells.
SCRIPT = """
cd /work
echo new > new
echo more >> /etc/passwd
rm -r /home
mkdir /home
echo other > /home/other
rm /bin/wget
ln -s ../../../../etc/shadow out
ln new twin
echo written
"""
REMOVED = {"bin/.wh.wget", "home/.wh..wh..opq"}
ADDED = {"work/new", "work/twin", "work/out", "home/other", "etc/passwd"}


def owned_rootfs(path: str, who: str, user: User | None = None) -> str:
    """A root file system that belongs to that one's root inside."""
    make_rootfs(path)
    owner = {ROOT: os.geteuid(), MAPPED: FIRST_MAPPED, USER: user.uid if user else -1}[who]
    for directory, directories, files in os.walk(path):
        for name in (".", *directories, *files):
            os.chown(f"{directory}/{name}", owner, owner, follow_symlinks=False)
    return path


def picture(path: str) -> dict[str, tuple[object, ...]]:
    """All that can be seen of a tree."""
    found: dict[str, tuple[object, ...]] = {}
    for directory, directories, files in os.walk(path):
        for name in (".", *directories, *files):
            each = f"{directory}/{name}"
            stat = os.lstat(each)
            content: object = ""
            if os.path.islink(each):
                content = os.readlink(each)
            elif os.path.isfile(each):
                with open(each, "rb") as file:
                    content = hash(file.read())
            found[os.path.relpath(each, path)] = (*stat[:6], stat.st_mtime_ns, content)
    return found


async def exported(container: asyncrt.Container) -> bytes:
    """The whole archive."""
    async with asyncio.timeout(SECONDS):
        return b"".join([each async for each in container.export()])


def members(archive: bytes) -> dict[str, tarfile.TarInfo]:
    """What is in it, by name."""
    with tarfile.open(fileobj=io.BytesIO(archive)) as opened:
        return {each.name: each for each in opened}


def content(archive: bytes, name: str) -> bytes:
    """Of one regular file in it."""
    with tarfile.open(fileobj=io.BytesIO(archive)) as opened:
        file = opened.extractfile(name)
        assert file is not None
        return file.read()


def overlay_of(kind: str, directory: str) -> asyncrt.Overlay:
    """An overlay of that kind, what of it is on disk being there."""
    if kind == "memory":
        return asyncrt.Overlay.memory("16M")
    if kind == "disk":
        return asyncrt.Overlay.disk(directory)
    return asyncrt.Overlay.upper(f"{directory}/kept")


async def life(root: str, made: dict[str, Any], kind: str, directory: str) -> list[bytes]:
    """A container that writes, its layer while it runs and after its end, and all of it gone."""
    async with asyncrt.Engine(root, platform="linux") as engine:
        spec = asyncrt.Spec.decode(json.dumps(made).encode())
        container = await engine.create(
            "box", spec=spec, overlay=overlay_of(kind, directory), stdout=asyncrt.PIPE
        )
        try:
            await container.start()
            assert await line(container.stdout) == "written"
            archives = [await exported(container)]
            await container.kill("KILL")
            assert (await container.wait()).signal == 9
            archives.append(await exported(container))
        finally:
            await container.destroy()
        return archives


def main() -> None:
    """As `life`, for another user: the archives go to files beside the root."""
    root, made, kind, directory = sys.argv[1:]
    archives = asyncio.run(life(root, json.loads(made), kind, directory))
    for number, each in enumerate(archives):
        with open(f"{directory}/{number}.tar", "xb") as file:
            file.write(each)
    sys.stdout.write("lived\n")


async def life_of(
    who: str,
    user: User,
    root: str,
    rootfs: str,
    kind: str,
    directory: str,
    *,
    refused: bool = False,
) -> list[bytes]:
    """As `life`, by whoever it is; what it left in `directory` is taken away.

    `refused`: where the kernel makes no overlay, see tests.helpers.refusals.
    """
    args = ["/bin/sh", "-c", f"{SCRIPT} exec sleep 1000"]
    made = config(rootfs, args, who=who, user=user)
    if who != USER and not refused:
        return await life(root, made, kind, directory)
    if who == USER:
        for each in (root, directory):
            os.chown(each, user.uid, user.gid)
    code = "import sys\nfrom tests.helpers.layers import main\n"
    arguments: tuple[object, ...] = (root, json.dumps(made), kind, directory)
    ids: dict[str, Any] = {"user": user.uid, "group": user.gid}
    if refused:
        code += "from tests.helpers import refusals\nsys.argv[1:] = refusals.main(sys.argv[1:])\n"
        arguments = (who, rootfs, user.uid, user.gid, *arguments)
        ids = {}
    with Interpreter(f"{code}main()", *arguments, flags=("-B",), **ids) as child:
        assert await child.next_line() == "lived"
        assert child.wait() == 0
    archives = []
    for number in range(2):
        with open(f"{directory}/{number}.tar", "rb") as file:
            archives.append(file.read())
        os.unlink(f"{directory}/{number}.tar")
    return archives
