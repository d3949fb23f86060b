"""What every test runs under: a sub-reaper, a leak check after each test, roots, one event loop."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import tempfile
from collections.abc import AsyncIterator, Callable, Generator, Iterator, Mapping
from pathlib import Path

import hypothesis
import pytest

import asyncrt
from asyncrt import _fskind, _threads
from tests.helpers import capabilities, programs, reaping, sandboxes
from tests.helpers.capabilities import User
from tests.helpers.leaks import LeakCheck, note_pending_tasks

pytest.register_assert_rewrite("tests.helpers.machine")  # it asserts as tests do

_FAILED = pytest.StashKey[bool]()

hypothesis.settings.register_profile("sample", deadline=None, derandomize=capabilities.in_ci())
hypothesis.settings.register_profile("full", deadline=None, max_examples=1000)


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("asyncrt")
    group.addoption("--full", action="store_true", help="full sizes instead of samples")
    group.addoption("--uvloop", action="store_true", help="run every async test on uvloop")


def pytest_configure(config: pytest.Config) -> None:
    hypothesis.settings.load_profile("full" if config.getoption("--full") else "sample")
    reaping.become_subreaper()
    # What starts us in the background (nohup, a shell's &) has us ignore some, and our children
    # would too: the command leaves ignored what its parent ignored.
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)
    note_pending_tasks()
    # The leak check waits for idle threads to end: let them not linger.
    _threads._pool.idle_seconds = 0.05
    _new_uvloop().close()  # libuv's first loop makes a pipe for signals that stays for ever


def pytest_report_header(config: pytest.Config) -> str:
    loop = "uvloop" if config.getoption("--uvloop") else "asyncio"
    size = "full" if config.getoption("--full") else "sample"
    has = [
        name
        for name, there in (
            ("root", capabilities.is_root()),
            ("user namespaces", capabilities.has_userns()),
            ("gcc", shutil.which("gcc") is not None),
            ("strace", shutil.which("strace") is not None),
        )
        if there
    ]
    return f"asyncrt: {size} sizes, {loop}, machine has: {', '.join(has) or 'nothing special'}"


def pytest_asyncio_loop_factories(
    config: pytest.Config,
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    if config.getoption("--uvloop"):
        return {"uvloop": _new_uvloop}
    return {"asyncio": asyncio.new_event_loop}


def _new_uvloop() -> asyncio.AbstractEventLoop:
    import uvloop

    return uvloop.new_event_loop()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--full"):
        for item in items:
            if item.get_closest_marker("timeout") is None:
                item.add_marker(pytest.mark.timeout(1800))  # the usual one is for samples


def pytest_runtest_setup(item: pytest.Item) -> None:
    for mark in item.iter_markers():
        if mark.name.startswith("needs_") and (what := capabilities.missing(mark)):
            capabilities.skip_lacking(what)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.failed and call.when != "teardown":
        item.stash[_FAILED] = True
    if report.skipped and capabilities.in_ci() and not hasattr(report, "wasxfail"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        if not reason.removeprefix("Skipped: ").startswith(capabilities.LACKS):
            report.outcome = "failed"
            report.longrepr = f"skipped in CI although nothing is lacking: {reason}"
    return report


@pytest.fixture(autouse=True)
def leak_check(request: pytest.FixtureRequest) -> Iterator[LeakCheck]:
    """Fails a test that leaves a process, thread, descriptor or file behind."""
    check = LeakCheck()
    yield check
    may_leave: list[str] = []
    for mark in request.node.iter_markers("leaves"):
        may_leave += mark.args or ("*",)
    failed = request.node.stash.get(_FAILED, False)
    leaks = check.finish(failed=failed, may_leave=tuple(may_leave))
    if leaks:
        pytest.fail("the test leaked:\n  " + "\n  ".join(leaks), pytrace=False)


@pytest.fixture
def root(leak_check: LeakCheck) -> str:
    """A fresh root directory, 0700, on a memory-backed file system where there is one."""
    base = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    path = tempfile.mkdtemp(prefix="asyncrt-test-", dir=base)
    leak_check.watch_root(path)
    return path


@pytest.fixture
def disk_root(leak_check: LeakCheck) -> str:
    """As root, on a disk file system, where file work hops to a worker thread."""
    bases = (tempfile.gettempdir(), "/var/tmp", os.getcwd())
    usable = [b for b in bases if os.access(b, os.W_OK) and _fskind.kind_of(b) == "disk"]
    if not usable:
        capabilities.skip_lacking("a writable disk file system")
    path = tempfile.mkdtemp(prefix="asyncrt-test-", dir=usable[0])
    leak_check.watch_root(path)
    return path


@pytest.fixture(params=["memory", "disk"])
def anywhere(request: pytest.FixtureRequest) -> str:
    """A root where files are worked on inline, and one where that hops to a thread."""
    name = "root" if request.param == "memory" else "disk_root"
    path: str = request.getfixturevalue(name)
    return path


@pytest.fixture
def long_root(root: str, leak_check: LeakCheck) -> str:
    """As root, with a path longer than the 108 bytes of a socket's address."""
    outer = os.path.join(root, "a-long-name" * 12)
    path = os.path.join(outer, "root")
    os.makedirs(path, mode=0o700)
    leak_check.watch_root(path)
    leak_check.expect(root, os.path.basename(outer))
    return path


@pytest.fixture
async def engine(root: str) -> AsyncIterator[asyncrt.Engine]:
    """An engine on `root`; what it runs must be gone when the test ends."""
    async with asyncrt.Engine(root) as made:
        yield made


@pytest.fixture
def ordinary_user() -> User:
    """An unprivileged user that helper interpreters and containers can run as."""
    user = capabilities.ordinary_user() if os.geteuid() == 0 else None
    if user is None:
        capabilities.skip_lacking("uid 0, to become another user")
    return user


@pytest.fixture(scope="session")
def programs_directory() -> Iterator[str]:
    """A directory of executables that every user can reach."""
    path = tempfile.mkdtemp(prefix="asyncrt-programs-")
    os.chmod(path, 0o755)
    yield path
    shutil.rmtree(path)


@pytest.fixture
def open_directory() -> Iterator[Path]:
    """A directory of this test's that every user can reach; pytest's own are its user's only."""
    path = tempfile.mkdtemp(prefix="asyncrt-open-")
    os.chmod(path, 0o755)
    try:
        yield Path(path)
    finally:
        shutil.rmtree(path)


@pytest.fixture(scope="session")
def rootfs() -> Iterator[str]:
    """A root file system for sandboxes that every user can read. Don't write to it."""
    path = tempfile.mkdtemp(prefix="asyncrt-rootfs-")
    try:
        yield sandboxes.make_rootfs(path)
    finally:
        shutil.rmtree(path)


@pytest.fixture(scope="session")
def python_image() -> Iterator[str]:
    """As rootfs, with places for what `sandboxes.with_python` binds. Don't write to it."""
    path = tempfile.mkdtemp(prefix="asyncrt-rootfs-")
    try:
        sandboxes.make_rootfs(path)
        for each in sandboxes.host_programs():
            os.makedirs(f"{path}{each}", exist_ok=True)
        with open(f"{path}{sandboxes.LIBRARIES}", "wb"):
            pass
        yield path
    finally:
        shutil.rmtree(path)


@pytest.fixture(scope="session")
def static_true(programs_directory: str) -> str:
    """The path of a program that exits 0 at once; static where a compiler can make it so."""
    return programs.make_true(programs_directory)


@pytest.fixture(scope="session")
def full(pytestconfig: pytest.Config) -> bool:
    """Whether to run the full sizes: `200 if full else 20`."""
    return bool(pytestconfig.getoption("--full"))
