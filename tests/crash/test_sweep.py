"""The kill sweep: its tracer does what it says, and a fixed sample of its points is clean."""

from __future__ import annotations

import errno
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers import capabilities, sandboxes
from tests.helpers.processes import REPOSITORY, run_python
from tests.sweep import boxes, calls, pods

_TRACED = """
import contextlib, os, signal, sys
from tests.sweep.tracer import Tracer, mark, BEGIN, END

directory, call, nth, number = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGCHLD])
ready, go = os.pipe()
pid = os.fork()
if pid == 0:
    os.read(ready, 1)
    mark(BEGIN)
    os.mkdir(directory + "/first")
    if os.fork() == 0:
        os.mkdir(directory + "/child")
        os._exit(0)
    os.wait()
    try:
        os.mkdir(directory + "/second")
    except OSError as error:
        os.mkdir(directory + f"/failed-{error.errno}")
    mark(END)
    os._exit(0)
tracer = Tracer(lambda pid: False, lambda parent, place: f"{parent}.{place}")
tracer.attach(pid, "engine")
if call:
    tracer.aim(("engine" if call != "child" else "engine.1", "mkdir", nth), number)
os.write(go, b"g")
assert tracer.run(20)
with contextlib.suppress(ChildProcessError):
    os.waitpid(pid, 0)  # let go of, it went on
print(tracer.hit, [(point.who, point.call, point.nth) for point in tracer.points])
"""


@pytest.fixture(autouse=True)
def _able() -> None:
    if not calls.SUPPORTED or not capabilities.can_trace():
        capabilities.skip_lacking("ptrace of x86-64 processes")


def _trace(directory: Path, call: str = "", nth: int = 1, number: int = 0) -> str:
    done = run_python(_TRACED, directory, call, nth, number)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_point_is_the_nth_call_of_one_process_whoever_else_makes_it(tmp_path: Path) -> None:
    said = _trace(tmp_path)
    makes = re.findall(r"\('([\w.]+)', 'mkdir', (\d)\)", said)
    assert makes == [("engine", "1"), ("engine.1", "1"), ("engine", "2")]
    assert sorted(os.listdir(tmp_path)) == ["child", "first", "second"]


@pytest.mark.parametrize(
    ("call", "nth", "left"),
    [("engine", 1, []), ("engine", 2, ["child", "first"]), ("child", 1, ["first", "second"])],
)
def test_a_process_killed_at_a_call_never_makes_it(
    call: str, nth: int, left: list[str], tmp_path: Path
) -> None:
    assert "mkdir #" in _trace(tmp_path, call, nth)
    assert sorted(os.listdir(tmp_path)) == left


def test_a_failed_call_isnt_made_and_its_errno_is_seen(tmp_path: Path) -> None:
    assert "mkdir #" in _trace(tmp_path, "engine", 2, errno.ENOSPC)
    assert sorted(os.listdir(tmp_path)) == ["child", f"failed-{errno.ENOSPC}", "first"]


@pytest.mark.needs_program("strace")
def test_every_call_that_strace_sees_is_known_to_change_something_or_nothing(
    root: str, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    strace = ["strace", "-f", "-qq", "-e", "signal=none", "-o", str(log)]
    asyncrt = [sys.executable, "-m", "asyncrt", "--root", root, "run", "job", "--", "true"]
    seen = _seen([*strace, *asyncrt], log)
    assert {"mkdir", "renameat", "rmdir", "socketpair", "sendmsg", "flock", "execve"} <= seen
    # One that is in neither is to be put into one of them: else its points would be missed.
    assert seen - calls.names() - _HARMLESS == set()


@pytest.mark.needs_program("strace")
@pytest.mark.usefixtures("_sandboxes")
def test_every_call_of_a_sandbox_is_known_as_well(root: str, rootfs: str, tmp_path: Path) -> None:
    log = tmp_path / "log"
    for who in (sandboxes.ROOT, sandboxes.MAPPED):
        made = boxes.config(rootfs, who, "/bin/true")
        (tmp_path / "config.json").write_text(json.dumps(made))
        strace = ["strace", "-f", "-qq", "-e", "signal=none", "-o", str(log)]
        asyncrt = [
            sys.executable,
            "-m",
            "asyncrt",
            "--root",
            root,
            "run",
            "--bundle",
            str(tmp_path),
        ]
        seen = _seen([*strace, *asyncrt, "job"], log)
        assert {"move_mount", "mount_setattr", "clone3", "pivot_root"} <= seen
        assert seen - calls.names() - _HARMLESS - _HARMLESS_INSIDE == set()


def _seen(command: list[str], log: Path) -> set[str]:
    done = subprocess.run(command, check=False)
    assert done.returncode == 0
    return set(re.findall(r"^\d+ +(\w+)\(", log.read_text(), re.MULTILINE))


# What an init does to itself, and the busybox of the root file system.
_HARMLESS_INSIDE = {
    *("capget", "fchdir", "flistxattr", "getgroups", "getresgid", "getresuid"),
}


# What changes nothing outside of the memory, the descriptors and the signal handlers of who calls.
_HARMLESS = set(
    """
    access arch_prctl brk clock_nanosleep close close_range dup dup2 dup3 epoll_create1
    epoll_wait exit exit_group faccessat faccessat2 fcntl fstat fstatfs futex getcwd getdents64
    getegid geteuid getgid getpeername getpid getppid getrandom getrlimit getsid getsockname
    getsockopt gettid getuid ioctl lseek lstat madvise mmap mprotect mremap munmap newfstatat
    pidfd_open poll ppoll pread64 read readlink recvfrom recvmsg restart_syscall rseq
    rt_sigaction rt_sigprocmask rt_sigreturn rt_sigtimedwait sched_getaffinity sched_yield
    set_robust_list set_tid_address sigaltstack stat statfs statx sysinfo umask uname wait4
    waitid
    """.split()  # noqa: SIM905 - a set of sixty strings is sixty lines long
)


_HOW = {"kill": (), "errno": ("--errno",)}
_ALONE = ("--without", boxes.NAME, "--without", pods.NAME)


def _sweep(*options: str, timeout: float) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.sweep", *options],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.crash
@pytest.mark.timeout(1800)
def test_nothing_is_lost_by_a_kill_at_any_call(full: bool) -> None:
    _sweep(*_ALONE, *([] if full else ["--sample", "40"]), timeout=1700)


@pytest.mark.crash
@pytest.mark.timeout(3600)
def test_nothing_is_lost_by_a_call_that_fails(full: bool) -> None:
    _sweep("--errno", *_ALONE, *([] if full else ["--sample", "40"]), timeout=3500)


@pytest.fixture
def _sandboxes() -> None:
    if not boxes.can_be_swept():
        capabilities.skip_lacking("uid 0, busybox and cgroups to make")


@pytest.mark.crash
@pytest.mark.timeout(3600)
@pytest.mark.usefixtures("_sandboxes")
@pytest.mark.parametrize("how", ["kill", "errno"])
def test_nothing_is_left_of_a_sandbox_by_a_kill_or_an_error_at_any_call(
    how: str, full: bool
) -> None:
    options = ("--verb", boxes.NAME, "--without", pods.NAME, *_HOW[how])
    _sweep(*options, *([] if full else ["--sample", "16"]), timeout=3500)


@pytest.mark.crash
@pytest.mark.timeout(3600)
@pytest.mark.usefixtures("_sandboxes")
@pytest.mark.parametrize("how", ["kill", "errno"])
def test_what_is_beside_a_container_is_untouched_by_a_kill_or_an_error_at_any_call(
    how: str, full: bool
) -> None:
    _sweep("--verb", pods.NAME, *_HOW[how], *([] if full else ["--sample", "24"]), timeout=3500)
