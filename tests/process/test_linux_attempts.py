"""Attempts to get out of a sandbox by system calls, by everybody, with and without their defences.

Each runs three times: as a default sandbox is confined, without a filter, and, in a user namespace,
with all capabilities there and nothing but the namespaces in the way.
"""

from __future__ import annotations

import ctypes
import json
import os
import sys
from typing import Any

import pytest

from asyncrt.oci.default_seccomp import default_seccomp
from asyncrt.oci.defaults import DEFAULT_CAPABILITIES, MASKED_PATHS, READONLY_PATHS
from asyncrt.oci.words import CAPABILITIES
from tests.helpers import capabilities
from tests.helpers.attempts import PROGRAM
from tests.helpers.sandboxes import EVERYBODY, ROOT, config, ended_by, mount, python, with_python

pytestmark = [pytest.mark.needs_root, pytest.mark.needs_program("busybox")]

DEFAULT, UNFILTERED, ALL = "as by default", "without a filter", "with all capabilities"
_UNMAPPED = 4_000_000


def _made(image: str, who: str, how: str) -> dict[str, Any]:
    user = capabilities.ordinary_user()
    args = python(PROGRAM, json.dumps(_host(image, who)))
    made = with_python(config(image, args, who=who, user=user))
    made["mounts"].append(mount("/sys/fs/cgroup", "cgroup", "nosuid", "noexec", "nodev"))
    made["linux"]["maskedPaths"] = list(MASKED_PATHS)
    made["linux"]["readonlyPaths"] = list(READONLY_PATHS)
    granted = CAPABILITIES if how == ALL else DEFAULT_CAPABILITIES
    sets = ("bounding", "effective", "permitted")
    made["process"]["capabilities"] = {each: list(granted) for each in sets}
    if how == DEFAULT:
        made["process"]["noNewPrivileges"] = True
        made["linux"]["seccomp"] = default_seccomp(DEFAULT_CAPABILITIES)
    return made


def _host(image: str, who: str) -> dict[str, Any]:
    """What of the host's the program is to know when it sees it."""
    directories = [os.stat(each) for each in ("/", "/etc", os.path.dirname(image))]
    kinds = ["mnt", "pid", "uts", "ipc", "net", "cgroup", *(() if who == ROOT else ("user",))]
    return {
        "directories": [[each.st_dev, each.st_ino] for each in directories],
        "only": image,
        "namespaces": {each: os.stat(f"/proc/self/ns/{each}").st_ino for each in kinds},
        "pid": os.getpid() if os.getpid() > 100 else 2**22 - 1,
        "handle": _handle(os.path.dirname(image)),
        "disk": _disk(),
        "unmapped": None if who == ROOT else _UNMAPPED,
    }


def _handle(path: str) -> str:
    """A file handle (name_to_handle_at(2)), "" where the file system has none."""
    libc = ctypes.CDLL(None, use_errno=True)
    buffer = ctypes.create_string_buffer((128).to_bytes(4, sys.byteorder), 136)
    number = ctypes.c_int()
    if libc.name_to_handle_at(-100, path.encode(), buffer, ctypes.byref(number), 0):
        return ""
    return buffer.raw[: 8 + int.from_bytes(buffer.raw[:4], sys.byteorder)].hex()


def _disk() -> list[int]:
    for name in os.listdir("/sys/block"):
        with open(f"/sys/block/{name}/dev", encoding="ascii") as file:
            return [int(each) for each in file.read().split(":")]
    return [7, 0]


_CASES = [
    (who, how)
    for who in EVERYBODY
    for how in (DEFAULT, UNFILTERED, *(() if who == ROOT else (ALL,)))
]


@pytest.mark.parametrize(("who", "how"), _CASES)
def test_no_way_out_leads_anywhere(python_image: str, who: str, how: str) -> None:
    code, out, err = ended_by(who, _made(python_image, who, how))
    assert (code, err) == (0, "")
    assert out.split() == ["all"]
