"""An overlay that fuse-overlayfs(1) serves, where the kernel makes none.

The mount is made here, as a detached one like the kernel's, and the program is given its descriptor
of /dev/fuse: nothing is mounted where anybody else could find it, and the file system ends with the
program. That is the gofer's child and dies with it, whatever ends that. It is started with the host's
files, as it needs its libraries; once it runs, pivot_root(2) takes these away from it as well: what
is left to it are the lower directory, read-only and without what is mounted below it, the layer, and
a procfs.
"""

from __future__ import annotations

import errno
import os

from asyncrt import _csignal, _libc
from asyncrt.launch import mounts, namespaces, process
from asyncrt.launch.failure import Failure, step

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import NoReturn

PROGRAM = "fuse-overlayfs"
DEVICE = "/dev/fuse"
_MEND = {
    errno.ENOENT: f"mknod -m 666 {DEVICE} c 10 229",
    errno.EACCES: f"chmod 666 {DEVICE}",
    errno.EPERM: f"in a container: start that one with --device {DEVICE}",
    errno.ENODEV: "modprobe fuse",
    errno.ENXIO: "modprobe fuse",
}
INSTALL = f"apt-get install {PROGRAM} (Debian, Ubuntu) or dnf install {PROGRAM} (Fedora)"

# By whichever kind of attribute it keeps its notes (fuse-overlayfs, main.c). The last is the kernel's
# overlay's for an ordinary user, and it knows it.
MARKS = ("trusted.overlay.", "user.fuseoverlayfs.", "user.overlay.")

_WHAT = "overlay"
_PATHS = f"{os.defpath}:/usr/local/bin:/usr/sbin:/sbin"
# Every machine has it, and nobody needs it to start a program. It is the new root once that runs, and
# has a name for itself in it, so that what was opened by one name is found by it ever after.
_PLACE = "/sys"
_FLAGS = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC
_OUTPUT = 4096  # bytes of what it says before it serves
_TOLD = 200


def program() -> str:
    """Where fuse-overlayfs is; "" if it isn't."""
    for directory in f"{os.environ.get('PATH', '')}:{_PATHS}".split(":"):
        path = os.path.join(directory or ".", PROGRAM)
        if os.path.isfile(path) and os.access(path, os.X_OK):
            return os.path.abspath(path)
    return ""


def mend(number: int) -> str:
    """What to do, for root, about a /dev/fuse that can't be opened because of that errno."""
    return _MEND.get(number, f"see why {DEVICE} can't be opened")


def wrote(upper: int) -> bool:
    """Whether it has served that directory. Nobody else understands all that it writes."""
    return any(_noted(upper, f"{prefix}asyncrt") for prefix in MARKS)


def _noted(fd: int, name: str) -> bool:
    try:
        return os.getxattr(fd, name) == PROGRAM.encode()
    except OSError:
        return False


def note(upper: int, *, trusted: bool) -> None:
    """Have `wrote` know of it. What the container sees hasn't the attribute."""
    try:
        os.setxattr(upper, f"{MARKS[0 if trusted else 1]}asyncrt", PROGRAM.encode())
    except OSError as error:
        # Then the kernel has no overlay there either, nor ever had.
        if error.errno != errno.EOPNOTSUPP:
            raise


class Server:
    """The program while it is being started, and then."""

    __slots__ = ("_place", "pid", "pidfd")

    def __init__(self) -> None:
        self.pid = 0
        self.pidfd = -1
        self._place = -1

    def mount(self, why: str, lower: int, layer: int, upper: str, work: str, lock: int) -> int:
        """The overlay as a detached mount, served from here on. Raises Failure.

        `why` there is none of the kernel's. `upper` and `work` are in the detached tree `layer`.
        `lock` is one that it is to have open for as long as it lives, or -1. Its mount namespace is
        ours until `seclude`.
        """
        found = program()
        if not found:
            what = f"{_WHAT} ({why}; {PROGRAM}, which could, isn't there: {INSTALL})"
            raise Failure(what, "", errno.ENOSYS)
        try:
            device = os.open(DEVICE, os.O_RDWR | os.O_CLOEXEC)
        except OSError as error:
            number = error.errno or errno.EIO
            what = f"{_WHAT} ({why}; {PROGRAM}, which could, needs {DEVICE}: {mend(number)})"
            raise Failure(what, DEVICE, number) from error
        said, says = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            with step(f"{_WHAT} ({PROGRAM})", _PLACE):
                self._furnish(lower, layer, upper)
            with step(f"{_WHAT} ({PROGRAM})", DEVICE):
                made = mounts.new("fuse", _options(device), mounts.restricted(lower))
                # Opened now, as it is to last; the names are gone once it is secluded.
                arguments = [PROGRAM, "-f", "-o", _arguments(work), f"/dev/fd/{device}"]
                self.pid = os.fork()
                if self.pid == 0:
                    _execute(found, arguments, device, says, lock, os.getppid())
                self.pidfd = os.pidfd_open(self.pid)
        finally:
            # Ours would keep the file system waiting for answers when the program is gone.
            os.close(device)
            os.close(says)
        try:
            os.fstat(made)  # it answers once it serves, and fails once nobody will
        except OSError as error:
            _, status = os.waitpid(self.pid, 0)
            what = f"{_WHAT} ({why}; {PROGRAM}: {_words(said, status)})"
            raise Failure(what, "", error.errno or errno.EIO) from error
        finally:
            os.close(said)  # what it says later is nobody's to hear
        return made

    def _furnish(self, lower: int, layer: int, upper: str) -> None:
        """Lay out in a file system of its own all that it is to have."""
        # Before that covers something.
        trees = {
            "proc": mounts.clone_path("/proc", recursive=True),
            "layer": layer,
            "lower": clone(lower),
        }
        mounts.attach(mounts.new("tmpfs", [("mode", "0700")]), os.open(_PLACE, _FLAGS))
        self._place = os.open(_PLACE, _FLAGS)
        os.symlink(".", _PLACE[1:], dir_fd=self._place)
        # By a name without the commas that may be in its own.
        os.symlink(f"layer/{upper}", "upper", dir_fd=self._place)
        os.mkdir("empty", dir_fd=self._place)
        for name, made in trees.items():
            os.mkdir(name, dir_fd=self._place)
            mounts.change(made, propagation=mounts.MS_PRIVATE, recursive=True)
            if name == "lower":
                mounts.change(made, add=mounts.MOUNT_ATTR_RDONLY, recursive=True)
            mounts.attach(made, os.open(name, _FLAGS, dir_fd=self._place))
            os.close(made)
        self._cover(f"{_PLACE}/lower/")

    def _cover(self, top: str) -> None:
        """Have nothing in what is mounted below the lower directory, as the kernel's overlay has it.

        A procfs among these would show it to the container, itself included.
        """
        covered: list[str] = []
        empty = -1
        for path in _mounted_below(top):
            if any(path.startswith(f"{each}/") for each in covered):
                continue
            if empty < 0:
                made = mounts.new("tmpfs", [("mode", "0755")])
                mounts.attach(made, os.open("empty", _FLAGS, dir_fd=self._place))
                empty = os.open("empty", _FLAGS, dir_fd=self._place)
            try:
                place = os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
            except (PermissionError, FileNotFoundError):
                continue  # it can't get there either, or something else is mounted above it
            name = str(len(covered))  # each has its own: what is the same inode is the same to it
            if mounts.is_directory(place):
                os.mkdir(name, 0o555, dir_fd=empty)
            else:
                os.close(os.open(name, os.O_WRONLY | os.O_CREAT, 0o444, dir_fd=empty))
            cover = mounts.clone_tree(empty, name, recursive=False)
            mounts.change(cover, add=mounts.MOUNT_ATTR_RDONLY)
            mounts.attach(cover, place)
            os.close(cover)
            os.close(place)
            covered.append(path)

    def seclude(self) -> int:
        """Leave it nothing of the host's, and be in a mount namespace of our own; its root, opened.

        Raises OSError.
        """
        # Of each process with that root, the program among them, whatever it does (pivot_root(2)).
        old = os.open("/", _FLAGS)
        os.fchdir(self._place)
        _libc.call("pivot_root", b".", b".")
        os.fchdir(old)
        _libc.call("umount2", b".", mounts.MNT_DETACH)
        os.chdir("/")
        namespaces.unshare(namespaces.CLONE_NEWNS)
        return os.open("/", _FLAGS)


def _options(device: int) -> list[tuple[str, str | None]]:
    """Permissions are the kernel's to check, and it lets everybody in who is in our user namespace."""
    return [
        ("source", _WHAT),
        ("subtype", PROGRAM),
        ("fd", str(device)),
        ("rootmode", "40000"),
        ("user_id", str(os.geteuid())),
        ("group_id", str(os.getegid())),
        ("default_permissions", None),
        ("allow_other", None),
    ]


def _arguments(work: str) -> str:
    """A write fails when there is no room for it, and not after it: no writeback."""
    escaped = work.replace("\\", "\\\\").replace(",", "\\,")
    found = [
        f"lowerdir={_PLACE}/lower",
        f"upperdir={_PLACE}/upper",
        f"workdir={_PLACE}/layer/{escaped}",
        "writeback=0",
    ]
    for kind in ("uid", "gid"):
        # Of all ids the user namespace has one: what belongs to others would be nobody's, and then the
        # kernel lets nobody write to it, not even where everybody may.
        lines = _lines(f"/proc/self/{kind}_map")
        if len(lines) == 1 and lines[0][2] == 1:
            found.append(f"squash_to_{kind}={lines[0][0]}")
    return ",".join(found)


def _lines(path: str) -> list[list[int]]:
    with open(path, "rb") as file:
        return [[int(word) for word in line.split()] for line in file]


def clone(fd: int) -> int:
    """What an opened directory shows; with what is mounted below it where that may not be left out."""
    try:
        return mounts.clone_tree(fd, "", recursive=False)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        return mounts.clone_tree(fd, "", recursive=True)


def _mounted_below(top: str) -> Iterator[str]:
    """Where something is mounted below a directory, what is further up first (proc(5), mountinfo)."""
    with open("/proc/self/mountinfo", "rb") as lines:
        found = {os.fsdecode(_unescaped(line.split(b" ")[4])) for line in lines}
    yield from sorted(each for each in found if each.startswith(top))


def _unescaped(path: bytes) -> bytes:
    first, *rest = path.split(b"\\")
    return first + b"".join(bytes((int(each[:3], 8),)) + each[3:] for each in rest)


def _execute(
    path: str, arguments: list[str], device: int, says: int, lock: int, above: int
) -> NoReturn:
    try:
        process.fresh_signals()
        _csignal.signal(_csignal.SIGPIPE, _csignal.SIG_IGN)  # it may speak when nobody listens
        for number in (1, 2):
            os.dup2(says, number)
        kept = [device, *([lock] if lock >= 0 else [])]
        process.close_all_but(kept)
        for fd in kept:
            os.set_inheritable(fd, True)
        os.umask(0)
        _libc.die_with_parent(above)
        os.execve(path, arguments, {})
    except OSError as error:
        os.write(2, f"{os.strerror(error.errno or 0)}\n".encode())
    finally:
        os._exit(127)


def _words(said: int, status: int) -> str:
    """Why it ended: the last that it said of itself, else how."""
    try:
        lines = os.read(said, _OUTPUT).decode(errors="replace").splitlines()
    except OSError:
        lines = []
    spoken = [each.removeprefix(f"{PROGRAM}: ") for each in lines if "lazytime" not in each]
    if spoken:
        return spoken[-1].strip()[:_TOLD]
    code = os.waitstatus_to_exitcode(status)
    return f"ended with {code}" if code >= 0 else f"killed by signal {-code}"
