"""Fork a process that executes its program at once, beside an init that runs already."""

from __future__ import annotations

import errno
import os

from asyncrt import _cjson, _libc
from asyncrt.launch import cgroup, passing, process
from asyncrt.launch.failure import Failure

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import NoReturn

    from asyncrt.launch.plan import ProcessPlan


def spawn(
    plan: ProcessPlan,
    streams: Sequence[int],
    umask: int,
    init: int,
    namespaces: Sequence[int] = (),
) -> tuple[int, int]:
    """Fork it; returns its pid and a descriptor.

    The descriptor ends without a byte when the program runs, else it holds the failure as JSON. It
    dies with this process: nobody else would bound it in time, or find it to end it. `init` is whom
    a plan that joins namespaces joins; `namespaces`: these, where init may not be asked for them.
    Behind the `streams` come the descriptors that the plan passes down.
    Raises OSError, and Failure where its cgroups are gone.
    """
    parent = os.getpid()
    numbers = plan.get("passed", ())
    passed = streams[len(streams) - len(numbers) :]
    program = None
    if "joins" not in plan:  # else it is looked for in there
        try:
            program = process.program(plan)
        except Exception:  # noqa: BLE001 - no plan: the child says so
            program = None
    (report, theirs), watch, proc = os.pipe(), -1, None
    try:
        if "joins" in plan:
            from asyncrt.launch import joining  # most often nobody needs it

            keep = (theirs, *streams, *namespaces)
            pid, watch, proc = joining.fork(plan, init, namespaces, keep)
        elif plan.get("cgroups"):
            pid = cgroup.Doors(plan["cgroups"]).clone(0)
        else:
            pid = os.fork()
    except Exception as error:
        # A child on its way; in there it may have the very pid that its parent has out here.
        if isinstance(error, Failure) and ("joins" in plan or os.getpid() != parent):
            _give_up(theirs, error)
        os.close(report)
        os.close(theirs)
        raise
    if pid == 0:
        try:
            os.setsid()
            process.fresh_signals()
            _connect(plan, streams)
            process.close_all_but((theirs, watch, -1 if proc is None else proc, *passed))
            process.lower_files()
            if watch < 0:
                process.prepare_outside(plan)
            process.become(plan, umask, proc)
            # After the change of user, which would undo it.
            _libc.die_with_parent(parent, watch)
            if passed:
                (theirs,) = passing.moved((theirs,), numbers)
                passing.place(passed, numbers)
            process.execute(plan, program)
        except Failure as failure:
            _give_up(theirs, failure)
        except Exception as error:  # noqa: BLE001 - no plan: silence would mean that it runs
            _give_up(theirs, Failure(f"plan ({error!r})", "", errno.EINVAL))
        finally:
            os._exit(127)
    os.close(theirs)
    return pid, report


def _give_up(report: int, failure: Failure) -> NoReturn:
    try:
        os.write(report, _cjson.dumps(failure.report()).encode())
    finally:
        os._exit(127)


def _connect(plan: ProcessPlan, streams: Sequence[int]) -> None:
    size = plan.get("terminal")
    if size is None:
        process.take_streams(streams[:3])
        return
    from asyncrt.launch import terminal

    if "joins" in plan:
        root = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        master, slave = terminal.open_pair_inside(root, *size)
    else:
        master, slave = terminal.open_pair(*size)
    terminal.take(slave, plan["uid"])
    terminal.give(streams[3], master)
    process.take_streams((slave, slave, slave))
