"""A soak as an ordinary user, started by root: with a part of the cgroup tree that is the user's.

It is one of version 2, as that is delegated, and one of version 1 for what can be limited there only;
the user's processes are in a cgroup below, beside which they make others.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
from typing import TYPE_CHECKING

from asyncrt.platforms.cgroups.machine import discover
from tests.helpers import capabilities
from tests.helpers.cgroups import delegated, unique
from tests.helpers.processes import REPOSITORY

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.helpers.capabilities import User

# It waits until it has been put there.
_SHELL = ["/bin/sh", "-c", 'read -r go && exec "$@"', "sh"]
_CONTROLLER = "pids"


def run_as(user: User, command: list[str]) -> int:
    """Run it there; its status, or 1 where it left a cgroup."""
    environment = {name: text for name, text in os.environ.items() if name != "XDG_RUNTIME_DIR"}
    with _sessions(user) as sessions:
        with subprocess.Popen(
            [*_SHELL, *command],
            stdin=subprocess.PIPE,
            env={**environment, "PYTHONPATH": REPOSITORY},
            user=user.uid,
            group=user.gid,
            extra_groups=[],
        ) as child:
            for each in sessions:
                with open(f"{each}/cgroup.procs", "w") as procs:
                    procs.write(str(child.pid))
            child.communicate(b"go\n")
        own = {path for each in sessions for path in (os.path.dirname(each), each)}
        left = {path for each in own for path, _, _ in os.walk(each)} - own
    if left:
        print(f"WRONG: cgroups left: {left}", flush=True)
    return child.returncode or int(bool(left))


@contextlib.contextmanager
def _sessions(user: User) -> Iterator[list[str]]:
    """A cgroup for the user's processes in each hierarchy that has a part of the user's."""
    machine = discover()
    tops = [each.top for each in (machine.v2, machine.v1.get(_CONTROLLER)) if each is not None]
    if not capabilities.has_cgroups():
        yield []
        return
    path = unique()
    with delegated(tops, path, user):
        sessions = [f"{top}{path}/session" for top in tops]
        for each in sessions:
            os.mkdir(each)
            for name in ("", "cgroup.procs"):
                os.chown(f"{each}/{name}", user.uid, user.gid)
        yield sessions
