"""What of a machine's the linux platform needs, for the calling user: what is there, what is missing.

Everything is tried, or read where the kernel says it; nothing is inferred from a version. A finding
that isn't well names the command that mends it.
"""

from __future__ import annotations

import errno
import os
import resource

from asyncrt import _fskind
from asyncrt._paths import default_root
from asyncrt.errors import RootUnusable
from asyncrt.oci import words
from asyncrt.platforms.linux import cgroups_here, doctor_namespaces, doctor_overlays, machine
from asyncrt.platforms.linux.finding import Finding
from asyncrt.platforms.linux.syscalls import machine_architectures
from asyncrt.state import open_root

_SYSTEMD = "/run/systemd/system"  # where sd_booted(3) looks


def examine(root: str | None = None) -> list[Finding]:
    """Everything, in the order in which it matters. Blocks for some tenths of a second."""
    if not os.path.exists("/proc/self/status"):
        found = "isn't mounted, and nothing else can be looked at without it"
        return [_kernel(), Finding("/proc", "missing", found, "mount -t proc proc /proc")]
    return [
        _kernel(),
        *doctor_namespaces.kinds(),
        *doctor_namespaces.new(),
        *doctor_namespaces.ids(),
        *_calls(),
        _exit_status(),
        *_seccomp(),
        *_labels(),
        *_cgroups(),
        *doctor_overlays.overlays(),
        _shared_memory(),
        _root(root),
        _open_files(),
    ]


def _kernel() -> Finding:
    name = os.uname()
    if not machine_architectures():
        mend = "use the host platform; x86_64, aarch64 and riscv64 are supported"
        return Finding("machine", "missing", f"Linux {name.release}, {name.machine}", mend)
    return Finding("machine", "ok", f"Linux {name.release}, {name.machine}", "")


# Name, number (the same on every architecture from 424 on), since when, and arguments that are wrong.
_NEEDED = (
    ("openat2", 437, "5.6", (-1, 0, 0, 0)),
    ("clone3", 435, "5.3", (0, 0)),
    ("pidfd_open", 434, "5.3", (-1, 0)),
    ("pidfd_send_signal", 424, "5.1", (-1, 0, 0, 0)),
    ("open_tree", 428, "5.2", (-1, b"", 0x1000)),
    ("move_mount", 429, "5.2", (-1, b"", -1, b"", 0x44)),
    ("fsopen", 430, "5.2", (b"", 0)),
    ("mount_setattr", 442, "5.12", (-1, b"", 0x1000, 0, 0)),
    ("close_range", 436, "5.9", (1, 0, 0)),
)


def _calls() -> list[Finding]:
    found = []
    well = []
    for name, number, since, arguments in _NEEDED:
        result = machine.try_call(number, *arguments)
        if result == errno.ENOSYS:
            mend = f"boot Linux {since} or newer"
            found.append(Finding(name, "missing", "this kernel has none", mend))
        elif result == errno.EPERM and name not in {"fsopen", "mount_setattr", "move_mount"}:
            mend = "in a container: start that one with --security-opt seccomp=unconfined"
            found.append(Finding(name, "missing", "a filter refuses it", mend))
        else:
            well.append(name)
    return [Finding("system calls", "ok", " ".join(well), ""), *found]


def _exit_status() -> Finding:
    name = "exit status by pidfd"
    if machine.tells_exit_status():
        return Finding(name, "ok", "PIDFD_INFO_EXIT", "")
    found = "not told; the status is lost if a supervisor is killed"
    return Finding(name, "limited", found, "boot Linux 6.15 or newer")


def _seccomp() -> list[Finding]:
    if not machine.has_seccomp():
        mend = "boot a kernel built with CONFIG_SECCOMP_FILTER"
        return [Finding("seccomp", "missing", "this kernel has no filters", mend)]
    flags = [
        name.removeprefix("SECCOMP_FILTER_FLAG_")
        for name, bit in words.SECCOMP_FLAGS.items()
        if machine.has_seccomp_flag(bit)
    ]
    return [Finding("seccomp", "ok", f"filters, flags {' '.join(flags)}", "")]


def _labels() -> list[Finding]:
    there = [
        name
        for name, has in (("AppArmor", machine.has_apparmor()), ("SELinux", machine.has_selinux()))
        if has
    ]
    found = " ".join(there) or "none; a spec that asks for a label is refused"
    return [Finding("security labels", "ok", found, "")]


def _cgroups() -> list[Finding]:
    """What limits, pauses and counts a container's processes."""
    here = cgroups_here.look()
    if here.version == "none":
        mend = "mount -t cgroup2 cgroup2 /sys/fs/cgroup"
        return [Finding("cgroups", "limited", "none is mounted", mend)]
    found = [Finding("cgroups", "ok", f"{here.version}, {here.where}", "")]
    if not here.writable:
        why = f"{here.where} isn't writable"
        found.append(Finding("cgroup delegation", "limited", why, _delegation(here)))
        return found
    missing = [each for each in ("memory", "pids", "cpu") if each not in here.controllers]
    if missing:
        if os.geteuid() == 0:
            mend = "boot with cgroup_no_v1=all, so that v2 has the controllers"
        else:
            mend = (
                "sudo mkdir -p /etc/systemd/system/user@.service.d && printf '[Service]\\nDelegate=cpu cpuset io memory pids\\n' | sudo tee "
                "/etc/systemd/system/user@.service.d/delegate.conf && sudo systemctl daemon-reload"
            )
        found.append(Finding("cgroup limits", "limited", f"no {' '.join(missing)}", mend))
    else:
        found.append(Finding("cgroup limits", "ok", " ".join(here.controllers), ""))
    return found


def _delegation(here: cgroups_here.Here) -> str:
    """How this user comes to cgroups of its own."""
    if here.read_only:
        return " && ".join(f"mount -o remount,bind,rw {each}" for each in here.read_only)
    if here.version != "v2":  # v1 can't be given away safely (systemd: CGROUP_DELEGATION)
        return (
            "add systemd.unified_cgroup_hierarchy=1 to the kernel's command line (GRUB_CMDLINE_LINUX in "
            "/etc/default/grub, then update-grub) and reboot"
        )
    if os.path.isdir(_SYSTEMD) and os.geteuid() != 0:
        return "systemd-run --user --scope -p Delegate=yes COMMAND"
    # cgroups(7), "Cgroups delegation"
    files = "cgroup.procs,cgroup.subtree_control,cgroup.threads"
    return f"outside of this container: chown {_uid_outside()} {here.where}/{{.,{files}}}"


def _uid_outside() -> int:
    with open("/proc/self/uid_map", encoding="ascii") as lines:
        for line in lines:
            inside, outside, count = map(int, line.split())
            if inside <= os.geteuid() < inside + count:
                return outside + os.geteuid() - inside
    return os.geteuid()


def _shared_memory() -> Finding:
    path = "/dev/shm"  # noqa: S108 - only looked at
    try:
        kind = _fskind.kind_of(path)
        writable = os.access(path, os.W_OK | os.X_OK)
    except OSError:
        mend = f"mkdir -p {path} && mount -t tmpfs -o mode=1777 shm {path}"
        return Finding(path, "limited", "is missing", mend)
    if kind != "memory":
        mend = f"mount -t tmpfs -o mode=1777 shm {path}"
        return Finding(path, "limited", f"is on a {kind}", mend)
    if not writable:
        return Finding(path, "limited", "isn't writable", f"chmod 1777 {path}")
    return Finding(path, "ok", "memory, writable", "")


def _root(given: str | None) -> Finding:
    """The directory of the records. Nothing is made."""
    name = "root directory"
    path = os.path.abspath(default_root() if given is None else given)
    mend = f"export ASYNCRT_ROOT=DIR, or asyncrt --root DIR, with a DIR of {machine.user_name()}'s"
    place = path
    while not os.path.lexists(place):
        place = os.path.dirname(place)
    try:
        if place == path:
            open_root(path)
        elif not os.access(place, os.W_OK | os.X_OK):
            return Finding(name, "missing", f"{path} can't be made in {place}", mend)
        kind = _fskind.kind_of(place)
    except RootUnusable as error:
        return Finding(name, "missing", f"{path}: {error.why}", mend)
    except OSError as error:
        return Finding(name, "missing", f"{path}: {error.strerror}", mend)
    if kind == "memory":
        return Finding(name, "ok", f"{path}, in memory", "")
    where = f"{path}, on a {kind}"
    if kind == "network":
        mend = "export ASYNCRT_ROOT=DIR, a directory of this machine's, best in memory (tmpfs)"
        return Finding(name, "limited", f"{where}, whose locks may not hold", mend)
    return Finding(name, "ok", f"{where}, synced at each change", "")


_FEW_FILES, _MANY_FILES = 4096, 65536


def _open_files() -> Finding:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if 0 <= soft < _FEW_FILES:
        found = f"{soft}: about as many containers can be waited on at once"
        if hard < 0 or hard >= _FEW_FILES:
            mend = f"ulimit -n {min(hard, _MANY_FILES) if hard > 0 else _MANY_FILES}"
        else:  # of whoever called this
            mend = f"prlimit --pid {os.getppid()} --nofile={_MANY_FILES}:{_MANY_FILES}"
        return Finding("open files", "limited", found, mend)
    return Finding("open files", "ok", "unlimited" if soft < 0 else str(soft), "")
