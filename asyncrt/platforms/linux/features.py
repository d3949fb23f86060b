"""The OCI features document of this platform on this machine (features.md, features-linux.md).

It says what is both done here and had by the kernel that it runs on: who plans with it is told the
truth about this machine, not about asyncrt in general.
"""

from __future__ import annotations

import os

from asyncrt.oci import HOOK_KINDS, words
from asyncrt.platforms.linux import doctor_overlays, machine, mounts
from asyncrt.platforms.linux.syscalls import machine_architectures

_OLDEST = "1.0.0"
_NEWEST = "1.2.0"
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


def features(version: str) -> dict[str, object]:
    """The document; `version` is asyncrt's. Asks the kernel. Blocks for some tens of milliseconds."""
    last = machine.last_capability()
    maps_mounts = mounts.why_unmapped() is None
    options = mounts.option_names() - (set() if maps_mounts else {"idmap", "ridmap"})
    return {
        "ociVersionMin": _OLDEST,
        "ociVersionMax": _NEWEST,
        "hooks": list(HOOK_KINDS),
        "mountOptions": sorted(options),
        "linux": {
            "namespaces": sorted(
                name for name, file in _FILES.items() if os.path.exists(f"/proc/self/ns/{file}")
            ),
            "capabilities": [name for name, number in words.CAPABILITIES.items() if number <= last],
            "seccomp": _seccomp(),
            "cgroup": {
                "v1": True,
                "v2": True,
                "systemd": False,
                "systemdUser": False,
                "rdma": True,
            },
            "apparmor": {"enabled": machine.has_apparmor()},
            "selinux": {"enabled": machine.has_selinux()},
            "intelRdt": {"enabled": False},
            "mountExtensions": {"idmap": {"enabled": maps_mounts}},
        },
        "annotations": {
            "org.asyncrt.version": version,
            "org.asyncrt.overlay": " ".join(doctor_overlays.kinds()),  # for `overlay=`, if any
        },
    }


def _seccomp() -> dict[str, object]:
    if not (machine.has_seccomp() and machine_architectures()):
        return {"enabled": False}
    return {
        "enabled": True,
        # Without listeners yet.
        "actions": [
            name
            for name, value in words.SECCOMP_ACTIONS.items()
            if name != "SCMP_ACT_NOTIFY" and machine.has_seccomp_action(value)
        ],
        "operators": sorted(words.SECCOMP_OPERATORS),
        "archs": list(machine_architectures()),
        "knownFlags": list(words.SECCOMP_FLAGS),
        "supportedFlags": [
            name for name, bit in words.SECCOMP_FLAGS.items() if machine.has_seccomp_flag(bit)
        ],
    }
