"""Overlays that fuse-overlayfs serves, where the kernel makes none."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.helpers import layers, sandboxes
from tests.helpers.capabilities import User
from tests.helpers.layers import ADDED, REMOVED, members, owned_rootfs
from tests.helpers.sandboxes import EVERYBODY

pytestmark = [
    pytest.mark.needs_root,
    pytest.mark.needs_userns,
    pytest.mark.needs_program("busybox"),
    pytest.mark.needs_fuse,
]


@pytest.fixture
def place(open_directory: Path) -> str:
    """A directory on disk for layers, which the test leaves empty."""
    path = open_directory / "layers"
    path.mkdir()
    return str(path)


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
