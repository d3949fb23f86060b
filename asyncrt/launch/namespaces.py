"""Namespaces: joined by path, made new, and the ids that a new user namespace has.

A spare init is one process with one thread, so it makes its namespaces by clone3(2) with
CLONE_PARENT: the child is the one that becomes the container's init, and the supervisor's own. The
spare stays outside for what can only be done from there (a map wider than one id, the child's pid
as others see it), and ends when the child is on its own.
"""

from __future__ import annotations

import _socket
import contextlib
import errno
import os

from asyncrt import _libc, _procid
from asyncrt.launch import frames, process
from asyncrt.launch.failure import Failure, step

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any, NoReturn

    from asyncrt.launch.gofer import Gofer
    from asyncrt.launch.plan import IdMaps, LinuxPlan

CLONE_NEWTIME = 0x80  # linux/sched.h
CLONE_NEWNS = 0x20000
CLONE_PARENT = 0x8000
CLONE_NEWCGROUP = 0x2000000
CLONE_NEWUTS = 0x4000000
CLONE_NEWIPC = 0x8000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000

NS_GET_NSTYPE = 0xB703  # ioctl_ns(2)
_WHAT = "linux.namespaces"
_LIMITS = "/proc/sys/user/max_*_namespaces"
_NAMES = ("user", "mnt", "pid", "uts", "ipc", "net", "cgroup", "time")
_MAP_OUTPUT = 400  # bytes of what newuidmap says that go into an error


def enter(
    linux: LinuxPlan,
    clone: Callable[[int], int],
    shared: Sequence[int] = (),
    gofer: Gofer | None = None,
) -> _socket.socket:
    """Go on as a new process in the namespaces of the plan, the parent's child. Raises Failure.

    Returns a socket, which `identity` asks, to be closed once the parent knows of the new process:
    until then the one that called this stays, without any other descriptor. `clone` makes the new
    one. `shared` are its sandbox's, of which it joins those that the plan says. `gofer` is one that
    belongs into the new user namespace, and is to be forked for it.
    """
    flags = linux["new"]
    if gofer is None or flags & CLONE_NEWUSER:
        join(linux["join"], shared)
    else:
        join(linux["join"], shared, gofer.fork)
        gofer = None
    maps = linux["maps"]
    offsets = linux["time_offsets"]
    outer: _socket.socket | None = None
    if offsets is not None:
        # They can be set until the first process is in, and by who owns it (time_namespaces(7)).
        if flags & CLONE_NEWUSER:
            outer = go_on(CLONE_NEWUSER, maps, _libc.clone)
            flags &= ~CLONE_NEWUSER
            maps = None
        with step("linux.timeOffsets", "/proc/self/timens_offsets"):
            unshare(CLONE_NEWTIME)
            _write("/proc/self/timens_offsets", offsets)
        flags &= ~CLONE_NEWTIME
    if maps is None:
        # Who is in the namespaces that were joined could look into the new process from its first
        # moment, and through its /proc/PID/root at the host's files (CVE-2016-9962). A map would
        # have to be written by an ordinary user, who then may not; but nobody is in a new one yet.
        _libc.set_undumpable()
    ours = go_on(flags & ~CLONE_NEWCGROUP, maps, clone, outer, gofer)
    if outer is not None:
        outer.close()
    return ours


def go_on(
    flags: int,
    maps: IdMaps | None,
    clone: Callable[[int], int],
    keep: _socket.socket | None = None,
    gofer: Gofer | None = None,
) -> _socket.socket:
    """Go on in a new child of our parent, made by `clone`, once its maps are written here.

    Returns and raises as `enter`. `keep` stays open here for as long as this process stays, and what
    a gofer needs.
    """
    # Packets: what is said next isn't read with what is said first.
    ours, theirs = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_SEQPACKET)
    try:
        pid = clone(flags | CLONE_PARENT)
    except OSError as error:
        # ENOSPC: there are as many as there may be (namespaces(7)), or none may be.
        where = _LIMITS if error.errno == errno.ENOSPC else ""
        raise Failure(_WHAT, where, error.errno or errno.EIO) from error
    if pid:
        theirs.close()
        _stand_by(ours, pid, maps, keep, gofer)
    ours.close()
    if maps is None and gofer is None:
        return theirs  # nothing is done for it out there that it would have to wait for
    said, _ = frames.receive_message(theirs)
    if "failed" in said:
        failed = said["failed"]
        raise Failure(failed["what"], failed["path"], failed["errno"])
    return theirs


def identity(ours: _socket.socket) -> dict[str, Any]:
    """The new process's own as its parent sees it; once, of what `go_on` returned there."""
    said, _ = frames.receive_message(ours)
    made: dict[str, Any] = said["made"]
    return made


def _stand_by(
    ours: _socket.socket,
    pid: int,
    maps: IdMaps | None,
    keep: _socket.socket | None,
    gofer: Gofer | None,
) -> NoReturn:
    """Do what is to be done outside, then wait until the child needs us no more.

    The child waits for its maps, and goes on meanwhile with the rest.
    """
    code = 1
    kept = [ours.fileno(), -1 if keep is None else keep.fileno()]
    try:
        if maps is not None and any(maps["programs"]):
            beside = [] if gofer is None else gofer.fds
            process.close_all_but([*kept, *beside])  # as below: they may take their time
        if maps is not None or gofer is not None:
            said: dict[str, object] = {}
            try:
                write_maps(pid, maps)
                if gofer is not None:
                    gofer.fork(0 if maps is None else pid)
            except Failure as failure:
                said = {"failed": failure.report()}
            frames.send(ours, frames.encode(said))
        # Whoever waits for the child's end must not wait for ours.
        process.close_all_but(kept)
        frames.send(ours, frames.encode({"made": _procid.facts(pid)}))
        while ours.recv(1):
            pass
        code = 0
    finally:
        os._exit(code)


def write_maps(pid: int, maps: IdMaps | None, at: str = "linux.") -> None:
    """Write a new user namespace's maps from outside it (user_namespaces(7)). Raises Failure.

    `at` is where the config has them.
    """
    if maps is None:
        return
    kinds = (("uid", maps["uid"]), ("gid", maps["gid"]))
    for (kind, lines), program in zip(kinds, maps["programs"], strict=True):
        what = f"{at}{kind}Mappings"
        if program:
            _run_mapper(program, pid, lines, what)
            continue
        if kind == "gid" and maps["deny_setgroups"]:
            with step(what, "setgroups"):
                _write(f"/proc/{pid}/setgroups", "deny")
        text = "".join(f"{inside} {outside} {size}\n" for inside, outside, size in lines)
        with step(what, f"{kind}_map"):
            _write(f"/proc/{pid}/{kind}_map", text)


def _run_mapper(program: str, pid: int, lines: list[list[int]], what: str) -> None:
    """newuidmap(1) or newgidmap(1), which know who may map what (subuid(5))."""
    words = [str(number) for line in lines for number in line]
    said = os.memfd_create("map", os.MFD_CLOEXEC)
    try:
        with step(what, program):
            child = os.posix_spawn(
                program,
                [program, str(pid), *words],
                {},
                file_actions=[(os.POSIX_SPAWN_DUP2, said, 1), (os.POSIX_SPAWN_DUP2, said, 2)],
            )
        _, status = os.waitpid(child, 0)
        if status:
            text = os.pread(said, _MAP_OUTPUT, 0).decode(errors="replace").strip()
            raise Failure(what, text or program, errno.EPERM)
    finally:
        os.close(said)


def _write(path: str, text: str) -> None:
    """In one write(2), whose errno is the kernel's answer."""
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, text.encode())
    finally:
        os.close(fd)


def become_owner(uid: int, gid: int) -> None:
    """Become whom a user namespace takes for the owner of what is made in it. Raises Failure."""
    with step("linux.uidMappings", f"{uid}:{gid}"):
        # Denied in a map that an ordinary user wrote (user_namespaces(7)).
        with contextlib.suppress(PermissionError):
            os.setgroups([])
        os.setresgid(gid, gid, gid)
        os.setresuid(uid, uid, uid)


def unshare(flags: int) -> None:
    """Leave these namespaces for new ones (unshare(2); Python has it from 3.12 on)."""
    _libc.call("unshare", flags)


def setns(fd: int, flags: int) -> None:
    """Join a namespace, or those of a process (setns(2); Python has it from 3.12 on)."""
    _libc.call("setns", fd, flags)


def open_all(pid: int | str) -> list[int]:
    """All namespaces of a process, a user namespace first. Raises OSError."""
    flags = os.O_RDONLY | os.O_CLOEXEC
    found: list[int] = []
    try:
        for name in _NAMES:
            found.append(os.open(f"/proc/{pid}/ns/{name}", flags))  # noqa: PERF401 - closed below
    except OSError:
        for fd in found:
            os.close(fd)
        raise
    return found


def join(
    wanted: Sequence[tuple[str, str, int]],
    shared: Sequence[int] = (),
    outside: Callable[[], None] | None = None,
) -> None:
    """Join namespaces by path: each has its place in the config, the path and the kind.

    Without a path it is the one of `shared`, which are open, and are closed here. `outside` is called
    right after a user namespace: whom it forks is in none of what that owns, no pid namespace either.

    A user namespace comes when those that it doesn't own are joined: what needs the privilege that
    we have now before what needs the one we have there.
    """
    opened: list[tuple[int, tuple[str, str, int]]] = []
    try:
        by_kind = {_libc.ioctl(fd, NS_GET_NSTYPE): fd for fd in shared}
        for each in wanted:
            at, path, kind = each
            with step(at, path):
                if path:
                    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
                else:
                    fd = os.dup(by_kind[kind])
                opened.append((fd, each))
                if _libc.ioctl(fd, NS_GET_NSTYPE) != kind:
                    raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        late: list[tuple[int, tuple[str, str, int]]] = []
        for fd, each in opened:
            if each[2] == CLONE_NEWUSER:
                late.insert(0, (fd, each))
                continue
            try:
                setns(fd, each[2])
            except OSError:
                late.append((fd, each))
        for fd, (at, path, kind) in late:
            if kind != CLONE_NEWUSER and outside is not None:
                outside()
                outside = None
            with step(at, path):
                setns(fd, kind)
        if outside is not None:
            outside()
    finally:
        for fd in (*(fd for fd, _ in opened), *shared):
            os.close(fd)
