"""An end needs no lock: it comes between any two steps of a verb, which then says that it has ended."""

from __future__ import annotations

import errno
import os
import signal
from pathlib import Path
from typing import Any

import pytest

import asyncrt
from asyncrt import Engine, _cgroups, _procid
from asyncrt.container import update as updating
from asyncrt.container.limits import gather
from asyncrt.platforms.cgroups.update import plan_update
from asyncrt.sandbox import Channel
from tests.helpers.cgroups import limited
from tests.helpers.containers import destroyed, init_of, sleeper, started
from tests.helpers.processes import wait_until


@pytest.mark.needs_root
@pytest.mark.needs_cgroups("pids")
@pytest.mark.parametrize("reaped", [True, False])
async def test_an_update_that_the_end_overtakes_says_so(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, reaped: bool
) -> None:
    """Of one that isn't there, or is a zombie in no cgroup any more, nothing can be planned."""
    container = await started(engine, "web", limited(sleeper(), pids={"limit": 9}))
    async with destroyed(container):
        init = init_of(container, engine.root)

        def late(*arguments: Any, **options: Any) -> object:
            planned = None if reaped else plan_update(*arguments, **options)
            os.kill(init, signal.SIGKILL)
            wait_until(lambda: not os.path.exists(f"/proc/{init}"), "init is reaped")
            return planned or plan_update(*arguments, **options)

        monkeypatch.setattr(updating, "plan_update", late)
        with pytest.raises(asyncrt.InvalidTransition) as caught:
            await container.update({"pids": {"limit": 5}})
        assert (caught.value.operation, caught.value.status) == ("update", "stopped")


@pytest.mark.needs_root
@pytest.mark.needs_cgroups("pids")
async def test_an_update_of_one_that_has_begun_to_end_says_that_it_has(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It lives, until all in its pid namespace are dead, and is said to be in no cgroup of its own."""
    container = await started(engine, "web", limited(sleeper(), pids={"limit": 9}))
    async with destroyed(container):
        init = init_of(container, engine.root)
        stat = _procid.stat

        def ending(pid: int) -> _procid.Stat | None:
            found = stat(pid)
            if found is not None and pid == init:
                found.flags |= _procid.PF_EXITING
            return found

        def refusing(*arguments: Any, **options: Any) -> object:
            planned = plan_update(*arguments, **options)
            return planned._replace(refused={"linux.resources.pids.limit": "not here"})

        monkeypatch.setattr(updating, "plan_update", refusing)
        monkeypatch.setattr(_procid, "stat", ending)
        with pytest.raises(asyncrt.InvalidTransition) as caught:
            await container.update({"pids": {"limit": 5}})
        assert (caught.value.operation, caught.value.status) == ("update", "stopped")
        monkeypatch.undo()


@pytest.mark.parametrize("number", [errno.ESRCH, errno.ENOMEM, errno.ECHILD])
async def test_an_exec_into_one_that_is_about_to_end_says_that_it_has(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """HAZARDS 26. An init that has begun to end lives, until all below it are dead, and can't be joined."""
    container = await started(engine, "web", sleeper())
    async with destroyed(container):
        init = init_of(container, engine.root)

        async def dying(*arguments: Any, **options: Any) -> dict[str, object]:
            os.kill(init, signal.SIGKILL)
            report = {"what": "namespaces of init", "path": str(init), "errno": number, "hook": ""}
            return {"failed": report}

        monkeypatch.setattr(Channel, "request", dying)
        with pytest.raises(asyncrt.InvalidTransition) as caught:
            await container.exec(["/bin/true"])
        assert (caught.value.operation, caught.value.status) == ("exec", "stopped")


@pytest.mark.parametrize("flags", [0x4, 0x0])
def test_what_has_begun_to_end_is_not_waited_for_to_be_moved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flags: int
) -> None:
    """Until its turn to go on with that comes, no cgroup takes it, and it runs and is in its old one."""
    fields = f"7 (sleep) R 1 7 7 0 -1 {flags} {' '.join('0' * 40)}"
    stat = _procid.Stat(fields.encode())
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "cgroup.procs").write_text("7\n" if name == "one" else "")
    monkeypatch.setattr(_procid, "stat", lambda _: stat)
    monkeypatch.setattr(_cgroups, "write", lambda path, value: None)
    one, other = f"{tmp_path}/one", f"{tmp_path}/other"
    if flags:
        gather(one, other)
        return
    with pytest.raises(BlockingIOError):
        gather(one, other)
