"""What a container gets that asks for nothing special: the lists that podman and runc users know."""

from __future__ import annotations

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

# Enough to install and run services as root inside, and nothing that reaches the machine (podman).
DEFAULT_CAPABILITIES = tuple(
    f"CAP_{name}"
    for name in (
        *("CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "NET_BIND_SERVICE"),
        *("SETFCAP", "SETGID", "SETPCAP", "SETUID", "SYS_CHROOT"),
    )
)

# What procfs and sysfs tell of the machine, or do to it (podman and containerd, together).
MASKED_PATHS = (
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/dev/block",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
    "/sys/fs/selinux",
)
READONLY_PATHS = (
    "/proc/bus",
    "/proc/fs",
    "/proc/irq",
    "/proc/sys",
    "/proc/sysrq-trigger",
)


TTY_GROUP = 5  # on every distribution


def mount(destination: str, type: str, source: str, *options: str) -> dict[str, object]:
    """A mount as a config writes it."""
    return {
        "destination": destination,
        "type": type,
        "source": source,
        "options": list(options),
    }


def system_mounts(*, own_network: bool, tty_group: bool, cgroups: bool) -> list[dict[str, object]]:
    """The file systems every container has.

    sysfs shows a network namespace, and only its owner may mount it: without one of its own a
    container gets the host's. `tty_group`: there is the group that owns terminals.
    """
    terminals = ["newinstance", "ptmxmode=0666", "mode=0620"]
    if tty_group:
        terminals.append(f"gid={TTY_GROUP}")
    quiet = ("nosuid", "noexec", "nodev")
    found = [
        mount("/proc", "proc", "proc", *quiet),
        mount("/dev", "tmpfs", "tmpfs", "nosuid", "strictatime", "mode=755", "size=65536k"),
        mount("/dev/pts", "devpts", "devpts", "nosuid", "noexec", *terminals),
        mount("/dev/shm", "tmpfs", "shm", *quiet, "mode=1777", "size=65536k"),  # noqa: S108 - inside
        mount("/dev/mqueue", "mqueue", "mqueue", *quiet),
    ]
    if own_network:
        found.append(mount("/sys", "sysfs", "sysfs", *quiet, "ro"))
    else:
        found.append(mount("/sys", "bind", "/sys", "rbind", *quiet, "rro"))
    if cgroups:
        found.append(mount("/sys/fs/cgroup", "cgroup", "cgroup", *quiet, "relatime", "ro"))
    return found
