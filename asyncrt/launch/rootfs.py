"""A root file system: made of detached mounts in a mount namespace of its own, then pivoted into.

All of it happens beside the old root, which only the last step takes away, and every place inside is
resolved below the new root's descriptor: neither a symlink in an image nor one planted meanwhile
leads out. The mounts live in the container's namespace, so a failure leaves none.
"""

from __future__ import annotations

import errno
import os

from asyncrt.launch import cgroup_mount, copy_up, devices, idmaps, mounts, old_root
from asyncrt.launch.failure import step

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from asyncrt.launch.plan import MountPlan, RootPlan

_TMPFS: list[tuple[str, str | None]] = [("mode", "0555")]  # what covers a masked directory: nothing
_DIRECTORY = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC
_CWD = "process.cwd"
_MAY_NOT_MAKE = {errno.EACCES, errno.EPERM, errno.EROFS}
_OF_THE_TOP = {"mode", "uid", "gid"}  # options of a tmpfs
_VIEWS = ("proc", "sysfs")


class Sources:
    """What of the host's is to be inside, as detached trees that nobody else can reach."""

    __slots__ = ("hidden", "root", "trees")

    def __init__(self, plan: RootPlan, id_maps: dict[str, int], *, with_root: bool) -> None:
        """Open all, but for a root that comes from somewhere else. Raises Failure.

        `id_maps` has the user namespaces that mounts take an id map of.

        Before the propagation of anything here is changed: what is to be shared stays a peer.
        """
        self.root = -1
        if with_root:
            with step("root.path", plan["path"]):
                self.root = mounts.clone_path(plan["path"], recursive=True)
        self.trees: dict[str, int] = {}
        for mount in plan["mounts"]:
            if mount["kind"] == "bind":
                with step(mount["at"], mount["source"]):
                    tree = mounts.clone_path(mount["source"], recursive=mount["recursive"])
                    self.trees[mount["at"]] = tree
                if mount["at"] in id_maps:
                    idmaps.apply(tree, mount, id_maps[mount["at"]])
        self.hidden = _Hidden(plan, layered=not with_root)


class _Hidden:
    """The engine's root, if it would be seen inside: who gets at its sockets gets at the host."""

    __slots__ = ("_layered", "identity", "places")

    def __init__(self, plan: RootPlan, *, layered: bool) -> None:
        """Find where. Raises Failure. What is bound of it, or is it, was asked for."""
        self._layered = layered
        self.places: list[str] = []
        self.identity = (0, 0)
        if not plan["hidden"]:
            return
        with step("the engine's root", plan["hidden"]):
            path = os.path.realpath(plan["hidden"])
            asked_for = []
            binds = [each for each in plan["mounts"] if each["kind"] == "bind"]
            for source, to in [
                (plan["path"], ""),
                *((each["source"], each["to"]) for each in binds),
            ]:
                top = os.path.realpath(source).rstrip("/") + "/"
                if path.startswith(top):
                    self.places.append(f"{to}/{path.removeprefix(top)}")
                elif f"{path}/" == top:
                    asked_for.append(to)
            self.places = [each for each in self.places if each not in asked_for]
            if self.places:
                found = os.stat(path)
                self.identity = (found.st_dev, found.st_ino)

    def is_at(self, place: int, root: int) -> bool:
        """Whether an opened place is it, and not what covers it; `root` is the container's.

        An overlay gives what is below it numbers of its own.
        """
        found = os.fstat(place)
        if self._layered and found.st_dev == os.fstat(root).st_dev:
            return True
        return (found.st_dev, found.st_ino) == self.identity


class Root:
    """A root file system on its way."""

    __slots__ = ("_empty", "_late", "_old", "_plan", "_sources", "_views", "root")

    def __init__(self, plan: RootPlan, sources: Sources) -> None:
        """Attach it where nothing propagates to the host. Raises Failure."""
        self._plan = plan
        self._sources = sources
        self._late: list[tuple[MountPlan, int]] = []  # to be read-only in the end
        self._views: dict[str, int] = {}  # what shows the kernel's own things, by where it is
        self._empty = -1
        self.root = sources.root
        os.umask(0)
        with step("root.path", "/"):
            self._old = os.open("/", _DIRECTORY)
            mounts.change(self._old, propagation=mounts.MS_SLAVE, recursive=True)
            mounts.change(self.root, propagation=mounts.MS_SLAVE, recursive=True)
            if not mounts.is_directory(self.root):
                raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
            mounts.attach(self.root, self._old)

    def build(self, cwd: str, *, layered: bool) -> None:
        """Everything that is to be inside, and a working directory. Raises Failure.

        None is made in the host's own root, unless that is `layered`: nobody asked to have it changed.
        """
        plan = self._plan
        mounted = _is_at_or_below(cwd, [each["to"] for each in plan["mounts"]])
        may_make = plan["path"] != "/" or layered
        self._make_places()
        if may_make and not mounted:
            self._make_cwd(cwd, make=True)
        has_dev = any(each["to"] == "/dev" for each in plan["mounts"])
        if plan["fill_dev"] and not has_dev:
            devices.fill(self.root, plan)
        if plan["readonly"]:
            with step("root.readonly", plan["path"]):
                mounts.change(self.root, add=mounts.MOUNT_ATTR_RDONLY, recursive=True)
        for mount in plan["mounts"]:
            with step(mount["at"], mount["to"]):
                self._mount(mount)
        self._make_cwd(cwd, make=may_make or mounted)
        if plan["fill_dev"] and has_dev:
            devices.fill(self.root, plan)

    def protect(self) -> None:
        """What is to be read-only or hidden, when nothing is to be made there any more."""
        for mount, tree in self._late:
            with step(mount["at"], mount["to"]):
                mounts.change(tree, add=mounts.MOUNT_ATTR_RDONLY)
        for index, path in enumerate(self._plan["read_only"]):
            with step(f"linux.readonlyPaths[{index}]", path):
                self._make_read_only(path)
        if self._plan["masked"]:
            self._mask(self._plan["masked"])
        for path in self._sources.hidden.places:
            with step("the engine's root", path):
                self._hide(path)

    def _make_places(self) -> None:
        """What is to be mounted on, while the root can be written to."""
        before: list[str] = []
        for mount in self._plan["mounts"]:
            if not _is_at_or_below(mount["to"], before):
                with step(mount["at"], mount["to"]):
                    directory = self._is_directory(mount)
                    os.close(mounts.ensure(self.root, mount["to"], directory=directory))
            before.append(mount["to"])

    def _make_cwd(self, cwd: str, *, make: bool) -> None:
        with step(_CWD, cwd):
            try:
                os.close(mounts.resolve(self.root, cwd))
            except FileNotFoundError:
                if not make:
                    raise
                try:
                    os.close(mounts.ensure(self.root, cwd, directory=True))
                except OSError as error:
                    if error.errno not in _MAY_NOT_MAKE:
                        raise
                    raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT)) from error

    def _is_directory(self, mount: MountPlan) -> bool:
        tree = self._sources.trees.get(mount["at"])
        return tree is None or mounts.is_directory(tree)

    def _mount(self, mount: MountPlan) -> None:
        flags = mounts.RESOLVE_IN_ROOT
        if mount["type"] in _VIEWS:
            # What masks them is found by name: a link would have it elsewhere.
            flags |= mounts.RESOLVE_NO_SYMLINKS
        place = mounts.ensure(
            self.root, mount["to"], directory=self._is_directory(mount), resolve_flags=flags
        )
        try:
            if mount["kind"] == "remount":
                mounts.change(place, add=mount["set"], clear=mount["clear"])
                if mount["data"]:
                    mounts.reconfigure(place, mount["data"])
                tree = place
            elif mount["kind"] == "bind":
                tree = self._sources.trees[mount["at"]]
                if not any(flag == mounts.MS_SHARED for flag, _ in mount["propagation"]):
                    mounts.change(tree, propagation=mounts.MS_SLAVE, recursive=True)
                mounts.change(tree, add=mount["set"], clear=mount["clear"])
                mounts.attach(tree, place)
            elif mount["kind"] == "cgroup":
                tree = cgroup_mount.attach(place, mount, namespaced=self._plan["cgroup_namespace"])
            else:
                tree = self._mount_new(mount, place)
            if mount["kind"] == "new" and mount["type"] in _VIEWS:
                self._views[mount["to"]] = tree
            elif mount["kind"] != "remount":
                self._views.pop(mount["to"], None)
            if mount["set_below"] or mount["clear_below"]:
                mounts.change(
                    tree, add=mount["set_below"], clear=mount["clear_below"], recursive=True
                )
            for flag, recursive in mount["propagation"]:
                mounts.change(tree, propagation=flag, recursive=recursive)
        finally:
            os.close(place)

    def _mount_new(self, mount: MountPlan, place: int) -> int:
        attributes = mount["set"]
        if mount["type"] == "tmpfs" and attributes & mounts.MOUNT_ATTR_RDONLY:
            attributes &= ~mounts.MOUNT_ATTR_RDONLY  # others may be mounted inside it
        tree = mounts.new(mount["type"], mount["data"], attributes)
        if "label" in mount:
            _label(tree, mount["label"])
        if mount.get("copy_up"):
            said = {key for key, _ in mount["data"]}
            keep_top = not said.isdisjoint(_OF_THE_TOP)
            copy_up.copy(place, tree, mount["at"], mount["to"], keep_top=keep_top)
        if attributes != mount["set"]:
            self._late.append((mount, tree))
        mounts.attach(tree, place)
        if mount.get("versions"):
            mounts.count_versions(tree, attributes, mount["data"])
        return tree

    def _resolve(self, path: str) -> int:
        """Open what is to be hidden or read-only.

        Below procfs and sysfs that is looked for from their own roots: who can write to the image may
        have renamed the directory that they are mounted on since (CVE-2021-30465).
        """
        above = [each["to"] for each in self._plan["mounts"] if path.startswith(f"{each['to']}/")]
        if above and above[-1] in self._views:
            return mounts.resolve(self._views[above[-1]], path.removeprefix(above[-1]))
        return mounts.resolve(self.root, path)

    def _make_read_only(self, path: str) -> None:
        try:
            place = self._resolve(path)
        except (FileNotFoundError, NotADirectoryError):
            return
        tree = mounts.clone_tree(place, "", recursive=True)
        mounts.change(tree, add=mounts.MOUNT_ATTR_RDONLY, recursive=True)
        mounts.attach(tree, place)
        os.close(tree)
        os.close(place)

    def _mask(self, paths: list[str]) -> None:
        null = devices.real_null()
        for index, path in enumerate(paths):
            with step(f"linux.maskedPaths[{index}]", path):
                try:
                    place = self._resolve(path)
                except (FileNotFoundError, NotADirectoryError):
                    continue
                if mounts.is_directory(place):
                    self._empty_out(place)
                else:
                    tree = devices.clone_node(null)
                    mounts.attach(tree, place)
                    os.close(tree)
                os.close(place)
        os.close(null)

    def _empty_out(self, place: int) -> None:
        if self._empty < 0:
            label = self._plan.get("label")
            options = _TMPFS if label is None else [*_TMPFS, ("context", label)]
            self._empty = tree = mounts.new("tmpfs", options, mounts.MOUNT_ATTR_RDONLY)
        else:
            tree = mounts.clone_tree(self._empty, "", recursive=False)
        mounts.attach(tree, place)
        if tree != self._empty:
            os.close(tree)

    def _hide(self, path: str) -> None:
        try:
            place = mounts.resolve(self.root, path)
        except (FileNotFoundError, NotADirectoryError, PermissionError):
            return  # covered; or below what nobody inside can enter
        if self._sources.hidden.is_at(place, self.root):
            self._empty_out(place)
        os.close(place)

    def enter(self) -> None:
        """Make it the root, and take the old one away. Raises Failure."""
        with step("root.path", self._plan["path"]):
            if self._plan["pivot"]:
                old_root.pivot(self.root, self._old)
            else:
                old_root.cover(self.root, self._old)
            propagation = self._plan["propagation"]
            if propagation is not None:
                flag, recursive = propagation
                mounts.change(self.root, propagation=flag, recursive=recursive)


def _is_at_or_below(path: str, others: Sequence[str]) -> bool:
    return any(path == each or path.startswith(f"{each.rstrip('/')}/") for each in others)


def _label(tree: int, label: str) -> None:
    """Give the top of a file system its label, which it doesn't take as an option."""
    top = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=tree)
    try:
        os.setxattr(top, "security.selinux", os.fsencode(label) + b"\0")
    finally:
        os.close(top)
