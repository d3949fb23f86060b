"""The main job, on real input: the README's orchestrator, as it stands there, with real programs."""

from __future__ import annotations

import asyncio
import functools
import importlib.util
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import uvloop

from asyncrt.state import list_views
from asyncrt.status import Status
from tests.helpers import readme
from tests.helpers.orchestrator import Work
from tests.helpers.orchestrator_meddlers import meddling
from tests.helpers.processes import REPOSITORY, wait_until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]


@pytest.fixture
def script(tmp_path: Path) -> str:
    """The orchestrator, from the README's text."""
    path = tmp_path / "orchestrator.py"
    path.write_text(readme.block("orchestrator", kind="example"))
    return str(path)


@pytest.fixture
def work(tmp_path: Path) -> Work:
    return Work(str(tmp_path), 300)


@pytest.fixture
def orchestrators() -> Iterator[list[subprocess.Popen[bytes]]]:
    """Those that a test starts; none outlives it."""
    started: list[subprocess.Popen[bytes]] = []
    yield started
    for each in started:
        each.kill()
        each.wait()


def test_every_job_ends_as_it_should_while_others_list_and_kill_on_the_same_root(
    root: str,
    script: str,
    work: Work,
    monkeypatch: pytest.MonkeyPatch,
    pytestconfig: pytest.Config,
) -> None:
    monkeypatch.setenv("ASYNCRT_ROOT", root)
    module = _module(script)
    factory = uvloop.new_event_loop if pytestconfig.getoption("--uvloop") else None
    before = _open_descriptors(), set(threading.enumerate())
    with meddling(root, work.victims()), asyncio.Runner(loop_factory=factory) as runner:
        runner.run(module.main(work.jobs_path, work.results_path))
    wait_until(lambda: set(threading.enumerate()) <= before[1], "no thread more than before")
    assert _open_descriptors() == before[0]
    work.check(root)


def test_an_orchestrator_that_follows_a_killed_one_adopts_what_runs_and_finds_the_same_truth(
    root: str,
    script: str,
    work: Work,
    full: bool,
    orchestrators: list[subprocess.Popen[bytes]],
) -> None:
    with meddling(root, work.victims()):
        for share in (0.2, 0.5, 0.8) if full else (0.4,):
            left = 0
            while left == 0:  # all that ran may have ended by themselves just before the kill
                orchestrator = _start(script, work, root, orchestrators)
                wait_until(
                    functools.partial(_in_the_middle, work, root, share),
                    f"{share:.0%} is done, and a few jobs run",
                    timeout=120,
                )
                orchestrator.kill()
                orchestrator.wait()
                left = _running(root)
            assert work.written() < len(work.jobs)
        last = _start(script, work, root, orchestrators)
        assert last.wait(timeout=120) == 0
    work.check(root)


def _start(
    script: str, work: Work, root: str, orchestrators: list[subprocess.Popen[bytes]]
) -> subprocess.Popen[bytes]:
    env = {**os.environ, "ASYNCRT_ROOT": root, "PYTHONPATH": REPOSITORY}
    argv = [sys.executable, script, work.jobs_path, work.results_path]
    orchestrators.append(subprocess.Popen(argv, env=env))
    return orchestrators[-1]


def _module(path: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location("orchestrator", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _in_the_middle(work: Work, root: str, share: float) -> bool:
    return work.written() >= share * len(work.jobs) and _running(root) > 3


def _running(root: str) -> int:
    return sum(view.status is Status.RUNNING for view in list_views(root))


def _open_descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))
