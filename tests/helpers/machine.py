"""Two engines on one root under rules, a model beside them, and what must hold after every step.

Both engines must list what the model holds, every file must be explained by a record, and every
process by a container; a paused one's processes are stopped and nobody else's are. The rules, verbs
and accidents, are a subclass's.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
import uuid
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import pytest
from hypothesis.stateful import RuleBasedStateMachine, invariant

import asyncrt
from asyncrt import errors
from asyncrt.state import Missing, look, missing_events, read_record
from tests.helpers import reality, reaping
from tests.helpers.model import Model, Modelled

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine

T = TypeVar("T")
Supervision = Literal["own", "caller"]

IDS = ("a", "ab", "abc", "b")  # one begins with another
NULL: Any = {"stdout": asyncrt.DEVNULL, "stderr": asyncrt.DEVNULL}
SECONDS = 20.0  # a net, nothing is ordered by it


class Watched(RuleBasedStateMachine):
    """Real processes under two engines, and their truth."""

    loop_factory: Callable[[], asyncio.AbstractEventLoop] | None = None

    def __init__(self) -> None:
        super().__init__()
        self.model = Model()
        self.root = tempfile.mkdtemp(prefix="asyncrt-machine-", dir="/dev/shm")
        self.runner = asyncio.Runner(loop_factory=type(self).loop_factory)
        self.engines = [asyncrt.Engine(self.root), asyncrt.Engine(self.root)]
        for engine in self.engines:
            self.run(engine.__aenter__())
        self.run(self.begin_reaping())
        self.handles: dict[tuple[int, str], asyncrt.Container] = {}
        self.processes: dict[str, asyncrt.Process] = {}

    def run(self, coro: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(asyncio.wait_for(coro, SECONDS))

    async def begin_reaping(self) -> None:
        # Orphans come to us; until they are reaped nobody learns how those without a supervisor ended.
        self.reaper = asyncio.create_task(self.reap())

    async def reap(self) -> None:
        while True:
            reaping.reap_orphans()
            await asyncio.sleep(0.005)  # not for order: as any init, now and then

    def teardown(self) -> None:
        self.processes.clear()
        for id in sorted(self.model.containers):
            self.run(self.engines[0].delete(id, force=True))
        for engine in self.engines:
            self.run(engine.close())
        self.reaper.cancel()
        self.run(asyncio.sleep(0))  # one turn, for it to end
        self.runner.close()
        self.handles.clear()
        left = reality.files(self.root)
        shutil.rmtree(self.root) if not left else None
        strays = reality.settles(reality.below)
        assert (left, strays) == (set(), None)

    # What rules are made of

    def attempt(self, awaitable: Awaitable[T], refusal: type[Exception] | None) -> T | None:
        """Await it; it must raise exactly the given error, or none."""

        async def awaited() -> T:
            return await awaitable

        if refusal is None:
            return self.run(awaited())
        with pytest.raises(refusal) as raised:
            self.run(awaited())
        assert type(raised.value) is refusal
        return None

    def one(self, number: int, which: int) -> tuple[asyncrt.Container, Modelled]:
        """The engine's handle of one that is there, and its model; one is made if none is."""
        if not self.model.containers:
            self.attempt(self.engines[which].load("a"), errors.ContainerNotFound)
            self.make(IDS[number % 4], which, "caller" if number % 3 == 2 else "own")
            if number % 2:
                self.run(self.handles[which, IDS[number % 4]].start())
                self.model.containers[IDS[number % 4]].started()
        there = sorted(self.model.containers)
        id = there[number % len(there)]
        found = self.model.containers[id]
        container = self.handles.get((which, id))
        if container is None or container.instance != found.instance:
            container = self.run(self.engines[which].load(id))
            self.handles[which, id] = container
        assert container.instance == found.instance
        return container, found

    def make(self, id: str, which: int, supervision: Supervision) -> None:
        mark = uuid.uuid4().hex
        spec = asyncrt.Spec.command(["/bin/sleep", "1000"], env=reality.marking(mark))
        taken = errors.ContainerExists if self.model.get(id) else None
        container = self.attempt(
            self.engines[which].create(id, spec=spec, supervision=supervision, **NULL), taken
        )
        if container is None:
            return
        record = read_record(self.root, id)
        assert record.init is not None
        self.model.containers[id] = Modelled(
            id=id,
            instance=container.instance,
            mark=mark,
            supervision=supervision,
            init=record.init.pid,
            supervisor=record.supervisor.pid if record.supervisor is not None else None,
        )
        self.handles[which, id] = container

    def until_ended(self, container: asyncrt.Container, found: Modelled) -> None:
        """An end that was brought about is there, recorded, and the same for all who ask."""
        results = [self.run(container.wait()) for _ in range(2)]
        if found.exit_known:
            assert results[0] == results[1]
            assert (results[0].exit_code, results[0].signal) == (None, found.signal)
            assert results[0].reason == "signal"
        else:
            # Nobody of ours saw it. The kernel may have told us, nothing else may.
            assert results[0].exit_code is None
            assert results[0].signal in {None, found.signal}

    # What must hold after every step

    @invariant()
    def every_engine_lists_what_is_true(self) -> None:
        for engine in self.engines:
            views = self.run(engine.list())
            listed = [(each.id, each.instance, each.status, each.supervision) for each in views]
            assert listed == self.model.list()
            for view in views:
                found = self.model.containers[view.id]
                assert view.broken is None
                assert view.pid == (None if found.status == "stopped" else found.init)
                if view.exit is not None and found.exit_known:
                    assert (view.exit.exit_code, view.exit.signal) == (None, found.signal)

    @invariant()
    def every_file_is_explained_by_a_record(self) -> None:
        assert self.model.wrong_files(reality.files(self.root)) == ""

    @invariant()
    def the_log_of_events_lacks_only_ends_that_nobody_wrote_down(self) -> None:
        """A container whose supervisor was killed, or that has none, ends unheard.

        One whose exit record is there already may be told of a moment later.
        """
        assert reality.settles(self.wrong_events) is None

    def wrong_events(self) -> list[Missing]:
        seen = [look(self.root, id) for id in self.model.containers]
        missing = missing_events(self.root, seen)
        unheard = {r.id for r, o in seen if o.exit is not None and not o.exit.finished_at}
        return [each for each in missing if (each.status, each.id in unheard) != ("stopped", True)]

    @invariant()
    def no_lock_is_held(self) -> None:
        assert reality.locked_files(self.root) == []

    @invariant()
    def every_process_is_explained_by_a_container(self) -> None:
        wrong = reality.settles(self.wrong_processes)
        assert wrong is None

    def wrong_processes(self) -> list[str]:
        wrong = []
        supervisors = {c.supervisor for c in self.model.containers.values() if c.supervisor}
        inits = {c.init: c for c in self.model.containers.values() if c.status != "stopped"}
        # A one-shot ends once its init has read the acknowledgement, which a frozen one can't.
        frozen = {pid for pid, c in inits.items() if c.paused_from == "created"}
        execs = {e.pid: e for c in self.model.containers.values() for e in c.execs}
        seen = reality.below()
        spares = reality.spares(seen)
        above_frozen = {each.ppid for each in seen if each.pid in frozen} - {os.getpid()}
        for each in seen:
            if each.pid in spares or each.pid in supervisors:
                continue
            if each.pid in inits:
                found = inits[each.pid]
                should_stop = found.status == "paused"
                at_gate = "created" in (found.status, found.paused_from)
                if at_gate != (each.comm == "asyncrt:gate"):
                    wrong.append(f"{found} is {each}")
                elif each.mark != ("" if at_gate else found.mark):
                    wrong.append(f"{each} runs as {found}")
            elif each.pid in above_frozen:
                continue
            elif each.pid in execs:
                should_stop = execs[each.pid].paused
            else:
                wrong.append(f"a stray: {each}")
                continue
            if should_stop != (each.state == "T"):
                wrong.append(f"should{'' if should_stop else ' not'} be stopped: {each}")
        pids = {each.pid for each in seen}
        missing = [pid for pid in {*supervisors, *inits, *execs} if pid not in pids]
        return wrong + [f"should live: {pid}" for pid in missing]
