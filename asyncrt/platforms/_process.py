"""What of a process every platform plans alike."""

from __future__ import annotations

from asyncrt.oci.rlimits import RLIMITS, UNLIMITED

TYPE_CHECKING = False
if TYPE_CHECKING:
    from asyncrt.launch.plan import ProcessPlan
    from asyncrt.oci import Process

_LARGEST_LIMIT = 2**63 - 1
_LARGEST_WINDOW = 2**16 - 1  # struct winsize


def plan_process(
    process: Process,
    env: list[str],
    *,
    uid: int | None,
    gid: int | None,
    groups: list[int] | None,
) -> ProcessPlan:
    """The plan of a process that becomes these ids and has this environment."""
    return {
        "args": list(process.args or ()),
        "env": env,
        "cwd": process.cwd,
        "uid": uid,
        "gid": gid,
        "groups": groups,
        "umask": process.user.umask if process.user is not None else None,
        "rlimits": [
            (RLIMITS[each.type], _limit(each.soft), _limit(each.hard))
            for each in process.rlimits or ()
        ],
        "no_new_privs": bool(process.no_new_privileges),
        "oom_score_adj": process.oom_score_adj,
        "terminal": _terminal(process),
    }


def _terminal(process: Process) -> list[int] | None:
    if not process.terminal:
        return None
    size = process.console_size
    return [0, 0] if size is None else [size.height, size.width]


def _limit(value: int) -> int:
    return -1 if value == UNLIMITED else value


def refused_size(process: Process, json_path: str) -> list[str]:
    """The JSON path of a window that is larger than there are; without a terminal it is ignored."""
    size = process.console_size if process.terminal else None
    if size is not None and max(size.height, size.width) > _LARGEST_WINDOW:
        return [f"{json_path}.consoleSize"]
    return []


def refused_limits(process: Process, json_path: str) -> list[str]:
    """The JSON paths of limits that can't be set.

    setrlimit takes them through a signed number here; only "unlimited" is above that.
    """
    return [
        f"{json_path}.rlimits[{index}].{field}"
        for index, each in enumerate(process.rlimits or ())
        for field, value in (("soft", each.soft), ("hard", each.hard))
        if _LARGEST_LIMIT < value < UNLIMITED
    ]
