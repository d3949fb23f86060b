"""What this machine can do, probed by trying, never inferred from its name.

A skip made here begins with "lacks "; in CI (`ASYNCRT_CI=1`) any other skip is a failure.
"""

from __future__ import annotations

import functools
import os
import pwd
import shutil
import subprocess
import sys
from dataclasses import dataclass
from typing import NoReturn

import pytest

from asyncrt.platforms.cgroups import machine, place

LACKS = "lacks "


@dataclass(frozen=True, slots=True)
class User:
    """An unprivileged user that tests can become."""

    name: str
    uid: int
    gid: int


def in_ci() -> bool:
    """Whether skips for what this machine has are failures."""
    return os.environ.get("ASYNCRT_CI") == "1"


def skip_lacking(what: str) -> NoReturn:
    """Skip the running test because the machine lacks `what`; only after a probe said so."""
    pytest.skip(LACKS + what)


def missing(mark: pytest.Mark) -> str | None:
    """What the machine lacks of a needs_* mark, or None."""
    if mark.name == "needs_root":
        return None if is_root() else "uid 0"
    if mark.name == "needs_userns":
        return None if has_userns() else "unprivileged user namespaces"
    if mark.name == "needs_program":
        absent = [name for name in mark.args if shutil.which(name) is None]
        return f"the program {', '.join(absent)}" if absent else None
    if mark.name == "needs_fuse":
        return None if has_fuse() else "FUSE"
    if mark.name == "needs_cgroups":
        wanted = mark.args
        return None if has_cgroups(*wanted) else f"cgroups to make ({', '.join(wanted)})"
    raise pytest.UsageError(f"no probe for the mark {mark.name}")


def is_root() -> bool:
    """Whether we are uid 0 and may become others (not so in every user namespace)."""
    return os.geteuid() == 0 and ordinary_user() is not None


@functools.cache
def ordinary_user() -> User | None:
    """Some unprivileged user that a child of ours can become, or None."""
    for name in ("nobody", "daemon"):
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        done = _try_as(entry.pw_uid, entry.pw_gid, ["true"])
        if done:
            return User(name, entry.pw_uid, entry.pw_gid)
    return None


@functools.cache
def has_userns() -> bool:
    """Whether an unprivileged process can make a user namespace and map itself to root in it."""
    user = ordinary_user() if os.geteuid() == 0 else None
    command = ["unshare", "--user", "--map-root-user", "true"]
    if user is None:
        return _succeeds(command)
    return _try_as(user.uid, user.gid, command)


@functools.cache
def has_fuse() -> bool:
    """Whether there is a fuse-overlayfs, and a FUSE for it."""
    if shutil.which("fuse-overlayfs") is None:
        return False
    try:
        os.close(os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC))
    except OSError:
        return False
    return True


@functools.cache
def has_cgroups(*controllers: str) -> bool:
    """Whether we may make cgroups, and limit by these controllers, of whichever version."""
    found = machine.discover()
    wanted = [found.v2 or found.v1.get("freezer"), *(found.v1.get(each) for each in controllers)]
    if found.v2 is not None:
        there = machine.words(f"{found.v2.top}/cgroup.subtree_control")
        names = dict(zip(wanted[1:], controllers, strict=True))
        wanted = [each for each in wanted if each is not None or names[each] not in there]
    return all(each is not None and _can_make(place.parent(each)) for each in wanted)


def _can_make(directory: str) -> bool:
    path = f"{directory}/asyncrt-probe-{os.getpid()}"
    try:
        os.mkdir(path)
        os.rmdir(path)
    except OSError:
        return False
    return True


@functools.cache
def can_trace() -> bool:
    """Whether a process may trace its child."""
    code = (
        "import os, sys; sys.path.insert(0, sys.argv[1]); from tests.sweep import ptrace;"
        "ready, go = os.pipe(); pid = os.fork() or os._exit(len(os.read(ready, 1)));"
        "ptrace.seize(pid); os.write(go, b'g')"
    )
    repository = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    return _succeeds([sys.executable, "-c", code, repository])


def _try_as(uid: int, gid: int, command: list[str]) -> bool:
    try:
        done = subprocess.run(
            command, user=uid, group=gid, extra_groups=[], cwd="/", capture_output=True, check=False
        )
    except (OSError, subprocess.SubprocessError):
        return False
    return done.returncode == 0


def _succeeds(command: list[str]) -> bool:
    try:
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    except OSError:
        return False
