"""The configs of sandboxes: for Spec.sandbox from a few words, for `asyncrt spec` as a beginning.

What a config needs differs with who makes the container. An ordinary user has privileges in a user
namespace only, where it may map its own id, and those that an administrator gave it.
"""

from __future__ import annotations

import math
import os
import re

from asyncrt import _procid
from asyncrt.errors import SpecInvalid
from asyncrt.oci._encode import plain_text
from asyncrt.oci.default_seccomp import default_seccomp
from asyncrt.oci.defaults import (
    DEFAULT_CAPABILITIES,
    DEFAULT_PATH,
    MASKED_PATHS,
    READONLY_PATHS,
    TTY_GROUP,
    mount,
    system_mounts,
)
from asyncrt.oci.host_sockets import host_sockets
from asyncrt.oci.id_maps import has_gid, own_maps, single_map
from asyncrt.oci.users import own_user, resolve_user

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    Path = str | os.PathLike[str]
    Config = dict[str, object]

# Where the host keeps sockets and other people's files: a read-only mount keeps nobody from those.
_VOLATILE = ("/run", "/tmp", "/var/tmp")  # noqa: S108 - what is there is hidden
_RESOLVER = "/etc/resolv.conf"

_CPU_PERIOD_MICROSECONDS = 100_000
_LEAST_QUOTA_MICROSECONDS = 1000  # the kernel takes no less
_SIZE = re.compile(r"([0-9]{1,19})([kmgt]?)(?:i?b)?", re.IGNORECASE)
_LARGEST_SIZE = 2**63 - 1
_UNITS = {"": 0, "k": 10, "m": 20, "g": 30, "t": 40}


def sandbox_config(
    *,
    rootfs: Path | None,
    host_root_readonly: bool,
    writable: Iterable[Path],
    readable: Iterable[Path],
    network: bool,
    memory: int | str | None,
    pids: int | None,
    cpu: float | None,
    user: int | str | None,
    umask: int | None,
    hostname: str | None,
    capabilities: Iterable[str] | None,
) -> tuple[Config, Config]:
    """Of a sandbox's config: what of `process` it decides, and all other parts. May block.

    Raises SpecInvalid at the JSON path that an argument stands for.
    """
    if (rootfs is None) is not host_root_readonly:
        why = "give either rootfs= or host_root_readonly=True"
        raise SpecInvalid(json_path="root.path", why=why)
    root_path = "/" if rootfs is None else plain_text(rootfs, "root.path")
    if not root_path.startswith("/"):
        root_path = os.path.abspath(root_path)
    uid, gid, groups = _who(user, None if host_root_readonly else root_path)
    linux, tty_group = _namespaces(uid, gid, network=network, image=rootfs is not None)
    granted = DEFAULT_CAPABILITIES if capabilities is None else tuple(capabilities)
    sets = capability_sets(granted, ambient=uid != 0 and capabilities is not None)
    mounts = system_mounts(own_network=not network, tty_group=tty_group, cgroups=os.geteuid() == 0)
    given = [*_bind(readable, "rro"), *_bind(writable, "rw")]  # rro: all that is mounted below, too
    masked = list(MASKED_PATHS)
    if host_root_readonly:
        covered = covered_directories()
        mounts += _cover(covered, network=network)
        shown = [os.path.realpath(str(each["source"])) for each in given]
        masked += host_sockets([*covered, *shown, "/dev", "/proc"])
    mounts += given
    linux |= {
        "maskedPaths": masked,
        "readonlyPaths": list(READONLY_PATHS),
        "seccomp": default_seccomp(granted),
    }
    resources = resources_of(memory, pids, cpu)
    if resources:
        linux["resources"] = resources
    who: dict[str, object] = {"uid": uid, "gid": gid}
    if groups:
        who["additionalGids"] = groups
    if umask is not None:
        who["umask"] = umask
    process: Config = {"user": who, "capabilities": sets, "noNewPrivileges": True}
    config: Config = {
        "root": {"path": root_path, "readonly": host_root_readonly},
        "mounts": mounts,
        "linux": linux,
    }
    if hostname is not None:
        config["hostname"] = hostname
    return process, config


def default_config(*, rootless: bool) -> Config:
    """A config to begin with: a shell in the bundle's `rootfs`, as root inside, on a terminal.

    `rootless`: for the calling user, whatever its privileges.
    """
    namespaces = ["pid", "network", "ipc", "uts", "mount", "cgroup"]
    if rootless:
        namespaces.append("user")
        own: Config = {
            "uidMappings": single_map(0, os.geteuid()),
            "gidMappings": single_map(0, os.getegid()),
        }
    elif _procid.in_first_user_namespace():
        own = {"resources": {"devices": [{"allow": False, "access": "rwm"}]}}
    else:  # who may make no nodes there, and no rules either
        own = {}
    linux: Config = {
        "namespaces": [{"type": each} for each in namespaces],
        **own,
        "maskedPaths": list(MASKED_PATHS),
        "readonlyPaths": list(READONLY_PATHS),
        "seccomp": default_seccomp(DEFAULT_CAPABILITIES),
    }
    return {
        "ociVersion": "1.2.0",
        "process": {
            "terminal": True,
            "user": {"uid": 0, "gid": 0},
            "args": ["sh"],
            "env": [f"PATH={DEFAULT_PATH}", "TERM=xterm"],
            "cwd": "/",
            "capabilities": capability_sets(DEFAULT_CAPABILITIES, ambient=False),
            "rlimits": [{"type": "RLIMIT_NOFILE", "hard": 1024, "soft": 1024}],
            "noNewPrivileges": True,
        },
        "root": {"path": "rootfs", "readonly": True},
        "hostname": "asyncrt",
        "mounts": system_mounts(
            own_network=True, tty_group=not rootless and has_gid(TTY_GROUP), cgroups=not rootless
        ),
        "linux": linux,
    }


def capability_sets(granted: Sequence[str], *, ambient: bool) -> dict[str, list[str]]:
    """Capabilities for a process: inheritable ones only if they are to be ambient.

    Inheritable by default was CVE-2022-27650: each program with file capabilities gained them.
    """
    names = list(granted)
    found = {"bounding": names, "effective": names, "permitted": names}
    return found | {"inheritable": names, "ambient": names} if ambient else found


def _who(user: int | str | None, rootfs: str | None) -> tuple[int, int, list[int]]:
    """The ids inside; over the host's root those of the caller if nothing is said."""
    if user is not None:
        found = resolve_user(user, json_path="process.user", rootfs=rootfs)
        return found.uid, found.gid, list(found.additional_gids or ())
    if rootfs is None and os.geteuid() != 0:
        return own_user().uid, own_user().gid, []
    return 0, 0, []


def _namespaces(uid: int, gid: int, *, network: bool, image: bool) -> tuple[Config, bool]:
    """The namespaces, the maps if there are any, and whether the group of terminals is there."""
    names = ["pid", "ipc", "uts", "mount", "cgroup"]
    if not network:
        names.append("network")
    linux: Config = {}
    tty_group = has_gid(TTY_GROUP)
    if os.geteuid() != 0:
        names.append("user")
        maps = own_maps() if image else None
        tty_group = maps is not None
        uids, gids = maps or (single_map(uid, os.geteuid()), single_map(gid, os.getegid()))
        linux |= {"uidMappings": uids, "gidMappings": gids}
    return {"namespaces": [{"type": each} for each in names], **linux}, tty_group


def covered_directories() -> list[str]:
    """What of the host's root isn't seen in a sandbox over it: real paths, where they are here."""
    told = (os.environ.get("XDG_RUNTIME_DIR", ""), os.environ.get("TMPDIR", ""))
    found: list[str] = []
    for each in (*_VOLATILE, *told):
        path = os.path.realpath(each)
        known = any(f"{path}/".startswith(f"{other}/") for other in ("/dev", *found))
        if os.path.isabs(each) and path != "/" and os.path.isdir(path) and not known:
            found.append(path)
    return found


def _cover(paths: Sequence[str], *, network: bool) -> list[dict[str, object]]:
    found = [
        mount(each, "tmpfs", "tmpfs", "nosuid", "nodev", f"mode={755 if each == '/run' else 1777}")
        for each in paths
    ]
    if network:
        # Where names are resolved may be said by a file of a service's below /run.
        real = os.path.realpath(_RESOLVER)
        if any(real.startswith(f"{each}/") for each in paths) and os.path.isfile(real):
            found.append(mount(real, "bind", real, "bind", "ro", "nosuid", "nodev", "noexec"))
    return found


def _bind(paths: Iterable[Path], option: str) -> list[dict[str, object]]:
    found = []
    given: object = paths
    if isinstance(given, str | bytes | os.PathLike):
        raise SpecInvalid(json_path="mounts", why=f"expected a list of paths, found {given!r}")
    for path in paths:
        text = plain_text(path, "mounts")
        if not text.startswith("/"):
            raise SpecInvalid(json_path="mounts", why=f"{text!r} isn't an absolute path")
        found.append(mount(text, "bind", text, "rbind", option, "nosuid", "nodev"))
    return found


def resources_of(memory: int | str | None, pids: int | None, cpu: float | None) -> Config:
    """The resources that limits in a few words stand for. Raises SpecInvalid with the JSON path."""
    found: Config = {}
    if memory is not None:
        limit = parse_size(memory, "linux.resources.memory.limit")
        found["memory"] = {"limit": limit, "swap": limit}  # of both together: no swap
    if pids is not None:
        if not _is_whole(pids) or pids < 1:
            why = f"expected a number of at least 1, found {pids!r}"
            raise SpecInvalid(json_path="linux.resources.pids.limit", why=why)
        found["pids"] = {"limit": pids}
    if cpu is not None:
        if not _is_number(cpu) or not cpu > 0:
            why = f"expected a number of CPUs above 0, found {cpu!r}"
            raise SpecInvalid(json_path="linux.resources.cpu.quota", why=why)
        quota = max(_LEAST_QUOTA_MICROSECONDS, round(cpu * _CPU_PERIOD_MICROSECONDS))
        found["cpu"] = {"quota": quota, "period": _CPU_PERIOD_MICROSECONDS}
    return found


def parse_size(value: int | str, json_path: str) -> int:
    """Bytes of a number, or of a text like "256M" (units of 1024). Raises SpecInvalid."""
    size = 0
    if isinstance(value, str):
        match = _SIZE.fullmatch(value) if value.isascii() else None
        size = int(match[1]) << _UNITS[match[2].lower()] if match else 0
    elif _is_whole(value):
        size = value
    if not 0 < size <= _LARGEST_SIZE:
        why = f"expected bytes or a size like '256M', found {value!r}"
        raise SpecInvalid(json_path=json_path, why=why)
    return size


def _is_whole(value: object) -> bool:
    """Whether it is what its type says: people pass True, and what they read from a file."""
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)
