"""The pytest plugin, in projects of other people's: its fixtures work, its leak check bites."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from importlib.metadata import entry_points
from pathlib import Path

import pytest

from tests.helpers.containers import is_alive
from tests.helpers.processes import REPOSITORY

pytest_plugins = ("pytester",)


@pytest.fixture
def project(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    """A project that loads this plugin and pytest-asyncio, and no others that happen to be there."""
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    monkeypatch.setenv("PYTHONPATH", REPOSITORY)
    monkeypatch.delenv("PYTEST_ADDOPTS", raising=False)
    pytester.makeini("[pytest]\nasyncio_default_fixture_loop_scope = function\n")
    return pytester


def run(project: pytest.Pytester, *args: str, asyncio: bool = True) -> pytest.RunResult:
    plugins = ["-p", "asyncrt.pytest_plugin", *(("-p", "pytest_asyncio.plugin") if asyncio else ())]
    return project.runpytest_subprocess(*plugins, "-W", "error", *args)


USES = """
import os
import pytest
import asyncrt

seen = []

@pytest.mark.asyncio
async def test_a_container_from_a_spec(asyncrt_engine, asyncrt_container, asyncrt_root):
    seen.append(asyncrt_root)
    assert asyncrt_engine.root == asyncrt_root
    web = await asyncrt_container(["sleep", "1000"])
    spec = asyncrt.Spec.command(["sh", "-c", "echo hello"])
    other = await asyncrt_container(spec, "other", start=False, stdout=asyncrt.PIPE)
    assert (await web.view()).status == "running"
    assert (await other.view()).status == "created"
    await other.start()
    assert await other.stdout.read() == b"hello\\n"
    await other.destroy()

@pytest.mark.asyncio
async def test_another_has_a_root_of_its_own(asyncrt_engine):
    assert not os.path.exists(seen[0])
    assert await asyncrt_engine.list() == []
    done = await asyncrt_engine.run("x", spec=asyncrt.Spec.command(["true"]))
    assert done.exit.exit_code == 0

def test_that_is_not_asynchronous(asyncrt_root):
    assert os.listdir(asyncrt_root) == []
"""


@pytest.mark.parametrize("mode", ["strict", "auto"])
def test_its_fixtures_work_in_both_modes(project: pytest.Pytester, mode: str) -> None:
    source = USES if mode == "strict" else USES.replace("@pytest.mark.asyncio\n", "")
    project.makepyfile(source)
    run(project, "--asyncio-mode", mode).assert_outcomes(passed=3)


LEAVES = """
import os, shutil
import asyncrt

SLEEP = asyncrt.Spec.command(["sleep", "1000"])

async def test_container(asyncrt_engine):
    container = await asyncrt_engine.create("left", spec=SLEEP, stdout=asyncrt.DEVNULL)
    await container.start()
    print("pid", (await container.view()).pid)

async def test_file(asyncrt_engine, asyncrt_root):
    open(asyncrt_root + "/mine", "w").close()

async def test_broken(asyncrt_engine, asyncrt_root):
    for name in ("bad.lock", "bad.state"):
        open(f"{asyncrt_root}/{name}", "w").close()

async def test_process(asyncrt_engine, asyncrt_root):
    container = await asyncrt_engine.create("gone", spec=SLEEP, stdout=asyncrt.DEVNULL)
    await container.start()
    print("pid", (await container.view()).pid)
    shutil.rmtree(asyncrt_root)
    os.mkdir(asyncrt_root, 0o700)

async def test_that_fails_for_another_reason(asyncrt_engine):
    container = await asyncrt_engine.create("left", spec=SLEEP, stdout=asyncrt.DEVNULL)
    print("pid", (await container.view()).pid)
    assert False, "my own reason"
"""


def test_what_is_left_fails_the_test_and_is_cleaned(project: pytest.Pytester) -> None:
    project.makepyfile(LEAVES)
    result = run(project, "--asyncio-mode", "auto", "-s")
    # What a failed test leaves is no second failure.
    result.assert_outcomes(passed=4, errors=4, failed=1)
    result.stdout.fnmatch_lines_random(
        [
            "*container left (running, pid *)",
            "*file mine",
            "*container bad (broken: *",
            "*process * (asyncrt:super)",
            "*process * (sleep)",
            "*my own reason*",
        ]
    )
    for line in result.outlines:
        if "pid " in line and line.split()[-1].isdigit():
            assert not is_alive(int(line.split()[-1]))


def test_an_engines_arguments_may_be_given(project: pytest.Pytester) -> None:
    project.makepyfile(
        """
        import pytest

        @pytest.fixture
        def asyncrt_options():
            return {"hooks": {"poststart": print}, "lock_timeout": 3}

        async def test_it(asyncrt_engine):
            assert asyncrt_engine._context.lock_timeout == 3
        """
    )
    run(project, "--asyncio-mode", "auto").assert_outcomes(passed=1)


def test_without_pytest_asyncio_it_says_what_it_needs(project: pytest.Pytester) -> None:
    project.makepyfile("def test_it(asyncrt_engine): pass\ndef test_other(): pass\n")
    project.makeini("[pytest]\n")
    result = run(project, asyncio=False)
    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines(["*asyncrt's fixtures need pytest-asyncio*"])


def test_a_project_that_doesnt_use_it_loads_nothing_of_asyncrt(project: pytest.Pytester) -> None:
    project.makepyfile(
        """
        import sys

        def test_it():
            found = sorted(name for name in sys.modules if name.split(".")[0] in NAMES)
            assert found == ["asyncrt", "asyncrt.pytest_plugin"]

        NAMES = {"asyncrt", "msgspec", "psutil", "anyio", "portalocker"}
        """
    )
    run(project).assert_outcomes(passed=1)


def test_it_is_found_by_its_entry_point() -> None:
    project = tomllib.loads(Path(REPOSITORY, "pyproject.toml").read_text(encoding="utf-8"))
    (value,) = project["project"]["entry-points"]["pytest11"].values()
    installed = {each.value for each in entry_points(group="pytest11") if each.name == "asyncrt"}
    assert installed <= {value}  # nothing where the tests run from a checkout
    code = f"import {value}, sys; print(*{{'asyncio', 'msgspec'}} & set(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-S", "-c", "import sys; sys.path[:0] = sys.argv[1:]; " + code, *sys.path],
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONPATH": REPOSITORY},
    )
    assert "msgspec" not in done.stdout
