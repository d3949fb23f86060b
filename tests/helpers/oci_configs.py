"""A config.json that has every property of runtime-spec 1.2 that Linux knows."""

from __future__ import annotations

from typing import Any

FULL: dict[str, Any] = {
    "ociVersion": "1.2.0",
    "process": {
        "terminal": False,
        "consoleSize": {"height": 24, "width": 80},
        "user": {"uid": 1000, "gid": 1001, "umask": 18, "additionalGids": [5, 6]},
        "args": ["sh", "-c", "true"],
        "env": ["PATH=/bin", "EMPTY="],
        "cwd": "/",
        "capabilities": {"bounding": ["CAP_KILL"], "ambient": []},
        "rlimits": [{"type": "RLIMIT_NOFILE", "soft": 10, "hard": 18446744073709551615}],
        "apparmorProfile": "profile",
        "selinuxLabel": "label",
        "oomScoreAdj": -5,
        "noNewPrivileges": True,
        "scheduler": {"policy": "SCHED_BATCH"},
        "ioPriority": {"class": "IOPRIO_CLASS_IDLE"},
        "execCPUAffinity": {"initial": "0-1"},
    },
    "root": {"path": "rootfs", "readonly": True},
    "hostname": "host",
    "domainname": "domain",
    "mounts": [{"destination": "/proc", "type": "proc", "source": "proc", "options": ["ro"]}],
    "hooks": {
        "prestart": [{"path": "/bin/a", "args": ["a", "b"], "env": ["K=v"], "timeout": 3}],
        "createRuntime": [{"path": "/bin/b"}],
        "createContainer": [{"path": "/bin/c"}],
        "startContainer": [{"path": "/bin/d"}],
        "poststart": [{"path": "/bin/e"}],
        "poststop": [{"path": "/bin/f"}, {"path": "/bin/g"}],
    },
    "annotations": {"com.example.key": "value", "empty": ""},
    "linux": {
        "namespaces": [{"type": "pid"}, {"type": "network", "path": "/proc/1/ns/net"}],
        "uidMappings": [{"containerID": 0, "hostID": 1000, "size": 10}],
        "gidMappings": [{"containerID": 0, "hostID": 1000, "size": 10}],
        "timeOffsets": {"monotonic": {"secs": -3, "nanosecs": 4}, "boottime": {"secs": 1}},
        "devices": [{"path": "/dev/fuse", "type": "c", "major": 10, "minor": 229}],
        "cgroupsPath": "/a/b",
        "resources": {"memory": {"limit": 1000}},
        "rootfsPropagation": "slave",
        "seccomp": {"defaultAction": "SCMP_ACT_ALLOW"},
        "sysctl": {"net.ipv4.ip_forward": "1"},
        "maskedPaths": ["/proc/kcore"],
        "readonlyPaths": ["/proc/sys"],
        "mountLabel": "label",
        "intelRdt": {"closID": "guaranteed"},
        "personality": {"domain": "LINUX"},
    },
}
