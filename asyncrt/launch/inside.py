"""What an init of its own namespaces does in them before it stands at its gate.

Order matters. What needs the launcher's privilege comes before the namespaces; what needs the host's
files comes before the new root; and from the moment the ids are known nobody can look into this
process or trace it, as it is still the host's interpreter (CVE-2019-5736).
"""

from __future__ import annotations

import errno
import os
import struct
import sys

from asyncrt import _libc, _paths, _procid
from asyncrt.launch import (
    cgroup,
    devices,
    homes,
    idmaps,
    mounts,
    namespaces,
    privileges,
    process,
    terminal,
)
from asyncrt.launch.failure import Failure, step
from asyncrt.launch.rootfs import Root, Sources

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from asyncrt.launch.gofer import Gofer
    from asyncrt.launch.plan import LinuxPlan, ProcessPlan

_SIOCSIFFLAGS = 0x8914  # netdevice(7)
_IFF_UP = 0x1


class Inside:
    """An init in its namespaces: made by its constructor, which only the new process leaves."""

    __slots__ = ("_id_maps", "_plan", "gofer", "opened", "proc", "root", "waiting")

    def __init__(
        self, plan: ProcessPlan, streams: Sequence[int], shared: Sequence[int], null: int
    ) -> None:
        """Enter, and make everything there up to the root file system. Raises Failure.

        `streams` are to be the process's own, `shared` the namespaces of its sandbox. `null` as for
        devices.guard_null.
        """
        linux = plan["linux"]
        self._plan = linux
        self.proc = open_proc(plan)
        process.prepare_outside(plan)
        devices.guard_null(streams, null)
        wanted = plan.get("cgroup")
        self.gofer = self._gofer(() if wanted is None else wanted.get("supervisor") or ())
        # Before anything of ours changes: whom /proc shows, and what we may map.
        self._id_maps = {} if linux["root"] is None else idmaps.open_all(linux["root"]["mounts"])
        early = self._early_sources() if linux["open_early"] else None
        self.waiting = namespaces.enter(
            linux, _doors(plan).clone, shared, self.gofer if os.geteuid() else None
        )
        os.setsid()
        _libc.set_name(_paths.GATE_COMM)
        sources = early or self._sources()
        if sources is not None and self.gofer is not None:
            sources.root = self.gofer.tree()
        if linux["ids"] is not None:
            namespaces.become_owner(*linux["ids"])
        _libc.set_undumpable()
        if linux["new"] & namespaces.CLONE_NEWCGROUP:
            # Its root is the cgroups that we are in by now.
            with step("linux.namespaces", "cgroup"):
                namespaces.unshare(namespaces.CLONE_NEWCGROUP)
        _name(linux)
        self.opened: list[int] = []
        self.root: Root | None = None
        if linux["root"] is not None and sources is not None:
            self.root = Root(linux["root"], sources)
            self.root.build(plan["cwd"], layered=self.gofer is not None)
        if linux["keep_namespaces"]:
            with step("linux.namespaces", "/proc/self/ns"):
                self.opened = namespaces.open_all("self")

    def _gofer(self, cgroups: Sequence[str]) -> Gofer | None:
        """The gofer of a plan with an overlay: root's stays where it has the host's files.

        `cgroups` were made for the supervisor: who comes beside others is forked by that, and in them.
        """
        if "overlay" not in self._plan:
            return None
        from asyncrt.launch.gofer import Gofer  # most need none

        early = os.geteuid() == 0
        gofer = Gofer(self._plan, cgroups, outside=early)
        if early:
            gofer.fork()
        return gofer

    def _sources(self) -> Sources | None:
        if self._plan["root"] is None:
            return None
        return Sources(self._plan["root"], self._id_maps, with_root=self.gofer is None)

    def _early_sources(self) -> Sources | None:
        """With the launcher's privilege, where that is one over what is mounted here.

        Root of a user namespace in the mount namespace of another may clone nothing of it; whoever
        is in new ones may.
        """
        try:
            return self._sources()
        except Failure as failure:
            if failure.errno != errno.EPERM or _procid.in_first_user_namespace():
                raise
            return None

    def enter_root(self) -> None:
        """Leave the host's files behind. Raises Failure."""
        if self.root is not None:
            self.root.protect()
            forbid_imports()
            self.root.enter()


def open_proc(plan: ProcessPlan) -> int | None:
    """The host's procfs for who writes labels there; a container's /proc may be anything."""
    wanted = plan.get("privileges")
    if wanted is None or (wanted["apparmor"] is None and wanted["selinux"] is None):
        return None
    with step("process", "/proc"):
        fd = os.open("/proc", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        _refuse_other(fd)
        return fd


def _refuse_other(fd: int) -> None:
    if _libc.file_system(fd) != mounts.PROC:
        raise OSError(errno.ENODEV, os.strerror(errno.ENODEV))


def forbid_imports() -> None:
    """Import nothing from here on: what is found by name next may be the container's.

    What is needed inside has been imported by now, see _NEEDED.
    """
    sys.meta_path.clear()


# Used inside, but imported here, on the host, where its modules are.
_NEEDED = (devices, homes, mounts, privileges, process, terminal)


def _doors(plan: ProcessPlan) -> cgroup.Doors:
    """The way into the plan's cgroups. Raises Failure."""
    wanted = plan.get("cgroup")
    return cgroup.Doors(() if wanted is None else [each["path"] for each in wanted["places"]])


def _name(linux: LinuxPlan) -> None:
    """Names, network and kernel parameters of the new namespaces."""
    for what, value in (("hostname", linux["hostname"]), ("domainname", linux["domainname"])):
        if value is not None:
            with step(what, value):
                raw = os.fsencode(value)
                _libc.call(f"set{what}", raw, len(raw))
    if linux["loopback"]:
        with step("loopback", "lo"):
            bring_up(b"lo")
    if linux["sysctl"]:
        _set_parameters(linux["sysctl"])


def bring_up(interface: bytes) -> None:
    """Set a network interface up (netdevice(7))."""
    import _socket

    request = bytearray(struct.pack("16sh22x", interface, _IFF_UP))
    sock = _socket.socket(_socket.AF_INET, _socket.SOCK_DGRAM)
    try:
        _libc.ioctl(sock.fileno(), _SIOCSIFFLAGS, request)
    finally:
        sock.close()


def _set_parameters(sysctl: list[tuple[str, str, str]]) -> None:
    """Through the host's procfs, before any mount of the container's could stand in its place."""
    with step("linux.sysctl", "/proc/sys"):
        fd = os.open("/proc/sys", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        _refuse_other(fd)
    flags = mounts.RESOLVE_BENEATH | mounts.RESOLVE_NO_SYMLINKS
    for at, path, value in sysctl:
        with step(at, f"/proc/sys/{path}"):
            parameter = mounts.resolve(fd, path, os.O_WRONLY, flags)
            try:
                os.write(parameter, value.encode())
            finally:
                os.close(parameter)
    os.close(fd)
