"""Who runs out of descriptors is told so: what can't be looked at isn't taken for not being there."""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from asyncrt import _procid
from asyncrt.container import tree
from asyncrt.errors import StorageFailed
from asyncrt.sandbox import interpreter, watch_child
from asyncrt.state import Identity, add_member, read_members, survey
from asyncrt.state.listing import list_views
from tests.helpers.capabilities import skip_lacking
from tests.helpers.records import make_record, put_record


@contextlib.contextmanager
def _at_most(more: int) -> Iterator[None]:
    """So many more descriptors can be had, and no others."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    taken = [int(each) for each in os.listdir("/proc/self/fd") if _is_open(int(each))]
    free = (each for each in itertools.count() if each not in taken)
    resource.setrlimit(
        resource.RLIMIT_NOFILE, (next(itertools.islice(free, more, None)), before[1])
    )
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def _is_open(fd: int) -> bool:
    try:
        os.fstat(fd)
    except OSError:
        return False  # the one that the list was read by
    return True


@pytest.fixture
def pod(tmp_path: Path) -> str:
    """A root with a sandbox of two containers."""
    root = str(tmp_path)
    put_record(root, make_record("pod"))
    os.mkdir(f"{root}/pod.d")
    for id in ("one", "two"):
        add_member(root, "pod", id)
        put_record(root, make_record(id, sandbox="pod"))
    return root


_LOOKS: dict[str, Callable[[str], list[str]]] = {
    "members": lambda root: [each.id for each in read_members(root, make_record("pod"))],
    "views": lambda root: [each.id for each in list_views(root)],
    "survey": lambda root: sorted([*(found := survey(root)).containers, *found.broken]),
}


@pytest.mark.parametrize("look", _LOOKS)
def test_all_of_them_are_seen_or_it_is_said_that_they_cant_be(look: str, pod: str) -> None:
    whole = _LOOKS[look](pod)
    assert set(whole) >= {"one", "two"}
    refused = 0
    for more in range(8):
        with _at_most(more):
            try:
                assert _LOOKS[look](pod) == whole
            except StorageFailed as error:
                assert error.errno == errno.EMFILE  # noqa: PT017 - either is right
                refused += 1
    assert 0 < refused < 8


def test_a_sandbox_that_cant_be_looked_at_counts_as_shared(pod: str) -> None:
    """Else a signal to all of its root container would go to all others."""
    record = make_record("pod")
    with _at_most(0):
        assert tree.is_shared(record, pod)
    assert tree.is_shared(record, pod)
    assert not tree.is_shared(make_record("single"), pod)


def test_one_that_cant_be_read_hides_no_other(pod: str) -> None:
    os.unlink(f"{pod}/one.state")
    os.mkdir(f"{pod}/one.state")
    assert _LOOKS["members"](pod) == ["two"]
    os.rename(f"{pod}/pod.d/members", f"{pod}/aside")
    Path(pod, "pod.d/members").touch()
    assert _LOOKS["members"](pod) == []


def test_hazard_18_a_process_whose_identity_cant_be_checked_gets_no_signal() -> None:
    """There is one descriptor left: enough for a pidfd, and not for the look at whose it is."""
    with subprocess.Popen(["/bin/sleep", "1000"]) as another:
        found = Identity.of(another.pid)
        assert found is not None
        reused = Identity(pid=found.pid, start=found.start - 1, boot=found.boot, pidns=found.pidns)
        with _at_most(1), pytest.raises(OSError, match="Too many open files"):
            _procid.send(reused, 9)
        assert not _procid.send(reused, 9)
        assert another.poll() is None
        another.kill()


async def test_a_child_that_cant_be_watched_doesnt_stay() -> None:
    child = os.posix_spawn("/bin/sleep", ["sleep", "1000"], {})
    with _at_most(0), pytest.raises(OSError, match="Too many open files"):
        watch_child(child, lambda: None)
    with pytest.raises(ChildProcessError):
        os.waitpid(child, 0)


def test_hazard_37_an_interpreter_is_guarded_or_not_executed() -> None:
    """All that a fork server forks has the one that it was started with for its /proc/PID/exe."""
    if not os.access(os.path.realpath(sys.executable), os.W_OK):
        skip_lacking("root")
    refused = 0
    for more in range(16):
        with _at_most(more), contextlib.ExitStack() as stack:
            try:
                path = stack.enter_context(interpreter.guarded())
            except OSError as error:
                assert error.errno == errno.EMFILE  # noqa: PT017 - either is right
                refused += 1
            else:
                assert path.startswith("/proc/self/fd/")
    assert 0 < refused < 16
