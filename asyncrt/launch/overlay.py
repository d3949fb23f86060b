"""An overlay over a container's root file system, made in a mount namespace of the gofer's own.

The overlay itself leaves it as a detached mount, for the container's init to attach. What the gofer
keeps is a look at the written layer: read-only, without devices, and nothing else is mounted where
it lives, not even the host's files.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat

from asyncrt import _libc, _procid
from asyncrt.launch import fuse, mounts, namespaces
from asyncrt.launch.failure import Failure, step

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from asyncrt.launch.plan import IdMaps, OverlayPlan

WHAT = "overlay"
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_OWN = _DIRECTORY | os.O_NOFOLLOW
_LOOK = (
    mounts.MOUNT_ATTR_RDONLY
    | mounts.MOUNT_ATTR_NOSUID
    | mounts.MOUNT_ATTR_NODEV
    | mounts.MOUNT_ATTR_NOEXEC
    | mounts.MOUNT_ATTR_NOSYMFOLLOW
)
# What is renamed or changed is wholly in the upper directory then, which is what is exported.
_WHOLE = [("redirect_dir", "nofollow"), ("metacopy", "off"), ("index", "off")]
# The kernel's answers that mean: not here, not ever, not for you.
_REFUSALS = {
    errno.EINVAL,
    errno.EPERM,
    errno.EACCES,
    errno.ENODEV,
    errno.EOPNOTSUPP,
    errno.ELOOP,
    errno.EROFS,
}
_BYTES_PER_FILE = 1024  # of kernel memory that one without content takes, about


class Layer:
    """The directories of a layer: opened by who may, filled by who owns the container."""

    def __init__(
        self, plan: OverlayPlan, lower: str, maps: IdMaps | None, *, watched: bool = False
    ) -> None:
        """Open what lies on the host, in a mount namespace that is our own from here on.

        `maps` are those of a user namespace that the container is in and we aren't. `watched`: its
        root has power over our children, and sees them. Raises Failure.
        """
        self._plan = plan
        self._maps = maps
        self._watched = watched
        self._has_own = False
        self.server: fuse.Server | None = None  # whoever serves it, where the kernel doesn't
        with step(WHAT, "/"):
            namespaces.unshare(namespaces.CLONE_NEWNS)
            self._old = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            mounts.change(self._old, propagation=mounts.MS_SLAVE, recursive=True)
        with step("root.path", lower):
            self._lower = os.open(lower, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        if plan["kind"] == "disk":
            with step(WHAT, plan["made"]):
                os.mkdir(plan["made"], 0o700)
                self._upper_in = self._work_in = os.open(plan["made"], _OWN)
            if plan["size"] is not None:
                from asyncrt.launch import image  # most have none

                self._own(image.mount(self._upper_in, plan["size"], plan["mkfs"]))
        elif plan["kind"] == "kept":
            self._open_kept(plan["upper"], plan["made"])

    def _own(self, tree: int) -> None:
        """Have a file system of the layer's own, here where the overlay finds what is in it."""
        with step(WHAT, "/"):
            mounts.attach(tree, self._old)
        self._upper_in = self._work_in = tree
        self._has_own = True

    def _open_kept(self, upper: str, work: str) -> None:
        with step(WHAT, upper):
            self._upper_in = self._work_in = os.open(os.path.dirname(work), _DIRECTORY)
        with step(WHAT, work), contextlib.suppress(FileExistsError):
            os.mkdir(work, 0o700)

    def mount(self) -> tuple[int, int]:
        """The overlay, detached, and the look at what is written to it. Raises Failure."""
        plan = self._plan
        if plan["kind"] == "memory":
            options: list[tuple[str, str | None]] = [("mode", "0700")]
            if plan["size"] is not None:
                options.append(("size", str(plan["size"])))
                options.append(("nr_inodes", str(max(64, plan["size"] // _BYTES_PER_FILE))))
            with step(WHAT, "tmpfs"):
                self._own(mounts.new("tmpfs", options))
        if plan["kind"] == "kept":
            upper, work = os.path.basename(plan["upper"]), os.path.basename(plan["made"])
        else:
            upper, work = "upper", "work"
            with step(WHAT, plan["made"]):
                os.mkdir(upper, 0o700, dir_fd=self._upper_in)
                os.mkdir(work, 0o700, dir_fd=self._work_in)
        with step(WHAT, plan["upper"] or "tmpfs"):
            written = os.open(upper, _OWN, dir_fd=self._upper_in)
            if plan["fresh"]:
                self._be_like_lower(written)
            look = mounts.clone_tree(written, "", recursive=False)
            return self._tree(written, upper, work), look

    def _tree(self, written: int, upper: str, work: str) -> int:
        """The kernel's overlay, or where it refuses, or did so once, the one of fuse-overlayfs."""
        if fuse.wrote(written):
            why, number = f"{fuse.PROGRAM} has written to it before", errno.EPERM
        else:
            try:
                _try_attribute(written, f"{attribute_prefix()}asyncrt")
                return self._overlay(upper, work)
            except OSError as error:
                if error.errno not in _REFUSALS:
                    raise
                why, number = _refused(error), error.errno
        if self._watched:
            # What it executes can be looked into by who has all capabilities over it (ptrace(2)).
            needs = "needs a pid namespace of the container's own"
            raise Failure(f"{WHAT} ({why}; {fuse.PROGRAM}, which could, {needs})", "", number)
        os.mkdir(f"{work}/{fuse.PROGRAM}", 0o700, dir_fd=self._work_in)
        server = fuse.Server()
        layer = fuse.clone(self._upper_in)
        self._let_go_of_own()  # or it would be in what is below
        places = self._lower, layer, upper, f"{work}/{fuse.PROGRAM}"
        tree = server.mount(why, *places, self._plan["locked"])
        fuse.note(written, trusted=attribute_prefix().startswith("trusted."))
        self.server = server
        return tree

    def _be_like_lower(self, written: int) -> None:
        """The upper directory is what the container sees for its root.

        An owner that the container has no id for is nobody there; then it is its own.
        """
        found = os.fstat(self._lower)
        with contextlib.suppress(OSError):  # an id that we have none for
            if self._maps is None:
                os.fchown(written, found.st_uid, found.st_gid)
            else:
                os.fchown(
                    written,
                    _known(found.st_uid, self._maps["uid"]),
                    _known(found.st_gid, self._maps["gid"]),
                )
        os.fchmod(written, stat.S_IMODE(found.st_mode))

    def _overlay(self, upper: str, work: str) -> int:
        plan = self._plan
        # Not by name: an option ends at 255 bytes, and a backslash means something there.
        written = os.open(upper, _OWN, dir_fd=self._upper_in)
        working = os.open(work, _OWN, dir_fd=self._work_in)
        data: list[tuple[str, str | None]] = [
            ("source", WHAT),
            ("lowerdir", f"/proc/self/fd/{self._lower}"),
            ("upperdir", f"/proc/self/fd/{written}"),
            ("workdir", f"/proc/self/fd/{working}"),
            *_WHOLE,
        ]
        if attribute_prefix().startswith("user."):
            data.append(("userxattr", None))
        if plan["kind"] != "kept":
            data.append(("volatile", None))  # a sync of what is thrown away is for nothing
        tree = mounts.new("overlay", data, mounts.restricted(self._lower))
        if os.fstatvfs(tree).f_flag & os.ST_RDONLY:  # it can't write there, and says so to the log
            os.close(tree)
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))
        return tree

    def _let_go_of_own(self) -> None:
        """It was there for the overlay to find its directories, and would cover the root."""
        if self._has_own:
            self._has_own = False
            os.fchdir(self._upper_in)
            _libc.call("umount2", b".", mounts.MNT_DETACH)

    def enter(self, look: int) -> None:
        """Have nothing but the look at the layer for our root. Raises Failure."""
        with step(WHAT, "/"):
            self._let_go_of_own()
            if self.server is not None:
                self._old = self.server.seclude()
            mounts.change(look, add=_LOOK)
            mounts.attach(look, self._old)
            os.fchdir(look)
            _libc.call("pivot_root", b".", b".")
            os.fchdir(self._old)
            _libc.call("umount2", b".", mounts.MNT_DETACH)
            os.chdir("/")


def attribute_prefix() -> str:
    """Of the overlay's own extended attributes: an ordinary user's can't be trusted ones."""
    return "trusted.overlay." if _procid.in_first_user_namespace() else "user.overlay."


def _try_attribute(fd: int, name: str) -> None:
    """Raise OSError if the file system can't hold an overlay's attributes.

    As a tmpfs can't an ordinary user's, before Linux 6.6. The kernel would mount the overlay all the
    same, and a directory that is made anew would then show what was in the one that was removed.
    """
    os.setxattr(fd, name, b"y")
    os.removexattr(fd, name)


def _refused(error: OSError) -> str:
    """What the kernel's refusal of an overlay means; it says no more itself."""
    if error.errno == errno.EOPNOTSUPP:
        return f"its file system has no {attribute_prefix().partition('.')[0]} attributes"
    if error.errno == errno.ENODEV:
        return "the kernel has none"
    if error.errno != errno.EINVAL:
        return f"the kernel's: {os.strerror(error.errno or 0)}"
    why = "one of its file systems can't be part of one"
    if not _procid.in_first_user_namespace():
        why = f"only root can have one over / or what else has mounts below it; or {why}"
    return why


def _known(id: int, lines: Sequence[Sequence[int]]) -> int:
    """The id if the container has it, else that of its root, or the first that it has."""
    if any(outside <= id < outside + size for _, outside, size in lines):
        return id
    return next((outside for inside, outside, _ in lines if inside == 0), lines[0][1])
