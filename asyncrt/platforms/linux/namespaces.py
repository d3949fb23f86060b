"""The namespaces of a config, and who is who in them (config-linux.md, "Namespaces" and on)."""

from __future__ import annotations

import functools
import operator
import os
import shutil
from typing import NamedTuple

from asyncrt import _procid
from asyncrt.errors import SpecInvalid
from asyncrt.launch import namespaces as made

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from asyncrt.launch.plan import IdMaps
    from asyncrt.oci.config import Config, IdMapping, Linux, TimeOffset, User
    from asyncrt.platforms.protocol import Beside

KINDS = {
    "user": made.CLONE_NEWUSER,
    "mount": made.CLONE_NEWNS,
    "pid": made.CLONE_NEWPID,
    "network": made.CLONE_NEWNET,
    "ipc": made.CLONE_NEWIPC,
    "uts": made.CLONE_NEWUTS,
    "cgroup": made.CLONE_NEWCGROUP,
    "time": made.CLONE_NEWTIME,
}
# Kernel parameters that a namespace has of its own, by the kind of it (sysctl(5) of each).
_OF_IPC = frozenset(
    f"kernel/{name}"
    for name in (
        "msgmax",
        "msgmnb",
        "msgmni",
        "sem",
        "shmall",
        "shmmax",
        "shmmni",
        "shm_rmid_forced",
    )
)


class Namespaces(NamedTuple):
    """Those of a container: made new, joined by path, and all of them together.

    Those it shares with its sandbox are among the joined, without a path.
    """

    new: int
    join: list[tuple[str, str, int]]
    all: int
    shared: int = 0

    def has(self, kind: str) -> bool:
        """Whether the container has one of its own or joins one."""
        return bool(self.all & KINDS[kind])

    def is_new(self, kind: str) -> bool:
        """Whether one is made for it."""
        return bool(self.new & KINDS[kind])

    def shares(self, kind: str) -> bool:
        """Whether it is the sandbox's."""
        return bool(self.shared & KINDS[kind])

    @property
    def maps_ids(self) -> bool:
        """Whether the config's id maps hold."""
        return self.is_new("user") or self.shares("user")


class Who(NamedTuple):
    """The ids of a process as its container has them; None: can't be set there."""

    uid: int
    gid: int
    groups: list[int] | None
    refused: list[str]


def namespaces_of(config: Config, beside: Beside | None = None) -> Namespaces:
    """The namespaces that a config asks for; beside others some of theirs, unless by a path."""
    shareable = 0 if beside is None else _shareable(beside)
    new, together, shared = 0, 0, 0
    join = []
    wanted = config.linux.namespaces if config.linux is not None else None
    for index, each in enumerate(wanted or ()):
        kind = KINDS[each.type]
        together |= kind
        if each.path or kind & shareable:
            join.append((f"linux.namespaces[{index}]", each.path or "", kind))
            shared |= 0 if each.path else kind
        else:
            new |= kind
    return Namespaces(new, join, together, shared)


def _shareable(beside: Beside) -> int:
    """Kinds of which a container beside others has the sandbox's, if it is to have any."""
    kinds = ["network", "ipc", "uts"]
    if beside.share_pid:
        kinds.append("pid")
    if namespaces_of(beside.config).has("user"):
        kinds.append("user")  # the others are owned by it
    return functools.reduce(operator.or_, map(KINDS.__getitem__, kinds))


_SHARED = "all of a sandbox share its root container's, which is another"


def refused_sharing(config: Config, found: Namespaces, beside: Beside | None) -> dict[str, str]:
    """What the sandbox hasn't got to share, or has otherwise than the config says."""
    if beside is None:
        return {}
    there, refused = namespaces_of(beside.config), {}
    for at, path, kind in found.join:
        if not path and not there.all & kind:
            refused[at] = "its sandbox has none of its own to share; leave it out, or give a path"
    if found.shares("uts"):
        for name in ("hostname", "domainname"):
            wanted = getattr(config, name)
            if wanted and wanted != getattr(beside.config, name):
                refused[name] = _SHARED
    if found.shares("user") and config.linux is not None and beside.config.linux is not None:
        for at, name in (
            ("linux.uidMappings", "uid_mappings"),
            ("linux.gidMappings", "gid_mappings"),
        ):
            if getattr(config.linux, name) != getattr(beside.config.linux, name):
                refused[at] = "differs from its sandbox's, whose user namespace it shares"
    return refused


def refused_ids(linux: Linux, found: Namespaces) -> list[str]:
    """The JSON paths of id maps that this process can't have written."""
    if found.shares("user"):
        return []  # they are written
    given = [
        path
        for path, value in (
            ("linux.uidMappings", linux.uid_mappings),
            ("linux.gidMappings", linux.gid_mappings),
        )
        if value
    ]
    if not found.is_new("user"):
        return given
    return [
        path
        for path, program in zip(given, _programs(linux), strict=False)
        if program is not None and not program
    ]


def _programs(linux: Linux) -> tuple[str | None, str | None]:
    """The paths of newuidmap and newgidmap, "" where missing, None where not needed."""
    if os.geteuid() == 0:
        return None, None
    one = _is_single(linux.uid_mappings, os.geteuid())
    own = _is_single(linux.gid_mappings, os.getegid())
    return (
        None if one else shutil.which("newuidmap") or "",
        None if own else shutil.which("newgidmap") or "",
    )


def _is_single(mappings: Sequence[IdMapping] | None, id: int) -> bool:
    return bool(mappings) and [(each.host_id, each.size) for each in mappings or ()] == [(id, 1)]


def id_maps(linux: Linux, found: Namespaces, path: str | None) -> IdMaps | None:
    """The maps of a new user namespace. Raises SpecInvalid if they are missing."""
    if not found.is_new("user"):
        return None
    for at, mappings in (
        ("linux.uidMappings", linux.uid_mappings),
        ("linux.gidMappings", linux.gid_mappings),
    ):
        if not mappings:
            why = "is required with a new user namespace"
            raise SpecInvalid(json_path=at, why=why, path=path)
    programs = _programs(linux)
    return {
        "uid": id_lines(linux.uid_mappings or ()),
        "gid": id_lines(linux.gid_mappings or ()),
        "programs": [each or "" for each in programs],
        "deny_setgroups": _denies_setgroups(linux, found) and os.geteuid() != 0,
    }


def _denies_setgroups(linux: Linux | None, found: Namespaces) -> bool:
    """An ordinary user who maps a single gid must give up setgroups(2) (user_namespaces(7)).

    Whoever is in a user namespace of such a user's can't have it back.
    """
    if not _procid.in_first_user_namespace() and _is_denied_here():
        return True
    if linux is None or not found.maps_ids or os.geteuid() == 0:
        return False
    return _is_single(linux.gid_mappings, os.getegid())


def _is_denied_here() -> bool:
    try:
        with open("/proc/self/setgroups", "rb") as file:
            return file.read().strip() == b"deny"
    except OSError:
        return False


def id_lines(mappings: Iterable[IdMapping]) -> list[list[int]]:
    """Mappings as the kernel's files have them: id inside, id outside, size."""
    return [[each.container_id, each.host_id, each.size] for each in mappings]


def owner(linux: Linux | None, found: Namespaces) -> tuple[int, int] | None:
    """Whom a process is in the container's user namespace while it sets things up there."""
    if not found.has("user"):
        return None
    uids = linux.uid_mappings if linux is not None else None
    gids = linux.gid_mappings if linux is not None else None
    return _first(uids), _first(gids)


def _first(mappings: Sequence[IdMapping] | None) -> int:
    """0 if it is there, else the first that is."""
    if not mappings or _is_mapped(0, mappings):
        return 0
    return mappings[0].container_id


def _is_mapped(id: int, mappings: Sequence[IdMapping]) -> bool:
    return any(each.container_id <= id < each.container_id + each.size for each in mappings)


def who(user: User | None, linux: Linux | None, found: Namespaces, json_path: str) -> Who:
    """The ids that a process gets, and the JSON paths of those that its namespace hasn't."""
    uid, gid = (0, 0) if user is None else (user.uid, user.gid)
    extra = sorted(set((user.additional_gids if user is not None else None) or ()))
    refused = []
    at = f"{json_path}.user"
    if found.maps_ids and linux is not None:
        uids, gids = linux.uid_mappings or (), linux.gid_mappings or ()
        if uids and not _is_mapped(uid, uids):
            refused.append(f"{at}.uid" if user is not None else at)
        if gids and not _is_mapped(gid, gids):
            refused.append(f"{at}.gid" if user is not None else at)
        refused += [
            f"{at}.additionalGids[{index}]"
            for index, each in enumerate((user.additional_gids if user is not None else None) or ())
            if gids and not _is_mapped(each, gids)
        ]
    if _denies_setgroups(linux, found):
        if extra:
            refused = [*(each for each in refused if "Gids" not in each), f"{at}.additionalGids"]
        return Who(uid, gid, None, refused)
    if not extra and found.has("user") and not found.is_new("user"):
        # Of one that is joined nobody knows here whether it has setgroups(2); who can have no groups
        # there has none since it became the owner (see launch.namespaces).
        return Who(uid, gid, None, refused)
    return Who(uid, gid, extra, refused)


def time_offsets(linux: Linux) -> str | None:
    """The clocks' offsets as the kernel takes them (time_namespaces(7))."""
    offsets = linux.time_offsets
    if offsets is None:
        return None
    clocks = (("monotonic", offsets.monotonic), ("boottime", offsets.boottime))
    return "".join(_offset(clock, each) for clock, each in clocks if each is not None)


def _offset(clock: str, offset: TimeOffset) -> str:
    return f"{clock} {offset.secs or 0} {offset.nanosecs or 0}\n"


def parameter_path(key: str) -> str:
    """A kernel parameter's file below /proc/sys; the first separator decides (sysctl(8))."""
    dot, slash = key.find("."), key.find("/")
    if slash == -1 or -1 < dot < slash:
        return key.translate(str.maketrans("./", "/."))
    return key


def owner_of_parameter(path: str) -> str | None:
    """The kind of namespace that a kernel parameter belongs to; None: it is the whole machine's."""
    if any(part in {"", ".", ".."} for part in path.split("/")):
        return None
    if path.startswith("net/"):
        return "network"
    if path in _OF_IPC or path.startswith("fs/mqueue/"):
        return "ipc"
    if path in {"kernel/hostname", "kernel/domainname"}:
        return "uts"
    return None
