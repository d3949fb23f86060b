"""Where there is no overlay at all: neither the kernel's nor one of fuse-overlayfs."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from asyncrt.launch import fuse
from tests.helpers.capabilities import User
from tests.helpers.layers import owned_rootfs
from tests.helpers.processes import Interpreter
from tests.helpers.sandboxes import NAMESPACES, ROOT, USER, config

pytestmark = [
    pytest.mark.needs_root,
    pytest.mark.needs_userns,
    pytest.mark.needs_program("busybox"),
    pytest.mark.needs_fuse,
]

_REFUSED = """
import asyncio, json, os, sys
from asyncrt.launch import fuse, mounts
from tests.helpers import refusals
root, made, place, mode, program, who, rootfs, uid, gid = sys.argv[1:]
refusals.enter(who, rootfs, device_mode=int(mode, 8))
if program:
    refusals.cover(fuse.program(), program)
if int(uid):
    refusals.become(int(uid), int(gid))
import asyncrt

async def main():
    async with asyncrt.Engine(root, platform="linux") as engine:
        spec = asyncrt.Spec.decode(made.encode())
        for overlay in (asyncrt.Overlay.memory("16M"), asyncrt.Overlay.disk(place)):
            try:
                await engine.run("box", spec=spec, overlay=overlay)
            except asyncrt.StartFailed as error:
                print(error.errno, error)
        print([each.id for each in await engine.list()], os.listdir(place))

asyncio.run(main())
"""


@contextlib.contextmanager
def _refused(
    root: str,
    directory: Path,
    user: User,
    who: str,
    *,
    mode: int = 0o666,
    program: str = "",
    namespaces: tuple[str, ...] = NAMESPACES,
) -> Iterator[Interpreter]:
    """A child that tells twice why it has no overlay, and then that nothing is left."""
    rootfs = owned_rootfs(str(directory / "rootfs"), who, user)
    place = directory / "layers"
    place.mkdir()
    made = config(rootfs, ["/bin/true"], who=who, user=user, namespaces=namespaces)
    ids = (0, 0)
    if who == USER:
        ids = (user.uid, user.gid)
        for each in (root, str(place)):
            os.chown(each, *ids)
    arguments = (root, json.dumps(made), place, f"{mode:o}", program, who, rootfs, *ids)
    try:
        with Interpreter(_REFUSED, *arguments, flags=("-B",)) as child:
            yield child
            assert child.line() == "[] []"
            assert child.wait() == 0
    finally:
        os.chown(root, os.geteuid(), os.getegid())


_WHY = {
    ROOT: "overlay (one of its file systems can't be part of one; ",
    USER: "overlay (only root can have one over / or what else has mounts below it; or ",
}


@pytest.mark.parametrize("who", [ROOT, USER])
async def test_where_fuse_overlayfs_isnt_there_it_is_told_what_to_install(
    root: str, open_directory: Path, ordinary_user: User, who: str
) -> None:
    (open_directory / "nothing").write_text("", encoding="ascii")  # that nobody can execute
    program = str(open_directory / "nothing")
    with _refused(root, open_directory, ordinary_user, who, program=program) as child:
        for _ in range(2):
            said = await child.next_line()
            assert _WHY[who] in said
            assert f"; fuse-overlayfs, which could, isn't there: {fuse.INSTALL})" in said


async def test_where_the_device_isnt_for_everybody_it_is_told_what_to_do(
    root: str, open_directory: Path, ordinary_user: User
) -> None:
    with _refused(root, open_directory, ordinary_user, USER, mode=0o600) as child:
        for _ in range(2):
            said = await child.next_line()
            assert said.startswith("13 ")
            assert _WHY[USER] in said
            needs = (
                "; fuse-overlayfs, which could, needs /dev/fuse: chmod 666 /dev/fuse) '/dev/fuse'"
            )
            assert needs in said


async def test_a_server_that_ends_at_once_says_why(
    root: str, open_directory: Path, ordinary_user: User
) -> None:
    program = open_directory / "fails"
    program.write_text(
        "#!/bin/sh\necho 'fuse-overlayfs: no such luck' >&2\nexit 3\n", encoding="ascii"
    )
    program.chmod(0o755)
    with _refused(root, open_directory, ordinary_user, ROOT, program=str(program)) as child:
        for _ in range(2):
            said = await child.next_line()
            assert said.startswith("107 ")  # ENOTCONN
            assert "; fuse-overlayfs: no such luck)" in said


async def test_a_server_isnt_where_a_containers_root_could_look_into_it(
    root: str, open_directory: Path, ordinary_user: User
) -> None:
    """With every capability in its user namespace it could trace it, and had the layer below."""
    namespaces = tuple(each for each in NAMESPACES if each != "pid")
    with _refused(root, open_directory, ordinary_user, USER, namespaces=namespaces) as child:
        for _ in range(2):
            said = await child.next_line()
            assert (
                "fuse-overlayfs, which could, needs a pid namespace of the container's own)" in said
            )
