"""pytest fixtures: an engine on a root of the test's own, containers for it, and nothing left after it.

Loaded by its entry point in every project that asyncrt is installed for, so it imports nothing of
asyncrt until a fixture is asked for. The fixtures are asynchronous and need pytest-asyncio, in its
strict or its auto mode:

- `asyncrt_root`: the path of a fresh root directory, in memory where there is a place for that.
- `asyncrt_engine`: an open Engine on it. A container, process or file that a passing test leaves
  fails it; what any test leaves is removed. `asyncrt_options` may be overridden to give the
  engine's arguments.
- `asyncrt_container`: a function to await, `asyncrt_container(spec_or_args, id=None, start=True,
  **options)`. What it makes is destroyed at the end of the test.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Iterator, Sequence
    from typing import Any

    from asyncrt import Container, Engine, Spec
    from asyncrt.state import Identity

    MakeContainer = Callable[..., Awaitable[Container]]

_FAILED = pytest.StashKey[bool]()
_SETTLE_SECONDS = 5.0
_RUNNERS = ("asyncio", "pytest_asyncio", "pytest_asyncio.plugin")  # as it is loaded, or by -p


def pytest_configure(config: pytest.Config) -> None:
    """Offer the fixtures where somebody can run them, and an explanation elsewhere."""
    able = any(map(config.pluginmanager.has_plugin, _RUNNERS))
    config.pluginmanager.register(_fixtures() if able else _Unable(), "asyncrt-fixtures")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Take note of a failed test: what it leaves is removed without a word."""
    report = yield
    if report.failed and call.when != "teardown":
        item.stash[_FAILED] = True
    return report


class _Unable:
    """What stands for the fixtures where nobody runs asynchronous ones."""

    @pytest.fixture
    def asyncrt_engine(self) -> None:
        """Not without pytest-asyncio."""
        pytest.fail("asyncrt's fixtures need pytest-asyncio: pip install it", pytrace=False)

    asyncrt_container = asyncrt_engine


def _fixtures() -> object:
    import pytest_asyncio

    class Fixtures:
        """See this module's docstring."""

        @pytest.fixture
        def asyncrt_options(self) -> dict[str, Any]:
            """What the engine is made with, besides its root."""
            return {"durable": False}

        @pytest.fixture
        def asyncrt_root(self) -> Iterator[str]:
            """A fresh root directory."""
            memory = "/dev/shm"  # noqa: S108 - where it is made, by mkdtemp
            base = memory if os.access(memory, os.W_OK) else None
            path = tempfile.mkdtemp(prefix="asyncrt-", dir=base)
            yield path
            shutil.rmtree(path, ignore_errors=True)

        @pytest_asyncio.fixture
        async def asyncrt_engine(
            self, request: pytest.FixtureRequest, asyncrt_root: str, asyncrt_options: dict[str, Any]
        ) -> AsyncIterator[Engine]:
            """An engine on asyncrt_root."""
            from asyncrt import Engine
            from asyncrt._paths import EVENTS

            async with Engine(asyncrt_root, **asyncrt_options) as engine:
                yield engine
                left, processes = await _left_containers(engine)
            left += await _left_processes(processes)
            # The log of events is the root's own, whoever leaves.
            names = [each for each in os.listdir(asyncrt_root) if not each.startswith(EVENTS)]
            left += [f"file {name}" for name in sorted(names)]
            if left and not request.node.stash.get(_FAILED, False):
                lines = "".join(f"\n  {each}" for each in left)
                pytest.fail(f"the test left below its asyncrt root:{lines}", pytrace=False)

        @pytest_asyncio.fixture
        async def asyncrt_container(self, asyncrt_engine: Engine) -> AsyncIterator[MakeContainer]:
            """Makes containers that end with the test."""
            from asyncrt import DEVNULL, Spec

            made: list[Container] = []

            async def make(
                what: Spec | Sequence[str],
                id: str | None = None,
                *,
                start: bool = True,
                **options: Any,
            ) -> Container:
                spec = what if isinstance(what, Spec) else Spec.command(what)
                options = {"stdout": DEVNULL, "stderr": DEVNULL, **options}
                container = await asyncrt_engine.create(
                    id or f"test-{len(made)}", spec=spec, **options
                )
                made.append(container)
                if start:
                    await container.start()
                return container

            yield make
            await asyncrt_engine.destroy_many(made)

    return Fixtures()


async def _left_containers(engine: Engine) -> tuple[list[str], list[Identity]]:
    """What containers there are, destroyed now, and the processes there were below the engine.

    If cancelled, some may be left.
    """
    views = await engine.list()
    processes = _below(engine)
    left = []
    for view in views:
        status = f"broken: {view.broken}" if view.status is None else view.status
        pid = "" if view.pid is None else f", pid {view.pid}"
        left.append(f"container {view.id} ({status}{pid})")
    errors = await engine.destroy_many([view.id for view in views])
    return left + [str(error) for error in errors.values() if error is not None], processes


def _below(engine: Engine) -> list[Identity]:
    """All that descends from its fork server: supervisors do, for as long as it lives."""
    from asyncrt.launch import tree
    from asyncrt.state import Identity

    server = engine._context.launcher.server.pid  # noqa: SLF001 - a part of asyncrt itself
    if not server:
        return []
    found = (Identity.of(pid) for pid in tree.descendants(server))
    return [each for each in found if each is not None]


async def _left_processes(processes: list[Identity]) -> list[str]:
    """Those that live on although all containers are gone and the engine is closed; killed now.

    If cancelled, some may be left.
    """
    import asyncio
    import signal

    from asyncrt import _procid
    from asyncrt.sandbox import wait_gone

    gone = await asyncio.gather(*(wait_gone(each, _SETTLE_SECONDS) for each in processes))
    left = [each for each, ended in zip(processes, gone, strict=True) if not ended]
    lines = []
    for each in left:
        found = _procid.stat(each.pid)
        lines.append(f"process {each.pid} ({'' if found is None else found.comm})")
        _procid.send(each, signal.SIGKILL)
    await asyncio.gather(*(wait_gone(each, _SETTLE_SECONDS) for each in left))
    return lines
