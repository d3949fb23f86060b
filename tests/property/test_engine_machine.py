"""Whatever the order of verbs and of kills behind its back, the engine tells what is true.

Real processes, two engines on one root, and a model beside them. After every step both engines must
list what the model holds, every file must be explained by a record, and every process by a
container; a paused one's processes are stopped and nobody else's are.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import random
import shutil
import signal
import tempfile
import uuid
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import hypothesis
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

import asyncrt
from asyncrt import errors
from asyncrt.state import Missing, look, missing_events, read_record
from tests.helpers import reality, reaping
from tests.helpers.model import Exec, Model, Modelled

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine

T = TypeVar("T")
Supervision = Literal["own", "caller"]

IDS = ("a", "ab", "abc", "b")  # one begins with another
NULL: Any = {"stdout": asyncrt.DEVNULL, "stderr": asyncrt.DEVNULL}
SECONDS = 20.0  # a net, nothing is ordered by it

# What leads somewhere in each status; what occurs twice is wanted twice as often.
ANYWHERE = (
    "create",
    "exec",
    "kill",
    "stop",
    "somebody_kills_init",
    "somebody_kills_the_supervisor",
)
FROM = {
    "created": ("start", "start", "start", "start", "pause", "pause", *ANYWHERE),
    "running": ("pause", "pause", "pause", "exec", "destroy", *ANYWHERE),
    "paused": ("resume", "resume", "resume", "look_at_one", "destroy", *ANYWHERE),
    "stopped": ("destroy", "destroy", "wait_briefly", "create"),
}

ids = st.sampled_from(IDS)
some = st.integers(0, 11)  # one of those that are there
engines = st.sampled_from((0, 1))
signals = st.sampled_from((signal.SIGTERM, signal.SIGKILL, signal.SIGTERM))


class Machine(RuleBasedStateMachine):
    """Verbs and accidents on four ids."""

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

    # Verbs

    @rule(id=ids, which=engines, supervision=st.sampled_from(("own", "caller", "own")))
    def create(self, id: str, which: int, supervision: Supervision) -> None:
        self.make(id, which, supervision)

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

    @rule(number=some, which=engines)
    def start(self, number: int, which: int) -> None:
        container, found = self.one(number, which)
        refusal = found.refusal("start")
        self.attempt(container.start(), refusal)
        if refusal is None:
            found.started()

    @rule(number=some, which=engines)
    def pause(self, number: int, which: int) -> None:
        container, found = self.one(number, which)
        refusal = found.refusal("pause")
        self.attempt(container.pause(), refusal)
        if refusal is None:
            found.paused()

    @rule(number=some, which=engines)
    def resume(self, number: int, which: int) -> None:
        container, found = self.one(number, which)
        refusal = found.refusal("resume")
        self.attempt(container.resume(), refusal)
        if refusal is None:
            found.resumed()
            if found.status == "stopped":
                self.until_ended(container, found)

    @rule(number=some, which=engines, sign=signals, all=st.booleans())
    def kill(self, number: int, which: int, sign: int, all: bool) -> None:
        container, found = self.one(number, which)
        refusal = found.refusal("kill all" if all else "kill")
        self.attempt(container.kill(sign, all=all), refusal)
        if refusal is None:
            self.after_signal(container, found, sign)
            if all and found.status == "running":
                found.execs.clear()

    @rule(number=some, which=engines)
    def kill_its_init_by_pid_and_nobody_elses(self, number: int, which: int) -> None:
        container, found = self.one(number, which)
        refusal = found.refusal("kill process")
        self.attempt(container.kill("KILL", pid=os.getpid()), refusal or errors.ProcessNotFound)
        self.attempt(container.kill("KILL", pid=found.init), refusal)
        if refusal is None:
            self.after_signal(container, found, signal.SIGKILL)

    def after_signal(self, container: asyncrt.Container, found: Modelled, number: int) -> None:
        if found.status != "stopped":
            found.signalled(number)
            if found.status == "stopped":
                self.until_ended(container, found)

    @rule(number=some, which=engines, grace_seconds=st.sampled_from((0, 10)))
    def stop(self, number: int, which: int, grace_seconds: int) -> None:
        container, found = self.one(number, which)
        refusal = found.refusal("stop")
        self.attempt(container.stop(grace_seconds=grace_seconds), refusal)
        if refusal is None:
            gentle = grace_seconds and found.status != "paused"
            found.ended(signal.SIGTERM if gentle else signal.SIGKILL)
            self.until_ended(container, found)

    @rule(number=some, which=engines, ignore_paused=st.booleans())
    def exec_something_short(self, number: int, which: int, ignore_paused: bool) -> None:
        container, found = self.one(number, which)
        refusal = self.refusal_of_exec(found, ignore_paused=ignore_paused)
        process = self.attempt(
            container.exec(["/bin/sh", "-c", "exit 7"], ignore_paused=ignore_paused, **NULL),
            refusal,
        )
        if process is not None:
            assert self.run(process.wait()).exit_code == 7
            assert self.run(process.wait()).exit_code == 7

    @rule(number=some, which=engines, ignore_paused=st.booleans())
    def exec_something_long(self, number: int, which: int, ignore_paused: bool) -> None:
        container, found = self.one(number, which)
        refusal = self.refusal_of_exec(found, ignore_paused=ignore_paused)
        mark = uuid.uuid4().hex
        process = self.attempt(
            container.exec(
                ["/bin/sleep", "1000"],
                env=reality.marking(mark, "exec"),
                ignore_paused=ignore_paused,
                **NULL,
            ),
            refusal,
        )
        if process is not None:
            found.execs.append(Exec(mark, process.pid))
            self.processes[mark] = process

    @staticmethod
    def refusal_of_exec(found: Modelled, *, ignore_paused: bool) -> type[Exception] | None:
        refusal = found.refusal("exec paused" if ignore_paused else "exec")
        return refusal or (None if found.supervised else errors.SandboxUnresponsive)

    @rule(number=some)
    def kill_an_exec(self, number: int) -> None:
        live = [(c, each) for c in self.model.containers.values() for each in c.execs]
        here = [(c, each) for c, each in live if each.mark in self.processes]
        if here:
            found, each = here[number % len(here)]
            process = self.processes.pop(each.mark)
            self.run(process.kill())
            found.execs.remove(each)
            for _ in range(2):
                assert self.run(process.wait()).signal == signal.SIGKILL

    @rule()
    def ask_how_execs_ended(self) -> None:
        """Whoever asks only after the whole container has ended hears it all the same."""
        live = {each.mark for c in self.model.containers.values() for each in c.execs}
        for mark in sorted(set(self.processes) - live):
            result = self.run(self.processes.pop(mark).wait())
            if mark not in self.model.unseen:
                assert (result.exit_code, result.signal) in {(None, 9), (None, 15)}

    @rule(number=some, which=engines)
    def wait_briefly(self, number: int, which: int) -> None:
        container, found = self.one(number, which)
        if found.status == "stopped":
            self.until_ended(container, found)
        else:
            self.attempt(container.wait(timeout=0.001), TimeoutError)

    @rule(number=some, which=engines)
    def look_at_one(self, number: int, which: int) -> None:
        container, found = self.one(number, which)
        view = self.run(container.view())
        assert (view.id, view.status) == (found.id, found.status)
        assert self.run(container.state())["status"] == found.status
        refusal = found.refusal("ps")
        processes = self.attempt(container.processes(), refusal)
        if processes is not None:
            assert processes[0].pid == found.init
            execs = {each.pid for each in found.execs}
            assert {each.pid for each in processes} == {found.init} | execs

    @rule(number=some, which=engines)
    def destroy(self, number: int, which: int) -> None:
        container, found = self.one(number, which)
        self.run(container.destroy())
        self.model.removed(found.id)
        self.run(container.destroy())

    @rule(id=ids, which=engines, force=st.booleans())
    def delete(self, id: str, which: int, force: bool) -> None:
        found = self.model.get(id)
        if found is not None:
            refusal = None if force else found.refusal("delete")
            self.attempt(self.engines[which].delete(id, force=force), refusal)
            if refusal is None:
                self.model.removed(id)
        elif not any(each.startswith(id) for each in self.model.containers):
            refusal = None if force else errors.ContainerNotFound
            self.attempt(self.engines[which].delete(id, force=force), refusal)

    @rule(which=engines, text=st.sampled_from(("", "a", "ab", "abc", "abcd", "b", "c", "*")))
    def load(self, which: int, text: str) -> None:
        expected = self.model.found(text)
        if isinstance(expected, Modelled):
            loaded = self.run(self.engines[which].load(text))
            assert (loaded.id, loaded.instance) == (expected.id, expected.instance)
        else:
            self.attempt(self.engines[which].load(text), expected)

    # Accidents

    @rule(number=some, which=engines)
    def somebody_kills_init(self, number: int, which: int) -> None:
        container, found = self.one(number, which)
        if found.status != "stopped":
            os.kill(found.init, signal.SIGKILL)
            found.ended(signal.SIGKILL)
            self.until_ended(container, found)

    @rule(number=some, which=engines)
    def somebody_kills_the_supervisor(self, number: int, which: int) -> None:
        container, found = self.one(number, which)
        if found.supervisor:
            # A process at its gate gives up by itself, unless it is stopped: nobody can tell it.
            frozen = found.paused_from == "created"
            os.kill(found.supervisor or 0, signal.SIGKILL)
            pid = found.init
            self.model.unseen |= {each.mark for each in found.execs}
            found.lost_supervisor()
            if frozen:
                os.kill(pid, signal.SIGKILL)
                found.signal = signal.SIGKILL
            if found.status == "stopped":
                self.until_ended(container, found)

    @rule(which=engines)
    def somebody_kills_a_fork_server(self, which: int) -> None:
        pid = self.engines[which]._context.launcher.server.pid
        if pid:
            os.kill(pid, signal.SIGKILL)

    @rule()
    def all_handles_are_forgotten(self) -> None:
        self.handles.clear()
        self.processes.clear()
        gc.collect()

    @rule(which=engines)
    def an_engine_is_closed_and_another_opened(self, which: int) -> None:
        self.run(self.engines[which].close())
        for key in [each for each in self.handles if each[0] == which]:
            del self.handles[key]
        self.processes.clear()
        self.engines[which] = asyncrt.Engine(self.root)
        self.run(self.engines[which].__aenter__())

    @rule(which=engines, verb=st.sampled_from(("start", "pause", "kill", "stop", "delete", "view")))
    def a_handle_of_a_replaced_instance_does_nothing(self, which: int, verb: str) -> None:
        for id, instance in self.model.gone[-2:]:
            engine = self.engines[which]
            old = asyncrt.Container(engine._context, asyncrt.ContainerId(id), instance)
            self.attempt(getattr(old, verb)(), errors.ContainerNotFound)
            self.run(old.destroy())

    # Left to itself Hypothesis mostly draws verbs that are refused: some steps are to lead somewhere.

    @initialize(seed=st.integers(0, 1 << 32))
    def begin(self, seed: int) -> None:
        self.chance = random.Random(seed)

    @rule()
    def go_on(self) -> None:
        chance = self.chance
        number, which = chance.randrange(12), chance.randrange(2)
        _, found = self.one(number, which)
        step = chance.choice(FROM[found.status])
        if step == "exec":
            self.exec_something_long(number, which, chance.random() < 0.5)
        elif step == "kill":
            sign = chance.choice((signal.SIGTERM, signal.SIGKILL))
            self.kill(number, which, sign, chance.random() < 0.5)
        elif step == "stop":
            self.stop(number, which, 10)
        elif step == "create":
            self.make(chance.choice(IDS), which, chance.choice(("own", "caller")))
        else:
            getattr(self, step)(number, which)

    @rule()
    def go_on_and_on(self) -> None:
        for _ in range(3):
            self.go_on()

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


@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_engines_and_model_agree_whatever_happens(pytestconfig: pytest.Config, full: bool) -> None:
    class Configured(Machine):
        loop_factory = _loop_factory(pytestconfig)

    with contextlib.ExitStack() as stack:
        settings = hypothesis.settings(
            max_examples=200 if full else 30,
            stateful_step_count=30 if full else 20,
            derandomize=not full,
            deadline=None,
            database=None,
            # Shrinking replays hundreds of runs of real processes; the steps are printed anyway.
            phases=[hypothesis.Phase.generate],
            report_multiple_bugs=False,
            print_blob=False,
            suppress_health_check=list(hypothesis.HealthCheck),
        )
        stack.callback(gc.collect)
        run_state_machine_as_test(Configured, settings=settings)


def _loop_factory(
    config: pytest.Config,
) -> Callable[[], asyncio.AbstractEventLoop] | None:
    if not config.getoption("--uvloop"):
        return None
    import uvloop

    return uvloop.new_event_loop
