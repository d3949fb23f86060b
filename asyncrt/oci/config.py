"""The types of an OCI config.json (runtime-spec 1.2, config.md and config-linux.md).

Field names are the JSON ones in snake case. `None` means absent or null, which OCI encoders write
for the same thing. Unknown properties are ignored, as the specification asks (extensibility). What
no platform reads yet stays undecoded behind its type: an object whose values are raw JSON.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated

import msgspec

# (uid_t)-1 means "leave as it is" to setresuid(2): whoever passed it on would keep running as root.
Id = Annotated[int, msgspec.Meta(ge=0, le=2**32 - 2)]
Uint32 = Annotated[int, msgspec.Meta(ge=0, le=2**32 - 1)]
Unsigned = Annotated[int, msgspec.Meta(ge=0)]  # check.py adds uint64's upper bound where it matters
Int64 = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
Limit = Annotated[int, msgspec.Meta(ge=-1, le=2**63 - 1)]  # -1 is none
Count = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
Weight = Annotated[int, msgspec.Meta(ge=0, le=1000)]  # 10 is the least, 0 is unset
RawObject = Mapping[str, msgspec.Raw]


class _Part(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """A frozen part of a config; its mappings are read-only as well."""

    def __post_init__(self) -> None:
        for name in self.__struct_fields__:
            value = getattr(self, name)
            if type(value) is dict:
                msgspec.structs.force_setattr(self, name, MappingProxyType(value))


class User(_Part, frozen=True):
    """Who a process runs as (config.md, POSIX-platform user)."""

    uid: Id
    gid: Id
    umask: Annotated[int, msgspec.Meta(ge=0, le=0o777)] | None = None
    additional_gids: tuple[Id, ...] | None = None


class Rlimit(_Part, frozen=True):
    """One resource limit; 2**64-1 is unlimited."""

    type: str
    soft: Unsigned
    hard: Unsigned


class ConsoleSize(_Part, frozen=True):
    """Rows and columns of a terminal."""

    height: Unsigned
    width: Unsigned


class Capabilities(_Part, frozen=True):
    """The five capability sets by name (capabilities(7))."""

    bounding: tuple[str, ...] | None = None
    effective: tuple[str, ...] | None = None
    inheritable: tuple[str, ...] | None = None
    permitted: tuple[str, ...] | None = None
    ambient: tuple[str, ...] | None = None


class Scheduler(_Part, frozen=True):
    """How the process is scheduled (config.md, scheduler; sched_setattr(2)). Times in nanoseconds."""

    policy: str
    nice: Annotated[int, msgspec.Meta(ge=-20, le=19)] | None = None
    priority: Annotated[int, msgspec.Meta(ge=0, le=99)] | None = None
    flags: tuple[str, ...] | None = None
    runtime: Unsigned | None = None
    deadline: Unsigned | None = None
    period: Unsigned | None = None


class IOPriority(_Part, frozen=True):
    """The priority of the process's input and output (ioprio_set(2))."""

    io_class: str = msgspec.field(name="class")
    priority: Annotated[int, msgspec.Meta(ge=0, le=7)] | None = None


class ExecCPUAffinity(_Part, frozen=True):
    """On which CPUs an exec'd process may run, as lists: before and after it joins the cgroup."""

    initial: str | None = None
    final: str | None = None


class Process(_Part, frozen=True):
    """A process: the container's own, or one that is exec'd."""

    cwd: str
    args: tuple[str, ...] | None = None
    env: tuple[str, ...] | None = None
    user: User | None = None
    terminal: bool | None = None
    console_size: ConsoleSize | None = None
    rlimits: tuple[Rlimit, ...] | None = None
    no_new_privileges: bool | None = None
    oom_score_adj: Annotated[int, msgspec.Meta(ge=-1000, le=1000)] | None = None
    capabilities: Capabilities | None = None
    apparmor_profile: str | None = None
    selinux_label: str | None = None
    scheduler: Scheduler | None = None
    io_priority: IOPriority | None = msgspec.field(default=None, name="ioPriority")
    exec_cpu_affinity: ExecCPUAffinity | None = msgspec.field(default=None, name="execCPUAffinity")


class Root(_Part, frozen=True):
    """The container's root file system; a relative path is below the bundle."""

    path: str
    readonly: bool | None = None


class IdMapping(_Part, frozen=True):
    """One range of a user namespace's id map."""

    container_id: Uint32 = msgspec.field(name="containerID")
    host_id: Uint32 = msgspec.field(name="hostID")
    size: Uint32


class Mount(_Part, frozen=True):
    """One mount below the root file system, in the order given."""

    destination: str
    type: str | None = None
    source: str | None = None
    options: tuple[str, ...] | None = None
    uid_mappings: tuple[IdMapping, ...] | None = None
    gid_mappings: tuple[IdMapping, ...] | None = None


class Hook(_Part, frozen=True):
    """A program run at a point of the container's life; `timeout` is in whole seconds.

    `args` are those of execv(3), the program's own name first; without them it is `path`. `env` is
    all of its environment: nothing is inherited.
    """

    path: str
    args: tuple[str, ...] | None = None
    env: tuple[str, ...] | None = None
    timeout: Annotated[int, msgspec.Meta(ge=1)] | None = None


class Hooks(_Part, frozen=True):
    """The six kinds of hooks, in the order of a container's life (config.md, POSIX hooks)."""

    prestart: tuple[Hook, ...] | None = None
    create_runtime: tuple[Hook, ...] | None = None
    create_container: tuple[Hook, ...] | None = None
    start_container: tuple[Hook, ...] | None = None
    poststart: tuple[Hook, ...] | None = None
    poststop: tuple[Hook, ...] | None = None


class Namespace(_Part, frozen=True):
    """A namespace to make, or to join by path."""

    type: str
    path: str | None = None


class Device(_Part, frozen=True):
    """A device node the container must have."""

    path: str
    type: str
    major: int | None = None
    minor: int | None = None
    file_mode: Uint32 | None = None
    uid: Id | None = None
    gid: Id | None = None


class TimeOffset(_Part, frozen=True):
    """What a clock of a time namespace is ahead by."""

    secs: int | None = None
    nanosecs: Uint32 | None = None


class TimeOffsets(_Part, frozen=True):
    """The two clocks a time namespace has (time_namespaces(7))."""

    monotonic: TimeOffset | None = None
    boottime: TimeOffset | None = None


class Personality(_Part, frozen=True):
    """An execution domain (personality(2))."""

    domain: str
    flags: tuple[str, ...] | None = None


class SeccompArg(_Part, frozen=True):
    """One condition on an argument of a system call; MASKED_EQ: `value` is the mask."""

    index: Annotated[int, msgspec.Meta(ge=0, le=5)]
    value: Unsigned
    op: str
    value_two: Unsigned | None = None


class SeccompSyscall(_Part, frozen=True):
    """What becomes of some system calls, if all conditions hold."""

    names: tuple[str, ...]
    action: str
    errno_ret: Uint32 | None = None
    args: tuple[SeccompArg, ...] | None = None


class Seccomp(_Part, frozen=True):
    """Which system calls the process may make (config-linux.md, seccomp)."""

    default_action: str
    default_errno_ret: Uint32 | None = None
    architectures: tuple[str, ...] | None = None
    flags: tuple[str, ...] | None = None
    listener_path: str | None = None
    listener_metadata: str | None = None
    syscalls: tuple[SeccompSyscall, ...] | None = None


class DeviceRule(_Part, frozen=True):
    """Whether devices may be used; None fits any. Rules count in order, the last that fits wins."""

    allow: bool
    type: str | None = None
    major: Int64 | None = None
    minor: Int64 | None = None
    access: str | None = None


class MemoryLimits(_Part, frozen=True):
    """Bytes; 0 is unset, -1 unlimited. `swap` is memory and swap together."""

    limit: Limit | None = None
    reservation: Limit | None = None
    swap: Limit | None = None
    kernel: Int64 | None = None
    kernel_tcp: Limit | None = msgspec.field(default=None, name="kernelTCP")
    swappiness: Annotated[int, msgspec.Meta(ge=0, le=100)] | None = None
    disable_oom_killer: bool | None = msgspec.field(default=None, name="disableOOMKiller")
    use_hierarchy: bool | None = None
    check_before_update: bool | None = None


class CpuLimits(_Part, frozen=True):
    """Microseconds, but for `shares`, a weight among siblings, and the lists `cpus` and `mems`."""

    shares: Count | None = None
    quota: Int64 | None = None
    burst: Count | None = None
    period: Count | None = None
    realtime_runtime: Int64 | None = None
    realtime_period: Count | None = None
    cpus: str | None = None
    mems: str | None = None
    idle: Annotated[int, msgspec.Meta(ge=0, le=1)] | None = None


class PidsLimit(_Part, frozen=True):
    """How many tasks there may be; 0 and -1 are unlimited."""

    limit: Limit | None = None


class WeightDevice(_Part, frozen=True):
    """A block device's share, of a cgroup with its children and of it without them."""

    major: Uint32
    minor: Uint32
    weight: Weight | None = None
    leaf_weight: Weight | None = None


class ThrottleDevice(_Part, frozen=True):
    """Bytes or operations a second of a block device; 0 is unlimited."""

    major: Uint32
    minor: Uint32
    rate: Count


class BlockIo(_Part, frozen=True):
    """Use of block devices."""

    weight: Weight | None = None
    leaf_weight: Weight | None = None
    weight_device: tuple[WeightDevice, ...] | None = None
    throttle_read_bps_device: tuple[ThrottleDevice, ...] | None = None
    throttle_write_bps_device: tuple[ThrottleDevice, ...] | None = None
    throttle_read_iops_device: tuple[ThrottleDevice, ...] | None = msgspec.field(
        default=None, name="throttleReadIOPSDevice"
    )
    throttle_write_iops_device: tuple[ThrottleDevice, ...] | None = msgspec.field(
        default=None, name="throttleWriteIOPSDevice"
    )


class HugepageLimit(_Part, frozen=True):
    """Bytes of huge pages of one size, named as in /sys/kernel/mm/hugepages: 2MB, 1GB, 64KB."""

    page_size: str
    limit: Annotated[int, msgspec.Meta(ge=0)]


class InterfacePriority(_Part, frozen=True):
    """The priority of what goes out over one network interface."""

    name: str
    priority: Uint32


class NetworkLimits(_Part, frozen=True):
    """Class and priority of network traffic."""

    class_id: Uint32 | None = msgspec.field(default=None, name="classID")
    priorities: tuple[InterfacePriority, ...] | None = None


class RdmaLimit(_Part, frozen=True):
    """What may be used of one RDMA device."""

    hca_handles: Uint32 | None = None
    hca_objects: Uint32 | None = None


class Resources(_Part, frozen=True):
    """What a container may use (config-linux.md, "Control groups")."""

    devices: tuple[DeviceRule, ...] | None = None
    memory: MemoryLimits | None = None
    cpu: CpuLimits | None = None
    pids: PidsLimit | None = None
    block_io: BlockIo | None = msgspec.field(default=None, name="blockIO")
    hugepage_limits: tuple[HugepageLimit, ...] | None = None
    network: NetworkLimits | None = None
    rdma: Mapping[str, RdmaLimit] | None = None
    unified: Mapping[str, str] | None = None


class Linux(_Part, frozen=True):
    """What only Linux has (config-linux.md)."""

    namespaces: tuple[Namespace, ...] | None = None
    uid_mappings: tuple[IdMapping, ...] | None = None
    gid_mappings: tuple[IdMapping, ...] | None = None
    time_offsets: TimeOffsets | None = None
    devices: tuple[Device, ...] | None = None
    net_devices: RawObject | None = None
    cgroups_path: str | None = None
    resources: Resources | None = None
    intel_rdt: RawObject | None = None
    memory_policy: RawObject | None = None
    sysctl: Mapping[str, str] | None = None
    seccomp: Seccomp | None = None
    rootfs_propagation: str | None = None
    masked_paths: tuple[str, ...] | None = None
    readonly_paths: tuple[str, ...] | None = None
    mount_label: str | None = None
    personality: Personality | None = None


class Config(_Part, frozen=True):
    """A whole config.json."""

    oci_version: str
    process: Process | None = None
    root: Root | None = None
    hostname: str | None = None
    domainname: str | None = None
    mounts: tuple[Mount, ...] | None = None
    hooks: Hooks | None = None
    annotations: Mapping[str, str] | None = None
    linux: Linux | None = None
    vm: RawObject | None = None
    windows: RawObject | None = None
    solaris: RawObject | None = None
    zos: RawObject | None = None
    freebsd: RawObject | None = None
