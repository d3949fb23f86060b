"""The doctor's look at namespaces and ids: which can be made by whom, and why not."""

from __future__ import annotations

import errno
import os
import shutil
import stat

from asyncrt import _durable
from asyncrt.oci import id_maps, words
from asyncrt.platforms.linux import machine
from asyncrt.platforms.linux.finding import Finding, State
from asyncrt.platforms.linux.namespaces import KINDS

# As the kernel's files have them; the order in which they are made.
_FILES = {
    "user": "user",
    "mount": "mnt",
    "pid": "pid",
    "network": "net",
    "ipc": "ipc",
    "uts": "uts",
    "cgroup": "cgroup",
    "time": "time",
}
_FLAGS = {_FILES[kind]: KINDS[kind] for kind in _FILES}

# What each sandbox of root's needs: namespaces and mounts; the bounding set; ids; the loopback.
_OF_ROOT = ("CAP_SYS_ADMIN", "CAP_SETPCAP", "CAP_SETUID", "CAP_SETGID", "CAP_NET_ADMIN")

_UNCONFINED = "in a container: start that one with --security-opt seccomp=unconfined"
_UNMASKED = (
    "in a container: start that one with --security-opt systempaths=unconfined (docker) or "
    "--security-opt unmask=ALL (podman)"
)


def kinds() -> list[Finding]:
    """Which kinds of namespaces the kernel has."""
    found = []
    missing = [each for each in _FLAGS if not os.path.exists(f"/proc/self/ns/{each}")]
    there = " ".join(each for each in _FLAGS if each not in missing)
    for each in missing:
        state: State = "limited" if each == "time" else "missing"
        config = f"CONFIG_{'NET' if each == 'net' else each.upper()}_NS"
        mend = f"boot a kernel built with {config}"
        found.append(Finding(f"{each} namespace", state, "this kernel has none", mend))
    return [Finding("namespaces", "ok", there, ""), *found]


def new() -> list[Finding]:
    """Whether this user can make a sandbox's, and have a procfs in them."""
    there = {each: flag for each, flag in _FLAGS.items() if _is_there(each)}
    if os.geteuid() != 0:
        return _with_user_namespace(machine.try_namespaces(there), "missing")
    found = _privileges()
    if not found:
        alone = {each: flag for each, flag in there.items() if each != "user"}
        found = _of_root(machine.try_namespaces(alone))
    told = {each.check for each in found}
    inside = _with_user_namespace(machine.try_namespaces(there), "limited")
    return [*found, *(each for each in inside if each.check not in told)]


def _is_there(kind: str) -> bool:
    return os.path.exists(f"/proc/self/ns/{kind}")


def _privileges() -> list[Finding]:
    """What root has to have; a container's root often hasn't."""
    status = _durable.read("/proc/self/status")
    effective = int(status.partition(b"CapEff:")[2].split(None, 1)[0], 16)
    missing = [each for each in _OF_ROOT if not effective >> words.CAPABILITIES[each] & 1]
    if not missing:
        return []
    added = " ".join(f"--cap-add {each.removeprefix('CAP_')}" for each in missing)
    mend = f"in a container: start that one with {added}"
    return [Finding("privileges of root", "missing", f"no {' '.join(missing)}", mend)]


def _of_root(tried: dict[str, int]) -> list[Finding]:
    return [_refused(kind, number, "missing") for kind, number in tried.items() if number] or [
        Finding("new namespaces", "ok", "can be made", "")
    ]


def _with_user_namespace(tried: dict[str, int], need: State) -> list[Finding]:
    """`need`: what it is to be without; sandboxes of root's need no user namespace."""
    name = "new user namespace"
    user = tried.pop("user", errno.ENOSYS)
    if user:
        return [_no_user_namespace(user, need)]
    others = [number for kind, number in tried.items() if kind != "proc"]
    if others and all(number == errno.EPERM for number in others):
        return [_no_privileges(need)]
    return [_refused(kind, number, need) for kind, number in tried.items() if number] or [
        Finding(name, "ok", "can be made", "")
    ]


def _refused(kind: str, number: int, need: State) -> Finding:
    name = f"new {kind} namespace"
    if kind == "proc":
        why = "parts of the one here are covered" if number == errno.EPERM else os.strerror(number)
        return Finding("new procfs", need, f"can't be mounted: {why}", _UNMASKED)
    if number == errno.ENOSPC:
        return Finding(name, need, *_limit(kind))
    return Finding(name, need, os.strerror(number), _UNCONFINED)


def _limit(kind: str) -> tuple[str, str]:
    """What a limit on namespaces is, and how it is raised (namespaces(7))."""
    parameter = f"user.max_{kind}_namespaces"
    limit = machine.parameter(f"user/max_{kind}_namespaces")
    mend = f"sysctl -w {parameter}=65536"
    if limit == "0":
        return f"{parameter} is 0", mend
    return f"as many as {parameter} ({limit}) lets be, here or outside", f"{mend}, and outside"


def _no_user_namespace(number: int, need: State) -> Finding:
    name = "new user namespace"
    if number == errno.ENOSPC or machine.parameter("user/max_user_namespaces") == "0":
        return Finding(name, need, *_limit("user"))
    if machine.parameter("kernel/unprivileged_userns_clone") == "0":
        mend = "sysctl -w kernel.unprivileged_userns_clone=1"
        return Finding(name, need, "kernel.unprivileged_userns_clone is 0", mend)
    return Finding(name, need, os.strerror(number), _UNCONFINED)


def _no_privileges(need: State) -> Finding:
    name = "new user namespace"
    if machine.parameter("kernel/apparmor_restrict_unprivileged_userns") == "1":
        mend = "sysctl -w kernel.apparmor_restrict_unprivileged_userns=0"
        return Finding(name, need, "AppArmor takes its privileges away", mend)
    mend = "let the security module in force allow capabilities in user namespaces"
    return Finding(name, need, "has no privileges inside", mend)


def ids() -> list[Finding]:
    """More ids than one's own: what packages and services in an image want."""
    if os.geteuid() == 0:
        return []
    found = _programs()
    name = machine.user_name()
    for path, option in (("/etc/subuid", "subuids"), ("/etc/subgid", "subgids")):
        total = sum(count for _, count in id_maps.given_ranges(path))
        if total:
            found.append(Finding(path, "ok", f"{total} ids for {name}", ""))
            continue
        first, last = id_maps.free_range(path)
        mend = f"usermod --add-{option} {first}-{last} {name}"
        if name.isdecimal():  # who has no name is none of usermod's
            mend = f"echo {name}:{first}:{last - first + 1} >> {path}"
        found.append(Finding(path, "limited", f"no ids for {name} but its own", mend))
    return found


def _programs() -> list[Finding]:
    name = "id map programs"
    paths = {each: shutil.which(each) for each in ("newuidmap", "newgidmap")}
    missing = [each for each, path in paths.items() if path is None]
    if missing:
        mend = "apt-get install uidmap (Debian, Ubuntu) or dnf install shadow-utils (Fedora)"
        return [Finding(name, "limited", f"no {' and '.join(missing)}", mend)]
    powerless = [path for path in paths.values() if path is not None and not _has_power(path)]
    if powerless:
        found = f"{' and '.join(powerless)} run without privilege"
        return [Finding(name, "limited", found, f"chmod u+s {' '.join(powerless)}")]
    if b"\nNoNewPrivs:\t1" in _durable.read("/proc/self/status"):
        found = "no_new_privs is set, so that they run without privilege"
        mend = (
            "in a container: start that one without --security-opt no-new-privileges; "
            "in a systemd unit: NoNewPrivileges=no"
        )
        return [Finding(name, "limited", found, mend)]
    return []


def _has_power(path: str) -> bool:
    """Whether a program gets privileges: by its owner, or by capabilities of the file."""
    try:
        found = os.stat(path)
        if found.st_uid == 0 and found.st_mode & stat.S_ISUID:
            return True
        return "security.capability" in os.listxattr(path)
    except OSError:
        return False
