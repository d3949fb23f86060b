"""Limits of a cgroup that is alive: written all or none. Blocking.

The kernel takes one value at a time, and some only in the right order: a memory limit above that of
memory and swap together, a quota too large for its period, shares of an idle cgroup are invalid until
the other has changed. Which order that is depends on what is in force; so what is refused as invalid
waits until something else has been written. Going back goes through the same states in reverse, each
of which the kernel has taken once.
"""

from __future__ import annotations

import contextlib
import errno
import os
from functools import partial
from typing import NamedTuple

from asyncrt import _cgroups, _procid
from asyncrt.launch.cgroup import make_place, unmake
from asyncrt.launch.failure import Failure

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from asyncrt.platforms.cgroups.update import PlannedUpdate

_PASSES = 100  # over what forks faster than it can be moved
_CGROUPS_PATH = "linux.cgroupsPath"

# What says of a device that nothing is said of it, by the beginning of the file's name.
_NOTHING_SAID = (
    ("io.max", "rbps=max wbps=max riops=max wiops=max"),
    ("io.latency", "target=0"),
    ("blkio.throttle.", "0"),
    ("blkio.weight", "0"),
    ("blkio.leaf_weight", "0"),
    ("rdma.max", "hca_handle=max hca_object=max"),
)
_BY_NAME = frozenset({"rdma.max", "net_prio.ifpriomap"})


class _Write(NamedTuple):
    at: str
    path: str
    value: str


class NotChanged(Exception):  # noqa: N818 - an outcome, told to the user as UpdateFailed
    """A limit that the kernel refused; all is as it was, but for what is `left`."""

    def __init__(self, at: str, path: str, errno: int, left: list[str]) -> None:
        super().__init__(at, path, errno, left)
        self.at = at
        self.path = path
        self.errno = errno
        self.left = left


class Changed:
    """Limits that were changed, and how to have the old ones back."""

    def __init__(self, holder: str) -> None:
        """`holder` is the cgroup that all of the container is in."""
        self._holder = holder
        self._before: list[tuple[str, str]] = []
        self._made: list[str] = []
        self._joined: list[tuple[str, str]] = []  # from where
        self.places: list[str] = []  # that it has joined

    def apply(self, planned: PlannedUpdate, *, check_usage: bool = False) -> None:
        """Write all of it. Raises NotChanged, having put back what was written.

        `check_usage`: a memory limit below what is used is refused, as version 1 does anyway when
        nothing can be reclaimed; version 2 would kill for it.
        """
        try:
            for place in planned.places:
                make_place(place, self._made)
            for path in planned.origins:
                if not {*_cgroups.pids(path)} <= {*_cgroups.pids(self._holder)}:
                    raise Failure(_CGROUPS_PATH, path, errno.ENOTEMPTY)  # others' would be limited
            writes = [_first_there(*each) for each in planned.writes]
            if check_usage:
                _check_usage(writes)
            self._write_all(writes)
            for path, origin in planned.origins.items():
                self._join(path, origin)
        except Failure as failure:
            left = self.put_back()
            raise NotChanged(failure.what, failure.path, failure.errno, left) from failure
        except BaseException:
            self.put_back()
            raise

    def put_back(self) -> list[str]:
        """Have the old limits again; what the kernel doesn't let be put back, as file and value."""
        left: list[str] = []
        for path, origin in reversed(self._joined):
            if not origin:
                continue  # it was there before
            try:
                _move(partial(_cgroups.pids, path), origin)
            except OSError:
                left.append(f"its processes in {path}")
        for path, value in reversed(self._before):
            try:
                _cgroups.write(path, value or "\n")
            except OSError:
                left.append(f"{path} {value}")
        unmake(self._made)
        return left

    def _write_all(self, waiting: Sequence[_Write]) -> None:
        while waiting:
            refused: list[_Write] = []
            first: Failure | None = None
            for each in waiting:
                try:
                    before = _before(each.path, each.value)
                    _cgroups.write(each.path, each.value)
                except OSError as error:
                    failure = Failure(each.at, each.path, error.errno or errno.EIO)
                    if error.errno != errno.EINVAL:
                        raise failure from error
                    refused.append(each)
                    first = first or failure
                else:
                    self._before.append((each.path, before))
            if first is not None and len(refused) == len(waiting):
                raise first
            waiting = refused

    def _join(self, path: str, origin: str) -> None:
        self._joined.append((path, origin))
        try:
            gather(self._holder, path)
        except OSError as error:
            raise Failure(_CGROUPS_PATH, path, error.errno or errno.EIO) from error
        self.places.append(path)


def gather(holder: str, path: str) -> None:
    """Have all that is in one cgroup, and what it forks meanwhile, in one of another hierarchy too.

    Raises OSError.
    """
    _move(lambda: set(_cgroups.pids(holder)) - set(_cgroups.pids(path)), path)


def _move(who: Callable[[], Iterable[int]], path: str) -> None:
    """Move them until nobody is left. What they fork once they are there is there: it gets fewer."""
    for _ in range(_PASSES):
        left = [pid for pid in who() if _lives(pid)]
        if not left:
            return
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                _cgroups.write(f"{path}/cgroup.procs", str(pid))
    raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN), path)


def _lives(pid: int) -> bool:
    """What has begun to end is moved no more, and a pid namespace's init may be at it for long."""
    found = _procid.stat(pid)
    return (
        found is not None and found.state not in {"Z", "X"} and not found.flags & _procid.PF_EXITING
    )


def _check_usage(writes: Iterable[_Write]) -> None:
    for each in writes:
        name = os.path.basename(each.path)
        if name not in {"memory.max", "memory.limit_in_bytes"} or not each.value.isdecimal():
            continue
        usage = "memory.current" if name == "memory.max" else "memory.usage_in_bytes"
        if int(_cgroups.read(f"{os.path.dirname(each.path)}/{usage}") or 0) > int(each.value):
            raise Failure(each.at, each.path, errno.EBUSY)


def _first_there(at: str, choices: Sequence[tuple[str, str]]) -> _Write:
    """The first of the files that is there: kernels are built with one or the other."""
    for path, value in choices:
        if os.path.exists(path):
            return _Write(at, path, value)
    raise Failure(at, choices[0][0], errno.ENOENT)


def _before(path: str, value: str) -> str:
    """What has to be written to a file to undo the writing of `value`. Raises OSError."""
    if not os.access(path, os.R_OK):  # then it couldn't be put back
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
    text, name = _cgroups.read(path).decode(), os.path.basename(path)
    lines = text.splitlines()
    key, space, _ = value.partition(" ")
    if space and (":" in key or name in _BY_NAME):
        said = (line for line in lines if line.split(" ", 1)[0] == key)
        nothing = (words for start, words in _NOTHING_SAID if name.startswith(start))
        return next(said, f"{key} {next(nothing, 'default')}")
    for line in lines:
        first, _, rest = line.partition(" ")
        if first in {"default", "oom_kill_disable"}:
            return rest if first == "oom_kill_disable" else line
    return lines[0] if lines else ""
