"""Fork into the namespaces of an init that runs already.

A process that joins has all privileges there and none of what confines the container until it is
put on again, so nobody inside may touch it: it can't be traced or looked into from before it joins
(CVE-2016-9962), holds no descriptor of ours, and has no way back out.
"""

from __future__ import annotations

import errno
import os

from asyncrt import _libc
from asyncrt.launch import cgroup, devices, inside, namespaces, privileges, process
from asyncrt.launch.failure import Failure, step

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from asyncrt.launch.plan import ProcessPlan

_WHAT = "namespaces of init"
_TOLD = b"t"  # that our parent knows of the process


def fork(
    plan: ProcessPlan, init: int, opened: Sequence[int], keep: Sequence[int]
) -> tuple[int, int, int | None]:
    """As os.fork, the child being in init's namespaces and with `keep` open.

    Joining a pid namespace moves children only (setns(2)), so the first child joins and its child
    is the one: ours, by CLONE_PARENT, so that its end is ours to hear. With 0 come a descriptor
    that polls readable once we are gone, which nobody inside could tell from a parent's pid, and
    what `process.become` takes for `proc`.

    In the parent it raises OSError; in the first child Failure, and its pid is then the one that
    is returned here.
    """
    parent = os.getpid()
    born, bearer = os.pipe()
    try:
        pid = os.fork()
    except OSError:
        os.close(born)
        os.close(bearer)
        raise
    if pid == 0:
        try:
            return _join(plan, parent, init, opened, (*keep, bearer), bearer)
        except OSError as error:
            raise Failure(_WHAT, "", error.errno or errno.EIO) from error
        except Exception as error:
            if isinstance(error, Failure):
                raise
            raise Failure(f"plan ({error!r})", "", errno.EINVAL) from error
    os.close(bearer)
    said = os.read(born, 16)  # it says nothing when it fails, and why is in its report
    os.close(born)
    return int(said or pid), -1, None


def _join(
    plan: ProcessPlan,
    parent: int,
    init: int,
    opened: Sequence[int],
    keep: Sequence[int],
    bearer: int,
) -> tuple[int, int, int | None]:
    process.close_all_but(keep)
    watch = os.pidfd_open(parent)
    if os.getppid() != parent:
        os._exit(127)
    process.prepare_outside(plan)
    devices.guard_null(keep)
    if "privileges" in plan:
        privileges.join_initial_cpus(plan["privileges"])
    _libc.set_undumpable()
    proc = inside.open_proc(plan)
    doors = cgroup.Doors(plan.get("cgroups") or ())
    inside.forbid_imports()
    kinds = plan["joins"]["kinds"]
    with step(_WHAT, str(init)):
        if opened:
            for fd in opened:
                kind = _libc.ioctl(fd, namespaces.NS_GET_NSTYPE)
                if kind & kinds:
                    namespaces.setns(fd, kind)
        else:
            pidfd = os.pidfd_open(init)
            namespaces.setns(pidfd, kinds)
            os.close(pidfd)
    told, teller = os.pipe()
    pid = doors.clone(namespaces.CLONE_PARENT)
    if pid:
        os.write(bearer, str(pid).encode())
        os.write(teller, _TOLD)
        os._exit(0)
    os.close(bearer)
    os.close(teller)
    if os.read(told, 1) != _TOLD:
        # Whoever bore it was killed before it said so: our parent would know of nobody to end.
        raise Failure(_WHAT, str(init), errno.ECHILD)
    os.close(told)
    owner = plan["joins"]["ids"]
    if owner is not None:
        namespaces.become_owner(*owner)
    return 0, watch, proc
