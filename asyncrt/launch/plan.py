"""What a platform decides on the engine's side and the launch code carries out. Pure data.

The shapes exist for the type checkers only: at run time a plan is the dict that json made.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NotRequired, TypedDict

    class CgroupPlace(TypedDict):
        """A cgroup in one hierarchy."""

        top: str  # of the hierarchy, as far as it is seen here
        path: str  # below it
        enable: dict[str, str]  # version 2: controllers to hand down, and the field that wants each
        cpuset: bool  # version 1: what is made gets its parent's processors and memory nodes

    class CgroupPlan(TypedDict):
        """A container's cgroups. The first place is where all of it is frozen and killed."""

        places: list[CgroupPlace]
        # JSON path of the field, and files with values of which the first that exists is written.
        writes: list[tuple[str, list[tuple[str, str]]]]
        # JSON path, cgroup of version 2, program in hexadecimal.
        devices: tuple[str, str, str] | None
        supervisor: NotRequired[list[str]]  # made as well, for the process above init

    class CgroupReport(TypedDict):
        """What the launch did: directories it made, and the places with their inodes."""

        made: list[str]
        places: list[tuple[str, int]]

    class ProcessPlan(TypedDict):
        """One process: init, or one exec'd."""

        args: list[str]
        env: list[str]  # "KEY=value", no key twice
        cwd: str
        uid: int | None  # None: as the launcher
        gid: int | None
        groups: list[int] | None
        umask: int | None
        rlimits: list[tuple[int, int, int]]  # number of the resource, soft, hard; -1 is unlimited
        no_new_privs: bool
        oom_score_adj: int | None
        terminal: NotRequired[
            list[int] | None
        ]  # rows and columns, 0 where unset; None: no terminal
        cgroup: NotRequired[CgroupPlan | None]  # of init: to be made and joined
        cgroups: NotRequired[list[str]]  # of an exec'd one: directories to join
        linux: NotRequired[LinuxPlan]  # an init in namespaces
        joins: NotRequired[JoinPlan]  # a process exec'd beside such an init
        privileges: NotRequired[PrivilegePlan]  # what it may do; missing: as the launcher
        passed: NotRequired[list[int]]  # numbers of the descriptors that come behind the streams
        look_up_home: NotRequired[bool]  # HOME is missing, and the users are the container's

    class IdMaps(TypedDict):
        """A new user namespace's maps: lines of id inside, id outside, size."""

        uid: list[list[int]]
        gid: list[list[int]]
        programs: list[str]  # newuidmap and newgidmap, "" where the maps are written directly
        deny_setgroups: bool

    class MountPlan(TypedDict):
        """One mount of a config, its options understood."""

        at: str  # its place in the config
        kind: str  # "bind", "new", "remount" or "cgroup"
        to: str  # normal absolute path inside
        source: str
        type: str
        recursive: bool  # of a bind
        set: int  # MOUNT_ATTR_*
        clear: int
        set_below: int  # the same for all mounts below it as well
        clear_below: int
        propagation: list[tuple[int, bool]]  # MS_*, and whether for all below it
        data: list[tuple[str, str | None]]  # fsconfig(2): key and value, None for a flag
        idmap: NotRequired[MountIdMap]  # of a bind
        copy_up: NotRequired[bool]  # of a tmpfs: what was there is in it
        versions: NotRequired[bool]  # of a file system: it counts changes
        label: NotRequired[str]  # of a file system that takes none as an option

    class MountIdMap(TypedDict):
        """How the owners of a bind's files show: lines as in IdMaps."""

        uid: list[list[int]]
        gid: list[list[int]]
        path: str  # of the user namespace that has the map instead; "" is none
        recursive: bool

    class DevicePlan(TypedDict):
        """One device node."""

        at: str
        path: str
        mode: int  # with the type
        number: list[int]  # major and minor
        uid: int
        gid: int

    class RootPlan(TypedDict):
        """A root file system."""

        path: str
        readonly: bool
        pivot: bool  # into it by pivot_root(2)
        propagation: tuple[int, bool] | None
        devices: list[DevicePlan]
        bind_devices: bool  # nodes can't be made in a user namespace: the host's are bound
        fill_dev: bool  # /dev isn't the host's
        mounts: list[MountPlan]
        cgroup_namespace: bool  # it has one of its own
        masked: list[str]
        read_only: list[str]
        label: NotRequired[str]  # SELinux's, of what is mounted new
        hidden: str  # a directory of the host's that isn't to be seen inside, "" for none

    class OverlayPlan(TypedDict):
        """A writable layer over a root file system."""

        kind: str  # "memory", "disk" or "kept"
        size: int | None  # bytes; None: as much as there is
        upper: str  # of a kept one, the directory
        made: str  # what is made for it on disk and goes with the container, "" for none
        fresh: bool  # nothing was written to it before
        mkfs: str  # mkfs.ext4, for one on disk with a size
        locked: int  # the upper directory's descriptor with its lock, for a kept one; init's, or -1

    class LinuxPlan(TypedDict):
        """The namespaces of an init, and what is in them."""

        new: int  # CLONE_NEW*
        # Place in the config, path, CLONE_NEW*; without a path it is the sandbox's.
        join: list[tuple[str, str, int]]
        maps: IdMaps | None
        ids: tuple[int, int] | None  # whom to be while setting up, in a user namespace
        time_offsets: str | None  # as timens_offsets takes them
        open_early: bool  # what is bound is opened with the launcher's privilege
        hostname: str | None
        domainname: str | None
        loopback: bool
        sysctl: list[tuple[str, str, str]]  # place in the config, path below /proc/sys, value
        root: RootPlan | None
        overlay: NotRequired[OverlayPlan]  # with a gofer that holds it
        keep_namespaces: bool  # open for the supervisor, who may not open an undumpable process's

    class JoinPlan(TypedDict):
        """What an exec'd process joins."""

        kinds: int  # CLONE_NEW*
        ids: tuple[int, int] | None  # as LinuxPlan.ids

    class PrivilegePlan(TypedDict):
        """What a process may do; None: as the launcher."""

        capabilities: list[int]  # bounding, effective, permitted, inheritable, ambient: bit masks
        seccomp: str | None  # the filter's program, in hexadecimal
        seccomp_flags: int
        keys_denied: bool  # the filter lets it at no keyring
        scheduler: list[int] | None  # policy, flags, nice, priority, runtime, deadline, period
        io_priority: int | None
        personality: int | None
        affinity: list[list[int]]  # CPUs before and after joining the cgroup; [] is any
        apparmor: str | None
        selinux: str | None

    class HookPlan(TypedDict):
        """One OCI hook (runtime-spec, config.md#posix-platform-hooks)."""

        path: str
        args: list[str]
        env: list[str]
        timeout: float | None  # seconds
