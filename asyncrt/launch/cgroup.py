"""A process's cgroups: made, limited, and joined by the process itself before it does anything else.

Standard library only. What has to be written is decided on the engine's side; here it is done in the
plan's order, and each step that fails names the field of the spec that asked for it. What existed
before is used and never taken for ours.
"""

from __future__ import annotations

import contextlib
import errno
import os

from asyncrt import _cgroups, _durable, _libc
from asyncrt.launch.failure import Failure, step

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from asyncrt.launch.plan import CgroupPlace, CgroupPlan, CgroupReport

PATH = "linux.cgroupsPath"  # the field that stands for the cgroup itself
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_WRITE = os.O_WRONLY | os.O_CLOEXEC


def make(plan: CgroupPlan) -> CgroupReport:
    """Make the cgroups and set their limits, with nobody in them yet.

    Raises Failure; what was made is removed then.
    """
    made: list[str] = []
    try:
        for place in plan["places"]:
            make_place(place, made)
            if place["path"] not in made:
                _refuse_used(place["path"])
        for path in plan.get("supervisor") or ():
            _make_one(path, made)
        for at, choices in plan["writes"]:
            _write_first(at, choices)
        if plan["devices"] is not None:
            from asyncrt.launch import bpf  # version 1 has a list for that

            at, cgroup, program = plan["devices"]
            try:
                bpf.attach_device_filter(cgroup, bytes.fromhex(program))
            except OSError as error:
                raise Failure(at, cgroup, error.errno or errno.EIO) from error
    except Failure:
        unmake(made)
        raise
    return {
        "made": made,
        "places": [(each["path"], _cgroups.inode(each["path"])) for each in plan["places"]],
    }


def put(paths: Iterable[str], pid: int) -> None:
    """Move another process into each. Raises Failure."""
    for path in paths:
        with step(PATH, path):
            _cgroups.write(f"{path}/cgroup.procs", str(pid))


class Doors:
    """The way into cgroups for a process that is about to be made, and may not see them any more.

    No process is moved: for that the kernel waits milliseconds until nobody is forking, so that it gets
    all threads of one (cgroup_threadgroup_rwsem). It is born in its cgroup of version 2, and moves
    itself, by its only thread, into those of version 1 as its first step.
    """

    __slots__ = ("_born_in", "_files")

    def __init__(self, paths: Iterable[str]) -> None:
        """Open them. Raises Failure."""
        self._files: list[tuple[str, int]] = []
        self._born_in = "", -1
        try:
            for path in paths:
                with step(PATH, path):
                    self._open(path)
        except Exception:
            self._close()
            raise

    def _open(self, path: str) -> None:
        try:
            self._files.append((path, os.open(f"{path}/tasks", _WRITE)))
        except FileNotFoundError:
            self._born_in = path, os.open(path, _DIRECTORY)

    def _close(self) -> None:
        for _, fd in (*self._files, self._born_in):
            if fd >= 0:
                os.close(fd)

    @property
    def need_a_birth(self) -> bool:
        """Whether there is one of version 2 among them."""
        return self._born_in[1] >= 0

    def enter(self) -> None:
        """Be in all of them, none of which is of version 2; once. Raises Failure."""
        try:
            for path, fd in self._files:
                with step(PATH, path):
                    os.write(fd, b"0")
        finally:
            self._close()

    def clone(self, flags: int) -> int:
        """As _libc.clone, the child being in all of them; once.

        Raises OSError, and in the child Failure.
        """
        pid = self.bear(flags)
        if not pid:
            self.enter()
        return pid

    def bear(self, flags: int) -> int:
        """As `clone`, the child having to `enter` them itself. Raises OSError."""
        try:
            pid = self._clone(flags)
        except BaseException:
            self._close()
            raise
        if pid:
            self._close()
        return pid

    def _clone(self, flags: int) -> int:
        path, fd = self._born_in
        if fd >= 0:
            try:
                return _libc.clone(flags, fd)
            except OSError:
                # Nobody may be born there: as many live there as may (EAGAIN), say, and one that
                # comes in from outside isn't held up by that. What holds that one up is the reason.
                with step(PATH, path):
                    self._files.append((path, os.open("cgroup.procs", _WRITE, dir_fd=fd)))
        return _libc.clone(flags)


def open_all(paths: Iterable[str]) -> list[int]:
    """Their directories, for clone3(2) with CLONE_INTO_CGROUP (version 2) or to be handed on.

    Raises Failure.
    """
    found: list[int] = []
    for path in paths:
        try:
            found.append(os.open(path, _DIRECTORY))
        except OSError as error:
            for fd in found:
                os.close(fd)
            raise Failure(PATH, path, error.errno or errno.EIO) from error
    return found


def watched(report: CgroupReport) -> list[str]:
    """Of the places those that a supervisor needs: where all of it is killed, and where OOM is told."""
    places = [path for path, _ in report["places"]]
    told = [path for path in places if _cgroups.oom_kills(path) is not None]
    return list(dict.fromkeys([*places[:1], *told[:1]]))


def unmake(made: Sequence[str]) -> None:
    """Remove what was made, as far as nobody is in it."""
    for path in reversed(made):
        with contextlib.suppress(OSError):
            os.rmdir(path)


def make_place(place: CgroupPlace, made: list[str]) -> None:
    """Make it, and what is missing above it; controllers are handed down from the top.

    One that is there is left as it is, and isn't told by `made`. Raises Failure.
    """
    top, path = place["top"], place["path"]
    names = os.path.relpath(path, top).split("/")
    above = top
    for name in names:
        for controller, at in place["enable"].items():
            _enable(above, controller, at)
        above = f"{above}/{name}".replace("//", "/")
        if _make_one(above, made) and place["cpuset"]:
            _inherit_cpuset(above)


def _make_one(path: str, made: list[str]) -> bool:
    try:
        os.mkdir(path)
    except FileExistsError:
        return False
    except OSError as error:
        raise Failure(PATH, path, error.errno or errno.EIO) from error
    made.append(path)
    return True


def _enable(cgroup: str, controller: str, at: str) -> None:
    """Let the cgroups below this one have a controller (cgroup-v2.rst, "Enabling and Disabling")."""
    path = f"{cgroup}/cgroup.subtree_control"
    try:
        if controller.encode() not in _durable.read(path).split():
            _cgroups.write(path, f"+{controller}")
    except OSError as error:
        raise Failure(at, path, error.errno or errno.EIO) from error


def _inherit_cpuset(cgroup: str) -> None:
    """A new cpuset of version 1 is empty, and nobody may join it (cpusets(7))."""
    for name in ("cpuset.cpus", "cpuset.mems"):
        try:
            value = _durable.read(f"{os.path.dirname(cgroup)}/{name}").decode().strip()
            _cgroups.write(f"{cgroup}/{name}", value)
        except OSError as error:
            raise Failure(PATH, f"{cgroup}/{name}", error.errno or errno.EIO) from error


def _refuse_used(cgroup: str) -> None:
    """Somebody else's processes would be paused and killed with ours; and ours stand still at once."""
    if _cgroups.is_populated(cgroup):
        raise Failure(PATH, cgroup, errno.ENOTEMPTY)
    if _cgroups.is_frozen(cgroup):
        raise Failure(PATH, cgroup, errno.EBUSY)


def _write_first(at: str, choices: Sequence[Sequence[str]]) -> None:
    """Write to the first of the files that is there: kernels are built with one or the other."""
    path = choices[0][0]
    for path, value in choices:
        try:
            _cgroups.write(path, value)
        except FileNotFoundError:
            continue
        except OSError as error:
            raise Failure(at, path, error.errno or errno.EIO) from error
        return
    raise Failure(at, path, errno.ENOENT)
