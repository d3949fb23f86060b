"""Layers that both implementations of an overlay write to, and what fuse-overlayfs leaves in one."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers.capabilities import User
from tests.helpers.layers import owned_rootfs
from tests.helpers.processes import Interpreter
from tests.helpers.sandboxes import EVERYBODY, ROOT, USER, config, python, with_python

pytestmark = [
    pytest.mark.needs_root,
    pytest.mark.needs_userns,
    pytest.mark.needs_program("busybox"),
    pytest.mark.needs_fuse,
]

_RUN = """
import asyncio, json, os, sys
from asyncrt import _procid
from asyncrt.launch import servers
from tests.helpers import layers, refusals
root, made, kind, directory, before, by, *there = sys.argv[1:]
if before:
    refusals.alone()
    eval(before)
if by == "kernel":
    refusals.alone()
    refusals.fuse_device(os.path.dirname(there[1]), 0o666)
    if there[0] == "user":
        refusals.become(*map(int, there[2:]))
elif not before:
    refusals.main(there)
import asyncrt
from asyncrt.state import read_record
from tests.helpers.containers import rest

def listed(archive):
    found = sorted(layers.members(archive))
    if "work/mapped" in found:
        found.append(layers.content(archive, "work/mapped")[5000:5004].decode())
    return found

async def main():
    async with asyncrt.Engine(root, platform="linux") as engine:
        spec = asyncrt.Spec.decode(made.encode())
        overlay = layers.overlay_of(kind, directory)
        boxes = [
            await engine.create(
                f"box{number}", spec=spec, overlay=overlay, stdout=asyncrt.PIPE, stderr=asyncrt.INHERIT
            )
            for number in range(5 if by == "several" else 1)
        ]
        await asyncio.gather(*(each.start() for each in boxes))
        said = [(await rest(each.stdout)).split() for each in boxes]
        served = [servers.find(read_record(root, each.id).gofer.pid) for each in boxes]
        found = [listed(await layers.exported(each)) for each in boxes]
        await asyncio.gather(*(each.destroy() for each in boxes))
        left = [pid for each in served for pid in each if _procid.stat(pid) is not None]
        print(json.dumps([said, found, [len(each) for each in served], left]))
asyncio.run(main())
"""


class _Box:
    """A root file system, and containers over it whose layers are kept in a directory, or aren't."""

    def __init__(self, root: str, directory: Path, user: User, who: str) -> None:
        self.root = root
        self.who = who
        self.user = user
        self.rootfs = owned_rootfs(str(directory / "rootfs"), who, user)
        self.place = directory / "layers"
        self.place.mkdir()
        if who == USER:
            for each in (root, str(self.place)):
                os.chown(each, user.uid, user.gid)

    async def run(
        self,
        script: str,
        by: str = "fuse",
        *,
        kind: str = "upper",
        before: str = "",
        program: str = "",
    ) -> tuple[list[str], list[str], int]:
        """What a container said and its layer, and how many served that; `by` whom it is to be."""
        args = python(program) if program else ["/bin/sh", "-c", script]
        made = config(self.rootfs, args, who=self.who, user=self.user)
        if program:
            with_python(made)
        there = (self.who, self.rootfs, self.user.uid, self.user.gid)
        arguments = (self.root, json.dumps(made), kind, str(self.place), before, by, *there)
        with Interpreter(_RUN, *arguments, flags=("-B",)) as child:
            said, found, served, left = json.loads(await child.next_line(timeout=40))
            assert child.wait() == 0
        assert left == []
        assert all(
            each == (said[0], found[0], served[0]) for each in zip(said, found, served, strict=True)
        )
        return said[0], found[0], served[0]


@pytest.fixture
def box(
    request: pytest.FixtureRequest, root: str, open_directory: Path, ordinary_user: User
) -> Iterator[_Box]:
    """Of whoever it is."""
    try:
        yield _Box(root, open_directory, ordinary_user, request.param)
    finally:
        os.chown(root, os.geteuid(), os.getegid())


@pytest.mark.parametrize("box", EVERYBODY, indirect=True)
async def test_a_kept_layer_of_the_kernels_goes_on_with_fuse_overlayfs_and_stays_its_own(
    box: _Box,
) -> None:
    """Each hides what is below a directory by notes of its own, which the kernel doesn't all read."""
    first = "echo 1 > /home/one; rm -r /etc; mkdir /etc; rm /bin/wget; echo 1 > /work/f"
    _, found, served = await box.run(first, "kernel")
    assert served == 0
    wrote = [
        ".",
        "bin",
        "bin/.wh.wget",
        "etc",
        "etc/.wh..wh..opq",
        "home",
        "home/one",
        "work",
        "work/f",
    ]
    assert found == wrote
    said, found, served = await box.run(
        "ls -A /etc /home; cat /work/f; ls /bin/wget; rm -r /home; mkdir /home"
    )
    assert served == 1
    assert said == ["/etc:", "/home:", "app", "one", "1"]
    there = [each for each in wrote if each != "home/one"]
    assert found == sorted([*there, "home/.wh..wh..opq"])
    # Where the kernel could again.
    said, again, served = await box.run("ls -A /etc /home; cat /work/f; ls -A /work", "kernel")
    assert served == 1
    assert said == ["/etc:", "/home:", "1", "f"]
    assert again == found


@pytest.mark.parametrize("box", [ROOT], indirect=True)
@pytest.mark.parametrize("file_system", ["overlay", "ramfs"])
async def test_on_a_file_system_that_holds_no_whiteouts_or_attributes_deletions_are_files(
    box: _Box, file_system: str
) -> None:
    """A name that means a deletion to it must mean one in the archive, and not be left out of it."""
    work = f"{box.place}/../work"
    before = {
        "overlay": f"refusals.stack({str(box.place)!r}, {work!r} + '/upper', {work!r} + '/work')",
        "ramfs": f"refusals.mount('ramfs', {str(box.place)!r})",
    }
    for name in ("upper", "work"):
        os.makedirs(f"{work}/{name}")
    script = "rm /bin/wget; rm -r /home; mkdir /home; rm -r /etc; echo new > /work/f; ls -A /home /bin/wget"
    for kind in ("disk", "upper"):
        said, found, served = await box.run(script, "plain", kind=kind, before=before[file_system])
        assert served == 1
        assert said == ["/home:"]
        assert found == [
            *(".", ".wh.etc", "bin", "bin/.wh.wget", "home", "home/.wh..wh..opq"),
            *("work", "work/f"),
        ]


@pytest.mark.parametrize("box", [ROOT, USER], indirect=True)
async def test_several_containers_have_a_server_each_and_none_is_left(box: _Box) -> None:
    said, found, served = await box.run(
        "echo mine > /work/f; rm -r /home; cat /work/f", "several", kind="memory"
    )
    assert (said, served) == (["mine"], 1)
    assert found == [".", ".wh.home", "work", "work/f"]
    assert os.listdir(box.place) == []


_MAPS = """
import mmap, os, time
with open("/work/mapped", "w+b") as file:
    file.truncate(8192)
    memory = mmap.mmap(file.fileno(), 8192)
memory[5000:5004] = b"kept"
os.close(1)
time.sleep(1000)  # until it is killed
"""


@pytest.mark.parametrize("box", [ROOT], indirect=True)
async def test_what_a_program_has_written_to_its_memory_is_in_the_archive(box: _Box) -> None:
    """The kernel has it in pages of its own, which it gives to the server some time later."""
    _, found, served = await box.run("", kind="memory", program=_MAPS)
    assert served == 1
    assert found[-1] == "kept"
