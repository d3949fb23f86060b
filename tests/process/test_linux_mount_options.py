"""Every option of config.md's table, "Linux mount options", on mounts of one sandbox."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import asyncrt
from asyncrt.platforms.linux import mounts
from tests.helpers.sandboxes import config, mount, said

pytestmark = [pytest.mark.needs_root, pytest.mark.needs_program("busybox")]

# As mountinfo shows them: of the mount, its propagation, of the file system; "" is as without.
_OF_MOUNT = {
    "ro": "ro",
    "nosuid": "nosuid",
    "nodev": "nodev",
    "noexec": "noexec",
    "nodiratime": "nodiratime",
    "nosymfollow": "nosymfollow",
    "noatime": "noatime",
    **dict.fromkeys(("rw", "suid", "dev", "exec", "diratime", "symfollow"), "rw"),
    **dict.fromkeys(("atime", "relatime", "norelatime", "nostrictatime"), "relatime"),
    "strictatime": "",
}
_PROPAGATION = {
    **dict.fromkeys(("shared", "rshared"), "shared"),
    **dict.fromkeys(
        ("private", "rprivate", "slave", "rslave"), "-"
    ),  # a slave of nobody is private
    **dict.fromkeys(("unbindable", "runbindable"), "unbindable"),
}
_OF_FILE_SYSTEM = {
    "sync": "sync",
    "dirsync": "dirsync",
    "lazytime": "lazytime",
    # Nothing shows these: the first counts what only a file server sees, the kernel forgot the next.
    **dict.fromkeys(("iversion", "mand"), "rw"),
    **dict.fromkeys(("async", "nolazytime", "noiversion", "nomand", "silent", "loud"), "rw"),
    **dict.fromkeys(("defaults", "tmpcopyup"), "rw"),
}
# Seen by tests of their own.
_ELSEWHERE = {"bind", "rbind", "remount", "idmap", "ridmap"}


def _table() -> Iterator[tuple[str, int, str]]:
    """Option, column and word."""
    for option, word in _OF_MOUNT.items():
        yield option, 0, word
        yield f"r{option}", 0, word
    for option, word in _PROPAGATION.items():
        yield option, 1, word
    for option, word in _OF_FILE_SYSTEM.items():
        yield option, 2, word


def test_the_table_has_every_option_that_is_understood() -> None:
    assert {option for option, *_ in _table()} | _ELSEWHERE == mounts.option_names()


async def test_every_option_of_the_table_does_what_it_says(
    engine: asyncrt.Engine, rootfs: str
) -> None:
    script = "grep ' /tmp/at/' /proc/self/mountinfo"
    made = config(rootfs, ["/bin/sh", "-c", script])
    options = [option for option, *_ in _table()]
    made["mounts"] += [mount(f"/tmp/at/{each}", "tmpfs", each) for each in options]
    lines = [line.split(" ") for line in (await said(engine, made)).splitlines()]
    found = {
        fields[4].removeprefix("/tmp/at/"): (
            fields[5].split(","),
            [fields[6].partition(":")[0]],
            fields[-1].split(","),
        )
        for fields in lines
    }
    assert set(found) == set(options)
    for option, column, word in _table():
        if word:
            assert word in found[option][column], (option, found[option])
        else:
            assert not {"noatime", "relatime"} & set(found[option][0]), option


@pytest.mark.parametrize(("set", "clear"), [("ro", "rw"), ("nosuid", "suid"), ("noexec", "exec")])
async def test_of_two_that_say_the_opposite_the_last_one_counts(
    engine: asyncrt.Engine, rootfs: str, set: str, clear: str
) -> None:
    script = "grep ' /data ' /proc/self/mountinfo | cut -d' ' -f6"
    for first, last in ((set, clear), (clear, set)):
        made = config(rootfs, ["/bin/sh", "-c", script])
        options = ("rbind", f"r{first}", f"r{last}")
        made["mounts"].append(mount("/data", "bind", *options, source="/etc"))
        shown = (await said(engine, made)).strip().split(",")
        assert (set in shown) is (last == set)


@pytest.mark.parametrize("type", ["bind", "rbind"])
async def test_a_bind_may_be_said_by_its_type_alone(
    engine: asyncrt.Engine, rootfs: str, type: str
) -> None:
    made = config(rootfs, ["/bin/ls", "/data"])
    made["mounts"].append(mount("/data", type, source=f"{rootfs}/etc"))
    assert (await said(engine, made)).split() == ["passwd"]


@pytest.mark.needs_cgroups
@pytest.mark.parametrize("type", ["cgroup", "cgroup2"])
async def test_cgroups_are_there_whichever_version_is_named(
    engine: asyncrt.Engine, rootfs: str, type: str
) -> None:
    """A config says the one, a machine has the other, or both."""
    made = config(rootfs, ["/bin/sh", "-c", "find /sys/fs/cgroup -name cgroup.procs | head -1"])
    made["mounts"].append(mount("/sys/fs/cgroup", type, "nosuid"))
    assert (await said(engine, made)).startswith("/sys/fs/cgroup/")
