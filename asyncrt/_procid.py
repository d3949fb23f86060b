"""Who a process is, beyond its pid, and whether exactly that process is still alive.

A pid alone is reused by the kernel. An identity is pid, start time (field 22 of proc(5) stat, in
ticks since boot), boot id and the pid namespace's inode. Doubt counts as alive: what is wrongly
thought dead would be cleaned up under a living process. Standard library only.
"""

from __future__ import annotations

import os
import select

from asyncrt import _csignal, _durable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol

    class Identified(Protocol):
        """Anything that carries an identity's four facts."""

        @property
        def pid(self) -> int: ...
        @property
        def start(self) -> int: ...
        @property
        def boot(self) -> str: ...
        @property
        def pidns(self) -> int: ...


_boot_id = ""


def boot_id() -> str:
    """The kernel's id of this boot."""
    global _boot_id  # noqa: PLW0603 - read once, it can't change while we run
    if not _boot_id:
        fd = os.open("/proc/sys/kernel/random/boot_id", os.O_RDONLY | os.O_CLOEXEC)
        try:
            _boot_id = os.read(fd, 64).decode().strip()
        finally:
            os.close(fd)
    return _boot_id


_FIRST_USER_NAMESPACE = 0xEFFFFFFD  # linux/proc_ns.h

CAP_SYS_ADMIN = 21  # linux/capability.h
CAP_SYS_RESOURCE = 24


def in_first_user_namespace() -> bool:
    """Whether what we may is so on the whole machine, and not in a user namespace only."""
    try:
        return os.stat("/proc/self/ns/user").st_ino == _FIRST_USER_NAMESPACE
    except OSError:
        return False


def capabilities() -> int:
    """The calling process's effective capabilities; 0 where they count in a user namespace only."""
    if not in_first_user_namespace():
        return 0
    try:
        status = _durable.read("/proc/self/status")
    except OSError:
        return 0
    return int(status.partition(b"CapEff:")[2].split(None, 1)[0], 16)


_namespace = (0, 0)


def pid_namespace() -> int:
    """The inode of the pid namespace that our pids are numbered in.

    A process never changes its own (pid_namespaces(7)), so it is looked up once in each.
    """
    global _namespace  # noqa: PLW0603 - a cache that a fork makes stale
    pid = os.getpid()
    if _namespace[0] != pid:
        _namespace = pid, os.stat("/proc/self/ns/pid").st_ino
    return _namespace[1]


PF_EXITING = 0x4  # one of the flags: the process is on its way out (linux/sched.h)


class Stat:
    """What proc(5) stat says of one process: name, one-letter state, parent, session, flags, start."""

    __slots__ = ("comm", "flags", "pgid", "ppid", "session", "start", "state")

    def __init__(self, raw: bytes) -> None:
        # The name may hold spaces and parentheses: it ends at the last ")".
        end = raw.rindex(b")")
        self.comm = raw[raw.index(b"(") + 1 : end].decode(errors="replace")
        rest = raw[end + 2 :].split(b" ", 20)
        self.state = rest[0].decode()
        self.ppid = int(rest[1])
        self.pgid = int(rest[2])
        self.session = int(rest[3])
        self.flags = int(rest[6])
        self.start = int(rest[19])


def stat(pid: int) -> Stat | None:
    """The process's stat, or None when there is none to read (gone, or hidden by hidepid)."""
    try:
        return _read_stat(pid)
    except OSError:
        return None


def _read_stat(pid: int) -> Stat | None:
    fd = os.open(f"/proc/{pid}/stat", os.O_RDONLY | os.O_CLOEXEC)
    try:
        return Stat(os.read(fd, 1024))
    except (ProcessLookupError, ValueError, IndexError):
        return None  # it ended between the open and the read
    finally:
        os.close(fd)


def facts(pid: int) -> dict[str, int | str] | None:
    """The identity of a living process as plain data, or None if it is gone."""
    found = stat(pid)
    if found is None:
        return None
    return {"pid": pid, "start": found.start, "boot": boot_id(), "pidns": pid_namespace()}


def set_name(name: str) -> None:
    """What ps shows for this single-threaded process, at most 15 bytes, until the next exec.

    By proc(5) comm and not by prctl: a fresh child pays for every page that a call touches first,
    and ctypes' are many.
    """
    fd = os.open("/proc/self/comm", os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, name.encode())
    finally:
        os.close(fd)


def foreign(identity: Identified) -> bool:
    """Whether it was recorded in another pid namespace of this boot, so its pid tells us nothing."""
    return identity.boot == boot_id() and identity.pidns != pid_namespace()


def ended(pidfd: int) -> bool:
    """Whether the whole thread group behind the pidfd is gone (pidfd_open(2): it polls readable)."""
    poller = select.poll()
    poller.register(pidfd, select.POLLIN)
    return bool(poller.poll(0))


def check(identity: Identified, namespace: int = 0) -> tuple[bool, str]:
    """`(alive, comm)` of exactly that process; comm is "" where it can't be read.

    A main thread that ended alone shows Z while the process lives on in its other threads, so a Z
    is decided by a pidfd. Unknown (another pid namespace, hidden /proc) counts as alive. Who checks
    many gives `namespace`, our pid_namespace(), whose look-up takes a third of the time.
    """
    if identity.boot != boot_id():
        return False, ""
    if identity.pidns != (namespace or pid_namespace()):
        return True, ""
    found = stat(identity.pid)
    if found is None:
        return _exists(identity.pid), ""
    if found.start != identity.start or found.state in "Xx":
        return False, ""
    if found.state == "Z":
        return _group_lives(identity.pid), found.comm
    return True, found.comm


def alive(identity: Identified) -> bool:
    """Whether exactly that process lives; doubt counts as alive."""
    return check(identity)[0]


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _group_lives(pid: int) -> bool:
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return False
    try:
        return not ended(pidfd)
    finally:
        os.close(pidfd)


def open_pidfd(identity: Identified) -> int | None:
    """A pidfd of exactly that process, or None when it is dead. The caller closes it.

    The identity is checked after the open, so the pid can't be reused in between. Raises
    PermissionError when it was recorded in another pid namespace, OSError when there is no
    descriptor or memory to look.
    """
    if identity.boot != boot_id():
        return None
    if identity.pidns != pid_namespace():
        raise PermissionError(f"pid {identity.pid} was recorded in another pid namespace")
    try:
        pidfd = os.pidfd_open(identity.pid)
    except (ProcessLookupError, OSError) as error:
        if isinstance(error, ProcessLookupError) or error.errno == 22:  # EINVAL: not a leader now
            return None
        raise
    try:
        found = _read_stat(identity.pid)
    except (FileNotFoundError, PermissionError, ProcessLookupError):
        found = None  # it has gone just now; or it is hidden, and then not ours to signal either
    except OSError:
        os.close(pidfd)  # it may be anybody's
        raise
    if (found is not None and found.start != identity.start) or ended(pidfd):
        os.close(pidfd)
        return None
    return pidfd


def send(identity: Identified, number: int) -> bool:
    """Signal exactly that process; False when it is dead."""
    pidfd = open_pidfd(identity)
    if pidfd is None:
        return False
    try:
        _csignal.pidfd_send_signal(pidfd, number)
    except ProcessLookupError:
        return False
    finally:
        os.close(pidfd)
    return True
