"""Every name below a root directory, in one place. Standard library only.

A name made from an id is the id plus one suffix, so no two ids collide. "~" isn't in the id
alphabet, so temporary and root-wide names collide with none.
"""

from __future__ import annotations

import os

LOCK = ".lock"
QUEUE = ".queue"  # the lock's fairness gate
STATE = ".state"
DIRECTORY = ".d"
LAST_EXIT = ".exit"

# Of the whole root
EVENTS = "~events"
EVENTS_OLD = "~events.1"  # the generation before
EVENTS_LOCK = "~events.lock"

# Inside ID.d
CONFIG = "config.json"
EXIT = "exit.json"
EXIT_BEING_SAVED = ".exit.json~"
CONTROL = "control.sock"
GATE = "gate.sock"
CRASH = "supervisor.err"
MEMBERS = "members"
LOGS = "logs"  # a directory: what the workload wrote, and how that is kept
LOG_OPTIONS = "options.json"  # inside it

# What a process of ours waiting at its gate calls itself; an exec replaces the name (proc(5), comm).
GATE_COMM = "asyncrt:gate"
# What a gofer calls itself.
GOFER_COMM = "asyncrt:gofer"


def default_root() -> str:
    """The root directory when none is given; nothing is made or checked.

    $ASYNCRT_ROOT, else /run/asyncrt for uid 0, else $XDG_RUNTIME_DIR/asyncrt, else asyncrt-UID in
    the system's temporary directory.
    """
    given = os.environ.get("ASYNCRT_ROOT")
    if given:
        return os.path.abspath(given)
    uid = os.geteuid()
    if uid == 0:
        return "/run/asyncrt"
    runtime = os.environ.get("XDG_RUNTIME_DIR", "")
    if os.path.isabs(runtime):  # a relative one is invalid (XDG base directory specification)
        return os.path.join(runtime, "asyncrt")
    import tempfile  # not for the supervisors, who import this module and need no default

    return os.path.join(tempfile.gettempdir(), f"asyncrt-{uid}")


def fifo(stream: str) -> str:
    """Inside ID.d: what a workload's output goes through on its way to a log."""
    return f"{stream}.fifo"


def temporary(name: str) -> str:
    """A fresh name for a file that will be renamed to `name` in the same directory."""
    return f".{name}.{os.urandom(6).hex()}~"


def being_saved(container_id: str) -> str:
    """The file that the next record of a container is written to, by whoever holds its lock.

    One name, so that what a killed writer left is found: a listing for each removal of one in ten
    thousand containers would be dear.
    """
    return f".{container_id}{STATE}~"


def being_removed(container_id: str) -> str:
    """What a container's directory is called while whoever holds its lock removes it."""
    return f".{container_id}{DIRECTORY}~"


def last_exit(container_id: str) -> str:
    """Where the exit record of a container is kept while its directory is gone and its record isn't."""
    return f".{container_id}{LAST_EXIT}~"


def through(dir_fd: int, name: str) -> str:
    """A path of at most 108 bytes to `name` in an open directory, for sockets (unix(7))."""
    return f"/proc/self/fd/{dir_fd}/{name}"
