"""Fork a process that executes its program at once, beside an init that runs already."""

from __future__ import annotations

import errno
import json
import os

from asyncrt import _libc
from asyncrt.launch import cgroup, process
from asyncrt.launch.failure import Failure

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from asyncrt.launch.plan import ProcessPlan


def spawn(plan: ProcessPlan, streams: Sequence[int], umask: int) -> tuple[int, int]:
    """Fork it; returns its pid and a descriptor.

    The descriptor ends without a byte when the program runs, else it holds the failure as JSON. It
    dies with this process: nobody else would bound it in time, or find it to end it.
    """
    parent = os.getpid()
    try:
        program = process.program(plan)
    except Exception:  # noqa: BLE001 - no plan: the child says so
        program = None
    report, theirs = os.pipe()
    try:
        pid = os.fork()
    except OSError:
        os.close(report)
        os.close(theirs)
        raise
    if pid == 0:
        try:
            try:
                os.setsid()
                process.fresh_signals()
                if plan.get("cgroups"):
                    cgroup.join(plan["cgroups"])
                _connect(plan, streams)
                os.closerange(3, theirs)
                os.closerange(theirs + 1, 1 << 30)
                process.prepare(plan, umask)
                _libc.die_with_parent(parent)  # after the change of user, which would undo it
                process.execute(plan, program)
            except Failure as failure:
                os.write(theirs, json.dumps(failure.report()).encode())
            except Exception as error:  # noqa: BLE001 - no plan: silence would mean that it runs
                unusable = Failure(f"plan ({error!r})", "", errno.EINVAL)
                os.write(theirs, json.dumps(unusable.report()).encode())
        finally:
            os._exit(127)
    os.close(theirs)
    return pid, report


def _connect(plan: ProcessPlan, streams: Sequence[int]) -> None:
    size = plan.get("terminal")
    if size is None:
        process.take_streams(streams[:3])
        return
    from asyncrt.launch import terminal

    master, slave = terminal.open_pair(*size)
    terminal.take(slave, plan["uid"])
    terminal.give(streams[3], master)
    process.take_streams((slave, slave, slave))
