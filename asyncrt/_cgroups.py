"""What is done with a cgroup that is there: stop it, end it, look into it, take it away.

Standard library only: supervisors and engines alike use it. A cgroup is named by a directory, by its
path or through an open descriptor (`through`), of which the second can't become another's. Version 2
has files and events for everything here (cgroup-v2.rst, "Core Interface Files"). Version 1 has a
freezer and a list of processes, and no event for any of it: the only thing that asyncrt waits for by
looking again and again.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import time

from asyncrt import _csignal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

_LOOK_SECONDS = 0.0005
_LONGEST_LOOK_SECONDS = 0.02
_WRITE = os.O_WRONLY | os.O_CLOEXEC
_READ = os.O_RDONLY | os.O_CLOEXEC
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_AT_ONCE_SECONDS = 0.001
_LATE_SECONDS = 0.03  # by then what came soon after another change is told, or will never be
_PASSES = 100  # over what forks faster than it can be signalled one by one


def through(fd: int) -> str:
    """The cgroup whose directory is open; the name is good for as long as that is."""
    return f"/proc/self/fd/{fd}"


def write(path: str, value: str) -> None:
    """Write a value in one call, as the kernel wants it. Raises OSError, with the path."""
    try:
        fd = os.open(path, _WRITE)
        try:
            os.write(fd, value.encode())
        finally:
            os.close(fd)
    except OSError as error:
        raise OSError(error.errno, error.strerror, path) from error


def read(path: str) -> bytes:
    """All of it, page by page as the kernel makes it up; b"" where there is nothing to read."""
    data = b""
    try:
        fd = os.open(path, _READ)
        try:
            while part := os.read(fd, 65536):
                data += part
        finally:
            os.close(fd)
    except OSError:
        pass
    return data


def is_v2(cgroup: str) -> bool:
    """Whether it is of version 2; the root of a hierarchy counts as none."""
    return os.path.exists(f"{cgroup}/cgroup.events")


def can_freeze(cgroup: str) -> bool:
    """Whether its processes can be frozen together."""
    return os.path.exists(f"{cgroup}/cgroup.freeze") or os.path.exists(f"{cgroup}/freezer.state")


def _below(cgroup: str) -> Iterator[tuple[int, str]]:
    """Each cgroup below it, children first: its name, and the directory that is in, open until the next.

    A container may have made them, with neither a path's length nor our stack for a limit: one goes
    down and up again step by step, with one descriptor.
    """
    try:
        fd = os.open(cgroup, _DIRECTORY)
    except OSError:
        return  # it went
    names: list[str] = []  # the way down to where it is
    waiting = [_children(fd)]
    try:
        while waiting[-1] or names:
            if waiting[-1]:
                name = waiting[-1].pop()
                try:
                    fd = _moved(fd, name)
                except OSError:
                    continue  # it went
                names.append(name)
                waiting.append(_children(fd))
            else:
                waiting.pop()
                try:
                    fd = _moved(fd, "..")
                except OSError:
                    return  # for want of descriptors or memory
                yield fd, names.pop()
    finally:
        os.close(fd)


def _moved(fd: int, name: str) -> int:
    """The directory of that name, opened in the place of the one that it is in."""
    found = os.open(name, _DIRECTORY, dir_fd=fd)
    os.close(fd)
    return found


def _children(fd: int) -> list[str]:
    try:
        with os.scandir(fd) as found:
            return [each.name for each in found if each.is_dir(follow_symlinks=False)]
    except OSError:
        return []  # it went


def pids(cgroup: str) -> list[int]:
    """Its processes and those of the cgroups below it, as seen from our pid namespace."""
    found = _listed(f"{cgroup}/cgroup.procs")
    for fd, name in _below(cgroup):
        found += _listed(f"{through(fd)}/{name}/cgroup.procs")
    return found


def _listed(path: str) -> list[int]:
    return [pid for pid in map(int, read(path).split()) if pid]


def is_populated(cgroup: str) -> bool:
    """Whether any process lives in it or below; one that waits to be reaped doesn't."""
    events = read(f"{cgroup}/cgroup.events")
    if events:
        return b"populated 1" in events
    return bool(pids(cgroup))


def is_frozen(cgroup: str) -> bool:
    """Whether everything in it stands still, by its own or a parent's freezing."""
    return b"frozen 1" in read(f"{cgroup}/cgroup.events") or read(
        f"{cgroup}/freezer.state"
    ).startswith(b"FROZEN")


def freeze(cgroup: str, seconds: float) -> bool:
    """Freeze it and wait, bounded, until all of it stands still; whether it does.

    It stays frozen either way: a process in the middle of a system call stops when it leaves that.
    Raises OSError.
    """
    if os.path.exists(f"{cgroup}/cgroup.freeze"):
        write(f"{cgroup}/cgroup.freeze", "1")
        return _await_event(cgroup, b"frozen 1", seconds)
    # What was forked while it froze may be missed: said again, the kernel looks again.
    for _ in _looks(seconds):
        write(f"{cgroup}/freezer.state", "FROZEN")
        if is_frozen(cgroup):
            return True
    return False


def thaw(cgroup: str) -> None:
    """Let it go on. Raises OSError."""
    if os.path.exists(f"{cgroup}/cgroup.freeze"):
        write(f"{cgroup}/cgroup.freeze", "0")
    else:
        write(f"{cgroup}/freezer.state", "THAWED")


def kill(cgroup: str, seconds: float, *, populated: bool = False) -> bool:
    """SIGKILL all of it, whatever it forks meanwhile; whether there was anybody. Frozen or not.

    It takes `seconds` at most where the kernel has no cgroup.kill (5.14) and it must freeze first.
    `populated`: there is somebody, and nobody needs to look.
    """
    if not populated and not is_populated(cgroup):
        return False
    try:
        write(f"{cgroup}/cgroup.kill", "1")
    except OSError:
        _kill_each(cgroup, seconds)
    return True


def _kill_each(cgroup: str, seconds: float) -> None:
    frozen = False
    if can_freeze(cgroup):
        with contextlib.suppress(OSError):
            frozen = freeze(cgroup, seconds)
    try:
        # Frozen, once is enough. Else each pass leaves fewer who could have forked.
        for _ in range(1 if frozen else _PASSES):
            if not _signal_each(cgroup):
                break
    finally:
        # In version 1 a SIGKILL waits until the thaw.
        if can_freeze(cgroup):
            with contextlib.suppress(OSError):
                thaw(cgroup)


def _signal_each(cgroup: str) -> bool:
    held: list[tuple[int, int]] = []
    try:
        for pid in pids(cgroup):
            try:
                held.append((pid, os.pidfd_open(pid)))
            except ProcessLookupError:
                continue
            except OSError:
                break  # as many as there are descriptors for; another pass takes the rest
        # Who is still listed with its pidfd open is the one that is meant: no pid was reused.
        listed = set(pids(cgroup)) if held else set()
        for pid, pidfd in held:
            if pid in listed:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    _csignal.pidfd_send_signal(pidfd, _csignal.SIGKILL)
    finally:
        for _, pidfd in held:
            os.close(pidfd)
    return bool(held)


def until_empty(cgroup: str, seconds: float) -> bool:
    """Wait, bounded, until no process is left in it or below; True as well when it is gone."""
    if is_v2(cgroup):
        return _await_event(cgroup, b"populated 0", seconds)
    return any(not pids(cgroup) for _ in _looks(seconds))


def _await_event(cgroup: str, what: bytes, seconds: float) -> bool:
    """Wait for a line of cgroup.events, whose changes poll(2) tells of, though not each of many.

    What comes soon after another change is told 10 ms late (CGROUP_FILE_NOTIFY_MIN_INTV in the
    kernel's cgroup.c), and mostly is so within one: it is looked at again for that long first. And it
    is told to nobody if the cgroup is removed before that: after each change one looks once more.
    """
    try:
        fd = os.open(f"{cgroup}/cgroup.events", _READ)
    except FileNotFoundError:
        return True  # it is gone, and with it whatever was in it
    try:
        poller = select.poll()
        poller.register(fd, select.POLLPRI)
        began = time.monotonic()
        changed = True  # maybe so just before
        while True:
            try:
                if what in os.pread(fd, 4096, 0):
                    return True
            except OSError:
                return True  # removed meanwhile
            passed = time.monotonic() - began
            if passed >= seconds:
                return False
            if passed < _AT_ONCE_SECONDS:
                os.sched_yield()
            else:
                most = min(seconds - passed, _LATE_SECONDS) if changed else seconds - passed
                changed = bool(poller.poll(most * 1000))
    finally:
        os.close(fd)


def _looks(seconds: float) -> Iterator[None]:
    """So many looks as fit into the time, ever longer apart, one at least."""
    deadline = time.monotonic() + seconds
    pause = _LOOK_SECONDS
    while True:
        yield
        if time.monotonic() >= deadline:
            return
        time.sleep(pause)
        pause = min(2 * pause, _LONGEST_LOOK_SECONDS)


def oom_kills(cgroup: str) -> int | None:
    """How many of its processes the kernel has killed for want of memory; None: it doesn't tell."""
    for name in ("memory.events", "memory.oom_control"):
        words = read(f"{cgroup}/{name}").split()
        if b"oom_kill" in words[:-1]:
            return int(words[words.index(b"oom_kill") + 1])
    return None


def hangs(cgroup: str) -> bool:
    """Whether it is out of memory and nobody is killed for it, as version 1 can be told to."""
    return b"under_oom 1" in read(f"{cgroup}/memory.oom_control")


def inode(cgroup: str) -> int:
    """The directory's number, which the kernel gives to no other cgroup before a reboot; 0: gone."""
    try:
        return os.stat(cgroup).st_ino
    except OSError:
        return 0


def remove(cgroup: str) -> None:
    """Remove it with all below it, none of which has a process any more. Idempotent.

    Raises OSError for the first that can't be removed.
    """
    for fd, name in _below(cgroup):
        with contextlib.suppress(FileNotFoundError):
            os.rmdir(name, dir_fd=fd)
    with contextlib.suppress(FileNotFoundError):
        os.rmdir(cgroup)


def remove_parent(cgroup: str) -> bool:
    """Remove one that others may have come to use: then it stays. False: it stays for another reason.

    Tried twice: the kernel may have had no memory for it, and whose it is it says then only.
    """
    for _ in range(2):
        try:
            os.rmdir(cgroup)
        except OSError as error:
            if error.errno in {errno.EBUSY, errno.ENOTEMPTY, errno.ENOENT}:
                return True
        else:
            return True
    return False
