"""UNIX sockets of the host's that a container over its files could connect to.

A read-only mount keeps nobody from connecting: who listens at /var/lib/SERVICE/socket would take the
container's root for the host's.
"""

from __future__ import annotations

import os
import stat

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection

_TABLE = "/proc/net/unix"  # proc_net_unix(5)
_PATH = 7


def host_sockets(covered: Collection[str]) -> list[str]:
    """What something is bound to now, and this user may connect to, but for what is below `covered`."""
    try:
        with open(_TABLE, "rb") as table:
            lines = table.read().splitlines()
    except OSError:
        return []
    fields = (line.split(None, _PATH) for line in lines)
    paths = {each[_PATH] for each in fields if len(each) > _PATH and each[_PATH].startswith(b"/")}
    found = []
    for raw in paths:
        try:
            path = raw.decode()
            real = os.path.realpath(path)
            is_one = stat.S_ISSOCK(os.stat(real).st_mode)
        except (OSError, ValueError):
            continue
        hidden = any(f"{real}/".startswith(f"{each}/") for each in covered)
        if is_one and not hidden and os.access(real, os.W_OK, effective_ids=True):
            found.append(real)
    return sorted(set(found))
