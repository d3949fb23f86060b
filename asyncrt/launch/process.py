"""The last steps inside a new process: become what the plan says, then execute its program.

Runs in a child between fork and exec. Every step that can fail raises Failure with its name, so
that the caller hears which field of the spec it was.
"""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import stat

from asyncrt import _csignal, _libc
from asyncrt.launch.failure import Failure, step

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    Program = tuple[list[str], dict[str, str]]

    from asyncrt.launch.plan import ProcessPlan

_files: tuple[int, int] | None = None  # the limit before it was raised

_DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def close_all_but(keep: Sequence[int]) -> None:
    """Close every descriptor from 3 on that isn't in `keep` (close_range(2) under the hood)."""
    low = 3
    for fd in sorted({fd for fd in keep if fd >= 3}):
        os.closerange(low, fd)
        low = fd + 1
    os.closerange(low, 1 << 30)


def raise_files() -> None:
    """Have as many open files as we may: a sandbox of many containers needs more than one program does.

    What is forked after that is to `lower_files`.
    """
    global _files  # noqa: PLW0603 - of this process and its children
    if _files is None:
        _files = soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        if soft != hard:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def lower_files() -> None:
    """Have as many as a program expects, as before `raise_files`."""
    if _files is not None:
        resource.setrlimit(resource.RLIMIT_NOFILE, _files)


def fresh_signals() -> None:
    """Undo what Python and the supervisor changed: dispositions that an exec would hand down.

    By the C half of the signal module: the enumerations of the other half cost a fresh child a
    hundred pages.
    """
    _csignal.set_wakeup_fd(-1)
    # Python ignores the first two and the fork server the last two, and an ignored signal stays
    # ignored across an exec (execve(2)).
    for number in (
        _csignal.SIGPIPE,
        _csignal.SIGXFSZ,
        _csignal.SIGCHLD,
        _csignal.SIGINT,
        _csignal.SIGHUP,
    ):
        _csignal.signal(number, _csignal.SIG_DFL)
    _csignal.pthread_sigmask(_csignal.SIG_SETMASK, ())


def take_streams(streams: Sequence[int]) -> None:
    """Make the three given descriptors standard input, output and error."""
    for number, fd in enumerate(streams):
        os.dup2(fd, number, inheritable=True)


def prepare(plan: ProcessPlan, umask: int, proc: int | None = None) -> None:
    """Become the process of the plan, all but its program. `umask` holds where the plan has none.

    `proc` is an open procfs, if /proc may be something else.

    The order matters: what needs privilege (scores, raised limits, groups) comes before the user is
    changed, no_new_privs after it, limits last of all, by `execute`.
    """
    prepare_outside(plan)
    become(plan, umask, proc)


def prepare_outside(plan: ProcessPlan) -> None:
    """What needs the launcher's own privilege, and so is done before it enters other namespaces."""
    score = plan["oom_score_adj"]
    if score is not None:
        with step("process.oomScoreAdj", str(score)):
            fd = os.open("/proc/self/oom_score_adj", os.O_WRONLY | os.O_CLOEXEC)
            try:
                os.write(fd, str(score).encode())
            finally:
                os.close(fd)
    if plan["rlimits"]:
        _raise_limits(plan)


def become(plan: ProcessPlan, umask: int, proc: int | None = None) -> None:
    """The rest: working directory, user and privileges. `proc` as for `prepare`."""
    os.umask(umask if plan["umask"] is None else plan["umask"])
    if plan.get("look_up_home"):
        from asyncrt.launch import homes

        plan["env"].append(f"HOME={homes.home_of(plan['uid'] or 0)}")
    entered = _enter(plan["cwd"], may_be_denied=plan["uid"] is not None)
    limits = plan.get("privileges")
    if limits is None:
        _become(plan)
    else:
        from asyncrt.launch import privileges  # plain processes have none

        privileges.before_user(limits, proc)
        _become(plan)
        privileges.after_user(limits, no_new_privs=plan["no_new_privs"])
    if not entered:
        _enter(plan["cwd"], may_be_denied=False)
    if "linux" in plan or "joins" in plan:
        _check_inside(plan["cwd"])
    if plan["no_new_privs"]:
        with step("process.noNewPrivileges", ""):
            _libc.set_no_new_privs()


def _raise_limits(plan: ProcessPlan) -> None:
    """Raise the hard limits that are to be higher: what needs privilege, and may be refused.

    The rest waits for the exec. Under a limit meant for the program (three open files, say) we
    couldn't open the gate's connections, nor could the kernel take a descriptor from us.
    """
    for index, (kind, soft, hard) in enumerate(plan["rlimits"]):
        now, most = resource.getrlimit(kind)
        if most != resource.RLIM_INFINITY and (hard == resource.RLIM_INFINITY or hard > most):
            with step(f"process.rlimits[{index}]", f"{soft}:{hard}"):
                resource.setrlimit(kind, (now, hard))


def _limit(plan: ProcessPlan) -> None:
    """Set the limits of the program, none of which is higher than ours."""
    for index, (kind, soft, hard) in enumerate(plan["rlimits"]):
        with step(f"process.rlimits[{index}]", f"{soft}:{hard}"):
            resource.setrlimit(kind, (soft, hard))


def _enter(cwd: str, *, may_be_denied: bool) -> bool:
    """Change the directory; one that only the final user may enter is tried again as that user."""
    try:
        os.chdir(cwd)
    except PermissionError as error:
        if may_be_denied:
            return False
        raise Failure("process.cwd", cwd, error.errno or errno.EACCES) from error
    except OSError as error:
        raise Failure("process.cwd", cwd, error.errno or errno.EIO) from error
    return True


def _check_inside(cwd: str) -> None:
    """Raise Failure if the directory isn't below our root (CVE-2024-21626)."""
    try:
        found = os.getcwd()
    except OSError:
        found = ""
    if not found.startswith("/"):
        raise Failure("process.cwd", cwd, errno.EXDEV)


def _become(plan: ProcessPlan) -> None:
    groups, gid, uid = plan["groups"], plan["gid"], plan["uid"]
    if uid is not None:
        _give_pipes(uid)
    if groups is not None:
        with step("process.user.additionalGids", ",".join(map(str, groups))):
            os.setgroups(groups)
    if gid is not None:
        with step("process.user.gid", str(gid)):
            os.setresgid(gid, gid, gid)
    if uid is not None:
        with step("process.user.uid", str(uid)):
            os.setresuid(uid, uid, uid)


def _give_pipes(uid: int) -> None:
    """Let the new user open its pipes again by name (/dev/stdout), as other runtimes do."""
    for fd in (0, 1, 2):
        with contextlib.suppress(OSError):
            found = os.fstat(fd)
            if stat.S_ISFIFO(found.st_mode) and found.st_uid != uid:
                os.fchown(fd, uid, -1)


def _candidates(plan: ProcessPlan) -> list[str]:
    """Where the program may be: itself with a slash, else below each directory of its own PATH."""
    program = plan["args"][0]
    if "/" in program:
        return [program]
    path = _DEFAULT_PATH
    for pair in plan["env"]:
        if pair.startswith("PATH="):
            path = pair[5:]
    return [os.path.join(directory or ".", program) for directory in path.split(":")]


def resolve(plan: ProcessPlan) -> None:
    """Raise Failure now if the program couldn't be executed, judged without executing it."""
    worst = errno.ENOENT
    for path in _candidates(plan):
        try:
            found = os.stat(path)
        except OSError as error:
            worst = error.errno if error.errno not in _MISSING and error.errno else worst
            continue
        if stat.S_ISDIR(found.st_mode):
            worst = errno.EISDIR
        elif not os.access(path, os.X_OK, effective_ids=True):
            worst = errno.EACCES
        else:
            return
    raise Failure("program", plan["args"][0], worst)


_MISSING = (errno.ENOENT, errno.ENOTDIR)


def rehearse() -> None:
    """Run what a launch will run, without effect: see asyncrt.launch.init."""
    idle: ProcessPlan = {
        "args": ["true"],
        "env": [f"PATH={_DEFAULT_PATH}"],
        "cwd": os.getcwd(),
        "uid": None,
        "gid": None,
        "groups": None,
        "umask": None,
        "rlimits": [],
        "no_new_privs": False,
        "oom_score_adj": None,
    }
    umask = os.umask(0o077)
    prepare(idle, umask)
    _candidates(idle)
    dict(pair.split("=", 1) for pair in idle["env"])


def program(plan: ProcessPlan) -> Program:
    """Where the program may be, and its environment: the plan's and nothing else."""
    return _candidates(plan), dict(pair.split("=", 1) for pair in plan["env"])


def execute(plan: ProcessPlan, found: Program | None = None) -> None:
    """Execute the program. Returns never; raises Failure saying why no candidate could be.

    `found` is what `program` says, for who asked before a fork: what a fresh child doesn't do
    touches none of its pages.

    As execvp(3) does, a candidate that is missing or forbidden lets the next one be tried.
    """
    worst: Failure | None = None
    args = plan["args"]
    if found is None:
        found = program(plan)
    candidates, env = found
    if plan["rlimits"]:
        _limit(plan)
    if "privileges" in plan:
        candidates = _seal(plan, candidates)
    for path in candidates:
        try:
            os.execve(path, args, env)
        except OSError as error:
            failure = _diagnose(path, error.errno or errno.EIO)
            if failure.errno == errno.ENOENT and failure.what == "program":
                continue
            worst = failure
            if error.errno not in (*_MISSING, errno.EACCES):
                break
        except ValueError as error:
            raise Failure("program", args[0], errno.EINVAL) from error
    if worst is None:
        worst = Failure("program", args[0], errno.ENOENT)
    raise worst


def _seal(plan: ProcessPlan, candidates: list[str]) -> list[str]:
    """Load the filter; the candidates that are there, as looking for them may be denied by it."""
    from asyncrt.launch import privileges

    found = [each for each in candidates if os.path.lexists(each)]
    privileges.seal(plan["privileges"], no_new_privs=plan["no_new_privs"])
    return found


def _diagnose(path: str, number: int) -> Failure:
    """The kernel says ENOENT for a missing interpreter too and EACCES for a directory: tell apart."""
    if number == errno.ENOTDIR:
        number = errno.ENOENT
    if number == errno.EACCES and os.path.isdir(path):
        return Failure("program", path, errno.EISDIR)
    if number in (errno.ENOENT, errno.EACCES) and os.path.isfile(path):
        interpreter = _interpreter(path)
        if interpreter and not os.access(interpreter, os.X_OK):
            return Failure(f"interpreter of {path}", interpreter, number)
        if number == errno.ENOENT:
            return Failure(f"interpreter of {path}", interpreter or "(its ELF loader)", number)
    return Failure("program", path, number)


def _interpreter(path: str) -> str:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
        return ""
    try:
        head = os.read(fd, 256)
    except OSError:
        return ""
    finally:
        os.close(fd)
    if not head.startswith(b"#!"):
        return ""
    words = head[2:].split(b"\n", 1)[0].split()
    return os.fsdecode(words[0]) if words else ""
