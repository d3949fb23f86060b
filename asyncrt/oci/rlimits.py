"""Resource limits: the names OCI has for them (config.md, rlimits) and their kernel numbers."""

from __future__ import annotations

import resource

UNLIMITED = 2**64 - 1  # RLIM_INFINITY as config.json writes it

# The numbers differ between architectures, so they come from the platform's own headers.
RLIMITS: dict[str, int] = {
    name: getattr(resource, name)
    for name in (
        "RLIMIT_AS",
        "RLIMIT_CORE",
        "RLIMIT_CPU",
        "RLIMIT_DATA",
        "RLIMIT_FSIZE",
        "RLIMIT_MEMLOCK",
        "RLIMIT_MSGQUEUE",
        "RLIMIT_NICE",
        "RLIMIT_NOFILE",
        "RLIMIT_NPROC",
        "RLIMIT_RSS",
        "RLIMIT_RTPRIO",
        "RLIMIT_RTTIME",
        "RLIMIT_SIGPENDING",
        "RLIMIT_STACK",
    )
}
RLIMITS["RLIMIT_LOCKS"] = 10  # missing in Python's module; the same on every architecture
