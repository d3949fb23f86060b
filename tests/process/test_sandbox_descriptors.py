"""A supervisor of many containers needs many descriptors: it has them, and lives when there are no more."""

from __future__ import annotations

import contextlib
import itertools
import os
import resource
from collections.abc import AsyncIterator, Iterator

import pytest

import asyncrt
from asyncrt import Container, Engine, Sandbox, SandboxUnresponsive, Status
from tests.helpers.containers import (
    SECONDS,
    Client,
    directory_of,
    gone,
    init_of,
    rest,
    supervisor_of,
)
from tests.helpers.pods import Pods, members

pytestmark = [
    pytest.mark.needs_root,
    pytest.mark.needs_cgroups,
    pytest.mark.needs_program("busybox"),
]

_FILES = resource.RLIMIT_NOFILE


@pytest.fixture
async def pods(engine: Engine, rootfs: str) -> AsyncIterator[Pods]:
    """Nothing stays after a failed test either."""
    yield Pods(engine, "linux", rootfs)
    for each in await engine.list():
        await engine.delete(each.id, force=True)


@contextlib.contextmanager
def at_most(supervisor: int, more: int) -> Iterator[None]:
    """It can open so many more and no others."""
    before = resource.prlimit(supervisor, _FILES)
    taken = {int(each) for each in os.listdir(f"/proc/{supervisor}/fd")}
    free = (each for each in itertools.count() if each not in taken)
    limit = next(itertools.islice(free, more, None))  # it is the first number that can't be had
    resource.prlimit(supervisor, _FILES, (limit, before[1]))
    try:
        yield
    finally:
        resource.prlimit(supervisor, _FILES, before)


async def _sandbox(pods: Pods) -> tuple[Sandbox, Container, int]:
    sandbox = await pods.sandbox()
    one = await pods.running(sandbox, "one")
    supervisor = supervisor_of(sandbox.root, pods.root)
    # It has a spare by then, and all else that it gets ready.
    two = await pods.running(sandbox, "two")
    await two.destroy()
    return sandbox, one, supervisor


async def test_a_creation_without_descriptors_for_it_is_refused_and_ends_nobody(pods: Pods) -> None:
    sandbox, one, supervisor = await _sandbox(pods)
    for more in (0, 4, 8, 16):
        with at_most(supervisor, more), pytest.raises(SandboxUnresponsive) as caught:
            await sandbox.create("three", spec=pods.sleeper(), timeout=SECONDS)
        assert "\n" not in str(caught.value)
        assert members(pods.root) == ["one"]
    for each in (sandbox.root, one):
        assert (await each.view()).status is Status.RUNNING
    three = await pods.running(sandbox, "three")
    with at_most(supervisor, 0):
        await three.kill("KILL")
        await gone(init_of(three, pods.root))
    assert (await three.wait(SECONDS)).reason == "signal"  # written down once that can be
    assert (await one.view()).status is Status.RUNNING
    await one.kill("KILL")
    assert (await one.wait(SECONDS)).reason == "signal"


async def test_a_containers_first_client_without_a_descriptor_for_it_ends_nobody(
    pods: Pods,
) -> None:
    sandbox, one, supervisor = await _sandbox(pods)
    with at_most(supervisor, 0):
        for each in (sandbox.root, one):
            with Client(directory_of(each, pods.root)) as client:
                assert client.hung_up()
    process = await one.exec(["/bin/true"])
    assert (await process.wait()).exit_code == 0
    process.close()
    assert (await sandbox.root.view()).status is Status.RUNNING


async def test_a_supervisor_of_several_has_as_many_as_it_may_and_its_programs_what_they_had(
    root: str, rootfs: str
) -> None:
    before = resource.getrlimit(_FILES)
    ours = min(before[1], 256) - 1
    try:
        resource.setrlimit(_FILES, (ours, before[1]))
        async with Engine(root) as engine:
            pods = Pods(engine, "linux", rootfs)
            sandbox = await pods.sandbox()
            supervisor = supervisor_of(sandbox.root, root)
            assert resource.prlimit(supervisor, _FILES) == (ours, before[1])
            try:
                for id in ("one", "two"):  # of which one was forked ahead
                    spec = pods.shell("ulimit -n; exec sleep 1000")
                    each = await pods.running(sandbox, id, spec, stdout=asyncrt.PIPE)
                    assert each.stdout is not None
                    assert (await each.stdout.readline()).decode().split() == [str(ours)]
                    await each.destroy()
                assert resource.prlimit(supervisor, _FILES) == (before[1], before[1])
                command = ["/bin/sh", "-c", "ulimit -n"]
                process = await sandbox.root.exec(command, stdout=asyncrt.PIPE)
                assert (await rest(process.stdout)).split() == [str(ours)]
                await process.wait()
                process.close()
            finally:
                await sandbox.destroy()
    finally:
        resource.setrlimit(_FILES, before)
